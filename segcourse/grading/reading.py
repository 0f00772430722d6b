"""Reads a notebook from any bytes: its cells' kinds and sources, and nothing else.

Whatever comes, `read_notebook` returns a notebook or raises UnreadableError with a sentence for the student. It is
bounded in time (linear in the file) and in memory (MAX_BYTES, MAX_VALUES, MAX_SOURCE: 500 MB whatever the file). The
standard library's JSON reader is the only parser; outputs, metadata and ids are looked at for what is odd about them,
then dropped.

Formats: nbformat 4 and 5 (`cells`), 3 (`worksheets`); https://nbformat.readthedocs.io/en/latest/format_description.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

MAX_BYTES, MAX_WIDE_BYTES = 64 * 2**20, 32 * 2**20
"""A larger file is not read; a solved lesson with all its figures has 2 MB. One emoji makes each character of a text
cost 4 bytes, and as many again in a value, so the second limit is that of files with one."""
MAX_VALUES = 800_000
"""How many strings, commas and opening brackets a file may hold; each costs up to 150 bytes of memory."""
MAX_SOURCE = 1_000_000
"""How many characters a cell may have."""
MAX_CELLS = 5_000
MAX_NOTES = 20
MAX_NOTE = 200
"""How many characters a note has at most."""

Kind = Literal["code", "markdown", "raw"]

# A JSON string, also one that is never closed. Possessive, so that it never looks at a character twice.
STRING_OR_MARK = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.S)
WIDE = re.compile(b"[\xf0-\xf4]")  # in UTF-8 such a byte begins a character that needs 4
BLANK = re.compile(r"[ \t\r\n\0]*+")
SURROGATE = re.compile("[\ud800-\udfff]")
OTHER_FILES = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive or an Office document",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"<": "a web page (HTML or XML)",
}
HAND_IN = "Save the notebook in Jupyter and hand in the .ipynb file."


class UnreadableError(ValueError):
    """A file that cannot be read as a notebook; the message tells the student what is wrong and what to do."""


@dataclass(frozen=True)
class Cell:
    """One cell. Its source has plain newlines, and neither NUL nor lone surrogates."""

    number: int
    """Counted from 1 over all cells, as the student sees them."""
    kind: Kind
    source: str


@dataclass(frozen=True)
class Notebook:
    """What is taken from a file."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    """What was mended or is odd, one plain sentence each."""


class Notes:
    """Collects sentences: each once, at most MAX_NOTES, each at most MAX_NOTE characters."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        """Keep a sentence, shortened; when there are too many, the last says so."""
        if len(self._sentences) >= MAX_NOTES:
            sentence = "There is more of this kind."
        self._sentences.setdefault(sentence if len(sentence) <= MAX_NOTE else sentence[: MAX_NOTE - 1] + "…")

    def all(self) -> tuple[str, ...]:
        """Return the sentences in the order in which they came."""
        return tuple(self._sentences)


def read_notebook(data: bytes) -> Notebook:
    """Read a notebook's cells.

    Args:
        data: the file, whatever it is.

    Raises:
        UnreadableError: if there is no notebook in it, or it is too large. No other exception is raised.
    """
    notes = Notes()
    try:
        content = parse(decode(data, notes), notes)
        notebook = Notebook(tuple(cells_of(content, notes)), ())
        note_language(content, notes)
    except RecursionError:
        raise UnreadableError(f"The file is nested too deeply for a notebook. {HAND_IN}") from None
    except MemoryError:
        raise UnreadableError(
            "The file needs too much memory. Clear all outputs, save, and hand it in again."
        ) from None
    if not any(cell.source.strip() for cell in notebook.cells):
        notes.add("The notebook is empty: no cell holds anything.")
    return Notebook(notebook.cells, notes.all())


# --- bytes to text -------------------------------------------------------------------------------------------


def decode(data: bytes, notes: Notes) -> str:
    """Return the file's text, whatever it was encoded in."""
    most = MAX_BYTES if len(data) <= MAX_WIDE_BYTES or not WIDE.search(data) else MAX_WIDE_BYTES
    if len(data) > most:
        raise UnreadableError(
            f"The file has {len(data) / 2**20:.0f} MB; at most {most // 2**20} MB are read. "
            "Clear all outputs, save, and hand it in again."
        )
    if not data.strip(b" \t\r\n\0"):
        raise UnreadableError(f"The file is empty. {HAND_IN}")
    kind = next((kind for start, kind in OTHER_FILES.items() if data.startswith(start)), None)
    if kind:
        raise UnreadableError(f"The file is {kind}, not a notebook. {HAND_IN}")
    encoding = json.detect_encoding(data)
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.add(f"The file is encoded in {encoding.upper()}; it was read as that. Notebooks are UTF-8.")
        return data.decode(encoding, "replace").lstrip("\ufeff")
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError:
        return decode_damaged(data, notes)


def decode_damaged(data: bytes, notes: Notes) -> str:
    """Decode a file that is not UTF-8: as UTF-8 with bad bytes replaced if most of it is that, else as Windows-1252."""
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    if good > bad:
        notes.add("Some bytes of the file are not UTF-8; each was replaced by a question mark (�).")
        return text.lstrip("\ufeff")
    notes.add("The file is not UTF-8; it was read as Windows-1252.")
    return data.decode("cp1252", "replace")


# --- text to JSON --------------------------------------------------------------------------------------------


