"""Writing the runs of one grid."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from harness import views
from harness.errors import HarnessError
from harness.track.store import PARENT, Store, having

PROCESS = "harness.process"
"""Tag of the process that writes a run: host, then process id and start."""
_FLUSH_S = 5.0
"""Longest time that a point waits before it is sent."""
_BATCH = 900
"""Metrics of one call; mlflow takes at most 1,000 items."""


def process_mark(pid: int) -> str:
    """Return a process id with the time it started, so that a later process of the same id is not taken for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{pid}-{fields[19]}"


def is_alive(process: str) -> bool:
    """Whether the process with this mark runs on this host."""
    pid = int(process.partition("-")[0] or 0)
    return pid != 0 and process == process_mark(pid)


class GridLog:
    """Writes the runs of one grid."""

    def __init__(self, store: Store, study: str, grid: str, tags: Mapping[str, str]) -> None:
        """Open the grid's parent run, making it where there is none, and settle what a dead process left RUNNING."""
        self._store, self._client = store, store.client
        self._tags = dict(tags)
        self._process = {PROCESS: f"{platform.node()}/{process_mark(os.getpid())}"}
        self._pending: dict[str, list[Metric]] = {}
        self._flushed: dict[str, float] = {}
        self._paused: set[str] = set()
        self._gave_way = False
        self._logged: dict[str, set[tuple[str, int]]] = {}
        """Key and step of what a run had that goes on."""
        experiment = store.experiment(study, create=True)
        assert experiment is not None  # it was created
        self.experiment_id = experiment
        parent = store.find_grid(study, grid)
        if parent is None:
            parent = store.create_grid(study, grid, self._tags)
        self.parent: Run = parent
        self.children = store.children(parent)
        for child in self.children:
            if child.info.status == "RUNNING" and self._is_dead(child):
                self.end(child.info.run_id, "KILLED", {"harness.reason": "its process ended before it did"})

    def _is_dead(self, run: Run) -> bool:
        """Whether the process that wrote a run is gone; raises HarnessError where it is at work on this host.

        One of another host is: whoever opens a grid holds the lease of its store, which that one has lost.
        """
        host, _, process = run.data.tags.get(PROCESS, "").rpartition("/")
        if host not in ("", platform.node()):
            return True
        pid = int(process.partition("-")[0] or 0)
        if pid not in (0, os.getpid()) and process == process_mark(pid):
            raise HarnessError(f"process {pid} is at work on this grid; wait for it")
        return True

    @property
    def run_id(self) -> str:
        """Id of the parent run."""
        return str(self.parent.info.run_id)

    @property
    def open_runs(self) -> int:
        """Child runs whose trainings run at the moment."""
        return len(self._pending) - len(self._paused)

    def resume(self) -> None:
        """Mark the grid as running."""
        self._client.update_run(self.run_id, status="RUNNING")

    def settle(self, status: str) -> None:
        """Give a grid of which nothing is left the status it deserves, where it has another."""
        if self._client.get_run(self.run_id).info.status != status:
            self._client.set_terminated(self.run_id, status)

    def supersede(self, runs: Iterable[Run]) -> None:
        """Mark child runs as no result of the grid any more, so that its views leave them out."""
        for run in runs:
            if run.data.tags.get(views.CURRENT) == "true":
                self._client.set_tag(run.info.run_id, views.CURRENT, "false")

    def close(self, status: str) -> None:
        """Mark the grid as ended with `status`; runs still open end as KILLED."""
        # An interrupt may have come between the making of a run in the store and its entry here.
        mine = f"{having({PARENT: self.run_id, **self._process})} and attributes.status = 'RUNNING'"
        running = (str(run.info.run_id) for run in self._store.search([self.experiment_id], mine))
        for run_id in dict.fromkeys([*self._pending, *running]):
            self.end(run_id, "KILLED", {"harness.reason": "the grid was stopped"})
        if not self._gave_way:
            self._client.set_terminated(self.run_id, status)

    def give_way(self) -> None:
        """Leave the grid's own run to another process from now on, which has taken the lease of the store."""
        self._gave_way = True

    def left(self, name: str, tags: Mapping[str, str]) -> Run | None:
        """Return the latest run of this grid of that name and with these tags, if it was killed."""
        found = self._store.search([self.experiment_id], having({PARENT: self.run_id, **tags}))
        latest = next((run for run in found if run.info.run_name == name), None)
        return latest if latest and latest.info.status == "KILLED" else None

    def finished(self, tags: Mapping[str, str]) -> bool:
        """Whether a run of any study with these tags has finished."""
        ids = [e.experiment_id for e in self._client.search_experiments()]
        return any(True for _ in self._store.search(ids, f"{having(tags)} and attributes.status = 'FINISHED'"))

    def begin(
        self,
        name: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        data: tuple[str, str] | None,
        left: Run | None = None,
    ) -> str:
        """Begin a child run, or go on in one that was `left`; `data` is the name and digest of its data set.

        Returns its id. Of a run that goes on, no point is logged a second time, whatever its time stamp.
        """
        tags = {**self._tags, **tags, **self._process, PARENT: self.run_id}
        run = self._reopened(left, tags) if left else self._store.create_run(self.experiment_id, name, tags)
        run_id = str(run.info.run_id)
        self._paused.discard(run_id)
        self._pending[run_id], self._flushed[run_id] = [], time.monotonic()
        lacking = {key: value for key, value in params.items() if key not in run.data.params}
        self._client.log_batch(run_id, params=[Param(key, value[:6000]) for key, value in lacking.items()])
        if data and not (run.inputs and run.inputs.dataset_inputs):
            dataset = Dataset(
                name=data[0], digest=data[1][:36], source_type="local", source=json.dumps({"name": data[0]})
            )
            self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        return run_id

    def _reopened(self, left: Run, tags: Mapping[str, str]) -> Run:
        run_id = left.info.run_id
        self._logged[run_id] = {
            (key, point.step) for key in left.data.metrics for point in self._client.get_metric_history(run_id, key)
        }
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self._client.update_run(run_id, status="RUNNING")  # once it says whose it is
        self._store.drop(run_id, "harness.reason", "harness.failure")  # of the end that it did not come to
        return self._client.get_run(run_id)

    def metrics(self, run_id: str, values: Mapping[str, float], timestamp: int, step: int = 0) -> None:
        """Take metrics; they are sent in batches, and the same point twice changes nothing.

        Numbers that are none are left out: mlflow's pages break on NaN and keep infinity as 1.8e308.
        """
        pending = self._pending[run_id]
        known = self._logged.get(run_id, set())
        pending += [
            Metric(key, value, timestamp, step)
            for key, value in values.items()
            if math.isfinite(value) and (key, step) not in known
        ]
        if len(pending) >= _BATCH or time.monotonic() - self._flushed[run_id] > _FLUSH_S:
            self._flush(run_id)

    def _flush(self, run_id: str, tags: Mapping[str, str] | None = None) -> None:
        pending = self._pending.get(run_id, [])
        extra = [RunTag(key, value[:8000]) for key, value in (tags or {}).items()]
        if pending or extra:
            self._client.log_batch(run_id, metrics=pending, tags=extra)
            pending.clear()
        self._flushed[run_id] = time.monotonic()

    def pause(self, run_id: str) -> Run:
        """Send what a run has so far, and return it: its training is tried again, and goes on in it."""
        self._flush(run_id)
        self._paused.add(run_id)
        return self._client.get_run(run_id)

    def artifacts(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Keep files with a run, by name."""
        self._store.write_artifacts(run_id, files)

    def end(self, run_id: str, status: str, tags: Mapping[str, str]) -> None:
        """Send what is left of a child run and end it with `status`."""
        self._flush(run_id, tags)
        self._pending.pop(run_id, None)
        self._paused.discard(run_id)
        self._logged.pop(run_id, None)
        self._client.set_terminated(run_id, status)
