"""The figures of lesson 01 show what they are given: read back from the artists, not from pixels."""

import io
import itertools
import random
import re
import warnings

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image
from torch import nn

from segcourse.figures import receptive_field as figures
from segcourse.plots import OKABE_ITO, png, use_style
from segcourse.receptive_field import Field, Layer, reached
from segcourse.tracing import trace


def random_chain(seed: int) -> list[Layer]:
    rng = random.Random(seed)
    return [Layer(rng.randint(1, 4), rng.randint(1, 3), rng.randint(0, 2), rng.randint(1, 2)) for _ in range(3)]


def by_gradient(layers: list[Layer], position: int, image: int) -> list[int]:
    """The pixels inside the image that an output depends on, by autograd through real layers."""
    convolutions = [nn.Conv1d(1, 1, la.kernel, la.stride, la.padding, la.dilation, bias=False) for la in layers]
    for convolution in convolutions:
        nn.init.ones_(convolution.weight)
    x = torch.zeros(1, 1, image, requires_grad=True)
    nn.Sequential(*convolutions)(x)[0, 0, position].backward()
    return x.grad[0, 0].nonzero().flatten().tolist()


def boxes(figure, colour: str, level: int) -> list[float]:
    """Centres of the boxes of a colour at a level of a ladder."""
    found = []
    for collection in figure.axes[0].collections:
        paths = collection.get_paths()
        if paths and len(collection.get_facecolor()) and tuple(collection.get_facecolor()[0][:3]) == to_rgb(colour):
            corners = [path.vertices[:4] for path in paths]
            found += [c[:, 0].mean() for c in corners if round(c[:, 1].mean()) == level]
    return sorted(found)


@pytest.mark.parametrize("seed", range(20))
def test_ladder_fills_what_the_gradient_reaches(seed: int) -> None:
    layers, image = random_chain(seed), 40
    sizes = figures.lengths(layers, image)
    position = seed % sizes[-1]
    figure = figures.ladder(layers, position, image)
    assert boxes(figure, OKABE_ITO["sky"], 0) == pytest.approx(by_gradient(layers, position, image))
    assert len(boxes(figure, OKABE_ITO["sky"], 3)) == 1
    for level in range(4):
        drawn = [box for colour in ("white", figures.PALE, OKABE_ITO["sky"]) for box in boxes(figure, colour, level)]
        assert len(drawn) == len(set(range(sizes[level])) | reached(layers, position)[3 - level])


@pytest.mark.parametrize("seed", range(10))
def test_lengths_are_torchs(seed: int) -> None:
    layers, x = random_chain(seed), torch.zeros(1, 1, 37)
    expected = [37]
    for layer in layers:
        x = nn.Conv1d(1, 1, layer.kernel, layer.stride, layer.padding, layer.dilation)(x)
        expected.append(x.shape[-1])
    assert figures.lengths(layers, 37) == expected


def test_links_lead_from_each_unit_to_its_taps() -> None:
    figure = figures.ladder([Layer(3, 2), Layer(2, 1)], 1, 11)
    links = [c.get_paths() for c in figure.axes[0].collections if isinstance(c, LineCollection) and c.get_paths()]
    (upper,) = [paths for paths in links if paths[0].vertices[0][1] > 1]
    # Output 1 reads the units 1 and 2 of layer 1, whose centres are 2*1 + 1 and 2*2 + 1; its own is between them.
    assert sorted(path.vertices[1][0] for path in upper) == [3, 5]
    assert {path.vertices[0][0] for path in upper} == {4}


def test_words_count_padding_and_holes() -> None:
    words = figures.ladder_words([Layer(3, padding=1), Layer(2, 2), Layer(3, padding=1)], 0, 10)
    assert "8 pixels, -3 to 4 of a row of 10" in words
    assert "units -1 to 1 of layer 2 and units -2 to 3 of layer 1" in words
    assert "3 of them lie in the padding" in words
    words = figures.ladder_words([Layer(3, dilation=2)], 1, 10)
    assert words == "Output 1 sees 5 pixels, 1 to 5 of a row of 10; centre 3, jump 1. 2 of them are not read: holes."


@pytest.mark.parametrize("seed", range(20))
def test_words_add_up_to_what_the_gradient_reaches(seed: int) -> None:
    layers, image = random_chain(seed), 40
    position = seed % figures.lengths(layers, image)[-1]
    words = figures.ladder_words(layers, position, image)
    hidden = re.search(r"(\d+) in the image (?:is|are) reached only through padding", words)
    inside = {i for i in reached(layers, position)[-1] if 0 <= i < image}
    counted = len(inside) - (int(hidden[1]) if hidden else 0)
    assert counted == len(by_gradient(layers, position, image))


def test_words_of_the_widget_count_what_padding_hides() -> None:
    # By hand: of the 23 pixels 3 to 25 two lie outside, and 22 and 23 belong to a padded unit of layer 2 alone.
    words = figures.play_words(2, 5, 4, 0, 3)
    assert "23 pixels, 3 to 25 of a row of 24" in words
    assert "2 of them lie in the padding. 2 in the image are reached only through padding" in words
    assert words.endswith("A unit of layer 2 sees 15 pixels.")


PLAYS = list(itertools.product((0, 4), (1, 5), (1, 4), (0, 4), (1, 3)))


