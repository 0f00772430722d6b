"""The course's colours, seen with normal sight and with three kinds of colour blindness."""

import itertools

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from segcourse.datasets.labels import CAMVID_PALETTE, CAMVID_TRAIN_PIXELS, CLASSES, PALETTE, Label

# Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
# severity 1.0; the matrices act on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# What the committed colours reach, rounded down, and what CamVid's own reach.
FLOOR = {"normal": 20.6, "deuteranopia": 20.2, "protanopia": 20.1, "tritanopia": 20.1}
CAMVID = {"normal": 14.3, "deuteranopia": 3.1, "protanopia": 4.0, "tritanopia": 9.7}

# Smallest distances of two known palettes by the same method (black counts as a colour of Okabe-Ito here, as void does
# below): Okabe-Ito 21.7 11.6 12.2 10.9; tab10 16.2 3.3 1.3 9.5.
OKABE_ITO = "000000 E69F00 56B4E9 009E73 F0E442 0072B2 D55E00 CC79A7"


def seen(palette, sight):
    """sRGB bytes (C, 3) -> CIELAB (C, 3) as somebody with this sight sees them."""
    srgb = palette / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(srgb[None])[0]


def smallest_distance(palette, sight):
    return min(float(deltaE_ciede2000(a, b)) for a, b in itertools.combinations(seen(palette, sight), 2))


def with_void(palette):
    return np.concatenate([palette, np.zeros((1, 3), np.uint8)])


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_stay_apart_from_each_other_and_from_void(sight):
    ours, camvid = smallest_distance(with_void(PALETTE), sight), smallest_distance(CAMVID_PALETTE, sight)
    assert ours >= FLOOR[sight]
    assert camvid == pytest.approx(CAMVID[sight], abs=0.05)
    assert ours > camvid + 6


def test_the_method_gives_known_distances():
    okabe_ito = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in OKABE_ITO.split()])
    distances = [smallest_distance(okabe_ito, sight) for sight in SIGHT]
    np.testing.assert_allclose(distances, [21.7, 11.6, 12.2, 10.9], atol=0.05)


def test_colours_recall_their_classes():
    lightness, a, b = seen(PALETTE, "normal").T
    hue, chroma = np.degrees(np.arctan2(b, a)) % 360, np.hypot(a, b)
    assert 200 < hue[Label.SKY] < 270  # blue
    assert lightness[Label.SKY] > 70
    assert 110 < hue[Label.TREE] < 170  # green
    assert hue[Label.BUILDING] < 60  # brick
    assert chroma[Label.ROAD] < 10  # grey
    assert lightness[Label.ROAD] < 45
    assert chroma[Label.PAVEMENT] < 15
    assert lightness[Label.PAVEMENT] > lightness[Label.ROAD] + 30


def test_labels_are_camvids():
    assert CLASSES == (
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    assert [int(label) for label in Label] == list(range(11))
    assert PALETTE.shape == CAMVID_PALETTE.shape == (11, 3)
    assert sum(CAMVID_TRAIN_PIXELS) + 2_503_995 == 367 * 360 * 480  # every pixel of the training masks is counted
