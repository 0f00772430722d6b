"""Grades one submission after another: read, slice, run in a locked process, judge, write down.

The class's secret determines the inputs that decide. What a failing student is shown comes from other inputs, which
everybody may know, in a process of its own: nothing of a secret input can reach a page, not even in the text of an
exception.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import platform
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from segcourse import __version__, exercises
from segcourse.exercises.exercise import Case, Exercise
from segcourse.exercises.guard import STOPPED, Ran
from segcourse.exercises.judge import Key, Outcome, Verdict, judge
from segcourse.exercises.render import Card, verdict_card
from segcourse.grading.answers import DEFINES, Piece, Program, find_answers, starters_of
from segcourse.grading.child import TIME_IS_UP
from segcourse.grading.intake import Submission
from segcourse.grading.reading import Cell, UnreadableError, read_notebook
from segcourse.grading.results import Record, Result, now
from segcourse.grading.runner import OPEN, Session, Worker, WorkerError
from segcourse.grading.sandbox import Isolation, Limits

MISSING = "missing"
PUBLIC = b"inputs that everybody may know"
OPEN_TO_ANSWERS = ("segcourse.exercises.drivers.", *OPEN)
LINE = 1000
"""How many characters a line on a card has at most."""
BATCH = 20
"""How many inputs are sent at once."""
MOST_BYTES = 64 * 2**20
"""How much an answer may return, in all: honest ones return a hundredth."""
EXERCISES, LEAST_SECONDS = 5, 60.0
"""A submission may take the time of so many exercises, but always as much as this."""


class Grader:
    """Grades submissions of one lesson; holds a worker, so close it or use it in a `with`."""

    def __init__(
        self,
        lesson: str,
        released: Path,
        secret: bytes,
        isolation: Isolation,
        limits: Limits | None = None,
        seconds: float = 60.0,
    ) -> None:
        """Prepare for a lesson.

        Args:
            lesson: its stem, such as `01_receptive_field`.
            released: the notebook as students got it: its setup and its starters are taken from there.
            secret: determines the inputs; whoever knows it knows them.
            isolation: which layers lock a submission in.
            limits: what a submission may use.
            seconds: how long one exercise of one submission may take.
        """
        self.lesson = exercises.lesson(lesson)
        self._names = [exercise.name for exercise in self.lesson.exercises]
        for exercise in self.lesson.exercises:
            if not exercise.drive.__module__.startswith(OPEN_TO_ANSWERS):
                raise ValueError(f"the driver of {exercise.name} lies where answers cannot reach it: move it.")
        cells = read_notebook(released.read_bytes()).cells
        self._released, self._starters = cells, starters_of(cells, self._names)
        self._setup = [cell for cell in cells if cell.kind == "code" and "from segcourse.lesson import" in cell.source]
        self._secret, self._seconds = secret, seconds
        self._worker = Worker(isolation, self.lesson.given, limits)
        self._keys: dict[tuple[str, bytes], Key] = {}
        source = Path(str(import_module(f"segcourse.exercises.{self.lesson.stem[3:]}").__file__)).read_bytes()
        self.key_hash = sha256(secret + source)

    def grade(self, submission: Submission) -> Record:
        """Grade one submission. Whatever it holds, there is a record; where the fault is ours, its status is `failed`.

        Raises:
            WorkerError: if no worker can be started.
        """
        blank = Record(
            student=submission.student,
            file=submission.name,
            lesson=self.lesson.stem,
            status="graded",
            late=submission.late,
            results=tuple(Result(e.name, MISSING, 0, e.points) for e in self.lesson.exercises),
            notes=tuple(submission.notes),
            level=self._worker.isolation.level,
            key_hash=self.key_hash,
            versions=versions(),
            when=now(),
            identifier=submission.identifier,
        )
        try:
            return self._grade(submission, blank)
        except WorkerError:
            raise
        except Exception as error:  # nobody else's submission may suffer from it
            says = f"It could not be graded ({type(error).__name__}). The fault is the grader's: mark it by hand."
            return dataclasses.replace(blank, status="failed", notes=(*blank.notes, says))

    def _grade(self, submission: Submission, blank: Record) -> Record:
        if submission.problem:
            return dataclasses.replace(blank, status="no notebook", notes=(*blank.notes, submission.problem))
        try:
            data = submission.read()
            blank = dataclasses.replace(blank, file_hash=sha256(data))
            notebook = read_notebook(data)
        except UnreadableError as error:
            return dataclasses.replace(blank, status="unreadable", notes=(*blank.notes, str(error)))
        own = [Cell(0, "code", cell.source) for cell in self._setup]
        program = find_answers([*own, *notebook.cells], self._names, self._starters, self._released)
        if not program.found and not program.not_attempted and (other := self._other_lesson(notebook.cells)):
            says = f"This is the notebook of {other}; that of {self.lesson.stem} was to be handed in."
            return dataclasses.replace(blank, status="no notebook", notes=(*blank.notes, says))
        notes = (*blank.notes, *notebook.notes, *program.notes)
        lost = self._worker.lost
        record = self._judge(blank, program, notes)
        # A worker that is gone took its submission with it: no submission can end it where files are hidden.
        return record if self._worker.lost == lost else self._judge(blank, program, notes)

    def _other_lesson(self, cells: Iterable[Cell]) -> str:
        """Return another lesson that most of a notebook's functions belong to; empty if there is none."""
        names = {name for cell in cells if cell.kind == "code" for name in DEFINES.findall(cell.source)}
        asked = Counter(exercise.lesson for exercise in exercises.catalogue() if exercise.name in names)
        return next((stem for stem, n in asked.most_common(1) if n > 1 and stem != self.lesson.stem), "")

    def _judge(self, blank: Record, program: Program, notes: Sequence[str]) -> Record:
        began = self._worker.cpu
        until = time.monotonic() + max(LEAST_SECONDS, EXERCISES * self._seconds)
        todo = [e for e in self.lesson.exercises if e.name in program.found]
        # First the inputs that everybody may know: what a student will read is settled before any secret one is sent.
        shown = _Runs(self._worker, program, self._seconds, until)
        verdicts = {e.name: shown.judge(e, self._key(e, PUBLIC), shrink=False) for e in todo}
        for e in todo:  # what failed may have failed by another answer's doing, or for want of a cell that was left out
            if verdicts[e.name].outcome is not Outcome.CORRECT:
                verdicts[e.name] = shown.judge_alone(e, self._key(e, PUBLIC))
        shown.close()
        cards = {name: verdict_card(verdict) for name, verdict in verdicts.items()}
        runs = _Runs(self._worker, program, self._seconds, until, shown.wide)
        for e in todo:
            if verdicts[e.name].outcome is Outcome.CORRECT:
                secret = self._key(e, self._secret)
                secretly = runs.judge(e, secret, shrink=False)
                if secretly.outcome is not Outcome.CORRECT and e.name not in runs.alone:
                    secretly = runs.judge_alone(e, secret, shrink=False)
                verdicts[e.name] = passed_or_not(secretly)
                cards[e.name] = card_of_secret(verdicts[e.name])
        runs.close()
        wrong = {name for name, verdict in verdicts.items() if verdict.outcome is not Outcome.CORRECT}
        for name in wrong:
            used = {used for piece in program.alone[name] for used in DEFINES.findall(piece.source)} & wrong - {name}
            says = [f"It uses your `{other}`, which is not right yet: mend that first." for other in sorted(used)]
            cards[name] = dataclasses.replace(cards[name], lines=[*says, *cards[name].lines])
        results = []
        for exercise in self.lesson.exercises:
            verdict = verdicts.get(exercise.name)
            if verdict is None:
                outcome = Outcome.NOT_ATTEMPTED if exercise.name in program.not_attempted else MISSING
                results.append(Result(exercise.name, str(outcome), 0, exercise.points))
                continue
            results.append(
                Result(
                    exercise.name,
                    str(verdict.outcome),
                    verdict.points,
                    exercise.points,
                    diagnosis=verdict.misconception.id if verdict.misconception else "",
                    card=dataclasses.asdict(clipped(cards[exercise.name])),
                    fingerprint=sha256(program.shapes[exercise.name].encode("utf-8", "replace")),
                    cell=program.found[exercise.name],
                    size=program.shapes[exercise.name].count("("),
                )
            )
        return dataclasses.replace(
            blank,
            results=tuple(results),
            notes=tuple(dict.fromkeys([*notes, *shown.problems, *runs.for_all])),
            tampering=tuple(dict.fromkeys([*runs.tampering, *shown.tampering])),
            seconds=round(self._worker.cpu - began, 3),
        )

    def _key(self, exercise: Exercise, secret: bytes) -> Key:
        if (exercise.name, secret) not in self._keys:
            self._keys[exercise.name, secret] = Key(exercise, exercise.draw_cases(seed_of(secret, exercise.name)))
        return self._keys[exercise.name, secret]

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()


