"""The engine on one exercise: every way in which an answer can go wrong gets an answer in plain words."""

import importlib
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segcourse.exercises.compare import Mismatch, agree
from segcourse.exercises.exercise import Case, Draw, Exercise, Misconception, call
from segcourse.exercises.guard import PRINTED, Ran, _Timeout, run_here, run_once, time_limit
from segcourse.exercises.judge import Failure, Outcome, Verdict, judge, weight
from segcourse.exercises.render import failure_grids, verdict_card


def scale(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Return the image times the factor."""
    return image * factor


def image_and_factor(draw: Draw) -> Case:
    height, width = draw.integer(1, 3), draw.integer(2, 5)
    values = [[draw.integer(1, 9) for _ in range(width)] for _ in range(height)]
    return {"image": torch.tensor(values, dtype=torch.float32), "factor": draw.integer(2, 9)}


SCALE = Exercise(
    name="scale",
    lesson="01_receptive_field",
    title="Scale",
    points=2,
    minutes=1,
    difficulty=1,
    reference=scale,
    oracle=lambda image, factor: sum(image for _ in range(factor)),
    cases=image_and_factor,
    misconceptions=(
        Misconception("adds", lambda image, factor: image + factor, "You added.", "here"),
        Misconception(
            "forgets_first_row",
            lambda image, factor: torch.cat([image[:1], image[1:] * factor]),
            "You left the first row alone.",
            "here",
        ),
    ),
    hints=("a nudge it is", "the method it is", "nearly the code"),
    property="each value is multiplied by the factor.",
)


def verdict(answer, seed: int = 3) -> Verdict:
    return judge(SCALE, run_here(SCALE, answer), seed)


def words(answer) -> str:
    found = verdict(answer)
    assert (found.outcome, found.points) == (Outcome.NOT_YET, 0)
    return verdict_card(found).text()


def test_right_answer_earns_the_points() -> None:
    found = verdict(lambda image, factor: factor * image)
    assert (found.outcome, found.points, found.ran, found.failed) == (Outcome.CORRECT, 2, 40, 0)


@pytest.mark.parametrize("dots", [..., (..., ...), {"a": ...}, NotImplemented])
def test_dots_are_not_attempted(dots) -> None:
    assert verdict(lambda image, factor: dots).outcome is Outcome.NOT_ATTEMPTED


def test_a_stub_that_raises_is_not_attempted_but_what_torch_cannot_do_is_a_mistake() -> None:
    def stub(image, factor):
        raise NotImplementedError

    def in_torch(image, factor):
        raise NotImplementedError("\"grid_sampler\" not implemented for 'Long'")

    assert verdict(stub).outcome is Outcome.NOT_ATTEMPTED
    assert "not implemented for 'Long'" in words(in_torch)


def test_same_seed_same_cases_and_fresh_ones_otherwise() -> None:
    assert repr(SCALE.draw_cases(5)) == repr(SCALE.draw_cases(5)) != repr(SCALE.draw_cases(6))


def test_a_mistake_is_named_and_its_case_is_small(monkeypatch) -> None:
    monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 60)  # on a busy machine too
    found = verdict(lambda image, factor: image + factor)
    assert found.misconception is not None
    assert found.misconception.id == "adds"
    assert found.failure is not None
    assert found.failure.case["image"].shape == (1, 2)
    assert found.failure.case["factor"] <= 3
    text = verdict_card(found).text()
    assert "You added." in text
    assert "Right on 0 of 40 cases." in text
    assert "scale(image, factor=" in text
    assert "1*" in text or "2*" in text or "3*" in text  # wrong entries are starred


def test_the_search_for_a_small_case_ends_when_its_time_is_up(monkeypatch) -> None:
    monkeypatch.setattr("segcourse.exercises.judge.SHRINK_SECONDS", 0.0)
    drawn = []

    def counted(draw: Draw) -> Case:
        drawn.append(draw)
        values = [[draw.integer(1, 9) for _ in range(8)] for _ in range(6)]  # plenty to shrink
        return {"image": torch.tensor(values, dtype=torch.float32), "factor": draw.integer(2, 9)}

    exercise = replace(SCALE, cases=counted)
    found = judge(exercise, run_here(exercise, lambda image, factor: image * factor + (image == 7)), 3)
    assert found.failure is not None
    assert len(drawn) <= SCALE.runs + 5


def test_a_small_stack_is_drawn_whole_and_of_a_large_one_the_first_plane() -> None:
    for planes, drawn in (((), 1), ((3,), 3), ((2, 2), 4), ((5,), 1), ((2, 3), 1), ((0,), 1)):
        image = torch.arange(torch.Size((*planes, 2, 3)).numel()).reshape(*planes, 2, 3)
        grids = failure_grids(Failure({"image": image}, Ran(0), Mismatch("")))
        assert len(grids) == len({grid.text() for grid in grids}) == drawn


def test_of_an_answer_in_parts_the_wrong_one_is_drawn() -> None:
    values, indices = torch.tensor([[7.0, 9]]), torch.tensor([[4, 3]])
    wrong = (values, indices + 1)
    mismatch = agree((values, indices), wrong)
    assert mismatch is not None
    (grid,) = failure_grids(Failure({}, Ran(wrong), mismatch))
    assert grid.title == "yours[1], shape (1, 2)"
    assert (grid.rows, grid.wrong) == ([["5", "4"]], [[True, True]])


def test_of_a_list_of_tensors_each_is_drawn_at_the_plane_that_is_wrong() -> None:
    case = {"maps": [torch.arange(8.0).reshape(2, 2, 2), torch.arange(12.0).reshape(2, 2, 3)], "boxes": [(0, 0, 2, 2)]}
    right = torch.zeros(2, 3, 4)
    wrong = right.clone()
    wrong[1, 2, 3] = 5
    grids = failure_grids(Failure(case, Ran(wrong), agree(right, wrong) or Mismatch("")))
    assert [grid.title for grid in grids] == [
        "maps[0], shape (2, 2, 2), at [1]", "maps[1], shape (2, 2, 3), at [1]", "yours, shape (2, 3, 4), at [1]",
    ]  # fmt: skip
    assert grids[0].rows == [["4", "5"], ["6", "7"]]


def test_of_small_cases_the_more_telling_is_shown() -> None:
    def of(*values):
        return {"image": torch.tensor([values]), "factor": 2}

    assert weight(of(1, 1)) > weight(of(1, 2)) < weight(of(1, 2, 3))
    assert weight({"layers": [(3, 1)]}) < weight({"layers": [(3, 2)]}) < weight({"layers": [(3, 1), (3, 1)]})


def test_a_mistake_of_its_own_is_not_given_a_name() -> None:
    assert verdict(lambda image, factor: image * factor + 1).misconception is None


def test_an_exception_of_its_own_is_not_given_the_name_of_another() -> None:
    def trapped(image, factor):
        return image + torch.zeros(image.shape[0] + 2, 1)

    exercise = replace(
        SCALE, misconceptions=(*SCALE.misconceptions, Misconception("raises", trapped, "You added zeros.", "here"))
    )

    def named(answer) -> str | None:
        found = judge(exercise, run_here(exercise, answer), 3).misconception
        return found and found.id

    def raises(image, factor):
        raise RuntimeError("x")

    assert named(raises) is None
    assert named(lambda image, factor: image + torch.zeros(image.shape[0] + 3, 1)) is None
    assert named(lambda image, factor: torch.zeros(image.shape[0] + 2, 1) + image) == "raises"  # sizes the other way


def test_the_right_answer_is_not_shown() -> None:
    found = verdict(lambda image, factor: image * 0 - 77)
    assert found.failure is not None
    expected = scale(**found.failure.case)
    shown = verdict_card(found).text()
    assert "-77*" in shown
    assert str(expected.tolist()) not in shown


def test_exception_names_the_line() -> None:
    def divides(image, factor):
        return image / (factor - factor) if image is None else 1 // 0

    assert "ZeroDivisionError" in words(divides)
    assert "1 // 0" in words(divides)


def test_endless_loop_is_stopped_and_the_process_goes_on() -> None:
    def loops(image, factor):
        while True:
            pass

    began = time.monotonic()
    assert "never ends" in words(loops)
    assert time.monotonic() - began < 20  # it ends; how fast is for the benchmark
    assert verdict(scale).outcome is Outcome.CORRECT


def test_loop_that_swallows_the_interrupt_is_stopped_too() -> None:
    def stubborn(image, factor):
        for _ in range(3):
            try:
                while True:
                    pass
            except BaseException:
                continue

    assert "never ends" in words(stubborn)


def test_endless_printing_is_stopped_and_not_kept() -> None:
    def prints(image, factor):
        while True:
            print("x" * 10_000)

    found = verdict(prints)
    assert found.failure is not None
    assert found.failure.ran.kind == "timeout"
    assert len(run_here(SCALE, lambda image, factor: print("x" * 10_000))(SCALE.draw_cases(0)[0]).printed) == PRINTED


def test_an_import_is_never_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_come.py").write_text("import time\nfor _ in range(20):\n    time.sleep(0.05)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with time_limit(0.4):
        assert importlib.import_module("slow_to_come").whole
    del sys.modules["slow_to_come"]

    def imports_and_loops() -> None:
        importlib.import_module("slow_to_come")
        while True:
            pass

    with pytest.raises(_Timeout), time_limit(0.4):  # the time that it is given again ends, too
        imports_and_loops()
    assert sys.modules["slow_to_come"].whole


def test_a_check_inside_an_import_has_its_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from segcourse.exercises.guard import time_limit\nwith time_limit(0.1):\n    while True:\n        pass\n"
    (tmp_path / "checked_at_import.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(_Timeout):
        importlib.import_module("checked_at_import")


def test_an_interrupt_by_the_user_passes_through() -> None:
    def interrupted(image, factor):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verdict(interrupted)


def test_recursion_without_end() -> None:
    def again(image, factor):
        return again(image, factor)

    assert "calls itself without end" in words(again)


def test_leaving_python() -> None:
    assert "leave Python" in words(lambda image, factor: sys.exit(0))


def test_calling_an_unfinished_function_is_explained() -> None:
    def unfinished():
        return ...

    assert "still a starter" in words(lambda image, factor: image * unfinished())


def test_none_is_asked_for_its_return() -> None:
    assert "return" in words(lambda image, factor: None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda image, factor: (image * factor).tolist(), "a list of"),
        (lambda image, factor: (image * factor).numpy(), "NumPy array"),
        (lambda image, factor: (image * factor).T.contiguous()[None], "shape"),
        (lambda image, factor: (image * factor).long(), "its dtype is int64; a float type was expected"),
        (lambda image, factor: (image * factor).max(dim=0), "a tuple of 2"),
        (lambda image, factor: (image * factor).to(torch.complex64), "complex64"),
        (lambda image: image, "parameters"),
    ],
)
def test_wrong_kinds_are_named(answer, said: str) -> None:
    assert said in words(answer)


def test_wrong_device_is_named() -> None:
    assert "meta" in words(lambda image, factor: torch.empty(image.shape, device="meta"))


def test_other_precision_is_no_mistake() -> None:
    assert verdict(lambda image, factor: (image * factor).double()).outcome is Outcome.CORRECT


def test_changing_the_input_is_told() -> None:
    assert "changed its input `image`" in words(lambda image, factor: image.mul_(factor))


def test_printing_and_warning_are_told_and_cost_nothing() -> None:
    def talks(image, factor):
        print("shape is", image.shape)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
        return image * factor

    found = verdict(talks)
    assert found.outcome is Outcome.CORRECT
    text = verdict_card(found).text()
    assert "shape is" in text
    assert "old ways" in text


def test_an_object_that_says_it_equals_everything_is_not_right() -> None:
    class Yes:
        shape = torch.Size([1, 2])

        def __eq__(self, other):
            return True

        __hash__ = None  # type: ignore[assignment]

    assert verdict(lambda image, factor: Yes()).outcome is Outcome.NOT_YET


def test_random_numbers_of_the_student_are_left_alone() -> None:
    def shuffles(image, factor):
        torch.rand(3)
        return image * factor

    torch.manual_seed(0)
    verdict(shuffles)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_refusals_are_compared_by_kind() -> None:
    def refuses(image, factor):
        raise ValueError("no")

    picky = replace(SCALE, reference=refuses)
    run = run_here(picky, scale)
    assert "should be refused" in verdict_card(judge(picky, run, 1)).text()


def test_the_judge_takes_any_way_of_running() -> None:
    """The grader's way in: `run` may be anything that returns a `Ran`."""
    found = judge(SCALE, lambda case: Ran(value=case["image"] * case["factor"]), 0)
    assert found.outcome is Outcome.CORRECT
    found = judge(SCALE, lambda case: Ran(problem="the process ended.", kind="died"), 0)
    assert "the process ended." in verdict_card(found).text()


def test_custom_comparison() -> None:
    def any_positive(expected, got) -> Mismatch | None:
        return None if got > 0 else Mismatch("it is not positive.")

    lenient = replace(SCALE, compare=any_positive)
    assert judge(lenient, run_here(lenient, lambda image, factor: 5), 0).outcome is Outcome.CORRECT
    assert judge(lenient, run_here(lenient, lambda image, factor: -5), 0).outcome is Outcome.NOT_YET


def test_what_came_back_is_measured_before_it_is_compared() -> None:
    total = replace(SCALE, measure=lambda case, value: float(value.sum()) / len(case["image"]))

    def judged(answer) -> Verdict:
        return judge(total, run_here(total, answer), 3)

    assert judged(lambda image, factor: (image * factor).flip(1)).outcome is Outcome.CORRECT
    assert judged(lambda image, factor: ...).outcome is Outcome.NOT_ATTEMPTED
    found = judged(lambda image, factor: image + factor)
    assert found.misconception
    assert found.misconception.id == "adds"
    assert found.failure
    assert isinstance(found.failure.ran.value, float)
    assert "it returned a string" in verdict_card(judged(lambda image, factor: "?")).text()  # cannot be measured


def test_a_case_is_run_without_its_exercise() -> None:
    case = {"image": torch.ones(2, 3), "factor": 4}
    for seconds in (None, 1.0):
        assert torch.equal(run_once(scale, case, call, seconds).value, 4 * torch.ones(2, 3))
        assert run_once(lambda image, factor: image.mul_(factor), case, call, seconds).kind == "changed its input"
    assert run_once(lambda image, factor: time.sleep(5), case, call, 0.1).kind == "timeout"
    assert torch.equal(case["image"], torch.ones(2, 3))


def test_text_and_html_say_the_same() -> None:
    for answer in (scale, lambda image, factor: ..., lambda image, factor: image + factor):
        card = verdict_card(verdict(answer))
        for line in [card.headline, *card.lines, *card.after]:
            assert line in card.text()
        plain = card.html().replace("<code>", "`").replace("</code>", "`").replace("&quot;", '"')
        assert all(line.replace("'", "&#x27;") in plain for line in [card.headline, *card.lines, *card.after])
