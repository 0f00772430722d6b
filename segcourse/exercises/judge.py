"""The judge: runs an answer on fresh cases, decides, and names the mistake.

The same function serves the notebook and the grader; only `run`, the way an answer is run, differs.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

import torch

from segcourse.exercises.compare import Mismatch, describe_type, same_value
from segcourse.exercises.exercise import Case, Exercise, Misconception
from segcourse.exercises.guard import ENDED, STOPPED, UNWRITTEN, Ran, run_here

T = TypeVar("T")

CHECK_SECONDS = 1.0
"""After this CPU time, which a busy machine does not lengthen, no further case is begun once LEAST_CASES were run."""
LEAST_CASES = 12
SHRINK_SECONDS, PATIENT_SHRINK_SECONDS = 0.7, 10.0
STUCK = (STOPPED, ENDED)


class Outcome(StrEnum):
    """The three outcomes of a check."""

    NOT_ATTEMPTED = "not attempted"
    NOT_YET = "not yet"
    CORRECT = "correct"


@dataclass(frozen=True)
class Failure:
    """One case that failed: what went in, what came out, and what is wrong with it."""

    case: Case
    ran: Ran
    mismatch: Mismatch


@dataclass(frozen=True)
class Verdict:
    """What the judge found. `failure` is the smallest failing case; the right answer is not in here."""

    exercise: Exercise
    outcome: Outcome
    ran: int = 0
    failed: int = 0
    misconception: Misconception | None = None
    failure: Failure | None = None
    printed: str = ""
    warned: str = ""

    @property
    def points(self) -> int:
        """The points earned: all or none."""
        return self.exercise.points if self.outcome is Outcome.CORRECT else 0


class Key:
    """Cases, and what the course's own implementations make of them: each is computed once, when it is needed."""

    def __init__(self, exercise: Exercise, cases: list[Case]) -> None:
        self.exercise, self.cases = exercise, cases
        self._known: dict[tuple[Callable[..., Any], int], Ran] = {}

    def of(self, implementation: Callable[..., Any], index: int) -> Ran:
        """Return what an implementation makes of the case with this index."""
        if (implementation, index) not in self._known:
            self._known[implementation, index] = truth(self.exercise, implementation, self.cases[index])
        return self._known[implementation, index]


def judge(
    exercise: Exercise,
    run: Callable[[Case], Ran],
    seed: int | None = None,
    *,
    key: Key | None = None,
    hurry: bool = True,
    shrink: bool = True,
) -> Verdict:
    """Run an answer on the exercise's cases and decide.

    Args:
        exercise: what was asked.
        run: runs the answer on one case, in this process or in another.
        seed: determines the cases; None takes fresh ones.
        key: the cases to use instead of drawing them.
        hurry: whether a slow answer is run on fewer cases, and the search for a small failing case ends soon, as it
            should while a student waits. Without hurry a seed determines the verdict.
        shrink: whether to look for the smallest case that fails, for somebody who will read it.

    Returns:
        The verdict. It is *not attempted* while the answer still returns the dots of the starter.
    """
    seed = random.randrange(2**32) if seed is None else seed
    key = key or Key(exercise, exercise.draw_cases(seed))
    cases = key.cases
    began = time.process_time()
    results: list[Ran] = []
    for case in cases:
        ran = run(case)
        if is_starter(ran):
            return Verdict(exercise, Outcome.NOT_ATTEMPTED)
        results.append(measured(exercise, case, ran))
        stuck = results[-1].kind in STUCK
        if stuck or (hurry and len(results) >= LEAST_CASES and time.process_time() - began > CHECK_SECONDS):
            break
    cases = cases[: len(results)]
    truths = [key.of(exercise.reference, index) for index in range(len(cases))]
    mismatches = [mismatch_of(exercise, t, r) for t, r in zip(truths, results)]
    if results[-1].kind in STUCK and mismatches[-1] is None:  # whatever came back, most cases were not run
        mismatches[-1] = Mismatch(results[-1].problem or "it did not come back.")
    failed = [i for i, m in enumerate(mismatches) if m]
    printed = next((r.printed for r in results if r.printed), "")
    warned = next((r.warned for r in results if r.warned), "")
    if not failed:
        return Verdict(exercise, Outcome.CORRECT, len(cases), printed=printed, warned=warned)
    misconception = diagnose(key, truths, results, mismatches)
    first = failed[0]
    failure = Failure(cases[first], results[first], mismatches[first] or Mismatch(""))
    if shrink and not any(result.kind in STUCK for result in results):
        failure = smallest_failure(
            exercise, run, failure, misconception, seed, SHRINK_SECONDS if hurry else PATIENT_SHRINK_SECONDS
        )
    return Verdict(exercise, Outcome.NOT_YET, len(cases), len(failed), misconception, failure, printed, warned)


def truth(exercise: Exercise, implementation: Callable[..., Any], case: Case) -> Ran:
    """Run one of our own implementations, right or wrong, on a case."""
    return measured(exercise, case, run_here(exercise, implementation, limited=False)(case))


