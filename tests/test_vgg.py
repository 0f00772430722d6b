import hashlib

import pytest
import torch
from torch import nn

from segcourse.models import vgg
from segcourse.models.vgg import VGG16, pool_outputs, vgg16_features


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def torchvision_layout(width=64, classes=1000):
    """torchvision's vgg16 as its state dict shows it, written out: features.0 ... features.30, classifier.0 ... 6."""
    w = width
    layers: list[nn.Module] = []
    channels = 3
    for step in [w, w, "M", 2 * w, 2 * w, "M", 4 * w, 4 * w, 4 * w, "M", *[8 * w, 8 * w, 8 * w, "M"] * 2]:
        if step == "M":
            layers += [nn.MaxPool2d(2)]
        else:
            layers += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
    model = nn.Module()
    model.features = nn.Sequential(*layers)
    units = 64 * width
    model.classifier = nn.Sequential(
        nn.Linear(8 * w * 49, units),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(units, units),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(units, classes),
    )
    return model


def run_torchvision_layout(model, image):
    return model.classifier(model.features(image).flatten(1))


# The keys of vgg16-397923af.pth.
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
KEYS = [
    f"{layer}.{kind}"
    for layer in [*(f"features.{i}" for i in CONVOLUTIONS), *(f"classifier.{i}" for i in (0, 3, 6))]
    for kind in ("weight", "bias")
]


def test_parameters_of_the_paper():
    # 138,357,544 and 14,714,688: counted from the published configuration D; the paper's table 2 says 138 million.
    with torch.device("meta"):
        model = VGG16()
        assert parameters(model) == 138_357_544
        assert parameters(model.features) == 14_714_688
        assert parameters(vgg16_features(batch_norm=True)) == 14_714_688 + 2 * (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512)
        assert parameters(VGG16(in_channels=1, classes=11)) == 138_357_544 - 2 * 9 * 64 - 989 * 4097
        assert [(c.in_channels, c.out_channels) for c in model.modules() if isinstance(c, nn.Conv2d)] == [
            (3, 64),
            (64, 64),
            (64, 128),
            (128, 128),
            (128, 256),
            (256, 256),
            (256, 256),
            (256, 512),
            *[(512, 512)] * 5,
        ]
        assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)


def test_pool_outputs_of_images_of_any_size():
    features = vgg16_features(in_channels=2, width=3).eval()
    x = torch.randn(2, 2, 71, 100)
    pools = pool_outputs(features, x)
    assert [tuple(p.shape) for p in pools] == [
        (2, 3, 35, 50),
        (2, 6, 17, 25),
        (2, 12, 8, 12),
        (2, 24, 4, 6),
        (2, 24, 2, 3),
    ]
    assert torch.equal(pools[4], features(x))
    assert torch.equal(pools[2], features[:3](x))
    assert list(features.stage3._modules) == ["conv1", "relu1", "conv2", "relu2", "conv3", "relu3", "pool"]


def test_signals_reach_the_end_at_the_start():
    def difference(features):  # of two images after pool5, relative to pool1
        pools = pool_outputs(features, images)
        return ((pools[4][0] - pools[4][1]).std() / (pools[0][0] - pools[0][1]).std()).item()

    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    features = vgg16_features(width=8)
    assert 0.1 < difference(features) < 10
    for layer in features.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()  # PyTorch's own start, made for other networks
    assert difference(features) < 0.01


def test_batch_norm_after_every_convolution():
    with_norm = vgg16_features(width=8, batch_norm=True)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in with_norm.modules()) == 13
    assert with_norm(torch.randn(2, 3, 64, 64)).shape == (2, 64, 2, 2)


