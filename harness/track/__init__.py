"""The tracking store: the only import of mlflow, and its only writer.

What happened lies here and nowhere else. A grid is a parent run; every cell × seed has a child run. The first that
needs a training is that training's run; each other is a light one that copies its final figures.
"""

import logging
import os

# Read by mlflow when it is imported: no line for every run or file, no report of use to anybody.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its own repetitions would make a run a second time; waiting.py has those that do not.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
logging.getLogger("alembic").setLevel(logging.WARNING)
# It logs a traceback for what it then raises.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

from harness.track.log import GridLog, is_alive, process_mark  # noqa: E402
from harness.track.pages import save_views, show_report  # noqa: E402
from harness.track.store import QUEUED, Store  # noqa: E402
from harness.track.uri import reach, tracking_uri  # noqa: E402

__all__ = [
    "QUEUED",
    "GridLog",
    "Store",
    "is_alive",
    "process_mark",
    "reach",
    "save_views",
    "show_report",
    "tracking_uri",
]
