import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcourse.border_weights import balanced_weights, border_weights, separate, two_distances


def random_instances(seed, height, width, cells=4):
    """Small rectangles thrown at random; later ones cover earlier ones."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((height, width), np.int64)
    for cell in range(cells):
        y, x = rng.integers(0, height), rng.integers(0, width)
        instances[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = 3 * cell + 2  # numbers with holes
    return torch.from_numpy(instances)


def weights_by_loops(instances, w0, sigma, class_weights):
    """Equation 2, each pixel against each pixel of each cell."""
    height, width = instances.shape
    pixels = {int(c): (instances == c).nonzero().tolist() for c in instances.unique() if c}
    expected = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            if instances[y, x]:
                expected[y, x] = class_weights[1]
                continue
            distances = sorted(min(math.hypot(y - v, x - u) for v, u in cell) for cell in pixels.values())
            border = w0 * math.exp(-(sum(distances[:2]) ** 2) / (2 * sigma**2)) if len(distances) > 1 else 0
            expected[y, x] = class_weights[0] + border
    return expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 11), st.integers(3, 14), st.floats(0, 20), st.floats(0.5, 8))
def test_against_loops(seed, height, width, w0, sigma):
    instances = random_instances(seed, height, width)
    expected = weights_by_loops(instances, w0, sigma, (0.75, 1.5))
    weights = border_weights(instances, w0, sigma, (0.75, 1.5))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(1, [9.231163]), (3, [7.261490, 7.261490, 7.261490])],  # 10 exp(-4 / 50), 10 exp(-16 / 50): d1 + d2 = 2, 4
)
def test_gaps_of_one_and_three_pixels(gap, expected):
    instances = torch.zeros(5, 8 + gap, dtype=torch.int64)
    instances[:, :4], instances[:, 4 + gap :] = 1, 2
    border = border_weights(instances, class_weights=(0, 0))
    torch.testing.assert_close(border[2, 4 : 4 + gap], torch.tensor(expected), atol=1e-6, rtol=0)
    assert border[:, :4].eq(0).all()
    assert border[:, 4 + gap :].eq(0).all()


@pytest.mark.parametrize("cells", [0, 1])
def test_fewer_than_two_cells_have_no_border(cells):
    instances = torch.zeros(6, 9, dtype=torch.int64)
    instances[1:4, 2:7] = cells
    assert torch.equal(border_weights(instances, class_weights=(0.5, 2)), torch.where(instances > 0, 2.0, 0.5))


def test_most_of_the_term_would_lie_on_the_cells():
    """What the docstring says of a term that is not kept to the background: about half lies on the cells."""
    instances = torch.zeros(128, 128, dtype=torch.int64)
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    for i, (v, u) in enumerate([(v, u) for v in range(20, 110, 22) for u in range(20, 110, 22)]):
        instances[(y - v) ** 2 + (x - u) ** 2 <= 10**2] = i + 1
    everywhere = torch.exp(-(two_distances(instances).sum(0) ** 2) / (2 * 5**2))
    on_cells = everywhere[instances > 0].sum() / everywhere.sum()
    assert 0.4 < on_cells < 0.7


def test_balance_over_the_whole_batch():
    instances = torch.stack([random_instances(seed, 9, 13) for seed in range(3)])
    weights = border_weights(instances, w0=0)
    cells = instances > 0
    torch.testing.assert_close(weights[cells].sum(), weights[~cells].sum())
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    assert balanced_weights(torch.ones(3, 4, dtype=torch.bool)) == balanced_weights(torch.zeros(3, 4)) == (1, 1)


def test_a_batch_is_its_images():
    instances = torch.stack([random_instances(seed, 9, 13) for seed in range(3)])
    together = border_weights(instances, class_weights=(1, 1))
    for image, weights in zip(instances, together):
        assert torch.equal(border_weights(image, class_weights=(1, 1)), weights)
    assert border_weights(instances[:0]).shape == (0, 9, 13)


def test_numbers_of_the_cells_do_not_matter():
    instances = random_instances(5, 12, 17, cells=6)
    renamed = torch.where(instances > 0, 1000 - instances, 0).to(torch.int32)
    assert torch.equal(border_weights(instances), border_weights(renamed))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 15))
def test_separated_cells_are_not_neighbours(seed, height, width):
    instances = random_instances(seed, height, width, cells=7)
    apart = separate(instances)
    assert ((apart == instances) | (apart == 0)).all()
    for y in range(height):
        for x in range(width):
            around = apart[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            assert apart[y, x] == 0 or {*around.flatten().tolist()} <= {0, int(apart[y, x])}
            before = instances[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            assert (apart[y, x] == 0) == (instances[y, x] == 0 or bool((before > instances[y, x]).any()))
    assert torch.equal(separate(apart), apart)
    assert torch.equal(separate(torch.stack([instances, instances]))[1], apart)


def test_cells_that_touch_get_a_border_once_separated():
    instances = torch.ones(4, 10, dtype=torch.int64)
    instances[:, 5:] = 2
    assert border_weights(instances, class_weights=(0, 0)).eq(0).all()
    border = border_weights(separate(instances), class_weights=(0, 0))
    assert border.nonzero()[:, 1].unique().tolist() == [4]
    assert separate(instances[:0]).shape == (0, 10)


def test_it_is_fast_enough_to_weigh_as_one_trains():
    instances = torch.zeros(128, 128, dtype=torch.int64)
    for i in range(22):
        instances[24 * (i // 5) : 24 * (i // 5) + 22, 24 * (i % 5) : 24 * (i % 5) + 22] = i + 1
    began = time.process_time()
    border_weights(instances)
    assert time.process_time() - began < 0.5  # about 6 ms; the limit would still catch a loop over pixels


@pytest.mark.parametrize(
    ("instances", "options", "error", "words"),
    [
        (torch.zeros(4, 5), {}, TypeError, "float32"),
        (torch.zeros(4, 5, dtype=torch.bool), {}, TypeError, "bool"),
        (torch.zeros(4, dtype=torch.int64), {}, ValueError, r"\(H, W\) or \(N, H, W\)"),
        (torch.full((4, 5), -1), {}, ValueError, "negative"),
        (torch.zeros(4, 5, dtype=torch.int64), {"sigma": 0}, ValueError, "sigma=0"),
    ],
)
def test_bad_input_is_refused(instances, options, error, words):
    with pytest.raises(error, match=words):
        border_weights(instances, **options)
