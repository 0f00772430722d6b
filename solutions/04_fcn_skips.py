# %% [markdown]
# # 04 FCN: skips
#
# Build FCN-32s, FCN-16s and FCN-8s: coarse scores that know what, fine scores that know where, one sum.
#
# A convolutionalized classifier (lesson 03) gives a score for every 32nd pixel. That is enough to say what is in an
# image and far too little to say where it ends. The fully convolutional network of Long, Shelhamer and Darrell (2015)
# repairs it with almost nothing: a 1x1 convolution on an earlier map, and a sum. After this lesson you can
#
# - **turn** coarse features into a label for every pixel, in the right order of steps;
# - **write** the loss of a segmentation network, with pixels that nobody labelled;
# - **derive** the crop offsets of FCN (5, 9, 31 and the others) from kernels, strides and paddings;
# - **assemble** FCN-8s from three maps, and **say** why scores are added and features are not;
# - **start** each stage of the training at the scores of the former, and **check** how nearly the output stays;
# - **take apart** a trained network: measure what each map brings, inside regions and at their boundaries.
#
# Time: 30 minutes to read, 58 to do. Points: 14, in 6 exercises. You need lesson 02 (transposed convolution, bilinear
# kernels) and lesson 03 (1x1 convolutions, dense layers as convolutions).

# %% tags=["setup"]
import copy

import torch
import torch.nn.functional as F
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours
from segcourse.models.fcn import FCN
from segcourse.training import evaluate, pick_device, predict, train
from segcourse.transposed import bilinear_kernel

start("04_fcn_skips")
device = pick_device()

# %% [markdown]
# ## Predict
#
# Take the mask of a street scene, 96 x 128 pixels, and cut it into blocks of 32 x 32. Give each block the label that is
# most frequent in it. No network that repeats its labels in blocks of 32 can have more right pixels than these. (With
# other labels the mean IoU below could be higher, for a rare class counts as much as a frequent one.)
#
# How good is it? We measure by **intersection over union**. For a class, that is the number of pixels that are rightly
# given this label, divided by the number of pixels that have the label in the mask, in the prediction or in both. The
# **mean IoU** is the mean over the classes: 1 is perfect. Write down a number from 0 to 1.

# %%
prediction_blocks = ...

# %% [markdown]
# ## Where and what
#
# Here are scenes as in the lessons before. With CamVid on your computer, the cells read the real frames.

# %%
from segcourse.datasets import VOID, load
from segcourse.figures.convolutionalize import label_maps_figure
from segcourse.figures.fcn_skips import block_labels

train_set, val_set = load("train", count=250), load("val", count=24)
print(train_set)
blocks = {side: block_labels(val_set.masks, side) for side in (32, 16, 8)}
panels = {"scene": val_set.images[4], "mask": val_set.masks[4]}
panels |= {f"blocks of {side}": labels[4] for side, labels in blocks.items()}
show(
    label_maps_figure(val_set, panels, columns=3),
    "A street scene, its mask, and the mask with one label for each block of 32, 16 and 8 pixels, in jagged outlines. "
    "Classes that occur: "
    + ", ".join(f"{title} {len(p[p != VOID].unique())}" for title, p in panels.items() if p.ndim == 2),
)

# %% [markdown]
# The finer the blocks, the more of what is still wrong lies along the boundaries. So we measure there too. The
# **boundary band** is the set of all pixels that have a change of label within 3 pixels, and the **boundary IoU** of
# this lesson is the mean IoU of these pixels alone. (Within 3 rows and 3 columns, that is, a square; a change to
# *void*, to pixels that nobody labelled, does not count. Another measure has the name Boundary IoU too, see the
# references.) Inside a region "what" decides; in the band "where" does.

# %%
from segcourse.metrics import ConfusionMatrix, boundary_band

band = boundary_band(val_set.masks)  # (N, H, W), True near a change of label
limits = {}
for side, labels in blocks.items():
    everywhere, near = ConfusionMatrix(len(val_set.classes)), ConfusionMatrix(len(val_set.classes))
    everywhere.add(labels, val_set.masks)
    near.add(labels, val_set.masks.where(band, VOID))  # void is not counted
    limits[side] = everywhere.mean_iou
    wrong = (labels != val_set.masks) & (val_set.masks != VOID)
    print(
        f"most frequent labels in blocks of {side:2}: "
        f"right pixels {everywhere.accuracy:.3f}, mean IoU {limits[side]:.3f}, "
        f"boundary IoU {near.mean_iou:.3f}; of the wrong pixels {float(band[wrong].float().mean()):.0%} are in the band"
    )
print(f"the band holds {float(band[val_set.masks != VOID].float().mean()):.0%} of the labelled pixels")
reveal(prediction_blocks, round(limits[32], 2), "mean IoU of the most frequent labels in blocks of 32", close=0.05)

# %% [markdown]
# So a network that repeats its labels in blocks of 32 is bad even if it knows everything. Interpolating between the
# blocks will help, as you will see, but steps that are finer help more. Why not simply leave poolings out? Because they
# are what lets a unit see far. Trace what the units of VGG-16 see (lesson 01):

# %%
from segcourse.tracing import trace

with torch.device("meta"):  # shapes only: the networks of the paper, without memory for their numbers
    paper = {stride: FCN(stride) for stride in (32, 16, 8)}
seen = trace(paper[8], (3, 500, 370))
for name, module in (("pool3", "features.stage3"), ("pool4", "features.stage4"), ("fc7", "fc7")):
    rows = seen[module][0]  # along the rows; the columns are alike
    print(f"{name}: a unit every {rows.jump} pixels, each sees {rows.size} x {rows.size} pixels")

# %% [markdown]
# A unit of fc7 sees 404 pixels, enough to tell a bus from a house, and it stands for 32 x 32 pixels. A unit of pool3
# sees 44 pixels, enough for an edge or a wheel, and it stands for 8 x 8. **Coarse maps know what, fine maps know
# where.** FCN asks both.
#
# ## A score at every pixel
#
# First the coarse map alone. Three steps lead from features to labels:
#
# 1. **score**: a 1x1 convolution makes K scores of the C features at each place, one for each class;
# 2. **enlarge**: interpolate each class's scores to all pixels;
# 3. **decide**: at each pixel, take the class with the largest score.
#
# By hand, for a row of two coarse places, two classes and a factor of 4. Class 0 scores 6 at the first place and 1 at
# the second, class 1 scores 1 and 2. The centres of the two places are 4 pixels apart; between them the scores run in
# straight lines, and beyond them they stay.

# %%
coarse = torch.tensor([[[6.0, 1.0], [1.0, 2.0]]])  # (N, K, W) = (1, 2, 2)
fine = F.interpolate(coarse, scale_factor=4, mode="linear", align_corners=False)  # (1, 2, 8)
for k in range(2):
    print(f"scores of class {k}:", fine[0, k].tolist())
