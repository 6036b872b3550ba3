"""Training what others need, once, before them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import groupby

from harness.execute import Executor
from harness.execute.job import Job
from harness.ground import Prerequisite
from harness.ledger import Ledger
from harness.models import weights
from harness.progress import Stage, Update
from harness.records import Epoch, Failed, Finished, Started
from harness.summary import describe_data
from harness.training import Training

_STAGES: dict[str, Stage] = {"pretraining": "pretraining", "teacher": "teaching"}


def train_first(
    prerequisites: Sequence[Prerequisite],
    ledger: Ledger,
    executor: Executor,
    job: Callable[[Sequence[Training]], Job],
) -> Generator[Update, None, Failed | None]:
    """Train those whose weights are not there, role by role; returns the first failure, after which nothing follows."""
    for role, needed in groupby(prerequisites, key=lambda p: p.role):
        missing = {p.training.digest: p for p in needed if not weights.saved(p.training)}
        names = {f"{p.training.model.name} on {describe_data(p.training.data)}" for p in missing.values()}
        text, done, failure = ", ".join(sorted(names)), 0, None
        if missing:
            yield Update(_STAGES[role], 0, len(missing), text=text)
        for record in executor.run([job([p.training]) for p in missing.values()]):
            prerequisite = missing[record.digest]
            if isinstance(record, Started):
                ledger.begin_prerequisite(prerequisite, record.device)
            elif isinstance(record, Epoch):
                ledger.epoch(record)
            elif isinstance(record, Finished):
                ledger.finish(record, prerequisite.training, prerequisite.training.digest)
                done += 1
                yield Update(_STAGES[role], done, len(missing), text=text)
            elif isinstance(record, Failed):
                if ledger.begun(record.digest):
                    ledger.fail(record)
                failure = failure or record
        if failure:
            return failure
    return None
