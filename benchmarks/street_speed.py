"""How long a generated street takes, by size, and as a multiple of plain numpy work in the same run.

    OMP_NUM_THREADS=1 python benchmarks/street_speed.py

Times are CPU milliseconds of the process, the least of some repetitions. The reference is 100 multiply-adds over an
array of (96, 128, 3) float32 numbers: the ratio to it says the same on a fast and on a slow machine.
"""

import time
from collections.abc import Callable

import numpy as np

from segcourse.datasets.street import street_scene

SIZES = ((64, 64), (96, 128), (180, 240), (360, 480))
SCENES = 40
REPEATS = 7


def least_milliseconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of one call, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def multiply_adds() -> None:
    """Do the reference's work."""
    array = np.ones((96, 128, 3), np.float32)
    for _ in range(100):
        array = array * np.float32(0.5) + np.float32(0.5)


def main() -> None:
    street_scene(0)  # the noise is made once
    reference = least_milliseconds(multiply_adds)
    print(f"reference: {reference:.2f} ms")
    print(f"{'size':>8} {'ms a scene':>11} {'x reference':>12}")
    for height, width in SIZES:
        scenes = least_milliseconds(lambda size=(height, width): [street_scene(seed, size) for seed in range(SCENES)])
        each = scenes / SCENES
        print(f"{height:>4}x{width:<4} {each:10.2f} {each / reference:12.2f}")


if __name__ == "__main__":
    main()
