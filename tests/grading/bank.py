"""Odd and hostile submissions, each with its fair mark.

An attempt names the exercises that have earned their points. Two kinds of hostile answers are told apart by that:

* one that wants points for a wrong answer returns a wrong value after its attack; it must earn nothing;
* one that wants to do harm returns the right value if the attack was *refused*, and -1 if it went through; so full
  points show that it was refused.

Whatever one exercise's answer does, the other exercises of the notebook keep their points.
"""

# ruff: noqa: E501
from __future__ import annotations

import ast
import functools
import json
import re
import textwrap
from dataclasses import dataclass
from typing import Any

from segcourse import exercises
from segcourse.exercises.exercise import Case
from segcourse.grading.grade import PUBLIC, seed_of

LESSON = "01_receptive_field"
VICTIM = "compound_stride"
"""The exercise whose answer is hostile, where nothing else is said."""
NAMES = tuple(exercise.name for exercise in exercises.lesson(LESSON).exercises)
OTHERS = frozenset(NAMES) - {VICTIM}
ALL = frozenset(NAMES)
SETUP = "import torch\nfrom torch import nn\n\nfrom segcourse.lesson import check, start\n\nstart('x')"


@dataclass(frozen=True)
class Attempt:
    """One submission."""

    name: str
    tries: str
    data: bytes
    right: frozenset[str]
    """The exercises that have earned their points."""
    lesson: str = LESSON
    status: str = "graded"
    says: str = ""
    """Words that must be among the notes."""
    tampering: bool | None = False
    """Whether it must be reported as such; None where that depends on the level or on moments."""
    either: frozenset[str] = frozenset()
    """Exercises whose points depend on moments, by the submission's own doing."""
    core: bool = False
    """Whether it is run at every level of isolation."""

    def __str__(self) -> str:
        return self.name


# --- how notebooks are built ---------------------------------------------------------------------------------


@functools.cache
def solutions(lesson: str = LESSON) -> dict[str, str]:
    """The right answers' sources."""
    return {exercise.name: exercise.solution for exercise in exercises.lesson(lesson).exercises}


def code(source: str, **more: Any) -> dict[str, Any]:
    """A code cell."""
    source = textwrap.dedent(source).strip("\n")
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source} | more


def content(cells: list[Any]) -> dict[str, Any]:
    """A notebook of such cells, as JSON's kinds."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, cell in enumerate(cells):
        if isinstance(cell, dict):
            cell.setdefault("id", f"c{number}")
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def cells(lesson: str = LESSON, before: str = "", after: str = "", **changed: str) -> list[Any]:
    """The cells of a notebook with right answers but for those changed."""
    sources = [SETUP, before, *(solutions(lesson) | changed).values(), after]
    return [code(source) for source in sources if source.strip()]


def notebook(lesson: str = LESSON, **changed: str) -> bytes:
    """Such a notebook's bytes."""
    return json.dumps(content(cells(lesson, **changed))).encode()


def body(text: str, helpers: str = "", result: str = "-1") -> str:
    """Source of the victim: some helpers, then a function with this body, which ends by returning `result`."""
    inside = textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    source = f"{textwrap.dedent(helpers)}\ndef {VICTIM}(strides):\n{inside}\n    return {result}\n"
    ast.parse(re.sub("@[A-Z]+@", "0", source))  # what Python cannot read would be refused without having attacked
    return source


RIGHT = "__import__('math').prod(strides)"


def wrong(name: str, tries: str, text: str, helpers: str = "", **more: Any) -> Attempt:
    """An answer that attacks and then returns what is wrong, or never returns: it earns nothing."""
    return Attempt(name, tries, notebook(**{VICTIM: body(text, helpers)}), OTHERS, **more)


def refused(name: str, tries: str, attack: str, helpers: str = "", **more: Any) -> Attempt:
    """An answer that is right if its attack raises an exception, and wrong if it goes through."""
    inside = textwrap.indent(textwrap.dedent(attack).strip("\n"), "    ")
    text = f"try:\n{inside}\nexcept Exception:\n    return {RIGHT}"
    return Attempt(name, tries, notebook(**{VICTIM: body(text, helpers)}), ALL, **more)


def odd(name: str, tries: str, text: str, helpers: str = "", **more: Any) -> Attempt:
    """An odd answer that is right and earns its points."""
    return Attempt(name, tries, notebook(**{VICTIM: body(text, helpers, RIGHT)}), ALL, **more)


def whole(name: str, tries: str, data: bytes, right: frozenset[str] = ALL, **more: Any) -> Attempt:
    """A submission of any bytes."""
    return Attempt(name, tries, data, right, **more)


def secret_cases(name: str, secret: bytes, lesson: str = LESSON) -> list[Case]:
    """The inputs that decide under a secret."""
    exercise = next(e for e in exercises.lesson(lesson).exercises if e.name == name)
    return exercise.draw_cases(seed_of(secret, name))


# --- time, and the end of the process ------------------------------------------------------------------------

TIME = [
    wrong("endless", "never ends", "while True: pass", core=True),
    wrong(
        "endless_swallows",
        "never ends and catches every interrupt",
        """
        while True:
            try:
                while True: pass
            except BaseException:
                pass
        """,
    ),
    wrong("endless_in_c", "never ends, in code that no signal interrupts", "sum(__import__('itertools').repeat(0))"),
    wrong(
        "endless_masked",
        "never ends and blocks every signal",
        """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        while True: pass
        """,
    ),
    wrong(
        "endless_unalarmed",
        "never ends and takes the timer away",
        """
        import signal, threading, _thread
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True: pass
        """,
    ),
    wrong("endless_at_top", "never ends while cells run", "ready", "ready = sum(iter(int, 1))"),
    whole(
        "endless_default",
        "never ends in a default argument",
        notebook(compound_stride="def compound_stride(strides, x=sum(iter(int, 1))):\n    return x"),
        OTHERS,
        says="did not end",
    ),
    whole(
        "endless_decorator",
        "never ends in a decorator",
        notebook(compound_stride="@(lambda f: sum(iter(int, 1)))\ndef compound_stride(strides):\n    return 1"),
        OTHERS,
    ),
    whole("endless_unneeded", "never ends in a cell that no answer needs", notebook(after="while True: pass"), ALL),
    wrong("sleeps", "sleeps for an hour", "__import__('time').sleep(3600)", core=True),
    wrong("regex", "a regular expression of exponential time", "__import__('re').match('(a+)+$', 'a' * 50 + 'b')"),
    wrong("power", "a number of absurd size", "return 9 ** 9 ** 9"),
    odd("slow", "takes a few milliseconds a call", "__import__('time').sleep(0.004)"),
]

