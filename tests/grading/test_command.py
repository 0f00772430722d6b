"""`segcourse grade` from a folder to marks: every submission has a result; jobs, shards and resuming change no mark."""

import csv
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from grading.handed_in import EXERCISES, LESSON, POINTS, RELEASED, alive, family, notebook, right

from segcourse import cli
from segcourse.grading import command, results
from segcourse.grading.results import Record, Records
from segcourse.grading.sandbox import Isolation, strongest
from segcourse.home import short

ROOT = Path(__file__).resolve().parents[2]
SLIPS = {"compound_kernel": "adds_kernels", "input_size": "walks_forwards", "pixels_seen": "forgets_dilation"}
SOLVED = notebook(right())
SUBMISSIONS = {
    "loop.ipynb": notebook(right() | {"compound_stride": "while True:\n    pass"}),
    "right.ipynb": SOLVED,
    "starter.ipynb": notebook({}),
    "truncated.ipynb": SOLVED[: len(SOLVED) // 2],
    "words/essay.txt": b"I could not open the notebook.",
    "wrong.ipynb": notebook(right() | SLIPS),
}


@pytest.fixture(scope="module", autouse=True)
def can_be_graded_here() -> None:
    if not strongest().hides_files:
        pytest.skip("this machine offers no isolation that hides its files, so nothing is graded here")


@pytest.fixture(scope="module", autouse=True)
def in_the_checkout():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield


class Class:
    """A class's folder: what was handed in, a secret, and results beside them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder, self.handed_in, self.secret = folder, folder / "handed in", folder / "secret"
        for name in names:
            path = self.handed_in / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(SUBMISSIONS[name])
        self.secret.write_text("the secret of this class")

    def hand_in(self, student: str) -> None:
        """No notebook, but words."""
        (self.handed_in / student).mkdir(parents=True, exist_ok=True)
        (self.handed_in / student / "essay.txt").write_bytes(SUBMISSIONS["words/essay.txt"])

    def table(self, out: str) -> list[str]:
        """The students in grades.csv."""
        with (self.folder / out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
            return [row["student"] for row in csv.DictReader(file)]

    def grade(self, out: str, *more: str) -> int:
        order = ["grade", "01", str(self.handed_in), "--out", str(self.folder / out), "--seed-file", str(self.secret)]
        return cli.main([*order, "--time", "2", *more])

    def records(self, out: str) -> list[Record]:
        return Records(self.folder / out).history()

    def marks(self, out: str) -> dict[str, dict[str, Any]]:
        """By student; that there is one record of each is part of it."""
        records = self.records(out)
        assert len({record.student for record in records}) == len(records)
        return {record.student: record.marks for record in records}


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Class:
    """All six, graded once."""
    a_class = Class(tmp_path_factory.mktemp("class"), *SUBMISSIONS)
    assert a_class.grade("out") == 0
    return a_class


@pytest.fixture
def four(tmp_path) -> Class:
    """Those that take no time."""
    return Class(tmp_path, "right.ipynb", "starter.ipynb", "words/essay.txt", "wrong.ipynb")


def test_every_submission_has_its_fair_mark(graded) -> None:
    records = {record.student: record for record in graded.records("out")}
    assert {name: record.status for name, record in records.items()} == {
        "loop": "graded",
        "right": "graded",
        "starter": "graded",
        "truncated": "unreadable",
        "words": "no notebook",
        "wrong": "graded",
    }
    lost = sum(EXERCISES[name].points for name in SLIPS)
    points = {name: record.points for name, record in records.items() if record.status == "graded"}
    assert points == {"loop": POINTS - 1, "right": POINTS, "starter": 0, "wrong": POINTS - lost}
    assert all(records[name].notes for name in ("truncated", "words"))  # why, and what to do
    assert all(record.of == POINTS for record in records.values())


def test_mistakes_are_named(graded) -> None:
    (record,) = [record for record in graded.records("out") if record.student == "wrong"]
    assert {result.name: result.diagnosis for result in record.results if result.diagnosis} == SLIPS
    assert not any(record.tampering for record in graded.records("out"))


def test_the_table_holds_a_row_for_each(graded) -> None:
    with (graded.folder / "out" / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert {name: float(row["points"] or 0) for name, row in rows.items()} == {
        record.student: record.points for record in graded.records("out")
    }


def test_resuming_what_is_done_does_nothing(graded, capsys) -> None:
    records = graded.folder / "out" / "records"
    before = {path.name: path.read_bytes() for path in records.iterdir()}
    assert graded.grade("out", "--resume") == 0
    assert {path.name: path.read_bytes() for path in records.iterdir()} == before
    assert "1/6" not in capsys.readouterr().out


def test_results_are_not_mixed_by_accident(graded, capsys) -> None:
    before = graded.records("out")
    assert graded.grade("out") == 2
    assert "--resume goes on" in capsys.readouterr().err
    assert graded.records("out") == before


def test_jobs_change_no_mark(four, graded) -> None:
    assert four.grade("out", "--jobs", "2") == 0
    assert (four.folder / "out" / "grades.csv").is_file()
    once = graded.marks("out")
    assert four.marks("out") == {name: once[name] for name in ("right", "starter", "words", "wrong")}


def test_shards_merged_are_one_run(four, graded, capsys) -> None:
    assert four.grade("one", "--shard", "1/2") == 0
    assert four.grade("two", "--shard", "2/2") == 0
    assert [len(four.records(out)) for out in ("one", "two")] == [2, 2]
    out = str(four.folder / "all")
    parts = [str(four.folder / part) for part in ("one", "two")]
    for _ in range(2):  # merging again adds nothing
        assert cli.main(["grades", "merge", *parts, "--out", out]) == 0
        once = graded.marks("out")
        assert four.marks("all") == {name: once[name] for name in ("right", "starter", "words", "wrong")}
    assert (four.folder / "all" / "grades.csv").is_file()

    path = four.folder / "two" / "records" / "2-of-2.jsonl"
    path.write_text(path.read_text().replace(four.records("two")[0].key_hash, "as of another secret"))
    capsys.readouterr()
    assert cli.main(["grades", "merge", *parts, "--out", str(four.folder / "mixed")]) == 2
    assert "different secrets" in capsys.readouterr().err
    assert not (four.folder / "mixed").exists()


def test_what_was_handed_in_anew_is_graded_anew(four) -> None:
    for name in ("right.ipynb", "wrong.ipynb"):
        (four.handed_in / name).unlink()
    assert four.grade("out") == 0
    (four.handed_in / "starter.ipynb").write_bytes(SOLVED)
    assert four.grade("out", "--resume") == 0
    assert [(record.student, record.points) for record in four.records("out")] == [
        ("starter", 0),
        ("words", 0),
        ("starter", POINTS),
    ]
    assert {record.student: record.points for record in Records(four.folder / "out").counting()} == {
        "starter": POINTS,
        "words": 0,
    }


# --- several at one folder


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Class:
    """Students without a notebook: for them nothing is run, so it is quick."""
    monkeypatch.setattr(results, "PATIENCE", 0.05)
    a_class = Class(tmp_path)
    for name in ("ada", "bo", "cy"):
        a_class.hand_in(name)
    return a_class


def test_two_runs_do_not_work_in_one_folder(empty, capsys) -> None:
    out = empty.folder / "out"
    with Records(out).at_work():
        assert empty.grade("out") == 1
        assert f"another run is at work in {out} (part 1 of 1)" in capsys.readouterr().err
    with Records(out, part="2-of-3").at_work():
        assert empty.grade("out") == 1
        assert "(part 2 of 3)" in capsys.readouterr().err
        assert empty.grade("out", "--shard", "2/3") == 1
        assert empty.grade("out", "--shard", "1/3") == 0, "parts are graded side by side"
        assert empty.grade("out", "--shard", "3/3") == 0
        assert cli.main(["grades", "merge", str(out), "--out", str(empty.folder / "all")]) == 1
        assert "(part 2 of 3)" in capsys.readouterr().err
    assert [record.student for record in empty.records("out")] == ["ada", "cy"]
    assert empty.grade("out", "--resume") == 0
    assert len(empty.marks("out")) == 3


def test_a_run_that_was_killed_keeps_nobody_waiting(empty) -> None:
    out = empty.folder / "out"
    hold = "import sys, pathlib; from segcourse.grading.results import Records\n"
    hold += "with Records(pathlib.Path(sys.argv[1])).at_work(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert empty.grade("out") == 1
        process.kill()
        process.wait()
        assert empty.grade("out") == 0


def test_a_secret_is_made_once_and_never_shown(tmp_path, monkeypatch) -> None:
    (tmp_path / "records").mkdir()
    modes, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda old, new: (modes.append(stat.S_IMODE(os.stat(old).st_mode)), replace(old, new))
    )
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda out: command.read_secret(command.make_secret(out)), [tmp_path] * 8))
    assert len(found) == 1
    assert modes == [0o600]
    assert {path.name for path in tmp_path.iterdir()} == {"records", command.SECRET}


# --- where results go, and what a run says


def test_results_are_not_mixed_with_other_files(empty, capsys) -> None:
    out = empty.folder / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert empty.grade("other") == 0
    merge = ["grades", "merge", str(empty.folder / "other"), "--out", str(out)]
    for run in (lambda: empty.grade("out"), lambda: empty.grade("out", "--resume"), lambda: cli.main(merge)):
        assert run() == 2
        said = capsys.readouterr().err
        assert "no results of grading (thesis.txt). Choose a new or an empty folder" in said
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").rename(out / command.SECRET)
    (out / command.SECRET).write_text("the secret of this class")
    assert empty.grade("out") == 0, "a secret may be there first"
    (empty.folder / "void").mkdir()
    assert empty.grade("void") == 0
    assert empty.grade("secret") == 2
    assert "is a file" in capsys.readouterr().err


def test_what_is_to_be_done_is_counted_and_why(empty, capsys) -> None:
    assert empty.grade("out") == 0
    assert "already" not in capsys.readouterr().out
    for name in ("dee", "eve"):
        empty.hand_in(name)
    assert empty.grade("out", "--resume", "--jobs", "2") == 0
    said = capsys.readouterr().out
    assert "3 of 5 have a result already; 2 left to grade.\n" in said
    assert sorted(line.split()[0] for line in said.splitlines() if "no notebook" in line and "/" in line[:2]) == [
        "1/2",
        "2/2",
    ]
    empty.secret.write_text("another secret of this class")
    assert empty.grade("out", "--resume") == 0
    said = capsys.readouterr().out
    assert "5 were graded before, but with another secret or other exercises: they are graded again.\n" in said
    assert "already" not in said


def test_a_run_that_is_stopped_says_how_far_it_came(empty, monkeypatch, capsys) -> None:
    """The second one of three is interrupted; so is a run in several jobs, whose processes are then ended."""
    ignored = []
    monkeypatch.setattr(command, "ignore_interrupts", lambda: ignored.append(True))
    graded = command.Grader.grade

    def interrupted(self, submission):
        if submission.student == "bo":
            raise KeyboardInterrupt
        return graded(self, submission)

    with monkeypatch.context() as patch:
        patch.setattr(command.Grader, "grade", interrupted)
        assert empty.grade("out") == 130
    said = capsys.readouterr()
    assert said.err == "segcourse: stopped after 1 of 3; the same command with --resume goes on\n"
    assert ignored
    assert "1/3 ada" in said.out
    assert empty.grade("out", "--resume") == 0
    assert "2/2 cy" in capsys.readouterr().out
    assert len(empty.marks("out")) == 3


def test_ctrl_c_twice_is_one_line(tmp_path) -> None:
    """As a terminal sends it, to all processes in its foreground."""
    a_class = Class(tmp_path, "right.ipynb", "wrong.ipynb", "starter.ipynb")
    for number in range(3):
        (a_class.handed_in / f"x{number}.ipynb").write_bytes(SUBMISSIONS["loop.ipynb"])
    order = ["grade", "01", str(a_class.handed_in), "--out", str(tmp_path / "out"), "--jobs", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "segcourse.cli", *order],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith("1/6 "):
            assert process.poll() is None
        there = family(process.pid)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        said = process.stderr.read()
        assert process.wait(20) == 130
    assert re.fullmatch(r"segcourse: stopped after [1-5] of 6; the same command with --resume goes on\n", said), said
    patience = time.monotonic() + 20
    while any(map(alive, there)):
        assert time.monotonic() < patience, "processes live on"
        time.sleep(0.05)


# --- students come and go


def test_most_of_a_class_is_not_dropped_silently(empty, capsys) -> None:
    for name in ("dee", "eve", "flo"):
        empty.hand_in(name)
    assert empty.grade("out") == 0
    before = {path: path.read_bytes() for path in (empty.folder / "out").rglob("*") if path.is_file()}
    for name in ("bo", "cy", "dee", "eve"):
        shutil.rmtree(empty.handed_in / name)
    empty.hand_in("gil")
    capsys.readouterr()
    assert empty.grade("out", "--resume") == 1
    said = capsys.readouterr()
    assert f"4 of 6 students graded before are not in {empty.handed_in} now: bo, cy, dee, eve." in said.err
    assert "FOLDER must hold everybody's files" in said.err
    assert "choose another --out" in said.err
    assert said.out == ""
    assert {path: path.read_bytes() for path in (empty.folder / "out").rglob("*") if path.is_file()} == before
    empty.hand_in("bo")
    assert empty.grade("out", "--resume") == 0, "half of the class may leave it"
    assert empty.table("out") == ["ada", "bo", "flo", "gil"]


def test_who_is_no_longer_among_the_submissions_does_not_count(empty, capsys) -> None:
    assert empty.grade("out") == 0
    (empty.handed_in / "cy").rename(empty.handed_in / "cy_4711_assignsubmission_file_")
    empty.hand_in("cy_4712_assignsubmission_file_")
    capsys.readouterr()
    for _ in range(2):
        assert empty.grade("out", "--resume") == 0
        assert empty.table("out") == ["ada", "bo", "cy-4711", "cy-4712"]
    said = capsys.readouterr().out
    assert said.count("no longer in tables and pages: cy.") == 1
    assert [record.status for record in empty.records("out")].count("no notebook") == 5, "its record is kept"
    assert cli.main(["grades", "merge", str(empty.folder / "out"), "--out", str(empty.folder / "all")]) == 0
    assert empty.table("all") == empty.table("out")

    shutil.rmtree(empty.handed_in)
    for name in ("ada", "cy"):
        empty.hand_in(name)
    assert empty.grade("out", "--resume") == 0
    assert empty.table("out") == ["ada", "cy"], "who comes back counts again"


def test_one_name_after_another_is_graded_anew(empty) -> None:
    """The same empty folder, but another student's."""
    for number in ("4711", "4712"):
        shutil.rmtree(empty.handed_in)
        empty.hand_in(f"cy_{number}_assignsubmission_file_")
        assert empty.grade("out", "--resume") == 0
        assert [(one.student, one.identifier) for one in Records(empty.folder / "out").counting()] == [("cy", number)]


def test_a_folder_is_of_one_lesson(empty, capsys) -> None:
    assert empty.grade("out") == 0
    other = ["grade", "02", str(empty.handed_in), "--out", str(empty.folder / "out"), "--resume"]
    assert cli.main(other) == 2
    assert f"holds results of {LESSON}" in capsys.readouterr().err
    assert len(empty.marks("out")) == 3


def test_who_has_no_result_is_named(empty, monkeypatch, capsys) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(command, "run_jobs", lambda *_: 1)  # a job that was killed, for want of memory say
        assert empty.grade("out", "--jobs", "2") == 1
    assert "No result yet: ada, bo, cy. Run the same command with --resume." in capsys.readouterr().out
    assert empty.grade("out", "--resume") == 0
    assert "No result yet" not in capsys.readouterr().out


def test_a_part_may_be_empty_and_merged(empty) -> None:
    for part in range(1, 5):
        assert empty.grade(f"part{part}", "--shard", f"{part}/4") == 0
    parts = [str(empty.folder / f"part{part}") for part in range(1, 5)]
    assert cli.main(["grades", "merge", *parts, "--out", str(empty.folder / "all")]) == 0
    assert empty.table("all") == ["ada", "bo", "cy"]


def test_by_hand_after_parts_is_listed_as_after_one_run(empty, monkeypatch, capsys) -> None:
    keys = {"grade_id": "why", "grade": True, "solution": True, "points": 4, "locked": False, "schema_version": 3}
    lesson = json.loads(RELEASED.read_bytes())
    lesson["cells"].append({"cell_type": "markdown", "id": "why", "source": "", "metadata": {"nbgrader": keys}})
    (empty.folder / "lessons").mkdir()
    (empty.folder / "lessons" / f"{LESSON}.ipynb").write_text(json.dumps(lesson))
    monkeypatch.chdir(empty.folder)
    assert empty.grade("once") == 0
    capsys.readouterr()
    for part in ("1", "2"):
        assert empty.grade(part, "--shard", f"{part}/2") == 0
    assert cli.main(["grades", "merge", *(str(empty.folder / part) for part in "12"), "--out", "all"]) == 0
    assert "To finish, grade everything" in capsys.readouterr().out
    assert "3 students not listed yet" in (empty.folder / "all" / "report.html").read_text("utf-8")
    assert empty.grade("all", "--resume") == 0
    listed = [(empty.folder / out / "by_hand.csv").read_bytes() for out in ("once", "all")]
    assert listed[0] == listed[1]
    assert listed[0].count(b'"why"') == 3


def test_what_is_left_to_mark_by_hand_is_said(tmp_path, capsys) -> None:
    records = [Record(name, "", LESSON, status) for name, status in (("ada", "graded"), ("bo", "no notebook"))]
    rows = ["student,task,points,of,comment", "ada,why,,4,", "ada,how,2,3,", "bo,why,,4,", "bo,how,,3,"]
    (tmp_path / "by_hand.csv").write_text("\n".join(rows))
    command.say_what_is_marked_by_hand(tmp_path, records)
    assert capsys.readouterr().out == f"1 answer to mark by hand: {short(tmp_path / 'by_hand' / 'index.html')}\n"
    (tmp_path / "by_hand.csv").write_text("\n".join([*rows[:1], "ada,why,0,4,", *rows[2:]]))
    command.say_what_is_marked_by_hand(tmp_path, records)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not shutil.which("parallel"), reason="needs GNU parallel, which is not installed here")
