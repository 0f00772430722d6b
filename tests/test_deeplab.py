import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segcourse.atrous import atrous_conv, set_output_stride, valid_fraction, valid_taps
from segcourse.models.deeplab import ASPPL, STRIDE, DeepLab, LargeFOV, upsample
from segcourse.models.fcn import FCN
from segcourse.models.vgg import VGG16, vgg16_features
from segcourse.receptive_field import effective_kernel
from segcourse.tracing import trace

# facts: counted from the authors' network files, for 21 classes and an input of 321: parameters, multiply-accumulates
# in units of 10^9, those of them that do not multiply padding, receptive field and padding of the scores.
PUBLISHED = {
    LargeFOV: (20_505_429, 50.9281, 46.8311, 435, 217),
    ASPPL: (37_877_652, 80.1204, 65.6047, 611, 305),
}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


class Scores(nn.Module):
    """The network without its upsampling."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model.scores(image)


@pytest.mark.parametrize("network", PUBLISHED)
def test_figures_of_the_authors_network_files(network):
    count, giga, useful_giga, field, padding = PUBLISHED[network]
    with torch.device("meta"):
        model = network()
        assert parameters(model) == count
        useful = []

        def products(conv, given, out):
            taps = valid_taps(tuple(given[0].shape[2:]), conv.dilation[0], conv.kernel_size[0])
            useful.append(conv.in_channels * conv.out_channels * taps.sum().item())

        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(products)
        with FlopCounterMode(display=False) as counter, torch.device("cpu"):  # taps are counted, not imagined
            scores = model.scores(torch.zeros(1, 3, 321, 321, device="meta"))
    assert scores.shape == (1, 21, 41, 41)
    assert round(counter.get_total_flops() / 2 / 1e9, 4) == giga
    assert round(sum(useful) / 1e9, 4) == useful_giga
    rows, columns = trace(Scores(network(width=1)), (3, 321, 321))[""]
    assert rows == columns
    assert (rows.size, rows.jump, rows.padding, rows.start) == (field, STRIDE, padding, 0)


def test_where_the_parameters_are():
    with torch.device("meta"):
        model, fcn = LargeFOV(), FCN(32)
        branch = model.branches[0]
        parts = [model.features, branch.fc6, branch.fc7, branch.score]
        assert [parameters(part) for part in parts] == [14_714_688, 4_719_616, 1_049_600, 21_525]
        assert parameters(ASPPL().branches[3]) == 5_790_741
        assert (parameters(fcn) - parameters(fcn.up)) // 10**6 == 134  # VGG's dense layers, 21 scores
        assert parameters(ASPPL(width=8)) < 10**6


def test_three_spacings_of_taps_span_the_same():
    assert effective_kernel(7, 4) == effective_kernel(3, 12) == 25


@pytest.mark.parametrize("network", PUBLISHED)
def test_any_size_gives_its_own_size(network):
    model = network(1, 2, width=1).eval()
    for height, width in ((1, 2), (8, 7), (9, 10), (15, 16), (17, 33), (96, 128), (65, 97)):
        image = torch.zeros(1, 1, height, width)
        scores = model.scores(image)
        assert model(image).shape == (1, 2, height, width)
        assert scores.shape[2:] == (-(-(height - 1) // 8) + 1, -(-(width - 1) // 8) + 1)
        thinned = image[0, :, ::8, ::8]  # as the labels are: as many where sizes are 8n + 1, else one less
        assert [a - b for a, b in zip(scores.shape[2:], thinned.shape[1:])] == [n % 8 != 1 for n in (height, width)]


def test_features_are_the_dense_ones_but_for_the_last_pooling():
    model = LargeFOV(1, 2, width=1)
    strided = vgg16_features(1, width=1)
    for stage in strided:
        stage.pool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
    dense = set_output_stride(strided, STRIDE)

    def geometry(network):
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
        names = ("kernel_size", "stride", "dilation")
        return [[v if isinstance(v, tuple) else (v, v) for v in (getattr(m, n) for n in names)] for m in layers]

    ours, derived = geometry(model.features), geometry(dense)
    assert ours[:-1] == derived[:-1]
    assert (ours[-1], derived[-1]) == ([(3, 3), (1, 1), (1, 1)], [(3, 3), (1, 1), (2, 2)])
    model.features.load_state_dict(dense.state_dict())
    x = torch.randn(1, 1, 65, 97)
    torch.testing.assert_close(dense(x)[..., ::4, ::4], strided(x))
    without = [nn.Sequential(*features[:4], *features[4][:-1]) for features in (model.features, dense)]
    torch.testing.assert_close(without[0](x), without[1](x))
    assert (model.features(x) - dense(x)).abs().max() > 0.01


def deeplab_by_hand(state, image, rates, average):
    """DeepLab as a function of its weights."""

    def pool(x, stride, reduce):
        x = F.pad(x, (1, 2, 1, 2), value=-torch.inf if reduce == "amax" else 0.0)  # one more for a rest of the stride
        x = x.unfold(2, 3, 1).unfold(3, 3, 1)
        return getattr(x, reduce)((-2, -1))[:, :, : size[0] + 1 : stride, : size[1] + 1 : stride]

    x = image
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        rate = 2 if stage == 5 else 1
        for i in range(1, depth + 1):
            name = f"features.stage{stage}.conv{i}"
            x = atrous_conv(x, state[f"{name}.weight"], rate, padding=rate) + state[f"{name}.bias"][:, None, None]
            x = x.clamp(min=0)
        size = [n if n % 2 == 0 and stage < 4 else n - 1 for n in x.shape[2:]]
        x = pool(x, 2 if stage < 4 else 1, "amax")
    if average:
        size = [n - 1 for n in x.shape[2:]]
        x = pool(x, 1, "mean")
    scores = 0
    for i, rate in enumerate(rates):
        y = x
        for name in ("fc6", "fc7", "score"):
            weight, bias = (state[f"branches.{i}.{name}.{kind}"] for kind in ("weight", "bias"))
            fc6 = name == "fc6"
            y = atrous_conv(y, weight, rate if fc6 else 1, padding=rate if fc6 else 0) + bias[:, None, None]
            y = y if name == "score" else y.clamp(min=0)
        scores = scores + y
    return scores


@pytest.mark.parametrize(
    ("network", "rates", "average"),
    [(LargeFOV, (12,), True), (ASPPL, (6, 12, 18, 24), False), (DeepLab, (1, 3), False)],
)
def test_agrees_with_the_network_written_as_a_function(network, rates, average):
    torch.manual_seed(len(rates))
    model = network(2, 3, width=1, **({"rates": rates} if network is DeepLab else {})).double().eval()
    for name, value in model.named_parameters():
        if "bias" in name or "score" in name:
            nn.init.normal_(value)
    for size in ((129, 161), (100, 130)):
        image = torch.randn(2, 2, *size, dtype=torch.double)
        expected = deeplab_by_hand(model.state_dict(), image, rates, average)
        assert expected.std() > 1e-3
        torch.testing.assert_close(model.scores(image), expected)
        torch.testing.assert_close(model(image)[..., ::8, ::8], expected[..., : -(-size[0] // 8), : -(-size[1] // 8)])


def test_scores_lie_on_every_eighth_pixel():
    ramp = torch.arange(6.0)[:, None] * 80 + torch.arange(7.0) * 8
    pixels = torch.arange(41.0)[:, None] * 10 + torch.arange(49.0)
    full = upsample(ramp[None, None], torch.zeros(1, 3, 41, 49))
    torch.testing.assert_close(full[0, 0], pixels)
    torch.testing.assert_close(upsample(ramp[None, None], torch.zeros(1, 3, 36, 45)), full[..., :36, :45])
    # Half-pixel centres put score i elsewhere, at most 3.5 pixels off, at both ends of a long image in opposite senses.
    line = (torch.arange(41.0) * 8)[None, None]
    moved = (F.interpolate(line, size=321, mode="linear")[0, 0] - torch.arange(321.0))[8:-8]
    assert 3 < -moved.min() < 3.5
    assert 3 < moved.max() < 3.5


def test_the_numbers_of_a_trained_vgg_carry_over():
    torch.manual_seed(0)
    vgg = VGG16(2, 5, width=1)
    for parameter in vgg.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    for model in (LargeFOV(2, 3, width=1), ASPPL(2, 3, width=1)):
        scores = [branch.score.weight.clone() for branch in model.branches]
        assert model.load_vgg(vgg) is model
        for name, value in vgg.features.state_dict().items():
            assert torch.equal(model.features.state_dict()[name], value)
        # fc6 at rate 4, all but every third of its taps at zero, is the branch at rate 12.
        weight = vgg.classifier.fc6.weight.reshape(64, 8, 7, 7)[::4]
        thinned = torch.zeros_like(weight)
        thinned[..., ::3, ::3] = weight[..., ::3, ::3]
        pool5 = torch.randn(2, 8, 30, 35)
        bias = vgg.classifier.fc6.bias[::4]
        for branch, rate in zip(model.branches, (12,) if len(scores) == 1 else (6, 12, 18, 24)):
            assert branch.fc6.dilation == branch.fc6.padding == (rate, rate)
            if rate == 12:
                torch.testing.assert_close(
                    branch.fc6(pool5), F.conv2d(pool5, thinned, bias, padding=12, dilation=4), rtol=1e-4, atol=1e-5
                )
            units = torch.randn(3, 64)
            units[:, torch.arange(64) % 4 > 0] = 0
            expected = vgg.classifier.fc7(units)[:, ::4]
            torch.testing.assert_close(branch.fc7(units[:, ::4, None, None])[..., 0, 0], expected, rtol=1e-4, atol=1e-5)
        assert all(torch.equal(a, branch.score.weight) for a, branch in zip(scores, model.branches))
        model.branches[0].fc6.weight.data.zero_()
        assert vgg.classifier.fc6.weight.any()  # copies
    for wrong in (VGG16(2, 5, width=2), VGG16(3, 5, width=1), VGG16(2, 5, width=1, batch_norm=True)):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match="the two networks differ in stage1"):
            model.load_vgg(wrong)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_small_image_wants_small_rates():
    # An image of 96x128 has a map of 13x17: a rate of 24 is a 1x1 there, and one of 2 is not.
    with torch.device("meta"):
        assert DeepLab(width=1).scores(torch.zeros(1, 3, 96, 128)).shape[2:] == (13, 17)
    shares = [round(valid_fraction((13, 17), rate), 2) for rate in (2, 6, 12, 24)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.8
    assert shares[-1] == round(1 / 9, 2)


@pytest.mark.parametrize("network", PUBLISHED)
def test_gradients_reach_every_parameter(network):
    torch.manual_seed(1)
    model = network(2, 3, width=2)
    assert 0.005 < model.branches[0].score.weight.std() < 0.02
    (model(torch.randn(2, 2, 64, 96)) * torch.randn(2, 3, 64, 96)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_bad_arguments_are_refused_in_words():
    for arguments, words in (
        ({"classes": 0}, "classes must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"rates": ()}, "rates must be one or more"),
        ({"rates": (6, 0)}, r"from 1 on, got \(6, 0\)"),
    ):
        with pytest.raises(ValueError, match=words):
            DeepLab(**{"width": 1, **arguments})
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(3, 8, 8\)"):
        LargeFOV(width=1)(torch.zeros(3, 8, 8))
