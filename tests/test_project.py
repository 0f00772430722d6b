"""Rules that hold for the whole repository: what an import costs, which way imports go, what no file may contain."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "segcourse"
HEAVY = {"torch", "numpy", "matplotlib", "scipy", "skimage", "ipywidgets", "IPython", "hypothesis", "jupyter_core"}


# What an import costs.


def imported_by(*command: str) -> set[str]:
    """The modules that a fresh interpreter imports while it runs the command."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [line for line in ran.stderr.splitlines() if line.startswith("import time:")]
    return {line.split("|")[2].strip() for line in lines[1:]}


def test_import_segcourse_brings_nothing_else():
    bare = imported_by("-c", "pass")
    assert {name for name in imported_by("-c", "import segcourse") - bare} == {"segcourse"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["lab", "--help"], ["data", "get", "--help"]])
def test_help_needs_nothing_heavy(arguments):
    imported = imported_by("-m", "segcourse.cli", *arguments)
    assert "argparse" in imported
    assert {name.split(".")[0] for name in imported} & HEAVY == set()


def test_heavy_imports_would_be_seen():
    assert "numpy" in imported_by("-c", "import numpy")


# Which way imports go.

TOPICS = "topic modules"
LAYERS = {  # a module may import from its own layer and from those before it; models and data sets only from topics
    "models": r"segcourse\.models(\..+)?",
    "data sets": r"segcourse\.datasets(\..+)?",
    "cells' tools": r"segcourse\.(plots|widgets|augment|training|progress|figures(\..+)?)",
    "exercises": r"segcourse\.exercises(\..+)?",
    "lessons": r"segcourse\.(lesson|grading(\..+)?)",
    "commands": r"segcourse\.(authoring|doctor|release|cli)",
}
ORDER = [TOPICS, *LAYERS]


def layer(module: str) -> str:
    """The layer of a module; what is not named above is a topic module."""
    return next((name for name, pattern in LAYERS.items() if re.fullmatch(pattern, module)), TOPICS)


