"""What `segcourse grade` does: collects submissions, grades each of them once, writes what everybody needs."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segcourse import exercises
from segcourse.grading.answers import starters_of
from segcourse.grading.by_hand import marks_in
from segcourse.grading.intake import Submission, collect
from segcourse.grading.reading import UnreadableError, read_notebook
from segcourse.grading.results import Record, Records
from segcourse.grading.sandbox import MIB, Isolation, Limits, end_with_parent, strongest
from segcourse.home import short, write_atomically

SECRET = "secret.txt"
UNITS = {"": 1, "K": 2**10, "M": MIB, "G": 2**30}


class GradingError(ValueError):
    """What was asked cannot be done as it was asked; the message says what can."""


@dataclass(frozen=True)
class Order:
    """What was asked of the command."""

    lesson: str
    """The stem, such as `01_receptive_field`."""
    released: Path
    """The notebook as students got it."""
    folder: Path
    out: Path
    jobs: int = 1
    shard: tuple[int, int] = (1, 1)
    """Which part of how many: every so-manieth submission, in the order of names."""
    seed_file: Path | None = None
    sandbox: str = "auto"
    trust: bool = False
    seconds: float = 20.0
    memory: int = 1024 * MIB
    resume: bool = False


def run(order: Order) -> int:
    """Grade what is in a folder. Returns 0 if every submission has a result, even a bad one.

    Raises:
        GradingError: if the order cannot be carried out; nothing has been run then.
        OSError: if the results cannot be written.
    """
    if order.jobs < 1 or not 0 < order.seconds < float("inf"):
        raise GradingError("--jobs is a whole number from 1 on, --time a number of seconds above 0.")
    marks_in(order.out, ())  # a broken table of marks is told before anything is run
    isolation = choose_isolation(order.sandbox, order.trust)
    names = [exercise.name for exercise in exercises.lesson(order.lesson).exercises]
    starters = starters_of(read_notebook(order.released.read_bytes()).cells, names)
    submissions = collect(order.folder, order.lesson, names, starters)
    if not submissions:
        raise GradingError(f"there is no notebook in {short(order.folder)}.")
    order.out.mkdir(parents=True, exist_ok=True)
    records = Records(order.out, part=f"{order.shard[0]}-of-{order.shard[1]}")
    if records.history() and not order.resume:
        raise GradingError(f"{short(order.out)} holds results. --resume goes on with them; or choose another --out.")
    secret = read_secret(order)
    part, parts = order.shard
    mine = submissions[part - 1 :: parts]
    say(f"{len(mine)} submissions of {order.lesson}; isolation: {isolation.level}. {isolation.leaves_open}")
    if order.jobs > 1 and len(mine) > 1:
        failed = run_jobs(order, min(order.jobs, len(mine)))
    else:
        failed = grade_all(order, isolation, secret, mine, records)
    if parts == 1:
        list_by_hand(order, submissions)
        finish(order.out, records.history())
    return 1 if failed else 0


def grade_all(
    order: Order, isolation: Isolation, secret: bytes, submissions: Sequence[Submission], records: Records
) -> int:
    """Grade one submission after another in this process; return how many could not be graded by our own fault."""
    from segcourse.grading.grade import Grader

    failed = 0
    limits = Limits(memory=order.memory)
    with Grader(order.lesson, order.released, secret, isolation, limits, order.seconds) as grader:
        done = {record.identity for record in records.newest() if record.status != "failed"}
        for number, submission in enumerate(submissions, 1):
            identity = (submission.student, submission.name, order.lesson, hash_of(submission), grader.key_hash)
            if identity not in done:
                record = grader.grade(submission)
                records.add(record)
                failed += record.status == "failed"
                say(f"{number}/{len(submissions)} {record.student}: {in_words(record)}")
    return failed


def hash_of(submission: Submission) -> str:
    """Return the SHA-256 of the file, as records hold it; empty if there is none that can be read."""
    from segcourse.grading.grade import sha256

    try:
        return "" if submission.problem else sha256(submission.read())
    except UnreadableError:
        return ""


def in_words(record: Record) -> str:
    """Say what came out, in a line."""
    if record.status != "graded":
        return record.status
    return f"{record.points} of {record.of}" + (" (late)" if record.late else "")


def run_jobs(order: Order, jobs: int) -> int:
    """Grade in several processes, each a shard of the shard; pass on what they say."""
    part, parts = order.shard
    command = [sys.executable, "-m", "segcourse.cli", "grade", order.lesson, str(order.folder), "--out", str(order.out)]
    command += ["--seed-file", str(order.seed_file or order.out / SECRET), "--sandbox", order.sandbox, "--resume"]
    command += ["--time", str(order.seconds), "--memory", str(order.memory), *(["--trust"] if order.trust else [])]
    started = []
    for job in range(jobs):
        shard = ["--shard", f"{part + parts * job}/{parts * jobs}"]
        started.append(
            subprocess.Popen(
                [*command, *shard],
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                # A job that outlived a killed run would grade beside the one that resumes it.
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
        )
    threads = [threading.Thread(target=pass_on, args=(process,)) for process in started]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(process.wait() != 0 for process in started)


def pass_on(process: subprocess.Popen[str]) -> None:
    """Print what a job says about submissions."""
    assert process.stdout is not None
    for line in process.stdout:
        if "isolation:" not in line:
            say(line.rstrip())


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def choose_isolation(wanted: str, trust: bool) -> Isolation:
    """Return the layers to use.

    Raises:
        GradingError: if the machine does not offer what was asked for, or not enough to run strangers' code.
    """
    isolation = Isolation() if wanted == "limits" else strongest()
    if isolation.hides_files:
        return isolation
    if wanted == "full":
        raise GradingError("this machine offers no isolation that hides its files; docs/grading.md tells what to do.")
    if not trust:
        raise GradingError(
            f"this would run strangers' code in the open. {isolation.leaves_open} Use Linux (a container or WSL2 on "
            "other systems, see docs/grading.md), or say --trust if you trust every submission."
        )
    return isolation


def read_secret(order: Order) -> bytes:
    """Return the class's secret: that of the file, or one that is made and kept in the output folder.

    Raises:
        GradingError: if the file is not there or too short to be a secret.
    """
    path = order.seed_file or order.out / SECRET
    if order.seed_file is None and not path.exists():
        write_atomically(path, secrets.token_hex(32) + "\n")
        os.chmod(path, 0o600)
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise GradingError(f"the seed file cannot be read: {error}.") from None
    if len(secret) < 8:
        raise GradingError(f"{short(path)} holds {len(secret)} bytes; a secret has 8 or more.")
    return secret


def read_size(text: str) -> int:
    """Return a size in bytes, such as `800M` or `2G`.

    Raises:
        ValueError: if it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMG]?)(?:i?B)?", text.strip(), re.I)
    if not found or float(found[1]) <= 0:
        raise ValueError(f"{text!r} is no size in bytes; write 800M or 1.5G.")
    return int(float(found[1]) * UNITS[found[2].upper()])


