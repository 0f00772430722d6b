"""The pages that are made from the records: feedback for each student, a report of the class for the teacher.

Each page is one file of HTML: no script, nothing loaded from anywhere, and a Content-Security-Policy that would stop
both. Whatever comes from a submission (names, notes, printed text) is escaped by `esc`, the only way into a page.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from segcourse import exercises
from segcourse.exercises.exercise import Exercise
from segcourse.exercises.judge import Outcome
from segcourse.exercises.render import COLOURS
from segcourse.grading.answers import shape_in
from segcourse.grading.grade import sha256
from segcourse.grading.results import Record, Result
from segcourse.grading.sandbox import Isolation
from segcourse.grading.tables import (
    Marks,
    card_of,
    file_names,
    in_words,
    misconception_of,
    most,
    notes_of,
    number,
    plain,
    status_of,
    title_of,
    total,
)
from segcourse.home import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Link = Callable[[str], str]
"""Makes of a student a link to the feedback page."""

SAME_TEXT_SIZE = 60
"""Of so many syntax nodes an answer must consist before it is remarkable that two are the same.

The course's own answers have about 10 to 220 nodes. An answer of fewer than 60, two or three lines, has few ways to be
written; where it is right and follows the last hint, fewer still.
"""
SAME_TOGETHER = 100
"""Of so many syntax nodes several short answers together must consist; each answer must be shared by few students."""
OUTCOMES = ("correct", "not yet", "not attempted", "missing")
MISSING_COLOUR = "#CCCCCC"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #666; --line: #ddd; --blue: #0072B2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a5a5a5; --line: #3a3d41; --blue: #56B4E9; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2em 1em 3em; max-width: 54em; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5em; line-height: 1.25; margin: 0 0 .3em; }
h2 { font-size: 1.15em; margin: 2em 0 .5em; padding-top: .6em; border-top: 1px solid var(--line); }
h3 { font-size: 1em; margin: 1.4em 0 .3em; }
p, ul { margin: .5em 0; }
ul { padding-left: 1.3em; }
li { margin: .25em 0; }
a { color: var(--blue); }
bdi { unicode-bidi: isolate; }
img { max-width: 100%; height: auto; border-radius: 4px; display: block; margin: .6em 0; }
code, pre { font-size: .92em; }
pre { white-space: pre-wrap; border: 1px solid var(--line); border-radius: 4px; padding: .5em .7em; }
[role=status] { overflow-x: auto; unicode-bidi: isolate; }
[role=status] table { overflow-wrap: normal; }
.soft { color: var(--soft); font-size: .92em; }
.big { font-size: 1.9em; line-height: 1.2; margin: .4em 0 0; }
.meter { height: .6em; border-radius: .3em; background: var(--line); margin: .4em 0 1em; overflow: hidden; }
.meter div { height: 100%; background: #009E73; }
.late { border: 1px solid #E69F00; border-radius: 4px; padding: 0 .4em; font-size: .6em; vertical-align: middle; }
.wide { overflow-x: auto; }
.wide img { max-width: min(100%, 46em); }
summary { cursor: pointer; margin: .6em 0; }
.facts { display: flex; flex-wrap: wrap; gap: .6em 2em; padding: 0; list-style: none; }
.facts b { display: block; font-size: 1.5em; line-height: 1.2; }
table.list { border-collapse: collapse; width: 100%; overflow-wrap: normal; }
.list th, .list td { text-align: left; vertical-align: top; padding: .3em .8em .3em 0;
  border-bottom: 1px solid var(--line); }
.list .n { text-align: right; white-space: nowrap; }
@media (max-width: 40em) {
  .list { font-size: .86em; }
  .list th, .list td { padding-right: .5em; }
  .list th.n { white-space: normal; }
  .list td:first-child { overflow-wrap: anywhere; min-width: 6.5em; }
  .texts tr { display: flex; flex-wrap: wrap; border-bottom: 1px solid var(--line); }
  .list.texts th, .list.texts td { border: 0; flex: 0 0 6em; }
  .list.texts :first-child { flex: 1 0 6em; }
  .list.texts :last-child { flex: 1 0 100%; overflow-wrap: anywhere; }
  .list.texts :last-child:empty { display: none; }
}
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  section, tr, img { break-inside: avoid; } h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def esc(text: str) -> str:
    """Return a text as HTML that shows just this text."""
    return html.escape(plain(text))


def who(name: str, most_letters: int = 120) -> str:
    """Return a stranger's name as HTML: it cannot turn round what is written beside it, nor fill the page."""
    return f"<bdi>{esc(name if len(name) <= most_letters else name[:most_letters] + '…')}</bdi>"


