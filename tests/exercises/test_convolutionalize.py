"""Right answers to lesson 03's exercises, written as different students would."""

import math

import torch
import torch.nn.functional as F
from contract import Contract, judged
from torch import nn

from segcourse import exercises

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("03_convolutionalize").exercises}


def windows_by_walking(height, width, window, stride):
    def along(size):
        begin, count = 0, 0
        while begin + window <= size:
            begin += stride
            count += 1
        return count

    return along(height), along(width)


def windows_by_shape(height, width, window, stride):
    cut = torch.empty(1).expand(height, width).unfold(0, window, stride).unfold(1, window, stride)
    return cut.shape[:2]


def windows_by_rounding_up(height, width, window, stride):
    return [math.ceil((size - window + 1) / stride) for size in (height, width)]


def macs_by_counting(height, width, window, stride, kernel, in_channels, out_channels):
    each = kernel * kernel * in_channels * out_channels
    total = 0
    for _top in range(0, height - window + 1, stride):
        for _left in range(0, width - window + 1, stride):
            total += (window + 1 - kernel) * (window + 1 - kernel) * each
    return [total, len(range(kernel - 1, height)) * len(range(kernel - 1, width)) * each]


def macs_by_layers(height, width, window, stride, kernel, in_channels, out_channels):
    layer = nn.Conv2d(in_channels, out_channels, kernel, bias=False)
    rows, columns = windows_by_walking(height, width, window, stride)

    def macs(h, w):
        return (h - kernel + 1) * (w - kernel + 1) * layer.weight.numel()

    return rows * columns * macs(window, window), macs(height, width)


def dense_by_einsum(features, weight, bias):
    return torch.einsum("nchw,kc->nkhw", features, weight) + bias.view(1, -1, 1, 1)


def dense_by_matmul(features, weight, bias):
    n, _, height, width = features.shape
    return (weight @ features.flatten(2)).view(n, -1, height, width) + bias[:, None, None]


def dense_by_loops(features, weight, bias):
    n, _, height, width = features.shape
    result = features.new_zeros(n, len(bias), height, width)
    for i in range(height):
        for j in range(width):
            result[:, :, i, j] = features[:, :, i, j] @ weight.T + bias
    return result


def linear_by_unflatten(linear, channels, size):
    conv = nn.Conv2d(channels, linear.out_features, kernel_size=size)
    conv.weight = nn.Parameter(linear.weight.detach().unflatten(1, (channels, *size)).clone())
    conv.bias = nn.Parameter(linear.bias.detach().clone())
    return conv


def linear_by_state(linear, channels, size):
    height, width = size
    conv = nn.Conv2d(channels, len(linear.bias), (height, width))
    conv.load_state_dict({"weight": linear.weight.view(-1, channels, height, width), "bias": linear.bias})
    return conv


def linear_by_lazy_layer(linear, channels, size):
    class OnWindows(nn.Module):
        def forward(self, maps):
            weight = linear.weight.view(linear.out_features, channels, *size)
            return F.conv2d(maps, weight, linear.bias)

    return OnWindows()


def network_by_two_lists(model, channels, size):
    layers = list(model)
    cut = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Flatten))
    features = [layer for layer in layers[:cut] if type(layer) is not nn.AdaptiveAvgPool2d]
    first, *rest = layers[cut + 1 :]
    head = [
        linear_by_state(layer, layer.in_features, (1, 1)) if isinstance(layer, nn.Linear) else layer for layer in rest
    ]
    head.insert(0, linear_by_state(first, channels, size))
    return nn.Sequential(nn.Sequential(*features), nn.Sequential(*head))


