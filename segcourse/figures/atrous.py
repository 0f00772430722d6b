"""The figures of lesson 07: kernels, maps, counts in, a matplotlib figure or a picture out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segcourse.atrous import atrous_by_holes, spread_kernel, valid_fraction, valid_taps
from segcourse.plots import OKABE_ITO
from segcourse.widgets import array_png, live_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

LINE = "#777777"
PHASES = ("#F0E442", "#A6D8F5", "#E3B3D0", "#F3C58A", "#9FD8C4", "#C9C9C9", "#F2A27A", "#8FB8DE", "#FFFFFF")
"""Fills of the phases of rates 1 to 3: pale colours under black numbers."""

# ---------------------------------------------------------------- one kernel, by hand


def taps_figure(x: Sequence[float], weight: Sequence[float], rates: Sequence[int]) -> Figure:
    """Draw a row of numbers once for each rate, the kernel lying on its first units, and the sum that it makes.

    Args:
        x: the numbers.
        weight: the kernel's taps.
        rates: of the rows; with the largest one the kernel still fits.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 1.15 * len(rates) + 0.2))
    for axes, rate in zip(figure.subplots(len(rates), 1, squeeze=False)[:, 0], rates):
        taps = {t * rate: w for t, w in enumerate(weight)}
        for place, value in enumerate(x):
            inside = place <= max(taps)
            fill = OKABE_ITO["sky"] if place in taps else "#EEEEEE" if inside else "white"
            _box(axes, place, 0, f"{value:g}", fill)
            if inside:
                axes.text(place, -0.85, f"× {taps[place]:g}" if place in taps else "hole", ha="center", va="center",
                          size=9, color="black" if place in taps else LINE)  # fmt: skip
        words = " + ".join(f"{w:g}·{x[place]:g}" for place, w in taps.items())
        axes.text(len(x) - 0.2, 0, f"{words} = {sum(w * x[p] for p, w in taps.items()):g}", va="center", size=10)
        axes.text(-0.9, 0, f"rate {rate}", ha="right", va="center", size=10, weight="bold")
        axes.set(xlim=(-2.2, len(x) + 4.2), ylim=(0.6, -1.2), aspect="equal")
        axes.set_axis_off()
    return figure


def phases_figure(x: Tensor, weight: Tensor, rate: int) -> Figure:
    """Draw the hole algorithm with its numbers: the map, its phases, each convolved plainly, and interlaced again.

    Args:
        x: (H, W) whole numbers.
        weight: (k, k).
        rate: 2 or 3.
    """
    from matplotlib.figure import Figure

    weights = weight[None, None]
    starts = [(a, b) for a in range(rate) for b in range(rate)]
    figure = Figure(figsize=(8.6, 4.4))
    left, middle, then, right = figure.subplots(1, 4, width_ratios=(x.shape[1], *(2 * [rate * 2.3]), x.shape[1] - 1))
    whole = atrous_by_holes(x[None, None], weights, rate)[0, 0]
    for axes, numbers, title in ((left, x, "the map"), (right, whole, f"interlaced = rate {rate}")):
        _grid(axes, numbers, [PHASES[starts.index((i % rate, j % rate))] for i, j in np.ndindex(*numbers.shape)])
        axes.set_title(title)
    for axes, title, made in (
        (middle, "its phases", [x[a::rate, b::rate] for a, b in starts]),
        (then, "convolved plainly", [whole[a::rate, b::rate] for a, b in starts]),
    ):
        top = 0.0
        for number, part in enumerate(made):
            _grid(axes, part, [PHASES[number]] * part.numel(), top)
            top += len(part) + 0.6
        axes.set(ylim=(top - 0.8, -0.7), xlim=(-0.7, max(part.shape[1] for part in made) - 0.3), title=title)
    return figure


def _grid(axes: Axes, numbers: Tensor, fills: Sequence[str], top: float = 0.0) -> None:
    for (i, j), fill in zip(np.ndindex(*numbers.shape), fills):
        _box(axes, j, top + i, f"{numbers[i, j]:g}", fill)
    axes.set(xlim=(-0.7, numbers.shape[1] - 0.3), ylim=(top + len(numbers) - 0.3, -0.7), aspect="equal")
    axes.set_axis_off()


def _box(axes: Axes, x: float, y: float, words: str, fill: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill, edgecolor=LINE, linewidth=0.8))
    axes.text(x, y, words, ha="center", va="center", size=9.5)


# ---------------------------------------------------------------- stacks


