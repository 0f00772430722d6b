# %% [markdown]
# # 08 What it costs: group, depthwise, separable
#
# Count what a network costs before you build it, and see which of the counts the clock follows.
#
# A network is chosen for what it can do and rejected for what it costs. The cost can be told to the last product
# before a single weight is trained, by arithmetic that fits into a line. And the arithmetic shows where to save: the
# layers of this lesson give up a part of what a convolution does, and most of what it costs. After this lesson you can
#
# - **compute** the parameters, multiply-adds and activations of a convolution, dense, in groups, depthwise or transposed;
# - **derive** what a separable convolution saves, and **say** what it gives up;
# - **count** every layer of a real network, and **find** the counts that well-known tools get wrong;
# - **tell** where a network spends its work, its weights and its memory: three different places;
# - **design** a network under a budget, and **explain** why its time is not its number of products.
#
# Time: 28 minutes to read, 60 to do. Points: 13, in 6 exercises. You need lesson 01 (the size of an output) and lesson
# 02 (stamps of a transposed convolution).

# %% tags=["setup"]
import torch
import torch.nn.functional as F
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours
from segcourse.training import pick_device

start("08_depthwise_cost")
device = pick_device()

# %% [markdown]
# ## Predict
#
# VGG-16 has 138 million parameters, and nine tenths of them (89.4 %) lie in its three dense layers. How many percent of
# its *work*, its multiply-adds on an image of 224x224, is done there? Write down a number. We count it below.

# %%
prediction_dense_share = ...

# %% [markdown]
# ## One layer, one product at a time
#
# Take an input of 2 channels with 3 rows and 4 columns, and a layer of 3 kernels of 2x2, without padding. Each kernel
# reads both channels, so it has 2 · 2 · 2 = 8 weights. It has 2 · 3 = 6 places, and at each place it gives one number:
# the sum of 8 products. With 3 kernels that is 6 · 3 · 8 = 144 products. Do not believe it, count: the numbers of
# `counted` below behave like any others, and keep a tally of every product of two of them.

# %%
from segcourse.figures.depthwise_cost import Counted, counted, plain

torch.manual_seed(0)
image, kernels = torch.randn(2, 3, 4), torch.randn(3, 2, 2, 2)  # (C, H, W) and (kernels, C, rows, columns)
x, weight = counted(image), counted(kernels)
Counted.products = 0
output = [
    [[(x[:, i : i + 2, j : j + 2] * one).sum() for j in range(3)] for i in range(2)] for one in weight
]  # 3 kernels at 2 x 3 places
print("products:", Counted.products)
ours = torch.tensor([[[cell.value for cell in row] for row in plane] for plane in output])
print("same numbers as F.conv2d:", torch.allclose(ours, F.conv2d(image[None], kernels)[0], atol=1e-5))

# %% [markdown]
# In general, a convolution takes
#
# $$H \, W \, N \, K^2 \, M$$
#
# **multiply-adds** (MAC), where $H$ and $W$ are the rows and columns of the *output*, $N$ the channels of the input, $K$
# the side of the square kernels, and $M$ their number, which is that of the output's channels. Read it as $H W M$
# numbers, each of which is a sum of $N K^2$ products. (Elsewhere N is the size of the batch. Here we count one image; a
# batch costs as many times more as it has images.)
#
# A slide of a well-known lecture has 256 kernels of 5x5x3 and an output of 8x8:

# %%
print(f"{8 * 8} places · {3 * 5 * 5} weights in a kernel · 256 kernels = {8 * 8 * (3 * 5 * 5) * 256:,}")

# %% [markdown]
# Four conventions, without which two counts cannot be compared:
#
# - A multiply-add is one product and its addition. Counted apart they are two **FLOP** (floating-point operations).
# - A bias is added, not multiplied: it costs no multiply-add. Nor do ReLU, pooling and normalization; they cost time.
# - Products with zeros of the padding are done, so they count.
# - The count is that of one forward pass. (The backward pass takes about twice as many again: one set of products for
#   the gradient of the weights, one for that of the input.)
#
# ### Where the output's size comes from
#
# The formula wants the size of the output. You know it from lesson 01: padded by $P$ on both sides, a row of $n$ pixels
# has $n + 2P$, and a kernel of $K$ with stride $S$ makes $\lfloor (n + 2P - K) / S \rfloor + 1$ stops on it.
#
# ### Exercise: a convolution's multiply-adds (1 point)


# %%
def conv_macs(height, width, in_channels, out_channels, kernel, stride, padding):
    """Return the multiply-adds of a convolution.

    height, width: of the input; padding: zeros on each of its four sides.
    in_channels, out_channels: of the layer; kernel: side of its square kernels; stride: in both directions.
    All whole numbers, and so is the result. Example: conv_macs(3, 4, 2, 3, 2, 1, 0) is 144.
    """
    # BEGIN SOLUTION
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    return rows * columns * in_channels * kernel**2 * out_channels
    # END SOLUTION


# %%
check.conv_macs(conv_macs)

# %% [markdown]
# Two layers of VGG-16, near its beginning and near its end. Both are 3x3 with padding 1. By the way: what does an
# image cost that is twice as high and wide, and what do twice as many channels, in and out?

# %%
from segcourse.figures.depthwise_cost import in_whole_numbers  # your counts, if you return floats or tensors

my_macs = in_whole_numbers(yours_or_ours.conv_macs(conv_macs))
print(f"second layer, 64 to 64 channels at 224x224:    {my_macs(224, 224, 64, 64, 3, 1, 1):,}")
print(f"last 3x3 layer, 512 to 512 channels at 14x14:  {my_macs(14, 14, 512, 512, 3, 1, 1):,}")
print(
    "twice as high and wide:            ",
    my_macs(448, 448, 64, 64, 3, 1, 1) / my_macs(224, 224, 64, 64, 3, 1, 1),
    "times",
)
print(
    "twice as many channels, in and out:",
    my_macs(224, 224, 128, 128, 3, 1, 1) / my_macs(224, 224, 64, 64, 3, 1, 1),
    "times",
)

