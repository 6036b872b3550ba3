"""What a spec refuses, and how it says so: file, line, value, legal values."""

import pytest
from pydantic import ValidationError

from harness import specfile
from harness.digest import plain
from harness.errors import HarnessError
from harness.freezing.policies import POLICIES
from harness.spec import Model, Train


def refusal(path, *overrides):
    with pytest.raises(HarnessError) as error:
        specfile.read(path, overrides)
    return str(error.value)


def policy(text):
    """A replacement that defines the policy `mine` inline, as `text`."""
    return "[full, head]", f"{{mine: {text}}}"


BAD = {
    # unknown names: the value, some of the legal ones, and the one that was meant
    "key": ("seeds: 2", "seeds: 2\ncolour: red", "13: colour", ["'colour'", "policies", "throughput"]),
    "key of a section": (
        "lr: 0.05, augment",
        "lr: 1, lrr: 2, augment",
        "8: train.lrr",
        ["'lrr'", "epochs", "mean 'lr'"],
    ),
    "key of a nested section": ("{flip: true", "{flpi: true", "8: train.augment.flpi", ["crop_padding", "mean 'flip'"]),
    "key of an optional section": (
        "weights:\n",
        "weights:\n  chekpoint: x\n",
        "4: weights.chekpoint",
        ["'checkpoint'"],
    ),
    "key under an optional section": (
        '{name: digits, classes: ["0"',
        '{name: digits, clases: [a], classes: ["0"',
        "5: weights.pretrain.data.clases",
        ["image_size", "mean 'classes'"],
    ),
    "key of an inline policy": (
        *policy("{phases: [{trainable: [all]}], inti: random}"),
        "9: policies.mine.inti",
        ["'inti'", "legal: phases, init, head, layer_decay, codes, about, source", "mean 'init'"],
    ),
    "key of a phase": (
        *policy("{phases: [{trainable: [all], bn_stat: [all]}]}"),
        "9: policies.mine.phases.0.bn_stat",
        ["'bn_stat'", "restart_schedule", "mean 'bn_stats'"],
    ),
    "trick": (
        "warmup: {epochs: 1}",
        "warmpu: {epochs: 1}",
        "10: tricks.warmpu",
        ["'warmpu'", "mixup", "mean 'warmup'"],
    ),
    "trick behind a label": ("mixup: }", "m: {trick: mixpu}}", "10: tricks.m.trick", ["'mixpu'", "mean 'mixup'"]),
    "parameter of a trick": (
        "{epochs: 1}, mixup",
        "{epoch: 1}, mixup",
        "10: tricks.warmup.epoch",
        ["parameter of warmup", "'epoch'", "mean 'epochs'"],
    ),
    "parameter of a trick without any": ("mixup: }", "cosine: {x: 1}}", "10: tricks.cosine.x", ["'x'", "(none)"]),
    "policy": ("[full, head]", "[full, haed]", "9: policies", ["'haed'", "full_bn_frozen", "mean 'head'"]),
    "model": ("cifar_resnet8", "cifar_resnet9", "2: model", ["'cifar_resnet9'", "resnet50", "mean 'cifar_resnet8'"]),
    "class of digits": ('"5", "6"', '"5", "six"', "7: data", ["'six'", "0, 1, 2"]),
    "data set": ("invert", "inverted", "7: data.shift.0", ["inverted", "'invert'", "'rotate90'", "'rotate180'"]),
    "trick in a design": ("[one_in]", "[{list: [[warmpu]]}]", "11: designs.0.list", ["'warmpu'", "mean 'warmup'"]),
    # wrong types
    "text for a number": ("lr: 0.05, augment", "lr: high, augment", "8: train.lr", ['"high"', "number"]),
    "quoted number": ("lr: 0.05, augment", "lr: '0.1', augment", "8: train.lr", ['"0.1"', "number"]),
    "fraction for a whole number": ("epochs: 2", "epochs: 2.5", "8: train.epochs", ["2.5", "integer"]),
    "number for a text": ("name: tiny", "name: 123", "1: name", ["123", "string"]),
    "number for a class": ('"5", "6"', '5, "6"', "7: data.classes.0", ["5", "string"]),
    "word for a truth value": ("flip: true", "flip: yes", "8: train.augment.flip", ['"yes"', "boolean"]),
    "text for a list": (
        *policy("{phases: [{trainable: all}]}"),
        "9: policies.mine.phases.0.trainable",
        ['"all"', "array"],
    ),
    "name for the list of policies": ("[full, head]", "full", "9: policies", ['"full"']),
    "numbers for policies": ("[full, head]", "[1]", "9: policies", ["[1]"]),
    "number for a trick": ("{epochs: 1}, mixup", "3, mixup", "10: tricks.warmup", ["3"]),
    "text for a trick parameter": (
        "{epochs: 1}, mixup",
        "{epochs: '1'}, mixup",
        "10: tricks.warmup.epochs",
        ['"1"', "number"],
    ),
    "word for seeds": ("seeds: 2", "seeds: two", "12: seeds", ['"two"']),
    "truth value for seeds": ("seeds: 2", "seeds: true", "12: seeds", ["true"]),
    "fraction among seeds": ("seeds: 2", "seeds: [0, 1.5]", "12: seeds.1", ["1.5", "integer"]),
    # out of range
    "negative rate": ("lr: 0.05, augment", "lr: -1, augment", "8: train.lr", ["-1", "greater than 0"]),
    "rate that is no number": ("lr: 0.05, augment", "lr: .nan, augment", "8: train.lr", ["NaN", "finite"]),
    "infinite rate": ("lr: 0.05, augment", "lr: .inf, augment", "8: train.lr", ["Infinity", "finite"]),
    "batch of none": (
        "epochs: 2, batch_size: 8",
        "epochs: 2, batch_size: 0",
        "8: train.batch_size",
        ["0", "greater than 0"],
    ),
    "trick parameter of 0": (
        "{epochs: 1}, mixup",
        "{epochs: 0}, mixup",
        "10: tricks.warmup.epochs",
        ["0", "greater than 0"],
    ),
    "phase after the end": (
        *policy("{phases: [{trainable: [all], start: 1.0}]}"),
        "9: policies.mine.phases.0.start",
        ["1.0", "less than 1"],
    ),
    "share of 1": ("shift: [invert]", "test_share: 1.0", "7: data.test_share", ["1.0", "less than 1"]),
    "negative seed": ("seeds: 2", "seeds: [-1]", "12: seeds.0", ["-1", "0"]),
    "name with a blank": ("name: tiny", "name: a b", "1: name", ["'a b'", "letters"]),
    "wrong word": (
        *policy("{phases: [{trainable: [all]}], init: zero}"),
        "9: policies.mine.init",
        ['"zero"', "'random'"],
    ),
    # empty
    "no seeds": ("seeds: 2", "seeds: []", "12: seeds", ["at least one seed"]),
    "zero seeds": ("seeds: 2", "seeds: 0", "12: seeds", ["at least one seed"]),
    "no policies": ("[full, head]", "[]", "9: policies", ["at least 1"]),
    "no phases": (*policy("{phases: []}"), "9: policies.mine.phases", ["at least 1"]),
    "no designs": ("[one_in]", "[]", "11: designs", ["at least 1"]),
    "one class": ('["5", "6", "7"]', '["5"]', "7: data.classes", ["at least 2"]),
    # twice
    "seed twice": ("seeds: 2", "seeds: [1, 1]", "12: seeds", ["twice", "[1, 1]"]),
    "policy twice": ("[full, head]", "[full, full]", "9: policies", ["twice", "full"]),
    "trick twice": ("{warmup: {epochs: 1}, mixup: }", "[mixup, mixup]", "10: tricks", ["twice", "mixup"]),
    "class twice": ('"5", "6"', '"5", "5"', "7: data", ["twice"]),
    # parts that contradict each other
    "known policy redefined": ("[full, head]", "{head: {phases: [{trainable: [all]}]}}", "9: policies", ["'head'"]),
    "two sources of weights": ("  pretrain:", "  checkpoint: x\n  pretrain:", "3: weights", ["exactly one"]),
    "digits with a root": ("shift: [invert]", "root: x", "7: data", ["`root`"]),
    "folder without a root": (
        '{name: digits, classes: ["5", "6", "7"]',
        "{name: image_folder",
        "7: data",
        ["`root`"],
    ),
    "published set without a root": (
        '{name: digits, classes: ["5", "6", "7"]',
        "{name: cifar10",
        "7: data",
        ["cifar10", "`root`"],
    ),
    "download of a folder": (
        '{name: digits, classes: ["5", "6", "7"]',
        "{name: image_folder, root: x, download: true",
        "7: data",
        ["image_folder", "download"],
    ),
    "streamed digits": (
        "image_size: 8, shift",
        "image_size: 8, stream: true, shift",
        "7: data",
        ["digits", "streamed"],
    ),
    "two kinds of crop": (
        "{flip: true, crop_padding: 1}",
        "{resized_crop: true, crop_padding: 1}",
        "8: train.augment",
        ["crop_padding", "resized_crop"],
    ),
    "digits of 9 pixels": ("image_size: 8, shift", "image_size: 9, shift", "7: data", ["9", "multiple of 8"]),
    "optimizer of no name": (
        "lr: 0.05, augment",
        "lr: 1, optimizer: {kind: SGD}, augment",
        "8: train.optimizer.kind",
        ["kind", "legal: name, options"],
    ),
}


