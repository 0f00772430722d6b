"""Generated microscopy: cells that touch, with the instance each pixel belongs to.

The look is that of differential interference contrast: grey, cells in relief as if lit from one side, bright borders,
uneven light, debris, noise. A picture is made in three steps: `place` throws cells into clusters, `Dish` finds for
each pixel the two nearest cells, `photograph` turns that into light. As for the generated streets, pixels see only
arithmetic that IEEE 754 fixes (see `canvas`), so the same seed gives the same bytes on every machine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import label
from torch import Tensor

from segcourse.border_weights import separate
from segcourse.datasets.base import SPLITS, Bytes, SegmentationSet, check_split
from segcourse.datasets.canvas import TILE, Dice, Floats, clumps, film_grain, look_up, smooth

SMALLEST = 32  # pixels, of a side
FRAGMENT = 16  # pixels: what is left of a cell is background where it is smaller
OUTSIDE = 3.0  # the distance, in radii, that stands for "no cell near"

CLASSES = ("background", "cell")
PALETTE: Bytes = np.array([(45, 52, 66), (240, 170, 60)], np.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class CellSet(SegmentationSet):
    """A SegmentationSet of grey images (N, 1, H, W) that also knows the single cells.

    Attributes:
        instances: (N, H, W) int64: 0 where no cell is, a number of its own for each cell of an image. An image and its
            mask are still a pair, `image, mask = cells[i]`; the third, `cells.instances[i]`, is asked for by name.
    """

    instances: Tensor

    def __post_init__(self) -> None:
        """Raise ValueError or TypeError where the parts do not fit together."""
        if self.images.ndim != 4 or self.images.shape[1] != 1:
            raise TypeError(f"images must be (N, 1, H, W), not {tuple(self.images.shape)}")
        SegmentationSet(  # has the other checks, of images in colour: a view, no copy
            self.name, self.split, self.images.expand(-1, 3, -1, -1), self.masks, self.classes, self.palette,
            self.frames, self.complete,
        )  # fmt: skip
        if self.instances.shape != self.masks.shape or self.instances.dtype != torch.int64:
            got = f"{tuple(self.instances.shape)} {self.instances.dtype}"
            raise TypeError(f"instances must be {tuple(self.masks.shape)} int64, as the masks are, not {got}")

    def subset(self, indices: Sequence[int]) -> "CellSet":
        """Return the chosen images as a set of their own, in the order given."""
        chosen = list(indices)
        return replace(
            self, images=self.images[chosen], masks=self.masks[chosen], frames=tuple(self.frames[i] for i in chosen),
            instances=self.instances[chosen],
        )  # fmt: skip


def cells(split: str, count: int, size: tuple[int, int] = (128, 128), seed: int = 0) -> CellSet:
    """Return generated pictures of touching cells; the splits of one seed never share a picture.

    Mask 1 is cell. Between any two cells lies at least a pixel of background, corners included, so the cells are the
    connected components of the mask; in the picture a gap may be faint or not to be seen at all.

    Args:
        split: "train", "val" or "test".
        count: number of pictures; more of them begin with the same ones.
        size: height and width in pixels, each at least 32. Cells keep their size of about 20 pixels.
        seed: another seed, another dish.

    Raises:
        ValueError: unknown split, negative count, or what `cell_picture` refuses.
    """
    check_split(split)
    check_size(size)
    if count < 0:
        raise ValueError(f"{count} pictures: expected 0 or more")
    images = torch.empty(count, 1, *size)
    instances = torch.empty(count, *size, dtype=torch.int64)
    for i in range(count):
        image, of_image = cell_picture((seed, 1 + SPLITS.index(split), i), size)
        images[i, 0] = torch.from_numpy(image).float() / 255
        instances[i] = torch.from_numpy(of_image)
    frames = tuple(f"{split}_{seed}_{i:05d}" for i in range(count))
    return CellSet("cells", split, images, (instances > 0).long(), CLASSES, PALETTE, frames, count, instances)


def cell_picture(seed: Sequence[int], size: tuple[int, int] = (128, 128)) -> tuple[Bytes, npt.NDArray[np.int32]]:
    """Return one generated picture (H, W) uint8 and its instances (H, W) int32, numbered from 1 without holes.

    Args:
        seed: numbers from 0 to 2**32 - 1. Picture i of `cells` has (seed, 1 for train, 2 for val, 3 for test, i).
        size: height and width in pixels, each at least 32.

    Raises:
        ValueError: the size is too small, or a seed is negative or too large.
    """
    check_size(size)
    if not seed or not all(0 <= number < 2**32 for number in seed):
        raise ValueError(f"seed {seed!r}: expected numbers from 0 to 2**32 - 1")
    dice = Dice(*seed)
    dish = Dish(size, dice)
    for cell in place(dice, size):
        dish.add(cell)
    instances = dish.instances()
    return photograph(dish, instances, dice), instances


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError where a picture would be too small to hold a few cells."""
    height, width = size
    if min(height, width) < SMALLEST:
        raise ValueError(f"{height}x{width} pixels are too small for cells: both sides must be at least {SMALLEST}")