# %% [markdown]
# ## Four budgets
#
# A phone has other limits than a training machine, so "how expensive" is more than one question.
#
# | budget | what is counted | what it limits |
# | --- | --- | --- |
# | parameters | weights and biases | the file, the download, what must be learned |
# | multiply-adds | products | the arithmetic units, energy |
# | activations | numbers that convolutions and linear layers give out | what must be stored, and written |
# | bytes moved | what is read and written: input, weights, output | the way to the memory |
#
# The course's `profile(model, shape)` counts all four, layer by layer. It runs the network on PyTorch's `meta` device,
# where tensors have a shape and no numbers: nothing is computed, and no memory is used. Here are the two layers:

# %%
from segcourse.cost import profile

early = nn.Conv2d(64, 64, 3, padding=1, device="meta")
late = nn.Conv2d(512, 512, 3, padding=1, device="meta")
early_cost, late_cost = profile(early, (1, 64, 224, 224)).total, profile(late, (1, 512, 14, 14)).total
for budget in ("parameters", "macs", "activations", "bytes"):
    first, second = getattr(early_cost, budget), getattr(late_cost, budget)
    print(f"{budget:12} early {first:13,}   late {second:13,}   early / late {first / second:7.3f}")

# %% [markdown]
# The early layer has four times the work, 32 times the activations, and one sixty-fourth of the parameters. A network
# may be small in one budget and large in another.
#
# Memory is a budget of its own, because in training the activations must be *kept*: the backward pass needs them. A
# small U-Net shows it. Its parameters are there once, whatever the batch; what is kept grows with the images. It is about
# twice the activations that `profile` counts: after each convolution come a normalization, which keeps the convolution's
# output, and a ReLU, which keeps its own. (The next convolution needs the latter too; it is kept once.)

# %%
from segcourse.figures.depthwise_cost import kept_for_backward
from segcourse.models.unet import UNet

torch.manual_seed(0)
small = UNet(3, 11, width=8, padded=True, batch_norm=True)
parameters = sum(p.numel() for p in small.parameters())
kept = {n: kept_for_backward(small, torch.rand(n, 3, 96, 128)) for n in (1, 4)}
given_out = profile(small, (1, 3, 96, 128)).total.activations
print(f"parameters: {parameters:,}, which are {4 * parameters:,} bytes")
print(f"activations for one image of 96x128: {given_out:,}, which are {4 * given_out / 1e6:.1f} million bytes")
print(f"one image of 96x128 keeps {kept[1] / 1e6:.1f} million bytes, four keep {kept[4] / 1e6:.1f} million")

# %% [markdown]
# ## Groups divide the work
#
# In a dense convolution every output channel reads every input channel. With $G$ **groups** the input channels are
# dealt out, $N / G$ to each, and so are the kernels, $M / G$ to each. A kernel now reads the channels of its own group
# only. It has $N / G \cdot K^2$ weights instead of $N K^2$, and there are still $M$ of them:
#
# $$\text{weights} = M \cdot \frac{N}{G} \cdot K^2 \qquad \text{multiply-adds} = H W \cdot M \cdot \frac{N}{G} \cdot K^2$$
#
# Both are divided by $G$, once. (One group alone is smaller by $G^2$, but there are $G$ of them.) AlexNet had two
# groups in 2012 because it was spread over two graphics cards.

# %%
for groups in (1, 2, 4, 8):
    layer = nn.Conv2d(8, 16, 3, groups=groups, bias=False)
    print(f"{groups} groups: weight of shape {tuple(layer.weight.shape)}, {layer.weight.numel()} weights")

# %% [markdown]
# ### Exercise: three budgets of a layer in groups (2 points)


