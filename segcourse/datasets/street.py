"""Generated street scenes: CamVid's eleven classes and void, in perspective, with shadows and weather.

A scene is made in three steps, each a function to read: `lay_out` plans a street and samples what stands in it, in
metres; `draw` paints the plan at a size; `take_photograph` adds what a camera and the weather do. The same seed gives
the same street at every size, and the same bytes on every machine (see `canvas`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from segcourse.datasets.base import SPLITS, VOID, SegmentationSet, check_split
from segcourse.datasets.canvas import (
    FAR,
    TILE,
    Camera,
    Canvas,
    Dice,
    Floats,
    Light,
    Point,
    Range,
    clumps,
    film_grain,
    look_up,
    smooth,
    speckle,
)
from segcourse.datasets.labels import CLASSES, PALETTE, Label
from segcourse.datasets.things import (
    WITH_GAPS,
    Box,
    Car,
    Cyclist,
    Fence,
    Hedge,
    House,
    Person,
    Pole,
    Thing,
    Tree,
    repeats,
)

SMALLEST = 32  # pixels: below this a scene has no street left to see
SIDES = (-1, 1)  # left, right


def street_scene(
    seed: int | Sequence[int], size: tuple[int, int] = (96, 128)
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return one generated street: image (H, W, 3) uint8 and mask (H, W) uint8 with void = 255.

    Args:
        seed: a number from 0 to 2**32 - 1, or up to three of them. Image i of `streets` has the seed
            (seed, 1 for train, 2 for val, 3 for test, i).
        size: height and width in pixels, each at least 32.

    Raises:
        ValueError: the size is too small, or the seed is negative or too large.
    """
    check_size(size)
    entropy = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    if len(entropy) > 3 or not all(0 <= number < 2**32 for number in entropy):
        raise ValueError(f"seed {seed!r}: expected a number from 0 to 2**32 - 1, or up to three of them")
    words = (*entropy, 0, 0, 0)[:3]
    layout, surface = Dice(*words, 1), Dice(*words, 2)  # drawing may roll more dice at one size than at another
    weather = Weather.sample(layout)
    plan, things = lay_out(layout)
    canvas = draw(plan, things, weather, size, surface)
    return take_photograph(canvas, plan, weather), canvas.mask


