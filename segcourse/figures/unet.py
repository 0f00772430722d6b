"""The figures of lesson 06: cells, weights, tiles and feature maps in, a matplotlib figure or a picture out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from segcourse.border_weights import balanced_weights, border_weights, separate
from segcourse.datasets.base import Bytes
from segcourse.datasets.cells import CellSet
from segcourse.elastic import elastic
from segcourse.instances import components
from segcourse.models.unet import UNet, crop_and_concat
from segcourse.plots import OKABE_ITO, white_rim
from segcourse.tiles import mirror
from segcourse.widgets import array_png, frame_stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Generator, Tensor

SHADES = np.array(
    [[int(OKABE_ITO[name][i : i + 2], 16) for i in (1, 3, 5)] for name in
     ("orange", "sky", "green", "yellow", "blue", "vermilion", "purple")], np.uint8
)  # fmt: skip
"""Colours that single cells take in turn."""
GROUND: Bytes = np.array((45, 52, 66), np.uint8)
UNDONE: Bytes = np.array((196, 214, 232), np.uint8)
"""Where a tile's scores are still to come: a pale blue, which no probability has."""
RIM: Bytes = np.array((120, 120, 120), np.uint8)
"""Of the picture that tiles fill: a probability of 1 is as white as the page."""
INPUT, OUTPUT = ((213, 94, 0), (0, 114, 178))
"""What a tile's input and its output are framed in: vermilion and blue of OKABE_ITO."""

Weigh = Callable[["Tensor"], "Tensor"]
"""Instances (N, H, W) -> the weight of each pixel's loss (N, H, W)."""
CONTEXT = 16
"""Pixels of a crop's margin in which its weights see cells. With sigma 5, cells further out would add less than 0.1."""

# ---------------------------------------------------------------- what the lesson and its experiments train on


def cell_batches(
    data: CellSet,
    weigh: Weigh | None = None,
    batch_size: int = 8,
    size: int = 96,
    margin: int = 0,
    bend: float = 4.0,
) -> Callable[[Generator], tuple[Tensor, ...]]:
    """Return a function that draws crops of cells, bent, turned and mirrored, as `train` takes it.

    The numbers of the cells are bent, not their mask: a bent mask closes gaps of a pixel. Where two cells touch after
    that, `separate` puts background, and mask and weights are those of what is left.

    Args:
        data: what to cut from.
        weigh: instances (N, H, W) -> the weight of each pixel's loss. None for none.
        batch_size: crops in a batch.
        size: side of the masks.
        margin: how much larger than its mask an image is, both sides together; mirrored where it leaves the picture.
        bend: standard deviation of the elastic deformation, in pixels.
    """
    half, side = margin // 2, size + margin
    images, instances = (mirror(x, (half, half), (half, half)) for x in (data.images, data.instances[:, None]))
    room = [n - side + 1 for n in images.shape[2:]]
    around = min(half, CONTEXT)
    outer, inner = slice(half - around, half + size + around), slice(around, around + size)

    def draw(generator: Generator) -> tuple[Tensor, ...]:
        def dice(sides: int) -> int:
            return int(torch.randint(sides, (1,), generator=generator))

        chosen = [(dice(len(data)), dice(room[0]), dice(room[1]), dice(4), dice(2)) for _ in range(batch_size)]

        def cut(maps: Tensor) -> Tensor:
            crops = [(maps[i, :, y : y + side, x : x + side], turns, flip) for i, y, x, turns, flip in chosen]
            return torch.stack(
                [c.rot90(turns, (1, 2)).flip(2) if flip else c.rot90(turns, (1, 2)) for c, turns, flip in crops]
            )

        bent, numbers = elastic(cut(images), cut(instances), generator, bend)
        apart = separate(numbers[:, 0, outer, outer])
        drawn = (bent, (apart > 0).long()[:, inner, inner])
        return drawn if weigh is None else (*drawn, weigh(apart)[:, inner, inner])

    return draw


def loss_weights(data: CellSet, kind: str) -> Weigh | None:
    """Return what weighs the pixels of a training: None for `plain`; for `border 3`, the weights with that sigma.

    Classes are balanced over all of `data`.
    """
    if kind == "plain":
        return None
    sigma = float(kind.removeprefix("border "))
    balance = balanced_weights(data.instances == 0)
    return lambda instances: border_weights(instances, w0=10, sigma=sigma, class_weights=balance)


# ---------------------------------------------------------------- cells and the weights of their pixels


