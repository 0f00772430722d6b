# %% [markdown]
# # 03 Convolutionalizing dense layers
#
# Turn a classifier of patches into a network that scores a whole image in one pass: same weights, same numbers, a
# fraction of the work.
#
# The first networks that segmented images were classifiers: they looked at the patch around a pixel and named the
# pixel. They worked, but slowly: neighbouring patches are nearly the same, and everything was computed again for each.
# One idea removed the waste and became the "fully convolutional" in FCN. After this lesson you can
#
# - **compute** how many windows fit into an image, and how often the same product is computed window by window;
# - **rewrite** a dense layer as a convolution with the same weights, the first one and the later ones;
# - **convert** a whole classifier, and **show** that its heat map equals its sliding window;
# - **decide** which layers make that impossible, and repair those that can be repaired;
# - **compute** scores at every pixel from coarse heat maps, by shift and stitch, and **say** what that costs.
#
# Time: 30 minutes to read, 55 to do. Points: 12, in 6 exercises. You need lesson 01 (stride, what an output sees),
# and to have trained one classifier.

# %% tags=["setup"]
import torch
import torch.nn.functional as F
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours
from segcourse.training import least_seconds, pick_device, train

start("03_convolutionalize")
device = pick_device()

# %% [markdown]
# ## Predict
#
# VGG-16 was trained on images of 224x224. Five poolings halve them to 7x7, three dense layers follow, and out come
# 1000 scores. In this lesson the dense layers become convolutions with the same weights. Then an image of 384x384 goes
# in, and out comes a map of scores, the **heat map**.
#
# How many rows and columns has it? Write down a pair, such as `(10, 10)`. We come back to it.

# %%
prediction_heatmap = ...

# %% [markdown]
# ## A classifier for one patch
#
# Here are scenes with masks, as in lesson 00. The course generates them; with CamVid on your computer, the same cells
# read the real frames. A **patch** is what is cut out of a scene, a **window** the place where it is cut. The label of
# a patch is the class of its centre pixel.

# %%
from segcourse.datasets import load
from segcourse.figures.convolutionalize import label_name, patches_figure

train_set, val_set = load("train", count=200), load("val", count=24)
corners = [(2, 8), (46, 60), (60, 16), (30, 92)]
labels = [label_name(train_set, 3, (row + 16, column + 16)) for row, column in corners]
show(
    patches_figure(train_set, 3, corners, window=32),
    f"A street scene of {train_set.size[0]} x {train_set.size[1]} pixels, its mask, and four patches of 32 x 32. "
    f"The classes of their centres: {', '.join(labels)}.",
)
print(train_set)

# %% [markdown]
# To segment a scene this way, slide the window over it and classify each patch. Cireşan et al. (2012) did so for every
# pixel of electron-microscope images, and won a segmentation challenge with it.
#
# ## How many windows there are
#
# A window of length $P$ (for patch) moves along a row of $N$ pixels in steps of $s$, its **stride**. It must stay
# inside. The first one begins at pixel 0, the last one at $N - P$ at the latest. Take $N = 11$, $P = 5$, $s = 3$:
#
#     pixels     0  1  2  3  4  5  6  7  8  9 10
#     window 0   [-----------]
#     window 1            [-----------]
#     window 2                     [-----------]
#
# Three windows fit exactly. With $N = 13$ there are still three, and two pixels at the end are in none of them. With a
# window for each output, the windows' count is the size of the heat map, and you do this for rows and for columns. A
# size is always given as (rows, columns), as in a tensor's shape (N, C, H, W).
#
# ### Exercise: how many windows fit (1 point)


# %%
def heatmap_size(height, width, window, stride):
    """Return how many rows and columns of windows fit into an image.

    height, width: of the image, in pixels; neither is smaller than the window.
    window: side of the square windows; stride: step from window to window. All whole numbers.
    Returns a pair (rows, columns). Example: heatmap_size(11, 13, 5, 3) is (3, 3).
    """
    # BEGIN SOLUTION
    return (height - window) // stride + 1, (width - window) // stride + 1
    # END SOLUTION


# %%
check.heatmap_size(heatmap_size)

# %%
my_size = yours_or_ours.heatmap_size(heatmap_size)
for step in (32, 4, 1):
    rows, columns = my_size(96, 128, 32, step)
    print(f"a scene of 96 x 128, windows of 32, stride {step:2d}: {rows} x {columns} = {rows * columns} windows")

# %% [markdown]
# ## What is computed again and again
#
# The classifier begins with a convolution. Look at a row of 8 pixels, windows of 5, and a kernel of 3, all moving one
# pixel at a time, without padding. Inside a window the kernel has 5 - 3 + 1 = 3 places. There are 4 windows, so it is
# laid down 4 · 3 = 12 times. But the row as a whole has only 8 - 3 + 1 = 6 places: the left part of the figure shows
# which window computes which.
#
# The right part is our scene with windows of 32 every 4 pixels: 17 x 25 of them, as printed above. A kernel of 5 has
# 32 - 5 + 1 = 28 places along each side of a window. To count how often a place is computed, stamp a block of ones for
# each window and add. (`conv_transpose` does just that; lesson 02 is about it, here it only counts.)

