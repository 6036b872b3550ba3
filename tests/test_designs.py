"""Designs: which trick sets are tried, and what a bare list of trick sets amounts to."""

from itertools import combinations, permutations, product

import pytest

from harness import specfile
from harness.designs import (
    Built,
    build,
    everything,
    factorial,
    leave_one_out,
    one_in,
    pairs,
    random_orders,
    recognise,
    run_of,
    union,
)
from harness.errors import HarnessError
from harness.spec import DesignOf, Fraction

LABELS = ("warmup", "cosine", "mixup")
LETTERS = tuple("abcdefghijk")


@pytest.fixture
def sets(write_spec):
    """A function that returns the trick sets of a study with three tricks and the given designs."""

    def of(designs, labels=LABELS):
        tricks = ("{warmup: {epochs: 1}, mixup: }", "[warmup, cosine, mixup]")
        return union(build(specfile.read(write_spec(tricks, ("[one_in]", designs))).spec.designs, labels))

    return of


def test_one_in_is_the_baseline_and_each_trick_alone():
    assert one_in(LABELS) == [(), ("warmup",), ("cosine",), ("mixup",)]


def test_all_is_the_baseline_and_everything():
    assert everything(LABELS) == [(), LABELS]


def test_designs_are_joined_without_repeats(sets):
    assert sets("[one_in, all]") == [(), ("warmup",), ("cosine",), ("mixup",), LABELS]
    assert sets("[all, one_in]") == [(), LABELS, ("warmup",), ("cosine",), ("mixup",)]
    assert sets("[all, all]") == [(), LABELS]


def test_default_designs_are_one_in_and_all(write_spec):
    spec = specfile.read(write_spec(("designs: [one_in]\n", ""))).spec
    assert union(build(spec.designs, ("warmup", "mixup"))) == [(), ("warmup",), ("mixup",), ("warmup", "mixup")]


def test_all_of_one_trick_is_that_trick_alone(sets):
    assert sets("[one_in, all]", ("mixup",)) == [(), ("mixup",)]


@pytest.mark.parametrize("designs", ["[one_in]", "[all]", "[one_in, all]", "[{list: [[warmup]]}]", "[{list: []}]"])
def test_without_tricks_only_the_baseline_is_left(sets, designs):
    assert sets(designs, ()) == [()]


def test_list_is_the_baseline_and_its_rows(sets):
    assert sets("[{list: [[warmup], [warmup, cosine]]}]") == [(), ("warmup",), ("warmup", "cosine")]


def test_rows_of_a_list_are_sets(sets):
    """The order within a row, and a name written twice, make no other cell."""
    rows = "[{list: [[mixup, warmup], [warmup, mixup], [warmup, warmup, mixup], []]}]"
    assert sets(rows) == [(), ("warmup", "mixup")]


def test_list_adds_to_other_designs(sets):
    assert sets("[all, {list: [[warmup, cosine, mixup], [cosine]]}]") == [(), LABELS, ("cosine",)]


def test_trick_that_left_the_study_leaves_every_row(sets):
    left = ("cosine", "mixup")
    assert sets("[one_in, all]", left) == [(), ("cosine",), ("mixup",), left]
    assert sets("[{list: [[warmup], [warmup, cosine], [cosine]]}]", left) == [(), ("cosine",)]


# Against brute force.


@pytest.mark.parametrize("count", range(6))
def test_factorial_is_every_set_once(count):
    labels = LETTERS[:count]
    everyone = {tuple(x for x, on in zip(labels, row, strict=True) if on) for row in product((0, 1), repeat=count)}
    assert len(factorial(labels)) == 2**count
    assert set(factorial(labels)) == everyone
    assert factorial(labels)[0] == ()


@pytest.mark.parametrize("count", range(2, 6))
def test_pairs_and_leave_one_out_are_those_sets_of_the_factorial(count):
    labels = LETTERS[:count]
    assert pairs(labels) == [tricks for tricks in factorial(labels) if len(tricks) <= 2]
    large = {tricks for tricks in factorial(labels) if len(tricks) >= count - 1}
    assert set(leave_one_out(labels)) == {(), *large}
    assert leave_one_out(labels)[:2] == [(), labels]


def test_a_list_of_tricks_restricts_a_design(sets):
    assert sets("[{one_in: [mixup, warmup]}]") == [(), ("warmup",), ("mixup",)]
    assert sets("[{factorial: [mixup, cosine]}]") == [(), ("cosine",), ("mixup",), ("cosine", "mixup")]
    assert sets("[{all: [warmup, cosine]}, {pairs: [warmup]}]") == [(), ("warmup", "cosine"), ("warmup",)]


