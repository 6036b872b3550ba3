"""What planning remembers: under which conditions, and that it never needs to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import facts as remembering
from harness import specfile
from harness.errors import HarnessError
from harness.facts import Facts
from harness.models.build import layout_of
from harness.planning import make_plan
from harness.spec import Model, OptimizerSpec

HEAVY = ("torch", "torchvision", "scipy", "pandas", "mlflow", "sklearn", "numpy", "matplotlib")
PRIMARY = "\nprimary: {contrasts: [{trick: mixup, policy: full}], sd: 0.01}"


class Counted:
    """A function that returns a value and counts how often it was asked."""

    def __init__(self, value: object) -> None:
        self.value, self.calls = value, 0

    def __call__(self) -> object:
        self.calls += 1
        return self.value


def asked_anew(folder: Path | None, what: str = "answer", given: object = ("a", 1)) -> bool:
    """Whether another process would have to find a fact out."""
    find = Counted([1.5, {"b": None}])
    assert Facts(folder).recall(what, given, find) == [1.5, {"b": None}]
    return find.calls == 1


def test_a_fact_is_found_out_once(tmp_path):
    assert asked_anew(tmp_path / "facts")
    assert not asked_anew(tmp_path / "facts")
    facts, find = Facts(), Counted(3)
    assert [facts.recall("number", 1, find), facts.recall("number", 1, find), find.calls] == [3, 3, 1]


@pytest.mark.parametrize("other", [{"what": "question"}, {"given": ("a", 2)}, {"given": ("a", 1.0)}])
def test_another_name_or_argument_is_another_fact(tmp_path, other):
    asked_anew(tmp_path)
    assert asked_anew(tmp_path, **other)


def test_another_torch_or_other_code_asks_anew(tmp_path, monkeypatch):
    asked_anew(tmp_path)
    before = remembering._code()
    monkeypatch.setattr(remembering, "_code", lambda: "other")
    assert asked_anew(tmp_path)
    monkeypatch.undo()
    remembering._code.cache_clear()
    monkeypatch.setattr(remembering, "version_of", {"torch": "0.1", "torchvision": "0.2"}.__getitem__)
    assert remembering._code() != before
    remembering._code.cache_clear()


def test_a_file_of_the_package_that_changes_is_other_code(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("1")
    monkeypatch.setattr(remembering, "__file__", str(tmp_path / "facts.py"))
    found = []
    for text in ("1", "2", "2\n"):
        (tmp_path / "a.py").write_text(text)
        remembering._code.cache_clear()
        found.append(remembering._code())
    remembering._code.cache_clear()
    assert len(set(found)) == 3


@pytest.mark.parametrize("content", ["", "[1.5, {", "\x00", "null"])
def test_a_broken_file_is_as_none_and_is_mended(tmp_path, content):
    asked_anew(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert asked_anew(tmp_path)
    assert not asked_anew(tmp_path)


def test_where_nothing_can_be_written_it_is_found_out_each_time(tmp_path):
    (tmp_path / "file").touch()
    assert asked_anew(tmp_path / "file" / "facts")
    assert asked_anew(tmp_path / "file" / "facts")


def test_what_is_raised_is_not_remembered(tmp_path):
    for _ in range(2):
        with pytest.raises(HarnessError, match="unknown optimizer 'sgd'"):
            Facts(tmp_path).check_optimizer(OptimizerSpec(name="sgd"), fused=False)
        with pytest.raises(HarnessError, match="vgg16 cannot be trained on images of 8 pixels"):
            Facts(tmp_path).check_image_size(Model(name="vgg16"), 3, 8)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("head", "kept_classes"), [(None, None), (None, 7), ("faster_rcnn", None)])
def test_a_layout_comes_back_as_it_was(tmp_path, head, kept_classes):
    model = Model(name="mini_resnet14", deep_stem=True, head=head)
    expected = layout_of(model, 3, kept_classes)
    assert Facts(tmp_path).layout(model, 3, kept_classes) == expected
    again = Facts(tmp_path)
    assert again.layout(model, 3, kept_classes) == expected
    assert hash(again.layout(model, 3, kept_classes)) == hash(expected)
    assert again.layout(model, 3, kept_classes) is again.layout(model, 3, kept_classes)


def test_a_plan_is_the_same_with_what_is_remembered_and_without(write_spec, workspace):
    study = specfile.read(write_spec())
    first, second = make_plan(study, workspace), make_plan(study, workspace)
    assert first == second
    assert [r.training.digest for r in first.replicates] == [r.training.digest for r in second.replicates]
    assert list(workspace.facts.iterdir())


def planned(path: Path, *options: str) -> tuple[str, list[str]]:
    """Plan in another process; returns what it prints and which heavy libraries it imported."""
    code = (
        "import json, sys; from harness.cli import main; "
        f"status = main({['plan', str(path), '--devices', 'cpu', *options]!r}); "
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr); sys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout, json.loads(done.stderr)


def test_planning_anew_imports_nothing_heavy_and_prints_the_same(write_spec, workspace):
    path = write_spec(("seeds: 2", "seeds: 2" + PRIMARY))
    first, imported = planned(path)
    assert "torch" in imported
    assert planned(path) == (first, [])
    for file in workspace.facts.iterdir():
        file.unlink()
    anew, imported = planned(path)
    assert "torch" in imported
    assert anew.splitlines()[:-1] == first.splitlines()[:-1]
    assert anew.splitlines()[-1].startswith("About ")
    facts = [json.loads(planned(path, "--json")[0]) for _ in range(2)]
    assert facts[0] == facts[1]
