"""Whose a file is, and that nothing outside of what was handed in is ever read or written."""

import contextlib
import io
import json
import os
import stat
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcourse.grading.intake import MAX_BYTES, Submission, collect, safe_name
from segcourse.grading.reading import UnreadableError

LESSON = "01_receptive_field"
NAMES = ("compound_kernel", "input_size")
MOODLE = "_assignsubmission_file_"


def notebook(text: str = "x") -> bytes:
    return json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": text}]}).encode()


def zipped(files: dict[str, bytes], **changes) -> bytes:
    """A zip of these files; `changes` are made to every entry's ZipInfo."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changes.items():
                setattr(info, key, value)
            archive.writestr(info, data)
    return buffer.getvalue()


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def as_zip(folder: Path, files: dict[str, bytes], **changes) -> Path:
    path = folder / "class.zip"
    path.write_bytes(zipped(files, **changes))
    return path


def students(place: Path) -> dict[str, Submission]:
    found = collect(place, LESSON, NAMES)
    assert [each.student for each in found] == sorted({each.student for each in found})
    assert found == collect(place, LESSON, NAMES)
    return {each.student: each for each in found}


BOTH = pytest.mark.parametrize("laid", [lay_out, as_zip])


@BOTH
def test_a_notebook_for_each_student(tmp_path, laid):
    files = {"bob.ipynb": notebook("b"), f"ann_{LESSON}.ipynb": notebook("a"), "grades.csv": b"", "README": b"x"}
    found = students(laid(tmp_path, files))
    assert list(found) == ["ann", "bob"]
    assert found["ann"].read() == notebook("a")
    assert (found["bob"].name, found["bob"].late, found["bob"].problem, found["bob"].notes) == (
        "bob.ipynb",
        False,
        "",
        (),
    )


@BOTH
def test_a_folder_for_each_student(tmp_path, laid):
    files = {
        "bob/deep/er/work.ipynb": notebook("b"),
        "bob/.ipynb_checkpoints/work-checkpoint.ipynb": notebook("old"),
        "__MACOSX/bob/._work.ipynb": b"junk",
        "ann/work.ipynb": notebook("a"),
        "cat/work.pdf": b"%PDF",
    }
    found = students(laid(tmp_path, files))
    assert list(found) == ["ann", "bob", "cat"]
    assert found["bob"].read() == notebook("b")
    assert found["bob"].notes == ()
    assert found["cat"].problem == "There is no notebook among the files: work.pdf. Hand in the .ipynb file."
    with pytest.raises(UnreadableError, match="no notebook among"):
        found["cat"].read()


def test_an_empty_folder_is_a_student_without_a_file(tmp_path):
    (tmp_path / "ann").mkdir()
    assert students(tmp_path)["ann"].problem == "No file was handed in. Hand in the .ipynb file."
    path = as_zip(tmp_path, {"bob/": b"", "ann/": b"", "ann/x.ipynb": notebook()})
    assert [bool(each.problem) for each in students(path).values()] == [False, True]


@BOTH
@pytest.mark.parametrize("around", ["", "Lesson 1/"])
def test_moodle(tmp_path, laid, around):
    files = {
        f"{around}Doe Ann_1234567{MOODLE}/work.ipynb": notebook("a"),
        f"{around}Doe Ann_1234567_assignsubmission_onlinetext/text.html": b"<p>hello",
        f"{around}Doe Ann_7654321{MOODLE}/work.ipynb": notebook("b"),
        f"{around}Muñoz Íñigo_12{MOODLE}work.ipynb": notebook("c"),
        "grades.csv": b"",
    }
    found = students(laid(tmp_path, files))
    assert list(found) == ["Doe Ann-1234567", "Doe Ann-7654321", "Muñoz Íñigo"]
    assert [each.identifier for each in found.values()] == ["1234567", "7654321", "12"]
    assert [each.read() for each in found.values()] == [notebook("a"), notebook("b"), notebook("c")]
    assert found["Muñoz Íñigo"].name == "work.ipynb"


@BOTH
def test_canvas(tmp_path, laid):
    files = {
        "doeann_LATE_11_901_work.ipynb": notebook("old"),
        "doeann_LATE_11_902_work-2.ipynb": notebook("newer"),
        "doeann_LATE_11_903_work-10.ipynb": notebook("newest"),
        "roebob_12_904_01_receptive_field-1.ipynb": notebook("b"),
        "doeann_13_905_work.ipynb": notebook("another Ann"),
        "poecat_14_906_notes.pdf": b"%PDF",
        "kim_15_907_work.zip": zipped({"work.ipynb": notebook("z")}),
    }
    found = students(laid(tmp_path, files))
    assert list(found) == ["doeann-11", "doeann-13", "kim", "poecat", "roebob"]
    assert [each.late for each in found.values()] == [True, False, False, False, False]
    assert found["doeann-11"].read() == notebook("newest")
    assert "resubmissions" in found["doeann-11"].notes[0]
    assert found["doeann-11"].name == "work-10.ipynb"
    assert found["kim"].read() == notebook("z")
    assert found["poecat"].problem


@BOTH
@pytest.mark.parametrize("around", ["", "submitted/"])
def test_nbgrader(tmp_path, laid, around):
    files = {
        f"{around}ann/{LESSON}/{LESSON}.ipynb": notebook("a"),
        f"{around}ann/{LESSON}/timestamp.txt": b"2026-01-01",
        f"{around}ann/02_transposed/02_transposed.ipynb": notebook("other"),
        f"{around}bob/{LESSON}/{LESSON}.ipynb": notebook("b"),
        f"{around}cat/02_transposed/02_transposed.ipynb": notebook("other"),
    }
    if around:
        files["gradebook.db"] = b""
    found = students(laid(tmp_path, files))
    assert list(found) == ["ann", "bob", "cat"]
    assert found["ann"].read() == notebook("a")
    assert found["cat"].problem.startswith("No file")


@BOTH
def test_a_students_own_folders_change_nobody_elses_reading(tmp_path, laid):
    files = {
        "ann/a.ipynb": notebook("a"),
        f"bob/{LESSON}/b.ipynb": notebook("b"),
        "bob/02_transposed/c.ipynb": notebook("other"),
        "cat/02_transposed/c.ipynb": notebook("other"),
        "dan/02_final/d.ipynb": notebook("d"),
        f"eve/{LESSON}/empty.txt": b"",
        "eve/e.ipynb": notebook("e"),
        "submitted/mallory/x.ipynb": notebook("x"),
    }
    found = students(laid(tmp_path, files))
    assert list(found) == ["ann", "bob", "cat", "dan", "eve", "submitted"]
    assert [found[name].read() for name in ("ann", "bob", "dan", "eve")] == [notebook(text) for text in "abde"]
    assert (
        found["cat"].problem
        == "No file was handed in for this lesson, only for 02_transposed. Hand in the .ipynb file."
    )


@BOTH
def test_a_folder_called_submitted_beside_notebooks(tmp_path, laid):
    files = {"ann.ipynb": notebook("a"), f"submitted/bob/{LESSON}/x.ipynb": notebook("b"), "gradebook.db": b""}
    assert [each.read() for each in students(laid(tmp_path, files)).values()] == [notebook("a"), notebook("b")]


@BOTH
def test_nbgraders_course_folder(tmp_path, laid):
    others = ("source", "release", "autograded", "feedback")
    files = {f"{other}/ann/{LESSON}/x.ipynb": notebook("old") for other in others}
    files |= {f"submitted/{name}/{LESSON}/x.ipynb": notebook(name) for name in ("ann", "bob")}
    found = students(laid(tmp_path, files | {"gradebook.db": b"", "nbgrader_config.py": b""}))
    assert [(name, each.read()) for name, each in found.items()] == [("ann", notebook("ann")), ("bob", notebook("bob"))]


def test_a_folder_around_all_is_taken_off_whatever_a_student_calls_theirs(tmp_path):
    for name in (LESSON, "01_2_3_x", "victim_555_66_x.ipynb", f"Victim_555{MOODLE}"):
        files = {"hw/ann/a.ipynb": notebook("a"), "hw/bob/b.ipynb": notebook("b"), f"hw/{name}/x.ipynb": notebook()}
        assert {"ann", "bob"} < set(students(as_zip(tmp_path, files)))


def test_one_students_folder_is_not_taken_for_a_downloads(tmp_path):
    files = {"ann/victim_555_66_x.ipynb": notebook(), "ann/more.ipynb": notebook()}
    assert [(each.student, each.identifier) for each in collect(lay_out(tmp_path, files), LESSON)] == [("ann", "")]


@BOTH
def test_no_file_name_gives_another_students_number(tmp_path, laid):
    canvas = {
        f"mallory_11_67890__555{MOODLE}a.ipynb": ("mallory", "11"),
        "victim_555_67891_hw.ipynb": ("victim", "555"),
        "trudy_12_67892_555_1_hw.ipynb": ("trudy", "12"),
        "ann_lee_13_67893_LATE_14_1_hw.ipynb": ("ann_lee", "13"),
        f"x_16{MOODLE}_15_67894_hw.ipynb": (f"x_16{MOODLE[:-1]}", "15"),
    }
    moodle = {
        f"Mallory_11{MOODLE}x_555_1_a.ipynb": ("Mallory", "11"),
        f"Trudy_12{MOODLE}Victim_555{MOODLE}_a.ipynb": ("Trudy", "12"),
        f"Victim_555{MOODLE}1_2_3_a.ipynb": ("Victim", "555"),
    }
    for number, files in enumerate((canvas, moodle)):
        place = tmp_path / str(number)
        place.mkdir()
        found = collect(laid(place, dict.fromkeys(files, notebook())), LESSON)
        assert sorted((each.student, each.identifier) for each in found) == sorted(files.values())
        assert not any(each.late for each in found)


LAYOUTS = {  # what stands before the names that a student chooses
    "folders": ("{}/", "{}/"),
    "nbgrader": ("submitted/{}/", "submitted/{}/01_receptive_field/"),
    "Moodle's folders": ("{0}_{1}_assignsubmission_file_/", "{0}_{1}_assignsubmission_file/"),
    "Moodle's files": ("{0}_{1}_assignsubmission_file_", "{0}_{1}_assignsubmission_file_"),
    "Canvas": ("{0}_{1}_77_", "{0}_LATE_{1}_78_"),
}
PIECES = [
    "ann",
    "bob",
    "555",
    "_",
    "_11_",
    "_77_",
    "LATE",
    "anon",
    "submitted",
    "02_transposed",
    LESSON,
    MOODLE,
    "-2",
    "a b",
]
NAME = st.lists(st.sampled_from([*PIECES, "/"]), min_size=1, max_size=8).map("".join)
ENDING = st.sampled_from([".ipynb", ".zip", ".html", "", "/x.ipynb", ".IPYNB.txt", "_text.html"])


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=150, deadline=None)
@given(chosen=st.lists(st.tuples(NAME, ENDING, st.integers(0, 1)), max_size=8), around=st.sampled_from(["", "hw 1/"]))
def test_whatever_a_student_calls_her_files_the_others_are_read_alike(tmp_path_factory, layout, chosen, around):
    before = LAYOUTS[layout]
    ours = {around + before[0].format(name, 10 + number): name for number, name in enumerate(["ann", "bob", "cat"])}
    files = {f"{path}{LESSON}.ipynb": notebook(name) for path, name in ours.items()}
    files[f"{around}{before[0].format('mallory', 9)}m.ipynb"] = notebook()
    for name, ending, late in chosen:
        path = name + ending if "/" in before[0] else (name + ending).replace("/", "")
        files[f"{around}{before[late].format('mallory', 9)}{path.strip('/')}"] = notebook("m")
    path = tmp_path_factory.mktemp("class") / "class.zip"
    path.write_bytes(zipped(files))
    numbers = iter(["10", "11", "12"])
    found = {each.student: each for each in collect(path, LESSON, NAMES)}
    assert set(found) == {"ann", "bob", "cat", "mallory"}
    for name in ("ann", "bob", "cat"):
        each = found[name]
        assert (each.read(), each.notes, each.late) == (notebook(name), (), False)
        assert each.identifier == (next(numbers) if "{1}" in before[0] else "")


def test_a_number_that_two_hold_is_nobodys(tmp_path):
    files = {"victim_555_1_a.ipynb": notebook("v"), "x_555_11_2_a.ipynb": notebook("x"), "ann_12_3_a.ipynb": notebook()}
    found = students(lay_out(tmp_path, files))
    assert [(name, each.identifier) for name, each in found.items()] == [("ann", "12"), ("victim", ""), ("x", "")]
    for name in ("victim", "x"):
        assert "victim, x have the same number, 555, so it is left out" in found[name].notes[0]
        assert "enter these marks yourself" in found[name].notes[0]
    assert found["ann"].notes == ()


def test_files_that_stand_for_one_name_are_kept_apart_and_nobody_gets_it(tmp_path):
    files = {"victim.ipynb": notebook("v"), f"victim_{LESSON}.ipynb": notebook("m"), "Victim.ipynb": notebook("M")}
    files |= {"victim/x.ipynb": notebook("f"), "victim-1.ipynb": notebook("other")}
    found = students(lay_out(tmp_path, files))
    assert found["victim-1"].read() == notebook("other")
    assert len(found) == 5
    assert not {"victim", "Victim"} & set(found)
    assert all("look whose it is" in each.notes[0] for name, each in found.items() if name != "victim-1")


@BOTH
def test_moodles_other_names(tmp_path, laid):
    files = {
        f"Participant_4711{MOODLE}/a.ipynb": notebook("a"),
        f"Participant_4712{MOODLE}/b.ipynb": notebook("b"),
        "O'Neil Ann-Marie Jr._7_assignsubmission_file/mine/c.ipynb": notebook("c"),
        "O'Neil Ann-Marie Jr._7_assignsubmission_onlinetext/onlinetext.html": b"<p>",
        "Ng Bo_8_assignsubmission_onlinetext/onlinetext.html": b"<p>",
        f"Default group{MOODLE}/d.ipynb": notebook("d"),
        f"Team 3_99{MOODLE}/e.ipynb": notebook("e"),
        f"李 明_10{MOODLE}/f.ipynb": notebook("f"),
    }
    found = students(laid(tmp_path, files))
    assert {name: each.identifier for name, each in found.items()} == {
        "Participant-4711": "4711",
        "Participant-4712": "4712",
        "O_Neil Ann-Marie Jr": "7",
        "Ng Bo": "8",
        "Default group": "",
        "Team 3": "99",
        "李 明": "10",
    }
    assert found["Ng Bo"].problem == "There is no notebook among the files: onlinetext.html. Hand in the .ipynb file."
    assert found["O_Neil Ann-Marie Jr"].read() == notebook("c")


@BOTH
def test_canvas_other_names(tmp_path, laid):
    files = {
        "muñozíñigo_LATE_11_901_arbeit (1).ipynb": notebook("a"),
        "anon_aB3dE_902_work-1.ipynb": notebook("b"),
        "LATE_anon_12345_903_work.ipynb": notebook("c"),
        "roe_bob_10000000000123456_904_01_receptive_field.ipynb": notebook("d"),
        "poecat_14_text.html": b"<p>my answer",
        "leedan_LATE_15_link.html": b"<p>",
        "__MACOSX/._anon_aB3dE_902_work-1.ipynb": b"\0\5\x16\7",
        ".DS_Store": b"",
    }
    found = students(laid(tmp_path, files))
    assert {name: (each.identifier, each.late) for name, each in found.items()} == {
        "muñozíñigo": ("11", True),
        "anon_aB3dE": ("", False),
        "anon_12345": ("", True),
        "roe_bob": ("10000000000123456", False),
        "poecat": ("14", False),
        "leedan": ("15", True),
    }
    assert found["poecat"].problem == "There is no notebook among the files: text.html. Hand in the .ipynb file."
    assert found["roe_bob"].name == "01_receptive_field.ipynb"


def test_one_student_in_nbgraders_tree(tmp_path):
    files = {f"ann/{LESSON}/a.ipynb": notebook("a"), "ann/02_transposed/b.ipynb": notebook("b")}
    assert students(as_zip(tmp_path, files))["ann"].read() == notebook("a")


def test_a_folder_around_all_in_a_zip_is_taken_off(tmp_path):
    assert list(students(as_zip(tmp_path, {"x/ann.ipynb": b"a", "x/bob.ipynb": b"b"}))) == ["ann", "bob"]
    assert list(students(as_zip(tmp_path, {"x/ann/a.ipynb": b"a", "x/bob/a.ipynb": b"b"}))) == ["ann", "bob"]
    assert list(students(as_zip(tmp_path, {"ann/a.ipynb": b"a"}))) == ["ann"]


def test_single_notebook_and_zip_alone_in_a_folder(tmp_path):
    path = tmp_path / "ann.ipynb"
    path.write_bytes(notebook())
    assert students(path)["ann"].read() == notebook()
    path.unlink()
    as_zip(tmp_path, {"ann.ipynb": notebook(), "bob.ipynb": notebook()})
    assert list(students(tmp_path)) == ["ann", "bob"]
    lay_out(tmp_path, {"grades.csv": b"", "Canvas.txt": b""})
    assert list(students(tmp_path)) == ["ann", "bob"]


def test_of_several_notebooks_that_with_most_answers_counts(tmp_path):
    both = notebook("def compound_kernel(): 1\ndef input_size(): 1")
    files = {"ann/z.ipynb": notebook("def input_size(): 1"), "ann/a.ipynb": both, "ann/b.ipynb": notebook()}
    ann = students(lay_out(tmp_path, files))["ann"]
    assert ann.read() == both
    assert "Of 3 notebooks, a.ipynb was taken" in ann.notes[0]
    lay_out(tmp_path, {"ann/a2.ipynb": both, "ann/a10.ipynb": both})
    assert students(tmp_path)["ann"].name == "a10.ipynb"


def test_an_untouched_copy_is_no_answer(tmp_path):
    starter, answer = "def input_size():\n    return ...", "def input_size():\n    return 1"
    lay_out(tmp_path, {"ann/a.ipynb": notebook(answer), "ann/a (1).ipynb": notebook(starter)})
    assert students(tmp_path)["ann"].name == "a (1).ipynb"
    found = collect(tmp_path, LESSON, NAMES, {"input_size": starter})
    assert found[0].name == "a.ipynb"


@BOTH
def test_a_students_own_zip_is_opened_once(tmp_path, laid):
    inner = {"w\\deep\\work.ipynb": notebook("w"), "__MACOSX/w/._work.ipynb": b"junk"}
    files = {
        "ann/work.zip": zipped(inner),
        "bob.zip": zipped({"x.zip": zipped({"a.ipynb": notebook()})}),
        "cat/work.zip": zipped({"a.ipynb": notebook("inside")}),
        "cat/work.ipynb": notebook("beside"),
        "dan/work.zip": zipped({"a.ipynb": notebook("d")})[:-30],
        "eve/work.zip": b"not a zip",
    }
    found = students(laid(tmp_path, files))
    assert found["ann"].read() == notebook("w")
    assert found["bob"].problem.startswith("A zip inside of a zip was not opened.")
    assert found["cat"].read() == notebook("beside")
    assert "work.zip was not opened" in found["cat"].notes[0]
    assert "damaged" in found["dan"].problem
    assert "damaged" in found["eve"].problem


def test_notebooks_of_another_name_are_read(tmp_path):
    files = {
        "ann.ipynb.txt": notebook("a"),
        "bob/work.json": notebook("b"),
        "cat/work": notebook("c"),
        "dan/a.txt": b"hi",
    }
    found = students(lay_out(tmp_path, files))
    assert [each.read() for each in found.values() if not each.problem] == [notebook("a"), notebook("b"), notebook("c")]
    assert "not called .ipynb" in found["bob"].notes[0]
    assert found["dan"].problem


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("ann/../../x.ipynb", {}, "points outside"),
        ("/ann/x.ipynb", {}, "points outside"),
        ("C:/ann/x.ipynb", {}, "points outside"),
        ("..\\ann\\x.ipynb", {}, "points outside"),
        ("ann/nul.ipynb", {}, "name of a device"),
        ("ann/COM1/x.ipynb", {}, "name of a device"),
        ("ann/x.ipynb", {"external_attr": (stat.S_IFLNK | 0o777) << 16}, "is a link"),
        ("ann/x.ipynb", {"compress_type": zipfile.ZIP_LZMA}, "unusual way"),
    ],
)
def test_unsafe_entries_are_not_read(tmp_path, name, changes, says):
    path = as_zip(tmp_path, {"ok/a.ipynb": notebook()} if not changes else {}, **changes)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(name)
        for key, value in changes.items():
            setattr(info, key, value)
        archive.writestr(info, notebook())
    bad = [each for each in collect(path, LESSON) if each.student != "ok"]
    assert len(bad) == 1
    assert says in bad[0].problem


def test_encrypted_entries_are_not_read(tmp_path):
    data = bytearray(zipped({"ann/x.ipynb": notebook(), "bob/x.ipynb": notebook()}))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "class.zip").write_bytes(data)
    found = students(tmp_path / "class.zip")
    assert "encrypted" in found["ann"].problem
    assert found["bob"].read() == notebook()


def test_bombs_are_not_unpacked(tmp_path):
    zeros = bytes(MAX_BYTES + 1)
    bomb = zipped({f"{i}.ipynb": zeros for i in range(2)})
    assert len(bomb) < 2**20
    many = zipped({f"{i}.ipynb": b"" for i in range(25_000)})
    found = students(lay_out(tmp_path, {"ann/a.zip": bomb, "bob/b.zip": many, "cat/c.zip": zipped({"c.ipynb": zeros})}))
    assert f"would unpack to {2 * MAX_BYTES // 2**20} MB" in found["ann"].problem
    assert "more than 2,000 files" in found["bob"].problem
    assert "would unpack" in found["cat"].problem


def directory(count: int) -> bytes:
    """A zip's directory of so many entries, for files that are not there."""
    head = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 7, *[0] * 6)
    return b"".join(head + b"%07x" % number for number in range(count))