def test_designs_share_their_cells(sets):
    assert len(sets("[factorial, one_in, pairs, leave_one_out, cumulative, all]")) == 8


# Cumulative.


def test_cumulative_stacks_in_the_order_of_the_spec(sets):
    assert sets("[cumulative]") == [(), ("warmup",), ("warmup", "cosine"), LABELS]


def test_cumulative_stacks_in_given_orders(sets):
    assert sets("[{cumulative: [mixup, warmup]}]") == [(), ("mixup",), ("warmup", "mixup")]
    chains = "[{cumulative: [[mixup, warmup, cosine], [cosine, warmup, mixup]]}]"
    assert sets(chains) == [(), ("mixup",), ("warmup", "mixup"), LABELS, ("cosine",), ("warmup", "cosine")]


def test_a_trick_that_cannot_run_leaves_every_order():
    (built,) = build([DesignOf(cumulative=(("a", "b", "c"), ("c", "b", "a"), ("b", "a", "c")))], ("a", "c"))
    assert built.orders == (("a", "c"), ("c", "a"))
    assert built.sets == ((), ("a",), ("a", "c"), ("c",))


def test_random_orders_are_distinct_come_with_their_reverse_and_stay():
    orders = random_orders(LETTERS[:5], 12, seed=0)
    assert len(set(orders)) == 12
    assert all(sorted(order) == [*LETTERS[:5]] for order in orders)
    assert orders[1::2] == [order[::-1] for order in orders[::2]]
    assert orders == random_orders(LETTERS[:5], 12, seed=0)
    assert orders != random_orders(LETTERS[:5], 12, seed=1)
    assert orders[0] == ("d", "a", "c", "e", "b")  # for ever: a grid is found again by what its spec says


def test_random_orders_are_all_where_there_are_no_more(sets):
    assert set(random_orders(LABELS, 6, 0)) == set(permutations(LABELS))
    design = DesignOf.model_validate({"cumulative": {"orders": 6, "seed": 0}})
    (few,) = build([design], ("a", "b"))
    assert set(few.orders) == {("a", "b"), ("b", "a")}
    assert "these are all" in few.note
    assert len(sets("[{cumulative: {orders: 6}}]")) == 8


# Fractions.


def fraction(**given):
    return DesignOf(fractional=Fraction(**given))


@pytest.mark.parametrize(
    ("given", "count", "runs", "resolution"),
    [
        ({"resolution": 3}, 3, 4, 3),
        ({"resolution": 3}, 7, 8, 3),
        ({"resolution": 4}, 7, 16, 4),
        ({"resolution": 4}, 8, 16, 4),
        ({"resolution": 5}, 8, 64, 5),
        ({"resolution": 5}, 11, 128, 5),
        ({"runs": 32}, 8, 32, 4),
        ({"plackett_burman": True}, 11, 12, 3),
        ({"plackett_burman": True}, 9, 12, 3),
    ],
)
def test_fraction_holds_the_baseline_and_balances_every_trick(given, count, runs, resolution):
    factors = LETTERS[:count]
    (built,) = build([fraction(**given)], factors)
    assert (built.kind, built.factors, built.resolution) == ("fractional", factors, resolution)
    assert len(set(built.sets)) == len(built.sets) == runs
    assert built.sets[0] == ()
    for trick in factors:
        assert sum(trick in tricks for tricks in built.sets) == runs / 2
    for a, b in combinations(factors, 2):
        assert sum(a in tricks and b in tricks for tricks in built.sets) == runs / 4


def test_fraction_in_words_of_the_spec(sets):
    assert sets("[{fractional: {resolution: 3}}]") == [(), ("warmup", "cosine"), ("warmup", "mixup"), LABELS[1:]]
    assert len(sets("[{fractional: plackett_burman}]")) == 4
    assert len(sets("[{fractional: {runs: 4}}]")) == 4
    assert len(sets("[{fractional: {plackett_burman: true, tricks: [warmup, cosine, mixup]}}]")) == 4


@pytest.mark.parametrize(
    ("given", "count"),
    [({"resolution": 3}, 2), ({"resolution": 4}, 3), ({"resolution": 5}, 4), ({"runs": 16}, 4), ({"runs": 16}, 0)]
    + [({"plackett_burman": True}, count) for count in (0, 1, 2)],
)
def test_too_few_tricks_for_a_fraction_are_a_full_factorial_and_say_so(given, count):
    (built,) = build([fraction(**given)], LETTERS[:count])
    assert (built.kind, built.resolution, len(built.sets)) == ("factorial", None, 2**count)
    assert "was asked" in built.note


