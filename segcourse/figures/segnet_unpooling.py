"""The figures of lesson 05: maps, indices, boxes in, a matplotlib figure, a picture or a line of text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.datasets.base import VOID, SegmentationSet
from segcourse.models.segnet import SegNetBasic
from segcourse.plots import OKABE_ITO, as_bytes, legend, name_regions, png
from segcourse.proposals import Box, Thing, crop, find_things, overlap, square
from segcourse.transposed import bed_of_nails
from segcourse.widgets import live_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLACES = ("sky", "orange", "green", "purple")
"""The colours of a window's four places: upper left, upper right, lower left, lower right."""
PALE, LIT, LINE = "#D7EDF9", "#FBE0A6", "#767676"

# ---------------------------------------------------------------- small maps and their windows


def windows_figure(named: Mapping[str, Tensor]) -> Figure:
    """Draw small maps side by side, the largest number of each 2x2 window lit; pooled maps have one number a window.

    Args:
        named: title -> map (rows, columns); those with fewer rows than the largest are pooled. Zeros are dots.
    """
    height = max(len(values) for values in named.values())

    def look(values: Tensor, row: int, column: int) -> tuple[str, bool]:
        small = len(values) < height
        top, left = row // 2 * 2, column // 2 * 2
        largest = small or bool(values[row, column] == values[top : top + 2, left : left + 2].max())
        return LIT if largest and values[row, column] else "white", largest

    figure, _, _ = _number_maps({title: (values, len(values) < height) for title, values in named.items()}, look)
    return figure


