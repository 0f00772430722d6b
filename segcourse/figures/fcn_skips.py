"""The figures of lesson 04: networks, score maps, scenes in, a matplotlib figure or a picture out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from segcourse.datasets.base import VOID, SegmentationSet
from segcourse.figures.training import curve
from segcourse.metrics import boundary_band
from segcourse.models.fcn import FCN, Grid, crop, fuse
from segcourse.models.vgg import pool_outputs
from segcourse.plots import OKABE_ITO, as_bytes, colour_key
from segcourse.training import History
from segcourse.transposed import bilinear_kernel
from segcourse.widgets import array_png, live_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

SKIPS = ("fc7", "pool4", "pool3")
"""The maps that FCN-8s scores, from coarse to fine."""

# ---------------------------------------------------------------- numbers that several cells and figures share


def block_labels(masks: Tensor, side: int) -> Tensor:
    """Give every block of side x side pixels its most frequent label: the best that labels of this step can do.

    Void votes for nothing; a block of void alone is labelled 0. Returns (N, H, W) int64.

    Raises:
        ValueError: the blocks do not fill the masks (N, H, W).
    """
    height, width = masks.shape[1:]
    if height % side or width % side:
        raise ValueError(f"blocks of {side} do not fill masks of {height}x{width}")
    classes = int(masks[masks != VOID].max()) + 1
    votes = F.one_hot(masks.where(masks != VOID, classes), classes + 1)[..., :-1].movedim(-1, 1).float()
    labels = F.avg_pool2d(votes, side).argmax(1)
    return labels.repeat_interleave(side, 1).repeat_interleave(side, 2)


def unit_grids(model: FCN) -> dict[str, Grid]:
    """Return where the units of pool3, pool4 and fc7 lie, in pixels of the image."""
    grid, found = Grid(), {}
    for name, stage in model.features.named_children():
        for layer in stage.children():
            if isinstance(layer, nn.Conv2d):
                grid = grid.conv(layer.kernel_size[0], layer.stride[0], int(layer.padding[0]))
            elif isinstance(layer, nn.MaxPool2d):
                grid = grid.conv(2, 2)
        found[name.replace("stage", "pool")] = grid
    return {"pool3": found["pool3"], "pool4": found["pool4"], "fc7": grid.conv(model.fc6.kernel_size[0])}


@torch.no_grad()
def feature_maps(model: FCN, image: Tensor) -> dict[str, Tensor]:
    """Return the maps of features (1, C, h, w) that the scores of an image (1, 3, H, W) are made of."""
    pools = pool_outputs(model.features, image)
    return {"pool3": pools[2], "pool4": pools[3], "fc7": model.dense(pools[4])}


@torch.no_grad()
def score_maps(model: FCN, image: Tensor) -> dict[str, Tensor]:
    """Return the coarse scores (1, K, h, w) of each map that the network scores, `fc7` first."""
    maps = feature_maps(model, image)
    layers = {"fc7": "score_fr", "pool4": "score_pool4", "pool3": "score_pool3"}
    return {name: getattr(model, layer)(maps[name]) for name, layer in layers.items() if hasattr(model, layer)}


@torch.no_grad()
def contributions(model: FCN, image: Tensor) -> dict[str, Tensor]:
    """Split the scores of FCN-8s into what fc7, pool4 and pool3 bring: three maps (K, H, W) whose sum they are.

    The head has no non-linear function, so each map can go up by itself.

    Args:
        model: an FCN-8s in evaluation mode.
        image: (1, 3, H, W), on the model's device.
    """
    if model.stride != 8:
        raise ValueError(f"expected an FCN-8s, got an FCN-{model.stride}s")
    scores = score_maps(model, image)
    result = {}
    for kept in SKIPS:
        fc7, pool4, pool3 = (s if name == kept else torch.zeros_like(s) for name, s in scores.items())
        first, second, last = model.offsets
        fused = fuse(model.up2(fc7), pool4, first)
        fused = fuse(model.up4(fused), pool3, second)
        result[kept] = crop(model.up(fused), last, image)[0]
    return result


def mixed_labels(parts: dict[str, Tensor], shares: Sequence[float]) -> Tensor:
    """Return the labels (H, W) of a weighted sum of contributions (K, H, W), from coarse to fine."""
    return torch.stack([share * part for share, part in zip(shares, parts.values(), strict=True)]).sum(0).argmax(0)


# ---------------------------------------------------------------- where maps lie


def offset_figure(layers: Sequence[tuple[int, int, int]], kernel: int, count: int, names: Sequence[str]) -> Figure:
    """Draw a map's units in a row, the coarse units above them, and the upsampled units where they come to lie.

    Args:
        layers: (kernel, stride, padding) of the layers from the map to the coarse one.
        kernel: of the upsampling, whose stride takes all the layers' strides back.
        count: how many units of the map to draw.
        names: of the map, the coarse map and the upsampled map.
    """
    from matplotlib.figure import Figure

    grid = Grid()
    for k, stride, padding in layers:
        grid = grid.conv(k, stride, padding)
    coarse = [grid.first + i * grid.step for i in range(int((count - 1 - grid.first) // grid.step) + 1)]
    up = grid.deconv(kernel, int(grid.step))
    begins = [x for x in range(count) if x >= up.first]
    figure = Figure(figsize=(8.6, 2.6))
    axes = figure.subplots()
    rows = ((0.0, range(count), "black", names[0]), (1.0, coarse, OKABE_ITO["vermilion"], names[1]))
    for height, places, colour, _ in (*rows, (-1.0, begins, OKABE_ITO["blue"], names[2])):
        axes.plot(list(places), [height] * len(places), "o", color=colour, markersize=7)
    for x in range(count):
        axes.text(x, 0.22, str(x), ha="center", va="bottom", fontsize=9)
    for number, place in enumerate(coarse):
        axes.text(place, 1.22, str(number), ha="center", va="bottom", fontsize=9, color=OKABE_ITO["vermilion"])
        axes.plot([place - (kernel - 1) / 2, place + (kernel - 1) / 2], [0.62 + 0.09 * (number % 2)] * 2, color="grey")
    for number, x in enumerate(begins):
        axes.text(x, -1.22, str(number), ha="center", va="top", fontsize=9, color=OKABE_ITO["blue"])
    # from the first upsampled unit up to where the first stamp begins, broken at the number between them
    axes.vlines([up.first] * 2, [-1, 0.48], [0, 0.62], color=OKABE_ITO["blue"], linestyle="--", linewidth=1, zorder=0)
    axes.set(xlim=(-1, count), ylim=(-1.7, 1.8), xticks=[], yticks=[1, 0, -1])
    axes.set_yticklabels([names[1], names[0], names[2]])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def handover_figure(scores: Sequence[float], factor: int) -> Figure:
    """Draw a row of scores upsampled bilinearly at once by 2·factor, and by 2 and then by factor.

    Args:
        scores: of a row of coarse units; what lies beyond them is zero.
        factor: of the second upsampling.
    """
    from matplotlib.figure import Figure

    once, twice = upsampled_both_ways(torch.tensor([[list(scores)]]).double(), factor)
    first = (2 * 2 * factor - 1) / 2  # the pixel of the first unit's centre: half a kernel in
    figure = Figure(figsize=(8.6, 2.9))
    axes = figure.subplots()
    pixels = range(once.shape[2])
    axes.plot(pixels, once[0, 0], color=OKABE_ITO["black"], label=f"×{2 * factor} at once")
    axes.plot(pixels, twice[0, 0], color=OKABE_ITO["vermilion"], linestyle="--", label=f"×2, then ×{factor}")
    axes.plot(
        [first + 2 * factor * i for i in range(len(scores))], list(scores), "o", color=OKABE_ITO["blue"], label="scores"
    )
    axes.axhline(0, color="grey", linewidth=0.6, zorder=0)
    axes.set(xlabel="pixel of the upsampled row", ylabel="score")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def upsampled_both_ways(scores: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Upsample rows of scores (N, 1, w) bilinearly at once by 2·factor, and by 2 and then factor, cut to equal places.

    Returns:
        Two tensors (N, 1, (w + 1)·2·factor).
    """
    kernels = {f: bilinear_kernel(f)[None, None].to(scores) for f in (2, factor, 2 * factor)}
    once = F.conv_transpose1d(scores, kernels[2 * factor], stride=2 * factor)
    twice = F.conv_transpose1d(F.conv_transpose1d(scores, kernels[2], stride=2), kernels[factor], stride=factor)
    border = (twice.shape[2] - once.shape[2]) // 2  # the second way begins half a step of the scores between earlier
    return once, twice[..., border : twice.shape[2] - border]


