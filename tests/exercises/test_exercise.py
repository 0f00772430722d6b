"""What an exercise derives from its data."""

from segcourse.exercises.exercise import RandomDraw, draw_tensor, without_annotations

ANNOTATED = """def f(größe: dict[str, tuple[int, int]], *rest: int, tiny: float = 0.5) -> list[int]:
    '''Return: nothing -> much.'''
    found: list[int] = []  # kept: a comment -> with an arrow
    for x in rest:
        found.append(x)
    return found
"""
BARE = """def f(größe, *rest, tiny = 0.5):
    '''Return: nothing -> much.'''
    found = []  # kept: a comment -> with an arrow
    for x in rest:
        found.append(x)
    return found
"""


def test_annotations_are_cut_and_nothing_else() -> None:
    assert without_annotations(ANNOTATED) == BARE
    assert without_annotations(BARE) == BARE


def test_annotations_over_several_lines() -> None:
    source = "def f(\n    a: tuple[\n        int, int\n    ],\n    b: int,\n) -> int:\n    return b\n"
    assert without_annotations(source) == "def f(\n    a,\n    b,\n):\n    return b\n"


def test_a_seed_determines_every_choice() -> None:
    one, other = RandomDraw(5), RandomDraw(5)
    assert [one.integer(0, 99) for _ in range(9)] == [other.integer(0, 99) for _ in range(9)]
    assert one.choice("abc") == other.choice("abc")
    assert draw_tensor(one, (2, 3), 0, 9).equal(draw_tensor(other, (2, 3), 0, 9))
