# %% [markdown]
# # 07 Atrous convolution and ASPP
#
# Let a kernel reach far without more weights, keep maps fine without losing what the network sees, and find out where
# that ends.
#
# A classifier halves its maps five times, so that its last layers see much of the image. What is left is coarse: a unit
# for every 32 pixels, its **output stride**. Lessons 04 to 06 climb back up. This lesson does not go down so far. It
# takes strides out of the network and spreads the kernels instead, so that every unit sees what it saw before. After
# this lesson you can
#
# - **compute** what an atrous kernel spans, and the convolution itself by plain ones;
# - **compute** what a stack of rates sees, and what it skips;
# - **convert** a network from output stride 32 to 16 or 8 with the same weights, and **show** that the numbers agree;
# - **build** a pyramid of rates, ASPP, and **count** how many of its taps read anything;
# - **decide** where a rate helps and where it does not.
#
# Time: 30 minutes to read, 60 to do. Points: 13, in 6 exercises. You need lessons 01 (what a unit sees, dilation) and
# 03 (shift and stitch).

# %% tags=["setup"]
import copy

import torch
import torch.nn.functional as F
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours
from segcourse.training import evaluate, pick_device, predict, train

start("07_atrous")
device = pick_device()

# %% [markdown]
# ## Predict
#
# DeepLab v2 ends in four 3x3 layers side by side. Neighbouring taps lie 6, 12, 18 and 24 units apart. Our scenes have
# 96x128 pixels, and DeepLab's map of such a scene 13x17 units (why, comes later). Think of the unit in the middle of
# that map, and of the layer with 24. How many of its nine taps lie on the map? Write down a whole number. We come back
# to it.

# %%
prediction_taps = ...

# %% [markdown]
# ## A kernel with holes
#
# A plain kernel reads neighbours. An **atrous** one (from French *à trous*, with holes) reads units that lie `rate`
# apart, and skips what is between. It is also called dilated; PyTorch's argument is `dilation`. The weights are the
# same. Here the row 1 to 7 meets the kernel (1, 10, 100), whose products can be told apart in the sum:

# %%
from segcourse.figures.atrous import taps_figure

show(
    taps_figure([1, 2, 3, 4, 5, 6, 7], [1, 10, 100], rates=[1, 2, 3]),
    "The row 1 to 7 three times, with the kernel (1, 10, 100) on its first units. Rate 1 reads 1, 2, 3 and gives 321; "
    "rate 2 reads 1, 3, 5 and gives 531; rate 3 reads 1, 4, 7 and gives 741.",
)

# %% [markdown]
# In general unit $i$ of the output is $y_i = \sum_{t=0}^{k-1} w_t \, x_{i + r t}$ with $k$ taps and rate $r$. A row of
# $n$ units gives $n - (k - 1) \, r$ of them. In PyTorch:

# %%
row, three_taps = torch.arange(1.0, 8.0).reshape(1, 1, 7), torch.tensor([[[1.0, 10.0, 100.0]]])  # (N, C, W), (K, C, k)
for rate in (1, 2, 3):
    print(f"rate {rate}:", F.conv1d(row, three_taps, dilation=rate)[0, 0].int().tolist())

# %% [markdown]
# In two dimensions rows and columns are spread alike. Below is a 2x2 kernel at rate 2 on a map of 4x5. The upper left
# number by hand: 1·1 + 2·3 + 3·11 + 4·13 = 92. PyTorch agrees, and so does a plain convolution with a 3x3 kernel that
# has zeros where the holes are. That one multiplies by the zeros too.

# %%
from segcourse.atrous import atrous_conv, spread_kernel

numbers = torch.arange(1.0, 21.0).reshape(1, 1, 4, 5)
two_by_two = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
print("the map:", numbers[0, 0].int().tolist())
print("rate 2: ", F.conv2d(numbers, two_by_two, dilation=2)[0, 0].int().tolist())
print("spread: ", spread_kernel(two_by_two, 2)[0, 0].int().tolist())
print("plain, with the spread kernel:", F.conv2d(numbers, spread_kernel(two_by_two, 2))[0, 0].int().tolist())

# %% [markdown]
# ### What it spans
#
# Between $k$ taps there are $k - 1$ gaps, and in each gap $r - 1$ holes. First tap to last, the kernel spans
#
# $$k + (k - 1)(r - 1)$$
#
# units. This is its **effective kernel**: put it where formulas for sizes and fields say "kernel". (Lesson 01 wrote
# $(k - 1) \, r + 1$, which is the same number.)
#
# ### Exercise: what a kernel spans (1 point)


# %%
def effective_kernel(kernel, rate):
    """Return how many units an atrous kernel spans, its first tap to its last.

    kernel: taps along one side; rate: distance of neighbouring taps. Whole numbers from 1 on.
    Returns a whole number. Example: effective_kernel(3, 2) is 5.
    """
    # BEGIN SOLUTION
    return kernel + (kernel - 1) * (rate - 1)
    # END SOLUTION


# %%
check.effective_kernel(effective_kernel)

# %% [markdown]
# More rate means a larger span and nothing else: no weight is added, and no product. To keep the map's size, a plain
# 3x3 layer is padded by 1. One of rate $r$ must be padded by $r$, half of what its kernel spans, rounded down. If that
# is forgotten, the map shrinks, as in the last column.

# %%
my_span = yours_or_ours.effective_kernel(effective_kernel)
print("rate  spans  weights  multiply-adds  map, padded by the rate  map, padded by 1")
for rate in (1, 2, 4, 12):
    layer = nn.Conv2d(8, 8, 3, padding=rate, dilation=rate, bias=False)
    short = nn.Conv2d(8, 8, 3, padding=1, dilation=rate, bias=False)
    with torch.no_grad():
        out, less = layer(torch.zeros(1, 8, 26, 33)), short(torch.zeros(1, 8, 26, 33))
    weights = layer.weight.numel()
    shapes = f"{out.shape[2]} x {out.shape[3]}                  {less.shape[2]} x {less.shape[3]}"
    print(f"{rate:4}  {my_span(3, rate):5}  {weights:7}  {weights * out[0, 0].numel():13,}  {shapes}")

