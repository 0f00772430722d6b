import itertools

import pytest
import reference_networks
import torch
import torch.nn.functional as F

from segcourse.convolutionalize import convolutionalize
from segcourse.models.fcn import FCN, STRIDES, Grid, crop, crop_offset, fuse, set_bilinear
from segcourse.models.vgg import VGG16
from segcourse.tracing import trace
from segcourse.transposed import bilinear_kernel


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def randomize(model):
    """Scores and upsampling that differ from zero and from bilinear, so that a mistake shows."""
    for name, parameter in model.named_parameters():
        if name.startswith(("score", "up")):
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def vgg_by_hand(state, x, padding):
    pools = []
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, depth + 1):
            name = f"features.stage{stage}.conv{i}"
            first = (stage, i) == (1, 1)
            x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding if first else 1).clamp(
                min=0
            )
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))  # zeros do not win after a ReLU
        x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
        pools.append(x)
    return pools


def fcn_by_hand(state, image, stride, padding, offsets):
    """FCN as a function of its weights; the authors' offsets are given, not derived."""

    def conv(x, name):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    pools = vgg_by_hand(state, image, padding)
    x = conv(conv(conv(pools[4], "fc6").clamp(min=0), "fc7").clamp(min=0), "score_fr")
    for offset, up, score, pool in zip(offsets[:-1], ("up2", "up4"), ("score_pool4", "score_pool3"), pools[3:1:-1]):
        x = F.conv_transpose2d(x, state[f"{up}.weight"], stride=2)
        x = x + conv(pool, score)[:, :, offset:, offset:][:, :, : x.shape[2], : x.shape[3]]
    x = F.conv_transpose2d(x, state["up.weight"], stride=stride)
    return x[:, :, offsets[-1] :, offsets[-1] :][:, :, : image.shape[2], : image.shape[3]]


# The authors' network files: parameters for 21 classes, crop offsets; sizes of up2, up4 and up for an input of 500.
PUBLISHED = {
    32: (136_152_917, (19,), (544,)),
    16: (134_815_994, (5, 27), (34, 560)),
    8: (134_489_759, (5, 9, 31), (34, 70, 568)),
}


@pytest.mark.parametrize("stride", STRIDES)
def test_figures_of_the_authors_network_files(stride):
    count, offsets, maps = PUBLISHED[stride]
    with torch.device("meta"):
        model = FCN(stride)
        assert parameters(model) == count
        assert model.offsets == offsets
        sizes = []
        layers = [*(stage for stage in model.features), model.score_fr]
        layers += [getattr(model, name) for name in ("up2", "up4", "up") if hasattr(model, name)]
        for layer in layers:
            layer.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
        assert model(torch.zeros(1, 3, 500, 500)).shape == (1, 21, 500, 500)
        assert sizes == [349, 175, 88, 44, 22, 16, *maps]
        dense = sum(parameters(layer) for layer in layers if isinstance(layer, torch.nn.ConvTranspose2d))
        assert dense == 21 * 21 * {32: 64**2, 16: 4**2 + 32**2, 8: 4**2 + 4**2 + 16**2}[stride]


@pytest.mark.parametrize("stride", STRIDES)
def test_any_size_gives_its_own_size(stride):
    with torch.device("meta"):
        for smallest, arguments in (
            (1, {}),
            (1, {"padding": 97}),
            (33, {"padding": 81}),
            (1, {"kernel": 3, "padding": 33}),
            (33, {"kernel": 3, "padding": 17}),
        ):
            model = FCN(stride, 1, 2, width=1, **arguments)
            for size in (*range(smallest, smallest + 65, 2), 500):
                width = smallest + 65 - size % 64
                assert model(torch.zeros(1, 1, size, width)).shape == (1, 2, size, width)
        with pytest.raises(ValueError, match=r"32x64 is too small.*at least 33; a padding of 33 takes all"):
            model(torch.zeros(1, 1, 32, 64))


