"""The bank of odd and hostile submissions: each gets its fair mark, and nothing of it remains."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segcourse.grading import runner, sandbox
from segcourse.grading.command import GradingError, choose_isolation
from segcourse.grading.grade import Grader
from segcourse.grading.intake import Submission
from segcourse.grading.results import Record

sys.path.insert(0, str(Path(__file__).parent))
from bank import ALL, FIRST, GC_HUNT, LESSON, VICTIM, Attempt, public_cases, secret_cases
from second_bank import SECOND

BANK = [*FIRST, *SECOND]

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"a secret of the bank"
SECONDS, LEAST_SECONDS = 5.0, 0.4
"""The time limit of an exercise; that of lesson 01 is shortened to what this machine needs, and never below the second.

Endless loops take most of the bank's time, and each of them runs into the limit."""
MEMORY = 512 * sandbox.MIB
CPU_LIMIT, WALL_LIMIT = 180.0, 900.0
"""What the whole bank may take, judge and submissions together, in seconds."""
HONEST = next(attempt for attempt in BANK if attempt.name == "honest")

STRONGEST = sandbox.strongest()
LEVELS = {
    "strongest": STRONGEST,
    "bubblewrap without landlock": dataclasses.replace(STRONGEST, landlock=False),
    "namespaces": dataclasses.replace(STRONGEST, bubblewrap=False),
    "landlock": dataclasses.replace(STRONGEST, bubblewrap=False, namespaces=False),
}
NEEDS = {
    "strongest": (),
    "bubblewrap without landlock": ("bubblewrap", "landlock"),
    "namespaces": ("namespaces", "landlock"),
    "landlock": ("landlock",),
}
LEFT = (
    "//tmp/owned",  # two slashes: tests/test_project.py looks for folders of one machine
    "/var/tmp/owned",
    "/run/owned",
    "/dev/shm/owned",
    "/usr/owned",
    str(Path.home() / "owned"),
    "/owned",
)


def skip_unless_there(level: str) -> None:
    """Skip a test where the machine does not offer a level of isolation."""
    missing = [layer for layer in NEEDS[level] if not getattr(STRONGEST, layer)]
    if missing or not LEVELS[level].hides_files:
        pytest.skip(f"this machine has no {' and no '.join(missing) or 'way to hide its files'}")


class Setting:
    """A class's folder, a server that nobody may reach, and graders that share a worker."""

    def __init__(self, folder: Path, level: str) -> None:
        skip_unless_there(level)
        self.folder = folder
        for name in ("secret.txt", "bob.ipynb", "grades.csv"):
            (folder / name).write_text("untouched")
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.isolation = LEVELS[level]
        self.graders: dict[str, Grader] = {}

    def grader(self, lesson: str) -> Grader:
        """A grader of a lesson."""
        if lesson not in self.graders:
            released = ROOT / "lessons" / f"{lesson}.ipynb"
            limits = sandbox.Limits(memory=MEMORY)
            grader = Grader(lesson, released, SECRET, self.isolation, limits, SECONDS)
            for other in self.graders.values():
                if other.lesson.given == grader.lesson.given:
                    grader._worker = other._worker
            grader._worker.start()
            self.graders[lesson] = grader
            if lesson == LESSON:
                taken = []
                for _ in range(3):
                    began = time.monotonic()
                    self.grade(HONEST)
                    taken.append(time.monotonic() - began)
                grader._seconds = max(LEAST_SECONDS, 4 * max(taken[1:]))  # of all exercises together
        return self.graders[lesson]

    def grade(self, attempt: Attempt) -> Record:
        """Grade an attempt that knows this setting's places."""
        canary, port = repr(os.fsencode(self.folder)).encode(), str(self.server.getsockname()[1]).encode()
        data = attempt.data.replace(b"@CANARY@", canary).replace(b"@PORT@", port)
        return self.grader(attempt.lesson).grade(Submission("ann", "a.ipynb", loader=lambda: data))

    def close(self) -> None:
        """End the worker and the server."""
        for grader in self.graders.values():
            grader.__exit__()
        self.server.close()


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    made = Setting(tmp_path_factory.mktemp("class"), "strongest")
    began, before = time.monotonic(), processor_seconds()
    yield made
    made.close()
    assert time.monotonic() - began < WALL_LIMIT
    assert processor_seconds() - before < CPU_LIMIT


@pytest.fixture(scope="module", params=[level for level in LEVELS if level != "strongest"])
def weaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    made = Setting(tmp_path_factory.mktemp("class"), request.param)
    yield made
    made.close()


