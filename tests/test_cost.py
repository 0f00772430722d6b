"""The counts of `profile` against multiplications that are really done, one scalar at a time, and counted."""

import functools
import itertools
import math
import random
import re

import numpy as np
import pytest
import reference_networks as nets
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segcourse.cost import FREE, Profile, Row, profile
from segcourse.models.deconvnet import DeconvNet
from segcourse.models.fcn import FCN
from segcourse.models.segnet import SegNet
from segcourse.models.unet import UNet
from segcourse.models.vgg import VGG16


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---------------------------------------------------------------- numbers that count their products


class Scalar:
    """A number. Every product of two is counted; `terms` says how many products without padding a sum has."""

    products = 0

    def __init__(self, value, terms=0, padding=False):
        self.value, self.terms, self.padding = value, terms, padding

    def __mul__(self, other):
        Scalar.products += 1
        return Scalar(self.value * other.value, int(not (self.padding or other.padding)))

    def __add__(self, other):
        return self if isinstance(other, int) else Scalar(self.value + other.value, self.terms + other.terms)

    __radd__ = __add__


def scalars(tensor):
    return np.vectorize(Scalar, otypes=[object])(tensor.detach().numpy())


def values(array):
    return torch.from_numpy(np.vectorize(lambda s: s.value, otypes=[float])(array))


def terms(array):
    return sum(s.terms for s in array.flat)


@pytest.fixture(autouse=True)
def no_products_yet():
    Scalar.products = 0


def by_groups(weight, window, groups):
    """(C_out, C_in/g·k) by (C_in·k): each group of outputs from its own group of inputs."""
    pairs = zip(np.split(weight.reshape(len(weight), -1), groups), np.split(window.reshape(-1), groups))
    return np.concatenate([w @ x for w, x in pairs])


def convolve(x, weight, stride, padding, dilation, groups):
    """Slide the kernel over the padded input (N, C, ...), in any number of dimensions."""
    nothing = Scalar(0.0, padding=True)
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=nothing)
    spans = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation)]
    sizes = [(n - span) // s + 1 for n, span, s in zip(x.shape[2:], spans, stride)]
    out = np.empty((len(x), len(weight), *sizes), object)
    for n, *position in np.ndindex(len(x), *sizes):
        place = tuple(slice(i * s, i * s + span, d) for i, s, span, d in zip(position, stride, spans, dilation))
        out[n, :, *position] = by_groups(weight, x[n, :, *place], groups)
    return out


def convolve_transposed(x, weight, stride, padding, output_padding, dilation, groups):
    """Stamp the kernel onto a canvas, once for each input, and cut the padding off."""
    spans = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation)]
    sizes = [(n - 1) * s + span + o for n, s, span, o in zip(x.shape[2:], stride, spans, output_padding)]
    out = np.empty((len(x), weight.shape[1] * groups, *sizes), object)
    out[:] = Scalar(0.0)
    for n, *position in np.ndindex(len(x), *x.shape[2:]):
        place = tuple(slice(i * s, i * s + span, d) for i, s, span, d in zip(position, stride, spans, dilation))
        of_group = zip(np.split(weight, groups), np.split(x[n, :, *position], groups))
        out[n, :, *place] += np.concatenate([np.tensordot(w, c, (0, 0)) for w, c in of_group])
    return out[:, :, *(slice(p, n - p) for p, n in zip(padding, sizes))]


def attend(q, k, v):
    """softmax(q kᵀ / sqrt(d)) v for arrays of scalars (..., n, d)."""
    scores = values(q @ np.swapaxes(k, -1, -2)) / math.sqrt(q.shape[-1])
    return scalars(scores.softmax(-1)) @ v


def same_count(counted, reference, output):
    """The reference is right, and did as many products as were counted."""
    assert torch.allclose(values(reference), output)
    assert counted.macs == Scalar.products
    assert counted.useful == terms(reference)


