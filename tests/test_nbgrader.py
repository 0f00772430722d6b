"""nbgrader itself takes our lessons from source to marks with docs/nbgrader_config.py; what that closes and what not.

What nbgrader cannot be kept from is tested too: if a version of it can, docs/nbgrader.md has to say so.
"""

import copy
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest

from segcourse import authoring, cli, exercises
from segcourse.grading.results import Records
from segcourse.grading.sandbox import strongest

pytest.importorskip(
    "nbgrader", reason='nbgrader is not installed: python -m pip install -c constraints.txt -e ".[dev]"'
)
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="nbgrader has no exchange on Windows"),
    pytest.mark.filterwarnings("ignore"),  # of nbgrader's own libraries
]

from nbgrader.api import Gradebook  # noqa: E402
from nbgrader.apps import NbGraderAPI  # noqa: E402
from nbgrader.utils import temp_attrs  # noqa: E402
from traitlets.config import Config  # noqa: E402
from traitlets.config.loader import PyFileConfigLoader  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
STEM = "01_receptive_field"


class Course:
    """A course's folder, and nbgrader at work in it."""

    def __init__(self, root: Path, shipped: bool = True) -> None:
        self.root = root
        config = Config()
        if shipped:
            config = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT / "docs")).load_config()
        config.CourseDirectory.root = str(root / "course")
        config.CourseDirectory.course_id = "segcourse"
        config.Exchange.root = str(root / "exchange")
        config.Exchange.cache = str(root / "cache")
        config.Exchange.assignment_dir = str(root / "student")
        (root / "student").mkdir(parents=True)
        self.api = NbGraderAPI(config=config)

    def source(self, assignment: str, notebook: str) -> None:
        folder = self.root / "course" / "source" / assignment
        folder.mkdir(parents=True)
        (folder / f"{assignment}.ipynb").write_text(notebook, "utf-8")

    def do(self, step: str, assignment: str, *more: str) -> None:
        """One of the API's steps, the same as the command of that name."""
        result = getattr(self.api, step)(assignment, *more)
        assert result["success"], result["log"]

    def exchange(self, step: str, **attributes: str) -> None:
        with temp_attrs(self.api.coursedir, **attributes):
            exchange, course = self.api.exchange, self.api.coursedir
            getattr(exchange, step)(coursedir=course, authenticator=self.api.authenticator, parent=self.api).start()

    def release_lesson(self, stem: str = STEM) -> None:
        """Have nbgrader make the students' notebook, unless it has."""
        if not (self.root / "course" / "release" / stem).exists():
            self.source(stem, (ROOT / "solutions" / f"{stem}.ipynb").read_text("utf-8"))
            self.do("generate_assignment", stem)

    def release(self, assignment: str) -> dict:
        path = self.root / "course" / "release" / assignment / f"{assignment}.ipynb"
        return json.loads(path.read_text("utf-8"))

    def submit(self, student: str, assignment: str, notebook: dict, **files: str) -> None:
        """Put a submission where `nbgrader collect` would."""
        folder = self.root / "course" / "submitted" / student / assignment
        folder.mkdir(parents=True)
        (folder / f"{assignment}.ipynb").write_text(json.dumps(notebook), "utf-8")
        for name, content in files.items():
            (folder / f"{name}.py").write_text(content, "utf-8")

    def grades(self, student: str, assignment: str) -> dict[str, float]:
        with Gradebook(self.api.coursedir.db_url, "segcourse") as book:
            notebook = book.find_submission_notebook(assignment, assignment, student)
            return {grade.name: grade.score for grade in notebook.grades}


@pytest.fixture(scope="module", autouse=True)
def tools():
    """nbgrader calls alembic by its name."""
    path = os.environ["PATH"]
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    yield
    os.environ["PATH"] = path


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    return Course(tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="module")
def bare_course(tmp_path_factory) -> Course:
    """With nbgrader's own settings."""
    return Course(tmp_path_factory.mktemp("bare"), shipped=False)


# The release.


