"""Whether what an answer returned is right, and if not, why, in plain words that do not give the answer away."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Mismatch:
    """Why an answer is not right."""

    says: str
    where: torch.Tensor | None = None
    """For tensors: a mask of the wrong entries, of the answer's shape."""
    part: tuple[Any, ...] = ()
    """Of an answer in parts, which one is wrong: numbers and keys that lead to it."""
    called: str = "yours"
    """What that part is called: `your indices`, `yours[1]`."""


MOST_KEYS, MOST_WORDS = 20, 200
"""So many keys of a dict are named, and so many characters of a text: a stranger's values may be huge."""


def describe_type(value: Any) -> str:
    """Name the kind of a value the way a student would: `a list of 3`, `a float32 tensor of shape (2, 3)`."""
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        shape = "" if value.is_nested else f" of shape {tuple(value.shape)}"
        return with_article(f"{name_of(value.dtype)} tensor{shape}")
    if isinstance(value, np.ndarray):
        return with_article(f"{value.dtype} NumPy array of shape {value.shape}")
    if isinstance(value, bool):
        return "a bool"
    if isinstance(value, numbers.Integral):
        return "a whole number"
    if isinstance(value, numbers.Real):
        return "a float"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, (list, tuple)):  # `tensor.max(dim=1)` returns a kind of tuple too
        return f"a {'list' if isinstance(value, list) else 'tuple'} of {len(value)}"
    if isinstance(value, dict):
        keys = [written(key) for key in itertools.islice(value, MOST_KEYS)]
        return f"a dict with keys {', '.join(keys)}{' and more' if len(value) > MOST_KEYS else ''}"
    return with_article(type(value).__name__[:MOST_WORDS])


def written(value: Any) -> str:
    """Write a number, a text or a bool; name the kind of anything else. A text is cut after `MOST_WORDS` characters."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, numbers.Real):
        return written_number(value)
    if isinstance(value, str):
        return repr(str.__str__(value)[:MOST_WORDS]) + ("…" if len(value) > MOST_WORDS else "")
    return describe_type(value)


def written_number(value: numbers.Real) -> str:
    """Write a number so that it differs from any that `agree` tells apart from it; a whole one is written whole."""
    if isinstance(value, numbers.Integral):
        digits = int(value).bit_length() * math.log10(2)
        return str(int(value)) if digits < 60 else f"a whole number of about {digits:.0f} digits"
    try:
        number = float(value)
    except OverflowError:
        return "a number that no float can hold"
    return f"{number:.0f}" if number.is_integer() and abs(number) < 2**53 else f"{number:.7g}"


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name as it is said: `float32`."""
    return str(dtype).removeprefix("torch.")


def with_article(noun: str) -> str:
    """Put `a` or `an` before a noun."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def agree(expected: Any, got: Any) -> Mismatch | None:
    """Compare by value, generously where types are a matter of taste, strictly where they matter.

    Numbers may be Python's, NumPy's or 0-d tensors; sequences may be lists, tuples or `torch.Size`. Whole numbers
    are compared exactly, floats with a tolerance that comes from the coarser of float32 and float64. Tensors must
    agree in shape, kind (float, integer, bool) and device; half precision is refused where more was expected.

    Returns:
        None if they agree, else a `Mismatch`.
    """
    if got is None and expected is not None:
        return Mismatch("it returned None. Is there a `return` on every path?")
    if isinstance(expected, torch.Tensor):
        return _agree_tensor(expected, got)
    if isinstance(expected, bool):
        return _agree_bool(expected, got)
    if isinstance(expected, numbers.Real):
        return _agree_number(expected, got)
    if isinstance(expected, (list, tuple)):
        return agree_parts(expected, got)
    if isinstance(expected, dict):
        return _agree_dict(expected, got)
    kind: type[Any]
    if isinstance(expected, str):
        got = _scalar(got)
        kind, same = str, isinstance(got, str) and str.__eq__(expected, got)
    elif isinstance(expected, np.ndarray):
        kind, same = np.ndarray, isinstance(got, np.ndarray) and np.array_equal(expected, got)
    else:
        kind, same = type(expected), type(expected) is type(got) and expected == got
    if same:
        return None
    if not isinstance(got, kind):
        return Mismatch(f"it returned {describe_type(got)}; {describe_type(expected)} was expected.")
    return Mismatch(f"{written(got)} is not right.")


def _scalar(value: Any) -> Any:
    """Unwrap a NumPy scalar, a 0-d array or a 0-d tensor that has a value."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, torch.Tensor) and value.ndim == 0 and is_ordinary(value):
        return value.item()
    return value.item() if isinstance(value, np.generic) else value


def _agree_bool(expected: bool, got: Any) -> Mismatch | None:
    got = _scalar(got)
    if not isinstance(got, bool):
        return Mismatch(f"it returned {describe_type(got)}; True or False was expected.")
    return None if got == expected else Mismatch(f"{got} is not right.")


def _agree_number(expected: numbers.Real, got: Any) -> Mismatch | None:
    got = _scalar(got)
    if isinstance(got, bool) or not isinstance(got, numbers.Real):
        return Mismatch(f"it returned {describe_type(got)}; a number was expected.")
    if isinstance(expected, numbers.Integral) and isinstance(got, numbers.Integral):
        same = int(expected) == int(got)
    else:
        same = _close(expected, got)
    if same:
        return None
    if _is_nan(got):
        return Mismatch("it returned nan (not a number): is there a division by zero?")
    if _is_nan(expected):
        return Mismatch(f"{written_number(got)} is not right: there is no number to return here, so nan was expected.")
    return Mismatch(f"{written_number(got)} is too {'large' if got > expected else 'small'}.")


def _close(expected: numbers.Real, got: numbers.Real) -> bool:
    try:
        return (_is_nan(expected) and _is_nan(got)) or math.isclose(expected, got, rel_tol=1e-6, abs_tol=1e-9)
    except OverflowError:  # a whole number that no float can hold
        return False


def _is_nan(value: numbers.Real) -> bool:
    return bool(value != value)


def agree_parts(expected: Sequence[Any], got: Any, names: Sequence[str] = ()) -> Mismatch | None:
    """Compare sequences part by part, by the rules of `agree`; with names, a wrong part is called by its own."""
    row = isinstance(got, np.ndarray) or (isinstance(got, torch.Tensor) and is_ordinary(got))
    if not isinstance(got, (list, tuple)) and not (row and got.ndim == 1):
        return Mismatch(f"it returned {describe_type(got)}; a sequence of {len(expected)} was expected.")
    if len(expected) != len(got):
        return Mismatch(f"it returned {len(got)} values; {len(expected)} were expected.")
    got = got.tolist() if row else got
    for index, (e, g) in enumerate(zip(expected, got)):
        mismatch = agree(e, g)
        if mismatch:
            name = names[index] if names else f"value {index} (counted from 0)"
            called = f"your {name}" if names else mismatch.called.replace("yours", f"yours[{index}]", 1)
            return Mismatch(f"{name}: {mismatch.says}", mismatch.where, (index, *mismatch.part), called)
    return None


def _agree_dict(expected: dict[Any, Any], got: Any) -> Mismatch | None:
    if not isinstance(got, dict):
        return Mismatch(f"it returned {describe_type(got)}; {describe_type(expected)} was expected.")
    if expected.keys() != got.keys():
        return Mismatch(f"it returned {describe_type(got)}; {describe_type(expected)} was expected.")
    for key, value in expected.items():
        mismatch = agree(value, got[key])
        if mismatch:
            called = mismatch.called.replace("yours", f"yours[{key!r}]", 1)
            return Mismatch(f"{key}: {mismatch.says}", mismatch.where, (key, *mismatch.part), called)
    return None


KINDS = {"bool": "bool", "float": "a float type", "integer": "an integer type", "complex": "a complex type"}


def _kind(dtype: torch.dtype) -> str:
    if dtype is torch.bool:
        return "bool"
    if dtype.is_complex:
        return "complex"
    return "float" if dtype.is_floating_point else "integer"


COARSEST = 0.01
"""The tolerance where half precision is expected, in parts of the largest value: 256 steps of bfloat16 are twice it."""


def is_ordinary(value: torch.Tensor) -> bool:
    """Tell whether a tensor has values that can be read and compared: it is not sparse, nested, quantized or `meta`."""
    strange = value.is_nested or value.is_quantized or value.device.type == "meta"
    return value.layout is torch.strided and not strange


def _step(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def _agree_tensor(expected: torch.Tensor, got: Any) -> Mismatch | None:
    if not isinstance(got, torch.Tensor):
        return Mismatch(f"it returned {describe_type(got)}; a torch tensor was expected.")
    if got.layout is not torch.strided:
        return Mismatch("it is a sparse tensor; an ordinary one was expected: `.to_dense()` makes one.")
    if got.is_nested or got.is_quantized:
        return Mismatch(f"it is a {'nested' if got.is_nested else 'quantized'} tensor; an ordinary one was expected.")
    if expected.shape != got.shape:
        return Mismatch(f"its shape is {tuple(got.shape)}; {tuple(expected.shape)} was expected.")
    if expected.device != got.device:
        return Mismatch(f"it is on {got.device}; the input is on {expected.device}. Stay on the input's device.")
    if _kind(expected.dtype) != _kind(got.dtype):
        return Mismatch(f"its dtype is {name_of(got.dtype)}; {KINDS[_kind(expected.dtype)]} was expected.")
    expected, got = expected.detach(), got.detach()
    if expected.dtype.is_floating_point:
        if _step(got.dtype) > max(_step(expected.dtype), _step(torch.float32)):
            return Mismatch(
                f"its dtype is {name_of(got.dtype)}, which keeps too few digits; "
                f"{name_of(expected.dtype)} was expected."
            )
        step = max(_step(expected.dtype), _step(got.dtype))
        size = expected.abs().nan_to_num(0, 0, 0).max().item() if expected.numel() else 0.0
        tolerance = min(256 * step, COARSEST) * max(size, 1e-3)
        right = torch.isclose(expected.double(), got.double(), rtol=0, atol=tolerance, equal_nan=True)
    else:
        try:
            right = expected == got
        except RuntimeError:  # unsigned ones of more than 8 bits
            return Mismatch(f"its dtype is {name_of(got.dtype)}; {name_of(expected.dtype)} was expected.")
    if bool(right.all()):
        return None
    wrong = ~right
    first = tuple(wrong.nonzero()[0].tolist())
    place = f", the first at index {list(first)}" if first else ""
    return Mismatch(f"{int(wrong.sum())} of {wrong.numel()} values are not right{place}.", wrong.cpu())


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two outputs are the same, by the rules of `agree`."""
    return agree(a, b) is None