# ---------------------------------------------------------------- training in stages


def stages_figure(histories: Mapping[str, History]) -> Figure:
    """Draw the losses of trainings by name, one after the other along the axis of steps."""
    figure = curve(histories)
    axes, done = figure.axes[0], 0
    for line, history in zip(list(axes.lines), histories.values(), strict=True):
        line.set_xdata(np.asarray(line.get_xdata()) + done)
        done += len(history.losses)
        axes.axvline(done, color="grey", linewidth=0.6, zorder=0)
    axes.set(xlim=(0, done))
    return figure


# ---------------------------------------------------------------- what trained networks hold


def features_figure(image: Tensor, maps: dict[str, Tensor], grids: dict[str, Grid], channels: int = 4) -> Figure:
    """Draw the channels of each map that vary most, each unit where it lies in the image.

    Args:
        image: (3, H, W).
        maps: name -> features (1, C, h, w).
        grids: name -> where the units lie.
        channels: how many of each map.
    """
    from matplotlib.figure import Figure

    height, width = image.shape[1:]
    figure = Figure(figsize=(8.6, 1.72 * len(maps) + 0.2))
    rows = figure.subplots(len(maps), channels + 1)
    for row, (name, features) in zip(rows, maps.items()):
        _picture(row[0], as_bytes(image), "scene" if row is rows[0] else "")
        row[0].set_ylabel(f"{name}\nevery {grids[name].step:g} pixels")
        strongest = features[0].flatten(1).std(1).topk(channels).indices.tolist()
        for axes, channel in zip(row[1:], strongest):
            heat = features[0, channel].cpu().numpy()
            axes.imshow(heat, cmap="viridis", extent=_extent(grids[name], heat.shape))
            axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
            axes.set_title(f"channel {channel}", fontsize=9)
    return figure


