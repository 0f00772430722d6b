"""How the answers of lesson 04 are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segcourse.exercises.exercise import Case, call


class NoGradientError(Exception):
    """A loss that nothing can learn from."""


class GradientNotFiniteError(Exception):
    """A loss that ends the learning: after a step by nan all weights are nan."""


def loss_with_gradient(answer: Callable[..., Any], case: Case) -> Any:
    """Return the loss as plain data, once a gradient has come back from it to the scores."""
    scores = case["scores"].requires_grad_()
    loss = answer(scores, case["masks"])
    if not isinstance(loss, Tensor) or loss.dim() > 0:
        return loss.detach() if isinstance(loss, Tensor) else loss
    if loss.requires_grad:
        loss.backward()
    if scores.grad is None:
        raise NoGradientError("`backward` finds no way from the result back to the scores")
    if loss.isfinite() and not scores.grad.isfinite().all():
        raise GradientNotFiniteError("the loss is a number, but some gradients of the scores are nan or infinite")
    return loss.detach()


def head_from_a_seed(answer: Callable[..., Any], case: Case) -> Any:
    """Call the answer; fresh layers of PyTorch draw the same random numbers for everyone.

    A `state_dict()` is more than a dict, and comes back as one.
    """
    torch.default_generator.manual_seed(0)
    head = call(answer, case)
    return dict(head) if isinstance(head, dict) else head