def instance_colours(instances: Tensor) -> Bytes:
    """Paint each cell of (H, W) in a colour, the background dark: (H, W, 3)."""
    numbers = instances.cpu().numpy()
    return np.where((numbers > 0)[..., None], SHADES[numbers % len(SHADES)], GROUND)


def cells_figure(data: CellSet, index: int) -> Figure:
    """Draw an image of cells, its mask, and its single cells."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.1))
    image, mask = data[index]
    instances = data.instances[index]
    panels: dict[str, Tensor | Bytes] = {
        "image": image[0],
        "mask: cell or background": data.colourize(mask),
        f"instances: {len(instances.unique()) - 1} cells, colours repeat": instance_colours(instances),
    }
    for axes, (title, picture) in zip(figure.subplots(1, 3), panels.items()):
        _picture(axes, picture, title)
    return figure


def busiest(weights: Tensor, side: int) -> tuple[slice, slice]:
    """Return the rows and columns of the square of a map (H, W) that has the largest sum."""
    sums = F.avg_pool2d(weights[None, None].float(), side, stride=1)[0, 0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return slice(top, top + side), slice(left, left + side)


def weights_figure(image: Tensor, instances: Tensor, maps: dict[str, Tensor]) -> Figure:
    """Draw an image (H, W) with the outlines of its cells, and weight maps (H, W) on one scale.

    Args:
        image: (H, W).
        instances: (H, W).
        maps: title -> weights.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.3))
    axes = figure.subplots(1, 1 + len(maps))
    _picture(axes[0], image, "image, outlines of the cells")
    _outline(axes[0], instances > 0, "orange")
    highest = max(float(weights.max()) for weights in maps.values())
    for place, (title, weights) in zip(axes[1:], maps.items()):
        drawn = place.imshow(weights.cpu().numpy(), cmap="viridis", vmin=0, vmax=highest)
        place.set(title=title, xticks=[], yticks=[])
        _outline(place, instances > 0, "white")
    figure.colorbar(drawn, ax=list(axes[1:]), label="weight of the pixel", shrink=0.8)
    return figure


