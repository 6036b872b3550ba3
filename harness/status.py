"""How far the grids of a store are, read from their parent runs alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import tally
from harness.lease import holder
from harness.queue import GAVE_UP, Entry, in_order
from harness.track import QUEUED, Store
from harness.wording import NOTHING, duration

if TYPE_CHECKING:
    from mlflow.entities import Run

_ENDED = {"FINISHED": "finished", "FAILED": "failed"}
_FIGURES = "name,utilization.gpu,memory.used,memory.total"


@dataclass(frozen=True)
class GridStatus:
    """How far a grid is, in replicates; None where its parent run says nothing of it."""

    name: str
    state: str
    """`running`, `queued`, `finished`, `failed` (ended, with failed replicates or as a whole) or `stopped`."""
    done: int | None
    failed: int | None
    running: int
    total: int | None
    left_s: float | None
    note: str
    """What it does, or why it cannot be run."""

    @property
    def waiting(self) -> int | None:
        """Replicates that are neither begun nor ended."""
        return None if self.total is None else self.total - (self.done or 0) - (self.failed or 0) - self.running


def read(store: Store, now_ms: int) -> list[GridStatus]:
    """Return what runs, then the queue in its order, then all others, the latest first.

    The number of calls of the store does not grow with the number of replicates.
    """
    at_work, grids = holder(store), store.grids()
    queue = {e.run_id: n for n, e in enumerate(in_order(Entry(r, s) for s, r in grids if QUEUED in r.data.tags))}
    found = [(_status(study, run, at_work, now_ms), queue.get(run.info.run_id, len(queue))) for study, run in grids]
    return [grid for grid, _ in sorted(found, key=lambda pair: (pair[0].state != "running", pair[1]))]


def _status(study: str, run: Run, at_work: str, now_ms: int) -> GridStatus:
    tags = run.data.tags
    running = run.info.status == "RUNNING" and bool(at_work) and tags.get(tally.PROCESS) == at_work
    state = "running" if running else "queued" if QUEUED in tags else _ENDED.get(run.info.status, "stopped")
    left = tags.get(tally.LEFT_S) if running else None
    return GridStatus(
        f"{study} ({run.info.run_id[:8]})",
        state,
        _count(tags, tally.DONE),
        _count(tags, tally.FAILED),
        (_count(tags, tally.RUNNING) or 0) if running else 0,
        _count(tags, tally.TOTAL),
        max(0.0, float(left) - (now_ms - int(tags[tally.UPDATED])) / 1000) if left else None,
        tags.get(tally.STAGE, "") if running else tags.get(GAVE_UP, "") if state == "failed" else "",
    )


def _count(tags: Mapping[str, str], key: str) -> int | None:
    return int(tags[key]) if key in tags else None


def rows(grids: Sequence[GridStatus]) -> list[list[str]]:
    """Return the table of grids as texts, its head first."""
    head = ["grid", "", "done", "running", "failed", "waiting", "of", "ended", "left"]
    return [head, *([*_figures(grid), _left(grid)] for grid in grids)]


def _figures(grid: GridStatus) -> list[str]:
    counts = (grid.done, grid.running, grid.failed, grid.waiting, grid.total)
    if grid.total is None:
        return [grid.name, grid.state, *[NOTHING] * len(counts), ""]
    ended = (grid.done or 0) + (grid.failed or 0)
    return [grid.name, grid.state, *(str(count or 0) for count in counts), f"{100 * ended // max(1, grid.total)} %"]


def _left(grid: GridStatus) -> str:
    left = "" if grid.left_s is None else f"about {duration(grid.left_s)}"
    return ", ".join(part for part in (left, grid.note) if part)


def devices() -> list[str]:
    """Return how busy each GPU of this machine is, in a line; nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={_FIGURES}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True)
    return [_device(number, line) for number, line in enumerate(done.stdout.splitlines()) if done.returncode == 0]


def _device(number: int, line: str) -> str:
    name, busy, used, total = (part.strip() for part in line.split(","))
    return f"cuda:{number}  {name}: {busy} % busy, {used} of {total} MiB"
