"""How the answers of lesson 08 are run."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segcourse.exercises.exercise import Case


class Stages(nn.Module):
    """Chains of layers by name, run in an order in which one may come twice."""

    def __init__(self, stages: dict[str, str], order: tuple[str, ...]) -> None:
        super().__init__()
        for name, layers in stages.items():
            self.add_module(name, _chain(layers))
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Run the chains in order."""
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


def _chain(layers: str) -> nn.Sequential:
    """Build a chain of layers such as `Conv2d(2, 4, (3, 2), stride=2), ReLU()`; a Sequential inside may hold more."""
    calls: Any = ast.parse(f"[{layers}]", mode="eval").body
    chain = nn.Sequential()
    for call in calls.elts:
        if call.func.id == "Sequential":
            chain.append(_chain(", ".join(map(ast.unparse, call.args))))
        else:
            options = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
            chain.append(getattr(nn, call.func.id)(*map(ast.literal_eval, call.args), **options))
    return chain


PARTS = ("encoder", "middle", "decoder", "head")
TRACES = ("hooks left on the model", "hooks of others taken off", "parts in another mode", "parameters changed")
"""What an answer can leave behind on the model."""


def network(case: Case) -> Stages:
    """Build the network that a case describes."""
    return Stages({name: case[name] for name in PARTS if name in case}, case["order"])


def counter(answer: Callable[..., Any], case: Case) -> Any:
    """Build the network, hand it over, and see what was left behind on it: that comes back beside the counts."""
    model = network(case)
    layers, before = list(model.modules()), {name: value.clone() for name, value in model.state_dict().items()}
    others = [layer.register_forward_hook(lambda *_: None) for layer in layers]
    macs = answer(model, case["shape"])
    if not isinstance(macs, dict):
        return macs
    gone = sum(handle.id not in layer._forward_hooks for handle, layer in zip(others, layers))
    hooks = sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in layers) - len(layers) + gone
    changed = [not _same_tensor(value, before[name]) for name, value in model.state_dict().items()]
    left = (hooks, gone, sum(not layer.training for layer in layers), sum(changed))
    return {**macs, **{trace: count for trace, count in zip(TRACES, left) if count}}


def _same_tensor(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.shape == b.shape and torch.equal(a, b)