def test_resolution_above_the_one_asked_is_said():
    (five,) = build([fraction(resolution=4)], LETTERS[:5])
    assert five.resolution == 5
    assert "resolution IV was asked" in five.note
    assert build([fraction(resolution=4)], LETTERS[:6])[0].note == ""


def test_what_a_trick_that_left_does_to_the_resolution_is_said():
    (built,) = build([fraction(runs=16)], LETTERS[:5], left=("f",))
    assert built.resolution == 5
    assert built.note == "with f it would be 16 trick sets of resolution IV"
    assert build([fraction(runs=16)], LETTERS[:6], left=("g",))[0].note == ""
    assert build([fraction(runs=16, tricks=LETTERS[:5])], LETTERS[:5], left=("f",))[0].note == ""


def test_aliases_of_a_fraction_are_named_by_its_tricks():
    (built,) = build([fraction(resolution=3)], LABELS)
    assert built.aliases[0] == "warmup is aliased with −(cosine × mixup)"


# What may not be written.


@pytest.mark.parametrize(
    ("designs", "place", "parts"),
    [
        ("[one_in, {factorial: [warmpu]}]", "designs.1.factorial", ["'warmpu'", "mean 'warmup'"]),
        ("[{pairs: [warmup, warmup]}]", "designs.0.pairs", ["named twice"]),
        ("[{cumulative: [[warmup, cosine], [mixup, mixup]]}]", "designs.0.cumulative", ["named twice"]),
        ("[{cumulative: {orders: 8}}]", "designs.0.cumulative", ["8 orders", "the 6 that 3 tricks have"]),
        ("[{cumulative: {orders: 3}}]", "designs.0.cumulative.orders", ["multiple of 2"]),
        ("[{cumulative: {orders: 4, x: 1}}]", "designs.0.cumulative.x", ["legal: orders, seed, tricks"]),
        ("[{fractional: {runs: 6}}]", "designs.0.fractional", ["3 tricks has 6 runs", "legal: 4, 8"]),
        ("[{fractional: {resolution: 6}}]", "designs.0.fractional.resolution", ["6 should be 3, 4 or 5"]),
        ("[{fractional: {}}]", "designs.0.fractional", ["exactly one of `resolution`, `runs` and `plackett_burman`"]),
        ("[{fractional: {runs: 4, resolution: 3}}]", "designs.0.fractional", ["exactly one"]),
        ("[{fractional: {run: 4}}]", "designs.0.fractional.run", ["unknown key 'run'", "plackett_burman, tricks"]),
        ("[{fractional: {runs: 4, tricks: [ema]}}]", "designs.0.fractional", ["'ema'", "warmup, cosine, mixup"]),
        ("[{one_in: [warmup], all: [warmup]}]", "designs.0", ["exactly one of one_in, all"]),
        ("[{one_in: }]", "designs.0", ["exactly one of one_in, all"]),
        ("[factoral]", "designs.0", ["factoral", "'factorial'"]),
    ],
)
def test_design_that_means_nothing_is_refused_where_it_is_written(write_spec, designs, place, parts):
    path = write_spec(("{warmup: {epochs: 1}, mixup: }", "[warmup, cosine, mixup]"), ("[one_in]", designs))
    with pytest.raises(HarnessError) as error:
        specfile.read(path)
    assert str(error.value).startswith(f"{path}:11: {place}: ")
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("design", "count", "legal"),
    [
        ("factorial", 13, "8,192 trick sets; legal: up to 12"),
        ("{fractional: {resolution: 4}}", 12, "legal: up to 11 tricks"),
        ("{fractional: {runs: 8}}", 9, "legal: 16, 32, 64, 128, 512"),
        ("{fractional: plackett_burman}", 25, "legal: up to 23 tricks, or 28"),
    ],
)
def test_design_too_large_is_refused_with_what_is_legal(write_spec, design, count, legal):
    tricks = ", ".join(f"t{number}: {{trick: mixup}}" for number in range(count))
    path = write_spec(("{warmup: {epochs: 1}, mixup: }", f"{{{tricks}}}"), ("[one_in]", f"[{design}]"))
    with pytest.raises(HarnessError, match=legal):
        specfile.read(path)


# What is left of a design.


def test_factorial_that_lacks_a_set_is_a_list_and_says_so():
    (built,) = build(["factorial"], LETTERS[:3])
    left = run_of(built, [tricks for tricks in built.sets if tricks != ("a", "b")])
    assert (left.kind, len(left.sets)) == ("list", 7)
    assert "a full factorial but for a + b" in left.note
    assert "no main effects" in left.note
    assert run_of(built, built.sets) == built


