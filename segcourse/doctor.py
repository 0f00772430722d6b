"""Checks that a machine can run the course, and says what to do about each failure.

    segcourse doctor                          # in a terminal
    from segcourse.doctor import doctor       # in a notebook
    doctor()

A check is a function without arguments that returns a `Finding`. One that raises becomes a failure with its
message, so that the doctor always reaches the end.
"""

import html
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segcourse.home import home, lessons_folder, short

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SIGNS = {"ok": "✓", "warn": "!", "fail": "✗"}
COLOURS = {"ok": "#009E73", "warn": "#9A6700", "fail": "#D55E00"}
INSTALL = "In the folder of the course: python -m pip install -c constraints.txt -e ."
LABEXTENSION = "@jupyter-widgets/jupyterlab-manager"


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it where it is not well."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings; a notebook shows it as a table, everything else as text."""

    findings: Sequence[Finding]

    def __repr__(self) -> str:
        return render_text(self.findings)

    def _repr_html_(self) -> str:
        return render_html(self.findings)


def doctor() -> Report:
    """Check this machine; as the last line of a cell it shows what was found."""
    return Report(run())


def run(checks: Sequence[Callable[[], Finding]] | None = None) -> list[Finding]:
    """Run the checks (default: all of them), each in turn; never raises."""
    findings = []
    for check in CHECKS if checks is None else checks:
        try:
            findings.append(check())
        except Exception as problem:
            found = f"the check itself failed: {type(problem).__name__}: {problem}"
            advice = "Mend the other failures first. If this one stays, report it with this message."
            findings.append(Finding(check.__name__, "fail", found, advice))
    return findings


def summary(findings: Sequence[Finding]) -> str:
    """One line for all findings."""
    failed = [finding.name for finding in findings if finding.status == "fail"]
    warned = [finding.name for finding in findings if finding.status == "warn"]
    if failed:
        return f"Not ready yet: {', '.join(failed)}."
    return f"Ready. Worth a look: {', '.join(warned)}." if warned else "Ready: everything works."


