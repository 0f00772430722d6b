"""A second bank of odd and hostile submissions: the kinds of the first in the forms that another author thinks of.

To save time, several exercises of one notebook may hold attempts; each is judged by itself, so a notebook of four
hostile answers and three honest ones must earn exactly the three.
"""

# ruff: noqa: E501
from __future__ import annotations

import inspect
import json
import textwrap
from typing import Any

from bank import (
    ALL,
    EQUAL,
    EXAMPLES,
    FORGE,
    LESSON,
    OTHERS,
    RIGHT,
    SETUP,
    TEXT,
    VICTIM,
    Attempt,
    V,
    body,
    cells,
    code,
    content,
    dumped,
    elsewhere,
    file,
    forged,
    notebook,
    odd,
    public_cases,
    refused,
    secret_cases,
    solutions,
    table_of,
    victim_cells,
    whole,
    wrong,
)

from segcourse import exercises
from segcourse.grading.grade import PUBLIC

FCN, UNET, ATROUS, CONV, COST, UNPOOL = (
    "04_fcn_skips",
    "06_unet",
    "07_atrous",
    "03_convolutionalize",
    "08_depthwise_cost",
    "05_segnet_unpooling",
)


def parameters(name: str, lesson: str = LESSON) -> str:
    """The parameters of an exercise's function, as they stand between its brackets."""
    exercise = next(e for e in exercises.lesson(lesson).exercises if e.name == name)
    return ", ".join(inspect.signature(exercise.reference).parameters)


def right_copy(name: str, lesson: str = LESSON) -> str:
    """The right answer's source under the name `right_...`."""
    return solutions(lesson)[name].replace(f"def {name}(", f"def right_{name}(")


def lying(name: str, text: str, helpers: str = "", lesson: str = LESSON) -> str:
    """An answer with this body that returns -1 in the end."""
    inside = textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    return f"{textwrap.dedent(helpers)}\ndef {name}({parameters(name, lesson)}):\n{inside}\n    return -1\n"


def after_which(name: str, text: str, helpers: str = "", lesson: str = LESSON) -> str:
    """An answer that does something odd and then returns what is right."""
    inside = textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    given = parameters(name, lesson)
    return f"{right_copy(name, lesson)}\n{textwrap.dedent(helpers)}\ndef {name}({given}):\n{inside}\n    return right_{name}({given})\n"


def several(name: str, tries: str, lesson: str = LESSON, earn: frozenset[str] = frozenset(), **more: Any) -> Attempt:
    """A submission of which several answers are hostile or odd; those that are right all the same are `earn`."""
    names = frozenset(exercise.name for exercise in exercises.lesson(lesson).exercises)
    answers = {key: more.pop(key) for key in [*more] if key in names}
    return Attempt(name, tries, notebook(lesson, **answers), (names - set(answers)) | earn, lesson=lesson, **more)


# --- time ----------------------------------------------------------------------------------------------------

TIME = [
    several(
        "loops",
        "never end, each in another way, and swallow what interrupts them",
        compound_kernel=lying(
            "compound_kernel",
            """
            while True:
                try:
                    while True: pass
                except KeyboardInterrupt: continue
                finally: continue
            """,
        ),
        compound_stride=lying("compound_stride", "sum(range(10**18))"),
        field_centre=lying(
            "field_centre",
            "import contextlib\nwhile True:\n    with contextlib.suppress(BaseException):\n        __import__('time').sleep(0.001)",
        ),
        receptive_field=lying("receptive_field", "return 10 ** 10 ** 8"),
    ),
    several(
        "loops_hidden",
        "never end where one does not look: in __del__, in a handler, in a property, when a value is read",
        compound_kernel=lying(
            "compound_kernel",
            "D()",
            "class D:\n    def __del__(self):\n        while True:\n            try:\n                __import__('time').sleep(9)\n            except BaseException: pass",
        ),
        compound_stride=lying(
            "compound_stride",
            """
            import signal
            def again(*_):
                while True: pass
            signal.signal(signal.SIGALRM, again)
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            while True: pass
            """,
        ),
        input_size=lying(
            "input_size",
            "return Slow(1)",
            "import time\nclass Slow(int):\n    def __int__(self):\n        while True: time.sleep(1)\n    __index__ = __trunc__ = __float__ = __int__",
        ),
        field_centre=lying("field_centre", "import re\nre.sub(r'(.*)*,(.*)*,$', '', ',' * 40 + 'x' * 40)"),
        receptive_field=lying(
            "receptive_field", "import signal\nwhile True:\n    try: signal.pause()\n    except BaseException: pass"
        ),
    ),
    several(
        "sleeps_in_pieces",
        "sleep in pieces, in select, on a lock, in a wait for nobody",
        compound_kernel=lying(
            "compound_kernel",
            "import time\nwhile True:\n    try: time.sleep(0.01)\n    except BaseException: pass",
        ),
        compound_stride=lying("compound_stride", "import threading\nthreading.Event().wait()"),
        input_size=lying("input_size", "import select\nselect.select([], [], [], 1e6)"),
        field_centre=lying("field_centre", "import queue\nqueue.Queue().get()"),
        receptive_field=lying("receptive_field", "import os\nos.read(os.pipe()[0], 1)"),
    ),
    whole(
        "loops_in_a_class",
        "never ends while a class that the answer needs is made, and in a comprehension of a constant",
        notebook(
            compound_stride=body("return A.x", "import time\nclass A:\n    x = [time.sleep(1) for n in iter(int, 1)]"),
            input_size=lying("input_size", "return TABLE[0]", "TABLE = {n: n for n in iter(int, 1)}"),
        ),
        OTHERS - {"input_size"},
    ),
    wrong(
        "masked_in_c",
        "blocks the timer below Python and sleeps in C",
        "import ctypes\nctypes.CDLL(None).alarm(0)\nctypes.CDLL(None).signal(14, ctypes.c_void_p(1))\nctypes.CDLL(None).sleep(1000)",
    ),
    odd(
        "own_timer",
        "uses a timer of its own, as an honest guard would",
        "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 0)",
    ),
]

# --- the end of the process ----------------------------------------------------------------------------------

ENDS = [
    several(
        "ends",
        "end the process: after a moment, in C, by a raised signal, by a fault, by a stack that is too deep",
        compound_kernel=lying("compound_kernel", "import os\nclass D:\n    def __del__(self): os._exit(0)\nD()"),
        compound_stride=lying("compound_stride", "import signal\nsignal.raise_signal(signal.SIGKILL)"),
        input_size=lying("input_size", "import signal, os\nos.kill(os.getpid(), signal.SIGSTOP)"),
        field_centre=lying("field_centre", "import faulthandler\nfaulthandler._sigsegv()"),
        receptive_field=lying("receptive_field", "import ctypes\nctypes.memset(0, 1, 1)"),
        block_field=lying(
            "block_field",
            "import sys\nsys.setrecursionlimit(10**8)\nx = []\nfor _ in range(10**6): x = [x]\nreturn x == [x]",
        ),
    ),
    several(
        "ends_politely",
        "leave by every door that Python has",
        compound_kernel=lying("compound_kernel", "raise SystemExit(0)"),
        compound_stride=lying("compound_stride", "raise GeneratorExit"),
        input_size=lying("input_size", "raise StopIteration(7)"),
        field_centre=lying("field_centre", "import signal\nsignal.raise_signal(signal.SIGINT)"),
        receptive_field=lying("receptive_field", "import _thread\n_thread.interrupt_main()\nwhile True: pass"),
        block_field=lying("block_field", "assert False"),
    ),
    whole(
        "ends_when_defined",
        "ends the process when a cell runs, by each of three answers",
        notebook(
            compound_stride="import os\n@os._exit\ndef compound_stride(strides): return 1",
            input_size="def input_size(output_size, layers, x=__import__('ctypes').string_at(0)): return 1",
            field_centre="class Meta(type):\n    def __new__(*_): __import__('os').abort()\nclass A(metaclass=Meta): pass\nfield_centre = A()",
        ),
        ALL - {"compound_stride", "input_size", "field_centre"},
    ),
    wrong(
        "strides_outside",
        "reads far outside an array by strides, until it crashes",
        "import numpy\nfrom numpy.lib.stride_tricks import as_strided\nreturn int(as_strided(numpy.zeros(1), (2**40,), (2**12,))[::2**20].sum())",
    ),
    wrong(
        "tensor_outside",
        "makes a tensor at an address that is none",
        "import ctypes\nreturn int(torch.frombuffer((ctypes.c_char * 64).from_address(4096), dtype=torch.uint8).sum())",
    ),
    wrong(
        "refcount",
        "takes None's references away, which ends Python when it is freed",
        "import ctypes\nfor n in (None, True, 1, ''): ctypes.c_long.from_address(id(n)).value = 1\nfor _ in range(9): x = [None, True, 1, '']",
        tampering=None,
        either=frozenset({VICTIM}),
    ),
    wrong(
        "code_object",
        "runs bytes that are no program",
        "def f(): pass\nf.__code__ = f.__code__.replace(co_code=bytes([83, 0, 100, 99] * 40), co_stacksize=1)\nreturn f()",
        tampering=None,
    ),
    odd("exit_later", "registers an end of the process", "import atexit, os\natexit.register(os._exit, 1)"),
    odd("faulthandler", "asks for a dump of its frames later", "import faulthandler\nfaulthandler.is_enabled()"),
]

# --- other processes, threads, as honest students and others use them ----------------------------------------

