"""Which device trains, and how many jobs fit it."""

import os

import torch

from harness.errors import HarnessError


def choose(name: str | None) -> torch.device:
    """Return the device called `name`, or CUDA where there is one; raises HarnessError for one that is not there."""
    cuda = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if cuda else "cpu"))
    except RuntimeError:
        raise HarnessError(f"unknown device {name!r}; legal: cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise HarnessError(f"unknown device {name!r}; legal: cpu, cuda, cuda:N")
    if device.type == "cuda" and (not cuda or (device.index or 0) >= torch.cuda.device_count()):
        raise HarnessError(f"device {name!r} is not there; torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def default_jobs(device: torch.device, threads: int) -> int:
    """Return one job for a GPU, and on the CPU as many as its cores carry at `threads` each."""
    if device.type == "cuda":
        return 1
    # Not every system can say which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)
