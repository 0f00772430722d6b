"""The file of progress: best points stay, writers never lose each other's work, no damage stops a check."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segcourse import progress
from segcourse.home import write_atomically


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCOURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(progress, "_said", set())
    monkeypatch.setattr(progress, "_hints_not_kept", {})
    return tmp_path / "home"


def note(points=2.0, outcome="correct", exercise="kernel", **more):
    return progress.record(exercise, lesson="01_fields", outcome=outcome, points=points, of=2, **more)


def test_nothing_is_kept_at_first(folder):
    assert progress.load() == progress.Progress()
    assert progress.hints_shown("kernel") == 0
    assert not folder.exists()


def test_a_later_failure_keeps_the_best_points_and_tells_the_latest_outcome():
    assert note(2, "correct")
    assert note(0, "not yet", diagnosis="own stride")
    entry = progress.load().exercises["kernel"]
    assert (entry.points, entry.of, entry.attempts) == (2, 2, 2)
    assert (entry.outcome, entry.diagnosis, entry.lesson) == ("not yet", "own stride", "01_fields")


def test_times_are_utc_and_the_first_one_stays(monkeypatch):
    class Clock(datetime):
        hour_now = 10

        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, cls.hour_now, tzinfo=tz)

    monkeypatch.setattr(progress, "datetime", Clock)
    note()
    Clock.hour_now = 11
    note()
    entry = progress.load().exercises["kernel"]
    assert (entry.first, entry.last) == ("2026-01-02T10:00:00+00:00", "2026-01-02T11:00:00+00:00")


def test_checking_the_untouched_starter_is_no_attempt():
    note(0, progress.NOT_ATTEMPTED)
    entry = progress.load().exercises["kernel"]
    assert (entry.attempts, entry.first, entry.outcome) == (0, "", "not attempted")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=12))
def test_any_history_keeps_the_maximum_and_counts_the_attempts(history):
    progress.path().unlink(missing_ok=True)
    for name, points in history:
        assert progress.record(name, lesson="x", outcome="some", points=points, of=4)
    kept = progress.load().exercises
    assert {n: e.points for n, e in kept.items()} == {n: max(p for m, p in history if m == n) for n, _ in history}
    assert sum(e.attempts for e in kept.values()) == len(history)


@pytest.mark.parametrize(("points", "of"), [(-1, 2), (3, 2), (float("nan"), 2), (0, float("inf")), (0, -1)])
def test_impossible_points_are_a_mistake_of_the_caller(points, of):
    with pytest.raises(ValueError, match="points must lie between 0 and"):
        progress.record("kernel", lesson="x", outcome="some", points=points, of=of)
    assert not progress.path().exists()


def test_hints_and_quizzes():
    assert progress.record_hint("kernel", 2)
    assert progress.record_hint("kernel", 1)
    assert progress.hints_shown("kernel") == 2
    assert progress.load().exercises["kernel"].attempts == 0
    with pytest.raises(ValueError, match="numbered from 1"):
        progress.record_hint("kernel", 0)

    assert progress.record_quiz("jump", "01_fields", False)
    assert progress.record_quiz("jump", "01_fields", True)
    quiz = progress.load().quizzes["jump"]
    assert (quiz.attempts, quiz.right, quiz.right_at_first) == (2, True, False)


WRITER = """
import sys
from segcourse import progress
for i in range(20):
    assert progress.record(f"{sys.argv[1]}{i}", lesson="x", outcome="correct", points=1, of=1)
    assert progress.record("shared", lesson="x", outcome="correct", points=i, of=20)
