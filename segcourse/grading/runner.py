"""The judge's side: starts workers, hands them a stranger's program, and asks its functions one input at a time.

with Worker(isolation, given) as worker:
    with worker.run(pieces) as session:
        ran = session.call(exercise, case, seconds)
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import os
import resource
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcourse.exercises.exercise import Case, Exercise
from segcourse.exercises.guard import ENDED, STOPPED, Ran
from segcourse.grading import child, plain
from segcourse.grading.sandbox import Isolation, Limits, room, without

PACKAGE = Path(__file__).resolve().parents[1]
OPEN = (
    "segcourse",
    "segcourse.grading",
    "segcourse.grading.worker",
    "segcourse.grading.child",
    "segcourse.grading.plain",
    "segcourse.grading.sandbox",
    "segcourse.exercises",
    "segcourse.exercises.compare",
    "segcourse.exercises.exercise",
    "segcourse.exercises.guard",
)
"""The package's modules that a submission's process may have; and the drivers. None of them knows an answer."""
START_SECONDS = 120.0
END_SECONDS = 20.0
CALL_SLACK = 5.0
"""A busy machine may take so many times longer for a call than an exercise allows, before it counts as endless."""
PART_BYTES = 100
"""What a list, a text or a number takes in memory, or so."""
GRACE = 0.25
"""A process that stops by itself when its time is up has this part of it, and of a second, to say so."""
MOST_PROBLEMS, PROBLEM_WORDS = 20, 200
"""How many problems of cells are told, and how many characters of each."""


class WorkerError(RuntimeError):
    """The course's own worker does not start: this says nothing about a submission."""


def problem_in_words(problem: Any) -> str:
    """Return what went wrong in a cell, as a child tells it, for the student.

    Raises:
        plain.ForgedError: if it is not of the form that `child.run_pieces` gives it.
    """
    if type(problem) is not dict or type(problem.get("cell")) is not int or type(problem.get("says")) is not str:
        raise plain.ForgedError("a cell's problem that is none")
    return f"cell {problem['cell'] % 10**6}: {plain.decode(problem['says'][:PROBLEM_WORDS])}"


