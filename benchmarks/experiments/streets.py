"""What the experiments on generated streets share: train contenders over seeds, and print one table of all."""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from segcourse.augment import crops
from segcourse.datasets import SegmentationSet, streets
from segcourse.training import Score, evaluate, train

Scenes = tuple[SegmentationSet, SegmentationSet]
Result = tuple[Score, float]
"""What was reached, and the CPU seconds of the training."""


def scenes(seed: int) -> Scenes:
    """Scenes to train on and to validate on: a town of its own for each seed."""
    return streets("train", 400, seed=seed), streets("val", 60, seed=seed)


def trained(model: nn.Module, seed: int, steps: int, data: Scenes) -> Result:
    """Train a model as it is, and measure it."""
    train_set, val_set = data
    began = time.process_time()
    train(model, crops(train_set), steps, seed=seed)
    seconds = time.process_time() - began
    return evaluate(model, val_set), seconds


def fresh(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model whose first weights the seed decides."""
    torch.manual_seed(seed)
    return build()


def print_table(runs: Callable[[int], Iterator[tuple[str, Result]]], seeds: int) -> None:
    """Run everything for each seed; print each seed's mIoU and boundary IoU, their means, and the CPU seconds."""
    found: dict[str, list[Result]] = {}
    for seed in range(seeds):
        for name, result in runs(seed):
            found.setdefault(name, []).append(result)
            print(f"\n{name}, seed {seed}: {result[0]}, {result[1]:.0f} CPU s\n", flush=True)
    print(
        "| network | mIoU of each seed | mean | at boundaries | mean | CPU s |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, results in found.items():
        cells = [name]
        for values in ([s.mean_iou for s, _ in results], [s.boundary_iou for s, _ in results]):
            cells += [" ".join(f"{value:.3f}" for value in values), f"{statistics.fmean(values):.3f}"]
        seconds = [spent for _, spent in results]
        print("| " + " | ".join([*cells, f"{min(seconds):.0f} to {max(seconds):.0f}"]) + " |")