def render_text(findings: Sequence[Finding]) -> str:
    """The findings as lines of text: sign, word, name, what was found, and below it what to do."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{SIGNS[finding.status]} {finding.status:<4}  {finding.name:<{width}}  {finding.found}")
        if finding.status != "ok":
            lines.append(f"{'':<{width + 10}}-> {finding.advice}")
    return "\n".join([*lines, "", summary(findings)])


def render_html(findings: Sequence[Finding]) -> str:
    """The same content as `render_text`, as a table."""
    rows = []
    for finding in findings:
        colour, sign = COLOURS[finding.status], SIGNS[finding.status]
        advice = f"<br>→ {html.escape(finding.advice)}" if finding.status != "ok" else ""
        rows.append(
            f'<tr><td style="color:{colour};font-weight:bold;text-align:left">{sign} {finding.status}</td>'
            f'<td style="text-align:left">{html.escape(finding.name)}</td>'
            f'<td style="text-align:left">{html.escape(finding.found)}{advice}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table><p>{html.escape(summary(findings))}</p>"


# The checks, in the order in which they are shown.


def python() -> Finding:
    """The version that pyproject.toml asks for, as a 64-bit build (torch has no other)."""
    bits = 64 if sys.maxsize > 2**32 else 32
    found = f"{platform.python_version()}, {bits} bit, {platform.system()} {platform.machine()}"
    if sys.version_info < (3, 11) or bits != 64:
        advice = "Install Python 3.11 or newer (64 bit) and set the course up again with it."
        return Finding("python", "fail", found, advice)
    return Finding("python", "ok", found)


def packages() -> Finding:
    """Every package that the course depends on, within its bounds."""
    wrong = []
    needed = [each for each in requirements() if each.name != "nbval"]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
    if wrong:
        return Finding("packages", "fail", "; ".join(wrong), INSTALL)
    return Finding("packages", "ok", f"all {len(needed)} are there, in versions that fit")


def nbval() -> Finding:
    """The version of nbval that the tests of the notebooks are written for."""
    needed = next(each for each in requirements() if each.name == "nbval")
    try:
        version = metadata.version("nbval")
    except metadata.PackageNotFoundError:
        version = "missing"
    if version == "missing" or version not in needed.specifier:
        return Finding("nbval", "warn", version, f"Only testing the notebooks needs it: {needed}. {INSTALL}")
    return Finding("nbval", "ok", version)


def torch_build() -> Finding:
    """Torch can be imported, and its build suits the machine."""
    try:
        import torch
    except (ImportError, OSError) as problem:
        return Finding("torch", "fail", f"cannot be imported: {problem}", INSTALL)
    if torch.version.cuda:
        build = f"built for CUDA {torch.version.cuda}"
    elif getattr(torch.version, "hip", None):
        build = f"built for ROCm {torch.version.hip}"
    else:
        build = "built for the CPU"
    found = f"{torch.__version__}, {build}"
    if gpus() and build == "built for the CPU":
        advice = "There is an NVIDIA GPU that this build cannot use. Set up again: make clean, then make lab."
        return Finding("torch", "warn", found, advice)
    return Finding("torch", "ok", found)


def device() -> Finding:
    """The device that the lessons will use, tried with a small product."""
    import torch

    from segcourse.training import pick_device

    where = pick_device()
    if where.type == "cuda":
        found = f"GPU: {torch.cuda.get_device_name(where)}"
    else:
        found = "CPU; that is enough for every lesson"
        found += " (the GPU of a Mac is not used)" if torch.backends.mps.is_available() else ""
    try:
        right = (torch.eye(3, device=where) @ torch.ones(3, 2, device=where)).sum().item() == 6
    except RuntimeError as problem:
        right, found = False, f"{found}, which fails: {str(problem).splitlines()[0]}"
    if not right:
        advice = "Update the driver, or work on the CPU: set CUDA_VISIBLE_DEVICES to nothing (empty) before starting."
        return Finding("device", "fail", found, advice)
    if where.type == "cpu" and torch.version.cuda and gpus():
        advice = "Torch cannot use the NVIDIA GPU of this machine; its driver is probably too old. Update the driver."
        return Finding("device", "warn", found, advice)
    return Finding("device", "ok", found)


def threads() -> Finding:
    """As many threads as cores at most, and threads that sleep while they wait."""
    import torch

    cores = available_cores()
    count, policy = torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY", "not set")
    found = f"{count} on {cores} cores, OMP_WAIT_POLICY {policy}"
    if count > cores:
        advice = f"More threads than cores slow each other down. Set OMP_NUM_THREADS={cores} before starting."
        return Finding("threads", "warn", found, advice)
    if count > 1 and policy.upper() != "PASSIVE":
        advice = "On a busy machine waiting threads spin. Start with `segcourse lab`, or set OMP_WAIT_POLICY=PASSIVE."
        return Finding("threads", "warn", found, advice)
    return Finding("threads", "ok", found)


def widgets() -> Finding:
    """JupyterLab has the extension that draws ipywidgets, switched on, in the copy that belongs to them."""
    from jupyter_core.paths import jupyter_config_path, jupyter_path
    from packaging.requirements import Requirement

    versions = {name: metadata.version(name) for name in ("jupyterlab", "ipywidgets", "jupyterlab_widgets")}
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    wanted = next(
        each
        for each in map(Requirement, metadata.requires("ipywidgets") or [])
        if each.name.replace("-", "_") == "jupyterlab_widgets"
    )
    if versions["jupyterlab_widgets"] not in wanted.specifier:
        return Finding("widgets", "fail", f"{found}; ipywidgets needs {wanted}", INSTALL)
    served = next(
        (copy for folder in jupyter_path("labextensions") if (copy := manifest(Path(folder))) is not None), None
    )
    if served is None:
        again = "python -m pip install --force-reinstall --no-deps jupyterlab_widgets"
        return Finding("widgets", "fail", f"{found}; JupyterLab lacks the extension {LABEXTENSION}", again)
    shipped = shipped_manifest()
    if shipped and shipped.get("version") != served.get("version"):
        both = f"JupyterLab serves {served.get('version')}, installed is {shipped.get('version')}"
        remove = "Another copy hides the installed one. Find it with `jupyter labextension list` and remove it."
        return Finding("widgets", "fail", f"{found}; {both}", remove)
    for folder in jupyter_config_path():
        if is_disabled(Path(folder) / "labconfig" / "page_config.json"):
            enable = f"jupyter labextension enable {LABEXTENSION}"
            return Finding("widgets", "fail", f"{found}; the extension is switched off", enable)
    return Finding("widgets", "ok", found)


def folders() -> Finding:
    """The student's folder and the lessons can be written to."""
    lessons = lessons_folder()
    wrong = [short(folder) for folder in (home(), lessons) if folder is not None and not can_write(folder)]
    if wrong:
        advice = "Give yourself the right to write there; for the folder of progress set SEGCOURSE_HOME to another."
        return Finding("folders", "fail", f"cannot write to {' and '.join(wrong)}", advice)
    if lessons is None:
        advice = "Change to the folder of the course before you start."
        return Finding("folders", "warn", f"can write to {short(home())}; no lessons found here", advice)
    return Finding("folders", "ok", "your progress and the lessons can be saved")


