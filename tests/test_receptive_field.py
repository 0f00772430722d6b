"""Arithmetic against convolutions that run, fields against gradients, the effective field against Luo et al. (2016)."""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segcourse import receptive_field as rf
from segcourse.receptive_field import Field, Layer

seeded = settings(deadline=None, derandomize=True)
sizes = st.integers(1, 5)
plain_layers = st.builds(Layer, sizes, st.integers(1, 3), st.integers(-1, 3), st.integers(1, 3))
transposed_layers = st.builds(Layer, sizes, st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.just(True))


def ones_convolution(layer: Layer, x: Tensor) -> Tensor:
    weight = torch.ones(1, 1, layer.kernel, dtype=x.dtype)
    run = torch.conv_transpose1d if layer.transposed else torch.conv1d
    return run(x, weight, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)


def support(layers: list[Layer], position: int, length: int) -> set[int]:
    """Inputs with a gradient when the layers run as convolutions with ones: the second way to every set here."""
    x = torch.ones(1, 1, length, dtype=torch.float64, requires_grad=True)
    y = x
    for layer in layers:
        y = ones_convolution(layer, y)
    (gradient,) = torch.autograd.grad(y[0, 0, position], x)
    return set(gradient[0, 0].nonzero().flatten().tolist())


# ---------------------------------------------------------------- arithmetic


@seeded
@given(sizes, st.integers(1, 6))
def test_effective_kernel_is_the_span_of_the_taps(kernel: int, dilation: int) -> None:
    taps = [t * dilation for t in range(kernel)]
    assert rf.effective_kernel(kernel, dilation) == taps[-1] - taps[0] + 1


