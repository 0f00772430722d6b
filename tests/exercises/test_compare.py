"""Right answers are not rejected over taste; wrong ones are told why."""

import enum
import math
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from segcourse.exercises.compare import agree, agree_parts, written_number


class Small(enum.IntEnum):
    SEVEN = 7


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
    (torch.tensor([1.0, 3.0], dtype=torch.bfloat16), torch.tensor([1.0, 3.01], dtype=torch.bfloat16)),
    (torch.tensor([1.0, 3.0]), torch.nn.Parameter(torch.tensor([1.0, 3.0]))),
    (7, Small.SEVEN),
    (7, np.array(7, dtype=object)),
    (7, Fraction(7)),
    (0.5, Fraction(1, 2)),
    (0.5, np.longdouble(0.5)),
    ([1.5, 2.0], torch.tensor([1.5, 2.0], requires_grad=True)),
    (["a", "b"], np.array(["a", "b"])),
    ("same", np.str_("same")),
    ("same", np.array("same")),
    (np.array([1, 2]), np.array([1, 2])),
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
    (torch.tensor([1.0]), torch.ones(1, dtype=torch.bfloat16), "bfloat16, which keeps too few digits; float32 was"),
    (torch.tensor([0.25, 1.0]), torch.tensor([0.3, 1.0], dtype=torch.float16), "its dtype is float16"),
    (torch.tensor([0.25], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float16), "float64 was expected"),
    (torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]).to_sparse(), "to_dense"),
    (torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.uint16), "uint16"),
    (7, torch.empty((), device="meta"), "a number was expected"),
    ([1, 2], torch.empty(2, device="meta"), "a sequence of 2"),
    (0.5, 10**400, "a whole number of about 400 digits is too large"),
    (10**400, 0.5, "0.5 is too small"),
    (math.inf, 10**400, "too small"),
    (math.nan, 10**400, "nan was expected"),
    (16777217.25, 16777300, "16777300 is too large"),
    (16777217, 16777300.0, "16777300 is too large"),
    (0.3, 0.3000004, "0.3000004 is too large"),
    (1 / 3, Fraction(2, 3), "0.6666667 is too large"),
    (0.0, -0.001, "-0.001 is too small"),
    (np.array([1, 2]), np.array([1, 3]), "not right"),
    (np.array([1, 2]), np.array([1, 2, 3]), "not right"),
    ("same", np.array(["same"]), "a string was expected"),
    (np.array([1, 2]), [1, 2], "NumPy array of shape (2,) was expected"),
    ("same", "o" * 10**6, "ooo'… is not right"),
    ({"a": 1}, {torch.ones(9): 1, (1, 2): 2, "k" * 10**6: 3, 4.5: 4, True: 5}, "a tuple of 2, 'kkk"),
]


@pytest.mark.parametrize(("expected", "got"), SAME)
def test_same(expected, got) -> None:
    assert agree(expected, got) is None


@pytest.mark.parametrize(("expected", "got", "said"), OTHER)
def test_other(expected, got, said: str) -> None:
    mismatch = agree(expected, got)
    assert mismatch is not None
    assert said in mismatch.says
    assert len(mismatch.says) < 500


def test_tolerance_comes_from_the_dtype() -> None:
    exact = torch.tensor([1.0, 100.0], dtype=torch.float64)
    assert agree(exact, exact + 1e-4) is not None
    assert agree(exact, (exact + 1e-4).float()) is None  # within what float32 can tell
    assert agree(exact, (exact + 1e-1).float()) is not None


def test_half_precision_hides_no_mistake() -> None:
    right = torch.tensor([1.0, 2.0, 4.0])
    for wrong in (right * 1.005, right * 1.0001):
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            assert agree(right, wrong.to(dtype)) is not None
    assert agree(right, right.double()) is None
    assert agree(right.double(), right) is None


def test_what_differs_is_written_differently() -> None:
    for value in (1.0, 9.5, 1 / 3, 123456.7, 0.0025, 16777217.0, 1e15 + 1):
        for other in (value * (1 + 1.1e-6), value * (1 - 1.1e-6)):
            assert agree(value, other) is not None
            assert written_number(value) != written_number(other)
    assert [*map(written_number, (7.0, -0.0, 16777217.0, 2**70, 0.5, math.inf, math.nan))] == [
        "7", "-0", "16777217", "1180591620717411303424", "0.5", "inf", "nan",
    ]  # fmt: skip


def test_no_kind_of_value_stops_the_comparison() -> None:
    ones = torch.ones(2)
    odd = [
        *(torch.nested.nested_tensor([ones, torch.ones(3)]), ones.to_sparse(), torch.eye(2).to_sparse_csr()),
        *(torch.quantize_per_tensor(ones, 0.5, 0, torch.quint8), torch.empty((), device="meta"), ones.to(torch.uint64)),
        *(np.array([{}], dtype=object), np.ma.masked_array([1.0, 2.0], [True, False]), np.array("?"), np.complex64(1)),
        *(range(2), {}.keys(), iter([]), 1j, b"x", object(), Fraction(10**400), -(10**400), math.nan, {math.nan: 1}),
    ]
    for expected in (7, 0.5, True, "x", None, [1, 2], {"a": 1}, {1, 2}, ones, ones.long(), np.ones(2), object()):
        for got in odd:
            mismatch = agree(expected, got)
            assert mismatch is not None
            assert mismatch.says


def test_a_huge_value_takes_no_longer_than_a_small_one() -> None:
    huge = [
        {torch.ones(1): i for i in range(30_000)},
        {("k" * 1000, i): i for i in range(30_000)},
        {"k" * 10**7: 1},
        ["s"] * 10**6,
        "s" * 10**7,
        torch.zeros(10**7),
    ]
    began = time.process_time()
    for got in huge:
        for expected in (7, "x", [1, 2], {"a": 1}, torch.ones(2)):
            assert agree(expected, got) is not None
    assert time.process_time() - began < 0.5


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