# %%
from segcourse.figures.convolutionalize import overlap_figure

row_counts = F.conv_transpose1d(torch.ones(1, 1, 4), torch.ones(1, 1, 3))  # 4 windows, 3 places each: (1, 1, 6)
print("times that each place is computed:", row_counts[0, 0].int().tolist(), "in all", int(row_counts.sum()))

scene_counts = F.conv_transpose2d(torch.ones(1, 1, 17, 25), torch.ones(1, 1, 28, 28), stride=4)[0, 0]  # (92, 124)
show(
    overlap_figure(8, 5, 3, scene_counts, "windows of 32 every 4 pixels, kernel of 5"),
    f"Left: four windows of a row, the three places of the kernel in each; places are computed "
    f"{row_counts[0, 0].int().tolist()} times. Right: the same for the {scene_counts.shape[0]} x "
    f"{scene_counts.shape[1]} places of a 5 x 5 kernel in a scene of 96 x 128: once in the corners, "
    f"{int(scene_counts.max())} times inside.",
)

# %% [markdown]
# Every one of these repetitions gives the same number: the kernel and the pixels below it are the same. Computing each
# place once for the whole scene, and letting the windows share it, loses nothing.
#
# The cost of a convolution is counted in **multiply-adds** (one product, added to a sum). At one place, a kernel of
# $k \times k$ reads all input channels, and each output channel has a kernel of its own: $k^2 \, C_\text{in} \,
# C_\text{out}$ multiply-adds. The number of places is what differs between the two ways. The one pass visits all places
# of the image, also those at the edge that lie in no window.
#
# ### Exercise: windows against one pass (2 points)


# %%
def macs_both_ways(height, width, window, stride, kernel, in_channels, out_channels):
    """Return a layer's multiply-adds window by window, and in one pass over the image.

    height, width: of the image; window, stride: of the square windows.
    kernel, in_channels, out_channels: of a convolution with a square kernel, stride 1, no padding. It is applied to
    the pixels: to each window by itself, or once to the whole image, wherever the kernel fits. No bias.
    Returns a pair (all windows together, one pass). All whole numbers.
    Example: for a 5x8 image, windows of 5 every pixel, a kernel of 3, 2 channels in, 4 out: (2592, 1296).
    """
    # BEGIN SOLUTION
    rows = (height - window) // stride + 1
    columns = (width - window) // stride + 1
    in_a_window = (window - kernel + 1) ** 2
    in_the_image = (height - kernel + 1) * (width - kernel + 1)
    each = kernel**2 * in_channels * out_channels
    return rows * columns * in_a_window * each, in_the_image * each
    # END SOLUTION


# %%
check.macs_both_ways(macs_both_ways)

# %% [markdown]
# Our classifier, `PatchClassifier`, has this first layer: 5x5, 3 channels in, 16 out. Two more convolutions and two
# dense layers follow. How many times is the work of one pass done, window by window? The one pass has stride 4, from its
# two poolings. So for all layers together we compare it with windows every 4 and every 32 pixels: it holds their scores.

# %%
from segcourse.convolutionalize import PatchClassifier, patch_cost

my_macs = yours_or_ours.macs_both_ways(macs_both_ways)
for step in (1, 4, 32):
    windows, once = my_macs(96, 128, 32, step, 5, 3, 16)
    print(f"stride {step:2d}: the first layer {windows / once:6.2f} times")
for step in (4, 32):
    whole = patch_cost(PatchClassifier(), (96, 128), window=32, stride=step)
    print(f"stride {step:2d}: all layers      {whole.ratio:6.2f} times")

# %% [markdown]
# At stride 1, a label for every pixel, each product of the first layer is computed 433 times. Later layers repeat less,
# and the dense layers nothing: each window has a map of its own. (What a label for every pixel costs with all layers,
# we count at the end: one pass of stride 4 is not enough for it.) Windows that lie side by side (stride 32) share
# nothing: then one pass saves nothing. It even costs more, because it computes the scores of all the windows between
# them too. **The gain is the overlap.**
#
# ## A dense layer at every pixel
#
# What stands in the way of the one pass? Convolutions and poolings do not care how large an image is. Dense layers do:
# their weight has one column for each input number. So we look at dense layers, the simplest case first.
#
# Take a map with $C = 2$ channels, 1 row and 3 columns. Each pixel is a vector of two numbers. A dense layer with two
# inputs and three outputs can be applied to each of the three vectors. By hand, for the pixel (2, 20): the outputs are
# 1·2 + 1·20 = 22, 1·2 = 2 and 20 - 2 = 18.

