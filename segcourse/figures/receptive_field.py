"""The figures of lesson 01: numbers and tensors in, a matplotlib figure (or the words for it) out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from segcourse.plots import OKABE_ITO, png
from segcourse.receptive_field import Field, Layer, compound, footprint, output_size, reached

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOX = 0.84
"""Side of a unit in a ladder, in pixels of the image."""

PALE = "#D7EDF9"

# ---------------------------------------------------------------- ladders: what an output reads, layer by layer


def lengths(layers: Sequence[Layer], image: int) -> list[int]:
    """Units at each level for a row of `image` pixels, from the image to the last layer's output: L + 1 numbers."""
    sizes = [image]
    for layer in layers:
        sizes.append(output_size(sizes[-1], layer.kernel, layer.stride, layer.padding, layer.dilation))
    return sizes


def really_read(layers: Sequence[Layer], position: int, image: int) -> list[frozenset[int]]:
    """What an output reads of real units at each level, from the output back to the image: L + 1 sets.

    `reached` counts as if the image had no end. Here a place in the padding holds a zero and reads nothing.
    """
    sizes, levels = lengths(layers, image), [frozenset({position})]
    for layer, size in zip(reversed(layers), reversed(sizes[:-1])):
        levels.append(frozenset(i for unit in levels[-1] for i in layer.inputs(unit) if 0 <= i < size))
    return levels