def may_import(own: str) -> set[str]:
    if own in ("models", "data sets"):
        return {TOPICS, own}
    return set(ORDER[: ORDER.index(own) + 1])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, is_package: bool) -> set[str]:
    """The segcourse modules that a module names in its imports, those inside functions and strings included."""
    found = set()
    known = {module_name(path) for path in PACKAGE.rglob("*.py")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                found.add(inner if inner in known else origin)
    return {name for name in found if name.split(".")[0] == "segcourse"}


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_one_way(path):
    module = module_name(path)
    imported = imports_of(path.read_text("utf-8"), module, path.name == "__init__.py")
    upward = {name for name in imported if layer(name) not in may_import(layer(module))}
    assert upward == set(), f"{module} is one of the {layer(module)}, and imports upward"


def test_an_import_upward_would_be_seen():
    source = "def f():\n    from .. import exercises\n    from segcourse.plots import show\n    import torch"
    assert imports_of(source, "segcourse.models.vgg", False) == {"segcourse.exercises", "segcourse.plots"}
    assert imports_of("from . import vgg", "segcourse.models", True) == {"segcourse.models.vgg"}
    assert layer("segcourse.transposed") == TOPICS
    assert may_import(TOPICS) == {TOPICS}
    assert may_import("models") == {TOPICS, "models"}
    assert "commands" not in may_import("lessons")


# What no file may contain.


def tracked() -> list[Path]:
    """The files that belong to the project; without git, all that lie here apart from what tools leave behind."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    left_behind = re.compile(r"(^|/)(\.(?!ci/|git\w|pre)|__pycache__/|build/|dist/|\w+\.egg-info/)")
    files = [path for path in ROOT.rglob("*") if path.is_file()]
    return [path for path in files if not left_behind.search(path.relative_to(ROOT).as_posix())]


def text_of(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return None


FILES = tracked()
MACHINE = re.compile(
    r"(?<![\w.~}$<>/-])/(?:home|Users|root|tmp|work|opt|mnt|private|var/folders)/[\w.-]+"  # a folder of one machine
    r"|\b[A-Z]:\\{1,2}Users\\"
    r"|\b(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}:\d+"  # an address inside a network, with a port
    r"|ipykernel_\d+|\bat 0x[0-9a-f]{6,}",
)


def test_there_are_files_to_look_at():
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"pyproject.toml", "segcourse/cli.py", "tests/test_project.py"} <= names


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("see /home/" + "ann/course", True),
        ('"/tmp/' + 'pytest-1/x"', True),
        ("File /Users/" + "ann/x.py", True),
        ("C:" + "\\Users\\ann", True),
        ("C:" + "\\\\Users\\\\ann", True),
        ("<Linear at " + "0x7f00aa11bb22>", True),
        ("http://192.168.1.2" + ":8888/lab", True),
        ("http://127.0.0.1:8888/lab", False),
        ("~/.segcourse", False),
        ("https://example.org/home/page", False),
        ("docs/root/file", False),
        ("#!/usr/bin/env bash", False),
        ("version 127.0.0.1", False),
    ],
)
def test_machine_words_are_recognized(text, bad):
    assert bool(MACHINE.search(text)) is bad


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_names_no_machine_and_is_small(path):
    assert path.stat().st_size <= 2 * 2**20, "over 2 MiB"
    text = text_of(path)
    if text is None:
        return
    assert MACHINE.findall(text) == []
    if path.suffix in {".py", ".md", ".toml", ".yml", ".ipynb"}:
        assert "\r" not in text


AMERICAN = re.compile(
    r"\b(?:colou?rizer|colors?|colored|coloring|behaviors?|centers?|centered|neighbors?|neighboring|neighborhoods?"
    r"|favou?rably|favorites?|gray|grays|modeling|modeled|labeled|labeling|catalogs?|fulfill|analyze[ds]?)\b",
    re.I,
)
WITH_S = re.compile(r"\b\w+(?:al|im|or|er|gan)is(?:e|es|ed|ing|ation)\b", re.I)


def prose(markdown: str) -> str:
    """Markdown without code, formulas, links' addresses and titles of works in quotation marks."""
    without = re.sub(r"```.*?```|^ {4}.*?$", " ", markdown, flags=re.S | re.M)
    without = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]*`|<[^>]*>", " ", without, flags=re.S)
    return re.sub(r"\]\([^)]*\)|https?://\S+|\"[^\"\n]*\"|“[^”\n]*”|\*[^*\n]+\*", " ", without)


def texts() -> list[tuple[str, str]]:
    """Every text that people read, by file: Markdown files, and the text cells of the lessons' sources."""
    found = []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".md":
            found.append((name, path.read_text("utf-8")))
        elif path.match("solutions/*.py"):
            cells = re.split(r"^# %%", path.read_text("utf-8"), flags=re.M)
            cells = [cell for cell in cells if cell.startswith(" [markdown]")]
            found.append((name, re.sub(r"^# ?", "", "\n".join(cells), flags=re.M)))
    return found


@pytest.mark.parametrize(("name", "text"), [pytest.param(*each, id=each[0]) for each in texts()])
def test_spelling_is_british_with_ize(name, text):
    assert AMERICAN.findall(prose(text)) == []
    assert WITH_S.findall(prose(text)) == []


def test_spelling_leaves_code_and_titles_alone():
    assert AMERICAN.findall(prose('the color of `color=` in [grey](a/color.md), "Colorful neighbors"')) == ["color"]
    assert AMERICAN.findall(prose("    center = 1\n\nthe centre, $center$")) == []
    assert WITH_S.findall("normalise, optimised, normalize, raised, exercise, otherwise") == ["normalise", "optimised"]


# The Makefile's choice of torch.


def choice_of_torch(folder: Path, system: str, nvidia: str | None, *arguments: str) -> str:
    """What `make` would do to install torch on a machine of this kind."""
    for name, script in (("uname", f"echo {system}"), ("nvidia-smi", nvidia)):
        if script is not None:
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("TORCH", None)
    command = ["make", "--dry-run", "--always-make", ".venv/for-lessons", *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return re.search(r'if \[ "(\w*)" = cpu \]', ran.stdout)[1]


GPU = "echo 'GPU 0: NVIDIA T4 (UUID: GPU-0)'"
NO_DRIVER = "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9"


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
@pytest.mark.parametrize(
    ("system", "nvidia", "expected"),
    [
        ("Linux", "exit 127", "cpu"),
        ("Linux", NO_DRIVER, "cpu"),
        ("Linux", "echo 'No devices were found'; exit 6", "cpu"),
        ("Linux", GPU, "pypi"),
        ("Darwin", "exit 127", "pypi"),
        ("MINGW64_NT-10.0", GPU, "pypi"),
    ],
)
def test_make_takes_cuda_only_where_there_is_a_gpu(tmp_path, system, nvidia, expected):
    assert choice_of_torch(tmp_path, system, nvidia) == expected


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_can_be_told(tmp_path):
    assert choice_of_torch(tmp_path, "Linux", "exit 127", "TORCH=pypi") == "pypi"
    assert choice_of_torch(tmp_path, "Linux", GPU, "TORCH=cpu") == "cpu"
