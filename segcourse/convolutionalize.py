"""From a classifier of patches to a network that labels whole images: dense layers as convolutions.

A dense layer on a (C, h, w) map is a convolution with a kernel of h x w: the same numbers, the same products.
Written so, the classifier takes images of any size from its own upwards and gives a heat map in one pass: entry
(i, j) is what the classifier says about the window at (i·stride, j·stride), and what windows share is computed
once.

Where this is exact: every layer must look at a fixed neighbourhood and at nothing else. Zero padding breaks that:
a window alone is surrounded by zeros, the same window inside an image by its neighbours. A padded network is
convolutionalized all the same (VGG-16 is), but on larger images its heat map is not its sliding window. Of the
7x7 places of VGG-16's last map only the middle one sees none of the zeros around a 224x224 window. Pooling or
normalizing over the whole map breaks it altogether, and is refused.

Sources of the facts: Giusti et al., "Fast image scanning with deep max-pooling convolutional neural networks",
ICIP 2013; Sermanet et al., "OverFeat", ICLR 2014, section 3; Long, Shelhamer & Darrell, "Fully convolutional
networks for semantic segmentation", CVPR 2015, sections 3.1 and 3.2.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]
IntOrPair = int | Pair
Network = Callable[[Tensor], Tensor]

# Layers that treat every place by itself; batch norm does so in evaluation mode.
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
_POINTWISE = (*_ACTIVATIONS, nn.Identity, nn.Dropout, nn.Dropout2d, nn.BatchNorm2d)


# --- dense layers as convolutions --------------------------------------------------------------------


def linear_to_conv(linear: nn.Linear, channels: int, size: IntOrPair) -> nn.Conv2d:
    """The dense layer on a flattened (channels, h, w) map, as a convolution with a kernel of h x w.

    `linear(x.flatten(1))` equals `linear_to_conv(linear, C, (h, w))(x)[:, :, 0, 0]` for x of (N, C, h, w). The
    weight is a copy in another shape: flattening puts channels first, then rows, then columns. For a dense layer
    that follows another one the map is 1x1, and `size=1` gives a dense layer at every pixel.

    Raises ValueError where `channels · h · w` is not the number of inputs of the layer.
    """
    h, w = _pair(size)
    if channels * h * w != linear.in_features:
        raise ValueError(
            f"this dense layer has {linear.in_features} inputs, but {channels} channels of {h}x{w} are "
            f"{channels * h * w}: give the size of the map that the classifier flattens"
        )
    conv = nn.Conv2d(channels, linear.out_features, (h, w), bias=linear.bias is not None).to(linear.weight)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, channels, h, w))
        if conv.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def dense_at_every_pixel(linear: nn.Linear, x: Tensor) -> Tensor:
    """A dense layer on the channels of each pixel, (N, C, H, W) -> (N, C_out, H, W): a 1x1 convolution."""
    return linear(x.movedim(1, -1)).movedim(-1, 1)


def convolutionalize(model: nn.Sequential, size: IntOrPair) -> nn.Sequential:
    """The fully convolutional network with the numbers of a classifier of (N, C, *size) images.

    The classifier is an nn.Sequential, nested or not: convolutions, fixed poolings and pointwise layers, then
    nn.Flatten, then nn.Linear and pointwise layers. Names and nesting stay; each dense layer becomes a
    convolution and the flattening goes. On an image of `size` the heat map is 1x1 and holds the classifier's
    scores; on larger ones its size is `output_size`. The weights are copies: training one leaves the other alone.

    Raises:
        TypeError: the model is not an nn.Sequential, so that the order of its layers is unknown.
        ValueError: a layer cannot slide (which one, why, what to write instead), or `size` is not the model's.
    """
    sees = {id(step.layer): (step.channels, step.before) for step in _walk(model, size)}
    if not any(isinstance(layer, nn.Flatten) for layer in _layers(model)):
        raise ValueError("nothing is flattened in this network: it is fully convolutional already")

    def convert(layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Linear):
            return linear_to_conv(layer, *sees[id(layer)])
        return copy.deepcopy(layer)

    return _rebuild(model, convert).train(model.training)


def _rebuild(model: nn.Sequential, convert: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in model._modules.items():
        if isinstance(layer, nn.Sequential):
            layers[name] = _rebuild(layer, convert)
        elif layer is not None and not isinstance(layer, nn.Flatten):
            layers[name] = convert(layer)
    return nn.Sequential(layers)


# --- sizes and costs ---------------------------------------------------------------------------------


def heatmap_size(size: int, window: int, stride: int) -> int:
    """Length of one axis of the heat map: how many windows fit, `floor((size - window) / stride) + 1`.

    `window` is the smallest input that gives a single entry; see `window_and_stride`.
    """
    if window < 1 or stride < 1:
        raise ValueError(f"window and stride must be at least 1, got {window} and {stride}")
    if size < window:
        raise ValueError(f"an image of {size} has no room for a window of {window}")
    return (size - window) // stride + 1


def output_size(model: nn.Sequential, size: IntOrPair) -> Pair:
    """Height and width of the map that a network makes of an image of `size`, layer by layer."""
    return [_pair(size), *(step.after for step in _walk(model, size))][-1]


def window_and_stride(network: nn.Sequential) -> tuple[Pair, Pair]:
    """The smallest image (h, w) with a single heat-map entry, and the step (h, w) from entry to entry.

    For a fully convolutional network, walking from its end: `n_in = (n_out - 1)·s + k - padding`. Where there is
    padding the window is smaller than the receptive field: 224 against 404 in VGG-16.
    """
    window, stride = [1, 1], [1, 1]
    for layer in reversed(list(_layers(network))):
        if isinstance(layer, nn.Linear | nn.Flatten):
            raise ValueError("a dense layer fits one size only; convolutionalize the network first")
        for axis, (extent, step, padding) in enumerate(_geometry(layer)):
            window[axis] = (window[axis] - 1) * step + extent - padding
            stride[axis] *= step
    return (window[0], window[1]), (stride[0], stride[1])


def macs(model: nn.Sequential, size: IntOrPair) -> int:
    """Multiply-accumulates of one image of `size`: `C_out · C_in/groups · kh · kw · H_out · W_out`, and dense ones.

    Biases, poolings and activations are not counted; products with padded zeros are.
    """
    total = 0
    for layer, _, _, (h_out, w_out) in _walk(model, size):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            total += layer.weight.numel() * h_out * w_out
    return total


class PatchCost(NamedTuple):
    """Multiply-accumulates for one image, window by window and in one pass."""

    windows: int
    one_window: int
    one_pass: int

    @property
    def all_windows(self) -> int:
        """Multiply-accumulates when each window is computed by itself."""
        return self.windows * self.one_window

    @property
    def ratio(self) -> float:
        """All windows against one pass."""
        return self.all_windows / self.one_pass


def patch_cost(model: nn.Sequential, size: IntOrPair, window: IntOrPair, stride: IntOrPair) -> PatchCost:
    """Compare a classifier on every window of an image of `size` with one pass of its convolutional form.

    `stride` is the step of the windows; the one pass always has the network's own. Where the two are equal and
    nothing is padded, the ratio says how many times the windows compute each product, on average. With a smaller
    step it says no such thing: one pass holds the scores of only some of the windows, and the counterpart is
    `shift_and_stitch`, with a pass for each of its shifts.
    """
    windows = 1
    for n, w, s in zip(_pair(size), _pair(window), _pair(stride)):
        windows *= heatmap_size(n, w, s)
    return PatchCost(windows, macs(model, window), macs(convolutionalize(model, window), size))


# --- running over an image ---------------------------------------------------------------------------


@torch.no_grad()
def sliding_window(model: Network, image: Tensor, window: IntOrPair, stride: IntOrPair = 1, batch: int = 256) -> Tensor:
    """Classify every window by itself: (N, C, H, W) -> (N, classes, H', W'), with H' from `heatmap_size`.

    Args:
        model: (B, C, *window) -> (B, classes); in evaluation mode if it has dropout or batch norm.
        image: (N, C, H, W).
        window: size of the window.
        stride: step from window to window.
        batch: windows of an image that go through the model together.
    """
    _require_image(image)
    (wh, ww), (sh, sw) = _pair(window), _pair(stride)
    rows, columns = heatmap_size(image.shape[2], wh, sh), heatmap_size(image.shape[3], ww, sw)
    windows = image.unfold(2, wh, sh).unfold(3, ww, sw)  # (N, C, H', W', wh, ww), a view: nothing is copied yet
    scores = []
    for places in torch.arange(rows * columns, device=image.device).split(batch):
        patches = windows[:, :, places // columns, places % columns].movedim(2, 1)  # (N, B, C, wh, ww)
        scores.append(model(patches.flatten(0, 1)).reshape(*patches.shape[:2], -1))
    return torch.cat(scores, dim=1).movedim(1, 2).unflatten(2, (rows, columns))


@torch.no_grad()
def shift_and_stitch(network: Network, image: Tensor, window: IntOrPair, stride: IntOrPair, batch: int = 64) -> Tensor:
    """The heat map at every pixel instead of every `stride`: (N, C, H, W) -> (N, classes, H-wh+1, W-ww+1).

    Shift the image by every (a, b) below the stride, run the network on each, and interlace: the map of shift
    (a, b) goes to rows a, a + s, a + 2s, ... and columns b, b + s, ... (Long et al. 2015, section 3.2). Without
    padding in the network this equals `sliding_window` with stride 1.

    Args:
        network: fully convolutional, (B, C, H, W) -> (B, classes, h, w); in evaluation mode.
        image: (N, C, H, W).
        window, stride: the network's own; see `window_and_stride`.
        batch: shifted images that go through the network together.
    """
    _require_image(image)
    (wh, ww), (sh, sw) = _pair(window), _pair(stride)
    height, width = heatmap_size(image.shape[2], wh, 1), heatmap_size(image.shape[3], ww, 1)
    rows, columns = -(-height // sh), -(-width // sw)  # of the map of one shift, rounded up
    crop_h, crop_w = (rows - 1) * sh + wh, (columns - 1) * sw + ww  # the image that gives such a map
    # Zeros at the far ends make all shifts equally large; what they touch is cut off at the end.
    padded = F.pad(image, (0, columns * sw - width, 0, rows * sh - height))
    shifted = padded.unfold(2, crop_h, 1).unfold(3, crop_w, 1)  # (N, C, sh, sw, crop_h, crop_w)
    shifted = shifted.permute(2, 3, 0, 1, 4, 5).flatten(0, 2)
    maps = torch.cat([network(part) for part in shifted.split(batch)])
    if maps.dim() != 4 or tuple(maps.shape[2:]) != (rows, columns):
        raise ValueError(
            f"the network makes {tuple(maps.shape[1:])} of an image of {crop_h}x{crop_w}; a window of {wh}x{ww} "
            f"and a stride of {sh}x{sw} call for a heat map of {rows}x{columns}. See window_and_stride(network)"
        )
    maps = maps.reshape(sh, sw, len(image), -1, rows, columns).permute(2, 3, 4, 0, 5, 1)  # N, K, rows, a, columns, b
    return maps.reshape(len(image), -1, rows * sh, columns * sw)[..., :height, :width]


def pad_for_centres(image: Tensor, window: IntOrPair) -> Tensor:
    """Mirror the border so that there is a window for every pixel: (N, C, H, W) -> (N, C, H+wh-1, W+ww-1).

    The window of pixel (i, j) then begins at (i, j), and the pixel is its centre: place `window // 2`.
    """
    _require_image(image)
    wh, ww = _pair(window)
    return F.pad(image, (ww // 2, (ww - 1) // 2, wh // 2, (wh - 1) // 2), mode="reflect")


# --- the lesson's classifier -------------------------------------------------------------------------


class PatchClassifier(nn.Sequential):
    """A small classifier of 32x32 patches by the class of their centre: (N, in_channels, 32, 32) -> (N, classes).

    No padding and no batch norm, so that `convolutionalize(model, 32)` equals its sliding window exactly. Maps
    shrink 32, 28, 14, 12, 6, 4; the stride is 4. The centre of a patch is the pixel (16, 16).

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of the first convolution; the others have 2 and 4 times as many, the dense layer 8 times.
    """

    WINDOW = 32

    features: nn.Sequential
    flatten: nn.Flatten
    classifier: nn.Sequential

    def __init__(self, in_channels: int = 3, classes: int = 11, width: int = 16) -> None:
        for name, value in (("in_channels", in_channels), ("classes", classes), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        features = nn.Sequential(
            nn.Conv2d(in_channels, width, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3),
            nn.ReLU(),
        )
        classifier = nn.Sequential(nn.Linear(4 * width * 4 * 4, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes))
        super().__init__(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))
        self.in_channels = in_channels

    def forward(self, patches: Tensor) -> Tensor:
        """Scores (N, classes) of patches (N, in_channels, 32, 32)."""
        expected = (self.in_channels, self.WINDOW, self.WINDOW)
        if patches.dim() != 4 or tuple(patches.shape[1:]) != expected:
            raise ValueError(
                f"PatchClassifier takes patches (N, {', '.join(map(str, expected))}), got "
                f"{tuple(patches.shape)}; for larger images use convolutionalize(model, {self.WINDOW})"
            )
        return super().forward(patches)


def random_patches(
    images: Tensor, labels: Tensor, window: int, count: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw patches with the label of their centre pixel, at random from all places where a window fits.

    Args:
        images: (N, C, H, W).
        labels: (N, H, W).
        window: side of the patches; the centre is the place `window // 2`.
        count: number of patches.
        generator: source of the random numbers, on the CPU.

    Returns:
        Patches (count, C, window, window) and labels (count,). Void centres keep their void label: train with
        `ignore_index`.
    """
    _require_image(images)
    if labels.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"images {tuple(images.shape)} need labels (N, H, W), got {tuple(labels.shape)}")
    rows, columns = heatmap_size(images.shape[2], window, 1), heatmap_size(images.shape[3], window, 1)
    n, i, j = (
        torch.randint(high, (count,), generator=generator).to(images.device) for high in (len(images), rows, columns)
    )
    patches = images.unfold(2, window, 1).unfold(3, window, 1)[n, :, i, j]
    return patches, labels[n, i + window // 2, j + window // 2]


# --- what a layer does to a size ---------------------------------------------------------------------


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a nested nn.Sequential in the order in which they run."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"expected an nn.Sequential, whose layers run one after the other, got {type(model).__name__}")
    for layer in model:
        yield from _layers(layer) if isinstance(layer, nn.Sequential) else (layer,)


class _Step(NamedTuple):
    layer: nn.Module
    channels: int  # of the map that the layer sees
    before: Pair  # size of that map; a dense layer sees it flattened
    after: Pair  # size of the map that it makes; a dense layer makes 1x1


def _walk(model: nn.Module, size: IntOrPair) -> Iterator[_Step]:
    """Every layer of a network that is shown an image of `size`, with what it does to the size."""
    channels, before, flattened = 0, _pair(size), False
    for layer in _layers(model):
        after = before
        if isinstance(layer, nn.Linear):
            places = before[0] * before[1]
            channels = channels or layer.in_features // places
            if not flattened:
                raise ValueError(f"{layer} works on the last axis alone: put nn.Flatten() before the dense layers")
            if channels * places != layer.in_features:
                raise ValueError(f"{layer} does not fit {channels} channels of {before[0]}x{before[1]}: check size")
            after = (1, 1)
        elif isinstance(layer, nn.Flatten):
            if (layer.start_dim, layer.end_dim) != (1, -1):
                raise ValueError(f"{layer} must flatten channels, rows and columns: nn.Flatten()")
            flattened = True
        else:
            geometry = _geometry(layer, before)
            if flattened and not isinstance(layer, (*_POINTWISE, nn.Softmax, nn.LogSoftmax)):
                raise ValueError(f"{layer} comes after nn.Flatten, where there is no map any more")
            h, w = ((n + pad - extent) // step + 1 for n, (extent, step, pad) in zip(before, geometry))
            after = (h, w)
            if min(after) < 1:
                raise ValueError(f"the image is too small: {layer} would see a map of {before[0]}x{before[1]}")
        yield _Step(layer, channels, before, after)
        channels = getattr(layer, "out_channels", getattr(layer, "out_features", channels))
        before = after


def _geometry(layer: nn.Module, size: Pair | None = None) -> list[tuple[int, int, int]]:
    """Extent of the kernel, step and padding (of both sides together) of a layer, for rows and for columns."""
    if isinstance(layer, _POINTWISE):
        return [(1, 1, 0)] * 2
    if isinstance(layer, nn.Softmax | nn.LogSoftmax) and layer.dim == 1:
        return [(1, 1, 0)] * 2
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) or getattr(layer, "ceil_mode", False):
        raise ValueError(f"{layer} cannot slide: {_why_not(layer, size)}")
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    dilation = (1, 1) if isinstance(layer, nn.AvgPool2d) else _pair(layer.dilation)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    if layer.padding == "same":
        padding = [e - 1 for e in extent]
    else:
        padding = [0, 0] if layer.padding == "valid" else [2 * p for p in _pair(layer.padding)]
    return list(zip(extent, stride, padding))


def _why_not(layer: nn.Module, size: Pair | None) -> str:
    if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        pool = "nn.AvgPool2d" if isinstance(layer, nn.AdaptiveAvgPool2d) else "nn.MaxPool2d"
        window = f"({size[0]}, {size[1]})" if size else "(h, w)"
        return (
            "it pools the whole map whatever its size, so that a larger image gives no larger heat map. Write a "
            f"pooling with a fixed window: {pool}({window}, stride=1) in place of a global pooling here"
        )
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):
        return "its mean and variance are those of the whole map, so that every place depends on all others"
    if isinstance(layer, nn.BatchNorm1d):
        return "it normalizes flat vectors; normalize maps with nn.BatchNorm2d before flattening"
    if isinstance(layer, nn.Softmax | nn.LogSoftmax):
        return "the scores of a heat map lie along dim=1; write that dim"
    if getattr(layer, "ceil_mode", False):
        return "ceil_mode lets windows hang over the border, which only windows at the border do; set it False"
    return "only convolutions, fixed poolings, pointwise layers, nn.Flatten and nn.Linear are known here"


def _pair(value: object) -> Pair:
    """(rows, columns) of one number or a pair."""
    rows, columns = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise TypeError(f"expected a whole number or a pair of them, got {value!r}")
    return rows, columns


def _require_image(image: Tensor) -> None:
    if image.dim() != 4:
        raise ValueError(f"expected images (N, C, H, W), got {tuple(image.shape)}")
