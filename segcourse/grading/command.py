"""What `segcourse grade` does: collects submissions, grades each of them once, writes what everybody needs."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcourse import exercises
from segcourse.grading.answers import starters_of
from segcourse.grading.by_hand import FOLDER as BY_HAND
from segcourse.grading.by_hand import marks_in, tasks_of
from segcourse.grading.grade import Grader, sha256
from segcourse.grading.intake import Submission, collect
from segcourse.grading.reading import UnreadableError, read_notebook
from segcourse.grading.results import FOLDER, GONE, Record, Records, counting, held, now
from segcourse.grading.runner import is_open
from segcourse.grading.sandbox import MIB, Isolation, Limits, end_with_parent, strongest
from segcourse.home import lessons_folder, short

if TYPE_CHECKING:
    from segcourse.grading.tables import Filled

SECRET, LEFT_OUT = "secret.txt", "left_out"
COMPLETE = (
    "grade everything that was handed in with this --out, the same --seed-file, --resume and no --shard. "
    "That grades who is missing and lists what is marked by hand."
)
MOST_GONE = 3
"""So many students may be gone since the run before without a question, and half of the class in a small one."""
LEAST_MEMORY = 64 * MIB
UNITS = {"": 1, "K": 2**10, "M": MIB, "G": 2**30}


class GradingError(ValueError):
    """What was asked cannot be done as it was asked; the message says what can."""


class LeftOutError(RuntimeError):
    """Most of those who were graded before are not among the submissions; nothing has been run or changed."""


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
    seconds: float = 60.0
    memory: int = 1024 * MIB
    resume: bool = False


def run(order: Order) -> int:
    """Grade what is in a folder. Returns 0 if every submission has a result, even a bad one.

    Raises:
        GradingError: if the order cannot be carried out; nothing has been run then.
        LeftOutError: if most students of the run before would be left out.
        BusyError: if another process is at work in the output folder.
        OSError: if the results cannot be written.
        KeyboardInterrupt: if it was stopped; its text says how far it came. Later interrupts are ignored.
    """
    if order.jobs < 1 or not 0 < order.seconds < float("inf"):
        raise GradingError("--jobs is a whole number from 1 on, --time a number of seconds above 0.")
    if order.out.resolve().is_relative_to(order.folder.resolve()):
        raise GradingError(f"--out would lie among the submissions, in {short(order.folder)}: choose one outside.")
    check_place(order.out)
    check_hidden({"the submissions": order.folder, "--out": order.out, "the seed file": order.seed_file})
    if order.seed_file:
        read_secret(order.seed_file)
    marks_in(order.out, {})  # a broken table of marks is told before anything is run
    isolation = choose_isolation(order.sandbox, order.trust)
    names = [exercise.name for exercise in exercises.lesson(order.lesson).exercises]
    starters = starters_of(read_notebook(order.released.read_bytes()).cells, names)
    submissions = collect(order.folder, order.lesson, names, starters)
    if not submissions:
        raise GradingError(f"there is no notebook in {short(order.folder)}.")
    order.out.mkdir(parents=True, exist_ok=True)
    part, parts = order.shard
    mine = submissions[part - 1 :: parts]
    records = Records(order.out, part=f"{part}-of-{parts}")
    with records.at_work():
        others = {record.lesson for record in records.history()} - {order.lesson}
        if others:
            raise GradingError(f"{short(order.out)} holds results of {', '.join(others)}: choose another --out.")
        if (records.history() if parts == 1 else records.own()) and not order.resume:
            says = f"{short(order.out)} holds results. --resume goes on with them; or choose another --out."
            raise GradingError(says)
        if parts == 1:
            check_who_is_gone(order.folder, submissions, records)
        secret = read_secret(order.seed_file or make_secret(order.out))
        how_many = "1 submission" if len(mine) == 1 else f"{len(mine)} submissions"
        say(f"{how_many} of {order.lesson}; isolation: {isolation.level}. {isolation.leaves_open}")
        limits = Limits(memory=order.memory)
        grader = Grader(order.lesson, order.released, secret, isolation, limits, order.seconds)
        identities = {one.student: identity_of(one, grader) for one in mine}
        done_before = done_in(records)
        todo = [one for one in mine if identities[one.student] not in done_before]
        say_what_is_left(identities.values(), len(todo), records)
        try:
            if order.jobs > 1 and len(todo) > 1:
                failed = run_jobs(order, todo, records)
            else:
                failed = grade_all(grader, todo, records)
            if parts == 1:
                leave_out(order.folder, submissions, records)
                list_by_hand(order, submissions)
                finish(order.out, records.history())
                say_what_is_marked_by_hand(order.out, records.counting())
            else:
                say(f"Part {part} of {parts} is done. When all are, `segcourse grades merge` joins them.")
        except KeyboardInterrupt:
            ignore_interrupts()
            there = len(done_in(records) & set(identities.values()))
            says = f"stopped after {there} of {len(mine)}; the same command with --resume goes on"
            raise KeyboardInterrupt(says) from None
        done = {record.student for record in records.counting()}
    lacking = [submission.student for submission in mine if submission.student not in done]
    if lacking:
        say(f"No result yet: {', '.join(lacking)}. Run the same command with --resume.")
    return 1 if failed or lacking else 0


def check_place(out: Path) -> None:
    """Refuse an output folder that holds something else: tables and pages would lie among it.

    Raises:
        GradingError: if it does, or if it is a file.
    """
    if out.exists() and not out.is_dir():
        raise GradingError(f"{short(out)} is a file; --out is a folder: choose another name.")
    if not out.is_dir() or (out / FOLDER).is_dir():
        return
    others = sorted(path.name for path in out.iterdir() if path.name != SECRET and not path.name.startswith("."))
    if others:
        shown = ", ".join(others[:3]) + (", and more" if len(others) > 3 else "")
        raise GradingError(
            f"{short(out)} holds files, but no results of grading ({shown}). Choose a new or an empty folder as --out."
        )


def check_who_is_gone(folder: Path, submissions: Sequence[Submission], records: Records) -> None:
    """See that most of those who were graded before are among the submissions.

    Raises:
        LeftOutError: if more than half of them, and more than a few, are not.
    """
    known = records.counting()
    gone = [record.student for record in without_submission(known, submissions)]
    if len(gone) > MOST_GONE and 2 * len(gone) > len(known):
        shown = ", ".join(gone[:5]) + (", and others" if len(gone) > 5 else "")
        raise LeftOutError(
            f"{len(gone)} of {len(known)} students graded before are not in {short(folder)} now: {shown}. They would "
            "be left out of marks and pages, so nothing was done. FOLDER must hold everybody's files: put all of them "
            "there, the new ones beside those of before, and run this again; or choose another --out for these."
        )


def without_submission(records: Iterable[Record], submissions: Iterable[Submission]) -> list[Record]:
    """Return the records of students who are not among the submissions."""
    here = {submission.student for submission in submissions}
    return [record for record in records if record.student not in here]


def say_what_is_left(identities: Collection[tuple[str, ...]], left: int, records: Records) -> None:
    """Say how many have a result already, and why some are graded again."""
    judged = {record.identity for record in records.counting()}
    before = {identity[:-1] for identity in judged}
    again = sum(identity not in judged and identity[:-1] in before for identity in identities)
    if left < len(identities):
        say(f"{len(identities) - left} of {len(identities)} have a result already; {left} left to grade.")
    if again:
        were = "1 was" if again == 1 else f"{again} were"
        are = "it is" if again == 1 else "they are"
        say(f"{were} graded before, but with another secret or other exercises: {are} graded again.")


def grade_all(grader: Grader, submissions: Sequence[Submission], records: Records) -> int:
    """Grade one submission after another in this process; return how many could not be graded by our own fault."""
    failed = 0
    with grader:
        for number, submission in enumerate(submissions, 1):
            record = grader.grade(submission)
            records.add(record)
            failed += record.status == "failed"
            say(f"{number}/{len(submissions)} {record.student}: {in_words(record)}")
    return failed


def identity_of(submission: Submission, grader: Grader) -> tuple[str, ...]:
    """Return the identity that a submission's record has when it is graded now."""
    who = submission.student, submission.identifier, submission.name
    return *who, grader.lesson.stem, hash_of(submission), grader.key_hash