def page(title: str, body: str) -> bytes:
    """Return a whole page; its body is HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">\n'
        f"<title>{esc(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    ).encode()


def bullets(items: Iterable[str]) -> str:
    """Return a list; its items are HTML already."""
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def write_pages(out: Path, records: Sequence[Record], lesson: str, by_hand: Marks | None = None) -> None:
    """Write `feedback/STUDENT.html` for each student, and `report.html`.

    Args:
        out: the output folder.
        records: one of each student.
        lesson: the stem, such as `01_receptive_field`.
        by_hand: the marks given by hand.
    """
    names = file_names(record.student for record in records)
    folder = out / "feedback"
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        write_atomically(folder / f"{names[record.student]}.html", feedback(record, by_hand))
    write_atomically(out / "report.html", report(records, lesson, names, by_hand))


# --- feedback for a student ----------------------------------------------------------------------------------


def feedback(record: Record, by_hand: Marks | None = None) -> bytes:
    """Return a student's page."""
    title = title_of(record.lesson)
    late = ' <span class="late">handed in late</span>' if record.late else ""
    parts = [f"<h1>{esc(title)}</h1>", f'<p class="soft">{who(record.student)} · {who(record.file or "no file")}</p>']
    if record.status == "graded":
        points, of = total(record, by_hand), most(record, by_hand)
        parts += [
            f'<p class="big">{number(points)} of {number(of)} points{late}</p>',
            f'<div class="meter"><div style="width:{100 * points / of if of else 0:.1f}%"></div></div>',
        ]
    else:
        why = {
            "unreadable": "Your file could not be read as a notebook, so nothing in it was graded.",
            "no notebook": "No notebook was found, so nothing was graded.",
        }.get(record.status, "Your notebook could not be graded. The fault is not yours; your teacher knows of it.")
        parts.append(f'<p class="big">Not graded{late}</p><p>{why}</p>')
    marks = (by_hand or {}).get(record.student, ())
    if any(mark.points is None for mark in marks):
        parts.append("<p>Some answers are still to be marked by hand: their points are not in yet.</p>")
    lost = lost_functions(record)
    notes = [note for note in record.notes if note not in lost.values()]
    if notes:
        parts.append("<h2>About your file</h2>" + bullets(map(in_words, notes)))
    if record.status == "graded":
        parts.append("<h2>Your answers</h2>")
        if any(result.diagnosis for result in record.results):
            parts.append(f'<p class="soft">“Read again” names a heading of the lesson, {esc(record.lesson)}.ipynb.</p>')
        parts += [section_of(record, result) for result in record.results]
    if marks:
        parts.append("<h2>Marked by hand</h2>")
        for mark in marks:
            given = "not marked yet" if mark.points is None else f"{number(mark.points)} of {number(mark.of)}"
            parts.append(f"<p><b>{esc(mark.task)}</b>: {given}. {esc(mark.comment)}</p>")
    if record.status == "graded":
        parts.append(
            '<p class="soft">What decides is how your functions answer to many inputs. The inputs shown here are '
            "others, so do not write your answer for them alone.</p>"
        )
    return page(f"{title}: feedback", "\n".join(parts))


def lost_functions(record: Record) -> dict[str, str]:
    """Return for each exercise without an answer the note that says so: it stands on the exercise's card, once."""
    names = [result.name for result in record.results if result.outcome == "missing" and record.status == "graded"]
    begin = "There is no function called `{}`"
    notes = {name: [n for n in record.notes if n.startswith(begin.format(name))] for name in names}
    return {name: found[0] for name, found in notes.items() if found}


def section_of(record: Record, result: Result) -> str:
    """Return what a student reads about one exercise: its title, where the answer was found, the card."""
    card = card_of(result)
    note = lost_functions(record).get(result.name)
    if note:
        card = dataclasses.replace(card, lines=[plain(note)])
    titles = {exercise.name: exercise.title for exercise in known_exercises(record.lesson)}
    where = f' <span class="soft">in cell {result.cell}</span>' if result.cell else ""
    return f"<section><h3>{esc(titles.get(result.name, result.name))}{where}</h3>{card.html()}</section>"


