import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segcourse.border_weights import border_weights
from segcourse.datasets import isbi as em
from segcourse.datasets.download import REMOTES

REAL = Path(os.environ.get("SEGCOURSE_DATA") or Path(__file__).parents[2] / "shared" / "data")


def random_slice(z, height=12, width=17):
    rng = np.random.default_rng(z)
    image = rng.integers(0, 256, (height, width), dtype=np.uint8)
    return image, (rng.random((height, width)) < 0.4).astype(np.uint8)


def write_slice(folder, z, image, mask):
    for part, pixels in (("image", image), ("label", np.where(mask, 0, 255).astype(np.uint8))):
        (folder / "train" / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "train" / part / f"{z}.png")


def write_pack(path, numbers):
    streams, masks = [], []
    for z in numbers:
        image, mask = random_slice(z)
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "png")
        streams.append(stream.getvalue())
        masks.append(mask)
    path.parent.mkdir(exist_ok=True)
    np.savez(
        path, png=np.frombuffer(b"".join(streams), np.uint8), off=np.cumsum([0, *map(len, streams)]),
        label=np.stack(masks), z=np.array(numbers),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Slices 0, 3, 4, 5, 10 and 29 in the original layout; slice 1 without its labels."""
    for z in (29, 10, 5, 4, 3, 0):
        write_slice(tmp_path / "membrane", z, *random_slice(z))
    Image.fromarray(random_slice(1)[0]).save(tmp_path / "membrane" / "train" / "image" / "1.png")
    return tmp_path


def cells_by_flooding(mask):
    """Connected components of zeros, pixels joined by their sides, as a set of sets of pixels."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask == 0))}
    found = set()
    while left:
        cell, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            cell.add((y, x))
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & left
            left -= near
            edge += near
        found.add(frozenset(cell))
    return found


@pytest.mark.parametrize("place", [".", "membrane", "data/membrane"])
def test_original_layout_wherever_it_lies(folder, place):
    if place == "data/membrane":
        (folder / "data").mkdir()
        (folder / "membrane").rename(folder / place)
    root = folder / "membrane" if place == "membrane" else folder
    assert em.available(root)
    data = em.isbi("train", root)
    assert data.frames == ("5", "10", "29")  # by number, not by letter
    assert em.isbi("val", root).frames == ("0", "3", "4")
    assert repr(data) == "ISBI train: 3 of 25 images, 12x17, 2 classes"
    for i, z in enumerate((5, 10, 29)):
        image, mask = random_slice(z)
        assert torch.equal(data.images[i, 0], torch.from_numpy(image) / 255)
        assert torch.equal(data.masks[i], torch.from_numpy(mask).long())
        instances = data.instances[i].numpy()
        cells = {
            frozenset(zip(*(a.tolist() for a in np.nonzero(instances == c)))) for c in range(1, 1 + instances.max())
        }
        assert cells == cells_by_flooding(mask)


def test_pack(tmp_path):
    write_pack(tmp_path / "isbi" / em.PACK, [0, 4, 5, 7])
    data = em.isbi("train", tmp_path)
    assert data.frames == ("5", "7")
    image, mask = random_slice(7)
    assert torch.equal(data.images[1, 0], torch.from_numpy(image) / 255)
    assert torch.equal(data.masks[1], torch.from_numpy(mask).long())
    assert em.isbi("val", tmp_path).frames == ("0", "4")


def test_the_source_with_more_slices_is_read(folder):
    write_pack(folder / "isbi" / em.PACK, [5, 6, 7])
    assert em.isbi("train", folder).frames == ("5", "10", "29")  # a tie is the original's
    write_pack(folder / "isbi" / em.PACK, [5, 6, 7, 8])
    assert em.isbi("train", folder).frames == ("5", "6", "7", "8")


def test_splits_share_no_slice_and_leave_none_out():
    assert sorted([*em.SLICES["train"], *em.SLICES["val"]]) == list(range(30))
    assert (
        sum(abs(a - b) == 1 for a in em.SLICES["train"] for b in em.SLICES["val"]) == 1
    )  # only 4 and 5 are neighbours
    numbers = {int(Path(file.path).stem) for file in REMOTES["isbi"].files()}
    assert numbers == set(range(30))


def test_root_from_the_environment_and_limit(folder, monkeypatch):
    monkeypatch.setenv("SEGCOURSE_DATA", str(folder))
    assert em.isbi("train", limit=2).frames == ("5", "10")
    with pytest.raises(ValueError, match="limit=0"):
        em.isbi("train", limit=0)
    monkeypatch.setenv("SEGCOURSE_DATA", str(folder / "nowhere"))
    assert not em.available()
    with pytest.raises(
        FileNotFoundError, match=r"segcourse data get isbi.*SEGCOURSE_DATA.*membrane/train/label.*cells"
    ):
        em.isbi("train")


@pytest.mark.parametrize(("split", "words"), [("test", "labels of its test slices"), ("valid", "train, val, test")])
def test_unknown_splits(folder, split, words):
    with pytest.raises(ValueError, match=words):
        em.isbi(split, folder)


@pytest.mark.parametrize("part", ["image", "label"])
def test_damaged_files_are_named(folder, part):
    file = folder / "membrane" / "train" / part / "10.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"train/{part}/10\.png is damaged"):
        em.isbi("train", folder)


def test_files_that_do_not_belong_together(folder):
    write_slice(folder / "membrane", 10, random_slice(0)[0], random_slice(0, 12, 16)[1])
    with pytest.raises(ValueError, match=r"label/10\.png does not hold labels"):
        em.isbi("train", folder)
    write_slice(folder / "membrane", 10, *random_slice(0, 12, 16))
    with pytest.raises(ValueError, match="differ in size"):
        em.isbi("train", folder)
    image, mask = random_slice(10)
    write_slice(folder / "membrane", 10, image, mask)
    Image.fromarray(mask).save(folder / "membrane" / "train" / "label" / "10.png")  # 0 and 1 for 255 and 0
    with pytest.raises(ValueError, match=r"label/10\.png does not hold labels 0 and 255"):
        em.isbi("train", folder)


def test_damaged_packs(tmp_path):
    pack = tmp_path / em.PACK
    pack.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"isbi512_pack\.npz is damaged"):
        em.isbi("val", tmp_path)
    np.savez(pack, png=np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"isbi512_pack\.npz is damaged"):
        em.isbi("val", tmp_path)


# The real slices, where they are.


@pytest.mark.skipif(not em.available(REAL), reason="no ISBI slices: set SEGCOURSE_DATA")
def test_the_real_slices():
    data = em.isbi("val", REAL)
    assert repr(data) == "ISBI val: 5 images, 512x512, 2 classes"
    share = data.masks.float().mean((1, 2))
    assert ((share > 0.15) & (share < 0.3)).all()  # membrane is about a fifth
    dark, bright = data.images[:, 0][data.masks == 1].mean(), data.images[:, 0][data.masks == 0].mean()
    assert dark + 0.1 < bright
    assert ((data.instances > 0) == (data.masks == 0)).all()
    assert (data.instances.flatten(1).amax(1) > 80).all()
    corner = data.instances[0, :128, :128]
    weights = border_weights(corner, class_weights=(0, 0))
    assert weights[corner == 0].mean() > 3  # membranes are thin: the border term is at work on all of them
    assert weights[corner > 0].eq(0).all()
