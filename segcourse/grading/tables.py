"""The tables that are made from the records: grades.csv, and what Gradescope, Canvas, Moodle and nbgrader take.

Names, files' names and notes come from strangers. Every cell is quoted; control characters are taken out; a cell that a
spreadsheet would take for a formula gets a leading apostrophe (OWASP, "CSV Injection"). The same records give the same
bytes, and a file is the old one or the new one at every moment.

What was not graded (no notebook, unreadable, failed) has no marks in the tables: the cells are left empty, the status
says why, and a teacher decides.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcourse import exercises
from segcourse.exercises.exercise import Misconception
from segcourse.exercises.judge import Outcome
from segcourse.exercises.render import COLOURS, SIGNS, Card, Grid
from segcourse.grading.intake import safe_name
from segcourse.grading.results import Record, Result
from segcourse.home import write_atomically

UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What begins a formula in a spreadsheet, or hides one; the wide forms are taken for the plain ones in some."""

Row = Sequence[str]


@dataclass(frozen=True)
class Mark:
    """What a person gave for one task of one student."""

    student: str
    task: str
    points: float | None
    """None until somebody has marked it."""
    of: float
    comment: str = ""
    answer: str = ""
    """Stands for the answer that was marked; see `by_hand`."""
    identifier: str = ""
    """The LMS's number for the student, where the files' names held one."""


Marks = Mapping[str, Sequence[Mark]]
"""The marks by hand of each student; for whom there is an empty sequence, the answers are not listed yet."""


@dataclass(frozen=True)
class Filled:
    """What became of the students when a table was filled in."""

    column: str
    """Where the marks stand."""
    graded: tuple[str, ...] = ()
    """Who has a mark there now."""
    ungraded: tuple[str, ...] = ()
    """Who has a row and no mark, because nothing was graded."""
    lacking: tuple[str, ...] = ()
    """Who has no row, or several that may be meant."""


class TableError(ValueError):
    """A table that was given cannot be used; the message says why and what to do."""


# --- words that several tables and pages share ---------------------------------------------------------------


def plain(text: str) -> str:
    """Return a text that can be shown anywhere, with a question mark (�) for what could do harm.

    That is lone surrogates, control characters but line ends and tabs, and what turns the direction of writing round
    (`gpj.exe` shown as `exe.jpg`): Unicode Technical Report 36.
    """
    return UNFIT.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def number(value: float) -> str:
    """Write points: 3, 2.5."""
    return f"{value:g}"


def status_of(record: Record) -> str:
    """Return one word for a record: `graded`, `late`, or why it was not graded."""
    return "late" if record.status == "graded" and record.late else record.status


def outcome_of(result: Result) -> str:
    """Return what came out, with the diagnosis if there is one: `not yet: adds_kernels`."""
    return f"{result.outcome}: {result.diagnosis}" if result.diagnosis else result.outcome


def misconception_of(lesson: str, exercise: str, name: str) -> Misconception | None:
    """Return a misconception by its exercise and id; None if the course no longer has it."""
    try:
        known = exercises.lesson(lesson).exercises
    except KeyError:
        return None
    return next((m for e in known if e.name == exercise for m in e.misconceptions if m.id == name), None)


def card_of(result: Result) -> Card:
    """Make of a result the card that the student reads. Its sign and colour come from the outcome alone."""
    sign = SIGNS.get(result.outcome, "–")  # type: ignore[call-overload]
    colour = COLOURS.get(result.outcome, "#767676")  # type: ignore[call-overload]
    kept = result.card
    if not kept:
        lines = {
            str(Outcome.NOT_ATTEMPTED): ["The function still returns the dots of the starter."],
            "missing": [f"There is no function called `{result.name}` in the notebook."],
        }.get(result.outcome, [])
        return Card(f"{result.name}: {result.outcome} (0 of {result.of})", sign, colour, lines)
    return Card(
        headline=plain(kept["headline"]),
        sign=sign,
        colour=colour,
        lines=[plain(line) for line in kept.get("lines", ())],
        grids=[
            Grid(plain(grid["title"]), [[plain(cell) for cell in row] for row in grid["rows"]], grid["wrong"])
            for grid in kept.get("grids", ())
        ],
        after=[plain(line) for line in kept.get("after", ())],
        code=plain(kept.get("code", "")),
    )