PROCESSES = [
    refused(
        "workers",
        "loads data by two worker processes",
        "from torch.utils.data import DataLoader\nlist(DataLoader([1, 2, 3], num_workers=2))",
    ),
    refused(
        "popen",
        "starts a program through each of Python's doors",
        """
        import os, pty, subprocess
        for start in (
            lambda: subprocess.Popen(['/bin/sh', '-c', 'sleep 1000'], start_new_session=True),
            lambda: subprocess.check_output('id', shell=True),
            lambda: os.popen('id').read() or 1 / 0,
            lambda: os.spawnv(os.P_NOWAIT, '/bin/true', ['true']),
            lambda: os.posix_spawnp('true', ['true'], {}),
            lambda: os.forkpty(),
            lambda: pty.fork(),
            lambda: os.execlp('true', 'true'),
        ):
            try: start()
            except Exception: continue
            return -1
        raise OSError
        """,
    ),
    refused(
        "signals_group",
        "signals its group, its session and process 1 in every way",
        """
        import ctypes, os, signal
        libc = ctypes.CDLL(None)
        for who in (os.getppid(), -os.getpgid(0), 0, 1, -1):
            try: os.kill(who, signal.SIGKILL)
            except Exception: continue
            return -1
        if libc.syscall(ctypes.c_long(200), os.getppid(), 9) == 0: return -1
        if libc.killpg(os.getppid(), 9) == 0: return -1
        raise OSError
        """,
    ),
    refused(
        "process_pool",
        "uses processes for a sum",
        "import concurrent.futures as c\nwith c.ProcessPoolExecutor(2) as pool: list(pool.map(abs, [1]))",
    ),
    refused(
        "thread_pool",
        "uses threads for a sum; they cannot be started, and the words say so",
        "import concurrent.futures as c\nwith c.ThreadPoolExecutor(2) as pool: list(pool.map(abs, [1]))",
    ),
    refused(
        "raw_threads",
        "starts threads below `threading`",
        "import _thread\nfor _ in range(100): _thread.start_new_thread(print, ())",
    ),
    refused(
        "vfork_below",
        "forks by the numbers of system calls",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nif all(libc.syscall(ctypes.c_long(n), 0, 0, 0, 0, 0) < 0 for n in (56, 57, 58, 435)): raise OSError",
    ),
    odd(
        "torch_interop",
        "computes with torch in a way that wants threads",
        "torch.set_num_threads(4)\nx = torch.ones(100, 100)\n(x @ x).sum()\ntorch.ones(10**5).sort()",
    ),
    odd(
        "numpy_threads",
        "computes with NumPy and SciPy in ways that want threads",
        "import numpy, scipy.fft, scipy.linalg\nx = numpy.eye(200)\nnumpy.linalg.svd(x)\nscipy.linalg.inv(x)\nscipy.fft.fft2(x)",
    ),
    odd("gradients", "computes gradients", "x = torch.ones(3, requires_grad=True)\n(x * x).sum().backward()"),
]

# --- memory, output, disk ------------------------------------------------------------------------------------

FLOODS = [
    several(
        "memory",
        "fill memory in five ways, one that swallows the error among them",
        compound_kernel=lying(
            "compound_kernel",
            "import torch\nx = [torch.empty(2**29, dtype=torch.uint8) for _ in range(100)]",
        ),
        compound_stride=lying("compound_stride", "return len('x' * 10**12)"),
        input_size=lying(
            "input_size",
            "x = []\nfor _ in range(100):\n    try: x.append(bytearray(2**28))\n    except MemoryError: x.append(1)",
        ),
        field_centre=lying("field_centre", "return [0] * 10**11"),
        receptive_field=lying("receptive_field", "import numpy\nreturn numpy.ones((10**6, 10**6))"),
        block_field=lying("block_field", "import array\nreturn array.array('d', [0]) * 10**11"),
    ),
    odd(
        "memory_of_an_honest_answer",
        "uses 200 MB for a moment, as an honest answer may",
        "x = torch.empty(50 * 2**20)\ndel x",
    ),
    odd(
        "prints_a_lot",
        "prints megabytes through each of Python's doors",
        """
        import logging, os, pprint, sys, warnings
        print('x' * 10**6)
        sys.stdout.write('y' * 10**6)
        sys.stderr.writelines(['z\\n'] * 1000)
        sys.__stdout__ and sys.__stdout__.write('w' * 1000)
        os.write(2, b'v' * 10**5)
        pprint.pprint(list(range(1000)))
        logging.warning('u' * 10**5)
        for n in range(100): warnings.warn(f'warning {n} ' + 'x' * 1000)
        """,
    ),
    odd(
        "stdout_replaced",
        "puts something else in place of the output, and closes it",
        "import sys, io\nsys.stdout = sys.stderr = io.StringIO()\nprint('x')\nsys.stdout.close()\nsys.stdout = None",
    ),
    odd(
        "warnings_as_errors",
        "turns warnings into errors for itself",
        "import warnings\nwarnings.simplefilter('error')\ntry: warnings.warn('x')\nexcept UserWarning: pass",
    ),
    refused(
        "own_process_files",
        "writes to what the kernel shows of its own process, which landlock refuses (without it, it changes no other)",
        "for name in ('comm', 'oom_score_adj', 'clear_refs'):\n    try: open(f'/proc/self/{name}', 'w')\n    except OSError: continue\n    return -1\nraise OSError",
    ),
    refused(
        "disk_in_every_way",
        "writes a file in every way, and makes one grow",
        """
        import mmap, os, pathlib, shelve, sqlite3, tempfile
        for write in (
            lambda: tempfile.mkdtemp(),
            lambda: tempfile.NamedTemporaryFile().write(b'x'),
            lambda: os.open('/', os.O_TMPFILE | os.O_RDWR),
            lambda: pathlib.Path('owned').touch(),
            lambda: os.mkfifo('//tmp/owned'),
            lambda: os.link(os.__file__, '//tmp/owned'),
            lambda: sqlite3.connect('//tmp/owned').execute('create table x (y)'),
            lambda: shelve.open('//tmp/owned'),
            lambda: torch.save([1], '//tmp/owned'),
            lambda: __import__('numpy').save('//tmp/owned', [1]),
            lambda: os.truncate(os.__file__, 0),
            lambda: open(os.__file__, 'r+b').write(b'x'),
        ):
            try: write()
            except Exception: continue
            return -1
        raise OSError
        """,
        core=True,
    ),
    several(
        "returns_floods",
        "return what is long in every way",
        compound_kernel=lying("compound_kernel", "return 'x' * (15 * 2**20)"),
        receptive_field=lying("receptive_field", "return torch.zeros(1, 3, 256, 256)", "import torch"),
        block_field=lying("block_field", "return [[[[['x' * 1000]]]]] * 500"),
    ),
    several(
        "returns_odd_lists",
        "return lists that cannot be sorted, compared or counted",
        pixels_seen=lying("pixels_seen", "return [1, 'a', None, [2]]"),
        input_size=lying("input_size", "return [float('nan')] * 3"),
        field_centre=lying("field_centre", "return complex(1, 2)"),
        receptive_field=lying("receptive_field", "return True"),
        block_field=lying("block_field", "return b'9'"),
        compound_kernel=lying("compound_kernel", "return str(kernel_1 + (kernel_2 - 1) * stride_1)"),
    ),
]

# --- values that lie -----------------------------------------------------------------------------------------