def merges_figure(image: Tensor, instances: Tensor, masks: dict[str, Tensor]) -> Figure:
    """Draw an image and predicted masks, true cells outlined: blue holds one cell, vermilion several, grey none.

    Args:
        image: (H, W).
        instances: (H, W).
        masks: title -> predicted mask (H, W), cell is not 0.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(8.6, 3.6))
    axes = figure.subplots(1, 1 + len(masks))
    _picture(axes[0], image, "image")
    for place, (title, mask) in zip(axes[1:], masks.items()):
        _picture(place, held_colours(mask, instances), title)
        _outline(place, instances > 0, "white")
    meanings = {"sky": "one cell", "vermilion": "several cells in one piece", "grey": "no cell held"}
    handles = [Patch(facecolor=OKABE_ITO.get(c, "#a0a0a0"), edgecolor="black", label=t) for c, t in meanings.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def held_colours(mask: Tensor, instances: Tensor) -> Bytes:
    """Paint each connected piece of a mask (H, W) by how many cells it holds: none grey, one blue, more vermilion."""
    pieces, cells = components(mask.cpu().numpy() != 0), instances.cpu().numpy()
    held = np.zeros(pieces.max() + 1, int)
    for cell in np.unique(cells[cells > 0]):
        inside = np.bincount(pieces[cells == cell], minlength=len(held))
        held[1:] += inside[1:] > inside.sum() / 2
    paints = np.array([(160, 160, 160), SHADES[1], SHADES[5]], np.uint8)
    return np.where((pieces > 0)[..., None], paints[np.minimum(held, 2)[pieces]], GROUND)


# ---------------------------------------------------------------- the U


def walk(model: UNet, size: int) -> list[tuple[str, int, int]]:
    """Return (where, side, channels) of each map of a U-Net, from the input to the scores, by running it on nothing.

    The places: `down 0`, ..., `bottom`, `up 0` (after the up-convolution), `merged 0`, ..., `scores`.
    """
    found: list[tuple[str, int, int]] = [("image", size, model.in_channels)]

    def note(where: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.append((where, output.shape[-1], output.shape[1]))

    depth = model.depth
    places = [(stage, f"down {i}" if i < depth else "bottom") for i, stage in enumerate(model.down)]
    places += [(stage, f"up {depth - 1 - i}") for i, stage in enumerate(model.up)]
    places += [(stage, f"merged {depth - 1 - i}") for i, stage in enumerate(model.merge)]
    hooks = [stage.register_forward_hook(note(where)) for stage, where in [*places, (model.score, "scores")]]
    with torch.no_grad():
        parameter = next(model.parameters())
        model(torch.zeros(1, model.in_channels, size, size, device=parameter.device, dtype=parameter.dtype))
    for hook in hooks:
        hook.remove()
    return found


def u_figure(model: UNet, size: int) -> Figure:
    """Draw a U-Net's maps as it makes them of an image of this side: sizes, channels, and what a skip loses."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    maps = {where: (side, channels) for where, side, channels in walk(model, size)}
    depth = model.depth
    figure = Figure(figsize=(8.6, 0.85 * depth + 1.9))
    axes = figure.subplots()

    def box(where: str, x: float, level: int, colour: str) -> None:
        side, channels = maps[where]
        skip = maps[f"down {level}"][1] if where.startswith("up") else 0
        of = f"{skip} + {channels}" if skip else f"{channels}"
        axes.add_patch(Rectangle((x - 0.75, -level - 0.3), 1.5, 0.6, facecolor=OKABE_ITO[colour], edgecolor="black"))
        axes.text(x, -level, f"{side}², {of}", ha="center", va="center", fontsize=9, path_effects=white_rim())

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, style: str = "-") -> None:
        arrows = {"arrowstyle": "->", "color": OKABE_ITO[colour], "linewidth": 1.6, "linestyle": style}
        axes.annotate("", xy=end, xytext=start, arrowprops=arrows)

    right = 2.6 + 1.15 * depth
    for level in range(depth):
        left, last = 0.55 * level, right + 1.9 - 0.55 * level
        box(f"down {level}", left, level, "sky")
        box(f"up {level}", last - 1.9, level, "orange")
        box(f"merged {level}", last, level, "green")
        arrow((left + 0.75, -level), (last - 2.65, -level), "black", "--")
        arrow((last - 1.15, -level), (last - 0.75, -level), "black")
        cut = (maps[f"down {level}"][0] - maps[f"up {level}"][0]) // 2
        text = f"crop {cut} a side" if cut else "no crop"
        axes.text((left + last - 1.9) / 2, -level + 0.1, text, ha="center", va="bottom", fontsize=8.5)
    middle = right / 2
    box("bottom", middle, depth, "sky")
    for level in range(depth):
        left, last = 0.55 * level, right + 1.9 - 0.55 * level
        arrow((left, -level - 0.3), (left + 0.55 if level + 1 < depth else middle - 0.5, -level - 0.7), "blue")
        arrow(
            (last - 0.55 if level + 1 < depth else middle + 0.5, -level - 0.7), (last - 1.9, -level - 0.3), "vermilion"
        )
    axes.text(-0.75, 0.42, f"image {size}², {model.in_channels}", fontsize=9, va="bottom")
    side, channels = maps["scores"]
    axes.text(right + 2.65, 0.42, f"scores {side}², {channels}", fontsize=9, va="bottom", ha="right")
    axes.text(
        right / 2 + 0.95, -depth - 0.5,
        "Sides and channels. Blue arrow: 2x2 max pooling. Vermilion: 2x2 up-convolution. Dashed: crop, concatenate.\n"
        "Two 3x3 convolutions make each blue and each green box. Orange: the crop's channels + those from below.\n"
        "At the end a 1x1 convolution makes the scores.",
        ha="center", va="top", fontsize=8.5,
    )  # fmt: skip
    axes.set(xlim=(-0.9, right + 2.8), ylim=(-depth - 1.3, 0.8))
    axes.set_axis_off()
    return figure


@torch.no_grad()
def stages(model: UNet, image: Tensor) -> dict[str, Tensor]:
    """Return the maps (C, h, w) of one image (1, C, H, W): `down 0`, ..., `bottom`, `up 0`, `merged 0`, ..."""
    found: dict[str, Tensor] = {}
    skips = []
    x = model.down[0](image)
    for level, stage in enumerate(model.down[1:]):
        found[f"down {level}"] = x[0]
        skips.append(x)
        x = stage(model.pool(x))
    found["bottom"] = x[0]
    for level, (up, merge) in zip(reversed(range(model.depth)), zip(model.up, model.merge)):
        x = up(x)
        found[f"up {level}"] = x[0]
        x = merge(crop_and_concat(skips.pop(), x))
        found[f"merged {level}"] = x[0]
    return found


