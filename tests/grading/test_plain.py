"""What passes between judge and submissions: round trips, promises kept on any bytes, and what they may cost."""

from __future__ import annotations

import enum
import json
import math
import os
import random
import socket
import sys
import threading
import time
import tracemalloc
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcourse.exercises.compare import agree
from segcourse.grading import child, plain

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_plain

NUMBERS = st.one_of(st.integers(-(2**200), 2**200), st.floats(allow_nan=False), st.booleans(), st.none())
KEYS = st.recursive(st.one_of(NUMBERS, st.text()), lambda inner: st.tuples(inner, inner), max_leaves=4)
PLAIN = st.recursive(
    st.one_of(KEYS, st.just(...), st.sets(KEYS), st.frozensets(KEYS)),
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(KEYS, inner)),
    max_leaves=20,
)
DTYPES = [*plain._TENSORS.values()]


def round_trip(value: Any) -> Any:
    """What the judge gets of a value."""
    return plain.decode(json.loads(json.dumps(plain.encode(value))))


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=4), st.sampled_from(DTYPES), st.integers(0, 99))
def test_tensors_come_back_to_the_bit(shape: list[int], dtype: torch.dtype, seed: int) -> None:
    values = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 9).to(dtype)
    back = round_trip(values)
    assert back.dtype == dtype
    assert back.shape == values.shape
    assert torch.equal(back, values)


@pytest.mark.parametrize("name", plain._ARRAYS)
def test_arrays_come_back(name: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(name)[:, ::2]
    back = round_trip(values)
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "object"),
        (1j, "complex"),
        (b"x", "bytes"),
        (range(3), "range"),
        (torch.eye(2).to_sparse(), "sparse_coo float32 tensor"),
        (torch.empty(2, device="meta"), "strided float32 tensor"),
        (10**400, "whole number of very many digits"),
        (type("<b>x</b>" + "y" * 999, (), {})(), "bxb" + "y" * 57),
    ],
)
def test_what_is_not_plain_passes_by_name_alone(value: Any, name: str) -> None:
    assert type(round_trip(value)).__name__ == name


def test_keys_that_are_not_plain_pass_as_keys_that_equal_nothing() -> None:
    plain_keys = {None: 1, True: 2, 2.5: 3, "x": 4, (1, ("y", None)): 5}
    assert round_trip(plain_keys) == plain_keys
    assert round_trip({np.int64(7): 1, np.str_("x"): 2}) == {7: 1, "x": 2}
    assert round_trip({np.int64(7), np.bool_(False)}) == {7, False}
    odd = {torch.ones(2): 1, frozenset({1}): 2, 1j: 3, (1, torch.ones(2)): 4}
    assert [*round_trip(odd).values()] == [1, 2, 3, 4]
    assert round_trip(odd) != odd
    assert round_trip({frozenset({1})}) != {frozenset({1})}


class Small(enum.IntEnum):
    TWO = 2


class Word(enum.StrEnum):
    A = "a"


Pair = namedtuple("Pair", "first second")
ONES = torch.ones(2)
ALIKE = [
    (2, [Small.TWO, np.int8(2), np.longdouble(2), Fraction(2), Decimal(2), np.complex64(2), torch.tensor(2.0).half()]),
    (2, [np.array(2), np.array(2, dtype=object), np.array([2]), np.array(np.longdouble(2)), torch.tensor([2]), 2 + 0j]),
    (2, [torch.tensor(2.0, requires_grad=True), torch.tensor(2, device="meta"), torch.tensor(2, dtype=torch.uint16)]),
    ("a", [Word.A, np.str_("a"), b"a", np.array("a"), np.array(["a"])]),
    ([1, 2], [range(1, 3), iter([1, 2]), {1: 0, 2: 0}.keys(), deque([1, 2]), torch.Size([1, 2]), Pair(1, 2), {1, 2}]),
    ([1, 2], [np.array([1, 2], dtype=kind) for kind in (object, ">i4", np.longdouble, np.uint8, "S1", "U1", bool)]),
    ([1, 2], [torch.tensor([1, 2], dtype=torch.uint32), torch.tensor([1, 2], device="meta"), np.array([[1, 2]])]),
    ({"a": 1}, [OrderedDict(a=1), Counter("a"), MappingProxyType({"a": 1}), {np.str_("a"): np.int64(1)}, {Word.A: 1}]),
    ({1: 2}, [{np.int64(1): 2}, {1.0: 2}, {True: 2}, {torch.tensor(1): 2}, {Fraction(1): 2}]),
    (ONES, [ONES.double(), torch.nn.Parameter(ONES), ONES.half(), ONES.bfloat16(), ONES.to_sparse(), ONES.numpy()]),
    (ONES, [ONES.to("meta"), ONES.cfloat().conj().real, ONES[:1].expand(2), ONES.long(), ONES.to(torch.uint64)]),
    (ONES.long(), [ONES.int(), ONES.to(torch.uint16), ONES.bool(), [1, 1]]),
    (True, [np.bool_(True), torch.tensor(True), np.array(True), np.array(True, dtype=object), 1]),
]


@pytest.mark.parametrize(("expected", "answers"), ALIKE)
def test_odd_kinds_of_values_are_judged_as_in_the_notebook(expected: Any, answers: list[Any]) -> None:
    for answer in answers:
        assert (agree(expected, answer) is None) == (agree(expected, round_trip(answer)) is None), answer


