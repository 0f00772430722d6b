# %% [markdown]
# # 01 Receptive-field arithmetic
#
# Say how much of the image one output pixel sees, for any network.
#
# A network that labels pixels decides each label from a patch of the image. If the patch is smaller than a car, the
# network cannot know that it looks at one. How large the patch is follows from the layers. After this lesson you can
#
# - **compute** the kernel, the stride and the padding of the one layer that a whole chain of layers amounts to;
# - **locate** what an output sees: first pixel, last pixel, centre;
# - **predict** what dilation, branches and upsampling do to that patch;
# - **read** a real `nn.Module` as one convolution, by hand and by tracing;
# - **measure** how much each pixel in the patch really counts.
#
# Time: 40 minutes to read, 50 to do. Points: 13, in 7 exercises. You need lesson 00, and to know what a convolution
# with a kernel and a stride computes.

# %% tags=["setup"]
import torch
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start
from segcourse.lesson import yours_or_ours

start("01_receptive_field")

# %% [markdown]
# ## Predict
#
# The **receptive field** of an output, *field* for short, is the stretch of the image from the first pixel that can
# change the output to the last. Pixels that are stepped over in between count too. We count along a row of pixels: in
# a convolution rows and columns never mix, so a field of 5 means a square of 5 x 5 pixels.
#
# Write down two numbers before you go on. Wrong ones are the most useful.
#
# 1. A convolution with kernel 5 and stride 3 is followed by one with kernel 3 and stride 2. How many pixels in a row
#    does one output see?
# 2. VGG-16 has thirteen 3x3 convolutions in groups of 2, 2, 3, 3 and 3, and a 2x2 pooling of stride 2 after each group.
#    How many pixels in a row does one value after the last pooling see?

# %%
prediction_two_layers = ...
prediction_vgg = ...

# %% [markdown]
# ## One layer, read backwards
#
# A layer has a **kernel** of K weights in a row, its *taps*, and a **stride** S. Output 0 reads the pixels 0 to K - 1, output 1
# begins S pixels later, and so on. All outputs of a layer together are its *map*; one of them that another layer reads is
# a *unit*. Below: K = 3, S = 2, and what output 1 reads. Every box stands above the middle of what it reads.

# %%
from segcourse.figures.receptive_field import ladder, ladder_words
from segcourse.receptive_field import Layer

layers = [Layer(kernel=3, stride=2)]
show(ladder(layers, position=1, image=7), ladder_words(layers, position=1, image=7))

# %% [markdown]
# Most textbooks go forwards: how many outputs do I get? For the field we go backwards: how many pixels, from the first
# to the last, do $n_\text{out}$ neighbouring outputs need? The first needs K of them; each further one needs S more
# (slides often write $D$ for $n$; we keep D for dilation):
#
# $$n_\text{in} = S\,(n_\text{out} - 1) + K$$
#
# With K = 3 and S = 2, two outputs need 2 (2 - 1) + 3 = 5 pixels. PyTorch agrees, along both axes of a 5x5 image.
# With all weights 1, an output is the sum of the pixels that it reads; work the second one out by hand first.

# %%
picture = torch.arange(25.0).reshape(1, 1, 5, 5)  # (N, C, H, W); rows 0 to 4, 5 to 9, ...
layer = nn.Conv2d(1, 1, kernel_size=3, stride=2, bias=False)
nn.init.ones_(layer.weight)
outputs = layer(picture)
print("shape of the outputs:", tuple(outputs.shape))
print("output (0, 1):", outputs[0, 0, 0, 1].item())
print("by hand:      ", sum([2, 3, 4, 7, 8, 9, 12, 13, 14]))

# %% [markdown]
# ## Two layers in a row
#
# Put a second layer on top. One of its outputs reads $K_2$ neighbouring units of the first layer. So it sees what
# $K_2$ outputs of the first layer need: that is the formula above, with $n_\text{out} = K_2$. Two examples to check
# it on: two 3x3 layers of stride 1 see 5 pixels; and here the first of them has stride 2.

# %%
layers = [Layer(kernel=3, stride=2), Layer(kernel=3)]
show(ladder(layers, position=0, image=11), ladder_words(layers, position=0, image=11))

# %% [markdown]
# The second layer looks at three windows of the first. The first window covers 3 pixels, each further one begins 2
# pixels later. The windows overlap, so adding the kernels counts pixels twice.
#
# ### Exercise: the kernel of two layers (1 point)
#
# Replace the dots, run the cell, then the check below it. If you are stuck, `hint.compound_kernel()` in a cell of your
# own gives a nudge, and more of one each time; `solution.compound_kernel()` shows a solution. So it is with every exercise.


