"""Photographs that come with scikit-image itself: no download, free to use.

All are in the public domain or CC0, as scikit-image's documentation of `skimage.data` says. Other pictures of
`skimage.data` are fetched from the internet on first use; they are not offered here.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PHOTOS = {
    "astronaut": "astronaut.png",  # 512x512, NASA
    "chelsea": "chelsea.png",  # 300x451, a cat, Stefan van der Walt
    "coffee": "coffee.png",  # 400x600, Rachel Michetti
    "rocket": "rocket.jpg",  # 427x640, SpaceX
    "retina": "retina.jpg",  # 1411x1411, Mikael Häggström
    "hubble_deep_field": "hubble_deep_field.jpg",  # 872x1000, NASA
}


def photo(name: str) -> Tensor:
    """Return a photograph (3, H, W) float32 in [0, 1].

    Raises:
        ValueError: there is no photograph of that name.
        FileNotFoundError: scikit-image is not installed, or came without this picture.
    """
    if name not in PHOTOS:
        raise ValueError(f"no photograph {name!r}: expected one of {', '.join(PHOTOS)}")
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the photographs come with scikit-image: pip install scikit-image")
    path = Path(spec.origin).parent / "data" / PHOTOS[name]
    if not path.is_file():
        raise FileNotFoundError(
            f"this scikit-image came without {PHOTOS[name]}: pip install --force-reinstall scikit-image"
        )
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
