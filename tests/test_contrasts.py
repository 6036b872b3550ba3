"""Contrasts: each kind against its definition written out, over responses with interactions of every order."""

from itertools import combinations, pairwise, permutations
from math import factorial

import numpy as np
import pytest

from harness.contrasts import Cell, contrasts, of_plan
from harness.designs import Built, build, random_orders, run_of
from harness.spec import DesignOf, Fraction, RandomOrders
from tests.grids import plan_of

NONE: frozenset[str] = frozenset()


def subsets(labels):
    return [frozenset(s) for size in range(len(labels) + 1) for s in combinations(labels, size)]


def game(labels, seed=0):
    """A response with every interaction there is, by trick set."""
    rng = np.random.default_rng(seed)
    return {s: float(value) for s, value in zip(subsets(labels), rng.normal(size=2 ** len(labels)), strict=True)}


def found_in(designs, labels="abcd", **plan):
    """The contrasts of a plan, and the trick set of each of its cells."""
    made = plan_of(designs, labels, **plan)
    return of_plan(made), {cell["cell"]: frozenset(cell["tricks"]) for cell in made["cells"]}


def values(designs, labels="abcd", v=None, kinds=(), **plan):
    """What each contrast of one policy is in a game, by kind, trick, against and design."""
    found, sets = found_in(designs, labels, **plan)
    v = v or game(labels)
    return {
        (c.kind, c.trick, c.against, c.design): sum(w * v[sets[cell]] for cell, w in c.weights.items())
        for c in found
        if not kinds or c.kind in kinds
    }


def brute_force(v, labels):
    """Shapley values: what a trick adds to those before it, the mean over all orders."""
    added: dict[str, list[float]] = {trick: [] for trick in labels}
    for order in permutations(labels):
        for before, trick in enumerate(order):
            added[trick].append(v[frozenset(order[: before + 1])] - v[frozenset(order[:before])])
    return {trick: np.mean(terms) for trick, terms in added.items()}


def of(found, kind):
    """Values of one kind by trick."""
    return {trick: value for (k, trick, _, _), value in found.items() if k == kind}


ORDERS = tuple(permutations("abcd"))
EVERY = (
    "one_in",
    "all",
    "leave_one_out",
    "pairs",
    "factorial",
    DesignOf(cumulative=(tuple("abcd"),)),
    DesignOf(cumulative=ORDERS),
)


# One change at a time.


def test_one_in_is_a_trick_alone_against_none():
    v = game("abcd")
    assert of(values(["one_in"]), "one_in") == {t: v[frozenset(t)] - v[NONE] for t in "abcd"}


def test_leave_one_out_is_all_against_all_but_one():
    """Positive: the trick helps in the presence of the others."""
    v, whole = game("abcd"), frozenset("abcd")
    found = values(["all", "leave_one_out"])
    assert of(found, "leave_one_out") == {t: v[whole] - v[whole - {t}] for t in "abcd"}
    assert [key[2] for key in found if key[0] == "leave_one_out"] == [
        "b + c + d",
        "a + c + d",
        "a + b + d",
        "a + b + c",
    ]


def test_combined_and_synergy():
    v = game("abcd")
    found = values(["one_in", "all"])
    combined = v[frozenset("abcd")] - v[NONE]
    assert of(found, "combined") == {"a + b + c + d": pytest.approx(combined)}
    alone = sum(v[frozenset(t)] - v[NONE] for t in "abcd")
    assert of(found, "synergy") == {"a + b + c + d": pytest.approx(combined - alone)}


def test_synergy_needs_every_trick_alone():
    assert of(values(["all"]), "combined")
    assert not of(values(["all"]), "synergy")


def test_every_set_of_a_list_is_held_against_none():
    v = game("abcd")
    found = values([DesignOf(list=(("a", "b"), ("c",), ("b", "c", "d")))])
    expected = {" + ".join(s): pytest.approx(v[frozenset(s)] - v[NONE]) for s in ("ab", "bcd")}
    assert of(found, "combined") == expected
    assert of(found, "one_in") == {"c": pytest.approx(v[frozenset("c")] - v[NONE])}


