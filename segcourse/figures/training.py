"""The course of a training, for every lesson that trains: histories in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from segcourse.training import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW = 20
"""Steps over which the losses of single batches, which jump, are averaged."""


def curve(histories: History | Mapping[str, History]) -> Figure:
    """Draw the loss of a training, or of several by name; beside it mean IoU in validation, where there is one.

    Losses are drawn as the mean of the last 20 steps, or of fewer at the beginning.

    Raises:
        ValueError: there is no step to draw.
    """
    from matplotlib.figure import Figure

    named = {"": histories} if isinstance(histories, History) else histories
    if not any(history.losses for history in named.values()):
        raise ValueError("no step in this history: train first")
    validated = any(history.validations for history in named.values())
    figure = Figure(figsize=(8.6 if validated else 5.0, 2.8), layout="constrained")
    axes = figure.subplots(1, 1 + validated, squeeze=False)[0]
    for name, history in named.items():
        sums = np.cumsum([0.0, *history.losses])
        last = np.arange(1, len(sums))
        first = np.maximum(last - WINDOW, 0)
        axes[0].plot(last, (sums[last] - sums[first]) / (last - first), label=name)
        if validated and history.validations:
            axes[1].plot(*zip(*history.validations), "o-", markersize=4, label=name)
    axes[0].set(xlabel="step", ylabel="loss, mean of 20 steps", ylim=(0, None))
    if validated:
        axes[1].set(xlabel="step", ylabel="mean IoU, validation", ylim=(0, None))
    if any(named):
        axes[0].legend(frameon=False)
    return figure
