# %% [markdown]
# # 09 Metrics
#
# Compute what papers report, from one table and from two outlines, and say what each number does not see.
#
# "Our network reaches 0.68." Of what? Two programs print different numbers for the same predictions, both under the
# name of mean IoU, and a network that has learned nothing can be right on most pixels. After this lesson you can
#
# - **count** a data set into one table, the confusion matrix, and **compute** every metric of regions from it;
# - **decide** what happens to void pixels and to classes that are not there, and **say** so in a report;
# - **construct** two predictions that two metrics rank the other way round;
# - **compute** weights against the imbalance of classes, and **check** published ones;
# - **measure** how far apart two outlines lie, and **say** what one stray pixel does to that.
#
# Time: 27 minutes to read, 63 to do. Points: 13, in 7 exercises. You need lesson 00 (masks, void, class imbalance).

# %% tags=["setup"]
import torch
from torch import nn

from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours

start("09_metrics")

# %% [markdown]
# ## Predict
#
# Here are 24 street scenes with their masks, as in lesson 00. Think of a "network" that looks at nothing and answers
# *road* for every pixel. How many percent of the pixels does it get right? Void, the pixels that nobody labelled, does not
# count. Write down a whole number. We come back to it.

# %%
from segcourse.datasets import load
from segcourse.figures.metrics import scenes_figure

val_set = load("val", count=24)
print(val_set)
show(
    scenes_figure(val_set.images[:3], val_set.masks[:3], val_set.classes, val_set.palette),
    "The first three scenes, below each its mask, a colour for each class and black for void.",
)
prediction_all_road = ...

# %% [markdown]
# ## One table
#
# Take eight pixels and three classes. Above stands what they are, the **target**; below, what they were taken for, the
# **prediction**.
#
#     target      0 0 0 0 0 1 1 2
#     prediction  0 0 1 2 0 1 1 1
#
# Every pixel is a pair. The first is a 0 taken for 0; the fourth is a 0 taken for 2. The **confusion matrix** counts the
# pairs: row $t$, column $p$ holds the number of pixels that are $t$ and were taken for $p$.
#
# | is / taken for | 0 | 1 | 2 | sum |
# | --- | --- | --- | --- | --- |
# | 0 | 3 | 1 | 1 | 5 |
# | 1 | 0 | 2 | 0 | 2 |
# | 2 | 0 | 1 | 0 | 1 |
# | sum | 3 | 4 | 1 | 8 |
#
# On the diagonal lies what is right. A row's sum is how many pixels *are* of the class, a column's sum how many were
# *taken for* it. (Rows and columns are the other way round in some texts. Look before you compare.)
#
# ### How to count without a loop
#
# A validation set has a hundred million pixels. A Python loop over them takes from less than a minute (lists) to most of
# an hour (tensors). Here is how long on your machine, measured on 20,000 and multiplied:

# %% tags=["nbval-ignore-output"]
from time import perf_counter

labels = torch.randint(3, (2, 20_000))
rows, counts = [[0, 0, 0] for _ in range(3)], torch.zeros(3, 3, dtype=torch.int64)
began = perf_counter()
for t, p in zip(*labels.tolist()):
    rows[t][p] += 1
between = perf_counter()
for t, p in zip(*labels):
    counts[t, p] += 1
ended = perf_counter()
lists, tensors = ((end - start) * 1e8 / 20_000 for start, end in ((began, between), (between, ended)))
print(f"100 million pixels: with lists {lists:.0f} s, with tensors {tensors / 60:.0f} minutes")
print("the same table:", counts.tolist() == rows)

# %% [markdown]
# Two things make it quick. `torch.bincount(x)` counts how often each whole number occurs in a tensor with one axis.
# And the places of a table can be numbered row by row: with three columns, row 0 has the places 0, 1, 2 and row 1 the
# places 3, 4, 5. So each pair gets one number.

# %%
numbers = torch.tensor([2, 0, 2, 2, 5])
print("how often 0, 1, 2, ...:", torch.bincount(numbers).tolist())
print("for a table of 9 places:", torch.bincount(numbers, minlength=9).tolist())
print("numbers of the places:  ", torch.arange(9).reshape(3, 3).tolist())

# %% [markdown]
# What does not work is `counts[target, prediction] += 1`: a place that is named several times gets its 1 only once. And
# counts are whole numbers. As float32 they stop at 16,777,216, where adding 1 changes nothing any more:

# %%
counts = torch.zeros(3, dtype=torch.int64)
counts[torch.tensor([0, 0, 0, 1])] += 1
print("three zeros and a one, added by index:", counts.tolist())
print("16777216 + 1 in float32:", int(torch.tensor(16777216.0) + 1))

# %% [markdown]
# ### Exercise: the confusion matrix (2 points)
#
# The check stops an answer that goes from pixel to pixel: on a case 2000 of its lines may run, and ten more for each of
# the C · C pairs of classes. Loops over classes are fine.


