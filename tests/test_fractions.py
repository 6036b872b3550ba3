"""Fractions: against the published tables, and by their own matrices."""

from itertools import combinations

import numpy as np
import pytest

from harness import fractions
from harness.fractions import FRACTIONS, aliases, is_orthogonal, plackett_burman, regular, resolution

PUBLISHED = {
    (3, 4): {3: 1},
    (4, 8): {4: 1},
    (5, 8): {3: 2, 4: 1},
    (5, 16): {5: 1},
    (6, 8): {3: 4, 4: 3},
    (6, 16): {4: 3},
    (6, 32): {6: 1},
    (7, 8): {3: 7, 4: 7, 7: 1},
    (7, 16): {4: 7},
    (7, 32): {4: 1, 5: 2},
    (7, 64): {7: 1},
    (8, 16): {4: 14, 8: 1},
    (8, 32): {4: 3, 5: 4},
    (8, 64): {5: 2, 6: 1},
    (8, 128): {8: 1},
    (9, 16): {3: 4, 4: 14, 5: 8, 7: 4, 8: 1},
    (9, 32): {4: 6, 5: 8, 8: 1},
    (9, 64): {4: 1, 5: 4, 6: 2},
    (9, 128): {6: 3},
    (10, 16): {3: 8, 4: 18, 5: 16, 6: 8, 7: 8, 8: 5},
    (10, 32): {4: 10, 5: 16, 8: 5},
    (10, 64): {4: 2, 5: 8, 6: 4, 8: 1},
    (10, 128): {5: 3, 6: 3, 7: 1},
    (11, 16): {3: 12, 4: 26, 5: 28, 6: 24, 7: 20, 8: 13, 9: 4},
    (11, 32): {4: 25, 6: 27, 8: 10, 10: 1},
    (11, 64): {4: 4, 5: 14, 6: 8, 8: 3, 9: 2},
    (11, 128): {5: 6, 6: 6, 7: 2, 8: 1},
}
"""Words by their length in the defining relation."""
ROMAN = {3: "III", 4: "IV", 5: "V", 6: "VI", 7: "VII", 8: "VIII"}
FIRST_ROWS = {
    11: "++-+++---+-",
    19: "++--++++-+-+----++-",
}
"""Of the cyclic designs of 12 and 20 runs, Plackett & Burman 1946."""


def words_of(factors: int, runs: int) -> dict[int, int]:
    """The defining relation, from the generators alone: all products of the generating words, by length."""
    generators = FRACTIONS[factors, runs][1].split()
    letters = "abcdefghijklmn"
    added = letters[factors - len(generators) : factors]
    words = [frozenset(word + letter) for word, letter in zip(generators, added, strict=True)]
    lengths: dict[int, int] = {}
    for size in range(1, len(words) + 1):
        for chosen in combinations(words, size):
            product: frozenset[str] = frozenset()
            for word in chosen:
                product ^= word
            lengths[len(product)] = lengths.get(len(product), 0) + 1
    return dict(sorted(lengths.items()))


def signs(text: str) -> np.ndarray:
    return np.array([1 if letter == "+" else -1 for letter in text])


def test_the_table_holds_the_published_designs() -> None:
    assert set(FRACTIONS) == set(PUBLISHED)
    assert {key: words_of(*key) for key in FRACTIONS} == PUBLISHED


@pytest.mark.parametrize(("factors", "runs"), FRACTIONS)
def test_fraction_has_its_runs_resolution_and_baseline(factors: int, runs: int) -> None:
    matrix = regular(factors, runs)
    assert matrix.shape == (runs, factors)
    assert len(np.unique(matrix, axis=0)) == runs
    assert resolution(matrix) == min(PUBLISHED[factors, runs]) == FRACTIONS[factors, runs][0]
    assert (matrix == -1).all(axis=1).any()


@pytest.mark.parametrize(("factors", "runs"), FRACTIONS)
def test_every_two_columns_of_a_fraction_are_orthogonal(factors: int, runs: int) -> None:
    matrix = regular(factors, runs)
    assert not matrix.sum(axis=0).any()
    assert all(matrix[:, a] @ matrix[:, b] == 0 for a, b in combinations(range(factors), 2))
    assert is_orthogonal(matrix)


@pytest.mark.parametrize(("factors", "runs"), FRACTIONS)
def test_one_trick_less_has_a_fraction_of_as_many_runs_or_all_its_sets(factors: int, runs: int) -> None:
    """So that a trick may leave a design without leaving none."""
    assert (factors - 1, runs) in FRACTIONS or runs >= 2 ** (factors - 1)