def summary(record: Record) -> list[str]:
    """Put a record into a few lines for the student."""
    lines = [f"Status: {status_of(record)}."]
    for result in record.results if record.status == "graded" else ():
        found = misconception_of(record.lesson, result.name, result.diagnosis)
        says = f"{found.says} Read again: “{found.see}”." if found else reason_of(result)
        lines.append(f"{result.name}: {result.outcome} ({result.points} of {result.of}). {says}".rstrip())
    return [*lines, *map(plain, notes_of(record))]


NO_REASON = ("Right on ", "The simplest case ", "The case: ")
"""How the lines of a card begin that say where an answer fails, not in what."""


def reason_of(result: Result) -> str:
    """Return the card's line that says in what a wrong answer fails: it raised an error, it is too large."""
    if result.outcome != Outcome.NOT_YET:
        return ""
    return next((line for line in card_of(result).lines if not line.startswith(NO_REASON)), "")


def notes_of(record: Record) -> list[str]:
    """Return the notes without those that only repeat that a function is missing, which its result says."""
    repeated = [f"There is no function called `{r.name}`." for r in record.results if r.outcome == "missing"]
    return [note for note in record.notes if record.status != "graded" or note not in repeated]


def in_words(text: str) -> str:
    """Return a text as HTML, with what stands between backquotes as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(plain(text)))


def bare(text: str) -> str:
    """Return a text without the backquotes around code, for where they would be seen."""
    return re.sub("`([^`]+)`", r"\1", text)


def file_names(students: Iterable[str]) -> dict[str, str]:
    """Return for each student a name for a file, without ending: safe on every system, and no two alike."""
    names: dict[str, str] = {}
    for student in sorted(set(students)):
        names[student] = safe_name(plain(student), names.values())
    return names


def title_of(lesson: str) -> str:
    """Return a lesson's number and title: `01 Receptive-field arithmetic`."""
    try:
        return f"{lesson[:2]} {exercises.lesson(lesson).title}"
    except KeyError:
        return lesson


# --- CSV -----------------------------------------------------------------------------------------------------


def cell(value: str | float) -> str:
    """Return what stands in a cell; text that a spreadsheet would run gets a leading apostrophe."""
    if not isinstance(value, str):
        return number(value)
    text = re.sub(r"[\r\n\t]+", " ", plain(value))
    return f"'{text}" if text.lstrip().startswith(FORMULA) or value.startswith(FORMULA) else text


def csv_bytes(rows: Iterable[Iterable[str | float]], bom: bool = False) -> bytes:
    """Return rows as CSV: commas, everything quoted, UTF-8, lines as RFC 4180 has them."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode("utf-8-sig" if bom else "utf-8")


def read_table(data: bytes) -> list[list[str]]:
    """Read a CSV file that a spreadsheet or an LMS may have written: with commas, semicolons or tabs, UTF-8 or not.

    Raises:
        TableError: if it cannot be read as a table.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    try:
        return [row for row in csv.reader(io.StringIO(text.replace("\0", ""), newline=""), delimiter=separator) if row]
    except csv.Error as error:
        raise TableError(f"the table cannot be read ({error}). Save it as CSV, UTF-8.") from None


def read_template(path: Path) -> list[list[str]]:
    """Read an LMS's own table, to be filled.

    Raises:
        TableError: if it cannot be read.
    """
    try:
        rows = read_table(path.read_bytes())
    except OSError as error:
        raise TableError(f"{path.name} cannot be read ({error.strerror}). Export it again.") from None
    if not rows:
        raise TableError(f"{path.name} is empty. Export it again.")
    width = len(rows[0])
    return [(row + [""] * width)[:width] for row in rows]