def scores_figure(
    image: Tensor, scores: dict[str, Tensor], grids: dict[str, Grid], classes: Sequence[str], chosen: Sequence[str]
) -> Figure:
    """Draw the score maps of a few classes, one row a class, from coarse to fine; each unit where it lies.

    Args:
        image: (3, H, W).
        scores: name of the map -> scores (1, K, h, w).
        grids: name of the map -> where its units lie.
        classes: the names of all K classes.
        chosen: names of the classes to draw.
    """
    panels = {name: [s[0, list(classes).index(c)] for c in chosen] for name, s in scores.items()}
    return _signed_figure(image, panels, {name: grids[name] for name in panels}, chosen)


def contributions_figure(
    image: Tensor, parts: dict[str, Tensor], classes: Sequence[str], chosen: Sequence[str]
) -> Figure:
    """Draw what each map brings to the scores of a few classes, and the sum: one row a class.

    Args:
        image: (3, H, W).
        parts: name of the map -> its contribution (K, H, W), as `contributions` returns them.
        classes: the names of all K classes.
        chosen: names of the classes to draw.
    """
    total = {**parts, "sum": torch.stack(list(parts.values())).sum(0)}
    panels = {name: [p[list(classes).index(c)] for c in chosen] for name, p in total.items()}
    return _signed_figure(image, panels, {name: Grid() for name in panels}, chosen)


