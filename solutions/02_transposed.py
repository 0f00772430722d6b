# %% [markdown]
# # 02 Transposed convolution is a matrix transpose
#
# *Write any convolution as a matrix, turn it over, and see every upsampling layer in it.*
#
# A segmentation network makes its maps small on the way in and large again on the way out. The layer that
# makes them large is often called deconvolution, which it is not, or explained by a picture in which numbers
# appear from nowhere. There is a shorter way: a convolution multiplies by a matrix, and this layer multiplies
# by the same matrix, turned over. Sizes, padding, checkerboards and bilinear upsampling all follow from that.
#
# After this lesson you can
#
# - write the matrix of a 1-D and of a 2-D convolution, with any stride and padding;
# - compute a transposed convolution by hand, by matrix and by stamping;
# - compute the length that comes out, and the `output_padding` that restores a given length;
# - predict where stamps overlap, and say what equal counts cure and what they do not;
# - build bilinear upsampling from a transposed convolution, and name where it goes wrong.
#
# | reading | exercises | points | before |
# | --- | --- | --- | --- |
# | 30 minutes | 7, about 60 minutes | 12 | [01 Receptive-field arithmetic](01_receptive_field.ipynb) |

# %% tags=["setup"]
import ipywidgets
import torch
import torch.nn.functional as F

from segcourse import transposed
from segcourse.datasets import VOID, photo, streets
from segcourse.figures import transposed as draw
from segcourse.lesson import check, hint, quiz, reveal, solution, start, yours_or_ours
from segcourse.lesson import show, show_widget
from segcourse.widgets import frame_stack

start("02_transposed")

# %% [markdown]
# ## Predict
#
# A convolution with a kernel of $k = 5$ weights (its *taps*), stride $s = 3$ and padding $p = 2$ turns 18 values
# into 6. A transposed convolution has the same three numbers. With the same $k = 5$, $s = 3$ and $p = 2$, how many
# values does it make of the 6? Put your guess in place of the dots. Nothing is graded.

# %%
prediction = ...

# %% [markdown]
# ## A convolution is a matrix
#
# Take four inputs $x = (1, 10, 100, 1000)$ and the kernel $w = (2, 3, 5)$. Stride 1, padding 1: a zero is put
# at either end. Each output is a sum of three products:
#
# - $y_1 = 2 \cdot 0 + 3 \cdot 1 + 5 \cdot 10 = 53$
# - $y_2 = 2 \cdot 1 + 3 \cdot 10 + 5 \cdot 100 = 532$
# - $y_3 = 2 \cdot 10 + 3 \cdot 100 + 5 \cdot 1000 = 5320$
# - $y_4 = 2 \cdot 100 + 3 \cdot 1000 + 5 \cdot 0 = 3200$
#
# The kernel is laid down as it is, without a flip. Signal processing flips it first; the convolution of neural
# networks does not.
#
# Every output is a weighted sum of the inputs, and the weights do not depend on the inputs. Such a map is a
# matrix. $W$ has **a row for each output and a column for each input**, and row $o$ holds the kernel where it
# lies when output $o$ is computed. The zeros of the padding add nothing, so they get no column.

# %%
x = torch.tensor([1.0, 10, 100, 1000])  # (4,)
w = torch.tensor([2.0, 3, 5])  # (3,)

W = torch.tensor(
    [
        [3.0, 5, 0, 0],
        [2, 3, 5, 0],
        [0, 2, 3, 5],
        [0, 0, 2, 3],
    ]
)  # (4, 4): outputs, inputs

y = F.conv1d(x[None], w[None, None], padding=1)[0]  # (1, 4) and (1, 1, 3) -> (1, 4); its row
print("W @ x: ", (W @ x).tolist())
print("conv1d:", y.tolist())

# %% [markdown]
# With stride 2 the kernel moves two places from row to row. That leaves the first and the third of the four
# rows: two outputs.

# %%
W_stride_2 = W[::2]  # (2, 4)

print("W @ x: ", (W_stride_2 @ x).tolist())
print("conv1d:", F.conv1d(x[None], w[None, None], stride=2, padding=1)[0].tolist())

show(
    draw.matrices({"W, stride 1": W, "W, stride 2": W_stride_2}),
    "Two matrices. With stride 1: rows 3 5 0 0, 2 3 5 0, 0 2 3 5 and 0 0 2 3; the kernel "
    "2 3 5 moves one column from row to row. With stride 2 only two rows: 3 5 0 0 and 0 "
    "2 3 5.",
)

# %% [markdown]
# ### Your turn: write the matrix
#
# The two loops are given: `o` counts the outputs, `t` the taps of the kernel. Put lines that set an entry of `matrix`
# in place of `return ...`. Which input lies under tap `t` when output `o` is computed, and what if there is none?


# %%
def conv_matrix_1d(kernel, size, stride, padding):
    """Return W, so that `W @ x` is the convolution of x.

    kernel: tensor (k,). size: how many inputs. stride, padding: of the convolution.
    Returns a tensor (outputs, size).

    conv_matrix_1d(torch.tensor([2.0, 3, 5]), size=4, stride=2, padding=1) is
    [[3, 5, 0, 0], [0, 2, 3, 5]].
    """
    taps = len(kernel)
    outputs = (size + 2 * padding - taps) // stride + 1
    matrix = kernel.new_zeros(outputs, size)
    for o in range(outputs):
        for t in range(taps):
            # BEGIN SOLUTION
            i = o * stride + t - padding
            if 0 <= i < size:
                matrix[o, i] = kernel[t]
            # END SOLUTION
    return matrix


