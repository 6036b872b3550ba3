"""Made-up grids: every replicate's test top-1 from a response that is written out, under the designs of a plan."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.artifacts import finals
from harness.designs import Built, build, union
from harness.family import Family
from harness.results import Grid
from harness.wording import scenario
from tests.samples import throughput_table

Response = Callable[[str, Mapping[str, str], frozenset[str], int], float | str]
"""Policy, levels, tricks and seed to test top-1, or to a status such as `failed`."""


def cell_name(policy: str, tricks: Sequence[str], levels: Mapping[str, str]) -> str:
    """Name a cell as plans do, however many tricks there are."""
    return " | ".join(part for part in (policy, " + ".join(tricks) or "baseline", scenario(levels)) if part)


def plan_of(
    designs: Sequence[Any] | Mapping[str, Sequence[Built]],
    labels: Sequence[str] = "abc",
    policies: Sequence[str] = ("full",),
    levels: Sequence[Mapping[str, str]] = ({},),
    seeds: int = 3,
    classes: int | None = 10,
) -> dict[str, Any]:
    """Make a stored plan of `designs` over tricks `labels`, or of those of each policy."""
    by_policy = designs if isinstance(designs, Mapping) else dict.fromkeys(policies, build(designs, labels))
    known = {} if classes is None else {"classes": classes}
    cells = [
        {
            "cell": cell_name(policy, tricks, at),
            "policy": policy,
            "tricks": tricks,
            "levels": at,
            "digests": {str(seed): f"{policy} {tricks} {at} {seed}" for seed in range(seeds)},
            **known,
        }
        for at in levels
        for policy in by_policy
        for tricks in union(by_policy[policy])
    ]
    entries = [
        {
            "policies": [policy],
            "levels": list(levels),
            "kind": built.kind,
            "factors": built.factors,
            "orders": built.orders,
            "sampled": built.sampled,
            "resolution": built.resolution,
            "aliases": built.aliases,
            "note": built.note,
            "sets": built.sets,
        }
        for policy, found in by_policy.items()
        for built in found
    ]
    plan = {
        "policies": dict.fromkeys(by_policy, ""),
        "tricks": {label: {"trick": label} for label in labels},
        "axes": {axis: list(dict.fromkeys(at[axis] for at in levels)) for axis in levels[0]},
        "seeds": list(range(seeds)),
        "cells": cells,
        "designs": entries,
        "settings": {},
        "judgements": [],
    }
    read_back: dict[str, Any] = json.loads(json.dumps(plan))
    return read_back


def grid_from(
    plan: Mapping[str, Any],
    response: Response,
    figures: Callable[[str, frozenset[str]], Mapping[str, float]] | None = None,
    rates: Mapping[str, Any] | None = None,
    correct: Mapping[tuple[str, int], Any] | None = None,
    family: Family | None = None,
) -> Grid:
    """Make the grid of a plan whose replicates came out as `response` has it, with further `figures` of each cell."""
    rows = []
    for cell in plan["cells"]:
        tricks = frozenset(cell["tricks"])
        for seed in plan["seeds"]:
            value = response(cell["policy"], cell["levels"], tricks, seed)
            lost = isinstance(value, str)
            more = {} if lost or figures is None else figures(cell["policy"], tricks)
            tops = {} if lost else {"test_top1": value, "val_top1": value}
            rows.append(
                {
                    **cell["levels"],
                    "policy": cell["policy"],
                    **{trick: trick in tricks for trick in plan["tricks"]},
                    "seed": seed,
                    "cell": cell["cell"],
                    "status": value if lost else "finished",
                    "reason": "",
                    **dict.fromkeys(finals("classification"), float("nan")),
                    **tops,
                    **more,
                    "run_id": "",
                    "trained_by": "",
                }
            )
    return Grid(
        plan=dict(plan),
        runs=pd.DataFrame(rows),
        curves=pd.DataFrame(),
        throughput=throughput_table(rates or {}),
        prerequisites=pd.DataFrame(),
        software={},
        experiment_id="1",
        run_id="0",
        correct=dict(correct or {}),
        family=family,
    )
