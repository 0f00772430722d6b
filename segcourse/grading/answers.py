"""Finds a student's functions by their names and takes the programs that they need out of a notebook.

**The slice.** Of all the top-level statements of a notebook, those are taken that bind the names asked for, those that
bind the names these use, and so on; and those that change such a name's value (`table[0] = 1`, `cache.update(...)`,
`f.calls = 0`). Checks, prints, trainings and patches of libraries are left behind, and what stands after the answer's
check. (Weiser, "Program slicing", 1981; here by name only: all statements that bind a name are taken, which errs on
the safe side.)

**The wider program.** A slice by name misses what is done to a value in another way: `fill(table)`,
`last = stack.pop()`, `for row in table: row[0] = 1`, a decorator that registers, `exec`. So there is a second program
for an answer that fails with the first: its slice, all other statements that the student wrote before the answer's last
check, and the slices of the names that those use. A statement is the student's if the lesson as released has none
of the same text, layout aside. The lesson's trainings are not run unless the student's statements need what they bind.

Nothing is run here: the text is parsed (`ast`), and Python's own symbol tables (`symtable`) tell which names are free.
Python's parser can be made to need much time and memory, so a cell's size and a notebook's are limited.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import functools
import re
import symtable
import sys
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from segcourse.grading.reading import Cell, Notes

MAX_CELL, MAX_BRACES = 100_000, 1_000
"""A longer code cell, or one of more braces, is not parsed: an f-string of a megabyte takes Python 3.11 two minutes."""
MAX_CODE, MAX_STATEMENTS, MAX_NAMES = 500_000, 5_000, 30_000
"""So many characters, top-level statements and names in them are looked at in a notebook; the rest is left out."""
MAX_SCOPES = 5_000_000
"""A statement with more functions and loops, times its length, is left out: symbol tables take time as this product."""
MAX_BROKEN_CELL, MAX_PARTS = 10_000, 100
"""A cell of this length that Python cannot read is cut into parts, so many in a notebook."""
MAX_PENDING = 2_000
"""So many characters of parts that cannot be read are tried again together with the next part."""

BUILTINS = frozenset(dir(builtins)) | {
    "__name__",
    "__doc__",
    "__builtins__",
    "__annotations__",
    "display",
    "get_ipython",
}
LOOKUPS = frozenset({"eval", "exec", "globals", "locals", "vars"})
"""What uses these can need a name that it does not spell out."""
PYTHON_MAGICS = re.compile(r"%%(time|timeit|capture|prun|memit)\b")
MAGIC = re.compile(
    r"^([ \t]*)(?:(%time[ \t]+(?=\S))|(?:%{1,2}[A-Za-z_]|[!?]|[\w.]+\?+[ \t]*$|\w+[ \t]*=[ \t]*[!%]).*)", re.M
)
# For `import a.a.a` Python needs memory that grows with the square of its length.
LONG_IMPORT = re.compile(r"\b(?:from|import)(?:[\w.\t ]|\\\n){2000}")
NEW_PART = re.compile(r"^(?![ \t\n#)\]}]|(?:else|elif|except|finally)\b)", re.M)
SCOPE = re.compile(r"(?<![A-Za-z_])(?:def|class|lambda|for)\b")
PYTHON = "Python {}.{}".format(*sys.version_info)
# What Python 3.12 to 3.14 brought: `type X = int`, `def f[T]`, quotes and backslashes in f-strings, t-strings,
# `except A, B:`. Looked for in a line that cannot be read.
NEWER = re.compile(r"^\s*type\s+\w|\b(?:def|class)\s+\w+\[|\b[frt]{1,2}[\"'].*\{|^\s*except\b.*,", re.I)
LAYOUT = re.compile(r"#.*|[\s'\",()\\]+")
DEFINES = re.compile(r"^[ \t>]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.M)


@dataclass(frozen=True)
class Piece:
    """A top-level statement to run, in the student's own words."""

    cell: int
    line: int
    """Of the cell, from 1: where `source` begins."""
    source: str