# %%
features = torch.tensor([[[[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]]])  # (N, C, H, W) = (1, 2, 1, 3)
weight = torch.tensor([[1.0, 1.0], [1.0, 0.0], [-1.0, 1.0]])  # (3 outputs, 2 inputs)
print("the middle pixel:", (weight @ features[0, :, 0, 1]).int().tolist())

everywhere = F.conv2d(features, weight[:, :, None, None])  # a kernel of 1x1: weight (3, 2, 1, 1)
print("1x1 convolution, its middle pixel:", everywhere[0, :, 0, 1].int().tolist(), "shape", tuple(everywhere.shape))

# %% [markdown]
# A **1x1 convolution is a dense layer at every pixel**: the same weight, the same numbers. It mixes channels and never
# looks at neighbours. Now write it the other way round, as a dense layer. `F.linear(x, weight, bias)` computes
# `x @ weight.T + bias` along the *last* axis of `x` and repeats that over all the other axes. The first line is given.
#
# ### Exercise: a dense layer at every pixel (1 point)


# %%
def dense_at_every_pixel(features, weight, bias):
    """Return a dense layer's outputs at every pixel of a map.

    features: (N, C, H, W); weight: (K, C); bias: (K,), a number for each output.
    Returns a tensor (N, K, H, W). Example: the map above, its weight and a bias of zeros give `everywhere`.
    """
    pixels = features.permute(0, 2, 3, 1)  # (N, H, W, C): a vector of C numbers for each pixel
    # BEGIN SOLUTION
    return F.linear(pixels, weight, bias).permute(0, 3, 1, 2)
    # END SOLUTION


# %%
check.dense_at_every_pixel(dense_at_every_pixel)

# %% [markdown]
# ## A dense layer is a convolution
#
# The first dense layer of a classifier does not see one pixel. It sees a whole map of $C \times h \times w$ numbers,
# flattened to a vector. Here $C = 2$, $h = w = 2$, the numbers 1 to 8, and one output with three weights that are not
# zero: 1 · 1 + 2 · 4 + 3 · 6 = 27.

# %%
small_map = torch.arange(1.0, 9.0).reshape(1, 2, 2, 2)  # (N, C, h, w): channel 0 is [[1, 2], [3, 4]]
linear = nn.Linear(8, 1, bias=False)
linear.weight.data = torch.tensor([[1.0, 0.0, 0.0, 2.0, 0.0, 3.0, 0.0, 0.0]])  # (1 output, 8 inputs)
print("flattened:", small_map.flatten(1).int().tolist()[0], "dense layer:", int(linear(small_map.flatten(1))))

# %% [markdown]
# Each of the eight weights belongs to one number of the map: to a channel, a row and a column. Written where they
# belong, they form a kernel of $2 \times 2$ for two channels, **as large as the map**. Laid on the map it has exactly
# one place, and the sum of its products is the dense layer's output.

# %%
kernel = linear.weight.detach().reshape(1, 2, 2, 2)  # (out_channels, in_channels, rows, columns)
print("channel 0:", kernel[0, 0].int().tolist(), "channel 1:", kernel[0, 1].int().tolist())
print("as a convolution:", F.conv2d(small_map, kernel).int().tolist())

larger = torch.tensor([[[1, 2, 0], [3, 4, 0], [5, 0, 9]], [[5, 6, 1], [7, 8, 1], [2, 2, 2]]])[None].float()
print("on a map of 3 x 3:", F.conv2d(larger, kernel)[0, 0].int().tolist())

# %% [markdown]
# On a larger map the kernel has more places: the dense layer is applied to every window of the map. The upper left
# window is the small map, and its score is still 27.
#
# ### The order of the flattening
#
# Which weight goes where is decided by the order in which the map was flattened. PyTorch's axes are (C, h, w): first
# all of channel 0, row after row, then channel 1. Number (c, i, j) of the map becomes number $c\,h\,w + i\,w + j$ of
# the vector. Keras keeps the channels last and flattens (h, w, C), so weights that come from there must be
# rearranged. Reading them in the wrong order fits just as well, and gives other numbers:

# %%
wrong = linear.weight.detach().reshape(1, 2, 2, 2).permute(0, 3, 1, 2)  # read as (row, column, channel)
print("right order:", int(F.conv2d(small_map, kernel)), " wrong order:", int(F.conv2d(small_map, wrong)))

# %% [markdown]
# ### Exercise: a dense layer as a convolution (2 points)
#
# Copy numbers into a layer with `layer.weight.copy_(...)`, inside `with torch.no_grad():`.


# %%
def linear_to_conv(linear, channels, size):
    """Return the convolution that computes a dense layer's outputs on a map of this size.

    linear: nn.Linear with a bias and channels * h * w inputs; it sees a map (channels, h, w), flattened by PyTorch.
    channels: of the map; size: (h, w), which may differ.
    Returns an nn.Conv2d with the same weights and bias. On a map of this size it makes a 1x1 map of the dense layer's
    outputs; on a larger one it makes them for every window. The dense layer stays as it is.
    """
    # BEGIN SOLUTION
    conv = nn.Conv2d(channels, linear.out_features, size)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(conv.weight.shape))
        conv.bias.copy_(linear.bias)
    return conv
    # END SOLUTION


