"""FCN-32s, FCN-16s and FCN-8s: VGG-16 made fully convolutional, with scores from coarse and from fine maps added up.

Long, Shelhamer & Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, sections 3 and 4, with
the details of the authors' network files: the first convolution pads by 100, poolings round up, and every upsampling is
cropped by a fixed offset. `FCN.offsets` derives those offsets from where the maps lie; it copies none.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from segcourse.convolutionalize import convolutionalize
from segcourse.models.vgg import INPUT_SIZE, VGG16, pool_outputs, vgg16_features
from segcourse.transposed import bilinear_kernel

STRIDES = (32, 16, 8)
"""Steps of the finest score map, in pixels: the network's name."""


class Grid(NamedTuple):
    """Where the units of a map lie along one axis: unit i is centred on pixel `first + i · step`."""

    first: float = 0.0
    step: float = 1.0

    def conv(self, kernel: int, stride: int = 1, padding: int = 0) -> "Grid":
        """The grid after a convolution or a pooling: the centre of the first window, and longer steps."""
        return Grid(self.first + ((kernel - 1) / 2 - padding) * self.step, self.step * stride)

    def deconv(self, kernel: int, stride: int) -> "Grid":
        """The grid after a transposed convolution without padding: unit i stamps `kernel` units around its centre."""
        step = self.step / stride
        return Grid(self.first - (kernel - 1) / 2 * step, step)


def crop_offset(larger: Grid, smaller: Grid) -> int:
    """How many units of `larger` come before the place of the first unit of `smaller`.

    Raises ValueError where the grids do not lie on each other, or where `larger` begins too late.
    """
    offset = (smaller.first - larger.first) / larger.step
    if larger.step != smaller.step or offset < 0 or offset != int(offset):
        raise ValueError(f"a map that begins at {larger} cannot be cropped to one that begins at {smaller}")
    return int(offset)


