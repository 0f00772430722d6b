# %% [markdown]
# # 06 U-Net
#
# Build the network that hands its fine maps across, train it on 30 images, and keep touching cells apart.
#
# A microscope shows cells that lie side by side. We want to know which pixels are cell, and also to count the cells, so
# the thin dark line between two of them matters more than a thousand pixels inside. And nobody has time to outline
# cells in thousands of images. U-Net (2015) was made for this, and its shape is still the usual one wherever the output
# must be as fine as the image. After this lesson you can
#
# - **compute** the size of a U-Net's output, and **decide** which inputs it takes;
# - **crop** a skip and **concatenate** it, and **say** why that is not a sum;
# - **bend** an image and its mask by one smooth random field;
# - **compute** the weight that makes a gap between two cells count;
# - **predict** an image of any size tile by tile, with the numbers of one pass;
# - **measure** what padding changes at the border.
#
# Time: 29 minutes to read, 61 to do. Points: 13, in 6 exercises. You need lessons 01 (what an output sees) and 02
# (transposed convolution).

# %% tags=["setup"]
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours
from segcourse.training import pick_device, predict, train

start("06_unet")
device = pick_device()

# %% [markdown]
# ## Predict
#
# The paper's U-Net halves its maps four times and pads nothing. An image of 512x512 does not fit. What is the next
# larger side that does? Write down a whole number. We come back to it.

# %%
prediction_next_size = ...

# %% [markdown]
# ## Thirty images of cells
#
# The course generates its microscopy: cells about 20 pixels across that grow in clusters, in relief: bright on one side
# and dark on the other, as if lit from there. The mask says which pixels are cell; the **instances** number the single cells. Between any two cells there is
# at least a pixel of background, so the cells are the connected pieces of the mask. In the image such a gap may be
# faint.
#
# We take 30 images to train on. The paper had 30 as well, of 512x512: slices of a fly's nerve cord under the electron
# microscope. (`segcourse data get isbi` fetches those; `segcourse.datasets.isbi` reads them.)

# %%
from segcourse.datasets.cells import cells
from segcourse.figures.unet import cells_figure

train_set, val_set = cells("train", 30), cells("val", 20)
count = len(val_set.instances[1].unique()) - 1
print(train_set)
show(
    cells_figure(val_set, 1),
    f"An image of cells, its mask, and its {count} single cells in colours; where cells touch in the image, a dark line "
    "of one or two pixels keeps them apart in the mask.",
)

# %% [markdown]
# ## No padding: the map shrinks
#
# FCN pads its convolutions with zeros. U-Net pads nothing: a 3x3 convolution has an output only where all of its nine
# pixels lie inside the map, so it takes a pixel off each side. Each output has then seen real pixels only.
#
# A U has `depth` levels on the left, a bottom, and as many levels on the right. On each level two 3x3 convolutions
# follow one another. Here it is for a depth of 1 and an image whose side has 20 pixels:
#
#     down    20 -> 18 -> 16      two convolutions, each takes 2 pixels
#             16 -> 8             2x2 max pooling halves
#     bottom   8 ->  6 ->  4      two convolutions
#     up       4 -> 8             2x2 up-convolution (a transposed one, stride 2): stamps side by side
#             16 crop to 8        the map from the way down, handed across: the skip
#              8 ->  6 ->  4      two convolutions, on the channels of both
#
# At the end a 1x1 convolution makes the scores; it takes no pixel. The network answers:

# %%
from segcourse.models.unet import UNet

shallow = UNet(in_channels=1, classes=2, width=4, depth=1).eval()
print("20 x 20 gives", tuple(shallow(torch.zeros(1, 1, 20, 20)).shape))

# %% [markdown]
# ### Which sizes fit
#
# A map of odd length cannot be halved: 15 pixels make 7 pairs, and one is left over. PyTorch would drop it without a
# word, and on the way up 7 become 14: no crop with the same number of pixels on both sides fits any more, and the skip
# lies beside its place. So U-Net refuses such an input. With an image of 19 that happens at once: 19 - 4 = 15. An input
# that is too small, of which nothing is left, does not fit either.
#
# ### Exercise: how large the output is (2 points)


# %%
def unet_output_size(size, depth):
    """Return the length of the output of a U-Net without padding, or None where the input does not fit.

    size: side of the image, in pixels; depth: how often the maps are halved, 1 or more. Whole numbers.
    An input fits if every length that is halved is even and if at least 1 pixel is left at the end. For one that does
    not, return None; do not raise an error.
    Examples: unet_output_size(20, 1) is 4; unet_output_size(19, 1) is None.
    """
    # BEGIN SOLUTION
    for _ in range(depth):
        size -= 4
        if size % 2:
            return None
        size //= 2
    size -= 4
    for _ in range(depth):
        size = 2 * size - 4
    return size if size > 0 else None
    # END SOLUTION


# %%
check.unet_output_size(unet_output_size)

# %%
my_size = yours_or_ours.unet_output_size(unet_output_size)
for size in (572, 512, 528, 188):
    print(f"{size}: {my_size(size, 4)}")
fits = [size for size in range(1, 700) if my_size(size, 4)]
print("smallest five:", fits[:5], " around 512:", [size for size in fits if 490 < size < 545])
print("all of them 16 n + 12:", all(size % 16 == 12 for size in fits))
print("image less output, for all of them:", {size - my_size(size, 4) for size in fits})
reveal(prediction_next_size, min(size for size in fits if size > 512), "next larger side")

# %% [markdown]
# Why 16n + 12, from 188 on? Walk from the bottom up to the image. Say that $b$ pixels arrive at the bottom. One level
# higher there were $2b$ before the pooling and $2b + 4$ before the two convolutions. Do that four times:
#
# $$b \;\to\; 2b + 4 \;\to\; 4b + 12 \;\to\; 8b + 28 \;\to\; 16b + 60,$$
#
# and 60 = 3 · 16 + 12. The rule "a multiple of 16" is that of the padded network. On the way up, $b - 4$ becomes
# $16(b - 4) - 60 = 16b - 124$. The difference of the two, 60 + 124 = 184 pixels, is the same for all inputs. We call it
# the network's **margin**: what it takes off, both sides together, so 92 on each side. Something is left from $b = 8$
# on, and that is the input 188. And the output is always 4 more than a multiple of 16. Keep that in mind for the tiles.
#
# The network's **stride** is how many pixels of the image one step at the bottom is worth: $2^\text{depth}$, so 16 here.
# Below we train networks of depth 3. They take $8b + 28$ and give $8(b - 4) - 28 = 8b - 60$: their margin is 88, 44 on
# each side, and their stride is 8.
#
# The paper's network, at its own size, drawn by running it. A box holds the side of a map and its channels. At the
# bottom $b = 32$ pixels arrive, and the box holds what its two convolutions leave, $b - 4 = 28$:

