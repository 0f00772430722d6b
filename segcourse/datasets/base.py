"""One interface for every set of images and masks, generated or real."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segcourse.void import VOID

SPLITS = ("train", "val", "test")

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationSet:
    """Images and masks of one split, ready for a network.

    Attributes:
        name: of the data set, for example "CamVid" or "streets".
        split: "train", "val" or "test".
        images: (N, 3, H, W) float32 in [0, 1].
        masks: (N, H, W) int64: a class in 0..C-1, or VOID (255).
        classes: the C names, in order of their label.
        palette: (C, 3) uint8, a colour for each class; void is drawn black.
        frames: N names, one for each image.
        complete: how many frames the whole split has; more than N where only some are here.
    """

    name: str
    split: str
    images: Tensor
    masks: Tensor
    classes: tuple[str, ...]
    palette: Bytes
    frames: tuple[str, ...]
    complete: int

    def __post_init__(self) -> None:
        """Raise ValueError or TypeError where the parts do not fit together."""
        check_split(self.split)
        n, channels, height, width = self.images.shape
        if channels != 3 or self.images.dtype != torch.float32:
            got = f"{tuple(self.images.shape)} {self.images.dtype}"
            raise TypeError(f"images must be (N, 3, H, W) float32, not {got}")
        if self.masks.shape != (n, height, width) or self.masks.dtype != torch.int64:
            got = f"{tuple(self.masks.shape)} {self.masks.dtype}"
            raise TypeError(f"masks must be {(n, height, width)} int64, as the images are, not {got}")
        if len(self.frames) != n:
            raise ValueError(f"{n} images need {n} frame names, not {len(self.frames)}")
        if self.palette.shape != (len(self.classes), 3) or self.palette.dtype != np.uint8:
            raise ValueError(f"the palette must be ({len(self.classes)}, 3) uint8, a colour for each class")
        if n and (self.images.amin() < 0 or self.images.amax() > 1):
            raise ValueError("images must lie in [0, 1]: divide bytes by 255")
        bad = self.masks[(self.masks != VOID) & ((self.masks < 0) | (self.masks >= len(self.classes)))]
        if bad.numel():
            raise ValueError(f"label {int(bad[0])} in a mask: expected 0..{len(self.classes) - 1} or {VOID} for void")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image (3, H, W) and mask (H, W)."""
        return self.images[index], self.masks[index]

    def __repr__(self) -> str:
        count = f"{len(self)}" if len(self) == self.complete else f"{len(self)} of {self.complete}"
        height, width = self.size
        return f"{self.name} {self.split}: {count} images, {height}x{width}, {len(self.classes)} classes"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image, in pixels."""
        height, width = self.images.shape[-2:]
        return height, width

    def subset(self, indices: Sequence[int]) -> "SegmentationSet":
        """Return the chosen images as a set of their own, in the order given."""
        chosen = list(indices)
        return replace(
            self, images=self.images[chosen], masks=self.masks[chosen], frames=tuple(self.frames[i] for i in chosen)
        )

    def pixel_counts(self) -> Tensor:
        """Return how many pixels each class has, (C,) int64; void is not counted."""
        return torch.bincount(self.masks[self.masks != VOID], minlength=len(self.classes))

    def colourize(self, mask: Tensor | npt.NDArray[np.integer]) -> Bytes:
        """Return a mask (H, W) in the set's colours, (H, W, 3) uint8, void in black."""
        return colourize(mask, self.palette)


def colourize(mask: Tensor | npt.NDArray[np.integer], palette: Bytes) -> Bytes:
    """Return a mask (..., H, W) of labels as colours (..., H, W, 3) uint8; void (255) is black.

    Raises ValueError where a label has no colour in the palette (C, 3).
    """
    labels = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"a mask holds whole numbers, not {labels.dtype}: take the argmax over the classes first")
    bad = labels[(labels != VOID) & ((labels < 0) | (labels >= len(palette)))]
    if bad.size:
        raise ValueError(f"label {bad[0]} has no colour: expected 0..{len(palette) - 1} or {VOID} for void")
    table = np.zeros((VOID + 1, 3), np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def check_split(split: str) -> None:
    """Raise ValueError unless the split is one of SPLITS."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
