"""DeepLab on VGG-16: LargeFOV (v1) and the pyramid of rates ASPP-L (v2), both with scores every 8 pixels.

Chen et al., "Semantic image segmentation with deep convolutional nets and fully connected CRFs", ICLR 2015, section 3,
and "DeepLab: semantic image segmentation with deep convolutional nets, atrous convolution, and fully connected CRFs",
TPAMI 2018, section 3, with the details of the authors' network files. The CRF is not part of these networks.

What differs from VGG-16: all poolings are 3x3, padded by 1 and rounding up, so that unit i of every map is centred
on pixel `i · stride`; pool4 and pool5 have lost their stride, and conv5 has rate 2 in exchange. So far this is
`segcourse.atrous.set_output_stride(features, 8)`, but for one thing: pool5 should then have rate 2 as well, and Caffe's
poolings had none.

The first dense layer becomes 3x3 at a large rate. Where VGG-16's 7x7 taps lie 32 pixels apart, 4 units of stride 8,
LargeFOV takes every third of them: rate 12. Both span 25 units; the paper's field of view of 224 pixels is VGG's
window, 7 units of 32 pixels. What a score really depends on is more: 435 pixels, and 611 in ASPP-L.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.models.vgg import VGG16, vgg16_features

STRIDE = 8
"""Pixels between neighbouring scores."""


class DeepLab(nn.Module):
    """DeepLab v1 and v2 on VGG-16: (N, in_channels, H, W) -> (N, classes, H, W) scores, for any H and W.

    One branch for each rate: a 3x3 convolution with this rate, two 1x1 ones, the last of them the scores. Branches are
    added up. `LargeFOV` and `ASPPL` are the published networks; this class is for other rates. On a small map most taps
    of a large rate read padding (`segcourse.atrous.valid_taps`): an image of 96x128 has a map of 13x17.

    The paper starts from a VGG-16 trained on ImageNet, see `load_vgg`. Here the scores' weights start from N(0, 0.01²),
    the rest as in VGG16.

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of the first stage; 64 in the paper. The dense layers have 16·width units.
        rates: of the branches.
        average: follow pool5 by a 3x3 average of stride 1, as LargeFOV does.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 21,
        width: int = 64,
        rates: Sequence[int] = (6, 12, 18, 24),
        average: bool = False,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if not rates or min(rates) < 1:
            raise ValueError(f"rates must be one or more whole numbers from 1 on, got {tuple(rates)}")
        self.features = vgg16_features(in_channels, width)
        for number, stage in enumerate(self.features.children(), start=1):
            stage.pool = nn.MaxPool2d(3, stride=2 if number < 4 else 1, padding=1, ceil_mode=True)
        for layer in self.features.get_submodule("stage5").children():
            if isinstance(layer, nn.Conv2d):
                layer.dilation = layer.padding = (2, 2)
        self.average = nn.AvgPool2d(3, stride=1, padding=1) if average else nn.Identity()
        self.branches = nn.ModuleList(_Branch(8 * width, 16 * width, classes, rate) for rate in rates)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max, as large as the image: `scores`, interpolated bilinearly."""
        return upsample(self.scores(image), image)

    def scores(self, image: Tensor) -> Tensor:
        """The scores before upsampling, (N, classes, h, w); score (i, j) is centred on pixel (8i, 8j).

        h is ceil((H-1)/8) + 1: 41 for 321. Where H is 8n + 1, the last score lies on the last pixel, otherwise beyond.
        The paper trains on these: for sizes 8n + 1, `labels[:, ::8, ::8]` are the labels of the pixels they lie on.
        """
        if image.dim() != 4:
            raise ValueError(f"expected images (N, C, H, W), got {tuple(image.shape)}")
        x = self.average(self.features(image))
        return torch.stack([branch(x) for branch in self.branches]).sum(0)

    def load_vgg(self, vgg: VGG16) -> "DeepLab":
        """Start from a trained classifier, and return the network. The scores stay as they are.

        The convolutions are taken over whole. fc6 and fc7 are thinned out, as in the paper (section 3.2). Which numbers
        stay is our choice: every third of the 7x7 taps, every fourth of the 4096 units. Each branch gets a copy.

        Raises ValueError where the convolutions have other shapes.
        """
        own = {name: value.shape for name, value in self.features.state_dict().items()}
        given = {name: value.shape for name, value in vgg.features.state_dict().items()}
        if differ := [name for name in sorted(own.keys() | given.keys()) if own.get(name) != given.get(name)]:
            raise ValueError(
                f"the two networks differ in {', '.join(differ)}: give both the same in_channels and width, "
                "and the classifier no batch_norm"
            )
        self.features.load_state_dict(vgg.features.state_dict())
        dense = vgg.classifier.state_dict()
        kept = {
            "fc6.weight": dense["fc6.weight"].unflatten(1, (-1, 7, 7))[::4, :, ::3, ::3],
            "fc6.bias": dense["fc6.bias"][::4],
            "fc7.weight": dense["fc7.weight"][::4, ::4, None, None],
            "fc7.bias": dense["fc7.bias"][::4],
        }
        for branch in self.branches:
            branch.load_state_dict(kept, strict=False)
        return self


class _Branch(nn.Sequential):
    """fc6 at a rate, fc7, scores: (N, in_channels, h, w) -> (N, classes, h, w)."""

    def __init__(self, in_channels: int, units: int, classes: int, rate: int) -> None:
        fc6 = nn.Conv2d(in_channels, units, 3, padding=rate, dilation=rate)
        fc7 = nn.Conv2d(units, units, 1)
        score = nn.Conv2d(units, classes, 1)
        layers = {"fc6": fc6, "relu6": nn.ReLU(), "drop6": nn.Dropout(0.5)}
        layers |= {"fc7": fc7, "relu7": nn.ReLU(), "drop7": nn.Dropout(0.5), "score": score}
        super().__init__(OrderedDict(layers))
        for dense in (fc6, fc7):
            nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.normal_(score.weight, std=0.01)
        for layer in (fc6, fc7, score):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class LargeFOV(DeepLab):
    """DeepLab-LargeFOV, the network of v1: one branch of rate 12 after an average pooling; arguments as for `DeepLab`.

    20,505,429 parameters for 21 classes: 14,714,688 in the features, 4,719,616 in fc6, 1,049,600 in fc7 and 21,525 in
    the scores. With 4096 units and 7x7 taps, as in VGG-16, it would be 134 million.
    """

    def __init__(self, in_channels: int = 3, classes: int = 21, width: int = 64, rates: Sequence[int] = (12,)) -> None:
        super().__init__(in_channels, classes, width, rates, average=True)


class ASPPL(DeepLab):
    """DeepLab v2 with ASPP-L: four branches of rates 6, 12, 18 and 24, added up; arguments as for `DeepLab`.

    37,877,652 parameters for 21 classes: the features, and 5,790,741 in each branch.
    """


def upsample(scores: Tensor, image: Tensor) -> Tensor:
    """Interpolate scores bilinearly to the size of the image: (N, K, h, w) -> (N, K, H, W).

    Score i lies on pixel 8i. So corners are aligned on 8(h-1) + 1 pixels, and what lies beyond the image is cut off;
    stretched over the image with half-pixel centres they would move, by up to 3.5 pixels.
    """
    height, width = (STRIDE * (n - 1) + 1 for n in scores.shape[2:])
    full = F.interpolate(scores, size=(height, width), mode="bilinear", align_corners=True)
    return full[:, :, : image.shape[2], : image.shape[3]]
