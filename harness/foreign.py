"""Runs that this harness did not make: a bare table of results as a grid, so that it gets the same analysis."""

from __future__ import annotations

import pandas as pd

from harness.results import Grid, axes_of, tricks_of

_THROUGHPUT = ("cell", "round", "images_per_s")


def grid_of(runs: pd.DataFrame, throughput: pd.DataFrame | None = None) -> Grid:
    """Return the grid of a frame of runs as `results.runs_frame` makes it: what is there is what was planned."""
    axes, tricks = axes_of(runs), tricks_of(runs)
    cells = [
        {
            "cell": row["cell"],
            "policy": row["policy"],
            "tricks": [trick for trick in tricks if row[trick]],
            "levels": {axis: row[axis] for axis in axes},
        }
        for row in runs.drop_duplicates("cell").to_dict("records")
    ]
    plan = {
        "policies": dict.fromkeys(runs["policy"], ""),
        "tricks": {trick: {"trick": trick} for trick in tricks},
        "axes": {axis: list(runs[axis].unique()) for axis in axes},
        "seeds": sorted(runs["seed"].unique().tolist()),
        "cells": cells,
        "judgements": [],
        "settings": {},
    }
    return Grid(
        plan=plan,
        runs=runs,
        curves=pd.DataFrame(columns=[*axes, "policy", "cell", "seed", "epoch", "step", "train_loss", "val_top1"]),
        throughput=pd.DataFrame(columns=_THROUGHPUT) if throughput is None else throughput,
        prerequisites=pd.DataFrame(columns=["what", "epochs", "test_top1"]),
        software={},
        experiment_id="",
        run_id="",
    )
