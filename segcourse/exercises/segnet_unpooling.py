"""The exercises of lesson 05."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.datasets.base import VOID
from segcourse.exercises import Lesson
from segcourse.exercises.compare import Mismatch, agree_parts
from segcourse.exercises.drivers import segnet_unpooling as drivers
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, draw_tensor, varied
from segcourse.exercises.quiz import Option, Question

STEM = "05_segnet_unpooling"
Pair = tuple[int, int]
Box = tuple[int, int, int, int]

# --- what several exercises share -----------------------------------------------------------------------------


def _different_in_windows(draw: Draw, n: int, channels: int, height: int, width: int) -> Tensor:
    """A tensor (N, C, H, W) of whole numbers. The four of a 2x2 window differ, but other windows have them too.

    Each window has numbers around a middle of its own, so that some are negative altogether.
    """
    value = varied(draw)
    windows = []
    for _ in range(n * channels * height * width // 4):
        low = value.integer(-7, 2)
        windows.append(sorted(range(low, low + 6), key=lambda _: value.integer(0, 10**6))[:4])
    maps = torch.tensor(windows, dtype=torch.float32).reshape(n, channels, height // 2, width // 2, 2, 2)
    return maps.transpose(3, 4).reshape(n, channels, height, width)


def _even(draw: Draw, low: int, high: int) -> int:
    return 2 * draw.integer(low, high)


PRINTED = torch.tensor([[1.0, 3, 2, 9], [7, 4, 1, 5], [8, 5, 2, 3], [4, 2, 1, 4]])
"""The example that lectures print."""


# --- max_pool_with_indices ------------------------------------------------------------------------------------


def max_pool_with_indices(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of 2x2 windows and where they were."""
    height, width = maps.shape[2:]
    windows = maps.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, C, H/2, 2, W/2, 2)
    windows = windows.transpose(3, 4).flatten(4)  # (N, C, H/2, W/2, 4): the four numbers of each window
    values, place = windows.max(4)  # place: 0, 1 in the upper row of the window, 2, 3 in the lower
    top = torch.arange(0, height, 2, device=maps.device)[:, None]
    left = torch.arange(0, width, 2, device=maps.device)
    return values, (top + place // 2) * width + left + place % 2


def _maps_to_pool(draw: Draw) -> Case:
    height, width = _even(draw, 1, 3), _even(draw, 1, 4)
    width += 2 * (width == height)
    return {"maps": _different_in_windows(draw, draw.integer(1, 2), draw.integer(1, 3), height, width)}


def _pool_by_gradient(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the sum of all maxima is 1 where a maximum was: multiply by the pixels' numbers and pool."""
    with torch.enable_grad():
        leaf = maps.detach().double().requires_grad_()
        values = F.max_pool2d(leaf, 2)
        (winners,) = torch.autograd.grad(values.sum(), leaf)
    numbers = torch.arange(maps[0, 0].numel(), dtype=torch.double).reshape(maps.shape[2:])
    return values.detach().to(maps.dtype), (4 * F.avg_pool2d(winners * numbers, 2)).round().long()


def _values_and_long_indices(expected: Any, got: Any) -> Mismatch | None:
    """Compare the pair; the indices must be int64, as the unpooling needs them."""
    mismatch = agree_parts(expected, got, ("values", "indices"))
    if mismatch is None and got[1].dtype is not torch.int64:
        kind = str(got[1].dtype).removeprefix("torch.")
        return Mismatch(f"the numbers are right, but the indices are {kind}; int64 was asked for.")
    return mismatch


def _pool_with(
    flat: Callable[[Tensor, Tensor, Tensor, int, int], Tensor],
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A pooling with right maxima and wrong indices: `flat` makes them of rows, columns, places, H and W."""

    def pool(maps: Tensor) -> tuple[Tensor, Tensor]:
        values, indices = max_pool_with_indices(maps)
        height, width = maps.shape[2:]
        rows, columns = indices // width, indices % width
        return values, flat(rows, columns, 2 * (rows % 2) + columns % 2, height, width)

    return pool


def _numbers_of_windows(rows: Tensor, columns: Tensor, place: Tensor, height: int, width: int) -> Tensor:
    return rows // 2 * (width // 2) + columns // 2


def _pool_counting_on(maps: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = max_pool_with_indices(maps)
    _, channels, height, width = maps.shape
    return values, indices + height * width * torch.arange(channels)[:, None, None]


def _pool_counting_on_through_the_batch(maps: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = max_pool_with_indices(maps)
    n, channels, height, width = maps.shape
    planes = torch.arange(n * channels).reshape(n, channels, 1, 1)
    return values, indices + height * width * planes


def _pool_with_one_channels_indices(maps: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = max_pool_with_indices(maps)
    return values, indices[:, :1].expand_as(indices)


def _pool_short_indices(maps: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = max_pool_with_indices(maps)
    return values, indices.int()


def _pool_swapped(maps: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = max_pool_with_indices(maps)
    return indices, values


def _pool_first_equal(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Look each maximum up in its channel: the first number that equals it, in whichever window."""
    values, _ = max_pool_with_indices(maps)
    same = maps.flatten(2)[:, :, None] == values.flatten(2)[..., None]  # (N, C, h * w, H * W)
    return values, same.int().argmax(3).reshape(values.shape)


def _pool_nested(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Along the rows first, then down; the column is that of the upper row's larger one."""
    height, width = maps.shape[2:]
    values, right = maps.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).max(5)
    values, down = values.max(3)
    top = torch.arange(0, height, 2)[:, None]
    return values, (top + down) * width + torch.arange(0, width, 2) + right[:, :, :, 0]


def _pool_lines(maps: Tensor) -> tuple[Tensor, Tensor]:
    n, channels, height, width = maps.shape
    values, place = maps.reshape(n, channels, height // 2, width // 2, 4).max(4)
    corner = 2 * torch.arange(height // 2)[:, None] * width + 2 * torch.arange(width // 2)
    return values, corner + place // 2 * width + place % 2


MAX_POOL_WITH_INDICES = Exercise(
    name="max_pool_with_indices",
    lesson=STEM,
    title="Pool and remember",
    points=3,
    minutes=12,
    difficulty=2,
    reference=max_pool_with_indices,
    oracle=_pool_by_gradient,
    cases=_maps_to_pool,
    examples=({"maps": PRINTED[None, None]},),
    compare=_values_and_long_indices,
    drive=drivers.by_hand,
    runs=24,
    misconceptions=(
        Misconception(
            "by_torch",
            lambda maps: F.max_pool2d(maps, 2, return_indices=True),
            "You let PyTorch do it. Here the way to the index is the exercise: write it without `return_indices`.",
            "Where the maximum was",
        ),
        Misconception(
            "short_indices",
            _pool_short_indices,
            "The indices are right, but not int64. `F.max_unpool2d` refuses all other types.",
            "Where the maximum was",
        ),
        Misconception(
            "swapped",
            _pool_swapped,
            "You returned the indices first. Asked for are the values, then the indices.",
            "Where the maximum was",
        ),
        Misconception(
            "counts_from_one",
            _pool_with(lambda rows, columns, place, height, width: rows * width + columns + 1),
            "Your indices are all too large by one. The first pixel has the index 0.",
            "Where the maximum was",
        ),
        Misconception(
            "height_for_width",
            _pool_with(lambda rows, columns, place, height, width: rows * height + columns),
            "You multiplied the row by the height. How many pixels come before the first one of a row?",
            "Where the maximum was",
        ),
        Misconception(
            "first_equal",
            _pool_first_equal,
            "You searched the channel for the maximum's value. The same number may stand in an earlier window; look "
            "inside the window that the maximum comes from.",
            "Where the maximum was",
        ),
        Misconception(
            "local_index",
            _pool_with(lambda rows, columns, place, height, width: place),
            "Your indices are places inside a window, 0 to 3. A flat index numbers the pixels of the whole map: at "
            "which row and column of the map does the window begin?",
            "Where the maximum was",
        ),
        Misconception(
            "rows_of_the_pooled_map",
            _pool_with(lambda rows, columns, place, height, width: rows * (width // 2) + columns),
            "Rows and columns are right. To make one number of them you used the width of the pooled map; the pixels "
            "that you number belong to the large one.",
            "Where the maximum was",
        ),
        Misconception(
            "numbers_windows",
            _pool_with(_numbers_of_windows),
            "You numbered the windows. That says nothing of the maximum's place inside its window.",
            "Where the maximum was",
        ),
        Misconception(
            "corner_of_the_window",
            _pool_with(lambda rows, columns, place, height, width: rows // 2 * 2 * width + columns // 2 * 2),
            "Your index is that of the window's upper left pixel, wherever the maximum was.",
            "Where the maximum was",
        ),
        Misconception(
            "corner_not_doubled",
            _pool_with(
                lambda rows, columns, place, height, width: (rows // 2 + place // 2) * width + columns // 2 + place % 2
            ),
            "You took the window's number along each axis for its corner's row and column. A window is two pixels high "
            "and two wide: in which row does the second one begin?",
            "Where the maximum was",
        ),
        Misconception(
            "column_of_the_upper_row",
            _pool_nested,
            "Your row is right, but the column is that of the larger number in the upper row, also where the maximum "
            "is in the lower one. Each row of a window has a column of its own; which of the two counts?",
            "Where the maximum was",
        ),
        Misconception(
            "column_by_column",
            _pool_with(lambda rows, columns, place, height, width: columns * height + rows),
            "You numbered the pixels down the columns. PyTorch numbers them along the rows.",
            "Where the maximum was",
        ),
        Misconception(
            "place_read_across",
            _pool_with(
                lambda rows, columns, place, height, width: (
                    (rows // 2 * 2 + place % 2) * width + columns // 2 * 2 + place // 2
                )
            ),
            "You exchanged row and column inside the window: with two pixels in a row, place 1 is to the right of "
            "place 0, and place 2 below it.",
            "Where the maximum was",
        ),
        Misconception(
            "one_channel_for_all",
            _pool_with_one_channels_indices,
            "All your channels have the indices of the first one. Each channel has its own maxima, at its own places.",
            "Where the maximum was",
        ),
        Misconception(
            "counts_through_channels",
            _pool_counting_on,
            "You number on from one channel to the next. Here, as in PyTorch, each channel begins at 0 again.",
            "Where the maximum was",
        ),
        Misconception(
            "counts_through_batch",
            _pool_counting_on_through_the_batch,
            "You number on through the channels and images. Here, as in PyTorch, each channel of each image begins at "
            "0 again.",
            "Where the maximum was",
        ),
        Misconception(
            "four_in_a_line",
            _pool_lines,
            "You cut the map into fours by a reshape. That takes neighbours along one row; a window has two "
            "pixels of one row and two of the next.",
            "Where the maximum was",
        ),
    ),
    hints=(
        "Look at one window first. Its maximum is at place 0, 1, 2 or 3. How far down and how far to the right of the "
        "window's corner is that?",
        "Bring the two axes of length 2 together at the end and make one axis of 4 of them; `.max(4)` then gives the "
        "values and the places. The row in the map is that of the corner plus the row inside the window, and the same "
        "for columns.",
        "windows.transpose(3, 4).flatten(4).max(4), then index = (corner's row + place // 2) * ... + (corner's column "
        "+ ...)",
    ),
    property="the flattened channel holds, at each index, the maximum of that window.",
)


# --- unpool ---------------------------------------------------------------------------------------------------


def unpool(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    """Return maps of zeros with each value at its index."""
    n, channels = values.shape[:2]
    flat = values.new_zeros(n, channels, size[0] * size[1])
    flat.scatter_(2, indices.flatten(2), values.flatten(2))
    return flat.unflatten(2, size)


def _values_and_places(draw: Draw) -> Case:
    n, channels, h, w = draw.integer(1, 2), draw.integer(1, 3), draw.integer(1, 3), draw.integer(1, 4)
    w += w == h
    size = (2 * h - draw.choice((0, 1)), 2 * w - draw.choice((0, 1)))
    indices = _some_indices(draw, n, channels, size)
    return {"values": draw_tensor(draw, (n, channels, h, w), -9, 9), "indices": indices, "size": size}


def _some_indices(draw: Draw, n: int, channels: int, size: Pair) -> Tensor:
    """Indices (N, C, h, w) as the 2x2 pooling of a map of this size may give them, windows at odd borders included."""
    height, width = size
    value = varied(draw)
    indices = [
        min(i + value.integer(0, 1), height - 1) * width + min(j + value.integer(0, 1), width - 1)
        for _ in range(n * channels)
        for i in range(0, height, 2)
        for j in range(0, width, 2)
    ]
    return torch.tensor(indices).reshape(n, channels, (height + 1) // 2, (width + 1) // 2)


def _unpool_by_one_hot(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    """Each value times the row of an identity matrix that its index names, added up."""
    rows = F.one_hot(indices.flatten(2), size[0] * size[1]).to(values.dtype)  # (N, C, h * w, H * W)
    return (values.flatten(2)[..., None] * rows).sum(2).unflatten(2, size)


def _fitted(maps: Tensor, size: Pair) -> Tensor:
    return maps[:, :, : size[0], : size[1]]


def _nearest(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return _fitted(values.repeat_interleave(2, 2).repeat_interleave(2, 3), size)


def _nails(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    out = values.new_zeros(*values.shape[:2], *size)
    out[:, :, ::2, ::2] = values
    return out


def _twice_as_large(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    """Lay the values out in a map of 2h x 2w, whatever the size."""
    h, w = values.shape[2:]
    return unpool(values, indices, (2 * h, 2 * w))


def _cut_to_size(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return _fitted(_twice_as_large(values, indices, size), size)


def _down_the_columns(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return unpool(values, indices, (size[1], size[0])).transpose(2, 3)


def _into_the_first_plane(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    out = values.new_zeros(*values.shape[:2], *size)
    out.view(-1)[indices.flatten()] = values.flatten()
    return out


def _size_swapped(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return unpool(values, indices, (size[1], size[0]))


def _divided_by_height(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    out = values.new_zeros(*values.shape[:2], *size)
    n, channels = (torch.arange(count) for count in values.shape[:2])
    out[n[:, None, None, None], channels[:, None, None], indices // size[0], indices % size[0]] = values
    return out


def _as_if_by_relu(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return unpool(values.clamp(min=0), indices, size)


def _sorted_in(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    """Write the values in their order at the indices in ascending order, as a mask does."""
    return unpool(values, indices.flatten(2).sort(2).values.reshape(indices.shape), size)


def _gathered(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return values.flatten(2).gather(2, indices.flatten(2)).unflatten(2, size)


def _every_channel_everywhere(values: Tensor, indices: Tensor, size: Pair) -> Tensor:
    out = values.new_zeros(*values.shape[:2], *size)
    out[..., indices // size[1], indices % size[1]] = values
    return out


UNPOOL = Exercise(
    name="unpool",
    lesson=STEM,
    title="Unpool by indices",
    points=2,
    minutes=9,
    difficulty=2,
    reference=unpool,
    oracle=_unpool_by_one_hot,
    cases=_values_and_places,
    examples=(
        {
            "values": torch.tensor([[[[7.0, 9], [8, 4]]]]),
            "indices": torch.tensor([[[[4, 3], [8, 15]]]]),
            "size": (4, 4),
        },
        {
            "values": torch.tensor([[[[7.0, 9, 6], [8, 4, 5]], [[1.0, 2, 3], [4, 5, 6]]]]),
            "indices": torch.tensor([[[[5, 2, 4], [10, 13, 14]], [[1, 7, 9], [11, 12, 14]]]]),
            "size": (3, 5),
        },
        {
            "values": torch.tensor([[[[-3.0, -1]]]]),
            "indices": torch.tensor([[[[1, 6]]]]),
            "size": (2, 4),
        },
    ),
    drive=drivers.writing_by_hand,
    runs=24,
    misconceptions=(
        Misconception(
            "by_torch",
            lambda values, indices, size: F.max_unpool2d(values, indices, (2, 2), output_size=size),
            "You let PyTorch do it. Here the writing is the exercise: do it without `max_unpool2d`.",
            "Put back where it was",
        ),
        Misconception(
            "negatives_lost",
            _as_if_by_relu,
            "Negative values became zeros. Every value goes to its index, whatever its sign: write it, do not compare "
            "it with what stands there.",
            "Put back where it was",
        ),
        Misconception(
            "nothing_written",
            lambda values, indices, size: values.new_zeros(*values.shape[:2], *size),
            "Your map is zero everywhere. `scatter_` with an underscore writes into the tensor; `scatter` without one "
            "leaves it as it is and returns a new one.",
            "Put back where it was",
        ),
        Misconception(
            "gathers",
            _gathered,
            "`gather` reads: it fetches values from the places that the indices name. Here values are to be written to "
            "those places, the other way round.",
            "Put back where it was",
        ),
        Misconception(
            "size_swapped",
            _size_swapped,
            "You exchanged height and width. `size` is (H, W), rows first.",
            "Put back where it was",
        ),
        Misconception(
            "divided_by_height",
            _divided_by_height,
            "You divided the index by the height. It is row · W + column: which number gives the row back?",
            "Put back where it was",
        ),
        Misconception(
            "order_of_indices",
            _sorted_in,
            "The right pixels are filled, but with each other's values. Indices need not rise from one window to the "
            "next; each value has its own.",
            "Put back where it was",
        ),
        Misconception(
            "repeats",
            _nearest,
            "You repeated each value over its window: nearest-neighbour upsampling. Unpooling puts a value in one "
            "place and leaves zeros around it.",
            "Put back where it was",
        ),
        Misconception(
            "top_left",
            _nails,
            "You put each value at the top left of its window. The indices say where it came from.",
            "Put back where it was",
        ),
        Misconception(
            "always_twice",
            _twice_as_large,
            "Your map is twice as large as the pooled one. A map of 5 is pooled to 3, rounded up, and must come back "
            "as 5: `size` tells you.",
            "Put back where it was",
        ),
        Misconception(
            "laid_out_twice_then_cut",
            _cut_to_size,
            "You placed the values in a map of twice the size and cut it. The indices number the pixels of a map of "
            "`size`: in a wider one the same number is another pixel.",
            "Put back where it was",
        ),
        Misconception(
            "one_channel_for_all",
            lambda values, indices, size: unpool(values, indices[:, :1].expand_as(indices), size),
            "You used the indices of the first channel for all. Each channel has its own.",
            "Put back where it was",
        ),
        Misconception(
            "one_image_for_all",
            lambda values, indices, size: unpool(values, indices[:1].expand_as(indices), size),
            "You used the indices of the first image for the whole batch. Each image has its own.",
            "Put back where it was",
        ),
        Misconception(
            "into_the_first_plane",
            _into_the_first_plane,
            "Everything ended up in the first channel of the first image. The indices begin at 0 again in every "
            "channel: keep the axes of batch and channels while you write.",
            "Put back where it was",
        ),
        Misconception(
            "every_channel_everywhere",
            _every_channel_everywhere,
            "Rows and columns alone were indexed, so every channel got the values of all channels of all images. Each "
            "has its own places: image and channel must be indexed with them.",
            "Put back where it was",
        ),
        Misconception(
            "down_the_columns",
            _down_the_columns,
            "You read the index down the columns. Divided by the width, it gives row and column.",
            "Put back where it was",
        ),
    ),
    hints=(
        "An index numbers the pixels of one channel, row after row. What shape must the empty map have for the index "
        "to be a place in it?",
        "Make zeros with one long axis for rows and columns together, write all values at once along it (see "
        "torch.Tensor.scatter_), then fold the axis to rows and columns.",
        "flat = values.new_zeros(n, channels, H * W); flat.scatter_(2, indices.flatten(2), ...); then give it the "
        "shape (n, channels, H, W)",
    ),
    property="flattened, each channel holds its value at each of its indices, and zero everywhere else.",
)


# --- index_memory ---------------------------------------------------------------------------------------------


def index_memory(channels: int, height: int, width: int) -> tuple[int, int, int]:
    """Return the bytes of a float32 map, of its 2x2 pooling's places at 2 bits each, and at int64."""
    windows = channels * math.ceil(height / 2) * math.ceil(width / 2)
    return 4 * channels * height * width, math.ceil(2 * windows / 8), 8 * windows


def _some_maps(draw: Draw) -> Case:
    height = draw.integer(1, 60)
    return {"channels": draw.integer(1, 70), "height": height, "width": height + draw.integer(1, 60)}


def _memory_of_tensors(channels: int, height: int, width: int) -> tuple[int, int, int]:
    """Let torch make the tensors, without their memory, and say how large they are."""
    maps = torch.empty(1, channels, height, width, device="meta")
    _, indices = F.max_pool2d(maps, 2, ceil_mode=True, return_indices=True)
    return maps.nbytes, (indices.numel() + 3) // 4, indices.nbytes  # four places fill a byte


def _memory_with(
    along: Callable[[int], int] = lambda size: (size + 1) // 2,
    map_bytes: Callable[[int, int], float] = lambda pixels, windows: 4 * pixels,
    place_bytes: Callable[[int], float] = lambda windows: (2 * windows + 7) // 8,
    index_bytes: Callable[[int], float] = lambda windows: 8 * windows,
    planes: Callable[[int], int] = lambda channels: channels,
) -> Callable[[int, int, int], tuple[float, float, float]]:
    """A count with a mistake: windows along an axis, bytes of each of the three, channels that have places."""

    def count(channels: int, height: int, width: int) -> tuple[float, float, float]:
        windows = along(height) * along(width)
        pixels = channels * height * width
        places = planes(channels) * windows
        return map_bytes(pixels, channels * windows), place_bytes(places), index_bytes(places)

    return count


def _memory_of_one_channel(channels: int, height: int, width: int) -> tuple[int, int, int]:
    return index_memory(1, height, width)


def _memory_by_area(channels: int, height: int, width: int) -> tuple[int, int, int]:
    windows = channels * math.ceil(height * width / 4)
    return 4 * channels * height * width, math.ceil(windows / 4), 8 * windows


def _memory_packed_by_channel(channels: int, height: int, width: int) -> tuple[int, int, int]:
    maps, _, long = index_memory(channels, height, width)
    return maps, channels * index_memory(1, height, width)[1], long


def _memory_in_another_order(channels: int, height: int, width: int) -> tuple[int, int, int]:
    maps, packed, long = index_memory(channels, height, width)
    return maps, long, packed


def _whole_numbers(expected: Any, got: Any) -> Mismatch | None:
    """Compare the three by their names, and refuse floats of the right value."""
    names = ("the map", "the places at 2 bits", "the indices")
    if mismatch := agree_parts(expected, got, names):
        return mismatch
    for name, number in zip(names, got):
        plain = number.item() if hasattr(number, "item") else number
        if isinstance(plain, float):
            return Mismatch(
                f"{name}: {plain} is right, but it is a float. Bytes are whole numbers; `//`, `math.ceil` and `int` "
                "return such."
            )
    return None


INDEX_MEMORY = Exercise(
    name="index_memory",
    lesson=STEM,
    title="What remembering costs",
    points=2,
    minutes=7,
    difficulty=1,
    reference=index_memory,
    oracle=_memory_of_tensors,
    cases=_some_maps,
    compare=_whole_numbers,
    examples=(
        {"channels": 64, "height": 360, "width": 480},
        {"channels": 2, "height": 5, "width": 6},
        {"channels": 3, "height": 1, "width": 2},
    ),
    misconceptions=(
        Misconception(
            "channels_forgotten",
            _memory_of_one_channel,
            "You counted one channel. A map has as many numbers, and as many maxima, in each of its channels.",
            "What remembering costs",
        ),
        Misconception(
            "quarter_of_the_pixels",
            _memory_by_area,
            "You took a quarter of the pixels for the number of windows. With odd sizes there are more: round up along "
            "each axis first, then multiply.",
            "What remembering costs",
        ),
        Misconception(
            "packed_by_channel",
            _memory_packed_by_channel,
            "You rounded up to whole bytes in each channel. The places of all channels are packed together.",
            "What remembering costs",
        ),
        Misconception(
            "one_byte_a_place",
            _memory_with(place_bytes=lambda windows: windows),
            "You gave each place a byte of its own. At 2 bits a place, how many fit into a byte?",
            "What remembering costs",
        ),
        Misconception(
            "another_order",
            _memory_in_another_order,
            "The numbers are right, their order is not: the map, the places at 2 bits, the int64 indices.",
            "What remembering costs",
        ),
        Misconception(
            "pooled_map",
            _memory_with(map_bytes=lambda pixels, windows: 4 * windows),
            "For the map you counted the pooled one. What a decoder would be handed is the map before the pooling, "
            "with all its detail.",
            "What remembering costs",
        ),
        Misconception(
            "windows_cut_off",
            _memory_with(along=lambda size: size // 2),
            "You left the windows out that stick out at the border. Here sizes round up, as in SegNet.",
            "What remembering costs",
        ),
        Misconception(
            "pixels_for_windows",
            _memory_with(along=lambda size: size),
            "You counted a place for every pixel. There is one maximum in a window, and a window has 2x2 pixels.",
            "What remembering costs",
        ),
        Misconception(
            "one_channel_for_all",
            _memory_with(planes=lambda channels: 1),
            "You counted places for one channel. Each channel has its maxima elsewhere.",
            "What remembering costs",
        ),
        Misconception(
            "bits_for_bytes",
            _memory_with(place_bytes=lambda windows: 2 * windows),
            "Two bits are not two bytes: how many places fit into a byte?",
            "What remembering costs",
        ),
        Misconception(
            "last_byte_lost",
            _memory_with(place_bytes=lambda windows: 2 * windows // 8),
            "You rounded the bytes down. The last places need room too, in a byte that is not full.",
            "What remembering costs",
        ),
        Misconception(
            "part_of_a_byte",
            _memory_with(place_bytes=lambda windows: windows / 4),
            "You kept a part of a byte. Memory comes in whole ones.",
            "What remembering costs",
        ),
        Misconception(
            "numbers_for_bytes",
            _memory_with(map_bytes=lambda pixels, windows: pixels, index_bytes=lambda windows: windows),
            "You counted numbers. A float32 has 32 bits and an int64 has 64: how many bytes each?",
            "What remembering costs",
        ),
        Misconception(
            "index_of_four_bytes",
            _memory_with(index_bytes=lambda windows: 4 * windows),
            "You gave an index four bytes, as many as a float32. An int64 has 64 bits.",
            "What remembering costs",
        ),
    ),
    hints=(
        "Count the windows first, of all channels. How many are there along an axis of 5 pixels, if the last one may "
        "stick out?",
        "Each window remembers one place. At 2 bits a place, four fit into a byte, and the last byte may stay partly "
        "empty; an int64 takes 64 bits.",
        "windows = channels * ceil(height / 2) * ...; then 4 * (all pixels), ceil(2 * windows / 8), ... * windows",
    ),
    property="the map has 4 bytes a pixel and channel; each window and channel has one place.",
)


# --- decode ---------------------------------------------------------------------------------------------------


def decode(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    """Return the decoder's output: each stage unpools as its encoder stage pooled, then convolves."""
    for (indices, size), stage in zip(reversed(remembered), stages):
        x = stage(unpool(x, indices, size))
    return x


def _remembered_and_widths(draw: Draw) -> Case:
    """What an encoder may hand over; `widths` are the channels that the decoder's stages return."""
    depth = draw.integer(1, 3)  # 1: whoever takes the list from its front is right there, whoever fails for ever is not
    colours = draw.integer(1, 3)
    same = draw.choice((True, False))  # with as many channels everywhere, a wrong order of layers raises no error
    channels = [colours, *(colours if same else draw.integer(2, 4) for _ in range(depth))]
    height = draw.integer(5, 12)
    sizes = [(height, height + draw.integer(1, 4))]
    for _ in range(depth):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    n = draw.integer(1, 2)
    return {
        "x": draw_tensor(draw, (n, channels[-1], *sizes[-1]), -4, 9),
        "indices": [_some_indices(draw, n, c, size) for c, size in zip(channels[1:], sizes)],
        "sizes": sizes[:-1],
        "widths": tuple(reversed(channels[:-1])),
        "seed": draw.integer(0, 999),
    }


def _decode_by_tables(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    """Undo the encoder's list from its end, by recursion, with the other way to unpool."""
    if not stages:
        return x
    indices, size = remembered[-1]
    return _decode_by_tables(stages[0](_unpool_by_one_hot(x, indices, size)), remembered[:-1], stages[1:])


def _decoded(
    up: Callable[[Tensor, Tensor, Pair], Tensor] = unpool,
    order: Callable[[list[Any]], list[Any]] = lambda remembered: remembered[::-1],
    line_up: Callable[[list[Any]], list[Any]] = lambda stages: stages,
    stage_first: bool = False,
) -> Callable[..., Tensor]:
    """A decoder with a mistake: how it unpools, in which order it takes what it was handed, what comes first."""

    def run(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
        for (indices, size), stage in zip(order(remembered), line_up(stages)):
            x = up(stage(x), indices, size) if stage_first else stage(up(x, indices, size))
        return x

    return run


def _enlarged(x: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _decode_popping(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    for stage in stages:
        x = stage(unpool(x, *remembered.pop()))
    return x


def _decode_reversing(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    remembered.reverse()
    return _decoded(order=lambda pairs: pairs)(x, remembered, stages)


def _decode_beyond(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    for number, stage in enumerate(stages):
        x = stage(unpool(x, *remembered[len(remembered) - number]))
    return x


def _decode_with_sizes_of_others(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    for (indices, _), (_, size), stage in zip(reversed(remembered), remembered, stages):
        x = stage(unpool(x, indices, size))
    return x


def _decode_without_gradient(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    with torch.no_grad():
        return decode(x, remembered, stages)


def _decode_evaluating(x: Tensor, remembered: list[tuple[Tensor, Pair]], stages: list[nn.Module]) -> Tensor:
    return decode(x, remembered, [stage.eval() for stage in stages])


def _unpool_by_torch(x: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return F.max_unpool2d(x, indices, (2, 2), output_size=size)


def _unpool_without_size(x: Tensor, indices: Tensor, size: Pair) -> Tensor:
    return F.max_unpool2d(x, indices, (2, 2))


DECODE = Exercise(
    name="decode",
    lesson=STEM,
    title="A decoder that knows its encoder",
    points=3,
    minutes=11,
    difficulty=3,
    reference=decode,
    oracle=_decode_by_tables,
    cases=_remembered_and_widths,
    drive=drivers.decoder,
    runs=16,
    misconceptions=(
        Misconception(
            "turns_the_list_round",
            _decode_reversing,
            "You turned a list round that you were handed: `reverse` changes it for the caller too. `reversed` reads "
            "it backwards and leaves it as it is.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "uses_the_list_up",
            _decode_popping,
            "You took entries out of a list that you were handed, and the caller has it no longer. Read it backwards "
            "and leave it as it is.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "without_gradient",
            _decode_without_gradient,
            "You cut the way of the gradients, by `no_grad` or `detach`: with this decoder no stage would ever learn. "
            "Whether gradients are needed is for the caller to say.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "evaluates",
            _decode_evaluating,
            "You switched the stages to evaluation, and left them so. The mode of a stage is the caller's affair; in "
            "training, batch norm needs the other one.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "top_left",
            _decoded(up=_nails),
            "You put every value at the top left of its window. Each encoder stage has handed its indices over.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "repeats",
            _decoded(up=_nearest),
            "You enlarged the maps by repeating values; the indices were not used.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "interpolates",
            _decoded(up=_enlarged),
            "You interpolated. The sizes are right, but the indices were not used.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "stage_first",
            _decoded(stage_first=True),
            "You ran the stage before the unpooling. An unpooled map is full of holes, and the stage is there to fill "
            "them; the indices also fit the channels that came out of the pooling.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "stages_backwards",
            _decoded(line_up=lambda stages: stages[::-1]),
            "You ran the decoder's stages from the last to the first. They are given in the order in which they run.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "encoder_order",
            _decoded(order=lambda remembered: remembered),
            "You used indices and size of the wrong stage; they do not fit the map. What was pooled last must be "
            "unpooled first: in which order did the encoder fill the list?",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "sizes_in_encoder_order",
            _decode_with_sizes_of_others,
            "The indices are those of the right stage, the size is not: what was pooled last must also be unpooled to "
            "the size that it had before. Indices and size of a pooling stand in one pair.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "size_left_out",
            _decoded(up=_unpool_without_size),
            "You unpooled to twice the size of the map; PyTorch does so, too, when it is told no size. Where a size "
            "was odd, that is a row or a column too many: `size` tells you.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "always_twice",
            _decoded(up=_twice_as_large),
            "You doubled the size of each map. Where the encoder's map had an odd size, that is a row or a column too "
            "many: `size` tells you.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "stages_left_out",
            _decoded(line_up=lambda stages: [nn.Identity() for _ in stages]),
            "You unpooled, and the stages did not run. Each stage is a module: call it with what was unpooled.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "relu_added",
            _decoded(line_up=lambda stages: [nn.Sequential(stage, nn.ReLU()) for stage in stages]),
            "You put a ReLU after each stage. Whether one is in it is the stage's own affair; SegNet-Basic has "
            "none there.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "beyond_the_list",
            _decode_beyond,
            "You asked a list for an entry that it does not have. Count by the list's own length; the last entry has "
            "the number length - 1, or -1.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "one_stage_short",
            _decoded(order=lambda remembered: remembered[:0:-1]),
            "Your decoder stops one stage early: the first encoder stage, the one that saw the image, has a partner "
            "too.",
            "Encoder and decoder in pairs",
        ),
        Misconception(
            "only_one_stage",
            _decoded(order=lambda remembered: remembered[-1:]),
            "Your decoder has run its first stage alone. Is there a `return` inside the loop?",
            "Encoder and decoder in pairs",
        ),
    ),
    hints=(
        "Write down the sizes for an image of 12x10 and two poolings. Which size does the first unpooling return to, "
        "and where in `remembered` is it?",
        "Walk along the stages and, at the same time, backwards along what was remembered. In each step unpool first, "
        "to the size that was remembered with the indices, then run the stage on the result.",
        "for (indices, size), stage in zip(reversed(...), stages): x = ...; after the loop: return x",
    ),
    property="each stage gets a map that is zero but at its own encoder's maxima, in that encoder's size. "
    "(The check zips `indices` and `sizes` to `remembered` and builds the stages: `widths` are their "
    "channels, `seed` determines their weights.)",
)


# --- boundary_error -------------------------------------------------------------------------------------------


def boundary_error(prediction: Tensor, mask: Tensor) -> float:
    """Return the share of wrong labels among the pixels next to another class."""
    near = torch.zeros_like(mask, dtype=torch.bool)
    known = mask != 255
    across = (mask[:, :, 1:] != mask[:, :, :-1]) & known[:, :, 1:] & known[:, :, :-1]
    down = (mask[:, 1:] != mask[:, :-1]) & known[:, 1:] & known[:, :-1]
    near[:, :, 1:] |= across
    near[:, :, :-1] |= across
    near[:, 1:] |= down
    near[:, :-1] |= down
    return (prediction != mask)[near].double().mean().item()


def _labels_and_guesses(draw: Draw) -> Case:
    n, height, width = draw.integer(1, 2), draw.integer(3, 6), draw.integer(3, 8)
    width += width == height
    value = varied(draw)
    mask = torch.zeros(n, height, width, dtype=torch.int64)
    for image in mask:
        for label in (1, 2, VOID):
            top, left = value.integer(0, height - 2), value.integer(0, width - 2)
            image[top : top + value.integer(1, 3), left : left + value.integer(1, 4)] = label
        image[0, 0] = 0
        image[0, 1] = 1  # there is a boundary in every image
    prediction = mask.clone()
    prediction[mask == VOID] = 0
    flips = [value.integer(0, 3) == 0 for _ in range(mask.numel())]
    prediction[torch.tensor(flips).reshape(mask.shape)] = value.integer(0, 2)
    prediction[0, 0, 0] = 2
    return {"prediction": prediction, "mask": mask}


def _boundary_error_by_walking(prediction: Tensor, mask: Tensor) -> float:
    """Ask every pixel's four neighbours."""
    n, height, width = mask.shape
    wrong = count = 0
    for i in range(n):
        for y in range(height):
            for x in range(width):
                label = int(mask[i, y, x])
                around = [
                    int(mask[i, y + dy, x + dx])
                    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
                    if 0 <= y + dy < height and 0 <= x + dx < width
                ]
                if label != VOID and any(other not in (label, VOID) for other in around):
                    count += 1
                    wrong += int(prediction[i, y, x]) != label
    return wrong / count


def _near(mask: Tensor, void_counts: bool = False, sides: str = "both", axes: str = "both") -> Tensor:
    """Pixels beside another class: with void as a class or not, both sides of a boundary or one, along which axes."""
    known = torch.ones_like(mask, dtype=torch.bool) if void_counts else mask != VOID
    near = torch.zeros_like(known)
    for axis in {"both": (1, 2), "rows": (1,), "columns": (2,)}[axes]:
        length = mask.shape[axis]
        before, after = (slice_.movedim(0, axis) for slice_ in (mask.movedim(axis, 0)[:-1], mask.movedim(axis, 0)[1:]))
        known_before, known_after = known.narrow(axis, 0, length - 1), known.narrow(axis, 1, length - 1)
        change = (before != after) & known_before & known_after
        if sides in ("both", "before"):
            near.narrow(axis, 0, length - 1).logical_or_(change)
        if sides in ("both", "after"):
            near.narrow(axis, 1, length - 1).logical_or_(change)
    return near


def _boundary_share(wrong: Tensor, near: Tensor) -> float:
    return wrong[near].double().mean().item()


def _around_the_edge(mask: Tensor) -> Tensor:
    known = mask != VOID
    near = torch.zeros_like(known)
    for shift, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2)):
        other = mask.roll(shift, axis)
        near |= (mask != other) & known & (other != VOID)
    return near


def _near_eight(mask: Tensor) -> Tensor:
    """Labelled pixels one of whose eight neighbours has another label."""
    label = mask.double().masked_fill(mask == VOID, math.nan)
    padded = F.pad(label, (1, 1, 1, 1), value=math.nan)
    around = padded.unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)  # (N, H, W, 9)
    return ((around != label[..., None]) & ~around.isnan()).any(3) & (mask != VOID)


def _mean_over_images(prediction: Tensor, mask: Tensor) -> float:
    return sum(boundary_error(p[None], m[None]) for p, m in zip(prediction, mask)) / len(mask)


BOUNDARY_ERROR = Exercise(
    name="boundary_error",
    lesson=STEM,
    title="Errors at boundaries",
    points=2,
    minutes=10,
    difficulty=2,
    reference=boundary_error,
    oracle=_boundary_error_by_walking,
    cases=_labels_and_guesses,
    examples=(
        {
            "prediction": torch.tensor([[[0, 1, 1, 1, 1], [0, 0, 1, 2, 1]]]),
            "mask": torch.tensor([[[0, 0, 1, 1, 1], [0, 0, 1, 1, VOID]]]),
        },
    ),
    runs=24,
    misconceptions=(
        Misconception(
            "accuracy",
            lambda prediction, mask: 1 - boundary_error(prediction, mask),
            "You counted the labels that are right.",
            "How good are the boundaries",
        ),
        Misconception(
            "all_pixels",
            lambda prediction, mask: _boundary_share(prediction != mask, mask != VOID),
            "This is the error over all pixels, not over those at a boundary.",
            "How good are the boundaries",
        ),
        Misconception(
            "share_of_all",
            lambda prediction, mask: ((prediction != mask) & _near(mask)).sum().item() / (mask != VOID).sum().item(),
            "You divided by all labelled pixels. How many boundary pixels are there?",
            "How good are the boundaries",
        ),
        Misconception(
            "share_of_errors",
            lambda prediction, mask: _boundary_share(_near(mask), (prediction != mask) & (mask != VOID)),
            "You divided by all wrong pixels: the share of the errors that lie at a boundary. Asked for is the share "
            "of the boundary pixels that are wrong.",
            "How good are the boundaries",
        ),
        Misconception(
            "share_of_pixels",
            lambda prediction, mask: ((prediction != mask) & _near(mask)).sum().item() / mask.numel(),
            "You divided by all pixels. How many boundary pixels are there?",
            "How good are the boundaries",
        ),
        Misconception(
            "eight_neighbours",
            lambda prediction, mask: _boundary_share(prediction != mask, _near_eight(mask)),
            "You counted diagonal neighbours too. A pixel has four here: left, right, above, below.",
            "How good are the boundaries",
        ),
        Misconception(
            "arguments_swapped",
            lambda prediction, mask: boundary_error(mask, prediction),
            "You looked for boundaries, and for void, in the prediction. Is the order of the arguments right? The "
            "prediction comes first.",
            "How good are the boundaries",
        ),
        Misconception(
            "void_is_a_class",
            lambda prediction, mask: _boundary_share(
                prediction != mask, _near(mask, void_counts=True) & (mask != VOID)
            ),
            "You took the rim of a void region for a boundary. Nobody knows which class is on its other side.",
            "How good are the boundaries",
        ),
        Misconception(
            "void_is_wrong",
            lambda prediction, mask: _boundary_share(prediction != mask, _near(mask, void_counts=True)),
            "You counted void pixels, and took the rim of a void region for a boundary. Void (255) has no label.",
            "How good are the boundaries",
        ),
        Misconception(
            "left_side_only",
            lambda prediction, mask: _boundary_share(prediction != mask, _near(mask, sides="before")),
            "You marked one side of each boundary, the pixel before the change. Both have a neighbour of another "
            "class.",
            "How good are the boundaries",
        ),
        Misconception(
            "right_side_only",
            lambda prediction, mask: _boundary_share(prediction != mask, _near(mask, sides="after")),
            "You marked one side of each boundary, the pixel after the change. Both have a neighbour of another class.",
            "How good are the boundaries",
        ),
        Misconception(
            "along_rows_only",
            lambda prediction, mask: _boundary_share(prediction != mask, _near(mask, axes="columns")),
            "You compared neighbours to the left and right only. Those above and below count too.",
            "How good are the boundaries",
        ),
        Misconception(
            "along_columns_only",
            lambda prediction, mask: _boundary_share(prediction != mask, _near(mask, axes="rows")),
            "You compared neighbours above and below only. Those to the left and right count too.",
            "How good are the boundaries",
        ),
        Misconception(
            "boundaries_of_the_prediction",
            lambda prediction, mask: _boundary_share(prediction != mask, _near(prediction) & (mask != VOID)),
            "You took the boundaries of the prediction. A network that draws none would have no errors then.",
            "How good are the boundaries",
        ),
        Misconception(
            "wraps_around",
            lambda prediction, mask: _boundary_share(prediction != mask, _around_the_edge(mask)),
            "You compared pixels across the edge of the image: `roll` brings the last column before the first.",
            "How good are the boundaries",
        ),
        Misconception(
            "mean_over_images",
            _mean_over_images,
            "You averaged the images' errors. An image with few boundary pixels then weighs as much as one with many; "
            "here all boundary pixels count alike.",
            "How good are the boundaries",
        ),
    ),
    hints=(
        "First mark the boundary pixels with True in a tensor of the mask's shape. Which two pixels do you compare to "
        "find a change along a row?",
        "Compare the mask without its first column with the mask without its last: a change between two labelled "
        "pixels marks both of them. The same for rows. Then look at the errors at the marked pixels only.",
        "across = (mask[:, :, 1:] != mask[:, :, :-1]) & (both known); near[:, :, 1:] |= across; near[:, :, :-1] |= "
        "...; the same down; then the mean of (prediction != mask)[near]",
    ),
    property="a labelled pixel counts if one of its four neighbours has another label, void being none.",
)


# --- aggregate_proposals --------------------------------------------------------------------------------------


def aggregate_proposals(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    """Return the largest score at each pixel and class, over all proposals."""
    canvases = []
    for scores, (top, left, bottom, right) in zip(maps, boxes):
        canvas = scores.new_zeros(len(scores), *size)
        canvas[:, top:bottom, left:right] = scores
        canvases.append(canvas)
    return torch.stack(canvases).amax(0)


def _maps_in_boxes(draw: Draw) -> Case:
    classes, height, width = draw.integer(2, 3), draw.integer(4, 7), draw.integer(4, 8)
    width += width == height
    # The first two boxes are apart, so that no pixel lies in all of them.
    middle = draw.integer(2, width - 2)
    boxes: list[Box] = [
        (draw.integer(0, 1), draw.integer(0, 1), height - draw.integer(0, 1), middle),
        (draw.integer(0, 2), middle, height - draw.integer(0, 1), width),
    ]
    for _ in range(draw.integer(1, 2)):
        top, left = draw.integer(0, height - 2), draw.integer(0, middle - 1)
        boxes.append((top, left, draw.integer(top + 1, height), draw.integer(middle + 1, width)))
    maps = [draw_tensor(draw, (classes, bottom - top, right - left), -5, 9) for top, left, bottom, right in boxes]
    return {"maps": maps, "boxes": boxes, "size": (height, width)}


def _aggregate_by_padding(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    height, width = size
    padded = [
        F.pad(scores, (left, width - right, top, height - bottom))
        for scores, (top, left, bottom, right) in zip(maps, boxes)
    ]
    return reduce(torch.maximum, padded)


def _canvases(maps: list[Tensor], boxes: list[Box], size: Pair, empty: float = 0.0) -> Tensor:
    """The proposals' score maps, each on a canvas of its own: (proposals, C, H, W)."""
    canvases = torch.full((len(maps), len(maps[0]), *size), empty)
    for canvas, scores, (top, left, bottom, right) in zip(canvases, maps, boxes):
        canvas[:, top:bottom, left:right] = scores
    return canvases


def _last_one_wins(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    canvas = torch.zeros(len(maps[0]), *size)
    for scores, (top, left, bottom, right) in zip(maps, boxes):
        canvas[:, top:bottom, left:right] = scores
    return canvas


def _mean_where_covered(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    times = _canvases([torch.ones_like(scores) for scores in maps], boxes, size).sum(0)
    return _canvases(maps, boxes, size).sum(0) / times.clamp(min=1)


def _largest_where_covered(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    scores = _canvases(maps, boxes, size, -math.inf).amax(0)
    return torch.where(scores.isinf(), 0.0, scores)


def _columns_first(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    return aggregate_proposals(maps, [(left, top, right, bottom) for top, left, bottom, right in boxes], size)


def _border_included(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    return aggregate_proposals(maps, [(top, left, bottom + 1, right + 1) for top, left, bottom, right in boxes], size)


def _heights_and_widths(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    corners = [(top, left, top + bottom, left + right) for top, left, bottom, right in boxes]
    return aggregate_proposals(maps, corners, size)


def _all_at_the_corner(maps: list[Tensor], boxes: list[Box], size: Pair) -> Tensor:
    corners = [(0, 0, bottom - top, right - left) for top, left, bottom, right in boxes]
    return aggregate_proposals(maps, corners, size)


AGGREGATE_PROPOSALS = Exercise(
    name="aggregate_proposals",
    lesson=STEM,
    title="Many proposals, one map",
    points=2,
    minutes=8,
    difficulty=2,
    reference=aggregate_proposals,
    oracle=_aggregate_by_padding,
    cases=_maps_in_boxes,
    examples=(
        {
            "maps": [
                torch.tensor([[[5.0, -2], [1, 1]], [[-1, 3], [0, 2]]]),
                torch.tensor([[[4.0, 4, -1]], [[1, -3, 2]]]),
                torch.tensor([[[-2.0, 3]], [[6, -1]]]),
            ],
            "boxes": [(0, 0, 2, 2), (1, 1, 2, 4), (0, 3, 1, 5)],
            "size": (2, 5),
        },
        {  # a map of one pixel fits into any slice: boxes that are misread raise no error, and can be told apart
            "maps": [torch.tensor([[[4.0]], [[-2.0]]]), torch.tensor([[[3.0]], [[5.0]]])],
            "boxes": [(0, 0, 1, 1), (1, 2, 2, 3)],
            "size": (4, 5),
        },
    ),
    runs=24,
    misconceptions=(
        Misconception(
            "last_one_wins",
            _last_one_wins,
            "Where boxes overlap, the last one overwrote the others. It may be the one that knows least.",
            "Proposals, put together",
        ),
        Misconception(
            "sum",
            lambda maps, boxes, size: _canvases(maps, boxes, size).sum(0),
            "You added the scores. The paper names that as another way; here the largest counts.",
            "Proposals, put together",
        ),
        Misconception(
            "mean_over_all",
            lambda maps, boxes, size: _canvases(maps, boxes, size).mean(0),
            "You averaged over all proposals. Those that do not cover a pixel then pull its scores to zero.",
            "Proposals, put together",
        ),
        Misconception(
            "mean_where_covered",
            _mean_where_covered,
            "You averaged where boxes overlap; here the largest score counts.",
            "Proposals, put together",
        ),
        Misconception(
            "nothing_outside",
            _largest_where_covered,
            "You left out the proposals that do not cover a pixel. They have zeros there, and zero is larger than a "
            "negative score.",
            "Proposals, put together",
        ),
        Misconception(
            "minus_infinity_outside",
            lambda maps, boxes, size: _canvases(maps, boxes, size, -math.inf).amax(0),
            "Outside of its box a map is to have zeros, not minus infinity.",
            "Proposals, put together",
        ),
        Misconception(
            "columns_first",
            _columns_first,
            "You read the boxes as (left, top, right, bottom). Rows come first here: (top, left, bottom, right).",
            "Proposals, put together",
        ),
        Misconception(
            "size_swapped",
            lambda maps, boxes, size: aggregate_proposals(maps, boxes, (size[1], size[0])),
            "You exchanged height and width of the image. `size` is (H, W), rows first.",
            "Proposals, put together",
        ),
        Misconception(
            "border_included",
            _border_included,
            "You took bottom and right for the last row and column inside. They are the first ones outside, as the end "
            "of a Python slice is.",
            "Proposals, put together",
        ),
        Misconception(
            "heights_and_widths",
            _heights_and_widths,
            "You read the boxes as (top, left, height, width). The last two are places too: bottom and right.",
            "Proposals, put together",
        ),
        Misconception(
            "all_at_the_corner",
            _all_at_the_corner,
            "You pasted every map at the upper left of the image. Top and left say where it belongs.",
            "Proposals, put together",
        ),
        Misconception(
            "max_pair",
            lambda maps, boxes, size: tuple(_canvases(maps, boxes, size).max(0)),
            "You returned what `.max(0)` gives: the largest values and which canvas each came from. Asked for are the "
            "values.",
            "Proposals, put together",
        ),
        Misconception(
            "smallest",
            lambda maps, boxes, size: _canvases(maps, boxes, size).amin(0),
            "You took the smallest score of all proposals at each pixel.",
            "Proposals, put together",
        ),
        Misconception(
            "labels",
            lambda maps, boxes, size: aggregate_proposals(maps, boxes, size).argmax(0),
            "You returned labels. Asked for are the scores, one for each class; the arg max comes afterwards.",
            "Proposals, put together",
        ),
    ),
    hints=(
        "Give each proposal a canvas as large as the image. What stands on it outside of the box?",
        "Paste each map into a canvas of zeros with a slice of rows and a slice of columns, keep all the canvases, and "
        "take the maximum over them at the end.",
        "canvas[:, top:bottom, left:right] = scores for each of them; then torch.stack(canvases).amax(...)",
    ),
    property="score (k, i, j) is the largest that any proposal has there, and a proposal has 0 outside of its box.",
)


# --- the quiz -------------------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "what_comes_back",
        STEM,
        "A map is max-pooled 2x2 and unpooled by its indices. What is the result?",
        (
            Option("The map.", "Three of four numbers were dropped, and indices hold none of them."),
            Option(
                "The map at the maxima, zeros elsewhere.",
                "Each maximum returns to its place; of the rest nothing is known.",
                right=True,
            ),
            Option("Each maximum, repeated over its window.", "That is nearest-neighbour upsampling."),
            Option("A smooth map between the maxima.", "Smoothness is the work of the convolutions that follow."),
        ),
    ),
    Question(
        "whose_indices",
        STEM,
        "Which maps are placed by the indices of the encoder's last pooling?",
        (
            Option("Those of the decoder's last stage.", "That one makes the largest maps; its indices are the first."),
            Option("Those of the decoder's first stage.", "What was pooled last is unpooled first.", right=True),
            Option("Those of every stage.", "Each pooling has a size and indices of its own."),
        ),
    ),
    Question(
        "parameters_of_unpooling",
        STEM,
        "How many parameters does an unpooling of 64 channels by indices add?",
        (
            Option("None.", "It copies numbers to places that the image has chosen.", right=True),
            Option("64.", "There is no weight for a channel: values are copied as they are."),
            Option(
                "16,448, as a transposed convolution of 2x2 from 64 channels to 64.",
                "4 · 64 · 64 + 64 is right for that layer, which mixes channels and places by learned weights.",
            ),
        ),
    ),
    Question(
        "where_the_millions_went",
        STEM,
        "VGG-16 without its last layer has 134 million parameters, SegNet's encoder 14.7 million. Why?",
        (
            Option(
                "SegNet leaves the dense layers out.",
                "fc6 alone has 102.8 million weights, fc7 16.8 million.",
                right=True,
            ),
            Option("Its layers are narrower.", "They are VGG-16's, channel for channel."),
            Option("Indices replace the weights.", "Indices are made anew for each image and hold no weights."),
            Option("Convolutions share weights.", "They do in VGG-16 as well; it has the same thirteen."),
        ),
    ),
    Question(
        "how_much_memory",
        STEM,
        "In PyTorch, in training with float16 maps, by how much are the indices smaller than the maps before pooling?",
        (
            Option("64 times.", "That is 2 bits a window against four float32."),
            Option("8 times.", "2 bits against 16 would be the ratio of one place to one number; PyTorch keeps int64."),
            Option(
                "Not at all.",
                "A window has four numbers of 16 bits, and one index of 64 bits: as much.",
                right=True,
            ),
        ),
    ),
    Question(
        "fixed_or_indexed",
        STEM,
        "What is true of unpooling by fixed places (bed of nails)? (More than one is.)",
        (
            Option(
                "It is a transposed convolution with a fixed kernel.",
                "A 2x2 kernel with a 1 at the top left, stride 2, no mixing of channels.",
                right=True,
            ),
            Option(
                "It keeps where in its window a maximum was.", "The place is always the same; that is what is lost."
            ),
            Option(
                "It needs no indices from the encoder.",
                "The places are known beforehand. Only the size must be told, where it was odd.",
                right=True,
            ),
            Option("It leaves fewer zeros than indices do.", "Three of four entries are zero either way."),
        ),
        several=True,
    ),
    Question(
        "two_stages",
        STEM,
        "What is a training example of DeconvNet's first stage?",
        (
            Option(
                "A crop around one object, all else labelled as background.",
                "The class is always in the middle, at the same scale: an easy beginning.",
                right=True,
            ),
            Option("A crop by a proposal, every class in it labelled.", "That is the second stage."),
            Option("A whole image, resized to 224x224.", "Neither stage sees whole images: both see crops."),
            Option("A crop of fewer pixels than in the second stage.", "Both stages see crops of the same size."),
        ),
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="SegNet: unpooling",
    promise="Let a network remember where its maxima were, and build a decoder that puts them back.",
    reading_minutes=28,
    before=("02_transposed",),
    exercises=(MAX_POOL_WITH_INDICES, UNPOOL, INDEX_MEMORY, DECODE, BOUNDARY_ERROR, AGGREGATE_PROPOSALS),
    quiz=QUIZ,
)