def parse(text: str, notes: Notes) -> dict[str, Any]:
    """Parse the text; what follows the notebook's end is left out."""
    if sum(1 for _ in islice(STRING_OR_MARK.finditer(text), MAX_VALUES + 1)) > MAX_VALUES:
        raise UnreadableError(
            f"The file holds more than {MAX_VALUES:,} values. Clear all outputs, save, and hand it in again."
        )
    begin = end_of_blank(text, 0)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(items)) < len(items):
            notes.add("A key stands twice in one place of the file; the last of the two counts.")
        return found

    decoder = json.JSONDecoder(
        strict=False, object_pairs_hook=pairs, parse_int=number, parse_float=number, parse_constant=lambda _: None
    )
    try:
        content, end = decoder.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        raise UnreadableError(what_is_wrong(text, begin, error)) from None
    if end_of_blank(text, end) < len(text):
        notes.add(f"After the notebook's end stand {len(text) - end} more characters; they were left out.")
    if not isinstance(content, dict) or not ({"cells", "worksheets"} & content.keys()):
        raise UnreadableError(f"The file is JSON, but not a notebook: there is no list of cells. {HAND_IN}")
    return content


def end_of_blank(text: str, begin: int) -> int:
    """Return where, from `begin` on, something stands that is not blank."""
    found = BLANK.match(text, begin)
    return found.end() if found else begin


def number(digits: str) -> float | None:
    """Read a number; one of absurd length is nothing to us."""
    return float(digits) if len(digits) < 40 else None


def what_is_wrong(text: str, begin: int, error: json.JSONDecodeError) -> str:
    """Say in what way a file is not JSON."""
    if re.search(r"^<{7} ", text, re.M):
        return (
            "The file holds the marks of a git merge conflict (<<<<<<<). "
            "Resolve the conflict, save the notebook in Jupyter, and hand it in again."
        )
    if not text.startswith("{", begin):
        return f"The file is not a notebook: it does not begin with a brace. {HAND_IN}"
    if end_of_blank(text, error.pos) >= len(text) or error.msg.startswith("Unterminated string"):
        return f"The file is cut off: its end is missing, after {len(text)} characters. {HAND_IN}"
    return f"The file is damaged: it is not JSON from line {error.lineno} on ({error.msg}). {HAND_IN}"


# --- JSON to cells -------------------------------------------------------------------------------------------


def cells_of(content: dict[str, Any], notes: Notes) -> Iterator[Cell]:
    """Yield the notebook's cells, of whatever version it is."""
    major = content.get("nbformat")
    if major not in (3, 4, 5):
        notes.add("The file does not say that it is a notebook of format 3, 4 or 5; it was read as one of format 4.")
    found = content.get("cells")
    if "cells" not in content:
        sheets = content["worksheets"] if isinstance(content["worksheets"], list) else []
        lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        found = [cell for cells in lists if isinstance(cells, list) for cell in cells]
        notes.add("The notebook is of the old format 3; it was read as it is.")
    if not isinstance(found, list):
        raise UnreadableError(f"The file is JSON, but not a notebook: its cells are not a list. {HAND_IN}")
    if len(found) > MAX_CELLS:
        notes.add(f"The notebook has {len(found)} cells; only the first {MAX_CELLS} were read.")
    ids: set[str] = set()
    for position, cell in enumerate(found[:MAX_CELLS], 1):
        if not isinstance(cell, dict):
            notes.add(f"Cell {position} is not a cell; it was left out.")
            continue
        key = cell.get("id")
        if isinstance(key, str):
            if key in ids:
                notes.add(f"Cell {position} has the id of another cell, as copied cells may; it was read all the same.")
            ids.add(key)
        yield Cell(position, kind_of(cell, position, notes), source_of(cell, position, notes))


def kind_of(cell: dict[str, Any], position: int, notes: Notes) -> Kind:
    """Return a cell's kind; one that does not say is code, which asks nothing of it."""
    said = cell.get("cell_type")
    said = said.lower() if isinstance(said, str) else ""
    if said in ("code", "markdown", "raw"):
        return said  # type: ignore[return-value]
    if said in ("heading", "html"):  # format 3
        return "markdown"
    notes.add(f"Cell {position} does not say whether it is code or text; it was read as code.")
    return "code"


def source_of(cell: dict[str, Any], position: int, notes: Notes) -> str:
    """Return a cell's source, with plain newlines."""
    source = cell.get("source", cell.get("input"))  # format 3 calls it input
    if isinstance(source, list):
        parts = [part for part in source if isinstance(part, str)]
        if len(parts) < len(source):
            notes.add(f"Lines of cell {position} are not text; they were left out.")
        source = "".join(parts) if sum(map(len, parts)) <= MAX_SOURCE else " " * (MAX_SOURCE + 1)
    if not isinstance(source, str):
        notes.add(f"Cell {position} has no source that is text; it was read as empty.")
        return ""
    if len(source) > MAX_SOURCE:
        notes.add(f"Cell {position} has more than {MAX_SOURCE:,} characters; it was read as empty.")
        return ""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in source:
        notes.add(f"Cell {position} holds NUL characters; they were left out.")
        source = source.replace("\0", "")
    if SURROGATE.search(source):
        notes.add(f"Cell {position} holds half characters (lone surrogates); each was replaced by a question mark (�).")
        source = SURROGATE.sub("\ufffd", source)
    return source


def note_language(content: dict[str, Any], notes: Notes) -> None:
    """Note a kernel that is not Python's: the cells are read as Python whatever it is."""
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for part, key in (("kernelspec", "language"), ("language_info", "name"), ("kernelspec", "name")):
        entry = metadata.get(part)
        said = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(said, str) and said:
            if not re.search("py|conda|env", said[:100], re.I) or re.search(r"^py\w* ?2\b", said[:100], re.I):
                shown = SURROGATE.sub("\ufffd", said[:30])
                notes.add(f"The notebook is set to the kernel of {shown!r}; its cells were read as Python 3.")
            return
