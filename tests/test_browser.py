"""The report and the MLflow UI in a real browser, as a person opens them."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import cli, ui
from harness.track import Store
from harness.workspace import Workspace

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def reported(stored: Workspace, write_spec: Callable[..., Path]) -> Workspace:
    """A workspace whose tiny study is run and reported."""
    assert cli.main(["run", str(write_spec()), "--inline"]) == cli.DONE
    return stored


@pytest.mark.parametrize("width", [1280, 390])
def test_report_shows_every_figure_and_no_error(browser: Any, reported: Workspace, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((reported.results / "tiny" / "report.html").as_uri())
    sizes = page.eval_on_selector_all("img", "imgs => imgs.map(i => [i.naturalWidth, i.naturalHeight])")
    assert len(sizes) == len(list((reported.results / "tiny" / "figures").glob("*.svg"))) >= 5
    assert all(side > 100 for size in sizes for side in size)
    assert not errors
    assert all(url.startswith(("file:", "data:")) for url in asked), "the page is self-contained"
    # Wide tables and figures scroll by themselves; the page does not.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


class Ui:
    """The MLflow UI of a workspace in a browser."""

    def __init__(self, browser: Any, store: Store, base: str) -> None:
        self.links = ui.view_links(store, base)["tiny"]
        self.base = base
        context = browser.new_context(viewport={"width": 1800, "height": 1400})
        # The assistant opens by itself on a first visit, and takes a third of the page.
        for key, value in (("fab.autoOpenedOnFirstLoad", "true"), ("panelOpen", "false")):
            context.add_init_script(f"localStorage.setItem('mlflow.assistant.{key}_v1', '{value}')")
        self.context = context

    def open(self, address: str, text: str) -> Any:
        """Open an address in a page of its own, once it shows `text`."""
        page = self.context.new_page()
        page.goto(address)
        page.get_by_text(text).first.wait_for(timeout=60_000)
        return page

    def means(self, page: Any) -> dict[str, float]:
        """Return the bars of test top-1 by the name of their group, off a page that says which view it is."""
        page.locator("svg .barlayer .point, svg .bars .point").first.wait_for(timeout=60_000)
        bars = page.evaluate(
            "Array.from(document.querySelectorAll('.js-plotly-plot')).flatMap(p => p.data || [])"
            ".filter(t => t.type === 'bar').flatMap(t => Array.from(t.x, (x, i) => [t.names ? t.names[i] : t.y[i], x]))"
        )
        return {str(name): float(mean) for name, mean in bars}


@pytest.fixture
def shown(browser: Any, reported: Workspace) -> Iterator[Ui]:
    store = Store(reported)
    with socket.socket() as free:
        free.bind((ui.HOST, 0))
        port = free.getsockname()[1]
    with ui.served(store, port):
        opened = Ui(browser, store, ui.address(store, port))
        yield opened
        opened.context.close()


def test_the_server_ends_with_the_block(stored: Workspace) -> None:
    with socket.socket() as free:
        free.bind((ui.HOST, 0))
        port = free.getsockname()[1]
    with ui.served(Store(stored), port) as process:
        assert process.poll() is None
        with pytest.raises(Exception, match="taken"), ui.served(Store(stored), port):
            pass
    assert process.poll() is not None
