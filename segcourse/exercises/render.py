"""Draws verdicts and cards, as plain text and as HTML with the same content."""

from __future__ import annotations

import html
import itertools
import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from segcourse.exercises.compare import describe_type, is_ordinary, written
from segcourse.exercises.guard import STOPPED
from segcourse.exercises.judge import Failure, Outcome, Verdict

SIGNS = {Outcome.CORRECT: "✓", Outcome.NOT_YET: "✗", Outcome.NOT_ATTEMPTED: "○"}
COLOURS = {Outcome.CORRECT: "#009E73", Outcome.NOT_YET: "#D55E00", Outcome.NOT_ATTEMPTED: "#767676"}
GRID = (8, 16)
"""Grids show at most this many rows and columns."""
PLANES = 4
"""An input that is a stack of up to so many planes is drawn whole; of a larger one, the first plane."""
LINE, LEVELS = 1000, 10
"""How many characters of a value are written in a line, and how many levels of lists in lists."""
SMALL = 12
"""A row of up to so many numbers is written in a line, a longer one drawn."""


@dataclass(frozen=True)
class Grid:
    """A titled picture of a value: rows of cells, some of them marked as wrong."""

    title: str
    rows: list[list[str]]
    wrong: list[list[bool]]

    def text(self) -> str:
        """Render as aligned columns; wrong cells carry a star."""
        cells = [[c + ("*" if w else " ") for c, w in zip(r, ws)] for r, ws in zip(self.rows, self.wrong)]
        width = max((len(c) for row in cells for c in row), default=0)
        return "\n".join([f"    {self.title}", *("      " + " ".join(c.rjust(width) for c in row) for row in cells)])

    def html(self) -> str:
        """Render as a small table; wrong cells are framed and carry a star."""
        frame = "border:2px solid #D55E00;font-weight:bold;"
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="{frame if w else "border:1px solid #9996;"}padding:1px 6px;text-align:right">'
                f"{html.escape(c)}{'*' if w else ''}</td>"
                for c, w in zip(row, ws)
            )
            + "</tr>"
            for row, ws in zip(self.rows, self.wrong)
        )
        return (
            '<div style="display:inline-block;vertical-align:top;margin:4px 18px 4px 0">'
            f'<div style="font-size:90%">{html.escape(self.title)}</div>'
            f'<table style="border-collapse:collapse;font-family:monospace;margin:2px 0">{body}</table></div>'
        )


@dataclass(frozen=True)
class Card:
    """A message to the reader: a headline with a sign, lines of text, grids."""

    headline: str
    sign: str
    colour: str
    lines: list[str] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    code: str = ""

    def text(self) -> str:
        """Render as plain text."""
        parts = [f"{self.sign} {self.headline}", *("  " + line for line in self.lines)]
        parts += [grid.text() for grid in self.grids]
        parts += ["  " + line for line in self.after]
        parts += ["    " + line for line in self.code.splitlines()]
        return "\n".join(parts)

    def html(self) -> str:
        """Render as a card that reads well on a light and on a dark page."""

        def paragraph(line: str) -> str:
            return f'<div style="margin:2px 0">{_inline_code(line)}</div>'

        code = (
            '<pre style="background:transparent;color:inherit;margin:6px 0 2px;overflow-x:auto">'
            f"{html.escape(self.code)}</pre>"
            if self.code
            else ""
        )
        return (
            f'<div role="status" style="border-left:5px solid {self.colour};padding:6px 12px;margin:2px 0;'
            f'background:{self.colour}14;max-width:60em">'
            f'<div><span style="color:{self.colour};font-weight:bold">{self.sign}</span> '
            f"<b>{_inline_code(self.headline)}</b></div>"
            + "".join(map(paragraph, self.lines))
            + "".join(grid.html() for grid in self.grids)
            + "".join(map(paragraph, self.after))
            + code
            + "</div>"
        )


