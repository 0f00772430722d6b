"""What a person marks: cells are found and shown without harm, marks are never lost."""

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest
from grading.made_up import HOSTILE
from grading.test_pages import Reader, read_safely

from segcourse.grading import by_hand
from segcourse.grading.by_hand import answers_in, marks_in, read_marks, tasks_of, update_marks, write_by_hand
from segcourse.grading.reading import UnreadableError
from segcourse.grading.tables import Mark, TableError, cell, hand


def png(width=2, height=2) -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(6))) + chunk(b"IEND", b"")


def picture(data: bytes) -> dict:
    return {"output_type": "display_data", "data": {"image/png": base64.b64encode(data).decode(), "text/plain": "Fig"}}


def manual(name, source, points=4, outputs=(), **more) -> dict:
    keys = {"grade_id": name, "grade": True, "solution": True, "points": points, "locked": False, "schema_version": 3}
    kind = "code" if outputs else "markdown"
    return {"cell_type": kind, "id": f"id-{name}", "source": source, "outputs": list(outputs),
            "metadata": {"nbgrader": {**keys, **more}}}  # fmt: skip


def text_cell(source) -> dict:
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def notebook(*cells) -> bytes:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


RELEASED = notebook(
    text_cell("# Lesson"),
    manual("checked", "def f(): ...", grade=False),
    manual("check-f", "check.f(f)", solution=False),
    text_cell("Why does the field grow?"),
    manual("why", "YOUR ANSWER HERE"),
    text_cell("Plot it."),
    manual("plot", "# YOUR CODE HERE", points=2.5),
)
TASKS = tasks_of(RELEASED)


def answers(**texts):
    return [a for student, text in texts.items() for a in answers_in(student, handed_in(text), TASKS)]


def handed_in(text="", outputs=()):
    cells = [manual("why", text), manual("plot", "plot()", outputs=outputs)]
    return lambda: notebook(*cells)


# --- finding the cells


def test_tasks_are_the_released_notebooks_manual_cells():
    assert [(t.name, t.of, t.released, t.asks) for t in TASKS] == [
        ("why", 4, "YOUR ANSWER HERE", "Why does the field grow?"),
        ("plot", 2.5, "# YOUR CODE HERE", "Plot it."),
    ]
    with pytest.raises(UnreadableError):
        tasks_of(b"nothing")


def test_the_lessons_have_none_so_far(tmp_path):
    for lesson in sorted((Path(__file__).parents[2] / "lessons").glob("*.ipynb")):
        assert tasks_of(lesson.read_bytes()) == []
        write_by_hand(tmp_path, lesson.read_bytes(), {"Ada": None})
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_found_by_its_name_or_by_its_id():
    by_name = manual("why", "Mine") | {"id": "changed"}
    by_id = manual("why", "Mine") | {"metadata": {}}
    for one in (by_name, by_id):
        first, second = answers_in("Ada", lambda one=one: notebook(one), TASKS)
        assert (first.text, first.note) == ("Mine", "")
        assert "not in the notebook" in second.note


def test_what_a_submission_says_of_its_points_is_not_read():
    greedy = [manual("why", "Mine", points=1000), manual("extra", "More", points=1000)]
    found = answers_in("Ada", lambda: notebook(*greedy), TASKS)
    assert [a.task for a in found] == ["why", "plot"]


def test_an_unwritten_answer_is_said_to_be():
    assert answers(Ada=" YOUR ANSWER HERE\n")[0].note == "As it was released: nothing was written."


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"cells": 3}',
        notebook({"cell_type": "markdown", "metadata": {"nbgrader": 3}, "source": 4}),
        notebook(manual("why", ["a", 3, None]) | {"outputs": [3, {"data": []}, {"data": {"image/png": {"a": 1}}}]}),
        notebook(manual("why", "x", outputs=[{"text": {"a": 1}, "evalue": 3}])),
    ],
)
def test_any_bytes_give_an_answer_for_each_task(data):
    found = answers_in("Ada", lambda: data, TASKS)
    assert [a.task for a in found] == ["why", "plot"]
    assert answers_in("Ada", None, TASKS)[0].note == "There is no notebook."


