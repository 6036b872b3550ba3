"""Check that the demo's tables hold every planned cell, and that the study showed what it must be able to show."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

SPEC = "experiments/quickstart.yaml"
HARNESS = Path(sys.executable).with_name("harness")
RESULTS = Path("results/quickstart")


def main() -> None:
    """Exit with a message where something is missing."""
    plan = json.loads(subprocess.run([HARNESS, "plan", SPEC, "--json"], check=True, capture_output=True).stdout)
    planned = {cell["cell"] for cell in plan["cells"]}
    runs, cells, effects = (pd.read_csv(RESULTS / f"{name}.csv") for name in ("runs", "cells", "effects"))
    assert set(cells["cell"]) == planned, f"cells.csv differs from the plan by {set(cells['cell']) ^ planned}"
    assert len(runs) == plan["replicates"], f"runs.csv has {len(runs)} of {plan['replicates']} replicates"
    assert (runs["status"] == "finished").all(), runs[runs["status"] != "finished"].to_string()
    assert (runs["frozen_unchanged"] == 1).all(), "a frozen tensor moved"
    # For every cell but the first policy's baseline what it differs by, on every metric alike.
    counts = effects[effects["kind"].isin(["one_in", "combined", "policy"])].groupby("metric").size()
    assert (counts == len(planned) - 1).all(), f"effects.csv has {counts.to_dict()}"
    assert effects.groupby("metric").size().nunique() == 1, "a metric lacks effects"

    top = cells.set_index("cell")["test_top1_mean"]
    chance = 1 / plan["settings"]["classes"]
    assert top["full | baseline"] >= chance + 0.2, f"full is at {top['full | baseline']:.3f}"
    assert top["head | baseline"] != top["head_bn | baseline"], "head and head_bn do not differ"
    assert top.max() <= 0.99, f"{top.idxmax()} is at {top.max():.3f}: the study is too easy to show anything"
    for name in ("heatmap", "forest", "policy_interactions", "pareto", "memory", "budget", "curves"):
        for form in ("png", "svg", "pdf"):
            assert (RESULTS / "figures" / f"{name}.{form}").stat().st_size > 10_000, f"{name}.{form} is empty"

    before = {path.name: path.read_bytes() for path in RESULTS.glob("*.csv")}
    shutil.rmtree(RESULTS)
    subprocess.run([HARNESS, "report", SPEC], check=True, capture_output=True)
    after = {path.name: path.read_bytes() for path in RESULTS.glob("*.csv")}
    assert before == after, "report does not rebuild the same tables"
    print(f"demo: {len(planned)} cells, {len(runs)} replicates, tables rebuilt byte for byte")


main()
