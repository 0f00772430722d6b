"""What stands in a generated street: houses, fences, trees, poles, cars, people.

Each thing is sampled once, in metres, from dice; it can then be drawn at any size. Drawing decides, for every pixel
of a patch, whether it belongs to the thing and which of the thing's materials is seen there, from the pixel's position
on the surface in metres.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segcourse.datasets.base import VOID
from segcourse.datasets.canvas import Bools, Canvas, Dice, Floats, Patch, Point, clumps, look_up, smooth
from segcourse.datasets.labels import Label


class Thing(Protocol):
    """Whatever can be drawn on a canvas."""

    @property
    def z(self) -> float:
        """Distance from the camera, metres."""

    def draw(self, canvas: Canvas) -> None:
        """Draw the thing, label it, and leave what hides it alone."""


def capsule(patch: Patch, start: Point, end: Point, radius: float) -> Bools:
    """Return the pixels within ``radius`` of a segment between two points (along, up): a limb, a bar.

    No limb is thinner than a pixel, or it would vanish in the distance.
    """
    (xa, ya), (xb, yb) = start, end
    dx, dy = xb - xa, yb - ya
    part = ((patch.along - xa) * dx + (patch.up - ya) * dy) / (dx * dx + dy * dy)
    part = np.clip(part, 0, 1)
    radius = max(radius, 0.5 * patch.pixel)
    return (patch.along - xa - part * dx) ** 2 + (patch.up - ya - part * dy) ** 2 < radius * radius


def disc(patch: Patch, centre: Point, radius: float) -> Bools:
    """Return the pixels within ``radius`` of a point (along, up)."""
    radius = max(radius, 0.5 * patch.pixel)
    return (patch.along - centre[0]) ** 2 + (patch.up - centre[1]) ** 2 < radius * radius


def ring(patch: Patch, centre: Point, radius: float, thickness: float) -> Bools:
    """Return the pixels of a ring around a point (along, up); never thinner than a pixel."""
    half = 0.5 * max(thickness, patch.pixel)
    return disc(patch, centre, radius + half) & ~disc(patch, centre, max(radius - half, 0.0))


def repeats(position: Floats, period: float, low: float, high: float) -> Bools:
    """Return where a position, counted in periods, has its fractional part between low and high: windows, slabs."""
    part = position / period
    part = part - np.floor(part)
    return (part > low) & (part < high)


def outline(patch: Patch, position: Point, scale: float = 6.0) -> Floats:
    """Return noise in about [-1, 1] that belongs to the surface: ``scale`` texels a metre, shifted by ``position``."""
    return look_up(clumps(), patch.up * scale + position[0], patch.along * scale + position[1])


@dataclass(frozen=True)
class Front:
    """Whatever stands upright between two points of the ground."""

    start: Point
    end: Point

    @property
    def z(self) -> float:
        """Distance of the farther end, metres."""
        return max(self.start[1], self.end[1])


@dataclass(frozen=True)
class House(Front):
    """A house along the street: windows in rows, perhaps a shop below and a roof above; one gable may be seen."""

    side: int
    eaves: float
    roof: float
    storey: float
    bay: float
    window: tuple[float, float]
    shop: bool
    board: Point  # where along the front a lettered board begins and ends
    materials: Floats

    WALL, GLASS, FRAME, ROOF, SHOP, SIGNBOARD = range(6)

    @classmethod
    def sample(cls, dice: Dice, start: Point, end: Point, side: int, height: float) -> "House":
        """Return a house whose front runs from start to end, on the given side of the street (-1 left, 1 right)."""
        wall = dice.pick((
            dice.colour((0.34, 0.6), (0.24, 0.36), (0.18, 0.28)),  # brick
            dice.colour((0.58, 0.85), (0.54, 0.76), (0.42, 0.64)),  # sandstone, plaster
            dice.grey(0.3, 0.85, 0.04),  # render, concrete
        ))  # fmt: skip
        glass = dice.grey(0.05, 0.3) if dice.chance(0.8) else dice.colour((0.4, 0.6), (0.5, 0.7), (0.6, 0.8))
        frame = dice.grey(0.5, 0.9)
        roof = dice.pick((dice.grey(0.15, 0.35), dice.colour((0.3, 0.5), (0.18, 0.28), (0.12, 0.2))))
        shop = dice.colour((0.08, 0.4), (0.08, 0.35), (0.08, 0.35))
        letters = dice.colour((0.1, 0.7), (0.1, 0.6), (0.1, 0.6))
        board_at, board_length = dice.between(0, 6), dice.between(1.5, 5)
        return cls(
            start, end, side,
            eaves=height * dice.between(0.6, 1.2), roof=dice.pick((0.0, dice.between(1.2, 3.0))),
            storey=dice.between(2.6, 3.4), bay=dice.between(1.8, 3.6),
            window=(dice.between(0.2, 0.35), dice.between(0.6, 0.8)), shop=dice.chance(0.45),
            board=(board_at, board_at + board_length),
            materials=np.stack([wall, glass, frame, roof, shop, letters]),
        )  # fmt: skip

    def draw(self, canvas: Canvas) -> None:
        """Draw the front, and the gable that faces the camera."""
        front = canvas.wall(self.start, self.end, self.eaves + self.roof)
        if front is not None:
            light = canvas.light.on(-self.side)
            which = self._facade(front)
            canvas.paint(front, Label.BUILDING, self.materials * light, which, grain=0.06)
            if self.shop:
                begin, end = self.board
                board = (which == self.SIGNBOARD) & (front.along > begin) & (front.along < end)
                canvas.paint(front, Label.SIGN, self.materials[self.SIGNBOARD] * (1.4 * light), shape=board, grain=0.3)
        x, z = self.start
        gable = canvas.wall((x, z), (x + 8.0 * self.side, z), self.eaves + self.roof)
        if gable is not None:
            slope = self.eaves + self.roof * np.minimum(gable.along, 8.0 - gable.along) / 4.0
            wall = self.materials[self.WALL] * (0.85 * canvas.light.on(0))
            canvas.paint(gable, Label.BUILDING, wall, shape=gable.up < slope, grain=0.06)

    def _facade(self, front: Patch) -> np.ndarray:
        """Return the material seen at each pixel of the front."""
        low, high = self.window
        first = 3.6 if self.shop else 0.7  # metres: no window below
        glazed = (front.up > first) & (front.up < self.eaves - 0.3)
        columns = repeats(front.along, self.bay, low - 0.06, high + 0.06)
        which = np.where(glazed & columns & repeats(front.up, self.storey, 0.25, 0.85), self.FRAME, self.WALL)
        panes = repeats(front.along, self.bay, low, high) & repeats(front.up, self.storey, 0.3, 0.8)
        which[glazed & panes] = self.GLASS
        which[front.up > self.eaves] = self.ROOF
        if self.shop:
            ground_floor = front.up < 3.4
            which[ground_floor] = self.SHOP
            which[ground_floor & (front.up > 2.6)] = self.SIGNBOARD
            which[(front.up < 2.5) & (front.up > 0.5) & repeats(front.along, 1.4, 0.1, 0.92)] = self.GLASS
        return which


@dataclass(frozen=True)
class Fence(Front):
    """Railings or planks along the pavement; through railings one sees what is behind them."""

    height: float
    gap: float
    open: bool
    colour: Floats

    @classmethod
    def sample(cls, dice: Dice, start: Point, end: Point) -> "Fence":
        """Return a fence from start to end."""
        is_open = dice.chance(0.5)
        colour = dice.grey(0.05, 0.3) if is_open else dice.colour((0.2, 0.5), (0.15, 0.4), (0.1, 0.35))
        return cls(start, end, dice.between(1.0, 2.0), dice.between(0.25, 0.5), is_open, colour)

    def draw(self, canvas: Canvas) -> None:
        """Draw posts and rails; the label covers the gaps too, as human labels do."""
        patch = canvas.wall(self.start, self.end, self.height)
        if patch is None:
            return
        bars = repeats(patch.along, self.gap, 0.0, 0.45)
        if self.open:
            rails = (patch.up > self.height - 0.2) | (patch.up < 0.25)
            canvas.paint(patch, Label.FENCE, self.colour, shows=bars | rails)
        else:
            colours = np.stack([self.colour, self.colour * 0.75])
            canvas.paint(patch, Label.FENCE, colours, bars.astype(np.intp) * np.ones(patch.shape, np.intp))


@dataclass(frozen=True)
class Hedge(Front):
    """A row of bushes or trees with a ragged top."""

    bottom: float
    height: float
    shift: Point
    colour: Floats

    @classmethod
    def sample(cls, dice: Dice, start: Point, end: Point, bottom: float, height: float) -> "Hedge":
        """Return greenery between two points of the ground, from ``bottom`` to about ``height`` metres."""
        return cls(start, end, bottom, height, (dice.between(0, 256), dice.between(0, 256)), foliage(dice))

    def draw(self, canvas: Canvas) -> None:
        """Draw the leaves, lit from above."""
        patch = canvas.wall(self.start, self.end, self.height * 1.3, self.bottom)
        if patch is None:
            return
        ragged = outline(patch, self.shift, 3.0)
        leaves = (0.75 + 0.25 * patch.up / self.height + 0.45 * canvas.texture(clumps(), patch.shape))[..., None]
        shape = patch.up < self.height * (0.85 + 0.4 * ragged)
        _paint_pixels(canvas, patch, Label.TREE, self.colour * leaves, shape)


@dataclass(frozen=True)
class Tree:
    """A trunk and a crown: a ragged ellipse of leaves, or bare twigs that let the sky through."""

    x: float
    z: float
    height: float
    radius: float
    trunk: float
    bare: bool
    shift: Point
    bark: Floats
    leaf: Floats

    @classmethod
    def sample(cls, dice: Dice, x: float, z: float) -> "Tree":
        """Return a tree that stands at (x, z)."""
        bark = dice.colour((0.14, 0.3), (0.11, 0.24), (0.08, 0.18))
        return cls(
            x, z, dice.between(5, 11), dice.between(1.6, 3.6), dice.between(0.12, 0.3), dice.chance(0.4),
            (dice.between(0, 256), dice.between(0, 256)), bark, foliage(dice),
        )  # fmt: skip

    def draw(self, canvas: Canvas) -> None:
        """Draw the crown and the trunk; the label covers the gaps between the twigs too, as human labels do."""
        low = 0.3 * self.height
        trunk = canvas.board(self.x, self.z, 2 * self.trunk, 0.6 * self.height)
        if trunk is not None:
            canvas.paint(trunk, Label.TREE, self.bark * canvas.light.on(0), grain=0.2)
        crown = canvas.board(self.x, self.z, 2.3 * self.radius, self.height, low)
        if crown is None:
            return
        ragged = outline(crown, self.shift)
        middle, half = 0.5 * (self.height + low), 0.5 * (self.height - low)
        from_middle = (crown.along / self.radius) ** 2 + ((crown.up - middle) / half) ** 2
        shape = from_middle < 0.85 + 0.55 * ragged
        if self.bare:
            behind = canvas.image[crown.window]
            _paint_pixels(canvas, crown, Label.TREE, behind + self._twigs(crown) * (self.bark - behind), shape)
            return
        sunny = 1 + 0.3 * canvas.light.hard * canvas.light.side * crown.along / self.radius
        leaves = (0.8 + 0.2 * (crown.up - middle) / half) * sunny + 0.5 * canvas.texture(clumps(), crown.shape)
        gaps = canvas.texture(smooth(4), crown.shape) > -0.6
        _paint_pixels(canvas, crown, Label.TREE, self.leaf * leaves[..., None], shape, gaps)

    def _twigs(self, crown: Patch) -> Floats:
        """Return how much of each pixel (h, w, 1) bare twigs hide: winding lines where smooth noise crosses zero."""
        row, column = self.shift
        boughs = abs(look_up(smooth(16), crown.up * 10 + row, crown.along * 20 + column))
        twigs = abs(look_up(smooth(4), crown.up * 8 + column, crown.along * 10 + row))
        return np.clip(np.maximum(0.9 - 6 * boughs, 0.8 - 2 * twigs), 0.2, 1)[..., None]


@dataclass(frozen=True)
class Sign:
    """What hangs on a pole: a traffic sign (disc, triangle or plate) or a traffic light."""

    kind: str
    up: float
    radius: float
    materials: Floats  # rim, face; box, lamp

    @classmethod
    def sample(cls, dice: Dice, up: float, traffic_light: bool) -> "Sign":
        """Return a sign whose middle is ``up`` metres above the ground."""
        if traffic_light:
            lamp = dice.pick(
                (dice.colour((0.85, 1), (0.1, 0.3), (0.05, 0.2)), dice.colour((0.1, 0.3), (0.8, 1), (0.4, 0.7)))
            )
            return cls("lights", up, dice.between(0.45, 0.6), np.stack([dice.grey(0.03, 0.12), lamp]))
        white = dice.grey(0.75, 0.95)
        red, blue = (
            dice.colour((0.6, 0.85), (0.08, 0.18), (0.1, 0.2)),
            dice.colour((0.08, 0.2), (0.2, 0.4), (0.5, 0.85)),
        )
        yellow = dice.colour((0.75, 0.95), (0.6, 0.75), (0.05, 0.15))
        rim, face = dice.pick(
            ((red, white), (white, blue), (red, blue), (blue, blue), (yellow, yellow), (white, white))
        )
        kind = dice.pick(("disc", "disc", "triangle", "plate"))
        return cls(kind, up, dice.between(0.35, 0.65), np.stack([rim, face]))

    def draw(self, canvas: Canvas, x: float, z: float) -> None:
        """Draw the sign at (x, z)."""
        size = self.radius
        width = 0.9 * size if self.kind == "lights" else 2 * size
        patch = canvas.board(x, z, width, self.up + size, self.up - size)
        if patch is None:
            return
        up = patch.up - self.up
        if self.kind == "lights":
            face = disc(patch, (0.0, self.up + 0.55 * size), 0.3 * size)
            materials = self.materials * np.array([[1.0], [canvas.light.lamps]], np.float32)
            canvas.paint(patch, Label.SIGN, materials, face.astype(np.intp))
            return
        if self.kind == "disc":
            distance = patch.along**2 + up**2
            shape, face = distance < size * size, distance < 0.6 * size * size
        elif self.kind == "triangle":
            slope = 0.5 * (size - up)
            shape, face = abs(patch.along) < slope, (abs(patch.along) < slope - 0.25 * size) & (up > -0.75 * size)
        else:
            shape, face = np.ones(patch.shape, np.bool_), (abs(patch.along) < 0.8 * size) & (abs(up) < 0.8 * size)
        canvas.paint(patch, Label.SIGN, self.materials * canvas.light.on(0), face.astype(np.intp), shape)


@dataclass(frozen=True)
class Pole:
    """A post, perhaps with a lamp on an arm, perhaps with a sign."""

    x: float
    z: float
    height: float
    width: float
    arm: float  # metres towards the road, signed; 0 for none
    colour: Floats
    sign: Sign | None

    @classmethod
    def lamp_post(cls, dice: Dice, x: float, z: float, side: int) -> "Pole":
        """Return a tall street lamp whose arm reaches over the road."""
        colour = dice.grey(0.15, 0.6)
        return cls(x, z, dice.between(6, 10), dice.between(0.12, 0.18), -side * dice.between(0.8, 2.2), colour, None)

    @classmethod
    def sign_post(cls, dice: Dice, x: float, z: float) -> "Pole":
        """Return a post with a traffic sign, or a traffic light."""
        height, lights = dice.between(2.4, 3.8), dice.chance(0.4)
        colour = dice.grey(0.08, 0.6)
        sign = Sign.sample(dice, height - 0.4, lights)
        return cls(x, z, height, dice.between(0.09, 0.15), 0.0, colour, sign)

    @classmethod
    def bollard(cls, dice: Dice, x: float, z: float) -> "Pole":
        """Return a short post at the kerb."""
        return cls(x, z, dice.between(0.8, 1.1), dice.between(0.12, 0.2), 0.0, dice.grey(0.05, 0.8), None)

    def draw(self, canvas: Canvas) -> None:
        """Draw post, arm and sign."""
        colour = self.colour * canvas.light.on(0)
        post = canvas.board(self.x, self.z, self.width, self.height)
        if post is not None:
            canvas.paint(post, Label.POLE, colour)
        if self.arm:
            arm = canvas.board(self.x + self.arm / 2, self.z, abs(self.arm), self.height, self.height - 0.12)
            head = canvas.board(self.x + self.arm, self.z, 0.7, self.height + 0.05, self.height - 0.2)
            if arm is not None:
                canvas.paint(arm, Label.POLE, colour)
            if head is not None:
                canvas.paint(head, Label.POLE, colour * canvas.light.lamps)
        if self.sign is not None:
            self.sign.draw(canvas, self.x, self.z)


@dataclass(frozen=True)
class Car:
    """A car, van or bus: the end that faces the camera and, in perspective, the flank.

    ``profile`` says where along the flank the cabin begins and ends, as parts of the length, and how far its pillars
    lean.
    """

    x: float
    z: float
    width: float
    length: float
    height: float
    waist: float
    profile: tuple[float, float, float]
    crossing: bool
    materials: Floats

    BODY, GLASS, TYRE, LAMP, PLATE = range(5)

    @classmethod
    def sample(cls, dice: Dice, x: float, z: float, coming: bool, crossing: bool = False) -> "Car":
        """Return a vehicle whose nearest end is at (x, z): it comes towards the camera, drives away, or crosses."""
        body = dice.pick(
            (dice.grey(0.04, 0.25), dice.grey(0.35, 0.6), dice.grey(0.75, 0.92), _car_paint(dice), _car_paint(dice))
        )
        lamp = dice.grey(0.8, 1.0) if coming else dice.colour((0.5, 0.8), (0.03, 0.12), (0.03, 0.1))
        plate = dice.pick((dice.grey(0.75, 0.9), dice.colour((0.75, 0.9), (0.65, 0.75), (0.1, 0.3))))
        materials = np.stack([body, dice.grey(0.05, 0.3), dice.grey(0.02, 0.08), lamp, plate])
        kind = dice.random()
        if kind < 0.06:  # bus
            height = dice.between(2.9, 4.3)
            size, profile = (2.4, dice.between(8, 11), height, 0.35 * height), (0.0, 1.0, 0.0)
        elif kind < 0.18:  # van
            height = dice.between(1.9, 2.5)
            size, profile = (1.9, dice.between(4.6, 5.6), height, 0.55 * height), (0.0, 0.85, 0.1)
        else:
            height = dice.between(1.38, 1.6)
            size = (dice.between(1.65, 1.85), dice.between(3.7, 4.7), height, dice.between(0.56, 0.62) * height)
            profile = (dice.between(0.0, 0.14), dice.between(0.7, 0.8), dice.between(0.08, 0.14))
        return cls(x, z, *size, profile, crossing, materials)

    def draw(self, canvas: Canvas) -> None:
        """Draw flank and end, each with its windows, wheels and lamps."""
        if self.crossing:
            self._draw_flank(canvas, (self.x - self.length / 2, self.z), (self.x + self.length / 2, self.z), 0)
            return
        side = 1 if self.x > 0 else -1
        x = self.x - side * self.width / 2  # the flank on the camera's side
        self._draw_flank(canvas, (x, self.z), (x, self.z + self.length), -side)
        self._draw_end(canvas)

    def _draw_flank(self, canvas: Canvas, start: Point, end: Point, facing: int) -> None:
        patch = canvas.wall(start, end, self.height)
        if patch is None:
            return
        begin, finish, lean = (part * self.length for part in self.profile)
        rise = np.clip((patch.up - self.waist) / (self.height - self.waist), 0, 1)
        wheels = disc(patch, (0.18 * self.length, 0.31), 0.33) | disc(patch, (0.82 * self.length, 0.31), 0.33)
        cabin = (patch.along > begin + lean * rise) & (patch.along < finish - 2 * lean * rise)
        shape = (patch.up < self.waist) | cabin
        inner = (patch.along > begin + lean * rise + 0.18) & (patch.along < finish - 2 * lean * rise - 0.18)
        glass = inner & (rise > 0.06) & (rise < 0.88) & repeats(patch.along - begin, 1.3, 0.05, 1.0)
        which = np.where(glass, self.GLASS, self.BODY)
        which[wheels | (patch.up < 0.22)] = self.TYRE
        canvas.paint(patch, Label.CAR, self._lit(canvas, facing), which, shape)

    def _draw_end(self, canvas: Canvas) -> None:
        patch = canvas.board(self.x, self.z, self.width, self.height)
        if patch is None:
            return
        across = abs(patch.along) / self.width  # 0 in the middle, 0.5 at the flanks
        rise = np.clip((patch.up - self.waist) / (self.height - self.waist), 0, 1)
        shape = across < 0.5 - 0.12 * rise
        which = np.where((rise > 0.08) & (rise < 0.85) & (across < 0.43 - 0.12 * rise), self.GLASS, self.BODY)
        height = patch.up / self.waist
        which[(height > 0.62) & (height < 0.85) & (across > 0.36)] = self.LAMP
        which[(height > 0.4) & (height < 0.55) & (across < 0.14)] = self.PLATE
        which[(patch.up < 0.28) | (patch.up < 0.35) & (across > 0.33)] = self.TYRE
        canvas.paint(patch, Label.CAR, self._lit(canvas, 0), which, shape)

    def _lit(self, canvas: Canvas, facing: int) -> Floats:
        light = np.full((5, 1), canvas.light.on(facing), np.float32)
        light[self.LAMP] = canvas.light.lamps
        return self.materials * light


@dataclass(frozen=True)
class Person:
    """Somebody on the pavement: head, coat, two legs in mid-step."""

    x: float
    z: float
    height: float
    step: float
    lean: float
    materials: Floats  # coat, legs, skin

    @classmethod
    def sample(cls, dice: Dice, x: float, z: float) -> "Person":
        """Return a person who stands or walks at (x, z)."""
        clothes = dice.grey(0.03, 0.3, 0.05) if dice.chance(0.7) else dice.colour((0.1, 0.8), (0.1, 0.6), (0.1, 0.7))
        materials = np.stack([clothes, dice.grey(0.03, 0.25, 0.05), _skin(dice)])
        return cls(x, z, dice.between(1.5, 1.9), dice.between(0.04, 0.3), dice.between(-0.04, 0.04), materials)

    def draw(self, canvas: Canvas) -> None:
        """Draw the figure."""
        h = self.height
        patch = canvas.board(self.x, self.z, 0.5 * h, h)
        if patch is None:
            return
        hip, neck = (0.0, 0.5 * h), (self.lean * h, 0.78 * h)
        head = disc(patch, (self.lean * h, 0.92 * h), 0.075 * h)
        coat = capsule(patch, hip, neck, 0.125 * h)
        legs = capsule(patch, hip, (-self.step, 0.0), 0.055 * h) | capsule(patch, hip, (self.step, 0.0), 0.055 * h)
        which = np.where(head, 2, np.where(coat, 0, 1))
        canvas.paint(patch, Label.PEDESTRIAN, self.materials * canvas.light.on(0), which, head | coat | legs)


@dataclass(frozen=True)
class Cyclist:
    """A bicycle and its rider, seen from the side or from an end."""

    x: float
    z: float
    facing: int  # -1 rides left, 1 rides right, 0 along the street
    height: float
    materials: Floats  # frame and tyres, coat, legs, head

    RADIUS = 0.34  # metres, of a wheel

    @classmethod
    def sample(cls, dice: Dice, x: float, z: float, facing: int) -> "Cyclist":
        """Return a cyclist at (x, z)."""
        coat = dice.grey(0.05, 0.4, 0.05) if dice.chance(0.6) else dice.colour((0.2, 0.9), (0.2, 0.8), (0.1, 0.5))
        head = _skin(dice) if dice.chance(0.6) else dice.grey(0.1, 0.9)
        return cls(
            x, z, facing, dice.between(1.65, 1.9),
            np.stack([dice.grey(0.03, 0.2), coat, dice.grey(0.03, 0.25, 0.05), head]),
        )  # fmt: skip

    def draw(self, canvas: Canvas) -> None:
        """Draw wheels, frame and rider; the label covers the spokes too."""
        patch = canvas.board(self.x, self.z, 0.7 if self.facing == 0 else 1.85, self.height)
        if patch is None:
            return
        bicycle, filled = self._bicycle(patch)
        rider_faces = self.facing
        seat, neck = (-0.2 * rider_faces, 0.95), (0.16 * rider_faces, self.height - 0.42)
        head = disc(patch, (0.27 * rider_faces, self.height - 0.15), 0.13)
        coat = capsule(patch, seat, neck, 0.17 if self.facing == 0 else 0.14)
        coat |= capsule(patch, neck, (0.42 * rider_faces, 1.05), 0.05)
        if self.facing == 0:
            legs = capsule(patch, (-0.1, 0.9), (-0.13, 0.3), 0.07) | capsule(patch, (0.1, 0.9), (0.13, 0.45), 0.07)
        else:
            knee = (0.2 * self.facing, 0.65)
            legs = capsule(patch, seat, knee, 0.09) | capsule(patch, knee, (0.02 * self.facing, 0.22), 0.07)
        which = np.where(head, 3, np.where(coat, 1, np.where(legs, 2, 0)))
        body = head | coat | legs
        colours = self.materials * canvas.light.on(0)
        canvas.paint(patch, Label.BICYCLIST, colours, which, body | filled, body | bicycle)

    def _bicycle(self, patch: Patch) -> tuple[Bools, Bools]:
        """Return what is seen of the bicycle, and its outline."""
        r = self.RADIUS
        if self.facing == 0:
            wheel = capsule(patch, (0.0, 0.0), (0.0, 2 * r), 0.03)
            return wheel | capsule(patch, (-0.28, 1.05), (0.28, 1.05), 0.025), wheel
        rear, front = (-0.52 * self.facing, r), (0.52 * self.facing, r)
        frame = capsule(patch, rear, (-0.1 * self.facing, 0.85), 0.025)
        frame |= capsule(patch, (0.0, 0.3), (0.38 * self.facing, 0.85), 0.025)
        frame |= capsule(patch, front, (0.38 * self.facing, 1.0), 0.025)
        wheels = ring(patch, rear, r, 0.05) | ring(patch, front, r, 0.05)
        return wheels | frame, disc(patch, rear, r) | disc(patch, front, r) | frame


@dataclass(frozen=True)
class Box:
    """An upright board in a frame: a poster, or what nobody labelled (a bin, whatever fills the end of a street)."""

    x: float
    z: float
    width: float
    height: float
    label: int
    materials: Floats  # frame, upper half, lower half

    @classmethod
    def poster(cls, dice: Dice, x: float, z: float) -> "Box":
        """Return a poster case as at a bus stop, labelled as a sign."""
        materials = np.stack([dice.grey(0.1, 0.4), _any_colour(dice), _any_colour(dice)])
        return cls(x, z, dice.between(0.9, 1.6), dice.between(1.8, 2.6), Label.SIGN, materials)

    @classmethod
    def clutter(cls, dice: Dice, x: float, z: float, width: float, height: float) -> "Box":
        """Return a void board, its width and height in metres."""
        return cls(x, z, width, height, VOID, 0.6 * np.stack([_any_colour(dice) for _ in range(3)]))

    def draw(self, canvas: Canvas) -> None:
        """Draw the board."""
        patch = canvas.board(self.x, self.z, self.width, self.height)
        if patch is None:
            return
        picture = (abs(patch.along) < 0.42 * self.width) & (abs(patch.up - 0.5 * self.height) < 0.44 * self.height)
        which = np.where(picture, np.where(patch.up > 0.6 * self.height, 1, 2), 0)
        canvas.paint(patch, self.label, self.materials * canvas.light.on(0), which, grain=0.15)


WITH_GAPS = (Cyclist, Fence, Tree)
"""What one sees through in places, and must therefore be drawn after what is behind it."""


def foliage(dice: Dice) -> Floats:
    """Return a colour of leaves: spring green to autumn brown, mostly dark."""
    if dice.chance(0.75):
        return dice.colour((0.14, 0.34), (0.2, 0.42), (0.06, 0.2))
    return dice.colour((0.25, 0.42), (0.22, 0.36), (0.12, 0.22))


def _any_colour(dice: Dice) -> Floats:
    return dice.colour((0.1, 0.8), (0.1, 0.75), (0.1, 0.75))


def _car_paint(dice: Dice) -> Floats:
    return dice.pick((
        dice.colour((0.35, 0.7), (0.03, 0.12), (0.04, 0.12)),  # red
        dice.colour((0.04, 0.2), (0.1, 0.3), (0.3, 0.6)),  # blue
        dice.colour((0.05, 0.2), (0.2, 0.4), (0.12, 0.3)),  # green
        dice.colour((0.4, 0.6), (0.34, 0.46), (0.15, 0.3)),  # gold
    ))  # fmt: skip


def _skin(dice: Dice) -> Floats:
    tone = dice.between(0.35, 1.0)
    return np.array([0.85 * tone, 0.66 * tone, 0.54 * tone], np.float32)


def _paint_pixels(
    canvas: Canvas, patch: Patch, label: int, pixels: Floats, shape: Bools, shows: Bools | None = None
) -> None:
    """Paint a patch whose every pixel has a colour (h, w, 3) of its own."""
    canvas.paint(patch, label, pixels.astype(np.float32), None, shape, shows)