class Everywhere(nn.Module):
    """A later dense layer without any convolution."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, maps):
        return self.linear(maps.movedim(1, -1)).movedim(-1, 1)


def network_with_dense_layers_kept(model, channels, size):
    result = nn.Sequential()
    for layer in model:
        if isinstance(layer, nn.Linear):
            result.append(Everywhere(layer) if channels is None else linear_by_unflatten(layer, channels, size))
            channels = None
        elif type(layer).__name__ in ("Conv2d", "ReLU", "MaxPool2d"):
            result.append(layer)
    return result


def stitched_by_stacking(network, image, window, stride):
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    padded = F.pad(image, (0, 2 * stride, 0, 2 * stride))
    rows, columns = -(-height // stride), -(-width // stride)
    maps = [
        network(padded[:, :, a:, b:])[:, :, :rows, :columns] for a in range(stride) for b in range(stride)
    ]  # fmt: skip
    maps = torch.stack(maps).unflatten(0, (stride, stride))  # a, b, N, K, rows, columns
    return maps.permute(2, 3, 4, 0, 5, 1).flatten(4).flatten(2, 3)[:, :, :height, :width]


def stitched_with_plain_zeros(network, image, window, stride):
    """Shifts one after the other, the map filled through lists of places."""
    rows, columns = range(image.size(2) - window + 1), range(image.size(3) - window + 1)
    stitched = None
    for shift in range(stride * stride):
        a, b = divmod(shift, stride)
        coarse = network(image[..., a:, b:])
        if stitched is None:
            stitched = torch.zeros(len(image), coarse.shape[1], len(rows), len(columns))
        for i, row in enumerate(rows[a::stride]):
            for j, column in enumerate(columns[b::stride]):
                stitched[:, :, row, column] = coarse[:, :, i, j]
    return stitched


# --- wrong answers that a check once let pass -----------------------------------------------------------------


def stitched_with_the_images_channels(network, image, window, stride):
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    scores = torch.zeros(image.shape[0], image.shape[1], height, width)
    for a in range(stride):
        for b in range(stride):
            scores[:, :, a::stride, b::stride] = network(image[:, :, a:, b:])
    return scores


def stitched_for_the_first_image(network, image, window, stride):
    return stitched_by_stacking(network, image[:1], window, stride)


def stitched_window_by_window(network, image, window, stride):
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    rows = []
    for i in range(height):
        row = [network(image[:, :, i : i + window, j : j + window]) for j in range(width)]
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


def stitched_from_a_batch_of_windows(network, image, window, stride):
    windows = image.unfold(2, window, 1).unfold(3, window, 1)  # N, C, h, w, window, window
    n, _, height, width = windows.shape[:4]
    scores = network(windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
    return scores.reshape(n, height, width, -1).permute(0, 3, 1, 2)


def network_of_two_dense_layers(model, channels, size):
    *features, first, relu, second = (m for m in model if not isinstance(m, (nn.Flatten, nn.AdaptiveAvgPool2d)))
    return nn.Sequential(*features, linear_by_state(first, channels, size), relu, linear_by_state(second, 5, (1, 1)))


def network_with_hidden_width_written_in(model, channels, size):
    layers = []
    for layer in model:
        if isinstance(layer, nn.Linear):
            layers.append(linear_by_state(layer, channels, size))
            channels, size = 5, (1, 1)
        elif not isinstance(layer, (nn.Flatten, nn.AdaptiveAvgPool2d)):
            layers.append(layer)
    return nn.Sequential(*layers)


def network_of_one_pooling(model, channels, size):
    layers = list(network_by_two_lists(model, channels, size)[1])
    return nn.Sequential(*list(model)[:3], *layers)


def network_that_empties_the_model(model, channels, size):
    network = network_by_two_lists(model, channels, size)
    with torch.no_grad():
        next(m for m in model if isinstance(m, nn.Linear)).bias.zero_()
    return network


def linear_with_its_weight_emptied(linear, channels, size):
    conv = linear_by_unflatten(linear, channels, size)
    with torch.no_grad():
        linear.weight.zero_()
    return conv


def linear_with_its_bias_emptied(linear, channels, size):
    conv = linear_by_unflatten(linear, channels, size)
    with torch.no_grad():
        linear.bias.zero_()
    return conv


def test_a_network_shown_too_often_says_so() -> None:
    verdict = judged(EXERCISES["shift_and_stitch"], stitched_window_by_window, 0)
    assert verdict.misconception.id == "window_by_window"


class TestContract(Contract):
    lesson = "03_convolutionalize"
    right = {
        "heatmap_size": (windows_by_walking, windows_by_shape, windows_by_rounding_up),
        "macs_both_ways": (macs_by_counting, macs_by_layers),
        "dense_at_every_pixel": (dense_by_einsum, dense_by_matmul, dense_by_loops),
        "linear_to_conv": (linear_by_unflatten, linear_by_state, linear_by_lazy_layer),
        "convolutionalize": (network_by_two_lists, network_with_dense_layers_kept),
        "shift_and_stitch": (stitched_by_stacking, stitched_with_plain_zeros),
    }
    wrong = {
        "shift_and_stitch": (
            stitched_with_the_images_channels,
            stitched_for_the_first_image,
            (stitched_window_by_window, "allowed here"),
            (stitched_from_a_batch_of_windows, "allowed here"),
        ),
        "convolutionalize": (
            network_of_two_dense_layers,
            network_with_hidden_width_written_in,
            network_of_one_pooling,
            (network_that_empties_the_model, "it changed the weights"),
        ),
        "linear_to_conv": (
            (linear_with_its_weight_emptied, "it changed the weights"),
            (linear_with_its_bias_emptied, "it changed the weights"),
        ),
    }