class Function(nn.Module):
    """A function as a module, with the parameters that it uses."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            setattr(self, name, nn.Parameter(value))

    def forward(self, *inputs):
        return self.function(*inputs, *self.parameters())


# ---------------------------------------------------------------- every kind of layer


def draw_convolution(ndim, transposed, seed):
    """A random layer and a shape for it; no two axes alike where that can be helped."""
    draw = random.Random(f"{ndim} {transposed} {seed}")

    def axes(low, high):
        return tuple(draw.randint(low, high) for _ in range(ndim))

    groups = draw.choice((1, 1, 2, 3))
    channels = [groups * draw.randint(1, 2), groups * draw.randint(1, 2)]
    kernel, stride, dilation = axes(1, 3), axes(1, 3), axes(1, 2)
    options = dict(stride=stride, dilation=dilation, groups=groups, bias=draw.random() < 0.5)
    if transposed:
        options["padding"] = tuple(draw.randint(0, d * (k - 1) // 2) for k, d in zip(kernel, dilation))
        options["output_padding"] = tuple(draw.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation))
        size = axes(1, 4)
    else:
        options["padding"] = axes(0, 2)
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
        size = [max(1, span - 2 * p) + draw.randint(0, 4) for span, p in zip(spans, options["padding"])]
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{ndim}d")
    return kind(*channels, kernel, **options), (draw.randint(1, 2), channels[0], *size)


@pytest.mark.parametrize(("ndim", "transposed", "seed"), list(itertools.product((1, 2, 3), (False, True), range(8))))
def test_convolutions_of_every_kind(ndim, transposed, seed):
    layer, shape = draw_convolution(ndim, transposed, seed)
    x = torch.randn(shape)
    options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    if transposed:
        reference = convolve_transposed(
            scalars(x), scalars(layer.weight), output_padding=layer.output_padding, **options
        )
    else:
        reference = convolve(scalars(x), scalars(layer.weight), **options)
    unbiased = layer(x) if layer.bias is None else layer(x) - layer.bias.view(-1, *[1] * ndim)
    (row,) = profile(layer, shape).rows
    same_count(row, reference, unbiased)
    assert row.output == reference.shape
    assert row.activations == reference.size
    assert row.parameters == sum(p.numel() for p in layer.parameters())
    assert row.bytes == 8 * (x.numel() + row.parameters + reference.size)


def test_a_convolution_as_a_function_of_one_image():
    x, weight = torch.randn(2, 5, 4), torch.randn(3, 2, 3, 3)
    counted = profile(Function(lambda x, w: F.conv2d(x, w, padding=1), weight=weight), x.shape)
    reference = convolve(scalars(x[None]), scalars(weight), (1, 1), (1, 1), (1, 1), 1)
    same_count(counted.total, reference, F.conv2d(x[None], weight, padding=1))
    assert counted.rows[0].parameters == weight.numel()


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5), (2, 1, 3, 2, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_layers_on_any_rank(shape, bias):
    layer, x = nn.Linear(5, 4, bias), torch.randn(shape)
    reference = scalars(x) @ scalars(layer.weight).T
    (row,) = profile(layer, shape).rows
    same_count(row, reference, F.linear(x, layer.weight))
    assert row.output == (*shape[:-1], 4)


MATRICES = [
    ((3, 4), (4, 5)),
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (6, 4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (4,)),
]


@pytest.mark.parametrize(("a", "b"), MATRICES)
def test_matrix_products(a, b):
    a, b = torch.randn(a), torch.randn(b)
    same_count(profile(Function(torch.matmul), a, b).total, np.asarray(scalars(a) @ scalars(b)), a @ b)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (torch.addmm, [(5,), (3, 4), (4, 5)]),
        (torch.addmv, [(3,), (3, 4), (4,)]),
        (torch.baddbmm, [(1, 5), (2, 3, 4), (2, 4, 5)]),
        (lambda out, a, b: out.clone().addmm_(a, b), [(3, 5), (3, 4), (4, 5)]),
    ],
)
def test_matrix_products_added_to_something(function, shapes):
    to, a, b = map(torch.randn, shapes)
    same_count(profile(Function(function), to, a, b).total, scalars(a) @ scalars(b), function(to, a, b) - to)


@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [
        ("nchw,oc->nohw", (2, 3, 4, 5), (6, 3)),
        ("nhqd,nhkd->nhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
        ("ij,jk->ki", (2, 3), (3, 4)),
        ("i,i->", (7,), (7,)),
    ],
)
def test_einsum(equation, a, b):
    a, b = torch.randn(a), torch.randn(b)
    counted = profile(Function(lambda a, b: torch.einsum(equation, a, b)), a, b).total
    reference = np.asarray(np.einsum(equation, scalars(a), scalars(b)))
    same_count(counted, reference, torch.einsum(equation, a, b))


@pytest.mark.parametrize("width", [5, 3])
def test_attention_as_one_function(width):
    q, k, v = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5), torch.randn(2, 3, 6, width)
    counted = profile(Function(F.scaled_dot_product_attention), q, k, v).total
    assert torch.allclose(values(attend(*map(scalars, (q, k, v)))), F.scaled_dot_product_attention(q, k, v))
    assert counted.macs == counted.useful == Scalar.products == 2 * 3 * 4 * 6 * (5 + width)


def test_masked_pairs_of_an_attention_count():
    x = (1, 2, 7, 4)
    causal = Function(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True))
    whole = Function(lambda x: F.scaled_dot_product_attention(x, x, x))
    assert profile(causal, x).total_macs == profile(whole, x).total_macs == 2 * 2 * 7 * 7 * 4


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention(need_weights):
    heads, layer, x = 2, nn.MultiheadAttention(6, 2, batch_first=True).eval(), torch.randn(1, 5, 6)

    def split(y):
        return y.reshape(5, heads, 3).transpose(1, 0, 2)

    with torch.no_grad():
        nn.init.normal_(layer.in_proj_bias)
    q, k, v = (
        split(scalars(values(scalars(x[0]) @ scalars(w).T) + b))
        for w, b in zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3))
    )
    together = scalars(values(attend(q, k, v).transpose(1, 0, 2).reshape(5, 6)))
    reference = together @ scalars(layer.out_proj.weight).T
    with torch.no_grad():
        output = layer(x, x, x, need_weights=need_weights)[0][0] - layer.out_proj.bias
    assert torch.allclose(values(reference), output)
    model = Function(lambda x, *_: layer(x, x, x, need_weights=need_weights))
    model.layer = layer
    counted = profile(model, x)
    assert counted.total_macs == Scalar.products == 4 * 5 * 6 * 6 + 2 * 5 * 5 * 6
    assert counted.total.parameters == sum(p.numel() for p in layer.parameters())


def test_lstm_step_by_step():
    layer, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    inner, outer = scalars(layer.weight_ih_l0), scalars(layer.weight_hh_l0)
    h = c = torch.zeros(2, 4)
    for step in x:
        gates = values(scalars(step) @ inner.T) + values(scalars(h) @ outer.T) + layer.bias_ih_l0 + layer.bias_hh_l0
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    assert torch.allclose(h, layer(x)[0][-1])
    assert profile(layer, x).total_macs == Scalar.products


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent_layers_in_both_directions_and_two_layers(kind, gates):
    layer = kind(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    steps, batch = 5, 2
    expected = steps * batch * 2 * gates * 4 * ((3 + 4) + (2 * 4 + 4))
    assert profile(layer, (batch, steps, 3)).total_macs == expected


def test_one_layer_used_again_and_again():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            x = self.conv(self.conv(x))
            return self.conv(F.max_pool2d(x, 2))

    full, half = profile(Recurrent(), (1, 3, 8, 6)).rows
    assert (full.calls, full.macs, full.parameters) == (2, 2 * 81 * 48, 84)
    assert (half.calls, half.macs, half.parameters) == (1, 81 * 12, 0)
    assert (full.output, half.output) == ((1, 3, 8, 6), (1, 3, 4, 3))


def test_two_products_of_one_module_share_a_row():
    twice = Function(lambda x, w: F.linear(F.linear(x, w), w), weight=torch.randn(8, 8))
    (row,) = profile(twice, (2, 5, 8)).rows
    assert (row.calls, row.output, row.macs, row.parameters) == (2, (10, 8), 2 * 2 * 5 * 64, 64)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm([4, 6, 8]),
        nn.ReLU(),
        nn.PReLU(),
        nn.GELU(),
        nn.Hardswish(),
        nn.SiLU(),
        nn.Softmax(1),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2),
        nn.PixelShuffle(2),
        nn.ReflectionPad2d(1),
        nn.Dropout(),
        nn.Flatten(),
        Function(lambda x: 1 - x * x.mean((2, 3), keepdim=True).sigmoid()),
        Function(lambda x: torch.cat([x, x.flip(2).abs()], 1)[:, ::2].clamp(min=0)),
        Function(lambda x: x.roll(1, 2).masked_fill(x > 0, 0).topk(2, 1)[0]),
        Function(lambda x: F.grid_sample(x, torch.zeros(1, 2, 2, 2), align_corners=False)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_multiplies_nothing_to_a_sum_costs_no_mac(layer):
    counted = profile(layer, (1, 4, 6, 8)).total
    assert (counted.macs, counted.activations, counted.bytes) == (0, 0, 0)
    assert counted.parameters == sum(p.numel() for p in layer.parameters())


# ---------------------------------------------------------------- whole networks

NETWORKS = {  # input, multiply-adds, useful ones in thousands of millions, parameters
    VGG16: ((1, 3, 224, 224), 15_470_264_320, 14.9698, 138_357_544),
    FCN: ((1, 3, 500, 500), 181_529_034_048, 179.5371, 134_489_759),
    SegNet: ((1, 3, 360, 480), 106_712_432_640, 104.8170, 29_449_355),
    DeconvNet: ((1, 3, 224, 224), 32_745_979_904, 31.7346, 251_805_653),
    UNet: ((1, 1, 572, 572), 150_428_424_448, 150.4284, 31_030_658),
    nets.ResNet50: ((1, 3, 224, 224), 4_089_184_256, 3.9483, 25_557_032),
    nets.MobileNetV2: ((1, 3, 224, 224), 300_774_272, 0.2997, 3_504_872),
}


@functools.cache
def on_meta(network):
    with torch.device("meta"):
        return network()


@functools.cache
def cost_of(network):
    return profile(on_meta(network), NETWORKS[network][0])


@pytest.mark.parametrize("network", NETWORKS)
def test_totals_of_networks(network):
    shape, macs, useful, parameters = NETWORKS[network]
    counted = cost_of(network).total
    assert (counted.macs, counted.parameters) == (macs, parameters)
    assert round(counted.useful / 1e9, 4) == useful
    with FlopCounterMode(display=False) as second, torch.no_grad():
        on_meta(network).eval()(torch.empty(shape, device="meta"))
    assert second.get_total_flops() == 2 * macs


def test_twice_the_batch_is_twice_the_work():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(2), nn.Linear(20, 7))
    one, two = (profile(model, (n, 3, 5, 4)).total for n in (1, 2))
    assert (two.macs, two.useful, two.activations) == (2 * one.macs, 2 * one.useful, 2 * one.activations)
    assert two.parameters == one.parameters


# ---------------------------------------------------------------- where other counters go wrong
#
# Their figures were measured with torchinfo 1.8.0, ptflops 0.7.5, thop 0.1.1, fvcore 0.1.5 and torchscan 0.2.0. Each is
# the exact count with one mistake added, so it can be had from a profile.


@pytest.mark.parametrize(
    ("layer", "shape", "exact", "mistake", "theirs"),
    [
        # ptflops and torchinfo: the bias as one more product
        (nn.Conv2d(8, 16, 3, padding=1), (1, 8, 10, 10), 115_200, lambda p: p.macs + p.activations, 116_800),
        # torchinfo, thop, torchscan (and 8 biases): a transposed convolution by its output, four times too much
        (nn.ConvTranspose2d(16, 8, 4, 2, 1), (1, 16, 10, 10), 204_800, lambda p: p.macs * 2**2, 819_200),
        (nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=4), (1, 16, 10, 10), 51_200, lambda p: p.macs * 2**2, 204_800),
        # calflops misses it altogether
        (nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=4), (1, 16, 10, 10), 51_200, lambda p: 0, 0),
        # torchinfo: one token of the 49, fifty times too little; ptflops: the bias
        (nn.Linear(64, 32), (1, 49, 64), 100_352, lambda p: p.parameters, 2_080),
        (nn.Linear(64, 32), (1, 49, 64), 100_352, lambda p: p.macs + p.activations, 101_920),
        # thop, calflops: an attention without its two products of activations
        (
            nn.TransformerEncoderLayer(64, 4, 1, batch_first=True).self_attn,
            (1, 49, 64),
            1_110_144,
            lambda p: p.macs - 2 * 49 * 49 * 64,
            802_816,
        ),
        # fvcore, thop: batch normalization as 2 or 4 products for each element; fvcore: bilinear as 4
        (nn.BatchNorm2d(16), (1, 16, 10, 10), 0, lambda p: 2 * math.prod(p.output), 3_200),
        (nn.BatchNorm2d(16), (1, 16, 10, 10), 0, lambda p: 4 * math.prod(p.output), 6_400),
    ],
)
def test_mistakes_on_single_layers(layer, shape, exact, mistake, theirs):
    inputs = [shape] * (3 if isinstance(layer, nn.MultiheadAttention) else 1)
    counted = profile(layer, *inputs).total
    assert counted.macs == exact
    assert mistake(counted) == theirs != exact


def test_mistakes_on_whole_networks():
    unet = cost_of(UNet)
    by_output = unet.total_macs + 3 * sum(row.macs for row in unet.rows if row.operation.startswith("transposed"))
    assert by_output == 167_322_556_672  # thop: 11 % too much
    assert by_output + unet.total.activations == 167_456_910_112  # torchinfo: and the biases
    vgg = cost_of(VGG16).total
    assert vgg.macs + vgg.activations == 15_483_821_032  # torchinfo, ptflops
    for network, pooled, theirs in ((nets.ResNet50, 2048, 4_111_512_576), (nets.MobileNetV2, 1280, 314_193_216)):
        counted = cost_of(network)
        normalized = sum(row.activations for row in counted.rows if row.operation.startswith("conv"))
        assert counted.total_macs + 2 * normalized + pooled * 7 * 7 == theirs  # fvcore: normalization and mean


# ---------------------------------------------------------------- the table


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.up = nn.ConvTranspose2d(4, 2, 2, 2, groups=2)
        self.unused = nn.Linear(5, 6)

    def forward(self, x):
        return self.up(self.body(x)).flatten(2) @ torch.zeros(64, 1)


def test_rows_say_what_is_done_where():
    counted = profile(Small(), (1, 3, 4, 4))
    assert counted.rows == (
        Row("body.0", "conv 3x3", (1, 4, 4, 4), 1, 108, 1728, 4 * 3 * 100, 64, 8 * (48 + 108 + 64)),
        Row("body.1", "BatchNorm2d", (1, 4, 4, 4), 1, 8),
        Row("up", "transposed conv 2x2, 2 groups", (1, 2, 8, 8), 1, 18, 256, 256, 128, 8 * (64 + 18 + 128)),
        Row("", "matmul", (1, 2, 1), 1, 0, 128, 128, 2, 8 * (128 + 64 + 2)),
        Row("unused", "Linear", parameters=36),
    )
    assert counted.total_macs == counted.total.macs == 1728 + 256 + 128
    assert counted.total.parameters == sum(p.numel() for p in Small().parameters())
    assert sum(map(counted.share, counted.rows)) == pytest.approx(1)


def test_stages_hold_what_their_layers_hold():
    counted = cost_of(VGG16)
    for depth, names in ((1, ["features", "classifier"]), (2, [f"features.stage{i}" for i in range(1, 6)])):
        stages = counted.by_stage(depth)
        assert [row.layer for row in stages.rows][: len(names)] == names
        assert stages.total == counted.total
    assert counted.by_stage(2).rows[0].output == (1, 64, 224, 224)
    with pytest.raises(ValueError, match="1 or more, got 0"):
        counted.by_stage(0)
    encoder = profile(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)).by_stage()
    assert all(row.output for row in encoder.rows)


def test_layers_by_resolution():
    counted = cost_of(nets.ResNet50).by(lambda row: "x".join(map(str, row.output[2:])))
    assert [row.layer for row in counted.rows] == ["112x112", "56x56", "28x28", "14x14", "7x7", ""]
    assert counted.total_macs == 4_089_184_256


@pytest.mark.parametrize(
    ("network", "levels"),
    [
        (VGG16, {"1/1": 2, "1/2": 2, "1/4": 3, "1/8": 3, "1/16": 3, "dense": 3}),
        (UNet, {"1/1": 6, "1/2": 5, "1/4": 5, "1/8": 5, "1/16": 2}),
        (SegNet, {"1/1": 4, "1/2": 4, "1/4": 6, "1/8": 6, "1/16": 6}),
        (FCN, {"1/1": 3, "1/2": 2, "1/4": 3, "1/8": 5, "1/16": 5, "1/32": 3}),
    ],
)
def test_layers_by_halving(network, levels):
    """Unpadded maps of U-Net, rounded ones of FCN and SegNet: convolutions are where the papers' pictures have them."""
    counted = cost_of(network)
    products = Profile(tuple(row for row in counted.rows if row.macs)).by_resolution()
    assert {row.layer: row.calls for row in products.rows} == levels
    assert counted.by_resolution().total_macs == counted.total_macs
    assert counted.by_resolution().total.parameters == counted.total.parameters