class FCN(nn.Module):
    """FCN on VGG-16: (N, in_channels, H, W) -> (N, classes, H, W) scores, for any H and W with a padding of 97 or more.

    Parameters for 21 classes, those of the deconvolutions counted: 136,152,917 (32s), 134,815,994 (16s) and 134,489,759
    (8s). As in the network files, a deconvolution leads from all classes to all: 32s has 64·64·21² = 1,806,336 weights
    there, of which bilinear upsampling uses the diagonal, one kernel a class, and leaves the others zero.

    What starts how: score layers at zero, upsampling as bilinear interpolation, and the rest as VGG16 does. The last
    upsampling stays as it is; those between the maps are learned (both in the paper's section 4.3). So FCN-32s has no
    learned upsampling. See `load_vgg` and `from_stage` for what the paper starts from.

    Args:
        stride: 32, 16 or 8: the step of the finest score map.
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of the first stage; 64 in the paper. The dense layers have 64·width units.
        batch_norm: normalize after each 3x3 convolution (not in the paper).
        kernel: side of fc6, odd; 7 in the paper.
        padding: of the first convolution; 100 in the paper. At least 16·kernel - 31, so that scores reach the
            image's border: 81, or 17 for a kernel of 3. That is least work, but then all pixels beyond the outermost
            units have scores that run out to zero; with 32 more the first unit lies on the image's corner.
    """

    def __init__(
        self,
        stride: int = 8,
        in_channels: int = 3,
        classes: int = 21,
        width: int = 64,
        batch_norm: bool = False,
        kernel: int = 7,
        padding: int = 100,
    ) -> None:
        super().__init__()
        if stride not in STRIDES:
            raise ValueError(f"stride must be 32, 16 or 8, got {stride}")
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if kernel < 3 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and at least 3, got {kernel}")
        if padding < 16 * kernel - 31:
            raise ValueError(
                f"padding must be at least {16 * kernel - 31} for a kernel of {kernel}, got {padding}: "
                "the scores would not reach the image's border"
            )
        self.stride = stride
        self.features = vgg16_features(in_channels, width, batch_norm)
        self.padding = padding
        for layer in self.features.modules():
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
        first = self.features.get_submodule("stage1.conv1")
        assert isinstance(first, nn.Conv2d)
        first.padding = (padding, padding)
        units = 64 * width
        self.fc6 = nn.Conv2d(8 * width, units, kernel)
        self.fc7 = nn.Conv2d(units, units, 1)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        for dense in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
            if dense.bias is not None:
                nn.init.zeros_(dense.bias)
        self.score_fr = _score(units, classes)
        if stride < 32:
            self.score_pool4 = _score(8 * width, classes)
            self.up2 = _upsampling(classes, 2)
        if stride < 16:
            self.score_pool3 = _score(4 * width, classes)
            self.up4 = _upsampling(classes, 2)
        self.up = _upsampling(classes, stride).requires_grad_(False)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The crop offsets, from coarse to fine: (19,) for 32s, (5, 27) for 16s, (5, 9, 31) for 8s.

        Every layer has a grid of unit centres. A skip is cropped where the upsampled scores begin, the result where
        the image does: at the number of steps between the two first centres.
        """
        grid = Grid()
        pools = []
        for stage in self.features.children():
            for layer in stage.children():
                if isinstance(layer, nn.Conv2d):
                    grid = grid.conv(layer.kernel_size[0], layer.stride[0], int(layer.padding[0]))
                elif isinstance(layer, nn.MaxPool2d):
                    grid = grid.conv(2, 2)
            pools.append(grid)
        grid = grid.conv(self.fc6.kernel_size[0])
        found = []
        for pool in pools[3:1:-1][: STRIDES.index(self.stride)]:  # pool4, then pool3
            grid = grid.deconv(4, 2)
            found.append(crop_offset(pool, grid))
        grid = grid.deconv(2 * self.stride, self.stride)
        return (*found, crop_offset(grid, Grid()))

    def forward(self, image: Tensor) -> Tensor:
        """Scores before the soft-max, as large as the image. Raises ValueError where fc6 finds no room in pool5."""
        if image.dim() != 4:
            raise ValueError(f"expected images (N, C, H, W), got {tuple(image.shape)}")
        kernel = self.fc6.kernel_size[0]
        smallest = 32 * (kernel - 1) + 1 - 2 * (self.padding - 1)
        if min(image.shape[2:]) < smallest:
            raise ValueError(
                f"an image of {image.shape[2]}x{image.shape[3]} is too small: with a kernel of {kernel} and a padding "
                f"of {self.padding} both sides must be at least {smallest}; a padding of {16 * kernel - 15} takes all"
            )
        pools = pool_outputs(self.features, image)
        score = self.score_fr(self.dense(pools[4]))
        offsets = iter(self.offsets)
        if self.stride < 32:
            score = fuse(self.up2(score), self.score_pool4(pools[3]), next(offsets))
        if self.stride < 16:
            score = fuse(self.up4(score), self.score_pool3(pools[2]), next(offsets))
        return crop(self.up(score), next(offsets), image)

    def dense(self, pool5: Tensor) -> Tensor:
        """fc6 and fc7 as convolutions: (N, 8·width, h, w) -> (N, 64·width, h - kernel + 1, w - kernel + 1)."""
        return self.drop(self.relu(self.fc7(self.drop(self.relu(self.fc6(pool5))))))

    def load_vgg(self, vgg: VGG16) -> "FCN":
        """Take over every number of a trained classifier but those of its last layer, and return the network.

        fc6 and fc7 become convolutions: the same numbers in another shape. The scores stay as they are: those of the
        classifier are of other classes. Raises ValueError where the two have other shapes.
        """
        dense = convolutionalize(vgg, INPUT_SIZE).state_dict()
        self._take({n.removeprefix("classifier."): v for n, v in dense.items() if "fc8" not in n})
        return self

    def from_stage(self, coarser: "FCN") -> "FCN":
        """Start from the trained network of twice the stride (section 4.2), and return this one.

        All layers that both have are copied; the new skip's scores are zero and the new upsampling is bilinear. If
        something has trained the last upsampling of `coarser`, which is fixed, that is lost.

        At hand-over the score maps are equal, number for number. The outputs are *nearly* equal, for bilinear
        upsampling twice, by 2 and then by f, is not bilinear upsampling by 2f. The line between two scores is met at
        1/4 and 3/4 of the way and joined up from there, so the corner over each score is cut off. Along an axis, with s
        the scores, zero beyond the border:

        - where the nearest score is at least a quarter of a step away, the two are equal: half of the pixels;
        - elsewhere they differ by at most |s[i-1] - 2 s[i] + s[i+1]| / 8, at the score itself. Where scores run
          straight, nothing differs.

        Other kernels make it exact, at a price. The tent factors: tent of 2f = (1/2, 1, 1/2) spread by f, convolved
        with the tent of f. So upsampling by 2 with those three taps, then bilinearly by f, is upsampling by 2f. But
        it leaves the new units on the old ones and halfway between, where none of the skip's are: 2x2 pooling has put
        those a quarter of a step to both sides. Kernels that align the two maps cut the corners.
        """
        if coarser.stride != 2 * self.stride:
            raise ValueError(f"FCN-{self.stride}s starts from FCN-{2 * self.stride}s, not from FCN-{coarser.stride}s")
        if coarser.padding != self.padding:
            raise ValueError("the two networks pad by different amounts: give both the same arguments but stride")
        self._take({name: value for name, value in coarser.state_dict().items() if not name.startswith("up.")})
        skip, upsampling = (self.score_pool4, self.up2) if self.stride == 16 else (self.score_pool3, self.up4)
        _zero(skip)
        for deconv in (upsampling, self.up):
            set_bilinear(deconv)
        return self

    def _take(self, state: dict[str, Tensor]) -> None:
        """Load all or nothing; only scores and upsampling may be left out."""
        own = {name: value.shape for name, value in self.state_dict().items()}
        given = {name: value.shape for name, value in state.items()}
        kept = {name for name in own.keys() - given.keys() if name.startswith(("score", "up"))}
        if differ := [n for n in sorted((own.keys() | given.keys()) - kept) if own.get(n) != given.get(n)]:
            raise ValueError(
                f"the two networks differ in {', '.join(differ)}: give both the same in_channels, classes, width, "
                "batch_norm and kernel (7 to fit VGG16)"
            )
        self.load_state_dict(state, strict=False)


def fuse(upsampled: Tensor, skip: Tensor, offset: int) -> Tensor:
    """Add the scores of a finer map, cropped at `offset`, to upsampled ones (N, K, H, W).

    With a kernel of 3 the finer map can end a row and a column before the upsampled one; both are cut to what they
    share. With the paper's kernel it never does.
    """
    skip = skip[:, :, offset:, offset:]
    height, width = min(upsampled.shape[2], skip.shape[2]), min(upsampled.shape[3], skip.shape[3])
    return upsampled[:, :, :height, :width] + skip[:, :, :height, :width]


def crop(x: Tensor, offset: int, like: Tensor) -> Tensor:
    """The part of `x` (N, C, H, W) from `offset` on, along both axes, with the height and width of `like`."""
    height, width = like.shape[2:]
    if offset < 0 or x.shape[2] < offset + height or x.shape[3] < offset + width:
        raise ValueError(f"cannot crop {height}x{width} at {offset} from a map of {x.shape[2]}x{x.shape[3]}")
    return x[:, :, offset : offset + height, offset : offset + width]


def set_bilinear(deconv: nn.ConvTranspose2d) -> None:
    """Make a dense transposed convolution upsample bilinearly: tents on the diagonal of the classes, zero elsewhere."""
    with torch.no_grad():
        deconv.weight.zero_()
        diagonal = torch.arange(deconv.in_channels, device=deconv.weight.device)
        deconv.weight[diagonal, diagonal] = bilinear_kernel(deconv.stride[0], ndim=2).to(deconv.weight)


def _upsampling(classes: int, factor: int) -> nn.ConvTranspose2d:
    deconv = nn.ConvTranspose2d(classes, classes, 2 * factor, stride=factor, bias=False)
    set_bilinear(deconv)
    return deconv


def _score(channels: int, classes: int) -> nn.Conv2d:
    score = nn.Conv2d(channels, classes, 1)
    _zero(score)
    return score


def _zero(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
