"""What a replicate costs does not depend on how many there are: calls are counted, not seconds."""

import json
from unittest.mock import MagicMock

import pytest

from harness import digest, specfile, training
from harness.artifacts import CURVES, PLAN, PREDICTIONS
from harness.grid import GridRun
from harness.planning import make_plan
from harness.results import read_grid
from harness.summary import summarise
from harness.versions import versions
from tests.benchmarks.growth import EPOCHS, Stub
from tests.samples import fake_run

FEW, MANY = 4, 40
"""Seeds of 6 cells."""


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study, without pretraining, for so many seeds."""
    return lambda seeds: make_plan(specfile.read(write_spec(), [f"seeds={seeds}", "weights=null"]), workspace)


CURVE = b"epoch,step,train_loss,val_top1\n1,10,0.5,0.5\n"


def test_a_plan_puts_cells_into_text_and_not_replicates(planned, monkeypatch):
    planned(1)  # what is remembered of the network is found out
    spy = MagicMock(side_effect=digest.plain)
    monkeypatch.setattr(digest, "plain", spy)
    counts = []
    for seeds in (FEW, MANY):
        spy.reset_mock()
        plan = planned(seeds)
        assert len(plan.replicates) == 6 * seeds == len({r.training.digest for r in plan.replicates})
        counts.append(sum(isinstance(value, training.Training) for (value,), _ in spy.call_args_list))
    assert counts[0] == counts[1] == 6


def test_a_run_calls_the_store_as_often_for_each_replicate(planned, workspace):
    counts = []
    for seeds in (FEW, MANY):
        store, log = MagicMock(), MagicMock(children=[])
        store.trained_among.return_value = {}
        store.read_artifact.return_value = None
        log.begin.side_effect = map(str, range(6 * seeds))
        plan = planned(seeds)
        updates = list(GridRun(plan, store, log, Stub(), "cpu", workspace).run())
        assert updates[-1].done == len(plan.replicates)
        assert log.end.call_count == len(plan.replicates)
        assert log.metrics.call_count == (EPOCHS + 1) * len(plan.replicates)
        counts.append(len(store.mock_calls) + len(log.mock_calls))
    few, many = 6 * FEW, 6 * MANY
    each = (counts[1] - counts[0]) / (many - few)
    assert each == EPOCHS + 4  # beginning, epochs, final figures, artifacts, end
    assert counts[0] - each * few < 10


def test_a_report_reads_two_artifacts_of_each_replicate_and_nothing_else(planned):
    for seeds in (FEW, MANY):
        plan, store = planned(seeds), MagicMock()
        runs = [
            fake_run(r.cell.name, r.seed, tags={"harness.digest": r.training.digest, **versions()}, test_top1=0.5)
            for r in plan.replicates
        ]
        store.children.return_value = runs
        kept = {PLAN: json.dumps(summarise(plan)).encode(), CURVES: CURVE}
        store.read_artifact.side_effect = lambda _, name, kept=kept: kept.get(name)
        grid = read_grid(store, "tiny", "grid")
        assert grid is not None
        assert len(grid.curves) == len(plan.replicates)
        assert list(grid.curves["seed"][:2]) == [0, 1]
        names = [call.args[1] for call in store.read_artifact.call_args_list]
        assert names.count(CURVES) == names.count(PREDICTIONS) == len(plan.replicates)
        assert len(names) - 2 * len(plan.replicates) == 3
        assert not store.client.mock_calls
