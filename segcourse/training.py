"""Training, short enough to read from top to bottom: where it runs, the loop, and what the network has learned.

A batch comes from a function of a random generator, so that a seed alone decides what a network sees and when.
"""

import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

from segcourse.datasets.base import VOID, SegmentationSet
from segcourse.home import write_atomically
from segcourse.losses import weighted_cross_entropy
from segcourse.metrics import ConfusionMatrix, boundary_band

Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
Plan = dict[str, float | str]
PAUSES = 20
"""How often a training pauses to save its state; every fourth time it validates."""


def pick_device() -> torch.device:
    """The GPU that CUDA offers, the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class History:
    """What happened in a training: the loss of each step, and (steps done, mean IoU in validation) now and then."""

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)

    def latest(self, steps: int) -> dict[str, str]:
        """The mean loss of the last few steps, and the last validation, in words for a progress line."""
        recent = self.losses[-steps:]
        words = {"loss": f"{sum(recent) / len(recent):.2f}"}
        if self.validations:
            words["validation mIoU"] = f"{self.validations[-1][1]:.3f}"
        return words


def train(
    model: nn.Module,
    draw_batch: Callable[[Generator], Batch],
    steps: int,
    learning_rate: float = 3e-3,
    seed: int = 0,
    *,
    class_weights: Tensor | None = None,
    validation: SegmentationSet | None = None,
    checkpoint: str | Path | None = None,
    optimizer: type[torch.optim.AdamW] = torch.optim.AdamW,
) -> History:
    """Fit a classifier of images or of pixels with one cycle of the learning rate: up, then down to zero.

    Ctrl-C (in Jupyter: Interrupt) ends the training after the step that is being made; the model keeps what it has
    learned. It is left in evaluation mode, on the device where it was.

    Maps are kept with their channels last, which takes 0.8 times the time on CPUs. On a GPU that has bfloat16 it is
    what products are computed in; weights and losses stay float32. On CPUs without matrix units it would be slower.

    Args:
        model: (N, ...) -> scores (N, classes) or (N, classes, H, W).
        draw_batch: draws inputs and their labels, (N,) or (N, H, W) int64; void (255) is not learned. A third tensor,
            shaped like the labels, weighs each label's loss.
        steps: number of batches.
        learning_rate: the highest one, reached after three tenths of the steps.
        seed: of the generator that `draw_batch` draws from, and of torch's own, for dropout; afterwards that one
            is as it was.
        class_weights: (classes,), a factor for the loss of each class; the loss is a weighted mean.
        validation: what to validate on, about five times in all.
        checkpoint: a file that keeps the state. Where it exists, the training goes on from there, and ends with the
            very numbers that it would have had without the interruption.
        optimizer: AdamW, or `muon.Muon`, which gets further in few steps.

    Raises:
        ValueError: the checkpoint is damaged, or is of another training.
    """
    device = next(model.parameters()).device
    generator = Generator().manual_seed(seed)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stepper = optimizer(model.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(stepper, learning_rate, total_steps=max(steps, 4))
    weights = None if class_weights is None else class_weights.to(device)
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    history = History()
    plan: Plan = {"steps": steps, "learning_rate": learning_rate, "seed": seed, "optimizer": optimizer.__name__}
    run = Run(plan, model, stepper, schedule, generator, history)
    file = None if checkpoint is None else Path(checkpoint)
    pause = max(1, steps // PAUSES)
    bar = tqdm(total=steps, file=sys.stdout, ncols=100, mininterval=1)
    with torch.random.fork_rng(), _until_interrupted() as interrupted, bar:
        torch.manual_seed(seed)
        if file is not None and file.exists():
            run.load(file)
            bar.update(len(history.losses))
        while len(history.losses) < steps and not interrupted():
            model.train()
            inputs, labels, *pixel_weights = (part.to(device) for part in draw_batch(generator))
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                scores = model(inputs)
            loss = weighted_cross_entropy(scores.float(), labels, weights, *pixel_weights)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            schedule.step()
            history.losses.append(loss.item())
            done = len(history.losses)
            if validation is not None and (done % (4 * pause) == 0 or done == steps):
                history.validations.append((done, evaluate(model, validation).mean_iou))
            if file is not None and (done % pause == 0 or done == steps or interrupted()):
                run.save(file)
            bar.set_postfix(history.latest(pause), refresh=False)
            bar.update()
    model.eval()
    if len(history.losses) < steps:
        print(f"Stopped after {len(history.losses)} of {steps} steps; the model keeps what it has learned.")
    return history


@dataclass
class Run:
    """A training's state: all that decides how it goes on."""

    plan: Plan
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: Generator
    history: History

    def save(self, file: Path) -> None:
        """Write the state; a crash meanwhile leaves the former file whole."""
        content = io.BytesIO()
        state = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "schedule")}
        random = {"batches": self.generator.get_state(), "torch": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        torch.save({"plan": self.plan, **state, "random": random, "history": vars(self.history)}, content)
        write_atomically(file, content.getvalue())

    def load(self, file: Path) -> None:
        """Take over a state. Raises ValueError where the file is damaged or of another training; executes nothing."""
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            plan = state["plan"]
        except Exception as error:
            raise ValueError(
                f"{file} is no checkpoint, or a damaged one: delete it to begin again ({error})"
            ) from error
        if plan != self.plan:
            raise ValueError(f"{file} is of a training with {plan}, not {self.plan}: delete it or name another file")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.generator.set_state(state["random"]["batches"])
            torch.set_rng_state(state["random"]["torch"])
            if "cuda" in state["random"] and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["random"]["cuda"])
            self.history.losses[:] = state["history"]["losses"]
            self.history.validations[:] = state["history"]["validations"]
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise ValueError(f"{file} does not fit this model: delete it or name another file ({error})") from error


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C only leaves a note, which what is yielded reads; a second Ctrl-C interrupts as ever."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # Python hands no signal to other threads
        yield asked.is_set
        return
    former = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, former)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, former)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch_size: int = 16) -> Tensor:
    """Return the label of each pixel, (N, H, W) int64 on the CPU: the class with the highest score.

    The model runs in evaluation mode, on its device, and is left in the mode that it had.

    Args:
        model: (N, C, H, W) -> scores (N, classes, H, W).
        images: (N, C, H, W).
        batch_size: how many images the model is given at once.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    labels = [model(batch.to(device)).argmax(1).cpu() for batch in images.split(batch_size)]
    model.train(was_training)
    return torch.cat(labels)


@dataclass(frozen=True)
class Score:
    """What `evaluate` found. Shares from 0 to 1.

    Attributes:
        mean_iou: intersection over union, the mean over the classes that occur.
        boundary_iou: the same, of the pixels in the band around the boundaries alone (`metrics.boundary_band`).
        accuracy: the share of right pixels.
        iou: of each class, (C,) float64; nan for a class that occurs neither in the masks nor in the predictions.
    """

    mean_iou: float
    boundary_iou: float
    accuracy: float
    iou: Tensor

    def __str__(self) -> str:
        return f"mean IoU {self.mean_iou:.3f}, at boundaries {self.boundary_iou:.3f}, accuracy {self.accuracy:.3f}"


def evaluate(model: nn.Module, dataset: SegmentationSet, batch_size: int = 16) -> Score:
    """Compare a model's labels with the masks of a data set; void pixels are not counted."""
    everywhere, at_boundaries = (ConfusionMatrix(len(dataset.classes)) for _ in range(2))
    for start in range(0, len(dataset), batch_size):
        masks = dataset.masks[start : start + batch_size]
        labels = predict(model, dataset.images[start : start + batch_size], batch_size)
        everywhere.add(labels, masks)
        at_boundaries.add(labels, masks.where(boundary_band(masks), VOID))
    return Score(everywhere.mean_iou, at_boundaries.mean_iou, everywhere.accuracy, everywhere.iou)


def least_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the least time of a few runs, in seconds: the first run and disturbed ones take longer.

    Without a GPU these are CPU seconds, which other programs do not lengthen; threads add up. With one it is wall
    time, and the GPU, which works on after a call has returned, is waited for.
    """
    gpu = torch.cuda.is_available()
    clock = time.perf_counter if gpu else time.process_time
    seconds = []
    for _ in range(repeats):
        began = clock()
        run()
        if gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    return min(seconds)
