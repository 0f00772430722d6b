"""The figures of lesson 08 show the numbers that they are given, and its counters and clocks count what they say."""

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.text import Text
from PIL import Image
from torch import nn

from segcourse.cost import Row, profile
from segcourse.figures import depthwise_cost as figures
from segcourse.plots import png


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def drawn(figure) -> np.ndarray:
    pixels = decoded(png(figure))
    assert pixels.shape[1] <= 1000  # readable at 100 %
    return pixels


def texts(figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_counting_numbers_count_products_and_no_sums() -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    figures.Counted.products = 0
    product = figures.counted(a) @ figures.counted(b)
    assert figures.Counted.products == 3 * 4 * 5
    assert torch.allclose(figures.plain(product + product), 2 * a @ b, atol=1e-5)
    assert figures.Counted.products == 3 * 4 * 5
    assert figures.counted(torch.zeros(2, 3, 1)).shape == (2, 3, 1)


def test_counts_come_back_as_whole_numbers_whatever_they_were() -> None:
    answers = (7, 7.0, Fraction(7), np.int64(7), torch.tensor(7), torch.tensor(7.0), np.array(7))
    for answer in answers:
        number = figures.in_whole_numbers(lambda n, one=answer: n * one)(3)
        assert (type(number), number) == (int, 21)
    of_layers = figures.in_whole_numbers(lambda: {"a": torch.tensor(2), "b": 3.0})()
    assert of_layers == {"a": 2, "b": 3}
    for pair in ((2, 3.0), [2, torch.tensor(3)], torch.tensor([2, 3]), np.array([2.0, 3.0])):
        depthwise, pointwise = figures.in_whole_numbers(lambda one=pair: one)()
        assert (type(depthwise), depthwise, type(pointwise), pointwise) == (int, 2, int, 3)


@pytest.mark.parametrize(("groups", "channels"), [(1, 6), (2, 6), (3, 6), (6, 6)])
def test_a_layer_depends_on_its_own_group(groups: int, channels: int) -> None:
    depends = figures.channel_dependencies(nn.Conv2d(channels, 2 * channels, 3, groups=groups), channels)
    for out in range(2 * channels):
        for one in range(channels):
            assert depends[out, one] == (out // (2 * channels // groups) == one // (channels // groups))


def test_groups_never_meet_unless_something_mixes_them() -> None:
    def twice(*between: nn.Module) -> torch.Tensor:
        layers = (nn.Conv2d(6, 6, 3, groups=2), *between, nn.Conv2d(6, 6, 3, groups=2))
        return figures.channel_dependencies(nn.Sequential(*layers), 6)

    assert twice().float().mean() == 0.5
    assert twice(nn.ChannelShuffle(2)).all()
    assert twice(nn.Conv2d(6, 6, 1)).all()


def test_dependencies_are_drawn_as_they_are() -> None:
    grids = {"one": torch.eye(4, 6) > 0, "other": torch.ones(3, 6) > 0}
    figure = figures.dependency_figure(grids)
    for axes, grid in zip(figure.axes, grids.values()):
        assert np.array_equal(axes.get_images()[0].get_array(), grid.numpy())
    assert "one\n17% of the pairs" in texts(figure)
    drawn(figure)


def test_the_saving_is_that_of_the_layers() -> None:
    dense = profile(nn.Conv2d(7, 20, 5), (1, 7, 9, 8)).total_macs
    split = profile(nn.Sequential(nn.Conv2d(7, 7, 5, groups=7), nn.Conv2d(7, 20, 1)), (1, 7, 9, 8)).total_macs
    assert figures.saving(20, 5) == pytest.approx(dense / split)
    figure = figures.saving_figure((3, 5), (8, 64))
    curves = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_label()[0]]
    assert [pytest.approx([figures.saving(m, k) for m in (8, 64)]) for k in (3, 5)] == [list(c) for c in curves[::2]]
    assert "K = 5: at most 25" in texts(figure)
    drawn(figure)


def test_bars_are_shares_by_resolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.Flatten())
    model.append(nn.Linear(16 * 4 * 6, 5))
    cost = profile(model, (1, 3, 8, 12))
    figure = figures.balance_figure({"one": cost, "two": cost, "three": cost})
    assert [axes.get_title() for axes in figure.axes if axes.axison] == ["one", "two", "three"]
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    levels = cost.by_resolution()
    for k, name in enumerate(("macs", "parameters", "activations")):
        shares = [getattr(row, name) / getattr(cost.total, name) for row in levels.rows]
        assert heights[3 * k : 3 * k + 3] == pytest.approx(shares)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1/1", "1/2", "dense"]
    drawn(figure)