print("enlarged, then decided:", fine.argmax(1)[0].tolist())
print("decided, then enlarged:", coarse.argmax(1)[0].repeat_interleave(4).tolist())

# %% [markdown]
# The second way can only put the boundary in the middle. The first way puts it where the two lines cross: class 0 leads
# by 5, class 1 by 1, so the crossing lies five sixths of the way. **How sure the scores are says where the boundary
# is.** Deciding first throws that away.
#
# Bilinear interpolation is what lines become in two directions. `F.interpolate(x, scale_factor=factor,
# mode="bilinear", align_corners=False)` does it for maps (N, K, h, w); `align_corners=False` means that a coarse place
# lies at the centre of its `factor` x `factor` pixels, as it should.
#
# ### Exercise: labels from a coarse map (2 points)


# %%
def label_pixels(features, weight, bias, factor):
    """Return a label for every pixel, from a coarse map of features.

    features: (N, C, h, w); weight: (K, C); bias: (K,): of the score layer, a number for each class.
    factor: a whole number, how many pixels a coarse place is high and wide.
    Returns whole numbers (N, factor * h, factor * w): the class with the largest bilinearly enlarged score.
    Example: features of shape (1, 2, 1, 2) with the coarse scores above, the identity as weight, zeros as bias and
    factor 4 give four rows of 0 0 0 0 0 1 1 1.
    """
    # BEGIN SOLUTION
    scores = F.conv2d(features, weight[:, :, None, None], bias)
    enlarged = F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
    return enlarged.argmax(1)
    # END SOLUTION


# %%
check.label_pixels(label_pixels)

# %% [markdown]
# What is the order worth? Score each block of the scenes with the shares of the classes in it, which is a simple good
# score. Then decide and enlarge in both orders. (The score layer has nothing to do here: its weight is the identity.)

# %%
my_labels = yours_or_ours.label_pixels(label_pixels)
# one_hot needs a class for void: it becomes a twelfth one, which is then dropped
one_hot = F.one_hot(val_set.masks.where(val_set.masks != VOID, 11), 12)[..., :11].movedim(-1, 1).float()
known = val_set.masks != VOID
for side in (32, 16, 8):
    shares = F.avg_pool2d(one_hot, side)  # (N, 11, H / side, W / side)
    smooth = my_labels(shares, torch.eye(11), torch.zeros(11), side)
    right = [float((labels == val_set.masks)[known].float().mean()) for labels in (blocks[side], smooth)]
    print(f"step {side:2}: right pixels {right[0]:.3f} if decided first, {right[1]:.3f} if enlarged first")

# %% [markdown]
# Interpolating helps at every step, and steps half as long help more.
#
# ## A loss at every pixel
#
# How is such a network trained? Each pixel is a small classification of its own. The **soft-max** turns its K scores
# into probabilities, and the loss is minus the logarithm of the probability of the class that the mask names. Void
# pixels (255) are left out, and the mean runs over all labelled pixels of the batch.
#
# By hand, for two labelled pixels and two classes. The first pixel has the scores 0 and 0, so its class 0 has the
# probability 1/2, and the loss is log 2 = 0.693. The second has 0 and 1 and is of class 1: the probability is
# e / (1 + e) = 0.731, the loss 0.313. The mean is 0.503. A third pixel is void and counts nowhere.

# %%
scores = torch.tensor([[[[0.0, 0.0, 2.0]], [[0.0, 1.0, 2.0]]]])  # (N, K, H, W) = (1, 2, 1, 3)
masks = torch.tensor([[[0, 1, VOID]]])  # (N, H, W)
print("probabilities of class 0 and 1:", scores.softmax(1)[0, :, 0].T.tolist())
print(f"the loss: {F.cross_entropy(scores, masks, ignore_index=VOID):.3f}")
apart = torch.tensor([120.0, 0.0])
print("scores 120 and 0: soft-max, then logarithm", apart.softmax(0).log().tolist())
print("                  log_softmax             ", apart.log_softmax(0).tolist())

# %% [markdown]
# (The last two lines are the same on paper. In float32 a probability of e to the power of -120 is 0, and its logarithm
# is minus infinity. `log_softmax` subtracts logarithms and never makes the probability.)
#
# `F.cross_entropy` has it all. Now without it: `scores.log_softmax(dim)` gives the logarithms along an axis, and
# `x.gather(1, index)` picks one entry along axis 1 at each place, where `index` is a tensor of whole numbers with an
# axis of length 1 there.
#
# ### Exercise: cross-entropy with void (2 points)


# %%
def pixel_cross_entropy(scores, masks):
    """Return the mean over all labelled pixels of minus the logarithm of the right class's probability.

    scores: (N, K, H, W), before the soft-max.
    masks: (N, H, W), whole numbers from 0 to K - 1, or 255 for void. At least one pixel is labelled.
    Returns a tensor with a single number and no axes, from which a gradient flows back to the scores. Scores may be
    large and far apart, such as 120 and 0: the loss and its gradient stay finite. The images of the batch may have
    different numbers of labelled pixels; every labelled pixel counts alike.
    Example: the scores and the mask above give 0.503.
    """
    # BEGIN SOLUTION
    log_p = scores.log_softmax(1)
    labelled = masks != 255
    known = masks.where(labelled, 0)  # void needs some class to be looked up; it is left out below
    of_mask = log_p.gather(1, known[:, None])[:, 0]  # (N, H, W)
    return -of_mask[labelled].mean()
    # END SOLUTION


# %%
check.pixel_cross_entropy(pixel_cross_entropy)

# %% [markdown]
# This loss sees pixels one by one. Shuffle all pixels of an image, scores and labels together, and it does not notice:

# %%
my_loss = yours_or_ours.pixel_cross_entropy(pixel_cross_entropy)
generator = torch.Generator().manual_seed(0)
scores = torch.randn(2, 11, 96, 128, generator=generator)
order = torch.randperm(96 * 128, generator=generator)
shuffled = scores.flatten(2)[:, :, order].unflatten(2, (96, 128))
shuffled_masks = val_set.masks[:2].flatten(1)[:, order].unflatten(1, (96, 128))
same = torch.allclose(my_loss(scores, val_set.masks[:2]), my_loss(shuffled, shuffled_masks))
print("the same loss after shuffling the pixels:", same)

# %% [markdown]
# Nothing in it says that a road is in one piece or that cars stand on it. So where does the context come from? From the
# network: the score of one pixel is computed from all pixels in its receptive field, and the loss of that one pixel
# changes the weights by what lies in all of it. How far do the outputs of the three networks see?

# %%
for stride, model in paper.items():
    rows = trace(model, (3, 500, 370))[""][0]
    sizes = " to ".join(str(size) for size in sorted({min(rows.sizes), max(rows.sizes)}))
    print(f"FCN-{stride}s: the field of a pixel is {sizes} pixels long")

