"""How much faster one pass of a convolutionalized classifier is than its sliding window, over strides and sizes.

    OMP_NUM_THREADS=1 python benchmarks/convolutionalized_speed.py

The sliding window is the honest kind: windows are views of the image, and many go through the classifier at once;
of several batch sizes the fastest counts. Both ways give the same scores, which is checked. Times are CPU seconds of
the process, the least of some repetitions: they bear a busy machine, not more than one thread.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from segcourse.convolutionalize import (
    PatchClassifier,
    convolutionalize,
    macs,
    patch_cost,
    shift_and_stitch,
    sliding_window,
    window_and_stride,
)

SIZES = ((96, 128), (192, 256), (384, 512))
BATCHES = (64, 256)
WINDOW = PatchClassifier.WINDOW


def least_seconds(run: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """The least CPU seconds of some runs, and the result; runs of seconds are not repeated."""
    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) < 2:
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the smallest image only")
    options = parser.parse_args()
    if torch.get_num_threads() > 1:
        print("note: with several threads CPU seconds add up; set OMP_NUM_THREADS=1", file=sys.stderr)

    torch.manual_seed(0)
    model = PatchClassifier().eval()
    network = convolutionalize(model, WINDOW).eval()
    _, (step, _) = window_and_stride(network)
    print(f"PatchClassifier, windows of {WINDOW}x{WINDOW}, network stride {step}, torch {torch.__version__}")
    print(
        f"{'image':>9} {'stride':>6} {'windows':>8} {'MAC ratio':>9} {'sliding s':>10} {'other s':>9} {'faster':>7}  by"
    )
    with torch.no_grad():
        for size in SIZES[: 1 if options.quick else None]:
            image = torch.rand(1, 3, *size)
            one_pass, heat_map = least_seconds(partial(network, image), 10 * options.repeats)
            stitch = partial(shift_and_stitch, network, image, WINDOW, step)
            stitched, dense = least_seconds(stitch, options.repeats)
            for stride in (1, 2, 4, 8, 16, 32):
                windows = [partial(sliding_window, model, image, WINDOW, stride, batch) for batch in BATCHES]
                sliding, scores = min((least_seconds(run, options.repeats) for run in windows), key=lambda r: r[0])
                coarse = stride % step == 0  # the one pass holds every such window; otherwise stitch
                seconds = one_pass if coarse else stitched
                cost = patch_cost(model, size, WINDOW, stride)
                passes = 1 if coarse else step * step
                every = stride // step if coarse else stride
                torch.testing.assert_close(
                    (heat_map if coarse else dense)[..., ::every, ::every], scores, rtol=1e-4, atol=1e-5
                )
                print(
                    f"{size[0]}x{size[1]:<5} {stride:>6} {cost.windows:>8} "
                    f"{cost.all_windows / (passes * macs(network, size)):>9.2f} {sliding:>10.4f} {seconds:>9.4f} "
                    f"{sliding / seconds:>6.1f}x  {'one pass' if coarse else f'{passes} shifts, stitched'}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