def test_output_and_pictures_are_bounded():
    found = answers_in("Ada", handed_in(outputs=[picture(png())] * 9 + [{"text": "x" * 100_000}]), TASKS)[1]
    assert found.pictures == (png(),) * by_hand.MAX_PICTURES
    assert len(found.outputs) < by_hand.MAX_TEXT + 50
    assert "Only the first 3 of 9 pictures" in found.note


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<svg onload=alert(1)>", "it is no PNG"),
        (png(60_000, 60_000), "it has 60000 x 60000 pixels"),
        (png() + bytes(500_000), "it has 500 kB"),
    ],
)
def test_a_picture_that_could_do_harm_is_not_shown(data, says):
    found = answers_in("Ada", handed_in(outputs=[picture(data)]), TASKS)[1]
    assert found.pictures == ()
    assert says in found.note


# --- the table of marks


def test_marks_are_kept_when_students_come_and_go(tmp_path):
    table = tmp_path / "by_hand.csv"
    update_marks(table, answers(Ada="a", Bo="b"), TASKS)
    assert table.read_bytes().startswith(
        b'\xef\xbb\xbf"student","task","points","of","comment","answer","identifier"\r\n'
    )
    marks = read_marks(table)
    assert [(m.student, m.task, m.points, m.of) for m in marks] == [
        ("Ada", "why", None, 4), ("Ada", "plot", None, 2.5), ("Bo", "why", None, 4), ("Bo", "plot", None, 2.5),
    ]  # fmt: skip
    text = table.read_text("utf-8-sig").replace('"Bo","why","","4",""', '"Bo","why","3.5","4","Clear, but short."')
    table.write_text(text, "utf-8-sig")
    before = table.read_bytes()
    marks = update_marks(table, answers(Ada="a", Cy="c"), TASKS)
    assert [(m.student, m.points) for m in marks] == [
        ("Ada", None), ("Ada", None), ("Cy", None), ("Cy", None), ("Bo", 3.5),
    ]  # fmt: skip
    assert (tmp_path / "by_hand.before.csv").read_bytes() == before
    marks = update_marks(table, answers(Ada="a", Bo="b", Cy="c"), TASKS)
    assert next(m for m in marks if m.points is not None).comment == "Clear, but short."


def test_a_mark_follows_the_number_and_not_the_name(tmp_path):
    table = tmp_path / "by_hand.csv"

    def hand_in(**students):
        """Names and numbers; returns the points that each has."""
        files = {name: handed_in("x") for name in students}
        write_by_hand(tmp_path, RELEASED, files, students)
        return {name: hand(marks_in(tmp_path, students), name)[0] for name in students}

    def give(name, points):
        table.write_text(table.read_text("utf-8-sig").replace(f'"{name}","why",""', f'"{name}","why","{points}"'))

    hand_in(Ada="123456789012")
    give("Ada", 3)
    assert '"id-123456789012"' in table.read_text("utf-8"), "a spreadsheet would round the number alone"
    assert hand_in(Ada="12") == {"Ada": 0}, "another student of this name"
    give("Ada", 1)
    two = {"Ada-12": "12", "Ada-123456789012": "123456789012"}
    for _ in range(2):
        assert hand_in(**two) == {"Ada-12": 1, "Ada-123456789012": 3}
    assert len(read_marks(table)) == 4
    assert hand_in(**{name: "" for name in two}) == {"Ada-12": 1, "Ada-123456789012": 3}, "no numbers are known now"


def test_a_table_without_numbers_is_read_by_names(tmp_path):
    (tmp_path / "by_hand.csv").write_text("student,task,points,of\nAda,why,3,4\n", "utf-8")
    assert hand(marks_in(tmp_path, {"Ada": "11"}), "Ada") == (3, 4)
    write_by_hand(tmp_path, RELEASED, {"Ada": handed_in("x")}, {"Ada": "11"})
    assert hand(marks_in(tmp_path, {"Ada-11": "11"}), "Ada-11") == (3, 6.5)


def test_nothing_is_written_where_nothing_changes(tmp_path):
    table = tmp_path / "by_hand.csv"
    for _ in range(3):
        update_marks(table, answers(Ada="a", Bo="b"), TASKS)
    assert list(tmp_path.iterdir()) == [table]


def test_names_that_look_like_formulas_keep_their_marks(tmp_path):
    table = tmp_path / "by_hand.csv"
    names = dict.fromkeys((cell(h).strip() for h in HOSTILE), "")
    given = [a for name in names for a in answers_in(name, handed_in("x"), TASKS)]
    for _ in range(2):
        marks = update_marks(table, given, TASKS)
        assert len(marks) == 2 * len(names)
        table.write_text(table.read_text("utf-8-sig").replace('"why",""', '"why","3"'), "utf-8-sig")
    assert sum(m.points == 3 for m in read_marks(table)) == len(names)
    assert all(hand(marks_in(tmp_path, names), name) == (3, 6.5) for name in names)