# %% [markdown]
# fc7 sees 404 pixels. An output of FCN-32s is interpolated from two of its units along an axis, 32 pixels apart: 404 +
# 32 = 436. With two upsamplings, some pixels are made from three units: 468. A third upsampling brings in no fourth
# one: a pixel is made from two scores at a step of 8, these from at most three at a step of 16, and of those, three in
# a row lie between three units of fc7. The field differs from pixel to pixel because pixels lie differently between the
# units. (How much of it a trained network really uses is another matter; lesson 01 measured it.)
#
# ## Three networks
#
# Now the skips. fc7 has a step of 32 pixels, pool4 of 16, pool3 of 8. Each gets a score layer of its own, and the
# scores are upsampled and added on the way up:
#
#     FCN-32s    fc7 -> score -> x32
#     FCN-16s    fc7 -> score -> x2 -> + score of pool4 -> x16
#     FCN-8s     fc7 -> score -> x2 -> + score of pool4 -> x2 -> + score of pool3 -> x8
#
# The number in the name is the step of the finest scores. Everything else is VGG-16 with its dense layers as
# convolutions: fc6 has a 7x7 kernel, fc7 is 1x1. How many parameters do the networks of the paper have, for the 20
# classes of PASCAL VOC and background? Each skip adds a score layer and an upsampling by 2. Predict: which of the three
# stores the most numbers, FCN-32s, FCN-16s or FCN-8s? Write 32, 16 or 8.

# %%
prediction_most_numbers = ...

# %% [markdown]
# torch's *meta* device computes shapes and stores no numbers, so that we can count them without half a gigabyte each.

# %%
totals = {}
for stride, model in paper.items():
    totals[stride] = total = sum(p.numel() for p in model.parameters())
    upsampling = sum(p.numel() for name, p in model.named_parameters() if name.startswith("up"))
    skips = sum(p.numel() for name, p in model.named_parameters() if name.startswith("score_pool"))
    print(f"FCN-{stride}s: {total:,} numbers; upsampling {upsampling:,}, scores of skips {skips:,}")
reveal(prediction_most_numbers, max(totals, key=totals.get), "stride of the network with the most numbers")

# %% [markdown]
# A skip costs almost nothing: pool4 has 512 channels and 21 classes, 512 · 21 + 21 = 10,773. The networks even shrink,
# because the last kernel does. Upsampling by a factor $f$ takes a kernel of $2f \times 2f$ from each of 21 classes to
# each: 21 · 21 · 64 · 64 = 1,806,336 weights for FCN-32s.
#
# ## Upsampling, set to bilinear and learned
#
# Upsampling by $f$ is a transposed convolution with stride $f$ and a kernel of $2f$, no padding (lesson 02): every
# coarse score stamps a tent of $2f \times 2f$ pixels around it, and overlapping stamps add up. For $f = 2$ the tent
# along an axis is 1/4, 3/4, 3/4, 1/4. The weight has a kernel for each pair (class in, class out). To interpolate, put
# the tent where a class meets itself, and zero everywhere else:

# %%
from segcourse.models.fcn import set_bilinear

up2 = nn.ConvTranspose2d(3, 3, kernel_size=4, stride=2, bias=False)  # weight (3 in, 3 out, 4, 4)
set_bilinear(up2)
print("the tent:", bilinear_kernel(2).tolist())
print("from class to class, the sum of the kernel:", up2.weight.sum((2, 3)).tolist())

small = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    stamped = up2(small)
print(
    f"5 x 7 becomes {stamped.shape[2]} x {stamped.shape[3]}: the stamps reach one unit beyond the border on each side"
)
interpolated = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
inner = slice(1, -1)
print("F.interpolate, but for the border:", torch.allclose(stamped[..., 2:-2, 2:-2], interpolated[..., inner, inner]))

# %% [markdown]
# So the network *starts* by interpolating. Then it depends. The **last** upsampling, to the pixels, stays bilinear;
# those **between the maps** are trained with the rest (the paper's section 4.3). So FCN-32s has no learned upsampling,
# and most of its upsampling's numbers are zeros that stay zero. Is the learning needed? The authors say no: in
# follow-up experiments, they write in the FAQ of their code, they kept all bilinear kernels fixed and found no
# significant difference. They add that there is only one kernel for each class: with zeros between classes, that is all
# that a fixed weight uses. Where it is learned as here, it may also mix classes.
#
# ## Where the maps lie
#
# Before two maps can be added, we must know which units belong together. pool4 and the upsampled scores both have a
# step of 16 pixels, but they do not begin at the same place. Along one axis, count in units of pool4, 0, 1, 2, ..., and
# follow the *centre of the first unit* through the layers:
#
# | layer | kernel, stride, padding | first centre | step |
# | --- | --- | --- | --- |
# | pool4 | | 0 | 1 |
# | three convolutions | 3, 1, 1 | 0: the window of unit 0 is -1, 0, 1 | 1 |
# | pool5 | 2, 2, 0 | 0.5: between units 0 and 1 | 2 |
# | fc6 | 7, 1, 0 | 0.5 + 3 · 2 = 6.5: three units further in | 2 |
# | fc7, score | 1, 1, 0 | 6.5 | 2 |
# | upsampling | 4, stride 2 | 6.5 - 1.5 = 5: the first stamp is 4 units long, its middle at 6.5 | 1 |
#
# The first upsampled unit lies on unit 5 of pool4. So pool4's scores are cropped: five units go at the beginning. This
# is the 5 in the authors' network files.

# %%
from segcourse.figures.fcn_skips import offset_figure

from_pool4 = [(3, 1, 1), (3, 1, 1), (3, 1, 1), (2, 2, 0), (7, 1, 0), (1, 1, 0), (1, 1, 0)]
show(
    offset_figure(from_pool4, 4, 19, ("pool4", "score of fc7", "upsampled")),
    "Three rows of dots. In the middle units 0 to 18 of pool4. Above, units of the coarse scores: the first one lies "
    "at 6.5, between units 6 and 7, the others two units apart, each with the stretch that its stamp covers. Below, "
    "the upsampled units: the first one lies under unit 5 of pool4, where the first stamp begins.",
)

# %% [markdown]
# In general, a layer with kernel $k$ and padding $p$ moves the first centre by $((k - 1)/2 - p)$ steps of the map that
# it reads: its first window begins $p$ units early, and the middle of $k$ units lies $(k - 1)/2$ after the first. Then
# its stride makes the step longer. **A crop is a layer too**: leaving $c$ units out at the beginning is kernel 1,
# stride 1, padding $-c$. The upsampling with kernel $k$ leads back to a step of 1 and begins $(k - 1)/2$ before the
# first coarse centre.
#
# ### Exercise: the crop offset (3 points)


