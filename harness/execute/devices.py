"""Which devices train, and how many jobs each carries at a time."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.errors import NotThere

LEGAL = "cpu, cuda (every GPU), cuda:N, or several with commas"
_DRIVERS = ("nvidia*", "nvhost*", "kfd", "dxg")
"""What Linux has in /dev where torch may see a GPU: NVIDIA's, that of its Tegra, AMD's, and that of Windows below."""


def choose(names: str | None) -> list[str]:
    """Return the devices named, such as `cuda:0,cuda:2`, or every GPU there is, else the CPU.

    Raises NotThere for one that is not there, or that is named twice.
    """
    count = 0 if names == "cpu" else _gpus()
    given = names or ("cuda" if count else "cpu")
    devices = [device for name in given.split(",") for device in _devices(name.strip(), count)]
    if len(set(devices)) < len(devices):
        raise NotThere(f"a device is named twice in {names!r}")
    if "cpu" in devices and len(devices) > 1:
        raise NotThere(f"{names!r} mixes the CPU and GPUs, whose bits differ")
    return devices


def _gpus() -> int:
    """Return how many GPUs torch sees; importing it takes seconds, so it is asked only where there may be one."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if hidden or (sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in _DRIVERS)):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _devices(name: str, count: int) -> Iterator[str]:
    kind, colon, index = name.partition(":")
    if name == "cpu":
        yield name
        return
    if kind != "cuda" or (colon and not index.isdecimal()):
        raise NotThere(f"unknown device {name!r}; legal: {LEGAL}")
    if int(index or 0) >= count:
        raise NotThere(f"device {name!r} is not there; torch sees {count} CUDA devices")
    yield from (f"cuda:{number}" for number in ([int(index)] if colon else range(count)))


def places(devices: list[str], jobs: int | None, gpu_share: float, threads: int) -> list[str]:
    """Return a device's name for each job that may run at a time, `jobs` at most, GPUs taking turns.

    A job takes `gpu_share` of a GPU, or `threads` cores of the CPU.
    """
    if devices[0] == "cpu":
        return ["cpu"] * (jobs or max(1, _cores() // threads))
    per_gpu = int(1 / gpu_share + 1e-9)  # 1 / (1 / 3) is a little below 3
    return [device for _ in range(per_gpu) for device in devices][:jobs]


def _cores() -> int:
    # Not every system can say which cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
