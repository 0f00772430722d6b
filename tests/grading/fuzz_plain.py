"""Feeds damaged messages to the judge's reader: only the errors that it promises may come, and none may cost much.

python tests/grading/fuzz_plain.py --minutes 10 [--seed N]

What breaks it is written to tests/grading/corpus_plain/, which the tests replay.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
import socket
import struct
import time
from pathlib import Path

import numpy as np
import torch

from segcourse.exercises.compare import agree, describe_type
from segcourse.exercises.guard import Ran
from segcourse.grading import child, plain

CORPUS = Path(__file__).parent / "corpus_plain"
SECONDS = 5.0
"""A message that takes longer is a finding."""
VALUES = [
    None,
    True,
    7,
    -1.5,
    float("nan"),
    "text \u00e9 \ud800",
    ...,
    [1, (2, {3}), {"a": [None]}],
    frozenset({(1, 2)}),
    torch.arange(6.0).reshape(2, 3),
    torch.tensor([True, False]),
    torch.tensor(1.5, dtype=torch.bfloat16),
    np.ones((2, 2), np.uint16),
    object(),
]
EXPECTED = [7, 1.5, True, "x", [1, 2], {"a": 1}, torch.ones(2, 3), torch.tensor([True]), None]
SCRAPS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"\0",
        b"\xff",
    ),
    *(
        b"9" * 400,
        b"9" * 5000,
        b"-1",
        b"0.5",
        b'"\\ud800"',
        b"[" * 3000,
        b'{"list":[' * 60,
        b'{"tensor":',
        b'{"array":',
    ),
    *(b'["float32",[2],"AAAAAAAAAAA="]', b'["bool",[],"Aw=="]', b'["int8",[0,1099511627775],""]', b'{"other":"x"}'),
    *(b'{"set":[1,1]}', b'{"dict":[[1,2]]}', b'{"dots":0}', b'"kind":"timeout",', b'"problem":null,', b'"number":1,'),
]


def message_of(value: object) -> bytes:
    """An honest reply with this value, as JSON."""
    reply = child.as_plain(Ran(value=value, printed="x"))
    return json.dumps({"number": 1, "ran": [reply]}).encode("utf-8", "replace")


def bases() -> list[bytes]:
    """Honest replies and what broke the reader before."""
    return [*map(message_of, VALUES), *(path.read_bytes() for path in sorted(CORPUS.iterdir()))]


def framed(data: bytes) -> bytes:
    """A message with its length before it."""
    return struct.pack(">I", len(data)) + data


def mutated(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Damage a message in up to five ways."""
    for _ in range(rng.randint(1, 5)):
        begin, length = rng.randint(0, len(data)), rng.randint(0, 30)
        what = rng.randrange(6)
        if what == 0:
            data = data[:begin] + data[begin + length :]
        elif what == 1:
            data = data[:begin] + rng.choice(SCRAPS) + data[begin:]
        elif what == 2:
            data = data[:begin] + rng.choice(SCRAPS) + data[begin + length :]
        elif what == 3:
            data = data[:begin] + bytes([rng.randrange(256)]) + data[begin + 1 :]
        elif what == 4:
            other = rng.choice(others)
            place = rng.randint(0, len(other))
            data = data[:begin] + other[place : place + rng.randint(0, 200)] + data[begin:]
        else:
            data = data[:begin] + data[begin : begin + length] * rng.randint(2, 50) + data[begin:]
    return data


ODD = [
    *(None, True, 0, -1, 2**62, 10**400, 1.5, float("nan"), "", "x", "float32", "bool", "AAAA", [], [[]], [1, 2], {}),
    *({"list": []}, {"tuple": [1]}, {"set": [[1]]}, {"dict": [[1, 2]]}, {"dots": 0}, {"other": "x"}, {"tensor": []}),
    *({"array": ["uint16", [2], "AAAAAA=="]}, {"tensor": ["bool", [], "Aw=="]}, {"tensor": ["int8", [0, 2**39], ""]}),
]


def rebuilt(data: bytes, rng: random.Random) -> bytes:
    """Put odd values in some places of a message that is JSON otherwise."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.randint(1, 3)):
        place = message
        while isinstance(place, (dict, list)) and place:
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
            if rng.random() < 0.2 or not isinstance(place[key], (dict, list)):
                place[key] = copy.deepcopy(rng.choice(ODD))
                break
            place = place[key]
    return json.dumps(message).encode("utf-8", "replace")


def try_bytes(sent: bytes) -> str:
    """Read these bytes as the judge does; return how far they came.

    Raises:
        Exception: whatever the reader does not promise: a finding.
        AssertionError: if it took too long: a finding.
    """
    began = time.process_time()
    here, there = socket.socketpair()
    try:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        there.setblocking(False)
        there.send(sent)
        there.close()
        came = read(here.fileno())
    finally:
        here.close()
    assert time.process_time() - began < SECONDS
    return came


def read(descriptor: int) -> str:
    """Read one message and look at its values as the judge does."""
    try:
        message = plain.receive(descriptor, 1.0)
    except (plain.ForgedError, plain.Ended, plain.Late) as error:
        return type(error).__name__
    replies = message.get("ran")
    came = "message"
    for reply in replies if type(replies) is list else []:
        try:
            ran = child.as_ran(reply)
        except plain.ForgedError:
            came = "forged value"
            continue
        came = "value"
        describe_type(ran.value)
        for expected in EXPECTED:
            agree(expected, ran.value)
    return came


def main() -> None:
    """Fuzz for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    rng, known = random.Random(options.seed), bases()
    end, tried, came = time.monotonic() + 60 * options.minutes, 0, dict[str, int]()
    while time.monotonic() < end:
        data = rng.choice(known)
        data = rebuilt(data, rng) if rng.random() < 0.5 else mutated(data, rng, known)
        sent = framed(data) if rng.random() < 0.95 else data
        try:
            how = try_bytes(sent)
        except BlockingIOError:
            continue  # longer than the socket holds
        except Exception as error:
            name = hashlib.sha256(data).hexdigest()[:12]
            (CORPUS / name).write_bytes(data)
            print(f"{name}: {type(error).__name__}: {error}")
            how = "FOUND"
        came[how] = came.get(how, 0) + 1
        tried += 1
    print(f"seed {options.seed}: {tried} messages; {came}")


if __name__ == "__main__":
    main()
