"""How fast the course's padded U-Net is beside a plain one of the same widths, in one run.

    OMP_NUM_THREADS=1 python benchmarks/unet_speed.py

The plain one is written as most people write it: double convolutions with batch norm and in-place ReLU, 2x2 up-
convolutions, skips concatenated. Both have the same layers, get the same weights and give the same scores, which is
checked.
Steps of the two alternate; of each the least time counts (CPU seconds, or wall time on a GPU). A ratio above 1 means
that the course's is slower.
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.models.unet import UNet
from segcourse.training import least_seconds, pick_device

ROUNDS = 12


def double(in_channels: int, width: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Plain(nn.Module):
    """A U-Net of depth 4 as it stands in many repositories."""

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        w = [width * 2**i for i in range(5)]
        self.down = nn.ModuleList(double(a, b) for a, b in zip([in_channels, *w], w))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in w[3::-1])
        self.merge = nn.ModuleList(double(2 * c, c) for c in w[3::-1])
        self.score = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, stage in enumerate(self.down):
            x = stage(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[3::-1]):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.score(x)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, masks: Tensor) -> None:
    """One step of training."""
    loss = F.cross_entropy(model(images), masks)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main() -> None:
    device = pick_device()
    print("| width | batch | size | what | course | plain | ratio |\n| --- | --- | --- | --- | --- | --- | --- |")
    for width, batch, size in ((16, 8, (96, 128)), (64, 1, (192, 256))):
        torch.manual_seed(0)
        images = torch.rand(batch, 3, *size, device=device)
        masks = torch.randint(11, (batch, *size), device=device)
        plain = Plain(3, 11, width).to(device)
        ours = UNet(3, 11, width, depth=4, padded=True, batch_norm=True, dropout=0.0).to(device)
        ours.load_state_dict(dict(zip(ours.state_dict(), plain.state_dict().values(), strict=True)))
        assert torch.allclose(ours.eval()(images), plain.eval()(images), atol=1e-4), "the two are not the same network"
        models = {"course": ours, "plain": plain}
        optimizers = {name: torch.optim.AdamW(model.parameters()) for name, model in models.items()}
        runs = {
            "training step": lambda name: step(models[name].train(), optimizers[name], images, masks),  # noqa: B023
            "inference": torch.no_grad()(lambda name: models[name].eval()(images)),  # noqa: B023
        }
        for what, run in runs.items():
            least = dict.fromkeys(models, float("inf"))
            for turn in range(ROUNDS):
                for name in list(models)[:: 1 if turn % 2 else -1]:  # the second one finds memory as the first left it
                    least[name] = min(least[name], least_seconds(lambda name=name, run=run: run(name), repeats=1))
            cells = f"{least['course']:.4f} s | {least['plain']:.4f} s | {least['course'] / least['plain']:.2f}"
            print(f"| {width} | {batch} | {size[0]}x{size[1]} | {what} | {cells} |", flush=True)


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - began:.0f} s in all, {torch.get_num_threads()} thread(s), {pick_device()}")
