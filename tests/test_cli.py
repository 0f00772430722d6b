"""The command line: what each word does, exit codes 0, 1 and 2, and one plain message in place of a traceback."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import segcourse
from segcourse import authoring, cli, doctor, exercises, progress
from segcourse.datasets import download
from segcourse.home import home, lessons_folder, short, write_atomically

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["00_start_here", "01_receptive_field", "02_transposed", "10_capstone"]


@pytest.fixture(autouse=True)
def student(tmp_path, monkeypatch):
    """A student's machine: a folder of lessons, where the command is typed, and an empty home."""
    monkeypatch.setenv("SEGCOURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    (tmp_path / "course" / "lessons").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "course" / "lessons" / f"{name}.ipynb").touch()
    monkeypatch.chdir(tmp_path / "course")
    return tmp_path / "course"


def run(*words):
    """The exit code of a command; argparse leaves by SystemExit."""
    try:
        return cli.main(words)
    except SystemExit as exit_:
        return exit_.code


# The command as a whole.


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"segcourse {segcourse.__version__}\n"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == segcourse.__version__


@pytest.mark.parametrize(
    "words", [(), ("dance",), ("data",), ("data", "get"), ("lab", "--port", "x"), ("lab", "1", "2")]
)
def test_mistyped_commands_are_a_mistake_in_use(words, capsys):
    assert run(*words) == 2
    assert "usage: segcourse" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "usage", "guess"),
    [
        (["grade", "01", "x", "--out", "y", "--resme"], "usage: segcourse grade ", "did you mean --resume?"),
        (["grade", "01", "x", "--resme"], "usage: segcourse grade ", "did you mean --resume?"),
        (["lab", "--prot=8889"], "usage: segcourse lab ", "did you mean --port?"),
        (["garde", "01"], "usage: segcourse [", "did you mean grade?"),
        (["data", "gte"], "usage: segcourse data [", "did you mean get?"),
        (["lab", "1", "2"], "usage: segcourse lab ", None),
        (["dance"], "usage: segcourse [", None),
    ],
)
def test_a_typo_has_the_usage_of_its_command_and_a_guess(words, usage, guess, capsys):
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith(usage)
    assert said.splitlines()[-1] == guess if guess else "did you mean" not in said


def test_help_of_grading_has_an_example_that_can_be_typed(capsys):
    assert run("grade", "--help") == 0
    said = capsys.readouterr().out
    (example,) = re.findall(r"^  segcourse (grade .+)$", said, re.M)
    assert cli.parser().parse_args(example.split()).out == Path("graded")
    assert "where it has none, --trust is needed" in " ".join(said.split())


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    commands = ["lab", "doctor", "progress", "data", "grade", "grades", "release", "build"]
    assert re.findall(r"^    (\w+) ", capsys.readouterr().out, re.M) == commands


def test_the_command_is_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"segcourse": "segcourse.cli:main"}
    ran = subprocess.run([sys.executable, "-m", "segcourse.cli", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stdout) == (0, f"segcourse {segcourse.__version__}\n")


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (cli.UsageError("plain words"), 2),
        (OSError("plain words"), 1),
        (ValueError("plain words"), 1),
        (RuntimeError("plain words"), 1),
        (ImportError("plain words"), 1),
    ],
)
def test_errors_are_one_plain_message(problem, code, monkeypatch, capsys):
    def fail():
        raise problem

    monkeypatch.setattr(doctor, "run", fail)
    assert run("doctor") == code
    assert capsys.readouterr().err == "segcourse: plain words\n"


def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupt)
    assert run("doctor") == 130
    assert capsys.readouterr().err == "segcourse: stopped\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell with pipes")
def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m segcourse.cli progress --json | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert ran.stderr == ""


def test_a_console_without_signs_gets_a_substitute():
    """Such as the one of Windows with code page 1252, which has no ✓."""
    code = "from segcourse import cli, doctor; doctor.CHECKS = (doctor.python,); cli.main(['doctor'])"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(b"? ok")


# lab


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("0", "00_start_here"),
        ("1", "01_receptive_field"),
        ("01", "01_receptive_field"),
        ("001", "01_receptive_field"),
        ("01_receptive_field", "01_receptive_field"),
        ("receptive_field", "01_receptive_field"),
        ("lessons/01_receptive_field.ipynb", "01_receptive_field"),
        ("solutions/02_transposed.py", "02_transposed"),
        ("10", "10_capstone"),
    ],
)
def test_lessons_are_found_by_number_topic_name_or_path(asked, expected):
    assert cli.find_lesson(asked, NAMES) == expected


@pytest.mark.parametrize("asked", ["7", "receptive", "", "1_receptive_field", "²"])
def test_an_unknown_lesson_lists_what_there_is(asked):
    with pytest.raises(cli.UsageError) as caught:
        cli.find_lesson(asked, NAMES)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.fixture
def started(monkeypatch):
    """Collects the programs that would take over the process."""
    programs = []
    monkeypatch.setattr(cli, "WINDOWS", False)
    monkeypatch.setattr(os, "execv", lambda path, command: programs.append((path, command)))
    return programs


