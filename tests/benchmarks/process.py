"""A command measured from outside: its seconds, and the most memory that its processes hold together."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY_S = 2.0
"""Each look adds up the pages of all processes, some 50 ms in which they wait: more often would be part of the time."""


@dataclass(frozen=True)
class Measured:
    """One run of a command."""

    wall_s: float
    peak_mib: float
    """Proportional set size, summed over the process and all below it, at its highest of the samples."""
    status: int
    log: Path
    """What it printed."""

    @property
    def last_line(self) -> str:
        """Why it failed, if it did."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.status}"


def measure(
    command: Sequence[object], cwd: Path, log: Path, environment: Mapping[str, str], timeout_s: float
) -> Measured:
    """Run a command to its end, or until it has taken too long."""
    with log.open("wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            # As it is by default: a package imported in place would otherwise be compiled at every start.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        watch = Watch(process.pid)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            out.write(f"\nit took longer than {timeout_s:g} s\n".encode())
        finally:
            seconds = time.perf_counter() - began
            watch.end()
            process.kill()
            process.wait()
    return Measured(seconds, watch.peak_mib, process.returncode, log)


class Watch:
    """Samples the memory of a tree of processes in a thread of its own, and ends at last what is left of the tree."""

    def __init__(self, root: int) -> None:
        self.peak_mib = 0.0
        self._root, self._over, self._seen = root, threading.Event(), set[psutil.Process]()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop sampling, and end the processes that outlived the command."""
        self._over.set()
        self._thread.join()
        for process in self._seen:
            with suppress(psutil.Error):  # a process that has ended, or another of the same number
                process.kill()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            with suppress(psutil.Error):
                root = psutil.Process(self._root)
                tree = {root, *root.children(recursive=True)}
                self._seen |= tree - {root}
                self.peak_mib = max(self.peak_mib, sum(pss_mib(process.pid) for process in tree))


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process in MiB; 0 where it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
