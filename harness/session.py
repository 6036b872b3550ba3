"""What a command does from end to end: spec, plan, store, executor and report put together."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import specfile
from harness.errors import HarnessError, SameError
from harness.lease import Turn, leased, lock
from harness.workspace import Workspace, commit, find

if TYPE_CHECKING:
    import pandas as pd

    from harness.estimate import Estimate
    from harness.execute import Executor
    from harness.means import Means
    from harness.plan import Plan
    from harness.progress import Update
    from harness.results import Grid
    from harness.tasks.metrics import Metric
    from harness.track import GridLog, Store


@dataclass(frozen=True)
class Reported:
    """A report that was written."""

    folder: Path
    cells: pd.DataFrame
    links: dict[str, str]
    """Views of the MLflow UI, name to address."""
    workspace: Workspace | None
    """Whose store the runs lie in; None for somebody else's table."""
    score: Metric
    metric: str
    """What the score is called, which somebody else's table may name otherwise."""

    @property
    def unfinished(self) -> int:
        """Replicates that failed, diverged or were never run."""
        return int(self.cells[["failed", "diverged", "missing"]].to_numpy().sum())


def plan_of(spec: Path, overrides: Sequence[str], jobs: int | None, devices: str | None) -> tuple[Plan, Estimate]:
    """Plan a spec, and estimate its time; reads only."""
    from harness.estimate import estimate
    from harness.execute.devices import choose
    from harness.means import places_of

    plan, chosen = _plan(spec, overrides), choose(devices)
    return plan, estimate(plan, len(places_of(plan, chosen, jobs)), chosen[0])


def matrix_of(spec: Path, overrides: Sequence[str]) -> str:
    """Plan a spec, and return the verdict on each trick under each policy."""
    from harness.matrix import matrix
    from harness.summary import summarise

    return matrix(summarise(_plan(spec, overrides)))


def report(spec: Path, overrides: Sequence[str]) -> Reported:
    """Rebuild the report of a spec from the tracking store alone; raises HarnessError where the grid was never run."""
    from harness.report import check_writable
    from harness.track import Store

    study = specfile.read(spec, overrides)
    place = find(spec.parent)
    check_writable(place.report(study.spec.name))
    return _write_report(study, Store(place), place)


def compare(a: str, b: str, out: Path | None) -> str:
    """Put two studies side by side, return that as text and, with `out`, write it there."""
    from harness import show
    from harness.compare import compare as put_side_by_side
    from harness.report import check_writable, write_comparison
    from harness.sides import read_side

    if out:
        check_writable(out)
    found = put_side_by_side(read_side(a), read_side(b))
    if out:
        write_comparison(found, out)
    return show.comparison_text(found)


def _plan(spec: Path, overrides: Sequence[str]) -> Plan:
    return _plan_study(specfile.read(spec, overrides))


def _plan_study(study: specfile.Study) -> Plan:
    from harness.planning import make_plan

    return make_plan(study, find(study.path.parent))


def enqueue(specs: Sequence[Path], overrides: Sequence[str], priority: int) -> Iterator[str]:
    """Queue specs, once all of them are checked and planned; yields what became of each."""
    from harness import queue
    from harness.ledger import environment
    from harness.track import Store

    for plan in [_plan(spec, overrides) for spec in specs]:
        place = find(plan.study.path.parent)
        yield queue.add(Store(place, create=True), plan, priority, environment(commit(place)))


def read(spec: Path, overrides: Sequence[str] = ()) -> Grid:
    """Read what a spec's runs say from the tracking store, for a notebook; raises HarnessError where none was run."""
    from harness.track import Store

    return _read(specfile.read(spec, overrides), Store(find(spec.parent)))


def _read(study: specfile.Study, store: Store) -> Grid:
    from harness.results import read_grid

    grid = read_grid(store, study.spec.name, study.grid)
    if grid is None:
        raise HarnessError(
            f"study {study.spec.name!r} has no run of this grid in the store, or its rates are not chosen yet; "
            f"`harness run {study.path}` goes on"
        )
    return grid


def _write_report(study: specfile.Study, store: Store, place: Workspace) -> Reported:
    """Write the report, and show it on the grid's page in the MLflow UI."""
    from harness.report import write_report
    from harness.track import show_report
    from harness.ui import address, grid_links

    name, grid = study.spec.name, _read(study, store)
    folder = place.report(name)
    experiment = store.client.get_experiment(grid.experiment_id)
    links = grid_links(experiment.tags, grid.experiment_id, grid.run_id, address(store))
    cells, names = write_report(grid, folder, links, _command(study, place))
    show_report(store, grid.run_id, folder, names)
    return Reported(folder, cells, links, place, grid.score, f"test {grid.score.label}")


