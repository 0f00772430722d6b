# %% [markdown]
# # 00 Start here
#
# *Set up, learn how a notebook answers you, and read your first mask.*
#
# After this lesson you can
# - name the shape of a batch of images, of a network's scores and of a mask, and get from each to the next;
# - compute how many pixels a prediction has right and how much of a street is what, with void left out;
# - predict the accuracy of a predictor that never looks at the image;
# - say what a semantic mask tells, what only instances tell, and what the sizes of the well-known data sets count.
#
# About 28 minutes to read and 33 to do; 9 points. Before: you have trained one image classifier in PyTorch, and you
# know what a tensor's shape is.
#
# Run the cells from top to bottom: click into a cell and press **Shift + Enter**.

# %% tags=["setup"]
from collections import OrderedDict

import torch
from scipy import ndimage
from torch import nn

from segcourse.datasets import VOID, load
from segcourse.lesson import check, hint, quiz, reveal, show, show_widget, solution, start, yours_or_ours

start("00_start_here")

# %% [markdown]
# ## Is everything ready?
#
# The doctor looks at this machine: Python, torch, the widgets, the room on the disk, and a short training. Where
# something is amiss, it says what to do about it. It also tells whether the lessons will use a GPU; none is needed.

# %% tags=["nbval-ignore-output"]
from segcourse.doctor import doctor

doctor()

# %% [markdown]
# ## How a notebook answers you
#
# Every exercise is a function with its first line and its description given, and with dots where your code belongs. In
# the cell below it stands a check. It runs your function on dozens of small inputs, most of them new on every run, and
# gives one of three answers:
#
# - ○ **not attempted**: the dots are still there;
# - ✗ **not yet**: some input came out wrong. You see a small such input, what your function returned, and, if your
#   mistake is a known one, what you did and where to read again. The right answer is not shown;
# - ✓ **correct**: the points are yours. They stay yours, whatever you try later.
#
# Nothing is lost by checking often. For help, write one of these into a new cell (the **+** above the notebook), with
# the name of the exercise:
#
# | write | to get |
# | --- | --- |
# | `hint.count_label()` | a nudge; run again: the method; once more: nearly the code |
# | `solution.count_label()` | one right way; it costs no points, only the fun |
#
# Later cells never break because an exercise is still open: they use the course's own function until yours is right,
# and say which one they used. Where you are asked to *predict*, write down a guess before you run on. Nobody sees or
# grades it; a wrong guess is the best start for what follows.

# %% [markdown]
# ### Your first exercise
#
# A **mask** is a table of whole numbers, one for each pixel of an image. Each number is a **label**: it stands for a
# **class**, such as 0 for sky or 3 for road. Here is a mask 3 pixels high and 4 pixels wide:

# %%
tiny = torch.tensor([[0, 0, 2, 0], [1, 2, 2, 3], [3, 3, 2, 3]])
print("shape (H, W):", tuple(tiny.shape))
print(tiny)
print(tiny == 2)

# %% [markdown]
# The comparison gives a tensor of the same shape, True at the pixels that carry label 2. Count them: there are four.
#
# Now let PyTorch count. The first line is given; replace the dots in the second, run the cell, and run the check.


# %%
def count_label(mask, label):
    """Return how many pixels of the mask carry the label.

    mask: a tensor of whole numbers (H, W)
    label: a whole number
    Example: in the mask above, label 2 has 4 pixels, so count_label(tiny, 2) is 4.
    """
    has_label = mask == label
    # BEGIN SOLUTION
    return int(has_label.sum())
    # END SOLUTION


# %%
check.count_label(count_label)

# %% [markdown]
# **Break it on purpose.** Whether it was right or not: change the `==` in your function to `!=`, and run both cells
# again. Read the answer from top to bottom: the outcome, what you did, where to read about it, how many inputs came out
# right, a small input that fails with your result, and what a right answer has to fulfil. Then put `==` back and
# check once more. Your point is safe.

