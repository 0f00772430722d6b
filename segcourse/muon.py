"""Muon: steps that go equally far in all directions of a weight matrix, so that a short training gets further.

The gradient of a layer is mostly made of a few directions: as a matrix, it has a few large singular values and many
small ones. AdamW scales each number by itself and leaves that as it is. Muon makes all singular values about 1.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (kellerjordan.github.io/posts/muon). That
a step should grow with the root of the matrix's longer side, so as to be as large as one of AdamW's whatever the shape,
is from Liu et al., "Muon is scalable for LLM training", 2025, section 2.2; their factor is 0.2.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ROUNDS = 3
STEP = 0.4
"""Root mean square of the change of a weight, in learning rates; about what AdamW's is."""


def orthogonalized(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return a matrix (A, B) with the same singular vectors and with singular values nearer to 1.

    Each round puts every singular value s through `3.4445 s - 4.7750 s³ + 2.0315 s⁵`, with products of matrices alone.
    Small ones grow more than threefold; large ones end between 0.68 and 1.21, not at 1, which is near enough.

    Args:
        matrix: of any scale; it is divided by its norm first.
        rounds: 5 in the source; 3 cost less and leave the smallest singular values smaller.
    """
    x = matrix / matrix.norm().clamp(min=1e-7)
    if wide := matrix.shape[0] <= matrix.shape[1]:
        x = x.T
    for _ in range(rounds):
        square = x.T @ x  # of the shorter side
        x = x @ (-4.7750 * square + 2.0315 * square @ square) + 3.4445 * x
    return x.T if wide else x


class Muon(torch.optim.AdamW):
    """Muon for the kernels of convolutions that are larger than 1x1, AdamW for all other parameters.

    A kernel (out, in, h, w) is taken as a matrix (out, in·h·w). One learning rate serves both.

    Args:
        parameters: of a model.
        lr: the learning rate, as for AdamW.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 3e-3) -> None:
        super().__init__(parameters, lr)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one step. Gradients of kernels are used up: they are None afterwards, and AdamW passes over them."""
        if closure is not None:
            raise ValueError("Muon takes no closure: call backward() first, then step()")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim == 4 and weight.shape[2:].numel() > 1 and weight.grad is not None:
                    state = self.state[weight]
                    if not state:  # AdamW's names: it looks for them in what a checkpoint brings back
                        state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(weight))
                    state["step"] += 1
                    mean = state["exp_avg"]
                    mean.lerp_(weight.grad, 1 - MOMENTUM)
                    ahead = weight.grad.lerp(mean, MOMENTUM).flatten(1)  # Nesterov's
                    length = STEP * group["lr"] * max(ahead.shape) ** 0.5
                    weight -= length * orthogonalized(ahead, ROUNDS).view(weight.shape)
                    weight.grad = None
        super().step()