# %%
check.conv_matrix_1d(conv_matrix_1d)

# %% [markdown]
# If you are stuck, `hint.conv_matrix_1d()` in a new cell gives a nudge; run it again for more.
# `solution.conv_matrix_1d()` shows one way to do it.

# %%
my_matrix = yours_or_ours.conv_matrix_1d(conv_matrix_1d)

print(my_matrix(w, size=7, stride=3, padding=1).int().tolist())

# %% [markdown]
# ## Turn the matrix over
#
# $W$ takes four inputs to some outputs. Its transpose $W^\top$ goes the other way: its rows are the columns of
# $W$. For stride 2 it takes **two** values to **four**. That is a layer that makes maps larger, and it is all
# that a *transposed convolution* is: it multiplies by $W^\top$.
#
# Call its input $z$. With stride 1 and $z = (1, 10, 100, 1000)$:
#
# $$W^\top z =
# \begin{pmatrix} 3 & 2 & 0 & 0 \\ 5 & 3 & 2 & 0 \\ 0 & 5 & 3 & 2 \\ 0 & 0 & 5 & 3 \end{pmatrix}
# \begin{pmatrix} 1 \\ 10 \\ 100 \\ 1000 \end{pmatrix} =
# \begin{pmatrix} 3 + 20 \\ 5 + 30 + 200 \\ 50 + 300 + 2000 \\ 500 + 3000 \end{pmatrix} =
# \begin{pmatrix} 23 \\ 235 \\ 2350 \\ 3500 \end{pmatrix}$$
#
# PyTorch's `conv_transpose1d` takes the same kernel, stride and padding as the convolution that it transposes.

# %%
z = torch.tensor([1.0, 10, 100, 1000])  # (4,)

print("W.T @ z:         ", (W.T @ z).tolist())
print("conv_transpose1d:", F.conv_transpose1d(z[None], w[None, None], padding=1)[0].tolist())

# %% [markdown]
# ### It is the backward pass
#
# You have used $W^\top$ before, each time you trained a convnet. If $y = Wx$ and the loss $L$ depends on $y$, the
# chain rule says $\partial L / \partial x = W^\top \, \partial L / \partial y$. So back-propagation through
# a convolution *is* a transposed convolution of the gradient that arrives. Let $z$ be that gradient and ask autograd.

# %%
x_leaf = x.clone().requires_grad_()
y = F.conv1d(x_leaf[None], w[None, None], padding=1)[0]
(gradient,) = torch.autograd.grad(y, x_leaf, grad_outputs=z)

print("autograd:", gradient.tolist())
print("equal to W.T @ z:", torch.equal(gradient, W.T @ z))

# %% [markdown]
# It holds the other way round as well. The backward pass of a transposed convolution multiplies by
# $(W^\top)^\top = W$: it is a convolution.
#
# ### It is not the inverse
#
# The name *deconvolution* promises that the layer undoes a convolution. Try it: convolve, then transpose.

# %%
print("x:           ", x.tolist())
print("W.T @ (W @ x):", (W.T @ (W @ x)).tolist())

# %% [markdown]
# The shape is back, the values are not. To undo $W$ one would need $W^{-1}$, and $W^\top$ equals $W^{-1}$ only if
# $W^\top W$ is the identity, which it hardly ever is. With stride 2 no inverse exists at all: $W$ maps four
# numbers to two, and two numbers cannot tell which four they came from.

# %%
other = torch.tensor([1.0, 10, 100, 1000]) + torch.tensor([5.0, -3, 2, 0])
print("two different inputs:", x.tolist(), "and", other.tolist())
print("the same outputs:    ", (W_stride_2 @ x).tolist(), "and", (W_stride_2 @ other).tolist())

# %% [markdown]
# ## Stamps: the rows of W, laid down
#
# A product with $W^\top$ can be read in a second way. Column $i$ of $W^\top$ is row $i$ of $W$: the kernel, at the
# place where output $i$ looked. So
#
# $$W^\top z = z_1 \cdot (\text{row } 1) + z_2 \cdot (\text{row } 2) + \dots$$
#
# Each $z_i$ takes a rubber stamp that bears the kernel, scales it, and presses it on an empty canvas. Stamps begin
# one stride apart. **Where they overlap, they add up.**
#
# By hand, with stride 2, no padding and $z = (1, 10)$:

# %%
z = torch.tensor([1.0, 10])  # (2,)
canvas = torch.zeros(5)  # two stamps of 3, the second begins at 2
canvas[0:3] += z[0] * w
print("after the first stamp: ", canvas.tolist())
canvas[2:5] += z[1] * w
print("after the second stamp:", canvas.tolist())
print("conv_transpose1d:      ", F.conv_transpose1d(z[None], w[None, None], stride=2)[0].tolist())

# %% [markdown]
# Move the slider to lay the stamps down one by one. The row of $W$ in use is lit. Hatched columns are padding: the
# last step crops them, and what is left is $W^\top z$. Compare the strides: with 1 the stamps overlap by two places, with 2 by one, and with 3
# they lie side by side.

# %%
z = torch.tensor([1.0, 10, 100])
sliders, left = [], []
for stride in (1, 2, 3):
    frames = draw.stamp_frames(z, w, stride, padding=1)
    sliders.append(frame_stack(frames, "stamps laid down", width="auto"))
    result = F.conv_transpose1d(z[None], w[None, None], stride=stride, padding=1)[0]
    left.append(f"stride {stride}: {result.int().tolist()}")
