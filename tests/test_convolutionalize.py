import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segcourse import convolutionalize as C
from segcourse.models.vgg import VGG16, vgg16_features

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_classifier(seed, padded=False):
    """A random classifier, its number of input channels and the size of its images.

    Kernels, strides, dilations and maps differ by axis.
    """
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def pick(*choices):
        return choices[int(torch.randint(len(choices), (1,), generator=g))]

    def pair(*choices):
        return pick(*choices), pick(*choices)

    channels = in_channels = pick(1, 2, 3)
    features: list[nn.Module] = []
    for _ in range(pick(1, 2, 3)):
        kernel, out = (3, 3) if padded else pair(1, 2, 3), 2 * pick(1, 2, 3)
        dilation, stride = pair(1, 1, 2), pair(1, 1, 2)
        padding = dilation if padded else 0
        groups = 2 if channels % 2 == 0 and pick(0, 1) else 1
        features += [nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups), nn.ReLU()]
        channels = out
        if pick(0, 1):
            features.append(pick(nn.MaxPool2d([*pair(1, 2, 3)], pair(1, 2)), nn.AvgPool2d(pair(1, 2))))
        if pick(0, 1):
            norm = nn.BatchNorm2d(channels)
            nn.init.normal_(norm.running_mean)
            features.append(norm)
    last = pair(3, 4) if padded else pair(1, 2, 3)  # the map that is flattened
    hidden = pick(3, 5)
    dense = [nn.Linear(channels * last[0] * last[1], hidden, bias=pick(True, False)), nn.Tanh(), nn.Dropout()]
    dense += [nn.Linear(hidden, 4), *pick([], [nn.Softmax(dim=1)])]
    model = nn.Sequential(nn.Sequential(*features), nn.Flatten(), *dense).eval()
    return model, in_channels, (smallest(model[0], in_channels, 0, last), smallest(model[0], in_channels, 1, last))


def smallest(features, in_channels, axis, last):
    """The smallest image that gives a map of size `last`, along one axis, by trying one size after the other."""
    features = copy.deepcopy(features).to("meta")
    for n in range(1, 200):
        shape = (n, 99) if axis == 0 else (99, n)
        try:
            map_size = features(torch.zeros(1, in_channels, *shape, device="meta")).shape[2 + axis]
        except RuntimeError:  # too small for one of the layers
            continue
        if map_size == last[axis]:
            return n
    raise AssertionError("no size found")


def loop_over_windows(model, image, window, stride):
    """The specification of a sliding window, as a loop that anyone can read."""
    wh, ww = window
    rows = range(0, image.shape[2] - wh + 1, stride[0])
    columns = range(0, image.shape[3] - ww + 1, stride[1])
    scores = [[model(image[:, :, i : i + wh, j : j + ww]) for j in columns] for i in rows]
    return torch.stack([torch.stack(row, dim=-1) for row in scores], dim=-2)


@pytest.mark.parametrize("seed", range(40))
def test_one_pass_equals_the_sliding_window(seed):
    model, channels, size = random_classifier(seed)
    network = C.convolutionalize(model, size)
    assert not any(isinstance(layer, nn.Linear | nn.Flatten) for layer in network.modules())
    window, stride = C.window_and_stride(network)
    assert window == size

    g = torch.Generator().manual_seed(seed)
    more = torch.randint(0, 9, (2,), generator=g).tolist()
    image = torch.randn(2, channels, size[0] + more[0], size[1] + more[1], generator=g)
    one_pass = network(image)
    expected = loop_over_windows(model, image, window, stride)
    torch.testing.assert_close(one_pass, expected, **CLOSE)
    torch.testing.assert_close(C.sliding_window(model, image, window, stride, batch=3), expected, **CLOSE)
    shape = tuple(image.shape[2:])
    assert tuple(one_pass.shape[2:]) == C.output_size(network, shape)
    assert tuple(one_pass.shape[2:]) == tuple(map(C.heatmap_size, shape, window, stride))

    dense = C.shift_and_stitch(network, image, window, stride, batch=3)
    torch.testing.assert_close(dense, loop_over_windows(model, image, window, (1, 1)), **CLOSE)
    torch.testing.assert_close(dense, C.sliding_window(model, image, window), **CLOSE)


