"""Names of what the ledger keeps with runs and results are read from: artifacts and final metrics."""

from harness.tasks.metrics import METRICS, Task, score_of

PLAN = "plan.json"
"""Of a grid: the plan as JSON."""
QUEUED_SPEC = "queued_spec.json"
"""Of a grid that is or was queued: the text of its spec, where that lay, and its overrides."""
PRIMARY = "primary.json"
"""Of a grid: its primary contrasts as they were named before its first replicate; never written again."""
THROUGHPUT = "throughput.csv"
"""Of a grid: the rounds of the probe."""
CURVES = "curves.csv"
"""Of a training: one row an epoch."""
CHANGED = "changed.txt"
"""Of a training: names of the tensors that are not, bit for bit, in the weights it was trained from; one a line."""
PREDICTIONS = "test_predictions.npz"
"""Of a training: predicted and true class of each test image."""
BATCH_NORM = "batch_norm.csv"
"""Of a training whose batch norm was inspected: one row a figure."""
PICTURES = "harness.pictures"
"""Tag of a training that has pictures: how many."""
TRACEBACK = "traceback.txt"
"""Of a training that raised."""


def picture(number: int) -> str:
    """Return the name of a picture of a training: a PNG of a test image with what was predicted of it, from 1 on."""
    return f"pictures/{number}.png"


def finals(task: Task) -> tuple[str, ...]:
    """Return the final metrics of a run, in the order of the columns."""
    return (
        *(metric.test for metric in METRICS[task]),
        score_of(task).val,
        "train_loss",
        "images_per_s",
        "train_s",
        "wall_s",
        "peak_memory_bytes",
        "trainable_params",
        "frozen_unchanged",
    )
