"""Muon: singular values become alike, steps are as large as they are said to be, other parameters move by AdamW."""

import pytest
import torch
from torch import Generator, nn

from segcourse.muon import STEP, Muon, orthogonalized
from segcourse.training import train


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 32)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, dtype=torch.double), full_matrices=False)
    values = torch.linspace(0.05, 1, min(shape), dtype=torch.double)
    result = u.T @ orthogonalized(7 * u * values @ v) @ v.T
    found = result.diagonal()
    assert (result - found.diag()).abs().max() < 1e-9
    assert found.min() > 0.6
    assert found.max() < 1.25


def test_fewer_rounds_leave_small_values_smaller():
    matrix = torch.diag(torch.tensor([1.0, 0.5, 0.01]))
    three, five = (orthogonalized(matrix, rounds).diagonal() for rounds in (3, 5))
    assert three[2] < five[2]
    assert three[2] > 0.01 * 3.4445**2


def test_large_values_stay_within_the_stated_limits():
    s = torch.linspace(0.1, 1, 1000, dtype=torch.double)
    for _ in range(10):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert s.min() >= 0.68
    assert s.max() <= 1.21


def test_nothing_comes_of_nothing():
    assert torch.equal(orthogonalized(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.parametrize("channels", [(8, 8), (8, 32), (32, 8)])
def test_a_step_is_as_large_whatever_the_shape(channels):
    torch.manual_seed(1)
    conv = nn.Conv2d(*channels, 3, bias=False)
    before = conv.weight.detach().clone()
    conv.weight.grad = 1e-3 * torch.randn_like(conv.weight)
    Muon(conv.parameters(), lr=0.01).step()
    change = (conv.weight.detach() - before).square().mean().sqrt()
    assert 0.6 * STEP * 0.01 < change < 1.2 * STEP * 0.01


def test_other_parameters_move_as_with_adamw():
    def moved(optimizer):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        step = optimizer(model.parameters(), lr=0.01)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        step.step()
        return dict(model.named_parameters())

    ours, adamw = moved(Muon), moved(torch.optim.AdamW)
    assert not torch.equal(ours["0.weight"], adamw["0.weight"])
    for name in ("0.bias", "1.weight", "1.bias", "2.weight", "2.bias"):
        assert torch.equal(ours[name], adamw[name]), name


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="no closure"):
        Muon(nn.Conv2d(1, 1, 3).parameters()).step(lambda: 0.0)


def batch(generator: Generator):
    images = torch.rand(2, 3, 8, 8, generator=generator)
    return images, (images.mean(1) > 0.5).long()


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def test_training_goes_on_from_a_checkpoint_with_the_same_numbers(tmp_path, monkeypatch):
    whole = train(network(), batch, 12, optimizer=Muon)
    assert whole.losses[-1] < whole.losses[0]

    class CutError(Exception):
        pass

    drawn = 0

    def cut(generator: Generator):
        nonlocal drawn
        drawn += 1
        if drawn > 6:
            raise CutError
        return batch(generator)

    file = tmp_path / "state.pt"
    with pytest.raises(CutError):
        train(network(), cut, 12, optimizer=Muon, checkpoint=file)
    model = network()
    assert train(model, batch, 12, optimizer=Muon, checkpoint=file).losses == whole.losses
    with pytest.raises(ValueError, match=r"Muon.*not .*AdamW"):
        train(network(), batch, 12, checkpoint=file)