def known_exercises(lesson: str) -> Sequence[Exercise]:
    """Return a lesson's exercises; none if the course no longer has it."""
    return exercises.lesson(lesson).exercises if lesson in exercises.LESSONS else ()


# --- the report of a class -----------------------------------------------------------------------------------


def report(records: Sequence[Record], lesson: str, names: dict[str, str], by_hand: Marks | None = None) -> bytes:
    """Return the page for the teacher; `names` are those of the feedback pages."""
    graded = [record for record in records if record.status == "graded"]
    parts = [f"<h1>{esc(title_of(lesson))}: report of the class</h1>", facts(records, by_hand)]
    if graded:
        parts += [
            "<h2>Points</h2>",
            picture(*distribution(graded, by_hand)),
            "<h2>Exercises, the hardest first</h2>",
            picture(*by_outcome(graded)),
            outcome_table(graded, lesson),
            "<h2>What the class has misunderstood</h2>",
            misunderstood(graded, lesson),
        ]

    def link(student: str) -> str:
        return f'<a href="feedback/{quote(names[student])}.html">{who(student)}</a>'

    parts += ["<h2>Not graded</h2>", not_graded(records, link)]
    parts += ["<h2>To mark by hand</h2>", left_by_hand(by_hand)]
    parts += ["<h2>The same text</h2>", same_text(graded, lesson, link)]
    parts += ["<h2>Tampering</h2>", tampering(records, link)]
    parts += ["<h2>How this was graded</h2>", how(records)]
    parts += ["<h2>All students</h2>", all_students(records, link, by_hand)]
    return page(f"{title_of(lesson)}: report", "\n".join(parts))


def facts(records: Sequence[Record], by_hand: Marks | None) -> str:
    """Return the numbers that a teacher looks for first."""
    graded = [record for record in records if record.status == "graded"]
    points = [total(record, by_hand) for record in graded]
    shown: list[tuple[str, str]] = [(str(len(records)), "students"), (str(len(graded)), "graded")]
    shown.append((str(sum(record.late for record in records)), "late"))
    others = Counter(record.status for record in records if record.status != "graded")
    shown += [(str(count), status) for status, count in sorted(others.items())]
    if points:
        of = number(max(most(record, by_hand) for record in graded))
        shown.append((f"{statistics.mean(points):.1f}", f"mean, of {of} points"))
        shown.append((number(statistics.median(points)), "median"))
    return '<ul class="facts">' + "".join(f"<li><b>{esc(n)}</b> {esc(what)}</li>" for n, what in shown) + "</ul>"