@pytest.mark.parametrize(("kernel", "padding"), [(7, 100), (7, 81), (3, 17), (5, 60)])
def test_offsets_put_scores_where_they_came_from(kernel, padding):
    # Independent of the grids: the middle of what a pixel sees through the coarsest path, averaged over the phases.
    model = FCN(32, 1, 1, width=1, kernel=kernel, padding=padding)
    rows, _ = trace(model, (1, 64, 96))[""]
    shift = sum(rows.centre(i) - i for i in range(32)) / 32
    assert abs(shift) < 1e-9
    if kernel == 7:  # padding one pixel less moves the last crop, and no other
        more = 100 - padding
        for stride, (_, offsets, _) in PUBLISHED.items():
            found = FCN(stride, 1, 1, width=1, padding=padding).offsets
            assert found == (*offsets[:-1], offsets[-1] - more)


@pytest.mark.parametrize(
    ("stride", "least", "most", "above"),
    [(32, 436, 436, (202, 233)), (16, 436, 468, (210, 241)), (8, 436, 468, (214, 245))],
)
def test_receptive_fields(stride, least, most, above):
    # facts: measured by autograd, reach above an output pixel; below it is the same.
    rows, columns = trace(FCN(stride, width=1, classes=2), (3, 500, 370))[""]
    assert rows == columns
    assert (min(rows.sizes), max(rows.sizes)) == (least, most)
    up = [i - rows.extent(i)[0] for i in range(32)]
    down = [rows.extent(i)[1] - i for i in range(32)]
    assert (min(up), max(up)) == (min(down), max(down)) == above


def test_same_fields_as_the_bare_topology():
    for stride in STRIDES:
        ours = trace(FCN(stride, 1, 1, width=1), (1, 64, 64))[""]
        assert ours == trace(reference_networks.FCN(stride), (1, 64, 64))[""]


@pytest.mark.parametrize("stride", STRIDES)
def test_agrees_with_the_network_written_as_a_function(stride):
    torch.manual_seed(stride)
    model = randomize(FCN(stride, 2, 3, width=1).double())
    x = torch.randn(2, 2, 51, 37, dtype=torch.double)
    expected = fcn_by_hand(model.state_dict(), x, stride, 100, PUBLISHED[stride][1])
    assert expected.std() > 1e-3
    torch.testing.assert_close(model(x), expected)


def test_grids_and_crops():
    assert Grid().conv(3, 1, 1) == Grid()
    assert Grid().conv(2, 2).conv(2, 2) == Grid(1.5, 4.0)
    assert Grid(1.5, 4.0).deconv(4, 2) == Grid(-1.5, 2.0)
    assert crop_offset(Grid(-38, 2), Grid(0, 2)) == 19
    for larger, smaller in ((Grid(1), Grid(0)), (Grid(0, 2), Grid(1, 2)), (Grid(0, 2), Grid(2, 1))):
        with pytest.raises(ValueError, match="cannot be cropped"):
            crop_offset(larger, smaller)
    x = torch.arange(2 * 3 * 7 * 9.0).reshape(2, 3, 7, 9)
    assert torch.equal(crop(x, 2, x[:, :1, :4, :5]), x[:, :, 2:6, 2:7])
    assert torch.equal(fuse(x[..., :4, :5], x, 2), x[..., :4, :5] + x[..., 2:6, 2:7])
    assert torch.equal(fuse(x, x, 1), x[..., :6, :8] + x[..., 1:, 1:])
    with pytest.raises(ValueError, match="cannot crop 7x9 at 1 from a map of 7x9"):
        crop(x, 1, x)


def test_upsampling_starts_bilinear_on_the_diagonal():
    model = FCN(16, 1, 3, width=1)
    x = torch.randn(2, 3, 5, 7)
    up = crop(model.up(x), 8, torch.empty(1, 1, 80, 112))
    expected = F.interpolate(x, scale_factor=16.0, mode="bilinear")
    torch.testing.assert_close(up[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8])
    deconv = torch.nn.ConvTranspose2d(3, 3, 4, 2, bias=False)
    set_bilinear(deconv)
    assert deconv.weight.count_nonzero() == 3 * 16