# %%
check.linear_to_conv(linear_to_conv)

# %% [markdown]
# ## The whole network
#
# A classifier is a chain: convolutions and poolings, a flattening, dense layers with a ReLU between them. To convert
# it, walk along the chain:
#
# | layer | becomes | why |
# | --- | --- | --- |
# | convolution, pooling, ReLU | itself | works on any size |
# | `nn.Flatten` | nothing | the map stays a map |
# | `nn.AdaptiveAvgPool2d(size)` | nothing, if `size` is the map's size in training | see below |
# | first dense layer | convolution as large as the map that was flattened | sees all of that map |
# | later dense layers | 1x1 convolution | see the outputs of the one before: a map of 1x1 |
#
# `nn.AdaptiveAvgPool2d((h, w))` averages any map down to $h \times w$. torchvision's VGG-16 has one before its dense
# layers, so that larger images do not raise an error. On a map of $h \times w$ it does nothing; on a larger one it
# makes $h \times w$ of it, and so there is one score for the whole image, never a heat map. Out with it.
#
# It is another matter where the pooling does something in training, such as the *global* average pooling of a ResNet,
# which makes 1x1 of a 7x7 map. Leaving that out gives another function. Its sliding form is `nn.AvgPool2d(7, stride=1)`.
#
# ### Exercise: the whole network (3 points)
#
# Call your `linear_to_conv`, once it is right. In a failing case, `model` lists the layers that your function was given,
# and `seed` is what their random weights were drawn from.


# %%
def convolutionalize(model, channels, size):
    """Return the fully convolutional network with a classifier's weights.

    model: nn.Sequential of nn.Conv2d, nn.ReLU and nn.MaxPool2d; sometimes nn.AdaptiveAvgPool2d(size), which leaves the
    map of a training patch as it is; then nn.Flatten, and nn.Linear layers with nn.ReLU between them.
    channels, size: of the map that is flattened, for a training patch; size is a pair (h, w).
    Returns an nn.Sequential: one pass over an image gives, at (i, j), the model's scores of the window there.
    The model's weights stay as they are; the layers that need no change may be used again.
    """
    # BEGIN SOLUTION
    network = nn.Sequential()
    for layer in model:
        if isinstance(layer, nn.Linear):
            network.append(linear_to_conv(layer, channels, size))
            channels, size = layer.out_features, (1, 1)
        elif not isinstance(layer, (nn.Flatten, nn.AdaptiveAvgPool2d)):
            network.append(layer)
    return network
    # END SOLUTION


# %%
check.convolutionalize(convolutionalize)

# %% [markdown]
# ## The same numbers in one pass
#
# Now with a trained network. `PatchClassifier` pads nothing. Its maps shrink 32, 28, 14, 12, 6, 4, so the first dense
# layer sees 64 channels of 4x4, and its stride is 2 · 2 = 4. We train it on random patches, about ten seconds on
# one core. A void centre has no label and is not learned. If you interrupt the kernel, the network keeps what it has
# learned so far, and the rest of the lesson works.

# %% tags=["nbval-ignore-output"]
from segcourse.convolutionalize import random_patches

torch.manual_seed(0)
model = PatchClassifier().to(device)
history = train(model, lambda g: random_patches(train_set.images, train_set.masks, 32, 128, g), steps=400)

# %% [markdown]
# Convert it and run both ways on a scene that it has not seen: 425 windows one by one, and one pass.

# %%
from segcourse.convolutionalize import sliding_window

flat = nn.Sequential(*model.features, model.flatten, *model.classifier)
my_convolutionalize = yours_or_ours.convolutionalize(convolutionalize)
network = my_convolutionalize(flat, 64, (4, 4)).to(device)

scene, mask = val_set.images[:1].to(device), val_set.masks[0]
with torch.no_grad():
    one_pass = network(scene)
by_window = sliding_window(model, scene, window=32, stride=4)
difference = (one_pass - by_window).abs().max() / by_window.abs().max()
print("window by window:", tuple(by_window.shape), " one pass:", tuple(one_pass.shape))
print("same numbers, to 1/10,000 of the largest:", bool(difference < 1e-4))

# %% [markdown]
# How much faster? The multiply-adds we know by arithmetic: 9.34 times fewer. The clock says more than that: window by
# window, 425 small patches must also be cut out and copied, and many small maps go through memory again and again. The
# cell measures processor time (on a GPU, time on the clock).

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    slow = least_seconds(lambda: sliding_window(model, scene, window=32, stride=4), repeats=3)
    fast = least_seconds(lambda: network(scene), repeats=10)
