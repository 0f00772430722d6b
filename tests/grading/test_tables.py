"""grades.csv and the tables for other systems, from made-up records with hostile names."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from grading.made_up import HOSTILE, hostile, record

from segcourse.grading.command import GradingError, export, finish
from segcourse.grading.results import GONE, Records, Result, counting
from segcourse.grading.tables import (
    Mark,
    TableError,
    cell,
    file_names,
    match,
    plain,
    summary,
    write_canvas,
    write_exports,
    write_grades,
    write_gradescope,
    write_moodle,
    write_nbgrader,
)

MARKS = {"Ada": (Mark("Ada", "essay", 2.5, 4, "Good."), Mark("Ada", "plot", None, 2))}


def rows_of(path, encoding="utf-8"):
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


# --- cells


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula_or_breaks_its_row(text):
    written = cell(text)
    assert not written.lstrip().startswith(tuple("=+-@＝＋－＠\t\r\n"))
    assert not set(written) & set("\0\r\n\t")
    written.encode()
    assert cell(written) == written, "written, read and written again it is the same"


def test_text_turned_round_is_not_shown():
    assert plain("a\u202eb\ud800\0c\n") == "a\ufffdb\ufffd\ufffdc\n"
    assert plain("10%\r20%\r\ndone") == "10%\n20%\ndone"


def test_harmless_cells_stay_as_they_are():
    for text in ("Ada Lovelace", "Émile 🦊", "علي", "O'Brien", "a-b@c.de", "3"):
        assert cell(text) == text
    assert [cell(3), cell(2.5), cell(0.0)] == ["3", "2.5", "0"]


# --- which record counts


def test_newest_record_of_a_student_counts_and_it_is_said():
    first = record(when="2026-01-01T00:00:00", file_hash="a", outcomes=["not yet"])
    second = record(when="2026-01-02T00:00:00", file_hash="b")
    for order in ([first, second], [second, first]):
        (one,) = counting(order)
        assert one.points == 13
        assert "2 files of this student were graded, one after the other; the newest counts." in one.notes


def test_regrading_the_same_file_is_no_resubmission():
    (one,) = counting([record(when="1", key_hash="old"), record(when="2", key_hash="new")])
    assert (one.key_hash, one.notes) == ("new", ())


def test_who_is_gone_does_not_count_until_he_is_graded_again():
    gone = dataclasses.replace(record(), status=GONE, when="2")
    assert counting([record(when="1"), gone, record("Bo")]) == [record("Bo")]
    assert counting([record(when="1"), gone, record(when="3")]) == [record(when="3")]


def test_files_of_two_students_who_had_one_name_are_not_one_students():
    first = record(when="1", file_hash="a", identifier="11")
    second = record(when="2", file_hash="b", identifier="12")
    assert counting([first, second]) == [second]


# --- grades.csv


def test_grades(tmp_path):
    records = [
        record("Bo", ["not yet: adds_kernels", "not attempted", "missing"], late=True),
        record("Ada"),
        record("Cy", ["missing"] * 7, status="unreadable", notes=("It is cut off.", "Twice.")),
    ]
    write_grades(tmp_path / "grades.csv", counting(records), MARKS)
    data = (tmp_path / "grades.csv").read_bytes()
    assert data.startswith(b'\xef\xbb\xbf"student","file","status","points","of","late","compound_kernel"')
    ada, bo, cy = rows_of(tmp_path / "grades.csv", "utf-8-sig")
    assert (ada["status"], ada["points"], ada["of"], ada["late"]) == ("graded", "13", "13", "")
    assert (ada["by hand"], ada["by hand of"], ada["total"]) == ("2.5", "6", "15.5")
    assert (bo["status"], bo["points"], bo["late"], bo["by hand"], bo["total"]) == ("late", "9", "yes", "", "9")
    assert (bo["compound_kernel"], bo["compound_kernel: outcome"]) == ("0", "not yet: adds_kernels")
    assert (bo["compound_stride: outcome"], bo["input_size: outcome"]) == ("not attempted", "missing")
    assert (bo["field_centre"], bo["field_centre: outcome"]) == ("2", "correct")
    assert (cy["status"], cy["compound_kernel: outcome"], cy["notes"]) == ("unreadable", "", "It is cut off. Twice.")


@pytest.mark.parametrize("status", ["unreadable", "no notebook", "failed"])
def test_what_was_not_graded_has_no_zero_anywhere(tmp_path, status):
    cy = record("Cy", ["missing"] * 7, status=status, identifier="4713")
    write_grades(tmp_path / "grades.csv", [cy], {"Cy": (Mark("Cy", "essay", None, 4),)})
    write_exports(tmp_path, [cy])
    (row,) = rows_of(tmp_path / "grades.csv", "utf-8-sig")
    assert [row[name] for name in ("status", "points", "of", "compound_kernel", "total")] == [status, "", "13", "", ""]
    (row,) = rows_of(tmp_path / "nbgrader.csv")
    assert [row[name] for name in ("raw_score", "late_submission_penalty", "score", "max_score")] == [
        "",
        "",
        "",
        "13.0",
    ]
    assert rows_of(tmp_path / "canvas.csv")[1]["01 Receptive-field arithmetic"] == ""
    assert rows_of(tmp_path / "moodle.csv")[0]["Grade"] == ""


def test_backquotes_are_not_seen_in_a_table(tmp_path):
    one = record(notes=("`input_size` is still the <starter>.",), identifier="4711")
    write_grades(tmp_path / "grades.csv", [one])
    write_moodle(tmp_path / "m.csv", [one])
    assert rows_of(tmp_path / "grades.csv", "utf-8-sig")[0]["notes"] == "input_size is still the <starter>."
    says = rows_of(tmp_path / "m.csv")[0]["Feedback comments"]
    assert says.endswith("<br><code>input_size</code> is still the &lt;starter&gt;.")


def test_a_missing_function_is_told_once():
    known = ("There is no function called `compound_kernel`.", "There is no function called `block_field`; see cell 3.")
    lines = summary(record(outcomes=["missing"], notes=known))
    assert lines[1] == "compound_kernel: missing (0 of 1)."
    assert lines[-1] == known[1]
    assert known[0] not in lines


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["The case: `f()`", "Yours: it was stopped after 5 s."], " Yours: it was stopped after 5 s."),
        (["Right on 0 of 40 cases.", "The simplest case found that fails: `f()`", "Yours: it raised\nE."],
         " Yours: it raised E."),
        ([], ""),
    ],
)  # fmt: skip
def test_moodle_says_in_what_an_unknown_mistake_shows(tmp_path, lines, says):
    card = {"headline": "compound_kernel: not yet", "lines": lines}
    one = record(identifier="4711")
    results = (Result("compound_kernel", "not yet", 0, 1, card=card), *one.results[1:])
    write_moodle(tmp_path / "m.csv", [dataclasses.replace(one, results=results)])
    comments = rows_of(tmp_path / "m.csv")[0]["Feedback comments"]
    assert comments.split("<br>")[1] == "compound_kernel: not yet (0 of 1)." + says


def test_hostile_names_keep_their_rows(tmp_path):
    records = hostile()
    write_grades(tmp_path / "grades.csv", records)
    rows = rows_of(tmp_path / "grades.csv", "utf-8-sig")
    assert sorted(row["student"] for row in rows) == sorted(map(cell, HOSTILE))
    assert all(row["total"] == "12" and len(row) == 6 + 14 + 4 for row in rows)


def test_same_records_give_the_same_bytes_in_any_order(tmp_path):
    records = hostile()
    for name, order in (("a", records), ("b", records[::-1])):
        write_grades(tmp_path / f"{name}.csv", counting(order))
        write_exports(tmp_path / name, counting(order))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    first, second = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert len(first) == len(HOSTILE) + 3


def test_no_records_give_a_table_without_rows(tmp_path):
    write_grades(tmp_path / "grades.csv", [])
    write_exports(tmp_path / "exports", [])
    assert rows_of(tmp_path / "grades.csv", "utf-8-sig") == []


# --- for other systems


def test_file_names_are_safe_and_differ():
    names = file_names([*HOSTILE, "Ada", "ADA", "ada"])
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert len(name.encode()) <= 110
        assert not set(name) & set('/\\:*?"<>|\0\n\r\t')
        assert name.upper() not in {"CON", "NUL", ".", ".."}


def test_gradescope(tmp_path):
    one = record(outcomes=["not yet: adds_kernels"], text="<b>", notes=("A note.",))
    write_gradescope(tmp_path, [one], MARKS)
    content = json.loads((tmp_path / "Ada" / "results.json").read_text("utf-8"))
    assert content["score"] == 14.5
    assert content["output"] == "Status: graded.\nA note."
    allowed = {"score", "output", "output_format", "test_output_format", "test_name_format", "visibility",
               "stdout_visibility", "tests"}  # fmt: skip
    assert set(content) == allowed, "nothing but what the specification names"
    first, *_, essay, plot = content["tests"]
    assert (first["name"], first["score"], first["max_score"], first["status"]) == ("compound_kernel", 0, 1, "failed")
    assert first["output"].startswith("✗ compound_kernel: not yet")
    assert first["output_format"] == "text", "nothing in it is taken for HTML"
    assert (essay["name"], essay["score"], essay["max_score"], essay["output"]) == ("essay (by hand)", 2.5, 4, "Good.")
    assert plot["output"] == "It is not marked yet."
    assert len(content["tests"]) == 9


def test_nbgrader_has_the_columns_of_its_own_export(tmp_path):
    write_nbgrader(tmp_path / "n.csv", [record(outcomes=["missing"])])
    (row,) = rows_of(tmp_path / "n.csv")
    source = pytest.importorskip("nbgrader.plugins.export", reason="nbgrader's own table needs nbgrader")
    text = Path(source.__file__).read_text("utf-8")
    columns = [line.strip(' ",') for line in text.split("keys = [")[1].split("]")[0].strip().splitlines()]
    assert list(row) == columns
    assert (row["assignment"], row["student_id"]) == ("01_receptive_field", "Ada")
    assert (row["raw_score"], row["score"], row["max_score"]) == ("12.0", "12.0", "13.0")


def test_canvas_without_template(tmp_path):
    records = [record(identifier="4711"), record("bo"), record("Cy", status="no notebook")]
    assert write_canvas(tmp_path / "c.csv", records).lacking == ()
    worth, ada, bo, cy = rows_of(tmp_path / "c.csv")
    title = "01 Receptive-field arithmetic"
    assert list(ada) == ["Student", "ID", "SIS Login ID", "Section", title]
    assert (worth["Student"], worth[title]) == ("    Points Possible", "13")
    assert (ada["ID"], ada["SIS Login ID"], ada[title]) == ("4711", "", "13")
    assert (bo["ID"], bo["SIS Login ID"], bo[title]) == ("", "bo", "13")
    assert cy[title] == "", "what was not graded gets no zero"


CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,Essay (11),Receptive-field arithmetic (12),Final Score
    Points Possible,,,,,10,{worth},(read only)
"Lovelace, Ada",4711,u1,ada1,One,7,,91
"Bohr, Niels",4712,u2,niels,One,8,,92
"Curie, Marie",4713,u3,marie,One,9,,93
"Curie, Marie",4714,u4,marie2,Two,9,5,93
"Student, Test",4799,,x,One,,,
"""


