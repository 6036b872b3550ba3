"""The MLflow UI on the right store: its server process, and the links to the prepared views."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from harness import views
from harness.errors import HarnessError
from harness.track import Store

HOST = "127.0.0.1"
PORT = 5000
_START_S = 120


def view_links(store: Store, base: str) -> dict[str, dict[str, str]]:
    """Return for each study its links, name to address, to the views of its latest grid that has any."""
    links: dict[str, dict[str, str]] = {}
    for study, run in store.grids():
        if study not in links:
            experiment = store.client.get_experiment(run.info.experiment_id)
            found = grid_links(experiment.tags, experiment.experiment_id, run.info.run_id, base)
            if found:
                links[study] = found
    return links


def grid_links(tags: dict[str, str], experiment_id: str, run_id: str, base: str) -> dict[str, str]:
    """Return name to address of those views of a grid that its experiment's `tags` hold, if any, and of its page."""
    found = {name: f"{base}/{link}" for name, link in views.links(tags, experiment_id, run_id).items()}
    page = f"{base}/#/experiments/{experiment_id}/runs/{run_id}?{views.TRAINING}"
    return {**found, views.OWN_PAGE: page} if found else {}


def address(store: Store, port: int = PORT) -> str:
    """Return where the UI of a store is, or will be once `harness ui` runs."""
    return store.uri.rstrip("/") if store.remote else f"http://{HOST}:{port}"


@contextmanager
def served(store: Store, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the MLflow UI for a store on loopback while the block runs; raises HarnessError where it does not start."""
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise HarnessError(f"port {port} is taken; choose another with --port")
    # Its workers are four by default, with four times the memory and the processor to start, for one reader.
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    # A session of its own, so that ending it ends the server's workers too, and Ctrl-C reaches it through us alone.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=_environment(store)
    )
    try:
        _await(process, f"http://{HOST}:{port}/health")
        yield process
    finally:
        _end(process)


def _environment(store: Store) -> dict[str, str]:
    """Return an environment that says where the store is: a command line would show its password to everybody."""
    return {**os.environ, "MLFLOW_TRACKING_URI": store.uri, "MLFLOW_BACKEND_STORE_URI": store.uri}


def _await(process: subprocess.Popen[bytes], health: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise HarnessError(f"the MLflow UI ended with exit status {process.returncode} before it answered")
        try:
            urllib.request.urlopen(health, timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise HarnessError(f"the MLflow UI did not answer at {health} within {_START_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    import signal

    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
