"""Right answers to lesson 02's exercises, written as different students would."""

import itertools

import torch
import torch.nn.functional as F
from contract import Contract

from segcourse import exercises

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("02_transposed").exercises}


def matrix_column_by_column(kernel, size, stride, padding):
    columns = []
    for i in range(size):
        unit = torch.zeros(1, 1, size)
        unit[0, 0, i] = 1
        columns.append(F.conv1d(unit, kernel.view(1, 1, -1), stride=stride, padding=padding).flatten())
    return torch.stack(columns, dim=1)


def matrix_by_cutting_the_padding(kernel, size, stride, padding):
    rows = []
    for start in range(0, size + 2 * padding - len(kernel) + 1, stride):
        row = torch.zeros(size + 2 * padding)
        row[start : start + len(kernel)] = kernel
        rows.append(row[padding : padding + size])
    return torch.stack(rows)


def stamps_as_a_product(z, kernel, stride, padding, output_padding):
    length = (len(z) - 1) * stride + len(kernel) - 2 * padding + output_padding
    matrix = torch.zeros(length, len(z))
    for o, i in itertools.product(range(length), range(len(z))):
        tap = o + padding - i * stride
        if 0 <= tap < len(kernel):
            matrix[o, i] = kernel[tap]
    return matrix @ z


def stamps_by_inserting_zeros(z, kernel, stride, padding, output_padding):
    stuffed = torch.zeros((len(z) - 1) * stride + 1)
    stuffed[::stride] = z
    reach = len(kernel) - 1
    ready = F.pad(stuffed, (reach, reach + output_padding))
    full = F.conv1d(ready[None, None], kernel.flip(0)[None, None]).flatten()
    return full[padding:-padding] if padding else full


def stamps_by_backpropagation(z, kernel, stride, padding, output_padding):
    length = (len(z) - 1) * stride + len(kernel) - 2 * padding + output_padding
    x = torch.zeros(1, 1, length, requires_grad=True)
    F.conv1d(x, kernel[None, None], stride=stride, padding=padding).backward(z[None, None])
    return x.grad[0, 0]


def size_by_walking(size, kernel, stride, padding, output_padding, dilation):
    end = 0
    for stamp in range(size):
        end = max(end, stamp * stride + 1 + sum(dilation for _ in range(kernel - 1)))
    return end + output_padding - padding - padding


def size_by_asking_pytorch(size, kernel, stride, padding, output_padding, dilation):
    layer = torch.nn.ConvTranspose1d(1, 1, kernel, stride, padding, output_padding, dilation=dilation)
    return layer(torch.zeros(1, 1, size)).shape[-1]


def extra_by_there_and_back(size, kernel, stride, padding, dilation):
    extent = dilation * (kernel - 1) + 1
    outputs = (size + 2 * padding - extent) // stride + 1
    return size - ((outputs - 1) * stride + extent - 2 * padding)


def extra_by_sliding(size, kernel, stride, padding, dilation):
    end = dilation * (kernel - 1) + 1
    while end + stride <= size + 2 * padding:
        end += stride
    return size + 2 * padding - end


def image_matrix_by_cutting_the_padding(kernel, size, stride, padding):
    (height, width), (kh, kw) = size, kernel.shape
    rows = []
    for top in range(0, height + 2 * padding - kh + 1, stride):
        for left in range(0, width + 2 * padding - kw + 1, stride):
            image = torch.zeros(height + 2 * padding, width + 2 * padding)
            image[top : top + kh, left : left + kw] = kernel
            rows.append(image[padding : padding + height, padding : padding + width].reshape(-1))
    return torch.stack(rows)


def image_matrix_from_lines(kernel, size, stride, padding):
    """Each row of the kernel is a 1-D matrix; a Kronecker product puts it where that row lies."""
    total = 0
    for a in range(kernel.shape[0]):
        one = torch.zeros(kernel.shape[0])
        one[a] = 1
        down = matrix_by_cutting_the_padding(one, size[0], stride, padding)
        total = total + torch.kron(down, matrix_by_cutting_the_padding(kernel[a], size[1], stride, padding))
    return total


def counts_by_stamping_ones(size, kernel, stride):
    return F.conv_transpose1d(torch.ones(1, 1, size), torch.ones(1, 1, kernel), stride=stride).flatten().long()


def counts_place_by_place(size, kernel, stride):
    length = (size - 1) * stride + kernel
    return tuple(sum(0 <= place - i * stride < kernel for i in range(size)) for place in range(length))


