import pytest
import torch
from skimage import data

from segcourse.datasets import photos
from segcourse.datasets.photos import PHOTOS, photo


@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_are_scikit_images_own(name):
    picture = photo(name)
    expected = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1) / 255
    assert picture.dtype == torch.float32
    assert torch.equal(picture, expected)


def test_unknown_name_and_missing_file(monkeypatch):
    with pytest.raises(ValueError, match="astronaut, chelsea"):
        photo("lena")
    monkeypatch.setitem(photos.PHOTOS, "coffee", "not_bundled.png")
    with pytest.raises(FileNotFoundError, match=r"came without not_bundled\.png"):
        photo("coffee")
    monkeypatch.setattr(photos, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install scikit-image"):
        photo("astronaut")