ENDS = [
    wrong("os_exit", "ends the process", "__import__('os')._exit(0)", core=True),
    wrong("sys_exit", "leaves Python", "__import__('sys').exit(0)"),
    wrong("quit", "leaves Python by the name that IPython gives", "exit()"),
    wrong("segfault", "reads address 0", "__import__('ctypes').string_at(0)", core=True),
    wrong("abort", "aborts", "__import__('os').abort()"),
    wrong(
        "stops_itself", "stops its own process", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", core=True
    ),
    wrong("kills_itself", "kills its own process", "import os\nos.kill(os.getpid(), 9)"),
    wrong("recursion", "calls itself for ever", f"return {VICTIM}(strides)"),
    wrong(
        "recursion_unlimited",
        "overflows the stack of C",
        "import sys\nsys.setrecursionlimit(10**9)\nrepr(Deep())",
        "class Deep:\n    def __repr__(self): return repr(self)",
    ),
    wrong(
        "syscall_exit",
        "ends the thread below Python",
        "import ctypes, platform\nctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)",
    ),
    whole(
        "exit_at_top",
        "ends the process while cells run",
        notebook(compound_stride=body("ready", "ready = __import__('os')._exit(3)")),
        OTHERS,
        says="ended the Python process",
    ),
    whole(
        "exits_later",
        "answers, and ends the process a moment later, when it may be another exercise's turn",
        notebook(
            compound_stride=body(
                """
                import os, signal
                signal.signal(signal.SIGVTALRM, lambda *_: os._exit(1))
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.004)
                """,
                result=RIGHT,
            )
        ),
        OTHERS,
        either=frozenset({VICTIM}),
    ),
    odd("atexit", "leaves work for the end of the process", "import atexit, time\natexit.register(time.sleep, 60)"),
    wrong("closes_everything", "closes all descriptors", "__import__('os').closerange(0, 64)"),
    wrong("deletes_builtins", "empties builtins", "import builtins\nfor n in dir(builtins): delattr(builtins, n)"),
]

OTHER_PROCESSES = [
    refused("kills_parent", "kills the process that started it", "import os\nos.kill(os.getppid(), 9)", core=True),
    refused("stops_parent", "stops the process that started it", "import os\nos.kill(os.getppid(), 19)", core=True),
    refused("kills_group", "kills its group", "import os\nos.killpg(0, 9)"),
    refused("kills_all", "kills whatever it may", "import os\nos.kill(-1, 9)", core=True),
    refused(
        "kills_by_pidfd",
        "signals the parent through a descriptor",
        "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
    ),
    refused(
        "kills_by_owner",
        "has the kernel send SIGKILL to the parent when data come",
        """
        import fcntl, os
        fcntl.fcntl(channel(), fcntl.F_SETSIG, 9)
        fcntl.fcntl(channel(), fcntl.F_SETOWN, os.getppid())
        fcntl.fcntl(channel(), fcntl.F_SETFL, os.O_ASYNC)
        """,
        helpers="import os, stat\ndef channel():\n    for n in range(3, 64):\n        try:\n"
        "            if stat.S_ISSOCK(os.fstat(n).st_mode): return n\n        except OSError: pass",
        core=True,
    ),
    refused(
        "kills_by_ioctl",
        "the same through ioctl",
        """
        import fcntl, os, struct, stat
        for n in range(3, 64):
            try: sock = stat.S_ISSOCK(os.fstat(n).st_mode)
            except OSError: continue
            if sock: fcntl.ioctl(n, 0x8901, struct.pack('i', os.getppid()))
        """,
    ),
    refused(
        "limits_parent",
        "takes processor time away from the parent, with limits at an address whose lower half is 0",
        """
        import ctypes, os, platform, struct
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        place = libc.mmap(1 << 32, 4096, 3, 0x100032, -1, 0)
        if place != 1 << 32:
            raise OSError
        ctypes.memmove(place, struct.pack('QQ', 32, 32), 16)
        prlimit = {'x86_64': 302, 'aarch64': 261}[platform.machine()]
        who, nofile = (ctypes.c_long(n) for n in (os.getpid(), 0))
        if libc.syscall(ctypes.c_long(prlimit), who, nofile, ctypes.c_void_p(place), None):
            raise OSError
        """,
        core=True,
    ),
    refused("own_limits", "changes its own limits", "import resource as r\nr.setrlimit(r.RLIMIT_CPU, (5, 5))"),
    refused("priority", "takes priority", "import os\nos.setpriority(os.PRIO_PROCESS, 0, 5)"),
    refused("affinity", "moves the parent to one processor", "import os\nos.sched_setaffinity(os.getppid(), {0})"),
    refused(
        "ptrace",
        "attaches to the parent",
        "import ctypes, os\nif ctypes.CDLL(None).ptrace(16, os.getppid(), None, None) < 0: raise OSError",
    ),
    refused(
        "unkillable",
        "wants to outlive the worker",
        "import ctypes\nif ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) < 0: raise OSError",
    ),
    refused("fork", "starts a process", "import os\nif os.fork() == 0: os._exit(0)", core=True),
    refused("fork_bomb", "starts processes without end", "import os\nwhile True: os.fork()"),
    refused(
        "daemon", "leaves a process behind", "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass"
    ),
    refused("subprocess", "starts a program", "import subprocess\nsubprocess.run(['sleep', '1000'])", core=True),
    refused("execs", "becomes another program", "import os\nos.execv('/bin/true', ['true'])"),
    refused("spawn", "starts a program by posix_spawn", "import os\nos.posix_spawn('/bin/true', ['true'], {})"),
    refused("system", "starts a shell", "import os\nif os.system('true') != 0: raise OSError"),
    refused("pool", "starts worker processes", "import multiprocessing as m\nm.Pool(2).map(abs, [1])"),
    refused(
        "thread_bomb",
        "starts threads without end",
        """
        import threading, time
        threading.stack_size(32768)
        for _ in range(2000):
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        """,
        core=True,
    ),
    wrong(
        "x32",
        "calls by x86-64's second set of numbers",
        "import ctypes\nctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))",
    ),
    wrong(
        "int_80",
        "calls by the numbers of 32-bit Linux: fork is 2",
        """
        import ctypes, mmap
        place = mmap.mmap(-1, 4096, prot=7)
        place.write(bytes.fromhex('b802000000cd80c3'))
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(place)))()
        """,
    ),
    refused(
        "new_namespace",
        "becomes an administrator of its own",
        "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000) < 0: raise OSError",
    ),
]

# --- memory, output, disk ------------------------------------------------------------------------------------

FLOODS = [
    wrong("memory_at_once", "asks for a terabyte", "bytearray(10**12)"),
    wrong("memory_bit_by_bit", "fills memory", "x = []\nwhile True: x.append(bytearray(10**7))", core=True),
    wrong("memory_torch", "fills memory through torch", "x = []\nwhile True: x.append(torch.ones(10**6))"),
    wrong("memory_mmap", "maps memory", "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 2**26))"),
    refused("memory_file", "makes a file in memory", "import os\nos.memfd_create('x')"),
    wrong("prints_for_ever", "prints without end", "while True: print('x' * 10000)", core=True),
    odd("prints_much", "prints 100 MB below Python", "import os\nfor _ in range(100): os.write(1, b'x' * 10**6)"),
    odd("stderr_much", "warns much on stderr", "import sys\nfor _ in range(1000): print('warning', file=sys.stderr)"),
    odd("warns", "warns as libraries do", "import warnings\nwarnings.warn('this is deprecated')"),
    odd("logs", "logs", "import logging\nlogging.getLogger().error('x' * 1000)"),
    refused(
        "disk", "fills the disk", "import tempfile\nf = tempfile.TemporaryFile()\nf.write(b'x' * 10**6)\nf.flush()"
    ),
    refused("descriptors", "opens files without end", "x = [open('/dev/null') for _ in range(10**5)]"),
    wrong("returns_text", "returns a very long text", "return 'x' * 10**8"),
    wrong("returns_list", "returns a very long list", "return [0] * 10**6"),
    wrong("returns_lists", "returns a list of empty lists", "return [[]] * 10**6"),
    wrong("returns_tensor", "returns a very large tensor", "return torch.zeros(10**7)"),
    wrong("returns_view", "returns a small tensor that looks enormous", "return torch.zeros(1).expand(10**10)"),
    wrong("returns_deep", "returns a deep list", "x = []\nfor _ in range(10**5): x = [x]\nreturn x"),
    wrong("returns_itself", "returns a list that holds itself", "x = []\nx.append(x)\nreturn x"),
    wrong("returns_digits", "returns a number of 5000 digits", "return 10**5000"),
    wrong("returns_googol", "returns a number that no float can hold", "return 10**400"),
    whole(
        "float_googol",
        "returns such a number where a float is compared",
        notebook(field_centre="def field_centre(position, layers):\n    return 10**400"),
        ALL - {"field_centre"},
    ),
    wrong(
        "returns_objects",
        "returns objects of a hundred thousand types",
        "return [type(f'T{i}', (), {})() for i in range(10**5)]",
    ),
    wrong("returns_keys", "returns a dict with long keys", "return {'x' * 1000 + str(i): 0 for i in range(2000)}"),
]