def _inline_code(text: str) -> str:
    """Escape, and set what stands between backquotes as code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def publish(card: Card) -> None:
    """Show a card: HTML in a notebook, the same words elsewhere."""
    from segcourse.plots import publish_html

    publish_html(card.text(), card.html())


def verdict_card(verdict: Verdict) -> Card:
    """Put a verdict into words."""
    exercise = verdict.exercise
    worth = f"{exercise.points} point{'s' if exercise.points > 1 else ''}"
    sign, colour = SIGNS[verdict.outcome], COLOURS[verdict.outcome]
    head = f"{exercise.name}: {verdict.outcome}"
    if verdict.outcome is Outcome.NOT_ATTEMPTED:
        return Card(
            f"{head} ({worth} to earn)",
            sign,
            colour,
            [
                "The function still returns the dots of the starter. Replace them with your answer, run the cell, "
                "then run this one.",
                f"`hint.{exercise.name}()` gives a first nudge.",
            ],
        )
    if verdict.outcome is Outcome.CORRECT:
        lines = [f"Right on {verdict.ran} cases, most of them fresh on every run."]
        return Card(f"{head} ({verdict.points} of {worth})", sign, colour, lines + _asides(verdict))
    lines = []
    if verdict.misconception:
        lines.append(verdict.misconception.says)
        lines.append(f"Read again: “{verdict.misconception.see}”.")
    if verdict.failure and verdict.failure.ran.kind != STOPPED:
        lines.append(f"Right on {verdict.ran - verdict.failed} of {verdict.ran} cases.")
    failure = verdict.failure
    grids: list[Grid] = []
    if failure:
        label = "The simplest case found that fails" if failure.ran.kind != STOPPED else "The case"
        lines.append(f"{label}: {call_text(exercise.name, failure)}")
        grids = failure_grids(failure)
        result, says = short(failure.ran.value), failure.mismatch.says[:LINE]
        if result and says.startswith(f"{result} "):
            lines.append(f"Yours returned {result}, which {says.removeprefix(f'{result} ')}")
        elif result and not says.startswith("it "):
            lines.append(f"Yours returned {result}: {says}")
        else:
            lines.append(f"Yours: {says}")
        if exercise.property:
            lines.append(f"What must hold: {exercise.property}")
    after = [*_asides(verdict), f"`hint.{exercise.name}()` helps further."]
    return Card(f"{head} (0 of {worth})", sign, colour, lines, grids, after)


def _asides(verdict: Verdict) -> list[str]:
    """Mention what the answer printed or warned of."""
    lines = []
    if verdict.printed:
        first = verdict.printed.strip().split("\n")[0][:80]
        lines.append(f"It also printed (“{first}”, on the first case tried); what counts is the value it returns.")
    if verdict.warned:
        first = verdict.warned.strip().split("\n")[0][:120]
        lines.append(f"A warning was given while it ran: “{first}”.")
    return lines


def call_text(name: str, failure: Failure) -> str:
    """Write the call so that it can be pasted: `scale(image, factor=3)`; what is drawn as a grid by its name alone."""

    def argument(key: str, value: Any) -> str:
        text = short(value)
        if not isinstance(value, torch.Tensor):
            return f"{key}={text}"
        dtype = ", dtype=torch.float64" if value.dtype is torch.float64 else ""
        return f"{key}=torch.tensor({text}{dtype})"

    arguments = ", ".join(argument(k, v) if short(v) else k for k, v in failure.case.items())
    return f"`{name}({arguments})`"


def short(value: Any) -> str:
    """Write a value in one line; empty if it holds what is better drawn as a grid.

    It takes no longer for a large value than for a small one: what comes after `LINE` characters is not looked at.
    """
    text = ""
    for piece in _pieces(value, LEVELS):
        if not piece:
            return ""
        text += piece
        if len(text) > LINE:
            return text[:LINE] + "…"
    return text


def _pieces(value: Any, levels: int) -> Iterator[str]:
    """Yield the pieces of a value's line; an empty one for a tensor that is better drawn."""
    if isinstance(value, torch.Tensor):
        yield _row(value)
    elif isinstance(value, (list, tuple, dict)) and levels:
        brackets = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
        yield brackets[0]
        for number, part in enumerate(value):
            if number:
                yield ", "
            if isinstance(value, dict):
                yield f"{written(part)}: "
                part = value[part]
            yield from _pieces(part, levels - 1)
        yield ("," if len(value) == 1 and isinstance(value, tuple) else "") + brackets[1]
    else:
        yield _leaf(value)


def _row(value: torch.Tensor) -> str:
    """Write a tensor of no or one axis, if it is short; empty for others."""
    if not is_ordinary(value):
        return describe_type(value)
    if value.ndim > 1 or value.numel() > SMALL:
        return ""
    cells = [_number(v, _step(value)) for v in value.flatten().tolist()]
    return f"[{', '.join(cells)}]" if value.ndim else cells[0]


