"""What a person marks: free text and figures, listed with the students' cells, marked in a CSV file.

The released notebook says what there is to mark: its cells that nbgrader calls manually graded (`grade` and `solution`
both true, with points). `by_hand/index.html` shows what each student has put there, `by_hand.csv` takes the marks:

    student, task, points, of, comment, answer, identifier

Points and comments are a person's: a further run of the grader adds rows, keeps what is there, and leaves the file as
it was in `by_hand.before.csv`. A table that cannot be understood is refused and left alone. `answer` stands for what
was marked. If a student hands in something else, the mark stays and the page says so; empty the cell once it was seen.
`identifier` is the LMS's number for the student. Where there is one, a mark follows it and not the name, which may be
another student's the next time.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcourse.grading.pages import bullets, esc, page, who
from segcourse.grading.reading import Notes, UnreadableError, decode, parse, source_of
from segcourse.grading.tables import Mark, Marks, TableError, cell, csv_bytes, in_words, number, read_table
from segcourse.home import write_atomically

TABLE, BACKUP, FOLDER = "by_hand.csv", "by_hand.before.csv", "by_hand"
COLUMNS = ("student", "task", "points", "of", "comment", "answer", "identifier")
NUMBER = "id-"
"""Stands before an LMS's number in the table, or a spreadsheet would round a long one."""
MAX_TEXT, MAX_PICTURES, MAX_PICTURE_BYTES, MAX_SIDE = 10_000, 3, 400_000, 3_000
"""How much of an answer is shown: characters of each text; pictures, bytes of each, pixels of their sides."""
ON_A_PAGE = 25
"""Students on one page, so that a page with pictures stays light."""


Loader = Callable[[], bytes]


@dataclass(frozen=True)
class Task:
    """A cell of the released notebook that a person marks."""

    name: str
    """nbgrader's `grade_id`."""
    of: float
    cell_id: str
    released: str
    """What stands in the cell before the student writes."""
    asks: str
    """The text before it."""