LIES = [
    several(
        "equal_in_other_ways",
        "return what equals everything: by a metaclass, a proxy, a mock, an Enum, a Fraction",
        compound_kernel=lying("compound_kernel", "from unittest.mock import ANY\nreturn ANY"),
        compound_stride=lying("compound_stride", "from unittest.mock import MagicMock\nreturn MagicMock()"),
        input_size=lying(
            "input_size",
            "return Odd",
            "class OddMeta(type):\n    __eq__ = lambda *_: True\n    __hash__ = lambda _: 0\n    __instancecheck__ = lambda *_: True\nclass Odd(metaclass=OddMeta): pass",
        ),
        field_centre=lying(
            "field_centre",
            "return F(1, 3)",
            "import fractions\nclass F(fractions.Fraction):\n    __eq__ = __le__ = lambda *_: True\n    __hash__ = lambda _: 0\n    __float__ = lambda _: -7.0",
        ),
        receptive_field=lying(
            "receptive_field",
            "return E.X",
            "import enum\nclass E(enum.IntEnum):\n    X = -5\n    __eq__ = lambda *_: True\n    __hash__ = lambda _: 0",
        ),
        pixels_seen=lying(
            "pixels_seen",
            "return S([1])",
            EQUAL
            + "class S(Equal, frozenset):\n    def __contains__(self, x): return True\n    def __len__(self): return 10**9",
        ),
    ),
    several(
        "awaited",
        "return what is not a value yet: a coroutine, a future, an iterator, an awaitable, a partial",
        compound_kernel="async " + lying("compound_kernel", "return kernel_1").lstrip(),
        compound_stride=lying("compound_stride", "return map(int, strides)"),
        input_size=lying("input_size", "yield 1\nyield 2"),
        field_centre=lying(
            "field_centre",
            "import functools\nreturn functools.partial(right_field_centre, position, layers)",
            right_copy("field_centre"),
        ),
        receptive_field=lying(
            "receptive_field", "import concurrent.futures\nf = concurrent.futures.Future()\nf.set_result(1)\nreturn f"
        ),
        pixels_seen="async " + lying("pixels_seen", "yield 1").lstrip().replace("    return -1\n", ""),
    ),
    several(
        "errors",
        "raise what cannot be read: texts that are none, that raise, that are endless, that hold themselves",
        compound_kernel=lying(
            "compound_kernel",
            "raise BadText",
            "class BadText(Exception):\n    def __str__(self): return 5\n    __repr__ = __str__",
        ),
        compound_stride=lying(
            "compound_stride", "raise LongText", "class LongText(Exception):\n    def __str__(self): return 'x' * 10**6"
        ),
        input_size=lying("input_size", "raise ExceptionGroup('x', [ValueError(str(n)) for n in range(10**4)])"),
        field_centre=lying(
            "field_centre",
            "e = ValueError('x')\ne.__cause__ = e.__context__ = e\nfor _ in range(1000): e.add_note('n' * 1000)\nraise e",
        ),
        receptive_field=lying(
            "receptive_field",
            "raise Slots()",
            "class Slots(BaseException):\n    @property\n    def __traceback__(self): raise self\n    @property\n    def __class__(self): raise MemoryError\n    def with_traceback(self, _): return self",
        ),
        block_field=lying(
            "block_field", "raise type('x\\n<b>\\x00\\ud800', (KeyError,), {})('<img src=x onerror=alert(1)>')"
        ),
        pixels_seen=lying("pixels_seen", "raise NotImplementedError"),
    ),
    several(
        "values_that_act",
        "return values that act when they are encoded",
        compound_kernel=lying(
            "compound_kernel", "return Act()", "import os\nclass Act(float):\n    def __float__(self): os._exit(0)"
        ),
        compound_stride=lying(
            "compound_stride",
            "return Bad({1: 2})",
            "class Bad(dict):\n    def items(self): raise KeyboardInterrupt\n    def keys(self): raise SystemExit",
        ),
        input_size=lying(
            "input_size",
            "return Text('x')",
            "class Text(str):\n    def encode(self, *_): raise SystemExit\n    def __str__(self): raise KeyboardInterrupt",
        ),
        field_centre=lying(
            "field_centre",
            "return Tuple([1])",
            "class Tuple(tuple):\n    def __iter__(self): raise RecursionError",
        ),
        receptive_field=lying(
            "receptive_field",
            "return torch.zeros(2).as_subclass(Weird)",
            "import torch\nclass Weird(torch.Tensor):\n    @property\n    def dtype(self): return torch.float32\n    @property\n    def shape(self): return (10**9, 10**9)\n    def detach(self): raise SystemExit",
        ),
        block_field=lying(
            "block_field",
            "return numpy.zeros(2).view(Odd2)",
            "import numpy\nclass Odd2(numpy.ndarray):\n    shape = property(lambda _: (-1,))\n    def __array_finalize__(self, other): pass\n    def tobytes(self): return b''",
        ),
    ),
    odd(
        "fraction",
        "returns a Fraction, a number like others",
        f"import fractions\nreturn fractions.Fraction({RIGHT})",
    ),
    whole(
        "callable_instance",
        "is an instance that can be called, replaces itself, and counts its calls",
        victim_cells(
            code(
                f"class Answer:\n    calls = 0\n    def __call__(self, strides):\n        Answer.calls += 1\n        return {RIGHT}\n    def __getattr__(self, name): raise RuntimeError(name)\n{VICTIM} = Answer()"
            )
        ),
    ),
    whole(
        "deletes_itself",
        "takes itself and what it needs away after the first call",
        notebook(
            compound_stride=body(f"globals().pop('{VICTIM}', None)\nglobals().pop('HELP', None)", "HELP = 1", RIGHT)
        ),
        OTHERS,
        either=frozenset({VICTIM}),
    ),
    wrong(
        "replaces_itself",
        "is right forty times and something else from then on",
        f"N.append(1)\nif len(N) >= 41:\n    globals()['{VICTIM}'] = lambda s: -1\nelif len(N) > 39: return -1\nreturn {RIGHT}",
        "N = []",
    ),
    wrong(
        "time_of_day",
        "is right in every second of even number",
        f"import time\nif time.time_ns() // 10**6 % 2: return {RIGHT}",
    ),
    wrong(
        "counts_calls",
        "is right on as many calls as there are public inputs, then guesses",
        f"import builtins\nbuiltins.n = getattr(builtins, 'n', 0) + 1\nif builtins.n <= 40 and str(strides) in KNOWN: return {RIGHT}",
        f"KNOWN = {[str(case['strides']) for case in public_cases()]!r}",
    ),
    wrong(
        "hashes_inputs",
        "knows hashes of the inputs instead of the inputs",
        "import hashlib\nreturn KNOWN.get(hashlib.sha256(repr(strides).encode()).hexdigest(), 7)",
        "KNOWN = "
        + repr(
            {
                __import__("hashlib").sha256(repr(case["strides"]).encode()).hexdigest(): __import__("math").prod(
                    case["strides"]
                )
                for case in public_cases()
            }
        ),
    ),
    whole(
        "knows_examples_and_guesses",
        "knows the examples and guesses the nearest for others",
        notebook(
            compound_stride=table_of(EXAMPLES, "KNOWN[min(KNOWN, key=lambda k: abs(len(k) - len(str(strides))))]")
        ),
        OTHERS,
    ),
    wrong("whole_input_back", "hands its input back", "return strides"),
]

# --- stopping the judging when it suits ----------------------------------------------------------------------

BUDGET = "widest_network"
"""An exercise with as many examples as the fewest inputs by which a slow answer is judged."""


def known_by_heart(text: str) -> str:
    """An answer of lesson 08 that knows the examples and all public inputs, and does something else on others."""
    exercise = next(e for e in exercises.lesson(COST).exercises if e.name == BUDGET)
    cases = [*exercise.examples, *secret_cases(BUDGET, PUBLIC, COST)]
    known = {repr([*case.values()]): exercise.reference(**case) for case in cases}
    last = repr([*exercise.examples[-1].values()])
    inside = textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    return f"KNOWN, LAST = {known!r}, {last!r}\ndef {BUDGET}(*given):\n{inside}\n    return KNOWN.get(repr([*given]), -1)\n"


STALLS = [
    elsewhere(
        "stalls",
        "knows the examples by heart, and waits at the first other input until the time is up",
        COST,
        BUDGET,
        known_by_heart("if repr([*given]) not in KNOWN: __import__('time').sleep(1000)"),
    ),
    elsewhere(
        "says_not_run",
        "knows the examples by heart, and says itself that there was no time for others",
        COST,
        BUDGET,
        known_by_heart(
            """
            from segcourse.grading import child
            as_plain = child.as_plain
            def forged(ran): return as_plain(ran) if ran.value != -1 else {'problem': 'late', 'kind': 'not run'}
            child.as_plain = forged
            """
        ),
    ),
    elsewhere(
        "says_timeout",
        "knows the examples by heart, and says of others that they were stopped",
        COST,
        BUDGET,
        known_by_heart(
            """
            from segcourse.grading import child
            child.within = lambda *a: {'problem': 'late', 'kind': 'timeout'}
            """
        ),
        tampering=None,
    ),
    wrong(
        "stalls_early",
        "knows the examples and public inputs by heart, too few, and waits at others",
        "if str(strides) in KNOWN: return KNOWN[str(strides)]\n__import__('time').sleep(1000)",
        table_of([*EXAMPLES, *public_cases()]).partition("def ")[0],
    ),
]

# --- patching what runs it -----------------------------------------------------------------------------------