def test_what_is_kept_for_the_backward_pass() -> None:
    layer, x = nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 6)
    assert figures.kept_for_backward(layer, x) == 4 * x.numel()  # its input, for the gradient of the weights
    after = nn.Sequential(layer, nn.ReLU())
    assert figures.kept_for_backward(after, x) == 4 * (x.numel() + 2 * 5 * 48)  # and what says where ReLU was open
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    one, three = (figures.kept_for_backward(net, torch.rand(n, 3, 9, 7)) for n in (1, 3))
    assert three == 3 * one


def test_measured_are_the_layers_that_were_handed_over() -> None:
    layers = {"a": nn.Conv2d(4, 4, 3, padding=1), "b": nn.Conv2d(4, 4, 3, padding=1, groups=4)}
    one, other = figures.measure(layers, (1, 4, 12, 10), "cpu", repeats=2)
    assert (one.name, one.cost.macs, other.cost.macs) == ("a", 144 * 120, 36 * 120)
    assert one.seconds > 0
    assert one.speed == one.cost.macs / one.seconds
    peak, bandwidth = figures.machine_limits("cpu", side=64)
    assert peak > 1e6
    assert bandwidth > 1e6


def test_points_lie_at_speed_and_intensity() -> None:
    costs = [Row("", "", macs=4000, bytes=100), Row("", "", macs=10, bytes=20)]
    measured = [figures.Measured(name, cost, 1e-6) for name, cost in zip(("x", "y"), costs)]
    figure = figures.roofline_figure(measured, peak=1e9, bandwidth=1e8)
    roof, *points = figure.axes[0].lines
    assert [(p.get_xdata()[0], p.get_ydata()[0]) for p in points] == [(40, 4.0), (0.5, 0.01)]
    assert roof.get_ydata().max() == 4.0  # a layer was faster than the matrix product
    assert roof.get_ydata()[0] == pytest.approx(0.03)
    assert "x: 0.001 ms" in texts(figure)
    assert "most seen: 4 thousand million multiply-adds a second" in texts(figure)
    drawn(figure)


def test_the_slope_of_the_map_itself_is_dashed() -> None:
    measured = [figures.Measured("x", Row("", "", macs=4000, bytes=100), 1e-6)]
    figure = figures.roofline_figure(measured, peak=1e9, bandwidth=1e8, of_the_map=3e8)
    dashed = figure.axes[0].lines[1]
    assert dashed.get_linestyle() == "--"
    assert (dashed.get_ydata()[0], dashed.get_ydata().max()) == pytest.approx((0.09, 4.0))
    assert any("ReLU on this map" in text for text in texts(figure))


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize(("kernel", "channels", "groups", "stride"), [(3, 64, 1, 1), (5, 48, 16, 2), (1, 512, 8, 1)])
def test_blocks_cost_what_they_do(kernel: int, channels: int, groups: int, stride: int, separable: bool) -> None:
    cost = figures.block_cost(kernel, channels, groups, separable, stride)
    places, wide = (56 // stride) ** 2, kernel**2
    if separable:
        assert cost.macs == places * (64 * wide + 64 // groups * channels)
        assert cost.activations == places * (64 + channels)
    else:
        assert cost.macs == places * wide * 64 // groups * channels
        assert cost.activations == places * channels


def test_the_line_below_the_bars_tells_the_verdict() -> None:
    assert figures.describe_block(3, 64, 1, False, 1).endswith("100% of the activations: within budget.")
    assert figures.describe_block(3, 80, 1, False, 1).endswith("125% of the activations: over budget.")
    assert "Depthwise 7x7, then 1x1, 4 groups: 64 to 32 channels, stride 2" in figures.describe_block(7, 32, 4, True, 2)


def test_the_widget_follows_its_controls() -> None:
    widget = figures.block_design()
    kernel, channels, groups, separable, stride, image, line = widget.children
    assert decoded(image.value).shape[1] <= 1000
    for control, value in ((kernel, 7), (channels, 128), (groups, 4), (separable, True), (stride, 2)):
        control.value = value
    assert image.value == figures.budget_picture(7, 128, 4, True, 2)
    assert line.value == figures.describe_block(7, 128, 4, True, 2)


def test_too_long_bars_are_cut_and_say_so() -> None:
    assert figures.budget_picture(7, 512, 1, False, 1) != figures.budget_picture(7, 496, 1, False, 1)
    with torch.device("meta"):
        whole = figures.block(7, 512, 1, False, 1)
    assert F.relu(whole(torch.empty(1, 64, 56, 56, device="meta"))).shape == (1, 512, 56, 56)