@dataclass(frozen=True)
class Program:
    """What of a notebook is to be run, and what was found."""

    pieces: tuple[Piece, ...]
    """What the answers need that can be run together, in the order of the notebook."""
    found: dict[str, int]
    """The answers, each with the number of its cell."""
    missing: tuple[str, ...]
    """Names that the notebook does not define."""
    not_attempted: tuple[str, ...]
    """Names that are still the starter's."""
    notes: tuple[str, ...]
    alone: dict[str, tuple[Piece, ...]]
    """For each answer found, the pieces that it needs itself."""
    wide: dict[str, tuple[Piece, ...]]
    """For each answer found, these and whatever else the student wrote up to its last check, with what that needs; to
    be run if `alone` fails. Only where that could make a difference: functions that nothing calls make none."""
    apart: frozenset[str]
    """Answers that cannot share names with the others (two helpers of one name, say): what they need is not among
    `pieces`, and `alone` is to be run for each of them, in a fresh namespace. Mostly empty."""
    shapes: dict[str, str]
    """For each answer found, a text that blanks, comments and docstrings do not change."""


@dataclass
class Statement:
    """A top-level statement and what it has to do with names."""

    piece: Piece
    binds: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    """Those of `binds` that are imported."""
    deletes: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    """Global names that it or a function in it reads."""
    changes: set[str] = field(default_factory=set)
    """Names whose value it changes, without binding them."""
    methods: set[str] = field(default_factory=set)
    """What it calls as a method, as a statement: `check.fuse(fuse)` calls `fuse`."""
    sets_global: set[str] = field(default_factory=set)
    """Names that the functions in it declare global and bind."""
    inner: set[str] = field(default_factory=set)
    """The functions and classes defined inside it, and names of class bodies."""
    only_defines: bool = False
    """Whether it defines a function and does nothing else."""
    star: bool = False
    """Whether it is an import of everything."""
    shape: str = ""
    """If it binds a name asked for: its syntax tree without docstrings, as text, equal for equal code."""


def find_answers(
    cells: Sequence[Cell], names: Sequence[str], starters: Mapping[str, str], released: Sequence[Cell] = ()
) -> Program:
    """Find the answers in a notebook's cells, and the program that they need.

    Args:
        cells: the notebook's cells.
        names: the functions asked for.
        starters: for each name, the source of the cell as it was released; names without one count as attempted.
        released: the cells of the lesson as it was released. A statement that is not among theirs is the student's own.

    Returns:
        The program. Whatever the cells hold, no exception is raised.
    """
    notes = Notes()
    statements = list(statements_of(cells, set(names), notes))
    untouched = {name: shape_in(source, name) for name, source in starters.items()}
    found: dict[str, int] = {}
    shapes: dict[str, str] = {}
    not_attempted: list[str] = []
    missing: list[str] = []
    unwanted: set[int] = set()
    unwritten: set[int] = set()
    holders: dict[str, list[Cell]] = {}
    for name in names:
        places = [i for i, s in enumerate(statements) if name in s.binds and name not in s.deletes]
        written = [i for i in places if statements[i].shape != untouched.get(name)]
        unwritten |= set(places) - set(written)
        if written:
            found[name] = statements[written[-1]].piece.cell
            shapes[name] = statements[written[-1]].shape
            unwanted |= set(places) - set(written)
            note_several(name, [statements[i] for i in written], len(places) > len(written), notes)
        else:
            (not_attempted if places else missing).append(name)
            holders = holders or texts_with(names, cells)
            note_lost(name, bool(places), holders[name], [s for s in statements if not s.binds & set(names)], notes)
    theirs = gists(tuple(released))
    own = [s for i, s in enumerate(statements) if i not in unwritten and gist(s.piece.source) not in theirs]
    kept = [s for i, s in enumerate(statements) if i not in unwanted]
    slicer = Slicer(kept)
    needs = {name: slicer.needed(name, notes) for name in found}
    common, apart = together(kept, needs)
    for name in sorted(apart):
        notes.add(f"`{name}` needs a name that other cells give other values; it was run by itself.")

    def pieces(chosen: Iterable[int]) -> tuple[Piece, ...]:
        return tuple(kept[i].piece for i in sorted(chosen))

    wide = slicer.wider(needs, {id(s) for s in own}, set(names))
    return Program(
        pieces=pieces(common),
        found=found,
        missing=tuple(missing),
        not_attempted=tuple(not_attempted),
        notes=notes.all(),
        alone={name: pieces(chosen) for name, (chosen, _) in needs.items()},
        wide={name: pieces(chosen) for name, chosen in wide.items()},
        apart=frozenset(apart),
        shapes=shapes,
    )


