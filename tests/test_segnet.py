import pytest
import torch
import torch.nn.functional as F

from segcourse.models.segnet import SegNet, SegNetBasic, Unpool
from segcourse.tracing import trace

WAYS = ("indices", "nails", "bilinear", "transposed")


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def warmed(model, *shape):
    """In eval mode, with batch norm statistics that are not those of the start."""
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(*shape, dtype=next(model.parameters()).dtype))
    return model.eval()


def pool_by_hand(x):
    """2x2 max pooling that rounds up: the maxima, and 1 where each one was (the first of equals), 0 elsewhere."""
    n, c, height, width = x.shape
    h, w = -(-height // 2), -(-width // 2)
    padded = F.pad(x, (0, 2 * w - width, 0, 2 * h - height), value=-torch.inf)
    cells = padded.reshape(n, c, h, 2, w, 2).permute(0, 1, 2, 4, 3, 5).flatten(-2)
    best = F.one_hot(cells.argmax(-1), 4).to(x.dtype)
    where = best.unflatten(-1, (2, 2)).permute(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)
    return cells.amax(-1), where[..., :height, :width]


def unpool_by_hand(x, where):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : where.shape[2], : where.shape[3]] * where


def conv_norm_by_hand(state, conv, norm, x):
    kernel = state[f"{conv}.weight"]
    x = F.conv2d(x, kernel, state[f"{conv}.bias"], padding=kernel.shape[-1] // 2)
    mean, var, scale, shift = (
        state[f"{norm}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def segnet_by_hand(state, x):
    where = []
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, depth + 1):
            name = f"encoder.stage{stage}"
            x = conv_norm_by_hand(state, f"{name}.conv{i}", f"{name}.norm{i}", x).clamp(min=0)
        x, mask = pool_by_hand(x)
        where.append(mask)
    for stage, depth in enumerate((3, 3, 3, 2, 1)):
        x = unpool_by_hand(x, where.pop())
        for i in range(depth):
            name = f"decoder.{stage}"
            x = conv_norm_by_hand(state, f"{name}.{3 * i}", f"{name}.{3 * i + 1}", x).clamp(min=0)
    return F.conv2d(x, state["score.weight"], state["score.bias"], padding=1)


def basic_by_hand(state, x, depth):
    where = []
    for level in range(depth):
        x = conv_norm_by_hand(state, f"encoder.{level}.0", f"encoder.{level}.1", x).clamp(min=0)
        x, mask = pool_by_hand(x)
        where.append(mask)
    for level in range(depth):
        x = conv_norm_by_hand(state, f"decoder.{level}.0", f"decoder.{level}.1", unpool_by_hand(x, where.pop()))
    return F.conv2d(x, state["score.weight"], state["score.bias"])


def test_parameters_of_the_authors_network_files():
    with torch.device("meta"):
        model = SegNet()
        assert parameters(model) == 29_449_355
        assert sum(p.numel() for n, p in model.named_parameters() if p.dim() == 1 and _is_norm(model, n)) == 15_872
        assert parameters(SegNet(classes=21)) == 29_455_125
        basic = SegNetBasic()
        assert parameters(basic) == 1_416_587 == 9_472 + 7 * 200_768 + 1_024 + 715
        for way in WAYS[1:3]:
            assert parameters(SegNet(unpool=way)) == 29_449_355
        more = sum(4 * c * c + c for c in (512, 512, 256, 128, 64))
        assert parameters(SegNet(unpool="transposed")) == 29_449_355 + more
        assert parameters(SegNetBasic(unpool="transposed")) == 1_416_587 + 4 * (4 * 64 * 64 + 64)


def _is_norm(model, name):
    return isinstance(model.get_submodule(name.rpartition(".")[0]), torch.nn.BatchNorm2d)


def test_sizes_round_up_as_in_caffe():
    with torch.device("meta"):
        model = SegNet()
        sizes = []
        for stage in model.encoder:
            stage.register_forward_hook(lambda _, __, out: sizes.append(tuple(out[0].shape[1:])))
        assert model(torch.zeros(2, 3, 360, 480)).shape == (2, 11, 360, 480)
        assert sizes == [(64, 180, 240), (128, 90, 120), (256, 45, 60), (512, 23, 30), (512, 12, 15)]
        for size in ((1, 1), (33, 47), (50, 31), (224, 224)):
            for way in WAYS:
                assert SegNet(1, 4, 1, unpool=way)(torch.zeros(2, 1, *size)).shape == (2, 4, *size)
                assert SegNetBasic(1, 4, 2, 3, 5, unpool=way)(torch.zeros(2, 1, *size)).shape == (2, 4, *size)


def test_receptive_field():
    # 372 to 404, 180 to 211 each way: measured by autograd on the authors' network file.
    rows, columns = trace(SegNet(width=1), (3, 96, 64))[""]
    assert rows == columns
    assert (min(rows.sizes), max(rows.sizes)) == (372, 404)
    reach = [(i - rows.extent(i)[0], rows.extent(i)[1] - i) for i in range(32)]
    assert (min(map(min, reach)), max(map(max, reach))) == (180, 211)


def test_agrees_with_the_network_written_as_a_function():
    torch.manual_seed(0)
    model = warmed(SegNet(2, 3, width=2).double(), 3, 2, 64, 64)
    x = torch.randn(2, 2, 45, 70, dtype=torch.double)
    torch.testing.assert_close(model(x), segnet_by_hand(model.state_dict(), x))
    basic = warmed(SegNetBasic(2, 3, width=4, depth=3, kernel=5).double(), 3, 2, 32, 32)
    torch.testing.assert_close(basic(x), basic_by_hand(basic.state_dict(), x, 3))


def test_each_value_returns_to_its_own_maximum():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 10)
    pooled, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    out = Unpool(3)(pooled, indices, (7, 10))
    values, where = pool_by_hand(x)
    assert torch.equal(values, pooled)
    assert torch.equal(out, x * where)


def test_the_decoder_gets_the_indices_of_its_own_encoder():
    seen = []
    for model in (SegNet(1, 2, width=1), SegNetBasic(1, 2, width=3)):
        made: list = []
        used: list = []
        for stage in model.encoder:
            stage.register_forward_hook(lambda _, __, out, made=made: made.append(out[1]))
        for up in model.unpool:
            up.register_forward_hook(lambda _, given, __, used=used: used.append(given[1:]))
        model(torch.randn(2, 1, 45, 70))
        assert [id(indices) for indices, _ in used] == [id(indices) for indices in reversed(made)]
        seen.append([size for _, size in used])
    assert seen[0] == [(3, 5), (6, 9), (12, 18), (23, 35), (45, 70)]
    assert seen[1] == seen[0][1:]


def test_the_other_ways_to_unpool():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5)
    indices = torch.zeros(2, 3, 4, 5, dtype=torch.long)
    nails = Unpool(3, "nails")(x, indices, (7, 10))
    assert torch.equal(nails[:, :, ::2, ::2], x)
    assert nails.count_nonzero() == x.numel()
    smooth = Unpool(3, "bilinear")(x, indices, (8, 9))
    torch.testing.assert_close(smooth, F.interpolate(x, (8, 10), mode="bilinear")[..., :9])
    up = Unpool(3, "transposed")
    torch.testing.assert_close(
        up(x, indices, (7, 9)), F.conv_transpose2d(x, up.deconv.weight, up.deconv.bias, stride=2)[..., :7, :9]
    )


@pytest.mark.parametrize("way", WAYS)
def test_gradients_reach_every_parameter(way):
    torch.manual_seed(0)
    for model in (SegNet(2, 3, width=4, unpool=way), SegNetBasic(2, 3, width=4, depth=3, unpool=way)):
        (model(torch.randn(3, 2, 64, 96)) * torch.randn(3, 3, 64, 96)).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            before_norm = name.endswith("bias") and not _is_norm(model, name) and "score" not in name
            if not before_norm:  # a bias before batch norm has no effect
                assert parameter.grad.abs().max() > 0, name


def test_bad_arguments_are_refused_in_words():
    for make in (SegNet, SegNetBasic):
        with pytest.raises(ValueError, match="one of indices, nails, bilinear, transposed; got 'nearest'"):
            make(width=1, unpool="nearest")
        with pytest.raises(ValueError, match="width must be at least 1, got 0"):
            make(width=0)
        with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(3, 8, 8\)"):
            make(width=1)(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="kernel must be odd"):
        SegNetBasic(width=1, kernel=4)
    with pytest.raises(ValueError, match="depth must be at least 1"):
        SegNetBasic(width=1, depth=0)