# %%
from segcourse.figures.unet import u_figure, walk

with torch.device("meta"):  # shapes without numbers: 31 million parameters in no time
    paper = UNet().eval()
sides = {where: side for where, side, _ in walk(paper, 572)}
crops = [(sides[f"down {level}"], sides[f"up {level}"]) for level in range(4)]
show(
    u_figure(paper, 572),
    "The U of the paper for an image of 572: "
    + "; ".join(
        f"level {level} hands over {big} x {big}, cropped to {small}" for level, (big, small) in enumerate(crops)
    )
    + f". The bottom has {sides['bottom']} x {sides['bottom']} and 1024 channels, the output {sides['scores']} x "
    f"{sides['scores']}.",
)

# %% [markdown]
# ## Hand it across: crop and concatenate
#
# At the bottom a pixel has seen much of the image and knows *what* is there, but only every 16th place has an answer.
# The maps on the left know *where* edges are, and little of what they belong to. U-Net brings them together at every
# level.
#
# The skip is larger than the map that comes up, because the map has lost pixels at the bottom and on the way. Both show
# the same scene, with the same middle. So the middle of the skip is cut out. By hand: of 8 rows 4 are to stay. 4 must
# go, 2 above and 2 below, so rows 2, 3, 4, 5 stay. If an odd number must go, the half above is rounded down.
#
# ### Exercise: the middle of a map (1 point)


# %%
def centre_crop(x, height, width):
    """Return the middle of a map.

    x: (N, C, H, W); height and width of the middle, not larger than H and W.
    Returns a tensor (N, C, height, width). Where an odd number of rows or columns must go, one more goes at the end
    than at the beginning.
    """
    # BEGIN SOLUTION
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]
    # END SOLUTION


# %%
check.centre_crop(centre_crop)

# %% [markdown]
# In FCN (lesson 04) a skip is *added*. U-Net **concatenates**: channels behind channels, first those of the skip, then
# those from below. From 512 + 512 channels the next convolution makes 512, with weights of its own for each of the
# 1024.
#
# ### Exercise: crop and concatenate (1 point)
#
# You may use your `centre_crop`.


# %%
def crop_and_concat(skip, x):
    """Return the middle of the skip and the map that came up, channel on channel.

    skip: (N, C, H, W), the map from the way down; x: (N, D, h, w), with h <= H, w <= W and H - h, W - w even.
    Returns a tensor (N, C + D, h, w): the channels of the skip's middle first, then those of x.
    """
    # BEGIN SOLUTION
    middle = centre_crop(skip, x.shape[2], x.shape[3])
    return torch.cat([middle, x], dim=1)
    # END SOLUTION


# %%
check.crop_and_concat(crop_and_concat)

# %% [markdown]
# With that, the whole forward pass is a few lines. `down`, `up` and `merge` are the lists of a U-Net's stages, with the
# convolutions and their ReLUs in them. The same numbers as the network's own:

# %%
my_concat = yours_or_ours.crop_and_concat(crop_and_concat)
torch.manual_seed(0)
unet = UNet(in_channels=1, classes=2, width=4, depth=3).eval()
image = torch.rand(1, 1, 108, 124)
with torch.no_grad():
    skips, x = [], unet.down[0](image)
    for stage in unet.down[1:]:
        skips.append(x)
        x = stage(unet.pool(x))
    for up, merge in zip(unet.up, unet.merge):
        x = merge(my_concat(skips.pop(), up(x)))
    print("scores:", tuple(unet.score(x).shape), " same numbers:", torch.equal(unet.score(x), unet(image)))

# %% [markdown]
# Where are the 31 million parameters? Nearly half of them are in two convolutions at the bottom.

# %%
parts = {"way down and bottom": paper.down, "way up, convolutions": paper.merge, "up-convolutions": paper.up}
parts["scores"] = paper.score
for name, part in parts.items():
    print(f"{name:22} {sum(p.numel() for p in part.parameters()):11,}")
print(f"{'together':22} {sum(p.numel() for p in paper.parameters()):11,}")
print(f"{'of it at the bottom':22} {sum(p.numel() for p in paper.down[4].parameters()):11,}")
for skips in (True, False):
    small = UNet(3, 11, width=12, depth=4, padded=True, batch_norm=True, skips=skips)
    print(f"small one, {'with' if skips else 'without'} skips: {sum(p.numel() for p in small.parameters()):,}")