def ladder(layers: Sequence[Layer], position: int, image: int, margin: int = 1) -> Figure:
    """Draw every level of a chain of layers as a row of boxes, the image at the bottom, and what one output reads.

    Each unit stands above the centre of its field, so that jump, start and half pixels can be seen. Strong boxes and
    links are read. Pale ones count for the field's size only: a dashed box lies in the padding, holds a zero and reads
    nothing; a pale box with a full border is a real unit that is reached only through padding.

    Args:
        layers: the chain; no layer transposed.
        position: the output whose field is shown.
        image: pixels in the row.
        margin: how many pixels of padding there is room for on either side.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 0.55 + 0.68 * len(layers)))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.09, 0, 0.76, 1))
    axes.set_axis_off()
    axes.set(xlim=(-margin - 0.6, image + margin - 0.4), ylim=(-0.65, len(layers) + 0.3))
    centres = [compound(layers[:level]).centre for level in range(len(layers) + 1)]
    field, truly = reached(layers, position)[::-1], really_read(layers, position, image)[::-1]
    sizes = lengths(layers, image)
    for level in reversed(range(len(layers) + 1)):
        place, seen, read, inside = centres[level], field[level], truly[level], range(sizes[level])
        _boxes(axes, [place(i) for i in inside if i not in seen], level, "white", "solid")
        _boxes(axes, [place(i) for i in seen & set(inside) - read], level, PALE, "solid")
        _boxes(axes, [place(i) for i in read], level, OKABE_ITO["sky"], "solid")
        _boxes(axes, [place(i) for i in seen - set(inside)], level, PALE, "dashed")
        name, kind = ("image", "pixel") if level == 0 else (f"layer {level}", "unit")
        beside = axes.get_yaxis_transform()
        read_here = f"{kind}s {min(seen)} to {max(seen)}" if len(seen) > 1 else f"{kind} {min(seen)}"
        axes.text(-0.11, level, "output" if level == len(layers) else name, va="center", transform=beside)
        axes.text(1.01, level, read_here, va="center", transform=beside)
        if level > 0:
            below = centres[level - 1]
            for units, colour in ((seen - read, PALE), (read, OKABE_ITO["blue"])):
                ends = [(place(i), below(j)) for i in units for j in layers[level - 1].inputs(i)]
                _links(axes, ends, level, colour)
    for pixel in range(0, image, 1 if image <= 20 else 4):
        axes.text(pixel, -0.55, str(pixel), ha="center", fontsize=8)
    return figure


def _boxes(axes: Axes, centres: Sequence[float], level: int, colour: str, line: str) -> None:
    from matplotlib.collections import PolyCollection

    side, height = BOX / 2, 0.17
    corners = [[(x - side, level - height), (x + side, level - height), (x + side, level + height),
                (x - side, level + height)] for x in centres]  # fmt: skip
    axes.add_collection(PolyCollection(corners, facecolors=colour, edgecolors="black", linewidths=0.9, linestyles=line))


def _links(axes: Axes, ends: Sequence[tuple[float, float]], level: int, colour: str) -> None:
    from matplotlib.collections import LineCollection

    lines = [[(above, level - 0.17), (below, level - 0.83)] for above, below in ends]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.8, zorder=0))


def ladder_words(layers: Sequence[Layer], position: int, image: int) -> str:
    """Say what `ladder` shows: the field of the output, how it grows layer by layer, and what lies in the padding."""
    whole = compound(layers)
    pairs = footprint(layers, position)[1:-1]
    steps = [f"units {a} to {b} of layer {len(layers) - i}" for i, (a, b) in enumerate(pairs, start=1)]
    first, last = whole.first(position), whole.last(position)
    through = f", through {' and '.join(steps)}" if steps else ""
    words = (
        f"Output {position} sees {whole.kernel} pixels, {first} to {last} of a row of {image}{through}; "
        f"centre {whole.centre(position):g}, jump {whole.stride}."
    )
    outside = sum(not 0 <= i < image for i in range(first, last + 1))
    pixels = reached(layers, position)[-1]
    holes = whole.kernel - len(pixels)
    hidden = len({i for i in pixels if 0 <= i < image} - really_read(layers, position, image)[-1])
    if outside:
        words += f" {outside} of them lie{'s' if outside == 1 else ''} in the padding."
    if holes:
        words += f" {holes} of them {'is' if holes == 1 else 'are'} not read: holes."
    if hidden:
        words += f" {hidden} in the image {'is' if hidden == 1 else 'are'} reached only through padding, to no effect."
    return words


PLAY_IMAGE = 24
"""Pixels in the row that the widget shows."""


def _play_layers(kernel: int, stride: int, padding: int, dilation: int) -> list[Layer]:
    return [Layer(3, padding=1), Layer(kernel, stride, padding, dilation), Layer(3, padding=1)]


def _play_position(layers: Sequence[Layer], position: int) -> int:
    return min(position, lengths(layers, PLAY_IMAGE)[-1] - 1)


def play(position: int, kernel: int, stride: int, padding: int, dilation: int) -> bytes:
    """Draw (as PNG) what an output sees through 3x3, a layer to play with, and 3x3; of few outputs the last."""
    layers = _play_layers(kernel, stride, padding, dilation)
    return png(ladder(layers, _play_position(layers, position), PLAY_IMAGE, margin=9))


def play_words(position: int, kernel: int, stride: int, padding: int, dilation: int) -> str:
    """Say what `play` shows."""
    layers = _play_layers(kernel, stride, padding, dilation)
    shown = _play_position(layers, position)
    words = f"{ladder_words(layers, shown, PLAY_IMAGE)} A unit of layer 2 sees {compound(layers[:2]).kernel} pixels."
    return words if shown == position else f"There is no output {position}; shown is the last one, {shown}. {words}"


# ---------------------------------------------------------------- fields of networks, holes, phases


def field_bars(fields: Mapping[str, int], image: int) -> Figure:
    """Draw the receptive fields of networks as bars, against the side of an image (a dashed line)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.7 + 0.32 * len(fields)))
    axes = figure.subplots()
    names, sizes = list(fields), list(fields.values())
    axes.barh(names, sizes, color=OKABE_ITO["sky"], edgecolor="black", linewidth=0.8)
    for row, size in enumerate(sizes):
        axes.text(size + 12, row, str(size), va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.axvline(image, color=OKABE_ITO["vermilion"], linestyle="--", zorder=0.5)
    axes.text(image + 8, -0.95, f"image of {image}", color=OKABE_ITO["vermilion"], va="center", fontsize=9)
    axes.set(xlabel="receptive field, pixels", xlim=(0, max(sizes) * 1.08), ylim=(len(sizes) - 0.5, -1.4))
    return figure


def read_share(positions: Sequence[int]) -> float:
    """Share of the pixels of a square field that are read; `positions` are those read along either axis."""
    return (len(positions) / (max(positions) - min(positions) + 1)) ** 2


def touched(patterns: Mapping[str, Sequence[int]]) -> Figure:
    """Draw which pixels of square fields are read (filled), given the positions read along either axis."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * len(patterns), 3.1))
    widest = max(max(seen) - min(seen) + 1 for seen in patterns.values())
    for axes, (name, seen) in zip(figure.subplots(1, len(patterns), squeeze=False)[0], patterns.items()):
        row = np.isin(np.arange(min(seen), max(seen) + 1), seen)
        colours = ListedColormap(["white", OKABE_ITO["sky"]])
        axes.pcolormesh(np.outer(row, row), cmap=colours, vmin=0, vmax=1, edgecolors="#888888", linewidth=0.4)
        room = (widest - len(row)) / 2 + 0.2
        axes.set(aspect="equal", xlim=(-room, len(row) + room), ylim=(-room, len(row) + room), xticks=[], yticks=[])
        axes.set_title(f"{name}\n{len(row)} x {len(row)}, {read_share(seen):.0%} read")
        for side in axes.spines.values():
            side.set_visible(False)
    return figure


def phases(field: Field, outputs: int) -> Figure:
    """Draw what each of the first outputs sees after upsampling: a bar from first to last pixel; a dot is the output.

    The dot stands where the output itself lies on the image: `outputs` and pixels have the same pitch.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.9 + 0.3 * outputs))
    axes = figure.subplots()
    kinds = len(field.phases)
    for i in range(outputs):
        first, last = field.extent(i)
        colour = OKABE_ITO[("sky", "orange", "green", "purple")[i % kinds % 4]]
        axes.barh(i, last - first + 1, left=first - 0.5, height=0.7, color=colour, edgecolor="black", linewidth=0.8)
        axes.plot(i, i, "o", color="black", markersize=5)
        axes.text(last + 0.7, i, f"{last - first + 1} pixels, phase {i % kinds}", va="center", fontsize=9)
    low, high = field.extent(0)[0], field.extent(outputs - 1)[1]
    axes.set(xlabel="pixel of the image", ylabel="output", xlim=(low - 1, high + 5), ylim=(outputs - 0.4, -0.6))
    axes.set_xticks(range(low, high + 1))
    axes.set_yticks(range(outputs))
    return figure


