import pytest
import torch
import torch.nn.functional as F

from segcourse.models.unet import UNet, crop_and_concat, nearest_valid_sizes, output_margin
from segcourse.tracing import trace


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def run_by_hand(state, x, depth, padding):
    """U-Net as a plain function of its weights, two-dimensional operations only."""

    def double(x, name):
        for i in (0, 2):
            x = F.conv2d(x, state[f"{name}.{i}.weight"], state[f"{name}.{i}.bias"], padding=padding).clamp(min=0)
        return x

    maps = []
    for level in range(depth + 1):
        x = double(x, f"down.{level}")
        maps.append(x)
        x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
    x = maps.pop()
    for level in range(depth):
        x = F.conv_transpose2d(x, state[f"up.{level}.weight"], state[f"up.{level}.bias"], stride=2)
        skip = maps.pop()
        cut = [(s - n) // 2 for s, n in zip(skip.shape[2:], x.shape[2:])]
        skip = skip[:, :, cut[0] : skip.shape[2] - cut[0], cut[1] : skip.shape[3] - cut[1]]
        x = double(torch.cat([skip, x], dim=1), f"merge.{level}")
    return F.conv2d(x, state["score.weight"], state["score.bias"])


@pytest.mark.parametrize(
    ("channels", "classes", "expected"),
    [(1, 2, 31_030_658), (1, 1, 31_030_593), (3, 1, 31_031_745), (3, 21, 31_033_045)],
)
def test_parameters_of_the_paper(channels, classes, expected):
    # Counted layer by layer from the paper's figure 1.
    with torch.device("meta"):
        assert parameters(UNet(channels, classes)) == parameters(UNet(channels, classes, padded=True)) == expected


def test_sizes_of_the_paper():
    with torch.device("meta"):
        model = UNet().eval()
        for size, smaller in ((572, 388), (188, 4), (204, 20)):  # figure 1; 188 is the smallest
            assert model(torch.zeros(1, 1, size, size)).shape == (1, 2, smaller, smaller)
        assert model(torch.zeros(2, 1, 188, 220)).shape == (2, 2, 4, 36)
        sizes = []
        for stage in (*model.down, *model.up, *model.merge):
            stage.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
        model(torch.zeros(1, 1, 572, 572))
        assert sizes == [568, 280, 136, 64, 28, 56, 52, 104, 100, 200, 196, 392, 388]
        padded = UNet(3, 21, padded=True)
        assert padded(torch.zeros(2, 3, 16, 48)).shape == (2, 21, 16, 48)


def test_receptive_fields():
    # facts: bottleneck 140 every 16; a pixel sees 188 to 204, 92 to 107 each way, counted by autograd.
    fields = trace(UNet(width=1), (1, 572, 572))
    rows, columns = fields["down.4"]
    assert (rows.sizes, rows.jump, rows.extent(0)) == (columns.sizes, columns.jump, (0, 139))
    assert set(rows.sizes) == {140}
    assert rows.jump == 16
    out, _ = fields[""]
    assert (min(out.sizes), max(out.sizes)) == (188, 204)
    reach = [(i + 92 - out.extent(i)[0], out.extent(i)[1] - i - 92) for i in range(16)]
    assert {side for r in reach for side in r} <= set(range(92, 108))
    assert (min(map(min, reach)), max(map(max, reach))) == (92, 107)
    padded, _ = trace(UNet(width=1, padded=True), (1, 64, 96))[""]
    assert (min(padded.sizes), max(padded.sizes)) == (188, 204)


@pytest.mark.parametrize(
    ("depth", "padded", "size"), [(4, False, (188, 204)), (2, False, (44, 52)), (3, True, (16, 24))]
)
def test_agrees_with_the_network_written_as_a_function(depth, padded, size):
    torch.manual_seed(depth)
    model = UNet(2, 3, width=2, depth=depth, padded=padded).double().eval()
    x = torch.randn(2, 2, *size, dtype=torch.double)
    torch.testing.assert_close(model(x), run_by_hand(model.state_dict(), x, depth, int(padded)))


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("padded", [False, True])
def test_every_size_is_taken_or_refused_with_the_nearest(depth, padded):
    def halves(size):
        for _ in range(depth):
            size -= 0 if padded else 4
            if size < 2 or size % 2:
                return False
            size //= 2
        return size >= 1

    margin = 0 if padded else output_margin(depth)
    valid = [n for n in range(margin + 1, 1000) if halves(n)]
    assert len(valid) > 10
    for size in range(1, 900):
        nearest = nearest_valid_sizes(size, depth, padded)
        if size in valid:
            assert nearest == [size]
        else:
            around = [max((n for n in valid if n < size), default=None), min(n for n in valid if n > size)]
            assert nearest == [n for n in around if n]
    model = UNet(1, 1, width=1, depth=depth, padded=padded).to("meta").eval()
    for size in valid[:2]:
        out = model(torch.zeros(1, 1, size, valid[1], device="meta"))
        assert out.shape == (1, 1, size - margin, valid[1] - margin)


def test_bad_input_is_refused_in_words():
    model = UNet(width=1)
    with pytest.raises(ValueError, match=r"width of 576 does not halve 4 times.*572 and 588"):
        model(torch.zeros(1, 1, 572, 576))
    with pytest.raises(ValueError, match=r"height of 64 .* nearest that does: 188"):
        model(torch.zeros(1, 1, 64, 188))
    with pytest.raises(ValueError, match=r"width of 360 .*352 and 368"):
        UNet(width=1, padded=True)(torch.zeros(1, 1, 480, 360))
    with pytest.raises(ValueError, match=r"images \(N, 1, H, W\), got \(1, 3, 188, 188\)"):
        model(torch.zeros(1, 3, 188, 188))
    for arguments in ({"width": 0}, {"classes": 0}, {"in_channels": 0}, {"depth": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            UNet(**arguments)


def test_crop_and_concat_takes_the_middle():
    skip = torch.arange(2 * 3 * 9 * 8.0).reshape(2, 3, 9, 8)
    x = torch.rand(2, 5, 5, 2)
    out = crop_and_concat(skip, x)
    assert torch.equal(out, torch.cat([skip[:, :, 2:7, 3:5], x], dim=1))
    with pytest.raises(ValueError, match="cannot crop a map of 5x2 to 9x8"):
        crop_and_concat(x, skip)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    for arguments in ({}, {"padded": True, "batch_norm": True}, {"skips": False}):
        model = UNet(2, 3, width=4, depth=2, **arguments)
        model(torch.randn(2, 2, 60, 52)).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            if not ("batch_norm" in arguments and name.endswith(("0.bias", "3.bias")) and "score" not in name):
                assert parameter.grad.abs().max() > 0, name  # a bias before batch norm has no effect


def test_without_skips_the_fine_maps_do_not_pass():
    model = UNet(1, 1, width=2, depth=1, padded=True, skips=False).eval()
    assert parameters(UNet(1, 1, width=2, depth=1)) - parameters(model) == 2 * 2 * 9
    x = torch.zeros(1, 1, 8, 8)
    model.up[0].weight.data.zero_()  # the way through the bottom, blocked
    assert model(x).eq(model(torch.rand_like(x))).all()


def test_signals_reach_the_end_at_the_start():
    torch.manual_seed(0)
    model = UNet(1, 2, width=8, padded=True).eval()
    a, b = model(torch.randn(2, 1, 64, 64))
    assert 0.1 < (a - b).std() < 10
