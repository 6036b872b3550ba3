"""The versions that must be equal for a finished training to serve again."""

from importlib.metadata import version

from harness import NUMERICS


def versions() -> dict[str, str]:
    """Return them as tags of a run."""
    return {"harness.numerics": str(NUMERICS), "harness.torch": version("torch")}


def version_mark() -> str:
    """Return them as part of a file's name."""
    return f"n{NUMERICS}-torch{version('torch')}"
