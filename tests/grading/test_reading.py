"""Any bytes become a notebook or a sentence for the student; what was mended is told."""

import json
import random
import runpy
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcourse.grading import reading
from segcourse.grading.reading import MAX_NOTE, MAX_NOTES, Notebook, UnreadableError, read_notebook

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FUZZ = runpy.run_path(str(HERE / "fuzz_reading.py"))
SOURCE = "def answer(x):\n    return 'ä€😀'\n"


def cell(source=SOURCE, kind="code", **more) -> dict:
    return {"cell_type": kind, "source": source, "metadata": {}, **more}


def content(*cells, **more) -> dict:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **more}


def file(*cells, **more) -> bytes:
    return json.dumps(content(*cells, **more), ensure_ascii=False).encode("utf-8", "surrogatepass")


def sources(data: bytes) -> list[str]:
    return [one.source for one in read_notebook(data).cells]


def test_a_notebook_is_read():
    notebook = read_notebook(file(cell("# A"), cell("a", "markdown"), cell(["x = 1\n", "y = 2"]), cell("r", "raw")))
    assert [(one.number, one.kind, one.source) for one in notebook.cells] == [
        (1, "code", "# A"),
        (2, "markdown", "a"),
        (3, "code", "x = 1\ny = 2"),
        (4, "raw", "r"),
    ]
    assert notebook.notes == ()


@pytest.mark.parametrize("path", sorted((ROOT / "solutions").glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_reads_what_nbformat_reads(path):
    nbformat = pytest.importorskip("nbformat")
    theirs = nbformat.read(path, 4).cells
    ours = read_notebook(path.read_bytes())
    assert [(one.kind, one.source) for one in ours.cells] == [(one.cell_type, one.source) for one in theirs]
    assert ours.notes == ()


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16-LE"),
        ("utf-16-be", "UTF-16-BE"),
        ("utf-32", "UTF-32"),
    ],
)
def test_encodings(encoding, note):
    notebook = read_notebook(file(cell()).decode().encode(encoding))
    assert notebook.cells[0].source == SOURCE
    assert bool(notebook.notes) is bool(note)
    assert note is None or note in notebook.notes[0]


def test_windows_1252_and_bytes_that_are_damaged():
    western = read_notebook(file(cell("café = 'ß'")).decode().encode("cp1252"))
    assert western.cells[0].source == "café = 'ß'"
    assert "Windows-1252" in western.notes[0]
    damaged = read_notebook(file(cell("a = 'äöüß€'")).replace("ö".encode(), b"\xff"))
    assert damaged.cells[0].source == "a = 'ä\ufffdüß€'"
    assert "not UTF-8" in damaged.notes[0]


def test_newlines():
    assert sources(file(cell("a\r\nb\rc\n"))) == ["a\nb\nc\n"]
    assert sources(file(cell("a")).replace(b",", b",\r\n")) == ["a"]
    assert sources(b" \n\t" + file(cell("a")) + b"\n\n") == ["a"]


def test_format_3():
    old = {
        "nbformat": 3,
        "metadata": {"name": ""},
        "worksheets": [
            {"cells": [{"cell_type": "heading", "level": 1, "source": "A"}, {"cell_type": "code", "input": "x = 1"}]},
            {"cells": [{"cell_type": "code", "input": ["y = ", "2"], "language": "python"}]},
            7,
            {"cells": 7},
        ],
    }
    notebook = read_notebook(json.dumps(old).encode())
    assert [(one.number, one.kind, one.source) for one in notebook.cells] == [
        (1, "markdown", "A"),
        (2, "code", "x = 1"),
        (3, "code", "y = 2"),
    ]
    assert "old format 3" in notebook.notes[0]


@pytest.mark.parametrize("version", [5, 4.0, 4, 3])
def test_formats_that_are_known(version):
    assert read_notebook(file(cell(), nbformat=version)).notes == ()


@pytest.mark.parametrize("version", [None, "4", 99, [], 1e999, 10**400])
def test_formats_that_are_not(version):
    notebook = read_notebook(file(cell(), nbformat=version))
    assert notebook.cells[0].source == SOURCE
    assert "was read as one of format 4" in notebook.notes[0]


@pytest.mark.parametrize(
    ("odd", "source", "note"),
    [
        (7, None, "Cell 1 is not a cell"),
        (None, None, "Cell 1 is not a cell"),
        ({"cell_type": "code"}, "", "no source that is text"),
        (cell(None), "", "no source that is text"),
        (cell({"a": 1}), "", "no source that is text"),
        (cell(["x", 7, None, ["y"], "z"]), "xz", "are not text"),
        (cell("x", "Code"), "x", None),
        (cell("x", "cell"), "x", "does not say whether"),
        (cell("x", ["code"]), "x", "does not say whether"),
        ({"source": "x"}, "x", "does not say whether"),
        (cell("x\0y\0"), "xy", "NUL"),
        (cell("'\ud800'"), "'\ufffd'", "lone surrogates"),
        (cell("x", id=7, metadata=[], outputs="", execution_count=float("nan")), "x", None),
    ],
)
def test_cells_that_are_odd(odd, source, note):
    data = json.dumps(content(odd, cell("last"))).encode()
    notebook = read_notebook(data)
    assert [one.source for one in notebook.cells] == ([] if source is None else [source]) + ["last"]
    assert notebook.cells[-1].number == 2
    assert bool(notebook.notes) is (note is not None)
    assert note is None or note in notebook.notes[0]


