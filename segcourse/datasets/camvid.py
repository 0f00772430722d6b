"""CamVid, the real streets: 701 frames of Cambridge from a moving car, eleven classes.

Brostow, Fauqueur and Cipolla, "Semantic object classes in video", Pattern Recognition Letters 30 (2009), in the release
that came with SegNet: 367 training, 101 validation and 233 test frames of 480x360. `segcourse data get camvid` fetches
it.
"""

import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from os import environ
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from segcourse.datasets.base import SPLITS, VOID, Bytes, SegmentationSet, check_split
from segcourse.datasets.labels import CAMVID_TRAIN_PIXELS, CLASSES, PALETTE
from segcourse.datasets.paths import ENV, camvid_folder, camvid_pack, data_root

FRAMES = {"train": 367, "val": 101, "test": 233}
STREETS = {"train": 400, "val": 100, "test": 100}  # how many generated scenes `load` makes unless told
FILE_VOID = 11  # void in the original label files

RARE_FIRST = (*sorted(range(len(CLASSES)), key=lambda label: CAMVID_TRAIN_PIXELS[label]), VOID)
"""Labels from the rarest class to the most frequent, then void: the order in which a tie of votes is won."""


def load(
    split: str, count: int | None = None, size: tuple[int, int] = (96, 128), prefer: str = "camvid"
) -> SegmentationSet:
    """Return real streets where CamVid is on this computer, generated ones otherwise; printing the set says which.

    Real and generated are never mixed: where any part of CamVid is here, a split that is not raises an error.

    Args:
        split: "train", "val" or "test".
        count: number of images; None for every frame of CamVid, or 400, 100 and 100 generated streets.
        size: height and width in pixels.
        prefer: "camvid", or "streets" to generate in any case.

    Raises:
        ValueError: unknown split or preference.
        FileNotFoundError: CamVid is here, but not this split.
    """
    check_split(split)
    if prefer not in ("camvid", "streets"):
        raise ValueError(f"prefer={prefer!r}: expected 'camvid' or 'streets'")
    if prefer == "camvid" and available():
        return camvid(split, size, limit=count)
    if prefer == "camvid" and environ.get(ENV):
        warnings.warn(f"{ENV} names a folder without CamVid; generated streets are used", stacklevel=2)
    from segcourse.datasets.street import streets

    return streets(split, STREETS[split] if count is None else count, size)


def available(root: Path | str | None = None) -> bool:
    """Return whether any part of CamVid lies in the data folder."""
    folder = data_root() if root is None else Path(root)
    return camvid_folder(folder) is not None or any(camvid_pack(folder, split) for split in SPLITS)


