"""What the tracking store is told: records of trainings turned into runs, params, metrics, tags and artifacts."""

from __future__ import annotations

import io
import platform
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torchvision

from harness import __version__
from harness.artifacts import BATCH_NORM, CHANGED, CURVES, PICTURES, PREDICTIONS, TRACEBACK, picture
from harness.checkpoint import Checkpoints
from harness.concealing import concealed
from harness.data import accuracy_of
from harness.earlier import Prerequisite
from harness.evaluate import mean_per_class
from harness.plan import Candidate, Plan, Replicate
from harness.records import PASSING, Diagnosed, Epoch, Failed, Finished, Retried, Started
from harness.speed import Speed, csv_bytes
from harness.summary import describe_data
from harness.tasks.metrics import score_of
from harness.training import Training
from harness.versions import versions
from harness.views import CURRENT

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import GridLog

RESUMED = "harness.resumed"
"""Tag of a run whose training went on in another process: from which epoch, the last time."""
RESUMPTIONS = "harness.resumptions"
"""Tag of such a run: how often."""
RETRIES = "harness.retries"
"""Tag of a run whose training was tried again: how often."""
RETRIED_FOR = "harness.retried_for"
"""Tag of such a run: why, each time."""
LED_BY = "harness.led_by"
"""Tag of a run whose leading epochs are those of another training, and were trained once: the digest of that."""
PLANNED = "harness.planned"
"""Tag of a run whose training stands for another one that did not fit its device: the digest of that."""
PARTS = "harness.accumulate"
"""Tag of such a run: into how many parts its batches are taken."""


def environment(commit: str | None) -> dict[str, str]:
    """Return the tags that say what software and machine a run had."""
    return {
        **versions(),
        "harness.version": __version__,
        "harness.torchvision": torchvision.__version__,
        "harness.python": platform.python_version(),
        "harness.host": platform.node(),
        "mlflow.source.name": "harness",
        **({"mlflow.source.git.commit": commit} if commit else {}),
    }


