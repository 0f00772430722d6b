"""Grade 200 generated submissions of lesson 01, and a few of the same by nbgrader: processor time, memory, marks.

python benchmarks/grading_speed.py > benchmarks/grading_speed.md      Linux; nbgrader is in the packages for authors
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from grading.handed_in import LESSON, a_class, expected, family, notebook  # noqa: E402

from segcourse.grading.results import Record, Records  # noqa: E402

ASKED_RATIO, ASKED_MIB = 20, 2048


@dataclass
class Cost:
    """What a command and all its descendants used."""

    cpu: float
    """Processor seconds, of every process that was waited for."""
    wall: float
    peak: float
    """MiB: the largest sum over the processes of their proportional share of memory, looked at four times a second."""


def measure(command: list[str], folder: Path) -> Cost:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PATH": path},
    )
    peaks: list[float] = [0.0]
    watcher = threading.Thread(target=watch, args=(process, peaks))
    watcher.start()
    said = process.communicate()[0]
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{said[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.perf_counter() - began, max(peaks))


def watch(process: subprocess.Popen[str], peaks: list[float]) -> None:
    while process.returncode is None:
        peaks.append(sum(map(memory, family(process.pid))))
        time.sleep(0.25)


def memory(pid: int) -> float:
    """A process's share of memory in MiB; where that may not be read, all that it has resident."""
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
        except (OSError, StopIteration):
            continue
    return 0.0


def grade(folder: Path, jobs: int) -> tuple[Cost, list[Record]]:
    out = folder / f"graded with {jobs}"
    command = [sys.executable, "-m", "segcourse.cli", "grade", LESSON, str(folder / "handed in"), "--out", str(out)]
    cost = measure([*command, "--jobs", str(jobs), "--seed-file", str(folder / "secret")], ROOT)
    return cost, Records(out).history()


def autograde(folder: Path, students: dict[str, bytes]) -> tuple[float, dict[str, float]]:
    """Grade submissions with nbgrader; return the processor seconds of each, its own start left out, and the points."""
    from nbgrader.api import Gradebook

    course = folder / "course"
    source = course / "source" / LESSON
    source.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "nbgrader_config.py", course)
    shutil.copy(ROOT / "solutions" / f"{LESSON}.ipynb", source)
    nbgrader = [sys.executable, "-m", "nbgrader"]
    measure([*nbgrader, "generate_assignment", LESSON], course)
    for student, data in students.items():
        submitted = course / "submitted" / student / LESSON
        submitted.mkdir(parents=True)
        (submitted / f"{LESSON}.ipynb").write_bytes(data)
    # The second run finds all graded: it costs what starting costs.
    run, start = [measure([*nbgrader, "autograde", LESSON], course).cpu for _ in range(2)]
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        points = {student: book.find_submission(LESSON, student).score for student in students}
    return (run - start) / len(students), points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="how many submissions; default: 200")
    parser.add_argument("--by-nbgrader", type=int, default=4, help="how many of them nbgrader grades; default: 4")
    asked = parser.parse_args()
    answers = a_class(asked.count)
    students = {student: notebook(given) for student, given in answers.items()}
    deserved = {student: expected(given) for student, given in answers.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "handed in").mkdir()
        (folder / "secret").write_text("the secret of this benchmark")
        for student, data in students.items():
            (folder / "handed in" / f"{student}.ipynb").write_bytes(data)
        rows, marks = [], []
        for jobs in (1, 2):
            cost, records = grade(folder, jobs)
            fair = sum(deserved[record.student] == record.points for record in records)
            rows.append((f"`segcourse grade --jobs {jobs}`, {len(records)}", cost.cpu / len(records), cost, fair))
            marks.append(sorted((record.marks for record in records), key=lambda mark: mark["student"]))
        some = list(students)[:: asked.count // asked.by_nbgrader][: asked.by_nbgrader]  # whatever they hold
        theirs, points = autograde(folder, {student: students[student] for student in some})
    ours = max(row[1] for row in rows)
    peak = max(row[2].peak for row in rows)
    print(f"# Grading {asked.count} submissions of lesson 01\n")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[1]:.1f}, isolation {records[0].level}. Written by")
    print(
        "`benchmarks/grading_speed.py`. A submission's processor seconds are a run's, start, tables and pages included,"
    )
    print("divided by the submissions; nbgrader's start is left out.\n")
    print("| what | processor s a submission | seconds | most memory, MiB | marks as deserved |")
    print("| --- | --- | --- | --- | --- |")
    for what, each, cost, fair in rows:
        print(f"| {what} submissions | {each:.3f} | {cost.wall:.0f} | {cost.peak:.0f} | {fair} |")
    fair = sum(deserved[student] == given for student, given in points.items())
    print(f"| `nbgrader autograde`, {len(points)} of the same | {theirs:.2f} | | | {fair} |\n")
    print(f"Both runs gave {'the same' if marks[0] == marks[1] else 'DIFFERENT'} marks.")
    print(f"nbgrader takes {theirs / ours:.0f} times as much (asked: {ASKED_RATIO}), by the slower of the two runs.")
    print(f"{peak:.0f} MiB at most (asked: under {ASKED_MIB}).")
    if theirs < ASKED_RATIO * ours or peak > ASKED_MIB or marks[0] != marks[1]:
        sys.exit("That is not what was asked.")


if __name__ == "__main__":
    main()
