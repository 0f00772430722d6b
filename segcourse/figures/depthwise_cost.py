"""The figures of lesson 08: what layers depend on, where networks spend, what a machine does with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from segcourse.cost import Profile, Row, profile
from segcourse.plots import OKABE_ITO, png
from segcourse.training import least_seconds
from segcourse.widgets import live_image

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# ---------------------------------------------------------------- numbers that count their products


class Counted:
    """A number that counts: every product of two adds one to `Counted.products`. Sums cost nothing."""

    products = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def __mul__(self, other: Counted) -> Counted:
        Counted.products += 1
        return Counted(self.value * other.value)

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.value + other.value)


def counted(tensor: Tensor) -> npt.NDArray[np.object_]:
    """Return an array of counting numbers of a tensor's shape; NumPy multiplies and adds them one by one."""
    cells = [Counted(value) for value in tensor.flatten().tolist()]
    result = np.empty(len(cells), object)
    result[:] = cells
    return result.reshape(tuple(tensor.shape))


def plain(array: npt.NDArray[np.object_]) -> Tensor:
    """Return the values of an array of counting numbers, float32."""
    cells: list[Any] = list(array.flat)
    return torch.tensor([cell.value for cell in cells]).reshape(array.shape)


def in_whole_numbers(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does as `answer` does, and gives its counts as Python's whole numbers.

    A count may also come as a float, a fraction, or a tensor of one number: alone, in a sequence, or in a dict. But
    such numbers cannot be formatted or added up like whole ones everywhere; `+=` changes a tensor in place.
    """

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: whole(count) for name, count in value.items()}
        if isinstance(value, (list, tuple)) or (hasattr(value, "ndim") and value.ndim):
            return tuple(whole(count) for count in value)
        return round(value.item() if hasattr(value, "item") else value)

    return lambda *arguments: whole(answer(*arguments))


# ---------------------------------------------------------------- which channels an output depends on


def channel_dependencies(network: nn.Module, channels: int) -> Tensor:
    """Tell which input channels each output channel depends on, by its gradient: (C_out, channels) bool.

    Args:
        network: (1, channels, 6, 6) -> (1, C_out, H, W); weights are replaced by ones in a copy of the state, so that
            nothing cancels; it must hold no ReLU that such an input would switch off.
        channels: of the input.
    """
    ones = {name: torch.ones_like(p, dtype=torch.float64) for name, p in network.named_parameters()}
    image = torch.ones(1, channels, 6, 6, dtype=torch.float64, requires_grad=True)
    output = torch.func.functional_call(network, ones, (image,))
    sums = output.sum((0, 2, 3))
    gradients = [torch.autograd.grad(one, image, retain_graph=True)[0] for one in sums]
    return torch.stack([g.abs().sum((0, 2, 3)) > 0 for g in gradients])


def dependency_figure(panels: dict[str, Tensor]) -> Figure:
    """Draw one grid for each network: a dark cell where an output channel depends on an input channel.

    Args:
        panels: title -> (C_out, C_in) bool.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 2.35))
    for place, (title, depends) in zip(figure.subplots(1, len(panels)), panels.items()):
        outputs, inputs = depends.shape
        place.imshow(depends.numpy(), cmap=ListedColormap(["white", OKABE_ITO["blue"]]), vmin=0, vmax=1)
        place.set_xticks(np.arange(inputs + 1) - 0.5, minor=True)
        place.set_yticks(np.arange(outputs + 1) - 0.5, minor=True)
        place.grid(which="minor", color="lightgrey", linewidth=0.7)
        place.tick_params(which="both", length=0)
        place.spines[:].set(visible=True, color="lightgrey")
        place.set(xticks=range(0, inputs, 2), yticks=range(0, outputs, 2), xlabel="input channel")
        place.set_title(f"{title}\n{depends.float().mean():.0%} of the pairs", fontsize=9)
    figure.axes[0].set_ylabel("output channel")
    return figure


# ---------------------------------------------------------------- what separating saves


