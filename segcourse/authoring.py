"""The build: one py:percent source a lesson becomes two notebooks.

    solutions/NN_topic.py  ->  solutions/NN_topic.ipynb   executed, outputs kept; nbval compares them
                           ->  lessons/NN_topic.ipynb     answers removed, no outputs; what a student opens

The build is deterministic: a cell's id is a hash of its source, metadata is fixed, widget ids are renamed. So
`check` needs no kernel and finds any hand edit.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # nbformat would build its grammar for 2 s

import jupytext
import nbformat

from segcourse import exercises
from segcourse.exercises.exercise import Exercise
from segcourse.home import write_atomically

Notebook = Any
Cell = Any

KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SOLUTION = re.compile(r"^([ \t]*)# BEGIN SOLUTION[^\n]*\n(.*?)^[ \t]*# END SOLUTION[^\n]*$", re.M | re.S)
STUB = "{0}# YOUR CODE HERE: replace the dots.\n{0}return ..."
CHECK = re.compile(r"^check\.(\w+)\(", re.M)
DEFINED = re.compile(r"^(?:def|class) (\w+)", re.M)
TAGS = {
    "setup": "imports and data that later cells need; the grader runs these",
    "answer": "holds a student's answer (set by the build)",
    "check": "judges an answer (set by the build)",
    "raises-exception": "meant to fail",
    "nbval-ignore-output": "training, times and devices: run, not compared",
}
WIDGETS = "application/vnd.jupyter.widget-state+json"


class BuildError(Exception):
    """A source that cannot be built as it is; the message says where and why."""


def root() -> Path:
    """Return the checkout's folder: the working folder or the nearest one above that holds `solutions`.

    Raises:
        BuildError: if there is none.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "solutions").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise BuildError("no folder with solutions/ and pyproject.toml here or above: run this inside the checkout.")


# --- source to notebooks -------------------------------------------------------------------------------------


def read_source(path: Path) -> Notebook:
    """Read a py:percent source into a bare notebook: fixed metadata, ids from the cells' content.

    Raises:
        BuildError: for an unknown tag.
    """
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(copy.deepcopy(KERNEL))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    repeats: dict[str, int] = {}
    known = {e.name: e for e in exercises.lesson(path.stem).exercises}
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if tags - TAGS.keys():
            raise BuildError(f"{path.name}: unknown tag {sorted(tags - TAGS.keys())}; known are {sorted(TAGS)}.")
        key = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        repeats[key] = repeats.get(key, -1) + 1
        cell.id = f"{key}-{repeats[key]}" if repeats[key] else key
        cell.metadata = nbformat.from_dict(cell_metadata(cell, tags, known))
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def cell_metadata(cell: Cell, tags: set[str], known: dict[str, Exercise]) -> dict[str, Any]:
    """Return a cell's metadata: its tags, and nbgrader's keys for setup, answer and check cells."""
    if cell.cell_type != "code":
        return {}
    answer, checked = answer_name(cell.source), CHECK.search(cell.source)
    grading: dict[str, Any] = {}
    if answer:
        tags = tags | {"answer"}
        grading = nbgrader_keys(answer, solution=True, locked=False)
    elif checked and checked[1] in known:
        tags = tags | {"check"}
        grading = nbgrader_keys(f"check-{checked[1]}", grade=True, points=known[checked[1]].points)
    elif "setup" in tags:
        grading = nbgrader_keys(f"setup-{cell.id}")
    return ({"tags": sorted(tags)} if tags else {}) | ({"nbgrader": grading} if grading else {})


