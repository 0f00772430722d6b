"""The exercises of lesson 03."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse import convolutionalize as topic
from segcourse.exercises import Lesson
from segcourse.exercises.drivers import convolutionalize as drivers
from segcourse.exercises.exercise import (
    Case,
    Draw,
    Exercise,
    Misconception,
    RandomDraw,
    draw_tensor,
    draw_whole_numbers,
)
from segcourse.exercises.networks import same_scores
from segcourse.exercises.quiz import Option, Question

STEM = "03_convolutionalize"
Pair = tuple[int, int]


# --- heatmap_size -----------------------------------------------------------------------------------------


def heatmap_size(height: int, width: int, window: int, stride: int) -> Pair:
    """Return how many rows and columns of windows fit into an image."""
    return (height - window) // stride + 1, (width - window) // stride + 1


def _image_and_window(draw: Draw) -> Case:
    window, stride = draw.integer(2, 12), draw.integer(1, 5)
    return {
        "height": window + draw.integer(0, 25),
        "width": window + draw.integer(0, 30),
        "window": window,
        "stride": stride,
    }


def _count_windows(height: int, width: int, window: int, stride: int) -> Pair:
    rows, columns = (len(range(0, size - window + 1, stride)) for size in (height, width))
    return rows, columns


HEATMAP_SIZE = Exercise(
    name="heatmap_size",
    lesson=STEM,
    title="How many windows fit",
    points=1,
    minutes=5,
    difficulty=1,
    reference=heatmap_size,
    oracle=_count_windows,
    cases=_image_and_window,
    examples=(
        {"height": 8, "width": 11, "window": 5, "stride": 1},
        {"height": 96, "width": 128, "window": 32, "stride": 4},
        {"height": 7, "width": 13, "window": 7, "stride": 3},
    ),
    misconceptions=(
        Misconception(
            "counts_steps",
            lambda height, width, window, stride: ((height - window) // stride, (width - window) // stride),
            "You counted the steps from window to window. How many windows are there before the first step?",
            "How many windows there are",
        ),
        Misconception(
            "ignores_window",
            lambda height, width, window, stride: (height // stride, width // stride),
            "You divided the image by the stride. Where does the last window begin, and does it still lie inside?",
            "How many windows there are",
        ),
        Misconception(
            "counts_cut_windows",
            lambda height, width, window, stride: (
                -(-(height - window) // stride) + 1,
                -(-(width - window) // stride) + 1,
            ),
            "You also counted a last window that begins inside the image but ends outside of it.",
            "How many windows there are",
        ),
        Misconception(
            "rounds_apart",
            lambda height, width, window, stride: (
                height // stride - window // stride + 1,
                width // stride - window // stride + 1,
            ),
            "You rounded the image and the window by themselves. Take the difference first: it is the way that the "
            "window can go, and it is rounded once.",
            "How many windows there are",
        ),
        Misconception(
            "width_first",
            lambda height, width, window, stride: ((width - window) // stride + 1, (height - window) // stride + 1),
            "You returned columns before rows. Sizes are given as (rows, columns) here, as in a tensor's shape.",
            "How many windows there are",
        ),
        Misconception(
            "adds_one_first",
            lambda height, width, window, stride: ((height - window + 1) // stride, (width - window + 1) // stride),
            "You added the one before you divided. It stands for the first window, which takes no step to get to: "
            "where must it be added then?",
            "How many windows there are",
        ),
        Misconception(
            "keeps_the_fraction",
            lambda height, width, window, stride: ((height - window) / stride + 1, (width - window) / stride + 1),
            "You kept a fraction of a step. Either a window fits or it does not: their number is whole, and `/` does "
            "not round.",
            "How many windows there are",
        ),
    ),
    hints=(
        "The first window begins at row 0. At which row can the last one begin at the latest?",
        "The way that a window can go is the image less the window. Divide it into steps, forget the rest, and do "
        "not forget the window at the start.",
        "rows = (the way a window can go downwards) // stride + ..., and columns in the same way",
    ),
    property="the last window counted still lies inside the image, and one more step would take it outside.",
)


# --- macs_both_ways ---------------------------------------------------------------------------------------


def macs_both_ways(
    height: int, width: int, window: int, stride: int, kernel: int, in_channels: int, out_channels: int
) -> Pair:
    """Return a layer's multiply-adds window by window, and in one pass over the image."""
    rows = (height - window) // stride + 1
    columns = (width - window) // stride + 1
    in_a_window = (window - kernel + 1) ** 2
    in_the_image = (height - kernel + 1) * (width - kernel + 1)
    each = kernel**2 * in_channels * out_channels
    return rows * columns * in_a_window * each, in_the_image * each


