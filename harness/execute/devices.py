"""Which devices train, and how many jobs each carries at a time."""

import os
from collections.abc import Iterator

import torch

from harness.errors import NotThere

LEGAL = "cpu, cuda (every GPU), cuda:N, or several with commas"


def choose(names: str | None) -> list[torch.device]:
    """Return the devices named, such as `cuda:0,cuda:2`, or every GPU there is, else the CPU.

    Raises NotThere for one that is not there, or that is named twice.
    """
    devices = [device for name in (names or _default()).split(",") for device in _devices(name.strip())]
    if len(set(devices)) < len(devices):
        raise NotThere(f"a device is named twice in {names!r}")
    if len({device.type for device in devices}) > 1:
        raise NotThere(f"{names!r} mixes the CPU and GPUs, whose bits differ")
    return devices


def _default() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _devices(name: str) -> Iterator[torch.device]:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise NotThere(f"unknown device {name!r}; legal: {LEGAL}") from None
    if device == torch.device("cpu"):
        yield device
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type != "cuda":
        raise NotThere(f"unknown device {name!r}; legal: {LEGAL}")
    if (device.index or 0) >= count:
        raise NotThere(f"device {name!r} is not there; torch sees {count} CUDA devices")
    for index in range(count) if device.index is None else [device.index]:
        yield torch.device("cuda", index)


def places(devices: list[torch.device], jobs: int | None, gpu_share: float, threads: int) -> list[str]:
    """Return a device's name for each job that may run at a time, `jobs` at most, GPUs taking turns.

    A job takes `gpu_share` of a GPU, or `threads` cores of the CPU.
    """
    if devices[0].type == "cpu":
        return ["cpu"] * (jobs or max(1, _cores() // threads))
    per_gpu = int(1 / gpu_share + 1e-9)  # 1 / (1 / 3) is a little below 3
    return [str(device) for _ in range(per_gpu) for device in devices][:jobs]


def _cores() -> int:
    # Not every system can say which cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
