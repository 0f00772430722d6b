"""What cards show of values: the numbers as they are, and of huge values the beginning, in no time."""

import time
from typing import Any

import numpy as np
import pytest
import torch

from segcourse.exercises import lesson
from segcourse.exercises.compare import agree
from segcourse.exercises.guard import Ran
from segcourse.exercises.judge import Failure, Outcome, Verdict, mismatch_of, truth
from segcourse.exercises.render import LINE, grid_of, short, verdict_card


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (7, "7"),
        (7.0, "7"),
        (16777217.0, "16777217"),
        (1 / 3, "0.3333333"),
        (True, "True"),
        (None, "None"),
        ("a'b", '"a\'b"'),
        ([], "[]"),
        ((), "()"),
        ((1,), "(1,)"),
        ([(3, 2), "x", None], "[(3, 2), 'x', None]"),
        ({"a": 0.5, "b": (1, 2)}, "{'a': 0.5, 'b': (1, 2)}"),
        (torch.tensor([1.0, 0.25]), "[1, 0.25]"),
        (torch.tensor([16777216.0]), "[16777216]"),
        (torch.tensor(3), "3"),
        ({"a": torch.ones(2, 2)}, ""),
        ([torch.zeros(13)], ""),
        (torch.ones(2).to_sparse(), "a float32 tensor of shape (2,)"),
        (torch.empty(2, device="meta"), "a float32 tensor of shape (2,)"),
        (np.array([1, 2]), "array([1, 2])"),
        (object(), "an object"),
        (range(3), "range(0, 3)"),
    ],
)
def test_values_in_a_line(value: Any, line: str) -> None:
    assert short(value) == line


def test_whole_numbers_in_a_grid_are_whole() -> None:
    grid = grid_of("x", torch.tensor([[16777217.0, 123456.0, 0.12345, -0.5]], dtype=torch.float64))
    assert grid.rows == [["16777217", "123456", "0.1235", "-0.5"]]


def test_what_differs_is_seen_on_the_card() -> None:
    exercise = next(e for e in lesson("09_metrics").exercises if e.name == "hausdorff_distance")
    case = exercise.draw_cases(0)[0]
    right = truth(exercise, exercise.reference, case).value
    for wrong in (right * (1 + 2e-6), 16777217.0, 2**999, float("nan")):
        mismatch = agree(right, wrong)
        assert mismatch is not None
        card = verdict_card(Verdict(exercise, Outcome.NOT_YET, 1, 1, None, Failure(case, Ran(wrong), mismatch)))
        assert any("Yours" in line and short(right) + " " not in line for line in card.lines)


def test_a_card_of_a_huge_value_takes_no_longer_than_of_a_small_one() -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    huge = [
        *(["s"] * 200_000, [[1]] * 200_000, [torch.ones(2)] * 200_000, ("x" * 10**6,) * 100, [2**999] * 50_000),
        *({torch.ones(1): i for i in range(20_000)}, {("k" * 1000, i): i for i in range(20_000)}, {"k" * 10**7: 1}),
        *({f"s{i}" for i in range(100_000)}, np.zeros((6,) * 7), np.zeros(10**6), "<`\n" * 10**6, endless, deep),
        *(torch.zeros(10**6), torch.zeros(0, 2**20, 2**20), torch.zeros([1] * 16), torch.zeros(2, 2).cfloat()),
    ]
    exercises = [e for e in lesson("02_transposed").exercises if e.name in ("transposed_size", "conv_transpose_1d")]
    began = time.process_time()
    for exercise in exercises:
        case = exercise.draw_cases(0)[0]
        expected = truth(exercise, exercise.reference, case)
        for value in huge:
            mismatch = mismatch_of(exercise, expected, Ran(value))
            assert mismatch is not None
            failure = Failure(case, Ran(value), mismatch)
            card = verdict_card(Verdict(exercise, Outcome.NOT_YET, 1, 1, None, failure))
            assert len(card.text()) < 10 * LINE
            assert len(short(value)) <= LINE + 1
    assert time.process_time() - began < 1
