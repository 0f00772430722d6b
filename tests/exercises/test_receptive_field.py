"""Right answers to lesson 01's exercises, written as different students would."""

import math

import torch
from contract import Contract, judged

from segcourse import exercises
from segcourse.exercises.judge import Outcome

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("01_receptive_field").exercises}


def compound_by_walking(kernel_1, stride_1, kernel_2):
    last = kernel_1
    for _ in range(kernel_2 - 1):
        last += stride_1
    return last


def compound_by_input_size(kernel_1, stride_1, kernel_2):
    outputs_of_first = kernel_2
    return stride_1 * (outputs_of_first - 1) + kernel_1


def stride_by_prod(strides):
    return math.prod(strides)


def stride_by_recursion(strides):
    return strides[0] * stride_by_recursion(strides[1:]) if strides else 1


def input_by_recursion(output_size, layers):
    if not layers:
        return output_size
    *before, (kernel, stride) = layers
    return input_by_recursion((output_size - 1) * stride + kernel, before)


def input_by_compound(output_size, layers):
    whole_kernel, whole_stride = 1, 1
    for kernel, stride in layers:
        whole_kernel += whole_stride * (kernel - 1)
        whole_stride *= stride
    return whole_stride * (output_size - 1) + whole_kernel


def centre_by_jump_and_start(position, layers):
    jump, start = 1, 0.0
    for kernel, stride, padding in layers:
        start += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
    return start + position * jump


def centre_by_ends(position, layers):
    left = right = position
    for k, s, p in layers[::-1]:
        left = left * s - p
        right = right * s - p + k - 1
    return left + (right - left) / 2


def field_by_input_size(layers):
    size = 1
    for kernel, stride, _, dilation in reversed(layers):
        size = (size - 1) * stride + (kernel + (kernel - 1) * (dilation - 1))
    return size


def field_by_sum(layers):
    strides = [s for _, s, _, _ in layers]
    return 1 + sum((k - 1) * d * math.prod(strides[:i]) for i, (k, _, _, d) in enumerate(layers))


def block_by_extent_above_stem(stem, branches):
    widest = max(field_by_input_size(branch) for branch in branches)
    for kernel, stride, _, dilation in stem[::-1]:
        widest = (widest - 1) * stride + (kernel - 1) * dilation + 1
    return widest


def block_by_ends(stem, branches):
    firsts, lasts = [], []
    for branch in branches:
        first = last = 0
        for k, s, p, d in reversed([*stem, *branch]):
            first, last = first * s - p, last * s - p + (k - 1) * d
        firsts.append(first)
        lasts.append(last)
    return max(lasts) - min(firsts) + 1


def pixels_by_recursion(position, layers):
    if not layers:
        return [position]
    k, s, p, d = layers[-1]
    below = [pixels_by_recursion(position * s - p + t * d, layers[:-1]) for t in range(k)]
    return sorted({pixel for list_ in below for pixel in list_})


def pixels_by_offsets(position, layers):
    offsets, jump, start = {0}, 1, 0
    for k, s, p, d in layers:
        offsets = {o + t * d * jump for o in offsets for t in range(k)}
        start -= p * jump
        jump *= s
    return tuple(sorted(start + position * jump + o for o in offsets))


def pixels_in_any_order(position, layers):
    seen = {position}
    for k, s, p, d in reversed(layers):
        below = set()
        for unit in seen:
            below |= set(range(unit * s - p, unit * s - p + (k - 1) * d + 1, d))
        seen = below
    return sorted(seen, key=lambda pixel: (pixel % 3, -pixel))


def pixels_as_a_set(position, layers):
    return set(pixels_by_recursion(position, layers))


def pixels_as_a_tensor(position, layers):
    seen = torch.tensor([position])
    for k, s, p, d in reversed(layers):
        seen = (seen[:, None] * s - p + torch.arange(k) * d).unique()
    return seen.flip(0)


def pixels_as_small_tensors(position, layers):
    return list(pixels_as_a_tensor(position, layers))


def pixels_as_keys(position, layers):
    return dict.fromkeys(reversed(pixels_by_recursion(position, layers))).keys()


def capped(answer, *most):
    """The answer for layers whose numbers are at most these; `layers` is the last argument."""

    def wrong(*args):
        *others, layers = args
        return answer(*others, [tuple(min(entry, cap) for entry, cap in zip(layer, most)) for layer in layers])

    return wrong


def block_with(change):
    return lambda stem, branches: block_by_extent_above_stem(*change(stem, branches))


def block_striding_in_first_layer(stem, branches):
    sizes = []
    for branch in branches:
        total = math.prod(s for _, s, _, _ in branch)
        moved = [(k, 1 if i else total, p, d) for i, (k, _, p, d) in enumerate(branch)]
        sizes.append(field_by_sum(stem + moved))
    return max(sizes)


def block_of_most_taps(stem, branches):
    return field_by_sum(stem + max(branches, key=lambda branch: sum((k - 1) * d for k, _, _, d in branch)))


