"""What a lesson's cells call, as a student meets it: in plain Python here, in a kernel in the notebook tests."""

import json

import ipywidgets
import pytest
import torch

from segcourse import exercises, lesson, progress
from segcourse.exercises import receptive_field
from segcourse.exercises.quiz import Option, Question

RIGHT = receptive_field.compound_kernel


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCOURSE_HOME", str(tmp_path))
    monkeypatch.setattr(lesson, "_current", [])
    return tmp_path


def wrong(kernel_1, stride_1, kernel_2):
    return kernel_1 + kernel_2


def test_check_says_what_it_found_and_records_it(capsys) -> None:
    lesson.check.compound_kernel(wrong)
    assert "You added the two kernels." in capsys.readouterr().out
    record = progress.load().exercises["compound_kernel"]
    assert (record.points, record.attempts, record.diagnosis) == (0, 1, "adds_kernels")
    lesson.check.compound_kernel(RIGHT)
    assert "correct" in capsys.readouterr().out
    assert progress.load().exercises["compound_kernel"].points == receptive_field.COMPOUND_KERNEL.points
    lesson.check.compound_kernel(wrong)
    assert progress.load().exercises["compound_kernel"].points == receptive_field.COMPOUND_KERNEL.points


def test_starter_is_not_recorded_as_an_attempt(capsys) -> None:
    lesson.check.compound_kernel(lambda a, b, c: ...)
    assert "not attempted" in capsys.readouterr().out
    assert "compound_kernel" not in progress.load().exercises


@pytest.mark.parametrize("handed", [None, 5, ...])
def test_check_without_a_function_says_how(handed, capsys) -> None:
    lesson.check.compound_kernel(handed)
    assert "check.compound_kernel(compound_kernel)" in capsys.readouterr().out


def test_check_without_brackets_says_how(capsys) -> None:
    lesson.check.compound_kernel._ipython_display_()
    assert "check.compound_kernel(compound_kernel)" in capsys.readouterr().out


def test_hints_come_one_after_the_other_and_last(capsys) -> None:
    hints = receptive_field.COMPOUND_KERNEL.hints
    lesson.hint.compound_kernel()
    first = capsys.readouterr().out
    assert hints[0] in first
    assert hints[1] not in first
    lesson.hint.compound_kernel._ipython_display_()  # brackets forgotten
    assert hints[1] in capsys.readouterr().out
    for _ in range(3):
        lesson.hint.compound_kernel()
    assert hints[2] in capsys.readouterr().out


def test_solution_shows_the_reference(capsys) -> None:
    lesson.solution.compound_kernel()
    assert "def compound_kernel(" in capsys.readouterr().out


def test_misspelt_names_get_a_suggestion() -> None:
    with pytest.raises(AttributeError, match="Did you mean compound_kernel"):
        lesson.check.compund_kernel  # noqa: B018
    with pytest.raises(AttributeError, match="no question"):
        lesson.quiz.nonsense  # noqa: B018


def test_completion_offers_the_lessons_own_names(capsys) -> None:
    lesson.start("01_receptive_field")
    assert set(dir(lesson.check)) == {e.name for e in exercises.lesson("01_receptive_field").exercises}
    assert "points" in capsys.readouterr().out


def test_every_exercise_and_question_has_its_own_name() -> None:
    names = [e.name for e in exercises.catalogue()]
    assert len(set(names)) == len(names)
    asked = [q.name for q in exercises.questions()]
    assert len(set(asked)) == len(asked)
    for one in exercises.lessons():
        assert {e.lesson for e in one.exercises} | {q.lesson for q in one.quiz} <= {one.stem}


def test_under_nbgrader_a_failed_check_raises_and_nothing_is_recorded(monkeypatch, home) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(AssertionError, match="You added"):
        lesson.check.compound_kernel(wrong)
    with pytest.raises(AssertionError, match="not attempted"):
        lesson.check.compound_kernel(lambda a, b, c: ...)
    lesson.check.compound_kernel(RIGHT)
    assert not (home / "progress.json").exists()


def test_yours_or_ours(capsys) -> None:
    assert lesson.yours_or_ours.compound_kernel(RIGHT) is RIGHT
    mine = lambda a, b, c: a + (c - 1) * b  # noqa: E731
    assert lesson.yours_or_ours.compound_kernel(mine) is mine
    assert "your compound_kernel" in capsys.readouterr().out
    assert lesson.yours_or_ours.compound_kernel(wrong) is RIGHT
    assert lesson.yours_or_ours.compound_kernel(lambda a, b, c: ...)(3, 2, 3) == 7
    assert "until yours is right" in capsys.readouterr().out


