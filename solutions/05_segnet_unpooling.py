# %% [markdown]
# # 05 SegNet: unpooling
#
# Let a network remember where its maxima were, and build a decoder that puts them back.
#
# Pooling makes maps small, so that deep layers see much of the image. On the way it forgets where things were, and a
# segmentation must say where. FCN answers with skips, whole maps handed across. SegNet hands across much less: for each
# maximum, the place where it was found. After this lesson you can
#
# - **compute** max pooling with the indices of the maxima, and **unpool** with them;
# - **compute** what an index costs in memory, on paper and in PyTorch, against keeping the whole map;
# - **build** a decoder whose stages are paired with those of its encoder, for any size of image;
# - **measure** errors at boundaries, and compare networks that unpool in different ways;
# - **explain** where SegNet's 29 million and DeconvNet's 252 million parameters are, and **put together** the proposals
#   of DeconvNet.
#
# Time: 28 minutes to read, 57 to do. Points: 14, in 6 exercises. You need lesson 02 (fixed unpooling, transposed
# convolution).

# %% tags=["setup"]
import math

import torch
import torch.nn.functional as F
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours
from segcourse.training import evaluate, pick_device, predict, train

start("05_segnet_unpooling")
device = pick_device()

# %% [markdown]
# ## Predict
#
# A map of random numbers is max-pooled in windows of 2x2, then unpooled: each maximum goes back to where it was, and
# zeros stand elsewhere. What share of the map's numbers is right afterwards? Write down a number from 0 to 1.

# %%
prediction_share = ...

# %% [markdown]
# ## Pooling forgets where
#
# This map is printed in many lectures. Of each 2x2 window the largest number is kept. The thick lines are the windows,
# and the maxima are in bold on yellow; a dot is a zero:

# %%
from segcourse.figures.segnet_unpooling import windows_figure

printed = torch.tensor([[1.0, 3, 2, 9], [7, 4, 1, 5], [8, 5, 2, 3], [4, 2, 1, 4]])
pooled = F.max_pool2d(printed[None], 2)[0]
other = torch.tensor([[7.0, 0, 9, 0], [0, 0, 0, 0], [0, 0, 0, 4], [0, 8, 0, 0]])
show(
    windows_figure(
        {"a map": printed, "max-pooled": pooled, "another map": other, "max-pooled ": F.max_pool2d(other[None], 2)[0]}
    ),
    f"A map of 4 x 4 and its four maxima, {pooled.int().tolist()}; beside it another map, whose maxima are in other "
    "places, with the same result. Lines mark the windows, and the maxima are lit.",
)

# %% [markdown]
# Two maps with their maxima in different places, and the pooled maps are equal. For a classifier that is a virtue: a
# nose one pixel further left is still a nose. For a segmentation it is a loss. Whatever is computed from the pooled map
# cannot know on which side of the window an edge was.
#
# ## Where the maximum was
#
# So we write down the places. A window has four places, numbered along its rows: 0 and 1 in the upper row, 2 and 3 in
# the lower one. In our map the 7 is at place 2 of its window, the 9 at place 1, the 8 at place 0, and the lower right 4
# at place 3. That is all there is to remember: one of four, 2 bits for each window.
#
# PyTorch writes the same down in another form. It numbers the pixels of the whole map along its rows, pixel (row,
# column) has the **flat index** row · W + column, and keeps the index of each maximum. The 7 is in row 1 and column 0,
# so its index is 1 · 4 + 0 = 4. The 9: 0 · 4 + 3 = 3. The 8: 2 · 4 + 0 = 8, and the 4: 3 · 4 + 3 = 15.
#
# Each channel has maxima of its own, and so indices of its own. The numbers begin at 0 again in every channel of every
# image.

# %%
values, indices = F.max_pool2d(printed[None, None], 2, return_indices=True)
print("values ", values[0, 0].int().tolist())
print("indices", indices[0, 0].tolist(), indices.dtype)

# %% [markdown]
# ### Exercise: pool and remember (3 points)
#
# Write the function yourself, without `return_indices` and without PyTorch's unpooling; the check refuses both.
# `tensor.max(dim)` returns the values and their places along an axis. Two lines are given; the second cuts rows and
# columns into pairs.


