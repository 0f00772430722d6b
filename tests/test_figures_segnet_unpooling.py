"""The figures of lesson 05 show the numbers that they are given, where they belong."""

import io

import matplotlib.colors
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from segcourse.datasets import VOID, streets
from segcourse.datasets.labels import Label
from segcourse.figures import segnet_unpooling as figures
from segcourse.models.segnet import SegNetBasic
from segcourse.plots import png
from segcourse.proposals import find_things, grid_boxes, overlap, square

DATA = streets("val", 3, size=(48, 64))
NUMBERS = torch.tensor([[3.0, 1, 4, 2, 9, 5], [6, 2, 8, 7, 1, 3], [5, 9, 2, 6, 4, 8], [1, 7, 3, 5, 2, 6]])


def drawn(figure) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))
    assert pixels.shape[1] <= 1000  # readable at 100 %
    return pixels


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_the_largest_of_each_window_is_lit_and_pooled_maps_have_no_windows() -> None:
    values, indices = F.max_pool2d(NUMBERS[None], 2, return_indices=True)
    back = F.max_unpool2d(values, indices, (2, 2))[0]
    figure = figures.windows_figure({"map": NUMBERS, "pooled": values[0], "back": back})
    cells = figure.axes[0].patches
    lit = torch.tensor([matplotlib.colors.to_hex(cell.get_facecolor()) == figures.LIT.lower() for cell in cells])
    assert torch.equal(lit[:24].reshape(4, 6), back != 0)
    assert lit[24:30].all()
    assert torch.equal(lit[30:].reshape(4, 6), back != 0)
    said = [t for t in texts(figure) if not t[0].isalpha()]
    assert said[30:] == [f"{value:g}" if value else "·" for value in back.flatten().tolist()]
    assert len(figure.axes[0].lines) == 2 * (3 + 4)
    drawn(figure)


def test_a_pixel_is_followed_with_its_own_numbers() -> None:
    figure = figures.follow_figure(NUMBERS, 1, 2)
    said = [t for t in texts(figure) if not t[0].isalpha()]
    values, indices = F.max_pool2d(NUMBERS[None], 2, return_indices=True)
    back = F.max_unpool2d(values, indices, (2, 2))[0]
    fixed = torch.zeros(4, 6)
    fixed[::2, ::2] = values[0]
    expected = [
        f"{v:g}" if v or small else "·"
        for panel, small in ((NUMBERS, 0), (values[0], 1), (indices[0], 1), (back, 0), (fixed, 0))
        for v in panel.flatten().tolist()
    ]
    assert said == expected
    drawn(figure)


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("column", range(6))
def test_the_line_below_tells_what_becomes_of_the_pixel(row: int, column: int) -> None:
    line = figures.describe_pixel(NUMBERS, row, column)
    values, indices = F.max_pool2d(NUMBERS[None], 2, return_indices=True)
    back = F.max_unpool2d(values, indices, (2, 2))[0]
    index = int(indices[0, row // 2, column // 2])
    assert f"Pixel ({row}, {column}) holds {NUMBERS[row, column]:g}" in line
    if back[row, column]:
        assert f"= {index}, and there it comes back" in line
        assert ("fixed places also there" in line) == (row % 2 == column % 2 == 0)
    else:
        assert f"the largest of its window is {values[0, row // 2, column // 2]:g}, at {divmod(index, 6)}" in line
        assert f"index {index}" in line
        assert "a zero comes back" in line
        assert ("with fixed places" in line) == (row % 2 == column % 2 == 0)


def test_the_widget_follows_its_sliders() -> None:
    widget = figures.follow_pixel(NUMBERS)
    row, column, image, line = widget.children
    assert (row.max, column.max) == (3, 5)
    before = image.value
    row.value, column.value = 3, 1
    assert image.value != before
    assert "Pixel (3, 1) holds 7" in line.value


def test_places_are_those_in_the_window() -> None:
    maps = torch.randn(2, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    _, indices = F.max_pool2d(maps, 2, return_indices=True)
    cells = maps.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # rows of a window first
    assert torch.equal(figures.places_of(indices, 10), cells.argmax(4))


def test_panels_show_what_they_are_given() -> None:
    image, numbers = torch.rand(3, 6, 8), torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    places = torch.tensor([[0, 1], [2, 3]])
    panels = {
        "a": (image, "image"), "b": (numbers, "map"), "c": (numbers, "sparse"), "d": (places, "places"),
        "e": (numbers.sigmoid(), "share"),
    }  # fmt: skip
    figure = figures.inside_figure(panels, 3)
    shown = {axes.get_title(): axes.get_images()[0] for axes in figure.axes if axes.get_images()}
    assert np.array_equal(shown["b"].get_array(), numbers.numpy())
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown["c"].get_array())).tolist() == [[True, False], [False, True]]
    assert shown["e"].get_clim() == (0, 1)
    colours = shown["d"].to_rgba(places.numpy())
    legend = figure.legends[0].get_patches()
    assert [tuple(c) for c in colours.reshape(4, 4)] == [p.get_facecolor() for p in legend]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "upper left", "upper right", "lower left", "lower right",
    ]  # fmt: skip
    drawn(figure)


