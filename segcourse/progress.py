"""What the student has done, kept in one small file on the student's own machine.

The file is `progress.json` in `home()`. Every change reads it, alters it and writes it again under a lock, so
that two notebooks may be open at once. The file is never the reason why a check fails: where it cannot be
written, `record` says so once and returns False. No data is ever lost: a file that cannot be understood is
set aside, `reset` makes a copy first, and what a newer version has added stays.
"""

import itertools
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from segcourse.home import home, short, write_atomically

SCHEMA = 1
NOT_ATTEMPTED = "not attempted"
LOCK_SECONDS = 3.0

_said: set[str] = set()
_hints_not_kept: dict[str, int] = {}  # so that the ladder of hints goes on where nothing can be written


@dataclass(frozen=True)
class ExerciseRecord:
    """One exercise: the best points so far, the outcome of the latest check, and how it came about."""

    lesson: str = ""
    attempts: int = 0  # checks of an answer; a check of the untouched starter does not count
    points: float = 0.0  # the best so far
    of: float = 0.0
    outcome: str = NOT_ATTEMPTED  # of the latest check, and so is the diagnosis
    diagnosis: str | None = None
    hints: int = 0  # the highest level of hint shown
    first: str = ""  # time of the first attempt, UTC, ISO 8601; empty: none yet
    last: str = ""


@dataclass(frozen=True)
class QuizRecord:
    """One quiz question: whether the first and the latest answer were right."""

    lesson: str = ""
    attempts: int = 0
    right: bool = False  # the latest answer
    right_at_first: bool = False
    first: str = ""
    last: str = ""


@dataclass(frozen=True)
class Progress:
    """Everything kept, by name of the exercise and of the quiz question."""

    exercises: Mapping[str, ExerciseRecord] = field(default_factory=dict)
    quizzes: Mapping[str, QuizRecord] = field(default_factory=dict)


R = TypeVar("R", ExerciseRecord, QuizRecord)


class _UnreadableError(ValueError):
    """The file is damaged or is no progress file."""


class _NewerError(ValueError):
    """The file was written by a newer version, in a form that this one does not know."""


def path() -> Path:
    """The file that holds the progress; it need not exist."""
    return home() / "progress.json"


def record(exercise: str, *, lesson: str, outcome: str, points: float, of: float, diagnosis: str | None = None) -> bool:
    """Note the outcome of one check; the best points stay, whatever comes later. True when it was kept.

    Raises ValueError for points outside 0..`of`. Never raises for want of a writable place: says so once.
    """
    if not (math.isfinite(of) and 0 <= points <= of):
        raise ValueError(f"points must lie between 0 and {of}, got {points} for {exercise!r}")

    def change(entry: dict[str, Any], now: str) -> None:
        entry["lesson"] = lesson
        entry["outcome"] = outcome
        entry["diagnosis"] = diagnosis
        entry["of"] = float(of)
        entry["points"] = max(float(points), entry.get("points", 0.0))
        if outcome != NOT_ATTEMPTED:
            entry["attempts"] = entry.get("attempts", 0) + 1
            entry["first"] = entry.get("first") or now
            entry["last"] = now

    return _update("exercises", exercise, change)


def record_hint(exercise: str, level: int) -> bool:
    """Note that hint number `level` (from 1) was shown. True when it was kept."""
    if level < 1:
        raise ValueError(f"hints are numbered from 1, got {level} for {exercise!r}")

    def change(entry: dict[str, Any], now: str) -> None:
        entry["hints"] = max(int(level), entry.get("hints", 0))

    kept = _update("exercises", exercise, change)
    if not kept:
        _hints_not_kept[exercise] = max(level, _hints_not_kept.get(exercise, 0))
    return kept


def hints_shown(exercise: str) -> int:
    """The highest level of hint shown so far; 0: none."""
    kept = load().exercises.get(exercise, ExerciseRecord()).hints
    return max(kept, _hints_not_kept.get(exercise, 0))


def record_quiz(question: str, lesson: str, right: bool) -> bool:
    """Note the answer to a quiz question. True when it was kept."""

    def change(entry: dict[str, Any], now: str) -> None:
        if not entry.get("attempts"):
            entry["first"], entry["right_at_first"] = now, bool(right)
        entry["lesson"], entry["right"], entry["last"] = lesson, bool(right), now
        entry["attempts"] = entry.get("attempts", 0) + 1

    return _update("quizzes", question, change)


def load() -> Progress:
    """What is kept; empty where there is nothing, or nothing that can be read."""
    try:
        return _parse(_read())
    except _UnreadableError:
        _keep(_read_or_set_aside)
    except (OSError, RuntimeError, _NewerError) as problem:
        _say_once(f"Your progress cannot be read: {_words(problem)}")
    return Progress()


def reset(exercise: str | None) -> Path | None:
    """Forget one exercise, or everything for None. Returns the copy made first, or None: nothing to forget.

    Raises OSError where the file cannot be written, ValueError where a newer version wrote it.
    """
    if not path().exists():
        return None
    try:
        with _lock():
            document = _read_or_set_aside()
            if exercise is None:
                forgotten = bool(document["exercises"] or document["quizzes"])
                document["exercises"], document["quizzes"] = {}, {}
            else:
                forgotten = document["exercises"].pop(exercise, None) is not None
            if not forgotten:
                return None
            copy = _free_name("backup")
            shutil.copy2(path(), copy)
            _write(document)
            return copy
    except Timeout as problem:
        raise OSError("another notebook is writing the progress file; try again in a moment") from problem


