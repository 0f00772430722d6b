"""The exercises of lesson 08."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from segcourse.cost import profile
from segcourse.exercises import Lesson
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception
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
    kernel, in_channels = draw.integer(2, 5), draw.integer(2, 6)
    height = draw.integer(kernel, 24)
    return {
        "height": height,
        "width": height + draw.integer(1, 9),
        "in_channels": in_channels,
        "out_channels": in_channels + draw.integer(1, 5),
        "kernel": kernel,
        "stride": draw.integer(1, 3),
        "padding": draw.integer(0, kernel // 2),
    }


def _conv_on_meta(
    height: int, width: int, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int
) -> int:
    """Let PyTorch find the output's shape; each of its numbers is a sum of as many products as a kernel has weights."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False, device="meta")
    output = layer(torch.empty(1, in_channels, height, width, device="meta"))
    return output.numel() * layer.weight[0].numel()


def _fits(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


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


HAND = "One layer, one product at a time"
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
    ),
    misconceptions=(
        Misconception(
            "input_size",
            _macs_with(lambda size, kernel, stride, padding: size),
            "You counted a place for every pixel of the input. Products are done once for every number of the "
            "*output*: how large is it, with this stride and padding?",
            SIZES,
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
            _macs_with(lambda size, kernel, stride, padding: (size + padding - kernel) // stride + 1),
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
    ),
    hints=(
        "Two questions: how many numbers has the output, and how many products is each of them the sum of?",
        "Find the output's rows and columns first, from the padded size, the kernel and the stride. Then multiply by "
        "the number of output channels, and by the weights of one kernel.",
        "rows = (height + 2 * padding - ...) // stride + 1, columns likewise; rows * columns * in_channels * ...",
    ),
    property="the count is the number of weights of one kernel, once for every number of the output.",
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
        ),
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="What it costs: group, depthwise, separable",
    promise="Count what a network costs before you build it, and see which of the counts the clock follows.",
    reading_minutes=28,
    before=("01_receptive_field", "02_transposed"),
    exercises=(CONV_MACS,),
    quiz=QUIZ,
)