ASKS = [
    wrong("input", "asks the teacher", "return int(input('the right answer? '))"),
    wrong("stdin", "reads standard input", "import sys\nreturn int(sys.stdin.read() or 0) - 1"),
    odd("getpass", "asks if somebody is there", "import sys\nsys.stdin.isatty()"),
]

# --- points for nothing: patches and lies --------------------------------------------------------------------

TRUE = "(lambda *a, **k: True)"
PATCHES = [
    wrong(
        "patch_torch", "makes every tensor equal", f"torch.equal = torch.allclose = torch.isclose = {TRUE}", core=True
    ),
    wrong("patch_numpy", "makes every array equal", f"import numpy\nnumpy.allclose = numpy.array_equal = {TRUE}"),
    wrong("patch_math", "makes every float equal", f"import math\nmath.isclose = {TRUE}"),
    wrong(
        "patch_builtins",
        "changes what everybody uses",
        f"import builtins\nbuiltins.isinstance = builtins.all = builtins.any = {TRUE}",
    ),
    wrong(
        "patch_modules",
        "puts a judge of its own in place of the course's",
        """
        import sys, types
        for name in ('judge', 'compare', 'guard', 'exercise', 'receptive_field'):
            module = types.ModuleType('segcourse.exercises.' + name)
            module.judge = module.agree = module.run_once = module.check = lambda *a, **k: None
            sys.modules[module.__name__] = module
        """,
    ),
    wrong(
        "patch_encode",
        "says that every value is right",
        "from segcourse.grading import plain\nplain.encode = lambda *a, **k: {'other': 'right'}",
    ),
    wrong(
        "patch_json",
        "changes what is written",
        "import json\njson.dumps = lambda *a, **k: '{\"correct\": true}'",
        tampering=None,
    ),
    wrong("patch_write", "changes how it is written", "import os\nos.write = lambda fd, data: len(data)"),
    wrong(
        "patch_guard",
        "changes how it is run",
        """
        from segcourse.exercises import guard
        from segcourse.grading import child
        guard.run_once = child.run_once = lambda *a, **k: guard.Ran(value=True, problem=None, kind='correct')
        """,
        tampering=True,
    ),
    wrong(
        "patch_child",
        "changes what answers",
        """
        from segcourse.grading import child
        child.answers = lambda asked, space: [{'value': True, 'correct': True, 'points': 99}] * len(asked['cases'])
        """,
        tampering=True,
    ),
    wrong(
        "patch_small_integers",
        "makes 2 to 99 the same number",
        """
        import ctypes
        for n in range(2, 100):
            ctypes.memmove(id(n) + 24, id(7) + 24, 4)
        """,
        tampering=None,
    ),
    whole(
        "patch_check",
        "redefines check and says that all is right",
        notebook(
            before="class check:\n    def __getattr__(self, name): return print\ncheck = check()",
            compound_stride=body(""),
        ),
        OTHERS,
    ),
    whole(
        "cell_tags",
        "gives itself points in the cells' metadata",
        json.dumps(
            content(
                [
                    code(
                        source,
                        metadata={"tags": ["answer"], "nbgrader": {"grade": True, "points": 99, "solution": True}},
                    )
                    for source in [SETUP, *(solutions() | {VICTIM: body("")}).values()]
                ]
            )
        ).encode(),
        OTHERS,
    ),
    whole(
        "ipython_hooks",
        "hooks into IPython",
        notebook(
            before="get_ipython().events.register('post_run_cell', print)\n"
            "get_ipython().ast_transformers.append(print)\nget_ipython().display_formatter = None",
            compound_stride=body("get_ipython().run_cell('points = 99')"),
        ),
        OTHERS,
    ),
]

EQUAL = "class Equal:\n    __eq__ = __le__ = __ge__ = lambda *_: True\n    __ne__ = __lt__ = __gt__ = lambda *_: False\n    __hash__ = lambda _: 0\n"
LIES = [
    wrong("equal_object", "an object that equals everything", "return Equal()", EQUAL, core=True),
    wrong(
        "equal_int",
        "a whole number that equals everything",
        "return Number(-1)",
        EQUAL + "class Number(Equal, int): pass",
    ),
    wrong(
        "equal_float", "a float that equals everything", "return Number(-1)", EQUAL + "class Number(Equal, float): pass"
    ),
    wrong("equal_text", "a text that equals everything", "return Text('x')", EQUAL + "class Text(Equal, str): pass"),
    wrong("equal_list", "a list that equals everything", "return List()", EQUAL + "class List(Equal, list): pass"),
    wrong(
        "equal_tensor",
        "a tensor that equals everything",
        "return torch.zeros(()).as_subclass(Tensor)",
        """
        class Tensor(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                return True
        """,
    ),
    wrong(
        "equal_array",
        "an array that equals everything",
        "return numpy.zeros(()).view(Array)",
        EQUAL
        + "import numpy\nclass Array(numpy.ndarray):\n    __eq__ = lambda *_: True\n    __array__ = lambda *_: 1 / 0",
    ),
    wrong("equal_dots", "the starter's dots inside a value", "return [..., -1]"),
    wrong(
        "class_lie",
        "says that it is a number",
        "return Lie()",
        "class Lie:\n    __class__ = int\n    __int__ = lambda _: 0",
    ),
    wrong(
        "registered",
        "is registered as a number that loops when it is looked at",
        "return Number()",
        """
        import numbers
        class Number:
            def __int__(self):
                while True: pass
        numbers.Integral.register(Number)
        """,
    ),
    wrong(
        "iter_endless",
        "a list that never ends",
        "return List()",
        "class List(list):\n    def __iter__(self):\n        while True: yield 0",
    ),
    wrong(
        "items_endless",
        "a dict that never ends",
        "return Dict()",
        "class Dict(dict):\n    def items(self):\n        while True: yield 0, 0",
    ),
    wrong(
        "length_lie",
        "a list that lies about its length",
        "return List()",
        "class List(list):\n    __len__ = lambda _: 2**62",
    ),
    wrong(
        "getattr_all",
        "has every attribute",
        "return Any()",
        "class Any:\n    def __getattr__(self, name): return Any()",
    ),
    wrong(
        "getattr_endless",
        "loops when it is looked at",
        "return Any()",
        "class Any:\n    def __getattribute__(self, name):\n        while True: pass",
    ),
    wrong(
        "hash_endless",
        "loops when it is hashed",
        "return {Any()}",
        "class Any:\n    n = 0\n    def __hash__(self):\n        Any.n += 1\n        while Any.n > 1: pass\n        return 0",
    ),
    wrong(
        "reduce",
        "runs a program when it is unpickled",
        "return Any()",
        "import os\nclass Any:\n    def __reduce__(self): return os.system, ('touch //tmp/owned',)",
    ),
    wrong(
        "deepcopy",
        "its copy is another",
        "return Any()",
        "class Any:\n    def __deepcopy__(self, memo): return 1\n    __copy__ = __deepcopy__",
    ),
    wrong(
        "array_protocol",
        "becomes an array when asked",
        "return Any()",
        "import numpy\nclass Any:\n    def __array__(self, *a, **k): return numpy.zeros(10**10)",
    ),
    wrong("generator", "returns a generator", "return (n for n in strides)"),
    wrong("lazy", "returns a function", f"return lambda: {RIGHT}"),
    wrong("type_name", "a type with a name of a megabyte", "return type('x' * 10**6, (), {})()"),
    wrong("type_markup", "a type whose name is markup", "return type('<script>alert(1)</script>', (), {})()"),
    wrong(
        "error_name", "an exception with a name of a megabyte", "raise type('E' * 10**6, (Exception,), {})('x' * 10**7)"
    ),
    wrong(
        "error_loops",
        "an exception that loops when it is read",
        "raise Error()",
        "class Error(Exception):\n    def __str__(self):\n        while True: pass",
    ),
    wrong(
        "error_raises",
        "an exception that raises when it is read",
        "raise Error()",
        "class Error(Exception):\n    def __str__(self): raise self",
    ),
    wrong("error_base", "an exception that nobody catches", "raise BaseException('x')"),
    wrong("error_interrupt", "says that the teacher pressed Ctrl-C", "raise KeyboardInterrupt"),
    wrong(
        "warning_lie",
        "a warning that loops when it is read",
        "import warnings\nwarnings.warn(W('x'))",
        "class W(UserWarning):\n    def __str__(self):\n        while True: pass",
    ),
    wrong("surrogates", "returns halves of characters", "return '\\ud800' * 10"),
    wrong("error_surrogates", "raises halves of characters", "raise ValueError('\\udcff\\x00\\x1b[2J')"),
    wrong("nan", "returns nan", "return float('nan')"),
    odd("numpy_number", "returns a NumPy number", f"import numpy\nreturn numpy.int64({RIGHT})"),
    odd("tensor_number", "returns a tensor of one number", f"return torch.tensor({RIGHT})"),
    odd("float_number", "returns a float", f"return float({RIGHT})"),
    odd("int_subclass", "returns a whole number of a type of its own", f"return N({RIGHT})", "class N(int): pass"),
]

