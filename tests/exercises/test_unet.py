"""Right answers to lesson 06's exercises, written as different students would."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from contract import Contract, judged
from scipy.ndimage import distance_transform_edt
from torch import nn

from segcourse import exercises
from segcourse.exercises.judge import Outcome
from segcourse.models import unet
from segcourse.tiles import mirror

EXERCISES = {exercise.name: exercise for exercise in exercises.lesson("06_unet").exercises}


def size_by_ranges(size, depth):
    row = range(size)
    for _ in range(depth):
        row = row[2:-2]
        if len(row) % 2:
            return None
        row = row[::2]
    length = len(row[2:-2])
    for _ in range(depth):
        length = len(range(2 * length)[2:-2])
    return length or None


def size_by_recursion(size, depth):
    inside = size - 4
    if depth == 0:
        return inside
    if inside % 2 or inside < 2:
        return None
    below = size_by_recursion(inside // 2, depth - 1)
    return None if below is None or 2 * below - 4 < 1 else 2 * below - 4


def size_by_modulus(size, depth):
    block = 2**depth
    out = size - 12 * block + 8
    return out if size % block == (-4) % block and out >= 1 else None


def crop_by_narrow(x, height, width):
    x = x.narrow(2, (x.size(2) - height) // 2, height)
    return x.narrow(3, (x.size(3) - width) // 2, width)


def crop_by_padding(x, height, width):
    over, wide = x.shape[-2] - height, x.shape[-1] - width
    return F.pad(x, (-(wide // 2), -(wide - wide // 2), -(over // 2), -(over - over // 2)))


def crop_by_trimming(x, height, width):
    x = x.clone()
    from_end = True
    while x.shape[2] > height:
        x, from_end = (x[:, :, :-1] if from_end else x[:, :, 1:]), not from_end
    from_end = True
    while x.shape[3] > width:
        x, from_end = (x[..., :-1] if from_end else x[..., 1:]), not from_end
    return x


def concat_by_padding(skip, x):
    dy, dx = x.shape[2] - skip.shape[2], x.shape[3] - skip.shape[3]
    return torch.cat((F.pad(skip, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2)), x), 1)


def concat_of_the_course(skip, x):
    return unet.crop_and_concat(skip, x)


def concat_by_hstack(skip, x):
    return torch.hstack([crop_by_narrow(skip, *x.shape[2:]), x])


def bend_by_gather(image, mask, field):
    n, _, height, width = image.shape
    r = (torch.arange(height).view(1, -1, 1) + field[:, 0]).clamp(0, height - 1)
    q = (torch.arange(width).view(1, 1, -1) + field[:, 1]).clamp(0, width - 1)
    top, left = r.floor().long().clamp(max=height - 2), q.floor().long().clamp(max=width - 2)
    down, right = r - top, q - left
    pick = torch.arange(n)[:, None, None]
    moved = image.movedim(1, -1)
    upper = moved[pick, top, left] * (1 - right)[..., None] + moved[pick, top, left + 1] * right[..., None]
    lower = moved[pick, top + 1, left] * (1 - right)[..., None] + moved[pick, top + 1, left + 1] * right[..., None]
    bent = upper * (1 - down)[..., None] + lower * down[..., None]
    return bent.movedim(-1, 1), mask[pick, r.round().long(), q.round().long()]


def bend_without_aligned_corners(image, mask, field):
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y + field[:, 0], x + field[:, 1]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    labels = F.grid_sample(mask.unsqueeze(1).double(), grid.double(), "nearest", "border", align_corners=False)
    return [F.grid_sample(image, grid, padding_mode="border", align_corners=False), labels.squeeze(1).to(torch.int64)]


def weights_by_two_nearest(instances, w0, sigma, class_weights):
    d1 = torch.full(instances.shape, math.inf, dtype=torch.float64)
    d2 = d1.clone()
    for cell in set(instances.flatten().tolist()) - {0}:
        d = torch.from_numpy(distance_transform_edt((instances != cell).numpy()))
        d2 = torch.minimum(d2, torch.maximum(d1, d))
        d1 = torch.minimum(d1, d)
    background = (instances == 0).double()
    classes = class_weights[0] * background + class_weights[1] * (1 - background)
    return classes + background * w0 * torch.exp(-((d1 + d2) ** 2) / 2 / sigma**2)


def weights_by_numpy(instances, w0, sigma, class_weights):
    cells = instances.numpy()
    weights = np.where(cells == 0, *class_weights).astype(np.float32)
    maps = sorted((distance_transform_edt(cells != c) for c in np.unique(cells) if c), key=lambda d: d.sum())
    if len(maps) > 1:
        d = np.sort(np.stack(maps), axis=0)
        weights += (cells == 0) * w0 * np.exp(-0.5 * ((d[0] + d[1]) / sigma) ** 2)
    return torch.tensor(weights)


def tiles_into_an_empty_map(network, image, tile, margin, step):
    n, _, height, width = image.shape
    half = margin // 2
    padded = mirror(image, (half, half), (tile, tile))
    scores = None
    for top in reversed(range(0, height, step)):
        for left in reversed(range(0, width, step)):
            found = network(padded[:, :, top : top + tile, left : left + tile])
            if scores is None:
                scores = torch.zeros(n, found.shape[1], height + tile, width + tile)
            scores[:, :, top : top + found.shape[2], left : left + found.shape[3]] = found
    return scores[:, :, :height, :width]


def tiles_by_unfold(network, image, tile, margin, step):
    n, c, height, width = image.shape
    beyond = margin // 2 + tile - margin - step
    padded = F.pad(image, (margin // 2, beyond, margin // 2, beyond), mode="reflect")
    cut = padded.unfold(2, tile, step).unfold(3, tile, step)  # (N, C, rows, columns, tile, tile)
    rows, columns = cut.shape[2:4]
    found = network(cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, c, tile, tile))[:, :, :step, :step]
    found = found.reshape(n, rows, columns, -1, step, step).permute(0, 3, 1, 4, 2, 5)
    return found.reshape(n, -1, height, width)


class TestContract(Contract):
    lesson = "06_unet"
    right = {
        "unet_output_size": (size_by_ranges, size_by_recursion, size_by_modulus),
        "centre_crop": (crop_by_narrow, crop_by_padding, crop_by_trimming),
        "crop_and_concat": (concat_by_padding, concat_of_the_course, concat_by_hstack),
        "bend": (bend_by_gather, bend_without_aligned_corners),
        "weight_map": (weights_by_two_nearest, weights_by_numpy),
        "predict_in_tiles": (tiles_into_an_empty_map, tiles_by_unfold),
    }


def rejected(name, answer):
    return all(judged(EXERCISES[name], answer, seed).outcome is Outcome.NOT_YET for seed in range(5))


def test_one_image_alone_does_not_pass():
    reference = EXERCISES["bend"].reference
    assert rejected("bend", lambda image, mask, field: reference(image, mask, field[:1].expand_as(field)))
    tiles = EXERCISES["predict_in_tiles"].reference

    def first_image(network, image, *sizes):
        return tiles(network, image[:1], *sizes).expand(len(image), -1, -1, -1)

    assert rejected("predict_in_tiles", first_image)


def test_labels_made_up_by_rounding_do_not_pass():
    def rounded(image, mask, field):
        bent, _ = EXERCISES["bend"].reference(image, mask, field)
        labels, _ = EXERCISES["bend"].reference(mask[:, None].float(), mask, field)
        return bent, labels[:, 0].round().long()

    assert rejected("bend", rounded)


def test_instances_are_not_connected_pieces():
    """Numbers count: two cells that touch are two, and a cell in two pieces is one."""

    def by_pieces(instances, w0, sigma, class_weights):
        from scipy.ndimage import label

        pieces = torch.from_numpy(label(instances.numpy() > 0)[0])
        return EXERCISES["weight_map"].reference(pieces, w0, sigma, class_weights)

    assert rejected("weight_map", by_pieces)


def test_the_whole_at_once_is_refused():
    """Without tiles the image does not fit: the network says so, and the answer is not right."""

    def at_once(network, image, tile, margin, step):
        half = margin // 2
        return network(F.pad(image, (half, half, half, half), mode="reflect"))

    verdict = judged(EXERCISES["predict_in_tiles"], at_once, 0)
    assert verdict.outcome is Outcome.NOT_YET
    assert verdict.misconception.id == "one_pass"
    assert "tiles of `tile` only" in verdict.failure.mismatch.says


def test_square_crops_and_square_images_do_not_pass():
    assert rejected("centre_crop", lambda x, height, width: crop_by_narrow(x, height, height))
    assert rejected(
        "crop_and_concat",
        lambda skip, x: torch.cat([crop_by_narrow(skip, x.shape[2], x.shape[2]), x], 1),
    )


def test_size_of_one_depth_alone_does_not_pass():
    assert rejected("unet_output_size", lambda size, depth: size_by_modulus(size, 4))


def test_adding_is_named_where_channels_differ_too():
    verdict = judged(EXERCISES["crop_and_concat"], lambda s, x: crop_by_narrow(s, *x.shape[2:]) + x, 1)
    assert verdict.misconception.id == "adds"


def test_the_small_network_is_one_level_of_a_u():
    """The network of predict_in_tiles agrees with its own layers, and refuses what does not fit."""
    from segcourse.exercises.drivers.unet import SmallU

    net = SmallU(2, 3, kernel=3, stride=4, seed=1)
    x = torch.rand(1, 2, 14, 22)
    with torch.no_grad():
        high = net.down(x).relu()
        low = nn.Upsample(scale_factor=4)(net.deep(F.max_pool2d(high, 4)))
        assert torch.equal(net(x), net.merge(torch.cat([high, low], 1)))
    assert net(x).shape == (1, 3, 10, 18)


def test_a_size_that_is_no_number_is_told_in_words():
    sizes = EXERCISES["unet_output_size"]
    for answer, words in (
        (lambda size, depth: None, "it returned None; this input fits."),
        (lambda size, depth: sizes.reference(size, depth) or 7, "it returned 7; this input does not fit"),
    ):
        assert words in judged(sizes, answer, 0).failure.mismatch.says


def test_a_bent_case_that_fails_is_a_simple_one():
    """The first example moves everything by whole pixels: what is shown can be checked by eye."""
    verdict = judged(EXERCISES["bend"], lambda image, mask, field: (image, mask), 0)
    field = verdict.failure.case["field"]
    assert all(len(channel.unique()) == 1 for channel in field[0])
    assert torch.equal(field, field.round())


def test_labels_are_int64():
    def short(image, mask, field):
        bent, labels = EXERCISES["bend"].reference(image, mask, field)
        return bent, labels.int()

    assert rejected("bend", short)
    assert "int64 was expected" in judged(EXERCISES["bend"], short, 0).failure.mismatch.says