# %% [markdown]
# ## One label for every pixel
#
# A classifier gives an image one label. **Semantic segmentation** gives one to every pixel: what is *here*?
#
# The course works with streets. They are generated, so that nothing has to be downloaded and every mask is exact. Where
# the real CamVid data set is on your machine, the same cells run on streets of Cambridge: fetch it with `segcourse data
# get camvid`, or name its folder in the environment variable `SEGCOURSE_DATA`.

# %%
scenes = load("train", count=60, size=(144, 192))
print(scenes)
print("classes:", ", ".join(f"{label} {name}" for label, name in enumerate(scenes.classes)))

# %% [markdown]
# A network takes several images at once, a **batch**. PyTorch orders the four axes of a batch as **(N, C, H, W)**:
# images, channels (red, green, blue), rows, columns. *Predict* the shape of a batch of the first four images before you
# run on:

# %%
prediction = ...  # write a tuple of four numbers in place of the dots

# %%
reveal(prediction, tuple(scenes.images[:4].shape), "shape of four images")
print("shape of their masks (N, H, W):", tuple(scenes.masks[:4].shape), scenes.masks.dtype)

# %% [markdown]
# A mask has no axis of channels: a pixel has three colour values but only one label. One image of this size asks for
# 144 x 192 = 27,648 decisions, where a classifier has to make one.

# %%
from segcourse.figures.start_here import richest_scene, scene_and_mask, scene_words

number = richest_scene(scenes)  # the one with the most classes
image, mask = scenes[number]
show(scene_and_mask(image, mask, scenes.classes, scenes.palette), scene_words(scenes, number))

# %% [markdown]
# ### Void
#
# Some pixels have no label: what is there is none of the classes, such as the bonnet of the car that carries the
# camera, or is too small or too far away for anybody to tell. They carry the number **255** and are called **void**.
# Void is not a class. No network has to predict it, and no loss and no metric counts it, because there is no right
# answer to compare with. Three exercises below look after that.
#
# ### Look around
#
# Choose a scene, fade the mask in and out, and light one class. Void is striped, until you light a class. Which class
# is hard to see even with the mask? Guess, then light it; as long as every class is lit, the line below the picture
# names the smallest. You need not read this cell: it only puts the viewer together.

# %%
from functools import partial

import ipywidgets as w

from segcourse.figures.start_here import EVERY_CLASS, viewer_png, viewer_words
from segcourse.plots import colour_key
from segcourse.widgets import live_image

controls = [
    w.IntSlider(value=number, min=0, max=len(scenes) - 1, description="scene"),
    w.FloatSlider(value=0.6, min=0, max=1, step=0.1, description="mask"),
    w.Dropdown(options=[EVERY_CLASS, *scenes.classes, "void"], description="light"),
]
viewer = live_image(controls, partial(viewer_png, scenes), "576px", partial(viewer_words, scenes))
key = w.HTML(colour_key(scenes.classes, scenes.palette))
alt = "Choose the scene, the opacity of its mask and a class to light. Below the picture: the colours. "
show_widget(w.VBox([viewer, key]), alt + viewer_words(scenes, number, 0.6, EVERY_CLASS))

# %% [markdown]
# ## Scores become a mask
#
# A network does not return labels. For each pixel it returns one **score** for each class, a number that is high where
# the network finds the class likely. With C classes the scores of a batch have the shape **(N, C, H, W)**: a stack of C
# planes for each image. Axis 1, which held the three colours of an image, now holds one plane for each class. Here is a
# tiny stack, with N = 1 image, C = 3 classes, H = 2 rows and W = 3 columns:

# %%
planes = [
    torch.tensor([[4.0, 1.0, 0.0], [2.0, 0.0, 1.0]]),  # scores of class 0
    torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 0.0]]),  # scores of class 1
    torch.tensor([[0.0, 2.0, 6.0], [1.0, 4.0, 3.0]]),  # scores of class 2
]
scores = torch.stack(planes)[None]  # stacked to (C, H, W), then a batch of one
print("shape (N, C, H, W):", tuple(scores.shape))
at_one_pixel = scores[0, :, 0, 2]  # all classes, row 0, column 2
print("scores of the pixel in the upper right corner:", at_one_pixel.tolist())
print("the highest is the one of class", at_one_pixel.argmax().item())

