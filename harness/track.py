"""The tracking store: the only import of mlflow, and its only writer.

What happened lies here and nowhere else. A grid is a parent run; every cell × seed has a child run. The first that
needs a training is that training's run; each other is a light one that copies its final figures.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from harness import views
from harness.errors import HarnessError
from harness.workspace import Workspace

# Read by mlflow when it is imported: no line for every run, no report of use to anybody.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
logging.getLogger("alembic").setLevel(logging.WARNING)

from mlflow import MlflowClient  # noqa: E402
from mlflow.artifacts import download_artifacts  # noqa: E402
from mlflow.entities import (  # noqa: E402
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException  # noqa: E402

logging.getLogger("mlflow").setLevel(logging.WARNING)

PARENT = "mlflow.parentRunId"
_PAGE = 1000
_BATCH = 900
"""Metrics of one call; mlflow takes at most 1,000 items."""


def tracking_uri(workspace: Workspace) -> str:
    """Return MLFLOW_TRACKING_URI where it is set, else the workspace's own database, always by absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.database}"


def without_secrets(uri: str) -> str:
    """Return a URI as it may be printed: user and password left out."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return uri.replace(parts.netloc, host, 1) if "@" in parts.netloc else uri


class Store:
    """A connection to a tracking store that is known to answer."""

    def __init__(self, workspace: Workspace) -> None:
        """Connect, and initialise a fresh database before any other process uses it; raises HarnessError."""
        self.uri = tracking_uri(workspace)
        self.remote = urlsplit(self.uri).scheme in ("http", "https")
        self._workspace = workspace
        _reach(self.uri)
        try:
            self.client = MlflowClient(self.uri)
            self.client.search_experiments(max_results=1)
        except Exception as error:  # a store fails with errors of every library below it
            raise _unusable(self.uri, error) from error

    def experiment(self, name: str, create: bool = False) -> str | None:
        """Return the id of the experiment of study `name`; a deleted one is restored where it is to be created."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            if not create:
                return None
            # A server knows where its artifacts go; a database of the workspace keeps them beside itself.
            own = self.uri == f"sqlite:///{self._workspace.database}"
            location = (self._workspace.artifacts / name).as_uri() if own else None
            return str(self.client.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage != "active" and create:
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def grids(self) -> list[tuple[str, str]]:
        """Return (experiment id, grid run id) of every grid, the latest first."""
        ids = [e.experiment_id for e in self.client.search_experiments()]
        runs = self.search(ids, "tags.`harness.kind` = 'grid'") if ids else []
        return [(run.info.experiment_id, run.info.run_id) for run in runs]

    def find_grid(self, study: str, grid: str) -> Run | None:
        """Return the parent run of a grid, or None."""
        experiment = self.experiment(study)
        if experiment is None:
            return None
        return next(
            iter(self.search([experiment], f"tags.`harness.kind` = 'grid' and tags.`harness.grid` = '{grid}'")), None
        )

    def children(self, parent: Run) -> list[Run]:
        """Return the child runs of a grid, the latest first."""
        return list(self.search([parent.info.experiment_id], f"tags.`{PARENT}` = '{parent.info.run_id}'"))

    def trained(self, digest: str, versions: Mapping[str, str]) -> Run | None:
        """Return the finished run of a training in any study, made by the same versions, or None."""
        ids = [e.experiment_id for e in self.client.search_experiments()]
        conditions = {"harness.digest": digest, "harness.kind": "replicate", **versions}
        where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in conditions.items())
        return next(iter(self.search(ids, f"{where} and attributes.status = 'FINISHED'")), None)

    def search(self, experiments: list[str], where: str) -> Iterator[Run]:
        """Yield the active runs that match, the latest first, page by page: a single call stops in silence at 1,000."""
        token = None
        while True:
            page = self.client.search_runs(
                experiments, where, ViewType.ACTIVE_ONLY, _PAGE, ["attributes.start_time DESC"], token
            )
            yield from page
            token = page.token
            if not token:
                return

    def read_artifact(self, run: Run, name: str) -> bytes | None:
        """Return the content of an artifact, or None where the run has none of that name."""
        uri = f"{run.info.artifact_uri}/{name}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=self.uri)
            except (MlflowException, OSError):
                return None
            return Path(path).read_bytes()