def test_steps_of_a_stack_add_up_to_the_whole():
    v, order = game("abcd"), ("c", "a", "d", "b")
    found = values([DesignOf(cumulative=(order,))], kinds=["step"])
    stack = [frozenset(order[:size]) for size in range(5)]
    design = "cumulative: c > a > d > b"
    expected = {
        ("step", *(after - before), " + ".join(sorted(before)) or "baseline", design): pytest.approx(
            v[after] - v[before]
        )
        for before, after in pairwise(stack)
    }
    assert found == expected
    assert sum(found.values()) == pytest.approx(v[frozenset("abcd")] - v[NONE])


def test_steps_that_orders_share_are_told_once():
    found, _ = found_in([DesignOf(cumulative=(("a", "b", "c"), ("a", "c", "b")))], "abc")
    assert [(c.trick, c.against) for c in found if c.kind == "step"] == [
        ("a", "baseline"),
        ("b", "a"),
        ("c", "a + b"),
        ("c", "a"),
        ("b", "a + c"),
    ]


def test_without_a_baseline_nothing_is_held_against_it():
    cells = [Cell("full | a", "full", "", frozenset("a"), "a"), Cell("full | b", "full", "", frozenset("b"), "b")]
    assert contrasts(cells, lambda _policy, _place: build(["one_in"], "ab")) == []


# Averages over a factorial.


def test_main_effect_is_the_mean_of_on_minus_off():
    v = game("abcd")
    found = of(values(["factorial"]), "main")
    for trick in "abcd":
        others = [s for s in v if trick not in s]
        assert found[trick] == pytest.approx(np.mean([v[s | {trick}] - v[s] for s in others]))


def test_interaction_is_the_effect_of_one_where_the_other_is_on_minus_where_it_is_off():
    v = game("abcd")
    found = {trick: x for (k, trick, _, design), x in values(["factorial"]).items() if k == "interaction"}
    assert list(found) == [f"{a} × {b}" for a, b in combinations("abcd", 2)]
    for a, b in combinations("abcd", 2):
        on = np.mean([v[s | {a}] - v[s] for s in v if b in s and a not in s])
        off = np.mean([v[s | {a}] - v[s] for s in v if b not in s and a not in s])
        assert found[f"{a} × {b}"] == pytest.approx(on - off)


def test_interaction_of_a_known_size_comes_back_in_full():
    """Together they gain 3 more than alone: neither 3/2 nor 3/4 of some coding of on and off."""
    v = {s: 1.0 * ("a" in s) + 2.0 * ("b" in s) + 3.0 * ({"a", "b"} <= s) for s in subsets("abc")}
    for designs in (["factorial"], ["pairs"]):
        assert of(values(designs, "abc", v), "interaction") == pytest.approx({"a × b": 3, "a × c": 0, "b × c": 0})


def test_pairs_are_held_against_the_sum_of_each_alone():
    v = game("abcd")
    found = of(values(["pairs"]), "interaction")
    for a, b in combinations("abcd", 2):
        alone = v[frozenset(a)] + v[frozenset(b)] - v[NONE]
        assert found[f"{a} × {b}"] == pytest.approx(v[frozenset({a, b})] - alone)


def test_factorial_that_lacks_a_cell_has_no_averages():
    whole = build(["factorial"], "abc")
    without = run_of(whole[0], [s for s in whole[0].sets if s != ("a", "b")])
    found = of_plan(plan_of({"full": [without]}, "abc"))
    assert {c.kind for c in found} == {"one_in", "combined", "synergy"}


def test_factorial_of_which_a_cell_is_not_planned_has_no_averages():
    """As in a plan whose designs speak of more cells than it has."""
    plan = plan_of(["factorial"], "abc")
    plan["cells"] = [cell for cell in plan["cells"] if cell["tricks"] != ["a", "b"]]
    assert not {"main", "interaction", "shapley"} & {c.kind for c in of_plan(plan)}


# Fractions.


def fraction(**given):
    return DesignOf(fractional=Fraction(**given))


def least_squares(sets, labels, v, order):
    """Coefficients of the model of main effects, or of two-factor interactions too, in tricks off = 0 and on = 1."""
    terms = [t for size in range(order + 1) for t in combinations(labels, size)]
    matrix = np.array([[float(set(term) <= s) for term in terms] for s in sets])
    assert np.linalg.matrix_rank(matrix) == len(terms)
    fitted, *_ = np.linalg.lstsq(matrix, np.array([v[s] for s in sets]), rcond=None)
    return dict(zip(terms, fitted, strict=True))


@pytest.mark.parametrize(
    ("labels", "design"),
    [
        ("abcde", fraction(resolution=3)),
        ("abcdef", fraction(resolution=4)),
        ("abcde", fraction(resolution=5)),
        ("abcdefghi", fraction(plackett_burman=True)),
    ],
    ids=["III", "IV", "V", "Plackett–Burman of 12"],
)
def test_main_effects_of_a_fraction_are_those_of_least_squares(labels, design):
    v = game(labels)
    (built,) = build([design], labels)
    sets = [frozenset(s) for s in built.sets]
    assert len(sets) < 2 ** len(labels)
    fitted = least_squares(sets, labels, v, 1)
    assert of(values([design], labels), "main") == pytest.approx({t: fitted[t,] for t in labels})


def test_plackett_burman_of_12_runs_has_12_runs():
    (built,) = build([fraction(plackett_burman=True)], "abcdefghijk")
    assert len(built.sets) == 12
    (a, *_) = [c for c in of_plan(plan_of([fraction(plackett_burman=True)], "abcdefghijk")) if c.kind == "main"]
    assert sorted(a.weights.values()) == pytest.approx([-1 / 6] * 6 + [1 / 6] * 6)


@pytest.mark.parametrize(
    ("labels", "design"),
    [
        ("abcde", fraction(resolution=3)),
        ("abcdef", fraction(resolution=4)),
        ("abcdefghi", fraction(plackett_burman=True)),
    ],
    ids=["III", "IV", "Plackett–Burman"],
)
def test_below_resolution_5_there_are_no_interactions_and_no_shapley_values(labels, design):
    kinds = {c.kind for c in of_plan(plan_of([design], labels))}
    assert "main" in kinds
    assert not {"interaction", "shapley"} & kinds


def test_interactions_of_resolution_5_are_those_of_the_second_order_model():
    v = game("abcde")
    (built,) = build([fraction(resolution=5)], "abcde")
    fitted = least_squares([frozenset(s) for s in built.sets], "abcde", v, 2)
    expected = {f"{a} × {b}": fitted[a, b] for a, b in combinations("abcde", 2)}
    assert of(values([fraction(resolution=5)], "abcde"), "interaction") == pytest.approx(expected)


# Shapley values.


@pytest.mark.parametrize("labels", ["ab", "abc", "abcd", "abcde"])
def test_shapley_values_of_a_factorial_are_those_of_brute_force(labels):
    assert of(values(["factorial"], labels), "shapley") == pytest.approx(brute_force(game(labels), labels))


def test_shapley_values_of_all_orders_are_those_of_brute_force():
    design = DesignOf(cumulative=RandomOrders(orders=24))
    found, _ = found_in([design])
    assert of(values([design]), "shapley") == pytest.approx(brute_force(game("abcd"), "abcd"))
    assert {c.share_of_orders for c in found if c.kind == "shapley"} == {1}
    assert {c.design for c in found if c.kind == "shapley"} == {"cumulative: 24 orders"}


def test_orders_chosen_by_hand_have_no_shapley_value():
    """They are no sample of all orders: what is stacked first in each is told from the rest by no chance."""
    assert not of(values([DesignOf(cumulative=(tuple("abcd"), tuple("cadb"), tuple("dbca")))]), "shapley")


def test_shapley_values_of_some_orders_are_their_means():
    v, orders = game("abcd"), random_orders("abcd", 6, 3)
    found = of(values([DesignOf(cumulative=RandomOrders(orders=6, seed=3))]), "shapley")
    for trick in "abcd":
        added = [v[frozenset(o[: o.index(trick) + 1])] - v[frozenset(o[: o.index(trick)])] for o in orders]
        assert found[trick] == pytest.approx(np.mean(added))


def test_shapley_values_of_a_fraction_are_those_of_the_fitted_game():
    v = game("abcde")
    (built,) = build([fraction(resolution=5)], "abcde")
    fitted = least_squares([frozenset(s) for s in built.sets], "abcde", v, 2)
    model = {s: sum(b for term, b in fitted.items() if set(term) <= s) for s in subsets("abcde")}
    found = values([fraction(resolution=5)], "abcde", kinds=["shapley"])
    assert of(found, "shapley") == pytest.approx(brute_force(model, "abcde"))
    assert {design for *_, design in found} == {"fractional: second-order model"}


