"""Where cells touch: U-Net's weight map, which makes the thin background between two cells count more.

Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015, section 3,
equation 2: `w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))`, d1 and d2 "the distance to the border of" the
nearest and of the second nearest cell. `separate` puts background between cells that touch (the paper does so by
morphological operations); `border_weights` weighs it.
"""

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import max_pool2d


def border_weights(
    instances: Tensor, w0: float = 10.0, sigma: float = 5.0, class_weights: tuple[float, float] | None = None
) -> Tensor:
    """Return a weight for each pixel's loss, (H, W) or (N, H, W) float32, on the device of the instances.

    The border term is added on background pixels only, which is a choice: distances to a border are defined inside
    cells too. With d1 = 0 inside, about half of the term's sum would lie on the cells' own rims. Where fewer than two
    cells are in the image there is no second distance, and the term is 0.

    Args:
        instances: (H, W) or (N, H, W) whole numbers, 0 for background, a number of its own for each cell. Cells that
            touch have no background between them and so no border: call `separate` first.
        w0: the border term's height.
        sigma: its width in pixels.
        class_weights: w_c for background and for cells; None balances them over all the pixels given: both classes
            get the same sum, and the mean is 1.

    Raises:
        TypeError: instances are not whole numbers.
        ValueError: their shape or a number is wrong, or sigma is not positive.
    """
    _check(instances)
    if sigma <= 0:
        raise ValueError(f"sigma={sigma}: expected a positive number of pixels")
    background = instances == 0
    of_background, of_cells = balanced_weights(background) if class_weights is None else class_weights
    weights = torch.where(background, of_background, of_cells)
    images = instances.reshape(-1, *instances.shape[-2:])
    distances = torch.stack([two_distances(image).sum(0) for image in images]) if len(images) else images.double()
    border = w0 * torch.exp(-(distances.reshape(instances.shape) ** 2) / (2 * sigma**2))
    return (weights + border * background).float()


def two_distances(instances: Tensor) -> Tensor:
    """Return d1 and d2 of each pixel (2, H, W), float64: how far the nearest and the second nearest cell are.

    Distances are Euclidean, from centre to centre of pixels: 0 inside a cell, 1 beside it, inf where there is none.
    """
    first = torch.full(instances.shape, torch.inf, dtype=torch.float64, device=instances.device)
    second = first.clone()
    for cell in instances.unique():
        if cell:
            outside = (instances != cell).cpu().numpy()
            distance = torch.from_numpy(distance_transform_edt(outside)).to(first)
            second = torch.minimum(second, torch.maximum(first, distance))
            first = torch.minimum(first, distance)
    return torch.stack([first, second])


def separate(instances: Tensor) -> Tensor:
    """Return the instances (H, W) or (N, H, W) with background wherever two cells touched, corners included.

    Of two neighbouring pixels of different cells the one with the smaller number becomes background. What is left of
    the cells can be told apart in a binary mask. Instances and errors as for `border_weights`.
    """
    _check(instances)
    if not instances.numel():
        return instances.clone()
    planes = instances.reshape(-1, 1, *instances.shape[-2:]).double()  # exact up to 2**53
    highest = max_pool2d(planes, 3, stride=1, padding=1).reshape(instances.shape)
    return instances.where(highest <= instances, 0)


def balanced_weights(background: Tensor) -> tuple[float, float]:
    """Return weights of background and cells: each class present gets the same sum over its pixels, mean 1."""
    pixels, empty = background.numel(), int(background.sum())
    if empty in (0, pixels):
        return 1.0, 1.0
    return pixels / (2 * empty), pixels / (2 * (pixels - empty))


def _check(instances: Tensor) -> None:
    if instances.is_floating_point() or instances.is_complex() or instances.dtype == torch.bool:
        raise TypeError(f"instances are whole numbers, one for each cell, not {instances.dtype}")
    if instances.ndim not in (2, 3):
        raise ValueError(f"instances must be (H, W) or (N, H, W), not {tuple(instances.shape)}")
    if (instances < 0).any():
        raise ValueError("a negative number in instances: expected 0 for background and 1, 2, ... for cells")
