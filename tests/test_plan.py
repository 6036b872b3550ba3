"""Plans: cells and replicates, identity by content, what is shared, what cannot run and why. Nothing is written."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness import specfile
from harness.data import folder
from harness.errors import HarnessError
from harness.planning import make_plan
from harness.training import Origin
from harness.workspace import Workspace
from tests.samples import image_folder

PHOTOS = "data={name: image_folder, root: photos, image_size: 8}"
# The default warmup lasts 5 epochs, so studies with it are made longer.
ALL_TRICKS = "tricks=[warmup, no_bias_decay, cosine, label_smoothing, mixup]"


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study with overrides."""

    def plan(*overrides, place=workspace):
        return make_plan(specfile.read(write_spec(), overrides), place)

    return plan


@pytest.fixture
def refused(planned):
    """A function that returns why the tiny study with overrides cannot be planned."""

    def reason(*overrides):
        with pytest.raises(HarnessError) as error:
            planned(*overrides)
        return str(error.value)

    return reason


@pytest.fixture
def photos(workspace):
    """An image folder beside the spec."""
    return image_folder(workspace.root / "experiments" / "photos", {"cat": 14, "dog": 13})


def training(plan, cell="full | baseline", seed=0):
    return next(r.training for r in plan.replicates if r.cell.name == cell and r.seed == seed)


def cells(plan):
    return list(dict.fromkeys(r.cell.name for r in plan.replicates))


def judged(plan, verdict):
    return {j.cell.name: j.reason for j in plan.judgements if j.verdict == verdict}


# Cells and replicates.


def test_every_policy_meets_every_trick_set_and_seed(plan):
    sets = ("baseline", "warmup", "mixup")
    names = [f"{policy} | {tricks}" for policy in ("full", "head") for tricks in sets]
    assert cells(plan) == names
    assert Counter(r.name for r in plan.replicates) == Counter(f"{name} | seed {s}" for name in names for s in (0, 1))
    assert judged(plan, "valid") == dict.fromkeys(names, "")
    assert len(plan.judgements) == len(names)


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["designs=[one_in, all]"], 2 * 4),
        (["designs=[all]"], 2 * 2),
        (["policies=[full, head, head_bn]"], 3 * 3),
        ([ALL_TRICKS, "train.epochs=6", "designs=[one_in, all]"], 2 * 7),
        (["tricks={}"], 2 * 1),
        (["designs=[{list: [[warmup, mixup]]}]"], 2 * 2),
    ],
)
def test_number_of_cells_and_replicates(planned, overrides, count):
    plan = planned("seeds=3", *overrides)
    assert len(cells(plan)) == len(plan.judgements) == count
    assert len(plan.replicates) == 3 * count


def test_replicate_trains_with_its_own_seed(plan):
    assert all(r.training.seed == r.seed for r in plan.replicates)


def test_replicates_of_a_cell_are_one_program(plan):
    by_cell = {cell: {r.program for r in plan.replicates if r.cell == cell} for cell in plan.programs}
    assert by_cell == {cell: {program} for cell, program in plan.programs.items()}
    assert len(set(plan.programs.values())) == 6


def test_seeds_and_cells_are_distinct_trainings(plan):
    assert len(plan.trainings) == len(plan.replicates) == 12


def test_steps_of_an_epoch_leave_out_the_batch_that_is_not_full(planned):
    plan = planned("train.batch_size=7", "tricks.warmup.epochs=2")  # of 3 × 8 images, for two epochs
    assert {r.data.train_size for r in plan.replicates} == {24}
    assert "a warmup of 6 steps leaves nothing of a schedule of 6" in judged(plan, "invalid")["full | warmup"]


def test_policies_reach_the_parameters_they_name(plan):
    (full,), (head,) = (training(plan, f"{policy} | baseline").phases for policy in ("full", "head"))
    assert head.trainable == {"fc.weight", "fc.bias"}
    assert full.trainable > head.trainable
    assert "bn1" in full.bn_stats
    assert head.bn_stats == ()


