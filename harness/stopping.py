"""Ctrl-C in two steps: the first lets what runs end, the second stops now."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """What ran has ended after the first Ctrl-C, and something is left to do."""


@contextmanager
def unheard(number: signal.Signals) -> Iterator[None]:
    """While the block runs, a signal is ignored by this process, and for good by the programs that it starts."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def gently(stop: Callable[[], int]) -> Iterator[None]:
    """While the block runs, the first Ctrl-C or SIGTERM calls `stop`, which says how much runs on; the next interrupts.

    Where nothing runs the first one interrupts already.
    """
    asked = False

    def ask(*_: int | FrameType | None) -> None:
        nonlocal asked
        running = 0 if asked else stop()
        asked = True
        if not running:
            raise KeyboardInterrupt
        # Not by print, which may have been interrupted itself.
        os.write(2, f"\nharness: finishing what runs ({running}); Ctrl-C again stops now\n".encode())

    # Where a shell has Ctrl-C ignored, it stays so.
    taken = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
