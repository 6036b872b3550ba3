"""The report and the MLflow UI in a real browser, as a person opens them."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from harness import cli, ui
from harness.track import Store
from harness.workspace import Workspace
from tests.benchmarks import large_grid
from tests.conftest import TINY

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


@pytest.fixture(scope="module")
def reported(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace whose tiny study is run and reported."""
    place = Workspace(tmp_path_factory.mktemp("reported"))
    spec = place.root / "experiments" / "tiny.yaml"
    spec.parent.mkdir()
    spec.write_text(TINY)
    shutil.copy(empty_store, place.database)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
        yield place


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

    def __init__(self, browser: Any, store: Store, base: str, study: str) -> None:
        self.store, self.base = store, base
        self.links = ui.view_links(store, base)[study]
        """Those that `harness ui` prints."""
        self.context = browser.new_context(viewport={"width": 1800, "height": 1400})
        # The assistant opens by itself on a first visit, and takes a third of the page.
        for key, value in (("fab.autoOpenedOnFirstLoad", "true"), ("panelOpen", "false")):
            self.context.add_init_script(f"localStorage.setItem('mlflow.assistant.{key}_v1', '{value}')")

    def open(self, address: str, text: str) -> Any:
        """Open an address in a page of its own, and wait for `text`."""
        page = self.context.new_page()
        page.goto(address)
        self.expect(page.get_by_text(text), text, address)
        return page

    def expect(self, found: Any, what: str, where: str) -> None:
        try:
            found.first.wait_for(timeout=60_000)
        except Exception as error:
            pytest.fail(
                f"MLflow {mlflow.__version__} shows no {what!r} at {where}. If its format of views is another one, "
                f"save a view by hand, read its tag, and bring harness/views.py in line: {error}"
            )

    def charts(self, name: str) -> dict[str, Any]:
        """Return what the charts of a view show: the mean test top-1 of each bar by name, and how many dots."""
        page = self.open(self.links[name], "Means over seeds" if "Charts" in name else "means over seeds")
        self.expect(page.locator("svg .barlayer .point, svg .bars .point"), "bar", name)
        self.expect(page.locator("svg .scatterlayer .point"), "dot", name)
        traces = page.evaluate(
            "Array.from(document.querySelectorAll('.js-plotly-plot')).flatMap(p => p.data || [])"
            ".map(t => ({type: t.type, mode: t.mode, x: Array.from(t.x || []), names: t.names}))"
        )
        page.close()
        bars = [trace for trace in traces if trace["type"] == "bar"]
        dots = [trace for trace in traces if trace["mode"] == "markers"]
        return {
            "means": {name: float(x) for bar in bars for name, x in zip(bar["names"], bar["x"], strict=True)},
            "dots": max(len(trace["x"]) for trace in dots),
        }


@contextmanager
def ui_of(browser: Any, store: Store, study: str) -> Iterator[Ui]:
    with socket.socket() as free:
        free.bind((ui.HOST, 0))
        port = free.getsockname()[1]
    with ui.served(store, port):
        opened = Ui(browser, store, ui.address(store, port), study)
        yield opened
        opened.context.close()


@pytest.fixture(scope="module")
def shown(browser: Any, reported: Workspace) -> Iterator[Ui]:
    with ui_of(browser, Store(reported), "tiny") as opened:
        yield opened


def test_charts_show_the_means_of_the_table(shown: Ui, reported: Workspace) -> None:
    cells = pd.read_csv(reported.results / "tiny" / "cells.csv").set_index("cell")
    means = cells["test_top1_mean"]
    wanted = {
        "Charts by cell": list(cells.index),
        "Policy head": ["head | baseline", "head | warmup", "head | mixup"],
        "Trick mixup": ["full | baseline", "full | mixup", "head | baseline", "head | mixup"],
    }
    for name, names in wanted.items():
        found = shown.charts(name)
        assert found["means"] == pytest.approx({cell: means[cell] for cell in names}, abs=1e-6), name
        assert found["dots"] == len(names)


def test_the_table_says_policy_and_tricks_and_is_filtered_by_them(shown: Ui, reported: Workspace) -> None:
    cells = pd.read_csv(reported.results / "tiny" / "cells.csv").set_index("cell")
    page = shown.open(shown.links["Leaderboard"], "12 matching runs")
    shown.expect(page.get_by_text(f"{cells['test_top1_mean'].idxmax()} | seed"), "best cell", "the table")
    heads = page.locator("[role=columnheader]").all()
    boxes = {head.inner_text().strip(): head.bounding_box() or {"x": -1.0} for head in heads}  # in no order
    at = [boxes[name]["x"] for name in ("test_top1", "policy", "warmup", "mixup")]
    assert at == sorted(at)
    search = page.get_by_role("combobox").first
    search.fill("params.mixup = 'True'")
    search.press("Enter")
    shown.expect(page.get_by_text("4 matching runs"), "4 matching runs", "the filter by mixup")
    page.close()
    page = shown.open(shown.links["Leaderboard"], "12 matching runs")
    page.get_by_role("button", name="Leaderboard").click()
    page.get_by_role("menuitem", name="Policy head").click()
    shown.expect(page.get_by_text("6 matching runs"), "6 matching runs", "the view of head in the menu")
    page.close()
    page = shown.open(shown.links["Parallel coordinates"], "Every replicate")
    shown.expect(page.locator(".parcoords canvas"), "parallel coordinates", "the leaderboard's charts")


def test_the_grids_page_says_what_was_found_and_opens_the_report(shown: Ui, reported: Workspace) -> None:
    finding = (reported.results / "tiny" / "report.md").read_text().partition("## Findings\n\n- ")[2].partition("\n")[0]
    page = shown.open(shown.links["Findings, artifacts"], finding[:60])
    report = page.get_by_role("link", name="Report", exact=True).first.get_attribute("href")
    page = shown.open(f"{shown.base}/{report}", "report/report.html")
    shown.expect(page.frame_locator("iframe").first.get_by_text(finding[:60]), "finding", "the preview of the report")


def test_means_of_more_runs_than_the_page_loads_are_over_whole_cells(browser: Any, stored: Workspace) -> None:
    """100 cells × 2 seeds: the page loads 100 runs, which are those of 50 cells; 10 cells are a policy's."""
    store = Store(stored)
    large_grid.write(store, 200)
    (_, parent) = store.grids()[0]
    values: dict[str, list[float]] = {}
    for run in store.children(parent):
        values.setdefault(run.data.params["cell"], []).append(run.data.metrics["test_top1"])
    means = {cell: sum(found) / len(found) for cell, found in values.items()}
    assert {len(found) for found in values.values()} == {2}
    with ui_of(browser, store, "large") as opened:
        first = sorted(means)[:50]
        assert opened.charts("Charts by cell")["means"] == pytest.approx({cell: means[cell] for cell in first})
        of_head = {cell: mean for cell, mean in means.items() if cell.startswith("head |")}
        assert opened.charts("Policy head")["means"] == pytest.approx(of_head)
        opened.open(opened.links["Charts by cell"], "100 of 200 runs")


def test_the_server_ends_with_the_block(stored: Workspace) -> None:
    with socket.socket() as free:
        free.bind((ui.HOST, 0))
        port = free.getsockname()[1]
    with ui.served(Store(stored), port) as process:
        assert process.poll() is None
        with pytest.raises(Exception, match="taken"), ui.served(Store(stored), port):
            pass
    assert process.poll() is not None