BIG = 9999

WRONG = {
    "compound_kernel": {
        "small": lambda kernel_1, stride_1, kernel_2: min(31, compound_by_walking(kernel_1, stride_1, kernel_2)),
        "small kernel": lambda kernel_1, stride_1, kernel_2: compound_by_walking(min(7, kernel_1), stride_1, kernel_2),
        "small stride": lambda kernel_1, stride_1, kernel_2: compound_by_walking(kernel_1, min(4, stride_1), kernel_2),
    },
    "compound_stride": {
        "five layers": lambda strides: math.prod(strides[:5]),
        "in a byte": lambda strides: math.prod(strides) % 256,
        "up to 1024": lambda strides: min(1024, math.prod(strides)),
        "nothing strides": lambda strides: math.prod(s for s in strides if s > 1) if max(strides) > 1 else 0,
    },
    "input_size": {
        "four layers": lambda output_size, layers: input_by_compound(output_size, layers[:4]),
        "six outputs": lambda output_size, layers: input_by_compound(min(6, output_size), layers),
        "up to 500": lambda output_size, layers: min(500, input_by_compound(output_size, layers)),
        "small kernels": capped(input_by_compound, 5, BIG),
        "small strides": capped(input_by_compound, BIG, 3),
    },
    "field_centre": {
        "four layers": lambda position, layers: centre_by_ends(position, layers[:4]),
        "seven outputs": lambda position, layers: centre_by_ends(min(6, position), layers),
        "small kernels": capped(centre_by_ends, 5, BIG, BIG),
        "small strides": capped(centre_by_ends, BIG, 3, BIG),
        "small padding": capped(centre_by_ends, BIG, BIG, 3),
        "padding below kernel": lambda position, layers: centre_by_ends(
            position, [(k, s, min(p, max(3, k - 1))) for k, s, p in layers]
        ),
    },
    "receptive_field": {
        "five layers": lambda layers: field_by_sum(layers[:5]),
        "up to 1000": lambda layers: min(1000, field_by_sum(layers)),
        "small kernels": capped(field_by_sum, 5, BIG, BIG, BIG),
        "small strides": capped(field_by_sum, BIG, 3, BIG, BIG),
        "small dilations": capped(field_by_sum, BIG, BIG, BIG, 4),
    },
    "block_field": {
        "stem without dilation": block_with(
            lambda stem, branches: ([(k, s, p, 1) for k, s, p, _ in stem], branches),
        ),
        "two layers of stem": block_with(lambda stem, branches: (stem[:2], branches)),
        "three branches": block_with(lambda stem, branches: (stem, branches[:3])),
        "three layers a branch": block_with(lambda stem, branches: (stem, [branch[:3] for branch in branches])),
        "strides in the first layer": block_striding_in_first_layer,
        "most taps": block_of_most_taps,
    },
    "pixels_seen": {
        "three layers": lambda position, layers: pixels_by_offsets(position, layers[:3]),
        "six outputs": lambda position, layers: pixels_by_offsets(min(5, position), layers),
        "kernels of three": capped(pixels_by_offsets, 3, BIG, BIG, BIG),
        "kernels of five": capped(pixels_by_offsets, 5, BIG, BIG, BIG),
        "small dilations": capped(pixels_by_offsets, BIG, BIG, BIG, 3),
        "sixty pixels": lambda position, layers: pixels_by_offsets(position, layers)[:60],
        "up to 60": lambda position, layers: [pixel for pixel in pixels_by_offsets(position, layers) if pixel < 60],
        "from -10": lambda position, layers: [pixel for pixel in pixels_by_offsets(position, layers) if pixel > -10],
    },
}
"""Answers that are right for some inputs only."""


def test_no_block_is_shortcuts_alone() -> None:
    """Whoever leaves shortcuts out is right: another branch always sees as much."""

    def block_without_shortcuts(stem, branches):
        return max(field_by_sum(stem + branch) for branch in branches if branch)

    for seed in range(50):
        assert judged(EXERCISES["block_field"], block_without_shortcuts, seed).outcome is Outcome.CORRECT, seed


class TestContract(Contract):
    lesson = "01_receptive_field"
    right = {
        "compound_kernel": (compound_by_walking, compound_by_input_size),
        "compound_stride": (stride_by_prod, stride_by_recursion),
        "input_size": (input_by_recursion, input_by_compound),
        "field_centre": (centre_by_jump_and_start, centre_by_ends),
        "receptive_field": (field_by_input_size, field_by_sum),
        "block_field": (block_by_extent_above_stem, block_by_ends),
        "pixels_seen": (
            pixels_by_recursion,
            pixels_by_offsets,
            pixels_in_any_order,
            pixels_as_a_set,
            pixels_as_a_tensor,
            pixels_as_small_tensors,
            pixels_as_keys,
        ),
    }
    wrong = {name: tuple(answers.values()) for name, answers in WRONG.items()}