def streets(split: str, count: int, size: tuple[int, int] = (96, 128), seed: int = 0) -> SegmentationSet:
    """Return generated streets; the splits of one seed never share a scene.

    Args:
        split: "train", "val" or "test".
        count: number of scenes; more of them begin with the same ones.
        size: height and width in pixels, each at least 32.
        seed: another seed, another town.

    Raises:
        ValueError: unknown split, negative count, or what `street_scene` refuses.
    """
    check_split(split)
    check_size(size)
    if count < 0:
        raise ValueError(f"{count} scenes: expected 0 or more")
    images = torch.empty(count, 3, *size)
    masks = torch.empty(count, *size, dtype=torch.int64)
    for i in range(count):
        image, mask = street_scene((seed, 1 + SPLITS.index(split), i), size)
        images[i] = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        masks[i] = torch.from_numpy(mask)
    frames = tuple(f"{split}_{seed}_{i:05d}" for i in range(count))
    return SegmentationSet("streets", split, images, masks, CLASSES, PALETTE, frames, count)


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError where a picture would be too small to show a street."""
    height, width = size
    if min(height, width) < SMALLEST:
        raise ValueError(f"a street of {height}x{width} pixels is too small: both sides must be at least {SMALLEST}")


@dataclass(frozen=True)
class Weather:
    """Sky, light and what the lens makes of them."""

    light: Light
    zenith: Floats
    skyline: Floats
    clouds: float
    haze: float  # metres until half of the light is gone
    wet: float  # how much of the street a puddle mirrors
    exposure: float
    tint: Floats
    blur: float
    noise: float
    gamma: float

    @classmethod
    def sample(cls, dice: Dice) -> "Weather":
        """Return a day: sunny, overcast, rainy, foggy or nearly night."""
        day = dice.random()
        dusk, fog, rain, sunny = day < 0.12, 0.12 <= day < 0.18, 0.18 <= day < 0.3, day > 0.6
        white = dice.grey(0.82, 1.0)
        blue = dice.colour((0.35, 0.65), (0.55, 0.78), (0.85, 1.0))
        hard = dice.between(0.5, 1) if sunny else dice.between(0, 0.3)
        return cls(
            light=Light(dice.pick(SIDES), hard, lamps=2.0 if dusk else 1.0),
            zenith=blue if sunny else dice.grey(0.7, 1.0),
            skyline=white,
            clouds=dice.between(0.03, 0.3) if dusk else dice.between(0.0, 0.15),
            haze=dice.between(25, 70) if fog else dice.between(150, 250) if rain else dice.between(250, 900),
            wet=dice.between(0.2, 0.45) if rain else 0.0,
            exposure=dice.between(0.3, 0.55) if dusk else dice.between(0.8, 1.35),
            tint=dice.colour((0.93, 1.05), (0.96, 1.04), (0.93, 1.08)),
            blur=dice.between(0.15, 0.5),
            noise=dice.between(0.01, 0.03) if dusk else dice.between(0.005, 0.02),
            gamma=dice.between(0.85, 1.2),
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The ground plan of a street, in metres: x counts from the camera to the right, ``bend`` curves everything."""

    half_width: float
    centre: float
    bend: float
    pavements: tuple[float, float]
    openings: tuple[Range, Range]  # where a side street begins and ends, left and right; far away for none
    crossing: float  # where a zebra crossing begins; 0 for none
    edge_lines: bool
    asphalt: Floats
    slabs: Floats
    eye: float
    horizon: float
    vanish: float
    bonnet: float

    @classmethod
    def sample(cls, dice: Dice) -> "Plan":
        """Return a street."""
        half_width = dice.between(2.8, 5.2)
        return cls(
            half_width, dice.pick(SIDES) * dice.between(0.15, 0.6) * half_width,
            bend=dice.pick((0.0, dice.between(-0.006, 0.006))),
            pavements=(dice.between(1.0, 3.6), dice.between(1.0, 3.6)), openings=(_opening(dice), _opening(dice)),
            crossing=dice.between(8, 25) if dice.chance(0.15) else 0.0, edge_lines=dice.chance(0.5),
            asphalt=dice.grey(0.22, 0.42, 0.02), slabs=dice.grey(0.3, 0.55, 0.04),
            eye=dice.between(1.3, 1.7), horizon=dice.between(0.40, 0.52), vanish=dice.between(0.36, 0.64),
            bonnet=dice.between(0.90, 0.97) if dice.chance(0.45) else 2.0,
        )  # fmt: skip

    def x(self, across: float, z: float) -> float:
        """Return the x of a point ``across`` metres right of the middle of the road, z metres ahead."""
        return self.centre + across + 0.5 * self.bend * z * z

    def beside(self, side: int, part: float) -> float:
        """Return a place beside the road, across: part 0 at the kerb, 1 at the house fronts, more behind them."""
        return side * (self.half_width + part * self.pavements[max(side, 0)])

    def camera(self, size: tuple[int, int]) -> Camera:
        """Return the camera for a picture of this size: the field of view is as wide at every size."""
        height, width = size
        return Camera(height, width, 0.95 * width, self.eye, self.horizon * height, self.vanish * width)


def _opening(dice: Dice) -> Range:
    start = dice.between(7, 40)
    return (start, start + dice.between(6, 11)) if dice.chance(0.35) else (FAR, FAR)


def lay_out(dice: Dice) -> tuple[Plan, list[Thing]]:
    """Return a street and everything that stands in it."""
    plan = Plan.sample(dice)
    things = skyline(dice, plan)
    for side in SIDES:
        things += frontage(dice, plan, side)
        things += pavement(dice, plan, side)
        things += parked(dice, plan, side)
    return plan, things + traffic(dice, plan)


def skyline(dice: Dice, plan: Plan) -> list[Thing]:
    """Return what closes the street far ahead: roofs, trees, and things too far away to label."""
    z = dice.between(90, 140)
    things: list[Thing] = []
    for _ in range(3):
        x = plan.x(dice.between(-40, 40), z)
        reach, height = dice.between(10, 40), dice.between(4, 10)
        if dice.chance(0.5):
            things.append(House.sample(dice, (x - reach, z), (x + reach, z), 0, height))
        else:
            things.append(Hedge.sample(dice, (x - reach, z), (x + reach, z), 0.0, height))
    if dice.chance(0.85):
        z = dice.between(45, 80)
        things.append(Box.clutter(dice, plan.x(dice.between(-4, 4), z), z, dice.between(4, 14), dice.between(1.5, 4)))
    return things


