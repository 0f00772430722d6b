"""Right answers to lesson 02's exercises, written as different students would."""

import itertools

import torch
import torch.nn.functional as F
from contract import Contract


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
