"""What students get of a lesson: its notebook, byte for byte, and a page that says how to begin and how to hand in.

Nothing else is packed, so nothing of `solutions/` can be. A notebook that somebody has worked on is refused: it may
hold answers.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from segcourse.home import short, write_atomically

STUB = "# YOUR CODE HERE"
README = """\
Lessons of segcourse, a course on semantic segmentation

Install the course, once
    You need Python 3.11 or newer and the course's own folder, which your teacher names. On Linux and macOS type in it

        make lab

    or on any system, in a virtual environment of your own,

        python -m pip install -c constraints.txt -e .

    `segcourse doctor` then says whether everything works.

Work
    Open the notebook in lessons/ with JupyterLab, or type in this folder (01 is the lesson's number)

        segcourse lab 01

    Replace the dots, run the cell, then the check below it. A check says what is wrong, as often as you like.

Hand in
    Save the notebook and hand in this one file, under any name. Outputs may stay. Your answers are found by the names
    of their functions, so do not rename these. Cells of your own that they need are used too. What a function prints
    counts for nothing, and nor do checks that were changed.
"""


class ReleaseError(ValueError):
    """What was asked cannot be packed; the message says why."""


def pack(lessons: Sequence[Path], out: Path, as_zip: bool = False) -> list[Path]:
    """Write what students get into a folder.

    Args:
        lessons: the students' notebooks.
        out: the folder. In it come `README.txt` and `lessons/NN_topic.ipynb`, or one zip with these.
        as_zip: whether to write the zip. The same notebooks give the same bytes, whenever and wherever.

    Returns:
        The files, whether they were written or had been there already.

    Raises:
        ReleaseError: if a notebook holds answers or outputs, or a different file of such a name lies in the folder;
            nothing has been written then.
        OSError: if the folder cannot be written.
    """
    files = {"README.txt": README.encode()} | {f"lessons/{path.name}": untouched(path) for path in lessons}
    if as_zip:
        name = "_".join(["segcourse", *(path.name[:2] for path in lessons)])
        files = {f"{name}.zip": zipped(files, name)}
    targets = {out / name: content for name, content in files.items()}
    fresh = [path for path in targets if not path.exists()]
    for path in targets:
        if path not in fresh and path.read_bytes() != targets[path]:
            raise ReleaseError(f"{short(path)} is there, and differs. Choose another --out, or take it away.")
    for path in fresh:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, targets[path])
    return list(targets)


def untouched(path: Path) -> bytes:
    """Return a lesson's bytes.

    Raises:
        ReleaseError: if somebody has worked on it.
    """
    data = path.read_bytes()
    for cell in json.loads(data)["cells"]:
        answered = "answer" in cell["metadata"].get("tags", []) and STUB not in "".join(cell["source"])
        if answered or cell.get("outputs"):
            what = "an answer" if answered else "outputs"
            raise ReleaseError(f"{short(path)} holds {what}: it is not as it was built. `git restore` it first.")
    return data


def zipped(files: dict[str, bytes], folder: str) -> bytes:
    """Return a zip of files in one folder: dates are fixed, and nothing is compressed, as versions of zlib differ."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(f"{folder}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever it was made: the permissions below are read by it
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()
