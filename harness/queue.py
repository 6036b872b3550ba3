"""The queue of grids. It lies in the tracking store: a queued grid is a scheduled parent run that carries its spec."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.artifacts import PLAN, QUEUED_SPEC
from harness.errors import HarnessError, unknown
from harness.tally import PROCESS, TOTAL
from harness.track import QUEUED, Store
from harness.views import CURRENT
from harness.wording import count

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.plan import Plan
    from harness.specfile import Study

PRIORITY, SINCE, GAVE_UP = "harness.priority", "harness.queued_at", "harness.gave_up"
"""Tags of a queued grid: its priority; when it was queued, in ms; why it could not be run."""


@dataclass(frozen=True)
class Entry:
    """A grid that waits to be run."""

    run: Run
    study: str

    @property
    def run_id(self) -> str:
        """Id of its parent run."""
        return str(self.run.info.run_id)

    @property
    def grid(self) -> str:
        """Identity of the grid."""
        return str(self.run.data.tags["harness.grid"])

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return int(self.run.data.tags[PRIORITY])

    @property
    def since_ms(self) -> int:
        """When it was queued."""
        return int(self.run.data.tags[SINCE])

    def state(self, at_work: str) -> str:
        """Waiting, running by the process `at_work`, or begun by one that was stopped."""
        if self.run.info.status == "SCHEDULED":
            return "waiting"
        running = self.run.info.status == "RUNNING" and at_work and self.run.data.tags.get(PROCESS) == at_work
        return "running" if running else "begun"

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.study} ({self.run_id[:8]})"


def entries(store: Store) -> list[Entry]:
    """Return the queue in the order in which it is worked off: by priority, then age."""
    return in_order(Entry(run, study) for study, run in store.queued())


def waits(store: Store, entry: Entry) -> bool:
    """Whether a grid is still in the queue."""
    return QUEUED in store.client.get_run(entry.run_id).data.tags


def in_order(waiting: Iterable[Entry]) -> list[Entry]:
    """Return queued grids in the order in which they are taken."""
    return sorted(waiting, key=lambda entry: (-entry.priority, entry.since_ms))


def find(store: Store, text: str) -> Entry:
    """Return the queued grid whose id begins with `text`, or whose study is called so; HarnessError for none or two."""
    queue = entries(store)
    found = [e for e in queue if text and e.run_id.startswith(text)] or [e for e in queue if e.study == text]
    if len(found) == 1:
        return found[0]
    if found:
        raise HarnessError(f"{text!r} is more than one queued grid: {', '.join(entry.name for entry in found)}")
    if not queue:
        raise HarnessError(f"{text!r} is not queued: the queue is empty")
    raise HarnessError(unknown("queued grid", text, dict.fromkeys(entry.study for entry in queue)))


def add(store: Store, plan: Plan, priority: int, tags: Mapping[str, str]) -> str:
    """Queue a planned grid, and say so; one that is queued already gets the priority, one that has ended is left alone.

    `tags` are for a parent run that is made. Cut short at any moment, it leaves a whole entry or none.
    """
    study, name = plan.study, plan.study.spec.name
    parent = store.find_grid(name, study.grid)
    ended = _how_it_ended(store, parent) if parent else ""
    if ended:
        return f"{name} {ended}; not queued"
    run = parent or store.create_grid(name, study.grid, tags)
    written = {"path": str(study.path.resolve()), "overrides": study.overrides, "text": study.text}
    store.write_artifact(run.info.run_id, QUEUED_SPEC, json.dumps(written, indent=1).encode())
    entry = Entry(run, name)
    if QUEUED in run.data.tags:
        move(store, entry, priority)
        return f"{entry.name}: queued before, now at priority {priority}"
    if parent is None or run.info.status != "RUNNING":
        store.mark(entry.run_id, "SCHEDULED")
    told = {PRIORITY: priority, SINCE: time.time_ns() // 1_000_000, TOTAL: len(plan.replicates)}
    store.put(entry.run_id, {key: str(value) for key, value in told.items()})
    store.drop(entry.run_id, GAVE_UP)
    store.put(entry.run_id, {QUEUED: "true"})
    return f"{entry.name}: queued at priority {priority}, {count(len(plan.replicates), 'replicate')}"


def _how_it_ended(store: Store, parent: Run) -> str:
    """Return how a grid ended of which nothing is left to do for these versions; empty where there is."""
    from harness.versions import versions

    if parent.info.status not in ("FINISHED", "FAILED") or GAVE_UP in parent.data.tags:
        return ""
    planned = store.read_artifact(parent, PLAN)
    if planned is None or json.loads(planned).get("versions") != versions():
        return ""
    if parent.info.status == "FINISHED":
        return "is finished"
    runs = [run for run in store.children(parent) if run.data.tags.get(CURRENT) == "true"]
    if len(runs) < int(parent.data.tags.get(TOTAL, 0)) or any(run.info.status == "KILLED" for run in runs):
        return ""  # it ended early, or with what the next run tries again
    return "has ended with failed replicates, which `harness rerun --failed SPEC` tries again"


def move(store: Store, entry: Entry, priority: int) -> None:
    """Give a queued grid another priority; it keeps its age."""
    store.put(entry.run_id, {PRIORITY: str(priority)})


def cancel(store: Store, entry: Entry) -> None:
    """Take a grid out of the queue; what it has trained stays, and what runs at the moment goes on."""
    store.drop(entry.run_id, QUEUED)
    if entry.run.info.status == "SCHEDULED":
        store.mark(entry.run_id, "KILLED")


def read(store: Store, entry: Entry) -> Study:
    """Return the spec of a queued grid as it was queued; its paths are relative to where it lay."""
    from harness import specfile

    content = store.read_artifact(entry.run, QUEUED_SPEC)
    if content is None:
        raise HarnessError(f"{entry.name} has no {QUEUED_SPEC}")
    kept = json.loads(content)
    return specfile.read(Path(kept["path"]), kept["overrides"], kept["text"])


def changed(study: Study) -> str:
    """Return what became of a queued spec's file since, as a clause; empty where it is as it was."""
    try:
        same = study.path.read_text(encoding="utf-8") == study.text
    except (OSError, UnicodeDecodeError):
        return f"{study.path} cannot be read any more"
    return "" if same else f"{study.path} was changed since"


def settle(store: Store, study: str, grid: str) -> None:
    """Take a grid that has ended out of the queue, wherever it was queued twice at one moment."""
    for entry in entries(store):
        if (entry.study, entry.grid) == (study, grid):
            cancel(store, entry)


def give_up(store: Store, entry: Entry, reason: str) -> None:
    """Take a grid that cannot be run out of the queue, and keep why."""
    store.put(entry.run_id, {GAVE_UP: reason})
    store.mark(entry.run_id, "FAILED")
    store.drop(entry.run_id, QUEUED)