@seeded
@given(st.integers(1, 40), sizes, st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_output_size_is_that_of_torch(size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    layer = Layer(kernel, stride, padding, dilation)
    if size + 2 * padding < rf.effective_kernel(kernel, dilation):
        with pytest.raises(ValueError, match="smaller than the kernel"):
            rf.output_size(size, kernel, stride, padding, dilation)
    else:
        expected = ones_convolution(layer, torch.zeros(1, 1, size)).shape[2]
        assert rf.output_size(size, kernel, stride, padding, dilation) == expected


@seeded
@given(st.integers(1, 20), sizes, st.integers(1, 4))
def test_input_size_is_the_smallest_that_gives_the_outputs(outputs: int, kernel: int, stride: int) -> None:
    size = rf.input_size(outputs, kernel, stride)
    assert rf.output_size(size, kernel, stride) == outputs
    if outputs > 1:
        assert rf.output_size(size - 1, kernel, stride) == outputs - 1


def test_worked_figures_of_the_lesson() -> None:
    assert rf.compound_kernel([3, 3], [1, 1]) == 5
    assert (rf.compound_kernel([5, 3], [3, 2]), rf.compound_stride([3, 2])) == (11, 6)
    for depth in range(12):
        assert rf.compound_kernel([3] * depth, [1] * depth) == 1 + 2 * depth
    # "1 + 2L" holds for 3x3, stride 1 and no pooling alone.
    assert rf.compound_kernel([3, 3, 3], [2, 1, 1]) == 11
    assert rf.compound_kernel([3, 3, 2, 3, 3], [1, 1, 2, 1, 1]) == 14
    # Dilations 1, 2, 4: 3, 7, 15 when stacked; 3, 5, 9 alone.
    dilated = [Layer(3, dilation=d) for d in (1, 2, 4)]
    assert [rf.compound(dilated[: i + 1]).kernel for i in range(3)] == [3, 7, 15]
    assert [rf.compound([layer]).kernel for layer in dilated] == [3, 5, 9]


def test_inception_v3_counted_by_its_unpadded_layers() -> None:
    # Stem, two pools and the two reductions of Szegedy et al. 2016 are not padded; all else keeps the size.
    valid = [Layer(3, 2), Layer(3), Layer(3, 2), Layer(3), Layer(3, 2), Layer(3, 2), Layer(3, 2)]
    assert rf.compound(valid) == Layer(75, 32)
    for outputs in range(1, 12):
        assert rf.input_size(outputs, 75, 32) == 32 * outputs + 43
    assert rf.input_size(8, 75, 32) == 299


def test_inception_v3_by_its_longest_chain() -> None:
    # Araujo et al. 2019, table of networks: 1311, 32 and 618.
    stem = [Layer(3, 2), Layer(3), Layer(3, 1, 1), Layer(3, 2), Layer(1), Layer(3), Layer(3, 2)]
    fives = 3 * [Layer(3, 1, 1), Layer(3, 1, 1)] + [Layer(3, 1, 1), Layer(3, 2)]
    sixes = 4 * [Layer(7, 1, 3), Layer(7, 1, 3)] + [Layer(7, 1, 3), Layer(3, 2)]
    sevens = 2 * [Layer(3, 1, 1), Layer(3, 1, 1)]
    whole = rf.compound(stem + fives + sixes + sevens)
    assert whole == Layer(1311, 32, 618)
    assert whole.centre() == 37
    assert whole.kernel - 2 * whole.padding == 75  # both counts are right: a window of 1311, most of it padding


@seeded
@given(plain_layers, plain_layers, plain_layers)
def test_compose_is_associative_with_a_neutral_layer(a: Layer, b: Layer, c: Layer) -> None:
    assert rf.compose(rf.compose(a, b), c) == rf.compose(a, rf.compose(b, c))
    assert rf.compound([a]) == rf.compose(a, Layer(1)) == rf.compose(Layer(1), a)


@seeded
@given(st.lists(plain_layers, max_size=5))
def test_compound_agrees_with_the_sums_and_with_the_sets(layers: list[Layer]) -> None:
    whole, field = rf.compound(layers), Field.of(layers)
    kernels = [rf.effective_kernel(layer.kernel, layer.dilation) for layer in layers]
    strides = [layer.stride for layer in layers]
    assert whole.kernel == rf.compound_kernel(kernels, strides) == field.size
    assert whole.stride == rf.compound_stride(strides) == field.jump
    assert whole.padding == field.padding
    for i in (0, 1, 7):
        assert (whole.first(i), whole.last(i)) == field.extent(i)
        assert whole.centre(i) == field.centre(i)


@seeded
@given(st.lists(st.one_of(plain_layers, transposed_layers), min_size=1, max_size=4), st.integers(0, 5))
def test_footprint_ends_in_the_field(layers: list[Layer], position: int) -> None:
    levels = rf.reached(layers, position)
    assert levels[0] == {position}
    assert len(levels) == len(layers) + 1
    assert levels[-1] == Field.of(layers).positions(position)
    if levels[-1]:
        assert rf.footprint(layers, position)[-1] == Field.of(layers).extent(position)
    else:
        with pytest.raises(ValueError, match="sees no input"):
            rf.footprint(layers, position)


def test_footprint_by_hand() -> None:
    # Output 2 of a 3x3 with stride 2 reads 3..5; each of these reads three, one apart.
    assert rf.footprint([Layer(3, padding=1), Layer(3, stride=2, padding=1)], 2) == [(2, 2), (3, 5), (2, 6)]
    assert rf.reached([Layer(3, dilation=2), Layer(3, dilation=2)], 0)[-1] == {0, 2, 4, 6, 8}


inner_layers = st.builds(Layer, sizes, st.integers(1, 3), st.just(0), st.integers(1, 3), st.booleans())


@seeded
@given(st.lists(inner_layers, min_size=1, max_size=4), st.integers(0, 8))
def test_sets_are_the_gradients_of_real_convolutions(layers: list[Layer], offset: int) -> None:
    length, y = 161, torch.zeros(1, 1, 161)
    for layer in layers:
        assume(layer.transposed or y.shape[2] >= rf.effective_kernel(layer.kernel, layer.dilation))
        y = ones_convolution(layer, y)
    position = min(y.shape[2] // 2 + offset, y.shape[2] - 1)
    seen = Field.of(layers).positions(position)
    assume(all(0 <= p < length for p in seen))
    assert support(layers, position, length) == seen


def test_branches_take_the_largest_never_the_sum() -> None:
    three, five = Layer(3, padding=1), Layer(5, padding=2)
    assert rf.parallel([three, five]) == five
    assert rf.parallel([Layer(3, padding=1), Layer(3, padding=6, dilation=6), Layer(1)]) == Layer(13, padding=6)
    # Unequal centres: -1..1 beside 0..2.
    assert rf.parallel([Layer(3, padding=1), Layer(3)]) == Layer(4, padding=1)
    with pytest.raises(ValueError, match=r"common stride, got \[1, 2\]"):
        rf.parallel([Layer(3), Layer(3, stride=2)])


@seeded
@given(plain_layers, plain_layers)
def test_parallel_is_the_hull_of_the_union(a: Layer, b: Layer) -> None:
    b = Layer(b.kernel, a.stride, b.padding, b.dilation)
    both = rf.parallel([a, b])
    union = Field.of([a]).union(Field.of([b]), length=10)
    assert (both.kernel, both.padding, both.stride) == (union.size, union.padding, union.jump)


def test_bad_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        Layer(0)
    with pytest.raises(ValueError, match="must be 1 or more"):
        Layer(3, stride=0)
    with pytest.raises(ValueError, match="differs by phase"):
        rf.compound([Layer(3), Layer(4, 2, transposed=True)])


# ---------------------------------------------------------------- fields by phase


def test_gridding_leaves_holes() -> None:
    # Share of the pixels touched in two dimensions, as counted in gradients.
    for dilations, share in (((2, 2, 2), 0.29), ((2, 4, 8), 0.27), ((1, 2, 3), 1), ((1, 2, 5), 1), ((1, 2, 4), 1)):
        field = Field.of(Layer(3, dilation=d) for d in dilations)
        used = field.size - len(field.holes())
        assert round((used / field.size) ** 2, 2) == share
    assert Field.of([Layer(3, dilation=2)]).holes() == [1, 3]


def test_upsampling_gives_phases() -> None:
    # Two well-known calculators print 0 and -4, 0 and -2 here.
    assert Field.of([Layer(3, 2, 1), Layer(4, 2, 1, transposed=True)]).sizes == (5, 5)
    hourglass = Field.of([Layer(3, 2, 1), Layer(3, 1, 1), Layer(2, 2, transposed=True), Layer(3, 1, 1)])
    assert hourglass.size == 9
    assert hourglass.jump == 1
    assert hourglass.extent(2) == (-3, 5)  # 1..3 of the upsampled map, so 0..1 below it, -1..2, and -3..5
    # Down again: the phases are one.
    assert len(Field.of([Layer(2, 2, transposed=True), Layer(3), Layer(2, 2)]).phases) == 1
    # More upsampling than striding.
    assert Field.of([Layer(2, 2, transposed=True)]).jump == Fraction(1, 2)
    # A stride above the kernel leaves units that see nothing.
    sparse = Field.of([Layer(1, 2, transposed=True)])
    assert sparse.sizes == (1, 0)
    assert (sparse.positions(6), sparse.positions(7)) == ({3}, set())
    with pytest.raises(ValueError, match="unit 1 sees no input"):
        sparse.extent(1)


def test_everything_absorbs_and_says_so() -> None:
    assert rf.EVERYTHING.through(Layer(3)).everything
    assert Field().union(rf.EVERYTHING, 5).everything
    assert rf.EVERYTHING.size == math.inf
    with pytest.raises(ValueError, match="whole input"):
        rf.EVERYTHING.positions(0)


def test_fields_print_as_figures_not_as_sets() -> None:
    assert repr(Field.of([Layer(7, 2, 3)])) == "Field(size=7, jump=2, padding=3, start=0)"
    up = Field.of([Layer(3, 2, 1), Layer(3, 2, 1, transposed=True)])
    assert repr(up) == "Field(size=3..5, jump=1, padding=1, start=0)"
    assert repr(rf.EVERYTHING) == "Field(everything)"


# ---------------------------------------------------------------- probe


def test_probe_sees_through_max_pools_negative_weights_and_batch_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, (3, 5), padding=(1, 2)),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 2, 3, dilation=2),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = rf.probe(model, (2, 31, 41), position=(4, 6))
    rows = Field.of([Layer(3, padding=1), Layer(2, 2), Layer(3, dilation=2)]).positions(4)
    columns = Field.of([Layer(5, padding=2), Layer(2, 2), Layer(3, dilation=2)]).positions(6)
    assert seen.shape == (31, 41)
    assert set(seen.any(1).nonzero().flatten().tolist()) == rows
    assert set(seen.any(0).nonzero().flatten().tolist()) == columns
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="tracing"):
        rf.probe(nn.MaxPool2d(3, 1, dilation=2), (1, 9, 9))
    with pytest.raises(ValueError, match="tracing"):
        rf.probe(nn.AdaptiveMaxPool2d(3), (1, 9, 9))


