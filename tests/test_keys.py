"""`harness keys`: every key of a spec, with its default and what it means."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from harness import cli
from harness.exits import BAD_INPUT, DONE
from harness.keys import keys

EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))
OF_ONES_OWN = ("policies", "tricks", "axes", "exclude", "require", "model.stages", "train.optimizer.options")
"""Keys under which users choose names."""


def test_every_key_says_what_it_means() -> None:
    assert [key.path for key in keys() if not key.about.endswith(".")] == []


def test_defaults_are_as_yaml_writes_them() -> None:
    said = {key.path: key.default for key in keys()}
    assert said["data.image_size"] == "32"
    assert said["train.epochs"] == "required"
    assert said["train.fused"] == "false"
    assert said["weights"] == "null"
    assert said["data.mean"] == "[0.485, 0.456, 0.406]"
    assert said["train.decay"] == ""  # its keys have theirs
    assert "None" not in " ".join(key.about for key in keys())


def test_legal_words_are_told() -> None:
    (compile_,) = keys("train.compile")
    assert "Legal: none, default, reduce-overhead" in compile_.about
    assert "oxford_iiit_pet" in keys("data.name")[0].about


def test_a_section_is_its_keys_alone() -> None:
    assert {key.path.partition(".")[0] for key in keys("tune")} == {"tune"}
    assert [key.path for key in keys("tune")] == ["tune", "tune.lr", "tune.seeds"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_what_the_studies_write_is_listed(path: Path) -> None:
    known = {key.path for key in keys()}

    def written(value: object, prefix: str = "") -> set[str]:
        if not isinstance(value, dict) or prefix.startswith(OF_ONES_OWN):
            return {prefix.rstrip(".")}
        again = prefix.removeprefix("weights.pretrain.") or prefix  # a source task's keys are the study's
        return set().union(*(written(inner, f"{again}{key}.") for key, inner in value.items())) if value else set()

    found = {name for name in written(YAML(typ="safe").load(path.read_text())) if not name.startswith(OF_ONES_OWN)}
    assert found <= known


def test_the_command_prints_them_and_knows_what_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "tune"]) == DONE
    first, *_ = capsys.readouterr().out.splitlines()
    assert " ".join(first.split()) == "tune null null gives every cell the learning rate of `train`."
    assert cli.main(["keys", "trian"]) == BAD_INPUT
    assert "train" in capsys.readouterr().err
