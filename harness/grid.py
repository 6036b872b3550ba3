"""Running a plan: what is left of it, and in which order it is done."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, TypeGuard

from harness.artifacts import PLAN, PRIMARY, THROUGHPUT
from harness.checkpoint import Checkpoints
from harness.errors import SameError
from harness.execute import Executor
from harness.execute.job import Job, make_job
from harness.ledger import Ledger
from harness.models import weights
from harness.packing import pack, work_of
from harness.plan import Plan, Replicate
from harness.prerequisites import lost_to, train_first
from harness.progress import Update
from harness.records import Diagnosed, Epoch, Failed, Finished, Probed, Record, Retried, Started, now
from harness.results import current_runs
from harness.summary import summarise
from harness.training import Training
from harness.versions import versions
from harness.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import GridLog, Store

Divided = tuple[list[tuple[Replicate, "Run"]], dict[str, list[Replicate]]]


@dataclass
class Outcome:
    """What one run of a grid did, in replicates."""

    settled: int = 0
    """Finished or failed by an earlier run."""
    failed_before: int = 0
    """Those of them that failed."""
    trained: int = 0
    shared: int = 0
    failures: list[str] = field(default_factory=list)
    ended_early: str = ""
    """Why some were not begun, where that was no wish of a person."""


class GridRun:
    """One process running one grid, from what is left of it to its last record."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        log: GridLog,
        executor: Executor,
        device: str,
        place: Workspace,
        untuned: Mapping[str, str] | None = None,
    ) -> None:
        """`untuned` are the cells whose learning rate could not be chosen, with the reason: they fail."""
        self._plan, self._store, self._log, self._executor = plan, store, log, executor
        self._place = place
        self._untuned = untuned or {}
        self._checkpoints = Checkpoints(place, plan.study.spec.execution.checkpoint_s)
        self._ledger = Ledger(plan, log, device, self._checkpoints)
        self._val: dict[str, tuple[float, int]] = {}
        """Of each cell, the sum over the trainings that have ended and their number."""
        self.outcome = Outcome()

    def run(self, again: bool = False) -> Iterator[Update]:
        """Run what is left, yielding how far it is; `again` also runs what failed before.

        However it ends, no run is left RUNNING.
        """
        todo = self._left(again)
        self.outcome.settled = len(self._plan.replicates) - len(todo)
        self._checkpoints.discard(self._made() - {replicate.training.digest for replicate in todo})
        facts = summarise(self._plan)
        plan = {PLAN: json.dumps(facts, indent=1).encode()}
        # What is named at a later run is not named before the data, nor what another grid has shown already.
        # It is written first: from the plan on, this is a later run.
        if self._store.read_artifact(self._log.parent, PLAN) is None and not self._seen(todo):
            self._log.artifacts(self._log.run_id, {PRIMARY: json.dumps(facts["primary"], indent=1).encode()})
        if not todo:
            self._log.artifacts(self._log.run_id, plan)  # a later version may tell more of it
            self._log.settle(self._status())
            return
        self._log.resume()
        status = "KILLED"
        try:
            self._log.artifacts(self._log.run_id, plan)
            shared, trainings = self._divide(todo)
            known = self._ledger.speed.recall(self._store.read_artifact(self._log.parent, THROUGHPUT))
            lost = {} if known and not trainings else (yield from self._train_first())
            if not known:
                yield from self._probe(lost)
            for replicate, run in shared:
                self._share(replicate, run)
            possible = self._fail_lost(trainings, lost)
            yield from self._train(possible, done=len(todo) - sum(map(len, possible.values())), total=len(todo))
            status = self._status()
        except SameError:
            status = "FAILED"
            raise
        finally:
            self._log.close(status)

    def _seen(self, todo: Sequence[Replicate]) -> bool:
        """Whether all that a primary contrast is computed from exists at some seed: it may have been looked at."""
        if self._plan.family is None:
            return False
        shared, _ = self._divide(todo)
        there = {(replicate.cell.name, replicate.seed) for replicate, _ in shared}
        return any(
            all((cell, seed) in there for cell in cells)
            for cells in self._plan.family.cells
            for seed in self._plan.study.spec.seeds
        )

    def _status(self) -> str:
        """Return the status of a grid of which nothing is left to do."""
        return "FAILED" if self.outcome.failures or self.outcome.failed_before else "FINISHED"

    def _made(self) -> set[str]:
        """Return the digests of the replicates, and of the prerequisites that need no more training.

        A process that died once their end was logged left their checkpoints.
        """
        first = (p for p in self._plan.prerequisites if weights.saved(p.training) and not self._ledger.untold(p))
        return {*self._plan.trainings, *(p.training.digest for p in first)}

    def _left(self, again: bool) -> list[Replicate]:
        """Return what no run of this grid has settled, seed by seed, so that a grid cut short is balanced.

        A replicate whose weights are to be kept and are not there is not settled.
        """
        wanted = {(r.cell.name, str(r.seed)): r.training.digest for r in self._plan.replicates}
        lacking = {(r.cell.name, str(r.seed)) for r in self._plan.replicates if not weights.saved(r.training)}
        current = {
            key: run
            for key, run in current_runs(self._log.children, wanted, versions()).items()
            if run.info.status != "FINISHED" or key not in lacking
        }
        ends = ("FINISHED",) if again else ("FINISHED", "FAILED")
        settled = {key: run.info.status for key, run in current.items() if run.info.status in ends}
        kept = {run.info.run_id for key, run in current.items() if key in settled}
        self._log.supersede(run for run in self._log.children if run.info.run_id not in kept)
        self.outcome.failed_before = [*settled.values()].count("FAILED")
        left = [r for r in self._plan.replicates if (r.cell.name, str(r.seed)) not in settled]
        turn = {seed: number for number, seed in enumerate(self._plan.study.spec.seeds)}
        return sorted(left, key=lambda r: turn[r.seed])

    def _divide(self, todo: Sequence[Replicate]) -> Divided:
        """Split what is left into replicates whose training exists, and trainings with those that need each."""
        shared: list[tuple[Replicate, Run]] = []
        trainings: dict[str, list[Replicate]] = {}
        there = {r.training.digest for r in todo if weights.saved(r.training)}
        found = self._store.trained_among(there, versions())
        for replicate in todo:
            digest = replicate.training.digest
            run = found.get(digest)
            if run is None:
                trainings.setdefault(digest, []).append(replicate)
            else:
                shared.append((replicate, run))
        return shared, trainings

    def _train_first(self) -> Generator[Update, None, dict[str, Failed]]:
        return train_first(self._plan.prerequisites, self._ledger, self._executor, self._job)

    def _fail_lost(
        self, trainings: Mapping[str, list[Replicate]], lost: Mapping[str, Failed]
    ) -> dict[str, list[Replicate]]:
        """Fail the trainings that need what could not be made; returns the others."""
        possible = {}
        for digest, needed in trainings.items():
            failure = lost_to(needed[0].training, lost) or self._not_tuned(needed[0])
            if failure is None:
                possible[digest] = needed
                continue
            for replicate in needed:
                self._ledger.begin(replicate)
                self._ledger.fail(failure)
                self._failed(replicate, failure.reason)
        return possible

    def _not_tuned(self, replicate: Replicate) -> Failed | None:
        if replicate.cell.name not in self._untuned:
            return None
        reason = f"its learning rate could not be chosen: {self._untuned[replicate.cell.name]}"
        return Failed(replicate.training.digest, now(), "error", reason)

    def _probe(self, lost: Mapping[str, Failed]) -> Iterator[Update]:
        """Measure the speed of every cell that can be trained, with nothing else running."""
        probe = self._plan.study.spec.throughput
        first = {program: training for _, program, training in self._plan.probed if lost_to(training, lost) is None}
        if not first or probe is None:
            return
        total = probe.rounds * len(first)
        yield Update("probing", 0, total)
        records = self._executor.run([self._job([*first.values()], (probe.rounds, probe.steps))])
        done, failed = 0, False
        for record in records:
            if isinstance(record, Probed):
                self._ledger.speed.take(record)
                done += 1
            else:  # it was killed, and is tried again or has failed
                self._ledger.speed.forget()
                done, failed = 0, isinstance(record, Failed)
            yield Update("probing", done, total)
        if not failed:  # else the next run of the grid measures
            self._log.artifacts(self._log.run_id, {THROUGHPUT: self._ledger.speed.table(first)})

    def _train(
        self, trainings: Mapping[str, list[Replicate]], done: int, total: int, alone: bool = False
    ) -> Iterator[Update]:
        yield self._update(done, total)
        smaller: list[Replicate] = []
        for record in self._executor.run(self._jobs([each[0] for each in trainings.values()], alone), alone):
            owner, *others = trainings[record.digest]
            if isinstance(record, Started):
                self._ledger.begin(owner, record)
                yield self._update(done, total)
            elif isinstance(record, Epoch):
                self._ledger.epoch(record)
            elif isinstance(record, Diagnosed):
                self._ledger.diagnosed(record)
            elif isinstance(record, Retried):
                self._ledger.retried(record)
            elif self._is_too_large(record, owner):
                self._begin_late(owner)
                self._ledger.fail(record, replaced=True)
                smaller += filter(None, (each.in_smaller_parts() for each in (owner, *others)))
            elif isinstance(record, Finished | Failed):
                run_id = self._end(owner, record)
                for other in others:
                    self._share(other, self._store.client.get_run(run_id))
                done += 1 + len(others)
                yield self._update(done, total)
        if smaller:
            shared, left = self._divide(smaller)
            for replicate, run in shared:
                self._share(replicate, run)
            yield from self._train(left, done + len(shared), total, alone=True)

    def _is_too_large(self, record: Record, replicate: Replicate) -> TypeGuard[Failed]:
        """Whether a training did not fit, even alone on its device, and is to be tried in smaller parts."""
        accumulate = self._plan.study.spec.execution.on_out_of_memory == "accumulate"
        too_large = isinstance(record, Failed) and record.kind == "out_of_memory"
        return accumulate and too_large and replicate.in_smaller_parts() is not None

    def _begin_late(self, replicate: Replicate) -> None:
        """Begin the run of a training whose process died before its first word."""
        if not self._ledger.begun(replicate.training.digest):
            self._ledger.begin(replicate)

    def _end(self, replicate: Replicate, record: Finished | Failed) -> str:
        self._begin_late(replicate)
        if isinstance(record, Failed):
            run_id = self._ledger.fail(record)
            self._failed(replicate, record.reason)
            return run_id
        run_id = self._ledger.finish(record, replicate.training, replicate.program)
        total, count = self._val.get(replicate.cell.name, (0.0, 0))
        self._val[replicate.cell.name] = total + self._ledger.last_val(record.digest), count + 1
        self.outcome.trained += 1  # once it is in the store: Ctrl-C may come in between
        return run_id

    def _share(self, replicate: Replicate, trained: Run) -> None:
        self._ledger.share(replicate, trained)
        if trained.info.status == "FINISHED":
            self.outcome.shared += 1
        else:
            self._failed(replicate, trained.data.tags.get("harness.reason", ""))

    def _failed(self, replicate: Replicate, reason: str) -> None:
        self.outcome.failures.append(f"{replicate.name}: {reason}")

    def _update(self, done: int, total: int) -> Update:
        means = ((total / count, count, cell) for cell, (total, count) in self._val.items())
        score, count, best = max(means, key=itemgetter(0), default=(0.0, 0, ""))
        text = f"best so far {best} ({100 * score:.1f} % of validation, mean of {count})" if best else ""
        return Update("training", done, total, len(self.outcome.failures), text)

    def _jobs(self, replicates: Sequence[Replicate], alone: bool) -> list[Job]:
        """Return the jobs that train replicates; what is to be alone on its device shares its process with nothing."""
        if alone:
            return [self._job([r.training]) for r in replicates]
        work = [work_of(r.training, r.data, partial(self._ledger.speed.seconds, r.program)) for r in replicates]
        reuse = self._plan.study.spec.execution.reuse
        return [self._job(each) for each in pack(work, self._executor.places, reuse)]

    def _job(self, trainings: Sequence[Training], probe: tuple[int, int] | None = None) -> Job:
        return make_job(self._plan.study.spec.execution, self._place, trainings, self._checkpoints, probe)
