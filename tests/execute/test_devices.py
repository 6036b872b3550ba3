import pytest

from harness.errors import HarnessError
from harness.execute import devices
from harness.execute.devices import choose, places

CPU = ["cpu"]


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr(devices, "_DRIVERS", ("null",))  # which every Linux has
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return ["cuda:0", "cuda:1", "cuda:2"]


def test_cpu_is_there() -> None:
    assert choose("cpu") == CPU


@pytest.mark.usefixtures("three_gpus")
def test_every_gpu_is_the_default(three_gpus: list[str]) -> None:
    assert choose(None) == choose("cuda") == three_gpus
    assert choose("cuda:2, cuda:0") == [three_gpus[2], three_gpus[0]]
    assert choose("cpu") == CPU


@pytest.mark.usefixtures("three_gpus")
def test_the_cpu_is_the_default_where_torch_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose(None) == CPU


@pytest.mark.usefixtures("three_gpus")
def test_torch_is_asked_only_where_there_may_be_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it would say that there are three."""
    with monkeypatch.context() as patch:
        patch.setattr(devices, "_DRIVERS", ("no such driver",))
        patch.setattr("sys.platform", "linux")
        assert choose(None) == CPU
        with pytest.raises(HarnessError, match="'cuda:0' is not there; torch sees 0 CUDA devices"):
            choose("cuda:0")
        patch.setattr("sys.platform", "win32")
        assert len(choose(None)) == 3
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert choose(None) == CPU
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert len(choose(None)) == 3


@pytest.mark.parametrize("name", ["tpu", "mps", "nonsense:1", "cuda:99", "cpu,cpu", "cpu,"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(HarnessError, match=name.partition(",")[0] or "''"):
        choose(name)


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize("names", ["cuda:3", "cuda:0,cuda:0", "cuda,cuda:1", "cpu,cuda:1"])
def test_a_gpu_is_named_once_and_goes_with_no_cpu(names: str) -> None:
    with pytest.raises(HarnessError, match=names):
        choose(names)


def test_jobs_fill_the_cores_at_the_threads_of_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert [len(places(CPU, None, 1.0, threads)) for threads in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert places(CPU, 3, 1.0, 16) == ["cpu"] * 3


def test_gpus_take_turns_and_are_shared_as_the_spec_says() -> None:
    two = ["cuda:0", "cuda:2"]
    assert places(two, None, 1.0, 1) == ["cuda:0", "cuda:2"]
    assert places(two, None, 0.5, 1) == ["cuda:0", "cuda:2"] * 2
    assert places(two, 3, 0.5, 1) == ["cuda:0", "cuda:2", "cuda:0"]
    assert len(places(two, None, 1 / 3, 1)) == 6
    assert len(places(two, None, 0.4, 1)) == 4