def test_ids_and_keys_that_stand_twice():
    assert "id of another cell" in read_notebook(file(cell(id="a"), cell(id="a"))).notes[0]
    assert read_notebook(file(cell(), cell())).notes == ()
    twice = b'{"nbformat": 4, "cells": [], "cells": [{"cell_type": "code", "source": "x", "source": "y"}]}'
    notebook = read_notebook(twice)
    assert [one.source for one in notebook.cells] == ["y"]
    assert "A key stands twice" in notebook.notes[0]


@pytest.mark.parametrize(
    ("metadata", "noted"),
    [
        ({"kernelspec": {"name": "python3", "language": "python"}}, False),
        ({"kernelspec": {"name": "conda-env-seg-py"}}, False),
        ({"language_info": {"name": "ipython", "version": "3.12"}}, False),
        ({"kernelspec": {"name": "ir", "language": "R"}}, True),
        ({"kernelspec": {"name": "ir"}}, True),
        ({"kernelspec": {"name": "python2", "language": "python2"}}, True),
        ({"language_info": {"name": "julia"}}, True),
        ({"kernelspec": {"language": "\ud800" * 50}}, True),
        ({"kernelspec": 7, "language_info": {"name": []}}, False),
        (7, False),
        (None, False),
    ],
)
def test_kernels(metadata, noted):
    notebook = read_notebook(json.dumps(content(cell("x"), metadata=metadata)).encode())
    assert bool(notebook.notes) is noted
    assert not noted or "read as Python 3" in notebook.notes[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n\0\0", "is empty"),
        (b"\xef\xbb\xbf", "does not begin with a brace"),
        (b"\xff\xfe", "does not begin with a brace"),
        (file(cell())[:-20], "cut off"),
        (file(cell())[:30], "cut off"),
        (file(cell()).replace(b'"source":', b'"source"'), "damaged: it is not JSON from line 1 on"),
        (b"[]", "no list of cells"),
        (b"{}", "no list of cells"),
        (b"7", "no list of cells"),
        (b'{"cells": {}}', "cells are not a list"),
        (b'{"cells": null}', "cells are not a list"),
        (b"print(1)", "does not begin with a brace"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04...", "a zip archive or an Office document"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'{"cells": [\n<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> x\n]}', "git merge conflict"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 4_000_000, "more than 800,000 values"),
        (b'{"cells": [' + b"0," * 1_000_000 + b"0]}", "more than 800,000 values"),
    ],
)
def test_what_is_no_notebook_is_explained(data, says):
    with pytest.raises(UnreadableError) as raised:
        read_notebook(data)
    words = str(raised.value)
    assert says in words
    assert len(words) < 300
    assert words.endswith("hand in the .ipynb file.") or "hand it in again." in words


def test_a_file_that_is_too_large(monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 2**20)
    with pytest.raises(UnreadableError, match="has 2 MB; at most 1 MB are read"):
        read_notebook(bytes(2 * 2**20))


def test_odd_numbers_do_no_harm():
    text = file(cell("x")).decode()
    for number in ("9" * 100_000, "NaN", "-Infinity", "1e999999", "-0", "0." + "1" * 100_000):
        assert sources(text.replace('"metadata": {}', f'"metadata": {{"n": {number}}}').encode()) == ["x"]


def test_what_follows_the_end_is_left_out():
    notebook = read_notebook(file(cell("x")) + b"}]" + file(cell("y")))
    assert [one.source for one in notebook.cells] == ["x"]
    assert "After the notebook's end" in notebook.notes[0]
    assert read_notebook(file(cell("x")) + b"\0" * 512).notes == ()