# %%
def max_pool_with_indices(maps):
    """Return the maxima of 2x2 windows and where they were.

    maps: (N, C, H, W) with H and W even; the four numbers of a window differ.
    Returns a pair: values (N, C, H/2, W/2), and indices of the same shape, int64: the maximum of a window is in row
    r and column c of its channel, and its index is r * W + c. Example: the map above gives the printed values and
    indices.
    """
    height, width = maps.shape[2:]
    windows = maps.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, C, H/2, 2, W/2, 2)
    # BEGIN SOLUTION
    windows = windows.transpose(3, 4).flatten(4)  # (N, C, H/2, W/2, 4): the four numbers of each window
    values, place = windows.max(4)  # place: 0, 1 in the upper row of the window, 2, 3 in the lower
    top = torch.arange(0, height, 2, device=maps.device)[:, None]
    left = torch.arange(0, width, 2, device=maps.device)
    return values, (top + place // 2) * width + left + place % 2
    # END SOLUTION


# %%
check.max_pool_with_indices(max_pool_with_indices)

# %% [markdown]
# ## Put back where it was
#
# **Unpooling** by indices makes a map of zeros and writes each value at its index. Our four maxima return to their
# places. **Fixed unpooling**, the "bed of nails" of lesson 02, has no indices: every value goes to the upper left of
# its window.

# %%
from segcourse.transposed import bed_of_nails

by_indices = F.max_unpool2d(values, indices, 2)[0, 0]
fixed = bed_of_nails(values, 2)[0, 0]
show(
    windows_figure({"the map": printed, "unpooled by indices": by_indices, "fixed places": fixed}),
    f"The map; unpooled by indices: {by_indices.int().tolist()}, each maximum in its place, zeros elsewhere; by fixed "
    f"places: {fixed.int().tolist()}.",
)

# %% [markdown]
# The size to return to must be told. A map of 5x5 pixels is pooled to 3x3 if the size is rounded up, as SegNet does;
# the last windows then stick out. A 3x3 map can come from 5x5, 5x6, 6x5 or 6x6, and with another width the same index
# is another pixel: index 5 is row 1, column 0 in a map 5 wide, and row 0, column 5 in a map 6 wide.
#
# ### Exercise: unpool by indices (2 points)
#
# Again without PyTorch's unpooling.


# %%
def unpool(values, indices, size):
    """Return maps of zeros with each value at its index.

    values: (N, C, h, w); indices: (N, C, h, w) int64, flat indices in a channel of `size`, none twice in a channel.
    size: (H, W) of the maps to return; not always (2h, 2w).
    Returns a tensor (N, C, H, W). Example: the values and indices from above with size (4, 4) give the figure's map.
    """
    # BEGIN SOLUTION
    n, channels = values.shape[:2]
    flat = values.new_zeros(n, channels, size[0] * size[1])
    flat.scatter_(2, indices.flatten(2), values.flatten(2))
    return flat.unflatten(2, size)
    # END SOLUTION


# %%
check.unpool(unpool)

# %% [markdown]
# Follow one pixel. Choose its row and column: is it the largest of its window, what is its index, and what comes back?

# %%
from segcourse.figures.segnet_unpooling import describe_pixel, follow_pixel

numbers = torch.tensor(
    [
        [3.0, 1, 4, 2, 9, 5],
        [6, 2, 8, 7, 1, 3],
        [5, 9, 2, 6, 4, 8],
        [1, 7, 3, 5, 2, 6],
        [8, 4, 1, 3, 7, 9],
        [2, 6, 5, 9, 8, 4],
    ]
)
show_widget(
    follow_pixel(numbers),
    f"Two sliders choose a pixel of a 6 x 6 map; it is followed through pooling and unpooling. "
    f"Now: {describe_pixel(numbers, 1, 2)} At (2, 3): {describe_pixel(numbers, 2, 3)}",
)

# %% [markdown]
# ## What comes back, and what does not
#
# A map of random numbers, pooled and unpooled with your functions:

# %%
my_pool = yours_or_ours.max_pool_with_indices(max_pool_with_indices)
my_unpool = yours_or_ours.unpool(unpool)
noise = torch.randn(2, 8, 64, 96, generator=torch.Generator().manual_seed(0))
noise_back = my_unpool(*my_pool(noise), (64, 96))
share_right = (noise_back == noise).double().mean().item()
reveal(prediction_share, round(share_right, 3), "share of the numbers that are right")
nails_back = bed_of_nails(F.max_pool2d(noise, 2), 2)
for name, back in (("indices", noise_back), ("fixed places", nails_back)):
    together = torch.stack([noise.flatten(), back.flatten()])
    print(f"{name:12}: correlation with the map {torch.corrcoef(together)[0, 1]:.2f}")

# %% [markdown]
# One number of four is right, and three are gone. Unpooling is no inverse. It keeps the largest of each four in place,
# and that is enough for a correlation of 0.68. With fixed places hardly any of it is left. Filling the holes is the
# work of the convolutions that follow.
#
# ### Unpooling hands gradients back
#
# Unpooling is not new to you: training has always done it. In the backward pass, max pooling hands the gradient of each
# output back to the pixel that was the largest, and zero to the others. That is a map of zeros with each value at its
# index:

# %%
leaf = noise.clone().requires_grad_()
found, where = F.max_pool2d(leaf, 2, return_indices=True)
gradient = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
(handed_back,) = torch.autograd.grad(found, leaf, gradient)
print("backward pass of pooling = unpooling:", torch.equal(handed_back, my_unpool(gradient, where, (64, 96))))

peak = torch.zeros(1, 1, 5, 5)
peak[0, 0, 2, 2] = 9  # the largest of all four windows of 3x3, stride 2
leaf = peak.clone().requires_grad_()
found, where = F.max_pool2d(leaf, 3, stride=2, return_indices=True)
(handed_back,) = torch.autograd.grad(found.sum(), leaf)
written = F.max_unpool2d(torch.ones_like(found), where, 3, stride=2, output_size=(5, 5))
print("windows that overlap: backward pass", int(handed_back.sum()), " unpooling", int(written.sum()))

# %% [markdown]
# It holds for windows that lie side by side. Where windows overlap, as with 3x3 and stride 2, one pixel may be the
# largest of several, of all four above. The backward pass adds up what comes from them, 1 + 1 + 1 + 1; unpooling writes
# one over the other. (Lesson 02 had the same sentence about convolutions: a transposed convolution is the backward pass
# of a convolution.)
#
# ## What remembering costs
#
# The paper (Badrinarayanan, Kendall and Cipolla 2017) gives memory as a reason for indices: 2 bits for each window, in
# place of the whole map before the pooling that a skip connection would keep. How much is that? For one image, count
# the bytes of
#
# - the map before pooling, float32: 4 bytes a number;
# - the places at 2 bits each, packed one after the other over all channels, rounded up to whole bytes at the end;
# - the indices as PyTorch keeps them, int64: 8 bytes each.
#
# Windows at an odd border count too, since sizes are rounded up: an axis of 5 pixels has 3 windows.
#
# ### Exercise: what remembering costs (2 points)


# %%
def index_memory(channels, height, width):
    """Return the bytes of a float32 map, of its 2x2 pooling's places at 2 bits each, and at int64.

    All three count all channels together.
    channels, height, width: of the map before pooling, one image; whole numbers of at least 1.
    Returns three whole numbers, no floats. Example: index_memory(2, 5, 6) is (240, 5, 144): 60 numbers; 18 windows,
    so 36 bits, which need 5 bytes.
    """
    # BEGIN SOLUTION
    windows = channels * math.ceil(height / 2) * math.ceil(width / 2)
    return 4 * channels * height * width, math.ceil(2 * windows / 8), 8 * windows
    # END SOLUTION


# %%
check.index_memory(index_memory)

# %% [markdown]
# SegNet pools five times. These are its maps for a CamVid image of 360x480. Note how the rows become 45, 23, 12: Caffe,
# in which SegNet was written, rounds up.

# %%
my_memory = yours_or_ours.index_memory(index_memory)
height, width, costs = 360, 480, []
for channels in (64, 128, 256, 512, 512):
    cost = my_memory(channels, height, width)
    costs.append(cost)
    print(
        f"{channels:3} channels of {height:3} x {width:3}: "
        f"map {cost[0]:10,} bytes, 2 bits {cost[1]:7,}, int64 {cost[2]:10,}"
    )
    height, width = math.ceil(height / 2), math.ceil(width / 2)
print(f"after the last pooling: {height} x {width}")
maps, packed, long = (sum(column) / 2**20 for column in zip(*costs))
print(f"together: maps {maps:.1f} MiB, 2 bits {packed:.2f} MiB, int64 {long:.1f} MiB")
ratios = {"maps : 2 bits": maps / packed, "maps : int64": maps / long, "float16 maps : int64": maps / 2 / long}
print(", ".join(f"{name} = {ratio:.2f}" for name, ratio in ratios.items()))

# %% [markdown]
# A window of four float32 has 128 bits, so 2 bits are 64 times less. (Rounded up at odd borders, a little less than
# that.) But few programs pack bits. With PyTorch's int64 indices only a factor of 2 is left, and against maps in
# float16 nothing. The saving is a fact about what must be known, not about what a program keeps.
#
# ## Encoder and decoder in pairs
#
# SegNet is an **encoder**, the thirteen convolutions and five poolings of VGG-16, and a **decoder**, its mirror image:
#
#     image 360x480                                                               scores 360x480
#       conv conv                                                               conv conv
#         pool to 180x240 -- indices + size 360x480 ------------------------> unpool to 360x480
#           conv conv                                                       conv conv
#             pool to 90x120 -- indices + size 180x240 -----------------> unpool to 180x240
#               3 conv                                                  3 conv
#                 pool to 45x60 -- indices + size 90x120 -----------> unpool to 90x120
#                   3 conv                                          3 conv
#                     pool to 23x30 -- indices + size 45x60 ----> unpool to 45x60
#                       3 conv                                  3 conv
#                         pool to 12x15 -- indices + size 23x30 > unpool to 23x30
#
# Read the left side from top to bottom, then the right side from bottom to top. What was pooled last is unpooled
# first. Each unpooling takes the indices of its own partner, and returns to the size that its partner had: 12x15 to
# 23x30, not to 24x30. Then come the convolutions that fill the holes.
#
# ### Exercise: a decoder that knows its encoder (3 points)
#
# Call your `unpool`, once it is right; or PyTorch's `F.max_unpool2d(x, indices, 2, output_size=size)`, which is
# allowed from here on. The check makes up `x` and `remembered`, and builds small stages of its own. Of a failing case
# it shows `x`, the `indices` and the `sizes` of `remembered` apart, `widths` (the channels that each stage returns),
# and the seed of the stages' weights.


# %%
def decode(x, remembered, stages):
    """Return the decoder's output: each stage unpools as its encoder stage pooled, then convolves.

    x: (N, C, h, w), what came out of the encoder's last pooling.
    remembered: a list of pairs (indices, size), one for each pooling, in the order in which the encoder ran; size is
    (H, W) of the map before that pooling.
    stages: a list of modules, as many, in the order in which the decoder runs; each keeps the size of its map.
    Both lists stay as they are, and the stages in their mode: the caller needs them afterwards. Training goes through
    here, so gradients must be able to.
    Returns the output of the last stage, as large as the image.
    """
    # BEGIN SOLUTION
    for (indices, size), stage in zip(reversed(remembered), stages):
        x = stage(unpool(x, indices, size))
    return x
    # END SOLUTION


# %%
check.decode(decode)

# %% [markdown]
# Your decoder in a real SegNet. The course's `SegNet` is the paper's, with a `width` to make it small. Run its encoder,
# keep what it remembers, and let your function do the rest:

# %%
from segcourse.models.segnet import SegNet, SegNetBasic, Unpool

torch.manual_seed(0)
small = SegNet(classes=11, width=4).eval()
my_decode = yours_or_ours.decode(decode)
image = torch.rand(1, 3, 90, 130)
with torch.no_grad():
    x, remembered = image, []
    for stage in small.encoder:
        size = tuple(x.shape[2:])
        x, indices = stage(x)
        remembered.append((indices, size))
    scores = small.score(my_decode(x, remembered, list(small.decoder)))
    same = torch.allclose(scores, small(image), rtol=1e-4, atol=1e-5)
print("sizes before the poolings:", [size for _, size in remembered], "after the last:", tuple(x.shape[2:]))
print("scores:", tuple(scores.shape), " same as the model's:", same)

# %% [markdown]
# ## Where the parameters are
#
# On PyTorch's meta device tensors have shapes but no numbers: the full networks can be built and counted in no time.

# %%
from segcourse.models.deconvnet import DeconvNet
from segcourse.models.vgg import VGG16


def parameters(network):
    """The number of weights and biases."""
    return sum(p.numel() for p in network.parameters())


with torch.device("meta"):
    vgg, segnet, basic, deconvnet = VGG16(), SegNet(classes=11), SegNetBasic(classes=11), DeconvNet(classes=21)
print(f"VGG-16                           {parameters(vgg):12,}")
print(f"  without its last layer, fc8    {parameters(vgg) - parameters(vgg.classifier.fc8):12,}")
print(f"  without all its dense layers   {parameters(vgg.features):12,}")
print(f"SegNet on VGG-16, 11 classes     {parameters(segnet):12,}")
print(f"SegNet-Basic, 11 classes         {parameters(basic):12,}")
print(f"DeconvNet, 21 classes            {parameters(deconvnet):12,}")
dense = sum(parameters(layer) for layer in (deconvnet.fc6, deconvnet.fc7, deconvnet.fc6_deconv))
print(f"  in fc6, fc7 and fc6's mirror   {dense:12,}, {dense / parameters(deconvnet):.0%}")

# %% [markdown]
# SegNet's paper (section 3) says that its encoder comes down from 134 million parameters to 14.7 million. That is no
# compression: the dense layers are left out. The decoder mirrors the encoder, and so the whole has twice as many.
# **SegNet-Basic** is a small network to compare ideas with: four encoders and four decoders of one convolution each, 64
# channels everywhere, kernels of 7x7 for a wide view.
#
# ## Four ways up
#
# How a decoder enlarges its maps can be exchanged. The course's `Unpool` has four ways: by indices, by fixed places
# ("nails"), bilinear interpolation, and a learned transposed convolution. Here is what the first three do to a pooled
# map, the brightness of a part of a scene, and how many parameters each way has for 64 channels.

# %%
from segcourse.datasets import load
from segcourse.figures.segnet_unpooling import inside_figure, places_of

train_set, val_set = load("train", count=200), load("val", count=24)
print(train_set)
grey = val_set.images[3:4].mean(1, keepdim=True)[:, :, 24:72, 30:94]  # (1, 1, 48, 64)
grey_pooled, grey_indices = F.max_pool2d(grey, 2, return_indices=True)
ways = {how: Unpool(1, how)(grey_pooled, grey_indices, (48, 64))[0, 0] for how in ("indices", "nails", "bilinear")}
panels = {"the map, 48×64": (grey[0, 0], "map"), "max-pooled, 24×32": (grey_pooled[0, 0], "map")}
panels["where the maxima were"] = (places_of(grey_indices, 64)[0, 0], "places")
panels |= {
    "indices": (ways["indices"], "sparse"),
    "nails": (ways["nails"], "sparse"),
    "bilinear": (ways["bilinear"], "map"),
}
show(
    inside_figure(panels, 3),
    "The brightness of a part of a street, from violet (dark) to yellow (bright), its pooled map, the place of each "
    "maximum in its window as one of four colours, and three ways back to full size: by indices and by nails, three of "
    "four pixels are empty; bilinear, all are filled and smooth.",
)
for how in ("indices", "nails", "bilinear", "transposed"):
    print(f"{how:10}: {parameters(Unpool(64, how)):6,} parameters for 64 channels")

# %% [markdown]
# The fourth way has weights to learn: 2 · 2 · 64 · 64 + 64. Before it is trained, it would show a picture of random
# numbers.
#
# ## How good are the boundaries
#
# What unpooling is about shows at boundaries, and most pixels lie elsewhere. So look at the boundaries alone, in two
# ways. **Boundary IoU** is the mean IoU (intersection over union, averaged over the classes) of the pixels within three
# pixels of a boundary, the band of lesson 04: pixels with another class in the square of 7x7 around them. (Cheng and
# others, 2021, gave the name to another measure; see lesson 04.) `evaluate` returns it beside the mean IoU of all
# pixels. How many pixels are that?

# %%
from segcourse.metrics import boundary_band

labelled = val_set.masks != 255
for radius in (1, 3):
    share = boundary_band(val_set.masks, radius)[labelled].double().mean()
    print(f"pixels at most {radius} away from another class: {share:.1%}")

# %% [markdown]
# The second way is an error, at the boundary itself. Here "next to" is meant more narrowly: a pixel is a **boundary
# pixel** if one of its four neighbours (left, right, above, below) has another class; in the square of radius 1 the
# diagonal ones counted too. Both sides of a boundary count. Void pixels (255) are no boundary pixels, and a void
# neighbour is no other class: nobody knows what is there. The **boundary error** is the share of boundary pixels whose
# label is wrong.
#
# ### Exercise: errors at boundaries (2 points)
#
# Do it without a loop over pixels: compare a mask with itself, moved by one.


# %%
def boundary_error(prediction, mask):
    """Return the share of wrong labels among the pixels next to another class.

    prediction: (N, H, W) int64, labels; mask: (N, H, W) int64, the truth, void is 255. There is a boundary somewhere.
    Returns a number from 0 to 1: wrong boundary pixels over boundary pixels, all images together. Boundary pixels are
    those of the mask.
    Example: mask [[[0, 0, 1, 255]]] has two boundary pixels; with the prediction [[[0, 1, 1, 1]]] the error is 0.5.
    """
    # BEGIN SOLUTION
    near = torch.zeros_like(mask, dtype=torch.bool)
    known = mask != 255
    across = (mask[:, :, 1:] != mask[:, :, :-1]) & known[:, :, 1:] & known[:, :, :-1]
    down = (mask[:, 1:] != mask[:, :-1]) & known[:, 1:] & known[:, :-1]
    near[:, :, 1:] |= across
    near[:, :, :-1] |= across
    near[:, 1:] |= down
    near[:, :-1] |= down
    return (prediction != mask)[near].double().mean().item()
    # END SOLUTION


# %%
check.boundary_error(boundary_error)

# %% [markdown]
# ## Indices against fixed places, trained
#
# Two small networks: SegNet-Basic with 16 channels and kernels of 5x5, alike but for the way up. They are trained from
# the same start on the same crops, about ten seconds each on a free core. Which one will have the larger boundary IoU?
# Write down "indices" or "nails".

# %%
prediction_better = ...

# %% tags=["nbval-ignore-output"]
from segcourse.augment import crops

models, scores_of = {}, {}
for how in ("indices", "nails"):
    torch.manual_seed(0)
    models[how] = SegNetBasic(classes=len(train_set.classes), width=16, kernel=5, unpool=how).to(device)
    train(models[how], crops(train_set, size=(64, 96)), steps=150, learning_rate=1e-2)
    scores_of[how] = evaluate(models[how], val_set)
    print(f"{how}: mean IoU {scores_of[how].mean_iou:.3f}, boundary IoU {scores_of[how].boundary_iou:.3f}")

# %% tags=["nbval-ignore-output"]
better = max(scores_of, key=lambda how: scores_of[how].boundary_iou)
guess = next((how for how in models if how in str(prediction_better).lower()), prediction_better)  # "By indices", too
reveal(guess, better, "larger boundary IoU, in this one training")
ahead = abs(scores_of["indices"].boundary_iou - scores_of["nails"].boundary_iou)
print(f"It is ahead by {ahead:.3f}.")

# %% [markdown]
# One seed and a few seconds of training decide nothing by themselves. Here are longer trainings of SegNet on VGG-16's
# plan with 8 channels in its first stage, 550 batches of 8 from 400 generated scenes, each way with three seeds: what
# `benchmarks/experiments/05_unpooling.py` prints. (It takes its means before it rounds.)
#
# | unpooling | mean IoU, seeds 0, 1, 2 | mean | boundary IoU | mean |
# | --- | --- | --- | --- | --- |
# | by indices | 0.275, 0.267, 0.319 | 0.287 | 0.200, 0.192, 0.245 | 0.212 |
# | top left (bed of nails) | 0.256, 0.257, 0.289 | 0.268 | 0.180, 0.175, 0.207 | 0.187 |
# | bilinear | 0.273, 0.294, 0.289 | 0.285 | 0.193, 0.205, 0.206 | 0.201 |
# | transposed convolution | 0.289, 0.251, 0.256 | 0.265 | 0.207, 0.174, 0.183 | 0.188 |
#
# Remembered places beat the fixed place with every seed, in both columns. Both ways pass on one number a window; only
# the places differ. Against interpolation it is undecided: indices win in boundary IoU with two seeds and lose with
# one, and over all pixels the means are the same to 0.002. Three seeds cannot tell such small differences from chance.
# The transposed convolution, which alone has more to learn, is the best of the four with seed 0 and the last with the
# other two: with so few batches, its weights paid in one of three trainings.
#
# And your boundary error of the two small networks:

# %% tags=["nbval-ignore-output"]
my_error = yours_or_ours.boundary_error(boundary_error)
labels = {how: predict(model, val_set.images) for how, model in models.items()}
for how, found in labels.items():
    wrong = (found != val_set.masks)[val_set.masks != 255].double().mean()
    print(f"{how:8}: error over all pixels {wrong:.1%}, boundary error {my_error(found, val_set.masks):.1%}")

# %% tags=["nbval-ignore-output"]
from segcourse.figures.convolutionalize import label_maps_figure

chosen = 3
panels = {"scene": val_set.images[chosen], "ground truth": val_set.masks[chosen]}
panels |= {f"unpooled by {how}": found[chosen] for how, found in labels.items()}
least = dict(zip(val_set.classes, torch.stack([score.iou for score in scores_of.values()]).amin(0).tolist()))
most = dict(zip(val_set.classes, torch.stack([score.iou for score in scores_of.values()]).amax(0).tolist()))
show(
    label_maps_figure(val_set, panels, columns=2),
    "A scene, its mask, and the labels of the two networks. Over all scenes both have an IoU above 0.5 for "
    f"{', '.join(name for name, iou in least.items() if iou > 0.5)}, and neither one above 0.1 for "
    f"{', '.join(name for name, iou in most.items() if iou < 0.1)}.",
)
low = [name for name, iou in most.items() if iou < 0.1]
share = torch.isin(val_set.masks, torch.tensor([val_set.classes.index(name) for name in low])).double().mean()
print(f"IoU below 0.1 with both networks: {len(low)} of {len(most)} classes, together {share:.0%} of the pixels")

# %% [markdown]
# Compare the outlines, where sky, building and road meet: how straight are they, and how far from those of the mask? Do
# not look for small things: after so short a training both networks know little but the large classes. More than half
# of the classes are still below an IoU of 0.1 with both.
#
# ## Inside the trained network
#
# What goes through the outermost pair, in the channel whose map varies most: the map before the first pooling, what is
# left of it, and the places of the maxima. In the second row, what the last unpooling makes of the map from below
# (only the framed part, enlarged), what the convolution after it makes of that, and the heat map of road. In the last
# row, the same three for the network with fixed places; the two were trained apart, so a channel of one has nothing to
# do with the same channel of the other.
#
# Nor has a channel of the decoder the meaning that it has in the encoder: all that channel k of the two shares is the
# *indices*. And what comes after the convolution is not made of the unpooled map beside it alone. The convolution mixes
# the unpooled maps of all 16 channels, of which you see one.

# %%
from segcourse.figures.segnet_unpooling import watch

scene = val_set.images[chosen].to(device)
inside = {how: watch(model, scene) for how, model in models.items()}
seen = inside["indices"]
channel = int(seen["map"].flatten(1).std(1).argmax())
size = tuple(seen["map"].shape[1:])
panels = {
    f"map, {size[0]}×{size[1]}": (seen["map"][channel], "map"),
    "pooled": (seen["pooled"][channel], "map"),
    "indices": (places_of(seen["indices"], size[1])[channel], "places"),
}
middle, halves = (slice(30, 66), slice(40, 88)), {}
for how in ("indices", "nails"):
    panels[f"{how}: unpooled, a part"] = (inside[how]["unpooled"][channel][middle], "sparse")
    panels[f"{how}: after the convolution"] = (inside[how]["dense"][channel], "map")
    road = inside[how]["scores"].softmax(0)[val_set.classes.index("road")]
    halves[how] = " and ".join(f"{half.mean():.2f}" for half in road.chunk(2))
    panels[f"{how}: heat map of road"] = (road, "share")
show(
    inside_figure(panels, 3, middle),
    f"Nine maps of the trained networks. A feature map of {size[0]} x {size[1]}, pooled, and its indices in four "
    "colours; then for indices and for nails: the unpooled map with three of four pixels white, in irregular places or "
    "on a regular grid; the dense map after the convolution, with a frame around that part; and the probability of "
    f"road, on average in the upper and in the lower half {halves['indices']} with indices, "
    f"{halves['nails']} with nails.",
)

# %% [markdown]
# Look at the indices. Where the ReLU has left zeros, all four numbers of a window are equal, the first one counts, and
# the colour is that of the upper left. In nearly even areas they look like noise: there the place of a maximum says
# little.
#
# ## Trained layer by layer
#
# Before batch norm and good initial weights were common, deep networks were often trained one layer after the other.
# The first SegNet (2015), four layers of 7x7 with 64 features as SegNet-Basic, was, too: first the outermost encoder
# and decoder with the soft-max on top, then the next pair, put in between them, and so on inwards. What was learned
# before is taken over and stays as it is; only the new pair and the score layer learn. Here are the four networks;
# between two lines lies a training, which this cell leaves out:

# %%
grown = None
for depth in (1, 2, 3, 4):
    deeper = SegNetBasic(classes=11, depth=depth)
    if grown is not None:
        kept = ((deeper.encoder[:-1], grown.encoder), (deeper.decoder[1:], grown.decoder), (deeper.score, grown.score))
        for new, old in kept:
            new.load_state_dict(old.state_dict())
        for part in (deeper.encoder[:-1], deeper.decoder[1:]):
            part.requires_grad_(False)
    learning = sum(p.numel() for p in deeper.parameters() if p.requires_grad)
    print(f"depth {depth}: {learning:7,} of {parameters(deeper):9,} parameters learn")
    grown = deeper

# %% [markdown]
# `requires_grad_(False)` holds the weights. It does not hold the running means and variances of batch norm, which
# follow every batch that passes in training mode; a part that is to stay just as it is must also be put into
# evaluation mode.
#
# The paper of 2017 trains the whole at once, as we did above. Training in stages is still used where an easier task
# prepares a harder one, as in the next section.
#
# ## DeconvNet
#
# At the same time as SegNet, Noh, Hong and Han (2015) published **DeconvNet**. It unpools by indices too, and follows
# with transposed convolutions of stride 1 ("deconvolutions"). That is no difference yet: at stride 1 a transposed
# convolution is a convolution with its kernel turned round, and a kernel that is learned may as well be learned
# turned. Two things do differ. **First**, it keeps VGG-16's dense layers fc6 and fc7, as convolutions, and mirrors
# fc6. The map goes down to 1x1, a single vector that knows the whole image, and up again. You saw the price above:
# 88 % of 252 million parameters.

# %%
sizes = []
with torch.device("meta"):
    for layer in (*deconvnet.encoder, deconvnet.fc6, deconvnet.fc6_deconv, *deconvnet.decoder):
        layer.register_forward_hook(
            lambda _layer, _given, out: sizes.append((out[0] if isinstance(out, tuple) else out).shape[2])
        )
    deconvnet.eval()(torch.empty(1, 3, 224, 224))
print("sides of the maps:", 224, *sizes)

some, kernel = torch.randn(1, 2, 6, 7), torch.randn(2, 3, 3, 3)
turned = F.conv2d(some, kernel.transpose(0, 1).flip(2, 3), padding=1)
same = torch.allclose(F.conv_transpose2d(some, kernel, padding=1), turned, atol=1e-5)
print("transposed convolution of stride 1 = convolution with the kernel turned round:", same)

# %% [markdown]
# **Second**, it does not look at whole images. A network with a 224x224 view sees large objects in parts and small
# ones hardly at all. So the image is cut into **proposals**, boxes that may hold an object; each is resized to 224x224
# and segmented by itself; the score maps are put back to their places.
#
# ## Proposals, put together
#
# The score maps $g_i$ are pasted into images of zeros, which gives $G_i$, and at each pixel and class the largest score
# counts (section 5.1 of the paper; a sum is the other way that it names):
#
# $$P(x, y, c) = \max_i \, G_i(x, y, c)$$
#
# In one dimension, with one class, a row of 5 pixels and three proposals:
#
# | | pixel 0 | 1 | 2 | 3 | 4 |
# | --- | --- | --- | --- | --- | --- |
# | first, on pixels 0 to 2: scores 4, -1, 2 | 4 | -1 | 2 | 0 | 0 |
# | second, on pixels 2 and 3: scores 3, 6 | 0 | 0 | 3 | 6 | 0 |
# | third, on pixels 3 and 4: scores 1, 5 | 0 | 0 | 0 | 1 | 5 |
# | maximum | 4 | 0 | 3 | 6 | 5 |
#
# The -1 at pixel 1 becomes 0: the others have a 0 there, and that is larger. With many proposals every pixel lies
# outside of at least one, so the maximum is never negative, and the exercise promises as much.
#
# ### Exercise: many proposals, one map (2 points)


# %%
def aggregate_proposals(maps, boxes, size):
    """Return the largest score at each pixel and class, over all proposals.

    maps: a list of tensors (C, h, w), the scores of each proposal, already as large as its box.
    boxes: a list of (top, left, bottom, right), as many; bottom and right are the first row and column outside.
    size: (H, W) of the image. Two proposals or more; no pixel lies in all of them, so each has a 0 among its scores.
    Returns a tensor (C, H, W): the maximum over the proposals, each of which has zeros outside of its box.
    """
    # BEGIN SOLUTION
    canvases = []
    for scores, (top, left, bottom, right) in zip(maps, boxes):
        canvas = scores.new_zeros(len(scores), *size)
        canvas[:, top:bottom, left:right] = scores
        canvases.append(canvas)
    return torch.stack(canvases).amax(0)
    # END SOLUTION


# %%
check.aggregate_proposals(aggregate_proposals)

# %% [markdown]
# ## Two stages of training
#
# A box around an object can be cut anywhere and in any size, and there may be parts of other objects in it. Noh et al.
# begin with easier examples, because they have few images (section 4.2):
#
# 1. **First stage.** Each crop is a square around one object, 1.2 times its size. Only that object is labelled, all
#    else is background. So the class is always in the middle, at the same scale.
# 2. **Second stage.** The crops are proposals that overlap an object's box by half or more (intersection over union).
#    All classes in them are labelled. Objects are off the centre, larger, smaller, cut.
#
# They took 0.2 million crops for the first stage and 2.7 million for the second, and 50 proposals an image. We do it on
# a small scale, and in several points otherwise:
#
# - The network is a SegNet-Basic of 16 channels on crops of 32x32, not DeconvNet, which would take far longer. The
#   scheme is the same whatever sees the proposals.
# - The classes are background, tree, sign, car, person. Objects are connected regions of the masks, so that two cars
#   that touch are one object. Regions of fewer than 40 pixels are left out: `find_things` does not return them.
# - The proposals are a plain grid of squares in four sizes. It knows nothing of the image, unlike the paper's detector
#   of object-like regions (Edge Boxes), which ranks them, too.

# %%
from segcourse.figures.segnet_unpooling import things_only
from segcourse.proposals import find_things, first_stage, grid_boxes, score_boxes, second_stage

train_things, val_things = things_only(train_set), things_only(val_set)
things = find_things(train_things.masks, labels=range(1, 5))
boxes = grid_boxes(train_things.size, sides=(24, 36, 54, 80))
first = first_stage(train_things.images, train_things.masks, things, side=32, count=32)
second = second_stage(train_things.images, train_things.masks, things, boxes, side=32, count=32)
print(f"{len(things)} objects in {len(train_things)} scenes, {len(boxes)} proposals for each scene")
pixels = train_things.size[0] * train_things.size[1]
print(f"the network sees {len(boxes) * 32**2 / pixels:.1f} times the pixels of a scene")


def without_object(masks):
    """The share of masks (N, H, W) that hold no pixel of an object."""
    return ((masks == 0) | (masks == 255)).flatten(1).all(1).double().mean().item()


empty = [without_object(val_things.masks[:, top:bottom, left:right]) for top, left, bottom, right in boxes]
print(f"proposals without a pixel of an object: {sum(empty) / len(boxes):.0%}")
for name, stage in (("first", first), ("second", second)):
    generator = torch.Generator().manual_seed(0)
    crops_without = without_object(torch.cat([stage(generator)[1] for _ in range(5)]))
    print(f"crops without one, {name} stage of training: {crops_without:.0%} of {5 * 32}")

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
finder = SegNetBasic(classes=len(train_things.classes), width=16, kernel=3).to(device)
for stage in (first, second):
    train(finder, stage, steps=80, learning_rate=1e-2)

# %% [markdown]
# Now a scene that it has not seen: all proposals through the network, their scores back to their places with your
# function. Below the scene, the proposals that fit the largest object of each class best, one that fits none of them,
# and what was said of each. A class with small regions only has no object, and so no crop.

# %%
from segcourse.figures.segnet_unpooling import largest_things, scene_figure

my_aggregate = yours_or_ours.aggregate_proposals(aggregate_proposals)
chosen = 3
maps = [scores.cpu() for scores in score_boxes(finder, val_things.images[chosen].to(device), boxes, 32)]
together = my_aggregate(maps, boxes, val_things.size).argmax(0)  # (H, W): the labels from all proposals
truth = val_things.masks[chosen]
present = [(k, name) for k, name in enumerate(val_things.classes) if bool((truth == k).any())]
hits = ", ".join(f"{name} {(together == k)[truth == k].double().mean():.0%}" for k, name in present)
print("found of each class' pixels:", hits)
none_large = [name for k, name in present if k and name not in largest_things(val_things, chosen)]
print("in the scene, but no region of 40 pixels or more:", ", ".join(none_large) or "none")
called_tree = val_set.masks[chosen][together == 1]  # what is there, among all the classes of a street
shares = {name: (called_tree == val_set.classes.index(name)).double().mean() for name in ("tree", "building")}
print("of the pixels called tree:", ", ".join(f"{share:.0%} are {name}" for name, share in shares.items()))
show(
    scene_figure(finder, val_things, chosen, boxes, 32, together),
    f"A scene with some of its {len(boxes)} proposals framed in colours; the labels from all proposals, and the truth; "
    f"below, the crops and the labels that the network gave each. Found of each class' pixels: {hits}.",
)

# %% [markdown]
# Not all that it calls tree is one; some is the front of a house. In training every crop held an object, here a
# quarter of the proposals holds none; and a maximum over many proposals keeps the boldest mistake.
#
# Is the first stage worth it? Our two short stages show how the scheme runs, not what it is worth. This is what
# `benchmarks/experiments/05_two_stage.py` prints, three seeds with a town of their own, the same number of batches for
# each way:
#
# | mean IoU of three seeds | maximum of proposals | sum of proposals |
# | --- | --- | --- |
# | first stage only, 200 batches | 0.250 0.260 0.259 | 0.185 0.189 0.199 |
# | second stage only, 200 batches | 0.367 0.386 0.408 | 0.369 0.419 0.419 |
# | first stage, then second, 100 batches each | 0.349 0.376 0.398 | 0.329 0.363 0.379 |
# | no proposals: whole scenes, 200 batches | 0.351 0.363 0.383 | |
#
# Batches are not equal work. Those of the first three rows are 32 crops of 32x32, those of the last are 6 scenes, more
# than twice as many pixels.
#
# The first stage alone is not enough. It shows single objects in the middle of their crops, and calls all else
# background, also a second object; what a grid of boxes cuts out was not in it. The second alone is
# best in all three seeds. Beginning with the first did not pay here: it took half of the batches, and they were missed.
# (Adding the scores up did at least as well as the maximum for the second stage alone, and worse for the others.)
# With so few batches and small crops that says little about the paper's 2.9 million crops; it does say that two stages
# are a means, to be tried, and not a law. Signs and persons, small and rare, are hardly found in any of the ways; the
# script prints the IoU of each class.
#
# ## What slides often get wrong
#
# **"Unpooling is the inverse of pooling."** You saw one number of four come back. The other order is exact: pooling
# what was unpooled gives the same values, if none is negative. (Next to three zeros a negative number is not the
# largest.)

# %%
print("unpool after pool:", torch.equal(my_unpool(*my_pool(noise), (64, 96)), noise))
positive, places = F.max_pool2d(noise.abs(), 2, return_indices=True)
print("pool after unpool:", torch.equal(F.max_pool2d(my_unpool(positive, places, (64, 96)), 2), positive))
mixed, places = F.max_pool2d(noise - 2, 2, return_indices=True)
print("  with negative values:", torch.equal(F.max_pool2d(my_unpool(mixed, places, (64, 96)), 2), mixed))

# %% [markdown]
# **"Unpooling and transposed convolution are two names for one thing."** A transposed convolution does the same to
# every image. Unpooling by indices takes its places from this image, and has no weights. The same pooled map, with the
# indices of two images:

# %%
two = torch.stack([printed, other])[:, None]
same_values, two_indices = F.max_pool2d(two, 2, return_indices=True)
print("pooled maps equal:", torch.equal(same_values[0], same_values[1]))
unpooled = my_unpool(same_values, two_indices, (4, 4))
layer = nn.ConvTranspose2d(1, 1, 2, stride=2)
enlarged = layer(same_values)
print(
    "unpooled equal:",
    torch.equal(unpooled[0], unpooled[1]),
    " by a transposed convolution:",
    torch.equal(enlarged[0], enlarged[1]),
)

# %% [markdown]
# Fixed unpooling *is* a transposed convolution, with a kernel of one 1 (lesson 02). The paper of DeconvNet has both,
# one after the other.
#
# **"Unpooling doubles the size, so nothing else need be said."** With odd sizes it goes wrong, loudly or silently. A
# map of 5x5, pooled with PyTorch's rounding down, without the size:

# %%
odd = torch.arange(25.0).reshape(1, 1, 5, 5)
odd_values, odd_indices = F.max_pool2d(odd, 2, return_indices=True)
try:
    F.max_unpool2d(odd_values, odd_indices, 2)
except RuntimeError as error:
    print("refused:", str(error).split(".")[0])
early = odd.flip(2, 3)  # now the maxima come early, and their indices happen to fit into 4 x 4
early_values, early_indices = F.max_pool2d(early, 2, return_indices=True)
print("no error:", F.max_unpool2d(early_values, early_indices, 2)[0, 0].int().tolist())
print("right:   ", F.max_unpool2d(early_values, early_indices, 2, output_size=(5, 5))[0, 0].int().tolist())

# %% [markdown]
# **"Indices save 64 times the memory, so SegNet needs far less than a network with skips."** The 64 is 2 bits against
# 128, and the sum over SegNet's layers above had a factor of 2 for the int64 that PyTorch keeps. And in training the
# maps are kept anyway, for the backward pass:

# %%
stored = []


def note(tensor):
    """Called by PyTorch for each tensor that the backward pass will need."""
    stored.append(tensor.data_ptr())
    return tensor


layer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
    before_pooling = layer(noise)
    F.max_pool2d(before_pooling, 2, return_indices=True)
print("the map before pooling is kept, beside the indices:", before_pooling.data_ptr() in stored)

# %% [markdown]
# **"SegNet and DeconvNet differ in how they unpool."** They unpool alike. The dense layers differ, and with them the
# number of parameters; take them out of DeconvNet and what is left is of SegNet's size:

# %%
print(f"DeconvNet without fc6, fc7 and fc6's mirror: {parameters(deconvnet) - dense:,}; SegNet: {parameters(segnet):,}")

# %% [markdown]
# ## Quiz

# %%
quiz.what_comes_back()

# %%
quiz.whose_indices()

# %%
quiz.parameters_of_unpooling()

# %%
quiz.where_the_millions_went()

# %%
quiz.how_much_memory()

# %%
quiz.fixed_or_indexed()

# %%
quiz.two_stages()

# %% [markdown]
# ## Summary
#
# - Max pooling with indices keeps the maxima and their places; unpooling writes them back into zeros. A quarter of the
#   map returns, and convolutions must fill the rest.
# - Indices are flat numbers in their own channel, and mean something only together with the size of the map.
# - A place is 2 bits of information; PyTorch keeps 64. Count before you speak of memory.
# - In SegNet the decoder's first stage unpools by the encoder's last pooling. Without dense layers, 134 million
#   parameters become 14.7 million, and 29.4 million with the decoder.
# - DeconvNet unpools alike, keeps the dense layers (252 million), and looks at proposals, trained in two stages and put
#   together by the pixel-wise maximum.
#
# ## References
#
# - V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
#   segmentation", TPAMI 2017, section 3: SegNet; section 3.1: decoder variants and SegNet-Basic.
# - V. Badrinarayanan, A. Handa, R. Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for robust
#   semantic pixel-wise labelling", arXiv:1505.07293, 2015: the first SegNet, four layers of 7x7 with 64 features.
# - H. Noh, S. Hong, B. Han, "Learning deconvolution network for semantic segmentation", ICCV 2015, section 3:
#   DeconvNet; section 4.2: two stages of training; section 5.1: proposals and their aggregation.
# - M. D. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 2.1: the places
#   of maxima ("switches"), kept to look into a network.
# - C. L. Zitnick, P. Dollár, "Edge boxes: locating object proposals from edges", ECCV 2014: the paper's proposals.
#
# ## Where next
#
# Lesson 06, [U-Net](06_unet.ipynb), hands whole maps across and pays for it. Lesson 04, [FCN](04_fcn_skips.ipynb), adds
# scores of earlier layers. Lesson 02 has the [transposed convolution](02_transposed.ipynb), and fixed unpooling as one;
# [lesson 08](08_depthwise_cost.ipynb) counts what all of these cost.