def frontage(dice: Dice, plan: Plan, side: int) -> list[Thing]:
    """Return one side of the street, lot by lot: houses, gardens behind fences, hedges, gaps where a street opens."""
    things: list[Thing] = []
    height, z, far = dice.between(6, 13), -2.0, dice.between(50, 120)
    leafy, fenced = dice.between(0.05, 0.6), dice.between(0, 1) if dice.chance(0.4) else 0.0
    opens, closes = plan.openings[max(side, 0)]
    while z < far:
        if opens <= z < closes:
            z = closes
        end = z + dice.between(5, 14) + 0.1 * max(z, 0)
        if z < opens < end:
            end = opens
        things += lot(dice, plan, side, z, end, height, leafy, fenced)
        z = end
    return things


def lot(
    dice: Dice, plan: Plan, side: int, near: float, far: float, height: float, leafy: float, fenced: float
) -> list[Thing]:
    """Return what stands between two distances along one side: a house, or a garden, perhaps behind a fence."""

    def line(part: float) -> tuple[Point, Point]:
        across = plan.beside(side, part)
        return (plan.x(across, near), near), (plan.x(across, far), far)

    fence: list[Thing] = [Fence.sample(dice, *line(1.0))] if dice.chance(fenced) else []
    if not dice.chance(leafy):
        setback = dice.between(1.5, 2.5) if fence else 1.0
        return [House.sample(dice, *line(setback), side, height), *fence]
    return [Hedge.sample(dice, *line(1.3), 0.0, dice.between(2, 8)), *fence]


def pavement(dice: Dice, plan: Plan, side: int) -> list[Thing]:
    """Return what stands or walks on one pavement: trees, lamps, signs, bollards, bins, people."""
    things: list[Thing] = []

    def place(near: float, far: float, low: float, high: float) -> tuple[float, float]:
        z = dice.between(near, far)
        return plan.x(plan.beside(side, dice.between(low, high)), z), z

    things += [Tree.sample(dice, *place(7, 60, 0.4, 1.7)) for _ in range(dice.count(1.6))]
    spacing, z = dice.between(25, 40), dice.between(6, 35)
    while z < 55:
        things.append(Pole.lamp_post(dice, plan.x(plan.beside(side, 0.1), z), z, side))
        z += spacing
    things += [Pole.sign_post(dice, *place(4, 40, 0.08, 0.2)) for _ in range(dice.count(1.1))]
    if dice.chance(0.1):
        first, across = dice.between(5, 20), plan.beside(side, 0.12)
        row = [first + 1.8 * i for i in range(4)]
        things += [Pole.bollard(dice, plan.x(across, z), z) for z in row]
    if dice.chance(0.15):
        things.append(Box.poster(dice, *place(6, 25, 0.3, 0.9)))
    things += [Box.clutter(dice, *place(4, 30, 0.6, 0.95), 0.6, 1.1) for _ in range(dice.count(0.8))]
    for _ in range(dice.count(1.4)):
        x, z = place(4, 30, 0.15, 0.9)
        things += [Person.sample(dice, x + 0.6 * i, z + dice.between(0, 0.5)) for i in range(dice.pick((1, 1, 2)))]
    return things


def parked(dice: Dice, plan: Plan, side: int) -> list[Thing]:
    """Return a row of parked cars with gaps, or none."""
    things: list[Thing] = []
    if dice.chance(0.55):
        z, coming = dice.between(4, 14), dice.chance(0.5)
        for _ in range(int(dice.between(1, 7))):
            if dice.chance(0.75):
                things.append(Car.sample(dice, plan.x(side * (plan.half_width - 1.0), z), z, coming))
            z += dice.between(5.5, 7.5) if dice.chance(0.9) else 11.0
    return things


def traffic(dice: Dice, plan: Plan) -> list[Thing]:
    """Return what moves on the road: cars in both lanes, now and then one that crosses, cyclists."""
    things: list[Thing] = []
    own_lane = -1 if plan.centre > 0 else 1
    for _ in range(dice.count(1.3)):
        lane, z = dice.pick(SIDES), dice.between(8, 60)
        things.append(Car.sample(dice, plan.x(0.5 * lane * plan.half_width, z), z, coming=lane != own_lane))
    if dice.chance(0.08):
        z = dice.between(10, 30)
        things.append(Car.sample(dice, plan.x(dice.between(-6, 6), z), z, coming=True, crossing=True))
    for _ in range(dice.count(0.8)):
        side, z, facing = dice.pick(SIDES), dice.between(6, 27), dice.pick((-1, 0, 0, 1))
        things.append(Cyclist.sample(dice, plan.x(0.8 * side * plan.half_width, z), z, facing))
    if dice.chance(0.06):
        z = dice.between(7, 20)
        things.append(Person.sample(dice, plan.x(dice.between(-2, 2), z), z))
    return things


