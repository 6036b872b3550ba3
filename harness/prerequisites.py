"""Training what others need, once, before them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from harness.earlier import Prerequisite, Role
from harness.execute import Executor
from harness.execute.job import Job
from harness.ledger import Ledger
from harness.models import weights
from harness.progress import Stage, Update
from harness.records import Epoch, Failed, Finished, Retried, Started
from harness.summary import describe_data
from harness.training import Training

_STAGES: dict[Role, Stage] = {"source teacher": "teaching", "pretraining": "pretraining", "teacher": "teaching"}


def train_first(
    prerequisites: Sequence[Prerequisite],
    ledger: Ledger,
    executor: Executor,
    job: Callable[[Sequence[Training]], Job],
) -> Generator[Update, None, dict[str, Failed]]:
    """Train those whose weights are not there, role by role; returns why some could not be made, by digest."""
    lost: dict[str, Failed] = {}
    for role, needed in groupby(prerequisites, key=lambda p: p.role):
        missing: dict[str, Prerequisite] = {}
        for prerequisite in needed:
            why = lost_to(prerequisite.training, lost)
            if why:
                lost[prerequisite.training.digest] = _passed_on(why, role)
            elif not weights.saved(prerequisite.training) or ledger.untold(prerequisite):
                missing[prerequisite.training.digest] = prerequisite
        names = {f"{p.training.model.name} on {describe_data(p.training.data)}" for p in missing.values()}
        text, done = ", ".join(sorted(names)), 0
        if missing:
            yield Update(_STAGES[role], 0, len(missing), text=text)
        for record in executor.run([job([p.training]) for p in missing.values()]):
            prerequisite = missing[record.digest]
            if isinstance(record, Started):
                ledger.begin_prerequisite(prerequisite, record)
            elif isinstance(record, Epoch):
                ledger.epoch(record)
            elif isinstance(record, Retried):
                ledger.retried(record)
            elif isinstance(record, Finished):
                ledger.finish(record, prerequisite.training, prerequisite.training.digest)
                done += 1
                yield Update(_STAGES[role], done, len(missing), text=text)
            elif isinstance(record, Failed):
                if ledger.begun(record.digest):
                    ledger.fail(record)
                lost[record.digest] = _passed_on(record, role)
    return lost


def lost_to(training: Training, lost: Mapping[str, Failed]) -> Failed | None:
    """Return why what a training needs could not be made, if so, as its own failure."""
    needs = (training.origin, training.teacher.origin if training.teacher else None)
    failures = [lost[origin.content] for origin in needs if origin and origin.content in lost]
    return replace(failures[0], digest=training.digest) if failures else None


def _passed_on(failed: Failed, role: Role) -> Failed:
    return replace(failed, reason=f"its {role} failed: {failed.reason}")
