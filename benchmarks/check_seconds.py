"""Seconds that a check takes: a right answer, and the slowest of the known mistakes (diagnosis and shrinking included).

python benchmarks/check_seconds.py
"""

import time

from segcourse import exercises
from segcourse.exercises.guard import run_here
from segcourse.exercises.judge import judge


def seconds(exercise, answer) -> float:
    began = time.perf_counter()
    judge(exercise, run_here(exercise, answer), seed=0)
    return time.perf_counter() - began


def main() -> None:
    catalogue = exercises.catalogue()
    seconds(catalogue[0], catalogue[0].misconceptions[0].wrong)  # imports are not part of a check's time
    print(f"{'exercise':32} {'right':>8} {'slowest mistake':>16}")
    for exercise in catalogue:
        right = seconds(exercise, exercise.reference)
        wrong = max(seconds(exercise, mistake.wrong) for mistake in exercise.misconceptions)
        print(f"{exercise.name:32} {right:7.2f}s {wrong:15.2f}s")


if __name__ == "__main__":
    main()