def read_shard(text: str) -> tuple[int, int]:
    """Return (part, of how many) of a text such as `2/8`.

    Raises:
        ValueError: if it is none.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"{text!r} is no part of a whole; write 2/8 for the second of eight.")
    return int(found[1]), int(found[2])


def merge(folders: Sequence[Path], out: Path) -> int:
    """Join the records of several output folders, such as those of shards, and write the tables and pages of all.

    Raises:
        GradingError: if a folder holds no records, or if they were judged by different keys.
    """
    found: list[Record] = []
    for folder in folders:
        records = Records(folder).history()
        if not records:
            raise GradingError(f"{short(folder)} holds no records of grading.")
        found += records
    keys = {(record.lesson, record.key_hash) for record in found}
    if len(keys) > len({record.lesson for record in found}):
        raise GradingError("these were judged by different secrets or exercises: grade all with one --seed-file.")
    out.mkdir(parents=True, exist_ok=True)
    target = Records(out, part="merged")
    known = {(record.identity, record.when) for record in target.history()}
    for record in found:
        if (record.identity, record.when) not in known:
            target.add(record)
    finish(out, target.history())
    return 0


def export(out: Path, canvas: Path | None, moodle: Path | None) -> int:
    """Fill in tables that Canvas or Moodle wrote; say which students they lack. Returns 0.

    Raises:
        GradingError: if there are no results, or a table is not what it should be.
    """
    from segcourse.grading.tables import TableError, write_canvas, write_moodle

    records = Records(out).history()
    if not records:
        raise GradingError(f"{short(out)} holds no records of grading.")
    by_hand = marks_in(out, [record.student for record in records])
    for name, template, write in (("canvas", canvas, write_canvas), ("moodle", moodle, write_moodle)):
        if template is None:
            continue
        path = out / "exports" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        try:
            lacking = write(path, records, template, by_hand)
        except TableError as error:
            raise GradingError(error) from None
        say(f"{short(path)}: filled in." + (f" Not in {template.name}: {', '.join(lacking)}." if lacking else ""))
    return 0


def list_by_hand(order: Order, submissions: Sequence[Submission]) -> None:
    """Write what a person has to mark, if the lesson has such cells; marks that are there already stay."""
    from segcourse.grading.by_hand import write_by_hand

    files = {one.student: None if one.problem else one.read for one in submissions}
    write_by_hand(order.out, order.released.read_bytes(), files)


def finish(out: Path, records: Sequence[Record]) -> None:
    """Write the tables and pages that are made from the records; of several of one student the newest counts."""
    from segcourse.grading.pages import write_pages
    from segcourse.grading.tables import counting, write_exports, write_grades

    lessons = sorted({record.lesson for record in records})
    if len(lessons) > 1:
        raise GradingError(f"{short(out)} holds records of {', '.join(lessons)}: give each lesson a folder of its own.")
    path = out / "grades.csv"
    records = counting(records)
    by_hand = marks_in(out, [record.student for record in records])
    write_grades(path, records, by_hand)
    write_exports(out / "exports", records, by_hand)
    for lesson in lessons:
        write_pages(out, records, lesson, by_hand)
    graded = [record for record in records if record.status == "graded"]
    say(f"{len(graded)} of {len(records)} graded; marks in {short(path)}.")
