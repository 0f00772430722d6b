"""What an exercise is: data that checks, hints, grading, reports and tests are all derived from.

The idea of naming a student's mistake by running the mistake itself is Brown and Burton's
("Diagnostic models for procedural bugs in basic mathematical skills", Cognitive Science, 1978).
"""

from __future__ import annotations

import ast
import builtins
import inspect
import itertools
import math
import random
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from segcourse.exercises.compare import Mismatch, agree

T = TypeVar("T")
Case = dict[str, Any]
"""One input: argument names and values, in the order of the answer's parameters. Plain data only."""


class Draw(Protocol):
    """Where a generator of cases takes its random choices from. Small values come first when shrinking."""

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options; the first is the simplest."""


class RandomDraw:
    """Choices from a seed: the same on every machine and for every version of every library."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        return self._random.randint(low, high)

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self._random.randrange(len(options))]


def varied(draw: Draw) -> RandomDraw:
    """Return a source of choices that one drawn number determines.

    For the values inside a tensor: shrinking then makes the tensor smaller, and not its values all alike.
    """
    return RandomDraw(draw.integer(0, 9999))


def draw_tensor(draw: Draw, shape: Sequence[int], low: int, high: int) -> torch.Tensor:
    """Draw a float32 tensor of whole numbers from low to high: its sums are exact and its grid is readable."""
    value = varied(draw)
    values = [value.integer(low, high) for _ in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).reshape(*shape)


def draw_whole_numbers(draw: Draw, shape: Sequence[int], low: int, high: int) -> torch.Tensor:
    """Draw such a tensor by a single number, its generator's seed: large ones shrink quickly too."""
    generator = torch.Generator().manual_seed(draw.integer(0, 9999))
    return torch.randint(low, high + 1, tuple(shape), generator=generator).float()


@dataclass(frozen=True)
class Misconception:
    """A mistake that students make, as a wrong implementation: a diagnosis and a mutant in one."""

    id: str
    """A name for reports, unique within the exercise: `adds_kernels`."""
    wrong: Callable[..., Any]
    """The mistake itself, called like the answer."""
    says: str
    """The diagnosis, addressed to the student; says what was done and what to think about, not the answer."""
    see: str
    """The heading in the lesson under which the matter is explained."""


def call(answer: Callable[..., Any], case: Case) -> Any:
    """Call the answer on a case: the driver of every exercise whose answer takes and returns plain data."""
    return answer(*case.values())


def unchanged(case: Case, value: Any) -> Any:
    """Return the value: what most answers return is compared as it is."""
    return value


@dataclass(frozen=True)
class Exercise:
    """An exercise, known only here. `lesson` is the notebook's stem, such as `01_receptive_field`."""

    name: str
    """The name of the function that the student writes."""
    lesson: str
    title: str
    points: int
    minutes: int
    difficulty: int
    """1 follows the worked example, 2 needs a thought, 3 is a stretch."""
    reference: Callable[..., Any]
    """The truth, written as a student could; `solution` shows its source."""
    oracle: Callable[..., Any]
    """A second, independent way to the same answer; the tests hold one against the other."""
    cases: Callable[[Draw], Case]
    """Draws one fresh case."""
    misconceptions: tuple[Misconception, ...]
    hints: tuple[str, str, str]
    """A nudge, the method, nearly the code. The first two hold no line of the solution."""
    examples: tuple[Case, ...] = ()
    """Cases that are always run, first: the lesson's worked example and the corners."""
    compare: Callable[[Any, Any], Mismatch | None] = agree
    """(expected, got) -> None, or what is wrong with what was got."""
    drive: Callable[[Callable[..., Any], Case], Any] = call
    """Runs the answer on a case and returns plain data; answers that are modules or need gradients have their own.

    It runs beside the answer, where nothing of the exercise is known but this: it lives in `exercises.drivers`.
    """
    measure: Callable[[Case, Any], Any] = unchanged
    """Makes of what came back what is compared; runs beside the judge, never beside the answer."""
    runs: int = 40
    """How many cases a check runs, examples included."""
    seconds: float = 1.0
    """How long one call may take."""
    property: str = ""
    """What must hold of a right answer, in words: shown with a failing case in place of the right answer."""

    def draw_cases(self, seed: int, count: int | None = None) -> list[Case]:
        """Return `count` cases (by default `runs`): the examples, then fresh ones that the seed determines."""
        count = self.runs if count is None else count
        draw = RandomDraw(seed)
        fresh = [self.cases(draw) for _ in range(count - len(self.examples))]
        return [*self.examples, *fresh][: max(count, len(self.examples))]

    @builtins.property
    def solution(self) -> str:
        """The reference's source code, without annotations: as the lessons write functions."""
        return without_annotations(textwrap.dedent(inspect.getsource(self.reference)))


def without_annotations(source: str) -> str:
    """Cut the type annotations out of a source, leaving all else as it is written, comments included."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]  # offset of each line

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column

    text, cuts = b"".join(lines), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg) and node.annotation:
            begin = offset(node.lineno, node.col_offset) + len(node.arg.encode())
            cuts.append((begin, node.annotation))
        elif isinstance(node, ast.AnnAssign):
            cuts.append((offset(node.target.end_lineno or 0, node.target.end_col_offset or 0), node.annotation))
        elif isinstance(node, ast.FunctionDef) and node.returns:
            arrow = text.rindex(b"->", 0, offset(node.returns.lineno, node.returns.col_offset))
            cuts.append((len(text[:arrow].rstrip()), node.returns))
    for begin, annotation in sorted(cuts, key=lambda cut: -cut[0]):
        text = text[:begin] + text[offset(annotation.end_lineno or 0, annotation.end_col_offset or 0) :]
    return text.decode()
