"""Random crops of images together with their masks: other places, other sizes, left and right exchanged."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from segcourse.datasets.base import SegmentationSet


def crops(
    dataset: SegmentationSet,
    batch_size: int = 8,
    size: tuple[int, int] | None = None,
    zoom: tuple[float, float] = (1.0, 1.0),
    flip: bool = True,
    light: float = 0.0,
) -> Callable[[Generator], tuple[Tensor, Tensor]]:
    """Return a function that draws a batch of crops: images (N, C, h, w) and masks (N, h, w), as `train` takes it.

    All crops of a batch are cut by one call: each pixel of a crop is looked up at its place in the image, colours
    interpolated, labels taken from the nearest pixel (the mean of two labels is a third one).

    Args:
        dataset: what to cut from; images come with repetition.
        batch_size: N.
        size: h and w of the crops after resizing; None for the size of the images.
        zoom: least and largest side of a crop, in parts of the largest crop with the proportions of `size`.
        flip: mirror every second crop, on average.
        light: how much brightness and contrast vary; 0.2 for up to 20 % each.

    Raises:
        ValueError: the data set is empty, or a number is out of its range.
    """
    if not len(dataset):
        raise ValueError(f"{dataset} holds no image to cut from")
    if not 0 < zoom[0] <= zoom[1] <= 1:
        raise ValueError(f"zoom={zoom}: expected two parts of the image's side, 0 < least <= largest <= 1")
    if batch_size < 1 or not 0 <= light < 1:
        raise ValueError(f"batch_size={batch_size}, light={light}: expected at least 1, and 0 <= light < 1")
    height, width = dataset.size
    h, w = size or dataset.size
    full = min(height / h, width / w)  # image pixels to a pixel of the largest crop
    share = torch.tensor([w * full / width, h * full / height])  # of the image's width and height

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        def between(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(batch_size, *shape, generator=generator)

        chosen = torch.randint(len(dataset), (batch_size,), generator=generator)
        images, masks = dataset.images[chosen], dataset.masks[chosen]
        scale = between(*zoom, 1) * share  # (N, 2): the image reaches from -1 to 1 along x and y
        shift = between(-1, 1, 2) * (1 - scale)
        if flip:
            scale[:, 0] *= between(-1, 1).sign()
        matrix = torch.cat([torch.diag_embed(scale), shift[:, :, None]], dim=2)  # (N, 2, 3)
        grid = F.affine_grid(matrix, [batch_size, 1, h, w], align_corners=False)
        images = F.grid_sample(images, grid, "bilinear", "border", align_corners=False)
        masks = F.grid_sample(masks[:, None].float(), grid, "nearest", "border", align_corners=False)[:, 0].long()
        if light:
            grey = images.mean((1, 2, 3), keepdim=True)
            contrast, brightness = between(1 - light, 1 + light, 1, 1, 1), between(1 - light, 1 + light, 1, 1, 1)
            images = ((images - grey) * contrast + grey * brightness).clamp(0, 1)
        return images, masks

    return draw