@pytest.mark.parametrize(
    ("labels", "design"),
    [
        ("abcd", "factorial"),
        ("abcde", "factorial"),
        ("abcd", DesignOf(cumulative=RandomOrders(orders=6, seed=3))),
        ("abcd", DesignOf(cumulative=ORDERS)),
    ],
    ids=["factorial of 4", "factorial of 5", "6 orders", "all orders"],
)
def test_shapley_values_sum_to_the_combined_effect(labels, design):
    """As weights, so for every metric and every seed."""
    found, _ = found_in([design], labels)
    total: dict[str, float] = {}
    for contrast in found:
        if contrast.kind == "shapley":
            for cell, weight in contrast.weights.items():
                total[cell] = total.get(cell, 0) + weight
    (combined,) = [c.weights for c in found if c.kind == "combined"]
    assert {cell: w for cell, w in total.items() if abs(w) > 1e-12} == pytest.approx(combined)


def test_main_effect_is_no_shapley_value_where_three_interact():
    """It is Banzhaf's: 1/4 of a gain that three tricks make only together, of which Shapley gives each a third."""
    v = {s: 1.0 * (len(s) == 3) for s in subsets("abc")}
    found = values(["factorial"], "abc", v)
    assert of(found, "main") == pytest.approx(dict.fromkeys("abc", 1 / 4))
    assert of(found, "shapley") == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_main_effect_is_the_shapley_value_where_no_three_interact():
    v = {s: len(s) + 0.5 * ({"a", "b"} <= s) - 2.0 * ({"b", "d"} <= s) for s in subsets("abcd")}
    found = values(["factorial"], "abcd", v)
    assert of(found, "main") == pytest.approx(of(found, "shapley"))


def test_orders_that_lack_a_cell_have_no_shapley_value():
    """The orders that are left would be no random sample."""
    (whole,) = build([DesignOf(cumulative=RandomOrders(orders=6))], "abc")
    left = run_of(whole, [s for s in whole.sets if s != ("a", "b")])
    kinds = [c.kind for c in of_plan(plan_of({"full": [left]}, "abc"))]
    assert "step" in kinds
    assert "shapley" not in kinds


def test_orders_of_unlike_tricks_have_no_shapley_value():
    found, _ = found_in([DesignOf(cumulative=(("a", "b"), ("c", "d")))])
    assert {c.kind for c in found} == {"one_in", "step"}


def test_draws_of_random_orders_are_pairs_of_an_order_and_its_reverse():
    found, _ = found_in([DesignOf(cumulative=RandomOrders(orders=6, seed=1))])
    for contrast in found:
        if contrast.kind == "shapley":
            assert len(contrast.draws) == 3
            assert contrast.share_of_orders == 6 / factorial(4)
            mean = {
                cell: np.mean([draw.get(cell, 0) for draw in contrast.draws]) for cell in set().union(*contrast.draws)
            }
            assert {cell: w for cell, w in mean.items() if w} == pytest.approx(contrast.weights)


def test_spread_of_the_draws_is_that_of_simulated_studies():
    """The variance of the estimates of 1,500 random samples of orders is what each sample says of itself on average.

    Taken for 8 single orders it would be wrong, as the two of a pair are no independent draws.
    """
    v = {s: len(s) ** 2 + 2.0 * ({"a", "c"} <= s) - 3.0 * ({"b", "c", "d"} <= s) for s in subsets("abcd")}
    estimates, variances, alone = [], [], []
    for seed in range(1500):
        orders = random_orders("abcd", 8, seed)
        plan = plan_of({"full": [_stacked(orders)]}, "abcd", seeds=1)
        sets = {cell["cell"]: frozenset(cell["tricks"]) for cell in plan["cells"]}
        (found,) = [c for c in of_plan(plan) if (c.kind, c.trick) == ("shapley", "c")]
        draws = [sum(w * v[sets[cell]] for cell, w in draw.items()) for draw in found.draws]
        estimates.append(np.mean(draws))
        variances.append((1 - found.share_of_orders) * np.var(draws, ddof=1) / len(draws))
        each = [v[frozenset(o[: o.index("c") + 1])] - v[frozenset(o[: o.index("c")])] for o in orders]
        alone.append((1 - found.share_of_orders) * np.var(each, ddof=1) / len(each))
    assert np.mean(estimates) == pytest.approx(brute_force(v, "abcd")["c"], abs=0.02)
    assert np.mean(variances) == pytest.approx(np.var(estimates), rel=0.1)
    assert np.mean(alone) != pytest.approx(np.var(estimates), rel=0.3)


