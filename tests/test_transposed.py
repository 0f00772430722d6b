import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from segcourse import transposed as T
from segcourse.receptive_field import output_size

CONV = {1: F.conv1d, 2: F.conv2d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d}


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_convolution(ndim, seed, integers):
    """A random convolution: x, weight, arguments. No two axes are alike where that can be helped."""
    g = torch.Generator().manual_seed(seed)

    def pick(low, high):
        return int(torch.randint(low, high + 1, (1,), generator=g))

    def draw(*shape):
        if integers:
            return torch.randint(-9, 10, shape, generator=g).double()
        return torch.randn(*shape, generator=g)

    groups = pick(1, 3)
    kernel, stride, padding, dilation = (
        tuple(pick(a, b) for _ in range(ndim)) for a, b in ((1, 4), (1, 3), (0, 2), (1, 2))
    )
    size = tuple(d * (k - 1) + 1 + pick(0, 6) for k, d in zip(kernel, dilation))
    weight = draw(groups * pick(1, 2), pick(1, 3), *kernel)
    x = draw(pick(1, 3), groups * weight.shape[1], *size)
    return x, weight, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def plain(values):
    """conv_matrix takes a number for 1-D, a pair for 2-D."""
    return {k: v[0] if isinstance(v, tuple) and len(v) == 1 else v for k, v in values.items()}


def output_paddings(x, weight, args):
    axes = zip(x.shape[2:], weight.shape[2:], args["stride"], args["padding"], args["dilation"])
    return tuple(T.output_padding_for(*axis) for axis in axes)


CASES = list(itertools.product((1, 2), range(150)))


@pytest.mark.parametrize("chunk", range(6))
def test_the_matrix_is_the_convolution_and_its_transpose_is_the_backward_pass(chunk):
    needed_output_padding = 0
    for ndim, seed in CASES[chunk::6]:
        for integers in (True, False):
            x, weight, args = random_convolution(ndim, seed, integers)
            size = tuple(x.shape[2:])
            w = T.conv_matrix(weight, size[0] if ndim == 1 else size, **plain(args))
            x.requires_grad_()
            y = CONV[ndim](x, weight, **args)
            z = (y.detach() * 2 + 1).round() if integers else torch.randn(y.shape)
            (vjp,) = torch.autograd.grad(y, x, z)
            extra = output_paddings(x, weight, args)
            needed_output_padding += any(extra)
            pytorch = CONV_TRANSPOSE[ndim](z, weight, output_padding=extra, **args)
            stamped = T.conv_transpose(z, weight, output_padding=plain({"p": extra})["p"], **plain(args))
            by_matrix = (w @ x.detach().flatten(1).T).T.reshape(y.shape)
            back_by_matrix = (w.T @ z.flatten(1).T).T.reshape(x.shape)
            if integers:  # sums of small whole numbers carry no rounding: the very same bits
                assert torch.equal(by_matrix, y)
                assert torch.equal(back_by_matrix, vjp)
                assert torch.equal(back_by_matrix, pytorch)
                assert torch.equal(stamped, pytorch)
            else:
                close = {"rtol": 1e-12, "atol": 1e-12}
                torch.testing.assert_close(by_matrix, y, **close)
                torch.testing.assert_close(back_by_matrix, vjp, **close)
                torch.testing.assert_close(back_by_matrix, pytorch, **close)
                torch.testing.assert_close(stamped, pytorch, **close)
    assert needed_output_padding > 10  # else the sizes above would not test it


@pytest.mark.parametrize(("ndim", "seed"), CASES[::5])
def test_the_matrix_entry_by_entry(ndim, seed):
    """A second way: column i of W is the convolution of the image that is 1 at i and 0 elsewhere."""
    x, weight, args = random_convolution(ndim, seed, integers=True)
    size = tuple(x.shape[1:])
    w = T.conv_matrix(weight, size[1] if ndim == 1 else size[1:], **plain(args))
    n = w.shape[1]
    columns = CONV[ndim](torch.eye(n).reshape(n, *size), weight, **args).flatten(1)
    assert torch.equal(w.to_dense(), columns.T)
    checked = torch.sparse_coo_tensor(
        w.indices(), w.values(), w.shape, is_coalesced=True, check_invariants=True
    )  # raises if the entries are not in order, or outside
    assert torch.equal(checked.to_dense(), w.to_dense())