def test_the_numbers_of_a_trained_vgg_carry_over():
    torch.manual_seed(0)
    vgg = VGG16(2, 5, width=1).eval()
    for parameter in vgg.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    model = FCN(8, 2, 3, width=1).load_vgg(vgg).eval()
    ours, theirs = model.state_dict(), vgg.state_dict()
    for name, value in theirs.items():
        if "fc8" not in name:
            assert torch.equal(ours[name.removeprefix("classifier.")].reshape(value.shape), value), name
    image = torch.randn(2, 2, 58, 90)
    # Padding by 100 is a border of 99 zeros around a network that pads by 1; sizes here pool without a rest.
    heat = convolutionalize(vgg, 224)
    expected = heat.classifier[:5](heat.features(F.pad(image, [99] * 4)))
    assert expected.shape[2:] == (2, 3)
    torch.testing.assert_close(model.dense(model.features(image)), expected, rtol=1e-5, atol=1e-6)
    model.fc6.weight.data.zero_()
    assert theirs["classifier.fc6.weight"].any()  # a copy
    for wrong in (FCN(8, 2, 3, width=2), FCN(8, 2, 3, width=1, kernel=3, padding=17), FCN(8, 3, 3, width=1)):
        before = {name: value.clone() for name, value in wrong.state_dict().items()}
        with pytest.raises(ValueError, match=r"the two networks differ in .*kernel .7 to fit VGG16"):
            wrong.load_vgg(vgg)
        assert all(torch.equal(value, before[name]) for name, value in wrong.state_dict().items())


def stages(stride, seed=0):
    """A coarser network as if trained, and the finer one started from it; double precision."""
    torch.manual_seed(seed)
    coarser = randomize(FCN(2 * stride, 1, 3, width=1).double())
    set_bilinear(coarser.up)
    finer = randomize(FCN(stride, 1, 3, width=1).double())  # whatever it was before
    assert finer.from_stage(coarser) is finer
    return coarser, finer


def score_map(model):
    """What goes into the last upsampling in the latest pass."""
    kept = {}
    model.up.register_forward_hook(lambda _, given, __: kept.update(score=given[0]))
    return kept


@pytest.mark.parametrize("stride", [16, 8])
def test_a_stage_starts_at_the_output_of_the_former(stride):
    coarser, finer = stages(stride)
    image = torch.randn(2, 1, 130, 170, dtype=torch.double)
    kept = score_map(coarser)
    before, after = coarser(image), finer(image)
    score, step = kept["score"], 2 * stride
    assert before.std() > 1e-3

    # Equal where the nearest score is a quarter of a step away or more, along both axes.
    first = step - 0.5 - coarser.offsets[-1]  # the pixel under score 0
    apart = [((torch.arange(n) - first + step / 2) % step - step / 2).abs() >= step / 4 for n in image.shape[2:]]
    assert all(0.4 < a.double().mean() < 0.6 for a in apart)
    equal = apart[0][:, None] & apart[1]
    torch.testing.assert_close(after[..., equal], before[..., equal], rtol=0, atol=1e-12)
    assert (after - before)[..., ~equal].abs().max() > 1e-4

    # Elsewhere by no more than an eighth of the second differences; 1/64 where both axes meet.
    padded = F.pad(score, [2] * 4)
    down, right = padded.diff(n=2, dim=2), padded.diff(n=2, dim=3)
    bound = down.abs().max() / 8 + right.abs().max() / 8 + right.diff(n=2, dim=2).abs().max() / 64
    assert (after - before).abs().max() <= bound

    # The score map itself is handed over number for number.
    assert all(
        torch.equal(finer.state_dict()[n], v) for n, v in coarser.state_dict().items() if not n.startswith("up.")
    )


