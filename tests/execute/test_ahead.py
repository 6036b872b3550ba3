"""Records heard in a thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from queue import Queue

import pytest

from harness.execute import ahead as module
from harness.execute.ahead import ahead
from harness.records import Record, Started

RECORDS = [Started(str(number), number, "cpu") for number in range(200)]


class Source:
    """Makes records, and notes what became of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.made, self.closed_in, self.woken = 0, "", threading.Event()

    def records(self) -> Generator[Record]:
        """Yield them all, then raise or wait."""
        try:
            for record in RECORDS:
                self.made += 1
                yield record
            if self._error:
                raise self._error
        finally:
            self.closed_in = threading.current_thread().name


def test_every_record_comes_once_and_in_order() -> None:
    source = Source()
    assert list(ahead(source.records(), source.woken.set)) == RECORDS
    assert source.closed_in == "records"


def test_what_is_raised_comes_after_what_was_heard_before_it() -> None:
    heard: list[Record] = []
    error = OSError("gone")
    with pytest.raises(OSError, match="gone") as raised:
        heard.extend(ahead(Source(error).records(), lambda: None))
    assert heard == RECORDS
    assert raised.value is error


def test_records_are_made_while_nobody_takes_them_but_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 5)
    source, waiting = Source(), threading.Event()
    put = Queue.put

    def noted(queue: Queue[Record], item: Record, timeout: float) -> None:
        if queue.full():
            waiting.set()
        put(queue, item, timeout=timeout)

    monkeypatch.setattr(Queue, "put", noted)
    records = ahead(source.records(), source.woken.set)
    assert next(records) == RECORDS[0]
    assert waiting.wait(60)
    assert source.made <= 7  # the first, five that wait, one that finds no room
    assert list(records) == RECORDS[1:]


def test_closed_early_it_wakes_what_waits_and_closes_it() -> None:
    source = Source()

    def stuck() -> Generator[Record]:
        yield from (record for record in RECORDS[:1])
        yield from source.records() if not source.woken.wait(60) else ()

    records = ahead(stuck(), source.woken.set)
    assert next(records) == RECORDS[0]
    records.close()  # type: ignore[attr-defined]
    assert source.woken.is_set()
    assert source.made == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "records"]