def test_tricks_reach_the_recipe(plan):
    assert training(plan).recipe.mixes == ()
    assert training(plan, "full | mixup").recipe.mixes
    assert len(training(plan, "full | warmup").recipe.warmups) == 1


# What must be there before.


def test_pretraining_is_the_one_prerequisite(plan, workspace):
    (prerequisite,) = plan.prerequisites
    source = prerequisite.training
    assert prerequisite.role == "pretraining"
    assert source.data.classes == ("0", "1", "2")
    assert source.origin is None
    assert Path(source.save_to).parent == workspace.checkpoints
    assert Path(source.save_to).name.startswith(source.digest)
    assert {r.training.origin for r in plan.replicates} == {Origin(source.digest, source.save_to)}
    assert prerequisite.data.train_size == 24
    assert prerequisite.images == 1 * 3 * 8


def test_source_that_shares_classes_with_the_target_is_refused(refused):
    """Images that the target is tested on would have been trained on."""
    message = refused("weights.pretrain.data.classes=['0', '5', '6']")
    assert "5, 6" in message
    assert "test images" in message


def test_random_weights_need_nothing_before(planned):
    plan = planned("weights=null")
    assert plan.prerequisites == ()
    assert {r.training.origin for r in plan.replicates} == {None}


def test_policy_from_random_weights_takes_no_pretrained_ones(planned):
    plan = planned("policies=[full, scratch]")
    assert training(plan).origin is not None
    assert training(plan, "scratch | baseline").origin is None


def test_checkpoint_is_an_origin_by_content(planned, workspace):
    file = workspace.root / "experiments" / "net.pt"
    file.write_bytes(b"weights")
    plan = planned("weights={checkpoint: net.pt}")
    assert plan.prerequisites == ()
    assert training(plan).origin.path == str(file)


def test_missing_checkpoint_is_named(refused, workspace):
    message = refused("weights={checkpoint: net.pt}")
    assert str(workspace.root / "experiments" / "net.pt") in message
    assert "No such file" in message


def test_unknown_torchvision_weights_name_the_legal_ones(refused):
    message = refused("model.name=resnet18", "weights={torchvision: IMAGENET1K_V9}")
    assert "'IMAGENET1K_V9'" in message
    assert "IMAGENET1K_V1" in message


