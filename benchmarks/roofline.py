"""Depthwise against dense: multiply-adds, time and intensity, all ratios from one run.

    OMP_NUM_THREADS=1 python benchmarks/roofline.py

Each round measures the two limits of the machine, and five layers and a ReLU on three maps; of some repeats the fastest
counts, as CPU seconds (on a GPU, wall time). A round's ratios are its own, and the table gives the lowest and the
highest of all rounds. "slower a product" is dense speed over depthwise speed, in multiply-adds a second; "of ReLU" is
depthwise time over that of a ReLU, which moves the same map. The script ends with an error where depthwise is not
faster than dense, not slower for each product, or, on a CPU, does not take at least twice ReLU's time: that is what
lesson 08 claims.
"""

import argparse

import torch
from torch import nn

from segcourse.figures.depthwise_cost import layers_to_time, machine_limits, measure
from segcourse.training import pick_device

MAPS = ((32, 112), (64, 56), (256, 28))
"""Channels, and rows and columns."""


def span(values: list[float], digits: int = 1) -> str:
    """The lowest and the highest value."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    device = pick_device()
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread"
    limits = [machine_limits(device) for _ in range(options.rounds)]
    print(f"{where}, torch {torch.__version__}, batch {options.batch}, {options.rounds} rounds, lowest to highest\n")
    print(f"matrix product: {span([peak / 1e9 for peak, _ in limits], 0)} thousand million multiply-adds a second")
    print(f"copy: {span([bandwidth / 1e9 for _, bandwidth in limits], 0)} GB a second\n")
    print("| channels, map | layer | multiply-adds a byte | multiply-adds, of dense 3x3 | time, of dense 3x3 | speed |")
    print("| --- | --- | --- | --- | --- | --- |")
    ratios = []
    for channels, side in MAPS:
        torch.manual_seed(0)
        shape = (options.batch, channels, side, side)
        layers = {**layers_to_time(channels), "ReLU": nn.ReLU()}
        rounds = [measure(layers, shape, device) for _ in range(options.rounds)]
        *by_layer, relu = zip(*rounds)
        dense = by_layer[1]
        for layer in by_layer:
            cost = layer[0].cost
            times = [one.seconds / reference.seconds for one, reference in zip(layer, dense)]
            print(
                f"| {channels}, {side}x{side} | {layer[0].name} | {cost.intensity:.1f} "
                f"| {cost.macs / dense[0].cost.macs:.3f} | {span(times, 3)} | {span([m.speed / 1e9 for m in layer])} |",
                flush=True,
            )
        depthwise = by_layer[3]
        faster = [d.seconds / s.seconds for d, s in zip(dense, depthwise)]
        slower = [d.speed / s.speed for d, s in zip(dense, depthwise)]
        of_relu = [s.seconds / r.seconds for s, r in zip(depthwise, relu)]
        ratios.append((channels, side, faster, slower, of_relu))
    print("\n| channels, map | fewer multiply-adds | depthwise faster | slower a product | of ReLU |")
    print("| --- | --- | --- | --- | --- |")
    for channels, side, *spans in ratios:
        columns = " | ".join(f"{span(ratio)} times" for ratio in spans)
        print(f"| {channels}, {side}x{side} | {channels} times | {columns} |")
    if not all(min(faster) > 1 and min(slower) > 1 for *_, faster, slower, _ in ratios):
        raise SystemExit("depthwise is not faster everywhere, or not slower for each product: lesson 08 says otherwise")
    if device.type == "cpu" and not all(min(of_relu) > 2 for *_, of_relu in ratios):
        raise SystemExit("depthwise does not take twice as long as ReLU everywhere: lesson 08 says otherwise")


if __name__ == "__main__":
    main()