# %%
def confusion_matrix(prediction, target, classes):
    """Return how many pixels of each class were taken for each class.

    prediction, target: int64 labels from 0 to classes - 1, both of one shape, which may be any: (N, H, W), or (n,) for
    a choice of pixels, of none too; they need not be contiguous. classes: C, a whole number.
    Returns an int64 tensor (C, C): row t, column p counts the pixels that are t and were taken for p.
    Example: the eight pixels above give [[3, 1, 1], [0, 2, 0], [0, 1, 0]].
    """
    # BEGIN SOLUTION
    pairs = target.flatten() * classes + prediction.flatten()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    # END SOLUTION


# %%
check.confusion_matrix(confusion_matrix)

# %% [markdown]
# We need predictions to look at. So that we know what is wrong with them, we make three from the masks themselves, each
# with one kind of mistake:
#
# - *all road*;
# - *no rare things*: the five rarest classes are taken for building, all else is right;
# - *shifted*: everything lies two pixels too far to the right. What leaves at the right edge comes in at the left, for
#   that is what `roll` does.
#
# The masks also hold void (255). A network says something of these pixels too, so before we make the three, void becomes
# building. Before we count we leave out every pixel whose *target* is void, and come back to it below.

# %%
from segcourse.datasets import VOID
from segcourse.figures.metrics import confusion_figure

masks, classes = val_set.masks, val_set.classes
shares = val_set.pixel_counts() / val_set.pixel_counts().sum()
ROAD, BUILDING = classes.index("road"), classes.index("building")
labels = masks.where(masks != VOID, BUILDING)  # a network says something of void pixels too
rare = shares.argsort()[:5]
made = {
    "all road": torch.full_like(labels, ROAD),
    "no rare things": labels.where(~torch.isin(labels, rare), BUILDING),
    "shifted": labels.roll(2, dims=2),
}
my_matrix = yours_or_ours.confusion_matrix(confusion_matrix)
known = masks != VOID
tables = {name: my_matrix(prediction[known], masks[known], len(classes)) for name, prediction in made.items()}
print("pixels counted:", {name: int(table.sum()) for name, table in tables.items()})
table = tables["shifted"]
row = 100 * table[classes.index("pole")] / table[classes.index("pole")].sum()
show(
    confusion_figure(table, classes, "shifted by two pixels: what became of each class, in percent"),
    "The confusion matrix of the shifted prediction, each row in percent of its class. Of the pole pixels "
    f"{row[classes.index('pole')]:.0f} % are still taken for pole and {row[BUILDING]:.0f} % for building; of the road "
    f"{100 * table[ROAD, ROAD] / table[ROAD].sum():.0f} % are still road.",
)

# %% [markdown]
# Shares below half a percent are not written. A shift by two pixels hardly touches the road, and poles lose most of
# their pixels. How wide are they? Count the pole pixels by the length of the run in their row that they belong to:

# %%
is_pole = nn.functional.pad((masks == classes.index("pole")).int(), (1, 1))
steps = is_pole.diff(dim=2).flatten()  # 1 where a run begins, -1 just after its end
ends, begins = (steps == -1).nonzero(), (steps == 1).nonzero()  # row by row, and so the first end is the first run's
widths = ends - begins
for width in (1, 2):
    share = widths[widths <= width].sum() / widths.sum()
    print(f"pole pixels in runs of at most {width}: {100 * share:.0f} %")

# %% [markdown]
# Poles are mostly one or two pixels wide: moved by two, such a run shares no pixel with itself. (The runs lie along the
# rows. What goes across, such as an arm, counts as a long run, however thin it is.)
#
# ## What the table says
#
# Three numbers of each class are enough for everything that follows: $n_{tt}$ on the diagonal, its **right** pixels;
# the row's sum $r_t$, the pixels of the class; the column's sum $c_t$, the pixels taken for it. By hand, for class 0
# above: 3, 5 and 3.
#
# - **Accuracy** (or pixel accuracy): the diagonal over everything, $\sum_t n_{tt} / \sum_t r_t$. Here 5/8.
# - **Class accuracy** (recall): $n_{tt} / r_t$. Here 3/5, 2/2 and 0/1. Their mean is the **mean accuracy**, 8/15.
# - **IoU**, intersection over union (Jaccard index): the pixels that are of the class *and* were taken for it, over those
#   that are of the class *or* were taken for it. For class 0: of 5 and 3 pixels 3 are the same, so the union has 5 + 3 - 3
#   = 5, and the IoU is 3/5. For class 1: 2/4, for class 2: 0/2. The mean is the **mean IoU**, 11/30.
# - **Frequency-weighted IoU**: a mean as well, but a class weighs as much as its share of the target pixels:
#   5/8 · 3/5 + 2/8 · 2/4 + 1/8 · 0 = 1/2.
#
# These four are the ones of Long, Shelhamer and Darrell (2015), and most papers since have reported the third.
#
# ### Nothing of nothing
#
# What is the IoU of a class that is **absent**, neither in the targets nor in the predictions? 0/0, which is `nan` in
# PyTorch, and one nan in a sum makes the sum nan. Three answers are in use:
#
# - count it as 0, and a perfect prediction of a scene without a bicyclist is not perfect;
# - count it as 1, and every class that is not there is a present;
# - leave it out, and say how many were left out. We do this, and so do most evaluation scripts.
#
# A class that is only *predicted* is another matter. Its union holds the pixels that were taken for it, its intersection
# none: the IoU is a plain 0, and it counts. Its class accuracy, though, is 0/0. `nanmean()` and `nansum()` leave nan out.