class Session:
    """One submission's program in a locked process."""

    def __init__(self, worker: Worker, channel: socket.socket, problems: list[str]) -> None:
        self._worker, self._channel, self._number = worker, channel, 0
        self.problems = problems
        """What went wrong when its cells were run, in words for the student."""
        self.alive = True
        self.received = 0
        """How many bytes have come back; each value counts for what it takes in memory."""
        self.forged = ""
        """What was wrong with a message that no honest process sends; empty as a rule."""

    def ask(self, exercise: Exercise, cases: Sequence[Case], seconds: float) -> list[Ran]:
        """Call the submission's function on one input after another, within so many seconds in all.

        Returns:
            What each call came to, up to the last that there was time for, or after which nothing can be called.
        """
        self._number += 1
        asked = {
            "number": self._number,
            "name": exercise.name,
            "driver": f"{exercise.drive.__module__}.{exercise.drive.__qualname__}",
            "cases": [plain.encode(case) for case in cases],
            "call": CALL_SLACK * exercise.seconds,
            "seconds": seconds,
        }
        try:
            plain.send(self._channel.fileno(), asked, seconds)
            data = plain.read(self._channel.fileno(), seconds + GRACE * (seconds + 1))
            self.received += len(data) + PART_BYTES * plain.parts_of(data)
            reply = plain.parse(data)
            replies = reply.get("ran")
            if reply.get("number") != self._number or type(replies) is not list or not 1 <= len(replies) <= len(cases):
                raise plain.ForgedError("an answer to a question that was not asked")
            came = [child.as_ran(each) for each in replies]
            # An interrupt leaves things half done: what comes next has a new process.
            self.alive = came[-1].kind != STOPPED
            return came
        except plain.TooLargeError:
            if len(cases) == 1:
                raise
            return self.ask(exercise, cases[: len(cases) // 2], seconds)
        except plain.Late:
            self.alive = False
            return [
                Ran(problem=f"it was stopped after {seconds:.2g} s. Is there a loop that never ends?", kind=STOPPED)
            ]
        except plain.Ended:
            self.alive = False
            return [Ran(problem="it ended the Python process, or crashed it.", kind=ENDED)]
        except plain.ForgedError as error:
            self.alive, self.forged = False, str(error)
            return [Ran(problem="its process sent something that is no answer.", kind=ENDED)]

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._worker.end()


class Worker:
    """A process with torch loaded, inside the outer room if there is one; forks a locked process per submission.

    Only Linux forks well with so much loaded. Elsewhere each submission has a worker of its own, which takes seconds.
    """

    def __init__(
        self,
        isolation: Isolation,
        given: Sequence[str] = (),
        limits: Limits | None = None,
        forks: bool = sys.platform == "linux",
    ) -> None:
        self.isolation, self.limits, self._given, self._forks = isolation, limits or Limits(), tuple(given), forks
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.cpu = 0.0
        """Processor seconds that submissions have used."""
        self.lost = 0
        """How often the worker itself was gone, or answered no more, when a session ended."""

    def start(self) -> None:
        """Start the process, if it does not run.

        Raises:
            WorkerError: if it does not come up.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        here, there = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would fill up
        command = [sys.executable, "-I", "-c", BOOT, str(there.fileno()), str(PACKAGE.parent)]
        command += [] if self._forks else ["cold"]
        self._home = tempfile.TemporaryDirectory(prefix="segcourse-")
        environment = ENVIRONMENT | {"HOME": self._home.name, "MPLCONFIGDIR": self._home.name}
        if self.isolation.bubblewrap:
            variables = [part for name, value in environment.items() for part in ("--setenv", name, value)]
            hidden = [*hidden_folders(), Path(self._home.name)]
            command = [*room([*python_folders(), *open_files(self._given)], hidden), *variables, *command]
        self._process = subprocess.Popen(
            command,
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        there.close()
        here.setblocking(False)
        self._control = here
        try:
            plain.receive(here.fileno(), START_SECONDS)
        except (plain.Ended, plain.Late, plain.ForgedError):
            self._said.seek(0)
            said = self._said.read().decode("utf-8", "replace").strip()
            self.close()
            raise WorkerError(f"the worker did not start: {said[-800:] or 'it said nothing'}") from None

    def run(self, pieces: Sequence[dict[str, Any]], seconds: float) -> Session:
        """Run a program's pieces in a new locked process, within so many seconds; close the session before the next.

        Raises:
            WorkerError: if the worker does not start.
        """
        self.start()
        assert self._control is not None
        begin = {
            "pieces": plain.pack(pieces),
            "given": self._given,
            "isolation": dataclasses.asdict(self.isolation),
            "limits": dataclasses.asdict(self.limits),
            "readable": readable(),
        }
        here = self._control
        if self._forks:
            here, there = socket.socketpair()
            here.setblocking(False)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the worker has just gone: it ends
                socket.send_fds(self._control, [b"begin"], [there.fileno()])
            there.close()
        session = Session(self, here, [])
        try:
            plain.send(here.fileno(), begin, seconds)
            problems = plain.receive(here.fileno(), seconds).get("problems", [])
            session.problems += [problem_in_words(problem) for problem in problems[:MOST_PROBLEMS]]
        except plain.Late:
            session.alive = False
            session.problems.append(f"the cells with your functions did not end within {seconds:.0f} s.")
        except plain.Ended:
            session.alive = False
            session.problems.append("the cells with your functions ended the Python process, or crashed it.")
        except (plain.ForgedError, KeyError, TypeError, ValueError) as error:
            session.alive, session.forged = False, str(error)
        return session

    def end(self) -> None:
        """End what was begun last; if the worker does not answer, end the worker."""
        if not self._forks:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.close()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return
        if self._control is None:
            return
        try:
            self._control.send(b"end")
            self.cpu += float(plain.receive(self._control.fileno(), END_SECONDS)["cpu"])
        except (OSError, plain.Ended, plain.Late, plain.ForgedError, KeyError, TypeError, ValueError):
            self.lost += 1
            self.close()

    def close(self) -> None:
        """End the worker with all that it started."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            self._said.close()
            self._home.cleanup()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg"}
BOOT = "import sys; sys.path.insert(0, sys.argv[2]); from segcourse.grading.worker import main; main()"


def python_folders() -> list[Path]:
    """The folders that a program in Python with torch reads: Python's, its libraries', the system's."""
    folders = {sys.base_prefix, sys.prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    folders |= {sysconfig.get_path("platlib"), *site.getsitepackages(), "/usr", "/lib", "/lib64", "/etc/ld.so.cache"}
    return [Path(folder) for folder in sorted(folders) if os.path.exists(folder)]


@functools.cache
def readable() -> tuple[str, ...]:
    """What a locked process may read: Python's folders without those that hold answers."""
    hidden = hidden_folders()
    return tuple(str(path) for folder in python_folders() for path in without(folder, hidden))


def hidden_folders() -> list[Path]:
    """The folders that hold answers: the checkout or the installed package, copies of it, what nbgrader exchanges."""
    checkout = PACKAGE.parent
    own = checkout if (checkout / "pyproject.toml").exists() else PACKAGE
    libraries = set(python_folders())
    for folder in {sys.prefix, sys.base_prefix, "/usr", "/usr/local"}:  # another Python may have the course too
        libraries |= set(Path(folder).glob("lib*/python3*/*-packages"))
    exchange = Path("/usr/local/share/nbgrader")  # where nbgrader keeps a class's files if nobody says otherwise
    copies = sorted(folder / "segcourse" for folder in libraries if (folder / "segcourse").is_dir())
    return [own, *copies, *([exchange] if exchange.is_dir() else [])]


def is_open(path: Path) -> bool:
    """Tell whether submissions can read a file or folder, since it lies among Python's or the system's own."""
    path = path.resolve()
    return any(path.is_relative_to(folder) for folder in readable())


def open_files(given: Sequence[str]) -> list[Path]:
    """The package's files that a worker reads."""
    modules = [*OPEN, *modules_below([name.rpartition(".")[0] for name in given])]
    return [*map(source_of, modules), PACKAGE / "exercises" / "drivers"]


def source_of(module: str) -> Path:
    """Return the file of one of the package's modules, without importing it."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def modules_below(modules: Sequence[str]) -> list[str]:
    """Return these modules of the package, and those that they import."""
    found, todo = [], list(modules)
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found.append(module)
        for node in ast.walk(ast.parse(source_of(module).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("segcourse"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                todo += [name if source_of(name).exists() else str(node.module) for name in names]
    return found