# %%
def crop_offset(layers, kernel):
    """Return where, on a map, the first unit lies after going down these layers and up again.

    layers: a list of (kernel, stride, padding), from the map (units at 0, 1, 2, ...) to the coarse scores.
    kernel: of the upsampling, a transposed convolution without padding whose stride is that of all layers together.
    Returns a whole number: the place of the first upsampled unit, counted in units of the map. It is negative where
    the upsampled map begins before the map. The layers and the kernel are such that the place is always whole; return
    it as an int, for it will be the end of a slice.
    Example: from pool4 down to the scores of fc7 and up with a kernel of 4: 5.
    """
    # BEGIN SOLUTION
    centre, step = 0.0, 1
    for k, stride, padding in layers:
        centre += ((k - 1) / 2 - padding) * step
        step *= stride
    return int(centre - (kernel - 1) / 2)
    # END SOLUTION


# %%
check.crop_offset(crop_offset)

# %% [markdown]
# Now all crops of the three networks. FCN-8s needs three: pool4 (5, as above), pool3, and the image in the last
# upsampled map. For pool3, the way down leads to the *fused* scores: through the convolutions and the pooling to pool4,
# then the crop by 5. For the image, the way down begins with the first convolution, which FCN pads by 100. That makes
# the maps so large that the scores cover the image whatever its size. The upsampled map then begins *before* the image,
# so the number is negative, and the upsampled map is what is cropped.

# %%
my_offset = yours_or_ours.crop_offset(crop_offset)
conv, pool, fc6 = (3, 1, 1), (2, 2, 0), (7, 1, 0)
first = (3, 1, 100)
to_pool3 = [first, conv, pool, conv, conv, pool, conv, conv, conv, pool]
to_pool4 = [*to_pool3, conv, conv, conv, pool]
to_fc6 = [*to_pool4, conv, conv, conv, pool, fc6]

pool4_crop = my_offset(from_pool4, 4)
pool3_crop = my_offset([conv, conv, conv, pool, (1, 1, -pool4_crop)], 4)
found = {
    32: (-my_offset(to_fc6, 64),),
    16: (pool4_crop, -my_offset([*to_pool4, (1, 1, -pool4_crop)], 32)),
    8: (pool4_crop, pool3_crop, -my_offset([*to_pool3, (1, 1, -pool3_crop)], 16)),
}
for stride, model in paper.items():
    print(f"FCN-{stride}s: {found[stride]}, as the network derives them: {found[stride] == model.offsets}")

# %% [markdown]
# These are the numbers in the authors' files: 19; 5 and 27; 5, 9 and 31. Code that copies FCN often copies them, and is
# wrong as soon as a kernel or a padding changes.
#
# ## Adding scores
#
# A fusion takes scores, upsamples them by 2, crops the skip's scores to the same place and size, and adds. The learned
# upsampling is a weight (K, K, 4, 4) with the axes (in, out, rows, columns), as `F.conv_transpose2d` takes it. (The
# check also tries smaller kernels.)
#
# ### Exercise: fuse two score maps (2 points)


# %%
def fuse(score, skip_score, weight, offset):
    """Return coarse scores upsampled by 2, plus the finer scores that lie under them.

    score: (N, K, h, w).
    weight: (K, K, k, k), of a transposed convolution with stride 2, no padding, no bias; k is 4 in FCN.
    skip_score: (N, K, H, W), scores of the finer map. `offset` rows and as many columns come before the place of the
    first upsampled unit; at the far ends there may be too many as well.
    Returns a tensor as large as the upsampled scores: for k = 4, (N, K, 2h + 2, 2w + 2). The inputs stay as they are.
    """
    # BEGIN SOLUTION
    upsampled = F.conv_transpose2d(score, weight, stride=2)
    height, width = upsampled.shape[2:]
    return upsampled + skip_score[:, :, offset : offset + height, offset : offset + width]
    # END SOLUTION


# %%
check.fuse(fuse)

# %% [markdown]
# ### Why scoring comes first
#
# Why not join the *features* of fc7 and pool4 and score them together? Put two maps of equal size behind each other and
# apply one 1x1 score layer to all channels. Its weight has a part for each of the two maps, and the result is the sum
# of what the parts give:

# %%
generator = torch.Generator().manual_seed(1)
coarse_features = torch.randn(2, 6, 5, 7, generator=generator)
fine_features = torch.randn(2, 4, 10, 14, generator=generator)
coarse_weight, fine_weight = torch.randn(3, 6, 1, 1, generator=generator), torch.randn(3, 4, 1, 1, generator=generator)


def twice_as_large(maps):
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


joined = torch.cat([twice_as_large(coarse_features), fine_features], dim=1)  # 10 channels
scored_together = F.conv2d(joined, torch.cat([coarse_weight, fine_weight], dim=1))
scored_first = twice_as_large(F.conv2d(coarse_features, coarse_weight)) + F.conv2d(fine_features, fine_weight)
print("join, then score = score, then add:", torch.allclose(scored_together, scored_first, atol=1e-5))
print("joined:", tuple(joined.shape), " scored and added:", tuple(scored_first.shape))

# %% [markdown]
# **Adding scores is the same function as concatenating features and scoring once**, because scoring and interpolating
# are both linear, and interpolation mixes no channels. (Biases would change nothing in the cell above, for
# `F.interpolate` takes a constant to a constant. FCN's stamps do not: at the outermost units few of them overlap, a
# bias of 1 comes out as less there, and the two ways differ.) What differs is the work: FCN upsamples the 21 maps of
# scores, not the 4,096 maps of fc7. And a dense upsampling of scores is small enough to be learned. From all channels
# to all, a kernel of 4 for 4,096 channels would have 4096² · 16 weights; for 21 classes it has 21² · 16.

# %%
with torch.no_grad():
    corner = up2(torch.ones(1, 3, 5, 7))[0, 0, :3, :3]
print("scores of 1 at the upper left, upsampled by 2:", corner.tolist())
print(f"weights to upsample fc7's features: {4096**2 * 16:,}; to upsample its scores: {21**2 * 16:,}")

# %% [markdown]
# Adding the *features* themselves would be something else: channel 7 of fc7 and channel 7 of pool4 have nothing to do
# with each other. The scores of a class have: both say how much speaks for it. (Only when something non-linear follows
# the joint map, as in U-Net, lesson 06, does concatenating features become more powerful than adding scores.)
#
# ### Exercise: FCN-8s, assembled (3 points)
#
# Call your `fuse`, once it is right. The first two lines are given.


