"""What lesson 07 claims of atrous layers against plain ones of one cost, over seeds.

- A coarse head: two layers on units 16 pixels apart, after a stem that sees 106 pixels (generated streets).
- A context module: six layers on units 2 pixels apart, after a stem that sees 8 pixels (generated streets).
- Signals: four layers on units 2 pixels apart, where what decides lies 22 to 30 pixels away.

About 3 CPU minutes a seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/07_context.py

The lesson quotes the tables that this prints.
"""

import time
from collections.abc import Iterator
from functools import partial

import torch
from streets import Result, Scenes, fresh, print_table, scenes
from torch import Tensor

from segcourse.augment import crops
from segcourse.cost import profile
from segcourse.datasets.signals import signals
from segcourse.losses import median_frequency_weights
from segcourse.models.context import ContextNet
from segcourse.training import evaluate, train

CONTENDERS = {  # name: (classes, width, halvings, rates)
    "coarse head, plain": (11, 32, 4, (1, 1)),
    "coarse head, rates 2 4": (11, 32, 4, (2, 4)),
    "context module, plain": (11, 24, 1, (1, 1, 1, 1, 1, 1)),
    "context module, rates 1 2 4 8 16 1": (11, 24, 1, (1, 2, 4, 8, 16, 1)),
    "signals, plain": (3, 16, 1, (1, 1, 1, 1)),
    "signals, rates 1 2 4 8": (3, 16, 1, (1, 2, 4, 8)),
}
STEPS = {"coarse head": 350, "context module": 350, "signals": 500}


def build(name: str) -> ContextNet:
    """The network of this name."""
    classes, width, halvings, rates = CONTENDERS[name]
    return ContextNet(3, classes, width, halvings, rates)


def trained(name: str, seed: int, data: Scenes, weights: Tensor) -> Result:
    """Train the network of this name on batches of eight, and measure it."""
    model, steps = fresh(seed, partial(build, name)), STEPS[name.split(",")[0]]
    began = time.process_time()
    train(model, crops(data[0]), steps, learning_rate=1e-2, seed=seed, class_weights=weights)
    seconds = time.process_time() - began
    return evaluate(model, data[1]), seconds


def runs(seed: int) -> Iterator[tuple[str, Result]]:
    """Each contender once: on streets with the roots of median-frequency weights, on signals with ten for the box."""
    town, far = scenes(seed), (signals("train", 800, seed=seed), signals("val", 100, seed=seed))
    of_town, of_far = median_frequency_weights(town[0].masks, 11).sqrt(), torch.tensor([1.0, 10.0, 10.0])
    for name in CONTENDERS:
        on_signals = name.startswith("signals")
        yield name, trained(name, seed, far if on_signals else town, of_far if on_signals else of_town)


def print_costs() -> None:
    """Print what each contender sees and costs: two that belong together differ in their field alone."""
    print("| network | field | parameters | million multiply-adds |\n| --- | --- | --- | --- |")
    for name in CONTENDERS:
        model = build(name).eval()
        macs = profile(model, (1, 3, *((64, 80) if name.startswith("signals") else (96, 128)))).total_macs
        parameters = sum(p.numel() for p in model.parameters())
        print(f"| {name} | {model.field} | {parameters:,} | {macs / 1e6:.1f} |")


if __name__ == "__main__":
    print_costs()
    print_table(runs, seeds=3)