def counts_figure(named: Mapping[str, Tensor]) -> Figure:
    """Draw on how many paths each input reaches the unit in the middle; what it never reads is hatched.

    Args:
        named: title -> (field, field) counts, as `atrous.path_counts` gives them; one scale of colours for all.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(8.6, 2.9))
    most = max(int(counts.max()) for counts in named.values())
    panels = figure.subplots(1, len(named), squeeze=False)[0]
    for axes, (title, counts) in zip(panels, named.items()):
        side = len(counts)
        axes.add_patch(
            Rectangle((-0.5, -0.5), side, side, facecolor="white", edgecolor=LINE, hatch="////", linewidth=0, zorder=0)
        )
        paths = np.ma.masked_equal(counts.numpy(), 0)
        image = axes.imshow(paths, cmap="viridis", norm=LogNorm(1, most), zorder=1)
        read = int((counts > 0).sum())
        axes.set(xticks=[], yticks=[], title=f"{title}\n{side}×{side}")
        axes.set_xlabel(f"{read} of {side**2} read\n{read / side**2:.0%}")
        axes.spines[:].set(visible=True, color=LINE)
    bar = figure.colorbar(image, ax=panels, label="paths", fraction=0.03, shrink=0.7)
    ticks = sorted({*(tick for tick in (1, 2, 5, 10, 20, 50, 100) if tick < 0.8 * most), most})
    bar.set_ticks(ticks, labels=[str(tick) for tick in ticks])
    bar.minorticks_off()
    return figure


# ---------------------------------------------------------------- strides into rates


def strides_figure(maps: Mapping[str, Tensor], finest: Tensor) -> Figure:
    """Draw one channel of maps of several output strides; outlines in the finest one mark the coarsest map's units.

    Args:
        maps: title -> (h, w), the coarsest first.
        finest: (h, w), the last of them: `maps`' values are looked at on its scale of colours.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    low, high = float(finest.min()), float(finest.max())
    coarsest = next(iter(maps.values()))
    factor = round((finest.shape[1] - 1) / (coarsest.shape[1] - 1))
    figure = Figure(figsize=(8.6, 2.7))
    for axes, (title, values) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items()):
        axes.imshow(values.numpy(), cmap="viridis", vmin=low, vmax=high)
        axes.set(xticks=[], yticks=[], title=f"{title}: {values.shape[0]}×{values.shape[1]}")
        axes.spines[:].set_visible(False)
        if values is finest:
            for row, column in np.ndindex(*coarsest.shape):
                for edge, half in (("black", 0.44), ("white", 0.32)):
                    corner = (factor * column - half, factor * row - half)
                    axes.add_patch(Rectangle(corner, 2 * half, 2 * half, fill=False, edgecolor=edge, linewidth=0.9))
    return figure


# ---------------------------------------------------------------- rates beyond the map


def fractions_figure(sizes: Mapping[str, tuple[int, int]], most: int) -> Figure:
    """Draw the share of valid taps of a 3x3 layer against its rate, a line for each size of the map.

    Args:
        sizes: name -> (height, width).
        most: the largest rate.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.add_subplot()
    rates = np.arange(1, most + 1)
    styles = ("-", "--", "-.", ":")
    for (name, size), style in zip(sizes.items(), styles):
        axes.plot(rates, [valid_fraction(size, int(rate)) for rate in rates], style, label=name)
    axes.axhline(1 / 9, color="black", linewidth=0.8)
    axes.text(2, 1 / 9 - 0.07, "1/9: a 1x1 convolution", size=9)
    axes.set(xlabel="rate", ylabel="share of taps on the map", ylim=(0, 1.02), xlim=(1, most))
    axes.legend(frameon=False)
    return figure


LARGEST_RATE = 24
"""That the widget shows."""
ROOM = (480, 640)
"""Pixels that the widget's picture has, down and across."""
INSIDE, OUTSIDE, FRAME = ((0, 114, 178), (213, 94, 0), (90, 90, 90))
"""Colours of taps on the map (blue), taps in the padding (vermilion), and the grid of the map."""


