"""Draws the README's picture from the course's own code: python docs/make_pictures.py."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from segcourse.datasets import CLASSES, PALETTE, VOID, colourize, streets
from segcourse.figures.start_here import as_bytes, hatch_void, name_regions
from segcourse.plots import png, use_style

SCENE = 2
SIZE = (240, 320)


def readme() -> bytes:
    """Return the PNG: a generated street, its mask with void hatched, and the share of each class."""
    use_style()
    image, mask = streets("train", SCENE + 1, SIZE)[SCENE]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), width_ratios=[4, 4, 3])
    axes[0].imshow(as_bytes(image), interpolation="antialiased")
    axes[0].set_title("a generated street")
    colours = colourize(mask, PALETTE)
    colours[mask == VOID] = 255
    axes[1].imshow(colours)
    hatch_void(axes[1], mask.numpy())
    name_regions(axes[1], mask.numpy(), CLASSES)
    axes[1].set_title("its mask; void is hatched")
    for axis in axes[:2]:
        axis.axis("off")
    shares = 100 * torch.bincount(mask[mask != VOID], minlength=len(CLASSES)) / (mask != VOID).sum()
    order = [c for c in shares.argsort().tolist() if shares[c]]
    axes[2].barh([CLASSES[c] for c in order], shares[order], color=PALETTE[order] / 255, edgecolor="black")
    for place, c in enumerate(order):
        axes[2].text(float(shares[c]) * 1.15, place, f"{shares[c]:.1f}", va="center", fontsize=8)
    axes[2].set_xscale("log")
    axes[2].set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes[2].set(xlim=(0.05, 150), title="share of each class in percent")
    axes[2].tick_params(axis="y", labelsize=8)
    return png(figure)


if __name__ == "__main__":
    picture = readme()
    Path(__file__).with_name("readme.png").write_bytes(picture)
    print(f"docs/readme.png: {len(picture) // 1024} KB")