# --- grades.csv ----------------------------------------------------------------------------------------------


def write_grades(path: Path, records: Sequence[Record], by_hand: Marks | None = None) -> None:
    """Write one row a student.

    The file begins with a byte order mark: Excel takes a CSV file without one to be in the machine's 8-bit encoding and
    shows every ü wrongly. Python (`utf-8-sig`), R, LibreOffice and Google Sheets skip it.

    Args:
        path: where to.
        records: one of each student.
        by_hand: the points given by hand, if a person marks something in this lesson.
    """
    names = list(dict.fromkeys(result.name for record in records for result in record.results))
    head = ["student", "file", "status", "points", "of", "late", *names, *(f"{name}: outcome" for name in names)]
    table: list[list[str | float]] = [[*head, "by hand", "by hand of", "total", "notes"]]
    for record in records:
        results = {result.name: result for result in record.results}
        graded = record.status == "graded"
        marks = (by_hand or {}).get(record.student, ())
        given, of_hand = hand(by_hand, record.student)
        table.append(
            [
                record.student,
                record.file,
                status_of(record),
                record.points if graded else "",
                record.of,
                "yes" if record.late else "",
                *(results[name].points if name in results and graded else "" for name in names),
                *(outcome_of(results[name]) if name in results and graded else "" for name in names),
                given if any(mark.points is not None for mark in marks) else "",
                of_hand if marks else "",
                total(record, by_hand) if graded else "",
                bare(" ".join(record.notes)),
            ]
        )
    write_atomically(path, csv_bytes(table, bom=True))


def hand(by_hand: Marks | None, student: str) -> tuple[float, float]:
    """Return the points given by hand so far, and of how many."""
    marks = (by_hand or {}).get(student, ())
    return sum(mark.points or 0.0 for mark in marks), sum(mark.of for mark in marks)


def total(record: Record, by_hand: Marks | None) -> float:
    """Return all points of a student, those given by hand included."""
    return record.points + hand(by_hand, record.student)[0]


def most(record: Record, by_hand: Marks | None) -> float:
    """Return how many points there are to earn in all."""
    return record.of + hand(by_hand, record.student)[1]


# --- for other systems ---------------------------------------------------------------------------------------


def write_exports(folder: Path, records: Sequence[Record], by_hand: Marks | None = None) -> None:
    """Write all exports that need no table of another system: Gradescope's, Canvas's, Moodle's, nbgrader's."""
    folder.mkdir(parents=True, exist_ok=True)
    write_gradescope(folder / "gradescope", records, by_hand)
    write_canvas(folder / "canvas.csv", records, by_hand=by_hand)
    write_moodle(folder / "moodle.csv", records, by_hand=by_hand)
    write_nbgrader(folder / "nbgrader.csv", records, by_hand)


def write_gradescope(folder: Path, records: Sequence[Record], by_hand: Marks | None = None) -> None:
    """Write `STUDENT/results.json` for each student, as Gradescope's autograders leave it.

    Source: "Autograder Specifications", https://gradescope-autograders.readthedocs.io/en/latest/specs/
    """
    names = file_names(record.student for record in records)
    for record in records:
        tests: list[dict[str, str | float]] = [
            {
                "name": result.name,
                "score": result.points,
                "max_score": result.of,
                "status": "passed" if result.outcome == Outcome.CORRECT else "failed",
                "output": card_of(result).text(),
                "output_format": "text",
                "visibility": "visible",
            }
            for result in record.results
        ]
        for mark in (by_hand or {}).get(record.student, ()):
            says = plain(mark.comment) if mark.points is not None else "It is not marked yet."
            name = f"{mark.task} (by hand)"
            tests.append({"name": name, "score": mark.points or 0.0, "max_score": mark.of, "output": says})
        content = {
            "score": total(record, by_hand),
            "output": "\n".join([f"Status: {status_of(record)}.", *(bare(plain(note)) for note in notes_of(record))]),
            "output_format": "text",
            "test_output_format": "text",
            "test_name_format": "text",
            "visibility": "visible",
            "stdout_visibility": "hidden",
            "tests": tests,
        }
        place = folder / names[record.student]
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / "results.json", json.dumps(content, indent=1) + "\n")