# %%
def fcn8_scores(pool3, pool4, fc7, score_weights, up_weights, offsets, size):
    """Return the scores of FCN-8s at every pixel, from three maps of features.

    pool3, pool4, fc7: features, (N, C, h, w) with a C of their own each.
    score_weights: 1x1 kernels (K, C, 1, 1) for fc7, pool4 and pool3, in this order; no biases.
    up_weights: (K, K, 4, 4) and (K, K, 4, 4) with stride 2, (K, K, 16, 16) with stride 8, in the order of use.
    offsets: three whole numbers, in the order of use: where pool4 is cropped, where pool3 is, and how many rows and
    columns of the last upsampled map come before the image.
    size: (height, width) of the image. Returns (N, K, height, width).
    """
    score_fr, score_pool4, score_pool3 = score_weights
    up2, up4, up = up_weights
    # BEGIN SOLUTION
    score = F.conv2d(fc7, score_fr)
    score = fuse(score, F.conv2d(pool4, score_pool4), up2, offsets[0])
    score = fuse(score, F.conv2d(pool3, score_pool3), up4, offsets[1])
    score = F.conv_transpose2d(score, up, stride=8)
    rows, columns = (slice(offsets[2], offsets[2] + length) for length in size)
    return score[:, :, rows, columns]
    # END SOLUTION


# %%
check.fcn8_scores(fcn8_scores)

# %% [markdown]
# ## One stage at a time
#
# The paper trains FCN-32s first, from a VGG-16 that knows ImageNet (`FCN.load_vgg` takes one over). Then FCN-16s starts
# from the trained FCN-32s, and FCN-8s from the trained FCN-16s. A new stage has a new score layer, and its numbers must
# not spoil the sum. **So the new score layer starts at zero**: zero weight, zero bias. The sum is then what it was
# before.
#
# A layer of zeros can learn: the gradient of its weight is its input times the error that comes back, and neither is
# zero. (Two layers of zeros one after the other could not.)
#
# ### Exercise: the next stage's start (2 points)
#
# `bilinear_kernel(factor, ndim=2)` gives the tent that you computed in lesson 02. For an even factor its shape is
# (2 · factor, 2 · factor); for an odd one both sides are 2 · factor - 1. `score_fr` is the authors' name for the score
# layer on fc7.


# %%
def start_16s(score_weight, score_bias, channels):
    """Return the head with which FCN-16s starts from a trained FCN-32s.

    score_weight: (K, C, 1, 1); score_bias: (K,): the trained scores of fc7.
    channels: of pool4, which gets a new score layer.
    Returns a dict of six tensors by the names that the network gives to them: "score_fr.weight" and "score_fr.bias",
    "score_pool4.weight" and "score_pool4.bias", "up2.weight" (upsampling by 2) and "up.weight" (by 16). The two
    upsamplings have shape (K, K, 2 * factor, 2 * factor), interpolate each class bilinearly, and mix none.
    """
    # BEGIN SOLUTION
    classes = len(score_bias)
    head = {"score_fr.weight": score_weight, "score_fr.bias": score_bias}
    head["score_pool4.weight"] = torch.zeros(classes, channels, 1, 1)
    head["score_pool4.bias"] = torch.zeros(classes)
    for name, factor in (("up2.weight", 2), ("up.weight", 16)):
        head[name] = torch.zeros(classes, classes, 2 * factor, 2 * factor)
        for k in range(classes):
            head[name][k, k] = bilinear_kernel(factor, ndim=2)
    return head
    # END SOLUTION


# %%
check.start_16s(start_16s)

# %% [markdown]
# ### Training in stages
#
# Now the experiment, small enough for a laptop. The network keeps its shape and becomes thin: 8 channels in the first
# stage where VGG-16 has 64. fc6 gets a kernel of 3 and the first convolution a padding of 49 in place of 100, so that
# less work is done outside of our small images. This padding puts the first unit of fc7 on the image's upper left
# corner, at -0.5 along both axes, and the last one on the lower right corner: every pixel lies between scores. Batch
# norm makes up for the missing ImageNet. The offsets are derived for this geometry:

# %%
settings = {"classes": 11, "width": 8, "batch_norm": True, "kernel": 3, "padding": 49}
torch.manual_seed(0)
fcn32 = FCN(32, **settings).to(device)
for stride in (32, 16, 8):
    thin = FCN(stride, **settings)
    print(f"FCN-{stride}s, thin: {sum(p.numel() for p in thin.parameters()):,} parameters, offsets {thin.offsets}")

# %%
from segcourse.figures.fcn_skips import feature_maps, score_maps, unit_grids

scene = val_set.images[4:5].to(device)
first_unit, step = unit_grids(fcn32)["fc7"]
units = score_maps(fcn32.eval(), scene)["fc7"].shape[2:]
for axis, count, length in zip(("rows", "columns"), units, scene.shape[2:]):
    places = [first_unit + step * i for i in range(count)]
    print(f"fc7 has {count} {axis} of units, at {places}; the scene has {length}, from -0.5 to {length - 0.5}")

# %% [markdown]
# `crops` draws batches of whole scenes here, with repetition, each mirrored with a probability of one half. `train`
# takes the loss that you wrote (PyTorch's) and the optimizer AdamW, with a learning rate that rises and falls once.

# %% tags=["nbval-ignore-output"]
from segcourse.augment import crops

draw_batch = crops(train_set, batch_size=4)
histories = {"32s": train(fcn32, draw_batch, steps=120)}

# %% [markdown]
# ### Handing over
#
# FCN-16s takes over all layers that both have; `from_stage` does that. Is its head the one that you wrote? And do the
# score maps stay what they were, number for number? (`channels_last` is the order in memory that the training has left
# FCN-32s in. In another order the same sums are rounded differently.)

# %%
my_start = yours_or_ours.start_16s(start_16s)
fcn16 = FCN(16, **settings).to(device, memory_format=torch.channels_last).from_stage(fcn32).eval()
head = my_start(fcn32.score_fr.weight.detach(), fcn32.score_fr.bias.detach(), channels=64)
own = fcn16.state_dict()
print("from_stage starts with your head:", all(torch.equal(own[name].cpu(), head[name].cpu()) for name in head))

before, after = score_maps(fcn32, scene), score_maps(fcn16, scene)
print("scores of fc7 the same, number for number:", torch.equal(before["fc7"], after["fc7"]))
print("scores of pool4 all zero:", not after["pool4"].any())

# %% [markdown]
# So the sum at step 16 is exactly the upsampled scores of FCN-32s. Is the *output* exactly the same too? FCN-32s
# upsamples by 32 at once, FCN-16s by 2 and then by 16. Bilinear upsampling draws straight lines between the scores. The
# first of the two upsamplings does not keep the scores themselves: its units lie at 1/4 and 3/4 of the way from score
# to score. The second one joins those up, and cuts the corner over each score. Here is a row of scores, both ways.
# (Beyond the first and the last score there is nothing to interpolate to: the stamps run out to zero, and those of two
# upsamplings reach further.)

# %%
from segcourse.figures.fcn_skips import handover_figure, upsampled_both_ways