def data() -> Finding:
    """Every file of a downloaded data set is the one that the manifest lists."""
    from segcourse.datasets import download

    offers = [each for each in download.list_datasets() if each.here]
    if not offers:
        return Finding("data", "ok", "nothing is downloaded; the lessons then use generated streets")
    checked = [download.verify(name=each.name) for each in offers]
    found = "; ".join(f"{each.name}: {each.good} files right" for each in checked)
    for each in checked:
        again = f"segcourse data get {each.name}"
        if each.wrong:
            return Finding(
                "data", "fail", f"{found}, {len(each.wrong)} wrong: {each.wrong[0]}", f"Fetch again: {again}"
            )
        if each.missing:
            return Finding("data", "warn", f"{found}, {len(each.missing)} missing", f"Fetch the rest: {again}")
    return Finding("data", "ok", found)


def disk() -> Finding:
    """Room for saved notebooks and for data."""
    from segcourse.datasets import download

    free = shutil.disk_usage(existing(home())).free
    needed = sum(each.size for each in download.list_datasets())
    found = f"{free / 1e9:.1f} GB free"
    if free < 100e6:
        return Finding("disk", "fail", found, "Make room, or your notebooks cannot be saved.")
    if free < needed + 100e6:
        return Finding("disk", "warn", found, f"Enough for the lessons; all the data would take {needed / 1e9:.1f} GB.")
    return Finding("disk", "ok", found)


def training() -> Finding:
    """A small network learns one batch by heart, as training must be able to."""
    import torch
    from torch import nn

    from segcourse.training import pick_device

    where = pick_device()
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1)).to(where)
        image = torch.rand(2, 3, 24, 32).to(where)
    mask = (4 * image[:, 0]).long().clamp(max=3)  # the class is how red the pixel is
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    losses: list[float] = []
    while len(losses) < 100 and not (losses and losses[-1] < losses[0] / 2):
        loss = nn.functional.cross_entropy(network(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - start
    found = f"loss {losses[0]:.2f} -> {losses[-1]:.2f} in {len(losses)} steps, {seconds:.1f} s on {where.type}"
    if not losses[-1] < losses[0] / 2:  # also where it is no number
        return Finding("training", "fail", found, f"The loss must fall; torch is damaged. Install it again. {INSTALL}")
    if seconds > 10:
        return Finding("training", "warn", found, "Very slow. Close other programs; see `threads` above.")
    return Finding("training", "ok", found)


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    packages,
    torch_build,
    device,
    threads,
    widgets,
    nbval,
    folders,
    data,
    disk,
    training,
)


# What the checks ask the machine; the tests replace these.


def requirements() -> list["Requirement"]:
    """What the course itself asks for, without the extras."""
    from packaging.requirements import Requirement

    every = map(Requirement, metadata.requires("segcourse") or [])
    return [each for each in every if each.marker is None or each.marker.evaluate({"extra": ""})]


def gpus() -> int:
    """How many NVIDIA GPUs the driver lists; torch is not asked."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20)
    return sum(line.startswith("GPU ") for line in answer.stdout.splitlines())


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def manifest(labextensions: Path) -> dict[str, Any] | None:
    """The description of the widgets' extension in a folder of JupyterLab extensions; None: not there."""
    try:
        return json.loads((labextensions / LABEXTENSION / "package.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def shipped_manifest() -> dict[str, Any] | None:
    """The description in the copy that the installed jupyterlab_widgets brought; None: not known."""
    for file in metadata.files("jupyterlab_widgets") or []:
        if file.parts[-3:] == (*LABEXTENSION.split("/"), "package.json"):
            return manifest(Path(str(file.locate())).parents[2])
    return None


def is_disabled(page_config: Path) -> bool:
    """Tell whether a page_config.json of JupyterLab switches the widgets' extension off."""
    try:
        disabled = json.loads(page_config.read_text(encoding="utf-8")).get("disabledExtensions", {})
    except FileNotFoundError:
        return False
    if isinstance(disabled, dict):
        return any(name.split(":")[0] == LABEXTENSION and off for name, off in disabled.items())
    return any(name.split(":")[0] == LABEXTENSION for name in disabled)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.is_dir())


def can_write(folder: Path) -> bool:
    """Try to write a file; a folder that does not exist yet is judged by the nearest one above it."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"x")
    except OSError:
        return False
    return True