# %% [markdown]
# ## The hole algorithm
#
# The idea is older than networks: Holschneider and others computed wavelets so in 1989. They had no atrous convolution
# to call. Look at rate 2. A unit in an even row reads even rows only, and one in an odd row odd rows only. So with the
# columns: the map falls into $2 \cdot 2$ maps, its **phases**, that never meet. Inside a phase the taps are neighbours.
# So
#
# 1. **subsample**: take the phase of every second row from $a$ on, every second column from $b$ on;
# 2. **convolve** it plainly;
# 3. **interlace**: put the results back to every second row from $a$ on, every second column from $b$ on.

# %%
from segcourse.figures.atrous import phases_figure

digits = torch.tensor(
    [[3.0, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8], [9, 7, 9, 3, 2, 3], [8, 4, 6, 2, 6, 4], [3, 3, 8, 3, 2, 7]]
)
show(
    phases_figure(digits, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 2),
    "A map of 5 x 6, its four phases in four colours, the phases after a plain convolution with the kernel [[1, 0], [0, 1]], "
    "and the results interlaced to 3 x 4. The upper left number is 3 + 9 = 12.",
)

# %% [markdown]
# ### Exercise: atrous by plain convolutions (2 points)
#
# Here the plain convolution is a function `conv` that you are given; its weights you do not see. The first line is
# given. In a failing case `weight` is what `conv` hides. To run such a case, make its `x` and `weight`, and call
# `by_holes(x, lambda maps: F.conv2d(maps, weight), kernel, rate)`.


# %%
def by_holes(x, conv, kernel, rate):
    """Return an atrous convolution, computed by a plain one on subsampled maps.

    x: (N, C, H, W); H and W are at least kernel · rate, so that every phase has room for the kernel.
    conv: a function, (N, C, h, w) -> (N, K, h - kernel + 1, w - kernel + 1): a plain convolution without padding.
    kernel: the side of its kernel; rate: the distance of neighbouring taps. Whole numbers.
    Returns (N, K, height, width): what the same weights give with this rate, without padding.
    """
    height, width = (size - (kernel - 1) * rate for size in x.shape[2:])
    # BEGIN SOLUTION
    phases = [[conv(x[:, :, a::rate, b::rate]) for b in range(rate)] for a in range(rate)]
    out = x.new_zeros(*phases[0][0].shape[:2], height, width)
    for a in range(rate):
        for b in range(rate):
            out[:, :, a::rate, b::rate] = phases[a][b]
    return out
    # END SOLUTION


# %%
check.by_holes(by_holes)

# %% [markdown]
# Three ways to one convolution, on whole numbers so that they can be compared exactly: by holes, tap by tap (the
# course's `atrous_conv` adds up a shifted copy of the map for each tap), and PyTorch's.

# %%
my_holes = yours_or_ours.by_holes(by_holes)
generator = torch.Generator().manual_seed(0)
x = torch.randint(-9, 10, (2, 3, 20, 31), generator=generator).double()
weight = torch.randint(-9, 10, (4, 3, 3, 3), generator=generator).double()
for rate in (1, 2, 3, 5):
    holes, taps = my_holes(x, lambda maps: F.conv2d(maps, weight), 3, rate), atrous_conv(x, weight, rate)
    torchs = F.conv2d(x, weight, dilation=rate)
    print(f"rate {rate}, {tuple(torchs.shape)}: all equal: {torch.equal(holes, torchs) and torch.equal(taps, torchs)}")

# %% [markdown]
# ## Stacked rates
#
# One layer of rate 4 spans 9 units and reads 3 of them. Stacks can fill the holes. A layer on top of others adds
# $(k - 1) \, r$ to the field below: its outermost taps stand that far apart. Three 3x3 layers with rates 1, 2, 4:

# %%
from segcourse.atrous import path_counts, stack, stacked_fields
from segcourse.figures.receptive_field import ladder, ladder_words

layers = stack((1, 2, 4))
show(ladder(layers, position=9, image=19), ladder_words(layers, position=9, image=19))
print("stacked, after each layer:", stacked_fields((1, 2, 4)))
print("each layer by itself:     ", [my_span(3, rate) for rate in (1, 2, 4)])

# %% [markdown]
# 3, 7, 15: with rates that double, $L$ layers see $2^{L + 1} - 1$ units, where plain ones see $2L + 1$. Yu and Koltun
# (2016) built their context module on this.
#
# ## Gridding
#
# Now all three rates are 2. The field of the stack has a side of 1 + 3 · 4 = 13, so it holds 169 units. How many of
# them can change the unit in the middle? Write down a whole number first. (In the figure, holes are hatched.)

# %%
prediction_read = ...

# %%
from segcourse.figures.atrous import counts_figure

stacks = [(2, 2, 2), (2, 4, 8), (1, 2, 4), (1, 2, 5)]
counts = {f"rates {', '.join(map(str, rates))}": path_counts(rates) for rates in stacks}
shares = [
    f"{int((c > 0).sum())} of {c.numel()} ({(c > 0).double().mean():.0%}) for {name}" for name, c in counts.items()
]
show(
    counts_figure(counts),
    "The field of four stacks of 3x3 layers; what is read is coloured, brighter where more paths lead, on one scale for all, and "
    f"holes are hatched. Read are {'; '.join(shares)}. Most paths to one unit: {', '.join(str(int(c.max())) for c in counts.values())}.",
)
reveal(prediction_read, int((counts["rates 2, 2, 2"] > 0).sum()), "units that rates 2, 2, 2 read, of 169")

# %% [markdown]
# With 2, 2, 2 each tap moves by an even number, and sums of even numbers are even. So the map falls into four maps that
# never meet, all the way up: neighbouring units of the output know nothing of each other. This is **gridding**. Rates
# 2, 4, 8 have the same common factor; rates 1, 2, 4 and 1, 2, 5 leave no hole. (The numbers counted are paths: the
# gradient of the unit in the middle if all weights are 1. The cell checks it by autograd.)

# %%
ones = torch.ones(1, 1, 3, 3, dtype=torch.double)
picture = torch.zeros(1, 1, 17, 17, dtype=torch.double, requires_grad=True)
y = picture
for rate in (1, 2, 5):
    y = F.conv2d(y, ones, padding=rate, dilation=rate)
y[0, 0, 8, 8].backward()
print("gradient equals the number of paths:", torch.equal(picture.grad[0, 0].long(), path_counts((1, 2, 5))))

