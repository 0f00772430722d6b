"""The figures of lesson 00 say what the data say."""

import io
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from segcourse.datasets import CLASSES, PALETTE, VOID, SegmentationSet, colourize
from segcourse.exercises import lessons
from segcourse.figures import start_here as figures
from segcourse.plots import use_style
from segcourse.progress import ExerciseRecord, Progress


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        use_style()
        yield
    plt.close("all")


@pytest.fixture
def scene():
    """An image and a mask of 20 x 36 with a few large classes, one small one and some void."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 20, 36, generator=generator)
    mask = torch.zeros(20, 36, dtype=torch.int64)
    mask[12:] = 3
    mask[:9, 20:] = 1
    mask[10, 5:7] = 9
    mask[18:, :11] = VOID
    return image, mask


def words(figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_bytes_keep_the_place_of_rows_columns_and_colours(scene) -> None:
    image, _ = scene
    pixels = figures.as_bytes(image)
    assert pixels.shape == (20, 36, 3)
    assert pixels.dtype == np.uint8
    assert all(abs(pixels[y, x, c] / 255 - image[c, y, x]) <= 0.5 / 255 + 1e-6 for y, x, c in [(0, 5, 1), (19, 35, 2)])


def test_scene_names_its_large_regions_and_lists_all(scene) -> None:
    figure = figures.scene_and_mask(*scene, CLASSES, PALETTE)
    assert words(figure) == ["sky", "building", "road"]  # the pedestrian is too small for a word
    listed = [text.get_text() for text in figure.legends[0].get_texts()]
    assert listed == ["0 sky", "1 building", "3 road", "9 pedestrian", "255 void"]
    for text in figure.axes[1].texts:
        x, y = text.get_position()
        assert CLASSES[int(scene[1][round(y), round(x)])] == text.get_text()


def test_void_is_hatched_where_it_is_and_nowhere_else(scene) -> None:
    image, mask = scene
    figure = figures.scene_and_mask(image, mask, CLASSES, PALETTE)
    hatched = [c for c in figure.axes[2].collections if getattr(c, "hatches", None) and any(c.hatches)]
    box = hatched[0].get_paths()[0].get_extents()
    assert np.allclose(box.get_points(), [[-0.5, 17.5], [10.5, 19.5]], atol=0.51)
    without = figures.scene_and_mask(image, mask.clamp(max=10), CLASSES, PALETTE)
    assert not without.axes[2].collections
    assert "255 void" not in [text.get_text() for text in without.legends[0].get_texts()]


def test_blend_goes_from_image_to_mask(scene) -> None:
    image, mask = scene
    pixels, labelled = figures.as_bytes(image), mask.numpy() != VOID
    before = pixels.copy()
    assert (figures.blend(pixels, mask, PALETTE, 0.0) == pixels).all()
    full = figures.blend(pixels, mask, PALETTE, 1.0)
    assert (full[labelled] == colourize(mask, PALETTE)[labelled]).all()
    assert {tuple(c) for c in full[~labelled].tolist()} == {(0, 0, 0), (255, 255, 255)}  # striped
    half = figures.blend(pixels, mask, PALETTE, 0.5).astype(int)
    assert (abs(2 * half - pixels.astype(int) - full)[labelled] <= 1).all()
    assert (pixels == before).all()


@pytest.mark.parametrize("lit", [0, 3, 9, VOID, 7])
def test_a_lit_class_keeps_its_colours_the_rest_turns_grey(scene, lit: int) -> None:
    image, mask = scene
    pixels, chosen = figures.as_bytes(image), mask.numpy() == lit
    plain = figures.blend(pixels, mask, PALETTE, 0.4)
    mixed = figures.blend(pixels, mask, PALETTE, 0.4, lit)
    edge = figures.outline(chosen)
    assert (mixed[chosen] == plain[chosen]).all()
    assert (mixed[edge] == (213, 94, 0)).all()
    others = mixed[~chosen & ~edge]
    assert (others == others[:, :1]).all()
    assert len(others) + edge.sum() + chosen.sum() == mask.numel()


def test_void_is_striped_only_while_it_is_what_to_look_at(scene) -> None:
    _, mask = scene
    flat, void = np.full((20, 36, 3), 90, np.uint8), mask.numpy() == VOID
    edge = figures.outline(mask.numpy() == 3)
    shades = {lit: np.unique(figures.blend(flat, mask, PALETTE, 0.5, lit)[void & ~edge]) for lit in (None, 3, VOID)}
    assert [len(each) for each in shades.values()] == [2, 1, 2]


def test_outline_is_what_touches_the_region_from_outside() -> None:
    region = np.random.default_rng(1).random((7, 11)) < 0.3
    for y, x in np.ndindex(region.shape):
        sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        touches = any(0 <= r < 7 and 0 <= c < 11 and region[r, c] for r, c in sides)
        assert figures.outline(region)[y, x] == (touches and not region[y, x])


@pytest.fixture
def scenes(scene):
    image, mask = scene
    both = torch.stack([torch.zeros_like(mask), mask])
    images = torch.stack([image, image])
    return SegmentationSet("test", "val", images, both, CLASSES, PALETTE, ("a", "b"), 2)


def test_viewer_draws_the_chosen_scene(scenes) -> None:
    picture = Image.open(io.BytesIO(figures.viewer_png(scenes, 1, 0.7, "road")))
    assert picture.size == (36 * 18, 20 * 18)  # about 640 pixels wide
    expected = figures.blend(figures.as_bytes(scenes.images[1]), scenes.masks[1], PALETTE, 0.7, 3)
    assert (np.asarray(picture)[9::18, 9::18] == expected).all()


def test_viewer_says_what_it_shows(scenes) -> None:
    mask = scenes.masks[1]
    labelled = (mask != VOID).sum()
    pedestrian = 100 * float((mask == 9).sum() / labelled)
    assert figures.viewer_words(scenes, 1, 0.5, "pedestrian") == (
        f"Scene 1: {pedestrian:.1f} % of the labelled pixels are pedestrian (2 pixels)."
    )
    assert figures.viewer_words(scenes, 1, 0.5, "void") == (
        f"Scene 1: {100 * 22 / 720:.1f} % of all pixels are void (22 pixels)."
    )
    all_of_it = figures.viewer_words(scenes, 1, 0.5, figures.EVERY_CLASS)
    assert all_of_it.startswith("Scene 1: 4 classes; the largest are sky ")
    assert all_of_it.endswith("the smallest is pedestrian, 2 of 720 pixels.")
    assert re.findall(r"(\w+) [\d.]+ %", all_of_it) == ["sky", "road", "building"]
    assert figures.viewer_words(scenes, 0, 0.5, "road") == "Scene 0: no road here."
    assert figures.viewer_words(scenes, 0, 0.5, "void") == "Scene 0: no void here."


def test_a_scene_without_a_label_is_no_error(scene) -> None:
    image, mask = scene
    blank = torch.full_like(mask, VOID)
    scenes = SegmentationSet("test", "val", image[None], blank[None], CLASSES, PALETTE, ("a",), 1)
    assert figures.viewer_words(scenes, 0, 0.5, figures.EVERY_CLASS) == "Scene 0: no pixel has a label."
    assert figures.viewer_words(scenes, 0, 0.5, "road") == "Scene 0: no road here."
    assert figures.viewer_words(scenes, 0, 0.5, "void") == "Scene 0: 100.0 % of all pixels are void (720 pixels)."


def test_richest_scene_has_most_classes_then_most_void(scene) -> None:
    image, mask = scene
    plain = mask.clamp(max=10)  # void turns into class 10: one class more
    poor = torch.where(mask == VOID, VOID, 0)
    less = mask.clone()
    less[19] = 3
    masks = torch.stack([poor, less, mask])
    scenes = SegmentationSet("test", "val", image.expand(3, -1, -1, -1), masks, CLASSES, PALETTE, ("a", "b", "c"), 3)
    assert figures.richest_scene(scenes) == 2
    assert figures.richest_scene(scenes.subset([2, 1, 0])) == 0
    masks[0] = plain
    assert figures.richest_scene(scenes) == 0
    assert figures.scene_words(scenes, 2) == (
        "Scene 2, its mask and its void, 22 of 720 pixels. In the mask: sky, building, road, pedestrian."
    )


def test_stages_are_drawn_with_their_shapes_and_a_sheet_for_four_channels() -> None:
    stages = [
        ("image", torch.rand(1, 3, 24, 40)),
        ("down", torch.rand(1, 64, 3, 5)),
        ("scores", torch.rand(1, 5, 24, 40)),
    ]
    mask = np.zeros((24, 40), np.int64)
    mask[3:5] = 8
    figure = figures.encoder_decoder(stages, mask, CLASSES, PALETTE)
    said = ["image: 3 x 24 x 40", "down: 64 x 3 x 5", "scores: 5 x 24 x 40", "mask: 24 x 40"]
    assert words(figure) == said
    assert [len(axis.images) for axis in figure.axes] == [2, 2]  # encoder above, decoder below
    images = [image for axis in figure.axes for image in axis.images]
    extents = [image.get_extent() for image in images]
    sizes = [((right - left) / (top - bottom), (top - bottom) ** 2) for left, right, bottom, top in extents]
    assert np.allclose(sizes, [(40 / 24, 1), (5 / 3, 3 / 24), (40 / 24, 1), (40 / 24, 1)])
    assert all(axis.images[0].get_extent()[1] < axis.images[1].get_extent()[0] for axis in figure.axes)  # side by side
    for axis, sheets in zip(figure.axes, ([1, 16], [2, 1])):
        second = axis.images[1].get_extent()[0]
        first = sum(patch.get_x() < second - 1e-9 for patch in axis.patches)
        assert [first, len(axis.patches) - first] == sheets
        right, top = axis.get_xlim()[1], axis.get_ylim()[1]
        assert all(p.get_x() + p.get_width() < right and p.get_y() + p.get_height() < top for p in axis.patches)
    assert np.allclose(images[1].get_array(), stages[1][1][0].mean(dim=0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0 sky", "8 car"]


def test_bars_are_as_long_as_the_shares() -> None:
    one, other = [0.5, 0.0, 0.2, 0.3], [0.25, 0.25, 0.1, 0.4]
    figure = figures.share_bars({"one": one, "other": other}, ["a", "b", "c", "d"])
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "c", "d", "a"]
    assert np.allclose([bar.get_width() for bar in axis.containers[0]], [0, 20, 30, 50])
    assert np.allclose([bar.get_width() for bar in axis.containers[1]], [25, 10, 40, 25])
    assert axis.get_xscale() == "log"
    assert words(figure)[:4] == ["0.00", "20.0", "30.0", "50.0"]


def test_planes_are_drawn_one_by_one() -> None:
    planes = torch.rand(8, 3, 5) < 0.5
    figure = figures.plane_grid(planes, CLASSES[:8])
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in drawn] == [f"[{i}] {name}" for i, name in enumerate(CLASSES[:8])]
    for axis, plane in zip(drawn, planes):
        assert (axis.images[0].get_array() == plane.numpy()).all()


def test_the_two_cars_touch() -> None:
    image, semantic, instances = figures.two_cars()
    assert image.shape == (*semantic.shape, 3)
    assert semantic.shape == instances.shape
    assert set(np.unique(semantic)) == {0, 1}
    assert ((instances > 0) == (semantic == 1)).all()
    assert ndimage.label(semantic)[1] == 1
    assert [ndimage.label(instances == number)[1] for number in (1, 2)] == [1, 1]
    assert instances.max() == 2
    figure = figures.semantic_and_instances(image, semantic, instances)
    assert words(figure) == ["car", "car 1", "car 2"]


def test_course_map_counts_what_is_done() -> None:
    lesson = lessons()[0]
    first, second, *rest = lesson.exercises
    done = Progress({
        first.name: ExerciseRecord(points=first.points, of=first.points),
        second.name: ExerciseRecord(points=0, attempts=3),
    })  # fmt: skip
    text, markup = figures.course_map(lessons(), done)
    lines = text.splitlines()
    assert len(lines) == len(lessons())
    assert lines[0].startswith(f"{lesson.stem[:2]} {lesson.title}")
    assert f"{first.points} of {lesson.points}" in lines[0]
    assert lines[0].endswith("✓○" + "○" * len(rest))
    for line, one in zip(lines, lessons()):
        assert f"{one.minutes} min" in line
        assert f'href="{one.stem}.ipynb"' in markup
    plain = re.sub(r"<[^>]+>", " ", markup)
    assert all(word in plain for word in re.findall(r"\w+", text.replace("✓", "")))
