"""How the answers of lesson 05 are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segcourse.exercises.exercise import Case


class DoneByTorchError(RuntimeError):
    """An answer called the function that it is to write."""


class _ByHand(TorchFunctionMode):
    """Refuses torch's own pooling with indices and its unpooling; pooling without indices is no answer."""

    gathered = False
    """Whether `gather` was called."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.gathered |= "gather" in name
        if "unpool" in name or "with_indices" in name:
            raise DoneByTorchError("PyTorch does it in one call; write it without that call")
        return func(*args, **(kwargs or {}))


class GatheredError(RuntimeError):
    """An answer read values at the indices where it was to write them."""


def by_hand(answer: Callable[..., Any], case: Case) -> Any:
    """Call the answer where torch's functions for the same are closed."""
    with _ByHand():
        return answer(*case.values())


def writing_by_hand(answer: Callable[..., Any], case: Case) -> Any:
    """As `by_hand`; what fails after a `gather` is told apart from other failures."""
    with _ByHand() as mode:
        try:
            return answer(*case.values())
        except (RuntimeError, IndexError) as error:
            if mode.gathered:
                raise GatheredError("it reads with `gather`, and then something does not fit") from error
            raise


class ChangedListError(RuntimeError):
    """An answer took something out of a list that it was handed, or turned the list round."""


class ChangedModeError(RuntimeError):
    """An answer switched stages to evaluation."""


class NoGradientError(RuntimeError):
    """An answer cut the way of the gradients."""


class OtherStageError(RuntimeError):
    """An answer fails, and would go through if the encoder had run the other way round."""


class OtherSizeError(RuntimeError):
    """An answer fails, and would go through if the encoder had met its sizes the other way round."""


def _whole_conv(generator: torch.Generator, in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, with whole numbers from -1 to 1 as weights, biases of 1."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-1, 2, conv.weight.shape, generator=generator))
        nn.init.ones_(conv.bias)  # type: ignore[arg-type]
    return conv


def _goes_through(answer: Callable[..., Any], shape: tuple[int, ...], *given: Any) -> bool:
    try:
        return answer(*given).shape == shape
    except Exception:
        return False


def decoder(answer: Callable[..., Any], case: Case) -> Any:
    """Build the stages, hand them over with what an encoder remembers, and look at the lists and stages afterwards.

    No ReLU in the decoder: its maps have negative values, as those of SegNet-Basic.
    """
    x, sizes = case["x"], case["sizes"]
    generator = torch.Generator().manual_seed(case["seed"])
    channels = (x.shape[1], *case["widths"])
    stages = [_whole_conv(generator, c_in, c_out) for c_in, c_out in pairwise(channels)]
    remembered = list(zip(case["indices"], sizes))
    ran: list[nn.Module] = []
    for stage in stages:
        stage.register_forward_pre_hook(lambda stage, _: ran.append(stage))
    pairs = list(remembered)
    order: list[nn.Module] = list(stages)
    try:
        output = answer(x, remembered, stages)
    except (RuntimeError, ValueError, IndexError) as error:
        # The words of the error depend on how the answer unpools; what it would take to go through does not.
        shape = (len(x), channels[-1], *sizes[0])
        if _goes_through(answer, shape, x, pairs[::-1], list(order)):
            raise OtherStageError("indices and size do not fit the map; they belong to another stage") from error
        if _goes_through(answer, shape, x, list(zip(case["indices"], sizes[::-1])), list(order)):
            raise OtherSizeError("the size does not fit the map; it belongs to another stage") from error
        raise
    for name, before, after in (("remembered", pairs, remembered), ("stages", order, stages)):
        if [id(one) for one in before] != [id(one) for one in after]:
            raise ChangedListError(f"the list `{name}` is another afterwards; the caller still needs it as it was")
    if not all(stage.training for stage in stages):
        raise ChangedModeError("a stage is in evaluation mode afterwards; it was handed over in training mode")
    if not isinstance(output, Tensor):
        return output
    if len(ran) == len(stages):  # a stage that did not run is another mistake
        weights = [stage.weight for stage in stages]
        reached = torch.autograd.grad(output.sum(), weights, allow_unused=True) if output.requires_grad else (None,)
        if any(one is None for one in reached):
            raise NoGradientError("no gradient comes from the output to the weights of the stages")
    return output.detach()
