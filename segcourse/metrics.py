"""How good a segmentation is: counts of what was taken for what, and how far apart outlines lie.

Every metric of regions comes from one table, the confusion matrix; see Long, Shelhamer & Darrell, "Fully convolutional
networks for semantic segmentation", CVPR 2015, section 5, for those that the field computes from it. Distances and
boundaries see what counts do not. Libraries disagree on both: docs/metrics.md says where and why, and tests hold it to
that.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from segcourse.void import VOID

BLOCK = 2**15
"""Pixels that are counted at a time on the CPU: what is computed for them stays in the processor's cache."""
MOST_ROWS = 1024
"""Ignored labels farther than this from the classes are masked out; nearer ones are counted and then dropped."""


class ConfusionMatrix:
    """Counts pixels by what they are and what they were taken for.

    It keeps C x C numbers however many batches are added. `a + b` is the matrix of the pixels of both: parts of a data
    set may be counted anywhere and added up.

    A metric of a class may be 0/0. The intersection over union is, for a class that is neither in the targets nor in
    the predictions, an *absent* one. Such a class counts as `absent`. By default that is nan: means leave it out, and
    `left_out` says how many they left out. A class that is only predicted is not absent: its IoU is 0.

    Attributes:
        counts: (C, C) int64 on the CPU: row t, column p counts the pixels of class t that were labelled p.
        ignore: the label of pixels that are not counted, by their target; None counts all.
        absent: what a metric of a class counts as where it is 0/0; nan leaves it out of means.
    """

    def __init__(self, classes: int, ignore: int | None = VOID, absent: float = math.nan) -> None:
        if classes < 1:
            raise ValueError(f"{classes} classes: expected at least 1")
        if not (math.isnan(absent) or 0 <= absent <= 1):
            raise ValueError(f"absent={absent}: expected a share from 0 to 1, or nan to leave absent classes out")
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)
        self.ignore = ignore
        self.absent = absent

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Count the pixels of a batch: two tensors of one shape, such as (N, H, W), of whole numbers, on any device.

        Raises ValueError or TypeError where the shapes differ, where scores came instead of labels, or where a label
        is none of the classes; nothing is counted then. A prediction may be anything where the target is ignored. One
        of the classes may be the ignored label: then its pixels are not counted, and taking others for it is a mistake.
        """
        for name, labels in (("prediction", prediction), ("target", target)):
            if not isinstance(labels, Tensor):
                raise TypeError(f"the {name} is {type(labels).__name__}: expected a tensor of labels")
            if labels.is_floating_point() or labels.is_complex():
                raise TypeError(f"the {name} is {labels.dtype}: take the argmax of the scores over the classes first")
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        classes = len(self.counts)
        counts = None
        if prediction.device.type == target.device.type == "cpu":
            counts = _count_in_blocks(prediction, target, classes, self.ignore)
        if counts is None:
            counts = _count_masked(prediction.to(target.device), target, classes, self.ignore)
        self.counts += counts

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Return the matrix of the pixels of both. Raises ValueError where they do not count the same way."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if self._policy() != other._policy():
            raise ValueError(f"these do not count the same way: {self._policy()}, and {other._policy()}")
        both = ConfusionMatrix(len(self.counts), self.ignore, self.absent)
        both.counts = self.counts + other.counts
        return both

    def __str__(self) -> str:
        used = len(self.counts) - self.left_out
        out = f" ({self.left_out} left out)" if self.left_out else ""
        return (
            f"mean IoU {self.mean_iou:.3f} over {used} of {len(self.counts)} classes{out}, "
            f"accuracy {self.accuracy:.3f}, {int(self.counts.sum()):,} pixels"
        )

    def _policy(self) -> str:
        return f"{len(self.counts)} classes, ignore={self.ignore}, absent={self.absent}"

    def _of_classes(self, right: Tensor, of: Tensor) -> Tensor:
        """Divide, with `absent` for 0/0. An ignored class has no metric of its own."""
        shares = torch.where(of > 0, right / of, self.absent)
        if self.ignore is not None and 0 <= self.ignore < len(shares):
            shares[self.ignore] = math.nan
        return shares

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each class: the pixels that are right, that are in the targets, that are in the predictions."""
        counts = self.counts.double()
        return counts.diagonal(), counts.sum(1), counts.sum(0)

    @property
    def accuracy(self) -> float:
        """The share of pixels whose label is right; nan if there are none."""
        return float(self.counts.diagonal().sum() / self.counts.sum())

    @property
    def class_accuracy(self) -> Tensor:
        """The share of each class's own pixels whose label is right (its recall), (C,) float64; 0/0 if it has none."""
        right, target, _ = self._parts
        return self._of_classes(right, target)

    @property
    def mean_accuracy(self) -> float:
        """The mean of the classes' accuracies."""
        return float(self.class_accuracy.nanmean())

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class, (C,) float64; 0/0 for an absent class."""
        right, target, predicted = self._parts
        return self._of_classes(right, target + predicted - right)

    @property
    def mean_iou(self) -> float:
        """The mean over the classes that occur in the target or in the prediction."""
        return float(self.iou.nanmean())

    @property
    def left_out(self) -> int:
        """How many of the C classes the mean IoU leaves out."""
        return int(self.iou.isnan().sum())

    @property
    def frequency_weighted_iou(self) -> float:
        """The mean of the classes' IoU, weighted by their pixels in the targets; nan if there are none.

        A class that the targets do not have weighs nothing, whatever it counts as.
        """
        _, target, _ = self._parts
        return float((target * self.iou.nan_to_num()).sum() / target.sum())

    @property
    def dice(self) -> Tensor:
        """Dice coefficient, or F1, of each class, (C,) float64: 2 both / (target + prediction) = 2 IoU / (1 + IoU)."""
        right, target, predicted = self._parts
        return self._of_classes(2 * right, target + predicted)

    @property
    def mean_dice(self) -> float:
        """The mean over the classes that occur in the target or in the prediction."""
        return float(self.dice.nanmean())


def _count_in_blocks(prediction: Tensor, target: Tensor, classes: int, ignore: int | None) -> Tensor | None:
    """Count on the CPU; None where a label is out of range, so that pixels must be masked out or refused.

    The pair (t, p) is the number t · classes + p, and NumPy counts numbers. The ignored label has a row like the
    classes; it is not kept.
    """
    low, high = min(0, 0 if ignore is None else ignore), max(classes - 1, 0 if ignore is None else ignore)
    rows = high - low + 1
    if rows > MOST_ROWS or prediction.numel() == 0:
        return None
    p, t = prediction.detach().reshape(-1).numpy(), target.detach().reshape(-1).numpy()
    table = np.zeros(rows * classes, np.int64)
    for start in range(0, len(p), BLOCK):
        predicted, true = p[start : start + BLOCK], t[start : start + BLOCK]
        if predicted.min() < 0 or predicted.max() >= classes or true.min() < low or true.max() > high:
            return None
        pairs = np.multiply(true, classes, dtype=np.int64)
        pairs += predicted
        if low < 0:
            pairs -= low * classes
        table += np.bincount(pairs, minlength=rows * classes)
    counts = torch.from_numpy(table).view(rows, classes)
    if ignore is not None:
        counts[ignore - low] = 0
    own = counts[-low : classes - low].clone()
    return own if own.sum() == counts.sum() else None


def _count_masked(prediction: Tensor, target: Tensor, classes: int, ignore: int | None) -> Tensor:
    """Count on any device, where neither tensor needs to be in range outside of the pixels that count."""
    if ignore is not None:
        known = target != ignore
        prediction, target = prediction[known], target[known]
    prediction, target = prediction.flatten().long(), target.flatten().long()
    for name, labels in (("prediction", prediction), ("target", target)):
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            ignored = "no label is ignored" if ignore is None else f"the pixel is not ignored ({ignore})"
            raise ValueError(f"a label of the {name} is not in 0..{classes - 1}, and {ignored}")
    return torch.bincount(target * classes + prediction, minlength=classes**2).cpu().view(classes, classes)


def boundary_band(masks: Tensor, radius: int = 3) -> Tensor:
    """Return where a change of label is near, (N, H, W) bool: the band in which "where" is decided.

    A pixel is in the band if the square of side 2·radius + 1 around it holds two different classes. Void is no class,
    so the rim of a void region is no boundary; void pixels are outside the band. Kohli, Ladický & Torr, "Robust higher
    order potentials for enforcing label consistency", IJCV 2009, section 6, measure within such a band.

    Args:
        masks: (N, H, W) whole numbers.
        radius: in pixels, 1 or more.

    Raises:
        ValueError: the masks have another shape, or the radius is less than 1.
    """
    if masks.ndim != 3:
        raise ValueError(f"expected masks (N, H, W), got {tuple(masks.shape)}")
    if radius < 1:
        raise ValueError(f"radius={radius}: expected at least 1 pixel")
    void = masks == VOID
    side = 2 * radius + 1
    highest = F.max_pool2d(masks.float().masked_fill(void, -torch.inf), side, stride=1, padding=radius)
    lowest = -F.max_pool2d((-masks.float()).masked_fill(void, -torch.inf), side, stride=1, padding=radius)
    return (highest > lowest) & ~void


def boundary(mask: Tensor) -> Tensor:
    """Return a mask's pixels that have one of their four neighbours outside of it, (H, W) bool.

    Beyond the image nothing belongs to a mask, so its pixels at the image's border are boundary.

    Raises:
        TypeError, ValueError: the mask is not bool, or not (H, W).
    """
    from scipy.ndimage import binary_erosion

    inside = _bool_array(mask, "mask")
    return torch.from_numpy(inside & ~binary_erosion(inside)).to(mask.device)


def hausdorff(a: Tensor, b: Tensor, percentile: float = 100.0, boundaries: bool = True) -> float:
    """Return the Hausdorff distance of two masks, in pixels: how far the worst point of one lies from the other.

    From each point of one mask to the nearest of the other; the greatest of these distances, or a percentile of them
    (95 gives HD95, which a few stray pixels do not move); then the same the other way round, and the larger of the two.
    Huttenlocher, Klanderman & Rucklidge, "Comparing images using the Hausdorff distance", PAMI 1993, sections 2 and 3.
    Two distance transforms find all the distances, so the time grows with the pixels and not with pairs of points.

    Both masks empty: 0, they are the same. One of them empty: inf, there is no nearest point. To leave void out, take
    it out of both masks first: `a & known`, `b & known`.

    Args:
        a, b: (H, W) bool, for one class: `labels == car`.
        percentile: from 0 to 100, interpolated linearly between two distances.
        boundaries: whether the points are the pixels of the outlines (`boundary`) or all pixels of the masks. Holes and
            percentiles come out differently: most pixels of two masks that overlap lie at distance 0.

    Raises:
        TypeError, ValueError: the masks are not bool, not (H, W), of different shapes, or there is no such percentile.
    """
    from scipy.ndimage import distance_transform_edt

    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile={percentile}: expected a number from 0 to 100")
    first, second = _two_masks(a, b)
    if boundaries:
        first, second = (boundary(torch.from_numpy(mask)).numpy() for mask in (first, second))
    if not first.any() or not second.any():
        return 0.0 if first.any() == second.any() else math.inf
    ways = (distance_transform_edt(~second)[first], distance_transform_edt(~first)[second])
    return float(max(np.percentile(distances, percentile) for distances in ways))


def boundary_f1(prediction: Tensor, target: Tensor, tolerance: float = 2.0) -> float:
    """Return the F1 score of a mask's outline: how much of each outline lies near the other.

    Precision is the share of the prediction's boundary that lies within `tolerance` of the target's, recall the share
    of the target's that lies within it of the prediction's; F1 is 2PR / (P + R). Csurka, Larlus & Perronnin, "What is
    a good evaluation measure for semantic segmentation?", BMVC 2013, section 2.

    Both masks empty: 1, there is no boundary to miss. One of them empty: 0.

    Args:
        prediction, target: (H, W) bool, for one class.
        tolerance: Euclidean distance of pixels, 0 or more.

    Raises:
        TypeError, ValueError: the masks are not bool, not (H, W), of different shapes, or the tolerance is negative.
    """
    from scipy.ndimage import distance_transform_edt

    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}: expected 0 pixels or more")
    lines = [boundary(torch.from_numpy(mask)).numpy() for mask in _two_masks(prediction, target)]
    if not lines[0].any() or not lines[1].any():
        return 1.0 if lines[0].any() == lines[1].any() else 0.0
    precision, recall = (
        (distance_transform_edt(~other)[line] <= tolerance).mean() for line, other in (lines, reversed(lines))
    )
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _bool_array(mask: Tensor, name: str) -> npt.NDArray[np.bool_]:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"the {name} is {kind}: expected a bool tensor of one class, such as `labels == 3`")
    if mask.ndim != 2:
        raise ValueError(f"the {name} is {tuple(mask.shape)}: expected (H, W), one mask at a time")
    return mask.cpu().numpy()


def _two_masks(a: Tensor, b: Tensor) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    first, second = _bool_array(a, "first mask"), _bool_array(b, "second mask")
    if first.shape != second.shape:
        raise ValueError(f"masks {first.shape} and {second.shape} differ in shape")
    return first, second
