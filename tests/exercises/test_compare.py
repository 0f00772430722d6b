"""Right answers are not rejected over taste; wrong ones are told why."""

import math

import numpy as np
import pytest
import torch

from segcourse.exercises.compare import agree, agree_parts

SAME = [
    (7, 7),
    (7, 7.0),
    (7, np.int64(7)),
    (7, torch.tensor(7)),
    (0.1 + 0.2, 0.3),
    (2.5, np.float32(2.5)),
    (math.nan, math.nan),
    (True, np.bool_(True)),
    ((1, 2), [1, 2]),
    ((1, 2), torch.Size([1, 2])),
    ([1.5, 2.0], np.array([1.5, 2.0])),
    ({"a": (1, 2)}, {"a": [1, 2]}),
    ("same", "same"),
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-6])),
    (torch.tensor([1.0], dtype=torch.float64), torch.tensor([1.0 + 1e-6])),
    (torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0])),
    (torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32)),
    (torch.zeros(0, 3), torch.zeros(0, 3)),
    (torch.tensor([1.0, 3.0]), torch.tensor([1.0, 3.01], dtype=torch.bfloat16)),
]
OTHER = [
    (7, 8, "too large"),
    (7, 6.5, "too small"),
    (10**17, 10**17 + 1, "too large"),
    (7, True, "a bool"),
    (7, "7", "a string"),
    (7, None, "return"),
    (7, math.nan, "not a number"),
    (math.nan, 7, "nan"),
    (True, 1, "True or False"),
    ((1, 2), (1, 3), "value 1"),
    ((1, 2), (1, 2, 3), "3 values"),
    ((1, 2), 3, "a whole number"),
    ({"a": 1}, {"b": 1}, "'b'"),
    ({"a": 1}, {"a": 2}, "a: 2"),
    ("same", "other", "not right"),
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]), "1 of 2"),
    (torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0]]), "shape"),
    (torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), "int64"),
    (torch.tensor([True]), torch.tensor([1]), "int64"),
    (torch.tensor([1.0]), torch.tensor([math.nan]), "1 of 1"),
    (torch.tensor([1.0]), [1.0], "a list"),
    (torch.tensor([1.0]), torch.zeros(1, dtype=torch.bfloat16), "1 of 1"),
    (torch.tensor([0.25, 1.0]), torch.tensor([0.3, 1.0], dtype=torch.float16), "1 of 2"),
    (torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]).to_sparse(), "to_dense"),
]


@pytest.mark.parametrize(("expected", "got"), SAME)
def test_same(expected, got) -> None:
    assert agree(expected, got) is None


@pytest.mark.parametrize(("expected", "got", "said"), OTHER)
def test_other(expected, got, said: str) -> None:
    mismatch = agree(expected, got)
    assert mismatch is not None
    assert said in mismatch.says


def test_tolerance_comes_from_the_dtype() -> None:
    exact = torch.tensor([1.0, 100.0], dtype=torch.float64)
    assert agree(exact, exact + 1e-4) is not None
    assert agree(exact, (exact + 1e-4).float()) is None  # within what float32 can tell
    assert agree(exact, (exact + 1e-1).float()) is not None


def test_parts_are_called_by_their_names() -> None:
    values, indices = torch.zeros(1, 2), torch.tensor([[4, 3]])
    assert agree_parts((values, indices), [values, indices], ("values", "indices")) is None
    mismatch = agree_parts((values, indices), (values, indices + 1), ("values", "indices"))
    assert mismatch is not None
    assert mismatch.says.startswith("indices: 2 of 2 values are not right")
    assert (mismatch.part, mismatch.called) == ((1,), "your indices")


def test_a_wrong_part_is_led_to_by_numbers_and_keys() -> None:
    ones = torch.ones(2)
    mismatch = agree({"a": (ones, ones)}, {"a": (ones, ones * 2)})
    assert mismatch is not None
    assert mismatch.says.startswith("a: value 1 (counted from 0): 2 of 2")
    assert (mismatch.part, mismatch.called) == (("a", 1), "yours['a'][1]")
