"""What lesson 04 says of the three score maps: what each adds inside regions and in the boundary band, over seeds.

FCN-8s is trained in the stages and with the few steps of the lesson, on the lesson's scenes, from different first
weights. About 45 CPU seconds a seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/04_parts.py

A row for each seed: the share of right pixels with fc7 alone, what pool4 adds to it, what pool3 adds to both.
"""

import importlib

import torch
from streets import fresh

from segcourse.augment import crops
from segcourse.datasets import VOID, SegmentationSet, load
from segcourse.figures.fcn_skips import contributions, mixed_labels
from segcourse.metrics import boundary_band
from segcourse.models.fcn import FCN
from segcourse.training import train

small_fcn = importlib.import_module("04_strides").small_fcn

STAGES = {32: 120, 16: 60, 8: 60}  # steps of each stage, as in the lesson
KEPT = {"fc7": (1, 0, 0), "fc7 + pool4": (1, 1, 0), "all": (1, 1, 1)}


def staged(seed: int, train_set: SegmentationSet) -> FCN:
    """FCN-8s after three stages."""
    draw_batch, model = crops(train_set, batch_size=4), None
    for number, (stride, steps) in enumerate(STAGES.items()):
        stage = fresh(seed, lambda s=stride: small_fcn(s))
        if model is not None:
            stage = stage.from_stage(model)
        train(stage, draw_batch, steps=steps, seed=3 * seed + number)
        model = stage
    assert model is not None
    return model


def right_pixels(model: FCN, val_set: SegmentationSet) -> dict[str, tuple[float, float]]:
    """The share of right pixels inside regions and in the band, with some of the parts kept."""
    known, band = val_set.masks != VOID, boundary_band(val_set.masks, 3)
    parts = [contributions(model, image[None]) for image in val_set.images]
    found = {}
    for name, shares in KEPT.items():
        labels = torch.stack([mixed_labels(part, shares) for part in parts])
        inside, near = ((labels == val_set.masks)[known & where].float().mean() for where in (~band, band))
        found[name] = float(inside), float(near)
    return found


if __name__ == "__main__":
    sets = load("train", count=250), load("val", count=24)
    rows = []
    for seed in range(4):
        alone, two, whole = right_pixels(staged(seed, sets[0]), sets[1]).values()
        gains = [f"{b - a:+.3f}" for first, then in ((alone, two), (two, whole)) for a, b in zip(first, then)]
        rows.append(f"| {seed} | {alone[0]:.3f} | {alone[1]:.3f} | " + " | ".join(gains) + " |")
    print("\n| seed | fc7: inside | band | pool4: inside | band | pool3: inside | band |\n| --- |" + " --- |" * 6)
    print("\n".join(rows))