# %%
small = torch.tensor([[4, 0, 0], [1, 3, 0], [0, 0, 0]])  # class 2 is absent
right, either = small.diagonal(), small.sum(0) + small.sum(1) - small.diagonal()
each = right / either
print("IoU:", [round(value, 3) for value in each.tolist()])
ways = {
    "left out": each.nanmean(),
    "counted as 0": each.nan_to_num(0).mean(),
    "counted as 1": each.nan_to_num(1).mean(),
}
print("mean IoU, the absent class", ", ".join(f"{name}: {float(mean):.3f}" for name, mean in ways.items()))

# %% [markdown]
# ### Exercise: four metrics from one table (2 points)


# %%
def region_metrics(counts):
    """Return the four metrics of Long et al. from a confusion matrix.

    counts: (C, C) int64, row t, column p: pixels that are t and were taken for p.
    Returns a dict of four shares from 0 to 1: "accuracy", "mean accuracy", "mean IoU", "frequency-weighted IoU".
    Where a value of a class is 0/0, it is left out of that mean. Class frequencies are shares of the target pixels.
    Example: for the table above 5/8, 8/15, 11/30 and 1/2.
    """
    # BEGIN SOLUTION
    right, target, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    iou = right / (target + predicted - right)  # nan, from 0/0, for a class that is in neither
    return {
        "accuracy": float(right.sum() / counts.sum()),
        "mean accuracy": float((right / target).nanmean()),
        "mean IoU": float(iou.nanmean()),
        "frequency-weighted IoU": float((target * iou).nansum() / counts.sum()),
    }
    # END SOLUTION


# %%
check.region_metrics(region_metrics)

# %% [markdown]
# *No rare things* misses five classes altogether and is right on nearly all else. *Shifted* misses no class and is a little
# wrong everywhere. By how many of the four metrics will *shifted* be the better one? Write a number from 0 to 4 before
# you run the next cell.

# %%
prediction_for_shifted = ...

# %%
my_metrics = yours_or_ours.region_metrics(region_metrics)
for name, table in tables.items():
    print(f"{name:15}", ", ".join(f"{metric} {value:.3f}" for metric, value in my_metrics(table).items()))
rival, shifted = my_metrics(tables["no rare things"]), my_metrics(tables["shifted"])
reveal(prediction_for_shifted, sum(shifted[metric] > rival[metric] for metric in rival), "metrics that prefer shifted")

# %% [markdown]
# What have these metrics in common? Find a reason before you read on; ours follows the next figure.
#
# ## All road
#
# Now the prediction from the beginning.

# %%
from segcourse.figures.metrics import classes_figure
from segcourse.metrics import ConfusionMatrix


def measured(prediction, target, classes=11):
    """The course's confusion matrix of a prediction."""
    matrix = ConfusionMatrix(classes)
    matrix.add(prediction, target)
    return matrix


matrices = {name: measured(prediction, masks) for name, prediction in made.items()}
print("same tables as above:", all(torch.equal(matrices[name].counts, tables[name]) for name in made))
percent = round(100 * matrices["all road"].accuracy)
reveal(prediction_all_road, percent, "percent of the pixels are right", close=5)
print("all road:", matrices["all road"])

# %%
ious = {name: matrix.iou for name, matrix in matrices.items()}
rare_names = ", ".join(classes[c] for c in rare.tolist())
show(
    classes_figure(ious, shares, classes),
    f"The IoU of each class for the three predictions, from the most frequent class to the rarest. All road: road "
    f"{ious['all road'][ROAD]:.2f}, all else 0. No rare things: 0 for {rare_names}, "
    f"{ious['no rare things'][BUILDING]:.2f} for building and 1 for the others. Shifted: "
    f"{ious['shifted'][ROAD]:.2f} for road, {ious['shifted'][classes.index('pole')]:.2f} for pole.",
)

# %% [markdown]
# Imbalance is what separates the metrics. Accuracy counts pixels: five classes that are absent from a prediction cost
# less than five percent. Mean IoU counts classes: each has the same weight, be it a third of the pixels or half a
# percent. So *shifted*, which misses no class altogether, is the better one by the two means over classes, mean accuracy
# and mean IoU. Frequency-weighted IoU weighs a class by its pixels, as accuracy does, but counts what was wrongly taken
# for it too. The union $u_t$ is at least as large as the class, so that $r_t \, n_{tt} / u_t \le n_{tt}$ for each class:
# frequency-weighted IoU is never above accuracy. How near it comes differs, as *all road* shows:

# %%
print("never above accuracy:", all(matrix.frequency_weighted_iou <= matrix.accuracy for matrix in matrices.values()))
for name, matrix in matrices.items():
    three = f"{matrix.accuracy:.3f}, {matrix.frequency_weighted_iou:.3f}, {matrix.mean_iou:.3f}"
    print(f"{name:15} accuracy, frequency-weighted IoU, mean IoU: {three}")

