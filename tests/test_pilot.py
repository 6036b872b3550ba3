"""The pilot: a spread that is known comes back from a table, and what is no such table is refused."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.pilot import sd_of_differences
from tests.samples import runs_table


@pytest.fixture
def pilot(tmp_path):
    """A function that writes outcomes as a report's runs.csv."""

    def write(outcomes):
        path = tmp_path / "runs.csv"
        runs_table(
            {cell: [v if isinstance(v, str) else float(v) for v in row] for cell, row in outcomes.items()}
        ).to_csv(path, index=False)
        return path

    return write


def test_spread_of_one_effect_is_its_sd(pilot):
    base, d = np.array([0.5, 0.9, 0.1, 0.4]), np.array([0.01, 0.04, -0.03, 0.02])
    assert sd_of_differences(pilot({"full | baseline": base, "full | a": base + d}), ()) == pytest.approx(d.std(ddof=1))


def test_effects_count_by_their_degrees_of_freedom(pilot):
    """Of tricks alone and of policies, not of several tricks together."""
    base = np.array([0.5, 0.7, 0.6, 0.4])
    a, b, head = np.array([0.01, 0.04, -0.03, 0.02]), np.array([0.1, -0.1]), np.array([-0.2, -0.1, -0.2, -0.3])
    path = pilot(
        {
            "full | baseline": base,
            "full | a": base + a,
            "full | b": [*(base[:2] + b), "failed", "diverged"],
            "full | c": [0.4, "failed", "failed", "failed"],
            "full | a + b + c": base + np.array([0.5, -0.5, 0.1, 0.0]),
            "head | baseline": base + head,
        }
    )
    pooled = (3 * a.var(ddof=1) + b.var(ddof=1) + 3 * head.var(ddof=1)) / 7
    assert sd_of_differences(path, ()) == pytest.approx(math.sqrt(pooled))


def test_spread_over_scenarios(pilot):
    values = {
        f"full | {trick} | lr {lr}": np.array([0.5, 0.6, 0.8]) + gain
        for lr, gains in (("0.1", [0.1, 0.0, -0.1]), ("0.01", [0.02, 0.0, 0.01]))
        for trick, gain in (("baseline", np.zeros(3)), ("a", np.array(gains)))
    }
    path = pilot(values)
    runs = pd.read_csv(path)
    runs.insert(0, "lr", runs["cell"].str.rsplit(" ", n=1).str[-1].astype(float))
    runs.to_csv(path, index=False)
    pooled = np.mean([np.var([0.1, 0.0, -0.1], ddof=1), np.var([0.02, 0.0, 0.01], ddof=1)])
    assert sd_of_differences(path, ()) == pytest.approx(math.sqrt(pooled))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "policy,seed\nfull,0\n",
        "policy,a,seed,cell,status,test_top1\nfull,False,0,nothing of a cell,finished,0.5\n",
        "policy,a,seed,cell,status,test_top1\nfull,False,0,full | baseline,finished,good\n",
        '"\n',
    ],
)
def test_what_is_no_table_of_runs_is_refused(tmp_path, text):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(HarnessError, match=r"the pilot .*runs\.csv is no runs\.csv of a report"):
        sd_of_differences(path, ())


def test_cells_without_a_trick_set_are_refused(pilot):
    path = pilot({"full | baseline": [0.5, 0.6], "full | a": [0.5, 0.7]})
    path.write_text(path.read_text().replace("full | ", ""))
    with pytest.raises(HarnessError, match=r"is no runs\.csv of a report"):
        sd_of_differences(path, ())


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(HarnessError, match=r"cannot read the pilot .*: No such file"):
        sd_of_differences(tmp_path / "runs.csv", ())
    with pytest.raises(HarnessError, match="cannot read the pilot"):
        sd_of_differences(tmp_path, ())


@pytest.mark.parametrize(
    "outcomes",
    [
        {"full | baseline": [0.5], "full | a": [0.6]},
        {"full | baseline": [0.5, 0.6, 0.7]},
        {"full | baseline": [0.5, "failed"], "full | a": ["failed", 0.6]},
        {"full | baseline": [0.5, 0.25], "full | a": [0.75, 0.5]},
    ],
)
def test_a_pilot_without_two_pairs_that_differ_says_nothing_of_the_spread(pilot, outcomes):
    with pytest.raises(HarnessError, match="no effect of two pairs that differ"):
        sd_of_differences(pilot(outcomes), ())


def test_what_changes_nothing_is_no_spread(pilot):
    """A trick without effect under a policy shares the runs of the cell without it."""
    base, d = np.array([0.5, 0.9, 0.1]), np.array([0.01, 0.04, -0.03])
    path = pilot({"full | baseline": base, "full | a": base + d, "full | noop": base})
    assert sd_of_differences(path, ()) == pytest.approx(d.std(ddof=1))