def test_torchvision_weights_are_not_downloaded_to_plan(planned, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    plan = planned("model.name=resnet18", "weights={torchvision: IMAGENET1K_V1}", "policies=[head]")
    assert not (tmp_path / "hub").exists()
    assert str(tmp_path / "hub") in training(plan, "head | baseline").origin.path


# Identity is content.

GOLDEN_DIGEST = "3fac146049f725d6"
"""The first training of the tiny study. Finished trainings are found by their digest: a change of it makes every study
train anew. Change it only where the numbers of a training change too, or where the plan says more of what decides them.
"""


def test_digest_of_the_tiny_training_is_what_it_always_was(plan):
    assert training(plan).digest == GOLDEN_DIGEST


CHANGES = [
    "seeds=[7]",
    "model.name=cifar_resnet20",
    "weights=null",
    "weights.pretrain.seed=1",
    "weights.pretrain.train.lr=0.1",
    "weights.pretrain.train.epochs=2",
    "weights.pretrain.data.classes=['0', '1']",
    "weights.pretrain.data.train_per_class=9",
    "data.classes=['5', '6']",
    "data.classes=['6', '5', '7']",
    "data.image_size=16",
    "data.shift=[]",
    "data.shift=[rotate90]",
    "data.train_per_class=9",
    "data.test_share=0.4",
    "data.val_share=0.1",
    "data.test_per_class=20",
    "data.val_per_class=20",
    "data.split_seed=1",
    "data.mean=[0.5, 0.5, 0.5]",
    "data.std=[0.5, 0.5, 0.5]",
    "train.epochs=3",
    "train.batch_size=4",
    "train.lr=0.06",
    "train.weight_decay=0.001",
    "train.optimizer={name: SGD, options: {momentum: 0.8}}",
    "train.optimizer={name: SGD, options: {nesterov: false}}",
    "train.optimizer=AdamW",
    "train.decay.factor=0.2",
    "train.decay.milestones=[0.5]",
    "train.augment.flip=false",
    "train.augment.crop_padding=0",
    "train.threads=2",
    "train.channels_last=true",
    "train.fused=true",
    "train.compile=default",
    "train.compile=reduce-overhead",
    "policies=[head]",
    "policies=[head_bn]",
    "policies=[full_bn_frozen]",
    "policies={mine: {phases: [{trainable: [all], bn_stats: [all], lr_factor: 0.5}]}}",
    "policies={mine: {phases: [{trainable: [all], bn_stats: [bn1]}]}}",
    "policies={mine: {phases: [{trainable: [head]}, {trainable: [all], start: 0.5}]}}",
    "policies={mine: {phases: [{trainable: [head]}, {trainable: [all], start: 0.6}]}}",
    "policies={mine: {phases: [{trainable: [head]}, {trainable: [all], start: 0.6, restart_schedule: true}]}}",
]


@pytest.mark.parametrize("override", CHANGES)
def test_digest_changes_with_what_changes_numbers(plan, planned, override):
    assert planned(override).replicates[0].training.digest != training(plan).digest


def test_a_batch_whose_steps_are_graphs_is_not_split(planned):
    whole, recorded = (planned(f"train.compile={mode}").replicates[0] for mode in ("default", "reduce-overhead"))
    assert whole.in_smaller_parts().training.train.accumulate == 2
    assert recorded.in_smaller_parts() is None


def test_every_change_is_a_training_of_its_own(planned):
    digests = {override: planned(override).replicates[0].training.digest for override in CHANGES}
    assert len(set(digests.values())) == len(CHANGES)


@pytest.mark.parametrize(
    ("cell", "override"),
    [
        ("warmup", "tricks.warmup.epochs=0.5"),
        ("mixup", "tricks.mixup={alpha: 0.3}"),
        ("label_smoothing", "tricks.label_smoothing={epsilon: 0.2}"),
    ],
)
def test_digest_changes_with_the_parameters_of_a_trick(planned, cell, override):
    smoothing = "tricks.label_smoothing="
    before, after = planned(smoothing), planned(smoothing, override)
    assert training(before, f"full | {cell}").digest != training(after, f"full | {cell}").digest
    assert training(before).digest == training(after).digest  # the baseline has no trick


def test_every_trick_is_a_training_of_its_own(planned):
    plan = planned(ALL_TRICKS, "train.epochs=6", "designs=[one_in, all]", "policies=[full]", "seeds=1")
    assert len(plan.trainings) == len(cells(plan)) == 7


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "about=some words",
        "seeds=[0, 5]",
        "throughput.rounds=7",
        "execution.checkpoint_s=0",
        "policies=[full]",
        "policies=[head, full]",
        "tricks=[cosine, label_smoothing]",
        "designs=[one_in, all]",
        "train.weight_decay=1e-4",  # a default written out
        "train.decay.factor=0.1",
    ],
)
def test_digest_ignores_what_changes_no_number(plan, planned, override):
    assert training(planned(override)).digest == training(plan).digest


def test_digest_ignores_the_names_of_policies_and_tricks(plan, planned):
    inline = "policies={everything: {about: x, source: y, phases: [{trainable: [all], bn_stats: [all]}]}}"
    renamed = planned(inline, "tricks={w: {trick: warmup, epochs: 1}}")
    assert training(renamed, "everything | baseline").digest == training(plan).digest
    assert training(renamed, "everything | w").digest == training(plan, "full | warmup").digest


def test_digest_ignores_where_the_workspace_lies(plan, planned, tmp_path_factory):
    elsewhere = planned(place=Workspace(tmp_path_factory.mktemp("elsewhere")))
    assert elsewhere.prerequisites[0].training.save_to != plan.prerequisites[0].training.save_to
    assert list(elsewhere.trainings) == list(plan.trainings)