# %% [markdown]
# To see it, lay a chequered pattern of single pixels over a scene and average it by three 3x3 layers, all weights 1/9.
# Plain layers and rates 1, 2, 5 smooth the pattern away. For the rates 2, 2, 2 it does not exist: each of the four maps
# is smooth in itself.

# %%
from segcourse.datasets import streets
from segcourse.figures.atrous import averaged, grid_pattern
from segcourse.figures.transposed import pictures

val_set = streets("val", 4)
patterned = grid_pattern(val_set.images[3])
results = {f"rates {', '.join(map(str, r))}": averaged(patterned, r) for r in ((1, 1, 1), (2, 2, 2), (1, 2, 5))}
jumps = {name: float((image[:, :, 1:] - image[:, :, :-1]).abs().mean()) for name, image in results.items()}
show(
    pictures({"with the pattern": patterned, **results}, columns=2, size=4.2),
    "A street scene with a chequered pattern of pixels, and its averages by three layers. Rates 1, 1, 1 and 1, 2, 5 leave a "
    "blurred scene; with rates 2, 2, 2 the blurred scene still has the pattern.",
)
least = min(jumps, key=jumps.get)
print("neighbouring pixels differ most with", max(jumps, key=jumps.get))
print(f"more than ten times as much as with {least}:", max(jumps.values()) > 10 * jumps[least])

# %% [markdown]
# ### Exercise: what a stack sees and reads (2 points)
#
# Along one axis. The layers are stacked, all with the same kernel, each with its own rate.


# %%
def field_and_read(kernel, rates):
    """Return the length of a stack's receptive field, and how many positions in it are read.

    kernel: taps of each layer, a whole number; rates: a list, the first layer's rate first; at least one.
    Returns a pair (field, read): positions from the first that one unit reads to the last, and how many of these can
    change it. Example: field_and_read(3, [2, 2, 2]) is (13, 7).
    """
    # BEGIN SOLUTION
    seen = {0}
    for rate in rates:
        seen = {position + tap * rate for position in seen for tap in range(kernel)}
    return max(seen) + 1, len(seen)
    # END SOLUTION


# %%
check.field_and_read(field_and_read)

# %% [markdown]
# In two dimensions the share that is read is the square of that along one axis. Deeper stacks, as they occur in
# networks:

# %%
my_read = yours_or_ours.field_and_read(field_and_read)
for rates in ([2, 2, 2, 2], [1, 2, 4, 8], [1, 2, 5, 1, 2, 5], [3, 5], [4, 4, 4, 1]):
    field, read = my_read(3, rates)
    print(f"rates {rates}: field {field}, read {read} along an axis, {read**2 / field**2:.0%} of the square")

# %% [markdown]
# Holes also come without a common factor: of the 17 positions of rates 3 and 5 only 9 are read, and with 4, 4, 4, 1
# about 60 % of the square. What counts is whether every position is a sum of taps.

# %% [markdown]
# ## Strides into rates
#
# Why are maps coarse at all? A stride halves them, and every later layer is cheaper and sees twice as far. Take the
# stride out, and later layers see too little. Give them a rate, and they see what they saw. By hand: the row 1 to 8, a
# layer that adds two neighbours with stride 2, and a layer with the kernel (1, 10).

# %%
row, add, digits_of = torch.arange(1.0, 9.0).reshape(1, 1, 8), torch.ones(1, 1, 2), torch.tensor([[[1.0, 10.0]]])
strided = F.conv1d(row, add, stride=2)
dense = F.conv1d(row, add)
print("stride 2:", strided[0, 0].int().tolist(), "->", F.conv1d(strided, digits_of)[0, 0].int().tolist())
print(
    "stride 1:",
    dense[0, 0].int().tolist(),
    "->",
    F.conv1d(dense, digits_of, dilation=2)[0, 0].int().tolist(),
    "at rate 2",
)
moved = F.conv1d(F.conv1d(row[..., 1:], add, stride=2), digits_of)
print("stride 2, first pixel cut off:", moved[0, 0].int().tolist())

# %% [markdown]
# All numbers of the coarse row stand in the fine one, at each second place. Between them stands what the strided
# network says of the row moved on by a pixel: shift and stitch (lesson 03), in one pass. The rule:
#
# - a layer that **loses** its stride $s$ keeps its own rate: what it reads has not changed;
# - every layer **after** it reads a map that is finer by $s$: its rate and its padding are multiplied by $s$;
# - if a second layer loses a stride, those after it have the product.
#
# The **output stride** is how many pixels lie between neighbouring units of the last map. Strides go from the end,
# since late layers are the ones that make maps too coarse. (Taking the first ones instead would give the same numbers
# at a far higher price: think about why.)
#
# ### Exercise: strides into rates (3 points)
#
# The network is a chain of `nn.Conv2d`, `nn.ReLU` and `nn.MaxPool2d(2)`. Convolutions and poolings have a `stride` and a
# `dilation`. In `nn.Conv2d` these and the `padding` are pairs, one number for rows and one for columns; in these poolings
# they are whole numbers. You may set either. (A pair times 2 is no pair of doubles: `(1, 1) * 2` is `(1, 1, 1, 1)`.) At
# the start rates are 1, and strides 1 or 2. Kernels and paddings have any size, and it may differ from rows to columns.
#
# In a failing case `model` lists the layers, arguments in PyTorch's order: `Conv2d(1, 2, [3, 5], 2, [1, 0])` has 1
# channel in, 2 out, a 3x5 kernel, stride 2, padding 1 for rows and 0 for columns. Weights and biases are whole numbers
# from -3 to 3, drawn from `seed`, and so is the image, of the size `shape`. To run such a case again:
#
# ```python
# from segcourse.exercises.networks import network_of
#
# network = network_of("Conv2d(1, 2, [3, 5], 2, [1, 0]), ReLU()", seed=3)  # `model` and `seed` of the case
# image = torch.randint(0, 10, (1, 1, 9, 12), generator=torch.Generator().manual_seed(3)).float()  # `shape` and `seed`
# set_output_stride(network, 1)(image)
# ```


