"""U-Net: a contracting path, an expanding path, and every map of the one handed across to the other.

Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015,
section 2 and figure 1. Its convolutions are not padded, so each pixel of the output has seen real pixels only, the
output is smaller than the image, and skips are cropped before they are concatenated.
"""

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """U-Net: (N, in_channels, H, W) -> (N, classes, H - 184, W - 184) scores; as large as the image if padded.

    31,030,658 parameters with the default arguments, 31,033,045 for 3 channels and 21 classes; padding changes
    none. The paper's image of 572 gives an output of 388; the smallest, 188, gives 4. The side must be 16n + 12,
    or 16n if padded. With another depth, `output_margin` and `nearest_valid_sizes` know the figures.

    Weights start from N(0, 2/fan_in), as section 3 of the paper asks.

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of the first level; they double from level to level. 64 in the paper.
        depth: number of poolings; 4 in the paper.
        padded: pad every 3x3 convolution, so that sizes stay (not in the paper; what most people use).
        batch_norm: normalize after each 3x3 convolution (not in the paper). Biases stay.
        dropout: probability at the end of the contracting path; section 3.1 has it, and names no figure.
        skips: hand the maps across. Without, the network is an encoder and a decoder, for comparison.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        width: int = 64,
        depth: int = 4,
        padded: bool = False,
        batch_norm: bool = False,
        dropout: float = 0.5,
        skips: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("classes", classes), ("width", width), ("depth", depth)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.in_channels, self.depth, self.padded, self.skips = in_channels, depth, padded, skips
        widths = [width * 2**level for level in range(depth + 1)]
        coming = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(_double(c, w, padded, batch_norm) for c, w in zip(coming, widths))
        self.pool = nn.MaxPool2d(2, stride=2)
        self.drop = nn.Dropout(dropout)
        rising = widths[-2::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in rising)
        self.merge = nn.ModuleList(_double(w * (1 + skips), w, padded, batch_norm) for w in rising)
        self.score = nn.Conv2d(width, classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                # Each output of the 2x2 up-convolution of stride 2 adds up one tap of every channel.
                fan_in = layer.in_channels * (layer.kernel_size[0] ** 2 if isinstance(layer, nn.Conv2d) else 1)
                nn.init.normal_(layer.weight, std=(2 / fan_in) ** 0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max; pixel (0, 0) belongs to the image's (92, 92), or to (0, 0) if padded.

        Raises ValueError for a size that does not halve `depth` times without a rest; it names the nearest ones.
        """
        self._require(image)
        skips = []
        x = self.down[0](image)
        for stage in self.down[1:]:
            skips.append(x)
            x = stage(self.pool(x))
        x = self.drop(x)
        for up, merge in zip(self.up, self.merge):
            x, skip = up(x), skips.pop()
            x = merge(crop_and_concat(skip, x) if self.skips else x)
        return self.score(x)

    def _require(self, image: Tensor) -> None:
        if image.dim() != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"UNet takes images (N, {self.in_channels}, H, W), got {tuple(image.shape)}")
        for name, size in zip(("height", "width"), image.shape[2:]):
            nearest = nearest_valid_sizes(size, self.depth, self.padded)
            if size not in nearest:
                raise ValueError(
                    f"the image's {name} of {size} does not halve {self.depth} times without a rest; "
                    f"the nearest that {'do' if len(nearest) > 1 else 'does'}: {' and '.join(map(str, nearest))}"
                )


def crop_and_concat(skip: Tensor, x: Tensor) -> Tensor:
    """The middle of `skip` (N, C, H, W) before `x` (N, D, h, w), channel on channel: (N, C + D, h, w).

    Where H - h is odd, the crop begins at its half rounded down. Raises ValueError where `skip` is the smaller.
    """
    (height, width), (h, w) = skip.shape[2:], x.shape[2:]
    if height < h or width < w:
        raise ValueError(f"cannot crop a map of {height}x{width} to {h}x{w}: the skip must be the larger one")
    top, left = (height - h) // 2, (width - w) // 2
    return torch.cat([skip[:, :, top : top + h, left : left + w], x], dim=1)


def output_margin(depth: int = 4) -> int:
    """How much smaller the output of the valid network is than its image: 184 for the paper's depth of 4.

    Two 3x3 convolutions take 4 pixels of their level: `4 · 2^level` of the image, twice but at the bottom.
    """
    return 4 * (2 * sum(2**level for level in range(depth)) + 2**depth)


def nearest_valid_sizes(size: int, depth: int = 4, padded: bool = False) -> list[int]:
    """The valid input length below and above `size`, or `size` alone if it is valid; [188] for less than 188.

    A level of length n needs `(n - 4) / 2` below it to be whole, or n / 2 if padded; the output needs a pixel.
    """
    step = 2**depth
    first = 0 if padded else 4 * sum(2**level for level in range(depth))  # an image of `first` leaves nothing below
    below = (size - first) // step * step + first
    candidates = [below] if below == size else [below, below + step]
    smallest = 1 if padded else output_margin(depth) + 1
    valid = [n for n in candidates if n >= smallest]
    return valid or [first + -(-(smallest - first) // step) * step]


def _double(in_channels: int, width: int, padded: bool, batch_norm: bool) -> nn.Sequential:
    """Two 3x3 convolutions, each with its ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, width):
        layers.append(nn.Conv2d(channels, width, 3, padding=int(padded)))
        if batch_norm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU(inplace=True))  # a map of its own would only cost memory
    return nn.Sequential(*layers)