def test_huge_outputs_cost_a_few_times_their_size():
    outputs = [{"output_type": "stream", "name": "stdout", "text": ["0.25, [1]\n" * 2_000_000]}]
    data = file(cell("x", outputs=outputs))
    assert len(data) > 20_000_000
    tracemalloc.start()
    assert sources(data) == ["x"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * len(data)


EMOJI = "😀".encode()


def of_outputs(outputs: bytes, source: bytes = b'"x"') -> bytes:
    return b'{"nbformat":4,"cells":[{"cell_type":"code","source":' + source + b',"outputs":[' + outputs + b"]}]}"


def worst(size: int, values: int, wide: bytes) -> dict[str, bytes]:
    """Files that ask for much memory: nearly `size` bytes, or nearly `values` values."""
    keys = b",".join(b'"%06x%s":[]' % (number, wide) for number in range(values // 3 - 20))
    return {
        "one string": of_outputs(b'"' + wide + b"a" * (size - 200) + b'\\n"'),
        "one source": of_outputs(b"", b'"' + wide + b"aaaa\\r\\n" * (size // 8 - 50) + b'"'),
        "many sources": of_outputs(b"", b"[]")[:-2]
        + (b',{"source":"' + wide + b"aaaa\\r\\n" * 110_000 + b'\\u0000"}') * (size // 880_100)
        + b"]}",
        "keys": of_outputs(b"{" + keys + b'},"' + b"a" * (size - len(keys) - 200) + b'\\n"'),
        "too many values": of_outputs(b'[""],' * (size // 5 - 50) + b"0"),
        "empty strings": b'""' * (size // 2),
        "deep": b'{"":' * (size // 4),
        "bad bytes": of_outputs(b'"' + b"\xffa" * (size // 2 - 100) + wide + b'"'),
        "blanks": b" " * (size - 200) + of_outputs(b'"' + wide + b'"'),
        "more after the end": of_outputs(b"") + b"a" * (size - 200) + wide,
        "cut off": of_outputs(b'"' + b"a" * (size - 200) + wide)[:-10],
    }


@pytest.mark.parametrize("kind", worst(1_000_000, 0, EMOJI))
@pytest.mark.parametrize(("wide", "size"), [(EMOJI, reading.MAX_WIDE_BYTES), ("中".encode(), reading.MAX_BYTES)])
def test_memory_is_bounded_whatever_the_file(kind, wide, size, monkeypatch):
    """What a reading process has at most, by itself: a file of an eighth of the limits may have an eighth."""
    monkeypatch.setattr(reading, "MAX_WIDE_BYTES", reading.MAX_WIDE_BYTES // 8)
    data = worst(size // 8, reading.MAX_VALUES // 8, wide)[kind]
    tracemalloc.start()
    readable(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) <= size // 8
    assert len(data) + peak < 500 * 2**20 / 8


def test_a_large_file_with_wide_characters_is_refused(monkeypatch):
    monkeypatch.setattr(reading, "MAX_WIDE_BYTES", 2000)
    assert read_notebook(of_outputs(b'"' + b"a" * 2000 + b'"')).cells
    with pytest.raises(UnreadableError, match="Clear all outputs"):
        read_notebook(of_outputs(b'"' + b"a" * 2000 + EMOJI + b'"'))


def test_a_cell_that_is_too_long():
    long = "x" * (reading.MAX_SOURCE + 1)
    for source in (long, [long[:10], long[10:]]):
        notebook = read_notebook(file(cell(source), cell("y"), cell("x" * reading.MAX_SOURCE)))
        assert [len(one.source) for one in notebook.cells] == [0, 1, reading.MAX_SOURCE]
        assert notebook.notes == ("Cell 1 has more than 1,000,000 characters; it was read as empty.",)


def test_the_largest_lesson_is_far_from_the_limits():
    sizes = {path.stem: path.stat().st_size for path in (ROOT / "solutions").glob("*.ipynb")}
    assert sizes
    assert 10 * max(sizes.values()) < reading.MAX_BYTES


def test_notes_are_few_and_short():
    cells = [cell(None, kind="k" * 10_000) for _ in range(300)]
    notes = read_notebook(file(*cells, metadata={"kernelspec": {"language": "é" * 9999}})).notes
    assert len(notes) == MAX_NOTES + 1
    assert notes[-1] == "There is more of this kind."
    assert all(len(note) <= MAX_NOTE for note in notes)


def test_too_many_cells():
    notebook = read_notebook(file(*[cell("x")] * 5001))
    assert len(notebook.cells) == 5000
    assert "only the first 5000" in notebook.notes[0]


def test_an_empty_notebook_says_so():
    assert read_notebook(file()).notes == ("The notebook is empty: no cell holds anything.",)


def readable(data: bytes) -> Notebook | None:
    try:
        return read_notebook(data)
    except UnreadableError:
        return None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data):
    readable(data)


ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.sampled_from(["code", "raw"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["cell_type", "source", "input", "id", "cells", "language"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
KEYS = ["nbformat", "metadata", "cells", "worksheets"]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), ANY, min_size=1), st.lists(ANY, max_size=4))
def test_any_json(found, cells):
    for data in (found, found | {"cells": cells}, found | {"worksheets": [{"cells": cells}]}):
        notebook = readable(json.dumps(data).encode())
        for one in notebook.cells if notebook else ():
            assert one.kind in ("code", "markdown", "raw")
            assert one.source.encode().decode() == one.source


@pytest.mark.parametrize("path", sorted((HERE / "corpus").glob("[!.]*")), ids=lambda path: path.name)
def test_the_corpus(path):
    FUZZ["feed"](path.read_bytes())


def test_mutations_of_real_notebooks():
    rng, bases = random.Random(5), FUZZ["bases"]()
    read = [FUZZ["feed"](FUZZ["mutated"](rng.choice(bases), rng)) for _ in range(300)]
    some = [each for each in read if each]
    assert 30 < len(some) < 270
    assert any(each[0].notes for each in some)
    assert any(each[1].found or each[1].not_attempted for each in some)