def _reach(uri: str) -> None:
    """Fail soon and clearly where nothing answers: mlflow's own retries go on for minutes."""
    scheme = urlsplit(uri).scheme
    try:
        if scheme in ("http", "https"):
            urllib.request.urlopen(f"{without_secrets(uri).rstrip('/')}/health", timeout=5).close()
        elif scheme and not scheme.startswith("sqlite"):
            from sqlalchemy import create_engine

            create_engine(uri).connect().close()
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in is its own to say
    except Exception as error:  # drivers of every database raise their own
        raise _unusable(uri, error) from error


def _unusable(uri: str, error: Exception) -> HarnessError:
    message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    password = urlsplit(uri).password
    if password:
        message = message.replace(password, "***")
    return HarnessError(
        f"cannot use the tracking store {without_secrets(uri)}: {message}; "
        "set MLFLOW_TRACKING_URI to a store that answers, or unset it to use the workspace's own mlflow.db"
    )


class GridLog:
    """Writes the runs of one grid."""

    def __init__(self, store: Store, study: str, grid: str, tags: Mapping[str, str]) -> None:
        """Open the grid's parent run, making it where there is none, and settle what a dead process left RUNNING."""
        self._store, self._client = store, store.client
        self._tags = dict(tags)
        self._pending: dict[str, list[Metric]] = {}
        experiment = store.experiment(study, create=True)
        assert experiment is not None  # it was created
        self.experiment_id = experiment
        parent = store.find_grid(study, grid)
        if parent is None:
            kind = {"harness.kind": "grid", "harness.grid": grid}
            parent = self._client.create_run(experiment, run_name=f"{study} (grid)", tags={**self._tags, **kind})
        self.parent: Run = parent
        self.children = store.children(parent)
        for child in self.children:
            if child.info.status in ("RUNNING", "SCHEDULED"):
                self.end(child.info.run_id, "KILLED", {"harness.reason": "its process ended before it did"})

    @property
    def run_id(self) -> str:
        """Id of the parent run."""
        return str(self.parent.info.run_id)

    def resume(self) -> None:
        """Mark the grid as running."""
        self._client.update_run(self.run_id, status="RUNNING")

    def close(self, status: str) -> None:
        """Mark the grid as ended with `status`; runs still open end as KILLED."""
        for run_id in list(self._pending):
            self.end(run_id, "KILLED", {"harness.reason": "the grid was stopped"})
        self._client.set_terminated(self.run_id, status)

    def describe(self, note: str) -> None:
        """Set the description that the UI shows on the grid's page."""
        self._client.set_tag(self.run_id, "mlflow.note.content", note[:8000])

    def begin(self, name: str, params: Mapping[str, str], tags: Mapping[str, str], data: tuple[str, str] | None) -> str:
        """Begin a child run; `data` is the name and digest of its data set. Returns its id."""
        run = self._client.create_run(
            self.experiment_id, run_name=name, tags={**self._tags, **tags, PARENT: self.run_id}
        )
        run_id = str(run.info.run_id)
        self._pending[run_id] = []
        self._client.log_batch(run_id, params=[Param(key, value[:6000]) for key, value in params.items()])
        if data:
            dataset = Dataset(
                name=data[0], digest=data[1][:36], source_type="local", source=json.dumps({"name": data[0]})
            )
            self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        return run_id

    def metrics(self, run_id: str, values: Mapping[str, float], timestamp: int, step: int = 0) -> None:
        """Take metrics; they are sent in batches, and the same point twice changes nothing.

        Numbers that are none are left out: mlflow's pages break on NaN and keep infinity as 1.8e308.
        """
        pending = self._pending[run_id]
        pending += [Metric(key, value, timestamp, step) for key, value in values.items() if math.isfinite(value)]
        if len(pending) >= _BATCH:
            self._flush(run_id)

    def _flush(self, run_id: str, tags: Mapping[str, str] | None = None) -> None:
        pending = self._pending.get(run_id, [])
        extra = [RunTag(key, value[:8000]) for key, value in (tags or {}).items()]
        if pending or extra:
            self._client.log_batch(run_id, metrics=pending, tags=extra)
            pending.clear()

    def artifacts(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Keep files with a run, by name."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            self._client.log_artifacts(run_id, folder)

    def end(self, run_id: str, status: str, tags: Mapping[str, str]) -> None:
        """Send what is left of a child run and end it with `status`."""
        self._flush(run_id, tags)
        self._pending.pop(run_id, None)
        self._client.set_terminated(run_id, status)

    def save_views(self, tricks: list[str]) -> None:
        """Save the grid's shared views in its experiment."""
        for key, value in views.tags(self.run_id, tricks, time.time_ns() // 1_000_000).items():
            self._client.set_experiment_tag(self.experiment_id, key, value)