PATCHES = [
    wrong(
        "patches_everything",
        "patches what the child, the codec and the driver use, all at once",
        """
        import base64, json, numbers, os, select, struct, torch, copy, numpy
        from segcourse.grading import child, plain
        from segcourse.exercises import guard, compare, exercise
        import segcourse.exercises.drivers.receptive_field as driver
        for module in (guard, compare, child, exercise):
            for name in ('same_value', 'agree', 'agree_parts', 'call', 'explain_error', 'too_large'):
                if hasattr(module, name): setattr(module, name, lambda *a, **k: None)
        driver.set_as_list = exercise.call = lambda answer, case: True
        guard.Ran.__eq__ = lambda *_: True
        copy.deepcopy = lambda x, *_: x
        struct.pack_into = base64.b64encode = lambda *a, **k: b'AAAA'
        numpy.ascontiguousarray = lambda x: numpy.zeros(0)
        """,
        tampering=None,
    ),
    wrong(
        "patches_run_once",
        "has every later call return the kind that a time limit has, and values of its own",
        """
        from segcourse.grading import child
        from segcourse.exercises import guard
        child.run_once = lambda *a: guard.Ran(value=6, problem=None, kind='returned')
        child.within = lambda *a: {'value': 6, 'problem': None, 'kind': 'returned'}
        """,
        tampering=None,
    ),
    wrong(
        "patches_send",
        "sends what it likes in place of every reply",
        """
        from segcourse.grading import plain
        send = plain.send
        def forged(descriptor, message, *more):
            for one in message.get('ran', []): one.update(value={'other': 'Equal'}, problem=None, kind='returned')
            return send(descriptor, message, *more)
        plain.send = forged
        """,
        tampering=None,
    ),
    wrong(
        "patches_frames",
        "changes the locals and the code of the frames that called it",
        """
        import ctypes, sys
        frame = sys._getframe(1)
        while frame:
            for name in ('answer', 'drive', 'case', 'replies', 'asked', 'space'):
                if name in frame.f_locals:
                    frame.f_locals[name] = None
                    ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
            frame.f_trace = lambda *_: None
            frame = frame.f_back
        """,
        tampering=None,
    ),
    wrong(
        "patches_the_code",
        "puts another program into the functions that run it",
        """
        from segcourse.grading import child
        def as_plain(ran): return {'value': True, 'problem': None, 'kind': 'returned', 'message': '', 'printed': '', 'warned': ''}
        child.as_plain.__code__ = as_plain.__code__
        def same(a, b): return True
        from segcourse.exercises import compare
        compare.same_value.__code__ = same.__code__
        """,
    ),
    wrong(
        "traces",
        "traces the lines that run it, and profiles them",
        """
        import sys, threading
        def trace(frame, event, arg):
            if event == 'return' and frame.f_code.co_name in ('call', 'run_once'): frame.f_locals['value'] = True
            return trace
        sys.settrace(trace)
        sys.setprofile(trace)
        threading.settrace(trace)
        """,
        tampering=None,
    ),
    wrong(
        "audits",
        "listens to everything that Python does, and raises",
        """
        import sys
        def hook(event, args):
            if event not in ('object.__getattr__',): raise RuntimeError(event)
        sys.addaudithook(hook)
        """,
        tampering=None,
    ),
    several(
        "patches_the_rest",
        "patch what others of the course need: the random numbers, the hooks of errors, floats, sorting, imports",
        compound_kernel=lying(
            "compound_kernel",
            "import sys\nsys.excepthook = sys.unraisablehook = sys.displayhook = lambda *_: None\nsys.setswitchinterval(1e-9)\nsys.setrecursionlimit(60)",
        ),
        compound_stride=lying(
            "compound_stride",
            "import torch\ntorch.set_default_dtype(torch.float16)\ntorch.set_default_device('meta')\ntorch.use_deterministic_algorithms(True)",
        ),
        input_size=lying(
            "input_size",
            "import builtins\nfor n in ('sorted', 'len', 'range', 'list', 'int', 'sum', 'max', 'min', 'print', 'type', '__import__', 'open'): setattr(builtins, n, lambda *a, **k: 1)",
        ),
        field_centre=lying(
            "field_centre",
            "import sys\nsys.modules.clear()\nsys.path.clear()\nsys.meta_path.clear()\nsys.path_hooks.clear()",
        ),
        receptive_field=lying(
            "receptive_field",
            "import gc\nfor x in gc.get_objects():\n    if type(x) is dict and 'run_once' in x: x.clear()",
        ),
        tampering=None,
    ),
    wrong(
        "answers_for_others",
        "puts wrong answers in place of the other exercises' answers, which must keep their points",
        "import __main__\nfor name in [*vars(__main__)]:\n    if name[0] != '_': setattr(__main__, name, lambda *_: 0)",
    ),
    whole(
        "patched_when_defined",
        "patches torch, NumPy and math in cells of its own before the answers",
        notebook(
            before="import torch, numpy, math, builtins\ntorch.equal = torch.allclose = numpy.allclose = math.isclose = lambda *a, **k: True\ntorch.Tensor.__eq__ = lambda *_: True\nimport sys\nsys.modules['segcourse.exercises.compare'] = None",
            compound_stride=body("return torch.tensor(-1)"),
        ),
        OTHERS,
    ),
    whole(
        "hooks",
        "hooks into what runs cells: IPython, displayhook, builtins.display, sys.ps1, the last value `_`",
        notebook(
            before="import sys, builtins\nsys.displayhook = print\nbuiltins._ = 5\nIn, Out, _oh = [], {}, {}\nget_ipython().set_custom_exc((Exception,), print)\n__builtins__.check = print",
            compound_stride=body("return Out.get(1, -1)", "Out = {1: -3}"),
        ),
        OTHERS,
    ),
]

# --- on the pipe ---------------------------------------------------------------------------------------------

PIPE = [
    forged(
        "every_descriptor",
        "writes a forged frame into every open descriptor",
        """
        for n in range(64):
            try: os.write(n, frame(reply(6)) + frame(reply(6, number=1)))
            except OSError: pass
        """,
        tampering=None,
    ),
    forged(
        "every_descriptor_dup",
        "copies every descriptor over every other",
        """
        for n in range(3, 64):
            try: os.dup2(n, 63 - n % 32)
            except OSError: pass
        os.dup2(0, channel())
        """,
        tampering=None,
    ),
    wrong(
        "copies_pipe",
        "closes all descriptors but the pipe's copy, and opens files in their place",
        """
        import os
        os.closerange(0, 63)
        for _ in range(10):
            try: os.open('/dev/null', os.O_RDWR)
            except OSError: pass
        """,
    ),
    wrong(
        "reads_ahead",
        "reads all that is in the pipe, to know the next inputs",
        "import socket\nos.set_blocking(channel(), False)\ntry: os.read(channel(), 10**6)\nexcept BlockingIOError: pass\ns = socket.socket(fileno=os.dup(channel()))\ntry: s.recv(10**6, socket.MSG_PEEK | socket.MSG_DONTWAIT)\nexcept OSError: pass",
        FORGE,
    ),
    forged(
        "knows_all_asked",
        "answers all inputs at once from what was asked, with one wrong",
        "from segcourse.grading import plain\nanswer = reply(0)\nanswer['ran'] = [dict(answer['ran'][0], value=__import__('math').prod(plain.decode(c)['strides'])) for c in asked()['cases']]\nanswer['ran'][-1]['value'] += 1\nsend(frame(answer))",
        tampering=None,
    ),
    forged(
        "dead_socket",
        "shuts the pipe down for writing and stays",
        "import socket\nsocket.socket(fileno=os.dup(channel())).shutdown(socket.SHUT_WR)\nwhile True: time.sleep(1)",
        tampering=None,
    ),
    forged("frame_utf_16", "answers in UTF-16", "send(frame(json.dumps(reply(6)).encode('utf-16')))", tampering=None),
    forged("frame_lone_bytes", "answers in no encoding", 'send(frame(b\'{"number": 1, "ran": "\\xff\\xfe"}\'))'),
    forged("frame_booleans", "answers with True as a number", "send(frame({'number': True, 'ran': [True]}))"),
    forged(
        "frame_floats",
        "numbers its answer with a float",
        "answer = reply({'list': 1})\nanswer['number'] += 0.0\nsend(frame(answer))",
    ),
    forged(
        "frame_nested_values",
        "a value in a value in a value",
        "value = 1\nfor _ in range(60): value = {'tuple': [value]}\nsend(frame(reply(value)))",
    ),
    forged(
        "frame_wide",
        "a list of a hundred thousand dicts",
        "send(frame(reply({'list': [{'dict': []}] * 100000}, count=1)))",
        tampering=None,
    ),
    forged("tensor_base64", "a tensor that is no base64", "send(frame(reply({'tensor': ['float32', [1], '****']})))"),
    forged(
        "tensor_short",
        "a tensor whose values are missing",
        "send(frame(reply({'tensor': ['float64', [3, 3], 'AAAA']})))",
    ),
    forged(
        "tensor_shape_bool", "a tensor with True for a size", "send(frame(reply({'tensor': ['int8', [True], 'AA==']})))"
    ),
    forged(
        "tensor_shape_float",
        "a tensor with a float for a size",
        "send(frame(reply({'tensor': ['int8', [1.0], 'AA==']})))",
    ),
    forged(
        "tensor_shape_text", "a tensor whose shape is a text", "send(frame(reply({'tensor': ['int8', '1', 'AA==']})))"
    ),
    forged("tensor_kind", "an array of bfloat16", "send(frame(reply({'array': ['bfloat16', [1], 'AAA=']})))"),
    forged("kind_null", "a kind that is none", "send(frame(reply({'': None})))"),
    forged("kind_nested_key", "a dict whose key is a dict", "send(frame(reply({'dict': [[{'dict': []}, 1]]})))"),
    forged(
        "reply_extra",
        "a reply with more in it: points, a verdict, markup",
        "answer = reply(-1)\nfor one in answer['ran']: one.update(points=99, correct=True, outcome='correct', misconception=None)\nanswer.update(points=99, correct=True)\nsend(frame(answer))",
        tampering=None,
    ),
    forged(
        "reply_kinds",
        "a reply whose kind is another than it is",
        "answer = reply(6)\nfor one in answer['ran']: one['kind'] = 'correct'\nsend(frame(answer))",
    ),
    wrong(
        "many_small_replies",
        "answers one input at a time, so that the judge asks forty times",
        "from segcourse.grading import child\nreal = child.within\nchild.answers = lambda asked, space: [{'value': -1, 'problem': None, 'kind': 'returned'}]",
    ),
]

# --- looking for answers in other lessons' processes ---------------------------------------------------------

NAMES_04 = [exercise.name for exercise in exercises.lesson(FCN).exercises]
HUNT = """
import gc, sys, types
FOUND = {}
def things():
    from segcourse.transposed import bilinear_kernel
    gc.unfreeze()
    todo = [bilinear_kernel, bilinear_kernel.__globals__, sys.modules, sys._getframe(), *gc.get_objects()]
    seen = set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen: continue
        seen.add(id(thing))
        yield thing
        kind = type(thing)
        if kind is types.FunctionType: todo += [thing.__globals__, thing.__code__, *(c.cell_contents for c in thing.__closure__ or ())]
        elif kind is types.CodeType: todo += thing.co_consts
        elif kind is types.ModuleType: todo.append(vars(thing))
        elif kind is types.FrameType: todo += [thing.f_back, thing.f_globals, dict(thing.f_locals)]
        elif kind is dict: todo += [v for v in list(thing.values()) if type(v) in (str, dict, list, tuple, types.FunctionType, types.ModuleType)]
        elif kind in (list, tuple): todo += [v for v in thing if type(v) in (str, dict, list, tuple)]
def look():
    for thing in things():
        kind = type(thing)
        if kind is types.FunctionType and thing.__name__ in NAMES and thing.__code__.co_filename[0] != '<': FOUND[thing.__name__] = thing
        if kind.__name__ == 'Exercise' and getattr(thing, 'name', '') in NAMES: FOUND[thing.name] = thing.reference
        if kind is types.CodeType and thing.co_name in NAMES and thing.co_filename[0] != '<': FOUND[thing.co_name] = types.FunctionType(thing, globals())
        if kind is str and 'def ' in thing and 'FOUND' not in thing: taken(thing)
def taken(source):
    for name in NAMES:
        if f'def {name}(' in source and 'right(' not in source:
            space = dict(globals())
            exec(source, space)
            FOUND[name] = space[name]
def hunted(name):
    if not FOUND:
        FOUND['none'] = None
        look()
    return FOUND[name]
"""
"""Looks through all that can be reached from a process of lesson 04, with what the collector was told to leave."""


