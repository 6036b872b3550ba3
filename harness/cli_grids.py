"""The commands that run grids, now or from the queue: parse, call, print."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from harness import options
from harness.concealing import concealed
from harness.errors import HarnessError, NotThere
from harness.exits import DONE, SOME_FAILED
from harness.wording import count

if TYPE_CHECKING:
    from harness.lease import Turn
    from harness.means import Means
    from harness.queue import Entry
    from harness.session import Session
    from harness.track import Store

_LOOK_EVERY_S = 5.0
"""How often an idle `harness work` looks at the queue."""


def add(command: options.Command) -> None:
    """Add the commands."""
    sub = command("run", _run, "run what is not finished yet, then report")
    options.add_spec(sub)
    _add_means(sub)
    sub = command("rerun", _run, "run again what failed, and what is not finished, then report")
    options.add_spec(sub)
    _add_means(sub)
    sub.add_argument("--failed", action="store_true", required=True, help="run the failed replicates again")
    _add_queue(command("queue", None, "queue grids for `harness work`, and see to the queue"))
    sub = command("work", _work, "run the queued grids one after another, those added meanwhile too")
    sub.add_argument("--once", action="store_true", help="end when the queue is empty")
    _add_means(sub)
    sub = command("status", _status, "show how far every grid is, and how busy the GPUs are")
    sub.add_argument("--watch", action="store_true", help="again every 2 s, until Ctrl-C")


def _add_means(sub: argparse.ArgumentParser) -> None:
    options.add_workers(sub)
    sub.add_argument(
        "--inline",
        action="store_true",
        help="train in this process, for debugging; nothing can end what takes too long",
    )
    sub.add_argument("--executor", choices=("local", "ray"), default="local", help="where to train (default: local)")
    sub.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster, or auto (default: RAY_ADDRESS, this machine's, or a new one)",
    )


def _add_queue(parser: argparse.ArgumentParser) -> None:
    action = options.commands(parser, "ACTION")
    sub = action("add", _add_specs, "check specs and queue their grids; one that waits already gets the priority")
    options.add_spec(sub, nargs="+")
    sub.add_argument("--priority", type=int, default=0, metavar="N", help="higher goes first (default: 0)")
    action("list", _list, "list the queued grids in the order in which they are taken")
    sub = action("cancel", _cancel, "take a grid out of the queue; what it has trained stays")
    sub.add_argument("grid", metavar="ID|NAME", help="id of its run or the beginning of it, or its study's name")
    sub = action("move", _move, "give a queued grid another priority")
    sub.add_argument("grid", metavar="ID|NAME", help="id of its run or the beginning of it, or its study's name")
    sub.add_argument("--priority", type=int, required=True, metavar="N", help="higher goes first")


def _means(given: argparse.Namespace) -> Means:
    from harness.means import Means

    return Means(given.jobs, given.devices, given.inline, given.executor, given.address)


def _run(given: argparse.Namespace) -> int:
    from harness import specfile
    from harness.errors import SameError
    from harness.session import Session

    print(f"planning {given.spec}", file=sys.stderr)  # the imports alone take seconds
    means = _means(given)
    with Session.open(specfile.read(given.spec, given.set), means) as session:
        try:
            return _follow(session, getattr(given, "failed", False))
        except SameError as error:  # before there was a grid to report
            print(f"harness: {error}", file=sys.stderr)
            return SOME_FAILED


def _follow(session: Session, again: bool = False) -> int:
    """Run a grid while somebody looks on, and report it."""
    from harness import show
    from harness.stopping import gently

    try:
        with gently(session.stop), show.progress() as progress:
            for update in session.run(again):
                progress(update)
    except KeyboardInterrupt:
        print(f"\nharness: {count(session.left, 'replicate')} left", file=sys.stderr)
        raise
    result = session.report()
    print(show.run_text(session.outcome, result, again), flush=True)
    return SOME_FAILED if result.unfinished else DONE


def _work(given: argparse.Namespace) -> int:
    from harness import queue
    from harness.lease import turn
    from harness.workspace import find

    status, idle, means = DONE, False, _means(given)
    with turn(find(Path.cwd())) as held:
        while True:
            waiting = queue.entries(held.store)
            if waiting:
                status = max(status, _work_on(waiting[0], means, held))
                idle = False
            elif given.once:
                return status
            else:
                if not idle:
                    print("The queue is empty; waiting for more. Ctrl-C ends it.", flush=True)
                    idle = True
                held.lease.check()
                time.sleep(_LOOK_EVERY_S)


def _work_on(entry: Entry, means: Means, held: Turn) -> int:
    """Run a queued grid. One that cannot be run leaves the queue with the reason, and says so."""
    from harness import queue
    from harness.session import Session
    from harness.stopping import Stopped

    print(f"{entry.name}: planning", file=sys.stderr, flush=True)
    try:
        study = queue.read(held.store, entry)
        if since := queue.changed(study):
            print(f"{entry.name}: {since}; what was queued is run", file=sys.stderr)
        with Session.open(study, means, held) as session:
            if not queue.waits(held.store, entry):  # it was cancelled meanwhile
                return DONE
            status = _follow(session)
        if session.stopped:
            raise Stopped  # what ran was the last of its grid, and no other is begun
        return status
    except NotThere:
        raise  # no other grid could run either
    except Exception as error:  # one grid never stops the queue
        held.lease.check()
        if not isinstance(error, HarnessError):
            print(concealed(traceback.format_exc()), end="", file=sys.stderr)
        reason = concealed(str(error))
        queue.give_up(held.store, entry, f"{type(error).__name__}: {reason}")
        print(f"{entry.name} leaves the queue, failed: {reason}", file=sys.stderr)
        return SOME_FAILED


def _store() -> Store:
    from harness.track import Store
    from harness.workspace import find

    return Store(find(Path.cwd()))


def _add_specs(given: argparse.Namespace) -> int:
    from harness.session import enqueue

    for told in enqueue(given.spec, given.set, given.priority):
        print(told)
    return DONE


def _list(_: argparse.Namespace) -> int:
    from harness import queue
    from harness.lease import holder

    store = _store()
    at_work = holder(store)
    for entry in queue.entries(store):
        queued = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.since_ms / 1000))
        place = f"priority {entry.priority:<4} queued {queued}"
        print(f"{entry.run_id[:8]}  {entry.study:24}  {place}  {entry.state(at_work)}")
    return DONE


def _cancel(given: argparse.Namespace) -> int:
    from harness import queue
    from harness.lease import holder

    store = _store()
    entry = queue.find(store, given.grid)
    state = entry.state(holder(store))
    queue.cancel(store, entry)
    running = " It is being run, and goes on: Ctrl-C in its process stops it." if state == "running" else ""
    print(f"{entry.name} is out of the queue.{running}")
    return DONE


def _move(given: argparse.Namespace) -> int:
    from harness import queue

    store = _store()
    entry = queue.find(store, given.grid)
    queue.move(store, entry, given.priority)
    print(f"{entry.name} is at priority {given.priority}.")
    return DONE


def _status(given: argparse.Namespace) -> int:
    from harness import show, status

    store = _store()

    def text() -> str:
        grids = status.read(store, time.time_ns() // 1_000_000)
        table = show.aligned(status.rows(grids)) if grids else "No grid has been queued or run yet."
        return "\n".join([table, *status.devices()])

    if given.watch:
        show.watch(text)
    else:
        print(text())
    return DONE
