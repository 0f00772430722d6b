"""What a network costs: `profile(model, shape)` counts multiply-adds, parameters, activations and bytes by layer.

The model runs once on PyTorch's meta device: shapes are computed, numbers are not, so it takes neither time nor memory.
Beneath Python every spelling (module, function, operator, `einsum`, attention, recurrent cell) arrives as one of a few
ATen operations. Each product is counted where it is done, as often as it is done, and is booked on the innermost module
that runs. An operation that is neither known to multiply nor known to be free is an error, never a zero.

What is counted, and what is not:

- A multiply-add (MAC) is a product added to a sum: convolutions, transposed ones, matrix products. One MAC is two FLOP.
- Each tap counts, one that falls on padding too, and so does each masked pair of an attention: that is the work that is
  done. `useful` leaves out products with padded zeros, and those of a transposed convolution that its padding crops.
  Zeros that were written into a tensor before (`F.pad`, "same" with an even kernel) are values like others.
- A bias is added, not multiplied: no MAC. Normalization, activations, pooling, interpolation, soft-max and element-wise
  products (gates, scales) are none either. A product written as `(a * b).sum()` is not seen.
- Activations are the elements of the outputs of what is counted (Radosavovic et al., "Designing network design spaces",
  CVPR 2020, section 4); bytes moved are those of all its operands and outputs, each once, as if nothing stayed in a
  cache.
- Parameters count once, however often they are used. Running statistics are no parameters.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Row:
    """One kind of operation of one layer, or of a group of layers.

    Attributes:
        layer: name in `model.named_modules()`; "" is the model itself.
        operation: what is done: "conv 3x3", "transposed conv 4x4", "matmul"; without products, the class of the layer.
        output: shape of the last output.
        calls: how often it ran; 0 for parameters whose layer never ran: unused, or read by another layer.
        parameters: of the layer itself, in the first of its rows.
        macs: multiply-adds.
        useful: multiply-adds without those on padding.
        activations: elements written.
        bytes: bytes read and written.
    """

    layer: str
    operation: str
    output: tuple[int, ...] = ()
    calls: int = 0
    parameters: int = 0
    macs: int = 0
    useful: int = 0
    activations: int = 0
    bytes: int = 0

    @property
    def intensity(self) -> float:
        """Multiply-adds for each byte moved (Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009)."""
        return self.macs / max(1, self.bytes)


SUMMED = ("calls", "parameters", "macs", "useful", "activations", "bytes")
HEAD = ["layer", "operation", "output", "share", "useful", "calls", "parameters", "MACs", "activations", "bytes"]


@dataclass(frozen=True, repr=False)
class Profile:
    """The cost of a network, row by row in the order of execution. Print it, or let a notebook show it, as a table."""

    rows: tuple[Row, ...]

    @cached_property
    def total(self) -> Row:
        """All rows in one."""
        return _merge(self.rows, layer="total", operation="") if self.rows else Row("total", "")

    @property
    def total_macs(self) -> int:
        """Multiply-adds of the whole network."""
        return self.total.macs

    def share(self, row: Row) -> float:
        """Part of all multiply-adds that a row has, from 0 to 1."""
        return row.macs / max(1, self.total_macs)

    def by(self, key: Callable[[Row], str]) -> Profile:
        """One row for each value of `key`; `lambda row: "x".join(map(str, row.output[2:]))` groups by resolution."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        return Profile(tuple(_merge(rows, layer=name, operation="") for name, rows in groups.items()))

    def by_stage(self, depth: int = 1) -> Profile:
        """One row for each stage: layers whose names agree in the first `depth` words, "features" of "features.stage1".

        Raises:
            ValueError: `depth` is less than 1.
        """
        if depth < 1:
            raise ValueError(f"depth counts the words of a layer's name that make a stage: 1 or more, got {depth}")
        return self.by(lambda row: ".".join(row.layer.split(".")[:depth]))

    def by_resolution(self) -> Profile:
        """One row for each halving of the largest map: "1/1", "1/2", "1/4", ...; "dense" for outputs that are no maps.

        A map is (N, C, H, W) or has more axes. It belongs to the nearest halving above its own size: convolutions
        without padding make maps smaller too. A quarter of a halving is forgiven, for maps that were rounded up.
        """
        maps = {row.output for row in self.rows if len(row.output) > 3}
        sides = {shape: math.prod(shape[2:]) ** (1 / len(shape[2:])) for shape in maps}
        largest = max(sides.values(), default=1)

        def parts(row: Row) -> int:
            return 2 ** math.floor(math.log2(largest / sides[row.output]) + 0.25) if row.output in sides else 0

        rows = sorted(self.rows, key=lambda row: parts(row) or math.inf)
        return Profile(tuple(rows)).by(lambda row: f"1/{parts(row)}" if row.output in sides else "dense")

    def table(self) -> list[list[str]]:
        """The cells: a head, the rows, the total."""
        cells = []
        for row in (*self.rows, replace(self.total, output=())):
            useful = f"{row.useful / row.macs:.0%}" if row.macs else ""
            numbers = (row.calls, row.parameters, row.macs, row.activations, row.bytes)
            words = [row.layer or "(model)", row.operation, "x".join(map(str, row.output))]
            cells.append([*words, f"{self.share(row):.1%}", useful, *(f"{number:,}" for number in numbers)])
        return [HEAD, *cells]

    def __str__(self) -> str:
        table = self.table()
        keep = [i for i, column in enumerate(zip(*table)) if any(column[1:])]
        width = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = ["  ".join(f"{row[i]:{'<' if i < 2 else '>'}{width[i]}}" for i in keep).rstrip() for row in table]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: list[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        head, *rows = self.table()
        return f"<table><thead>{line(head, 'th')}</thead><tbody>{''.join(line(r, 'td') for r in rows)}</tbody></table>"


def _merge(rows: Sequence[Row], **changes: Any) -> Row:
    """Sums, with the output of the last that ran."""
    sums = {name: sum(getattr(row, name) for row in rows) for name in SUMMED}
    last = next((row for row in reversed(rows) if row.calls), rows[-1])
    return replace(last, **(sums | changes))


def profile(model: nn.Module, *inputs: Tensor | Sequence[int]) -> Profile:
    """What one forward pass of `model` costs, batch included; in eval mode, and the model is left as it was.

    Each input is a tensor, of which only shape and dtype matter, or a whole shape such as (N, C, H, W); a shape stands
    for numbers of the model's own dtype.

    Raises:
        TypeError: `model` is no module, or an input is neither a tensor nor a shape.
        ValueError: the network uses an operation that is not known, or a lazy layer has no shape yet.
        RuntimeError: PyTorch's own, for inputs that do not fit, and for a network that looks at values (`.item()`).
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model (torch.nn.Module), got {type(model).__name__}")
    if not inputs:
        raise TypeError("expected an input or its shape after the model: profile(model, (1, 3, 224, 224))")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ValueError("a lazy layer of the model has no shape yet: run the model once before")
    state = {
        f"{name}.{key}".lstrip("."): tensor.to("meta")
        for name, module in model.named_modules()  # each module by one of its names: it is put back once
        for key, tensor in (
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        )
    }
    dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.get_default_dtype())
    tensors = tuple(_on_meta(x, dtype) for x in inputs)
    counter = _Counter()
    hooks: list[Any] = []
    training = {module: module.training for module in model.modules()}
    try:
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(counter.enter(name)))
            hooks.append(module.register_forward_hook(counter.leave(name)))
        model.eval()
        with torch.no_grad(), torch.device("meta"), counter:
            functional_call(model, state, tensors, tie_weights=False)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return Profile(tuple(_with_parameters(counter.log, model)))


def _on_meta(x: Any, dtype: torch.dtype) -> Tensor:
    if isinstance(x, Tensor):
        return x.to("meta")
    if isinstance(x, Sequence) and x and all(type(n) is int and n >= 0 for n in x):
        return torch.empty(*x, dtype=dtype, device="meta")
    raise TypeError(f"an input must be a tensor or a whole shape such as (1, 3, 224, 224), got {x!r}")


def _with_parameters(log: Iterable[Row], model: nn.Module) -> Iterable[Row]:
    """Merge the calls of each operation, and add the parameters of each layer to its first row."""
    own: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        layer = name.rpartition(".")[0]
        own[layer] = own.get(layer, 0) + parameter.numel()
    groups: dict[tuple[str, str, tuple[int, ...]], list[Row]] = {}
    for row in log:
        groups.setdefault((row.layer, row.operation, row.output), []).append(row)
    for rows in groups.values():
        yield _merge(rows, parameters=own.pop(rows[0].layer, 0))
    for layer, count in own.items():
        yield Row(layer, type(model.get_submodule(layer)).__name__, parameters=count)


class _Counter(TorchDispatchMode):
    """Logs a row for every product, and one for every call of a layer that has parameters and multiplies nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Row] = []
        self.running: list[tuple[str, int]] = []  # modules whose forward runs, with the length of the log at its start

    def enter(self, name: str) -> Callable[..., None]:
        return lambda module, inputs: self.running.append((name, len(self.log)))

    def leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            _, start = self.running.pop()
            own = [i for i in range(start, len(self.log)) if self.log[i].layer == name]
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            if not own and any(True for _ in module.parameters(recurse=False)):
                self.log.append(Row(name, type(module).__name__, shape, calls=1))
            elif len(own) == 1 and math.prod(shape) == self.log[own[0]].activations:
                self.log[own[0]] = replace(self.log[own[0]], output=shape)  # a linear layer folds its output

        return hook

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if func.namespace == "aten" and name in COUNTED:
            operation, macs, useful = COUNTED[name](out, *args)
            touched = sum(t.numel() * t.element_size() for t in (*args, out) if isinstance(t, Tensor))
            layer = self.running[-1][0]
            self.log.append(Row(layer, operation, tuple(out.shape), 1, 0, macs, useful, out.numel(), touched))
        elif not _is_free(func, name):
            raise ValueError(
                f"profile does not know how many products {func} takes: write it with convolutions or matrix products, "
                "or profile the parts before and after it"
            )
        return out


