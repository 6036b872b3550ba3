"""How far grids are, by their parents alone."""

import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from harness import cli, show, status
from harness.lease import leased
from harness.track import GridLog, Store
from harness.workspace import Workspace

NOW_MS = 1_000_000_000


@pytest.fixture
def store(stored: Workspace, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(stored.root)
    return Store(stored)


def parent(store: Store, study: str, run_status: str, **tags: Any) -> str:
    """Make the parent run of a grid with tags of a tally."""
    written = {f"harness.{key}": str(value) for key, value in tags.items()}
    run_id = str(store.create_grid(study, study, written).info.run_id)
    if run_status != "RUNNING":
        store.mark(run_id, run_status)
    return run_id


def by_study(store: Store) -> Mapping[str, status.GridStatus]:
    return {grid.name.partition(" ")[0]: grid for grid in status.read(store, NOW_MS)}


def test_states_and_their_order(store: Store) -> None:
    with leased(store) as lease:
        parent(store, "done", "FINISHED", total=4, done=4, failed=0, running=0)
        parent(store, "late", "SCHEDULED", queued="true", priority=0, queued_at=2)
        parent(store, "early", "SCHEDULED", queued="true", priority=0, queued_at=1)
        parent(store, "begun", "KILLED", queued="true", priority=1, queued_at=3, total=9, done=2, failed=0, running=0)
        parent(store, "works", "RUNNING", worked_by=lease.name, total=9, done=2, failed=1, running=2)
        parent(store, "dead", "RUNNING", worked_by="elsewhere/1-1", total=9, done=2, failed=1, running=2)
        parent(store, "gone", "FAILED", gave_up="no such folder")
        found = by_study(store)
    assert [*found][:4] == ["works", "begun", "early", "late"]
    assert {name: grid.state for name, grid in found.items()} == {
        "works": "running",
        "begun": "queued",
        "early": "queued",
        "late": "queued",
        "gone": "failed",
        "dead": "stopped",
        "done": "finished",
    }
    assert (found["works"].running, found["works"].waiting) == (2, 4)
    assert (found["dead"].running, found["dead"].waiting) == (0, 6), "what its process left is no run"
    assert found["gone"].note == "no such folder"
    assert found["late"].waiting is None


def test_nothing_runs_where_nobody_holds_the_store(store: Store) -> None:
    with leased(store) as lease:
        parent(store, "works", "RUNNING", worked_by=lease.name, total=9, done=2, failed=1, running=2)
    assert by_study(store)["works"].state == "stopped"


def test_a_lease_that_ran_out_is_no_work(store: Store) -> None:
    parent(store, "works", "RUNNING", worked_by="elsewhere/1-1", total=9, done=2, failed=1, running=2)
    for ago, state in {10: "running", 70: "stopped"}.items():
        store.write_lease(json.dumps({"host": "elsewhere", "process": "1-1", "beat": time.time() - ago}))
        assert by_study(store)["works"].state == state


def test_time_left_goes_down_while_nothing_is_written(store: Store) -> None:
    with leased(store) as lease:
        told = {"total": 9, "done": 2, "failed": 0, "running": 1, "left_s": 100, "stage": "training"}
        parent(store, "works", "RUNNING", worked_by=lease.name, updated_at=NOW_MS - 30_000, **told)
        assert by_study(store)["works"].left_s == 70
        parent(store, "slow", "RUNNING", worked_by=lease.name, updated_at=NOW_MS - 300_000, **told)
        assert by_study(store)["slow"].left_s == 0


def test_table_reads_like_one(store: Store) -> None:
    with leased(store) as lease:
        told = {"total": 12, "done": 3, "failed": 1, "running": 2, "left_s": 600, "stage": "training"}
        run_id = parent(store, "works", "RUNNING", worked_by=lease.name, updated_at=NOW_MS, **told)
        parent(store, "old", "FINISHED")
        lines = show.aligned(status.rows(status.read(store, NOW_MS))).splitlines()
    assert lines[0].split() == ["grid", "done", "running", "failed", "waiting", "of", "ended", "left"]
    assert lines[1].split() == [
        *f"works ({run_id[:8]}) running 3 2 1 6 12 33 %".split(),
        *["about", "10", "min,", "training"],
    ]
    assert lines[2].split()[2:] == ["finished", "–", "–", "–", "–", "–"]


def test_parents_of_thousands_are_read_in_a_few_calls(
    store: Store, stored: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replicates are copies of one, made in the database itself: 5,000, of two grids."""
    for number in range(2):
        log = GridLog(store, f"study{number}", "grid", {})
        child = log.begin("child", {"cell": "a", "seed": "0"}, {"harness.kind": "replicate"}, None)
        log.end(child, "FINISHED", {})
        log.close("FINISHED")
        _multiply(stored, child, 2500)
    assert len(store.children(store.grids()[0][1])) == 2501
    calls: Counter[str] = Counter()
    client = store.client

    class Counting:
        def __getattr__(self, name: str) -> Any:
            calls[name] += 1
            return getattr(client, name)

    monkeypatch.setattr(store, "client", Counting())
    assert len(status.read(store, NOW_MS)) == 2
    assert calls == {"search_experiments": 1, "search_runs": 1, "get_experiment_by_name": 1}


def _multiply(place: Workspace, run_id: str, times: int) -> None:
    """Copy a run with its tags and params, so many times."""
    with sqlite3.connect(place.database) as database:
        for table in ("runs", "tags", "params"):
            rows = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))
            names = [column[0] for column in rows.description]
            copies = [
                [f"{n:08x}{run_id[8:]}" if name == "run_uuid" else v for name, v in zip(names, row, strict=True)]
                for row in rows.fetchall()
                for n in range(times)
            ]
            database.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(names))})", copies)
    database.close()


def test_a_grid_keeps_its_counts_while_it_runs_and_after(store: Store, write_spec) -> None:
    from harness import specfile
    from harness.means import Means
    from harness.session import Session

    study = specfile.read(write_spec())
    seen = []
    with Session.open(study, Means(inline=True)) as session:
        for update in session.run():
            if update.stage == "training":
                seen.append(by_study(store)["tiny"])
    assert {grid.state for grid in seen} == {"running"}
    assert max(grid.running for grid in seen) == 1
    (after,) = by_study(store).values()
    assert (after.state, after.done, after.failed, after.running, after.waiting) == ("finished", 12, 0, 0, 0)


def test_command_prints_and_watches(store: Store, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert cli.main(["status"]) == cli.DONE
    assert "No grid has been queued" in capsys.readouterr().out
    parent(store, "late", "SCHEDULED", queued="true", priority=0, queued_at=2, total=5)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("harness.show.time.sleep", nap)
    assert cli.main(["status", "--watch"]) == cli.DONE
    assert capsys.readouterr().out.count("queued     0") == 3
    assert naps == [2.0] * 3


def test_gpus_are_told_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.status.shutil.which", lambda _: None)
    assert status.devices() == []
    monkeypatch.setattr("harness.status.shutil.which", lambda name: name)
    said = "NVIDIA H100 80GB HBM3, 35, 3100, 81559\nNVIDIA T4, 0, 1, 15360\n"
    for code, lines in {0: 2, 9: 0}.items():
        done = subprocess.CompletedProcess([], code, said)
        monkeypatch.setattr("harness.status.subprocess.run", lambda *_, done=done, **__: done)
        assert len(status.devices()) == lines
    assert status._device(1, said.splitlines()[0]) == "cuda:1  NVIDIA H100 80GB HBM3: 35 % busy, 3100 of 81559 MiB"


def test_status_does_not_wait_for_torch() -> None:
    code = "import sys, harness.status, harness.show, harness.queue; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "matplotlib", "harness.plan"} & set(loaded)
