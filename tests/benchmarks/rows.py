"""What is compared: the harness and each peer, as its documentation shows it and tuned; and where each runs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(REPOSITORY)}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Arguments = Callable[[Path, Path], list[str]]
"""From the folder of a grid and that of a row, what follows `python -m`."""


@dataclass(frozen=True)
class Row:
    """One way to train a grid."""

    name: str
    variant: str
    arguments: Arguments
    environment: str = "own"
    """Whose packages it has: the harness' own, or one of `REQUIREMENTS`."""
    packages: tuple[str, ...] = ("torch",)
    """Whose versions are told."""
    variables: dict[str, str] = field(default_factory=dict)
    ours: bool = False

    @property
    def label(self) -> str:
        """Its name in files."""
        return f"{self.name}-{self.variant}".replace(" ", "_")


def harness(*more: str) -> Arguments:
    """Return the command line of the harness in a workspace of its own, which begins empty."""
    return lambda grid, out: ["harness", "run", str(out / "experiments" / f"{grid.name}.yaml"), *more]


def _peer(module: str, variant: str) -> Arguments:
    return lambda grid, out: [f"tests.benchmarks.peers.{module}", str(grid / "work.json"), str(out), variant]


def _both(name: str, module: str, environment: str, packages: tuple[str, ...]) -> list[Row]:
    return [
        Row(name, "documented", _peer(module, "documented"), environment, packages),
        Row(name, "tuned", _peer(module, "tuned"), environment, packages, ONE_THREAD),
    ]


PLAIN_PATH = ("--set", "execution.reuse=false")
ROWS = [
    Row("harness", "default", harness(), ours=True),
    Row("harness", "nothing reused", harness(*PLAIN_PATH), ours=True),
    *_both("plain", "plain", "own", ("torch", "torchvision")),
    *_both("lightning", "lightning_hydra", "lightning", ("torch", "lightning", "hydra-core")),
    *_both("timm", "timm_script", "own", ("torch", "timm")),
    *_both("ray", "ray_tune", "own", ("torch", "ray")),
    *_both("composer", "composer_trainer", "composer", ("torch", "mosaicml")),
]
REQUIREMENTS = {"lightning": ("requirements.txt", True), "composer": ("requirements-composer.txt", False)}
"""The file of each environment, and whether it sees the harness' own packages."""


class Absent(Exception):
    """An environment could not be made."""


def interpreter(environment: str, folder: Path) -> Path:
    """Return the Python of an environment, which is made under `folder` where it is missing; Absent says why not."""
    if environment == "own":
        return Path(sys.executable)
    place = folder / environment
    python, whole = place / "bin" / "python", place / "whole"
    if not whole.exists():
        requirements, shares = REQUIREMENTS[environment]
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        if shares:
            inside = place / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages" / "harness.pth"
            inside.write_text(sysconfig.get_path("purelib") + "\n")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        constraints = ["--constraint", str(REPOSITORY / "constraints.txt")] if shares else []
        made = subprocess.run(
            [*install, *constraints, "--requirement", str(PEERS / requirements)], capture_output=True, text=True
        )
        if made.returncode:
            errors = [line for line in made.stderr.splitlines() if line.startswith("ERROR")]
            raise Absent(errors[-1] if errors else f"pip ended with {made.returncode}")
        whole.touch()
    return python


def versions(packages: Sequence[str], python: Path) -> str:
    """Return the versions of packages in an environment, as it is told which."""
    script = "import sys; from importlib.metadata import version; print(*(f'{p} {version(p)}' for p in sys.argv[1:]))"
    return subprocess.run([python, "-c", script, *packages], capture_output=True, text=True, check=True).stdout.strip()