# --- looking for answers -------------------------------------------------------------------------------------

GC_HUNT = """
import gc, types
def hunt(name):
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__name__ == name and thing.__module__ != '__main__':
            yield thing
        if type(thing).__name__ == 'Exercise' and getattr(thing, 'name', '') == name:
            yield thing.reference
"""
"""Yields functions of this name that are in the process; where the course's own is, it is found."""


def found(attack: str) -> str:
    """Text of a body that returns the right value only if the attack yields the course's function as `right`."""
    inside = textwrap.indent(textwrap.dedent(attack).strip("\n"), "    ")
    return f"try:\n{inside}\n    return right(strides)\nexcept Exception:\n    pass"


READ = """
import glob, os, sys
def course():
    import segcourse
    from segcourse.grading import child
    here = os.path.dirname(os.path.dirname(os.path.abspath(child.__file__)))
    folders = [here, '/nowhere', os.getcwd(), *sys.path, *list(getattr(segcourse, '__path__', []))]
    return [os.path.join(folder, *part) for folder in folders
            for part in (['exercises'], ['segcourse', 'exercises'], ['..', 'solutions'])]
def take(source):
    space = {}
    exec(source, space)
    return space['compound_stride']
"""
PATHS = "[os.path.join(c, n) for c in course() for n in ('receptive_field.py', '01_receptive_field.py')]"

SNOOPS = [
    wrong(
        "gc_hunt", "looks for the right answer in memory", found(f"right = next(hunt('{VICTIM}'))"), GC_HUNT, core=True
    ),
    wrong(
        "frames",
        "walks the frames that called it",
        found(
            """
            import sys
            frame = sys._getframe()
            while frame:
                for thing in [*frame.f_locals.values(), *frame.f_globals.values()]:
                    right = getattr(thing, 'reference', None) or getattr(thing, 'oracle', None)
                    if callable(right) and type(thing).__name__ != 'Unavailable': return right(strides)
                frame = frame.f_back
            right = None
            """
        ),
    ),
    wrong(
        "imports",
        "imports the right answer",
        found("from segcourse.exercises.receptive_field import compound_stride as right"),
        core=True,
    ),
    wrong(
        "imports_lesson",
        "asks the course for it",
        found("from segcourse import exercises\nright = exercises.lesson('01_receptive_field').exercises[1].reference"),
    ),
    wrong(
        "imports_ours",
        "takes ours for yours",
        found("from segcourse.lesson import yours_or_ours\nright = yours_or_ours.compound_stride(lambda s: ...)"),
    ),
    wrong(
        "imports_unhooked",
        "takes the finder away and imports",
        found(
            "import sys\nsys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != '_Course']\n"
            "[sys.modules.pop(n) for n in [*sys.modules] if n.startswith('segcourse')]\n"
            "from segcourse.exercises.receptive_field import compound_stride as right"
        ),
        tampering=None,
        core=True,
    ),
    wrong(
        "opens",
        "opens the file",
        found(f"for path in {PATHS}:\n    try: right = take(open(path).read())\n    except OSError: pass"),
        READ,
        core=True,
    ),
    wrong(
        "opens_below",
        "opens the file below Python",
        found(
            f"for path in {PATHS}:\n    try: right = take(os.read(os.open(path, os.O_RDONLY), 10**6))\n    except OSError: pass"
        ),
        READ,
    ),
    wrong(
        "importlib",
        "loads the file by its place",
        found(
            f"import importlib.machinery as m\nfor path in {PATHS}:\n    try: right = m.SourceFileLoader('x', path).load_module().compound_stride\n    except OSError: pass"
        ),
        READ,
    ),
    wrong(
        "pycache",
        "loads the compiled file",
        found(
            "import marshal\nfor c in course():\n    for path in glob.glob(c + '/__pycache__/receptive_field*.pyc'):\n"
            "        space = {}\n        exec(marshal.loads(open(path, 'rb').read()[16:]), space)\n        right = space['compound_stride']"
        ),
        READ,
    ),
    wrong(
        "inspect",
        "asks for the source",
        found("import inspect, segcourse.exercises.receptive_field as m\nright = take(inspect.getsource(m))"),
        READ,
    ),
    wrong(
        "pkgutil",
        "asks for the package's data",
        found("import pkgutil\nright = take(pkgutil.get_data('segcourse.exercises', 'receptive_field.py'))"),
        READ,
    ),
    wrong(
        "linecache",
        "asks the cache of lines",
        found(f"import linecache\nfor path in {PATHS}: right = take(''.join(linecache.getlines(path)) or 1 / 0)"),
        READ,
    ),
    wrong(
        "zipimport",
        "imports from archives",
        found(
            "import zipimport\nright = zipimport.zipimporter(course()[0] + '.zip').load_module('receptive_field').compound_stride"
        ),
        READ,
    ),
    wrong(
        "main",
        "looks into __main__",
        found(
            f"import __main__\nright = [v for v in vars(__main__).values() if getattr(v, '__module__', '') != '__main__' and getattr(v, '__name__', '') == '{VICTIM}'][0]"
        ),
    ),
    wrong(
        "sys_path",
        "puts folders on the path",
        found(
            "import sys\nsys.meta_path.pop(0)\nsys.path[:0] = course()\nimport receptive_field\nright = receptive_field.compound_stride"
        ),
        READ,
        tampering=None,
    ),
    refused(
        "lists_files",
        "lists folders",
        "import os\nfor d in ('/home', '/root', '/tmp', os.path.expanduser('~')): os.listdir(d)\n",
    ),
    refused(
        "reads_secret",
        "reads the class's secret",
        "CANARY.decode()\nopen(CANARY.decode() + '/secret.txt').read()",
        helpers="CANARY = @CANARY@",
        core=True,
    ),
    refused(
        "reads_others",
        "reads another submission",
        "open(CANARY.decode() + '/bob.ipynb').read()",
        helpers="CANARY = @CANARY@",
    ),
    refused(
        "writes_gradebook",
        "writes the gradebook",
        "open(CANARY.decode() + '/grades.csv', 'a').write('ann,13')",
        helpers="CANARY = @CANARY@",
        core=True,
    ),
    refused(
        "proc_memory",
        "reads the parent's memory",
        "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
        core=True,
    ),
    refused(
        "proc_environment",
        "reads the parent's environment",
        "import os\nopen(f'/proc/{os.getppid()}/environ', 'rb').read()[0]",
    ),
    refused(
        "proc_all",
        "reads every process's command",
        "import glob\nif not [open(p).read() for p in glob.glob('/proc/[0-9]*/cmdline')]: raise OSError",
    ),
    refused(
        "process_vm",
        "reads another process's memory",
        "import ctypes, os\nb = ctypes.create_string_buffer(64)\n"
        "if ctypes.CDLL(None).process_vm_readv(os.getppid(), b, 1, b, 1, 0) < 0: raise OSError",
    ),
    refused(
        "environment",
        "reads the environment",
        "import os\nos.environ['PATH'], os.environ['USER'], os.environ['SEGCOURSE_HOME']",
    ),
    refused("passwords", "reads the accounts", "open('/etc/passwd').read(), open('/etc/shadow').read()"),
]