def test_canvas_with_template(tmp_path):
    template = tmp_path / "gradebook.csv"
    template.write_text(CANVAS.format(worth="13.00"), "utf-8-sig")
    records = [
        record("lovelaceada", identifier="4711"),
        record("niels", ["missing"]),
        record("curiemarie"),
        record("=1+1"),
    ]
    done = write_canvas(tmp_path / "c.csv", counting(records), template)
    assert done.column == "Receptive-field arithmetic (12)"
    assert (done.graded, done.lacking) == (("lovelaceada", "niels"), ("=1+1", "curiemarie"))
    worth, ada, niels, marie, other, test = rows_of(tmp_path / "c.csv")
    column = "Receptive-field arithmetic (12)"
    assert list(ada) == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", column]
    assert (ada["Student"], ada[column]) == ("Lovelace, Ada", "13")
    assert (niels[column], marie[column], other[column], test[column]) == ("12", "", "5", "")
    assert (worth["Student"], worth[column]) == ("    Points Possible", "13.00")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CANVAS.format(worth="100"), "gives 100 points, the lesson 13"),
        (
            CANVAS.format(worth="13").replace("Essay", "01_receptive_field"),
            r"several columns .*: 01_receptive_field \(11",
        ),
        (CANVAS.replace("Receptive-field arithmetic", "Field"), r"assignments: Essay \(11\); Field .*--column \"Essay"),
        (
            "Student,ID,SIS Login ID,Section,Receptive-field arithmetic\nAda,1,ada,One,\n",
            "Make the assignment in Canvas",
        ),
        ("Name,Points\nAda,3\n", "lacks Student, ID or Section"),
        ("", "is empty"),
    ],
)
def test_canvas_refuses_a_table_that_does_not_fit(tmp_path, text, says):
    template = tmp_path / "gradebook.csv"
    template.write_text(text, "utf-8")
    with pytest.raises(TableError, match=says):
        write_canvas(tmp_path / "c.csv", [record()], template)
    assert not (tmp_path / "c.csv").exists()