def nbgrader_keys(
    grade_id: str,
    *,
    grade: bool = False,
    solution: bool = False,
    locked: bool = True,
    points: int | None = None,
) -> dict[str, Any]:
    """Return a cell's `nbgrader` metadata, schema version 3."""
    keys: dict[str, Any] = {
        "cell_type": "code",
        "grade": grade,
        "grade_id": grade_id,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    return keys | ({"points": points} if points is not None else {})


def answer_name(source: str) -> str | None:
    """Return the name of the function that an answer cell defines; None for other cells."""
    if not SOLUTION.search(source):
        return None
    before = source[: SOLUTION.search(source).start()]  # type: ignore[union-attr]
    names = DEFINED.findall(before)
    return names[-1] if names else None


def lesson_of(notebook: Notebook) -> Notebook:
    """Return the student's notebook: every solution region replaced by the starter's dots."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = SOLUTION.sub(lambda found: STUB.format(found[1]), cell.source)
    return notebook


def bare(notebook: Notebook) -> Notebook:
    """Return the notebook without what running it left: what `check` compares."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def as_text(notebook: Notebook) -> str:
    """Return the notebook's file as JupyterLab would write it."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook, 4).rstrip("\n") + "\n"


# --- running -------------------------------------------------------------------------------------------------


def kernel_environment(home: str) -> dict[str, str]:
    """Return the environment that notebooks are executed and tested in: one thread, its own progress file."""
    return {
        "OMP_NUM_THREADS": "1",
        "SEGCOURSE_HOME": home,
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
    }


def execute(notebook: Notebook, folder: Path, timeout: int = 600) -> tuple[Notebook, float]:
    """Run a notebook in `folder`; returns it with outputs, and the seconds it took.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails that is not tagged `raises-exception`.
    """
    from nbclient import NotebookClient

    notebook = copy.deepcopy(notebook)
    saved = dict(os.environ)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(kernel_environment(home))
        os.environ.pop("SEGCOURSE_DATA", None)  # outputs are those of generated data, which every machine has
        try:
            NotebookClient(
                notebook,
                timeout=timeout,
                kernel_name="python3",
                resources={"metadata": {"path": str(folder)}},
                record_timing=False,
                store_widget_state=True,
                coalesce_streams=True,
            ).execute()
        finally:
            os.environ.clear()
            os.environ.update(saved)
    notebook.metadata.language_info = nbformat.from_dict(KERNEL["language_info"])
    return rename_widgets(notebook), time.monotonic() - began


def rename_widgets(notebook: Notebook) -> Notebook:
    """Give widget models ids by order of first appearance, so that two runs give the same file."""
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    found = re.findall(r'"(?:IPY_MODEL_)?([0-9a-f]{32})"', json.dumps(notebook.cells))
    order = list(dict.fromkeys(key for key in found if key in state))
    for key in order:  # grows while it is walked: breadth first through the references
        references = re.findall(r"IPY_MODEL_([0-9a-f]{32})", json.dumps(state[key], sort_keys=True))
        order += [r for r in dict.fromkeys(references) if r in state and r not in order]
    order += sorted(set(state) - set(order), key=lambda key: json.dumps(state[key], sort_keys=True))
    text = json.dumps(notebook)
    for number, key in enumerate(order):
        text = text.replace(key, f"{number:032x}")
    return nbformat.from_dict(json.loads(text))


# --- lints ---------------------------------------------------------------------------------------------------


def lint(stem: str, notebook: Notebook) -> list[str]:
    """Return what is wrong with a lesson's source, in sentences."""
    found = [*lint_headings(notebook), *lint_exercises(stem, notebook), *lint_leaks(stem, notebook)]
    return [f"{stem}: {problem}" for problem in found]


def lint_headings(notebook: Notebook) -> Iterable[str]:
    """Headings start with one `#` and go down one level at a time."""
    level = 0
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        text = re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S)
        for marks, title in re.findall(r"^(#+) +(.+)$", text, re.M):
            if len(marks) > level + 1 or (len(marks) == 1 and level > 0):
                yield f"heading {title!r} has level {len(marks)} after level {level}."
            level = len(marks)
        if re.search(r"!\[\s*\]\(|<img(?![^>]*alt=.)[^>]*>", text):
            yield f"a picture without alt text in the cell that begins {cell.source[:40]!r}."


