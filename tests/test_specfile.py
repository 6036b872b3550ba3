"""Reading a spec: what can be wrong with the file, overrides, levels of tricks, paths, the identity of a grid."""

from dataclasses import asdict
from pathlib import Path

import pytest

from harness import specfile
from harness.errors import HarnessError
from harness.tricks.cosine import CosineTrick
from harness.tricks.mixup import MixupTrick
from harness.tricks.warmup import WarmupTrick

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FOLDER = 'data: {name: digits, classes: ["5", "6", "7"], image_size: 8, shift: [invert], train_per_class: 8}'
"""The target data of the tiny spec, to be replaced by an image folder."""


def refusal(path, *overrides):
    with pytest.raises(HarnessError) as error:
        specfile.read(path, overrides)
    return str(error.value)


def grid(path, *overrides):
    return specfile.read(path, overrides).grid


# What can be wrong with the file as a whole.


def test_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "none.yaml") == f"cannot read spec {tmp_path / 'none.yaml'}: No such file or directory"


def test_directory_is_no_spec(tmp_path):
    assert refusal(tmp_path) == f"cannot read spec {tmp_path}: Is a directory"


def test_file_that_is_no_utf8(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: Größe\n".encode("latin-1"))
    message = refusal(path)
    assert message.startswith(f"cannot read spec {path}: ")
    assert "UTF-8" in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: tiny\nseeds: [2\nmodel: x\n", 3),
        ("name: tiny\n\tseeds: 2\n", 2),
        ("name: tiny\nabout: 'x\n", 3),
        ("name: a: b\n", 1),
        ("name: tiny\n---\nname: tiny\n", 2),
        ("name: *nobody\n", 1),
    ],
    ids=["open list", "tab", "open quote", "two colons", "two documents", "unknown anchor"],
)
def test_broken_yaml_names_its_line(tmp_path, text, line):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: no valid YAML: ")
    assert "\n" not in message


def test_control_character_is_broken_yaml(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_bytes(b"name: a\x00b\n")
    assert refusal(path).startswith(f"{path}: no valid YAML: ")


def test_key_written_twice_is_refused(write_spec):
    """Where the last one wins in silence, a study is not the one that was read."""
    path = write_spec(("seeds: 2", "seeds: 2\nseeds: 3"))
    message = refusal(path)
    assert message.startswith(f"{path}:13: ")
    assert '"seeds"' in message


def test_key_written_twice_in_a_section_is_refused(write_spec):
    path = write_spec(("lr: 0.05, augment", "lr: 0.05, lr: 0.1, augment"))
    assert refusal(path).startswith(f"{path}:8: ")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- name\n- model\n", "tiny\n", "3\n"])
def test_file_that_is_no_mapping_names_the_keys(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert all(key in message for key in ("name", "model", "policies", "seeds"))


@pytest.mark.parametrize("text", ["1: 2\n", "null: 2\n", "true: 2\n"])
def test_keys_that_are_no_names_are_unknown_keys(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    assert f"unknown key {text.split(':')[0]!r}" in refusal(path)


@pytest.mark.parametrize(
    "text",
    ["name: 2024-02-30\n", "name: !!int tiny\n", "? [a, b]\n: c\n"],
    ids=["no date", "no number", "list as key"],
)
def test_yaml_that_makes_no_value_is_an_error_of_the_user(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    assert str(path) in refusal(path)


# Overrides.


def test_override_wins_over_the_file(write_spec):
    spec = specfile.read(write_spec(), ["train.lr=2e-2", "seeds=[7]", "train.augment.flip=false", "name=other"]).spec
    assert (spec.train.lr, spec.seeds, spec.train.augment.flip, spec.name) == (0.02, (7,), False, "other")
    assert spec.train.epochs == 2  # its neighbours stay


def test_last_override_of_a_key_wins(write_spec):
    assert specfile.read(write_spec(), ["train.lr=1", "train.lr=2"]).spec.train.lr == 2.0


def test_overrides_are_kept_with_the_study(write_spec):
    assert specfile.read(write_spec(), ["seeds=3", "name=x"]).overrides == ("seeds=3", "name=x")


def test_override_adds_an_optional_section(write_spec):
    study = specfile.read(write_spec(), ["train.decay.factor=0.5", "tricks.cosine="])
    assert study.spec.train.decay.factor == 0.5
    assert study.spec.train.decay.milestones == (0.25, 0.5, 0.75)
    assert list(study.tricks) == ["warmup", "mixup", "cosine"]


def test_override_removes_an_optional_section(write_spec):
    assert specfile.read(write_spec(), ["weights=null"]).spec.weights is None


def test_override_replaces_a_whole_section(write_spec):
    spec = specfile.read(write_spec(), ["policies=[head_bn]", "tricks={m: {trick: mixup, alpha: 1}}"]).spec
    assert list(spec.policies) == ["head_bn"]
    assert list(spec.tricks) == ["m"]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.lr", ["a.b=value"]),
        ("=3", ["a.b=value"]),
        ("", ["a.b=value"]),
        ("train.lr=[1", ["'[1'", "YAML"]),
        ("name.x=1", ["'name'", "no section"]),
        ("seeds.a=1", ["'seeds'", "no section"]),
        ("policies.mine=1", ["'policies'", "no section"]),
        ("train.lr.x=1", ["'lr'", "no section"]),
    ],
)
def test_override_that_cannot_be_read_or_placed(write_spec, override, parts):
    message = refusal(write_spec(), override)
    assert message.startswith(f"--set {override}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.lr=high", ['"high"', "number"]),
        ("train.lr=", ["null", "number"]),
        ("train.lrr=1", ["'lrr'", "mean 'lr'"]),
        ("colour=red", ["'colour'", "policies"]),
        ("colour.deep=red", ["'colour'", "policies"]),
        ("train.decay.fctor=0.5", ["'fctor'", "milestones"]),
        ("train.decay.factor=5", ["5", "less than or equal to 1"]),
        ("throughput.rounds=0", ["0", "greater than 0"]),
        ("policies=[haed]", ["'haed'", "mean 'head'"]),
        ("seeds=[]", ["at least one seed"]),
        ("tricks=[warmpu]", ["'warmpu'", "mean 'warmup'"]),
        ("tricks.warmup.epochs=0", ["0", "greater than 0"]),
        ("tricks.warmup.epoch=1", ["'epoch'", "epochs"]),
        ("data.name=image_net", ['"image_net"', "'digits'", "'image_folder'"]),
    ],
)
def test_bad_value_of_an_override_is_placed_on_the_command_line(write_spec, override, parts):
    path = write_spec()
    message = refusal(path, override)
    assert message.startswith(f"--set {override}: ")
    assert str(path) not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "override", ["model.name=foo", "data.image_size=9", "train.epochs=0", "weights.torchvision=X", "train..lr=1"]
)
def test_override_that_a_section_refuses_is_placed_on_the_command_line(write_spec, override):
    assert refusal(write_spec(), override).startswith(f"--set {override}: ")


