"""Which runs are compared with which: those of one seed, if a batch was taken in as many parts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.contrasts import Weights

PARTS = "parts"
"""Column of the parts that memory forced a replicate's batches into; 1 is as planned.

Batch norm sees a part at a time, so such a run is paired with its like only.
"""


def by_pair(runs: pd.DataFrame, metric: str, columns: str = "cell") -> pd.DataFrame:
    """Return a metric: what runs of a pair share down (seed and parts), the values of a column of `runs` across."""
    parts = runs.get(PARTS, 1)
    return runs.assign(**{PARTS: parts}).pivot_table(
        index=["seed", PARTS], columns=columns, values=metric, observed=True
    )


def paired(table: pd.DataFrame, weights: Weights) -> pd.Series:
    """Return the value of a contrast for each row of `table` that has all its cells."""
    at = table.columns.get_indexer(pd.Index([*weights]))
    if (at < 0).any():
        return pd.Series(dtype=float)
    # No matrix product: its last bit may depend on how many threads there are.
    d = (table.to_numpy()[:, at] * np.array([*weights.values()])).sum(axis=1)
    known = ~np.isnan(d)
    return pd.Series(d[known], table.index[known])