def test_digest_ignores_where_weights_are_saved(plan):
    one = training(plan)
    assert replace(one, save_to="/somewhere/else.pt").digest == one.digest


def test_digest_ignores_where_a_checkpoint_lies_and_sees_its_content(planned, workspace):
    for name, content in (("a.pt", b"one"), ("b.pt", b"one"), ("c.pt", b"two")):
        (workspace.root / "experiments" / name).write_bytes(content)
    a, b, c = (training(planned(f"weights={{checkpoint: {name}.pt}}")).digest for name in "abc")
    assert a == b != c


def test_digest_ignores_where_the_images_lie(planned, photos):
    before = training(planned(PHOTOS))
    shutil.copytree(photos, photos.with_name("copy"))
    after = training(planned(PHOTOS.replace("photos", "copy")))
    assert after.data_root != before.data_root
    assert after.digest == before.digest


def test_digest_sees_the_files_of_the_images(planned, photos):
    before = training(planned(PHOTOS)).digest
    file = photos / "cat" / "000.png"
    file.write_bytes(file.read_bytes()[::-1])  # other bytes, no other size
    changed = training(planned(PHOTOS)).digest
    image_folder(photos / "dog", {"more": 1})
    added = training(planned(PHOTOS)).digest
    assert len({before, changed, added}) == 3


# Cells that are one training.


def test_trick_without_effect_is_shared_with_the_baseline_and_says_so(planned):
    plan = planned("train.weight_decay=0", "tricks={no_bias_decay: , mixup: }")
    noop = judged(plan, "noop")
    assert set(noop) == {"full | no_bias_decay", "head | no_bias_decay"}
    assert "'full | baseline'" in noop["full | no_bias_decay"]
    assert "'head | baseline'" in noop["head | no_bias_decay"]
    assert training(plan, "full | no_bias_decay", 1).digest == training(plan, "full | baseline", 1).digest
    assert len(plan.replicates) == 12
    assert len(plan.trainings) == 8


def test_the_same_trick_with_an_effect_is_not_shared(planned):
    plan = planned("tricks={no_bias_decay: , mixup: }")
    assert judged(plan, "noop") == {}
    assert len(plan.trainings) == 12


def test_policies_that_are_one_program_are_shared(planned):
    plan = planned("policies={full: , mine: {phases: [{trainable: ['not head', all], bn_stats: ['*']}]}}")
    assert set(judged(plan, "noop")) == {"mine | baseline", "mine | warmup", "mine | mixup"}
    assert "'full | warmup'" in judged(plan, "noop")["mine | warmup"]
    assert len(plan.replicates) == 12
    assert len(plan.trainings) == 6


@pytest.mark.parametrize("epochs", [0.1, 0.4])
def test_warmup_of_one_step_is_the_baseline(planned, epochs):
    plan = planned(f"tricks.warmup.epochs={epochs}")
    assert set(judged(plan, "noop")) == {"full | warmup", "head | warmup"}
    assert judged(planned("tricks.warmup.epochs=0.6"), "noop") == {}  # of two


def test_all_classes_are_those_named_one_by_one(planned):
    every = "data={name: digits, image_size: 8, train_per_class: 8}"
    random = "weights=null"
    digits = ", ".join(f"'{digit}'" for digit in range(10))
    named = f"data={{name: digits, image_size: 8, train_per_class: 8, classes: [{digits}]}}"
    assert training(planned(every, random)).digest == training(planned(named, random)).digest


def test_init_makes_no_difference_where_there_are_no_weights(planned):
    scratch = "policies=[full, scratch]"
    assert len(judged(planned("weights=null", scratch), "noop")) == 3
    assert judged(planned(scratch), "noop") == {}


# Cells that cannot run.