def _image_and_layer(draw: Draw) -> Case:
    window, kernel = draw.integer(4, 12), draw.integer(2, 3)
    stride = draw.integer(1, 3)
    in_channels = kernel + draw.integer(1, 2)  # all three differ, so that no mistake looks like another
    return {
        "height": window + stride + draw.integer(0, 20),
        "width": window + stride + draw.integer(1, 25),
        "window": window,
        "stride": stride,
        "kernel": kernel,
        "in_channels": in_channels,
        "out_channels": in_channels + draw.integer(1, 3),
    }


def _macs_of_shapes(
    height: int, width: int, window: int, stride: int, kernel: int, in_channels: int, out_channels: int
) -> Pair:
    """Let PyTorch lay the kernel on everything, for one channel, and count the places."""
    image, weight = torch.zeros(1, 1, height, width), torch.zeros(1, 1, kernel, kernel)
    windows = image.unfold(2, window, stride).unfold(3, window, stride).reshape(-1, 1, window, window)
    each = in_channels * out_channels * weight.numel()
    return F.conv2d(windows, weight).numel() * each, F.conv2d(image, weight).numel() * each


def _macs_with(
    windows: Callable[..., int], places: Callable[[int, int], int], products: Callable[[int], int] = lambda k: k * k
) -> Callable[..., Pair]:
    """A wrong count: `windows` along an axis, `places` of a kernel along an axis, `products` of a kernel."""

    def count(
        height: int, width: int, window: int, stride: int, kernel: int, in_channels: int, out_channels: int
    ) -> Pair:
        each = products(kernel) * in_channels * out_channels
        of_windows = windows(height, window, stride) * windows(width, window, stride)
        return (
            of_windows * places(window, kernel) ** 2 * each,
            places(height, kernel) * places(width, kernel) * each,
        )

    return count


def _fitting(size: int, window: int, stride: int) -> int:
    return (size - window) // stride + 1


def _valid(size: int, kernel: int) -> int:
    return size - kernel + 1


def _one_pass_in_strides(
    height: int, width: int, window: int, stride: int, kernel: int, in_channels: int, out_channels: int
) -> Pair:
    windows, _ = macs_both_ways(height, width, window, stride, kernel, in_channels, out_channels)
    places = _fitting(height, kernel, stride) * _fitting(width, kernel, stride)
    return windows, places * kernel**2 * in_channels * out_channels


def _one_pass_first(*arguments: int) -> Pair:
    windows, one_pass = macs_both_ways(*arguments)
    return one_pass, windows


