"""How the answers of lesson 07 are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcourse.exercises.drivers.networks import network_of, run_network
from segcourse.exercises.exercise import Case


def with_a_convolution(answer: Callable[..., Any], case: Case) -> Any:
    """Hand the weight over as a function that convolves plainly."""
    return answer(case["x"], lambda x: F.conv2d(x, case["weight"]), case["kernel"], case["rate"])


def convert_network(answer: Callable[..., Any], case: Case) -> Any:
    """Build the network, hand it over, run what comes back, and see that the network stays as it is."""
    model = network_of(case["model"], case["seed"])
    layers, before = repr(model), [weight.detach().clone() for weight in model.parameters()]
    network = answer(model, case["output_stride"])
    if repr(model) != layers or any(not torch.equal(v, old) for v, old in zip(model.parameters(), before)):
        return "it changed the network that it was given. Work on a copy: copy.deepcopy(model).", []
    image = torch.randint(0, 10, case["shape"], generator=torch.Generator().manual_seed(case["seed"])).float()
    return _scores_maps_and_weights(network, image)


def _scores_maps_and_weights(network: Any, image: Tensor) -> Any:
    """Return a network's scores and [by kind of layer, the maps that its layers make; its weights and biases].

    Poolings of single units are left out: they thin out a map, and do not stand for a layer of the model.
    """
    maps: dict[str, list[Tensor]] = {"Conv2d": [], "MaxPool2d": []}

    def record(layer: nn.Module, _inputs: Any, out: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            maps["Conv2d"].append(out.clone())
        elif isinstance(layer, nn.MaxPool2d) and layer.kernel_size not in (1, (1, 1)):
            maps["MaxPool2d"].append(out.clone())

    if not isinstance(network, nn.Module):
        return network
    hooks = [layer.register_forward_hook(record) for layer in network.modules()]
    scores, _shapes = run_network(network, image)
    for hook in hooks:
        hook.remove()
    return scores, [maps, [weight.detach().clone() for weight in network.parameters()]]
