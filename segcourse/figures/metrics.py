"""The figures of lesson 09: counts and masks in, a matplotlib figure or a picture out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from segcourse.datasets.base import Bytes
from segcourse.metrics import ConfusionMatrix, boundary, boundary_f1, hausdorff
from segcourse.plots import OKABE_ITO, as_bytes, legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOTH, MISSED, ADDED = ((160, 160, 160), (0, 114, 178), (230, 159, 0))
"""In both masks, in the target alone, in the prediction alone: grey, and blue and orange of OKABE_ITO."""

# ---------------------------------------------------------------- scenes


def scenes_figure(images: Tensor, masks: Tensor, classes: Sequence[str], palette: Bytes) -> Figure:
    """Draw images (N, 3, H, W) in a row, and below each its mask (H, W), void in black."""
    from matplotlib.figure import Figure

    from segcourse.datasets import colourize

    figure = Figure(figsize=(9.4, 5.6))
    for (above, below), image, mask in zip(figure.subplots(2, len(images), squeeze=False).T, images, masks):
        above.imshow(as_bytes(image))
        below.imshow(colourize(mask, palette))
        above.axis("off")
        below.axis("off")
    legend(figure, masks.numpy(), classes, palette)
    return figure


# ---------------------------------------------------------------- tables


def confusion_figure(counts: Tensor, classes: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix (C, C) with each row divided by its sum: what became of the pixels of each class.

    Shares of half a percent or more are written, in percent; a class without pixels has an empty row.
    """
    from matplotlib.figure import Figure

    sums = counts.sum(1, keepdim=True)
    percent = torch.where(sums > 0, 100 * counts / sums, torch.nan).numpy()
    figure = Figure(figsize=(7.4, 5.8))
    axes = figure.subplots()
    drawn = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100)
    for t, p in np.ndindex(*percent.shape):
        if percent[t, p] >= 0.5:
            colour = "black" if percent[t, p] > 55 else "white"
            axes.text(p, t, f"{percent[t, p]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    places = range(len(classes))
    axes.set(xlabel="taken for", ylabel="is", title=title, yticks=places)
    axes.set_xticks(places, classes, rotation=45, ha="right")
    axes.set_yticklabels(classes)
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label="percent of the row", shrink=0.85)
    return figure


def classes_figure(ious: dict[str, Tensor], shares: Tensor, classes: Sequence[str]) -> Figure:
    """Draw the IoU of each class for a few predictions, classes from frequent to rare; nan has no bar.

    Args:
        ious: name of a prediction -> (C,).
        shares: (C,) the classes' shares of all pixels, written below their names.
        classes: their names.
    """
    from matplotlib.figure import Figure

    order = shares.argsort(descending=True).tolist()
    figure = Figure(figsize=(8.6, 3.6))
    axes = figure.subplots()
    width = 0.8 / len(ious)
    for number, ((name, iou), colour) in enumerate(zip(ious.items(), ("blue", "orange", "green", "purple"))):
        places = [i + (number - (len(ious) - 1) / 2) * width for i in range(len(order))]
        values = iou[order].nan_to_num(0).tolist()
        axes.bar(places, values, width, color=OKABE_ITO[colour], label=f"{name}: mean {float(iou.nanmean()):.2f}")
    labels = [f"{classes[c]}\n{100 * float(shares[c]):.1f} %" for c in order]
    axes.set_xticks(range(len(order)), labels, fontsize=8)
    axes.set(ylabel="IoU", ylim=(0, 1.02))
    figure.legend(loc="outside upper center", ncols=len(ious), frameon=False)
    return figure