def draw(plan: Plan, things: Sequence[Thing], weather: Weather, size: tuple[int, int], dice: Dice) -> Canvas:
    """Return the painted canvas: sky, ground with its shadows, then every thing at its depth."""
    canvas = Canvas(plan.camera(size), weather.light, dice)
    draw_sky(canvas, weather)
    draw_ground(canvas, plan, things)
    solid = [thing for thing in things if not isinstance(thing, WITH_GAPS)]
    airy = [thing for thing in things if isinstance(thing, WITH_GAPS)]
    for thing in sorted(solid, key=lambda thing: thing.z):  # near to far: what is hidden costs little
        thing.draw(canvas)
    for thing in sorted(airy, key=lambda thing: -thing.z):  # far to near: the gaps show what is behind
        thing.draw(canvas)
    return canvas


def draw_sky(canvas: Canvas, weather: Weather) -> None:
    """Fill the picture with sky: zenith above, brighter towards the horizon, with clouds that flatten out there."""
    camera = canvas.camera
    height = np.clip(1 - canvas.rows / camera.horizon, 0, 1)  # 0 at the horizon
    row, column = canvas.dice.between(0, TILE), canvas.dice.between(0, TILE)
    scale = 90.0 / (0.25 + height)
    clouds = look_up(smooth(32), scale + row, (canvas.cols / camera.width - 0.5) * scale + column)
    clouds = clouds + 0.5 * look_up(clumps(), 2 * scale + column, (canvas.cols / camera.width) * 2 * scale + row)
    canvas.image[:] = weather.skyline + (weather.zenith - weather.skyline) * height[..., None]
    canvas.image += (weather.clouds * clouds)[..., None]
    canvas.mask[:] = Label.SKY


def draw_ground(canvas: Canvas, plan: Plan, things: Sequence[Thing]) -> None:
    """Paint road and pavements in perspective, with marks, stains and shadows."""
    camera = canvas.camera
    first = min(math.floor(camera.horizon) + 1, camera.height)
    window = (slice(first, None), slice(None))
    z = camera.focal * camera.eye / (canvas.rows[window[0]] - camera.horizon)
    x = (canvas.cols - camera.vanish) * (z / camera.focal)
    across = x - plan.centre - (0.5 * plan.bend) * z * z
    aside = abs(across)
    is_road = aside < plan.half_width
    for side, (opens, closes) in zip(SIDES, plan.openings):
        is_road |= (across * side > 0) & (z > opens) & (z < closes)
    pixel = z / camera.focal
    kerb = ~is_road & (aside < plan.half_width + 0.2)
    slabs = ~is_road & (repeats(z, 0.9, 0.0, 0.1) | repeats(across, 0.9, 0.0, 0.1)) & (pixel < 0.15)
    shade = 1 + stains(canvas, x, z) + 0.25 * kerb - 0.12 * slabs
    shade *= shadows(canvas, plan, things, x, across, z)
    colours = np.stack([plan.slabs, plan.asphalt]).take(is_road.astype(np.intp), axis=0)
    paint = road_marks(plan, across, z, pixel) * is_road
    colours += (0.8 - colours) * (0.75 * paint)[..., None]
    canvas.image[window] = colours * shade[..., None]
    canvas.mask[window] = np.where(is_road, Label.ROAD, Label.PAVEMENT)
    canvas.depth[window] = z


def stains(canvas: Canvas, x: Floats, z: Floats) -> Floats:
    """Return brightness of the ground about 0: patches fixed to the road, and grit."""
    row, column = canvas.dice.between(0, TILE), canvas.dice.between(0, TILE)
    patches = look_up(clumps(), z * 4 + row, x * 8 + column)
    worn = look_up(smooth(8), z * 0.3 + column, x * 5 + row)
    return 0.12 * patches + 0.12 * worn + 0.08 * canvas.texture(speckle(), x.shape)


def road_marks(plan: Plan, across: Floats, z: Floats, pixel: Floats) -> Floats:
    """Return how much of each ground pixel is white paint, 0 to 1: centre dashes, edge lines, a zebra crossing."""

    def line(centre: float, half: float) -> Floats:
        return np.clip((half - abs(across - centre)) / pixel + 0.5, 0, 1) * np.minimum(2 * half / pixel, 1)

    paint = line(0.0, 0.06) * repeats(z, 5.0, 0.0, 0.45)
    if plan.edge_lines:
        paint += line(plan.half_width - 0.4, 0.06) + line(0.4 - plan.half_width, 0.06)
    if plan.crossing:
        on_zebra = (z > plan.crossing) & (z < plan.crossing + 2.6)
        paint = np.where(on_zebra, repeats(across, 1.1, 0.0, 0.5), paint)
    return np.minimum(paint, 1)