def starters_of(cells: Iterable[Cell], names: Iterable[str]) -> dict[str, str]:
    """Return for each name the released cell that defines it, from the cells of the lesson as it was released."""
    defined = {name: cell.source for cell in cells if cell.kind == "code" for name in DEFINES.findall(cell.source)}
    return {name: defined[name] for name in names if name in defined}


# --- which statements are needed -----------------------------------------------------------------------------


class Slicer:
    """Picks from a notebook's statements those that an answer needs."""

    def __init__(self, statements: list[Statement]) -> None:
        self.statements = statements
        imported = {name for s in statements for name in s.imports}
        self.binders: dict[str, list[int]] = defaultdict(list)
        self.changers: dict[str, list[int]] = defaultdict(list)
        for i, s in enumerate(statements):
            for name in s.binds:
                self.binders[name].append(i)
            for name in s.changes - imported:
                self.changers[name].append(i)
        self.known = BUILTINS.union(self.binders, *(s.sets_global for s in statements))

    def horizon(self, name: str) -> int:
        """Return the statement up to which an answer sees the notebook: the last check of it, else the last of all.

        In the notebook it was checked there. What later cells bind again was no part of it.
        """
        checks = [i for i, s in enumerate(self.statements) if name in s.methods]
        last = checks[-1] if checks else -1
        return last if last > self.binders[name][-1] else len(self.statements)

    def bound_by(self, name: str, last: int) -> list[int]:
        """Return the statements that give a name its value, those up to `last` if there are any.

        A `del` counts only where it gives a builtin back; else it could but take something from an answer.
        """
        binders = [i for i in self.binders[name] if name not in self.statements[i].deletes or name in BUILTINS]
        if any(i <= last for i in binders):
            return [i for i in binders + self.changers[name] if i <= last]
        return binders + self.changers[name]

    def needed(self, wanted: str, notes: Notes) -> tuple[set[int], set[str]]:
        """Return the statements that an answer needs, and the names."""
        taken, names, unknown = self.closure((), wanted, self.horizon(wanted))
        for name, cell in unknown.items():
            notes.add(f"Cell {cell} uses `{name}`, which no cell of the notebook defines.")
        return taken, names

    def closure(self, first: Iterable[int], wanted: str, last: int) -> tuple[set[int], set[str], dict[str, int]]:
        """Return the first statements and those that they and a name need, all names needed, and the unknown ones."""
        taken: set[int] = set()
        seen, todo = {wanted}, [wanted]
        unknown: dict[str, int] = {}  # name -> cell where it is used
        fresh = list(first)
        while fresh or todo:
            for i in fresh or self.bound_by(todo.pop(), last):
                if i in taken:
                    continue
                taken.add(i)
                s = self.statements[i]
                for used in sorted(s.uses - seen):
                    seen.add(used)
                    todo.append(used)
                    if used not in self.known and used not in s.inner:
                        unknown[used] = s.piece.cell
            fresh = []
        # An import of everything may define what no cell does, and replace builtins, as numpy's replaces `sum`.
        stars = {i for i, s in enumerate(self.statements) if s.star and i <= last and (unknown or seen & BUILTINS)}
        return taken | stars, seen, {} if stars else unknown

    def wider(
        self, needs: Mapping[str, tuple[set[int], set[str]]], own: Set[int], answers: Set[str]
    ) -> dict[str, set[int]]:
        """Return for each answer what it needs, the student's own statements up to its horizon, and what those need.

        Checks are left out, and a `del` of what an answer needs. Answers to which none of this can matter are not in
        the result.

        Args:
            needs: for each answer, the statements that it needs, and the names.
            own: the `id` of each statement that the student wrote.
            answers: the names asked for.
        """
        names = set().union(*(wanted for _, wanted in needs.values())) - BUILTINS
        chosen = [
            i
            for i, s in enumerate(self.statements)
            if id(s) in own and not s.methods & answers and not s.deletes & names
        ]
        wide = {}
        for answer, (needed, used) in needs.items():
            last = self.horizon(answer)
            first = [i for i in chosen if i <= last]
            if used & LOOKUPS or any(not self.statements[i].only_defines for i in first if i not in needed):
                wide[answer] = needed | self.closure(first, answer, last)[0]
        return wide


def together(statements: list[Statement], needs: dict[str, tuple[set[int], set[str]]]) -> tuple[set[int], set[str]]:
    """Return the statements that answers can share, and the answers that need another value of some name."""

    def bound(some: set[int], names: set[str]) -> set[tuple[str, int]]:
        return {(name, i) for i in some for name in statements[i].binds & names}

    common: set[int] = set()
    names: set[str] = set()
    apart = set()
    for answer, (own, wanted) in needs.items():
        both = common | own
        if bound(both, wanted) == bound(own, wanted) and bound(both, names) == bound(common, names):
            common, names = both, names | wanted
        else:
            apart.add(answer)
    return common, apart


def note_several(name: str, written: list[Statement], starter_too: bool, notes: Notes) -> None:
    """Note when an answer is defined more than once."""
    places = [str(s.piece.cell) for s in written]
    if len({s.shape for s in written}) > 1:
        where = ", ".join(places[:-1][:5])
        notes.add(
            f"`{name}` is defined more than once (cells {where} and {places[-1]}); that in cell {places[-1]} counts."
        )
    if starter_too:
        notes.add(
            f"`{name}` stands in the notebook as the untouched starter too; the answer in cell {places[-1]} counts."
        )


def texts_with(names: Sequence[str], cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Return for each name the cells of any kind whose text looks as if it defined it."""
    holders: dict[str, list[Cell]] = {name: [] for name in names}
    left = 2 * MAX_CODE
    for cell in cells:
        left -= len(cell.source)
        for name in set(DEFINES.findall(cell.source)) & set(names) if left > 0 else ():
            holders[name].append(cell)
    return holders


def note_lost(name: str, starter: bool, holders: Sequence[Cell], others: list[Statement], notes: Notes) -> None:
    """Note where an answer that was not found may be."""
    what = f"`{name}` is still the starter" if starter else f"There is no function called `{name}`"
    for cell in holders:
        if cell.kind != "code":
            notes.add(f"{what}; cell {cell.number} is a {cell.kind} cell that holds one. Make it a code cell.")
            return
    inside = next((s for s in others if name in s.inner), None)
    if inside:
        notes.add(f"{what}; in cell {inside.piece.cell} there is one inside of something else. Move it to the margin.")
        return
    if holders and not starter:
        notes.add(f"{what} that can be read; cell {holders[0].number} holds one.")
    elif not starter:
        near = {n.lower().replace("_", ""): (n, s.piece.cell) for s in others for n in sorted(s.binds - s.imports)}
        known = [n for n in near if len(n) < 80][:2000]
        close = difflib.get_close_matches(name.lower().replace("_", ""), known, 1, 0.8)
        notes.add(what + ("; there is `{}` in cell {}.".format(*near[close[0]]) if close else "."))


# --- what a statement has to do with names -------------------------------------------------------------------


@dataclass
class Left:
    """How much of a notebook may still be looked at."""

    code: int = MAX_CODE
    statements: int = MAX_STATEMENTS
    names: int = MAX_NAMES
    parts: int = MAX_PARTS


def statements_of(cells: Iterable[Cell], names: Set[str], notes: Notes) -> Iterator[Statement]:
    """Yield the top-level statements of the code cells that Python can read; note what it cannot."""
    left = Left()
    for cell in cells:
        if cell.kind != "code":
            continue
        left.code -= len(cell.source)
        if len(cell.source) > MAX_CELL or left.code < 0:
            notes.add(
                f"Cell {cell.number} is too long and was left out: {MAX_CELL:,} characters of code are read in a cell, "
                f"{MAX_CODE:,} in all."
            )
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's remarks on the student's style
            for text, tree, line in readable(cell, left, notes):
                tree.body = [part for node in tree.body for part in import_by_import(node)]
                left.statements -= len(tree.body)
                if left.statements < 0 or left.names < 0:
                    notes.add(
                        f"Cell {cell.number} was left out: {MAX_STATEMENTS:,} statements are looked at in all, and "
                        f"{MAX_NAMES:,} names in them."
                    )
                    break
                for node, piece in zip(tree.body, pieces_of(text, tree, cell.number, line)):
                    try:
                        s = analyse(node, piece)
                        left.names -= len(s.binds) + len(s.uses)
                        s.shape = shape_of(node, piece.source) if s.binds & names else ""
                        yield s
                    except Exception as error:  # what Python says of hostile text is not a closed list
                        notes.add(f"Cell {cell.number} cannot be read by {PYTHON}: {reason(error, piece.line)}.")


def import_by_import(node: ast.stmt) -> list[ast.stmt]:
    """Cut an import of several names in one for each: that one of them is not there costs nobody the others."""
    if not isinstance(node, (ast.Import, ast.ImportFrom)) or len(node.names) == 1:
        return [node]
    if isinstance(node, ast.Import):
        return [ast.copy_location(ast.Import([name]), name) for name in node.names]
    return [ast.copy_location(ast.ImportFrom(node.module, [name], node.level), name) for name in node.names]


def analyse(node: ast.stmt, piece: Piece) -> Statement:
    """Tell which names a top-level statement binds, uses and changes."""
    s = Statement(piece)
    scopes = len(SCOPE.findall(piece.source))
    if scopes * len(piece.source) > MAX_SCOPES:
        raise ValueError(f"a statement holds {scopes:,} functions and loops")
    top = symtable.symtable(piece.source, "cell", "exec")
    for symbol in top.get_symbols():
        name = symbol.get_name()
        if symbol.is_imported():
            s.imports.add(name)
        if symbol.is_imported() or symbol.is_assigned():
            s.binds.add(name)
        if symbol.is_referenced():
            s.uses.add(name)
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        s.inner.add(table.get_name())
        for symbol in table.get_symbols():
            if symbol.is_global():
                s.uses.add(symbol.get_name())
            elif table.get_type() == "class" and symbol.is_referenced():
                s.uses.add(symbol.get_name())  # `kernel = kernel` in a class body reads a global
                s.inner.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                s.sets_global.add(symbol.get_name())
    s.inner -= s.binds
    s.only_defines = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list
    for part in outside_functions(node):
        look_for_changes(part, s)
    return s


def look_for_changes(part: ast.AST, s: Statement) -> None:
    """Enter into `s` what a part of it changes, deletes or calls."""
    match part:
        case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
            s.changes |= root_of(part)
        case ast.Name(id=name, ctx=ast.Del()):
            s.deletes.add(name)
        case ast.AugAssign(target=ast.Name(id=name)):
            s.uses.add(name)
        case ast.Expr(value=ast.Call(func=ast.Attribute() as method)):
            s.changes |= root_of(method)
            s.methods.add(method.attr)
        case ast.Expr(value=ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[first, *_])):
            s.changes |= root_of(first)
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            s.star = True


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and its parts that run when it runs: not those inside functions and classes."""
    todo = [node]
    while todo:
        part = todo.pop()
        if not isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield part
            todo += ast.iter_child_nodes(part)


def root_of(node: ast.AST) -> set[str]:
    """Return the name that `name.a[0].method(...).b` begins with; empty if it begins otherwise."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        else:
            return set()
    return {node.id}


def shape_of(node: ast.AST, source: str) -> str:
    """Return the syntax tree as text, docstrings left out; of a tree of hundreds of levels, its source."""
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(part, False):
            part.body = part.body[1:]
    try:
        return ast.dump(node)
    except RecursionError:
        return source


@functools.lru_cache(maxsize=8)
def gists(cells: tuple[Cell, ...]) -> frozenset[str]:
    """Return the gist of every top-level statement of these cells."""
    return frozenset(gist(s.piece.source) for s in statements_of(cells, set(), Notes()))


def gist(source: str) -> str:
    """Return a statement's text without what a formatter changes: blanks, quotes, commas, brackets, comments."""
    return LAYOUT.sub("", source)


@functools.cache
def shape_in(source: str, name: str) -> str | None:
    """Return the shape of the last function or class of this name in a cell's source."""
    found = [s for s in statements_of([Cell(0, "code", source)], {name}, Notes()) if name in s.binds]
    return found[-1].shape if found else None


# --- a cell's text -------------------------------------------------------------------------------------------


def readable(cell: Cell, left: Left, notes: Notes) -> Iterator[tuple[str, ast.Module, int]]:
    """Yield (text, tree, first line) of what Python can read of a cell: all of it, or parts."""
    source = cell.source
    while source.lstrip().startswith("%%"):
        if not PYTHON_MAGICS.match(source.lstrip()):
            return  # another language
        source = re.sub(r"%%.*", "", source, count=1)
    without_magics = MAGIC.sub(lambda found: found[1] + ("" if found[2] else "pass"), source)
    for text in dict.fromkeys((source, without_magics, textwrap.dedent(without_magics))):
        tree, why = parse(text)
        if tree:
            yield text, tree, 1
            return
    parts = [(text, tree, line) for text, tree, line in readable_parts(without_magics, left) if tree.body]
    taken = "; what can be read of it was taken" if parts else ""
    notes.add(f"Cell {cell.number} cannot be read by {PYTHON}: {why}{taken}.")
    yield from parts


def parse(text: str) -> tuple[ast.Module | None, str]:
    """Return the syntax tree, or None and the reason."""
    if LONG_IMPORT.search(text):
        return None, "an import of absurd length"
    if text.count("{") > MAX_BRACES:
        return None, f"more than {MAX_BRACES:,} braces"
    try:
        return ast.parse(text), ""
    except Exception as error:  # SyntaxError, ValueError, RecursionError, MemoryError; the list is not closed
        newer = isinstance(error, SyntaxError) and NEWER.search(
            "\n".join(text.split("\n")[(error.lineno or 1) - 1 :][:1])
        )
        return None, reason(error) + (" (a newer Python may: grade with the one that students use)" if newer else "")


def reason(error: Exception, first: int = 1) -> str:
    """Say why Python cannot read something whose first line is line `first` of the cell."""
    if isinstance(error, SyntaxError):
        return f"line {(error.lineno or 1) + first - 1}: {error.msg}"
    return "it is too large or nested too deeply" if isinstance(error, (RecursionError, MemoryError)) else str(error)


def readable_parts(source: str, left: Left) -> Iterator[tuple[str, ast.Module, int]]:
    """Cut a cell that Python cannot read before each line at the margin; yield the parts that it can read."""
    starts = [found.start() for found in NEW_PART.finditer(source)]
    left.parts -= len(starts)
    if left.parts < 0 or len(source) > MAX_BROKEN_CELL:
        return
    pending, line = "", 1
    for start, end in zip(starts, [*starts[1:], len(source)]):
        part, here = source[start:end], source.count("\n", 0, start) + 1
        for text, first in ((pending + part, line if pending else here), (part, here)):
            tree, _ = parse(text)
            if tree:
                yield text, tree, first
                pending = ""
                break
        else:
            pending, line = pending + part, line if pending else here
            if len(pending) > MAX_PENDING:
                pending = ""


def pieces_of(text: str, tree: ast.Module, cell: int, first: int) -> Iterator[Piece]:
    """Yield each top-level statement's own text, decorators included."""
    lines = text.encode().split(b"\n")  # columns of syntax trees count bytes
    for node in tree.body:
        line, column = node.lineno, node.col_offset
        decorators = getattr(node, "decorator_list", [])
        if decorators:
            line, column = decorators[0].lineno, 0
            while not lines[line - 1].lstrip().startswith(b"@"):  # `@(` may stand on a line of its own
                line -= 1
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield Piece(cell, line + first - 1, ast.unparse(node))
            continue
        own = lines[line - 1 : node.end_lineno]
        own[-1] = own[-1][: node.end_col_offset]
        own[0] = own[0][column:]
        yield Piece(cell, line + first - 1, b"\n".join(own).decode())