def gradebook(tmp_path, *columns, student="Ada"):
    template = tmp_path / "gradebook.csv"
    empty = ";" * len(columns)
    template.write_text(
        f"Student;ID;SIS Login ID;Section;{';'.join(columns)}\n{student};4711;ada;One{empty}\n", "cp1252"
    )
    return template


@pytest.mark.parametrize(
    ("columns", "asked", "takes"),
    [
        (["Lesson 01 (88123)", "Project (2)"], "", 0),
        (["Quiz 1 (2)", "lesson 1: fields (88123)"], "", 1),
        (["Essay 01 (1)", "RECEPTIVE-FIELD arithmetic (3)", "Receptive-field arithmetic Score"], "", 1),
        (["Essay 01 (1)", "Lesson 01 (2)"], "Lesson 01 (2)", 1),
        (["Essay 01 (1)", "Lesson 01 (2)"], "essay 01", 0),
    ],
)
def test_canvas_column_is_the_gradebooks_own(tmp_path, columns, asked, takes):
    done = write_canvas(tmp_path / "c.csv", [record()], gradebook(tmp_path, *columns), column=asked)
    assert done.column == columns[takes]
    (ada,) = rows_of(tmp_path / "c.csv")
    assert list(ada)[4:] == [columns[takes]]
    assert ada[columns[takes]] == "13"


