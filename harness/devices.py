"""What a device is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device_name(device: torch.device | str) -> str:
    """Return what the device is called by its maker."""
    if str(device).startswith("cuda"):
        import torch  # here, since nothing else needs it to plan for a CPU

        return torch.cuda.get_device_name(device)
    return next((line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")), "CPU")


def _cpu_info() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []
