"""The `segcourse` command: open a lesson, look after the machine, the progress and the data, build the lessons.

Nothing heavy is imported before a subcommand needs it, so that `segcourse --help` answers at once.
"""

import argparse
import difflib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from segcourse import __version__
from segcourse.home import LESSON_FILES, lessons_folder, short

FINE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
FIRST_LESSON = "00_start_here"
WINDOWS = os.name == "nt"


class UsageError(ValueError):
    """What was typed cannot be done; the message says what can."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 for fine, 1 for something that failed, 2 for a mistake in it, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without the sign ✓ shows a question mark
    # Waiting threads sleep instead of spinning: on a busy machine that is ten times faster. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parsed, unknown = parser().parse_known_args(arguments)
    if unknown:  # the usage that helps is that of the command, not of the whole
        parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return parsed.run(parsed)
    except UsageError as problem:
        print(f"segcourse: {problem}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # `segcourse progress | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (OSError, ValueError, RuntimeError, ImportError) as problem:
        print(f"segcourse: {problem}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as stop:
        print(f"segcourse: {str(stop) or 'stopped'}", file=sys.stderr)
        return STOPPED


class Parser(argparse.ArgumentParser):
    """A parser that says what a mistyped command or option may have been meant to be."""

    def __init__(self, *args: Any, **keys: Any) -> None:
        super().__init__(*args, **keys)
        self.words: Sequence[str] = ()
        self.set_defaults(parser=self)  # the innermost one stays: that of the command that was typed

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse, and remember what was typed."""
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, with a guess if there is one; leave with 2."""
        options = [option for action in self._actions for option in action.option_strings]
        actions = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        commands = [name for action in actions for name in action.choices]
        typed = [word.partition("=")[0] for word in self.words if word.startswith("-")]
        mistyped = [word for word in typed if not any(option.startswith(word) for option in options)]
        close = [guess for word in mistyped for guess in difflib.get_close_matches(word, options, n=1)]
        first = next((word for word in self.words if not word.startswith("-")), "")
        if first not in commands:
            close += difflib.get_close_matches(first, commands, n=1)
        super().error(message + "".join(f"\ndid you mean {guess}?" for guess in dict.fromkeys(close)))


def parser() -> argparse.ArgumentParser:
    """The grammar of the command; each subcommand carries the function that does it as `run`."""
    root = Parser(prog="segcourse", description="A course on semantic segmentation.")
    root.add_argument("--version", action="version", version=f"segcourse {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")

    lab = commands.add_parser("lab", help="open a lesson in JupyterLab")
    lab.add_argument(
        "lesson", nargs="?", default=FIRST_LESSON, metavar="LESSON", help="1, 01, 01_topic or topic; default: 00"
    )
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--port", type=int, help="the port to serve on; default: the first free one from 8888")
    lab.set_defaults(run=_lab)

    doctor = commands.add_parser("doctor", help="check that everything on this machine works, and say what to do")
    doctor.set_defaults(run=_doctor)

    progress = commands.add_parser("progress", help="show the points so far")
    what = progress.add_mutually_exclusive_group()
    what.add_argument("--reset", metavar="EXERCISE", help="forget one exercise; a copy of the file is kept")
    what.add_argument("--reset-all", action="store_true", help="forget everything; a copy of the file is kept")
    what.add_argument("--json", action="store_true", help="print what is kept as JSON")
    progress.set_defaults(run=_progress)

    data = commands.add_parser("data", help="the data sets: list, get or verify them")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    actions.add_parser("list", help="the data sets and where they are").set_defaults(run=_data_list)
    get = actions.add_parser("get", help="download a data set; goes on where it was interrupted")
    get.add_argument("name", metavar="NAME")
    get.set_defaults(run=_data_get)
    actions.add_parser("verify", help="compare every file with its checksum").set_defaults(run=_data_verify)

    grade = commands.add_parser(
        "grade",
        help="grade a class's notebooks, safely (for teachers)",
        description="Grade a class's notebooks. What students wrote runs locked in, on Linux.\n\nExample:\n"
        "  segcourse grade 01 hand_in.zip --out graded\nThen open graded/report.html. docs/grading.md says the rest.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    grade.add_argument("lesson", metavar="LESSON", help="1, 01, 01_topic or topic")
    grade.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="everybody's files: notebooks, folders by student, or a zip of Moodle or Canvas",
    )
    grade.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="a new folder for marks, pages for students and the report; with --resume that of the run before",
    )
    grade.add_argument("--jobs", type=int, default=1, metavar="N", help="grade N submissions at a time; default: 1")
    grade.add_argument(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="grade only part I of N, such as 2/8, to share work between machines; `grades merge` joins the parts",
    )
    grade.add_argument(
        "--seed-file",
        type=Path,
        metavar="FILE",
        help="the class's secret, which decides on which inputs answers are tried; default: DIR/secret.txt, made if "
        "there is none",
    )
    grade.add_argument(
        "--sandbox",
        choices=["auto", "full", "limits"],
        default="auto",
        help="how answers are kept from your files and the network. auto: by the best walls that this machine has; "
        "where it has none, --trust is needed. full: never without walls, even with --trust. limits: no walls, only "
        "limits on time and memory; needs --trust. default: auto",
    )
    grade.add_argument(
        "--trust",
        action="store_true",
        help="run answers where no walls keep them from your files and the network: only for people you trust",
    )
    grade.add_argument(
        "--time", type=float, default=60.0, metavar="S", help="how many seconds an exercise may take; default: 60"
    )
    grade.add_argument(
        "--memory", default="1G", metavar="SIZE", help="how much memory a submission may use, such as 800M; default: 1G"
    )
    grade.add_argument(
        "--resume",
        action="store_true",
        help="go on with the results that DIR holds: grade who is new, changed or missing, keep the others",
    )
    grade.set_defaults(run=_grade)

    grades = commands.add_parser("grades", help="results of grading: join parts, fill in a school's tables")
    actions = grades.add_subparsers(title="actions", required=True, metavar="ACTION")
    merge = actions.add_parser("merge", help="join the results of shards that were graded apart")
    merge.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="what `grade --out` wrote")
    merge.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the joined results go")
    merge.set_defaults(run=_grades_merge)
    export = actions.add_parser("export", help="fill in tables that Canvas or Moodle wrote")
    export.add_argument("folder", type=Path, metavar="DIR", help="what `grade --out` wrote")
    export.add_argument("--canvas", type=Path, metavar="FILE", help="the gradebook as Canvas exports it")
    export.add_argument("--column", default="", help='the lesson\'s column in it: "Lesson 01 (88123)"')
    export.add_argument("--moodle", type=Path, metavar="FILE", help="the grading worksheet as Moodle gives it")
    export.set_defaults(run=_grades_export)

    release = commands.add_parser("release", help="pack what students get of lessons, without solutions")
    release.add_argument("lessons", nargs="+", metavar="LESSON", help="1, 01, 01_topic or topic")
    release.add_argument("--out", type=Path, required=True, metavar="DIR", help="nothing different is overwritten")
    release.add_argument("--zip", action="store_true", help="one zip in place of the files")
    release.set_defaults(run=_release)

    build = commands.add_parser("build", help="make the lessons from their sources (for authors)")
    build.add_argument("lessons", nargs="*", metavar="LESSON", help="default: all")
    build.add_argument("--check", action="store_true", help="change nothing; fail if a lesson is not up to date")
    build.set_defaults(run=_build)
    return root


def find_lesson(asked: str, known: Sequence[str]) -> str:
    """The lesson that is meant by `1`, `01`, `01_topic`, `topic` or a path. Raises UsageError for no such lesson."""
    wanted = Path(asked).name.removesuffix(".ipynb").removesuffix(".py")
    for name in known:
        number, _, topic = name.partition("_")
        if wanted in (name, topic) or (wanted.isdecimal() and int(wanted) == int(number)):
            return name
    raise UsageError(f"there is no lesson {asked!r}. The lessons are:\n" + "\n".join(f"  {name}" for name in known))


def _lessons() -> tuple[Path, list[str]]:
    folder = lessons_folder()
    if folder is None:
        raise UsageError("no folder of lessons here. Change to the folder of the course, and try again.")
    return folder, sorted(file.stem for file in folder.glob(LESSON_FILES))


def _lab(asked: argparse.Namespace) -> int:
    folder, known = _lessons()
    lesson = find_lesson(asked.lesson, known)
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        *(f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{lesson}.ipynb"),
        *(["--no-browser"] if asked.no_browser else []),
        *([f"--port={asked.port}"] if asked.port is not None else []),
        # JupyterLab refuses to run as root, which is the only user of many containers.
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]
    sys.stdout.flush()
    if WINDOWS:  # there, exec returns to the prompt while the new program still runs
        return subprocess.call(command)
    os.execv(command[0], command)


def _doctor(asked: argparse.Namespace) -> int:
    from segcourse import doctor

    findings = doctor.run()
    print(doctor.render_text(findings))
    return FAILED if any(finding.status == "fail" for finding in findings) else FINE


def _progress(asked: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from segcourse import progress

    if asked.json:
        print(json.dumps(asdict(progress.load()), indent=1))
        return FINE
    if asked.reset or asked.reset_all:
        copy = progress.reset(None if asked.reset_all else asked.reset)
        if copy is None and asked.reset:
            raise UsageError(f"nothing is kept of an exercise {asked.reset!r}; see `segcourse progress`")
        print(f"Done; a copy of what was there is {short(copy)}." if copy else "There is nothing to forget.")
        return FINE
    print(progress.table(_catalogue()))
    print(f"\nKept in {short(progress.path())}.")
    return FINE


def _catalogue() -> list[tuple[str, str, float, str]]:
    from segcourse.exercises import catalogue

    return [(each.lesson, each.name, each.points, each.title) for each in catalogue()]


def _data_list(asked: argparse.Namespace) -> int:
    from segcourse.datasets import download

    for each in download.list_datasets():
        if each.here == each.files:
            state = "here"
        else:
            state = f"{each.here} of {each.files} files here" if each.here else "not here"
        print(f"{each.name}: {each.what}")
        print(f"  {state}; {each.files} files, {each.size / 1e6:.0f} MB; {each.terms}; {each.page}")
    return FINE


def _data_get(asked: argparse.Namespace) -> int:
    from segcourse.datasets import download

    names = [each.name for each in download.list_datasets()]
    if asked.name not in names:
        raise UsageError(f"there is no data set {asked.name!r}; there is {', '.join(names)}")

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{asked.name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)

    try:
        folder = download.get(asked.name, progress=show)
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
    print(f"{asked.name}: complete, each file verified, in {short(folder)}")
    return FINE


def _data_verify(asked: argparse.Namespace) -> int:
    from segcourse.datasets import download

    complete = True
    for each in download.list_datasets():
        found = download.verify(name=each.name)
        if not found.good and not found.wrong:  # a set that nobody fetched is no failure
            print(f"{each.name}: not here")
            continue
        complete = complete and found.complete
        print(f"{each.name}: {found.good} files right, {len(found.missing)} missing, {len(found.wrong)} wrong")
        for path in found.wrong:
            print(f"  wrong: {path}")
        if not found.complete:
            print(f"  `segcourse data get {each.name}` fetches what is missing or wrong into {short(found.folder)}")
    return FINE if complete else FAILED


def _grade(asked: argparse.Namespace) -> int:
    from segcourse.grading import command

    folder, known = _lessons()
    lesson = find_lesson(asked.lesson, known)
    try:
        order = command.Order(
            lesson=lesson,
            released=folder / f"{lesson}.ipynb",
            folder=asked.folder,
            out=asked.out,
            jobs=asked.jobs,
            shard=command.read_shard(asked.shard),
            seed_file=asked.seed_file,
            sandbox=asked.sandbox,
            trust=asked.trust,
            seconds=asked.time,
            memory=command.read_size(asked.memory),
            resume=asked.resume,
        )
    except ValueError as problem:
        raise UsageError(problem) from None
    try:
        return command.run(order)
    except command.GradingError as problem:
        raise UsageError(problem) from None


def _grades_export(asked: argparse.Namespace) -> int:
    from segcourse.grading import command

    if not (asked.canvas or asked.moodle):
        raise UsageError("say which table to fill in: --canvas FILE or --moodle FILE.")
    if asked.column and not asked.canvas:
        raise UsageError("--column names a column of Canvas's gradebook: say --canvas FILE too.")
    try:
        return command.export(asked.folder, asked.canvas, asked.moodle, asked.column)
    except command.GradingError as problem:
        raise UsageError(problem) from None


def _grades_merge(asked: argparse.Namespace) -> int:
    from segcourse.grading import command

    try:
        return command.merge(asked.folders, asked.out)
    except command.GradingError as problem:
        raise UsageError(problem) from None


def _release(asked: argparse.Namespace) -> int:
    from segcourse import release

    folder, known = _lessons()
    lessons = dict.fromkeys(find_lesson(name, known) for name in asked.lessons)
    try:
        files = release.pack([folder / f"{lesson}.ipynb" for lesson in lessons], asked.out, asked.zip)
    except release.ReleaseError as problem:
        raise UsageError(problem) from None
    for path in files:
        print(short(path))
    return FINE


def _build(asked: argparse.Namespace) -> int:
    try:
        from segcourse import authoring, exercises
    except ModuleNotFoundError as problem:
        raise UsageError(
            f'{problem}. Building needs the packages for authors: python -m pip install -c constraints.txt -e ".[dev]"'
        ) from problem
    lessons = [find_lesson(name, exercises.LESSONS) for name in asked.lessons]
    try:
        return authoring.main(lessons, asked.check)
    except authoring.BuildError as problem:
        raise RuntimeError(problem) from problem


if __name__ == "__main__":
    sys.exit(main())
