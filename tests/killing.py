"""`python -m tests.killing POINT COUNT ARGUMENTS…` is `harness ARGUMENTS…` that dies by SIGKILL at a point.

That is where a function is called for the `COUNT`-th time, before it does anything or after all that it does.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from harness.checkpoint import Checkpoints
from harness.cli import main
from harness.ledger import Ledger
from harness.track import GridLog, log

POINTS: dict[str, tuple[Any, str, str]] = {
    "in a log write": (Session, "commit", "before"),
    "in a checkpoint": (os, "fsync", "after"),
    "checkpoint there, epoch not logged": (Checkpoints, "write", "after"),
    "epoch logged": (Ledger, "epoch", "after"),
    "result logged, run not ended": (GridLog, "end", "before"),
    "run ended, checkpoint there": (Checkpoints, "discard", "before"),
}


def arm(point: str, count: int) -> None:
    """Let this process die at the `count`-th passage of a point."""
    owner, name, when = POINTS[point]
    function: Callable[..., Any] = getattr(owner, name)
    left = [count]

    def passing(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, passing)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    log._FLUSH_S = 0.0  # every epoch is written as it comes
    sys.exit(main(sys.argv[3:]))
