"""Finds what each student handed in: in a folder, an LMS's zip or an nbgrader tree.

Nothing is ever unpacked to disk, no link is followed, and a file is read only when it is graded. How the files lie
decides who handed them in. Students choose names of files too, so the beginning of a path, which the LMS or the teacher
wrote, decides alone; what one student's files are called changes nothing for the others.

- Canvas: `name_LATE_12345_67890_original-name-1.ipynb`, flat; -1 is a resubmission. Anonymous: `anon_x7aB3_67890_…`.
  Source: instructure/canvas-lms, `lib/content_zipper.rb`.
- Moodle: `Surname Firstname_1234567_assignsubmission_file_…`, as folders or as the beginning of flat files' names.
  Source: moodle/moodle, `mod/assign/classes/downloader.php`.
- A folder for each student, files at any depth in it. nbgrader's `STUDENT/LESSON/…` is such: folders of the course's
  other lessons are left out, and `submitted/` is taken off.
- A notebook for each student: the student is its name, without the lesson's if it holds that.

A zip is read as a folder; one folder around everything is taken off. A zip inside, such as one a student zipped, is
opened if there is no notebook beside it; a zip inside of that is not.

A folder may hold several zips, and other hand-ins beside them. Of the zips that lie in it by themselves, those of a
class are opened, and each is read by its own layout; every other is one student's. A class's are

- those in which Moodle, Canvas or nbgrader (`submitted/STUDENT/LESSON/…`) named the files;
- those with several students' folders, or with more than `MAX_NOTEBOOKS` of folders and notebooks, if all these zips
  together hold more students than there are other zips of students: the notes of who is in them say so;
- one that is all there is, if it holds more than one folder with a notebook, or notebook. The course's own lessons'
  names count for none of this.

A zip that an LMS named, or that lies in a student's folder or in another zip, is a student's, whatever is in it. Who is
in several of these places, with the same name and number, is graded by the newest notebook or zip there, by its date in
the zip or its modification time; of equals by that in the zip later by name. A note says so.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import math
import os
import re
import stat
import time
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segcourse.exercises import LESSONS
from segcourse.grading.answers import find_answers
from segcourse.grading.reading import MAX_BYTES, UnreadableError, read_notebook

MAX_ENTRIES, MAX_STUDENTS_ENTRIES, MAX_INNER_ENTRIES = 50_000, 20_000, 2_000
"""How many files an LMS's zip, a student's folder and a student's own zip may hold."""
MAX_INNER_TOTAL = 500 * 2**20
"""How many bytes a student's own zip may say that it unpacks to. An LMS's may say what it will: one student's large
files must not stop the class, and of no file more is read than a notebook may have."""
MAX_RATIO = 200
"""A student's zip that unpacks to more than so many times its size, and to more than a notebook's limit, is a bomb."""
MAX_NOTEBOOKS = 8
"""Of so many notebooks of a student the right one is looked for; the newest by name are taken."""
MAX_DEPTH = 50
"""How many folders deep a file in a zip may lie."""
ENTRY_BYTES = 300
"""How many bytes of a zip's directory a file has at most, on average."""
ATTACHMENT_DIGITS = 3
"""How many digits Canvas's number of a file has at least; fewer may be a student's `lesson_1_2.ipynb`."""
HEADERS_BYTES = 2**20
"""How much of a damaged zip is searched for names of files."""

STUDENT_ADVICE = ("Zip the notebook again.", "Hand in the notebook by itself.")
TEACHER_ADVICE = (
    "Perhaps only a part of it was downloaded. Download it again from the learning system.",
    "Give the submissions in several zips, or in a folder.",
)
"""What to do about a zip that is damaged, or that holds too much."""

