"""ISBI, real cells in real membranes: 30 slices of a fly's nerve cord under the electron microscope, 512x512.

Cardona et al., "An integrated micro- and macroarchitectural analysis of the Drosophila brain by computer-assisted
serial section electron microscopy", PLoS Biology 8(10), 2010, as training stack of the ISBI 2012 challenge (Arganda-
Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for connectomics", Frontiers in
Neuroanatomy 9, 2015), the first data U-Net was measured on. `segcourse data get isbi` fetches it.
"""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import label

from segcourse.datasets.base import Bytes, check_split
from segcourse.datasets.camvid import Source, open_image, spread
from segcourse.datasets.cells import CellSet
from segcourse.datasets.download import isbi_folder
from segcourse.datasets.paths import ENV, data_root

SLICES = {"train": range(5, 30), "val": range(5)}
"""Which slices a split has. Validation is one block at an end of the stack: neighbouring slices look alike, and only
slice 4 has a neighbour in training."""

CLASSES = ("cell", "membrane")
PALETTE: Bytes = np.array([(240, 170, 60), (45, 52, 66)], np.uint8)
BRIGHT = 128  # in the original label files membrane is darker than this
PACK = "isbi512_pack.npz"


def isbi(split: str, root: Path | str | None = None, limit: int | None = None) -> CellSet:
    """Return the slices of one split, as many as are here, from the top of the stack down.

    Mask 1 is membrane, 0 cell: the original files have 0 and 255. The instances are the connected components of cell,
    pixels joined by their sides, numbered anew in each slice; membrane is 0.

    Args:
        split: "train" (slices 5 to 29) or "val" (0 to 4). The challenge never published the labels of its test slices.
        root: the data folder; None for `$SEGCOURSE_DATA`, or `data` in the course's own folder. It may hold the
            original layout (`membrane/train/image` and `label`, also in a folder `data`), be the folder `membrane`,
            or hold a pack (`isbi/isbi512_pack.npz`). Where both are here, the one with more slices is read.
        limit: at most so many slices, spread evenly over the split.

    Raises:
        FileNotFoundError: the split is not here; the message says how to get it.
        ValueError: unknown split, a damaged file, or files that do not belong together.
    """
    check_split(split)
    if split not in SLICES:
        raise ValueError("ISBI has no test split: the labels of its test slices are not public. Use 'val'")
    folder = data_root() if root is None else Path(root)
    source = find_source(folder, split)
    frames = source.frames if limit is None else spread(source.frames, limit)
    pairs = [source.read(frame) for frame in frames]
    if len({mask.shape for _, mask in pairs}) > 1:
        raise ValueError(f"the slices in {folder} differ in size: those of ISBI have 512x512 pixels")
    masks = np.stack([mask for _, mask in pairs])
    return CellSet(
        "ISBI", split, torch.from_numpy(np.stack([image for image, _ in pairs])[:, None]).float() / 255,
        torch.from_numpy(masks).long(), CLASSES, PALETTE, frames, len(SLICES[split]),
        torch.from_numpy(np.stack([components(mask) for mask in masks])),
    )  # fmt: skip


def available(root: Path | str | None = None) -> bool:
    """Return whether any part of ISBI lies in the data folder."""
    folder = data_root() if root is None else Path(root)
    return isbi_folder(folder) is not None or isbi_pack(folder) is not None


def components(mask: Bytes) -> npt.NDArray[np.int64]:
    """Return a number for each cell (H, W) of a mask (H, W) in which membrane is 1."""
    return label(mask == 0)[0].astype(np.int64)


def isbi_pack(root: Path) -> Path | None:
    """Return the file that holds slices of ISBI, `isbi512_pack.npz`, if it is here."""
    return next((pack for folder in (root / "isbi", root) if (pack := folder / PACK).is_file()), None)


def find_source(root: Path, split: str) -> Source:
    """Return the source with the most slices of a split; the original files win a tie."""
    folder, pack = isbi_folder(root), isbi_pack(root)
    sources = [original(folder, split)] if folder is not None else []
    if pack is not None:
        sources.append(packed(pack, split))
    source = max(sources, key=lambda source: len(source.frames), default=None)
    if source is None or not source.frames:
        raise FileNotFoundError(
            f"no {split} slices of ISBI in {root}. Fetch them with `segcourse data get isbi`, or set {ENV} to the "
            f"folder that holds membrane/train/image and membrane/train/label. Without ISBI, use generated cells: "
            f"segcourse.datasets.cells.cells({split!r}, count=100)"
        )
    return source


def original(folder: Path, split: str) -> Source:
    """Return the slices of the original layout for which both image and labels are here."""
    images, labels = folder / "train" / "image", folder / "train" / "label"
    numbers = [z for z in SLICES[split] if (images / f"{z}.png").is_file() and (labels / f"{z}.png").is_file()]

    def read(frame: str) -> tuple[Bytes, Bytes]:
        image = open_image((images / f"{frame}.png").read_bytes(), "L", f"train/image/{frame}.png")
        drawn = open_image((labels / f"{frame}.png").read_bytes(), "L", f"train/label/{frame}.png")
        if drawn.shape != image.shape or drawn.max() < BRIGHT:
            raise ValueError(f"train/label/{frame}.png does not hold labels 0 and 255 for train/image/{frame}.png")
        return image, (drawn < BRIGHT).astype(np.uint8)

    return Source(tuple(str(z) for z in numbers), read)


def packed(pack: Path, split: str) -> Source:
    """Return the slices of a pack: PNG bytes end to end in `png`, cut by `off`; masks in `label`; numbers in `z`."""
    try:
        with np.load(pack, allow_pickle=False) as file:
            stream, cuts, masks = file["png"].tobytes(), file["off"], file["label"]
            places = {int(z): i for i, z in enumerate(file["z"])}
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{pack.name} is damaged ({error}): fetch it again") from error

    def read(frame: str) -> tuple[Bytes, Bytes]:
        i = places[int(frame)]
        return open_image(stream[cuts[i] : cuts[i + 1]], "L", f"{pack.name}/{frame}"), masks[i]

    return Source(tuple(str(z) for z in SLICES[split] if z in places), read)