# %%
def layer_budgets(height, width, in_channels, out_channels, kernel, groups, bias):
    """Return parameters, multiply-adds and activations of a convolution in groups.

    height, width: of the *output*. in_channels, out_channels: of the layer, both multiples of groups.
    kernel: side of the square kernels. bias: True if the layer has one (a number for each output channel).
    Returns three whole numbers (parameters, multiply-adds, activations), activations being the numbers given out.
    Example: layer_budgets(3, 5, 4, 6, 3, 2, True) is (114, 1620, 90).
    """
    # BEGIN SOLUTION
    weights = out_channels * (in_channels // groups) * kernel**2
    parameters = weights + (out_channels if bias else 0)
    return parameters, height * width * weights, height * width * out_channels
    # END SOLUTION


# %%
check.layer_budgets(layer_budgets)

# %% [markdown]
# AlexNet's second layer, 96 to 256 channels, 5x5, an output of 27x27: as built, with two groups, and as it would be
# with others.

# %%
my_budgets = in_whole_numbers(yours_or_ours.layer_budgets(layer_budgets))
for groups in (1, 2, 4, 32):
    weights, macs, activations = my_budgets(27, 27, 96, 256, 5, groups, True)
    print(f"{groups:2} groups: {weights:9,} parameters, {macs:13,} multiply-adds, {activations:,} activations")

# %% [markdown]
# The activations do not change. If memory was what you ran out of, groups do not help.
#
# ### What the groups lose
#
# Nothing is free: an output channel no longer sees the channels of other groups. A second layer with the same groups
# does not bring them together; the network is $G$ small networks side by side that never meet. Which output channel
# depends on which input channel can be read off the gradient: blue where it is not zero, for layers from 12 channels to
# 12.

# %%
from segcourse.figures.depthwise_cost import channel_dependencies, dependency_figure


def in_groups(groups):
    """A 3x3 layer from 12 channels to 12, in groups."""
    return nn.Conv2d(12, 12, 3, padding=1, groups=groups)


networks = {
    "dense": in_groups(1),
    "3 groups": in_groups(3),
    "3 groups, twice": nn.Sequential(in_groups(3), in_groups(3)),
    "3 groups, shuffle,\n3 groups": nn.Sequential(in_groups(3), nn.ChannelShuffle(3), in_groups(3)),
    "depthwise\n(12 groups)": in_groups(12),
    "depthwise,\nthen 1x1": nn.Sequential(in_groups(12), nn.Conv2d(12, 12, 1)),
}
depends = {name: channel_dependencies(network, 12) for name, network in networks.items()}
shares = {name.replace("\n", " "): f"{grid.float().mean():.0%}" for name, grid in depends.items()}
show(
    dependency_figure(depends),
    "Six grids of 12 output channels by 12 input channels, filled where the one depends on the other. Share that is "
    f"filled: {'; '.join(f'{name}: {share}' for name, share in shares.items())}.",
)

# %% [markdown]
# Two cures. A **1x1 convolution** after the groups mixes all channels at every pixel. A **channel shuffle** (ShuffleNet)
# costs no product at all: it deals the channels of each group out to all groups of the next layer, like cards. (To all of
# them where a group has at least as many channels as there are groups, $N / G \ge G$; here 4 and 3.)

# %%
channels = torch.arange(12)
shuffled = nn.ChannelShuffle(3)(channels.view(1, 12, 1, 1).float()).flatten().int()
print("before:", channels.tolist())
print("after: ", shuffled.tolist())
print("by a reshape and a transpose:", torch.equal(channels.reshape(3, 4).T.flatten(), shuffled.long()))

# %% [markdown]
# ## Depthwise, then pointwise
#
# Take as many groups as channels, $G = N$, and as many kernels. Every channel is filtered by one kernel of its own and
# mixed with none: a **depthwise** convolution, $H W N K^2$. Then a **pointwise** one, 1x1, mixes the channels and sets
# their number, $M$: $H W N M$. In both, $H$ and $W$ are those of the depthwise layer's output, which the pointwise one
# keeps. One looks around and the other looks across; a dense layer does both at once. The pair is a **depthwise
# separable** convolution. Its share of the dense layer's cost:
#
# $$\frac{H W N K^2 + H W N M}{H W N K^2 M} = \frac{1}{M} + \frac{1}{K^2}$$
#
# For the slide's layer, 256 kernels of 5x5x3 at 8x8: 4,800 and 49,152, together 53,952 instead of 1,228,800. You will
# get these numbers out of your own function.
#
# ### Exercise: depthwise and pointwise (2 points)


# %%
def separable_macs(height, width, in_channels, out_channels, kernel, stride, padding):
    """Return the multiply-adds of a depthwise convolution and of the pointwise one after it.

    height, width: of the input; in_channels: of the input; out_channels: of the pointwise layer.
    kernel, stride, padding: of the depthwise layer. The pointwise layer is 1x1 with stride 1 and no padding.
    Returns a pair of whole numbers (depthwise, pointwise).
    Example: separable_macs(9, 14, 2, 5, 3, 2, 1) is (630, 350).
    """
    # BEGIN SOLUTION
    rows = (height + 2 * padding - kernel) // stride + 1
    columns = (width + 2 * padding - kernel) // stride + 1
    return rows * columns * in_channels * kernel**2, rows * columns * in_channels * out_channels
    # END SOLUTION


# %%
check.separable_macs(separable_macs)

# %%
from fractions import Fraction

my_separable = in_whole_numbers(yours_or_ours.separable_macs(separable_macs))
depthwise, pointwise = my_separable(8, 8, 3, 256, 5, 1, 2)  # padding 2 keeps 8x8
dense = my_macs(8, 8, 3, 256, 5, 1, 2)
print(f"depthwise {depthwise:,} + pointwise {pointwise:,} = {depthwise + pointwise:,}; dense {dense:,}")
print("share:", Fraction(depthwise + pointwise, dense), "=", Fraction(1, 256) + Fraction(1, 25), "= 1/M + 1/K²")
print(f"that is {dense / (depthwise + pointwise):.1f} times fewer")

# %% [markdown]
# The number of input channels has dropped out. With many output channels $1/M$ vanishes, and what is left is $K^2$: a
# 3x3 layer is never made more than nine times cheaper.

# %%
from segcourse.figures.depthwise_cost import saving, saving_figure

widths = [8, 16, 32, 64, 128, 256, 512, 1024]
show(
    saving_figure((3, 5, 7), widths),
    "How many times fewer multiply-adds a separable convolution takes, over 8 to 1024 output channels, for kernels of "
    f"3, 5 and 7. With 64 channels: {', '.join(f'{saving(64, k):.1f}' for k in (3, 5, 7))} times; the limits are 9, 25 "
    "and 49.",
)

# %% [markdown]
# MobileNet (Howard et al., 2017) is built of such pairs. With your two functions its whole cost is a loop:

# %%
pairs = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
pairs += [(512, 512, 1)] * 5 + [(512, 1024, 2), (1024, 1024, 1)]  # channels in, channels out, stride
first = my_macs(224, 224, 3, 32, 3, 2, 1)  # a dense layer of stride 2
size, wide, across, at_fine_maps = 112, 0, 0, first
for n, m, stride in pairs:
    depthwise, pointwise = my_separable(size, size, n, m, 3, stride, 1)
    wide, across = wide + depthwise, across + pointwise
    size = (size + 2 * 1 - 3) // stride + 1  # K = 3, P = 1
    at_fine_maps += (depthwise + pointwise) * (size >= 224 // 4)
total = first + wide + across + 1024 * 1000  # with the last dense layer
print(f"{total:,} multiply-adds; depthwise {wide / total:.1%}, pointwise {across / total:.1%}")
print(f"in layers that give maps of a quarter of the image's sides or finer: {at_fine_maps / total:.1%}")

# %% [markdown]
# These are the 569 million of the paper's table 4, and the depthwise and pointwise shares of its table 2. The 3x3
# kernels of the pairs, which do nearly all of the looking around, are 3 % of the work. Who forgets the pointwise layers
# forgets nearly everything.
#
# ## Every layer of a network
#
# For a whole network we need each layer's count, and convolutions are not all. A **linear layer** of $a$ inputs and $b$
# outputs does $a \, b$ products for every vector it is given. It works along the *last* axis: an input of shape
# (2, 49, 64) holds 2 · 49 vectors of 64 numbers, the **tokens** of a transformer.
#
# ### Transposed layers count by their input
#
# A transposed convolution stamps (lesson 02). Every number of the *input* is multiplied by a whole kernel, $K^2$ weights
# for each of the $M$ output channels, and what overlaps is added. So it takes $H W N K^2 M$ products with $H$ and $W$ of
# its **input**, and the stride does not matter. (With $G$ groups a number of the input reaches $M / G$ channels, and the
# count is divided by $G$ here too.) Count: a kernel of 3x3 and a stride of 2, on 2x2 pixels.

# %%
image, kernel = torch.randn(2, 2), torch.randn(3, 3)
x, weight = counted(image), counted(kernel)
canvas = counted(torch.zeros(5, 5))
Counted.products = 0
for i in range(2):
    for j in range(2):
        canvas[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += weight * x[i, j]  # one stamp
right = F.conv_transpose2d(image[None, None], kernel[None, None], stride=2)[0, 0]
print("same numbers as F.conv_transpose2d:", torch.allclose(plain(canvas), right, atol=1e-5))
print(f"products: {Counted.products}; by the input: {2 * 2 * 9}; by the output: {5 * 5 * 9}")

# %% [markdown]
# The last number is what thop and torchinfo count. For large maps and a stride of 2 it is about four times too large;
# here, where the map is tiny, 225 / 36 = 6.25 times. (What this lesson says of tools was found by running thop
# 0.1.1.post2209072238, torchinfo 1.8.0 and the counter of torch 2.13 on such layers. `tests/test_cost.py` holds most of
# their numbers, each as the exact count with one mistake added.)
#
# ### Attention multiplies without weights
#
# In a transformer each token (a vector of $d$ numbers, say for a patch of the image) collects from all $n$ tokens what it
# needs. Linear layers make three vectors of each token: a *query*, what it looks for; a *key*, what it can be found by;
# a *value*, what it hands on. Each query is multiplied with each key, which gives $n^2$ scores, and the values are added
# up with the scores as weights.
#
# So **self-attention** has four linear layers, for queries, keys, values and the result. But the queries are also
# multiplied with the keys, and the scores with the values: $n^2 d$ products each. No parameter takes part, and a counter
# that goes through layers with weights does not see them.

# %%
n, d = 5, 4
attention = nn.MultiheadAttention(d, 1, bias=False, batch_first=True).eval()
tokens = torch.randn(n, d)
w_q, w_k, w_v = (counted(w.T) for w in attention.in_proj_weight.detach().chunk(3))
Counted.products = 0
q, k, v = counted(tokens) @ w_q, counted(tokens) @ w_k, counted(tokens) @ w_v
projections = Counted.products
scores = plain(q @ k.T) / d**0.5
mixed = counted(scores.softmax(-1)) @ v
between = Counted.products - projections
result = plain(mixed @ counted(attention.out_proj.weight.detach().T))
with torch.no_grad():
    theirs = attention(tokens[None], tokens[None], tokens[None], need_weights=False)[0][0]
print("same numbers as nn.MultiheadAttention:", torch.allclose(result, theirs, atol=1e-5))
print(f"products: {Counted.products}, of which {between} = 2 · {n}² · {d} have no weight in them")
print("the course's profile:", profile(attention, (1, n, d), (1, n, d), (1, n, d)).total_macs)

# %% [markdown]
# ### Exercise: a small profiler (3 points)
#
# A model knows its layers, but not the sizes of its maps; those only a run can tell. A **forward hook** is a function
# that PyTorch calls after each run of a layer, with the layer, its inputs (a tuple) and its output:

# %%
tiny = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU()), nn.ConvTranspose2d(4, 2, 4, 2))
handles = [
    layer.register_forward_hook(
        lambda layer, inputs, output, name=name: print(
            f"{name}: weight {tuple(layer.weight.shape)}, {tuple(inputs[0].shape)} -> {tuple(output.shape)}"
        )
    )
    for name, layer in tiny.named_modules()
    if hasattr(layer, "weight")
]
tiny(torch.zeros(1, 3, 9, 11))
for handle in handles:
    handle.remove()

# %% [markdown]
# Why `name=name`? A function looks the names in it up when it runs. All these hooks run after the loop, and a plain `name`
# would be the last layer's for each of them. A default value is fixed when the function is made. (A function that takes
# the name and returns the hook does the same.)
#
# `named_modules()` walks through all layers, however deeply they are nested. Mind the axes of the two weights: a
# convolution's is (M, N / G, rows, columns), a transposed one's is (N, M / G, rows, columns). Kernels need not be square.
#
# In a failing case, `encoder`, `middle`, `decoder` and `head` list the layers of the model's four parts (or of fewer),
# and `order` says in which order the model runs them. A part may run twice: then its layers work twice.
#
# The course has such a counter, `profile`. But what you can write yourself you can mend, where a tool does not know your
# layer: write it with hooks. (A check here takes `profile` for an answer too; where answers are graded, it is not there.)


# %%
def macs_by_layer(model, shape):
    """Return the multiply-adds of each convolution, transposed convolution and linear layer.

    model: nn.Module whose layers with weights are nn.Conv2d, nn.ConvTranspose2d and nn.Linear, at any depth, with any
    kernel, stride, padding, dilation and groups. Each of them runs at least once; when it runs several times, all count.
    shape: of the input, batch included; run the model on zeros of that shape. Leave the model as you found it: take your
    own hooks off, and no others; its parameters and its mode (training or evaluation) stay or are put back.
    Returns a dict from the layer's name in model.named_modules() to the multiply-adds of the whole batch, whole numbers.
    Example: for `tiny` above and (1, 3, 9, 11): {"0.0": 2160, "1": 2560}.
    """
    # BEGIN SOLUTION
    macs = {}

    def count(name):
        def hook(layer, inputs, output):
            stamps = isinstance(layer, nn.ConvTranspose2d)
            numbers = inputs[0].numel() if stamps else output.numel()
            macs[name] = macs.get(name, 0) + numbers * layer.weight[0].numel()

        return hook

    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(count(name)))
    with torch.no_grad():
        model(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    return macs
    # END SOLUTION


# %%
check.macs_by_layer(macs_by_layer)

# %% [markdown]
# Now the networks of the earlier lessons, at full size, as in their papers. On the `meta` device they need neither
# memory nor time. Their papers' sizes: VGG-16 at 224x224, FCN-8s at 500x500, SegNet at 360x480, U-Net at 572x572. A
# right profiler can fail there, say because its zeros come from NumPy: the cell then says so and goes on with ours.

# %%
from segcourse.models.fcn import FCN
from segcourse.models.segnet import SegNet
from segcourse.models.vgg import VGG16

my_profiler = in_whole_numbers(yours_or_ours.macs_by_layer(macs_by_layer))
papers = {
    "VGG-16": (VGG16, (1, 3, 224, 224)),
    "FCN-8s": (FCN, (1, 3, 500, 500)),
    "SegNet": (SegNet, (1, 3, 360, 480)),
    "U-Net": (UNet, (1, 1, 572, 572)),
}
counts, costs = {}, {}
for name, (network, shape) in papers.items():
    with torch.device("meta"):
        model = network().eval()
        costs[name] = profile(model, shape)
        try:
            counts[name] = my_profiler(model, shape)
        except Exception as problem:
            print(f"(your function does not run on the meta device: {type(problem).__name__}; ours counts for it)")
            counts[name] = {row.layer: row.macs for row in costs[name].by(lambda row: row.layer).rows}
    same = sum(counts[name].values()) == costs[name].total_macs
    print(f"{name}: {costs[name].total_macs:15,} multiply-adds, the same by your count and by the course's: {same}")

# %% [markdown]
# `profile` looks beneath the layers, at the operations that PyTorch runs. So it also sees what is multiplied outside of
# layers (attention, `F.conv2d`, matrix products), and it refuses an operation that it does not know instead of counting
# zero. Its table for VGG-16: `by_stage(2)` adds up the layers whose names agree in their first two words, *share* is of
# all multiply-adds, *useful* leaves out products with padded zeros, and *calls* says how many times a layer of the stage
# ran.

# %%
costs["VGG-16"].by_stage(2)

# %% [markdown]
# ## The balance of a network
#
# Which part of the network is the expensive one? The layers' names have the answer in them: `features.stage1.conv2` is
# a layer of `features`, and of `features.stage1`. A **stage** is all layers whose names agree in the first few words.
#
# ### Exercise: the most expensive stage (2 points)


# %%
def dearest_stage(rows, depth):
    """Return the stage with the most multiply-adds, and its share of them.

    rows: a list of (name, parameters, multiply-adds), one for each layer; names are words with dots between them.
    A stage may come back later in the list. If two stages cost the same, either may be returned.
    depth: how many words of a name make the stage: of "down.1.conv2" they are "down" for 1 and "down.1" for 2. A layer
    whose name has no more words than that, say "fc6" for 2, is a stage by itself.
    Returns a pair (name of the stage, its share of all multiply-adds, from 0 to 1 and not rounded).
    Example: dearest_stage([("a.0", 5, 40), ("b.0", 9, 50), ("a.1", 7, 35)], 1) is ("a", 0.6).
    """
    # BEGIN SOLUTION
    stages = {}
    for layer, _, macs in rows:
        stage = ".".join(layer.split(".")[:depth])
        stages[stage] = stages.get(stage, 0) + macs
    dearest = max(stages, key=lambda stage: stages[stage])
    return dearest, stages[dearest] / sum(stages.values())
    # END SOLUTION


# %%
check.dearest_stage(dearest_stage)

# %%
my_dearest = yours_or_ours.dearest_stage(dearest_stage)
for name, cost in costs.items():
    dearest, share = my_dearest([(row.layer, row.parameters, row.macs) for row in cost.rows], 2)
    stages = {row.layer: row for row in cost.by_stage(2).rows}
    most = max(row.parameters for row in stages.values())
    work = [stage for stage, row in stages.items() if row.macs == stages[dearest].macs]
    weights = [stage for stage, row in stages.items() if row.parameters == most]
    each = " each" if len(work) > 1 else ""
    print(f"{name}: most work in {', '.join(work)}: {float(share):.1%}{each}")
    print(f"    most parameters in {', '.join(weights)}: {most / cost.total.parameters:.1%}")
dense_layers = sum(macs for layer, macs in counts["VGG-16"].items() if layer.startswith("classifier"))
percent = round(100 * dense_layers / sum(counts["VGG-16"].values()), 1)
reveal(prediction_dense_share, percent, "percent of VGG-16's work in its dense layers", close=2)

# %% [markdown]
# Less than one percent of the work for nine tenths of the parameters. A weight of a dense layer is used once; a weight of
# the first layer is used 224 · 224 times.
#
# Where several stages are named, they cost exactly the same: twice the channels on half the sides, or a decoder that
# mirrors its encoder. In U-Net `merge.0` is the first step back up, on maps of an eighth of the image's sides, and
# `down.4` is the bottom, at a sixteenth.
#
# Now by resolution instead of by name: 1/1 are the layers that give maps of full size, 1/2 those after one halving.

# %%
from segcourse.figures.depthwise_cost import balance_figure


def fine(cost, budget):
    """The share of a budget in the layers of 1/4 and finer."""
    levels = cost.by_resolution()
    spent = sum(getattr(row, budget) for row in levels.rows if row.layer in ("1/1", "1/2", "1/4"))
    return spent / getattr(levels.total, budget)


titles = {f"{name}, {shape[2]}x{shape[3]}": costs[name] for name, (_, shape) in papers.items()}
show(
    balance_figure(titles),
    "Bars of the shares of multiply-adds, parameters and activations by resolution for four networks. At 1/4 and finer: "
    + "; ".join(
        f"{name} {fine(cost, 'macs'):.0%} of the work, {fine(cost, 'parameters'):.0%} of the parameters, "
        f"{fine(cost, 'activations'):.0%} of the activations"
        for name, cost in costs.items()
    )
    + ".",
)

# %%
for budget in ("macs", "parameters", "activations"):
    print(
        f"{budget:12} at 1/4 and finer:", ", ".join(f"{name} {fine(cost, budget):.0%}" for name, cost in costs.items())
    )

# %% [markdown]
# In these four networks the fine maps hold half of the work or more (in MobileNet it was a fifth), a seventh of the
# parameters at most, and more than four fifths of the activations. It is often said that "the first layers are the most
# expensive". Not so: as long as channels double where the sides halve, a layer from C to C channels costs the same at
# each level (the one that doubles them costs half), and how much work a level has depends on how many layers it has.
# VGG's last stage is the exception. Its channels stay at the 512 of `stage4`, and so a layer costs a quarter of one from
# 512 to 512 there: 9.0 % for the stage, where `stage4` has 29.9 %. The first layer, of three channels, is even cheap. What
# the first level has most of is activations.
#
# So where do you save? Parameters: deep down, or in the dense layers (SegNet dropped VGG's, and kept the work). Work:
# at the fine levels, by fewer channels or separable layers. Memory: at the finest, by halving the size early.
#
# ## Design under a budget
#
# Now the other way round: the budget is given, and the network is wanted. Take a chain of layers, each with its
# nonlinearity, whose output sizes are fixed. The first one reads an image of 3 channels; all give out $C$ channels, and
# so the second and the later ones also read $C$. There are two kinds of chains: of dense layers only, and of separable
# layers only, in which each layer is a depthwise convolution on all its input channels and a pointwise one. How wide may
# the chain be?
#
# For maps of 4x6 and 2x3 and dense layers of 3x3 with $C = 5$: the first layer takes 24 · 3 · 9 · 5 = 3,240, the second 6
# · 5 · 9 · 5 = 1,350 multiply-adds, 4,590 together.
#
# ### Exercise: the widest network under a budget (3 points)


# %%
def widest_network(maps, kernel, separable, budget):
    """Return the most channels with which a chain of layers stays within a budget of multiply-adds.

    maps: a list of one pair or more (rows, columns), the size of each layer's output; sizes may repeat. The first layer
    reads 3 channels, each later one as many as the chain is wide; every layer gives out as many as the chain is wide.
    kernel: side of the kernels; separable: True if all layers are depthwise and pointwise pairs, False if all are dense.
    budget: of all layers together; a chain that costs exactly the budget is within it.
    Returns a whole number, 0 if not even a chain of one channel is within the budget.
    Example: widest_network([(4, 6), (2, 3)], 3, False, 8000) is 7, with True in place of False it is 26.
    """

    # BEGIN SOLUTION
    def cost(channels):
        total, inputs = 0, 3
        for rows, columns in maps:
            if separable:
                total += rows * columns * inputs * (kernel**2 + channels)
            else:
                total += rows * columns * inputs * kernel**2 * channels
            inputs = channels
        return total

    channels = 0
    while cost(channels + 1) <= budget:
        channels += 1
    return channels
    # END SOLUTION


# %%
check.widest_network(widest_network)

# %% [markdown]
# A separable layer of 3x3 is nearly nine times cheaper. Under the same budget, how many times *wider* can a chain of them
# be? Write down a guess before you run the next cell.

# %%
prediction_wider = ...

# %%
my_widest = in_whole_numbers(yours_or_ours.widest_network(widest_network))
chain = [(96, 128), (48, 64), (48, 64), (24, 32), (24, 32), (24, 32)]
for budget in (10**7, 10**8, 10**9, 10**10):
    narrow, broad = (my_widest(chain, 3, separable, budget) for separable in (False, True))
    print(f"{budget:14,} multiply-adds: {narrow:4} channels dense, {broad:4} separable: {broad / narrow:.2f} times")
reveal(prediction_wider, round(broad / narrow, 2), "times wider, with the largest budget", close=0.5)

# %% [markdown]
# About three times, not nine: the cost grows with the square of the width.
#
# Now design a block yourself. It gets 64 channels of 56x56, and the bars show its costs against those of a dense 3x3
# layer from 64 to 64 channels. The groups are those of the convolution; with *separable* on, the first layer is depthwise
# anyway, and they divide the 1x1 layer after it. Find a 7x7 block of stride 1 within all three budgets. Then try it with
# separable layers, still of stride 1: which budget stops you, and why?

# %%
from segcourse.figures.depthwise_cost import block_design, describe_block

show_widget(
    block_design(),
    "Controls for kernel, channels, groups, separable and stride above three bars, multiply-adds, parameters and "
    f"activations against their budgets. Now: {describe_block(3, 64, 1, False, 1)}",
)

# %% [markdown]
# In eight groups it fits, among others. A separable pair writes two maps where a dense layer writes one, so at stride 1
# its activations are over the budget, with however few channels, while its work is a fifth of it. Stride 2 makes both
# maps smaller, and the pair fits:

# %%
print(describe_block(7, 64, 8, False, 1))
print(describe_block(7, 64, 1, True, 1))
print(describe_block(7, 16, 1, True, 1))
print(describe_block(7, 64, 1, True, 2))

# %% [markdown]
# ## Time is not FLOPs
#
# A depthwise layer with 64 channels takes 64 times fewer multiply-adds than the dense one. How many times faster will it
# run? Write down a guess.

# %%
prediction_faster = ...

# %% [markdown]
# The products are not all. Weights and numbers must be brought to the arithmetic units, and the results carried back. How
# many multiply-adds are done for each byte that is moved is a layer's **arithmetic intensity**:

# %%
from segcourse.figures.depthwise_cost import layers_to_time, machine_limits, measure, roofline_figure

torch.manual_seed(0)
layers = layers_to_time(64)
for name, layer in layers.items():
    cost = profile(layer, (1, 64, 56, 56)).total
    print(f"{name:14} {cost.macs:12,} multiply-adds, {cost.bytes:10,} bytes: {cost.intensity:6.1f} for each byte")

# %% [markdown]
# A machine has two limits. Its arithmetic units do so many multiply-adds a second and no more; that is a flat **roof**.
# And its memory brings so many bytes a second. At $I$ multiply-adds for each byte, the memory allows
#
# $$\text{speed} = \text{bandwidth} \cdot I,$$
#
# a **slope**. The lower one of the two holds. The drawing is called a **roofline** (Williams, Waterman and Patterson,
# 2009). Where slope and roof meet is the **corner**: a layer to the left of it has to wait for bytes, however fast the
# arithmetic is.
#
# The next cell measures all of it:
#
# - the roof: a large matrix product, or the fastest layer, if one is faster;
# - the solid slope: a copy of a large tensor, from memory to memory;
# - the dashed slope: a ReLU on the map that the layers get. It reads and writes the same bytes as the depthwise layer and
#   multiplies nothing. A small map stays in a cache, so this slope may be the steeper one;
# - the five layers.
#
# Each runs once to warm up. Of several repeats the fastest counts: other programs make a run slower, never faster. Times
# are CPU seconds of one thread (on a GPU, wall time).

# %% tags=["nbval-ignore-output"]
*measured, relu = measure({**layers, "ReLU": nn.ReLU()}, (1, 64, 56, 56), device)
peak, bandwidth = machine_limits(device)
of_the_map = 2 * 4 * 64 * 56 * 56 / relu.seconds  # bytes a second: float32, in and out
dense_one, depth_one = measured[1], measured[3]
slower = dense_one.speed / depth_one.speed
show(
    roofline_figure(measured, peak, bandwidth, of_the_map),
    "Measured speed over intensity, below the two roofs of this machine and the slope of a ReLU on the same map. "
    + ", ".join(f"{one.name}: {one.speed / 1e9:.3g} thousand million multiply-adds a second" for one in measured)
    + ".",
)
fewer, faster = dense_one.cost.macs / depth_one.cost.macs, dense_one.seconds / depth_one.seconds
print(f"depthwise 3x3, against dense 3x3: {fewer:.0f} times fewer multiply-adds, {faster:.1f} times less time")
print(f"so each of its multiply-adds takes {slower:.1f} times as long")
print(f"time as a multiple of ReLU's: dense {dense_one.seconds / relu.seconds:.0f},", end=" ")
print(f"depthwise {depth_one.seconds / relu.seconds:.1f}")
roof = max(peak, *(one.speed for one in measured))
print(f"corner of the solid slope at {roof / bandwidth:.1f} multiply-adds a byte, of the dashed one at", end=" ")
print(f"{roof / of_the_map:.1f}; depthwise has {depth_one.cost.intensity:.1f}")
reveal(prediction_faster, round(dense_one.seconds / depth_one.seconds, 1), "times faster on this machine", close=3)

# %% [markdown]
# The depthwise layer is faster, but by far less than its count says. With about one multiply-add for each byte it lies to
# the left of both corners, so that a slope limits it and not the roof. Is it the bytes, then? ReLU moves the same ones, and
# the dense layer takes dozens of times as long as ReLU. If the depthwise layer waited for bytes only, it would be dozens
# of times faster than the dense one. It is not, and on the CPU that built this page it does not even reach the solid
# slope. So neither its products nor its bytes explain most of its time: the program does, the loops that the library runs
# for such a layer. A roofline tells what can be hoped for, and only a measurement what is.
#
# `benchmarks/roofline.py` measures three maps. Here are the lowest and the highest of some forty rounds at several moments,
# on one thread of a shared machine. Another machine, or another moment, can differ by half.
#
# | channels, map | multiply-adds: dense / depthwise | time: dense / depthwise | time for each multiply-add: depthwise / dense | time: depthwise / ReLU |
# | --- | --- | --- | --- | --- |
# | 32, 112x112 | 32 | 3 to 5 | 6 to 10 | 4 to 5 |
# | 64, 56x56 | 64 | 5 to 8 | 8 to 13 | 6 to 11 |
# | 256, 28x28 | 256 | 21 to 37 | 7 to 12 | 6 to 10 |
#
# A count is exact, and the same everywhere. Time is what you feel, and it belongs to a machine, a program and a size.
# Compare counts to design; measure before you promise.
#
# ## What slides often get wrong
#
# **"VGG-16 takes 15 GFLOPs."** It takes 15.5 thousand million multiply-adds, which are 30.9 GFLOP. Papers write FLOPs
# for either, so look for the definition before you compare two tables: the mistake is a factor of two.

# %%
vgg = costs["VGG-16"].total
print(f"{vgg.macs / 1e9:.2f} thousand million multiply-adds, {2 * vgg.macs / 1e9:.2f} GFLOP")
print(f"and with a product for each bias, as torchinfo counts, {(vgg.macs + vgg.activations) / 1e9:.2f}")

# %% [markdown]
# **"A transposed convolution takes kernel times output."** That is what thop and torchinfo count. The stamps above
# were 36 products, the formula says 225. On the paper's U-Net the mistake is 11 % of the whole.

# %%
by_output = 0
for row in costs["U-Net"].rows:
    by_output += 4 * row.macs if row.operation.startswith("transposed") else row.macs  # 2x2 kernels, stride 2
right_count = costs["U-Net"].total_macs
print(
    f"U-Net: {right_count:,}; transposed layers by their output: {by_output:,}, {by_output / right_count - 1:.1%} more"
)

# %% [markdown]
# **"A linear layer takes inputs times outputs."** For one vector. With 49 tokens it is 49 times as much; torchinfo looks
# at the first axis only, that of the batch, and counts one token an image.

# %%
linear = nn.Linear(6, 4, bias=False)
vectors = torch.randn(1, 7, 6)  # one image of 7 tokens
Counted.products = 0
out = plain(counted(vectors) @ counted(linear.weight.detach().T))
print("same numbers as nn.Linear:", torch.allclose(out, linear(vectors), atol=1e-5))
print(f"7 vectors: {Counted.products} products, {6 * 4} by the slide and by torchinfo;", end=" ")
print(f"profile says {profile(linear, (1, 7, 6)).total_macs}")

# %% [markdown]
# **"Attention costs its four projections."** The products between tokens grow with the square of their number. A tool
# that looks at layers with weights misses them, as thop does; of an `nn.MultiheadAttention` it counts nothing, not even
# the projections. So does PyTorch's own counter, where that layer runs as one fused operation, and of
# `F.scaled_dot_product_attention` on a CPU it misses the products between tokens.

# %%
attention = nn.MultiheadAttention(64, 4, batch_first=True).eval()
for tokens_count in (49, 196, 1024, 4096):
    everything = profile(attention, *[(1, tokens_count, 64)] * 3).total_macs
    four = 4 * tokens_count * 64 * 64
    print(
        f"{tokens_count:5} tokens: {everything:15,} multiply-adds, the projections are {four / everything:.0%} of them"
    )

# %% [markdown]
# **"A separable convolution is the same layer, factored."** It is another layer. A dense 3x3 layer has a kernel of its
# own for each pair of an input and an output channel. A separable one has, for all outputs, the same kernel on an input
# channel, up to a factor. Only dense weights of that kind can be factored: seen as a matrix of (outputs, 9 taps), the
# kernels of one input channel must have rank 1.

# %%
torch.manual_seed(0)
depthwise_layer = nn.Conv2d(6, 6, 3, groups=6, bias=False)
pointwise_layer = nn.Conv2d(6, 8, 1, bias=False)
pair = nn.Sequential(depthwise_layer, pointwise_layer)
as_dense = nn.Conv2d(6, 8, 3, bias=False)
print("of a dense layer, input channel 0:", int(torch.linalg.matrix_rank(as_dense.weight[:, 0].flatten(1))))
with torch.no_grad():  # weight (M, N, 3, 3) = pointwise (M, N) · depthwise (N, 3, 3)
    as_dense.weight.copy_(pointwise_layer.weight * depthwise_layer.weight.transpose(0, 1))
print("of a separable one, written as dense:", int(torch.linalg.matrix_rank(as_dense.weight[:, 0].flatten(1))))
probe = torch.randn(2, 6, 9, 7)
print("same outputs:", torch.allclose(pair(probe), as_dense(probe), atol=1e-5))

# %% [markdown]
# ## Quiz

# %%
quiz.twice_the_image()

# %%
quiz.separable_limit()

# %%
quiz.two_grouped_layers()

# %%
quiz.where_the_parameters_are()

# %%
quiz.transposed_count()

# %%
quiz.out_of_memory()

# %%
quiz.not_as_fast()

# %% [markdown]
# ## Summary
#
# - A convolution takes $H W N K^2 M$ multiply-adds, with $H$ and $W$ of the output; a transposed one with those of its
#   input; a linear layer works on every vector along the last axis; attention adds $2 n^2 d$.
# - Groups divide weights and work by $G$, once, and no activations. They cut the channels apart; a 1x1 layer or a shuffle
#   brings them together.
# - Depthwise and pointwise together take $1/M + 1/K^2$ of a dense layer. The share $K^2 / (K^2 + M)$ of that is
#   depthwise: with many channels nearly all is the pointwise part.
# - In the four networks here, fine maps hold the activations and half of the work or more; coarse ones hold the
#   parameters. MobileNet's fine maps hold a fifth of its work.
# - Nine times cheaper layers buy a network three times wider.
# - The clock counts more than products. A layer's speed is at most bandwidth · intensity, and the program may keep it
#   far below.
#
# ## References
#
# - A. Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications",
#   arXiv:1704.04861, 2017: section 3.1 (the ratio), tables 1 and 2 (the layers, and where the work is).
# - F. Chollet, "Xception: deep learning with depthwise separable convolutions", CVPR 2017: the same pair, as the limit of
#   an Inception module.
# - X. Zhang, X. Zhou, M. Lin, J. Sun, "ShuffleNet: an extremely efficient convolutional neural network for mobile
#   devices", CVPR 2018, section 3.1: the channel shuffle.
# - A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012,
#   sections 3.2 and 3.5: two cards, and which layers are in two groups for that.
# - S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore
#   architectures", Communications of the ACM 52(4), 2009.
# - N. Ma, X. Zhang, H.-T. Zheng, J. Sun, "ShuffleNet V2: practical guidelines for efficient CNN architecture design",
#   ECCV 2018, section 2: measured time against FLOPs.
# - I. Radosavovic et al., "Designing network design spaces", CVPR 2020, section 4: activations, and how well they tell
#   the time.
#
# ## Where next
#
# [Lesson 02](02_transposed.ipynb) has the stamps, [lesson 03](03_convolutionalize.ipynb) the waste of windows,
# [lesson 05](05_segnet_unpooling.ipynb) what dropping the dense layers saves, and [lesson 07](07_atrous.ipynb) large maps
# whose cost you can count now. [Lesson 09](09_metrics.ipynb) measures what a network is worth. Lesson 12 puts separable
# convolutions into DeepLab, and lesson 13 counts a transformer.
