"""docs/metrics.md: what this course computes and what others do, number by number."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from segcourse.metrics import ConfusionMatrix, boundary, hausdorff

ROWS = {
    int(cells[1]): [cell.strip() for cell in cells[1:-1]]
    for line in (Path(__file__).parents[1] / "docs" / "metrics.md").read_text("utf-8").splitlines()
    if re.match(r"\| \d", line) and (cells := line.split("|"))
}
T = torch.tensor


def sklearn():
    return pytest.importorskip("sklearn.metrics", reason="no scikit-learn: it is in the extra for authors")


def torchmetrics():
    return pytest.importorskip("torchmetrics", reason="no torchmetrics: it is in the extra for authors")


def matrix(target, prediction, classes, **policy) -> ConfusionMatrix:
    counted = ConfusionMatrix(classes, **policy)
    counted.add(T(prediction), T(target))
    return counted


def says(row: int, *numbers: str) -> None:
    """The row of the table has these numbers, in this order: first the course's, then the others'."""
    words = " ".join(ROWS[row][3:5])
    places = [re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", words) for number in numbers]
    assert all(places), (row, numbers, words)


def test_the_table_is_numbered() -> None:
    assert list(ROWS) == list(range(1, 11))


def test_absent_class() -> None:
    target, prediction = [0, 0, 1, 1], [0, 1, 1, 1]
    ours = matrix(target, prediction, 3)
    assert (ours.mean_iou, ours.left_out) == (pytest.approx(7 / 12), 1)
    assert matrix(target, prediction, 3, absent=0.0).mean_iou == pytest.approx(7 / 18)
    assert matrix(target, prediction, 3, absent=1.0).mean_iou == pytest.approx(13 / 18)
    says(1, f"{7 / 12:.3f}", "1 left out", f"{7 / 18:.3f}", f"{13 / 18:.3f}")


def test_absent_class_elsewhere() -> None:
    target, prediction = [0, 0, 1, 1], [0, 1, 1, 1]
    score = sklearn().jaccard_score
    assert score(target, prediction, average="macro") == pytest.approx(7 / 12)
    with pytest.warns(UserWarning, match="ill-defined"):
        assert score(target, prediction, average="macro", labels=range(3)) == pytest.approx(7 / 18)
    theirs = torchmetrics().classification.MulticlassJaccardIndex(3)(T(prediction), T(target))
    assert theirs.item() == pytest.approx(7 / 12)


def test_class_only_predicted() -> None:
    target, prediction = [0, 0, 1, 1], [0, 2, 1, 1]
    ours = matrix(target, prediction, 3)
    assert ours.mean_iou == pytest.approx(0.5)
    assert ours.iou[ours.counts.sum(1) > 0].mean().item() == pytest.approx(0.75)
    says(2, "0.500", "0.750")
    assert sklearn().jaccard_score(target, prediction, average="macro") == pytest.approx(0.5)
    theirs = torchmetrics().classification.MulticlassJaccardIndex(3)(T(prediction), T(target))
    assert theirs.item() == pytest.approx(0.5)


TWO_IMAGES = [[0, 0, 0, 1], [1, 1, 1, 1]], [[0, 0, 0, 0], [1, 1, 1, 0]]


def test_data_set_or_images() -> None:
    assert matrix(*TWO_IMAGES, 2).mean_iou == pytest.approx(0.6)
    each = [matrix(target, prediction, 2) for target, prediction in zip(*TWO_IMAGES)]
    assert np.mean([m.mean_iou for m in each]) == pytest.approx(0.375)
    of_target = [m.iou[m.counts.sum(1) > 0].mean().item() for m in each]
    assert np.mean(of_target) == pytest.approx(0.5625)
    says(3, "0.600", "0.375", "0.5625")


def test_data_set_or_images_elsewhere() -> None:
    tm = torchmetrics()
    target, prediction = map(T, TWO_IMAGES)
    assert tm.classification.MulticlassJaccardIndex(2)(prediction, target).item() == pytest.approx(0.6)
    segmentation = pytest.importorskip("torchmetrics.segmentation")
    theirs = segmentation.MeanIoU(num_classes=2, input_format="index")(prediction[:, None], target[:, None])
    assert theirs.item() == pytest.approx(0.375)


def test_ignored_class() -> None:
    target, prediction = [0, 0, 1, 1, 2], [1, 0, 1, 2, 2]
    assert matrix(target, prediction, 3, ignore=0).iou.tolist() == pytest.approx([math.nan, 0.5, 0.5], nan_ok=True)
    says(4, "nan 0.5 0.5", "0.0 0.5 0.5")
    theirs = torchmetrics().classification.MulticlassJaccardIndex(3, average="none", ignore_index=0)
    assert theirs(T(prediction), T(target)).tolist() == pytest.approx([0, 0.5, 0.5])


def test_accuracy_of_one_against_the_rest() -> None:
    target, prediction = [0, 0, 1, 1, 2], [1, 0, 1, 2, 2]
    assert matrix(target, prediction, 3).accuracy == pytest.approx(0.6)
    rest = [((T(target) == c) == (T(prediction) == c)).float().mean().item() for c in range(3)]
    assert np.mean(rest) == pytest.approx(11 / 15)
    says(5, "0.600", f"{11 / 15:.3f}")


def test_dice_of_nothing() -> None:
    ours = matrix([0, 0], [0, 0], 2)
    assert ours.dice.tolist() == pytest.approx([1, math.nan], nan_ok=True)
    assert ours.mean_dice == 1
    with pytest.warns(UserWarning, match="ill-defined"):
        assert sklearn().f1_score([0, 0], [0, 0]) == 0
    tm = torchmetrics()
    assert tm.classification.BinaryF1Score()(torch.zeros(4), torch.zeros(4).long()) == 0
    segmentation = pytest.importorskip("torchmetrics.segmentation")
    score = segmentation.DiceScore(num_classes=2, input_format="index")
    assert score(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long()) == 1


def test_hausdorff_in_an_image_that_is_not_square() -> None:
    a, b = torch.zeros(2, 8, 12, dtype=torch.bool)
    a[2, 2] = b[2, 5] = True
    assert hausdorff(a, b) == hausdorff(a, b, boundaries=False) == 3
    says(7, "3", "5.099")
    tm = torchmetrics()
    if tm.__version__ != "1.9.0":
        pytest.skip(f"torchmetrics {tm.__version__} is not the one that the table speaks of")
    segmentation = pytest.importorskip("torchmetrics.segmentation")
    theirs = segmentation.HausdorffDistance(num_classes=2, include_background=False, input_format="index")
    assert theirs(a[None].long(), b[None].long()).item() == pytest.approx(math.sqrt(26))


def test_hausdorff_of_outlines_or_of_all_pixels() -> None:
    square = torch.zeros(15, 17, dtype=torch.bool)
    square[2:13, 2:13] = True
    holed = square.clone()
    holed[6:9, 6:9] = False
    assert hausdorff(square, holed) == 3
    assert hausdorff(square, holed, boundaries=False) == 2
    says(8, "3", "2")
    skimage = pytest.importorskip("skimage.metrics")
    assert skimage.hausdorff_distance(square.numpy(), holed.numpy()) == 2


def test_percentile_of_each_way_or_of_both_together() -> None:
    target = torch.zeros(30, 60, dtype=torch.bool)
    target[5:25, 5:25] = True
    stray = target.clone()
    stray[5:25:3, 45] = True
    lines = [boundary(mask).numpy() for mask in (stray, target)]
    assert (lines[1].sum(), lines[0].sum()) == (76, 83)
    ways = [distance_transform_edt(~other)[line] for line, other in (lines, reversed(lines))]
    assert hausdorff(stray, target, 95) == max(np.percentile(way, 95) for way in ways) == 21
    assert np.percentile(np.concatenate(ways), 95) == 0
    says(9, "21", "0")


def test_empty_masks() -> None:
    empty, full = torch.zeros(4, 6, dtype=torch.bool), torch.ones(4, 6, dtype=torch.bool)
    assert (hausdorff(empty, empty), hausdorff(empty, full)) == (0, math.inf)
    says(10, "0; inf")
    skimage = pytest.importorskip("skimage.metrics")
    assert skimage.hausdorff_distance(empty.numpy(), empty.numpy()) == 0
    assert skimage.hausdorff_distance(empty.numpy(), full.numpy()) == math.inf
    torchmetrics()
    segmentation = pytest.importorskip("torchmetrics.segmentation")
    score = segmentation.HausdorffDistance(num_classes=2, include_background=False, input_format="index")
    with pytest.raises(RuntimeError):
        score(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long())
