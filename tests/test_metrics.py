"""The confusion matrix counts as scikit-learn does; bands, boundaries and distances are what brute force says."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segcourse import metrics
from segcourse.datasets import VOID
from segcourse.metrics import ConfusionMatrix, boundary, boundary_band, boundary_f1, hausdorff


def counted(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """Pair by pair."""
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist()):
        if t != VOID:
            counts[t, p] += 1
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_a_loop(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    target = torch.randint(5, (3, 4, 7), generator=draw)
    prediction = torch.randint(5, (3, 4, 7), generator=draw)
    target[torch.rand(target.shape, generator=draw) < 0.2] = VOID
    matrix = ConfusionMatrix(5)
    matrix.add(prediction[:2], target[:2])
    matrix.add(prediction[2:], target[2:])
    assert torch.equal(matrix.counts, counted(prediction, target, 5))


def test_iou_by_hand() -> None:
    """Class 0: 2 of 3 pixels; class 1: 1 of 3; class 2 nowhere; one pixel void."""
    matrix = ConfusionMatrix(3)
    matrix.add(torch.tensor([[[0, 0, 1], [1, 1, 2]]]), torch.tensor([[[0, 0, 0], [1, VOID, VOID]]]))
    assert matrix.counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix.iou[:2].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert matrix.iou[2].isnan()
    assert matrix.mean_iou == pytest.approx(7 / 12)
    assert matrix.accuracy == pytest.approx(3 / 4)


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert matrix.iou.tolist() == [0.5, 0.0]


def test_labels_of_other_kinds_count_alike() -> None:
    target, prediction = torch.tensor([[0, 1, 255]]), torch.tensor([[1, 1, 0]])
    matrices = []
    for kind in (torch.uint8, torch.int32, torch.int64):
        matrices.append(ConfusionMatrix(2))
        matrices[-1].add(prediction.to(kind), target.to(kind))
    assert all(torch.equal(m.counts, matrices[0].counts) for m in matrices)


@pytest.mark.parametrize(
    ("prediction", "target", "error", "says"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4).long(), TypeError, "argmax"),
        (torch.zeros(2, 3).long(), torch.zeros(3, 2).long(), ValueError, "differ in shape"),
        (torch.tensor([3]), torch.tensor([0]), ValueError, "label of the prediction"),
        (torch.tensor([0]), torch.tensor([-1]), ValueError, "label of the target"),
        (torch.tensor([255]), torch.tensor([0]), ValueError, "label of the prediction"),
    ],
)
def test_what_cannot_be_counted_is_refused(prediction: Tensor, target: Tensor, error: type, says: str) -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(error, match=says):
        matrix.add(prediction, target)
    assert not matrix.counts.any()


def test_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConfusionMatrix(0)


# --- counting, against a loop and against scikit-learn

DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int | None]:
    """Predictions and targets of one shape, the number of classes, and the label to ignore."""
    classes = draw(st.integers(1, 6))
    ignore = draw(st.sampled_from([VOID, -1, -100, 7, 0, 5000, None]))
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 7)))
    draws = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    prediction, target = (torch.randint(classes, shape, generator=draws) for _ in range(2))
    if ignore is not None:
        void = torch.rand(shape, generator=draws) < draw(st.sampled_from([0, 0.2, 1]))
        target[void] = ignore
        if draw(st.booleans()):
            prediction[void & (torch.rand(shape, generator=draws) < 0.5)] = -3  # anything may be said of such a pixel
    return prediction, target, classes, ignore


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=150, deadline=None)
@given(labelled())
def test_counts_are_scikit_learns(case: tuple[Tensor, Tensor, int, int | None]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="no scikit-learn: it is in the extra for authors")
    prediction, target, classes, ignore = case
    known = torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore
    matrix = ConfusionMatrix(classes, ignore)
    matrix.add(prediction, target)
    pair = target[known].numpy(), prediction[known].numpy()
    expected = sklearn.confusion_matrix(*pair, labels=range(classes)) if known.any() else np.zeros((classes, classes))
    assert np.array_equal(matrix.counts.numpy(), expected)


@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_scikit_learns(seed: int) -> None:
    """All classes occur here, so that there is nothing to disagree on."""
    sklearn = pytest.importorskip("sklearn.metrics", reason="no scikit-learn: it is in the extra for authors")
    draw = torch.Generator().manual_seed(seed)
    target = torch.randint(4, (3, 7, 11), generator=draw)
    prediction = target.where(torch.rand(target.shape, generator=draw) < 0.6, 3 - target)
    target[torch.rand(target.shape, generator=draw) < 0.2] = VOID
    matrix = ConfusionMatrix(4)
    matrix.add(prediction, target)
    pair = target[target != VOID].numpy(), prediction[target != VOID].numpy()
    assert matrix.accuracy == pytest.approx(sklearn.accuracy_score(*pair))
    assert matrix.class_accuracy.tolist() == pytest.approx(sklearn.recall_score(*pair, average=None).tolist())
    assert matrix.mean_accuracy == pytest.approx(sklearn.balanced_accuracy_score(*pair))
    assert matrix.iou.tolist() == pytest.approx(sklearn.jaccard_score(*pair, average=None).tolist())
    assert matrix.mean_iou == pytest.approx(sklearn.jaccard_score(*pair, average="macro"))
    assert matrix.frequency_weighted_iou == pytest.approx(sklearn.jaccard_score(*pair, average="weighted"))
    assert matrix.dice.tolist() == pytest.approx(sklearn.f1_score(*pair, average=None).tolist())
    assert matrix.mean_dice == pytest.approx(sklearn.f1_score(*pair, average="macro"))


@pytest.mark.parametrize(("first", "second"), list(itertools.product(DTYPES, DTYPES)))
def test_counts_do_not_depend_on_types_or_strides(first: torch.dtype, second: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    target, prediction = (torch.randint(3, (2, 6, 5), generator=draw) for _ in range(2))
    matrices = [ConfusionMatrix(3) for _ in range(3)]
    matrices[0].add(prediction, target)
    matrices[1].add(prediction.to(first), target.to(second))
    matrices[2].add(prediction.to(first).transpose(1, 2), target.to(second).transpose(1, 2))
    assert torch.equal(matrices[0].counts, counted(prediction, target, 3))
    assert all(torch.equal(m.counts, matrices[0].counts) for m in matrices)


def test_bools_are_labels_too() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(torch.tensor([True, False, True]), torch.tensor([True, True, False]))
    assert matrix.counts.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("ignore", [VOID, -1, 1, None, 10**6])
@pytest.mark.parametrize("pixels", [metrics.BLOCK, metrics.BLOCK + 1, 3 * metrics.BLOCK - 7])
def test_blocks_join_without_a_seam(pixels: int, ignore: int | None) -> None:
    draw = torch.Generator().manual_seed(pixels)
    prediction, target = (torch.randint(3, (pixels,), generator=draw) for _ in range(2))
    if ignore is not None:
        target[torch.rand(pixels, generator=draw) < 0.1] = ignore
    matrix = ConfusionMatrix(3, ignore)
    matrix.add(prediction, target)
    known = target != (10**9 if ignore is None else ignore)
    expected = torch.bincount(3 * target[known] + prediction[known], minlength=9).view(3, 3)
    assert torch.equal(matrix.counts, expected)


@pytest.mark.parametrize("where", [0, metrics.BLOCK + 5])
@pytest.mark.parametrize("bad", [3, 254, 256, -1, 2**40, -(2**40)])
def test_one_bad_label_in_any_block_is_refused_and_nothing_counted(bad: int, where: int) -> None:
    for name in ("prediction", "target"):
        labels = {"prediction": torch.zeros(2 * metrics.BLOCK).long(), "target": torch.zeros(2 * metrics.BLOCK).long()}
        labels[name][where] = bad
        matrix = ConfusionMatrix(3)
        with pytest.raises(ValueError, match=f"label of the {name} is not in 0..2"):
            matrix.add(**labels)
        assert not matrix.counts.any()


def test_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="prediction is ndarray: expected a tensor"):
        ConfusionMatrix(2).add(np.zeros(3, int), torch.zeros(3).long())  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_counts_alike() -> None:
    draw = torch.Generator().manual_seed(2)
    prediction, target = (torch.randint(5, (4, 33, 65), generator=draw) for _ in range(2))
    target[:, :9] = VOID
    here, there, mixed = ConfusionMatrix(5), ConfusionMatrix(5), ConfusionMatrix(5)
    here.add(prediction, target)
    there.add(prediction.cuda(), target.cuda())
    mixed.add(prediction, target.cuda())
    assert torch.equal(here.counts, there.counts)
    assert torch.equal(here.counts, mixed.counts)


def test_memory_grows_neither_with_images_nor_with_batches() -> None:
    """Beside its C x C numbers a matrix keeps nothing, and counting takes far less memory than a copy of the labels."""
    labels = torch.randint(12, (16, 256, 256), generator=torch.Generator().manual_seed(0))
    matrix = ConfusionMatrix(12)
    matrix.add(labels, labels)  # what is loaded once
    peaks = []
    for images in (1, 16):
        tracemalloc.start()
        for _ in range(3):
            matrix.add(labels[:images], labels[:images])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 10_000
    assert peaks[1] < labels.numel() * labels.element_size() / 8
    assert {k for k, v in vars(matrix).items() if isinstance(v, Tensor)} == {"counts"}
    assert matrix.counts.shape == (12, 12)


# --- policies


def matrix_of(counts: list[list[int]], **policy: float) -> ConfusionMatrix:
    matrix = ConfusionMatrix(len(counts), **policy)
    matrix.counts[:] = torch.tensor(counts)
    return matrix


COUNTS = [[6, 2, 0, 1], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]  # class 2 nowhere, class 3 only predicted


def test_metrics_by_hand() -> None:
    matrix = matrix_of(COUNTS)
    assert matrix.accuracy == pytest.approx(9 / 13)
    assert matrix.class_accuracy.tolist() == pytest.approx([6 / 9, 3 / 4, math.nan, math.nan], nan_ok=True)
    assert matrix.mean_accuracy == pytest.approx((6 / 9 + 3 / 4) / 2)
    assert matrix.iou.tolist() == pytest.approx([6 / 10, 3 / 6, math.nan, 0], nan_ok=True)
    assert matrix.mean_iou == pytest.approx(1.1 / 3)
    assert matrix.left_out == 1
    assert matrix.frequency_weighted_iou == pytest.approx((9 * 0.6 + 4 * 0.5) / 13)
    assert matrix.dice.tolist() == pytest.approx([12 / 16, 6 / 9, math.nan, 0], nan_ok=True)
    assert matrix.mean_dice == pytest.approx((12 / 16 + 6 / 9) / 3)
    assert torch.allclose(matrix.dice, 2 * matrix.iou / (1 + matrix.iou), equal_nan=True)


@pytest.mark.parametrize("absent", [0.0, 1.0])
def test_absent_classes_can_count(absent: float) -> None:
    matrix = matrix_of(COUNTS, absent=absent)
    assert matrix.iou.tolist() == pytest.approx([0.6, 0.5, absent, 0])
    assert matrix.mean_iou == pytest.approx((1.1 + absent) / 4)
    assert matrix.left_out == 0
    assert matrix.frequency_weighted_iou == pytest.approx(matrix_of(COUNTS).frequency_weighted_iou)


def test_it_says_how_many_classes_it_left_out() -> None:
    assert str(matrix_of(COUNTS)) == "mean IoU 0.367 over 3 of 4 classes (1 left out), accuracy 0.692, 13 pixels"
    assert str(matrix_of(COUNTS, absent=1.0)) == "mean IoU 0.525 over 4 of 4 classes, accuracy 0.692, 13 pixels"


def test_an_ignored_class_is_no_class() -> None:
    """Its pixels do not count and it has no IoU, but who takes another class for it has made a mistake."""
    matrix = ConfusionMatrix(3, ignore=0, absent=1.0)
    matrix.add(torch.tensor([1, 0, 1, 2, 2, 0]), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert matrix.counts.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1]]
    assert matrix.iou.tolist() == pytest.approx([math.nan, 1 / 2, 1 / 3], nan_ok=True)
    assert matrix.left_out == 1


def test_nothing_counted_is_nan() -> None:
    matrix = ConfusionMatrix(3)
    matrix.add(torch.zeros(2, 0, 4).long(), torch.zeros(2, 0, 4).long())
    matrix.add(torch.tensor([0, 9]), torch.tensor([VOID, VOID]))
    assert not matrix.counts.any()
    assert all(map(math.isnan, (matrix.accuracy, matrix.mean_iou, matrix.frequency_weighted_iou, matrix.mean_dice)))
    assert matrix.left_out == 3


def test_two_workers_matrices_add() -> None:
    draw = torch.Generator().manual_seed(4)
    prediction, target = (torch.randint(3, (6, 5, 4), generator=draw) for _ in range(2))
    whole, *parts = (ConfusionMatrix(3) for _ in range(4))
    whole.add(prediction, target)
    for part, chosen in zip(parts, (slice(0, 1), slice(1, 4), slice(4, 6))):
        part.add(prediction[chosen], target[chosen])
    before = parts[0].counts.clone()
    total = parts[0] + parts[1] + parts[2]
    assert torch.equal(total.counts, whole.counts)
    assert torch.equal(parts[0].counts, before)
    assert (ConfusionMatrix(3, -1, 0.5) + ConfusionMatrix(3, -1, 0.5)).absent == 0.5


@pytest.mark.parametrize("other", [ConfusionMatrix(4), ConfusionMatrix(3, ignore=0), ConfusionMatrix(3, absent=0.0)])
def test_matrices_that_count_otherwise_do_not_add(other: ConfusionMatrix) -> None:
    with pytest.raises(ValueError, match="do not count the same way: 3 classes, ignore=255, absent=nan, and"):
        ConfusionMatrix(3) + other
    with pytest.raises(TypeError):
        ConfusionMatrix(3) + 1  # type: ignore[operator]


@pytest.mark.parametrize("absent", [-0.1, 1.5, math.inf])
def test_a_share_is_from_0_to_1(absent: float) -> None:
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        ConfusionMatrix(3, absent=absent)


# --- the band


def band_by_hand(mask: np.ndarray, radius: int) -> np.ndarray:
    """The classes in the square around each pixel, counted."""
    band = np.zeros(mask.shape, bool)
    for r, c in np.ndindex(*mask.shape):
        square = mask[max(r - radius, 0) : r + radius + 1, max(c - radius, 0) : c + radius + 1]
        band[r, c] = len(set(square[square != VOID].tolist())) > 1 and mask[r, c] != VOID
    return band


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_band_is_what_brute_force_says(radius: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    masks = np.kron(draw.integers(0, 4, (2, 4, 5)), np.ones((1, 4, 3), np.int64))
    masks[draw.random(masks.shape) < 0.05] = VOID
    expected = np.stack([band_by_hand(mask, radius) for mask in masks])
    assert np.array_equal(boundary_band(torch.from_numpy(masks), radius).numpy(), expected)


def test_the_rim_of_void_is_no_boundary() -> None:
    mask = torch.zeros(1, 9, 11, dtype=torch.int64)
    mask[:, 3:6, 4:7] = VOID
    assert not boundary_band(mask).any()


def test_band_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="N, H, W"):
        boundary_band(torch.zeros(4, 5).long())
    with pytest.raises(ValueError, match="at least 1"):
        boundary_band(torch.zeros(1, 4, 5).long(), 0)


# --- boundaries and distances


def masks_of(seed: int, height: int = 9, width: int = 14) -> tuple[Tensor, Tensor]:
    """Two blobby masks that overlap in part."""
    draw = np.random.default_rng(seed)
    blocks = np.kron(draw.random((2, height // 3 + 1, width // 3 + 1)) < 0.4, np.ones((1, 3, 3), bool))
    masks = torch.from_numpy(blocks[:, :height, :width].astype(bool))
    masks ^= torch.from_numpy(draw.random(masks.shape) < 0.1)
    return masks[0], masks[1]


def boundary_by_hand(mask: Tensor) -> set[tuple[int, int]]:
    inside = {tuple(p) for p in mask.nonzero().tolist()}
    return {(r, c) for r, c in inside if not {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)} <= inside}


def nearest(points: set[tuple[int, int]], others: set[tuple[int, int]]) -> list[float]:
    return [min(math.dist(p, q) for q in others) for p in points]


SIZES = [(9, 14), (14, 9), (1, 12), (7, 1), (8, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(6))
def test_distances_are_what_brute_force_says(seed: int, size: tuple[int, int]) -> None:
    a, b = masks_of(seed, *size)
    for boundaries in (True, False):
        points = [boundary_by_hand(m) if boundaries else {tuple(p) for p in m.nonzero().tolist()} for m in (a, b)]
        for percentile in (100, 95, 50):
            if not points[0] or not points[1]:
                expected = 0.0 if not points[0] and not points[1] else math.inf
            else:
                ways = [nearest(points[0], points[1]), nearest(points[1], points[0])]
                expected = max(float(np.percentile(way, percentile)) for way in ways)
            assert hausdorff(a, b, percentile, boundaries) == pytest.approx(expected)
            assert hausdorff(b, a, percentile, boundaries) == pytest.approx(expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(6))
def test_boundary_f1_is_what_brute_force_says(seed: int, size: tuple[int, int]) -> None:
    prediction, target = masks_of(seed, *size)
    lines = boundary_by_hand(prediction), boundary_by_hand(target)
    assert {tuple(p) for p in boundary(target).nonzero().tolist()} == lines[1]
    for tolerance in (0, 1, 1.5, 3):
        if lines[0] and lines[1]:
            near = [np.mean([d <= tolerance for d in nearest(*way)]) for way in (lines, lines[::-1])]
            expected = 2 * near[0] * near[1] / (near[0] + near[1]) if sum(near) else 0
        else:
            expected = float(not lines[0] and not lines[1])
        assert boundary_f1(prediction, target, tolerance) == pytest.approx(expected)


def test_all_pixels_are_what_scikit_image_measures() -> None:
    skimage = pytest.importorskip("skimage.metrics")
    for seed in range(8):
        a, b = masks_of(seed, 17, 11)
        assert hausdorff(a, b, boundaries=False) == pytest.approx(skimage.hausdorff_distance(a.numpy(), b.numpy()))


def test_empty_masks_are_defined() -> None:
    empty, full = torch.zeros(4, 6, dtype=torch.bool), torch.ones(4, 6, dtype=torch.bool)
    for percentile, boundaries in ((100, True), (95, True), (100, False)):
        assert hausdorff(empty, empty, percentile, boundaries) == 0
        assert hausdorff(full, empty, percentile, boundaries) == math.inf
        assert hausdorff(empty, full, percentile, boundaries) == math.inf
        assert hausdorff(full, full, percentile, boundaries) == 0
    assert boundary_f1(empty, empty) == 1
    assert boundary_f1(full, empty) == boundary_f1(empty, full) == 0
    assert not boundary(empty).any()
    assert boundary(full).sum() == 2 * 6 + 2 * 2


def test_a_far_stray_pixel_moves_the_maximum_and_not_the_percentile() -> None:
    target = torch.zeros(40, 60, dtype=torch.bool)
    target[5:25, 5:25] = True
    stray = target.clone()
    stray[20, 55] = True
    assert hausdorff(stray, target) == 31
    assert hausdorff(stray, target, 95) == 0
    assert boundary_f1(stray, target, 0) == pytest.approx(2 * 76 / (76 + 77))


@pytest.mark.parametrize("measure", [hausdorff, boundary_f1])
@pytest.mark.parametrize(
    ("shape", "other", "error", "says"),
    [
        (torch.zeros(3, 4), torch.zeros(3, 4).bool(), TypeError, "first mask is torch.float32: expected a bool"),
        (torch.zeros(3, 4).bool(), torch.zeros(3, 4).long(), TypeError, "second mask is torch.int64"),
        (np.zeros((3, 4), bool), torch.zeros(3, 4).bool(), TypeError, "first mask is ndarray"),
        (torch.zeros(3, 4).bool(), torch.zeros(4, 3).bool(), ValueError, "differ in shape"),
        (torch.zeros(2, 3, 4).bool(), torch.zeros(2, 3, 4).bool(), ValueError, "one mask at a time"),
    ],
)
def test_what_is_no_mask_is_refused(measure, shape, other, error, says) -> None:
    with pytest.raises(error, match=says):
        measure(shape, other)


def test_what_is_no_percentile_and_no_tolerance_is_refused() -> None:
    mask = torch.ones(3, 4, dtype=torch.bool)
    for percentile in (-1, 101, math.nan):
        with pytest.raises(ValueError, match="from 0 to 100"):
            hausdorff(mask, mask, percentile)
    for tolerance in (-1, math.nan):
        with pytest.raises(ValueError, match="0 pixels or more"):
            boundary_f1(mask, mask, tolerance)
