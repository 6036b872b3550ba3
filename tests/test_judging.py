"""Judgements: what is said of each cell before it runs, and what becomes of it."""

import pytest

from harness import specfile
from harness.errors import HarnessError
from harness.planning import make_plan
from harness.tricks import TRICKS
from tests.watching import run

MINI = "model={name: mini_resnet14, variant: a}"
"""A network that every surgery has a meaning for; its smallest images are 8 px."""
LONG = "train.epochs=6"
"""Long enough for the default warmup of five epochs."""


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study with overrides."""
    return lambda *overrides: make_plan(specfile.read(write_spec(), overrides), workspace)


def verdicts(plan):
    return {j.cell.name: j.verdict for j in plan.judgements}


def reasons(plan, verdict):
    return {j.cell.name: j.reason for j in plan.judgements if j.verdict == verdict}


def cells(plan):
    return [cell.name for cell in plan.programs]


def training(plan, cell):
    return next(r.training for r in plan.replicates if r.cell.name == cell)


def test_what_means_something_is_valid_without_a_word(planned):
    plan = planned("tricks=[warmup, cosine, label_smoothing, mixup, cutmix, ema, random_erasing]", LONG)
    assert set(verdicts(plan).values()) == {"valid"}
    assert not any(j.reason for j in plan.judgements)


# No effect.


@pytest.mark.parametrize(
    ("trick", "overrides"),
    [
        ("linear_scaling: {reference: 8}", []),
        ("linear_scaling: {reference: 24}", ["train.batch_size=24"]),
        ("no_bias_decay: ", ["train.weight_decay=0"]),
        ("warmup: {epochs: 0.1}", []),
        ("resnet_b: ", ["model={name: mini_resnet14}"]),  # it strides in its 3×3 already
        ("resnet_d: {where: source}", ["weights=null"]),
    ],
)
def test_a_trick_without_effect_is_a_noop_that_shares_the_baselines_runs(planned, trick, overrides):
    plan = planned(f"tricks={{{trick}}}", "policies=[full]", *overrides)
    name = trick.partition(":")[0]
    assert reasons(plan, "noop") == {f"full | {name}": "the same training as 'full | baseline', whose runs it shares"}
    assert (len(plan.replicates), len(plan.trainings)) == (4, 2)
    assert len(set(plan.programs.values())) == 1


def test_the_papers_batch_of_256_needs_no_scaling(planned):
    big = ["data.train_per_class=90", "data.test_per_class=10", "data.val_per_class=10", "tricks=[linear_scaling]"]
    assert len(reasons(planned(*big, "train.batch_size=256"), "noop")) == 2
    assert reasons(planned(*big, "train.batch_size=128"), "noop") == {}


def test_a_policy_on_batch_norm_is_another_one_where_there_is_none(planned):
    plain = ["model.name=vgg16", "weights=null", "data.image_size=32", "tricks={}"]
    plan = planned(*plain, "policies=[full, full_bn_frozen, full_bn_stats_frozen, head, head_bn]")
    assert reasons(plan, "noop") == {
        f"{policy} | baseline": f"the same training as '{twin} | baseline', whose runs it shares"
        for policy, twin in {"full_bn_frozen": "full", "full_bn_stats_frozen": "full", "head_bn": "head"}.items()
    }
    assert len(plan.trainings) == 2 * 2


# Destructive.


def test_zero_gamma_over_pretrained_weights_is_skipped(planned):
    plan = planned("tricks=[zero_gamma, cosine]", "policies=[full, scratch]", "designs=[one_in, all]")
    assert reasons(plan, "destructive") == {
        "full | zero_gamma": "it overwrites pretrained parameters (layer1.0.bn2.weight and 2 more)"
    }
    sets = ("baseline", "zero_gamma", "cosine", "zero_gamma + cosine")
    assert cells(plan) == ["full | baseline", "full | cosine", *(f"scratch | {tricks}" for tricks in sets)]


def test_zero_gamma_that_never_learns_is_destructive_even_from_random_weights(planned):
    plan = planned("tricks=[zero_gamma]", "policies=[full, head]", "weights=null")
    (reason,) = reasons(plan, "destructive").values()
    assert verdicts(plan)["head | zero_gamma"] == "destructive"
    assert reason == "what it sets never learns under this policy (layer1.0.bn2.weight and 2 more)"
    assert verdicts(plan)["full | zero_gamma"] == "valid"


def test_what_is_destructive_runs_where_the_spec_says_so_and_stays_flagged(planned):
    plan = planned("tricks=[zero_gamma, cosine]", "policies=[full]", "designs=[one_in, all]", "destructive=run")
    assert verdicts(plan) == {
        "full | baseline": "valid",
        "full | zero_gamma": "destructive",
        "full | cosine": "valid",
        "full | zero_gamma + cosine": "destructive",
    }
    assert cells(plan) == list(verdicts(plan))
    ((where, _),) = training(plan, "full | zero_gamma").recipe.inits
    assert where == "both"


def test_a_stem_without_pretrained_weights_is_skipped(planned, workspace):
    (workspace.root / "experiments" / "net.pt").write_bytes(b"weights")
    plan = planned(MINI, "weights={checkpoint: net.pt}", "tricks=[resnet_c, resnet_d]", "policies=[full, scratch]")
    (name, reason), *more = reasons(plan, "destructive").items()
    assert (name, more) == ("full | resnet_c", [])
    assert reason.startswith("the pretrained weights do not fit, and these would start at random: conv1.0.weight")
    assert verdicts(plan)["full | resnet_d"] == "valid"  # an average has no weights
    assert verdicts(plan)["scratch | resnet_c"] == "valid"


def test_two_destructive_tricks_have_two_reasons(planned, workspace):
    (workspace.root / "experiments" / "net.pt").write_bytes(b"weights")
    tricks = "tricks=[resnet_c, zero_gamma]"
    plan = planned(MINI, "weights={checkpoint: net.pt}", tricks, "policies=[full]", "designs=[all]", "destructive=run")
    (reason,) = reasons(plan, "destructive").values()
    first, second = reason.split("; ")
    assert first.startswith("the pretrained weights do not fit, and these would start at random: conv1.0.weight")
    assert second.startswith("it overwrites pretrained parameters")


def test_a_stem_without_pretrained_weights_runs_where_the_spec_says_so(planned, workspace):
    """What fits is loaded, and the stem begins at random as the head does."""
    plan = planned(MINI, "tricks={resnet_c: {where: target}}", "policies=[full]", "destructive=run", "seeds=1")
    assert verdicts(plan) == {"full | baseline": "valid", "full | resnet_c": "destructive"}
    (source,) = plan.prerequisites
    run(source.training, workspace.cache)
    _, finished = run(training(plan, "full | resnet_c"), workspace.cache)
    assert 0 <= finished.test["top1"] <= 1


def test_a_surgery_of_both_networks_is_pretrained_with_and_fits(planned):
    plan = planned(MINI, "tricks=[resnet_c]", "policies=[full]")
    assert verdicts(plan)["full | resnet_c"] == "valid"
    assert [p.training.model.deep_stem for p in plan.prerequisites] == [False, True]


# Invalid.


def test_a_warmup_that_leaves_no_schedule_is_invalid(planned):
    plan = planned("tricks={warmup: {epochs: 2}}")
    assert set(reasons(plan, "invalid")) == {"full | warmup", "head | warmup"}


@pytest.mark.parametrize(
    ("trick", "model", "word"),
    [
        ("resnet_b", "model.name=cifar_resnet8", "bottleneck"),
        ("resnet_c", "model.name=cifar_resnet8", "7×7"),
        ("zero_gamma", "model.name=alexnet", "no residual branch"),
    ],
)
def test_an_edit_that_the_network_has_no_place_for_is_invalid(planned, trick, model, word):
    plan = planned(f"tricks=[{trick}]", model, "weights=null", "policies=[full]", "data.image_size=64")
    assert word in reasons(plan, "invalid")[f"full | {trick}"]
    assert cells(plan) == ["full | baseline"]


def test_a_policy_that_the_model_cannot_have_is_invalid(planned):
    plan = planned("policies=[full, last_3_fc]")
    (reason,) = {j.reason for j in plan.judgements if j.verdict == "invalid"}
    assert "'fc' matches nothing" in reason
    assert {j.cell.name for j in plan.judgements if j.verdict == "invalid"} == {"last_3_fc | baseline"}
    assert cells(plan) == ["full | baseline", "full | warmup", "full | mixup"]


def test_the_same_mistake_in_a_policy_of_ones_own_is_an_error_with_its_place(write_spec, workspace):
    path = write_spec(("[full, head]", "{full: , mine: {phases: [{trainable: [fc, layer9]}]}}"))
    with pytest.raises(HarnessError) as error:
        make_plan(specfile.read(path), workspace)
    assert str(error.value).startswith(f"{path}:9: policies.mine: 'fc' matches nothing")


def test_a_policy_that_one_trick_makes_meaningless_is_no_error(planned):
    """The name it selects is gone once the stem is three convolutions."""
    mine = "policies={mine: {phases: [{trainable: [conv1.weight, head]}]}}"
    plan = planned(MINI, mine, "tricks={resnet_c: }")
    assert "'conv1.weight' matches nothing" in reasons(plan, "invalid")["mine | resnet_c"]
    assert cells(plan) == ["mine | baseline"]


def test_tricks_of_gradient_steps_are_invalid_where_none_is_taken(planned):
    steps = ["linear_scaling", "warmup", "no_bias_decay", "mixed_precision", "cosine", "label_smoothing"]
    steps += ["distillation", "trivial_augment", "random_erasing", "mixup", "cutmix", "ema", "zero_gamma"]
    plan = planned(MINI, f"tricks=[{', '.join([*steps, 'resnet_d'])}]", "policies=[svm_codes]", LONG)
    assert set(reasons(plan, "invalid")) == {f"svm_codes | {trick}" for trick in steps}
    assert all("no gradient step is taken" in reason for reason in reasons(plan, "invalid").values())
    assert cells(plan) == ["svm_codes | baseline", "svm_codes | resnet_d"]


def test_an_edit_of_the_source_means_something_to_codes_too(planned):
    plan = planned("tricks={zero_gamma: {where: source}}", "policies=[svm_codes]")
    assert set(verdicts(plan).values()) == {"valid"}
    assert len(plan.prerequisites) == 2


def test_a_batch_of_one_is_invalid_where_batch_norm_sees_one_value(planned):
    plan = planned("train.batch_size=1", "tricks={}", "policies=[full, head]", "model.name=resnet18", "weights=null")
    assert "more than 1 value per channel" in reasons(plan, "invalid")["full | baseline"]
    assert cells(plan) == ["head | baseline"]  # its batch norm goes by running statistics


def test_what_is_left_of_the_designs_is_balanced(planned):
    plan = planned("tricks=[zero_gamma, resnet_c, cosine, mixup]", "designs=[one_in, all]")
    assert cells(plan) == [
        f"{p} | {t}" for p in ("full", "head") for t in ("baseline", "cosine", "mixup", "cosine + mixup")
    ]
    assert set(reasons(plan, "destructive")) == {"full | zero_gamma", "head | zero_gamma"}
    assert set(reasons(plan, "invalid")) == {"full | resnet_c", "head | resnet_c"}


# Detection and segmentation.

IMAGES = "image_size: 64, train_images: 24, val_images: 8, test_images: 8"
SCENES = [f'data={{name: digit_scenes, classes: ["5", "6", "7"], {IMAGES}}}', "train.augment={flip: true}"]
SEGMENTATION = ["task=segmentation", "model={name: mini_resnet14, variant: a, head: fcn}", *SCENES]
DETECTION = ["task=detection", "model={name: mini_resnet14, variant: a, head: faster_rcnn}", *SCENES]
TASKS = pytest.mark.parametrize("task", [SEGMENTATION, DETECTION], ids=["segmentation", "detection"])
OF_WHOLE_IMAGES = {
    "label_smoothing": "distribution over the classes of an image",
    "distillation": "a teacher's logits over the classes of an image",
    "trivial_augment": "the boxes or masks on them would not follow",
    "random_erasing": "the boxes or masks on them would not follow",
    "mixup": "mixes distributions over the classes",
    "cutmix": "mixes distributions over the classes",
}


@TASKS
def test_tricks_on_the_class_of_an_image_are_invalid_where_it_has_boxes_or_masks(planned, task):
    """All others mean what they do in classification."""
    left = [trick for trick in TRICKS if trick not in OF_WHOLE_IMAGES]
    tricks = f"tricks=[{', '.join(sorted(TRICKS))}]"
    plan = planned(*task, tricks, "policies=[full]", "weights=null", "train.batch_size=4", "seeds=1", LONG)
    said = reasons(plan, "invalid")
    name = task[0].partition("=")[2]
    assert {cell.removeprefix("full | ") for cell in said} == set(OF_WHOLE_IMAGES)
    for trick, reason in OF_WHOLE_IMAGES.items():
        assert said[f"full | {trick}"].startswith(f"{name}: ")
        assert reason in said[f"full | {trick}"]
    assert set(cells(plan)) == {f"full | {trick}" for trick in ["baseline", *left]}
    assert all(r.training.model.head for r in plan.replicates)


@TASKS
def test_policies_on_a_classifier_are_invalid_where_there_is_none(planned, task):
    policies = ["full", "svm_codes", "softmax_codes", "extra_fc", "last_3_fc", "last_3_stages_bn_frozen"]
    plan = planned(*task, f"policies=[{', '.join(policies)}]", "tricks={}", "seeds=1")
    said = reasons(plan, "invalid")
    assert {cell.partition(" ")[0]: why.partition(";")[0].partition(": ")[2] for cell, why in said.items()} == {
        "svm_codes": "there is no classifier of whole images to fit to codes",
        "softmax_codes": "there is no classifier of whole images to fit to codes",
        "extra_fc": "there is no classifier of whole images to put a new layer on",
        "last_3_fc": "",
    }
    assert said["last_3_fc | baseline"].startswith("'fc' matches nothing")
    assert cells(plan) == ["full | baseline", "last_3_stages_bn_frozen | baseline"]


@TASKS
def test_a_backbone_is_pretrained_as_a_classifier_and_fits(planned, task):
    plan = planned(*task, "policies=[full]", "tricks=[resnet_c, resnet_d]", "seeds=1")
    assert set(verdicts(plan).values()) == {"valid"}
    assert [p.training.model.head for p in plan.prerequisites] == [None] * 3
    assert {(p.training.model.deep_stem, p.training.model.avg_down) for p in plan.prerequisites} == {
        (False, False),
        (True, False),
        (False, True),
    }
    assert not any(r.training.origin.partial for r in plan.replicates)


@TASKS
def test_a_backbone_of_another_stem_is_not_filled_from_weights_without_it(planned, task):
    plan = planned(*task, "policies=[full]", "tricks={resnet_c: {where: target}}", "seeds=1")
    stem = "backbone.body.conv1.0.weight" if "faster_rcnn" in task[1] else "backbone.conv1.0.weight"
    (reason,) = reasons(plan, "destructive").values()
    assert reason.startswith(f"the pretrained weights do not fit, and these would start at random: {stem}")


@pytest.mark.parametrize(("head", "runs"), [("deeplabv3", ["bn_only"]), ("fcn", ["head", "bn_only"])])
def test_a_batch_of_one_image_is_invalid_where_it_is_pooled_to_one_pixel(planned, head, runs):
    """DeepLab's pooling branch is new, and its batch norm follows the batches wherever the head learns."""
    model = f"model={{name: mini_resnet14, head: {head}}}"
    plan = planned(*SEGMENTATION, model, "train.batch_size=1", "tricks={}", "policies=[head, bn_only]", "seeds=1")
    assert cells(plan) == [f"{policy} | baseline" for policy in runs]
    for reason in reasons(plan, "invalid").values():
        assert reason.startswith("deeplabv3 on mini_resnet14 cannot be trained on a batch of 1: ")
