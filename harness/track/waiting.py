"""Waiting for a store that is locked or away, so that a grid outlives it."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar, cast

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import REQUEST_LIMIT_EXCEEDED, TEMPORARILY_UNAVAILABLE, ErrorCode

from harness.concealing import concealed, without_secrets
from harness.errors import HarnessError

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a store may be away."""
_SILENCE_S = 5.0
"""How long a call may last before it is said that there is no answer."""
_PAUSES_S = 0.1, 5.0
"""The first pause before a call is repeated, and the longest."""
# A database that is locked, or whose server restarts, is TEMPORARILY_UNAVAILABLE.
_PASSING = {ErrorCode.Name(code) for code in (TEMPORARILY_UNAVAILABLE, REQUEST_LIMIT_EXCEEDED)}
# The last of them is how requests tells of a status such as 503.
_UNREACHED = (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError)
_ONCE = {"create_run", "create_experiment", "delete_tag"}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Patience:
    """Makes the calls of a store, and makes them again while it is locked, away or full.

    A thread other than the one that it was made in gets a single attempt: a sign of life that came to nothing is
    followed by the next.
    """

    def __init__(self, uri: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._name, self._sleep = without_secrets(uri), sleep
        self._thread = threading.get_ident()
        self._away, self._given_up = False, ""

    def call(self, first: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Return what `first` returns, or after a failure `again`, which must bear that `first` was done all the same.

        Raises HarnessError where the store stays away for PATIENCE_S, and from then on at once.
        """
        if threading.get_ident() != self._thread:
            return first()
        if self._given_up:
            raise HarnessError(self._given_up)
        began, pause_s = time.monotonic(), _PAUSES_S[0]
        with self._watched():
            attempt = first
            while True:
                try:
                    result = attempt()
                    break
                except Exception as error:
                    if not _may_pass(error):
                        raise
                    reason = concealed(_told(error))
                if time.monotonic() - began >= PATIENCE_S:
                    self._give_up(reason)
                self._say_away(reason)
                self._sleep(pause_s)
                attempt, pause_s = again or first, min(2 * pause_s, _PAUSES_S[1])
        if self._away:
            self._away = False
            _say("the tracking store answers again")
        return result

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Say so where the block lasts; who interrupts it then has no patience left."""
        silence = threading.Timer(_SILENCE_S, self._say_away, [f"no answer for {_SILENCE_S:.0f} s"])
        silence.daemon = True
        silence.start()
        try:
            yield
        except KeyboardInterrupt:
            if self._away:
                self._given_up = f"stopped while the tracking store {self._name} was away"
            raise
        finally:
            silence.cancel()

    def _say_away(self, reason: str) -> None:
        if not self._away:
            self._away = True
            _say(f"the tracking store {self._name} is locked or away ({reason}); waiting for {PATIENCE_S / 60:.0f} min")

    def _give_up(self, reason: str) -> NoReturn:
        self._given_up = (
            f"the tracking store {self._name} was locked or away for {PATIENCE_S / 60:.0f} min ({reason}); "
            "see to it, then run the same command again: it goes on where it was left"
        )
        raise HarnessError(self._given_up)


def _say(text: str) -> None:
    logging.getLogger(__name__).warning("harness: %s", text)


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, MlflowException) and error.error_code in _PASSING:
        return True
    return any(
        isinstance(found, _UNREACHED) or (isinstance(found, OSError) and found.errno in _FULL)
        for found in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _told(error: Exception) -> str:
    """Return in a line what is at the bottom of an error: above it stand addresses and statements."""
    *_, root = _chain(error)
    return str(root).strip().partition("\n")[0] or type(root).__name__


class _PatientClient:
    """A client whose calls are repeated but for those that may be done twice, for which `Store` has its own methods."""

    def __init__(self, client: MlflowClient, patience: Patience) -> None:
        self._client, self._patience = client, patience

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._client, name)
        if name in _ONCE:
            return method
        return lambda *arguments, **options: self._patience.call(lambda: method(*arguments, **options))


def patient(client: MlflowClient, patience: Patience) -> MlflowClient:
    """Return a client whose calls are repeated while its store is away."""
    return cast(MlflowClient, _PatientClient(client, patience))