def _stacked(orders):
    sets = dict.fromkeys(tuple(t for t in "abcd" if t in o[:size]) for o in orders for size in range(5))
    return Built("cumulative", tuple("abcd"), tuple(sets), tuple(orders), sampled=True)


# All kinds.


@pytest.mark.parametrize("policies", [("full",), ("full", "head")])
def test_weights_sum_to_0(policies):
    levels = [{"size": "8"}, {"size": "16"}]
    designs = [*EVERY, fraction(resolution=3), DesignOf(list=(("a", "c", "d"),))]
    found, _ = found_in(designs, policies=policies, levels=levels)
    assert {c.kind for c in found} >= {"one_in", "leave_one_out", "step", "main", "interaction", "shapley", "synergy"}
    for contrast in found:
        assert sum(contrast.weights.values()) == pytest.approx(0, abs=1e-12), contrast
        assert all(contrast.weights.values()), contrast


def test_no_two_effects_have_one_name():
    """Designs of one kind over other tricks are other effects; what two designs look at alike is one."""
    designs = [
        DesignOf(factorial=("a", "b")),
        DesignOf(factorial=("b", "c", "d")),
        DesignOf(pairs=("a", "b", "c")),
        DesignOf(pairs=("b", "c")),
        DesignOf(cumulative=RandomOrders(orders=2, seed=0)),
        DesignOf(cumulative=(("b", "c"), ("c", "b"))),
        DesignOf(cumulative=(tuple("abcd"),)),
        fraction(resolution=4),
        DesignOf(fractional=Fraction(resolution=3, tricks=("b", "c", "d"))),
    ]
    found, _ = found_in(designs)
    names = [(c.kind, c.policy, c.trick, c.against, c.scenario, c.design) for c in found]
    assert len(names) == len(set(names))
    mains = {c.design: len(c.weights) for c in found if (c.kind, c.trick) == ("main", "b")}
    assert mains == {
        "factorial of a, b in 4": 4,
        "factorial of b, c, d in 8": 8,
        "fractional of a, b, c, d in 8": 8,
        "fractional of b, c, d in 4": 4,
    }
    shapley = [c.design for c in found if (c.kind, c.trick) == ("shapley", "c")]
    assert sorted(shapley) == [
        "cumulative of a, b, c, d in 8: 2 orders",
        "cumulative of b, c in 4: 2 orders",
        "factorial of b, c, d in 8",
    ]
    assert [c.design for c in found if (c.kind, c.trick) == ("interaction", "b × c")].count("pairs") == 1


def test_kinds_come_in_one_order_policy_by_policy():
    designs = ["one_in", "all", "leave_one_out", DesignOf(cumulative=(tuple("abc"),)), "factorial"]
    found, _ = found_in(designs, "abc", policies=("full", "head"), levels=[{"size": "8"}, {"size": "16"}])

    def sort(contrast):
        crossed = {"full": " × policy", "size 8": " × scenario"}.get(contrast.against, "")
        return contrast.kind if contrast.kind == "policy" else contrast.kind + crossed

    runs = [(c.scenario, c.policy, sort(c)) for c in found]
    within = ["one_in", "combined", "synergy", "leave_one_out", "step", "main", "interaction", "shapley"]
    policy, size = "interaction × policy", "interaction × scenario"
    assert list(dict.fromkeys(runs)) == [
        *(("size 8", "full", kind) for kind in within),
        *(("size 8", "head", kind) for kind in ("policy", *within, policy)),
        *(("size 16", "full", kind) for kind in (*within, size)),
        *(("size 16", "head", kind) for kind in ("policy", *within, policy, size)),
    ]
    assert [run for run, after in pairwise([*runs, None]) if run != after] == list(dict.fromkeys(runs))


# What an effect depends on.