def end(size: int, offset: int = 0, comment: bytes = b"") -> bytes:
    return b"PK\5\6" + struct.pack("<4HLLH", 0, 0, 1, 1, size, offset, len(comment)) + comment


def end_64(size: int, at: int) -> bytes:
    locator = b"PK\6\7" + struct.pack("<LQL", 0, at, 1)
    return b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, 1, 1, size, 0) + locator


@pytest.mark.parametrize("count", [2_001, 300_000])
@pytest.mark.parametrize(
    "trick", ["none", "mark in the offset", "64 bits", "64 bits and a small lie", "two", "comment"]
)
def test_a_zip_cannot_hide_how_long_its_directory_is(tmp_path, count, trick):
    files = directory(count)
    size = len(files)
    forged = {
        "none": end(size),
        "mark in the offset": end(size, int.from_bytes(b"PK\5\6", "little")),
        "64 bits": end_64(size, size) + end(2**32 - 1, 2**32 - 1),
        "64 bits and a small lie": end_64(size, size) + end(10),
        "two": end(10) + end(size + 22),
        "comment": end(size, comment=b"PK\5\6" + b"x" * 20),
    }
    data = files + forged[trick]
    lay_out(tmp_path, {"ann/a.zip": data, "bob/b.ipynb": notebook()})
    before = time.process_time()
    tracemalloc.start()
    found = students(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than 2,000 files" in found["ann"].problem or "damaged" in found["ann"].problem
    assert peak < 3 * len(data) + 10 * 2**20
    assert time.process_time() - before < 3


def test_deep_paths_in_a_zip_cost_nothing(tmp_path):
    files = {f"{number}/" + "a/" * 30_000 + "x.ipynb": b"" for number in range(3)}
    lay_out(tmp_path, {"ann/a.zip": zipped(files), "bob/b.ipynb": notebook()})
    tracemalloc.start()
    found = students(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "lies too deep" in found["ann"].problem
    assert peak < 50 * 2**20


def test_one_students_large_files_do_not_stop_the_class(tmp_path):
    large = {f"bob/{number}.csv": b"" for number in range(8)}
    data = bytearray(zipped({"ann/x.ipynb": notebook("a"), "bob/x.ipynb": notebook("b"), **large}))
    at = data.index(b"PK\1\2")
    for _ in range(2 + len(large)):  # every entry says that it has 4 GB: 40 in all
        data[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
        at = data.find(b"PK\1\2", at + 1)
    (tmp_path / "class.zip").write_bytes(data)
    assert list(students(tmp_path / "class.zip")) == ["ann", "bob"]


def test_a_zip_that_lies_about_sizes_is_not_believed(tmp_path):
    data = bytearray(zipped({"ann/x.ipynb": bytes(10_000), "bob/x.ipynb": notebook()}))
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.index(mark)
        data[at + offset : at + offset + 4] = (10).to_bytes(4, "little")
    (tmp_path / "class.zip").write_bytes(data)
    found = students(tmp_path / "class.zip")
    with pytest.raises(UnreadableError, match="damaged"):
        found["ann"].read()
    assert found["bob"].read() == notebook()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_zips_end_in_a_sentence(tmp_path, seed):
    import random

    rng = random.Random(seed)
    data = bytearray(zipped({"ann/x.ipynb": notebook("a" * 300), "bob/x.zip": zipped({"x.ipynb": notebook()})}))
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    (tmp_path / "class.zip").write_bytes(data)
    with contextlib.suppress(ValueError):  # of which UnreadableError is one
        for each in collect(tmp_path / "class.zip", LESSON, NAMES):
            each.read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_links_and_pipes_in_a_folder_are_not_opened(tmp_path):
    secret = tmp_path / "secret.ipynb"
    secret.write_bytes(notebook("secret"))
    place = lay_out(tmp_path / "class", {"bob/x.ipynb": notebook()})
    for student in ("ann", "cat", "dan"):
        (place / student).mkdir()
    (place / "ann" / "x.ipynb").symlink_to(secret)
    (place / "cat" / "up").symlink_to(tmp_path)
    os.mkfifo(place / "dan" / "x.ipynb")
    (place / "eve").symlink_to(tmp_path)
    found = students(place)
    assert found["ann"].problem == "x.ipynb is a link to another file; links are not followed. Hand in the .ipynb file."
    assert "up is a link" in found["cat"].problem
    assert "no ordinary file" in found["dan"].problem
    assert "eve is a link" in found["eve"].problem
    (place / "bob" / "x.ipynb").unlink()
    (place / "bob" / "x.ipynb").symlink_to(secret)  # after it was seen
    with pytest.raises(UnreadableError):
        found["bob"].read()


@pytest.mark.skipif(os.name == "nt", reason="names are not bytes on Windows")
def test_names_that_are_not_unicode(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"a\xff.ipynb")).write_bytes(notebook())
    except OSError:
        pytest.skip("the disk takes no such names")
    (tmp_path / "bob.ipynb").write_bytes(notebook())
    found = students(tmp_path)
    assert list(found) == ["a", "bob"]
    assert found["a"].name == "a?.ipynb"
    assert found["a"].read() == notebook()


def test_nothing_there(tmp_path):
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ValueError, match="Give the folder, or the zip"):
            collect(place, LESSON)
    lay_out(tmp_path, {"grades.csv": b"x", "more.csv": b""})
    with pytest.raises(ValueError, match="no notebook in"):
        collect(tmp_path, LESSON)
    (tmp_path / "class.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="The zip is damaged"):
        collect(tmp_path / "class.zip", LESSON)


def test_the_same_name_twice_is_kept_apart(tmp_path):
    files = {"ann.ipynb": notebook("1"), "Ann/x.ipynb": notebook("2"), "ann_/x.ipynb": notebook("3")}
    assert [each.read() for each in students(lay_out(tmp_path, files)).values()] == [notebook(x) for x in "213"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ann Doe", "Ann Doe"),
        ("Muñoz, Íñigo", "Muñoz_ Íñigo"),
        ("n\u0303", "ñ"),
        ("../../etc/passwd", "etc_passwd"),
        ("..", "student"),
        ("", "student"),
        ("\0\n\u202e", "student"),
        ("-rf", "rf"),
        ("=1+1", "1_1"),
        ("CON", "student CON"),
        ("nul.txt", "student nul.txt"),
        ("王小明", "王小明"),
        ("मीना", "मीना"),
        ("a/b\\c:d", "a_b_c_d"),
    ],
)
def test_safe_names(text, name):
    assert safe_name(text) == name


@given(st.text(max_size=300), st.lists(st.text(max_size=5), max_size=5))
def test_any_name_is_made_safe(text, others):
    taken: list[str] = []
    for one in [*others, text, text]:
        name = safe_name(one, taken)
        assert name
        assert name[0] not in " -."
        assert len(name.encode()) <= 110
        assert not set(name) & set('/\\:*?"<>|\0\n')
        assert name.casefold() not in {other.casefold() for other in taken}
        taken.append(name)


def test_nothing_is_written(tmp_path):
    files = {"ann/x.ipynb": notebook(), "bob/w.zip": zipped({"../../evil.ipynb": notebook(), "x.ipynb": notebook("x")})}
    path = as_zip(tmp_path, files)
    bob = students(path)["bob"]
    assert bob.read() == notebook("x")
    assert "points outside" in bob.notes[0]
    assert [each.name for each in tmp_path.rglob("*")] == ["class.zip"]


# --- a folder that the teacher filled, with zips in it ---------------------------------------------------------

NOW, LATER = (2026, 3, 1, 12, 0, 0), (2026, 3, 2, 12, 0, 0)


def moodle(*students: str, text: str = "", **changes) -> bytes:
    """A zip as Moodle makes it; a student is `Name_123`."""
    files = {f"{student}{MOODLE}/work.ipynb": notebook(text or student) for student in students}
    return zipped(files, **changes)


def canvas(*students: str, text: str = "", **changes) -> bytes:
    """A zip as Canvas makes it; a student is `name_123`."""
    return zipped(
        {f"{each}_{900 + at}_work.ipynb": notebook(text or each) for at, each in enumerate(students)}, **changes
    )


def tree(*students: str, before: str = "") -> bytes:
    return zipped({f"{before}{student}/{LESSON}/work.ipynb": notebook(student) for student in students})


def test_late_hand_ins_beside_the_class(tmp_path):
    lay_out(tmp_path, {"moodle.zip": moodle(*(f"Student {number:02}_{number}" for number in range(10, 35)))})
    before = students(tmp_path)
    assert len(before) == 25
    lay_out(tmp_path, {"late.zip": moodle("Doe Ann_1", "Roe Bob_2")})
    after = students(tmp_path)
    assert set(after) - set(before) == {"Doe Ann", "Roe Bob"}
    assert {name: after[name] for name in before} == before
    assert after["Doe Ann"].read() == notebook("Doe Ann_1")
    assert (after["Doe Ann"].identifier, after["Doe Ann"].notes) == ("1", ())


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (moodle("Doe Ann_1"), {"Doe Ann"}),
        (zipped({f"hand_in/Doe Ann_1{MOODLE}/work.ipynb": notebook()}), {"Doe Ann"}),
        (zipped({f"Doe Ann_1{MOODLE}work.ipynb": notebook(), "grades.csv": b""}), {"Doe Ann"}),
        (canvas("doeann_1"), {"doeann"}),
        (canvas("doeann_1", "roebob_2"), {"doeann", "roebob"}),
        (zipped({"doeann_1_901_work.zip": zipped({"x.ipynb": notebook()})}), {"doeann"}),
        (tree("ann", before="submitted/"), {"ann"}),
        (tree("ann", "bob", before="submitted/"), {"ann", "bob"}),
        (tree("ann", "bob", before="course/submitted/"), {"ann", "bob"}),
        (zipped({"ann/a.ipynb": notebook(), "bob/b.ipynb": notebook(), "cat/c.pdf": b""}), {"ann", "bob", "cat"}),
        (zipped({"hw/ann/a.ipynb": notebook(), "hw/bob/b.zip": zipped({"b.ipynb": notebook()})}), {"ann", "bob"}),
        (zipped({f"student{number}.ipynb": notebook() for number in range(9)}), {f"student{at}" for at in range(9)}),
    ],
)
def test_a_zip_of_a_class_is_opened_beside_others(tmp_path, made, names):
    lay_out(tmp_path, {"kim/work.ipynb": notebook("kim"), "late.zip": made, "poe.ipynb": notebook("poe")})
    found = students(tmp_path)
    assert set(found) == {"kim", "poe"} | names
    assert all(found[name].problem == "" for name in names - {"cat"})
    assert (found["kim"].notes, found["poe"].notes) == ((), ())