def camvid(
    split: str, size: tuple[int, int] | None = None, root: Path | str | None = None, limit: int | None = None
) -> SegmentationSet:
    """Return CamVid's frames of one split, as many as are here, in the order of their names.

    A smaller size is reached without cropping: each pixel of an image is the mean over its area, each label the one
    that covers most of the area. A tie goes to the class that is rarer in CamVid, so that poles survive; void wins
    none.

    Args:
        split: "train", "val" or "test".
        size: height and width in pixels; None keeps the size of the files.
        root: the data folder; None for `$SEGCOURSE_DATA`, or `data` in the course's own folder. It may hold the
            original layout (`CamVid/train`, `CamVid/trainannot`, ...), be that folder, or hold packs at 240x180
            (`camvid240_train.npz`). Where both are here, the one with more frames is read.
        limit: at most so many frames, spread evenly over the split (neighbouring frames are nearly equal).

    Raises:
        FileNotFoundError: the split is not here; the message says how to get it.
        ValueError: unknown split, a damaged file, or a size larger than the files'.
    """
    check_split(split)
    folder = data_root() if root is None else Path(root)
    source = find_source(folder, split)
    frames = source.frames if limit is None else spread(source.frames, limit)
    images, masks = [], []
    for frame in frames:
        pixels, labels = source.read(frame)
        image, mask = shrink(pixels, labels, size or labels.shape)
        images.append(image)
        masks.append(mask)
    if len({mask.shape for mask in masks}) > 1:
        raise ValueError("the frames of this folder differ in size: give size=(height, width)")
    return SegmentationSet(
        "CamVid", split, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack(masks)), CLASSES, PALETTE, frames, FRAMES[split],
    )  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where frames come from: their names, and how to read one: image (H, W, 3) and mask (H, W), uint8, void 255."""

    frames: tuple[str, ...]
    read: Callable[[str], tuple[Bytes, Bytes]]


def find_source(root: Path, split: str) -> Source:
    """Return the source with the most frames of a split; the original files win a tie."""
    sources = []
    folder, pack = camvid_folder(root), camvid_pack(root, split)
    if folder is not None:
        sources.append(original(folder, split))
    if pack is not None:
        sources.append(packed(pack))
    source = max(sources, key=lambda source: len(source.frames), default=None)
    if source is None or not source.frames:
        raise FileNotFoundError(
            f"no {split} frames of CamVid in {root}. Fetch them with `segcourse data get camvid`, or set {ENV} to the "
            f"folder that holds CamVid/{split} and CamVid/{split}annot. Without CamVid, use generated scenes: "
            f"segcourse.datasets.streets({split!r}, count=100)"
        )
    return source


def original(folder: Path, split: str) -> Source:
    """Return the frames of the original layout for which both image and labels are here."""
    images, labels = folder / split, folder / f"{split}annot"
    names = {path.name for path in images.glob("*.png")} & {path.name for path in labels.glob("*.png")}

    def read(frame: str) -> tuple[Bytes, Bytes]:
        image = open_image((images / f"{frame}.png").read_bytes(), "RGB", f"{split}/{frame}.png")
        mask = open_image((labels / f"{frame}.png").read_bytes(), "L", f"{split}annot/{frame}.png")
        if mask.max() > FILE_VOID or mask.shape != image.shape[:2]:
            raise ValueError(f"{split}annot/{frame}.png does not hold CamVid's labels 0..11 for {split}/{frame}.png")
        return image, np.where(mask == FILE_VOID, VOID, mask).astype(np.uint8)

    return Source(tuple(sorted(Path(name).stem for name in names)), read)


def packed(pack: Path) -> Source:
    """Return the frames of a pack: JPEG bytes end to end in `jpg`, cut by `off`; masks in `label`; names in `name`."""
    try:
        with np.load(pack, allow_pickle=False) as file:
            stream, cuts, masks = file["jpg"].tobytes(), file["off"], file["label"]
            frames = tuple(str(name) for name in file["name"])
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{pack.name} is damaged ({error}): fetch it again") from error

    def read(frame: str) -> tuple[Bytes, Bytes]:
        i = frames.index(frame)
        return open_image(stream[cuts[i] : cuts[i + 1]], "RGB", f"{pack.name}/{frame}"), masks[i]

    return Source(frames, read)


def open_image(data: bytes, mode: str, name: str) -> Bytes:
    """Return the pixels of an encoded image, or raise ValueError with the file's name."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image if image.mode == mode == "L" else image.convert(mode))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{name} is damaged ({error}): `segcourse data verify` lists such files") from error


def spread(frames: tuple[str, ...], limit: int) -> tuple[str, ...]:
    """Return at most ``limit`` frames, evenly spaced."""
    if limit < 1:
        raise ValueError(f"limit={limit}: expected 1 or more")
    limit = min(limit, len(frames))
    return tuple(frames[i * len(frames) // limit] for i in range(limit))


def shrink(image: Bytes, mask: Bytes, size: tuple[int, ...]) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]]:
    """Return image (h, w, 3) float32 in [0, 1] and mask (h, w) int64 at a smaller size; see `camvid` for the rule."""
    (height, width), (full_height, full_width) = size, mask.shape
    if not (0 < height <= full_height and 0 < width <= full_width):
        raise ValueError(
            f"size {height}x{width}: the files have {full_height}x{full_width}, and only shrinking is offered"
        )
    if (height, width) == mask.shape:
        return image.astype(np.float32) / 255, mask.astype(np.int64)
    down, across = overlaps(full_height, height), overlaps(full_width, width).T
    mean = down @ image.transpose(2, 0, 1).astype(np.float32) @ across / (255 * full_height * full_width)
    labels = np.array(RARE_FIRST)
    votes = down @ (mask == labels[:, None, None]).astype(np.float32) @ across
    return np.clip(mean, 0, 1).transpose(1, 2, 0), labels[votes.argmax(0)]  # argmax takes the first of equals


def overlaps(old: int, new: int) -> npt.NDArray[np.float32]:
    """Return how much of each old pixel lies in each new one, (new, old), in units of 1/new of an old pixel.

    In these units every overlap is a whole number and each row sums to ``old``, so votes are counted without rounding.
    """
    new_start, old_start = np.arange(new)[:, None] * old, np.arange(old) * new
    shared = np.minimum(new_start + old, old_start + new) - np.maximum(new_start, old_start)
    return np.maximum(shared, 0).astype(np.float32)
