import hashlib
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segcourse.datasets.canvas import Dice
from segcourse.datasets.cells import FRAGMENT, SMALLEST, Cell, CellSet, Dish, cell_picture, cells, direction, place


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(SMALLEST, 150), st.integers(SMALLEST, 150))
def test_any_seed_and_size(seed, height, width):
    image, instances = cell_picture((seed,), (height, width))
    assert image.shape == instances.shape == (height, width)
    assert (image.dtype, instances.dtype) == (np.uint8, np.int32)
    found, sizes = np.unique(instances[instances > 0], return_counts=True)
    assert found.tolist() == list(range(1, len(found) + 1))
    assert (sizes >= FRAGMENT).all()
    components, number = ndimage.label(instances > 0, np.ones((3, 3)))
    assert number == len(found)  # each cell is one piece, and no two are neighbours, corners included
    pairs = np.unique(np.stack([components.ravel(), instances.ravel()], 1), axis=0)
    assert len(pairs) == number + (instances == 0).any()


# SHA-256 of images and instances of 30 pictures at three sizes; the same with numpy's AVX2, FMA and AVX-512 paths
# switched off (NPY_DISABLE_CPU_FEATURES).
BYTES = "c188b41fe9bdd34abc537bdd3d1f41366b500aa350c1e9ee6a9588146802761b"


def test_same_bytes_on_every_machine():
    digest = hashlib.sha256()
    for i in range(30):
        for size in ((128, 128), (97, 61), (40, 113)):
            image, instances = cell_picture((0, 1, i), size)
            digest.update(image.tobytes() + instances.astype("<i4").tobytes())
    assert digest.hexdigest() == BYTES


def test_seeds_and_splits_differ():
    pictures = [cell_picture((seed,), (40, 48))[0].tobytes() for seed in range(20)]
    pictures += [image.numpy().tobytes() for split in ("train", "val", "test") for image, _ in cells(split, 10)]
    pictures += [image.numpy().tobytes() for image, _ in cells("train", 10, seed=1)]
    assert len(set(pictures)) == 60


def test_sets_are_pictures_with_documented_seeds():
    data = cells("val", 3, (40, 52), seed=7)
    image, instances = cell_picture((7, 2, 2), (40, 52))
    assert torch.equal(data.images[2, 0], torch.from_numpy(image) / 255)
    assert torch.equal(data.instances[2], torch.from_numpy(instances).long())
    assert torch.equal(data.masks, (data.instances > 0).long())
    assert repr(data) == "cells val: 3 images, 40x52, 2 classes"
    assert torch.equal(cells("val", 2, (40, 52), seed=7).images, data.images[:2])  # more begin with the same
    assert len(cells("test", 0)) == 0


def test_subset_takes_the_instances_along():
    data = cells("val", 4, (40, 52))
    chosen = data.subset([3, 1])
    assert isinstance(chosen, CellSet)
    assert chosen.frames == ("val_0_00003", "val_0_00001")
    assert torch.equal(chosen.instances, data.instances[[3, 1]])
    assert torch.equal(chosen[1][1], data.masks[1])


def test_a_dish_is_worth_segmenting():
    data = cells("train", 60)
    numbers = data.instances.flatten(1).amax(1).float()
    assert 10 < numbers.mean() < 22
    assert 0.15 < data.masks.float().mean() < 0.45
    touching = 0
    for instances in data.instances.numpy():
        reach = [set(np.unique(instances[ndimage.binary_dilation(instances == c, iterations=2)])) for c in
                 range(1, instances.max() + 1)]  # fmt: skip
        touching += sum(len(near - {0}) > 1 for near in reach)
    assert touching / numbers.sum() > 0.6  # most cells lie within two or three pixels of another
    # a threshold does not do it: cells are no brighter or darker than what is around them, but for their outlines
    inside, outside = data.images[:, 0][data.masks == 1], data.images[:, 0][data.masks == 0]
    assert abs(inside.mean() - outside.mean()) < 0.5 * outside.std()
    assert 0.3 < data.images.mean() < 0.7
    assert ((data.images == 0) | (data.images == 1)).float().mean() < 0.01


