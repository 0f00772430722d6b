"""Crops are parts of the images, masks go with them, and a seed decides which."""

import numpy as np
import pytest
import torch
from torch import Generator

from segcourse.augment import crops
from segcourse.datasets import VOID, SegmentationSet


def numbered(count: int = 3, height: int = 12, width: int = 20) -> SegmentationSet:
    """Each pixel's label is its place, and so is its colour: what belongs together can be seen to be together."""
    places = torch.arange(height * width).reshape(height, width)
    masks = places.expand(count, -1, -1).contiguous()
    images = (masks[:, None] / 255).expand(-1, 3, -1, -1).contiguous()
    masks = masks.clone()
    masks[0, 0, 0] = VOID
    names = tuple(str(i) for i in range(height * width))
    return SegmentationSet(
        "places", "train", images, masks, names, np.zeros((len(names), 3), np.uint8), ("",) * count, count
    )


def test_whole_images_come_unchanged() -> None:
    data = numbered()
    images, masks = crops(data, batch_size=5, flip=False)(Generator().manual_seed(0))
    assert images.shape == (5, 3, 12, 20)
    assert masks.dtype == torch.int64
    for image, mask in zip(images, masks):
        kept = mask != VOID
        assert torch.equal(mask[kept], data.masks[1][kept])
        assert torch.allclose(image, data.images[1], atol=1e-6)


def test_flipped_images_come_with_flipped_masks() -> None:
    data = numbered()
    _, masks = crops(data, batch_size=64)(Generator().manual_seed(0))
    flipped = [bool(mask[1, 0] > mask[1, -1]) for mask in masks]
    assert 16 < sum(flipped) < 48
    for mask, was in zip(masks, flipped):
        back = mask.flip(1) if was else mask
        assert torch.equal(back[1:], data.masks[1, 1:])


def test_a_crop_without_resizing_is_a_part_of_the_image() -> None:
    """Half of the side, and half as many pixels: rows and columns follow each other; colours between are blended."""
    data = numbered(1)
    draw = crops(data, batch_size=40, size=(6, 10), zoom=(0.5, 0.5), flip=False)
    images, masks = draw(Generator().manual_seed(1))
    tops = set()
    for image, mask in zip(images, masks):
        assert (mask[1:, 1:] - mask[:-1, 1:] == 20).all()
        assert (mask[1:, 1:] - mask[1:, :-1] == 1).all()
        centre = (image[0] * 255)[1:, 1:] - mask[1:, 1:]
        assert centre.abs().max() <= 0.5 + 10.01  # half a row and half a column at most
        assert torch.allclose(centre, centre[0, 0].expand_as(centre), atol=1e-2)
        tops.add(int(mask[1, 1]) // 20)
    assert tops == {1, 2, 3, 4, 5, 6, 7}


def test_proportions_are_kept() -> None:
    """A square crop of a wide image: as many image pixels to a pixel down as across."""
    _, masks = crops(numbered(1), batch_size=20, size=(6, 6), zoom=(0.5, 1.0), flip=False)(Generator().manual_seed(2))
    for mask in masks:
        down = (mask[-1, -1] // 20 - mask[1, -1] // 20) / 4
        across = (mask[-1, -1] % 20 - mask[-1, 1] % 20) / 4
        assert abs(down - across) <= 0.5
        assert 0.75 <= across <= 2.25


def test_light_changes_colours_only() -> None:
    data = numbered()
    plain = crops(data, 6, flip=False)(Generator().manual_seed(3))
    lit = crops(data, 6, flip=False, light=0.3)(Generator().manual_seed(3))
    assert torch.equal(plain[1], lit[1])
    ratio = lit[0].mean((1, 2, 3)) / plain[0].mean((1, 2, 3))
    assert ratio.min() >= 0.65
    assert ratio.max() <= 1.35
    assert ratio.std() > 0.05
    assert lit[0].min() >= 0
    assert lit[0].max() <= 1


def test_a_seed_decides() -> None:
    draw = crops(numbered(), 4, size=(5, 7), zoom=(0.5, 1.0), light=0.2)
    first, again, other = (draw(Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"zoom": (0.0, 1.0)}, "zoom"),
        ({"zoom": (0.9, 0.5)}, "zoom"),
        ({"zoom": (0.5, 1.5)}, "zoom"),
        ({"batch_size": 0}, "batch_size"),
        ({"light": 1.0}, "light"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        crops(numbered(), **options)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        crops(numbered().subset([]))
