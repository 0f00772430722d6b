"""The exercises of lesson 02."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segcourse import transposed
from segcourse.exercises import Lesson
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, draw_tensor
from segcourse.exercises.quiz import Option, Question
from segcourse.receptive_field import output_size

STEM = "02_transposed"

MATRIX = "A convolution is a matrix"
TURNED = "Turn the matrix over"
STAMPS = "Stamps: the rows of W, laid down"
INVERSE = "It is not the inverse"
ZEROS = "The same by inserting zeros"
SIZES = "Which length comes back"
OUTPUT_PADDING = "Why output_padding exists"
PLANE = "Two dimensions, channels, groups"
OVERLAP = "Where stamps overlap"
TENT = "Bilinear upsampling is a transposed convolution"


def _growing(draw: Draw, *shape: int) -> Tensor:
    """Draw whole numbers that grow: the simplest are 1, 2, 3, ..., and show where each one went."""
    return draw_tensor(draw, shape, 1, 4).flatten().cumsum(0).reshape(shape)


# --- the matrix in one dimension -----------------------------------------------------------------------------


def conv_matrix_1d(kernel: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """Return W, so that `W @ x` is the convolution of x."""
    taps = len(kernel)
    outputs = (size + 2 * padding - taps) // stride + 1
    matrix = kernel.new_zeros(outputs, size)
    for o in range(outputs):
        for t in range(taps):
            i = o * stride + t - padding
            if 0 <= i < size:
                matrix[o, i] = kernel[t]
    return matrix


def _convolve_identity_1d(kernel: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """Convolve every unit vector: the columns of W."""
    columns = F.conv1d(torch.eye(size)[:, None], kernel[None, None], stride=stride, padding=padding)
    return columns[:, 0].T


def _matrix_forgetting_padding(kernel: Tensor, size: int, stride: int, padding: int) -> Tensor:
    right = conv_matrix_1d(kernel, size, stride, padding)
    wrong = torch.zeros_like(right)
    for o, t in itertools.product(range(len(right)), range(len(kernel))):
        if o * stride + t < size:
            wrong[o, o * stride + t] = kernel[t]
    return wrong


def _matrix_wrapping_round(kernel: Tensor, size: int, stride: int, padding: int) -> Tensor:
    wrong = torch.zeros_like(conv_matrix_1d(kernel, size, stride, padding))
    for o, t in itertools.product(range(len(wrong)), range(len(kernel))):
        i = o * stride + t - padding
        if i < size:
            wrong[o, i] = kernel[t]
    return wrong


def _matrix_from_other_side(kernel: Tensor, size: int, stride: int, padding: int) -> Tensor:
    wrong = torch.zeros_like(conv_matrix_1d(kernel, size, stride, padding))
    for o, t in itertools.product(range(len(wrong)), range(len(kernel))):
        i = o * stride + t + padding
        if i < size:
            wrong[o, i] = kernel[t]
    return wrong


def _matrix_with_axes_swapped(kernel: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """Raises IndexError wherever an input has a number that no row has."""
    wrong = torch.zeros_like(conv_matrix_1d(kernel, size, stride, padding))
    for o, t in itertools.product(range(len(wrong)), range(len(kernel))):
        i = o * stride + t - padding
        if 0 <= i < size:
            wrong[i, o] = kernel[t]
    return wrong


def _line_and_kernel(draw: Draw) -> Case:
    """The line may be shorter than the kernel, as long as the padded one is not.

    One in two has a kernel of any numbers: too many to be listed.
    """
    taps, wide = draw.integer(1, 4), draw.choice((False, True))
    padding = draw.integer(0, taps - 1)
    return {
        "kernel": draw_tensor(draw, (taps,), -20, 99) if wide else _growing(draw, taps),
        "size": draw.integer(max(2, taps - 2 * padding), 12 if wide else 7),
        "stride": draw.integer(1, 3),
        "padding": padding,
    }


CONV_MATRIX_1D = Exercise(
    name="conv_matrix_1d",
    lesson=STEM,
    title="A convolution as a matrix",
    points=2,
    minutes=10,
    difficulty=1,
    reference=conv_matrix_1d,
    oracle=_convolve_identity_1d,
    cases=_line_and_kernel,
    examples=(
        {"kernel": torch.tensor([2.0, 3, 5]), "size": 4, "stride": 1, "padding": 1},
        {"kernel": torch.tensor([2.0, 3, 5]), "size": 4, "stride": 2, "padding": 1},
        {"kernel": torch.tensor([7.0]), "size": 5, "stride": 3, "padding": 0},
        {"kernel": torch.tensor([1.0, 2, 3, 4]), "size": 4, "stride": 2, "padding": 3},
        {"kernel": torch.tensor([2.0, 3]), "size": 7, "stride": 3, "padding": 0},
        {"kernel": torch.tensor([-1.5, 0.5, 4, 2.25, -3]), "size": 9, "stride": 1, "padding": 2},
        {"kernel": torch.tensor([2.0, 3, 5]), "size": 1, "stride": 2, "padding": 1},
    ),
    misconceptions=(
        Misconception(
            "transposes",
            lambda kernel, size, stride, padding: conv_matrix_1d(kernel, size, stride, padding).T,
            "This is the matrix turned over. To convolve, each row makes one output, so there is a row for each "
            "output and a column for each input.",
            MATRIX,
        ),
        Misconception(
            "swaps_axes",
            _matrix_with_axes_swapped,
            "You count the rows with the input and the columns with the output, which may also run out of the matrix. "
            "What does a row stand for, and what a column?",
            MATRIX,
        ),
        Misconception(
            "flips_kernel",
            lambda kernel, size, stride, padding: conv_matrix_1d(kernel.flip(0), size, stride, padding),
            "The kernel stands in your rows back to front. Signal processing flips it; the convolution of neural "
            "networks lays it down as it is.",
            MATRIX,
        ),
        Misconception(
            "forgets_stride",
            lambda kernel, size, stride, padding: conv_matrix_1d(kernel, size, 1, padding)[
                : (size + 2 * padding - len(kernel)) // stride + 1
            ],
            "Your kernel moves by one column from row to row, whatever the stride. How far apart are the places "
            "at which two neighbouring outputs look?",
            MATRIX,
        ),
        Misconception(
            "columns_for_padding",
            lambda kernel, size, stride, padding: conv_matrix_1d(kernel, size + 2 * padding, stride, 0),
            "Your matrix has columns for the padding. What is padded is zero and adds nothing, so W needs columns "
            "for the real inputs alone.",
            MATRIX,
        ),
        Misconception(
            "forgets_padding",
            _matrix_forgetting_padding,
            "Your first row begins with the first tap on the first input. With padding, the kernel begins further "
            "to the left, and some of its taps lie on zeros.",
            MATRIX,
        ),
        Misconception(
            "adds_padding",
            _matrix_from_other_side,
            "You added the padding. Zeros in front of the input let the kernel begin earlier: to which side does that "
            "move the input that lies under a tap?",
            MATRIX,
        ),
        Misconception(
            "wraps_round",
            _matrix_wrapping_round,
            "Some taps came out at the far end of the row: a negative index counts from the end in Python. "
            "A tap that lies on the padding has no column at all.",
            MATRIX,
        ),
    ),
    hints=(
        "Take the first row. Where in the padded input does the kernel begin, and where is that in the input itself?",
        "For each output and each tap, work out which input lies under it: outputs begin a stride apart, taps lie "
        "side by side, and the padding pushes everything to the left. Only inputs that exist get an entry.",
        "i = (where this output begins) + (which tap) - (how much padding); if i is a real index: matrix[o, i] = "
        "the weight of that tap",
    ),
    property="`W @ x` equals the convolution of x for every x; W has a row for each output, a column for each input.",
)


# --- stamps --------------------------------------------------------------------------------------------------


def conv_transpose_1d(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    """Return the transposed convolution of z by laying down stamps."""
    canvas = z.new_zeros((len(z) - 1) * stride + len(kernel) + output_padding)
    for i in range(len(z)):
        canvas[i * stride : i * stride + len(kernel)] += z[i] * kernel
    return canvas[padding : len(canvas) - padding]


def _stamp_overwriting(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    canvas = z.new_zeros((len(z) - 1) * stride + len(kernel) + output_padding)
    for i in range(len(z)):
        canvas[i * stride : i * stride + len(kernel)] = z[i] * kernel
    return canvas[padding : len(canvas) - padding]


def _stamp_side_by_side(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    canvas = z.new_zeros((len(z) - 1) * stride + len(kernel) + output_padding)
    for i in range(len(z)):
        canvas[i : i + len(kernel)] += z[i] * kernel
    return canvas[padding : len(canvas) - padding]


def _stamp_averaging(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    counts = conv_transpose_1d(torch.ones_like(z), torch.ones_like(kernel), stride, padding, output_padding)
    return conv_transpose_1d(z, kernel, stride, padding, output_padding) / counts.clamp(min=1)


def _crop_to_minus_zero(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    return conv_transpose_1d(z, kernel, stride, 0, output_padding)[padding:-padding]


def _append_zeros(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    return F.pad(conv_transpose_1d(z, kernel, stride, padding, 0), (0, output_padding))


def _invert(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    size = len(conv_transpose_1d(z, kernel, stride, padding, output_padding))
    return torch.linalg.pinv(conv_matrix_1d(kernel, size, stride, padding).double()).to(z.dtype) @ z


def _pytorch_transpose(z: Tensor, kernel: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    return F.conv_transpose1d(
        z[None, None], kernel[None, None], stride=stride, padding=padding, output_padding=output_padding
    )[0, 0]


def _stamps(draw: Draw) -> Case:
    taps, stride = draw.integer(1, 5), draw.integer(1, 3)
    return {
        "z": _growing(draw, draw.integer(1, 4)),
        "kernel": _growing(draw, taps),
        "stride": stride,
        "padding": draw.integer(0, (taps - 1) // 2),
        "output_padding": draw.integer(0, stride - 1),
    }


def _stamp_case(z: list[float], kernel: list[float], stride: int, padding: int, output_padding: int) -> Case:
    return {
        "z": torch.tensor(z), "kernel": torch.tensor(kernel), "stride": stride, "padding": padding,
        "output_padding": output_padding,
    }  # fmt: skip


CONV_TRANSPOSE_1D = Exercise(
    name="conv_transpose_1d",
    lesson=STEM,
    title="A transposed convolution by stamping",
    points=2,
    minutes=10,
    difficulty=2,
    reference=conv_transpose_1d,
    oracle=_pytorch_transpose,
    cases=_stamps,
    examples=(
        _stamp_case([1.0, 10, 100, 1000], [2.0, 3, 5], 1, 1, 0),
        _stamp_case([1.0, 10], [2.0, 3, 5], 2, 1, 1),
        _stamp_case([4.0, 7, 9], [2.0, 3, 5], 3, 0, 2),
        _stamp_case([4.0, 7], [1.0, 2, 3, 4, 5], 3, 2, 2),
        _stamp_case([-1.5, 0.25, 3, -4, -2, 5], [0.5, -1, 2, 0.75, -3, 1, 1.5], 4, 5, 3),
    ),
    misconceptions=(
        Misconception(
            "runs_forward",
            lambda z, kernel, stride, padding, output_padding: F.conv1d(
                z[None, None], kernel[None, None], stride=stride, padding=padding
            )[0, 0],
            "You applied W itself: an ordinary convolution of z. Here z stands where the convolution's outputs "
            "stood, and the matrix is turned over.",
            TURNED,
        ),
        Misconception(
            "inverts",
            _invert,
            "You looked for the x that the convolution maps to z. A transposed convolution is not the inverse: "
            "it multiplies by the matrix turned over and solves nothing.",
            INVERSE,
        ),
        Misconception(
            "flips_kernel",
            lambda z, kernel, stride, padding, output_padding: conv_transpose_1d(
                z, kernel.flip(0), stride, padding, output_padding
            ),
            "Your stamps are mirrored. A stamp is a row of W times a number, and the kernel stands in W as it is.",
            ZEROS,
        ),
        Misconception(
            "forgets_stride",
            _stamp_side_by_side,
            "Your stamps begin one place apart, whatever the stride. How far apart do the rows of W begin?",
            STAMPS,
        ),
        Misconception(
            "overwrites",
            _stamp_overwriting,
            "Where two stamps meet, your later one replaces the earlier one. `W.T @ z` is a sum.",
            STAMPS,
        ),
        Misconception(
            "averages",
            _stamp_averaging,
            "Where stamps overlap, you took their mean. `W.T @ z` is a sum, and nothing divides it.",
            STAMPS,
        ),
        Misconception(
            "padding_adds",
            lambda z, kernel, stride, padding, output_padding: F.pad(
                conv_transpose_1d(z, kernel, stride, 0, output_padding), (padding, padding)
            ),
            "Your result grew with the padding. The padding here is the convolution's: what came from padding has "
            "no place to go back to.",
            SIZES,
        ),
        Misconception(
            "keeps_padding",
            lambda z, kernel, stride, padding, output_padding: conv_transpose_1d(z, kernel, stride, 0, output_padding),
            "You kept the whole canvas. The places that stand for the convolution's padding are not part of its input.",
            SIZES,
        ),
        Misconception(
            "crops_to_minus_zero",
            _crop_to_minus_zero,
            "Right, until the padding is 0: `x[0:-0]` is `x[0:0]`, which is empty. Count the end of the slice from the "
            "front.",
            SIZES,
        ),
        Misconception(
            "appends_zeros",
            _append_zeros,
            "You cropped first and then put zeros at the end. output_padding makes the canvas longer before it is "
            "cropped, so a stamp may well reach there.",
            OUTPUT_PADDING,
        ),
    ),
    hints=(
        "Forget formulas: take an empty strip of paper and a rubber stamp. How long must the strip be, and where "
        "does each stamp go?",
        "Do it in three steps: a canvas of zeros, one stamp for each entry of z, the crop. Where does stamp i begin, "
        "and in which of the three steps does output_padding count?",
        "canvas = zeros(begin of the last stamp + taps + output_padding); for each i: canvas[begin : begin + taps] += "
        "z[i] * kernel; at the end keep the places from `padding` up to the canvas's length less `padding`",
    ),
    property="the result is `W.T @ z`: scaled copies of the kernel, a stride apart, added up, then cropped.",
)


# --- sizes ---------------------------------------------------------------------------------------------------


def transposed_size(size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int) -> int:
    """Return how many values a transposed convolution makes of `size` values."""
    return (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding


def _measure_size(size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int) -> int:
    z, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    return transposed.conv_transpose(z, weight, stride, padding, output_padding, dilation).shape[-1]


def _transposed_layer(draw: Draw) -> Case:
    """One case in two is a large one: too many to be listed."""
    wide = draw.choice((1, 3))
    kernel, stride, dilation = draw.integer(1, 7 * wide), draw.integer(1, 4 * wide), draw.integer(1, 3 * wide)
    return {
        "size": draw.integer(1, 20 * wide),
        "kernel": kernel,
        "stride": stride,
        "padding": draw.integer(0, dilation * (kernel - 1) // 2),
        "output_padding": draw.integer(0, stride - 1),
        "dilation": dilation,
    }


def _layer(**values: int) -> Case:
    return values


TRANSPOSED_SIZE = Exercise(
    name="transposed_size",
    lesson=STEM,
    title="The length that comes out",
    points=1,
    minutes=5,
    difficulty=1,
    reference=transposed_size,
    oracle=_measure_size,
    cases=_transposed_layer,
    examples=(
        _layer(size=2, kernel=3, stride=2, padding=1, output_padding=1, dilation=1),
        _layer(size=6, kernel=5, stride=3, padding=2, output_padding=0, dilation=1),
        _layer(size=5, kernel=3, stride=1, padding=2, output_padding=0, dilation=3),
        _layer(size=3, kernel=2, stride=4, padding=0, output_padding=3, dilation=1),
        _layer(size=16, kernel=64, stride=32, padding=16, output_padding=0, dilation=1),
        _layer(size=33, kernel=16, stride=8, padding=35, output_padding=5, dilation=4),
    ),
    misconceptions=(
        Misconception(
            "runs_forward",
            lambda size, kernel, stride, padding, output_padding, dilation: (
                (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            ),
            "This is the length after an ordinary convolution. A transposed one goes the other way: the stride pulls "
            "the stamps apart.",
            SIZES,
        ),
        Misconception(
            "padding_adds",
            lambda size, kernel, stride, padding, output_padding, dilation: transposed_size(
                size, kernel, stride, -padding, output_padding, dilation
            ),
            "You added the padding. It belongs to the convolution's input, which is the output here: is it part of "
            "what comes back?",
            SIZES,
        ),
        Misconception(
            "padding_once",
            lambda size, kernel, stride, padding, output_padding, dilation: transposed_size(
                size, kernel, stride, padding, output_padding + padding, dilation
            ),
            "You cropped the padding at one end only. There are two.",
            SIZES,
        ),
        Misconception(
            "just_multiplies",
            lambda size, kernel, stride, padding, output_padding, dilation: size * stride,
            "You multiplied by the stride. That holds for well-chosen settings only; kernel and padding count too.",
            SIZES,
        ),
        Misconception(
            "a_stride_too_many",
            lambda size, kernel, stride, padding, output_padding, dilation: transposed_size(
                size + 1, kernel, stride, padding, output_padding, dilation
            ),
            "You counted a step of one stride for every stamp. The first stamp needs no step: it begins at 0.",
            SIZES,
        ),
        Misconception(
            "forgets_dilation",
            lambda size, kernel, stride, padding, output_padding, dilation: transposed_size(
                size, kernel, stride, padding, output_padding, 1
            ),
            "Your formula holds for dilation 1 only. A dilated stamp has gaps between its taps, and covers more.",
            SIZES,
        ),
        Misconception(
            "a_gap_too_many",
            lambda size, kernel, stride, padding, output_padding, dilation: (
                (size - 1) * stride + dilation * kernel - 2 * padding + output_padding
            ),
            "You gave each tap a step of `dilation`. How many steps lie between the first tap and the last?",
            SIZES,
        ),
        Misconception(
            "forgets_output_padding",
            lambda size, kernel, stride, padding, output_padding, dilation: transposed_size(
                size, kernel, stride, padding, 0, dilation
            ),
            "You left out output_padding, the places that are added to the canvas.",
            SIZES,
        ),
    ),
    hints=(
        "Where does the last stamp begin, and where does it end?",
        "Count the canvas first: the steps between the stamps, then one whole stamp, which dilation makes longer. "
        "Then think of what is cropped and what is added.",
        "(how many steps) * stride + (length of one stamp) - (padding at both ends) + output_padding, where a stamp "
        "of k taps has k - 1 steps of `dilation` from its first tap to its last",
    ),
    property="as many values as the stamped canvas keeps once it is cropped.",
)


def output_padding_for(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return the output_padding with which the transposed convolution goes back to `size` values."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) % stride


def _try_every_output_padding(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    between = output_size(size, kernel, stride, padding, dilation)
    tries = {transposed_size(between, kernel, stride, padding, extra, dilation): extra for extra in range(stride)}
    return tries[size]


def _layer_and_size(draw: Draw) -> Case:
    """One case in two is a large one: too many to be listed."""
    wide = draw.choice((1, 3))
    kernel, dilation = draw.integer(1, 7 * wide), draw.integer(1, 3 * wide)
    reach = dilation * (kernel - 1)
    padding = draw.integer(0, reach // 2)
    return {
        "size": draw.integer(reach + 1 - 2 * padding, 32 if wide == 1 else 400),
        "kernel": kernel,
        "stride": draw.integer(1, 5 * wide),
        "padding": padding,
        "dilation": dilation,
    }


OUTPUT_PADDING_FOR = Exercise(
    name="output_padding_for",
    lesson=STEM,
    title="The output_padding that restores a length",
    points=1,
    minutes=8,
    difficulty=2,
    reference=output_padding_for,
    oracle=_try_every_output_padding,
    cases=_layer_and_size,
    examples=(
        _layer(size=16, kernel=5, stride=3, padding=2, dilation=1),
        _layer(size=17, kernel=5, stride=3, padding=2, dilation=1),
        _layer(size=18, kernel=5, stride=3, padding=2, dilation=1),
        _layer(size=16, kernel=3, stride=4, padding=1, dilation=2),
        _layer(size=8, kernel=4, stride=2, padding=1, dilation=1),
        _layer(size=4, kernel=5, stride=3, padding=2, dilation=1),
        _layer(size=500, kernel=64, stride=32, padding=16, dilation=1),
        _layer(size=7, kernel=3, stride=3, padding=6, dilation=4),
    ),
    misconceptions=(
        Misconception(
            "always_stride_less_one",
            lambda size, kernel, stride, padding, dilation: stride - 1,
            "You always took the largest output_padding there is. It depends on the length to go back to.",
            OUTPUT_PADDING,
        ),
        Misconception(
            "size_alone",
            lambda size, kernel, stride, padding, dilation: size % stride,
            "You divided the length itself by the stride. The last window of the convolution ends elsewhere: kernel "
            "and padding decide what is left over.",
            OUTPUT_PADDING,
        ),
        Misconception(
            "forgets_padding",
            lambda size, kernel, stride, padding, dilation: (size - dilation * (kernel - 1) - 1) % stride,
            "You left out the padding. The convolution's windows walk over the padded input.",
            OUTPUT_PADDING,
        ),
        Misconception(
            "padding_once",
            lambda size, kernel, stride, padding, dilation: (size + padding - dilation * (kernel - 1) - 1) % stride,
            "You counted the padding at one end only. There are two.",
            OUTPUT_PADDING,
        ),
        Misconception(
            "forgets_dilation",
            lambda size, kernel, stride, padding, dilation: (size + 2 * padding - kernel) % stride,
            "Your formula holds for dilation 1 only. How much does a dilated kernel cover?",
            OUTPUT_PADDING,
        ),
        Misconception(
            "missing_to_next_step",
            lambda size, kernel, stride, padding, dilation: (
                -(size + 2 * padding - dilation * (kernel - 1) - 1) % stride
            ),
            "You counted how many values are missing before the kernel fits once more. Count those that are left over "
            "after it fitted the last time.",
            OUTPUT_PADDING,
        ),
    ),
    hints=(
        "The convolution steps along the padded input until the kernel no longer fits. What happens to the values "
        "beyond the last window?",
        "Go forward, then back: the length after the convolution, then the length after the transposed convolution "
        "with output_padding 0. What is missing? Or ask directly what a division by the stride leaves over.",
        "An example: 18 values, kernel 5, stride 3, padding 2. The kernel covers 5 of 22 places and can move on by at "
        "most 17. Five steps of 3 make 15 of them; 2 are left over.",
    ),
    property="convolve `size` values, then transpose with this output_padding: `size` values come back.",
)


# --- the matrix in two dimensions ----------------------------------------------------------------------------


def conv_matrix_2d(kernel: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """Return W, so that `W @ image.flatten()` is the convolution of the image, flattened."""
    height, width = size
    taps_down, taps_across = kernel.shape
    rows = (height + 2 * padding - taps_down) // stride + 1
    columns = (width + 2 * padding - taps_across) // stride + 1
    matrix = kernel.new_zeros(rows * columns, height * width)
    for r in range(rows):
        for c in range(columns):
            for a in range(taps_down):
                for b in range(taps_across):
                    y, x = r * stride + a - padding, c * stride + b - padding
                    if 0 <= y < height and 0 <= x < width:
                        matrix[r * columns + c, y * width + x] = kernel[a, b]
    return matrix


def _convolve_identity_2d(kernel: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """Convolve every image with a single one: the columns of W."""
    images = torch.eye(math.prod(size)).reshape(-1, 1, *size)
    return F.conv2d(images, kernel[None, None], stride=stride, padding=padding).flatten(1).T


def _wrong_matrix_2d(
    kernel: Tensor,
    size: tuple[int, int],
    stride: int,
    padding: int,
    *,
    step: int | None = None,
    shift: int | None = None,
    out_width: int | None = None,
    in_width: int | None = None,
    keep_outside: bool = False,
) -> Tensor:
    """The matrix with one thing wrong: the step, the shift, the width that numbers outputs or inputs, or the border."""
    (height, width), (taps_down, taps_across) = size, kernel.shape
    rows, columns = ((n + 2 * padding - k) // stride + 1 for n, k in zip(size, kernel.shape))
    matrix = kernel.new_zeros(rows * columns, height * width)
    step, out_width, in_width = step or stride, out_width or columns, in_width or width
    shift = padding if shift is None else shift
    for r, c, a, b in itertools.product(range(rows), range(columns), range(taps_down), range(taps_across)):
        y, x = r * step + a - shift, c * step + b - shift
        inside = 0 <= y < height and 0 <= x < width
        if inside or (keep_outside and 0 <= y * in_width + x < height * width):
            matrix[r * out_width + c, y * in_width + x] = kernel[a, b]
    return matrix


def _numbered_by_rows(kernel: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The matrix with outputs numbered by how many rows there are; may raise IndexError."""
    rows = (size[0] + 2 * padding - len(kernel)) // stride + 1
    return _wrong_matrix_2d(kernel, size, stride, padding, out_width=rows)