@pytest.mark.parametrize(
    ("columns", "asked"),
    [(["Quiz 1 (2)", "Lesson 101 (3)"], ""), (["Lesson 01 (2)", "Essay 01 (3)"], ""), (["Lesson 01 (2)"], "Lesson 2")],
)
def test_canvas_column_is_not_guessed(tmp_path, columns, asked):
    with pytest.raises(TableError, match=r"--column \"") as error:
        write_canvas(tmp_path / "c.csv", [record()], gradebook(tmp_path, *columns), column=asked)
    assert all(column in str(error.value) for column in columns)


@pytest.mark.parametrize(
    ("student", "rows", "takes"),
    [
        ("Anna Schmidt", ["Schmidt, Anna", "Schmidt, Hanna"], 0),
        ("schmidt, anna", ["Anna Schmidt"], 0),
        ("Jorg MULLER", ["Müller, Jörg"], 0),
        ("Jorg Muller", ["Müller, Jörg", "Muller, Jorg"], 1),
        ("joérg muller", ["Müller, Jörg", "Muller, Jorg"], None),
        ("müllerjörg", ["Müller, Jörg", "Jörg, Müller"], 0),
        ("Thomas Martin", ["Martin, Thomas", "Thomas, Martin"], None),
        ("Weber, Max", ["Weber, Max", "Weber, Max"], None),
        ("Renée O_Connor", ["O'Connor, Renée"], 0),
        ("Ann", ["Anna"], None),
        ("...", ["", "..,"], None),
    ],
)
def test_names_are_found_turned_round_and_not_guessed(student, rows, takes):
    found, lacking = match([record(student)], [{"Student": row} for row in rows])
    assert list(found) == ([] if takes is None else [takes])
    assert lacking == ([student] if takes is None else [])


