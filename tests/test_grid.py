"""Running a grid: what it keeps of its plan, and when."""

import json
from types import SimpleNamespace

import pytest

from harness import cli, specfile
from harness.grid import GridRun
from harness.planning import make_plan
from harness.versions import versions
from tests.samples import fake_run


@pytest.fixture
def run(write_spec, workspace):
    """A function that runs the tiny study, all of it settled, with `primary` in its spec, into the artifacts `kept`."""

    def of(kept, primary=""):
        plan = make_plan(specfile.read(write_spec(("seeds: 2", f"seeds: 2\n{primary}"))), workspace)
        parent = SimpleNamespace(info=SimpleNamespace(run_id="parent"))
        tags = [{"harness.digest": r.training.digest, **versions()} for r in plan.replicates]
        log = SimpleNamespace(
            parent=parent,
            run_id="parent",
            children=[fake_run(r.cell.name, r.seed, tags=tag) for r, tag in zip(plan.replicates, tags, strict=True)],
            supersede=list,
            artifacts=lambda _, files: kept.update(files),
            settle=lambda _: None,
        )
        store = SimpleNamespace(read_artifact=lambda _, name: kept.get(name), trained_among=lambda *_: {})
        assert list(GridRun(plan, store, log, None, "cpu", workspace).run()) == []  # type: ignore[arg-type]
        return {name: json.loads(content) for name, content in kept.items()}

    return of


MIXUP = "primary: {contrasts: [{trick: mixup, policy: full}]}"
WARMUP = "primary: {contrasts: [{trick: warmup, policy: full}]}"


def test_primary_contrasts_are_kept_with_the_plan(run):
    found = run({}, MIXUP)
    assert found["plan.json"]["primary"] == found["primary.json"]
    assert [member["trick"] for member in found["primary.json"]["members"]] == ["mixup"]


def test_primary_contrasts_are_kept_at_the_first_run_alone(run):
    kept: dict[str, bytes] = {}
    first = run(kept, MIXUP)["primary.json"]
    then = run(kept, WARMUP)
    assert then["primary.json"] == first
    assert [member["trick"] for member in then["plan.json"]["primary"]["members"]] == ["warmup"]


def test_naming_none_at_first_is_kept_too(run):
    kept: dict[str, bytes] = {}
    assert run(kept)["primary.json"] is None
    assert run(kept, MIXUP)["primary.json"] is None


def test_a_grid_of_an_earlier_version_gets_no_primary_contrasts_later(run):
    """It has a plan: whatever is named now is named after its data."""
    assert "primary.json" not in run({"plan.json": b"{}"}, MIXUP)


@pytest.mark.parametrize(("seeds", "late"), [("3", True), ("[7, 8]", False)])
def test_contrasts_that_another_grid_has_shown_are_late(stored, write_spec, seeds, late):
    """Two seeds were looked at: with a third, the same contrast is none named before its data; on new seeds it is."""
    assert cli.main(["run", str(write_spec()), "--inline"]) == cli.DONE
    spec = write_spec(("seeds: 2", f"seeds: {seeds}\n{MIXUP}"))
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    told = (stored.results / "tiny" / "report.md").read_text()
    assert ("named after there were runs" in told) == late
    assert ("1 primary contrast, named before the data" in told) != late
