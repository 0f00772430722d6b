import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcourse.datasets import canvas as c
from segcourse.datasets import things
from segcourse.datasets.base import VOID
from segcourse.datasets.labels import CAMVID_TRAIN_PIXELS, CLASSES, Label
from segcourse.datasets.street import SMALLEST, Plan, lay_out, street_scene, streets


@pytest.fixture(scope="module")
def sample():
    return streets("train", 150)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(SMALLEST, 150), st.integers(SMALLEST, 150))
def test_any_seed_and_size(seed, height, width):
    image, mask = street_scene(seed, (height, width))
    assert image.shape == (height, width, 3)
    assert mask.shape == (height, width)
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {*range(11), VOID}


# SHA-256 of images and masks of 30 scenes at three sizes. The same came out with numpy 1.26.4 and 2.4.6, and with the
# processor's AVX2, FMA and AVX-512 paths of numpy switched off (NPY_DISABLE_CPU_FEATURES).
BYTES = "ac4a7a1616c36857736dbd5a248e05ef62321bb9d664008d3e196e93b35a78d8"


def test_same_bytes_on_every_machine():
    digest = hashlib.sha256()
    for i in range(30):
        for size in ((96, 128), (97, 61), (40, 113)):
            image, mask = street_scene((0, 1, i), size)
            digest.update(image.tobytes() + mask.tobytes())
    assert digest.hexdigest() == BYTES


def test_no_global_state():
    first = street_scene(5)
    np.random.default_rng(0)
    torch.manual_seed(3)
    street_scene(6, (50, 60))
    for before, after in zip(first, street_scene(5)):
        assert np.array_equal(before, after)


def test_seeds_and_splits_differ():
    scenes = [street_scene(seed, (32, 40))[0].tobytes() for seed in range(20)]
    scenes += [
        image.numpy().tobytes() for split in ("train", "val", "test") for image, _ in streets(split, 10, (32, 40))
    ]
    scenes += [image.numpy().tobytes() for image, _ in streets("train", 10, (32, 40), seed=1)]
    assert len(set(scenes)) == 60


def test_streets_are_scenes_with_documented_seeds():
    data = streets("val", 3, (40, 52), seed=7)
    image, mask = street_scene((7, 2, 2), (40, 52))
    assert torch.equal(data.images[2], torch.from_numpy(image).permute(2, 0, 1) / 255)
    assert torch.equal(data.masks[2], torch.from_numpy(mask).long())
    assert repr(data) == "streets val: 3 images, 40x52, 11 classes"
    assert torch.equal(streets("val", 2, (40, 52), seed=7).masks, data.masks[:2])  # more begin with the same


@pytest.mark.parametrize("seed", range(12))
def test_the_same_street_at_every_size(seed):
    """Every other pixel of the large mask against the small mask: only outlines and thin things may differ."""
    _, small = street_scene(seed, (96, 128))
    _, large = street_scene(seed, (192, 256))
    assert (large[::2, ::2] == small).mean() > 0.88


def test_classes_are_as_frequent_as_in_camvid(sample):
    ours = sample.pixel_counts().double() / sample.masks.numel()
    camvid = torch.tensor(CAMVID_TRAIN_PIXELS).double() / (367 * 360 * 480)
    ratio = ours / camvid
    assert ratio.min() > 0.6, dict(zip(CLASSES, ratio.tolist()))
    assert ratio.max() < 1.8, dict(zip(CLASSES, ratio.tolist()))
    void = (sample.masks == VOID).double().mean().item()
    assert 0.02 < void < 0.05  # CamVid: 2,503,995 of 63,417,600 pixels, 0.039


def test_every_class_is_in_enough_scenes(sample):
    present = torch.tensor([[(mask == label).any() for label in range(11)] for mask in sample.masks]).double().mean(0)
    assert present.min() > 0.4, dict(zip(CLASSES, present.tolist()))


def test_images_are_neither_black_nor_flat(sample):
    assert sample.images.mean((1, 2, 3)).min() > 0.05
    assert sample.images.std((2, 3)).min() > 0.02
    # CamVid's training images: mean 0.42, standard deviation 0.30
    assert 0.33 < sample.images.mean() < 0.5