@pytest.mark.parametrize(
    "made",
    [
        zipped({"work.ipynb": notebook("k")}),
        zipped({f"{LESSON}.ipynb": notebook("k"), "pictures/a.png": b"", "old/a.png": b""}),
        zipped({"work/work.ipynb": notebook("k"), "work/pictures/a.png": b""}),
        zipped({f"{LESSON}/work.ipynb": notebook("k"), "02_transposed/work.ipynb": notebook()}),
        zipped({f"work/{LESSON}.ipynb": notebook("k"), "work/old/a.ipynb": b""}),
        zipped({"lesson_1_2_final.ipynb": notebook("k")}),
        zipped({f"submitted/{LESSON}/work.ipynb": notebook("k")}),
    ],
)
@pytest.mark.parametrize("beside", [{}, {"late.zip": moodle("Doe Ann_1")}, {"bob/b.ipynb": notebook("b")}])
def test_a_students_own_zip_stays_theirs(tmp_path, made, beside):
    found = students(lay_out(tmp_path, {"kim.zip": made, **(beside or {"grades.csv": b""})}))
    assert found["kim"].read() == notebook("k")
    assert len(found) == 1 + len(beside)


def test_two_systems_and_a_folder_each_by_its_own_rule(tmp_path):
    lay_out(tmp_path, {"moodle.zip": moodle("Doe Ann_1", "Roe Bob_2"), "canvas.zip": canvas("leedan_3", "poecat_4")})
    lay_out(tmp_path, {"kim/work.ipynb": notebook("kim"), f"Ng Bo_5{MOODLE}/a.ipynb": notebook("bo")})
    found = students(tmp_path)
    numbers = {"Doe Ann": "1", "Roe Bob": "2", "leedan": "3", "poecat": "4", "Ng Bo": "5", "kim": ""}
    assert {name: each.identifier for name, each in found.items()} == numbers
    assert not any(each.notes or each.problem for each in found.values())


