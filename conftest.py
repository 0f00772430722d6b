"""Sets pytest up for the notebooks: what nbval compares, repaired where it needs to be, and no network in kernels."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from segcourse.authoring import kernel_environment

NO_NETWORK = Path(__file__).parent / "tests" / "no_network"


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a course home of its own, its kernels no network, and nbval's cells a history."""
    home = tempfile.mkdtemp(prefix="segcourse-tests-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ.update(kernel_environment(home))
    # IPython runs what lies in this profile's startup folder in every kernel, before the first cell.
    os.environ["IPYTHONDIR"] = shutil.copytree(NO_NETWORK, Path(home) / "ipython").as_posix()
    if config.pluginmanager.hasplugin("nbval"):
        _repair_nbval()


def _repair_nbval() -> None:
    """Let `;` and `Out[1]` work: nbval 0.11.0 runs cells without a history (its issue 194)."""
    from nbval.kernel import RunningKernel

    def execute(self: Any, cell_input: str, allow_stdin: bool | None = None) -> Any:
        return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)

    RunningKernel.execute_cell_input = execute


def pytest_collectstart(collector: Any) -> None:
    """Compare words and numbers; pictures and HTML are for eyes, and each has its words beside it."""
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += ("stderr", "text/html", "image/svg+xml")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave notebooks outside of solutions/ to the tests that run them on purpose."""
    return True if collection_path.suffix == ".ipynb" and collection_path.parent.name != "solutions" else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the contract's matrix: what was shown of every exercise."""
    rows: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, shown in [value for key, value in report.user_properties if key == "contract"]:
            rows.setdefault(name, []).append(shown)
    if rows:
        terminalreporter.section("contract of the exercises")
        for name, shown in sorted(rows.items()):
            terminalreporter.write_line(f"{name}: {'; '.join(sorted(shown))}")
