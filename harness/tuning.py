"""Choosing the learning rate of every cell on validation, with equal budget, on seeds outside the study."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from harness.execute import Executor
from harness.execute.job import Job
from harness.ledger import Ledger
from harness.plan import Candidate, Choice, Plan
from harness.prerequisites import lost_to, train_first
from harness.progress import Update
from harness.records import Epoch, Failed, Finished, Started
from harness.training import Training
from harness.versions import versions
from harness.workspace import Workspace

if TYPE_CHECKING:
    from harness.track import GridLog


def choose(candidates: Iterable[Candidate], val_top1: Mapping[str, float]) -> dict[str, Choice]:
    """Return the choice for each cell: the rate with the highest mean validation top-1, the lower of two alike.

    `val_top1` is that of each candidate's training by digest, NaN where it diverged. A rate that diverged at any seed
    is chosen only where all did.
    """
    by_cell: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for candidate in candidates:
        by_cell[candidate.cell.name][candidate.lr].append(val_top1[candidate.training.digest])
    choices = {}
    for cell, found in by_cell.items():
        means = tuple((lr, fmean(values)) for lr, values in sorted(found.items()))
        best, _ = max(means, key=lambda pair: (-math.inf if math.isnan(pair[1]) else pair[1], -pair[0]))
        choices[cell] = Choice(best, means)
    return choices


class Tuning:
    """One process trying the candidates of one grid that were not tried yet."""

    def __init__(self, plan: Plan, log: GridLog, executor: Executor, device: str, place: Workspace) -> None:
        self._plan, self._log, self._executor = plan, log, executor
        self._device, self._place = device, place
        self._ledger = Ledger(plan, log, device)

    def run(self) -> Generator[Update, None, dict[str, Choice]]:
        """Try what is left, yielding how far it is; returns the choices.

        A cell whose candidates all need what could not be made has none: its own trainings will fail as they do.
        """
        trainings = {c.training.digest: c for c in self._plan.candidates}
        tried = {digest: value for digest, value in self._tried().items() if digest in trainings}
        left = {digest: candidate for digest, candidate in trainings.items() if digest not in tried}
        if left:
            self._log.resume()
            try:
                lost = yield from train_first(self._plan.prerequisites, self._ledger, self._executor, self._job)
                left = {digest: c for digest, c in left.items() if lost_to(c.training, lost) is None}
                yield from self._try(left, tried, len(trainings))
            except BaseException:
                self._log.close("KILLED")
                raise
        return choose([c for c in self._plan.candidates if c.training.digest in tried], tried)

    def _tried(self) -> dict[str, float]:
        """Return the validation top-1 of the candidates that an earlier run of this grid tried."""
        tried = {}
        for run in self._log.children:
            tags, status = run.data.tags, run.info.status
            ours = all(run.data.tags.get(key) == value for key, value in versions().items())
            if ours and tags.get("harness.kind") == "tuning" and status in ("FINISHED", "FAILED"):
                value = run.data.metrics.get("val_top1", math.nan) if status == "FINISHED" else math.nan
                tried[tags["harness.digest"]] = value
        return tried

    def _try(self, left: Mapping[str, Candidate], tried: dict[str, float], total: int) -> Generator[Update]:
        failed = 0
        yield Update("tuning", total - len(left), total)
        for record in self._executor.run([self._job([candidate.training]) for candidate in left.values()]):
            candidate = left[record.digest]
            if isinstance(record, Started):
                self._ledger.begin_candidate(candidate, record.device)
            elif isinstance(record, Epoch):
                self._ledger.epoch(record)
            elif isinstance(record, Finished):
                tried[record.digest] = self._ledger.last_val_top1(record.digest)
                self._ledger.finish_candidate(record)
            elif isinstance(record, Failed):
                tried[record.digest] = math.nan
                failed += 1
                if not self._ledger.begun(record.digest):
                    self._ledger.begin_candidate(candidate, device="")
                self._ledger.fail(record)
            if isinstance(record, Finished | Failed):
                yield Update("tuning", len(tried), total, failed)

    def _job(self, trainings: Sequence[Training]) -> Job:
        return Job(tuple(trainings), self._device, self._place.cache)