def test_halvings_come_in_order_whatever_the_network_does():
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ConvTranspose2d(4, 2, 4, 4), nn.Conv2d(2, 2, 8, 8), nn.Flatten())
    model.append(nn.Linear(2 * 2 * 3, 5))
    counted = profile(model, (1, 3, 16, 24)).by_resolution()
    assert [row.layer for row in counted.rows] == ["1/1", "1/4", "1/8", "dense"]
    assert profile(nn.Linear(3, 4), (2, 5, 3)).by_resolution().rows[0].layer == "dense"
    assert Profile(()).by_resolution().rows == ()


def test_intensity_is_products_for_each_byte():
    dense, depthwise = (profile(nn.Conv2d(8, 8, 3, padding=1, groups=g).float(), (1, 8, 6, 5)).total for g in (1, 8))
    assert dense.intensity == 8 * 72 * 30 / (4 * (240 + 584 + 240))
    assert depthwise.intensity == 8 * 9 * 30 / (4 * (240 + 80 + 240))
    assert profile(nn.ReLU(), (3, 4)).total.intensity == 0


# ---------------------------------------------------------------- a generated family of networks


@st.composite
def networks(draw):
    """A chain of one to three layers of every counted kind, with its input and what it is made of."""
    channels, size = draw(st.sampled_from((2, 4, 6))), tuple(draw(st.integers(3, 5)) for _ in range(2))
    shape, layers = (draw(st.integers(1, 2)), channels, *size), []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
        out = groups * draw(st.integers(1, max(1, 6 // groups)))
        kernel = tuple(draw(st.integers(1, 3)) for _ in range(2))
        options = dict(groups=groups, bias=draw(st.booleans()), stride=tuple(draw(st.integers(1, 2)) for _ in range(2)))
        kind = draw(st.sampled_from(("conv", "transposed", "linear", "attention", "again")))
        if kind == "conv":
            layers.append(nn.Conv2d(channels, out, kernel, padding=1, dilation=1, **options))
            size = [(n + 2 - k) // s + 1 for n, k, s in zip(size, kernel, options["stride"])]
        elif kind == "transposed" and max(size) < 7:
            layers.append(nn.ConvTranspose2d(channels, out, kernel, **options))
            size = [(n - 1) * s + k for n, k, s in zip(size, kernel, options["stride"])]
        elif kind == "linear":
            layers.append(nn.Linear(size[1], out := draw(st.integers(1, 4))))
            size, out = (size[0], out), channels
        elif kind == "attention":
            layers.append(Function(lambda x: F.scaled_dot_product_attention(x, x, x)))
            out = channels
        else:
            conv = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
            layers.append(nn.Sequential(conv, nn.ReLU(), conv))
            out = channels
        channels = out
    return nn.Sequential(*layers), shape


def by_hand(layer, x):
    """What a layer computes, with every product counted; useful ones too, which are returned."""
    if isinstance(layer, nn.Sequential):
        useful = 0
        for inner in layer:
            x, more = by_hand(inner, x)
            useful += more
        return x, useful
    if isinstance(layer, nn.ReLU):
        return x.relu(), 0
    if isinstance(layer, nn.Linear):
        result = scalars(x) @ scalars(layer.weight).T
        return values(result) + layer.bias, terms(result)
    if isinstance(layer, Function):
        before = Scalar.products
        result = attend(*(scalars(x) for _ in range(3)))
        return values(result), Scalar.products - before
    options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    if isinstance(layer, nn.ConvTranspose2d):
        options["output_padding"] = layer.output_padding
        result = convolve_transposed(scalars(x), scalars(layer.weight), **options)
    else:
        result = convolve(scalars(x), scalars(layer.weight), **options)
    bias = 0 if layer.bias is None else layer.bias.view(-1, 1, 1)
    return values(result) + bias, terms(result)


@settings(max_examples=30, deadline=None)
@given(networks())
@torch.no_grad()
def test_a_generated_family_of_networks(network):
    model, shape = network
    x = torch.randn(shape)
    Scalar.products = 0
    result, useful = by_hand(model, x)
    counted = profile(model, shape)
    assert torch.allclose(result, model(x))
    assert (counted.total_macs, counted.total.useful) == (Scalar.products, useful)
    assert sum(row.macs for row in counted.by_resolution().rows) == Scalar.products


def test_text_and_html():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 1000, 1)).float()
    counted = profile(model, (1, 3, 6, 6))
    assert str(counted).splitlines() == [
        "layer  operation        output   share  useful  calls  parameters    MACs  activations   bytes",
        "0      conv 3x3        1x4x4x4    2.6%    100%      1         108   1,728           64   1,120",
        "1      BatchNorm2d     1x4x4x4    0.0%              1           8       0            0       0",
        "2      conv 1x1     1x1000x4x4   97.4%    100%      1       5,000  64,000       16,000  84,256",
        "total                           100.0%    100%      3       5,116  65,728       16,064  85,376",
    ]
    assert str(profile(nn.Linear(2, 3), (1, 2))).splitlines()[1].startswith("(model)  matmul")
    rows = re.findall(r"<tr>.*?</tr>", counted._repr_html_())
    assert len(rows) == 5
    assert re.findall(r"<td>(.*?)</td>", rows[3])[1:4] == ["conv 1x1", "1x1000x4x4", "97.4%"]
    assert "<td>a&lt;b</td>" in Profile((Row("a<b", "matmul"),))._repr_html_()
    assert "total" in str(Profile(()))


# ---------------------------------------------------------------- what goes in, and what stays


def test_a_tensor_and_its_shape_count_alike_on_any_device():
    model = Small()
    counted = profile(model, (1, 3, 4, 4))
    assert profile(model, torch.randn(1, 3, 4, 4)) == counted == profile(model.to("meta"), torch.Size((1, 3, 4, 4)))
    tokens = profile(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), torch.zeros(3, 5, dtype=torch.long))
    assert [(row.operation, row.output, row.macs) for row in tokens.rows] == [
        ("Embedding", (3, 5, 4), 0),
        ("matmul", (3, 5, 2), 120),
    ]


def test_the_network_runs_as_it_does_in_use():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))  # in training it needs more than one value a channel
    assert profile(model, (1, 3, 3, 3)).total_macs == 4 * 27


