"""What an earlier study says of the spread between seeds, for planning the next."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from harness.effects import effects
from harness.errors import HarnessError
from harness.foreign import grid_of


def sd_of_differences(path: Path, policies: Collection[str]) -> float:
    """Return the pooled standard deviation of the paired differences of the score in a report's `runs.csv`.

    Of its policies those in `policies` count, or all where none is there. Pooled over the effects of single tricks and
    of policies; an effect of n pairs counts n − 1 times, one whose pairs differ alike, as those of a trick that changes
    nothing, not at all. Raises HarnessError where the file cannot be read or holds no effect with a spread.
    """
    try:
        runs = pd.read_csv(path, keep_default_na=False, na_values=[""])
        ours = runs["policy"].isin([*policies])
        grid = grid_of(runs[ours] if ours.any() else runs)
        found = effects(grid)
    except OSError as error:
        raise HarnessError(f"cannot read the pilot {path}: {error.strerror}") from None
    except (ValueError, TypeError, LookupError) as error:
        raise HarnessError(f"the pilot {path} is no runs.csv of a report: {error}") from None
    rows = found[(found["metric"] == grid.score.test) & found["kind"].isin(["one_in", "policy"]) & found["low"].notna()]
    degrees = (rows["n"] - 1).sum()
    if not degrees:
        raise HarnessError(f"the pilot {path} has no effect of two pairs that differ")
    return math.sqrt(float((rows["sd"] ** 2 * (rows["n"] - 1)).sum()) / degrees)