def test_lab_opens_the_first_lesson_with_this_python(started, student):
    run("lab")
    ((path, command),) = started
    assert path == command[0] == sys.executable
    assert command[1:3] == ["-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={student / 'lessons'}" in command
    assert "--LabApp.default_url=/lab/tree/00_start_here.ipynb" in command
    assert not any(word.startswith(("--no-browser", "--port")) for word in command)


def test_lab_opens_any_lesson_with_its_options(started):
    run("lab", "2", "--no-browser", "--port", "9001")
    command = started[0][1]
    assert "--LabApp.default_url=/lab/tree/02_transposed.ipynb" in command
    assert {"--no-browser", "--port=9001"} <= set(command)


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_lab_serves_root_too(started, monkeypatch, user, allowed):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    run("lab")
    assert ("--allow-root" in started[0][1]) is allowed


def test_lab_lets_waiting_threads_sleep_unless_told_otherwise(started, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    run("lab")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    run("lab")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_lab_keeps_the_prompt_busy_on_windows(monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "WINDOWS", True)
    monkeypatch.setattr(cli.subprocess, "call", lambda command: calls.append(command) or 5)
    monkeypatch.setattr(cli, "_lessons", lambda: (Path("lessons"), NAMES))
    assert run("lab", "1") == 5
    assert calls[0][1:3] == ["-m", "jupyterlab"]


def test_lab_with_an_unknown_lesson(started, capsys):
    assert run("lab", "77") == 2
    said = capsys.readouterr().err
    assert "there is no lesson '77'" in said
    assert "10_capstone" in said
    assert started == []


def test_lab_without_lessons(started, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "lessons_folder", lambda: None)
    assert run("lab") == 2
    assert "Change to the folder of the course" in capsys.readouterr().err


def test_the_folder_of_lessons_is_found_from_anywhere(student, tmp_path, monkeypatch):
    deep = student / "a" / "b"
    deep.mkdir(parents=True)
    for start in (student, student / "lessons", deep):
        assert lessons_folder(start) == student / "lessons"
    (deep / "lessons").mkdir()  # somebody else's folder of that name, without lessons of ours
    (deep / "lessons" / "notes.ipynb").touch()
    assert lessons_folder(deep) == student / "lessons"
    if any((ROOT / "lessons").glob("*.ipynb")):
        assert lessons_folder(tmp_path) == ROOT / "lessons"  # the checkout that is installed


# doctor


def test_doctor_prints_and_tells_by_its_exit_code(monkeypatch, capsys):
    for status, code in (("ok", 0), ("warn", 0), ("fail", 1)):
        findings = [doctor.Finding("one", "ok", "fine"), doctor.Finding("two", status, "seen", "do this")]
        monkeypatch.setattr(doctor, "run", lambda findings=findings: findings)
        assert run("doctor") == code
        assert capsys.readouterr().out.strip() == doctor.render_text(findings)


# progress


def test_progress_shows_every_exercise_of_the_course(capsys):
    first = exercises.catalogue()[0]
    progress.record(first.name, lesson=first.lesson, outcome="correct", points=first.points, of=first.points)
    assert run("progress") == 0
    shown = capsys.readouterr().out
    for each in exercises.catalogue():
        assert each.name in shown
        assert each.title in shown
    total = sum(each.points for each in exercises.catalogue())
    assert f"In all: {first.points} of {total} points." in shown


def test_progress_as_json(capsys):
    progress.record("kernel", lesson="01_fields", outcome="correct", points=2, of=2)
    progress.record_quiz("jump", "01_fields", True)
    assert run("progress", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["exercises"]["kernel"]["points"] == 2
    assert shown["quizzes"]["jump"]["right"] is True


def test_progress_can_be_reset_for_one_exercise_or_all(capsys):
    for name in ("kernel", "jump"):
        progress.record(name, lesson="01_fields", outcome="correct", points=2, of=2)
    assert run("progress", "--reset", "kernel") == 0
    assert "progress.backup-1.json" in capsys.readouterr().out
    assert set(progress.load().exercises) == {"jump"}
    assert run("progress", "--reset", "kernel") == 2
    assert "nothing is kept of an exercise 'kernel'" in capsys.readouterr().err
    assert run("progress", "--reset-all") == 0
    assert progress.load().exercises == {}
    assert run("progress", "--reset-all") == 0
    assert "nothing to forget" in capsys.readouterr().out
    assert run("progress", "--reset-all", "--json") == 2


# data


@pytest.fixture
def little(monkeypatch, tmp_path):
    """One small data set on a server of this test's own, described as the real one is; returns the server's folder."""
    server, manifest = tmp_path / "server", tmp_path / "little.tsv"
    (server / "Little" / "train").mkdir(parents=True)
    lines = ["path\tbytes\tsha256"]
    for name, content in {"train/a.txt": b"first", "train/b.txt": b"second one"}.items():
        (server / "Little" / name).write_bytes(content)
        lines.append(f"Little/{name}\t{len(content)}\t{hashlib.sha256(content).hexdigest()}")
    manifest.write_text("\n".join(lines))
    remote = download.Remote(
        "little", "two files", f"{server.as_uri()}/", "https://example.org", "free", "Little", manifest
    )
    monkeypatch.setattr(download, "REMOTES", {"little": remote})
    monkeypatch.setenv("SEGCOURSE_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "Little"


def test_data_list_tells_what_there_is(little, capsys):
    assert run("data", "list") == 0
    shown = capsys.readouterr().out
    assert "little: two files" in shown
    assert "not here; 2 files, 0 MB; free; https://example.org" in shown
    (little / "train").mkdir(parents=True)
    (little / "train" / "a.txt").write_bytes(b"first")
    run("data", "list")
    assert "1 of 2 files here" in capsys.readouterr().out


def test_data_verify_tells_by_its_exit_code(little, capsys):
    assert run("data", "verify") == 0  # a set that nobody fetched is no failure
    assert "little: not here" in capsys.readouterr().out
    (little / "train").mkdir(parents=True)
    (little / "train" / "a.txt").write_bytes(b"first")
    assert run("data", "verify") == 1
    assert "1 files right, 1 missing, 0 wrong" in capsys.readouterr().out
    (little / "train" / "a.txt").write_bytes(b"fIrst")
    (little / "train" / "b.txt").write_bytes(b"second one")
    assert run("data", "verify") == 1
    shown = capsys.readouterr().out
    assert "1 files right, 0 missing, 1 wrong" in shown
    assert "wrong: Little/train/a.txt" in shown
    assert "`segcourse data get little`" in shown
    (little / "train" / "a.txt").write_bytes(b"first")
    assert run("data", "verify") == 0
    assert "2 files right, 0 missing, 0 wrong" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_data_get_shows_how_far_it_is_on_a_terminal(little, monkeypatch, capsys, terminal):
    def get(name, progress):
        for done in (0, 1, 2):
            progress(done * 1_000_000, 2_000_000)
        return Path.home() / "data" / name

    monkeypatch.setattr(download, "get", get)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert run("data", "get", "little") == 0
    shown = capsys.readouterr()
    assert shown.out == "little: complete, each file verified, in ~/data/little\n"
    assert shown.err == ("\rlittle: 0 of 2 MB\rlittle: 1 of 2 MB\rlittle: 2 of 2 MB\n" if terminal else "")


def test_data_get_that_fails_says_why(little, monkeypatch, capsys):
    def get(name, progress):
        raise download.DownloadError("no connection to example.org. Try again")

    monkeypatch.setattr(download, "get", get)
    assert run("data", "get", "little") == 1
    assert capsys.readouterr().err == "segcourse: no connection to example.org. Try again\n"


def test_data_get_of_an_unknown_set(capsys):
    assert run("data", "get", "imagenet") == 2
    assert "camvid" in capsys.readouterr().err


# build


def test_build_hands_on_what_was_asked(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(authoring, "main", lambda lessons, check: asked.append((lessons, check)) or 0)
    monkeypatch.setattr(exercises, "LESSONS", NAMES)
    assert run("build") == 0
    assert run("build", "--check", "1", "solutions/02_transposed.py") == 0
    assert asked == [([], False), (["01_receptive_field", "02_transposed"], True)]
    assert run("build", "77") == 2
    assert "there is no lesson '77'" in capsys.readouterr().err
    monkeypatch.setattr(authoring, "main", lambda lessons, check: 1)
    assert run("build") == 1


def test_build_of_a_source_with_a_mistake(monkeypatch, capsys):
    def refuse(lessons, check):
        raise authoring.BuildError("solutions/01.py: the answer has no end")

    monkeypatch.setattr(authoring, "main", refuse)
    assert run("build") == 1
    assert capsys.readouterr().err == "segcourse: solutions/01.py: the answer has no end\n"


def test_build_without_the_packages_for_authors(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "segcourse.authoring")
    monkeypatch.delattr(segcourse, "authoring")
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert run("build") == 2
    assert 'pip install -c constraints.txt -e ".[dev]"' in capsys.readouterr().err


# home


def test_home_can_be_chosen(monkeypatch, tmp_path):
    assert home() == tmp_path / "home"
    monkeypatch.setenv("SEGCOURSE_HOME", "~/elsewhere")
    assert home() == Path.home() / "elsewhere"
    monkeypatch.delenv("SEGCOURSE_HOME")
    assert home() == Path.home() / ".segcourse"


def test_printed_paths_name_no_account():
    assert short(Path.home() / ".segcourse" / "x.json") == "~/.segcourse/x.json"
    assert short(Path.home()) == "~"
    assert short(Path("/data/x.json")) == str(Path("/data/x.json"))


def test_atomic_writing(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_atomically(file, "ä\n✓\r\n")
    assert file.read_bytes() == "ä\n✓\r\n".encode()

    def crash(*_):
        raise OSError("crash")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="crash"):
        write_atomically(file, "new")
    assert file.read_bytes() == "ä\n✓\r\n".encode()
    assert set(os.listdir(tmp_path)) == {"course", "file"}
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "file", "new")
