"""Hearing records in a thread, so that whoever tells the tracking store of them keeps no worker waiting."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Full, Queue
from threading import Event, Thread

from harness.records import Record

_MOST = 64
"""Records that may be heard and not yet taken: while the store is away, no more is begun than these tell of."""
_LOOK_EVERY_S = 0.1


def ahead(records: Generator[Record], interrupt: Callable[[], None]) -> Iterator[Record]:
    """Yield `records`, which are made in a thread of their own; what they raise is raised here.

    Closed early, it calls `interrupt`, which has whatever makes them wait return, and waits until they are closed.
    """
    heard: Queue[Record | BaseException | None] = Queue(_MOST)
    closing = Event()

    def put(item: Record | BaseException | None) -> None:
        while not closing.is_set():
            with suppress(Full):
                heard.put(item, timeout=_LOOK_EVERY_S)
                break

    def listen() -> None:
        try:
            for record in records:
                put(record)
                if closing.is_set():
                    break
            put(None)
        except BaseException as error:  # whatever it is, it belongs to the caller
            put(error)
        finally:
            records.close()

    thread = Thread(target=listen, name="records", daemon=True)
    thread.start()
    try:
        while (item := heard.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closing.set()
        interrupt()
        thread.join()