@pytest.mark.parametrize("override", ["name=2024-02-30", "name=!!int tiny", "about=&a [*a]"])
def test_override_that_makes_no_value_is_an_error_of_the_user(write_spec, override):
    assert refusal(write_spec(), override).startswith(f"--set {override}: ")


def test_override_beside_a_fault_of_the_file_is_not_blamed(write_spec):
    path = write_spec(("image_size: 8, shift", "image_size: 9, shift"))
    assert refusal(path, "data.train_per_class=4").startswith(f"{path}:7: ")


def test_each_bad_override_is_named(write_spec):
    message = refusal(write_spec(), "train.lr=-1", "train.epochs=0")
    assert "--set train.lr=-1: " in message
    assert "--set train.epochs=0: " in message


# Lists and mappings, and several levels of one trick.


def test_tricks_as_a_list_are_tricks_with_their_defaults(write_spec):
    as_list = specfile.read(write_spec(("{warmup: {epochs: 1}, mixup: }", "[warmup, mixup]")))
    as_mapping = specfile.read(write_spec(("{warmup: {epochs: 1}, mixup: }", "{warmup: , mixup: }")))
    assert as_list.tricks == as_mapping.tricks == {"warmup": WarmupTrick(epochs=5.0), "mixup": MixupTrick(alpha=0.2)}


def test_no_tricks_at_all(write_spec):
    assert specfile.read(write_spec(("tricks: {warmup: {epochs: 1}, mixup: }\n", ""))).tricks == {}
    assert specfile.read(write_spec(("{warmup: {epochs: 1}, mixup: }", "{}"))).tricks == {}


def test_one_trick_at_several_levels(write_spec):
    levels = "{weak: {trick: mixup, alpha: 0.1}, strong: {trick: mixup, alpha: 1}, mixup: , cosine: }"
    tricks = specfile.read(write_spec(("{warmup: {epochs: 1}, mixup: }", levels))).tricks
    assert tricks == {
        "weak": MixupTrick(0.1),
        "strong": MixupTrick(1.0),
        "mixup": MixupTrick(),
        "cosine": CosineTrick(),
    }
    assert list(tricks) == ["weak", "strong", "mixup", "cosine"]  # the order of the spec