@dataclass(frozen=True)
class Answer:
    """What a student has put into a task's cell."""

    student: str
    task: str
    text: str = ""
    outputs: str = ""
    pictures: tuple[bytes, ...] = ()
    note: str = ""
    """Why there is nothing, or less than there was."""
    identifier: str = ""
    """The LMS's number for the student, if it is known."""

    @property
    def digest(self) -> str:
        """A short name for exactly this answer; a spreadsheet cannot take it for a number."""
        parts = [self.text.encode("utf-8", "replace"), self.outputs.encode("utf-8", "replace"), *self.pictures]
        return "v-" + hashlib.sha256(b"\0".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[:12]


# --- reading notebooks ---------------------------------------------------------------------------------------


def tasks_of(released: bytes) -> list[Task]:
    """Return what is marked by hand in a lesson, from the notebook as students got it.

    Raises:
        UnreadableError: if it is no notebook.
    """
    tasks = []
    before = ""
    for position, raw in enumerate(cells_in(released), 1):
        source = source_of(raw, position, Notes())
        keys = nbgrader_keys(raw)
        if keys.get("grade") is True and keys.get("solution") is True and isinstance(keys.get("grade_id"), str):
            points = keys.get("points")
            of = float(points) if isinstance(points, (int, float)) else 0.0
            tasks.append(Task(keys["grade_id"], of, str(raw.get("id", "")), source, before))
        before = source if raw.get("cell_type") == "markdown" else ""
    return tasks


def cells_in(data: bytes) -> list[dict[str, Any]]:
    """Return a notebook's cells as they stand in the file.

    Raises:
        UnreadableError: if it is no notebook.
    """
    try:
        found = parse(decode(data, Notes()), Notes()).get("cells")
    except (RecursionError, MemoryError):
        raise UnreadableError("The file is nested too deeply for a notebook.") from None
    return [raw for raw in found if isinstance(raw, dict)] if isinstance(found, list) else []


def nbgrader_keys(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what nbgrader has written into a cell's metadata."""
    metadata = raw.get("metadata")
    keys = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return keys if isinstance(keys, dict) else {}


def answers_in(student: str, load: Loader | None, tasks: Sequence[Task]) -> list[Answer]:
    """Return what a student has put into the tasks' cells; a cell is found by nbgrader's name for it, or by its id.

    Args:
        student: who.
        load: returns the file's bytes; None if there is none.
        tasks: what to look for. Points come from there alone: what a submission says of them is not read.
    """
    try:
        cells = cells_in(load()) if load else []
    except UnreadableError as error:
        return [Answer(student, task.name, note=str(error)) for task in tasks]
    answers = []
    for task in tasks:
        found = [raw for raw in cells if nbgrader_keys(raw).get("grade_id") == task.name]
        found = found or [raw for raw in cells if task.cell_id and raw.get("id") == task.cell_id]
        if found:
            answers.append(answer_in(student, task, found))
        else:
            note = "The cell is not in the notebook: look whether the answer stands elsewhere in it."
            answers.append(Answer(student, task.name, note=note if cells else "There is no notebook."))
    return answers


def answer_in(student: str, task: Task, cells: Sequence[Mapping[str, Any]]) -> Answer:
    """Return what stands in the cells found for a task: text, printed text, pictures."""
    notes = ["There are several such cells; all are shown."] if len(cells) > 1 else []
    text = "\n\n".join(source_of(dict(raw), 0, Notes()) for raw in cells[:5])
    if text.strip() == task.released.strip():
        notes.append("As it was released: nothing was written.")
    printed: list[str] = []
    pictures: list[bytes] = []
    for raw in cells[:5]:
        outputs = raw.get("outputs")
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, dict):
                look_into(output, printed, pictures, notes)
    if len(pictures) > MAX_PICTURES:
        notes.append(f"Only the first {MAX_PICTURES} of {len(pictures)} pictures are shown.")
    return Answer(
        student,
        task.name,
        shortened(text),
        shortened("\n".join(printed)),
        tuple(pictures[:MAX_PICTURES]),
        " ".join(dict.fromkeys(notes)),
    )


def look_into(output: Mapping[str, Any], printed: list[str], pictures: list[bytes], notes: list[str]) -> None:
    """Take from a cell's output its plain text and its picture; HTML and all else is left out."""
    data = output.get("data")
    data = data if isinstance(data, dict) else {}
    picture = joined(data.get("image/png"))
    if picture:
        try:
            pictures.append(checked_png(base64.b64decode(re.sub(r"\s", "", picture), validate=True)))
        except ValueError as error:
            notes.append(f"A picture is not shown: {error}.")
    else:
        printed.append(joined(output.get("text")) or joined(data.get("text/plain")) or joined(output.get("evalue")))


def joined(value: object) -> str:
    """Return a text that a notebook holds as a string or as a list of lines; nothing for all else."""
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def shortened(text: str) -> str:
    """Return a text of bounded length."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + f"… ({len(text)} characters)"


def checked_png(data: bytes) -> bytes:
    """Return a picture if a browser can be asked to show it: a PNG, not large, also when it is unpacked.

    Raises:
        ValueError: if not, saying why.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError("it is no PNG")
    if len(data) > MAX_PICTURE_BYTES:
        raise ValueError(f"it has {len(data) // 1000} kB")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"it has {width} x {height} pixels")
    return data


# --- the table of marks --------------------------------------------------------------------------------------