IGNORED = {"__MACOSX", ".ipynb_checkpoints", "__pycache__", "Thumbs.db", "desktop.ini", "timestamp.txt"}
NBGRADER = {"submitted", "source", "release", "autograded", "feedback"}
"""The folders of an nbgrader course."""
MOODLE = re.compile(r"(?P<name>[^_/]{1,200})(?:_(?P<id>[0-9]{1,20}))?_assignsubmission_[a-z]+_?(?P<file>.*)", re.S)
CANVAS = re.compile(
    r"(?:(?P<late_anon>LATE_)?(?P<anon>anon_[A-Za-z0-9]{1,20})|(?P<name>[^/]{1,200}?)_(?P<late>LATE_)?(?P<id>[0-9]{1,20}))"
    r"_(?P<file>(?:text|link)\.html|[0-9]{1,20}_.+)",
    re.S,
)
ATTEMPT = re.compile(r"(.*?)-(\d{1,4})(\.[^.]+)", re.S)
LMS_ZIP = re.compile(r"submissions?\b.*|.*(?:moodle|canvas).*|[^-]+-.+-\d+(?: ?\(\d+\))?\.zip", re.I | re.S)
"""What an LMS, or a teacher, calls the zip of a class: `submissions.zip`, `COURSE-Assignment-4711.zip`."""
DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.I)


@dataclass(frozen=True)
class Submission:
    """What one student handed in."""

    student: str
    """A name that is unique in the class, and safe as a file's name."""
    name: str
    """The file as it was handed in; empty if there is none."""
    late: bool = False
    problem: str = ""
    """Why there is nothing to grade; empty if there is."""
    notes: tuple[str, ...] = ()
    identifier: str = ""
    """The LMS's number for the student, where the files' names hold one."""
    loader: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            UnreadableError: if there is no file, or it cannot be read.
        """
        if self.loader is None:
            raise UnreadableError(self.problem or "There is no file.")
        return self.loader()


@dataclass(frozen=True)
class Entry:
    """A file somewhere in what was handed in, not read yet."""

    parts: tuple[str, ...]
    """Its path, in parts. The last is empty for an empty folder."""
    load: Callable[[], bytes]
    problem: str = ""
    """Why it is not read."""
    index: int = 0
    """Its place in its zip's directory."""
    when: tuple[int, ...] = ()
    """Year, month, day, hour, minute and even second, local, of its date; empty if it has none."""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.parts[-1]

    @property
    def is_notebook(self) -> bool:
        """Whether it is called like a notebook."""
        return self.name.lower().endswith(".ipynb")

    @property
    def is_zip(self) -> bool:
        """Whether it is called like a zip."""
        return self.name.lower().endswith(".zip")


@dataclass(frozen=True)
class Owner:
    """Who handed a file in, as its path tells."""

    name: str
    identifier: str = ""
    file: str = ""
    """The file, where one that lies by itself stands for a student: two such are never one student's."""


@dataclass
class Found:
    """What is known of a student while files are sorted."""

    entries: list[Entry] = field(default_factory=list)
    late: bool = False
    attempts: bool = False
    """Whether a number at the end of a file's name counts resubmissions."""
    notes: list[str] = field(default_factory=list)


def collect(
    folder: Path, lesson: str, names: Sequence[str] = (), starters: Mapping[str, str] | None = None
) -> list[Submission]:
    """Find every student's submission.

    Args:
        folder: a folder, a zip or a single notebook; the module says what may lie in it.
        lesson: the notebook's stem, such as `01_receptive_field`.
        names: the lesson's functions: of several notebooks of a student the one that answers most of them is taken.
        starters: for each name the source of the cell as it was released; such a function is no answer.

    Returns:
        One submission a student, sorted by student. A student without a notebook has one that says so.

    Raises:
        ValueError: if nothing was handed in there, or the zip cannot be read.
    """
    if not folder.exists():
        raise ValueError(f"There is no {folder}. Give the folder, or the zip, with the submissions.")
    if folder.is_dir():
        sources, guessed = sources_in(folder)
    elif folder.suffix.lower() == ".zip":
        sources, guessed = {"": without_wrapper(entries_of_file(folder))}, {}
    else:
        sources, guessed = {"": [Entry((folder.name,), lambda: read_file(folder))]}, {}
    if not any(sources.values()):
        raise ValueError(f"There is nothing in {folder}. Give the folder, or the zip, with the submissions.")
    claims = {source: by_student(entries, lesson) for source, entries in sources.items()}
    for source, count in guessed.items():
        for found in claims[source].values():
            found.notes.append(
                f"From {shown(source)}, which was read as a class's, as it seems to hold {count} students' work. If it "
                "is one student's, put it in a folder with the student's name."
            )
    students = newest_claims(claims, lesson)
    if not students:
        raise ValueError(f"There is no notebook in {folder}. Give the folder, or the zip, with the submissions.")
    students = without_shared_numbers(students)
    labels = unique_names(students)

    def answers(entry: Entry) -> int:
        try:
            return len(find_answers(read_notebook(entry.load()).cells, names, starters or {}).found)
        except UnreadableError:
            return -1

    submissions = [submission_of(labels[owner], owner, found, lesson, answers) for owner, found in students.items()]
    return sorted(submissions, key=lambda submission: submission.student)


