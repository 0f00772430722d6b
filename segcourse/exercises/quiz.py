"""Quiz questions: data, scored in the kernel, with a reason for every option."""

from __future__ import annotations

from dataclasses import dataclass

from segcourse.exercises.judge import Outcome
from segcourse.exercises.render import COLOURS, SIGNS, Card


@dataclass(frozen=True)
class Option:
    """One answer to choose, and why it is right or wrong."""

    text: str
    reason: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with exactly one right option, unless `several` says otherwise."""

    name: str
    lesson: str
    prompt: str
    options: tuple[Option, ...]
    several: bool = False

    def __post_init__(self) -> None:
        right = sum(option.right for option in self.options)
        if right == 0 or (right > 1) != self.several:
            raise ValueError(f"question {self.name!r} has {right} right options and several={self.several}.")

    def letters(self) -> str:
        """The options' letters: `abc`."""
        return "abcdefgh"[: len(self.options)]

    def text(self) -> str:
        """The question and its options as plain text."""
        return "\n".join([self.prompt, *(f"  {x}) {o.text}" for x, o in zip(self.letters(), self.options))])

    def score(self, letters: str) -> Card:
        """Answer a choice of letters with a reason for each.

        Raises:
            ValueError: if a letter is none of the question's.
        """
        chosen = set(letters.lower().replace(",", "").replace(" ", ""))
        if not chosen or not chosen <= set(self.letters()) or (len(chosen) > 1 and not self.several):
            choice = "one or more of" if self.several else "one of"
            raise ValueError(f"{letters!r} is not a choice here. Choose {choice}: {', '.join(self.letters())}.")
        right = {x for x, o in zip(self.letters(), self.options) if o.right}
        outcome = Outcome.CORRECT if chosen == right else Outcome.NOT_YET
        shown = self.letters() if outcome is Outcome.CORRECT else sorted(chosen)
        reasons = [f"{x}) {o.text.rstrip('.')}: {o.reason}" for x, o in zip(self.letters(), self.options) if x in shown]
        if outcome is not Outcome.CORRECT and chosen < right:
            reasons.append("Something is still missing.")
        return Card(f"{self.name}: {outcome}", SIGNS[outcome], COLOURS[outcome], reasons)
