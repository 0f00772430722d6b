"""The exercises of lesson 08."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segcourse.cost import Profile, Row
from segcourse.exercises import Lesson
from segcourse.exercises.compare import Mismatch, agree
from segcourse.exercises.drivers import depthwise_cost as drivers
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, varied
from segcourse.exercises.quiz import Option, Question

STEM = "08_depthwise_cost"
Pair = tuple[int, int]


# --- conv_macs --------------------------------------------------------------------------------------------


def conv_macs(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
) -> int:
    """Return the multiply-adds of a convolution."""
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    return rows * columns * in_channels * kernel**2 * out_channels


def _layer(draw: Draw) -> Case:
    """One layer in eight has more than 2 ** 31 multiply-adds."""
    if draw.integer(0, 7) == 7:
        return {
            "height": draw.integer(61, 80),
            "width": draw.integer(81, 99),
            "in_channels": draw.integer(230, 280),
            "out_channels": draw.integer(230, 280),
            "kernel": draw.choice((3, 4, 5)),
            "stride": 1,
            "padding": draw.integer(1, 4),
        }
    kernel, in_channels = draw.choice((2, 3, 4, 5, 1)), draw.integer(2, 6)
    height = draw.integer(kernel, 24)
    return {
        "height": height,
        "width": max(kernel, height + draw.choice((1, 4, 9, -1, -5))),
        "in_channels": in_channels,
        "out_channels": max(1, in_channels + draw.choice((1, 3, 5, 0, -2))),
        "kernel": kernel,
        "stride": draw.integer(1, 3),
        "padding": draw.integer(0, 4),
    }


def _exactly(expected: Any, got: Any) -> Mismatch | None:
    """Compare as `agree` does, but counts to the last digit: a network's are too large for a float32."""
    mismatch = agree(expected, got)
    if mismatch:
        return mismatch
    pairs = zip(expected, got) if isinstance(expected, tuple) else [(expected, got)]
    if all(math.isclose(float(e), float(g), rel_tol=1e-9) for e, g in pairs):
        return None
    return Mismatch(
        "only its first seven digits are right: a float32 keeps no more. Count with Python's whole numbers."
    )


def _conv_on_meta(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
) -> int:
    """Let PyTorch find the output's shape; each of its numbers is a sum of as many products as a kernel has weights."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False, device="meta")
    output = layer(torch.empty(1, in_channels, height, width, device="meta"))
    return output.numel() * layer.weight[0].numel()


def _fits(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def _padded_once(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + padding - kernel) // stride + 1


def _macs_with(
    places: Callable[[int, int, int, int], Any] = _fits,
    each: Callable[[int, int, int], int] = lambda n, m, k: n * k * k * m,
) -> Callable[..., Any]:
    """A wrong count: `places` along an axis of (size, kernel, stride, padding), products `each` of (N, M, K)."""

    def count(
        height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
    ) -> Any:
        along = [places(size, kernel, stride, padding) for size in (height, width)]
        return along[0] * along[1] * each(in_channels, out_channels, kernel)

    return count


def _stride_along(axis: int) -> Callable[..., int]:
    """A wrong count: the stride is made along one axis, 0 or 1, and along the other the kernel stands everywhere."""

    def count(
        height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
    ) -> int:
        sides = enumerate((height, width))
        rows, columns = (_fits(side, kernel, stride if i == axis else 1, padding) for i, side in sides)
        return rows * columns * in_channels * kernel**2 * out_channels

    return count


def _places_rounded(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
) -> int:
    """Round the number of places down, in place of the rows and the columns."""
    rows, columns = ((side + 2 * padding - kernel) / stride + 1 for side in (height, width))
    return int(rows * columns) * in_channels * kernel**2 * out_channels


def _count_rounded(*layer: int) -> int:
    """Round the whole count down."""
    return int(_macs_with(lambda size, kernel, stride, padding: (size + 2 * padding - kernel) / stride + 1)(*layer))


def _wrapped_around(*layer: int) -> int:
    """The count as a whole number of 32 bits."""
    return (conv_macs(*layer) + 2**31) % 2**32 - 2**31


HAND = "One layer, one product at a time"
ROUNDED_LATE = "You rounded at the end. The kernel makes whole steps along each axis: round the rows and the columns."
ONE_STRIDE = "You let the kernel make its stride along one axis only. It does so along both."
FROM_THE_STRIDE = (
    "Your output has as many rows as the stride fits into the input's, whatever the kernel and the padding. That is so "
    'only where the padding is made for it ("same").'
)
SIZES = "Where the output's size comes from"

CONV_MACS = Exercise(
    name="conv_macs",
    lesson=STEM,
    title="A convolution's multiply-adds",
    points=1,
    minutes=6,
    difficulty=1,
    reference=conv_macs,
    oracle=_conv_on_meta,
    cases=_layer,
    examples=(
        {"height": 3, "width": 4, "in_channels": 2, "out_channels": 3, "kernel": 2, "stride": 1, "padding": 0},
        {"height": 12, "width": 13, "in_channels": 3, "out_channels": 256, "kernel": 5, "stride": 1, "padding": 0},
        {"height": 10, "width": 7, "in_channels": 4, "out_channels": 5, "kernel": 3, "stride": 2, "padding": 1},
        {"height": 11, "width": 6, "in_channels": 5, "out_channels": 2, "kernel": 1, "stride": 2, "padding": 1},
        # More than 2 ** 31, and odd enough to be no float32.
        {"height": 61, "width": 73, "in_channels": 251, "out_channels": 241, "kernel": 3, "stride": 1, "padding": 1},
    ),
    compare=_exactly,
    misconceptions=(
        Misconception(
            "input_size",
            _macs_with(lambda size, kernel, stride, padding: size),
            "You counted a place for every pixel of the input. Products are done once for every number of the "
            "*output*: how large is it, with this stride and padding?",
            SIZES,
        ),
        Misconception(
            "height_for_both",
            lambda height, width, *others: conv_macs(height, height, *others),
            "You used the height for both axes. The image need not be square.",
            SIZES,
        ),
        Misconception(
            "width_for_both",
            lambda height, width, *others: conv_macs(width, width, *others),
            "You used the width for both axes. The image need not be square.",
            SIZES,
        ),
        Misconception(
            "input_over_stride",
            _macs_with(lambda size, kernel, stride, padding: size // stride),
            FROM_THE_STRIDE,
            SIZES,
        ),
        Misconception(
            "same_padding",
            _macs_with(lambda size, kernel, stride, padding: -(-size // stride)),
            FROM_THE_STRIDE,
            SIZES,
        ),
        Misconception("stride_on_rows_only", _stride_along(0), ONE_STRIDE, SIZES),
        Misconception("stride_on_columns_only", _stride_along(1), ONE_STRIDE, SIZES),
        Misconception(
            "wraps_around",
            _wrapped_around,
            "Your count has 32 bits and wraps around beyond 2,147,483,647. Python's own whole numbers have no end.",
            HAND,
        ),
        Misconception(
            "flop_for_mac",
            _macs_with(each=lambda n, m, k: 2 * n * k * k * m),
            "Your count is twice as large: you counted the product and the addition apart. That is FLOP; a "
            "multiply-add is the two together.",
            HAND,
        ),
        Misconception(
            "bias_counted",
            _macs_with(each=lambda n, m, k: (n * k * k + 1) * m),
            "You counted one more product for each number of the output. Is it the bias? It is added, not multiplied.",
            HAND,
        ),
        Misconception(
            "one_input_channel",
            _macs_with(each=lambda n, m, k: k * k * m),
            "You counted a kernel of one channel. Each kernel reads all input channels at its place.",
            HAND,
        ),
        Misconception(
            "one_kernel",
            _macs_with(each=lambda n, m, k: n * k * k),
            "You counted one kernel. There is one for each output channel.",
            HAND,
        ),
        Misconception(
            "kernel_not_squared",
            _macs_with(each=lambda n, m, k: n * k * m),
            "You counted one row of the kernel. It has as many rows as columns.",
            HAND,
        ),
        Misconception(
            "one_place",
            _macs_with(lambda *_: 1),
            "That is the number of the layer's weights. Each of them is used at every place of the kernel: how many "
            "places are there?",
            HAND,
        ),
        Misconception(
            "stride_forgotten",
            _macs_with(lambda size, kernel, stride, padding: size + 2 * padding - kernel + 1),
            "You let the kernel stand on every pixel, whatever the stride.",
            SIZES,
        ),
        Misconception(
            "padding_forgotten",
            _macs_with(lambda size, kernel, stride, padding: (size - kernel) // stride + 1),
            "Your output is that of an image without padding. Products with padded zeros are done too, and counted.",
            SIZES,
        ),
        Misconception(
            "padding_on_one_side",
            _macs_with(_padded_once),
            "You padded one side of the image only. At which sides do the zeros lie?",
            SIZES,
        ),
        Misconception(
            "counts_steps",
            _macs_with(lambda size, kernel, stride, padding: (size + 2 * padding - kernel) // stride),
            "You counted the steps of the kernel along each axis. It also stands somewhere before its first step.",
            SIZES,
        ),
        Misconception(
            "rounds_up",
            _macs_with(lambda size, kernel, stride, padding: -(-(size + 2 * padding - kernel) // stride) + 1),
            "You counted a last place at which the kernel sticks out of the padded image. Along an axis only whole "
            "steps are made.",
            SIZES,
        ),
        Misconception(
            "keeps_the_fraction",
            _macs_with(lambda size, kernel, stride, padding: (size + 2 * padding - kernel) / stride + 1),
            "You kept a fraction of a step, and so a fraction of a place. `//` rounds down, `/` does not.",
            SIZES,
        ),
        Misconception("places_rounded", _places_rounded, ROUNDED_LATE, SIZES),
        Misconception("count_rounded", _count_rounded, ROUNDED_LATE, SIZES),
    ),
    hints=(
        "Two questions: how many numbers has the output, and how many products is each of them the sum of?",
        "Find the output's rows and columns first, from the padded size, the kernel and the stride. Then multiply by "
        "the number of output channels, and by the weights of one kernel.",
        "rows = (height + 2 * padding - ...) // stride + 1, columns likewise; rows * columns * in_channels * ...",
    ),
    property="the count is the number of weights of one kernel, once for every number of the output.",
)

# --- layer_budgets ----------------------------------------------------------------------------------------


def layer_budgets(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, groups: int, bias: bool
) -> tuple[int, int, int]:
    """Return parameters, multiply-adds and activations of a convolution in groups."""
    weights = out_channels * (in_channels // groups) * kernel**2
    parameters = weights + (out_channels if bias else 0)
    return parameters, height * width * weights, height * width * out_channels


def _grouped_layer(draw: Draw) -> Case:
    """One layer in two is a large one: too many to be listed."""
    wide = draw.choice((1, 4))
    groups = draw.choice((1, 2, 3, 4))
    height = draw.integer(2, 9 * wide)
    return {
        "height": height,
        "width": max(1, height + draw.choice((1, 3, 5, -1, -4))),
        "in_channels": groups * draw.integer(1, 4 * wide),
        "out_channels": groups * draw.choice((2, 1, 3, 5)) * draw.integer(1, wide),
        "kernel": draw.integer(1, 4),
        "groups": groups,
        "bias": draw.choice((False, True)),
    }


def _budgets_of_torch(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, groups: int, bias: bool
) -> tuple[int, int, int]:
    """Build the layer, and an input that gives an output of this size without padding."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, groups=groups, bias=bias, device="meta")
    output = layer(torch.empty(1, in_channels, height + kernel - 1, width + kernel - 1, device="meta"))
    parameters = sum(p.numel() for p in layer.parameters())
    return parameters, output.numel() * layer.weight[0].numel(), output.numel()