# --- what lies there -----------------------------------------------------------------------------------------


def sources_in(folder: Path) -> tuple[dict[str, list[Entry]], dict[str, int]]:
    """Return what lies in a folder, and in each zip of a class that lies in it.

    Returns:
        The entries by the zip's name, those of the folder itself by the empty name. And of the zips that no LMS named
        but that seem to be a class's, how many students' work each holds.

    Raises:
        ValueError: if the folder, or a zip that is all there is, cannot be read.
    """
    own = list(entries_of_folder(folder))
    useful = [entry for entry in own if len(entry.parts) > 1 or entry.is_notebook or entry.is_zip]
    canvas = is_canvas(own, ATTACHMENT_DIGITS)
    opened: dict[str, list[Entry]] = {}
    guessed: dict[str, int] = {}
    students = 0
    for zipped in [entry for entry in own if len(entry.parts) == 1 and entry.is_zip and not entry.problem]:
        if MOODLE.fullmatch(zipped.name) or (canvas and CANVAS.fullmatch(zipped.name)):
            continue
        alone = len(useful) == 1  # or beside a list of grades
        try:
            inside = entries_of_file(folder / zipped.name)
        except UnreadableError as error:
            if alone:
                raise
            students += 1
            if seems_an_lms(folder / zipped.name):  # a student may have imitated it, so it does not stop the others
                own[own.index(zipped)] = dataclasses.replace(zipped, problem=str(error))
            continue
        read = without_wrapper(inside)
        holders = {entry.parts[0].removesuffix(".ipynb") for entry in read if entry.is_notebook or entry.is_zip}
        loose = any(len(entry.parts) == 1 and (entry.is_notebook or entry.is_zip) for entry in read)
        count = len(holders - set(LESSONS))
        if named_by_lms(inside) or named_by_lms(read) or (alone and (count > 1 or not holders)):
            opened[zipped.name] = read
        elif count > (MAX_NOTEBOOKS if loose else 1):
            opened[zipped.name], guessed[zipped.name] = read, count
        else:
            students += 1
    if sum(guessed.values()) <= students:
        opened = {name: entries for name, entries in opened.items() if name not in guessed}
        guessed = {}
    rest = [entry for entry in own if len(entry.parts) > 1 or entry.name not in opened]
    return {"": without_wrapper(rest, only_lms=True) if rest == own else rest, **opened}, guessed


def named_by_lms(entries: list[Entry]) -> bool:
    """Tell whether Moodle, Canvas or nbgrader named what is in a zip."""
    nbgrader = any(
        entry.parts[-4:-3] == ("submitted",) and entry.parts[-2] in LESSONS for entry in entries if len(entry.parts) < 6
    )
    return (
        nbgrader or any(MOODLE.fullmatch(entry.parts[0]) for entry in entries) or is_canvas(entries, ATTACHMENT_DIGITS)
    )


def seems_an_lms(path: Path) -> bool:
    """Tell whether a damaged zip is an LMS's, by its name or by the names of the files at its beginning."""
    if LMS_ZIP.fullmatch(path.name):
        return True
    try:
        with path.open("rb") as file:
            data = file.read(HEADERS_BYTES)
    except OSError:
        return False
    heads = [found.start() for found in re.finditer(rb"PK\x03\x04", data)]
    names = [data[at + 30 : at + 30 + int.from_bytes(data[at + 26 : at + 28], "little")] for at in heads]
    entries = [Entry(tuple(name.decode("utf-8", "replace").split("/")), nothing) for name in names]
    return named_by_lms(entries) or any(MOODLE.fullmatch(part) for entry in entries for part in entry.parts[:2])