# %% [markdown]
# Do the skips matter? The same U-Net with and without them, on generated streets, three seeds:
#
# | network | mean IoU, seeds 0, 1, 2 | mean | at boundaries | mean |
# | --- | --- | --- | --- | --- |
# | U-Net without skips | 0.290, 0.345, 0.285 | 0.307 | 0.206, 0.246, 0.204 | 0.219 |
# | U-Net | 0.352, 0.395, 0.406 | 0.384 | 0.284, 0.327, 0.335 | 0.315 |
#
# (The padded U-Net of width 12 and depth 4, with batch norm and without dropout, 330 steps on 400 images of 96x128.)
# With every seed the skips help: +0.077 in the mean over all pixels, and a little more, +0.096, within three pixels of a
# boundary. One thing is not equal. Without skips the convolutions after each up-convolution get half the channels, so
# that network has a tenth fewer weights: the last two lines printed above. `benchmarks/experiments/06_skips.py` prints
# this table.
#
# ## Few images: bend them
#
# Tissue is soft. A slice that was pressed a little differently is still a good slice, and its outlines bend along. So
# one image gives many. Section 3.1 of the paper: draw random displacement vectors on a coarse 3x3 grid, each component
# from a Gaussian with a standard deviation of 10 pixels, and interpolate them smoothly to every pixel. The result is a
# **field** (N, 2, H, W). It tells each pixel how far down (channel 0) and how far right (channel 1) it has to look for
# its value.
#
# That place lies between pixels. An image is interpolated *bilinearly* there: a mean of the four neighbours, the nearer
# the heavier. A mask is not. The mean of label 1 and label 3 is 2, and no 2 was there. A label comes from the *nearest*
# pixel.
#
# `F.grid_sample(picture, grid, mode, padding_mode, align_corners)` looks values up. The picture is (N, C, H, W) of
# floats, the grid (N, h, w, 2): for each output the place $(x, y)$, **the column first**, counted from -1 to 1. With
# `align_corners=True`, -1 is the centre of the first pixel and 1 that of the last: column $c$ of $W$ is at $x = 2c / (W
# - 1) - 1$, and row $r$ of $H$ at $y = 2r / (H - 1) - 1$. Below, row 0 at the columns 0.75, 1.25 and 3.5; the last lies
# outside, and `padding_mode="border"` takes the border's pixel for it.

# %%
strip = torch.tensor([[[[10.0, 20, 40, 80], [0, 0, 0, 0]]]])  # (N, C, H, W) = (1, 1, 2, 4)
looked_at = torch.tensor([0.75, 1.25, 3.5])
spots = torch.stack([2 * looked_at / 3 - 1, torch.full((3,), -1.0)], dim=-1)[None, None]  # (1, 1, 3, 2): x, y
for mode in ("bilinear", "nearest"):
    values = F.grid_sample(strip, spots, mode=mode, padding_mode="border", align_corners=True)
    print(f"{mode:8}", [round(v, 3) for v in values[0, 0, 0].tolist()])

# %% [markdown]
# By hand: 0.75 is a quarter of the way from column 1 back to column 0, so 0.25 · 10 + 0.75 · 20 = 17.5.
#
# ### Exercise: bend image and mask together (3 points)