def measured(exercise: Exercise, case: Case, ran: Ran) -> Ran:
    """Make of what came back what is compared. What cannot be measured stays, and the comparison says what it is."""
    if ran.problem:
        return ran
    try:
        return replace(ran, value=exercise.measure(case, ran.value))
    except Exception:
        return ran


def is_starter(result: Ran) -> bool:
    """Tell whether the answer is still the starter: its dots come back, alone or inside a sequence or dict.

    `raise NotImplementedError` is a starter too. With a message it is none: torch says so of what it cannot do.
    """
    if result.kind == UNWRITTEN:
        return True
    value = result.value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return any(part is ... or part is NotImplemented for part in parts)


def mismatch_of(exercise: Exercise, expected: Ran, result: Ran) -> Mismatch | None:
    """Compare one result with the truth. A problem that the truth has too (the same exception) is right."""
    if expected.problem and expected.kind == result.kind:
        return None
    if result.problem:
        return Mismatch(result.problem)
    if expected.problem:
        return Mismatch(f"this input should be refused with a {expected.kind}; it returned a value instead.")
    try:
        return exercise.compare(expected.value, result.value)
    except Exception:  # an exercise's own comparison need not foresee every kind of value
        kind = describe_type(result.value)
        return Mismatch(f"it returned {kind}; {describe_type(expected.value)} was expected.")


def alike(a: Ran, b: Ran) -> bool:
    """Tell whether two calls came to the same: equal values, or the same problem.

    Exceptions are the same if their words are, in any order: torch names the sizes of `a + b` and of `b + a` in two
    orders. A kind alone says little: every answer that raises would be given the first mistake that always raises.
    """
    if a.problem is None or b.problem is None:
        return a.problem is b.problem and same_value(a.value, b.value)
    return a.kind == b.kind and sorted(a.message.split()) == sorted(b.message.split())


def diagnose(
    key: Key,
    truths: list[Ran],
    results: list[Ran],
    mismatches: list[Mismatch | None],
) -> Misconception | None:
    """Name the mistake: the first misconception that does what the answer does wherever either goes wrong."""
    for misconception in key.exercise.misconceptions:
        told_apart = False
        for index, (expected, result, mismatch) in enumerate(zip(truths, results, mismatches)):
            wrong = key.of(misconception.wrong, index)
            tells = mismatch_of(key.exercise, expected, wrong) is not None
            if (tells or mismatch) and not alike(wrong, result):
                break
            told_apart |= tells
        else:
            if told_apart:
                return misconception
    return None


def weight(case: Case) -> tuple[int, int]:
    """Order cases for the reader: fewer and smaller things first; among equals, more different values in tensors."""
    size, variety = 0, 0
    todo = list(case.values())
    while todo:
        value = todo.pop()
        if isinstance(value, torch.Tensor):
            size += 1 + value.numel()
            variety += len(value.unique())
        elif isinstance(value, (list, tuple, dict)):
            size += 1
            todo += value.values() if isinstance(value, dict) else value
        elif isinstance(value, (int, float)):
            size += 1 + abs(int(value))
    return size, -variety


class _TimeUp(BaseException):
    """Ends the search for a smaller case; of exceptions, hypothesis would make a finding and go on for seconds."""


def smallest_failure(
    exercise: Exercise,
    run: Callable[[Case], Ran],
    known: Failure,
    misconception: Misconception | None,
    seed: int,
    seconds: float,
) -> Failure:
    """Shrink: let hypothesis look for the simplest case that fails (and shows the named mistake, if one is named)."""
    import hypothesis
    from hypothesis import HealthCheck, Phase, strategies
    from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable

    class ShrinkingDraw:
        def __init__(self, draw: Callable[..., Any]) -> None:
            self._draw = draw

        def integer(self, low: int, high: int) -> int:
            return self._draw(strategies.integers(low, high))

        def choice(self, options: Any) -> Any:
            return self._draw(strategies.sampled_from(options))

    @strategies.composite
    def cases(draw: Any) -> Case:
        return exercise.cases(ShrinkingDraw(draw))

    best = [known]
    deadline: float | None = None

    def fails(case: Case) -> bool:
        nonlocal deadline
        now = time.monotonic()
        deadline = deadline or now + seconds  # from the first case on: hypothesis itself is slow to begin
        if now > deadline:
            raise _TimeUp
        expected = truth(exercise, exercise.reference, case)
        result = measured(exercise, case, run(case))
        mismatch = mismatch_of(exercise, expected, result)
        if result.kind in STUCK:
            raise _TimeUp
        if mismatch is None:
            return False
        if misconception and not alike(truth(exercise, misconception.wrong, case), result):
            return False
        best[0] = min(best[0], Failure(case, result, mismatch), key=lambda failure: weight(failure.case))
        return True

    quiet = hypothesis.settings(
        max_examples=100,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        verbosity=hypothesis.Verbosity.quiet,
    )
    with contextlib.suppress(NoSuchExample, Flaky, Unsatisfiable, _TimeUp):  # whatever ends it, `best` holds the case
        hypothesis.find(cases(), fails, settings=quiet, random=random.Random(seed))
    return best[0]
