"""Right answers to lesson 01's exercises, written as different students would."""

import math

from contract import Contract


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


class TestContract(Contract):
    lesson = "01_receptive_field"
    right = {
        "compound_kernel": (compound_by_walking, compound_by_input_size),
        "compound_stride": (stride_by_prod, stride_by_recursion),
        "input_size": (input_by_recursion, input_by_compound),
        "field_centre": (centre_by_jump_and_start, centre_by_ends),
        "receptive_field": (field_by_input_size, field_by_sum),
        "block_field": (block_by_extent_above_stem, block_by_ends),
        "pixels_seen": (pixels_by_recursion, pixels_by_offsets, pixels_in_any_order, pixels_as_a_set),
    }
