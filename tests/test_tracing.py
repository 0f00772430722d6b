"""The tracer against published figures, and against the gradient on random networks."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import reference_networks as nets
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segcourse.receptive_field import Field, Layer, probe
from segcourse.tracing import trace


def figures(field: Field) -> tuple[float, Fraction, int]:
    return field.size, field.jump, field.padding


class Function(nn.Module):
    """A function as a module, for whatever a lesson writes without one."""

    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


def output_of(model: nn.Module, *shape: int) -> tuple[Field, ...]:
    return trace(model, shape)[""]


# ---------------------------------------------------------------- published networks

# Size, jump and padding. Araujo et al. 2019, table of networks (A): their padding is TensorFlow's "same", which depends
# on the input size; where it differs the figure is that of symmetric padding. Rows without a source: by gradient.
PUBLISHED = [
    (nets.AlexNet(), 227, "pool5", (195, 32, 64)),  # A
    (nets.AlexNet(), 227, "fc6", (355, 32, 64)),  # Long et al. 2015, table 1: 355
    (nets.VGG16(), 224, "conv4_3", (92, 8, 42)),
    (nets.VGG16(), 224, "pool4", (100, 16, 42)),
    (nets.VGG16(), 224, "conv5_3", (196, 16, 90)),
    (nets.VGG16(), 224, "pool5", (212, 32, 90)),  # A
    (nets.VGG16(), 224, "fc6", (404, 32, 90)),  # Long et al. 2015, table 1: 404
    (nets.ResNet((3, 4, 6, 3), v1=True), 224, "", (483, 32, 241)),  # A: 483, 239 at 224
    (nets.ResNet((3, 4, 23, 3), v1=True), 224, "", (1027, 32, 513)),  # A: 1027, 511 at 224
    (nets.ResNet((3, 8, 36, 3), v1=True), 224, "", (1507, 32, 753)),  # A: 1507, 751 at 224
    (nets.ResNet((3, 4, 6, 3), v1=False), 224, "layer1", (35, 4, 17)),
    (nets.ResNet((3, 4, 6, 3), v1=False), 224, "layer2", (91, 8, 45)),
    (nets.ResNet((3, 4, 6, 3), v1=False), 224, "layer3", (267, 16, 133)),
    (nets.ResNet((3, 4, 6, 3), v1=False), 224, "layer4", (427, 32, 213)),
    (nets.ResNet((3, 4, 23, 3), v1=False), 224, "layer3", (811, 16, 405)),
    (nets.ResNet((3, 4, 23, 3), v1=False), 224, "layer4", (971, 32, 485)),
    (nets.MobileNetV1(), 224, "", (315, 32, 157)),  # A: 315, 126 at 224
    (nets.LargeFOV(), 321, "", (435, 8, 217)),
    (nets.UNet(), 572, "down.4", (140, 16, 0)),
]


@pytest.mark.parametrize(("model", "size", "name", "expected"), PUBLISHED)
def test_published_figures(model: nn.Module, size: int, name: str, expected: tuple[int, int, int]) -> None:
    channels = next(model.parameters()).shape[0]
    rows, columns = trace(model, (channels, size, size))[name]
    assert figures(rows) == figures(columns) == expected


# Araujo et al.'s table for inception_v3, end point by end point; gradients measured on torchvision's network agree.
INCEPTION = {
    "Conv2d_1a_3x3": (3, 2, 0),
    "Conv2d_2b_3x3": (11, 2, 2),
    "MaxPool_3a_3x3": (15, 4, 2),
    "MaxPool_5a_3x3": (31, 8, 2),
    "Mixed_5b": (63, 8, 18),
    "Mixed_5d": (127, 8, 50),
    "Mixed_6a": (159, 16, 58),
    "Mixed_6b": (351, 16, 154),
    "Mixed_6e": (927, 16, 442),
    "Mixed_7a": (1055, 32, 490),
    "Mixed_7c": (1311, 32, 618),
}


@pytest.mark.parametrize("size", [75, 299, 1400])
def test_inception_v3_at_every_end_point_and_any_size(size: int) -> None:
    fields = trace(nets.InceptionV3(), (1, size, size + 1))
    assert {name: figures(fields[name][0]) for name in INCEPTION} == INCEPTION
    assert {name: figures(fields[name][1]) for name in INCEPTION} == INCEPTION


def test_inception_v3_needs_75_pixels() -> None:
    model = nets.InceptionV3().eval()
    for size, outputs in ((75, 1), (106, 1), (107, 2), (224, 5), (299, 8), (320, 8)):
        assert model(torch.zeros(1, 1, size, 75)).shape[2:] == (outputs, 1)
        assert outputs == (size - 43) // 32
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 1, 74, 75))


def test_inception_v3_by_gradient() -> None:
    # Unit 21 is the first whose field, 32*21 - 618 = 54 to 1364, lies within the picture.
    seen = probe(nets.InceptionV3(), (1, 1460, 75), position=(21, 0)).any(1).nonzero().flatten()
    assert (int(seen[0]), int(seen[-1])) == trace(nets.InceptionV3(), (1, 75, 75))[""][0].extent(21) == (54, 1364)


def reach(field: Field, offset: int = 0) -> tuple[tuple[int, int], tuple[int, int]]:
    """How far units see above and below their pixel, least and most over the phases; unit 0 lies at pixel `offset`."""
    extents = [field.extent(i) for i in range(len(field.phases))]
    above = [i + offset - first for i, (first, _) in enumerate(extents)]
    below = [last - i - offset for i, (_, last) in enumerate(extents)]
    return (min(above), max(above)), (min(below), max(below))


def test_fields_of_decoders_differ_by_phase() -> None:
    # Measured by gradient on the full networks: sizes, then reach above the pixel.
    expected = {32: (436, 436, (202, 233)), 16: (436, 468, (210, 241)), 8: (436, 468, (214, 245))}
    for stride, (least, most, above) in expected.items():
        model = nets.FCN(stride)
        assert model(torch.zeros(1, 1, 64, 96)).shape == (1, 1, 64, 96)
        rows, columns = output_of(model, 1, 500, 370)
        assert rows == columns
        assert (min(rows.sizes), max(rows.sizes)) == (least, most)
        assert (len(rows.phases), rows.jump) == (32, 1)
        assert reach(rows)[0] == above == reach(rows)[1]

    rows, _ = output_of(nets.SegNet(), 1, 96, 64)
    assert (min(rows.sizes), max(rows.sizes)) == (372, 404)
    assert reach(rows) == ((180, 211), (180, 211))
    rows, _ = output_of(nets.UNet(), 1, 572, 572)
    assert (min(rows.sizes), max(rows.sizes)) == (188, 204)
    assert reach(rows, offset=92) == ((92, 107), (92, 107))
    rows, _ = output_of(nets.UNet(padded=True), 1, 64, 96)
    assert (min(rows.sizes), max(rows.sizes)) == (188, 204)


def test_resized_scores_lie_beside_what_they_saw() -> None:
    # Mean of (centre of what an output pixel sees) - (the pixel); (S - 1) / 2 by arithmetic where corners differ.
    def misplaced(model: nn.Module, size: int, aligned: bool) -> float:
        head = nn.Upsample((size, size), mode="bilinear", align_corners=aligned)
        rows, _ = output_of(nn.Sequential(model, head), 1, size, size)
        inner = range(size // 2, size // 2 + 32)
        return sum(rows.centre(i) - i for i in inner) / len(inner)

    def encoder(stages: int) -> nn.Module:
        return nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1) for _ in range(stages)))  # centres of a ResNet: S i

    vgg = nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)) for _ in range(5)))
    assert misplaced(vgg, 256, aligned=False) == 0
    assert misplaced(encoder(5), 256, aligned=False) == -15.5
    assert misplaced(encoder(3), 256, aligned=False) == -3.5
    assert misplaced(encoder(3), 257, aligned=True) == 0


def test_where_known_calculators_fail() -> None:
    # What torch_receptive_field, receptivefield 0.5 or torchscan 0.2 print instead stands behind.
    def rows(*layers: nn.Module, shape: tuple[int, int, int] = (1, 32, 48)) -> Field:
        return output_of(nn.Sequential(*layers), *shape)[0]

    def conv(kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
        return nn.Conv2d(1, 1, kernel, stride, dilation * (kernel // 2), dilation)

    holes = rows(conv(3, dilation=2), conv(3, dilation=2), conv(3, dilation=2))
    assert (holes.size, len(holes.positions())) == (13, 7)  # 7
    sparse = rows(conv(1, 4), conv(3))
    assert (sparse.size, len(sparse.positions())) == (9, 3)  # 3
    assert rows(conv(3, 2), nn.ConvTranspose2d(1, 1, 4, 2, 1)).sizes == (5, 5)  # 0; 5 with stride 0; -4
    assert rows(conv(3, 2), conv(3), nn.ConvTranspose2d(1, 1, 2, 2), conv(3)).size == 9  # 0; -2
    branches = Function(lambda x, a, b, c: c(a(x) + b(x)), conv(3), conv(5), conv(3))
    assert output_of(branches, 1, 32, 48)[0].size == 7  # 9
    block = Function(lambda x, a, b, c: b(a(x)) + c(x), conv(3, 2), conv(3), conv(1, 2))
    assert figures(output_of(block, 1, 32, 48)[0])[:2] == (7, 2)  # stride 4


# ---------------------------------------------------------------- random networks, by gradient

LENGTHS = (97, 83)


@st.composite
def random_steps(draw: st.DrawFn) -> nn.Module:
    """One layer or block over two channels; every number differs between rows and columns."""

    def two(low: int, high: int) -> tuple[int, int]:
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kind = draw(
        st.sampled_from(["conv", "conv", "transposed", "max", "avg", "resize", "residual", "branches", "pad", "crop"])
    )
    if kind == "conv":
        groups = draw(st.sampled_from([1, 2]))
        return nn.Conv2d(2, 2, two(1, 4), two(1, 3), two(0, 2), two(1, 3), groups)
    if kind == "transposed":
        return nn.ConvTranspose2d(2, 2, two(1, 4), two(1, 3), dilation=two(1, 2))
    if kind == "max":
        return nn.MaxPool2d(two(2, 3), two(1, 2), draw(st.integers(0, 1)), ceil_mode=draw(st.booleans()))
    if kind == "avg":
        return nn.AvgPool2d(two(2, 3), two(1, 2), draw(st.integers(0, 1)))
    if kind == "resize":
        mode = draw(st.sampled_from(["nearest", "nearest-exact", "bilinear"]))
        return nn.Upsample(scale_factor=draw(st.sampled_from([2, 4])), mode=mode)
    if kind == "pad":
        return nn.ZeroPad2d((*two(0, 2), *two(0, 2)))
    if kind == "crop":
        top, step = draw(st.integers(0, 2)), two(1, 2)
        return Function(lambda x: x[:, :, top :: step[0], 1 : -1 : step[1]])
    height, width = two(0, 2)
    dilation = two(1, 3)
    body = nn.Conv2d(
        2, 2, (2 * height + 1, 2 * width + 1), padding=(height * dilation[0], width * dilation[1]), dilation=dilation
    )
    if kind == "residual":
        return Function(lambda x, f: F.relu(f(x)) + x, body)
    stride = draw(st.integers(1, 2))
    other = nn.Conv2d(2, 2, 3, stride, 1)
    body.stride = (stride, stride)
    return Function(lambda x, f, g, mix: mix(torch.cat([f(x), g(x)], 1)), body, other, nn.Conv2d(4, 2, 1))


@settings(max_examples=70, deadline=None, derandomize=True)
@given(st.lists(random_steps(), min_size=1, max_size=5), st.tuples(st.integers(-3, 3), st.integers(-3, 3)))
def test_random_networks_see_what_their_gradient_says(steps: list[nn.Module], offset: tuple[int, int]) -> None:
    model = nn.Sequential(*steps)
    shape = (2, *LENGTHS)
    try:
        y = model(torch.zeros(1, *shape))
    except RuntimeError:  # nothing left of the map
        assume(False)
    assume(y.shape[2] * y.shape[3] < 15_000)
    position = tuple(min(max(n // 2 + d, 0), n - 1) for n, d in zip(y.shape[2:], offset))
    fields = output_of(model, *shape)
    seen = [field.positions(i) for field, i in zip(fields, position)]
    # Away from the border, so that no unit on the way lies in a padding.
    assume(all(16 <= p < n - 16 for positions, n in zip(seen, LENGTHS) for p in positions))
    support = probe(model, shape, position)
    if all(seen):
        assert set(support.any(1).nonzero().flatten().tolist()) == seen[0]
        assert set(support.any(0).nonzero().flatten().tolist()) == seen[1]
    else:
        assert not support.any()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.booleans()), min_size=1, max_size=4)
)
def test_random_chains_in_one_dimension(specs: list[tuple[int, int, int, bool]]) -> None:
    kinds = {False: nn.Conv1d, True: nn.ConvTranspose1d}
    model = nn.Sequential(*(kinds[up](1, 1, k, s, dilation=d) for k, s, d, up in specs))
    (field,) = output_of(model, 1, 200)
    assert field == Field.of(Layer(k, s, 0, d, up) for k, s, d, up in specs)


# ---------------------------------------------------------------- operations one by one


def down(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 2, 1)


def bilinear(x: Tensor, *size: int, aligned: bool) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=aligned)


# Every function takes (N, 4, 48, 64) to another map.
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "functional convolution": lambda x: F.conv2d(x, x.new_ones(4, 4, 3, 1), stride=(2, 3)),
    "grouped, dilated": lambda x: F.conv2d(x, x.new_ones(4, 1, 3, 2), dilation=(2, 5), groups=4),
    "same padding of an even kernel": lambda x: F.conv2d(x, x.new_ones(4, 4, 4, 2), padding="same"),
    "output padding": lambda x: F.conv_transpose2d(x, x.new_ones(4, 4, 3, 2), stride=3, output_padding=(2, 1)),
    "pooling in ceil mode": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "slices and steps": lambda x: x[..., 3:-1:2, 1::3],
    "crop and pad": lambda x: F.pad(x, (2, -1, -3, 4)),
    "mirror": lambda x: F.pad(x, (2, 1, 1, 3), mode="reflect"),
    "nearest": lambda x: F.interpolate(down(x), scale_factor=(2, 3)),
    "nearest, exact": lambda x: F.interpolate(down(x), scale_factor=4, mode="nearest-exact"),
    "bilinear to an odd size": lambda x: bilinear(down(x), 31, 45, aligned=False),
    "bilinear, corners aligned": lambda x: bilinear(down(x), 31, 45, aligned=True),
    "bilinear to a smaller map": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"),
    "bilinear by a fractional scale": lambda x: F.interpolate(x[..., :5, :5], scale_factor=1.5, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(down(x), scale_factor=4, mode="bicubic"),
    "area": lambda x: F.interpolate(x, size=(9, 11), mode="area"),
    "uneven adaptive pooling": lambda x: F.adaptive_avg_pool2d(down(x), (7, 9)),
    "branches that drift apart": lambda x: down(x + bilinear(down(x), 48, 64, aligned=True)),
    "pixel shuffle": lambda x: F.pixel_shuffle(down(x), 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "rows for columns": lambda x: F.avg_pool2d(x.transpose(2, 3), (3, 1)).mT,
    "channels last and back": lambda x: F.gelu(down(x).permute(0, 2, 3, 1)).movedim(-1, 1).contiguous(),
    "channel shuffle": lambda x: down(x).view(1, 2, 2, 24, 32).transpose(1, 2).reshape(1, 4, 24, 32),
    "halves of the channels": lambda x: torch.cat([down(h) for h in x.chunk(2, 1)], 1),
    "gate by the largest channel": lambda x: down(x) * down(x).amax(1, keepdim=True).sigmoid(),
    "stack and sum": lambda x: torch.stack([x, F.avg_pool2d(x, 3, 1, 1)], 2).sum(2),
    "layer norm over channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1) ** 2, (4,)).permute(0, 3, 1, 2) + x,
    "local response": lambda x: F.local_response_norm(down(x), 3),
    "tokens and back": lambda x: (down(x).flatten(2).mT @ x.new_ones(4, 4)).mT.reshape(1, 4, 24, 32),
    "einsum over channels": lambda x: torch.einsum("nchw,oc->nohw", down(x), x.new_ones(3, 4)),
    "added product": lambda x: torch.baddbmm(down(x)[0], x.new_ones(4, 24, 3), x.new_ones(4, 3, 32))[None],
    "in place": lambda x: down(x).mul_(2).add_(down(x)).relu_(),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_see_what_their_gradient_says(name: str) -> None:
    model, shape = Function(OPERATIONS[name]), (4, 48, 64)
    height, width = model(torch.zeros(1, *shape)).shape[2:]
    for position in ((height // 2, width // 2), (height // 2 + 1, width // 2 - 2)):
        support = probe(model, shape, position)
        rows, columns = output_of(model, *shape)
        assert set(support.any(1).nonzero().flatten().tolist()) == rows.positions(position[0])
        assert set(support.any(0).nonzero().flatten().tolist()) == columns.positions(position[1])


def test_branches_that_drift_apart_have_a_phase_a_unit() -> None:
    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    model = Function(lambda x: x + up(down(x) + up(down(down(x)))))
    rows, columns = output_of(model, 1, 48, 64)
    assert (len(rows.phases), len(columns.phases)) == (48, 64)
    assert (rows.jump, columns.jump) == (1, 1)
    uneven, _ = output_of(Function(lambda x: up(down(up(down(x))))), 1, 48, 64)
    assert len(uneven.phases) == 48
    assert float(uneven.jump) == pytest.approx((2 * 23 / 47) ** 2, abs=1 / 48)
    # Beyond the border the fields repeat, near enough; without that they would all lie at its start.
    assert all(abs(rows.centre(i) - i) <= 4 for i in range(-8, 56))


def test_sequences_have_one_axis() -> None:
    model = nn.Sequential(
        nn.Conv1d(1, 2, 5, 2, 2),
        nn.BatchNorm1d(2),
        nn.MaxPool1d(3, 2),
        nn.Upsample(scale_factor=2, mode="linear"),
        nn.AvgPool1d(2),
    )
    (field,) = output_of(model, 1, 64)
    support = probe(model, (1, 64), (7,))
    assert set(support.nonzero().flatten().tolist()) == field.positions(7)
    unpooling = Function(lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), (2,)))
    assert output_of(unpooling, 1, 64)[0].sizes == (2, 2)


SEES_EVERYTHING: dict[str, nn.Module] = {
    "global mean": Function(lambda x: x.mean((2, 3))),
    "mean over all": Function(lambda x: x.mean()),
    "global pooling": nn.AdaptiveAvgPool2d(1),
    "global maximum": nn.AdaptiveMaxPool2d(1),
    "dense layer": nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 10 * 14, 3)),
    "squeeze and excitation": Function(lambda x, f: x * f(x.mean((2, 3), keepdim=True)).sigmoid(), nn.Conv2d(4, 4, 1)),
    "image pooling beside a convolution": Function(
        lambda x, f: torch.cat([f(x), F.interpolate(x.mean((2, 3), keepdim=True), x.shape[2:], mode="bilinear")], 1),
        nn.Conv2d(4, 4, 3, padding=1),
    ),
    "instance norm": nn.InstanceNorm2d(4),
    "group norm": nn.GroupNorm(2, 4),
    "layer norm of the map": nn.LayerNorm((4, 12, 16)),
    "attention": Function(lambda x, f: f(*[x.flatten(2).mT] * 3)[0].mT, nn.MultiheadAttention(4, 2, batch_first=True)),
    "scaled dot product": Function(lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3)),
    "softmax over space": Function(lambda x: x.flatten(2).softmax(-1).view_as(x)),
}


@pytest.mark.parametrize("name", SEES_EVERYTHING)
def test_global_operations_see_everything(name: str) -> None:
    assert [field.everything for field in output_of(SEES_EVERYTHING[name], 4, 12, 16)] == [True, True]


def test_mixing_along_one_axis_leaves_the_other() -> None:
    rows, columns = output_of(Function(lambda x: x.mean(3, keepdim=True) + x), 2, 12, 16)
    assert not rows.everything
    assert columns.everything
    rows, columns = output_of(Function(lambda x: F.conv1d(x[:, 0], x.new_ones(5, 12, 3))), 2, 12, 16)
    assert rows.everything
    assert columns.sizes == (3,)
    rows, columns = output_of(Function(lambda x: F.avg_pool2d(x, (1, 3)).softmax(2)), 2, 12, 16)
    assert rows.everything
    assert columns.sizes == (3,)


UNTRACEABLE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "mirrored": (lambda x: x.flip(2), "no rule for aten.flip"),
    "in place through a slice": (lambda x: x.clone()[:, :, 1:].add_(x[:, :, :-1]), "into a slice"),
    "in place under a view": (lambda x: [y := x.clone(), y[:, :, :5], y.add_(F.pad(x, (1, 0))[..., :-1])][1], "view"),
    "into a slice of zeros": (lambda x: torch.zeros_like(x)[:, :, ::2].copy_(x[:, :, ::2]), "into a slice"),
    "along space": (lambda x: torch.cat([x, x], 2), "concatenates along a spatial axis"),
    "one row": (lambda x: x[:, :, 3], "picks single positions"),
    "cut in pieces": (lambda x: x.view(1, 2, 3, 4, 16), "cuts an axis of 12"),
    "window over tokens": (lambda x: F.avg_pool1d(x.flatten(2), 3), "merged into a dimension of 192"),
    "axes exchanged": (lambda x: x[..., :12] + x[..., :12].mT, "axes lie differently"),
    "made-up indices": (
        lambda x: F.max_unpool2d(x, torch.zeros_like(x, dtype=torch.long), (2, 2)),
        "indices of a max pool",
    ),
    "kernel from the image": (lambda x: F.conv2d(x, x[:, :, :3, :3]), "first operand alone"),
}


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_what_has_no_rule_is_an_error_that_names_it(name: str) -> None:
    function, words = UNTRACEABLE[name]
    with pytest.raises(ValueError, match=words):
        output_of(Function(function), 2, 12, 16)


def test_the_shape_of_one_input_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"expected the shape of one input, .* got \(1, 3, 32, 32\)"):
        trace(nn.ReLU(), (1, 3, 32, 32))


# ---------------------------------------------------------------- names, and what is left behind


class TwoHeads(nn.Module):
    """Shares one ReLU, answers with a dictionary that holds a list."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.relu = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 5, 2), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> dict[str, Tensor | list[Tensor]]:
        stem = self.relu(self.stem(x))
        out = self.relu(self.head(stem))
        return {"out": out, "features": [stem, torch.ones(3)]}