# %%
def bend(image, mask, field):
    """Return an image and its mask, bent by one field.

    image: (N, C, H, W) float32; mask: (N, H, W) int64 labels; H and W are at least 2.
    field: (N, 2, H, W) in pixels: output pixel (i, j) shows what lies at row i + field[:, 0, i, j] and column
    j + field[:, 1, i, j]. Places beyond the border take the border's pixel (padding_mode="border").
    Returns a pair: the image (N, C, H, W), interpolated bilinearly, and the mask (N, H, W) int64, each label taken from
    the nearest pixel. (No place in the checks is halfway between two pixels.)
    """
    # BEGIN SOLUTION
    height, width = mask.shape[1:]
    rows = torch.arange(height)[:, None] + field[:, 0]
    columns = torch.arange(width) + field[:, 1]
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=-1)
    bent = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
    labels = F.grid_sample(mask[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=True)
    return bent, labels[:, 0].long()
    # END SOLUTION


# %%
check.bend(bend)

# %% [markdown]
# On cells, with the paper's 10 pixels. Our images are a quarter as wide as the paper's, so here 10 pixels are a strong
# pull. Where a field changes by more than a pixel from one pixel to the next, it can turn the picture inside out: it
# *folds*. The course's `folded` finds such places. Do fields of 10 pixels fold here? We draw 100 of each strength.

# %%
from segcourse.elastic import displacements, folded
from segcourse.figures.unet import bent_figure


def draw_field(seed, deviation):
    return displacements((128, 128), torch.Generator().manual_seed(seed), deviation=deviation)


for deviation in (10.0, 15.0, 30.0):
    share = sum(bool(folded(draw_field(seed, deviation)).any()) for seed in range(100)) / 100
    print(f"{deviation:2.0f} pixels: {share:4.0%} of the fields fold somewhere")

my_bend = yours_or_ours.bend(bend)
image, mask = val_set.images[1:2], val_set.masks[1:2]
field, strong = draw_field(6, 10.0), draw_field(83, 30.0)
bent, bent_mask = my_bend(image, mask, field)
moved = field.square().sum(1).sqrt()
folding = my_bend(image, mask, strong)[0][0, 0], folded(strong)[0]
show(
    bent_figure(image[0, 0], mask[0], field[0], bent[0, 0], bent_mask[0], val_set, folding),
    f"An image of cells and its mask, the field as arrows of up to {moved.max():.0f} pixels, the bent image and the bent "
    "mask: outlines bend together. Last, the same image bent by a field of 30 pixels: "
    f"{folding[1].float().mean():.0%} of its places, outlined in orange-red, are folded over: there the picture lies inside out.",
)
street_labels = torch.tensor([2, 2, 8, 8])
mixed = ((street_labels[:-1] + 2 * street_labels[1:]) / 3).round().int()
print("labels of the bent mask:", bent_mask.unique().tolist(), " folded places:", int(folded(field).sum()))
print("labels 2 2 8 8, two thirds of a pixel on, interpolated and rounded:", mixed.tolist())

# %% [markdown]
# At 10 pixels none of the fields folds, at 30 most do; the last panel shows one. For training we take 4 pixels. The
# streaks at the border come from `padding_mode="border"`: beyond the image, the last pixel is repeated.
#
# And the last line printed: between class 2 and class 8 a class 6 has come up, which was not there.
#
# ### Bent masks join cells
#
# Nearest labels have a trap of their own. A gap of one pixel may fall between the places that are looked at, and then
# two cells touch in the bent mask: from there on they are one piece, and nobody can tell that they were two. A network
# that is trained on such masks is told to merge. The remedy: bend the *numbers* of the cells, and put background
# wherever two different numbers touch. The course's `separate` does that, as it did when the images were made. (Of two
# pixels that touch, the one with the smaller number becomes background.) We count pieces in the 20 images, bent by 4
# pixels. Pixels that meet at a corner belong to one piece, so cells must not touch at corners either.

# %%
from segcourse.border_weights import separate
from segcourse.instances import components


def pieces(masks):
    return sum(components(mask.numpy()).max() for mask in masks)


fields = displacements((128, 128), torch.Generator().manual_seed(0), count=20, deviation=4.0)
numbers = my_bend(val_set.images, val_set.instances, fields)[1]
print("cells before bending: ", sum(len(image.unique()) - 1 for image in val_set.instances))
print("pieces of the masks:  ", pieces(val_set.masks))
print("cells after bending:  ", sum(len(image.unique()) - 1 for image in numbers))
print("pieces, masks bent:   ", pieces(my_bend(val_set.images, val_set.masks, fields)[1]))
print("pieces, numbers bent: ", pieces(separate(numbers) > 0))

# %% [markdown]
# Of 313 cells, each a piece of its own, the bent masks leave 222 pieces, 91 fewer. With bent numbers all 313 stay apart.
# So our training bends numbers.
#
# ## Touching cells: a weight for each pixel
#
# The cross-entropy is a mean over pixels. The gaps between cells are a few hundredths of them: a network that closes
# every gap loses little. The paper makes those pixels count. With $d_1$ "the distance to the border of the nearest cell"
# and $d_2$ that to the border of the second nearest, equation 2 weighs pixel $x$ by
#
# $$w(x) = w_c(x) + w_0 \exp\left(-\frac{(d_1(x) + d_2(x))^2}{2\sigma^2}\right), \qquad w_0 = 10,\ \sigma = 5.$$
#
# $w_c$ is the weight of the pixel's class. It balances background and cells: with weights 0.5 / share both classes weigh
# the same in sum.
#
# By hand, in one row: cell, a gap of one pixel, another cell. In the gap $d_1 = d_2 = 1$, from centre to centre, and
# the term is $10\, e^{-4/50} = 9.23$. In a gap of three pixels $d_1 + d_2$ is 1 + 3, 2 + 2 and 3 + 1, always 4: the
# term is $10\, e^{-16/50} = 7.26$ at all three. On the outer rim of a lone cell $d_1 = 1$ but $d_2$ is large: next to
# nothing.
#
# We count distances from the pixel to the nearest pixel of a cell, and take the term for background alone. That is a
# choice: a distance to a *border* is defined inside a cell too, and there the formula would weigh the cell's rim where a
# second cell is near. And with fewer than two cells there is no $d_2$, so no term.
#
# `distance_transform_edt(array)` (SciPy) gives, wherever the array is True (or not 0), the Euclidean distance to the
# nearest entry that is False, and 0 where it is False. It returns a NumPy array of doubles; `torch.from_numpy` makes a
# tensor of it.

# %%
row_of_cells = torch.tensor([[1, 1, 0, 0, 0, 2, 0, 0]])
for cell in (1, 2):
    print(f"distance to cell {cell}:", distance_transform_edt(row_of_cells != cell)[0].tolist())

# %% [markdown]
# ### Exercise: the weight map (3 points)


# %%
def weight_map(instances, w0, sigma, class_weights):
    """Return U-Net's weight of each pixel's loss.

    instances: (H, W) int64: 0 for background, a number of its own for each cell (any numbers, with holes).
    w0, sigma: of the border term. class_weights: a pair, w_c of background and w_c of cells.
    Returns a float tensor (H, W): the class weight everywhere; on background, the border term on top of it. With fewer
    than two cells there is no border term.
    """
    # BEGIN SOLUTION
    weights = torch.where(instances > 0, class_weights[1], class_weights[0])
    cells = [cell for cell in instances.unique().tolist() if cell > 0]
    if len(cells) < 2:
        return weights
    distances = torch.stack([torch.from_numpy(distance_transform_edt(instances != cell)) for cell in cells])
    two = distances.sort(dim=0).values[:2].sum(0)
    border = w0 * torch.exp(-(two**2) / (2 * sigma**2))
    return weights + torch.where(instances > 0, 0, border).float()
    # END SOLUTION


# %%
check.weight_map(weight_map)

# %% [markdown]
# For our cells, which are small, $\sigma = 5$ reaches far. At $d_1 + d_2 = 10$, half a cell, the term is still $10\,
# e^{-100/50} = 1.35$. We try 3 as well, where it is 0.04. The figure shows the part of the image where most weight lies.

# %%
from segcourse.border_weights import balanced_weights
from segcourse.figures.unet import busiest, weights_figure

my_weights = yours_or_ours.weight_map(weight_map)
balance = balanced_weights(train_set.instances == 0)
picture = val_set.instances[1]
weight_maps = {f"sigma {sigma}": my_weights(picture, 10, sigma, balance) for sigma in (5, 3)}
print("class weights, background and cell:", [round(w, 2) for w in balance])
shares = {}
for name, weights in weight_maps.items():
    heavy = (picture == 0) & (weights > 5)
    shares[name] = heavy.float().mean(), weights[heavy].sum() / weights.sum()
    print(
        f"{name}: {shares[name][0]:.1%} of the pixels weigh more than 5, and have {shares[name][1]:.0%} of all weight"
    )
part = busiest(weight_maps["sigma 3"], 56)
show(
    weights_figure(val_set.images[1, 0][part], picture[part], {name: w[part] for name, w in weight_maps.items()}),
    "A cluster of cells with their outlines, and weight maps for sigma 5 and 3: bright lines wherever two cells lie side "
    f"by side, up to {weight_maps['sigma 5'].max():.1f} for sigma 5, which are broader, and up to "
    f"{weight_maps['sigma 3'].max():.1f} for sigma 3; rims that face no other cell are not bright.",
)

# %% [markdown]
# The weights enter the loss as in every weighted mean. With $\ell(x)$ the cross-entropy of pixel $x$,
#
# $$\text{loss} = \frac{\sum_x w(x)\, \ell(x)}{\sum_x w(x)}.$$

# %%
from segcourse.losses import weighted_cross_entropy

torch.manual_seed(0)
some_scores, some_labels, some_weights = torch.randn(1, 2, 5, 6), torch.randint(2, (1, 5, 6)), 10 * torch.rand(1, 5, 6)
by_hand = (some_weights * F.cross_entropy(some_scores, some_labels, reduction="none")).sum() / some_weights.sum()
ours = weighted_cross_entropy(some_scores, some_labels, pixel_weights=some_weights)
print("the loss of the training is this one:", torch.allclose(by_hand, ours))

# %% [markdown]
# ## Does the weight keep cells apart?
#
# Two small U-Nets without padding (8 channels, depth 3) learn from the same crops of the 30 images, turned, mirrored
# and bent; one with plain cross-entropy, one with the weight map. Each takes about 15 seconds on a free core, and up to
# two minutes on a busy machine. Unlike the paper's they have batch norm, which makes so short a training possible, and
# no dropout.
#
# The weights are those of the bent and separated cells. The paper computes each weight map once, from the true cells; a
# map that is bent along would put heavy pixels on places that the bent mask calls cell.
#
# `size=60` is the side of the masks. The images are larger by the margin of 88: 148 = 8 · 15 + 28. Where that leaves the
# picture, the picture is mirrored; "Tile by tile" below says how.
#
# Write down before: which of the two will merge fewer cells, `"plain"` or `"border 3"`? And which will have the higher
# IoU of cell? (IoU: the pixels that mask and prediction have in common, divided by those that either has.)

# %%
prediction_fewer_merged = ...
prediction_higher_iou = ...

# %% tags=["nbval-ignore-output"]
from segcourse.figures.unet import cell_batches, loss_weights

networks = {}
for kind in ("plain", "border 3"):
    torch.manual_seed(0)
    networks[kind] = UNet(in_channels=1, classes=2, width=8, depth=3, batch_norm=True, dropout=0).to(device)
    batches = cell_batches(train_set, loss_weights(train_set, kind), size=60, margin=88)
    train(networks[kind], batches, steps=75, learning_rate=0.02)

# %% [markdown]
# Now count. A *piece* is a set of cell pixels that hang together; pixels that touch at a corner only, diagonal
# neighbours, are joined too. A piece of the predicted mask *holds* a cell if it covers more than half of the cell's
# pixels. A cell is **merged** if its piece holds another one too. **Extra merges** are the cells that a piece holds
# beyond its first: as many cuts would be needed. A cell is **split** if two or more pieces cover a fifth of it each, and
# **missed** if no piece holds it. And there are pieces that hold no cell; most are specks. Whoever counts pieces counts
# them as cells. So we count twice: all pieces, then those of at least 20 pixels.
#
# `predict_whole` adds the mirrored border that the network takes off, and returns scores for every pixel.

# %% tags=["nbval-ignore-output"]
from segcourse.instances import count_cells
from segcourse.metrics import ConfusionMatrix
from segcourse.tiles import predict_whole

masks, merged, ious = {}, {}, {}
for kind, network in networks.items():
    scores = [predict_whole(network, images.to(device), margin=88, stride=8) for images in val_set.images.split(4)]
    masks[kind] = torch.cat(scores).argmax(1).cpu()
    counts, matrix = count_cells(masks[kind], val_set.instances), ConfusionMatrix(2)
    matrix.add(masks[kind], val_set.masks)
    merged[kind], ious[kind] = counts.merged, float(matrix.iou[1])
    print(f"{kind}: IoU of cell {matrix.iou[1]:.3f}\n  {counts}")
    print(f"  without specks: {count_cells(masks[kind], val_set.instances, smallest=20)}")
reveal(prediction_fewer_merged, min(merged, key=merged.get), "fewer merged cells")
reveal(prediction_higher_iou, max(ious, key=ious.get), "higher IoU of cell")

# %%
from segcourse.figures.unet import merges_figure

titles = {"plain": "plain cross-entropy", "border 3": "border weights, sigma 3"}
here = {titles[kind]: count_cells(masks[kind][1:2], picture[None]) for kind in masks}
show(
    merges_figure(val_set.images[1, 0], picture, {titles[kind]: masks[kind][1] for kind in masks}),
    "An image of cells and two predicted masks with the true outlines, pieces that hold one cell in blue, pieces that hold "
    "several in orange-red. "
    + " ".join(
        f"With {title}: {c.cells - c.missed - c.merged} blue, {c.merged - c.extra_merges} orange-red."
        for title, c in here.items()
    ),
)

# %% [markdown]
# Specks must be removed before anything is counted: compare how many pieces hold no cell, with and without them. Even
# without specks some pieces are false cells. Each of them is one too many in the count. Are there more with border
# weights? Both classes weigh the same there, so the network may be more generous with cells.
#
# One training of 75 steps says little, and it can come out badly. The IoU may be higher for either network.
# `benchmarks/experiments/06_border_weights.py` trains a padded U-Net of this size four times as long. Each of
# three seeds has dishes of its own. It counts in 60 test images: 962, 986 and 934 cells. Below are the means, and in
# brackets lowest to highest. The last column counts the pieces that hold no cell and have at least 20 pixels.
#
# | loss | IoU of cell | merged | extra merges | split | missed | hold no cell | of 20 pixels up |
# | --- | --- | --- | --- | --- | --- | --- | --- |
# | plain cross-entropy | 0.855 (0.851 to 0.858) | 767 (740 to 795) | 594 (549 to 626) | 0 (0 to 1) | 25 (23 to 28) | 204 (152 to 292) | 35 (26 to 46) |
# | the same network, cell where p > 0.7 | 0.811 (0.801 to 0.829) | 513 (482 to 542) | 325 (303 to 349) | 1 (0 to 1) | 65 (59 to 76) | 157 (128 to 210) | 42 (36 to 50) |
# | the same network, cell where p > 0.9 | 0.619 (0.607 to 0.629) | 139 (92 to 163) | 75 (48 to 93) | 1 (1 to 2) | 263 (240 to 286) | 358 (310 to 399) | 161 (147 to 179) |
# | balanced, border w0 10, sigma 3 | 0.806 (0.800 to 0.816) | 268 (188 to 392) | 152 (104 to 226) | 1 (0 to 3) | 27 (20 to 39) | 615 (554 to 682) | 159 (135 to 192) |
# | balanced, border w0 10, sigma 5 | 0.805 (0.781 to 0.821) | 195 (145 to 246) | 106 (78 to 133) | 2 (0 to 3) | 56 (47 to 74) | 415 (385 to 459) | 108 (74 to 134) |
#
# Yes, it keeps cells apart. In the mean a third of the merged cells is left with sigma 3 and a quarter with sigma 5,
# fewer in every seed, and hardly any cell is split. It is not free. The IoU of cell falls by 0.05. Pieces that hold no
# cell are two to three times as many, those among them that are no specks three to five times: false cells. Sigma 5
# merges less than sigma 3, makes fewer false cells, and misses more true ones. Mind all of these. The IoU alone would
# have called the plain network the better one. (The border networks also balance the classes; this table does not tell what
# that alone does.)
#
# Could one not simply ask the plain network for more certainty? Read with p > 0.7, its IoU is that of the border
# networks, and it has fewer false cells. But it merges about twice as many cells as they do, and misses more in the
# mean. With p > 0.9 few cells are merged, and a quarter are missed. At neither of these two thresholds does it do what
# the weight does; others we have not tried.
#
# ## What is handed across
#
# The maps of the network with border weights, for one image, on the two finest levels. The channel that varies most is
# drawn. On the left is the way down, with a white frame around the part that is kept. Then come the crop, what comes up
# from below, and both merged. Around the image 44 pixels are mirrored, half the margin; 4 more at the bottom and at the
# right make a length that fits: 128 + 88 + 4 = 220 = 8 · 24 + 28.

# %%
from segcourse.figures.unet import features_figure, stages
from segcourse.tiles import mirror

network = networks["border 3"]
bordered = mirror(val_set.images[1:2], (44, 44), (48, 48)).to(device)
maps = stages(network, bordered)
places = ("down 0", "up 0", "down 1", "up 1", "bottom")
show(
    features_figure(network, bordered),
    f"Maps of a trained U-Net: {', '.join(f'{w} {maps[w].shape[1]} x {maps[w].shape[2]}' for w in places)}. In each row the "
    "skip, its crop, the map from below and the merged map; in the last row the image and the bottom.",
)

# %% [markdown]
# Which channel varies most is another one after another training, but look for this: in the skip of the first level thin
# outlines and specks, and no telling of cell from background; in what comes from below, whole cells, often under the
# fine grid of the 2x2 stamps (lesson 02 has more about such checkerboards). The convolutions after the merging make one
# of the two.
#
# ## Tile by tile, with a mirrored border
#
# A large image does not fit into memory at once; a microscope's can have 100 million pixels. And the output lacks 92
# pixels on each side, which we would like to have. U-Net answers both in one way, the **overlap-tile strategy**: cut
# tiles out that overlap, so that their outputs lie side by side, and where a tile reaches beyond the image, **mirror**
# the image there. `F.pad(image, (left, right, top, bottom), mode="reflect")` does so; 1 2 3 4 with two pixels on each
# side becomes 3 2 1 2 3 4 3 2. Zeros would be an edge that this network has not seen in training.
#
# Half the margin goes on each side of the image. With half of it put before row 0, the network takes it off again, and
# things fall into place: the tile that *begins* at row `top` of the enlarged image gives the scores of the rows from
# `top` on of the image.
#
# ### How far the last tile reaches
#
# An image of 256 rows, tiles of 124, a margin of 88, a step of 32: the last tile begins at row 224 of the enlarged image
# and ends with row 347. The border before and the image are 44 + 256 = 300 rows, so 48 must come after, not 44: the
# output of a tile, 36, is larger than the step, and at the end nobody uses up the rest. (`F.pad` can mirror at most one
# pixel fewer than the image has; the images of the exercise are large enough. The course's `mirror` goes on beyond.)
#
# ### Where tiles may begin
#
# Do tiles give the numbers that one pass over the whole image would give? Convolutions do not care where a tile begins.
# Poolings do: they pair pixels 0 and 1, 2 and 3, ... of what they are given. A tile that begins at an odd pixel pairs
# up others. With four poolings the blocks have 16 pixels, so
#
# > tiles give the scores of one pass if each begins at a multiple of the stride, $2^\text{depth}$.
#
# And here the 4 from above comes back. The paper's tile has an output of 388 = 24 · 16 + 4. Laid side by side, tiles
# would begin at 0, 388, 776, ...: none but the first, and every fourth after it, is aligned. The step must be 384, and
# 4 pixels of each output are not needed. (For depths 1 and 2 the 4 does no harm: it is a multiple of 2 and of 4.)

# %%
from segcourse.tiles import predict_tiles

torch.manual_seed(0)
deep = UNet(width=2).eval()  # the paper's depth of 4, few channels
photo = torch.rand(1, 1, 60, 100)
whole = predict_whole(deep, photo)
for step in (20, 16, 12, 8):
    tiles = predict_tiles(deep, photo, tile=204, step=step)  # outputs of 20
    off = float((tiles - whole).abs().max() / whole.abs().max())
    print(f"step {step:2d}: {'the scores of one pass' if off < 1e-4 else 'other scores'}")

# %% [markdown]
# ### Exercise: tile by tile (3 points)
#
# In a failing case, `network` tells how the network was made that your function was given: it has one level, a pooling
# of its own stride, and no padding. It takes tiles and refuses anything larger.


# %%
def predict_in_tiles(network, image, tile, margin, step):
    """Return the scores of every pixel of an image, computed tile by tile.

    network: a function, tiles (N, C, tile, tile) -> scores (N, K, tile - margin, tile - margin). It pads nothing.
    image: (N, C, H, W); H and W are multiples of `step`, and larger than `tile`.
    tile: side of the tiles; margin: even, what the network takes off, both sides together.
    step: from tile to tile, a multiple of the network's stride, not larger than tile - margin.
    Returns a tensor (N, K, H, W): what one pass over the image with its mirrored border would give.
    """
    # BEGIN SOLUTION
    height, width = image.shape[2:]
    output, half = tile - margin, margin // 2
    beyond = half + output - step
    padded = F.pad(image, (half, beyond, half, beyond), mode="reflect")
    rows = []
    for top in range(0, height, step):
        row = [network(padded[:, :, top : top + tile, left : left + tile]) for left in range(0, width, step)]
        rows.append(torch.cat([scores[:, :, :step, :step] for scores in row], dim=3))
    return torch.cat(rows, dim=2)
    # END SOLUTION


# %%
check.predict_in_tiles(predict_in_tiles)

# %% [markdown]
# With the trained network: tiles of 124 give outputs of 36, and its stride is 8. So the step is 32. An image of
# 256x256, in 64 tiles and in one pass; then with a step of 36, outputs side by side, by the course's function.

# %%
my_tiles = yours_or_ours.predict_in_tiles(predict_in_tiles)
large = cells("test", 1, size=(256, 256))
with torch.no_grad():
    one_pass = predict_whole(network, large.images.to(device), margin=88, stride=8).softmax(1)[:, 1]
    aligned = my_tiles(network, large.images.to(device), 124, 88, 32).softmax(1)[:, 1]
    beside = predict_tiles(network, large.images.to(device), 124, margin=88, stride=8, step=36).softmax(1)[:, 1]
print("scores:", tuple(one_pass.shape), "in tiles:", tuple(aligned.shape))
print("step 32, same probabilities to 1/10,000:", bool((aligned - one_pass).abs().max() < 1e-4))
print("step 36, same probabilities to 1/10,000:", bool((beside - one_pass).abs().max() < 1e-4))

# %% tags=["nbval-ignore-output"]
from segcourse.figures.unet import differences_figure

off = (beside - one_pass).abs()[0]
differing = off[off > 1e-6].log10()
tenth, half, highest = (10 ** float(differing.quantile(q)) for q in (0.1, 0.5, 1))
show(
    differences_figure({"step 32": (aligned - one_pass).abs()[0], "step 36, side by side": off}),
    "How far tiles are from one pass, on a logarithmic scale: with step 32 at most rounding, everywhere dark. With step 36 "
    "all tiles differ but every second one across and down, which is aligned: nine tenths of the differing pixels by more "
    f"than {tenth:.0e}, half of them by more than {half:.0e}, the worst by {highest:.2f}.",
)

# %% [markdown]
# Every second tile of 36 across and down is aligned by chance: 2 · 36 = 72 = 9 · 8. It is exact, and the others are
# not.
#
# Move a tile over an image. Framed in orange-red: what the network is given; in blue: where its output belongs. What is
# mirrored is paler. On the right the probabilities that are done; pale blue is still to come. Outputs of 52 that begin at
# 96 end at 148: what lies beyond the image of 128 is not used.

# %%
from segcourse.figures.unet import tile_widget

with torch.no_grad():
    heat = predict_whole(network, val_set.images[1:2].to(device), margin=88, stride=8).softmax(1)[0, 1]
show_widget(
    tile_widget(val_set.images[1, 0], heat, tile=140, margin=88, step=48),
    "A slider moves a tile of 140 pixels over an image of 128 with its mirrored border; its output of 52 fills the right "
    "half of the picture, 9 tiles in all. Now: the first tile, in the upper left corner, most of it mirrored.",
)

# %% [markdown]
# ## The padded variant
#
# Most U-Nets that you meet pad each 3x3 convolution with a pixel of zeros. Maps keep their size, the skip needs no
# crop, any multiple of $2^\text{depth}$ fits, and no parameter is added. So a padded network can take over our weights.
# What changes is the border: a pixel near it is computed from zeros.
#
# How far in does that reach? A pixel of this network, of depth 3, sees 44 to 51 pixels to each side (lesson 01 has the
# arithmetic). So we run the padded network twice: on the image, and on the image with 56 mirrored pixels around it,
# which are cut off again afterwards. In the second run the zeros are too far away to be seen.

# %%
from segcourse.tracing import trace

padded = UNet(in_channels=1, classes=2, width=8, depth=3, padded=True, batch_norm=True, dropout=0).to(device).eval()
padded.load_state_dict(network.state_dict())
rows, _ = trace(UNet(width=1, depth=3), (1, 220, 220))[""]
reach = max(max(i + 44 - rows.extent(i)[0], rows.extent(i)[1] - i - 44) for i in range(16))
around = mirror(large.images, (56, 56), (56, 56)).to(device)  # 56 = 7 · 8, so that the poolings pair the same pixels
with torch.no_grad():
    zeros_near = padded(large.images.to(device)).softmax(1)[0, 1]
    zeros_far = padded(around).softmax(1)[0, 1, 56:-56, 56:-56]
off = (zeros_near - zeros_far).abs()
print("a pixel sees to a side, at most:", reach)
print("same probabilities to 1/10,000, everywhere:", bool(off.max() < 1e-4))
print(f"same, from {reach} pixels on:", bool(off[reach:-reach, reach:-reach].max() < 1e-4))

# %% [markdown]
# That network was trained without zeros. Be fair and train one with them, on crops of 96 without a margin: about 15
# seconds more on a free core. Then ask both: cut the middle 128x128 out of pictures of 256, and predict it twice, once
# alone and once as part of the large picture. Where do the labels differ? The one without padding gets a mirrored border
# when it is alone. The comparison is not quite even: the padded network learns from 96x96 labelled pixels a crop, the
# other from 60x60.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
trained_padded = UNet(in_channels=1, classes=2, width=8, depth=3, padded=True, batch_norm=True, dropout=0).to(device)
train(
    trained_padded, cell_batches(train_set, loss_weights(train_set, "border 3"), size=96), steps=75, learning_rate=0.02
)

wide = cells("test", 8, size=(256, 256)).images.to(device)
alone = wide[:, :, 64:192, 64:192]
ways = {
    "padded with zeros, trained so": lambda x: predict(trained_padded, x),
    "padded with zeros, weights of the other": lambda x: predict(padded, x),
    "no padding, mirrored border": lambda x: predict_whole(network, x, margin=88, stride=8).argmax(1).cpu(),
}
changed = {name: way(wide)[:, 64:192, 64:192] != way(alone) for name, way in ways.items()}

# %%
from segcourse.figures.unet import borders_figure, share_by_distance

by_distance = {name: share_by_distance(marked) for name, marked in changed.items()}
show(
    borders_figure(by_distance, reach),
    "The share of labels that change when the surroundings are taken away, for three networks, against the distance from "
    "the border: largest in the first pixels, falling quickly inwards, and 0 from 51 pixels on.",
)
print("labels that change from", reach, "pixels on:", [int(sum(share[reach:] > 0)) for share in by_distance.values()])

# %% tags=["nbval-ignore-output"]
for name, share in by_distance.items():
    print(f"{name:40} outermost 8 pixels {share[:8].mean():.1%}, from pixel 24 on {share[24:].mean():.2%}")

# %% [markdown]
# Zeros that a network has never met spoil many labels near the border. Trained with them, it learns what they mean, and
# fewer labels change. Is that more or fewer than with a mirrored border, which is invented too? That depends on the
# seed. The outermost 8 pixels, three seeds, as `benchmarks/experiments/06_borders.py` prints them:
#
# | network | seed 0 | seed 1 | seed 2 |
# | --- | --- | --- | --- |
# | padded with zeros, trained so | 7.4% | 10.4% | 12.4% |
# | padded with zeros, weights of the other | 24.4% | 36.4% | 19.2% |
# | no padding, mirrored border | 8.8% | 12.7% | 6.8% |
#
# And remember that the comparison is uneven: 96x96 against 60x60 labelled pixels a crop.
#
# Only with the real surroundings is nothing lost, and inside a large image tiles have them: that is what the overlap is
# for. A padded network that is given tiles side by side has such a border around every tile.
#
# ## What slides often get wrong
#
# **"U-Net adds its skips, as FCN does."** A sum is a concatenation whose next kernel is the same for both halves.
# U-Net's is not bound to that.

# %%
torch.manual_seed(0)
left, below = torch.randn(2, 1, 5, 8, 9)
shared = torch.randn(3, 5, 3, 3)
tied = F.conv2d(torch.cat([left, below], 1), torch.cat([shared, shared], 1))
print("a tied kernel is a sum:", torch.allclose(tied, F.conv2d(left + below, shared), atol=1e-4))
free = torch.randn(3, 10, 3, 3)
print(
    "two kernels are a sum: ",
    torch.allclose(F.conv2d(torch.cat([left, below], 1), free), F.conv2d(left + below, free[:, :5])),
)

# %% [markdown]
# **"The skips carry the fine maps to the decoder."** Their middles. In the paper's picture more than half of the finest
# map is cut off, and reaches the output only by the way over the deeper levels.

# %%
for level, (big, small) in enumerate(crops):
    print(f"level {level}: {big} -> {small}, {(big - small) // 2} a side; lost: {1 - (small / big) ** 2:.0%}")

# %% [markdown]
# **"U-Net enlarges its maps by bilinear interpolation."** Many programs do. The paper has a learned 2x2 up-convolution
# that halves the channels: 2.8 of the 31 million parameters.

# %%
learned = [tuple(layer.weight.shape) for layer in paper.up]
print("weights (in, out, 2, 2):", learned)
print(f"{sum(p.numel() for p in paper.up.parameters()):,} parameters")

# %% [markdown]
# **"The border weight marks the cells' boundaries."** Only where a second cell is near. And a program that evaluates
# the formula on every pixel, with $d_1 = 0$ inside a cell, also puts weight on the cells, along their rims. The rims
# then count more as well, as cell.

# %%
from segcourse.border_weights import two_distances

lone = torch.zeros(40, 60, dtype=torch.int64)
lone[5:15, 5:15] = 1
lone[25:35, 45:55] = 2
print(f"largest border term around two cells far apart: {(my_weights(lone, 10, 5, (1.0, 1.0)) - 1).max():.3f}")
everywhere = torch.exp(-(two_distances(picture).sum(0) ** 2) / (2 * 5**2))
print(
    f"evaluated with d1 = 0 inside, sigma 5: {everywhere[picture > 0].sum() / everywhere.sum():.0%} of the term lies on the cells"
)

# %% [markdown]
# **"The image's sides must be multiples of 16."** Of the padded network's. The paper's own 572 is none.

# %%
print("572 / 16 =", 572 / 16, " multiples of 16 that fit:", [n for n in range(0, 2000, 16) if my_size(n, 4)])

# %% [markdown]
# ## Quiz

# %%
quiz.which_input()

# %%
quiz.adding_instead()

# %%
quiz.where_the_weight_is()

# %%
quiz.bridge()

# %%
quiz.bending_masks()

# %%
quiz.steps_of_tiles()

# %%
quiz.padding_changes()

# %% [markdown]
# ## Summary
#
# - Without padding a U-Net of depth 4 takes sides of 16n + 12, from 188 on, and gives 184 pixels less: 572 becomes 388.
# - The middle of each map from the way down is concatenated, not added, to the map of its level on the way up.
# - Image and mask are bent by one field; colours are interpolated, labels are taken from the nearest pixel. Where cells
#   touch, the cells' numbers are bent, and what touches is separated: a bent mask joins cells.
# - The border weight lies on background between two cells that are near; class weights come on top.
# - Pixels may be right and cells wrong: count cells, not only pixels.
# - Tiles with a mirrored border give the scores of one pass if they begin at multiples of the stride: steps of 384, not
#   388, for the paper's tiles.
# - Padding keeps the size and the parameters; it changes what is computed as far in from the border as a pixel sees.
#
# ## References
#
# - O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015:
#   figure 1 (the U), figure 2 (tiles), section 3 with equation 2 (weights), section 3.1 (deformation).
# - A. Cardona et al., "An integrated micro- and macroarchitectural analysis of the Drosophila brain by
#   computer-assisted serial section electron microscopy", PLoS Biology 8(10), 2010: the 30 slices.
# - I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for connectomics",
#   Frontiers in Neuroanatomy 9, 2015: the ISBI challenge, and why it counts regions as well as pixels.
# - J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015: skips that
#   are added.
#
# ## Where next
#
# The up-convolution is lesson 02's [transposed convolution](02_transposed.ipynb); what a pixel sees is
# [lesson 01](01_receptive_field.ipynb). [Lesson 04](04_fcn_skips.ipynb) adds its skips;
# [lesson 05](05_segnet_unpooling.ipynb) hands over only where the largest values were.
# [Lesson 07](07_atrous.ipynb) keeps the maps large by dilation, and needs no way up. [Lesson 09](09_metrics.ipynb) is
# about metrics that see more than single pixels.