def test_what_is_too_large_or_too_deep_is_refused_before_it_is_sent() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    for value in (deep, torch.zeros(3 * 2**20)):
        with pytest.raises(plain.TooLargeError):
            plain.encode(value)
    for value in ([0] * 300_000, "x" * 2**25, 10**5000):
        with pytest.raises(plain.TooLargeError):
            plain.send(os.open(os.devnull, os.O_WRONLY), {"ran": plain.encode(value)})


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"list": [], "tuple": []},
        {"pickle": "gASVAA=="},
        {"list": 5},
        {"dict": [[1]]},
        {"dict": [[{"list": []}, 1]]},
        {"set": [{"dict": []}]},
        {"set": [n * (2**61 - 1) for n in range(1000)]},
        {"dict": [[n * (2**61 - 1), 0] for n in range(1000)]},
        {"tensor": ["float32", [2], "AAAA"]},
        {"tensor": ["float32", [-1], ""]},
        {"tensor": ["float32", [2**39, 2**39, 2**39], ""]},
        {"tensor": ["float32", [True], "AAAAAA=="]},
        {"tensor": ["float32", [1.0], "AAAAAA=="]},
        {"tensor": ["object", [1], "AAAAAA=="]},
        {"tensor": ["quint8", [4], "AAAAAA=="]},
        {"dict": [[{"tensor": ["float32", [1], "AAAAAA=="]}, 1]]},
        {"set": [{"tuple": [1, {"tensor": ["float32", [1], "AAAAAA=="]}]}]},
        {"set": [{"frozenset": [1]}]},
        {"dict": [[{"dots": 0}, 1]]},
        {"tensor": ["float32", [1], "AA AA AA=="]},
        {"array": ["bfloat16", [1], "AAA="]},
        {"other": 5},
        [1, 2],
    ],
    ids=lambda data: str(data)[:40],
)
def test_forged_values_are_told(data: Any) -> None:
    with pytest.raises(plain.ForgedError):
        plain.decode(data)


def test_a_bool_is_true_or_false() -> None:
    value = plain.decode({"tensor": ["bool", [2], "AwA="]})
    assert value.view(torch.uint8).tolist() == [1, 0]


# --- what the judge survives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", fuzz_plain.bases(), ids=range(len(fuzz_plain.bases())))
def test_honest_messages_and_the_corpus_are_read(data: bytes) -> None:
    fuzz_plain.try_bytes(fuzz_plain.framed(data))


def test_any_damage_is_survived() -> None:
    rng, known = random.Random(1), fuzz_plain.bases()
    came = [fuzz_plain.try_bytes(fuzz_plain.framed(fuzz_plain.rebuilt(rng.choice(known), rng))) for _ in range(400)]
    came += [
        fuzz_plain.try_bytes(fuzz_plain.framed(fuzz_plain.mutated(rng.choice(known), rng, known))) for _ in range(400)
    ]
    assert {"ForgedError", "forged value", "value"} <= set(came)  # the damage is of every degree


COSTLY = {
    "lists": b'{"list":[]}',
    "objects": b'{"other":"a"}',
    "dicts": b'{"dict":[[1,{"list":[1,2]}]]}',
    "tensors": b'{"tensor":["int8",[0],""]}',
    "large numbers": b"9" * 300,
    "empty texts": b'""',
}


@pytest.mark.parametrize("one", COSTLY.values(), ids=COSTLY)
def test_no_message_costs_much(one: bytes) -> None:
    count = min(
        plain.MESSAGE_BYTES // (len(one) + 1),
        4 * (plain.PARTS - 10) // (1 + one.count(b"[") + one.count(b"{") + one.count(b",")),
    )
    data = b'{"number":1,"ran":[{"kind":"returned","value":{"list":[' + b",".join([one] * (count - 10)) + b"]}}]}"
    here, there = socket.socketpair()
    sender = threading.Thread(target=lambda: there.sendall(fuzz_plain.framed(data)))
    sender.start()
    began = time.process_time()
    ran = child.as_ran(plain.receive(here.fileno(), 60)["ran"][0])
    taken = time.process_time() - began
    sender.join()
    here.close()
    there.close()
    assert len(ran.value) == count - 10
    assert taken < 10
    part = b'{"kind":"returned","value":{"list":[' + b",".join([one] * (count // 20)) + b"]}}"
    tracemalloc.start()
    kept = child.as_ran(json.loads(part))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept.value) == count // 20
    assert 20 * peak < 400 * 2**20


def test_keys_that_collide_cost_no_more_than_others() -> None:
    tuples = [{"tuple": [n * (2**61 - 1), 1]} for n in range(20_000)]
    began = time.process_time()
    with pytest.raises(plain.ForgedError):
        plain.decode({"set": tuples})
    assert time.process_time() - began < 2


# --- time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.setblocking(False)
    yield here, there
    here.close()
    there.close()


def test_a_message_that_comes_byte_by_byte_is_late(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    stop = threading.Event()

    def drip() -> None:
        there.send(b"\0\0\1\0")
        while not stop.wait(0.02):
            there.send(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    with pytest.raises(plain.Late):
        plain.receive(here.fileno(), 0.5)
    stop.set()
    thread.join()
    assert 0.4 < time.monotonic() - began < 3


def test_a_question_that_nobody_reads_is_late(ends: tuple[socket.socket, socket.socket]) -> None:
    began = time.monotonic()
    with pytest.raises(plain.Late):
        plain.send(ends[0].fileno(), {"x": "y" * 2**22}, 0.5)
    assert 0.4 < time.monotonic() - began < 3


def test_the_end_of_the_other_side_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    there.send(b"\0\0\1\0half")
    there.close()
    with pytest.raises(plain.Ended):
        plain.receive(here.fileno(), 5)
    with pytest.raises(plain.Ended):
        plain.send(here.fileno(), {"x": 1}, 5)


def test_texts_come_back_without_halves_of_characters() -> None:
    assert plain.decode("a\ud800") == "a\\ud800"
    assert math.isnan(round_trip(math.nan))
