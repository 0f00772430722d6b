"""Elastic deformation: an image and its mask bent by one smooth random field.

Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015,
section 3.1: random displacement vectors on a coarse 3 by 3 grid, from a Gaussian with a standard deviation of 10
pixels, and bicubic interpolation to each pixel.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def displacements(
    size: tuple[int, int], generator: Generator, count: int = 1, deviation: float = 10.0, points: int = 3
) -> Tensor:
    """Return smooth random fields (N, 2, H, W) in pixels: how far down and how far right each pixel looks.

    Args:
        size: H and W; the outermost vectors of the grid sit on the corners of the image.
        generator: torch's, on the CPU; the same seed gives the same fields.
        count: N.
        deviation: of each component of each vector, in pixels.
        points: vectors along each side of the grid.

    Raises:
        ValueError: fewer than 2 points, or a negative deviation.
    """
    if points < 2 or deviation < 0:
        raise ValueError(f"points={points}, deviation={deviation}: expected at least 2 points, and 0 or more pixels")
    coarse = deviation * torch.randn(count, 2, points, points, generator=generator)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=True)


def warp(images: Tensor, masks: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Return images and masks that show at each pixel what lies `field` away from it.

    Images are interpolated bilinearly. Masks are taken from the nearest pixel: the mean of two labels is a third one.
    Beyond the border the picture is mirrored, as it is for the tiles. A gap of one pixel may close in a bent mask. To
    keep cells apart, bend the numbers of their instances and give the result to `border_weights.separate`.

    Args:
        images: (N, C, H, W) float.
        masks: (N, H, W) or (N, K, H, W) whole numbers: labels, or labels and numbers of instances together.
        field: (N, 2, H, W) in pixels, down and right.

    Raises:
        ValueError: the shapes do not fit together.
        TypeError: masks are not whole numbers.
    """
    count, _, height, width = images.shape
    if field.shape != (count, 2, height, width) or (masks.shape[0], *masks.shape[-2:]) != (count, height, width):
        raise ValueError(
            f"images {tuple(images.shape)}, masks {tuple(masks.shape)} and a field {tuple(field.shape)} do not fit "
            "together: expected (N, C, H, W), (N, H, W) or (N, K, H, W), and (N, 2, H, W)"
        )
    if masks.is_floating_point():
        raise TypeError(f"masks are whole numbers, not {masks.dtype}: a label has no fractions")
    rows = torch.arange(height, device=field.device)[:, None] + field[:, 0]
    columns = torch.arange(width, device=field.device) + field[:, 1]
    # grid_sample counts from -1 to 1, the columns first.
    places = [2 * place / max(size - 1, 1) - 1 for place, size in ((columns, width), (rows, height))]
    grid = torch.stack(places, dim=-1)
    bent = F.grid_sample(images, grid.to(images.dtype), "bilinear", "reflection", align_corners=True)
    planes = masks.reshape(count, -1, height, width).double()  # exact up to 2**53
    labels = F.grid_sample(planes, grid.double(), "nearest", "reflection", align_corners=True)
    return bent, labels.to(masks.dtype).reshape(masks.shape)


def elastic(
    images: Tensor, masks: Tensor, generator: Generator, deviation: float = 10.0, points: int = 3
) -> tuple[Tensor, Tensor]:
    """Return images and masks bent at random, each image by a field of its own. Arguments as above."""
    size = (images.shape[2], images.shape[3])
    field = displacements(size, generator, len(images), deviation, points)
    return warp(images, masks, field.to(images))


def folded(field: Tensor) -> Tensor:
    """Return where fields (N, 2, H, W) fold the picture over, (N, H - 1, W - 1) bool.

    There the area between neighbouring pixels comes out negative or zero: the determinant of the steps down and right.
    """
    down = field.diff(dim=2)[..., :-1] + field.new_tensor([1.0, 0.0])[:, None, None]
    right = field.diff(dim=3)[..., :-1, :] + field.new_tensor([0.0, 1.0])[:, None, None]
    return down[:, 0] * right[:, 1] - down[:, 1] * right[:, 0] <= 0