def features_figure(model: UNet, image: Tensor, levels: int = 2) -> Figure:
    """Draw what a trained U-Net makes of an image (1, C, H, W): a level a row, the skip, its crop, from below, merged.

    The finest `levels` are drawn, and the bottom.

    Of each map the channel is drawn that varies most (from block to block, not within 2x2 pixels). A frame shows what
    of the skip is cropped.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    maps = {where: _liveliest(found) for where, found in stages(model, image).items()}
    levels = min(levels, model.depth)
    figure = Figure(figsize=(7.2, 1.8 * (levels + 1)))
    axes = figure.subplots(levels + 1, 4, squeeze=False)
    for level in range(levels):
        skip, below, merged = (maps[f"{kind} {level}"] for kind in ("down", "up", "merged"))
        top, left = ((n - m) // 2 for n, m in zip(skip.shape, below.shape))
        crop = skip[top : top + below.shape[0], left : left + below.shape[1]]
        titles = ("way down", "its crop", "from below", "merged")
        for place, title, found in zip(axes[level], titles, (skip, crop, below, merged)):
            _picture(place, found, f"{title}, {found.shape[0]}×{found.shape[1]}", colours="viridis")
        frame = Rectangle((left - 0.5, top - 0.5), below.shape[1], below.shape[0], fill=False, edgecolor="white")
        axes[level, 0].add_patch(frame)
    bottom = maps["bottom"]
    _picture(axes[levels, 0], image[0, 0], f"image, {image.shape[2]}×{image.shape[3]}")
    _picture(axes[levels, 1], bottom, f"the bottom, {bottom.shape[0]}×{bottom.shape[1]}", colours="viridis")
    for place in axes[levels, 2:]:
        place.set_axis_off()
    return figure


def _liveliest(maps: Tensor) -> Tensor:
    """The channel (h, w) of maps (C, h, w) that varies most, patterns within 2x2 pixels left out."""
    return maps[F.avg_pool2d(maps[None], 2, stride=1)[0].flatten(1).var(1).argmax()]


# ---------------------------------------------------------------- bending


def bent_figure(
    image: Tensor,
    mask: Tensor,
    field: Tensor,
    bent: Tensor,
    labels: Tensor,
    data: CellSet,
    folding: tuple[Tensor, Tensor] | None = None,
) -> Figure:
    """Draw an image, where its pixels look, and what they see there.

    Args:
        image: (H, W).
        mask: (H, W), of the image.
        field: (2, H, W), in pixels, down and right.
        bent: (H, W) the bent image.
        labels: (H, W) the bent mask.
        data: gives the classes their colours.
        folding: another bent image (H, W), and where its field folds (H - 1, W - 1): outlined.
    """
    from matplotlib.figure import Figure

    height, width = image.shape
    figure = Figure(figsize=(6.6, 4.7))
    axes = figure.subplots(2, 3).ravel()
    _picture(axes[0], image, "image")
    _picture(axes[1], data.colourize(mask), "its mask")
    _picture(axes[2], image, "arrow: from an output pixel\nto where it looks, true length")
    rows, columns = np.mgrid[8 : height : height // 8, 8 : width : width // 8]
    down, right = field.cpu().numpy()[:, rows, columns]
    axes[2].quiver(
        columns,
        rows,
        right,
        down,
        color=OKABE_ITO["orange"],
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.008,
        headwidth=4,
    )
    _picture(axes[3], bent, "bent image")
    _picture(axes[4], data.colourize(labels), "bent mask")
    if folding is None:
        axes[5].set_axis_off()
        return figure
    _picture(axes[5], folding[0], "a stronger field: it folds")
    _outline(axes[5], folding[1], "vermilion")
    return figure


# ---------------------------------------------------------------- tiles, borders


def tile_frames(image: Tensor, scores: Tensor, tile: int, margin: int, step: int) -> list[Bytes]:
    """Paint a tile's way over an image: left the mirrored image with the tile's input and output, right what is done.

    Args:
        image: (H, W) in [0, 1].
        scores: (H, W), the probability of cell, shown where an output has been written.
        tile, margin, step: of the tiles.

    Returns:
        A picture for each tile, (H', W', 3), in the order in which the tiles come.
    """
    height, width = image.shape
    half, output = margin // 2, tile - margin
    last = [(size - 1) // step * step + tile for size in (height, width)]
    after = (last[0] - half - height, last[1] - half - width)
    wide = mirror(image[None, None], (half, half), after)[0, 0]
    left = _shades(wide)
    real = np.zeros(left.shape[:2], bool)
    real[half : half + height, half : half + width] = True
    left[~real] = left[~real] // 2 + 96  # what is mirrored is paler
    right = np.full_like(left, 255)
    right[max(half - 1, 0) : half + height + 1, max(half - 1, 0) : half + width + 1] = RIM
    right[half : half + height, half : half + width] = UNDONE
    heat = _shades(scores)
    frames = []
    for top in range(0, height, step):
        for column in range(0, width, step):
            ends = min(top + output, height), min(column + output, width)
            place = slice(half + top, half + ends[0]), slice(half + column, half + ends[1])
            right[place] = heat[top : ends[0], column : ends[1]]
            shown, done = left.copy(), right.copy()
            _frame(shown, (top, column), tile, INPUT)
            for picture in (shown, done):
                _frame(picture, (half + top, half + column), output, OUTPUT)
            frames.append(np.concatenate([shown, np.full_like(shown[:, :6], 255), done], axis=1))
    return frames


def _shades(picture: Tensor) -> Bytes:
    """Paint (H, W) in [0, 1] in sixteen greys, (H, W, 3): noise in 256 would double the notebook's size."""
    return (17 * (15 * picture.cpu().numpy()).round()).astype(np.uint8)[..., None].repeat(3, 2)


