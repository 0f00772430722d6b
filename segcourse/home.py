"""Where the course keeps files, and how it writes them so that a crash loses nothing."""

import os
import tempfile
from pathlib import Path

LESSON_FILES = "[0-9][0-9]_*.ipynb"


def home() -> Path:
    """The student's own folder: `$SEGCOURSE_HOME`, or `~/.segcourse`. It need not exist yet."""
    chosen = os.environ.get("SEGCOURSE_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".segcourse"


def lessons_folder(start: Path | None = None) -> Path | None:
    """The folder of lessons (`NN_topic.ipynb`), or None.

    Looked for in `start` (default: the current folder) and its parents, as `lessons/` or as the folder itself
    where it is called so; then beside the installed package, which is right for an editable installation.
    """
    start = (start or Path.cwd()).resolve()
    checkout = Path(__file__).resolve().parent.parent
    for folder in (start, *start.parents, checkout):
        for candidate in (folder, folder / "lessons"):
            if candidate.name == "lessons" and any(candidate.glob(LESSON_FILES)):
                return candidate
    return None


def short(path: Path) -> str:
    """The path as people write it, `~/…` for the user's own folder: printed text then names no account."""
    try:
        relative = path.relative_to(Path.home())
    except (ValueError, RuntimeError):
        return str(path)
    return "~" if relative == Path() else f"~/{relative.as_posix()}"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8, newlines as given): at every moment the file holds the old content or the new.

    Raises OSError where the folder cannot be written; the old file is then untouched.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    """The permissions that new files do not get; a temporary file has none for others, a finished one should."""
    current = os.umask(0o077)
    os.umask(current)
    return current
