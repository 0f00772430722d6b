"""Runs a student's function in this process and tells what happened, whatever it does.

This guards against accidents (endless loops, recursion, `exit()`), not against attacks: the grader runs answers
in a process of their own.
"""

from __future__ import annotations

import _thread
import contextlib
import copy
import io
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from segcourse.exercises.compare import same_value
from segcourse.exercises.exercise import Case, Exercise

PRINTED = 300
"""How many characters of what an answer prints are kept."""
UNWRITTEN = "not written yet"
"""The kind of problem that a bare `raise NotImplementedError` is."""
STOPPED, ENDED = "timeout", "ended"
"""The kinds of problem after which an answer is run no more: it did not end, or took its process with it."""


@dataclass(frozen=True)
class Ran:
    """What one call came to: a value, or a problem in plain words."""

    value: Any = None
    problem: str | None = None
    kind: str = "returned"
    """`returned`, the name of the exception that was raised, `timeout` or `changed its input`."""
    message: str = ""
    """An exception's words. Those of the course's own exceptions are left out: there the kind says it all."""
    printed: str = ""
    warned: str = ""


class _FirstWords(io.StringIO):
    """Keeps the first PRINTED characters and drops the rest: an endless loop may print gigabytes in a second."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, PRINTED - self.tell())])
        return len(text)


class _Timeout(BaseException):
    """The time limit, told apart from the user's own interrupt."""


def _importing(outside: FrameType) -> bool:
    """Tell whether the main thread is in an import that began inside the frame `outside`."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame is not outside:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after `seconds`, on every system; only works in the main thread, as notebooks do.

    An import is never interrupted, since a module that is half there breaks the process (torch imports some of its
    parts only when they are needed): where one is under way when the time is up, the block is given its time again.

    Raises:
        _Timeout: when the time was up. A real Ctrl-C passes through as KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outside = sys._getframe(2)  # that of the `with` statement; between the two is contextlib's
    done, fired, lock = threading.Event(), threading.Event(), threading.Lock()

    def interrupt() -> None:
        # An answer may catch the first interrupt (`except:` in a loop), so it is repeated until the block ends.
        while not done.wait(0.2 if fired.is_set() else seconds):
            with lock:
                if not done.is_set() and not _importing(outside):
                    fired.set()
                    _thread.interrupt_main()

    watcher = threading.Thread(target=interrupt, daemon=True)

    def stop() -> None:
        while watcher.is_alive():
            try:
                with lock:
                    done.set()
                watcher.join()
            except KeyboardInterrupt:  # one that was under way
                continue

    watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        if not fired.is_set():
            raise
    finally:
        stop()
    if fired.is_set():
        raise _Timeout


def run_here(exercise: Exercise, answer: Callable[..., Any], limited: bool = True) -> Callable[[Case], Ran]:
    """Return a function that runs `answer` on one case of `exercise` in this process.

    The time limit costs more than most answers do; `limited=False` leaves it out for the course's own code.
    """
    return lambda case: run_once(answer, case, exercise.drive, exercise.seconds if limited else None)


def run_once(answer: Callable[..., Any], case: Case, drive: Callable[..., Any], seconds: float | None) -> Ran:
    """Run an answer on a copy of one case, and tell what it came to.

    Args:
        answer: the student's function.
        case: what it is run on; nothing but this and `drive` is known here of the exercise.
        drive: (answer, case) -> plain data.
        seconds: how long it may take; None for as long as it likes.
    """
    given = copy.deepcopy(case)
    output = _FirstWords()
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("always")
            with contextlib.nullcontext() if seconds is None else time_limit(seconds):
                value = drive(answer, given)
    except _Timeout:
        return Ran(
            problem=f"it ran for more than {seconds:g} s and was stopped. Is there a loop that never ends?",
            kind=STOPPED,
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Ran(
            problem=explain_error(error, answer),
            kind=UNWRITTEN if isinstance(error, NotImplementedError) and not str(error) else type(error).__name__,
            message="" if type(error).__module__.startswith("segcourse.") else str(error),
            printed=output.getvalue(),
        )
    warned = str(caught[0].message)[:PRINTED] if caught else ""
    printed = output.getvalue()
    changed = [name for name in case if not same_value(case[name], given[name])]
    if changed:
        return Ran(
            value,
            f"it changed its input `{changed[0]}`. Work on a copy, or build a new value.",
            "changed its input",
            printed=printed,
            warned=warned,
        )
    return Ran(value, printed=printed, warned=warned)


def explain_error(error: BaseException, answer: Callable[..., Any]) -> str:
    """Say in one or two sentences what was raised and at which line of the student's function."""
    code = getattr(answer, "__code__", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
    line = f" At: `{frames[-1].line}`." if frames and frames[-1].line else ""
    if isinstance(error, RecursionError):
        return f"it calls itself without end (RecursionError). Does every path reach a case that stops?{line}"
    if isinstance(error, SystemExit):
        return f"it tried to leave Python (exit or quit). Return a value instead.{line}"
    if isinstance(error, MemoryError):
        return f"it ran out of memory.{line}"
    text = str(error).strip().split("\n")[0][:200].rstrip(".")
    if "ellipsis" in text:
        return f"it computes with dots (...): is a function that it calls still a starter? Finish that one first.{line}"
    if isinstance(error, TypeError) and "positional argument" in text:
        return f"it cannot be called as the exercise asks: {text}. Keep the parameters of the first line as they were."
    return f"it raised {type(error).__name__}: {text or 'no message'}.{line}"