def modified(item: os.DirEntry[str]) -> tuple[int, ...]:
    """Return a file's modification time as a zip would hold it; empty if there is none."""
    try:
        when = time.localtime(item.stat(follow_symlinks=False).st_mtime)
    except (OSError, OverflowError, ValueError):
        return ()
    return (*when[:5], when[5] // 2 * 2)


def entries_of_folder(folder: Path) -> Iterator[Entry]:
    """Yield every file below a folder, and its empty folders; links are not followed."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    todo: list[tuple[str, ...]] = [()]
    while todo:
        parts = todo.pop()
        student = parts[: 2 if parts[:1] == ("submitted",) else 1]
        try:
            inside = sorted(os.scandir(folder.joinpath(*parts)), key=lambda item: item.name)
        except OSError as error:
            if not parts:
                raise ValueError(f"{folder} cannot be opened ({error.strerror}).") from None
            yield Entry((*parts, ""), nothing, f"The folder cannot be opened ({error.strerror}).")
            continue
        if not inside and parts:
            yield Entry((*parts, ""), nothing)
        counts[student] += len(inside)
        if parts and counts[student] > MAX_STUDENTS_ENTRIES:
            yield Entry(
                (*parts, ""), nothing, f"There are more than {MAX_STUDENTS_ENTRIES:,} files; not all were seen."
            )
            continue
        for item in inside:
            here = (*parts, item.name)
            if item.is_symlink():
                yield Entry(here, nothing, f"{shown(item.name)} is a link to another file; links are not followed.")
            elif item.is_dir(follow_symlinks=False):
                if wanted(here):
                    todo.append(here)
            elif not wanted(here):
                continue
            elif not item.is_file(follow_symlinks=False):
                yield Entry(here, nothing, f"{shown(item.name)} is no ordinary file.")
            else:
                yield Entry(here, functools.partial(read_file, Path(item.path)), when=modified(item))


def entries_of_file(path: Path) -> list[Entry]:
    """Return the entries of an LMS's zip.

    Raises:
        UnreadableError: if it is no zip, or holds too many files; it says what a teacher does about it.
    """
    try:
        return entries_of_zip(lambda: path.open("rb"), MAX_ENTRIES, advice=TEACHER_ADVICE)
    except UnreadableError as error:
        raise UnreadableError(f"{shown(path.name)} cannot be read: {error}") from None


def entries_of_zip(
    opener: Callable[[], io.BufferedIOBase],
    most: int,
    total: float = math.inf,
    advice: tuple[str, str] = STUDENT_ADVICE,
) -> list[Entry]:
    """Return a zip's files as entries; nothing of them is read.

    Args:
        opener: opens the zip.
        most: how many files it may hold.
        total: how many bytes it may say that it unpacks to.
        advice: what to do if it is damaged, and if it holds too much.

    Raises:
        UnreadableError: if it is no zip, or more than the limits allow.
    """
    try:
        with opener() as file, zipfile.ZipFile(Bounded(file, ENTRY_BYTES * most)) as archive:
            infos = archive.infolist()
        if len(infos) > most:
            raise TooLongError
    except TooLongError:
        raise UnreadableError(f"The zip holds more than {most:,} files, or very long names. {advice[1]}") from None
    except UnreadableError:
        raise
    except Exception as error:  # what zipfile raises for a damaged file is not a closed list
        raise UnreadableError(f"The zip is damaged ({type(error).__name__}). {advice[0]}") from None
    unpacked = sum(info.file_size for info in infos)
    if unpacked > total:
        raise UnreadableError(f"The zip would unpack to {unpacked / 2**20:,.0f} MB. {advice[1]}")
    entries = []
    for index, info in enumerate(infos):
        # Nothing is written to a disk, so a backslash, as Windows writes it, is but another slash.
        name = re.sub(r"[\x00-\x1f\x7f]", "?", info.filename.replace("\\", "/"))
        parts = tuple(name.split("/"))
        problem = unsafe(parts, info)
        if problem:
            parts = tuple(part for part in parts if part not in ("", ".", ".."))[:MAX_DEPTH]
        if parts and (not parts[-1] or wanted(parts)):
            entries.append(Entry(parts, functools.partial(read_in_zip, opener, index), problem, index, info.date_time))
    full = {parts[:end] for parts in (e.parts for e in entries if e.name) for end in range(1, len(parts))}
    return [entry for entry in entries if entry.name or entry.parts[:-1] not in full]


class TooLongError(Exception):
    """A zip's directory is longer than it may be."""


class Bounded:
    """A file of which nothing long is read at once.

    zipfile reads a zip's directory in one piece, however long the zip says it is and wherever it says so.
    """

    def __init__(self, file: io.BufferedIOBase, most: int) -> None:
        """Bound a file: `most` bytes are read at once."""
        self.seek, self.tell = file.seek, file.tell
        self._read, self._most = file.read, most

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            TooLongError: if more than is allowed is asked for.
        """
        if size > self._most:
            raise TooLongError
        return self._read(size)


def unsafe(parts: tuple[str, ...], info: zipfile.ZipInfo) -> str:
    """Say why an entry of a zip is not read; empty if it may be."""
    name = shown("/".join(parts))
    if len(parts) > MAX_DEPTH:
        return f"{name} in the zip lies too deep in folders."
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", parts[0]):
        return f"{name} in the zip points outside of it."
    if any(DEVICES.match(part) for part in parts):
        return f"{name} in the zip has the name of a device."
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"{name} in the zip is a link; links are not followed."
    if info.flag_bits & 0x1:
        return f"{name} in the zip is encrypted. Hand it in without a password."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"{name} in the zip is packed in an unusual way. Hand in the notebook by itself."
    return ""


def without_wrapper(entries: list[Entry], only_lms: bool = False) -> list[Entry]:
    """Take off the one folder around everything, unless it looks like a student's own.

    Args:
        entries: all files of a zip or of a folder.
        only_lms: whether to do so only if an LMS named all that is in it.
    """
    loose = [entry for entry in entries if len(entry.parts) == 1]
    tops = {entry.parts[0] for entry in entries if len(entry.parts) > 1}
    if (
        len(tops) != 1
        or any(entry.is_notebook or entry.is_zip for entry in loose)
        or MOODLE.fullmatch(next(iter(tops)))
    ):
        return entries
    inner = [dataclasses.replace(entry, parts=entry.parts[1:]) for entry in entries if len(entry.parts) > 1]
    several = {entry.parts[0] for entry in inner if len(entry.parts) > 1 or entry.is_notebook or entry.is_zip}
    if not only_lms and several and all(map(MOODLE.fullmatch, several)):
        return inner
    if only_lms and not any(all(map(lms.fullmatch, several)) for lms in (MOODLE, CANVAS)):
        return entries
    return inner if several == {"submitted"} or (len(several) > 1 and not several <= set(LESSONS)) else entries


def wanted(parts: tuple[str, ...]) -> bool:
    """Tell whether a file may be a student's: what systems and Jupyter leave behind is not."""
    return not any(part in IGNORED or part.startswith(".") for part in parts if part not in ("..", "."))


def nothing() -> bytes:
    """Load what is not there."""
    raise UnreadableError("There is no file that could be read.")


def read_file(path: Path) -> bytes:
    """Read a file of bounded size that is no link."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("The file is no ordinary file.")
            return file.read(min(status.st_size, MAX_BYTES) + 1)
    except OSError as error:
        raise UnreadableError(f"The file cannot be opened ({error.strerror}).") from None


def read_in_zip(opener: Callable[[], io.BufferedIOBase], index: int) -> bytes:
    """Read one entry of a zip, of bounded size whatever the zip says of it."""
    try:
        with opener() as file, zipfile.ZipFile(file) as archive, archive.open(archive.infolist()[index]) as entry:
            return entry.read(MAX_BYTES + 1)
    except Exception as error:  # what zipfile raises for a damaged file is not a closed list
        raise UnreadableError(f"The file in the zip is damaged ({type(error).__name__}). Hand it in again.") from None


# --- whose it is ---------------------------------------------------------------------------------------------


def by_student(entries: list[Entry], lesson: str) -> dict[Owner, Found]:
    """Sort the files by who handed them in."""
    students: dict[Owner, Found] = defaultdict(Found)
    tops = {entry.parts[0] for entry in entries if len(entry.parts) > 1}
    handed_in = [entry for entry in entries if entry.parts[0] == "submitted" and len(entry.parts) > 1]
    if tops <= NBGRADER and any(len(entry.parts) > 2 for entry in handed_in):  # no student has a folder beside it
        loose = [entry for entry in entries if len(entry.parts) == 1]
        entries = [*loose, *(dataclasses.replace(entry, parts=entry.parts[1:]) for entry in handed_in)]
    by_canvas = is_canvas(entries)
    for entry in entries:
        top, rest = entry.parts[0], entry.parts[1:]
        late = False
        if by_canvas and not rest and (named := CANVAS.fullmatch(top)):
            owner, rest = Owner(named["name"] or named["anon"], named["id"] or ""), (named["file"].split("_", 1)[-1],)
            late = bool(named["late"] or named["late_anon"])
            students[owner].attempts = True
        elif not by_canvas and (named := MOODLE.fullmatch(top)):
            owner, rest = Owner(named["name"], named["id"] or ""), rest or (named["file"],)
        elif rest:
            owner = Owner(top)
        elif entry.is_zip or ".ipynb" in top.lower() or entry.problem:
            owner, rest = Owner(without_lesson(top, lesson), file=top), (top,)
        else:
            continue  # a list of grades, a read-me
        students[owner].late |= late
        students[owner].entries.append(dataclasses.replace(entry, parts=rest))
    return students


def is_canvas(entries: list[Entry], digits: int = 1) -> bool:
    """Tell whether most of the notebooks and zips that lie by themselves are named as Canvas does.

    Args:
        entries: all files of a zip or of a folder.
        digits: how many digits Canvas's number of a file must have.
    """
    flat = [entry.name for entry in entries if len(entry.parts) == 1 and (entry.is_notebook or entry.is_zip)]
    named = [found for found in map(CANVAS.fullmatch, flat) if found]
    canvas = sum(len(found["file"].partition("_")[0]) >= digits for found in named)
    return canvas > sum(bool(MOODLE.fullmatch(name)) for name in flat) and 2 * canvas > len(flat)


def newest_claims(claims: Mapping[str, Mapping[Owner, Found]], lesson: str) -> dict[Owner, Found]:
    """Of what lies in several places for one student, take the newest, and note it.

    Args:
        claims: for each place, a zip's name or the empty name of the folder, what lies there for whom.
        lesson: the lesson; files for others do not count.
    """
    places: dict[Owner, list[str]] = defaultdict(list)
    for place, students in claims.items():
        for owner in students:
            places[owner].append(place)
    kept: dict[Owner, Found] = {}
    for owner, where in places.items():
        dates = {place: newest_date(claims[place][owner], lesson) for place in where}
        newest = max(where, key=lambda place: (dates[place], natural(place[:-4])))  # without .zip
        kept[owner] = claims[newest][owner]
        if len(where) > 1:
            names = {place: shown(place) or "the folder itself" for place in where}
            when = dates[newest][1]
            date = " of {}-{:02}-{:02} {:02}:{:02}".format(*when) if when else ""
            kept[owner].notes.append(
                f"Handed in more than once, in {' and '.join(names[place] for place in sorted(where))}: the newest "
                f"counts, {names[newest]}'s{date}. The others were not looked at."
            )
    return kept


def newest_date(found: Found, lesson: str) -> tuple[bool, tuple[int, ...]]:
    """Return whether there is a notebook or a zip for the lesson, and the date of the newest such file."""
    entries = [entry for entry in found.entries if entry.parts[0] not in LESSONS or entry.parts[0] == lesson]
    work = [entry for entry in entries if entry.is_notebook or entry.is_zip]
    return bool(work), max((entry.when for entry in work or entries), default=())


def without_shared_numbers(students: Mapping[Owner, Found]) -> dict[Owner, Found]:
    """Take the LMS's number from all who have the same: one of them may have named a file so as to have it."""
    holders: dict[str, list[str]] = defaultdict(list)
    for owner in students:
        holders[owner.identifier].append(owner.name)
    kept: dict[Owner, Found] = {}
    for owner, found in students.items():
        who = holders[owner.identifier]
        if owner.identifier and len(who) > 1:
            names = ", ".join(sorted(shown(name) for name in who)[:5])
            found.notes.append(
                f"{names} have the same number, {owner.identifier}, so it is left out: look which of them it belongs "
                "to, and enter these marks yourself."
            )
            owner = Owner(owner.name, file=owner.identifier)  # still another than those of the same name
        kept[owner] = found
    return kept


def without_lesson(name: str, lesson: str) -> str:
    """Return whom a notebook is named after."""
    stem = re.sub(r"(\.ipynb|\.zip).*$", "", name, flags=re.I | re.S)
    return stem.replace(lesson, "").strip(" _-.") or stem


def unique_names(students: Mapping[Owner, Found]) -> dict[Owner, str]:
    """Give each student a safe name; of those who share one nobody gets it: the LMS's number, or a count, is added."""
    names = {owner: safe_name(owner.name) for owner in students}
    shared = Counter(name.casefold() for name in names.values())
    counts: Counter[str] = Counter()
    given: dict[Owner, str] = {}
    for owner in sorted(names, key=lambda owner: (shared[names[owner].casefold()], dataclasses.astuple(owner))):
        label, key = names[owner], names[owner].casefold()
        if shared[key] > 1:
            counts[key] += 1
            label = f"{label}-{owner.identifier or counts[key]}"
            if not owner.identifier:
                students[owner].notes.append(f"Others handed in as {shown(owner.name)} too: look whose it is.")
        given[owner] = safe_name(label, given.values())
    return given


def safe_name(text: str, taken: Collection[str] = ()) -> str:
    """Return a readable file name for any text: letters and digits of any script, blanks, `_` and `-`.

    Args:
        text: a student's name, from a stranger's file.
        taken: names that it must differ from, also on disks that do not tell capitals from small letters.
    """
    text = unicodedata.normalize("NFC", text[:10_000])
    kept = "".join(char if char in " _-." or unicodedata.category(char)[0] in "LMN" else "_" for char in text)
    kept = re.sub(r"\s+|_{2,}", lambda run: "_" if "_" in run[0] else " ", kept).strip(" _-.") or "student"
    if DEVICES.match(kept):
        kept = f"student {kept}"
    if len(kept.encode()) > 100:
        kept = kept.encode()[:90].decode("utf-8", "ignore").rstrip(" _-.")
        kept = f"{kept}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
    used = {name.casefold() for name in taken}
    number, label = 1, kept
    while label.casefold() in used:
        number += 1
        label = f"{kept}-{number}"
    return label


# --- which of the files --------------------------------------------------------------------------------------


def submission_of(student: str, owner: Owner, found: Found, lesson: str, answers: Callable[[Entry], int]) -> Submission:
    """Choose a student's notebook among the files."""
    notes = list(found.notes)
    other = {top for top in (entry.parts[0] for entry in found.entries if len(entry.parts) > 1) if top in LESSONS}
    other.discard(lesson)
    entries = [entry for entry in found.entries if entry.parts[0] not in other]
    entries.sort(key=lambda entry: (lesson in entry.parts, natural("/".join(entry.parts))))
    problems = [entry.problem for entry in entries if entry.problem]
    readable = [entry for entry in entries if not entry.problem and entry.name]
    notebooks = [entry for entry in readable if entry.is_notebook]
    zips = [entry for entry in readable if entry.is_zip]
    if found.attempts:
        notebooks, zips = newest_attempts(notebooks, notes), newest_attempts(zips, notes)
    if zips and notebooks:
        notes.append(f"{shown(zips[-1].name)} was not opened, as there is a notebook beside it.")
    elif zips:
        notebooks = notebooks_in(zips[-1], problems)
    if not notebooks:
        notebooks = [entry for entry in readable[-MAX_NOTEBOOKS:] if not entry.is_zip and holds_notebook(entry)]
        notes += [f"{shown(entry.name)} is not called .ipynb, but is a notebook." for entry in notebooks]
    base = Submission(student, "", found.late, identifier=owner.identifier)
    if not notebooks:
        files = ", ".join(shown(entry.name) for entry in readable[:5])
        why = " ".join(problems[:3]) or (f"There is no notebook among the files: {files}." if files else "")
        why = why or "No file was handed in" + (
            f" for this lesson, only for {', '.join(sorted(other))}." if other else "."
        )
        problem = why if why.endswith(TEACHER_ADVICE) else f"{why} Hand in the .ipynb file."
        return dataclasses.replace(base, problem=problem, notes=tuple(notes))
    chosen = best(notebooks, lesson, answers, notes)
    name = chosen.name.encode("utf-8", "replace").decode()
    return dataclasses.replace(base, name=name, notes=(*notes, *problems[:3]), loader=chosen.load)


def notebooks_in(entry: Entry, problems: list[str]) -> list[Entry]:
    """Return the notebooks in a student's own zip."""
    try:
        data = entry.load()
        if len(data) > MAX_BYTES:
            raise UnreadableError(f"The zip has more than {MAX_BYTES // 2**20} MB. Clear all outputs and zip it again.")
        total = min(MAX_INNER_TOTAL, max(MAX_BYTES, MAX_RATIO * len(data)))
        inside = entries_of_zip(lambda: io.BytesIO(data), MAX_INNER_ENTRIES, total)
    except UnreadableError as error:
        problems.append(str(error))
        return []

    problems += [inner.problem for inner in inside if inner.problem]
    if any(inner.is_zip for inner in inside):
        problems.append("A zip inside of a zip was not opened.")
    readable = [inner for inner in inside if inner.name and not inner.problem]
    found = [inner for inner in readable if inner.is_notebook]
    found = found or [inner for inner in readable[-MAX_NOTEBOOKS:] if holds_notebook(inner)]

    def again() -> io.BytesIO:  # the zip is read anew for its notebook: a class's zips are not all held in memory
        return io.BytesIO(entry.load())

    return [Entry(inner.parts, functools.partial(read_in_zip, again, inner.index)) for inner in found]


def holds_notebook(entry: Entry) -> bool:
    """Tell whether a file that is not called .ipynb looks like a notebook all the same."""
    if not re.search(r"\.(json|txt|ipynb.*)$|^[^.]*$", entry.name, re.I | re.S):
        return False
    try:
        data = entry.load()
    except UnreadableError:
        return False
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and (b'"cells"' in data or b'"worksheets"' in data)


def newest_attempts(entries: list[Entry], notes: list[str]) -> list[Entry]:
    """Of files that differ only in a number at the end (`a.ipynb`, `a-1.ipynb`), keep the one with the highest."""
    newest: dict[tuple[str, ...], tuple[int, Entry]] = {}
    for entry in entries:
        found = ATTEMPT.fullmatch(entry.name)
        key = (*entry.parts[:-1], found[1] + found[3] if found else entry.name)
        attempt = int(found[2]) if found else 0
        if key not in newest or attempt >= newest[key][0]:
            newest[key] = attempt, entry
    kept = [entry for _, entry in newest.values()]
    if len(kept) < len(entries):
        notes.append(f"Of {len(entries)} files the newest were looked at: resubmissions replace what came before.")
    return kept


def best(notebooks: list[Entry], lesson: str, answers: Callable[[Entry], int], notes: list[str]) -> Entry:
    """Return the notebook with most answers; of equals that of the lesson's name, then the newest by name."""
    if len(notebooks) == 1:
        return notebooks[0]

    def rank(entry: Entry) -> tuple[int, bool, list[tuple[int, str]]]:
        return answers(entry), lesson in "/".join(entry.parts), natural("/".join(entry.parts))

    chosen = max(notebooks[-MAX_NOTEBOOKS:], key=rank)
    others = ", ".join(shown(entry.name) for entry in notebooks if entry is not chosen)
    notes.append(
        f"Of {len(notebooks)} notebooks, {shown(chosen.name)} was taken: it holds most answers, or is the newest by "
        f"name. Not graded: {others[:100]}."
    )
    return chosen


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts a before a2, and a2 before a10."""
    parts = re.split(r"(\d+)", text.removesuffix(".ipynb"))
    return [(int(part) if len(part) < 20 else 0, "") if part.isdecimal() else (-1, part) for part in parts]


def shown(name: str) -> str:
    """Return a file's name as it may stand in a sentence: short, and without anything that does not print."""
    text = "".join(char if char.isprintable() else "?" for char in name[:200])
    return text if len(text) <= 60 else text[:40] + "…" + text[-19:]