@pytest.mark.parametrize("seed", range(20))
def test_padded_networks_agree_at_their_own_size_only(seed):
    model, channels, size = random_classifier(seed, padded=True)
    network = C.convolutionalize(model, size)
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(2, channels, *size, generator=g)
    torch.testing.assert_close(network(image)[:, :, 0, 0], model(image), **CLOSE)
    larger = torch.randn(1, channels, 3 * size[0] + 9, 3 * size[1] + 9, generator=g)
    assert tuple(network(larger).shape[2:]) == C.output_size(network, tuple(larger.shape[2:]))
    window, stride = C.window_and_stride(network)
    apart = (network(larger) - C.sliding_window(model, larger, window, stride)).abs()
    assert apart.amax() > 1e-4


def test_what_zero_padding_costs():
    """One classifier with and without padding in its first layers: how far one pass is from the sliding window."""

    def classifier(padding, kernel):
        torch.manual_seed(0)
        convolutions = [
            layer
            for channels, out in ((3, 8), (8, 8), (8, 8))
            for layer in (nn.Conv2d(channels, out, 3, padding=padding), nn.ReLU())
        ]
        model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(8 * kernel * kernel, 5))
        return model, C.convolutionalize(model, 14)

    image = torch.rand(1, 3, 40, 50)
    apart = {}
    for padding, kernel in ((0, 8), (1, 14)):
        model, network = classifier(padding, kernel)
        windows, one_pass = C.sliding_window(model, image, 14), network(image)
        inner = (slice(None), slice(None), slice(7, -7), slice(7, -7))  # padded: entries with no zero in one pass
        offset = padding * 3
        assert one_pass.shape[2] == windows.shape[2]
        apart[padding] = ((one_pass - windows)[inner].std() / windows[inner].std()).item()
        # The features agree where the zeros do not reach: 3 layers of 3x3 carry them 3 pixels inwards.
        features = model[:6](image[:, :, 10:24, 20:34])
        whole = model[:6](image)[:, :, 10 : 10 + kernel, 20 : 20 + kernel]
        same = torch.isclose(features, whole, **CLOSE).all(dim=(0, 1))
        expected = torch.zeros_like(same)
        expected[offset : kernel - offset, offset : kernel - offset] = True
        assert torch.equal(same, expected)
    assert apart[0] < 1e-12
    assert apart[1] > 0.1  # the spread of the error is a tenth of the spread of the scores, or more


def test_padding_reaches_48_of_the_49_last_places_of_vgg16():
    torch.manual_seed(0)
    features = vgg16_features(width=2).eval()
    image = torch.rand(1, 3, 320, 320)  # the window at (32, 64) of it
    alone = features(image[:, :, 32 : 32 + 224, 64 : 64 + 224])[0]
    inside = features(image)[0, :, 1:8, 2:9]
    same = torch.isclose(alone, inside, **CLOSE).all(0)
    assert same.nonzero().tolist() == [[3, 3]]