show_widget(
    ipywidgets.Tab(sliders, titles=("stride 1", "stride 2", "stride 3")),
    "A slider for each stride: it lays the stamps of z = (1, 10, 100) with the kernel "
    "(2, 3, 5) below the rows of W and, at its last step, crops the padding of 1. "
    f"What is left: {'; '.join(left)}",
)

# %% [markdown]
# ### The same by inserting zeros
#
# There is a third reading, often drawn with moving pictures (Dumoulin and Visin 2016): put $s - 1$ zeros between
# the values of $z$, pad with $k - 1$ zeros on either side, run an ordinary convolution of stride 1, and crop $p$ places
# at either end. (They pad with $k - 1 - p$ zeros instead and crop nothing, which comes to the same.) It gives the
# same numbers as the stamps, if the kernel is **flipped**. The stamps show why: a stamp puts its *first* tap at the *first* place,
# but a window that comes from the left meets $z_i$ first with its *last* tap. Without the flip you get something else.

# %%
stuffed = torch.tensor([0.0, 0, 1, 0, 10, 0, 0])  # z = (1, 10), a zero between, 2 at either end
print("flipped kernel: ", F.conv1d(stuffed[None], w.flip(0)[None, None])[0].tolist())
print("kernel as it is:", F.conv1d(stuffed[None], w[None, None])[0].tolist())

# %% [markdown]
# ## Which length comes back
#
# Count along the canvas. Let $n$ be the length of $z$. The last stamp begins after $n - 1$ steps of one stride and is
# $k$ long, so the canvas has $(n - 1) s + k$ places. This is the formula of lesson 01 for the input that $n$ outputs
# need, read from the other side.
#
# Then comes the padding. In the convolution, $p$ zeros were put at either end of the input. Those places are not part
# of the input, so going back they are **cropped**: $p$ from either end. Padding makes a convolution's output larger
# and a transposed convolution's output smaller.
#
# Now for your prediction.

# %%
y = F.conv1d(torch.zeros(1, 1, 18), torch.ones(1, 1, 5), stride=3, padding=2)  # (1, 1, 6)
back = F.conv_transpose1d(y, torch.ones(1, 1, 5), stride=3, padding=2)
reveal(prediction, back.shape[-1], "length that comes back")

# %% [markdown]
# ### Why output_padding exists
#
# The 18 did not come back. Look at who else becomes 6:

# %%
for size in range(15, 20):
    y = F.conv1d(torch.zeros(1, 1, size), torch.ones(1, 1, 5), stride=3, padding=2)
    print(f"{size} values become {y.shape[-1]}")

# %% [markdown]
# 16, 17 and 18 all become 6. A stride of $s$ drops what is left over at the end, so up to $s$ lengths share one output
# length. Each has a $W$ of its own, with the same six rows but 16, 17 or 18 columns. Turned over they give 16, 17
# or 18 values, and the six values do not know which is meant. By default PyTorch takes the shortest.
# `output_padding` asks for more.
#
# It does **not** put zeros at the end. It is the wider $W$, so it adds a *row of* $W^\top$. See it with kernel 3,
# stride 2, padding 1, which takes both 5 and 6 values to 3:

# %%
z = torch.tensor([1.0, 10, 100])
for size, extra in ((5, 0), (6, 1)):
    turned = my_matrix(w, size, stride=2, padding=1).T.float()  # (size, 3)
    print(f"{size} x 3 matrix:  ", (turned @ z).tolist())
    layer = dict(stride=2, padding=1, output_padding=extra)
    torchs = F.conv_transpose1d(z[None], w[None, None], **layer)[0]
    print(f"output_padding={extra}:", torchs.tolist())

show(
    draw.stamps(z, w, stride=2, padding=1, output_padding=1),
    "The stamps 2 3 5, 20 30 50 and 200 300 500 on a canvas of 8 places, two places "
    "apart. After one place is cropped at either end, 3 25 30 250 300 500 are left; the "
    "last, 500, is there because of output_padding.",
)

# %% [markdown]
# The new last value is 500: the last tap of the last stamp. Without `output_padding` the crop had taken it away. On the
# canvas it works like this: `output_padding` makes the canvas longer at its end, *and then* the padding is cropped from
# both ends. Only where no stamp reaches, the new place holds a zero.
#
# ### Your turn: the length that comes out
#
# One more ingredient: with *dilation* $d$ the taps of the kernel lie $d$ places apart. $d = 1$ is the ordinary kernel;
# $d = 2$ leaves one place free between two taps.


