"""One submission's way through the grader, where time, size or cells left out matter."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grading.bank import ALL, LESSON, cells, code, content, public_cases

from segcourse.grading import grade, runner
from segcourse.grading.intake import Submission
from segcourse.grading.results import Record
from segcourse.grading.runner import Worker
from segcourse.grading.sandbox import strongest

RELEASED = Path(__file__).resolve().parents[2] / "lessons" / f"{LESSON}.ipynb"
PRODUCT = "return __import__('math').prod(strides)"


@pytest.fixture(scope="module")
def grader() -> Iterator[grade.Grader]:
    isolation = strongest()
    if not isolation.hides_files:
        pytest.skip("this machine offers no isolation that hides its files, so nothing is graded here")
    with grade.Grader(LESSON, RELEASED, b"a secret", isolation) as made:
        yield made


def graded(grader: grade.Grader, *before: str, **changed: str) -> Record:
    """The record of a right notebook, with these cells before the answers, and answers that are changed."""
    setup, *answers = cells(**changed)
    data = json.dumps(content([setup, *map(code, before), *answers])).encode()
    return grader.grade(Submission("ann", "a.ipynb", loader=lambda: data))


def lost(record: Record) -> set[str]:
    return {result.name for result in record.results if result.points < result.of}


def stride(*lines: str) -> str:
    """An answer to `compound_stride` with these lines."""
    return "import time\ndef compound_stride(strides):\n    " + "\n    ".join(lines)


def test_a_slow_answer_earns_its_points(grader: grade.Grader) -> None:
    assert not lost(graded(grader, compound_stride=stride("time.sleep(0.05)", PRODUCT)))


def test_an_answer_too_slow_for_a_judgement_is_told_so(grader: grade.Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grader, "_seconds", 1.0)
    record = graded(grader, compound_stride=stride("time.sleep(0.4)", PRODUCT))
    assert lost(record) == {"compound_stride"}
    card = next(result.card for result in record.results if result.name == "compound_stride")
    assert "very slow" in str(card)


def test_a_submission_has_a_time_of_its_own(grader: grade.Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grade, "LEAST_SECONDS", 2.0)
    monkeypatch.setattr(grader, "_seconds", 0.2)
    endless = "def {}(*given):\n    while True:\n        try: time.sleep(9)\n        except BaseException: pass"
    loops = {name: f"import time\n{endless.format(name)}" for name in ALL}
    began = time.monotonic()
    record = graded(grader, **loops)
    assert time.monotonic() - began < 6
    assert lost(record) == ALL
    assert any("the time for the whole submission was up" in note for note in record.notes)


def test_what_an_answer_may_return_is_bounded_in_all(grader: grade.Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grade, "MOST_BYTES", 100)
    record = graded(grader)
    assert "compound_stride" in lost(record)
    assert "too large" in str(record.results)


@pytest.mark.parametrize(
    "own",
    [
        "table = [0]\ndef fill(to): to[0] = 1\nfill(table)",
        "import heapq\ntable = []\nheapq.heappush(table, 1)",
        "table = []\n[table.append(1) for _ in range(1)]",
        "table = [0]\nother = table\nother[0] = 1",
    ],
)
def test_an_answer_gets_what_its_own_cells_have_changed(own: str, grader: grade.Grader) -> None:
    answer = stride("if not table or table[0] != 1: raise ValueError(table)", PRODUCT)
    record = graded(grader, own, compound_stride=answer)
    assert not lost(record)
    assert any("other cells are run before it" in note for note in record.notes)


def test_a_long_table_is_no_tampering(grader: grade.Grader) -> None:
    tables = [f"table_{number} = [{'1,' * 45_000}]" for number in range(5)]  # 225,000 commas
    answer = stride("; ".join(f"table_{number}" for number in range(5)), PRODUCT)
    record = graded(grader, *tables, compound_stride=answer)
    assert not lost(record), record.notes
    assert not record.tampering


def test_annotations_are_not_computed(grader: grade.Grader) -> None:
    answer = f"def compound_stride(strides: Sequence[int]) -> Whole:\n    {PRODUCT}"
    assert not lost(graded(grader, compound_stride=answer))


def test_without_a_fork_each_submission_has_a_worker_of_its_own(grader: grade.Grader) -> None:
    with grade.Grader(LESSON, RELEASED, b"a secret", strongest()) as cold:
        cold._worker = Worker(strongest(), forks=False)
        record = graded(cold, compound_stride=stride("return sum(strides)"))
    expected = graded(grader, compound_stride=stride("return sum(strides)"))
    assert record.marks == expected.marks
    assert lost(record) == {"compound_stride"}


EXTRAS = {
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor\nlist(ThreadPoolExecutor(2).map(abs, [1]))",
    "a pool of processes": "import multiprocessing\nmultiprocessing.Pool(2).map(abs, [1])",
    "a loader": "from torch.utils.data import DataLoader\nlist(DataLoader([1, 2], num_workers=2))",
    "a program": "import subprocess\nsubprocess.run(['true'])",
    "a file": "import tempfile\ntempfile.TemporaryFile()",
    "a loop of events": "import asyncio\nasync def one(): return 1\nasyncio.run(one())",
}


def test_what_the_guide_says_an_answer_cannot_do(grader: grade.Grader) -> None:
    tries = "\n".join(
        f"try:\n    exec({text!r}, {{}})\n    went_through.append({name!r})\nexcept Exception:\n    pass"
        for name, text in EXTRAS.items()
    )
    answer = stride("if went_through: raise ValueError(went_through)", PRODUCT)
    record = graded(grader, f"went_through = []\n{tries}", compound_stride=answer)
    assert not lost(record), record.results


def test_a_cell_that_fails_is_named_and_the_answers_count(grader: grade.Grader) -> None:
    helper = "def product(values):\n    result = 1\n    for value in values: result *= value\n    return result"
    record = graded(
        grader,
        f"{helper}\nopen('a file', 'w')\nproduct.open = open('a file', 'w')",
        compound_stride=stride("return product(strides)"),
    )
    assert not lost(record)
    assert any(note.startswith("cell 2: ") for note in record.notes), record.notes  # which error depends on the level


def test_another_lesson_is_not_graded_as_this_one(grader: grade.Grader) -> None:
    data = (RELEASED.parent / "02_transposed.ipynb").read_bytes()
    record = grader.grade(Submission("ann", "a.ipynb", loader=lambda: data))
    assert record.status == "no notebook"
    assert "This is the notebook of 02_transposed" in " ".join(record.notes)


def test_this_lesson_is_graded_whatever_stands_in_it(grader: grade.Grader) -> None:
    record = graded(grader, **{name: f"def {name}(*given):\n    return (" for name in ALL})  # no cell can be read
    assert record.status == "graded"
    assert lost(record) == ALL


def test_an_answer_that_fails_by_another_is_told_so(grader: grade.Grader) -> None:
    helper = stride("return sum(strides)")
    user = "def compound_kernel(*given):\n    return compound_stride(given)"
    record = graded(grader, compound_stride=helper, compound_kernel=user)
    cards = {result.name: result.card["lines"] for result in record.results}
    assert "It uses your `compound_stride`" in cards["compound_kernel"][0]
    assert "It uses" not in str(cards["compound_stride"])


def test_a_failure_on_secret_inputs_tells_nothing_but_that(grader: grade.Grader) -> None:
    known = {tuple(case["strides"]) for case in public_cases()}
    answer = stride(f"return {PRODUCT.split(' ', 1)[1]} if tuple(strides) in {known} else sum(strides)")
    record = graded(grader, compound_stride=answer)
    result = next(result for result in record.results if result.name == "compound_stride")
    assert (result.outcome, result.diagnosis) == ("not yet", "")
    assert len(result.card["lines"]) == 1
    assert not record.notes


@pytest.mark.parametrize("path", [sys.prefix, str(Path(sys.prefix) / "class"), "/usr/share"])
def test_what_lies_in_pythons_folders_is_open(path: str) -> None:
    assert runner.is_open(Path(path))
    assert not runner.is_open(RELEASED)
