"""Overlap-tile prediction: an image of any size, tile by tile, with the scores that one pass over the whole would give.

Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015, section 2
and figure 2: the output of a network without padding is smaller than its input, so each tile is read with a border
around it, and where the border leaves the image, the image is mirrored.

The scores agree if every tile begins at a multiple of the network's stride. Pooling pairs up pixels 0 and 1, 2 and 3,
... of what it is given; a tile that begins elsewhere pairs up other pixels, and the network computes something else.
U-Net's output is 4 more than a multiple of its stride, 16, so tiles laid side by side do not agree: those of 388
must move on by 384.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]
"""(N, C, H, W) -> (N, K, H - margin, W - margin) scores, nothing padded."""


def mirror(images: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Return images (N, C, H, W) with mirrored borders; the outermost pixel itself is not repeated.

    `F.pad(..., mode="reflect")` does the same where the border is narrower than the image; this mirrors repeatedly.

    Args:
        images: (N, C, H, W), H and W at least 1.
        before: rows at the top and columns at the left to add.
        after: rows at the bottom and columns at the right to add; negative to cut off.
    """
    rows, columns = (
        _mirrored(torch.arange(-first, size + last, device=images.device), size)
        for size, first, last in zip(images.shape[2:], before, after)
    )
    return images[:, :, rows[:, None], columns]


def _mirrored(places: Tensor, size: int) -> Tensor:
    """Return which of the `size` pixels of a row is seen at each place; the picture repeats after 2 (size - 1)."""
    if size == 1:
        return torch.zeros_like(places)
    return size - 1 - (places % (2 * size - 2) - (size - 1)).abs()


@torch.no_grad()
def predict_whole(network: Network, images: Tensor, margin: int = 184, stride: int = 16) -> Tensor:
    """Return the scores of every pixel, (N, K, H, W), from one pass over the images with a mirrored border.

    Args:
        network: a U-Net without padding, in evaluation mode.
        images: (N, C, H, W), on the network's device.
        margin: how much smaller than its input the network's output is, both sides together.
        stride: 2^depth. The network takes inputs whose length is 4 less than a multiple of it, so the border at the
            bottom and at the right is a little wider where that is needed.
    """
    _check(images, margin, stride)
    height, width = images.shape[2:]
    lengths = [-(-(size + margin + 4) // stride) * stride - 4 for size in (height, width)]
    half = margin // 2
    after = (lengths[0] - height - half, lengths[1] - width - half)
    return network(mirror(images, (half, half), after))[:, :, :height, :width]


@torch.no_grad()
def predict_tiles(
    network: Network,
    images: Tensor,
    tile: int,
    margin: int = 184,
    stride: int = 16,
    step: int | None = None,
    batch_size: int = 4,
) -> Tensor:
    """Return the scores of every pixel, (N, K, H, W), from square tiles: memory no longer grows with the image.

    Equal to `predict_whole` but for the order of float sums, if `step` is a multiple of `stride`.

    Args:
        network: without padding, in evaluation mode.
        images: (N, C, H, W), on the network's device; any size.
        tile: side of a tile's input, a length that the network takes; its output is `tile - margin`.
        margin: how much smaller than its input the network's output is, both sides together.
        stride: 2^depth, of the network.
        step: from tile to tile; None for the largest multiple of the stride that leaves no gap. Later tiles overwrite.
        batch_size: how many tiles the network is given at once.

    Raises:
        ValueError: the tile's output is too small for an aligned step, or the step leaves gaps.
    """
    _check(images, margin, stride)
    output = tile - margin
    if step is None:
        step = output // stride * stride
    if not 0 < step <= output:
        raise ValueError(
            f"tiles of {tile} give an output of {output}, and step={step} is not in 1..{output}. With a stride of "
            f"{stride} take tiles of at least {margin + stride}, or name a step and give up equality"
        )
    count, _, height, width = images.shape
    corners = [(i, top, left) for i in range(count) for top in range(0, height, step) for left in range(0, width, step)]
    half = margin // 2
    reach = [(size - 1) // step * step + tile - half - size for size in (height, width)]  # beyond the far border
    bordered = mirror(images, (half, half), (reach[0], reach[1]))
    scores: Tensor | None = None
    for start in range(0, len(corners), batch_size):
        chosen = corners[start : start + batch_size]
        tiles = torch.stack([bordered[i, :, top : top + tile, left : left + tile] for i, top, left in chosen])
        for (i, top, left), found in zip(chosen, network(tiles)):
            if scores is None:
                scores = found.new_empty(count, len(found), height, width)
            place = scores[i, :, top : top + output, left : left + output]
            place[:] = found[:, : place.shape[1], : place.shape[2]]
    assert scores is not None  # _check has seen to it that there is a tile
    return scores


def _check(images: Tensor, margin: int, stride: int) -> None:
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"expected images (N, C, H, W) with at least a pixel, got {tuple(images.shape)}")
    if margin < 0 or margin % 2 or stride < 1:
        raise ValueError(
            f"margin={margin}, stride={stride}: expected an even margin, the same on both sides, and stride >= 1"
        )