# %%
def transposed_size(size, kernel, stride, padding, output_padding, dilation):
    """Return how many values a transposed convolution makes of `size` values.

    All arguments are whole numbers; `kernel` is the number of taps.

    transposed_size(2, kernel=3, stride=2, padding=1, output_padding=1, dilation=1) is 4.
    """
    # BEGIN SOLUTION
    return (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding
    # END SOLUTION


# %%
check.transposed_size(transposed_size)

# %% [markdown]
# ### Your turn: the output_padding that restores a length
#
# A decoder must return to the encoder's exact size, or nothing can be added pixel by pixel. Given the length before
# the convolution, which `output_padding` brings it back?


# %%
def output_padding_for(size, kernel, stride, padding, dilation):
    """Return the output_padding with which the transposed convolution goes back to `size` values.

    size: how many values the *convolution* had as its input.

    output_padding_for(18, kernel=5, stride=3, padding=2, dilation=1) is 2,
    for without it 16 values would come back.
    """
    # BEGIN SOLUTION
    return (size + 2 * padding - dilation * (kernel - 1) - 1) % stride
    # END SOLUTION


# %%
check.output_padding_for(output_padding_for)

# %% [markdown]
# ### Your turn: stamp
#
# Now the whole layer, in one dimension. Lay the stamps down on a canvas and crop.


# %%
def conv_transpose_1d(z, kernel, stride, padding, output_padding):
    """Return the transposed convolution of z by laying down stamps.

    z: tensor (n,). kernel: tensor (k,).
    Returns a tensor of the length that `transposed_size` tells (with dilation 1).

    With z = (1, 10), kernel = (2, 3, 5), stride 2, padding 1 and output_padding 1
    it is (3, 25, 30, 50).
    """
    # BEGIN SOLUTION
    canvas = z.new_zeros((len(z) - 1) * stride + len(kernel) + output_padding)
    for i in range(len(z)):
        canvas[i * stride : i * stride + len(kernel)] += z[i] * kernel
    return canvas[padding : len(canvas) - padding]
    # END SOLUTION


# %%
check.conv_transpose_1d(conv_transpose_1d)

# %% [markdown]
# ## Two dimensions, channels, groups
#
# An image is flattened row by row before it meets a matrix: the pixel in row $r$ and column $c$ (both counted from 0)
# of an image of width $M$ gets the number $r M + c$. Take an image of 2 x 3 pixels and the kernel with rows 1 2 and
# 3 4. It fits in two places, so $W$ has 2 rows and 6 columns:
#
# - first output: pixels 0, 1 of the upper row and 0, 1 of the lower row, which have the numbers 0, 1, 3, 4;
# - second output: one pixel further right, numbers 1, 2, 4, 5.
#
# So the rows of $W$ are `1 2 0 3 4 0` and `0 1 2 0 3 4`. Each row of the kernel makes a band as in 1-D, and the bands
# lie one image row apart. Here are a 3 x 3 kernel and an image of 4 x 5:

# %%
kernel = torch.arange(1.0, 10).reshape(3, 3)
W_image = transposed.conv_matrix(kernel[None, None], (4, 5)).to_dense()  # (2 * 3, 4 * 5)
show(
    draw.matrices({"W; a thick line where a row of the image ends": W_image}, line_every=5),
    "A matrix of 6 rows and 20 columns. The first row holds 1 2 3, two zeros, 4 5 6, two "
    "zeros, 7 8 9 and seven zeros. The next two rows hold the same one column further "
    "right each; the last three repeat them five columns further.",
)

# %% [markdown]
# ### Your turn: the matrix for images
#
# This is the stretch of the lesson. The loops are given: `(r, c)` counts the outputs down and across, `(a, b)` the taps.
# Which pixel lies under the tap, and which row and which column of `matrix` does it belong to? The kernel need not be
# square, nor the image; stride and padding are the same in both directions.


# %%
def conv_matrix_2d(kernel, size, stride, padding):
    """Return W, so that `W @ image.flatten()` is the convolution of the image, flattened.

    kernel: tensor (kh, kw). size: (H, W) of the image.
    Returns a tensor (outputs down * outputs across, H * W).

    For the kernel [[1, 2], [3, 4]] and size (2, 3), stride 1, padding 0 it is
    [[1, 2, 0, 3, 4, 0], [0, 1, 2, 0, 3, 4]].
    """
    height, width = size
    taps_down, taps_across = kernel.shape
    rows = (height + 2 * padding - taps_down) // stride + 1
    columns = (width + 2 * padding - taps_across) // stride + 1
    matrix = kernel.new_zeros(rows * columns, height * width)
    for r in range(rows):
        for c in range(columns):
            for a in range(taps_down):
                for b in range(taps_across):
                    # BEGIN SOLUTION
                    y, x = r * stride + a - padding, c * stride + b - padding
                    if 0 <= y < height and 0 <= x < width:
                        matrix[r * columns + c, y * width + x] = kernel[a, b]
                    # END SOLUTION
    return matrix


# %%
check.conv_matrix_2d(conv_matrix_2d)

# %% [markdown]
# With channels, $W$ becomes a grid of such matrices: one block for each pair of an output channel and an input channel.
# *Groups* split the channels into parts that do not see each other, so the blocks between different parts are zero.

# %%
W_groups = transposed.conv_matrix(torch.ones(4, 2, 3, 3), (4, 5), padding=1, groups=2)
show(
    draw.blocks(W_groups, [f"output {i}" for i in range(4)], [f"input {i}" for i in range(4)]),
    "The entries of W that are not zero, for 4 input and 4 output channels in 2 groups. "
    "Of 4 x 4 blocks, the 2 x 2 at the upper left and the 2 x 2 at the lower right hold "
    "bands; the other eight blocks are empty.",
)

# %% [markdown]
# Does it all hold there too? Take a convolution in 2-D with stride, padding, dilation and groups, and compare exactly
# (in whole numbers, so nothing is rounded): $Wx$ with the convolution, and $W^\top z$ with the transposed convolution
# and with what autograd gives. The `output_padding` comes from your own function.

# %%
my_output_padding = yours_or_ours.output_padding_for(output_padding_for)
layer = dict(stride=2, padding=1, dilation=2, groups=2)
generator = torch.Generator().manual_seed(0)
weight = torch.randint(-9, 10, (4, 2, 3, 5), generator=generator).double()
x = torch.randint(-9, 10, (4, 10, 11), generator=generator).double().requires_grad_()
W = transposed.conv_matrix(weight, (10, 11), **layer)  # (4 * 4 * 3, 4 * 10 * 11)

y = F.conv2d(x, weight, **layer)  # (4, 4, 3): four channels of 4 x 3
z = torch.randint(-9, 10, y.shape, generator=generator).double()
extra = [int(my_output_padding(n, k, 2, 1, 2)) for n, k in ((10, 3), (11, 5))]
back = F.conv_transpose2d(z, weight, output_padding=extra, **layer)  # (4, 10, 11)
(gradient,) = torch.autograd.grad(y, x, grad_outputs=z)

print(f"y has the shape {tuple(y.shape)}, W {tuple(W.shape)}; output_padding is {extra}")
print("W x   = convolution:           ", torch.equal(W @ x.flatten(), y.flatten()))
print("W.T z = transposed convolution:", torch.equal(W.T @ z.flatten(), back.flatten()))
print("W.T z = gradient from autograd:", torch.equal(W.T @ z.flatten(), gradient.flatten()))

# %% [markdown]
# `conv2d` and `conv_transpose2d` got the **same weight tensor**. PyTorch lays it out as (outputs, inputs, ...) for a
# convolution and as (inputs, outputs, ...) for a transposed one, and what is output for the one is input for the other.
#
# Nobody builds $W$ to run a network: it would hold a copy of the kernel for every output.
#
# ## Where stamps overlap
#
# Predict: stamps of 3 x 3 places are laid into a plane, two places apart in both directions. In the middle of the
# plane, how many stamps may lie on one place? Write down all numbers that occur, in order, such as `[5, 6]`.

# %%
predicted_counts = ...

# %% [markdown]
# Start with a line. Let every $z_i$ be 1 and every tap be 1. What adds up at a place is the number of stamps that cover
# it. With kernel 3 and stride 2, stamps begin at 0, 2, 4, ... and overlap by one place: counts of 1 and 2 alternate.
#
# ### Your turn: count


# %%
def overlap_counts(size, kernel, stride):
    """Return how many stamps cover each place of the canvas, from the first place to the last.

    size: how many stamps. kernel: how many places a stamp covers. No padding.
    Returns a list (or a 1-D tensor) of whole numbers.

    overlap_counts(3, kernel=3, stride=2) is [1, 1, 2, 1, 2, 1, 1].
    """
    # BEGIN SOLUTION
    counts = [0] * ((size - 1) * stride + kernel)
    for i in range(size):
        for t in range(kernel):
            counts[i * stride + t] += 1
    return counts
    # END SOLUTION


# %%
check.overlap_counts(overlap_counts)

# %%
plane = transposed.overlap_counts((6, 7), kernel=3, stride=2)
occurring = plane[3:-3, 3:-3].unique().tolist()
reveal(predicted_counts, occurring, "stamps on one place, in the middle")

# %% [markdown]
# In a plane the counts multiply: once along the rows, once along the columns.

# %%
my_counts = yours_or_ours.overlap_counts(overlap_counts)
counted = {}
for k, s in ((3, 2), (4, 2), (5, 3), (2, 2)):
    counted[f"kernel {k}, stride {s}"] = [int(count) for count in my_counts(4, k, s)]
for name, counts in counted.items():
    print(f"{name}: {counts}")

show(
    draw.overlaps(counted),
    "Overlap counts of four stamps along a line and, multiplied, in a plane. Kernel 3 "
    "with stride 2 alternates: 1 and 2 along the line, 1, 2 and 4 in the plane. Kernel 5 "
    "with stride 3 is unequal too. Kernel 4 with stride 2 gives 4 everywhere inside, "
    "kernel 2 with stride 2 gives 1.",
)

# %% [markdown]
# Unequal counts make a checkerboard. Away from the ends the counts are all equal **exactly when
# the stride divides the kernel**. Odena, Dumoulin and Olah (2016) traced checkerboards in generated pictures to
# unequal counts. They advise such kernels, and add that these help but are not enough.
#
# ### Equal counts, and a pattern all the same
#
# Why not? With stride 2, the even places of the canvas only ever meet the even taps of the kernel, the odd places only
# the odd taps. In a plane there are four such *phases*, and no tap serves two of them. On a constant image each phase
# shows the sum of its own taps. Unless the four sums happen to be equal, there is a pattern, whatever the counts.
#
# To measure it, take the four sums: their standard deviation over their root mean square. 0 means a constant image
# stays constant; 1 means that there is nothing but pattern. Take 200 random kernels of each kind.

# %%
generator = torch.Generator().manual_seed(0)
for kind, numbers in (("positive", torch.rand), ("of both signs", torch.randn)):
    for k in (3, 4):
        kernels = numbers(200, k, k, generator=generator)
        contrasts = torch.tensor([transposed.phase_contrast(one, stride=2) for one in kernels])
        print(f"weights {kind}, kernel {k}: median contrast {contrasts.median():.1f}")

# %% [markdown]
# With positive weights, which are at least roughly alike, equal counts weaken the pattern. With weights of both signs,
# as in any network at its start, kernel 4 is about as bad as kernel 3. "The stride divides the kernel" removes unequal
# counts, not the pattern. What removes it, on a constant image at least, is to upsample by a fixed rule first and to
# convolve after: then every phase meets the same taps.

# %%
flat = torch.ones(1, 1, 8, 12)  # a constant image
generator = torch.Generator().manual_seed(26)  # draws two kernels near the median
kernel_3, kernel_4 = (torch.randn(1, 1, k, k, generator=generator) for k in (3, 4))
inside = (slice(6, 14), slice(6, 18))  # rows and columns away from the border
results = {
    "kernel 3, stride 2": F.conv_transpose2d(flat, kernel_3, stride=2),
    "kernel 4, stride 2": F.conv_transpose2d(flat, kernel_4, stride=2),
    "nearest, then kernel 3": F.conv2d(F.interpolate(flat, scale_factor=2), kernel_3, padding=1),
}
greys = {}
for name, result in results.items():
    image = result[0, 0][inside]  # (8, 12)
    size = image.square().mean().sqrt()
    contrast = image.std(correction=0) / size
    greys[f"{name}: contrast {contrast:.2f}"] = 0.5 + 0.25 * image / size
show(
    draw.pictures(greys, columns=3, size=2.8),
    "What becomes of a constant image inside, divided by its root mean square; all three "
    "in one range of greys. Random kernels of 3 and of 4 with stride 2 both draw a grid "
    "that repeats every two pixels; nearest upsampling before a random kernel of 3 "
    f"leaves it constant. {'; '.join(greys)}.",
)

# %% [markdown]
# ## Bilinear upsampling is a transposed convolution
#
# To enlarge a line of values by a factor $f$, each output needs a place among the inputs. Output $o$ lies at the place
# $u = (o + \tfrac12)/f - \tfrac12$, measured in input pixels, so that both lines have the same middle. *Linear
# interpolation* gives it the weighted mean of its two neighbours. The weight of input $i$ is
#
# $$\max(0,\; 1 - |u - i|),$$
#
# that is 1 if the output lies on the input, 0 if it is a whole input pixel away or more, and a straight line between.
# Seen from the input it is a *tent*: input $i$ adds its value, times the tent, to the outputs around it. Copies of
# one shape, $f$ places apart, scaled and added: a transposed convolution with stride $f$, whose kernel is the tent.
# In a plane the tent is taken in both directions, and called *bilinear*.
#
# ### Your turn: the tent
#
# Sample the tent at the outputs it reaches. The kernel is symmetric. Its centre is an input pixel; does an output lie
# exactly there? Look at even and at odd factors.


# %%
def bilinear_kernel(factor):
    """Return the kernel whose stamps, `factor` places apart, interpolate linearly.

    Returns a float tensor (k,) with a tap for every output whose weight is above 0, and no other.

    bilinear_kernel(3) is (1/3, 2/3, 1, 2/3, 1/3).
    """
    # BEGIN SOLUTION
    taps = 2 * factor - factor % 2
    centre = (taps - 1) / 2
    distance = (torch.arange(taps) - centre).abs() / factor
    return (1 - distance).clamp(min=0)
    # END SOLUTION


# %%
check.bilinear_kernel(bilinear_kernel)

# %% [markdown]
# Your matrix and your tent together are an upsampler. The kernel overhangs at either end by half of what it is longer
# than the factor, so that is the padding to crop.

# %%
my_tent = yours_or_ours.bilinear_kernel(bilinear_kernel)
z = torch.tensor([2.0, 5, 1, 4])
tent = my_tent(4).float()
upsampler = my_matrix(tent, 4 * len(z), stride=4, padding=2).T.float()  # (16, 4)
print("the kernel:", tent.tolist())
by_formula = transposed.interpolation_matrix(n=4, factor=4)  # (16, 4)
print("equal to max(0, 1 - |u - i|):", torch.allclose(upsampler, by_formula))
my_stamps = yours_or_ours.conv_transpose_1d(conv_transpose_1d)
by_stamps = my_stamps(z, tent, 4, 2, 0).float()  # (16,)
print("your matrix and your stamps agree:", torch.allclose(upsampler @ z, by_stamps))
print("outputs on either side of the second input:", (upsampler @ z)[5:7].tolist())

show(
    draw.tents(z, upsampler),
    "Four tents of heights 2, 5, 1 and 4, one above each input pixel, each reaching to "
    "the pixels beside it. Marks on each tent show where it is sampled: four places "
    "between two pixels, none of them on a pixel. The sum, a dashed line, runs straight "
    "from value to value and falls off before the first and after the last pixel. Dots "
    "on it are the 16 outputs.",
)

# %% [markdown]
# With an even factor no output lies exactly on an input, so the value 5 itself does not occur: its neighbours are
# 4.625 and 4.5.
#
# ### At the border
#
# Before the first and after the last input the sum falls off: there is no tent beyond the end to add to it. PyTorch's
# `interpolate` repeats the border value instead. So a transposed convolution that starts as bilinear upsampling is
# exact inside and too dark at the rim. How much, on an image of ones?

# %%
for factor in (2, 4):
    layer = transposed.bilinear_upsampler(channels=1, factor=factor)  # an nn.ConvTranspose2d
    ones = layer(torch.ones(1, 1, 4, 5))[0, 0].detach()  # (4 * factor, 5 * factor)
    middle = 2 * factor
    edge, corner, inside = ones[0, middle], ones[0, 0], ones[middle, middle]
    print(f"factor {factor}: inside {inside:g}, at an edge {edge:g}, in a corner {corner:g}")

upsampler_2 = transposed.bilinear_upsampler(channels=1, factor=2)
image = photo("astronaut")[:1, :64, :96][None]  # (1, 1, 64, 96)
difference = upsampler_2(image).detach() - F.interpolate(image, scale_factor=2, mode="bilinear")
print("equal to interpolate inside:", difference[..., 1:-1, 1:-1].abs().max().item() < 1e-6)
print("equal to interpolate at the border:", difference.abs().max().item() < 1e-6)

# %% [markdown]
# The larger the factor, the nearer an edge comes to half of its value, and the wider is the rim: half of $f$, rounded
# down.
#
# ## Three kernels: unpooling, nearest, bilinear
#
# Three fixed ways to enlarge a map are one operation with three kernels. For a factor of 4:
#
# | way | kernel | what a stamp does |
# | --- | --- | --- |
# | fixed unpooling ("bed of nails") | 1 0 0 0 | puts the value in one corner, zeros around it |
# | nearest neighbour | 1 1 1 1 | repeats the value |
# | bilinear | the tent, 8 taps | fades from value to value |
#
# On an image each is used in both directions, and that takes two matrix products: one from the left enlarges the
# height, one from the right the width. No layer is needed, only your `conv_matrix_1d` and your tent.


# %%
def upsample_by_matrix(image, kernel, factor):
    """(..., H, W) -> (..., factor * H, factor * W)"""
    padding = (len(kernel) - factor) // 2
    down = my_matrix(kernel, factor * image.shape[-2], factor, padding)  # (H, factor * H)
    across = my_matrix(kernel, factor * image.shape[-1], factor, padding)  # (W, factor * W)
    return down.float().T @ image @ across.float()


def three_ways(factor):
    """The kernels of fixed unpooling, nearest and bilinear upsampling."""
    nail = torch.zeros(factor)
    nail[0] = 1
    tent = my_tent(factor).float()
    return {"unpooling": nail, "nearest": torch.ones(factor), "bilinear": tent}


# %% [markdown]
# First photographs: shrink each four times by averaging 4 x 4 pixels, enlarge it again, and measure the error against
# the original. *RMSE* is the root of the mean squared difference, in steps of grey from 0 to 255. "Inside" leaves out
# the outermost four pixels on each side.

# %%
for name in ("astronaut", "chelsea", "coffee", "rocket"):
    original = photo(name)
    height, width = (side // 4 * 4 for side in original.shape[-2:])
    original = original[:, :height, :width]
    small = F.avg_pool2d(original, 4)  # (3, H, W) -> (3, H / 4, W / 4)
    for way in ("nearest", "bilinear"):
        error = 255 * (upsample_by_matrix(small, three_ways(4)[way], 4) - original)
        whole = error.square().mean().sqrt().item()
        inside = error[:, 4:-4, 4:-4].square().mean().sqrt().item()
        print(f"{name + ', ' + way:19} RMSE {whole:4.1f}, inside {inside:4.1f}")

# %%
original = photo("astronaut")[:, 60:156, 152:296]  # (3, 96, 144)
small = F.avg_pool2d(original, 4)  # (3, 24, 36)
enlarged = {way: upsample_by_matrix(small, kernel, 4) for way, kernel in three_ways(4).items()}
show(
    draw.pictures({"original": original} | enlarged, columns=2, size=3.9),
    "A face four times: the original; after unpooling, black with a grid of single "
    "pixels, one in 16; after nearest upsampling, in blocks; after bilinear upsampling, "
    "smooth, with a dark rim two pixels wide.",
)

# %% [markdown]
# Inside, bilinear beats nearest on all four photographs. Over the whole image it falls behind on two of them: the dark
# rim of two pixels costs more than smoothness gains. Of unpooling only 1 pixel in 16 is left.
#
# For segmentation the maps to enlarge are not pictures but *scores*: one map a class, and the class with the highest
# score wins. (Labels themselves are never interpolated: halfway between the labels 2 and 6 lies 4, a class that has
# nothing to do with either.) Suppose a network of stride 8 were perfect and told, for each cell of 8 x 8 pixels,
# which share of it each class fills. How many pixels are right after upsampling? Here are ten generated streets; void
# pixels, which nobody labelled, are not counted.

# %%
town = streets("test", count=10)
masks = town.masks  # (10, 96, 128)
shares = torch.stack([masks == c for c in range(11)], dim=1).float()  # (10, 11, 96, 128)
scores = F.avg_pool2d(shares, 8)  # (10, 11, 12, 16)
labels, right = {}, {}
known = masks != VOID
for way, kernel in three_ways(8).items():
    labels[way] = upsample_by_matrix(scores, kernel, 8).argmax(1)  # (10, 96, 128)
    right[way] = ((labels[way] == masks) & known).sum((1, 2)) / known.sum((1, 2))  # (10,)
    print(f"{way}: {100 * right[way].mean():.1f} % of the pixels right")
wins = (right["bilinear"] > right["nearest"]).sum().item()
print(f"bilinear beats nearest in {wins} of 10 streets")

by_pytorch = F.interpolate(scores, scale_factor=8, mode="bilinear").argmax(1)
print("the labels of F.interpolate:", torch.equal(labels["bilinear"], by_pytorch))

# %%
shown = {"true": masks[0]}
for way in labels:
    shown[f"{way}: {100 * right[way][0]:.1f} % right"] = labels[way][0]
show(
    draw.masks(shown, 2, town.classes, town.palette, size=3.9),
    f"The mask of a street four times: {'; '.join(shown)}. Unpooling gives sky nearly "
    "everywhere, nearest gives blocks, bilinear gives smooth borders; the poles are lost "
    "in all three. A key below names the colours.",
)

# %% [markdown]
# Over all pixels bilinear wins in every street: where nearest leaves stairs, the borders between classes come out
# smooth. But most pixels are road, buildings and sky. Count for each class the pixels of its own that were found:

# %%
for name in ("sky", "building", "road", "car", "sign", "pedestrian", "bicyclist", "pole"):
    label = town.classes.index(name)
    own = masks == label  # (10, 96, 128)
    found = {way: 100 * (labels[way][own] == label).float().mean() for way in labels}
    print(f"{name:10} nearest {found['nearest']:4.1f} %, bilinear {found['bilinear']:4.1f} %")

# %% [markdown]
# On large things bilinear gains, on thin things it loses: it mixes the scores of neighbouring cells, and the few cells
# of a thin thing are outvoted by the wide ones beside them. One number over all pixels does not show that.
#
# The dark rim does no harm here. Near the border the scores of *all* classes shrink by the same factor, so the largest
# stays the largest: the labels are those of `F.interpolate`, to the pixel.
#
# Unpooling alone fails. Of 64 pixels, 63 get no score at all, and the arg max of zeros is class 0, the sky. It needs
# convolutions after it that fill the gaps; in SegNet (lesson 05) it has them, and there the places of the nails carry
# information, too.
#
# None of the three brings the poles back. What was averaged away in a cell of 8 x 8 pixels, no fixed kernel restores;
# for that, FCN (lesson 04) fetches finer maps from earlier layers.
#
# ## What slides often get wrong
#
# ### "Stride 2", over the matrix for stride 1
#
# A lecture slide works the example of this lesson in letters: kernel $(w_1, w_2, w_3)$, padding 1, four inputs. It
# announces stride 2, but draws the matrix for stride 1, and its product ends with two rows that fit neither. On the
# slide, and as they should be before the crop:
#
# | | last row but one | last row |
# | --- | --- | --- |
# | on the slide | $w_3 z_4 + w_2 z_4$ | $w_2$ |
# | stride 1, four values $z$ | $w_3 z_3 + w_2 z_4$ | $w_3 z_4$ |
# | stride 2, two values $z$ | $w_2 z_2$ | $w_3 z_2$ |
#
# One look tells that the slide's rows are wrong. Two taps of one stamp never meet in one place, and a row without
# any $z$ would be there even for $z = 0$. With stride 2, four inputs give two outputs, so $z_3$ and $z_4$ do not exist.

# %%
for n, stride in ((4, 1), (2, 2)):
    rows = transposed.spell_transpose(n, kernel=3, stride=stride)
    print(f"stride {stride}:", "; ".join(rows))

# %% [markdown]
# ### "A transposed convolution restores the input's shape"
#
# Only if the convolution left nothing over, or if `output_padding` says how much. Your two functions, for kernel 5,
# stride 3, padding 2:

# %%
my_size = yours_or_ours.transposed_size(transposed_size)
for size in (16, 17, 18):
    extra = int(my_output_padding(size, 5, 3, 2, 1))
    plain, restored = (int(my_size(6, 5, 3, 2, more, 1)) for more in (0, extra))
    print(f"{size} -> 6 -> {plain}; with output_padding={extra}: {size} -> 6 -> {restored}")

# %% [markdown]
# ### "A kernel of twice the factor makes it bilinear"
#
# For even factors, yes. For an odd factor the tent has one tap less. With a kernel of 6 for a factor of 3, five values
# should become 15, and no padding alone gives that. `output_padding=1` would, but then the middle of the stamps lies
# half a pixel before the middle of their cells, and the picture shifts.

# %%
for kernel in (6, 5):
    lengths = [int(my_size(5, kernel, 3, padding, 0, 1)) for padding in (0, 1, 2)]
    print(f"kernel {kernel}, padding 0, 1, 2: {lengths}")

one = torch.tensor([0.0, 0, 1, 0, 0])  # (5,)
for kernel, padding, extra in ((6, 2, 1), (5, 1, 0)):
    stamp = my_stamps(one, torch.ones(kernel), 3, padding, extra).float()  # (15,)
    middle = (torch.arange(15) * stamp).sum() / stamp.sum()
    print(f"kernel {kernel}: of places 0 to 14 the middle stamp lies around {middle:.1f}")

# %% [markdown]
# ## Quiz

# %%
quiz.undoes()

# %%
quiz.length_back()

# %%
quiz.last_place()

# %%
quiz.padding_one_more()

# %%
quiz.equal_counts()

# %%
quiz.same_weight()

# %% [markdown]
# ## Summary
#
# - A convolution is a matrix $W$ with a row for each output; a transposed convolution multiplies by $W^\top$. It is the
#   convolution's backward pass, and not its inverse.
# - Read as stamps: scaled copies of the kernel, a stride apart, added up; padding crops, `output_padding` lengthens the
#   canvas before the crop.
# - The length is $(n - 1) s + d (k - 1) + 1 - 2p$ plus `output_padding`; up to $s$ input lengths share one output length.
# - The stride must divide the kernel for equal counts, and equal counts alone do not prevent a pattern.
# - Unpooling, nearest and bilinear upsampling are transposed convolutions with fixed kernels; the tent is exact inside and
#   too dark at the border.
#
# ## References
#
# - V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, 2016: the matrix
#   in chapter 4, the sizes and the case of a remainder in section 4.6.
# - M. D. Zeiler, D. Krishnan, G. W. Taylor and R. Fergus, "Deconvolutional networks", CVPR 2010: where the name
#   comes from.
# - J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015:
#   section 3.3, upsampling that starts as bilinear and can be learned.
# - A. Odena, V. Dumoulin and C. Olah, "Deconvolution and checkerboard artifacts", Distill, 2016: overlap, checkerboards, and
#   upsampling by a fixed rule before a convolution.
#
# ## Where next
#
# [03 Convolutionalizing dense layers](03_convolutionalize.ipynb) makes the coarse score maps that this lesson
# enlarges. FCN ([lesson 04](04_fcn_skips.ipynb)) starts its upsampling layers as tents and adds skips; SegNet
# ([lesson 05](05_segnet_unpooling.ipynb)) unpools with the places that the pooling remembered. Behind you:
# [what an output sees](01_receptive_field.ipynb).