# ---------------------------------------------------------------- effective receptive field


def chain(depth: int, width: int, relu: bool = False) -> nn.Sequential:
    """3x3 layers without bias; variance-preserving random weights, or equal ones where width is 1."""
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(3 if i == 0 and width > 1 else width, width, 3, padding=1, bias=False)
        fan = conv.weight[0].numel()
        if width == 1:
            nn.init.constant_(conv.weight, 1 / fan)
        else:
            nn.init.normal_(conv.weight, std=math.sqrt((2 if relu else 1) / fan))
        layers += [conv, nn.ReLU()] if relu else [conv]
    return nn.Sequential(*layers)


def test_equal_weights_give_a_gaussian_that_grows_with_the_root_of_depth() -> None:
    # Sides measured by another implementation. 4 sigma = 4 sqrt(2n/3), since one 3x3 mean has variance 2/3.
    for depth, side in ((4, 7.0), (8, 10.4), (16, 14.6), (32, 20.5)):
        size = 2 * depth + 5
        squared = rf.effective_field(chain(depth, 1).double(), torch.zeros(1, 1, size, size + 2, dtype=torch.float64))
        assert squared.shape == (size, size + 2)
        assert rf.effective_size(squared) == pytest.approx(side, abs=0.05)
        assert rf.effective_spread(squared) == pytest.approx(4 * math.sqrt(2 * depth / 3), rel=1e-6)
        assert int((squared > 0).sum()) == (2 * depth + 1) ** 2