def done_in(records: Records) -> set[tuple[str, ...]]:
    """Return the identities of what has a result that counts."""
    return {record.identity for record in records.counting() if record.status != "failed"}


def hash_of(submission: Submission) -> str:
    """Return the SHA-256 of the file, as records hold it; empty if there is none that can be read."""
    try:
        return "" if submission.problem else sha256(submission.read())
    except UnreadableError:
        return ""


def in_words(record: Record) -> str:
    """Say what came out, in a line."""
    if record.status != "graded":
        return record.status
    return f"{record.points} of {record.of}" + (" (late)" if record.late else "")


def run_jobs(order: Order, submissions: Sequence[Submission], records: Records) -> int:
    """Grade in several processes, each a shard of the shard; pass on what they say. Return how many failed.

    Args:
        order: what was asked.
        submissions: those of them that have no result yet.
        records: where results go.
    """
    part, parts = order.shard
    jobs = min(order.jobs, len(submissions))
    command = [sys.executable, "-m", "segcourse.cli", "grade", order.lesson, str(order.folder), "--out", str(order.out)]
    command += ["--seed-file", str(order.seed_file or order.out / SECRET), "--sandbox", order.sandbox, "--resume"]
    command += ["--time", str(order.seconds), "--memory", str(order.memory), *(["--trust"] if order.trust else [])]
    started: list[subprocess.Popen[str]] = []
    try:
        for job in range(jobs):
            shard = ["--shard", f"{part + parts * job}/{parts * jobs}"]
            started.append(
                subprocess.Popen(
                    [*command, *shard],
                    stdout=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,  # Ctrl-C reaches this process alone, which then ends them
                    # A job that outlived a killed run would grade beside the one that resumes it.
                    preexec_fn=end_with_parent if sys.platform == "linux" else None,
                )
            )
        numbers, total = count(1), len(submissions)
        threads = [threading.Thread(target=pass_on, args=(job, numbers, total), daemon=True) for job in started]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(process.wait() != 0 for process in started)
    except KeyboardInterrupt:
        ignore_interrupts()
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
        raise


