"""The exercises of lesson 01.

A layer is a tuple, and it grows with the lesson in the order of `torch.nn.Conv2d`'s arguments:
(kernel, stride), then (kernel, stride, padding), then (kernel, stride, padding, dilation).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from segcourse.exercises import Lesson
from segcourse.exercises.drivers import receptive_field as drivers
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception
from segcourse.exercises.quiz import Option, Question

STEM = "01_receptive_field"
Layers = list[tuple[int, int, int, int]]

KERNELS, STRIDES, PADDINGS, DILATIONS = (3, 2, 1, 4, 5), (1, 2, 3), (0, 1, 2, 3), (1, 2, 3)
"""What layers are drawn from; the first of each is the one that a failing case is shown with, where it can be."""


def draw_layers(draw: Draw, most: int, *columns: Sequence[int]) -> list[tuple[int, ...]]:
    """Draw 1 to `most` layers; each column holds the options for one entry, the simplest first."""
    return [tuple(draw.choice(column) for column in columns) for _ in range(draw.integer(1, most))]


def read_by(units: Iterable[int], layers: Sequence[tuple[int, ...]]) -> set[int]:
    """Return the positions that these units of the last layer read; a layer may leave out padding and dilation."""
    seen = set(units)
    for layer in reversed(layers):
        seen = {place for unit in seen for place in taps(unit, *layer)}
    return seen


def taps(unit: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> list[int]:
    """Return the positions that one unit of a layer reads, in order."""
    return [unit * stride - padding + tap * dilation for tap in range(kernel)]


def first_to_last(positions: set[int]) -> int:
    """Return how many positions there are from the first of these to the last."""
    return max(positions) - min(positions) + 1


def walked(step: Callable[..., Any], forwards: bool = False) -> Callable[[Any, list[Any]], Any]:
    """Return a mistake that takes `step(value, *layer)` from the last layer to the first, or forwards."""

    def wrong(value: Any, layers: list[Any]) -> Any:
        for layer in layers if forwards else reversed(layers):
            value = step(value, *layer)
        return value

    return wrong


def product_before(layers: Layers, index: int) -> int:
    """Return the product of the strides of the layers before this one."""
    return math.prod(layer[1] for layer in layers[:index])


LAST_LAYER_ALONE = (
    "That is the last layer's answer alone. Is your `return` inside the loop? There it ends the function in the first "
    "round."
)
FIRST_LAYER_ALONE = LAST_LAYER_ALONE.replace("the last layer's", "the first layer's")
READ_ALONE = (
    "You counted only the pixels that are read. A field reaches from the first pixel to the last: those stepped over "
    "in between count too."
)

# ---------------------------------------------------------------- compound_kernel


def compound_kernel(kernel_1: int, stride_1: int, kernel_2: int) -> int:
    """Return the kernel of the one convolution that sees as much as two in a row."""
    return kernel_1 + (kernel_2 - 1) * stride_1


def _two_layers(draw: Draw) -> Case:
    """One case in two is drawn from so many that nobody can list them; a failing case is shown with a small one."""
    if draw.choice((False, True)):
        return {
            "kernel_1": draw.integer(1, 50),
            "stride_1": draw.integer(1, 64),
            "kernel_2": draw.integer(1, 50),
        }
    kernels = (3, 2, 4, 5, 6, 7, 1)
    return {"kernel_1": draw.choice(kernels), "stride_1": draw.integer(1, 4), "kernel_2": draw.choice(kernels)}


def _read_through_both(kernel_1: int, stride_1: int, kernel_2: int) -> set[int]:
    return read_by({0}, [(kernel_1, stride_1), (kernel_2, 1)])


COMPOUND_KERNEL = Exercise(
    name="compound_kernel",
    lesson=STEM,
    title="The kernel of two layers",
    points=1,
    minutes=4,
    difficulty=1,
    reference=compound_kernel,
    oracle=lambda kernel_1, stride_1, kernel_2: first_to_last(_read_through_both(kernel_1, stride_1, kernel_2)),
    cases=_two_layers,
    examples=(
        {"kernel_1": 3, "stride_1": 1, "kernel_2": 3},
        {"kernel_1": 5, "stride_1": 3, "kernel_2": 3},
        {"kernel_1": 2, "stride_1": 3, "kernel_2": 2},
        {"kernel_1": 212, "stride_1": 32, "kernel_2": 7},
    ),
    misconceptions=(
        Misconception(
            "adds_kernels",
            lambda kernel_1, stride_1, kernel_2: kernel_1 + kernel_2,
            "You added the two kernels. Neighbouring windows of the first layer overlap, so their pixels are "
            "counted twice; and the step between the windows is the stride.",
            "Two layers in a row",
        ),
        Misconception(
            "forgets_stride",
            lambda kernel_1, stride_1, kernel_2: kernel_1 + kernel_2 - 1,
            "Your formula holds for stride 1 only. When the first layer strides, the windows that the second "
            "layer looks at lie further apart.",
            "Two layers in a row",
        ),
        Misconception(
            "strides_whole_kernel",
            lambda kernel_1, stride_1, kernel_2: kernel_1 + kernel_2 * stride_1,
            "You moved the window once for every tap of the second kernel. The first tap needs no move.",
            "Two layers in a row",
        ),
        Misconception(
            "multiplies_kernels",
            lambda kernel_1, stride_1, kernel_2: kernel_1 * kernel_2,
            "You multiplied the kernels, as if the windows of the first layer lay side by side. They are one "
            "stride apart, whatever the kernel.",
            "Two layers in a row",
        ),
        Misconception(
            "swaps_layers",
            lambda kernel_1, stride_1, kernel_2: (kernel_1 - 1) * stride_1 + kernel_2,
            "Your formula has the two layers the wrong way round. Of which layer is a whole window seen at once, and "
            "which layer says how many windows there are?",
            "Two layers in a row",
        ),
        Misconception(
            "counts_read_alone",
            lambda kernel_1, stride_1, kernel_2: len(_read_through_both(kernel_1, stride_1, kernel_2)),
            READ_ALONE,
            "Predict",
        ),
    ),
    hints=(
        "Draw the first layer's windows one after the other. How many pixels does the first one cover, "
        "and how many new ones does each further window add?",
        "The second layer looks at as many windows as its kernel is long. The first covers a whole first kernel; "
        "each of the others starts one stride of the first layer later.",
        "return kernel_1 + (how many further windows) * (how far each is moved)",
    ),
    property="the number of pixels from the first one seen to the last one seen, those stepped over included.",
)

# ---------------------------------------------------------------- compound_stride


def compound_stride(strides: list[int]) -> int:
    """Return how many image pixels lie between two neighbouring outputs of a chain of layers."""
    jump = 1
    for stride in strides:
        jump = jump * stride
    return jump


def _chain_of_strides(draw: Draw) -> Case:
    """One chain in two is long, of strides up to 9: too many to be listed."""
    most, shortest, longest = draw.choice(((4, 1, 5), (9, 4, 6)))
    return {"strides": [draw.integer(1, most) for _ in range(draw.integer(shortest, longest))]}


def _walk_to_the_neighbour(strides: list[int]) -> int:
    position = 1  # output 0 begins at pixel 0; where does output 1 begin?
    for stride in reversed(strides):
        position = list(range(0, stride * (position + 1), stride))[position]
    return position


COMPOUND_STRIDE = Exercise(
    name="compound_stride",
    lesson=STEM,
    title="The jump of a chain",
    points=1,
    minutes=3,
    difficulty=1,
    reference=compound_stride,
    oracle=_walk_to_the_neighbour,
    cases=_chain_of_strides,
    examples=(
        {"strides": [3, 2]},
        {"strides": [2, 1, 2, 2]},
        {"strides": [4, 2, 1, 2, 2, 2, 2, 2, 5]},
        {"strides": [1]},
    ),
    misconceptions=(
        Misconception(
            "adds_strides",
            lambda strides: sum(strides),
            "You added the strides. A step of the second layer is made of whole steps of the first: each layer "
            "multiplies the distance.",
            "Strides multiply",
        ),
        Misconception(
            "last_stride",
            lambda strides: strides[-1],
            "You took the last layer's own stride. It counts units of the layer below, and those may already lie "
            "several pixels apart.",
            "Strides multiply",
        ),
        Misconception(
            "largest_stride",
            lambda strides: max(strides),
            "You took the largest stride. Every layer that strides moves the outputs further apart, not only the "
            "one that strides most.",
            "Strides multiply",
        ),
        Misconception("first_stride", lambda strides: strides[0], FIRST_LAYER_ALONE, "Strides multiply"),
    ),
    hints=(
        "Take output 0 and output 1 of the last layer. How far apart do they begin, one layer below?",
        "Go down layer by layer: a distance of d units above is a distance of d times the stride below.",
        "Start with jump = 1 and let every stride multiply it.",
    ),
    property="output 1 begins this many pixels after output 0.",
)

# ---------------------------------------------------------------- input_size


def input_size(output_size: int, layers: list[tuple[int, int]]) -> int:
    """Return how many pixels there are from the first that these neighbouring outputs read to the last."""
    size = output_size
    for kernel, stride in reversed(layers):
        size = stride * (size - 1) + kernel
    return size


def _smallest_input(output_size: int, layers: list[tuple[int, int]]) -> int:
    """Try one input size after the other until enough outputs fit, as unpadded layers produce them."""
    for size in itertools.count(1):
        outputs = size
        for kernel, stride in layers:
            outputs = (outputs - kernel) // stride + 1 if outputs >= kernel else 0
        if outputs >= output_size:
            return size
    raise AssertionError("unreachable: more pixels give more outputs")


INPUT_SIZE = Exercise(
    name="input_size",
    lesson=STEM,
    title="The input that a map needs",
    points=2,
    minutes=7,
    difficulty=2,
    reference=input_size,
    oracle=_smallest_input,
    cases=lambda draw: {"output_size": draw.integer(1, 6), "layers": draw_layers(draw, 4, KERNELS, STRIDES)},
    examples=(
        {"output_size": 3, "layers": [(3, 2)]},
        {"output_size": 2, "layers": [(5, 3), (3, 2)]},
        {"output_size": 1, "layers": [(3, 1), (3, 1), (2, 2)]},
        {"output_size": 2, "layers": [(2, 3)]},
        {"output_size": 12, "layers": [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 2)]},
    ),
    misconceptions=(
        Misconception(
            "walks_forwards",
            walked(lambda size, kernel, stride: stride * (size - 1) + kernel, forwards=True),
            "Your step is right, but you began with the first layer. The outputs are the last layer's: which layer "
            "do you have to undo first?",
            "A whole network is one layer",
        ),
        Misconception(
            "strides_every_output",
            walked(lambda size, kernel, stride: stride * size + kernel),
            "You counted one stride for every output. The first output needs no step, only its kernel.",
            "One layer, read backwards",
        ),
        Misconception(
            "forgets_kernel",
            walked(lambda size, kernel, stride: stride * size),
            "You multiplied by the strides only. That is how far the outputs reach, not how far their windows do: "
            "the last window is a whole kernel wide.",
            "One layer, read backwards",
        ),
        Misconception(
            "forgets_stride",
            walked(lambda size, kernel, stride: size - 1 + kernel),
            "You moved the window by one pixel an output, as with stride 1.",
            "One layer, read backwards",
        ),
        Misconception(
            "computes_outputs",
            walked(lambda size, kernel, stride: (size - kernel) // stride + 1, forwards=True),
            "You computed how many outputs an input gives. Here the outputs are known and the input is asked for.",
            "One layer, read backwards",
        ),
        Misconception(
            "last_layer_alone",
            lambda output_size, layers: input_size(output_size, layers[-1:]),
            LAST_LAYER_ALONE,
            "A whole network is one layer",
        ),
        Misconception(
            "first_layer_alone",
            lambda output_size, layers: input_size(output_size, layers[:1]),
            FIRST_LAYER_ALONE,
            "A whole network is one layer",
        ),
        Misconception(
            "counts_read_alone",
            lambda output_size, layers: len(read_by(range(output_size), layers)),
            READ_ALONE,
            "Predict",
        ),
    ),
    hints=(
        "How many units of the layer below does the last layer read, to make the outputs that are wanted? "
        "That number is what the layer below has to deliver.",
        "Keep one number: how many neighbouring units are needed where you stand. Undo one layer, the last one first, "
        "and the units that it needs are the outputs of the layer before it.",
        "for kernel, stride in reversed(layers): the new size is stride times (size less one), and one kernel more.",
    ),
    property="with one pixel less, the layers (all without padding) give fewer outputs.",
)

# ---------------------------------------------------------------- field_centre


def field_centre(position: float, layers: list[tuple[int, int, int]]) -> float:
    """Return the middle of the pixels that output `position` sees; 0 is the centre of pixel 0."""
    centre = position
    for kernel, stride, padding in reversed(layers):
        centre = centre * stride - padding + (kernel - 1) / 2
    return centre


def _middle_of_ends(position: int, layers: list[tuple[int, int, int]]) -> float:
    first = last = position
    for kernel, stride, padding in reversed(layers):
        first, last = first * stride - padding, last * stride - padding + kernel - 1
    return (first + last) / 2


FIELD_CENTRE = Exercise(
    name="field_centre",
    lesson=STEM,
    title="Where a field lies",
    points=2,
    minutes=8,
    difficulty=2,
    reference=field_centre,
    oracle=_middle_of_ends,
    cases=lambda draw: {
        "position": draw.integer(0, 6),
        "layers": draw_layers(draw, 4, KERNELS, STRIDES, PADDINGS),
    },
    examples=(
        {"position": 0, "layers": [(2, 2, 0)]},
        {"position": 4, "layers": [(3, 2, 1)]},
        {"position": 1, "layers": [(3, 1, 1), (2, 2, 0), (3, 1, 1), (2, 2, 0)]},
        {"position": 12, "layers": [(11, 4, 100), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1), (3, 1, 1), (3, 2, 0)]},
    ),
    misconceptions=(
        Misconception(
            "half_kernel",
            walked(lambda centre, kernel, stride, padding: centre * stride - padding + kernel / 2),
            "You went half a kernel beyond the first pixel. Positions are counted from the centre of pixel 0, so the "
            "middle of K pixels lies half of K - 1 steps after the first one.",
            "Where the field lies",
        ),
        Misconception(
            "whole_pixels",
            walked(lambda centre, kernel, stride, padding: centre * stride - padding + (kernel - 1) // 2),
            "Right for odd kernels. The middle of an even number of pixels lies between two of them: half pixels "
            "are meant, so do not round.",
            "Where the field lies",
        ),
        Misconception(
            "forgets_padding",
            walked(lambda centre, kernel, stride, padding: centre * stride + (kernel - 1) / 2),
            "You left the padding out. It moves every window towards the left, by so many units of its layer's input.",
            "Where the field lies",
        ),
        Misconception(
            "first_pixel",
            walked(lambda centre, kernel, stride, padding: centre * stride - padding),
            "You found where the field begins. Its centre lies further right.",
            "Where the field lies",
        ),
        Misconception(
            "last_pixel",
            walked(lambda centre, kernel, stride, padding: centre * stride - padding + kernel - 1),
            "You found where the field ends. From the first of K pixels it is K - 1 steps to the last; how many are "
            "there to the middle?",
            "Where the field lies",
        ),
        Misconception(
            "adds_padding",
            walked(lambda centre, kernel, stride, padding: centre * stride + padding + (kernel - 1) / 2),
            "You moved the windows to the right by the padding. The zeros stand before the first unit: to which side "
            "does a window begin earlier?",
            "Where the field lies",
        ),
        Misconception(
            "rounds",
            lambda position, layers: round(field_centre(position, layers)),
            "You rounded the centre. It may lie half way between two pixels, and then the half belongs to it.",
            "Where the field lies",
        ),
        Misconception(
            "last_layer_alone",
            lambda position, layers: field_centre(position, layers[-1:]),
            LAST_LAYER_ALONE,
            "Where the field lies",
        ),
        Misconception(
            "walks_forwards",
            walked(lambda centre, kernel, stride, padding: centre * stride - padding + (kernel - 1) / 2, forwards=True),
            "Your step is right, but you began with the first layer. The position is one of the last layer's: "
            "undo that layer first.",
            "Where the field lies",
        ),
    ),
    hints=(
        "Try two poolings, (2, 2, 0) twice. Output 0 has its centre at 0.5, half way between two units of layer 1. "
        "How many pixels apart are those units, and where does the place half way between them lie on the image?",
        "Go from the last layer to the first. Each layer turns a place on its output into a place on its input: times "
        "the stride, back by the padding, on by half of what a kernel has beyond its first tap.",
        "for kernel, stride, padding in reversed(layers): centre becomes centre * stride - padding + half of (kernel "
        "less one)",
    ),
    property="the first and the last pixel that the output sees are equally far from it.",
)

# ---------------------------------------------------------------- receptive_field


def receptive_field(layers: list[tuple[int, int, int, int]]) -> int:
    """Return the receptive field of one output: the pixels from the first that it sees to the last."""
    field = 1
    jump = 1
    for kernel, stride, _padding, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field


def _field_wrongly(widen: Callable[..., int], jump: Callable[..., int] = product_before) -> Callable[..., int]:
    def wrong(layers: Layers) -> int:
        return 1 + sum(widen(*layer) * jump(layers, index) for index, layer in enumerate(layers))

    return wrong


def _widen(kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (kernel - 1) * dilation


def _draw_stack(draw: Draw) -> list[tuple[int, ...]]:
    return draw_layers(draw, 5, KERNELS, STRIDES, PADDINGS, DILATIONS)


RECEPTIVE_FIELD = Exercise(
    name="receptive_field",
    lesson=STEM,
    title="The field of any chain",
    points=2,
    minutes=8,
    difficulty=2,
    reference=receptive_field,
    oracle=lambda layers: first_to_last(read_by({0}, layers)),
    cases=lambda draw: {"layers": _draw_stack(draw)},
    examples=(
        {"layers": [(3, 1, 1, 1), (3, 1, 1, 1)]},
        {"layers": [(3, 1, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4)]},
        {"layers": [(3, 1, 1, 1), (2, 2, 0, 1), (3, 1, 1, 1), (2, 2, 0, 1)]},
        {"layers": [(11, 4, 2, 1), (3, 2, 0, 1), (5, 1, 2, 1), (3, 2, 0, 1), (3, 1, 2, 2), (3, 1, 36, 36)]},
    ),
    misconceptions=(
        Misconception(
            "adds_kernels",
            lambda layers: sum(kernel for kernel, _, _, _ in layers),
            "You added the kernels. Windows overlap, and after a stride they lie further apart: count what each layer "
            "adds to one pixel, and in steps of how many pixels.",
            "Two layers in a row",
        ),
        Misconception(
            "forgets_strides",
            _field_wrongly(_widen, lambda layers, index: 1),
            "Your formula holds where no layer strides. After a stride, the taps of every later layer lie further "
            "apart on the image.",
            "Strides multiply",
        ),
        Misconception(
            "own_stride",
            _field_wrongly(_widen, lambda layers, index: layers[index][1]),
            "You multiplied what each layer adds by its own stride. How far its taps lie apart on the image was "
            "settled before: by the strides of the layers below it, all of them.",
            "Strides multiply",
        ),
        Misconception(
            "own_stride_too",
            _field_wrongly(_widen, lambda layers, index: product_before(layers, index + 1)),
            "You let a layer's own stride widen its own field. A stride moves the layer's outputs apart; only the "
            "layers after it feel that.",
            "Strides multiply",
        ),
        Misconception(
            "adds_strides",
            _field_wrongly(_widen, lambda layers, index: sum(layer[1] for layer in layers[:index]) or 1),
            "You added the earlier strides up. Each of them multiplies the distance between the taps.",
            "Strides multiply",
        ),
        Misconception(
            "forgets_dilation",
            _field_wrongly(lambda kernel, stride, padding, dilation: kernel - 1),
            "You left the dilation out. It puts gaps between a kernel's taps, so that they reach further.",
            "Dilation spreads the taps",
        ),
        Misconception(
            "dilates_every_tap",
            _field_wrongly(lambda kernel, stride, padding, dilation: kernel * dilation - 1),
            "You took K times D pixels for a dilated kernel. There is a gap between each two taps, but none after the "
            "last one.",
            "Dilation spreads the taps",
        ),
        Misconception(
            "adds_padding",
            _field_wrongly(lambda kernel, stride, padding, dilation: (kernel - 1) * dilation + 2 * padding),
            "You counted the padding as field. It is where windows may stick out of the image; no window gets wider "
            "from it.",
            "Where the field lies",
        ),
        Misconception(
            "subtracts_padding",
            _field_wrongly(lambda kernel, stride, padding, dilation: (kernel - 1) * dilation - 2 * padding),
            "You took the padding off. That gives the smallest image that has an output at all, which is another "
            "question: an output in the middle of a large image sees no padding.",
            "Where the field lies",
        ),
        Misconception(
            "wrong_way_round",
            lambda layers: receptive_field(layers[::-1]),
            "Each step is right, but you took the layers the wrong way round. Whoever keeps field and jump begins "
            "with the first layer, for the jump is the product of the strides before a layer; whoever undoes layers "
            "begins with the last.",
            "Dilation spreads the taps",
        ),
        Misconception(
            "first_layer_alone",
            lambda layers: receptive_field(layers[:1]),
            FIRST_LAYER_ALONE,
            "Dilation spreads the taps",
        ),
        Misconception(
            "counts_read_alone",
            lambda layers: len(read_by({0}, layers)),
            READ_ALONE,
            "Predict",
        ),
    ),
    hints=(
        "Begin with one pixel, which sees itself, and let the layers come one by one. How many steps between taps does "
        "each add, and how many pixels of the image is one such step?",
        "Keep two numbers while you go through the layers: the field so far, and the jump so far, which is the product "
        "of the strides met already. A layer adds its K - 1 steps of D units, each a jump long.",
        "For each layer: first field += (steps between taps) * dilation * jump, then jump *= stride.",
    ),
    property="the pixels from the first that can change the output to the last, holes included.",
)

# ---------------------------------------------------------------- block_field


def block_field(stem: list[tuple[int, int, int, int]], branches: list[list[tuple[int, int, int, int]]]) -> int:
    """Return the receptive field where the branches, which all start at the stem's output, are joined."""
    fields = []
    for branch in branches:
        size, step = 1, 1
        for kernel, stride, _padding, dilation in stem + branch:
            size = size + (kernel - 1) * dilation * step
            step = step * stride
        fields.append(size)
    return max(fields)