def test_random_weights_give_a_wider_field_of_the_same_law() -> None:
    # Measured by another implementation: 9.0 at depth 4 and 19.5 at depth 16 (linear), 19.1 with ReLU.
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    measured = {}
    for depth, relu in ((4, False), (16, False), (16, True)):
        maps = []
        for _ in range(3):
            x = torch.randn(8, 3, 37, 39)
            maps.append(rf.effective_field(chain(depth, 16, relu), x, generator=generator))
        measured[depth, relu] = rf.effective_size(torch.stack(maps).mean(0))
    assert measured[4, False] == pytest.approx(9.0, abs=0.7)
    assert measured[16, False] == pytest.approx(19.5, abs=2)
    assert measured[16, True] == pytest.approx(19.1, abs=2)
    exponent = math.log(measured[16, False] / measured[4, False]) / math.log(4)
    assert 0.4 < exponent < 0.7


def test_pooling_and_shortcuts_change_how_much_of_the_field_counts() -> None:
    # Measured by another implementation: VGG's third pool, field 44, has an effective one of 37; 16 residual blocks
    # with a field of 33 have 14.1 where 16 plain layers have 19.5.
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    def random_conv(gain: float) -> nn.Conv2d:
        conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        nn.init.normal_(conv.weight, std=math.sqrt(gain / conv.weight[0].numel()))
        return conv

    def effective_side(model: Callable[[], nn.Module], size: int) -> float:
        maps = [rf.effective_field(model(), torch.randn(8, 16, size, size + 1), None, generator) for _ in range(2)]
        return rf.effective_size(torch.stack(maps).mean(0))

    def vgg() -> nn.Module:
        stages = [[*(m for _ in range(n) for m in (random_conv(2), nn.ReLU())), nn.MaxPool2d(2)] for n in (2, 2, 3)]
        return nn.Sequential(*(layer for stage in stages for layer in stage))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = random_conv(1)

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.conv(x)) / math.sqrt(2)

    assert effective_side(vgg, 64) == pytest.approx(37, abs=2)
    assert effective_side(lambda: nn.Sequential(*(Residual() for _ in range(16))), 41) == pytest.approx(14.1, abs=1)


def test_effective_field_takes_a_position_and_leaves_the_input_alone() -> None:
    x = torch.zeros(2, 1, 15, 21)
    squared = rf.effective_field(chain(2, 1), x, position=(3, 16))
    peak = divmod(int(squared.argmax()), 21)
    assert peak == (3, 16)
    assert not x.requires_grad
    # The samples of a batch do not dilute each other.
    torch.testing.assert_close(squared, rf.effective_field(chain(2, 1), x[:1], position=(3, 16)))


def test_signs_keep_channels_from_cancelling() -> None:
    model = nn.Conv1d(1, 2, 3, padding=1, bias=False)
    model.weight.data = torch.tensor([[[1.0, 2.0, 3.0]], [[-1.0, -2.0, -3.0]]])
    x = torch.zeros(64, 1, 9)
    squared = rf.effective_field(model, x, generator=torch.Generator().manual_seed(0))
    # Equal signs cancel, unequal ones double: 0 or 4 times the square, half of the time each.
    torch.testing.assert_close(squared[3:6] / squared[3], torch.tensor([1.0, 4.0, 9.0]))
    assert 1 < float(squared[3]) < 3


@seeded
@given(st.integers(1, 9), st.integers(1, 9))
def test_effective_size_counts_a_flat_box(height: int, width: int) -> None:
    squared = torch.zeros(13, 11, dtype=torch.float64)
    squared[2 : 2 + height, 1 : 1 + width] = 4.0
    squared[0, 0] = 4.0 * 0.04**2  # 4 % of the peak gradient is out, 5 % would be in
    assert rf.effective_size(squared) == pytest.approx(math.sqrt(height * width))
    squared[0, 0] = 4.0 * 0.05**2
    assert rf.effective_size(squared) == pytest.approx(math.sqrt(height * width + 1))
