"""The figures of lesson 03 show the numbers that they are given, where they belong."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segcourse.convolutionalize import heatmap_size, shift_and_stitch
from segcourse.datasets import PALETTE, VOID, streets
from segcourse.figures import convolutionalize as figures
from segcourse.plots import png

DATA = streets("val", 2, size=(40, 56))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def drawn(figure) -> np.ndarray:
    pixels = decoded(png(figure))
    assert pixels.shape[1] <= 1000  # readable at 100 %
    return pixels


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def network(window: int, stride: int, classes: int = 11) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, window - stride + 1), nn.ReLU(), nn.MaxPool2d(stride), nn.Conv2d(4, classes, 1)
    )


def test_patches_carry_the_class_of_their_centre() -> None:
    corners = [(0, 0), (7, 31), (16, 20)]
    figure = figures.patches_figure(DATA, 1, corners, window=24)
    names = [figures.label_name(DATA, 1, (row + 12, column + 12)) for row, column in corners]
    assert [f"{n}: {name}" for n, name in enumerate(names, start=1)] == [t for t in texts(figure) if ": " in t][1:]
    present = [f"{n} {DATA.classes[n]}" for n in DATA.masks[1].unique().tolist() if n != VOID]
    assert [t for t in texts(figure) if t in present] == present
    images = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert np.array_equal(images[1], DATA.colourize(DATA.masks[1]))
    row, column = corners[2]
    assert np.array_equal(images[4], images[0][row : row + 24, column : column + 24])
    drawn(figure)


def test_void_has_a_name_too() -> None:
    masks = DATA.masks.clone()
    masks[1, 3, 5] = VOID
    data = type(DATA)(**{**vars(DATA), "masks": masks})
    assert figures.label_name(data, 1, (3, 5)) == "void"
    assert figures.label_name(DATA, 1, (39, 28)) == DATA.classes[DATA.masks[1, 39, 28]]


@pytest.mark.parametrize(("size", "window", "kernel"), [(8, 5, 3), (9, 4, 2), (6, 6, 1)])
def test_overlaps_are_counted_as_they_are_drawn(size: int, window: int, kernel: int) -> None:
    figure = figures.overlap_figure(size, window, kernel, torch.ones(5, 7), "")
    boxes = figure.axes[0].patches
    filled = [box for box in boxes if box.get_facecolor()[:3] != (1, 1, 1)]
    windows, places = size - window + 1, size - kernel + 1
    assert (len(boxes), len(filled)) == (windows * places, windows * (window - kernel + 1))
    counted = [0] * places
    for begin in range(windows):
        for place in range(begin, begin + window - kernel + 1):
            counted[place] += 1
    assert [t for t in texts(figure) if t.endswith("×")] == [f"{n}×" for n in counted]
    drawn(figure)


def test_heat_maps_are_those_of_the_classes_named() -> None:
    torch.manual_seed(0)
    probabilities = torch.rand(11, 5, 9).softmax(0)
    figure = figures.heatmaps_figure(DATA.images[0], probabilities, DATA.classes, ("car", "sky", "road"), 24, 4)
    arrays = {axes.get_title(): axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()}
    for name in ("car", "sky", "road"):
        assert np.array_equal(arrays[f"{name}, 5×9"], probabilities[DATA.classes.index(name)].numpy())
    # (24 - 4) / 2 = 10 pixels lie before the first entry's block of 4x4
    covered = (9.5, 9.5 + 9 * 4, 9.5 + 5 * 4, 9.5)
    for axes in figure.axes[1:4]:
        assert tuple(axes.get_images()[0].get_extent()) == covered
        assert (axes.get_xlim(), axes.get_ylim()) == (figure.axes[0].get_xlim(), figure.axes[0].get_ylim())
    frame = figure.axes[0].patches[0]
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (9.5, 9.5, 36, 20)
    drawn(figure)


def test_label_maps_have_a_legend_of_what_occurs() -> None:
    labels = torch.full((4, 6), 3)
    labels[1, 2:4] = VOID
    labels[2, 0] = 8
    figure = figures.label_maps_figure(DATA, {"scene": DATA.images[0], "labels": labels})
    legend = figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()] == ["3 road", "8 car", "255 void"]
    colours = [tuple(round(255 * c) for c in patch.get_facecolor()[:3]) for patch in legend.get_patches()]
    assert colours == [tuple(PALETTE[3]), tuple(PALETTE[8]), (0, 0, 0)]
    assert np.array_equal(figure.axes[1].get_images()[0].get_array(), DATA.colourize(labels))
    assert len(drawn(figure)) > 200


@pytest.mark.parametrize(
    ("size", "window", "stride"), [((20, 31), 8, 4), ((17, 23), 9, 3), ((8, 8), 8, 2), ((40, 56), 7, 1)]
)
def test_windows_are_painted_where_they_are(size: tuple[int, int], window: int, stride: int) -> None:
    fit = tuple(heatmap_size(n, window, stride) for n in size)
    scene = np.full((40, 56, 3), 100, np.uint8)
    colours = np.random.default_rng(0).integers(120, 240, (*fit, 3)).astype(np.uint8)
    scale = 12
    picture = decoded(figures.windows_picture(scene, colours, size, window, stride, scale))
    assert picture.shape == (40 * scale, 56 * scale, 3)
    centres = picture[scale // 2 :: scale, scale // 2 :: scale]  # one screen pixel of each pixel of the scene
    margin = (window - stride + 1) // 2
    for i in range(fit[0]):
        for j in range(fit[1]):
            assert np.array_equal(centres[margin + i * stride, margin + j * stride], colours[i, j])
    outside = np.ones((40, 56), bool)
    outside[: size[0], : size[1]] = False
    assert (centres[outside] == 216).all()  # faded: a quarter of 100, three quarters of 255
    reached = [(n - 1) * stride + window for n in fit]
    hatched = np.array([
        [(picture[r * scale : (r + 1) * scale, c * scale : (c + 1) * scale] == 0).all(2).any() for c in range(size[1])]
        for r in range(size[0])
    ])  # fmt: skip
    over = np.ones(size, bool)
    over[: reached[0], : reached[1]] = False
    assert hatched[over].all()
    assert (picture[0, : window * scale] == figures.FIRST).all()
    last = [(n - 1) * stride for n in fit]
    if fit != (1, 1) and last[0] >= window:
        assert (picture[last[0] * scale, last[1] * scale : (last[1] + window) * scale] == figures.LAST).all()


def test_a_heat_map_of_another_size_is_refused() -> None:
    scene = np.zeros((40, 56, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(4, 6\) windows; the heat map is \(4, 5\)"):
        figures.windows_picture(scene, scene[:4, :5], (20, 31), 8, 4)


def test_the_line_below_says_what_fits_and_what_is_left() -> None:
    line = figures.describe_windows(66, 67, 32, 4)
    assert "9 x 9" in line
    assert "bottom: 2 rows" in line
    assert "right: 3 columns" in line


def test_the_growing_heat_map_follows_its_sliders() -> None:
    net = network(window=10, stride=2)
    widget = figures.growing_heatmap(net, DATA.images[0], DATA, window=10, stride=2)
    height, width, image, line, key = widget.children
    first = decoded(image.value)
    height.value, width.value = 31, 44
    with torch.no_grad():
        labels = net(DATA.images[:1, :, :31, :44]).argmax(1)[0]
    pixels = (DATA.images[0] * 255).round().byte().permute(1, 2, 0).numpy()
    expected = figures.windows_picture(pixels, DATA.colourize(labels), (31, 44), 10, 2)
    assert np.array_equal(decoded(image.value), decoded(expected))
    assert not np.array_equal(first, decoded(image.value))
    assert "11 x 18" in line.value
    assert all(name in key.value for name in DATA.classes)


@pytest.mark.parametrize(("height", "width", "stride"), [(5, 8, 2), (7, 4, 3), (3, 6, 1)])
def test_frames_fill_the_map_pass_by_pass(height: int, width: int, stride: int) -> None:
    labels = np.random.default_rng(1).integers(0, 200, (height, width, 3)).astype(np.uint8)
    frames = figures.stitch_frames(labels, stride)
    assert len(frames) == stride**2 + 1
    assert np.array_equal(frames[-1], labels)
    for count, frame in enumerate(frames):
        for i in range(height):
            for j in range(width):
                filled = (i % stride) * stride + j % stride < count
                assert np.array_equal(frame[i, j], labels[i, j] if filled else figures.EMPTY)


def test_the_stitching_widget_has_a_frame_a_pass() -> None:
    widget = figures.stitching(DATA, DATA.masks[0], stride=3)
    slider, stack = widget.children
    assert (slider.min, slider.max, len(stack.children)) == (0, 9, 10)
    assert slider.value == stack.selected_index == 1
    assert np.array_equal(decoded(stack.children[9].value)[::5, ::5], DATA.colourize(DATA.masks[0]))


def test_upsampling_sits_where_the_windows_are() -> None:
    """A network whose window's mean decides: on a picture of two halves, the edge stays where it is."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.AvgPool2d(8, stride=4), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3])[:, :, None, None])
        net[1].bias.copy_(torch.tensor([3.0, -3.0]) / 2)
    images = torch.zeros(1, 3, 24, 40)
    images[..., 20:] = 1
    for mode in ("nearest", "bilinear"):
        labels = figures.upsampled_labels(net, images, 8, 4, mode)
        assert labels.shape == (1, 24, 40)
        assert torch.equal(labels[0], (images[0, 0] > 0.5).long())