row = [1.0, 2.0, 3.0, 0.0, 2.0, 2.0]
at_once, in_two = upsampled_both_ways(torch.tensor([[row]]).double(), 16)
difference = (at_once - in_two).abs()[0, 0, 32:-32]  # from the first score to the last
padded = torch.tensor([0.0, *row, 0.0])
bend = (padded[:-2] - 2 * padded[1:-1] + padded[2:]).abs()  # the second difference at each score
show(
    handover_figure(row, 16),
    "Scores 1, 2, 3, 0, 2, 2 upsampled by 32 at once, a line with corners at the scores, and by 2 and then 16, a "
    "dashed line that cuts each corner and agrees with the other one between the corners.",
)
print(f"equal pixels between the first and the last score: {float((difference < 1e-9).double().mean()):.2f}")
print("largest difference:", float(difference.max()), " largest second difference / 8:", float(bend.max() / 8))

# %% [markdown]
# Along an axis the two agree where the nearest score is at least a quarter of a step away, which is half of the pixels.
# (Here it is more: scores that run straight, such as 1, 2, 3, have no corner to cut.) Elsewhere they differ by at most
# an eighth of the second difference of the scores.
#
# Now the same on the scene. Let $D_r$ be the second differences of the scores along the rows' axis, $D_c$ those along
# the columns' and $D_r D_c$ the second differences along one axis of those along the other. Then the two outputs differ
# by at most $|D_r|/8 + |D_c|/8 + |D_r D_c|/64$, with the largest of each. At the image's border the corners are sharp:
# its outermost scores lie there, and beyond them are zeros.

# %%
with torch.no_grad():
    output_32, output_16 = fcn32(scene), fcn16(scene)
far = [((torch.arange(n) - first_unit + 16) % 32 - 16).abs() >= 8 for n in scene.shape[2:]]  # from the nearest unit
agree = (output_32 - output_16).abs() <= 1e-4 * output_32.abs().max()
print("equal where both axes are a quarter of a step from a score:", bool(agree[..., far[0][:, None] & far[1]].all()))

coarse = F.pad(before["fc7"], [2] * 4)
down, right = coarse.diff(n=2, dim=2), coarse.diff(n=2, dim=3)
bound = down.abs().max() / 8 + right.abs().max() / 8 + right.diff(n=2, dim=2).abs().max() / 64
print("elsewhere within the bound:", bool((output_32 - output_16).abs().max() <= bound))

# %% tags=["nbval-ignore-output"]
apart = (output_32 - output_16).abs()
inner = apart[..., 8:-8, 8:-8]
print(f"largest difference {float(apart.max()):.2f}, bound {float(bound):.2f}")
print(f"largest difference without the outermost 8 pixels {float(inner.max()):.2f}")
lowest, highest = float(output_32.min()), float(output_32.max())
print(f"mean difference {float(apart.mean()):.2f}; the scores run from {lowest:.1f} to {highest:.1f}")
with torch.no_grad():
    losses = [float(my_loss(model(val_set.images.to(device)).cpu(), val_set.masks)) for model in (fcn32, fcn16)]
print(f"loss before and after, in all {len(val_set)} scenes: {losses[0]:.3f} and {losses[1]:.3f}")
labels_32, labels_16 = (predict(model, val_set.images) for model in (fcn32, fcn16))
moved = (labels_32 != labels_16).float().mean()
right_32, right_16 = ((labels == val_set.masks)[known].float().mean() for labels in (labels_32, labels_16))
print(f"labels that change at the hand-over, in all {len(val_set)} scenes: {float(moved):.1%}")
print(f"right pixels before and after: {float(right_32):.3f} and {float(right_16):.3f}")

# %% [markdown]
# So *nearly* equal: both networks end with the same fixed interpolation of the same scores, but for the corners. Single
# scores differ by much where a corner is sharp; few labels change. Now the next two stages, each half as long as the
# first.

# %% tags=["nbval-ignore-output"]
trained_32 = copy.deepcopy(fcn32)
histories["then 16s"] = train(fcn16, draw_batch, steps=60, seed=1)
fcn8 = FCN(8, **settings).to(device).from_stage(fcn16)
histories["then 8s"] = train(fcn8, draw_batch, steps=60, seed=2)

# %% tags=["nbval-ignore-output"]
networks = {"FCN-32s": trained_32, "FCN-16s": fcn16, "FCN-8s": fcn8}
results = {name: evaluate(model, val_set) for name, model in networks.items()}
for name, result in results.items():
    print(f"{name:8} {result}")

# %%
from segcourse.figures.fcn_skips import stages_figure

ends = ", ".join(f"{sum(history.losses[-20:]) / 20:.2f}" for history in histories.values())
show(stages_figure(histories), f"The loss over the steps of the stages, one after the other. They end at {ends}.")

# %% [markdown]
# ## Which map says what
#
# The labels of the three networks on a scene that they were not trained on. (Black is void; in the third picture, also
# all that is not in the band.)

# %%
panels = {
    "scene": scene[0].cpu(),
    "mask": val_set.masks[4],
    "mask, boundary band": val_set.masks[4].where(band[4], VOID),
}
panels |= {name: predict(model, scene)[0] for name, model in networks.items()}
show(
    label_maps_figure(val_set, panels, columns=3),
    "A scene, its mask, the mask within three pixels of a boundary, and the labels of FCN-32s, FCN-16s and FCN-8s. The "
    "outlines of FCN-32s are a few long arcs; those of FCN-8s have more bends.",
)

# %% tags=["nbval-ignore-output"]
for name, model in networks.items():
    found = predict(model, val_set.images).unique()
    missing = [label for number, label in enumerate(val_set.classes) if number not in found]
    print(f"{name}: {len(found)} of {len(val_set.classes)} classes in all scenes; no pixel of {', '.join(missing)}")

# %% [markdown]
# A class that is never found has an IoU of 0 and counts in the mean like any other. That is one reason why the mean IoU
# is so much lower than the share of right pixels. Thin and rare things come last, and this training was short.

# %% [markdown]
# In this notebook each finer network has also been trained for longer: it had the steps of the former stages too. So it
# is no fair comparison. Here is one. Each network gets 400 steps of 8 scenes from a fresh start, in three generated
# towns with three seeds; below, the stages get as many steps together. `benchmarks/experiments/04_strides.py` prints
# it:
#
# | network, steps | mean IoU, seeds 0, 1, 2 | mean | at boundaries | mean |
# | --- | --- | --- | --- | --- |
# | FCN-32s, 400 | 0.281, 0.283, 0.289 | 0.285 | 0.190, 0.194, 0.194 | 0.193 |
# | FCN-16s, 400 | 0.355, 0.354, 0.362 | 0.357 | 0.255, 0.253, 0.258 | 0.255 |
# | FCN-8s, 400 | 0.366, 0.375, 0.377 | 0.373 | 0.275, 0.281, 0.281 | 0.279 |
# | in stages: FCN-32s, 200 | 0.239, 0.245, 0.253 | 0.246 | 0.167, 0.164, 0.175 | 0.169 |
# | then FCN-16s, 100 more | 0.291, 0.288, 0.315 | 0.298 | 0.200, 0.206, 0.220 | 0.209 |
# | then FCN-8s, 100 more | 0.339, 0.341, 0.351 | 0.344 | 0.242, 0.250, 0.253 | 0.248 |
#
# The order 32s, 16s, 8s holds with every seed, in both columns. From 32s to 8s the mean IoU rises by 0.088 and the
# boundary IoU by 0.086, which are 31 % and 45 % of what they were. The two skips differ. pool4's is the larger step,
# and raises the mean IoU by more than the boundary IoU (0.072 and 0.062). pool3's raises it by less (0.016 and 0.024).
# Both hold with every seed. And in stages the result is worse than FCN-8s at once, with every seed: half of the few
# steps went into a network that cannot draw outlines. The paper starts from a trained classifier, and its stages add to
# a network that is nearly done (section 4.3); from nothing and in a minute they do not pay.
#
# What do the maps hold? The channels of pool3, pool4 and fc7 that vary most in this scene, each unit drawn where its
# centre lies. (Every channel has its own scale of colours, from its least to its largest value.)

