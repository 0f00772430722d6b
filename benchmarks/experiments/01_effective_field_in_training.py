"""Does training enlarge the effective receptive field? It depends on what the task needs.

A plain stack of eight 3x3 layers (field 17) learns to label the pixels of blob pictures: four classes, each with a
colour of its own, under noise. With little noise the colour of a pixel decides; with much noise its neighbours have to
help. The effective field is measured before and after, for three seeds; about 30 CPU seconds.

    OMP_NUM_THREADS=1 python benchmarks/experiments/01_effective_field_in_training.py

Lesson 01 quotes the table that this prints.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from segcourse.receptive_field import effective_field, effective_size
from segcourse.training import train

DEPTH, CHANNELS, STEPS = 8, 16, 250
COLOURS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(DEPTH):
        convolution = nn.Conv2d(CHANNELS if index else 3, CHANNELS, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight)
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(CHANNELS, len(COLOURS), 1))


def pictures(count: int, noise: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 48, 48) and labels (N, 48, 48): blobs about 24 pixels wide, coloured, with noise."""
    coarse = torch.randn(count, len(COLOURS), 3, 3, generator=generator)
    labels = F.interpolate(coarse, size=48, mode="bilinear", align_corners=True).argmax(1)
    images = COLOURS[labels].permute(0, 3, 1, 2)
    return images + noise * torch.randn(images.shape, generator=generator), labels


def main() -> None:
    rows = []
    for noise in (0.2, 3.0):
        for seed in range(3):
            torch.manual_seed(seed)
            model = network()
            images, labels = pictures(32, noise, Generator().manual_seed(100 + seed))
            sides = [effective_size(effective_field(model, images))]
            train(model, lambda generator, noise=noise: pictures(8, noise, generator), STEPS, 2e-3, seed)
            sides.append(effective_size(effective_field(model, images)))
            with torch.no_grad():
                accuracy = (model(images).argmax(1) == labels).float().mean().item()
            rows.append(f"noise {noise}, seed {seed}: {sides[0]:.1f} -> {sides[1]:.1f}, accuracy {accuracy:.2f}")
    print(f"effective side of {DEPTH} layers of 3x3 (field {2 * DEPTH + 1}), before and after {STEPS} steps")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
