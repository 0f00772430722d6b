"""What a generated street is painted with: dice, noise, a pinhole camera, and a canvas that knows depth.

Metres in the world: x to the right, z ahead, heights above a flat road. Pixels in the picture: rows down,
columns right.

The pixels see only sums, products, quotients, comparisons, roundings and look-ups. IEEE 754 fixes the result of
each, so a scene has the same bytes on every machine: no exp, no sin, no matrix product, no float reduction, whose
last bits depend on the processor. (The one power, the camera's tone curve, is rounded to a byte at once.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segcourse.datasets.base import VOID

Floats = npt.NDArray[np.floating]  # float32; now and then float64 on the way
Bools = npt.NDArray[np.bool_]
Range = tuple[float, float]
Point = tuple[float, float]  # (x, z) on the ground, metres
T = TypeVar("T")

NEAR = 1.0  # metres: what is nearer than this is cut off
FAR = 400.0  # metres: the depth of the sky
TILE = 256  # noise repeats after this many texels; a power of two, so that wrapping is one bitwise and


class Dice:
    """All the chance of a scene: a few ways to use uniform numbers from one PCG64 stream."""

    def __init__(self, *entropy: int) -> None:
        self.random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy))).random

    def between(self, low: float, high: float) -> float:
        """Return a uniform number in [low, high)."""
        return low + (high - low) * self.random()

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def count(self, mean: float) -> int:
        """Return a Poisson number: how many uniform factors keep a product above exp(-mean)."""
        number, product, floor = 0, self.random(), math.exp(-mean)
        while product > floor:
            number, product = number + 1, product * self.random()
        return number

    def colour(self, red: Range, green: Range, blue: Range) -> Floats:
        """Return an RGB colour (3,), each channel uniform in its range."""
        return np.array([self.between(*red), self.between(*green), self.between(*blue)], np.float32)

    def grey(self, low: float, high: float, tint: float = 0.03) -> Floats:
        """Return a grey (3,) between low and high whose channels stray by at most ``tint``."""
        value = self.between(low, high)
        return np.array([value + self.between(-tint, tint) for _ in range(3)], np.float32)


@cache
def speckle() -> Floats:
    """Return white noise (TILE, TILE) in [-1, 1]: a new value at every texel."""
    return _bank(1).uniform(-1, 1, (TILE, TILE)).astype(np.float32)


@cache
def smooth(cell: int) -> Floats:
    """Return value noise (TILE, TILE) in [-1, 1]: random lattice values ``cell`` texels apart, eased between."""
    lattice = _bank(cell).uniform(-1, 1, (TILE // cell, TILE // cell))
    index, part = np.divmod(np.arange(TILE), cell)
    ease = (part / cell) ** 2 * (3 - 2 * part / cell)
    for axis in (0, 1):
        here, after = lattice.take(index, axis), lattice.take((index + 1) % (TILE // cell), axis)
        weight = ease[:, None] if axis == 0 else ease
        lattice = here * (1 - weight) + after * weight
    return lattice.astype(np.float32)


@cache
def clumps() -> Floats:
    """Return noise (TILE, TILE) in about [-1, 1] with three scales, as leaves, clouds and stains have."""
    return (0.5 * smooth(32) + 0.35 * smooth(8) + 0.4 * smooth(4)).astype(np.float32)


@cache
def film_grain() -> Floats:
    """Return noise (TILE, TILE, 3) with unit variance, nearly Gaussian: the sum of four uniform numbers."""
    uniform = _bank(2).uniform(-1, 1, (4, TILE, TILE, 3))
    return ((uniform[0] + uniform[1] + uniform[2] + uniform[3]) * math.sqrt(0.75)).astype(np.float32)


def look_up(bank: Floats, rows: Floats, cols: Floats) -> Floats:
    """Return the bank's values at (rows, cols), in texels, wrapped around; rows and cols broadcast."""
    return bank[np.floor(rows).astype(np.intp) & (TILE - 1), np.floor(cols).astype(np.intp) & (TILE - 1)]


