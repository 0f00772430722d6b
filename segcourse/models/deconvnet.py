"""DeconvNet: VGG-16 down to a single 1x1 map, and its mirror image back up by unpooling and deconvolution.

Noh, Hong & Han, "Learning deconvolution network for semantic segmentation", ICCV 2015, section 3 and the table of
its supplement. Unpooling puts each value where its maximum was and leaves zeros around; a deconvolution (a transposed
convolution of stride 1) fills them in.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.models.vgg import DEPTHS, WIDTHS, vgg16_features


class DeconvNet(nn.Module):
    """DeconvNet: (N, in_channels, H, W) -> (N, classes, H, W) scores; the paper's image is 224x224.

    251,805,653 parameters for 21 classes, 33,408 of them in batch norm; 88 % are the weights of fc6 (102,760,448), fc7
    (16,777,216) and the deconvolution of fc6 (102,760,448). H and W must be multiples of 32 and at least 32·kernel:
    an image of just that size has a single fc6 unit, and every pixel of its output sees all of it.

    Batch norm cannot train on one value a channel: with a 1x1 map, training needs two images or more in a batch.

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of the first stage; 64 in the paper. fc6 and fc7 have 64·width units.
        kernel: side of fc6 and of its deconvolution; 7 in the paper. A kernel of 2 takes images of 64x64.
    """

    def __init__(self, in_channels: int = 3, classes: int = 21, width: int = 64, kernel: int = 7) -> None:
        super().__init__()
        for name, value in (("classes", classes), ("kernel", kernel)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.in_channels, self.kernel = in_channels, kernel
        self.encoder = vgg16_features(in_channels, width, batch_norm=True)
        for layer in self.encoder.modules():
            if isinstance(layer, nn.MaxPool2d):
                layer.return_indices = True
        units = 64 * width
        self.fc6 = _normed(nn.Conv2d(8 * width, units, kernel))
        self.fc7 = _normed(nn.Conv2d(units, units, 1))
        self.fc6_deconv = _normed(nn.ConvTranspose2d(units, 8 * width, kernel))
        outputs = [width * multiple for multiple in WIDTHS]
        inputs = [width, *outputs[:-1]]  # of each stage; the first deconvolves to `width` channels, then come scores
        stages = reversed(list(zip(DEPTHS, outputs, inputs)))
        self.decoder = nn.ModuleList(_decoder_stage(c_in, c_out, depth) for depth, c_in, c_out in stages)
        self.score = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max, as large as the image. Raises ValueError for sizes that do not fit."""
        self._require(image)
        x, remembered = image, []
        for encode in self.encoder:
            x, indices = encode(x)
            remembered.append(indices)
        x = self.fc6_deconv(self.fc7(self.fc6(x)))
        for decode in self.decoder:
            x = decode(F.max_unpool2d(x, remembered.pop(), kernel_size=(2, 2)))
        return self.score(x)

    def _require(self, image: Tensor) -> None:
        smallest = 32 * self.kernel
        if image.dim() != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"DeconvNet takes images (N, {self.in_channels}, H, W), got {tuple(image.shape)}")
        for name, size in zip(("height", "width"), image.shape[2:]):
            if size < smallest or size % 32:
                below = size // 32 * 32
                nearest = [n for n in (below, below + 32) if n >= smallest] or [smallest]
                raise ValueError(
                    f"the image's {name} must be a multiple of 32 and at least {smallest}, got {size}; "
                    f"nearest: {' and '.join(map(str, nearest))}"
                )


def _decoder_stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    """3x3 deconvolutions with norm and ReLU; the last one changes the channels."""
    widths = [in_channels] * (depth - 1) + [out_channels]
    return nn.Sequential(*(_normed(nn.ConvTranspose2d(in_channels, w, 3, padding=1)) for w in widths))


def _normed(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU())
