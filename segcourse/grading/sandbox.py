"""Locks a process in: it reads a few files, writes none, starts no process, opens no connection, within limits.

Linux offers the means to any user, in layers (all of them one-way: what is locked stays locked):

* bubblewrap (`bwrap`), an outer room around the whole worker: another root folder, no network, other process ids;
* namespaces: a network and message queues of one's own, for each submission;
* landlock: which files can be opened (Linux 5.13, 2021; `landlock(7)`);
* seccomp: which system calls are answered (`seccomp(2)`);
* limits on memory, processor time, file size, open files (`setrlimit(2)`).

`strongest()` tries each of them in a process that is thrown away and names what is there. Everything here is standard
library: a process that is about to run hostile code imports nothing for it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    memory: int = 1024 * MIB
    """Bytes of address space beyond what the worker has when it begins."""
    cpu_seconds: int = 600
    """Processor time in all; the time limit of an exercise ends most of them long before."""
    files: int = 64
    """Open files."""


@dataclass(frozen=True)
class Isolation:
    """Which layers a machine offers."""

    bubblewrap: bool = False
    namespaces: bool = False
    landlock: bool = False
    seccomp: bool = False

    @property
    def level(self) -> str:
        """The name of the level, as reports give it."""
        if not self.hides_files:
            return "limits"
        if self.bubblewrap:
            return "bubblewrap"
        return "namespaces" if self.namespaces else "landlock"

    @property
    def hides_files(self) -> bool:
        """Whether a submission can neither read nor write the machine's files, nor reach other processes."""
        return (self.bubblewrap or self.landlock) and self.seccomp

    @property
    def leaves_open(self) -> str:
        """What this level does not stop, in a sentence."""
        if not self.hides_files:
            return (
                "Only time, memory and file sizes are limited: a submission can read this account's files (the "
                "course's solutions among them), start processes, reach other processes and use the network."
            )
        holes = "It does not stop errors in the kernel itself, nor what can be learned from the time things take."
        if not self.landlock:
            return f"All files in bubblewrap's room can be read: Python's and the libraries', no answers. {holes}"
        return holes


# --- the layers ----------------------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 4, 22, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, *arguments: int) -> int:
    return int(_libc.prctl(option, *(ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4])))


def give_up_privileges() -> None:
    """Give up what an administrator's account could do, and gaining anything by starting a program.

    Raises:
        OSError: where the kernel refuses.
    """
    _checked(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    for capability in range(64):
        if _prctl(_PR_CAPBSET_DROP, capability) < 0:
            break  # not allowed, or past the last one
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _checked(_libc.capset(header, bytes(24)), "capset")


def private_namespaces() -> None:
    """Take a network without any connection and message queues of one's own, in a user namespace.

    Raises:
        OSError: where the kernel refuses, as many containers do.
    """
    _checked(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC), "unshare")


_LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same on every architecture
_READ_FILE, _READ_DIR, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1


def landlock_version() -> int:
    """Return the version of the kernel's landlock interface; 0 or less where there is none."""
    return int(_libc.syscall(_LANDLOCK[0], None, ctypes.c_size_t(0), 1))