def test_vgg16_becomes_fully_convolutional():
    torch.manual_seed(0)
    model = VGG16(classes=5, width=2).eval()
    network = C.convolutionalize(model, 224)
    x = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(network(x)[:, :, 0, 0], model(x), **CLOSE)
    assert network(x).shape == (2, 5, 1, 1)
    assert C.window_and_stride(network) == ((224, 224), (32, 32))
    for size in ((224, 255), (256, 287), (330, 384)):
        got = tuple(network(torch.zeros(1, 3, *size)).shape[2:])
        assert got == C.output_size(network, size)
        assert got == tuple(C.heatmap_size(n, 224, 32) for n in size)
        assert got == tuple(n // 32 - 6 for n in size)  # five floors, then the 7x7 kernel
    assert isinstance(network, nn.Sequential)
    assert network.classifier.fc6.kernel_size == (7, 7)
    assert network.classifier.fc7.kernel_size == network.classifier.fc8.kernel_size == (1, 1)
    assert list(network.state_dict()) == list(model.state_dict())  # the names stay


def test_the_published_vgg16_on_paper():
    with torch.device("meta"):
        model = VGG16().eval()
        network = C.convolutionalize(model, 224)
        assert sum(p.numel() for p in network.parameters()) == 138_357_544
        assert network(torch.zeros(1, 3, 384, 384)).shape == (1, 1000, 6, 6)
        # 15.4703 and 49.5511 GMAC: counted for the table of reference models by two independent counters.
        assert C.macs(model, 224) == C.macs(network, 224) == 15_470_264_320
        assert round(C.macs(network, 384) / 1e9, 4) == 49.5511
        cost = C.patch_cost(model, 384, 224, 32)
    assert cost == (36, 15_470_264_320, C.macs(network, 384))
    assert round(cost.ratio, 1) == 11.2


@pytest.mark.parametrize("seed", range(8))
def test_macs_are_those_that_torch_counts(seed):
    model, channels, size = random_classifier(seed, padded=seed % 2 == 1)
    network = C.convolutionalize(model, size)
    larger = (size[0] + 11, size[1] + 6)
    for module, shape in ((model, size), (network, larger)):
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, channels, *shape))
        assert C.macs(module, shape) == counter.get_total_flops() // 2
    cost = C.patch_cost(model, larger, size, (2, 3))
    assert cost.windows == len(range(0, 12, 2)) * len(range(0, 7, 3))
    assert cost.all_windows == cost.windows * C.macs(model, size)
    assert cost.ratio == cost.all_windows / C.macs(network, larger)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (3, 4, 1, 2), (1, 1, 6, 1), (4, 6, 1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_to_conv(shape, bias):
    torch.manual_seed(0)
    _, channels, h, w = shape
    linear = nn.Linear(channels * h * w, 9, bias=bias)
    conv = C.linear_to_conv(linear, channels, (h, w))
    x = torch.randn(shape)
    torch.testing.assert_close(conv(x)[:, :, 0, 0], linear(x.flatten(1)), **CLOSE)
    # Entry by entry, by hand: input number (c·h + i)·w + j of the dense layer is tap (i, j) of channel c.
    for c, i, j in itertools.product(range(channels), range(h), range(w)):
        assert torch.equal(conv.weight[:, c, i, j], linear.weight[:, (c * h + i) * w + j])
    assert (conv.bias is not None) == bias
    with torch.no_grad():
        linear.weight.zero_()
    assert conv.weight.abs().max() > 0  # a copy
    half = C.linear_to_conv(nn.Linear(12, 2).half(), 3, 2)
    assert half.weight.dtype == half.bias.dtype == torch.float16


def test_a_1x1_convolution_is_a_dense_layer_at_every_pixel():
    torch.manual_seed(0)
    linear, x = nn.Linear(3, 5), torch.randn(2, 3, 4, 6)
    got = C.dense_at_every_pixel(linear, x)
    torch.testing.assert_close(got, C.linear_to_conv(linear, 3, 1)(x), **CLOSE)
    for i, j in itertools.product(range(4), range(6)):
        torch.testing.assert_close(got[:, :, i, j], linear(x[:, :, i, j]), **CLOSE)


def test_the_classifier_itself_is_left_alone():
    torch.manual_seed(0)
    model = C.PatchClassifier(width=2)
    before = copy.deepcopy(model.state_dict())
    network = C.convolutionalize(model, 32)
    assert network.training
    assert model.training
    network(torch.randn(1, 3, 40, 40)).sum().backward()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not C.convolutionalize(model.eval(), 32).training
    # A dense network without any convolution is one large kernel.
    dense = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 4, 5))
    x = torch.randn(1, 2, 3, 4)
    torch.testing.assert_close(C.convolutionalize(dense, (3, 4))(x)[:, :, 0, 0], dense(x), **CLOSE)


def test_same_and_valid_padding_in_words():
    model = nn.Sequential(
        nn.Conv2d(1, 2, (3, 5), padding="same", dilation=(2, 1)), nn.Conv2d(2, 3, 3, padding="valid"), nn.Flatten()
    )
    model.append(nn.Linear(3 * 4 * 6, 2))
    network = C.convolutionalize(model, (6, 8))
    assert tuple(network(torch.zeros(1, 1, 9, 13)).shape[2:]) == C.output_size(network, (9, 13)) == (4, 6)
    assert C.window_and_stride(network) == ((6, 8), (1, 1))


