"""The figures of lesson 09 show the numbers that they are given, where they belong."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from segcourse.datasets import colourize, load
from segcourse.figures import metrics as figures
from segcourse.metrics import boundary, hausdorff
from segcourse.plots import as_bytes, png


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def drawn(figure) -> np.ndarray:
    pixels = decoded(png(figure))
    assert pixels.shape[1] <= 1000  # readable at 100 %
    return pixels


def texts(axes) -> list[str]:
    return [t.get_text() for t in axes.texts]


def test_the_table_is_drawn_in_shares_of_its_rows() -> None:
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [1, 1, 998]])
    figure = figures.confusion_figure(counts, ("sky", "car", "road"), "a title")
    axes = figure.axes[0]
    percent = axes.get_images()[0].get_array()
    assert np.allclose(percent.filled(np.nan), [[75, 25, 0], [np.nan] * 3, [0.1, 0.1, 99.8]], equal_nan=True)
    assert axes.get_images()[0].get_clim() == (0, 100)
    assert figure.axes[1].get_ylabel() == "percent of the row"
    assert texts(axes) == ["75", "25", "100"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["sky", "car", "road"]
    drawn(figure)


def test_scenes_stand_above_their_masks() -> None:
    scenes = load("val", count=3, size=(48, 64))
    figure = figures.scenes_figure(scenes.images[:2], scenes.masks[:2], scenes.classes, scenes.palette)
    pictures = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert np.array_equal(pictures[0], as_bytes(scenes.images[0]))
    assert np.array_equal(pictures[2], colourize(scenes.masks[0], scenes.palette))
    assert len(pictures) == 4
    drawn(figure)


def test_the_car_is_not_cut_off() -> None:
    car = figures.small_car()
    for right, down, grow in ((60, 0, 0), (-6, -8, 6), (0, 8, 6), (60, 8, 6)):
        assert figures.moved(car, down, right, grow).sum() == figures.moved(car, 0, 10, grow).sum()
    assert not (car & figures.moved(car, 0, 34, 0)).any()
    assert (car & figures.moved(car, 0, 33, 0)).any()


def test_classes_stand_from_frequent_to_rare() -> None:
    ious = {"one": torch.tensor([0.2, 0.4, math.nan]), "other": torch.tensor([0.5, 1.0, 0.0])}
    figure = figures.classes_figure(ious, torch.tensor([0.1, 0.3, 0.6]), ("a", "b", "c"))
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0, 0.4, 0.2, 0, 1.0, 0.5])
    assert [t.get_text().split("\n")[0] for t in axes.get_xticklabels()] == ["c", "b", "a"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["one: mean 0.30", "other: mean 0.50"]
    drawn(figure)


def test_dice_is_drawn_above_iou() -> None:
    figure = figures.dice_figure({"car": (0.5, 2 / 3)})
    line, curve, *_ = figure.axes[0].lines
    x, y = curve.get_data()
    assert np.allclose(y, 2 * x / (1 + x))
    assert np.allclose(*line.get_data())
    assert texts(figure.axes[0]) == ["car"]
    drawn(figure)


@pytest.mark.parametrize("iou", [0.05, 0.07, 0.15, 0.25, 0.5, 0.8, 0.99])
def test_the_name_of_a_class_lies_nearer_to_its_point_than_to_the_diagonal(iou: float) -> None:
    figure = figures.dice_figure({"pole": (iou, 2 * iou / (1 + iou))})
    figure.canvas.draw()
    axes = figure.axes[0]
    box = axes.texts[0].get_window_extent().transformed(axes.transData.inverted())
    assert box.x0 > axes.get_xlim()[0]
    assert box.y0 > 2 * box.x1 / (1 + box.x1)  # above the curve, which is above the diagonal


def test_masks_are_painted_by_what_they_share() -> None:
    prediction, target = torch.tensor([[1, 1, 0, 0]]).bool(), torch.tensor([[1, 0, 1, 0]]).bool()
    picture = figures.overlay(prediction, target)
    assert picture.tolist() == [[list(c) for c in (figures.BOTH, figures.ADDED, figures.MISSED, (255, 255, 255))]]


@pytest.mark.parametrize("seed", range(5))
def test_worst_points_are_as_far_apart_as_the_masks(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(9, 13, generator=draw) < 0.2 for _ in range(2))
    point, partner = figures.worst_points(a, b)
    assert math.dist(point, partner) == pytest.approx(hausdorff(a, b))
    lines = boundary(a), boundary(b)
    assert (lines[0][point] and lines[1][partner]) or (lines[1][point] and lines[0][partner])


def test_empty_masks_have_no_worst_points() -> None:
    with pytest.raises(ValueError, match="no worst point"):
        figures.worst_points(torch.zeros(3, 4).bool(), torch.ones(3, 4).bool())


def test_three_mistakes_are_of_one_size() -> None:
    mistakes = figures.three_mistakes()
    assert [int((p ^ t).sum()) for p, t in mistakes.values()] == [56, 56, 56]
    figure = figures.outlines_figure(mistakes)
    for axes, (prediction, target) in zip(figure.axes, mistakes.values()):
        values = figures.region_and_boundary(prediction, target)
        assert f"IoU {values['IoU']:.2f}" in axes.get_xlabel()
        assert f"Hausdorff {values['Hausdorff']:.1f}, HD95 {values['HD95']:.1f}" in axes.get_xlabel()
    assert [texts(axes) for axes in figure.axes] == [["2 px"], [""], [""]]  # an arrow is a note without words
    drawn(figure)


def test_a_mask_moves_grows_and_shrinks() -> None:
    mask = torch.zeros(9, 12, dtype=torch.bool)
    mask[3:6, 4:9] = True
    assert torch.equal(figures.moved(mask, 0, 0, 0), mask)
    assert torch.equal(figures.moved(mask, 2, -3, 0), mask.roll((2, -3), (0, 1)))
    assert figures.moved(mask, 0, 0, 1).sum() == 15 + 2 * 5 + 2 * 3
    assert figures.moved(mask, 0, 0, -1).nonzero().tolist() == [[4, 5], [4, 6], [4, 7]]
    assert not figures.moved(mask, 0, 0, -2).any()
    assert figures.moved(mask, 5, 0, 0).sum() == 5  # the lower rows have left
    assert not figures.moved(mask, 0, 20, 0).any()
    assert figures.moved(torch.ones(4, 5).bool(), 0, 0, -1).sum() == 2 * 3
    assert not figures.moved(torch.zeros(4, 5).bool(), 0, 0, 3).any()


def test_the_bars_are_as_long_as_the_numbers() -> None:
    target = torch.zeros(20, 30, dtype=torch.bool)
    target[4:16, 5:20] = True
    prediction = figures.moved(target, 0, 5, 0)
    picture = decoded(figures.comparison_picture(prediction, target))
    assert picture.shape == (260, 120 + 350, 3)
    assert np.array_equal(picture[2:78:4, 2:118:4], figures.overlay(prediction, target)[:19, :29])
    values = figures.region_and_boundary(prediction, target)
    for number, (name, value) in enumerate(values.items()):
        row = picture[12 + 34 * number + 5, 120 + 121 : 120 + 270]
        share = value if number < 5 else min(value / figures.LONGEST, 1)
        colour = np.array((0, 158, 115) if number < 5 else (213, 94, 0))
        assert (row == colour).all(1).sum() == pytest.approx(150 * share, abs=2), name
    line = figures.describe_move(prediction, target)
    assert line.startswith("180 pixels predicted, 180 in the target: accuracy 0.800")
    assert "Hausdorff 5.0 px" in line


def test_an_empty_copy_is_drawn_too() -> None:
    target = torch.ones(6, 8, dtype=torch.bool)
    nothing = figures.moved(target, 0, 20, 0)
    assert "IoU 0.000" in figures.describe_move(nothing, target)
    assert "Hausdorff inf px" in figures.describe_move(nothing, target)
    assert decoded(figures.comparison_picture(nothing, target)).shape == (260, 382, 3)


def test_the_widget_follows_its_sliders() -> None:
    target = torch.zeros(20, 30, dtype=torch.bool)
    target[4:16, 5:20] = True
    widget = figures.moving(target)
    down, right, grow, image, line = widget.children
    first = image.value
    down.value, right.value, grow.value = -2, 6, -1
    copy = figures.moved(target, -2, 6, -1)
    assert image.value == figures.comparison_picture(copy, target) != first
    assert line.value == figures.describe_move(copy, target)