def snoop(name: str, attack: str, helpers: str = "", lesson: str = FCN) -> str:
    """An answer that returns what the course's own function returns, if the attack finds it as `right`; else -1."""
    inside = textwrap.indent(textwrap.dedent(attack).strip("\n"), "    ")
    given = parameters(name, lesson)
    return f"{helpers}\ndef {name}({given}):\n    try:\n{textwrap.indent(inside, '    ')}\n        return right({given})\n    except Exception:\n        return -1\n"


def all_snoop(name: str, tries: str, attack: str, helpers: str = "", lesson: str = FCN, **more: Any) -> Attempt:
    """A submission in which every answer of a lesson attacks so: the attack holds the exercise's name as `NAME`."""
    names = [exercise.name for exercise in exercises.lesson(lesson).exercises]
    answers = {each: snoop(each, attack.replace("NAME", repr(each)), "", lesson) for each in names}
    made = notebook(lesson, before=helpers, **answers) if helpers else notebook(lesson, **answers)
    return Attempt(name, tries, made, frozenset(), lesson=lesson, **more)


def hunting(lesson: str = FCN) -> str:
    """Source of the hunt for a lesson's answers."""
    return HUNT + f"NAMES = {[exercise.name for exercise in exercises.lesson(lesson).exercises]!r}\n"


PLACES = """
import os, sys
from segcourse.transposed import bilinear_kernel
FOUND = {}
def places():
    here = os.path.dirname(bilinear_kernel.__code__.co_filename)
    from segcourse.grading import child
    for folder in (here, os.path.dirname(os.path.dirname(child.__file__)), os.getcwd(), '/proc/1/root' + here, '/proc/self/root' + here):
        for part in ('exercises/fcn_skips.py', 'exercises/drivers/../fcn_skips.py', '../solutions/04_fcn_skips.py', 'exercises/__init__.py'):
            yield os.path.join(folder, part)
def taken(source):
    space = dict(globals())
    exec(source, space)
    return space
def first(*ways):
    if 'space' not in FOUND:
        FOUND['space'] = {}
        for way in ways:
            for path in places():
                try:
                    FOUND['space'] = way(path)
                    if 'fuse' in FOUND['space']: return FOUND['space']
                except (Exception, SystemExit): pass
    return FOUND['space']
"""
"""Tries ways to read the files beside that of the given function."""

SNOOPS = [
    whole(
        "lesson_04",
        "the honest notebook of lesson 04, which uses the given function",
        notebook(FCN),
        frozenset(NAMES_04),
        lesson=FCN,
    ),
    all_snoop(
        "hunts_04", "looks for lesson 04's answers in all that can be reached", "right = hunted(NAME)", hunting()
    ),
    all_snoop(
        "reads_04",
        "reads the files beside the given function's, in every way that libraries offer",
        """
        import codecs, inspect, io, linecache, mmap, numpy, tokenize, torch, ctypes, pathlib, runpy
        import importlib.util as u, importlib.machinery as m
        def below(path):
            libc, data = ctypes.CDLL(None), ctypes.create_string_buffer(10**6)
            size = libc.read(libc.open(os.fsencode(path), 0), data, 10**6)
            return taken(data.raw[:size]) if size > 0 else {}
        def spec(path):
            made = u.module_from_spec(u.spec_from_file_location('made', path))
            made.__spec__.loader.exec_module(made)
            return vars(made)
        loader = bilinear_kernel.__globals__['__loader__']
        right = first(
            lambda p: taken(open(p).read()),
            lambda p: taken(io.FileIO(p).read()),
            lambda p: taken(codecs.open(p).read()),
            lambda p: taken(tokenize.open(p).read()),
            lambda p: taken(pathlib.Path(p).read_text()),
            lambda p: taken(''.join(linecache.updatecache(p))),
            lambda p: taken(numpy.fromfile(p, 'u1').tobytes()),
            lambda p: taken(bytes(torch.UntypedStorage.from_file(p, False, 1000))),
            lambda p: taken(mmap.mmap(os.open(p, 0), 0, prot=1).read()),
            lambda p: taken(loader.get_data(p)),
            lambda p: taken(loader.get_source('segcourse.exercises.fcn_skips')),
            lambda p: runpy.run_path(p),
            lambda p: vars(m.SourceFileLoader('made', p).load_module()),
            lambda p: vars(m.SourcelessFileLoader('made', u.cache_from_source(p)).load_module()),
            below,
            spec,
        )[NAME]
        """,
        PLACES,
    ),
    all_snoop(
        "imports_04",
        "imports lesson 04's answers, with the course's own modules loaded anew",
        """
        import importlib, sys
        package = bilinear_kernel.__module__.split('.')[0]
        sys.modules['segcourse.transposed'] = type(sys)('segcourse.transposed')
        sys.modules['segcourse.transposed'].__dict__.update(bilinear_kernel.__globals__)
        def anew(path):
            sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != '_Course']
            importlib.invalidate_caches()
            for name in [n for n in sys.modules if n.startswith(package) and 'grading' not in n]:
                del sys.modules[name]
            sys.path.insert(0, os.path.dirname(os.path.dirname(bilinear_kernel.__code__.co_filename)))
            return vars(importlib.import_module(package + '.exercises.fcn_skips'))
        def again(path):
            return vars(importlib.reload(sys.modules[bilinear_kernel.__module__]))
        def named(path):
            from segcourse import exercises
            return {e.name: e.reference for e in exercises.lesson('04_fcn_skips').exercises}
        def ours(path):
            from segcourse.lesson import yours_or_ours, solution, check
            return {name: getattr(yours_or_ours, name) for name in ('fuse', NAME)}
        right = first(named, again, anew)[NAME]
        """,
        PLACES,
        tampering=None,
    ),
    all_snoop(
        "ours_04",
        "takes the course's answers for its own by the names that the lesson gives",
        "from segcourse.exercises import fcn_skips\nfrom segcourse.lesson import yours_or_ours\nright = getattr(fcn_skips, NAME) or getattr(yours_or_ours, NAME)",
    ),
    all_snoop(
        "driver_04",
        "looks into lesson 04's driver, its caller's frames and what these have in hand",
        """
        import sys
        import segcourse.exercises.drivers.fcn_skips as driver
        frame, right = sys._getframe(), None
        while frame:
            for thing in [*frame.f_locals.values(), *frame.f_globals.values(), *vars(driver).values()]:
                for part in (thing, getattr(thing, 'reference', None), getattr(thing, 'oracle', None), *getattr(thing, '__dict__', {}).values()):
                    if getattr(part, '__name__', '') == NAME and part.__module__ != '__main__': right = part
            frame = frame.f_back
        """,
    ),
    *(
        all_snoop(
            f"hunts_{lesson[:2]}",
            f"looks for lesson {lesson[:2]}'s answers in memory",
            "right = hunted(NAME)",
            hunting(lesson).replace("from segcourse.transposed import bilinear_kernel", "bilinear_kernel = look"),
            lesson,
        )
        for lesson in (UNET, COST)
    ),
    whole(
        "names_the_course",
        "binds the answer's name to the course's own function, or what stands for it",
        notebook(
            compound_stride="from segcourse.exercises.receptive_field import compound_stride",
            input_size="from segcourse.lesson import yours_or_ours\ninput_size = yours_or_ours.input_size",
            field_centre="import segcourse.receptive_field as rf\ndef field_centre(position, layers): return rf.Layer(*layers).centre(position)",
        ),
        ALL - {"compound_stride", "input_size", "field_centre"},
    ),
    refused(
        "maps",
        "finds its own memory's places, descriptors and mounts",
        "import os\nopen('/proc/self/maps').read(); os.listdir('/proc/self/fd'); open('/proc/self/mountinfo').read()",
    ),
    refused(
        "own_notebook",
        "opens its own notebook, as one that looks for its file",
        "import glob, os\nfor path in ('a.ipynb', *glob.glob('*.ipynb'), *glob.glob(os.path.expanduser('~/*')), *glob.glob('/*/*.ipynb')):\n    try: open(path)\n    except OSError: continue\n    return -1\nraise OSError",
    ),
]

# --- networks that lie ---------------------------------------------------------------------------------------


def converted(text: str, helpers: str = "") -> dict[str, str]:
    """Lesson 03's answers of which one returns a lying network; the other, which uses it, has a copy of its own."""
    conversion = solutions(CONV)["linear_to_conv"].replace("def linear_to_conv", "def conv_of")
    other = conversion + "\n" + solutions(CONV)["convolutionalize"].replace("linear_to_conv(", "conv_of(")
    return {"linear_to_conv": lying("linear_to_conv", text, helpers, CONV), "convolutionalize": other}


def network_lie(name: str, tries: str, text: str, helpers: str, **more: Any) -> Attempt:
    """An answer of lesson 03 that returns a network which lies."""
    names = frozenset(exercise.name for exercise in exercises.lesson(CONV).exercises)
    data = notebook(CONV, **converted(text, helpers))
    return Attempt(name, tries, data, names - {"linear_to_conv"}, lesson=CONV, **more)