# %% [markdown]
# Do the other five by hand: from left to right, the upper row is 0, 1, 2; the lower row is 1, 2, 2. That is the mask.
# The index of the highest entry is called the **argmax**.
#
# You may know the **soft-max** from classifiers. It turns the scores of a pixel into probabilities: each score s
# becomes exp(s), divided by the sum of these. From 0, 2, 6 it makes 0.002, 0.018, 0.980. The quiz will ask what that
# means for the mask.
#
# One pixel was easy. Now do it for all pixels of all images at once, without a loop.


# %%
def mask_from_scores(scores):
    """Return the mask of the classes with the highest score.

    scores: a float tensor (N, C, H, W)
    returns: a tensor of whole numbers (N, H, W); at [n, row, col] stands the class c for which
        scores[n, c, row, col] is highest (no pixel has a tie)
    Example: for the scores above, [[[0, 1, 2], [1, 2, 2]]].
    """
    # BEGIN SOLUTION
    return scores.argmax(dim=1)
    # END SOLUTION


# %%
check.mask_from_scores(mask_from_scores)

# %% [markdown]
# ## Encoder and decoder
#
# Where do the scores come from? Most networks of this course have two halves. The **encoder** works like a classifier:
# convolutions and pooling make the maps smaller and the channels more, so that each entry sees more of the image. The
# **decoder** brings the maps back to full size, so that every pixel gets its scores. Here is a toy of that kind:


# %%
def down(before, after):
    """Half the height and width; the number of channels goes from before to after."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


def up(before, after):
    """Twice the height and width."""
    larger = nn.Upsample(scale_factor=2, mode="bilinear")
    return nn.Sequential(larger, nn.Conv2d(before, after, 3, padding=1), nn.ReLU())


torch.manual_seed(0)
encoder = {"down 1": down(3, 16), "down 2": down(16, 32), "down 3": down(32, 64)}
decoder = {"up 1": up(64, 32), "up 2": up(32, 16), "scores": up(16, 11)[:-1]}  # no ReLU: scores may be negative
network = nn.Sequential(OrderedDict(encoder | decoder))

# %% [markdown]
# `MaxPool2d(2)` halves height and width, `Upsample` doubles them, and the padded convolutions keep them. *Predict* the
# shape of the smallest map, after "down 3", for one image of 144 x 192:

# %%
prediction = ...  # a tuple (N, C, H, W)

# %%
stages = [("image", image[None])]
with torch.no_grad():
    for name, stage in network.named_children():
        stages.append((name, stage(stages[-1][1])))
shapes = {name: tuple(tensor.shape) for name, tensor in stages}
reveal(prediction, shapes["down 3"], "shape after down 3")
for name, shape in shapes.items():
    print(f"{name:7s} {shape}")

# %% [markdown]
# The picture is drawn from these tensors. In front of each stack lies the mean of its channels; each sheet stands for
# four channels. The small maps are drawn larger than in proportion, but see how coarse their pixels are.

# %%
from segcourse.figures.start_here import encoder_decoder

to_mask = yours_or_ours.mask_from_scores(mask_from_scores)
guess = to_mask(stages[-1][1])[0]  # (144, 192)
way = ", ".join(f"{name} {' x '.join(map(str, shape[1:]))}" for name, shape in shapes.items())
found = ", ".join(scenes.classes[label] for label in guess.unique().tolist())
alt = f"One image on its way through encoder and decoder: {way}; at the end its mask, in which there is: {found}."
show(encoder_decoder(stages, guess.numpy(), scenes.classes, scenes.palette), alt)

# %% [markdown]
# The network is not trained, so its mask is nonsense. The shapes are right, though: scores (N, 11, H, W) go into the
# loss together with a mask (N, H, W). And see what the encoder does to the picture: after "down 3" there is one entry
# for every 8 x 8 pixels (it sees more than these: lesson 01), and whoever is smaller than that is hard to find again.
# How networks get the detail back is what the lessons on decoders are about.

# %% [markdown]
# ## Right pixels, without void
#
# The simplest measure of a prediction: which share of the pixels is right? This **pixel accuracy** goes wrong at void.
# By hand, with `x` for void:
#
#     prediction      mask            right?
#     0 0 2 2         0 0 2 0         + + + -
#     3 2 2 3         1 2 2 3         - + + +
#     3 3 3 3         3 3 x x         + +
#
# Ten pixels are labelled, eight of them are predicted right: the accuracy is 8 / 10 = 0.8. Divided by all twelve pixels
# it would be 0.67, and with void counted as right 0.83: the same prediction, three numbers, and only one of them means
# something. PyTorch never sees an `x`; a void pixel carries 255.


# %%
def pixel_accuracy(prediction, mask):
    """Return the share of the labelled pixels that the prediction has right.

    prediction: labels (N, H, W), none of them void
    mask: labels (N, H, W), void is 255 (the constant VOID); at least one pixel is labelled
    returns: a number from 0 to 1; all labelled pixels of the batch weigh the same
    Example: for the two masks above, 0.8.
    """
    labelled = mask != VOID
    # BEGIN SOLUTION
    right = (prediction == mask) & labelled
    return float(right.sum() / labelled.sum())
    # END SOLUTION


# %%
check.pixel_accuracy(pixel_accuracy)

# %% [markdown]
# ## Rare and frequent classes
#
# How much of a street is road, and how much is bicyclist? Count the labels, leave void out, and divide by the number of
# labelled pixels. In the mask above (10 labelled pixels) class 0 has 3, class 1 has 1, class 2 has 3 and class 3 has 3:
# shares 0.3, 0.1, 0.3, 0.3. `torch.bincount` counts the whole numbers in a vector, that is, in a tensor with one axis:

# %%
print(torch.bincount(torch.tensor([0, 2, 2, 5]), minlength=8))  # how many 0, how many 1, and so on up to 7


# %%
def class_shares(mask, classes):
    """Return the share that each class has in the labelled pixels.

    mask: labels (N, H, W), void is 255 (VOID); at least one pixel is labelled
    classes: the number of classes
    returns: a float tensor (classes,); all labelled pixels of the batch weigh the same
    Example: for the mask of the section above and 6 classes, [0.3, 0.1, 0.3, 0.3, 0, 0].
    """
    # BEGIN SOLUTION
    labels = mask[mask != VOID]
    return torch.bincount(labels, minlength=classes) / len(labels)
    # END SOLUTION


# %%
check.class_shares(class_shares)

# %% [markdown]
# Here are the shares in our scenes, beside those of the real CamVid (its 367 training masks, counted once and kept in
# the course). The axis is logarithmic; otherwise the lower bars could not be seen. So do not compare lengths: from one
# numbered tick to the next, the share grows tenfold.

# %%
from segcourse.datasets.labels import CAMVID_TRAIN_PIXELS
from segcourse.figures.start_here import share_bars

my_shares = yours_or_ours.class_shares(class_shares)
shares = my_shares(scenes.masks, len(scenes.classes)).double()
camvid = torch.tensor(CAMVID_TRAIN_PIXELS) / sum(CAMVID_TRAIN_PIXELS)
order = shares.argsort(descending=True).tolist()
listed = ", ".join(f"{scenes.classes[c]} {100 * shares[c]:.1f} and {100 * camvid[c]:.1f}" for c in order)
bars = {"these scenes": shares.tolist(), "CamVid, 367 training masks": camvid.tolist()}
show(share_bars(bars, scenes.classes), f"Share of each class in percent, in these scenes and in CamVid: {listed}.")
print("below 1.5 % in CamVid:", ", ".join(scenes.classes[c] for c in order if camvid[c] < 0.015))
most, least = order[0], order[-1]
for name, part in (("these scenes", shares), ("CamVid", camvid)):
    times = float(part[most] / part[least])
    print(f"{name}: {scenes.classes[most]} has {times:.0f} times the pixels of {scenes.classes[least]}")

# %% [markdown]
# The classes that matter most to a driver are among the rarest. This **class imbalance** is the rule in segmentation,
# not a flaw of one data set. Take a predictor that never looks at the image: it paints everything as the most frequent
# class. *Predict* its pixel accuracy in percent, as a whole number:

# %%
prediction = ...  # percent: a whole number from 0 to 100

# %%
my_accuracy = yours_or_ours.pixel_accuracy(pixel_accuracy)
favourite = int(shares.argmax())
everywhere = torch.full_like(scenes.masks, favourite)
reached = my_accuracy(everywhere, scenes.masks)
reveal(prediction, round(100 * float(reached)), f"accuracy of all {scenes.classes[favourite]}, in percent", close=5)
print("the same as the share of the class:", round(float(reached), 6) == round(float(shares[favourite]), 6))

# %% [markdown]
# Is that a whim of these sixty scenes? Choose the class on the training scenes, and measure on others:

# %%
for split, count in (("train", 60), ("val", 24)):
    others = load(split, count=count, size=(96, 128))
    accuracy = float(my_accuracy(torch.full_like(others.masks, favourite), others.masks))
    print(f"all {scenes.classes[favourite]}, {others.name} {split}: accuracy {accuracy:.2f}")
print(f"all {scenes.classes[favourite]}, CamVid, all training masks: accuracy {float(camvid[favourite]):.2f}")

# %% [markdown]
# About a third of the pixels, every time, without a look at the image. [Lesson 09](09_metrics.ipynb) builds measures that
# such a predictor cannot please, and lesson 10 losses that care for rare classes.

# %% [markdown]
# ## One plane a class
#
# Scores come as C planes, a mask comes as one. Some losses compare plane with plane (the Dice loss of lesson 10 does),
# and many figures show one class at a time. Both want the mask in planes as well: plane c is 1 where the pixel carries
# class c and 0 elsewhere. This is called **one-hot**: of the C numbers at a pixel, one is hot. At void, none is. By
# hand, for classes 0, 1, 2 and `x` for void:
#
#     mask        plane 0     plane 1     plane 2
#     0 2 2       1 0 0       0 0 0       0 1 1
#     1 0 x       0 1 0       1 0 0       0 0 0
#
# This is the stretch of the lesson: nothing is given. A loop over the classes is fine, a loop over pixels is not
# needed.


# %%
def one_hot(mask, classes):
    """Return the mask as planes.

    mask: labels (N, H, W), void is 255 (VOID)
    classes: the number of classes C
    returns: a tensor (N, C, H, W), 1 (or True) where the pixel carries class c, else 0; at void 0 in every plane
    Example: for the mask [[[0, 2, 2], [1, 0, 255]]] and 3 classes, the three planes above, shape (1, 3, 2, 3).
    """
    # BEGIN SOLUTION
    return torch.stack([mask == label for label in range(classes)], dim=1)
    # END SOLUTION


# %%
check.one_hot(one_hot)

# %% [markdown]
# The planes of our scene. The axis of classes has moved to where a network's scores have it, so `mask_from_scores` must
# lead back to the mask: at every labelled pixel it does.

# %%
from segcourse.figures.start_here import plane_grid

my_planes = yours_or_ours.one_hot(one_hot)
planes = my_planes(mask[None], len(scenes.classes))
counted = ", ".join(f"{name} {int(plane.sum())}" for name, plane in zip(scenes.classes, planes[0]))
show(plane_grid(planes[0], scenes.classes), f"A plane for each class, black where the class is. Pixels: {counted}.")
back = to_mask(planes.float())[0]
print("back to the mask at all labelled pixels:", bool((back == mask)[mask != VOID].all()))

# %% [markdown]
# ## Things, stuff and instances
#
# Two cars stand close together. The semantic mask answers *which class?* and gives both the same label. **Instance
# segmentation** also answers *which object?* and gives each car a number of its own.

# %%
from segcourse.figures.start_here import semantic_and_instances, two_cars

picture, semantic, instances = two_cars()
regions = ndimage.label(semantic)[1]  # how many separate patches of car there are
cars = instances.max()
alt = f"Two cars, one partly behind the other: {regions} region of car in the semantic mask, {cars} cars as instances."
show(semantic_and_instances(picture, semantic, instances), alt)
print(f"separate regions of car in the semantic mask: {regions}; cars: {cars}")

# %% [markdown]
# No rule can get the two cars back from the semantic mask: one long car might have left the same one. What can be
# counted (cars, people, signs) is called a **thing**; what cannot (sky, road, grass) is called **stuff**. Instances
# make sense for things only. **Panoptic segmentation** asks for both at once: a class for every pixel, and an object's
# number where the class is a thing (Kirillov et al. 2019). Which classes count as things is a decision of the data set.
# This course is about semantic segmentation.

# %% [markdown]
# ## What slides often get wrong
#
# **"85 % of the pixels are right, so the network sees most of the street."** Take a network that is perfect on the four
# most frequent classes and has never heard of the others:

# %%
for name, part in (("these scenes", shares), ("CamVid", camvid)):
    top = part.argsort(descending=True)[:4].tolist()
    missed = [scenes.classes[c] for c in range(len(part)) if c not in top]
    print(f"{name}: perfect on {', '.join(scenes.classes[c] for c in top)}: accuracy {float(part[top].sum()):.2f}")
    print("    never finds", ", ".join(missed))

# %% [markdown]
# It finds four classes of eleven, and no car, no pedestrian and no bicyclist is among them.
#
# **"A mask is an image, so resize it with the image."** A mask is a table of names that happen to be numbers. Blending
# two colours gives a colour between them; blending two labels gives a third class. Here sky (0) meets pole (2), three
# times enlarged:

# %%
row = torch.tensor([[[[0.0, 0.0, 2.0, 2.0]]]])  # (N, C, H, W) = (1, 1, 1, 4): sky, sky, pole, pole
for mode in ("bilinear", "nearest"):
    larger = nn.functional.interpolate(row, scale_factor=(1, 3), mode=mode).round().long()
    print(f"{mode:8s}", larger.flatten().tolist())
print("label 1 is", scenes.classes[1])

# %% [markdown]
# Bilinear resizing has put a building between sky and pole. Labels are moved, never mixed: resize masks with `nearest`,
# or by majority.

# %% [markdown]
# ## Data sets to know
#
# | name | what it shows | labelled | classes |
# | --- | --- | --- | --- |
# | CamVid (2009) | streets of Cambridge, from a car | 701 frames | 32, void one of them; the course uses the 11 of the SegNet release |
# | PASCAL VOC 2012 | photographs | train and val: 11,530 images, 6,929 segmentations | 20 and background |
# | Cityscapes (2016) | streets of 50 cities, from a car | 5,000 frames finely, 20,000 coarsely | 30, of which 19 are scored |
# | SYNTHIA (2016) | a rendered city | exact masks from the renderer | 22 in its Cityscapes-like part |
# | SUN RGB-D (2015) | rooms, with depth | 10,335 images | 37 are usually scored |
# | ScanNet (2017) | rooms, as RGB-D video with 3-D models | 2.5 million views of 1,513 scans | 200 in its larger benchmark |
# | COCO (2014) | everyday scenes | 328,000 images, 2.5 million objects | 80 things; COCO-Stuff adds 91 stuff classes |
#
# The figures are those of the authors (references below). Read them with care: VOC's 6,929 segmentations are *objects*;
# the images with a mask are 1,464 for training and 1,449 for validation. And every set has its own numbering and its
# own way to write void: 255 in VOC, black in the coloured masks of the original CamVid, 11 in those of the SegNet
# release, which the course turns into 255 as it loads them.

# %%
from segcourse.datasets.camvid import FRAMES

print("CamVid, frames:", FRAMES, "together", sum(FRAMES.values()))
print("VOC 2012, images with a mask:", 1464 + 1449)

# %% [markdown]
# ## Where you stand
#
# Your progress is kept on this machine; `segcourse progress` in a terminal shows it too. Here is the course, with what
# you have done so far:

# %% tags=["nbval-ignore-output"]
from segcourse import exercises, progress
from segcourse.figures.start_here import course_map
from segcourse.plots import publish_html

publish_html(*course_map(exercises.lessons(), progress.load()))

# %% [markdown]
# ## Quiz
#
# Click an option and read the reason; wrong ones have reasons too. In the last question several options are right: tick
# them all, then press Check.

# %%
quiz.shapes()

# %%
quiz.softmax()

# %%
quiz.touching_cars()

# %%
quiz.all_road()

# %%
quiz.void_pixels()

# %% [markdown]
# ## Summary
#
# - Semantic segmentation gives every pixel a class; which object it belongs to is the question of instance
#   segmentation.
# - Images are (N, 3, H, W), scores (N, C, H, W), masks (N, H, W). The argmax over axis 1 leads from scores to a mask.
# - Encoders trade size for channels; decoders bring the size back.
# - Void (255) is not a class: no measure and no loss counts it.
# - Classes are far from equally frequent, and pixel accuracy hides what happens to the rare ones.
#
# ## References
#
# - G. Brostow, J. Fauqueur, R. Cipolla: Semantic object classes in video: a high-definition ground truth database.
#   Pattern Recognition Letters 30, 2009 (CamVid).
# - V. Badrinarayanan, A. Kendall, R. Cipolla: SegNet. IEEE Transactions on Pattern Analysis and Machine Intelligence
#   39, 2017; the 11 classes and 367 + 101 + 233 frames are those of its tutorial's repository.
# - M. Everingham, L. Van Gool, C. Williams, J. Winn, A. Zisserman: The PASCAL Visual Object Classes Challenge 2012
#   (VOC2012), results and development kit; the split into 1,464 and 1,449 after A. Garcia-Garcia et al., A review on
#   deep learning techniques applied to semantic segmentation, 2017, section 3.1.
# - M. Cordts et al.: The Cityscapes dataset for semantic urban scene understanding. CVPR 2016.
# - G. Ros, L. Sellart, J. Materzynska, D. Vazquez, A. Lopez: The SYNTHIA dataset. CVPR 2016; classes after the readme
#   of SYNTHIA-RAND-CITYSCAPES.
# - S. Song, S. Lichtenberg, J. Xiao: SUN RGB-D: a RGB-D scene understanding benchmark suite. CVPR 2015; 37 classes as
#   in Z. Li et al.: LSTM-CF. ECCV 2016.
# - A. Dai et al.: ScanNet: richly-annotated 3D reconstructions of indoor scenes. CVPR 2017; ScanNet200 after the
#   documentation of its benchmark.
# - T.-Y. Lin et al.: Microsoft COCO: common objects in context. ECCV 2014; H. Caesar, J. Uijlings, V. Ferrari:
#   COCO-Stuff. CVPR 2018.
# - A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollár: Panoptic segmentation. CVPR 2019 (things, stuff and
#   panoptic).
#
# ## Glossary
#
# The words of the course. Each leads to the lesson that explains it.
#
# | word | meaning |
# | --- | --- |
# | [arithmetic intensity](08_depthwise_cost.ipynb) | multiply-adds for each byte moved to or from memory |
# | [ASPP](07_atrous.ipynb) | atrous spatial pyramid pooling: convolutions of several rates side by side on one map |
# | [atrous convolution](07_atrous.ipynb) | a convolution whose taps lie `rate` pixels apart; also called dilated |
# | [boundary band](04_fcn_skips.ipynb) | the pixels that have a change of label within a few pixels |
# | [boundary IoU](04_fcn_skips.ipynb) | in this course: the mean IoU of the pixels in the boundary band |
# | [channel](00_start_here.ipynb) | one of the numbers at each place of a map: axis 1 of (N, C, H, W) |
# | [confusion matrix](09_metrics.ipynb) | counts of pixels by what they are (row) and what they were taken for (column) |
# | [convolutionalize](03_convolutionalize.ipynb) | to write a classifier's dense layers as convolutions, so that it takes images of any size |
# | [crop offset](04_fcn_skips.ipynb) | how many rows and columns of a map to leave out so that it lies on another one |
# | [decoder](00_start_here.ipynb) | the part of a network that brings small maps back to full size |
# | [depthwise convolution](08_depthwise_cost.ipynb) | a convolution with one kernel for each channel, which mixes no channels |
# | [Dice](09_metrics.ipynb) | twice the intersection over the sum of the two areas; 2 IoU / (1 + IoU) |
# | [effective kernel](07_atrous.ipynb) | the extent of a dilated kernel: k + (k - 1)(r - 1) |
# | [effective receptive field](01_receptive_field.ipynb) | the part of the receptive field that has much influence |
# | [encoder](00_start_here.ipynb) | the part of a network that makes maps smaller and channels more |
# | [gridding](07_atrous.ipynb) | that stacked rates with a common factor leave pixels unseen between the taps |
# | [groups](08_depthwise_cost.ipynb) | parts of a convolution's channels that do not see each other |
# | [Hausdorff distance](09_metrics.ipynb) | the largest distance from a point of one set to the nearest of the other, both ways |
# | [indices](05_segnet_unpooling.ipynb) | the places of the maxima, kept by the encoder for the decoder |
# | [instance segmentation](00_start_here.ipynb) | a mask for each object |
# | [IoU](04_fcn_skips.ipynb) | intersection over union: the pixels in both over the pixels in either |
# | [mask](00_start_here.ipynb) | the labels of an image's pixels, (H, W) |
# | [mean IoU](04_fcn_skips.ipynb) | the mean of the classes' IoU |
# | [median-frequency weights](09_metrics.ipynb) | the median of the classes' frequencies over each; counted in images that hold the class |
# | [multiply-add](08_depthwise_cost.ipynb) | one multiplication and the addition of its product; MAC for short |
# | [output stride](07_atrous.ipynb) | how many pixels of the image one step in the last map is |
# | [overlap-tile](06_unet.ipynb) | to predict a large image in tiles, each with a margin that is seen but not kept |
# | [panoptic segmentation](00_start_here.ipynb) | a class for every pixel and an object for every countable thing |
# | [pixel accuracy](00_start_here.ipynb) | the share of pixels whose label is right |
# | [pointwise](08_depthwise_cost.ipynb) | with a 1x1 kernel: such a convolution mixes channels at each place |
# | [rate](07_atrous.ipynb) | the distance between neighbouring taps of an atrous kernel, in units of its input |
# | [receptive field](01_receptive_field.ipynb) | the pixels that an output depends on |
# | [score](00_start_here.ipynb) | a number for each class at each pixel, before the soft-max; also called logit |
# | [semantic segmentation](00_start_here.ipynb) | a class for every pixel |
# | [separable convolution](08_depthwise_cost.ipynb) | a depthwise convolution and a pointwise one after it |
# | [skip](04_fcn_skips.ipynb) | a way past layers, from an early map to a later one |
# | [soft-max](00_start_here.ipynb) | what turns scores into probabilities that add up to 1 |
# | [tap](07_atrous.ipynb) | one weight of a kernel, and the pixel that it meets |
# | [tent](02_transposed.ipynb) | the bilinear kernel, with which a transposed convolution interpolates |
# | [transposed convolution](02_transposed.ipynb) | the layer whose matrix is the transpose of a convolution's; it enlarges maps |
# | [unpooling](05_segnet_unpooling.ipynb) | to put pooled values back at the places of their maxima, zeros elsewhere |
# | [void](00_start_here.ipynb) | the label 255 of pixels that nobody labelled; no measure and no loss counts it |
# | [weight map](06_unet.ipynb) | a factor for the loss of each pixel |
#
# ## Where next
#
# [01 Receptive-field arithmetic](01_receptive_field.ipynb): how much of the image does one entry of those small maps
# see?
