"""The loop learns, repeats itself from a seed, shows where it is, and loses nothing when it is interrupted."""

import itertools
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from segcourse.datasets import VOID, SegmentationSet
from segcourse.training import evaluate, least_seconds, pick_device, predict, train

Draw = Callable[[Generator], tuple[Tensor, Tensor]]


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
    losses = train(model, quadrants(64), steps=150, learning_rate=0.03).losses
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

    losses = train(model, draw, steps=60, learning_rate=0.2).losses
    assert losses[-1] < losses[0] / 3


def test_a_seed_decides_everything() -> None:
    runs = []
    for seed in (3, 3, 4):
        model = small_network()
        losses = train(model, quadrants(8), steps=12, seed=seed).losses
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
    assert with_void.losses == pytest.approx(without.losses)


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


def interrupted_at(step: int, draw: Draw) -> Draw:
    """As if Ctrl-C was pressed while a batch is being drawn."""
    calls = itertools.count(1)

    def impatient(generator: Generator) -> tuple[Tensor, Tensor]:
        if next(calls) == step:
            signal.raise_signal(signal.SIGINT)
        return draw(generator)

    return impatient


def test_interrupting_keeps_what_was_learned(capsys) -> None:
    model = small_network()
    before = [p.detach().clone() for p in model.parameters()]
    handler = signal.getsignal(signal.SIGINT)
    history = train(model, interrupted_at(31, quadrants(16)), steps=100)
    assert len(history.losses) == 31
    assert not model.training
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert "Stopped after 31 of 100 steps" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_interrupt_ends_at_once() -> None:
    def twice(generator: Generator) -> tuple[Tensor, Tensor]:
        for _ in range(100):  # two that come close together may be taken for one
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.001)
        raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        train(small_network(), twice, steps=3)


def test_it_trains_in_another_thread_too() -> None:
    """Where Python hands out no signals."""
    with ThreadPoolExecutor(1) as pool:
        history = pool.submit(train, small_network(), quadrants(4), 3).result()
    assert len(history.losses) == 3


# Checkpoints.


class Noisy(nn.Sequential):
    """Dropout draws from torch's own generator, batch norm keeps statistics: both must come back."""

    def __init__(self, width: int = 16) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 4))


def test_a_resumed_training_ends_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    whole, first, second = Noisy(), Noisy(), Noisy()
    expected = train(whole, quadrants(8), steps=60, seed=3)
    train(first, interrupted_at(23, quadrants(8)), steps=60, seed=3, checkpoint=file)
    torch.rand(7)  # what others draw meanwhile changes nothing
    history = train(second, quadrants(8), steps=60, seed=3, checkpoint=file)
    assert history.losses == expected.losses
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), second.state_dict().values()))
    assert list(tmp_path.iterdir()) == [file]


def test_a_finished_training_is_only_read(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    once, again = Noisy(), Noisy()
    expected = train(once, quadrants(8), steps=5, checkpoint=file)

    def none(generator: Generator) -> tuple[Tensor, Tensor]:
        raise AssertionError("not reached")

    assert train(again, none, steps=5, checkpoint=file) == expected
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), again.state_dict().values()))