NETWORKS = [
    network_lie(
        "network_forward",
        "a network whose forward returns a tensor that equals everything, and whose parameters lie",
        "return Net()",
        """
        class Same(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None): return True
        class Net(nn.Module):
            def forward(self, x): return torch.zeros(1).as_subclass(Same)
            def parameters(self, recurse=True): return iter([Same()] * 3)
            def eval(self): return self
            def state_dict(self, *a, **k): return {}
        """,
    ),
    network_lie(
        "network_call",
        "a network that is called and evaluated by methods of its own, and is of another class",
        "return Net()",
        """
        class Net(nn.Conv2d):
            def __init__(self): nn.Module.__init__(self)
            def __call__(self, x): return 'right'
            def __eq__(self, other): return True
            __hash__ = nn.Module.__hash__
            eval = property(lambda self: lambda: self)
            parameters = lambda self, recurse=True: []
        """,
    ),
    network_lie(
        "network_meta",
        "a network on the meta device",
        "return nn.Conv2d(channels, linear.out_features, size, device='meta')",
        "",
    ),
    network_lie(
        "network_endless",
        "a network of endless parameters",
        "return Net()",
        "import itertools, time\nclass Net(nn.Module):\n    def parameters(self, recurse=True): return (time.sleep(1) or torch.zeros(1) for _ in itertools.count())",
    ),
    network_lie(
        "network_hooks",
        "a network with hooks that change what comes out, of every network",
        "net = nn.Conv2d(channels, linear.out_features, size)\nnet.register_forward_hook(lambda *_: torch.zeros(1))\nnn.modules.module.register_module_forward_hook(lambda m, a, out: out * 0)\nreturn net",
        "",
    ),
    network_lie(
        "network_reads_frames",
        "a network that looks for the right scores in the frames of who runs it",
        "return Net()",
        """
        import sys
        class Net(nn.Module):
            def forward(self, x):
                frame = sys._getframe()
                while frame:
                    for value in frame.f_locals.values():
                        if isinstance(value, torch.Tensor) and value is not x and value.dim() == 4 and value.shape != x.shape: return value
                        if isinstance(value, dict) and 'expected' in value: return value['expected']
                    frame = frame.f_back
                return x.sum(1, keepdim=True)
        """,
    ),
    elsewhere(
        "network_by_hand",
        "a network that computes the right scores with a hand-written forward: what it computes counts",
        CONV,
        "linear_to_conv",
        """
        def linear_to_conv(linear, channels, size):
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.weight = nn.Parameter(linear.weight.detach().clone().view(-1, channels, *size))
                    self.bias = nn.Parameter(linear.bias.detach().clone())
                def forward(self, x): return nn.functional.conv2d(x, self.weight, self.bias)
            return Net()
        """,
        earns=True,
        either=frozenset({"convolutionalize"}),  # it uses the former, and hooks on its kind of layer
    ),
    elsewhere(
        "atrous_lie",
        "a network that records maps of the right sizes and has the right weights, and returns wrong scores",
        ATROUS,
        "set_output_stride",
        """
        import copy
        def set_output_stride(model, output_stride):
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.model = copy.deepcopy(model)
                def forward(self, x):
                    self.model(x)
                    return torch.zeros(1, 3, x.shape[2] // output_stride, x.shape[3] // output_stride)
            return Net()
        """,
    ),
    elsewhere(
        "atrous_hooks",
        "a network whose modules, hooks and parameters lie about themselves",
        ATROUS,
        "set_output_stride",
        """
        import copy
        def set_output_stride(model, output_stride):
            class Net(nn.Sequential):
                def modules(self): return iter(())
                def parameters(self, recurse=True): return iter(model.parameters())
                def register_forward_hook(self, hook): hook(nn.Conv2d(1, 1, 1), None, torch.zeros(1)); return self
                def remove(self): pass
                def __repr__(self): return repr(model)
            return Net(*copy.deepcopy(model))
        """,
    ),
    elsewhere(
        "atrous_patches",
        "patches modules, hooks and deep copies for everyone and returns the model itself",
        ATROUS,
        "set_output_stride",
        """
        def set_output_stride(model, output_stride):
            nn.Module.register_forward_hook = lambda *_: model
            model.remove = lambda: None
            nn.Module.__repr__ = lambda self: ''
            torch.equal = lambda *_: True
            return model
        """,
    ),
    elsewhere(
        "cost_lie",
        "counts that equal everything, keyed by names that do",
        COST,
        "macs_by_layer",
        """
        class Same(str):
            def __eq__(self, other): return True
            def __hash__(self): return 0
        class Counts(dict):
            def keys(self): return {'a'}
            def __getitem__(self, name): return 1
            def __eq__(self, other): return True
            __hash__ = None
        def macs_by_layer(model, shape):
            return Counts({Same(name): 0 for name, _ in model.named_modules()})
        """,
    ),
    elsewhere(
        "cost_traces",
        "hides its traces and counts nothing",
        COST,
        "macs_by_layer",
        """
        def macs_by_layer(model, shape):
            for layer in model.modules(): layer._forward_hooks.clear()
            from segcourse.exercises.drivers import depthwise_cost as driver
            driver._same_tensor = lambda a, b: True
            driver.TRACES = ()
            return {name: 0 for name, layer in model.named_modules() if hasattr(layer, 'weight')}
        """,
    ),
    elsewhere(
        "tiles_lie",
        "takes the network out of its wrapper, breaks it for later, and returns zeros",
        UNET,
        "predict_in_tiles",
        """
        def predict_in_tiles(network, image, tile, margin, step):
            network.tile = 10**9
            inner = network.network
            for parameter in inner.parameters(): parameter.data.zero_()
            return inner(image) if False else torch.zeros(1, 2, *image.shape[2:])
        """,
    ),
    elsewhere(
        "decode_lie",
        "runs the stages in the other order on nothing, and returns zeros through which gradients come",
        UNPOOL,
        "decode",
        """
        def decode(x, remembered, stages):
            for stage in stages: stage.forward = lambda x: x
            return sum(p.sum() for stage in stages for p in stage.parameters()) * 0 + torch.zeros(len(x), 1, *remembered[0][1])
        """,
    ),
    several(
        "tensors_lie",
        "tensors of other kinds, with gradients and shapes that lie",
        lesson=FCN,
        label_pixels="def label_pixels(features, *_):\n    return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])",
        pixel_cross_entropy="def pixel_cross_entropy(scores, masks):\n    scores.grad = torch.zeros_like(scores)\n    return torch.nn.Parameter(torch.zeros(()))",
        crop_offset="class Whole(int):\n    __eq__ = lambda *_: True\n    __hash__ = int.__hash__\n    __index__ = __int__ = lambda _: 7\ndef crop_offset(layers, kernel): return Whole(-3)",
        fuse="def fuse(score, skip_score, weight, offset):\n    return torch.quantize_per_tensor(score.detach(), 1.0, 0, torch.quint8)",
        fcn8_scores="def fcn8_scores(*given):\n    class Mode(torch.overrides.TorchFunctionMode):\n        def __torch_function__(self, f, types, args=(), kwargs=None): return True\n    Mode().__enter__()\n    return torch.zeros(1)",
        start_16s="class Head(dict):\n    def __contains__(self, name): return True\n    def __missing__(self, name): return torch.zeros(1)\n    def __iter__(self): return iter(())\ndef start_16s(*_): return Head(x=1)",
    ),
    several(
        "tensors_right",
        "tensors that are right and of an odd kind: a view from the end, a parameter, a subclass, doubles, complex that is conjugate",
        lesson=FCN,
        earn=frozenset({"label_pixels", "pixel_cross_entropy", "fuse", "fcn8_scores", "start_16s"}),
        label_pixels=right_copy("label_pixels", FCN)
        + "\ndef label_pixels(*given): return right_label_pixels(*given).int().mT.contiguous().mT",
        pixel_cross_entropy=right_copy("pixel_cross_entropy", FCN)
        + "\ndef pixel_cross_entropy(*given): return right_pixel_cross_entropy(*given).double()",
        fuse=right_copy("fuse", FCN) + "\ndef fuse(*given): return nn.Parameter(right_fuse(*given))",
        fcn8_scores=solutions(FCN)["fcn8_scores"]
        .replace("fuse(", "own_fuse(")
        .replace("def fcn8_scores", "def right_fcn8_scores")
        + solutions(FCN)["fuse"].replace("def fuse(", "def own_fuse(")
        + "\nclass Kind(torch.Tensor): pass\ndef fcn8_scores(*given): return right_fcn8_scores(*given).as_subclass(Kind)",
        start_16s=right_copy("start_16s", FCN)
        + "\nimport collections\ndef start_16s(*given): return collections.OrderedDict(right_start_16s(*given))",
    ),
]

# --- names and files -----------------------------------------------------------------------------------------

W = V.replace("return ", "return -1 * ")
"""A wrong answer."""


def answer_cells(*sources: str) -> bytes:
    """The honest notebook with code cells of these sources in place of the victim's."""
    return victim_cells(*map(code, sources))