def test_upsampling_of_stride_one_is_the_sliding_window() -> None:
    net = network(window=5, stride=1)
    images = DATA.images[:, :, :12, :17]
    padded = nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    with torch.no_grad():
        expected = shift_and_stitch(net, padded, 5, 1).argmax(1)
    assert torch.equal(figures.upsampled_labels(net, images, 5, 1, "nearest"), expected)


def test_accuracy_leaves_void_out() -> None:
    masks = torch.tensor([[0, 1, VOID], [2, 2, VOID]])
    labels = torch.tensor([[0, 2, 1], [2, 2, 0]])
    assert figures.pixel_accuracy(labels, masks) == 0.75


def test_same_as_windows_tells_exact_from_nearly() -> None:
    net = network(window=6, stride=2, classes=3)
    image = torch.randn(2, 3, 13, 18, generator=torch.Generator().manual_seed(0))
    assert figures.same_as_windows(net, image, 6, 2)
    assert not figures.same_as_windows(net, image, 6, 1)  # other windows
    assert not figures.same_as_windows(lambda x: net(x) + 0.05 * x.mean((2, 3), keepdim=True)[:, :3], image, 6, 2)
    padded = nn.Conv2d(3, 3, 3, padding=1)
    assert not figures.same_as_windows(nn.Sequential(padded, nn.Conv2d(3, 3, 6)), image, 6, 1)
