"""The loop learns, repeats itself from a seed, shows where it is, and loses nothing when it is interrupted."""

import time
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor, nn

from segcourse.datasets import VOID
from segcourse.training import least_seconds, pick_device, train


def quadrants(count: int):
    """Points of the plane, labelled by their quadrant; every fifth label is void."""

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        points = torch.randn(count, 2, generator=generator)
        labels = 2 * (points[:, 0] > 0).long() + (points[:, 1] > 0)
        labels[::5] = VOID
        return points, labels

    return draw


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4))


def test_it_learns() -> None:
    model = small_network()
    losses = train(model, quadrants(64), steps=150, learning_rate=0.03)
    assert len(losses) == 150
    assert losses[0] > 1.0  # about log 4
    assert sum(losses[-10:]) / 10 < 0.2
    points, labels = quadrants(500)(Generator().manual_seed(7))
    with torch.no_grad():
        right = model(points).argmax(1) == labels
    assert right[labels != VOID].float().mean() > 0.9
    assert not model.training


def test_pixels_are_learned_like_images() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 1)

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        images = torch.randn(2, 1, 3, 5, generator=generator)
        return images, (images[:, 0] > 0).long()

    losses = train(model, draw, steps=60, learning_rate=0.2)
    assert losses[-1] < losses[0] / 3


def test_a_seed_decides_everything() -> None:
    runs = []
    for seed in (3, 3, 4):
        model = small_network()
        losses = train(model, quadrants(8), steps=12, seed=seed)
        runs.append((losses, [p.detach().clone() for p in model.parameters()]))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1], runs[1][1]))


def test_the_random_numbers_of_others_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = small_network()
    torch.manual_seed(5)
    train(model, quadrants(8), steps=3)
    assert torch.equal(torch.rand(3), expected)


def test_void_is_not_learned() -> None:
    """The loss of a batch is that of its labelled half; a batch of void alone would be nan."""
    inputs, labels = torch.randn(6, 2), torch.tensor([0, 1, 2, VOID, VOID, VOID])
    with_void = train(small_network(), lambda g: (inputs, labels), steps=1)
    without = train(small_network(), lambda g: (inputs[:3], labels[:3]), steps=1)
    assert with_void == pytest.approx(without)


def test_the_learning_rate_falls_to_zero() -> None:
    """With the same batch at each step, the last steps hardly move the weights."""
    torch.manual_seed(0)
    inputs, labels = torch.randn(30, 2), torch.randint(4, (30,))
    model = small_network()
    weights: list[Tensor] = []

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        weights.append(torch.cat([p.detach().flatten().clone() for p in model.parameters()]))
        return inputs, labels

    train(model, draw, steps=40)
    moved = [float((b - a).norm()) for a, b in pairwise(weights)]
    assert max(moved[-2:]) < max(moved[:5]) / 5


def test_interrupting_keeps_what_was_learned(capsys) -> None:
    calls = []
    draw = quadrants(16)

    def impatient(generator: Generator) -> tuple[Tensor, Tensor]:
        calls.append(1)
        if len(calls) == 31:
            raise KeyboardInterrupt
        return draw(generator)

    model = small_network()
    before = [p.detach().clone() for p in model.parameters()]
    losses = train(model, impatient, steps=100)
    assert len(losses) == 30
    assert not model.training
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert "Stopped after 30 of 100 steps" in capsys.readouterr().out


def test_other_errors_are_not_swallowed() -> None:
    def broken(generator: Generator) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no batch")

    with pytest.raises(RuntimeError, match="no batch"):
        train(small_network(), broken, steps=2)


@pytest.mark.parametrize(("steps", "lines"), [(1, 1), (7, 7), (100, 20), (101, 21)])
def test_progress_is_shown_now_and_then_and_at_the_end(steps: int, lines: int, capsys) -> None:
    train(small_network(), quadrants(4), steps=steps)
    shown = capsys.readouterr().out
    assert shown.count("\r") == lines
    assert shown.split("\r")[-1].startswith(f"step {steps} of {steps}, loss ")
    assert shown.endswith("\n")
    assert shown.count("\n") == 1


def test_least_seconds_takes_the_least(monkeypatch) -> None:
    took = iter((5, 2, 7))
    now = [0]

    def run() -> None:
        now[0] += next(took)

    for clock in ("process_time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now[0])
    assert least_seconds(run, repeats=3) == 2


def test_the_device_can_be_used() -> None:
    device = pick_device()
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch.ones(2, device=device).sum().item() == 2