def test_the_matrix_is_not_inverted_by_its_transpose():
    w = T.conv_matrix(torch.tensor([[[2.0, 3.0, 5.0]]]), 6).to_dense()
    z = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    assert not torch.allclose(w @ (w.T @ z), z, rtol=0.5)


def test_the_matrix_carries_gradients_dtype_and_one_axis_arguments():
    weight = torch.randn(2, 3, 2, 3, dtype=torch.float32, requires_grad=True)
    w = T.conv_matrix(weight, (5, 7), stride=(1, 2))
    x = torch.randn(3, 5, 7, dtype=torch.float32)
    assert w.dtype == torch.float32
    (got,) = torch.autograd.grad((w @ x.reshape(-1, 1)).square().sum(), weight)
    (expected,) = torch.autograd.grad(F.conv2d(x[None], weight, stride=(1, 2)).square().sum(), weight)
    torch.testing.assert_close(got, expected)


def test_the_worked_slide():
    # Kernel 3, padding 1, four inputs; the slide announces stride 2 over a stride-1 matrix and prints other last
    # rows. The rows and numbers here are worked out by hand.
    w = torch.tensor([2.0, 3.0, 5.0])
    assert T.spell_transpose(4, 3) == [
        "w1 z1",
        "w2 z1 + w1 z2",
        "w3 z1 + w2 z2 + w1 z3",
        "w3 z2 + w2 z3 + w1 z4",
        "w3 z3 + w2 z4",
        "w3 z4",
    ]
    assert T.spell_transpose(4, 3, padding=1) == T.spell_transpose(4, 3)[1:5]
    assert T.spell_transpose(2, 3, stride=2, output_padding=1) == [
        "w1 z1",
        "w2 z1",
        "w3 z1 + w1 z2",
        "w2 z2",
        "w3 z2",
        "0",
    ]
    cropped = T.spell_transpose(2, 3, stride=2, padding=1, output_padding=1)
    assert cropped == ["w2 z1", "w3 z1 + w1 z2", "w2 z2", "w3 z2"]

    for z, stride, expected in (
        ([1.0, 10.0, 100.0, 1000.0], 1, [23.0, 235.0, 2350.0, 3500.0]),
        ([1.0, 10.0], 2, [3.0, 25.0, 30.0, 50.0]),
    ):
        z, expected = torch.tensor(z), torch.tensor(expected)
        extra = T.output_padding_for(4, 3, stride, 1)
        matrix = T.conv_matrix(w[None, None], 4, stride, 1)
        assert matrix.shape == (len(z), 4)
        assert torch.equal(matrix.T @ z, expected)
        assert torch.equal(T.stamps_1d(z, w, stride, 1, extra).sum(0), expected)
        assert torch.equal(F.conv_transpose1d(z[None, None], w[None, None], None, stride, 1, extra)[0, 0], expected)
    padded = T.conv_matrix(w[None, None], 6, stride=2)  # the padding as part of the input
    assert padded.to_dense().tolist() == [[2, 3, 5, 0, 0, 0], [0, 0, 2, 3, 5, 0]]
    assert (padded.T @ torch.tensor([1.0, 10.0])).tolist() == [2, 3, 25, 30, 50, 0]