def lint_exercises(stem: str, notebook: Notebook) -> Iterable[str]:
    """Each exercise has one answer cell and, after it, one check cell; what `see` names is a heading."""
    answers: dict[str, int] = {}
    checks: dict[str, int] = {}
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        name, checked = answer_name(cell.source), CHECK.search(cell.source)
        if name in answers or (checked and checked[1] in checks):
            yield f"{name or (checked and checked[1])} is answered or checked twice."
        if name:
            answers[name] = index
        if checked:
            checks[checked[1]] = index
    headings = {
        title.strip()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for title in re.findall(r"^#+ +(.+)$", cell.source, re.M)
    }
    lesson = exercises.lesson(stem)
    for name in {e.name for e in lesson.exercises} ^ answers.keys():
        yield f"{name} is an exercise or an answer cell, but not both."
    for exercise in lesson.exercises:
        if checks.get(exercise.name, -1) <= answers.get(exercise.name, 0):
            yield f"{exercise.name} has no check cell after its answer cell."
        for misconception in exercise.misconceptions:
            if misconception.see not in headings:
                yield f"{exercise.name}: misconception {misconception.id} points to {misconception.see!r}, no heading."
    asked = {name for cell in notebook.cells for name in re.findall(r"^quiz\.(\w+)\(", cell.source, re.M)}
    for name in {q.name for q in lesson.quiz} ^ asked:
        yield f"quiz question {name} is declared or asked, but not both."


def solution_lines(source: str) -> list[str]:
    """Return the telling lines of a cell's solution regions, without blanks and comments.

    A line tells something if it holds at least three words or operators: `else:` or `return x` gives nothing away.
    """
    lines = [line for _, region in SOLUTION.findall(source) for line in region.splitlines()]
    code = [squeeze(line.split("  #")[0]) for line in lines if not line.strip().startswith("#")]
    return [line for line in code if len(re.findall(r"\w+|[-+*/%@<>=]+", line)) >= 4]


def squeeze(line: str) -> str:
    """Drop all blanks: lines that differ in spacing alone are the same."""
    return re.sub(r"\s+", "", line)


def lint_leaks(stem: str, notebook: Notebook) -> Iterable[str]:
    """No line of a solution stands in the lesson or in the first two hints."""
    lesson = squeeze("\n".join(cell.source for cell in lesson_of(notebook).cells))
    if "SOLUTION" in lesson:
        yield "a solution marker is left in the lesson: is a BEGIN without its END?"
    hints = {e.name: squeeze(" ".join(e.hints[:2])) for e in exercises.lesson(stem).exercises}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        name = answer_name(cell.source)
        for line in solution_lines(cell.source):
            if line in lesson:
                yield f"the solution line {line!r} of {name} stands in the lesson."
            core = line.removeprefix("return")
            if name in hints and core in hints[name]:
                yield f"hint 1 or 2 of {name} gives the solution line {line!r} away."


def lint_repeats(sources: dict[str, Notebook]) -> list[str]:
    """No function or class is defined in two notebooks: helpers live in the package."""
    where: dict[str, list[str]] = {}
    for stem, notebook in sources.items():
        for cell in notebook.cells:
            if cell.cell_type == "code":
                for name in DEFINED.findall(cell.source):
                    where.setdefault(name, []).append(stem)
    return [
        f"{name} is defined in {', '.join(stems)}: put it into the package."
        for name, stems in where.items()
        if len(stems) > 1
    ]


# --- the command ---------------------------------------------------------------------------------------------

TIMES = "data/notebook_seconds.json"
TABLE = re.compile(r"(<!-- lessons: written by `segcourse build` -->\n).*?(<!-- end -->)", re.S)