def test_geometry_of_the_masks(sample):
    sky, road = sample.masks == Label.SKY, sample.masks == Label.ROAD
    assert not sky[:, 60:].any()  # no sky below the horizon, which is at 0.40 to 0.52 of the height
    assert not road[:, :36].any()
    lowest = sample.masks[:, -1]
    assert ((lowest == Label.ROAD) | (lowest == VOID)).double().mean() > 0.5


@pytest.mark.parametrize(
    ("seed", "size", "words"),
    [
        (0, (31, 128), "31x128 pixels is too small"),
        (0, (96, 8), "at least 32"),
        (-1, (96, 128), "seed -1"),
        (2**32, (96, 128), "seed"),
        ((1, 2, 3, 4), (96, 128), "up to three"),
    ],
)
def test_bad_requests(seed, size, words):
    with pytest.raises(ValueError, match=words):
        street_scene(seed, size)


def test_numpy_numbers_are_seeds_too():
    assert np.array_equal(street_scene(np.int64(3), (40, 40))[0], street_scene([3], (40, 40))[0])


def test_bad_split_and_count():
    with pytest.raises(ValueError, match="too small"):
        streets("train", 0, (8, 8))
    with pytest.raises(ValueError, match="train, val, test"):
        streets("dev", 3)
    with pytest.raises(ValueError, match="-1 scenes"):
        streets("train", -1)
    assert len(streets("test", 0)) == 0


# The canvas: perspective checked by projecting points back.


def blank(height=60, width=90):
    camera = c.Camera(height, width, focal=80.0, eye=1.5, horizon=27.3, vanish=41.7)
    return c.Canvas(camera, c.Light(1, 0.5, 1.0), c.Dice(0))


def test_a_wall_has_the_metres_that_project_to_its_pixels():
    canvas, start, end = blank(), (-4.0, 6.0), (-1.0, 20.0)
    patch = canvas.wall(start, end, 5.0)
    length = np.hypot(end[0] - start[0], end[1] - start[1])
    part = patch.along[0] / length
    x, z = start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])
    np.testing.assert_allclose(patch.depth[0], z, rtol=1e-4)
    np.testing.assert_allclose(canvas.camera.column(x, z), canvas.cols[0, patch.window[1]], atol=0.01)
    for column in range(patch.shape[1]):
        rows = canvas.camera.row(patch.up[:, column], z[column])
        np.testing.assert_allclose(rows, canvas.rows[patch.window[0], 0], atol=0.01)


def test_a_wall_that_passes_the_camera_is_cut_not_bent():
    canvas = blank()
    whole = canvas.wall((-2.0, -10.0), (-6.0, 30.0), 4.0)
    ahead = canvas.wall((-3.2, 2.0), (-6.0, 30.0), 4.0)  # the same line from 2 metres on
    assert canvas.wall((-3.0, -10.0), (-3.0, 0.5), 4.0) is None
    shared = ahead.window[1]
    offset = shared.start - whole.window[1].start
    np.testing.assert_allclose(whole.depth[0, offset : offset + ahead.shape[1]], ahead.depth[0], rtol=1e-4)
    skipped = np.hypot(1.2, 12.0)
    np.testing.assert_allclose(whole.along[0, offset : offset + ahead.shape[1]] - skipped, ahead.along[0], atol=1e-3)


def test_nearer_things_hide_farther_ones_in_any_order():
    masks = []
    for order in ((8.0, 12.0), (12.0, 8.0)):
        canvas = blank()
        for z in order:
            canvas.paint(canvas.board(0.6 * (z - 8.0), z, 3.0, 3.0), int(z), np.ones(3, np.float32))
        masks.append(canvas.mask)
    assert np.array_equal(*masks)
    assert set(np.unique(masks[0])) == {8, 12, VOID}
    alone = blank()
    alone.paint(alone.board(0.0, 8.0, 3.0, 3.0), 8, np.ones(3, np.float32))
    assert np.array_equal(masks[0] == 8, alone.mask == 8)  # the nearer one is whole


def test_a_board_is_as_large_as_it_should_be():
    canvas = blank()
    patch = canvas.board(0.0, 10.0, 4.0, 3.0, 1.0)
    assert patch.shape == (16, 32)  # 80 px * 2 m / 10 m, 80 px * 4 m / 10 m
    assert canvas.board(500.0, 10.0, 4.0, 3.0) is None
    assert canvas.board(0.0, 0.5, 4.0, 3.0) is None
    assert canvas.board(0.0, 300.0, 0.1, 0.1).shape == (1, 1)  # never less than a pixel