def open_only(readable: Iterable[str | Path]) -> None:
    """Let nothing be opened from now on but these files and folders with what they hold, for reading.

    `/dev/null` can be written. Files that are open already stay so.

    Raises:
        OSError: where the kernel has no landlock, or refuses.
    """
    version = landlock_version()
    if version < 1:
        raise OSError("landlock is not there")
    rights = (1 << 13) - 1  # everything that version 1 knows, then what came later: refer, truncate, ioctl
    rights |= (version >= 2) << 13 | (version >= 3) << 14 | (version >= 5) << 15
    network = 3 if version >= 4 else 0  # bind and connect over TCP
    scope = 3 if version >= 6 else 0  # abstract sockets and signals
    attributes = struct.pack("=QQQ", rights, network, scope)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _checked(_libc.syscall(_LANDLOCK[0], attributes, ctypes.c_size_t(size), 0), "landlock_create_ruleset")
    for path in [*map(str, readable), "/dev/null"]:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        allowed = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0) | (_WRITE_FILE if path == "/dev/null" else 0)
        rule = struct.pack("=Qi", allowed, opened)
        _checked(_libc.syscall(_LANDLOCK[1], rules, 1, rule, 0), f"landlock_add_rule {path}")
        os.close(opened)
    _checked(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    _checked(_libc.syscall(_LANDLOCK[2], rules, 0), "landlock_restrict_self")
    os.close(rules)


# A filter of system calls is a program of (operation, jump if true, jump if false, value) for a small machine:
# `classic BPF`, linux/filter.h. It sees the call's number, the architecture and the six arguments.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # REFUSE + an error number
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data; argument n lies at 16 + 8 n, its lower half first
_EPERM, _ENOSYS = 1, 38

_AUDIT_NAMES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {  # system call: its number on x86_64 and on aarch64 (None: not there)
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "sendmmsg": (307, 269),
    "recvmmsg": (299, 243),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "setrlimit": (160, 164),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "truncate": (76, 45),
    "preadv2": (327, 286),  # these five tell, or change, what the kernel keeps of files in memory: a way to pass notes
    "pwritev2": (328, 287),
    "fadvise64": (221, 223),
    "mincore": (27, 232),
    "readahead": (187, 213),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "flock": (73, 32),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "sethostname": (170, 161),
    "iopl": (172, None),
    "ioperm": (173, None),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setparam": (142, 118),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "msgctl": (71, 187),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "semctl": (66, 191),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "shmctl": (31, 195),
    "mq_unlink": (241, 181),
    "syslog": (103, 116),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "clone": (56, 220),
}
# Since Linux 5.1 a new system call has the same number everywhere, from 424 on. Of these only the following are
# answered, so that a newer kernel brings nothing new in here; the C library then takes the old ways. In order:
# close_range, openat2, faccessat2, epoll_pwait2, futex_waitv, cachestat, map_shadow_stack, futex_wake, futex_wait,
# futex_requeue, mseal. Not among them: clone3, whose arguments lie where no filter can look, io_uring, pidfds, mounts.
_FIRST_NEW = 424
_NEW_ANSWERED = (436, 437, 439, 441, 449, 451, 453, 454, 455, 456, 462)
_SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}  # to this process alone
_PRLIMIT, _FCNTL, _IOCTL, _PRCTL = (302, 261), (72, 25), (16, 29), (157, 167)
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
"""F_SETOWN, F_SETSIG and F_SETOWN_EX have the kernel send any signal to any process; F_SETLEASE, F_NOTIFY."""
_IOCTL_ANSWERED = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""Is it a terminal (two ways), how wide is it, what can be read, do not block, keep or close when a program starts."""


def refuse_system_calls() -> None:
    """Let no process or thread be started, no program run, no connection opened, no other process reached from now on.

    What is refused comes back to Python as `PermissionError`; a thread as `RuntimeError`.

    Raises:
        OSError: where the kernel refuses, or on a processor other than x86-64 and 64-bit ARM.
    """
    machine = platform.machine()
    if machine not in _AUDIT_NAMES:
        raise OSError(f"no filter of system calls for {machine}")
    column = list(_AUDIT_NAMES).index(machine)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _AUDIT_NAMES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_GREATER, 0, 1, 0x3FFFFFFF),  # x86-64's second set of numbers (x32)
        (_RETURN, 0, 0, _KILL),
    ]
    for number in _NEW_ANSWERED:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += [(_JUMP_GREATER, 0, 1, _FIRST_NEW - 1), (_RETURN, 0, 0, _REFUSE | _ENOSYS)]
    for refused in (numbers[column] for numbers in _REFUSED.values()):
        if refused is not None:
            program += [(_JUMP_EQUAL, 0, 1, refused), (_RETURN, 0, 0, _REFUSE | _EPERM)]
    for numbers in _SIGNALS.values():
        program += _if_argument(numbers[column], 0, [os.getpid()], _ALLOW, _REFUSE | _EPERM)
    program += _if_argument(_FCNTL[column], 1, _FCNTL_REFUSED, _REFUSE | _EPERM, _ALLOW)
    program += _if_argument(_IOCTL[column], 1, _IOCTL_ANSWERED, _ALLOW, _REFUSE | _EPERM)
    program += _if_argument(_PRCTL[column], 0, [_PR_SET_PDEATHSIG], _REFUSE | _EPERM, _ALLOW)
    program += [  # prlimit: asking for limits, not setting them; so all 64 bits of the third argument are 0
        (_JUMP_EQUAL, 0, 6, _PRLIMIT[column]),
        (_LOAD, 0, 0, 16 + 8 * 2),
        (_JUMP_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, 16 + 8 * 2 + 4),
        (_JUMP_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    _checked(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    pointer = ctypes.create_string_buffer(header, len(header))
    _checked(_prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(pointer)), "seccomp")


def _if_argument(
    number: int, argument: int, values: Sequence[int], then: int, otherwise: int
) -> list[tuple[int, int, int, int]]:
    """Answer a system call by whether the lower half of an argument is one of these values; go on with other calls.

    The lower half is all that the kernel itself looks at in those arguments that this is used for.
    """
    tests = [part for value in values for part in ((_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, then))]
    return [
        (_JUMP_EQUAL, 0, len(tests) + 2, number),
        (_LOAD, 0, 0, 16 + 8 * argument),
        *tests,
        (_RETURN, 0, 0, otherwise),
    ]


def limit_resources(limits: Limits) -> None:
    """Set the limits for this process and what it starts: memory, processor time, open files, and no file may grow."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then raises OSError
    for kind, value in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + limits.memory),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends; where there is no such service, nothing."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of processes further below when theirs ends; where there is no such service, nothing."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Keep other processes of this account from reading this process's memory; where that is unknown, nothing."""
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)