def _budgets_with(
    weights: Callable[[int, int, int, int], Any] = lambda n, m, k, g: m * (n // g) * k * k,
    parameters: Callable[[int, int, int, bool, int], int] = lambda w, m, g, bias, places: w + m * bias,
    macs: Callable[[int, int, int, bool], int] = lambda w, places, m, bias: w * places,
    activations: Callable[[int, int, int, int], int] = lambda places, n, m, g: places * m,
) -> Callable[..., Any]:
    """Wrong budgets: `weights` of (N, M, K, G), `parameters` of (weights, M, G, bias, places), and so on."""

    def count(
        height: int, width: int, in_channels: int, out_channels: int, kernel: int, groups: int, bias: bool
    ) -> Any:
        places, w = height * width, weights(in_channels, out_channels, kernel, groups)
        return (
            parameters(w, out_channels, groups, bias, places),
            macs(w, places, out_channels, bias),
            activations(places, in_channels, out_channels, groups),
        )

    return count


def _bias_of_the_input(height: int, width: int, in_channels: int, *others: Any) -> Any:
    parameters, *rest = layer_budgets(height, width, in_channels, *others)
    out_channels, _, _, bias = others
    return parameters + (in_channels - out_channels) * bias, *rest


def _budgets_changed(change: Callable[..., Any]) -> Callable[..., Any]:
    """Wrong budgets: the right ones, `change`d; it is called with the three and the number of groups."""
    return lambda *layer: change(*layer_budgets(*layer), layer[5])


def _budgets_of_the_input(height: int, width: int, *others: Any) -> Any:
    kernel = others[2]
    return layer_budgets(height - kernel + 1, width - kernel + 1, *others)


BUDGETS = "Four budgets"
GROUPS = "Groups divide the work"

LAYER_BUDGETS = Exercise(
    name="layer_budgets",
    lesson=STEM,
    title="Three budgets of a layer in groups",
    points=2,
    minutes=8,
    difficulty=1,
    reference=layer_budgets,
    oracle=_budgets_of_torch,
    cases=_grouped_layer,
    examples=(
        {"height": 3, "width": 5, "in_channels": 4, "out_channels": 6, "kernel": 3, "groups": 2, "bias": True},
        {"height": 4, "width": 7, "in_channels": 6, "out_channels": 9, "kernel": 2, "groups": 3, "bias": False},
        {"height": 56, "width": 48, "in_channels": 8, "out_channels": 16, "kernel": 3, "groups": 8, "bias": True},
        {"height": 4, "width": 7, "in_channels": 6, "out_channels": 3, "kernel": 2, "groups": 3, "bias": True},
        {"height": 5, "width": 3, "in_channels": 4, "out_channels": 4, "kernel": 3, "groups": 4, "bias": True},
    ),
    compare=_exactly,
    misconceptions=(
        Misconception(
            "divides_twice",
            _budgets_with(lambda n, m, k, g: (m // g) * (n // g) * k * k),
            "You divided both the input and the output channels by the number of groups. That is one group; how many "
            "are there?",
            GROUPS,
        ),
        Misconception(
            "groups_ignored",
            _budgets_with(lambda n, m, k, g: m * n * k * k),
            "You let every output channel read all input channels. With groups it reads those of its own group only.",
            GROUPS,
        ),
        Misconception(
            "groups_ignored_in_macs",
            _budgets_changed(lambda parameters, macs, activations, groups: (parameters, macs * groups, activations)),
            "Your parameters are right. In the multiply-adds you let every output channel read all input channels.",
            GROUPS,
        ),
        Misconception(
            "macs_divided_twice",
            _budgets_changed(lambda parameters, macs, activations, groups: (parameters, macs // groups, activations)),
            "Your parameters are right, but you divided the multiply-adds by the number of groups once more. Each "
            "weight is used at every place of the output: does that depend on the groups?",
            GROUPS,
        ),
        Misconception(
            "size_of_the_input",
            _budgets_of_the_input,
            "You took height and width for the input's, and made them smaller by the kernel. They are the output's "
            "already.",
            "Exercise: three budgets of a layer in groups (2 points)",
        ),
        Misconception(
            "activations_divided",
            _budgets_with(activations=lambda places, n, m, g: places * m // g),
            "You divided the activations by the number of groups. The groups share the work of the output's channels; "
            "they do not change how many there are.",
            GROUPS,
        ),
        Misconception(
            "bias_counted_twice",
            _budgets_with(macs=lambda w, places, m, bias: w * places + places * m * bias),
            "You counted the bias twice: as parameters, which is right, and once more among the multiply-adds. "
            "Is anything multiplied by it?",
            BUDGETS,
        ),
        Misconception(
            "bias_at_every_place",
            _budgets_with(parameters=lambda w, m, g, bias, places: w + m * places * bias),
            "You counted a bias for every number of the output. All places of a channel share one.",
            BUDGETS,
        ),
        Misconception(
            "bias_forgotten",
            _budgets_with(parameters=lambda w, m, g, bias, places: w),
            "The weights are right, but where the layer has a bias your parameters lack it.",
            BUDGETS,
        ),
        Misconception(
            "bias_always",
            _budgets_with(parameters=lambda w, m, g, bias, places: w + m),
            "You counted a bias also where the layer has none.",
            BUDGETS,
        ),
        Misconception(
            "bias_of_one",
            _budgets_with(parameters=lambda w, m, g, bias, places: w + bias),
            "You counted the bias as one number. Does every output channel get the same?",
            BUDGETS,
        ),
        Misconception(
            "bias_of_the_input",
            _bias_of_the_input,
            "You counted a bias for each input channel. It is added to the numbers that the layer gives out.",
            BUDGETS,
        ),
        Misconception(
            "bias_in_groups",
            _budgets_with(parameters=lambda w, m, g, bias, places: w + m // g * bias),
            "You divided the bias by the number of groups. It belongs to the output channels; how many are there in "
            "all groups together?",
            GROUPS,
        ),
        Misconception(
            "activations_of_the_input",
            _budgets_with(activations=lambda places, n, m, g: places * n),
            "You counted activations with the input's channels. A layer's activations are the numbers that it gives.",
            BUDGETS,
        ),
        Misconception(
            "activations_of_one_channel",
            _budgets_with(activations=lambda places, n, m, g: places),
            "You counted the places of the output, and each place holds a number for every output channel.",
            BUDGETS,
        ),
        Misconception(
            "macs_of_one_place",
            _budgets_with(macs=lambda w, places, m, bias: w),
            "Your multiply-adds are those of one place. Every weight works at every place of the output.",
            HAND,
        ),
        Misconception(
            "kernel_not_squared",
            _budgets_with(lambda n, m, k, g: m * (n // g) * k),
            "You counted one row of the kernel. It has as many rows as columns.",
            HAND,
        ),
        Misconception(
            "macs_first",
            _budgets_changed(lambda parameters, macs, activations, groups: (macs, parameters, activations)),
            "The three numbers are right, their order is not: parameters come first, then multiply-adds.",
            "Exercise: three budgets of a layer in groups (2 points)",
        ),
        Misconception(
            "activations_second",
            _budgets_changed(lambda parameters, macs, activations, groups: (parameters, activations, macs)),
            "The three numbers are right, their order is not: activations come last.",
            "Exercise: three budgets of a layer in groups (2 points)",
        ),
    ),
    hints=(
        "Write down the shape of the layer's weight. How many input channels does one kernel read when they are dealt "
        "out to the groups?",
        "The weight has a kernel for each output channel, and each kernel reads the input channels of one group. "
        "Places times weights are the multiply-adds; the bias belongs to one of the three budgets only.",
        "weights = out_channels * (in_channels // groups) * ...; then parameters, height * width * ..., and "
        "height * width * ...",
    ),
    property="the groups are small dense layers side by side, each with its share of the input and output channels.",
)


# --- separable_macs ---------------------------------------------------------------------------------------


def separable_macs(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
) -> Pair:
    """Return the multiply-adds of a depthwise convolution and of the pointwise one after it."""
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    return rows * columns * in_channels * kernel**2, rows * columns * in_channels * out_channels


def _separable_on_meta(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
) -> Pair:
    """Build the two layers, and multiply each output by the weights that one of its numbers uses."""
    depthwise = nn.Conv2d(in_channels, in_channels, kernel, stride, padding, groups=in_channels, device="meta")
    pointwise = nn.Conv2d(in_channels, out_channels, 1, device="meta")
    between = depthwise(torch.empty(1, in_channels, height, width, device="meta"))
    after = pointwise(between)
    return between.numel() * depthwise.weight[0].numel(), after.numel() * pointwise.weight[0].numel()


def _separable_with(
    depthwise: Callable[[int, int, int], int] = lambda n, m, k: n * k * k,
    pointwise: Callable[[int, int, int], int] = lambda n, m, k: n * m,
    first: Callable[[int, int, int, int], int] = _fits,
    second: Callable[[int, int, int, int], int] = _fits,
    result: Callable[[int, int], Any] = lambda a, b: (a, b),
) -> Callable[..., Any]:
    """A wrong count: products of (N, M, K) at one place, places along an axis for each of the two layers."""

    def count(
        height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
    ) -> Any:
        sides = (height, width)
        places = [first(side, kernel, stride, padding) for side in sides]
        later = [second(side, kernel, stride, padding) for side in sides]
        each = in_channels, out_channels, kernel
        return result(places[0] * places[1] * depthwise(*each), later[0] * later[1] * pointwise(*each))

    return count


def _size_itself(size: int, kernel: int, stride: int, padding: int) -> int:
    return size


SPLIT = "Depthwise, then pointwise"
POINTWISE_INPUT = "You ran the pointwise layer on the input's size. Which map does it get?"

SEPARABLE_MACS = Exercise(
    name="separable_macs",
    lesson=STEM,
    title="Depthwise and pointwise",
    points=2,
    minutes=8,
    difficulty=2,
    reference=separable_macs,
    oracle=_separable_on_meta,
    cases=_layer,
    examples=(
        {"height": 12, "width": 13, "in_channels": 3, "out_channels": 256, "kernel": 5, "stride": 1, "padding": 0},
        {"height": 9, "width": 14, "in_channels": 2, "out_channels": 5, "kernel": 3, "stride": 2, "padding": 1},
        {"height": 11, "width": 6, "in_channels": 5, "out_channels": 2, "kernel": 3, "stride": 2, "padding": 4},
    ),
    compare=_exactly,
    misconceptions=(
        Misconception(
            "forgets_pointwise",
            _separable_with(pointwise=lambda n, m, k: 0),
            "You counted the depthwise layer and forgot the pointwise one. It is the larger part as a rule.",
            SPLIT,
        ),
        Misconception(
            "pointwise_at_the_input",
            _separable_with(second=_size_itself),
            POINTWISE_INPUT,
            SPLIT,
        ),
        Misconception(
            "pointwise_like_the_depthwise",
            _separable_with(second=lambda size, k, s, p: _fits(size, 1, s, p)),
            POINTWISE_INPUT,
            SPLIT,
        ),
        Misconception(
            "pointwise_strides_on_the_input",
            _separable_with(second=lambda size, k, s, p: _fits(size, 1, s, 0)),
            POINTWISE_INPUT,
            SPLIT,
        ),
        Misconception(
            "both_at_the_input",
            _separable_with(first=_size_itself, second=_size_itself),
            "You counted both layers at every pixel of the input. Each layer works at the places of its own output.",
            SIZES,
        ),
        Misconception(
            "depthwise_at_the_input",
            _separable_with(first=_size_itself),
            "You counted the depthwise layer at every pixel of the input. It works at the places of its own output.",
            SIZES,
        ),
        Misconception(
            "height_for_both",
            lambda height, width, *others: separable_macs(height, height, *others),
            "You used the height for both axes. The image need not be square.",
            SIZES,
        ),
        Misconception(
            "width_for_both",
            lambda height, width, *others: separable_macs(width, width, *others),
            "You used the width for both axes. The image need not be square.",
            SIZES,
        ),
        Misconception(
            "padding_on_one_side",
            _separable_with(first=_padded_once, second=_padded_once),
            "You padded one side of the image only. At which sides do the zeros lie?",
            SIZES,
        ),
        Misconception(
            "pointwise_strides_again",
            _separable_with(second=lambda size, k, s, p: (_fits(size, k, s, p) - 1) // s + 1),
            "You let the pointwise layer make strides as well. The depthwise one has made them already.",
            SPLIT,
        ),
        Misconception(
            "pointwise_padded",
            _separable_with(second=lambda size, k, s, p: _fits(size, k, s, p) + 2 * p),
            "You padded the map between the two layers. A 1x1 kernel needs no padding.",
            SPLIT,
        ),
        Misconception(
            "depthwise_reads_all",
            _separable_with(depthwise=lambda n, m, k: n * n * k * k),
            "Your depthwise layer reads all input channels for each of its outputs. It has as many groups as channels.",
            SPLIT,
        ),
        Misconception(
            "depthwise_is_dense",
            _separable_with(depthwise=lambda n, m, k: n * m * k * k),
            "Your first count is that of the dense convolution. The depthwise layer mixes no channels.",
            SPLIT,
        ),
        Misconception(
            "depthwise_makes_all",
            _separable_with(depthwise=lambda n, m, k: m * k * k),
            "Your depthwise layer makes the final number of channels. It filters each input channel once; who changes "
            "their number?",
            SPLIT,
        ),
        Misconception(
            "depthwise_of_one_channel",
            _separable_with(depthwise=lambda n, m, k: k * k),
            "You counted the depthwise kernel for one channel. Every channel has a kernel of its own.",
            SPLIT,
        ),
        Misconception(
            "depthwise_not_squared",
            _separable_with(depthwise=lambda n, m, k: n * k),
            "You counted one row of the depthwise kernel.",
            SPLIT,
        ),
        Misconception(
            "pointwise_keeps_the_kernel",
            _separable_with(pointwise=lambda n, m, k: n * m * k * k),
            "Your pointwise layer still has the large kernel: that is the dense convolution. Pointwise means 1x1.",
            SPLIT,
        ),
        Misconception(
            "pointwise_of_one_channel",
            _separable_with(pointwise=lambda n, m, k: m),
            "Your pointwise layer reads one channel. It is there to mix them all.",
            SPLIT,
        ),
        Misconception(
            "adds_them_up",
            _separable_with(result=lambda a, b: a + b),
            "You added the two counts up. They are wanted as a pair, depthwise first.",
            "Exercise: depthwise and pointwise (2 points)",
        ),
        Misconception(
            "pointwise_first",
            _separable_with(result=lambda a, b: (b, a)),
            "The two numbers are right, but the wrong way round: the depthwise layer comes first.",
            "Exercise: depthwise and pointwise (2 points)",
        ),
    ),
    hints=(
        "Two layers, one after the other. For each: how many numbers does it give, and how many products is each of "
        "them the sum of?",
        "The depthwise layer keeps the number of channels and changes the size; the pointwise one keeps the size and "
        "changes the number of channels. A depthwise number is the sum of one kernel's products.",
        "with rows and columns of the depthwise output: rows * columns * in_channels * ..., and "
        "rows * columns * in_channels * ...",
    ),
    property="each layer's count is the size of its own output times the weights that one of its numbers uses.",
)


# --- macs_by_layer ----------------------------------------------------------------------------------------


def macs_by_layer(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the multiply-adds of each convolution, transposed convolution and linear layer."""
    macs: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def hook(layer: Any, inputs: Any, output: Any) -> None:
            stamps = isinstance(layer, nn.ConvTranspose2d)
            numbers = inputs[0].numel() if stamps else output.numel()
            macs[name] = macs.get(name, 0) + numbers * layer.weight[0].numel()

        return hook

    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(count(name)))
    with torch.no_grad():
        model(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return macs


def _network(draw: Draw) -> Case:
    """Convolutions, one stage that may run twice, a transposed layer, and a linear layer along the rows."""
    n, a, b, groups = draw.integer(2, 3), 2 * draw.integer(1, 3), draw.integer(3, 5), draw.integer(1, 2)
    kernel, stamp_rows, spread = draw.choice(((3, 1), (2, 3), (3, 2))), draw.integer(1, 3), draw.integer(1, 2)
    height, width = draw.integer(5, 8), draw.integer(6, 9)
    stride = draw.integer(1, 2)
    columns = (width - kernel[1]) // stride + 1
    bias = draw.choice((True, False))
    twice = draw.choice((True, False))
    up = draw.integer(2, 3)
    wide = up * (columns - 1) + up + 1
    dilated = ", dilation=2" if spread == 2 else ""
    middle = f"Conv2d({a}, {a}, 3, padding={spread}{dilated}, groups={2 * groups if a == 4 else 2})"
    return {
        "encoder": f"Conv2d({n}, {a}, {kernel}, stride={stride}, bias={bias}), ReLU()",
        "middle": f"Sequential({middle}), ReLU()" if draw.choice((True, False)) else f"{middle}, ReLU()",
        "decoder": f"ConvTranspose2d({a}, {2 * b}, ({stamp_rows}, {up + 1}), {up}, groups={draw.choice((2, 1))})",
        "head": f"Linear({wide}, {draw.integer(2, 4)})",
        "order": ("encoder", *["middle"] * (1 + twice), "decoder", "head"),
        "shape": (draw.integer(1, 3), n, height, width),
    }


TRACES = dict(
    zip(
        drivers.TRACES,
        (
            "hooks are still on the model: take them off at the end.",
            "hooks that others had put on the model are gone: take off your own only.",
            "the model was in training mode, and is no more: leave it as it was.",
            "the model's parameters are not what they were: leave them alone.",
        ),
        strict=True,
    )
)
"""What is said of each trace that an answer left behind on the model, where the counts are right."""


class _Counts(dict[str, int]):
    """The counts alone, by which mistakes are told apart, and beside them what was `left` behind."""

    left: tuple[str, ...] = ()


def _counts_and_traces(case: Case, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    counts = _Counts({name: count for name, count in value.items() if name not in TRACES})
    counts.left = tuple(says for trace, says in TRACES.items() if trace in value)
    return counts


def _same_counts(expected: Any, got: Any) -> Mismatch | None:
    mismatch = agree(expected, got) or _exactly(tuple(expected.values()), [got[name] for name in expected])
    return mismatch or (Mismatch(f"the counts are right, but {got.left[0]}") if got.left else None)


def _by_arithmetic(model: Any, shape: tuple[int, ...]) -> dict[str, int]:
    """Follow the sizes of the maps by formula; every weight is used once at every place. Nothing is run."""
    images, channels, height, width = shape
    macs: dict[str, int] = {}
    for part in model.order:
        for place, layer in model.get_submodule(part).named_modules():
            if not hasattr(layer, "weight"):
                continue
            if isinstance(layer, nn.Linear):
                uses, width = images * channels * height, layer.out_features
            else:
                channels, before = layer.out_channels, (height, width)
                spread = (d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation))
                options = zip(before, spread, layer.stride, layer.padding)
                if isinstance(layer, nn.ConvTranspose2d):
                    height, width = ((n - 1) * s + k - 2 * p for n, k, s, p in options)
                    uses = images * before[0] * before[1]
                else:
                    height, width = (_fits(*option) for option in options)
                    uses = images * height * width
            name = f"{part}.{place}"
            macs[name] = macs.get(name, 0) + uses * layer.weight.numel()
    return macs


def _counter(
    count: Callable[[Any, Tensor, Tensor], int],
    join: Callable[[int, int], int] = lambda before, now: before + now,
    modules: Callable[[nn.Module], Any] = nn.Module.named_modules,
    kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear),
    leave: bool = False,
) -> Callable[..., dict[str, int]]:
    """A wrong counter: `count` of (layer, input, output) at each call, `join` of the counts of several calls."""

    def answer(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
        macs: dict[str, int] = {}

        def hook_of(name: str) -> Callable[..., None]:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                macs[name] = join(macs.get(name, 0), count(layer, inputs[0], output))

            return hook

        hooks = [m.register_forward_hook(hook_of(name)) for name, m in modules(model) if isinstance(m, kinds)]
        with torch.no_grad():
            model(torch.zeros(shape))
        for hook in [] if leave else hooks:
            hook.remove()
        return macs

    return answer


def _right(layer: Any, x: Tensor, y: Tensor) -> int:
    return (x if isinstance(layer, nn.ConvTranspose2d) else y).numel() * layer.weight[0].numel()


def _unless(kind: type[nn.Module], count: Callable[[Any, Tensor, Tensor], int]) -> Callable[[Any, Tensor, Tensor], int]:
    """Count right, but layers of one kind by `count`."""
    return lambda layer, x, y: count(layer, x, y) if isinstance(layer, kind) else _right(layer, x, y)


def _with_all_parameters(layer: Any, x: Tensor, y: Tensor) -> int:
    """Every parameter at every place, the bias among them."""
    bias = 0 if layer.bias is None else layer.bias.numel()
    return _right(layer, x, y) // layer.weight.numel() * (layer.weight.numel() + bias)


def _square(layer: Any, x: Tensor, y: Tensor) -> int:
    """Square the kernel's first side."""
    if isinstance(layer, nn.Linear):
        return _right(layer, x, y)
    return _right(layer, x, y) // layer.kernel_size[1] * layer.kernel_size[0]


def _stamped_by_all(layer: Any, x: Tensor, y: Tensor) -> int:
    """A transposed layer by its output, with all input channels for each of its numbers."""
    return y.numel() * layer.weight[:, 0].numel()


def _one_name(
    join: Callable[[int, int], int] = lambda before, now: before + now, zeros: bool = False, one_layer: bool = False
) -> Callable[..., dict[str, int]]:
    """A counter whose hooks look the name up when they run: by then the loop has ended, and all find the last one.

    zeros: every layer had a zero before. one_layer: the hooks look the layer up as well.
    """

    def answer(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
        *_, (last, last_layer) = model.named_modules()
        counts = _counter(lambda m, x, y: _right(last_layer if one_layer else m, x, y), join)(model, shape)
        total = 0
        for one in counts.values():
            total = join(total, one)
        return {**(dict.fromkeys(counts, 0) if zeros else {}), last: total}

    return answer


def _per_group(layer: Any) -> int:
    return getattr(layer, "groups", 1)


TOTAL = "Every layer of a network"
STAMPS = "Transposed layers count by their input"
EXERCISE_PROFILER = "Exercise: a small profiler (3 points)"
BIAS_IN_HOOKS = "You counted the bias as one more product for each number of the output."
TRANSPOSED_BY_OUTPUT = (
    "You counted the transposed layer by its output. Each number of which map is stamped with a whole kernel?"
)
FEWER_KINDS = "Not all layers that multiply are in your dict. Which kinds of layers did you give a hook?"
LINEAR_AXES = "You counted the linear layer's vectors along some axes only. All axes but the last count them."
SQUARED = "You squared the kernel's first side. A kernel may have more rows than columns."
ONE_NAME = (
    "All your hooks write under one name. A hook made in a loop looks `name` up only when it runs, and by then the "
    "loop has ended: how did the hook of `tiny` get a name of its own?"
)

MACS_BY_LAYER = Exercise(
    name="macs_by_layer",
    lesson=STEM,
    title="A small profiler",
    points=3,
    minutes=15,
    difficulty=3,
    reference=macs_by_layer,
    oracle=_by_arithmetic,
    cases=_network,
    examples=(
        {"encoder": "Conv2d(2, 4, (2, 1), groups=2)", "order": ("encoder",), "shape": (2, 2, 3, 2)},
        {"decoder": "ConvTranspose2d(2, 4, 2, 2, groups=2)", "order": ("decoder",), "shape": (1, 2, 1, 2)},
        {"head": "Linear(3, 2)", "order": ("head",), "shape": (2, 1, 2, 3)},
        {"middle": "Conv2d(1, 1, 3, padding=1)", "order": ("middle", "middle"), "shape": (1, 1, 2, 3)},
        {"decoder": "ConvTranspose2d(2, 6, (2, 3), 2)", "order": ("decoder",), "shape": (1, 2, 2, 3)},
        {"encoder": "Conv2d(1, 2, 2, dilation=2)", "order": ("encoder",), "shape": (1, 1, 3, 4)},
        {
            "encoder": "Conv2d(2, 4, (3, 2), stride=2), ReLU()",
            "middle": "Sequential(Conv2d(4, 4, 3, padding=1, groups=2)), ReLU()",
            "decoder": "ConvTranspose2d(4, 6, 3, 2, groups=2)",
            "head": "Linear(9, 3)",
            "order": ("encoder", "middle", "middle", "decoder", "head"),
            "shape": (2, 2, 7, 8),
        },
    ),
    drive=drivers.counter,
    compare=_same_counts,
    measure=_counts_and_traces,
    runs=16,
    seconds=5.0,
    misconceptions=(
        Misconception(
            "transposed_by_output",
            _counter(
                _unless(
                    nn.ConvTranspose2d,
                    lambda m, x, y: y.numel() * (m.in_channels // m.groups) * m.weight[0, 0].numel(),
                )
            ),
            TRANSPOSED_BY_OUTPUT,
            STAMPS,
        ),
        Misconception(
            "transposed_by_output_ungrouped",
            _counter(_unless(nn.ConvTranspose2d, _stamped_by_all)),
            TRANSPOSED_BY_OUTPUT,
            STAMPS,
        ),
        Misconception(
            "transposed_by_input_channels",
            _counter(_unless(nn.ConvTranspose2d, lambda m, x, y: x.numel() * m.weight[:, 0].numel())),
            "Your transposed layer works by its input, which is right. But a number of the input is not multiplied by "
            "the kernels of other input channels: which axis of the weight is which?",
            STAMPS,
        ),
        Misconception(
            "transposed_weight_read_as_conv",
            _counter(lambda m, x, y: y.numel() * m.weight[0].numel()),
            "You treated the transposed layer like a convolution: output times one slice of the weight. Its weight is "
            "(N, M/G, K, K), and its stamps are as many as the input has numbers.",
            STAMPS,
        ),
        Misconception(
            "linear_of_one_token",
            _counter(_unless(nn.Linear, lambda m, x, y: m.weight.numel())),
            "You counted the linear layer as if it saw one vector. It works along the last axis: how many vectors do "
            "the other axes hold?",
            TOTAL,
        ),
        Misconception(
            "linear_of_one_token_an_image",
            _counter(_unless(nn.Linear, lambda m, x, y: len(x) * m.weight.numel())),
            "You counted one vector an image for the linear layer. Its input has more axes than batch and features, "
            "and it works on every vector along the last one.",
            TOTAL,
        ),
        Misconception(
            "linear_of_the_first_axes",
            _counter(_unless(nn.Linear, lambda m, x, y: len(x) * x.shape[1] * m.weight.numel())),
            LINEAR_AXES,
            TOTAL,
        ),
        Misconception(
            "linear_of_the_second_axis",
            _counter(_unless(nn.Linear, lambda m, x, y: x.shape[1] * m.weight.numel())),
            LINEAR_AXES,
            TOTAL,
        ),
        Misconception(
            "linear_of_the_axis_before_the_last",
            _counter(_unless(nn.Linear, lambda m, x, y: x.shape[-2] * m.weight.numel())),
            LINEAR_AXES,
            TOTAL,
        ),
        Misconception("no_linear", _counter(_right, kinds=(nn.Conv2d, nn.ConvTranspose2d)), FEWER_KINDS, TOTAL),
        Misconception("no_transposed", _counter(_right, kinds=(nn.Conv2d, nn.Linear)), FEWER_KINDS, TOTAL),
        Misconception("convolutions_only", _counter(_right, kinds=(nn.Conv2d,)), FEWER_KINDS, TOTAL),
        Misconception(
            "groups_ignored",
            _counter(lambda m, x, y: _right(m, x, y) * _per_group(m)),
            "You let every output channel read all input channels, also where the layer has groups.",
            GROUPS,
        ),
        Misconception(
            "groups_ignored_in_convolutions",
            _counter(_unless(nn.Conv2d, lambda m, x, y: _right(m, x, y) * m.groups)),
            "In convolutions you let every output channel read all input channels, also where the layer has groups.",
            GROUPS,
        ),
        Misconception(
            "groups_ignored_in_transposed",
            _counter(_unless(nn.ConvTranspose2d, lambda m, x, y: _right(m, x, y) * m.groups)),
            "In transposed layers you let every input channel reach all output channels, also where there are groups.",
            GROUPS,
        ),
        Misconception(
            "groups_divide_twice",
            _counter(lambda m, x, y: _right(m, x, y) // _per_group(m)),
            "You divided by the groups, where the layer's weight is already divided: look at its shape.",
            GROUPS,
        ),
        Misconception(
            "bias_counted",
            _counter(lambda m, x, y: _right(m, x, y) + (y.numel() if m.bias is not None else 0)),
            BIAS_IN_HOOKS,
            HAND,
        ),
        Misconception(
            "all_parameters_counted",
            _counter(_with_all_parameters),
            BIAS_IN_HOOKS,
            HAND,
        ),
        Misconception(
            "bias_as_a_tap",
            _counter(
                lambda m, x, y: _right(m, x, y) // m.weight[0].numel() * (m.weight[0].numel() + (m.bias is not None))
            ),
            BIAS_IN_HOOKS,
            HAND,
        ),
        Misconception(
            "flop_for_mac",
            _counter(lambda m, x, y: 2 * _right(m, x, y)),
            "Your counts are twice as large: FLOP, not multiply-adds.",
            HAND,
        ),
        Misconception(
            "convolutions_by_input",
            _counter(_unless(nn.Conv2d, lambda m, x, y: x.numel() // x.shape[1] * m.weight.numel())),
            "You counted convolutions at every place of their input. Products are done for the numbers of the output.",
            SIZES,
        ),
        Misconception(
            "one_call_only",
            _counter(_right, lambda before, now: now),
            "A layer that runs twice works twice; you kept the count of one call.",
            TOTAL,
        ),
        Misconception(
            "one_name_for_all",
            _one_name(),
            ONE_NAME,
            EXERCISE_PROFILER,
        ),
        Misconception("one_name_among_zeros", _one_name(zeros=True), ONE_NAME, EXERCISE_PROFILER),
        Misconception("one_layer_for_all", _one_name(one_layer=True), ONE_NAME, EXERCISE_PROFILER),
        Misconception(
            "one_name_and_last_call",
            _one_name(lambda before, now: now),
            ONE_NAME,
            EXERCISE_PROFILER,
        ),
        Misconception(
            "one_image",
            _counter(lambda m, x, y: _right(m, x, y) // len(x)),
            "You counted one image. The shape may hold a batch of several, and the work is that of all of them.",
            TOTAL,
        ),
        Misconception(
            "square_kernels",
            _counter(_square),
            SQUARED,
            TOTAL,
        ),
        Misconception("square_in_convolutions", _counter(_unless(nn.Conv2d, _square)), SQUARED, TOTAL),
        Misconception("square_in_transposed", _counter(_unless(nn.ConvTranspose2d, _square)), SQUARED, TOTAL),
        Misconception(
            "outer_modules_only",
            _counter(_right, modules=nn.Module.named_children),
            "You looked at the model's direct children. The layers are further inside: which method walks through all "
            "of them, with their full names?",
            TOTAL,
        ),
        Misconception(
            "traces_left",
            _counter(_right, leave=True),
            "The counts are right, but the model is not as you found it. Who uses it next will wonder.",
            EXERCISE_PROFILER,
        ),
    ),
    hints=(
        "The model itself knows its layers and their names; only a run tells how large the maps are. A hook sees both "
        "at each call.",
        "Go through model.named_modules(), give each of the three kinds of layers a hook that knows its name, run the "
        "model once on zeros. `weight[0]` holds what one number of the output uses; for a transposed layer it is what "
        "one number of the input is multiplied by.",
        "in the hook: numbers = inputs[0].numel() or output.numel(), by the kind of layer; then "
        "macs[name] = macs.get(name, 0) + numbers * ...",
    ),
    property="every product of two numbers that the run does is counted once, under the name of the layer that did it.",
)


# --- dearest_stage ----------------------------------------------------------------------------------------


def dearest_stage(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
    """Return the stage with the most multiply-adds, and its share of them."""
    stages: dict[str, int] = {}
    for layer, _, macs in rows:
        stage = ".".join(layer.split(".")[:depth])
        stages[stage] = stages.get(stage, 0) + macs
    dearest = max(stages, key=lambda stage: stages[stage])
    return dearest, stages[dearest] / sum(stages.values())


def _rows(draw: Draw) -> Case:
    """Five to seven layers of four stages, one of them a single layer with a short name; no two sums alike."""
    depth = draw.integer(1, 3)
    value = varied(draw)
    stages = {
        1: ("stage1.a", "stage12.a", "stage3.b", "fc"),
        2: ("encoder.stage1", "encoder.stage12", "decoder.stage1", "fc"),
        3: ("net.encoder.stage1", "net.encoder.stage12", "net.decoder.stage1", "net.fc"),
    }[depth]
    order = [0, 1, 2, 3, value.integer(0, 1), 0, 1 + value.integer(0, 1)][: draw.integer(5, 7)]
    rows = []
    for number, stage in enumerate(order):
        macs = (
            1000 * value.integer(1, 250 if stage == 3 else 90) + 2**number
        )  # sums of different powers: never two alike
        name = stages[stage] if stage == 3 else f"{stages[stage]}.conv{number}"
        rows.append((name, value.integer(1, 999), macs))
    return {"rows": rows, "depth": depth}


def _name_as_text(case: Case, value: Any) -> Any:
    """A name that is NumPy's kind of string is as good as Python's."""
    if isinstance(value, (list, tuple)) and any(isinstance(part, np.str_) for part in value):
        return tuple(str(part) if isinstance(part, str) else part for part in value)
    return value


def _stage_by_table(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
    total = Profile(tuple(Row(name, "", parameters=parameters, macs=macs) for name, parameters, macs in rows))
    stages = total.by_stage(depth)
    dearest = sorted(stages.rows, key=lambda row: row.macs)[-1]
    return dearest.layer, stages.share(dearest)


def _stage_with(
    name: Callable[[str, int], str] = lambda layer, depth: ".".join(layer.split(".")[:depth]),
    join: Callable[[list[int]], float] = sum,
    column: int = 2,
    share: Callable[[float, float], float] = lambda part, whole: part / whole,
) -> Callable[..., tuple[str, float]]:
    """A wrong choice: the stage's `name`, what `join`s its layers, the `column` looked at, the `share`."""

    def choose(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
        stages: dict[str, list[int]] = {}
        for row in rows:
            stages.setdefault(name(row[0], depth), []).append(int(row[column]))
        joined = {stage: join(values) for stage, values in stages.items()}
        dearest = max(joined, key=lambda stage: joined[stage])
        return dearest, share(joined[dearest], sum(int(row[column]) for row in rows))

    return choose


def _share_of_means(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
    stages: dict[str, list[int]] = {}
    for layer, _, macs in rows:
        stages.setdefault(".".join(layer.split(".")[:depth]), []).append(macs)
    means = {stage: sum(macs) / len(macs) for stage, macs in stages.items()}
    dearest = max(means, key=lambda stage: means[stage])
    return dearest, means[dearest] / sum(means.values())


def _swapped(rows: list[tuple[str, int, int]], depth: int) -> tuple[float, str]:
    stage, share = dearest_stage(rows, depth)
    return share, stage


def _neighbours_only(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
    groups = groupby(rows, lambda row: ".".join(row[0].split(".")[:depth]))
    sums = [(sum(row[2] for row in group), stage) for stage, group in groups]
    macs, stage = max(sums)
    return stage, macs / sum(row[2] for row in rows)


def _by_beginning(after: str = "") -> Callable[..., tuple[str, float]]:
    """A wrong sum: of all layers whose names begin with the stage's, and what comes `after` it."""

    def choose(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
        names = {".".join(layer.split(".")[:depth]) for layer, _, _ in rows}
        sums = {name: sum(macs for layer, _, macs in rows if layer.startswith(name + after)) for name in sorted(names)}
        dearest = max(sums, key=lambda name: sums[name])
        return dearest, sums[dearest] / sum(row[2] for row in rows)

    return choose


def _work_of_the_largest(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
    """Choose by parameters, with the stage's share of the multiply-adds."""
    largest, _ = _stage_with(column=1)(rows, depth)
    of_stage = sum(macs for layer, _, macs in rows if ".".join(layer.split(".")[:depth]) == largest)
    return largest, of_stage / sum(macs for *_, macs in rows)


def _overwritten(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
    last = {".".join(layer.split(".")[:depth]): macs for layer, _, macs in rows}
    dearest = max(last, key=lambda stage: last[stage])
    return dearest, last[dearest] / sum(last.values())


def _long_names_only(of_all: bool) -> Callable[..., tuple[str, float]]:
    """Leave out the layers whose names have too few words; the share is of the others, or of all."""

    def choose(rows: list[tuple[str, int, int]], depth: int) -> tuple[str, float]:
        long = [row for row in rows if len(row[0].split(".")) >= depth]
        stage, share = dearest_stage(long, depth)
        return stage, share * sum(row[2] for row in long) / sum(row[2] for row in rows) if of_all else share

    return choose


def _rounded_to(digits: int) -> Misconception:
    return Misconception(
        f"rounded_to_{digits}",
        _stage_with(share=lambda part, whole: round(part / whole, digits)),
        "The stage is right; its share is rounded. Return it as it is: whoever prints it may round.",
        "Exercise: the most expensive stage (2 points)",
    )


BALANCE = "The balance of a network"
OVERWRITTEN = "Each layer of a stage overwrites the one before it in your sums."
BY_PARAMETERS = "You chose by parameters. The stage with the most of them is seldom the one with the most work."
SHORT_NAMES = (
    "Some names have fewer words than the stage should (`fc` for a depth of 2), and you leave these layers out. "
    "Such a layer is a stage of its own."
)
MEANS = "You averaged over the layers of a stage. What does the whole stage cost?"

DEAREST_STAGE = Exercise(
    name="dearest_stage",
    lesson=STEM,
    title="The most expensive stage",
    points=2,
    minutes=9,
    difficulty=2,
    reference=dearest_stage,
    oracle=_stage_by_table,
    cases=_rows,
    measure=_name_as_text,
    examples=(
        {
            "rows": [("down.0", 50, 400), ("down.1", 70, 300), ("up.0", 60, 350), ("down.2", 900, 100)],
            "depth": 1,
        },
        {
            "rows": [
                ("encoder.stage1.conv0", 9, 5001),
                ("encoder.stage12.conv1", 5, 7002),
                ("decoder.stage1.conv2", 80, 3004),
                ("encoder.stage1.conv3", 9, 4008),
            ],
            "depth": 2,
        },
        {"rows": [("down.0", 50, 400), ("fc", 80, 601), ("down.1", 70, 150)], "depth": 1},
        {"rows": [("encoder.a.conv", 9, 300), ("encoder.a.norm", 8, 220), ("fc", 99, 613)], "depth": 2},
        {
            "rows": [
                ("net.down.0.conv1", 40, 507),
                ("net.down.1.conv1", 90, 613),
                ("net.down.0.conv2", 50, 251),
                ("net.score", 2, 901),
            ],
            "depth": 3,
        },
    ),
    misconceptions=(
        Misconception(
            "dearest_layer",
            _stage_with(name=lambda layer, depth: layer),
            "You returned a single layer. A stage is all layers whose names agree in their first words.",
            BALANCE,
        ),
        Misconception(
            "largest_layer_decides",
            _stage_with(join=max),
            "You took the largest layer of each stage. Several smaller layers can cost more together.",
            BALANCE,
        ),
        Misconception(
            "mean_of_the_layers",
            _stage_with(join=lambda values: sum(values) / len(values)),
            MEANS,
            BALANCE,
        ),
        Misconception("share_of_the_means", _share_of_means, MEANS, BALANCE),
        Misconception(
            "last_layer_stays",
            _stage_with(join=lambda values: values[-1]),
            OVERWRITTEN,
            BALANCE,
        ),
        Misconception("overwritten", _overwritten, OVERWRITTEN, BALANCE),
        Misconception(
            "by_parameters",
            _stage_with(column=1),
            BY_PARAMETERS,
            BALANCE,
        ),
        Misconception("work_of_the_largest", _work_of_the_largest, BY_PARAMETERS, BALANCE),
        Misconception(
            "neighbours_only",
            _neighbours_only,
            "You added up layers that follow each other. A stage may come back later: `groupby` does not see that.",
            BALANCE,
        ),
        Misconception(
            "by_beginning",
            _by_beginning(),
            "You asked whether a layer's name begins with the stage's. `stage12` begins with `stage1` and is another.",
            BALANCE,
        ),
        Misconception(
            "by_beginning_and_dot",
            _by_beginning("."),
            "You asked for names that begin with the stage's and a dot. A layer's whole name may be the stage's.",
            BALANCE,
        ),
        Misconception(
            "too_few_words",
            _stage_with(name=lambda layer, depth: ".".join([layer.split(".")[i] for i in range(depth)])),
            "You ask each name for as many words as the depth. Some have fewer (`fc` for a depth of 2): such a layer "
            "is a stage of its own.",
            BALANCE,
        ),
        Misconception("short_names_left_out", _long_names_only(False), SHORT_NAMES, BALANCE),
        Misconception("short_names_not_dearest", _long_names_only(True), SHORT_NAMES, BALANCE),
        *map(_rounded_to, (1, 2, 3, 4)),
        Misconception(
            "one_word_more",
            _stage_with(name=lambda layer, depth: ".".join(layer.split(".")[: depth + 1])),
            "You kept one word too many of each name, so your stages are parts of stages.",
            BALANCE,
        ),
        Misconception(
            "always_one_word",
            _stage_with(name=lambda layer, depth: layer.split(".")[0]),
            "You grouped by the first word whatever the depth.",
            BALANCE,
        ),
        Misconception(
            "in_percent",
            _stage_with(share=lambda part, whole: 100 * part / whole),
            "The stage is right; its share is a part of one here, not percent.",
            "Exercise: the most expensive stage (2 points)",
        ),
        Misconception(
            "work_for_share",
            _stage_with(share=lambda part, whole: part),
            "The stage is right. You returned its multiply-adds; wanted is their share of the whole network's.",
            "Exercise: the most expensive stage (2 points)",
        ),
        Misconception(
            "share_first",
            _swapped,
            "The two are right, but the wrong way round: the stage's name comes first.",
            "Exercise: the most expensive stage (2 points)",
        ),
    ),
    hints=(
        "First make sums, one for each stage, and only then look for the largest.",
        "Split each name at its dots and keep the first words; a dict from that to a sum collects layers wherever "
        "they stand in the list. The share is the largest sum over all sums.",
        'stages[stage] = stages.get(stage, 0) + macs, with stage = ".".join(...); then max(stages, key=stages.get)',
    ),
    property="all layers of the stage together cost more than those of any other, and the share is of all rows.",
)


# --- widest_network ---------------------------------------------------------------------------------------


def widest_network(maps: list[Pair], kernel: int, separable: bool, budget: int) -> int:
    """Return the most channels with which a chain of layers stays within a budget of multiply-adds."""

    def cost(channels: int) -> int:
        total, inputs = 0, 3
        for rows, columns in maps:
            if separable:
                total += rows * columns * inputs * (kernel**2 + channels)
            else:
                total += rows * columns * inputs * kernel**2 * channels
            inputs = channels
        return total

    channels = 0
    while cost(channels + 1) <= budget:
        channels += 1
    return channels


def _by_formula(maps: list[Pair], kernel: int, separable: bool, budget: int) -> int:
    """Solve a + b C + c C² <= budget for the largest whole C."""
    first, *others = (rows * columns for rows, columns in maps)
    later = sum(others)
    if separable:
        a, b, c = 3 * kernel**2 * first, 3 * first + kernel**2 * later, later
    else:
        a, b, c = 0, 3 * kernel**2 * first, kernel**2 * later
    rest = budget - a
    if rest < 0:
        return 0
    return (math.isqrt(b * b + 4 * c * rest) - b) // (2 * c) if c else rest // b


def _chain_and_budget(draw: Draw) -> Case:
    separable = draw.choice((True, False))
    rows, columns = draw.integer(4, 8), draw.integer(9, 14)
    maps = [(rows, columns)]
    for _ in range(draw.integer(1 if separable else 0, 3)):  # one separable layer without its pointwise part costs the
        half = draw.integer(0, 2) > 0  # same at any width: a search that forgets that part would not end
        maps.append((max(1, maps[-1][0] >> half), max(1, maps[-1][1] >> half)))
    kernel = draw.choice((3, 2, 5))
    width = draw.integer(0, 7)  # three in eight cases: not even one channel, a hundred or more, thousands
    low, high = {0: (0, 0), 6: (1800, 2600), 7: (100, 200)}.get(width, (2, 21))
    channels = draw.integer(low, high)
    if width == 6:  # so that a search by ones which forgets a part of the cost comes to an end too
        maps, kernel = [maps[0], (1, 2)], draw.choice((9, 11))
    here, next_ = (_chain_sum(maps, kernel, separable, c) for c in (channels, channels + 1))
    part = draw.integer(0, 3)  # on the edge: exactly enough, one too few, and between
    budget = max(0, (here, here - 1, here + (next_ - here) // 2, next_ - 1)[part])
    return {"maps": maps, "kernel": kernel, "separable": separable, "budget": budget}


def _chain_sum(
    maps: list[Pair],
    kernel: int,
    separable: bool,
    channels: int,
    dense: Callable[[int, int, int], int] = lambda n, m, k: n * m * k * k,
    split: Callable[[int, int, int], int] = lambda n, m, k: n * (k * k + m),
    inputs: Callable[[int, int], int] = lambda layer, channels: channels if layer else 3,
) -> int:
    """The chain's multiply-adds with a formula for each kind of layer, right or wrong."""
    return sum(_chain_parts(maps, kernel, separable, channels, dense, split, inputs))


def _chain_parts(
    maps: list[Pair],
    kernel: int,
    separable: bool,
    channels: int,
    dense: Callable[[int, int, int], int] = lambda n, m, k: n * m * k * k,
    split: Callable[[int, int, int], int] = lambda n, m, k: n * (k * k + m),
    inputs: Callable[[int, int], int] = lambda layer, channels: channels if layer else 3,
) -> list[int]:
    each = split if separable else dense
    return [
        rows * columns * each(inputs(layer, channels), channels, kernel) for layer, (rows, columns) in enumerate(maps)
    ]


def _first_layer_dense(maps: list[Pair], kernel: int, separable: bool, channels: int) -> int:
    first, *_ = _chain_parts(maps, kernel, False, channels)
    return first + sum(_chain_parts(maps, kernel, separable, channels)[1:])


def _widest(
    cost: Callable[..., int] = _chain_sum,
    within: Callable[[int, int], bool] = lambda cost, budget: cost <= budget,
    change: Callable[[int], int] = lambda channels: channels,
) -> Callable[..., int]:
    """A wrong search: `cost` of (maps, kernel, separable, channels), what is `within` the budget, a `change`."""

    def search(maps: list[Pair], kernel: int, separable: bool, budget: int) -> int:
        def too_wide(channels: int) -> bool:
            return not within(cost(maps, kernel, separable, channels + 1), budget)

        return change(bisect.bisect_left(range(10**7), True, key=too_wide))

    return search


def _stopping_at(most: int) -> Misconception:
    return Misconception(
        f"stops_at_{most}",
        _widest(change=lambda channels: min(channels, most)),
        "Your search stops at a fixed width. A large budget allows a wider chain: go on until the budget ends it.",
        DESIGN,
    )


def _costing(**formulas: Callable[..., int]) -> Callable[..., int]:
    return lambda maps, kernel, separable, channels: _chain_sum(maps, kernel, separable, channels, **formulas)


DESIGN = "Design under a budget"

WIDEST_NETWORK = Exercise(
    name="widest_network",
    lesson=STEM,
    title="The widest network under a budget",
    points=3,
    minutes=14,
    difficulty=3,
    reference=widest_network,
    oracle=_by_formula,
    cases=_chain_and_budget,
    examples=(
        {"maps": [(4, 6), (2, 3)], "kernel": 3, "separable": False, "budget": 8000},
        {"maps": [(4, 6), (2, 3)], "kernel": 3, "separable": True, "budget": 8000},
        {"maps": [(5, 9), (3, 5)], "kernel": 3, "separable": True, "budget": 1500},
        {"maps": [(5, 9), (3, 5)], "kernel": 5, "separable": False, "budget": 3000},
        {"maps": [(5, 9), (3, 5)], "kernel": 3, "separable": True, "budget": 1300},
        {"maps": [(4, 6), (4, 6), (2, 3)], "kernel": 3, "separable": False, "budget": 8000},
        {"maps": [(4, 6)], "kernel": 3, "separable": False, "budget": 5000},
        {"maps": [(4, 6), (2, 3)], "kernel": 3, "separable": True, "budget": 300},
        {"maps": [(4, 6), (2, 3)], "kernel": 3, "separable": True, "budget": 0},
        # Wide ones: 151, 1,103 and 3,027 channels. With a small second map or a large kernel, even a search by ones
        # that forgets a part of the cost comes to an end.
        {"maps": [(4, 6), (2, 3)], "kernel": 3, "separable": True, "budget": 157_000},
        {"maps": [(5, 8), (1, 2)], "kernel": 7, "separable": True, "budget": 2_680_000},
        {"maps": [(60, 90), (1, 2)], "kernel": 3, "separable": False, "budget": 606_500_000},
    ),
    compare=_exactly,
    runs=40,
    misconceptions=(
        Misconception(
            "strictly_below",
            _widest(within=lambda cost, budget: cost < budget),
            "You left out the width whose cost is exactly the budget. It is within it.",
            DESIGN,
        ),
        Misconception(
            "one_too_wide",
            _widest(change=lambda channels: channels + 1),
            "You returned the first width that no longer fits.",
            DESIGN,
        ),
        Misconception(
            "one_for_none",
            _widest(change=lambda channels: max(1, channels)),
            "You returned 1 also where one channel is over the budget already.",
            DESIGN,
        ),
        *map(_stopping_at, (49, 50, 99, 100, 199, 200, 255, 256, 499, 500, 511, 512, 999, 1000, 1999, 2000)),
        Misconception(
            "forgets_pointwise",
            _widest(_costing(split=lambda n, m, k: n * k * k)),
            "Your separable layers have no pointwise part, and so they seem to cost next to nothing.",
            SPLIT,
        ),
        Misconception(
            "forgets_depthwise",
            _widest(_costing(split=lambda n, m, k: n * m)),
            "Your separable layers have no depthwise part.",
            SPLIT,
        ),
        Misconception(
            "depthwise_reads_all",
            _widest(_costing(split=lambda n, m, k: n * n * k * k + n * m)),
            "Your depthwise layers read all channels. Each of their channels reads one.",
            SPLIT,
        ),
        Misconception(
            "depthwise_on_the_width",
            _widest(_costing(split=lambda n, m, k: m * k * k + n * m)),
            "Your first depthwise layer filters as many channels as the chain is wide. It filters those that it reads.",
            SPLIT,
        ),
        Misconception(
            "first_layer_like_the_others",
            _widest(_costing(inputs=lambda layer, channels: channels)),
            "You gave the first layer as many input channels as the others. It reads the image: how many has that?",
            DESIGN,
        ),
        Misconception(
            "all_layers_read_the_image",
            _widest(_costing(inputs=lambda layer, channels: 3)),
            "You gave every layer the three channels of the image. What does the second one read?",
            DESIGN,
        ),
        Misconception(
            "separable_ignored",
            _widest(_costing(split=lambda n, m, k: n * m * k * k)),
            "You counted dense layers also where separable ones were asked for.",
            DESIGN,
        ),
        Misconception(
            "always_separable",
            _widest(_costing(dense=lambda n, m, k: n * (k * k + m))),
            "You counted separable layers also where dense ones were asked for.",
            DESIGN,
        ),
        Misconception(
            "separable_inverted",
            _widest(lambda maps, kernel, separable, channels: _chain_sum(maps, kernel, not separable, channels)),
            "You counted dense layers where separable ones were asked for, and the other way round.",
            DESIGN,
        ),
        Misconception(
            "first_layer_dense",
            _widest(_first_layer_dense),
            "The first layer of your separable chains is dense. All layers of such a chain are separable.",
            DESIGN,
        ),
        Misconception(
            "kernel_three",
            _widest(lambda maps, kernel, *rest: _chain_sum(maps, 3, *rest)),
            "You counted kernels of 3x3 whatever `kernel` says.",
            DESIGN,
        ),
        Misconception(
            "budget_for_each_layer",
            _widest(lambda *chain: max(_chain_parts(*chain))),
            "You gave every layer the whole budget. It is for all of them together.",
            DESIGN,
        ),
        Misconception(
            "budget_in_flop",
            _widest(within=lambda cost, budget: 2 * cost <= budget),
            "You compared FLOP with a budget of multiply-adds, and used half of it.",
            HAND,
        ),
        Misconception(
            "largest_map_for_all",
            _widest(lambda maps, kernel, *rest: _chain_sum([maps[0]] * len(maps), kernel, *rest)),
            "You counted every layer at the size of the first map. The later ones are smaller.",
            DESIGN,
        ),
        Misconception(
            "each_layer_by_itself",
            _widest(lambda maps, kernel, *rest: _chain_sum(maps[:1], kernel, *rest)),
            "You looked at the first layer alone. The budget is for all of them together.",
            DESIGN,
        ),
        Misconception(
            "bias_counted",
            _widest(
                _costing(dense=lambda n, m, k: (n * k * k + 1) * m, split=lambda n, m, k: n * (k * k + 1) + (n + 1) * m)
            ),
            "You counted biases as products. A layer that lies just within the budget then falls out of it.",
            HAND,
        ),
        Misconception(
            "kernel_not_squared",
            _widest(_costing(dense=lambda n, m, k: n * m * k, split=lambda n, m, k: n * (k + m))),
            "You counted one row of the kernel.",
            HAND,
        ),
    ),
    hints=(
        "Write a function for the cost of the whole chain at a given width. Wider always costs more: how do you find "
        "the last width that fits?",
        "Walk through the maps and remember how many channels come in: 3 at first, then the width. Use the formula "
        "of the dense layer or the sum of the two formulas of the separable one. Then try 1, 2, 3, ...",
        "while cost(channels + 1) <= budget: channels += 1, with channels = 0 before; in cost, inputs = 3 before the "
        "loop and inputs = channels at the end of each round",
    ),
    property="all layers together stay within the budget at this width, and exceed it at the next.",
)


# --- the quiz ---------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "twice_the_image",
        STEM,
        "An image twice as high and twice as wide goes through a convolutional network. What grows fourfold?",
        (
            Option("Parameters, multiply-adds and activations.", "The weights know nothing of the image's size."),
            Option(
                "Multiply-adds and activations, not the parameters.",
                "Four times as many places, each with the same kernel.",
                right=True,
            ),
            Option("Only the multiply-adds.", "Every place also gives a number that has to be stored."),
            Option("Only the activations.", "Each of the additional numbers is a sum of products."),
        ),
    ),
    Question(
        "separable_limit",
        STEM,
        "A 3x3 layer from 512 to 512 channels becomes depthwise and pointwise. How many times fewer multiply-adds?",
        (
            Option("512 times.", "So much for the depthwise layer alone; the pointwise one is the larger part."),
            Option("Just under 9 times.", "1/512 + 1/9 of the work, and 1/9 is nearly all of that.", right=True),
            Option("9 · 512 times.", "1/M and 1/K² are added, not multiplied: two layers run one after the other."),
            Option("That depends on the input channels.", "Both layers are proportional to them; they cancel."),
        ),
    ),
    Question(
        "two_grouped_layers",
        STEM,
        "Two convolutions with the same four groups follow each other, and nothing between. What is true?",
        (
            Option(
                "An output channel depends on a quarter of the input channels.",
                "The second layer's group reads exactly what the first layer's group gave.",
                right=True,
            ),
            Option("An output channel depends on all input channels.", "They would have to be mixed somewhere."),
            Option("An output channel depends on one sixteenth.", "The second layer reads no less than a whole group."),
            Option("The two take a sixteenth of the work.", "Each takes a quarter, and so do both together."),
        ),
    ),
    Question(
        "where_the_parameters_are",
        STEM,
        "Channels double where the sides of the maps halve, as in VGG up to its fourth stage. What of a 3x3 layer that "
        "keeps the channels, one level further down?",
        (
            Option(
                "Same multiply-adds, four times the parameters, half of the activations.",
                "A quarter of the places, each with four times the weights; twice the channels on a quarter of the "
                "places.",
                right=True,
            ),
            Option("A quarter of everything.", "That is the number of places; the weights at each of them grow."),
            Option(
                "Four times the multiply-adds, and four times the parameters.", "There are four times fewer places."
            ),
            Option("Same multiply-adds, same parameters.", "Twice the inputs and twice the outputs: the weights grow."),
        ),
    ),
    Question(
        "transposed_count",
        STEM,
        "A transposed convolution, kernel 4, stride 2, padding 1, 8 to 5 channels, turns 10x10 into 20x20. Its "
        "multiply-adds, those cropped by the padding included?",
        (
            Option("10 · 10 · 8 · 16 · 5", "Each number of the input is multiplied by a whole kernel.", right=True),
            Option("20 · 20 · 8 · 16 · 5", "Most of these products would be with zeros that nobody multiplies."),
            Option("10 · 10 · 8 · 4 · 5", "A kernel of 4 has 16 taps, and every stamp uses them all."),
            Option("20 · 20 · 5", "That is the number of values given out."),
        ),
    ),
    Question(
        "out_of_memory",
        STEM,
        "Training a U-Net runs out of memory. What helps? (More than one is right.)",
        (
            Option("A smaller batch.", "What is kept for the backward pass grows with the images.", right=True),
            Option("Smaller crops.", "Half the sides, a quarter of the activations.", right=True),
            Option(
                "Groups in the deepest layers.",
                "That saves parameters and work; the activations stay, and there are few of them down there.",
            ),
            Option(
                "Fewer channels at the finest level.",
                "Half of all activations are there.",
                right=True,
            ),
        ),
        several=True,
    ),
    Question(
        "not_as_fast",
        STEM,
        "On the CPU of this lesson a depthwise layer takes 64 times fewer multiply-adds than a dense one, and about a "
        "sixth of its time. A ReLU on the same map takes less than a thirtieth. What keeps the depthwise layer most?",
        (
            Option("The count is wrong.", "It is exact; it counts something else than time."),
            Option(
                "The bytes: few products share each load, so it waits for the memory.",
                "They set a limit, but ReLU moves the same bytes: they alone would allow dozens of times less time.",
            ),
            Option(
                "The program: the library's loops for such a layer.",
                "It takes several times as long as ReLU, which moves the same bytes. Another library or machine may do "
                "better.",
                right=True,
            ),
            Option("Its weights take long to load.", "It has 64 times fewer of them too."),
            Option("The pointwise layer slows it down.", "There is none in this comparison."),
        ),
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="What it costs: group, depthwise, separable",
    promise="Count what a network costs before you build it, and see which of the counts the clock follows.",
    reading_minutes=28,
    before=("01_receptive_field", "02_transposed"),
    exercises=(CONV_MACS, LAYER_BUDGETS, SEPARABLE_MACS, MACS_BY_LAYER, DEAREST_STAGE, WIDEST_NETWORK),
    quiz=QUIZ,
)
