"""The figures of lesson 00: a scene and its mask, a network's stages, shares, planes, instances, the course map."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from segcourse.datasets import VOID, SegmentationSet, colourize
from segcourse.plots import OKABE_ITO, as_bytes, legend, name_regions, white_rim
from segcourse.progress import Progress
from segcourse.widgets import array_png

Bytes = npt.NDArray[np.uint8]
GREY = "#5F5F5F"


# --- one scene -----------------------------------------------------------------------------------------------


def richest_scene(scenes: SegmentationSet) -> int:
    """Return the number of the scene with most classes; among several, of the one with most void."""
    present = [len(mask[mask != VOID].unique()) for mask in scenes.masks]
    void = (scenes.masks == VOID).sum(dim=(1, 2))
    return max(range(len(scenes)), key=lambda i: (present[i], void[i]))


def scene_words(scenes: SegmentationSet, index: int) -> str:
    """Say what `scene_and_mask` shows of a scene."""
    mask = scenes.masks[index]
    void = int((mask == VOID).sum())
    names = ", ".join(scenes.classes[label] for label in mask[mask != VOID].unique().tolist())
    return f"Scene {index}, its mask and its void, {void} of {mask.numel()} pixels. In the mask: {names}."


def scene_and_mask(image: Tensor, mask: Tensor, classes: Sequence[str], palette: Bytes) -> Figure:
    """Draw an image (3, H, W), its mask (H, W) with names on the large regions, and the void pixels, hatched."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.7))
    pixels, labels = as_bytes(image), mask.cpu().numpy()
    axes[0].imshow(pixels)
    axes[0].set_title("image: three colour values a pixel")
    axes[1].imshow(colourize(mask, palette))
    name_regions(axes[1], labels, classes)
    axes[1].set_title("mask: one label a pixel")
    axes[2].imshow(pixels // 3 + 170)
    hatch_void(axes[2], labels)
    axes[2].set_title("void: nobody gave these pixels a label")
    for axis in axes:
        axis.axis("off")
    legend(figure, labels, classes, palette)
    return figure


def hatch_void(axis: Axes, labels: npt.NDArray[np.integer]) -> None:
    """Hatch the void pixels of a picture."""
    void = np.pad((labels == VOID).astype(float), 1)
    if void.any():
        edges = np.arange(-1, labels.shape[1] + 1), np.arange(-1, labels.shape[0] + 1)
        axis.contourf(*edges, void, levels=[0.5, 2], colors=["black"], alpha=0.25)
        axis.contourf(*edges, void, levels=[0.5, 2], colors="none", hatches=["//////"])
        axis.contour(*edges, void, levels=[0.5], colors=[OKABE_ITO["vermilion"]], linewidths=1.2)
        axis.set(xlim=(-0.5, labels.shape[1] - 0.5), ylim=(labels.shape[0] - 0.5, -0.5))


# --- the viewer ----------------------------------------------------------------------------------------------

EVERY_CLASS = "every class"


def blend(image: Bytes, mask: Tensor, palette: Bytes, opacity: float, lit: int | None = None) -> Bytes:
    """Lay a mask over an image.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) labels; void is striped black and white, so that it is told from every colour, unless a class is
            lit.
        palette: (C, 3) uint8.
        opacity: from 0, the image alone, to 1, the mask alone.
        lit: a class, or VOID, that keeps its colours and gets an outline while the rest turns to pale grey; or None.

    Returns:
        (H, W, 3) uint8.
    """
    labels = mask.cpu().numpy()
    colours = colourize(mask, palette).astype(float)
    rows, cols = np.indices(labels.shape)
    void = labels == VOID
    stripes = np.where((rows + cols) // 3 % 2, 255.0, 0.0)[..., None]
    colours[void] = (stripes if lit in (None, VOID) else image)[void]
    mixed = (1 - opacity) * image + opacity * colours
    if lit is not None:
        chosen = labels == lit
        pale = 0.35 * mixed.mean(axis=-1, keepdims=True) + 150
        mixed = np.where(chosen[..., None], mixed, pale)
        mixed[outline(chosen)] = (213, 94, 0)
    return np.clip(mixed, 0, 255).round().astype(np.uint8)


def outline(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels just outside of a region (H, W) that touch it by a side."""
    padded = np.pad(region, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return near & ~region


def label_of(name: str, classes: Sequence[str]) -> int | None:
    """Return the label of a class's name; VOID for "void", None for EVERY_CLASS."""
    return {EVERY_CLASS: None, "void": VOID}.get(name, classes.index(name) if name in classes else None)


def viewer_png(scenes: SegmentationSet, index: int, opacity: float, lit: str) -> bytes:
    """Return the viewer's picture of one scene as PNG, enlarged to about 640 pixels."""
    image, mask = scenes[index]
    mixed = blend(as_bytes(image), mask, scenes.palette, opacity, label_of(lit, scenes.classes))
    return array_png(mixed, scale=max(1, round(640 / mask.shape[1])))


def viewer_words(scenes: SegmentationSet, index: int, opacity: float, lit: str) -> str:
    """Say what the viewer shows: the largest classes and the smallest one, or how much there is of the chosen one."""
    mask = scenes.masks[index]
    label = label_of(lit, scenes.classes)
    whole, kind = (mask, "all") if label == VOID else (mask[mask != VOID], "the labelled")
    if label is not None:
        found = int((whole == label).sum())
        if not found:
            return f"Scene {index}: no {lit} here."
        return f"Scene {index}: {share(found, whole.numel())} of {kind} pixels are {lit} ({found} pixels)."
    counts = torch.bincount(whole, minlength=len(scenes.classes)).tolist()
    order = sorted((c for c, count in enumerate(counts) if count), key=lambda c: -counts[c])
    if not order:
        return f"Scene {index}: no pixel has a label."
    largest = ", ".join(f"{scenes.classes[c]} {share(counts[c], whole.numel())}" for c in order[:3])
    smallest = f"{scenes.classes[order[-1]]}, {counts[order[-1]]} of {mask.numel()} pixels"
    return f"Scene {index}: {len(order)} classes; the largest are {largest}; the smallest is {smallest}."


def share(part: int, whole: int) -> str:
    """Write a share in percent with one decimal: `4.2 %`."""
    return f"{100 * part / whole:.1f} %"


# --- encoder and decoder -------------------------------------------------------------------------------------


SHEET = 4
"""A sheet of a drawn stack stands for up to so many channels."""


def encoder_decoder(
    stages: Sequence[tuple[str, Tensor]], mask: npt.NDArray[np.integer], classes: Sequence[str], palette: Bytes
) -> Figure:
    """Draw what a network makes of one image, stage after stage, and the mask that comes of it.

    Args:
        stages: name and tensor (1, C, H, W), the image first, the scores last; they shrink up to the smallest one,
            which ends the upper row, and grow after it. A stage is a stack of ceil(C / SHEET) sheets; in front lies the
            image in colour, or the mean of the channels. Its height is drawn as the square root of H, because the
            smallest could not be seen in proportion.
        mask: (H, W) labels.
        classes: the C names, for the legend of the mask.
        palette: (C, 3) uint8.
    """
    figure, axes = plt.subplots(2, 1, figsize=(11, 6))
    narrowest = min(range(len(stages)), key=lambda i: stages[i][1].shape[2])
    highest = max(tensor.shape[2] for _, tensor in stages)
    pictures: list[tuple[str, tuple[int, ...], Any]] = [
        (name, tensor.shape[1:], picture_of(tensor)) for name, tensor in stages
    ]
    rows = pictures[: narrowest + 1], [*pictures[narrowest + 1 :], ("mask", mask.shape, colourize(mask, palette))]
    for axis, row, words in zip(axes, rows, ("encoder: smaller maps, more channels", "decoder: back to full size")):
        left = 0.0
        for name, shape, picture in row:
            tall = (shape[-2] / highest) ** 0.5
            wide = tall * shape[-1] / shape[-2]
            sheets = -(-shape[0] // SHEET) if len(shape) == 3 else 1
            for shift in 0.03 * np.arange(sheets - 1, 0, -1):  # the sheets behind the front one
                place = (left + shift, shift - tall / 2)
                axis.add_patch(Rectangle(place, wide, tall, facecolor="white", edgecolor=GREY, linewidth=0.8))
            axis.imshow(picture, extent=(left, left + wide, -tall / 2, tall / 2), cmap="gray", zorder=3)
            axis.add_patch(Rectangle((left, -tall / 2), wide, tall, fill=False, edgecolor="black", zorder=4))
            label = f"{name}: {' x '.join(map(str, shape))}"
            axis.text(left + wide / 2, -tall / 2 - 0.05, label, ha="center", va="top", fontsize=10)
            left += max(wide + 0.03 * sheets, 0.9) + 0.25
        axis.set(xlim=(-0.1, 5.6), ylim=(-0.66, 0.67), aspect="equal")
        axis.set_title(words + " →", loc="left")
        axis.axis("off")
    legend(figure, mask, classes, palette)
    return figure


def picture_of(tensor: Tensor) -> npt.NDArray[np.generic]:
    """Return a map (1, C, H, W) as a picture: an image in colour, anything else as the mean of its channels."""
    return as_bytes(tensor[0]) if tensor.shape[1] == 3 else tensor[0].detach().cpu().mean(dim=0).numpy()


# --- shares --------------------------------------------------------------------------------------------------


def share_bars(shares: Mapping[str, Sequence[float]], classes: Sequence[str]) -> Figure:
    """Draw the share of each class, in percent, on a logarithmic axis; one bar for each named set of shares.

    Classes are sorted by the first set. A share of 0 has no bar.
    """
    names = list(shares)
    order = np.argsort(shares[names[0]], kind="stable")
    figure, axis = plt.subplots(figsize=(9, 4.6))
    thick = 0.8 / len(names)
    for i, (name, colour, hatch) in enumerate(zip(names, (OKABE_ITO["blue"], OKABE_ITO["orange"]), ("", "///"))):
        percent = 100 * np.asarray(shares[name], float)[order]
        place = np.arange(len(order)) + (len(names) - 1 - 2 * i) * thick / 2
        axis.barh(place, percent, thick, color=colour, hatch=hatch, edgecolor="white", label=name)
        for y, value in zip(place, percent):
            axis.text(
                max(value, 0.1) * 1.05, y, f"{value:.2f}" if value < 1 else f"{value:.1f}", va="center", fontsize=8
            )
    axis.set_xscale("log")
    axis.set(
        xlim=(0.1, 60), xlabel="share of the labelled pixels in percent; each numbered tick is ten times the one before"
    )
    axis.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    axis.set_yticks(range(len(order)), [classes[c] for c in order])
    axis.legend(loc="lower right", frameon=False)
    return figure


# --- one plane a class ---------------------------------------------------------------------------------------


def plane_grid(planes: Tensor, classes: Sequence[str]) -> Figure:
    """Draw the planes (C, H, W) of one mask side by side, 1 black on white, each with its number and name."""
    columns = 6
    rows = -(-len(classes) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(11, 1.7 * rows), squeeze=False)
    for label, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[])
        if label >= len(classes):
            axis.axis("off")
            continue
        axis.imshow(planes[label].cpu().double().numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"[{label}] {classes[label]}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(True)
    return figure


# --- instances -----------------------------------------------------------------------------------------------


def two_cars() -> tuple[Bytes, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw two parked cars, one of them partly behind the other.

    Returns:
        Image (40, 72, 3) uint8; semantic mask (40, 72) with 0 background, 1 car; instances (40, 72) with 0 for no
        car, 1 for the left and 2 for the right one.
    """
    rows, cols = np.indices((40, 72)) + 0.5
    image = np.where(rows[..., None] < 24, (200.0, 215.0, 228.0), (118.0, 116.0, 118.0))
    instances = np.zeros(rows.shape, np.int64)
    for number, (left, bottom, paint) in enumerate(((24.0, 30.0, (58, 92, 150)), (4.0, 34.0, (186, 64, 52)))):
        along, up = (cols - left) / 40, (bottom - rows) / 17
        body = (along > 0) & (along < 1) & (up > 0.15) & (up < 0.62)
        slope = 0.24 * (up - 0.62)
        cabin = (along > 0.18 + slope) & (along < 0.82 - slope) & (up >= 0.62) & (up < 1)
        window = (along > 0.25 + slope) & (along < 0.75 - slope) & (up > 0.66) & (up < 0.92) & (abs(along - 0.5) > 0.03)
        wheels = np.minimum(abs(along - 0.22), abs(along - 0.78)) ** 2 * 5.5 + (up - 0.15) ** 2 < 0.032
        image[body | cabin] = paint
        image[window] = (225, 235, 240)
        image[wheels] = (30, 30, 32)
        instances[body | cabin | wheels] = 2 - number
    return image.astype(np.uint8), (instances > 0).astype(np.int64), instances


def semantic_and_instances(
    image: Bytes, semantic: npt.NDArray[np.integer], instances: npt.NDArray[np.integer]
) -> Figure:
    """Draw an image (H, W, 3) beside its semantic mask (H, W) and its instances (H, W); object i is marked `car i`."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.6))
    axes[0].imshow(image)
    axes[0].set_title("image")
    colours = np.array([[0.92] * 3, [0, 0.17, 0.4], [0.9, 0.62, 0]])
    axes[1].imshow(colours[semantic])
    axes[1].set_title("semantic: which class?")
    axes[2].imshow(colours[instances])
    axes[2].contour(instances == 1, levels=[0.5], colors="white", linewidths=1.5)
    axes[2].set_title("instances: which class, and which object?")
    for axis, objects, words in ((axes[1], semantic, "car"), (axes[2], instances, "car {}")):
        for number in range(1, int(objects.max()) + 1):
            row, col = np.unravel_index(distance_transform_edt(objects == number).argmax(), objects.shape)
            axis.text(col, row, words.format(number), ha="center", va="center", fontsize=10, path_effects=white_rim())
    for axis in axes:
        axis.axis("off")
    return figure


# --- the course map ------------------------------------------------------------------------------------------


def course_map(lessons: Sequence[Any], progress: Progress) -> tuple[str, str]:
    """Return the lessons with minutes, points and what is done, as text and as an HTML table with links.

    Args:
        lessons: what `segcourse.exercises.lessons()` returns.
        progress: what `segcourse.progress.load()` returns.
    """
    rows = []
    for lesson in lessons:
        records = [progress.exercises.get(exercise.name) for exercise in lesson.exercises]
        best = [min(r.points, e.points) if r else 0 for e, r in zip(lesson.exercises, records)]
        signs = "".join("✓" if b >= e.points else "○" for e, b in zip(lesson.exercises, best))
        points = f"{sum(best):g} of {lesson.points}"
        rows.append((lesson.stem, f"{lesson.stem[:2]} {lesson.title}", f"{lesson.minutes} min", points, signs))
    wide = [max(len(row[column]) for row in rows) for column in range(1, 5)]
    text = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row[1:], wide)).rstrip() for row in rows)
    cells = "".join(
        f'<tr><td style="text-align:left"><a href="{stem}.ipynb">{html.escape(title)}</a></td>'
        + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in rest)
        + "</tr>"
        for stem, title, *rest in rows
    )
    header = "".join(
        f'<th style="text-align:left">{name}</th>'
        for name in ("lesson", "time", "points", "exercises: ✓ done, ○ to do")
    )
    return text, f"<table><tr>{header}</tr>{cells}</table>"