def ignore_interrupts() -> None:
    """Let a second Ctrl-C do nothing: the first one ends the process, which must not be broken off."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pass_on(process: subprocess.Popen[str], numbers: Iterator[int], total: int) -> None:
    """Print what a job says about submissions, counted over all jobs."""
    assert process.stdout is not None
    for line in process.stdout:
        found = re.fullmatch(r"\d+/\d+ (.*)\n?", line)
        if found:
            say(f"{min(next(numbers), total)}/{total} {found[1]}")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def check_hidden(paths: Mapping[str, Path | None]) -> None:
    """See that no submission can read what it must not.

    Raises:
        GradingError: if something lies in a folder that every program in Python reads.
    """
    for what, path in paths.items():
        if path and is_open(path):
            raise GradingError(
                f"{what} would lie in {short(path)}, among Python's own files or the system's, which every submission "
                "can read: choose another place, in your home folder, say."
            )


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


def make_secret(out: Path) -> Path:
    """Return the file of an output folder's secret, made if there is none; parts that start together make one."""
    path = out / SECRET
    with held(out / FOLDER, "secret", seconds=20):
        if not path.exists():
            handle, temporary = tempfile.mkstemp(dir=out, prefix=".secret.")  # nobody else can read it, ever
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    return path


def read_secret(path: Path) -> bytes:
    """Return the class's secret.

    Raises:
        GradingError: if the file is not there or too short to be a secret.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise GradingError(
            f"the seed file {short(path)} cannot be read ({error.strerror}). Name the secret.txt that a run has made, "
            "or write 8 or more characters that nobody can guess into a file."
        ) from None
    if len(secret) < 8:
        raise GradingError(f"{short(path)} holds {len(secret)} bytes; a secret has 8 or more.")
    return secret


def read_size(text: str) -> int:
    """Return a size in bytes, such as `800M` or `2G`.

    Raises:
        ValueError: if it is none, or too small to be meant.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMG]?)(?:i?B)?", text.strip(), re.I)
    if not found or float(found[1]) <= 0:
        raise ValueError(f"{text!r} is no size in bytes; write 800M or 1.5G.")
    size = int(float(found[1]) * UNITS[found[2].upper()])
    if size < LEAST_MEMORY:
        raise ValueError(f"{text!r} is {size:,} bytes; 64M is the least. For two gigabytes write 2G.")
    return size


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
    check_place(out)
    found: list[Record] = []
    for folder in folders:
        records = Records(folder, part="merged")
        if not records.folder.is_dir():
            raise GradingError(f"{short(folder)} holds no records of grading.")
        records.check_nobody_at_work()
        found += records.history()
    if not found:
        raise GradingError("there are no records of grading in these folders.")
    keys = {(record.lesson, record.key_hash) for record in counting(found)}
    if len(keys) > len({lesson for lesson, _ in keys}):
        raise GradingError("these were judged by different secrets or exercises: grade all with one --seed-file.")
    target = Records(out)
    with target.at_work():
        known = {(record.identity, record.when) for record in target.history()}
        for record in found:
            if (record.identity, record.when) not in known:
                target.add(record)
        finish(out, target.history())
    say(f"To finish, {COMPLETE}")
    return 0


def export(out: Path, canvas: Path | None, moodle: Path | None, column: str = "") -> int:
    """Fill in tables that Canvas or Moodle wrote; say who was filled in and who was not. Returns 0.

    The filled tables have names of their own: a further run of the grader does not touch them.

    Args:
        out: the output folder.
        canvas: the gradebook as Canvas exports it, if it is to be filled in.
        moodle: the grading worksheet as Moodle gives it, if it is to be filled in.
        column: the name of the lesson's column in the gradebook, where it cannot be found by the lesson's.

    Raises:
        GradingError: if there are no results, or a table is not what it should be.
    """
    from segcourse.grading.tables import TableError, write_canvas, write_moodle

    records = Records(out).counting()
    if not records:
        raise GradingError(f"{short(out)} holds no records of grading.")
    by_hand = marks_in(out, numbers_of(records))
    folder = out / "exports"
    folder.mkdir(exist_ok=True)
    try:
        if canvas:
            path = folder / "canvas_filled.csv"
            done = write_canvas(path, records, canvas, by_hand, column)
            say(f"{short(path)}: column “{done.column}”, {who_is_in(done, canvas)}")
        if moodle:
            path = folder / "moodle_filled.csv"
            done = write_moodle(path, records, moodle, by_hand)
            say(f"{short(path)}: {who_is_in(done, moodle)}")
    except TableError as error:
        raise GradingError(error) from None
    say_what_is_marked_by_hand(out, records)
    return 0