def read_marks(path: Path) -> list[Mark]:
    """Read the marks as a person, and perhaps a spreadsheet, has left them; students as `tables.cell` writes them.

    Raises:
        TableError: if it cannot be told what was meant; nothing is guessed.
    """
    rows = read_table(path.read_bytes())
    head = [name.strip().lower() for name in rows[0]] if rows else []
    lacking = [name for name in COLUMNS[:4] if name not in head]
    if lacking:
        raise TableError(f"{path.name} has no column {', '.join(lacking)}. {BACKUP} holds the table as it was before.")
    marks: dict[tuple[str, str, str], Mark] = {}
    for line, row in enumerate(rows[1:], 2):
        values = dict(zip(head, [value.strip() for value in row]))
        if not values.get("student") and not values.get("points"):
            continue
        mark = Mark(
            values.get("student", ""),
            values.get("task", ""),
            points_in(values.get("points", ""), path, line),
            points_in(values.get("of", ""), path, line) or 0.0,
            values.get("comment", ""),
            values.get("answer", ""),
            values.get("identifier", "").removeprefix(NUMBER),
        )
        if mark.points is not None and mark.points > mark.of:
            raise TableError(f"{path.name}, row {line}: {number(mark.points)} of {number(mark.of)} points. Correct it.")
        known = marks.get(key_of(mark), mark)
        if (known.points, known.comment) != (mark.points, mark.comment):
            raise TableError(
                f"{path.name}, row {line}: {mark.student} and {mark.task} stand there twice, with different marks. "
                "Delete one of the two rows."
            )
        marks[key_of(mark)] = mark
    return list(marks.values())


def points_in(text: str, path: Path, line: int) -> float | None:
    """Return points; None for an empty cell. A comma counts as a point.

    Raises:
        TableError: if it is no number of 0 or more.
    """
    if not text:
        return None
    if not re.fullmatch(r"\d{1,6}([.,]\d{1,6})?", text):
        raise TableError(f"{path.name}, row {line}: {text[:40]!r} is no number of points. Write 2 or 1.5, or nothing.")
    return float(text.replace(",", "."))


def update_marks(path: Path, answers: Sequence[Answer], tasks: Sequence[Task]) -> list[Mark]:
    """Write the table anew, with a row for each answer; what a person has written stays.

    Args:
        path: the table, which need not exist.
        answers: every student's.
        tasks: the lesson's.

    Returns:
        The marks as they stand in the table now: one for each answer, in their order, then those of who is gone.

    Raises:
        TableError: if the table there cannot be read, or does not fit the lesson; it is then left as it is.
    """
    before = path.read_bytes() if path.exists() else None
    old = read_marks(path) if before is not None else []
    of = {written(task.name): task.of for task in tasks}
    for mark in old:
        if mark.points is not None and mark.of != of.get(mark.task, mark.of):
            raise TableError(
                f"{path.name}: {mark.task} gives {number(of[mark.task])} points now; {mark.student} was given "
                f"{number(mark.points)} of {number(mark.of)}. Mark it anew: empty the points and correct `of`."
            )
    students = {answer.student: answer.identifier for answer in answers}
    given = {(name, mark.task): mark for name in students for mark in marks_of(old, name, students[name])}
    marks, used = [], set()
    for answer in answers:
        name, task = written(answer.student), written(answer.task)
        kept = given.get((answer.student, task)) or Mark(name, task, None, of[task])
        used.add(key_of(kept))
        digest = kept.answer if kept.points is not None and kept.answer else answer.digest
        known = answer.identifier or kept.identifier
        marks.append(dataclasses.replace(kept, student=name, identifier=known, of=of[task], answer=digest))
    rest = [mark for mark in old if key_of(mark) not in used]
    marks += [mark for mark in rest if mark.points is not None or mark.comment]  # who is gone may come back
    after = csv_bytes([COLUMNS, *map(row_of, marks)], bom=True)
    if after != before:
        if before is not None:
            write_atomically(path.with_name(BACKUP), before)
        write_atomically(path, after)
    return marks


def written(text: str) -> str:
    """Return a name as it stands in the table."""
    return cell(text).strip()


def row_of(mark: Mark) -> list[str | float]:
    """Return a mark as it stands in the table."""
    points = "" if mark.points is None else mark.points
    identifier = mark.identifier and NUMBER + mark.identifier
    return [mark.student, mark.task, points, mark.of, mark.comment, mark.answer, identifier]


def key_of(mark: Mark) -> tuple[str, str, str]:
    """Return what no two rows of the table have in common."""
    return mark.identifier, mark.student, mark.task