def _signed_figure(
    image: Tensor, panels: dict[str, list[Tensor]], grids: dict[str, Grid], chosen: Sequence[str]
) -> Figure:
    """Rows of classes, columns of maps; red for positive scores, blue for negative ones, one scale a row."""
    from matplotlib.figure import Figure

    height, width = image.shape[1:]
    figure = Figure(figsize=(8.6, 1.62 * len(chosen) + 0.5))
    rows = figure.subplots(len(chosen), len(panels) + 1, squeeze=False)
    for number, (row, name) in enumerate(zip(rows, chosen)):
        _picture(row[0], as_bytes(image), "scene" if number == 0 else "")
        row[0].set_ylabel(name)
        heats = [maps[number].cpu().numpy() for maps in panels.values()]
        most = max(abs(heat).max() for heat in heats)
        for axes, heat, title in zip(row[1:], heats, panels):
            extent = _extent(grids[title], heat.shape)
            drawn = axes.imshow(heat, cmap="RdBu_r", vmin=-most, vmax=most, extent=extent)
            axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
            axes.set_title(title if number == 0 else "")
            axes.set_xlabel(f"up to ±{abs(heat).max():.2g}", fontsize=8, labelpad=2)
        figure.colorbar(drawn, ax=list(row), label="score", shrink=0.9)
    return figure


def _extent(grid: Grid, shape: Sequence[int]) -> tuple[float, float, float, float]:
    """The left, right, bottom and top edge of a map's picture, in pixels of the image."""
    begin = grid.first - grid.step / 2
    return begin, begin + shape[1] * grid.step, begin + shape[0] * grid.step, begin


def _picture(axes: Axes, picture: Any, title: str) -> None:
    axes.imshow(picture)
    axes.set(title=title, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


# ---------------------------------------------------------------- the widget


def mixing(parts: dict[str, Tensor], mask: Tensor, data: SegmentationSet, scale: int = 3) -> Any:
    """Return a widget: three sliders weigh what fc7, pool4 and pool3 bring; the labels beside the mask, live.

    Args:
        parts: name of the map -> its contribution (K, H, W), from coarse to fine.
        mask: (H, W), what is right.
        data: gives the classes their names and colours.
        scale: screen pixels a pixel.
    """
    import ipywidgets as w

    parts = {name: part.cpu() for name, part in parts.items()}
    wide = {"description_width": "4em"}
    controls = [
        w.FloatSlider(value=1.0, min=0.0, max=1.0, step=0.1, description=name, style=wide, readout_format=".1f")
        for name in parts
    ]

    def draw(*shares: float) -> bytes:
        labels = mixed_labels(parts, shares)
        gap = torch.full((len(mask), 4, 3), 255, dtype=torch.uint8).numpy()
        pictures = [data.colourize(labels), gap, data.colourize(mask)]
        return array_png(torch.cat([torch.from_numpy(p) for p in pictures], dim=1).numpy(), scale)

    def describe(*shares: float) -> str:
        return describe_mix(mixed_labels(parts, shares), mask)

    box = live_image(controls, draw, f"{scale * (2 * mask.shape[1] + 4)}px", describe)
    box.children += (w.HTML(colour_key(data.classes, data.palette)),)
    return box


def describe_mix(labels: Tensor, mask: Tensor) -> str:
    """Say in one line how many pixels are right, in all and near boundaries, void left out."""
    known = mask != VOID
    near = boundary_band(mask[None])[0]
    right = labels == mask
    everywhere, at_boundaries = (float(right[part].double().mean()) for part in (known, near))
    return (
        f"Left: the labels of the mixture; right: the mask. Right pixels: {everywhere:.0%}; "
        f"near boundaries: {at_boundaries:.0%}."
    )