# %%
from segcourse.figures.fcn_skips import features_figure

grids = unit_grids(fcn8)
maps = feature_maps(fcn8, scene)
fields = trace(fcn8, (3, *scene.shape[2:]))
for (name, features), module in zip(maps.items(), ("features.stage3", "features.stage4", "fc7")):
    place = f"first unit at pixel {grids[name].first:g}, step {grids[name].step:g}"
    print(f"{name}: {tuple(features.shape)}, {place}, sees {fields[module][0].size} pixels along an axis")
show(
    features_figure(scene[0].cpu(), maps, grids),
    "The scene and four channels each of pool3, pool4 and fc7, in squares of 8, 16 and 32 pixels. The squares of pool3 "
    f"roughly follow things in the scene; fc7 has {units[0]} rows of {units[1]} units, the outermost ones on the edge.",
)

# %% [markdown]
# And the scores. Each map is scored by itself; red speaks for the class, blue against it.

# %%
from segcourse.figures.fcn_skips import scores_figure

chosen = ("road", "car", "sky")
show(
    scores_figure(scene[0].cpu(), score_maps(fcn8, scene), grids, val_set.classes, chosen),
    "The scores of road, car and sky from fc7, pool4 and pool3: large squares from fc7, smaller ones from pool4, the "
    "smallest from pool3.",
)

# %% [markdown]
# The head of FCN-8s holds nothing but linear layers. So its scores are a sum of three parts, one for each map, and each
# part can be upsampled by itself:

# %%
from segcourse.figures.fcn_skips import contributions, contributions_figure

parts = contributions(fcn8, scene)
with torch.no_grad():
    whole = fcn8(scene)[0]
off = (sum(parts.values()) - whole).abs().max() / whole.abs().max()
print("the three parts add up to the network's scores:", bool(off < 1e-4))
show(
    contributions_figure(scene[0].cpu(), parts, val_set.classes, chosen),
    "What fc7, pool4 and pool3 bring to the scores of road, car and sky, at every pixel, and the sum, each with its "
    "largest absolute value. fc7 gives broad patches, pool4 smaller ones, and pool3 the weakest and finest.",
)

# %% [markdown]
# What is each part worth? Keep some and leave the others out, in all scenes. Inside regions, away from the band, a
# mistake is one of *what*; in the band it may be one of *where*. Predict: which map has more right pixels inside
# regions when it speaks alone, "fc7" or "pool4"?

# %%
prediction_alone = ...

# %% tags=["nbval-ignore-output"]
from segcourse.figures.fcn_skips import mixed_labels

inside_alone = {}

of_scenes = [contributions(fcn8, image[None]) for image in val_set.images.to(device)]
for shares in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)):
    labels = torch.stack([mixed_labels(parts_of_one, shares).cpu() for parts_of_one in of_scenes])
    matrix = ConfusionMatrix(len(val_set.classes))
    matrix.add(labels, val_set.masks)
    inside, near = ((labels == val_set.masks)[known & where].float().mean() for where in (~band, band))
    kept = " + ".join(name for name, share in zip(parts, shares) if share)
    inside_alone[kept] = float(inside)
    print(f"{kept:19} right inside regions {inside:.3f}, in the band {near:.3f}; mean IoU {matrix.mean_iou:.3f}")
reveal(prediction_alone, max(("fc7", "pool4"), key=inside_alone.get), "more right pixels inside regions, alone")

# %% [markdown]
# In our training fc7 alone had more right pixels than pool4 alone, inside regions and in the band: coarse maps know
# what. With a grain of salt, for fc7 was trained first and alone, as FCN-32s, and pool4 only to say what fc7 had left
# open. And the words are about images of 500 pixels, where a unit of pool4 sees a fifth along an axis. Our scenes are
# 96 pixels high: a unit of pool4 sees 100 pixels, all of the height, so it can know *what* too, at 48 places within
# the image where fc7 has 20, 14 of them on its very edge.
#
# And what do the parts add? Here are four trainings as above, 120, 60 and 60 steps of 4 scenes from different first
# weights (`benchmarks/experiments/04_parts.py`): the share of right pixels with fc7 alone, and what comes on top.
#
# | seed | fc7: inside | band | pool4 adds: inside | band | pool3 adds: inside | band |
# | --- | --- | --- | --- | --- | --- | --- |
# | 0 | 0.784 | 0.390 | +0.073 | +0.077 | +0.011 | +0.010 |
# | 1 | 0.727 | 0.373 | +0.168 | +0.101 | +0.004 | +0.005 |
# | 2 | 0.756 | 0.369 | +0.135 | +0.099 | +0.013 | +0.010 |
# | 3 | 0.682 | 0.352 | +0.193 | +0.131 | +0.023 | +0.030 |
#
# pool4 adds more inside regions than in the band with three of the four seeds: it brings *what* as well as *where*.
# pool3 adds little, about as much inside as in the band. After so short a training this is all that can be said. The
# table further above is of longer ones, and there what pool3 brings shows at boundaries more than elsewhere.
#
# And the parts need each other: pool3 alone is bad at both, for it was trained to say only what the others had left
# open.
#
# Mix them yourself. The three sliders weigh the parts from 0 to 1. Switch off pool3, then pool4: what is left is what
# fc7 says. (The network was trained with all three. What one part says alone is not what a network would say that had
# been trained with this map alone.)

# %%
from segcourse.figures.fcn_skips import mixing

show_widget(
    mixing(parts, val_set.masks[4], val_set),
    "Three sliders weigh what fc7, pool4 and pool3 bring to the scores, from 0 to 1; the labels of the mixture stand "
    "beside the mask, with the share of right pixels below. Now: all three in full, which is FCN-8s.",
)

# %% [markdown]
# How far have the learned kernels moved from bilinear ones, and how much do they mix classes?

