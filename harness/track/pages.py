"""What the pages of the MLflow UI show of a grid besides its runs: prepared views, the report, what was found.

All of it is made from the runs, and no command needs it: where a store refuses, that is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from harness import views
from harness.concealing import concealed
from harness.track.store import Store

REPORT = "report"
"""Folder of a grid's artifacts that holds its latest report."""
_NOTE = "mlflow.note.content"
_NOTE_LIMIT = 8000


def save_views(store: Store, run_id: str, plan: Mapping[str, Any]) -> None:
    """Save the shared views of a grid in its experiment; those that are there already are not written again."""
    with _warned("the prepared views of the MLflow UI are left out"):
        version = _version(store)
        if not views.known(version):
            first, last = (".".join(map(str, each)) for each in views.KNOWN)
            raise ValueError(f"they are known of MLflow {first} to {last}, not of {version}")
        run = store.client.get_run(run_id)
        experiment = run.info.experiment_id
        ours = views.tags(run_id, plan, run.info.start_time)
        saved = store.client.get_experiment(experiment).tags
        for key, value in ours.items():
            if saved.get(key) != value:
                store.client.set_experiment_tag(experiment, key, value)
        for key in views.outdated(saved, run_id, ours):
            store.client.delete_experiment_tag(experiment, key)


def show_report(store: Store, run_id: str, folder: Path, names: Collection[str]) -> None:
    """Keep the files `names` of a report with its grid, in place of the report before, and describe the grid by it."""
    kept = False
    with _warned("the report is not among the grid's artifacts in MLflow"):
        _keep(store, run_id, folder, names)
        kept = True
    with _warned("the grid's page in MLflow does not say what was found"):
        run = store.client.get_run(run_id)
        shown = views.links(store.client.get_experiment(run.info.experiment_id).tags, run.info.experiment_id, run_id)
        text = (folder / "report.md").read_text(encoding="utf-8")
        store.put(run_id, {_NOTE: _note(text, {**(_files(run) if kept else {}), **shown})})


def _keep(store: Store, run_id: str, folder: Path, names: Collection[str]) -> None:
    for name in names:
        store.client.log_artifact(run_id, str(folder / name), str(PurePosixPath(REPORT, name).parent))
    wanted = {f"{REPORT}/{name}" for name in names}
    repository = get_artifact_repository(store.client.get_run(run_id).info.artifact_uri, tracking_uri=store.uri)
    for path in [path for path in _paths(store, run_id, REPORT) if path not in wanted]:
        repository.delete_artifacts(path)


def _paths(store: Store, run_id: str, folder: str) -> Iterator[str]:
    """Yield the files below a folder of a run's artifacts."""
    for found in store.client.list_artifacts(run_id, folder):
        if found.is_dir:
            yield from _paths(store, run_id, found.path)
        else:
            yield found.path


def _files(run: Run) -> dict[str, str]:
    at = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/{REPORT}"
    return {"Report": f"{at}/report.html?{views.TRAINING}", "Figures": f"{at}/figures?{views.TRAINING}"}


def _note(report: str, links: Mapping[str, str]) -> str:
    """Return the description of a grid: the findings of its report, as many as there is room for, then links.

    The page folds what is longer than a few lines, so it begins with what matters.
    """
    _, _, rest = report.partition("## Findings\n\n")
    findings, _, rest = rest.partition("\n\n")
    below = " · ".join(f"[{name}]({address})" for name, address in links.items() if name in _LINKED)
    below = f"\n\n{below}\n\n{rest.partition(chr(10) * 2)[0]}"
    room = _NOTE_LIMIT - len(below)
    return (findings if len(findings) <= room else findings[:room].rpartition("\n")[0]) + below


_LINKED = ("Report", "Figures", *views.OVERVIEWS)


def _version(store: Store) -> str:
    """Return the version of mlflow whose pages show the store."""
    if not store.remote:
        return mlflow.__version__
    answer = http_request(get_default_host_creds(store.uri), "/version", "GET", max_retries=0, timeout=5)
    return str(answer.text)


@contextmanager
def _warned(what: str) -> Iterator[None]:
    """Turn any error into a warning."""
    try:
        yield
    except Exception as error:  # stores and folders of artifacts fail with errors of every library below them
        why = concealed(str(error).strip().partition("\n")[0])
        logging.getLogger(__name__).warning("%s: %s", what, why)