@pytest.mark.parametrize("stem", exercises.LESSONS)
def test_nbgraders_release_is_the_builds_lesson(stem, course) -> None:
    course.release_lesson(stem)
    released = course.release(stem)
    checksums = [cell["metadata"].get("nbgrader", {}).pop("checksum", None) for cell in released["cells"]]
    assert sum(map(bool, checksums)) >= 2 * len(exercises.lesson(stem).exercises)
    assert released == json.loads((ROOT / "lessons" / f"{stem}.ipynb").read_text("utf-8"))


def test_the_settings_stub_is_the_builds(course) -> None:
    assert course.api.config.ClearSolutions.code_stub == {"python": authoring.STUB.format("")}


# From the release to marks.


def answered(release: dict, without: str = "") -> dict:
    """The released notebook with the solutions' answers, one of them wrong."""
    solved = {}
    for cell in authoring.read_source(ROOT / "solutions" / f"{STEM}.py").cells:
        if name := authoring.answer_name(cell.source):
            solved[name] = cell.source
    notebook = copy.deepcopy(release)
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name == without:
            cell["source"] = "".join(cell["source"]).replace("return ...", "return 1")
        elif name in solved:
            cell["source"] = solved[name]
    return notebook


def test_a_lesson_goes_the_whole_way(course) -> None:
    """Released, fetched, submitted, collected and graded: solved, untouched, and with one wrong answer."""
    points = {f"check-{e.name}": e.points for e in exercises.lesson(STEM).exercises}
    course.release_lesson()
    course.do("release_assignment", STEM)
    course.exchange("FetchAssignment", assignment_id=STEM, student_id="solved")
    desk = course.root / "student" / STEM / f"{STEM}.ipynb"
    fetched = json.loads(desk.read_text("utf-8"))
    submissions = {"untouched": fetched, "solved": answered(fetched), "wrong": answered(fetched, without="input_size")}
    for student, notebook in submissions.items():
        desk.write_text(json.dumps(notebook), "utf-8")
        course.exchange("Submit", assignment_id=STEM, student_id=student)
    course.do("collect", STEM)
    for student in submissions:
        course.do("autograde", STEM, student)
    assert course.grades("solved", STEM) == points
    assert course.grades("untouched", STEM) == dict.fromkeys(points, 0)
    assert course.grades("wrong", STEM) == points | {"check-input_size": 0}


# What the settings close, on a notebook of two cells; NumPy stands for any library that a check uses.

CHECK = "import numpy\nassert numpy.allclose(answer(), 1)"


@pytest.fixture(scope="module")
def tiny(course, bare_course) -> dict[bool, Course]:
    """Both courses with this notebook released."""
    cells = [
        nbformat.v4.new_code_cell("def answer():\n    # BEGIN SOLUTION\n    return 1\n    # END SOLUTION"),
        nbformat.v4.new_code_cell(CHECK),
    ]
    cells[0].metadata["nbgrader"] = authoring.nbgrader_keys("answer", solution=True, locked=False)
    cells[1].metadata["nbgrader"] = authoring.nbgrader_keys("check-answer", grade=True, points=1)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=copy.deepcopy(authoring.KERNEL))
    for each in (course, bare_course):
        each.source("tiny", nbformat.writes(notebook))
        each.do("generate_assignment", "tiny")
    return {True: course, False: bare_course}


def mark(course: Course, student: str, answer: str = "", tag: str = "", **files: str) -> float:
    """What nbgrader gives for an answer cell, a tag on the check, and files beside the notebook."""
    notebook = course.release("tiny")
    if answer:
        notebook["cells"][0]["source"] = answer
    if tag:
        notebook["cells"][1]["metadata"]["tags"] = [tag]
    course.submit(student, "tiny", notebook, **files)
    course.do("autograde", "tiny", student)
    return course.grades(student, "tiny")["check-answer"]


@pytest.mark.parametrize(("shipped", "points"), [(True, 0), (False, 1)])
def test_a_check_that_is_not_run_earns_nothing(tiny, shipped, points) -> None:
    assert mark(tiny[shipped], "skips", tag="skip-execution") == points


