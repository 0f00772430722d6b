"""Answers that are networks: built from plain data, and run."""

from __future__ import annotations

import ast
import re
from typing import Any

import torch
from torch import Tensor, nn


def network_of(layers: str, seed: int) -> nn.Sequential:
    """Build a chain such as `Conv2d(2, 3, 2), ReLU(), Flatten()`; the seed gives whole weights from -3 to 3."""
    network = nn.Sequential()
    for name, numbers in re.findall(r"(\w+)\((.*?)\)(?:, |$)", layers):
        network.append(getattr(nn, name)(*ast.literal_eval(f"[{numbers}]")))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    return network


def run_network(network: Any, image: Tensor) -> Any:
    """Return a network's scores and the shapes of its weights; what is not a network comes back as it is.

    The shapes tell mistakes apart; an answer is judged by its scores alone (`networks.same_scores`).
    """
    if not isinstance(network, nn.Module):
        return network
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    try:
        with torch.no_grad():
            return network.eval()(image), shapes
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        return f"it returned a network that cannot be run on an image of shape {tuple(image.shape)}: {reason}", shapes
