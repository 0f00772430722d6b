"""Where data lie on this computer. Nothing here reads an image."""

import os
from pathlib import Path

from segcourse.home import home

ENV = "SEGCOURSE_DATA"


def data_root() -> Path:
    """Return the folder for data: `$SEGCOURSE_DATA`, or `data` in the student's own folder. It need not exist."""
    chosen = os.environ.get(ENV)
    return Path(chosen).expanduser() if chosen else home() / "data"


def camvid_folder(root: Path) -> Path | None:
    """Return the folder that holds CamVid's `train`, `trainannot` and so on, looked for in and under ``root``."""
    for folder in (root / "camvid_original" / "CamVid", root / "CamVid", root):
        if any((folder / split).is_dir() and (folder / f"{split}annot").is_dir() for split in ("train", "val", "test")):
            return folder
    return None


def camvid_pack(root: Path, split: str) -> Path | None:
    """Return the file that holds a split of CamVid at 240x180, `camvid240_train.npz` for one, if it is here."""
    for folder in (root / "camvid", root):
        pack = folder / f"camvid240_{split}.npz"
        if pack.is_file():
            return pack
    return None