@pytest.mark.parametrize("seed", range(20))
def test_stamps_add_up_to_the_transposed_convolution_and_to_the_spelled_rows(seed):
    g = torch.Generator().manual_seed(seed)
    n, k, stride = (int(v) for v in torch.randint(1, 6, (3,), generator=g))
    padding, extra = min(seed % 3, (k - 1) // 2), seed % stride
    z, w = torch.randn(n, generator=g), torch.randn(k, generator=g)
    stamps = T.stamps_1d(z, w, stride, padding, extra)
    expected = F.conv_transpose1d(z[None, None], w[None, None], None, stride, padding, extra)[0, 0]
    torch.testing.assert_close(stamps.sum(0), expected)
    assert stamps.shape == (n, len(expected))
    one = int(torch.randint(n, (1,), generator=g))
    alone = torch.zeros(n)
    alone[one] = z[one]
    torch.testing.assert_close(
        stamps[one], F.conv_transpose1d(alone[None, None], w[None, None], None, stride, padding, extra)[0, 0]
    )
    letters = {f"w{t + 1}": float(v) for t, v in enumerate(w)} | {f"z{i + 1}": float(v) for i, v in enumerate(z)}
    spelled = [
        sum(letters[a] * letters[b] for a, b in (term.split() for term in row.split(" + ") if term != "0"))
        for row in T.spell_transpose(n, k, stride, padding, extra)
    ]
    torch.testing.assert_close(torch.tensor(spelled), expected)


layer = {
    "kernel": st.integers(1, 7),
    "stride": st.integers(1, 4),
    "padding": st.integers(0, 4),
    "dilation": st.integers(1, 3),
}


@settings(derandomize=True, deadline=None, max_examples=200)
@given(size=st.integers(1, 40), **layer)
def test_sizes_are_pytorchs(size, kernel, stride, padding, dilation):
    assume(size + 2 * padding >= dilation * (kernel - 1) + 1)
    x, w = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    out = output_size(size, kernel, stride, padding, dilation)
    assert out == F.conv1d(x, w, None, stride, padding, dilation).shape[2]
    # All sizes that give this output, by trying every one.
    same = [
        n
        for n in range(1, 3 * size + 60)
        if n + 2 * padding >= dilation * (kernel - 1) + 1
        and F.conv1d(torch.zeros(1, 1, n), w, None, stride, padding, dilation).shape[2] == out
    ]
    assert list(T.input_sizes(out, kernel, stride, padding, dilation)) == same
    extra = T.output_padding_for(size, kernel, stride, padding, dilation)
    assert T.conv_transpose_output_size(out, kernel, stride, padding, extra, dilation) == size
    back = F.conv_transpose1d(torch.zeros(1, 1, out), w, None, stride, padding, extra, 1, dilation)
    assert back.shape[2] == size


def test_sizes_of_the_lesson():
    # Worked by hand: kernel 5, stride 3, padding 2; kernel 3, stride 2, padding 1
    assert [output_size(n, 5, 3, 2) for n in (15, 16, 17, 18, 19)] == [5, 6, 6, 6, 7]
    assert T.input_sizes(6, 5, 3, 2) == range(16, 19)
    assert [T.output_padding_for(n, 5, 3, 2) for n in (16, 17, 18)] == [0, 1, 2]
    assert [output_size(n, 3, 2, 1) for n in (5, 6, 7, 8)] == [3, 3, 4, 4]
    assert [T.conv_transpose_output_size(3, 3, 2, 1, extra) for extra in (0, 1)] == [5, 6]


def test_output_padding_may_reach_the_dilation():
    z, w = torch.randn(1, 1, 4), torch.randn(1, 1, 3)
    expected = F.conv_transpose1d(z, w, stride=2, output_padding=2, dilation=3)
    torch.testing.assert_close(T.conv_transpose(z, w, stride=2, output_padding=2, dilation=3), expected)


def test_output_padding_adds_rows_of_the_matrix_not_zeros():
    w, z = torch.tensor([[[2.0, 3.0, 5.0]]]), torch.tensor([[[1.0, 10.0, 100.0]]])
    without = T.conv_transpose(z, w, stride=2, padding=1)[0, 0]
    with_one = T.conv_transpose(z, w, stride=2, padding=1, output_padding=1)[0, 0]
    assert torch.equal(with_one[:-1], without)
    assert with_one[-1] == 500  # w3 z3, which padding had cropped


@pytest.mark.parametrize(
    ("kernel", "stride", "counts"),
    # Odena et al. 2016: uneven where the stride does not divide the kernel; the figures are squares and products of
    # the 1-D counts floor(k/s) and ceil(k/s).
    [
        (3, 2, {1, 2, 4}),
        (5, 2, {4, 6, 9}),
        (4, 3, {1, 2, 4}),
        (2, 2, {1}),
        (4, 2, {4}),
        (6, 3, {4}),
        (16, 8, {4}),
    ],
)
def test_overlap_counts(kernel, stride, counts):
    whole = T.overlap_counts((9, 12), kernel, stride)
    interior = whole[kernel:-kernel, kernel:-kernel]
    assert set(interior.flatten().tolist()) == counts
    w = T.conv_matrix(torch.ones(1, 1, kernel, kernel), tuple(whole.shape), stride)
    assert torch.equal((w.to_dense() != 0).sum(0), whole.flatten())  # stamps are the rows of W
    assert torch.equal(whole, torch.outer(T.overlap_counts(9, kernel, stride), T.overlap_counts(12, kernel, stride)))


def test_overlap_counts_with_padding():
    assert T.overlap_counts(3, 3, 2).tolist() == [1, 1, 2, 1, 2, 1, 1]
    assert T.overlap_counts(3, 3, 2, padding=1).tolist() == [1, 2, 1, 2, 1]
    assert T.overlap_counts(3, 3, 2, padding=1, output_padding=1).tolist() == [1, 2, 1, 2, 1, 1]


@pytest.mark.parametrize(("kernel", "stride"), [((3, 4), 2), ((4, 4), 2), ((2, 5), 3), ((1, 1), 1)])
def test_phase_contrast_is_that_of_a_constant_image(kernel, stride):
    torch.manual_seed(0)
    weight = torch.randn(kernel)
    out = F.conv_transpose2d(torch.ones(1, 1, 9, 8), weight[None, None], stride=stride)[0, 0]
    inside = out[2 * stride : 5 * stride, 2 * stride : 5 * stride]  # whole periods, away from the border
    expected = inside.std(correction=0) / inside.square().mean().sqrt()
    assert T.phase_contrast(weight, stride) == pytest.approx(expected.item(), abs=1e-6)


def test_equal_counts_do_not_prevent_the_pattern_of_a_random_kernel():
    torch.manual_seed(0)
    random = torch.tensor([T.phase_contrast(torch.randn(4, 4), 2) for _ in range(100)])
    assert random.median() > 0.5
    assert T.phase_contrast(torch.ones(4, 4), 2) == 0
    assert T.phase_contrast(T.bilinear_kernel(2, ndim=2), 2) < 1e-12
    with pytest.raises(ValueError, match="kernel must be"):
        T.phase_contrast(torch.ones(3), 2)


def test_bilinear_kernels_by_hand():
    assert T.bilinear_kernel(1).tolist() == [1]
    assert T.bilinear_kernel(2).tolist() == [0.25, 0.75, 0.75, 0.25]
    torch.testing.assert_close(T.bilinear_kernel(3), torch.tensor([1.0, 2, 3, 2, 1]) / 3)
    for f in range(1, 10):
        kernel = T.bilinear_kernel(f)
        assert len(kernel) == 2 * f - f % 2
        for phase in range(f):  # each output adds weights one apart: they sum to one
            torch.testing.assert_close(kernel[phase::f].sum(), torch.tensor(1.0))
        assert torch.equal(T.bilinear_kernel(f, ndim=2), kernel[:, None] * kernel[None, :])


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_the_bilinear_matrix_is_the_tent(factor):
    n = 7
    tent = T.interpolation_matrix(n, factor)
    w = T.conv_matrix(T.bilinear_kernel(factor)[None, None], n * factor, factor, factor // 2)
    torch.testing.assert_close(w.to_dense().T, tent)
    x = torch.randn(n)
    clamped = F.interpolate(x[None, None], scale_factor=factor, mode="linear", align_corners=False)[0, 0]
    inside = slice(factor // 2, n * factor - factor // 2)
    torch.testing.assert_close((tent @ x)[inside], clamped[inside])
    # With what lies beyond the border taken from the border, the tent is F.interpolate everywhere.
    beyond = torch.cat([x[:1], x, x[-1:]])
    everywhere = (T.interpolation_matrix(n + 2, factor) @ beyond)[factor:-factor]
    torch.testing.assert_close(everywhere, clamped)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_the_bilinear_upsampler(factor):
    torch.manual_seed(factor)
    x = torch.randn(2, 3, 5, 6)
    layer = T.bilinear_upsampler(3, factor)
    got = layer(x)
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert got.shape == expected.shape == (2, 3, 5 * factor, 6 * factor)
    assert layer.weight.requires_grad
    b = factor // 2
    inside = (..., slice(b, 5 * factor - b), slice(b, 6 * factor - b))
    torch.testing.assert_close(got[inside], expected[inside])
    if factor > 1:
        wrong = (got - expected).abs()
        wrong[inside] = 0
        assert wrong.max() > 0.3  # the border is wrong, and not by a little
        corners = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
        assert (got - corners)[inside].abs().max() > 0.3
    padded = layer(F.pad(x, (1, 1, 1, 1), mode="replicate"))[..., factor:-factor, factor:-factor]
    torch.testing.assert_close(padded, expected)

    constant = layer(torch.ones(1, 3, 5, 6))[0, 0]
    edge = (1 + 1 / factor) / 2
    torch.testing.assert_close(constant[0, factor], torch.tensor(edge))
    torch.testing.assert_close(constant[0, 0], torch.tensor(edge**2))


def test_the_grouped_upsampler_is_the_diagonal_of_fcns_dense_one():
    layer = T.bilinear_upsampler(3, 2)
    dense = nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1, bias=False)
    with torch.no_grad():
        dense.weight.zero_()
        for c in range(3):
            dense.weight[c, c] = T.bilinear_kernel(2, ndim=2)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layer(x), dense(x))
    with torch.no_grad():
        dense.weight[:] = T.bilinear_kernel(2, ndim=2)  # all nine pairs: every class receives the sum of all
    torch.testing.assert_close(dense(x), layer(x).sum(1, keepdim=True).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_nearest_and_bed_of_nails_are_transposed_convolutions(factor):
    x = torch.randn(2, 3, 4, 5)
    ones = torch.ones(3, 1, factor, factor)
    corner = torch.zeros_like(ones)
    corner[..., 0, 0] = 1
    assert torch.equal(T.nearest_upsample(x, factor), F.conv_transpose2d(x, ones, stride=factor, groups=3))
    assert torch.equal(T.nearest_upsample(x, factor), F.interpolate(x, scale_factor=factor, mode="nearest"))
    assert torch.equal(T.bed_of_nails(x, factor), F.conv_transpose2d(x, corner, stride=factor, groups=3))


def test_clear_errors():
    w3, w4 = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3, 5)
    for call, error, says in (
        (lambda: T.output_padding_for(4, 3, stride=0), ValueError, "stride must be at least 1"),
        (lambda: T.output_padding_for(4, 2.5), TypeError, "kernel must be a whole number"),
        (lambda: T.conv_transpose_output_size(2, 3, 2, 1, 2), ValueError, "output_padding must be in 0..1"),
        (lambda: T.conv_transpose_output_size(1, 3, 1, 2), ValueError, "crops everything"),
        (lambda: T.output_padding_for(2, 5), ValueError, "smaller than the kernel"),
        (lambda: T.conv_matrix(torch.zeros(3, 3), 5), ValueError, "weight must be"),
        (lambda: T.conv_matrix(w3, (5, 5)), ValueError, "input_size must be one number"),
        (lambda: T.conv_matrix(w4, (5, 5, 5)), ValueError, "or a pair"),
        (lambda: T.conv_matrix(w4, (5, 9), stride=(1, 2.0)), TypeError, "stride must be a whole number"),
        (lambda: T.conv_matrix(w4, (5, 9), groups=4), ValueError, "groups must divide the 2 output channels"),
        (lambda: T.conv_matrix(w4, (5, 3)), ValueError, "smaller than the kernel"),
        (lambda: T.conv_matrix(torch.zeros(2, 3, 0), 5), ValueError, "kernel must be at least 1"),
        (lambda: T.conv_matrix(w4, (10_000, 10_000)), ValueError, "take a smaller input"),
        (lambda: T.conv_transpose(torch.zeros(1, 3, 4), w4), ValueError, "one axis more"),
        (lambda: T.conv_transpose(torch.zeros(1, 3, 4), w3), ValueError, "begin with as many"),
        (lambda: T.conv_transpose(torch.zeros(1, 2, 4), w3, groups=3), ValueError, "groups must divide"),
        (lambda: T.stamps_1d(torch.zeros(1, 4), torch.zeros(3)), ValueError, "one-dimensional"),
        (lambda: T.bilinear_kernel(0), ValueError, "factor must be at least 1"),
        (lambda: T.bilinear_kernel(2, ndim=3), ValueError, "ndim must be 1 or 2"),
        (lambda: T.bilinear_upsampler(0, 2), ValueError, "channels must be at least 1"),
        (lambda: T.bed_of_nails(torch.zeros(1, 1, 2, 2), 0), ValueError, "factor"),
        (lambda: T.nearest_upsample(torch.zeros(1, 1, 2, 2), 0), ValueError, "factor"),
    ):
        with pytest.raises(error, match=says):
            call()


def test_ten_million_entries_are_the_limit():
    # 64 -> 64 channels of 64x64 with 3x3 kernels: 64·64·9·64·64 entries
    with pytest.raises(ValueError, match="150,994,944"):
        T.conv_matrix(torch.zeros(64, 64, 3, 3), (64, 64), padding=1)
    with pytest.raises(ValueError, match="10,000,001"):
        T.conv_matrix(torch.zeros(1, 1, 1), T.MAX_ENTRIES + 1)
