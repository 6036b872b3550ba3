"""A connection to the store: what is there, and whether it answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from harness.errors import HarnessError, unknown
from harness.track.uri import is_database, is_server, reach, sign_in, tracking_uri, unusable
from harness.track.waiting import Patience, patient
from harness.views import CURRENT
from harness.workspace import Workspace

T = TypeVar("T")

PARENT = "mlflow.parentRunId"
QUEUED = "harness.queued"
"""Tag of the grids that wait to be run; the last that is written of one, so that none is taken half written."""
_LEASE = "harness.lease"
_EVERYWHERE = "Default"
"""The experiment that every store has."""
_PAGE = 1000
_RUNS_A_CALL = 10
"""Runs that can be read in the time of one more search."""


class Store:
    """A connection to a tracking store that is known to answer."""

    def __init__(self, workspace: Workspace, create: bool = False) -> None:
        """Connect; with `create`, make and initialise the workspace's own database before any other process uses it.

        Raises HarnessError where the store cannot be used, or is not there.
        """
        self.uri = sign_in(tracking_uri(workspace))
        self.remote = is_server(self.uri)
        self._workspace = workspace
        reach(workspace)
        if not create and self.own and not workspace.database.exists():
            raise HarnessError(
                f"nothing was run in {workspace.root} yet: there is no {workspace.database.name}; go to the folder "
                "where you ran a study, or begin with `harness run SPEC` or `harness queue add SPEC`"
            )
        try:
            self._client = MlflowClient(self.uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:  # a store fails with errors of every library below it
            raise unusable(self.uri, error) from error
        self._patience = Patience(self.uri)
        self.client = patient(self._client, self._patience)

    @property
    def own(self) -> bool:
        """Whether it is the workspace's own database."""
        return self.uri == f"sqlite:///{self._workspace.database}"

    def patiently(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, which may be made again while the store is away."""
        return self._patience.call(call)

    def experiment(self, name: str, create: bool = False) -> str | None:
        """Return the id of the experiment of study `name`; a deleted one is restored where it is to be created."""
        return self.patiently(lambda: self._experiment(name, create))

    def _experiment(self, name: str, create: bool) -> str | None:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            if not create:
                return None
            # A server knows where its artifacts go; for a database mlflow would take the folder it happens to be in.
            location = (self._workspace.artifacts / name).as_uri() if is_database(self.uri) else None
            return str(self._client.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage != "active" and create:
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def experiment_runs(self, name: str, where: str = "") -> list[Run]:
        """Return the active runs of an experiment that match MLflow's filter `where`, the earliest first.

        Raises HarnessError where there is no such experiment, or the filter cannot be read.
        """
        found = self.client.get_experiment_by_name(name)
        if found is None:
            raise HarnessError(unknown("experiment", name, [e.name for e in self.client.search_experiments()]))
        try:
            return [*self.search([found.experiment_id], where)][::-1]
        except MlflowException as error:
            raise HarnessError(f"cannot search experiment {name!r} by {where!r}: {error.message}") from error

    def grids(self, where: str = "") -> list[tuple[str, Run]]:
        """Return (study, parent run) of every grid, the latest first; `where` is a filter of MLflow besides."""
        names = {e.experiment_id: e.name for e in self.client.search_experiments()}
        wanted = "tags.`harness.kind` = 'grid'" + (f" and {where}" if where else "")
        return [(names[run.info.experiment_id], run) for run in self.search([*names], wanted)] if names else []

    def lease(self) -> str:
        """Return who runs grids in this store, as it was written there."""
        found = self.client.get_experiment_by_name(_EVERYWHERE)
        return str(found.tags.get(_LEASE, "")) if found else ""

    def write_lease(self, text: str) -> None:
        """Write who runs grids in this store."""
        self.client.set_experiment_tag(str(self.experiment(_EVERYWHERE, create=True)), _LEASE, text)

    def queued(self) -> list[tuple[str, Run]]:
        """Return (study, parent run) of every grid that waits to be run."""
        return self.grids(f"tags.`{QUEUED}` = 'true'")

    def create_grid(self, study: str, grid: str, tags: Mapping[str, str]) -> Run:
        """Create the parent run of a grid; it is RUNNING."""
        kind = {"harness.kind": "grid", "harness.grid": grid}
        experiment = str(self.experiment(study, create=True))
        return self.create_run(experiment, f"{study} (grid)", {**tags, **kind})

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> Run:
        """Create a run, a single one whatever becomes of the answer; it is RUNNING."""
        began = int(1000 * time.time())

        def create() -> Run:
            return self._client.create_run(experiment, began, dict(tags), name)

        def find_or_create() -> Run:
            found = self._client.search_runs([experiment], f"attributes.start_time = {began}")
            ours = (run for run in found if run.info.run_name == name and tags.items() <= run.data.tags.items())
            return next(ours, None) or create()

        return self._patience.call(create, find_or_create)

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

    def trained(self, digest: str, versions: Mapping[str, str], kind: str = "replicate") -> Run | None:
        """Return the finished run of a training in any study, made by the same versions, or None."""
        ids = [e.experiment_id for e in self.client.search_experiments()]
        conditions = {"harness.digest": digest, "harness.kind": kind, **versions}
        return next(iter(self.search(ids, f"{having(conditions)} and attributes.status = 'FINISHED'")), None)

    def trained_among(self, digests: Collection[str], versions: Mapping[str, str]) -> dict[str, Run]:
        """Return what `trained` finds of each of `digests`, with as few calls as for one where the store is small."""
        if not digests:
            return {}
        ids = [e.experiment_id for e in self.client.search_experiments()]
        where = having({"harness.kind": "replicate", **versions}) + " and attributes.status = 'FINISHED'"
        runs = list(islice(self.search(ids, where), _RUNS_A_CALL * len(digests)))
        latest = {run.data.tags["harness.digest"]: run for run in reversed(runs)}
        found = {digest: latest[digest] for digest in digests if digest in latest}
        if len(runs) == _RUNS_A_CALL * len(digests):  # there may be more, so each is looked for by itself
            rest = {digest: self.trained(digest, versions) for digest in digests if digest not in found}
            found |= {digest: run for digest, run in rest.items() if run}
        return found

    def named(self, text: str) -> list[Run]:
        """Return the runs whose id begins with `text`; where there is none, those of that name that count."""
        ids = [e.experiment_id for e in self.client.search_experiments()]
        if not ids or not text or "'" in text:
            return []
        by_id = self.search(ids, f"attributes.run_id LIKE '{text}%'")
        by_name = self.search(ids, f"attributes.run_name = '{text}' and tags.`{CURRENT}` = 'true'")
        # `%` and `_` in the text would stand for anything.
        return [run for run in by_id if run.info.run_id.startswith(text)] or list(by_name)

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

    def put(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags of a run, all of them or none."""
        self.client.log_batch(run_id, tags=[RunTag(key, value[:8000]) for key, value in tags.items()])

    def drop(self, run_id: str, *tags: str) -> None:
        """Remove those of the tags that a run has."""

        def drop() -> None:
            for key in self._client.get_run(run_id).data.tags.keys() & set(tags):
                self._client.delete_tag(run_id, key)

        self.patiently(drop)

    def mark(self, run_id: str, status: str) -> None:
        """Give a run another status: SCHEDULED, or one that it ends with."""
        if status == "SCHEDULED":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status)

    def write_artifact(self, run_id: str, name: str, content: bytes) -> None:
        """Keep a file with a run."""
        self.write_artifacts(run_id, {name: content})

    def write_artifacts(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Keep files with a run, by name; raises HarnessError where they cannot be written."""

        def write() -> None:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in files.items():
                    path = Path(folder, name)
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(content)
                self._client.log_artifacts(run_id, folder)

        try:
            self.patiently(write)
        except OSError as error:
            raise HarnessError(f"cannot write artifacts of run {run_id}: {error}") from error

    def read_artifact(self, run: Run, name: str) -> bytes | None:
        """Return the content of an artifact, or None where the run has none of that name."""
        uri = f"{run.info.artifact_uri}/{name}"
        if path := _local(uri):  # mlflow takes milliseconds to copy it first, of thousands a minute
            try:
                return self.patiently(path.read_bytes)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise HarnessError(f"cannot read {name} of run {run.info.run_id}: {error}") from error

        def read() -> bytes | None:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=self.uri)
                except (MlflowException, OSError) as error:
                    beside = self._client.list_artifacts(run.info.run_id, name.rpartition("/")[0] or None)
                    if name in {file.path for file in beside}:
                        raise HarnessError(f"cannot read {name} of run {run.info.run_id}: {error}") from error
                    return None
                return Path(path).read_bytes()

        return self.patiently(read)


def having(tags: Mapping[str, str]) -> str:
    """Return MLflow's filter for runs that have all of these tags."""
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())


def _local(uri: str) -> Path | None:
    """Return the file of this machine that an address means, if it means one."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(uri)
