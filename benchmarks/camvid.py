"""The real CamVid in two minutes: what a small U-Net learns from nothing in at most 120 CPU seconds.

    OMP_NUM_THREADS=1 SEGCOURSE_DATA=... python benchmarks/camvid.py --seed 0

A U-Net at half the resolution is trained with Muon on the 367 training frames, made 120x160. It is judged on the 101
validation frames of 180x240: each is made 120x160 for the network, and what comes out is enlarged. The second row is
the same network, asked at two sizes and in the mirror. CPU seconds are those of the training, drawing of batches
included; reading the data and judging are not.
"""

import argparse
import time

import torch

from segcourse.augment import crops
from segcourse.datasets.camvid import available, camvid
from segcourse.datasets.paths import ENV
from segcourse.losses import median_frequency_weights
from segcourse.models.resolution import AtSizes, HalfResolution
from segcourse.models.unet import UNet
from segcourse.muon import Muon
from segcourse.training import evaluate, least_seconds, train

SEEN = (120, 160)
"""Height and width at which the network sees frames."""
LARGER = (144, 192)
JUDGED = (180, 240)
STEPS = 850


def network() -> HalfResolution:
    """A padded U-Net with 16 channels and three poolings, after a strided convolution."""
    unet = UNet(16, 11, width=16, depth=3, padded=True, batch_norm=True, dropout=0.0)
    return HalfResolution(unet, width=16, multiple=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    if not available():
        raise SystemExit(f"CamVid is not here: `segcourse data get camvid` fetches it, or {ENV} names its folder")
    train_set, val_set = camvid("train", SEEN), camvid("val", JUDGED)
    weights = median_frequency_weights(train_set.masks, len(train_set.classes)).sqrt()
    draw = crops(train_set, batch_size=8, size=(96, 128), zoom=(0.6, 1.0))
    torch.manual_seed(arguments.seed)
    model = network()

    began = time.process_time()
    train(model, draw, arguments.steps, seed=arguments.seed, class_weights=weights, optimizer=Muon)
    seconds = time.process_time() - began
    score = evaluate(AtSizes(model, SEEN), val_set)
    mean = evaluate(AtSizes(model, SEEN, LARGER, mirror=True), val_set)

    step = least_seconds(lambda: train(network(), draw, 8, class_weights=weights, optimizer=Muon)) / 8
    print(f"{train_set}; {val_set}; {sum(p.numel() for p in model.parameters()):,} parameters")
    print(f"least CPU seconds of a step {step:.3f}, of {arguments.steps} such steps {arguments.steps * step:.0f}")
    for name, iou in zip(val_set.classes, score.iou.tolist()):
        print(f"{name:12} {iou:.3f}")
    print("| asked | seed | steps | mIoU | at boundaries | accuracy | CPU s |\n" + "| --- " * 7 + "|")
    for asked, found in (("at one size", score), ("at two, mirrored", mean)):
        measures = f"{found.mean_iou:.3f} | {found.boundary_iou:.3f} | {found.accuracy:.3f}"
        print(f"| {asked} | {arguments.seed} | {arguments.steps} | {measures} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