def tent_from_the_formula(factor):
    weights = []
    for o in range(-2 * factor, 3 * factor):
        x = (o + 0.5) / factor - 0.5
        weight = max(0.0, 1 - abs(x))
        if weight > 1e-9:
            weights.append(weight)
    return torch.tensor(weights)


def tent_as_two_boxes(factor):
    """A tent is a box convolved with a box; with an even factor the outputs lie half a step beside its samples."""
    if factor % 2:
        box = torch.ones(factor)
        return F.conv1d(box[None, None], box[None, None], padding=factor - 1).flatten() / factor
    rising = (torch.arange(factor) + 0.5) / factor
    return torch.cat([rising, rising.flip(0)])


def matrix_by_slices(kernel, size, stride, padding):
    """A kernel that sticks out at both ends is cut at one."""
    taps = len(kernel)
    matrix = torch.zeros((size + 2 * padding - taps) // stride + 1, size)
    for o in range(len(matrix)):
        begin = o * stride - padding
        if begin < 0:
            matrix[o, : begin + taps] = kernel[-begin:]
        elif begin + taps > size:
            matrix[o, begin:] = kernel[: size - begin]
        else:
            matrix[o, begin : begin + taps] = kernel
    return matrix


def image_matrix_by_slices(kernel, size, stride, padding):
    """A kernel that sticks out at both sides is cut at one."""

    def cut(first, taps, length):
        return slice(-first, taps) if first < 0 else slice(0, length - first)

    (height, width), (kh, kw) = size, kernel.shape
    rows = []
    for top in range(-padding, height + padding - kh + 1, stride):
        for left in range(-padding, width + padding - kw + 1, stride):
            part = kernel[cut(top, kh, height), cut(left, kw, width)]
            image = torch.zeros(size)
            image[max(top, 0) : max(top, 0) + part.shape[0], max(left, 0) : max(left, 0) + part.shape[1]] = part
            rows.append(image.flatten())
    return torch.stack(rows)


def except_where(answer, odd):
    """The answer, but zeros where the condition holds of the arguments."""
    return lambda *args: answer(*args) * (not odd(*args))


def stamps_of_positive_values(z, kernel, stride, padding, output_padding):
    return stamps_as_a_product(z.clamp(min=0), kernel, stride, padding, output_padding)


def stamps_of_whole_numbers(*args):
    return stamps_as_a_product(*args).round()


def stamps_with_little_padding(z, kernel, stride, padding, output_padding):
    return stamps_as_a_product(z, kernel, stride, min(padding, (len(kernel) - 1) // 2), output_padding)


def extra_by_search(tries):
    def output_padding_for(size, kernel, stride, padding, dilation):
        between = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        back = size_by_walking(between, kernel, stride, padding, 0, dilation)
        return next((extra for extra in range(tries) if back + extra == size), 0)

    return output_padding_for


WRONG = {
    "conv_matrix_1d": {
        "positive taps": lambda kernel, *rest: matrix_by_cutting_the_padding(kernel.clamp(min=0), *rest),
        "no signs": lambda kernel, *rest: matrix_by_cutting_the_padding(kernel.abs(), *rest),
        "whole taps": lambda kernel, *rest: matrix_by_cutting_the_padding(kernel.trunc(), *rest),
        "one end": matrix_by_slices,
        "kernel longer than the line": except_where(matrix_by_cutting_the_padding, lambda k, n, s, p: len(k) > n),
        "one input": except_where(matrix_by_cutting_the_padding, lambda k, n, s, p: n == 1),
        "five taps": except_where(matrix_by_cutting_the_padding, lambda k, n, s, p: len(k) > 4),
        "eight inputs": except_where(matrix_by_cutting_the_padding, lambda k, n, s, p: n > 7),
        "stride beyond kernel": except_where(matrix_by_cutting_the_padding, lambda k, n, s, p: s > len(k) > 1),
    },
    "transposed_size": {
        "small kernel": lambda n, k, s, p, o, d: size_by_walking(n, min(7, k), s, p, o, d),
        "small stride": lambda n, k, s, p, o, d: size_by_walking(n, k, min(4, s), p, o, d),
        "small dilation": lambda n, k, s, p, o, d: size_by_walking(n, k, s, p, o, min(3, d)),
        "few stamps": lambda n, k, s, p, o, d: size_by_walking(min(20, n), k, s, p, o, d),
        "half of the stamp": lambda n, k, s, p, o, d: size_by_walking(n, k, s, min(p, d * (k - 1) // 2), o, d),
        "no empty places": lambda n, k, s, p, o, d: size_by_walking(n, k, s, p, o if o <= p + 2 else 0, d),
    },
    "output_padding_for": {
        "up to 4": extra_by_search(5),
        "up to 15": extra_by_search(16),
        "odd kernels": lambda n, k, s, p, d: extra_by_sliding(n, k | 1, s, p, d),
        "rule for stride 2": lambda n, k, s, p, d: (n + 1) % 2 if s == 2 else extra_by_sliding(n, k, s, p, d),
        "small stride": lambda n, k, s, p, d: extra_by_sliding(n, k, min(5, s), p, d) % s,
        "small dilation": lambda n, k, s, p, d: extra_by_sliding(n, k, s, p, min(3, d)),
        "half of the kernel": lambda n, k, s, p, d: extra_by_sliding(n, k, s, min(p, d * (k - 1) // 2), d),
        "line shorter than the kernel": lambda n, k, s, p, d: extra_by_sliding(n, k, s, p, d) * (n > d * (k - 1)),
        "no signs": lambda n, k, s, p, d: (abs(n - d * (k - 1) - 1) + 2 * p) % s,
    },
    "conv_transpose_1d": {
        "positive values": stamps_of_positive_values,
        "no signs": lambda z, kernel, *rest: stamps_as_a_product(z, kernel.abs(), *rest),
        "positive results": lambda *args: stamps_as_a_product(*args).clamp(min=0),
        "whole numbers": stamps_of_whole_numbers,
        "little padding": stamps_with_little_padding,
        "four values": except_where(stamps_as_a_product, lambda z, *rest: len(z) > 4),
        "five taps": except_where(stamps_as_a_product, lambda z, kernel, *rest: len(kernel) > 5),
        "small stride": except_where(stamps_as_a_product, lambda z, kernel, stride, *rest: stride > 3),
    },
    "conv_matrix_2d": {
        "positive taps": lambda kernel, *rest: image_matrix_by_cutting_the_padding(kernel.clamp(min=0), *rest),
        "no signs": lambda kernel, *rest: image_matrix_by_cutting_the_padding(kernel.abs(), *rest),
        "whole taps": lambda kernel, *rest: image_matrix_by_cutting_the_padding(kernel.trunc(), *rest),
        "one side": image_matrix_by_slices,
        "low image": except_where(image_matrix_from_lines, lambda k, size, s, p: size[0] < k.shape[0]),
        "narrow image": except_where(image_matrix_from_lines, lambda k, size, s, p: size[1] < k.shape[1]),
        "one column": except_where(image_matrix_from_lines, lambda k, size, s, p: size[1] == 1),
        "kernel of one column": except_where(image_matrix_from_lines, lambda k, size, s, p: k.shape[1] == 1),
        "one tap": except_where(image_matrix_from_lines, lambda k, size, s, p: k.numel() == 1),
        "four taps": except_where(image_matrix_from_lines, lambda k, size, s, p: max(k.shape) > 3),
        "large image": except_where(image_matrix_from_lines, lambda k, size, s, p: size[0] > 4 and size[1] > 5),
    },
    "overlap_counts": {
        "six stamps": lambda size, kernel, stride: counts_place_by_place(min(6, size), kernel, stride),
        "seven places": lambda size, kernel, stride: counts_place_by_place(size, min(7, kernel), stride),
        "counts up to six": lambda *args: [min(6, count) for count in counts_place_by_place(*args)],
    },
}
"""Answers that are right for some inputs only."""


class TestContract(Contract):
    lesson = "02_transposed"
    right = {
        "conv_matrix_1d": (matrix_column_by_column, matrix_by_cutting_the_padding),
        "transposed_size": (size_by_walking, size_by_asking_pytorch),
        "output_padding_for": (extra_by_there_and_back, extra_by_sliding),
        "conv_transpose_1d": (stamps_as_a_product, stamps_by_inserting_zeros, stamps_by_backpropagation),
        "conv_matrix_2d": (image_matrix_by_cutting_the_padding, image_matrix_from_lines),
        "overlap_counts": (counts_by_stamping_ones, counts_place_by_place),
        "bilinear_kernel": (tent_from_the_formula, tent_as_two_boxes),
    }
    wrong = {name: tuple(answers.values()) for name, answers in WRONG.items()}
