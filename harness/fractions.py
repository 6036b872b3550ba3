"""Two-level fractions as matrices of ±1 [runs, factors]: which exist, their resolution, what they cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from string import ascii_lowercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Signs = NDArray[np.int64]
    """[runs, factors]: 1 where the factor is on, −1 where it is off."""

FRACTIONS: dict[tuple[int, int], tuple[int, str]] = {
    (3, 4): (3, "ab"),
    (4, 8): (4, "abc"),
    (5, 8): (3, "ab ac"),
    (5, 16): (5, "abcd"),
    (6, 8): (3, "ab ac bc"),
    (6, 16): (4, "abc bcd"),
    (6, 32): (6, "abcde"),
    (7, 8): (3, "ab ac bc abc"),
    (7, 16): (4, "abc bcd acd"),
    (7, 32): (4, "abcd abde"),
    (7, 64): (7, "abcdef"),
    (8, 16): (4, "bcd acd abc abd"),
    (8, 32): (4, "abc abd bcde"),
    (8, 64): (5, "abcd abef"),
    (8, 128): (8, "abcdefg"),
    (9, 16): (3, "abc bcd acd abd abcd"),
    (9, 32): (4, "bcde acde abde abce"),
    (9, 64): (4, "abcd acef cdef"),
    (9, 128): (6, "acdfg bcefg"),
    (10, 16): (3, "abc bcd acd abd abcd ab"),
    (10, 32): (4, "abcd abce abde acde bcde"),
    (10, 64): (4, "bcdf acdf abde abce"),
    (10, 128): (5, "abcg bcde acdf"),
    (11, 16): (3, "abc bcd acd abd abcd ab ac"),
    (11, 32): (4, "abc bcd cde acd ade bde"),
    (11, 64): (4, "cde abcd abf bdef adef"),
    (11, 128): (5, "abcg bcde acdf abcdefg"),
}
"""(factors, runs) to resolution and generators, the words that the further factors equal up to sign.

Source: Box, Hunter & Hunter 1978, table 12.15, as in NIST/SEMATECH e-Handbook 5.3.3.4.7; (8, 128) is the half fraction.
"""
MOST = max(factors for factors, _ in FRACTIONS)
_ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")


def roman(resolution: int) -> str:
    """Return a resolution as it is written."""
    return _ROMAN[resolution] if resolution < len(_ROMAN) else str(resolution)


def runs_of(factors: int) -> list[int]:
    """Return the numbers of runs of the known regular fractions of so many factors, ascending."""
    return sorted(runs for number, runs in FRACTIONS if number == factors)


def runs_for(factors: int, resolution: int) -> int | None:
    """Return the runs of the smallest known fraction of at least this resolution; None where it takes all sets."""
    return next((runs for runs in runs_of(factors) if FRACTIONS[factors, runs][0] >= resolution), None)


def regular(factors: int, runs: int) -> Signs:
    """Return a regular fraction with the run of all factors off, which decides the signs of its generators."""
    import numpy as np  # here as below, so that reading a spec does not wait for it
    from pyDOE3 import fracfact

    _, generators = FRACTIONS[factors, runs]
    # At all off, the product of an even number of factors is 1, and the factor that it generates must be −1.
    words = [word if len(word) % 2 else f"-{word}" for word in generators.split()]
    return np.asarray(fracfact(" ".join([*ascii_lowercase[: factors - len(words)], *words]))).astype(np.int64)


def plackett_burman(factors: int) -> Signs:
    """Return a Plackett–Burman design with the run of all factors off: the negative of the one with all on.

    Source: Plackett & Burman 1946. Raises ValueError where none of that size can be built.
    """
    import numpy as np
    from pyDOE3 import pbdesign

    check_plackett_burman(factors)
    return -np.asarray(pbdesign(factors)).astype(np.int64)


def check_plackett_burman(factors: int) -> None:
    """Raise ValueError where no Plackett–Burman design for so many factors can be built."""
    if not _is_built(factors):
        fewer = next(number for number in range(factors, 0, -1) if _is_built(number))
        more = next(number for number in range(factors, 2 * factors) if _is_built(number))
        raise ValueError(
            f"no Plackett–Burman design of {_multiple_of_4_above(factors)} runs can be built, as {factors} tricks "
            f"need; legal: up to {fewer} tricks, or {more}"
        )


def _is_built(factors: int) -> bool:
    """Whether pyDOE3 builds it: the runs are 4, 12 or 20 times a power of two."""
    runs = _multiple_of_4_above(factors)
    return runs // (runs & -runs) in (1, 3, 5)


def _multiple_of_4_above(number: int) -> int:
    return 4 * (number // 4 + 1)


def is_orthogonal(signs: Signs) -> bool:
    """Whether every factor is on in half of the runs, and every two factors are on together in a quarter."""
    import numpy as np

    runs, factors = signs.shape
    columns = np.column_stack([np.ones(runs, np.int64), signs])
    return bool((columns.T @ columns == runs * np.eye(factors + 1)).all())


def resolution(signs: Signs) -> int | None:
    """Return the fewest columns whose product is not balanced, the length of the shortest word of a regular fraction.

    None where there are none, as in a full factorial: every effect is told from every other.
    """
    for length in range(1, signs.shape[1] + 1):
        for columns in combinations(range(signs.shape[1]), length):
            if signs[:, columns].prod(axis=1).sum():
                return length
    return None


def aliases(signs: Signs, names: Sequence[str]) -> tuple[str, ...]:
    """Return, as lines, which main effects and two-factor interactions of an orthogonal design it cannot tell apart.

    Those that are one column up to sign stand on one line; a main effect that is correlated with interactions but not
    one with them has a line with the size of the correlation.
    """
    import numpy as np

    pairs = list(combinations(range(len(names)), 2))
    effects = [*names, *(f"{names[a]} × {names[b]}" for a, b in pairs)]
    columns = np.column_stack([signs, *(signs[:, a] * signs[:, b] for a, b in pairs)])
    correlations = columns.T @ columns / len(signs)
    return (*_complete(correlations, effects), *_partial(correlations, effects, len(names)))


def _complete(correlations: NDArray[np.float64], effects: Sequence[str]) -> Iterator[str]:
    told: set[int] = set()
    for first, row in enumerate(correlations):
        others = [other for other in (abs(row) == 1).nonzero()[0].tolist() if other > first]
        if others and first not in told:
            told |= {first, *others}
            yield f"{effects[first]} is aliased with {_signed(row, effects, others)}"


def _partial(correlations: NDArray[np.float64], effects: Sequence[str], factors: int) -> Iterator[str]:
    sizes = abs(correlations)
    for first in range(factors):
        row = correlations[first]
        for size in sorted({float(value) for value in sizes[first] if 0 < value < 1}, reverse=True):
            others = (sizes[first] == size).nonzero()[0].tolist()
            yield f"{effects[first]} is partly aliased (correlation ±{size:.2f}) with {_signed(row, effects, others)}"
    between = sizes[factors:, factors:]
    if ((between > 0) & (between < 1)).any():
        most = between[between < 1].max()
        yield f"two-factor interactions are partly aliased with each other (correlations up to ±{most:.2f})"


def _signed(row: NDArray[np.float64], effects: Sequence[str], others: Sequence[int]) -> str:
    return ", ".join(effects[other] if row[other] > 0 else f"−({effects[other]})" for other in others)