# %%
def compound_kernel(kernel_1, stride_1, kernel_2):
    """Return the kernel of the one convolution that sees as much as two in a row, first pixel to last.

    kernel_1, stride_1: of the layer that reads the image, whole numbers.
    kernel_2: of the layer on top of it, a whole number.
    Returns a whole number. Example: compound_kernel(3, 1, 3) is 5.
    """
    # BEGIN SOLUTION
    return kernel_1 + (kernel_2 - 1) * stride_1
    # END SOLUTION


# %%
check.compound_kernel(compound_kernel)

# %%
my_kernel = yours_or_ours.compound_kernel(compound_kernel)
reveal(prediction_two_layers, my_kernel(5, 3, 3), "pixels seen through both layers")

# %%
layers = [Layer(kernel=5, stride=3), Layer(kernel=3, stride=2)]
show(ladder(layers, position=0, image=17), ladder_words(layers, position=0, image=17))

# %% [markdown]
# Note what does *not* matter: the second layer's own stride says where its next output begins, and nothing about this
# one.
#
# L layers of 3x3, all of stride 1: each one adds 2. The well-known formula 1 + 2L is this and no more.

# %%
field = 1
for depth in range(1, 6):
    field = my_kernel(field, 1, 3)
    print(f"{depth} layers of 3x3: {field} pixels")

# %% [markdown]
# ## Strides multiply
#
# In the last figure, output 1 stands 6 pixels to the right of output 0: two units of the first layer, each 3 pixels
# apart. The distance in pixels between neighbouring outputs is the **jump**. It is the stride of the compound layer.
#
# A layer's stride therefore acts *later*: it leaves its own field as it is, and moves the taps of every layer after it
# further apart.
#
# ### Exercise: the jump of a chain (1 point)


# %%
def compound_stride(strides):
    """Return how many image pixels lie between neighbouring outputs of a chain of layers.

    strides: a list of the layers' strides, the first layer's first; at least one.
    Returns a whole number. Example: compound_stride([3, 2]) is 6.
    """
    # BEGIN SOLUTION
    jump = 1
    for stride in strides:
        jump = jump * stride
    return jump
    # END SOLUTION


# %%
check.compound_stride(compound_stride)

# %% [markdown]
# ## A whole network is one layer
#
# Two layers in a row behave like one layer, with a kernel and a stride of its own. Then so do three, and a hundred.
# For a chain of convolutions and poolings (which have a kernel and a stride too) there are two
# numbers K and S with $n_\text{in} = S\,(n_\text{out} - 1) + K$ for the network as a whole.
#
# To find them you need no new formula. Ask the last layer how many of its inputs it needs; the layer before it has to
# deliver just that many.
#
# ### Exercise: the input that a map needs (2 points)
#
# The first line is given: before any layer is undone, the size is that of the outputs.


# %%
def input_size(output_size, layers):
    """Return how many pixels neighbouring outputs need, from the first that they read to the last.

    output_size: how many neighbouring outputs, along one axis.
    layers: a list of (kernel, stride), the first layer first; no padding.
    Returns a whole number; pixels stepped over in between count too. Example: input_size(3, [(3, 2)]) is 7.
    """
    size = output_size
    # BEGIN SOLUTION
    for kernel, stride in reversed(layers):
        size = stride * (size - 1) + kernel
    return size
    # END SOLUTION


# %%
check.input_size(input_size)

# %% [markdown]
# Now read a real network with it: Inception-v3. Most of its layers are padded (zeros around the input, the next section)
# so that the map keeps its size; only seven, one behind the other, make it smaller. Here they are, poolings included.

# %%
my_input_size = yours_or_ours.input_size(input_size)
unpadded = [(3, 2), (3, 1), (3, 2), (3, 1), (3, 2), (3, 2), (3, 2)]
for wanted in (1, 2, 8):
    print(f"a map of {wanted} needs {my_input_size(wanted, unpadded)} pixels")

# %% [markdown]
# Two of these numbers tell all. A map of 1 needs the kernel: K = 75. A map of 2 needs S more: S = 107 - 75 = 32.
# As far as sizes go, all of Inception-v3 is *one convolution with kernel 75 and stride 32*:
#
# $$n_\text{in} = 32\,(n_\text{out} - 1) + 75 = 32\,n_\text{out} + 43$$
#
# Its images have 299 pixels: just what a last map of 8 x 8 needs. Does PyTorch agree? The image below is 299 high and
# only 75 wide.