print(f"window by window {1000 * slow:.1f} ms, one pass {1000 * fast:.1f} ms: {slow / fast:.0f} times faster")

# %% [markdown]
# A soft-max over the classes turns the scores into probabilities, one heat map for each class. They are small: an entry
# for every fourth pixel, and none nearer to the border than half a window. In the figure each entry lies at the centre
# of its window, four pixels wide, and the dashed frame shows in the scene what the maps cover.

# %%
from segcourse.figures.convolutionalize import heatmaps_figure

probabilities = one_pass[0].softmax(0)  # (11, 17, 25)
chosen = ("road", "sky", "building", "tree", "car")
show(
    heatmaps_figure(scene[0], probabilities, val_set.classes, chosen, window=32, stride=4),
    f"A scene of 96 x 128 and five heat maps of {one_pass.shape[2]} x {one_pass.shape[3]}, for {', '.join(chosen)}: "
    "bright where the network finds the class. Each map covers the middle 68 x 100 pixels of the scene.",
)

# %% [markdown]
# Any size goes in. Cut the scene smaller and larger with the sliders; the network runs on the cut, and each label is
# painted at the centre of its window. The first window is framed in orange, the last one in blue, and hatching marks
# what no window reaches. When does the heat map grow, and when does it not?

# %%
from segcourse.figures.convolutionalize import describe_windows, growing_heatmap

show_widget(
    growing_heatmap(network, scene[0], val_set, window=32, stride=4),
    f"Two sliders cut the scene to a height and a width; the heat map of the cut lies on it. Now: "
    f"{describe_windows(64, 64, 32, 4)} At 66 x 67: {describe_windows(66, 67, 32, 4)}",
)

# %% [markdown]
# ## Stride and coarse heat maps
#
# Four more rows of pixels, the stride, make one more row of scores; fewer make none. VGG-16 has five poolings, so its
# stride is 32, its window 224, and its heat maps are coarse. The course has the network with a `width` to make it
# small; sizes do not depend on it.

# %%
from segcourse.convolutionalize import convolutionalize as convert  # the course's, which takes nested networks
from segcourse.models.vgg import VGG16

torch.manual_seed(0)
vgg = VGG16(classes=11, width=4).eval()
fully = convert(vgg, 224).eval()
with torch.no_grad():
    sizes = {n: tuple(fully(torch.zeros(1, 3, n, n)).shape[2:]) for n in (224, 255, 256, 384, 512)}
for n, size in sizes.items():
    print(f"image {n} x {n}: heat map {size[0]} x {size[1]}, by the formula {my_size(n, n, 224, 32)}")
reveal(prediction_heatmap, sizes[384], "heat map of VGG-16 at 384 x 384")

# %% [markdown]
# 384 / 32 = 12 is the size of the map before the first dense layer; its 7x7 kernel has 12 - 7 + 1 = 6 places on it.
#
# No weight is added or lost. In the published VGG-16 the first dense layer alone has 4096 · 512 · 7 · 7 =
# 102,760,448 weights, three quarters of all; they are the weights of the 7x7 convolution now.

# %%
before, after = (sum(p.numel() for p in net.parameters()) for net in (vgg, fully))
print("parameters before and after:", before, after)
print("weights of fc6, dense and convolution, at full width:", 4096 * (512 * 7 * 7), 7 * 7 * 512 * 4096)

# %% [markdown]
# Back to our classifier, of stride 4. To label every pixel, take each entry of the heat map for the middle block of 4x4
# pixels of its window. Around that block the window has (32 - 4) / 2 = 14 pixels on each side, so mirror 14 pixels at
# the border of the scene: then the blocks of all windows fill it. Run one pass and enlarge the map: by repeating each
# label, or by interpolating the scores before taking the largest.

# %%
from segcourse.figures.convolutionalize import label_maps_figure, pixel_accuracy, upsampled_labels

with torch.no_grad():
    coarse = network(F.pad(scene, (14, 14, 14, 14), mode="reflect")).argmax(1)[0].cpu()
smooth = upsampled_labels(network, scene, 32, 4, "bilinear")[0].cpu()
panels = {
    "scene": scene[0],
    "ground truth": mask,
    f"heat map, {coarse.shape[0]}×{coarse.shape[1]}": coarse,
    f"scores enlarged to {smooth.shape[0]}×{smooth.shape[1]}": smooth,
}
show(
    label_maps_figure(val_set, panels, columns=2),
    f"A scene, its mask, the labels of the {coarse.shape[0]} x {coarse.shape[1]} heat map, and the labels after the "
    f"scores were enlarged to {smooth.shape[0]} x {smooth.shape[1]}: large regions are found, small things and "
    "boundaries are not.",
)

# %% tags=["nbval-ignore-output"]
print(f"right pixels in this scene: {pixel_accuracy(smooth, mask):.1%}")