def test_gnu_parallel_and_merge_are_one_run(four, graded) -> None:
    """As docs/grading.md says it."""
    segcourse = f"{sys.executable} -m segcourse.cli"
    command = f"{segcourse} grade 01 'handed in' --out part{{}} --shard {{}}/3 --seed-file secret --time 2"
    done = subprocess.run(
        ["parallel", "--jobs", "2", command, ":::", "1", "2", "3"], cwd=four.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    parts = [str(four.folder / f"part{part}") for part in (1, 2, 3)]
    assert cli.main(["grades", "merge", *parts, "--out", str(four.folder / "all")]) == 0
    once = graded.marks("out")
    assert four.marks("all") == {name: once[name] for name in ("right", "starter", "words", "wrong")}


# --- what is refused


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--memory", "lots"], "'lots' is no size"),
        (["--memory", "0"], "no size"),
        (["--memory", "2"], "'2' is 2 bytes; 64M is the least. For two gigabytes write 2G."),
        (["--shard", "3/2"], "'3/2' is no part of a whole"),
        (["--shard", "0/2"], "no part"),
        (["--shard", "half"], "write 2/8"),
        (["--sandbox", "strong"], "choose from"),
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "many"], "--jobs"),
        (["--time", "0"], "--time"),
        (["--time", "nan"], "--time"),
        (["--sandbox", "limits"], "--trust"),
    ],
)
def test_what_cannot_be_is_refused(four, words, says, capsys) -> None:
    try:
        code = four.grade("out", *words)
    except SystemExit as left:  # argparse
        code = left.code
    assert code == 2
    assert says in capsys.readouterr().err
    assert not (four.folder / "out").exists()


