"""What tasks are judged by."""

import subprocess
import sys
from typing import get_args

import torch

from harness.spec.data import SCENES, Task
from harness.tasks import detection, segmentation
from harness.tasks.metrics import METRICS


def test_every_task_has_metrics_and_every_set_of_scenes_a_task():
    assert set(METRICS) == set(get_args(Task))
    assert {task for tasks in SCENES.values() for task in tasks} == {"detection", "segmentation"}


def test_scores_are_the_metrics_in_their_order():
    nothing = detection.scores([], [])
    assert list(nothing) == [metric.name for metric in METRICS["detection"]]
    mask = torch.zeros(2, 2, dtype=torch.int64)
    assert list(segmentation.scores([mask], [mask], 2)) == [metric.name for metric in METRICS["segmentation"]]


def test_names_need_no_torch():
    code = "import sys; import harness.tasks.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