def test_reveal(capsys) -> None:
    lesson.reveal(7, 7, "the kernel")
    lesson.reveal(6, 7, "the kernel")
    lesson.reveal(..., 7, "the kernel")
    lesson.reveal(torch.tensor([1, 2]), (1, 2), "the shape")
    lesson.reveal(30, 34, "the share", close=5)
    lesson.reveal(20, 34, "the share", close=5)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "the kernel: 7, as you predicted."
    assert "you predicted 6" in said[1]
    assert "no prediction" in said[2]
    assert "the shape: (1, 2)" in said[3]
    assert said[4] == "the share: 34; you predicted 30, which is close."
    assert "Where does the difference" in said[5]


QUESTION = Question("q", "01_receptive_field", "Which?", (
    Option("this", "it is so", right=True), Option("that", "it is not so"), Option("none", "there is one"),
))  # fmt: skip
SEVERAL = Question("s", "01_receptive_field", "Which two?", (
    Option("this", "so", right=True), Option("that", "so too", right=True), Option("none", "no"),
), several=True)  # fmt: skip


def test_question_gives_a_reason_for_the_chosen_option_and_all_when_right() -> None:
    text = QUESTION.score("b").text()
    assert "it is not so" in text
    assert "it is so" not in text.replace("it is not so", "")
    assert all(o.reason in QUESTION.score("A").text() for o in QUESTION.options)
    assert SEVERAL.score("a, b").sign == "✓"
    assert "still missing" in SEVERAL.score("a").text()
    assert SEVERAL.score("abc").sign == "✗"


@pytest.mark.parametrize("letters", ["", "d", "ab", "1", "?"])
def test_question_refuses_what_is_no_choice(letters: str) -> None:
    with pytest.raises(ValueError, match="Choose one of: a, b, c"):
        QUESTION.score(letters)


def test_question_needs_exactly_one_right_option() -> None:
    with pytest.raises(ValueError, match="2 right options"):
        Question("q", "x", "?", SEVERAL.options)
    with pytest.raises(ValueError, match="0 right options"):
        Question("q", "x", "?", QUESTION.options[1:])


def test_quiz_widget_scores_a_click_in_the_kernel(home) -> None:
    name = exercises.lesson("01_receptive_field").quiz[0].name
    one = getattr(lesson.quiz, name)
    box = lesson.quiz_widget(one.question, one._score)
    radio = next(child for child in box.children if isinstance(child, ipywidgets.RadioButtons))
    right = next(x for x, o in zip(one.question.letters(), one.question.options) if o.right)
    radio.value = next(x for x in one.question.letters() if x != right)
    assert "not yet" in box.children[-1].value
    radio.value = right
    assert "correct" in box.children[-1].value
    kept = json.loads((home / "progress.json").read_text())
    assert kept["quizzes"][name]["attempts"] == 2


@pytest.mark.parametrize("call", [("z",), (1,), (["z", "y"],), ("a", "b", "c")])
def test_quiz_answers_odd_calls_in_words(call, capsys, home) -> None:
    name = next(q.name for q in exercises.questions() if not q.several)
    getattr(lesson.quiz, name)(*call)
    assert "Choose one of" in capsys.readouterr().out
    assert not (home / "progress.json").exists()


def test_quiz_takes_letters_in_any_form(capsys) -> None:
    one = exercises.questions()[0]
    right = [x for x, o in zip(one.letters(), one.options) if o.right]
    for call in (tuple(right), (right,), ("".join(right).upper(),)):
        getattr(lesson.quiz, one.name)(*call)
        assert "correct" in capsys.readouterr().out


def test_quiz_widget_with_several_right_options() -> None:
    box = lesson.quiz_widget(SEVERAL, SEVERAL.score)
    boxes = [child for child in box.children if isinstance(child, ipywidgets.Checkbox)]
    button = next(child for child in box.children if isinstance(child, ipywidgets.Button))
    button.click()
    assert "at least one" in box.children[-1].value
    boxes[0].value = boxes[1].value = True
    button.click()
    assert "correct" in box.children[-1].value
