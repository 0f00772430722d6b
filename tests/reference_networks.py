"""Well-known networks, built only for tests. Most are bare topologies: every window, stride and branch, few channels.

Kernels, strides and paddings follow the papers (or, where said, torchvision); channel counts play no part in a
receptive field, so `width` channels do for all of them. Those at the end have all their channels, for what they cost.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kernel = int | tuple[int, int]


def conv(width: int, kernel: Kernel, stride: int = 1, padding: Kernel | None = None) -> nn.Module:
    """Convolution and ReLU; "same" padding unless told otherwise."""
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
    return nn.Sequential(nn.Conv2d(width, width, kernel, stride, padding), nn.ReLU(inplace=True))


class AlexNet(nn.Sequential):
    """Krizhevsky et al. 2012 as in Caffe: no padding at first, overlapping pools, fc6 as a 6x6 convolution."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.conv1 = conv(width, 11, 4, 0)
        self.pool1 = nn.MaxPool2d(3, 2)
        self.conv2 = conv(width, 5)
        self.pool2 = nn.MaxPool2d(3, 2)
        self.conv3 = conv(width, 3)
        self.conv4 = conv(width, 3)
        self.conv5 = conv(width, 3)
        self.pool5 = nn.MaxPool2d(3, 2)
        self.fc6 = conv(width, 6, padding=0)


class VGG16(nn.Module):
    """Simonyan and Zisserman 2015, configuration D; fc6 and fc7 as convolutions."""

    def __init__(self, width: int = 1, first_padding: int = 1, ceil_mode: bool = False) -> None:
        super().__init__()
        for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
            for i in range(1, depth + 1):
                padding = first_padding if (block, i) == (1, 1) else 1
                setattr(self, f"conv{block}_{i}", conv(width, 3, padding=padding))
            setattr(self, f"pool{block}", nn.MaxPool2d(2, 2, ceil_mode=ceil_mode))
        self.fc6 = conv(width, 7, padding=0)
        self.fc7 = conv(width, 1)

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        maps = {}
        for name, layer in self.named_children():
            x = maps[name] = layer(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)["fc7"]


class FCN(nn.Module):
    """Long et al. 2015, as in its Caffe files: padding of 100 at the first layer, crops of fixed offsets.

    `stride` 32, 16 or 8. For an input of 500: 16x16 scores, 34x34 and 70x70 after fusion, 568x568 before the crop.
    """

    def __init__(self, stride: int, width: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.backbone = VGG16(width, first_padding=100, ceil_mode=True)
        self.score_fr = nn.Conv2d(width, width, 1)
        self.score_pool4 = nn.Conv2d(width, width, 1)
        self.score_pool3 = nn.Conv2d(width, width, 1)
        self.up2 = nn.ConvTranspose2d(width, width, 4, 2, bias=False)
        self.up4 = nn.ConvTranspose2d(width, width, 4, 2, bias=False)
        self.up = nn.ConvTranspose2d(width, width, 2 * stride, stride, bias=False)

    @staticmethod
    def crop(x: Tensor, offset: int, like: Tensor) -> Tensor:
        height, width = like.shape[2:]
        return x[:, :, offset : offset + height, offset : offset + width]

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone.maps(x)
        score = self.score_fr(maps["fc7"])
        if self.stride < 32:
            score = self.up2(score)
            score = score + self.crop(self.score_pool4(maps["pool4"]), 5, score)
        if self.stride < 16:
            score = self.up4(score)
            score = score + self.crop(self.score_pool3(maps["pool3"]), 9, score)
        return self.crop(self.up(score), {32: 19, 16: 27, 8: 31}[self.stride], x)


class SegNet(nn.Module):
    """Badrinarayanan et al. 2017 on VGG-16: unpooling by the encoder's indices."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, 2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2, 2)
        depths = (2, 2, 3, 3, 3)
        self.encoder = nn.ModuleList(nn.Sequential(*(conv(width, 3) for _ in range(n))) for n in depths)
        self.decoder = nn.ModuleList(nn.Sequential(*(conv(width, 3) for _ in range(n))) for n in reversed(depths))

    def forward(self, x: Tensor) -> Tensor:
        switches = []
        for stage in self.encoder:
            x, where = self.pool(stage(x))
            switches.append(where)
        for stage in self.decoder:
            x = stage(self.unpool(x, switches.pop()))
        return x


class UNet(nn.Module):
    """Ronneberger et al. 2015: convolutions without padding, crop and concatenate; or, with `padded`, "same" ones."""

    def __init__(self, width: int = 1, padded: bool = False) -> None:
        super().__init__()
        padding = int(padded)

        def double(inputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inputs, width, 3, padding=padding), nn.ReLU(), conv(width, 3, padding=padding)
            )

        self.down = nn.ModuleList(double(width) for _ in range(5))
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for _ in range(4))
        self.merge = nn.ModuleList(double(2 * width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for stage in self.down[:-1]:
            skips.append(stage(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.down[-1](x)
        for up, merge in zip(self.up, self.merge):
            x, skip = up(x), skips.pop()
            margin = (skip.shape[-1] - x.shape[-1]) // 2
            x = merge(torch.cat([F.pad(skip, [-margin] * 4), x], dim=1))
        return x


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut; the stride sits on the first 1x1 (v1) or on the 3x3 (v1.5)."""

    def __init__(self, width: int, stride: int, project: bool, v1: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(width, 1, stride if v1 else 1),
            conv(width, 3, 1 if v1 else stride),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Conv2d(width, width, 1, stride) if project else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += self.shortcut(x)
        return self.relu(y)


class ResNet(nn.Sequential):
    """He et al. 2016, with bottlenecks: depths (3, 4, 6, 3) for 50, (3, 4, 23, 3) for 101, (3, 8, 36, 3) for 152."""

    def __init__(self, depths: Sequence[int], v1: bool, width: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(width, 7, 2), nn.MaxPool2d(3, 2, 1))
        for i, depth in enumerate(depths, start=1):
            strides = [1 if i == 1 else 2] + [1] * (depth - 1)
            blocks = [Bottleneck(width, stride, j == 0, v1) for j, stride in enumerate(strides)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))


class MobileNetV1(nn.Sequential):
    """Howard et al. 2017: a strided 3x3, then 13 depthwise separable blocks."""

    def __init__(self, width: int = 2) -> None:
        strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
        blocks = [
            nn.Sequential(
                nn.Conv2d(width, width, 3, s, 1, groups=width), nn.BatchNorm2d(width), nn.ReLU6(), conv(width, 1)
            )
            for s in strides
        ]
        super().__init__(conv(width, 3, 2), *blocks)


class Branches(nn.Module):
    """Inception module: branches side by side, concatenated and brought back to `width` channels."""

    def __init__(self, width: int, *branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*layers) for layers in branches)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat([branch(x) for branch in self.branches], dim=1)
        return sum(maps.split(self.width, dim=1))


