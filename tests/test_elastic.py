import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from segcourse.border_weights import separate
from segcourse.datasets.cells import cells
from segcourse.elastic import displacements, elastic, folded, warp
from segcourse.instances import components


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def batch(n=2, c=3, height=19, width=26):
    images = torch.rand(n, c, height, width, generator=seeded(0))
    masks = torch.tensor([0, 1, 3, 255])[torch.randint(4, (n, height, width), generator=seeded(1))]
    return images, masks


def test_against_scipy():
    """A second way to interpolate, and to mirror beyond the border."""
    images, masks = batch()
    field = displacements((19, 26), seeded(2), count=2, deviation=5)
    bent, labels = warp(images, masks, field)
    assert (bent.shape, bent.dtype, labels.dtype) == (images.shape, torch.float32, torch.int64)
    for i in range(2):
        places = np.indices((19, 26)) + field[i].double().numpy()
        for channel in range(3):
            expected = map_coordinates(images[i, channel].double().numpy(), places, order=1, mode="mirror")
            torch.testing.assert_close(bent[i, channel].double(), torch.from_numpy(expected), atol=1e-4, rtol=0)
        clear = (abs(places % 1 - 0.5) > 1e-3).all(0)  # not halfway between two pixels
        expected = map_coordinates(masks[i].numpy(), places, order=0, mode="mirror")
        assert clear.mean() > 0.95
        assert (labels[i].numpy() == expected)[clear].all()


def test_a_whole_displacement_moves_pixels():
    images, masks = batch(n=1)
    field = torch.zeros(1, 2, 19, 26)
    field[:, 0], field[:, 1] = 2, -3
    bent, labels = warp(images, masks, field)
    torch.testing.assert_close(bent[:, :, :-2, 3:], images[:, :, 2:, :-3], atol=1e-5, rtol=0)
    assert torch.equal(labels[:, :-2, 3:], masks[:, 2:, :-3])
    assert torch.equal(labels[:, -2:, 3:], masks[:, [-2, -3]][:, :, :-3])  # mirrored: the last row is not repeated


def test_no_label_is_made_up():
    images, masks = batch()
    labels = elastic(images, masks, seeded(3))[1]
    assert set(labels.unique().tolist()) <= {0, 1, 3, 255}


def test_image_and_mask_stay_together():
    """An image that shows its own mask still does, but at boundaries, where colours are mixed."""
    masks = torch.zeros(1, 60, 90, dtype=torch.int64)
    masks[:, 12:40, 20:77] = 1
    bent, labels = elastic(masks[:, None].float(), masks, seeded(4))
    assert ((bent[:, 0] - labels).abs() <= 0.75 + 1e-4).all()  # 1 - 0.5 * 0.5, at a corner
    assert ((bent[:, 0] - labels).abs() <= 1e-4).float().mean() > 0.8
    assert (labels != masks).float().mean() > 0.05


def test_labels_and_instances_are_bent_by_one_call():
    images, masks = batch()
    numbers = 10**12 + masks
    field = displacements((19, 26), seeded(5), count=2)
    both = warp(images, torch.stack([masks, numbers], 1), field)[1]
    assert torch.equal(both[:, 0] + 10**12, both[:, 1])
    assert torch.equal(both[:, 0], warp(images, masks, field)[1])


def test_a_bent_mask_joins_cells_and_bent_instances_do_not():
    """What the docstring of `warp` says."""
    data = cells("val", 5)
    both = torch.stack([data.masks, data.instances], 1)
    masks, numbers = warp(data.images, both, displacements((128, 128), seeded(7), 5, 4.0))[1].unbind(1)
    there = sum(len(x.unique()) - 1 for x in numbers)
    pieces = [sum(int(components(x.numpy()).max()) for x in found) for found in (data.masks, masks, separate(numbers))]
    assert pieces[0] == sum(int(x.max()) for x in data.instances)
    assert pieces[1] < 0.9 * there
    assert pieces[2] >= there


def test_fields_are_smooth_and_of_the_right_size():
    field = displacements((65, 33), seeded(6), count=400)
    assert field.shape == (400, 2, 65, 33)
    corners = field[:, :, ::32, ::16]  # the vectors of the grid: the middle ones too sit on a pixel
    assert corners.shape[2:] == (3, 3)
    assert abs(corners.std() - 10) < 0.3
    assert abs(corners.mean()) < 0.4
    assert field.diff(dim=2).abs().max() < 5
    assert torch.equal(field, displacements((65, 33), seeded(6), count=400))
    assert displacements((5, 8), seeded(0), deviation=0).eq(0).all()


def test_folds_are_found():
    still = torch.zeros(1, 2, 6, 9)
    assert not folded(still).any()
    turned = still.clone()
    turned[:, 1] = -2 * torch.arange(9.0)  # columns in reversed order
    assert folded(turned).all()
    stretched = still.clone()
    stretched[:, 0] = torch.arange(6.0)[:, None]
    assert not folded(stretched).any()


def test_bad_input_is_refused_in_words():
    images, masks = batch()
    field = torch.zeros(2, 2, 19, 26)
    with pytest.raises(ValueError, match="do not fit together"):
        warp(images, masks, field[:1])
    with pytest.raises(ValueError, match="do not fit together"):
        warp(images, masks[:, :5], field)
    with pytest.raises(TypeError, match="a label has no fractions"):
        warp(images, masks.float(), field)
    with pytest.raises(ValueError, match="at least 2 points"):
        displacements((5, 5), seeded(0), points=1)
