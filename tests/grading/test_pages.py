"""Feedback and report, from made-up records: nothing of a stranger's becomes markup, and the numbers are right."""

import base64
import dataclasses
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from grading.made_up import HOSTILE, LESSON, hostile, record

from segcourse import exercises
from segcourse.grading import pages
from segcourse.grading.answers import shape_in
from segcourse.grading.grade import sha256
from segcourse.grading.pages import Same, feedback, report, same_answers, same_files, write_pages
from segcourse.grading.results import counting
from segcourse.grading.tables import Mark, file_names, plain

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "ul", "li", "a", "b", "bdi", "br", "code",
    "details", "div", "img", "pre", "section", "span", "summary", "table", "td", "th", "tr",
}  # fmt: skip
ATTRIBUTES = {
    "alt",
    "charset",
    "class",
    "content",
    "href",
    "http-equiv",
    "lang",
    "loading",
    "name",
    "role",
    "src",
    "style",
}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and sees that tags are closed in order."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags, self.attributes, self.text, self.open = set(), [], "", []
        self.feed(data.decode())
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in {"meta", "br", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def read_safely(data: bytes) -> Reader:
    """Read a page and see that it holds nothing that could run or load."""
    reader = Reader(data)
    assert reader.open == []
    assert reader.tags <= ALLOWED
    for name, value in reader.attributes:
        assert name in ATTRIBUTES
        if name == "src":
            assert re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", value)
        if name == "href":
            assert re.fullmatch(r"(feedback/[\w%.~-]+\.html|by_hand/index\.html)", value)
        if name == "style":
            assert "url" not in value
    policy = dict(reader.attributes)["content"], [v for n, v in reader.attributes if n == "http-equiv"]
    assert policy[1] == ["Content-Security-Policy"]
    assert pages.POLICY.startswith("default-src 'none'")
    assert "script" not in pages.POLICY
    return reader


@pytest.mark.parametrize("one", hostile(), ids=lambda one: ascii(one.student)[:20])
def test_hostile_texts_are_but_text_on_a_students_page(one):
    text = read_safely(feedback(one)).text
    name = one.student if len(one.student) <= 120 else one.student[:120] + "…"
    for shown in (name, *one.notes):
        assert plain(shown) in text
    assert "red;background" not in feedback(one).decode(), "sign and colour come from the outcome"


def test_hostile_texts_are_but_text_in_the_report(tmp_path):
    records = hostile()
    write_pages(tmp_path, records, LESSON)
    reader = read_safely((tmp_path / "report.html").read_bytes())
    for text in HOSTILE:
        assert plain(text[:120]) in reader.text
    links = [unquote(value) for name, value in reader.attributes if name == "href"]
    assert links
    assert all((tmp_path / link).is_file() for link in links)
    assert len(list((tmp_path / "feedback").iterdir())) == len(HOSTILE)


def test_feedback_says_points_outcomes_and_where_to_read(tmp_path):
    card = {"headline": "compound_kernel: not yet (0 of 1 point)", "lines": ["Read again: “Two layers in a row”."]}
    one = record(outcomes=["not yet: adds_kernels", "missing", "not attempted"], late=True, notes=("Mended.",))
    first = pages.Result("compound_kernel", "not yet", 0, 1, "adds_kernels", card, cell=12)
    one = counting([one])[0]
    one = type(one)(**{**vars(one), "results": (first, *one.results[1:])})
    text = read_safely(feedback(one)).text
    for words in (
        "01 Receptive-field arithmetic",
        "9 of 13 points",
        "handed in late",
        "Mended.",
        "The kernel of two layers in cell 12",
        "✗ compound_kernel: not yet (0 of 1 point)",
        "Read again: “Two layers in a row”.",
        "heading of the lesson, 01_receptive_field.ipynb",
        "There is no function called compound_stride in the notebook.",
        "○ input_size: not attempted (0 of 2)",
    ):
        assert words in text


@pytest.mark.parametrize("status", ["unreadable", "no notebook", "failed"])
def test_feedback_of_what_was_not_graded(status):
    text = read_safely(feedback(record(status=status, notes=("It is a PDF.",)))).text
    assert "Not graded" in text
    assert "It is a PDF." in text
    assert "points" not in text, "no zero is shown"


def test_feedback_shows_marks_by_hand():
    marks = {"Ada": (Mark("Ada", "essay", 3, 4, "<i>Good"), Mark("Ada", "plot", None, 2))}
    text = read_safely(feedback(record(), marks)).text
    for words in ("16 of 19 points", "essay: 3 of 4. <i>Good", "plot: not marked yet", "still to be marked by hand"):
        assert words in text


def a_class():
    wrong = ["not yet: adds_kernels"]
    return [
        *(record(f"right {i}") for i in range(3)),
        *(record(f"wrong {i}", wrong) for i in range(2)),
        record("other", ["not yet", "not yet: adds_strides", "not attempted", "missing"], late=True),
        record("broken", ["missing"] * 7, status="unreadable", notes=("It is cut off.",)),
        record("liar", tampering=("It sent a forged answer.",)),
    ]


def test_report_says_what_happened():
    records = counting(a_class())
    names = file_names(r.student for r in records)
    text = read_safely(report(records, LESSON, names)).text
    for words in (
        "8 students",
        "7 graded",
        "1 late",
        "1 unreadable",
        "11.9 mean, of 13 points",
        "13 median",
        "It is cut off.",
        "It sent a forged answer.",
        "2 in compound_kernel: adds_kernelsYou added the two kernels.",
        "1 mistake that one student shows",
        "1 wrong answer shows none",
        "Nothing in this lesson is marked by hand.",
        "isolation level bubblewrap",
        "segcourse 1, torch 2",
        "Key: kkkkkkkkkkkkkkkk",
        "No two students have the same text",
    ):
        assert words in text, words
    assert "judged by different keys" not in text


def test_plots_say_their_numbers():
    graded = [r for r in counting(a_class()) if r.status == "graded"]
    _, points = pages.distribution(graded, None)
    assert points == "Students by points, of 13. 7: 1, 12: 2, 13: 4. The median is 13."
    _, shares = pages.by_outcome(graded)
    assert "compound_kernel 57, compound_stride 86" in shares
    _, held = pages.by_misconception([("compound_kernel: adds_kernels", 2)])
    assert held == "Misconceptions by how many students hold them: compound_kernel: adds_kernels 2."


def test_plots_are_pictures_and_the_same_each_time():
    records = counting(a_class())
    names = file_names(r.student for r in records)
    first, second = (report(records, LESSON, names) for _ in range(2))
    assert first == second
    pictures = re.findall(rb"data:image/png;base64,([A-Za-z0-9+/=]+)", first)
    assert len(pictures) == 3
    assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    alts = [value for name, value in Reader(first).attributes if name == "alt"]
    assert all(len(alt.split()) >= 8 for alt in alts)


def test_report_without_anything_graded():
    records = [record("broken", status="no notebook")]
    text = read_safely(report(records, LESSON, {"broken": "broken"})).text
    assert "1 no notebook" in text
    assert "median" not in text


def test_report_names_different_keys():
    records = [record("a"), record("b", key_hash="other")]
    assert "judged by different keys" in Reader(report(records, LESSON, {"a": "a", "b": "b"})).text


def test_report_counts_what_is_left_to_mark_by_hand():
    records = [record("a"), record("b")]
    marks = {"a": (Mark("a", "essay", 3, 4),), "b": (Mark("b", "essay", None, 4),)}
    assert "essay: 1 left" in read_safely(report(records, LESSON, {"a": "a", "b": "b"}, marks)).text


def test_report_says_whose_answers_are_not_listed_yet():
    marks = {"a": (Mark("a", "essay", None, 4),), "b": ()}
    text = read_safely(report([record("a"), record("b")], LESSON, {"a": "a", "b": "b"}, marks)).text
    assert "essay: 1 left" in text
    assert "1 student not listed yet: grade everything that was handed in with --resume" in text
    text = read_safely(report([record("b")], LESSON, {"b": "b"}, {"b": ()})).text
    assert "1 student not listed yet" in text
    assert "by_hand" not in text, "there is no such page yet"


# --- the same text


def with_text(student, fingerprint, size):
    one = record(student)
    results = [type(r)(**{**vars(r), "fingerprint": fingerprint, "size": size}) for r in one.results[5:6]]
    return type(one)(**{**vars(one), "results": (*one.results[:5], *results, *one.results[6:])})


def test_long_answers_that_are_the_same_are_listed():
    class_ = [with_text(s, "f", pages.SAME_TEXT_SIZE) for s in "abc"] + [with_text("d", "g", 500)]
    assert same_answers(class_, LESSON) == [Same("block_field", "correct", ("a", "b", "c"))]
    text = read_safely(report(class_, LESSON, {s: s for s in "abcd"})).text
    assert "That proves nothing" in text
    assert "a, b, c" in text
    for accusation in ("plagiar", "cheat", "copied", "suspic"):
        assert accusation not in text.lower()


def test_short_answers_and_the_courses_own_solution_are_not():
    own = next(e for e in exercises.lesson(LESSON).exercises if e.name == "block_field")
    shape = shape_in(own.solution, own.name)
    assert shape.count("(") >= pages.SAME_TEXT_SIZE
    assert same_answers([with_text(s, sha256(shape.encode()), 99) for s in "ab"], LESSON) == []
    assert same_answers([with_text(s, "f", pages.SAME_TEXT_SIZE - 1) for s in "ab"], LESSON) == []
    assert same_answers([with_text(s, "", 99) for s in "ab"], LESSON) == []


def test_size_says_of_how_many_nodes_the_courses_answers_are():
    sizes = [shape_in(e.solution, e.name).count("(") for e in exercises.catalogue()]
    assert min(sizes) < pages.SAME_TEXT_SIZE / 4
    assert max(sizes) > pages.SAME_TEXT_SIZE * 3


def with_file(student, file_hash, *outcomes):
    return record(student, outcomes, file_hash=file_hash)


def test_the_same_file_is_told_once_and_the_untouched_release_is_not():
    class_ = [with_file(s, "one") for s in ("Ada", "Bo")] + [with_file("Cy", "")] + [with_file("Di", "")]
    class_ += [with_file(s, "release", *["not attempted"] * 6, "missing") for s in ("Eve", "Flo")]
    assert same_files(class_) == [("Ada", "Bo")]
    text = read_safely(report(class_, LESSON, {r.student: r.student for r in class_})).text
    assert "the whole fileAda, Bo" in text
    twice = [dataclasses.replace(with_text(s, "f", 90), file_hash="one") for s in "ab"]
    text = read_safely(report(twice, LESSON, {"a": "a", "b": "b"})).text
    assert "the whole filea, b" in text
    assert "block_fieldcorrect" not in text


def with_texts(student, sizes, like):
    one = record(student)
    results = [dataclasses.replace(r, fingerprint=like + r.name, size=n) for r, n in zip(one.results, sizes)]
    return dataclasses.replace(one, results=(*results, *one.results[len(sizes) :]))


def test_short_answers_that_are_the_same_count_together():
    half = pages.SAME_TOGETHER // 2
    names = "compound_kernel, compound_stride"
    pair = [with_texts(s, [half, half], "x") for s in "ab"]
    assert same_answers([*pair, with_texts("c", [half, half], "y")], LESSON) == [Same(names, "correct", ("a", "b"))]
    assert same_answers([with_texts(s, [half, half - 1], "x") for s in "ab"], LESSON) == []
    assert same_answers([with_texts(s, [half, half], "x") for s in "abcde"], LESSON) == [], (
        "the usual way to write them"
    )


# --- all students


def test_report_lists_every_student_with_points_notes_and_a_link(tmp_path):
    records = [
        record("Ada", ["missing"], notes=("There is no function called `compound_kernel`.", "In cell `24`.")),
        record("Bo", late=True),
        record("Cy", ["missing"] * 7, status="failed", notes=("It broke.",)),
    ]
    write_pages(tmp_path, records, LESSON, {"Ada": (Mark("Ada", "essay", 2, 4),)})
    reader = read_safely((tmp_path / "report.html").read_bytes())
    text = reader.text.split("All students")[1]
    assert "Ada14gradedMissing: compound_kernel. In cell 24." in text
    assert "Bo13gradedlate" in text
    assert "CyfailedIt broke." in text
    assert [value for name, value in reader.attributes if name == "href"][-3:] == [
        f"feedback/{name}.html" for name in ("Ada", "Bo", "Cy")
    ]


def test_notes_are_told_once_and_show_code_as_code():
    lost = "There is no function called `compound_stride` that can be read; cell 65 holds one."
    notes = ("There is no function called `compound_kernel`.", lost, "`a<b` was mended.")
    data = feedback(record(outcomes=["missing", "missing"], notes=notes)).decode()
    assert "<li><code>a&lt;b</code> was mended.</li>" in data
    text = read_safely(data.encode()).text
    assert text.count("no function called compound_kernel") == 1
    assert text.count(lost.replace("`", "")) == 1
    assert text.index("About your file") < text.index("was mended") < text.index("no function called compound_kernel")
    assert "`" not in text


def test_report_says_what_the_level_that_was_used_leaves_open():
    text = read_safely(report([record("a")], LESSON, {"a": "a"})).text
    assert "errors in the kernel itself" in text
    assert "landlock" not in text
    assert "can be read" not in text


# --- in a browser


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium, which is not installed here")
def test_pages_run_and_load_nothing_and_fit_a_phone(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (the dev extra)")
    write_pages(tmp_path, hostile() + a_class(), LESSON)
    said, asked = [], []
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 360, "height": 700})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("dialog", lambda dialog: said.append(dialog.message))
        tab.on("request", lambda request: asked.append(request.url.split(":")[0]))
        for path in [tmp_path / "report.html", *sorted((tmp_path / "feedback").iterdir())]:
            tab.goto(path.as_uri())
            wide = tab.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, f"{path.name} is {wide} pixels wide"
            broken = tab.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
            assert broken == 0
        browser.close()
    assert said == [], "no script ran, and the policy had nothing to stop"
    assert set(asked) <= {"file", "data"}