def test_bytes_follow_the_precision():
    single, half = (profile(nn.Conv2d(3, 4, 3).to(dtype), (1, 3, 8, 8)).total for dtype in (torch.float, torch.half))
    assert single.bytes == 2 * half.bytes == 4 * (3 * 64 + 112 + 4 * 36)


def test_an_image_that_fits_no_memory():
    assert profile(nn.Conv2d(3, 64, 3, padding=1), (1, 3, 10**5, 10**5)).total_macs == 64 * 27 * 10**10


def test_parameters_that_two_layers_share_count_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    counted = profile(model, (1, 4))
    assert [row.parameters for row in counted.rows] == [20, 4]
    assert counted.total_macs == 32


def test_a_layer_that_has_two_names_stays_as_it_was():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    conv.same = conv.weight
    model, weight = nn.Sequential(conv, nn.ReLU(), conv, nn.Linear(5, 5)), conv.weight
    counted = profile(model, (1, 3, 5, 5))
    assert conv.weight is conv.same is model[2].weight is weight
    assert [row.calls for row in counted.rows] == [2, 1]
    assert counted.total.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("breaks", [False, True])
def test_the_model_stays_as_it_was(breaks):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Bilinear(4, 4, 2) if breaks else nn.BatchNorm2d(4))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if breaks:
        with pytest.raises(TypeError):
            profile(model, (2, 3, 6, 6))
    else:
        profile(model, (2, 3, 6, 6))
    assert [module.training for module in model] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("model", "shapes", "operation"),
    [
        (nn.Bilinear(3, 4, 5), [(2, 3), (2, 4)], "_trilinear"),
        (Function(torch.fft.fft), [(2, 8)], "fft"),
        (Function(torch.cdist), [(4, 3), (5, 3)], "cdist"),
        (Function(lambda x: torch.linalg.inv(x)), [(3, 3)], "linalg"),
    ],
)
def test_an_unknown_operation_is_no_zero(model, shapes, operation):
    with pytest.raises(ValueError, match=rf"how many products aten\.\w*{operation}\w*.* takes"):
        profile(model, *shapes)


