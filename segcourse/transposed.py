"""Convolution as a matrix W, and the transposed convolution as `W.T @ z`.

Three readings of one operation, each built by hand here:

- the matrix: `conv_matrix` writes a convolution as a sparse W, so that `W @ x` convolves and `W.T @ z` is
  the transposed convolution; `W.T` is also what back-propagation multiplies by;
- the stamps: every z_i stamps a copy of the kernel, copies add up where they overlap, padding crops;
- interpolation: with the kernel `bilinear_kernel` the stamps are tents: bilinear upsampling.

A transposed convolution can bring back the *shape* of a convolution's input, never its values: `W.T` is not
the inverse of W.

Sources of the facts: Zeiler, Krishnan, Taylor & Fergus, "Deconvolutional networks", CVPR 2010; Long,
Shelhamer & Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 3.3;
Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016, chapters 2, 4 and 5; Odena,
Dumoulin & Olah, "Deconvolution and checkerboard artifacts", Distill 2016.
"""

import math
from itertools import product

import torch
from torch import Tensor, nn

from segcourse.receptive_field import output_size

Pair = tuple[int, int]
IntOrPair = int | Pair

MAX_ENTRIES = 10_000_000
"""`conv_matrix` refuses larger matrices: ten million entries already take a quarter of a gigabyte."""


# --- sizes -------------------------------------------------------------------------------------------