def test_another_size_is_refused_in_words():
    model = VGG16(in_channels=1, classes=5, width=1).eval()
    assert model(torch.zeros(2, 1, 224, 224)).shape == (2, 5)
    for shape in ((2, 1, 224, 256), (1, 3, 224, 224), (1, 224, 224)):
        with pytest.raises(ValueError, match=r"takes images \(N, 1, 224, 224\).*convolutionalize"):
            model(torch.zeros(shape))
    for arguments in ({"width": 0}, {"classes": 0}, {"in_channels": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            VGG16(**arguments)


def test_torchvisions_names_map_one_to_one():
    torch.manual_seed(0)
    theirs = torchvision_layout(width=2, classes=7).eval()
    assert list(theirs.state_dict()) == KEYS
    ours = VGG16(width=2, classes=7).eval()
    ours.load_state_dict(vgg.from_torchvision(theirs.state_dict()), strict=True)
    x = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(ours(x), run_torchvision_layout(theirs, x))


def compact_checkpoint():
    """All 138 million numbers with torchvision's names and shapes, in a file of a few kilobytes.

    Each tensor has one random number an output channel, repeated without being stored again.
    """
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in torchvision_layout().state_dict().items()}
    g = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in shapes.items():
        number = 2 * torch.randn(shape[0], generator=g) / shape[1:].numel()
        state[key] = number.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    return state


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    # A closed port: nothing is ever fetched here.
    monkeypatch.setattr(vgg, "WEIGHTS_URL", "http://127.0.0.1:9/vgg16-397923af.pth")
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / "vgg16-397923af.pth"


def unset_vgg16():
    """VGG16 without spending seconds on random numbers that are about to be replaced."""
    with torch.device("meta"):
        model = VGG16()
    return model.to_empty(device="cpu").eval()


def test_pretrained_weights_load_from_the_hub_directory(hub):
    state = compact_checkpoint()
    torch.save(state, hub, _use_new_zipfile_serialization=False)  # the published file has the old format
    model = unset_vgg16()
    assert model.load_pretrained() is model
    with torch.device("meta"):
        theirs = torchvision_layout()
    theirs.load_state_dict(state, assign=True)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = run_torchvision_layout(theirs.eval(), x)
        assert 0.01 < expected.std() < 100
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-6)


def test_offline_the_message_says_what_and_where(hub):
    with pytest.raises(ConnectionError) as caught:
        unset_vgg16().load_pretrained()
    for part in ("http://127.0.0.1:9/vgg16-397923af.pth", "SHA-256 begins with 397923af", str(hub)):
        assert part in str(caught.value)
    assert not hub.exists()


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "missing key", "other shape", "a list"])
def test_a_damaged_file_is_named(hub, damage):
    state = compact_checkpoint()
    if damage == "missing key":
        del state["features.28.bias"]
    if damage == "other shape":
        state["classifier.6.weight"] = torch.zeros(11, 4096)
    torch.save([1, 2] if damage == "a list" else state, hub)
    content = {"empty": b"", "text": b"<html>not found</html>", "truncated": hub.read_bytes()[:900]}
    if damage in content:
        hub.write_bytes(content[damage])
    with pytest.raises(ValueError, match="not the published checkpoint") as caught:
        unset_vgg16().load_pretrained()
    assert str(hub) in str(caught.value)
    assert hub.exists()  # nothing is deleted behind the user's back


def test_code_in_a_file_is_not_run(hub, tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"features.0.weight": Harm()}, hub)
    with pytest.raises(ValueError, match="not the published checkpoint"):
        unset_vgg16().load_pretrained()
    assert not (tmp_path / "harm").exists()


def test_a_download_with_the_wrong_hash_is_refused(hub, tmp_path, monkeypatch):
    source = tmp_path / "served" / "vgg16-397923af.pth"
    source.parent.mkdir()
    torch.save(compact_checkpoint(), source)
    assert not hashlib.sha256(source.read_bytes()).hexdigest().startswith("397923af")
    monkeypatch.setattr(vgg, "WEIGHTS_URL", source.as_uri())
    with pytest.raises(ValueError, match="invalid hash value"):
        unset_vgg16().load_pretrained()
    assert not hub.exists()


@pytest.mark.parametrize("arguments", [{"classes": 11}, {"in_channels": 1}, {"width": 8}])
def test_other_networks_are_refused_before_any_download(hub, arguments):
    with torch.device("meta"):
        model = VGG16(**arguments)
    with pytest.raises(ValueError, match="default arguments"):
        model.load_pretrained()
    with torch.device("meta"), pytest.raises(ValueError, match="default arguments"):
        VGG16(batch_norm=True).load_pretrained()


def test_preprocessing_constants():
    # The published normalization of ImageNet images in [0, 1] (torchvision's documentation of its weights).
    assert vgg.IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert vgg.IMAGENET_STD == (0.229, 0.224, 0.225)
