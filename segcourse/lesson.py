"""What a lesson's cells call: `check`, `hint`, `solution`, `quiz`, `yours_or_ours`, `reveal`, and figures.

from segcourse.lesson import check, hint, solution, quiz, show, start, yours_or_ours
start("01_receptive_field")
"""

from __future__ import annotations

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from segcourse import exercises, progress
from segcourse.exercises.compare import same_value
from segcourse.exercises.exercise import Exercise
from segcourse.exercises.guard import run_here
from segcourse.exercises.judge import Outcome, judge
from segcourse.exercises.quiz import Question
from segcourse.exercises.render import COLOURS, Card, publish, verdict_card
from segcourse.plots import show, use_style
from segcourse.widgets import show_widget

__all__ = ["check", "hint", "quiz", "reveal", "show", "show_widget", "solution", "start", "yours_or_ours"]

_current: list[str] = []


def start(stem: str) -> None:
    """Begin a lesson: seeds, exact arithmetic on the GPU too, the figures' look; prints what there is to do."""
    import torch

    lesson = exercises.lesson(stem)
    _current[:] = [stem]
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    use_style()
    count = len(lesson.exercises)
    print(f"Lesson {stem[:2]}, {lesson.title}: {count} exercises, {lesson.points} points, {lesson.minutes} minutes.")


def under_nbgrader() -> bool:
    """Tell whether nbgrader runs the notebook; a failed check must then raise."""
    return bool(os.environ.get("NBGRADER_EXECUTION"))


class _Tool:
    """Has an attribute for every exercise or question: tab completion offers the current lesson's names."""

    def __init__(self, kind: str, things: Callable[[], list[Any]], use: Callable[[Any], Any], doc: str) -> None:
        self._kind, self._things, self._use, self.__doc__ = kind, things, use, doc

    def __dir__(self) -> list[str]:
        here = [thing.name for thing in self._things() if thing.lesson in _current]
        return here or [thing.name for thing in self._things()]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Jupyter asks for these; they are no exercises
            raise AttributeError(name)
        for thing in self._things():
            if thing.name == name:
                return self._use(thing)
        close = difflib.get_close_matches(name, [thing.name for thing in self._things()], 1)
        suggestion = f" Did you mean {close[0]}?" if close else f" There are: {', '.join(dir(self))}."
        raise AttributeError(f"there is no {self._kind} {name!r}.{suggestion}")


class _Forgiving(ABC):
    """A call that also happens when the brackets were forgotten and the cell's last line shows the object."""

    @abstractmethod
    def __call__(self) -> None: ...

    def _ipython_display_(self) -> None:
        self()


class _Check(_Forgiving):
    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise

    def __call__(self, answer: Callable[..., Any] | None = None) -> None:
        name = self.exercise.name
        if not callable(answer):
            publish(
                Card(
                    f"{name}: nothing to check",
                    "○",
                    COLOURS[Outcome.NOT_ATTEMPTED],
                    [f"Hand your function over by its name, without brackets: `check.{name}({name})`."],
                )
            )
            return
        verdict = judge(self.exercise, run_here(self.exercise, answer))
        card = verdict_card(verdict)
        if under_nbgrader():
            if verdict.outcome is not Outcome.CORRECT:
                raise AssertionError(card.text())
        elif verdict.outcome is not Outcome.NOT_ATTEMPTED:
            progress.record(
                name,
                lesson=self.exercise.lesson,
                outcome=str(verdict.outcome),
                points=verdict.points,
                of=self.exercise.points,
                diagnosis=verdict.misconception.id if verdict.misconception else None,
            )
        publish(card)


class _Hint(_Forgiving):
    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise

    def __call__(self) -> None:
        name, hints = self.exercise.name, self.exercise.hints
        level = min(progress.hints_shown(name) + 1, len(hints))
        progress.record_hint(name, level)
        lines = [f"{i + 1}. {text}" for i, text in enumerate(hints[:level])]
        more = (
            f"Run it again for hint {level + 1} of {len(hints)}."
            if level < len(hints)
            else f"That was the last hint; `solution.{name}()` shows a solution."
        )
        publish(Card(f"{name}: hint {level} of {len(hints)}", "?", "#0072B2", lines, after=[more]))


