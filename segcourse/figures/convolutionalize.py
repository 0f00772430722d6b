"""The figures of lesson 03: scenes, masks, scores in, a matplotlib figure or a picture out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from segcourse.convolutionalize import Network, heatmap_size, sliding_window
from segcourse.datasets.base import VOID, Bytes, SegmentationSet
from segcourse.plots import OKABE_ITO, as_bytes, colour_key, legend, name_regions
from segcourse.widgets import array_png, frame_stack, live_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

EMPTY = (255, 255, 255)
"""What a pixel without a score is painted with."""
FIRST, LAST = ((213, 94, 0), (0, 114, 178))
"""What the first and the last window are framed in: vermilion and blue of OKABE_ITO."""

# ---------------------------------------------------------------- patches and their overlap


def patches_figure(data: SegmentationSet, index: int, corners: Sequence[tuple[int, int]], window: int) -> Figure:
    """Draw a scene and its mask with numbered windows on them, and below the patches with their labels.

    Args:
        data: where the scene comes from.
        index: which scene.
        corners: upper left pixel (row, column) of each window.
        window: side of the windows; the label is that of the pixel at `window // 2`.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    image, mask = data[index]
    figure = Figure(figsize=(8.6, 5.4))
    grid = figure.add_gridspec(2, 1, height_ratios=(2.3, 1))
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    pictures = (("scene", as_bytes(image)), ("mask: one class a pixel", data.colourize(mask)))
    for axes, (title, picture) in zip(above.subplots(1, 2), pictures):
        _picture(axes, picture, title)
        for number, (row, column) in enumerate(corners, start=1):
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), window, window, fill=False, edgecolor="white", linewidth=2.6)
            )
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), window, window, fill=False, edgecolor="black", linewidth=1.1)
            )
            centre = (column + window // 2, row + window // 2)
            axes.plot(*centre, "o", color="white", markeredgecolor="black", markersize=6)
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "black", "linewidth": 0.6}
            axes.text(column + 2, row + 3, str(number), fontsize=9, va="center", ha="center", bbox=box)
    legend(figure, mask.numpy(), data.classes, data.palette)
    for number, (axes, (row, column)) in enumerate(zip(below.subplots(1, len(corners)), corners), start=1):
        label = label_name(data, index, (row + window // 2, column + window // 2))
        _picture(axes, as_bytes(image[:, row : row + window, column : column + window]), f"{number}: {label}")
        axes.plot(window // 2, window // 2, "o", color="white", markeredgecolor="black", markersize=5)
    return figure


def label_name(data: SegmentationSet, index: int, pixel: tuple[int, int]) -> str:
    """Return the name of the class of a pixel (row, column)."""
    label = int(data.masks[index][pixel])
    return "void" if label == VOID else data.classes[label]


def overlap_figure(size: int, window: int, kernel: int, counts: Tensor, title: str) -> Figure:
    """Draw which places of a kernel each window of a row computes, and how often each place of an image is computed.

    Args:
        size: pixels in the row; its windows move by one.
        window: pixels in a window.
        kernel: pixels of the kernel, which moves by one inside the window.
        counts: (H', W') how many windows compute the kernel's place (i, j) of the image on the right.
        title: of the right part.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    windows, places = size - window + 1, size - kernel + 1
    inside = window - kernel + 1
    figure = Figure(figsize=(8.6, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for row in range(windows):
        for place in range(places):
            done = row <= place < row + inside
            left.add_patch(
                Rectangle(
                    (place - 0.46, row - 0.42), 0.92, 0.84, edgecolor="black", linewidth=0.8,
                    facecolor=OKABE_ITO["sky"] if done else "white",
                )
            )  # fmt: skip
    for place in range(places):
        times = sum(row <= place < row + inside for row in range(windows))
        left.text(place, windows - 0.1, f"{times}×", ha="center", va="center", fontweight="bold")
    left.set(
        xlim=(-0.6, places - 0.4), ylim=(windows + 0.35, -0.6), xticks=range(places), yticks=range(windows),
        xlabel="place of the kernel", ylabel="window", title=f"a row of {size} pixels: windows of {window}, "
        f"kernel of {kernel}",
    )  # fmt: skip
    left.spines[:].set_visible(False)
    left.tick_params(length=0)
    drawn = right.imshow(counts.cpu().numpy(), cmap="viridis", vmin=1)
    right.set(title=title, xlabel="column of the kernel's place", ylabel="row")
    figure.colorbar(drawn, ax=right, label="computed so many times", shrink=0.85)
    return figure


# ---------------------------------------------------------------- heat maps and segmentations


def heatmaps_figure(
    image: Tensor, probabilities: Tensor, classes: Sequence[str], chosen: Sequence[str], window: int, stride: int
) -> Figure:
    """Draw a scene and heat maps, each entry where its window's centre lies; a dashed frame shows what they cover.

    Args:
        image: (3, H, W).
        probabilities: (C, h, w).
        classes: the names of all C classes.
        chosen: names of the classes whose maps are drawn.
        window, stride: of the windows that the entries belong to.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = image.shape[1:]
    left = (window - stride) / 2 - 0.5
    right, bottom = (left + stride * n for n in (probabilities.shape[2], probabilities.shape[1]))
    figure = Figure(figsize=(8.6, 4.3))
    columns = (len(chosen) + 2) // 2
    axes = figure.subplots(2, columns)
    _picture(axes.flat[0], as_bytes(image), f"scene, {height}×{width}")
    for colour, style in (("white", "-"), ("black", "--")):
        frame = Rectangle((left, left), right - left, bottom - left, fill=False, edgecolor=colour, linestyle=style)
        axes.flat[0].add_patch(frame)
    for place, name in zip(axes.flat[1:], chosen):
        heat = probabilities[list(classes).index(name)].cpu().numpy()
        drawn = place.imshow(heat, cmap="viridis", vmin=0, vmax=1, extent=(left, right, bottom, left))
        place.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
        place.set_title(f"{name}, {heat.shape[0]}×{heat.shape[1]}")
        place.spines[:].set(visible=True, color="lightgrey")
    for place in axes.flat[1 + len(chosen) :]:
        place.set_axis_off()
    figure.colorbar(drawn, ax=axes, label="probability", shrink=0.75)
    return figure


def label_maps_figure(data: SegmentationSet, panels: dict[str, Tensor], columns: int = 3) -> Figure:
    """Draw label maps (H, W), large regions named, and images (3, H, W), with a legend of the classes that occur.

    Args:
        data: gives the classes their names and colours.
        panels: title -> image or label map; sizes may differ.
        columns: panels in a row.
    """
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(8.6, 2.45 * rows + 0.6))
    axes = figure.subplots(rows, columns, squeeze=False)
    present: list[int] = []
    for place, (title, panel) in zip(axes.flat, panels.items()):
        if panel.ndim == 3:
            _picture(place, as_bytes(panel), title)
        else:
            present += panel.unique().tolist()
            _picture(place, data.colourize(panel), title)
            name_regions(place, panel.cpu().numpy(), data.classes)
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    legend(figure, np.array(present), data.classes, data.palette)
    return figure


def _picture(axes: Axes, picture: Bytes, title: str) -> None:
    axes.imshow(picture)
    axes.set(title=title, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


# ---------------------------------------------------------------- widgets


def growing_heatmap(network: Network, image: Tensor, data: SegmentationSet, window: int, stride: int) -> Any:
    """Return a widget: sliders cut the scene to a size, the network runs on the cut, the heat map lies on top.

    Args:
        network: fully convolutional, (1, 3, H, W) -> (1, C, h, w).
        image: (3, H, W), on the network's device.
        data: gives the classes their colours.
        window, stride: the network's.
    """
    import ipywidgets as w

    def slider(name: str, largest: int) -> Any:
        start = min(largest, 2 * window)
        return w.IntSlider(value=start, min=window, max=largest, description=name, continuous_update=True)

    def draw(height: int, width: int) -> bytes:
        with torch.no_grad():
            labels = network(image[None, :, :height, :width]).argmax(1)[0]
        return windows_picture(as_bytes(image), data.colourize(labels), (height, width), window, stride)

    def describe(height: int, width: int) -> str:
        return describe_windows(height, width, window, stride)

    controls = [slider("height", image.shape[1]), slider("width", image.shape[2])]
    box = live_image(controls, draw, f"{4 * image.shape[2]}px", describe)
    box.children += (w.HTML(colour_key(data.classes, data.palette)),)
    return box


def describe_windows(height: int, width: int, window: int, stride: int) -> str:
    """Say in one line how large the heat map of an image is, and how many rows and columns no window reaches."""
    rows, columns = (heatmap_size(size, window, stride) for size in (height, width))
    over = [(size - window) % stride for size in (height, width)]
    return (
        f"Image {height} x {width}: {rows} x {columns} windows, so the heat map is {rows} x {columns}. "
        f"Left over at the bottom: {over[0]} rows; at the right: {over[1]} columns."
    )


def windows_picture(
    image: Bytes, colours: Bytes, size: tuple[int, int], window: int, stride: int, scale: int = 4
) -> bytes:
    """Paint a heat map where it belongs: each entry at the centre of its window, on the part of the scene it is of.

    The first window is framed in orange, the last one in blue; what no window reaches is hatched; the rest of the
    scene is faded.

    Args:
        image: the whole scene, (H, W, 3).
        colours: the heat map's colours, (h, w, 3).
        size: height and width of the part that was classified, at the upper left.
        window, stride: of the windows.
        scale: screen pixels a pixel.

    Returns:
        A PNG of scale·H x scale·W pixels.

    Raises:
        ValueError: the heat map has another size than the windows of this part of the scene.
    """
    fit = tuple(heatmap_size(n, window, stride) for n in size)
    if colours.shape[:2] != fit:
        raise ValueError(f"a part of {size[0]}x{size[1]} has {fit} windows; the heat map is {colours.shape[:2]}")
    picture = image.astype(np.float32)
    part = np.zeros(image.shape[:2], bool)
    part[: size[0], : size[1]] = True
    picture[~part] = 0.25 * picture[~part] + 0.75 * 255
    margin = (window - stride + 1) // 2
    blocks = colours.repeat(stride, 0).repeat(stride, 1)
    picture[margin : margin + len(blocks), margin : margin + blocks.shape[1]] = blocks
    reached = [(n - 1) * stride + window for n in fit]
    over = part.copy()
    over[: reached[0], : reached[1]] = False
    canvas = picture.round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    rows, columns = np.indices(canvas.shape[:2])
    hatch = over.repeat(scale, 0).repeat(scale, 1) & ((rows + columns) % 8 < 3)
    canvas[hatch] = (0, 0, 0)
    last = [(n - 1) * stride for n in fit]
    _frame(canvas, (scale * last[0], scale * last[1]), scale * window, LAST)
    _frame(canvas, (0, 0), scale * window, FIRST)
    return array_png(canvas)


def _frame(canvas: Bytes, corner: tuple[int, int], side: int, colour: Sequence[int]) -> None:
    """Draw a square's outline, three pixels wide with a thin white edge inside, so that it shows on any ground."""
    top, left = corner
    for inset, paint in ((0, colour), (1, colour), (2, colour), (3, (255, 255, 255))):
        block = canvas[top + inset : top + side - inset, left + inset : left + side - inset]
        block[0] = block[-1] = paint
        block[:, 0] = block[:, -1] = paint


def stitch_frames(labels: Bytes, stride: int) -> list[Bytes]:
    """Paint how shifted passes fill a map: frame k holds the pixels of the first k passes, k = 0 ... stride².

    Args:
        labels: the stitched map in colours, (H, W, 3).
        stride: of the network; pass a·stride + b is that of the image shifted by a rows and b columns.
    """
    frame = np.empty_like(labels)
    frame[:] = EMPTY
    frames = [frame.copy()]
    for down in range(stride):
        for right in range(stride):
            frame[down::stride, right::stride] = labels[down::stride, right::stride]
            frames.append(frame.copy())
    return frames


def stitching(data: SegmentationSet, labels: Tensor, stride: int, scale: int = 5) -> Any:
    """Return a widget: a slider over the passes of shift-and-stitch, on a stitched label map (H, W)."""
    pictures = stitch_frames(data.colourize(labels), stride)
    box = frame_stack([array_png(p, scale) for p in pictures], "passes", f"{scale * labels.shape[1]}px")
    slider, stack = box.children
    slider.value = stack.selected_index = 1  # none at all is a white picture
    return box


# ---------------------------------------------------------------- numbers that several cells and the tables share


@torch.no_grad()
def upsampled_labels(network: Network, images: Tensor, window: int, stride: int, mode: str) -> Tensor:
    """Label every pixel from one coarse heat map: (N, 3, H, W) -> (N, H, W) int64.

    The border is mirrored by (window - stride) / 2, so that entry (i, j) sits at the centre of its stride x stride
    pixels, as `F.interpolate` takes it to.

    Args:
        network: fully convolutional.
        images: H and W divisible by the stride.
        window, stride: the network's; their difference is even.
        mode: `nearest`, or `bilinear` for scores between the centres.
    """
    margin = (window - stride) // 2
    scores = network(F.pad(images, (margin,) * 4, mode="reflect"))
    aligned = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(scores, images.shape[2:], mode=mode, **aligned).argmax(1)


def pixel_accuracy(labels: Tensor, masks: Tensor) -> float:
    """Return the share of pixels with the right label, void left out."""
    known = masks != VOID
    return float((labels == masks)[known].double().mean())


@torch.no_grad()
def same_as_windows(network: Network, image: Tensor, window: int, stride: int) -> bool:
    """Tell whether one pass over an image gives what the network says of each window by itself.

    Args:
        network: (B, C, window, window) -> (B, K) or (B, K, 1, 1), and the whole image in one pass.
        image: (N, C, H, W).
        window, stride: of the windows.

    Returns:
        True if the sizes agree, and the numbers to 1/10,000 of the largest.
    """
    one_pass, by_window = network(image), sliding_window(network, image, window, stride)
    if one_pass.shape != by_window.shape:
        return False
    return float((one_pass - by_window).abs().max()) <= 1e-4 * float(by_window.abs().max())
