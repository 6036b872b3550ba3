"""What the tests of tricks share: reading one from a spec, as a user writes it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import specfile
from harness.tricks import Trick


@pytest.fixture
def read_trick(write_spec: Callable[..., Path]) -> Callable[[str], Trick]:
    """A function that reads one entry of a spec's `tricks` and returns the trick."""

    def read(entry: str) -> Trick:
        path = write_spec(("tricks: {warmup: {epochs: 1}, mixup: }", f"tricks: {{{entry}}}"))
        (trick,) = specfile.read(path).tricks.values()
        return trick

    return read
