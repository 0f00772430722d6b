"""The exercises of lesson 07."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.atrous import atrous_conv, valid_taps
from segcourse.exercises import Lesson
from segcourse.exercises.compare import Mismatch, agree, same_value
from segcourse.exercises.drivers import atrous as drivers
from segcourse.exercises.exercise import (
    Case,
    Draw,
    Exercise,
    Misconception,
    draw_tensor,
    draw_whole_numbers,
)
from segcourse.exercises.networks import network_of, same_scores
from segcourse.exercises.quiz import Option, Question
from segcourse.receptive_field import Field, Layer

STEM = "07_atrous"
Pair = tuple[int, int]
Plain = Callable[[Tensor], Tensor]


# --- effective_kernel -------------------------------------------------------------------------------------


def effective_kernel(kernel: int, rate: int) -> int:
    """Return how many units an atrous kernel spans, its first tap to its last."""
    return kernel + (kernel - 1) * (rate - 1)


def _kernel_and_rate(draw: Draw) -> Case:
    """One case in two is drawn from so many that nobody can list them."""
    kernel, rate = draw.choice(((7, 24), (200, 200)))
    return {"kernel": draw.integer(1, kernel), "rate": draw.integer(1, rate)}


EFFECTIVE_KERNEL = Exercise(
    name="effective_kernel",
    lesson=STEM,
    title="What a kernel spans",
    points=1,
    minutes=4,
    difficulty=1,
    reference=effective_kernel,
    oracle=lambda kernel, rate: len(range(0, 1 + rate * (kernel - 1))),
    cases=_kernel_and_rate,
    examples=(
        {"kernel": 3, "rate": 2},
        {"kernel": 3, "rate": 1},
        {"kernel": 3, "rate": 12},
        {"kernel": 2, "rate": 5},
        {"kernel": 1, "rate": 7},
        {"kernel": 5, "rate": 3},
    ),
    misconceptions=(
        Misconception(
            "kernel_times_rate",
            lambda kernel, rate: kernel * rate,
            "You multiplied the kernel by the rate. That leaves a gap after the last tap too. How many gaps lie "
            "between k taps?",
            "What it spans",
        ),
        Misconception(
            "rate_zeros_a_gap",
            lambda kernel, rate: kernel + (kernel - 1) * rate,
            "You put `rate` holes into each gap. At rate 1, the plain convolution, there are none.",
            "What it spans",
        ),
        Misconception(
            "one_gap",
            lambda kernel, rate: kernel + rate - 1,
            "You opened one gap. Between k taps there is more than one.",
            "What it spans",
        ),
        Misconception(
            "steps_not_units",
            lambda kernel, rate: (kernel - 1) * rate,
            "You counted the steps from the first tap to the last. How many units do so many steps touch, both ends "
            "included?",
            "What it spans",
        ),
        Misconception(
            "holes_only",
            lambda kernel, rate: (kernel - 1) * (rate - 1),
            "You counted the holes. The taps themselves take room as well.",
            "What it spans",
        ),
        Misconception(
            "one_reach",
            lambda kernel, rate: kernel // 2 * rate + 1,
            "You counted from the middle tap to one end. The kernel reaches to both sides.",
            "What it spans",
        ),
        Misconception(
            "rate_forgotten",
            lambda kernel, rate: kernel,
            "You returned the number of taps. At rates above 1 they do not lie side by side.",
            "What it spans",
        ),
        Misconception(
            "three_taps_assumed",
            lambda kernel, rate: 2 * rate + 1,
            "Your number is right for three taps. How does it change with `kernel`?",
            "What it spans",
        ),
        Misconception(
            "arguments_exchanged",
            lambda kernel, rate: rate + (rate - 1) * (kernel - 1),
            "You exchanged the kernel and the rate. Which of them counts taps, and which the way from tap to tap?",
            "What it spans",
        ),
        Misconception(
            "squared",
            lambda kernel, rate: (kernel + (kernel - 1) * (rate - 1)) ** 2,
            "You counted the units of the square. The exercise asks for its side.",
            "What it spans",
        ),
    ),
    hints=(
        "Draw 3 taps at rate 4 on squared paper, and count the squares from the first to the last.",
        "Two kinds of units: the taps, and the holes between them. How many gaps are there, and how many holes in "
        "each?",
        "kernel + (number of gaps) * (holes in a gap): there is one gap fewer than taps, one hole fewer than the rate",
    ),
    property="a kernel of this many units, zeros where the holes are, reads what the atrous kernel reads.",
)


# --- by_holes ---------------------------------------------------------------------------------------------


def by_holes(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    """Return an atrous convolution, computed by a plain one on subsampled maps."""
    height, width = (size - (kernel - 1) * rate for size in x.shape[2:])
    phases = [[conv(x[:, :, a::rate, b::rate]) for b in range(rate)] for a in range(rate)]
    out = x.new_zeros(*phases[0][0].shape[:2], height, width)
    for a in range(rate):
        for b in range(rate):
            out[:, :, a::rate, b::rate] = phases[a][b]
    return out


def _map_and_kernel(draw: Draw) -> Case:
    kernel = draw.choice((2, 3, 2, 3, 1, 4))
    rate = draw.choice([rate for rate in (2, 3, 2, 3, 1, 4, 5) if kernel * rate <= 12])
    inputs = draw.integer(1, 2)
    height, width = (kernel * rate + draw.integer(0, 4) for _ in range(2))
    width += width == height
    x = draw_tensor(draw, (draw.integer(1, 2), inputs, height, width), 0, 9)
    weight = draw_tensor(draw, (draw.integer(1, 2) + inputs, inputs, kernel, kernel), -3, 3)
    weight[..., 0, 0] += 4  # no kernel is its own mirror
    return {"x": x, "weight": weight, "kernel": kernel, "rate": rate}


def _phases(x: Tensor, conv: Plain, rate: int) -> list[list[Tensor]]:
    return [[conv(x[:, :, a::rate, b::rate]) for b in range(rate)] for a in range(rate)]


def _starts(rate: int) -> list[Pair]:
    return [(a, b) for a in range(rate) for b in range(rate)]


def _interlaced(
    place: Callable[[int, int, int], Pair] = lambda a, b, rate: (a, b),
    pick: Callable[[int, int, int], Pair] = lambda a, b, rate: (a, b),
    phases: Callable[[int], Sequence[Pair]] = lambda rate: _starts(rate),
) -> Callable[[Tensor, Plain, int, int], Tensor]:
    """An interlacing with a mistake in it: which phases are made, what is picked for each, where it is put."""

    def wrong(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
        height, width = (size - (kernel - 1) * rate for size in x.shape[2:])
        maps = _phases(x, conv, rate)
        out = x.new_zeros(*maps[0][0].shape[:2], height, width)
        for a, b in phases(rate):
            (row, column), (down, right) = place(a, b, rate), pick(a, b, rate)
            slot, made = out[:, :, row::rate, column::rate], maps[down][right]
            h, w = min(slot.shape[2], made.shape[2]), min(slot.shape[3], made.shape[3])
            slot[:, :, :h, :w] = made[:, :, :h, :w]
        return out

    return wrong


def _side_by_side(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    maps = _phases(x, conv, rate)
    height, width = (size - (kernel - 1) * rate for size in x.shape[2:])
    out = x.new_zeros(*maps[0][0].shape[:2], height, width)
    top = 0
    for row in maps:
        left = 0
        for part in row:
            out[:, :, top : top + part.shape[2], left : left + part.shape[3]] = part
            left += part.shape[3]
        top += row[0].shape[2]
    return out


def _plain_on_the_map(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    return conv(x)


def _one_phase(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    return conv(x[:, :, ::rate, ::rate])


def _rate_two(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    return by_holes(x, conv, kernel, 2)


def _into(shape: Callable[[Tensor, int, int, int], Sequence[int]]) -> Callable[[Tensor, Plain, int, int], Tensor]:
    """An output of the wrong shape: the map, channels out, height, width -> what is made for the results."""

    def wrong(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
        maps = _phases(x, conv, rate)
        height, width = (size - (kernel - 1) * rate for size in x.shape[2:])
        out = x.new_zeros(*shape(x, maps[0][0].shape[1], height, width))
        for a, b in _starts(rate):
            out[:, :, a::rate, b::rate] = maps[a][b]
        return out

    return wrong


def _whole_phases(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    """Right if the rate divides the sizes: what is left over at the end is cut off."""
    height, width = (size - size % rate for size in x.shape[2:])
    return by_holes(x[:, :, :height, :width], conv, kernel, rate)


def _stacked_phases(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    """Right if the rate divides the sizes: phases of several sizes do not go into one tensor."""
    made = torch.stack([conv(x[:, :, a::rate, b::rate]) for a, b in _starts(rate)], dim=2)
    return F.pixel_shuffle(made.flatten(1, 2), rate)


def _rows_only(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    parts = [conv(x[:, :, a::rate]) for a in range(rate)]
    out = x.new_zeros(*parts[0].shape[:2], x.shape[2] - (kernel - 1) * rate, parts[0].shape[3])
    for a, part in enumerate(parts):
        out[:, :, a::rate] = part
    return out


def _repeated(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    height, width = (size - (kernel - 1) * rate for size in x.shape[2:])
    part = conv(x[:, :, ::rate, ::rate])
    return part.repeat_interleave(rate, 2).repeat_interleave(rate, 3)[:, :, :height, :width]


def _enlarged(x: Tensor, conv: Plain, kernel: int, rate: int) -> Tensor:
    size = [n - (kernel - 1) * rate for n in x.shape[2:]]
    return F.interpolate(conv(x[:, :, ::rate, ::rate]), size=size, mode="bilinear", align_corners=False)


BY_HOLES = Exercise(
    name="by_holes",
    lesson=STEM,
    title="Atrous by plain convolutions",
    points=2,
    minutes=10,
    difficulty=2,
    reference=by_holes,
    oracle=lambda x, conv, kernel, rate: atrous_conv(x, _weight_of(conv, x.shape[1], kernel), rate),
    cases=_map_and_kernel,
    examples=(
        {
            "x": torch.arange(1.0, 51.0).reshape(1, 1, 5, 10) ** 2 % 17,
            "weight": torch.tensor([[1.0, 2.0], [0.0, 3.0]]).reshape(1, 1, 2, 2),
            "kernel": 2,
            "rate": 2,
        },
        *(
            {
                "x": torch.arange(1.0, n * channels * height * width + 1).reshape(n, channels, height, width) ** 2 % 17,
                "weight": torch.arange(1.0, 3 * channels * kernel**2 + 1).reshape(3, channels, kernel, kernel) ** 2 % 7,
                "kernel": kernel,
                "rate": rate,
            }
            for n, channels, height, width, kernel, rate in (
                (1, 1, 5, 7, 4, 1),
                (2, 2, 4, 5, 1, 4),
                (2, 1, 12, 11, 2, 5),
                (1, 2, 13, 12, 3, 4),
            )
        ),
    ),
    drive=drivers.with_a_convolution,
    runs=16,
    misconceptions=(
        Misconception(
            "laid_side_by_side",
            _side_by_side,
            "The convolved maps lie side by side. Each unit must go back to where its first pixel came from: "
            "neighbours belong to different phases.",
            "The hole algorithm",
        ),
        Misconception(
            "plain_convolution",
            _plain_on_the_map,
            "You convolved the whole map. Neighbouring taps then read neighbouring pixels: what must be taken out "
            "first, so that neighbours in the map are `rate` pixels apart?",
            "The hole algorithm",
        ),
        Misconception(
            "first_phase_only",
            _one_phase,
            "You subsampled and convolved once. That is one phase; where do the pixels that you left out go?",
            "The hole algorithm",
        ),
        Misconception(
            "rows_only",
            _rows_only,
            "You took the rows apart and left the columns together. The kernel has holes in both directions.",
            "The hole algorithm",
        ),
        Misconception(
            "rate_two_assumed",
            _rate_two,
            "Your phases are those of rate 2, whatever `rate` is.",
            "The hole algorithm",
        ),
        Misconception(
            "two_starts_assumed",
            _interlaced(phases=lambda rate: _starts(min(rate, 2))),
            "You begin phases at the pixels 0 and 1 only. How many starts are there at rate 3?",
            "The hole algorithm",
        ),
        Misconception(
            "as_large_as_the_map",
            _into(lambda x, channels, height, width: x.shape),
            "Your output is as large as the map. Without padding it is smaller: the first line says how large. And its "
            "channels are those that `conv` returns.",
            "The hole algorithm",
        ),
        Misconception(
            "channels_of_the_map",
            _into(lambda x, channels, height, width: (len(x), x.shape[1], height, width)),
            "Your output has as many channels as the map. It has as many as what `conv` returns.",
            "The hole algorithm",
        ),
        Misconception(
            "square_output",
            _into(lambda x, channels, height, width: (len(x), channels, height, height)),
            "Your output is square. Its width is another number than its height.",
            "The hole algorithm",
        ),
        Misconception(
            "batch_of_one",
            _into(lambda x, channels, height, width: (1, channels, height, width)),
            "Your output holds one image. x may hold more: how many is its first size.",
            "The hole algorithm",
        ),
        Misconception(
            "rest_cut_off",
            _whole_phases,
            "Where the rate does not divide a size, rows or columns at the end are lost. Phases may differ in size: "
            "with 5 rows and rate 2, which rows has each?",
            "The hole algorithm",
        ),
        Misconception(
            "phases_alike_in_size",
            _stacked_phases,
            "You put all phases into one tensor. They have the same size only if the rate divides the map's: with 5 "
            "rows and rate 2, which rows has each?",
            "The hole algorithm",
        ),
        Misconception(
            "first_phase_repeated",
            _repeated,
            "You computed one phase and repeated its numbers. The units between have numbers of their own.",
            "The hole algorithm",
        ),
        Misconception(
            "first_phase_enlarged",
            _enlarged,
            "You computed one phase and interpolated. The units between have numbers of their own.",
            "The hole algorithm",
        ),
        Misconception(
            "diagonal_only",
            _interlaced(phases=lambda rate: [(a, a) for a in range(rate)]),
            "You made the phases that begin at row a, column a. Every start down goes with every start to the right.",
            "The hole algorithm",
        ),
        Misconception(
            "one_phase_short",
            _interlaced(phases=lambda rate: _starts(rate - 1)),
            "Your last phase is missing in each direction. range(n) ends with n - 1, and the starts go from 0 to "
            "rate - 1.",
            "The hole algorithm",
        ),
        Misconception(
            "rows_and_columns_exchanged",
            _interlaced(pick=lambda a, b, rate: (b, a)),
            "You wrote the phase that begins at row a, column b to the places that begin at row b, column a. Which "
            "axis is which?",
            "The hole algorithm",
        ),
        Misconception(
            "phases_reversed",
            _interlaced(place=lambda a, b, rate: (rate - 1 - a, rate - 1 - b)),
            "You put the phases back in reverse order. The phase that begins at pixel 0 gives the unit 0.",
            "The hole algorithm",
        ),
    ),
    hints=(
        "Which pixels can meet in one sum? With rate 2: are there two pixels, one in an even and one in an odd row, "
        "that the same unit reads?",
        "Two loops over the starts, down and to the right, from 0 to rate - 1. A slice with a step takes a phase out "
        "of the map, and the same kind of slice says where its results belong.",
        "out[:, :, a::rate, ...] = conv(x[:, :, a::rate, ...]), with b for the columns",
    ),
    property="unit (i, j) is the kernel's sum over the pixels (i + rate·s, j + rate·t), for its taps (s, t). To run "
    "the case: `by_holes(x, lambda maps: F.conv2d(maps, weight), kernel, rate)`.",
)


def _weight_of(conv: Plain, channels: int, kernel: int) -> Tensor:
    """Find a plain convolution's weight by showing it one pixel after the other, for the oracle."""
    pixels = torch.eye(channels * kernel * kernel).reshape(-1, channels, kernel, kernel)
    return conv(pixels)[:, :, 0, 0].T.reshape(-1, channels, kernel, kernel)


# --- field_and_read ---------------------------------------------------------------------------------------


def field_and_read(kernel: int, rates: Sequence[int]) -> Pair:
    """Return the length of a stack's receptive field, and how many positions in it are read."""
    seen = {0}
    for rate in rates:
        seen = {position + tap * rate for position in seen for tap in range(kernel)}
    return max(seen) + 1, len(seen)


def _kernel_and_rates(draw: Draw) -> Case:
    kernel = draw.choice((3, 3, 2, 5))
    count = draw.integer(1, 4 if kernel < 5 else 3)
    if draw.choice((False, True)):  # rates of which nobody can list all
        return {"kernel": kernel, "rates": [draw.integer(1, 24) for _ in range(max(3, count))]}
    return {"kernel": kernel, "rates": [draw.choice((1, 2, 3, 4, 5, 8)) for _ in range(count)]}


def _field_by_sets(kernel: int, rates: Sequence[int]) -> Pair:
    field = Field.of([Layer(kernel, dilation=rate) for rate in rates])
    return int(field.size), int(field.size) - len(field.holes())


def _extent(kernel: int, rates: Sequence[int]) -> int:
    return 1 + sum((kernel - 1) * rate for rate in rates)


def _with_field(field: Callable[[int, Sequence[int]], int]) -> Callable[[int, Sequence[int]], Pair]:
    return lambda kernel, rates: (field(kernel, rates), field_and_read(kernel, rates)[1])


def _with_read(read: Callable[[int, Sequence[int]], int]) -> Callable[[int, Sequence[int]], Pair]:
    return lambda kernel, rates: (_extent(kernel, rates), read(kernel, rates))


def _rates_multiply(kernel: int, rates: Sequence[int]) -> int:
    field, jump = 1, 1
    for rate in rates:
        jump *= rate
        field += (kernel - 1) * jump
    return field


FIELD_AND_READ = Exercise(
    name="field_and_read",
    lesson=STEM,
    title="What a stack sees and reads",
    points=2,
    minutes=10,
    difficulty=2,
    reference=field_and_read,
    oracle=_field_by_sets,
    cases=_kernel_and_rates,
    examples=(
        {"kernel": 3, "rates": [1, 2, 4]},
        {"kernel": 3, "rates": [2, 2, 2]},
        {"kernel": 3, "rates": [2, 4, 8]},
        {"kernel": 3, "rates": [4, 2, 1]},
        {"kernel": 2, "rates": [3, 1]},
        {"kernel": 5, "rates": [4]},
        {"kernel": 3, "rates": [1, 5, 2]},
        {"kernel": 2, "rates": [2, 2, 3, 5]},
    ),
    misconceptions=(
        Misconception(
            "gridding_unseen",
            _with_read(_extent),
            "You count every position of the field as read. Between the taps there are holes: does a layer above or "
            "below fill them all?",
            "Gridding",
        ),
        Misconception(
            "common_factor_only",
            _with_read(lambda kernel, rates: (_extent(kernel, rates) - 1) // math.gcd(*rates) + 1),
            "You divided by the common factor of the rates. A common factor leaves holes, but there may be holes "
            "without one: look at rates 3 and 5.",
            "Gridding",
        ),
        Misconception(
            "last_layer_alone",
            lambda kernel, rates: (effective_kernel(kernel, rates[-1]), kernel),
            "You looked at the last layer alone. Its inputs are units of the layer below, and each of those sees more "
            "than one position.",
            "Stacked rates",
        ),
        Misconception(
            "largest_field",
            lambda kernel, rates: (effective_kernel(kernel, max(rates)), field_and_read(kernel, rates)[1]),
            "Your field is that of the layer with the largest rate. So it is for layers side by side; these are "
            "stacked.",
            "Stacked rates",
        ),
        Misconception(
            "doubling_assumed",
            _with_field(lambda kernel, rates: 2 ** (len(rates) + 1) - 1),
            "Your field is 2^(layers + 1) - 1. That is 3, 7, 15, ... for 3-tap layers with rates that double, and for "
            "nothing else.",
            "Stacked rates",
        ),
        Misconception(
            "kernels_added",
            _with_field(lambda kernel, rates: sum(effective_kernel(kernel, rate) for rate in rates)),
            "You added up what the kernels span. They overlap: a second layer adds only what its outermost taps reach "
            "beyond the field below.",
            "Stacked rates",
        ),
        Misconception(
            "rates_multiplied",
            _with_field(_rates_multiply),
            "You multiplied the rates up from layer to layer, as strides are. A layer with a rate has stride 1: it "
            "moves nothing apart for those above it.",
            "Stacked rates",
        ),
        Misconception(
            "rates_forgotten",
            lambda kernel, rates: (1 + (kernel - 1) * len(rates),) * 2,
            "You counted plain layers. Neighbouring taps of these lie `rate` positions apart.",
            "Stacked rates",
        ),
        Misconception(
            "steps_not_positions",
            lambda kernel, rates: (_extent(kernel, rates) - 1, field_and_read(kernel, rates)[1]),
            "Your field is one too small: you counted the steps from the first position to the last.",
            "Stacked rates",
        ),
        Misconception(
            "paths_counted",
            _with_read(lambda kernel, rates: kernel ** len(rates)),
            "You counted paths. Several of them may end at the same position, which is read once for all.",
            "Gridding",
        ),
        Misconception(
            "taps_counted",
            _with_read(lambda kernel, rates: kernel * len(rates)),
            "You counted the taps of all layers. A tap of an upper layer reads a unit, and that one has taps of its "
            "own.",
            "Gridding",
        ),
        Misconception(
            "pair_exchanged",
            lambda kernel, rates: field_and_read(kernel, rates)[::-1],
            "Your numbers are right, their order is not: the field comes first, then how many positions are read.",
            "Exercise: what a stack sees and reads (2 points)",
        ),
        Misconception(
            "three_taps_assumed",
            lambda kernel, rates: field_and_read(3, rates),
            "You counted with three taps, whatever `kernel` is.",
            "Stacked rates",
        ),
        Misconception(
            "holes_counted",
            _with_read(lambda kernel, rates: _extent(kernel, rates) - field_and_read(kernel, rates)[1]),
            "You counted the positions that are not read.",
            "Gridding",
        ),
        Misconception(
            "numbers_of_the_square",
            lambda kernel, rates: tuple(number**2 for number in field_and_read(kernel, rates)),
            "These are the numbers of the square, 169 and 49 for rates 2, 2, 2. The exercise asks for those along one "
            "axis.",
            "Exercise: what a stack sees and reads (2 points)",
        ),
    ),
    hints=(
        "Follow the taps down: one unit reads a few positions of the layer below. Which positions does each of those "
        "read, one layer further down?",
        "Keep a set of positions, at first {0}. For each layer, replace it by all sums of a position in the set and "
        "the number of a tap (0, 1, ... up to kernel - 1) times the layer's rate. A set holds each number once.",
        "for rate in rates: seen = {position + tap * rate for ... for tap in range(kernel)}; then largest less "
        "smallest plus 1, and how many",
    ),
    property="the field reaches from the first position that can change the unit to the last; those that can are "
    "counted once each.",
)


# --- set_output_stride ------------------------------------------------------------------------------------


def set_output_stride(model: nn.Sequential, output_stride: int) -> nn.Sequential:
    """Return the network with strides turned into rates, its weights unchanged."""
    dense: Any = copy.deepcopy(model)
    stride, rate = 1, 1  # what the layers so far keep, and what was taken from them
    for layer in dense:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (rate * int(layer.padding[0]), rate * int(layer.padding[1]))
        if hasattr(layer, "dilation"):  # convolutions and poolings have one
            step = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
            layer.dilation = (rate, rate)
            if stride < output_stride:
                stride *= step
            else:
                layer.stride = (1, 1)
                rate *= step
    return dense


_SIDES: tuple[tuple[Any, Any], ...] = ((3, 1), (3, 1), (5, 2), ([3, 5], [1, 2]), (3, 2), (1, 1), (3, [2, 1]), (1, 0))
"""Kernels and paddings of convolutions; a list is a pair, for rows and columns. The first is the simplest."""


def _conv(channels: int, out: int, side: tuple[Any, Any], stride: int = 1) -> str:
    return f"Conv2d({channels}, {out}, {side[0]}, {stride}, {side[1]})"


def _chain_and_image(draw: Draw) -> Case:
    """One chain in eight keeps three strides of four, and one in eight loses three: their product is not their sum."""
    channels = draw.integer(1, 2)
    layers, at, total = [], channels, 1
    kind = draw.integer(0, 7)
    steps = 2 if kind < 4 else 4 if kind == 6 else 3
    for _ in range(steps):
        out = draw.integer(2, 3)
        pooled = draw.choice((False, True))
        layers += [_conv(at, out, draw.choice(_SIDES), 1 if pooled else 2), *["MaxPool2d(2)"] * pooled]
        at, total = out, 2 * total
    out = draw.integer(2, 3)
    layers += ["ReLU()", _conv(at, out, draw.choice((*_SIDES, (3, 0), (3, 0))))]
    output_stride = 8 if kind == 6 else 1 if kind == 7 else draw.choice(tuple(2**n for n in range(steps)))
    height, width = (total * draw.integer(4, 5) + draw.integer(0, total - 1) for _ in range(2))
    width += total if width == height else 0
    return {
        "model": ", ".join(layers),
        "output_stride": output_stride,
        "seed": draw.integer(0, 99),
        "shape": (draw.integer(1, 2), channels, height, width),
    }


@lru_cache(256)
def _weights_of(layers: str, seed: int) -> tuple[Tensor, ...]:
    return tuple(weight.detach() for weight in network_of(layers, seed).parameters())


class _Measured(tuple[Any, list[Any]]):
    """What `_layers_and_weights` made; no answer and no process can send one."""

    __slots__ = ()


def _layers_and_weights(case: Case, value: Any) -> Any:
    """Say which layer of the model made each map, and in words whether the weights are still the model's.

    (scores, [maps, weights]) -> (scores, [[(place, layer, map), ...], what is wrong with the weights]). A kind of layer
    of which there are not as many as in the model is left out; a network that cannot be run may have made fewer maps.
    """
    if not (isinstance(value, tuple) and len(value) == 2 and len(value[1]) == 2):
        return value
    scores, (maps, weights) = value
    layers = re.findall(r"\w+\(.*?\)(?=, [A-Z]|$)", case["model"])
    found = []
    for kind, made in maps.items():
        places = [place for place, layer in enumerate(layers) if layer.startswith(kind)]
        if len(made) == len(places) or (isinstance(scores, str) and len(made) < len(places)):
            found += [(place, layers[place], map_) for place, map_ in zip(places, made)]
    about_weights = _about_weights(_weights_of(case["model"], case["seed"]), weights)
    return _Measured((scores, [sorted(found, key=lambda one: one[0]), about_weights]))


def _about_weights(right: Sequence[Tensor], got: Sequence[Tensor]) -> str:
    if len(got) != len(right):
        return f"it has {len(got)} weights and biases; the network has {len(right)}. All of them stay, as they are."
    if any(a.shape != b.shape for a, b in zip(right, got)):
        return "its weights have other shapes than the network's. Only strides, rates and paddings change."
    if any(not torch.equal(a.double(), b.double()) for a, b in zip(right, got)):
        return "its weights are not those of the network. Only strides, rates and paddings change."
    return ""


def _same_scores_and_maps(expected: Any, got: Any) -> Mismatch | None:
    """Compare what `_layers_and_weights` returned: the weights, the scores, then the sizes of the maps."""
    mismatch = same_scores(expected, got)
    if not isinstance(got, _Measured):
        return mismatch or Mismatch("its maps and weights could not be looked at; is it an ordinary network?")
    right = {place: map_ for place, _layer, map_ in expected[1][0]}
    (maps, about_weights) = got[1]
    if about_weights:
        return Mismatch(about_weights)
    for place, layer, made in maps if right else ():
        same_size = right[place].shape == made.shape
        name = f"model[{place}], {layer},"
        sizes = [f"{t.shape[-2]} x {t.shape[-1]}" for t in (made, right[place])]
        if mismatch and not same_value(right[place], made):
            what = "other numbers" if same_size else f"a map of {sizes[0]} where {sizes[1]} is right"
            first = f"The first layer that goes wrong is {name} which makes {what}."
            return replace(mismatch, says=f"{mismatch.says.rstrip('.')}. {first}")
        if not mismatch and not same_size:
            return Mismatch(
                f"the numbers are right, the price is not: {name} makes a map of {sizes[0]}. With the first strides "
                f"kept, as the docstring says, it makes {sizes[1]}."
            )
    return mismatch


class _ByPhases(nn.Module):
    """The dense map by another way: where a stride goes, each phase of the map goes through the later layers alone."""

    def __init__(self, model: nn.Sequential, output_stride: int) -> None:
        super().__init__()
        self.layers, self.output_stride = [*model], output_stride  # a list: its layers are no modules of this one
        self.weights = nn.ParameterList(model.parameters())

    def forward(self, image: Tensor) -> Tensor:
        return self._from(image, self.layers, 1)

    def _from(self, x: Tensor, layers: list[nn.Module], stride: int) -> Tensor:
        if not layers:
            return x
        layer, *later = layers
        step = _step(layer)
        if step == 1 or stride < self.output_stride:
            return self._from(layer(x), later, stride * step)
        if isinstance(layer, nn.Conv2d):
            y = F.conv2d(x, layer.weight, layer.bias, 1, layer.padding)
        else:
            y = F.max_pool2d(x, 2, 1)
        parts = [[self._from(y[..., a::step, b::step], later, stride) for b in range(step)] for a in range(step)]
        height, width = sum(row[0].shape[2] for row in parts), sum(part.shape[3] for part in parts[0])
        out = y.new_zeros(*parts[0][0].shape[:2], height, width)
        for a, b in itertools.product(range(step), repeat=2):
            out[..., a::step, b::step] = parts[a][b]
        return out


def _dense_with(
    own: Callable[[int, int], int] = lambda rate, step: rate,
    then: Callable[[int, int, nn.Module], int] = lambda rate, step, layer: rate * step,
    padding: Callable[[int, int, int], int] = lambda padding, rate, lost: padding * rate,
    touched: tuple[Any, ...] = (nn.Conv2d, nn.MaxPool2d),
    spread: tuple[Any, ...] = (nn.Conv2d, nn.MaxPool2d),
    step_of: Callable[[nn.Module], int] | None = None,
    loses: Callable[[int, int], bool] = lambda stride, output_stride: stride >= output_stride,
    count: Callable[[int, int], int] = lambda stride, step: stride * step,
    once: bool = False,
    rates: bool = True,
) -> Callable[[nn.Sequential, int], nn.Sequential]:
    """A conversion with a mistake in it.

    Args:
        own: rate so far, a layer's stride -> the rate of a layer that loses this stride.
        then: the same, and the layer -> the rate of the layers after it.
        padding: padding, rate, the stride that the layer loses (1 if none) -> the new padding.
        touched: layers that are looked at.
        spread: layers that get a rate.
        step_of: a layer -> the stride that is seen in it.
        loses: stride so far, output stride -> whether a layer loses its stride.
        count: stride so far, a stride that is kept -> the new stride so far.
        once: only the next layer gets the rate.
        rates: layers get their rates at all.
    """

    def convert(model: nn.Sequential, output_stride: int) -> nn.Sequential:
        dense: Any = copy.deepcopy(model)
        stride, rate = 1, 1
        for layer in dense:
            if not isinstance(layer, touched):
                continue
            step = (step_of or _step)(layer)
            goes = step > 1 and loses(stride, output_stride)
            used = own(rate, step) if goes else rate
            if isinstance(layer, spread):
                layer.dilation = (used, used) if rates else (1, 1)
                if isinstance(layer, nn.Conv2d):
                    down, right = (padding(int(side), used, step if goes else 1) for side in layer.padding)
                    layer.padding = (down, right)
            if goes:
                layer.stride = (1, 1)
                rate = then(rate, step, layer)
            else:
                stride = count(stride, step) if step > 1 else stride
                rate = 1 if once else rate
        return dense

    return convert


def _step(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d):
        return layer.stride[0]
    return int(layer.stride) if isinstance(layer, nn.MaxPool2d) else 1  # type: ignore[arg-type]


def _front_strides_gone(model: nn.Sequential, output_stride: int) -> nn.Sequential:
    """The same numbers on larger maps: which strides go does not matter for what units see."""
    lost = math.prod(map(_step, model)) // output_stride
    gone = 1

    def loses(_stride: int, _output_stride: int) -> bool:
        nonlocal gone
        goes = gone < lost
        gone *= 2 if goes else 1
        return goes

    return _dense_with(loses=loses)(model, output_stride)


def _thinned_out(model: nn.Sequential, output_stride: int) -> nn.Sequential:
    every = _dense_with(loses=lambda stride, output_stride: True)(model, output_stride)
    return nn.Sequential(*every, nn.MaxPool2d(1, stride=output_stride))


def _padded_to_keep(model: nn.Sequential, output_stride: int) -> nn.Sequential:
    dense: Any = set_output_stride(model, output_stride)
    for layer in dense:
        if isinstance(layer, nn.Conv2d):
            down, right = (rate * (kernel // 2) for rate, kernel in zip(layer.dilation, layer.kernel_size))
            layer.padding = (down, right)
    return dense


def _padded_alike(axis: int) -> Callable[[nn.Sequential, int], nn.Sequential]:
    def convert(model: nn.Sequential, output_stride: int) -> nn.Sequential:
        dense: Any = set_output_stride(model, output_stride)
        for layer in dense:
            if isinstance(layer, nn.Conv2d):
                layer.padding = (int(layer.padding[axis]),) * 2
        return dense

    return convert


def _without_biases(model: nn.Sequential, output_stride: int) -> nn.Sequential:
    dense: Any = set_output_stride(model, output_stride)
    for layer in dense:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
    return dense


def _enlarged_map(model: nn.Sequential, output_stride: int) -> nn.Sequential:
    factor = math.prod(map(_step, model)) // output_stride
    return nn.Sequential(model, nn.Upsample(scale_factor=factor, mode="bilinear"))


SET_OUTPUT_STRIDE = Exercise(
    name="set_output_stride",
    lesson=STEM,
    title="Strides into rates",
    points=3,
    minutes=15,
    difficulty=3,
    reference=set_output_stride,
    oracle=_ByPhases,
    cases=_chain_and_image,
    examples=(
        *(
            {"model": model, "output_stride": output_stride, "seed": seed, "shape": shape}
            for seed, (output_stride, shape, model) in enumerate(
                (
                    (
                        1,
                        (1, 1, 35, 26),
                        "Conv2d(1, 2, 3, 2, 1), ReLU(), Conv2d(2, 3, [5, 3], 2, [2, 1]), MaxPool2d(2), "
                        "Conv2d(3, 2, 3, 1, [0, 1])",
                    ),
                    (
                        4,
                        (1, 1, 21, 30),
                        "MaxPool2d(2), Conv2d(1, 2, 5, 2, 2), MaxPool2d(2), Conv2d(2, 1, 3, 1, 2), "
                        "Conv2d(1, 2, 1, 1, 1)",
                    ),
                    (
                        8,
                        (1, 1, 35, 50),
                        "MaxPool2d(2), MaxPool2d(2), MaxPool2d(2), ReLU(), Conv2d(1, 2, 3, 2, 1), "
                        "Conv2d(2, 1, [1, 3], 1, [1, 0])",
                    ),
                    (
                        4,
                        (2, 1, 34, 49),
                        "MaxPool2d(2), Conv2d(1, 2, 1, 2), Conv2d(2, 1, 3, 2, 1), MaxPool2d(2), ReLU(), "
                        "Conv2d(1, 2, 3, 1, 1)",
                    ),
                    (
                        8,
                        (1, 2, 25, 17),
                        "Conv2d(2, 2, 3, 2, 1), ReLU(), MaxPool2d(2), MaxPool2d(2), Conv2d(2, 1, 3, 1, 1)",
                    ),
                ),
                start=1,
            )
        ),
    ),
    drive=drivers.convert_network,
    measure=_layers_and_weights,
    compare=_same_scores_and_maps,
    runs=12,
    misconceptions=(
        Misconception(
            "strides_only",
            _dense_with(then=lambda rate, step, layer: rate),
            "You took strides away and left the later layers as they were. Their taps now read neighbours that used "
            "to be further apart.",
            "Strides into rates",
        ),
        Misconception(
            "padding_not_scaled",
            _dense_with(padding=lambda padding, rate, lost: padding),
            "The rates are right, the padding is not: a kernel that reaches further needs more zeros, or the map "
            "shrinks and every unit moves.",
            "Strides into rates",
        ),
        Misconception(
            "rate_too_early",
            _dense_with(own=lambda rate, step: rate * step),
            "The layer that lost its stride got the larger rate already. Its own input is as it was; what changed is "
            "its output, and who reads that?",
            "Strides into rates",
        ),
        Misconception(
            "next_layer_only",
            _dense_with(once=True),
            "The layer after the lost stride has a rate, those after that one have none. Is the map any coarser where "
            "they read it?",
            "Strides into rates",
        ),
        Misconception(
            "rates_added",
            _dense_with(then=lambda rate, step, layer: rate + step if rate > 1 else step),
            "You added up the strides that were lost. Two of them, one after the other, had moved units apart by their "
            "product.",
            "Strides into rates",
        ),
        Misconception(
            "rate_of_the_last",
            _dense_with(then=lambda rate, step, layer: step),
            "Your rate counts the last stride that was lost and forgets those before it.",
            "Strides into rates",
        ),
        Misconception(
            "padding_of_the_loser_kept",
            _dense_with(padding=lambda padding, rate, lost: padding if lost > 1 else padding * rate),
            "A layer that loses its stride kept its padding as well. If a stride was lost before it already, it has a "
            "rate, and its padding goes with that rate.",
            "Strides into rates",
        ),
        Misconception(
            "padding_by_the_next_rate",
            _dense_with(padding=lambda padding, rate, lost: padding * rate * lost),
            "A layer that loses its stride got the padding of those after it. Its own taps lie no further apart for "
            "that loss.",
            "Strides into rates",
        ),
        Misconception(
            "padding_of_rows",
            _padded_alike(0),
            "You padded columns like rows. A padding is a pair, and its two numbers may differ.",
            "Exercise: strides into rates (3 points)",
        ),
        Misconception(
            "padding_of_columns",
            _padded_alike(1),
            "You padded rows like columns. A padding is a pair, and its two numbers may differ.",
            "Exercise: strides into rates (3 points)",
        ),
        Misconception(
            "poolings_left_alone",
            _dense_with(touched=(nn.Conv2d,)),
            "You looked at convolutions alone. Poolings have a stride too: it counts for the output stride and may go, "
            "and a pooling gets a rate like a convolution.",
            "Strides into rates",
        ),
        Misconception(
            "poolings_raise_no_rate",
            _dense_with(then=lambda rate, step, layer: rate if isinstance(layer, nn.MaxPool2d) else rate * step),
            "Where a pooling lost its stride, the layers after it have the old rate. Their map is finer all the same.",
            "Strides into rates",
        ),
        Misconception(
            "convolutions_raise_no_rate",
            _dense_with(then=lambda rate, step, layer: rate if isinstance(layer, nn.Conv2d) else rate * step),
            "Where a convolution lost its stride, the layers after it have the old rate. Their map is finer all the "
            "same.",
            "Strides into rates",
        ),
        Misconception(
            "strides_of_convolutions_unseen",
            _dense_with(step_of=lambda layer: _step(layer) if isinstance(layer, nn.MaxPool2d) else 1),
            "Your convolutions keep their strides, and these do not count. A convolution's stride is the pair (2, 2): "
            "is it equal to 2?",
            "Exercise: strides into rates (3 points)",
        ),
        Misconception(
            "returned_unchanged",
            lambda model, output_stride: copy.deepcopy(model),
            "Your network is the one that was given: no stride has gone.",
            "Strides into rates",
        ),
        Misconception(
            "biases_lost",
            _without_biases,
            "Your convolutions have lost their biases.",
            "Exercise: strides into rates (3 points)",
        ),
        Misconception(
            "strides_added",
            _dense_with(count=lambda stride, step: stride + step),
            "You added up the strides that are kept. Three strides of 2 make units that lie 2 · 2 · 2 pixels apart.",
            "Strides into rates",
        ),
        Misconception(
            "stride_of_the_last",
            _dense_with(count=lambda stride, step: step),
            "Your stride so far is that of the last layer. The strides before it count as well.",
            "Strides into rates",
        ),
        Misconception(
            "strides_counted",
            _dense_with(count=lambda stride, step: stride + 1),
            "You counted how many strides are kept. How far do they move the units apart?",
            "Strides into rates",
        ),
        Misconception(
            "one_stride_kept",
            _dense_with(loses=lambda stride, output_stride: stride > 1 or output_stride == 1),
            "You keep one stride, whatever the output stride is. An output stride of 4 takes two of them.",
            "Strides into rates",
        ),
        Misconception(
            "every_stride_goes",
            _dense_with(loses=lambda stride, output_stride: True),
            "You took every stride away. The network is to keep strides until its units lie `output_stride` pixels "
            "apart.",
            "Strides into rates",
        ),
        Misconception(
            "one_stride_too_many",
            _dense_with(loses=lambda stride, output_stride: stride > output_stride),
            "One stride too many is left. Before a layer, look at the stride so far: is it what was asked for already?",
            "Strides into rates",
        ),
        Misconception(
            "poolings_not_spread",
            _dense_with(spread=(nn.Conv2d,)),
            "The convolutions have their rates, the poolings have none. A pooling that comes after a lost stride reads "
            "units as far apart as before only with a rate.",
            "Strides into rates",
        ),
        Misconception(
            "rate_forgotten",
            _dense_with(rates=False),
            "The paddings have grown, the rates have not. Which of the two puts the taps as far apart as they were?",
            "Strides into rates",
        ),
        Misconception(
            "padding_is_rate",
            _dense_with(padding=lambda padding, rate, lost: rate),
            "You padded each convolution by its rate. Look at one that had another padding than 1, say a 1x1 "
            "convolution: what becomes of its map?",
            "Strides into rates",
        ),
        Misconception(
            "padding_keeps_size",
            _padded_to_keep,
            "You padded each convolution so that its map keeps its size. One that had no padding made its map smaller, "
            "and is to see no zeros now either.",
            "Strides into rates",
        ),
        Misconception(
            "first_strides",
            _front_strides_gone,
            "You took the first strides; the numbers are the same, the price is not. Which layers have to compute the "
            "finer maps now?",
            "Strides into rates",
        ),
        Misconception(
            "thinned_out",
            _thinned_out,
            "You took every stride and thinned out the last map. The numbers are the same, the price is not: every "
            "layer computes units that are thrown away.",
            "Strides into rates",
        ),
        Misconception(
            "map_enlarged",
            _enlarged_map,
            "You enlarged the coarse map. The units between are then means of their neighbours; the network itself has "
            "numbers for them.",
            "Strides into rates",
        ),
    ),
    hints=(
        "Walk through the layers with two numbers: the stride that the network has so far, and the stride that you "
        "have taken out so far. Which of them decides what becomes of a layer?",
        "Every layer gets the rate that was taken out *before* it, and a convolution its padding times that rate. "
        "Then decide: if the wanted stride is not reached, the layer keeps its own, otherwise it loses it and the "
        "rate grows.",
        "if stride < output_stride: stride *= step; otherwise the layer's stride becomes 1 and rate *= step; before "
        "that, dilation = rate and padding * rate",
    ),
    property="the strides that are left are the first ones, and their product is `output_stride`. Let the model's own "
    "stride be f times as large: then every f-th unit of the result, down and across, is a number of the model's map. "
    "The units between are what the model would say if its units lay there.",
)


# --- valid_fraction ---------------------------------------------------------------------------------------


def valid_fraction(height: int, width: int, rate: int) -> float:
    """Return the share of a 3x3 atrous layer's products that read the map, not the padding."""
    rows = height + 2 * max(0, height - rate)
    columns = width + 2 * max(0, width - rate)
    return rows * columns / (9 * height * width)


def _map_and_rate(draw: Draw) -> Case:
    """One map in two is a large one: too many to be listed."""
    wide = draw.choice((1, 3))
    height, width = draw.integer(1, 24 * wide), draw.integer(1, 30 * wide)
    width += width == height
    return {"height": height, "width": width, "rate": draw.integer(1, 36 * wide)}


def _fraction_with(
    along: Callable[[int, int], float],
    of: Callable[[float, float, int, int], float] = lambda rows, columns, height, width: (
        rows * columns / (9 * height * width)
    ),
) -> Callable[[int, int, int], float]:
    """A count with a mistake in it: valid taps along an axis, and what is made of the two."""
    return lambda height, width, rate: of(along(height, rate), along(width, rate), height, width)


def _along(size: int, rate: int) -> int:
    return size + 2 * max(0, size - rate)


def _by_torch(height: int, width: int, rate: int) -> Tensor:
    """Taps on the map at each unit that a layer has if it is padded by 1."""
    return F.conv2d(torch.ones(1, 1, height, width), torch.ones(1, 1, 3, 3), padding=1, dilation=rate)


def _rounded(digits: int) -> Misconception:
    return Misconception(
        f"rounded_to_{digits}",
        lambda height, width, rate: round(valid_fraction(height, width, rate), digits),
        "Your number is rounded. Return it as it comes out.",
        "Exercise: how many taps read the map (2 points)",
    )


def _all_inside(height: int, width: int, rate: int) -> float:
    return max(0, height - 2 * rate) * max(0, width - 2 * rate) / (height * width)


def _in_the_middle(height: int, width: int, rate: int) -> float:
    rows, columns = (1 + (n // 2 >= rate) + (n - 1 - n // 2 >= rate) for n in (height, width))
    return rows * columns / 9


def _in_a_true_middle(height: int, width: int, rate: int) -> float:
    rows, columns = (1 + 2 * (n // 2 >= rate) for n in (height, width))
    return rows * columns / 9


VALID_FRACTION = Exercise(
    name="valid_fraction",
    lesson=STEM,
    title="How many taps read the map",
    points=2,
    minutes=9,
    difficulty=2,
    reference=valid_fraction,
    oracle=lambda height, width, rate: float(valid_taps((height, width), rate).sum()) / (9 * height * width),
    cases=_map_and_rate,
    examples=(
        {"height": 2, "width": 3, "rate": 1},
        {"height": 13, "width": 17, "rate": 6},
        {"height": 13, "width": 17, "rate": 24},
        {"height": 13, "width": 17, "rate": 15},
        {"height": 1, "width": 5, "rate": 2},
        {"height": 8, "width": 4, "rate": 4},
        {"height": 30, "width": 8, "rate": 9},
    ),
    misconceptions=(
        Misconception(
            "below_zero",
            _fraction_with(lambda size, rate: size + 2 * (size - rate)),
            "Where the rate passes the map's length your count of an outer tap falls below zero. It reads no position "
            "then, and that is 0.",
            "Rates beyond the map",
        ),
        Misconception(
            "nothing_left",
            lambda height, width, rate: 0.0 if rate >= max(height, width) else valid_fraction(height, width, rate),
            "For large rates you return 0. One tap never leaves the map: which one?",
            "Rates beyond the map",
        ),
        Misconception(
            "no_middle_tap_beyond",
            _fraction_with(lambda size, rate: max(3 * size - 2 * rate, 0)),
            "Your count along an axis falls to 0 where the rate is large. One tap never leaves the map: which one?",
            "Rates beyond the map",
        ),
        Misconception(
            "one_read_too_many",
            _fraction_with(lambda size, rate: size + 2 * max(0, size - rate + 1)),
            "Your outer taps read one unit too many. With N units in a row and rate r: at which units does the tap to "
            "the right read the map?",
            "Rates beyond the map",
        ),
        Misconception(
            "square_of_the_width",
            lambda height, width, rate: valid_fraction(width, width, rate),
            "You counted columns for both axes. Rows and columns leave the map at different rates.",
            "Rates beyond the map",
        ),
        Misconception(
            "padding_of_one",
            lambda height, width, rate: _by_torch(height, width, rate).sum().item() / (9 * height * width),
            "You let PyTorch count, with a padding of 1. The layer that is meant is padded by its rate and keeps the "
            "map's size.",
            "Exercise: how many taps read the map (2 points)",
        ),
        Misconception(
            "mean_with_padding_of_one",
            lambda height, width, rate: _by_torch(height, width, rate).mean().item() / 9,
            "You let PyTorch count, with a padding of 1, on a map that shrinks. The layer that is meant is padded by "
            "its rate and keeps the map's size.",
            "Exercise: how many taps read the map (2 points)",
        ),
        *map(_rounded, (2, 3, 4)),
        Misconception(
            "square_assumed",
            lambda height, width, rate: valid_fraction(height, height, rate),
            "You counted as if the map were square. Rows and columns leave it at different rates.",
            "Rates beyond the map",
        ),
        Misconception(
            "middle_unit_only",
            _in_the_middle,
            "You looked at the unit in the middle. Those near a border lose taps earlier; the share is over all units.",
            "Rates beyond the map",
        ),
        Misconception(
            "middle_unit_with_both_sides_alike",
            _in_a_true_middle,
            "You looked at the middle of the map alone, with as many units on both sides. Units near a border lose "
            "taps earlier; the share is over all units.",
            "Rates beyond the map",
        ),
        Misconception(
            "percent",
            lambda height, width, rate: 100 * valid_fraction(height, width, rate),
            "You returned per cent. The share lies between 1/9 and 1.",
            "Exercise: how many taps read the map (2 points)",
        ),
        Misconception(
            "units_with_all_taps",
            _all_inside,
            "You counted the units of which all taps are inside. The others have some left, and those count as well.",
            "Rates beyond the map",
        ),
        Misconception(
            "one_axis",
            lambda height, width, rate: _along(height, rate) / (3 * height),
            "You counted along the rows alone. A tap has to be inside in both directions.",
            "Rates beyond the map",
        ),
        Misconception(
            "axes_added",
            _fraction_with(
                _along, lambda rows, columns, height, width: (rows / (3 * height) + columns / (3 * width)) / 2
            ),
            "You took the mean of rows and columns. A tap is inside if its row *and* its column are.",
            "Rates beyond the map",
        ),
        Misconception(
            "one_side",
            _fraction_with(lambda size, rate: size + max(0, size - rate) + size),
            "Along an axis you let one outer tap leave the map and the other stay. Both leave it, at opposite ends.",
            "Rates beyond the map",
        ),
        Misconception(
            "padding_share",
            lambda height, width, rate: 1 - valid_fraction(height, width, rate),
            "You returned the share that falls on padding.",
            "Rates beyond the map",
        ),
        Misconception(
            "taps_not_share",
            lambda height, width, rate: 9 * valid_fraction(height, width, rate),
            "You returned how many taps a unit has inside, on average. The share is of all nine.",
            "Rates beyond the map",
        ),
        Misconception(
            "strict_border",
            _fraction_with(lambda size, rate: size + 2 * max(0, size - rate - 1)),
            "Your outer taps leave one unit too early. With N units in a row and rate r: at which units does the tap "
            "to the right still read the map?",
            "Rates beyond the map",
        ),
    ),
    hints=(
        "Think of one axis, and of one tap at a time: left, middle, right. At how many of the N units does the right "
        "one still read the map?",
        "Along an axis there are 3N reads. The middle tap always hits; each outer one hits N less the rate times, but "
        "never fewer than none. In two dimensions a tap must hit in both.",
        "rows = height + 2 * max(0, height - ...), columns alike; their product over all 9 * height * width",
    ),
    property="the share counts each of the nine taps at each unit of the map, and lies between 1/9 and 1.",
)


# --- aspp -------------------------------------------------------------------------------------------------


def aspp(x: Tensor, point: Tensor, atrous: Sequence[Tensor], rates: Sequence[int], image: Tensor) -> Tensor:
    """Return the branches of an atrous spatial pyramid pooling, concatenated."""
    branches = [F.conv2d(x, point)]
    for weight, rate in zip(atrous, rates):
        branches.append(F.conv2d(x, weight, padding=rate, dilation=rate))
    mean = x.mean(dim=(2, 3), keepdim=True)
    branches.append(F.conv2d(mean, image).expand(-1, -1, *x.shape[2:]))
    return torch.cat([branch.relu() for branch in branches], dim=1)


def _map_and_branches(draw: Draw) -> Case:
    channels, width = draw.integer(2, 3), draw.integer(1, 2)
    height, columns = draw.integer(3, 6), draw.integer(4, 8)
    columns += columns == height
    rates = [draw.choice((1, 2, 3, 5)) for _ in range(draw.integer(1, 4))]
    return {
        "x": draw_whole_numbers(draw, (draw.integer(1, 3), channels, height, columns), -6, 6),
        "point": draw_tensor(draw, (width, channels, 1, 1), -3, 3),
        "atrous": [draw_whole_numbers(draw, (width, channels, 3, 3), -3, 3) for _ in rates],
        "rates": rates,
        "image": draw_tensor(draw, (width, channels, 1, 1), -3, 3),
    }


def _aspp_by_hand(x: Tensor, point: Tensor, atrous: Sequence[Tensor], rates: Sequence[int], image: Tensor) -> Tensor:
    parts = [atrous_conv(x, point), *(atrous_conv(x, w, r, padding=r) for w, r in zip(atrous, rates))]
    means = torch.stack([torch.stack([plane.sum() / plane.numel() for plane in one]) for one in x])
    pooled = torch.einsum("nc,oc->no", means, image[:, :, 0, 0])
    parts.append(pooled[:, :, None, None].repeat(1, 1, *x.shape[2:]))
    return torch.cat(parts, 1).clamp(min=0)


def _aspp_with(
    pool: Callable[[Tensor], Tensor] = lambda x: x.mean((2, 3), keepdim=True),
    rate: Callable[[int, int], int] = lambda rate, number: rate,
    join: Callable[[list[Tensor]], Tensor] = lambda parts: torch.cat(parts, 1),
    relu: str = "point rates image",
    order: Callable[[list[Tensor]], list[Tensor]] = lambda parts: parts,
) -> Callable[..., Tensor]:
    """A pyramid with a mistake in it: pooling, rates, how the branches are joined, which have a ReLU, their order."""

    def wrong(x: Tensor, point: Tensor, atrous: Sequence[Tensor], rates: Sequence[int], image: Tensor) -> Tensor:
        parts = [F.conv2d(x, point)]
        for number, (weight, given) in enumerate(zip(atrous, rates)):
            used = rate(given, number)
            parts.append(F.conv2d(x, weight, padding=used, dilation=used))
        parts.append(F.conv2d(pool(x), image).expand(-1, -1, *x.shape[2:]))
        kinds = ["point", *["rates"] * len(rates), "image"]
        return join(order([part.relu() if kind in relu else part for kind, part in zip(kinds, parts)]))

    return wrong


def _without_relu(name: str, left: str, says: str) -> Misconception:
    return Misconception(name, _aspp_with(relu=left), says, "Exercise: a pyramid of rates (3 points)")


def _in_order(name: str, order: Callable[[list[Tensor]], list[Tensor]], says: str) -> Misconception:
    return Misconception(name, _aspp_with(order=order), says, "Exercise: a pyramid of rates (3 points)")


def _pooled_by(name: str, pool: Callable[[Tensor], Tensor], says: str) -> Misconception:
    return Misconception(name, _aspp_with(pool=pool), says, "ASPP: several rates side by side")


def _relu_then_mean(x: Tensor, point: Tensor, atrous: Sequence[Tensor], rates: Sequence[int], image: Tensor) -> Tensor:
    whole = aspp(x, point, atrous, rates, image)
    whole[:, -len(image) :] = F.conv2d(x, image).relu().mean((2, 3), keepdim=True)
    return whole


def _padded_by_one(x: Tensor, point: Tensor, atrous: Sequence[Tensor], rates: Sequence[int], image: Tensor) -> Tensor:
    parts = [F.conv2d(x, point), *(F.conv2d(x, w, padding=1, dilation=r) for w, r in zip(atrous, rates))]
    parts.append(F.conv2d(x.mean((2, 3), keepdim=True), image).expand(-1, -1, *x.shape[2:]))
    return torch.cat([part.relu() for part in parts], 1)


def _same_branches(expected: Any, got: Any) -> Mismatch | None:
    """Compare as `agree` does, and tell a bias: each channel is off by a number of its own, the same everywhere."""
    mismatch = agree(expected, got)
    if mismatch is None or mismatch.where is None:
        return mismatch
    off = (got - expected).movedim(1, 0).flatten(1)
    kept = ((got > 0) & (expected > 0)).movedim(1, 0).flatten(1)  # elsewhere the ReLU hides it
    parts = [row[here] for row, here in zip(off, kept) if int(here.sum()) > 1]
    if len(parts) > 1 and all(torch.allclose(part, part[:1], atol=1e-3) and abs(part[0]) > 1e-4 for part in parts):
        return replace(mismatch, says=f"{mismatch.says} Each channel is off by one number: is there a bias?")
    return mismatch


ASPP = Exercise(
    name="aspp",
    lesson=STEM,
    title="A pyramid of rates",
    points=3,
    minutes=12,
    difficulty=2,
    reference=aspp,
    oracle=_aspp_by_hand,
    cases=_map_and_branches,
    examples=tuple(
        {
            "x": torch.arange(1.0, n * channels * 20 + 1).reshape(n, channels, 4, 5) ** 2 % 17 - 10,
            "point": torch.arange(1.0, channels + 1).reshape(1, channels, 1, 1) - 3,
            "atrous": [(torch.arange(1.0, 9 * channels + 1) * r).reshape(1, channels, 3, 3) % 5 - 2 for r in rates],
            "rates": rates,
            "image": torch.tensor([1.0, -2.0, -3.0])[:channels].reshape(1, channels, 1, 1),
        }
        for n, channels, rates in ((1, 2, [1, 2, 3, 2]), (2, 3, [3, 1]))
    ),
    compare=_same_branches,
    runs=14,
    misconceptions=(
        Misconception(
            "branches_added",
            _aspp_with(join=lambda parts: torch.stack(parts).sum(0)),
            "You added the branches up. DeepLab v2 does so with scores; here each branch keeps its channels, and a "
            "later layer mixes them.",
            "ASPP: several rates side by side",
        ),
        Misconception(
            "rates_ignored",
            _aspp_with(rate=lambda rate, number: 1),
            "Your 3x3 branches all have rate 1. The taps of each lie as far apart as its rate says.",
            "ASPP: several rates side by side",
        ),
        Misconception(
            "no_image_branch",
            _aspp_with(order=lambda parts: parts[:-1]),
            "The image branch is missing: the mean of the map, through its 1x1 convolution, at every unit.",
            "ASPP: several rates side by side",
        ),
        Misconception(
            "no_point_branch",
            _aspp_with(order=lambda parts: parts[1:]),
            "The 1x1 branch is missing.",
            "ASPP: several rates side by side",
        ),
        Misconception(
            "mean_of_the_batch",
            _aspp_with(pool=lambda x: x.mean((0, 2, 3), keepdim=True).expand(len(x), -1, -1, -1)),
            "You took the mean over the batch as well. Each image has a mean of its own.",
            "ASPP: several rates side by side",
        ),
        Misconception(
            "mean_over_channels",
            _aspp_with(pool=lambda x: x.mean((1, 2, 3), keepdim=True).expand(-1, x.shape[1], -1, -1)),
            "You took the mean over the channels as well. Each channel has a mean of its own.",
            "ASPP: several rates side by side",
        ),
        Misconception(
            "largest_for_mean",
            _aspp_with(pool=lambda x: x.amax((2, 3), keepdim=True)),
            "You took the largest value of each channel. Image pooling takes the mean.",
            "ASPP: several rates side by side",
        ),
        _pooled_by(
            "no_mean",
            lambda x: x,
            "Your image branch is a second 1x1 branch: the mean over rows and columns is missing.",
        ),
        _pooled_by(
            "mean_over_rows",
            lambda x: x.mean(2, keepdim=True),
            "You took the mean over the rows alone; each column has its own. It goes over rows and columns.",
        ),
        _pooled_by(
            "mean_over_columns",
            lambda x: x.mean(3, keepdim=True),
            "You took the mean over the columns alone; each row has its own. It goes over rows and columns.",
        ),
        _pooled_by(
            "sum_for_mean",
            lambda x: x.sum((2, 3), keepdim=True),
            "You took the sum of each channel. Image pooling takes the mean.",
        ),
        _pooled_by(
            "relu_on_the_mean",
            lambda x: x.mean((2, 3), keepdim=True).relu(),
            "You cut the mean off below zero before its 1x1 convolution. A mean may be negative; the ReLU ends the "
            "branch.",
        ),
        _pooled_by(
            "size_of_the_mean",
            lambda x: x.mean((2, 3), keepdim=True).abs(),
            "You dropped the sign of the mean. A mean may be negative; the ReLU ends the branch.",
        ),
        _without_relu("no_relu", "", "The ReLU is missing: there are negative numbers in your answer."),
        _without_relu(
            "no_relu_on_the_image", "point rates", "The image branch has no ReLU. Each branch ends with one."
        ),
        _without_relu("no_relu_on_the_point", "rates image", "The 1x1 branch has no ReLU. Each branch ends with one."),
        _without_relu(
            "no_relu_on_the_rates", "point image", "The 3x3 branches have no ReLU. Each branch ends with one."
        ),
        _without_relu(
            "relu_on_the_rates_only", "rates", "Only the 3x3 branches have a ReLU. Each branch ends with one."
        ),
        _without_relu("relu_on_the_point_only", "point", "Only the 1x1 branch has a ReLU. Each branch ends with one."),
        _without_relu(
            "relu_on_the_image_only", "image", "Only the image branch has a ReLU. Each branch ends with one."
        ),
        Misconception(
            "relu_before_the_mean",
            _aspp_with(pool=lambda x: x.relu().mean((2, 3), keepdim=True)),
            "You cut the map off below zero before you took its mean. The mean is of the map as it is; the ReLU ends "
            "the branch.",
            "Exercise: a pyramid of rates (3 points)",
        ),
        Misconception(
            "relu_before_the_spread_mean",
            _relu_then_mean,
            "In the image branch you convolved, cut off below zero and then took the mean. The mean comes first, the "
            "ReLU last.",
            "Exercise: a pyramid of rates (3 points)",
        ),
        Misconception(
            "padding_of_one",
            _padded_by_one,
            "You padded each 3x3 branch by 1. One with a larger rate then makes a smaller map, which cannot be "
            "concatenated. What padding keeps the size?",
            "What it spans",
        ),
        _in_order(
            "image_first",
            lambda parts: [parts[-1], *parts[:-1]],
            "The branches are right, their order is not: the image comes last.",
        ),
        _in_order(
            "image_second",
            lambda parts: [parts[0], parts[-1], *parts[1:-1]],
            "The branches are right, their order is not: the image comes last, after the 3x3 ones.",
        ),
        _in_order(
            "point_after_the_rates",
            lambda parts: [*parts[1:-1], parts[0], parts[-1]],
            "The branches are right, their order is not: the 1x1 one comes first.",
        ),
        _in_order(
            "point_last",
            lambda parts: [*parts[1:], parts[0]],
            "The branches are right, their order is not: the 1x1 one comes first, the image last.",
        ),
        _in_order(
            "branches_reversed",
            lambda parts: parts[::-1],
            "The branches are right, their order is reversed: the 1x1 one comes first, the image last.",
        ),
        _in_order(
            "rates_backwards",
            lambda parts: [parts[0], *parts[-2:0:-1], parts[-1]],
            "The branches are right, but the 3x3 ones stand in reverse. Keep the order in which they are given.",
        ),
        Misconception(
            "rates_reversed",
            lambda x, point, atrous, rates, image: aspp(x, point, atrous, rates[::-1], image),
            "Your rates are assigned in reverse: the first weight has the last rate. Which rate belongs to which "
            "weight?",
            "Exercise: a pyramid of rates (3 points)",
        ),
        Misconception(
            "three_rates_assumed",
            lambda x, point, atrous, rates, image: aspp(x, point, atrous[:3], rates[:3], image),
            "You stop after three 3x3 branches. There may be more: as many as there are rates.",
            "Exercise: a pyramid of rates (3 points)",
        ),
        Misconception(
            "joined_along_the_batch",
            _aspp_with(join=lambda parts: torch.cat(parts, 0)),
            "You concatenated along the batch. Which axis holds the channels?",
            "ASPP: several rates side by side",
        ),
        Misconception(
            "first_rate_for_all",
            lambda x, point, atrous, rates, image: aspp(x, point, atrous, [rates[0]] * len(rates), image),
            "All your 3x3 branches have the first rate. Each has its own.",
            "ASPP: several rates side by side",
        ),
    ),
    hints=(
        "Make a list of maps, one a branch, all of the same height and width. What has to be done so that a 3x3 "
        "layer of rate r keeps the size?",
        "The 1x1 branch is a plain convolution. A 3x3 one takes its rate as dilation and as padding. The image branch "
        "averages over rows and columns, convolves what is left, and is spread over the map with expand.",
        "parts = [conv of point], then F.conv2d(x, weight, padding=rate, dilation=rate) for each, then the image; "
        "torch.cat([part.relu() ...], dim=1)",
    ),
    property="the channels come branch by branch: the 1x1 one, a 3x3 one for each rate, the image; none is below zero.",
)


# --- the quiz ---------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "what_a_rate_costs",
        STEM,
        "A 3x3 layer gets rate 4 in place of 1, padded so that its map keeps its size. What changes?",
        (
            Option("It has more weights: a 9x9 kernel.", "The holes hold no weights; there are nine a channel still."),
            Option("It costs more multiply-adds.", "Nine products a channel and unit, as before; holes are skipped."),
            Option(
                "Only which units its taps read, and how much padding.",
                "Weights, products and the map's size stay; the taps lie 4 apart and the padding is 4.",
                right=True,
            ),
            Option("The map becomes coarser.", "Its stride is 1 as before: a unit for each unit."),
        ),
    ),
    Question(
        "three_seven_fifteen",
        STEM,
        "When do 3x3 layers with rates 1, 2 and 4 see 3, 7 and 15?",
        (
            Option("Each by itself.", "By themselves they span 3, 5 and 9."),
            Option(
                "One on top of the other.",
                "Each adds twice its rate to the field below: 3, 3 + 4, 7 + 8.",
                right=True,
            ),
            Option("Side by side, as in ASPP.", "Side by side they see what the largest of them sees: 9."),
        ),
    ),
    Question(
        "gridding",
        STEM,
        "Four 3x3 layers with rate 2 are stacked. What does a unit read of its 17x17 field?",
        (
            Option("All of it.", "Every tap of every layer moves by an even number; odd positions are never reached."),
            Option(
                "9 x 9 positions, every second one.", "Sums of four taps of -2, 0, 2 are the even numbers.", right=True
            ),
            Option(
                "81 positions at its border.", "The paths end at every second position, from the middle to the border."
            ),
        ),
    ),
    Question(
        "dense_by_rates",
        STEM,
        "VGG-16's features go from output stride 32 to 8 by rates. What is true? (More than one is.)",
        (
            Option(
                "Every number of the coarse map is found again in the fine one.",
                "At each fourth place, borders included.",
                right=True,
            ),
            Option("The weights must be trained anew.", "They are the same; the numbers between are what they give."),
            Option(
                "Between them stands what the network says of the image with its first rows cut off, where no field "
                "reaches that border.",
                "Cut off by 8, 16 or 24 rows: three units lie between two of the coarse map. Where a field reaches the "
                "cut there are other zeros around. It is 212 pixels long, so these are the first three rows of units.",
                right=True,
            ),
            Option(
                "It costs the same.",
                "A quarter more here, and up to 16 times as much in a head on top of the finer map.",
            ),
        ),
        several=True,
    ),
    Question(
        "beyond_the_map",
        STEM,
        "On a map of 13x17 a 3x3 layer has rate 24. What does it compute?",
        (
            Option("The context of the whole image.", "Its outer taps lie outside of the map, at every unit."),
            Option(
                "What a 1x1 layer does.",
                "Only the middle tap reads the map; the other eight multiply zeros.",
                right=True,
            ),
            Option("Nothing: all taps are outside.", "The middle tap is always inside."),
        ),
    ),
    Question(
        "image_pooling",
        STEM,
        "Why has ASPP in DeepLab v3 a branch with the mean of the map?",
        (
            Option("To save multiply-adds.", "It is one more branch, if a cheap one."),
            Option(
                "To see the whole image, which larger rates do not achieve.",
                "Rates near the map's size become 1x1 layers; the mean reaches everything.",
                right=True,
            ),
            Option("To remove gridding.", "It says the same at every unit; which positions the others read stays."),
            Option("Because batch norm needs it.", "It is the branch for which batch norm needs two images."),
        ),
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="Atrous convolution and ASPP",
    promise="Let a kernel reach far without more weights, keep maps fine without losing what the network sees, and "
    "find out where that ends.",
    reading_minutes=30,
    before=("01_receptive_field", "03_convolutionalize"),
    exercises=(EFFECTIVE_KERNEL, BY_HOLES, FIELD_AND_READ, SET_OUTPUT_STRIDE, VALID_FRACTION, ASPP),
    quiz=QUIZ,
)