def test_borders_of_cells_are_bright():
    data = cells("train", 20)
    cell = data.masks.numpy() == 1
    near = ndimage.binary_dilation(cell, np.ones((1, 3, 3)), 3) & ~cell
    far = ~ndimage.binary_dilation(cell, np.ones((1, 3, 3)), 6)
    light = data.images[:, 0].numpy()
    assert light[near].mean() > light[far].mean() + 0.02


def test_gaps_where_cells_touch():
    """Along the line between two discs that overlap, the background is as wide as the dish's gap."""
    for gap, expected in ((0.0, {1}), (1.5, {1, 2})):
        dish = Dish((64, 80), Dice(3))
        dish.gap = np.full(dish.size, gap, np.float32)
        for x in (30.0, 46.0):
            dish.add(Cell(32.0, x, 10.0, 10.0, 0.0, 1.0, 0.0, 0.4, 0.0))
        row = dish.instances()[32]
        first, second = np.flatnonzero(row == row[28]), np.flatnonzero(row == row[48])
        assert row[28] != row[48]
        assert second.min() - first.max() - 1 in expected


def test_distances_of_a_dish_against_the_ellipse():
    dish = Dish((50, 70), Dice(1))
    dish.warped_rows, dish.warped_cols = np.broadcast_arrays(dish.rows, dish.cols)
    dice = Dice(2)
    for y, x in ((20.0, 25.0), (28.0, 41.0), (2.0, 66.0)):
        dish.add(Cell.sample(dice, y, x, 12.0))
    y, x = np.mgrid[:50, :70]
    expected = []
    for cell in dish.cells:
        angle = np.arctan2(cell.down, cell.right)
        along = np.cos(angle) * (x - cell.x) + np.sin(angle) * (y - cell.y)
        across = np.sin(angle) * (x - cell.x) - np.cos(angle) * (y - cell.y)
        expected.append(np.hypot(along / cell.long, across / cell.short))
    first, second = np.sort(expected, 0)[:2]
    near, near_two = first < 1.3, second < 1.3
    np.testing.assert_allclose(dish.first[near], first[near], rtol=1e-4)
    np.testing.assert_allclose(dish.second[near_two], second[near_two], rtol=1e-4)
    assert np.array_equal(dish.owner[near], np.argmin(expected, 0)[near])


def test_an_empty_dish_has_no_cells():
    assert Dish((40, 50), Dice(0)).instances().max() == 0


def test_directions_are_fair():
    dice = Dice(5)
    vectors = np.array([direction(dice) for _ in range(4000)])
    np.testing.assert_allclose((vectors**2).sum(1), 1, rtol=1e-12)
    assert abs(vectors.mean(0)).max() < 0.05
    assert abs((vectors**4).mean() - 3 / 8) < 0.02  # the mean of cos^4


def test_more_cells_on_a_larger_dish():
    numbers = [np.mean([len(place(Dice(i), (side, side))) for i in range(20)]) for side in (128, 256)]
    assert 3 < numbers[1] / numbers[0] < 5


def test_a_few_milliseconds_an_image():
    cells("train", 1)
    began = time.process_time()
    cells("train", 20)
    assert (time.process_time() - began) / 20 < 0.05  # 2 ms; the limit would still catch a loop over pixels


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cells("valid", 1), "train, val, test"),
        (lambda: cells("val", -1), "0 or more"),
        (lambda: cells("val", 1, (31, 64)), "31x64 pixels are too small"),
        (lambda: cells("val", 1, seed=-1), "seed"),
        (lambda: cell_picture(()), "seed"),
    ],
)
def test_bad_questions(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"images": torch.rand(2, 3, 40, 52)}, TypeError, r"\(N, 1, H, W\)"),
        ({"images": torch.rand(2, 40, 52)}, TypeError, r"\(N, 1, H, W\)"),
        ({"images": 255 * torch.rand(2, 1, 40, 52)}, ValueError, "divide bytes by 255"),
        ({"masks": torch.full((2, 40, 52), 2)}, ValueError, "label 2"),
        ({"instances": torch.zeros(2, 52, 40, dtype=torch.int64)}, TypeError, r"\(2, 40, 52\)"),
        ({"instances": torch.zeros(2, 40, 52)}, TypeError, "int64"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, error, words):
    parts = vars(cells("val", 2, (40, 52)))
    with pytest.raises(error, match=words):
        CellSet(**(parts | changes))