def test_trick_parameters_are_read_as_numbers(write_spec):
    trick = specfile.read(write_spec(("{epochs: 1}", "{epochs: 5e-1}"))).tricks["warmup"]
    assert asdict(trick) == {"epochs": 0.5}  # type: ignore[call-overload]


# Paths.


def test_paths_are_relative_to_the_folder_of_the_spec(write_spec, workspace, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    path = write_spec(
        (FOLDER, "data: {name: image_folder, root: photos}"),
        ('data: {name: digits, classes: ["0", "1", "2"], image_size: 8', "data: {name: image_folder, root: ../source"),
    )
    spec = specfile.read(path).spec
    here = workspace.root / "experiments"
    assert spec.data.root == str(here / "photos")
    assert spec.weights
    assert spec.weights.pretrain
    assert spec.weights.pretrain.data.root == str(workspace.root / "source")


def test_checkpoint_is_relative_to_the_folder_of_the_spec(write_spec, workspace):
    spec = specfile.read(write_spec(), ["weights={checkpoint: nets/a.pt}"]).spec
    assert spec.weights
    assert spec.weights.checkpoint == str(workspace.root / "experiments" / "nets/a.pt")


def test_absolute_paths_stay(write_spec, tmp_path):
    spec = specfile.read(write_spec((FOLDER, f"data: {{name: image_folder, root: {tmp_path}/photos}}"))).spec
    assert spec.data.root == f"{tmp_path}/photos"


def test_spec_is_found_by_a_relative_path(write_spec, workspace, monkeypatch):
    path = write_spec((FOLDER, "data: {name: image_folder, root: photos}"))
    monkeypatch.chdir(path.parent)
    relative = specfile.read(path.relative_to(path.parent)).spec
    assert relative.data.root == str(workspace.root / "experiments" / "photos")


# The identity of a grid.

STUDIES = {
    "bag_of_tricks": "5982cf3e36b9b776",
    "bn_batch_size": "95e32822815a8b75",
    "bn_frozen_rates": "8ead0ff6ebb4cd40",
    "cifar10_transfer": "56c1a0a64a63eff8",
    "cs231n_scenarios": "9ca9a52d6f2f57aa",
    "cs231n_scenarios_cifar10": "1f8bd304d0e9b0b2",
    "detection_digits": "86e5bafa100abdc1",
    "freeze_policies": "abe90edaacfde6d5",
    "freeze_x_tricks": "62adbb930c68da67",
    "freeze_x_tricks_cifar10": "7dd52212625169d0",
    "quickstart": "a4d857e48302cc37",
    "segmentation_digits": "6d26567790d566cd",
    "transfer_table": "0c56db7905b9c482",
}
"""The grids of the studies that were run before; one that asks something else now has another."""
GOLDEN_GRID = "7959e9be5ad9fae3"
"""The grid of the tiny spec. Reports find a study by it: a change orphans every study that was run before."""


def test_grid_of_the_tiny_spec_is_what_it_always_was(study):
    assert study.grid == GOLDEN_GRID


@pytest.mark.parametrize("name", STUDIES)
def test_grids_of_the_studies_are_what_they_always_were(name):
    assert grid(EXPERIMENTS / f"{name}.yaml") == STUDIES[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: tiny", "# a comment\nname:    tiny   # another"),
        ("name: tiny", 'name: "tiny"\nabout: what it asks'),
        ("lr: 0.05", "lr: 5e-2"),
        ("model: {name: cifar_resnet8}", "model:\n  name: cifar_resnet8"),
        ("image_size: 8, shift: [invert]", "shift: [invert], image_size: 8"),
    ],
    ids=["comments", "about", "exponent", "block style", "order of keys"],
)
def test_grid_is_not_the_way_it_is_written(write_spec, old, new):
    assert grid(write_spec((old, new))) == GOLDEN_GRID


def test_grid_is_not_the_name_of_the_file(write_spec):
    assert grid(write_spec(name="other")) == GOLDEN_GRID


def test_override_with_what_the_file_says_changes_nothing(write_spec):
    assert grid(write_spec(), "train.lr=0.05", "about=x") == GOLDEN_GRID


