"""The doctor: each failure is planted, and must be reported with a word on what to do."""

import builtins
import json
import shutil
import sys
from collections import namedtuple
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from segcourse import doctor
from segcourse.datasets import download
from segcourse.doctor import Finding


@pytest.fixture(autouse=True)
def healthy(monkeypatch, tmp_path):
    """A machine without a GPU and a student's folder of its own."""
    monkeypatch.setenv("SEGCOURSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEGCOURSE_DATA", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(doctor, "gpus", lambda: 0)
    lessons = tmp_path / "lessons"
    lessons.mkdir()
    (lessons / "00_start_here.ipynb").touch()
    monkeypatch.chdir(tmp_path)


def versions(monkeypatch, **planted):
    """Make these packages appear in these versions; None: not installed."""
    true = metadata.version

    def version(name):
        if name in planted and planted[name] is None:
            raise metadata.PackageNotFoundError(name)
        return planted.get(name) or true(name)

    monkeypatch.setattr(metadata, "version", version)


def assert_reported(finding: Finding, status: str, found: str, advice: str):
    assert finding.status == status
    assert found in finding.found
    assert advice in finding.advice
    text = doctor.render_text([finding])
    assert doctor.SIGNS[status] in text
    assert finding.name in text
    assert finding.found in text
    assert f"-> {finding.advice}" in text


def test_nothing_fails_here():
    findings = doctor.run()
    assert [finding for finding in findings if finding.status == "fail"] == []
    assert len(findings) == len(doctor.CHECKS) >= 10
    assert len({finding.name for finding in findings}) == len(findings)


def test_every_check_has_a_planted_failure():
    """A check without a test of its failure would be decoration."""
    source = Path(__file__).read_text()
    for check in doctor.CHECKS:
        assert f"assert_reported(doctor.{check.__name__}(), " in source, check.__name__


def test_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert_reported(doctor.python(), "fail", "bit", "Install Python 3.11 or newer")


def test_python_of_32_bits(monkeypatch):
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert_reported(doctor.python(), "fail", "32 bit", "64 bit")


def test_missing_and_outdated_packages(monkeypatch):
    versions(monkeypatch, scipy=None, numpy="1.20.0")
    finding = doctor.packages()
    assert_reported(doctor.packages(), "fail", "scipy is missing", "pip install")
    assert "numpy is 1.20.0, needed is >=1.26" in finding.found


@pytest.mark.parametrize("version", [None, "0.10.0"])
def test_wrong_nbval_is_only_a_warning(monkeypatch, version):
    versions(monkeypatch, nbval=version)
    assert_reported(doctor.nbval(), "warn", version or "missing", "nbval==0.11.0")


def test_torch_that_cannot_be_imported(monkeypatch):
    true = builtins.__import__

    def broken(name, *rest):
        if name == "torch":
            raise ImportError("libtorch_cpu.so: cannot open shared object file")
        return true(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert_reported(doctor.torch_build(), "fail", "libtorch_cpu.so", "pip install")
    findings = {finding.name: finding for finding in doctor.run()}
    assert findings["training"].status == "fail"
    assert "Mend the other failures first" in findings["training"].advice


def test_cpu_build_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(doctor, "gpus", lambda: 1)
    assert_reported(doctor.torch_build(), "warn", "built for the CPU", "make clean")


def test_gpu_whose_driver_is_too_old(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "gpus", lambda: 1)
    assert doctor.torch_build().status == "ok"
    assert_reported(doctor.device(), "warn", "CPU", "Update the driver")


def test_device_that_cannot_compute(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with ...")

    monkeypatch.setattr(torch, "eye", fail)
    assert_reported(doctor.device(), "fail", "no kernel image is available", "CUDA_VISIBLE_DEVICES")
    assert "Compile with" not in doctor.device().found


def test_device_that_computes_wrongly(monkeypatch):
    monkeypatch.setattr(torch, "ones", torch.zeros)
    assert_reported(doctor.device(), "fail", "PU", "Update the driver")


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    monkeypatch.setattr(doctor, "available_cores", lambda: 3)
    assert_reported(doctor.threads(), "warn", "9 on 3 cores", "OMP_NUM_THREADS=3")


def test_threads_that_spin(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(doctor, "available_cores", lambda: 2)
    assert doctor.threads().status == "ok"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert_reported(doctor.threads(), "warn", "not set", "OMP_WAIT_POLICY=PASSIVE")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert doctor.threads().status == "ok"


def labextension(folder: Path, version="9.9.9") -> str:
    package = folder / doctor.LABEXTENSION / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text(json.dumps({"version": version}))
    return str(folder)


def test_widgets_extension_is_absent(monkeypatch, tmp_path):
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path)])
    assert_reported(doctor.widgets(), "fail", "lacks the extension", "jupyterlab_widgets")


def test_widgets_extension_of_another_version_comes_first(monkeypatch, tmp_path):
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [labextension(tmp_path / "old")])
    assert doctor.shipped_manifest()["version"] != "9.9.9"
    assert_reported(doctor.widgets(), "fail", "serves 9.9.9", "jupyter labextension list")


@pytest.mark.parametrize("disabled", [{doctor.LABEXTENSION: True}, [f"{doctor.LABEXTENSION}:plugin"]])
def test_widgets_extension_is_switched_off(monkeypatch, tmp_path, disabled):
    config = tmp_path / "labconfig" / "page_config.json"
    config.parent.mkdir()
    monkeypatch.setattr("jupyter_core.paths.jupyter_config_path", lambda: [str(tmp_path)])
    config.write_text(json.dumps({"disabledExtensions": {doctor.LABEXTENSION: False, "other": True}}))
    assert doctor.widgets().status == "ok"
    config.write_text(json.dumps({"disabledExtensions": disabled}))
    assert_reported(doctor.widgets(), "fail", "switched off", "labextension enable")