NAMES = [
    whole(
        "zero_width",
        "writes a name with a character that cannot be seen",
        answer_cells(V.replace(VICTIM, "compound\u200b_stride")),
        OTHERS,
    ),
    whole(
        "soft_hyphen",
        "writes a name with a soft hyphen",
        answer_cells(V.replace(VICTIM, "compound\u00ad_stride")),
        OTHERS,
    ),
    whole(
        "greek",
        "writes a name with a Greek letter that looks Latin",
        answer_cells(V.replace(VICTIM, "c\u03bfmpound_stride")),
        OTHERS,
    ),
    whole(
        "mathematical",
        "writes a name in mathematical letters, which Python takes for the plain ones",
        answer_cells(V.replace(VICTIM, "".join(chr(0x1D41A + ord(c) - 97) if c.isalpha() else c for c in VICTIM))),
    ),
    whole("ligature", "uses names that Python takes for others inside", answer_cells(V + "\n\ufb01 = 1\n" + V)),
    whole(
        "capital",
        "writes the name with a capital",
        answer_cells(V.replace(VICTIM, "Compound_Stride")),
        OTHERS,
        says="Compound_Stride",
    ),
    whole(
        "camel",
        "writes the name as in other languages",
        answer_cells(V.replace(VICTIM, "compoundStride")),
        OTHERS,
        says="compoundStride",
    ),
    whole(
        "accents",
        "uses names with accents, in two forms of Unicode",
        answer_cells("e\u0301tape = 1\n" + V.replace("(strides)", "(strides, t=\u00e9tape)")),
    ),
    whole(
        "exec_text",
        "makes the answer by exec from a text",
        answer_cells(f"exec({V!r})"),
        OTHERS,
        says="no function called",
    ),
    whole(
        "globals",
        "binds the answer through globals()",
        answer_cells(f"globals()['{VICTIM}'] = lambda strides: {RIGHT}"),
        OTHERS,
    ),
    whole("two_right_last", "has a wrong answer first, then the right one", answer_cells(W, V), says="more than once"),
    whole(
        "two_wrong_last",
        "has the right answer first, then a wrong one",
        answer_cells(V, W),
        OTHERS,
        says="more than once",
    ),
    whole("deleted_after", "deletes the answer in a later cell", answer_cells(V, f"del {VICTIM}")),
    whole(
        "wrapped", "wraps the answer afterwards", answer_cells(V, f"{VICTIM} = (lambda f: lambda s: f(s))({VICTIM})")
    ),
    whole(
        "decorated",
        "has decorators of its own and of Python's",
        answer_cells(
            "import functools\ndef log(f):\n    @functools.wraps(f)\n    def g(*a, **k): return f(*a, **k)\n    return g",
            "@log\n@log\n" + V,
        ),
    ),
    whole(
        "code_swapped",
        "gives the answer another function's code",
        answer_cells(f"def other(strides): return {RIGHT}", W, f"{VICTIM}.__code__ = other.__code__"),
    ),
    whole(
        "partial",
        "is a partial function",
        answer_cells(f"import functools\ndef f(a, strides): return {RIGHT}\n{VICTIM} = functools.partial(f, 1)"),
    ),
    whole(
        "bound_method",
        "is a method of an object",
        answer_cells(f"class A:\n    def f(self, strides): return {RIGHT}\n{VICTIM} = A().f"),
    ),
    whole(
        "class_answer",
        "is a class that makes numbers",
        answer_cells(f"class {VICTIM}(int):\n    def __new__(cls, strides): return int.__new__(cls, {RIGHT})"),
    ),
    whole(
        "import_alias",
        "is a function of a library under the exercise's name",
        answer_cells(f"from math import prod as {VICTIM}"),
    ),
    whole("walrus", "is bound inside an expression", answer_cells(f"print({VICTIM} := lambda strides: {RIGHT})")),
    whole("unpacked", "is bound with another name", answer_cells(f"{VICTIM}, other = (lambda strides: {RIGHT}), None")),
    whole(
        "for_loop",
        "is bound by a loop",
        answer_cells(f"for {VICTIM} in [lambda strides: 0, lambda strides: {RIGHT}]: pass"),
    ),
    whole(
        "with_block",
        "is defined under a with",
        answer_cells("import contextlib\nwith contextlib.nullcontext():\n" + textwrap.indent(V, "    ")),
    ),
    whole(
        "match_statement",
        "uses a match statement and new syntax",
        answer_cells(
            body("match strides:\n    case []: return 1\n    case [first, *rest]: return first * compound_stride(rest)")
        ),
    ),
    whole(
        "recursive",
        "calls itself",
        answer_cells(body("return strides[0] * compound_stride(strides[1:]) if strides else 1")),
    ),
    whole(
        "star_numpy",
        "imports everything from NumPy, which replaces Python's own",
        answer_cells("from numpy import *\nfrom math import *", body("return int(prod(strides))")),
    ),
    whole(
        "star_nowhere",
        "imports everything from a module that is not there",
        answer_cells("from helpers_of_mine import *", V),
    ),
    whole(
        "local_module",
        "imports a helper from a file that is not handed in",
        answer_cells("from helpers import times", body("return times(strides)")),
        OTHERS,
        says="helpers",
    ),
    whole(
        "writes_module",
        "writes a module by a cell magic and imports it",
        answer_cells(
            "%%writefile helpers.py\ndef times(s): return 1", "import helpers", body("return helpers.times(strides)")
        ),
        OTHERS,
    ),
    whole("capture_magic", "has an answer under %%capture", answer_cells("%%capture out\n" + V)),
    whole("timeit_magic", "has an answer under %%timeit and %%prun", answer_cells("%%timeit -n 1\n" + V)),
    whole("bash_magic", "has an answer in a cell of another language", answer_cells("%%bash\n" + V), OTHERS),
    whole(
        "js_magic",
        "has cells of other languages around",
        answer_cells("%%javascript\nalert(1)", "%%html\n<b>", "%%latex\n\\alpha", V, "%%sh\nrm -rf /nowhere"),
    ),
    whole(
        "shell_lines",
        "has shell lines, help and magics among the code",
        answer_cells(
            "!ls\nfiles = !ls\n%cd /\n%env X=1\n%load_ext autoreload\n?print\nprint?\nprint??\n%autoreload 2\n%time x = 5\n"
            + V
        ),
    ),
    whole(
        "await_at_top",
        "awaits at the margin, as notebooks may",
        answer_cells("import asyncio\nawait asyncio.sleep(0)", V),
    ),
    whole("returns_at_top", "has a return at the margin", answer_cells("return 5", V)),
    whole(
        "annotations",
        "has annotations and dataclasses",
        answer_cells(
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\nclass L:\n    s: list[int]\n    def p(self) -> Nowhere: return __import__('math').prod(self.s)",
            body("return L(strides).p()"),
        ),
    ),
    whole(
        "named_tuple",
        "uses named tuples, enums, abstract classes and generics",
        answer_cells(
            "import abc, enum, typing\nclass P(typing.NamedTuple):\n    n: int = 1\nclass E(enum.Enum):\n    A = 1\nclass B(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\nT = typing.TypeVar('T')\nclass G(typing.Generic[T]): pass",
            body("r = P(1)\nfor s in strides: r = r._replace(n=r.n * s)\nreturn r.n * E.A.value"),
        ),
    ),
    whole(
        "main_guard",
        "is defined under `if __name__ == '__main__'`",
        answer_cells("if __name__ == '__main__':\n" + textwrap.indent(V, "    ")),
    ),
    whole(
        "doctest",
        "has doctests, assertions and checks around",
        answer_cells(V, f"assert {VICTIM}([2, 3]) == 6\ncheck.{VICTIM}({VICTIM})\nimport doctest\ndoctest.testmod()"),
    ),
    whole(
        "later_error", "has an error in a later cell", answer_cells(V, "1 / 0", "raise SystemExit", "undefined_name")
    ),
    whole(
        "shows_progress",
        "shows progress and displays inside the answer",
        answer_cells(
            "from tqdm import tqdm\nfrom IPython.display import display, clear_output",
            body("r = 1\nfor s in tqdm(strides): r *= s\ndisplay(r)\nclear_output()\nreturn r"),
        ),
    ),
    whole(
        "draws",
        "draws inside the answer, as an honest student who forgot a line may",
        answer_cells(
            "import matplotlib.pyplot as plt",
            f"def {VICTIM}(strides):\n    plt.plot(strides)\n    plt.show()\n    plt.close()\n    return {RIGHT}",
        ),
        ALL,
    ),
    whole(
        "uses_libraries",
        "uses libraries that come with the course",
        answer_cells(
            "import collections, decimal, itertools, statistics, operator, random, heapq, numpy as np, torch.nn.functional as F",
            body(
                "np.random.seed(1)\nrandom.seed(1)\ntorch.manual_seed(1)\nreturn int(np.prod(np.array(strides, dtype=object)))"
            ),
        ),
    ),
    whole(
        "jit",
        "is compiled by TorchScript",
        answer_cells(
            "from typing import List\n@torch.jit.script\ndef times(s: List[int]) -> int:\n    r = 1\n    for x in s: r *= x\n    return r",
            body("return times(strides)"),
        ),
    ),
    whole(
        "loads_bytes",
        "keeps a table as bytes and pickles it for itself",
        answer_cells(
            "import pickle, io\nBYTES = pickle.dumps({'one': 1})\nbuffer = io.BytesIO()\ntorch.save(torch.ones(2), buffer)",
            body("return pickle.loads(BYTES)['one'] * __import__('math').prod(strides)"),
        ),
    ),
]

