"""Proposals: boxes that may hold an object, the crops they cut out, and what a network says of all of them together.

Noh, Hong & Han, "Learning deconvolution network for semantic segmentation", ICCV 2015. Its network sees one box at a
time, resized to 224x224; the score maps go back to their places, and the largest score counts (section 5.1). It is
trained in two stages (section 4.2), first on single objects in the middle of their crops.

The paper takes its boxes from a detector of object-like regions. Here they are a plain grid of squares of several
sizes, which knows nothing of the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from segcourse.void import VOID

Box = tuple[int, int, int, int]
"""Top, left, bottom, right; the last two are the first row and column outside."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Thing:
    """An object in a set of images: a connected region of one class."""

    image: int
    label: int
    box: Box
    """As tight as can be."""
    inside: Tensor
    """(H, W) bool."""


def find_things(masks: Tensor, labels: Sequence[int], smallest: int = 40) -> list[Thing]:
    """Return the connected regions (by edges) of some classes. Objects that touch are one thing.

    Args:
        masks: (N, H, W) int64.
        labels: the classes that have objects.
        smallest: regions of fewer pixels are left out.
    """
    from scipy.ndimage import find_objects, label

    things = []
    for number, mask in enumerate(masks.cpu().numpy()):
        for wanted in labels:
            regions, _ = label(mask == wanted)
            for region, (rows, columns) in enumerate(find_objects(regions), start=1):
                inside = regions == region
                if inside.sum() >= smallest:
                    box = (rows.start, columns.start, rows.stop, columns.stop)
                    things.append(Thing(number, wanted, box, torch.from_numpy(inside)))
    return things


def square(box: Box, size: Pair, grow: float = 1.0) -> Box:
    """Return the square around a box's centre whose side is the box's longer one times `grow`, moved into the image.

    Args:
        box: any box.
        size: height and width of the image; no square is larger than the shorter.
        grow: 1.2 in the paper's first stage.
    """
    top, left, bottom, right = box
    side = min(max(1, round(grow * max(bottom - top, right - left))), *size)
    corner = [
        min(max(0, round((first + last - side) / 2)), length - side)
        for first, last, length in ((top, bottom, size[0]), (left, right, size[1]))
    ]
    return corner[0], corner[1], corner[0] + side, corner[1] + side


def grid_boxes(size: Pair, sides: Sequence[int], step: float = 0.5) -> list[Box]:
    """Return squares of some sides, each `step` of its side from the next, up to all four edges of the image."""

    def starts(length: int, side: int) -> list[int]:
        count = max(1, -(-(length - side) // max(1, round(step * side))) + 1)
        return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]

    return [
        (top, left, top + side, left + side)
        for side in sides
        for top in starts(size[0], side)
        for left in starts(size[1], side)
    ]


def crop(maps: Tensor, box: Box, side: int) -> Tensor:
    """Cut a box out of images (C, H, W) or labels (H, W), resized to side x side: bilinear, labels to the nearest."""
    top, left, bottom, right = box
    cut = maps[..., top:bottom, left:right]
    if maps.ndim == 2:
        return F.interpolate(cut[None, None].float(), (side, side), mode="nearest-exact")[0, 0].to(maps.dtype)
    return F.interpolate(cut[None], (side, side), mode="bilinear", align_corners=False, antialias=True)[0]


def overlap(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes, 0 to 1."""
    rows = min(a[2], b[2]) - max(a[0], b[0])
    columns = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, rows) * max(0, columns)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def first_stage(
    images: Tensor, masks: Tensor, things: Sequence[Thing], side: int, count: int
) -> Callable[[Generator], tuple[Tensor, Tensor]]:
    """Batches for the first stage: an object in the middle of a square 1.2 times its size, all else background (0).

    Args:
        images: (N, 3, H, W).
        masks: (N, H, W) int64, 0 for background; void stays void.
        things: the objects.
        side: of the crops, in pixels.
        count: crops a batch.

    Returns:
        A function of a generator that draws crops (count, 3, side, side) and labels (count, side, side). Each class is
        drawn as often as the others, half of the crops are mirrored.
    """

    weights = _even_classes([thing.label for thing in things])

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        crops, labels = [], []
        for number in torch.multinomial(weights, count, replacement=True, generator=generator).tolist():
            thing = things[number]
            mask = masks[thing.image]
            alone = torch.where(thing.inside, thing.label, torch.where(mask == VOID, VOID, 0))
            box = square(thing.box, (mask.shape[0], mask.shape[1]), 1.2)
            crops.append(crop(images[thing.image], box, side))
            labels.append(crop(alone, box, side))
        return _mirror_half(torch.stack(crops), torch.stack(labels), generator)

    return draw


def second_stage(
    images: Tensor, masks: Tensor, things: Sequence[Thing], boxes: Sequence[Box], side: int, count: int
) -> Callable[[Generator], tuple[Tensor, Tensor]]:
    """Batches for the second stage: proposals that overlap an object's square by half, with every class labelled.

    Args: as `first_stage`; boxes: the proposals, the same for all images.
    """
    size = (masks.shape[1], masks.shape[2])
    pairs = [(thing, box) for thing in things for box in boxes if overlap(square(thing.box, size), box) >= 0.5]
    weights = _even_classes([thing.label for thing, _ in pairs])

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        numbers = torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
        chosen = [(pairs[i][0].image, pairs[i][1]) for i in numbers]
        crops = torch.stack([crop(images[i], box, side) for i, box in chosen])
        labels = torch.stack([crop(masks[i], box, side) for i, box in chosen])
        return _mirror_half(crops, labels, generator)

    return draw


@torch.no_grad()
def score_boxes(model: nn.Module, image: Tensor, boxes: Sequence[Box], side: int) -> list[Tensor]:
    """Run a network on each box of an image, resized to side x side, and bring its scores back to the box's size.

    Args:
        model: (N, 3, side, side) -> scores (N, C, side, side), in evaluation mode, on the image's device.
        image: (3, H, W).
        boxes: the proposals.
        side: of what the network sees.

    Returns:
        For each box its scores (C, h, w), interpolated.
    """
    scores = model(torch.stack([crop(image, box, side) for box in boxes]))
    return [
        F.interpolate(one[None], (bottom - top, right - left), mode="bilinear", align_corners=False)[0]
        for one, (top, left, bottom, right) in zip(scores, boxes)
    ]


def aggregate(maps: Sequence[Tensor], boxes: Sequence[Box], size: Pair, add: bool = False) -> Tensor:
    """Return the scores (C, H, W) of an image from those of its proposals, each on a canvas of zeros.

    The largest score counts at each pixel and class, or their sum; the paper names both. Zero is
    among the candidates everywhere, also where all the proposals overlap.
    """
    canvas = maps[0].new_zeros(len(maps[0]), *size)
    for scores, (top, left, bottom, right) in zip(maps, boxes):
        part = canvas[:, top:bottom, left:right]
        part.copy_(part + scores if add else torch.maximum(part, scores))
    return canvas


def _even_classes(labels: Sequence[int]) -> Tensor:
    """Return weights for drawing with which every label comes equally often."""
    counts = torch.bincount(torch.tensor(labels))
    return 1 / counts[torch.tensor(labels)].double()


def _mirror_half(images: Tensor, masks: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    turn = torch.rand(len(images), generator=generator) < 0.5
    return (
        torch.where(turn[:, None, None, None], images.flip(3), images),
        torch.where(turn[:, None, None], masks.flip(2), masks),
    )