def _leaf(value: Any) -> str:
    """Write a value that is no tensor and whose parts are not written."""
    plain = isinstance(value, (str, numbers.Real, list, tuple, dict, set, frozenset))
    if plain or type(value).__repr__ is object.__repr__ or (isinstance(value, np.ndarray) and value.size > SMALL):
        return written(value)
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _number(value: float, step: float, digits: int = 6) -> str:
    """Write a number; one that only looks round, such as 0.75 less a millionth, with the digits that show it.

    What lies within 256 steps of the dtype is left round: to the comparison it is the same number.
    """
    if not isinstance(value, float):
        return str(value)
    if value.is_integer() and abs(value) < 2**53:
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    shown = sum(c.isdigit() for c in text.split("e")[0].lstrip("-0."))
    if shown > digits // 2 or not math.isfinite(value):
        return text
    longer = (f"{value:.{d}g}" for d in range(digits, 18))
    return next(t for t in longer if abs(float(t) - value) <= 256 * step * abs(value))


def _step(value: torch.Tensor) -> float:
    """Return the distance from 1 to the next number of a tensor's dtype; 0 for whole numbers."""
    return torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0


def failure_grids(failure: Failure) -> list[Grid]:
    """Draw the tensors of a failing case: inputs, then the answer with its wrong entries marked."""
    value, mismatch = failure.ran.value, failure.mismatch
    where = mismatch.where
    for key in mismatch.part:
        value = value[key]
    if isinstance(value, (tuple, list, dict)) and where is not None:
        parts = value.values() if isinstance(value, dict) else value
        value = next((p for p in parts if isinstance(p, torch.Tensor) and p.shape == where.shape), None)
    first = () if where is None or not bool(where.any()) else tuple(where.nonzero()[0].tolist()[:-2])
    grids = []
    for name, given in failure.case.items():
        if isinstance(given, torch.Tensor) and not short(given):
            grids += [grid_of(name, given, index=index) for index in planes_of(given)]
        elif isinstance(given, (list, tuple)) and not short(
            given
        ):  # of each tensor in it one plane, the one that the answer gets wrong
            tensors = {i: one for i, one in enumerate(given) if isinstance(one, torch.Tensor) and one.ndim}
            grids += [grid_of(f"{name}[{i}]", one, index=_plane_at(one, first)) for i, one in tensors.items()]
    drawable = isinstance(value, torch.Tensor) and value.device.type != "meta" and value.ndim > 0
    if drawable and (not short(value) or where is not None):
        grids.append(grid_of(mismatch.called, value, where))
    return grids


def _plane_at(value: torch.Tensor, index: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the index if the tensor has such a plane."""
    leading = value.shape[:-2]
    return index if len(index) == len(leading) and all(i < n for i, n in zip(index, leading)) else None


def planes_of(value: torch.Tensor) -> list[tuple[int, ...]]:
    """Return the indices of the planes to draw: all of a small stack, the first of a large one."""
    leading = value.shape[:-2]
    if math.prod(leading) > PLANES or 0 in value.shape:
        return [(0,) * len(leading)]
    return list(itertools.product(*map(range, leading)))


def grid_of(
    name: str, value: torch.Tensor, wrong: torch.Tensor | None = None, index: tuple[int, ...] | None = None
) -> Grid:
    """Draw a tensor as a grid: its last two axes, at an index of the others (by default the first, or first wrong)."""
    value = value.detach().cpu()
    value = value.to_dense() if value.layout != torch.strided else value
    wrong = torch.zeros(value.shape, dtype=torch.bool) if wrong is None or wrong.shape != value.shape else wrong
    shape = tuple(value.shape)
    if index is None:
        index = tuple(wrong.nonzero()[0].tolist()[:-2]) if bool(wrong.any()) else (0,) * max(value.ndim - 2, 0)
    if 0 in shape:
        return Grid(f"{name}, shape {shape}: empty", [], [])
    value, wrong = value[index], wrong[index]
    if value.ndim == 1:
        value, wrong = value[None], wrong[None]
    cut = [
        f"first {most} of {length} {what}"
        for length, most, what in zip(value.shape, GRID, ("rows", "columns"))
        if length > most
    ]
    value, wrong = value[: GRID[0], : GRID[1]], wrong[: GRID[0], : GRID[1]]
    place = f", at [{', '.join(map(str, index))}]" if index else ""
    step, marks = _step(value), wrong.tolist()
    rows = [[_number(v, step if w else 1.0, 4) for v, w in zip(*row)] for row in zip(value.tolist(), marks)]
    title = f"{name}, shape {shape}{place}" + (f" ({', '.join(cut)})" if cut else "")
    return Grid(title, rows, marks)
