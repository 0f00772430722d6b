"""Generated pictures in which a distant thing decides: a box takes its class from the colour of a signal far away.

Each picture shows one box and one signal on noise. The box always looks the same; whether it is one that may go or
one that must stop is told by the signal alone, 22 to 30 pixels from it, in any direction. So a network whose field does
not reach that far can find the box and only guess its class.
"""

import numpy as np
import torch

from segcourse.datasets.base import SPLITS, Bytes, SegmentationSet, check_split

CLASSES = ("background", "go", "stop")
PALETTE: Bytes = np.array([(60, 60, 60), (86, 180, 233), (230, 159, 0)], np.uint8)
BOX, SIGNAL = 12, 6  # sides, in pixels
NEAR, FAR = 22, 30  # pixels from the box's centre to the signal's, down or across, whichever is more
WHITE = (235, 235, 235)
COLOURS: Bytes = np.array([(40, 60, 230), (230, 60, 40)], np.uint8)  # of the signal: go, stop
SMALLEST = 48  # pixels: a smaller picture has too few places for the two


def signals(split: str, count: int, size: tuple[int, int] = (64, 80), seed: int = 0) -> SegmentationSet:
    """Return generated pictures of a box and a signal; the splits of one seed never share a picture.

    Args:
        split: "train", "val" or "test".
        count: number of pictures; more of them begin with the same ones.
        size: height and width in pixels, each at least 48.
        seed: another seed, other pictures.

    Raises:
        ValueError: unknown split, negative count, or a size that is too small.
    """
    check_split(split)
    if count < 0:
        raise ValueError(f"count={count}: expected 0 or more pictures")
    if min(size) < SMALLEST:
        raise ValueError(f"size={size}: expected at least {SMALLEST}x{SMALLEST} pixels")
    images, masks = np.empty((count, *size, 3), np.uint8), np.zeros((count, *size), np.int64)
    for i in range(count):
        random = np.random.default_rng((seed, SPLITS.index(split), i))
        images[i] = random.integers(70, 180, (*size, 1)) + random.integers(-20, 21, (*size, 3))
        label = int(random.integers(1, len(CLASSES)))
        (box, signal) = _places(random, size)
        images[i][box] = WHITE
        images[i][signal] = COLOURS[label - 1]
        masks[i][box] = label
    return SegmentationSet(
        name="signals",
        split=split,
        images=torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous(),
        masks=torch.from_numpy(masks),
        classes=CLASSES,
        palette=PALETTE,
        frames=tuple(f"{split}_{i:04d}" for i in range(count)),
        complete=count,
    )


def _places(random: np.random.Generator, size: tuple[int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Draw where the box and the signal lie until their distance is right."""
    while True:
        corners = [random.integers(0, np.array(size) - side + 1) for side in (BOX, SIGNAL)]
        offset = corners[0] + BOX // 2 - corners[1] - SIGNAL // 2
        if NEAR <= abs(offset).max() <= FAR:
            box, signal = (
                tuple(slice(int(a), int(a) + side) for a in corner)
                for corner, side in zip(corners, (BOX, SIGNAL), strict=True)
            )
            return box, signal
