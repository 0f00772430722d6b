"""What grading leaves behind: one line of JSON for each submission, only ever added to, in the folder `records`.

A run that is killed loses at most the line that it was writing; the next one goes on after the lines that are whole.
Everything else (tables, pages, reports) is made from these lines and can be made again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = "records"


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
    """`graded`, `no notebook`, `unreadable`, or `failed`, where the fault is the grader's."""
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
    def identity(self) -> tuple[str, str, str, str, str]:
        """What makes two records stand for the same: who, which file with which bytes, judged by what."""
        return self.student, self.file, self.lesson, self.file_hash, self.key_hash

    @property
    def marks(self) -> dict[str, Any]:
        """What must come out the same in every run with the same secret."""
        kept = dataclasses.asdict(self)
        for name in ("seconds", "when", "level", "versions"):
            del kept[name]
        for result in kept["results"]:
            del result["card"]
        return kept


class Records:
    """The records in an output folder; this process adds to a file of its own."""

    def __init__(self, folder: Path, part: str = "1-of-1") -> None:
        self.folder = folder / FOLDER
        self._path = self.folder / f"{part}.jsonl"

    def add(self, record: Record) -> None:
        """Add a record and see it on the disk before anything else is done.

        Raises:
            OSError: if it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(dataclasses.asdict(record), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        with self._path.open("ab") as file:
            if file.tell() and not _ends_whole(self._path):
                line = b"\n" + line  # a run was killed in the middle of a line: leave it, begin a new one
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def history(self) -> list[Record]:
        """Return every record that was ever added, in the order in which they were made; broken lines are left out."""
        records = [record for path in sorted(self.folder.glob("*.jsonl")) for record in read_records(path)]
        return sorted(records, key=lambda record: record.when)

    def newest(self) -> list[Record]:
        """Return the last record of each student and lesson, ordered by student: what counts."""
        last = {(record.student, record.lesson): record for record in self.history()}
        return [last[who] for who in sorted(last)]


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
