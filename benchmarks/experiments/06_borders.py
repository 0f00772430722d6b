"""How many labels change near the border when a U-Net loses the surroundings? What lesson 06 says of it, over seeds.

The lesson's own networks: a U-Net without padding and a padded one, 8 channels and 3 poolings, 75 steps with border
weights. 128x128 pixels are cut from pictures of 256x256 and predicted alone and as part of the whole; counted are the
labels that differ in the outermost 8 pixels. The comparison is uneven: the padded network learns from crops of 96x96
labelled pixels, the other from 60x60.

About 35 seconds of CPU time a seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/06_borders.py

The lesson quotes the table that this prints.
"""

import argparse

import torch

from segcourse.datasets.cells import cells
from segcourse.figures.unet import cell_batches, loss_weights, share_by_distance
from segcourse.models.unet import UNet
from segcourse.tiles import predict_whole
from segcourse.training import predict, train


def learned(seed: int, padded: bool) -> UNet:
    """Return a network, trained as in the lesson."""
    train_set = cells("train", 30)
    size, margin = (96, 0) if padded else (60, 88)
    torch.manual_seed(seed)
    model = UNet(1, 2, width=8, depth=3, padded=padded, batch_norm=True, dropout=0)
    batches = cell_batches(train_set, loss_weights(train_set, "border 3"), size=size, margin=margin)
    train(model, batches, steps=75, learning_rate=0.02, seed=seed)
    return model.eval()


def shares(seed: int) -> dict[str, float]:
    """Return the share of labels in the outermost 8 pixels that change without the surroundings, by network."""
    network, trained_padded = learned(seed, padded=False), learned(seed, padded=True)
    borrowed = UNet(1, 2, width=8, depth=3, padded=True, batch_norm=True, dropout=0).eval()
    borrowed.load_state_dict(network.state_dict())
    wide = cells("test", 8, size=(256, 256)).images
    alone = wide[:, :, 64:192, 64:192]
    ways = {
        "padded with zeros, trained so": lambda x: predict(trained_padded, x),
        "padded with zeros, weights of the other": lambda x: predict(borrowed, x),
        "no padding, mirrored border": lambda x: predict_whole(network, x, margin=88, stride=8).argmax(1),
    }
    changed = {name: way(wide)[:, 64:192, 64:192] != way(alone) for name, way in ways.items()}
    return {name: float(share_by_distance(marked)[:8].mean()) for name, marked in changed.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    runs = [shares(seed) for seed in options.seeds]
    print("| network | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " |")
    print("| --- " * (1 + len(runs)) + "|")
    for name in runs[0]:
        print(f"| {name} | " + " | ".join(f"{run[name]:.1%}" for run in runs) + " |")


if __name__ == "__main__":
    main()
