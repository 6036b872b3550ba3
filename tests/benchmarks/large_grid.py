"""A grid of thousands of made-up replicates, and how fast MLflow's page opens it.

`python -m tests.benchmarks.large_grid FOLDER [REPLICATES]` writes one, opens its prepared views in chromium and prints
the seconds until each has its runs and its first chart. The figures are made up; the runs are as `harness run` logs
them, but for artifacts.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness import ui
from harness.track import GridLog, Store, save_views
from harness.views import CURRENT
from harness.workspace import Workspace
from tests.grids import plan_of

POLICIES = ("full", "full_bn_frozen", "head", "head_bn", "last_stage", "bn_only", "llrd", "gradual", "lp_ft", "scratch")
TRICKS = tuple(f"trick_{letter}" for letter in "abcdefghi")
EPOCHS = 5


def write(store: Store, replicates: int) -> dict[str, Any]:
    """Log the runs of a grid of 10 policies × 9 tricks and as many seeds as it takes; returns its plan."""
    seeds = max(1, round(replicates / (len(POLICIES) * (len(TRICKS) + 1))))
    plan = plan_of(["one_in"], TRICKS, POLICIES, seeds=seeds)
    log = GridLog(store, "large", "grid", {"harness.version": "0"})
    random = np.random.default_rng(0)
    for number, (cell, seed) in enumerate((cell, seed) for cell in plan["cells"] for seed in plan["seeds"]):
        params = {"cell": cell["cell"], "policy": cell["policy"], "seed": str(seed), "lr": "0.1"}
        params |= {trick: str(trick in cell["tricks"]) for trick in TRICKS}
        tags = {"harness.kind": "replicate", "harness.digest": str(number), CURRENT: "true"}
        run_id = log.begin(f"{cell['cell']} | seed {seed}", params, tags, None)
        top1 = 0.5 + 0.04 * POLICIES.index(cell["policy"]) % 0.4 + random.normal(0, 0.02)
        for epoch in range(1, EPOCHS + 1):
            log.metrics(run_id, {"val_top1": top1 * epoch / EPOCHS, "train_loss": 1 / epoch}, epoch, epoch)
        speed = 1000.0 + 100 * POLICIES.index(cell["policy"])
        final = {"test_top1": top1, "images_per_s": speed, "train_s": 60e3 / speed, "peak_memory_bytes": 2e6 * speed}
        log.metrics(run_id, final, EPOCHS)
        log.end(run_id, "FINISHED", {})
    log.close("FINISHED")
    save_views(store, log.run_id, plan)
    return plan


def opened(store: Store, browser: Any, names: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Open views of the grid in fresh pages; returns the seconds until the runs and until the first chart are there."""
    with socket.socket() as free:
        free.bind((ui.HOST, 0))
        port = free.getsockname()[1]
    result = {}
    with ui.served(store, port):
        links = ui.view_links(store, ui.address(store, port))["large"]
        for name in (*names[:1], *names):  # once for nothing: a server's first search takes seconds, whatever the grid
            page, start = browser.new_page(viewport={"width": 1800, "height": 1400}), time.monotonic()
            page.goto(links[name])
            page.get_by_text("matching runs").first.wait_for(timeout=120_000)
            page.locator(".ag-row").first.wait_for(timeout=120_000)
            runs = time.monotonic() - start
            if "CHART" in links[name]:
                page.locator(".js-plotly-plot .point").first.wait_for(timeout=120_000)
            result[name] = (runs, time.monotonic() - start)
            page.close()
    return result


def main(folder: Path, replicates: int) -> None:
    """Write a grid into `folder`, where there is none, open it and print how long that took."""
    from playwright.sync_api import sync_playwright

    from tests.test_browser import CHROMIUM, QUIET

    folder.mkdir(parents=True, exist_ok=True)
    place = Workspace(folder)
    if not place.database.exists():
        start = time.monotonic()
        write(Store(place, create=True), replicates)
        print(f"{replicates} replicates written in {time.monotonic() - start:.0f} s")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        names = ("Leaderboard", "Parallel coordinates", "Charts by cell", "Policy head", "Trick trick_c")
        for name, (runs, chart) in opened(Store(place), browser, names).items():
            print(f"{name:20} runs after {runs:5.1f} s, first chart after {chart:5.1f} s")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
