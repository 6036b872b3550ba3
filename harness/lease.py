"""One process at a time runs the grids of a store: a lock on this machine, and a lease in the store for several."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from harness.errors import HarnessError
from harness.workspace import Workspace

if TYPE_CHECKING:
    from harness.track import Store

BEAT_S = 15.0
"""Between two signs of life of who holds a lease."""
EXPIRES_S = 60.0
"""Silence after which another host may take it."""
_PAUSE_S = 2.0
"""Between writing a lease and reading it back: who wrote at the same moment has written by then."""


@contextmanager
def lock(place: Workspace) -> Iterator[None]:
    """Hold the workspace's lock, which the system frees however the process ends; HarnessError where it is held."""
    while True:
        with place.lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise HarnessError(
                    f"another harness run (process {file.read().strip()}) is at work in {place.root}; wait for it"
                ) from None
            # Who held it before may have removed the file that we opened.
            if not place.lock.exists() or place.lock.stat().st_ino != os.fstat(file.fileno()).st_ino:
                continue
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                place.lock.unlink(missing_ok=True)
            return


class Board(Protocol):
    """Where a lease is written."""

    def lease(self) -> str:
        """Return what was written last."""

    def write_lease(self, text: str) -> None:
        """Write in its place, whatever stands there."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and when it was last heard of, in seconds of its own clock."""

    host: str
    process: str
    beat: float

    @property
    def name(self) -> str:
        """Host and process, as the runs of a process are marked."""
        return f"{self.host}/{self.process}"

    def is_same(self, other: Holder) -> bool:
        """Whether both are one process."""
        return self.name == other.name


class Lease:
    """The right of one process to run the grids of a store."""

    def __init__(
        self,
        board: Board,
        host: str,
        process: str,
        alive: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`process` is the mark of this process; `alive` says whether that of another one on this host still runs."""
        self._board, self._host, self._process = board, host, process
        self._alive, self._clock, self._sleep = alive, clock, sleep
        self._lost: Holder | None = None

    def take(self, pause_s: float) -> None:
        """Take the lease, and look `pause_s` later whether it is still ours; HarnessError where another holds it."""
        holder = self._read()
        if holder and self._holds(holder):
            raise HarnessError(
                f"{_named(holder)} runs grids in this store, heard of {self._clock() - holder.beat:.0f} s ago; wait "
                f"for it (what another host leaves behind is free after {EXPIRES_S:.0f} s of silence)"
            )
        self._write()
        self._sleep(pause_s)
        self.beat()
        self.check()

    def beat(self) -> None:
        """Give a sign of life, but not over that of somebody else."""
        holder = self._read()
        if holder and not holder.is_same(self._me()):
            self._lost = holder
        else:
            self._write()

    def check(self) -> None:
        """Raise HarnessError where another process has taken the lease."""
        if self._lost:
            raise HarnessError(f"{_named(self._lost)} has begun to run grids in this store; this process gives way")

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken it."""
        return self._lost is not None

    @property
    def name(self) -> str:
        """What the process that this lease is of is called."""
        return self._me().name

    def holder(self) -> str:
        """Return the name of the process that holds it; empty where none does."""
        found = self._read()
        return found.name if found and (found.is_same(self._me()) or self._holds(found)) else ""

    def release(self) -> None:
        """Give the lease back, if it is ours."""
        holder = self._read()
        if holder and holder.is_same(self._me()):
            self._board.write_lease("")

    def _holds(self, holder: Holder) -> bool:
        if holder.host == self._host:
            return not holder.is_same(self._me()) and self._alive(holder.process)
        return self._clock() - holder.beat < EXPIRES_S

    def _me(self) -> Holder:
        return Holder(self._host, self._process, self._clock())

    def _read(self) -> Holder | None:
        text = self._board.lease()
        return Holder(**json.loads(text)) if text else None

    def _write(self) -> None:
        self._board.write_lease(json.dumps(asdict(self._me())))


def _named(holder: Holder) -> str:
    return f"process {holder.process.partition('-')[0]} on {holder.host}"


def _ours(board: Board) -> Lease:
    from harness.track import is_alive, process_mark

    return Lease(board, platform.node(), process_mark(os.getpid()) or str(os.getpid()), is_alive)


def holder(board: Board) -> str:
    """Return the name of the process that holds a lease; empty where none does."""
    return _ours(board).holder()


@contextmanager
def leased(store: Store) -> Iterator[Lease]:
    """Hold the lease of a store, with a sign of life every BEAT_S; HarnessError where another process holds it."""
    lease = _ours(store)
    # Whoever uses the workspace's own database must hold the workspace's lock first.
    lease.take(0.0 if store.own else _PAUSE_S)
    ended = threading.Event()
    beats = threading.Thread(target=_beat_until, args=(ended, lease), daemon=True)
    beats.start()
    try:
        yield lease
    finally:
        ended.set()
        beats.join(BEAT_S)
        with suppress(Exception):  # where the store is away the lease runs out by itself
            lease.release()


def _beat_until(ended: threading.Event, lease: Lease) -> None:
    while not ended.wait(BEAT_S):
        with suppress(Exception):  # a store that is away for a moment; the next beat finds out what became of the lease
            lease.beat()


@dataclass(frozen=True)
class Turn:
    """The right to run the grids of a store, for one grid after another."""

    place: Workspace
    store: Store
    lease: Lease


@contextmanager
def turn(place: Workspace) -> Iterator[Turn]:
    """Hold a workspace and its store; raises HarnessError where another process does, or where there is no store."""
    from harness.track import Store

    with lock(place):
        store = Store(place)
        with leased(store) as lease:
            yield Turn(place, store, lease)
