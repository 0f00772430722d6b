"""pyproject.toml is the one place for dependencies; environment.yml, constraints.txt and the machine agree with it."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
CUDA = re.compile(r"^(nvidia|cuda|triton)")

DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]
AUTHORS = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]


def pins():
    """Name -> the requirements of constraints.txt; a package may be pinned apart for different Pythons."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


PINS = pins()


def conda():
    return yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def test_conda_has_the_same_packages_with_the_same_bounds():
    listed = [Requirement(line) for line in conda() if isinstance(line, str)]
    ours = {CONDA_NAMES.get(each.name, each.name): each.specifier for each in DEPENDENCIES}
    ours |= {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}
    assert {each.name: each.specifier for each in listed} == ours
    assert len(listed) == len(ours)


def test_pip_installs_nothing_but_the_course_in_conda():
    assert [line for line in conda() if isinstance(line, dict)] == [{"pip": ["-e ."]}]


def test_conda_file_has_a_word_on_each_package():
    packages = [line for line in (ROOT / "environment.yml").read_text().splitlines() if re.match(r"  - \w", line)]
    bare = [line for line in packages if "#" not in line and line.strip() not in ("- conda-forge", "- pip:")]
    assert len(packages) > len(DEPENDENCIES)
    assert bare == []


@pytest.mark.parametrize("requirement", DEPENDENCIES + AUTHORS, ids=str)
def test_pin_of_every_dependency_lies_within_its_bounds(requirement):
    for pin in PINS[canonicalize_name(requirement.name)]:
        (exact,) = pin.specifier
        assert exact.version in requirement.specifier


def test_pins_are_exact_and_name_no_place():
    for each in (pin for group in PINS.values() for pin in group):
        (exact,) = each.specifier
        assert exact.operator == "==", each
        assert "*" not in exact.version, each
        assert "+" not in exact.version, f"{each}: a local version exists on some machines only"
        assert each.url is None, each
        assert not each.extras, each


def test_no_pin_brings_cuda():
    assert [name for name in PINS if CUDA.match(name)] == []


def asked_for_by(name, extras):
    try:
        asked = [Requirement(line) for line in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:  # the extra for authors may be absent
        return []
    return [
        each
        for each in asked
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def test_pins_reach_every_package_that_comes_along():
    """Walk what the installed packages ask for, on this machine, from the course and its extra downwards."""
    todo, seen = [(each.name, frozenset(each.extras)) for each in DEPENDENCIES + AUTHORS], set()
    while todo:
        name, extras = todo.pop()
        name = canonicalize_name(name)
        if (name, extras) in seen or CUDA.match(name):
            continue
        seen.add((name, extras))
        todo += [(each.name, frozenset(each.extras)) for each in asked_for_by(name, extras)]
    assert {name for name, _ in seen} - set(PINS) == set()
    assert len(seen) > 50


@pytest.mark.parametrize("requirement", DEPENDENCIES + AUTHORS, ids=str)
def test_installed_version_fits(requirement):
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        assert requirement in AUTHORS, f"{requirement} is not installed"
        pytest.skip(f"{requirement.name} (for authors) is not installed")
    assert requirement.specifier.contains(version, prereleases=True)