def test_widgets_packages_do_not_match(monkeypatch):
    versions(monkeypatch, jupyterlab_widgets="1.1.0")
    assert_reported(doctor.widgets(), "fail", "ipywidgets needs jupyterlab_widgets", "pip install")


def test_home_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "can_write", lambda folder: folder.name != "home")
    assert_reported(doctor.folders(), "fail", "home", "SEGCOURSE_HOME")


def test_lessons_that_cannot_be_written(monkeypatch):
    monkeypatch.setattr(doctor, "can_write", lambda folder: folder.name != "lessons")
    assert_reported(doctor.folders(), "fail", "lessons", "right to write")


def test_no_lessons(monkeypatch):
    monkeypatch.setattr(doctor, "lessons_folder", lambda: None)
    assert_reported(doctor.folders(), "warn", "no lessons found", "folder of the course")


def test_can_write_tries_the_nearest_folder_there_is(tmp_path, monkeypatch):
    assert doctor.can_write(tmp_path / "not" / "yet")
    assert not (tmp_path / "not").exists()

    def refused(*_, **__):
        raise PermissionError

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    assert not doctor.can_write(tmp_path)


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "status", "advice"), [(50e6, "fail", "Make room"), (150e6, "warn", "data would take")]
)
def test_full_disk(monkeypatch, free, status, advice):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e12, 1e12 - free, free))
    assert_reported(doctor.disk(), status, "0.1 GB free" if status == "fail" else "0.", advice)


def a_set_of_two(monkeypatch, **found):
    offer = download.Offer("little", "a set", files=2, size=20, page="", terms="", here=found.pop("here", 2))
    monkeypatch.setattr(download, "list_datasets", lambda: [offer])
    result = {"good": 2, "missing": (), "wrong": (), **found}
    monkeypatch.setattr(download, "verify", lambda name: download.Verification(name, Path("little"), **result))


def test_data_that_is_absent_or_right(monkeypatch):
    a_set_of_two(monkeypatch, here=0, good=0, missing=("a", "b"))
    assert doctor.data().status == "ok"
    assert "generated streets" in doctor.data().found
    a_set_of_two(monkeypatch)
    assert doctor.data() == Finding("data", "ok", "little: 2 files right")


def test_data_with_a_wrong_byte(monkeypatch):
    a_set_of_two(monkeypatch, good=1, wrong=("train/a.png",))
    assert_reported(doctor.data(), "fail", "1 wrong: train/a.png", "segcourse data get little")


def test_data_that_is_incomplete(monkeypatch):
    a_set_of_two(monkeypatch, good=1, missing=("b",))
    assert_reported(doctor.data(), "warn", "1 missing", "segcourse data get little")


def test_training_that_does_not_learn(monkeypatch):
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: None)
    assert_reported(doctor.training(), "fail", "loss", "must fall")


def test_training_that_gives_no_number(monkeypatch):
    true = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda *a: true(*a) * float("nan"))
    assert_reported(doctor.training(), "fail", "nan", "must fall")


def test_training_leaves_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert doctor.training().status == "ok"
    assert torch.equal(torch.rand(3), expected)


def test_a_check_that_raises_is_a_failure_and_the_rest_goes_on():
    def explodes():
        raise KeyError("lost")

    findings = doctor.run([explodes, doctor.python])
    assert [finding.status for finding in findings] == ["fail", "ok"]
    assert "KeyError: 'lost'" in findings[0].found
    assert "report it" in findings[0].advice


def test_gpus_counts_what_the_driver_lists(monkeypatch, tmp_path):
    monkeypatch.undo()
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: a)'\necho 'GPU 1: Two (UUID: b)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert doctor.gpus() == 2
    tool.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    assert doctor.gpus() == 0
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.gpus() == 0


def test_requirements_are_the_ones_of_students():
    names = {requirement.name for requirement in doctor.requirements()}
    assert "torch" in names
    assert "nbgrader" not in names
    assert all(isinstance(requirement, Requirement) for requirement in doctor.requirements())


FINDINGS = [
    Finding("one", "ok", "1 < 2"),
    Finding("two", "warn", "slow", "Close <others> & wait."),
    Finding("three", "fail", "gone", "Fetch it."),
]


def test_text():
    assert doctor.render_text(FINDINGS).splitlines() == [
        "✓ ok    one    1 < 2",
        "! warn  two    slow",
        "               -> Close <others> & wait.",
        "✗ fail  three  gone",
        "               -> Fetch it.",
        "",
        "Not ready yet: three.",
    ]
    assert doctor.summary(FINDINGS[:2]) == "Ready. Worth a look: two."
    assert doctor.summary(FINDINGS[:1]) == "Ready: everything works."


class Words(HTMLParser):
    def __init__(self):
        super().__init__()
        self.words = []

    def handle_data(self, data):
        self.words += data.split()


def test_html_says_the_same_as_the_text():
    page = Words()
    page.feed(doctor.render_html(FINDINGS))
    assert page.words == doctor.render_text(FINDINGS).replace("->", "→").split()


def test_in_a_notebook_the_report_shows_itself(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: FINDINGS[2],))
    report = doctor.doctor()
    assert repr(report) == doctor.render_text(FINDINGS[2:])
    assert report._repr_html_() == doctor.render_html(FINDINGS[2:])
