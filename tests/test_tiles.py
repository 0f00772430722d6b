import pytest
import torch
import torch.nn.functional as F

from segcourse.models.unet import UNet, nearest_valid_sizes, output_margin
from segcourse.tiles import mirror, predict_tiles, predict_whole


def unet(depth, width=2, channels=1):
    torch.manual_seed(depth)
    return UNet(channels, 3, width=width, depth=depth).double().eval()


def close(a, b):
    return bool((a - b).abs().max() <= 1e-9 * b.abs().max())


@pytest.mark.parametrize(("size", "before", "after"), [((7, 9), (3, 2), (6, 8)), ((5, 4), (0, 3), (1, 0))])
def test_mirror_is_reflect(size, before, after):
    images = torch.rand(2, 3, *size)
    expected = F.pad(images, (before[1], after[1], before[0], after[0]), mode="reflect")
    assert torch.equal(mirror(images, before, after), expected)


def test_a_border_wider_than_the_image_is_mirrored_again():
    row = torch.tensor([1.0, 2, 3])[None, None, None]
    assert mirror(row, (0, 5), (0, 6))[0, 0, 0].tolist() == [2, 1, 2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2, 1]
    assert mirror(row[..., :1], (2, 1), (0, 2)).tolist() == [[[[1.0] * 4] * 3]]
    assert torch.equal(mirror(row, (0, 0), (0, -2)), row[..., :1])


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(37, 52), (8, 61), (3, 90)])
def test_tiles_equal_the_whole(depth, height, width):
    """At any size, also where the mirrored border is wider than the image, and for every tile that is large enough."""
    model, margin, stride = unet(depth, channels=2), output_margin(depth), 2**depth
    images = torch.rand(2, 2, height, width, dtype=torch.double)
    whole = predict_whole(model, images, margin, stride)
    assert whole.shape == (2, 3, height, width)
    smallest = nearest_valid_sizes(margin + stride, depth)[-1]
    for tile in (smallest, smallest + stride, smallest + 4 * stride):
        for batch_size in (1, 3):
            assert close(predict_tiles(model, images, tile, margin, stride, batch_size=batch_size), whole)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_whole_is_the_network_on_the_mirrored_image(depth):
    model, margin = unet(depth), output_margin(depth)
    size = next(n for n in range(margin + 8, 200) if nearest_valid_sizes(n, depth) == [n])
    images = torch.rand(1, 1, size + 12 * 2**depth - margin, size + 13 * 2**depth - margin, dtype=torch.double)
    expected = model(F.pad(images, (margin // 2,) * 4, mode="reflect"))
    assert torch.equal(predict_whole(model, images, margin, 2**depth), expected)


def test_the_network_of_the_paper():
    model = unet(4, width=1)
    images = torch.rand(1, 1, 40, 70, dtype=torch.double)
    whole = predict_whole(model, images)
    assert close(predict_tiles(model, images, 204), whole)  # an output of 20, steps of 16
    assert close(predict_tiles(model, images, 220, step=32), whole)
    assert not close(predict_tiles(model, images, 204, step=20), whole)  # side by side


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_only_multiples_of_the_stride_are_exact(depth):
    model, margin, stride = unet(depth), output_margin(depth), 2**depth
    images = torch.rand(1, 1, 48, 33, dtype=torch.double)
    whole = predict_whole(model, images, margin, stride)
    tile = nearest_valid_sizes(margin + 2 * stride, depth)[-1]
    for step in range(max(1, stride - 3), tile - margin + 1):
        found = predict_tiles(model, images, tile, margin, stride, step=step, batch_size=16)
        assert close(found, whole) == (step % stride == 0), step


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_the_output_is_four_more_than_a_multiple_of_the_stride(depth):
    """So tiles side by side are aligned for depths 1 and 2 only."""
    for size in range(output_margin(depth) + 1, 600):
        if nearest_valid_sizes(size, depth) == [size]:
            assert (size - output_margin(depth) - 4) % 2**depth == 0


def test_bad_input_is_refused_in_words():
    model, images = unet(4, width=1), torch.rand(1, 1, 20, 20, dtype=torch.double)
    with pytest.raises(ValueError, match=r"output of 4, and step=0 .* tiles of at least 200"):
        predict_tiles(model, images, 188)
    with pytest.raises(ValueError, match=r"step=32 is not in 1..20"):
        predict_tiles(model, images, 204, step=32)
    with pytest.raises(ValueError, match=r"expected images \(N, C, H, W\)"):
        predict_whole(model, images[0])
    with pytest.raises(ValueError, match="even margin"):
        predict_tiles(model, images, 204, margin=183)