@pytest.mark.parametrize(("old", "new", "place", "parts"), BAD.values(), ids=BAD)
def test_one_fault_is_one_line_with_place_value_and_legal_values(write_spec, old, new, place, parts):
    path = write_spec((old, new))
    message = refusal(path)
    start = f"{path}:{place}: "
    assert message.startswith(start)
    assert "\n" not in message
    for part in parts:
        assert part in message.removeprefix(start)


@pytest.mark.parametrize(
    ("old", "place", "key"),
    [
        ("name: tiny\n", "1", "name"),
        ("model: {name: cifar_resnet8}\n", "1", "model"),
        ("seeds: 2\n", "1", "seeds"),
        (", lr: 0.05, augment: {flip: true, crop_padding: 1}", "8: train", "lr"),
    ],
)
def test_missing_key_is_named_at_its_section(write_spec, old, place, key):
    path = write_spec((old, ""))
    assert refusal(path) == f"{path}:{place}: key {key!r} is missing"


def test_several_faults_are_one_error_with_one_line_each(write_spec):
    path = write_spec(("seeds: 2", "seeds: []"), ("epochs: 2", "epochs: 0"), ("name: tiny", "name: 1"))
    lines = refusal(path).splitlines()
    assert [line.removeprefix(f"{path}:").split(": ")[1] for line in lines] == ["name", "train.epochs", "seeds"]


def test_no_weights_section_may_be_empty(write_spec):
    message = refusal(write_spec(), "weights={}")
    assert all(key in message for key in ("pretrain", "torchvision", "checkpoint"))


def test_unknown_key_of_a_design_is_one_line_with_its_legal_key(write_spec):
    path = write_spec(("[one_in]", "[{lsit: [[warmup]]}]"))
    message = refusal(path)
    assert "'lsit'; legal: one_in, " in message
    assert "mean 'list'?" in message
    assert "phases" not in message
    assert "literal" not in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("mixup: }", "mixup: {alpha: .inf}}", id="trick"),
        pytest.param("{epochs: 1}, mixup", "{epochs: .inf}, mixup", id="another trick"),
        pytest.param(*policy("{phases: [{trainable: [all], lr_factor: .inf}]}"), id="phase"),
        pytest.param("shift: [invert]", "mean: [.nan, 0.5, 0.5]", id="data"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_everywhere(write_spec, old, new):
    refusal(write_spec((old, new)))


@pytest.mark.parametrize(
    "label",
    [
        *("baseline", "seed", "cell", "status", "lr", "a + b", "a | b", "", "_a"),
        *("test_top1", "images_per_s", "n", "failed", "missing", "test_top1_mean"),
    ],
)
def test_trick_labels_that_tables_could_not_tell_apart_are_refused(write_spec, label):
    path = write_spec(("mixup: }", f"{label!r}: {{trick: mixup}}}}"))
    message = refusal(path)
    assert message.startswith(f"{path}:10: tricks: {label!r}")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["a | b", "a + b", ""])
def test_policy_names_that_tables_could_not_tell_apart_are_refused(write_spec, name):
    path = write_spec(("[full, head]", f"{{{name!r}: {{phases: [{{trainable: [all]}}]}}}}"))
    assert refusal(path).startswith(f"{path}:9: policies: {name!r}")


@pytest.mark.parametrize(
    ("old", "place"),
    [("{flip: true, crop_padding: 1}", "8: train: "), ("lr: 0.05}", "6: weights.pretrain.train: ")],
)
def test_crops_that_reach_further_than_a_reflection_are_refused(write_spec, old, place):
    new = "{crop_padding: 8}" if "flip" in old else "lr: 0.05, augment: {crop_padding: 8}}"
    path = write_spec((old, new))
    message = refusal(path)
    assert message.startswith(f"{path}:{place}")
    assert "crop_padding" in message
    assert "image_size = 8" in message


def test_crops_may_reach_as_far_as_a_reflection(write_spec):
    assert specfile.read(write_spec(("crop_padding: 1", "crop_padding: 7"))).spec.train.augment.crop_padding == 7


@pytest.mark.parametrize("text", ["2e-2", "2E-2", "0.02", "+.02", "20e-3"])
def test_ways_to_write_a_number(write_spec, text):
    assert specfile.read(write_spec(("lr: 0.05, augment", f"lr: {text}, augment"))).spec.train.lr == 0.02


def test_whole_number_serves_as_fraction(write_spec):
    lr = specfile.read(write_spec(("lr: 0.05, augment", "lr: 1, augment"))).spec.train.lr
    assert isinstance(lr, float)
    assert lr == 1.0


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("[4, 1]", (4, 1)), ("1", (0,))])
def test_seeds_are_a_number_or_a_list(write_spec, text, seeds):
    assert specfile.read(write_spec(("seeds: 2", f"seeds: {text}"))).spec.seeds == seeds


def test_policies_are_known_names_or_written_out(write_spec):
    text = "{full: , mine: {phases: [{trainable: [head], lr_factor: 2}, {trainable: [all], start: 0.5}]}}"
    spec = specfile.read(write_spec(("[full, head]", text))).spec
    assert list(spec.policies) == ["full", "mine"]
    assert spec.policy("full") is POLICIES["full"]
    first, second = spec.policy("mine").phases
    assert (first.trainable, first.lr_factor, first.start) == (("head",), 2.0, 0.0)
    assert (second.trainable, second.lr_factor, second.start) == (("all",), 1.0, 0.5)
    assert spec.policy("mine").init == "pretrained"


def test_baseline_decay_falls_at_its_milestones(write_spec):
    """He et al. 2018, §2.1: ×0.1 at epochs 30, 60 and 90 of 120."""
    decay = specfile.read(write_spec()).spec.train.decay
    factors = [decay(epoch / 120, 0.0) for epoch in (0, 29, 30, 59, 60, 89, 90, 119)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_spec_cannot_be_changed(study):
    with pytest.raises(ValueError, match="frozen"):
        study.spec.train.epochs = 9


@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 5), (2, 2), (32, 64)])
def test_no_part_of_a_batch_is_a_single_image(batch_size: int, accumulate: int) -> None:
    with pytest.raises(ValidationError, match="parts of one image"):
        Train(epochs=1, batch_size=batch_size, accumulate=accumulate, lr=0.1)
    assert Train(epochs=1, batch_size=2 * accumulate, accumulate=accumulate, lr=0.1).accumulate == accumulate


@pytest.mark.parametrize(
    ("task", "head", "legal"),
    [
        ("segmentation", "none", "fcn, deeplabv3"),
        ("detection", "fcn", "faster_rcnn, ssdlite"),
        ("classification", "faster_rcnn", "none"),
    ],
)
def test_a_task_wants_a_head_of_its_own(write_spec, task, head, legal):
    model = "{name: resnet18}" if head == "none" else f"{{name: resnet18, head: {head}}}"
    path = write_spec(("model: {name: cifar_resnet8}", f"model: {model}\ntask: {task}"))
    said = f"task {task} does not fit `head: {head}` of the model; legal: {legal}"
    assert refusal(path).splitlines()[0] == f"{path}:2: model: {said}"  # below, that the images do not fit either


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("cifar_resnet8", "faster_rcnn", "a residual network with outputs at strides 4, 8, 16 and 32; legal: mini"),
        ("resnet50", "ssdlite", "a MobileNet of torchvision's; legal: mobilenet_v2, mobilenet_v3_small, mobilenet_v3"),
        ("vgg16", "fcn", "a residual network with known stages; legal: cifar_resnet8"),
    ],
)
def test_a_head_wants_a_backbone_it_fits(write_spec, name, head, said):
    path = write_spec(("{name: cifar_resnet8}", f"{{name: {name}, head: {head}}}"))
    assert refusal(path).startswith(f"{path}:2: model: {name} cannot be the backbone of {head}, which wants {said}")


def test_a_network_with_stages_of_ones_own_has_no_head(write_spec):
    stages = "{features: [features], head: [classifier]}"
    path = write_spec(("{name: cifar_resnet8}", f"{{name: convnext_tiny, stages: {stages}, head: fcn}}"))
    assert "convnext_tiny cannot be the backbone of fcn" in refusal(path)


def test_a_classification_network_is_what_it_was_before_there_were_heads():
    """So that trainings of before keep their identity."""
    assert "head" not in plain(Model(name="resnet18"))
    assert plain(Model(name="resnet18", head="fcn")) == {**plain(Model(name="resnet18")), "head": "fcn"}
