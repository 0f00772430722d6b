"""Atrous (dilated) convolution: a kernel with holes, the same weights over a larger field, and dense maps from strides.

With rate r, tap t of the kernel reads `x[i + r·t]`. Three ways to the same numbers:

- `atrous_conv`: add up shifted copies of the map, one for each tap;
- `atrous_by_holes`: subsample the map into its phases, convolve each one plainly, interlace the results;
- `torch.nn.functional.conv2d(x, weight, dilation=r)`.

Strides into rates (`set_output_stride`), with the same weights. Take the stride s out of a layer. Its map D is now
dense and holds the strided map S at S's own positions: S[i] = D[s·i]. A later layer read S[i·s' - p + t·d] at its tap
t. The same numbers stand at D[s·i·s' - s·p + t·s·d]: rate and padding times s, same weights, and again S'[i] = D'[s·i].
The layer that lost its stride keeps its rate; those after it change. What follows from this:

- At its own positions the strided map is found again *everywhere*, borders included, for odd and even kernels,
  convolutions and poolings, chains and residual sums: `dense(x)[..., ::r, ::r]` equals `strided(x)`, with r the stride
  taken out. For S has ceil(N / r) units, N being the length of D, so that position k of S lies in the padding exactly
  when position r·k of D does. It takes zero padding, evaluation mode (dropout, batch norm) and sizes that round down.
  Where a pooling rounds up (`ceil_mode`) and leaves a rest, S has a last unit that D lacks: choose sizes without one.
- Between them stands what the strided network says of the image moved on: `dense(x)[..., a::r, b::r]` equals
  `strided(x[..., 8·a:, 8·b:])` for output stride 8. That is exact where no field reaches into the padding: moved, the
  image has its border elsewhere. Without padding it is exact everywhere, and output stride 1 is shift-and-stitch in
  one pass (`segcourse.convolutionalize.shift_and_stitch`).
- An even kernel has no middle: 2x2 pooling with stride 1 makes the map one shorter, and with rate r, r shorter.
  Padding it back to the old size on the left would move every unit by r; here nothing is padded that was not before.

Sources of the facts: Holschneider, Kronland-Martinet, Morlet & Tchamitchian, "A real-time algorithm for signal analysis
with the help of the wavelet transform", 1989 (the algorithme à trous); Chen et al., "Semantic image segmentation with
deep convolutional nets and fully connected CRFs", ICLR 2015, section 3.1; Yu & Koltun, "Multi-scale context aggregation
by dilated convolutions", ICLR 2016; Chen et al., "DeepLab", TPAMI 2018, sections 3.1 and 3.2; Chen et al., "Rethinking
atrous convolution for semantic image segmentation", 2017, section 3.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.receptive_field import Field, Layer, compound, output_size
from segcourse.tracing import trace

Pair = tuple[int, int]
IntOrPair = int | Pair
Network = TypeVar("Network", bound=nn.Module)

TRACED_SIZE = 1024
"""Side of the image on which `set_output_stride` follows a network; shapes only, nothing is computed."""


# --- one convolution, three ways ---------------------------------------------------------------------


def spread_kernel(weight: Tensor, rate: int) -> Tensor:
    """The kernel with its holes: `rate - 1` zeros between neighbouring taps, the last one or two axes.

    (C_out, C_in, k) -> (C_out, C_in, k + (k-1)(rate-1)), and alike (C_out, C_in, kh, kw). A plain convolution with it
    equals the atrous one, and multiplies by the zeros too.
    """
    _require_kernel(weight)
    _require(rate=(rate, 1))
    kernel = weight.shape[2:]
    spread = weight.new_zeros(*weight.shape[:2], *((k - 1) * rate + 1 for k in kernel))
    spread[_at(slice(None, None, rate) for _ in kernel)] = weight
    return spread


def atrous_conv(x: Tensor, weight: Tensor, rate: int = 1, padding: int = 0) -> Tensor:
    """Atrous convolution by hand, tap by tap; equal to F.conv1d and F.conv2d with `dilation=rate`.

    Args:
        x: (N, C_in, L) or (N, C_in, H, W).
        weight: (C_out, C_in, k) or (C_out, C_in, kh, kw), as PyTorch has it.
        rate: distance of neighbouring taps; 1 is the plain convolution.
        padding: zeros at both ends of each axis. `rate · (k-1) / 2` keeps the size; it grows with the rate.

    Returns:
        (N, C_out, L_out) or (N, C_out, H_out, W_out), each `n + 2·padding - rate·(k-1)`.

    Raises ValueError where the kernel with its holes does not fit.
    """
    x, sizes = _padded(x, weight, rate, padding)
    out = x.new_zeros(len(x), len(weight), *sizes)
    for tap in product(*(range(k) for k in weight.shape[2:])):
        seen = x[_at(slice(t * rate, t * rate + n) for t, n in zip(tap, sizes))]  # what lies under this tap
        out += torch.einsum("ni...,oi->no...", seen, weight[_at(tap)])
    return out


def atrous_by_holes(x: Tensor, weight: Tensor, rate: int = 1, padding: int = 0) -> Tensor:
    """Atrous convolution without holes: subsample, convolve plainly, interlace. Arguments as for `atrous_conv`.

    Units whose positions differ by less than the rate never meet: the phases `x[a::rate]` are maps of their own.
    """
    x, sizes = _padded(x, weight, rate, padding)
    conv = F.conv1d if x.dim() == 3 else F.conv2d
    out = x.new_empty(len(x), len(weight), *sizes)
    for starts in product(*(range(min(rate, n)) for n in sizes)):  # a short output has fewer phases
        phase = _at(slice(a, None, rate) for a in starts)
        out[phase] = conv(x[phase], weight)
    return out


def _padded(x: Tensor, weight: Tensor, rate: int, padding: int) -> tuple[Tensor, list[int]]:
    """The padded map, and the size of the output."""
    _require_kernel(weight)
    _require(rate=(rate, 1), padding=(padding, 0))
    if x.dim() != weight.dim() or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"x must be (N, C_in, L) or (N, C_in, H, W) with the axes and the C_in of the weight; "
            f"got {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    sizes = [output_size(n, k, 1, padding, rate) for n, k in zip(x.shape[2:], weight.shape[2:])]
    return F.pad(x, [padding] * 2 * len(sizes)), sizes


# --- stacks: fields, and the holes in them -----------------------------------------------------------


def stack(rates: Sequence[int], kernel: int = 3) -> list[Layer]:
    """Atrous layers one on the other, each padded to keep the size, for `segcourse.receptive_field`.

    `Field.of(stack(rates)).holes()` names what one unit does not read; `parallel(stack(rates))` puts the same layers
    side by side, as ASPP does.
    """
    _require_odd(kernel)
    return [Layer(kernel, padding=_same(kernel, rate), dilation=rate) for rate in rates]


def stacked_fields(rates: Sequence[int], kernel: int = 3) -> list[int]:
    """Receptive field after each layer of a stack: 3, 7, 15 for rates 1, 2, 4 (alone the layers see 3, 5 and 9)."""
    layers = stack(rates, kernel)
    return [compound(layers[: i + 1]).kernel for i in range(len(layers))]


def path_counts(rates: Sequence[int], kernel: int = 3) -> Tensor:
    """On how many paths each input reaches one unit of a stack: (field, field) integers, the unit in the middle.

    With all weights equal to one this is the unit's gradient. Zeros are inputs that the unit does not touch: gridding.
    """
    _require_odd(kernel)
    counts = torch.ones(1, 1, 1, dtype=torch.double)
    taps = torch.ones(1, 1, kernel, dtype=torch.double)
    for rate in rates:
        counts = atrous_conv(counts, taps, rate, padding=(kernel - 1) * rate)
    return torch.outer(counts[0, 0], counts[0, 0]).long()


def coverage(rates: Sequence[int], kernel: int = 3) -> float:
    """Fraction of its receptive field that a unit of a stack touches.

    Equal rates r, n times, touch every r-th input: with 3x3 kernels (2n+1)² of (2rn+1)², 49 of 169 for 2, 2, 2.
    """
    return path_counts(rates, kernel).gt(0).double().mean().item()


# --- rates beyond the map ----------------------------------------------------------------------------


def valid_taps(size: IntOrPair, rate: int, kernel: int = 3) -> Tensor:
    """How many taps of an atrous kernel lie inside the map, at each place: (H, W) integers, from 1 to kernel².

    The map is padded to keep its size; the other taps read padding. From a rate of the map's length on only the middle
    one is left, and the convolution is a 1x1 (Chen et al. 2017, section 3.3, figure 4).
    """
    _require(rate=(rate, 1))
    _require_odd(kernel)
    inside = []
    for n in (size, size) if isinstance(size, int) else size:
        _require(size=(n, 1))
        position = torch.arange(n)[:, None] - _same(kernel, rate) + torch.arange(kernel) * rate
        inside.append(((position >= 0) & (position < n)).sum(1))
    return torch.outer(*inside)


def valid_fraction(size: IntOrPair, rate: int, kernel: int = 3) -> float:
    """Share of all products of an atrous layer that do not multiply padding, between 1/kernel² and 1."""
    return valid_taps(size, rate, kernel).double().mean().item() / kernel**2


# --- strides into rates ------------------------------------------------------------------------------


def set_output_stride(model: Network, output_stride: int) -> Network:
    """A copy of a network whose units lie `output_stride` pixels apart, with the same weights at larger rates.

    Strides go until the wanted one is reached; each later convolution and pooling gets its rate and its padding times
    the stride that is gone before it. What the copy computes, and where that is exact: see the top of this module.
    The network is an encoder as VGG's or ResNet's, with its strides in nn.Conv2d, nn.MaxPool2d and nn.AvgPool2d.

    That it has worked is checked: unit 0 of every layer must see the same input pixels as before.

    Args:
        model: (N, C, H, W) -> (N, K, h, w), where C is that of its first convolution.
        output_stride: 8 or 16 in DeepLab; any that divides the network's own.

    Raises:
        ValueError: the network steps by less already, looks at the whole image (leave classifier and global pooling
            away), upsamples, or has a layer that cannot take a rate (which one, and why).
    """
    _require(output_stride=(output_stride, 1))
    before = _fields(model, "Give the features alone, without the classifier")
    if seeing_all := [name for name, fields in before.items() if any(field.everything for field in fields)]:
        raise ValueError(
            f"{seeing_all[0] or 'the network'} looks at the whole image: more units there would be another network. "
            "Give the features alone, without global pooling and classifier"
        )
    if any(field.jump < output_stride for field in before[""]):
        raise ValueError(
            f"units of this network lie {' x '.join(str(f.jump) for f in before[''])} pixels apart: "
            f"an output stride of {output_stride} would be coarser, and rates only make it finer"
        )
    dense = copy.deepcopy(model)
    for name, layer in [*dense.named_modules()]:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and name in before:
            _stride_to_rate(name, layer, before[name], output_stride)
            if isinstance(layer, nn.MaxPool2d) and any(2 * p > k for p, k in _axes(layer.padding, layer.kernel_size)):
                dense.set_submodule(name, _padded_first(layer))
    after = _fields(
        dense, "With strides turned into rates an even kernel shrinks the map, an odd one beside it does not"
    )
    for name, fields in before.items():
        for old, new in zip(fields, after[name]):
            if new.positions() != old.positions() or new.jump != min(old.jump, output_stride):
                raise ValueError(
                    f"{name or 'the network'} would see other pixels than before: is there a stride or an upsampling "
                    "outside of nn.Conv2d, nn.MaxPool2d and nn.AvgPool2d, or one layer used at several places?"
                )
    return dense


def _stride_to_rate(
    name: str, layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, fields: tuple[Field, ...], output_stride: int
) -> None:
    """Change one layer whose output has the given fields; see `set_output_stride`."""
    strides, rates = [], []
    for stride, field in zip(_pair(layer.stride), fields):
        jump = field.jump / stride  # pixels between units of the layer's input
        rate = max(Fraction(1), jump / output_stride)
        left = min(Fraction(stride), max(Fraction(1), output_stride / jump))
        if rate.denominator > 1 or left.denominator > 1 or stride % left:
            raise ValueError(f"{name} steps from {jump} to {field.jump} pixels: {output_stride} does not fit into that")
        strides.append(int(left))
        rates.append(int(rate))
    if strides != [*_pair(layer.stride)]:
        layer.stride = (strides[0], strides[1])
    if rates == [1, 1]:
        return
    if isinstance(layer, nn.AvgPool2d):
        raise ValueError(f"{name} would need a rate of {rates}, and nn.AvgPool2d has none: write it as nn.Conv2d")
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != "zeros":
            raise ValueError(f"{name} pads by {layer.padding_mode!r}: with a rate that is another network; use 'zeros'")
        if layer.padding == "same" and any(k % 2 == 0 for k in layer.kernel_size):
            raise ValueError(f"{name} pads an even kernel by 'same', which a rate would move: give a number instead")
    rows, columns = (d * rate if k > 1 else d for d, rate, k in _axes(layer.dilation, (*rates,), layer.kernel_size))
    layer.dilation = (rows, columns)  # a single tap has no holes
    if not isinstance(layer.padding, str):
        rows, columns = (p * rate for p, rate in _axes(layer.padding, (*rates,)))
        layer.padding = (rows, columns)


def _padded_first(pool: nn.MaxPool2d) -> nn.Sequential:
    """The pooling after a layer that pads: nn.MaxPool2d pads by half of its kernel at most, holes not counted."""
    rows, columns = _pair(pool.padding)
    pool.padding = 0
    return nn.Sequential(OrderedDict(pad=nn.ConstantPad2d((columns, columns, rows, rows), -math.inf), pool=pool))


def _fields(model: nn.Module, advice: str) -> dict[str, tuple[Field, ...]]:
    """The fields of all layers; a network that does not run raises ValueError with the advice."""
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None:
        raise ValueError("there is no nn.Conv2d in this network: nothing has a stride or a rate")
    try:
        return trace(model, (first.in_channels, TRACED_SIZE, TRACED_SIZE))
    except RuntimeError as error:
        raise ValueError(
            f"this network does not take images of {TRACED_SIZE}x{TRACED_SIZE}. {advice}. ({error})"
        ) from error


# --- ASPP --------------------------------------------------------------------------------------------


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling of DeepLab v3: (N, in_channels, H, W) -> (N, out_channels, H, W).

    Side by side over one map: a 1x1 convolution, a 3x3 one for each rate, and the mean of the map (image pooling) with
    a 1x1 convolution, spread over all places again. The results are concatenated (v2 adds scores up instead), and a
    last 1x1 convolution mixes them. Batch norm and ReLU follow each convolution, in place of biases. 15,535,104
    parameters from 2048 to 256 channels with three rates. Chen et al. 2017, section 3.3.

    A training batch needs two images or more: the batch norm after image pooling has one value an image.

    Args:
        in_channels: channels of the map.
        out_channels: channels of each branch and of the result; 256 in the paper.
        rates: 6, 12, 18 in the paper, for output stride 16; twice that for 8. Larger than the map they are 1x1
            convolutions with eight dead taps (`valid_taps`): that is what image pooling was put in for.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, rates: Sequence[int] = (6, 12, 18)) -> None:
        super().__init__()
        _require(
            in_channels=(in_channels, 1), out_channels=(out_channels, 1), **{"each rate": (min(rates, default=1), 1)}
        )
        self.point = _conv_norm_relu(in_channels, out_channels, 1)
        self.atrous = nn.ModuleList(_conv_norm_relu(in_channels, out_channels, 3, rate) for rate in rates)
        self.image = _conv_norm_relu(in_channels, out_channels, 1)
        self.mix = _conv_norm_relu(out_channels * (len(rates) + 2), out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Raises ValueError for a single image in training mode."""
        if self.training and len(x) < 2:
            raise ValueError("ASPP trains on batches of two images or more: image pooling leaves one value an image")
        image = self.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.mix(torch.cat([self.point(x), *(branch(x) for branch in self.atrous), image], dim=1))


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int, rate: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=_same(kernel, rate), dilation=rate, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


# --- small helpers and checks ------------------------------------------------------------------------


def _at(places: Iterable[int | slice]) -> tuple[Any, ...]:
    """An index of the last axes."""
    return (..., *places)


def _same(kernel: int, rate: int) -> int:
    """The padding that keeps the size, for an odd kernel."""
    return rate * (kernel // 2)


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _axes(*values: int | tuple[int, ...]) -> Iterable[tuple[int, ...]]:
    """The values of the rows, then those of the columns."""
    return zip(*map(_pair, values))


def _require_kernel(weight: Tensor) -> None:
    if weight.dim() not in (3, 4):
        raise ValueError(f"weight must be (C_out, C_in, k) or (C_out, C_in, kh, kw), got {tuple(weight.shape)}")


def _require_odd(kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, so that it has a middle; got {kernel}")


def _require(**arguments: tuple[int, int]) -> None:
    """Each argument is name=(value, smallest allowed value)."""
    for name, (value, smallest) in arguments.items():
        if not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value}")
