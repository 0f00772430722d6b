"""The figures of lesson 07 show the numbers that they are given, where they belong."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from segcourse.atrous import coverage, path_counts, valid_fraction, valid_taps
from segcourse.figures import atrous as figures
from segcourse.plots import png


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def drawn(figure) -> np.ndarray:
    pixels = decoded(png(figure))
    assert pixels.shape[1] <= 1000  # readable at 100 %
    return pixels


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


@pytest.mark.parametrize("rates", [(1, 2), (3, 1, 2)])
def test_taps_lie_where_the_rate_puts_them(rates) -> None:
    x, weight = [4, 1, 7, 2, 9, 5, 8], [2, -1, 3]
    figure = figures.taps_figure(x, weight, rates)
    for axes, rate in zip(figure.axes, rates):
        words = [t.get_text() for t in axes.texts]
        blue = [box for box in axes.patches if box.get_facecolor()[2] > 0.9 and box.get_facecolor()[0] < 0.5]
        assert [round(box.get_x() + 0.5) for box in blue] == [0, rate, 2 * rate]
        total = F.conv1d(torch.tensor([[x]]).float(), torch.tensor([[weight]]).float(), dilation=rate)[0, 0, 0]
        assert any(word.endswith(f"= {total:g}") for word in words)
        assert words.count("hole") == 2 * (rate - 1)
    drawn(figure)


@pytest.mark.parametrize("rate", [2, 3])
def test_phases_are_convolved_and_interlaced(rate: int) -> None:
    x = torch.arange(42.0).reshape(6, 7) ** 2 % 10
    weight = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    figure = figures.phases_figure(x, weight, rate)
    whole = F.conv2d(x[None, None], weight[None, None], dilation=rate)[0, 0]
    shown = [[t.get_text() for t in axes.texts] for axes in figure.axes]
    assert shown[0] == [f"{v:g}" for v in x.flatten().tolist()]
    assert shown[3] == [f"{v:g}" for v in whole.flatten().tolist()]
    starts = [(a, b) for a in range(rate) for b in range(rate)]
    assert shown[1] == [f"{v:g}" for a, b in starts for v in x[a::rate, b::rate].flatten().tolist()]
    phases = [F.conv2d(x[None, None, a::rate, b::rate], weight[None, None]) for a, b in starts]
    assert shown[2] == [f"{v:g}" for part in phases for v in part.flatten().tolist()]
    fills = [[box.get_facecolor() for box in axes.patches] for axes in figure.axes]
    assert len(set(fills[0])) == rate**2
    width = x.shape[1]
    assert fills[0][0] == fills[0][rate] == fills[0][rate * width] != fills[0][1]
    drawn(figure)


def test_counts_say_what_is_read() -> None:
    stacks = {"a": (2, 2, 2), "b": (1, 2, 4)}
    figure = figures.counts_figure({name: path_counts(rates) for name, rates in stacks.items()})
    for axes, (name, rates) in zip(figure.axes, stacks.items()):
        counts, shown = path_counts(rates), axes.get_images()[0].get_array()
        assert np.array_equal(shown.filled(0), counts.numpy())
        assert np.array_equal(shown.mask, (counts == 0).numpy()) if shown.mask.any() else bool((counts > 0).all())
        assert axes.get_title().startswith(name)
        assert f"{int((counts > 0).sum())} of {counts.numel()} read" in axes.get_xlabel()
        assert f"{coverage(rates):.0%}" in axes.get_xlabel()
    assert len({image.norm.vmax for axes in figure.axes[:2] for image in axes.get_images()}) == 1  # one scale
    assert figure.axes[2].get_ylabel() == "paths"
    most = int(path_counts(stacks["a"]).max())
    assert [text.get_text() for text in figure.axes[2].get_yticklabels()] == ["1", "2", "5", "10", "20", str(most)]
    drawn(figure)


def test_outlines_lie_on_the_units_of_the_coarsest_map() -> None:
    finest = torch.arange(9 * 13.0).reshape(9, 13)
    maps = {"coarse": finest[::4, ::4], "finer": finest[::2, ::2], "finest": finest}
    figure = figures.strides_figure(maps, finest)
    coarse, finer, last = figure.axes
    assert not coarse.patches
    assert not finer.patches
    middles = [(box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2) for box in last.patches]
    x, y = torch.tensor(middles)[::2].round().long().T
    assert torch.equal(finest[y, x], maps["coarse"].flatten())
    assert torch.allclose(torch.tensor(middles)[::2], torch.tensor(middles)[1::2])
    assert all(box.get_width() < 1 for box in last.patches)  # inside of the unit
    assert coarse.get_images()[0].get_clim() == (0, float(finest.max()))
    assert [axes.get_title() for axes in figure.axes] == ["coarse: 3×4", "finer: 5×7", "finest: 9×13"]
    drawn(figure)


def test_lines_are_the_shares_of_valid_taps() -> None:
    sizes = {"one": (4, 7), "two": (9, 9)}
    figure = figures.fractions_figure(sizes, 12)
    for line, size in zip(figure.axes[0].lines, sizes.values()):
        assert line.get_ydata() == pytest.approx([valid_fraction(size, rate) for rate in range(1, 13)])
    assert {"one", "two"} <= set(texts(figure))
    drawn(figure)


def map_and_padding(data: bytes, size, rate: int) -> tuple[np.ndarray, int]:
    """The picture without the white around it, and how many pixels a unit has."""
    picture = decoded(data)
    assert picture.shape[:2] == figures.ROOM
    filled = np.argwhere((picture != 255).any(2))
    (top, left), (bottom, right) = filled.min(0), filled.max(0) + 1
    scale = (bottom - top) // (size[0] + 2 * rate)
    assert (bottom - top, right - left) == ((size[0] + 2 * rate) * scale, (size[1] + 2 * rate) * scale)
    assert abs(top - (figures.ROOM[0] - bottom)) <= 1  # in the middle
    free = [room - length for room, length in zip(figures.ROOM, (bottom - top, right - left))]
    assert any(pixels < n + 2 * rate for pixels, n in zip(free, size))  # no larger unit would fit
    return picture[top:bottom, left:right], scale


@pytest.mark.parametrize(
    ("size", "rate", "row", "column"), [((5, 8), 3, 0, 7), ((13, 17), 6, 6, 8), ((4, 3), 20, 1, 1)]
)
def test_the_picture_marks_each_tap_inside_or_outside(size, rate, row, column) -> None:
    picture, scale = map_and_padding(figures.taps_picture(size, rate, row, column), size, rate)
    taps = {True: 0, False: 0}
    for i in range(size[0] + 2 * rate):
        for j in range(size[1] + 2 * rate):
            tile = picture[i * scale : (i + 1) * scale, j * scale : (j + 1) * scale]
            offset = (i - rate - row, j - rate - column)
            is_tap = all(abs(o) in (0, rate) for o in offset)
            inside = 0 <= i - rate < size[0] and 0 <= j - rate < size[1]
            if is_tap:
                colour = figures.INSIDE if inside else figures.OUTSIDE
                assert (tile[0, scale // 2] == colour).all()
                assert bool((tile[0, 0] == 255).all()) is not inside  # the cross
                dotted = inside and bool((tile[scale // 2, scale // 2] == 255).all())
                assert dotted is (offset == (0, 0))  # the unit itself
                taps[inside] += 1
            else:
                assert not any((tile == colour).all(2).any() for colour in (figures.INSIDE, figures.OUTSIDE))
    assert taps[True] + taps[False] == 9
    assert taps[True] == int(valid_taps(size, rate)[row, column])
    words = figures.describe_taps(size, rate, row, column)
    assert f"{taps[True]} of 9 taps" in words
    assert f"{valid_fraction(size, rate):.1%}" in words


def test_the_map_is_brighter_where_more_taps_are_inside() -> None:
    size, rate = (6, 9), 2
    picture, scale = map_and_padding(figures.taps_picture(size, rate, 0, 0), size, rate)
    middle = picture[scale // 2 :: scale, scale // 2 :: scale, 0]
    shades = middle[rate : rate + 6, rate : rate + 9].astype(int)
    taps = valid_taps(size, rate).numpy()
    for i, j, k, m in ((1, 1, 3, 4), (5, 8, 3, 8), (5, 4, 3, 4)):
        assert taps[i, j] < taps[k, m]
        assert shades[i, j] < shades[k, m]


def test_what_cannot_be_painted_is_refused() -> None:
    with pytest.raises(ValueError, match="rate=25: expected 1 to 24"):
        figures.taps_picture((5, 5), 25, 0, 0)
    with pytest.raises(ValueError, match=r"unit \(5, 0\) is not on a map of 5x7"):
        figures.taps_picture((5, 7), 2, 5, 0)


def test_the_widget_follows_its_sliders() -> None:
    widget = figures.sliding_rates()
    size, rate, row, column, image, line = widget.children
    first = image.value
    rate.value, row.value = 12, 3
    assert image.value == figures.taps_picture((13, 17), 12, 3, column.value) != first
    assert line.value == figures.describe_taps((13, 17), 12, 3, column.value)
    size.value = (33, 33)
    row.value = 32
    assert image.value == figures.taps_picture((33, 33), 12, 32, column.value)
    size.value = (13, 17)  # the unit comes back onto the smaller map
    assert row.value == 12
    assert image.value == figures.taps_picture((13, 17), 12, 12, column.value)
    assert rate.max == figures.LARGEST_RATE


def test_the_pattern_is_the_finest_there_is() -> None:
    image = torch.rand(3, 6, 9, generator=torch.Generator().manual_seed(0))
    pattern = figures.grid_pattern(image, 0.25) - figures.grid_pattern(image, 0.0) * 0.5 - 0.25
    assert torch.allclose(pattern.abs(), torch.full_like(pattern, 0.25), atol=1e-6)
    assert (pattern[:, :, 1:] * pattern[:, :, :-1] < 0).all()
    assert (pattern[:, 1:] * pattern[:, :-1] < 0).all()


def test_averages_keep_the_pattern_only_at_even_rates() -> None:
    flat = torch.full((3, 20, 24), 0.5)
    patterned = figures.grid_pattern(flat)
    assert torch.allclose(figures.averaged(flat, (1, 2, 5)), flat)
    assert torch.allclose(figures.averaged(patterned, (2, 2, 2)), patterned, atol=1e-6)
    assert (figures.averaged(patterned, (1, 2, 5)) - flat).abs().max() < 0.02
    weight = torch.full((1, 1, 3, 3), 1 / 9)
    image = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(1))
    expected = F.conv2d(F.pad(image[:, None], (2, 2, 2, 2), mode="reflect"), weight, dilation=2)[:, 0]
    assert torch.allclose(figures.averaged(image, (2,)), expected, atol=1e-6)