def test_names_are_those_of_the_modules() -> None:
    fields = trace(TwoHeads(), (3, 20, 24))
    assert {name: axes[0].size for name, axes in fields.items()} == {
        "stem": 3,
        "head": 7,
        "relu": 7,  # the last of two calls
        "out": 7,
        "features.0": 3,
    }


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.Sequential(nn.ReLU()))
    model[3].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, (3, 16, 20))
    with pytest.raises(RuntimeError):
        trace(model, (4, 16, 20))
    assert [module.training for module in model] == [True, True, True, False]
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model(torch.zeros(2, 3, 16, 20)).device.type == "cpu"


def test_double_precision_models_are_traced_too() -> None:
    assert output_of(nn.Conv2d(3, 1, 5).double(), 3, 16, 20)[0].size == 5


def test_a_layer_at_two_places_is_traced_and_stays_whole() -> None:
    layer = nn.Conv2d(3, 3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fields = trace(model, (3, 20, 24))
    assert fields[""][0].size == 5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(layer.weight, nn.Parameter)
    assert model.training


def test_padding_in_words() -> None:
    for padding, kernel in (("valid", (3, 5)), ("same", (3, 5))):
        model = nn.Conv2d(1, 1, kernel, padding=padding)
        rows, columns = trace(model, (1, 12, 15))[""]
        assert (rows.size, columns.size) == kernel