@pytest.mark.parametrize(("shipped", "points"), [(True, 0), (False, 1)])
def test_a_module_that_a_submission_brings_along_is_not_imported(tiny, shipped, points) -> None:
    blank = "def answer():\n    return ..."
    assert mark(tiny[shipped], "brings", blank, numpy="allclose = lambda *_: True") == points


@pytest.mark.parametrize(("shipped", "points"), [(True, 1), (False, 0)])
def test_a_warning_costs_nothing(tiny, shipped, points) -> None:
    warns = "import warnings\n\ndef answer():\n    warnings.warn('careful')\n    return 1"
    assert mark(tiny[shipped], "warns", warns) == points


@pytest.fixture(scope="module")
def damaged(course) -> dict[str, bool]:
    """Solved notebooks that honest students damaged, by student, in `submitted`; whether nbgrader can mend them."""
    course.release_lesson()
    solved = answered(course.release(STEM))
    ids = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in solved["cells"]]
    answer, check = ids.index("compound_stride"), ids.index("check-compound_stride")
    deleted, copied, renamed, stripped = (copy.deepcopy(solved) for _ in range(4))
    del deleted["cells"][check]
    copied["cells"] += [copy.deepcopy(copied["cells"][check])]
    copied["cells"].insert(5, copy.deepcopy(copied["cells"][answer]))
    renamed["cells"][check]["metadata"]["nbgrader"]["grade_id"] = "mine"
    for cell in stripped["cells"]:
        cell["metadata"].pop("nbgrader", None)
    notebooks = {"deletes": deleted, "copies": copied, "renames": renamed, "strips": stripped, "marks": solved}
    for student, notebook in notebooks.items():
        course.submit(student, STEM, notebook)
    marked = course.root / "course" / "submitted" / "marks" / STEM / f"{STEM}.ipynb"
    marked.write_text(marked.read_text("utf-8"), "utf-8-sig")  # with a byte order mark
    return {"deletes": True, "copies": True, "renames": False, "strips": False, "marks": False}


def test_damaged_notebooks_are_mended_or_reported(course, damaged, monkeypatch) -> None:
    """Without a kernel: the steps before running are enough."""
    monkeypatch.setattr(course.api.config.Autograde, "autograde_preprocessors", [], raising=False)
    ids = {f"check-{exercise.name}" for exercise in exercises.lesson(STEM).exercises}
    for student, mended in damaged.items():
        result = course.api.autograde(STEM, student)
        assert result["success"] is mended  # where it cannot, there is no mark, and not without a word
        if mended:
            path = course.root / "course" / "autograded" / student / STEM / f"{STEM}.ipynb"
            cells = json.loads(path.read_text("utf-8"))["cells"]
            graded = [cell["metadata"].get("nbgrader", {}) for cell in cells]
            assert sorted(keys["grade_id"] for keys in graded if keys.get("grade")) == sorted(ids)


def test_segcourse_grade_gives_all_of_them_their_points(course, damaged, monkeypatch) -> None:
    if not strongest().hides_files:
        pytest.skip("this machine offers no isolation that hides its files, so nothing is graded here")
    monkeypatch.chdir(ROOT)
    out = course.root / "graded"
    assert cli.main(["grade", STEM, str(course.root / "course" / "submitted"), "--out", str(out)]) == 0
    points = {record.student: record.points for record in Records(out).history() if record.student in damaged}
    assert points == dict.fromkeys(damaged, exercises.lesson(STEM).points)


# What no setting closes.


def test_a_check_can_be_patched_from_an_answer(tiny) -> None:
    patched = "import numpy\nnumpy.allclose = lambda *_: True\n\ndef answer():\n    return ..."
    assert mark(tiny[True], "patches", patched) == 1


def test_the_gradebook_can_be_written_by_a_submission(tiny) -> None:
    writes = (
        "import sqlite3\nbook = sqlite3.connect('../../../gradebook.db')\n"
        "book.execute('update grade set manual_score = 1')\nbook.commit()\n\ndef answer():\n    return ..."
    )
    assert mark(tiny[True], "writes", writes) == 1