@pytest.mark.parametrize(("separator", "encoding"), [(";", "cp1252"), ("\t", "utf-16"), (",", "utf-8")])
def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path, separator, encoding):
    table = tmp_path / "by_hand.csv"
    rows = [("Student", "task", "points", "of", "comment", "answer"), ("Jörg", "why", '"3,5"', "4", "Schön", "v-1")]
    table.write_bytes("\r\n".join(separator.join(row) for row in rows).encode(encoding))
    assert read_marks(table) == [Mark("Jörg", "why", 3.5, 4, "Schön", "v-1")]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["Ada,why,3,4,,", "Ada,why,2,4,,"], "stand there twice"),
        (["Ada,why,5,4,,"], "row 2: 5 of 4 points"),
        (["Ada,why,-1,4,,"], "'-1' is no number"),
        (["Ada,why,good,4,,"], "'good' is no number"),
        (["Ada,why,1e5,4,,"], "'1e5' is no number"),
        (["Ada,why,3,5,,"], "why gives 4 points now; Ada was given 3 of 5"),
    ],
)
def test_a_table_that_is_not_understood_is_refused_and_left_alone(tmp_path, rows, says):
    table = tmp_path / "by_hand.csv"
    table.write_text("\n".join(["student,task,points,of,comment,answer", *rows]), "utf-8")
    before = table.read_bytes()
    with pytest.raises(TableError, match=says):
        update_marks(table, answers(Ada="a"), TASKS)
    assert table.read_bytes() == before
    assert list(tmp_path.iterdir()) == [table]


def test_a_table_without_its_columns_is_refused(tmp_path):
    table = tmp_path / "by_hand.csv"
    table.write_text("name,points\nAda,3\n", "utf-8")
    with pytest.raises(TableError, match="has no column student, task, of"):
        read_marks(table)
    table.write_bytes(b"")
    with pytest.raises(TableError, match="has no column"):
        marks_in(tmp_path, {"Ada": ""})


def test_the_same_row_twice_is_no_conflict(tmp_path):
    table = tmp_path / "by_hand.csv"
    table.write_text("student,task,points,of\nAda,why,3,4\nAda,why,3,4\n\n,,,\n", "utf-8")
    assert read_marks(table) == [Mark("Ada", "why", 3, 4)]


# --- the pages


def test_pages_list_what_students_wrote(tmp_path):
    files = {text: handed_in(text, [picture(png())]) for text in dict.fromkeys(cell(h).strip() for h in HOSTILE)}
    write_by_hand(tmp_path, RELEASED, files | {"Nobody": None})
    index = read_links(tmp_path / "by_hand" / "index.html")
    assert index == ["01-01.html", "02-01.html"]
    why = read_safely((tmp_path / "by_hand" / "01-01.html").read_bytes())
    for text in (*(f[:120] for f in files), "Why does the field grow?", "There is no notebook.", "Not marked yet"):
        assert text.replace("\r", "\n") in why.text
    plot = read_safely((tmp_path / "by_hand" / "02-01.html").read_bytes())
    assert sum(name == "src" for name, _ in plot.attributes) == len(files)


def read_links(path):
    return [value for name, value in Reader(path.read_bytes()).attributes if name == "href"]


def test_large_classes_are_split_over_pages(tmp_path):
    write_by_hand(tmp_path, RELEASED, {f"student {i:03}": handed_in("x") for i in range(60)})
    assert read_links(tmp_path / "by_hand" / "index.html")[:3] == ["01-01.html", "01-02.html", "01-03.html"]


def test_a_page_says_when_an_answer_changed_after_it_was_marked(tmp_path):
    def shown(text):
        write_by_hand(tmp_path, RELEASED, {"Ada": handed_in(text)})
        return read_safely((tmp_path / "by_hand" / "01-01.html").read_bytes()).text

    shown("first")
    table = tmp_path / "by_hand.csv"
    table.write_text(table.read_text("utf-8-sig").replace('"why",""', '"why","3"'), "utf-8-sig")
    assert "has changed" not in shown("first")
    for _ in range(2):
        assert "3 of 4. The answer has changed since it was marked." in shown("second").replace("  ", " ")
    digest = next(m.answer for m in read_marks(table) if m.task == "why")
    table.write_text(table.read_text("utf-8-sig").replace(digest, ""), "utf-8-sig")
    assert "has changed" not in shown("second")
    assert hand(marks_in(tmp_path, {"Ada": ""}), "Ada") == (3, 6.5)