def test_set_of_all_tricks_goes_by_its_size_where_it_is_long(planned):
    few = planned("tricks=[cosine, label_smoothing, mixup]", "designs=[all]")
    many = planned("tricks=[no_bias_decay, cosine, label_smoothing, mixup]", "designs=[all]")
    assert cells(few)[1] == "full | cosine + label_smoothing + mixup"
    assert cells(many)[1] == "full | all 4 together"
    assert len(many.replicates[2].cell.tricks) == 4


def test_sets_that_differ_have_names_that_differ(planned):
    """Cells are told apart by their names, in the store as in tables."""
    tricks = "tricks={a: {trick: warmup, epochs: 1}, no_bias_decay: , cosine: , label_smoothing: , mixup: }"
    rows = "[[a, no_bias_decay, cosine, mixup], [a, no_bias_decay, cosine, label_smoothing]]"
    assert len(cells(planned(tricks, f"designs=[{{list: {rows}}}, all]"))) == 2 * 4


def test_impossible_trick_leaves_every_design_with_its_reason(planned):
    """What is left stays balanced: every policy has the same sets, and `all` is all that can run."""
    plan = planned("tricks={warmup: {epochs: 2}, cosine: , mixup: }", "designs=[one_in, all]")
    assert set(judged(plan, "invalid")) == {"full | warmup", "head | warmup"}
    assert all("warmup of 6 steps" in reason for reason in judged(plan, "invalid").values())
    sets = {policy: [r.cell.tricks for r in plan.replicates if r.cell.policy == policy] for policy in ("full", "head")}
    assert sets["full"] == sets["head"]
    assert list(dict.fromkeys(sets["full"])) == [(), ("cosine",), ("mixup",), ("cosine", "mixup")]


def test_warmup_a_little_shorter_than_training_is_possible(planned):
    assert judged(planned("tricks.warmup.epochs=1.7"), "invalid") == {}  # 5 of 6 steps
    assert "full | warmup" in judged(planned("tricks.warmup.epochs=5"), "invalid")


def test_trick_that_one_policy_makes_impossible_leaves_the_design_of_that_policy(planned):
    """Its schedule begins anew for the last two steps, which a warmup of three would use up."""
    phases = "[{trainable: [head]}, {trainable: [all], start: 0.66, restart_schedule: true}]"
    plan = planned(f"policies={{full: , thawed: {{phases: {phases}}}}}", "tricks={warmup: {epochs: 1}, cosine: }")
    assert set(judged(plan, "invalid")) == {"thawed | warmup"}
    assert cells(plan) == ["full | baseline", "full | warmup", "full | cosine", "thawed | baseline", "thawed | cosine"]


def test_conflict_is_judged_and_the_rest_goes_on(planned):
    levels = "tricks={weak: {trick: mixup, alpha: 0.1}, strong: {trick: mixup, alpha: 1}}"
    plan = planned(levels, "designs=[one_in, all]")
    invalid = judged(plan, "invalid")
    assert set(invalid) == {"full | weak + strong", "head | weak + strong"}
    assert all("mix" in reason for reason in invalid.values())
    assert cells(plan) == [f"{p} | {t}" for p in ("full", "head") for t in ("baseline", "weak", "strong")]


def test_two_levels_that_multiply_are_no_conflict(planned):
    plan = planned("tricks={a: {trick: warmup, epochs: 1}, b: {trick: warmup, epochs: 0.5}}", "designs=[all]")
    assert judged(plan, "invalid") == {}
    assert len(training(plan, "full | a + b").recipe.warmups) == 2


def test_empty_grid_is_an_error_with_every_reason(refused):
    levels = "tricks={weak: {trick: mixup, alpha: 0.1}, strong: {trick: mixup, alpha: 1}}"
    message = refused(levels, "designs=[all]", "exclude=[{without: [weak, strong]}]")
    assert "grid is empty" in message
    assert "full | baseline: the spec excludes cells without weak and strong" in message
    assert "head | weak + strong: " in message