def test_grid_is_not_how_often_a_checkpoint_is_made(write_spec):
    assert (
        grid(write_spec(), "execution.checkpoint_s=0") == grid(write_spec(), "execution.gpu_share=0.5") == GOLDEN_GRID
    )


def test_grid_is_not_how_long_speed_is_probed(write_spec):
    assert grid(write_spec(), "throughput.rounds=3") == GOLDEN_GRID
    assert grid(write_spec(("throughput: {rounds: 2, steps: 1}\n", ""))) == GOLDEN_GRID


CHANGES = [
    "name=other",
    "model.name=cifar_resnet20",
    "weights=null",
    "weights.pretrain.seed=1",
    "weights.pretrain.train.lr=0.1",
    "weights.pretrain.data.train_per_class=9",
    "data.classes=['5', '6']",
    "data.classes=['6', '5', '7']",
    "data.image_size=16",
    "data.shift=[]",
    "data.train_per_class=9",
    "data.split_seed=1",
    "data.mean=[0.5, 0.5, 0.5]",
    "train.epochs=3",
    "train.batch_size=4",
    "train.lr=0.06",
    "train.weight_decay=0.1",
    "train.decay.factor=0.2",
    "train.augment.flip=false",
    "train.threads=2",
    "policies=[full]",
    "policies=[full, head_bn]",
    "policies={mine: {phases: [{trainable: [all]}]}}",
    "policies={mine: {phases: [{trainable: [head]}]}}",
    "tricks=[warmup]",
    "tricks.warmup.epochs=1.5",
    "tricks.mixup={alpha: 0.3}",
    "tricks.cosine=",
    "designs=[all]",
    "designs=[{list: [[warmup]]}]",
    "designs=[{list: [[mixup]]}]",
    "seeds=3",
    "seeds=[1, 2]",
    "designs=[factorial]",
    "designs=[{factorial: [warmup]}]",
    "designs=[{fractional: {resolution: 3}}]",
    "designs=[{fractional: {runs: 4}}]",
    "designs=[{cumulative: {orders: 2}}]",
    "designs=[{cumulative: {orders: 2, seed: 1}}]",
    "exclude=[{policy: head, tricks: [mixup]}]",
    "exclude=[{policy: head, tricks: [mixup], about: why}]",
    "require=[{policy: head, needs: [mixup]}]",
]


@pytest.mark.parametrize("override", CHANGES)
def test_grid_changes_with_any_value(write_spec, override):
    assert grid(write_spec(), override) != GOLDEN_GRID


def test_every_change_is_a_grid_of_its_own(write_spec):
    path = write_spec()
    assert len({grid(path, override) for override in CHANGES}) == len(CHANGES)


def test_override_and_file_give_the_same_grid(write_spec):
    by_override = grid(write_spec(), "train.lr=0.06")
    assert by_override == grid(write_spec(("lr: 0.05, augment", "lr: 0.06, augment")))


def test_grid_stays_when_the_workspace_moves(write_spec, tmp_path):
    path = write_spec((FOLDER, "data: {name: image_folder, root: photos}"))
    moved = tmp_path / "moved" / path.name
    moved.parent.mkdir()
    moved.write_text(path.read_text())
    assert grid(moved) == grid(path)


@pytest.mark.parametrize("words", ["about: some words", "source: a paper"])
def test_grid_is_not_what_is_said_about_an_inline_policy(write_spec, words):
    plain = grid(write_spec(), "policies={mine: {phases: [{trainable: [all]}]}}")
    assert grid(write_spec(), f"policies={{mine: {{{words}, phases: [{{trainable: [all]}}]}}}}") == plain


@pytest.mark.parametrize("text", ["[" * 2000, "seeds: 99999999999\n"], ids=["too deep", "too many seeds"])
def test_spec_that_would_exhaust_the_machine_is_refused(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    assert str(path) in refusal(path)


def test_override_into_an_empty_spec_is_an_error_of_the_user(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("{}\n")
    assert "--set name.b=x" in refusal(path, "name.b=x")


def test_a_value_inside_a_list_is_placed_there(write_spec):
    for tricks, said in (
        ("{random_erasing: {scale: [0.1]}}", r"tricks\.random_erasing\.scale: value 2 is missing"),
        ("{random_erasing: {value: [0, 0, 256]}}", r"tricks\.random_erasing\.value\.2: 256 should be less than"),
    ):
        with pytest.raises(HarnessError, match=rf"tiny\.yaml:10: {said}"):
            specfile.read(write_spec(("tricks: {warmup: {epochs: 1}, mixup: }", f"tricks: {tricks}")))
