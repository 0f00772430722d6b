"""The figures of lesson 06 show the numbers that they are given, where they belong."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from segcourse.border_weights import border_weights
from segcourse.datasets.cells import cells
from segcourse.elastic import displacements, warp
from segcourse.figures import unet as figures
from segcourse.instances import components
from segcourse.models.unet import UNet
from segcourse.plots import png

DATA = cells("val", 3, size=(48, 64))


def drawn(figure) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))
    assert pixels.shape[1] <= 1000  # readable at 100 %
    return pixels


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- what is trained on


@pytest.mark.parametrize("kind", ["plain", "border 3"])
@pytest.mark.parametrize(("size", "margin"), [(32, 0), (20, 40)])
def test_batches_are_what_training_takes(kind: str, size: int, margin: int) -> None:
    draw = figures.cell_batches(DATA, figures.loss_weights(DATA, kind), batch_size=3, size=size, margin=margin)
    images, masks, *weights = draw(seeded())
    assert (images.shape, masks.shape) == ((3, 1, size + margin, size + margin), (3, size, size))
    assert set(masks.unique().tolist()) <= {0, 1}
    assert [w.shape for w in weights] == ([] if kind == "plain" else [(3, size, size)])
    again = draw(seeded())
    assert torch.equal(images, again[0])
    assert torch.equal(masks, again[1])
    assert not torch.equal(images, draw(seeded(1))[0])


def test_image_mask_and_weights_stay_together() -> None:
    """An image that shows its mask, cut, turned, mirrored and bent like it; one number for all, so that none touch."""
    shown = type(DATA)(**{**vars(DATA), "images": DATA.masks[:, None].float(), "instances": DATA.masks})
    for margin in (0, 24):
        draw = figures.cell_batches(shown, lambda cells: 1.0 + cells, batch_size=6, size=24, margin=margin, bend=3)
        images, masks, found = draw(seeded(4))
        half = margin // 2
        middle = images[:, 0, half : half + 24, half : half + 24]
        assert ((middle - masks).abs() <= 0.75 + 1e-4).all()
        assert torch.equal(found, 1.0 + masks)


@pytest.mark.parametrize("margin", [0, 40])
def test_bent_cells_stay_apart_and_no_heavy_pixel_is_cell(margin: int) -> None:
    data, seen = cells("train", 4), []

    def weigh(instances: torch.Tensor) -> torch.Tensor:
        seen.append(instances)
        return border_weights(instances, 10, 3, (1, 1))

    _, masks, weights = figures.cell_batches(data, weigh, size=80, margin=margin, bend=4)(seeded())
    around = min(margin // 2, figures.CONTEXT)
    numbers = seen[0][:, around : around + 80, around : around + 80]
    for mask, of_image in zip(masks, numbers):
        pieces = torch.from_numpy(components(mask.numpy()))
        assert all(len(of_image[pieces == piece].unique()) == 1 for piece in range(1, int(pieces.max()) + 1))
    assert (weights[masks == 1] == 1).all()
    assert (weights > 5).any()


def test_cells_in_the_margin_weigh() -> None:
    """What a crop weighs is what the whole picture weighs there, but for cells too far away to matter."""
    data = cells("train", 1)
    draw = figures.cell_batches(data, figures.loss_weights(data, "border 5"), batch_size=4, size=40, margin=88, bend=0)
    whole = border_weights(data.instances, 10, 5)[0]
    windows = whole.unfold(0, 40, 1).unfold(1, 40, 1).reshape(-1, 1600)
    for crop in draw(seeded(3))[2]:
        turned = [t for k in range(4) for t in (crop.rot90(k), crop.rot90(k).flip(0))]
        # near the border of the picture its mirror image is there too
        assert min(((windows - t.reshape(-1)).abs() > 0.1).float().mean(1).min() for t in turned) < 0.1


def test_crops_without_bending_are_parts_of_the_images() -> None:
    draw = figures.cell_batches(DATA, batch_size=8, size=40, bend=0)
    images, _ = draw(seeded(2))
    for crop in images[:, 0]:
        turned = [t for k in range(4) for t in (crop.rot90(k), crop.rot90(k).flip(0))]
        windows = DATA.images[:, 0].unfold(1, 40, 1).unfold(2, 40, 1).reshape(-1, 1600)
        assert min((windows - t.reshape(-1)).abs().amax(1).min() for t in turned) < 1e-4


def test_weights_of_the_losses() -> None:
    assert figures.loss_weights(DATA, "plain") is None
    assert torch.equal(figures.loss_weights(DATA, "border 3")(DATA.instances), border_weights(DATA.instances, 10, 3))


# --- cells


def test_cells_have_their_colours() -> None:
    figure = figures.cells_figure(DATA, 1)
    count = len(DATA.instances[1].unique()) - 1
    assert f"instances: {count} cells, colours repeat" in texts(figure)
    pictures = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert np.array_equal(pictures[1], DATA.colourize(DATA.masks[1]))
    coloured = (np.asarray(pictures[2]) != figures.GROUND).any(2)
    assert np.array_equal(coloured, DATA.masks[1].numpy() > 0)
    drawn(figure)


def test_weight_maps_share_a_scale() -> None:
    maps = {f"sigma {s}": border_weights(DATA.instances[0], 10, s) for s in (5, 3)}
    figure = figures.weights_figure(DATA.images[0, 0], DATA.instances[0], maps)
    shown = [axes.get_images()[0] for axes in figure.axes[1:3]]
    assert shown[0].get_clim() == shown[1].get_clim() == (0, float(max(w.max() for w in maps.values())))
    assert np.allclose(shown[1].get_array(), maps["sigma 3"])
    drawn(figure)


def test_the_busiest_square() -> None:
    weights = torch.ones(20, 30)
    weights[12:15, 7:10] = 9
    rows, columns = figures.busiest(weights, 3)
    assert (rows, columns) == (slice(12, 15), slice(7, 10))


def test_pieces_are_coloured_by_the_cells_they_hold() -> None:
    instances = torch.tensor([[1, 1, 0, 2, 2, 0, 3, 3, 0, 0, 0]] * 3)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0]] * 3)
    colours = figures.held_colours(mask, instances)[1]
    several, one, none, ground = (213, 94, 0), (86, 180, 233), (160, 160, 160), tuple(figures.GROUND)
    expected = [several] * 5 + [ground] + [one] * 2 + [ground, none, ground]
    assert [tuple(c) for c in colours] == expected
    figure = figures.merges_figure(
        DATA.images[0, 0], DATA.instances[0], {"true": DATA.masks[0], "none": 0 * DATA.masks[0]}
    )
    assert {"true", "none", "one cell"} <= set(texts(figure))
    drawn(figure)


# --- the U


def test_the_walk_through_the_paper() -> None:
    with torch.device("meta"):
        model = UNet().eval()
    found = {where: (side, channels) for where, side, channels in figures.walk(model, 572)}
    assert [found[f"down {i}"] for i in range(4)] == [(568, 64), (280, 128), (136, 256), (64, 512)]
    assert found["bottom"] == (28, 1024)
    assert [found[f"up {i}"] for i in range(4)] == [(392, 64), (200, 128), (104, 256), (56, 512)]
    assert [found[f"merged {i}"] for i in range(4)] == [(388, 64), (196, 128), (100, 256), (52, 512)]
    assert found["scores"] == (388, 2)
    assert not any(stage._forward_hooks for stage in model.modules())
    figure = figures.u_figure(model, 572)
    assert {"568², 64", "392², 64 + 64", "28², 1024", "crop 88 a side", "scores 388², 2"} <= set(texts(figure))
    drawn(figure)


@pytest.mark.parametrize(("depth", "padded", "size"), [(1, False, 22), (3, True, 32), (2, False, 52)])
def test_other_u_s_are_drawn_too(depth: int, padded: bool, size: int) -> None:
    figure = figures.u_figure(UNet(2, 3, width=4, depth=depth, padded=padded).eval(), size)
    assert texts(figure).count("no crop") == (depth if padded else 0)
    drawn(figure)


def test_stages_are_the_networks_own() -> None:
    torch.manual_seed(0)
    model = UNet(1, 2, width=4, depth=2).eval()
    image = torch.rand(1, 1, 60, 76)
    maps = figures.stages(model, image)
    with torch.no_grad():
        assert torch.equal(model.score(maps["merged 0"][None]), model(image))
    assert list(maps) == ["down 0", "down 1", "bottom", "up 1", "merged 1", "up 0", "merged 0"]
    figure = figures.features_figure(model, image)
    assert "its crop, 24×40" in texts(figure)
    skip, crop = (axes.get_images()[0].get_array() for axes in figure.axes[:2])
    assert np.array_equal(skip[16:-16, 16:-16], crop)
    drawn(figure)


def test_the_liveliest_channel_is_no_checkerboard() -> None:
    board = 9.0 * (torch.arange(10)[:, None] + torch.arange(12)).remainder(2)
    halves = (torch.arange(12) > 5).float().expand(10, 12)
    assert torch.equal(figures._liveliest(torch.stack([board, halves, 0 * halves])), halves)


# --- bending, tiles, borders


def test_bent_figure() -> None:
    field = displacements((48, 64), seeded(1))
    bent, labels = warp(DATA.images[:1], DATA.masks[:1], field)
    folds = torch.zeros(47, 63, dtype=torch.bool)
    folds[10, 20] = True
    shown = (DATA.images[0, 0], DATA.masks[0], field[0], bent[0, 0], labels[0], DATA)
    drawn(figures.bent_figure(*shown))
    figure = figures.bent_figure(*shown, (bent[0, 0], folds))
    arrows = figure.axes[2].collections[0]
    outline = figure.axes[5].collections[0].get_paths()[0].vertices
    assert np.allclose(outline.mean(0), (20, 10), atol=0.5)
    assert np.allclose(arrows.U, field[0, 1].numpy()[8::6, 8::8].ravel())
    assert np.array_equal(figure.axes[4].get_images()[0].get_array(), DATA.colourize(labels[0]))
    drawn(figure)


@pytest.mark.parametrize(("tile", "margin", "step"), [(36, 16, 16), (44, 20, 24)])
def test_tiles_fill_the_picture(tile: int, margin: int, step: int) -> None:
    image, scores = DATA.images[0, 0], torch.rand(48, 64, generator=seeded())
    frames = figures.tile_frames(image, scores, tile, margin, step)
    tiles = [(top, left) for top in range(0, 48, step) for left in range(0, 64, step)]
    assert len(frames) == len(tiles)
    half, output = margin // 2, tile - margin
    width = (frames[0].shape[1] - 6) // 2
    for frame, (top, left) in zip(frames, tiles):
        assert (frame[top, left : left + tile] == figures.INPUT).all()
        side = frame[half + top, half + left : half + left + output]
        assert (side == figures.OUTPUT).all()
    right = frames[-1][half : half + 48, width + 6 + half : width + 6 + half + 64]
    expected = (17 * (15 * scores.numpy()).round()).astype(np.uint8)  # in sixteen greys
    top, left = tiles[-1]
    assert np.array_equal(right[:top, :left, 0], expected[:top, :left])
    rim = frames[-1][half - 1, width + 6 + half - 1 : width + 6 + half + 65]
    assert (rim[:left] == figures.RIM).all()  # to the right of it the last tile's own frame
    undone = (frames[0][half : half + 48, width + 6 + half : width + 6 + half + 64] == figures.UNDONE).all(2)
    assert undone.sum() == 48 * 64 - min(output, 48) * min(output, 64)  # one tile alone is done
    left_part = frames[-1][half:top, half:left, 0]  # outside of the tile's own frame
    assert left_part.size > 100
    assert np.array_equal(left_part, (17 * (15 * image.numpy()).round()).astype(np.uint8)[: top - half, : left - half])


def test_the_tile_widget_has_a_frame_a_tile() -> None:
    widget = figures.tile_widget(DATA.images[0, 0], DATA.images[0, 0], 36, 16, 16)
    slider, stack = widget.children
    assert (slider.min, slider.max, len(stack.children)) == (0, 11, 12)


def test_shares_by_distance_by_hand() -> None:
    marked = torch.zeros(2, 5, 6, dtype=torch.bool)
    marked[0, 0, 0] = marked[0, 1, 1] = marked[1, 2, 2] = marked[1, 2, 3] = True
    assert figures.share_by_distance(marked).tolist() == [1 / 36, 1 / 20, 2 / 4]


def test_borders_and_differences() -> None:
    figure = figures.borders_figure({"a": torch.tensor([0.4, 0.1, 0.0]), "b": torch.tensor([0.2, 0.2, 0.1])}, reach=2)
    lines = figure.axes[0].get_lines()
    assert np.allclose(lines[0].get_ydata(), [40, 10, 0])
    assert list(lines[2].get_xdata()) == [2, 2]
    drawn(figure)
    off = torch.tensor([[0.0, 1e-3], [2.0, 0.5]])
    figure = figures.differences_figure({"x": off, "y": off})
    assert np.allclose(figure.axes[0].get_images()[0].get_array(), [[1e-7, 1e-3], [1, 0.5]])
    drawn(figure)