def _by_columns(kernel: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """The matrix for images that are read column by column."""
    return conv_matrix_2d(kernel.T, size[::-1], stride, padding)


def _image_and_kernel(draw: Draw) -> Case:
    """The image may be lower or narrower than the kernel, as long as the padded one is not."""
    taps = draw.integer(1, 3), draw.integer(2, 3)
    padding = draw.integer(0, min(taps) - 1)
    low, narrow = (max(1, k - 2 * padding) for k in taps)
    return {
        "kernel": _growing(draw, *taps),
        "size": (draw.integer(low, 4), draw.integer(narrow, 5)),
        "stride": draw.integer(1, 3),
        "padding": padding,
    }


CONV_MATRIX_2D = Exercise(
    name="conv_matrix_2d",
    lesson=STEM,
    title="The matrix of a convolution of images",
    points=3,
    minutes=12,
    difficulty=3,
    reference=conv_matrix_2d,
    oracle=_convolve_identity_2d,
    cases=_image_and_kernel,
    examples=(
        {"kernel": torch.tensor([[1.0, 2], [3, 4]]), "size": (2, 3), "stride": 1, "padding": 0},
        {"kernel": torch.tensor([[1.0, 2, 3], [4, 5, 6]]), "size": (4, 5), "stride": 2, "padding": 1},
        {"kernel": torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]), "size": (4, 3), "stride": 1, "padding": 2},
        {"kernel": torch.tensor([[-1.5], [0.5], [2], [-3]]), "size": (6, 7), "stride": 2, "padding": 0},
        {
            "kernel": torch.tensor([[1.5, -2, 0.25, 3], [-1, 4, 0.5, -6], [2, -0.75, 5, -3]]),
            "size": (2, 1),
            "stride": 1,
            "padding": 2,
        },
        {"kernel": torch.tensor([[-0.5]]), "size": (2, 3), "stride": 2, "padding": 0},
    ),
    misconceptions=(
        Misconception(
            "transposes",
            lambda kernel, size, stride, padding: conv_matrix_2d(kernel, size, stride, padding).T,
            "This is the matrix turned over. To convolve, there is a row for each output and a column for each pixel.",
            MATRIX,
        ),
        Misconception(
            "flips_kernel",
            lambda kernel, size, stride, padding: conv_matrix_2d(kernel.flip(0, 1), size, stride, padding),
            "The kernel stands in your matrix turned by half a turn. The convolution of neural networks lays it down "
            "as it is.",
            MATRIX,
        ),
        Misconception(
            "reads_by_columns",
            _by_columns,
            "You number the pixels down the columns. `flatten` reads row by row: the neighbour to the right is the "
            "next entry.",
            PLANE,
        ),
        Misconception(
            "forgets_stride",
            lambda kernel, size, stride, padding: _wrong_matrix_2d(kernel, size, stride, padding, step=1),
            "Your kernel moves by one pixel from output to output, whatever the stride.",
            PLANE,
        ),
        Misconception(
            "wraps_rows",
            lambda kernel, size, stride, padding: _wrong_matrix_2d(kernel, size, stride, padding, keep_outside=True),
            "A tap that left the image at one side came back at the other, in the next row. Is the number of a pixel "
            "enough to tell whether the tap lies inside?",
            PLANE,
        ),
        Misconception(
            "height_for_width",
            lambda kernel, size, stride, padding: _wrong_matrix_2d(kernel, size, stride, padding, in_width=size[0]),
            "You find a pixel's number with the height. How many pixels does one row of the image have?",
            PLANE,
        ),
        Misconception(
            "input_width_for_output",
            lambda kernel, size, stride, padding: _wrong_matrix_2d(kernel, size, stride, padding, out_width=size[1]),
            "You number the outputs with the width of the input. The output has a width of its own.",
            PLANE,
        ),
        Misconception(
            "output_height_for_width",
            _numbered_by_rows,
            "You find an output's number with the count of rows of outputs. How many outputs does one row hold?",
            PLANE,
        ),
        Misconception(
            "forgets_padding",
            lambda kernel, size, stride, padding: _wrong_matrix_2d(kernel, size, stride, padding, shift=0),
            "Your first output lays the first tap on the first pixel. With padding, the kernel begins above and to the "
            "left of the image.",
            PLANE,
        ),
    ),
    hints=(
        "Solve it on paper for an image of 2 x 3 pixels and a kernel of 2 x 2. Which pixels does the first output "
        "see, and what are their numbers when the image is flattened?",
        "It is the 1-D matrix twice over: a row index and a column index for the output, for the tap and for the pixel "
        "under it. Check both pixel indices against the borders, then turn pairs into numbers: row times width plus "
        "column, with each picture's own width.",
        "y from r and a, x from c and b, each as in 1-D; if both are inside the image: "
        "matrix[number of (r, c), number of (y, x)] = kernel[a, b]",
    ),
    property="`W @ image.flatten()` equals the flattened convolution of the image, for every image.",
)