def outcome_table(graded: Sequence[Record], lesson: str) -> str:
    """Return how many came to which outcome, as a table."""
    counts = outcomes_of(graded)
    titles = {exercise.name: exercise.title for exercise in known_exercises(lesson)}
    rows = [
        [f"<code>{esc(name)}</code> {esc(titles.get(name, ''))}", *(str(counts[name][o]) for o in OUTCOMES)]
        for name in hardest_first(counts)
    ]
    return table(["exercise", *OUTCOMES], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """Return a table; the cells are HTML already, and those after the first `texts` hold numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = ["" if i < texts else ' class="n"' for i in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{kind}>{c}</{tag}>" for c, kind in zip(cells, kinds)) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    kind = "list texts" if texts == len(head) else "list"
    return f'<div class="wide"><table class="{kind}">{line(list(map(esc, head)), "th")}{body}</table></div>'


def outcomes_of(graded: Sequence[Record]) -> dict[str, Counter[str]]:
    """Return for each exercise how often each outcome occurs."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in graded:
        for result in record.results:
            counts[result.name][result.outcome] += 1
    return counts


def hardest_first(counts: dict[str, Counter[str]]) -> list[str]:
    """Order exercises by how many have them right, the fewest first; equals stay in the lesson's order."""
    return sorted(counts, key=lambda name: counts[name]["correct"])


def misunderstood(graded: Sequence[Record], lesson: str) -> str:
    """Return the misconceptions by how many hold them, with the words that their holders read."""
    held = Counter((r.name, r.diagnosis) for record in graded for r in record.results if r.diagnosis)
    unnamed = sum(r.outcome == Outcome.NOT_YET and not r.diagnosis for record in graded for r in record.results)
    none = "shows none" if unnamed == 1 else "show none"
    rest = f"<p>{plural(unnamed, 'wrong answer')} {none} of the mistakes that the course knows.</p>" if unnamed else ""
    if not held:
        return "<p>No answer shows a mistake that the course knows by name.</p>" + rest
    order = sorted(held, key=lambda key: (-held[key], key))
    plot = picture(*by_misconception([(f"{name}: {what}", held[name, what]) for name, what in order]))
    items = []
    for name, diagnosis in order:
        found = misconception_of(lesson, name, diagnosis)
        says = f'<br>{in_words(found.says)} <span class="soft">Heading: “{esc(found.see)}”.</span>' if found else ""
        items.append(f"<b>{held[name, diagnosis]}</b> in <code>{esc(name)}</code>: {esc(diagnosis)}{says}")
    several = sum(held[key] > 1 for key in order)
    parts = [plot, bullets(items[:several]) if several else ""]
    if several < len(items):
        one = f"<summary>{plural(len(items) - several, 'mistake')} that one student shows</summary>"
        parts.append(f"<details>{one}{bullets(items[several:])}</details>")
    return "".join([*parts, rest])


def plural(count: int, word: str) -> str:
    """Return a count with its word: 1 mistake, 2 mistakes."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def not_graded(records: Sequence[Record], link: Link) -> str:
    """Return what could not be read or run, and why."""
    rows = [
        [link(r.student), esc(status_of(r)), " ".join(map(in_words, r.notes))] for r in records if r.status != "graded"
    ]
    return table(["student", "status", "why"], rows, texts=3) if rows else "<p>Everything handed in was graded.</p>"


def all_students(records: Sequence[Record], link: Link, by_hand: Marks | None) -> str:
    """Return a row for each student: points, status, what the notes say, and a link to the feedback."""
    rows = []
    for record in records:
        graded = record.status == "graded"
        points = number(total(record, by_hand)) if graded else ""
        missing = [f"`{result.name}`" for result in record.results if graded and result.outcome == "missing"]
        notes = [f"Missing: {', '.join(missing)}.", *notes_of(record)] if missing else notes_of(record)
        late = "late" if record.late else ""
        rows.append([link(record.student), points, esc(record.status), late, " ".join(map(in_words, notes))])
    of = {number(most(record, by_hand)) for record in records}
    points_of = f"points of {of.pop()}" if len(of) == 1 else "points"
    return table(["student", points_of, "status", "late", "notes"], rows, texts=5)


def left_by_hand(by_hand: Marks | None) -> str:
    """Return how much is left to mark by hand."""
    if not by_hand:
        return "<p>Nothing in this lesson is marked by hand.</p>"
    left: Counter[str] = Counter()
    for mark in (mark for marks in by_hand.values() for mark in marks):
        left[mark.task] += mark.points is None
    parts = []
    if left:
        parts.append('<p>The answers: <a href="by_hand/index.html">by_hand/index.html</a>. The marks: by_hand.csv.</p>')
        parts.append(bullets(f"{esc(task)}: {count} left" for task, count in sorted(left.items())))
    unlisted = sum(not marks for marks in by_hand.values())
    if unlisted:
        how = "grade everything that was handed in with --resume and without --shard."
        parts.append(f"<p>{plural(unlisted, 'student')} not listed yet: {how}</p>")
    return "".join(parts)


@dataclass(frozen=True)
class Same:
    """Students whose answers to an exercise are one text."""

    exercise: str
    outcome: str
    students: tuple[str, ...]


def same_files(graded: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return the groups of students who handed in the same file, byte for byte; one without answers is none."""
    groups: dict[str, list[str]] = defaultdict(list)
    for record in graded:
        if record.file_hash and any(r.outcome in (Outcome.CORRECT, Outcome.NOT_YET) for r in record.results):
            groups[record.file_hash].append(record.student)
    return sorted(tuple(students) for students in groups.values() if len(students) > 1)


def shared_answers(graded: Sequence[Record], lesson: str) -> dict[tuple[str, str], dict[str, Result]]:
    """Return the texts that several students have, by exercise and fingerprint: the results by student.

    The course's own solution, which every student can have shown, is left out.
    """
    own = {e.name: sha256((shape_in(e.solution, e.name) or "").encode()) for e in known_exercises(lesson)}
    groups: dict[tuple[str, str], dict[str, Result]] = defaultdict(dict)
    for record in graded:
        for result in record.results:
            if result.fingerprint and result.fingerprint != own.get(result.name):
                groups[result.name, result.fingerprint][record.student] = result
    return {key: holders for key, holders in groups.items() if len(holders) > 1}


def same_answers(graded: Sequence[Record], lesson: str) -> list[Same]:
    """Return the groups of students whose answers are the same but for comments, blanks and docstrings.

    An answer of SAME_TEXT_SIZE syntax nodes or more counts by itself. Shorter ones count where two students share
    several, of SAME_TOGETHER nodes together; those that more than a quarter of the class (and more than three) have are
    left out, as the usual way to write them.
    """
    order = [exercise.name for exercise in known_exercises(lesson)]
    shared = shared_answers(graded, lesson)
    size = {key: next(iter(holders.values())).size for key, holders in shared.items()}
    found = [
        Same(key[0], next(iter(holders.values())).outcome, tuple(holders))
        for key, holders in shared.items()
        if size[key] >= SAME_TEXT_SIZE
    ]
    found.sort(key=lambda s: (order.index(s.exercise) if s.exercise in order else -1, s.students))
    few = max(3, len(graded) // 4)
    short: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for key, holders in shared.items():
        for student in holders if size[key] < SAME_TEXT_SIZE and len(holders) <= few else ():
            short[student].add(key)
    together: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    enough = [student for student in sorted(short) if sum(size[key] for key in short[student]) >= SAME_TOGETHER]
    for one, other in combinations(enough, 2):
        keys = short[one] & short[other]
        if sum(size[key] for key in keys) >= SAME_TOGETHER:
            students = tuple(student for student in sorted(short) if keys <= short[student])
            together[students] = max(keys, together.get(students, set()), key=len)
    for students, keys in sorted(together.items()):
        names = sorted(key[0] for key in keys)
        outcomes = sorted({shared[key][students[0]].outcome for key in keys})
        found.append(Same(", ".join(names), ", ".join(outcomes), students))
    return found


def same_text(graded: Sequence[Record], lesson: str, link: Link) -> str:
    """Return the groups of students with the same file or text, in words that accuse nobody."""
    files = same_files(graded)
    found = [
        same
        for same in same_answers(graded, lesson)
        if not any(set(same.students) <= set(students) for students in files)  # told already
    ]
    if not (files or found):
        return "<p>No two students have the same text, short answers and the course's own solution left out.</p>"
    rows = [["the whole file", "", ", ".join(map(link, students))] for students in files]
    rows += [
        [f"<code>{esc(same.exercise)}</code>", esc(same.outcome), ", ".join(map(link, same.students))] for same in found
    ]
    return (
        "<p>These files are the same, or these answers are the same text but for comments, blanks and docstrings. That "
        "proves nothing: people learn together, and look at the same pages. Left out are the course's own solution and "
        f"answers of fewer than {SAME_TEXT_SIZE} syntax nodes (two or three lines), unless several that few have come "
        f"to {SAME_TOGETHER}.</p>" + table(["exercise", "outcome", "students"], rows, texts=3)
    )


def tampering(records: Sequence[Record], link: Link) -> str:
    """Return what only somebody who wants to deceive does."""
    rows = [[link(record.student), " ".join(map(in_words, record.tampering))] for record in records if record.tampering]
    if not rows:
        return "<p>None was seen.</p>"
    return "<p>Look at the notebook before you speak of it: a broken program may look like this too.</p>" + table(
        ["student", "what was seen"], rows, texts=2
    )


FULL = Isolation(bubblewrap=True, namespaces=True, landlock=True, seccomp=True).leaves_open
OPEN_AT = {"limits": Isolation().leaves_open, "landlock": FULL, "namespaces": FULL, "bubblewrap": FULL}
"""What each level of isolation does not stop."""


def how(records: Sequence[Record]) -> str:
    """Return by what means the class was graded, and what those do not stop."""
    lines = [
        f"Submissions ran at isolation level <b>{esc(level)}</b>. {esc(OPEN_AT.get(level, ''))}"
        for level in sorted({record.level for record in records if record.level})
    ]
    versions = {", ".join(f"{name} {version}" for name, version in record.versions.items()) for record in records}
    lines += [f"Versions: {esc(version)}." for version in sorted(versions - {""})]
    keys = sorted({record.key_hash for record in records if record.key_hash})
    lines += [f"Key: <code>{esc(key[:16])}</code>" for key in keys]
    if len(keys) > 1:
        lines.append("<b>Students were judged by different keys: grade all of them again, with one seed file.</b>")
    return bullets(lines)


# --- plots ---------------------------------------------------------------------------------------------------


def picture(figure: Figure, alt: str) -> str:
    """Return a figure as HTML, with words for those who cannot see it."""
    from segcourse.plots import png

    source = base64.b64encode(png(figure)).decode()
    return f'<div class="wide"><img alt="{esc(alt)}" src="data:image/png;base64,{source}"></div>'


def new_figure(height: float) -> Figure:
    """Return an empty figure, 8 inches wide, so that its letters can still be read where a phone shows it small."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from segcourse.plots import use_style

    with rc_context():
        use_style()
        return Figure(figsize=(8, height), layout="constrained", facecolor="white")


def distribution(graded: Sequence[Record], by_hand: Marks | None) -> tuple[Figure, str]:
    """Draw how many students have how many points. Returns the figure and its words."""
    points = [total(record, by_hand) for record in graded]
    of = max(most(record, by_hand) for record in graded)
    counts = Counter(int(p) for p in points)
    figure = new_figure(3.6)
    axis = figure.subplots()
    places = range(int(of) + 1)
    axis.bar(places, [counts[p] for p in places], color="#0072B2", width=0.85)
    median = statistics.median(points)
    axis.axvline(median, color="#D55E00", linewidth=2, linestyle="--")
    axis.annotate(f"median {number(median)}", (median, 1.02), xycoords=("data", "axes fraction"), ha="center",
                  va="bottom", fontsize=13, color="#B34E00")  # fmt: skip
    tidy(axis)
    axis.set_xlabel("points", fontsize=14)
    axis.set_ylabel("students", fontsize=14)
    axis.set_xlim(-0.6, of + 0.6)
    axis.locator_params(integer=True)
    words = ", ".join(f"{p}: {counts[p]}" for p in places if counts[p])
    return figure, f"Students by points, of {number(of)}. {words}. The median is {number(median)}."


def by_outcome(graded: Sequence[Record]) -> tuple[Figure, str]:
    """Draw for each exercise which share of the class has it right. Returns the figure and its words."""
    counts = outcomes_of(graded)
    names = hardest_first(counts)
    figure = new_figure(1.3 + 0.5 * len(names))
    axis = figure.subplots()
    left = [0.0] * len(names)
    fills = {**{str(outcome): colour for outcome, colour in COLOURS.items()}, "missing": MISSING_COLOUR}
    for outcome in OUTCOMES:
        shares = [100 * counts[name][outcome] / len(graded) for name in names]
        axis.barh(names, shares, left=left, color=fills[outcome], label=outcome, edgecolor="white", linewidth=1)
        for place, (share, start) in enumerate(zip(shares, left)):
            if share >= 2:
                ink = "black" if outcome == "missing" else "white"
                axis.text(start + share / 2, place, f"{share:.0f}", ha="center", va="center", color=ink, fontsize=13)
        left = [start + share for start, share in zip(left, shares)]
    axis.invert_yaxis()
    tidy(axis)
    axis.set_xlim(0, 100)
    axis.set_xlabel("percent of those graded", fontsize=14)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=13)
    words = ", ".join(f"{name} {100 * counts[name]['correct'] / len(graded):.0f}" for name in names)
    return figure, f"Percent of the class with a right answer, by exercise, the hardest first: {words}."


def by_misconception(held: Sequence[tuple[str, int]], most_bars: int = 15) -> tuple[Figure, str]:
    """Draw the misconceptions by how many hold them. Returns the figure and its words."""
    shown = held[:most_bars]
    figure = new_figure(0.9 + 0.62 * len(shown))
    axis = figure.subplots()
    names = [name.replace(": ", ":\n") for name, _ in shown]
    bars = axis.barh(names, [count for _, count in shown], color="#D55E00")
    axis.bar_label(bars, padding=4, fontsize=13)
    axis.invert_yaxis()
    tidy(axis)
    axis.set_xlabel("students", fontsize=14)
    axis.locator_params(axis="x", integer=True)
    words = ", ".join(f"{name} {count}" for name, count in shown)
    return figure, f"Misconceptions by how many students hold them: {words}."


def tidy(axis: Axes) -> None:
    """Give an axis the course's look: two spines, letters that are large enough."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=13)
