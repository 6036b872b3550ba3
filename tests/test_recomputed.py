"""The primary effects of the committed studies, computed again from their replicates by scipy alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

RESULTS = Path(__file__).parents[1] / "results"
STUDIES = ["bag_of_tricks", "bn_frozen_rates", "cs231n_scenarios_cifar10", "freeze_policies", "freeze_x_tricks_cifar10"]


def differences(runs: pd.DataFrame, effect: Mapping[Any, Any]) -> pd.Series:
    """The paired differences of an effect, by seed."""
    tricks = [str(column) for column in runs if runs[column].dtype == bool]
    axes = list(runs.columns[: runs.columns.get_loc("policy")])

    def top1(policy: str, *on: str) -> pd.Series:
        rows = runs[(runs["policy"] == policy) & (runs[tricks].eq([trick in on for trick in tricks]).all(axis=1))]
        for axis, level in zip(axes, str(effect["scenario"]).split(", ") if axes else (), strict=True):
            rows = rows[f"{axis} " + rows[axis] == level]
        return rows.set_index("seed")["test_top1"]

    policy, trick, against = effect["policy"], effect["trick"], effect["against"]
    if effect["kind"] == "policy":
        return top1(policy) - top1(against)
    if effect["kind"] == "one_in":
        return top1(policy, trick) - top1(policy)
    if effect["kind"] == "leave_one_out":
        return top1(policy, *tricks) - top1(policy, *[name for name in tricks if name != trick])
    assert effect["kind"] == "interaction"
    if against in set(runs["policy"]):
        return top1(policy, trick) - top1(policy) - (top1(against, trick) - top1(against))
    one, other = trick.split(" × ")
    return top1(policy, one, other) - top1(policy, one) - top1(policy, other) + top1(policy)


@pytest.mark.parametrize("study", STUDIES)
def test_primary_effects_are_those_of_their_replicates(study: str) -> None:
    runs, effects = (pd.read_csv(RESULTS / study / f"{name}.csv") for name in ("runs", "effects"))
    primary = effects[(effects["role"] == "primary") & (effects["metric"] == "test_top1")]
    assert len(primary) >= 4
    for effect in primary.to_dict("records"):
        sample = differences(runs, effect).dropna()
        test = stats.ttest_1samp(sample, 0)
        found = sample.mean(), *test.confidence_interval(0.95), test.pvalue, len(sample)
        assert found == pytest.approx([effect[key] for key in ("estimate", "low", "high", "p", "n")]), effect["kind"]