def marks_of(marks: Iterable[Mark], student: str, identifier: str) -> list[Mark]:
    """Return a student's marks: the rows with the LMS's number, else those with the name and with no other number."""
    marks, name = list(marks), written(student)
    numbered = [mark for mark in marks if identifier and mark.identifier == identifier]
    tasks = {mark.task for mark in numbered}
    named = [mark for mark in marks if mark.student == name and not (identifier and mark.identifier)]
    return numbered + [mark for mark in named if mark.task not in tasks]


def marks_in(out: Path, students: Mapping[str, str]) -> Marks:
    """Return the marks in an output folder, by student; none if nothing is marked by hand there.

    Args:
        out: the output folder.
        students: for each the LMS's number, empty if it is not known. Marks of others are left out.

    Raises:
        TableError: if the table cannot be read.
    """
    path = out / TABLE
    marks = read_marks(path) if path.exists() else []
    found = {student: marks_of(marks, student, identifier) for student, identifier in students.items()}
    return {student: mine for student, mine in found.items() if mine}


# --- the pages -----------------------------------------------------------------------------------------------


def write_by_hand(
    out: Path, released: bytes, files: Mapping[str, Loader | None], identifiers: Mapping[str, str] | None = None
) -> None:
    """Write `by_hand.csv` and the pages in `by_hand/`, if the lesson has something to mark by hand.

    Args:
        out: the output folder.
        released: the notebook as students got it.
        files: for each student what returns the notebook's bytes; None where there is none.
        identifiers: the LMS's number for a student, where it is known.

    Raises:
        TableError: if the table there does not fit; nothing is changed then.
    """
    tasks = tasks_of(released)
    if not tasks:
        return
    answers = [answer for student in sorted(files) for answer in answers_in(student, files[student], tasks)]
    numbers = identifiers or {}
    answers = [dataclasses.replace(answer, identifier=numbers.get(answer.student, "")) for answer in answers]
    marks = dict(zip(answers, update_marks(out / TABLE, answers, tasks)))
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    links = []
    for number_of_task, task in enumerate(tasks, 1):
        mine = [answer for answer in answers if answer.task == task.name]
        for part, start in enumerate(range(0, len(mine), ON_A_PAGE), 1):
            shown = mine[start : start + ON_A_PAGE]
            name = f"{number_of_task:02}-{part:02}.html"
            write_atomically(folder / name, task_page(task, shown, marks))
            left = sum(marks[answer].points is None for answer in shown)
            links.append(
                f'<a href="{name}">{esc(task.name)}</a>, {who(shown[0].student)} to {who(shown[-1].student)}: '
                f"{left} of {len(shown)} left to mark"
            )
    says = (
        f"<p>Write points and comments into <code>{TABLE}</code>, save it, and run the same command with --resume.</p>"
    )
    write_atomically(folder / "index.html", page("To mark by hand", f"<h1>To mark by hand</h1>{says}{bullets(links)}"))


def task_page(task: Task, answers: Sequence[Answer], marks: Mapping[Answer, Mark]) -> bytes:
    """Return a page with what these students have put into a task's cell."""
    parts = [f"<h1>{esc(task.name)}, {number(task.of)} points</h1>"]
    if task.asks:
        parts.append(f"<pre>{esc(shortened(task.asks))}</pre>")
    for answer in answers:
        mark = marks[answer]
        given = "Not marked yet" if mark.points is None else f"{number(mark.points)} of {number(mark.of)}"
        changed = " The answer has changed since it was marked." if mark.answer != answer.digest else ""
        note = f'<p class="soft">{in_words(answer.note)}</p>' if answer.note else ""
        parts.append(f"<section><h2>{who(answer.student)}</h2><p>{given}. {esc(mark.comment)}{changed}</p>{note}")
        parts += [f"<pre>{esc(text)}</pre>" for text in (answer.text, answer.outputs) if text.strip()]
        parts += [
            f'<img alt="A picture in the answer of {esc(answer.student[:120])}" '
            f'loading="lazy" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
            for picture in answer.pictures
        ]
        parts.append("</section>")
    return page(f"{task.name}: to mark by hand", "\n".join(parts))
