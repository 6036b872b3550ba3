"""The grid of a plan as text, and the designs that a plan keeps for its report."""

import json

import pytest

from harness import specfile
from harness.outline import frozen_lines, grid_lines, reasons
from harness.planning import make_plan
from harness.summary import reused, summarise

FIVE = "tricks={warmup: {epochs: 1}, cosine: , mixup: , ema: , label_smoothing: }"
KEYS = ["policies", "levels", "kind", "factors", "orders", "sampled", "resolution", "aliases", "note", "sets"]


@pytest.fixture
def facts(write_spec, workspace):
    """A function that summarises the tiny study with overrides."""
    return lambda *overrides: summarise(make_plan(specfile.read(write_spec(), overrides), workspace))


def test_summary_keeps_each_design_once_with_its_policies(facts):
    kept = facts(
        FIVE, "policies=[full, head, svm_codes]", "designs=[one_in, {fractional: {resolution: 3}}, cumulative]"
    )
    assert [list(entry) for entry in kept["designs"]] == [KEYS] * 6
    shown = [(e["policies"], e["kind"], len(e["factors"]), len(e["sets"]), e["resolution"]) for e in kept["designs"]]
    assert shown == [
        (["full", "head"], "one_in", 5, 6, None),
        (["full", "head"], "fractional", 5, 8, 3),
        (["full", "head"], "cumulative", 5, 6, None),
        (["svm_codes"], "one_in", 0, 1, None),
        (["svm_codes"], "factorial", 0, 1, None),
        (["svm_codes"], "cumulative", 0, 1, None),
    ]
    assert kept["designs"][2]["orders"] == [["warmup", "cosine", "mixup", "ema", "label_smoothing"]]
    assert len(kept["designs"][1]["aliases"]) == 7
    assert all(entry["levels"] == [{}] for entry in kept["designs"])
    assert json.loads(json.dumps(kept["designs"])) == kept["designs"]


def test_summary_tells_scenarios_apart_only_where_designs_differ(facts):
    kept = facts(
        "axes={data.train_per_class: [8, 16, 24]}",
        "policies=[full, head, head_bn]",
        "exclude=[{policy: [head, head_bn], train_per_class: 16, tricks: [mixup]}]",
    )
    shown = [
        (e["policies"], [levels["train_per_class"] for levels in e["levels"]], e["factors"]) for e in kept["designs"]
    ]
    assert shown == [
        (["full"], ["8", "16", "24"], ["warmup", "mixup"]),
        (["head", "head_bn"], ["8", "24"], ["warmup", "mixup"]),
        (["head", "head_bn"], ["16"], ["warmup"]),
    ]


def test_every_set_of_a_kept_design_is_a_cell(facts):
    kept = facts(FIVE, "designs=[factorial, leave_one_out]", "exclude=[{policy: head, tricks: [ema, mixup]}]")
    cells = {(cell["policy"], tuple(cell["tricks"])) for cell in kept["cells"]}
    asked = {(policy, tuple(tricks)) for e in kept["designs"] for policy in e["policies"] for tricks in e["sets"]}
    assert asked == cells


def test_policies_with_one_design_share_a_paragraph(facts):
    lines = grid_lines(
        facts(FIVE, "designs=[one_in, {fractional: {resolution: 3}}]", "policies=[full, head, svm_codes]")
    )
    assert lines[:5] == [
        "Policies   full, head",
        "Tricks     warmup, cosine, mixup, ema, label_smoothing",
        "Designs    one_in: 6 trick sets",
        "           fractional: 8 trick sets; resolution III",
        "             warmup is aliased with −(cosine × ema), −(mixup × label_smoothing)",
    ]
    assert "             and 1 more in `harness plan --json`" in lines
    assert lines[-3:] == ["", "Policies   svm_codes", "Trick sets baseline"]


def test_orders_resolution_and_notes_are_told(facts):
    three = "{fractional: {runs: 8, tricks: [ema, mixup, cosine]}}"
    found = facts(FIVE, f"designs=[{{fractional: {{runs: 16}}}}, {{cumulative: {{orders: 4}}}}, {three}]")
    text = "\n".join(grid_lines(found))
    assert "fractional: 16 trick sets; resolution V, no main effect or interaction of two tricks aliased" in text
    assert "trick sets; 4 orders, the first " in text
    assert "factorial of cosine, mixup, ema: 8 trick sets; a fraction of 8 runs was asked, and takes every set" in text


def test_many_trick_sets_are_counted_and_some_named(facts):
    (line,) = [line for line in grid_lines(facts(FIVE, "designs=[factorial]")) if line.startswith("Trick sets")]
    assert line.startswith("Trick sets 32: baseline · warmup · ")
    text = "\n".join(grid_lines(facts(FIVE, "designs=[factorial]")))
    assert text.endswith("· and 12 more")


def test_long_lists_of_reasons_are_cut_and_long_reasons_wrapped():
    judgements = [{"verdict": "invalid", "reason": "because " * 20, "cell": f"cell {n}"} for n in range(25)]
    lines = reasons(judgements)
    assert all(len(line) <= 110 for line in lines)
    assert lines[0].startswith("  invalid: because because")
    assert lines[-1].endswith("and 5 more")


def test_names_of_the_cells_of_a_factorial_are_unique(facts):
    eight = f"{FIVE.removesuffix('}')}, random_erasing: , trivial_augment: , no_bias_decay: }}"
    cells = [cell["cell"] for cell in facts(eight, "designs=[factorial]", "policies=[full]", "seeds=1")["cells"]]
    assert len(set(cells)) == len(cells) == 2**8
    assert max(map(len, cells)) < 80


def test_frozen_stages_are_told_with_the_share_of_training_and_the_reason(write_spec, workspace):
    overrides = [
        "policies=[full, head, head_then_last_2, svm_codes]",
        "tricks={mixup: , distillation: }",
        "designs=[one_in]",
        "train.augment.crop_padding=0",
    ]
    kinds = reused(make_plan(specfile.read(write_spec(), overrides), workspace))
    assert frozen_lines(kinds) == [
        "",
        "Frozen stages that are computed once for all trainings that share them (until a share of training):",
        "  stem to stage3:",
        "    head | baseline, head | mixup, head | distillation",
        "  stem to stage3 until 50 %, stem to stage2:",
        "    head_then_last_2 | baseline, head_then_last_2 | mixup, head_then_last_2 | distillation",
        "  the teacher, but its head:",
        "    full | distillation, head | distillation, head_then_last_2 | distillation",
        "  of these in evaluation alone (inputs are mixed):",
        "    head | mixup, head_then_last_2 | mixup",
        "  none (no stage is frozen before the first that moves):",
        "    full | baseline, full | mixup, full | distillation",
        "  none (a solver takes the place of training, and computes its codes once anyway):",
        "    svm_codes | baseline",
    ]


def test_nothing_is_told_of_frozen_stages_where_there_are_none(write_spec, workspace):
    assert not frozen_lines(reused(make_plan(specfile.read(write_spec(), ["policies=[full, head_bn]"]), workspace)))