# %% [markdown]
# The rarer the class, the worse the joke. In a task with one class against the rest, "nothing there" is nearly always
# right:

# %%
for name in ("road", "car", "pole", "bicyclist"):
    target = (masks == classes.index(name)).long().where(known, VOID)
    nothing = measured(torch.zeros_like(masks), target, classes=2)
    print(f"no {name}: accuracy {nothing.accuracy:.3f}, IoU of {name} {float(nothing.iou[1]):.1f}")

# %% [markdown]
# ### Exercise: where two metrics disagree (2 points)
#
# Construct two predictions for a mask, so that the first has the higher accuracy and the second the higher mean IoU.
# There are many right answers. In a failing case you see the mask, and both metrics of both of your predictions. Here
# the target is a single mask: `N, H, W = target.shape` would fail, `H, W = target.shape` does not.


# %%
def two_predictions(target, classes):
    """Return two predictions: the first has the higher accuracy, the second the higher mean IoU.

    target: (H, W) int64 labels from 0 to classes - 1, no void; one class has at least five sixths of the pixels, and one
    to three others occur.
    Returns a pair of int64 tensors (H, W), with labels from 0 to classes - 1. The mean is over the classes that occur in
    the target or in the prediction.
    """
    # BEGIN SOLUTION
    sizes = torch.bincount(target.flatten(), minlength=classes)
    large = int(sizes.argmax())
    first = torch.full_like(target, large)  # every other class is missed altogether
    second = target.clone()
    rare = sizes.where(torch.arange(classes) != large, 0).argmax()
    place = (target == large).nonzero()[: target.numel() - sizes[large] + 1]  # one mistake more than the first has
    second[place[:, 0], place[:, 1]] = rare
    return first, second
    # END SOLUTION


# %%
check.two_predictions(two_predictions)

# %% [markdown]
# ## Dice
#
# Medical papers report another number, the **Dice coefficient** (also F1): twice the intersection over the sum of the two
# sizes, $2 n_{tt} / (r_t + c_t)$. For class 0 of the eight pixels: 2 · 3 / (5 + 3) = 3/4, and its IoU was 3/5.
#
# Is that new information? Write the sizes with the intersection $I$ and the union $U$, and you find that Dice can be
# computed from IoU alone.
#
# ### Exercise: Dice from IoU (1 point)


# %%
def dice_from_iou(iou):
    """Return the Dice coefficients that belong to values of IoU.

    iou: a float tensor of any shape, from 0 to 1; nan stays nan.
    Returns a tensor of the same shape. Example: 0.6 becomes 0.75.
    """
    # BEGIN SOLUTION
    return 2 * iou / (1 + iou)
    # END SOLUTION


# %%
check.dice_from_iou(dice_from_iou)

# %%
from segcourse.figures.metrics import dice_figure

my_dice = yours_or_ours.dice_from_iou(dice_from_iou)
shifted = matrices["shifted"]
print("Dice from IoU = Dice from the table:", torch.allclose(my_dice(shifted.iou), shifted.dice))
chosen = {name: classes.index(name) for name in ("pole", "car", "road")}
points = {name: (float(shifted.iou[c]), float(shifted.dice[c])) for name, c in chosen.items()}
show(
    dice_figure(points),
    "Dice against IoU: a curve above the diagonal, the same at 0 and at 1. On it, of the shifted prediction, "
    + ", ".join(f"{name} at IoU {x:.2f}, Dice {y:.2f}" for name, (x, y) in points.items())
    + ".",
)

# %% [markdown]
# $\text{Dice} = 2\,\text{IoU} / (1 + \text{IoU})$ grows with IoU. For one class the two always prefer the same network,
# and Dice is the friendlier number: 0.5 becomes 0.67. With means of classes that is over; see below, "What slides often
# get wrong".
#
# ## Void
#
# Void pixels were not labelled: the rim between two things, or what belongs to no class. Nobody knows what they are, so
# nothing that is said of them is right or wrong. They are taken out of target *and* prediction before anything is
# counted. Forget the second half, and they sneak in through the union:

# %%
target = torch.tensor([0, 0, 1, 1, 255, 255])
prediction = torch.tensor([0, 0, 1, 1, 1, 1])
for name, keep in (("void left out", target != 255), ("void in the union", torch.ones(6, dtype=torch.bool))):
    t, p = target[keep], prediction[keep]
    both = [int(((t == c) & (p == c)).sum()) for c in (0, 1)]
    union = [int(((t == c) | (p == c)).sum()) for c in (0, 1)]
    print(f"{name}: intersections {both}, unions {union}")

# %% [markdown]
# (255 is a habit. Elsewhere the label is -1 or 0; the course's `ConfusionMatrix` takes any as `ignore`.)
#
# ## Images or the data set
#
# A data set comes in batches. Where do we divide? Two images of four pixels:
#
#     image 1   target 0 0 0 1   prediction 0 0 0 0
#     image 2   target 1 1 1 1   prediction 1 1 1 0

# %%
target = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]])
prediction = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0]])
of_images = [measured(p, t, classes=2).mean_iou for p, t in zip(prediction, target)]
print("image by image:", of_images, " their mean:", sum(of_images) / 2)
print("one table for both:", round(measured(prediction, target, classes=2).mean_iou, 3))

