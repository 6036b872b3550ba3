"""Samples that several test files make on the spot: image folders, tracked runs and tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from harness.data import Images
from harness.family import Family
from harness.records import Finished
from harness.results import Grid, runs_frame

VERSIONS = {"harness.numerics": "1", "harness.torch": "2.0"}
"""Versions that the fake runs were trained by, as their plan has them."""


def image_folder(
    root: Path, counts: Mapping[str, int], size: tuple[int, int] = (8, 8), suffix: str = ".png", seed: int = 0
) -> Path:
    """Write images of random pixels, so many into each folder under `root`; `size` is (width, height)."""
    rng = np.random.default_rng(seed)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number:03d}{suffix}")
    return root


def pixels_of(images: Images) -> torch.Tensor:
    """Return the images [N, 3, H, W] of a set in its own order, in memory or not."""
    return torch.cat([batch for batch, _ in images.batches(torch.arange(len(images)), 16)])


def fake_run(
    cell: str,
    seed: int,
    status: str = "FINISHED",
    run_id: str = "",
    tags: Mapping[str, str] | None = None,
    **metrics: Any,
) -> Any:
    """Make an object with the parts of a tracked run that results are read from, by default of the planned training."""
    planned = {"harness.digest": f"digest of {cell}/{seed}", **VERSIONS}
    return SimpleNamespace(
        info=SimpleNamespace(status=status, run_id=run_id or f"{cell}/{seed}"),
        data=SimpleNamespace(
            params={"cell": cell, "seed": str(seed)}, tags={**planned, **(tags or {})}, metrics=metrics
        ),
    )


def finished(digest: str, top1: float = 0.5) -> Finished:
    """Make the last record of a training."""
    return Finished(digest, 0, {"top1": top1}, 1, 1.0, "", (), np.zeros(1), np.zeros(1), 0)


def predicted(record: Finished) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted and the true class [N] of each test image, which a classification has."""
    assert record.test_predictions is not None
    assert record.test_labels is not None
    return record.test_predictions, record.test_labels


def plan_json(cells: Sequence[str], seeds: int) -> dict[str, Any]:
    """Make the part of a stored plan that tables are built from; the tricks are read off the names of the cells."""
    sets = {cell: cell.split(" | ")[1] for cell in cells}
    named = dict.fromkeys(label for name in sets.values() for label in name.split(" + "))
    labels = [label for label in named if " " not in label and label != "baseline"]
    tricks = {
        cell: labels if name.startswith("all ") else [label for label in name.split(" + ") if label in labels]
        for cell, name in sets.items()
    }
    return {
        "tricks": {label: {"trick": label} for label in labels},
        "seeds": list(range(seeds)),
        "cells": [
            {
                "cell": cell,
                "policy": cell.split(" | ")[0],
                "tricks": tricks[cell],
                "digests": {str(seed): f"digest of {cell}/{seed}" for seed in range(seeds)},
            }
            for cell in cells
        ],
        "versions": VERSIONS,
    }


def runs_table(
    outcomes: Mapping[str, Sequence[Any]], metrics: Mapping[str, Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """Make the frame of runs: for each cell and seed a test top-1, or a status such as `failed` or `missing`.

    `metrics` are further figures of all finished replicates of a cell.
    """
    children = []
    figures = metrics or {}
    for cell, values in outcomes.items():
        for seed, value in enumerate(values):
            if isinstance(value, float):
                children.append(fake_run(cell, seed, test_top1=value, val_top1=value, **figures.get(cell, {})))
            elif value == "diverged":
                children.append(fake_run(cell, seed, "FAILED", tags={"harness.failure": "diverged"}))
            elif value != "missing":
                children.append(fake_run(cell, seed, str(value).upper()))
    return runs_frame(plan_json(list(outcomes), max(map(len, outcomes.values()))), children)


def grid_table(
    outcomes: Mapping[str, Sequence[Any]],
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    rates: Mapping[str, Any] | None = None,
    correct: Mapping[tuple[str, int], Any] | None = None,
    family: Family | None = None,
    **plan: Any,
) -> Grid:
    """Make a grid from the outcomes of its cells, as `runs_table`; `plan` adds to what was planned."""
    seeds = max(map(len, outcomes.values()))
    return Grid(
        plan={**plan_json(list(outcomes), seeds), **plan},
        runs=runs_table(outcomes, metrics),
        curves=pd.DataFrame(),
        throughput=throughput_table(rates or {}),
        prerequisites=pd.DataFrame(),
        software={},
        experiment_id="1",
        run_id="0",
        correct=dict(correct or {}),
        family=family,
    )


def throughput_table(rates: Mapping[str, Any]) -> pd.DataFrame:
    """Make the frame of the probe: images per second of each cell and round."""
    rows = [
        {"cell": cell, "program": cell, "host": "here", "round": number, "images_per_s": rate, "peak_memory_bytes": 1}
        for cell, values in rates.items()
        for number, rate in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["cell", "program", "host", "round", "images_per_s", "peak_memory_bytes"])
