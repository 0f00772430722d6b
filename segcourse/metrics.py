"""How good a segmentation is: counts of what was taken for what, and where the labels change.

Everything comes from one table, the confusion matrix; see Long, Shelhamer & Darrell, "Fully convolutional networks for
semantic segmentation", CVPR 2015, section 5, for the metrics that the field computes from it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcourse.void import VOID


class ConfusionMatrix:
    """Counts pixels by what they are and what they were taken for; void pixels (255) are not counted.

    Attributes:
        counts: (C, C) int64 on the CPU: row t, column p counts the pixels of class t that were labelled p.
    """

    def __init__(self, classes: int) -> None:
        if classes < 1:
            raise ValueError(f"{classes} classes: expected at least 1")
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Count the pixels of a batch: two tensors of one shape, such as (N, H, W), of whole numbers.

        Raises ValueError or TypeError where the shapes differ, where scores came instead of labels, or where a label
        is none of the classes; a prediction may be anything where the target is void.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        for name, labels in (("prediction", prediction), ("target", target)):
            if labels.is_floating_point():
                raise TypeError(f"the {name} is {labels.dtype}: take the argmax of the scores over the classes first")
        classes = len(self.counts)
        known = target != VOID
        target, prediction = target[known].long(), prediction[known].to(target.device).long()
        for name, labels in (("prediction", prediction), ("target", target)):
            if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
                raise ValueError(f"a label of the {name} is not in 0..{classes - 1}, and not void in the target")
        self.counts += torch.bincount(target * classes + prediction, minlength=classes**2).cpu().view(classes, classes)

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class, (C,) float64; nan for a class that is in neither of the two."""
        both = self.counts.diagonal().double()
        return both / (self.counts.sum(0) + self.counts.sum(1) - both)

    @property
    def mean_iou(self) -> float:
        """The mean over the classes that occur in the target or in the prediction."""
        return float(self.iou.nanmean())

    @property
    def accuracy(self) -> float:
        """The share of pixels whose label is right."""
        return float(self.counts.diagonal().sum() / self.counts.sum())


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
