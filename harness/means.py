"""What grids are run with: the executor that the command line asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, NotThere
from harness.execute import Executor
from harness.execute.devices import choose, places
from harness.plan import Plan


@dataclass(frozen=True)
class Means:
    """What grids are run with."""

    jobs: int | None = None
    """Worker processes; None for as many as fit."""
    devices: str | None = None
    inline: bool = False
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
    """Of a Ray cluster; None for the one that Ray finds."""

    def __post_init__(self) -> None:
        ours = {"--jobs": self.jobs, "--devices": self.devices, "--inline": self.inline}
        given = [flag for flag, value in ours.items() if value]
        if self.executor == "ray" and given:
            raise HarnessError(
                f"{given[0]} does not go with --executor ray: Ray places trainings by gpu_share and train.threads"
            )
        if self.executor != "ray" and self.address is not None:
            raise HarnessError(f"--address {self.address} needs --executor ray")


@contextmanager
def executor(means: Means, plan: Plan, cache: Path) -> Iterator[tuple[Executor, str]]:
    """Yield what runs the jobs of a plan, and the name of the device that its figures of speed are of.

    Raises HarnessError where the devices, or the cluster, are not there.
    """
    if means.executor == "ray":
        try:
            from harness.execute.ray import connected
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise NotThere("--executor ray needs Ray: pip install 'ablation-harness[ray]'") from None
        with connected(means.address, plan.study.spec.execution.gpu_share, _threads(plan), cache) as cluster:
            yield cluster, cluster.device
        return
    from harness.execute.inline import InlineExecutor
    from harness.execute.local import LocalExecutor

    at = places_of(plan, choose(means.devices), means.jobs)
    yield InlineExecutor(at[0]) if means.inline else LocalExecutor(at), at[0]


def places_of(plan: Plan, devices: list[str], jobs: int | None) -> list[str]:
    """Return a device's name for each job that may run on this machine at a time.

    Raises NotThere where a device cannot do what a training asks of it.
    """
    for training in chain((p.training for p in plan.prerequisites), plan.trainings.values()):
        if training.train.compile != "none":
            from harness import compute  # here, so that planning anew does not wait for torch

            compute.check(training.train, devices[0])
    return places(devices, jobs, plan.study.spec.execution.gpu_share, _threads(plan))


def _threads(plan: Plan) -> int:
    """Return the processor threads of the trainings that use most."""
    return max(scenario.spec.train.threads for scenario in plan.study.scenarios)
