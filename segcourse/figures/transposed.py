"""The figures of lesson 02: numbers and tensors in, a matplotlib figure or PNG bytes out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from segcourse.datasets.base import Bytes, colourize
from segcourse.plots import OKABE_ITO, legend, png
from segcourse.transposed import conv_matrix, conv_transpose_output_size, stamps_1d

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE = "#D7EDF9"
LIT = "#FBE0A6"
LINE = "#767676"


# --- grids of numbers ----------------------------------------------------------------------------------------


def matrices(named: Mapping[str, Tensor], line_every: int | None = None) -> Figure:
    """Draw small matrices side by side: every entry in a box, what is not zero on blue, zeros as dots.

    Args:
        named: title -> matrix (rows, columns); at most about 24 columns together are readable.
        line_every: draws a thick line after so many columns, as a row of an image ends there.
    """
    from matplotlib.figure import Figure

    widths = [m.shape[1] for m in named.values()]
    rows = max(m.shape[0] for m in named.values())
    figure = Figure(figsize=(0.42 * (sum(widths) + 2 * len(widths)), 0.42 * rows + 0.5))
    for axes, (title, matrix) in zip(_plain(figure, 1, widths), named.items()):
        axes.set_title(title)
        axes.set(xlim=(-0.1, matrix.shape[1] + 0.1), ylim=(rows + 0.1, -0.1), aspect="equal")
        for row, values in enumerate(matrix.tolist()):
            _row(axes, row, values, [PALE if value else "white" for value in values])
        if line_every:
            axes.vlines(range(0, matrix.shape[1] + 1, line_every), 0, len(matrix), color="black", linewidth=2)
    return figure


def blocks(matrix: Tensor, down: Sequence[str], across: Sequence[str]) -> Figure:
    """Draw which entries of a large matrix are not zero, and the lines between its blocks.

    Args:
        matrix: (rows, columns), dense or sparse.
        down, across: a name for each block of rows and of columns; all blocks are equally large.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    filled = (matrix.to_dense() != 0).cpu().numpy()
    rows, columns = filled.shape
    figure = Figure(figsize=(5.2, 0.5 + 4.6 * rows / columns))
    axes = figure.add_subplot()
    axes.imshow(filled, cmap=ListedColormap(["white", OKABE_ITO["blue"]]), extent=(0, columns, rows, 0))
    high, wide = rows // len(down), columns // len(across)
    axes.set_yticks([high * (i + 0.5) for i in range(len(down))], down)
    axes.set_xticks([wide * (i + 0.5) for i in range(len(across))], across)
    axes.tick_params(length=0)
    axes.hlines([high * i for i in range(1, len(down))], 0, columns, color=LINE, linewidth=0.8)
    axes.vlines([wide * i for i in range(1, len(across))], 0, rows, color=LINE, linewidth=0.8)
    axes.spines[:].set_visible(True)
    return figure


# --- stamps, step by step ------------------------------------------------------------------------------------