def write_nbgrader(path: Path, records: Sequence[Record], by_hand: Marks | None = None) -> None:
    """Write the table that `nbgrader export` writes. When a file was handed in, we do not know: those cells are empty.

    Source: nbgrader 0.9.6, `nbgrader/plugins/export.py`, CsvExportPlugin.
    """
    head = ["assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"]
    table = [[*head, "raw_score", "late_submission_penalty", "score", "max_score"]]
    for record in records:
        score = str(float(total(record, by_hand))) if record.status == "graded" else ""
        of = str(float(most(record, by_hand)))
        table.append([record.lesson, "", "", record.student, "", "", "", score, score and "0.0", score, of])
    write_atomically(path, csv_bytes(table))


def write_canvas(
    path: Path,
    records: Sequence[Record],
    template: Path | None = None,
    by_hand: Marks | None = None,
    column: str = "",
) -> Filled:
    """Write a table that Canvas's gradebook imports.

    Canvas finds a student by `ID`, its own number, which the names of the files that it hands out hold; then by the
    login; then by the name. It needs the columns up to `Section`, and takes the rest for assignments, by the number in
    brackets; columns that are left out stay as they are. Without a template it offers to make a new assignment.

    Source: instructure/canvas-lms, `lib/gradebook_importer.rb` (`row_has_student_headers?`, `process_student`).

    Args:
        path: where to.
        records: one of each student.
        template: the gradebook as exported from Canvas; its columns up to `Section` and the column of this lesson are
            kept, as they are but for the grades.
        by_hand: the points given by hand.
        column: the name of the lesson's column in the template; found by `column_of` if it is empty.

    Returns:
        Who was filled in.

    Raises:
        TableError: if the template is no gradebook, or not one column fits.
    """
    lesson = records[0].lesson if records else ""
    of = max((most(record, by_hand) for record in records), default=0.0)
    if template is None:
        title = title_of(lesson)
        table: list[list[str]] = [["Student", "ID", "SIS Login ID", "Section", title]]
        table.append(["    Points Possible", "", "", "", number(of)])
        for record in records:
            login = "" if record.identifier else record.student
            table.append([record.student, record.identifier, login, "", grade_of(record, by_hand)])
        write_atomically(path, csv_bytes(table))
        return filled(title, records, ())
    rows = read_template(template)
    head = rows[0]
    if head[0] != "Student" or "ID" not in head or "Section" not in head:
        raise TableError(f"{template.name} lacks Student, ID or Section: export the gradebook from Canvas again.")
    start = head.index("Section") + 1
    chosen = column_of(head, start, lesson, column, template)
    kept = [[*row[:start], row[chosen]] for row in rows]
    for row in kept:
        if "Points Possible" in row[0]:
            check_most(row[-1], of, template)
    students = [row for row in kept[1:] if "Points Possible" not in row[0] and any(c.strip() for c in row[:start])]
    found, lacking = match(records, [dict(zip(head, row[:start])) for row in students])
    for index, record in found.items():
        students[index][-1] = grade_of(record, by_hand) or students[index][-1]
    write_atomically(path, untouched_bytes(kept))
    return filled(head[chosen], found.values(), lacking)


CANVAS_NUMBER = re.compile(r"\s*\(\d+\)\s*$")
"""What Canvas writes behind an assignment's name: `Lesson 01 (88123)`."""


