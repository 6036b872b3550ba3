"""Choosing the learning rate of every cell on validation, with equal budget, on seeds outside the study."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from harness.checkpoint import Checkpoints
from harness.errors import SameError
from harness.execute import Executor
from harness.execute.job import Job, make_job
from harness.ledger import Ledger
from harness.packing import pack, work_of
from harness.plan import Candidate, Choice, Plan
from harness.prerequisites import lost_to, train_first
from harness.progress import Update
from harness.records import Epoch, Failed, Finished, Retried, Started
from harness.training import Training
from harness.versions import versions
from harness.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import GridLog, Store

Chosen = tuple[dict[str, Choice], dict[str, str]]
"""The choice of each cell that has one, and of each other why it has none."""


def choose(candidates: Iterable[Candidate], val: Mapping[str, float]) -> dict[str, Choice]:
    """Return the choice for each cell: the rate with the highest mean score on validation, the lower of two alike.

    `val` is that of each candidate's training by digest, NaN where it diverged. A rate that diverged at any seed
    is chosen only where all did.
    """
    by_cell: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for candidate in candidates:
        by_cell[candidate.cell.name][candidate.lr].append(val[candidate.training.digest])
    choices = {}
    for cell, found in by_cell.items():
        means = tuple((lr, fmean(values)) for lr, values in sorted(found.items()))
        best, _ = max(means, key=lambda pair: (-math.inf if math.isnan(pair[1]) else pair[1], -pair[0]))
        choices[cell] = Choice(best, means)
    return choices


def _counts(run: Run) -> bool:
    """Whether a run of this grid tells what a candidate is worth: by these versions, finished or diverged."""
    tags = run.data.tags
    ours = tags.get("harness.kind") == "tuning" and all(tags.get(key) == value for key, value in versions().items())
    return ours and (run.info.status == "FINISHED" or tags.get("harness.failure") == "diverged")


class Tuning:
    """One process trying the candidates of one grid that were not tried yet."""

    def __init__(
        self, plan: Plan, store: Store, log: GridLog, executor: Executor, device: str, place: Workspace
    ) -> None:
        self._plan, self._store, self._log, self._executor = plan, store, log, executor
        self._place = place
        self._checkpoints = Checkpoints(place, plan.study.spec.execution.checkpoint_s)
        self._ledger = Ledger(plan, log, device, self._checkpoints)

    def run(self) -> Generator[Update, None, Chosen]:
        """Try what is left, yielding how far it is; returns the choices, and why some cells have none.

        A cell has a choice where each of its candidates finished or diverged: what failed otherwise, or needs what
        could not be made, is tried again by the next run.
        """
        trainings = {c.training.digest: c for c in reversed(self._plan.candidates)}
        tried, failed = self._tried(trainings), dict[str, str]()
        left = {digest: candidate for digest, candidate in trainings.items() if digest not in tried}
        self._checkpoints.discard(tried)
        if left:
            self._log.resume()
            try:
                lost = yield from train_first(self._plan.prerequisites, self._ledger, self._executor, self._job)
                for digest, candidate in left.items():
                    why = lost_to(candidate.training, lost)
                    if why:
                        failed[digest] = why.reason
                possible = {digest: c for digest, c in left.items() if digest not in failed}
                yield from self._try(possible, tried, failed, len(trainings))
            except BaseException as error:
                self._log.close("FAILED" if isinstance(error, SameError) else "KILLED")
                raise
        lacking = {
            c.cell.name: failed.get(c.training.digest, "")
            for c in self._plan.candidates
            if c.training.digest not in tried
        }
        return choose([c for c in self._plan.candidates if c.cell.name not in lacking], tried), lacking

    def _tried(self, wanted: Collection[str]) -> dict[str, float]:
        """Return the validation score of the candidates tried before, by this grid or another; NaN of the diverged."""
        known = {run.data.tags.get("harness.digest", ""): run for run in self._log.children if _counts(run)}
        tried = {}
        for digest in wanted:
            run = known.get(digest) or self._store.trained(digest, versions(), kind="tuning")
            if run is not None:
                tried[digest] = run.data.metrics[self._ledger.score.val] if run.info.status == "FINISHED" else math.nan
        return tried

    def _try(
        self, left: Mapping[str, Candidate], tried: dict[str, float], failed: dict[str, str], total: int
    ) -> Generator[Update]:
        yield Update("tuning", total - len(left), total)
        work = [work_of(candidate.training, candidate.data, float) for candidate in left.values()]
        jobs = pack(work, self._executor.places, self._plan.study.spec.execution.reuse)
        for record in self._executor.run([self._job(trainings) for trainings in jobs]):
            candidate = left[record.digest]
            if isinstance(record, Started):
                self._ledger.begin_candidate(candidate, record)
            elif isinstance(record, Epoch):
                self._ledger.epoch(record)
            elif isinstance(record, Retried):
                self._ledger.retried(record)
            elif isinstance(record, Finished):
                tried[record.digest] = self._ledger.last_val(record.digest)
                self._ledger.finish_candidate(record)
            elif isinstance(record, Failed):
                if record.kind == "diverged":
                    tried[record.digest] = math.nan
                else:
                    failed[record.digest] = record.reason
                if not self._ledger.begun(record.digest):
                    self._ledger.begin_candidate(candidate)
                self._ledger.fail(record)
            if isinstance(record, Finished | Failed):
                yield Update("tuning", len(tried) + len(failed), total, len(failed))

    def _job(self, trainings: Sequence[Training]) -> Job:
        return make_job(self._plan.study.spec.execution, self._place, trainings, self._checkpoints)