def lock_in(isolation: Isolation, limits: Limits, readable: Iterable[str | Path]) -> None:
    """Lock this process in, with every layer that the machine offers.

    Raises:
        OSError: if a layer fails that was there when it was tried: the submission must then not be run.
    """
    limit_resources(limits)
    if isolation.namespaces:
        private_namespaces()
    if isolation.landlock:
        open_only(readable)
    if isolation.hides_files:
        give_up_privileges()
    end_with_parent()  # once more: other privileges, other namespaces make the kernel forget it
    if isolation.seccomp:
        refuse_system_calls()


# --- what there is -------------------------------------------------------------------------------------------


def works(layer: Callable[[], None]) -> bool:
    """Tell whether a layer works, in a process that is thrown away."""
    child = os.fork()
    if child == 0:
        try:
            layer()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def strongest() -> Isolation:
    """Try every layer and return those that work here. Call it before threads are started: it forks."""
    if sys.platform != "linux":
        return Isolation()
    return Isolation(
        bubblewrap=_bubblewrap_works(),
        namespaces=works(private_namespaces),
        landlock=works(lambda: open_only(["/usr"])),
        seccomp=works(refuse_system_calls),
    )


def _bubblewrap_works() -> bool:
    if not shutil.which("bwrap"):
        return False
    null = os.open(os.devnull, os.O_RDWR)
    files = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    child = os.posix_spawnp("bwrap", command, dict(os.environ), file_actions=files)
    os.close(null)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def room(readable: Iterable[str | Path], hidden: Iterable[str | Path]) -> list[str]:
    """Return the beginning of a command line that runs a program in bubblewrap's room.

    Args:
        readable: files and folders that are there, for reading, at their own places.
        hidden: folders that are empty there; what lies in them and is `readable` itself is there all the same.
    """
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    empty = [Path(path) for path in hidden]
    parts = [(Path(path), "--ro-bind") for path in readable] + [(path, "--tmpfs") for path in empty]
    for path, option in sorted(parts, key=lambda part: len(part[0].parts)):  # what lies deeper comes on top
        if path.exists():
            command += [option, str(path), *([str(path)] if option == "--ro-bind" else [])]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for path in (*filter(Path.exists, empty), Path("/dev"), Path("/")):
        command += ["--remount-ro", str(path)]
    return command


def without(folder: Path, hidden: Iterable[Path]) -> list[Path]:
    """Return paths that hold what lies in a folder, but nothing of the hidden ones."""
    inside = [path for path in hidden if path.is_relative_to(folder)]
    if not inside or not folder.is_dir():
        return [] if folder in inside else [folder]
    return [path for entry in sorted(folder.iterdir()) for path in without(entry, inside) if entry not in inside]