def shadows(canvas: Canvas, plan: Plan, things: Sequence[Thing], x: Floats, across: Floats, z: Floats) -> Floats:
    """Return the light that reaches the ground, 1 in the open: houses keep the sun off, everything darkens its feet."""
    light = np.ones_like(x)
    sun = canvas.light
    if sun.hard > 0.4:
        edge = plan.half_width * (1 - 2 * sun.hard) + 3 * look_up(smooth(4), 0.4 * z, 0 * z)
        light = np.where(across * sun.side > edge, 1 - 0.55 * sun.hard, light).astype(np.float32)
    for thing in things:
        foot = footprint(thing, sun)
        if foot is not None:
            darken(light, x, z, *foot)
    return light


def footprint(thing: Thing, sun: Light) -> tuple[float, float, float, float, float] | None:
    """Return the shadow at a thing's feet: its middle (x, z), half its width and length, and how dark it is."""
    match thing:
        case Car(crossing=False):
            half_length = 0.5 * thing.length
            return thing.x, thing.z + half_length, 0.55 * thing.width, half_length + 0.2, 0.65
        case Car():
            return thing.x, thing.z + 0.5 * thing.width, 0.5 * thing.length, 0.6 * thing.width, 0.65
        case Tree():
            return thing.x, thing.z, thing.radius, thing.radius, 0.45 * sun.hard
        case Person() | Cyclist():
            return thing.x, thing.z, 0.35, 0.35, 0.45
    return None


def darken(
    light: Floats, x: Floats, z: Floats, x0: float, z0: float, half_width: float, half_length: float, dark: float
) -> None:
    """Take light from an ellipse of the ground."""
    near = np.flatnonzero(abs(z[:, 0] - z0) < half_length)  # only these rows can be inside
    if near.size:
        rows = slice(near[0], near[-1] + 1)
        inside = ((x[rows] - x0) / half_width) ** 2 + ((z[rows] - z0) / half_length) ** 2 < 1
        light[rows] -= dark * light[rows] * inside


def take_photograph(canvas: Canvas, plan: Plan, weather: Weather) -> npt.NDArray[np.uint8]:
    """Return the picture (H, W, 3) uint8 that a dashboard camera takes of the canvas; its bonnet becomes void."""
    image = reflect(canvas, weather)
    clear = weather.haze / (weather.haze + canvas.depth)
    clear = np.where(canvas.depth >= FAR, 1, clear)[..., None]
    image = image * clear + weather.skyline * 0.9 * (1 - clear)
    if plan.bonnet < 1:
        hide_behind_bonnet(canvas, plan, image)
    image *= weather.exposure * weather.tint
    image = soften(image, weather.blur)
    image += weather.noise * canvas.texture(film_grain(), canvas.mask.shape)
    curve = np.linspace(0, 1, 1024) ** weather.gamma * 255
    return curve.round().astype(np.uint8)[(np.clip(image, 0, 1) * 1023).astype(np.intp)]


def reflect(canvas: Canvas, weather: Weather) -> Floats:
    """Return the image with a wet road: what stands above the horizon is mirrored in the ground, dimly."""
    if weather.wet == 0:
        return canvas.image
    first = math.floor(canvas.camera.horizon) + 1
    image = canvas.image.copy()
    mirrored = image[:first][::-1][: len(image) - first]
    ground = slice(first, first + len(mirrored))
    puddle = weather.wet * (0.6 + 0.4 * canvas.texture(smooth(16), mirrored.shape[:2]))
    lies_flat = np.isin(canvas.mask[ground], (Label.ROAD, Label.PAVEMENT))
    image[ground] += (puddle * lies_flat)[..., None] * (mirrored - image[ground])
    return image


def hide_behind_bonnet(canvas: Canvas, plan: Plan, image: Floats) -> None:
    """Darken the car's own bonnet at the bottom of the picture and label it void."""
    camera = canvas.camera
    from_middle = (canvas.cols - camera.vanish) / camera.width
    bonnet = canvas.rows > camera.height * (plan.bonnet + 0.15 * from_middle**2)
    image[bonnet] = image[bonnet] * 0.2 + 0.05
    canvas.mask[bonnet] = VOID


def soften(image: Floats, blur: float) -> Floats:
    """Return the image mixed with the mean of each pixel's four neighbours, in the proportion ``blur``."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return (1 - blur) * image + (0.25 * blur) * around