# %% tags=["nbval-ignore-output"]
for name in ("up2", "up4", "up"):
    weight = fcn8.get_submodule(name).weight.detach().cpu()
    factor = weight.shape[2] // 2
    bilinear = torch.eye(11)[:, :, None, None] * bilinear_kernel(factor, ndim=2)
    moved = weight - bilinear
    print(f"{name}: moved by {float(moved.norm() / bilinear.norm()):.1%} of its norm")
    if moved.any():
        between = moved[~torch.eye(11, dtype=torch.bool)]  # (110, 2 * factor, 2 * factor)
        share = float(between.square().sum() / moved.square().sum())
        print(
            f"    of the squared move, {share:.0%} is between different classes, {len(between) / 11**2:.0%} of the kernels"
        )
    own = weight.diagonal().movedim(-1, 0)  # from each class to itself, (11, 2 * factor, 2 * factor)
    sums = own.unflatten(2, (2, factor)).unflatten(1, (2, factor)).sum((1, 3)).flatten(1)  # where stamps overlap
    print(f"    a score of 1 everywhere becomes {float(sums.min()):.2f} to {float(sums.max()):.2f} at different places")

# %% [markdown]
# The last upsampling has not moved: it is fixed. Of what up2 and up4 have moved, most lies between *different*
# classes, as most kernels do: a score of one class now speaks for or against others too. And a learned kernel no
# longer gives the same at odd and even places, as a tent does (lesson 02 has more on such patterns).

# %% [markdown]
# ## What slides often get wrong
#
# **"FCN-16s starts exactly equal to FCN-32s."** Its score maps do, and we checked them number for number. Its output
# does not, because bilinear upsampling by 2 and then by 16 is not bilinear upsampling by 32. In a row, a score that
# stands alone loses about a quarter of its peak. In an image both axes do, which leaves little more than half:

# %%
at_once, in_two = upsampled_both_ways(torch.tensor([[[0.0, 1.0, 0.0]]]).double(), 16)
for name, axes in (("a row", 1), ("an image", 2)):  # bilinear: the product of the two axes
    peaks = float(at_once.max()) ** axes, float(in_two.max()) ** axes
    print(f"a score of 1 among zeros in {name}: peak {peaks[0]:.3f} at once, {peaks[1]:.3f} in two steps")
print(f"largest difference in a row {float((at_once - in_two).abs().max()):.3f}, second difference / 8 = {2 / 8}")

# %% [markdown]
# **"FCN concatenates the skip's features."** It adds scores: the number of channels stays the number of classes. U-Net
# concatenates features.

# %%
my_fuse = yours_or_ours.fuse(fuse)
fused = my_fuse(torch.zeros(1, 21, 3, 4), torch.zeros(1, 21, 20, 20), torch.zeros(21, 21, 4, 4), 5)
print("fused:", tuple(fused.shape))

# %% [markdown]
# **"Fill the deconvolution with the bilinear kernel."** Only the diagonal, a class with itself. A weight of 21 x 21
# kernels, all of them tents, adds all classes up and gives the sum to each. Then no pixel has a class that wins:

# %%
filled = bilinear_kernel(2, ndim=2).expand(21, 21, 4, 4)
scores = F.conv_transpose2d(torch.randn(1, 21, 3, 4, generator=torch.Generator().manual_seed(0)), filled, stride=2)
print("largest difference between the classes at a pixel:", float((scores.amax(1) - scores.amin(1)).max()))

# %% [markdown]
# **"More skips, a larger network."** Of the three networks FCN-8s stores the fewest numbers, as counted above, because
# its last kernel is the smallest. That kernel is fixed. The numbers that are *learned* do grow, by very little:

# %%
learned = [sum(p.numel() for p in paper[stride].parameters() if p.requires_grad) for stride in (32, 16, 8)]
print("stored, fewer from 32s to 16s to 8s:", totals[32] > totals[16] > totals[8])
print(f"learned: {learned[0]:,}, {learned[1]:,}, {learned[2]:,}; in all {learned[2] / learned[0] - 1:.2%} more")

# %% [markdown]
# **"Training in stages is what makes FCN-8s work."** The authors also trained it all at once, with the features of
# pool4 and pool3 multiplied by fixed constants, 0.01 and 0.0001. On PASCAL VOC (their validation split) their
# repository lists a mean IoU of 63.6 % for FCN-32s, 65.0 % for 16s, 65.5 % for 8s in stages and 65.4 % for 8s at once.
# Note the steps as well: 1.4 points, then 0.5. The table above says how it was with our small network.
#
# ## Quiz

# %%
quiz.what_and_where()

# %%
quiz.sum_or_concatenation()

# %%
quiz.argmax_last()

# %%
quiz.context()

# %%
quiz.zero_scores()

# %%
quiz.why_the_padding()

# %% [markdown]
# ## Summary
#
# - Score, enlarge, decide, in this order: boundaries lie where interpolated scores cross.
# - The loss is a soft-max cross-entropy at each labelled pixel, and knows no neighbours. Context comes from the
#   receptive field: 436 pixels for FCN-32s, 436 to 468 for FCN-16s and FCN-8s.
# - Coarse maps see far, fine maps lie close: what and where. FCN scores each with a 1x1 convolution, upsamples the
#   coarser one by 2, and adds. With fixed interpolation this is the same function as concatenating features and scoring
#   once, for much less work.
# - Finer maps help: of three networks, trained alike with three seeds, the finer one was better each time. pool4's skip
#   raised the mean IoU by more than the boundary IoU, pool3's by less.
# - Which units belong together follows from the centres of the first units: 5, 9 and 31 for FCN-8s.
# - Upsampling is a transposed convolution from all classes to all. It starts with tents on the diagonal. Between the
#   maps it is learned; the last one stays as it is.
# - A new stage's scores start at zero. The score maps are handed over number for number, the outputs nearly.
#
# ## References
#
# - J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, sections 3.3
#   (upsampling), 4.1 and 4.2 (classifiers made dense, skips and stages), 4.3 (initialization, loss).
# - E. Shelhamer, J. Long, T. Darrell, "Fully convolutional networks for semantic segmentation", IEEE TPAMI 2017: the
#   longer version, with training all at once.
# - The authors' code, github.com/shelhamer/fcn.berkeleyvision.org: the network files with their offsets, and a README
#   with the scores and the word on learned interpolation quoted above.
# - K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015: VGG-16.
# - P. Kohli, L. Ladický, P. Torr, "Robust higher order potentials for enforcing label consistency", IJCV 2009,
#   section 6: measuring in a band around the boundaries.
# - B. Cheng, R. Girshick, P. Dollár, A. Berg, A. Kirillov, "Boundary IoU: improving object-centric image segmentation
#   evaluation", CVPR 2021: the other measure of that name.
#
# ## Where next
#
# [Lesson 05](05_segnet_unpooling.ipynb) brings details back without skips of features, by remembering where each
# maximum was. [Lesson 06](06_unet.ipynb), on U-Net, concatenates features and lets convolutions follow. Behind you:
# [the transposed convolution](02_transposed.ipynb) and [dense layers as convolutions](03_convolutionalize.ipynb).
