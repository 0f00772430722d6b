"""The exercises of lesson 06."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from segcourse.exercises import Lesson
from segcourse.exercises.compare import Mismatch, agree, describe_type
from segcourse.exercises.drivers import unet as drivers
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, RandomDraw, draw_tensor, varied
from segcourse.exercises.quiz import Option, Question
from segcourse.models.unet import nearest_valid_sizes, output_margin
from segcourse.tiles import Network, mirror

STEM = "06_unet"


# --- unet_output_size -------------------------------------------------------------------------------------


def unet_output_size(size: int, depth: int) -> int | None:
    """Return the length of the output of a U-Net without padding, or None where the input does not fit."""
    for _ in range(depth):
        size -= 4
        if size % 2:
            return None
        size //= 2
    size -= 4
    for _ in range(depth):
        size = 2 * size - 4
    return size if size > 0 else None


def _length_and_depth(draw: Draw) -> Case:
    """One in two is an image of any size, of which nobody can list all; two in eight leave nothing, or 0 pixels."""
    kind = draw.integer(0, 7)
    depth = draw.integer(1, 2 if kind == 7 else 5)  # only in these can 0 pixels be left of even lengths
    step, smallest = 2**depth, output_margin(depth) + 4
    if kind >= 6:
        return {"size": smallest - (4 if kind == 7 else step * (4 // step + draw.integer(1, 2))), "depth": depth}
    size = smallest + step * draw.integer(0, 12 if kind < 2 else 9999)
    off = draw.choice((0, 0, 0, 1, 2, step // 2, -4, -step))
    return {"size": max(size + off, 5), "depth": depth}


def _size_by_formula(size: int, depth: int) -> int | None:
    return size - output_margin(depth) if nearest_valid_sizes(size, depth) == [size] else None


def _sizes_with(
    down: int = 4,
    bottom: int = 4,
    up: Callable[[int], int] = lambda size: 2 * size,
    merge: int = 4,
    odd_fits: bool = False,
    smallest: int = 1,
) -> Callable[[int, int], int | None]:
    """A walk through the U with a mistake in it: pixels lost on each level, what the up-convolution does, what fits."""

    def walk(size: int, depth: int) -> int | None:
        for _ in range(depth):
            size -= down
            if size % 2 and not odd_fits:
                return None
            size //= 2
        size -= bottom
        for _ in range(depth):
            size = up(size) - merge
        return size if size >= smallest else None

    return walk


def _as_floats(size: int, depth: int) -> float | None:
    length = unet_output_size(size, depth)
    return None if length is None else float(length)


def _multiple_of_the_stride(size: int, depth: int) -> int | None:
    return None if size % 2**depth or size <= output_margin(depth) else size - output_margin(depth)


def _same_length(expected: Any, got: Any) -> Mismatch | None:
    """Compare two answers of which None is one, and tell what was returned."""
    if got is None:
        return None if expected is None else Mismatch("it returned None; this input fits.")
    if expected is None:
        shown = repr(got) if isinstance(got, numbers.Real) else describe_type(got)
        return Mismatch(f"it returned {shown}; this input does not fit, so None was expected.")
    if isinstance(got, float):
        return Mismatch(f"it returned the float {got!r}; a whole number was expected.")
    return agree(expected, got)


UNET_OUTPUT_SIZE = Exercise(
    name="unet_output_size",
    lesson=STEM,
    title="How large the output is",
    points=2,
    minutes=9,
    difficulty=1,
    reference=unet_output_size,
    oracle=_size_by_formula,
    cases=_length_and_depth,
    examples=(
        {"size": 20, "depth": 1},
        {"size": 572, "depth": 4},
        {"size": 512, "depth": 4},
        {"size": 172, "depth": 4},
        {"size": 52, "depth": 2},
        {"size": 54, "depth": 2},
        {"size": 156, "depth": 3},
        {"size": 16, "depth": 1},  # 0 pixels are left
        {"size": 40, "depth": 2},  # here too
        {"size": 14, "depth": 1},  # fewer than 0
    ),
    compare=_same_length,
    misconceptions=(
        Misconception(
            "multiple_of_the_stride",
            _multiple_of_the_stride,
            "You ask whether the input is a multiple of 2^depth. That is the rule of the padded U-Net; here the "
            "convolutions take pixels before each halving, and what must be even is what they leave.",
            "Which sizes fit",
        ),
        Misconception(
            "one_convolution",
            _sizes_with(2, 2, merge=2),
            "You counted one convolution on each level. There are two.",
            "No padding: the map shrinks",
        ),
        Misconception(
            "nothing_lost_on_the_way_up",
            _sizes_with(merge=0),
            "You let the maps shrink on the way down and at the bottom only. On the way up two convolutions follow "
            "each crop and concatenation, and they are not padded either.",
            "No padding: the map shrinks",
        ),
        Misconception(
            "no_convolutions_at_the_bottom",
            _sizes_with(bottom=0),
            "You went from the last pooling straight up. At the bottom there are two convolutions as well.",
            "No padding: the map shrinks",
        ),
        Misconception(
            "rounds_odd_lengths",
            _sizes_with(odd_fits=True),
            "You rounded an odd length when you halved it. Then the map on the way up no longer lies on the middle of "
            "its skip; this network refuses such an input.",
            "Which sizes fit",
        ),
        Misconception(
            "nothing_left",
            _sizes_with(smallest=-(10**9)),
            "For a small input you returned a size of 0 or less. Such an input does not fit: nothing is left of it.",
            "Which sizes fit",
        ),
        Misconception(
            "zero_pixels_left",
            _sizes_with(smallest=0),
            "You refuse sizes below 0, but not 0 itself. An output of 0 pixels is none: such an input does not fit.",
            "Which sizes fit",
        ),
        Misconception(
            "zero_for_none",
            lambda size, depth: unet_output_size(size, depth) or 0,
            "Where an input does not fit you returned 0. The exercise asks for None there.",
            "Exercise: how large the output is (2 points)",
        ),
        Misconception(
            "false_for_none",
            lambda size, depth: unet_output_size(size, depth) or False,
            "Where an input does not fit you returned False. The exercise asks for None there.",
            "Exercise: how large the output is (2 points)",
        ),
        Misconception(
            "halves_with_a_slash",
            _as_floats,
            "Your numbers are right, but they are floats. `/` makes a float even of an even number; `//` keeps whole "
            "numbers whole.",
            "Which sizes fit",
        ),
        Misconception(
            "up_convolution_shrinks",
            _sizes_with(up=lambda size: 2 * size - 1),
            "You took a pixel off for the 2x2 up-convolution. Its stamps of 2x2 lie side by side (lesson 02): what "
            "size do they make of n pixels?",
            "No padding: the map shrinks",
        ),
        Misconception(
            "margin_of_the_paper",
            lambda size, depth: size - 184 if size > 184 else None,
            "You took off 184 whatever the depth, and took every input. 184 is what the paper's network, of depth 4, "
            "takes off; and not every length can be halved so often.",
            "Which sizes fit",
        ),
    ),
    hints=(
        "Walk through the U as the example does, with one number: the length of the map that you stand in.",
        "Down: two convolutions, then the halving, which needs an even length. Bottom: two convolutions. Up: doubling, "
        "then two convolutions. What is left must be at least one pixel.",
        "for each level down: size -= 4, return None if size % 2, size //= 2; then size -= 4; "
        "then for each level up: size = 2 * size - 4",
    ),
    property="a length that PyTorch's own layers would have, each map halved without a rest, and at least 1.",
)


# --- centre_crop ------------------------------------------------------------------------------------------


def centre_crop(x: Tensor, height: int, width: int) -> Tensor:
    """Return the middle of a map."""
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def _map_and_size(draw: Draw) -> Case:
    height, width = draw.integer(1, 4), draw.integer(1, 5)
    over, wide = draw.integer(0, 5), draw.integer(0, 6)
    wide += height + over == width + wide
    x = draw_tensor(draw, (draw.integer(1, 2), draw.integer(1, 3), height + over, width + wide), 0, 99)
    return {"x": x, "height": height, "width": width}


def _crop_by_index(x: Tensor, height: int, width: int) -> Tensor:
    rows = torch.tensor([i + (x.shape[2] - height) // 2 for i in range(height)])
    columns = torch.tensor([j + (x.shape[3] - width) // 2 for j in range(width)])
    return x.index_select(2, rows).index_select(3, columns)


def _crop_from(corner: Callable[[int], int]) -> Callable[..., Tensor]:
    """A crop that begins at `corner(pixels too many)` along each axis."""

    def crop(x: Tensor, height: int, width: int) -> Tensor:
        top, left = corner(x.shape[2] - height), corner(x.shape[3] - width)
        return x[:, :, top : top + height, left : left + width]

    return crop


def _same_from_both_sides(x: Tensor, height: int, width: int) -> Tensor:
    down, right = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, down : x.shape[2] - down, right : x.shape[3] - right]


def _negative_ends(x: Tensor, height: int, width: int) -> Tensor:
    down, right = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, down:-down, right:-right]


CENTRE_CROP = Exercise(
    name="centre_crop",
    lesson=STEM,
    title="The middle of a map",
    points=1,
    minutes=5,
    difficulty=1,
    reference=centre_crop,
    oracle=_crop_by_index,
    cases=_map_and_size,
    examples=(
        {"x": draw_tensor(RandomDraw(0), (1, 2, 5, 8), 0, 99), "height": 3, "width": 4},
        {"x": draw_tensor(RandomDraw(1), (2, 1, 4, 7), 0, 99), "height": 4, "width": 2},
    ),
    misconceptions=(
        Misconception(
            "upper_left",
            _crop_from(lambda over: 0),
            "You cut out the upper left corner. What lies in the middle of the map must stay in the middle.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "rounded_up",
            _crop_from(lambda over: -(-over // 2)),
            "Your crop begins one pixel too late where the number of pixels to cut off is odd: its half is rounded "
            "down here.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "rounded_to_even",
            _crop_from(lambda over: round(over / 2)),
            "You used `round` on a half. Python rounds 1.5 and 2.5 both to 2, the even neighbour; here a half is "
            "always rounded down.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "one_too_early",
            _crop_from(lambda over: max(0, (over - 1) // 2)),
            "Your crop begins one pixel too early. If 4 pixels go, 2 go on each side, and the first that stays has "
            "the number 2.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "one_too_late",
            _crop_from(lambda over: min(over, over // 2 + 1)),
            "Your crop begins one pixel too late. Pixels count from 0: if 2 go, the first that stays is number 2.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "all_from_the_far_side",
            _crop_from(lambda over: over),
            "You cut everything off at the top and at the left. Half of it goes on each side.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "height_for_width",
            lambda x, height, width: centre_crop(x, width, height),
            "You exchanged rows and columns. The axes of a map are (N, C, H, W).",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "same_from_both_sides",
            _same_from_both_sides,
            "You took the same number off at both ends. Where the number of pixels to cut off is odd, one is left "
            "too many.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "negative_ends",
            _negative_ends,
            "You end your slices at minus the number of pixels to cut off. Where none is to be cut off, `-0` is 0 and "
            "nothing is left; where it is odd, one is left too many.",
            "Hand it across: crop and concatenate",
        ),
    ),
    hints=(
        "How many rows must go? Half of them lie above what stays.",
        "Work out for each axis where the crop begins; it ends as many pixels further on as are asked for.",
        "top = (x.shape[2] - height) // 2, left in the same way, then x[:, :, top : ..., left : ...]",
    ),
    property="as many pixels go before the crop as after it, or one fewer where their number is odd.",
)


# --- crop_and_concat --------------------------------------------------------------------------------------


def crop_and_concat(skip: Tensor, x: Tensor) -> Tensor:
    """Return the middle of the skip and the map that came up, channel on channel."""
    middle = centre_crop(skip, x.shape[2], x.shape[3])
    return torch.cat([middle, x], dim=1)


def _skip_and_map(draw: Draw) -> Case:
    n, channels = draw.integer(1, 2), draw.integer(1, 3)
    height, width = draw.integer(1, 3), draw.integer(1, 4)
    over, wide = 2 * draw.integer(0, 3), 2 * draw.integer(0, 3)
    other = draw.choice((channels, channels, channels + 1))
    return {
        "skip": draw_tensor(draw, (n, channels, height + over, width + wide + 2), 0, 99),
        "x": draw_tensor(draw, (n, other, height, width + 2), 0, 99),
    }


def _pasted(skip: Tensor, x: Tensor) -> Tensor:
    """Copy both into an empty map."""
    n, channels, height, width = skip.shape
    _, others, rows, columns = x.shape
    out = skip.new_empty(n, channels + others, rows, columns)
    top, left = (height - rows) // 2, (width - columns) // 2
    out[:, :channels] = skip[:, :, top : height - top, left : width - left]
    out[:, channels:] = x
    return out


def _concatenated(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], axis: int = 1) -> Callable[..., Tensor]:
    """A concatenation, by an axis, of what `change` makes of the skip and the map."""
    return lambda skip, x: torch.cat(change(skip, x), dim=axis)


def _padded_to(skip: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    over, wide = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
    return skip, F.pad(x, (wide // 2, wide - wide // 2, over // 2, over - over // 2))


CROP_AND_CONCAT = Exercise(
    name="crop_and_concat",
    lesson=STEM,
    title="Crop and concatenate",
    points=1,
    minutes=6,
    difficulty=1,
    reference=crop_and_concat,
    oracle=_pasted,
    cases=_skip_and_map,
    examples=(
        {"skip": draw_tensor(RandomDraw(0), (1, 2, 4, 7), 0, 99), "x": draw_tensor(RandomDraw(1), (1, 2, 2, 3), 0, 99)},
        {"skip": draw_tensor(RandomDraw(2), (2, 1, 3, 4), 0, 99), "x": draw_tensor(RandomDraw(3), (2, 3, 1, 2), 0, 99)},
        {"skip": draw_tensor(RandomDraw(4), (1, 2, 2, 4), 0, 99), "x": draw_tensor(RandomDraw(5), (1, 2, 2, 4), 0, 99)},
        # fewer rows than columns are asked for: height and width exchanged do not fit
        {"skip": draw_tensor(RandomDraw(6), (1, 1, 2, 5), 0, 99), "x": draw_tensor(RandomDraw(7), (1, 1, 2, 3), 0, 99)},
        {"skip": draw_tensor(RandomDraw(8), (1, 2, 1, 5), 0, 99), "x": draw_tensor(RandomDraw(9), (1, 1, 1, 3), 0, 99)},
    ),
    misconceptions=(
        Misconception(
            "adds",
            lambda skip, x: centre_crop(skip, x.shape[2], x.shape[3]) + x,
            "You added the two maps. FCN does that with its scores; U-Net puts the channels of one behind those of "
            "the other, so that the next convolution has weights of its own for each.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "map_first",
            lambda skip, x: torch.cat([x, centre_crop(skip, x.shape[2], x.shape[3])], dim=1),
            "All the numbers are there, the wrong way round: the skip comes first, then the map from below.",
            "Exercise: crop and concatenate (1 point)",
        ),
        Misconception(
            "shrinks_the_skip",
            _concatenated(lambda skip, x: (F.interpolate(skip, x.shape[2:], mode="bilinear", align_corners=False), x)),
            "You shrank the skip to the size of the map. Its pixels then no longer lie over those of the map: what is "
            "too much at the border has to go, and the rest stays as it is.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "shrinks_the_skip_to_nearest",
            _concatenated(lambda skip, x: (F.interpolate(skip, x.shape[2:]), x)),
            "You left pixels of the skip out, here and there, to make it as small as the map. Its pixels then no "
            "longer lie over those of the map: what is too much at the border has to go, and the rest stays as it is.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "no_crop",
            _concatenated(lambda skip, x: (skip, x)),
            "Where the skip is as large as `x`, your answer is right; elsewhere the two differ in height and width "
            "when you join them. Is it the skip that you cut, and to the size of `x`?",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "adds_without_crop",
            lambda skip, x: skip + x,
            "You added the two maps, and did not crop. U-Net puts the channels of one behind those of the other, so "
            "that the next convolution has weights of its own for each; and first the skip is cut to the size of `x`.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "exchanged",
            _concatenated(lambda skip, x: (centre_crop(x, skip.shape[2], skip.shape[3]), skip)),
            "You took the map for the skip, and the skip for the map. The first argument is the skip; it is the larger "
            "one.",
            "Exercise: crop and concatenate (1 point)",
        ),
        Misconception(
            "height_for_width",
            _concatenated(lambda skip, x: (centre_crop(skip, x.shape[3], x.shape[2]), x)),
            "You exchanged height and width of the crop. The axes of a map are (N, C, H, W).",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "height_for_both",
            _concatenated(lambda skip, x: (centre_crop(skip, x.shape[2], x.shape[2]), x)),
            "You gave the height for both. The width of the crop is that of `x`, its last axis.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "width_for_both",
            _concatenated(lambda skip, x: (centre_crop(skip, x.shape[3], x.shape[3]), x)),
            "You gave the width for both. The height of the crop is that of `x`, its third axis.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "negative_ends",
            _concatenated(lambda skip, x: (_negative_ends(skip, x.shape[2], x.shape[3]), x)),
            "You end your slices at minus the number of pixels to cut off. Where none is to be cut off, `-0` is 0 and "
            "nothing is left.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "pads_the_map",
            _concatenated(_padded_to),
            "You made the smaller map larger. What you put around it is not known: cut the larger one.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "upper_left",
            _concatenated(lambda skip, x: (skip[:, :, : x.shape[2], : x.shape[3]], x)),
            "You cut the upper left corner out of the skip. Its middle lies over the map.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "crop_off_by_one",
            _concatenated(lambda skip, x: (_crop_from(lambda over: max(0, over // 2 - 1))(skip, *x.shape[2:]), x)),
            "Your crop lies one pixel too far up and to the left. If 4 rows go, the first that stays has the number 2.",
            "Hand it across: crop and concatenate",
        ),
        Misconception(
            "other_axis",
            _concatenated(lambda skip, x: (centre_crop(skip, x.shape[2], x.shape[3]), x), axis=0),
            "You joined the two along the batch: twice as many images. It is the channels that are put together.",
            "Hand it across: crop and concatenate",
        ),
    ),
    hints=(
        "You have a function that cuts the middle out. What size must the skip have before the two fit together?",
        "Crop the skip to the height and width of `x`, then look up torch.cat: along which axis do channels lie?",
        "torch.cat([centre_crop(skip, x.shape[2], ...), x], dim=...)",
    ),
    property="the first channels are the skip's, its middle; then come those of `x`, unchanged.",
)


# --- bend -------------------------------------------------------------------------------------------------


def bend(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Return an image and its mask, bent by one field."""
    height, width = mask.shape[1:]
    rows = torch.arange(height)[:, None] + field[:, 0]
    columns = torch.arange(width) + field[:, 1]
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=-1)
    bent = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
    labels = F.grid_sample(mask[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=True)
    return bent, labels[:, 0].long()


LABELS = (0, 3, 1, 255)
"""Of a mask to be bent: the mean of two of them is another one, or none."""


def _picture_and_field(draw: Draw) -> Case:
    n, channels = draw.integer(1, 2), draw.integer(1, 3)
    height, width = draw.integer(3, 4), draw.integer(5, 6)
    value = varied(draw)
    mask = torch.tensor([LABELS[value.integer(0, 3)] for _ in range(n * height * width)]).reshape(n, height, width)
    # never half a pixel, where either neighbour would be the nearest; never the same down and right
    quarters = [(value.integer(-2, 2) + value.choice((-0.25, 0.0, 0.25, 0.375))) for _ in range(2 * n * height * width)]
    return {
        "image": draw_tensor(draw, (n, channels, height, width), 0, 99),
        "mask": mask,
        "field": torch.tensor(quarters).reshape(n, 2, height, width),
    }


def _bend_by_hand(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Four neighbours and their weights, looked up by their numbers."""
    n, channels, height, width = image.shape
    row = (torch.arange(height)[:, None] + field[:, 0]).clamp(0, height - 1)
    column = (torch.arange(width) + field[:, 1]).clamp(0, width - 1)
    bent = torch.zeros_like(image)
    for top in (row.floor(), row.floor() + 1):
        for left in (column.floor(), column.floor() + 1):
            weight = (1 - (row - top).abs()) * (1 - (column - left).abs())
            place = top.clamp(max=height - 1).long() * width + left.clamp(max=width - 1).long()
            picked = image.flatten(2).gather(2, place.reshape(n, 1, -1).expand(-1, channels, -1))
            bent += weight[:, None] * picked.reshape(image.shape)
    nearest = row.round().long() * width + column.round().long()
    return bent, mask.flatten(1).gather(1, nearest.reshape(n, -1)).reshape(mask.shape)


def _bent_with(
    change: Callable[[Tensor], Tensor] = lambda field: field,
    image_mode: str = "bilinear",
    mask_mode: str = "nearest",
    aligned: bool = True,
    beyond: str = "border",
    grid: Callable[[Tensor], Tensor] = lambda grid: grid,
    scale: Callable[[Tensor, int, int], Tensor] = lambda place, size, other: 2 * place / (size - 1) - 1,
    floats: bool = True,
    whole: Callable[[Tensor], Tensor] = torch.round,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """A bending with a mistake in it.

    Args:
        change: what becomes of the field.
        image_mode, mask_mode, aligned, beyond: how values are looked up, as grid_sample names it.
        grid: what becomes of the grid.
        scale: places along an axis, its length, the other axis' length -> the grid's numbers.
        floats: the mask is converted before it is looked up.
        whole: how labels become whole numbers.
    """

    def wrong(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        height, width = mask.shape[1:]
        field = change(field)
        rows, columns = torch.arange(height)[:, None] + field[:, 0], torch.arange(width) + field[:, 1]
        places = grid(torch.stack([scale(columns, width, height), scale(rows, height, width)], dim=-1))
        marks = mask[:, None].float() if floats else mask[:, None]
        bent, labels = (
            F.grid_sample(planes, places, mode, beyond, aligned)
            for planes, mode in ((image, image_mode), (marks, mask_mode))
        )
        return bent, whole(labels[:, 0]).long()

    return wrong


def _only_the_image(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    return bend(image, mask, field)[0], mask


def _own_places(image: Tensor) -> Tensor:
    """The grid (H, W, 2) that shows each pixel itself, counted from -1 to 1."""
    rows, columns = (torch.linspace(-1, 1, size) for size in image.shape[2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)


def _looked_up(image: Tensor, mask: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Image and mask at the places of a grid (N, H, W, 2)."""
    bent = F.grid_sample(image, grid, "bilinear", "border", True)
    return bent, F.grid_sample(mask[:, None].float(), grid, "nearest", "border", True)[:, 0].long()


def _pixels_added(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    return _looked_up(image, mask, _own_places(image) + field.movedim(1, -1).flip(-1))


def _half_the_way(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    way = torch.stack([field[:, 1] / (image.shape[3] - 1), field[:, 0] / (image.shape[2] - 1)], dim=-1)
    return _looked_up(image, mask, _own_places(image) + way)


def _meshgrid_xy(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    height, width = mask.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="xy")
    places = [2 * (columns + field[:, 1]) / (width - 1) - 1, 2 * (rows + field[:, 0]) / (height - 1) - 1]
    return _looked_up(image, mask, torch.stack(places, dim=-1))


def _one_field_broken(image: Tensor, mask: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    return _bent_with(lambda field: field[:1])(image, mask, field)


def _same_bent(expected: Any, got: Any) -> Mismatch | None:
    """Compare a pair by the names of its parts; labels are int64, as `cross_entropy` wants them."""
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return agree(expected, got)
    for name, right, found in zip(("the image", "the mask"), expected, got):
        if mismatch := agree(right, found):
            return Mismatch(f"{name}: {mismatch.says}", mismatch.where)
    if got[1].dtype != torch.int64:
        kind = str(got[1].dtype).removeprefix("torch.")
        return Mismatch(f"the mask: its dtype is {kind}; int64 was expected. `.long()` converts.")
    return None


def _bend_example(seed: int, shape: tuple[int, int, int, int]) -> Case:
    """A case of this shape (N, C, H, W)."""
    value = RandomDraw(seed)
    n, _, height, width = shape
    mask = torch.tensor([value.choice(LABELS) for _ in range(n * height * width)])
    field = [value.integer(-2, 2) + value.choice((-0.25, 0.0, 0.25, 0.375)) for _ in range(2 * n * height * width)]
    return {
        "image": draw_tensor(value, shape, 0, 99),
        "mask": mask.reshape(n, height, width),
        "field": torch.tensor(field).reshape(n, 2, height, width),
    }


def _one_step() -> Case:
    """Every pixel looks one row down and two columns to the left: whole pixels, no mixing."""
    return {
        "image": torch.tensor([[11.0, 12, 13, 14, 15], [21, 22, 23, 24, 25]])[None, None],
        "mask": torch.tensor([[0, 0, 3, 3, 3], [1, 1, 255, 255, 1]])[None],
        "field": torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1).repeat(1, 1, 2, 5),
    }


BEND = Exercise(
    name="bend",
    lesson=STEM,
    title="Bend image and mask together",
    points=3,
    minutes=13,
    difficulty=2,
    reference=bend,
    oracle=_bend_by_hand,
    cases=_picture_and_field,
    compare=_same_bent,
    examples=(
        _one_step(),
        _bend_example(0, (1, 2, 3, 5)),
        _bend_example(1, (2, 1, 3, 6)),
        _bend_example(2, (1, 1, 4, 4)),  # square: what exchanges the axes gives values here, and raises elsewhere
    ),
    runs=26,
    misconceptions=(
        Misconception(
            "mask_not_float",
            _bent_with(floats=False),
            "grid_sample wants floats, and you gave it a mask of whole numbers: convert the mask before, and back "
            "after.",
            "Few images: bend them",
        ),
        Misconception(
            "mask_bilinear",
            _bent_with(mask_mode="bilinear"),
            "You interpolated the mask. Halfway between class 1 and class 3 lies class 2, which is not there: a label "
            "is taken from one pixel.",
            "Few images: bend them",
        ),
        Misconception(
            "mask_bilinear_cut_off",
            _bent_with(mask_mode="bilinear", whole=torch.trunc),
            "You interpolated the mask, and `.long()` cut the fractions off. Between class 1 and class 3 lies class 2 "
            "then, which is not there: a label is taken from one pixel.",
            "Few images: bend them",
        ),
        Misconception(
            "mask_left_as_it_was",
            _only_the_image,
            "You bent the image and left the mask as it was. Each pixel now has the label of another place.",
            "Few images: bend them",
        ),
        Misconception(
            "image_nearest",
            _bent_with(image_mode="nearest"),
            "You took the image's colours from the nearest pixel. Labels need that; colours are interpolated.",
            "Few images: bend them",
        ),
        Misconception(
            "rows_for_columns",
            _bent_with(grid=lambda grid: grid.flip(-1)),
            "Your grid holds the rows first. grid_sample wants (x, y): the column comes first.",
            "Few images: bend them",
        ),
        Misconception(
            "down_for_right",
            _bent_with(lambda field: field.flip(1)),
            "You took the field's first channel for the way to the right. It is the way down.",
            "Exercise: bend image and mask together (3 points)",
        ),
        Misconception(
            "other_direction",
            _bent_with(torch.neg),
            "You went against the field. It says where each pixel looks, not where it goes to.",
            "Few images: bend them",
        ),
        Misconception(
            "no_grid_of_places",
            _bent_with(
                grid=lambda grid: (
                    grid
                    - torch.stack(
                        torch.meshgrid(
                            torch.linspace(-1, 1, grid.shape[1]), torch.linspace(-1, 1, grid.shape[2]), indexing="ij"
                        )[::-1],
                        dim=-1,
                    )
                )
            ),
            "Your grid holds the displacements alone. grid_sample wants the places to look at: each pixel's own "
            "place and the way that the field goes from there.",
            "Few images: bend them",
        ),
        Misconception(
            "pixels_added_to_the_grid",
            _pixels_added,
            "You added a field in pixels to a grid that counts from -1 to 1. There, one pixel is 2 / (W - 1) across: "
            "add in pixels first, then bring the sum to -1 ... 1.",
            "Few images: bend them",
        ),
        Misconception(
            "half_the_way",
            _half_the_way,
            "You divided the field by W - 1 and H - 1. From -1 to 1 it is 2, so a pixel is 2 / (W - 1): everything "
            "moves half as far as it should.",
            "Few images: bend them",
        ),
        Misconception(
            "divided_by_the_length",
            _bent_with(scale=lambda place, size, other: 2 * place / size - 1),
            "You divided by W and H. From the centre of the first pixel to that of the last there are W - 1 steps.",
            "Few images: bend them",
        ),
        Misconception(
            "lengths_exchanged",
            _bent_with(scale=lambda place, size, other: 2 * place / (other - 1) - 1),
            "You divided columns by the height and rows by the width. Columns run along the width.",
            "Few images: bend them",
        ),
        Misconception(
            "from_0_to_1",
            _bent_with(scale=lambda place, size, other: place / (size - 1)),
            "Your places run from 0 to 1. grid_sample counts from -1 to 1: 0 is the middle of the picture.",
            "Few images: bend them",
        ),
        Misconception(
            "from_minus_1_to_0",
            _bent_with(scale=lambda place, size, other: place / (size - 1) - 1),
            "Your places run from -1 to 0: the 2 in the formula is missing.",
            "Few images: bend them",
        ),
        Misconception(
            "both_exchanged",
            _bent_with(lambda field: field.flip(1), grid=lambda grid: grid.flip(-1)),
            "You took the field's first channel for the way to the right, and your grid holds the rows first. Channel "
            "0 is the way down; and grid_sample wants (x, y), the column first.",
            "Few images: bend them",
        ),
        Misconception(
            "one_field_for_all",
            _bent_with(lambda field: field[:1].expand_as(field)),
            "You bent every image of the batch by the first one's field. Each has a field of its own.",
            "Exercise: bend image and mask together (3 points)",
        ),
        Misconception(
            "first_field_only",
            _one_field_broken,
            "With one image your answer is right. With two it used the first field only: the grid needs N, as the "
            "images do.",
            "Exercise: bend image and mask together (3 points)",
        ),
        Misconception(
            "meshgrid_xy",
            _meshgrid_xy,
            "Your rows and columns come out as (W, H), rows running across: that is torch.meshgrid with "
            "indexing='xy'. The field is (H, W): indexing='ij' keeps that order.",
            "Few images: bend them",
        ),
        Misconception(
            "corners_not_aligned",
            _bent_with(aligned=False),
            "Your places count -1 and 1 as the centres of the outermost pixels, and align_corners=False as their "
            "outer edges. The two have to agree.",
            "Few images: bend them",
        ),
        Misconception(
            "zeros_beyond",
            _bent_with(beyond="zeros"),
            "Beyond the border you let zeros come in. A mask has class 0 there then, which nobody has drawn; take the "
            "border's pixel.",
            "Exercise: bend image and mask together (3 points)",
        ),
    ),
    hints=(
        "Two steps: where does each pixel look, in rows and columns; and what does it find there? The second step is "
        "grid_sample, once for the image and once for the mask.",
        "Add the field to the numbers of the rows and columns, bring the places to -1 ... 1 with the formula of the "
        "text, and put columns before rows in a last axis. The mask needs a channel axis and floats, and then loses "
        "both again.",
        "rows = torch.arange(H)[:, None] + field[:, 0]; columns likewise; grid = torch.stack([2 * columns / (W - 1) - "
        "1, ...], dim=-1); then F.grid_sample(..., mode='bilinear' or 'nearest', padding_mode='border', ...)",
    ),
    property="each pixel shows what lies `field` away from it: colours mixed from four neighbours, the nearest label.",
)


# --- weight_map -------------------------------------------------------------------------------------------


def weight_map(instances: Tensor, w0: float, sigma: float, class_weights: tuple[float, float]) -> Tensor:
    """Return U-Net's weight of each pixel's loss."""
    weights = torch.where(instances > 0, class_weights[1], class_weights[0])
    cells = [cell for cell in instances.unique().tolist() if cell > 0]
    if len(cells) < 2:
        return weights
    distances = torch.stack([torch.from_numpy(distance_transform_edt(instances != cell)) for cell in cells])
    two = distances.sort(dim=0).values[:2].sum(0)
    border = w0 * torch.exp(-(two**2) / (2 * sigma**2))
    return weights + torch.where(instances > 0, 0, border).float()


def _picture_of_cells(draw: Draw) -> Case:
    height, width = draw.integer(5, 7), draw.integer(8, 10)
    value = varied(draw)
    instances = torch.zeros(height, width, dtype=torch.int64)
    for cell in range(draw.choice((3, 4, 2, 1, 0, 3))):
        top, left = value.integer(0, height - 2), value.integer(0, width - 2)
        instances[top : top + value.integer(1, 3), left : left + value.integer(1, 3)] = 3 * cell + 2
    class_weights = value.choice((0.5, 0.75, 0.25)), value.choice((1.5, 2.0, 3.0))
    return {
        "instances": instances,
        "w0": float(value.choice((10, 5, 8))),
        "sigma": value.choice((2.0, 3.0, 1.5)),
        "class_weights": class_weights,
    }


def _weights_by_pairs(instances: Tensor, w0: float, sigma: float, class_weights: tuple[float, float]) -> Tensor:
    """Every pixel against every pixel of every cell."""
    height, width = instances.shape
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    nearest = [
        torch.cdist(places, (instances == cell).nonzero().double()).amin(1) for cell in instances.unique() if cell > 0
    ]
    flat = instances.flatten()
    weights = torch.where(flat > 0, class_weights[1], class_weights[0])
    if len(nearest) > 1:
        d1, d2 = torch.stack(nearest).topk(2, dim=0, largest=False).values
        weights = weights + (flat == 0) * w0 * (-((d1 + d2) ** 2) / (2 * sigma**2)).exp()
    return weights.reshape(height, width).float()


def _weighted(
    exponent: Callable[[Tensor, Tensor, float], Tensor] = lambda d1, d2, sigma: (d1 + d2) ** 2 / (2 * sigma**2),
    of_class: Callable[[float, float], tuple[float, float]] = lambda background, cell: (background, cell),
    everywhere: bool = False,
    product: bool = False,
    inside: bool = False,
    numbers_of: Callable[[list[int]], list[int]] = lambda cells: cells,
    first: int = 0,
    second: int = 1,
) -> Callable[..., Tensor]:
    """A weight map with a mistake in it.

    Args:
        numbers_of: what the cells' numbers are taken for.
        first, second: which of the sorted distances is d1, and which d2.
        exponent: d1, d2, sigma -> what stands after the minus in the exponential.
        of_class: what becomes of the class weights.
        everywhere: the border term lies on the cells too.
        product: it is multiplied by the class weight.
        inside: distances are those of a cell's pixels to its rim, and 0 outside.
    """

    def wrong(instances: Tensor, w0: float, sigma: float, class_weights: tuple[float, float]) -> Tensor:
        background, of_cell = of_class(*class_weights)
        weights = torch.where(instances > 0, of_cell, background).double()
        cells = numbers_of([cell for cell in instances.unique().tolist() if cell > 0])
        if len(cells) < 2:
            return weights.float()
        maps = [(instances == cell) if inside else (instances != cell) for cell in cells]
        distances = torch.stack([torch.from_numpy(distance_transform_edt(m)) for m in maps])
        ordered = distances.sort(dim=0).values
        d1, d2 = ordered[first], ordered[second]
        border = w0 * torch.exp(-exponent(d1, d2, sigma))
        border = border if everywhere else border * (instances == 0)
        return (weights * border if product else weights + border).float()

    return wrong


def _border_for_the_class(instances: Tensor, w0: float, sigma: float, class_weights: tuple[float, float]) -> Tensor:
    several = len(instances[instances > 0].unique()) > 1
    return weight_map(instances, w0, sigma, (0.0 if several else class_weights[0], class_weights[1]))


def _unguarded(second: Callable[[Tensor], Tensor], none_seen: bool) -> Callable[..., Tensor]:
    """A weight map that does not ask whether there are two cells.

    Args:
        second: the sorted distances, a map for each cell -> d1 + d2.
        none_seen: it asks whether there is a cell at all.
    """

    def wrong(instances: Tensor, w0: float, sigma: float, class_weights: tuple[float, float]) -> Tensor:
        weights = torch.where(instances > 0, class_weights[1], class_weights[0])
        cells = [cell for cell in instances.unique().tolist() if cell > 0]
        if none_seen and not cells:
            return weights
        distances = torch.stack([torch.from_numpy(distance_transform_edt(instances != cell)) for cell in cells])
        border = w0 * torch.exp(-(second(distances.sort(dim=0).values) ** 2) / (2 * sigma**2))
        return weights + torch.where(instances > 0, 0, border).float()

    return wrong


def _unpacked(ordered: Tensor) -> Tensor:
    d1, d2 = ordered[:2]
    return d1 + d2


def _beside_two(draw: Draw) -> Tensor:
    """The picture of the lesson's example, in two dimensions."""
    instances = torch.zeros(4, 9, dtype=torch.int64)
    instances[:3, :3], instances[1:, 4:7] = 1, 2
    return instances


WEIGHT_MAP = Exercise(
    name="weight_map",
    lesson=STEM,
    title="The weight map",
    points=3,
    minutes=14,
    difficulty=2,
    reference=weight_map,
    oracle=_weights_by_pairs,
    cases=_picture_of_cells,
    examples=(
        {"instances": _beside_two(RandomDraw(0)), "w0": 10.0, "sigma": 5.0, "class_weights": (1.0, 2.0)},
        {
            "instances": torch.tensor([[4, 4, 0, 0, 0, 0, 7], [4, 4, 0, 9, 0, 0, 7], [0, 0, 0, 9, 9, 0, 0]]),
            "w0": 8.0,
            "sigma": 2.0,
            "class_weights": (0.5, 3.0),
        },
        {
            "instances": torch.tensor([[0, 0, 0, 0], [0, 6, 6, 0], [0, 0, 0, 0]]),
            "w0": 10.0,
            "sigma": 3.0,
            "class_weights": (0.75, 1.5),
        },
    ),
    runs=24,
    misconceptions=(
        Misconception(
            "no_class_term",
            _weighted(of_class=lambda background, cell: (0.0, 0.0)),
            "Your border term is right, and nothing else is there: the weight of the class, w_c, is missing. Far from "
            "all cells the background would not count at all.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "border_on_cells",
            _weighted(everywhere=True),
            "You added the border term inside the cells as well. d1 is 0 there, so their rims too would count more, as "
            "cell. Here it belongs to the background.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "squares_summed",
            _weighted(lambda d1, d2, sigma: (d1**2 + d2**2) / (2 * sigma**2)),
            "You squared each distance and added. In equation 2 the sum of the distances is squared.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "nearest_twice",
            _weighted(lambda d1, d2, sigma: (2 * d1) ** 2 / (2 * sigma**2)),
            "You took the nearest cell twice. Then every rim gets a border, also where no other cell is near; d2 is "
            "the distance to the second nearest.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "two_forgotten",
            _weighted(lambda d1, d2, sigma: (d1 + d2) ** 2 / sigma**2),
            "The 2 in the denominator of the exponent is missing.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "sigma_not_squared",
            _weighted(lambda d1, d2, sigma: (d1 + d2) ** 2 / (2 * sigma)),
            "You divided by 2 sigma; equation 2 has 2 sigma squared.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "sum_not_squared",
            _weighted(lambda d1, d2, sigma: (d1 + d2) / (2 * sigma**2)),
            "You did not square the sum of the distances.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "multiplied",
            _weighted(product=True),
            "You multiplied the class weight by the border term. Far from all borders nothing would be left of it: the "
            "two are added.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "distances_inside",
            _weighted(inside=True),
            "Your distances are 0 outside of the cells. distance_transform_edt measures where its input is True, to "
            "the nearest False: which pixels must be True for the way to a cell?",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "classes_exchanged",
            _weighted(of_class=lambda background, cell: (cell, background)),
            "You gave the cells the weight of the background, and the other way round.",
            "Exercise: the weight map (3 points)",
        ),
        Misconception(
            "second_twice",
            _weighted(lambda d1, d2, sigma: (2 * d2) ** 2 / (2 * sigma**2)),
            "You took the distance to the second nearest cell twice. d1 is that to the nearest.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "farthest_for_second",
            _weighted(second=-1),
            "Where there are more than two cells, you took the farthest for the second nearest.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "two_farthest",
            _weighted(first=-2, second=-1),
            "Where there are more than two cells, you took the two farthest. Sorted, the nearest come first.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "minus_forgotten",
            _weighted(lambda d1, d2, sigma: -((d1 + d2) ** 2) / (2 * sigma**2)),
            "The minus in the exponent is missing: your term grows with the distance.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "w0_forgotten",
            lambda instances, w0, sigma, class_weights: weight_map(instances, 1.0, sigma, class_weights),
            "Your border term is never above 1: w0 is missing.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "border_for_the_class",
            _border_for_the_class,
            "On background you have the border term in place of the class weight. The two are added.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "background_for_a_cell",
            _weighted(numbers_of=lambda cells: [0, *cells]),
            "You counted the background, number 0, as a cell. On it the distance to the background is 0, so every rim "
            "gets a border.",
            "Exercise: the weight map (3 points)",
        ),
        Misconception(
            "numbers_without_holes",
            _weighted(numbers_of=lambda cells: list(range(1, max(cells, default=0) + 1))),
            "You took all numbers from 1 to the largest for cells. There are holes: a number that no pixel has is no "
            "cell, and has no distance. `unique` tells which numbers occur.",
            "Exercise: the weight map (3 points)",
        ),
        Misconception(
            "numbers_without_holes_two_or_more",
            _weighted(numbers_of=lambda cells: list(range(1, max(cells) + 1)) if len(cells) > 1 else []),
            "You took all numbers from 1 to the largest for cells. There are holes: a number that no pixel has is no "
            "cell, and has no distance. `unique` tells which numbers occur.",
            "Exercise: the weight map (3 points)",
        ),
        Misconception(
            "numbers_from_1_to_their_count",
            _weighted(numbers_of=lambda cells: list(range(1, len(cells) + 1))),
            "You took the cells' numbers for 1, 2, 3, ..., as many as there are. They may be any numbers; `unique` "
            "tells which occur.",
            "Exercise: the weight map (3 points)",
        ),
        Misconception(
            "w0_and_sigma_exchanged",
            lambda instances, w0, sigma, class_weights: weight_map(instances, sigma, w0, class_weights),
            "You exchanged w0 and sigma. w0 is the height of the term, sigma stands in the exponent.",
            "Touching cells: a weight for each pixel",
        ),
        Misconception(
            "numbers_of_the_paper",
            lambda instances, w0, sigma, class_weights: weight_map(instances, 10.0, 5.0, class_weights),
            "You computed with the paper's 10 and 5. `w0` and `sigma` are given.",
            "Exercise: the weight map (3 points)",
        ),
        Misconception(
            "w0_of_the_paper",
            lambda instances, w0, sigma, class_weights: weight_map(instances, 10.0, sigma, class_weights),
            "You computed with the paper's 10. `w0` is given.",
            "Exercise: the weight map (3 points)",
        ),
        Misconception(
            "sigma_of_the_paper",
            lambda instances, w0, sigma, class_weights: weight_map(instances, w0, 5.0, class_weights),
            "You computed with the paper's 5. `sigma` is given.",
            "Exercise: the weight map (3 points)",
        ),
        *(
            Misconception(
                f"fewer_than_two_cells_{name}{'_one' if none_seen else ''}",
                _unguarded(second, none_seen),
                "With two cells or more your weights are right. With fewer there is no second distance: ask for that "
                "before you compute, and leave the border term out.",
                "Exercise: the weight map (3 points)",
            )
            for none_seen in (False, True)
            for name, second in (
                ("summed", lambda ordered: ordered[:2].sum(0)),
                ("unpacked", _unpacked),
                ("indexed", lambda ordered: ordered[0] + ordered[1]),
            )
        ),
    ),
    hints=(
        "Begin with the class weights: two numbers, chosen pixel by pixel. Then the distances: one map for each cell, "
        "with 0 on the cell.",
        "Stack the maps of distances, one a cell, and sort along the stack: the first is d1, the second d2. Where "
        "there are fewer than two cells, there is no second.",
        "distances = torch.stack([torch.from_numpy(distance_transform_edt(instances != cell)) for ...]); "
        "d1, d2 = distances.sort(dim=0).values[:2]; the border term only where instances == 0",
    ),
    property="each pixel weighs what its class weighs; a background pixel more, the nearer two cells are to it.",
)


# --- predict_in_tiles -------------------------------------------------------------------------------------


def predict_in_tiles(network: Network, image: Tensor, tile: int, margin: int, step: int) -> Tensor:
    """Return the scores of every pixel of an image, computed tile by tile."""
    height, width = image.shape[2:]
    output, half = tile - margin, margin // 2
    beyond = half + output - step
    padded = F.pad(image, (half, beyond, half, beyond), mode="reflect")
    rows = []
    for top in range(0, height, step):
        row = [network(padded[:, :, top : top + tile, left : left + tile]) for left in range(0, width, step)]
        rows.append(torch.cat([scores[:, :, :step, :step] for scores in row], dim=3))
    return torch.cat(rows, dim=2)


def _image_for_tiles(draw: Draw) -> Case:
    kernel, stride = draw.choice(((3, 3), (3, 4), (5, 3)))  # side by side, none of their outputs is aligned
    margin, steps = 2 * (kernel - 1), draw.integer(2, 3)
    step = stride * steps
    tile = next(n for n in range(margin + step, 99) if (n - kernel + 1) % stride == 0)
    if draw.choice((False, True)):
        tile += stride  # an output that the step does not use up
    least = -(-(tile + 1) // step)  # so that the mirrored border is narrower than the image
    rows, columns = least + draw.integer(0, 1), least + draw.integer(0, 2)
    columns += rows == columns
    channels = draw.integer(1, 2)
    return {
        "network": {"channels": channels, "classes": 3 - draw.integer(0, 1) * (channels == 1), "kernel": kernel,
                    "stride": stride, "seed": draw.integer(0, 99)},
        "image": draw_tensor(draw, (draw.integer(1, 2), channels, step * rows, step * columns), 0, 9),
        "tile": tile,
        "margin": margin,
        "step": step,
    }  # fmt: skip


def _in_one_pass(network: Any, image: Tensor, tile: int, margin: int, step: int) -> Tensor:
    """The whole image with its mirrored border, a little wider at the far sides so that it fits."""
    whole: drivers.SmallU = network.network
    height, width = image.shape[2:]
    half = margin // 2
    more = [-(size + margin - whole.kernel + 1) % whole.stride for size in (height, width)]
    bordered = mirror(image, (half, half), (half + more[0], half + more[1]))
    return whole(bordered)[:, :, :height, :width]


def _tiled_with(
    border: str = "reflect",
    step_of: Callable[[int, int], int] = lambda step, output: step,
    corner: int = 0,
    late: bool = False,
    before: Callable[[int], int] = lambda margin: margin // 2,
    start: Callable[[int, int], int] = lambda output, step: 0,
    adds: bool = False,
) -> Callable[..., Tensor]:
    """Tiles with a mistake in them.

    Args:
        border: how the image is continued, as F.pad names it.
        step_of: step and output of a tile -> the step that is made.
        corner: 1 writes each output where the input began, `half` too far up and left, cut off at the image.
        late: the last pixels of each output are kept, not the first.
        before: margin -> how wide the border is at the top and at the left.
        start: output, step -> the first row and column of each output that is kept.
        adds: outputs are added where they overlap.
    """

    def wrong(network: Network, image: Tensor, tile: int, margin: int, step: int) -> Tensor:
        height, width = image.shape[2:]
        output, half = tile - margin, margin // 2
        step = step_of(step, output)
        first = before(margin)
        padded = F.pad(image, (first, tile, first, tile), mode="constant" if border == "zeros" else border)
        scores = image.new_zeros(0)
        for top in range(0, height, step):
            for left in range(0, width, step):
                found = network(padded[:, :, top : top + tile, left : left + tile])
                if late:
                    found = found[:, :, output - step :, output - step :]
                if begin := start(output, step):
                    found = found[:, :, begin : begin + step, begin : begin + step]
                if not len(scores):
                    scores = found.new_zeros(len(image), found.shape[1], height, width)
                down, right = (max(0, n - corner * half) for n in (top, left))
                place = scores[:, :, down : down + found.shape[2], right : right + found.shape[3]]
                found = found[:, :, : place.shape[2], : place.shape[3]]
                place[:] = place + found if adds else found
        return scores

    return wrong


def _joined_with(
    border: Callable[[int, int], tuple[int, int, int, int]],
    columns: Callable[[int, int], int] = lambda height, width: width,
    begin: Callable[[int], int] = lambda half: 0,
) -> Callable[..., Tensor]:
    """Tiles put together as in the reference, with a mistake in them.

    Args:
        border: half the margin, and the reference's border at the far sides -> left, right, top and bottom border.
        columns: height, width -> how far tiles go to the right.
        begin: half the margin -> the first row and column of each output that is kept.
    """

    def wrong(network: Network, image: Tensor, tile: int, margin: int, step: int) -> Tensor:
        height, width = image.shape[2:]
        half = margin // 2
        padded = F.pad(image, border(half, half + tile - margin - step), mode="reflect")
        kept, rows = slice(begin(half), begin(half) + step), []
        for top in range(0, height, step):
            corners = range(0, columns(height, width), step)
            row = [network(padded[:, :, top : top + tile, left : left + tile]) for left in corners]
            rows.append(torch.cat([scores[:, :, kept, kept] for scores in row], dim=3))
        return torch.cat(rows, dim=2)

    return wrong


def _at_once(network: Network, image: Tensor, tile: int, margin: int, step: int) -> Tensor:
    half = margin // 2
    return network(F.pad(image, (half, half, half, half), mode="reflect"))


def _border_for_each_tile(network: Network, image: Tensor, tile: int, margin: int, step: int) -> Tensor:
    height, width = image.shape[2:]
    half, output = margin // 2, tile - margin
    far = F.pad(image, (0, output, 0, output), mode="reflect")
    rows = []
    for top in range(0, height, step):
        cuts = [far[:, :, top : top + output, left : left + output] for left in range(0, width, step)]
        row = [network(mirror(cut, (half, half), (half, half)))[:, :, :step, :step] for cut in cuts]
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


def _last_shifted_back(network: Network, image: Tensor, tile: int, margin: int, step: int) -> Tensor:
    """Half the margin all around, and tiles that would leave the enlarged image moved back into it."""
    height, width = image.shape[2:]
    output, half = tile - margin, margin // 2
    padded = F.pad(image, (half, half, half, half), mode="reflect")
    scores = image.new_zeros(0)
    for top in (min(row, height - output) for row in range(0, height, step)):
        for left in (min(column, width - output) for column in range(0, width, step)):
            found = network(padded[:, :, top : top + tile, left : left + tile])
            if not len(scores):
                scores = found.new_zeros(len(image), found.shape[1], height, width)
            scores[:, :, top : top + output, left : left + output] = found
    return scores


PREDICT_IN_TILES = Exercise(
    name="predict_in_tiles",
    lesson=STEM,
    title="Tile by tile",
    points=3,
    minutes=14,
    difficulty=3,
    reference=predict_in_tiles,
    oracle=_in_one_pass,
    cases=_image_for_tiles,
    drive=drivers.in_tiles,
    runs=12,
    seconds=5.0,
    misconceptions=(
        Misconception(
            "zeros_around",
            _tiled_with("zeros"),
            "You put zeros around the image. This network has seen none in training: mirror the image.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "border_repeated",
            _tiled_with("replicate"),
            "You repeated the outermost pixels. Mirror the image: mode='reflect'.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "side_by_side",
            _tiled_with(step_of=lambda step, output: output),
            "You moved on by the size of the output. That is not always a multiple of the network's stride, and then "
            "the poolings pair up other pixels. Move on by `step`.",
            "Where tiles may begin",
        ),
        Misconception(
            "written_too_early",
            _tiled_with(corner=1),
            "You wrote each output too far up and to the left, by the width of the border. The first pixel of the "
            "output lies half the margin inside the tile, and so wide is the border before the image's first pixel.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "end_of_the_output",
            _tiled_with(late=True),
            "You kept the last `step` pixels of each output. The next tile begins `step` further on: it is the first "
            "ones that are this tile's own.",
            "Where tiles may begin",
        ),
        Misconception(
            "border_for_each_tile",
            _border_for_each_tile,
            "You mirrored at the border of every tile. Inside the image the neighbours are there: mirror the image "
            "once, then cut tiles that overlap.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "one_pass",
            _at_once,
            "You gave the network more than a tile at once. It takes tiles of `tile` only: cut the enlarged image into "
            "slices of that size.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "nothing_more_at_the_end",
            _joined_with(lambda half, beyond: (half, half, half, half)),
            "Your last tiles are cut short: they end beyond the mirrored image. Where does the last tile end? At the "
            "bottom and at the right, half the margin is not always enough. (F.pad wants left, right, top, bottom.)",
            "How far the last tile reaches",
        ),
        Misconception(
            "last_shifted_back",
            _last_shifted_back,
            "You moved the last tiles back, so that they end with the image. They no longer begin at a multiple of the "
            "network's stride then, and the poolings pair up other pixels. Make the mirrored border wider at the end.",
            "How far the last tile reaches",
        ),
        Misconception(
            "border_only_at_the_end",
            _joined_with(lambda half, beyond: (0, half + beyond, 0, half + beyond)),
            "You put the border at the bottom and at the right only. Then the first output pixel is half the margin "
            "inside the image: half the margin goes before row 0 and column 0 as well.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "whole_margin_before",
            _tiled_with(before=lambda margin: margin),
            "You put the whole margin before row 0 and column 0. It is what the network takes off on both sides "
            "together: half of it on each.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "whole_margin_all_around",
            _joined_with(lambda half, beyond: (2 * half, 2 * half, 2 * half, 2 * half)),
            "You put the whole margin on every side. It is what the network takes off on both sides together: half of "
            "it before row 0, and at the end as much as the last tile needs.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "middle_of_the_output",
            _tiled_with(start=lambda output, step: (output - step) // 2),
            "You kept the middle of each output. The tile that begins at row `top` gives the scores from row `top` on: "
            "it is the first `step` rows and columns that are its own.",
            "Where tiles may begin",
        ),
        Misconception(
            "margin_taken_off_again",
            _joined_with(lambda half, beyond: (half, beyond, half, beyond), begin=lambda half: half),
            "You took half the margin off the output. The network has done that already: its output is smaller than "
            "the tile.",
            "Tile by tile, with a mirrored border",
        ),
        Misconception(
            "overlaps_added",
            _tiled_with(adds=True),
            "Where outputs overlap you added the scores. Both tiles have the same score there: one of them is enough.",
            "Where tiles may begin",
        ),
        Misconception(
            "square_images_only",
            _joined_with(lambda half, beyond: (half, beyond, half, beyond), columns=lambda height, width: height),
            "Your tiles go as far to the right as the image is high. Images need not be square.",
            "Exercise: tile by tile (3 points)",
        ),
    ),
    hints=(
        "First make the image larger, once: half the margin on every side, and more at the bottom and at the right, "
        "where the last tile ends. Then every tile is a plain slice.",
        "The tile for the pixels from row `top` on begins at row `top` of the enlarged image, because the border was "
        "put before row 0. Run it, keep the first `step` rows and columns of what comes out, and join.",
        "padded = F.pad(image, (half, beyond, half, beyond), mode='reflect'); for top in range(0, H, step): for left "
        "in ...: network(padded[:, :, top : top + tile, ...])[:, :, :step, :step]",
    ),
    property="the scores are those that one pass over the whole image, with its mirrored border, would give.",
)


# --- the quiz ---------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "which_input",
        STEM,
        "Which of these lengths does a U-Net of depth 3 without padding take?",
        (
            Option("256", "252 after two convolutions, then 126, 122, 61, 57: an odd length, which does not halve."),
            Option("264", "A multiple of 8, which is the rule of the padded network: 260, 130, 126, 63, 59 is odd."),
            Option("Any even length from 92 on.", "Only every eighth: each of the three halvings must leave no rest."),
            Option("260", "8 · 32 + 4: 256, 128, 124, 62, 58, 29, 25, and back up to 172.", right=True),
        ),
    ),
    Question(
        "adding_instead",
        STEM,
        "A colleague adds the cropped skip to the map from below instead of concatenating. What changes?",
        (
            Option("Nothing: the next convolution adds them anyway.", "It adds them after weights of their own."),
            Option(
                "Both halves of the next kernel become one: the two maps get the same weights.",
                "A sum followed by a kernel is a concatenation followed by that kernel twice.",
                right=True,
            ),
            Option("The number of parameters doubles.", "It falls: the next kernel sees half the channels."),
            Option("The skip need not be cropped any more.", "Maps that are added must agree in size as well."),
        ),
    ),
    Question(
        "where_the_weight_is",
        STEM,
        "Where is U-Net's border term largest?",
        (
            Option("On background between two cells that nearly touch.", "d1 and d2 are both small.", right=True),
            Option("On the rim of every cell.", "d2 counts too: with no second cell near, the term is small."),
            Option("In the middle of small cells.", "Inside a cell there is no border term, here; it is background's."),
            Option("On background far from all cells.", "There both distances are large."),
        ),
    ),
    Question(
        "bridge",
        STEM,
        "A bridge of 3 pixels joins two cells of 300 pixels each; all other pixels are right. What follows?",
        (
            Option("The IoU falls to one half: two cells became one.", "IoU counts pixels and knows no cells."),
            Option(
                "The IoU is 600 / 603, and of two cells none is counted right.",
                "Three pixels too many in the union; but the one component holds both cells.",
                right=True,
            ),
            Option("Nothing: the mistake is too small to matter.", "To count cells, those three pixels matter most."),
        ),
    ),
    Question(
        "bending_masks",
        STEM,
        "An image is bent with bilinear interpolation. How is its mask of 11 classes bent?",
        (
            Option("Bilinearly as well, then rounded.", "The mean of classes 2 and 8 is 5, which was not there."),
            Option("By a field of its own.", "Then each pixel would have another place's label."),
            Option("By the same field, each label from the nearest pixel.", "Labels are names, not sizes.", right=True),
            Option("Not at all: the network should learn to undo it.", "Then the labels are wrong wherever it bends."),
        ),
    ),
    Question(
        "steps_of_tiles",
        STEM,
        "Tiles of 572 have an output of 388. Which steps give exactly the scores of one pass? (More than one does.)",
        (
            Option("388, side by side.", "388 is 4 more than a multiple of 16: the second tile pairs up other pixels."),
            Option("384", "The largest multiple of 16 that leaves no gap.", right=True),
            Option("192", "A multiple of 16 as well; it computes much twice.", right=True),
            Option("400", "A multiple of 16, but 12 pixels between two outputs get no score."),
        ),
        several=True,
    ),
    Question(
        "padding_changes",
        STEM,
        "What does padding every 3x3 convolution with zeros change? (More than one is true.)",
        (
            Option(
                "The output is as large as the image, and skips need no crop.", "That is why it is done.", right=True
            ),
            Option("The number of parameters grows.", "A kernel has the same weights, whatever lies around the map."),
            Option("Pixels near the border are computed from zeros.", "As far as they see beyond it.", right=True),
            Option("Any image size fits.", "Each halving must still come out even: multiples of 2^depth fit."),
        ),
        several=True,
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="U-Net",
    promise="Build the network that hands its fine maps across, train it on 30 images, and keep touching cells apart.",
    reading_minutes=29,
    before=("01_receptive_field", "02_transposed"),
    exercises=(UNET_OUTPUT_SIZE, CENTRE_CROP, CROP_AND_CONCAT, BEND, WEIGHT_MAP, PREDICT_IN_TILES),
    quiz=QUIZ,
)