def _number_maps(
    panels: Mapping[str, tuple[Tensor, bool]], look: Callable[[Tensor, int, int], tuple[str, bool]]
) -> tuple[Figure, Axes, list[float]]:
    """Draw maps of numbers in a row.

    Args:
        panels: title -> (map, whether it is pooled: then it has no windows, and its zeros are written).
        look: (map, row, column) -> colour of the cell, whether its number is bold.

    Returns:
        The figure, its axes in units of cells, and where each map begins.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows = max(len(values) for values, _ in panels.values())
    starts, end = [], 0.5
    for title, (values, _) in panels.items():
        starts.append(end)
        end += max(values.shape[1], 0.27 * len(title)) + 1
    figure = Figure(figsize=(0.34 * (end - 0.5), 0.34 * rows + 0.7))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for left, (title, (values, small)) in zip(starts, panels.items()):
        height, width = values.shape
        top = (rows - height) / 2
        axes.text(left, -0.4 + top, title.strip(), fontsize=10)
        for i, line in enumerate(values.tolist()):
            for j, value in enumerate(line):
                face, bold = look(values, i, j)
                axes.add_patch(
                    Rectangle((left + j, top + i), 1, 1, facecolor=face, edgecolor=LINE, linewidth=0.8)
                )  # fmt: skip
                axes.text(
                    left + j + 0.5, top + i + 0.5, f"{value:g}" if value or small else "·", ha="center", va="center",
                    fontsize=9, weight="bold" if bold else "normal",
                )  # fmt: skip
        if not small:
            for i in range(0, height + 1, 2):
                axes.plot((left, left + width), (top + i, top + i), color="black", linewidth=1.4)
            for j in range(0, width + 1, 2):
                axes.plot((left + j, left + j), (top, top + height), color="black", linewidth=1.4)
    axes.set(xlim=(0, end - 0.5), ylim=(rows + 0.4, -1.3), aspect="equal")
    return figure, axes, starts


# ---------------------------------------------------------------- one pixel through pooling and unpooling


def follow_figure(numbers: Tensor, row: int, column: int) -> Figure:
    """Draw a map, its 2x2 max pooling, and what comes back by indices and by fixed places, with one pixel lit.

    Args:
        numbers: (H, W), H and W even.
        row, column: of the pixel; its window is lit everywhere, the pixel itself is framed.
    """
    from matplotlib.patches import Rectangle

    pooled, indices = F.max_pool2d(numbers[None], 2, return_indices=True)
    panels = {
        "the map": (numbers, False), "pooled": (pooled[0], True), "indices": (indices[0], True),
        "unpooled by indices": (F.max_unpool2d(pooled, indices, (2, 2))[0], False),
        "fixed places": (bed_of_nails(pooled, 2)[0], False),
    }  # fmt: skip

    def look(values: Tensor, i: int, j: int) -> tuple[str, bool]:
        small = len(values) < len(numbers)
        lit = ((i, j) if small else (i // 2, j // 2)) == (row // 2, column // 2)
        return LIT if lit else (PALE if values[i, j] or small else "white"), lit

    figure, axes, starts = _number_maps(panels, look)
    for left, (_, small) in zip(starts, panels.values()):
        if not small:
            red = OKABE_ITO["vermilion"]
            axes.add_patch(
                Rectangle((left + column, row), 1, 1, fill=False, edgecolor=red, linewidth=3, zorder=3)
            )  # fmt: skip
    return figure


def describe_pixel(numbers: Tensor, row: int, column: int) -> str:
    """Say in a line what becomes of a pixel of a map (H, W) in 2x2 max pooling and unpooling."""
    width = numbers.shape[1]
    top, left = row // 2 * 2, column // 2 * 2
    window = numbers[top : top + 2, left : left + 2]
    value, largest = numbers[row, column].item(), window.max().item()
    place = int(window.argmax())
    home = (top + place // 2, left + place % 2)
    index = home[0] * width + home[1]
    begin = f"Pixel ({row}, {column}) holds {value:g}"
    if (row, column) == home:
        fixed = "also there" if home == (top, left) else f"at ({top}, {left})"
        return (
            f"{begin}, the largest of its window. Its index is {row} · {width} + {column} = {index}, and there it "
            f"comes back; with fixed places {fixed}."
        )
    return (
        f"{begin}; the largest of its window is {largest:g}, at {home}, index {index}. The {value:g} is dropped, "
        f"and a zero comes back for it{'' if (row, column) != (top, left) else f'; with fixed places the {largest:g}'}."
    )


def follow_pixel(numbers: Tensor) -> Any:
    """Return a widget: two sliders choose a pixel of a map (H, W), which is followed through pooling and unpooling."""
    import ipywidgets as w

    row = w.IntSlider(value=1, min=0, max=numbers.shape[0] - 1, description="row")
    column = w.IntSlider(value=2, min=0, max=numbers.shape[1] - 1, description="column")

    def draw(row: int, column: int) -> bytes:
        return png(follow_figure(numbers, row, column))

    return live_image([row, column], draw, "900px", lambda row, column: describe_pixel(numbers, row, column))


# ---------------------------------------------------------------- inside a network


def places_of(indices: Tensor, width: int) -> Tensor:
    """Return the place of each maximum in its 2x2 window, 0 to 3: (..., h, w) flat indices in maps of this width."""
    return 2 * (indices // width % 2) + indices % width % 2


def inside_figure(
    panels: Mapping[str, tuple[Tensor, str]], columns: int, frame: tuple[slice, slice] | None = None
) -> Figure:
    """Draw maps of a network in rows, each in its own range, which is written below it.

    Args:
        panels: title -> (what, kind). Kinds: "map", an (H, W) tensor from dark (its least value) to bright; "sparse",
            the same with white for zeros; "places", (H, W) of 0 to 3, coloured; "image", (3, H, W); "share", (H, W)
            from 0 to 1.
        columns: panels in a row.
        frame: rows and columns to frame in the maps of the largest size, when another panel shows them enlarged.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    rows = -(-len(panels) // columns)
    largest = max(what.shape[-2:] for what, _ in panels.values())
    figure = Figure(figsize=(8.6, 2.1 * rows + 0.35))
    grid = figure.subplots(rows, columns, squeeze=False)
    four = ListedColormap([OKABE_ITO[name] for name in PLACES])
    for axes, (title, (what, kind)) in zip(grid.flat, panels.items()):
        if kind == "image":
            axes.imshow(as_bytes(what))
        elif kind == "places":
            axes.imshow(what.cpu().numpy(), cmap=four, vmin=-0.5, vmax=3.5)
        elif kind == "share":
            axes.imshow(what.detach().cpu().numpy(), cmap="viridis", vmin=0, vmax=1)
            axes.set_xlabel("violet 0, yellow 1", fontsize=8)
        else:
            values = what.detach().cpu()
            shown = values.masked_fill(values == 0, float("nan")) if kind == "sparse" else values
            axes.imshow(shown.numpy(), cmap="viridis", vmin=float(values.min()), vmax=float(values.max()) + 1e-9)
            white = ", white is zero" if kind == "sparse" else ""
            axes.set_xlabel(f"violet {values.min():.1f}, yellow {values.max():.1f}{white}", fontsize=8)
        if frame and kind in ("map", "share") and what.shape == largest:
            down, right = frame
            axes.add_patch(
                Rectangle(
                    (right.start - 0.5, down.start - 0.5), right.stop - right.start, down.stop - down.start,
                    fill=False, edgecolor=OKABE_ITO["vermilion"], linewidth=2,
                )
            )  # fmt: skip
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="lightgrey")
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    if any(kind == "places" for _, kind in panels.values()):
        names = ("upper left", "upper right", "lower left", "lower right")
        handles = [
            Patch(facecolor=OKABE_ITO[colour], edgecolor="black", label=name) for colour, name in zip(PLACES, names)
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9,
            title="where in its 2×2 window the maximum was", title_fontsize=9,
        )  # fmt: skip
    return figure


@torch.no_grad()
def watch(model: SegNetBasic, image: Tensor) -> dict[str, Tensor]:
    """Run a SegNetBasic on an image and return what its outermost encoder and decoder computed.

    Args:
        model: in evaluation mode.
        image: (3, H, W).

    Returns:
        "map" (C, H, W) before the first pooling, "pooled" and "indices" (C, h, w) after it, "unpooled" (C, H, W) and
        "dense" (C, H, W) before and after the last decoder, "scores" (classes, H, W).
    """
    seen: dict[str, Tensor] = {}

    def keep(*names: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _given: Any, out: Any) -> None:
            for name, value in zip(names, out if isinstance(out, tuple) else (out,)):
                seen[name] = value[0]

        return hook

    first: Any = model.encoder[0]
    last_up, last = model.unpool[-1], model.decoder[-1]
    hooks = [
        first[-2].register_forward_hook(keep("map")),
        first[-1].register_forward_hook(keep("pooled", "indices")),
        last_up.register_forward_hook(keep("unpooled")),
        last.register_forward_hook(keep("dense")),
    ]
    try:
        seen["scores"] = model(image[None])[0]
    finally:
        for hook in hooks:
            hook.remove()
    return seen


