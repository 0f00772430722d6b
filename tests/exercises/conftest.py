"""Runs the contract's tests once for each exercise of a lesson."""

import pytest

from segcourse import exercises


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for `exercise` every exercise of its class's lesson."""
    if "exercise" in metafunc.fixturenames and metafunc.cls is not None:
        of_lesson = exercises.lesson(metafunc.cls.lesson).exercises
        metafunc.parametrize("exercise", of_lesson, ids=[e.name for e in of_lesson])