def test_fraction_that_lacks_a_set_tells_nothing_apart_any_more():
    (built,) = build([fraction(resolution=3)], LETTERS[:3])
    left = run_of(built, built.sets[1:])
    assert (left.kind, left.resolution, left.aliases) == ("list", None, ())
    assert "but for baseline" in left.note


def test_stack_that_lacks_a_step_keeps_the_others():
    (built,) = build(["cumulative"], LETTERS[:3])
    left = run_of(built, [(), ("a", "b"), ("a", "b", "c")])
    assert (left.kind, left.orders, len(left.sets)) == ("cumulative", built.orders, 3)
    assert "but for a (" in left.note


# Bare lists.


def kinds(sets, factors=LETTERS):
    return {built.kind: built for built in recognise(sets, factors)}


def test_full_factorial_is_recognised_with_what_it_holds():
    found = kinds(factorial(LETTERS[:3])[::-1], LETTERS[:4])
    assert list(found) == ["factorial", "one_in", "leave_one_out"]
    assert found["factorial"] == Built("factorial", LETTERS[:3], tuple(factorial(LETTERS[:3])))


def test_one_trick_is_one_in_alone():
    assert list(kinds([(), ("a",)])) == ["one_in"]


@pytest.mark.parametrize(
    "given", [{"resolution": 3}, {"resolution": 4}, {"resolution": 5}, {"plackett_burman": True}, {"runs": 64}]
)
def test_fraction_is_recognised_with_its_resolution_and_aliases(given):
    (built,) = build([fraction(**given)], LETTERS[:8])
    found = kinds(built.sets[::-1])["fractional"]
    assert (found.sets, found.resolution, found.aliases) == (built.sets, built.resolution, built.aliases)


def test_fraction_short_of_a_run_is_a_list():
    (built,) = build([fraction(resolution=4)], LETTERS[:8])
    assert [found.kind for found in recognise(built.sets[1:], LETTERS)] == ["list"]


def test_what_no_other_design_explains_is_a_list_or_all():
    one, rest = recognise([(), ("a",), ("b",), ("a", "b", "c"), ("b", "d")], LETTERS)
    assert (one.kind, rest.kind, rest.sets) == ("one_in", "list", (("b", "d"), ("a", "b", "c")))
    one, rest = recognise([(), ("a",), ("b",), ("c",), ("a", "b", "c")], LETTERS)
    assert (one.kind, rest.kind, rest.sets, rest.factors) == ("one_in", "all", (("a", "b", "c"),), ("a", "b", "c"))


def test_one_stack_is_recognised_in_its_order():
    found = recognise([(), ("c",), ("a", "c"), ("a", "b", "c")], LETTERS)
    assert [built.kind for built in found] == ["one_in", "leave_one_out", "cumulative"]
    assert found[-1].orders == (("c", "a", "b"),)


def test_several_stacks_are_recognised_with_every_order_that_they_hold():
    (built,) = build([DesignOf(cumulative=(("a", "b", "c", "d"), ("d", "c", "b", "a")))], LETTERS[:4])
    assert set(kinds(built.sets)["cumulative"].orders) == set(built.orders)


def test_stack_with_a_gap_is_a_list():
    assert [found.kind for found in recognise([(), ("a", "b"), ("a", "b", "c", "d")], LETTERS)] == ["list"]


def test_leave_one_out_and_one_in_need_no_complete_design():
    found = kinds([("a", "b", "c", "d"), ("a", "b", "c"), ("a", "b", "d"), (), ("c",)])
    assert list(found) == ["one_in", "leave_one_out"]
    assert found["one_in"].factors == ("c",)
    assert found["leave_one_out"].factors == ("c", "d")
    assert "leave_one_out" not in kinds([("a", "b", "c"), ("a",)])
    assert recognise([("a",), ("b",), ("c",)], LETTERS) == ()  # nothing to compare with


def test_pairs_need_both_tricks_alone_and_the_baseline():
    sets = pairs(LETTERS[:4])
    found = kinds(sets)
    assert list(found) == ["one_in", "pairs"]
    assert set(found["pairs"].sets) == set(sets)
    assert "pairs" not in kinds([tricks for tricks in sets if tricks])
    lone = kinds([(), ("a",), ("b",), ("c",), ("a", "b")])["pairs"]
    assert (lone.factors, lone.sets[-1]) == (("a", "b"), ("a", "b"))