# ---------------------------------------------------------------- effective fields


def plain_stack(depth: int, channels: int = 8) -> nn.Sequential:
    """`depth` untrained 3x3 layers of stride 1, each with a ReLU, for images with 3 channels: something to measure."""
    layers: list[nn.Module] = []
    for before in (3, *[channels] * (depth - 1)):
        convolution = nn.Conv2d(before, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers)


def field_maps(maps: Mapping[str, Tensor], sides: Mapping[str, float]) -> Figure:
    """Draw maps of squared gradients as their square roots, each over its whole field.

    The solid square has the area of the effective field, whose side is given; the picture's edge is the field's.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(2.4 * len(maps), 3.0))
    for axes, (name, squared) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items()):
        size, side = squared.shape[-1], sides[name]
        axes.imshow(squared.sqrt().cpu().numpy(), cmap="Greys")
        corner = (size - 1) / 2 - side / 2
        axes.add_patch(Rectangle((corner, corner), side, side, fill=False, linewidth=2, color=OKABE_ITO["vermilion"]))
        axes.set(title=f"{name}\nfield {size}, effective {side:.1f}", xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(True)
    return figure


def ratio_lines(depths: Sequence[int], ratios: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw the effective field as a share of the field against depth, both axes logarithmic, a mark for every seed.

    Args:
        depths: numbers of layers.
        ratios: for each kind of network a list of runs, each with one ratio a depth.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.subplots()
    styles = zip(("blue", "vermilion", "green"), "os^")
    for (name, runs), (colour, marker) in zip(ratios.items(), styles):
        for number, run in enumerate(runs):
            label = name if number == 0 else None
            axes.plot(depths, run, marker=marker, color=OKABE_ITO[colour], linewidth=1, label=label)
    low = min(run[0] for runs in ratios.values() for run in runs)
    guide = [0.8 * low * (depths[0] / depth) ** 0.5 for depth in depths]
    axes.plot(depths, guide, "--", color="black", label="slope of 1 / sqrt(depth)")
    axes.set(xscale="log", yscale="log", xlabel="3x3 layers", ylabel="effective / field")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    ticks = (0.2, 0.3, 0.5, 0.7, 1.0)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def field_on_picture(picture: np.ndarray, squares: Mapping[str, tuple[float, float]], squared: Tensor) -> Figure:
    """Draw a picture as strong as each pixel counts, the rest fading to black, and square fields with their names.

    Args:
        picture: (H, W, 3) uint8.
        squares: for each name the side and the centre of a square field, in pixels; the centre serves both axes.
        squared: (H, W) map of squared gradients; its root, averaged over 9 x 9 pixels, sets the strength.
    """
    import torch.nn.functional as F
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(5.2, 5.2))
    axes = figure.subplots()
    weight = F.avg_pool2d(squared.sqrt()[None], 9, 1, 4)[0].cpu().numpy()[..., None]
    axes.imshow((picture * (0.2 + 0.8 * weight / weight.max())).astype(np.uint8))
    for name, (side, centre) in squares.items():
        corner = centre - side / 2
        for colour, width, line in (("black", 3, "-"), ("white", 1.2, "--" if "effective" in name else "-")):
            axes.add_patch(
                Rectangle((corner, corner), side, side, fill=False, color=colour, linewidth=width, linestyle=line)
            )
        axes.text(corner + 2, corner + 2, f"{name}: {side:.0f}", va="top", fontsize=8, color="white",
                  bbox={"facecolor": "black", "pad": 1, "edgecolor": "none"})  # fmt: skip
    axes.set_axis_off()
    return figure
