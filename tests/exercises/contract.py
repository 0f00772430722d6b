"""What every exercise must keep to. A lesson's test file hands its right answers over; the rest follows.

class TestContract(Contract):
    lesson = "01_receptive_field"
    right = {"compound_kernel": (one_way, another_way)}
    wrong = {"compound_kernel": (right_for_square_images_only, (changes_its_input, "it changed"))}
"""

import ast
import copy
import functools
import inspect
import itertools
import json
import os
import textwrap
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch

from segcourse import authoring, exercises
from segcourse.exercises.compare import same_value
from segcourse.exercises.exercise import Case, Exercise
from segcourse.exercises.guard import Ran, run_here
from segcourse.exercises.judge import Key, Outcome, Verdict, judge, mismatch_of, truth
from segcourse.exercises.render import verdict_card
from segcourse.grading import child, plain

SEEDS = 200
CASES = 4
"""Fresh cases for each of the 200 seeds, beside the examples."""
MISTAKE_SEEDS = 20
"""Full checks of every misconception; fewer where an exercise has so many that they pass `MISTAKE_CHECKS` in all."""
MISTAKE_CHECKS = 240
PLAIN_SEEDS = int(os.environ.get("SEGCOURSE_PLAIN_SEEDS", "3"))
"""Full checks of every right answer by way of plain data; 100 were run before a release."""
WRONG_SEEDS = 5
"""Full checks of every other wrong answer."""
TABLE, FRESH = 3000, 400
"""Inputs that somebody may have collected, and so many others that are looked up among them."""
LONG, OF_LONG = 400, 100
"""Characters of an input that is long, one with large tensors; so many of these are drawn, since they are slow."""
FEW_INPUTS = {
    "bilinear_kernel": "a factor is all that goes in, and ten thousands of factors make kernels of as many taps",
}
"""Exercises with so few inputs that a table of them may pass, and why there are no more."""

Answer = Callable[..., Any]


def judged(exercise: Exercise, answer: Callable[..., Any], seed: int, fresh: int | None = None) -> Verdict:
    return judge(exercise, run_here(exercise, answer, limited=False), seed, key=key_of(exercise.name, seed, fresh))


@functools.lru_cache(maxsize=2 * MISTAKE_SEEDS)
def key_of(name: str, seed: int, fresh: int | None) -> Key:
    """The same cases for every answer that meets this seed: what the mistakes make of them is computed once."""
    exercise = next(each for each in exercises.catalogue() if each.name == name)
    return Key(exercise, exercise.draw_cases(seed) if fresh is None else drawn(exercise, seed, fresh))


def drawn(exercise: Exercise, seed: int, fresh: int) -> list[Case]:
    """So many fresh cases; those that are always run, the examples, stand before them for the first seed alone."""
    cases = exercise.draw_cases(seed, len(exercise.examples) + fresh)
    return cases[len(exercise.examples) :] if seed else cases


def wrong_afresh(exercise: Exercise, wrong: Answer, seed: int) -> bool:
    """Tell whether one of the inputs that the seed draws shows that the answer is wrong."""
    key = key_of(exercise.name, seed, None)
    fresh = range(len(exercise.examples), len(key.cases))
    return any(mismatch_of(exercise, key.of(exercise.reference, i), key.of(wrong, i)) for i in fresh)


def run_as_plain(exercise: Exercise, answer: Answer) -> Callable[[Case], Ran]:
    def run(case: Case) -> Ran:
        asked = {
            "driver": f"{exercise.drive.__module__}.{exercise.drive.__qualname__}",
            "name": exercise.name,
            "cases": [json.loads(json.dumps(plain.encode(case)))],
            "call": 60.0,
            "seconds": 60.0,
        }
        (reply,) = child.answers(asked, {exercise.name: answer})
        return child.as_ran(json.loads(json.dumps(reply)))

    return run


