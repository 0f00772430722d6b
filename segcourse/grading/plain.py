"""Values as bytes and back: what passes between the judge and a process that runs a stranger's code.

Only plain data can pass: None, True, False, `...`, numbers, strings, lists, tuples, sets, dicts, tensors and arrays. No
pickle: bytes that come back can build nothing but these. What is something else passes by the name of its type alone.

A message is four bytes of length and JSON; a tensor's values stand in it as base64.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import numbers
import os
import re
import select
import struct
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence, Set
from typing import Any

import numpy as np
import torch

from segcourse.exercises.compare import is_ordinary

MESSAGE_BYTES = 16 * 2**20
"""The longest message that is read."""
PARTS = 200_000
"""The most values that a message may hold: a list of empty lists takes 30 times its length in memory."""
SAME_HASH = 50
"""The most keys of one hash: more slow a dict down, and nobody but an attacker finds more."""
BITS = 1_000
"""A whole number of more bits passes by name alone: no float can hold it, and comparisons expect that one can."""
DEPTH = 40

_TENSORS = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.complex64,
        torch.complex128,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.bool,
    )
}
_ARRAYS = {name: np.dtype(name) for name in _TENSORS if name != "bfloat16"}


class ForgedError(ValueError):
    """Bytes that no honest process sends: not the format, lying sizes, too deep, too many."""


class TooLargeError(ValueError):
    """A value that is larger than a message may be."""


class Ended(Exception):  # noqa: N818  # not an error of ours: the process at the other end is gone
    """The other end was closed."""


class Late(Exception):  # noqa: N818
    """Nothing came in time."""


# --- values to JSON and back ---------------------------------------------------------------------------------


def encode(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON's own kinds.

    Raises:
        TooLargeError: if it is nested deeper than `DEPTH`, or a tensor alone is longer than a message.
    """
    if depth > DEPTH:
        raise TooLargeError(f"it is nested deeper than {DEPTH} levels.")
    if value is None or isinstance(value, bool):
        return value
    if value is ... or value is NotImplemented:
        return {"dots": 0}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, torch.Tensor):
        return _encode_tensor(value)
    if isinstance(value, np.ndarray) and value.ndim <= 1 and str(value.dtype) not in _ARRAYS:
        return encode(value.tolist(), depth + 1)  # texts, objects: comparisons take a row of them for a list
    if isinstance(value, np.ndarray):
        return _encode_array("array", np.asarray(value), str(value.dtype), list(value.shape))
    for kind, name in ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset")):
        if isinstance(value, kind):
            inner = _encode_key if issubclass(kind, Set) else encode
            return {name: [inner(part, depth + 1) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode_key(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]}
    return {"other": type(value).__name__}


def _encode_key(value: Any, depth: int) -> Any:
    """Return a key as JSON's own kinds: a number, a text, None or a tuple of such; of others, the type's name."""
    if isinstance(value, tuple) and depth <= DEPTH:
        return {"tuple": [_encode_key(part, depth + 1) for part in value]}
    simple = value is None or isinstance(value, (str, np.bool_, numbers.Real))
    return encode(value, depth) if simple else {"other": type(value).__name__}


def _encode_tensor(value: torch.Tensor) -> Any:
    dtype = str(value.dtype).removeprefix("torch.")
    if not is_ordinary(value) or dtype not in _TENSORS:
        return {"other": f"{str(value.layout).removeprefix('torch.')} {dtype} tensor"}
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    raw = plain.view(torch.int16) if plain.dtype is torch.bfloat16 else plain  # NumPy has no bfloat16
    return _encode_array("tensor", raw.numpy(), dtype, list(value.shape))


def _encode_array(kind: str, values: np.ndarray[Any, Any], dtype: str, shape: list[int]) -> Any:
    if kind == "array" and dtype not in _ARRAYS:
        return {"other": "NumPy array of " + dtype}
    if not _possible(shape):
        return {"other": f"{kind} of an absurd shape"}
    if values.nbytes > MESSAGE_BYTES // 2:
        raise TooLargeError(f"it holds {values.nbytes / 2**20:.0f} MiB of numbers.")
    return {kind: [dtype, shape, base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()]}


def decode(data: Any, depth: int = 0) -> Any:
    """Return the value that `encode` made `data` of; every size in it is checked before it is believed.

    Raises:
        ForgedError: if `encode` cannot have made it.
    """
    if type(data) is str:
        return data.encode("utf-8", "backslashreplace").decode()  # halves of a character could not be written anywhere
    if type(data) is int and data.bit_length() > BITS:
        return _stand_in("whole number of very many digits")
    if data is None or type(data) in (bool, int, float):
        return data
    if type(data) is not dict or len(data) != 1 or depth > DEPTH + 1:
        raise ForgedError("not a plain value")
    kind, content = next(iter(data.items()))
    if kind == "dots":
        return ...
    if kind == "other" and type(content) is str:
        return _stand_in(content if depth == 0 else "object")
    if type(content) is not list:
        raise ForgedError("a kind of value without a list")
    if kind in ("tensor", "array"):
        return _decode_array(kind, content)
    try:
        if kind == "list":
            return [decode(part, depth + 1) for part in content]
        if kind == "tuple":
            return tuple(decode(part, depth + 1) for part in content)
        if kind == "set":
            return set(_keys(decode(part, depth + 1) for part in content))
        if kind == "frozenset":
            return frozenset(_keys(decode(part, depth + 1) for part in content))
        if kind == "dict":
            keys = _keys(decode(key, depth + 1) for key, _ in content)
            return dict(zip(keys, [decode(value, depth + 1) for _, value in content]))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ForgedError) else ForgedError("keys or pairs that are none") from None
    raise ForgedError("an unknown kind of value")


