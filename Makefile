# make lab     set up and open the first lesson in JupyterLab   (make lab LESSON=03 opens another)
# make test    set up and prove everything: style, types, lessons up to date, tests, notebooks
# make lint    only style and types
# make build   make the lessons from solutions/*.py
# make browser install Chromium for the browser test, where that is possible (Debian or Ubuntu, as root)
# make clean   remove .venv and the caches, nothing else
#
# Everything is installed into .venv; the second time that takes no time. Without make, see README.md.

LESSON ?= 00
WORKERS ?= 2

# The first of these that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Which torch. On Linux, PyPI's brings gigabytes of CUDA. So without an NVIDIA GPU (nvidia-smi lists none) the CPU
# build is asked for by its full version, 2.x.y+cpu: PyPI has no such version, so CUDA cannot come in by accident.
# With a GPU, and on macOS and Windows, PyPI's own build is right. TORCH=cpu or TORCH=pypi overrides the choice.
TORCH ?= $(shell if [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L 2>/dev/null | grep -q '^GPU '; \
	then echo cpu; else echo pypi; fi)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH_VERSION = $(shell sed -n 's/^torch==//p' constraints.txt)

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help lab test lint build browser constraints clean

help:
	@sed -n 's/^# make/make/p' Makefile

lab: $(VENV)/for-lessons
	$(BIN)/segcourse lab $(LESSON)

test: lint
	$(BIN)/segcourse build --check
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/for-authors
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

build: $(VENV)/for-authors
	$(BIN)/segcourse build

# The two files below are empty: their date says when the installation was last right.
$(VENV)/for-lessons: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: https://www.python.org/downloads/"; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@if [ "$(TORCH)" = cpu ]; then \
	  $(PIP) install --no-deps --retries 2 --timeout 30 --index-url $(TORCH_INDEX) "torch==$(TORCH_VERSION)+cpu" || \
	  { echo "The CPU build of torch cannot be had from $(TORCH_INDEX): go online and try again,"; \
	    echo "or take the one of PyPI with gigabytes of CUDA: make $(MAKECMDGOALS) TORCH=pypi"; exit 1; }; \
	fi
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/for-authors: $(VENV)/for-lessons
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	{ test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } || \
	echo "Chromium cannot be installed here: the browser test will be skipped."

# Needs uv. Pins that still fit stay; delete a line to let that package move. CUDA's packages stay out: torch names
# the exact ones that it needs.
constraints:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-annotate --quiet \
	  --custom-compile-command "make constraints" --output-file constraints.txt
	grep -Ev '^(nvidia|cuda|triton)' constraints.txt > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
