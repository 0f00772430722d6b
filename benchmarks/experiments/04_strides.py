"""What lesson 04 claims of FCN's skips, over seeds: the finer the finest score map, the better.

The small FCN is trained on generated streets from nothing: with each of the three strides by itself, and in stages
as the paper does, 16s from 32s and 8s from 16s. About 8 CPU minutes a seed:

    OMP_NUM_THREADS=1 python benchmarks/experiments/04_strides.py

The lesson quotes the table that this prints.
"""

from collections.abc import Iterator

from streets import Result, fresh, print_table, scenes, trained

from segcourse.models.fcn import FCN

STEPS = 400


def small_fcn(stride: int) -> FCN:
    """Width 8 in place of 64, batch norm, and a 3x3 fc6, so that a training takes a minute."""
    return FCN(stride, classes=11, width=8, batch_norm=True, kernel=3, padding=49)


def runs(seed: int) -> Iterator[tuple[str, Result]]:
    """The three networks, then the three stages, which together take as many steps as one of the three."""
    data = scenes(seed)
    for stride in (32, 16, 8):
        yield f"FCN-{stride}s", trained(fresh(seed, lambda s=stride: small_fcn(s)), seed, STEPS, data)
    model = fresh(seed, lambda: small_fcn(32))
    yield "in stages: 32s, half of the steps", trained(model, seed, STEPS // 2, data)
    for stride in (16, 8):
        model = small_fcn(stride).from_stage(model)
        yield f"in stages: then {stride}s, a quarter", trained(model, seed, STEPS // 4, data)


if __name__ == "__main__":
    print_table(runs, seeds=3)
