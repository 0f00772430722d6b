"""Does U-Net's border weight lower the number of merged cells? What lesson 06 says of it, over seeds.

A small padded U-Net (8 channels, 3 poolings, batch norm) learns generated touching cells from 30 images, with three
losses: plain cross-entropy, and balanced classes with the border term, w0 = 10, sigma = 3 or 5. Each seed has dishes,
starting weights and batches of its own; within a seed only the loss differs. 60 test images are judged by the IoU of
cell and by connected components (`segcourse.instances`). The plain network is also read with a threshold above one
half: is the border weight more than that?

About 45 seconds of CPU time a training, seven minutes in all:

    OMP_NUM_THREADS=1 python benchmarks/experiments/06_border_weights.py

The lesson quotes the table that this prints.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from segcourse.datasets.cells import CellSet, cells
from segcourse.figures.unet import cell_batches, loss_weights
from segcourse.instances import count_cells
from segcourse.metrics import ConfusionMatrix
from segcourse.models.unet import UNet
from segcourse.training import train

KINDS = {
    "plain": "plain cross-entropy",
    "border 3": "balanced, border w0 10, sigma 3",
    "border 5": "balanced, border w0 10, sigma 5",
}
THRESHOLDS = (0.7, 0.9)
"""Further readings of the plain network: cell where its probability is above."""
LARGE = 20
"""Pixels: a piece of fewer is a speck."""
Row = tuple[float, ...]


def judge(data: CellSet, found: Tensor) -> Row:
    """IoU of cell; cells, merged, extra merges, split, missed; pieces that hold no cell, and the large among them."""
    matrix = ConfusionMatrix(2)
    matrix.add(found, data.masks)
    counts = count_cells(found, data.instances)
    return (
        float(matrix.iou[1]), counts.cells, counts.merged, counts.extra_merges, counts.split, counts.missed,
        counts.empty, count_cells(found, data.instances, LARGE).empty,
    )  # fmt: skip


@torch.no_grad()
def probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """The probability of cell, (N, H, W)."""
    return torch.cat([model(batch).softmax(1)[:, 1] for batch in images.split(10)])


def results(seed: int, steps: int) -> dict[str, Row]:
    """Train one network for each loss, and judge."""
    train_set, test_set = cells("train", 30, seed=seed), cells("test", 60, seed=seed)
    found = {}
    for kind, name in KINDS.items():
        torch.manual_seed(seed)
        model = UNet(1, 2, width=8, depth=3, padded=True, batch_norm=True, dropout=0.0)
        began = time.process_time()
        train(model, cell_batches(train_set, loss_weights(train_set, kind)), steps, seed=seed)
        cell = probabilities(model, test_set.images)
        found[name] = judge(test_set, (cell > 0.5).long())
        print(f"seed {seed}, {name}: {time.process_time() - began:.0f} CPU s, {found[name]}", flush=True)
        if kind == "plain":
            for threshold in THRESHOLDS:
                name = f"the same network, cell where p > {threshold}"
                found[name] = judge(test_set, (cell > threshold).long())
                print(f"seed {seed}, {name}: {found[name]}", flush=True)
    return found


def shown(values: list[float], digits: int) -> str:
    """Mean, and lowest to highest."""
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    runs = [results(seed, options.steps) for seed in options.seeds]
    print("cells in the test images:", [int(next(iter(run.values()))[1]) for run in runs])
    counted = ("merged", "extra merges", "split", "missed", "hold no cell", f"of {LARGE} pixels up")
    print(f"| loss | IoU of cell | {' | '.join(counted)} |")
    print("| --- " * 8 + "|")
    for name in runs[0]:
        iou, _, *counts = ([run[name][i] for run in runs] for i in range(8))
        print(f"| {name} | {shown(iou, 3)} | {' | '.join(shown(values, 0) for values in counts)} |")


if __name__ == "__main__":
    main()