def test_two_students_who_fit_one_row_are_both_told():
    rows = [{"Student": "Schmidt, Anna", "ID": "1"}]
    anna, turned = record("Anna Schmidt"), record("Schmidt Anna")
    assert match([anna, turned], rows) == ({}, ["Anna Schmidt", "Schmidt Anna"])
    numbered = dataclasses.replace(turned, identifier="1")
    assert match([anna, numbered], rows) == ({0: numbered}, ["Anna Schmidt"])


def test_filled_tables_are_told_and_outlive_the_next_run(tmp_path, capsys):
    records = [record("Ada Lovelace", when="1"), record("Bo", when="1"), record("Cy", status="failed", when="1")]
    for one in records:
        Records(tmp_path).add(one)
    finish(tmp_path, records)
    book = gradebook(tmp_path, "Lesson 01 (7)", student='"Lovelace, Ada"')
    (tmp_path / "worksheet.csv").write_text(MOODLE, "utf-8-sig")
    capsys.readouterr()
    with pytest.raises(GradingError, match="has no column Essay"):
        export(tmp_path, book, None, "Essay")
    assert export(tmp_path, book, tmp_path / "worksheet.csv") == 0
    canvas, moodle = capsys.readouterr().out.splitlines()
    assert canvas.endswith(
        "canvas_filled.csv: column “Lesson 01 (7)”, 1 of 3 students filled in; "
        "not in gradebook.csv, or in several rows: Bo, Cy."
    )
    assert "moodle_filled.csv: 1 of 3 students filled in; not in worksheet.csv" in moodle
    filled = {path: path.read_bytes() for path in (tmp_path / "exports").glob("*_filled.csv")}
    finish(tmp_path, records)
    assert len(filled) == 2
    assert {path: path.read_bytes() for path in filled} == filled


MOODLE = (
    "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
    "Last modified (submission),Last modified (grade),Feedback comments\n"
    'Participant 4711,Ada Lovelace,a@b.de,Submitted,,13.00,Yes,"Monday, 1 June",-,\n'
    "Participant 4712,Niels Bohr,n@b.de,Submitted,,13.00,Yes,-,-,\n"
)


def test_moodle_without_template(tmp_path):
    records = [record(identifier="4711", notes=("<b>A note.</b>",), outcomes=["not yet: adds_kernels"]), record("Bo")]
    assert write_moodle(tmp_path / "m.csv", records).lacking == ("Bo",)
    ada, bo = rows_of(tmp_path / "m.csv")
    assert list(ada) == next(csv.reader([MOODLE.split("\n")[0]]))
    assert (ada["Identifier"], ada["Grade"], ada["Maximum Grade"]) == ("Participant 4711", "12", "13")
    assert "You added the two kernels." in ada["Feedback comments"]
    assert "&lt;b&gt;A note.&lt;/b&gt;" in ada["Feedback comments"], "Moodle takes feedback for HTML"
    assert bo["Identifier"] == ""


