"""What a device is called, and how numbers get there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


def sent(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return `values` of this machine's memory on a device; a GPU is not waited for, as a plain copy would."""
    import torch  # here, as below, since nothing else needs it to plan for a CPU

    tensor = torch.as_tensor(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def device_name(device: torch.device | str) -> str:
    """Return what the device is called by its maker."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return next((line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")), "CPU")


def _cpu_info() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []
