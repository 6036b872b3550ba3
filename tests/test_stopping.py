"""Ctrl-C once, twice, and where there is nothing to wait for."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from harness.stopping import Stopped, gently, unheard

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Every test begins with what Python itself does, and leaves no handler behind."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_asks_and_the_second_interrupts(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []
    with gently(lambda: asked.append(1) or 3):  # type: ignore[func-returns-value]
        os.kill(os.getpid(), number)
        assert asked == [1]
        assert "finishing what runs (3); Ctrl-C again stops now" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert asked == [1]


def test_where_nothing_runs_the_first_interrupts(capfd: pytest.CaptureFixture[str]) -> None:
    with gently(lambda: 0), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err == ""


def test_handlers_are_given_back_and_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with gently(lambda: 1):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) != signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler


def test_programs_begun_unheard_stay_so() -> None:
    code = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    started = []
    with unheard(signal.SIGINT):
        started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
    started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True))
    assert [process.communicate()[0].strip() for process in started] == ["True", "False"]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_only_the_main_thread_may_say_what_is_unheard() -> None:
    def begin() -> None:
        with unheard(signal.SIGINT):
            seen.append(signal.getsignal(signal.SIGINT))

    seen: list[object] = []
    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_stopped_is_an_interrupt() -> None:
    """So whatever cleans up after Ctrl-C does after it, and no `except Exception` takes it for a failure."""
    assert issubclass(Stopped, KeyboardInterrupt)