MACS_BOTH_WAYS = Exercise(
    name="macs_both_ways",
    lesson=STEM,
    title="Windows against one pass",
    points=2,
    minutes=9,
    difficulty=2,
    reference=macs_both_ways,
    oracle=_macs_of_shapes,
    cases=_image_and_layer,
    examples=(
        {"height": 5, "width": 8, "window": 5, "stride": 1, "kernel": 3, "in_channels": 2, "out_channels": 4},
        {"height": 96, "width": 128, "window": 32, "stride": 4, "kernel": 5, "in_channels": 3, "out_channels": 16},
    ),
    misconceptions=(
        Misconception(
            "every_pixel_a_place",
            _macs_with(_fitting, lambda size, kernel: size),
            "You let the kernel stand on every pixel, as it does with zero padding. Without padding it must lie "
            "inside: how many places does that leave in a window, and in the image?",
            "What is computed again and again",
        ),
        Misconception(
            "windows_side_by_side",
            _macs_with(lambda size, window, stride: size // window, _valid),
            "You laid the windows side by side. They overlap: the next one begins `stride` pixels further on.",
            "How many windows there are",
        ),
        Misconception(
            "counts_steps",
            _macs_with(lambda size, window, stride: (size - window) // stride, _valid),
            "You counted the steps between the windows, one too few in each direction.",
            "How many windows there are",
        ),
        Misconception(
            "one_channel_in",
            lambda height, width, window, stride, kernel, in_channels, out_channels: macs_both_ways(
                height, width, window, stride, kernel, 1, out_channels
            ),
            "You counted the kernel for one input channel. Each output channel adds up products from all of them.",
            "What is computed again and again",
        ),
        Misconception(
            "one_channel_out",
            lambda height, width, window, stride, kernel, in_channels, out_channels: macs_both_ways(
                height, width, window, stride, kernel, in_channels, 1
            ),
            "You counted one output channel. Each of them has a kernel of its own.",
            "What is computed again and again",
        ),
        Misconception(
            "kernel_not_squared",
            _macs_with(_fitting, _valid, lambda kernel: kernel),
            "You counted one row of the kernel. It is square: how many pixels does it read in each channel?",
            "What is computed again and again",
        ),
        Misconception(
            "one_pass_in_strides",
            _one_pass_in_strides,
            "In the one pass, too, your kernel moves by `stride`. That is the windows' step; the layer's own is 1.",
            "What is computed again and again",
        ),
        Misconception(
            "one_pass_first",
            _one_pass_first,
            "The two numbers are right, but the wrong way round: the windows come first.",
            "Exercise: windows against one pass (2 points)",
        ),
    ),
    hints=(
        "Count three things by themselves: windows, places of the kernel in one of them, products at one place.",
        "The text gives the products at one place. The kernel's places in a row are counted like windows in an image, "
        "with a step of 1; a window has as many in both directions, the image has its own number for each.",
        "In n pixels a kernel of k has n - k + 1 places; then windows * places_in_a_window * each for the one way, "
        "and places_in_the_image * each for the other",
    ),
    property="the kernel lies inside the window (or the image) at every place counted, and every product counts once.",
)


# --- dense_at_every_pixel ---------------------------------------------------------------------------------


def dense_at_every_pixel(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a dense layer's outputs at every pixel of a map."""
    pixels = features.permute(0, 2, 3, 1)  # (N, H, W, C): a vector of C numbers for each pixel
    return F.linear(pixels, weight, bias).permute(0, 3, 1, 2)


def _map_and_dense_layer(draw: Draw) -> Case:
    n, channels, outputs = draw.integer(1, 2), draw.integer(2, 4), draw.integer(2, 5)
    height, width = draw.integer(2, 3), draw.integer(2, 5)
    width += width == height
    return {
        "features": draw_tensor(draw, (n, channels, height, width), -3, 9),
        "weight": draw_tensor(draw, (outputs, channels), -4, 4),
        "bias": draw_tensor(draw, (outputs,), 1, 9),
    }


def _one_by_one(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(features, weight[:, :, None, None], bias)


DENSE_AT_EVERY_PIXEL = Exercise(
    name="dense_at_every_pixel",
    lesson=STEM,
    title="A dense layer at every pixel",
    points=1,
    minutes=5,
    difficulty=1,
    reference=dense_at_every_pixel,
    oracle=_one_by_one,
    cases=_map_and_dense_layer,
    runs=24,
    misconceptions=(
        Misconception(
            "bias_dropped",
            lambda features, weight, bias: _one_by_one(features, weight, torch.zeros_like(bias)),
            "The products are right, the bias is missing.",
            "A dense layer at every pixel",
        ),
        Misconception(
            "channels_left_last",
            lambda features, weight, bias: F.linear(features.permute(0, 2, 3, 1), weight, bias),
            "The numbers are right, but the channels still come last. A map is (N, C, H, W), also after the layer.",
            "A dense layer at every pixel",
        ),
        Misconception(
            "reshaped_back",
            lambda features, weight, bias: F.linear(features.permute(0, 2, 3, 1), weight, bias).reshape(
                len(features), len(weight), *features.shape[2:]
            ),
            "You brought the channels back by a reshape. That reads the numbers in the order in which they lie and "
            "gives them to other pixels; axes are exchanged by permute or movedim.",
            "A dense layer at every pixel",
        ),
        Misconception(
            "reshaped_into_vectors",
            lambda features, weight, bias: (
                F.linear(features.reshape(-1, features.shape[1]), weight, bias)
                .reshape(len(features), *features.shape[2:], len(weight))
                .permute(0, 3, 1, 2)
            ),
            "You cut the map into vectors by a reshape. They hold neighbouring pixels of one channel instead of all "
            "channels of one pixel.",
            "A dense layer at every pixel",
        ),
        Misconception(
            "pooled_first",
            lambda features, weight, bias: F.linear(features.mean((2, 3)), weight, bias),
            "You averaged over all pixels first: one answer for the whole map, not one at each pixel.",
            "A dense layer at every pixel",
        ),
    ),
    hints=(
        "F.linear works on the last axis and repeats itself over all the others. Which axis must come last, and "
        "where does it belong afterwards?",
        "Apply the dense layer to the vectors of the pixels; then the outputs lie along the last axis. Move that axis "
        "to the place of the channels; a reshape would not move anything.",
        "F.linear(pixels, weight, bias), then .permute(0, ..., ..., ...)",
    ),
    property="output (k, i, j) is weight row k times the channels of pixel (i, j), plus bias k.",
)


# --- linear_to_conv ---------------------------------------------------------------------------------------


def linear_to_conv(linear: nn.Linear, channels: int, size: Pair) -> Any:
    """Return the convolution that computes a dense layer's outputs on a map of this size."""
    conv: Any = nn.Conv2d(channels, linear.out_features, size)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(conv.weight.shape))
        conv.bias.copy_(linear.bias)
    return conv


def _dense_layer_and_maps(draw: Draw) -> Case:
    channels, outputs = draw.integer(2, 3), draw.integer(1, 3)
    height, width = draw.integer(1, 3), draw.integer(2, 4)
    width += width == height
    room_h, room_w = draw.integer(0, 2), draw.integer(0, 2)
    return {
        "weight": draw_tensor(draw, (outputs, channels * height * width), -5, 5),
        "bias": draw_tensor(draw, (outputs,), 1, 9),
        "channels": channels,
        "size": (height, width),
        "maps": draw_tensor(draw, (draw.integer(1, 2), channels, height + room_h, width + room_w), -2, 9),
    }


class _DenseOnEveryWindow(nn.Module):
    """A dense layer on every window of a map, cut out by F.unfold: what its convolution must equal."""

    def __init__(self, linear: nn.Linear, size: Pair) -> None:
        super().__init__()
        self.linear, self.size = linear, size

    def forward(self, maps: Tensor) -> Tensor:
        windows = F.unfold(maps, self.size).transpose(1, 2)  # (N, places, C * h * w)
        rows, columns = (n - k + 1 for n, k in zip(maps.shape[2:], self.size))
        return self.linear(windows).transpose(1, 2).unflatten(2, (rows, columns))


def _wrong_conv(linear: nn.Linear, channels: int, size: Pair, weight: Tensor | None, bias: bool = True) -> nn.Conv2d:
    """A convolution made of the dense layer with a wrong weight, or without its bias."""
    conv = nn.Conv2d(channels, linear.out_features, size)
    with torch.no_grad():
        if weight is not None:
            conv.weight.copy_(weight)
        if bias and conv.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def _without_bias(linear: nn.Linear, channels: int, size: Pair) -> nn.Conv2d:
    conv = nn.Conv2d(channels, linear.out_features, size, bias=False)
    conv.weight.data.copy_(linear.weight.reshape(conv.weight.shape))
    return conv


def _channels_last(linear: nn.Linear, channels: int, size: Pair) -> nn.Conv2d:
    weight = linear.weight.reshape(-1, *size, channels).permute(0, 3, 1, 2)
    return _wrong_conv(linear, channels, size, weight)


def _all_inputs_as_channels(linear: nn.Linear, channels: int, size: Pair) -> nn.Conv2d:
    return _wrong_conv(linear, linear.in_features, (1, 1), linear.weight[:, :, None, None])


def _in_strides(linear: nn.Linear, channels: int, size: Pair) -> nn.Conv2d:
    conv = nn.Conv2d(channels, linear.out_features, size, stride=size)
    conv.load_state_dict(linear_to_conv(linear, channels, size).state_dict())
    return conv


LINEAR_TO_CONV = Exercise(
    name="linear_to_conv",
    lesson=STEM,
    title="A dense layer as a convolution",
    points=2,
    minutes=10,
    difficulty=2,
    reference=linear_to_conv,
    oracle=lambda linear, channels, size: _DenseOnEveryWindow(linear, size),
    cases=_dense_layer_and_maps,
    drive=drivers.convert_linear,
    compare=same_scores,
    runs=16,
    misconceptions=(
        Misconception(
            "channels_last",
            _channels_last,
            "You read the weights as (rows, columns, channels). PyTorch flattens a (C, H, W) map: in which order do "
            "its numbers follow each other?",
            "The order of the flattening",
        ),
        Misconception(
            "bias_not_copied",
            lambda linear, channels, size: _wrong_conv(
                linear, channels, size, linear.weight.reshape(-1, channels, *size), bias=False
            ),
            "The weights are right. The convolution still has the bias that it was born with.",
            "A dense layer is a convolution",
        ),
        Misconception(
            "bias_dropped",
            _without_bias,
            "The weights are right, but your convolution has no bias, and the dense layer has one.",
            "A dense layer is a convolution",
        ),
        Misconception(
            "one_by_one",
            _all_inputs_as_channels,
            "You made a 1x1 convolution with an input channel for every number of the flattened map. The map has only "
            "`channels` of them; its rows and columns are not channels.",
            "A dense layer is a convolution",
        ),
        Misconception(
            "weights_not_copied",
            lambda linear, channels, size: nn.Conv2d(channels, linear.out_features, size),
            "The shape is right, the weights are still random: nothing of the dense layer was taken over.",
            "A dense layer is a convolution",
        ),
        Misconception(
            "kernel_flipped",
            lambda linear, channels, size: _wrong_conv(
                linear, channels, size, linear.weight.reshape(-1, channels, *size).flip(2, 3)
            ),
            "You flipped the kernel. The convolution of mathematics does that; nn.Conv2d lays the kernel on the image "
            "as it is.",
            "A dense layer is a convolution",
        ),
        Misconception(
            "width_first",
            lambda linear, channels, size: linear_to_conv(linear, channels, (size[1], size[0])),
            "Your kernel has rows and columns exchanged. `size` is (h, w), and so is the kernel size of nn.Conv2d.",
            "The order of the flattening",
        ),
        Misconception(
            "windows_side_by_side",
            _in_strides,
            "Your convolution moves by the size of its kernel, so that its windows lie side by side. On a larger map "
            "there are windows between them.",
            "A dense layer is a convolution",
        ),
    ),
    hints=(
        "How large must a kernel be to see the whole map at once? How many numbers does it have then, and how many "
        "does one row of the dense layer's weight have?",
        "Make a fresh nn.Conv2d and print the shape of its weight and that of the dense layer's. The numbers are the "
        "same, and so is their order; what has to change?",
        "conv = nn.Conv2d(channels, ..., size), then under torch.no_grad(): "
        "conv.weight.copy_(linear.weight.reshape(...)) and conv.bias.copy_(...)",
    ),
    property="each output is the dense layer's on the window of the map that begins there, flattened.",
)


# --- convolutionalize -------------------------------------------------------------------------------------


def convolutionalize(model: nn.Sequential, channels: int, size: Pair) -> nn.Sequential:
    """Return the fully convolutional network with a classifier's weights."""
    network = nn.Sequential()
    for layer in model:
        if isinstance(layer, nn.Linear):
            network.append(linear_to_conv(layer, channels, size))
            channels, size = layer.out_features, (1, 1)
        elif not isinstance(layer, (nn.Flatten, nn.AdaptiveAvgPool2d)):
            network.append(layer)
    return network


def _classifier_and_scene(draw: Draw) -> Case:
    inputs, channels, kernel = draw.integer(1, 2), draw.integer(2, 3), draw.integer(2, 3)
    size = draw.choice(((1, 2), (2, 1), (1, 3), (2, 3)))
    layers = [f"Conv2d({inputs}, {channels}, {kernel})", "ReLU()", "MaxPool2d(2)"]
    two_poolings = draw.choice((False, True))
    if two_poolings:
        layers += [f"Conv2d({channels}, {channels}, 2)", "ReLU()", "MaxPool2d(2)"]
    if draw.choice((False, True)):
        layers.append(f"AdaptiveAvgPool2d({size})")
    layers.append("Flatten()")
    hidden = [draw.choice((5, 7)) for _ in range(draw.integer(0, 2))]  # never `channels` or what is flattened
    for before, after in pairwise([channels * size[0] * size[1], *hidden, draw.integer(2, 3)]):
        layers += [f"Linear({before}, {after})", "ReLU()"]
    model, seed = ", ".join(layers[:-1]), draw.integer(0, 999)
    stride = 4 if two_poolings else 2
    height, width = (2 * (2 * n + 1 if two_poolings else n) + kernel - 1 for n in size)  # of a window
    rows, columns = draw.integer(1, 3), draw.integer(2, 4)
    shape = (
        draw.integer(1, 2),
        inputs,
        height + stride * (rows - 1),
        width + stride * columns - draw.integer(1, stride),
    )
    scene = draw_whole_numbers(draw, shape, -3, 9)
    return {"model": model, "channels": channels, "size": size, "seed": seed, "scene": scene}


def _seen(model: nn.Sequential, size: Pair) -> tuple[Pair, int]:
    """The window that a classifier sees, and its stride, from the size of the map that it flattens."""
    height, width, stride = *size, 1
    for layer in reversed(model):
        if isinstance(layer, nn.Conv2d):
            height, width = height + layer.kernel_size[0] - 1, width + layer.kernel_size[1] - 1
        elif isinstance(layer, nn.MaxPool2d):
            height, width, stride = 2 * height, 2 * width, 2 * stride
    return (height, width), stride


class _OnEveryWindow(nn.Module):
    """A classifier on every window by itself: what the convolutionalized network must equal."""

    def __init__(self, model: nn.Sequential, window: Pair, stride: int) -> None:
        super().__init__()
        self.model, self.window, self.stride = model, window, stride

    def forward(self, scene: Tensor) -> Tensor:
        return topic.sliding_window(self.model, scene, self.window, self.stride)


def _converted(
    drop: tuple[type[nn.Module], ...] = (nn.Flatten, nn.AdaptiveAvgPool2d),
    places: Callable[[nn.Linear, bool, int, Pair], tuple[int, Pair]] = lambda layer, first, channels, size: (
        (channels, size) if first else (layer.in_features, (1, 1))
    ),
    keep: Callable[[nn.Module, bool], bool] = lambda layer, dense: True,
    change: Callable[[nn.Module, Pair], nn.Module] = lambda layer, size: layer,
) -> Callable[[nn.Sequential, int, Pair], nn.Sequential]:
    """A conversion with a mistake in it.

    Args:
        drop: layers that are left out.
        places: (dense layer, whether it is the first, channels, size) -> channels and size of the map that it sees.
        keep: (another layer, whether a dense one came before) -> whether it stays.
        change: (another layer, size) -> what it becomes.
    """

    def convert(model: nn.Sequential, channels: int, size: Pair) -> nn.Sequential:
        network = nn.Sequential()
        dense = False
        for layer in model:
            if isinstance(layer, nn.Linear):
                network.append(linear_to_conv(layer, *places(layer, not dense, channels, size)))
                dense = True
            elif not isinstance(layer, drop) and keep(layer, dense):
                network.append(change(layer, size))
        return network

    return convert


def _pooling_that_slides(layer: nn.Module, size: Pair) -> nn.Module:
    return nn.AvgPool2d(size, stride=1) if isinstance(layer, nn.AdaptiveAvgPool2d) else layer


CONVOLUTIONALIZE = Exercise(
    name="convolutionalize",
    lesson=STEM,
    title="The whole network",
    points=3,
    minutes=13,
    difficulty=2,
    reference=convolutionalize,
    oracle=lambda model, channels, size: _OnEveryWindow(model, *_seen(model, size)),
    cases=_classifier_and_scene,
    drive=drivers.convert_network,
    compare=same_scores,
    runs=16,
    misconceptions=(
        Misconception(
            "one_by_one_first",
            _converted(places=lambda layer, first, channels, size: (layer.in_features, (1, 1))),
            "You made every dense layer a 1x1 convolution, the first one too. That one sees a whole map, not one "
            "pixel: how large must its kernel be?",
            "The whole network",
        ),
        Misconception(
            "pooling_left_in",
            _converted(drop=(nn.Flatten,)),
            "You left the adaptive pooling in. It makes every map the size of the training patch's, so the heat map "
            "stays 1x1 whatever the image.",
            "The whole network",
        ),
        Misconception(
            "flatten_left_in",
            _converted(drop=(nn.AdaptiveAvgPool2d,)),
            "The dense layers became convolutions, but nn.Flatten still stands before them and turns the map into a "
            "vector.",
            "The whole network",
        ),
        Misconception(
            "relu_dropped",
            _converted(keep=lambda layer, dense: not dense),
            "The layers between the dense ones are gone: without the ReLU the network computes something else.",
            "The whole network",
        ),
        Misconception(
            "all_relus_dropped",
            _converted(keep=lambda layer, dense: not isinstance(layer, nn.ReLU)),
            "Every ReLU is gone, also those between the convolutions. They work on maps of any size.",
            "The whole network",
        ),
        Misconception(
            "relu_at_the_end",
            lambda model, channels, size: nn.Sequential(*convolutionalize(model, channels, size), nn.ReLU()),
            "There is a ReLU after the last layer too. The model has none there, and its scores may be negative.",
            "The whole network",
        ),
        Misconception(
            "pooling_slides",
            _converted(drop=(nn.Flatten,), change=_pooling_that_slides),
            "You gave the adaptive pooling its sliding form. That is right where it averaged something in training; "
            "here it left the map of a patch as it was.",
            "The whole network",
        ),
        Misconception(
            "later_layers_like_the_first",
            _converted(places=lambda layer, first, channels, size: (channels, size)),
            "You handed a later dense layer the channels or the size of the first one's map. It sees what the layer "
            "before it made: how many channels, and how large a map?",
            "The whole network",
        ),
    ),
    hints=(
        "Walk through the layers and decide for each: keep it, replace it, or leave it out. Which ones only made a "
        "vector out of the map?",
        "Keep track of what the next dense layer will see: at first `channels` and `size`, and after the first dense "
        "layer as many channels as it had outputs, on a map of 1x1.",
        "for layer in model: a Linear -> linear_to_conv(layer, channels, size), then update channels and size; "
        "Flatten and AdaptiveAvgPool2d -> nothing; any other -> as it is",
    ),
    property="every entry of the heat map is the score that the model gives to the window there, taken by itself.",
)


# --- shift_and_stitch -------------------------------------------------------------------------------------


def shift_and_stitch(network: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
    """Return the scores of the windows at every pixel, from coarse heat maps of shifted images."""
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    coarse = network(image)  # its shape tells the number of classes
    scores = coarse.new_zeros(*coarse.shape[:2], height, width)
    for down in range(stride):
        for right in range(stride):
            scores[:, :, down::stride, right::stride] = network(image[:, :, down:, right:])
    return scores


def _scene_and_stride(draw: Draw) -> Case:
    stride, kernel = draw.integer(2, 3), draw.integer(1, 3)
    channels, classes = draw.integer(1, 3), draw.integer(2, 3)
    classes += classes == channels
    window = kernel - 1 + stride
    height, width = (window + stride - 1 + draw.integer(0, 5) for _ in range(2))
    width += width == height
    return {
        "network": f"Conv2d({channels}, 3, {kernel}), ReLU(), MaxPool2d({stride}), Conv2d(3, {classes}, 1)",
        "image": draw_whole_numbers(draw, (draw.integer(1, 2), channels, height, width), 0, 9),
        "window": window,
        "stride": stride,
        "seed": draw.integer(0, 999),
    }


def _repeated(network: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    coarse = network(image).repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    return coarse[:, :, :height, :width]


def _interpolated(network: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    return F.interpolate(network(image), (height, width), mode="bilinear", align_corners=False)


def _nearest(network: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    return F.interpolate(network(image), (height, width))


def _tiled(network: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
    rows = [
        torch.cat([network(image[:, :, down:, right:]) for right in range(stride)], dim=3) for down in range(stride)
    ]
    return torch.cat(rows, dim=2)


def _stitched_by(
    shifts: Callable[[int], Sequence[Pair]],
    shift: Callable[[Tensor, int, int], Tensor] = lambda image, down, right: image[:, :, down:, right:],
    cut: bool = False,
) -> Callable[..., Tensor]:
    """A stitching with a mistake in it.

    Args:
        shifts: stride -> the shifts (down, right) that are made.
        shift: how an image is shifted.
        cut: whether what is too much in a coarse map is cut off; else it raises an error.
    """

    def stitch(network: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
        scores = torch.zeros_like(_repeated(network, image, window, stride))
        for down, right in shifts(stride):
            place = scores[:, :, down::stride, right::stride]
            coarse = network(shift(image, down, right))
            place[:] = coarse[:, :, : place.shape[2], : place.shape[3]] if cut else coarse
        return scores

    return stitch


def _all_shifts(stride: int) -> list[Pair]:
    return [(down, right) for down in range(stride) for right in range(stride)]


def _one_by_one_window(network: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int) -> Tensor:
    return topic.sliding_window(network, image, window, 1)


SHIFT_AND_STITCH = Exercise(
    name="shift_and_stitch",
    lesson=STEM,
    title="Shift and stitch",
    points=3,
    minutes=13,
    difficulty=3,
    reference=shift_and_stitch,
    oracle=lambda network, image, window, stride: topic.sliding_window(network.network, image, window, 1),
    cases=_scene_and_stride,
    examples=(
        {
            "network": "Conv2d(1, 3, 3), ReLU(), MaxPool2d(3), Conv2d(3, 2, 1)",
            "image": draw_whole_numbers(RandomDraw(0), (2, 1, 11, 13), 0, 9),
            "window": 5,
            "stride": 3,
            "seed": 0,
        },
    ),
    drive=drivers.stitch,
    runs=16,
    misconceptions=(
        Misconception(
            "repeats_one_pass",
            _repeated,
            "You ran the network once and repeated its scores. That makes the map larger, but the scores between are "
            "never computed.",
            "Shift and stitch",
        ),
        Misconception(
            "enlarges_one_pass",
            _nearest,
            "You ran the network once and enlarged its map to the nearest score. The scores between are never "
            "computed.",
            "Shift and stitch",
        ),
        Misconception(
            "interpolates",
            _interpolated,
            "You interpolated between the scores of one pass. A score between two windows belongs to a window of its "
            "own, which the network has not seen.",
            "Shift and stitch",
        ),
        Misconception(
            "laid_side_by_side",
            _tiled,
            "All the scores are there, but the coarse maps lie side by side. Neighbouring pixels come from different "
            "shifts: the maps must be interlaced.",
            "Shift and stitch",
        ),
        Misconception(
            "only_the_diagonal",
            _stitched_by(lambda stride: [(shift, shift) for shift in range(stride)]),
            "You shifted down and right by the same number only. Every shift down goes with every shift right.",
            "Shift and stitch",
        ),
        Misconception(
            "shifted_the_other_way",
            _stitched_by(_all_shifts, lambda image, down, right: F.pad(image, (right, 0, down, 0)), cut=True),
            "Your image moves down and to the right; the windows then begin before the pixel that their score is "
            "written to. Which pixels must go for the windows to begin one further on?",
            "Shift and stitch",
        ),
        Misconception(
            "rolled_the_other_way",
            _stitched_by(_all_shifts, lambda image, down, right: image.roll((down, right), (2, 3)), cut=True),
            "You rolled the image down and to the right, so that the windows begin before the pixel that their score "
            "is written to. Which pixels must go for the windows to begin one further on?",
            "Shift and stitch",
        ),
        Misconception(
            "rows_and_columns_exchanged",
            _stitched_by(_all_shifts, lambda image, down, right: image[:, :, right:, down:]),
            "You cut off rows where you write to other columns, and the other way round. Which axis of the image is "
            "which axis of the scores?",
            "Shift and stitch",
        ),
        Misconception(
            "one_shift_short",
            _stitched_by(lambda stride: _all_shifts(stride - 1)),
            "Your shifts stop one too early, and some scores are never written. range(n) ends with n - 1.",
            "Shift and stitch",
        ),
        Misconception(
            "shifts_from_one",
            _stitched_by(lambda stride: [(down + 1, right + 1) for down, right in _all_shifts(stride)]),
            "Your shifts begin at 1. The image that is not shifted at all has scores too.",
            "Shift and stitch",
        ),
        Misconception(
            "window_by_window",
            _one_by_one_window,
            "You ran the network on each window by itself. The scores are right, but nothing is shared: how many "
            "windows does one pass over a shifted image serve at once?",
            "Shift and stitch",
        ),
    ),
    hints=(
        "Without a shift the network sees the windows that begin at rows 0, stride, 2 stride, ... Take the first row "
        "of pixels away: at which rows do its windows begin now?",
        "Two loops, over the rows and over the columns that are cut off, each from 0 to stride - 1. A slice with a "
        "step names the places that the coarse map of a shift belongs to.",
        "scores[:, :, down::stride, ...] = network(image[:, :, down:, ...])",
    ),
    property="score (i, j) is the network's on the window of the image that begins at row i, column j.",
)


# --- the quiz ---------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "later_dense_kernels",
        STEM,
        "VGG-16 ends in three dense layers on a map of 512 x 7 x 7. Which kernels do they become?",
        (
            Option("1x1, 1x1, 1x1.", "The first one sees 7x7 places at once; a 1x1 kernel sees one of them."),
            Option(
                "7x7, 1x1, 1x1.",
                "The first covers its whole map; what it makes of it is 1x1, and so the others are 1x1.",
                right=True,
            ),
            Option("7x7, 7x7, 7x7.", "After the first there is a map of 1x1: a kernel of 7x7 has no room on it."),
            Option("3x3, 3x3, 1x1.", "Stacked 3x3 kernels reach as far, but they are other layers with other weights."),
        ),
    ),
    Question(
        "weights_after",
        STEM,
        "VGG-16 has 138,357,544 parameters. How many has it as a fully convolutional network?",
        (
            Option("Fewer: convolutions share their weights.", "They share them between places; each is still there."),
            Option("The same.", "Every weight is copied into another shape, none is added or left out.", right=True),
            Option("More: a kernel for every place.", "One kernel goes to all the places; nothing is added."),
        ),
    ),
    Question(
        "where_the_gain_is",
        STEM,
        "Where does the one pass save its work?",
        (
            Option("In the dense layers: as convolutions they are cheaper.", "They cost the same on every window."),
            Option(
                "In the layers before them: what windows share is computed once.",
                "A dense layer sees each window by itself in both ways; the features of the overlap are shared.",
                right=True,
            ),
            Option("Everywhere: one large batch runs faster.", "That is a matter of time, not of products saved."),
        ),
    ),
    Question(
        "padded_window",
        STEM,
        "A classifier pads its convolutions with zeros. When does its heat map hold what it says of the windows?",
        (
            Option("Always: the weights are the same.", "The weights are, but the windows' borders see other numbers."),
            Option(
                "Only for an image of the window's size.",
                "There the zeros lie in the same places; in a larger image neighbours take their place.",
                right=True,
            ),
            Option(
                "Everywhere but at the border of the image.",
                "The other way round: windows inside the image lose the zeros at all four sides.",
            ),
            Option("Never.", "On an image of the window's size the two are the same computation."),
        ),
    ),
    Question(
        "global_pooling",
        STEM,
        "A classifier ends in a global average pooling and one dense layer. How does it get a heat map?",
        (
            Option("It has one: any size goes in.", "Any size goes in, but a single vector of scores comes out."),
            Option(
                "Leave the pooling out, make the dense layer 1x1.",
                "A heat map comes out, but each entry sees one place of the map, no longer the window's mean.",
            ),
            Option(
                "Pool over windows as large as the training map, stride 1, then 1x1.",
                "Each entry is the mean over its own window, as in training.",
                right=True,
            ),
        ),
    ),
    Question(
        "what_stitching_buys",
        STEM,
        "A network of stride 4 is shifted and stitched. What is true? (More than one is.)",
        (
            Option(
                "It costs 4 passes.", "The image moves in two directions: 4 shifts down for each of 4 to the right."
            ),
            Option("It costs 16 passes and gives a score at every pixel.", "One pass for each shift.", right=True),
            Option(
                "Its scores equal the windows' at stride 1, if nothing is padded.",
                "Each pass is exact, and the shifts together reach every place.",
                right=True,
            ),
            Option("Each score sees less of the image.", "The windows keep their size; only their places are finer."),
        ),
        several=True,
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="Convolutionalizing dense layers",
    promise="Turn a classifier of patches into a network that scores a whole image in one pass: same weights, same "
    "numbers, a fraction of the work.",
    reading_minutes=30,
    before=("01_receptive_field",),
    exercises=(
        HEATMAP_SIZE,
        MACS_BOTH_WAYS,
        DENSE_AT_EVERY_PIXEL,
        LINEAR_TO_CONV,
        CONVOLUTIONALIZE,
        SHIFT_AND_STITCH,
    ),
    quiz=QUIZ,
)