def stamps(
    z: Tensor, kernel: Tensor, stride: int, padding: int = 0, output_padding: int = 0, step: int | None = None
) -> Figure:
    """Draw a transposed convolution as it grows: W above, the stamps below it, their sum at the bottom.

    All three share their columns. Row i of W is lit while it is stamped; hatched columns are padding, cropped in the
    last step.

    Args:
        z: (n,) the values that stamp.
        kernel: (k,)
        stride, padding, output_padding: of the transposed convolution.
        step: 0 shows an empty canvas, i the first i stamps, n + 1 (the default) the cropped result.
    """
    from matplotlib.figure import Figure

    n = len(z)
    step = n + 1 if step is None else step
    if not 0 <= step <= n + 1:
        raise ValueError(f"step must be in 0..{n + 1}, got {step}")
    length = conv_transpose_output_size(n, len(kernel), stride, 0) + output_padding
    # A canvas is the output for padding 0; it may end in places that no stamp reaches.
    canvas = torch.zeros(n, length, dtype=z.dtype)
    canvas[:, : length - output_padding] = stamps_1d(z, kernel, stride)
    matrix = conv_matrix(kernel[None, None], length, stride).to_dense()[:n]
    cropped = {*range(padding), *range(length - padding, length)}
    done = step > n

    figure = Figure(figsize=(0.56 * (length + 3.6), 0.42 * (2 * n + 4.9)))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-3.3, length + 0.3), ylim=(2 * n + 4.0, -0.9))
    axes.text(0, -0.3, f"W, stride {stride}: row i holds the kernel")
    axes.text(0, n + 0.9, "stamps: z times its row of W")
    title = "cropped: this is W.T @ z" if done else "sum of the stamps, on the canvas"
    axes.text(0, 2 * n + 2.1, title)
    for i in range(n):
        lit = i == step - 1
        fill = [(LIT if lit else PALE) if value else "white" for value in matrix[i].tolist()]
        _row(axes, i, matrix[i].tolist(), fill, hatched=cropped, bold=lit)
        axes.text(-0.4, i + 0.5, f"row {i + 1}", ha="right", va="center", weight="bold" if lit else "normal")
        place = n + 1.2 + i
        laid = canvas[i].tolist() if i < step else [0.0] * length
        _row(axes, place, laid, [(LIT if lit else PALE) if value else "white" for value in laid], cropped, lit)
        name = f"z{i + 1} = {z[i].item():g}"
        axes.text(-0.4, place + 0.5, name, ha="right", va="center", weight="bold" if lit else "normal")
    total, bottom = canvas[:step].sum(0).tolist(), 2 * n + 2.4
    if done:
        kept = range(padding, length - padding)
        _row(axes, bottom, [total[o] for o in kept], [PALE] * len(kept), left=padding, bold=True, zeros="0")
    else:
        _row(axes, bottom, total, [PALE if value else "white" for value in total], hatched=cropped)
    if padding:
        note = "the padding is gone" if done else "hatched: padding"
        axes.text(-0.4, bottom + 0.5, note, ha="right", va="center", size=9, color="#595959")
    if output_padding and done:
        new = range(length - padding - output_padding, length - padding)
        axes.text(new[0] + output_padding / 2, bottom + 1.1, "output_padding", ha="center", va="top", size=9)
    return figure


def stamp_frames(z: Tensor, kernel: Tensor, stride: int, padding: int = 0) -> list[bytes]:
    """Return one PNG a step of `stamps`: the empty canvas, each stamp, the cropped result.

    With 32 colours in place of millions the frames look the same and take a third of the room.
    """
    return [_few_colours(png(stamps(z, kernel, stride, padding, step=step))) for step in range(len(z) + 2)]


# --- overlaps and patterns -----------------------------------------------------------------------------------


def overlaps(named: Mapping[str, Sequence[int]]) -> Figure:
    """Draw overlap counts: bars along a line, and below them their products, the counts in a plane.

    Args:
        named: title -> how many stamps cover each place of a line.
    """
    from matplotlib.figure import Figure

    lengths = [len(counts) for counts in named.values()]
    figure = Figure(figsize=(0.22 * sum(lengths) + 0.3 * len(named), 0.22 * max(lengths) + 1.6))
    grid = figure.subplots(2, len(named), squeeze=False, width_ratios=lengths, height_ratios=(1.2, 0.22 * max(lengths)))
    most = max(max(counts) for counts in named.values())
    for (top, bottom), (title, counts) in zip(grid.T, named.items()):
        top.bar(range(len(counts)), counts, color=OKABE_ITO["sky"], edgecolor=OKABE_ITO["blue"])
        top.set(title=title, ylim=(0, most + 0.6), xticks=[], yticks=range(most + 1))
        plane = torch.outer(torch.tensor(counts), torch.tensor(counts))
        bottom.imshow(plane.numpy(), cmap="Blues", vmin=0, vmax=most**2 + 3)
        bottom.set_axis_off()
        for row, values in enumerate(plane.tolist()):
            for column, value in enumerate(values):
                bottom.text(column, row, str(value), ha="center", va="center", size=9)
    return figure