# %%
def set_output_stride(model, output_stride):
    """Return the network with strides turned into rates, its weights unchanged.

    model: nn.Sequential of nn.Conv2d (any padding, also 0), nn.ReLU and nn.MaxPool2d(2), which has no padding.
    output_stride: the pixels between units of the result, a power of 2, not more than the network's own stride.
    Returns another nn.Sequential; the model stays as it is, so begin with copy.deepcopy(model). Strides are kept from
    the first layer on until output_stride is reached, and then turned into rates.
    """
    # BEGIN SOLUTION
    dense = copy.deepcopy(model)
    stride, rate = 1, 1  # what the layers so far keep, and what was taken from them
    for layer in dense:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (rate * int(layer.padding[0]), rate * int(layer.padding[1]))
        if hasattr(layer, "dilation"):  # convolutions and poolings have one
            step = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
            layer.dilation = (rate, rate)
            if stride < output_stride:
                stride *= step
            else:
                layer.stride = (1, 1)
                rate *= step
    return dense
    # END SOLUTION


# %%
check.set_output_stride(set_output_stride)

# %% [markdown]
# A chain of stride 8 with padding, in double precision. At its own positions the strided network's map is found in the
# dense one, to the border. For the positions between, cut rows off the image. Where the dense map and the strided one
# of the moved image differ, it is at the border that was moved: there are other zeros around. (47 rows, not 48: without
# its stride, the 2x2 pooling makes the map one shorter. More on that below.)

# %%
my_stride = yours_or_ours.set_output_stride(set_output_stride)
torch.manual_seed(0)
chain = nn.Sequential(
    nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1),
).double()  # fmt: skip
image = val_set.images[:1].double()
with torch.no_grad():
    few, many = chain(image), my_stride(chain, 2)(image)
    print(f"stride 8: {tuple(few.shape[2:])}, stride 2: {tuple(many.shape[2:])}")
    print("same numbers at its own positions:", torch.allclose(many[..., ::4, ::4], few))
    for shift in (1, 2, 3):
        moved = chain(image[:, :, 2 * shift :])
        between = many[:, :, shift::4, ::4]
        differ = ~torch.isclose(between, moved[:, :, : between.shape[2]]).all(3).all(1)[0]
        print(
            f"moved by {2 * shift} rows: {between.shape[2]} rows of units, those that differ:",
            differ.nonzero().flatten().tolist(),
        )

# %% [markdown]
# Now VGG-16, whose features have output stride 32. The course's `set_output_stride` takes nested and residual networks
# too. DeepLab uses output stride 8. `trace` says what a unit sees, and how many pixels lie between units.

# %%
from segcourse.atrous import set_output_stride as turn
from segcourse.cost import profile
from segcourse.models.vgg import vgg16_features
from segcourse.tracing import trace

torch.manual_seed(1)
vgg = vgg16_features(3, width=8).double().eval()
scene = streets("val", 1, size=(192, 256)).images.double()
maps = {}
with torch.no_grad():
    for stride in (32, 16, 8):
        maps[stride] = turn(vgg, stride)(scene)[0]