def tile_widget(image: Tensor, scores: Tensor, tile: int, margin: int, step: int, scale: int = 2) -> Any:
    """Return a widget: a slider moves a tile over an image; see `tile_frames`."""
    frames = tile_frames(image, scores, tile, margin, step)
    return frame_stack([array_png(f, scale) for f in frames], "tile", f"{scale * frames[0].shape[1]}px")


def _frame(canvas: Bytes, corner: tuple[int, int], side: int, colour: Sequence[int]) -> None:
    """Draw a square's outline, two pixels wide, cut off at the canvas."""
    top, left = corner
    for inset in (0, 1):
        block = canvas[top + inset : top + side - inset, left + inset : left + side - inset]
        block[0] = block[-1] = colour
        block[:, 0] = block[:, -1] = colour


def differences_figure(differences: dict[str, Tensor]) -> Figure:
    """Draw how far tiles are from the whole, (H, W) each, on one logarithmic scale from 1e-7 to 1."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 3.0))
    axes = figure.subplots(1, len(differences))
    for place, (title, off) in zip(axes, differences.items()):
        drawn = place.imshow(off.cpu().clamp(1e-7, 1).numpy(), cmap="viridis", norm=LogNorm(1e-7, 1))
        place.set(title=title, xticks=[], yticks=[])
    figure.colorbar(drawn, ax=list(axes), label="difference of the probabilities", shrink=0.85)
    return figure


def share_by_distance(marked: Tensor) -> Tensor:
    """Return the share of marked pixels at each distance from the border, (D,): 0 is the outermost ring.

    Args:
        marked: (N, H, W) bool.
    """
    height, width = marked.shape[1:]
    rows, columns = torch.arange(height), torch.arange(width)
    rings = torch.minimum(torch.minimum(rows, height - 1 - rows)[:, None], torch.minimum(columns, width - 1 - columns))
    rings, counts = rings.flatten(), marked.cpu().double().mean(0).flatten()
    return torch.bincount(rings, counts) / torch.bincount(rings)


def borders_figure(shares: dict[str, Tensor], reach: int) -> Figure:
    """Draw, for each network, the share (D,) of labels that change at each distance from the border of a crop.

    Args:
        shares: name -> share by distance.
        reach: how many pixels a network sees to a side, at most; a dotted line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2))
    axes = figure.subplots()
    for (name, share), marker in zip(shares.items(), "os^D"):
        axes.plot(100 * share, label=name, marker=marker, markersize=4, markevery=4)
    axes.axvline(reach, color="black", linestyle=":")
    axes.text(reach, 0.97 * axes.get_ylim()[1], "as far as it sees ", ha="right", va="top")
    axes.set(xlabel="distance from the border of the crop, pixels", ylabel="labels that change, %", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def _picture(axes: Axes, picture: Tensor | Bytes, title: str, colours: str = "gray") -> None:
    """Show an image (H, W) or (H, W, 3)."""
    values = picture.detach().cpu().numpy() if isinstance(picture, torch.Tensor) else picture
    axes.imshow(values, cmap=colours)
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _outline(axes: Axes, mask: Tensor, colour: str) -> None:
    """Draw the outline of a mask (H, W)."""
    axes.contour(mask.cpu().numpy().astype(float), [0.5], colors=[OKABE_ITO.get(colour, colour)], linewidths=0.8)