class InceptionV3(nn.Sequential):
    """Szegedy et al. 2016 with the end points of the TensorFlow implementation; the stem is not padded."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()

        def c(kernel: Kernel, stride: int = 1, padding: Kernel | None = None) -> nn.Module:
            return conv(width, kernel, stride, padding)

        def pool() -> nn.Module:
            return nn.AvgPool2d(3, 1, 1)

        self.Conv2d_1a_3x3 = c(3, 2, 0)
        self.Conv2d_2a_3x3 = c(3, 1, 0)
        self.Conv2d_2b_3x3 = c(3)
        self.MaxPool_3a_3x3 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = c(1)
        self.Conv2d_4a_3x3 = c(3, 1, 0)
        self.MaxPool_5a_3x3 = nn.MaxPool2d(3, 2)
        for name in "bcd":
            block = Branches(width, [c(1)], [c(1), c(5)], [c(1), c(3), c(3)], [pool(), c(1)])
            setattr(self, f"Mixed_5{name}", block)
        self.Mixed_6a = Branches(width, [c(3, 2, 0)], [c(1), c(3), c(3, 2, 0)], [nn.MaxPool2d(3, 2)])
        row, column = (1, 7), (7, 1)
        for name in "bcde":
            twice = [c(1), c(column), c(row), c(column), c(row)]
            setattr(self, f"Mixed_6{name}", Branches(width, [c(1)], [c(1), c(row), c(column)], twice, [pool(), c(1)]))
        self.Mixed_7a = Branches(width, [c(1), c(3, 2, 0)], [c(1), c(row), c(column), c(3, 2, 0)], [nn.MaxPool2d(3, 2)])
        for name in "bc":
            fork = [Branches(width, [c((1, 3))], [c((3, 1))])]
            block = Branches(width, [c(1)], [c(1), *fork], [c(1), c(3), *fork], [pool(), c(1)])
            setattr(self, f"Mixed_7{name}", block)


class LargeFOV(nn.Sequential):
    """DeepLab v1 (Chen et al. 2015) on VGG-16: 3x3 pools, the last two with stride 1, then rates 2 and 12."""

    def __init__(self, width: int = 1) -> None:
        def dilated(rate: int) -> nn.Module:
            return nn.Conv2d(width, width, 3, padding=rate, dilation=rate)

        layers: list[nn.Module] = []
        for depth, stride in ((2, 2), (2, 2), (3, 2), (3, 1)):
            layers += [conv(width, 3) for _ in range(depth)]
            layers.append(nn.MaxPool2d(3, stride, 1))
        layers += [dilated(2), dilated(2), dilated(2), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), dilated(12)]
        super().__init__(*layers, conv(width, 1))


# With all their channels.


def normed(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None):
    """Convolution without bias, "same" padding, batch normalization, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.Identity() if act is None else act)


class Residual(nn.Module):
    """A body, added to a shortcut."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))


class ResNet50(nn.Sequential):
    """He et al. 2016 with the stride on the 3x3 (v1.5), as in torchvision: (N, 3, 224, 224) -> (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(normed(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1))
        inputs = 64
        for i, depth in enumerate((3, 4, 6, 3)):
            width, blocks = 64 * 2**i, []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                body = nn.Sequential(
                    normed(inputs, width, 1, act=nn.ReLU()),
                    normed(width, width, 3, stride, act=nn.ReLU()),
                    normed(width, 4 * width, 1),
                )
                shortcut = normed(inputs, 4 * width, 1, stride) if j == 0 else nn.Identity()
                blocks.append(Residual(body, shortcut, nn.ReLU()))
                inputs = 4 * width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


class MobileNetV2(nn.Sequential):
    """Sandler et al. 2018, table 2: (N, 3, 224, 224) -> (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = normed(3, 32, 3, 2, act=nn.ReLU6())
        inputs, blocks = 32, []
        table = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        for expansion, outputs, repeats, first_stride in table:
            for i in range(repeats):
                hidden, stride = inputs * expansion, first_stride if i == 0 else 1
                layers = [normed(inputs, hidden, 1, act=nn.ReLU6())] if expansion > 1 else []
                layers += [normed(hidden, hidden, 3, stride, hidden, nn.ReLU6()), normed(hidden, outputs, 1)]
                body = nn.Sequential(*layers)
                same = stride == 1 and inputs == outputs
                blocks.append(Residual(body, nn.Identity(), nn.Identity()) if same else body)
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = normed(inputs, 1280, 1, act=nn.ReLU6())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))
