"""Boxes, crops and what is put together from them, each by a second way."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.measure import label, regionprops
from torch import nn

from segcourse.proposals import (
    VOID,
    aggregate,
    crop,
    find_things,
    first_stage,
    grid_boxes,
    overlap,
    score_boxes,
    second_stage,
    square,
)


def masks_and_images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(3, 40, 56, dtype=torch.int64)
    for mask in masks:
        for name in (1, 2, 1, 3, VOID):
            top, left = (int(torch.randint(0, n, (), generator=generator)) for n in (30, 44))
            mask[top : top + 8, left : left + 11] = name
    return masks, torch.rand(3, 3, 40, 56, generator=generator)


def test_things_are_the_connected_regions() -> None:
    masks, _ = masks_and_images()
    things = find_things(masks, (1, 2, 3), smallest=12)
    expected = [
        (number, wanted, tuple(region.bbox), int(region.area))
        for number, mask in enumerate(masks.numpy())
        for wanted in (1, 2, 3)
        for region in regionprops(label(mask == wanted, connectivity=1))
        if region.area >= 12
    ]
    assert [(t.image, t.label, t.box, int(t.inside.sum())) for t in things] == expected
    for thing in things:
        top, left, bottom, right = thing.box
        assert int(thing.inside[top:bottom, left:right].sum()) == int(thing.inside.sum())
        assert bool((masks[thing.image][thing.inside] == thing.label).all())


@pytest.mark.parametrize("box", [(3, 4, 11, 9), (0, 0, 5, 20), (30, 50, 40, 56), (0, 0, 40, 56)])
@pytest.mark.parametrize("grow", [1.0, 1.2, 2.0])
def test_squares_stay_inside_and_hold_the_box(box, grow: float) -> None:
    top, left, bottom, right = square(box, (40, 56), grow)
    assert bottom - top == right - left == min(40, round(grow * max(box[2] - box[0], box[3] - box[1])))
    assert top >= 0 <= left
    assert (bottom <= 40) & (right <= 56)
    if max(box[2] - box[0], box[3] - box[1]) <= 40:
        assert (top <= box[0]) & (left <= box[1]) & (bottom >= box[2]) & (right >= box[3])


def test_the_grid_reaches_every_pixel() -> None:
    for side in (7, 12, 40):
        boxes = grid_boxes((40, 56), (side,))
        covered = torch.zeros(40, 56)
        for top, left, bottom, right in boxes:
            assert bottom - top == right - left == side
            covered[top:bottom, left:right] += 1
        assert covered.min() >= 1
        tops = sorted({box[0] for box in boxes})
        assert all(b - a <= -(-side // 2) for a, b in pairwise(tops))
    assert len(grid_boxes((40, 56), (7, 12))) == len(grid_boxes((40, 56), (7,))) + len(grid_boxes((40, 56), (12,)))


def test_overlap_counts_pixels() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        boxes = []
        for _ in range(2):
            top, left = generator.integers(0, 10, 2)
            boxes.append(
                (int(top), int(left), int(top + generator.integers(1, 9)), int(left + generator.integers(1, 9)))
            )
        inside = [np.zeros((20, 20), bool) for _ in boxes]
        for canvas, (top, left, bottom, right) in zip(inside, boxes):
            canvas[top:bottom, left:right] = True
        assert overlap(*boxes) == pytest.approx((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum())


def test_crops_keep_labels_whole() -> None:
    masks, images = masks_and_images()
    box = (4, 10, 24, 30)
    assert torch.equal(crop(masks[0], box, 20), masks[0, 4:24, 10:30])
    torch.testing.assert_close(crop(images[0], box, 20), images[0, :, 4:24, 10:30])
    small = crop(masks[0], box, 7)
    assert small.shape == (7, 7)
    assert set(small.unique().tolist()) <= set(masks[0].unique().tolist())
    assert crop(images[0], box, 7).mean().item() == pytest.approx(images[0, :, 4:24, 10:30].mean().item(), abs=0.03)


def test_the_first_stage_labels_one_centred_object() -> None:
    masks, images = masks_and_images()
    things = find_things(masks, (1, 2, 3))
    draw = first_stage(images, masks, things, side=16, count=64)
    crops, labels = draw(torch.Generator().manual_seed(0))
    assert crops.shape == (64, 3, 16, 16)
    assert labels.shape == (64, 16, 16)
    seen = []
    for one in labels:
        kinds = set(one.unique().tolist()) - {0, VOID}
        assert len(kinds) == 1
        seen += kinds
    counts = [seen.count(k) for k in (1, 2, 3)]
    assert min(counts) >= 10  # each class as often as the others, about 21 times
    again = draw(torch.Generator().manual_seed(0))
    assert torch.equal(again[0], crops)
    assert torch.equal(again[1], labels)


def test_the_second_stage_labels_everything_in_a_proposal() -> None:
    masks, images = masks_and_images()
    images[:, 0] = masks / 255  # so that a crop shows where it comes from
    things = find_things(masks, (1, 2, 3))
    boxes = grid_boxes((40, 56), (14,), step=0.25)
    crops, labels = second_stage(images, masks, things, boxes, side=14, count=48)(torch.Generator().manual_seed(0))
    assert torch.equal((255 * crops[:, 0]).round().long(), labels)
    assert any(len(set(one.unique().tolist()) - {0, VOID}) > 1 for one in labels)


def test_scores_return_to_their_boxes() -> None:
    _, images = masks_and_images()
    model = nn.Conv2d(3, 2, 1).eval()
    boxes = [(0, 0, 8, 8), (5, 20, 13, 28)]
    maps = score_boxes(model, images[0], boxes, 8)
    with torch.no_grad():
        whole = model(images[:1])[0]
    for one, (top, left, bottom, right) in zip(maps, boxes):
        torch.testing.assert_close(one, whole[:, top:bottom, left:right])
    assert [tuple(one.shape) for one in score_boxes(model, images[0], [(1, 2, 11, 12)], 8)] == [(2, 10, 10)]


@pytest.mark.parametrize("add", [False, True])
def test_aggregation_pixel_by_pixel(add: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [(0, 0, 4, 3), (1, 2, 5, 7), (0, 5, 3, 7)]
    maps = [torch.randn(2, b[2] - b[0], b[3] - b[1], generator=generator) for b in boxes]
    together = aggregate(maps, boxes, (5, 8), add)
    for i in range(5):
        for j in range(8):
            here = [one[:, i - b[0], j - b[1]] for one, b in zip(maps, boxes) if b[0] <= i < b[2] and b[1] <= j < b[3]]
            stack = torch.stack([torch.zeros(2), *here])
            torch.testing.assert_close(together[:, i, j], stack.sum(0) if add else stack.amax(0))
