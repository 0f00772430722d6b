"""Submissions of lesson 01, made from the released notebook: right, wrong in known ways, starters, mixed."""

from __future__ import annotations

import json
import random
import textwrap
from pathlib import Path

from segcourse import exercises

LESSON = "01_receptive_field"
RELEASED = Path(__file__).resolve().parents[2] / "lessons" / f"{LESSON}.ipynb"
EXERCISES = {exercise.name: exercise for exercise in exercises.lesson(LESSON).exercises}
POINTS = sum(exercise.points for exercise in EXERCISES.values())

BACKWARDS = """\
size = output_size
for kernel, stride in reversed(layers):
    size = {}
return size"""
CENTRE = """\
centre = position
for kernel, stride, padding in reversed(layers):
    centre = {}
return centre"""
BLOCK = """\
field, jump = 1, 1
for kernel, stride, padding, dilation in {}:
    field += (kernel - 1) * dilation * jump
    jump *= stride
return field"""
PIXELS = """\
seen = {{position}}
for kernel, stride, padding, dilation in {}:
    seen = {{unit * stride {} + tap{} for unit in seen for tap in range(kernel)}}
return sorted(seen)"""

WRONG = {
    "compound_kernel": {
        "adds_kernels": "return kernel_1 + kernel_2",
        "forgets_stride": "return kernel_1 + kernel_2 - 1",
        "swaps_layers": "return (kernel_1 - 1) * stride_1 + kernel_2",
    },
    "compound_stride": {
        "adds_strides": "return sum(strides)",
        "last_stride": "return strides[-1]",
        "largest_stride": "return max(strides)",
    },
    "input_size": {
        "walks_forwards": BACKWARDS.format("stride * (size - 1) + kernel").replace("reversed(layers)", "layers"),
        "strides_every_output": BACKWARDS.format("stride * size + kernel"),
        "forgets_kernel": BACKWARDS.format("stride * size"),
    },
    "field_centre": {
        "half_kernel": CENTRE.format("centre * stride - padding + kernel / 2"),
        "forgets_padding": CENTRE.format("centre * stride + (kernel - 1) / 2"),
        "first_pixel": CENTRE.format("centre * stride - padding"),
    },
    "receptive_field": {
        "adds_kernels": "return sum(kernel for kernel, _, _, _ in layers)",
        "forgets_strides": "return 1 + sum((kernel - 1) * dilation for kernel, _, _, dilation in layers)",
    },
    "block_field": {
        "first_branch_alone": BLOCK.format("stem + branches[0]"),
        "chains_branches": BLOCK.format("stem + [layer for branch in branches for layer in branch]"),
    },
    "pixels_seen": {
        "walks_forwards": PIXELS.format("layers", "- padding", " * dilation"),
        "forgets_dilation": PIXELS.format("reversed(layers)", "- padding", ""),
        "forgets_padding": PIXELS.format("reversed(layers)", "", " * dilation"),
    },
}
"""By exercise and misconception: the body of a function that makes this mistake."""


def notebook(answers: dict[str, str]) -> bytes:
    """The released notebook with these answers: `right`, the id of a misconception, or a function's body."""
    cells = json.loads(RELEASED.read_bytes())
    for cell in cells["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name in answers:
            cell["source"] = answer(name, answers[name])
    return json.dumps(cells).encode()


def answer(name: str, kind: str) -> str:
    """An answer's source."""
    right = EXERCISES[name].solution
    if kind == "right":
        return right
    return right.splitlines()[0] + "\n" + textwrap.indent(WRONG[name].get(kind, kind), "    ")


def right() -> dict[str, str]:
    """The answers of a solved notebook."""
    return dict.fromkeys(EXERCISES, "right")


def a_class(count: int, seed: int = 0) -> dict[str, dict[str, str]]:
    """Answers by student: a fifth solved, an eighth untouched, the others right, wrong and unanswered as it comes."""
    draw = random.Random(seed)
    students = {}
    for number in range(count):
        answers = {}
        for name, wrong in WRONG.items():
            kind = draw.choices(["right", draw.choice(sorted(wrong)), ""], [6, 3, 1])[0]
            answers |= {name: kind} if kind else {}
        kind = draw.choices([right(), {}, answers], [8, 5, 27])[0]
        students[f"student{number:03}"] = kind
    return students


def expected(answers: dict[str, str]) -> int:
    """The points that these answers deserve."""
    return sum(EXERCISES[name].points for name, kind in answers.items() if kind == "right")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be asked does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def family(pid: int) -> set[int]:
    """A process and all that descend from it."""
    found, new = {pid}, [pid]
    while new:
        for path in Path(f"/proc/{new.pop()}/task").glob("*/children"):
            try:
                children = {int(word) for word in path.read_text().split()}
            except OSError:  # it has ended
                continue
            new += children - found
            found |= children
    return found