def test_an_operation_of_another_library_is_unknown_whatever_its_name():
    library = torch.library.Library("elsewhere", "FRAGMENT")
    library.define("norm(Tensor x) -> Tensor")
    library.impl("norm", lambda x: x @ x, "Meta")
    with pytest.raises(ValueError, match=r"how many products elsewhere\.norm"):
        profile(Function(lambda x: torch.ops.elsewhere.norm(x)), (3, 3))


def test_no_operation_with_products_passes_as_free():
    known = {schema.name.removeprefix("aten::").rstrip("_") for schema in torch._C._jit_get_all_schemas()}
    products = re.compile(r"mm(?!a)|mv|dot|conv(?!ert)|linear|attention|lstm|gru|rnn|fft|cdist|solve|inner")
    names = {name for name in known if products.search(name) and not re.search("::|upsample|cumm", name)}
    assert {"addmm", "conv2d", "linalg_solve", "_scaled_dot_product_flash_attention"} <= names
    assert {name for name in names if FREE.fullmatch(name)} == set()


def test_bad_input_is_explained():
    layer = nn.Linear(3, 4)
    with pytest.raises(TypeError, match="expected a model"):
        profile("model", (1, 3))
    with pytest.raises(TypeError, match="expected an input or its shape"):
        profile(layer)
    for wrong in (3, (1, -3), (), "ab", [1.0, 3.0], (True, 3)):
        with pytest.raises(TypeError, match="a tensor or a whole shape such as"):
            profile(layer, wrong)
    with pytest.raises(ValueError, match="lazy layer"):
        profile(nn.LazyLinear(3), (1, 3))
    with pytest.raises(RuntimeError):
        profile(layer, (1, 5))
    with pytest.raises(RuntimeError, match="item"):
        profile(Function(lambda x: x if x.sum() > 0 else -x), (1, 3))
