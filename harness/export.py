"""`harness export`: the weights of a finished run as a state dict, all of them or what its training changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.artifacts import CHANGED
from harness.bits import state_sha256
from harness.errors import HarnessError
from harness.models import weights
from harness.versions import version_mark, versions
from harness.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import Store


def export(store: Store, place: Workspace, text: str, changed_only: bool, out: Path | None) -> str:
    """Write the weights of the run that `text` names to `out`; returns what was written, in words.

    `text` is a run's id, the beginning of one, or a name such as `head | baseline | seed 0`. With `changed_only` the
    file has the tensors that are not, bit for bit, in the weights the run was trained from: laid over those they give
    the trained network. Raises HarnessError where there is no such run, or it has no weights.
    """
    run = find(store, text)
    path = out or Path(f"{run.info.run_id[:8]}{'-changed' if changed_only else ''}.pt")
    if path.exists():
        raise HarnessError(f"{path} exists; give another file with --out, or remove it")
    state = kept_weights(run, place)
    chosen = {name: state[name] for name in changed_names(run, store)} if changed_only else state
    try:
        weights.save(chosen, path)
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror}") from None
    return f"{path}: {len(chosen)} of the {len(state)} tensors of {_told(run)}"


def find(store: Store, text: str) -> Run:
    """Return the run that `text` names; of several of one name the one that finished. HarnessError for any other."""
    found = store.named(text)
    finished = [run for run in found if run.info.status == "FINISHED"]
    if not found:
        raise HarnessError(
            f"no run's id begins with {text!r}, and none is called so; `harness ui` shows ids, and names such as "
            "'head | baseline | seed 0'"
        )
    if len(found) > 1 and len(finished) != 1:
        listed = "\n".join(f"  {run.info.run_id}  {run.info.status.lower():8}  {run.info.run_name}" for run in found)
        raise HarnessError(f"{text!r} may mean {len(found)} runs; give more of its id:\n{listed}")
    run = finished[0] if len(finished) == 1 else found[0]
    tags = run.data.tags
    if "harness.digest" not in tags:
        what = "a grid; name one of its runs" if tags.get("harness.kind") == "grid" else "no training of the harness"
        raise HarnessError(f"{_told(run)} is {what}")
    if run.info.status != "FINISHED":
        reason = f" ({tags['harness.reason']})" if tags.get("harness.reason") else ""
        raise HarnessError(f"{_told(run)} has no weights: it is {run.info.status.lower()}{reason}")
    return run


def kept_weights(run: Run, place: Workspace) -> weights.State:
    """Return the weights that a run ended with; raises HarnessError where they were not kept, or are others."""
    tags = run.data.tags
    path = place.weights(tags["harness.digest"], version_mark(tags))
    if not path.exists():
        raise HarnessError(
            f"{_told(run)}, trained on {tags['harness.host']}, kept no weights: there is no {path}; "
            "`harness run SPEC --set keep_weights=true` trains it again and keeps them"
        )
    state = weights.read(path)
    if state_sha256(state) != tags["harness.weights_sha256"]:
        raise HarnessError(f"{path} holds other weights than those that {_told(run)} ended with: their sha256 differs")
    return state


def changed_names(run: Run, store: Store) -> list[str]:
    """Return the names of the tensors that the training of a run changed; a shared run has them with its trainer."""
    trainer: Run | None = run
    if run.data.tags["harness.kind"] == "shared":
        trainer = store.trained(run.data.tags["harness.digest"], {tag: run.data.tags[tag] for tag in versions()})
    listed = store.read_artifact(trainer, CHANGED) if trainer else None
    if listed is None:
        raise HarnessError(f"{_told(run)} has no list of what its training changed; export it whole")
    return listed.decode().splitlines()


def _told(run: Run) -> str:
    return f"run {run.info.run_id} ({run.info.run_name})"