def _command(study: specfile.Study, place: Workspace) -> str:
    """Return the command that makes the report anew, from the workspace's root."""
    path = study.path.resolve()
    shown = path.relative_to(place.root) if path.is_relative_to(place.root) else Path(path.name)
    overrides = [part for override in study.overrides for part in ("--set", override)]
    return shlex.join(["harness", "run", str(shown), *overrides])


class Session:
    """One grid that is run: everything it holds, from the lock to the grid's parent run."""

    def __init__(
        self, plan: Plan, log: GridLog, executor: Executor, device: str, turn: Turn, place: Workspace, held: ExitStack
    ) -> None:
        from harness.grid import Outcome

        self._plan, self._store, self._log, self._executor = plan, turn.store, log, executor
        self._device, self._lease, self._place, self._held = device, turn.lease, place, held
        self.outcome = Outcome()
        """What the run did."""
        self.stopped = False
        """Whether it was told to stop."""

    @classmethod
    def open(cls, study: specfile.Study, means: Means, turn: Turn | None = None) -> Session:
        """Check everything that can be wrong before the first run is created; raises HarnessError.

        Without a `turn` the session takes its own, and gives it back when it ends.
        """
        from harness.execute.retry import Retrying
        from harness.ledger import environment
        from harness.means import executor
        from harness.prepare import prepare
        from harness.report import check_writable
        from harness.track import GridLog, Store, reach

        plan, place = _plan_study(study), find(study.path.parent)
        check_writable(place.report(study.spec.name))
        held = ExitStack()
        try:
            if turn is None or turn.place != place:
                held.enter_context(lock(place))
            if turn is None:
                reach(place)
            workers, device = held.enter_context(executor(means, plan, place.cache))
            prepare(plan, place.cache)
            retrying = Retrying(workers, plan.study.spec.execution.same_error_limit)
            if turn is None:
                store = Store(place, create=True)
                turn = Turn(place, store, held.enter_context(leased(store)))
            log = GridLog(turn.store, study.spec.name, study.grid, environment(commit(place)))
            return cls(plan, log, retrying, device, turn, place, held)
        except BaseException:
            held.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._place.shared, ignore_errors=True)
        self._held.close()

    def run(self, again: bool = False) -> Iterator[Update]:
        """Run what is left of the grid, yielding how far it is."""
        from harness.tally import Tally

        tally = Tally(self._store, self._log, self._lease.name, len(self._plan.replicates))
        try:
            with closing(self._run(again)) as updates:  # whatever ends this, runs that are open end with it
                for update in updates:
                    self._check_lease()
                    tally.note(update, self.outcome)
                    yield update
        finally:
            if not self._lease.is_lost:
                tally.close(self.outcome)

    def _check_lease(self) -> None:
        try:
            self._lease.check()
        except HarnessError:
            self._log.give_way()
            raise

    def _run(self, again: bool) -> Generator[Update]:
        """Choose learning rates before anything else."""
        from harness.grid import GridRun
        from harness.planning import make_plan
        from harness.summary import summarise
        from harness.track import save_views
        from harness.tuning import Tuning

        plan, untuned = self._plan, dict[str, str]()
        parts = (self._store, self._log, self._executor, self._device, self._place)
        if plan.candidates:
            choices, untuned = yield from Tuning(plan, *parts).run()
            plan = make_plan(plan.study, self._place, choices)
        save_views(self._store, self._log.run_id, summarise(plan))
        grid = GridRun(plan, *parts, untuned)
        self.outcome = grid.outcome
        try:
            yield from grid.run(again)
        except SameError as error:
            self.outcome.ended_early = str(error)  # and what there is can be reported

    def stop(self) -> int:
        """Begin no other training; `run` raises Stopped once those that run have ended. Returns how many run."""
        self.stopped = True
        return self._executor.stop()

    @property
    def left(self) -> int:
        """Replicates that have not ended."""
        did = self.outcome
        return len(self._plan.replicates) - did.settled - did.trained - did.shared - len(did.failures)

    def report(self) -> Reported:
        """Write the report, and take the grid out of the queue."""
        from harness import queue

        reported = _write_report(self._plan.study, self._store, self._place)
        queue.settle(self._store, self._plan.study.spec.name, self._plan.study.grid)
        return reported