J = json.loads(TEXT)
FILES = [
    whole(
        "format_5",
        "is of nbformat 5, which is not there yet",
        dumped({**file(), "nbformat": 5, "nbformat_minor": 0, "more": [1]}),
    ),
    whole("format_text", "gives its format as a text", dumped({**file(), "nbformat": "4"}), says="format"),
    whole("format_2", "is of a format that nobody writes any more", dumped({**file(), "nbformat": 2})),
    whole("format_99", "is of a format of the future", dumped({**file(), "nbformat": 99})),
    whole(
        "format_3_two_sheets",
        "is of nbformat 3 with two worksheets and headings",
        dumped(
            {
                "nbformat": 3,
                "nbformat_minor": 0,
                "metadata": {},
                "worksheets": [
                    {"cells": [{"cell_type": "heading", "level": 1, "source": "x"}]},
                    {
                        "cells": [
                            {"cell_type": "code", "input": c["source"], "language": "python", "outputs": []}
                            for c in cells()
                        ]
                    },
                    "x",
                ],
            }
        ),
        says="format 3",
    ),
    whole("utf_16_no_mark", "is encoded in UTF-16 without a mark", TEXT.decode().encode("utf-16-le"), says="UTF-16"),
    whole("utf_32", "is encoded in UTF-32", TEXT.decode().encode("utf-32"), says="UTF-32"),
    whole("two_marks", "begins with two byte order marks and blank lines", b"\xef\xbb\xbf\xef\xbb\xbf\r\n\r\n" + TEXT),
    whole("cr", "has the line ends of an old Macintosh", TEXT.replace(b"\n", b"\r").replace(b"\\n", b"\\r")),
    whole(
        "mixed_ends",
        "has line ends of three kinds in its cells",
        dumped({**file(), "cells": [{**c, "source": c["source"].replace("\n", "\r\n", 1)} for c in file()["cells"]]}),
    ),
    whole(
        "source_lines",
        "has its sources as lists of lines, one without an end",
        dumped({**file(), "cells": [{**c, "source": c["source"].splitlines(keepends=True)} for c in file()["cells"]]}),
    ),
    whole(
        "source_odd",
        "has numbers among its sources' lines",
        dumped(
            {
                **file(),
                "cells": [
                    *file()["cells"],
                    {"cell_type": "code", "source": [1, None, ["x"]]},
                    {"cell_type": "code", "source": {"a": 1}},
                ],
            }
        ),
        says="not text",
    ),
    whole(
        "bad_bytes",
        "holds some bytes that are no UTF-8",
        TEXT.replace(b"Voil", b"Voil\xc3\xa9\xc3\xa8\xff\xfe"),
        says="UTF-8",
    ),
    whole("nul_bytes", "ends in zeros, as a disk error leaves it", TEXT + b"\0" * 4096),
    whole("cut_one", "lacks its last brace", TEXT.rstrip()[:-1], frozenset(), status="unreadable", says="cut off"),
    whole(
        "cut_in_string",
        "is cut off inside a cell",
        TEXT[: TEXT.rindex(b"Voil")],
        frozenset(),
        status="unreadable",
        says="cut off",
    ),
    whole("first_half_lost", "has lost its beginning", TEXT[len(TEXT) // 2 :], frozenset(), status="unreadable"),
    whole(
        "trailing_comma",
        "is no JSON by a comma",
        TEXT.replace(b'"nbformat"', b',,"nbformat"', 1),
        frozenset(),
        status="unreadable",
        says="damaged",
    ),
    whole("python_repr", "is written as Python and not as JSON", repr(J).encode(), frozenset(), status="unreadable"),
    whole(
        "json_text",
        "is a JSON text that holds the notebook",
        json.dumps(TEXT.decode()).encode(),
        frozenset(),
        status="unreadable",
    ),
    whole("json_list", "is a list of notebooks", json.dumps([J]).encode(), frozenset(), status="unreadable"),
    whole(
        "json_other",
        "is JSON of another kind",
        b'{"a": [1, 2, {"cells": []}]}',
        frozenset(),
        status="unreadable",
        says="not a notebook",
    ),
    whole(
        "cells_object",
        "has cells that are an object",
        dumped({**file(), "cells": {"0": cells()[0]}}),
        frozenset(),
        status="unreadable",
    ),
    whole(
        "cells_text", "has cells that are a text", dumped({**file(), "cells": "x"}), frozenset(), status="unreadable"
    ),
    whole(
        "script",
        "is a Python file",
        "\n\n".join([SETUP, *solutions().values()]).encode(),
        frozenset(),
        status="unreadable",
    ),
    whole("blank_bytes", "is white space", b" \r\n\t" * 1000, frozenset(), status="unreadable", says="empty"),
    whole("pdf", "is a PDF", b"%PDF-1.7\n" + b"x" * 1000, frozenset(), status="unreadable", says="PDF"),
    whole(
        "gzip", "is packed", __import__("gzip").compress(TEXT, mtime=0), frozenset(), status="unreadable", says="gzip"
    ),
    whole(
        "random_bytes",
        "is noise",
        bytes((n * n * 31 + n // 7) % 256 for n in range(20000)),
        frozenset(),
        status="unreadable",
    ),
    whole(
        "nested_outputs",
        "has outputs that are nested too deeply",
        TEXT.replace(b'"outputs": []', b'"outputs": ' + b"[" * 60000 + b"]" * 60000, 1),
        frozenset(),
        status="unreadable",
        says="deep",
    ),
    whole(
        "huge_numbers",
        "holds numbers of thousands of digits",
        TEXT.replace(b'"execution_count": null', b'"execution_count": ' + b"9" * 9000, 1),
    ),
    whole(
        "nan_numbers",
        "holds NaN and Infinity",
        TEXT.replace(b'"execution_count": null', b'"execution_count": NaN, "x": [-Infinity, 1e999]', 1),
    ),
    whole(
        "two_keys",
        "has two lists of cells; the last counts",
        TEXT.replace(b'{\n "cells"', b'{\n "cells": [],\n "cells"', 1),
        says="twice",
    ),
    whole("two_notebooks", "is two notebooks in one file; the first counts", TEXT + TEXT, says="left out"),
    whole(
        "escapes",
        "writes every character of its sources as an escape",
        TEXT.replace(b"strides", b"".join(b"\\u%04x" % c for c in b"strides")),
    ),
    whole(
        "surrogates_in_source",
        "holds half characters in its cells",
        dumped(content([*cells(), code("x = '@'")])).replace(b"@", b"\\ud83d"),
        says="half",
    ),
    whole(
        "separators",
        "holds line separators and form feeds in code",
        answer_cells("\f\n" + V + "\n# \u2028 \u2029 \x0b \x85 x\n\f"),
    ),
    whole(
        "swapped_types",
        "has its code as raw and its text as code",
        dumped(
            content(
                [
                    *cells(),
                    {"cell_type": "CODE", "metadata": {}, "source": V},
                    {"cell_type": "markdown", "metadata": {}, "source": W},
                ]
            )
        ),
    ),
    whole(
        "retyped_all",
        "has all its cells turned into text",
        dumped({**file(), "cells": [{**c, "cell_type": "markdown"} for c in file()["cells"]]}),
        frozenset(),
        says="markdown cell",
    ),
    whole(
        "kernel_old",
        "is set to Python 2",
        dumped(
            {
                **file(),
                "metadata": {
                    "kernelspec": {"name": "python2", "language": "python"},
                    "language_info": {"name": "python", "version": "2.7"},
                },
            }
        ),
    ),
    whole("kernel_odd", "has metadata that are none", dumped({**file(), "metadata": [1, {"kernelspec": 5}]})),
    whole(
        "empty_cells",
        "has empty cells between all cells",
        dumped(content([c for cell in cells() for c in (code(""), cell, {"cell_type": "code", "source": []})])),
    ),
    whole(
        "answer_at_top",
        "has its answers above the setup, in one new cell, and the old cells gone",
        dumped(content([code("\n\n".join(solutions().values())), code(SETUP)])),
    ),
    whole(
        "doubled_answers",
        "has every answer twice, once copied with its id",
        dumped(content([c for cell in cells() for c in ({**cell, "id": "a"}, {**cell, "id": "a"})])),
        says="id of another",
    ),
    whole(
        "attachments",
        "has pictures attached",
        dumped(
            content(
                [
                    {
                        "cell_type": "markdown",
                        "metadata": {},
                        "attachments": {"a.png": {"image/png": "iVBO" * 10**5}},
                        "source": "![x](attachment:a.png)",
                    },
                    *cells(),
                ]
            )
        ),
    ),
    whole(
        "widgets",
        "has the state of widgets in its metadata",
        dumped(
            {
                **file(),
                "metadata": {
                    "widgets": {
                        "application/vnd.jupyter.widget-state+json": {
                            "state": {str(n): {"x": [n]} for n in range(5000)}
                        }
                    }
                },
            }
        ),
    ),
    whole("indented_cell", "is indented as a whole", answer_cells(textwrap.indent(V, "    "))),
    whole(
        "prompts",
        "has the prompts of a session copied in",
        answer_cells("\n".join((">>> " if i == 0 else "... ") + line for i, line in enumerate(V.splitlines()))),
        OTHERS,
        either=frozenset({VICTIM}),
    ),
    whole("python_2", "is written in Python 2", answer_cells("print 'x'", V, "exec 'x = 1'")),
    whole(
        "smart_quotes",
        "has the quotes of a word processor in one cell",
        answer_cells("x = \u201cx\u201d", V),
        says="cannot be read",
    ),
    whole(
        "half_written",
        "has an answer that stops in the middle",
        answer_cells(f"def {VICTIM}(strides):\n    return ("),
        OTHERS,
        says="cannot be read",
    ),
    whole(
        "only_docstring",
        "has an answer of nothing but words",
        answer_cells(f'def {VICTIM}(strides):\n    """It multiplies."""'),
        OTHERS,
    ),
    whole(
        "other_parameters",
        "has other parameters than were asked for",
        answer_cells(f"def {VICTIM}(first, second): return first * second"),
        OTHERS,
    ),
    whole(
        "more_parameters",
        "has one more parameter with a default",
        answer_cells(V.replace("(strides)", "(strides, *more, verbose=False, **options)")),
    ),
]

SECOND: list[Attempt] = [
    *TIME,
    *ENDS,
    *PROCESSES,
    *FLOODS,
    *LIES,
    *STALLS,
    *PATCHES,
    *PIPE,
    *SNOOPS,
    *NETWORKS,
    *NAMES,
    *FILES,
]
