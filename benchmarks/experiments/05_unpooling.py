"""What lesson 05 claims of SegNet's unpooling, over seeds: remembered places against fixed ones and learned ones.

SegNet of width 8 is trained on generated streets from nothing, with each of the four ways to double a map; all else is
the same. About 5 CPU minutes a seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/05_unpooling.py

The lesson quotes the table that this prints.
"""

from collections.abc import Iterator
from typing import get_args

from streets import Result, fresh, print_table, scenes, trained

from segcourse.models.segnet import SegNet, Unpooling

STEPS = 550


def runs(seed: int) -> Iterator[tuple[str, Result]]:
    """The same network with each way to unpool."""
    data = scenes(seed)
    for how in get_args(Unpooling):
        model = fresh(seed, lambda how=how: SegNet(classes=11, width=8, unpool=how))
        yield how, trained(model, seed, STEPS, data)


if __name__ == "__main__":
    print_table(runs, seeds=3)
