"""The figures of lesson 02 say what the tensors say: texts are read back from the drawings."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from segcourse import transposed as T
from segcourse.figures import transposed as draw
from segcourse.plots import png


def numbers(axes) -> list[list[float]]:
    """The numbers in boxes, row by row: texts whose middle lies in the middle of a box."""
    rows: dict[float, list[tuple[float, float]]] = {}
    for text in axes.texts:
        if text.get_ha() == "center" and text.get_va() == "center":
            x, y = text.get_position()
            word = text.get_text()
            rows.setdefault(y, []).append((x, 0.0 if word == "·" else float(word)))
    return [[value for _, value in sorted(row)] for _, row in sorted(rows.items())]


def words(axes) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def test_matrices_hold_the_numbers() -> None:
    torch.manual_seed(0)
    shown = {"A": torch.randint(-9, 10, (3, 5)), "B": torch.randint(0, 3, (2, 4))}
    figure = draw.matrices(shown, line_every=2)
    assert [axes.get_title() for axes in figure.axes] == ["A", "B"]
    for axes, matrix in zip(figure.axes, shown.values()):
        assert numbers(axes) == matrix.tolist()
        filled = [patch.get_facecolor()[:3] != (1, 1, 1) for patch in axes.patches]
        assert filled == (matrix != 0).flatten().tolist()


def test_blocks_mark_what_is_not_zero() -> None:
    matrix = T.conv_matrix(torch.ones(4, 1, 3, 2), (3, 5), padding=1, groups=2)
    axes = draw.blocks(matrix, ["a", "b", "c", "d"], ["x", "y"]).axes[0]
    image = torch.as_tensor(axes.images[0].get_array().astype("float32"))
    assert torch.equal(image, (matrix.to_dense() != 0).float())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("n", "k", "stride", "padding", "extra"), [(3, 3, 2, 1, 0), (4, 2, 3, 0, 1), (2, 5, 1, 2, 0)])
def test_stamps_grow_to_the_transposed_convolution(n: int, k: int, stride: int, padding: int, extra: int) -> None:
    torch.manual_seed(n)
    z, kernel = torch.randint(1, 10, (n,)).float(), torch.randint(1, 10, (k,)).float()
    whole = T.stamps_1d(z, kernel, stride, 0, 0)
    canvas = torch.nn.functional.pad(whole, (0, extra))
    length = canvas.shape[1]
    matrix = T.conv_matrix(kernel[None, None], length, stride).to_dense()[:n]
    for step in range(n + 2):
        rows = numbers(draw.stamps(z, kernel, stride, padding, extra, step).axes[0])
        assert rows[:n] == matrix.tolist()
        laid = canvas.clone()
        laid[step:] = 0
        assert rows[n : 2 * n] == laid.tolist()
        if step <= n:
            assert rows[2 * n] == laid.sum(0).tolist()
    cropped = T.conv_transpose(z[None, None], kernel[None, None], stride, padding, extra)[0, 0]
    assert rows[2 * n] == cropped.tolist()


def test_stamps_light_one_row_and_hatch_the_padding() -> None:
    z, kernel = torch.tensor([1.0, 10, 100]), torch.tensor([2.0, 3, 5])
    axes = draw.stamps(z, kernel, stride=2, padding=1, step=2).axes[0]
    bold = [text.get_text() for text in axes.texts if text.get_weight() == "bold"]
    assert bold == ["2", "3", "5", "row 2", "20", "30", "50", "z2 = 10"]
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert {patch.get_x() for patch in hatched} == {0, 6}
    assert "on the canvas" in words(axes)
    assert "W.T @ z" not in words(axes)
    assert "cropped" in words(draw.stamps(z, kernel, 2, 1).axes[0])
    assert "output_padding" in words(draw.stamps(z, kernel, 2, 1, 1).axes[0])
    for step in (-1, 5):
        with pytest.raises(ValueError, match=r"0\.\.4"):
            draw.stamps(z, kernel, 2, 1, step=step)


def test_stamp_frames_are_pictures_of_one_size() -> None:
    frames = draw.stamp_frames(torch.tensor([1.0, 10]), torch.tensor([2.0, 3, 5]), stride=2, padding=1)
    pictures = [Image.open(io.BytesIO(frame)) for frame in frames]
    assert len(frames) == 4
    assert len({picture.size for picture in pictures}) == 1
    assert len(set(frames)) == 4
    assert max(map(len, frames)) < 20_000


def test_overlaps_are_bars_and_their_products() -> None:
    counts = T.overlap_counts(3, 3, 2).tolist()
    top, bottom = draw.overlaps({"kernel 3": counts}).axes
    assert [bar.get_height() for bar in top.patches] == counts
    assert numbers(bottom) == T.overlap_counts((3, 3), 3, 2).tolist()


def test_pictures_show_all_greys_in_one_range() -> None:
    shown = {"colour": torch.rand(3, 2, 4), "grey": torch.tensor([[0.25, 0.5]])}
    axes = draw.pictures(shown, columns=2).axes
    assert [one.get_title() for one in axes] == list(shown)
    assert axes[1].images[0].get_clim() == (0, 1)


def test_masks_have_a_key_to_what_occurs_in_them() -> None:
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    shown = {"a": torch.tensor([[0, 2, 2]]), "b": torch.tensor([[2, 2, 0]])}
    figure = draw.masks(shown, 2, ["x", "y", "z"], palette)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0 x", "2 z"]
    image = figure.axes[1].images[0].get_array()
    assert image.tolist() == [[[0, 0, 1], [0, 0, 1], [1, 0, 0]]]


def test_tents_add_up() -> None:
    z, factor = torch.tensor([2.0, 5, 1]), 4
    matrix = T.interpolation_matrix(3, factor)
    *single, line, dots = draw.tents(z, matrix).axes[0].lines
    tents, samples = single[::2], single[1::2]
    assert [tent.get_ydata()[1] for tent in tents] == z.tolist()
    assert samples[1].get_xdata() == pytest.approx([i / 8 for i in range(1, 16, 2)])
    assert dots.get_ydata() == pytest.approx((matrix @ z).tolist())
    assert dots.get_xdata()[0] == pytest.approx(0.5 / factor - 0.5)
    at = [np.interp(dots.get_xdata(), *tent.get_data()) for tent in tents]  # beyond a foot np.interp stays at its 0
    assert sum(at) == pytest.approx(dots.get_ydata())
    assert np.interp(dots.get_xdata(), *line.get_data()) == pytest.approx(dots.get_ydata())
    for tent, sample in zip(tents, samples):
        assert np.interp(sample.get_xdata(), *tent.get_data()) == pytest.approx(sample.get_ydata())


def test_figures_leave_nothing_open() -> None:
    before = plt.get_fignums()
    assert png(draw.overlaps({"a": [1, 2, 1]})).startswith(b"\x89PNG")
    assert plt.get_fignums() == before