class _Runs:
    """Runs one submission's exercises: in one process as long as it lives, in another after that, or each alone."""

    def __init__(
        self, worker: Worker, program: Program, seconds: float, until: float, wide: Iterable[str] = ()
    ) -> None:
        self._worker, self._program, self._seconds, self._until = worker, program, seconds, until
        self._session: Session | None = None
        self._running = ""
        self._together = True
        self.alone: set[str] = set()
        """The exercises that have been run by themselves."""
        self.wide = set(wide)
        """Those that are right if all that the student wrote is run, and only then."""
        self.problems: list[str] = []
        """For the student: what went wrong when cells were run, and how it was judged."""
        self.for_all: list[str] = []
        """Of these, what holds nothing that a submission says."""
        self.tampering: list[str] = []

    def judge(self, exercise: Exercise, key: Key, shrink: bool) -> Verdict:
        """Judge an exercise by the cases of a key, in the process that has run others, if it can be."""
        alone = exercise.name in self._program.apart or exercise.name in self.wide
        if not alone and self._together:
            self._together = self._begin("", self._program.pieces).alive
        if alone or not self._together:  # running all cells ends the process: run for each answer what it needs itself
            return self.judge_alone(exercise, key, shrink)
        return self._judge(exercise, key, shrink)

    def judge_alone(self, exercise: Exercise, key: Key, shrink: bool = True) -> Verdict:
        """Judge an exercise in a process that runs what the answer needs; if that fails, all that the student wrote."""
        name = exercise.name
        self.alone.add(name)
        if name not in self.wide:
            self._begin(name, self._program.alone[name])
            verdict = self._judge(exercise, key, shrink)
            if verdict.outcome is Outcome.CORRECT or name not in self._program.wide:
                return verdict
        self._begin(f"{name} wide", self._program.wide[name])
        widely = self._judge(exercise, key, shrink=False)
        if widely.outcome is Outcome.CORRECT:
            self.wide.add(name)
            says = f"`{name}` is right only if your other cells are run before it; it was judged that way."
            self.problems.append(says)
        return widely if name in self.wide else verdict

    def _judge(self, exercise: Exercise, key: Key, shrink: bool) -> Verdict:
        assert self._session is not None
        if time.monotonic() >= self._until:
            self._tell(f"`{exercise.name}`: the time for the whole submission was up. Look at it by hand.")
            return Verdict(exercise, Outcome.NOT_YET)
        run = _Asked(self._session, exercise, key.cases, min(time.monotonic() + self._seconds, self._until))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a strange value has libraries warn the teacher
                return judge(exercise, run, seed=0, key=key, hurry=False, shrink=shrink)
        except Exception as error:  # a value that nobody thought of: the class is graded all the same
            self.problems.append(f"This was raised when it was judged: {type(error).__name__}.")
            self._tell(f"`{exercise.name}` could not be judged: look at it by hand.")
            return Verdict(exercise, Outcome.NOT_YET)

    def _tell(self, note: str) -> None:
        self.problems.append(note)
        self.for_all.append(note)

    def _begin(self, name: str, pieces: Iterable[Piece]) -> Session:
        """Have these pieces run, in a new process unless the one with this name still lives."""
        if self._session is None or not self._session.alive or self._running != name:
            self.close()
            seconds = min(self._seconds, max(0.1, self._until - time.monotonic()))
            self._session = self._worker.run([dataclasses.asdict(piece) for piece in pieces], seconds)
            self._running = name
            self.problems += self._session.problems
        return self._session

    def close(self) -> None:
        """End the process."""
        if self._session is not None:
            if self._session.forged:
                self.tampering.append(f"Its process sent what no honest one sends: {self._session.forged}.")
            self._session.__exit__()
            self._session = None


