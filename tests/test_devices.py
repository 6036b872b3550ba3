"""What goes to a device."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.devices import sent
from tests.watching import CPU

PACKAGE = Path(__file__).parents[1] / "harness"


def test_what_is_sent_keeps_its_bits_and_its_type() -> None:
    for values in (np.arange(6).reshape(2, 3).T, np.array([0.1, -0.0]), np.zeros(0, dtype=np.int64), torch.ones(2) > 0):
        found = sent(values, CPU)
        assert found.numpy().tobytes() == np.asarray(values).tobytes()
        assert found.numpy().dtype == np.asarray(values).dtype


def test_a_gpu_is_sent_to_from_pinned_memory_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, calls = torch.zeros(1), []
    monkeypatch.setattr(Tensor, "pin_memory", lambda _: pinned)
    monkeypatch.setattr(Tensor, "to", lambda *given, **how: calls.append((given, how)))
    gpu = torch.device("cuda:0")
    sent(np.ones(3), gpu)
    (((tensor, device), how),) = calls
    assert (tensor is pinned, device, how) == (True, gpu, {"non_blocking": True})


@pytest.mark.parametrize("place", ["data/augment.py", "data/batches.py", "tricks"])
def test_what_a_step_draws_goes_there_in_no_other_way(place: str) -> None:
    found = PACKAGE / place
    for path in [found] if found.is_file() else found.glob("*.py"):
        assert not re.search(r"\.to\([\w.]*device|\.cuda\(|torch\.tensor\(.*device=", path.read_text("utf-8")), path