def test_an_eighth_of_the_second_difference():
    for f in (8, 16):
        for s in itertools.product((0.0, 1.0, -2.0, 5.0), repeat=3):
            score = torch.tensor([[s]]).double()

            def tent(factor):
                return bilinear_kernel(factor).double()[None, None]

            once = F.conv_transpose1d(score, tent(2 * f), stride=2 * f)
            twice = F.conv_transpose1d(F.conv_transpose1d(score, tent(2), stride=2), tent(f), stride=f)
            assert twice.shape[2] - once.shape[2] == f  # f/2 more on each side: the offsets 19 and 27, 27 and 31
            cut = (twice[..., f // 2 : -f // 2] - once)[0, 0]
            second = F.pad(score, (2, 2)).diff(n=2)[0, 0][1:-1]
            under = torch.arange(3) * 2 * f + 2 * f  # the pixel just after each score, half a pixel from it
            torch.testing.assert_close(cut[under], second * (1 / 8 - 1 / (8 * f)))
            assert cut.abs().max() <= F.pad(score, (2, 2)).diff(n=2).abs().max() / 8


def test_the_tent_factors_but_its_units_miss_the_skip():
    for f in (8, 16):
        score = torch.randn(1, 1, 5).double()
        three = torch.tensor([[[0.5, 1.0, 0.5]]]).double()
        tents = [bilinear_kernel(n).double()[None, None] for n in (f, 2 * f)]
        exact = F.conv_transpose1d(F.conv_transpose1d(score, three, stride=2), tents[0], stride=f)
        torch.testing.assert_close(exact, F.conv_transpose1d(score, tents[1], stride=2 * f))
    pool4 = Grid(7.5 - 99, 16)
    scores = Grid(12.5, 32)
    assert crop_offset(pool4, scores.deconv(4, 2)) == 5
    with pytest.raises(ValueError, match="cannot be cropped"):
        crop_offset(pool4, scores.deconv(3, 2))


def test_straight_scores_are_handed_over_exactly():
    coarser, finer = stages(16)
    ramp = torch.arange(6.0).double()[:, None] * 2 + torch.arange(7.0) * 3 + 1
    score = ramp.expand(1, 3, -1, -1)
    once = coarser.up(score)
    twice = finer.up(finer.up2(score))[..., 8:-8, 8:-8]
    inner = (..., slice(64, -64), slice(64, -64))
    torch.testing.assert_close(twice[inner], once[inner])


def test_only_the_next_coarser_stage_will_do():
    with pytest.raises(ValueError, match="FCN-8s starts from FCN-16s, not from FCN-32s"):
        FCN(8, 1, 2, width=1).from_stage(FCN(32, 1, 2, width=1))
    with pytest.raises(ValueError, match=r"differ in .*score_fr.weight"):
        FCN(16, 1, 2, width=1).from_stage(FCN(32, 1, 3, width=1))
    with pytest.raises(ValueError, match="differ in"):
        FCN(16, 1, 2, width=1).from_stage(FCN(32, 1, 2, width=1, batch_norm=True))
    with pytest.raises(ValueError, match="differ in"):
        FCN(16, 1, 2, width=1, batch_norm=True).from_stage(FCN(32, 1, 2, width=1))
    with pytest.raises(ValueError, match="pad by different amounts"):
        FCN(16, 1, 2, width=1).from_stage(FCN(32, 1, 2, width=1, padding=90))


@pytest.mark.parametrize("stride", STRIDES)
def test_scores_start_at_zero_and_gradients_reach_what_is_learned(stride):
    torch.manual_seed(1)
    model = FCN(stride, 2, 3, width=2, kernel=3, padding=17)
    image = torch.randn(2, 2, 64, 96)
    out = model(image)
    assert out.eq(0).all()
    out.sum().backward()
    assert model.score_fr.weight.grad.abs().max() > 0  # so training can begin
    model.zero_grad()
    (randomize(model)(image) * torch.randn(2, 3, 64, 96)).sum().backward()
    learned = {name: parameter for name, parameter in model.named_parameters() if name != "up.weight"}  # that is fixed
    for name, parameter in learned.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_bad_arguments_are_refused_in_words():
    for arguments, words in (
        ({"stride": 4}, "stride must be 32, 16 or 8, got 4"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"padding": 80}, "padding must be at least 81 for a kernel of 7, got 80"),
        ({"kernel": 3, "padding": 16}, "at least 17 for a kernel of 3"),
    ):
        with pytest.raises(ValueError, match=words):
            FCN(**{"width": 1, **arguments})
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(3, 8, 8\)"):
        FCN(width=1)(torch.zeros(3, 8, 8))


@pytest.mark.parametrize("stride", STRIDES)
def test_only_upsampling_between_maps_is_learned(stride: int) -> None:
    """The paper's section 4.3: the last one is fixed to bilinear interpolation."""
    model = FCN(stride, classes=3, width=2, kernel=3, padding=17)
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in learned if name.startswith("up")} == {
        32: set(),
        16: {"up2.weight"},
        8: {"up2.weight", "up4.weight"},
    }[stride]
    assert "up.weight" in dict(model.named_parameters())  # and is counted, as in the authors' files