def saving_figure(kernels: Sequence[int], channels: Sequence[int]) -> Figure:
    """Draw 1 / (1/M + 1/K²), how many times fewer multiply-adds, over the output channels M for each kernel K."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.8))
    axes = figure.subplots()
    for kernel, colour, style in zip(kernels, ("blue", "vermilion", "green", "purple"), ("-", "--", "-.", ":")):
        times = [saving(m, kernel) for m in channels]
        axes.plot(channels, times, style, color=OKABE_ITO[colour], linewidth=2)
        axes.axhline(kernel**2, color=OKABE_ITO[colour], linewidth=0.8, linestyle=(0, (1, 3)))
        axes.annotate(
            f"K = {kernel}: at most {kernel**2}", (channels[-1], times[-1]), xytext=(6, 0), va="center",
            textcoords="offset points", color=OKABE_ITO[colour], annotation_clip=False,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set(xlabel="output channels M", ylabel="times fewer multiply-adds", xticks=channels)
    axes.set_xticklabels([str(m) for m in channels])
    axes.set_ylim(0, None)
    return figure


def saving(out_channels: int, kernel: int) -> float:
    """How many times fewer multiply-adds a separable convolution takes than a dense one."""
    return 1 / (1 / out_channels + 1 / kernel**2)


# ---------------------------------------------------------------- where a network spends


def balance_figure(networks: dict[str, Profile]) -> Figure:
    """Draw for each network, resolution by resolution, the shares of multiply-adds, parameters and activations.

    Args:
        networks: title -> profile, rows by layer.
    """
    from matplotlib.figure import Figure

    budgets = [("macs", "multiply-adds", "blue"), ("parameters", "parameters", "orange")]
    budgets.append(("activations", "activations", "green"))
    figure = Figure(figsize=(8.6, 2.75 * ((len(networks) + 1) // 2) + 0.4))
    places = figure.subplots((len(networks) + 1) // 2, 2, squeeze=False)
    for place, (title, network) in zip(places.flat, networks.items()):
        levels = network.by_resolution()
        for offset, (name, label, colour) in zip((-0.28, 0, 0.28), budgets):
            shares = [getattr(row, name) / getattr(levels.total, name) for row in levels.rows]
            bars = place.bar(
                np.arange(len(shares)) + offset, shares, 0.26, color=OKABE_ITO[colour], edgecolor="black",
                linewidth=0.5, hatch={"parameters": "//", "activations": ".."}.get(name), label=label,
            )  # fmt: skip
            for bar, share in zip(bars, shares):
                if share > 0:
                    text = f"{100 * share:.0f}" if share >= 0.01 else "<1"
                    place.annotate(
                        text, (bar.get_x() + 0.13, share), ha="center", va="bottom", fontsize=7, xytext=(0, 1),
                        textcoords="offset points",
                    )  # fmt: skip
        place.set(title=title, ylim=(0, 1.02), yticks=[])
        place.spines["left"].set_visible(False)
        place.set_xticks(range(len(levels.rows)), [row.layer for row in levels.rows])
    for place in places.flat[len(networks) :]:
        place.set_axis_off()
    for row in places:
        row[0].set_ylabel("share in percent")
    handles, labels = places[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def kept_for_backward(network: nn.Module, image: Tensor) -> int:
    """Return the bytes that a forward pass in training keeps for the backward pass, parameters left out."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(image)  # alive until the count is done: a freed address could be used again
        total = sum(kept.values())
    del output
    return total


# ---------------------------------------------------------------- time against intensity


@dataclass(frozen=True)
class Measured:
    """A layer's cost and the least time that it took."""

    name: str
    cost: Row
    seconds: float

    @property
    def speed(self) -> float:
        """Multiply-adds a second."""
        return self.cost.macs / self.seconds


def layers_to_time(channels: int) -> dict[str, nn.Module]:
    """The layers of the roofline: dense, in groups, depthwise and pointwise, all with `channels` in and out."""
    return {
        "dense 7x7": nn.Conv2d(channels, channels, 7, padding=3),
        "dense 3x3": nn.Conv2d(channels, channels, 3, padding=1),
        "4 groups 3x3": nn.Conv2d(channels, channels, 3, padding=1, groups=4),
        "depthwise 3x3": nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        "pointwise 1x1": nn.Conv2d(channels, channels, 1),
    }


