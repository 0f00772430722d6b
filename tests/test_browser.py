"""Lesson 01 in a real JupyterLab in a real Chromium: it runs, its slider works, a failed check can be read."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from segcourse import authoring

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright (the dev extra)")

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="the browser test needs Chromium, which is not installed here"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
NOTEBOOK = "window.jupyterapp.shell.currentWidget"
STEM = "01_receptive_field"
MISTAKE = "    return kernel_1 + kernel_2"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab with settings of its own, over a copy of lesson 01 in which compound_kernel holds a mistake."""
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("course")
    lesson = nbformat.read(ROOT / "lessons" / f"{STEM}.ipynb", 4)
    cell = next(c for c in lesson.cells if "def compound_kernel" in c.source)
    stub = authoring.STUB.format("    ")
    assert stub in cell.source
    cell.source = cell.source.replace(stub, MISTAKE)
    nbformat.write(lesson, work / f"{STEM}.ipynb")
    quiet = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}), "utf-8")
    folders = {
        "HOME": "user", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "SEGCOURSE_HOME": "course",
    }  # fmt: skip
    environment = os.environ | {key: str(home / name) for key, name in folders.items()}
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={work}",
        "--expose-app-in-browser",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=work)
        try:
            deadline = time.monotonic() + 90
            while True:
                said = (home / "log").read_text("utf-8")[-3000:]
                assert server.poll() is None, said
                assert time.monotonic() < deadline, said
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(url + "/api/status", timeout=2).close()
                    break
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=FLAGS,
            viewport={"width": 1280, "height": 1100},
        )  # fmt: skip
        context.set_default_timeout(90_000)
        yield context.pages[0]
        context.close()


def shots() -> Path | None:
    """A folder to leave screenshots in, for people to look at; none unless asked for."""
    folder = os.environ.get("SEGCOURSE_SHOTS")
    return Path(folder) if folder else None


def shoot(page: Any, element: Any, name: str) -> None:
    element.scroll_into_view_if_needed()
    if shots():
        page.screenshot(path=shots() / f"{name}.png")


def open_lesson(page: Any, url: str) -> None:
    page.goto(f"{url}/lab/tree/{STEM}.ipynb?reset")
    ready = f"() => window.jupyterapp && {NOTEBOOK}?.sessionContext?.session?.kernel?.status == 'idle'"
    page.wait_for_function(ready)
    # Every cell in the page at once: JupyterLab otherwise attaches only those near the window.
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")


def test_lesson_runs_slides_and_explains(lab: str, page: Any) -> None:
    open_lesson(page, lab)
    errors = page.evaluate(
        f"() => [...{NOTEBOOK}.content.widgets].flatMap(cell => cell.model.outputs?.toJSON() ?? [])"
        ".filter(o => o.output_type == 'error' || o.name == 'stderr')"
    )
    assert errors == []

    # A failed check can be read: the mistake is named, in words.
    page.evaluate(
        f"() => {{ const i = {NOTEBOOK}.content.widgets.findIndex(c => c.model.sharedModel.getSource()"
        ".startsWith('check.compound_kernel(')); "
        f"{NOTEBOOK}.content.activeCellIndex = i; return {NOTEBOOK}.content.scrollToItem(i, 'center'); }}"
    )
    verdict = page.locator("[role=status]", has_text="compound_kernel: not yet")
    verdict.wait_for()
    assert "You added the two kernels." in verdict.inner_text()
    shoot(page, verdict, "failed_check")

    # The slider moves, and the picture changes.
    index = page.evaluate(
        f"() => {NOTEBOOK}.content.widgets.findIndex(c => JSON.stringify(c.model.outputs?.toJSON() ?? [])"
        ".includes('widget-view+json') && c.model.sharedModel.getSource().includes('show_widget'))"
    )
    assert index >= 0
    page.evaluate(f"i => {{ {NOTEBOOK}.content.activeCellIndex = i; "
                  f"return {NOTEBOOK}.content.scrollToItem(i, 'center'); }}", index)  # fmt: skip
    cell = page.locator(f".jp-Cell[data-windowed-list-index='{index}']")
    image = cell.locator("img.widget-image, .widget-image img, img").first
    image.wait_for()
    shoot(page, image, "widget_before")
    before = image.get_attribute("src")
    cell.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([i, old]) => { const image = document.querySelector(`.jp-Cell[data-windowed-list-index='${i}'] img`);"
        " return image && image.src != old; }",
        arg=[index, before],
    )
    shoot(page, image, "widget_after")
