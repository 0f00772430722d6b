"""Figures carry words; widgets call their function and show what it returns."""

import io
import re
from typing import Any

import ipywidgets as w
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segcourse import plots, widgets
from segcourse.datasets import CLASSES, PALETTE


@pytest.fixture
def shown(monkeypatch) -> list[dict[str, Any]]:
    """What a notebook would be sent."""
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_figure_is_shown_with_its_words(shown) -> None:
    plots.show(Figure(figsize=(2, 1)), 'Two bars, 3 and 5; the second is "larger".')
    (bundle,) = shown
    assert bundle["text/plain"] == 'Two bars, 3 and 5; the second is "larger".'
    assert 'alt="Two bars, 3 and 5; the second is &quot;larger&quot;."' in bundle["text/html"]
    assert "image/png" not in bundle


@pytest.mark.parametrize("alt", ["", "A figure"])
def test_figure_without_words_is_refused(alt: str) -> None:
    with pytest.raises(ValueError, match="says too little"):
        plots.show(Figure(), alt)


def test_outside_of_a_notebook_the_words_are_printed(capsys) -> None:
    plots.show(Figure(), "Nothing but an empty canvas.")
    assert capsys.readouterr().out == "Nothing but an empty canvas.\n"


def test_shown_figures_are_closed() -> None:
    figure, _ = plt.subplots()
    plots.png(figure)
    assert not plt.fignum_exists(figure.number)


def test_same_figure_same_bytes() -> None:
    def draw() -> bytes:
        figure, axes = plt.subplots(figsize=(2, 1))
        axes.bar([0, 1], [3, 5])
        return plots.png(figure)

    assert draw() == draw()


def test_array_becomes_a_picture_of_squares() -> None:
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    picture = decoded(widgets.array_png(array, scale=4))
    assert picture.shape == (8, 12, 3)
    assert np.array_equal(picture[::4, ::4], array)
    assert np.array_equal(picture[3::4, 3::4], array)


def test_live_image_follows_its_controls() -> None:
    def draw(level: int, on: bool) -> bytes:
        return widgets.array_png(np.full((2, 3), level if on else 0, np.uint8))

    slider, box = w.IntSlider(value=5, min=0, max=9), w.Checkbox(value=True)
    view = widgets.live_image([slider, box], draw, describe=lambda level, on: f"level {level} <{on}>")
    image, line = view.children[-2:]
    assert decoded(image.value).max() == 5
    slider.value = 8
    assert decoded(image.value).max() == 8
    assert line.value == "level 8 &lt;True&gt;"
    box.value = False
    assert decoded(image.value).max() == 0


def test_frame_stack_holds_every_frame() -> None:
    frames = [widgets.array_png(np.full((2, 2), i, np.uint8)) for i in range(4)]
    slider, stack = widgets.frame_stack(frames, "stamp").children
    assert [child.value for child in stack.children] == frames
    assert (slider.min, slider.max, stack.selected_index) == (0, 3, 0)


def test_widget_speaks_for_itself(shown, capsys) -> None:
    widgets.show_widget(w.IntSlider(), "A slider from 0 to 100, at 0.")
    (bundle,) = shown
    assert bundle["text/plain"] == "A slider from 0 to 100, at 0."
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_colour_key_has_every_class_in_its_colour() -> None:
    key = plots.colour_key(CLASSES, PALETTE)
    for label, (name, colour) in enumerate(zip(CLASSES, PALETTE.tolist())):
        red, green, blue = colour
        assert re.search(rf"background:#{red:02x}{green:02x}{blue:02x}\"></span> {label} {name}</span>", key)
    assert "255 void" in key
    assert key.count("<span") == key.count("</span>") == 2 * (len(CLASSES) + 1)