def who_is_in(done: Filled, template: Path) -> str:
    """Say how many students have a mark in a table that was filled in, and who has not."""
    students = len(done.graded) + len(done.ungraded) + len(done.lacking)
    says = f"{len(done.graded)} of {students} students filled in"
    if done.ungraded:
        says += f"; not graded: {', '.join(done.ungraded)}"
    if done.lacking:
        says += f"; not in {template.name}, or in several rows: {', '.join(done.lacking)}"
    return says + "."


def numbers_of(records: Iterable[Record]) -> dict[str, str]:
    """Return each student's number in the LMS, empty where it is not known."""
    return {record.student: record.identifier for record in records}


def leave_out(folder: Path, submissions: Sequence[Submission], records: Records) -> None:
    """Note that students of an earlier run are no longer among the submissions; their older records stay."""
    gone = without_submission(records.counting(), submissions)
    for record in gone:
        empty: dict[str, Any] = {"results": (), "notes": (), "tampering": ()}
        records.add(dataclasses.replace(record, status=GONE, when=now(), **empty))
    if gone:
        say(
            f"Graded before, but not in {short(folder)} now, so no longer in tables and pages: "
            f"{', '.join(record.student for record in gone)}. If they count, grade everybody's files together."
        )


def list_by_hand(order: Order, submissions: Sequence[Submission]) -> None:
    """Write what a person has to mark, if the lesson has such cells; marks that are there already stay."""
    from segcourse.grading.by_hand import write_by_hand

    files = {one.student: None if one.problem else one.read for one in submissions}
    write_by_hand(order.out, order.released.read_bytes(), files, {one.student: one.identifier for one in submissions})


def say_what_is_marked_by_hand(out: Path, records: Sequence[Record]) -> None:
    """Say how many answers wait for a person's marks; where no notebook could be read, there is none."""
    marks = marks_in(out, numbers_of(record for record in records if record.status in ("graded", "failed")))
    left = sum(mark.points is None for mine in marks.values() for mark in mine)
    if left:
        answers = "1 answer" if left == 1 else f"{left} answers"
        say(f"{answers} to mark by hand: {short(out / BY_HAND / 'index.html')}")


def finish(out: Path, history: Sequence[Record]) -> None:
    """Write the tables and pages that are made from all records."""
    from segcourse.grading.pages import write_pages
    from segcourse.grading.tables import write_exports, write_grades

    records = counting(history)
    lessons = sorted({record.lesson for record in history})
    if len(lessons) > 1:
        raise GradingError(f"{short(out)} holds records of {', '.join(lessons)}: give each lesson a folder of its own.")
    path = out / "grades.csv"
    by_hand = marks_in(out, numbers_of(records))
    if any(map(marks_something_by_hand, lessons)):
        by_hand = {record.student: by_hand.get(record.student, ()) for record in records}
    put_aside(out, {record.student for record in history} - {record.student for record in records})
    write_grades(path, records, by_hand)
    write_exports(out / "exports", records, by_hand)
    for lesson in lessons:
        write_pages(out, records, lesson, by_hand)
    graded = sum(record.status == "graded" for record in records)
    others = ", ".join(f"{record.student} ({record.status})" for record in records if record.status != "graded")
    say(f"{graded} of {len(records)} graded." + (f" Not graded: {others}." if others else ""))
    say(f"Marks: {short(path)}. Report: {short(out / 'report.html')}.")


def marks_something_by_hand(lesson: str) -> bool:
    """Tell whether a lesson, as it was released, has cells that a person marks."""
    folder = lessons_folder()
    path = folder / f"{lesson}.ipynb" if folder else None
    return bool(path and path.is_file() and tasks_of(path.read_bytes()))


def put_aside(out: Path, students: Iterable[str]) -> None:
    """Move the pages of students who no longer count out of what is given back, into the folder `left_out`."""
    from segcourse.grading.tables import file_names

    for name in file_names(students).values():
        for path in (Path("feedback", f"{name}.html"), Path("exports", "gradescope", name, "results.json")):
            if (out / path).is_file():
                (out / LEFT_OUT / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(out / path, out / LEFT_OUT / path)