# %% [markdown]
# One scene and one training say little. Here is the same with five seeds, each with a training of its own (and a town of
# its own, where the scenes are generated), on 24 scenes that were not trained on. It is what
# `benchmarks/experiments/03_patches.py` prints, lowest to highest:
#
# | right pixels | generated streets | CamVid |
# | --- | --- | --- |
# | the most frequent class everywhere | 33.4 to 35.2 % | 29.2 % |
# | one pass, labels repeated | 69.1 to 71.5 % | 61.2 to 64.8 % |
# | one pass, scores interpolated | 69.7 to 72.2 % | 61.7 to 65.4 % |
#
# In all ten runs interpolating was better than repeating, the heat map differed from the sliding window by at most 4
# parts in ten million of the largest score, and one pass took 15 to 23 times less CPU time.
#
# ## What breaks it
#
# One pass equals the sliding window because each layer treats every place alike and looks at a fixed neighbourhood. A
# layer that knows where it is, or that looks at everything it is given, sees something else in a window than in the
# whole image. Below are nine small networks with windows of 10 and stride 2. Three of their layers may be new to you:
#
# - *group norm* subtracts the mean of all it is given, over channels and places, and divides by the deviation;
# - a *position code* is added to the pixels and says where they are, here in which row;
# - *attention* replaces each pixel of a map by a mean over all its pixels, in which similar ones count more.

# %%
torch.manual_seed(0)
trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))  # a window of 10 becomes 8, then 4
head, score = nn.Conv2d(4, 5, 4), nn.Conv2d(4, 5, 1)  # a dense layer on the map of 4x4, and one on a pixel
down_the_rows = torch.linspace(0, 1, 18)[:, None]  # a code for the row, counted from the top of what is given


def attend(maps):
    """Replace each pixel of a map by a mean over all, weighted by likeness: self-attention without weights."""
    tokens = maps.flatten(2).transpose(1, 2)  # (N, places, C)
    return F.scaled_dot_product_attention(tokens, tokens, tokens).transpose(1, 2).reshape(maps.shape)


networks = {
    "convolutions without padding": nn.Sequential(trunk, head),
    "convolution padded with zeros": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *trunk[1:], nn.Conv2d(4, 5, 5)),
    "batch norm, in evaluation": nn.Sequential(trunk, nn.BatchNorm2d(4).eval(), head),
    "batch norm, in training": nn.Sequential(trunk, nn.BatchNorm2d(4).train(), head),
    "group norm": nn.Sequential(trunk, nn.GroupNorm(1, 4), head),
    "average over the whole map": nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), score),
    "average over 4x4, stride 1": nn.Sequential(trunk, nn.AvgPool2d(4, stride=1), score),
    "position code": lambda x: head(trunk(x + down_the_rows[: x.shape[2]])),
    "attention over the whole map": lambda x: head(attend(trunk(x))),
}

# %% [markdown]
# How many of the nine do *not* give the same numbers in one pass as window by window? Write it down first.

# %%
prediction_broken = ...

# %%
from segcourse.figures.convolutionalize import same_as_windows

picture = torch.randn(1, 3, 18, 26)
same = {name: same_as_windows(net, picture, window=10, stride=2) for name, net in networks.items()}
for name, verdict in same.items():
    print(f"{name:30} {'same as the windows' if verdict else 'differs'}")
reveal(prediction_broken, list(same.values()).count(False), "networks that differ from their sliding window")

# %% [markdown]
# - **Zero padding.** A window by itself has zeros around it, where inside the image there are neighbours. What is
#   computed in one pass is not wrong, only another function; FCN and all that follow use it and are trained so.
# - **Norms.** Batch norm in evaluation uses stored numbers: a fixed factor and offset. In training it uses the mean and
#   the variance of what it is given, and so does group norm always.
# - **Pooling the whole map** leaves one vector of scores for the whole image. Pooling windows of the training map's
#   size is the repair.
# - **Position codes and attention.** Vision transformers have both. A window's place inside the image is not its place
#   by itself, and everything looks at everything. (Lesson 13 shows what segmentation networks do about it.)
#
# A flattening in another order breaks it too, in another way: the network still slides, with the wrong weights.
#
# ## Shift and stitch
#
# The heat map of a network of stride $s$ has a score for every $s$-th pixel. The scores between can be had without
# another network: shift the image by one pixel and run it again. In one dimension, with windows of 4, stride 2, and the
# sum as the network:

# %%
row = torch.tensor([[[1.0, 2, 4, 8, 16, 32, 64, 128]]])  # (N, C, W)
row_network = nn.Conv1d(1, 1, kernel_size=4, stride=2, bias=False)
nn.init.ones_(row_network.weight)  # the sum of each window
print("windows that begin at 0, 2, 4:", row_network(row)[0, 0].int().tolist())
print("first pixel cut off, at 1, 3: ", row_network(row[:, :, 1:])[0, 0].int().tolist())
print("windows at every pixel:       ", F.conv1d(row, row_network.weight)[0, 0].int().tolist())

