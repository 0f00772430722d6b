"""Cells counted: a mask's connected components against the true cells, merged, split and missed.

Pixels can be nearly all right and the cells still wrong: a bridge of one pixel makes one cell of two. So a mask of
touching cells is judged by its connected components.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label
from torch import Tensor

PART = 0.2
"""A component that covers less of a cell is a fragment at its rim, not a half of it."""


@dataclass(frozen=True)
class CellCounts:
    """How many cells were found, and how. Add the counts of several images up with `+`.

    A component *holds* a cell if it covers more than half of the cell's pixels, so no cell is held by two.

    Attributes:
        cells: true cells.
        missed: cells that no component holds.
        merged: cells whose component holds another one too.
        extra_merges: cells that a component holds beyond its first: how many cuts would be needed.
        split: cells of which two or more components cover a part of at least a fifth each.
        empty: components that hold no cell: specks, and fragments of cells.
    """

    cells: int = 0
    missed: int = 0
    merged: int = 0
    extra_merges: int = 0
    split: int = 0
    empty: int = 0

    def __add__(self, other: "CellCounts") -> "CellCounts":
        return CellCounts(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    def __str__(self) -> str:
        return (
            f"{self.cells} cells: {self.merged} merged ({self.extra_merges} extra merges), {self.split} split, "
            f"{self.missed} missed; {self.empty} pieces hold no cell"
        )


def components(mask: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return a number for each connected component of a mask (H, W), 0 outside; pixels join at corners too."""
    return label(mask, np.ones((3, 3)))[0].astype(np.int64)


def count_cells(predictions: Tensor, instances: Tensor, smallest: int = 1) -> CellCounts:
    """Count the cells of predicted masks against the true ones.

    Args:
        predictions: (N, H, W) bool or whole numbers; what is not 0 is cell.
        instances: (N, H, W) whole numbers, 0 for background, a number of its own for each cell of an image.
        smallest: components of fewer pixels are specks, and are not looked at.

    Raises:
        ValueError: the shapes differ.
        TypeError: predictions or instances are floats.
    """
    if predictions.shape != instances.shape or predictions.ndim != 3:
        raise ValueError(
            f"expected predictions and instances of one shape (N, H, W), got {tuple(predictions.shape)} and "
            f"{tuple(instances.shape)}"
        )
    if predictions.is_floating_point() or instances.is_floating_point():
        raise TypeError("predictions and instances hold whole numbers: take the argmax of the scores first")
    pairs = zip(predictions.cpu().numpy() != 0, instances.cpu().numpy())
    return sum((_count(mask, cells, smallest) for mask, cells in pairs), CellCounts())


def _count(mask: npt.NDArray[np.bool_], cells: npt.NDArray[np.integer], smallest: int) -> CellCounts:
    pieces = components(mask)
    names, numbers = np.unique(cells, return_inverse=True)
    table = np.zeros((len(names), pieces.max(initial=0) + 1), np.int64)  # pixels of each cell in each component
    np.add.at(table, (numbers.ravel(), pieces.ravel()), 1)
    looked_at = table.sum(0)[1:] >= smallest  # component 0 is background
    table = table[names != 0]
    share = table / table.sum(1, keepdims=True)
    share = share[:, 1:][:, looked_at]
    held = (share > 0.5).sum(0)  # cells a component holds
    return CellCounts(
        cells=len(table),
        missed=len(table) - int(held.sum()),
        merged=int(held[held > 1].sum()),
        extra_merges=int((held[held > 1] - 1).sum()),
        split=int(((share >= PART).sum(1) > 1).sum()),
        empty=int((held == 0).sum()),
    )
