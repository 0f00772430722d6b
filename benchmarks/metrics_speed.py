"""How fast the confusion matrix and the Hausdorff distance are beside other libraries', in one run.

    OMP_NUM_THREADS=1 python benchmarks/metrics_speed.py

64 images of 256x256 with 12 classes, labels int64 as argmax returns them, and uint8; then with a tenth of the pixels
void. All confusion matrices must be the same. Runs alternate, and of each the least CPU time counts. A ratio above 1
means that the other one takes longer. Plain NumPy is one line that counts pairs and looks at nothing: it neither
refuses bad labels nor leaves void out.
"""

import resource
import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from segcourse.metrics import ConfusionMatrix, hausdorff
from segcourse.training import least_seconds
from segcourse.void import VOID

CLASSES, ROUNDS = 12, 9


def ours(prediction: Tensor, target: Tensor) -> np.ndarray:
    matrix = ConfusionMatrix(CLASSES)
    matrix.add(prediction, target)
    return matrix.counts.numpy()


def plain(prediction: Tensor, target: Tensor) -> np.ndarray:
    """One bincount. Labels of one byte must be widened first."""
    p, t = prediction.numpy(), target.numpy()
    if t.dtype == np.uint8:
        t = t.astype(np.int16)
    return np.bincount((CLASSES * t + p).ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def plain_without_void(prediction: Tensor, target: Tensor) -> np.ndarray:
    p, t = prediction.numpy(), target.numpy()
    known = t != VOID
    pairs = CLASSES * t[known].astype(np.int64) + p[known]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def torch_bincount(prediction: Tensor, target: Tensor) -> np.ndarray:
    known = target != VOID
    pairs = CLASSES * target[known].long() + prediction[known]
    return torch.bincount(pairs, minlength=CLASSES**2).view(CLASSES, CLASSES).numpy()


def others(void: bool) -> dict[str, Callable[[Tensor, Tensor], np.ndarray]]:
    """What the course's matrix is held against; libraries where they are installed."""
    ways: dict[str, Callable[[Tensor, Tensor], np.ndarray]] = {"NumPy bincount, void masked": plain_without_void}
    if not void:
        ways = {"plain NumPy bincount": plain}
    ways["torch.bincount"] = torch_bincount
    if find_spec("torchmetrics"):
        from torchmetrics.classification import MulticlassConfusionMatrix

        def theirs(prediction: Tensor, target: Tensor) -> np.ndarray:
            return MulticlassConfusionMatrix(CLASSES, **({"ignore_index": VOID} if void else {}))(
                prediction, target
            ).numpy()

        ways["torchmetrics ConfusionMatrix"] = theirs
    if find_spec("sklearn"):
        from sklearn.metrics import confusion_matrix

        ways["scikit-learn confusion_matrix"] = lambda p, t: confusion_matrix(
            t[t != VOID].numpy(), p[t != VOID].numpy(), labels=range(CLASSES)
        )
    return ways


def least(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of each, in turns."""
    seconds = dict.fromkeys(runs, float("inf"))
    for turn in range(rounds):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            seconds[name] = min(seconds[name], least_seconds(runs[name], repeats=1))
    return seconds


def confusion_matrices() -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.randint(CLASSES, (64, 16, 16), generator=draw)  # regions of 16x16 pixels, as in a picture
    target = target.repeat_interleave(16, 1).repeat_interleave(16, 2)
    wrong = torch.rand(target.shape, generator=draw) < 0.1
    prediction = torch.where(wrong, torch.randint(CLASSES, target.shape, generator=draw), target)
    void = torch.rand(target.shape, generator=draw) < 0.1
    print("| labels | other | course | other | ratio |\n| --- | --- | --- | --- | --- |")
    for kind, with_void in ((torch.int64, False), (torch.uint8, False), (torch.int64, True)):
        p, t = prediction.to(kind), target.masked_fill(void, VOID).to(kind) if with_void else target.to(kind)
        ways = {"course": ours, **others(with_void)}
        for name, way in ways.items():
            assert np.array_equal(way(p, t), ours(p, t)), f"{name} counts otherwise"
        runs = {name: lambda way=way, p=p, t=t: way(p, t) for name, way in ways.items()}
        seconds = least(runs, ROUNDS)
        labels = f"{str(kind).removeprefix('torch.')}{', a tenth void' if with_void else ''}"
        for name in ways:
            if name != "course":
                print(
                    f"| {labels} | {name} | {1e3 * seconds['course']:.1f} ms | {1e3 * seconds[name]:.1f} ms "
                    f"| {seconds[name] / seconds['course']:.2f} |",
                    flush=True,
                )


def distances() -> None:
    """Two discs, so that all ways are right; torchmetrics' way needs a matrix of all pairs of boundary pixels."""
    from skimage.metrics import hausdorff_distance

    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    a, b = ((rows - 64) ** 2 + (columns - x) ** 2 < 30**2 for x in (50, 71))
    ways: dict[str, Callable[[], float]] = {
        "course": lambda: hausdorff(a, b),
        "scikit-image, all pixels": lambda: hausdorff_distance(a.numpy(), b.numpy()),
    }
    if find_spec("torchmetrics"):
        from torchmetrics.functional.segmentation import hausdorff_distance as theirs

        one, other = (m[None].long() for m in (a, b))
        ways["torchmetrics"] = lambda: float(
            theirs(one, other, num_classes=2, include_background=False, input_format="index")
        )
    print("\nHausdorff distance of two discs in 128x128:", {name: round(way(), 3) for name, way in ways.items()})
    seconds = least(ways, 3)
    for name in list(ways)[1:]:
        print(f"{name}: {1e3 * seconds[name]:.1f} ms, {seconds[name] / seconds['course']:.0f} times the course's time")


def memory() -> None:
    """The process's highest memory, before and after ten times as many images."""
    labels = torch.zeros(64, 256, 256, dtype=torch.int64)
    matrix = ConfusionMatrix(CLASSES)
    peaks = []
    for batches in (3, 30):
        for _ in range(batches):
            matrix.add(labels, labels)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(
        f"\n{64 * 3} images, then {64 * 30} more: highest memory {peaks[0] / unit:.0f}, {peaks[1] / unit:.0f} MiB; ",
        end="",
    )
    print(f"{matrix.counts.numel()} numbers kept; the same: {peaks[1] - peaks[0] < 2 * unit}")


if __name__ == "__main__":
    memory()  # first: what comes later takes more
    confusion_matrices()
    distances()
    for package in ("torchmetrics", "sklearn"):
        if not find_spec(package):
            name = package.replace("sklearn", "scikit-learn")
            print(f"{name} is not here and was left out: pip install {name}")