class Contract:
    """Collected once a lesson; `exercise` runs over the lesson's exercises (see conftest.py)."""

    lesson: ClassVar[str]
    right: ClassVar[dict[str, tuple[Answer, ...]]]
    wrong: ClassVar[dict[str, tuple[Answer | tuple[Answer, str], ...]]] = {}
    """Wrong answers beside the misconceptions, say those right for some inputs only. A text with one must be said."""
    few_mistakes: ClassVar[dict[str, str]] = {}
    """Exercises with only two misconceptions, and why the topic has no more."""

    def test_every_exercise_has_two_right_answers(self) -> None:
        names = {e.name for e in exercises.lesson(self.lesson).exercises}
        assert names == self.right.keys()
        assert all(len(answers) >= 2 for answers in self.right.values())

    def test_starter_is_not_attempted(self, exercise: Exercise) -> None:
        verdict = judged(exercise, lambda *args: ..., 0)
        assert (verdict.outcome, verdict.points) == (Outcome.NOT_ATTEMPTED, 0)

    def test_right_answers_are_right(self, exercise: Exercise, record_property: Any) -> None:
        for seed in range(SEEDS):
            for answer in (exercise.reference, *self.right[exercise.name]):
                verdict = judged(exercise, answer, seed, CASES)
                assert verdict.outcome is Outcome.CORRECT, (seed, answer, verdict_card(verdict).text())
        record_property("contract", (exercise.name, f"{1 + len(self.right[exercise.name])} right answers pass"))

    def test_right_answers_are_not_the_reference(self, exercise: Exercise) -> None:
        bodies = [ast.dump(ast.parse(textwrap.dedent(inspect.getsource(f)))) for f in self.right[exercise.name]]
        assert exercise.reference not in self.right[exercise.name]
        assert len(set(bodies)) == len(bodies)

    def test_oracle_agrees(self, exercise: Exercise) -> None:
        for seed in range(SEEDS):
            for case in drawn(exercise, seed, CASES):
                expected, second = (truth(exercise, f, case) for f in (exercise.reference, exercise.oracle))
                assert expected.problem == second.problem or expected.kind == second.kind, (
                    case,
                    expected,
                    second,
                )
                if expected.problem is None:
                    assert exercise.compare(expected.value, second.value) is None, (
                        seed,
                        case,
                        expected,
                        second,
                    )

    def test_mistakes_are_rejected_and_named(
        self, exercise: Exercise, record_property: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The search for a smaller case changes no name; test_words_do_not_fail has it.
        monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 0)
        mistakes = exercise.misconceptions
        assert len(mistakes) >= 3 or (len(mistakes) == 2 and self.few_mistakes.get(exercise.name))
        assert len({m.id for m in mistakes}) == len(mistakes)
        seeds = max(WRONG_SEEDS, min(MISTAKE_SEEDS, MISTAKE_CHECKS // len(mistakes)))
        for mistake in mistakes:
            caught_afresh = False  # by the examples alone is not enough: an answer may know them by heart
            for seed in range(seeds):
                verdict = judged(exercise, mistake.wrong, seed)
                caught_afresh = caught_afresh or wrong_afresh(exercise, mistake.wrong, seed)
                assert verdict.outcome is Outcome.NOT_YET, (mistake.id, seed)
                named = verdict.misconception and verdict.misconception.id
                assert named == mistake.id, (mistake.id, named, seed, verdict.failure)
            assert caught_afresh, mistake.id
        record_property("contract", (exercise.name, f"named: {', '.join(m.id for m in mistakes)}"))

    def test_wrong_answers_are_rejected(self, exercise: Exercise, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 0)
        assert self.wrong.keys() <= self.right.keys()
        for entry in self.wrong.get(exercise.name, ()):
            answer, said = entry if isinstance(entry, tuple) else (entry, "")
            for seed in range(WRONG_SEEDS):
                verdict = judged(exercise, answer, seed)
                assert verdict.outcome is Outcome.NOT_YET, (answer, seed)
                assert verdict.failure is not None
                assert said in verdict.failure.mismatch.says, (answer, seed)

    def test_answers_are_judged_alike_where_only_plain_data_pass(
        self, exercise: Exercise, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in the grader, where an input, and what came of it, pass between two processes as JSON."""
        monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 0)
        for seed in range(PLAIN_SEEDS):
            key = key_of(exercise.name, seed, CASES)
            for answer in (exercise.reference, *self.right[exercise.name]):
                verdict = judge(exercise, run_as_plain(exercise, answer), key=key)
                assert verdict.outcome is Outcome.CORRECT, (seed, answer, verdict_card(verdict).text())
        key = key_of(exercise.name, 0, None)
        for mistake in exercise.misconceptions:
            misconception = judge(exercise, run_as_plain(exercise, mistake.wrong), key=key).misconception
            assert misconception, mistake.id
            assert misconception.id == mistake.id

    def test_careless_answers_are_rejected(self, exercise: Exercise) -> None:
        def first_argument(*args: Any) -> Any:
            return args[0]

        def zeros(*args: Any) -> Any:
            value = exercise.reference(*args)
            return torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0

        def raises(*args: Any) -> Any:
            raise ValueError("not today")

        for answer in (lambda *args: None, lambda *args: "?", first_argument, zeros, raises):
            verdict = judged(exercise, answer, 0)
            assert (verdict.outcome, verdict.points) == (Outcome.NOT_YET, 0), answer
            assert verdict_card(verdict).text()

    def test_reference_leaves_its_input_alone(self, exercise: Exercise) -> None:
        for case in exercise.draw_cases(1):
            given = copy.deepcopy(case)
            exercise.drive(exercise.reference, given)
            assert all(same_value(case[k], given[k]) for k in case)

    def test_inputs_can_tell_right_from_wrong(self, exercise: Exercise) -> None:
        """Not square only, not symmetric, not constant: what weak checks elsewhere fell for."""
        cases = [case for seed in range(20) for case in exercise.draw_cases(seed)]
        for name in cases[0]:
            tensors = [c[name] for c in cases if isinstance(c.get(name), torch.Tensor) and c[name].numel() > 1]
            flat = [t for t in tensors if bool((t == t.flatten()[0]).all())]
            assert len(flat) <= len(tensors) // 4, f"{name} is often constant"
            square = [t for t in tensors if t.ndim >= 2 and t.shape[-1] == t.shape[-2] and t.shape[-1] > 3]
            assert len(square) <= max(1, len(tensors) // 2), f"{name} is mostly square"
        assert len({repr(c) for c in cases}) > len(cases) // 20, "the cases hardly vary"

    def test_a_table_of_inputs_does_not_pass(self, exercise: Exercise) -> None:
        """Whoever collected the inputs of public draws, and what is right for each, has too few of them."""

        def written(seed: int, count: int) -> list[str]:
            return [json.dumps(plain.encode(case)) for case in drawn(exercise, seed, count)]

        short = max(map(len, written(2, 20))) < LONG
        table, fresh = set(written(0, TABLE if short else OF_LONG)), written(1, FRESH if short else OF_LONG)
        share = sum(each in table for each in fresh) / len(fresh)
        asked = exercise.runs - len(exercise.examples)
        assert (share**asked < 1e-6) == (exercise.name not in FEW_INPUTS), (share, asked)

    def test_hints_are_a_ladder(self, exercise: Exercise) -> None:
        assert len(exercise.hints) == 3
        assert len(set(exercise.hints)) == 3
        assert all(len(hint.split()) >= 5 for hint in exercise.hints)

    def test_words_do_not_fail(self, exercise: Exercise) -> None:
        for mistake in exercise.misconceptions:
            card = verdict_card(judged(exercise, mistake.wrong, 3))
            assert mistake.says in card.text()
            assert exercise.name in card.html()
            assert exercise.property

    def test_solution_works_when_pasted(self, exercise: Exercise) -> None:
        """What `solution` shows runs in a notebook that has the lesson's imports and the answers before it."""
        source = authoring.read_source(authoring.root() / "solutions" / f"{exercise.lesson}.py")
        names: dict[str, Any] = {}
        setup = next(c.source for c in source.cells if "setup" in c.metadata.get("tags", []))
        imports = [n for n in ast.parse(setup).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(imports, []), "setup", "exec"), names)
        for earlier in itertools.takewhile(lambda e: e != exercise, exercises.lesson(self.lesson).exercises):
            exec(earlier.solution, names)
        exec(exercise.solution, names)
        assert judged(exercise, names[exercise.name], 0, CASES).outcome is Outcome.CORRECT

    def test_solution_shown_is_the_notebooks(self, exercise: Exercise) -> None:
        """The answer in the solved notebook and the one that `solution` shows are the same code."""
        source = authoring.read_source(authoring.root() / "solutions" / f"{exercise.lesson}.py")
        cell = next(c for c in source.cells if authoring.answer_name(c.source) == exercise.name)
        assert _body(cell.source, exercise.name) == _body(exercise.solution, exercise.name)


def _body(source: str, name: str) -> str:
    """The function's parameters and body, without annotations and docstring, as a syntax tree."""
    tree = ast.parse(source)
    function = next(n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name)
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(function)