def processor_seconds() -> float:
    """What this process and those that it has waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def right(record: Record) -> set[str]:
    """The exercises that have earned their points."""
    return {result.name for result in record.results if result.points == result.of}


def assert_fair(attempt: Attempt, record: Record, setting: Setting) -> None:
    """The mark is the fair one, the notes say why, nothing secret is shown, and nothing is left."""
    assert record.status == attempt.status
    wrong = (right(record) ^ attempt.right) - attempt.either
    assert not wrong, (wrong, record.notes, record.tampering, [r.card.get("lines") for r in record.results])
    assert {result.points for result in record.results} <= {0, 1, 2, 3}
    assert attempt.says.lower() in " ".join(record.notes).lower()
    if attempt.tampering is not None:
        assert bool(record.tampering) == attempt.tampering, record.tampering
    assert len(json.dumps(dataclasses.asdict(record))) < 60_000
    assert_nothing_secret(record)
    assert_nothing_left(setting)


def assert_nothing_secret(record: Record) -> None:
    """No input that only the secret determines is in what anybody reads."""
    shown = json.dumps(dataclasses.asdict(record))
    known = {text for case in public_cases() for text in forms(case["strides"])}
    for case in secret_cases(VICTIM, SECRET):
        for text in forms(case["strides"]):
            assert len(case["strides"]) < 3 or text in known or text not in shown


def forms(strides: list[int]) -> list[str]:
    """How the attempts write their inputs."""
    return [f"{strides}", "LEAK" + "_".join(map(str, strides))]


def assert_nothing_left(setting: Setting) -> None:
    """No file was made or changed, nobody has called the server, and no process but the worker runs."""
    assert not [path for path in LEFT if os.path.lexists(path)]
    assert sorted(os.listdir(setting.folder)) == ["bob.ipynb", "grades.csv", "secret.txt"]
    assert {path.read_text() for path in setting.folder.iterdir()} == {"untouched"}
    with pytest.raises(BlockingIOError):
        setting.server.accept()


@pytest.mark.parametrize("attempt", BANK, ids=str)
def test_a_submission_gets_its_fair_mark(attempt: Attempt, setting: Setting) -> None:
    assert_fair(attempt, setting.grade(attempt), setting)


def test_afterwards_the_worker_is_as_it_was(setting: Setting) -> None:
    grader = setting.grader(LESSON)
    process = grader._worker._process
    assert right(setting.grade(HONEST)) == ALL
    assert grader._worker._process is process
    assert len(below(process.pid)) == (2 if STRONGEST.bubblewrap else 0)  # the room's first process, and the worker


@pytest.mark.parametrize("attempt", [attempt for attempt in BANK if attempt.core], ids=str)
def test_a_weaker_level_is_as_fair(attempt: Attempt, weaker: Setting) -> None:
    assert_fair(attempt, weaker.grade(attempt), weaker)


# --- what happens to the machinery itself --------------------------------------------------------------------


def below(pid: int) -> list[int]:
    """The processes that a process has started, those started by these, and so on; the last started comes last."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        children = [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
        found += children
        todo += children
    return found


def assert_gone(pids: list[int]) -> None:
    """None of these processes runs any more, or will not in a moment."""
    deadline = time.monotonic() + 5
    while left := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def after(seconds: float, deed: Callable[[], None]) -> Iterator[None]:
    """Do something in this thread while the block runs."""
    before = signal.signal(signal.SIGALRM, lambda *_: deed())
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_lost_costs_nobody_a_point(
    how: signal.Signals, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "END_SECONDS", 1.0)
    worker = setting.grader(LESSON)._worker
    worker.start()
    slow = next(attempt for attempt in BANK if attempt.name == "slow")
    inner = [worker._process.pid, *below(worker._process.pid)][2 if STRONGEST.bubblewrap else 0]
    with after(0.02, lambda: os.kill(inner, how)):
        record = setting.grade(slow)
    assert right(record) == ALL
    assert right(setting.grade(HONEST)) == ALL


def test_an_interrupt_ends_all_that_was_started(setting: Setting) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    worker = setting.grader(LESSON)._worker
    worker.start()
    with after(0.7, interrupt), pytest.raises(KeyboardInterrupt):
        setting.grade(BANK[0])
    pids = [worker._process.pid, *below(worker._process.pid)]
    assert right(setting.grade(HONEST)) == ALL  # who catches it can go on
    worker.close()
    assert_gone(pids)


@pytest.mark.parametrize("level", LEVELS)
def test_a_submission_ends_with_its_worker(level: str) -> None:
    skip_unless_there(level)
    with runner.Worker(LEVELS[level]) as worker:
        worker.start()
        worker.run([{"cell": 1, "line": 1, "source": "import time; time.sleep(1000)"}], 0.5)
        pids = below(worker._process.pid)
        os.kill(worker._process.pid, signal.SIGKILL)
        assert_gone(pids)


def test_sessions_leave_no_descriptor_open() -> None:
    skip_unless_there("strongest")

    def counts() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), *below(worker._process.pid))]

    with runner.Worker(STRONGEST) as worker:
        for session in range(25):
            with worker.run([{"cell": 1, "line": 1, "source": "import torch"}], 20) as running:
                assert running.alive
            if session == 2:
                before = counts()
        assert counts() == before


def test_what_is_shown_of_an_input_is_public(setting: Setting) -> None:
    leak = next(attempt for attempt in BANK if attempt.name == "leak_error")
    shown = json.dumps(dataclasses.asdict(setting.grade(leak)))
    assert any(f"LEAK{case['strides']}" in shown for case in public_cases())  # as `forms` looks for secret ones


def test_the_hunt_finds_what_is_there() -> None:
    space: dict[str, object] = {}
    exec(GC_HUNT, space)
    assert [*space["hunt"](VICTIM)]  # here, in the judge's own process, the right answer is


def test_limits_alone_are_refused_without_trust() -> None:
    with pytest.raises(GradingError, match="--trust"):
        choose_isolation("limits", trust=False)
    assert choose_isolation("limits", trust=True).level == "limits"


def test_the_bank_is_large_and_names_are_unique() -> None:
    assert len({attempt.name for attempt in BANK}) == len(BANK) >= 90