def test_a_crash_costs_a_twentieth_at_most(tmp_path: Path) -> None:
    calls = itertools.count(1)

    def crashes(generator: Generator) -> tuple[Tensor, Tensor]:
        if next(calls) == 58:
            raise RuntimeError("power cut")
        return quadrants(8)(generator)

    with pytest.raises(RuntimeError, match="power cut"):
        train(Noisy(), crashes, steps=60, checkpoint=tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert len(saved["history"]["losses"]) == 57


def test_a_crash_while_saving_leaves_the_former_state(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "run.pt"
    train(Noisy(), interrupted_at(9, quadrants(8)), steps=20, checkpoint=file)
    before = file.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        train(Noisy(), quadrants(8), steps=20, checkpoint=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("spoil", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"not a checkpoint" * 9])
def test_a_damaged_checkpoint_is_refused(spoil, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(Noisy(), quadrants(8), steps=4, checkpoint=file)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match="damaged"):
        train(Noisy(), quadrants(8), steps=4, checkpoint=file)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    train(Noisy(), quadrants(8), steps=4, checkpoint=file)
    with pytest.raises(ValueError, match="another file"):
        train(Noisy(), quadrants(8), steps=5, checkpoint=file)
    with pytest.raises(ValueError, match="does not fit this model"):
        train(Noisy(width=8), quadrants(8), steps=4, checkpoint=file)


def test_a_checkpoint_runs_nobodys_code(tmp_path: Path) -> None:
    file, trace = tmp_path / "run.pt", tmp_path / "trace"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (trace,)

    torch.save({"plan": Hostile()}, file)
    with pytest.raises(ValueError, match="damaged"):
        train(Noisy(), quadrants(8), steps=4, checkpoint=file)
    assert not trace.exists()


# What the network has learned.


class Threshold(nn.Module):
    """Scores (N, 3, H, W) that name class 0 where the image is dark, 1 where not; never 2."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(1)
        return torch.stack([self.level - grey, grey - self.level, torch.full_like(grey, -9)], dim=1)


def dark_and_bright(count: int = 5) -> SegmentationSet:
    """Left dark, right bright, the border between them wrong by a column in the masks; a row of void."""
    images = torch.zeros(count, 3, 12, 20)
    images[..., 10:] = 1
    masks = torch.zeros(count, 12, 20, dtype=torch.int64)
    masks[..., 9:] = 1
    masks[:, 0] = VOID
    palette = np.zeros((3, 3), np.uint8)
    return SegmentationSet("halves", "val", images, masks, ("dark", "bright", "none"), palette, ("",) * count, count)


def test_evaluate_counts_what_it_says() -> None:
    score = evaluate(Threshold(), dark_and_bright(), batch_size=2)
    assert score.accuracy == pytest.approx(19 / 20)
    assert score.iou[:2].tolist() == pytest.approx([9 / 10, 10 / 11])
    assert score.iou[2].isnan()
    assert score.mean_iou == pytest.approx((9 / 10 + 10 / 11) / 2)
    assert score.boundary_iou == pytest.approx((3 / 4 + 2 / 3) / 2)  # columns 6 to 8, and 9 to 11 but for column 9
    assert str(score) == "mean IoU 0.905, at boundaries 0.708, accuracy 0.950"


def test_predict_leaves_the_mode_and_splits_batches() -> None:
    images = dark_and_bright().images
    model = nn.Sequential(nn.Dropout(0.9), Threshold()).train()
    labels = predict(model, images, batch_size=2)
    assert labels.shape == (5, 12, 20)
    assert torch.equal(labels, predict(model, images, batch_size=5))
    assert model.training


def test_validation_is_recorded() -> None:
    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        return dark_and_bright(2).images, dark_and_bright(2).masks

    history = train(Threshold(), draw, steps=50, validation=dark_and_bright())
    assert [step for step, _ in history.validations] == [8, 16, 24, 32, 40, 48, 50]


def test_weights_of_pixels_and_classes_reach_the_loss() -> None:
    inputs, labels = torch.randn(6, 2), torch.tensor([0, 1, 2, 3, 0, 1])
    plain = train(small_network(), lambda g: (inputs[:3], labels[:3]), steps=1)
    by_pixel = train(small_network(), lambda g: (inputs, labels, torch.tensor([1.0, 1, 1, 0, 0, 0])), steps=1)
    assert by_pixel.losses == pytest.approx(plain.losses)
    only_first = train(small_network(), lambda g: (inputs, labels), 1, class_weights=torch.tensor([1.0, 0, 0, 0]))
    of_first = train(small_network(), lambda g: (inputs[labels == 0], labels[labels == 0]), steps=1)
    assert only_first.losses == pytest.approx(of_first.losses)


def test_other_errors_are_not_swallowed() -> None:
    def broken(generator: Generator) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no batch")

    with pytest.raises(RuntimeError, match="no batch"):
        train(small_network(), broken, steps=2)


@pytest.mark.parametrize("steps", [1, 2, 7, 101])
def test_progress_is_shown_to_the_end(steps: int, capsys) -> None:
    train(small_network(), quadrants(4), steps=steps)
    shown = capsys.readouterr()
    assert f"{steps}/{steps}" in shown.out.split("\r")[-1]
    assert "loss=" in shown.out.split("\r")[-1]
    assert not shown.err


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