class Ledger:
    """Keeps the runs of one grid in step with the records that come in."""

    def __init__(self, plan: Plan, log: GridLog, device: str, checkpoints: Checkpoints) -> None:
        """A checkpoint goes when the end of its training is logged: a kill between the two loses nothing."""
        self._plan, self._log, self._checkpoints = plan, log, checkpoints
        self.speed = Speed(plan, device)
        self.score = score_of(plan.study.spec.task)
        self._runs: dict[str, str] = {}
        self._epochs: dict[str, list[Epoch]] = defaultdict(list)
        self._retried: dict[str, list[str]] = defaultdict(list)
        """Why each training that has not ended was tried again."""
        self._left: dict[str, Run] = {}
        """The run in which it goes on."""

    def begun(self, digest: str) -> bool:
        """Whether a training has a run."""
        return digest in self._runs

    def begin(self, replicate: Replicate, started: Started | None = None) -> None:
        """Begin the run of the replicate that a training is run for; None where it never started."""
        self._begin(
            replicate.training, replicate.name, self._params(replicate), "replicate", started, _place(replicate)
        )

    def begin_prerequisite(self, prerequisite: Prerequisite, started: Started) -> None:
        """Begin the run of a training that others need."""
        training = prerequisite.training
        params = {
            "model": training.model.name,
            "data": describe_data(training.located_data),
            "seed": str(training.seed),
        }
        self._begin(training, prerequisite.role, params, "prerequisite", started)

    def untold(self, prerequisite: Prerequisite) -> bool:
        """Whether the process that trained it died between its last step and the end of its run."""
        tags = {"harness.kind": "prerequisite", "harness.digest": prerequisite.training.digest, **versions()}
        left = self._log.left(prerequisite.role, tags)
        return left is not None and not self._log.finished(tags)

    def begin_candidate(self, candidate: Candidate, started: Started | None = None) -> None:
        """Begin the run of a learning rate that is tried for a cell; None where it never started."""
        cell = f"tuning | {candidate.cell.name}"
        params = {"cell": cell, "policy": candidate.cell.policy, "lr": str(candidate.lr), "seed": str(candidate.seed)}
        name = f"{cell} | lr {candidate.lr:g} | seed {candidate.seed}"
        self._begin(candidate.training, name, params, "tuning", started)

    def finish_candidate(self, record: Finished) -> None:
        """End the run of a learning rate that was tried; what it would get on test is not kept."""
        run_id = self._runs[record.digest]
        self._log.metrics(run_id, {"wall_s": record.wall_s}, record.timestamp)
        self._end(record.digest, "FINISHED", {})
        self._checkpoints.discard([record.digest])

    def retried(self, record: Retried) -> None:
        """Say why a training is tried again; its run, if it has one, waits for it to start."""
        self._retried[record.digest].append(concealed(f"{record.kind}: {record.reason}"))
        if self.begun(record.digest):
            self._left[record.digest] = self._log.pause(self._runs[record.digest])

    def _begin(
        self,
        training: Training,
        name: str,
        params: Mapping[str, str],
        kind: str,
        started: Started | None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Begin a run; a training that goes on, or is tried again, does so in the run that it had."""
        identity = {"harness.kind": kind, "harness.digest": training.digest}
        tags = {
            **identity,
            "harness.device": started.device if started else "",
            **(more or {}),
        }
        if started and (started.led_by or self._retried.get(training.digest)):
            tags[LED_BY] = started.led_by
        if why := self._retried.get(training.digest):
            tags |= {RETRIES: str(len(why)), RETRIED_FOR: "; ".join(why)}
        # A teacher may be the very training of a cell, which then has a run of its own.
        self._epochs.pop(training.digest, None)
        after = started.after_epoch if started else 0
        left = self._left.pop(training.digest, None)
        if left is None and after:
            left = self._log.left(name, {**identity, **versions()})
        if after:
            before = left.data.tags.get(RESUMPTIONS, "0") if left else "0"
            tags |= {RESUMED: f"from epoch {after}", RESUMPTIONS: str(1 + int(before))}
        self._runs[training.digest] = self._log.begin(name, params, tags, _data_of(training), left)

    def epoch(self, record: Epoch) -> None:
        """Log an epoch."""
        self._epochs[record.digest].append(record)
        values = {"train_loss": record.train_loss, **{f"val_{name}": value for name, value in record.val.items()}}
        self._log.metrics(self._runs[record.digest], values, record.timestamp, record.epoch)

    def last_val(self, digest: str) -> float:
        """Return the validation score of the last epoch of a training of a cell."""
        return self._epochs[digest][-1].val[self.score.name]

    def diagnosed(self, record: Diagnosed) -> None:
        """Keep the figures of a diagnosis as a table; those of the whole network are metrics as well, to sort runs by.

        A metric for each layer would be a chart for each layer.
        """
        run_id = self._runs[record.digest]
        values = {f.name: f.value for f in record.figures if f.value is not None and not f.layer}
        self._log.metrics(run_id, values, record.timestamp)
        rows = [(f.name, f.layer, f.value, f.reason) for f in record.figures]
        self._log.artifacts(run_id, {BATCH_NORM: csv_bytes(("figure", "layer", "value", "reason"), rows)})

    def finish(self, record: Finished, training: Training, program: str) -> str:
        """Log the final figures of a training and end its run; returns the run's id."""
        run_id = self._runs[record.digest]
        images = self._epochs[record.digest][-1].step * training.train.batch_size
        values = {
            **{f"test_{name}": value for name, value in record.test.items()},
            **_custom_accuracy(record, training),
            "wall_s": record.wall_s,
            "trainable_params": float(record.trainable_params),
            "frozen_unchanged": 1.0,
            **self.speed.of(program, images, training),
        }
        self._log.metrics(run_id, values, record.timestamp)
        epochs = self._epochs[record.digest]
        curves = csv_bytes(
            ("epoch", "step", "train_loss", *(f"val_{name}" for name in epochs[0].val)),
            [(e.epoch, e.step, e.train_loss, *e.val.values()) for e in epochs],
        )
        changed = "".join(f"{name}\n" for name in record.changed).encode()
        pictures = {picture(number): png for number, png in enumerate(record.pictures, 1)}
        self._log.artifacts(run_id, {**_predictions(record), CURVES: curves, CHANGED: changed, **pictures})
        tags = {
            "harness.weights_sha256": record.weights_sha256,
            "harness.duplicates_dropped": str(record.duplicates_dropped),
            "harness.images": str(images),
            **({"harness.reason": "; ".join(record.notes)} if record.notes else {}),
            **({PICTURES: str(len(pictures))} if pictures else {}),
        }
        self._end(record.digest, "FINISHED", tags)
        self._checkpoints.discard([record.digest])
        return run_id

    def fail(self, record: Failed, replaced: bool = False) -> str:
        """Log why a training ended without a result and end its run; returns the run's id.

        One that is `replaced` by another training of the same replicate is no result of the grid.
        """
        run_id = self._runs[record.digest]
        if record.kind == "freeze_violation":
            self._log.metrics(run_id, {"frozen_unchanged": 0.0}, record.timestamp)
        if record.traceback:
            self._log.artifacts(run_id, {TRACEBACK: concealed(record.traceback).encode()})
        status = "KILLED" if record.kind in PASSING else "FAILED"
        tags = {"harness.failure": record.kind, "harness.reason": concealed(record.reason)}
        self._end(record.digest, status, tags | ({CURRENT: "false"} if replaced else {}))
        if record.kind not in PASSING:
            self._checkpoints.discard([record.digest])
        return run_id

    def _end(self, digest: str, status: str, tags: Mapping[str, str]) -> None:
        """End the run of a training; where the same is trained for another purpose, that is another run."""
        self._log.end(self._runs.pop(digest), status, tags)
        self._retried.pop(digest, None)
        self._left.pop(digest, None)

    def share(self, replicate: Replicate, trained: Run) -> None:
        """Give a replicate whose training exists a light run: its own params, the final figures, and their origin."""
        copied = ("device", "failure", "reason", "weights_sha256", "duplicates_dropped", "images")
        tags = {
            "harness.kind": "shared",
            **_place(replicate),
            "harness.digest": replicate.training.digest,
            "trained_by": str(trained.info.run_id),
            **{key: value for key, value in trained.data.tags.items() if key.removeprefix("harness.") in copied},
        }
        run_id = self._log.begin(replicate.name, self._params(replicate), tags, _data_of(replicate.training))
        speed = self.speed.of(replicate.program, int(tags.get("harness.images", 0)), replicate.training)
        # Speed is measured anew where it is asked for: that of the trained run may be another host's.
        measured = ("images_per_s", "train_s", "peak_memory_bytes")
        figures = {key: value for key, value in trained.data.metrics.items() if key not in measured}
        self._log.metrics(run_id, {**figures, **speed}, trained.info.end_time or 0)
        self._log.end(run_id, trained.info.status, {})

    def _params(self, replicate: Replicate) -> dict[str, str]:
        train = replicate.training.train
        return {
            "cell": replicate.cell.name,
            "policy": replicate.cell.policy,
            **{label: str(label in replicate.cell.tricks) for label in self._plan.study.tricks},
            "seed": str(replicate.seed),
            "model": replicate.training.model.name,
            "data": describe_data(replicate.training.located_data),
            "epochs": str(train.epochs),
            "batch_size": str(train.batch_size),
            "lr": str(train.lr),
            "weight_decay": str(train.weight_decay),
            "optimizer": train.optimizer.name,
            **dict(replicate.cell.levels),
        }


def _place(replicate: Replicate) -> dict[str, str]:
    """Return the tags that say which replicate of the grid a run is the result of, besides its params."""
    if not replicate.planned:
        return {CURRENT: "true"}
    return {CURRENT: "true", PLANNED: replicate.planned, PARTS: str(replicate.training.train.accumulate)}


def _predictions(record: Finished) -> dict[str, bytes]:
    """Return the artifact of what was predicted of each test image, where there is such a thing."""
    if record.test_predictions is None or record.test_labels is None:
        return {}
    content = io.BytesIO()
    np.savez_compressed(content, predictions=record.test_predictions, labels=record.test_labels)
    return {PREDICTIONS: content.getvalue()}


def _custom_accuracy(record: Finished, training: Training) -> dict[str, float]:
    """Return the accuracy by which the field compares results on a data set, where that is not top-1."""
    if record.test_predictions is None or record.test_labels is None or accuracy_of(training.data) == "top1":
        return {}
    predictions, labels = torch.from_numpy(record.test_predictions), torch.from_numpy(record.test_labels)
    return {"test_mean_per_class": mean_per_class(predictions, labels, training.classes)}


def _data_of(training: Training) -> tuple[str, str]:
    return describe_data(training.located_data), training.data_content