def test_moodle_with_template(tmp_path):
    template = tmp_path / "worksheet.csv"
    template.write_text(MOODLE, "utf-8-sig")
    records = [record("Ada_Lovelace"), record("Else", identifier="4712", status="unreadable", notes=("Cut off.",))]
    done = write_moodle(tmp_path / "m.csv", records, template)
    assert (done.graded, done.ungraded, done.lacking) == (("Ada_Lovelace",), ("Else",), ())
    ada, niels = rows_of(tmp_path / "m.csv")
    assert (ada["Grade"], ada["Last modified (submission)"]) == ("13", "Monday, 1 June")
    assert (niels["Grade"], niels["Feedback comments"]) == ("", "Status: unreadable.<br>Cut off.")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MOODLE.replace("Grade,Max", "Bewertung,Max"), "set Moodle's language to English"),
        (MOODLE.replace("13.00", "100.00"), "gives 100.00 points, the lesson 13"),
    ],
)
def test_moodle_refuses_a_table_that_does_not_fit(tmp_path, text, says):
    template = tmp_path / "worksheet.csv"
    template.write_text(text, "utf-8")
    with pytest.raises(TableError, match=says):
        write_moodle(tmp_path / "m.csv", [record()], template)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TableError, match=r"none\.csv cannot be read"):
        write_moodle(tmp_path / "m.csv", [record()], tmp_path / "none.csv")


def test_no_half_written_table_is_left(tmp_path, monkeypatch):
    path = tmp_path / "grades.csv"
    write_grades(path, [record()])
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_grades(path, [record("Bo")])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_lesson_that_the_course_no_longer_has_is_still_written(tmp_path):
    old = dataclasses.replace(record(), lesson="98_gone")
    write_grades(tmp_path / "grades.csv", [old])
    write_exports(tmp_path, [old])
    assert rows_of(tmp_path / "canvas.csv")[1]["98_gone"] == "13"


# --- all of it, as the command writes it


def test_finish_writes_everything(tmp_path, capsys):
    (tmp_path / "by_hand.csv").write_text("student,task,points,of\nAda,essay,3,4\n", "utf-8")
    finish(tmp_path, [record("Ada"), record("Bo", status="unreadable")])
    assert "1 of 2 graded" in capsys.readouterr().out
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        "by_hand.csv", "grades.csv", "report.html", "feedback/Ada.html", "feedback/Bo.html", "exports/canvas.csv",
        "exports/moodle.csv", "exports/nbgrader.csv", "exports/gradescope/Ada/results.json",
        "exports/gradescope/Bo/results.json",
    }  # fmt: skip
    assert rows_of(tmp_path / "grades.csv", "utf-8-sig")[0]["total"] == "16"


def test_pages_of_who_is_gone_are_not_given_back(tmp_path):
    both = [record("Ada", when="1"), record("Bo", when="1")]
    finish(tmp_path, both)
    page = (tmp_path / "feedback" / "Ada.html").read_bytes()
    mine = tmp_path / "feedback" / "read me.html"
    mine.write_text("written by the teacher")
    finish(tmp_path, [*both, dataclasses.replace(both[0], status=GONE, when="2")])
    assert {path.name for path in (tmp_path / "feedback").iterdir()} == {"Bo.html", "read me.html"}
    assert (tmp_path / "left_out" / "feedback" / "Ada.html").read_bytes() == page
    assert not (tmp_path / "exports" / "gradescope" / "Ada" / "results.json").exists()
    assert [row["student"] for row in rows_of(tmp_path / "grades.csv", "utf-8-sig")] == ["Bo"]
    assert "Ada" not in (tmp_path / "report.html").read_text("utf-8")


def test_finish_says_that_a_student_handed_in_again(tmp_path, capsys):
    finish(tmp_path, [record(when="2", outcomes=["missing"], file_hash="b"), record(when="1")])
    assert "1 of 1 graded" in capsys.readouterr().out
    (ada,) = rows_of(tmp_path / "grades.csv", "utf-8-sig")
    assert (ada["total"], ada["notes"][:8]) == ("12", "2 files ")
    assert "the newest counts" in (tmp_path / "feedback" / "Ada.html").read_text("utf-8")


def test_finish_refuses_records_of_several_lessons(tmp_path):
    other = dataclasses.replace(record(), lesson="02_transposed")
    with pytest.raises(GradingError, match="records of 01_receptive_field, 02_transposed"):
        finish(tmp_path, [record(), other])
    assert list(tmp_path.iterdir()) == []