# %% [markdown]
# In the first image the only pixel of class 1 was missed, and so class 1 has the IoU 0; in the second one pixel was
# taken for class 0, which is not there, and so class 0 has 0. As images they are bad, together they are fair. One
# table for the whole data set is what "mean IoU" means in the benchmarks (PASCAL VOC, Cityscapes): **counts add up,
# ratios do not**. The mean of images answers another question, how well a typical image is done; say which one you
# report.
#
# So: count each batch, add the tables, divide once at the end.
#
# ### Exercise: mean IoU of a data set (2 points)
#
# You may use your `confusion_matrix`. Batches occur, and images, in which everything is void. In a failing case you do not
# see the scores but `labels`, the class with the highest score at each pixel of all images, so that you can count by
# hand; `batch_sizes` says how the images were cut into the list of batches that your function was given.


# %%
def data_set_iou(batches):
    """Return the mean IoU over a data set that comes in batches.

    batches: a list of pairs (scores, target): scores (N, C, H, W) float, before the soft-max; target (N, H, W) int64,
    from 0 to C - 1, or 255 for void. N may differ from batch to batch. A pixel's label is the class with the highest
    score. The list and the tensors in it stay as they are.
    Returns a number: the mean over the classes that occur in a target or a prediction, void pixels left out.
    """
    # BEGIN SOLUTION
    counts = 0
    for scores, target in batches:
        known = target != 255
        counts = counts + confusion_matrix(scores.argmax(1)[known], target[known], scores.shape[1])
    right = counts.diagonal()
    return float((right / (counts.sum(0) + counts.sum(1) - right)).nanmean())
    # END SOLUTION


# %%
check.data_set_iou(data_set_iou)

# %% [markdown]
# On the streets, with the shifted prediction as scores (1 for the class, 0 for the others), and beside it the mean of the
# images:

# %%
my_iou = yours_or_ours.data_set_iou(data_set_iou)
scores = nn.functional.one_hot(made["shifted"], len(classes)).permute(0, 3, 1, 2).float()  # (N, C, H, W)
of_images = [measured(p, t).mean_iou for p, t in zip(made["shifted"], masks)]
for size in (24, 7, 1):
    print(f"batches of {size:2d}: {my_iou(list(zip(scores.split(size), masks.split(size)))):.4f}")
print(f"mean of the images: {sum(of_images) / len(of_images):.4f}")

# %% [markdown]
# The table does not care how the images were cut into batches. So two computers can count half a data set each, and
# add: that is `a + b` of two of the course's matrices. [docs/metrics.md](../docs/metrics.md) lists ten cases in which
# well-known libraries disagree, and why.
#
# ## Weights against imbalance
#
# If rare classes are to count, one can let their pixels weigh more in the *loss*. Eigen and Fergus (2015), and SegNet
# after them, use **median-frequency** weights. The frequency of a class is its share of the pixels of those images
# that hold it, all pixels of them, void included. The weight is the median of all frequencies, divided by the class's
# own. Three images of 2x2:
#
#     0 0    0 0    2 2
#     0 1    0 0    1 0
#
# Class 0: 8 pixels; all three images hold it; 8/12. Class 1: 2 pixels, in two images; 2/8. Class 2: 2 pixels, in one
# image; 2/4. The median of 0.667, 0.25 and 0.5 is 0.5, so the weights are 0.75, 2 and 1. The class in the middle weighs
# 1, the rarer ones more, the others less.
#
# With an even number of classes the median is the mean of the two in the middle. Beware: `torch.median` returns the lower
# one of the two.

# %%
values = torch.tensor([0.1, 0.2, 0.4, 0.8])
print(f"torch.median: {float(values.median()):.1f}, quantile(0.5): {float(values.quantile(0.5)):.1f}")

# %% [markdown]
# ### Exercise: median-frequency weights (2 points)


# %%
def median_weights(masks, classes):
    """Return median-frequency weights of the classes.

    masks: (N, H, W) int64, labels from 0 to classes - 1, or 255 for void; classes: C.
    Returns a float tensor (C,): median frequency over own frequency. The median is over the classes that occur; a class
    that no image holds gets 0.
    Example: the three images above give [0.75, 2, 1].
    """
    # BEGIN SOLUTION
    is_class = torch.stack([masks == c for c in range(classes)])  # (C, N, H, W)
    pixels = is_class.sum((1, 2, 3))
    images = is_class.flatten(2).any(2).sum(1)
    frequency = pixels / (images * masks[0].numel())
    median = frequency[pixels > 0].quantile(0.5)
    return torch.where(pixels > 0, median / frequency, 0.0)
    # END SOLUTION


# %%
check.median_weights(median_weights)

# %%
my_weights = yours_or_ours.median_weights(median_weights)
train_set = load("train", count=200)
weights = my_weights(train_set.masks, len(classes))
print("on these streets:", {name: round(w, 2) for name, w in zip(classes, weights.tolist())})