def crossed(plan, v):
    """Interactions with a policy or a scenario: the estimate by policy, trick, against, scenario and design."""
    at = {
        cell["cell"]: (cell["policy"], tuple(cell["levels"].values()), frozenset(cell["tricks"]))
        for cell in plan["cells"]
    }
    return {
        (c.policy, c.trick, c.against, c.scenario, c.design): sum(w * v(*at[cell]) for cell, w in c.weights.items())
        for c in of_plan(plan)
        if c.kind == "interaction" and c.against
    }


def test_trick_by_policy_is_what_it_does_there_minus_under_the_first():
    v = {policy: game("ab", seed) for seed, policy in enumerate(("full", "head", "head_bn"))}
    found = crossed(plan_of(["factorial"], "ab", ("full", "head", "head_bn")), lambda p, _, s: v[p][s])
    assert len(found) == 2 * (2 + 1 + 2)
    for policy in ("head", "head_bn"):
        for trick in "ab":
            ours, theirs = (v[p][frozenset(trick)] - v[p][NONE] for p in (policy, "full"))
            assert found[policy, trick, "full", "", "one_in"] == pytest.approx(ours - theirs)
        ours, theirs = (v[p][frozenset("ab")] - v[p][NONE] for p in (policy, "full"))
        assert found[policy, "a + b", "full", "", "factorial"] == pytest.approx(ours - theirs)


def test_trick_by_scenario_is_what_it_does_there_minus_in_the_first():
    v = {key: game("a", seed) for seed, key in enumerate((p, size) for p in ("full", "head") for size in "123")}
    levels = [{"size": size} for size in "123"]
    found = crossed(plan_of(["one_in"], "a", ("full", "head"), levels), lambda p, at, s: v[p, at[0]][s])

    def effect(policy, size):
        return v[policy, size][frozenset("a")] - v[policy, size][NONE]

    expected = {
        (p, "a", "size 1", f"size {size}", "one_in"): effect(p, size) - effect(p, "1")
        for p in ("full", "head")
        for size in "23"
    }
    expected |= {("head", "a", "full", f"size {n}", "one_in"): effect("head", n) - effect("full", n) for n in "123"}
    assert found == pytest.approx(expected)


def test_policies_are_held_against_the_first_within_their_scenario():
    found = [
        c for c in of_plan(plan_of(["one_in"], "a", ("full", "head"), [{"n": "1"}, {"n": "2"}])) if c.kind == "policy"
    ]
    assert [(c.policy, c.against, c.scenario, c.weights) for c in found] == [
        ("head", "full", f"n {n}", {f"head | baseline | n {n}": 1, f"full | baseline | n {n}": -1}) for n in "12"
    ]


def test_averages_over_other_tricks_are_not_held_against_each_other():
    """Under head c cannot run: the main effect of a there is a mean over two other sets, not four."""
    plan = plan_of({"full": build(["factorial"], "abc"), "head": build(["factorial"], "ab")}, "abc")
    found = crossed(plan, lambda *_: 0.0)
    assert set(found) == {("head", trick, "full", "", "one_in") for trick in "ab"}


def test_trick_that_the_first_policy_cannot_have_is_held_against_nothing():
    plan = plan_of({"full": build(["one_in"], "a"), "head": build(["one_in"], "ab")}, "ab")
    assert set(crossed(plan, lambda *_: 0.0)) == {("head", "a", "full", "", "one_in")}


# Plans that tell no designs.


@pytest.mark.parametrize(
    ("designs", "kinds"),
    [
        (["one_in", "all"], {"one_in", "combined", "synergy"}),
        (["leave_one_out"], {"leave_one_out", "combined"}),
        (["pairs"], {"one_in", "interaction"}),
        (["factorial"], {"one_in", "combined", "synergy", "leave_one_out", "main", "interaction", "shapley"}),
        ([DesignOf(cumulative=(tuple("bdac"),))], {"one_in", "combined", "step", "leave_one_out"}),
    ],
)
def test_designs_are_recognised_in_a_plan_that_tells_none(designs, kinds):
    plan = plan_of(designs, "abcd")
    told = {c.kind for c in of_plan(plan)}
    del plan["designs"]
    assert {c.kind for c in of_plan(plan)} == kinds
    assert kinds >= told


def test_what_is_left_out_names_its_own_design_whatever_comes_first():
    plan = plan_of({"full": build(["all", "leave_one_out"], "abc")}, "abc")
    assert {c.design for c in of_plan(plan) if c.kind == "leave_one_out"} == {"leave_one_out"}
