"""The metrics of each task: their names in the store and in tables, and their words. Plain data, without torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Task = Literal["classification", "detection", "segmentation"]


def _nothing(_classes: int) -> float:
    return 0.0


def _one_of(classes: int) -> float:
    return 1 / classes


@dataclass(frozen=True)
class Metric:
    """How good a trained network is, in [0, 1], the more the better; tables and figures show per cent and points."""

    name: str
    """As columns and the store name it, after `val_` or `test_`."""
    label: str
    """In a sentence, after "test" or "validation" where these words fit."""
    title: str = ""
    """At the head of a figure; empty is the label."""
    guess: Callable[[int], float] = _nothing
    """What guessing is worth among so many classes: of what cannot be known before the data, the least it may be."""

    @property
    def headline(self) -> str:
        """The words that begin a headline."""
        return self.title or self.label

    @property
    def test(self) -> str:
        """The column, and the key in the store, of its value on test."""
        return f"test_{self.name}"

    @property
    def val(self) -> str:
        """The column, and the key in the store, of its value on validation."""
        return f"val_{self.name}"

    @property
    def mean(self) -> str:
        """The column, of a frame of cells, of the mean on test over replicates."""
        return f"{self.test}_mean"

    @property
    def sd(self) -> str:
        """The column of the standard deviation beside it."""
        return f"{self.test}_sd"

    @property
    def val_mean(self) -> str:
        """The column of the mean on validation."""
        return f"{self.val}_mean"


TOP1 = Metric("top1", "top-1", "Accuracy", _one_of)
METRICS: Mapping[Task, tuple[Metric, ...]] = {
    "classification": (TOP1, Metric("mean_per_class", "mean per class")),
    "detection": (
        Metric("map50", "mAP at IoU 0.5"),
        Metric("map50_11", "11-point mAP at IoU 0.5"),
        Metric("map", "mAP at IoU 0.5 to 0.95"),
        Metric("untrained", "mAP at IoU 0.5 before training"),
        Metric("constant", "mAP at IoU 0.5 of the mean box in every image"),
    ),
    "segmentation": (
        Metric("miou", "mean IoU", "Mean IoU"),
        Metric("pixel_accuracy", "pixel accuracy"),
        Metric("untrained", "mean IoU before training"),
        Metric("constant", "mean IoU of the most frequent class everywhere"),
    ),
}
"""The first of a task is its score: by it studies judge, tune and draw. A training may lack the others.

Guessing finds no box where one is. Of a mask that is guessed the mean IoU depends on how many pixels each class has.
"""


FLOORS = ("untrained", "constant")
"""Names of those that say what the test images are worth to who has learned nothing."""


def score_of(task: Task) -> Metric:
    """Return the metric by which studies of a task judge, tune and draw."""
    return METRICS[task][0]


def task_planned(plan: Mapping[str, Any]) -> Task:
    """Return the task of a plan as `summary.summarise` has it; one that names none is classification."""
    task: Task = plan.get("task", "classification")
    return task


def task_in(columns: Collection[Any]) -> Task:
    """Return the task whose score is among the columns of a frame of runs or cells; classification where none is."""
    found: dict[str, Task] = {name: task for task in METRICS for name in (score_of(task).test, score_of(task).mean)}
    return next((task for name, task in found.items() if name in columns), "classification")