@pytest.mark.parametrize(
    ("first", "second", "counts"), [(NOW, LATER, "b.zip"), (LATER, NOW, "a.zip"), (NOW, NOW, "b.zip")]
)
@pytest.mark.parametrize("system", [moodle, canvas])
def test_of_a_student_in_two_zips_the_newest_counts(tmp_path, system, first, second, counts):
    lay_out(tmp_path, {"a.zip": system("ann_1", "bob_2", text="a.zip", date_time=first)})
    lay_out(tmp_path, {"b.zip": system("ann_1", "cat_3", text="b.zip", date_time=second)})
    found = students(tmp_path)
    assert list(found) == ["ann", "bob", "cat"]
    assert found["ann"].read() == notebook(counts)
    assert (
        found["ann"].notes[0].startswith(f"Handed in more than once, in a.zip and b.zip: the newest counts, {counts}")
    )
    assert found["bob"].notes == found["cat"].notes == ()


@pytest.mark.parametrize(("hours", "counts"), [(-48, "zip"), (48, "folder")])
def test_of_a_student_in_a_zip_and_the_folder_the_newest_counts(tmp_path, hours, counts):
    lay_out(tmp_path, {f"ann_1{MOODLE}/work.ipynb": notebook("folder"), f"bob_2{MOODLE}/work.ipynb": notebook()})
    when = time.mktime((*NOW, 0, 0, -1)) + 3600 * hours
    os.utime(tmp_path / f"ann_1{MOODLE}" / "work.ipynb", (when, when))
    lay_out(tmp_path, {"late.zip": moodle("ann_1", text="zip", date_time=NOW)})
    found = students(tmp_path)
    assert found["ann"].read() == notebook(counts)
    assert "in the folder itself and late.zip: the newest counts" in found["ann"].notes[0]


