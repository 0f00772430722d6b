"""A run that is killed at any moment and resumed leaves the records of an unbroken one: none lost, none double.

Three kills here; SEGCOURSE_KILLS=20 in the environment asks for more.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from grading.handed_in import a_class, alive, expected, family, notebook

from segcourse import cli
from segcourse.grading.results import Records
from segcourse.grading.sandbox import strongest

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("SEGCOURSE_KILLS", "3"))
STUDENTS = a_class(8 + 4 * KILLS)


@pytest.fixture(scope="module", autouse=True)
def can_be_graded_here():
    if not strongest().hides_files:
        pytest.skip("this machine offers no isolation that hides its files, so nothing is graded here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Many submissions, and the results of an unbroken run in `whole`."""
    folder = tmp_path_factory.mktemp("class")
    (folder / "handed in").mkdir()
    for student, answers in STUDENTS.items():
        (folder / "handed in" / f"{student}.ipynb").write_bytes(notebook(answers))
    (folder / "secret").write_text("the secret of this class")
    assert cli.main(order(folder, "whole")) == 0
    return folder


def order(folder: Path, out: str, *more: str) -> list[str]:
    where = ["--out", str(folder / out), "--seed-file", str(folder / "secret")]
    return ["grade", "01", str(folder / "handed in"), *where, *more]


def marks(folder: Path, out: str) -> list[dict[str, Any]]:
    """Of every record that was ever written: a double one would be seen."""
    return sorted((record.marks for record in Records(folder / out).history()), key=lambda one: one["student"])


def start_and_kill(command: list[str], draw: random.Random, alone: bool) -> set[int]:
    """Begin; kill the process group, or its first process alone, at some moment; return what processes there were."""
    run = subprocess.Popen(
        [sys.executable, "-m", "segcourse.cli", *command], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout is not None
    for _ in range(draw.choice([1, 2, 3, 4])):
        run.stdout.readline()
    time.sleep(draw.uniform(0, 0.2))
    there = family(run.pid)
    (os.kill if alone else os.killpg)(run.pid, signal.SIGKILL)
    run.stdout.close()
    assert run.wait() == -signal.SIGKILL, "it had ended before it was killed: the class is too small"
    return there


def test_an_unbroken_run_gives_what_was_deserved(folder) -> None:
    assert {record.student: record.points for record in Records(folder / "whole").history()} == {
        student: expected(answers) for student, answers in STUDENTS.items()
    }


def test_killed_at_random_moments_and_resumed(folder) -> None:
    draw = random.Random(KILLS)
    whole = marks(folder, "whole")
    for kill in range(KILLS):
        jobs, alone = str(1 + kill % 2), kill % 4 in (1, 2)
        there = start_and_kill(order(folder, "broken", "--resume", "--jobs", jobs), draw, alone)
        patience = time.monotonic() + 20
        while any(map(alive, there)):
            assert time.monotonic() < patience, "processes live on after the kill"
            time.sleep(0.05)
        so_far = marks(folder, "broken")
        assert all(one in whole for one in so_far)
        print(f"kill {kill + 1}, {jobs} jobs: {len(so_far)} of {len(whole)} records")
    assert len(so_far) < len(whole)
    assert cli.main(order(folder, "broken", "--resume")) == 0
    assert marks(folder, "broken") == whole
    tables = [(folder / out / "grades.csv").read_bytes() for out in ("broken", "whole")]
    assert tables[0] == tables[1]


def test_killed_in_the_middle_of_a_line(folder) -> None:
    """The moment that is hard to hit: the file ends anywhere in the last record."""
    whole = marks(folder, "whole")
    lines = (folder / "whole" / "records" / "1-of-1.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "torn" / "records").mkdir(parents=True)
    torn = folder / "torn" / "records" / "1-of-1.jsonl"
    torn.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    assert len(marks(folder, "torn")) == len(whole) - 1
    assert cli.main(order(folder, "torn", "--resume")) == 0
    assert marks(folder, "torn") == whole