def test_smallest_fraction_of_a_resolution() -> None:
    """The numbers of runs of NIST/SEMATECH 5.3.3.4.7, where the full factorial of few factors is no fraction."""
    runs = {res: [fractions.runs_for(factors, res) for factors in range(3, 12)] for res in (3, 4, 5)}
    assert runs == {
        3: [4, 8, 8, 8, 8, 16, 16, 16, 16],
        4: [None, 8, 16, 16, 16, 16, 32, 32, 32],
        5: [None, None, 16, 32, 64, 64, 128, 128, 128],
    }


@pytest.mark.parametrize("factors", FIRST_ROWS)
def test_plackett_burman_is_the_published_cyclic_design(factors: int) -> None:
    """Every cyclic shift of the first row, and a run of all off; the factors of 12 runs stand in reverse."""
    matrix = plackett_burman(factors)
    baseline = (matrix == -1).all(axis=1)
    assert baseline.sum() == 1
    first = signs(FIRST_ROWS[factors])
    shifts = {tuple(np.roll(first, shift).tolist()) for shift in range(factors)}
    runs = matrix[~baseline][:, :: -1 if factors == 11 else 1]
    assert {tuple(row) for row in runs.tolist()} == shifts


@pytest.mark.parametrize("factors", [3, 5, 7, 10, 11, 12, 15, 19, 23, 31, 39, 47])
def test_plackett_burman_is_orthogonal_with_the_baseline(factors: int) -> None:
    matrix = plackett_burman(factors)
    assert matrix.shape == (4 * (factors // 4 + 1), factors)
    assert is_orthogonal(matrix)
    assert (matrix == -1).all(axis=1).any()
    assert resolution(matrix) == 3


@pytest.mark.parametrize(
    ("factors", "legal"), [(24, ["up to 23", "or 28"]), (27, ["up to 23", "or 28"]), (41, ["up to 39", "or 44"])]
)
def test_plackett_burman_that_cannot_be_built_names_the_legal_numbers(factors: int, legal: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{factors} tricks need") as error:
        plackett_burman(factors)
    assert all(part in str(error.value) for part in legal)


def test_every_size_is_built_or_refused() -> None:
    for factors in range(3, 65):
        try:
            matrix = plackett_burman(factors)
        except ValueError:
            continue
        assert is_orthogonal(matrix), factors


def test_a_full_factorial_tells_everything_apart() -> None:
    full = np.array([[1 if run >> factor & 1 else -1 for factor in range(4)] for run in range(16)])
    assert is_orthogonal(full)
    assert resolution(full) is None
    assert aliases(full, "ABCD") == ()


def test_unbalanced_columns_are_no_orthogonal_design() -> None:
    one_in = np.array([[-1, -1], [1, -1], [-1, 1]])
    assert not is_orthogonal(one_in)
    assert resolution(one_in) == 1
    assert resolution(np.array([[-1, -1], [1, 1]])) == 2


def test_aliases_of_the_fraction_of_five_factors_in_eight_runs() -> None:
    """NIST/SEMATECH 5.3.3.4.4 with D = AB and E = AC; here both have the other sign, so that the baseline is in."""
    assert aliases(regular(5, 8), "ABCDE") == (
        "A is aliased with −(B × D), −(C × E)",
        "B is aliased with −(A × D)",
        "C is aliased with −(A × E)",
        "D is aliased with −(A × B)",
        "E is aliased with −(A × C)",
        "B × C is aliased with D × E",
        "B × E is aliased with C × D",
    )


def test_resolution_four_aliases_interactions_with_each_other_alone() -> None:
    assert aliases(regular(4, 8), "ABCD") == (
        "A × B is aliased with C × D",
        "A × C is aliased with B × D",
        "A × D is aliased with B × C",
    )


def test_resolution_five_aliases_nothing_that_is_looked_at() -> None:
    assert aliases(regular(5, 16), "ABCDE") == aliases(regular(8, 64), "ABCDEFGH") == ()


def test_plackett_burman_of_twelve_runs_aliases_each_main_effect_in_part() -> None:
    """With each of the 45 interactions of the other ten factors, at a third (Lin & Draper 1992)."""
    names = "ABCDEFGHIJK"
    matrix, lines = plackett_burman(11), aliases(plackett_burman(11), names)
    assert len(lines) == 12
    for name, line in zip(names, lines, strict=False):
        assert line.startswith(f"{name} is partly aliased (correlation ±0.33) with ")
        terms = line.partition(" with ")[2].split(", ")
        assert len(terms) == 45
        for term in terms:
            a, b = term.strip("−()").split(" × ")
            product = matrix[:, names.index(a)] * matrix[:, names.index(b)]
            assert matrix[:, names.index(name)] @ product == (-4 if term.startswith("−") else 4)
    assert lines[-1] == "two-factor interactions are partly aliased with each other (correlations up to ±0.33)"


def test_resolutions_are_written_in_roman_numerals() -> None:
    assert {number: fractions.roman(number) for number in ROMAN} == ROMAN
