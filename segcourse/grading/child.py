"""What runs in the locked process: a stranger's definitions, and one call after another of their functions.

Nothing here decides anything. The judge sends the pieces of a program and inputs; back go plain values (`plain`).
Neither the right answers nor what makes an answer right is in this process: not in its memory, and not in a file that
it can open.
"""

from __future__ import annotations
import __future__

import importlib
import importlib.abc
import importlib.machinery
import linecache
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from segcourse.exercises.guard import STOPPED, Ran, run_once
from segcourse.grading import plain
from segcourse.grading.sandbox import Isolation, Limits, lock_in

FUTURE = __future__.annotations.compiler_flag
"""Annotations are not computed: one that needs an import which is not here costs nobody a point."""
TIME_IS_UP = "its time for all inputs was up: it is very slow, or there is a loop that never ends."
WORDS = 500
"""How many characters of an exception's or a warning's words are passed on."""


class Unavailable:
    """Stands for a part of the course's package that is not here: it can be imported and not be used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Unavailable:
        if name.startswith("__"):
            raise AttributeError(name)
        return Unavailable(f"{self._name}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Say that it is not here."""
        raise NameError(f"{self._name} is not there when answers are graded: an answer works without it")


class _Course(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes every module of the course that is not loaded yet an empty one, but for the names that answers may use."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for every module of the course."""
        if name.split(".")[0] != "segcourse":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill a module with nothing, which has every name all the same."""

        def attribute(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return self.given.get(name) or Unavailable(f"{module.__name__}.{name}")

        module.__getattr__ = attribute  # type: ignore[method-assign]


def serve(descriptor: int) -> None:
    """Do what the judge asks through this descriptor until it closes; called in a process of its own."""
    begin = plain.receive(descriptor)
    given, own = {}, set(sys.modules)
    for name in begin["given"]:
        module, _, attribute = name.rpartition(".")
        given[attribute] = getattr(importlib.import_module(module), attribute)
    for name in [name for name in sys.modules if name.startswith("segcourse.") and name not in own]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Course(given))
    lock_in(Isolation(**begin["isolation"]), Limits(**begin["limits"]), begin["readable"])
    torch.set_num_threads = lambda nthreads: None  # no thread can be started here, and OpenMP would end the process
    sys.modules["__main__"] = types.ModuleType("__main__")
    space = sys.modules["__main__"].__dict__
    space["__builtins__"] = __builtins__
    space["display"] = lambda *values, **options: None  # what Jupyter adds; an answer may still show things
    plain.send(descriptor, {"problems": run_pieces(plain.unpack(begin["pieces"]), space)})
    while True:
        asked = plain.receive(descriptor)
        replies = answers(asked, space)
        while True:
            try:
                plain.send(descriptor, {"number": asked["number"], "ran": replies})
                break
            except plain.TooLargeError as error:  # half as many may fit; the judge asks for the others again
                replies = replies[: len(replies) // 2] or [too_large(error)]


def run_pieces(pieces: list[dict[str, Any]], space: dict[str, Any]) -> list[dict[str, Any]]:
    """Run pieces of a program in order; return what went wrong, and go on after it."""
    problems = []
    for piece in pieces:
        name = f"<cell {piece['cell']}>"
        source = "\n" * (piece["line"] - 1) + piece["source"]
        lines = linecache.cache[name][2] if name in linecache.cache else []  # type: ignore[misc]
        own = source.splitlines(keepends=True)
        lines = [*lines, *[""] * max(0, len(own) - len(lines))]
        lines[piece["line"] - 1 : len(own)] = own[piece["line"] - 1 :]
        linecache.cache[name] = (len(source), None, lines, name)
        try:
            exec(compile(source, name, "exec", FUTURE, dont_inherit=True), space)
        except BaseException as error:
            words = str(error).split("\n")[0][:WORDS]
            problems.append({"cell": piece["cell"], "says": f"{type(error).__name__[:100]}: {words}"})
    return problems


def answers(asked: dict[str, Any], space: dict[str, Any]) -> list[dict[str, Any]]:
    """Call a function of theirs through its driver on one input after another, until the time is up or one is stuck."""
    module, _, name = asked["driver"].rpartition(".")
    drive: Callable[..., Any] = getattr(sys.modules[module], name)
    if asked["name"] not in space:
        return [{"problem": f"there is no {asked['name']} once your cells have run.", "kind": "NameError"}]
    replies: list[dict[str, Any]] = []
    until = time.monotonic() + asked["seconds"]
    for case in asked["cases"]:
        left = until - time.monotonic()
        if replies and left <= 0:
            break
        replies.append(within(asked["call"], left, space[asked["name"]], plain.decode(case), drive))
        if replies[-1].get("kind") == STOPPED:
            break
    return replies


def within(
    seconds: float, left: float, answer: Callable[..., Any], case: Any, drive: Callable[..., Any]
) -> dict[str, Any]:
    """Call a function once; when its time is up, interrupt it five times a second until it ends.

    It may prevent that. Then the judge, who does not wait much longer, has this process killed.

    Args:
        seconds: how long a call may take.
        left: how much time there is for this call and all that come after it.
        answer: the student's function.
        case: its input.
        drive: (answer, case) -> plain data.
    """
    running, late = True, False

    def interrupt(*_: Any) -> None:
        nonlocal late
        if running:
            late = True
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, min(seconds, left)), 0.2)
    try:
        reply = as_plain(run_once(answer, case, drive, None))
        running = False
    except KeyboardInterrupt:
        running = False
        reply = {"problem": "it raised KeyboardInterrupt.", "kind": "KeyboardInterrupt"}
    signal.setitimer(signal.ITIMER_REAL, 0)
    if late and left < seconds:
        return {"problem": TIME_IS_UP, "kind": STOPPED}
    if late:
        return {"problem": f"it was stopped after {seconds:.2g} s. Is there a loop that never ends?", "kind": STOPPED}
    return reply


def as_plain(ran: Ran) -> dict[str, Any]:
    """Return a `Ran` as plain data, its words cut to what is passed on."""
    try:
        value = plain.encode(ran.value)
    except plain.TooLargeError as error:
        return too_large(error)
    except BaseException as error:  # a value of theirs can do anything when it is looked at
        return {"problem": f"what it returned cannot be read: {type(error).__name__}.", "kind": "unreadable"}
    return {
        "value": value,
        "problem": ran.problem and ran.problem[: 2 * WORDS],
        "kind": ran.kind[:100],
        "message": ran.message[:WORDS],
        "printed": ran.printed[:WORDS],
        "warned": ran.warned[:WORDS],
    }


def too_large(error: plain.TooLargeError) -> dict[str, Any]:
    """Say that a value is too large to be passed on."""
    return {"problem": f"what it returned is too large: {error}", "kind": "too large"}


def as_ran(reply: Any) -> Ran:
    """Return what came back as a `Ran`; used by the judge, which believes none of it.

    Raises:
        plain.ForgedError: if it is not of the form that `as_plain` gives it.
    """
    if type(reply) is not dict:
        raise plain.ForgedError("not a reply")
    texts = {name: reply.get(name, "") for name in ("kind", "message", "printed", "warned")}
    problem = reply.get("problem")
    if any(type(text) is not str or len(text) > WORDS for text in texts.values()):
        raise plain.ForgedError("a text that is none")
    if problem is not None and (type(problem) is not str or len(problem) > 2 * WORDS):
        raise plain.ForgedError("a problem that is no text")
    if (problem is None) != (texts["kind"] == "returned") or problem == "":
        raise plain.ForgedError("a value and a problem at once, or neither")
    clean = {name: plain.decode(text) for name, text in texts.items()}
    return Ran(value=plain.decode(reply.get("value")), problem=problem and plain.decode(problem), **clean)


def silence() -> None:
    """Turn what is printed and read into nothing, below Python too."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