# %%
chain = nn.Sequential(*[nn.Conv2d(1, 1, kernel, stride) for kernel, stride in unpadded])
print("map of a 299 x 75 image:", tuple(chain(torch.zeros(1, 1, 299, 75)).shape[2:]))
try:
    chain(torch.zeros(1, 1, 299, 74))
except RuntimeError:
    print("74 pixels: a kernel no longer fits")

# %% [markdown]
# Keep the 75 in mind: it answers one question, *how small may the image be?*
#
# ## Where the field lies
#
# **Padding** P puts P zeros before a layer's first input and P after the last. Windows stay as wide as they were; they only
# begin earlier. Count positions from the *centre* of pixel 0, which therefore reaches from -0.5 to 0.5. Output i sees
#
# $$\text{first} = iS - P \qquad \text{last} = iS - P + K - 1 \qquad \text{centre} = iS - P + \tfrac{K-1}{2}$$
#
# Even kernels have their centre between two pixels: a 2x2 pooling looks at the pixels 0 and 1, centre 0.5. Positions
# below 0 are in the padding. The example has a 3x3 layer (P = 1), a 2x2 pooling and another 3x3 layer (P = 1).

# %%
layers = [Layer(3, padding=1), Layer(2, stride=2), Layer(3, padding=1)]
picture = ladder(layers, position=0, image=10, margin=3)
show(picture, ladder_words(layers, position=0, image=10))

# %% [markdown]
# Output 0 has a field of 8 pixels, as every output has, and three of them hang over the edge. A dashed box is a zero. It
# reads nothing; the pale lines below it only show what it would read if the image had no end. We count such places, so that
# all outputs have one field, only elsewhere. Padding moved it to the left, by 3 in all; it did not widen it.
#
# ### Exercise: where a field lies (2 points)
#
# The centre is found like the input size: undo the last layer first. A place on a layer's output becomes a place on its
# input, and half pixels are welcome. The first line is given.


# %%
def field_centre(position, layers):
    """Return the middle of the pixels that an output sees; 0 is the centre of pixel 0.

    position: which output, counted from 0.
    layers: a list of (kernel, stride, padding), the first layer first.
    Returns a number, often with a half. Example: field_centre(0, [(2, 2, 0)]) is 0.5.
    """
    centre = position
    # BEGIN SOLUTION
    for kernel, stride, padding in reversed(layers):
        centre = centre * stride - padding + (kernel - 1) / 2
    return centre
    # END SOLUTION


# %%
check.field_centre(field_centre)

# %% [markdown]
# What is it good for? Both networks below turn an image of 224 pixels, whose middle is 111.5, into a map of 7. The one that
# halves by 2x2 pooling looks at places that are spread evenly. The one that halves by 3x3 layers of stride 2 and padding 1
# looks too far to the left. Whoever enlarges such a map to label pixels has to know that.

# %%
my_centre = yours_or_ours.field_centre(field_centre)
by_pooling = 5 * [(3, 1, 1), (2, 2, 0)]
by_stride = 5 * [(3, 1, 1), (3, 2, 1)]
for name, layers in (("by pooling", by_pooling), ("by stride ", by_stride)):
    centres = [my_centre(i, layers) for i in range(7)]
    print(f"{name}: {', '.join(f'{x:g}' for x in centres)}; mean {sum(centres) / 7:g}")

# %% [markdown]
# ## Dilation spreads the taps
#
# **Dilation** D places the taps of a kernel D units apart. K taps have K - 1 spaces between them, each D wide, so a
# dilated kernel reaches over (K - 1) D + 1 units: 3 taps with D = 2 reach over 5. There are still 3 weights.
#
# Now you have all that a layer can do: kernel, stride, padding, dilation, in the order in which `nn.Conv2d` takes them.
# One pixel sees itself: field 1, jump 1. Go through the layers from the first to the last, and keep both numbers
# up to date.
#
# ### Exercise: the field of any chain (2 points)


# %%
def receptive_field(layers):
    """Return the receptive field of one output: the pixels from the first seen to the last.

    layers: a list of (kernel, stride, padding, dilation), the first layer first.
    Returns a whole number. Positions in the padding count, as if the image had no end.
    Example: receptive_field([(3, 1, 1, 1), (3, 1, 2, 2)]) is 7.
    """
    # BEGIN SOLUTION
    field = 1
    jump = 1
    for kernel, stride, _padding, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field
    # END SOLUTION