# --- overlaps ------------------------------------------------------------------------------------------------


def overlap_counts(size: int, kernel: int, stride: int) -> list[int]:
    """Return how many stamps cover each place of the canvas."""
    counts = [0] * ((size - 1) * stride + kernel)
    for i in range(size):
        for t in range(kernel):
            counts[i * stride + t] += 1
    return counts


def _counts_without_borders(size: int, kernel: int, stride: int) -> list[int]:
    return [len(range(o % stride, kernel, stride)) for o in range((size - 1) * stride + kernel)]


def _counts_at_stride_1(size: int, kernel: int, stride: int) -> list[int]:
    wrong, length = overlap_counts(size, kernel, 1), (size - 1) * stride + kernel
    return [*wrong, *[0] * length][:length]


def _stamps_to_count(draw: Draw) -> Case:
    """One case in two is drawn from so many that nobody can list them."""
    most = draw.choice(((6, 7, 4), (20, 60, 40)))
    return dict(zip(("size", "kernel", "stride"), (draw.integer(1, each) for each in most)))


OVERLAP_COUNTS = Exercise(
    name="overlap_counts",
    lesson=STEM,
    title="How many stamps cover a place",
    points=1,
    minutes=5,
    difficulty=2,
    reference=overlap_counts,
    oracle=lambda size, kernel, stride: transposed.overlap_counts(size, kernel, stride).tolist(),
    cases=_stamps_to_count,
    examples=(
        _layer(size=3, kernel=3, stride=2),
        _layer(size=3, kernel=4, stride=2),
        _layer(size=2, kernel=2, stride=3),
        _layer(size=5, kernel=5, stride=3),
        _layer(size=8, kernel=9, stride=1),
    ),
    misconceptions=(
        Misconception(
            "no_borders",
            _counts_without_borders,
            "Right in the middle, but not near the ends: there, stamps that would begin before the first or after the "
            "last entry do not exist.",
            OVERLAP,
        ),
        Misconception(
            "same_everywhere",
            lambda size, kernel, stride: [max(1, kernel // stride)] * ((size - 1) * stride + kernel),
            "You gave every place the same count. Draw two stamps and look where both lie.",
            OVERLAP,
        ),
        Misconception(
            "forgets_stride",
            _counts_at_stride_1,
            "Your stamps begin one place apart, whatever the stride.",
            OVERLAP,
        ),
        Misconception(
            "cut_at_multiple",
            lambda size, kernel, stride: [*overlap_counts(size, kernel, stride), *[0] * stride][: size * stride],
            "You counted `size * stride` places. The canvas reaches to the end of the last stamp.",
            SIZES,
        ),
        Misconception(
            "marks_only",
            lambda size, kernel, stride: [min(1, count) for count in overlap_counts(size, kernel, stride)],
            "You marked the places that are covered. Count how often each one is.",
            OVERLAP,
        ),
    ),
    hints=(
        "On paper: a row of places, and a tick at each place that the first stamp covers. Then the second stamp. How "
        "long is the row?",
        "Go through the stamps, and for each through the places that it covers, and add a tick there. Or let a "
        "function that you have written do it: which z and which taps make `conv_transpose_1d` count?",
        "counts = zeros as long as the canvas; for each stamp i and each tap t: counts[place of that tap] += 1",
    ),
    property="all counts together are size times kernel: each stamp covers as many places as it has taps.",
)


# --- the tent ------------------------------------------------------------------------------------------------


def bilinear_kernel(factor: int) -> Tensor:
    """Return the kernel whose stamps, `factor` places apart, interpolate linearly."""
    taps = 2 * factor - factor % 2
    centre = (taps - 1) / 2
    distance = (torch.arange(taps) - centre).abs() / factor
    return (1 - distance).clamp(min=0)


def _upsample_a_single_one(factor: int) -> Tensor:
    """What linear upsampling makes of ... 0 0 1 0 0 ...: its impulse response, without the zeros around it."""
    signal = torch.tensor([[[0.0, 0, 1, 0, 0]]], dtype=torch.float64)
    response = F.interpolate(signal, scale_factor=factor, mode="linear", align_corners=False)[0, 0]
    return response[response > 1e-9]


def _tent(taps: int, centre: float, reach: float) -> Tensor:
    return (1 - (torch.arange(taps) - centre).abs() / reach).clamp(min=0)


BILINEAR_KERNEL = Exercise(
    name="bilinear_kernel",
    lesson=STEM,
    title="The kernel of bilinear upsampling",
    points=2,
    minutes=10,
    difficulty=2,
    reference=bilinear_kernel,
    oracle=_upsample_a_single_one,
    cases=lambda draw: {"factor": draw.integer(2, draw.choice((64, 200)))},
    examples=tuple({"factor": factor} for factor in (2, 3, 4, 5, 8, 1)),  # 1 last: it is the poorest to learn from
    misconceptions=(
        Misconception(
            "always_even",
            lambda factor: _tent(2 * factor, factor - 0.5, factor),
            "Right for even factors. With an odd factor the tent's centre lies on a tap, and the number of taps is odd "
            "too.",
            TENT,
        ),
        Misconception(
            "always_odd",
            lambda factor: _tent(2 * factor - 1, factor - 1, factor),
            "Right for odd factors. With an even factor no output lies on the centre of the tent, and the number of "
            "taps is even too.",
            TENT,
        ),
        Misconception(
            "centre_on_a_tap",
            lambda factor: _tent(2 * factor - factor % 2, (2 * factor - factor % 2) // 2, factor),
            "Your tent is not symmetric when the number of taps is even: its centre then lies between two taps.",
            TENT,
        ),
        Misconception(
            "distance_in_output_pixels",
            lambda factor: _tent(2 * factor - factor % 2, (2 * factor - factor % 2 - 1) / 2, 1),
            "You measured the distance in output pixels. In max(0, 1 - |x - i|) it is measured in input pixels, and "
            "one of those is `factor` output pixels wide.",
            TENT,
        ),
        Misconception(
            "zero_at_both_ends",
            lambda factor: _tent(
                2 * factor - factor % 2, (2 * factor - factor % 2 - 1) / 2, (2 * factor - factor % 2 - 1) / 2
            ),
            "Your tent comes down to 0 on its first and its last tap. It comes down to 0 one whole input pixel from "
            "its centre: how many output pixels is that?",
            TENT,
        ),
        Misconception(
            "sums_to_one",
            lambda factor: bilinear_kernel(factor) / factor,
            "Your kernel's weights sum to 1, which would make the picture `factor` times darker. What must sum to 1 "
            "are the weights that meet in one output.",
            TENT,
        ),
        Misconception(
            "box",
            lambda factor: torch.ones(factor),
            "This kernel repeats each value: nearest-neighbour upsampling. A tent falls off towards its sides.",
            TENT,
        ),
        Misconception(
            "two_dimensional",
            lambda factor: torch.outer(bilinear_kernel(factor), bilinear_kernel(factor)),
            "You returned the kernel for images. Asked for is the 1-D tent from which that one is made.",
            TENT,
        ),
    ),
    hints=(
        "Draw the tent over a ruler that is marked in output pixels. How wide is it, and where is its top?",
        "Put the centre in the middle of the taps: at (taps - 1) / 2 when counted from 0. Take each tap's distance "
        "from it, turn that into input pixels, and use the formula of the tent.",
        "taps = (twice the factor, less one if the factor is odd); distance = |tap - centre| / factor; "
        "the weight is 1 - distance",
    ),
    property="symmetric, above 0 at every tap, and every `factor`-th tap together (one output's weights) sums to 1.",
)


# --- quiz and lesson -----------------------------------------------------------------------------------------

QUIZ = (
    Question(
        "undoes",
        STEM,
        "y = W x, and then x' = W.T y. When is x' equal to x, whatever x is?",
        (
            Option(
                "Always: the transposed convolution undoes the convolution.",
                "The lesson's example gave other numbers. W.T is the inverse of very few matrices.",
            ),
            Option("When the stride is 1.", "The lesson's first example has stride 1, and x' differed from x."),
            Option(
                "Only if W.T W is the identity.",
                "x' is W.T W x. That is x for every x only in this case; "
                "a kernel with the one tap 1 and stride 1 is an example.",
                right=True,
            ),
            Option("When output_padding is right.", "output_padding brings the length back, not the values."),
        ),
    ),
    Question(
        "length_back",
        STEM,
        "A layer Conv1d(kernel 4, stride 4, padding 1) turns 19 values into 5. What does ConvTranspose1d with the same "
        "three numbers, and nothing else, make of the 5?",
        (
            Option("18 values.", "4 steps of 4, one stamp of 4, less 1 at both ends: 16 + 4 - 2.", right=True),
            Option(
                "19 values.",
                "It cannot know: 18, 19, 20 and 21 values all become 5. Without output_padding the smallest comes "
                "back.",
            ),
            Option("20 values.", "5 times 4 would be 20, but kernel and padding count too."),
            Option("5 values.", "The stride pulls the stamps apart, so there are more."),
        ),
    ),
    Question(
        "last_place",
        STEM,
        "A layer ConvTranspose1d(kernel 7, stride 3, padding 2) gets output_padding=1. What is in the new place?",
        (
            Option(
                "A zero.", "Here the last stamp reaches two places further than was kept: the crop had hidden them."
            ),
            Option(
                "The last stamp's last tap.",
                "The crop takes two places off the end. One of them comes back, and it is the one further in.",
            ),
            Option(
                "The last stamp's last tap but one.",
                "The canvas grows by one before two places are cropped, so the crop now spares this tap and takes only "
                "the last. It is one more row of W.T.",
                right=True,
            ),
            Option("A copy of the last value.", "Nothing is copied; it is one more row of W.T, times z."),
        ),
    ),
    Question(
        "padding_one_more",
        STEM,
        "The padding of a transposed convolution is raised from 1 to 2. Its output ...",
        (
            Option("grows by 2.", "That is what padding does in a convolution. Here it crops."),
            Option("shrinks by 2.", "One more place is cropped at each end.", right=True),
            Option("keeps its length.", "The canvas keeps its length, but more of it is cropped."),
        ),
    ),
    Question(
        "equal_counts",
        STEM,
        "A decoder uses transposed convolutions with kernel 4 and stride 2. Can it still draw a checkerboard?",
        (
            Option(
                "No: 4 is divisible by 2.",
                "That makes the counts equal. The weights that meet in an output still differ from phase to phase.",
            ),
            Option(
                "Yes: each phase of the output has taps of its own, and their sums may differ.",
                "The four phases share no tap. Equal counts help only as far as the taps are alike.",
                right=True,
            ),
            Option("Only with padding.", "Padding crops the border; the pattern is in the middle too."),
        ),
    ),
    Question(
        "same_weight",
        STEM,
        "A Conv2d(8, 16, 3) has a weight of shape (16, 8, 3, 3). Which weight makes ConvTranspose2d(16, 8, 3) its "
        "transpose?",
        (
            Option(
                "The same tensor, as it is.",
                "PyTorch lays a transposed convolution's weight out as "
                "(in, out, height, width), which for the other direction is the very same order.",
                right=True,
            ),
            Option(
                "The tensor with its first two axes swapped.",
                "Its shape would be (8, 16, 3, 3), and ConvTranspose2d(16, 8, 3) expects (16, 8, 3, 3).",
            ),
            Option(
                "The tensor turned by half a turn.",
                "The flip is needed if you insert zeros and convolve; conv_transpose2d does that on its own.",
            ),
        ),
    ),
)

LESSON = Lesson(
    stem=STEM,
    title="Transposed convolution is a matrix transpose",
    promise="Write any convolution as a matrix, turn it over, and see every upsampling layer in it.",
    reading_minutes=30,
    before=("01_receptive_field",),
    exercises=(
        CONV_MATRIX_1D,
        TRANSPOSED_SIZE,
        OUTPUT_PADDING_FOR,
        CONV_TRANSPOSE_1D,
        CONV_MATRIX_2D,
        OVERLAP_COUNTS,
        BILINEAR_KERNEL,
    ),
    quiz=QUIZ,
)