# ---------------------------------------------------------------- proposals

THINGS = {"tree": ("tree",), "sign": ("sign",), "car": ("car",), "person": ("pedestrian", "bicyclist")}
"""What the demonstration of DeconvNet finds, and the classes of a street that it is made of."""


def things_only(data: SegmentationSet) -> SegmentationSet:
    """Return the same images with background (0), tree, sign, car and person as their classes, as in `THINGS`."""
    table = torch.zeros(VOID + 1, dtype=torch.int64)
    table[VOID] = VOID
    colours = [np.array([235, 235, 235], np.uint8)]
    for label, names in enumerate(THINGS.values(), start=1):
        table[[data.classes.index(name) for name in names]] = label
        colours.append(data.palette[data.classes.index(names[0])])
    return replace(data, masks=table[data.masks], classes=("background", *THINGS), palette=np.stack(colours))


def largest_things(data: SegmentationSet, index: int) -> dict[str, Thing]:
    """Return the largest object of each class of a scene by the name of the class; class 0 is background."""
    found = find_things(data.masks[[index]], range(1, len(data.classes)))
    return {data.classes[thing.label]: thing for thing in sorted(found, key=lambda thing: int(thing.inside.sum()))}


def scene_figure(
    model: nn.Module, data: SegmentationSet, index: int, boxes: Sequence[Box], side: int, together: Tensor
) -> Figure:
    """Draw a scene and what a network says of the proposals that fit its largest objects, and of one that fits none.

    Args:
        model: (N, 3, side, side) -> scores, in evaluation mode.
        data, index: the scene.
        boxes: all the proposals.
        side: of what the network sees.
        together: (H, W), the labels from all proposals.
    """
    largest = largest_things(data, index)
    some = telling_boxes(boxes, list(largest.values()))
    image = data.images[index].to(next(model.parameters()).device)
    with torch.no_grad():
        said = model(torch.stack([crop(image, box, side) for box in some])).argmax(1).cpu()
    shown = dict(zip([*largest, "none of these"], some))
    return proposals_figure(
        data, index, shown, said, side, {"all proposals": together, "truth": data.masks[index]}
    )  # fmt: skip


def proposals_figure(
    data: SegmentationSet, index: int, boxes: Mapping[str, Box], labels: Tensor, side: int, named: Mapping[str, Tensor]
) -> Figure:
    """Draw a scene with some proposals, their crops with the labels that a network gave them, and whole label maps.

    Args:
        data: gives classes and colours.
        index: which scene.
        boxes: title -> proposal, up to five.
        labels: (boxes, side, side), what was said of each.
        side: of the crops in pixels.
        named: title -> label map (H, W).
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    image = data.images[index]
    figure = Figure(figsize=(8.6, 6.0))
    cells = figure.add_gridspec(2, 1, height_ratios=(1, 1.1))
    above, below = figure.add_subfigure(cells[0]), figure.add_subfigure(cells[1])
    whole = above.subplots(1, 1 + len(named))
    _picture(whole[0], as_bytes(image), "the scene and some of its proposals")
    colours = [OKABE_ITO[name] for name in ("vermilion", "blue", "yellow", "purple", "green")]
    for (top, left, bottom, right), colour in zip(boxes.values(), colours):
        whole[0].add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2)
        )
    for axes, (title, panel) in zip(whole[1:], named.items()):
        _picture(axes, data.colourize(panel), title)
        name_regions(axes, np.where(panel.numpy() == 0, -1, panel.numpy()), data.classes)
    grid = below.subplots(2, len(boxes))
    for axes, (title, box), said, colour in zip(grid.T, boxes.items(), labels, colours):
        size = f"{box[2] - box[0]}×{box[3] - box[1]}"
        _picture(axes[0], as_bytes(crop(image, box, side).clamp(0, 1)), f"{title}, {size}")
        _picture(axes[1], data.colourize(said), "")
        for place in axes:
            place.spines[:].set(visible=True, color=colour, linewidth=3)
    legend(figure, np.concatenate([panel.numpy().ravel() for panel in named.values()]), data.classes, data.palette)
    return figure


def telling_boxes(boxes: Sequence[Box], things: Sequence[Thing]) -> list[Box]:
    """Return, for each object, the box that overlaps its square most, and the box that overlaps them least."""
    squares = [square(thing.box, (thing.inside.shape[0], thing.inside.shape[1])) for thing in things]
    best = [max(boxes, key=lambda box: overlap(box, one)) for one in squares]
    return [*best, min(boxes, key=lambda box: sum(overlap(box, one) for one in squares))]


def _picture(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    axes.spines[:].set_visible(False)
