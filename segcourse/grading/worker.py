"""The process that has torch loaded and forks a locked one for each submission.

It is asked through a socket: `begin` comes with a descriptor, over which the judge and the new process talk; `end`
kills what was begun last and tells what it used. It has nothing to hide: no answer, no input, no other submission has
ever been in its memory. Where no process can be forked, it is itself the one that is locked in.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pkgutil
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from unittest import mock

from segcourse.grading import sandbox


def load() -> None:
    """Load what answers import, and use it once: what is set up on first use is then there for everyone."""
    import numpy
    import scipy.ndimage
    import torch
    from torch.nn import functional

    from segcourse.exercises import drivers
    from segcourse.grading import child  # noqa: F401

    for module in pkgutil.iter_modules(drivers.__path__):
        import_module(f"{drivers.__name__}.{module.name}")

    with mock.patch("os.access", return_value=True):  # it wants a folder that it can write to, and needs none
        import_module("matplotlib.pyplot")
    torch.set_num_threads(1)
    with torch.enable_grad():
        image = torch.ones(1, 1, 8, 8, requires_grad=True)
        kernel = torch.ones(1, 1, 3, 3)
        maps = functional.conv_transpose2d(functional.conv2d(image, kernel), kernel)
        functional.interpolate(functional.max_pool2d(maps, 2), size=(8, 8), mode="bilinear").sum().backward()
    scipy.ndimage.distance_transform_edt(numpy.eye(3))
    gc.collect()
    gc.freeze()  # a collection in a child would copy all of these pages


def descendants() -> list[int]:
    """The processes that were started below this one, where /proc tells."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found, todo = [], [os.getpid()]
    while todo:
        parent = todo.pop()
        below = [pid for pid, its in parents.items() if its == parent]
        found += below
        todo += below
    return found


def end(child: int) -> dict[str, float]:
    """Kill a child with all that it started; return what it used."""
    for pid in (child, *descendants()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    _, _, used = os.wait4(child, 0)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return {"cpu": used.ru_utime + used.ru_stime}


def main() -> None:
    """Serve one judge until it closes the socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    sandbox.hide_memory()
    sandbox.adopt_orphans()
    load()
    from segcourse.grading import child, plain

    plain.send(control.fileno(), {"ready": True})
    if sys.argv[3:] == ["cold"]:
        child.silence()
        child.serve(control.fileno())
    begun = None
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, 16, 1)
        if not word:
            break
        if word == b"begin":
            if begun is not None:  # the judge was interrupted and did not end it
                end(begun)
            begun = os.fork()
            if begun == 0:
                status = 1
                with contextlib.suppress(BaseException):
                    control.close()
                    sandbox.end_with_parent()
                    os.setsid()
                    child.silence()
                    child.serve(descriptors[0])
                    status = 0
                os._exit(status)
            os.close(descriptors[0])
        elif begun is not None:
            plain.send(control.fileno(), end(begun))
            begun = None
    if begun is not None:
        end(begun)


if __name__ == "__main__":
    main()