def dice_figure(points: dict[str, tuple[float, float]]) -> Figure:
    """Draw Dice against IoU, with some classes on the curve, and the line where the two would be equal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.8))
    axes = figure.subplots()
    iou = np.linspace(0, 1, 101)
    axes.plot(iou, iou, "--", color="grey", label="if they were equal")
    axes.plot(iou, 2 * iou / (1 + iou), color=OKABE_ITO["blue"], label="Dice = 2 IoU / (1 + IoU)")
    for name, (x, y) in points.items():
        axes.plot(x, y, "o", color=OKABE_ITO["vermilion"])
        place = (-7, 4) if x > 0.2 else (3, 9)  # on the curve's side away from the diagonal, and clear of the axis
        axes.annotate(name, (x, y), xytext=place, textcoords="offset points", ha="right", fontsize=8)
    axes.set(xlabel="IoU", ylabel="Dice", xlim=(-0.02, 1.02), ylim=(-0.02, 1.05), aspect="equal")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return figure


# ---------------------------------------------------------------- masks


def overlay(prediction: Tensor, target: Tensor) -> Bytes:
    """Paint two masks (H, W) bool over each other: grey in both, blue missed, orange too much, white in neither."""
    picture = np.full((*target.shape, 3), 255, np.uint8)
    p, t = prediction.numpy(), target.numpy()
    for where, colour in ((p & t, BOTH), (t & ~p, MISSED), (p & ~t, ADDED)):
        picture[where] = colour
    return picture


def worst_points(a: Tensor, b: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the pair of boundary pixels that decides the Hausdorff distance: (row, column) of each.

    The first is the worst point of one mask's boundary (of several, one in the middle), the second the nearest to it of
    the other's.

    Raises:
        ValueError: one of the masks is empty.
    """
    from scipy.ndimage import distance_transform_edt

    lines = [boundary(mask).numpy() for mask in (a, b)]
    if not (lines[0].any() and lines[1].any()):
        raise ValueError("an empty mask has no worst point: give two masks with pixels in them")
    found = []
    for line, other in (lines, lines[::-1]):
        distance, nearest = distance_transform_edt(~other, return_indices=True)
        from_line = np.where(line, distance, -1)
        worst = np.argwhere(from_line == from_line.max())
        row, column = worst[len(worst) // 2]
        partner = nearest[:, row, column]
        found.append((distance[row, column], (int(row), int(column)), (int(partner[0]), int(partner[1]))))
    return max(found)[1:]


NEAR = 5
"""Two points less than so many pixels apart have no room for an arrow between them."""


def outlines_figure(panels: dict[str, tuple[Tensor, Tensor]]) -> Figure:
    """Draw pairs of masks (prediction, target) over each other, with the points that decide the Hausdorff distance.

    An arrow joins the two points; where they are too near for one, a line does, with its length written beside it.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(8.6, 3.0))
    for axes, (title, (prediction, target)) in zip(figure.subplots(1, len(panels)), panels.items()):
        axes.imshow(overlay(prediction, target))
        (row, column), (other_row, other_column) = worst_points(prediction, target)
        length = math.dist((row, column), (other_row, other_column))
        if 0 < length < NEAR:
            axes.plot((column, other_column), (row, other_row), color="black", linewidth=2, solid_capstyle="butt")
            leader = {"arrowstyle": "-", "linewidth": 0.8, "color": "black", "shrinkA": 0, "shrinkB": 0}
            middle, beside = ((column + other_column) / 2, (row + other_row) / 2), (22, 16)
            axes.annotate(f"{length:.3g} px", middle, beside, textcoords="offset points", arrowprops=leader, fontsize=9)
        elif length:
            arrow = {"arrowstyle": "<->", "linewidth": 1.6, "color": "black", "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (column, row), (other_column, other_row), arrowprops=arrow)
        values = region_and_boundary(prediction, target)
        axes.set(xticks=[], yticks=[], title=title)
        axes.set_xlabel(
            f"IoU {values['IoU']:.2f}, boundary F1 {values['boundary F1']:.2f}\n"
            f"Hausdorff {values['Hausdorff']:.1f}, HD95 {values['HD95']:.1f}"
        )
        axes.spines[:].set(visible=True, color="lightgrey")
    names = (("in both", BOTH), ("missed", MISSED), ("too much", ADDED))
    handles = [Patch(facecolor=(r / 255, g / 255, b / 255), label=name) for name, (r, g, b) in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def three_mistakes() -> dict[str, tuple[Tensor, Tensor]]:
    """Return three predictions of one mask that miss or add the same number of pixels, each with the target."""
    target = torch.zeros(44, 64, dtype=torch.bool)
    target[8:36, 10:38] = True  # 28 x 28
    strip, bite, blob = target.clone(), target.clone(), target.clone()
    strip[8:36, 38:40] = True  # two columns more: 56 pixels
    blob[2:10, 54:61] = True  # 8 x 7
    bite[8:22, 22:26] = False  # 14 x 4, from the upper edge
    return {"a strip too wide": (strip, target), "a piece far off": (blob, target), "a bite out of it": (bite, target)}


# ---------------------------------------------------------------- the widget


def small_car() -> Tensor:
    """Return the mask (56, 112) of a car 34 pixels long, with room for as much as 60 pixels to its right."""
    rows, columns = torch.arange(56)[:, None], torch.arange(112)
    body = (rows >= 24) & (rows < 37) & (columns >= 12) & (columns < 46)
    cabin = (rows >= 14) & (rows < 24) & (columns >= 19) & (columns < 38)
    wheels = [(rows - 37) ** 2 + (columns - centre) ** 2 <= 18 for centre in (19, 38)]
    return body | cabin | wheels[0] | wheels[1]


def moved(mask: Tensor, down: int, right: int, grow: int) -> Tensor:
    """Return a mask (H, W) bool, grown by so many pixels (shrunk if negative), then moved; what leaves is lost."""
    from scipy.ndimage import distance_transform_edt

    inside = mask.numpy()
    if grow > 0 and inside.any():
        inside = distance_transform_edt(~inside) <= grow
    elif grow < 0:
        inside = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] > -grow
    height, width = inside.shape
    out = np.zeros_like(inside)
    rows, columns = (range(max(0, by), min(n, n + by)) for n, by in ((height, down), (width, right)))
    if rows and columns:
        out[rows.start : rows.stop, columns.start : columns.stop] = inside[
            rows.start - down : rows.stop - down, columns.start - right : columns.stop - right
        ]
    return torch.from_numpy(out)


def region_and_boundary(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """Return what the metrics say of a mask (H, W) bool: shares from 0 to 1, and two distances in pixels."""
    matrix = ConfusionMatrix(2)
    matrix.add(prediction, target)
    return {
        "accuracy": matrix.accuracy,
        "mean IoU": matrix.mean_iou,
        "IoU": float(matrix.iou[1]),
        "Dice": float(matrix.dice[1]),
        "boundary F1": boundary_f1(prediction, target),
        "Hausdorff": hausdorff(prediction, target),
        "HD95": hausdorff(prediction, target, percentile=95),
    }


LONGEST = 60
"""The distance in pixels that fills a bar of the widget."""


@functools.cache
def _font(size: int) -> Any:
    from matplotlib.font_manager import findfont
    from PIL import ImageFont

    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def comparison_picture(prediction: Tensor, target: Tensor, scale: int = 4) -> bytes:
    """Paint two masks over each other, and beside them a bar for each metric; returns a PNG.

    Bars of shares run from 0 to 1, those of distances from 0 to LONGEST pixels; a longer distance fills its bar.
    """
    import io

    from PIL import Image, ImageDraw

    masks = Image.fromarray(overlay(prediction, target))
    masks = masks.resize((scale * masks.width, scale * masks.height), Image.Resampling.NEAREST)
    picture = Image.new("RGB", (masks.width + 350, max(masks.height, 260)), "white")
    picture.paste(masks)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, masks.width - 1, masks.height - 1), outline="grey")
    for number, (name, value) in enumerate(region_and_boundary(prediction, target).items()):
        top, left = 12 + 34 * number, masks.width + 120
        share = value if number < 5 else value / LONGEST
        colour = OKABE_ITO["green"] if number < 5 else OKABE_ITO["vermilion"]
        draw.text((left - 8, top + 11), name, "black", _font(14), "rm")
        draw.rectangle((left, top, left + 150, top + 22), outline="grey")
        if not math.isnan(share) and share > 0:
            draw.rectangle((left, top, left + 150 * min(share, 1), top + 22), fill=colour)
        draw.text((left + 158, top + 11), _written(number, value), "black", _font(14), "lm")
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def _written(number: int, value: float) -> str:
    return f"{value:.3f}" if number < 5 else f"{value:.1f} px"


def describe_move(prediction: Tensor, target: Tensor) -> str:
    """Say in one line what the picture shows."""
    values = region_and_boundary(prediction, target)
    words = [f"{name} {_written(number, value)}" for number, (name, value) in enumerate(values.items())]
    return f"{int(prediction.sum())} pixels predicted, {int(target.sum())} in the target: {', '.join(words)}."


def moving(target: Tensor, scale: int = 4) -> Any:
    """Return a widget: sliders move, grow and shrink a copy of a mask (H, W) bool, and all metrics follow."""
    import ipywidgets as w

    from segcourse.widgets import live_image

    def slider(name: str, least: int, most: int) -> Any:
        return w.IntSlider(value=0, min=least, max=most, description=name)

    controls = [slider("down", -8, 8), slider("right", -6, 60), slider("grow", -6, 6)]
    return live_image(
        controls,
        lambda *by: comparison_picture(moved(target, *by), target, scale),
        f"{scale * target.shape[1] + 350}px",
        lambda *by: describe_move(moved(target, *by), target),
    )
