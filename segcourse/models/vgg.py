"""VGG-16, the classifier that FCN, SegNet, DeconvNet and DeepLab start from.

Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, table 1,
configuration D: thirteen 3x3 convolutions in five stages, a 2x2 max-pooling after each, three dense layers.
"""

from collections import OrderedDict
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions in each stage."""

WIDTHS = (1, 2, 4, 8, 8)
"""Channels of each stage, in multiples of the width."""

INPUT_SIZE = 224
"""Side of the images that the dense layers fit: five poolings turn 224 into 7."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue in [0, 1]: the pre-trained weights expect `(image - mean) / std`."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue in [0, 1]."""

WEIGHTS_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
"""torchvision's checkpoint (553 MB; ImageNet, 1000 classes). Its name ends in the first digits of its SHA-256."""


def vgg16_features(in_channels: int = 3, width: int = 64, batch_norm: bool = False) -> nn.Sequential:
    """The convolutions of VGG-16 as five stages: (N, in_channels, H, W) -> (N, 8·width, H//32, W//32).

    The children are named stage1 to stage5, theirs conv1, relu1, ..., pool. A slice is a network too:
    `features[:3]` ends in pool3. See `pool_outputs` for several outputs at once. Weights start as He et al.
    2015 (ICCV, equation 10) propose; the paper started its deep networks from a shallow one already trained.

    Args:
        in_channels: channels of the image.
        width: channels of the first stage; 64 in the paper.
        batch_norm: normalize after each convolution (not in the paper; SegNet does). Biases stay.
    """
    for name, value in (("in_channels", in_channels), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for number, (depth, multiple) in enumerate(zip(DEPTHS, WIDTHS), start=1):
        stage: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(1, depth + 1):
            stage[f"conv{i}"] = nn.Conv2d(channels, multiple * width, 3, padding=1)
            if batch_norm:
                stage[f"norm{i}"] = nn.BatchNorm2d(multiple * width)
            stage[f"relu{i}"] = nn.ReLU()
            channels = multiple * width
        stage["pool"] = nn.MaxPool2d(2, stride=2)
        stages[f"stage{number}"] = nn.Sequential(stage)
    features = nn.Sequential(stages)
    _he(features)
    return features


def pool_outputs(features: nn.Sequential, image: Tensor) -> list[Tensor]:
    """The output of every stage, pool1 to pool5: item i has shape (N, C, H // 2^(i+1), W // 2^(i+1))."""
    outputs = []
    for stage in features:
        image = stage(image)
        outputs.append(image)
    return outputs


class VGG16(nn.Sequential):
    """VGG-16 as published: (N, in_channels, 224, 224) -> (N, classes) scores, before the soft-max.

    138,357,544 parameters with the default arguments, 14,714,688 of them in the features. The three parts
    `features`, `flatten` and `classifier` run one after the other, so that
    `segcourse.convolutionalize.convolutionalize(model, 224)` can make it fully convolutional.

    Args:
        in_channels: channels of the image.
        classes: number of scores.
        width: channels of the first stage; 64 in the paper. The dense layers have 64·width units.
        batch_norm: normalize after each convolution (not in the paper; SegNet does).
    """

    features: nn.Sequential
    flatten: nn.Flatten
    classifier: nn.Sequential

    def __init__(self, in_channels: int = 3, classes: int = 1000, width: int = 64, batch_norm: bool = False) -> None:
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        features = vgg16_features(in_channels, width, batch_norm)
        units = 64 * width
        classifier = nn.Sequential(
            OrderedDict(
                fc6=nn.Linear(8 * width * 7 * 7, units),
                relu6=nn.ReLU(),
                drop6=nn.Dropout(0.5),
                fc7=nn.Linear(units, units),
                relu7=nn.ReLU(),
                drop7=nn.Dropout(0.5),
                fc8=nn.Linear(units, classes),
            )
        )
        super().__init__(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))
        self.in_channels = in_channels
        _he(self.classifier)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes, (N, classes), of images (N, in_channels, 224, 224)."""
        expected = (self.in_channels, INPUT_SIZE, INPUT_SIZE)
        if image.dim() != 4 or tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"VGG16 takes images (N, {', '.join(map(str, expected))}), got {tuple(image.shape)}: its first "
                f"dense layer fits a map of 7x7 and no other. For other sizes use model.features alone, or "
                f"convolutionalize(model, {INPUT_SIZE})"
            )
        return super().forward(image)

    def load_pretrained(self) -> "VGG16":
        """Load the weights that torchvision publishes for ImageNet, and return the network.

        The file is fetched once into torch's hub directory and checked against its SHA-256 on arrival. Images
        must be RGB in [0, 1], normalized by `IMAGENET_MEAN` and `IMAGENET_STD`.

        Raises:
            ValueError: this network is not the published one, or the file is not the published file.
            ConnectionError: the file could not be fetched; the message says where to put it by hand.
        """
        with torch.device("meta"):
            published = VGG16()
        if _shapes(self) != _shapes(published):
            raise ValueError(
                "the published weights fit VGG16() with its default arguments "
                "(in_channels=3, classes=1000, width=64, batch_norm=False); this network has other shapes"
            )
        name = Path(urlparse(WEIGHTS_URL).path).name
        place = Path(torch.hub.get_dir(), "checkpoints", name)
        digits = name.removeprefix("vgg16-").removesuffix(".pth")
        try:
            state = torch.hub.load_state_dict_from_url(
                WEIGHTS_URL, map_location="cpu", check_hash=True, weights_only=True
            )
            self.load_state_dict(from_torchvision(state))
        except (OSError, HTTPException) as error:
            raise ConnectionError(
                f"could not fetch {WEIGHTS_URL} (553 MB): {error}. Fetch it where there is a network, check that "
                f"its SHA-256 begins with {digits}, and put it at {place}"
            ) from error
        except (RuntimeError, UnpicklingError, EOFError, AttributeError, TypeError, KeyError) as error:
            raise ValueError(
                f"{place} is not the published checkpoint, whose SHA-256 begins with {digits}: {error}. "
                "Delete the file if it is there, and try again"
            ) from error
        return self


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of torchvision's `vgg16` to those of `VGG16`; other names stay as they are."""
    names = {"classifier.0": "classifier.fc6", "classifier.3": "classifier.fc7", "classifier.6": "classifier.fc8"}
    place = 0
    for stage, depth in enumerate(DEPTHS, start=1):
        for conv in range(1, depth + 1):
            names[f"features.{place}"] = f"features.stage{stage}.conv{conv}"
            place += 2  # a convolution and its ReLU
        place += 1  # the pooling
    renamed = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{kind}"] = value
    return renamed


def _he(network: nn.Module) -> None:
    """He et al. 2015, equation 10: weights from N(0, 2/fan_in), biases zero, for layers followed by ReLU."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}
