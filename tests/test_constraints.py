"""Constraints: which cells `exclude` and `require` drop, how that is told, and what it leaves of the designs."""

from itertools import product

import pytest

from harness import show, specfile
from harness.errors import HarnessError
from harness.estimate import Estimate
from harness.matrix import matrix
from harness.planning import make_plan
from harness.spec import Exclusion
from harness.summary import summarise

TRICKS = "tricks={warmup: {epochs: 1}, cosine: , mixup: }"
FACTORIAL = "designs=[factorial]"
AXIS = "axes={data.train_per_class: [8, 16], target: {plain: {data.shift: []}, inverted: {data.shift: [invert]}}}"


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study, a full factorial of three tricks under two policies, with overrides."""

    def plan(*overrides):
        return make_plan(specfile.read(write_spec(), [TRICKS, FACTORIAL, *overrides]), workspace)

    return plan


@pytest.fixture
def refused(write_spec):
    """A function that returns why a spec with such a line 13 is refused."""

    def reason(line, *overrides):
        path = write_spec(("seeds: 2", f"seeds: 2\n{line}"))
        with pytest.raises(HarnessError) as error:
            specfile.read(path, overrides)
        assert str(error.value).startswith(f"{path}:13: ")
        return str(error.value).removeprefix(f"{path}:13: ")

    return reason


def excluded(plan):
    return {j.cell.name: j.reason for j in plan.judgements if j.verdict == "excluded"}


def ran(plan):
    return {(cell.policy, cell.tricks, dict(cell.levels).get("train_per_class")) for cell in plan.programs}


def everything():
    sets: list[tuple[str, ...]] = [()]
    for trick in ("warmup", "cosine", "mixup"):
        sets += [(*tricks, trick) for tricks in sets]
    return set(product(("full", "head"), sets, (None,)))


# Which cells.


@pytest.mark.parametrize(
    ("entry", "drops"),
    [
        ("{tricks: [warmup, mixup]}", lambda _, tricks: {"warmup", "mixup"} <= {*tricks}),
        ("{policy: head, tricks: [warmup, mixup]}", lambda p, tricks: p == "head" and {"warmup", "mixup"} <= {*tricks}),
        ("{without: [warmup, mixup]}", lambda _, tricks: not {"warmup", "mixup"} & {*tricks}),
        ("{policy: [full, head], without: [cosine]}", lambda _, tricks: "cosine" not in tricks),
        ("{tricks: [cosine], without: [mixup]}", lambda _, tricks: "cosine" in tricks and "mixup" not in tricks),
        ("{tricks: [mixup]}", lambda _, tricks: "mixup" in tricks),
        ("{policy: full}", lambda policy, _: policy == "full"),
    ],
)
def test_exclude_drops_the_cells_it_speaks_of_and_no_other(planned, entry, drops):
    plan = planned(f"exclude=[{entry}]")
    assert ran(plan) == {cell for cell in everything() if not drops(*cell[:2])}
    assert excluded(plan)


@pytest.mark.parametrize(
    ("entry", "drops"),
    [
        ("{tricks: [mixup], needs: [warmup]}", lambda _, tricks: "mixup" in tricks and "warmup" not in tricks),
        ("{policy: head, needs: [cosine]}", lambda p, tricks: p == "head" and "cosine" not in tricks),
        (
            "{without: [warmup], needs: [cosine, mixup]}",
            lambda _, tricks: "warmup" not in tricks and not {"cosine", "mixup"} <= {*tricks},
        ),
        ("{needs: [warmup]}", lambda _, tricks: "warmup" not in tricks),
    ],
)
def test_require_drops_the_cells_that_lack_what_they_need(planned, entry, drops):
    plan = planned(f"require=[{entry}]")
    assert ran(plan) == {cell for cell in everything() if not drops(*cell[:2])}
    assert set(excluded(plan)) == {j.cell.name for j in plan.judgements} - {cell.name for cell in plan.programs}


@pytest.mark.parametrize(
    ("entry", "count"),
    [
        ("{train_per_class: 8, tricks: [warmup, mixup]}", 2 * 2 * 2),
        ("{train_per_class: [8, 16], tricks: [warmup, mixup]}", 2 * 2 * 4),
        ("{target: inverted, train_per_class: 16, without: [warmup]}", 2 * 4),
        ("{policy: full, target: [plain]}", 8 * 2),
    ],
)
def test_levels_of_axes_are_conditions(planned, entry, count):
    plan = planned(AXIS, f"exclude=[{entry}]")
    assert len(plan.programs) == 2 * 8 * 4 - count


def test_entries_are_alternatives(planned):
    plan = planned("exclude=[{policy: full, tricks: [warmup, mixup]}, {policy: head, without: [cosine]}]")
    assert len(plan.programs) == 6 + 4


# How it is told.


def test_reason_names_the_constraint_and_why(planned):
    plan = planned(
        "exclude=[{policy: head, tricks: [warmup, mixup], about: they were tried}]",
        "require=[{tricks: [cosine], needs: [warmup]}]",
    )
    assert excluded(plan)["head | warmup + mixup"] == (
        "the spec excludes cells with warmup + mixup, under head (they were tried)"
    )
    assert excluded(plan)["full | cosine"] == "the spec requires warmup in cells with cosine"


def test_condition_reads_as_a_phrase():
    given = Exclusion.model_validate({"policy": ("a", "b"), "tricks": ("x", "y"), "without": ("z",), "size": [8, None]})
    assert str(given) == "with x + y, without z, under a or b, at size 8 or none"


def test_plan_and_summary_list_what_is_excluded(planned):
    plan = planned("exclude=[{tricks: [warmup, mixup]}]")
    text = show.plan_text(plan, Estimate(trainings_s=1, tuning_s=0, prerequisites_s=0, probe_s=0))
    assert "  excluded: the spec excludes cells with warmup + mixup\n    full | warmup + mixup · " in text
    found = [j["cell"] for j in summarise(plan)["judgements"] if j["verdict"] == "excluded"]
    assert found == [f"{policy} | {tricks}" for policy in ("full", "head") for tricks in TWO]


TWO = ("warmup + mixup", "warmup + cosine + mixup")


def test_matrix_marks_what_is_excluded(planned):
    plan = summarise(planned("exclude=[{policy: head, tricks: [mixup]}]"))
    table = matrix(plan)
    assert table.startswith("∅ excluded")
    assert "| `head` | ✓ | ✓ | ∅ 1 |" in table
    assert "excluded" not in matrix(summarise(planned()))


# What is left of the designs.


def test_trick_that_is_excluded_for_good_leaves_the_design_as_a_factor(planned):
    plan = planned("exclude=[{policy: head, tricks: [mixup]}]")
    full, head = (designed.designs[0] for designed in plan.designs)
    assert (full.kind, full.factors) == ("factorial", ("warmup", "cosine", "mixup"))
    assert (head.kind, head.factors) == ("factorial", ("warmup", "cosine"))
    assert list(excluded(plan)) == ["head | mixup"]


def test_policy_that_is_excluded_is_told_once_and_looked_at_no_further(planned):
    mine = "policies={full: , mine: {phases: [{trainable: [layer9]}]}}"
    plan = planned(mine, "exclude=[{policy: mine}]")
    assert list(excluded(plan)) == ["mine | baseline"]
    assert {cell.policy for cell in plan.programs} == {"full"}
    assert [designed.policy for designed in plan.designs] == ["full"]


def test_factorial_with_a_hole_says_which_cells_it_lacks(planned):
    plan = planned("exclude=[{tricks: [warmup, mixup]}]")
    (built,) = plan.designs[0].designs
    assert (built.kind, len(built.sets)) == ("list", 6)
    assert built.note.startswith("a full factorial but for warmup + mixup, warmup + cosine + mixup (")
    assert "no main effects" in built.note


def test_tricks_in_conflict_break_a_factorial_as_well(planned):
    levels = "tricks={weak: {trick: mixup, alpha: 0.1}, strong: {trick: mixup, alpha: 1}}"
    (built,) = planned(levels).designs[0].designs
    assert (built.kind, built.sets) == ("list", ((), ("weak",), ("strong",)))
    assert "but for weak + strong" in built.note


def test_a_grid_of_which_nothing_is_left_is_refused(planned):
    with pytest.raises(HarnessError, match=r"the grid is empty: full . baseline: the spec excludes cells under full"):
        planned("exclude=[{policy: [full, head]}]")


# What may be written.


@pytest.mark.parametrize(
    ("line", "place", "parts"),
    [
        ("exclude: [{policy: haed}]", "exclude.0.policy", ["unknown policy 'haed'", "full, head", "mean 'head'"]),
        ("exclude: [{policy: head_bn}]", "exclude.0.policy", ["unknown policy 'head_bn'"]),
        ("exclude: [{policy: full}, {tricks: [mixpu]}]", "exclude.1.tricks", ["unknown trick 'mixpu'", "mean 'mixup'"]),
        ("exclude: [{without: [ema]}]", "exclude.0.without", ["unknown trick 'ema'", "warmup, mixup"]),
        ("require: [{needs: [ema]}]", "require.0.needs", ["unknown trick 'ema'"]),
        ("exclude: [{size: 8}]", "exclude.0.size", ["unknown key or axis 'size'", "policy, tricks, without, about"]),
        ("exclude: [{about: x}]", "exclude.0", ["every cell", "policy, tricks, without"]),
        ("exclude: [{}]", "exclude.0", ["every cell"]),
        ("require: [{policy: full}]", "require.0", ["key 'needs' is missing"]),
        ("exclude: [{policy: 3}]", "exclude.0.policy", ["3 should be"]),
        ("exclude: [{tricks: mixup}]", "exclude.0.tricks", ['"mixup" should be']),
    ],
)
def test_constraint_that_means_nothing_is_refused_where_it_is_written(refused, line, place, parts):
    message = refused(line)
    assert message.startswith(f"{place}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("entry", "place", "parts"),
    [
        ("{train_per_class: 9}", "exclude.0.train_per_class", ["level of train_per_class '9'", "legal: 8, 16"]),
        ("{target: [plain, x]}", "exclude.0.target", ["level of target 'x'", "plain, inverted"]),
        ("{target: []}", "exclude.0.target", ["name a level"]),
        ("{targets: plain}", "exclude.0.targets", ["about, train_per_class, target", "mean 'target'"]),
    ],
)
def test_level_or_axis_that_is_none_is_refused(refused, entry, place, parts):
    message = refused(f"exclude: [{entry}]", AXIS)
    assert message.startswith(f"{place}: ")
    for part in parts:
        assert part in message


def test_every_fault_has_a_line_of_its_own(write_spec):
    path = write_spec(("seeds: 2", "seeds: 2\nexclude:\n  - {policy: x}\n  - {tricks: [y]}"))
    with pytest.raises(HarnessError) as error:
        specfile.read(path)
    places = [line.removeprefix(f"{path}:").partition(": unknown")[0] for line in str(error.value).splitlines()]
    assert places == ["14: exclude.0.policy", "15: exclude.1.tricks"]