def _keys(values: Iterable[Hashable]) -> list[Hashable]:
    """Return values that can be the keys of a dict in a time that grows no faster than their number."""
    keys = list(values)
    if not all(map(_can_be_key, keys)):
        raise ForgedError("a key that no number, text or tuple is")
    if len(keys) > SAME_HASH and max(Counter(map(hash, keys)).values()) > SAME_HASH:
        raise ForgedError("keys that are made to collide")
    return keys


def _can_be_key(value: Hashable) -> bool:
    if type(value) is tuple:
        return all(map(_can_be_key, value))
    return value is None or isinstance(value, (bool, int, float, str, _StandIn))


class _StandIn:
    """Stands for a value that is not plain, by the name of its type."""


def _stand_in(name: str) -> Any:
    """Return an object of a type of this name: comparisons then say what kind of thing came back."""
    return _type_called(re.sub(r"[^\w .]", "", name)[:60] or "object")()


@functools.lru_cache(100)  # a type takes a thousand bytes, and a message could ask for very many
def _type_called(name: str) -> type:
    return type(name, (_StandIn,), {})


def _possible(shape: list[int]) -> bool:
    """Tell whether a shape can be that of an array; one of no values can still have lengths that NumPy refuses."""
    return len(shape) <= 16 and all(n >= 0 for n in shape) and math.prod(max(n, 1) for n in shape) < 2**48


def _decode_array(kind: str, content: list[Any]) -> Any:
    if len(content) != 3:
        raise ForgedError("an array is a dtype, a shape and its values")
    dtype, shape, text = content
    known = _TENSORS if kind == "tensor" else _ARRAYS
    if type(dtype) is not str or dtype not in known or type(text) is not str:
        raise ForgedError("an unknown dtype")
    if type(shape) is not list or any(type(n) is not int for n in shape) or not _possible(shape):
        raise ForgedError("an impossible shape")
    numpy_dtype = np.dtype(np.int16) if dtype == "bfloat16" else _ARRAYS[dtype]
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ForgedError("not base64") from None
    if len(raw) != math.prod(shape) * numpy_dtype.itemsize:
        raise ForgedError("a shape that does not fit the number of values")
    if dtype == "bool":  # any other byte would be neither True nor False
        raw = (np.frombuffer(raw, np.uint8) != 0).tobytes()
    values = np.frombuffer(raw, numpy_dtype).reshape(shape).copy()
    if kind == "array":
        return values
    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def pack(values: Sequence[dict[str, Any]]) -> str:
    """Return JSON's own values as one text without commas: what a program holds does not count as a message's parts."""
    return base64.b64encode(json.dumps(values).encode()).decode()


def unpack(text: str) -> Any:
    """Return what `pack` made a text of."""
    return json.loads(base64.b64decode(text))


# --- messages ------------------------------------------------------------------------------------------------


def send(descriptor: int, message: dict[str, Any], seconds: float | None = None) -> None:
    """Send one message, within so many seconds; its values must have gone through `encode`.

    Raises:
        TooLargeError: if it is longer than `MESSAGE_BYTES` or holds more than `PARTS` values.
        Ended: if nobody reads any more.
        Late: if it was not taken in time.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        data = json.dumps(message, separators=(",", ":")).encode("utf-8", "replace")
    except ValueError as error:  # a whole number of more than 4300 digits
        raise TooLargeError(str(error)) from None
    if len(data) > MESSAGE_BYTES or data.count(b",") > PARTS:
        raise TooLargeError(f"it takes {len(data) / 2**20:.1f} MiB with {data.count(b','):,} commas.")
    rest = memoryview(struct.pack(">I", len(data)) + data)
    while rest:
        if deadline is not None and not select.select([], [descriptor], [], max(0, deadline - time.monotonic()))[1]:
            raise Late
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            raise Ended from None


def receive(descriptor: int, seconds: float | None = None) -> dict[str, Any]:
    """Return the next message, read within so many seconds. A descriptor that does not block needs a time.

    Raises:
        Ended: if the other end was closed.
        Late: if it did not come whole in time.
        ForgedError: if it is too long, is no JSON or holds too many values.
    """
    return parse(read(descriptor, seconds))


def read(descriptor: int, seconds: float | None = None) -> bytes:
    """Return the next message's bytes; what `receive` raises, but for what is wrong with them."""
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = struct.unpack(">I", _read(descriptor, 4, deadline))
    if length > MESSAGE_BYTES:
        raise ForgedError("a message longer than may be")
    return _read(descriptor, length, deadline)


def parse(data: bytes) -> dict[str, Any]:
    """Return the message that these bytes are.

    Raises:
        ForgedError: if they are no JSON or hold too many values.
    """
    if parts_of(data) > 4 * PARTS:
        raise ForgedError("a message of too many parts")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        raise ForgedError("not JSON") from None
    if type(message) is not dict:
        raise ForgedError("not a message")
    return message


def parts_of(data: bytes) -> int:
    """Return how many values a message may hold at most."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _read(descriptor: int, count: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Late
        try:
            part = os.read(descriptor, min(count - len(data), 2**20))
        except BlockingIOError:
            continue
        except ConnectionResetError:
            part = b""
        if not part:
            raise Ended
        data += part
    return bytes(data)