def pictures(named: Mapping[str, Tensor], columns: int, size: float = 2.4) -> Figure:
    """Draw images in rows, each with its title.

    Args:
        named: title -> image, (H, W) grey or (3, H, W) colour, in [0, 1].
        columns: images a row.
        size: inches a picture is wide.
    """
    from matplotlib.figure import Figure

    rows = -(-len(named) // columns)
    height, width = next(iter(named.values())).shape[-2:]
    figure = Figure(figsize=(size * columns, (size * height / width + 0.3) * rows))
    for index, (title, image) in enumerate(named.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=LINE, linewidth=0.6)
        axes.set_title(title, size=9)
        if image.dim() == 3:
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1).cpu().numpy())
        else:
            axes.imshow(image.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
    return figure


def masks(
    named: Mapping[str, Tensor], columns: int, classes: Sequence[str], palette: Bytes, size: float = 2.4
) -> Figure:
    """Draw masks (H, W) as `pictures` in the palette's colours, and below them the names of the classes that occur."""
    coloured = {title: torch.from_numpy(colourize(mask, palette)).movedim(-1, 0) / 255 for title, mask in named.items()}
    figure = pictures(coloured, columns, size)
    figure.set_figheight(figure.get_figheight() + 0.5)
    legend(figure, torch.stack(list(named.values())).cpu().numpy(), classes, palette)
    return figure


# --- tents ---------------------------------------------------------------------------------------------------


def tents(z: Tensor, matrix: Tensor) -> Figure:
    """Draw linear upsampling as a sum of tents: lines for tents, marks where they are sampled, dots for the output.

    Args:
        z: (n,) values.
        matrix: (n·factor, n): column i holds the weights with which value i enters each output.
    """
    from matplotlib.figure import Figure

    n, factor = len(z), len(matrix) // len(z)
    places = (torch.arange(len(matrix)) + 0.5) / factor - 0.5  # where the outputs lie, measured in inputs
    figure = Figure(figsize=(8.4, 3.6))
    axes = figure.add_subplot()
    names, markers = ("blue", "orange", "green", "purple", "sky"), "os^vD"
    for i, value in enumerate(z.tolist()):
        name, marker = names[i % len(names)], markers[i % len(markers)]
        reach = matrix[:, i] > 0
        axes.plot([i - 1, i, i + 1], [0, value, 0], color=OKABE_ITO[name], linewidth=1.2)
        axes.plot(places[reach], value * matrix[reach, i], marker, color=OKABE_ITO[name], markersize=4.5)
    corners = [0.0, *z.tolist(), 0.0]
    axes.plot(range(-1, n + 1), corners, "--", color="black", linewidth=1, label="sum of the tents")
    axes.plot(places, matrix @ z, "o", color="black", markersize=5.5, label="the output: the sum at its places")
    axes.set(xlabel="place u, in input pixels", ylabel="value", ylim=(0, z.max().item() + 1.4))
    axes.set_xticks(
        range(-1, n + 1), ["-1", *(f"{i}\nz{i + 1} = {value:g}" for i, value in enumerate(z.tolist())), f"{n}"]
    )
    axes.legend(loc="upper right", frameon=False, ncols=2)
    return figure


# --- parts ---------------------------------------------------------------------------------------------------


def _few_colours(frame: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(frame)).convert("RGB").quantize(32, dither=Image.Dither.NONE)
    image.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _plain(figure: Figure, rows: int, widths: Sequence[int]) -> Sequence[Axes]:
    """Axes side by side without frames, as wide as their matrices."""
    grid = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)[0]
    for axes in grid:
        axes.set_axis_off()
    return grid


def _row(
    axes: Axes,
    top: float,
    values: Sequence[float],
    fill: Sequence[str],
    hatched: set[int] | frozenset[int] = frozenset(),
    bold: bool = False,
    left: int = 0,
    zeros: str = "·",
) -> None:
    """Draw one row of boxes with numbers; `top` is its upper edge, `left` the first box's column."""
    from matplotlib.patches import Rectangle

    for place, value in enumerate(values, start=left):
        axes.add_patch(
            Rectangle(
                (place, top), 1, 1, facecolor=fill[place - left], edgecolor="#BBBBBB" if place in hatched else LINE,
                hatch="////" if place in hatched else None, linewidth=0.8,
            )
        )  # fmt: skip
        axes.text(
            place + 0.5, top + 0.5, f"{value:g}" if value else zeros, ha="center", va="center",
            weight="bold" if bold and value else "normal", color="black" if value else LINE, size=9.5,
        )  # fmt: skip