def test_a_newer_file_that_is_no_notebook_does_not_replace_one(tmp_path):
    text = {"Ann_1_assignsubmission_onlinetext/onlinetext.html": b"<p>"}
    lay_out(tmp_path, {"a.zip": moodle("Ann_1", date_time=NOW), "b.zip": zipped(text, date_time=LATER)})
    found = students(tmp_path)
    assert found["Ann"].read() == notebook("Ann_1")
    assert "a.zip and b.zip" in found["Ann"].notes[0]


def test_students_zips_that_a_system_named_are_never_opened_as_a_class(tmp_path):
    fake = moodle("Ann_1", "Bob_2", text="fake", date_time=(2099, 1, 1, 0, 0, 0))
    places = {
        "Moodle's files": {f"{name}{MOODLE}work.ipynb": notebook() for name in ("Ann_1", "Bob_2")}
        | {f"Mallory_9{MOODLE}x.zip": fake},
        "Moodle's folders": {f"{name}{MOODLE}/work.ipynb": notebook() for name in ("Ann_1", "Bob_2")}
        | {f"Mallory_9{MOODLE}/x.zip": fake},
        "Canvas": {"Ann_1_901_a.ipynb": notebook(), "Bob_2_902_a.ipynb": notebook(), "Mallory_9_903_x.zip": fake},
        "folders": {"Ann/a.ipynb": notebook(), "Bob/a.ipynb": notebook(), "Mallory/x.zip": fake},
        "a zip": {"moodle.zip": zipped({f"Ann_1{MOODLE}/a.ipynb": notebook(), f"Bob_2{MOODLE}/a.ipynb": notebook(),
                                        f"Mallory_9{MOODLE}/x.zip": fake}), "late.zip": canvas("kim_3")},
    }  # fmt: skip
    for layout, files in places.items():
        found = students(lay_out(tmp_path / layout, files))
        assert set(found) - {"kim"} == {"Ann", "Bob", "Mallory"}, layout
        assert all(found[name].read() == notebook() and found[name].notes == () for name in ("Ann", "Bob")), layout


