"""A small network with a context module: a stem that halves the map, then 3x3 layers whose rates are to be chosen.

With the same list length every choice of rates has the same weights and the same cost; only the field differs. The idea
of the module is that of Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016, section 3.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.receptive_field import Layer, compound


class ContextNet(nn.Module):
    """Stem, context module, scores: (N, in_channels, H, W) -> (N, classes, H, W), for any H and W.

    The stem halves the map `halvings` times, each by a 4x4 convolution of stride 2 and a 3x3 one. The context module is
    a 3x3 convolution for each rate, padded by it. Batch norm and ReLU follow each convolution. The scores are a 1x1
    convolution, interpolated bilinearly; 4x4 kernels with a padding of 1 keep the units centred on their pixels.

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of all maps.
        halvings: of the stem; the context module works on units 2**halvings pixels apart.
        rates: of the context module, (1, 1, 1) for plain layers.
    """

    def __init__(self, in_channels: int, classes: int, width: int, halvings: int, rates: Sequence[int]) -> None:
        super().__init__()
        for name, value in {"width": width, "classes": classes, "halvings": halvings}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if min(rates, default=1) < 1:
            raise ValueError(f"rates must be whole numbers from 1 on, got {tuple(rates)}")
        self.rates = tuple(rates)
        self.stem = nn.Sequential()
        for number in range(halvings):
            self.stem.append(_layer(in_channels if number == 0 else width, width, kernel=4, stride=2, padding=1))
            self.stem.append(_layer(width, width, kernel=3, padding=1))
        self.context = nn.Sequential(*(_layer(width, width, 3, padding=rate, rate=rate) for rate in rates))
        self.score = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max, as large as the image."""
        scores = self.score(self.context(self.stem(image)))
        return F.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=False)

    @property
    def field(self) -> int:
        """Receptive field of a score before the interpolation, in pixels."""
        halving = (Layer(4, stride=2, padding=1), Layer(3, padding=1))
        context = [Layer(3, padding=rate, dilation=rate) for rate in self.rates]
        return compound([*halving * (len(self.stem) // 2), *context]).kernel


def _layer(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0, rate: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation=rate, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())
