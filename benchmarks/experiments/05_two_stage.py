"""What lesson 05 claims of DeconvNet's scheme on a small scale, over seeds: two stages of training, proposals, sums.

A SegNet-Basic of 16 channels sees one proposal at a time, resized to 32x32, of generated streets: background, tree,
sign, car, person. It is trained on single centred objects (first stage), on proposals with every class labelled (second
stage), or on half as many batches of each, one after the other; the number of batches is the same. For comparison, the
same network sees whole scenes, in as many batches of 6 (more than twice the pixels). About one CPU minute a seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/05_two_stage.py

The lesson quotes the table that this prints.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from segcourse.augment import crops
from segcourse.datasets import SegmentationSet, streets
from segcourse.figures.segnet_unpooling import things_only
from segcourse.metrics import ConfusionMatrix
from segcourse.models.segnet import SegNetBasic
from segcourse.proposals import aggregate, find_things, first_stage, grid_boxes, score_boxes, second_stage
from segcourse.training import predict, train

SIDE, COUNT, STEPS = 32, 32, 200
SIDES = (24, 36, 54, 80)
SEEDS = 3
Draw = Callable[[Generator], tuple[Tensor, Tensor]]


def trained(seed: int, stages: Sequence[tuple[Draw, int]]) -> tuple[nn.Module, float]:
    """Train a fresh network on one stage after the other; returns it with the CPU seconds."""
    torch.manual_seed(seed)
    model = SegNetBasic(classes=5, width=16, kernel=3)
    began = time.process_time()
    for draw, steps in stages:
        train(model, draw, steps, learning_rate=1e-2, seed=seed)
    return model, time.process_time() - began


def measured(labels: Tensor, data: SegmentationSet) -> ConfusionMatrix:
    """Compare labels (N, H, W) with the masks."""
    matrix = ConfusionMatrix(len(data.classes))
    matrix.add(labels, data.masks)
    return matrix


def by_proposals(model: nn.Module, data: SegmentationSet, add: bool) -> Tensor:
    """Label every scene by the proposals of a grid, put together."""
    boxes = grid_boxes(data.size, SIDES)
    scores = [aggregate(score_boxes(model, image, boxes, SIDE), boxes, data.size, add) for image in data.images]
    return torch.stack(scores).argmax(1)


def main() -> None:
    found: dict[str, list[tuple[ConfusionMatrix, float]]] = {}
    for seed in range(SEEDS):
        train_set, val_set = (things_only(streets(split, n, seed=seed)) for split, n in (("train", 200), ("val", 40)))
        things = find_things(train_set.masks, range(1, 5))
        boxes = grid_boxes(train_set.size, SIDES)
        first = first_stage(train_set.images, train_set.masks, things, SIDE, COUNT)
        second = second_stage(train_set.images, train_set.masks, things, boxes, SIDE, COUNT)
        ways: dict[str, list[tuple[Draw, int]]] = {
            "first stage only": [(first, STEPS)],
            "second stage only": [(second, STEPS)],
            "first, then second": [(first, STEPS // 2), (second, STEPS // 2)],
        }
        for name, stages in ways.items():
            model, seconds = trained(seed, stages)
            for add in (False, True):
                key = f"{name}, {'sum' if add else 'maximum'} of proposals"
                found.setdefault(key, []).append((measured(by_proposals(model, val_set, add), val_set), seconds))
        model, seconds = trained(seed, [(crops(train_set, 6), STEPS)])
        whole = measured(predict(model, val_set.images), val_set)
        found.setdefault("whole scenes", []).append((whole, seconds))
    print(f"\n{len(boxes)} proposals a scene, {len(things)} objects in the last seed's training scenes")
    print("| training, aggregation | mIoU of each seed | mean | background, tree, sign, car, person | CPU s |")
    print("| --- | --- | --- | --- | --- |")
    for name, results in found.items():
        means = [matrix.mean_iou for matrix, _ in results]
        classes = torch.stack([matrix.iou for matrix, _ in results]).nanmean(0).tolist()
        cells = [name, " ".join(f"{m:.3f}" for m in means), f"{statistics.fmean(means):.3f}"]
        cells += [" ".join(f"{c:.2f}" for c in classes), f"{statistics.fmean(s for _, s in results):.0f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
