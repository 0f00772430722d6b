"""What a pixel's mistake costs: cross-entropy with weights, and weights for classes that are rare.

Eigen & Fergus, "Predicting depth, surface normals and semantic labels with a common multi-scale convolutional
architecture", ICCV 2015, section 4.3.2, and Badrinarayanan, Kendall & Cipolla, "SegNet", TPAMI 2017, section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcourse.void import VOID


def weighted_cross_entropy(
    scores: Tensor, labels: Tensor, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None
) -> Tensor:
    """Return the weighted mean of the cross-entropies of pixels (or of images), a single number.

    The sum of weight times cross-entropy is divided by the sum of the weights, so doubling all of them changes nothing.
    Void has the weight 0; the loss is 0 where all is void.

    Args:
        scores: (N, C, ...) before the soft-max.
        labels: (N, ...) int64: 0..C-1, or 255 for void.
        class_weights: (C,), a factor for each class.
        pixel_weights: (N, ...), a factor for each label.
    """
    known = labels != VOID
    weights = known.to(scores.dtype)
    if class_weights is not None:
        weights = weights * class_weights[labels.where(known, 0)]
    if pixel_weights is not None:
        weights = weights * pixel_weights
    losses = F.cross_entropy(scores, labels, ignore_index=VOID, reduction="none")
    return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(scores.dtype).tiny)


def class_frequencies(masks: Tensor, classes: int) -> Tensor:
    """Return the share of each class in the images that hold it, (C,) float64; 0 for a class that none holds.

    freq(c) is the number of pixels of class c over the number of all pixels, void included, of the images in which c
    occurs.

    Args:
        masks: (N, H, W) int64, void = 255.
        classes: C.
    """
    keys = torch.arange(len(masks), device=masks.device)[:, None, None] * (VOID + 1) + masks
    counts = torch.bincount(keys.flatten(), minlength=len(masks) * (VOID + 1)).view(-1, VOID + 1)[:, :classes]
    pixels = (counts > 0).sum(0) * masks[0].numel() if len(masks) else counts.sum(0)
    return counts.sum(0) / pixels.clamp(min=1).double()


def median_frequency_weights(masks: Tensor, classes: int) -> Tensor:
    """Return a weight for each class, median frequency over its own: (C,) float32, for `F.cross_entropy`.

    Frequencies are those of `class_frequencies`, and the median is taken over the classes that occur. A class that does
    not occur gets 0. Their square roots weigh more mildly.
    """
    frequency = class_frequencies(masks, classes)
    present = frequency > 0
    if not present.any():
        raise ValueError("no pixel of any class in these masks: nothing to weigh")
    median = torch.quantile(frequency[present], 0.5)
    return torch.where(present, median / frequency, 0.0).float()