# %% [markdown]
# Cutting off the first pixel moves every window one pixel on. The two coarse rows hold all the scores; they only have
# to be **interlaced**, a number from here, a number from there. In two dimensions there are $s$ shifts down for each of
# $s$ shifts to the right, so $s^2$ passes. Long, Shelhamer and Darrell (2015, section 3.2) call it *shift-and-stitch*.
# Giusti et al. (2013) do it inside the network, at every pooling, and Sermanet et al. (2014) at the last one.
#
# ### Exercise: shift and stitch (3 points)
#
# In a failing case, `network` lists the layers of the network that your function was given, and `seed` is what their
# random weights were drawn from.


# %%
def shift_and_stitch(network, image, window, stride):
    """Return the scores of the windows at every pixel, from coarse heat maps of shifted images.

    network: a function, images (N, C, H, W) -> heat maps (N, K, h, w); its windows are `window` wide and high, its
    stride is `stride`; h and w are as in heatmap_size.
    image: (N, C, H, W), at least window + stride - 1 high and wide.
    Returns a tensor (N, K, H - window + 1, W - window + 1) on the image's device: at (i, j) the scores of the window
    that begins there. Call the network stride² times, or up to three times more: not once for each window.
    """
    height, width = image.shape[2] - window + 1, image.shape[3] - window + 1
    # BEGIN SOLUTION
    coarse = network(image)  # its shape tells the number of classes
    scores = coarse.new_zeros(*coarse.shape[:2], height, width)
    for down in range(stride):
        for right in range(stride):
            scores[:, :, down::stride, right::stride] = network(image[:, :, down:, right:])
    return scores
    # END SOLUTION


# %%
check.shift_and_stitch(shift_and_stitch)

# %% [markdown]
# On the scene: mirror the border so that every pixel is the centre of a window, run the sixteen passes, and compare a
# part with the sliding window at stride 1.

# %%
from segcourse.convolutionalize import pad_for_centres

my_stitch = yours_or_ours.shift_and_stitch(shift_and_stitch)
with torch.no_grad():
    stitched = my_stitch(network, pad_for_centres(scene, 32), 32, 4)  # (1, 11, 96, 128)
    part = my_stitch(network, scene[:, :, 20:61, 30:85], 32, 4).cpu()
part_by_window = sliding_window(model, scene[:, :, 20:61, 30:85], window=32, stride=1).cpu()
largest = part_by_window.abs().max()
print("stitched:", tuple(stitched.shape), " the part:", tuple(part.shape))
print("same numbers, to 1/10,000 of the largest:", bool((part - part_by_window).abs().max() < 1e-4 * largest))
cost = patch_cost(PatchClassifier(), (96 + 31, 128 + 31), window=32, stride=1)
print(f"multiply-adds: {cost.all_windows:,} window by window, {16 * cost.one_pass:,} in sixteen passes:")
print(f"{cost.all_windows / (16 * cost.one_pass):.1f} times fewer")

# %% [markdown]
# About ten times fewer, where the first layer alone was repeated 433 times: nothing is saved in the dense layers.
#
# Watch the passes fill the map: the slider says how many were made. White pixels have no score yet.

# %%
from segcourse.figures.convolutionalize import stitching

dense = stitched.argmax(1)[0].cpu()
show_widget(
    stitching(val_set, dense, stride=4),
    "A slider over the passes of shift and stitch, from none to sixteen. Now: one pass, one pixel of each 4 x 4 "
    "block has its label; after the last, all have.",
)

# %%
panels = {"ground truth": mask, "one pass, scores enlarged": smooth, "sixteen passes, stitched": dense}
show(
    label_maps_figure(val_set, panels, columns=3),
    "The mask of a scene, the labels from one pass with enlarged scores, and the labels from sixteen stitched passes: "
    "the two are hard to tell apart.",
)

# %% tags=["nbval-ignore-output"]
print(f"right pixels: one pass {pixel_accuracy(smooth, mask):.1%}, sixteen passes {pixel_accuracy(dense, mask):.1%}")
print(f"pixels on which the two agree: {(smooth == dense).float().mean():.1%}")

# %% [markdown]
# Is it worth sixteen passes? In the ten runs from above the stitched maps had 69.8 to 72.2 % right pixels on generated
# streets and 61.4 to 65.1 % on CamVid: at best 0.1 points more than one interpolated pass, at worst 0.4 points less. The
# two agree on 95 to 97 % of the pixels. An exact score for each pixel is not a better one: this classifier is wrong
# about more than a quarter of the windows, wherever they are centred. (Long et al. preferred to learn the enlarging;
# that is lesson 04.)
#
# ## What slides often get wrong
#
# **"A fully connected layer is a 1x1 convolution."** The later ones are. The first one is a convolution as large as its
# map; a 1x1 kernel would have 49 times fewer weights in VGG-16.