def column_of(head: Row, start: int, lesson: str, asked: str, template: Path) -> int:
    """Return which column of a gradebook is the lesson's.

    It is the one that was asked for, with or without its number. Otherwise it is the one assignment whose name holds
    the lesson's title or stem, or else its number: `01`, or `Lesson 1`.

    Raises:
        TableError: if none fits, or several do.
    """
    assignments = [i for i in range(start, len(head)) if CANVAS_NUMBER.search(head[i])]
    names = {i: CANVAS_NUMBER.sub("", head[i]).strip().casefold() for i in assignments}
    if asked:
        exact = [i for i in range(start, len(head)) if head[i].strip() == asked.strip()]
        fitting = exact or [i for i in assignments if names[i] == asked.strip().casefold()]
    else:
        titles = [title.casefold() for title in (title_of(lesson)[3:], lesson) if title]
        numbered = rf"(?<![\d.]){lesson[:2]}(?![\d.])|\blesson\W*{lesson[:2].lstrip('0') or '0'}(?![\d.])"
        fitting = [i for i in assignments if any(title in names[i] for title in titles)]
        fitting = fitting or [i for i in assignments if lesson and re.search(numbered, names[i])]
    if len(fitting) == 1:
        return fitting[0]
    known = "; ".join(head[i].strip() for i in fitting or assignments) or "none"
    example = head[(fitting or assignments)[0]].strip() if assignments else "NAME (NUMBER)"
    if fitting:
        says = f"several columns of {template.name} may be meant: {known}"
    elif asked:
        says = f"{template.name} has no column {asked}; its assignments: {known}"
    else:
        says = (
            f"no column of {template.name} has the name or the number of {title_of(lesson)}; its assignments: {known}"
        )
    if not assignments:
        raise TableError(f"{says}. Make the assignment in Canvas and export the gradebook again.")
    raise TableError(f'{says}. Say which: --column "{example}".')


def filled(column: str, found: Iterable[Record], lacking: Iterable[str]) -> Filled:
    """Return what became of whom."""
    found = sorted(found, key=lambda record: record.student)
    graded = tuple(record.student for record in found if record.status == "graded")
    return Filled(
        column, graded, tuple(record.student for record in found if record.status != "graded"), tuple(lacking)
    )


def write_moodle(
    path: Path, records: Sequence[Record], template: Path | None = None, by_hand: Marks | None = None
) -> Filled:
    """Write the "grading worksheet" that Moodle's assignment imports (feedback type "Offline grading worksheet").

    Moodle reads the columns Identifier (`Participant 4711`, a number that the names of the files that it hands out
    hold), Grade, Last modified (grade) and Feedback comments; a row without a known Identifier is passed over. It
    takes feedback for HTML, so it is escaped.

    Source: moodle/moodle, `mod/assign/feedback/offline/importgradeslib.php` (`init`, `next`).

    Args:
        path: where to.
        records: one of each student.
        template: the worksheet as downloaded from Moodle, in English; grades and feedback are filled in. Moodle then
            knows which grades were changed since, and keeps those.
        by_hand: the points given by hand.

    Returns:
        Who was filled in; without a template, those lack a row whose Identifier is not known.

    Raises:
        TableError: if the template is no such worksheet.
    """
    if template is None:
        head = ["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade", "Grade can be changed"]
        table: list[list[str]] = [[*head, "Last modified (submission)", "Last modified (grade)", "Feedback comments"]]
        for record in records:
            of = number(most(record, by_hand))
            who = f"Participant {record.identifier}" if record.identifier else ""
            grade, says = grade_of(record, by_hand), feedback_html(record)
            table.append([who, record.student, "", status_of(record), grade, of, "Yes", "-", "-", says])
        write_atomically(path, csv_bytes(table))
        known = [record for record in records if record.identifier]
        return filled("Grade", known, [record.student for record in records if not record.identifier])
    rows = read_template(template)
    head = rows[0]
    needed = ("Identifier", "Grade", "Last modified (grade)")
    if any(name not in head for name in needed):
        raise TableError(
            f"{template.name} lacks a column of {', '.join(needed)}: set Moodle's language to English and download "
            "the grading worksheet again."
        )
    if "Maximum Grade" in head and records:
        for row in rows[1:]:
            check_most(row[head.index("Maximum Grade")], max(most(r, by_hand) for r in records), template)
    full_names = [row[head.index("Full name")] if "Full name" in head else "" for row in rows[1:]]
    numbers = [re.sub(r"\D", "", row[head.index("Identifier")]) for row in rows[1:]]
    found, lacking = match(records, [{"ID": n, "Student": name} for n, name in zip(numbers, full_names)])
    for index, record in found.items():
        row = rows[1 + index]
        row[head.index("Grade")] = grade_of(record, by_hand) or row[head.index("Grade")]
        if "Feedback comments" in head:
            row[head.index("Feedback comments")] = feedback_html(record)
    write_atomically(path, untouched_bytes(rows))
    return filled("Grade", found.values(), lacking)