# %% [markdown]
# ### A published weight that follows from no counts
#
# The weights that came with SegNet for CamVid are in many repositories. Can they be recomputed? The course knows how many
# pixels and how many images of CamVid's 367 training masks hold each class. One choice is not written down anywhere: which
# classes the median is over. We try both: the eleven, and the eleven with void as a twelfth (every mask has some).

# %%
from segcourse.datasets.labels import CAMVID_TRAIN_IMAGES, CAMVID_TRAIN_PIXELS, CLASSES

published = torch.tensor([0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614])
CAMVID_TRAIN_VOID = 2_503_995  # pixels
pixels = torch.tensor([*CAMVID_TRAIN_PIXELS, CAMVID_TRAIN_VOID]).double()
frequency = pixels / (torch.tensor([*CAMVID_TRAIN_IMAGES, 367]) * 360 * 480)
sign = CLASSES.index("sign")
others = torch.arange(11) != sign
for words, chosen in (("eleven classes", frequency[:11]), ("with void", frequency)):
    median = chosen.quantile(0.5)
    off = ((median / frequency[:11]) / published - 1)[others]
    print(f"median over {words}: apart from sign, from {off.min():+.0%} to {off.max():+.0%} off")
recomputed = (median / frequency)[:11]
for name, ours, theirs in zip(CLASSES, recomputed.tolist(), published.tolist()):
    print(f"{name:11} recomputed {ours:6.3f}, published {theirs:6.4f}, {ours / theirs - 1:+.0%}")
largest = median / (pixels[sign] / (367 * 360 * 480))
print(f"if all 367 images held a sign, its weight would be {largest:.2f}, and it cannot be larger")

# %% [markdown]
# Of the two choices that we tried, void in the median fits better. Without it, all weights but that of *sign* come
# out larger than the published ones, by 2 to 20 %; with it they lie on both sides, and ten of them agree to within 11
# %. The one of *sign* does not: 9.64 against 3.53. It follows from no counts of these masks. Even if all images held
# a sign, so that its frequency were as low as its pixels allow, the weight would be below 4. An older set of labels,
# or a slip: we do not know. Test the formula, not the constants.
#
# ## Where outlines lie
#
# The table knows how many pixels are wrong, not where. Here are three predictions of the same square of 28x28: with a
# strip of two columns too many at its right side, with a piece far off, with a bite out of it. Each has 56 pixels wrong.

# %%
from segcourse.figures.metrics import outlines_figure, region_and_boundary, three_mistakes

mistakes = three_mistakes()
of_mistakes = {name: region_and_boundary(*pair) for name, pair in mistakes.items()}
for name, values in of_mistakes.items():
    print(f"{name:16}", ", ".join(f"{metric} {value:.3g}" for metric, value in values.items()))
show(
    outlines_figure(mistakes),
    "Three predictions of a square with 56 wrong pixels each. Arrows show where the Hausdorff distance is taken; that of "
    "the first, 2 pixels, is a short line with its length beside it. "
    + "; ".join(
        f"{name}: IoU {v['IoU']:.2f}, boundary F1 {v['boundary F1']:.2f}, Hausdorff {v['Hausdorff']:.1f}, HD95 "
        f"{v['HD95']:.1f}"
        for name, v in of_mistakes.items()
    )
    + ".",
)

# %% [markdown]
# ### Hausdorff distance
#
# How far is one set of points from another? From each point of $A$ go to the *nearest* point of $B$, and keep the
# *farthest* of these ways:
#
# $$h(A, B) = \max_{a \in A} \min_{b \in B} \lVert a - b \rVert, \qquad H(A, B) = \max(h(A, B),\, h(B, A)).$$
#
# Here $\lVert a - b \rVert$ is the Euclidean norm, the length of the straight line, in pixels. The distance takes both
# ways. By hand, with points (row, column): $A$ = {(0, 0), (0, 4)}, $B$ = {(3, 0), (0, 4), (0, 10)}. From
# (0, 0) the nearest of $B$ is (3, 0), 3 away; (0, 4) is in both. So $h(A, B) = 3$. Back: (0, 10) is 6 away from (0, 4), so
# $h(B, A) = 6$, and $H = 6$. A set is 0 away from itself; that is why the nearest point counts and not any.
#
# ### Exercise: Hausdorff distance (2 points)


# %%
def hausdorff_distance(a, b):
    """Return the Hausdorff distance of two sets of points.

    a: (n, 2), b: (m, 2): float tensors of points (row, column), which need not be whole; n and m at least 1.
    Returns a number, in pixels. Example: the two sets above give 6.
    """
    # BEGIN SOLUTION
    distances = torch.cdist(a, b)  # (n, m): from each point of a to each of b
    return float(max(distances.min(dim=1).values.max(), distances.min(dim=0).values.max()))
    # END SOLUTION


# %%
check.hausdorff_distance(hausdorff_distance)

# %% [markdown]
# For masks, the points are the pixels of the outlines: those with one of their four neighbours outside the mask.
# Beyond the image counts as outside, so where a mask is cut off by the image's edge, its outline runs along the edge.
# All pairs of points are many: two outlines of 10,000 pixels have 100 million distances, 800 MB in float64. So the
# course's `hausdorff` takes two distance transforms instead: `distance_transform_edt` (lesson 06) has the distance to
# the other outline at every pixel, and one reads it off along the first. Same numbers, and no more memory than a few
# images. (For small outlines, all pairs may well be faster.)

