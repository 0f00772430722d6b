import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segcourse.datasets import camvid as cv
from segcourse.datasets.base import VOID
from segcourse.datasets.download import REMOTES
from segcourse.datasets.labels import CAMVID_TRAIN_PIXELS, PALETTE

REAL = Path(os.environ.get("SEGCOURSE_DATA") or Path(__file__).parents[2] / "shared" / "data")


def write_frame(folder, split, name, image, labels):
    for part, pixels in ((split, image), (f"{split}annot", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / f"{name}.png")


def random_frame(seed, height=12, width=17):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 12, (height, width), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Five training frames and two validation frames in the original layout; one image without labels."""
    for i in range(5):
        write_frame(tmp_path / "CamVid", "train", f"f{i}", *random_frame(i))
    for i in range(2):
        write_frame(tmp_path / "CamVid", "val", f"v{i}", *random_frame(10 + i))
    Image.fromarray(random_frame(9)[0]).save(tmp_path / "CamVid" / "train" / "alone.png")
    return tmp_path


@pytest.mark.parametrize("place", [".", "CamVid", "camvid_original/CamVid"])
def test_original_layout_wherever_it_lies(folder, place):
    if place == "camvid_original/CamVid":
        (folder / "camvid_original").mkdir()
        (folder / "CamVid").rename(folder / place)
    data = cv.camvid("train", root=folder / "CamVid" if place == "CamVid" else folder)
    assert data.frames == ("f0", "f1", "f2", "f3", "f4")
    assert repr(data) == "CamVid train: 5 of 367 images, 12x17, 11 classes"
    assert np.array_equal(data.palette, PALETTE)
    for i, (image, mask) in enumerate(data):
        pixels, labels = random_frame(i)
        assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1) / 255)
        assert torch.equal(mask, torch.from_numpy(np.where(labels == 11, VOID, labels)).long())


def test_root_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("SEGCOURSE_DATA", str(folder))
    assert cv.available()
    assert len(cv.camvid("val")) == 2
    monkeypatch.delenv("SEGCOURSE_DATA")
    monkeypatch.setenv("SEGCOURSE_HOME", str(folder / "nowhere"))
    assert not cv.available()
    with pytest.raises(FileNotFoundError, match="segcourse data get camvid"):
        cv.camvid("val")


def test_limit_is_spread_over_the_split(folder):
    assert cv.camvid("train", root=folder, limit=2).frames == ("f0", "f2")
    assert len(cv.camvid("train", root=folder, limit=99)) == 5
    with pytest.raises(ValueError, match="limit=0"):
        cv.camvid("train", root=folder, limit=0)
    assert cv.spread(tuple("abcdefghij"), 4) == ("a", "c", "f", "h")


def write_pack(path, frames, size=(6, 8)):
    rng = np.random.default_rng(3)
    streams, labels = [], []
    for _ in range(frames):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(stream, "jpeg", quality=95)
        streams.append(stream.getvalue())
        labels.append(np.where(rng.random(size) < 0.1, VOID, rng.integers(0, 11, size)).astype(np.uint8))
    path.parent.mkdir(exist_ok=True)
    np.savez(
        path, jpg=np.frombuffer(b"".join(streams), np.uint8), off=np.cumsum([0, *map(len, streams)]),
        label=np.stack(labels), name=np.array([f"p{i}" for i in range(frames)]),
    )  # fmt: skip
    return streams, labels


def test_pack(tmp_path):
    streams, labels = write_pack(tmp_path / "camvid" / "camvid240_val.npz", 3)
    data = cv.camvid("val", root=tmp_path)
    assert data.frames == ("p0", "p1", "p2")
    for i in range(3):
        decoded = np.array(Image.open(io.BytesIO(streams[i])))
        assert torch.equal(data.images[i], torch.from_numpy(decoded).permute(2, 0, 1) / 255)
        assert np.array_equal(data.masks[i], labels[i])


def test_the_source_with_more_frames_is_read(folder):
    write_pack(folder / "camvid" / "camvid240_train.npz", 4)
    assert cv.camvid("train", root=folder).frames[0] == "f0"
    write_pack(folder / "camvid" / "camvid240_train.npz", 6)
    assert cv.camvid("train", root=folder).frames[0] == "p0"


def test_load_prefers_real_and_never_mixes(folder, monkeypatch):
    monkeypatch.setenv("SEGCOURSE_DATA", str(folder))
    assert repr(cv.load("train", 3, (6, 9))) == "CamVid train: 3 of 367 images, 6x9, 11 classes"
    assert repr(cv.load("val", 2, (40, 50), prefer="streets")) == "streets val: 2 images, 40x50, 11 classes"
    with pytest.raises(FileNotFoundError, match="no test frames"):
        cv.load("test", 3)
    with pytest.raises(ValueError, match="'camvid' or 'streets'"):
        cv.load("test", prefer="real")


def test_load_generates_and_says_so_where_camvid_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCOURSE_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match="folder without CamVid"):
        assert cv.load("test", 2, (40, 50)).name == "streets"


@pytest.mark.parametrize("part", ["train", "trainannot"])
def test_damaged_files_are_named(folder, part):
    file = folder / "CamVid" / part / "f3.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"{part}/f3\.png is damaged"):
        cv.camvid("train", root=folder)


def test_foreign_labels_are_refused(folder):
    write_frame(folder / "CamVid", "train", "f2", random_frame(0)[0], np.full((12, 17), 12, np.uint8))
    with pytest.raises(ValueError, match=r"f2\.png does not hold CamVid's labels"):
        cv.camvid("train", root=folder)


def test_damaged_pack(tmp_path):
    pack = tmp_path / "camvid240_val.npz"
    pack.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"camvid240_val\.npz is damaged"):
        cv.camvid("val", root=tmp_path)


def test_sizes_that_differ(folder):
    write_frame(folder / "CamVid", "train", "f2", *random_frame(2, 14, 17))
    with pytest.raises(ValueError, match="differ in size"):
        cv.camvid("train", root=folder)
    assert cv.camvid("train", (6, 8), root=folder).size == (6, 8)


def shrink_by_loops(image, mask, height, width):
    """Area means and area votes with fractions, a pixel at a time."""
    from fractions import Fraction

    full_height, full_width = mask.shape
    rarity = {label: pixels for label, pixels in enumerate(CAMVID_TRAIN_PIXELS)} | {VOID: 10**9}

    def covered(new, new_size, old, old_size):
        low, high = Fraction(new * old_size, new_size), Fraction((new + 1) * old_size, new_size)
        return max(min(high, old + 1) - max(low, old), Fraction(0))

    mean, label = np.zeros((height, width, 3)), np.zeros((height, width), np.int64)
    for i in range(height):
        for j in range(width):
            votes, total, area = {}, np.zeros(3), 0
            for y in range(full_height):
                for x in range(full_width):
                    part = covered(i, height, y, full_height) * covered(j, width, x, full_width)
                    if part:
                        votes[int(mask[y, x])] = votes.get(int(mask[y, x]), 0) + part
                        total, area = total + float(part) * image[y, x], area + float(part)
            mean[i, j] = total / area / 255
            label[i, j] = min(votes, key=lambda each: (-votes[each], rarity[each]))
    return mean, label


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(3, 10), st.data())
def test_shrinking_against_loops(seed, full_height, full_width, data):
    image, _ = random_frame(seed, full_height, full_width)
    labels = np.random.default_rng(seed).choice([0, 2, 10, VOID], (full_height, full_width)).astype(np.uint8)
    height, width = data.draw(st.integers(1, full_height)), data.draw(st.integers(1, full_width))
    mean, mask = cv.shrink(image, labels, (height, width))
    expected_mean, expected_mask = shrink_by_loops(image, labels, height, width)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-5)
    assert np.array_equal(mask, expected_mask)
    assert mean.dtype == np.float32


def test_only_shrinking_is_offered(folder):
    with pytest.raises(ValueError, match="only shrinking"):
        cv.camvid("train", (13, 17), root=folder)
    with pytest.raises(ValueError, match="0x4"):
        cv.camvid("train", (0, 4), root=folder)


def test_frames_are_counted_as_in_the_manifest():
    paths = [file.path for file in REMOTES["camvid"].files()]
    for split, number in cv.FRAMES.items():
        for part in (split, f"{split}annot"):
            assert sum(path.startswith(f"CamVid/{part}/") for path in paths) == number


# The real files, where they are.

pack = pytest.mark.skipif(not (REAL / "camvid").is_dir(), reason="no CamVid packs: set SEGCOURSE_DATA")
original = pytest.mark.skipif(
    not (REAL / "camvid_original").is_dir(), reason="no original CamVid frames: set SEGCOURSE_DATA"
)


@original
@pack
def test_our_halving_is_the_packs_halving():
    """The packs were made elsewhere: 2x2 majority, ties to the rarer class, void never wins a tie; JPEG images."""
    source = cv.original(REAL / "camvid_original" / "CamVid", "val")
    packed = cv.packed(REAL / "camvid" / "camvid240_val.npz")
    assert source.frames
    for frame in source.frames[::6]:
        image, mask = cv.shrink(*source.read(frame), (180, 240))
        packed_image, packed_mask = packed.read(frame)
        assert np.array_equal(mask, packed_mask)
        assert abs(image - packed_image / 255.0).mean() < 0.01


@pack
def test_the_whole_training_split():
    data = cv.camvid("train", (45, 60), root=REAL)
    assert repr(data) == "CamVid train: 367 images, 45x60, 11 classes"
    share = data.pixel_counts().double() / data.pixel_counts().sum()
    expected = torch.tensor(CAMVID_TRAIN_PIXELS).double() / sum(CAMVID_TRAIN_PIXELS)
    torch.testing.assert_close(share, expected, atol=0.006, rtol=0.25)  # votes make thin things a little thinner


@original
def test_the_original_frames():
    data = cv.camvid("val", root=REAL / "camvid_original" / "CamVid", limit=3)
    assert repr(data) == "CamVid val: 3 of 101 images, 360x480, 11 classes"
