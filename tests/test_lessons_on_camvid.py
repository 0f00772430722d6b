"""Lessons on the real CamVid, and all others on generated data whatever lies on the machine."""

import json
import os
from pathlib import Path

import nbformat
import pytest

from segcourse import authoring, exercises
from segcourse.datasets.paths import camvid_folder, camvid_pack

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGCOURSE_DATA") or ROOT.parent / "shared" / "data")
HAS_CAMVID = all((camvid_folder(DATA) or camvid_pack(DATA, split)) for split in ("train", "val"))
STEMS = (  # those of the README's sentence on real photographs
    "00_start_here",
    "03_convolutionalize",
    "04_fcn_skips",
    "05_segnet_unpooling",
    "09_metrics",
)


@pytest.mark.skipif(not HAS_CAMVID, reason="no CamVid: set SEGCOURSE_DATA to a folder with its train and val splits")
@pytest.mark.parametrize("stem", STEMS)
def test_lesson_runs_on_real_streets(stem: str) -> None:
    notebook = authoring.read_source(ROOT / "solutions" / f"{stem}.py")
    setting = nbformat.v4.new_code_cell(f"import os\nos.environ['SEGCOURSE_DATA'] = {str(DATA)!r}")
    notebook.cells.insert(0, setting)
    notebook, _ = authoring.execute(notebook, ROOT / "solutions")
    said = json.dumps([cell.get("outputs") for cell in notebook.cells], ensure_ascii=False)
    assert "CamVid train: " in said or "CamVid val: " in said  # each prints a set that it loads
    assert not any(f"streets {split}: " in said for split in ("train", "val"))
    for exercise in exercises.lesson(stem).exercises:
        assert f"✓ {exercise.name}: correct" in said


def test_builds_do_not_see_the_data_of_this_machine(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("IPYTHONDIR", raising=False)  # without what the tests give to kernels
    monkeypatch.setenv("SEGCOURSE_DATA", str(tmp_path))
    cell = nbformat.v4.new_code_cell("import os\nprint('data:', os.environ.get('SEGCOURSE_DATA'))")
    notebook, _ = authoring.execute(nbformat.v4.new_notebook(cells=[cell], metadata=authoring.KERNEL), tmp_path)
    assert notebook.cells[0].outputs[0].text == "data: None\n"
    assert os.environ["SEGCOURSE_DATA"] == str(tmp_path)