@torch.no_grad()
def measure(layers: dict[str, nn.Module], shape: tuple[int, ...], device: Any, repeats: int = 7) -> list[Measured]:
    """Time each layer on an input of this shape: one run to warm up, then the least of some repeats.

    The repeats of the layers alternate, so that a slow moment of the machine does not fall on one of them. A repeat is
    as many runs as take about five milliseconds. CPU seconds on a CPU, wall time on a GPU, see `least_seconds`.
    """
    image = torch.rand(shape, device=device)
    ready = {name: layer.to(device).eval() for name, layer in layers.items()}
    runs: dict[str, Callable[[], None]] = {}
    times: dict[str, int] = {}
    for name, layer in ready.items():
        layer(image)  # the first run chooses an algorithm and makes buffers
        once = least_seconds(lambda layer=layer: layer(image), 2)  # type: ignore[misc]
        times[name] = max(1, min(200, round(0.005 / max(once, 1e-6))))
        runs[name] = _repeated(layer, image, times[name])
    least = dict.fromkeys(ready, math.inf)
    for _ in range(repeats):
        for name, run in runs.items():
            least[name] = min(least[name], least_seconds(run, 1) / times[name])
    return [Measured(name, profile(layer, shape).total, least[name]) for name, layer in ready.items()]


def _repeated(layer: nn.Module, image: Tensor, times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            layer(image)

    return run


@torch.no_grad()
def machine_limits(device: Any, side: int = 1024) -> tuple[float, float]:
    """Measure a machine's two roofs: multiply-adds a second in a matrix product, bytes a second in a copy.

    The copied tensor, 64 MiB, is larger than most caches; the matrices are `side` wide.
    """
    a = torch.rand(side, side, device=device)
    source = torch.rand(2**24, device=device)
    target = torch.empty_like(source)
    product = least_seconds(lambda: a @ a, 6)
    copy = least_seconds(lambda: target.copy_(source), 6)
    return side**3 / product, 2 * 4 * source.numel() / copy


def roofline_figure(measured: Sequence[Measured], peak: float, bandwidth: float, of_the_map: float = 0) -> Figure:
    """Draw speed against intensity, both in powers of ten, below the two roofs of the machine.

    Args:
        measured: of one machine.
        peak: multiply-adds a second in a matrix product; the flat roof is this, or the fastest layer if that is faster.
        bandwidth: bytes a second that the machine can copy.
        of_the_map: bytes a second that a ReLU on the layers' own map moves, drawn as a dashed slope; 0 for none.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(7.6, 4.3))
    axes = figure.subplots()
    roof = max(peak, *(m.speed for m in measured))
    most = 2 * max(10.0, *(m.cost.intensity for m in measured), roof / bandwidth)
    x = np.geomspace(0.3, most, 100)
    axes.plot(x, np.minimum(roof, bandwidth * x) / 1e9, color="black", linewidth=1.5)
    axes.annotate(
        f"most seen: {roof / 1e9:.0f} thousand million multiply-adds a second", (0.33, roof / 1e9), xytext=(0, 4),
        textcoords="offset points",
    )  # fmt: skip
    axes.annotate(
        f"memory: {bandwidth / 1e9:.0f} GB/s", (0.36, bandwidth * 0.36 / 1e9), va="top",
        xytext=(10, 0), textcoords="offset points",
    )  # fmt: skip
    if of_the_map:
        slope = np.minimum(roof, of_the_map * x) / 1e9
        axes.plot(x, slope, "--", color="black", linewidth=1, label=f"ReLU on this map: {of_the_map / 1e9:.0f} GB/s")
    colours = ("blue", "sky", "green", "vermilion", "purple")
    for one, colour, marker in zip(measured, colours, "osD^v"):
        axes.plot(
            one.cost.intensity, one.speed / 1e9, marker, color=OKABE_ITO[colour], markersize=9, markeredgecolor="black",
            linestyle="none", label=f"{one.name}: {1e3 * one.seconds:.2g} ms",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds for each byte moved")
    axes.set_ylabel("thousand million multiply-adds a second")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(None, 2 * roof / 1e9)
    axes.grid(color="lightgrey", linewidth=0.5)
    axes.legend(loc="lower right", fontsize=9)
    return figure


# ---------------------------------------------------------------- the widget: a block under a budget

MAP, CHANNELS = 56, 64
"""The map that the block gets: 64 channels of 56x56. The budgets are those of a dense 3x3 layer from 64 to 64."""


def block(kernel: int, channels: int, groups: int, separable: bool, stride: int) -> nn.Sequential:
    """Build a convolution from 64 channels, or a depthwise one with a pointwise one after it; on the meta device.

    Args:
        kernel: side of the kernel, odd.
        channels: given out.
        groups: of the convolution, or of the pointwise layer where the block is separable.
        separable: depthwise first.
        stride: of the first layer.
    """
    padding = kernel // 2
    if not separable:
        layer = nn.Conv2d(CHANNELS, channels, kernel, stride, padding, groups=groups, device="meta")
        return nn.Sequential(layer)
    depthwise = nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, groups=CHANNELS, device="meta")
    return nn.Sequential(depthwise, nn.Conv2d(CHANNELS, channels, 1, groups=groups, device="meta"))


def block_cost(kernel: int, channels: int, groups: int, separable: bool, stride: int) -> Row:
    """What the block costs on one map, in all."""
    return profile(block(kernel, channels, groups, separable, stride), (1, CHANNELS, MAP, MAP)).total


def budget_picture(kernel: int, channels: int, groups: int, separable: bool, stride: int) -> bytes:
    """Draw the block's three costs as bars against the budgets, as PNG; bars beyond four budgets are cut."""
    from matplotlib.figure import Figure

    cost, budget = block_cost(kernel, channels, groups, separable, stride), block_cost(3, CHANNELS, 1, False, 1)
    figure = Figure(figsize=(7.4, 2.5))
    axes = figure.subplots()
    names = ("macs", "parameters", "activations")
    for place, name in enumerate(names):
        part = getattr(cost, name) / getattr(budget, name)
        _bar(axes, place, part, f"{getattr(cost, name):,}")
    axes.axvline(1, color="black", linewidth=2)
    axes.set(xlim=(0, 4.9), ylim=(2.6, -0.6), xticks=range(5), xlabel="times the budget")
    axes.set_yticks(range(3), ["multiply-adds", "parameters", "activations"])
    axes.set_title(_title(kernel, channels, groups, separable, stride))
    return png(figure)


def _bar(axes: Axes, place: int, part: float, number: str) -> None:
    over = part > 1
    axes.barh(
        place, min(part, 4), 0.62, color=OKABE_ITO["vermilion" if over else "sky"], edgecolor="black",
        hatch="//" if over else None,
    )  # fmt: skip
    beyond = " →" if part > 4 else ""
    axes.text(min(part, 4) + 0.05, place, f"{number}{beyond}", va="center", fontsize=9)


def _title(kernel: int, channels: int, groups: int, separable: bool, stride: int) -> str:
    grouped = f", {groups} groups" if groups > 1 else ""
    if separable:
        return f"depthwise {kernel}x{kernel}, then 1x1{grouped}: 64 to {channels} channels, stride {stride}"
    return f"convolution {kernel}x{kernel}{grouped}: 64 to {channels} channels, stride {stride}"


def describe_block(kernel: int, channels: int, groups: int, separable: bool, stride: int) -> str:
    """Say in one line what the block is, and which budgets it keeps."""
    cost, budget = block_cost(kernel, channels, groups, separable, stride), block_cost(3, CHANNELS, 1, False, 1)
    words = {"macs": "multiply-adds", "parameters": "parameters", "activations": "activations"}
    parts = [f"{getattr(cost, n) / getattr(budget, n):.0%} of the {word}" for n, word in words.items()]
    verdict = "within" if all(getattr(cost, n) <= getattr(budget, n) for n in words) else "over"
    title = _title(kernel, channels, groups, separable, stride)
    return f"{title[0].upper()}{title[1:]}. {', '.join(parts[:2])} and {parts[2]}: {verdict} budget."


def block_design() -> Any:
    """Return the widget: kernel, channels, groups, separable, stride above the bars of a block against its budgets."""
    import ipywidgets as w

    wide = {"style": {"description_width": "initial"}}
    controls = [
        w.IntSlider(value=3, min=1, max=7, step=2, description="kernel", **wide),
        w.IntSlider(value=64, min=16, max=512, step=16, description="channels", **wide),
        w.Dropdown(value=1, options=[1, 2, 4, 8, 16], description="groups", **wide),
        w.Checkbox(value=False, description="separable", indent=False),
        w.Dropdown(value=1, options=[1, 2], description="stride", **wide),
    ]
    return live_image(controls, budget_picture, "740px", describe_block)