"""


def test_two_notebooks_at_once_lose_nothing(monkeypatch):
    environment = {**os.environ, "PYTHONPATH": str(Path(progress.__file__).parents[1])}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name], env=environment) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    kept = progress.load().exercises
    assert len(kept) == 3 * 20 + 1
    assert kept["shared"].attempts == 3 * 20
    assert kept["shared"].points == 19


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe\x00",
        b'{"schema": 1, "exercises": {"kernel": {"po',
        b"[1, 2]",
        b'{"name": "somebody else\'s file"}',
        b'{"schema": 1, "exercises": [], "quizzes": {}}',
        b'{"schema": 1, "exercises": {"kernel": 3}, "quizzes": {}}',
        b'{"schema": 1, "exercises": {"kernel": {"points": "many"}}, "quizzes": {}}',
        b'{"schema": 1, "exercises": {"kernel": {"points": NaN}}, "quizzes": {}}',
        b'{"schema": 1, "exercises": {"kernel": {"points": 1' + b"0" * 400 + b'}}, "quizzes": {}}',
        b'{"schema": 1, "exercises": {"kernel": {"attempts": true}}, "quizzes": {}}',
        b"[" * 100_000,
    ],
    ids=lambda damage: repr(damage[:40]),
)
@pytest.mark.parametrize("first_use", ["record", "load"])
def test_a_damaged_file_is_set_aside_whole_and_said_once(folder, capsys, damage, first_use):
    folder.mkdir()
    progress.path().write_bytes(damage)
    if first_use == "load":
        assert progress.load() == progress.Progress()
    assert note()
    assert note()
    assert (folder / "progress.corrupt-1.json").read_bytes() == damage
    assert progress.load().exercises["kernel"].attempts == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "could not be understood" in said
    assert "progress.corrupt-1.json" in said


def test_a_second_damage_does_not_replace_the_first(folder):
    folder.mkdir()
    for n, damage in enumerate([b"one", b"two"], start=1):
        progress.path().write_bytes(damage)
        assert note()
        assert (folder / f"progress.corrupt-{n}.json").read_bytes() == damage


def test_what_a_newer_version_added_stays():
    note()
    document = json.loads(progress.path().read_text())
    document["schema"] = 2
    document["badges"] = ["owl"]
    document["exercises"]["kernel"]["mood"] = "good"
    document["exercises"]["other"] = {"lesson": "09_new", "stars": 3}
    progress.path().write_text(json.dumps(document))
    note()
    progress.record_hint("other", 1)
    after = json.loads(progress.path().read_text())
    assert after["schema"] == 2
    assert after["badges"] == ["owl"]
    assert after["exercises"]["kernel"]["mood"] == "good"
    assert after["exercises"]["other"] == {"lesson": "09_new", "stars": 3, "hints": 1}


def test_a_newer_form_is_left_alone_and_said(folder, capsys):
    folder.mkdir()
    text = '{"schema": 7, "exercises": [["kernel", 2]]}'
    progress.path().write_text(text)
    assert not note()
    assert progress.load() == progress.Progress()
    with pytest.raises(ValueError, match="newer version"):
        progress.reset(None)
    assert [file.name for file in folder.glob("*.json")] == ["progress.json"]
    assert progress.path().read_text() == text
    assert "newer version" in capsys.readouterr().err


def test_an_unwritable_home_never_breaks_a_check(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "a file"  # a file where a folder should be: fails for every user, root too
    blocked.write_text("")
    monkeypatch.setenv("SEGCOURSE_HOME", str(blocked / "home"))
    assert not note()
    assert not note()
    assert progress.hints_shown("kernel") == 0
    assert not progress.record_hint("kernel", 1)
    assert not progress.record_quiz("jump", "01_fields", True)
    assert progress.hints_shown("kernel") == 1  # the ladder of hints goes on
    said = capsys.readouterr().err
    assert said.count("not being kept") == 1
    assert "checks work all the same" in said


def test_a_read_only_home_never_breaks_a_check(folder, capsys):
    note()
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write to read-only folders")
        assert not note()
        assert progress.load().exercises["kernel"].attempts == 1
    finally:
        folder.chmod(0o700)


def test_no_home_at_all_never_breaks_a_check(monkeypatch, capsys):
    monkeypatch.delenv("SEGCOURSE_HOME")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert not note()
    assert progress.load() == progress.Progress()
    assert "home directory" in capsys.readouterr().err


def test_a_lock_that_stays_taken_never_breaks_a_check(folder, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOCK_SECONDS", 0.05)
    folder.mkdir()
    with FileLock(folder / "progress.lock", is_singleton=False):
        assert not note()
        progress.path().write_text("{}")
        with pytest.raises(OSError, match="try again"):
            progress.reset(None)
    assert "another notebook is writing" in capsys.readouterr().err


def test_a_crash_while_writing_leaves_the_old_file_and_no_litter(folder, monkeypatch):
    note(1)
    before = progress.path().read_bytes()

    def crash(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    assert not note(2)
    assert progress.path().read_bytes() == before
    assert {file.name for file in folder.iterdir()} == {"progress.json", "progress.lock"}


def test_reset_one_exercise_keeps_the_rest_and_a_copy(folder):
    note()
    note(exercise="other")
    before = progress.path().read_bytes()
    copy = progress.reset("kernel")
    assert copy == folder / "progress.backup-1.json"
    assert copy.read_bytes() == before
    assert set(progress.load().exercises) == {"other"}
    assert progress.reset("kernel") is None
    assert not (folder / "progress.backup-2.json").exists()


def test_reset_everything_keeps_a_copy(folder):
    assert progress.reset(None) is None
    note()
    progress.record_quiz("jump", "01_fields", True)
    first = progress.reset(None)
    assert progress.load() == progress.Progress()
    assert progress.reset(None) is None
    note()
    second = progress.reset(None)
    assert (first, second) == (folder / "progress.backup-1.json", folder / "progress.backup-2.json")
    assert set(json.loads(first.read_text())["quizzes"]) == {"jump"}


COURSE = [
    ("01_fields", "kernel", 2, "Kernel of a compound"),
    ("01_fields", "jump", 3, "Jump"),
    ("02_matrix", "bands", 4, "Bands"),
]


def test_table_tells_points_states_and_quizzes():
    note(2)
    progress.record("jump", lesson="01_fields", outcome="not yet", points=0, of=3)
    progress.record("jump", lesson="01_fields", outcome="not yet", points=1, of=3)
    progress.record("retired", lesson="01_fields", outcome="correct", points=9, of=9)
    progress.record_quiz("q1", "01_fields", True)
    progress.record_quiz("q2", "01_fields", False)
    assert progress.table(COURSE).splitlines() == [
        "01_fields: 3 of 5 points, quiz 1 of 2 right",
        "  ✓ correct        kernel  2/2  Kernel of a compound",
        "  ✗ not yet        jump    1/3  Jump",
        "",
        "02_matrix: 0 of 4 points",
        "  ○ not attempted  bands   0/4  Bands",
        "",
        "In all: 3 of 9 points.",
    ]


def test_table_never_gives_more_than_the_course_does():
    progress.record("kernel", lesson="01_fields", outcome="correct", points=5, of=5)
    assert "In all: 2 of 9 points." in progress.table(COURSE)
    assert progress.table([]) == "In all: 0 of 0 points."


def test_needs_no_torch():
    code = "import sys, segcourse.progress; assert not {'torch', 'numpy'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(progress.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_written_files_have_the_permissions_of_any_other_file(tmp_path):
    usual, ours = tmp_path / "usual", tmp_path / "ours"
    usual.write_text("")
    write_atomically(ours, "text")
    assert ours.stat().st_mode == usual.stat().st_mode
    ours.chmod(0o600)
    write_atomically(ours, "other")
    assert ours.stat().st_mode & 0o777 == 0o600
