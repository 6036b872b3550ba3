"""The numbers that the README, the comments of experiments and reports tell of a study are those of its tables."""

import re
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from harness.wording import open_between, points

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "experiments").glob("*.yaml")), *sorted(ROOT.glob("results/*/report.md"))]
NUMBER = r"([+−]?\d+\.\d)"
EFFECT = re.compile(rf"{NUMBER}(?: points)?(?:, | \()(above 0|{NUMBER[1:-1]}) to (below 0|{NUMBER[1:-1]})")
"""Such as `+2.8 (+0.1 to +5.6)`, `11.8 points (above 0 to 15.0)` and `+0.8, −1.7 to +3.3`."""
MEAN = re.compile(r"(\d+\.\d) ?± ?(\d+\.\d)")


def paragraphs(path: Path) -> list[str]:
    """Split a text at blank lines: of an experiment its comments, of a report the findings, which are of its study."""
    lines = path.read_text().splitlines()
    if path.suffix == ".yaml":
        lines = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    if path.name == "report.md":
        _, _, findings = path.read_text().partition("\n## Findings\n")
        return [f"results/{path.parent.name} {findings.partition(chr(10) + '## ')[0]}"]
    return [" ".join(text.split()) for text in re.split(r"\n\s*\n", "\n".join(lines))]


def told(pattern: re.Pattern[str]) -> list[tuple[str, tuple[str, ...], str]]:
    """Return what matches in paragraphs that name a folder of results: where, the numbers, and the studies named."""
    return [
        (str(path.relative_to(ROOT)), found, " ".join(studies))
        for path in TEXTS
        for text in paragraphs(path)
        if (studies := sorted(set(re.findall(r"results/(\w+)", text)) - {"benchmarks"}))
        for found in pattern.findall(text)
    ]


@cache
def effects(study: str) -> frozenset[tuple[str, ...]]:
    """Return each effect on the score with its intervals, in points, and the same the other way round."""
    table = pd.read_csv(ROOT / "results" / study / "effects.csv")
    found = set[tuple[str, ...]]()
    for low, high in (("low", "high"), ("simultaneous_low", "simultaneous_high")):
        if low in table:
            for row in table[table["metric"].str.startswith("test_")][["estimate", low, high]].itertuples(index=False):
                estimate, begin, end = (float(value) for value in row)
                for value, bounds in ((estimate, (begin, end)), (-estimate, (-end, -begin))):
                    found.add((points(value), *(points(bound) for bound in bounds)))
                    found.add((points(value), *open_between(*bounds).split(" to ")))
    return frozenset(found)


@cache
def means(study: str) -> frozenset[tuple[str, str]]:
    """Return each mean with its standard deviation, in percent."""
    table = pd.read_csv(ROOT / "results" / study / "cells.csv")
    pairs = [
        (name, str(name).replace("_mean", "_sd")) for name in table if re.fullmatch("(test|val)_.*_mean", str(name))
    ]
    return frozenset(
        (f"{100 * mean:.1f}", f"{100 * sd:.1f}")
        for name, spread in pairs
        for mean, sd in table[[name, spread]].itertuples(index=False)
    )


def unsigned(numbers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(number.lstrip("+") for number in numbers)


def test_effects_and_means_are_looked_up_at_all() -> None:
    told_by_people = [where for where, _, _ in [*told(EFFECT), *told(MEAN)] if not where.endswith("report.md")]
    assert len(told_by_people) > 10
    assert "README.md" in told_by_people


@pytest.mark.parametrize(("where", "numbers", "studies"), told(EFFECT))
def test_an_effect_that_is_told_stands_in_the_tables(where: str, numbers: tuple[str, ...], studies: str) -> None:
    known = {unsigned(row) for study in studies.split() for row in effects(study)}
    assert unsigned(numbers) in known, f"{where} tells an effect that no table of {studies} has"


@pytest.mark.parametrize(("where", "numbers", "studies"), told(MEAN))
def test_a_mean_that_is_told_stands_in_the_tables(where: str, numbers: tuple[str, str], studies: str) -> None:
    known = {row for study in studies.split() for row in means(study)}
    assert numbers in known, f"{where} tells a mean that no table of {studies} has"