WRITES = [
    refused(
        f"writes_{n}",
        f"writes to {path}",
        f"import os\nwith open(os.path.expanduser('{path}'), 'w') as f:\n    f.write('x')\n    f.flush()",
        core=n == "tmp",
    )
    for n, path in (
        ("tmp", "//tmp/owned"),
        ("here", "owned"),
        ("home", "~/owned"),
        ("shm", "/dev/shm/owned"),
        ("usr", "/usr/owned"),
    )
] + [
    refused(
        "makes_folder",
        "makes a folder",
        "import os\nfor d in ('//tmp/owned', '/var/tmp/owned', '/run/owned'):\n    os.mkdir(d)",
    ),
    refused(
        "removes",
        "removes and renames files",
        "import os\nos.rename(CANARY.decode() + '/bob.ipynb', CANARY.decode() + '/x')",
        helpers="CANARY = @CANARY@",
        core=True,
    ),
    refused("links", "makes a link", "import os\nos.symlink('/', '//tmp/owned')"),
    refused(
        "chmod",
        "opens the gradebook to everyone",
        "import os\nos.chmod(CANARY.decode() + '/grades.csv', 0o777)",
        helpers="CANARY = @CANARY@",
        core=True,
    ),
    refused(
        "touches",
        "changes times",
        "import os\nos.utime(CANARY.decode() + '/grades.csv', (0, 0))",
        helpers="CANARY = @CANARY@",
    ),
    refused(
        "watches",
        "watches what the judge opens",
        "import ctypes\nif ctypes.CDLL(None).inotify_init() < 0: raise OSError",
    ),
    refused("chroots", "changes the root", "import os\nos.chroot('/tmp')"),
    refused(
        "mounts",
        "mounts a folder",
        "import ctypes\nif ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) < 0: raise OSError",
    ),
]

