"""What a unit of a network sees of the input: receptive fields by arithmetic, by exact sets, by gradient.

Everything here is about one axis; rows and columns never mix in a convolution, so an image is two such axes.
Positions are integers, pixel 0 has its centre at 0, and the image has no end: a position below 0 lies in the padding.

Three ways to the same answer, from simple to general:

* `compound(layers)`: a chain of layers is itself one layer, whose kernel is the receptive field;
* `Field`: the exact set of input positions, also where chains branch, dilate and upsample; `segcourse.tracing.trace`
  finds it for every module of a network;
* `probe(model, ...)`: where the gradient of one output unit is not zero.

`effective_field` then asks how *much* each pixel counts (Luo et al. 2016).

The recurrences are those of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks",
Distill 2019, written as the composition of two layers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# ---------------------------------------------------------------- one layer, and chains of layers


@dataclass(frozen=True)
class Layer:
    """A convolution or pooling along one axis: output i reads the inputs i*stride - padding + t*dilation, t < kernel.

    A negative padding crops. `transposed` runs the same window backwards: input i writes where output i would read.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    transposed: bool = False

    def __post_init__(self) -> None:
        if min(self.kernel, self.stride, self.dilation) < 1:
            raise ValueError(f"kernel, stride and dilation must be 1 or more, got {self}")

    def inputs(self, position: int) -> list[int]:
        """Positions of the layer's input that its output `position` reads, in order; transposed, there may be none."""
        taps = range(self.kernel)
        if not self.transposed:
            return [position * self.stride - self.padding + t * self.dilation for t in taps]
        offsets = [position + self.padding - t * self.dilation for t in reversed(taps)]
        return [offset // self.stride for offset in offsets if offset % self.stride == 0]

    def first(self, position: int = 0) -> int:
        """First input that output `position` sees: i*S - P."""
        return position * self.stride - self.padding

    def last(self, position: int = 0) -> int:
        """Last input that output `position` sees: i*S - P + K - 1, with K the effective kernel."""
        return self.first(position) + effective_kernel(self.kernel, self.dilation) - 1

    def centre(self, position: int = 0) -> float:
        """Centre of what output `position` sees: i*S - P + (K-1)/2. That of output 0 is called the start."""
        return (self.first(position) + self.last(position)) / 2


def effective_kernel(kernel: int, dilation: int) -> int:
    """Extent of a dilated kernel: k + (k-1)(d-1), the k taps and the d-1 gaps between each two of them."""
    return kernel + (kernel - 1) * (dilation - 1)


def input_size(output_size: int, kernel: int, stride: int) -> int:
    """Inputs that `output_size` neighbouring outputs need: n_in = S (n_out - 1) + K."""
    return stride * (output_size - 1) + kernel


def output_size(input_size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Outputs that fit: floor((n_in + 2P - K) / S) + 1, with K the effective kernel.

    Raises:
        ValueError: the padded input is smaller than the kernel.
    """
    room = input_size + 2 * padding - effective_kernel(kernel, dilation)
    if room < 0:
        raise ValueError(
            f"an input of {input_size} with padding {padding} is smaller than the kernel, "
            f"which spans {effective_kernel(kernel, dilation)}: use a larger input or more padding"
        )
    return room // stride + 1


def compound_stride(strides: Sequence[int]) -> int:
    """Input pixels between two neighbouring outputs of a chain, the jump: S_1 S_2 ... S_L."""
    return math.prod(strides)


def compound_kernel(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Receptive field of a chain: 1 + sum over l of (K_l - 1) S_1 ... S_(l-1). Give effective kernels where dilated."""
    return 1 + sum((k - 1) * compound_stride(strides[:i]) for i, k in enumerate(kernels))


def compose(first: Layer, second: Layer) -> Layer:
    """The one layer that sees what `second` sees through `first`: K1 + (K2-1) S1, stride S1 S2, padding P1 + P2 S1.

    The result speaks of extents: gaps that dilation leaves inside are not kept (`Field` keeps them).

    Raises:
        ValueError: a layer is transposed; its outputs see differently by phase, so one layer cannot stand for it.
    """
    if first.transposed or second.transposed:
        raise ValueError("a transposed layer has no single kernel: its field differs by phase; use Field.of(layers)")
    kernels = [effective_kernel(layer.kernel, layer.dilation) for layer in (first, second)]
    return Layer(
        kernel=kernels[0] + (kernels[1] - 1) * first.stride,
        stride=first.stride * second.stride,
        padding=first.padding + second.padding * first.stride,
    )


def compound(layers: Iterable[Layer]) -> Layer:
    """A chain as one layer: its kernel is the receptive field, its stride the jump, its padding the total padding."""
    return reduce(compose, layers, Layer(1))


def parallel(branches: Sequence[Layer]) -> Layer:
    """Branches over one input, added or concatenated, as one layer: from the first that any of them sees to the last.

    With aligned centres that is the largest field, never the sum; with unequal centres it can be larger than any.

    Raises:
        ValueError: the strides differ, so that the branches' outputs cannot lie on one grid.
    """
    if len({branch.stride for branch in branches}) != 1:
        raise ValueError(f"branches meet only with one common stride, got {[b.stride for b in branches]}")
    first, last = min(b.first() for b in branches), max(b.last() for b in branches)
    return Layer(kernel=last - first + 1, stride=branches[0].stride, padding=-first)


def reached(layers: Sequence[Layer], position: int) -> list[frozenset[int]]:
    """What output `position` reads at each level, from the output back to the input: L + 1 sets of positions."""
    levels = [frozenset({position})]
    for layer in reversed(layers):
        levels.append(frozenset(i for p in levels[-1] for i in layer.inputs(p)))
    return levels


def footprint(layers: Sequence[Layer], position: int) -> list[tuple[int, int]]:
    """(first, last) position seen at each level, from the output back to the input: L + 1 pairs.

    Raises:
        ValueError: the output reads nothing: a transposed layer's stride exceeds its kernel.
    """
    levels = reached(layers, position)
    if not levels[-1]:
        raise ValueError(f"output {position} sees no input: a transposed layer's stride leaves it empty")
    return [(min(level), max(level)) for level in levels]


# ---------------------------------------------------------------- exact sets, phase by phase


@dataclass(frozen=True, repr=False)
class Field:
    """The input positions that each unit along one axis sees, exactly: holes, branches and phases included.

    Strided layers repeat: position i + q sees what position i sees, moved by `shift` pixels. So q sets tell all:
    one for an encoder; as many as the upsampling factor, the *phases*, after a decoder. No set at all means that
    every unit sees the whole input, however large (global pooling, attention, a dense layer): `everything`.
    """

    phases: tuple[frozenset[int], ...] = (frozenset({0}),)
    shift: int = 1

    @classmethod
    def of(cls, layers: Iterable[Layer]) -> Field:
        """The field after a chain of layers, transposed ones included."""
        return reduce(Field.through, layers, cls())

    @property
    def everything(self) -> bool:
        """Whether each unit sees the whole input."""
        return not self.phases

    def positions(self, i: int = 0) -> frozenset[int]:
        """The input positions that unit `i` sees.

        Raises:
            ValueError: it sees everything, so there is no set to name.
        """
        if self.everything:
            raise ValueError("these units see the whole input: no positions to list; look at .everything first")
        turns, phase = divmod(i, len(self.phases))
        return frozenset(p + turns * self.shift for p in self.phases[phase])

    def extent(self, i: int = 0) -> tuple[int, int]:
        """(first, last) input position that unit `i` sees. Raises ValueError where it sees none, or everything."""
        seen = self.positions(i)
        if not seen:
            raise ValueError(f"unit {i} sees no input: a transposed layer's stride leaves it empty")
        return min(seen), max(seen)

    def centre(self, i: int = 0) -> float:
        """Middle of the extent of unit `i`, in input pixels; 0 is the centre of the first pixel."""
        return sum(self.extent(i)) / 2

    def holes(self, i: int = 0) -> list[int]:
        """Positions inside the extent of unit `i` that it does not read: gridding, the price of dilation."""
        first, last = self.extent(i)
        return sorted(set(range(first, last + 1)) - self.positions(i))

    @property
    def sizes(self) -> tuple[float, ...]:
        """Receptive field (last - first + 1) of each phase; infinite where everything is seen, 0 where nothing."""
        if self.everything:
            return (math.inf,)
        return tuple(max(seen) - min(seen) + 1 if seen else 0 for seen in self.phases)

    @property
    def size(self) -> float:
        """Receptive field: that of the phase which sees most."""
        return max(self.sizes)

    @property
    def jump(self) -> Fraction:
        """Input pixels between neighbouring units; below 1 after more upsampling than striding."""
        return Fraction(self.shift, max(1, len(self.phases)))

    @property
    def padding(self) -> int:
        """How far the first unit sees beyond the first pixel: the total padding."""
        return -self.extent(0)[0]

    @property
    def start(self) -> float:
        """Centre of the first unit's field, in input pixels."""
        return self.centre(0)

    def __repr__(self) -> str:
        if self.everything:
            return "Field(everything)"
        low, high = min(self.sizes), max(self.sizes)
        size = f"{high}" if low == high else f"{low}..{high}"
        first = f", padding={self.padding}, start={self.start:g}" if self.phases[0] else ""
        return f"Field(size={size}, jump={self.jump}{first})"

    def gather(self, inputs: Callable[[int], Iterable[int]], step: Fraction, units: int | None = None) -> Field:
        """The field of units that read the units `inputs(i)` of this one.

        `step` is how far the reading moves for one unit: a/b in lowest terms says inputs(i + b) = inputs(i) + a.
        With `units`, at most so many phases are kept, which matters for odd ratios: one for each unit that exists.
        """
        if self.everything:
            return self
        common = math.gcd(step.numerator, len(self.phases))
        period = step.denominator * len(self.phases) // common
        shift = self.shift * step.numerator // common
        if units is not None and units < period:
            period, shift = units, round(self.jump * step * units)
        return Field(tuple(frozenset().union(*(self.positions(j) for j in inputs(i))) for i in range(period)), shift)

    def through(self, layer: Layer) -> Field:
        """The field after one more layer."""
        return self.gather(layer.inputs, Fraction(1, layer.stride) if layer.transposed else Fraction(layer.stride))

    def union(self, other: Field, length: int) -> Field:
        """The field where two branches of `length` units are added or concatenated.

        Branches whose jumps differ (corners aligned on one side only) drift apart: then each of the `length` units is
        a phase of its own, and the jump told is that of the first branch, rounded to whole pixels over the axis.
        """
        if self.everything or other.everything:
            return EVERYTHING
        period, shift = length, round(self.jump * length)
        if self.jump == other.jump:
            period = math.lcm(len(self.phases), len(other.phases))
            shift = int(self.jump * period)
        return Field(tuple(self.positions(i) | other.positions(i) for i in range(period)), shift)


EVERYTHING = Field(phases=(), shift=0)


# ---------------------------------------------------------------- by gradient


class _MeanForMax(TorchFunctionMode):
    """Runs max pooling as average pooling, so that the gradient reaches the whole window and not the winner alone."""

    MEANS: ClassVar = {"max_pool1d": F.avg_pool1d, "max_pool2d": F.avg_pool2d}

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if "max_pool" not in name:
            return func(*args, **(kwargs or {}))
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        call = dict(zip(names, args)) | (kwargs or {})
        call.pop("return_indices", None)
        if name not in self.MEANS or call.pop("dilation", 1) not in (1, (1,), (1, 1), [1, 1]):
            raise ValueError(
                f"probe cannot follow {name} with indices, dilation or adaptive windows: use tracing.trace"
            )
        return self.MEANS[name](**call)


def _centre_of(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n // 2 for n in shape)


def probe(model: nn.Module, shape: Sequence[int], position: Sequence[int] | None = None) -> Tensor:
    """Where one output unit's gradient is not zero: (H, W) of bool, or (L,).

    Works on a double-precision copy whose weights are all positive, biases zero, batch normalizations the identity and
    max pools averages: nothing cancels (but in a soft-max), so the support is the receptive field, cut off at the
    image's border. `shape` is that of one input, (C, H, W) or (C, L); `position` is the output unit, the middle one by
    default.

    Raises:
        ValueError: a max pool with indices, dilation or adaptive windows; `segcourse.tracing.trace` follows these.
    """
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if value.is_floating_point():
                shifts = name.endswith(("bias", "running_mean"))
                value.fill_(0 if shifts else 1 / value[0].numel() if value.dim() > 1 else 1)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x = torch.ones(1, *shape, dtype=torch.float64, device=device, requires_grad=True)
    with _MeanForMax():
        y = model(x)
    at = position or _centre_of(y.shape[2:])
    (gradient,) = torch.autograd.grad(y[(0, slice(None), *at)].sum(), x)
    return gradient[0].ne(0).any(0)


def effective_field(
    model: nn.Module,
    x: Tensor,
    position: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How much each pixel moves one output unit: mean over the batch of its squared gradient, (H, W) or (L,).

    Each output channel gets a random sign from `generator`, so that channels do not cancel (Luo et al. 2016). `x` is
    (N, C, H, W) or (N, C, L): more images, smoother map. The model runs in the mode it is in: call eval() first.
    """
    x = x.detach().requires_grad_()
    y = model(x)
    at = position or _centre_of(y.shape[2:])
    unit = y[(slice(None), slice(None), *at)]
    signs = torch.randint(0, 2, unit.shape, generator=generator).to(unit) * 2 - 1
    (gradient,) = torch.autograd.grad((unit * signs).sum(), x)
    return gradient.square().sum(1).mean(0)


def effective_size(squared: Tensor) -> float:
    """Side in pixels of the square with as many pixels as exceed 1 - 95.45 % of the largest.

    The threshold and the root of a count follow Luo et al. 2016; to measure against the largest gradient, not against
    that of the centre pixel, is this package's choice. `squared` is the (H, W) map of `effective_field`; the rule is
    applied to its square root, the gradient's size.
    """
    size = squared.sqrt()
    return math.sqrt(int((size > (1 - 0.9545) * size.max()).sum()))


def effective_spread(squared: Tensor) -> float:
    """Four standard deviations of the map, in pixels: the width of a Gaussian of that spread, averaged over the axes.

    `squared` is the (H, W) map of `effective_field`; its square root is the weight of each pixel.
    """
    weight = squared.sqrt() / squared.sqrt().sum()
    places = torch.meshgrid(*(torch.arange(n).to(weight) for n in weight.shape), indexing="ij")
    variances = [(weight * (p - (weight * p).sum()).square()).sum() for p in places]
    return 4 * math.sqrt(float(sum(variances)) / len(variances))