def check_most(said: str, of: float, template: Path) -> None:
    """Refuse a table whose assignment gives another number of points: 9 of 13 would be read as 9 of 100.

    Raises:
        TableError: if it does.
    """
    found = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*", said)
    if found and float(found[1].replace(",", ".")) != of:
        raise TableError(
            f"in {template.name} the assignment gives {found[1]} points, the lesson {number(of)}: set the "
            f"assignment's points to {number(of)} and export the table again."
        )


def grade_of(record: Record, by_hand: Marks | None) -> str:
    """Return a grade, or nothing for what was not graded: an empty cell is seen, a zero is believed."""
    return number(total(record, by_hand)) if record.status == "graded" else ""


def feedback_html(record: Record) -> str:
    """Return the summary as HTML in one line."""
    return "<br>".join(re.sub(r"\s+", " ", in_words(line)) for line in summary(record))


def untouched_bytes(rows: Iterable[Row]) -> bytes:
    """Return an LMS's own rows as CSV; its cells stay as they are, or it would not know its students again."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode()


def match(records: Sequence[Record], rows: Sequence[Mapping[str, str]]) -> tuple[dict[int, Record], list[str]]:
    """Find each record's row: by the LMS's number, by login, by name.

    Names are compared as they stand, then without the order of their words (`Schmidt, Anna` is `Anna Schmidt`), then
    without blanks, then without accents. The first comparison that some row fits decides. Where it fits several rows,
    or several students fit one row, nothing is guessed.

    Returns:
        The records by the row's index, and the students without a row.
    """
    steps: list[dict[str, set[int]]] = []
    for index, row in enumerate(rows):
        logins = {row.get("SIS Login ID", ""), row.get("SIS User ID", "")}
        keys = [{row.get("ID", "").strip()}, logins, *({key} for key in names_of(row.get("Student", "")))]
        steps = steps or [defaultdict(set) for _ in keys]
        for known, texts in zip(steps, keys):
            for text in texts - {""}:
                known[text].add(index)
    claims: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        keys_of_record = [record.identifier, record.student, *names_of(record.student)]
        for step, (known, text) in enumerate(zip(steps, keys_of_record)):
            fitting = known.get(text, set())
            if len(fitting) == 1:
                claims[step, min(fitting)].append(record)
            if fitting:
                break
    found: dict[int, Record] = {}
    for (_, index), claiming in sorted(claims.items(), key=lambda item: item[0]):
        if index not in found and len(claiming) == 1:
            found[index] = claiming[0]
    matched = {record.student for record in found.values()}
    return found, [record.student for record in records if record.student not in matched]


def names_of(name: str) -> list[str]:
    """Return what of a name is compared, the strictest first.

    A name of one word may be all that an LMS has left of one in a file's name: `doejane` for `Doe, Jane`.
    """
    text = unicodedata.normalize("NFC", name).casefold().strip()
    without = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    forms = [text]
    for letters in (text, without):
        words = re.findall(r"[^\W_]+", letters)
        forms += [" ".join(sorted(words)), "".join(words)]
    return forms
