"""The counts of a grid, kept on its parent run while it runs, so that nobody need read its replicates to know them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.grid import Outcome
    from harness.progress import Update
    from harness.track import GridLog, Store

PROCESS, STAGE, TOTAL, DONE, FAILED, RUNNING, LEFT_S, UPDATED = (
    f"harness.{name}" for name in ("worked_by", "stage", "total", "done", "failed", "running", "left_s", "updated_at")
)
"""Tags of a grid: the process that runs it; what it does; replicates; seconds left; when that was written, in ms."""
_EVERY_S = 3.0


class Tally:
    """Writes how far a grid is, every few seconds at most."""

    def __init__(self, store: Store, log: GridLog, process: str, total: int) -> None:
        """`process` is the holder of the store's lease; `total` the number of replicates."""
        self._store, self._log, self._process, self._total = store, log, process, total
        self._stage, self._began, self._first, self._written, self._most = "", 0.0, 0, 0.0, 0

    def note(self, update: Update, outcome: Outcome) -> None:
        """Take an update, and write where it is time to."""
        now, running = time.monotonic(), self._log.open_runs if update.stage == "training" else 0
        if update.stage != self._stage:
            self._stage, self._began, self._first, self._most = update.stage, now, update.done, 0
        elif now - self._written < _EVERY_S and update.done < update.total and running <= self._most:
            return  # more at once than ever before is written at once: it may stay so for hours
        self._written, self._most = now, max(self._most, running)
        since = update.done - self._first
        left = (now - self._began) / since * (update.total - update.done) if since else None
        stage = update.stage if update.stage == "training" else f"{update.stage} {update.done}/{update.total}"
        self._write(outcome, stage, running, left)

    def close(self, outcome: Outcome) -> None:
        """Write the counts of a grid that has ended or was stopped."""
        self._write(outcome, "", 0, None)

    def _write(self, outcome: Outcome, stage: str, running: int, left_s: float | None) -> None:
        counts = {
            TOTAL: self._total,
            DONE: outcome.settled - outcome.failed_before + outcome.trained + outcome.shared,
            FAILED: outcome.failed_before + len(outcome.failures),
            RUNNING: running,
            UPDATED: time.time_ns() // 1_000_000,
        }
        tags = {PROCESS: self._process, STAGE: stage, LEFT_S: "" if left_s is None else f"{left_s:.0f}"}
        self._store.put(self._log.run_id, tags | {key: str(value) for key, value in counts.items()})