NETWORK = [
    refused("tcp", "connects", "import socket\nsocket.create_connection(('127.0.0.1', @PORT@), 1)", core=True),
    refused(
        "http", "fetches a page", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:@PORT@', timeout=1)"
    ),
    refused(
        "udp",
        "sends a packet",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @PORT@))",
    ),
    refused("listens", "listens", "import socket\nsocket.create_server(('', 0))"),
    refused(
        "unix",
        "connects to a local service",
        "import socket\nsocket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
    ),
    refused(
        "abstract",
        "connects without a file",
        "import socket\nsocket.socket(socket.AF_UNIX).bind('\\0segcourse-bank')",
        core=True,
    ),
    refused(
        "netlink",
        "asks the kernel about the network",
        "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    ),
    refused(
        "vsock",
        "connects to the host of a virtual machine",
        "import socket\nsocket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    ),
    refused("socketpair", "makes a channel of its own", "import socket\nsocket.socketpair()"),
    *(
        refused(
            n,
            t,
            f"import ctypes\nif ctypes.CDLL(None).syscall({', '.join(f'ctypes.c_long({a})' for a in (number, *arguments))}) < 0: raise OSError",
            core=n == "io_uring",
        )
        for n, t, number, arguments in (
            ("io_uring", "goes around the filter by io_uring", 425, (8, 0)),
            ("clone3", "starts a process by clone3", 435, (0, 0)),
            ("pidfd_getfd", "takes a descriptor of another process", 438, (0, 0, 0)),
            ("unknown_call", "calls what a newer kernel may know", 470, (0, 0, 0)),
        )
    ),
]

# --- on the pipe ---------------------------------------------------------------------------------------------

FORGE = """
import json, os, stat, struct, sys, time
def channel():
    for n in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(n).st_mode): return n
        except OSError: pass
def asked():
    frame = sys._getframe()
    while 'asked' not in frame.f_locals: frame = frame.f_back
    return frame.f_locals['asked']
def send(data):
    while data: data = data[os.write(channel(), data):]
def frame(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack('>I', len(data)) + data
def reply(value, number=0, count=None):
    asking = asked()
    one = {'value': value, 'problem': None, 'kind': 'returned', 'message': '', 'printed': '', 'warned': ''}
    return {'number': asking['number'] + number, 'ran': [one] * (count or len(asking['cases']))}
"""


def forged(name: str, tries: str, text: str, **more: Any) -> Attempt:
    """An answer that writes to the pipe itself, then ends the process."""
    more = {"tampering": True} | more
    return wrong(name, tries, textwrap.dedent(text).strip("\n") + "\nos._exit(0)", FORGE, **more)


AS_PLAIN = "import segcourse.grading.child as child\nchild.as_plain = lambda ran: "
CELLS_PROBLEM = "import sys\nready = sys._getframe(1).f_locals['problems'].append({problem})"

FRAMES = [
    wrong(
        "kind_timeout",
        "has the judging end after the first input, of which it knows the answer",
        AS_PLAIN + "{'value': 6, 'problem': None, 'kind': 'timeout'}",
        tampering=True,
    ),
    wrong(
        "kind_ended",
        "the same by saying that it has ended, with a problem that is empty",
        AS_PLAIN + "{'value': 6, 'problem': '', 'kind': 'ended'}",
        tampering=True,
    ),
    wrong(
        "kind_late_value",
        "sends the answer to the first input with a time limit's problem",
        AS_PLAIN + "{'value': 6, 'problem': 'late', 'kind': 'timeout'}",
    ),
    refused(
        "page_cache",
        "leaves a note for the next process in what the kernel keeps of a file",
        "import os, sys\nf = os.open(os.__file__, os.O_RDONLY)\nos.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)",
        core=True,
    ),
    refused(
        "page_cache_read",
        "reads such a note",
        "import os\nf = os.open(os.__file__, os.O_RDONLY)\nos.preadv(f, [bytearray(1)], 0, os.RWF_NOWAIT)",
        core=True,
    ),
    *(
        whole(
            f"problem_{number}",
            "tells a cell's problem that is none",
            notebook(**{VICTIM: body("pass", CELLS_PROBLEM.format(problem=problem), RIGHT + " + 0 * len(str(ready))")}),
            frozenset(),
            either=ALL,
            tampering=None,
        )
        for number, problem in enumerate(
            (
                "{'cell': 1, 'says': {'tensor': ['float32', [], 'AAAAAA==']}}",
                "{'cell': True, 'says': 'x'}",
                "{'cell': 10**4000, 'says': 'x'}",
                "{'cell': 1, 'says': 'x' * 10**6}",
                "[1]",
            )
        )
    ),
    forged("frame_early", "answers before the judge asks", "send(frame(reply({'list': []}, number=1)))", core=True),
    forged("frame_twice", "answers twice", "send(frame(reply(-1)) * 2)", tampering=None),
    forged(
        "frame_true",
        "says that it is right",
        "send(frame({'number': asked()['number'], 'correct': True, 'points': 99}))",
    ),
    forged("frame_too_many", "answers more than was asked", "send(frame(reply(-1, count=500)))"),
    forged("frame_none", "answers nothing", "send(frame({'number': asked()['number'], 'ran': []}))"),
    forged("frame_long", "announces four gigabytes", "send(b'\\xff' * 4 + b'x' * 1000)", core=True),
    forged("frame_empty", "sends an empty frame", "send(b'\\0' * 4)"),
    forged("frame_garbage", "sends garbage", "send(frame(os.urandom(10000)))"),
    forged("frame_deep", "sends deep JSON", "send(frame(b'[' * 10**6))", core=True),
    forged("frame_deep_objects", "sends deep objects", "send(frame(b'{\"list\":[' * 10**5))"),
    forged("frame_list", "sends a list", "send(frame([1, 2]))"),
    forged("frame_no_kind", "sends a value of no kind", "send(frame(reply({'pickle': 'gASVAA=='})))"),
    forged("frame_two_kinds", "sends a value of two kinds", "send(frame(reply({'list': [], 'tuple': []})))"),
    forged(
        "tensor_large",
        "a tensor that says it is enormous",
        "send(frame(reply({'tensor': ['float32', [2**39, 2**39], '']})))",
        core=True,
    ),
    forged(
        "tensor_negative",
        "a tensor of negative size",
        "send(frame(reply({'tensor': ['float32', [-1, -4], 'AAAAAA==']})))",
    ),
    forged(
        "tensor_axes",
        "a tensor of a thousand axes",
        "send(frame(reply({'tensor': ['float32', [1] * 1000, 'AAAAAA==']})))",
    ),
    forged("tensor_dtype", "a tensor of objects", "send(frame(reply({'array': ['object', [1], 'AAAAAAAAAAA=']})))"),
    forged(
        "tensor_zero",
        "a tensor of no values and enormous sizes",
        "send(frame(reply({'tensor': ['float32', [0, 2**39, 2**39, 2**39], '']})))",
        tampering=None,
    ),
    forged(
        "tensor_bool", "a bool that is neither", "send(frame(reply({'tensor': ['bool', [], 'Aw==']})))", tampering=None
    ),
    forged(
        "tensor_nan_size",
        "a tensor with a size that is no number",
        'send(frame(b\'{"number":1,"ran":[{"value":{"tensor":["int8",[NaN],""]}}]}\'))',
    ),
    forged("digits", "a number of 5000 digits", "send(frame(b'{\"number\": ' + b'9' * 5000 + b'}'))"),
    forged("digits_values", "values of 4000 digits", "send(frame(reply(10**4000 - 1)))", tampering=None),
    forged("infinite", "infinite and not a number", "send(frame(reply(float('inf'))))", tampering=None),
    forged(
        "duplicate_keys", "two values under one key", 'send(frame(b\'{"number":1,"number":2,"ran":[],"ran":[{}]}\'))'
    ),
    forged("unhashable", "keys that can be none", "send(frame(reply({'dict': [[{'list': []}, 0]]})))"),
    forged("odd_pairs", "pairs of three", "send(frame(reply({'dict': [[1, 2, 3], 'ab', 5]})))"),
    forged(
        "colliding",
        "keys that all have the same hash",
        "send(frame(reply({'set': [n * (2**61 - 1) for n in range(1, 150000)]}, count=1)))",
    ),
    forged(
        "many_types",
        "objects of very many types",
        "send(frame(reply({'list': [{'other': f'T{n}'} for n in range(190000)]}, count=1)))",
        tampering=None,
    ),
    forged(
        "many_tensors",
        "very many tensors",
        "send(frame(reply({'list': [{'tensor': ['int8', [0], '']}] * 150000}, count=1)))",
    ),
    forged(
        "texts", "texts that are none", "answer = reply(-1)\nanswer['ran'][0]['message'] = ['x']\nsend(frame(answer))"
    ),
    forged(
        "texts_long",
        "texts of a megabyte",
        "answer = reply(-1)\nanswer['ran'][0]['message'] = 'x' * 10**6\nsend(frame(answer))",
    ),
    forged("half_frame", "half a frame, and silence", "send(frame(reply(-1))[:50])\ntime.sleep(100)", tampering=False),
    forged(
        "byte_by_byte",
        "a frame byte by byte",
        "for n in frame(b' ' * 10**6):\n    send(bytes([n]))\n    time.sleep(0.01)",
        tampering=False,
        core=True,
    ),
    forged(
        "reads_question",
        "takes the next question from the pipe",
        "os.set_blocking(channel(), True)\nos.read(channel(), 1)",
        tampering=False,
    ),
    forged("closes_pipe", "closes the pipe", "os.close(channel())\ntime.sleep(100)", tampering=False),
    forged(
        "shuts_pipe",
        "passes its descriptors to the judge",
        "import socket, array\nsocket.send_fds(socket.socket(fileno=channel()), [b'x'], [0])",
        tampering=None,
    ),
]

# --- hard-coded answers, leaks, state ------------------------------------------------------------------------


def table_of(cases: list[Case], other: str = "-1") -> str:
    """Source of a function that knows the answers to these inputs and no others."""
    exercise = next(e for e in exercises.lesson(LESSON).exercises if e.name == VICTIM)
    known = {str(case["strides"]): exercise.reference(**case) for case in cases}
    return body(f"return KNOWN[str(strides)] if str(strides) in KNOWN else {other}", f"KNOWN = {known!r}\n")


def public_cases() -> list[Case]:
    """The inputs that everybody may know."""
    return secret_cases(VICTIM, PUBLIC)


EXAMPLES = list(next(e for e in exercises.lesson(LESSON).exercises if e.name == VICTIM).examples)
CHEATS = [
    whole(
        "knows_examples", "knows the examples by heart", notebook(compound_stride=table_of(EXAMPLES)), OTHERS, core=True
    ),
    whole(
        "knows_public", "knows the public inputs by heart", notebook(compound_stride=table_of(public_cases())), OTHERS
    ),
    wrong("constant", "always returns 1", "return 1"),
    wrong("random", "guesses", "import random\nreturn random.choice([1, 2, 4, 6, 8])"),
    wrong("state", "is right every other time", f"global n\nn += 1\nif n % 2: return {RIGHT}", "n = 0"),
    wrong(
        "late_turn",
        "is right on the first ten calls",
        f"CALLS.append(1)\nif len(CALLS) < 10: return {RIGHT}",
        "CALLS = []",
    ),
    wrong(
        "uses_the_other", "calls a right answer under another name", "return COPY(1, 2, 3)", "COPY = compound_kernel"
    ),
    wrong("changes_input", "changes its input", f"result = {RIGHT}\nstrides.append(1)\nreturn result"),
    wrong("raises_all", "raises", "raise ValueError('no')"),
]

LEAKS = [
    wrong("leak_error", "puts its inputs into an exception", "raise ValueError(f'LEAK{strides}')", core=True),
    wrong(
        "leak_error_type",
        "puts its inputs into the name of an exception",
        "raise type('LEAK' + '_'.join(map(str, strides)), (Exception,), {})()",
    ),
    wrong("leak_print", "prints its inputs", "print('LEAK', strides)"),
    wrong("leak_warning", "warns of its inputs", "import warnings\nwarnings.warn(f'LEAK{strides}')"),
    wrong("leak_value", "returns its inputs as text", "return f'LEAK{strides}'"),
    wrong(
        "leak_type",
        "returns its inputs as the name of a type",
        "return type('LEAK' + '_'.join(map(str, strides)), (), {})()",
    ),
    wrong("leak_dict", "returns its inputs as keys", "return {f'LEAK{strides}': 1}"),
    odd(
        "leak_right",
        "is right and prints its inputs",
        "import warnings\nprint('LEAK', strides)\nwarnings.warn(f'LEAK{strides}')",
    ),
    wrong(
        "leak_later",
        "gathers inputs and raises them at the end",
        f"SEEN.append(strides)\nif len(SEEN) == 40: raise ValueError(f'LEAK{{SEEN}}')\nreturn {RIGHT}",
        "SEEN = []",
    ),
    whole(
        "leak_unknown",
        "is right on public inputs and raises secret ones",
        notebook(
            compound_stride=table_of(public_cases(), "LEAK(strides)")
            + "\ndef LEAK(strides):\n    print('LEAK', strides)\n    raise ValueError(f'LEAK{strides}')"
        ),
        OTHERS,
    ),
    forged(
        "leak_frame", "forges a kind of value named by its inputs", "send(frame(reply({f'LEAK{strides}'[:20]: []})))"
    ),
    forged(
        "leak_key",
        "forges a number of values named by inputs",
        "send(frame(reply({'dict': [[{'list': [f'LEAK{strides}']}, 0]]})))",
    ),
]

# --- other lessons: tensors, modules, gradients --------------------------------------------------------------


def elsewhere(
    name: str, tries: str, lesson: str, victim: str, source: str, earns: bool = False, **more: Any
) -> Attempt:
    """An attempt in another lesson."""
    names = frozenset(exercise.name for exercise in exercises.lesson(lesson).exercises)
    data = notebook(lesson, **{victim: textwrap.dedent(source)})
    return Attempt(name, tries, data, names if earns else names - {victim}, lesson=lesson, **more)


ELSEWHERE = [
    elsewhere(
        "tensor_subclass",
        "a tensor that says it is equal",
        "02_transposed",
        "bilinear_kernel",
        """
        class Same(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None): return True
        def bilinear_kernel(factor): return torch.zeros(2 * factor, 2 * factor).as_subclass(Same)
        """,
    ),
    elsewhere(
        "tensor_sparse",
        "a sparse tensor",
        "02_transposed",
        "bilinear_kernel",
        "def bilinear_kernel(factor): return torch.eye(2 * factor).to_sparse()",
    ),
    elsewhere(
        "tensor_meta",
        "a tensor without values",
        "02_transposed",
        "bilinear_kernel",
        "def bilinear_kernel(factor): return torch.empty(2 * factor, 2 * factor, device='meta')",
    ),
    elsewhere(
        "tensor_threads",
        "computes with many threads",
        "02_transposed",
        "overlap_counts",
        "import torch.nn.functional as F\ndef overlap_counts(size, kernel, stride):\n    torch.set_num_threads(8)\n"
        "    torch.ones(10**6).exp().sum()\n    return _right(size, kernel, stride)\n"
        + solutions("02_transposed")["overlap_counts"].replace("def overlap_counts", "def _right"),
        earns=True,
    ),
    elsewhere(
        "module_lie",
        "a module that is no module",
        "03_convolutionalize",
        "linear_to_conv",
        "class Lie:\n    __class__ = nn.Conv2d\n    def __getattr__(self, name): return lambda *a, **k: Lie()\n"
        "    __call__ = lambda *_: Lie()\ndef linear_to_conv(*_, **__): return Lie()",
        either=frozenset({"convolutionalize"}),  # it uses the former
    ),
    elsewhere(
        "module_hook",
        "patches how every module is called",
        "03_convolutionalize",
        "linear_to_conv",
        "def linear_to_conv(*_, **__):\n    nn.Module.__call__ = lambda *a, **k: torch.zeros(())\n    return nn.Conv2d(1, 1, 1)",
        either=frozenset({"convolutionalize"}),
    ),
    elsewhere(
        "module_same",
        "hands the module back",
        "03_convolutionalize",
        "convolutionalize",
        "def convolutionalize(network, *_): return network",
    ),
    elsewhere(
        "driver_patched",
        "patches the course's driver",
        "05_segnet_unpooling",
        "decode",
        "def decode(*args):\n    from segcourse.exercises.drivers import segnet_unpooling as d\n"
        "    d.decoder = lambda *a: True\n    return torch.zeros(1)",
    ),
    elsewhere(
        "gradient_off",
        "turns gradients off for everyone",
        "05_segnet_unpooling",
        "unpool",
        "def unpool(*args):\n    torch.set_grad_enabled(False)\n    return torch.zeros(1)",
        either=frozenset({"decode"}),  # it uses the former
    ),
    elsewhere(
        "driver_frames",
        "looks for answers in the driver's frames",
        "05_segnet_unpooling",
        "max_pool_with_indices",
        """
        import sys
        def max_pool_with_indices(*args):
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_globals.values()):
                    if getattr(value, '__name__', '') == 'max_pool_with_indices' and value.__module__ != '__main__':
                        return value(*args)
                frame = frame.f_back
        """,
    ),
]

# --- files of every kind -------------------------------------------------------------------------------------


def file(change: str = "") -> dict[str, Any]:
    """The honest notebook as JSON's kinds, with an accent in it."""
    return content([*cells(), {"cell_type": "markdown", "metadata": {}, "source": "Voil\u00e0 " + change}])


def dumped(data: Any, **options: Any) -> bytes:
    """JSON of it, in UTF-8 and not in escapes."""
    return json.dumps(data, ensure_ascii=False, **options).encode()


def format_3() -> bytes:
    """The honest notebook in the format of IPython 2."""
    old = [
        {"cell_type": "code", "input": cell["source"].splitlines(keepends=True), "language": "python"}
        for cell in cells()
    ]
    return dumped({"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": old}]})