def test_a_zip_that_imitates_a_system_changes_nobody_unseen(tmp_path):
    lay_out(tmp_path, {"moodle.zip": moodle("Ann_1", "Bob_2", "Cat_3", date_time=NOW)})
    lay_out(tmp_path, {"mallory.zip": moodle("Ann_1", "Mallory_2", text="fake", date_time=LATER)})
    found = students(tmp_path)
    assert "in mallory.zip and moodle.zip" in found["Ann"].notes[0]
    assert found["Bob"].identifier == ""
    assert "have the same number" in found["Bob"].notes[0]
    assert (found["Cat"].read(), found["Cat"].notes) == (notebook("Cat_3"), ())


def test_among_many_students_zips_one_with_two_folders_is_a_students(tmp_path):
    versions = zipped({"old/a.ipynb": notebook("old"), "new/a.ipynb": notebook("old")})
    lay_out(tmp_path, {f"{name}.zip": zipped({"a.ipynb": notebook(name)}) for name in ("ann", "bob", "cat")})
    lay_out(tmp_path, {"kim.zip": versions})
    assert list(students(tmp_path)) == ["ann", "bob", "cat", "kim"]
    lay_out(tmp_path, {"class.zip": tree(*"uvwxyz")})
    found = students(tmp_path)
    assert set("uvwxyz") | {"ann", "bob", "cat", "old", "new"} == set(found)
    assert found["old"].notes[0].startswith("From kim.zip, which was read as a class's")
    assert found["ann"].notes == ()
    (tmp_path / "kim").mkdir()
    (tmp_path / "kim.zip").rename(tmp_path / "kim" / "kim.zip")  # as the note says
    assert list(students(tmp_path)) == ["ann", "bob", "cat", "kim", *"uvwxyz"]


