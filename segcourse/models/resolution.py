"""Networks at another resolution than their images': most of a small network's time goes into its finest maps.

A map of half the side has a quarter of the pixels. So a network that works at half the resolution sees four times as
many images in the same time, and its receptive field, in pixels of the image, is twice as wide. What it pays is detail:
what is narrower than its pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HalfResolution(nn.Module):
    """A network between a convolution that halves the image and an enlargement of its scores to twice their side.

    (N, in_channels, H, W) -> (N, classes, H, W), for any H and W: where they are no multiples of what the network
    takes, the image's last row and column are repeated, and the scores of what was added are cut away.

    Args:
        network: (N, width, h, w) -> scores (N, classes, h, w), where h and w are multiples of `multiple`.
        width: channels that the network takes.
        multiple: 2 to the power of the number of poolings, for a padded U-Net.
        in_channels: channels of the image.

    Raises:
        ValueError: a number is less than 1.
    """

    def __init__(self, network: nn.Module, width: int = 16, multiple: int = 16, in_channels: int = 3) -> None:
        super().__init__()
        for name, value in (("width", width), ("multiple", multiple), ("in_channels", in_channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.multiple = multiple
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max, as large as the image."""
        height, width = image.shape[2:]
        step = 2 * self.multiple
        padded = F.pad(image, (0, -width % step, 0, -height % step), mode="replicate")
        scores = self.network(self.stem(padded))
        return F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]


class AtSizes(nn.Module):
    """A network that is asked about each image at one or more sizes; its probabilities, as large as the image.

    (N, C, H, W) -> (N, classes, H, W): the mean over the sizes of the soft-max of the scores. A network knows things by
    the size at which it has seen them. One that was trained on smaller images does better when it is asked about
    images made as small.

    Args:
        network: (N, C, h, w) -> scores (N, classes, h, w).
        sizes: h and w, of each. Each pixel of a smaller image is a mean over its surroundings, so that nothing narrow
            is skipped.
        mirror: ask about the mirror image as well, and turn the answer back.

    Raises:
        ValueError: there is no size.
    """

    def __init__(self, network: nn.Module, *sizes: tuple[int, int], mirror: bool = False) -> None:
        super().__init__()
        if not sizes:
            raise ValueError("no size: give the height and width that the network is to see, such as (120, 160)")
        self.network, self.sizes, self.mirror = network, sizes, mirror

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities of the classes; they add up to 1."""
        found = []
        for size in self.sizes:
            resized = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
            answers = [self.network(resized).softmax(1)]
            if self.mirror:
                answers.append(self.network(resized.flip(-1)).softmax(1).flip(-1))
            found += [F.interpolate(a, image.shape[2:], mode="bilinear", align_corners=False) for a in answers]
        return torch.stack(found).mean(0)