@dataclass(frozen=True)
class Cell:
    """An ellipse at (y, x), its half axes in pixels, the long one along the unit vector (down, right)."""

    y: float
    x: float
    long: float
    short: float
    down: float
    right: float
    tone: float
    nucleus: float  # radius, in parts of the cell's; how much darker or brighter it is
    shade: float

    @classmethod
    def sample(cls, dice: Dice, y: float, x: float, long: float) -> "Cell":
        """Return a cell of the given length at (y, x)."""
        down, right = direction(dice)
        return cls(
            y, x, long, long * dice.between(0.65, 1.0), down, right, dice.between(-0.05, 0.05),
            dice.between(0.3, 0.5), dice.between(-0.09, 0.07),
        )  # fmt: skip

    @property
    def radius(self) -> float:
        """Half the mean diameter, in pixels."""
        return (self.long + self.short) / 2


def direction(dice: Dice) -> tuple[float, float]:
    """Return a unit vector, all directions equally likely, without a sine (see `canvas`)."""
    while True:
        down, right = dice.between(-1, 1), dice.between(-1, 1)
        length = math.sqrt(down * down + right * right)
        if 0.1 < length < 1:
            return down / length, right / length


def place(dice: Dice, size: tuple[int, int]) -> list[Cell]:
    """Return cells of a dish: most of them grow beside one that is there already, and none far under another."""
    height, width = size
    found: list[Cell] = []
    for _ in range(round(height * width / 128**2 * dice.between(18, 42))):
        long = dice.between(8, 14)
        if found and dice.chance(0.8):
            mother, (down, right) = dice.pick(found), direction(dice)
            apart = (mother.radius + 0.85 * long) * dice.between(0.82, 1.05)
            y, x = mother.y + apart * down, mother.x + apart * right
        else:
            y, x = dice.between(0, height), dice.between(0, width)
        cell = Cell.sample(dice, y, x, long)
        inside = -4 < y < height + 4 and -4 < x < width + 4
        if inside and all(
            (y - other.y) ** 2 + (x - other.x) ** 2 > (0.75 * (cell.radius + other.radius)) ** 2 for other in found
        ):
            found.append(cell)
    return found


class Dish:
    """For each pixel (H, W) the two nearest cells: distances in radii, 1 on the outline, and whose the nearest is."""

    def __init__(self, size: tuple[int, int], dice: Dice) -> None:
        self.size, self.dice = size, dice
        self.rows = np.arange(size[0], dtype=np.float32)[:, None]
        self.cols = np.arange(size[1], dtype=np.float32)[None, :]
        self.warped_rows = self.rows + 3.2 * self.texture(smooth(16)) + 1.1 * self.texture(smooth(8))
        self.warped_cols = self.cols + 3.2 * self.texture(smooth(16)) + 1.1 * self.texture(smooth(8))
        self.first = np.full(size, OUTSIDE, np.float32)
        self.second = np.full(size, OUTSIDE, np.float32)
        self.owner = np.full(size, -1, np.int64)
        self.cells: list[Cell] = []
        self.gap = 1.5 * np.clip(0.3 + self.texture(smooth(16)), 0, 1)  # pixels between cells that touch

    def texture(self, bank: Floats, zoom: float = 1.0) -> Floats:
        """Return noise (H, W) from a random place of a bank, ``zoom`` pixels to a texel."""
        top, left = self.dice.random() * TILE, self.dice.random() * TILE
        return look_up(bank, self.rows / np.float32(zoom) + top, self.cols / np.float32(zoom) + left)

    def add(self, cell: Cell) -> None:
        """Enter a cell's distances in the window that it may fill."""
        reach = 1.5 * cell.long + 6
        rows = slice(max(int(cell.y - reach), 0), max(int(cell.y + reach), 0))
        cols = slice(max(int(cell.x - reach), 0), max(int(cell.x + reach), 0))
        y, x = self.warped_rows[rows, cols] - np.float32(cell.y), self.warped_cols[rows, cols] - np.float32(cell.x)
        down, right = np.float32(cell.down), np.float32(cell.right)
        along, across = y * down + x * right, x * down - y * right
        distance = np.sqrt((along / np.float32(cell.long)) ** 2 + (across / np.float32(cell.short)) ** 2)
        first, second, owner = self.first[rows, cols], self.second[rows, cols], self.owner[rows, cols]  # views
        np.copyto(second, np.minimum(second, np.maximum(first, distance)))
        np.copyto(owner, len(self.cells), where=distance < first)
        np.copyto(first, np.minimum(first, distance))
        self.cells.append(cell)

    def of_owner(self, values: Sequence[float]) -> Floats:
        """Return a value of the nearest cell at each pixel; far from all cells, that of the last one."""
        return np.array([*values, values[-1] if values else 1], np.float32)[self.owner]

    def between(self) -> Floats:
        """Return how wide, in pixels, a gap would have to be to reach each pixel from where two cells meet."""
        return (self.second - self.first) * self.of_owner([cell.radius for cell in self.cells])

    def instances(self) -> npt.NDArray[np.int32]:
        """Return the cells' numbers (H, W), 0 for background: outlines cut by gaps, fragments left out."""
        inside = (self.first < 1) & ((self.between() > self.gap) | (self.second > 1))
        apart = separate(torch.from_numpy(np.where(inside, self.owner + 1, 0))).numpy()
        pieces, _ = label(apart, np.ones((3, 3)))
        large = np.bincount(pieces.ravel()) >= FRAGMENT
        large[0] = False
        return np.where(large, np.cumsum(large), 0).astype(np.int32)[pieces]


