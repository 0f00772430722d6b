"""Figures: one way to show them (always with a text that says what is in them), and a common look."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect
    from torch import Tensor

    Bytes = npt.NDArray[np.uint8]

OKABE_ITO = {
    "black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73",
    "yellow": "#F0E442", "blue": "#0072B2", "vermilion": "#D55E00", "purple": "#CC79A7",
}  # fmt: skip
"""Eight colours that colour-blind readers tell apart (Okabe and Ito, "Color Universal Design", 2008)."""


def use_style() -> None:
    """Set matplotlib's defaults for the course: white and opaque, readable, colour-blind safe."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update({
        "figure.facecolor": "white", "savefig.facecolor": "white", "figure.dpi": 100, "font.size": 10,
        "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=[OKABE_ITO[c] for c in
                                             ("blue", "vermilion", "green", "orange", "purple", "sky", "black")]),
        "image.interpolation": "nearest", "figure.constrained_layout.use": True,
    })  # fmt: skip


def publish_html(text: str, markup: str) -> None:
    """Display HTML with a plain-text twin; outside of a notebook the text is printed."""
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(text)
    else:
        display({"text/plain": text, "text/html": markup}, raw=True)


def png(figure: Figure) -> bytes:
    """Render a figure to PNG bytes and close it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    # No version or date in the file: the same figure gives the same bytes.
    figure.savefig(buffer, format="png", dpi=100, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Show a figure with a text for those who cannot see it; notebook tests compare the text.

    Args:
        figure: a matplotlib figure; it is closed.
        alt: what the figure shows, with its numbers, in a sentence or two.

    Raises:
        ValueError: if the text is empty or too short to say anything.
    """
    if len(alt.split()) < 4:
        raise ValueError(f"alt text {alt!r} says too little: describe what the figure shows in a sentence.")
    source = base64.b64encode(png(figure)).decode()
    publish_html(alt, f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{source}">')


# --- images, masks and their classes


def as_bytes(image: Tensor) -> Bytes:
    """Return an image (3, H, W) of floats in [0, 1] as (H, W, 3) uint8."""
    return (255 * image.detach().cpu()).round().byte().permute(1, 2, 0).numpy()


def white_rim() -> list[AbstractPathEffect]:
    """Return the path effects that make black letters readable on any colour."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def name_regions(axis: Axes, labels: npt.NDArray[np.integer], classes: Sequence[str]) -> None:
    """Write the name of each class where its region is widest, if it is wide enough there for a word."""
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    for label, name in enumerate(classes):
        inside = distance_transform_edt(np.pad(labels == label, 1))
        if inside.max() < 0.05 * labels.shape[1]:
            continue
        row, col = np.unravel_index(inside.argmax(), inside.shape)
        half = 0.0135 * len(name) * labels.shape[1]  # of a word's width, so that none sticks out
        col = np.clip(col - 1, half, labels.shape[1] - 1 - half)
        axis.text(col, row - 1, name, ha="center", va="center", fontsize=9, path_effects=white_rim())


def legend(figure: Figure, labels: npt.NDArray[np.integer], classes: Sequence[str], palette: Bytes) -> None:
    """Put the colours of the labels that occur, with number and name, below the figure."""
    from matplotlib.patches import Patch

    from segcourse.datasets import VOID

    handles = [
        Patch(facecolor=palette[label] / 255, edgecolor="black", label=f"{label} {name}")
        for label, name in enumerate(classes)
        if (labels == label).any()
    ]
    if (labels == VOID).any():
        handles.append(Patch(facecolor="black", edgecolor="black", label=f"{VOID} void"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9)


def colour_key(classes: Sequence[str], palette: Bytes) -> str:
    """Return the colours of the classes and the stripes of void, with number and name, as a line of HTML."""
    from segcourse.datasets import VOID

    stripes = "repeating-linear-gradient(45deg, #000 0 3px, #fff 3px 6px)"
    fills = [*("#" + bytes(colour).hex() for colour in palette), stripes]
    names = [*(f"{label} {name}" for label, name in enumerate(classes)), f"{VOID} void"]
    return " ".join(
        '<span style="display:inline-block;white-space:nowrap;margin-right:1em">'
        f'<span style="display:inline-block;width:1.4em;height:0.8em;border:1px solid #888;background:{fill}"></span> '
        f"{html.escape(name)}</span>"
        for fill, name in zip(fills, names, strict=True)
    )
