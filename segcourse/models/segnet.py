"""SegNet: an encoder that remembers where each maximum was, and a decoder that puts it back there.

Badrinarayanan, Kendall & Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
segmentation", TPAMI 2017, section 3 (SegNet) and section 3.1 (SegNet-Basic), with the details of the authors' network
files. Nothing but the indices is handed across: 2 bits for each 2x2 window and channel.

Caffe's pooling rounds up where PyTorch's rounds down: a map of 45x60 becomes 23x30, then 12x15. Each unpooling is
therefore told the size to return to.
"""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.models.vgg import DEPTHS, WIDTHS, vgg16_features
from segcourse.transposed import bed_of_nails

Unpooling = Literal["indices", "nails", "bilinear", "transposed"]


class SegNet(nn.Module):
    """SegNet on VGG-16: (N, in_channels, H, W) -> (N, classes, H, W) scores, for any H and W.

    29,449,355 parameters for 11 classes, 15,872 of them in batch norm; 29,455,125 for 21. The decoder mirrors the
    thirteen convolutions of the encoder; the last one gives the scores, with neither norm nor ReLU.

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of the first stage; 64 in the paper.
        unpool: how the decoder upsamples, see `Unpool`. The paper's is "indices"; only "transposed" adds parameters.
    """

    def __init__(self, in_channels: int = 3, classes: int = 11, width: int = 64, unpool: Unpooling = "indices") -> None:
        super().__init__()
        _require_positive(in_channels=in_channels, classes=classes, width=width)
        self.encoder = vgg16_features(in_channels, width, batch_norm=True)
        for stage in self.encoder.children():
            stage.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True, return_indices=True)
        outputs = [width * multiple for multiple in WIDTHS]
        inputs = [width, *outputs[:-1]]  # of each stage; the first decodes to `width` channels, then to scores
        self.unpool = nn.ModuleList(Unpool(c, unpool) for c in reversed(outputs))
        self.decoder = nn.ModuleList(
            _decoder_stage(c_in, c_out, depth - (number == 0))
            for number, (depth, c_in, c_out) in reversed(list(enumerate(zip(DEPTHS, outputs, inputs))))
        )
        self.score = nn.Conv2d(width, classes, 3, padding=1)
        _he(self.decoder)
        _he(self.score)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max, as large as the image."""
        return self.score(_encode_decode(self.encoder, self.unpool, self.decoder, image))


class SegNetBasic(nn.Module):
    """SegNet-Basic: (N, in_channels, H, W) -> (N, classes, H, W) scores, for any H and W.

    1,416,587 parameters for 11 classes. Counted are eight 7x7 convolutions with their biases (9,472 for the first,
    200,768 each for the others), two for each channel of eight batch norms (1,024 in all), and the 1x1 score layer
    (715). The network file begins with a local response normalization of the image, which has no parameters and
    is left to the preparation of the data. The decoder has no ReLU. Every layer is as wide as the others.

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of every layer; 64 in the paper.
        depth: number of encoders, and of decoders; 4 in the paper.
        kernel: side of the kernels, odd; 7 in the paper.
        unpool: how the decoder upsamples, see `Unpool`. The paper's is "indices"; only "transposed" adds parameters.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 11,
        width: int = 64,
        depth: int = 4,
        kernel: int = 7,
        unpool: Unpooling = "indices",
    ) -> None:
        super().__init__()
        _require_positive(in_channels=in_channels, classes=classes, width=width, depth=depth, kernel=kernel)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that sizes stay; got {kernel}")

        def normed(channels: int, *after: nn.Module) -> nn.Sequential:
            conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
            return nn.Sequential(conv, nn.BatchNorm2d(width), *after)

        self.encoder = nn.Sequential(
            *(
                normed(
                    width if level else in_channels, nn.ReLU(), nn.MaxPool2d(2, 2, ceil_mode=True, return_indices=True)
                )
                for level in range(depth)
            )
        )
        self.unpool = nn.ModuleList(Unpool(width, unpool) for _ in range(depth))
        self.decoder = nn.ModuleList(normed(width) for _ in range(depth))
        self.score = nn.Conv2d(width, classes, 1)
        for part in (self.encoder, self.decoder, self.score):
            _he(part)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max, as large as the image."""
        return self.score(_encode_decode(self.encoder, self.unpool, self.decoder, image))


class Unpool(nn.Module):
    """Twice the size, in one of four ways: (N, C, h, w) -> (N, C, H, W), where H is 2h or 2h - 1, and W alike.

    - "indices": each value where its maximum was, zeros elsewhere (SegNet).
    - "nails": each value at the top left of its 2x2 cell, zeros elsewhere.
    - "bilinear": interpolated, half-pixel centres.
    - "transposed": a learned transposed convolution, 2x2 with stride 2 from all channels to all: 4C² + C parameters.

    Args:
        channels: C.
        how: one of the four words.
    """

    def __init__(self, channels: int, how: Unpooling = "indices") -> None:
        super().__init__()
        if how not in get_args(Unpooling):
            raise ValueError(f"unpool must be one of {', '.join(get_args(Unpooling))}; got {how!r}")
        self.how = how
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, stride=2) if how == "transposed" else None

    def forward(self, x: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
        """Unpool to `size` (H, W). `indices` (N, C, h, w) are those of the 2x2 max pooling of a map of that size."""
        if self.how == "indices":
            return F.max_unpool2d(x, indices, kernel_size=(2, 2), output_size=size)
        if self.deconv is not None:
            x = self.deconv(x)
        elif self.how == "nails":
            x = bed_of_nails(x, 2)
        else:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return x[:, :, : size[0], : size[1]]


def _encode_decode(encoder: nn.Sequential, unpool: nn.ModuleList, decoder: nn.ModuleList, x: Tensor) -> Tensor:
    """Stages of the encoder give a pooled map and its indices; the decoder's last stage meets the first indices."""
    if x.dim() != 4:
        raise ValueError(f"expected images (N, C, H, W), got {tuple(x.shape)}")
    remembered = []
    for encode in encoder:
        size = (x.shape[2], x.shape[3])  # 3x3 and 7x7 convolutions keep it
        x, indices = encode(x)
        remembered.append((indices, size))
    for up, decode in zip(unpool, decoder):
        x = decode(up(x, *remembered.pop()))
    return x


def _decoder_stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    """3x3 convolutions with norm and ReLU; the last one changes the channels."""
    layers: list[nn.Module] = []
    for i in range(depth):
        channels = out_channels if i == depth - 1 else in_channels
        layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


def _he(network: nn.Module) -> None:
    """He et al. 2015 (ICCV, equation 10), as section 3.2 of the paper has it; biases zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _require_positive(**arguments: int) -> None:
    for name, value in arguments.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