# ---------------------------------------------------------------- rules
#
# A rule takes the output and the arguments as ATen orders them, and returns a name, all multiply-adds, and the useful.


def _convolution(out: Tensor, x: Tensor, weight: Tensor, bias: Any, *options: Any) -> tuple[str, int, int]:
    """Each output needs a whole kernel (C_in/g, k, ...) of products; transposed, each *input* gives (C_out/g, k, ...).

    So a transposed convolution costs what the convolution costs that it is the transpose of.
    """
    stride, padding, dilation, transposed, _, groups = options
    small, large = (x, out) if transposed else (out, x)
    kernel, units = weight.shape[2:], small.shape[2:]
    pairs = math.prod(units) * math.prod(kernel)
    macs = small.numel() * math.prod(weight.shape[1:])
    valid = math.prod(map(_valid_taps, units, large.shape[2:], kernel, stride, padding, dilation))
    name = f"{'transposed ' if transposed else ''}conv {'x'.join(map(str, kernel))}"
    return name + (f", {groups} groups" if groups > 1 else ""), macs, macs // max(1, pairs) * valid


def _valid_taps(units: int, length: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Pairs of a unit and a tap, along one axis, that lie on one of the `length` positions and not on padding."""
    return sum(0 <= i * stride - padding + t * dilation < length for i in range(units) for t in range(kernel))


def _matmul(out: Tensor, a: Tensor, b: Tensor, *_: Any) -> tuple[str, int, int]:
    """(..., n, k) by (..., k, m), where b may be a vector: n k m products each."""
    macs = a.numel() * (b.shape[-1] if b.dim() > 1 else 1)
    return "matmul", macs, macs


def _matmul_added(out: Tensor, to: Tensor, a: Tensor, b: Tensor, *_: Any) -> tuple[str, int, int]:
    return _matmul(out, a, b)


COUNTED: dict[str, Callable[..., tuple[str, int, int]]] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), _matmul_added),
}

FREE = re.compile(  # beside views and what PyTorch marks as element-wise
    r".*(norm|pool|upsample|softmax|_pad|cat|stack|split|copy|clone|view|reshape|index|gather|select|shuffle).*"
    r"|new_.*|.*_like|empty.*|zeros|ones|full|eye|arange|linspace|scalar_tensor|fill|zero|rand.*|uniform|exponential"
    r"|embedding|im2col|col2im|grid_sampler_.d|flip|roll|rot90|repeat.*|tri[lu]|masked_fill|diag_embed|block_diag|lift.*"
    r"|(un)?squeeze|t|transpose|detach|(cum|nan)?(sum|prod|max|min)|logsumexp|mean|(std|var)(_mean)?|_?aminmax"
    r"|a(min|max|ny|ll)|arg(min|max)|count_nonzero|sort|topk|median|bucketize|searchsorted"
    r"|rsub|abs|floor_divide|eq|ne|[gl][et]|glu|hardswish|gelu|mish|threshold|_prelu_kernel|log_sigmoid_forward|rrelu.*"
    r"|native_dropout|bernoulli"
)


def _is_free(func: Any, name: str) -> bool:
    known = torch.Tag.pointwise in func.tags or func.is_view or FREE.fullmatch(name) is not None
    return known and func.namespace == "aten"
