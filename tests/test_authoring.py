"""The build: deterministic, refuses sources that would harm a student, and validated by nbgrader's own schema."""

import copy
import json
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator

from segcourse import authoring, exercises

ROOT = Path(__file__).resolve().parents[1]
STEM = "01_receptive_field"
SOURCE = ROOT / "solutions" / f"{STEM}.py"


@pytest.fixture
def notebook():
    return authoring.read_source(SOURCE)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def answer_cell(notebook, name="compound_kernel"):
    return next(cell for cell in notebook.cells if authoring.answer_name(cell.source) == name)


def problems(notebook) -> str:
    return "\n".join(authoring.lint(STEM, notebook))


def test_lessons_and_solutions_are_up_to_date(monkeypatch, capfd) -> None:
    monkeypatch.chdir(ROOT)
    code = authoring.main(check=True)
    assert code == 0, capfd.readouterr().err


def test_hand_edits_are_found(tmp_path, monkeypatch, capfd) -> None:
    for name in ("lessons", "solutions"):
        (tmp_path / name).mkdir()
        for path in (ROOT / name).iterdir():
            if path.is_file():
                (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert authoring.main(check=True) == 0, capfd.readouterr().err
    lesson = tmp_path / "lessons" / f"{STEM}.ipynb"
    lesson.write_text(lesson.read_text("utf-8").replace("Receptive", "receptive", 1), "utf-8")
    assert authoring.main(check=True) == 1
    assert f"lessons/{STEM}.ipynb" in capfd.readouterr().err
    (tmp_path / "lessons" / "99_stray.ipynb").touch()
    assert authoring.main(check=True) == 1
    assert "99_stray" in capfd.readouterr().err
    solution = tmp_path / "solutions" / f"{STEM}.ipynb"
    solution.unlink()
    assert authoring.main(check=True) == 1
    assert f"solutions/{STEM}.ipynb" in capfd.readouterr().err


def test_two_readings_give_the_same_bytes(notebook) -> None:
    assert authoring.as_text(notebook) == authoring.as_text(authoring.read_source(SOURCE))


def test_lesson_and_solution_differ_in_answers_alone(notebook) -> None:
    lesson = authoring.lesson_of(notebook)
    assert [c.id for c in lesson.cells] == [c.id for c in notebook.cells]
    for mine, theirs in zip(lesson.cells, notebook.cells):
        assert (mine.source != theirs.source) == (authoring.answer_name(theirs.source) is not None)
        assert mine.metadata == theirs.metadata


def test_an_inserted_cell_changes_no_other_id(notebook) -> None:
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_the_stub_returns_the_dots(notebook) -> None:
    source = next(c.source for c in authoring.lesson_of(notebook).cells if "def compound_kernel" in c.source)
    names: dict = {}
    exec(source, names)
    assert names["compound_kernel"](3, 1, 3) is ...


@pytest.mark.parametrize("path", sorted((ROOT / "lessons").glob("*.ipynb")), ids=lambda p: p.stem)
def test_nbgrader_accepts_the_metadata(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    MetadataValidator().validate_nb(notebook)
    graded = {
        c.metadata.nbgrader.grade_id: c.metadata.nbgrader for c in code_cells(notebook) if "nbgrader" in c.metadata
    }
    for exercise in exercises.lesson(path.stem).exercises:
        answer, check = graded[exercise.name], graded[f"check-{exercise.name}"]
        assert answer.solution
        assert not answer.grade
        assert not answer.locked
        assert check.grade
        assert check.locked
        assert check.points == exercise.points
    assert any(key.startswith("setup-") for key in graded)


def test_nbgrader_refuses_broken_metadata(notebook) -> None:
    """So the test above can fail."""
    cell = answer_cell(notebook)
    cell.metadata.nbgrader.grade_id = "not an id"
    with pytest.raises(Exception, match="grade_id"):
        MetadataValidator().validate_nb(notebook)


# Each lint, shown on a notebook that breaks it.


def test_sources_are_clean() -> None:
    sources = {s: authoring.read_source(ROOT / "solutions" / f"{s}.py") for s in exercises.LESSONS}
    assert [p for s, n in sources.items() for p in authoring.lint(s, n)] == []
    assert authoring.lint_repeats(sources) == []


def test_leak_of_a_solution_line(notebook) -> None:
    notebook.cells.append(nbformat.v4.new_markdown_cell("So return kernel_1+(kernel_2 - 1)  * stride_1."))
    assert "stands in the lesson" in problems(notebook)


def test_leak_in_a_hint(notebook, monkeypatch) -> None:
    lesson = exercises.lesson(STEM)
    exercise = lesson.exercises[0]
    told = copy.copy(exercise)
    object.__setattr__(told, "hints", ("Try kernel_1 + (kernel_2 - 1) * stride_1", *exercise.hints[1:]))
    changed = copy.copy(lesson)
    object.__setattr__(changed, "exercises", (told, *lesson.exercises[1:]))
    monkeypatch.setattr(exercises, "lesson", lambda stem: changed)
    assert "gives the solution line" in problems(notebook)


def test_unclosed_solution(notebook) -> None:
    cell = answer_cell(notebook)
    cell.source = cell.source.replace("# END SOLUTION", "")
    assert "solution marker" in problems(notebook)


def test_missing_check(notebook) -> None:
    notebook.cells = [c for c in notebook.cells if not c.source.startswith("check.compound_kernel(")]
    assert "has no check cell" in problems(notebook)


def test_missing_answer(notebook) -> None:
    notebook.cells.remove(answer_cell(notebook))
    assert "compound_kernel is an exercise or an answer cell, but not both" in problems(notebook)


def test_heading_levels(notebook) -> None:
    notebook.cells.append(nbformat.v4.new_markdown_cell("## Two\n\n#### Four"))
    assert "heading 'Four' has level 4 after level 2" in problems(notebook)


def test_second_title(notebook) -> None:
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Another"))
    assert "heading 'Another'" in problems(notebook)


def test_picture_without_alt(notebook) -> None:
    notebook.cells.append(nbformat.v4.new_markdown_cell("![](picture.png)"))
    assert "without alt text" in problems(notebook)


def test_misconception_without_a_heading(notebook) -> None:
    see = exercises.lesson(STEM).exercises[0].misconceptions[0].see
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace(see, "Elsewhere")
    assert "no heading" in problems(notebook)


def test_quiz_that_is_not_asked(notebook) -> None:
    name = exercises.lesson(STEM).quiz[0].name
    notebook.cells = [c for c in notebook.cells if f"quiz.{name}(" not in c.source]
    assert f"quiz question {name}" in problems(notebook)


def test_function_in_two_notebooks(notebook) -> None:
    assert any("compound_kernel is defined in" in p for p in authoring.lint_repeats({"a": notebook, "b": notebook}))


def test_unknown_tag(tmp_path) -> None:
    source = tmp_path / f"{STEM}.py"
    source.write_text('# %% tags=["nbval-ignore-outputs"]\n1\n', "utf-8")
    with pytest.raises(authoring.BuildError, match="unknown tag"):
        authoring.read_source(source)


def test_unknown_lesson_is_named(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(authoring.BuildError, match=r"no lesson \['77'\]"):
        authoring.main(["77"], check=True)


def test_widget_ids_are_renamed_alike() -> None:
    def with_ids(first: str, second: str):
        notebook = nbformat.v4.new_notebook()
        cell = nbformat.v4.new_code_cell("x")
        view = {"application/vnd.jupyter.widget-view+json": {"model_id": second}}
        cell.outputs = [nbformat.v4.new_output("display_data", view)]
        cell.id = "same"
        notebook.cells = [cell]
        state = {first: {"state": {"value": 1}}, second: {"state": {"layout": f"IPY_MODEL_{first}"}}}
        notebook.metadata.widgets = {authoring.WIDGETS: {"state": state}}
        return authoring.rename_widgets(nbformat.from_dict(json.loads(json.dumps(notebook))))

    assert with_ids("a" * 32, "b" * 32) == with_ids("d" * 32, "c" * 32)


def test_table_of_lessons() -> None:
    table = authoring.lesson_table({STEM: 12.4})
    lesson = exercises.lesson(STEM)
    row = next(line for line in table.splitlines() if STEM in line)
    assert f"| {lesson.minutes} | {len(lesson.exercises)} | {lesson.points} | 12 s |" in row
