"""What a device is called."""

import torch


def device_name(device: torch.device) -> str:
    """Return what the device is called by its maker."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return next((line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")), "CPU")


def _cpu_info() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []
