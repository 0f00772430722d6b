"""Receptive fields of a real network: `trace(model, shape)` follows every tensor and keeps what its units see.

The model runs once on PyTorch's meta device: shapes are computed, numbers are not, so even Inception-v3 takes no more
than a second and no memory. Beneath Python every spelling of an operation (module, function, operator) arrives as one
ATen operation, and each has a rule below that says how it changes the fields along the spatial axes. An operation
without a rule is an error, never a guess.

The image is taken to have no end: a unit in the padding sees what an inner one sees, moved along. So the figures are
those of an inner unit, whatever the size of the picture. Which value a max pool lets through depends on the picture; a
position counts as seen if it can matter.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from segcourse.receptive_field import EVERYTHING, Field, Layer


@dataclass(frozen=True)
class Axis:
    """Where one spatial axis lies in a tensor, and what its units see of the input.

    `dim` is the tensor's dimension and `length` the number of units. A reshape can merge the axis with others: one step
    along it then takes `inner` elements of the dimension. `window` slid along it last; unpooling asks for it.
    """

    field: Field
    dim: int
    length: int
    inner: int = 1
    window: Layer | None = None


Axes = tuple[Axis, ...]
Change = Callable[[Axis], Axis]
NOWHERE = Axis(EVERYTHING, dim=-1, length=0)  # every unit sees everything: where the axis lies matters no more


def trace(model: nn.Module, shape: Sequence[int]) -> dict[str, tuple[Field, ...]]:
    """The fields of the units of every module, one `Field` per spatial axis, in the order in which modules finish.

    `shape` is that of one input, (C, H, W) or (C, L). Keys are the names in `model.named_modules()`: "" is the output
    of the whole model. A module with several outputs adds "0", "1" or a key to its name; of several calls the last
    counts. The model runs in eval mode and is left as it was.

    Raises:
        ValueError: the network uses an operation without a rule, or joins axes in a way that no rule follows.
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"expected the shape of one input, (C, H, W) or (C, L), got {tuple(shape)}")
    tracer = _Tracer()
    fields: dict[str, tuple[Field, ...]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for path, tensor in _tensors(output, name):
                if tensor in tracer.axes:
                    fields[path] = tuple(axis.field for axis in tracer.axes[tensor])

        return hook

    # A copy whose numbers are nowhere: tensors that are used at several places stay one, and `model` is never touched.
    numbers = {id(t): t.detach().to("meta") for t in (*model.parameters(), *model.buffers())}
    dtype = next((t.dtype for t in numbers.values() if t.is_floating_point()), torch.get_default_dtype())
    copied = copy.deepcopy(model, dict(numbers)).eval()
    for name, module in copied.named_modules():
        module.register_forward_hook(note(name))
    with torch.no_grad(), torch.device("meta"):
        x = torch.empty(1, *shape, dtype=dtype)
        tracer.axes[x] = tuple(Axis(Field(), dim, x.shape[dim]) for dim in range(2, x.dim()))
        with tracer:
            copied(x)
    return fields


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested tuples, lists and dictionaries, each with its path."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(item, f"{path}.{key}".removeprefix("."))


class _Tracer(TorchDispatchMode):
    """Runs each operation and works out the axes of its result from those of its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.axes: Any = WeakTensorKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        operands = [t for _, t in _tensors((args, kwargs))]
        seen = [self.axes.get(t, ()) for t in operands]
        if not any(seen):
            return out
        rule = RULES.get(func.overloadpacket.__name__) or (_pointwise if torch.Tag.pointwise in func.tags else None)
        if rule is None:
            raise ValueError(
                f"trace has no rule for {func}: use convolutions, pooling, resizing, slices, sums and concatenations "
                f"in its place, or trace the parts before and after it"
            )
        if rule not in JOINING and any(seen[1:]):
            raise ValueError(f"trace follows {func} only where its first operand alone depends on the image")
        for _, tensor in _tensors(out):
            axes = rule(Op(tensor, args[0], seen), *args[1:], **kwargs)
            if tensor is operands[0] and axes != seen[0]:
                self._refuse_views(tensor, func)
            if axes:
                self.axes[tensor] = axes
        return out

    def _refuse_views(self, tensor: Tensor, func: Any) -> None:
        """Writing in place is followed in a tensor that stands alone, not through the views of one."""
        if tensor._base is not None or any(other._base is tensor for other in self.axes):
            raise ValueError(
                f"trace cannot follow {func} into a slice or view of another tensor: "
                f"build the result with torch.cat, torch.stack or F.pad"
            )


# ---------------------------------------------------------------- tools of the rules


@dataclass(frozen=True)
class Op:
    """One operation: its result, its first argument, and the axes of each operand; none where the image has no say."""

    out: Tensor
    x: Any
    seen: list[Axes]

    @property
    def axes(self) -> Axes:
        """The axes of the first operand."""
        return self.seen[0]

    @property
    def branches(self) -> list[Axes]:
        """The axes of the operands that depend on the image."""
        return [axes for axes in self.seen if axes]

    def dim(self, dim: int) -> int:
        """A dimension of the first operand, counted from the front."""
        return dim % self.x.dim()

    def along(self, changes: Mapping[int, Change], axes: Axes | None = None) -> Axes:
        """Change the axes that lie in the given dimensions of the first operand; the result has their new lengths."""
        result = []
        for axis in self.axes if axes is None else axes:
            if axis.dim in changes:
                if axis.inner > 1 or axis.length != self.x.shape[axis.dim]:
                    raise ValueError(
                        f"trace found a spatial axis of {axis.length} merged into a dimension of "
                        f"{self.x.shape[axis.dim]}: restore the (N, C, H, W) shape before a window moves along it"
                    )
                axis = replace(changes[axis.dim](axis), length=self.out.shape[axis.dim])
            result.append(axis)
        return tuple(result)

    def along_last(self, changes: Sequence[Change], axes: Axes | None = None) -> Axes:
        """The same for the last dimensions, in order."""
        return self.along(dict(enumerate(changes, start=self.x.dim() - len(changes))), axes)

    def broadcast(self, x: Tensor, axes: Axes) -> Axes:
        """Align the axes of an operand with those of the result from the right; a single unit serves all."""
        shape = self.out.shape
        repeat = _gather(lambda i: [0], Fraction(0))
        return tuple(
            replace(repeat(axis), length=shape[axis.dim]) if axis.length == 1 != shape[axis.dim] else axis
            for axis in _renumber(axes, lambda dim: dim + len(shape) - x.dim())
        )


def _gather(inputs: Callable[[int], Iterable[int]], step: Fraction, units: int | None = None) -> Change:
    return lambda axis: replace(axis, field=axis.field.gather(inputs, step, units))


def _slide(layer: Layer) -> Change:
    return lambda axis: replace(axis, field=axis.field.through(layer), window=layer)


def _mix(axes: Axes, dims: Collection[int]) -> Axes:
    """Along these dimensions every unit now depends on every other."""
    return tuple(NOWHERE if axis.dim in dims else axis for axis in axes)


def _renumber(axes: Axes, new: Callable[[int], int]) -> Axes:
    return tuple(axis if axis.field.everything else replace(axis, dim=new(axis.dim)) for axis in axes)


def _forbid(axes: Axes, dim: int, does: str) -> None:
    if any(axis.dim == dim for axis in axes):
        raise ValueError(f"trace cannot follow a network that {does} along a spatial axis")


def _join(branches: Sequence[Axes]) -> Axes:
    """Add or concatenate: each axis sees what it saw in any branch."""
    joined = []
    for first, *others in zip(*branches, strict=True):
        for other in others:
            if first.field.everything or other.field.everything:
                first = NOWHERE
            elif (first.dim, first.inner, first.length) != (other.dim, other.inner, other.length):
                raise ValueError(f"trace cannot join branches whose axes lie differently: {first} and {other}")
            else:
                first = replace(first, field=first.field.union(other.field, first.length))
        joined.append(first)
    return tuple(joined)


# ---------------------------------------------------------------- rules
#
# A rule takes the operation and its further arguments as ATen orders them, and returns the axes of the result; none say
# that its values do not depend on the image.


def _same(op: Op, *_: Any, **__: Any) -> Axes:
    return op.axes


def _independent(op: Op, *_: Any, **__: Any) -> Axes:
    return ()


def _pointwise(op: Op, *args: Any, **kwargs: Any) -> Axes:
    operands = [t for _, t in _tensors((op.x, args, kwargs))]
    return _join([op.broadcast(t, axes) for t, axes in zip(operands, op.seen) if axes])


def _copy(op: Op, source: Tensor, *_: Any) -> Axes:
    return op.broadcast(source, op.seen[1])


def _expand(op: Op, *_: Any, **__: Any) -> Axes:
    return op.broadcast(op.x, op.axes)


def _cat(op: Op, dim: int = 0) -> Axes:
    joined = _join(op.branches)
    _forbid(joined, dim % op.out.dim(), "concatenates")
    return joined


def _stack(op: Op, dim: int = 0) -> Axes:
    return _unsqueeze(Op(op.out, op.x[0], [_join(op.branches)]), dim)


def _convolution(
    op: Op,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    *_: Any,
) -> Axes:
    columns = (stride, padding, dilation)  # padding="valid" comes as one number for all axes
    stride, padding, dilation = (list(c) * ((weight.dim() - 2) // len(c)) for c in columns)
    layers = [Layer(*sizes, transposed) for sizes in zip(weight.shape[2:], stride, padding, dilation)]
    channels = op.x.dim() - len(layers) - 1
    return op.along_last([_slide(layer) for layer in layers], _mix(op.axes, {channels}))


def _max_pool(op: Op, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), *_: Any) -> Axes:
    """Values and indices alike. Ceil mode needs no word: it only adds units at the end."""
    columns = (kernel, stride or kernel, padding, dilation)
    layers = [Layer(*sizes) for sizes in zip(*(list(c) * (len(kernel) // len(c)) for c in columns))]
    return op.along_last([_slide(layer) for layer in layers])


def _avg_pool(op: Op, kernel: Any, stride: Any = (), padding: Any = (0,), *_: Any) -> Axes:
    return _max_pool(op, kernel, stride, padding)


def _max_unpool(op: Op, indices: Tensor, size: Sequence[int]) -> Axes:
    """A value can land anywhere in the window that its index was taken from: that pooling, transposed."""

    def unpool(axis: Axis) -> Axis:
        window = next((i.window for i in op.seen[1] if i.dim == axis.dim and i.window), None)
        if window is None:
            raise ValueError("trace follows unpooling only with the indices of a max pool of the same network")
        return _slide(replace(window, transposed=True))(axis)

    return op.along_last([unpool, unpool], _join(op.branches))


def _adaptive_pool(op: Op, size: Sequence[int]) -> Axes:
    """Unit i of m pools the inputs floor(i n/m) to ceil((i+1) n/m) - 1; a single unit sees everything."""

    def pool(axis: Axis) -> Axis:
        if op.out.shape[axis.dim] == 1:
            return NOWHERE
        step = Fraction(axis.length, op.out.shape[axis.dim])
        return _gather(lambda i: range(math.floor(i * step), math.ceil((i + 1) * step)), step)(axis)

    return op.along_last([pool] * len(size))


def _resize(taps: Callable[[Fraction], Iterable[int]], offset: Fraction = Fraction(0)) -> Callable[..., Axes]:
    """Unit i reads the taps around (i + offset) step - offset, where step is 1 / scale or the ratio of the sizes.

    With aligned corners the offset is 0 and the step (n-1) / (m-1).
    """

    def rule(op: Op, size: Sequence[int], *args: Any) -> Axes:
        aligned = args[:1] == (True,)
        scales = [a for a in args if not isinstance(a, bool)] or [None] * len(size)
        shift = Fraction(0) if aligned else offset

        def resize(scale: float | None) -> Change:
            def change(axis: Axis) -> Axis:
                n, m = axis.length, op.out.shape[axis.dim]
                step = 1 / Fraction(scale).limit_denominator(1000) if scale else Fraction(n, m)
                if aligned:
                    step = Fraction(n - 1, max(1, m - 1))
                units = m if step.numerator > 1 else None
                return _gather(lambda i: taps((i + shift) * step - shift), step, units)(axis)

            return change

        return op.along_last([resize(scale) for scale in scales])

    return rule


def _pad(op: Op, pad: Sequence[int], *_: Any) -> Axes:
    """`pad` is (before, after) of the last dimension, then of the one before it, ...; a mirror counts as zeros do."""
    return op.along({op.x.dim() - 1 - j: _slide(Layer(1, padding=before)) for j, before in enumerate(pad[::2])})


def _slice(op: Op, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Axes:
    if op.out.shape == op.x.shape:
        return op.axes
    first, _, _ = slice(start, end, step).indices(op.x.shape[dim])
    return op.along({op.dim(dim): _slide(Layer(1, step, -first))})


def _pixel_shuffle(op: Op, factor: int) -> Axes:
    spread = _gather(lambda i: [i // factor], Fraction(1, factor))
    return op.along_last([spread, spread])


def _pixel_unshuffle(op: Op, factor: int) -> Axes:
    return _max_pool(op, (factor, factor))


def _matmul(op: Op, b: Tensor) -> Axes:
    left, right = op.seen
    if left and right:  # attention: which units meet depends on the image
        return tuple(NOWHERE for _ in left)
    return _mix(left, {op.x.dim() - 1}) if left else _mix(right, {b.dim() - 2})


def _addmm(op: Op, a: Tensor, b: Tensor, **_: Any) -> Axes:
    bias, *factors = op.seen
    branches = [op.broadcast(op.x, bias), _matmul(Op(op.out, a, factors), b)]
    return _join([axes for axes in branches if axes])


def _reduce(op: Op, dim: int | Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Axes:
    """A mean, sum or maximum over some dimensions, by default over all."""
    dims = {op.dim(d) for d in ([dim] if isinstance(dim, int) else dim or range(op.x.dim()))}
    axes = _mix(op.axes, dims)
    return axes if keepdim else _renumber(axes, lambda old: old - sum(d < old for d in dims))


def _norm(op: Op, order: float, dim: Any = None, keepdim: bool = False, **_: Any) -> Axes:
    return _reduce(op, dim, keepdim)


def _softmax(op: Op, dim: int, *_: Any) -> Axes:
    return _mix(op.axes, {op.dim(dim)})


def _batch_norm(op: Op, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *_: Any) -> Axes:
    """In eval mode each unit stands for itself; instance normalization takes its statistics over the whole map."""
    return _group_norm(op) if training else op.axes


def _group_norm(op: Op, *_: Any) -> Axes:
    return _mix(op.axes, range(op.x.dim()))


def _layer_norm(op: Op, normalized: Sequence[int], *_: Any) -> Axes:
    return _mix(op.axes, range(op.x.dim() - len(normalized), op.x.dim()))


def _view(op: Op, *_: Any) -> Axes:
    """Reshaping keeps the order of the elements, so neighbours on an axis stay as many elements apart: find them."""
    if op.out.shape == op.x.shape:
        return op.axes
    axes: list[Axis] = []
    for axis in reversed(op.axes):
        taken = {other.dim for other in axes if other.length == 1 == op.out.shape[other.dim]}
        axes.append(axis if axis.field.everything else _find(op, axis, taken))
    return tuple(reversed(axes))


def _find(op: Op, axis: Axis, taken: Collection[int]) -> Axis:
    step = math.prod(op.x.shape[axis.dim + 1 :]) * axis.inner
    for dim in reversed(range(op.out.dim())):
        after = math.prod(op.out.shape[dim + 1 :])
        inside = step % after == 0 and (after * op.out.shape[dim]) % (step * axis.length) == 0
        if inside and dim not in taken:
            return replace(axis, dim=dim, inner=step // after)
    raise ValueError(f"trace cannot follow a reshape to {tuple(op.out.shape)}: it cuts an axis of {axis.length}")


def _permute(op: Op, dims: Sequence[int]) -> Axes:
    return _renumber(op.axes, [op.dim(d) for d in dims].index)


def _transpose(op: Op, a: int = -2, b: int = -1) -> Axes:
    a, b = op.dim(a), op.dim(b)
    return _renumber(op.axes, lambda dim: {a: b, b: a}.get(dim, dim))


def _unsqueeze(op: Op, dim: int) -> Axes:
    return _renumber(op.axes, lambda old: old + (old >= dim % op.out.dim()))


def _select(op: Op, dim: int = 0, *_: Any) -> Axes:
    """One entry of a dimension, or each in turn."""
    _forbid(op.axes, op.dim(dim), "picks single positions")
    return _renumber(op.axes, lambda old: old - (old > op.dim(dim)))


def _split(op: Op, size: Any, dim: int = 0) -> Axes:
    _forbid(op.axes, op.dim(dim), "splits")
    return op.axes


def _at(s: Fraction) -> list[int]:
    return [math.floor(s)]


def _nearest(s: Fraction) -> list[int]:
    return [math.floor(s + HALF)]


def _two(s: Fraction) -> set[int]:
    """The neighbours of `s`; on a grid point only that one has a weight."""
    return {math.floor(s), math.ceil(s)}


def _four(s: Fraction) -> Iterable[int]:
    return range(math.floor(s) - 1, math.floor(s) + 3) if s.denominator > 1 else [math.floor(s)]


HALF = Fraction(1, 2)
JOINING = (_pointwise, _copy, _cat, _stack, _matmul, _addmm, _max_unpool)  # several operands may depend on the image
RULES: dict[str, Callable[..., Axes]] = {
    name: rule
    for rule, names in (
        (_convolution, "convolution"),
        (_max_pool, "max_pool2d_with_indices max_pool3d_with_indices"),
        (_avg_pool, "avg_pool2d avg_pool3d"),
        (_max_unpool, "max_unpool2d"),
        (_adaptive_pool, "_adaptive_avg_pool2d adaptive_max_pool2d"),
        (_resize(_at), "upsample_nearest1d upsample_nearest2d"),
        (_resize(_nearest, HALF), "_upsample_nearest_exact1d _upsample_nearest_exact2d"),
        (_resize(_two, HALF), "upsample_linear1d upsample_bilinear2d"),
        (_resize(_four, HALF), "upsample_bicubic2d"),
        (_pad, "constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"),
        (_slice, "slice"),
        (_pixel_shuffle, "pixel_shuffle"),
        (_pixel_unshuffle, "pixel_unshuffle"),
        (_cat, "cat"),
        (_stack, "stack"),
        (_copy, "copy_"),
        (_matmul, "mm bmm"),
        (_addmm, "addmm baddbmm"),
        (_reduce, "mean sum amax amin max min argmax std var"),
        (_norm, "linalg_vector_norm"),
        (_softmax, "_softmax _log_softmax _safe_softmax glu"),
        (_batch_norm, "native_batch_norm"),
        (_group_norm, "native_group_norm"),
        (_layer_norm, "native_layer_norm"),
        (_view, "view _unsafe_view _reshape_alias squeeze"),
        (_permute, "permute"),
        (_transpose, "transpose t"),
        (_unsqueeze, "unsqueeze"),
        (_select, "select unbind"),
        (_split, "split split_with_sizes"),
        (_expand, "expand"),
        (_same, "detach alias _to_copy hardswish hardswish_ log_sigmoid_forward"),
        (_independent, "new_empty new_zeros new_ones new_full"),
        (_independent, "empty_like zeros_like ones_like full_like rand_like randn_like"),
    )
    for name in names.split()
}