@pytest.mark.parametrize(
    ("phases", "parts"),
    [
        ("[{trainable: [layer9]}]", ["'layer9'", "stage1"]),
        ("[{trainable: [stage4]}]", ["'stage4'", "stage3"]),
        ("[{trainable: [all], bn_stats: ['fc.*']}]", ["'fc.*'"]),
        ("[{trainable: [none]}]", ["nothing to learn"]),
        ("[{trainable: [all], start: 0.5}]", ["start at 0"]),
        ("[{trainable: [head]}, {trainable: [all]}]", ["later"]),
        ("[{trainable: [head]}, {trainable: [all], start: 0.99}]", ["6 steps", "0.99"]),
    ],
)
def test_policy_that_can_mean_nothing_is_named_where_it_is_written(write_spec, workspace, phases, parts):
    path = write_spec(("[full, head]", f"{{full: , mine: {{phases: {phases}}}}}"))
    with pytest.raises(HarnessError) as error:
        make_plan(specfile.read(path), workspace)
    start = f"{path}:9: policies.mine: "
    assert str(error.value).startswith(start)
    for part in parts:
        assert part in str(error.value).removeprefix(start)


@pytest.mark.parametrize(
    ("old", "place"),
    [
        ("epochs: 2, batch_size: 8", "8: train.batch_size"),
        ("batch_size: 8, lr: 0.05}", "6: weights.pretrain.train.batch_size"),
    ],
)
def test_batch_larger_than_the_data_names_both_sizes(write_spec, workspace, old, place):
    path = write_spec((old, old.replace("batch_size: 8", "batch_size: 25")))
    with pytest.raises(HarnessError) as error:
        make_plan(specfile.read(path), workspace)
    assert str(error.value).startswith(f"{path}:{place}: 25 ")
    assert "24" in str(error.value)


def test_batch_of_all_images_is_one_step(planned):
    plan = planned("train.batch_size=24", "tricks.warmup.epochs=2")
    assert "a warmup of 2 steps leaves nothing of a schedule of 2" in judged(plan, "invalid")["full | warmup"]


def test_class_with_too_few_images_is_named(refused, photos):
    image_folder(photos, {"rare": 1})
    message = refused(PHOTOS)
    assert message.startswith(f"--set {PHOTOS}: ")
    assert "'rare'" in message


def test_missing_image_folder_is_named(refused, workspace):
    assert str(workspace.root / "experiments" / "photos") in refused(PHOTOS)


def test_one_class_is_nothing_to_tell_apart(refused, workspace):
    image_folder(workspace.root / "experiments" / "photos", {"cat": 30})
    assert "cat" in refused(PHOTOS)


# A plan only reads.


def test_planning_writes_nothing_but_a_cache(planned, workspace, photos):
    (workspace.root / "experiments" / "tiny.yaml").write_text("")  # there before and after
    before = sorted(workspace.root.rglob("*"))
    plan = planned()
    planned(PHOTOS)
    assert photos in before
    shutil.rmtree(workspace.cache)
    assert sorted(workspace.root.rglob("*")) == before
    assert not workspace.checkpoints.exists()
    assert plan.prerequisites


def test_planning_decodes_nothing(planned, photos):
    for file in photos.rglob("*.png"):
        file.write_bytes(b"no image")
    assert planned(PHOTOS).replicates[0].data.train_size == 14 - 4 - 2 + 13 - 4 - 2


def test_image_folder_is_not_listed_anew_for_every_cell(planned, photos, monkeypatch):
    assert photos.is_dir()
    listed = []

    def listing(root, real=folder.listing):
        listed.append(root)
        return real(root)

    monkeypatch.setattr(folder, "listing", listing)
    planned(PHOTOS, "policies=[full]", "tricks={}")
    few = len(listed)
    planned(PHOTOS, "designs=[one_in, all]")
    assert len(listed) - few <= few


def test_a_plan_is_the_same_each_time(planned):
    first, second = planned("designs=[one_in, all]"), planned("designs=[one_in, all]")
    assert first.replicates == second.replicates
    assert first.judgements == second.judgements
    assert first.prerequisites == second.prerequisites