# %%
for name in ("fc6", "fc7", "fc8"):
    old_layer, new_layer = vgg.classifier.get_submodule(name), fully.classifier.get_submodule(name)
    print(name, tuple(old_layer.weight.shape), "->", tuple(new_layer.weight.shape))

# %% [markdown]
# **"Classifying 224x224 crops of a 384x384 image, cut every 32 pixels, gives the same result as one pass."** Well-known
# course notes say so (CS231n, below). It holds for networks without padding. VGG-16 pads every convolution: the sizes
# agree, the numbers do not. An entry of the heat map even sees more than its window of 224. After the last pooling a
# place sees 212 pixels (lesson 01). Seven such places in a row, 32 pixels from one to the next, see 212 + 6 · 32 = 404
# together, and the 7x7 kernel adds them up: that is larger than the whole image of 384.

# %%
image = torch.rand(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    vgg_map = fully(image)
crops = sliding_window(vgg, image, window=224, stride=32)
off = (vgg_map - crops).abs().mean() / crops.abs().mean()
winners = int((vgg_map.argmax(1) == crops.argmax(1)).sum())
print("sizes:", tuple(vgg_map.shape), tuple(crops.shape), f" mean difference: {off:.0%} of the mean score")
print(f"entries with the same class on top: {winners} of {crops[:, 0].numel()}")
one_crop = image[:, :, :224, :224]
with torch.no_grad():
    alike = torch.allclose(fully(one_crop).flatten(1), vgg(one_crop), rtol=1e-3, atol=1e-6)
print("on one crop by itself, convolutions and dense layers give the same:", alike)

# %% [markdown]
# **"With adaptive pooling a classifier takes any image, so it is fully convolutional."** It takes any image and gives
# one answer for all of it.

# %%
adaptive = nn.Sequential(vgg.features, nn.AdaptiveAvgPool2d(7), nn.Flatten(), vgg.classifier)
with torch.no_grad():
    print("with adaptive pooling:", tuple(adaptive(image).shape), " as convolutions:", tuple(fully(image).shape))

# %% [markdown]
# **"As convolutions, dense layers are cheaper."** On one window the cost is the same to the last product. And where
# windows do not overlap, one pass costs more.

# %%
for size, step in (((32, 32), 32), ((96, 128), 32), ((96, 128), 4)):
    cost = patch_cost(PatchClassifier(), size, window=32, stride=step)
    print(f"{cost.windows:3} windows: {cost.all_windows:11,} window by window, {cost.one_pass:10,} in one pass")

# %% [markdown]
# ## Quiz

# %%
quiz.later_dense_kernels()

# %%
quiz.weights_after()

# %%
quiz.where_the_gain_is()

# %%
quiz.padded_window()

# %%
quiz.global_pooling()

# %%
quiz.what_stitching_buys()

# %% [markdown]
# ## Summary
#
# - Classifying every window computes the same products over and over; what windows share can be computed once.
# - A dense layer on a (C, h, w) map is an h x w convolution with the same weights in another shape; later dense layers
#   are 1x1 convolutions, which is a dense layer at every pixel.
# - Without the flattening any size goes in; the heat map has floor((N - P) / s) + 1 entries along an axis.
# - The numbers equal the sliding window's exactly if nothing is padded, nothing is pooled or normalized over the whole
#   map, and there is neither attention nor a position code.
# - Shift and stitch gives the score of every pixel for s² passes; enlarging one coarse map comes close for one pass.
#
# ## References
#
# - D. C. Cireşan, A. Giusti, L. M. Gambardella, J. Schmidhuber, "Deep neural networks segment neuronal membranes in
#   electron microscopy images", NIPS 2012: a label for each pixel from the window around it.
# - A. Giusti, D. C. Cireşan, J. Masci, L. M. Gambardella, J. Schmidhuber, "Fast image scanning with deep max-pooling
#   convolutional neural networks", ICIP 2013: every shift at every pooling.
# - P. Sermanet, D. Eigen, X. Zhang, M. Mathieu, R. Fergus, Y. LeCun, "OverFeat: integrated recognition, localization
#   and detection using convolutional networks", ICLR 2014, sections 3.3 and 3.5: dense layers slide over larger images.
# - J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, sections 3.1
#   and 3.2: dense layers as convolutions, shift-and-stitch.
# - K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015,
#   section 3.2: VGG-16, made fully convolutional for testing.
# - Stanford CS231n, course notes, "Converting fully-connected layers to convolutional layers": the reshaping, and the
#   claim about crops that zero padding spoils.
#
# ## Where next
#
# The coarse map is where FCN begins: [lesson 04](04_fcn_skips.ipynb) enlarges it with learned layers and adds finer
# maps on the way. Lesson 02 has the layer that enlarges, the [transposed convolution](02_transposed.ipynb); lesson 01 is
# about [what an output sees](01_receptive_field.ipynb). [Lesson 07](07_atrous.ipynb) gets the scores between without
# shifting, by dilation.
