"""What nbval cannot see: that something is compared at all, that lessons run as students get them, and offline."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from segcourse import authoring, exercises

ROOT = Path(__file__).resolve().parents[1]
STEMS = exercises.LESSONS
LEAKS = re.compile(r" at 0x[0-9a-f]+|/root\b|/home/|/Users/|/tmp/|ipykernel_\d+|[A-Z]:\\+Users|site-packages")
IGNORED = "nbval-ignore-output"


def solution(stem: str):
    return nbformat.read(ROOT / "solutions" / f"{stem}.ipynb", 4)


def words(cell) -> str:
    """The text that nbval compares, of all outputs of a cell."""
    return json.dumps([[o.get("text"), o.get("data", {}).get("text/plain")] for o in cell.outputs], ensure_ascii=False)


@pytest.mark.parametrize("stem", STEMS)
def test_solution_is_run_from_top_to_bottom(stem: str) -> None:
    """nbval compares nothing in a cell that was not run, so a stripped notebook would pass."""
    code = [c for c in solution(stem).cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    compared = [c for c in code if c.outputs and IGNORED not in c.metadata.get("tags", [])]
    assert len(compared) >= 3
    assert sum(bool(re.search(r"\d", words(c))) for c in compared) >= 3, "hardly a number is compared"


@pytest.mark.parametrize("stem", STEMS)
def test_outputs_hold_no_addresses_paths_or_errors(stem: str) -> None:
    for cell in solution(stem).cells:
        if cell.cell_type == "code":
            assert not LEAKS.search(words(cell)), (cell.id, LEAKS.search(words(cell)))
            kinds = {o.output_type for o in cell.outputs}
            assert "error" not in kinds or "raises-exception" in cell.metadata.get("tags", [])
            assert not [o for o in cell.outputs if o.get("name") == "stderr"], (cell.id, cell.outputs)


@pytest.mark.parametrize("stem", STEMS)
def test_every_exercise_is_solved(stem: str) -> None:
    said = "\n".join(words(c) for c in solution(stem).cells if c.cell_type == "code")
    for exercise in exercises.lesson(stem).exercises:
        assert f"✓ {exercise.name}: correct" in said


@pytest.mark.parametrize("stem", STEMS)
def test_every_picture_has_its_words(stem: str) -> None:
    for cell in solution(stem).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert not {"image/png", "image/jpeg", "image/svg+xml"} & data.keys(), f"{cell.id}: use show(fig, alt)"
            if "<img" in data.get("text/html", ""):
                assert re.search(r'<img alt="[^"]{20,}"', data["text/html"])
                assert not data["text/plain"].startswith("<")
            if "application/vnd.jupyter.widget-view+json" in data:
                assert not re.match(r"\w+\(", data["text/plain"]), f"{cell.id}: use show_widget(widget, alt)"


def links(text: str) -> list[str]:
    """The stems of the lessons that a text links to."""
    return re.findall(r"\]\((\w+)\.ipynb[)#]", text)


@pytest.mark.parametrize("stem", STEMS)
def test_lesson_leads_back_and_forward(stem: str) -> None:
    texts = [
        c.source for c in authoring.read_source(ROOT / "solutions" / f"{stem}.py").cells if c.cell_type == "markdown"
    ]
    at = STEMS.index(stem)
    neighbours = {*STEMS[max(0, at - 1) : at + 2]} - {stem}
    assert neighbours <= {*links(texts[-1].split("## Where next")[1])}
    assert {*links("\n".join(texts))} <= {*STEMS}


def test_glossary_is_in_order_and_leads_to_every_lesson() -> None:
    text = authoring.read_source(ROOT / "solutions" / "00_start_here.py").cells[-1].source
    rows = re.findall(r"^\| \[([^]]+)\]\((\w+)\.ipynb\) \| (.+) \|$", text.split("## Glossary")[1], re.M)
    terms = [term.lower() for term, _, _ in rows]
    assert len(terms) >= 40
    assert terms == sorted(set(terms))
    assert {stem for _, stem, _ in rows} == {*STEMS}
    for term, stem, _ in rows:  # the lesson uses the word that it is said to explain
        words_of_lesson = (ROOT / "solutions" / f"{stem}.py").read_text(encoding="utf-8").split("## Glossary")[0]
        assert re.search(re.escape(term).replace(r"\ ", r"[\s#*-]+"), words_of_lesson, re.I), (term, stem)


@pytest.mark.parametrize("stem", STEMS)
def test_lesson_has_no_outputs(stem: str) -> None:
    for cell in nbformat.read(ROOT / "lessons" / f"{stem}.ipynb", 4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("stem", STEMS)
def test_lesson_runs_to_the_end_untouched(stem: str, tmp_path) -> None:
    """Run All on what a student opens: every check says *not attempted*, and nothing stops the notebook."""
    lesson = nbformat.read(ROOT / "lessons" / f"{stem}.ipynb", 4)
    lesson, _ = authoring.execute(lesson, ROOT / "lessons")
    said = "\n".join(words(c) for c in lesson.cells if c.cell_type == "code")
    for exercise in exercises.lesson(stem).exercises:
        assert f"○ {exercise.name}: not attempted" in said
    assert "✗" not in said


def run_nbval(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", "--nbval",
         "--nbval-current-env", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", str(path)],
        capture_output=True, text=True, cwd=path if path.is_dir() else path.parent, timeout=300,
    )  # fmt: skip


def small_notebook(path: Path, *sources: str, text: str = "") -> Path:
    """Write a notebook of these cells, as if it had been run; the last one printed `text`."""
    cells = [nbformat.v4.new_code_cell(source, execution_count=n + 1) for n, source in enumerate(sources)]
    if text:
        cells[-1].outputs = [nbformat.v4.new_output("stream", text=text)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=authoring.KERNEL), path)
    return path


@pytest.fixture
def solutions(tmp_path):
    """A folder that the conftest of this course covers: its notebooks are collected, in kernels without a network."""
    folder = tmp_path / "solutions"
    folder.mkdir()
    shutil.copy(ROOT / "conftest.py", tmp_path)
    shutil.copytree(ROOT / "tests" / "no_network", tmp_path / "tests" / "no_network")
    return folder


def test_a_planted_wrong_number_fails(solutions) -> None:
    source = "print('loss', 0.5 + 0.0625)"
    small_notebook(solutions / "right.ipynb", source, text="loss 0.5625\n")
    small_notebook(solutions / "wrong.ipynb", source, text="loss 0.5624\n")
    result = run_nbval(solutions)
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    assert "wrong.ipynb" in result.stdout
    assert "loss 0.5624" in result.stdout


def test_a_planted_wrong_alt_text_fails(solutions) -> None:
    source = "show(Figure(), f'An empty figure with {0} axes in it.')"
    imports = "from matplotlib.figure import Figure\nfrom segcourse.plots import show"
    path = small_notebook(solutions / "right.ipynb", imports, source)
    notebook, _ = authoring.execute(nbformat.read(path, 4), solutions)
    nbformat.write(notebook, path)
    altered = path.read_text("utf-8").replace("with 0 axes", "with 1 axes")
    (solutions / "wrong.ipynb").write_text(altered, "utf-8")
    result = run_nbval(solutions)
    assert "1 failed, 3 passed" in result.stdout, result.stdout
    assert "wrong.ipynb" in result.stdout


def test_semicolon_and_out_work(solutions) -> None:
    """What nbval 0.11.0 gets wrong without the repair in conftest.py."""
    path = small_notebook(solutions / "history.ipynb", "6 * 7", "Out[1] + 1;", "print(Out[1])")
    notebook, _ = authoring.execute(nbformat.read(path, 4), solutions)
    nbformat.write(notebook, path)
    result = run_nbval(path)
    assert "3 passed" in result.stdout, result.stdout


def test_kernels_reach_this_machine_and_no_other(solutions) -> None:
    path = small_notebook(
        solutions / "reaches_out.ipynb",
        "import urllib.request\nurllib.request.urlopen('http://192.0.2.1/', timeout=2)",
        "import urllib.request\nurllib.request.urlopen('https://example.org/', timeout=2)",
        "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=2)",
        "import torch\ntorch.hub.load_state_dict_from_url('https://example.org/x.pth')",
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname()).close()\nprint('reached')",
        text="reached\n",
    )
    result = run_nbval(path)
    assert "4 failed, 1 passed" in result.stdout, result.stdout
    assert result.stdout.count("the course works offline: a lesson tried to reach") >= 4