def taps_picture(size: tuple[int, int], rate: int, row: int, column: int) -> bytes:
    """Paint a map, as bright as its units have taps inside, and the nine taps of one unit of a 3x3 atrous layer.

    Taps on the map are blue squares, the middle one, which is the unit, with a white dot; taps in the padding are
    vermilion ones with a cross through them. The padding is grey and as wide as the rate.

    Args:
        size: height and width of the map.
        rate: of the layer, at most LARGEST_RATE.
        row, column: of the unit, on the map.

    Returns:
        A PNG of ROOM pixels: map and padding in the middle, as large as whole pixels for each unit allow.

    Raises:
        ValueError: the rate is too large to be shown, or the unit is not on the map.
    """
    height, columns = size
    if not 1 <= rate <= LARGEST_RATE:
        raise ValueError(f"rate={rate}: expected 1 to {LARGEST_RATE}")
    if not (0 <= row < height and 0 <= column < columns):
        raise ValueError(f"unit ({row}, {column}) is not on a map of {height}x{columns}")
    scale = min(room // (n + 2 * rate) for room, n in zip(ROOM, size))
    shade = (150 + 105 * valid_taps(size, rate).numpy() / 9).astype(np.uint8)
    cells = np.full((height + 2 * rate, columns + 2 * rate, 3), 222, np.uint8)
    cells[rate : rate + height, rate : rate + columns] = shade[:, :, None]
    canvas = cells.repeat(scale, 0).repeat(scale, 1)
    inside = np.zeros(cells.shape[:2], bool)
    inside[rate : rate + height, rate : rate + columns] = True
    lines = inside.repeat(scale, 0).repeat(scale, 1)
    lines[np.arange(lines.shape[0]) % scale != 0] &= (np.arange(lines.shape[1]) % scale == 0)[None]
    canvas[lines] = FRAME
    for down in (-rate, 0, rate):
        for right in (-rate, 0, rate):
            hit = 0 <= row + down < height and 0 <= column + right < columns
            top, left = (rate + row + down) * scale, (rate + column + right) * scale
            tile = canvas[top : top + scale, left : left + scale]
            tile[:] = INSIDE if hit else OUTSIDE
            if not hit:  # told by form, not by colour alone
                steps = np.arange(scale)
                tile[steps, steps] = tile[steps, scale - 1 - steps] = 255
            elif down == right == 0:
                tile[scale // 3 : scale - scale // 3, scale // 3 : scale - scale // 3] = 255
    picture = np.full((*ROOM, 3), 255, np.uint8)
    top, left = ((room - length) // 2 for room, length in zip(ROOM, canvas.shape))
    picture[top : top + canvas.shape[0], left : left + canvas.shape[1]] = canvas
    return array_png(picture)


def describe_taps(size: tuple[int, int], rate: int, row: int, column: int) -> str:
    """Say in one line how many taps of the unit and of all units are on the map."""
    taps = int(valid_taps(size, rate)[row, column])
    return (
        f"Map {size[0]} x {size[1]}, rate {rate}: at row {row}, column {column}, {taps} of 9 taps are on the map. "
        f"Of all units together: {valid_fraction(size, rate):.1%}."
    )


SIZES = ((13, 17), (33, 33), (41, 41))
"""Maps to choose from: 96x128 at output stride 8, 513x513 at 16, 321x321 at 8."""


def sliding_rates() -> Any:
    """Return a widget: choose a map, slide the rate and the unit, and see which taps leave the map."""
    import ipywidgets as w

    height, width = SIZES[0]
    size = w.ToggleButtons(options=[(f"{h} x {c}", (h, c)) for h, c in SIZES], value=SIZES[0])
    rate = w.IntSlider(value=6, min=1, max=LARGEST_RATE, description="rate")
    row = w.IntSlider(value=height // 2, min=0, max=height - 1, description="row")
    column = w.IntSlider(value=width // 2, min=0, max=width - 1, description="column")

    def resize(_change: Any) -> None:
        row.max, column.max = (n - 1 for n in size.value)

    def clipped(size: tuple[int, int], rate: int, row: int, column: int) -> tuple[tuple[int, int], int, int, int]:
        return size, rate, min(row, size[0] - 1), min(column, size[1] - 1)

    size.observe(resize, "value")
    return live_image(
        [size, rate, row, column],
        lambda *values: taps_picture(*clipped(*values)),
        "640px",
        lambda *values: describe_taps(*clipped(*values)),
    )


# ---------------------------------------------------------------- what cells and tables share


def grid_pattern(image: Tensor, strength: float = 0.25) -> Tensor:
    """Lay a chequered pattern of single pixels over an image (3, H, W): the finest that there is."""
    height, width = image.shape[1:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    sign = 1 - 2 * ((rows + columns) % 2)
    return (image * (1 - 2 * strength) + strength + strength * sign).clamp(0, 1)


def averaged(image: Tensor, rates: Sequence[int]) -> Tensor:
    """Average an image (3, H, W) by a stack of 3x3 layers of these rates, all weights 1/9; borders are mirrored."""
    x = image[:, None]
    for rate in rates:
        weight = spread_kernel(torch.full((1, 1, 3, 3), 1 / 9, device=x.device), rate)
        padded = torch.nn.functional.pad(x, [rate] * 4, mode="reflect")
        x = torch.nn.functional.conv2d(padded, weight)
    return x[:, 0]
