"""Training, short enough to read from top to bottom: where it runs, the loop, and how long something takes.

A batch comes from a function of a random generator, so that a seed alone decides what a network sees and when.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from segcourse.datasets.base import VOID

Batch = tuple[Tensor, Tensor]
LINES = 20
"""How often the progress line is renewed during a training."""


def pick_device() -> torch.device:
    """The GPU that CUDA offers, the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    model: nn.Module,
    draw_batch: Callable[[Generator], Batch],
    steps: int,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> list[float]:
    """Fit a classifier of images or of pixels with AdamW; the learning rate falls to zero in a straight line.

    Ctrl-C (in Jupyter: Interrupt) ends the training early; the model keeps what it has learned. It is left in
    evaluation mode, on the device where it was.

    Args:
        model: (N, ...) -> scores (N, classes) or (N, classes, H, W).
        draw_batch: draws inputs and their labels, (N,) or (N, H, W) int64; void (255) is not learned.
        steps: number of batches.
        learning_rate: of the first step.
        seed: of the generator that `draw_batch` draws from.

    Returns:
        The loss of each step.
    """
    device = next(model.parameters()).device
    generator = Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    losses: list[float] = []
    model.train()
    try:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            inputs, labels = draw_batch(generator)
            loss = F.cross_entropy(model(inputs.to(device)), labels.to(device), ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            _show_progress(losses, steps)
    except KeyboardInterrupt:
        print(f"\nStopped after {len(losses)} of {steps} steps; the model keeps what it has learned.")
    model.eval()
    return losses


def _show_progress(losses: list[float], steps: int) -> None:
    """Renew the line that says how far the training is, now and then; it ends with the last step."""
    done, every = len(losses), max(1, steps // LINES)
    if done % every == 0 or done == steps:
        recent = sum(losses[-every:]) / len(losses[-every:])
        print(f"\rstep {done} of {steps}, loss {recent:.2f}", end="\n" if done == steps else "", flush=True)


def least_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the least time of a few runs, in seconds: the first run and disturbed ones take longer.

    Without a GPU these are CPU seconds, which other programs do not lengthen; threads add up. With one it is wall
    time, and the GPU, which works on after a call has returned, is waited for.
    """
    gpu = torch.cuda.is_available()
    clock = time.perf_counter if gpu else time.process_time
    seconds = []
    for _ in range(repeats):
        began = clock()
        run()
        if gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    return min(seconds)