def conv_transpose_output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> int:
    """Length of one axis after a transposed convolution: `(size-1)s + d(k-1) + 1 - 2p + output_padding`.

    Stamps of extent `d(k-1) + 1` start every `s` places; padding crops. Dumoulin & Visin 2016, section 4.6.
    Raises ValueError where nothing is left, or where output_padding is not below the stride or the dilation.
    """
    _require_layer(size, kernel, stride, padding, dilation)
    if not 0 <= output_padding < max(stride, dilation):
        raise ValueError(
            f"output_padding must be in 0..{max(stride, dilation) - 1} (below stride {stride} or "
            f"dilation {dilation}), got {output_padding}"
        )
    result = (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
    if result < 1:
        raise ValueError(f"padding {padding} crops everything: the output would have length {result}")
    return result


def input_sizes(output: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> range:
    """Every input length that a convolution maps to the length `output`: up to `stride` of them.

    That there are several is why `output_padding` exists: kernel 5, stride 3, padding 2 maps 16, 17 and 18
    to 6.
    """
    _require_layer(output, kernel, stride, padding, dilation)
    smallest = (output - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return range(max(1, smallest), smallest + stride)


def output_padding_for(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """The output_padding that makes the transposed convolution return to length `size`.

    It is what the floor in `output_size` dropped: `(size + 2p - d(k-1) - 1) mod s` (Dumoulin & Visin
    2016, section 4.6, where it is called a). Raises ValueError where the kernel does not fit into `size`.
    """
    _require_layer(size, kernel, stride, padding, dilation)
    output_size(size, kernel, stride, padding, dilation)  # refuses a kernel that does not fit
    return (size + 2 * padding - dilation * (kernel - 1) - 1) % stride


# --- the matrix --------------------------------------------------------------------------------------


def conv_matrix(
    weight: Tensor,
    input_size: IntOrPair,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """The matrix W of a convolution without bias: `W @ x.flatten()` is the convolution of `x`, flattened.

    Row o of W holds the kernel where it lies for output o; column i tells what input i contributes to. Hence
    `W.T @ z.flatten()` is the transposed convolution of `z` whose output has the size `input_size`
    (Dumoulin & Visin 2016, sections 4.1 and 4.2).

    Args:
        weight: (C_out, C_in/groups, k) for 1-D, (C_out, C_in/groups, kh, kw) for 2-D, as PyTorch has it.
        input_size: length n, or (H, W).
        stride, padding, dilation: one number, or one an axis.
        groups: number of channel groups that do not see each other.

    Returns:
        A sparse COO tensor (C_out·H_out·W_out, C_in·H·W) on the device of the weight. Entries that would read
        padding are left out: padding is a zero that needs no column.

    Raises:
        ValueError: a kernel that does not fit, groups that do not divide the channels, or more than
            `MAX_ENTRIES` entries (use torch's own convolution there: it never builds the matrix).
    """
    if weight.dim() not in (3, 4):
        raise ValueError(
            f"weight must be (C_out, C_in/groups, k) or (C_out, C_in/groups, kh, kw), got {_shape(weight)}"
        )
    ndim = weight.dim() - 2
    size = _rows_and_columns(input_size, ndim, "input_size", 1)
    weight = weight if ndim == 2 else weight.unsqueeze(2)
    c_out, c_group, *kernel = weight.shape
    if groups < 1 or c_out % groups:
        raise ValueError(f"groups must divide the {c_out} output channels, got groups={groups}")
    strides = _rows_and_columns(stride, ndim, "stride", 1)
    paddings = _rows_and_columns(padding, ndim, "padding", 0)
    dilations = _rows_and_columns(dilation, ndim, "dilation", 1)
    axes = list(zip(size, kernel, strides, paddings, dilations))
    for axis in axes:
        _require_layer(*axis)
    places = math.prod(output_size(*axis) for axis in axes)
    shape = (c_out, places, c_group, math.prod(kernel))  # one entry each, in the order of W's rows and columns
    if (entries := math.prod(shape)) > MAX_ENTRIES:
        raise ValueError(
            f"this matrix would have up to {entries:,} non-zero entries, more than {MAX_ENTRIES:,}; "
            "take a smaller input or fewer channels"
        )

    out_channel = torch.arange(c_out, device=weight.device)[:, None, None, None]
    place = torch.arange(places, device=weight.device)[:, None, None]
    channel = torch.arange(c_group, device=weight.device)[:, None]
    pixel = _pixel_under_tap(axes, weight.device)[:, None, :]
    first_channel = out_channel // (c_out // groups) * c_group  # of the group that this output belongs to
    row = out_channel * places + place
    column = (first_channel + channel) * math.prod(size) + pixel
    value = weight.reshape(c_out, 1, c_group, -1)
    kept = (pixel >= 0).expand(shape)
    return torch.sparse_coo_tensor(
        torch.stack([row.expand(shape)[kept], column[kept]]),
        value.expand(shape)[kept],
        (c_out * places, groups * c_group * math.prod(size)),
        is_coalesced=True,
        check_invariants=False,
    )


def _pixel_under_tap(axes: list[tuple[int, int, int, int, int]], device: torch.device) -> Tensor:
    """(places, taps): which input pixel lies under each tap of the kernel at each place; -1 is padding.

    Each axis is (size, kernel, stride, padding, dilation).
    """
    along = []
    for n, k, s, p, d in axes:
        output = torch.arange(output_size(n, k, s, p, d), device=device)[:, None]
        tap = torch.arange(k, device=device)
        position = output * s - p + tap * d  # the whole of convolution arithmetic is in this line
        along.append(position.where((position >= 0) & (position < n), -1))
    row, column = along[0][:, None, :, None], along[1][None, :, None, :]  # (H_out, 1, kh, 1), (1, W_out, 1, kw)
    width = axes[1][0]
    pixel = (row * width + column).where((row >= 0) & (column >= 0), -1)
    return pixel.flatten(2).flatten(0, 1)


# --- the stamps --------------------------------------------------------------------------------------


def stamps_1d(z: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0, output_padding: int = 0) -> Tensor:
    """The stamps of a 1-D transposed convolution, one a row: z (n,), kernel (k,) -> (n, L_out).

    Row i is `z[i] * kernel`, laid down at place `i·s - p`. `.sum(0)` is the transposed convolution and
    `.cumsum(0)` shows it growing stamp by stamp.
    """
    if z.dim() != 1 or kernel.dim() != 1:
        raise ValueError(f"z and kernel must be one-dimensional, got {_shape(z)} and {_shape(kernel)}")
    n, k = len(z), len(kernel)
    length = conv_transpose_output_size(n, k, stride, padding, output_padding)
    stamps = torch.zeros(n, length + 2 * padding, dtype=z.dtype, device=z.device)
    for i in range(n):
        stamps[i, i * stride : i * stride + k] = z[i] * kernel
    return stamps[:, padding : padding + length]  # padding crops; it does not add


def conv_transpose(
    z: Tensor,
    weight: Tensor,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """Transposed convolution by stamping, in 1-D and 2-D; equal to F.conv_transpose1d and F.conv_transpose2d.

    All stamps are laid down at once, one kernel tap after the other: tap t of the stamp of z_i lands at
    `i·s + t·d`.

    Args:
        z: (N, C_in, L) or (N, C_in, H, W).
        weight: (C_in, C_out/groups, k) or (C_in, C_out/groups, kh, kw). It is the very weight of the
            convolution whose transpose this is: there, C_in counts outputs.
        stride, padding, output_padding, dilation: one number, or one an axis.
        groups: number of channel groups that do not see each other.

    Returns:
        (N, C_out, L_out) or (N, C_out, H_out, W_out), see `conv_transpose_output_size`.
    """
    if z.dim() not in (3, 4) or weight.dim() != z.dim():
        raise ValueError(
            f"z and weight must be (N, C, L) and (C_in, C_out/groups, k), or both have one axis more; "
            f"got {_shape(z)} and {_shape(weight)}"
        )
    if weight.shape[0] != z.shape[1] or groups < 1 or z.shape[1] % groups:
        raise ValueError(
            f"z has {z.shape[1]} channels: weight must begin with as many (it has {weight.shape[0]}) "
            f"and groups must divide them (groups={groups})"
        )
    ndim = z.dim() - 2
    s = _rows_and_columns(stride, ndim, "stride", 1)
    p = _rows_and_columns(padding, ndim, "padding", 0)
    extra = _rows_and_columns(output_padding, ndim, "output_padding", 0)
    d = _rows_and_columns(dilation, ndim, "dilation", 1)
    h, w = (1, z.shape[2]) if ndim == 1 else z.shape[2:]
    kh, kw = (1, weight.shape[2]) if ndim == 1 else weight.shape[2:]
    h_out = conv_transpose_output_size(h, kh, s[0], p[0], extra[0], d[0])
    w_out = conv_transpose_output_size(w, kw, s[1], p[1], extra[1], d[1])

    batch, channels = z.shape[:2]
    z = z.reshape(batch, groups, channels // groups, h, w)
    weight = weight.reshape(groups, channels // groups, -1, kh, kw)
    out = z.new_zeros(batch, groups, weight.shape[2], h_out + 2 * p[0], w_out + 2 * p[1])
    for a, b in product(range(kh), range(kw)):
        rows = slice(a * d[0], a * d[0] + (h - 1) * s[0] + 1, s[0])
        columns = slice(b * d[1], b * d[1] + (w - 1) * s[1] + 1, s[1])
        out[..., rows, columns] += torch.einsum("ngihw,gio->ngohw", z, weight[..., a, b])
    out = out[..., p[0] : p[0] + h_out, p[1] : p[1] + w_out].flatten(1, 2)
    return out.squeeze(2) if ndim == 1 else out


def spell_transpose(n: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0) -> list[str]:
    """Every row of `W.T @ z` in letters: `spell_transpose(2, 3, stride=2)[2]` is "w3 z1 + w1 z2".

    Args:
        n: number of entries of z.
        kernel: number of weights of the kernel.
        stride, padding, output_padding: of the transposed convolution.
    """
    length = conv_transpose_output_size(n, kernel, stride, padding, output_padding)
    rows: list[list[str]] = [[] for _ in range(length)]
    for i, t in product(range(n), range(kernel)):
        place = i * stride + t - padding
        if 0 <= place < length:
            rows[place].append(f"w{t + 1} z{i + 1}")
    return [" + ".join(row) or "0" for row in rows]


def overlap_counts(size: IntOrPair, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0) -> Tensor:
    """How many stamps cover each output: (L_out,) for a length, (H_out, W_out) for (H, W); integers.

    Counts that alternate make the checkerboard of Odena et al. 2016. Away from the border they are all equal
    exactly when the stride divides the kernel. Equal counts do not make an even picture yet: the weights
    differ from phase to phase, so a random kernel prints its pattern all the same.
    """
    z = torch.ones((1, 1, size) if isinstance(size, int) else (1, 1, *size))
    weight = torch.ones((1, 1, *[kernel] * (z.dim() - 2)))
    return conv_transpose(z, weight, stride, padding, output_padding)[0, 0].long()


def phase_contrast(kernel: Tensor, stride: int) -> float:
    """How strong a pattern a transposed convolution draws on a constant image: from 0 (none) to 1 (nothing else).

    Inside, output (y, x) only meets the taps `kernel[y % s :: s, x % s :: s]` (for padding 0); of an image of ones it
    keeps their sum. Returned is the standard deviation of these s·s sums over their root mean square.

    Args:
        kernel: (kh, kw); not all sums may be zero.
        stride: s.
    """
    if kernel.dim() != 2:
        raise ValueError(f"kernel must be (kh, kw), got {_shape(kernel)}")
    sums = torch.stack([kernel[a::stride, b::stride].sum() for a, b in product(range(stride), repeat=2)])
    return (sums.std(correction=0) / sums.square().mean().sqrt()).item()


# --- upsampling --------------------------------------------------------------------------------------


def bilinear_kernel(factor: int, ndim: int = 1) -> Tensor:
    """The tent that upsamples bilinearly: (k,) or, with ndim=2, (k, k), where `k = 2·factor - factor%2`.

    Tap t has the weight `max(0, 1 - |t - c| / factor)` around the centre c = (k-1)/2. It is the interpolation
    weight `max(0, 1 - |x - i|)` with x measured in input pixels (Long et al. 2015, section 3.3).
    """
    _require(factor=(factor, 1))
    if ndim not in (1, 2):
        raise ValueError(f"ndim must be 1 or 2, got {ndim}")
    k = 2 * factor - factor % 2
    distance = (torch.arange(k) - (k - 1) / 2).abs() / factor
    tent = (1 - distance).clamp(min=0)
    return tent if ndim == 1 else torch.outer(tent, tent)


def interpolation_matrix(n: int, factor: int) -> Tensor:
    """The weights `max(0, 1 - |x - i|)` of linear upsampling, (n·factor, n): output o reads input i.

    Output o lies at `x = (o + 1/2) / factor - 1/2` between the inputs (half-pixel centres, as with
    align_corners=False). This matrix *is* the transpose of the `conv_matrix` of `bilinear_kernel(factor)`
    with stride `factor` and padding `factor // 2`. Rows near the border sum to less than one: what lies
    beyond the border counts as zero.
    """
    _require(n=(n, 1), factor=(factor, 1))
    x = (torch.arange(n * factor) + 0.5) / factor - 0.5
    return (1 - (x[:, None] - torch.arange(n)).abs()).clamp(min=0)


def bilinear_upsampler(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that starts as bilinear upsampling by `factor`.

    (N, C, H, W) -> (N, C, factor·H, factor·W). The weights can be trained further. Each channel has its own
    kernel (groups = channels): the diagonal of FCN's dense weight, whose other entries are zero. Filling
    those too would add all channels into each.

    Away from the border it equals F.interpolate(mode="bilinear", align_corners=False). Within factor // 2 of
    the border it is darker, since stamps from outside are missing: the outermost pixels of a constant image
    keep `(1 + 1/factor) / 2` of their value at an edge, the square of that in a corner (0.75 and 0.5625 for
    factor 2). Padding the input by one pixel with mode="replicate" and cropping `factor` pixels off each side
    of the result gives F.interpolate everywhere.
    """
    _require(channels=(channels, 1))
    kernel = bilinear_kernel(factor, ndim=2)
    layer = nn.ConvTranspose2d(
        channels, channels, len(kernel), stride=factor, padding=factor // 2, groups=channels, bias=False
    )
    with torch.no_grad():
        layer.weight.copy_(kernel)
    return layer


def nearest_upsample(x: Tensor, factor: int) -> Tensor:
    """Repeat every pixel: (N, C, H, W) -> (N, C, factor·H, factor·W). Stamps of ones, side by side."""
    _require(factor=(factor, 1))
    return x.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def bed_of_nails(x: Tensor, factor: int) -> Tensor:
    """Fixed unpooling: each pixel at the top left of its factor x factor cell, zeros around it.

    (N, C, H, W) -> (N, C, factor·H, factor·W). Stamps of a kernel with one 1, at its top left.
    """
    _require(factor=(factor, 1))
    *leading, height, width = x.shape
    out = x.new_zeros(*leading, height * factor, width * factor)
    out[..., ::factor, ::factor] = x
    return out


# --- checks of arguments -----------------------------------------------------------------------------


def _require_layer(size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    _require(size=(size, 1), kernel=(kernel, 1), stride=(stride, 1), padding=(padding, 0), dilation=(dilation, 1))


def _require(**arguments: tuple[int, int]) -> None:
    """Each argument is name=(value, smallest allowed value)."""
    for name, (value, smallest) in arguments.items():
        if not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value}")


def _rows_and_columns(value: IntOrPair, ndim: int, name: str, smallest: int) -> Pair:
    """One number an axis as (rows, columns). A 1-D convolution is a 2-D one with a single row."""
    if isinstance(value, tuple) and (ndim == 1 or len(value) != 2):
        raise ValueError(f"{name} must be one number{' or a pair' if ndim == 2 else ''}, got {value}")
    rows, columns = value if isinstance(value, tuple) else (value if ndim == 2 else smallest, value)
    _require(**{name: (rows, smallest)})
    _require(**{name: (columns, smallest)})
    return rows, columns


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