def _read_by_any(stem: Layers, branches: list[Layers]) -> set[int]:
    return set().union(*(read_by({0}, stem + branch) for branch in branches))


def _draw_block(draw: Draw) -> Case:
    """Branches as in residual and inception blocks: odd kernels, padding that centres them, one common stride.

    Any one layer of a branch has that stride, and not every branch is a shortcut.
    """
    stem = draw_layers(draw, 2, KERNELS[:4], STRIDES, (0, 1), (1, 2))
    stride = draw.choice((1, 1, 2))
    branches = []
    for _ in range(draw.integer(2, 3)):
        shape = [(draw.choice((3, 1, 5, 7)), draw.integer(1, 2)) for _ in range(draw.choice((1, 2, 3, 0)))]
        if stride > 1 and not shape:
            shape = [(1, 1)]
        striding = draw.integer(0, max(0, len(shape) - 1))
        branches.append([
            (kernel, stride if i == striding else 1, (kernel - 1) * dilation // 2, dilation)
            for i, (kernel, dilation) in enumerate(shape)
        ])  # fmt: skip
    if not any(branches):
        branches[0] = [(3, 1, 1, 1)]
    return {"stem": stem, "branches": branches}


def _sizes(stem: Layers, branches: list[Layers]) -> list[int]:
    return [receptive_field(stem + branch) for branch in branches]


BLOCK_FIELD = Exercise(
    name="block_field",
    lesson=STEM,
    title="The field of a block with branches",
    points=2,
    minutes=8,
    difficulty=2,
    reference=block_field,
    oracle=lambda stem, branches: first_to_last(_read_by_any(stem, branches)),
    cases=_draw_block,
    examples=(
        {"stem": [(3, 2, 1, 1)], "branches": [[(3, 1, 1, 1), (3, 1, 1, 1)], []]},
        {"stem": [(2, 2, 0, 1)], "branches": [[(3, 1, 1, 1), (3, 1, 1, 1)], [(7, 1, 3, 1)], [(1, 1, 0, 1)]]},
        {"stem": [(3, 1, 1, 1)], "branches": [[(3, 1, 1, 1)], [(3, 1, 2, 2)], [(3, 1, 4, 4)]]},
        {"stem": [(3, 1, 2, 2)], "branches": [[(1, 2, 0, 1)], [(1, 1, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1)]]},
        {
            "stem": [(1, 2, 0, 1)],
            "branches": [
                [(5, 1, 2, 1), (3, 1, 1, 1), (1, 2, 0, 1)],  # more taps, but it strides after them
                [(1, 2, 0, 1), (3, 1, 1, 1), (3, 1, 1, 1)],
            ],
        },
        {
            "stem": [(3, 2, 1, 1), (3, 1, 2, 2), (2, 2, 0, 1)],
            "branches": [[], [(7, 1, 3, 1)], [(3, 1, 4, 4)], [(3, 1, 1, 1), (3, 1, 1, 1), (3, 1, 1, 1), (5, 1, 2, 1)]],
        },
    ),
    misconceptions=(
        Misconception(
            "chains_branches",
            lambda stem, branches: receptive_field(stem + [layer for branch in branches for layer in branch]),
            "You put the branches one behind the other. They stand side by side: each starts at the stem's output, "
            "and none reads what another one made.",
            "Branches: the largest field wins",
        ),
        Misconception(
            "sums_branches",
            lambda stem, branches: sum(_sizes(stem, branches)),
            "You added the branches' fields up. They lie on top of each other, so the same pixels are counted several "
            "times.",
            "Branches: the largest field wins",
        ),
        Misconception(
            "deepest_branch",
            lambda stem, branches: receptive_field(stem + max(branches, key=len)),
            "You followed the branch with the most layers. One wide or dilated layer can see more than several small "
            "ones: compare fields, not depths.",
            "Branches: the largest field wins",
        ),
        Misconception(
            "forgets_jump",
            lambda stem, branches: receptive_field(stem) + max(_sizes([], branches)) - 1,
            "You added stem and branch as if the stem did not stride. The branch counts units of the stem's output, "
            "and those lie a jump apart.",
            "Strides multiply",
        ),
        Misconception(
            "shortest_way",
            lambda stem, branches: min(_sizes(stem, branches)),
            "You took the smallest of the fields, as if a shortcut kept the other branches from seeing. Whatever any "
            "branch sees can change the sum.",
            "Branches: the largest field wins",
        ),
        Misconception(
            "adds_stem_and_branch",
            lambda stem, branches: receptive_field(stem) + max(_sizes([], branches)),
            "You added the stem's field and the largest branch's. They are one behind the other, as two layers are: "
            "windows overlap, and those of the branch count units of the stem.",
            "Two layers in a row",
        ),
        Misconception(
            "adds_branches_to_stem",
            lambda stem, branches: receptive_field(stem) + sum(size - 1 for size in _sizes([], branches)),
            "You let every branch widen the stem's field, one after the other. The branches lie side by side, on top "
            "of each other; and what one of them adds is counted in units of the stem.",
            "Branches: the largest field wins",
        ),
        Misconception(
            "first_branch_alone",
            lambda stem, branches: receptive_field(stem + branches[0]),
            LAST_LAYER_ALONE.replace("the last layer's", "the first branch's"),
            "Branches: the largest field wins",
        ),
    ),
    hints=(
        "A pixel is in the field if it can change the output by any way. Which ways are there through the block?",
        "Each way is a chain: the stem, then one branch. Find the field of every such chain; all are centred on the "
        "same pixel. What do they cover together?",
        "fields = [the field of stem + branch, for each branch]; the largest of them covers the others.",
    ),
    property="the pixels from the first to the last that can change the output through any branch.",
)

# ---------------------------------------------------------------- pixels_seen


def pixels_seen(position: int, layers: list[tuple[int, int, int, int]]) -> list[int]:
    """Return the pixels that output `position` really reads, each once."""
    seen = {position}
    for kernel, stride, padding, dilation in reversed(layers):
        taps = range(kernel)
        seen = {unit * stride - padding + tap * dilation for unit in seen for tap in taps}
    return sorted(seen)


def _by_trying_pixels(position: int, layers: Layers) -> list[int]:
    """Push every pixel of a wide row forwards, and see whether it arrives at the output."""
    begin, size = position, 1
    for kernel, stride, padding, dilation in reversed(layers):
        begin, size = begin * stride - padding, (size - 1) * stride + (kernel - 1) * dilation + 1
    seen = []
    for pixel in range(begin - 2, begin + size + 2):
        reached = {pixel}
        for kernel, stride, padding, dilation in layers:
            offsets = {unit + padding - tap * dilation for unit in reached for tap in range(kernel)}
            reached = {offset // stride for offset in offsets if offset % stride == 0}
        if position in reached:
            seen.append(pixel)
    return seen


def _pixels_wrongly(wrong_taps: Callable[..., list[int]], forwards: bool = False) -> Callable[..., list[int]]:
    walk = walked(lambda seen, *layer: {pixel for unit in seen for pixel in wrong_taps(unit, *layer)}, forwards)
    return lambda position, layers: sorted(walk({position}, layers))


def _with_repeats(position: int, layers: Layers) -> list[int]:
    seen = [position]
    for layer in reversed(layers):
        seen = [pixel for unit in seen for pixel in taps(unit, *layer)]
    return sorted(seen)


def _without_holes(position: int, layers: Layers) -> list[int]:
    seen = pixels_seen(position, layers)
    return list(range(seen[0], seen[-1] + 1))


MOST_PIXELS = 10_000
"""No case has a tenth of it; of a longer tensor the length says enough."""


def _in_order(case: Case, pixels: Any) -> Any:
    """Sort the pixels: which are read is asked, not in which order they are listed."""
    if isinstance(pixels, (Tensor, np.ndarray)) and pixels.ndim == 1 and len(pixels) <= MOST_PIXELS:
        pixels = pixels.tolist()
    if isinstance(pixels, (list, tuple)):
        pixels = [pixel.item() if isinstance(pixel, Tensor) and pixel.ndim == 0 else pixel for pixel in pixels]
    if isinstance(pixels, list) and all(isinstance(pixel, Real) for pixel in pixels):
        return sorted(pixels)
    return pixels


PIXELS_SEEN = Exercise(
    name="pixels_seen",
    lesson=STEM,
    title="The pixels that are really read",
    points=3,
    minutes=12,
    difficulty=3,
    reference=pixels_seen,
    oracle=_by_trying_pixels,
    cases=lambda draw: {
        "position": draw.integer(0, 5),
        "layers": draw_layers(draw, 3, KERNELS[:3], STRIDES, PADDINGS, DILATIONS),
    },
    examples=(
        {"position": 1, "layers": [(3, 2, 0, 1)]},
        {"position": 3, "layers": [(3, 1, 2, 2), (3, 1, 2, 2)]},
        {"position": 2, "layers": [(2, 3, 0, 1), (3, 1, 1, 1)]},
        {"position": 0, "layers": [(3, 1, 0, 2), (2, 1, 1, 1)]},
        {"position": 9, "layers": [(7, 2, 3, 1), (3, 2, 1, 1), (4, 1, 6, 4), (3, 1, 12, 12)]},
    ),
    drive=drivers.set_as_list,
    measure=_in_order,
    misconceptions=(
        Misconception(
            "fills_holes",
            _without_holes,
            "You listed every pixel from the first to the last. Some of them are stepped over by a dilation, or by a "
            "stride that is larger than its kernel, and can never change the output.",
            "Which pixels are really read",
        ),
        Misconception(
            "repeats_pixels",
            _with_repeats,
            "You listed a pixel once for every way that leads to it. Asked is whether it is read, not how often.",
            "Which pixels are really read",
        ),
        Misconception(
            "forgets_padding",
            _pixels_wrongly(lambda unit, kernel, stride, padding, dilation: taps(unit, kernel, stride, 0, dilation)),
            "You left the padding out. It moves every window of its layer towards the left.",
            "Where the field lies",
        ),
        Misconception(
            "forgets_dilation",
            _pixels_wrongly(lambda unit, kernel, stride, padding, dilation: taps(unit, kernel, stride, padding, 1)),
            "You left the dilation out: neighbouring taps of a dilated kernel are D units apart.",
            "Dilation spreads the taps",
        ),
        Misconception(
            "clips_padding",
            lambda position, layers: [pixel for pixel in pixels_seen(position, layers) if pixel >= 0],
            "You dropped the positions below 0. They lie in the padding and hold zeros, but they belong to the field: "
            "keep them, so that all outputs of a layer have fields of one size.",
            "Which pixels are really read",
        ),
        Misconception(
            "clips_every_layer",
            _pixels_wrongly(lambda unit, *layer: [place for place in taps(unit, *layer) if place >= 0]),
            "You dropped the places below 0 layer by layer. It is true that a zero of the padding reads nothing; but "
            "here the image is taken to have no end, so follow those places too.",
            "Which pixels are really read",
        ),
        Misconception(
            "centres_taps",
            _pixels_wrongly(
                lambda unit, kernel, stride, padding, dilation: taps(unit, kernel, stride, kernel // 2, dilation)
            ),
            "You centred the taps around the unit. Where a window begins, the layer's padding says; it need not be "
            "half of the kernel.",
            "Where the field lies",
        ),
        Misconception(
            "last_layer_alone",
            lambda position, layers: pixels_seen(position, layers[-1:]),
            LAST_LAYER_ALONE,
            "A whole network is one layer",
        ),
        Misconception(
            "walks_forwards",
            _pixels_wrongly(taps, forwards=True),
            "Your step is right, but you began with the first layer. The position is one of the last layer's: "
            "undo that layer first.",
            "A whole network is one layer",
        ),
    ),
    hints=(
        "One layer first: write down the places that output i reads, tap by tap. What if not one unit but a whole set "
        "of units is to be traced back?",
        "Keep the set of units that matter. Going from the last layer to the first, replace it by all the places "
        "that any of its units reads through any tap. A set keeps each place once.",
        "for each layer from the last: seen = {place that the unit reads through the tap, for unit in seen for tap in "
        "range(kernel)}; then make a list of it.",
    ),
    property="a place is in the list if and only if changing it could change the output, were the image without end.",
)

# ---------------------------------------------------------------- quiz and lesson

QUIZ = (
    Question(
        "stride_effect",
        STEM,
        "A layer's stride is doubled. Whose field grows?",
        (
            Option("That of the layer's own outputs.", "Its own kernel covers as many pixels as before."),
            Option("Nobody's.", "The outputs lie further apart, so the next kernel that is wider than 1 spans more."),
            Option(
                "That of the outputs of every later layer whose kernel is wider than 1, and of all layers after it.",
                "The taps of that kernel now lie twice as far apart; what reads its outputs sees more as well.",
                right=True,
            ),
        ),
    ),
    Question(
        "padding_effect",
        STEM,
        "All 3x3 layers of a network get padding 1 instead of 0. What happens to the receptive field of an output?",
        (
            Option("It keeps its size and moves to the left.", "Every window starts one unit earlier.", right=True),
            Option("It grows by 2 a layer.", "The windows stay as wide as they were; they may now stick out."),
            Option(
                "It shrinks, because zeros are no information.",
                "At the border less of it is image, but the field of an output in the middle holds no padding at all.",
            ),
        ),
    ),
    Question(
        "pointwise_effect",
        STEM,
        "A network ends in a 1x1 convolution of stride 1. It is replaced by another 1x1 convolution with dilation 6. "
        "How does the field change?",
        (
            Option("It grows by 6 jumps.", "Dilation parts the taps; a 1x1 kernel has only one."),
            Option("Not at all.", "(K - 1) D is 0 for K = 1, whatever D is.", right=True),
            Option("It grows six times.", "The single tap still reads the same unit."),
        ),
    ),
    Question(
        "shortcut_effect",
        STEM,
        "A residual block computes x + f(x), where f sees 5 units of x. How many units does the sum see?",
        (
            Option("1", "The shortcut sees one unit, but f is there too."),
            Option("3", "Fields are not averaged: whatever can change f(x) can change the sum."),
            Option("5", "The fields lie on top of each other, and the larger one covers the smaller.", right=True),
            Option("6", "The unit that x contributes is one of the 5 that f sees already."),
        ),
    ),
    Question(
        "two_sizes",
        STEM,
        "Inception-v3: its smallest image is 75 pixels wide, its receptive field 1311. Why do the two differ?",
        (
            Option(
                "One of them is a mistake.",
                "Both can be measured: 74 raises an error, and the gradient of one "
                "output reaches over 1311 rows of a large image.",
            ),
            Option(
                "Padding lets windows stick out of the image.",
                "The map needs K - 2P pixels for one output: "
                "1311 - 2 x 618 = 75. All other positions of the field may be padding.",
                right=True,
            ),
            Option("Training makes the field larger.", "The field follows from the layers alone."),
        ),
    ),
    Question(
        "effective_size",
        STEM,
        "A plain stack of 3x3 layers of stride 1, untrained, is made four times as deep. What happens to the part of "
        "the image that matters to an output?",
        (
            Option(
                "It gets about twice as wide.",
                "The weight of the pixels spreads like a random walk: as the square root of the number of steps.",
                right=True,
            ),
            Option(
                "It gets about four times as wide, like the field.",
                "The field does. Most of what it gains hardly counts.",
            ),
            Option("It stays as it is.", "It does grow, only more slowly than the field."),
        ),
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="Receptive-field arithmetic",
    promise="Say how much of the image one output pixel sees, for any network.",
    reading_minutes=40,
    before=("00_start_here",),
    exercises=(
        COMPOUND_KERNEL,
        COMPOUND_STRIDE,
        INPUT_SIZE,
        FIELD_CENTRE,
        RECEPTIVE_FIELD,
        BLOCK_FIELD,
        PIXELS_SEEN,
    ),
    quiz=QUIZ,
)
