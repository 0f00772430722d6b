"""Images with their masks, generated and real, behind one interface.

    from segcourse.datasets import load
    train = load("train", count=200)      # CamVid if it is on this computer, generated streets otherwise
    image, mask = train[0]                # (3, H, W) float32 in [0, 1], (H, W) int64 with void = 255

Modules: `base` (SegmentationSet), `labels` (the eleven classes, their colours), `street` (generated scenes), `camvid`
(the real frames), `cells` (generated microscopy of touching cells), `isbi` (real ones), `download`, `photos`.
A function that shares its module's name is imported from there: `from segcourse.datasets.cells import cells`.
Importing this package costs nothing: a name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segcourse.datasets.base import SPLITS, VOID, SegmentationSet, colourize
    from segcourse.datasets.camvid import load
    from segcourse.datasets.cells import CellSet, cell_picture
    from segcourse.datasets.labels import CAMVID_PALETTE, CLASSES, PALETTE
    from segcourse.datasets.photos import photo
    from segcourse.datasets.street import street_scene, streets

__all__ = [
    "CAMVID_PALETTE", "CLASSES", "PALETTE", "SPLITS", "VOID", "CellSet", "SegmentationSet", "cell_picture", "colourize",
    "load", "photo", "street_scene", "streets",
]  # fmt: skip

_HOME = {
    "base": ("SPLITS", "VOID", "SegmentationSet", "colourize"),
    "camvid": ("load",),
    "cells": ("CellSet", "cell_picture"),
    "labels": ("CAMVID_PALETTE", "CLASSES", "PALETTE"),
    "photos": ("photo",),
    "street": ("street_scene", "streets"),
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
