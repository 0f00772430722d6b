"""Interactive pieces: each calls a tested pure function, and shows a static default where there is no front end."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def array_png(array: np.ndarray, scale: int = 1) -> bytes:
    """Encode an image as PNG, each pixel a `scale` x `scale` square.

    Args:
        array: (H, W) or (H, W, 3) uint8.
        scale: whole number of screen pixels a pixel.
    """
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(array))
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(buffer, "png")
    return buffer.getvalue()


def show_widget(widget: Any, alt: str) -> None:
    """Display a widget whose text form is ours: what it shows and what can be done with it.

    Notebook tests compare the text, so it must describe the default state. In a page without a kernel the
    widget's saved state is shown; where even that is missing, the text.
    """
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(alt)
        return
    bundle = dict(widget._repr_mimebundle_() or {})
    bundle["text/plain"] = alt
    display(bundle, raw=True)


def live_image(
    controls: Sequence[Any],
    draw: Callable[..., bytes],
    width: str = "640px",
    describe: Callable[..., str] | None = None,
) -> Any:
    """Return a box of controls above a picture that is drawn anew whenever a control changes.

    Args:
        controls: ipywidgets with a `value`, passed to `draw` in this order.
        draw: control values -> PNG bytes.
        width: the picture's width on the page.
        describe: control values -> one line of HTML-free text below the picture (also its alt text).
    """
    import ipywidgets as w

    def values() -> list[Any]:
        return [control.value for control in controls]

    image = w.Image(value=draw(*values()), format="png", layout=w.Layout(width=width, max_width="100%"))
    line = w.HTML(value=html.escape(describe(*values())) if describe else "")

    def redraw(_change: Any) -> None:
        image.value = draw(*values())
        if describe:
            line.value = html.escape(describe(*values()))

    for control in controls:
        control.observe(redraw, "value")
    return w.VBox([*controls, image, line])


def frame_stack(frames: Sequence[bytes], label: str, width: str = "640px") -> Any:
    """Return a slider over ready PNG frames; needs no kernel once shown (8 ms a move), works in a static page."""
    import ipywidgets as w

    images = [w.Image(value=f, format="png", layout=w.Layout(width=width, max_width="100%")) for f in frames]
    slider = w.IntSlider(value=0, min=0, max=len(frames) - 1, description=label, style={"description_width": "initial"})
    stack = w.Stack(images, selected_index=0)
    w.jslink((slider, "value"), (stack, "selected_index"))
    return w.VBox([slider, stack])