def lesson_table(seconds: dict[str, float]) -> str:
    """Return the README's table of lessons in Markdown; `seconds` is the measured time of each notebook."""
    course = exercises.lessons()
    rows = ["| lesson | minutes | exercises | points | machine time |", "| --- | --- | --- | --- | --- |"]
    for lesson in course:
        time_ = f"{seconds[lesson.stem]:.0f} s" if lesson.stem in seconds else "not measured"
        rows.append(
            f"| [{lesson.stem[:2]} {lesson.title}](lessons/{lesson.stem}.ipynb) | {lesson.minutes} "
            f"| {len(lesson.exercises)} | {lesson.points} | {time_} |"
        )
    sums = [
        sum(lesson.minutes for lesson in course),
        len(exercises.catalogue()),
        sum(lesson.points for lesson in course),
    ]
    whole = sum(seconds[lesson.stem] for lesson in course if lesson.stem in seconds)
    rows.append("| all | " + " | ".join(map(str, sums)) + f" | {whole:.0f} s |")
    return "\n".join(rows) + "\n"


def readme_text(folder: Path) -> str | None:
    """Return README.md with a fresh table of lessons; None if it has no place for one."""
    readme, times = folder / "README.md", folder / TIMES
    if not readme.is_file() or not TABLE.search(readme.read_text("utf-8")):
        return None
    seconds = json.loads(times.read_text("utf-8")) if times.is_file() else {}
    table = lesson_table(seconds)
    return TABLE.sub(lambda found: found[1] + table + found[2], readme.read_text("utf-8"))


def main(lessons: list[str] | None = None, check: bool = False) -> int:
    """Build the lessons of these stems, or all; with `check` only compare. Returns the exit code.

    Raises:
        BuildError: if a source cannot be built.
    """
    folder = root()
    stems = lessons or list(exercises.LESSONS)
    if unknown := set(stems) - set(exercises.LESSONS):
        raise BuildError(f"no lesson {sorted(unknown)}; there are {', '.join(exercises.LESSONS)}.")
    sources = {stem: read_source(folder / "solutions" / f"{stem}.py") for stem in exercises.LESSONS}
    problems = [p for stem in stems for p in lint(stem, sources[stem])] + lint_repeats(sources)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    if check:
        return compare(folder, {stem: sources[stem] for stem in stems})
    for stem in stems:
        write_atomically(folder / "lessons" / f"{stem}.ipynb", as_text(lesson_of(sources[stem])))
        print(f"{stem}: running ...", end=" ", flush=True)
        executed, seconds = execute(sources[stem], folder / "solutions")
        write_atomically(folder / "solutions" / f"{stem}.ipynb", as_text(executed))
        record_seconds(folder / TIMES, stem, seconds)
        print(f"{seconds:.0f} s")
    readme = readme_text(folder)
    if readme is not None:
        write_atomically(folder / "README.md", readme)
    return 0


def record_seconds(path: Path, stem: str, seconds: float) -> None:
    """Write a notebook's measured time into the table of times."""
    times = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    times[stem] = round(seconds, 1)
    write_atomically(path, json.dumps(dict(sorted(times.items())), indent=1) + "\n")


def compare(folder: Path, sources: dict[str, Notebook]) -> int:
    """Compare the built files with what the sources give, byte for byte; prints what differs."""
    stale = []
    for stem, notebook in sources.items():
        lesson, solution = folder / "lessons" / f"{stem}.ipynb", folder / "solutions" / f"{stem}.ipynb"
        if not lesson.is_file() or lesson.read_text("utf-8") != as_text(lesson_of(notebook)):
            stale.append(lesson)
        if not solution.is_file() or as_text(bare(nbformat.read(solution, 4))) != as_text(notebook):
            stale.append(solution)
    for kind in ("lessons", "solutions"):
        stale += [path for path in sorted((folder / kind).glob("*.ipynb")) if path.stem not in exercises.LESSONS]
    fresh = readme_text(folder)
    if fresh is not None and fresh != (folder / "README.md").read_text("utf-8"):
        stale.append(folder / "README.md")
    for path in stale:
        print(
            f"out of date: {path.relative_to(folder)} (edit solutions/*.py, then `segcourse build`)",
            file=sys.stderr,
        )
    return bool(stale)