# %%
check.receptive_field(receptive_field)

# %% [markdown]
# ## Play: one layer between two others
#
# Below: a 3x3 layer, *your* layer, and another 3x3 layer. Click an output, move the sliders, and find
#
# - the slider that moves a field and never widens it;
# - the slider that leaves the field of layer 2 as it is and widens the field of the output;
# - a setting that leaves holes in layer 1, and one that leaves holes in the image (only one kernel size does it).
#
# Pale with a full border: a real unit, but reached only through padding, so it cannot change the output. Like the pale
# lines, it counts for the size only.

# %%
import ipywidgets as widgets

from segcourse.figures.receptive_field import play, play_words
from segcourse.widgets import live_image

controls = [
    widgets.ToggleButtons(options=[(f"output {i}", i) for i in range(5)], value=2),
    widgets.IntSlider(3, 1, 5, description="kernel K"),
    widgets.IntSlider(2, 1, 4, description="stride S"),
    widgets.IntSlider(1, 0, 4, description="padding P"),
    widgets.IntSlider(1, 1, 3, description="dilation D"),
]
controls[0].style.button_width = "6em"
widget = live_image(controls, play, width="860px", describe=play_words)
words = "Buttons for the output; sliders for kernel, stride, padding, dilation of layer 2. "
show_widget(widget, words + play_words(2, 3, 2, 1, 1))

# %% [markdown]
# ## 75 or 1311?
#
# Here is the longest way through Inception-v3, padded layers included. Your function gives its field.

# %%
my_field = yours_or_ours.receptive_field(receptive_field)
conv3, conv7, shrink = (3, 1, 1, 1), (7, 1, 3, 1), (3, 2, 0, 1)
inception = [shrink, (3, 1, 0, 1), conv3, shrink, (1, 1, 0, 1), (3, 1, 0, 1), shrink]
inception += 7 * [conv3] + [shrink] + 9 * [conv7] + [shrink] + 4 * [conv3]
print("receptive field:", my_field(inception))

# %% [markdown]
# 1311, and not 75? Both are right; they answer different questions. With padding, $n_\text{out}$ outputs need fewer
# pixels than they look at, because P positions on either side may be padding:
#
# $$n_\text{in} = S\,(n_\text{out} - 1) + K - 2P$$
#
# Undo the layers for the first position of output 0, and you have the compound padding. The package does it for you.

# %%
from segcourse.receptive_field import compound

whole = compound(Layer(*layer) for layer in inception)
print(f"K = {whole.kernel}, S = {whole.stride}, P = {whole.padding}")
print("K - 2P =", whole.kernel - 2 * whole.padding)

# %% [markdown]
# - **How small may an image be?** 75 pixels: one window of 1311, of which 618 on either side are padding.
# - **How far does an output see?** In a large image, one in the middle sees 1311 *real* pixels. On an image of 299, each
#   output can see all of it.
#
# ## Branches: the largest field wins
#
# A residual block computes $x + f(x)$; an inception block runs several branches over one input and joins their
# channels. The layers before the branches are the *stem*. A pixel is in the field of the result if it can change it
# through *any* branch. The branches' fields lie on top of each other, centred on the same pixel, so the largest covers
# the others. They do not add up. (Were the centres different, the union could be larger than each; not here.)
#
# ### Exercise: the field of a block with branches (2 points)
#
# You may call your `receptive_field`.


# %%
def block_field(stem, branches):
    """Return the receptive field where branches that start at the stem's output are joined.

    stem: a list of (kernel, stride, padding, dilation), the first layer first.
    branches: a list of such lists; an empty one is a shortcut that passes its input on. All
        have the same stride, and such padding that their fields have one centre.
    Returns a whole number.
    Example: block_field([(3, 2, 1, 1)], [[(3, 1, 1, 1), (3, 1, 1, 1)], []]) is 11.
    """
    # BEGIN SOLUTION
    fields = []
    for branch in branches:
        size, step = 1, 1
        for kernel, stride, _padding, dilation in stem + branch:
            size = size + (kernel - 1) * dilation * step
            step = step * stride
        fields.append(size)
    return max(fields)
    # END SOLUTION


# %%
check.block_field(block_field)

# %% [markdown]
# Such a block in PyTorch: a strided stem, then four branches in the manner of Inception. `trace` runs a network once without
# computing numbers, and follows every tensor. For each module it returns a field along the height and one along the width:
# its size, jump and padding, and as `start` the *centre* of output 0's field. The name "" stands for the whole network.

# %%
from segcourse.tracing import trace


