"""The versions that must be equal for a finished training to serve again."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from harness import NUMERICS


def versions() -> dict[str, str]:
    """Return them as tags of a run."""
    return {"harness.numerics": str(NUMERICS), "harness.torch": version_of("torch")}


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package, without importing it."""
    return version(package)


def version_mark(tags: Mapping[str, str] | None = None) -> str:
    """Return them as part of a file's name; `tags` are those of a run, by default of what runs now."""
    found = tags or versions()
    return f"n{found['harness.numerics']}-torch{found['harness.torch']}"