def test_patch_classifier():
    torch.manual_seed(0)
    model = C.PatchClassifier().eval()
    x = torch.randn(3, 3, 32, 32)
    assert model(x).shape == (3, 11)
    sizes = [tuple(layer(x).shape[2:]) for layer in (model.features[:n] for n in range(1, 9))]
    assert [s[0] for s in sizes] == [28, 28, 14, 12, 12, 6, 4, 4]  # the sizes in its docstring
    network = C.convolutionalize(model, 32)
    assert C.window_and_stride(network) == ((32, 32), (4, 4))
    with pytest.raises(ValueError, match=r"takes patches \(N, 3, 32, 32\).*convolutionalize"):
        model(torch.zeros(1, 3, 32, 36))
    with pytest.raises(ValueError, match="classes must be at least 1"):
        C.PatchClassifier(classes=0)

    # In single precision, as in the lesson: equal to rounding.
    model, network = model.float(), network.float()
    scene = torch.rand(1, 3, 96, 128, dtype=torch.float32)
    torch.testing.assert_close(C.sliding_window(model, scene, 32, 4), network(scene), rtol=1e-4, atol=1e-5)
    every_pixel = C.shift_and_stitch(network, C.pad_for_centres(scene, 32), 32, 4)
    assert every_pixel.shape == (1, 11, 96, 128)
    cost = C.patch_cost(model, (96, 128), 32, 4)
    assert (cost.windows, round(cost.ratio, 1)) == (17 * 25, 9.3)
    assert round(C.patch_cost(model, (96, 128), 32, 1).ratio) == 139