def test_a_students_folders_beside_a_notebook_are_hers_where_others_handed_in(tmp_path):
    made = zipped({"work/a.ipynb": notebook("k"), "work/old/a.ipynb": b"", "work/older/b.ipynb": b""})
    assert students(lay_out(tmp_path, {"kim.zip": made, "late.zip": moodle("Doe Ann_1")}))["kim"].read() == notebook(
        "k"
    )


def test_a_class_with_a_notebook_beside_the_folders(tmp_path):
    made = {f"{LESSON}.ipynb": notebook()} | {f"{each}/a.ipynb": notebook() for each in "abcdefghi"}
    lay_out(tmp_path, {"class.zip": zipped(made)})
    alone = students(tmp_path)
    assert set("abcdefghi") < set(alone)
    lay_out(tmp_path, {"late.zip": moodle("Doe Ann_1")})
    assert set(students(tmp_path)) == {*alone, "Doe Ann"}


def test_zips_named_by_dates_are_no_students(tmp_path):
    lay_out(tmp_path, {"hw_2026_11_22.zip": moodle("Ann_1"), "hw_2026_11_29.zip": moodle("Bob_2")})
    assert list(students(tmp_path)) == ["Ann", "Bob"]


AGAIN = "Download it again from the learning system."


@pytest.mark.parametrize("where", ["class.zip", "folder"])
def test_half_a_download_alone_is_the_teachers_to_mend(tmp_path, where):
    lay_out(tmp_path, {"folder/class.zip": moodle("Ann_1", "Bob_2")[:150], "class.zip": moodle("Ann_1")[:150]})
    with pytest.raises(ValueError, match=r"class\.zip cannot be read: The zip is damaged") as caught:
        collect(tmp_path / where, LESSON)
    assert str(caught.value).endswith(AGAIN)
    assert "Zip the notebook" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "made", "teachers"),
    [
        ("late.zip", moodle("Ann_1", "Bob_2")[:150], True),
        ("late.zip", canvas("ann_1", "bob_2")[:150], True),
        ("late.zip", zipped({f"hw/Ann_1{MOODLE}/a.ipynb": notebook()})[:150], True),
        ("submissions (1).zip", b"", True),
        ("Moodle late.zip", b"PK", True),
        ("CV101-Lesson 1-4711.zip", b"PK", True),
        ("ann.zip", zipped({"work.ipynb": notebook()})[:60], False),
        ("ann-2.zip", b"", False),
    ],
)
def test_half_a_download_beside_others_does_not_stop_them(tmp_path, name, made, teachers):
    found = students(lay_out(tmp_path, {"bob/a.ipynb": notebook("b"), name: made}))
    assert found.pop("bob").read() == notebook("b")
    (other,) = found.values()
    assert other.problem.endswith(AGAIN) == teachers
    assert ("Zip the notebook again." in other.problem) != teachers


