"""What lesson 06 claims of U-Net's skips, over seeds: without them the same network finds less, most of all at borders.

A small padded U-Net is trained on generated streets from nothing, with its skips and without. About 3 CPU minutes a
seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/06_skips.py

The lesson quotes the table that this prints.
"""

from collections.abc import Iterator

from streets import Result, fresh, print_table, scenes, trained

from segcourse.models.unet import UNet

STEPS = 330


def small_unet(skips: bool) -> UNet:
    """Width 12 in place of 64, depth 4, padded, with batch norm and without dropout."""
    return UNet(3, 11, width=12, depth=4, padded=True, batch_norm=True, dropout=0.0, skips=skips)


def runs(seed: int) -> Iterator[tuple[str, Result]]:
    """The two networks."""
    data = scenes(seed)
    for skips in (False, True):
        name = "U-Net" if skips else "U-Net without skips"
        yield name, trained(fresh(seed, lambda s=skips: small_unet(s)), seed, STEPS, data)


if __name__ == "__main__":
    print_table(runs, seeds=3)
