import pytest
import torch

from harness.errors import HarnessError
from harness.execute.devices import choose, default_jobs


def test_cpu_is_there() -> None:
    assert choose("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "mps", "nonsense:1", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(HarnessError, match=name):
        choose(name)


def test_jobs_fill_the_cores_at_the_threads_of_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    cpu = torch.device("cpu")
    assert [default_jobs(cpu, threads) for threads in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert default_jobs(torch.device("cuda"), 1) == 1
