"""What grids are run with: options that go together, and Ray only where it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.execute.inline import InlineExecutor
from harness.execute.local import LocalExecutor
from harness.means import Means, executor
from harness.plan import Plan


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"jobs": 2}, "--jobs does not go with --executor ray"),
        ({"devices": "cpu"}, "--devices does not"),
        ({"inline": True}, "--inline does not"),
    ],
)
def test_what_says_where_on_this_machine_does_not_go_with_ray(given: dict[str, object], words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        Means(executor="ray", **given)  # type: ignore[arg-type]


def test_address_is_of_a_ray_cluster() -> None:
    with pytest.raises(HarnessError, match="--address head:6379 needs --executor ray"):
        Means(address="head:6379")


def test_local_by_default_and_on_the_devices_named(plan: Plan, tmp_path: Path) -> None:
    with executor(Means(jobs=2, devices="cpu"), plan, tmp_path) as (found, device):
        assert isinstance(found, LocalExecutor)
        assert device == "cpu"
    with executor(Means(inline=True, devices="cpu"), plan, tmp_path) as (found, _):
        assert isinstance(found, InlineExecutor)


def test_without_ray_it_says_what_to_install(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "harness.execute.ray", raising=False)
    with pytest.raises(HarnessError, match=r"pip install 'ablation-harness\[ray\]'"), ray_of(plan, tmp_path):
        pass


def ray_of(plan: Plan, cache: Path):
    return executor(Means(executor="ray"), plan, cache)


def test_ray_is_imported_for_nobody_else() -> None:
    code = "import sys, harness.cli, harness.session, harness.means; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
