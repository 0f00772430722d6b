"""Drivers run beside a student's code: they know nothing of what is right or wrong, and return plain data."""

import ast
import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segcourse import exercises
from segcourse.exercises import drivers
from segcourse.exercises.exercise import Exercise, call
from segcourse.exercises.guard import run_here

DRIVERS = "segcourse.exercises.drivers"
MODULES = sorted(Path(drivers.__file__).parent.glob("*.py"))
OURS = ("exercise", "compare", "guard")
"""The modules of `segcourse.exercises` that drivers may import."""
LIBRARIES = {"torch", "numpy", "scipy"}

DRIVEN = [e for e in exercises.catalogue() if e.drive is not call]
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


def may_be_imported(name: str) -> bool:
    first = name.split(".")[0]
    if first == "segcourse":
        return name.startswith(f"{DRIVERS}.") or name in {f"segcourse.exercises.{ours}" for ours in OURS}
    return first in sys.stdlib_module_names | LIBRARIES


@each_module
def test_a_driver_imports_nothing_that_knows_an_answer(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert all(may_be_imported(alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not node.level, ast.unparse(node)
            assert all(may_be_imported(name) or may_be_imported(str(node.module)) for name in names), ast.unparse(node)


def test_with_all_drivers_loaded_no_lesson_is() -> None:
    names = [DRIVERS, *(f"{DRIVERS}.{path.stem}" for path in MODULES if path.stem != "__init__")]
    imports = "; ".join(f"import {name}" for name in [*names, "segcourse.exercises.guard"])
    shown = f"{imports}; import sys; print(*(m for m in sys.modules if m.split('.')[0] == 'segcourse'))"
    loaded = set(subprocess.check_output([sys.executable, "-c", shown], text=True).split())
    allowed = {"segcourse", "segcourse.exercises", *names, *(f"segcourse.exercises.{ours}" for ours in OURS)}
    assert loaded == allowed


Function = ast.FunctionDef | ast.Lambda


def functions_in(path: str) -> list[Function]:
    return [n for n in ast.walk(_tree(path)) if isinstance(n, (ast.FunctionDef, ast.Lambda))]


@functools.cache
def _tree(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def body(function: Function) -> str:
    """What a function does, as a syntax tree: without its name, docstring and annotations."""
    if isinstance(function, ast.Lambda):
        lines: list[ast.stmt] = [ast.Return(function.body)]
    else:
        lines = function.body[ast.get_docstring(function) is not None :]
    return "\n".join(ast.dump(line) for line in lines)


def implementations(exercise: Exercise) -> Iterator[Callable[..., Any]]:
    yield from (exercise.reference, exercise.oracle)
    yield from (mistake.wrong for mistake in exercise.misconceptions)


def bodies_of(function: Callable[..., Any]) -> list[str]:
    """The bodies of all functions that begin where this one does (lambdas share lines); of a class, its methods."""
    function = function.func if isinstance(function, functools.partial) else function
    parts = list(vars(function).values()) if isinstance(function, type) else [function]
    places = [(p.__code__.co_filename, p.__code__.co_firstlineno) for p in parts if hasattr(p, "__code__")]
    return [body(n) for file, line in places for n in functions_in(file) if n.lineno == line]


def test_no_driver_is_an_answer_or_a_mistake() -> None:
    drivers_do = {body(n): n for path in MODULES for n in functions_in(str(path))}
    assert len(drivers_do) > len(MODULES)
    for exercise in exercises.catalogue():
        for function in implementations(exercise):
            found = bodies_of(function)
            assert found, (exercise.name, function)
            assert not drivers_do.keys() & set(found), (exercise.name, function)


@pytest.mark.parametrize("exercise", DRIVEN, ids=lambda exercise: exercise.name)
def test_a_driver_is_found_by_its_name(exercise: Exercise) -> None:
    drive = exercise.drive
    assert drive.__module__ == f"{DRIVERS}.{exercise.lesson[3:]}"
    assert getattr(importlib.import_module(drive.__module__), drive.__name__) is drive
    assert not drive.__name__.startswith("_")
    assert drive.__doc__


def is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(map(is_plain, [*value, *value.values()]))
    return value is None or value is ... or type(value) in (bool, int, float, str, torch.Tensor, np.ndarray)


@pytest.mark.parametrize("exercise", DRIVEN, ids=lambda exercise: exercise.name)
def test_a_driver_returns_plain_data(exercise: Exercise) -> None:
    for function in implementations(exercise):
        for case in exercise.draw_cases(0, len(exercise.examples) + 4):
            ran = run_here(exercise, function, limited=False)(case)
            assert ran.problem or is_plain(ran.value), (function, ran.value)
