import subprocess
import sys

import numpy as np
import pytest
import torch

from segcourse import datasets
from segcourse.datasets.base import SPLITS, VOID, SegmentationSet, colourize

PALETTE = np.array([(255, 0, 0), (0, 255, 0), (10, 20, 30)], np.uint8)


def make(n=4, height=5, width=7, **changes):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (n, height, width), generator=generator)
    masks[:, 0, 0] = VOID
    parts = {
        "name": "toy", "split": "val", "images": torch.rand(n, 3, height, width, generator=generator), "masks": masks,
        "classes": ("a", "b", "c"), "palette": PALETTE, "frames": tuple(f"f{i}" for i in range(n)), "complete": n,
    }  # fmt: skip
    return SegmentationSet(**(parts | changes))


def test_length_indexing_and_words():
    data = make()
    image, mask = data[2]
    assert len(data) == 4
    assert data.size == (5, 7)
    assert torch.equal(image, data.images[2])
    assert torch.equal(mask, data.masks[2])
    assert repr(data) == "toy val: 4 images, 5x7, 3 classes"
    assert repr(make(complete=9)) == "toy val: 4 of 9 images, 5x7, 3 classes"


def test_iteration_ends():  # a for loop needs IndexError after the last image
    assert [tuple(image.shape) for image, _ in make()] == 4 * [(3, 5, 7)]


def test_data_loader_takes_the_set():
    shapes = [tuple(images.shape) for images, _ in torch.utils.data.DataLoader(make(), batch_size=3)]
    assert shapes == [(3, 3, 5, 7), (1, 3, 5, 7)]


def test_subset_keeps_order():
    data = make()
    chosen = data.subset([3, 0])
    assert chosen.frames == ("f3", "f0")
    assert torch.equal(chosen.masks, data.masks[[3, 0]])
    assert repr(chosen) == "toy val: 2 of 4 images, 5x7, 3 classes"


def test_pixel_counts_leave_void_out():
    data = make()
    expected = [(data.masks == c).sum().item() for c in range(3)]
    assert data.pixel_counts().tolist() == expected
    assert sum(expected) == data.masks.numel() - 4


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"split": "valid"}, ValueError, "train, val, test"),
        ({"images": torch.rand(4, 5, 7, 3)}, TypeError, "(N, 3, H, W)"),
        ({"images": torch.rand(4, 3, 5, 7).double()}, TypeError, "float32"),
        ({"images": 255 * torch.rand(4, 3, 5, 7)}, ValueError, "divide bytes by 255"),
        ({"masks": torch.zeros(4, 7, 5, dtype=torch.int64)}, TypeError, "(4, 5, 7)"),
        ({"masks": torch.zeros(4, 5, 7)}, TypeError, "int64"),
        ({"masks": torch.full((4, 5, 7), 3)}, ValueError, "label 3"),
        ({"masks": torch.full((4, 5, 7), -1)}, ValueError, "label -1"),
        ({"frames": ("f0",)}, ValueError, "frame names"),
        ({"palette": PALETTE[:2]}, ValueError, "palette"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        make(**changes)


def test_colourize_against_a_loop():
    mask = torch.tensor([[0, 1, 2], [VOID, 2, 0]])
    picture = colourize(mask, PALETTE)
    assert picture.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            label = int(mask[row, column])
            expected = (0, 0, 0) if label == VOID else PALETTE[label]
            assert tuple(picture[row, column]) == tuple(expected)
    assert np.array_equal(make().colourize(mask.numpy().astype(np.uint8)), picture)


def test_colourize_refuses_what_has_no_colour():
    with pytest.raises(ValueError, match="label 3 has no colour"):
        colourize(torch.tensor([[3]]), PALETTE)
    with pytest.raises(TypeError, match="argmax"):
        colourize(torch.zeros(2, 2), PALETTE)


def test_importing_the_package_costs_nothing():
    code = "import sys, segcourse.datasets; print(sorted({'torch', 'numpy', 'PIL', 'skimage'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_download_needs_no_heavy_import():
    code = (
        "import sys, segcourse.datasets.download as d; d.list_datasets(); print({'torch', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_every_public_name_is_there():
    for name in datasets.__all__:
        assert getattr(datasets, name) is not None
    assert datasets.SPLITS == SPLITS
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = datasets.nothing
