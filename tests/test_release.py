"""What students get: the lessons as they are, a page, no answer; nothing overwritten, the same bytes every time."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from segcourse import authoring, cli, exercises, release

ROOT = Path(__file__).resolve().parents[1]
LESSONS = ROOT / "lessons"
STEM = "01_receptive_field"


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lessons_come_byte_for_byte_with_a_page(tmp_path, capsys) -> None:
    assert cli.main(["release", "01", "transposed", "1", "--out", str(tmp_path / "new" / "out")]) == 0
    packed = files(tmp_path / "new" / "out")
    names = ["lessons/01_receptive_field.ipynb", "lessons/02_transposed.ipynb"]
    assert sorted(packed) == ["README.txt", *names]
    assert all(packed[name] == (ROOT / name).read_bytes() for name in names)
    assert capsys.readouterr().out.count("\n") == 3


def test_what_is_packed_can_be_opened_from_its_folder(tmp_path, monkeypatch) -> None:
    """As the page tells students: `segcourse lab 01` in it."""
    release.pack([LESSONS / f"{STEM}.ipynb"], tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli._lessons() == (tmp_path / "lessons", [STEM])


@pytest.mark.parametrize("stem", exercises.LESSONS)
def test_no_solution_is_in_it(stem, tmp_path) -> None:
    release.pack([LESSONS / f"{stem}.ipynb"], tmp_path)
    text = "\n".join(
        "".join(cell["source"]) for cell in json.loads((tmp_path / "lessons" / f"{stem}.ipynb").read_bytes())["cells"]
    )
    lines = [
        line
        for cell in authoring.read_source(ROOT / "solutions" / f"{stem}.py").cells
        for line in authoring.solution_lines(cell.source)
    ]
    assert lines
    assert not [line for line in lines if line in authoring.squeeze(text)]


def test_twice_is_once_and_a_further_lesson_comes_beside(tmp_path) -> None:
    release.pack([LESSONS / f"{STEM}.ipynb"], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    release.pack([LESSONS / f"{STEM}.ipynb"], tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    release.pack([LESSONS / "02_transposed.ipynb"], tmp_path)
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("name", ["README.txt", f"lessons/{STEM}.ipynb"])
def test_a_different_file_is_not_overwritten(name, tmp_path, capsys) -> None:
    (tmp_path / "lessons").mkdir()
    (tmp_path / name).write_text("mine")
    assert cli.main(["release", "01", "--out", str(tmp_path)]) == 2
    assert "is there, and differs" in capsys.readouterr().err
    assert files(tmp_path) == {name: b"mine"}


def test_the_zip_is_the_same_every_time(tmp_path, monkeypatch) -> None:
    lessons = [LESSONS / f"{STEM}.ipynb", LESSONS / "02_transposed.ipynb"]
    (first,) = release.pack(lessons, tmp_path / "a", as_zip=True)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    monkeypatch.setattr("sys.platform", "win32")
    (second,) = release.pack(lessons, tmp_path / "b", as_zip=True)
    assert first.name == second.name == "segcourse_01_02.zip"
    assert first.read_bytes() == second.read_bytes()
    release.pack(lessons, tmp_path / "loose")
    with zipfile.ZipFile(io.BytesIO(first.read_bytes())) as archive:
        inside = {name.removeprefix("segcourse_01_02/"): archive.read(name) for name in archive.namelist()}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}
    assert inside == files(tmp_path / "loose")


def test_a_different_zip_is_not_overwritten(tmp_path, capsys) -> None:
    (tmp_path / "segcourse_01.zip").write_bytes(b"mine")
    assert cli.main(["release", "01", "--out", str(tmp_path), "--zip"]) == 2
    assert files(tmp_path) == {"segcourse_01.zip": b"mine"}


def test_a_notebook_with_outputs_or_answers_is_refused(tmp_path) -> None:
    notebook = json.loads((LESSONS / f"{STEM}.ipynb").read_bytes())
    ran = json.loads(json.dumps(notebook))
    next(c for c in ran["cells"] if c["cell_type"] == "code")["outputs"] = [{"output_type": "stream"}]
    answered = json.loads(json.dumps(notebook))
    cell = next(c for c in answered["cells"] if "answer" in c["metadata"].get("tags", []))
    cell["source"] = ["def compound_kernel(kernel_1, stride_1, kernel_2):\n", "    return 1"]
    for changed, what in ((ran, "outputs"), (answered, "an answer")):
        path = tmp_path / f"{STEM}.ipynb"
        path.write_text(json.dumps(changed))
        with pytest.raises(release.ReleaseError, match=f"holds {what}"):
            release.pack([path], tmp_path / "out")
    with pytest.raises(release.ReleaseError, match="holds"):
        release.pack([ROOT / "solutions" / f"{STEM}.ipynb"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_stub_is_the_builds() -> None:
    assert release.STUB in authoring.STUB


def test_a_crash_leaves_no_half_file(tmp_path, monkeypatch) -> None:
    def crash(*_):
        raise OSError("crash")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="crash"):
        release.pack([LESSONS / f"{STEM}.ipynb"], tmp_path)
    assert files(tmp_path) == {}


def test_an_unknown_lesson_and_no_lesson(tmp_path, capsys) -> None:
    assert cli.main(["release", "77", "--out", str(tmp_path / "out")]) == 2
    assert "there is no lesson '77'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["release", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