@settings(max_examples=100, deadline=None)
@given(chosen=st.lists(st.tuples(NAME, ENDING), max_size=8), kind=st.sampled_from(["files", "folder", "lms", "zip"]))
def test_whatever_is_in_a_students_zip_the_others_beside_are_read_alike(tmp_path_factory, chosen, kind):
    place = tmp_path_factory.mktemp("class")
    theirs = {(name + ending).strip("/"): notebook("m") for name, ending in chosen}
    lay_out(
        place, {"moodle.zip": moodle("Ann_10", "Bob_11"), "canvas.zip": canvas("cat_12", "dan_13"), "eve/e.ipynb": b""}
    )
    if kind == "folder":  # of the teacher's making, with her zip in it
        lay_out(place, {"mallory/m.zip": zipped(theirs)})
    elif kind == "zip":
        lay_out(place, {"late.zip": zipped({"mallory_9_900_m.zip": zipped(theirs)})})
    elif kind == "lms":
        lay_out(
            place, {"late.zip": zipped({f"mallory_9{MOODLE}{name.replace('/', '')}": b"" for name in [*theirs, "a"]})}
        )
    else:
        lay_out(place, {"mallory.zip": zipped(theirs)})
    found = {each.student: each for each in collect(place, LESSON, NAMES)}
    ours = {"Ann": "10", "Bob": "11", "cat": "12", "dan": "13"}
    for name, number in ours.items():
        if (
            kind == "files"
        ):  # there the zip may say that it is a class's; whom that touches has a note or keeps the file
            same = [each for student, each in found.items() if student in (name, f"{name}-{number}", f"{name}-1")]
            assert any(each.notes or each.read() == notebook(f"{name}_{number}") for each in same)
        else:
            assert found[name].read() == notebook(f"{name}_{number}")
            assert (found[name].identifier, found[name].notes) == (number, ())
    assert kind == "files" or set(found) == {"Ann", "Bob", "cat", "dan", "eve", "mallory"}
