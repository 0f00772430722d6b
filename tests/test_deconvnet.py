import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segcourse.models.deconvnet import DeconvNet
from segcourse.tracing import trace


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def norm_by_hand(state, name, x):
    mean, var, scale, shift = (
        state[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)


def deconv_by_hand(state, name, x, padding):
    """A transposed convolution of stride 1 as a convolution: channels swapped, kernel turned by 180 degrees."""
    kernel = state[f"{name}.0.weight"].transpose(0, 1).flip(2, 3)
    x = F.conv2d(x, kernel, state[f"{name}.0.bias"], padding=kernel.shape[-1] - 1 - padding)
    return norm_by_hand(state, f"{name}.1", x)


def run_by_hand(state, x):
    where = []
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, depth + 1):
            name = f"encoder.stage{stage}"
            x = F.conv2d(x, state[f"{name}.conv{i}.weight"], state[f"{name}.conv{i}.bias"], padding=1)
            x = norm_by_hand(state, f"{name}.norm{i}", x)
        n, c, h, w = x.shape
        cells = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 2, 4, 3, 5).flatten(-2)
        best = F.one_hot(cells.argmax(-1), 4).to(x.dtype).unflatten(-1, (2, 2))
        where.append(best.permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w))
        x = cells.amax(-1)
    for name in ("fc6", "fc7"):
        x = norm_by_hand(state, f"{name}.1", F.conv2d(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"]))
    x = deconv_by_hand(state, "fc6_deconv", x, 0)
    for stage, depth in enumerate((3, 3, 3, 2, 2)):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3) * where.pop()
        for i in range(depth):
            x = deconv_by_hand(state, f"decoder.{stage}.{i}", x, 1)
    return F.conv2d(x, state["score.weight"], state["score.bias"])


def test_figures_of_the_authors_network_file():
    with torch.device("meta"):
        model = DeconvNet()
        norms = sum(parameters(m) for m in model.modules() if isinstance(m, nn.BatchNorm2d))
        assert (parameters(model), norms) == (251_805_653, 33_408)
        big = [layer[0].weight.numel() for layer in (model.fc6, model.fc7, model.fc6_deconv)]
        assert big == [102_760_448, 16_777_216, 102_760_448]
        assert round(100 * sum(big) / parameters(model)) == 88
        maps = []
        for layer in (model.fc6, model.fc7, model.fc6_deconv, *model.decoder):
            layer.register_forward_hook(lambda _, __, out: maps.append(tuple(out.shape[1:3])))
        assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 21, 224, 224)
        assert maps == [(4096, 1), (4096, 1), (512, 7), (512, 14), (256, 28), (128, 56), (64, 112), (64, 224)]
        assert model(torch.zeros(2, 3, 256, 320)).shape == (2, 21, 256, 320)
        assert DeconvNet(1, 2, width=4, kernel=2)(torch.zeros(3, 1, 64, 96)).shape == (3, 2, 64, 96)


def test_receptive_field():
    # 756 to 788: measured by autograd on the authors' network file.
    rows, columns = trace(DeconvNet(width=1), (3, 224, 256))[""]
    assert rows == columns
    assert (min(rows.sizes), max(rows.sizes)) == (756, 788)
    # From any pixel that reaches 224 and more each way: at 224 every pixel sees the image.
    assert all(rows.extent(i)[0] <= 0 and rows.extent(i)[1] >= 223 for i in range(224))


@pytest.mark.parametrize(("kernel", "size"), [(2, (64, 96)), (3, (96, 128))])
def test_agrees_with_the_network_written_as_a_function(kernel, size):
    torch.manual_seed(kernel)
    model = DeconvNet(2, 3, width=2, kernel=kernel).double()
    x = torch.randn(3, 2, *size, dtype=torch.double)
    with torch.no_grad():
        for _ in range(3):
            model(x)  # statistics of batch norm that are not those of the start
        torch.testing.assert_close(model.eval()(x), run_by_hand(model.state_dict(), x))


def test_each_unpooling_gets_the_indices_of_its_own_map(monkeypatch):
    model = DeconvNet(1, 2, width=1, kernel=2)
    made, used = [], []
    for stage in model.encoder:
        stage.register_forward_hook(lambda _, __, out: made.append(out[1]))
    unpool = F.max_unpool2d
    monkeypatch.setattr(F, "max_unpool2d", lambda x, i, **rest: used.append(i) or unpool(x, i, **rest))
    model(torch.randn(2, 1, 64, 64))
    assert [id(i) for i in used] == [id(i) for i in reversed(made)]
    assert len(used) == 5


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    model = DeconvNet(2, 3, width=4, kernel=2)
    (model(torch.randn(4, 2, 64, 96)) * torch.randn(4, 3, 64, 96)).sum().backward()
    normed = {
        id(m[0].bias) for m in model.modules() if isinstance(m, nn.Sequential) and isinstance(m[1], nn.BatchNorm2d)
    }
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if id(parameter) not in normed and not name.endswith(tuple(f"conv{i}.bias" for i in (1, 2, 3))):
            assert parameter.grad.abs().max() > 0, name  # a bias before batch norm has no effect


def test_bad_input_is_refused_in_words():
    model = DeconvNet(1, 2, width=1)
    for size, words in (
        ((224, 240), r"width must be a multiple of 32 and at least 224, got 240; nearest: 224 and 256"),
        ((192, 224), r"height must be .* got 192; nearest: 224$"),
        ((215, 224), r"height must be .* got 215; nearest: 224$"),
        ((10, 224), r"height must be .* got 10; nearest: 224$"),
    ):
        with pytest.raises(ValueError, match=words):
            model(torch.zeros(2, 1, *size))
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\), got \(2, 3, 224, 224\)"):
        model(torch.zeros(2, 3, 224, 224))
    for arguments in ({"width": 0}, {"classes": 0}, {"in_channels": 0}, {"kernel": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            DeconvNet(**{"width": 1, **arguments})


def test_one_image_cannot_train_a_single_unit():
    model = DeconvNet(1, 2, width=1, kernel=2)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(torch.zeros(1, 1, 64, 64))
    assert model.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)