# %%
from segcourse.metrics import boundary, hausdorff

my_hausdorff = yours_or_ours.hausdorff_distance(hausdorff_distance)
for name, (prediction, target) in mistakes.items():
    outlines = [boundary(mask).nonzero().double() for mask in (prediction, target)]
    by_points, by_transform = my_hausdorff(*outlines), hausdorff(prediction, target)
    print(f"{name:16} {by_points:.3f}, by distance transforms the same: {abs(by_points - by_transform) < 1e-9}")
nothing = torch.zeros(44, 64, dtype=torch.bool)
print("two empty masks:", hausdorff(nothing, nothing), " one of them empty:", hausdorff(nothing, mistakes[name][1]))

# %% [markdown]
# What if a mask is empty? Two empty masks are the same: 0. If only one is, there is no nearest point, and the distance is
# infinite. (Some libraries return nan, and some raise an error.)
#
# ### One stray pixel
#
# The Hausdorff distance is about the *worst* point, so a single one decides it. **HD95** takes the 95th percentile of the
# ways in place of the maximum. Each direction has a percentile of its own, and the larger one is taken:
#
# $$\mathrm{HD95}(A, B) = \max\Bigl(P_{95}\bigl\{\min_{b \in B} \lVert a - b \rVert : a \in A\bigr\},\;
# P_{95}\bigl\{\min_{a \in A} \lVert a - b \rVert : b \in B\bigr\}\Bigr).$$
#
# A little less than one point in twenty of one outline may be wherever it likes. (A little less, for the percentile
# interpolates between the points next to it.) **Boundary F1** asks how much of the
# outlines lies near the other, with a tolerance, here 2 pixels: precision is the share of the predicted outline, recall
# that of the target's, and F1 is 2PR / (P + R), as for Dice. Add strays to a perfect mask:

# %%
_, target = mistakes["a strip too wide"]
for strays in (0, 1, 5, 6, 7):
    prediction = target.clone()
    prediction[2 : 2 + 4 * strays : 4, 60] = True  # single pixels in column 60, 23 pixels beyond the square
    values = region_and_boundary(prediction, target)
    print(
        f"{strays} of {int(boundary(prediction).sum())} outline pixels astray:",
        ", ".join(f"{m} {values[m]:.3f}" for m in ("IoU", "boundary F1", "Hausdorff", "HD95")),
    )

# %% [markdown]
# None of these numbers is the true one. IoU hardly sees the strays. Hausdorff sees the first and no other, for the first
# one drawn is the farthest from the square. HD95 sees none of five, which are less than a twentieth of the predicted
# outline. Of six, a little more, it makes something in between, and with seven it is as far off as they are.
#
# ## Move it yourself
#
# A car and a copy of it: grey where both agree, blue what is missed, orange what is too much. Move, grow and shrink the
# copy. Three questions:
#
# 1. Move it to the right, pixel by pixel. Which falls first, IoU or boundary F1?
# 2. Move it on until the two no longer overlap, and farther. Which numbers stand still then, and which go on?
# 3. Put it back and shrink it by 1, then by 3. Which metric does not mind the first and falls to 0 at the second?

# %%
from segcourse.figures.metrics import moved, moving, small_car

car = small_car()
show_widget(
    moving(car),
    "Three sliders move a copy of the mask of a car down and to the right, and grow or shrink it; bars show accuracy, "
    "mean IoU, IoU, Dice, boundary F1, Hausdorff distance and HD95, live. Now: the copy lies on the car.",
)

# %% [markdown]
# The answers, computed:

# %%
for right, grow in ((1, 0), (2, 0), (3, 0), (33, 0), (34, 0), (40, 0), (60, 0), (0, -1), (0, -3)):
    values = region_and_boundary(moved(car, 0, right, grow), car)
    words = ", ".join(f"{m} {values[m]:.3f}" for m in ("accuracy", "IoU", "boundary F1", "Hausdorff", "HD95"))
    print(f"right {right:2}, grow {grow:2}: {words}")

# %% [markdown]
# 1. IoU falls with the first pixel, boundary F1 with the third: until then the outlines are within its tolerance of 2.
# 2. From 34 pixels on, the length of the car, they share no pixel: accuracy, IoU and Dice stand still, and boundary F1 does
#    a little later. Hausdorff distance and HD95 go on, pixel by pixel.
# 3. Boundary F1: all of the smaller outline is still within its tolerance at 1, none of it at 3. IoU falls both times.
#
# ## What slides often get wrong
#
# **"Mean IoU is the mean of the images' IoU."** That is another number. For the three predictions from above, one table
# against the mean of the images:

# %%
for name, prediction in made.items():
    of_images = torch.tensor([measured(p, t).mean_iou for p, t in zip(prediction, masks)])
    print(f"{name:15} one table {matrices[name].mean_iou:.3f}, mean of the images {of_images.mean():.3f}")