def test_every_setting_of_the_widget_gives_a_picture_of_one_size() -> None:
    use_style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures = [figures.play(*setting) for setting in PLAYS]
    assert len({Image.open(io.BytesIO(p)).size for p in pictures}) == 1
    assert figures.play(2, 3, 2, 1, 1) == figures.play(2, 3, 2, 1, 1)
    changes = [figures.play(2, *s) for s in ((3, 2, 1, 1), (4, 2, 1, 1), (3, 3, 1, 1), (3, 2, 2, 1), (3, 2, 1, 2))]
    assert len({*changes, figures.play(3, 3, 2, 1, 1)}) == 6


@pytest.mark.parametrize("setting", PLAYS)
def test_nothing_of_the_widget_is_cut_off(setting: tuple[int, ...]) -> None:
    position, *layer = setting
    layers = [Layer(3, padding=1), Layer(*layer), Layer(3, padding=1)]
    position = min(position, figures.lengths(layers, figures.PLAY_IMAGE)[-1] - 1)
    axes = figures.ladder(layers, position, figures.PLAY_IMAGE, margin=9).axes[0]
    low, high = axes.get_xlim()
    across = [path.vertices[:, 0] for c in axes.collections for path in c.get_paths()]
    assert low < min(x.min() for x in across)
    assert high > max(x.max() for x in across)


def test_widget_shows_the_last_output_where_there_are_few() -> None:
    words = figures.play_words(4, 5, 4, 0, 3)
    shown = int(re.match(r"There is no output 4; shown is the last one, (\d)\. Output \1", words)[1])
    layers = [Layer(3, padding=1), Layer(5, 4, 0, 3), Layer(3, padding=1)]
    assert shown == figures.lengths(layers, figures.PLAY_IMAGE)[-1] - 1
    assert figures.play(4, 5, 4, 0, 3) == figures.play(shown, 5, 4, 0, 3)
    assert figures.play_words(4, 3, 2, 1, 1).startswith("Output 4")


def test_field_bars() -> None:
    axes = figures.field_bars({"small": 195, "large": 1311}, 224).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [195, 1311]
    assert list(axes.lines[0].get_xdata()) == [224, 224]


def test_touched_draws_rows_times_columns() -> None:
    patterns = {"a": [0, 2, 4], "b": [-1, 0, 1, 2]}
    figure = figures.touched(patterns)
    drawn = [axes.collections[0].get_array().reshape(-1) for axes in figure.axes]
    assert [int(d.sum()) for d in drawn] == [9, 16]
    assert [len(d) for d in drawn] == [25, 16]
    assert figures.read_share([0, 2, 4]) == 9 / 25
    assert "36% read" in figure.axes[0].get_title()


def test_phases_draws_each_outputs_extent() -> None:
    field = Field.of([Layer(3, 2, 1), Layer(3, 2, 1, transposed=True)])
    axes = figures.phases(field, 6).axes[0]
    # By hand: even outputs 2j read coarse unit j alone, odd ones the units j and j + 1; unit j reads 2j-1 .. 2j+1.
    expected = [(2 * (i // 2) - 1, 2 * (i // 2) + (3 if i % 2 else 1)) for i in range(6)]
    assert [(b.get_x() + 0.5, b.get_x() + b.get_width() - 0.5) for b in axes.patches] == expected


def bell(size: int, spread: float) -> torch.Tensor:
    place = torch.arange(size) - (size - 1) / 2
    return (-(place[:, None] ** 2 + place**2) / spread**2).exp()


def test_field_maps_draws_the_effective_square() -> None:
    figure = figures.field_maps({"one": bell(17, 3), "two": bell(33, 4)}, {"one": 7.0, "two": 9.5})
    squares = [next(p for p in axes.patches if isinstance(p, Rectangle)) for axes in figure.axes]
    assert [square.get_width() for square in squares] == [7.0, 9.5]
    assert [s.get_x() + s.get_width() / 2 for s in squares] == [8, 16]
    assert "field 33, effective 9.5" in figure.axes[1].get_title()


def test_plain_stack_keeps_the_size_and_has_the_field_of_its_depth() -> None:
    model = figures.plain_stack(5, channels=4)
    assert model(torch.zeros(2, 3, 9, 13)).shape == (2, 4, 9, 13)
    assert trace(model, (3, 32, 40))[""][0].size == 11  # 1 + 2 L


def test_ratio_lines_and_their_guide() -> None:
    runs = {"random": [[0.9, 0.7], [0.8, 0.6]], "equal": [[0.7, 0.4]]}
    axes = figures.ratio_lines([4, 16], runs).axes[0]
    assert [list(line.get_ydata()) for line in axes.lines[:3]] == [[0.9, 0.7], [0.8, 0.6], [0.7, 0.4]]
    first, last = axes.lines[3].get_ydata()
    assert first / last == pytest.approx(2)  # four times the depth
    assert len(axes.get_legend().get_texts()) == 3


def test_picture_fades_where_the_map_is_small() -> None:
    picture = np.full((64, 64, 3), 100, np.uint8)
    figure = figures.field_on_picture(picture, {"field": (40, 31.5)}, bell(64, 8))
    shown = figure.axes[0].images[0].get_array()
    assert shown[32, 32].max() == 100
    assert shown[0, 0].max() == 20
    assert 20 < shown[32, 20].max() < shown[32, 26].max() < 100
    assert len(png(figure)) > 1000
