"""What grading leaves behind: one line of JSON for each submission, only ever added to, in the folder `records`.

A run that is killed loses at most the line that it was writing; the next one goes on after the lines that are whole.
Everything else (tables, pages, reports) is made from these lines and can be made again.

Each part of a class that is graded by itself has a file of its own, and a lock that only one process can hold. The
operating system holds it: it is free again when that process has ended, however it ended.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segcourse.home import short

FOLDER = "records"
WHOLE = "1-of-1"
"""The part that is the whole class; its lock is that of the output folder."""
GONE = "gone"
PATIENCE = 2.0
"""Seconds to wait for a lock: the processes of a run that was killed may take a moment to end."""


@dataclass(frozen=True)
class Result:
    """One exercise of one submission."""

    name: str
    outcome: str
    """`correct`, `not yet`, `not attempted` or `missing`."""
    points: int
    of: int
    diagnosis: str = ""
    """The id of the misconception, if one was named."""
    card: dict[str, Any] = field(default_factory=dict)
    """What the student reads: the fields of a `render.Card`. It holds nothing of a hidden input."""
    fingerprint: str = ""
    """The same for answers that are the same but for comments, blanks and strings of documentation."""
    cell: int = 0
    """In which cell the answer was found, counted from 1; 0 for none."""
    size: int = 0
    """Of how many syntax nodes the answer consists: that short answers are the same says nothing."""


@dataclass(frozen=True)
class Record:
    """One submission, graded or not."""

    student: str
    file: str
    """The name of the file as it was handed in."""
    lesson: str
    status: str
    """`graded`, `no notebook`, `unreadable`, `failed`, where the fault is the grader's, or `gone`: see `counting`."""
    late: bool = False
    results: tuple[Result, ...] = ()
    notes: tuple[str, ...] = ()
    """What was mended, is missing or went wrong, for student and teacher."""
    tampering: tuple[str, ...] = ()
    """What only somebody who wants to deceive does; for the teacher."""
    level: str = ""
    """How the code was locked in."""
    file_hash: str = ""
    """SHA-256 of the file's bytes."""
    key_hash: str = ""
    """SHA-256 of what decides: the exercises' source and the class's secret."""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Processor seconds that the submission's own code took."""
    when: str = ""
    """When it was graded: ISO 8601, UTC."""
    identifier: str = ""
    """The LMS's number for the student, where the files' names hold one."""

    @property
    def points(self) -> int:
        """The points earned."""
        return sum(result.points for result in self.results)

    @property
    def of(self) -> int:
        """The points that could be earned."""
        return sum(result.of for result in self.results)

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records stand for the same: who, which file with which bytes, judged by what."""
        return self.student, self.identifier, self.file, self.lesson, self.file_hash, self.key_hash

    @property
    def marks(self) -> dict[str, Any]:
        """What must come out the same in every run with the same secret."""
        kept = dataclasses.asdict(self)
        for name in ("seconds", "when", "level", "versions"):
            del kept[name]
        for result in kept["results"]:
            del result["card"]
        return kept


class BusyError(RuntimeError):
    """Another process is at work in the output folder."""


class Records:
    """The records in an output folder; this process adds to a file of its own."""

    def __init__(self, out: Path, part: str = WHOLE) -> None:
        self.folder = out / FOLDER
        self.part = part
        self.path = self.folder / f"{part}.jsonl"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Hold this part; for the whole class, see that nobody is at work on any part of it.

        Raises:
            BusyError: if another process is at work there.
            OSError: if the folder cannot be written, or its disk has no locks.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(held(self.folder, self.part, PATIENCE))
            if self.part == WHOLE:
                self.check_nobody_at_work()
            yield

    def check_nobody_at_work(self) -> None:
        """See that no other process is at work in the folder.

        Raises:
            BusyError: if one is.
        """
        for path in sorted(self.folder.glob("*.lock")):
            if path.stem != self.part and os.access(path, os.W_OK):
                with held(self.folder, path.stem, PATIENCE):
                    pass

    def add(self, record: Record) -> None:
        """Add a record and see it on the disk before anything else is done.

        Raises:
            OSError: if it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(dataclasses.asdict(record), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with self.path.open("ab") as file:
            if file.tell() and not _ends_whole(self.path):
                line = b"\n" + line  # a run was killed in the middle of a line: leave it, begin a new one
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def own(self) -> list[Record]:
        """Return the records of this part."""
        return list(read_records(self.path)) if self.path.exists() else []

    def history(self) -> list[Record]:
        """Return every record that was ever added, in the order in which they were made; broken lines are left out."""
        records = [record for path in sorted(self.folder.glob("*.jsonl")) for record in read_records(path)]
        return sorted(records, key=lambda record: record.when)

    def counting(self) -> list[Record]:
        """Return the records that count, ordered by student."""
        return counting(self.history())


def counting(records: Iterable[Record]) -> list[Record]:
    """Return what counts: the newest record of each student, ordered by student.

    A note says so where several files of a student were graded. Students whose newest record is `gone` are left out:
    they were not among the submissions any more when the whole class was graded last.
    """
    by_student: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.when):
        by_student[record.student].append(record)
    chosen = []
    for student in sorted(by_student):
        last = by_student[student][-1]
        # Two students may have had this name one after the other; the LMS's number tells them apart.
        files = {one.file_hash for one in by_student[student] if one.file_hash and one.identifier == last.identifier}
        if len(files) > 1:
            says = f"{len(files)} files of this student were graded, one after the other; the newest counts."
            last = dataclasses.replace(last, notes=(*last.notes, says))
        if last.status != GONE:
            chosen.append(last)
    return chosen


@contextmanager
def held(folder: Path, name: str, seconds: float) -> Iterator[None]:
    """Hold a lock in a folder of records; raises BusyError if another process holds it for so many seconds."""
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise BusyError(
            f"another run is at work in {short(folder.parent)} (part {name.replace('-of-', ' of ')}). Wait until it "
            "has ended. A run that was killed keeps nobody waiting."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def now() -> str:
    """Return the time in the form of `Record.when`."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def read_records(path: Path) -> Iterable[Record]:
    """Return the records of one file; a line that was cut off, or is no record, is left out."""
    for line in path.read_bytes().split(b"\n"):
        try:
            data = json.loads(line)
            results = tuple(Result(**result) for result in data.pop("results"))
            notes, tampering = tuple(data.pop("notes")), tuple(data.pop("tampering"))
            yield Record(results=results, notes=notes, tampering=tampering, **data)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