def changed_cells(**change: Any) -> bytes:
    """The honest notebook with something changed in every cell."""
    made = file()
    for cell in made["cells"]:
        cell.update(change)
    return dumped(made)


def victim_cells(*some: Any) -> bytes:
    """The honest notebook with other cells in place of the victim's."""
    made = cells()
    place = next(i for i, cell in enumerate(made) if f"def {VICTIM}" in cell["source"])
    return dumped(content([*made[:place], *some, *made[place + 1 :]]))


TEXT = dumped(file(), indent=1)
V = solutions()[VICTIM]
FILES = [
    whole("honest", "the honest notebook", TEXT, core=True),
    whole("bom", "begins with a byte order mark", b"\xef\xbb\xbf" + TEXT),
    whole("utf_16", "is encoded in UTF-16", TEXT.decode().encode("utf-16"), says="UTF-16"),
    whole("utf_16_be", "is encoded in UTF-16, big end first", TEXT.decode().encode("utf-16-be")),
    whole("cp1252", "is encoded in Windows-1252", TEXT.decode().encode("cp1252"), says="Windows-1252"),
    whole("crlf", "has the line ends of Windows", TEXT.replace(b"\n", b"\r\n").replace(b"\\n", b"\\r\\n")),
    whole("truncated", "is cut off", TEXT[: len(TEXT) // 2], frozenset(), status="unreadable", says="cut off"),
    whole("empty", "is empty", b"", frozenset(), status="unreadable", says="empty"),
    whole("zeros", "is zeros", b"\0" * 5000, frozenset(), status="unreadable"),
    whole("html", "is a web page", b"<!DOCTYPE html><p>x", frozenset(), status="unreadable", says="web page"),
    whole("archive", "is a zip", b"PK\x03\x04" + b"x" * 100, frozenset(), status="unreadable"),
    whole(
        "conflict",
        "holds a merge conflict",
        TEXT.replace(b' "nbformat"', b'<<<<<<< HEAD\n "nbformat"', 1),
        frozenset(),
        status="unreadable",
        says="conflict",
    ),
    whole("deep", "is nested deeply", b'{"cells":' * 100000, frozenset(), status="unreadable"),
    whole("tail", "has something after its end", TEXT + b"\n}garbage", says="left out"),
    whole("format_3", "is of nbformat 3", format_3(), says="format 3"),
    whole("format_none", "does not say its format", dumped({"cells": cells()})),
    whole(
        "no_ids",
        "has no cell ids",
        dumped({**file(), "cells": [{k: v for k, v in c.items() if k != "id"} for c in file()["cells"]]}),
    ),
    whole("same_ids", "has one id for all cells", changed_cells(id="same")),
    whole("no_metadata", "has lost its metadata", changed_cells(metadata=None)),
    whole("no_types", "does not say what its cells are", changed_cells(cell_type=None), says="read as code"),
    whole("odd_outputs", "has odd outputs", changed_cells(outputs=[{"x": [[[[]]]]}], execution_count="x")),
    whole("huge_outputs", "has outputs of some megabytes", changed_cells(outputs=[{"text": "x" * 500000}])),
    whole(
        "wrong_kernel",
        "is set to R",
        dumped({**file(), "metadata": {"kernelspec": {"language": "R", "name": "ir"}}}),
        says="kernel",
    ),
    whole("no_setup", "has lost its first cell", dumped(content(cells()[1:]))),
    whole("reversed", "has its cells in the other order", dumped(content(cells()[::-1]))),
    whole("one_cell", "has all in one cell", dumped(content([code("\n\n".join([SETUP, *solutions().values()]))]))),
    whole("twice", "has every cell twice", dumped(content([*cells(), *cells()]))),
    whole(
        "starter_again",
        "has the starter below the answer",
        notebook(after=f"def {VICTIM}(strides):\n    return ..."),
        ALL,
        either=frozenset({VICTIM}),
    ),
    whole("blank", "is blank", dumped(content([code(SETUP)])), frozenset(), says="no function"),
    whole("no_cells", "has no cells", dumped(content([])), frozenset(), says="empty"),
    whole("odd_cells", "has cells that are none", dumped(content([None, 3, [], {"source": 5}, *cells()]))),
    whole(
        "markdown_cell",
        "has an answer in a text cell",
        victim_cells({"cell_type": "markdown", "metadata": {}, "source": V}),
        OTHERS,
        says="markdown cell",
    ),
    whole(
        "raw_cell",
        "has an answer in a raw cell",
        victim_cells({"cell_type": "raw", "metadata": {}, "source": V}),
        OTHERS,
        says="raw cell",
    ),
    whole(
        "renamed",
        "has renamed a function",
        victim_cells(code(V.replace(VICTIM, "compound_strides"))),
        OTHERS,
        says="compound_strides",
    ),
    whole(
        "inside",
        "has an answer inside a class",
        victim_cells(code("class A:\n" + textwrap.indent(V, "    "))),
        OTHERS,
        says="inside",
    ),
    whole("under_if", "has an answer under an if", victim_cells(code("if True:\n" + textwrap.indent(V, "    ")))),
    whole(
        "under_try",
        "has an answer under a try",
        victim_cells(code("try:\n" + textwrap.indent(V, "    ") + "\nexcept ImportError:\n    pass")),
    ),
    whole("lambda", "has an answer as a lambda", victim_cells(code(f"{VICTIM} = lambda strides: {RIGHT}"))),
    whole(
        "class",
        "has an answer as an object",
        victim_cells(code(f"class A:\n    def __call__(self, strides): return {RIGHT}\n{VICTIM} = A()")),
    ),
    whole("async", "has an answer as a coroutine", victim_cells(code("async " + V)), OTHERS),
    whole(
        "magics",
        "has magics and shell commands",
        victim_cells(code("%matplotlib inline\n!pip install x\n%%time"), code(V), code("%timeit compound_stride([1])")),
    ),
    whole("cell_magic", "has a magic over the answer", victim_cells(code("%%time\n" + V))),
    whole(
        "syntax",
        "cannot be read in one cell",
        victim_cells(code(V + "\ncompound_stride((")),
        OTHERS,
        either=frozenset({VICTIM}),
    ),
    whole(
        "no_break_spaces",
        "has spaces of another kind",
        victim_cells(code(V.replace("    ", "\u00a0\u00a0\u00a0\u00a0"))),
        OTHERS,
        says="cannot be read",
    ),
    whole("tabs", "is indented by tabs", victim_cells(code(V.replace("    ", "\t")))),
    whole(
        "nfkc",
        "writes a name with letters that look the same to Python",
        victim_cells(code(V.replace("compound_stride", "\uff43ompound_stride"))),
    ),
    whole(
        "look_alike",
        "writes a name with a letter that only looks the same",
        victim_cells(code(V.replace("compound_stride", "\u0441ompound_stride"))),
        OTHERS,
    ),
    whole(
        "bidi", "has a comment that turns the text around", victim_cells(code(V + "# \u202e\u2066 the right answer"))
    ),
    whole("nul", "holds NUL characters", victim_cells(code(V + "# \0"))),
    whole("long_cell", "has a long cell", notebook(after="x = '" + "y" * 200_000 + "'"), says="too long"),
    whole("huge_cell", "has a cell of megabytes", notebook(after="x = '" + "y" * 2_000_000 + "'"), says="characters"),
    whole("deep_code", "has code that is nested deeply", notebook(after="x = " + "(" * 5000 + ")" * 5000)),
    whole("many_cells", "has thousands of cells", dumped(content([*cells(), *(code("x = 1") for _ in range(4000))]))),
    whole(
        "unknown_types",
        "uses names in annotations that it never imports",
        victim_cells(code(V.replace("(strides)", "(strides: Nowhere)"))),
        either=frozenset({VICTIM}),
    ),
    whole(
        "helpers",
        "has a helper in a cell of its own",
        victim_cells(
            code("def times(a, b):\n    return a * b"), code(body("r = 1\nfor s in strides: r = times(r, s)\nreturn r"))
        ),
    ),
    whole(
        "cached",
        "remembers its results",
        victim_cells(
            code(
                "import functools\n@functools.cache\ndef f(s):\n    return __import__('math').prod(s)\n"
                + body("return f(tuple(strides))")
            )
        ),
    ),
]

FIRST: list[Attempt] = [
    *TIME,
    *ENDS,
    *OTHER_PROCESSES,
    *FLOODS,
    *ASKS,
    *PATCHES,
    *LIES,
    *SNOOPS,
    *WRITES,
    *NETWORK,
    *FRAMES,
    *CHEATS,
    *LEAKS,
    *FILES,
    *ELSEWHERE,
]
