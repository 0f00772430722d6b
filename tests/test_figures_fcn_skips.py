"""The figures of lesson 04 show the numbers that they are given, where they belong."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from segcourse.datasets import VOID, streets
from segcourse.figures import fcn_skips as figures
from segcourse.metrics import boundary_band
from segcourse.models.fcn import FCN, Grid
from segcourse.plots import png
from segcourse.training import History

DATA = streets("val", 2, size=(48, 80))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def drawn(figure) -> np.ndarray:
    pixels = decoded(png(figure))
    assert pixels.shape[1] <= 1000  # readable at 100 %
    return pixels


def network(stride: int = 8) -> FCN:
    """A thin network whose scores differ from zero."""
    torch.manual_seed(stride)
    model = FCN(stride, 3, 11, width=1, batch_norm=True, kernel=3, padding=33)
    for name, parameter in model.named_parameters():
        if name.startswith(("score", "up")):
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


MODEL = network()
IMAGE = DATA.images[:1]


@pytest.mark.parametrize("side", [4, 8, 16])
def test_blocks_have_their_most_frequent_label(side: int) -> None:
    labels = figures.block_labels(DATA.masks, side)
    assert labels.shape == DATA.masks.shape
    for n in range(2):
        for i in range(0, 48, side):
            for j in range(0, 80, side):
                block = DATA.masks[n, i : i + side, j : j + side]
                given = labels[n, i : i + side, j : j + side].unique()
                assert len(given) == 1
                counts = block[block != VOID].bincount(minlength=11)
                assert counts[given] == counts.max()


def test_blocks_of_void_and_blocks_that_do_not_fit() -> None:
    masks = torch.full((1, 4, 6), VOID)
    masks[0, 0, :2] = torch.tensor([3, 1])
    masks[0, 1, 0] = 1
    assert figures.block_labels(masks, 2)[0].tolist() == [[1, 1, 0, 0, 0, 0]] * 2 + [[0] * 6] * 2
    with pytest.raises(ValueError, match="blocks of 4 do not fill masks of 4x6"):
        figures.block_labels(masks, 4)


def test_units_lie_where_the_networks_offsets_say() -> None:
    for model in (MODEL, network(16), FCN(8, 3, 2, width=1)):
        grids = figures.unit_grids(model)
        assert [grid.step for grid in grids.values()] == [8, 16, 32]
        first = (grids["fc7"].deconv(4, 2).first - grids["pool4"].first) / 16
        if model.stride < 32:
            assert first == model.offsets[0]
        last = grids["pool3" if model.stride == 8 else "pool4"]
        crops = model.offsets[-2]
        kernel = 2 * model.stride
        begin = Grid(last.first + crops * last.step, last.step).deconv(kernel, model.stride)
        assert begin.first == -model.offsets[-1]


def test_the_parts_add_up_to_the_scores() -> None:
    parts = figures.contributions(MODEL, IMAGE)
    with torch.no_grad():
        expected = MODEL(IMAGE)[0]
    assert list(parts) == ["fc7", "pool4", "pool3"]
    torch.testing.assert_close(sum(parts.values()), expected, rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="expected an FCN-8s, got an FCN-16s"):
        figures.contributions(network(16), IMAGE)


def test_a_part_depends_on_its_map_alone() -> None:
    model = network()
    before = figures.contributions(model, IMAGE)
    model.score_pool4.weight.data.zero_()
    model.score_pool4.bias.data.zero_()
    after = figures.contributions(model, IMAGE)
    assert after["pool4"].eq(0).all()
    for name in ("fc7", "pool3"):
        torch.testing.assert_close(before[name], after[name])


def test_score_maps_are_those_that_the_network_makes() -> None:
    layers = {"fc7": "score_fr", "pool4": "score_pool4", "pool3": "score_pool3"}
    for stride, names in ((32, ["fc7"]), (16, ["fc7", "pool4"]), (8, ["fc7", "pool4", "pool3"])):
        model, made = network(stride), []
        for name in names:
            model.get_submodule(layers[name]).register_forward_hook(lambda _, __, out, made=made: made.append(out))
        with torch.no_grad():
            model(IMAGE)
        expected = list(made)
        scores = figures.score_maps(model, IMAGE)
        assert list(scores) == names
        assert all(torch.equal(a, b) for a, b in zip(scores.values(), expected, strict=True))


def test_mixed_labels_weigh_the_parts() -> None:
    parts = figures.contributions(MODEL, IMAGE)
    a, b, c = parts.values()
    assert torch.equal(figures.mixed_labels(parts, (1, 1, 1)), (a + b + c).argmax(0))
    assert torch.equal(figures.mixed_labels(parts, (0.5, 0, 2)), (0.5 * a + 2 * c).argmax(0))
    assert figures.mixed_labels(parts, (0, 0, 0)).eq(0).all()


def test_offsets_are_drawn_where_they_are() -> None:
    figure = figures.offset_figure([(3, 1, 1), (2, 2, 0), (7, 1, 0)], 4, 15, ("fine", "coarse", "up"))
    axes = figure.axes[0]
    rows = {line.get_ydata()[0]: list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"}
    assert rows[0.0] == list(range(15))
    assert rows[1.0] == [6.5, 8.5, 10.5, 12.5]
    assert rows[-1.0] == list(range(5, 15))
    assert [t.get_text() for t in axes.get_yticklabels()] == ["coarse", "fine", "up"]
    stretches = [list(line.get_xdata()) for line in axes.lines if line.get_color() == "grey"]
    assert stretches[0] == [5.0, 8.0]
    drawn(figure)
    for segment in axes.collections[0].get_segments():  # the dashed line strikes through no number
        (x, low), (_, high) = axes.transData.transform(segment)
        for number in axes.texts:
            box = number.get_window_extent()
            assert not (box.x0 <= x <= box.x1 and low < box.y1 and box.y0 < high), number.get_text()


def test_handover_lines_are_the_two_upsamplings() -> None:
    row = [1.0, -2.0, 0.5, 3.0]
    once, twice = figures.upsampled_both_ways(torch.tensor([[row]]).double(), 8)
    assert once.shape == twice.shape == (1, 1, 5 * 16)
    figure = figures.handover_figure(row, 8)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert np.array_equal(lines["×16 at once"].get_ydata(), once[0, 0])
    assert np.array_equal(lines["×2, then ×8"].get_ydata(), twice[0, 0])
    # a score lies between two pixels, on the line through them but for the corner
    places = lines["scores"].get_xdata()
    for place, score in zip(places, row):
        around = once[0, 0, [int(place - 0.5), int(place + 0.5)]].mean()
        assert abs(float(around) - score) <= 0.5 / 8 * max(map(abs, row)) + 1e-9
    drawn(figure)


def test_both_ways_agree_halfway_between_scores() -> None:
    scores = torch.randn(3, 1, 6, generator=torch.Generator().manual_seed(0)).double()
    once, twice = figures.upsampled_both_ways(scores, 16)
    near = ((torch.arange(once.shape[2]) - 31.5 + 16) % 32 - 16).abs()
    torch.testing.assert_close(once[..., near >= 8], twice[..., near >= 8])
    assert ((once - twice)[..., near < 1].abs() > 1e-3).any()


def test_stages_are_drawn_one_after_the_other() -> None:
    histories = {"first": History([3.0] * 30), "second": History([2.0, 1.0]), "third": History([1.0])}
    figure = figures.stages_figure(histories)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert [min(lines[name].get_xdata()) for name in histories] == [1, 31, 33]
    assert list(lines["second"].get_xdata()) == [31, 32]
    assert list(lines["second"].get_ydata()) == [2.0, 1.5]
    assert figure.axes[0].get_xlim() == (0, 33)
    drawn(figure)


def test_maps_lie_where_their_units_do() -> None:
    grids = figures.unit_grids(MODEL)
    maps = figures.feature_maps(MODEL, IMAGE)
    figure = figures.features_figure(IMAGE[0], maps, grids, channels=3)
    assert len(figure.axes) == 12
    for row, name in enumerate(maps):
        for axes in figure.axes[4 * row + 1 : 4 * row + 4]:
            channel = int(axes.get_title().removeprefix("channel "))
            drawing = axes.get_images()[0]
            assert np.array_equal(drawing.get_array(), maps[name][0, channel].numpy())
            left, right, bottom, top = drawing.get_extent()
            assert left == top == grids[name].first - grids[name].step / 2
            assert (right - left) / maps[name].shape[3] == (bottom - top) / maps[name].shape[2] == grids[name].step
            assert axes.get_xlim() == (-0.5, 79.5)
    drawn(figure)


def test_scores_and_contributions_are_those_of_the_classes_named() -> None:
    scores, parts = figures.score_maps(MODEL, IMAGE), figures.contributions(MODEL, IMAGE)
    chosen = ("car", "sky")
    places = [DATA.classes.index(name) for name in chosen]
    figure = figures.scores_figure(IMAGE[0], scores, figures.unit_grids(MODEL), DATA.classes, chosen)
    arrays = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    expected = [s[0, place] for place in places for s in scores.values()]
    assert all(np.array_equal(a, e) for a, e in zip([*arrays[1:4], *arrays[5:8]], expected))
    drawn(figure)
    figure = figures.contributions_figure(IMAGE[0], parts, DATA.classes, chosen)
    arrays = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert np.allclose(arrays[4], sum(arrays[1:4]), atol=1e-4)
    assert [axes.get_title() for axes in figure.axes[:5]] == ["scene", "fc7", "pool4", "pool3", "sum"]
    largest = [f"up to ±{abs(array).max():.2g}" for array in arrays[1:5]]
    assert [axes.get_xlabel() for axes in figure.axes[1:5]] == largest
    drawn(figure)


def test_the_sliders_mix() -> None:
    parts = figures.contributions(MODEL, IMAGE)
    box = figures.mixing(parts, DATA.masks[0], DATA)
    first, second, third, image, line, key = box.children
    assert [s.description for s in (first, second, third)] == list(parts)
    assert all(s.value == 1 for s in (first, second, third))

    def shown() -> np.ndarray:
        return decoded(image.value)[1::3, 1::3]

    def expected(*shares: float) -> np.ndarray:
        return DATA.colourize(figures.mixed_labels(parts, shares))

    assert np.array_equal(shown()[:, :80], expected(1, 1, 1))
    assert np.array_equal(shown()[:, 84:], DATA.colourize(DATA.masks[0]))
    first.value, third.value = 0.0, 0.5
    assert np.array_equal(shown()[:, :80], expected(0, 1, 0.5))
    assert figures.describe_mix(figures.mixed_labels(parts, (0, 1, 0.5)), DATA.masks[0]) in line.value
    assert all(name in key.value for name in DATA.classes)


def test_the_line_counts_right_pixels() -> None:
    mask = torch.zeros(10, 20, dtype=torch.int64)
    mask[:, 10:] = 2
    mask[0] = VOID
    assert boundary_band(mask[None])[0].sum() == 9 * 6  # three columns to each side
    labels = torch.zeros_like(mask)
    assert "Right pixels: 50%; near boundaries: 50%." in figures.describe_mix(labels, mask)
    labels[:, 13:] = 2
    assert "Right pixels: 85%; near boundaries: 50%." in figures.describe_mix(labels, mask)
