"""Errors that are the user's to mend: one clear message, exit status 2, no traceback."""

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Something the user can mend; the message names the place, the value and the legal values."""


class NotThere(HarnessError):
    """A device or a cluster that is not there: no fault of the grid that was to run on it."""


class SameError(HarnessError):
    """One error in the code ended so many trainings that the others were not begun."""


class PlacedError(HarnessError):
    """A HarnessError whose message says already where in a spec its cause was written."""


def unknown(what: str, value: str, legal: Iterable[str]) -> str:
    """Say that `value` is no `what`, which values are legal, and which one may have been meant."""
    names = list(legal)
    near = difflib.get_close_matches(value, names, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {value!r}; legal: {', '.join(names)}.{guess}"