class Parallel(nn.Module):
    """Runs branches over one input and joins their channels."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):  # (N, C, H, W) -> (N, sum of the branches' channels, H, W)
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def same_conv(kernel, stride=1):
    return nn.Conv2d(1, 1, kernel, stride, padding=kernel // 2)


# %%
block = nn.Sequential(
    same_conv(3, stride=2),
    Parallel(
        same_conv(1),
        nn.Sequential(same_conv(1), same_conv(5)),
        nn.Sequential(same_conv(3), same_conv(3), same_conv(3)),
        nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), same_conv(1)),
    ),
)
fields = trace(block, shape=(1, 32, 40))
for name in ("0", "1.branches.0", "1.branches.1", "1.branches.2", "1.branches.3", "1"):
    height, width = fields[name]
    print(f"{name:12} {width}")

# %%
my_block = yours_or_ours.block_field(block_field)
conv1, conv5 = (1, 1, 0, 1), (5, 1, 2, 1)
branches = [[conv1], [conv1, conv5], [conv3, conv3, conv3], [conv3, conv1]]
print("by arithmetic:", my_block([(3, 2, 1, 1)], branches))

# %% [markdown]
# ## Reading a real network
#
# Now the second prediction, after each of the five poolings of VGG-16. One channel in the first stage will do.

# %%
from segcourse.models.vgg import vgg16_features

vgg = vgg16_features(width=1)
fields = trace(vgg, shape=(3, 224, 224))
for stage in range(1, 6):
    print(f"pool{stage}: {fields[f'stage{stage}.pool'][0]}")
vgg_field = fields["stage5.pool"][0].size
reveal(prediction_vgg, vgg_field, "pixels that VGG-16 sees after its last pooling")

# %% [markdown]
# Is it true? A third way knows nothing of layers: take one output, ask autograd for its gradient, and look where it is
# not zero. `probe` does that on a copy whose weights are all positive, so that nothing can cancel, and whose max-poolings
# average: a maximum would pass the gradient to one input of four.

# %%
from segcourse.receptive_field import probe

reached = probe(vgg, shape=(3, 300, 260))  # for the middle output; (H, W)
print("rows with a gradient:", reached.any(dim=1).sum().item())

# %% [markdown]
# ResNets are built from blocks with a shortcut: 1x1, 3x3, 1x1, and the input added. The paper (He et al. 2016) strides in
# the first 1x1 layer of a block; torchvision strides in the 3x3 layer. That looks like a detail. Which one sees more?


# %%
class Bottleneck(nn.Module):
    """The block of ResNet-50 and -101, with one channel: three layers, plus a shortcut."""

    def __init__(self, stride_1x1=1, stride_3x3=1):
        super().__init__()
        first = same_conv(1, stride_1x1)
        self.path = nn.Sequential(first, same_conv(3, stride_3x3), same_conv(1))
        self.shortcut = same_conv(1, stride_1x1 * stride_3x3)

    def forward(self, x):
        return self.path(x) + self.shortcut(x)


def resnet(blocks, strides):
    """Return a ResNet; `blocks` a stage, and the two `strides` of a block that halves."""
    layers = [same_conv(7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
    for stage, count in enumerate(blocks):
        halving = Bottleneck(*strides) if stage > 0 else Bottleneck()
        layers += [halving] + [Bottleneck() for _ in range(count - 1)]
    return nn.Sequential(*layers)


# %%
for name, blocks in (("ResNet-50", (3, 4, 6, 3)), ("ResNet-101", (3, 4, 23, 3))):
    for where, strides in (("1x1", (2, 1)), ("3x3", (1, 2))):
        height, width = trace(resnet(blocks, strides), shape=(1, 224, 224))[""]  # all of it
        print(f"{name:10} stride in the {where}: {width}")

# %% [markdown]
# A stride acts on what comes after it. In the 1x1 layer it comes one layer earlier, and widens the 3x3 layer of its own
# block too: 483 against 427, 1027 against 971.
#
# 483 and 1027 are also what Araujo, Norris and Sim (Distill 2019) print. Two more of theirs with your function, and all
# against an image of 224 pixels:

# %%
from segcourse.figures.receptive_field import field_bars

alexnet = [(11, 4, 0, 1), shrink, conv5, shrink, conv3, conv3, conv3, shrink]
mobilenet = [(3, stride, 1, 1) for stride in (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)]
networks = {
    "AlexNet": my_field(alexnet),
    "VGG-16": vgg_field,
    "MobileNet-v1": my_field(mobilenet),
    "ResNet-50": trace(resnet((3, 4, 6, 3), (2, 1)), (1, 224, 224))[""][0].size,
    "ResNet-101": trace(resnet((3, 4, 23, 3), (2, 1)), (1, 224, 224))[""][0].size,
    "Inception-v3": my_field(inception),
}
words = ", ".join(f"{name} {size}" for name, size in networks.items())
words = f"Bars of the receptive field in pixels: {words}; a line marks an image of 224."
show(field_bars(networks, image=224), words)

# %% [markdown]
# From MobileNet on, the field is larger than such an image. Whether an output *uses* all of it is another question.
#
# ## After upsampling, the phase decides
#
# Networks that label pixels enlarge their maps again. A **transposed convolution** (lesson 02) with stride 2 makes two
# outputs of each unit. They sit at different places over the coarse map, and need not see the same number of pixels:
# which of the two an output is, is its **phase**. Here: a 3x3 layer of stride 2, and a transposed 3x3 layer back.

# %%
from segcourse.figures.receptive_field import phases
from segcourse.receptive_field import Field

down, up = Layer(3, stride=2, padding=1), Layer(3, stride=2, padding=1, transposed=True)
field = Field.of([down, up])  # a chain again, but with one field for each phase
even, odd = field.sizes
words = f"For 8 outputs the pixels seen: {even} for even outputs, {odd} for odd ones."
show(phases(field, outputs=8), words)

# %% [markdown]
# Even outputs read one coarse unit, odd outputs read two. So after a decoder there is no such thing as *the* field.
# FCN-8s (lesson 04) puts a 7x7 layer on VGG-16 and enlarges by 2, by 2 and by 8: 32 phases.

# %%
from collections import Counter

vgg_layers = []
for convolutions in (2, 2, 3, 3, 3):
    vgg_layers += convolutions * [Layer(3, padding=1)] + [Layer(2, stride=2)]
dense = Layer(7)
double = Layer(4, stride=2, transposed=True)
eightfold = Layer(16, stride=8, transposed=True)
print("after pool5:", compound(vgg_layers).kernel)
print("after the 7x7 layer:", compound([*vgg_layers, dense]).kernel)
print("after doubling once:", dict(Counter(Field.of([*vgg_layers, dense, double]).sizes)))
whole = Field.of([*vgg_layers, dense, double, double, eightfold])
print("after all three, pixels seen and in how many phases:", dict(sorted(Counter(whole.sizes).items())))

# %% [markdown]
# A kernel of 4 with stride 2 gives every output two units to read, so doubling once makes no difference in size. Later some
# outputs read two units that see the same pixels, others two that do not: eight of the 32 phases see 436 pixels, the
# others 468. (FCN-8s also adds scores from earlier layers, by skips. They see less, and lie inside.)
#
# ## Which pixels are really read
#
# A field reaches from the first pixel that is read to the last. Not every pixel between them need be read.
#
# - A *stride larger than the kernel* steps over places that then no output of the layer reads.
# - A *dilation* steps over places that other outputs read. With dilation 2 in every layer, neighbouring outputs have no
#   pixel in common, and their results can disagree like the squares of a chessboard (*gridding*; [lesson 07](07_atrous.ipynb)).
#
# ### Exercise, a stretch: the pixels that are really read (3 points)
#
# Positions below 0 lie in the padding; keep them, so that every output of a layer has a field of the same shape.


# %%
def pixels_seen(position, layers):
    """Return the pixels that output `position` really reads, each once.

    position: which output, counted from 0.
    layers: a list of (kernel, stride, padding, dilation), the first layer first.
    Returns a list of whole numbers, in any order.
    Example: pixels_seen(3, [(3, 1, 2, 2)]) is [1, 3, 5].
    """
    # BEGIN SOLUTION
    seen = {position}
    for kernel, stride, padding, dilation in reversed(layers):
        taps = range(kernel)
        seen = {unit * stride - padding + tap * dilation for unit in seen for tap in taps}
    return sorted(seen)
    # END SOLUTION


# %%
check.pixels_seen(pixels_seen)

# %%
from segcourse.figures.receptive_field import read_share, touched

my_pixels = yours_or_ours.pixels_seen(pixels_seen)
patterns = {}
for dilations in ((1, 1, 1), (2, 2, 2), (1, 2, 4)):
    name = f"dilations {', '.join(map(str, dilations))}"
    patterns[name] = my_pixels(0, [(3, 1, 0, dilation) for dilation in dilations])
words = "; ".join(f"{name}: {read_share(seen):.0%} read" for name, seen in patterns.items())
show(touched(patterns), f"Squares of 7, 13 and 15 pixels, filled where read. {words}.")

# %% [markdown]
# Dilations 2, 2, 2 share a factor, and more than two thirds of the pixels are not read by this output. Dilations 1, 2, 4
# reach further and leave no hole.
#
# ## How much each pixel counts
#
# The field says which pixels *can* change an output, not by how much. A pixel at a corner of the field is reached by a
# single way through the layers; a pixel in the middle by very many. Luo et al. (2016) took the gradient of an output with
# respect to every pixel and called the region where it is not small the **effective receptive field**.
#
# In a stack of L layers of 3x3, each layer blurs the gradient once more. The blurs add up to a bell curve, whose width
# grows with $\sqrt{L}$, while the field grows with L. So the share of the field that counts should shrink like $1/\sqrt{L}$.
#
# Three untrained networks of each depth tell. `effective_field` returns the gradient's *square*, averaged over 8 images of
# noise. `effective_size` takes the root, counts the pixels above 4.55 % of the largest, and returns the side of a square of
# so many. (The threshold is Luo et al.'s; to measure it from the largest value is our choice.)

# %%
from segcourse.figures.receptive_field import field_maps, plain_stack, ratio_lines
from segcourse.receptive_field import effective_field, effective_size

depths = [4, 8, 16, 32]
runs = []  # for each seed the maps of the four depths
for seed in range(3):
    torch.manual_seed(seed)
    images = [torch.randn(8, 3, 1 + 2 * depth, 1 + 2 * depth) for depth in depths]
    runs.append([effective_field(plain_stack(d), x) for d, x in zip(depths, images)])

# %% tags=["nbval-ignore-output"]
maps = {f"{depth} layers": squared for depth, squared in zip(depths, runs[0])}
sides = {name: effective_size(squared) for name, squared in maps.items()}
words = "; ".join(f"{name}: effective {side:.1f}" for name, side in sides.items())
words = f"Maps of the gradient over fields of 9, 17, 33 and 65, fading outwards. {words}."
show(field_maps(maps, sides), words)

# %% [markdown]
# Each map shows a whole field; the orange square is as large as the effective one. Now as a share of the field:

# %% tags=["nbval-ignore-output"]
ratios = [[effective_size(squared) / squared.shape[-1] for squared in run] for run in runs]
words = "; ".join(", ".join(f"{ratio:.2f}" for ratio in run) for run in ratios)
words = f"Effective field over field at 4, 8, 16 and 32 layers, falling, for three seeds: {words}."
show(ratio_lines(depths, {"untrained, 3 seeds": ratios}), words)

# %%
falls = [run == sorted(run, reverse=True) for run in ratios]
growth = [effective_size(run[3]) / effective_size(run[1]) for run in runs]  # 32 layers against 8
print("the ratio falls with every doubling of the depth, in each seed:", falls)
print("four times as deep, about twice as wide:", [1.7 < factor < 2.3 for factor in growth])

# %% [markdown]
# Two warnings. **The square root is about layers of stride 1.** Pooling makes every later step longer: in VGG-16,
# untrained, on pieces of a photograph (NASA, public domain), the effective field is about 0.7 of the 212 pixels wide.
# The less a pixel counts, the darker it is. The squares are not in the middle, for the output is (4, 4) of 8 x 8, and its
# centre pixel 143.5.

# %% tags=["nbval-ignore-output"]
from segcourse.figures.receptive_field import field_on_picture
from skimage.data import astronaut

photo = torch.tensor(astronaut()).permute(2, 0, 1) / 255  # (3, 512, 512)
pieces = photo.unfold(1, 256, 128).unfold(2, 256, 128)  # (3, 3, 3, 256, 256)
pieces = pieces.flatten(1, 2).transpose(0, 1)  # (9, 3, 256, 256)
torch.manual_seed(0)
vgg = vgg16_features(width=8).eval()
squared = effective_field(vgg, (pieces - pieces.mean()) / pieces.std())  # for output (4, 4)

side = effective_size(squared)
centre = compound(vgg_layers).centre(4)  # 4 * 32 + 15.5
squares = {"field": (vgg_field, centre), "effective": (side, centre)}
words = f"A portrait, dark where pixels hardly count; squares of 212 and {side:.0f} pixels."
show(field_on_picture(astronaut()[:256, 96:352], squares, squared), words)

# %% [markdown]
# **What training does to it depends on the task.** Luo et al. saw it grow. We trained eight 3x3 layers (effective 13.5 to
# 13.9 before) to label coloured blobs, three times each. With little noise a pixel's own colour decides, and it shrank to
# 10.1, 10.4 and 11.2. With heavy noise the neighbours are needed, and it stayed: 13.6, 13.7 and 14.1. (The script is
# `benchmarks/experiments/01_effective_field_in_training.py`.)
#
# ## What slides often get wrong
#
# | said | true |
# | --- | --- |
# | "The field of L layers of 3x3 is 1 + 2L." | Only for stride 1 and dilation 1. With stride 2 in the first of three it is 11, not 7; two layers, a 2x2 pooling and two more see 14, not 9. |
# | "Dilations 1, 2, 4 have the fields 3, 7, 15." | One behind the other, yes. Each on its own sees 3, 5, 9; side by side they see 9. |
# | "Padding enlarges the receptive field." | It moves the field. What it enlarges is the map. |
# | "Two 3x3 layers are a 5x5 layer." | They see as much. With nothing between them (a ReLU ends it), every pair is some 5x5 kernel; but it has 18 weights, not 25, and few 5x5 kernels are such a pair. |
# | "Inception-v3 has a receptive field of 75." | 75 is the smallest image; the field is 1311. |

# %%
print("stride first:", my_field([(3, 2, 1, 1), conv3, conv3]))
print("with a pooling:", my_field([conv3, conv3, (2, 2, 0, 1), conv3, conv3]))
dilated = [(3, 1, dilation, dilation) for dilation in (1, 2, 4)]
print("dilated, one behind the other:", [my_field(dilated[:count]) for count in (1, 2, 3)])
print("dilated, each on its own:", [my_field([layer]) for layer in dilated])
print("dilated, side by side:", my_block([conv1], [[layer] for layer in dilated]))
print("without padding:", my_field(3 * [(3, 1, 0, 1)]), "and with:", my_field(3 * [conv3]))

# %% [markdown]
# That every pair of 3x3 layers (one channel, nothing between them) is a 5x5 layer: put an impulse through, and you hold
# its kernel, turned upside down and left to right, as `conv2d` does not mirror its kernel. `flip` turns it back.

# %%
generator = torch.Generator().manual_seed(0)
first, second = torch.randn(2, 1, 1, 3, 3, generator=generator).double()
image = torch.randn(1, 1, 9, 12, generator=generator).double()
impulse = torch.zeros(1, 1, 9, 9).double()
impulse[0, 0, 4, 4] = 1

conv2d = nn.functional.conv2d
kernel = conv2d(conv2d(impulse, first), second).flip(2, 3)
once, twice = conv2d(image, kernel), conv2d(conv2d(image, first), second)
print(f"kernel {tuple(kernel.shape[2:])}, same result:", torch.allclose(once, twice))

# %% [markdown]
# ## Quiz

# %%
quiz.stride_effect()

# %%
quiz.padding_effect()

# %%
quiz.pointwise_effect()

# %%
quiz.shortcut_effect()

# %%
quiz.two_sizes()

# %%
quiz.effective_size()

# %% [markdown]
# ## Summary
#
# - Backwards, a layer is $n_\text{in} = S\,(n_\text{out} - 1) + K$; a chain of layers is one layer with its own K, S and P.
# - A layer adds (K - 1) D jumps to the field; the jump is the product of the strides *before* it.
# - Padding moves the field. Branches lie on top of each other: the largest counts. After upsampling, phases differ.
# - K answers how far an output can see, K - 2P how small the image may be.
# - What counts is less than what is seen: for plain 3x3 layers the share falls like one over the root of the depth.
#
# ## References
#
# - A. Araujo, W. Norris, J. Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019. The
#   recurrences, the centres and the figures of published networks.
# - W. Luo, Y. Li, R. Urtasun, R. Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural
#   Networks", NIPS 2016. Section 2: the square root of the depth; section 3: how it is measured.
# - K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015. Section
#   2.3: why small kernels are stacked.
# - K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
# - C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016. Inception-v3.
#
# ## Where next
#
# [02 Transposed convolution](02_transposed.ipynb) shows what the upsampling layers compute, and
# [03 Convolutionalizing dense layers](03_convolutionalize.ipynb) uses n_in = 32 n_out + 43 the other way: what does a
# classifier return on an image that is larger than it was made for? Fields that grow without pooling are the matter of
# [lesson 07](07_atrous.ipynb). What a mask is, and where your progress is kept, stands in
# [lesson 00](00_start_here.ipynb).
