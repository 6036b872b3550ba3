"""What each task is judged by: names and labels alone, so that planning need not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A score of predictions, a fraction in [0, 1] that is better the higher it is."""

    name: str
    """As records and columns have it."""
    label: str
    """As a reader is told."""


METRICS: dict[str, tuple[Metric, ...]] = {
    "classification": (Metric("top1", "top-1"),),
    "detection": (
        Metric("map50", "mAP at IoU 0.5"),
        Metric("map50_11", "mAP at IoU 0.5, 11 points"),
        Metric("map", "mAP at IoU 0.50:0.95"),
    ),
    "segmentation": (Metric("miou", "mean IoU"), Metric("pixel_accuracy", "pixel accuracy")),
}
"""The metrics of each task; studies judge by the first."""
