"""A made-up class: records of lesson 01 as grading leaves them, some with names and texts that mean harm."""

from segcourse import exercises
from segcourse.grading.results import Record, Result

LESSON = "01_receptive_field"
HOSTILE = [
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "-2+3",
    "\t=1+1",
    "＝1+1",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "two\nlines\r\nand more",
    "\u202egpj.exe",
    "علي",
    "🦊 Émile",
    "x" * 300,
    "nul\0byte",
    "half\udc80surrogate",
    "comma, quote \" and ; semicolon",
    "CON",
    "../../etc/passwd",
]  # fmt: skip


def card(text: str, outcome: str = "not yet") -> dict:
    return {
        "headline": f"compound_kernel: {outcome}",
        "sign": "<b>",
        "colour": "red;background:url(//example.org)",
        "lines": [text, "Use `return`."],
        "grids": [{"title": text, "rows": [[text, "1"]], "wrong": [[True, False]]}],
        "after": [text],
        "code": text,
    }


def result(exercise, outcome="correct", diagnosis="", text="", **more) -> Result:
    points = exercise.points if outcome == "correct" else 0
    shown = card(text, outcome) if text else {}
    return Result(exercise.name, outcome, points, exercise.points, diagnosis, shown, **more)


def record(student="Ada", outcomes=(), text="", **more) -> Record:
    """A record with these outcomes, one for each exercise, the rest correct; `not yet: id` names a diagnosis."""
    known = exercises.lesson(LESSON).exercises
    outcomes = [*outcomes, *["correct"] * (len(known) - len(outcomes))]
    results = tuple(result(e, *o.split(": "), text=text) for e, o in zip(known, outcomes))
    fields = {"file": f"{student}.ipynb", "status": "graded", "file_hash": student, "key_hash": "k" * 64}
    fields |= {"level": "bubblewrap", "versions": {"segcourse": "1", "torch": "2"}, "when": "2026-01-01T00:00:00"}
    return Record(student, lesson=LESSON, results=results, **{**fields, **more})


def hostile() -> list[Record]:
    """Each hostile string as a name, a file's name, a note, tampering and what an answer printed."""
    return [
        record(text, ["not yet: adds_kernels"], text, notes=(text,), tampering=(text,), identifier=str(4000 + i))
        for i, text in enumerate(HOSTILE)
    ]
