"""Where a workspace keeps its things: the one place that knows the names of files and folders."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

_MARKS = ("mlflow.db", "experiments", ".git")


@dataclass(frozen=True)
class Workspace:
    """A folder with specs, a tracking store, results and caches."""

    root: Path

    @property
    def database(self) -> Path:
        """The default tracking store."""
        return self.root / "mlflow.db"

    @property
    def lock(self) -> Path:
        """Held by the one process that runs grids here."""
        return self.root / "mlflow.db.lock"

    @property
    def artifacts(self) -> Path:
        """Artifacts of the default tracking store."""
        return self.root / "mlartifacts"

    @property
    def checkpoints(self) -> Path:
        """Weights that are kept."""
        return self.root / "checkpoints"

    def weights(self, digest: str, mark: str) -> Path:
        """Return where the weights of a training lie, by its digest and the mark of the versions it is made by."""
        return self.checkpoints / f"{digest}-{mark}.pt"

    def partial(self, digest: str, mark: str) -> Path:
        """Return where the checkpoint of an unfinished training lies; digest and mark as for its weights."""
        return self.checkpoints / "partial" / f"{digest}-{mark}.pt"

    @property
    def cache(self) -> Path:
        """Decoded data; may be deleted at any time."""
        return self.root / ".cache"

    @property
    def facts(self) -> Path:
        """What planning found out."""
        return self.cache / "facts"

    @property
    def shared(self) -> Path:
        """What trainings of a running grid share of their frozen parts; goes when it ends."""
        return self.cache / "prefix"

    @property
    def results(self) -> Path:
        """Reports, one folder a study."""
        return self.root / "results"

    def report(self, study: str) -> Path:
        """Return the folder of a study's report; raises HarnessError where a link there leads out of the results."""
        folder = self.results / study
        if not folder.resolve().is_relative_to(self.results.resolve()):
            raise HarnessError(f"{folder} is a link out of {self.results}; remove it, or give the study another name")
        return folder

    def check_download(self, folder: Path) -> None:
        """Raise HarnessError where images would be fetched into a folder that is not in the workspace."""
        if not folder.resolve().is_relative_to(self.root.resolve()):
            raise HarnessError(
                f"`download` fetches into folders of the workspace {self.root} alone, not into {folder}; "
                "fetch the images yourself and leave `download` out, or give another `root`"
            )


def find(start: Path) -> Workspace:
    """Return the workspace around `start`: the nearest folder that holds a store, `experiments/` or a repository."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in _MARKS):
            return Workspace(folder)
    return Workspace(start)


def commit(place: Workspace) -> str | None:
    """Return the git commit of the workspace, marked where files differ from it; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty"], cwd=place.root, capture_output=True, text=True
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