def test_gaps_show_what_is_behind_and_keep_the_label():
    canvas = blank()
    patch = canvas.board(0.0, 10.0, 4.0, 3.0)
    canvas.paint(patch, 1, np.full(3, 0.25, np.float32), grain=0)
    shows = np.zeros(patch.shape, bool)
    shows[:, ::2] = True
    canvas.paint(patch, 2, np.full(3, 0.75, np.float32), shows=shows, grain=0)
    assert (canvas.mask[patch.window] == 2).all()
    assert np.array_equal(canvas.image[patch.window][..., 0], np.where(shows, 0.75, 0.25))


def test_dice_are_fair():
    dice = c.Dice(11)
    counts = [dice.count(1.7) for _ in range(20000)]
    assert abs(np.mean(counts) - 1.7) < 0.03  # a Poisson number has variance = mean
    assert abs(np.var(counts) - 1.7) < 0.06
    picks = Counter(dice.pick("abc") for _ in range(9000))
    assert all(2800 < n < 3200 for n in picks.values())
    values = [dice.between(-2, 5) for _ in range(5000)]
    assert min(values) >= -2
    assert max(values) < 5


@pytest.mark.parametrize("bank", [c.speckle(), c.smooth(4), c.smooth(32), c.clumps()])
def test_noise_is_bounded_and_repeats(bank):
    assert bank.dtype == np.float32
    assert abs(bank).max() <= 1.3
    rows, cols = np.arange(-5, 300, 7.3, dtype=np.float32)[:, None], np.arange(900, 1200, 9.1, dtype=np.float32)
    expected = [[bank[int(np.floor(r)) % 256, int(np.floor(k)) % 256] for k in cols] for r in rows[:, 0]]
    assert np.array_equal(c.look_up(bank, rows, cols), expected)


def test_smooth_noise_is_smooth_across_the_seam():
    bank = c.smooth(16)
    steps = abs(np.diff(bank, axis=0, append=bank[:1]))
    assert steps.max() < 0.25  # eased over 16 texels: at most 1.5 * 2 / 16


def test_texture_larger_than_the_bank():
    assert blank().texture(c.speckle(), (300, 517)).shape == (300, 517)


def test_film_grain_is_nearly_gaussian():
    grain = c.film_grain()
    assert abs(grain.std() - 1) < 0.01
    assert abs((grain**4).mean() - 2.7) < 0.1  # of a sum of four uniform numbers; a Gaussian has 3


def test_a_street_leaves_room_for_cars():
    for seed in range(50):
        plan, stuff = lay_out(c.Dice(seed))
        assert isinstance(plan, Plan)
        for thing in stuff:
            if isinstance(thing, things.Pole):  # on the pavement, not on the road
                across = thing.x - plan.centre - 0.5 * plan.bend * thing.z**2
                assert abs(across) > plan.half_width - 0.2


def test_every_thing_draws_its_label_and_nothing_else():
    dice = c.Dice(4)
    makers = {
        Label.BUILDING: lambda: things.House.sample(dice, (2.0, 6.0), (3.0, 14.0), 1, 7.0),
        Label.FENCE: lambda: things.Fence.sample(dice, (2.0, 6.0), (3.0, 14.0)),
        Label.TREE: lambda: things.Tree.sample(dice, 0.5, 12.0),
        Label.POLE: lambda: things.Pole.lamp_post(dice, 0.5, 12.0, 1),
        Label.CAR: lambda: things.Car.sample(dice, 1.5, 9.0, coming=True),
        Label.PEDESTRIAN: lambda: things.Person.sample(dice, 0.5, 9.0),
        Label.BICYCLIST: lambda: things.Cyclist.sample(dice, 0.5, 9.0, dice.pick((-1, 0, 1))),
    }
    for label, make in makers.items():
        for _ in range(15):
            canvas = blank()
            make().draw(canvas)
            allowed = {VOID, label} | ({Label.SIGN} if label == Label.BUILDING else set())
            found = set(np.unique(canvas.mask))
            assert label in found
            assert found <= allowed