def table(exercises: Iterable[tuple[str, str, float, str]]) -> str:
    """The progress as text, for a course given in its order as (lesson, exercise, points, title)."""
    kept = load()
    course: dict[str, list[tuple[str, float, str]]] = {}
    for lesson, name, points, title in exercises:
        course.setdefault(lesson, []).append((name, points, title))
    width = max((len(name) for rows in course.values() for name, _, _ in rows), default=0)
    lines: list[str] = []
    earned_in_all = 0.0
    for lesson, rows in course.items():
        body = []
        earned = 0.0
        for name, points, title in rows:
            entry = kept.exercises.get(name, ExerciseRecord())
            best = min(entry.points, points)
            earned += best
            body.append(f"  {_state(entry, points):<15}  {name:<{width}}  {best:g}/{points:g}  {title}".rstrip())
        quizzes = [quiz.right for quiz in kept.quizzes.values() if quiz.lesson == lesson]
        quiz = f", quiz {sum(quizzes)} of {len(quizzes)} right" if quizzes else ""
        lines += [f"{lesson}: {earned:g} of {sum(row[1] for row in rows):g} points{quiz}", *body, ""]
        earned_in_all += earned
    total = sum(points for rows in course.values() for _, points, _ in rows)
    return "\n".join([*lines, f"In all: {earned_in_all:g} of {total:g} points."])


def _state(entry: ExerciseRecord, points: float) -> str:
    if entry.attempts and entry.points >= points:
        return "✓ correct"
    return "✗ not yet" if entry.attempts else f"○ {NOT_ATTEMPTED}"


def _update(kind: str, name: str, change: Callable[[dict[str, Any], str], None]) -> bool:
    """Let `change` alter one entry of the file. True when that was kept."""

    def rewrite() -> None:
        document = _read_or_set_aside()
        change(document[kind].setdefault(name, {}), datetime.now(UTC).isoformat(timespec="seconds"))
        _write(document)

    return _keep(rewrite)


def _keep(work: Callable[[], object]) -> bool:
    """Do `work` on the file under the lock. True when it was done; otherwise the reason is said once."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        with _lock():
            work()
    except (OSError, RuntimeError, _NewerError) as problem:
        _say_once(f"Your progress is not being kept: {_words(problem)} The checks work all the same.")
        return False
    return True


def _lock() -> FileLock:
    return FileLock(home() / "progress.lock", timeout=LOCK_SECONDS)


def _read() -> dict[str, Any]:
    """The whole document, with keys that this version does not know; a blank one where there is no file."""
    try:
        document = json.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"schema": SCHEMA, "exercises": {}, "quizzes": {}}
    except (ValueError, RecursionError) as problem:
        raise _UnreadableError(str(problem)) from problem
    try:
        _parse(document)
    except _UnreadableError as problem:
        schema = document.get("schema") if isinstance(document, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise _NewerError(
                f"{short(path())} was written by a newer version of the course; update this one."
            ) from problem
        raise
    return document


def _read_or_set_aside() -> dict[str, Any]:
    """The document; a file that cannot be understood is renamed, and a blank document takes its place."""
    try:
        return _read()
    except _UnreadableError:
        aside = _free_name("corrupt")
        path().rename(aside)
        _say_once(f"Your progress file could not be understood. It is kept as {short(aside)}; a fresh one begins.")
        return _read()


def _write(document: dict[str, Any]) -> None:
    write_atomically(path(), json.dumps(document, indent=1) + "\n")


def _parse(document: Any) -> Progress:
    """The document as records. Raises _UnreadableError unless every part has the type it should have."""
    if not (isinstance(document, dict) and isinstance(document.get("schema"), int)):
        raise _UnreadableError("no progress file")
    return Progress(_records(document.get("exercises"), ExerciseRecord), _records(document.get("quizzes"), QuizRecord))


def _records(entries: Any, kind: type[R]) -> dict[str, R]:
    if not isinstance(entries, dict):
        raise _UnreadableError("a part is missing")
    records = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise _UnreadableError(f"{name} is no record")
        known = {f.name: entry[f.name] for f in fields(kind) if f.name in entry}
        for f in fields(kind):
            if f.name in known and not _fits(known[f.name], f.type):
                raise _UnreadableError(f"{name}: {f.name} is {known[f.name]!r}")
        records[name] = kind(**known)
    return records


def _fits(value: Any, kind: Any) -> bool:
    if kind in (int, float):
        number = isinstance(value, int | kind) and not isinstance(value, bool)
        return number and 0 <= value < 2**53  # no NaN, no infinity
    return isinstance(value, kind)


def _free_name(word: str) -> Path:
    """`progress.<word>-<n>.json` beside the file, with the first n that is free."""
    names = (path().with_name(f"progress.{word}-{n}.json") for n in itertools.count(1))
    return next(name for name in names if not name.exists())


def _words(problem: Exception) -> str:
    if isinstance(problem, Timeout):
        return "another notebook is writing it."
    if isinstance(problem, OSError):
        return f"{short(path())}: {problem.strerror or problem}."
    return str(problem)


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        print(message, file=sys.stderr)