# %% [markdown]
# By one table *shifted* is better than *no rare things*, and clearly so; by the mean of the images it is a little worse.
# On these 24 images the two means lie within a hundredth of each other, so do not build on that rank. The reason is
# sounder than the rank: in an image that does not hold a rare class, nothing is lost by never naming it, and the mean of
# the images is the kinder one to whoever never does.
#
# **"Dice and IoU always prefer the same network."** For one class they do. Means of classes need not: Dice is bent, so a
# class that is half right gains more by it. Two networks, two classes:

# %%
one, other = torch.tensor([0.95, 0.10]), torch.tensor([0.50, 0.50])
for name, iou in (("one", one), ("other", other)):
    print(f"{name:5} mean IoU {iou.mean():.3f}, mean Dice {(2 * iou / (1 + iou)).mean():.3f}")

# %% [markdown]
# **"Accuracy is useless for segmentation."** It answers its own question, what share of the pixels is right, and
# where all classes have equally many pixels it *is* the mean accuracy. (Mean IoU may rank otherwise even then.) It is
# useless for what is rare. Two networks, two classes of 1000 pixels each:

# %%
for name, rows in (("one", [[1000, 0], [400, 600]]), ("other", [[799, 201], [201, 799]])):
    of_rows = my_metrics(torch.tensor(rows))
    print(f"{name:5}", ", ".join(f"{m} {of_rows[m]:.4f}" for m in ("accuracy", "mean accuracy", "mean IoU")))

# %% [markdown]
# **"A mean IoU of 0.7 is a mean IoU of 0.7."** The same predictions, by three conventions:

# %%
one_scene = masks[:1]
prediction = made["shifted"][:1]
for absent in (float("nan"), 0.0, 1.0):
    matrix = ConfusionMatrix(len(classes), absent=absent)
    matrix.add(prediction, one_scene)
    print(f"absent classes count as {absent}: {matrix}")

# %% [markdown]
# **"The Hausdorff distance says how good an outline is."** It says how bad its worst point is. Grow the target by one
# pixel all around, or add one stray pixel to it: which is the better outline?

# %%
grown, stray = moved(target, 0, 0, 1), target.clone()
stray[22, 60] = True
for name, prediction in (("a pixel too wide everywhere", grown), ("one stray pixel", stray)):
    outline = boundary(prediction)
    off = int((outline & ~boundary(target)).sum())
    print(f"{name}: Hausdorff {hausdorff(prediction, target):.0f}, off {off} of {int(outline.sum())} outline pixels")

# %% [markdown]
# The Hausdorff distance prefers the first. But the second is the target's own outline and one pixel besides, which any
# filter removes; of the first, no pixel lies where it should. Where the outline as a whole matters, the second is better.
#
# ## Quiz

# %%
quiz.accuracy_without_a_network()

# %%
quiz.from_the_table_alone()

# %%
quiz.absent_or_missed()

# %%
quiz.dice_ranks_as_iou()

# %%
quiz.where_void_goes()

# %%
quiz.one_stray_pixel()

# %%
quiz.frequency_of_a_rare_class()

# %% [markdown]
# ## Summary
#
# - The confusion matrix counts pairs (is, taken for); accuracy, class accuracy, IoU, Dice and their means come from it.
# - Tables of batches, images and computers add up. Ratios do not: divide once, at the end.
# - Void is taken out of target and prediction. A class that is in neither is 0/0: leave it out and say so; one that is
#   only predicted has an IoU of 0.
# - Accuracy counts pixels, mean IoU counts classes. The rarer a class, the further they part.
# - Dice is IoU on another scale, 2 IoU / (1 + IoU); means over classes may rank differently.
# - Median-frequency weights: median over own frequency, a frequency over the images that hold the class.
# - Hausdorff is the worst point's distance, HD95 forgives a little less than one point in twenty, boundary F1 counts
#   what lies near enough.
#
# ## References
#
# - J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015, section 5: the
#   four metrics.
# - M. Everingham et al., "The PASCAL visual object classes challenge: a retrospective", IJCV 111, 2015, section 4: IoU
#   over the whole data set, void left out.
# - L. R. Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945: the coefficient.
# - D. P. Huttenlocher, G. A. Klanderman, W. J. Rucklidge, "Comparing images using the Hausdorff distance", PAMI 15, 1993:
#   the distance, and percentiles of it.
# - G. Csurka, D. Larlus, F. Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013: boundary
#   F1, and means over images.
# - D. Eigen, R. Fergus, "Predicting depth, surface normals and semantic labels with a common multi-scale convolutional
#   architecture", ICCV 2015, section 4.3.2: median-frequency weights.
# - V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
#   segmentation", PAMI 39, 2017, section 3.2: the same weights; the published numbers stand in `segnet_train.prototxt` of
#   github.com/alexgkendall/SegNet-Tutorial.
#
# ## Where next
#
# Void and the imbalance of classes began in [lesson 00](00_start_here.ipynb). Metrics near boundaries were used in
# [lesson 05](05_segnet_unpooling.ipynb), and counting things instead of pixels in [lesson 06](06_unet.ipynb);
# what a network costs, beside what it is worth, is [lesson 08](08_depthwise_cost.ipynb).
# Lesson 10 puts weights, Dice and other answers to imbalance into the loss, and measures what they change.