def test_without_walls_nothing_is_run(four, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "strongest", Isolation)
    assert four.grade("out") == 2
    assert "--trust" in capsys.readouterr().err
    assert four.grade("out", "--sandbox", "full") == 2
    assert not (four.folder / "out").exists()


def test_nothing_to_grade_and_no_secret_are_said(four, capsys) -> None:
    four.secret.write_text("short")
    assert four.grade("out") == 2
    assert "5 bytes; a secret has 8 or more" in capsys.readouterr().err
    four.secret.unlink()
    assert four.grade("out") == 2
    assert "seed file" in capsys.readouterr().err
    assert not (four.folder / "out").exists()
    assert four.grade("handed in/out") == 2
    assert "choose one outside" in capsys.readouterr().err
    four.secret.write_text("the secret of this class")
    shutil.rmtree(four.handed_in)
    assert four.grade("out") != 0
    assert "There is no" in capsys.readouterr().err
    assert cli.main(["grades", "merge", str(four.folder), "--out", str(four.folder / "all")]) == 2
    assert "holds no records" in capsys.readouterr().err


def test_a_secret_is_made_for_those_who_bring_none(four) -> None:
    for name in ("right.ipynb", "starter.ipynb", "wrong.ipynb"):
        (four.handed_in / name).unlink()
    out = four.folder / "out"
    assert cli.main(["grade", LESSON, str(four.handed_in), "--out", str(out)]) == 0
    secret = (out / command.SECRET).read_bytes()
    assert len(secret.strip()) == 64
    assert (out / command.SECRET).stat().st_mode & 0o077 == 0
    assert cli.main(["grade", LESSON, str(four.handed_in), "--out", str(out), "--resume"]) == 0
    assert (out / command.SECRET).read_bytes() == secret
    assert len(Records(out).history()) == 1


def test_nothing_lies_where_submissions_can_read_it(tmp_path, capsys):
    made = Class(tmp_path, "right.ipynb")
    place = Path(sys.prefix) / "graded"
    assert cli.main(["grade", "01", str(made.handed_in), "--out", str(place)]) == 2
    assert "every submission can read" in capsys.readouterr().err
    assert not place.exists()