class _Solution(_Forgiving):
    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise

    def __call__(self) -> None:
        publish(
            Card(
                f"{self.exercise.name}: a solution",
                "→",
                "#0072B2",
                ["One right way among several. Read it, close it, then write your own."],
                code=self.exercise.solution,
            )
        )


class _Quiz(_Forgiving):
    def __init__(self, question: Question) -> None:
        self.question = question

    def _score(self, letters: str) -> Card:
        card = self.question.score(letters)
        progress.record_quiz(self.question.name, self.question.lesson, right=card.sign == "✓")
        return card

    def __call__(self, *letters: Any) -> None:
        if not letters:
            show_widget(quiz_widget(self.question, self._score), self.question.text())
            return
        chosen = "".join(map(str, letters[0] if isinstance(letters[0], (list, tuple, set)) else letters))
        try:
            publish(self._score(chosen))
        except ValueError as problem:
            publish(Card(f"{self.question.name}: no answer yet", "○", COLOURS[Outcome.NOT_ATTEMPTED], [str(problem)]))


def _yours_or_ours(exercise: Exercise) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def choose(answer: Callable[..., Any]) -> Callable[..., Any]:
        if judge(exercise, run_here(exercise, answer)).outcome is Outcome.CORRECT:
            print(f"Computed with your {exercise.name}.")
            return answer
        print(f"Computed with the course's {exercise.name}, until yours is right.")
        return exercise.reference

    return choose


def quiz_widget(question: Question, score: Callable[[str], Card]) -> Any:
    """Return a question as radio buttons (check boxes if several are right); a click is answered at once."""
    import html

    import ipywidgets as w

    wide = w.Layout(width="auto", max_width="60em")
    prompt = w.HTML(f"<b>{html.escape(question.prompt)}</b>")
    feedback = w.HTML()
    labels = [(f"{x}) {o.text}", x) for x, o in zip(question.letters(), question.options)]
    if not question.several:
        radio = w.RadioButtons(options=labels, value=None, layout=wide)
        radio.observe(lambda change: setattr(feedback, "value", score(change["new"]).html()), "value")
        return w.VBox([prompt, radio, feedback])
    boxes = [w.Checkbox(description=label, indent=False, layout=wide) for label, _ in labels]
    button = w.Button(description="Check")

    def answer(_button: Any) -> None:
        letters = "".join(x for box, (_, x) in zip(boxes, labels) if box.value)
        feedback.value = score(letters).html() if letters else "Tick at least one."

    button.on_click(answer)
    return w.VBox([prompt, *boxes, button, feedback])


def reveal(prediction: Any, actual: Any, what: str, close: float = 0) -> None:
    """Set a prediction against what came out; nothing is graded.

    Args:
        prediction: what the student wrote down, or the dots.
        actual: what came out.
        what: its name, such as `field of VGG-16`.
        close: for estimates: how far off a prediction may be to count as close.
    """
    if prediction is ...:
        print(f"{what}: {actual}. You wrote down no prediction; try one before the next reveal.")
    elif same_value(actual, prediction) or str(prediction).strip() == str(actual):
        print(f"{what}: {actual}, as you predicted.")
    elif close and isinstance(prediction, (int, float)) and abs(prediction - actual) <= close:
        print(f"{what}: {actual}; you predicted {prediction}, which is close.")
    else:
        print(f"{what}: {actual}; you predicted {prediction}. Where does the difference come from?")


check = _Tool(
    "exercise",
    exercises.catalogue,
    _Check,
    "check.compound_kernel(compound_kernel) judges your function and shows what was found.",
)
hint = _Tool(
    "exercise",
    exercises.catalogue,
    _Hint,
    "hint.compound_kernel() gives the next hint: a nudge, then the method, then nearly the code.",
)
solution = _Tool(
    "exercise",
    exercises.catalogue,
    _Solution,
    "solution.compound_kernel() shows a solution; your points stay as they are.",
)
yours_or_ours = _Tool(
    "exercise",
    exercises.catalogue,
    _yours_or_ours,
    "yours_or_ours.f(f) returns your f once it is right, else the course's.",
)
quiz = _Tool(
    "question",
    exercises.questions,
    _Quiz,
    'quiz.jump_growth() asks; click an option, or answer in code: quiz.jump_growth("b").',
)