@pytest.mark.parametrize("how", ["indices", "nails"])
def test_what_is_watched_is_what_the_network_computes(how: str) -> None:
    torch.manual_seed(0)
    model = SegNetBasic(3, 5, width=4, depth=2, kernel=3, unpool=how).eval()
    image = DATA.images[0, :, :13, :18]
    with torch.no_grad():
        seen = figures.watch(model, image)
        first = model.encoder[0][:3](image[None])[0]
        assert torch.equal(seen["scores"], model(image[None])[0])
    assert torch.equal(seen["map"], first)
    pooled, indices = F.max_pool2d(first, 2, ceil_mode=True, return_indices=True)
    assert torch.equal(seen["pooled"], pooled)
    assert torch.equal(seen["indices"], indices)
    assert seen["unpooled"].shape == seen["dense"].shape == (4, 13, 18)
    if how == "indices":
        filled = torch.zeros_like(seen["map"]).flatten(1).scatter(1, indices.flatten(1), 1.0).view_as(first)
        assert not seen["unpooled"][filled == 0].any()
    with torch.no_grad():
        assert torch.allclose(model.score(model.decoder[-1](seen["unpooled"][None]))[0], seen["scores"], atol=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_part_that_is_shown_enlarged_is_framed_in_whole_maps() -> None:
    whole = torch.arange(48.0).reshape(6, 8)
    part = slice(1, 3), slice(2, 6)
    panels = {"whole": (whole, "map"), "part": (whole[part], "sparse"), "pooled": (whole[::2, ::2], "map")}
    figure = figures.inside_figure(panels, 3, part)
    frames = [[(p.get_xy(), p.get_width(), p.get_height()) for p in axes.patches] for axes in figure.axes]
    assert frames == [[((1.5, 0.5), 4, 2)], [], []]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "violet 0.0, yellow 47.0", "violet 10.0, yellow 21.0, white is zero", "violet 0.0, yellow 38.0",
    ]  # fmt: skip
    drawn(figure)


def test_only_things_are_left() -> None:
    things = figures.things_only(DATA)
    assert things.classes == ("background", "tree", "sign", "car", "person")
    names = {Label.TREE: 1, Label.SIGN: 2, Label.CAR: 3, Label.PEDESTRIAN: 4, Label.BICYCLIST: 4}
    for label in Label:
        assert (things.masks[label == DATA.masks] == names.get(label, 0)).all()
    assert torch.equal(things.masks == VOID, DATA.masks == VOID)
    assert things.images is DATA.images


def test_telling_boxes_fit_the_objects() -> None:
    things = figures.things_only(DATA)
    found = find_things(things.masks[[0]], range(1, 5), smallest=20)
    boxes = grid_boxes(things.size, (12, 24))
    chosen = figures.telling_boxes(boxes, found[:2])
    assert len(chosen) == 3
    for box, thing in zip(chosen, found):
        best = max(overlap(other, square(thing.box, things.size)) for other in boxes)
        assert overlap(box, square(thing.box, things.size)) == best


def test_a_scene_is_shown_with_its_largest_objects() -> None:
    things = figures.things_only(DATA)
    found = find_things(things.masks[[1]], range(1, 5))
    largest = figures.largest_things(things, 1)
    assert largest.keys() == {things.classes[thing.label] for thing in found}
    for name, thing in largest.items():
        sizes = [int(one.inside.sum()) for one in found if things.classes[one.label] == name]
        assert int(thing.inside.sum()) == max(sizes)
    boxes = grid_boxes(things.size, (12, 24))
    model = SegNetBasic(classes=5, width=4, depth=1, kernel=3).eval()
    figure = figures.scene_figure(model, things, 1, boxes, 16, things.masks[1])
    titles = [axes.get_title().split(",")[0] for axes in figure.axes if axes.get_title()]
    assert titles == ["the scene and some of its proposals", "all proposals", "truth", *largest, "none of these"]
    drawn(figure)


def test_proposals_are_drawn_with_their_labels() -> None:
    things = figures.things_only(DATA)
    boxes = {"tree": (0, 0, 20, 20), "none": (10, 30, 34, 54)}
    said = torch.randint(0, 5, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    named = {"together": things.masks[1].where(things.masks[1] != VOID, 0), "truth": things.masks[1]}
    figure = figures.proposals_figure(things, 1, boxes, said, 16, named)
    titles = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert {"tree, 20×20", "none, 24×24", "together", "truth"} <= titles.keys()
    assert np.array_equal(titles["truth"].get_images()[0].get_array(), things.colourize(things.masks[1]))
    frames = [(p.get_xy(), p.get_width(), p.get_height()) for p in figure.axes[0].patches]
    assert frames == [((-0.5, -0.5), 20, 20), ((29.5, 9.5), 24, 24)]
    shown = [axes.get_images()[0].get_array() for axes in figure.axes]
    for labels in said:
        assert any(np.array_equal(things.colourize(labels), picture) for picture in shown)
    drawn(figure)