class _Asked:
    """Runs the answer on a case, as the judge asks; the cases of the key are sent in batches."""

    def __init__(self, session: Session, exercise: Exercise, cases: Sequence[Case], until: float) -> None:
        self._session, self._exercise, self._ahead = session, exercise, list(cases)
        self._results: list[Ran] = []
        self._until, self._most = until, session.received + MOST_BYTES

    def __call__(self, case: Case) -> Ran:
        if not self._results:
            left = self._until - time.monotonic()
            if not self._session.alive or left <= 0:
                return Ran(problem=TIME_IS_UP, kind=STOPPED)
            if self._session.received > self._most:
                return Ran(problem="what it returns is too large, all inputs taken together.", kind=STOPPED)
            planned = bool(self._ahead) and self._ahead[0] is case
            self._results = self._session.ask(self._exercise, self._ahead[:BATCH] if planned else [case], left)
            if planned:
                del self._ahead[: len(self._results)]
        return self._results.pop(0)


def passed_or_not(verdict: Verdict) -> Verdict:
    """Leave of a verdict on secret inputs whether it passed: an answer can choose how it fails by what it sees."""
    if verdict.outcome is Outcome.CORRECT:
        return dataclasses.replace(verdict, printed="", warned="")
    return Verdict(verdict.exercise, Outcome.NOT_YET)


def card_of_secret(verdict: Verdict) -> Card:
    """Put into words how an answer fared that was right on all inputs that may be shown."""
    card = verdict_card(verdict)
    if verdict.outcome is Outcome.CORRECT:
        return dataclasses.replace(card, lines=["Right on all inputs, those that nobody could know among them."])
    says = "It is right on the inputs that may be shown. On others it is wrong or too slow: what is different in those?"
    return dataclasses.replace(card, lines=[*card.lines, says])


def clipped(card: Card) -> Card:
    """Shorten what an answer has made too long to be read."""

    def short(lines: Iterable[str]) -> list[str]:
        return [line if len(line) <= LINE else line[:LINE] + "…" for line in lines]

    grids = [dataclasses.replace(grid, title=grid.title[:LINE]) for grid in card.grids]
    return dataclasses.replace(card, lines=short(card.lines), grids=grids, after=short(card.after))


def seed_of(secret: bytes, name: str) -> int:
    """Return the seed of an exercise's inputs; without the secret nobody can compute it."""
    return int.from_bytes(hmac.digest(secret, name.encode(), "sha256")[:8], "big")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def versions() -> dict[str, str]:
    """Return what the judgement depends on beside the key."""
    import numpy
    import torch

    return {
        "segcourse": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
    }