def _bank(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@dataclass(frozen=True)
class Light:
    """Where the sun stands (-1 left, 1 right), how hard it is (0 overcast, 1 clear), how strong lamps look."""

    side: int
    hard: float
    lamps: float

    def on(self, facing: int) -> float:
        """Return the brightness of an upright surface that faces left (-1), the camera (0) or right (1)."""
        gain = 0.25 if facing == self.side else 0.0 if facing == 0 else -0.35
        return 1 + gain * self.hard


@dataclass(frozen=True)
class Camera:
    """A pinhole camera ``eye`` metres above the road, looking straight ahead; its other figures are in pixels."""

    height: int
    width: int
    focal: float
    eye: float
    horizon: float
    vanish: float

    def column(self, x: float, z: float) -> float:
        """Return the column of whatever stands x metres to the right and z metres ahead."""
        return self.vanish + self.focal * x / z

    def row(self, up: float, z: float) -> float:
        """Return the row of whatever is ``up`` metres above the road and z metres ahead."""
        return self.horizon - self.focal * (up - self.eye) / z


@dataclass(frozen=True)
class Patch:
    """A window of the canvas through which an upright surface is seen, with the surface's metres at each pixel.

    ``along`` (1, w) runs along the surface, ``up`` (h, 1) or (h, w) is the height above the road, ``depth`` the
    distance. ``pixel`` is the width in metres of one pixel where the surface is nearest.
    """

    window: tuple[slice, slice]
    along: Floats
    up: Floats
    depth: Floats
    pixel: float
    inside: Bools | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the window in pixels."""
        return self.up.shape[0], self.along.shape[1]


class Canvas:
    """An image (H, W, 3) of light, a mask (H, W) of labels, and the depth (H, W) that decides who hides whom."""

    def __init__(self, camera: Camera, light: Light, dice: Dice) -> None:
        size = camera.height, camera.width
        self.camera, self.light, self.dice = camera, light, dice
        self.image = np.zeros((*size, 3), np.float32)
        self.mask = np.full(size, VOID, np.uint8)
        self.depth = np.full(size, FAR, np.float32)
        self.rows = (np.arange(camera.height, dtype=np.float32) + 0.5)[:, None]
        self.cols = (np.arange(camera.width, dtype=np.float32) + 0.5)[None, :]

    def board(self, x: float, z: float, width: float, top: float, bottom: float = 0.0) -> Patch | None:
        """Return the patch of an upright rectangle that faces the camera; ``along`` is measured from its middle.

        None if it lies outside of the picture or is hidden entirely.
        """
        if z < NEAR:
            return None
        camera, pixel = self.camera, z / self.camera.focal
        middle = camera.column(x, z)
        window = self._window(
            middle - 0.5 * width / pixel, middle + 0.5 * width / pixel, camera.row(top, z), camera.row(bottom, z)
        )
        if window is None or not (self.depth[window] >= z).any():
            return None
        along = (self.cols[:, window[1]] - middle) * pixel
        up = (camera.horizon - self.rows[window[0]]) * pixel + camera.eye
        return Patch(window, along, up, np.full((1, 1), z, np.float32), pixel)

    def wall(self, start: Point, end: Point, top: float, bottom: float = 0.0) -> Patch | None:
        """Return the patch of an upright rectangle between two points of the ground; ``along`` runs from start to end.

        Straight lines stay straight in a picture because 1/z, and with it (position along the wall)/z, is linear in
        the column. None if the rectangle lies outside of the picture or is hidden entirely.
        """
        (xa, za), (xb, zb) = start, end
        length = math.sqrt((xb - xa) ** 2 + (zb - za) ** 2)
        ends = [(xa, za, 0.0), (xb, zb, length)]
        if max(za, zb) <= NEAR:
            return None
        for i, (x, z, along_end) in enumerate(ends):
            if z < NEAR:  # walk along the wall to where it leaves the camera's reach
                x_other, z_other, along_other = ends[1 - i]
                part = (NEAR - z) / (z_other - z)
                ends[i] = (x + part * (x_other - x), NEAR, along_end + part * (along_other - along_end))
        camera = self.camera
        (left, za, ta), (right, zb, tb) = sorted((camera.column(x, z), z, t) for x, z, t in ends)
        highest = min(camera.row(top, za), camera.row(top, zb))
        lowest = max(camera.row(bottom, za), camera.row(bottom, zb))
        window = self._window(left, right, highest, lowest)
        if window is None:
            return None
        part_right = np.clip((self.cols[:, window[1]] - left) / max(right - left, 1.0), 0, 1)
        part_left = 1 - part_right
        depth = 1 / (part_left / za + part_right / zb)
        if not (self.depth[window] >= depth).any():
            return None
        along = (part_left * (ta / za) + part_right * (tb / zb)) * depth
        up = (camera.horizon - self.rows[window[0]]) * (depth / camera.focal) + camera.eye
        return Patch(window, along, up, depth, min(za, zb) / camera.focal, (up >= bottom) & (up <= top))

    def paint(
        self,
        patch: Patch,
        label: int | None,
        colours: Floats,
        which: npt.NDArray[np.integer] | None = None,
        shape: Bools | None = None,
        shows: Bools | None = None,
        grain: float = 0.05,
    ) -> None:
        """Paint a patch wherever nothing nearer is there already.

        ``colours`` is one colour (3,), or several (M, 3) that ``which`` (h, w) chooses from. ``shape`` (h, w) is the
        outline of the thing. Where ``shows`` is False, gaps between railings or twigs, the label and depth are set and
        the picture behind is kept. ``label=None`` keeps the label. ``grain`` is the strength of the surface's speckle.
        """
        depth = self.depth[patch.window]
        visible = patch.depth <= depth
        if patch.inside is not None:
            visible &= patch.inside
        if shape is not None:
            visible &= shape
        np.copyto(depth, patch.depth, where=visible)
        if label is not None:
            np.copyto(self.mask[patch.window], np.uint8(label), where=visible)
        if shows is not None:
            visible = visible & shows
        colours = colours if which is None else colours.take(which, axis=0)
        pixels = colours * (1 + grain * self.texture(speckle(), patch.shape))[..., None]
        np.copyto(self.image[patch.window], pixels, where=visible[..., None])

    def texture(self, bank: Floats, shape: tuple[int, int]) -> Floats:
        """Return noise (h, w) or (h, w, 3) cut at random from a bank, one texel a pixel."""
        top, left = int(self.dice.random() * TILE), int(self.dice.random() * TILE)
        bottom, right = top + shape[0], left + shape[1]
        if bottom <= TILE and right <= TILE:
            return bank[top:bottom, left:right]
        return bank[(np.arange(top, bottom) & (TILE - 1))[:, None], np.arange(left, right) & (TILE - 1)]

    def _window(self, left: float, right: float, top: float, bottom: float) -> tuple[slice, slice] | None:
        rows = _pixels(top, bottom, self.camera.height)
        cols = _pixels(left, right, self.camera.width)
        return None if rows is None or cols is None else (rows, cols)


def _pixels(low: float, high: float, size: int) -> slice | None:
    """Return the pixels between two edges, at least one where the edges meet; None if they lie outside."""
    first = round(low)
    last = max(round(high), first + 1)
    first, last = max(first, 0), min(last, size)
    return slice(first, last) if first < last else None
