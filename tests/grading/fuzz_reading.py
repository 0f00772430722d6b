"""Feeds damaged notebooks to the reader: only UnreadableError may come, and the slicer takes whatever was read.

python tests/grading/fuzz_reading.py --minutes 10 [--seed N]

What breaks it is written to tests/grading/corpus/, which the tests replay.
"""

import argparse
import hashlib
import json
import random
import time
from pathlib import Path

from segcourse.grading.answers import Program, find_answers
from segcourse.grading.reading import MAX_NOTE, MAX_NOTES, Notebook, UnreadableError, read_notebook

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"
NAMES = ("compound_kernel", "count_label", "pixels_seen")
VALUES = [None, True, 0, -1, 1e999, 10**30, "", "code", "raw", "\0", "\ud800", [], {}, [[]], [1], {"a": {}}, "x" * 999]
SCRAPS = [
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\r\n", b"\r"),
    *(b"NaN", b"-Infinity", b"9" * 5000, b"1e999999", b'"cells"', b'"source"', b"\\ud800", b"\\u0000", b"[" * 3000),
    *(b'"cells":[],', b'"nbformat":3,', b"<<<<<<< HEAD\n", b"null", b"\xed\xa0\x80", b"%%bash\\n", b"!ls\\n", b"'''"),
]


def bases() -> list[bytes]:
    """The released lessons and what broke the reader before."""
    files = [*sorted((ROOT / "lessons").glob("*.ipynb")), *sorted(CORPUS.glob("[!.]*"))]
    return [path.read_bytes() for path in files]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage a file in up to four ways."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice([cut, insert, flip, splice, retype, recode])(data, rng)
    return data


def place(data: bytes, rng: random.Random) -> int:
    return rng.randint(0, len(data))


def cut(data: bytes, rng: random.Random) -> bytes:
    begin = place(data, rng)
    return data[:begin] if rng.random() < 0.3 else data[:begin] + data[begin + rng.randint(1, 200) :]


def insert(data: bytes, rng: random.Random) -> bytes:
    begin = place(data, rng)
    return data[:begin] + rng.choice(SCRAPS) + data[begin:]


def flip(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 20) if data else 0):
        damaged[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(damaged)


def splice(data: bytes, rng: random.Random) -> bytes:
    begin, end = sorted((place(data, rng), place(data, rng)))
    part = data[begin : min(end, begin + 5000)]
    at = place(data, rng)
    return data[:at] + part + data[at:]


def recode(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "cp1252", "utf-8-sig", "latin-1"]), "replace")


def retype(data: bytes, rng: random.Random) -> bytes:
    """Put a value of another type somewhere into a notebook that still is JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    holder = content
    while isinstance(holder, (dict, list)) and holder:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = rng.choice(keys)
        if rng.random() < 0.3 or not isinstance(holder[key], (dict, list)) or not holder[key]:
            holder[key] = rng.choice(VALUES)
            break
        holder = holder[key]
    return json.dumps(content).encode()


def feed(data: bytes) -> tuple[Notebook, Program] | None:
    """Read and slice; whatever the data, only UnreadableError may come, and notes stay short."""
    try:
        notebook = read_notebook(data)
    except UnreadableError:
        return None
    program = find_answers(notebook.cells, NAMES, {})
    for notes in (notebook.notes, program.notes):
        assert len(notes) <= MAX_NOTES + 1
        assert all(len(note) <= MAX_NOTE and note.encode() for note in notes)
    for cell in notebook.cells:
        assert cell.source.encode().count(b"\0") == 0
    return notebook, program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, begun, seeds = random.Random(options.seed), time.monotonic(), bases()
    tried = read = broken = 0
    slowest = 0.0
    while time.monotonic() - begun < 60 * options.minutes:
        data = mutated(rng.choice(seeds), rng)
        since = time.monotonic()
        try:
            read += feed(data) is not None
        except Exception as error:
            name = hashlib.sha256(data).hexdigest()[:12]
            (CORPUS / name).write_bytes(data)
            broken += 1
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
        slowest = max(slowest, time.monotonic() - since)
        tried += 1
    print(f"{tried} files, {read} of them readable, {broken} broke the reader; the slowest took {slowest:.2f} s")
    raise SystemExit(broken > 0)


if __name__ == "__main__":
    main()
