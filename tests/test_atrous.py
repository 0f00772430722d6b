import copy
import itertools

import pytest
import reference_networks
import torch
import torch.nn.functional as F
from torch import nn

from segcourse import atrous as A
from segcourse.convolutionalize import shift_and_stitch, window_and_stride
from segcourse.models.fcn import FCN
from segcourse.models.vgg import VGG16, vgg16_features
from segcourse.receptive_field import Field, effective_kernel, parallel
from segcourse.tracing import trace

CONV = {1: F.conv1d, 2: F.conv2d}
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def alive(model):
    """Every number random, batch norms included: what a mistake moves shows."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
        if getattr(layer, "bias", None) is not None:
            nn.init.normal_(layer.bias, std=0.3)
    return model.eval()


# One convolution, three ways.


@pytest.mark.parametrize("ndim", [1, 2])
def test_three_ways_to_one_convolution(ndim):
    g = torch.Generator().manual_seed(ndim)
    for rate, padding, kernel in itertools.product((1, 2, 3, 5), (0, 1, 7), ((1, 2), (3, 4), (4, 2))):
        weight = torch.randint(-9, 10, (3, 2, *kernel[-ndim:]), generator=g).double()
        for more in ((0, 3), (4, 1), (11, 9)):  # outputs of 1 to 26: also less than the rate
            size = [effective_kernel(k, rate) + m for k, m in zip(kernel[-ndim:], more)]
            x = torch.randint(-9, 10, (2, 2, *size), generator=g).double()
            expected = CONV[ndim](x, weight, padding=padding, dilation=rate)
            assert torch.equal(A.atrous_conv(x, weight, rate, padding), expected)
            assert torch.equal(A.atrous_by_holes(x, weight, rate, padding), expected)
            assert torch.equal(CONV[ndim](x, A.spread_kernel(weight, rate), padding=padding), expected)


def test_gradients_flow_through_all_ways():
    x, weight = torch.randn(1, 2, 9, 8, requires_grad=True), torch.randn(3, 2, 3, 2, requires_grad=True)
    for way in (A.atrous_conv, A.atrous_by_holes, lambda *a: F.conv2d(a[0], A.spread_kernel(a[1], a[2]), padding=a[3])):
        found = torch.autograd.grad(way(x, weight, 2, 1).square().sum(), (x, weight))
        expected = torch.autograd.grad(F.conv2d(x, weight, padding=1, dilation=2).square().sum(), (x, weight))
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, **CLOSE)


def test_bad_convolutions_are_refused_in_words():
    x, weight = torch.zeros(1, 2, 8, 8), torch.zeros(3, 2, 3, 3)
    for call, error, words in (
        (lambda: A.atrous_conv(x, weight, 4), ValueError, "smaller than the kernel, which spans 9"),
        (lambda: A.atrous_by_holes(x, weight, 0), ValueError, "rate must be at least 1"),
        (lambda: A.atrous_by_holes(x, weight, 2.0), TypeError, "rate must be a whole number"),
        (lambda: A.atrous_conv(x, weight, 1, -1), ValueError, "padding must be at least 0"),
        (lambda: A.atrous_conv(x, weight[:, :1]), ValueError, "the C_in of the weight"),
        (lambda: A.atrous_conv(x[0], weight), ValueError, "the axes and the C_in"),
        (lambda: A.spread_kernel(weight[0, 0], 2), ValueError, r"weight must be .*got \(3, 3\)"),
        (lambda: A.stack((1, 2), 4), ValueError, "kernel must be odd"),
        (lambda: A.stack((1, 0)), ValueError, "dilation must be 1 or more"),
        (lambda: A.valid_taps(0, 1), ValueError, "size must be at least 1"),
        (lambda: A.valid_taps(4, 1, 2), ValueError, "kernel must be odd"),
        (lambda: A.ASPP(4, 4, (6, 0)), ValueError, "each rate must be at least 1"),
        (lambda: A.ASPP(4, 0), ValueError, "out_channels must be at least 1"),
    ):
        with pytest.raises(error, match=words):
            call()


# Stacks.


def test_fields_of_stacks():
    assert A.stacked_fields((1, 2, 4)) == [3, 7, 15]
    assert [effective_kernel(3, rate) for rate in (1, 2, 4)] == [3, 5, 9]  # alone
    assert parallel(A.stack((1, 2, 4))).kernel == 9  # side by side: the largest
    assert A.stacked_fields([2**i for i in range(6)]) == [2 ** (n + 1) - 1 for n in range(1, 7)]
    assert A.stacked_fields((2, 3), kernel=5) == [9, 21]
    assert A.stacked_fields(()) == []


@pytest.mark.parametrize("rates", [(), (1,), (2, 2), (2, 2, 2), (2, 4, 8), (1, 2, 4), (3, 1), (1, 2, 5)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_gridding_is_the_gradients_zeros(rates, kernel):
    counts = A.path_counts(rates, kernel)
    side = len(counts)
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    y = x
    for rate in rates:
        y = F.conv2d(y, torch.ones(1, 1, kernel, kernel), padding=rate * (kernel // 2), dilation=rate)
    (gradient,) = torch.autograd.grad(y[0, 0, side // 2, side // 2], x)
    assert torch.equal(counts.double(), gradient[0, 0])
    field = Field.of(A.stack(rates, kernel))
    assert field.size == side
    seen = side - len(field.holes())
    assert A.coverage(rates, kernel) == pytest.approx(seen**2 / side**2)


def test_how_much_a_stack_touches():
    # facts: 29 %, 27 %, 28 % counted on pixels; rates that grow from 1 leave no hole here.
    assert A.coverage((2, 2, 2)) == 49 / 169
    assert round(A.coverage((2, 4, 8)), 2) == 0.27
    assert round(A.coverage((2, 2, 2, 2)), 2) == 0.28
    assert [A.coverage(rates) for rates in ((1, 2, 3), (1, 2, 5), (1, 2, 4))] == [1, 1, 1]
    for rate, n in itertools.product((1, 2, 3), (1, 2, 4)):
        assert A.coverage([rate] * n) == pytest.approx((2 * n + 1) ** 2 / (2 * rate * n + 1) ** 2)


# Rates beyond the map.


def test_valid_taps_by_counting():
    for (h, w), rate, kernel in itertools.product(((1, 1), (4, 7), (5, 5)), (1, 2, 4, 9), (1, 3, 5)):
        taps = [rate * t for t in range(-(kernel // 2), kernel // 2 + 1)]
        expected = [
            [sum(0 <= y + a < h and 0 <= x + b < w for a, b in itertools.product(taps, repeat=2)) for x in range(w)]
            for y in range(h)
        ]
        found = A.valid_taps((h, w), rate, kernel)
        assert found.tolist() == expected
        assert A.valid_fraction((h, w), rate, kernel) == pytest.approx(found.sum().item() / (h * w * kernel**2))
    assert torch.equal(A.valid_taps(6, 2), A.valid_taps((6, 6), 2))


def test_rates_beyond_the_map_leave_a_1x1():
    x, weight = torch.randn(2, 3, 9, 12), torch.randn(4, 3, 3, 3)
    point = F.conv2d(x, weight[:, :, 1:2, 1:2])
    for rate in (12, 13, 40):
        torch.testing.assert_close(A.atrous_conv(x, weight, rate, rate), point, **CLOSE)
        assert A.valid_taps((9, 12), rate).eq(1).all()
    assert (A.atrous_conv(x, weight, 11, 11) - point).abs().max() > 0.1  # one column still meets
    fractions = [A.valid_fraction(65, rate) for rate in range(1, 66)]
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[-1] == pytest.approx(1 / 9)
    assert fractions[63] > 1 / 9


# Strides into rates.


def same_at_own_positions(strided, dense, x, factor):
    few, many = strided(x), dense(x)
    rows, columns = (factor, factor) if isinstance(factor, int) else factor
    torch.testing.assert_close(many[..., ::rows, ::columns], few, **CLOSE)
    assert few.std() > 1e-3
    return few, many


@pytest.mark.parametrize("size", [(64, 96), (75, 130)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_vgg_dense_and_strided_agree(output_stride, size):
    torch.manual_seed(output_stride)
    for batch_norm in (False, True):
        model = alive(vgg16_features(2, width=1, batch_norm=batch_norm))
        dense = A.set_output_stride(model, output_stride)
        factor = 32 // output_stride
        few, many = same_at_own_positions(model, dense, torch.randn(2, 2, *size), factor)
        # Even kernels: the map ends factor - 1 units earlier than factor times the strided one.
        if size == (64, 96):
            assert many.shape[2:] == tuple(factor * n - factor + 1 for n in few.shape[2:])
    rates = [layer.dilation for layer in dense.modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    pools, convs = rates[2::3][:2] + rates[9::4], rates[-4:-1]
    assert pools == {8: [1, 1, 1, 1, (2, 2)], 16: [1] * 5}[output_stride]
    assert convs == [{8: (2, 2), 16: (1, 1)}[output_stride]] * 3


def test_padded_poolings_take_a_rate_too():
    torch.manual_seed(11)
    model = alive(vgg16_features(2, width=1))
    for stage in model:
        stage.pool = nn.MaxPool2d(3, 2, 1)
    dense = A.set_output_stride(model, 4)
    few, many = same_at_own_positions(model, dense, torch.randn(2, 2, 75, 130), 8)
    assert (few.shape[2:], many.shape[2:]) == ((3, 5), (19, 33))
    pad, pool = dense[4].pool
    assert (pad.padding, pool.dilation, pool.padding) == ((4, 4, 4, 4), (4, 4), 0)


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_residual_networks_dense_and_strided_agree(output_stride, v1):
    torch.manual_seed(3 + v1)
    model = alive(reference_networks.ResNet((1, 2, 2, 2), v1, width=2))
    dense = A.set_output_stride(model, output_stride)
    few, many = same_at_own_positions(model, dense, torch.randn(2, 2, 70, 99), 32 // output_stride)
    assert few.shape[2:] == (3, 4)
    # Odd kernels, padded by half: as many units as the map has that has been strided down to 8 or 16.
    assert many.shape[2:] == {8: (9, 13), 16: (5, 7)}[output_stride]
    # The block that loses its stride keeps its rate; those after it, and all of the next stage, get it.
    middle = {
        name: layer.dilation[0] for name, layer in dense.named_modules() if getattr(layer, "kernel_size", 0) == (3, 3)
    }
    rates = [rate for name, rate in middle.items() if name.startswith(("layer3", "layer4"))]
    first, then = {8: (1, 2), 16: (1, 1)}[output_stride], {8: (2, 4), 16: (1, 2)}[output_stride]
    if v1:  # the stride is on the 1x1 before: the 3x3 already comes after it
        first, then = (first[1], first[1]), (then[1], then[1])
    assert rates == [*first, *then]


def test_depthwise_networks_too():
    torch.manual_seed(5)
    model = alive(reference_networks.MobileNetV1(width=8))
    same_at_own_positions(model, A.set_output_stride(model, 8), torch.randn(1, 8, 130, 75), 4)


@pytest.mark.parametrize("chunk", range(4))
def test_any_chain_agrees_at_its_own_positions(chunk):
    # Even and odd kernels that differ by axis, any padding, any stride, layers that are dilated before.
    done = 0
    for seed in range(chunk * 100, chunk * 100 + 100):
        if done == 12:
            break
        g = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)

        def pick(*choices, g=g):
            return choices[int(torch.randint(len(choices), (1,), generator=g))]

        layers, jumps, jump = [], [1], 1
        for _ in range(pick(3, 4, 5)):
            stride = pick(1, 2, 2, 3)
            kernel = pick(1, 2, 3, 4), pick(1, 2, 3, 5)
            if pick(0, 0, 1):
                padding = tuple(pick(0, k // 2) for k in kernel)
                layers.append(nn.MaxPool2d(kernel, stride, padding, dilation=pick(1, 2)))
            else:
                padding, dilation = (pick(0, 1, 2), pick(0, 1, 3)), (pick(1, 2), pick(1, 2))
                layers += [nn.Conv2d(2, 2, kernel, stride, padding, dilation), nn.LeakyReLU()]
            jump *= stride
            jumps.append(jump)
        model = nn.Sequential(nn.Conv2d(2, 2, 1), *layers)
        output_stride = pick(*jumps)
        x = torch.randn(1, 2, pick(60, 71), pick(64, 83))
        try:
            few = model(x)
        except RuntimeError:  # the chain leaves nothing of the image
            continue
        dense = A.set_output_stride(model, output_stride)
        torch.testing.assert_close(dense(x)[..., :: jump // output_stride, :: jump // output_stride], few, **CLOSE)
        done += jump > output_stride
    assert done == 12


def test_weights_are_copied_and_the_network_is_left_alone():
    model = vgg16_features(2, width=1)
    before = copy.deepcopy(model)
    dense = A.set_output_stride(model, 8)
    assert repr(model) == repr(before)
    assert dense.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, dense.state_dict()[name])
    dense[0].conv1.weight.data.zero_()
    assert model[0].conv1.weight.any()
    assert repr(A.set_output_stride(model, 32)) == repr(model)
    assert parameters(dense) == parameters(model)  # rates cost no parameter


def unpadded(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(4, 3, 2),
        nn.MaxPool2d(3, 2), nn.Conv2d(3, 3, (1, 2), stride=2), nn.ReLU(), nn.Conv2d(3, 2, 2)
    )  # fmt: skip


def test_without_padding_rates_are_shift_and_stitch():
    model = unpadded(0)
    image = torch.randn(2, 1, 90, 84)
    window, stride = window_and_stride(model)
    assert stride == (16, 16)
    torch.testing.assert_close(
        A.set_output_stride(model, 1)(image), shift_and_stitch(model, image, window, stride), **CLOSE
    )


def test_without_padding_other_positions_are_the_moved_image():
    model = unpadded(1)
    dense = A.set_output_stride(model, 8)
    image = torch.randn(2, 1, 90, 101)
    many = dense(image)
    for a, b in itertools.product(range(2), repeat=2):
        torch.testing.assert_close(many[..., a::2, b::2], model(image[..., 8 * a :, 8 * b :]), **CLOSE)


@pytest.mark.parametrize(
    "make", [lambda: vgg16_features(3, width=1), lambda: reference_networks.ResNet((1, 1, 1, 1), False, width=3)]
)
def test_with_padding_other_positions_agree_where_no_field_reaches_a_border(make):
    torch.manual_seed(2)
    model = alive(make())
    dense = A.set_output_stride(model, 8)
    image = torch.randn(1, 3, 300, 333)
    many = dense(image)
    field = trace(model, (3, 300, 333))[""][0]
    for a, b in ((1, 0), (2, 3)):
        moved = image[..., 8 * a :, 8 * b :]
        few, found = model(moved), many[..., a::4, b::4]
        inner = [
            [i for i in range(n) if field.extent(i)[0] >= 0 and field.extent(i)[1] < length]
            for n, length in zip(few.shape[2:], moved.shape[2:])
        ]
        assert min(map(len, inner)) >= 2
        rows, columns = (slice(i[0], i[-1] + 1) for i in inner)
        torch.testing.assert_close(found[..., rows, columns], few[..., rows, columns], **CLOSE)
        assert (found - few).abs().max() > 1e-2  # the moved image has other borders


def test_rounding_up_agrees_on_sizes_without_a_rest():
    torch.manual_seed(4)
    features = alive(FCN(32, 1, 2, width=1).features)
    features[0].conv1.padding = (1, 1)
    dense = A.set_output_stride(features, 8)
    same_at_own_positions(features, dense, torch.randn(1, 1, 96, 128), 4)
    x = torch.randn(1, 1, 97, 128)
    assert dense(x)[..., ::4, ::4].shape[2] == features(x).shape[2] - 1  # the last window overhangs


def two_stages(first_rate, then_rate, padding):
    """A stage whose stride is gone, and one after it."""
    torch.manual_seed(6)
    strided = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 1, 3, 1, 1))
    dense = copy.deepcopy(strided)
    dense[0].stride = (1, 1)
    dense[0].dilation = dense[0].padding = (first_rate, first_rate)
    dense[1].dilation, dense[1].padding = (then_rate, then_rate), (padding, padding)
    return strided, dense


def test_other_rates_and_paddings_are_other_networks():
    x = torch.randn(1, 1, 30, 40)
    strided, dense = two_stages(1, 2, 2)
    same_at_own_positions(strided, dense, x, 2)
    assert repr(A.set_output_stride(strided, 1)) == repr(dense)
    for wrong in ((2, 2, 2), (1, 1, 1), (2, 1, 1)):  # rate on the layer that lost the stride; no rate; swapped
        _, dense = two_stages(*wrong)
        assert (dense(x)[..., ::2, ::2] - strided(x)).abs().max() > 0.1
    _, dense = two_stages(1, 2, 1)  # padding left as it was
    assert dense(x)[..., ::2, ::2].shape != strided(x).shape


def test_a_padded_even_pooling_moves_every_unit():
    torch.manual_seed(7)
    model = vgg16_features(1, width=1).eval()[3:]
    x = torch.randn(1, 4, 16, 16)
    dense = A.set_output_stride(model, 1)
    padded = copy.deepcopy(dense)
    padded[1].pool = nn.Sequential(nn.ConstantPad2d((2, 0, 2, 0), -torch.inf), dense[1].pool)
    assert dense[1].pool.dilation == (2, 2)
    assert padded(x).shape[2:] == (15, 15)
    torch.testing.assert_close(padded(x)[..., 2:, 2:], dense(x), **CLOSE)  # each by the rate
    assert (padded(x)[..., ::4, ::4] - model(x)).abs().max() > 0.1


class Functional(nn.Module):
    """A network as a function of a list of layers."""

    def __init__(self, run, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.run = run

    def forward(self, x):
        return self.run(self.layers, x)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_networks_that_cannot_change_are_refused_in_words():
    conv = nn.Conv2d(1, 1, 3, 2, 1)
    pool = nn.MaxPool2d(2)

    def even(padding, **kwargs):
        return nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 2, padding=padding, **kwargs))

    for model, output_stride, words in (
        (
            nn.Sequential(conv, nn.Conv2d(1, 1, 3, 2)),
            8,
            "lie 4 x 4 pixels apart: an output stride of 8 would be coarser",
        ),
        (conv, 0, "output_stride must be at least 1"),
        (nn.ReLU(), 8, "no nn.Conv2d"),
        (VGG16(1, width=1), 8, "use model.features alone"),
        (nn.Sequential(conv, nn.Flatten(), nn.Linear(9, 2)), 1, "without the classifier"),
        (nn.Sequential(conv, nn.AdaptiveAvgPool2d(1)), 1, "1 looks at the whole image"),
        (nn.Sequential(conv, nn.Conv2d(1, 1, 3, 3)), 4, "1 steps from 2 to 6 pixels: 4 does not fit"),
        (nn.Sequential(conv, nn.AvgPool2d(2)), 1, "1 would need a rate of .*write it as nn.Conv2d"),
        (even(1, padding_mode="reflect"), 1, "1 pads by 'reflect'"),
        (even("same"), 1, "1 pads an even kernel by 'same'"),
        (Functional(lambda m, x: m[1](m[0](m[1](x))), conv, pool), 2, "one layer used at several places"),
        (Functional(lambda m, x: m[0](m[1](m[0](x))), nn.Conv2d(1, 1, 3), pool), 1, "would see other pixels"),
        (Functional(lambda m, x: F.max_pool2d(m[0](x), 2), conv), 1, "would see other pixels"),
        (nn.Sequential(conv, nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, 4, 2, 1)), 2, "would see other pixels"),
        (Functional(lambda m, x: m[0](x) + m[1](x), conv, pool), 1, "an even kernel shrinks the map"),
    ):
        with pytest.raises(ValueError, match=words):
            A.set_output_stride(model, output_stride)


def test_padding_in_words_is_fine_where_it_is_odd():
    torch.manual_seed(8)
    same = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 3, padding="same"), nn.Conv2d(1, 1, 2, 2))
    dense = A.set_output_stride(same, 1)
    same_at_own_positions(same, dense, torch.randn(1, 1, 21, 30), 4)
    mixed = nn.Sequential(nn.Conv2d(1, 1, 3, (4, 2), 1), nn.AvgPool2d(2), nn.Conv2d(1, 2, 3))
    dense = A.set_output_stride(mixed, 4)
    same_at_own_positions(mixed, dense, torch.randn(1, 1, 60, 40), (2, 1))


# ASPP.


def test_aspp_written_as_a_function():
    torch.manual_seed(9)
    model = alive(A.ASPP(4, 3, (2, 5)))
    x = torch.randn(2, 4, 7, 9)

    def layer(part, x, rate=1):
        conv, norm, _ = part
        y = A.atrous_conv(x, conv.weight, rate, padding=rate if conv.weight.shape[2] == 3 else 0)
        y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return y.clamp(min=0)

    image = layer(model.image, F.adaptive_avg_pool2d(x, 1))
    branches = [layer(model.point, x), layer(model.atrous[0], x, 2), layer(model.atrous[1], x, 5)]
    branches.append(F.interpolate(image, size=(7, 9), mode="bilinear"))
    torch.testing.assert_close(model(x), layer(model.mix, torch.cat(branches, 1)), **CLOSE)
    assert model(x).std() > 1e-2


def test_aspp_of_the_paper():
    # 39,048,533 for DeepLab v3 on ResNet-50 with 21 classes: 23,508,032 in the ResNet and 256·21 + 21 in the scores.
    with torch.device("meta"):
        model = A.ASPP(2048)
        assert parameters(model) == 15_535_104 == 39_048_533 - 23_508_032 - (256 * 21 + 21)
        assert model(torch.zeros(2, 2048, 33, 33)).shape == (2, 256, 33, 33)
        assert parameters(A.ASPP(2048, rates=(12, 24, 36))) == 15_535_104


def test_aspp_trains_on_two_images_or_more():
    torch.manual_seed(10)
    model = A.ASPP(3, 2, (1, 2))
    with pytest.raises(ValueError, match="two images or more"):
        model(torch.randn(1, 3, 5, 5))
    assert model.eval()(torch.randn(1, 3, 5, 5)).shape == (1, 2, 5, 5)
    model.train()(torch.randn(4, 3, 5, 6)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
