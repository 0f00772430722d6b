"""The exercises of the course: the engine, and one module a lesson.

`catalogue()` lists every exercise, `lessons()` every lesson; nothing else in the project knows them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segcourse.exercises.exercise import Exercise
    from segcourse.exercises.quiz import Question

LESSONS = (
    "00_start_here",
    "01_receptive_field",
    "02_transposed",
    "03_convolutionalize",
    "04_fcn_skips",
    "05_segnet_unpooling",
    "06_unet",
    "07_atrous",
    "08_depthwise_cost",
    "09_metrics",
)
"""The notebooks' stems, in order; a lesson's module in here is its stem without the number."""


@dataclass(frozen=True)
class Lesson:
    """What the course knows of a lesson beside its notebook."""

    stem: str
    title: str
    promise: str
    reading_minutes: int
    before: tuple[str, ...]
    """The stems of the lessons to do first."""
    exercises: tuple[Exercise, ...]
    quiz: tuple[Question, ...]
    given: tuple[str, ...] = ()
    """What of the package answers may use, such as `segcourse.void.VOID`; a grader gives them nothing else of it."""

    @property
    def points(self) -> int:
        """The points that the lesson's exercises give together."""
        return sum(e.points for e in self.exercises)

    @property
    def minutes(self) -> int:
        """The minutes for a student: reading and doing."""
        return self.reading_minutes + sum(e.minutes for e in self.exercises)


@functools.cache
def lesson(stem: str) -> Lesson:
    """Return the lesson of a notebook's stem, such as `01_receptive_field`.

    Raises:
        KeyError: if there is no such lesson.
    """
    if stem not in LESSONS:
        raise KeyError(f"there is no lesson {stem!r}; there are {', '.join(LESSONS)}.")
    return import_module(f"segcourse.exercises.{stem[3:]}").LESSON


def lessons() -> list[Lesson]:
    """Return every lesson, in order."""
    return [lesson(stem) for stem in LESSONS]


def catalogue() -> list[Exercise]:
    """Return every exercise of the course, in order."""
    return [exercise for one in lessons() for exercise in one.exercises]


def questions() -> list[Question]:
    """Return every quiz question of the course, in order."""
    return [question for one in lessons() for question in one.quiz]