for stride, found in maps.items():
    same = torch.allclose(found[:, :: 32 // stride, :: 32 // stride], maps[32])
    macs = profile(turn(vgg, stride).float(), (1, 3, 192, 256)).total_macs
    print(
        f"output stride {stride:2}: map {found.shape[1]} x {found.shape[2]}, same at its own positions: {same}, {macs:,} multiply-adds"
    )
print("parameters:", {sum(p.numel() for p in turn(vgg, stride).parameters()) for stride in (32, 16, 8)})
seen = {stride: trace(turn(vgg, stride), (3, 512, 512))[""][0] for stride in maps}
print("a unit sees", {stride: f"{field.size} pixels, {field.jump} apart" for stride, field in seen.items()})
for shift in (8, 16, 24):
    with torch.no_grad():
        moved = vgg(scene[:, :, shift:])[0]
    agree = torch.isclose(maps[8][:, shift // 8 :: 4, ::4], moved).all(2).all(0)
    print(
        f"moved by {shift} rows: {len(agree)} rows of units, those that differ:", (~agree).nonzero().flatten().tolist()
    )

# %%
from segcourse.figures.atrous import strides_figure

channel = int(maps[8].flatten(1).std(1).argmax())
shown = {f"output stride {stride}": found[channel] for stride, found in maps.items()}
show(
    strides_figure(shown, shown["output stride 8"]),
    "One channel of VGG-16's last map for a scene of 192 x 256, with random weights: 6 x 8 units at output stride 32, 11 x 15 "
    "at 16, 21 x 29 at 8. Square outlines in the finest map mark the units of the coarsest: the same colours stand there.",
)

# %% [markdown]
# The weights are the same; the cost need not be. Taking out VGG-16's last stride costs nothing, because no convolution
# comes after it. The one before makes the three layers of conv5 compute nearly four times as many units, a quarter more
# for the whole network. A head on top runs on up to sixteen times as many. The earlier a stride that goes, the more
# layers pay for it. That is the price of rates in place of strides, and why networks stop at output stride 8 or 16.
#
# (Why 21 and not 24 at output stride 8? VGG pools by 2x2. An even kernel has no middle: without its stride pool4 makes
# the map one shorter, and pool5, at rate 2, two. DeepLab pools by 3x3, padded by 1. At stride 1 that keeps sizes; at
# stride 2 it halves and, at even sizes, adds one. So 96x128 pixels become 13x17 units:)

# %%
pool, sizes = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), [torch.zeros(1, 1, 96, 128)]
for _ in range(3):
    sizes.append(pool(sizes[-1]))
print("three poolings:", " -> ".join(f"{size.shape[2]} x {size.shape[3]}" for size in sizes))
print("a fourth at stride 1:", tuple(nn.MaxPool2d(3, 1, padding=1)(sizes[-1]).shape[2:]))

# %% [markdown]
#
# ## ASPP: several rates side by side
#
# A car near by is four times as large as one far off. Show a kernel an object twice as large, and spread the kernel
# alike: it reads the same numbers. So rates side by side look for one thing at several sizes.

# %%
small = torch.randint(0, 10, (1, 1, 6, 9), generator=generator).double()
twice = small.repeat_interleave(2, 2).repeat_interleave(2, 3)  # each pixel becomes 2x2
seen = atrous_conv(small, ones), atrous_conv(twice, ones, rate=2)
print("an object twice as large, at twice the rate, gives the same:", torch.equal(seen[0], seen[1][:, :, ::2, ::2]))
all_alike = all(torch.equal(seen[0], seen[1][:, :, a::2, b::2]) for a in (0, 1) for b in (0, 1))
print("for all four pixels of each 2x2 block:", all_alike)

# %% [markdown]
# The idea of several sizes is older. *Spatial pyramid pooling* (He et al. 2014) pools a map to 4x4, 2x2 and 1x1 bins,
# so that images of any size give vectors of one length. PSPNet (2017) pools to four sizes, enlarges, and concatenates.
# DeepLab's **atrous spatial pyramid pooling**, ASPP, keeps the map's resolution and puts 3x3 layers with several rates
# over it.
#
# There are two of them, and slides mix them up:
#
# | | branches | joined by |
# | --- | --- | --- |
# | DeepLab v2 (ASPP-L) | 3x3 at rates 6, 12, 18, 24, each with two more layers down to scores | **sum** of the scores |
# | DeepLab v3, at output stride 16 | 1x1; 3x3 at rates 6, 12, 18; the image's mean through a 1x1 | **concatenation**, then a 1x1 layer |
#
# We build that of v3. Its last branch averages the whole map, one number for each channel, sends it through a 1x1 layer
# and spreads it over all units again.
#
# ### Exercise: a pyramid of rates (3 points)
#
# Without batch norm and biases, and without the 1x1 layer that follows: weights come as tensors, as `F.conv2d` takes
# them.


# %%
def aspp(x, point, atrous, rates, image):
    """Return the branches of an atrous spatial pyramid pooling, concatenated.

    x: (N, C, H, W), a map.
    point: (M, C, 1, 1), weight of the 1x1 branch.
    atrous: a list of weights (M, C, 3, 3), rates: a list of the rates that belong to them. Each keeps the map's size.
    image: (M, C, 1, 1), weight of the branch that sees the mean of the map over rows and columns.
    Returns (N, M · (2 + len(rates)), H, W): the 1x1 branch, the 3x3 ones in order, the image; a ReLU ends each.
    """
    # BEGIN SOLUTION
    branches = [F.conv2d(x, point)]
    for weight, rate in zip(atrous, rates):
        branches.append(F.conv2d(x, weight, padding=rate, dilation=rate))
    mean = x.mean(dim=(2, 3), keepdim=True)
    branches.append(F.conv2d(mean, image).expand(-1, -1, *x.shape[2:]))
    return torch.cat([branch.relu() for branch in branches], dim=1)
    # END SOLUTION


# %%
check.aspp(aspp)

# %% [markdown]
# The course's `ASPP` is that of the paper, with batch norm and the mixing layer. With batch norm at its start (mean 0,
# variance 1) the branches must be yours, up to its small epsilon. (In training, batch norm takes mean and variance over
# batch, rows and columns. In the image branch there is one number for each image and channel, so a batch must hold two
# images or more.) And its size, from 2048 channels to 256 as on a ResNet:

# %%
from segcourse.atrous import ASPP

my_aspp = yours_or_ours.aspp(aspp)
torch.manual_seed(2)
module = ASPP(16, 8, rates=(2, 4)).eval()
x = torch.randn(2, 16, 9, 12)
first, *middle, last = (branch[0].weight.detach() for branch in (module.point, *module.atrous, module.image))
joined = my_aspp(x, first, middle, [2, 4], last)
with torch.no_grad():
    mixed = module.mix(joined)
    print("yours and its last layer give the module's numbers:", torch.allclose(mixed, module(x), atol=1e-3))
with torch.device("meta"):  # shapes without numbers: nothing is computed or stored
    print(f"parameters with the paper's sizes: {sum(p.numel() for p in ASPP(2048).parameters()):,}")

# %% [markdown]
# ## Rates beyond the map
#
# On a map of $N$ units in a row, a tap that reaches $r$ to the right reads padding at the last $r$ units. From $r = N$
# on it reads padding everywhere. Then nothing is left of a 3x3 layer but its middle tap: a 1x1 layer with eight dead
# weights.

# %%
nine_ones = torch.ones(1, 1, 3, 3)  # on a map of ones, such a kernel counts the taps that are on the map
for rate in (2, 5):
    counted = F.conv2d(torch.ones(1, 1, 4, 6), nine_ones, padding=rate, dilation=rate)[0, 0].int()
    print(f"taps on the map, 4 x 6 units, rate {rate}:", counted.tolist())
counted = F.conv2d(torch.ones(1, 1, 13, 17), nine_ones, padding=24, dilation=24)[0, 0].int()
reveal(prediction_taps, int(counted[6, 8]), "taps on the map at rate 24, in the middle of 13 x 17")

# %% [markdown]
# Slide the rate and the unit. The field with lines is the map, bright where units have many taps on it; the plain grey
# around it is the padding, as wide as the rate. Blue squares are taps that read the map; the one with a white dot is the middle tap, on the
# chosen unit itself. Vermilion ones with a cross read zeros. Find the rate at which the middle of 13 x 17 loses its
# first taps, and the rate from which on no unit has more than one. The next cell has the answers.

# %%
from segcourse.figures.atrous import describe_taps, sliding_rates

show_widget(
    sliding_rates(),
    "Buttons choose a map, sliders a rate and a unit; the nine taps of the unit are painted, blue on the map, the middle one "
    f"with a white dot, and crossed out in the padding. Now: {describe_taps((13, 17), 6, 6, 8)} At rate 12: {describe_taps((13, 17), 12, 6, 8)}",
)

# %%
taps_at = {
    rate: F.conv2d(torch.ones(1, 1, 13, 17), nine_ones, padding=rate, dilation=rate)[0, 0] for rate in range(1, 25)
}
print("the middle loses its first taps at rate", min(rate for rate, taps in taps_at.items() if taps[6, 8] < 9))
print("no unit has more than one tap from rate", min(rate for rate, taps in taps_at.items() if taps.max() == 1))

# %% [markdown]
# ### Exercise: how many taps read the map (2 points)
#
# Count over all units of the map. Loops are allowed, but with a thought for one axis none is needed.


# %%
def valid_fraction(height, width, rate):
    """Return the share of a 3x3 atrous layer's products that read the map, not the padding.

    height, width: of the map; rate: also the padding, so that the layer keeps the map's size. Whole numbers.
    Returns a number between 1/9 and 1. Example: valid_fraction(2, 3, 1) is 28/54: 4 reads of 6 down, 7 of 9 across.
    """
    # BEGIN SOLUTION
    rows = height + 2 * max(0, height - rate)
    columns = width + 2 * max(0, width - rate)
    return rows * columns / (9 * height * width)
    # END SOLUTION


# %%
check.valid_fraction(valid_fraction)

# %%
from segcourse.atrous import valid_taps
from segcourse.figures.atrous import fractions_figure

my_fraction = yours_or_ours.valid_fraction(valid_fraction)
for size in ((13, 17), (33, 33), (65, 65)):
    print(f"map {size[0]} x {size[1]}:", {rate: f"{my_fraction(*size, rate):.0%}" for rate in (6, 12, 18, 24)})
sizes = {
    "13 x 17: our scenes, stride 8": (13, 17),
    "33 x 33: 513 pixels, stride 16": (33, 33),
    "65 x 65: 513, stride 8": (65, 65),
}
show(
    fractions_figure(sizes, 70),
    "The share of taps on the map against the rate, for maps of 13 x 17, 33 x 33 and 65 x 65: at rate 1 they are "
    f"{', '.join(f'{my_fraction(*size, 1):.2f}' for size in sizes.values())}, and each falls to 1/9, which is reached at rates 17, 33 "
    "and 65.",
)

# %% [markdown]
# Chen et al. (2017) saw this on maps of 65x65: larger rates do *not* bring the context of the whole image. That is why
# v3 has the branch with the image's mean. And at output stride 16 it uses rates half as large as at 8.
#
# ## DeepLab, counted
#
# The first DeepLab (2015) turns VGG-16's dense layers into convolutions (lesson 03), thins them out to 1024 units, and
# gives the first of them, fc6, 3x3 taps at rate 12: **LargeFOV**, a large field of view. v2 has four of these heads
# side by side. Features at output stride 8, scores enlarged by 8. In its section on the field of view the paper gives
# LargeFOV 20.5 million parameters, where VGG-16's own 7x7 taps would make 134.3 million. Does the first come out?

# %%
from segcourse.models.deeplab import ASPPL, LargeFOV

with torch.device("meta"):
    for name, network in (("LargeFOV", LargeFOV()), ("ASPP-L", ASPPL())):
        parts = {part: sum(p.numel() for p in net.parameters()) for part, net in network.named_children()}
        total = sum(p.numel() for p in network.parameters())
        print(f"{name}: {total:,} parameters; features {parts['features']:,}, heads {parts['branches']:,}")
        if name == "LargeFOV":
            print("as published, 20.5 million:", round(total / 1e6, 1) == 20.5)
    print(f"fc6 of VGG-16, 7x7 and 4096 units: {7 * 7 * 512 * 4096:,} weights; of LargeFOV: {3 * 3 * 512 * 1024:,}")
    rows = profile(ASPPL(), (1, 3, 96, 128)).rows
heads = [row for row in rows if row.layer.startswith("branches")]
print(
    f"ASPP-L on 96 x 128: {sum(row.macs for row in heads) / sum(row.macs for row in rows):.0%} of the multiply-adds in heads"
)
for row in heads:
    if row.layer.endswith("fc6"):
        share = row.useful / row.macs
        print(f"{row.layer}: {share:.0%} of its products read the map, {9 * share:.2f} taps a unit")

# %% [markdown]
# Our scenes are too small for these rates: at 18 and 24 the branches are 1x1 layers, at 12 less than two taps a unit are
# left, all at the cost of 3x3 layers. (Lesson 12 is about the DeepLabs as a whole.)
#
# ## Does it help? Three tests
#
# Claims of papers rest on large trainings. What holds on a small scale? We let atrous layers meet plain ones with **the
# same weights, the same layers, the same cost**. Only the rates differ, and with them the field:
#
# 1. a **coarse head**: two layers on units 16 pixels apart, rates 2, 4, after a stem that sees 106 pixels already;
# 2. a **context module**: six layers on units 2 pixels apart, after a stem that sees 8 pixels; rates 1, 2, 4, 8, 16, 1;
# 3. **signals**, a task that we built so that distant context decides: four layers on units 2 pixels apart, after a stem
#    that sees 8 pixels; rates 1, 2, 4, 8.
#
# (The stem is the beginning of a network: here plain layers and poolings that make the map on which the others work.)
#
# The first two are the course's street scenes. In the third, each picture shows a white box and a small signal. From
# centre to centre they lie 22 to 30 pixels apart, down or across, whichever is more. If the signal is blue the box may go,
# if it is red it must stop. The box looks the same in both.
#
# In which of the three tests will the atrous network be better in all of three trainings? Decide for each, and write
# down how many.

# %%
prediction_wins = ...

# %% [markdown]
# What do the networks see? In the third test a box is 12 pixels wide and a signal 6, so at least 22 - 6 - 3 = 13 pixels
# lie between the two, and a pixel of the box has the signal at least 14 pixels away. A pixel sees a little more than a unit does: its
# scores are mixed from those of two units, down and across, when the map is enlarged. The gradient says how far it sees.

# %%
from segcourse.datasets.signals import signals
from segcourse.figures.convolutionalize import label_maps_figure
from segcourse.models.context import ContextNet

tests = {"coarse head": (4, (2, 4)), "context module": (1, (1, 2, 4, 8, 16, 1)), "signals": (1, (1, 2, 4, 8))}
for name, (halvings, rates) in tests.items():
    plain = (1,) * len(rates)
    fields = [ContextNet(3, 3, 16, halvings, chosen).field for chosen in ((), plain, rates)]
    print(
        f"{name}: a unit of the stem sees {fields[0]} pixels, after plain layers {fields[1]}, after rates {fields[2]}"
    )

far_train, far_val = signals("train", 800), signals("val", 100)
networks = {}
for name, rates in (("plain", (1, 1, 1, 1)), ("rates 1, 2, 4, 8", (1, 2, 4, 8))):
    torch.manual_seed(0)
    networks[name] = ContextNet(3, 3, width=16, halvings=1, rates=rates).to(device)
    network = copy.deepcopy(networks[name]).cpu().eval()
    cost = profile(network, (1, 3, 64, 80)).total_macs
    weights = sum(p.numel() for p in network.parameters())
    noise = torch.rand(1, 3, 96, 96, dtype=torch.double, generator=torch.Generator().manual_seed(0), requires_grad=True)
    network.double()(noise)[0, :, 48, 48].sum().backward()
    rows = noise.grad.abs().amax((0, 1, 3)).nonzero().flatten() - 48
    print(
        f"signals, {name}: {weights:,} parameters, {cost:,} multiply-adds, a pixel sees {-rows[0]} up and {rows[-1]} down"
    )

# %% [markdown]
# Train both on the signals, about 20 seconds together on one core. The box's pixels count ten times, for the background
# is nearly everything.
#
# Two scores come out. For **mean IoU** take, of each class, the pixels that are of this class in the labels *and* in the
# truth, as a share of those that are so in either; and the mean over the classes. 1 is perfect. **At boundaries** is the
# same, counted only near the borders between classes. (Lesson 09 is about both.)

# %% tags=["nbval-ignore-output"]
from segcourse.augment import crops

box_weights = torch.tensor([1.0, 10.0, 10.0])
for name, net in networks.items():
    print(name)
    train(net, crops(far_train), 500, learning_rate=1e-2, class_weights=box_weights)
scores = {name: evaluate(net, far_val) for name, net in networks.items()}
for name, score in scores.items():
    print(f"{name}: {score}")

# %% tags=["nbval-ignore-output"]
one_of_each = [int((far_val.masks.flatten(1).amax(1) == label).nonzero()[0]) for label in (1, 2)]  # go, stop
panels = {}
for number, index in enumerate(one_of_each, start=1):
    panels |= {f"{number}: picture": far_val.images[index], f"{number}: truth": far_val.masks[index]}
    panels |= {
        f"{number}: {name}": predict(net, far_val.images[index : index + 1])[0] for name, net in networks.items()
    }
figure = label_maps_figure(far_val, panels, columns=4)
figure.set_figheight(4.2)
show(
    figure,
    "Two pictures of a box and a signal, the truth, and the labels of the two networks. Both find the box. The plain one "
    f"guesses its class (mean IoU {scores['plain'].mean_iou:.2f}), the atrous one knows it "
    f"({scores['rates 1, 2, 4, 8'].mean_iou:.2f}).",
)

# %% [markdown]
# Repaint every signal, blue to red and red to blue, and look at the scores of the boxes. That the plain network does
# not move is no matter of training: the signal is not in its field.

# %%
images, is_box = far_val.images, far_val.masks > 0
is_signal = (images[:, :1] - images[:, 2:]).abs() > 0.5  # nothing else is as blue or as red
repainted = images.where(~is_signal, images.flip(1))
for name, net in networks.items():
    with torch.no_grad():
        moved = (net(images.to(device)) - net(repainted.to(device))).abs().amax(1).cpu()
    depends = (moved * is_box).flatten(1).amax(1) > 1e-3
    print(f"{name}: the scores of the box depend on the signal in {int(depends.sum())} of {len(images)} pictures")

# %% [markdown]
# One training says little. Here are three seeds of each, as `benchmarks/experiments/07_context.py` prints them. The
# first two tests are on generated streets (400 to train with, 60 to validate), 350 steps; signals on 800 pictures to
# train with and 100 to validate, 500 steps. Each step takes a batch of eight. Each seed draws its own pictures and
# weights.
#
# | network | mIoU of each seed | mean | at boundaries | mean | CPU s |
# | --- | --- | --- | --- | --- | --- |
# | coarse head, plain | 0.356 0.361 0.349 | 0.355 | 0.253 0.258 0.244 | 0.252 | 15 to 21 |
# | coarse head, rates 2 4 | 0.336 0.344 0.351 | 0.344 | 0.238 0.239 0.245 | 0.241 | 16 to 26 |
# | context module, plain | 0.366 0.379 0.382 | 0.376 | 0.310 0.314 0.319 | 0.314 | 39 to 42 |
# | context module, rates 1 2 4 8 16 1 | 0.412 0.399 0.420 | 0.410 | 0.335 0.315 0.341 | 0.331 | 30 to 43 |
# | signals, plain | 0.469 0.527 0.531 | 0.509 | 0.471 0.525 0.537 | 0.511 | 7 to 10 |
# | signals, rates 1 2 4 8 | 0.960 0.972 0.975 | 0.969 | 0.950 0.953 0.957 | 0.953 | 7 to 10 |
#
# What would guessing make on signals, if every box is found? The background then has an IoU of 1. With a share $g$ of
# boxes that may go, *always go* makes $g$ for go and 0 for stop; *always stop* makes $1 - g$ for stop and 0 for go. A
# coin calls half of the boxes go. For go it shares $g/2$ with the truth, of $g + (1 - g)/2$ that are go in either; for
# stop likewise.

# %%
mean_iou = {  # of the table: plain, then atrous
    "coarse head": ([0.356, 0.361, 0.349], [0.336, 0.344, 0.351]),
    "context module": ([0.366, 0.379, 0.382], [0.412, 0.399, 0.420]),
    "signals": ([0.469, 0.527, 0.531], [0.960, 0.972, 0.975]),
}
gains = {name: [a - p for p, a in zip(plain, atrous)] for name, (plain, atrous) in mean_iou.items()}
for name, gain in gains.items():
    print(f"{name}: the atrous network gains {min(gain):+.3f} to {max(gain):+.3f}")
reveal(
    prediction_wins, sum(min(gain) > 0 for gain in gains.values()), "tests that the atrous network wins in all seeds"
)
for seed in range(3):
    go = int((signals("val", 100, seed=seed).masks.flatten(1).amax(1) == 1).sum()) / 100  # share of the boxes
    always_go, always_stop = (1 + go + 0) / 3, (1 + 0 + 1 - go) / 3
    coin = (1 + go / 2 / (go + (1 - go) / 2) + (1 - go) / 2 / (1 - go + go / 2)) / 3
    guesses = f"always go {always_go:.2f}, always stop {always_stop:.2f}, a coin about {coin:.2f}"
    print(f"seed {seed}, {go:.0%} of the boxes may go: {guesses}; the plain network {mean_iou['signals'][0][seed]:.2f}")
coarse = valid_taps((6, 8), 4).sum() / (9 * 6 * 8)
print(f"taps on the map of the coarse head, 6 x 8 units, at rate 4: {coarse:.0%}")

# %% [markdown]
# - **The coarse head** gains nothing: it loses a little in two trainings and is even in the third. Its stem sees most of
#   the scene already, and on a map of 6x8 a rate of 4 throws most taps away.
# - **The context module** wins in all three trainings, by 0.02 to 0.05. At the boundaries it wins by less, and in one
#   training by nothing worth the name.
# - **Signals** are where it decides. The plain network finds the box and guesses. Its scores are about those of guessing
#   in the pictures of its own seed; the atrous networks lie far above.
#
# "Atrous convolution improves segmentation" is said too shortly. At equal cost it does so where something decides that
# plain layers do not reach, and where the map is large enough for its rates.
#
# ## What slides often get wrong
#
# **"A dilated kernel is larger, so it has more parameters and costs more."** Its span is larger. Weights and products
# are the same. What costs is the finer map that rates allow: VGG-16 at output stride 8, above, needed a quarter more
# multiply-adds than at 32.

# %%
for rate in (1, 6, 24):
    layer = nn.Conv2d(64, 64, 3, padding=rate, dilation=rate)
    cost = profile(layer, (1, 64, 33, 33)).total
    print(
        f"rate {rate:2}: {cost.parameters:,} parameters, {cost.macs:,} multiply-adds, {cost.useful / cost.macs:.0%} on the map"
    )

# %% [markdown]
# **"Layers with rates 1, 2 and 4 have receptive fields of 3, 7 and 15."** Stacked they have. Each by itself spans 3, 5
# and 9, and side by side they see 9.

# %%
from segcourse.receptive_field import parallel

print("stacked:", stacked_fields((1, 2, 4)), " alone:", [my_span(3, rate) for rate in (1, 2, 4)], end="  ")
print("side by side:", parallel(stack((1, 2, 4))).kernel)

# %% [markdown]
# **"Dilation grows the receptive field exponentially."** If rates double, and only then. And a large field is not one
# that is read: doubling that begins at 2 reads a quarter of it.

# %%
for name, rates in (("1, 2, 4, 8", [1, 2, 4, 8]), ("2, 4, 8, 16", [2, 4, 8, 16]), ("4, 4, 4, 4", [4, 4, 4, 4])):
    field, read = my_read(3, rates)
    print(f"rates {name}: field {field}, read {read**2 / field**2:.0%} of {field} x {field}")

# %% [markdown]
# **"The larger the rate, the more context."** For the middle unit, up to about half of the map. Beyond it there is ever
# less, and from the map's length on a 3x3 layer is a 1x1 one.

# %%
for rate in (6, 7, 8, 9, 17):
    print(f"13 x 17, rate {rate}: taps of the middle unit on the map: {int(taps_at[rate][6, 8])}")
noise = torch.randn(1, 4, 13, 17)
three = nn.Conv2d(4, 4, 3, padding=24, dilation=24)
middle_tap = F.conv2d(noise, three.weight[:, :, 1:2, 1:2], three.bias)
print("rate 24 on 13 x 17 equals its middle tap alone:", torch.allclose(three(noise), middle_tap, atol=1e-5))

# %% [markdown]
# **"In ASPP the branches are added."** In v2 the scores are. In v3 the features are concatenated, so that the layer
# after them can weigh each branch by itself.

# %%
added = sum(joined.split(8, dim=1))
print("added:", tuple(added.shape), " concatenated:", tuple(joined.shape), " after the 1x1 layer:", tuple(mixed.shape))

# %% [markdown]
# ## Quiz

# %%
quiz.what_a_rate_costs()

# %%
quiz.three_seven_fifteen()

# %%
quiz.gridding()

# %%
quiz.dense_by_rates()

# %%
quiz.beyond_the_map()

# %%
quiz.image_pooling()

# %% [markdown]
# ## Summary
#
# - A kernel of $k$ taps at rate $r$ spans $k + (k - 1)(r - 1)$ units, with $k$ weights along a side as before; padding
#   grows with the rate.
# - Subsample, convolve plainly, interlace: the same numbers.
# - Stacked, each layer adds $(k - 1) \, r$ to the field. A common factor of the rates leaves a grid of holes.
# - A stride that goes out of a network multiplies the rates and paddings of all layers after it. The coarse map stands
#   in the fine one, number for number; the fine one costs more.
# - ASPP looks at several sizes at once. Near the map's size a rate turns a 3x3 layer into a 1x1 one; the image's mean
#   does what such rates cannot.
# - At equal cost, rates help where context decides that plain layers do not reach, and only there.
#
# ## References
#
# - M. Holschneider, R. Kronland-Martinet, J. Morlet, P. Tchamitchian, "A real-time algorithm for signal analysis with
#   the help of the wavelet transform", in Wavelets, Springer 1989: the algorithme à trous.
# - K. He, X. Zhang, S. Ren, J. Sun, "Spatial pyramid pooling in deep convolutional networks for visual recognition",
#   ECCV 2014: bins of several sizes.
# - L.-C. Chen, G. Papandreou, I. Kokkinos, K. Murphy, A. L. Yuille, "Semantic image segmentation with deep
#   convolutional nets and fully connected CRFs", ICLR 2015, section 3: strides into rates, LargeFOV.
# - F. Yu, V. Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016, sections 2 and 3: rates that
#   double, the context module.
# - H. Zhao, J. Shi, X. Qi, X. Wang, J. Jia, "Pyramid scene parsing network", CVPR 2017, section 3.2.
# - L.-C. Chen and others, "DeepLab: semantic image segmentation with deep convolutional nets, atrous convolution, and
#   fully connected CRFs", TPAMI 2018, sections 3.1 and 3.2: the hole algorithm, ASPP-L.
# - L.-C. Chen, G. Papandreou, F. Schroff, H. Adam, "Rethinking atrous convolution for semantic image segmentation",
#   2017, section 3: output stride, valid taps (figure 4), ASPP with the image's mean.
# - P. Wang and others, "Understanding convolution for semantic segmentation", WACV 2018, section 3.2: gridding, and
#   rates without a common factor.
#
# ## Where next
#
# Behind you: [lesson 01](01_receptive_field.ipynb) has the arithmetic of fields, [lesson 03](03_convolutionalize.ipynb)
# shift and stitch, which rates do in one pass; [lesson 04](04_fcn_skips.ipynb) and [lesson 06](06_unet.ipynb) climb
# back up instead. [Lesson 08](08_depthwise_cost.ipynb) counts what layers cost, [lesson 09](09_metrics.ipynb) what
# scores are worth. Lesson 12 is about DeepLab as a whole.