@pytest.mark.parametrize("window", [(5, 4), (3, 8), (1, 2)])
def test_pad_for_centres_puts_every_pixel_in_the_middle_of_a_window(window):
    image = torch.randn(2, 3, 9, 10)
    padded = C.pad_for_centres(image, window)
    centre = C.sliding_window(lambda p: p[:, :, window[0] // 2, window[1] // 2], padded, window)
    assert torch.equal(centre, image)
    rows = [abs(i) if i < 9 else 16 - i for i in range(-(window[0] // 2), 9 + (window[0] - 1) // 2)]
    columns = [abs(j) if j < 10 else 18 - j for j in range(-(window[1] // 2), 10 + (window[1] - 1) // 2)]
    assert torch.equal(padded, image[:, :, rows][..., columns])  # mirrored without repeating the border


def test_random_patches():
    images = torch.arange(3 * 2 * 7 * 9.0).reshape(3, 2, 7, 9)
    labels = torch.arange(3 * 7 * 9).reshape(3, 7, 9)
    patches, centres = C.random_patches(images, labels, 4, 2000, torch.Generator().manual_seed(0))
    assert patches.shape == (2000, 2, 4, 4)
    n, i, j = centres // 63, centres % 63 // 9, centres % 9
    assert torch.equal(patches[:, :, 2, 2], images[n, :, i, j])
    corner = images[n, :, i - 2, j - 2]
    assert torch.equal(patches - corner[..., None, None], (images[0, 0, :4, :4]).expand_as(patches))
    assert set(zip(n.tolist(), i.tolist(), j.tolist())) == set(
        itertools.product(range(3), range(2, 6), range(2, 8))
    )  # every place where a window fits, and no other
    again = C.random_patches(images, labels, 4, 2000, torch.Generator().manual_seed(0))
    assert torch.equal(again[0], patches)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_change_nothing(batch):
    model, channels, size = random_classifier(4)
    image = torch.randn(3, channels, size[0] + 5, size[1] + 3)
    network = C.convolutionalize(model, size)
    expected = loop_over_windows(model, image, size, (1, 1))
    torch.testing.assert_close(C.sliding_window(model, image, size, batch=batch), expected, **CLOSE)
    stride = C.window_and_stride(network)[1]
    torch.testing.assert_close(C.shift_and_stitch(network, image, size, stride, batch=batch), expected, **CLOSE)


def classifier(*layers, inputs=2 * 4 * 4):
    return nn.Sequential(nn.Conv2d(1, 2, 3), *layers, nn.Flatten(), nn.Linear(inputs, 3))


@pytest.mark.parametrize(
    ("model", "size", "error", "says"),
    [
        (
            classifier(nn.AdaptiveAvgPool2d(1), inputs=2),
            (6, 8),
            ValueError,
            r"pools the whole map.*nn.AvgPool2d\(\(4, 6\), stride=1\)",
        ),
        (classifier(nn.AdaptiveMaxPool2d(1), inputs=2), 6, ValueError, r"nn.MaxPool2d\(\(4, 4\), stride=1\)"),
        (classifier(nn.GroupNorm(1, 2)), 6, ValueError, "whole map"),
        (classifier(nn.InstanceNorm2d(2)), 6, ValueError, "whole map"),
        (classifier(nn.MaxPool2d([2, 2], ceil_mode=True), inputs=8), 6, ValueError, "ceil_mode"),
        (classifier(nn.Upsample(scale_factor=2), inputs=128), 6, ValueError, "cannot slide"),
        (classifier().append(nn.Softmax(dim=-1)), 6, ValueError, "dim=1"),
        (classifier().append(nn.BatchNorm1d(3)), 6, ValueError, "BatchNorm2d before flattening"),
        (classifier().append(nn.Linear(4, 2)), 6, ValueError, "does not fit 3 channels of 1x1"),
        (classifier().append(nn.Conv2d(3, 3, 1)), 6, ValueError, "no map any more"),
        (classifier(), 7, ValueError, "does not fit 2 channels of 5x5: check size"),
        (classifier(), 2, ValueError, "too small"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 4)), 6, ValueError, r"put nn.Flatten\(\)"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2), nn.Linear(16, 4)), 6, ValueError, "must flatten channels"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), 6, ValueError, "fully convolutional already"),
        (nn.Conv2d(1, 2, 3), 6, TypeError, "expected an nn.Sequential"),
        (classifier(), 6.0, TypeError, "whole number"),
    ],
    ids=lambda value: None if isinstance(value, nn.Module | type) else str(value)[:24],
)
def test_what_cannot_slide_is_refused_in_words(model, size, error, says):
    with pytest.raises(error, match=says):
        C.convolutionalize(model, size)


def test_the_pooling_that_the_message_proposes_is_right():
    torch.manual_seed(0)
    model = classifier(nn.AdaptiveAvgPool2d(1), inputs=2)
    proposed = classifier(nn.AvgPool2d((4, 6), stride=1), inputs=2)
    proposed.load_state_dict(model.state_dict())
    image = torch.randn(1, 1, 9, 11)
    one_pass = C.convolutionalize(proposed, (6, 8))(image)
    torch.testing.assert_close(one_pass, C.sliding_window(model, image, (6, 8)), **CLOSE)


def test_clear_errors():
    image = torch.zeros(1, 1, 9, 9)
    model = classifier()
    network = C.convolutionalize(model, 6)
    for call, says in (
        (lambda: C.linear_to_conv(nn.Linear(12, 2), 3, 3), "12 inputs, but 3 channels of 3x3 are 27"),
        (lambda: C.heatmap_size(5, 6, 1), "no room for a window of 6"),
        (lambda: C.heatmap_size(5, 2, 0), "at least 1"),
        (lambda: C.window_and_stride(model), "convolutionalize the network first"),
        (lambda: C.sliding_window(model, image[0], 6), r"expected images \(N, C, H, W\)"),
        (lambda: C.shift_and_stitch(network, image[0], 6, 1), r"expected images \(N, C, H, W\)"),
        (lambda: C.shift_and_stitch(network, image, 5, 1), "call for a heat map of 5x5. See window_and_stride"),
        (lambda: C.random_patches(image, torch.zeros(1, 9, 8), 3, 1), r"need labels \(N, H, W\)"),
        (lambda: C.output_size(network, 5), "too small"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_a_stitch_with_the_wrong_stride_is_refused():
    model, network = C.PatchClassifier(width=1), C.convolutionalize(C.PatchClassifier(width=1), 32)
    image = torch.zeros(1, 3, 40, 44)
    with pytest.raises(ValueError, match="stride of 2x2 call for"):
        C.shift_and_stitch(network, image, 32, 2)
    assert C.sliding_window(model, image, 32, 2).shape == (1, 11, 5, 7)
    assert F.relu(C.shift_and_stitch(network, image, 32, 4)).shape == (1, 11, 9, 13)