def photograph(dish: Dish, instances: npt.NDArray[np.int32], dice: Dice) -> Bytes:
    """Return what the microscope sees of a dish, (H, W) uint8."""
    height = np.maximum(1 - dish.first**2, 0)  # of a cell, 1 in its middle
    body = np.minimum(4 * height, 1)
    radius = dish.of_owner([cell.radius for cell in dish.cells])
    down, right = direction(dice)
    slopes = np.gradient(np.sqrt(height) + 0.12 * body * dish.texture(clumps()))
    light = 0.46 + 0.10 * dish.texture(smooth(64)) + 0.03 * dish.texture(smooth(32), 3)
    light += dice.between(0.5, 0.8) * (np.float32(down) * slopes[0] + np.float32(right) * slopes[1])
    light += body * (dish.of_owner([cell.tone for cell in dish.cells]) + 0.05 * dish.texture(smooth(4)))
    light += _nuclei(dish)
    outside = (dish.first - 1) * radius  # pixels beyond the outline
    light += dice.between(0.08, 0.2) * np.maximum(1 - abs(outside - 1) / 2, 0)  # the bright border
    crease = np.maximum(1 - dish.between() / (1 + dish.gap), 0) * (dish.second < 1)
    light -= dice.between(0.06, 0.14) * crease * dish.gap / 1.5
    light += _debris(dish, dice) * (instances == 0)
    light += dice.between(0.02, 0.045) * dish.texture(film_grain()[..., 0])
    return np.rint(255 * np.clip(light, 0, 1)).astype(np.uint8)


def _nuclei(dish: Dish) -> Floats:
    """Return the light that nuclei add or take, (H, W): a flat disc with a soft rim."""
    radius, shade = dish.of_owner([c.nucleus for c in dish.cells]), dish.of_owner([c.shade for c in dish.cells])
    return shade * np.clip(6 * (radius - dish.first), 0, 1)


def _debris(dish: Dish, dice: Dice) -> Floats:
    """Return the light of specks that float between the cells, (H, W): bright in the middle, dark around."""
    height, width = dish.size
    light = np.zeros(dish.size, np.float32)
    for _ in range(dice.count(5 * height * width / 128**2)):
        y, x, radius = dice.between(0, height), dice.between(0, width), dice.between(0.8, 2.5)
        rows, cols = slice(max(int(y) - 6, 0), int(y) + 7), slice(max(int(x) - 6, 0), int(x) + 7)
        square = ((dish.rows[rows] - np.float32(y)) ** 2 + (dish.cols[:, cols] - np.float32(x)) ** 2) / (
            radius * radius
        )
        speck = np.maximum(1 - square, 0) - 0.5 * np.maximum(1 - abs(square - 2.5) / 1.5, 0)
        light[rows, cols] += np.float32(dice.between(0.1, 0.3)) * speck.astype(np.float32)
    return light
