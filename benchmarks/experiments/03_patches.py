"""What lesson 03 claims of its patch classifier, over seeds: same numbers, how much faster, how good.

A classifier of 32x32 patches is trained as in the lesson (400 batches of 128, about ten seconds). Its convolutional
form runs on whole scenes: by one pass with the labels repeated or the scores interpolated, and by shift and stitch.
About half a minute a seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/03_patches.py
    OMP_NUM_THREADS=1 SEGCOURSE_DATA=... python benchmarks/experiments/03_patches.py --camvid

The lesson quotes the tables that this prints.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from segcourse.convolutionalize import (
    PatchClassifier,
    convolutionalize,
    pad_for_centres,
    random_patches,
    shift_and_stitch,
    sliding_window,
)
from segcourse.datasets import VOID, SegmentationSet, load, streets
from segcourse.figures.convolutionalize import pixel_accuracy, upsampled_labels
from segcourse.training import train

WINDOW, STRIDE = 32, 4
ROW = "| {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.0e} | {:.0f} |"


def cpu_seconds(run: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """The least CPU seconds of some runs, and the result."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        result = run()
        seconds.append(time.process_time() - began)
    return min(seconds), result


def scenes(seed: int, camvid: bool) -> tuple[SegmentationSet, SegmentationSet]:
    """Training and validation scenes: a town of its own for each seed, or the real frames."""
    if camvid:
        return load("train"), load("val", count=24)
    return streets("train", 200, seed=seed), streets("val", 24, seed=seed)


@torch.no_grad()
def row(seed: int, camvid: bool) -> str:
    """Train with a seed and measure everything."""
    train_set, val_set = scenes(seed, camvid)
    torch.manual_seed(seed)
    model = PatchClassifier()
    with torch.enable_grad():
        train(
            model, lambda g: random_patches(train_set.images, train_set.masks, WINDOW, 128, g), steps=400, seed=seed
        )  # fmt: skip
    network = convolutionalize(model, WINDOW)
    masks = val_set.masks
    most_frequent = int(train_set.pixel_counts().argmax())
    stitched = torch.cat(
        [shift_and_stitch(network, pad_for_centres(x, WINDOW), WINDOW, STRIDE) for x in val_set.images.split(1)]
    ).argmax(1)
    smooth = upsampled_labels(network, val_set.images, WINDOW, STRIDE, "bilinear")
    labels = (
        torch.full_like(masks, most_frequent),
        upsampled_labels(network, val_set.images, WINDOW, STRIDE, "nearest"),
        smooth,
        stitched,
    )
    scene = val_set.images[:1]
    slow, by_window = cpu_seconds(lambda: sliding_window(model, scene, WINDOW, STRIDE), 3)
    fast, one_pass = cpu_seconds(lambda: network(scene), 10)
    off = float((by_window - one_pass).abs().max() / by_window.abs().max())
    agree = float((smooth == stitched)[masks != VOID].double().mean())
    return ROW.format(
        val_set.name, seed, *(pixel_accuracy(found, masks) for found in labels), agree, off, slow / fast
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--camvid", action="store_true", help="real frames: set SEGCOURSE_DATA")
    options = parser.parse_args()
    rows = [row(seed, options.camvid) for seed in range(options.seeds)]
    print(
        "| scenes | seed | most frequent class | one pass, repeated | one pass, interpolated | sixteen passes "
        "| last two agree | largest difference from the windows | times faster (CPU) |"
    )
    print("| --- " * 9 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
