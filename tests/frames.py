"""Made-up studies: frames of cells and of effects of every kind, from a response that is written out."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.stats import paired_t

TRICKS = ("warmup", "cosine", "label_smoothing", "mixup", "ema")
POLICIES = ("full", "head")
EFFECTS = (0.012, 0.03, -0.008, -0.025, 0.001)
"""What each trick adds under the first policy; under policy number p it adds 1/(p + 1) of that."""


def name_of(tricks: Sequence[str], total: int) -> str:
    """Name a trick set as plans do."""
    return "baseline" if not tricks else f"all {total} together" if len(tricks) == total > 3 else " + ".join(tricks)


def study(
    policies: Sequence[str] = POLICIES,
    tricks: Sequence[str] = TRICKS,
    scenarios: Sequence[str] = ("",),
    seeds: int = 6,
    orders: int = 1,
    primary: Sequence[str] = ("full",),
    lost: Sequence[tuple[str, frozenset[str]]] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return cells and effects of a study with every kind of effect.

    `scenarios` are levels of the axis `size`. Every replicate of the cells in `lost`, (policy, trick set), diverged.
    One-in effects under `primary` policies are primary contrasts.
    """
    gains = dict(zip(tricks, np.resize(EFFECTS, len(tricks)), strict=True))
    subsets = [frozenset(s) for k in range(len(tricks) + 1) for s in combinations(tricks, k)]
    everything = frozenset(tricks)
    stacks = [(*tricks[turn:], *tricks[:turn]) for turn in range(orders)]
    shown = [s for s in subsets if len(s) in (0, 1, len(tricks) - 1, len(tricks))]
    shown += [frozenset(stack[:k]) for stack in stacks for k in range(2, len(tricks) - 1)]
    cells: list[dict[str, Any]] = []
    effects: list[dict[str, Any]] = []
    rng = np.random.default_rng(7)
    for size in scenarios:
        tops: dict[tuple[str, frozenset[str]], np.ndarray] = {}
        for number, policy in enumerate(policies):
            level = rng.normal(0.9 - 0.1 * number / max(1, len(policies) - 1) * 4, 0.004, seeds)
            for subset in subsets:
                gain = sum(gains[t] for t in subset) / (number + 1)
                gain -= 0.01 * (tricks[0] in subset) * (tricks[1] in subset)
                tops[policy, subset] = level + gain + rng.normal(0, 0.006, seeds)
                if (policy, subset) in lost:
                    tops[policy, subset] = np.full(seeds, np.nan)
            for subset in dict.fromkeys(shown):
                cells.append(_cell(policy, subset, tricks, size, tops[policy, subset], number))
        found = _effects(tops, policies, tricks, stacks, everything)
        effects += [{**row, "scenario": f"size {size}" if size else ""} for row in found]
    frame = pd.DataFrame([_effect(row, primary) for row in effects])
    table = pd.DataFrame(cells)
    return (table if scenarios != ("",) else table.drop(columns="size")), frame


def _cell(
    policy: str, subset: frozenset[str], tricks: Sequence[str], size: str, tops: np.ndarray, number: int
) -> dict[str, Any]:
    kept = tops[~np.isnan(tops)]
    active = [t for t in tricks if t in subset]
    return {
        "cell": f"{policy} | {name_of(active, len(tricks))}" + (f" | size {size}" if size else ""),
        "size": size,
        "policy": policy,
        **{t: t in subset for t in tricks},
        "n": len(kept),
        "failed": 0,
        "diverged": len(tops) - len(kept),
        "missing": 0,
        "test_top1_mean": kept.mean() if len(kept) else np.nan,
        "val_top1_mean": kept.mean() if len(kept) else np.nan,
        "test_top1_sd": kept.std(ddof=1) if len(kept) > 1 else np.nan,
        "images_per_s": 700.0 * (number + 1) ** 1.3 / (1 + 0.1 * len(active)) if len(kept) else np.nan,
        "train_s": 9.0 / (number + 1) ** 1.3 * (1 + 0.1 * len(active)) if len(kept) else np.nan,
        "peak_memory_bytes": (40 / (number + 1) + len(active)) * 2.0**20 if len(kept) else np.nan,
        "trainable_params": 1000.0,
    }


def _effects(
    tops: dict[tuple[str, frozenset[str]], np.ndarray],
    policies: Sequence[str],
    tricks: Sequence[str],
    stacks: Sequence[Sequence[str]],
    everything: frozenset[str],
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    none: frozenset[str] = frozenset()

    def add(kind: str, policy: str, trick: str, differences: np.ndarray, against: str = "", design: str = "") -> None:
        rows.append(
            {
                "kind": kind,
                "policy": policy,
                "trick": trick,
                "against": against,
                "design": design or kind,
                "differences": differences,
            }
        )

    def mean(policy: str, weight: dict[frozenset[str], float]) -> np.ndarray:
        return np.asarray(np.sum([w * tops[policy, s] for s, w in weight.items()], axis=0))

    subsets = [s for p, s in tops if p == policies[0]]
    half = len(subsets) / 2
    one: dict[tuple[str, str], np.ndarray] = {}
    for policy in policies:
        base, full = tops[policy, none], tops[policy, everything]
        for t in tricks:
            one[policy, t] = tops[policy, frozenset({t})] - base
            add("one_in", policy, t, one[policy, t])
            add("leave_one_out", policy, t, full - tops[policy, everything - {t}])
            add("main", policy, t, mean(policy, {s: (1 if t in s else -1) / half for s in subsets}), "", "factorial")
        for stack in stacks:
            for k, t in enumerate(stack):
                before, after = frozenset(stack[:k]), frozenset(stack[: k + 1])
                against = name_of([u for u in tricks if u in before], len(tricks))
                step = tops[policy, after] - tops[policy, before]
                add("step", policy, t, step, against, f"cumulative: {' > '.join(stack)}")
        for a, b in combinations(tricks, 2):
            weight = {s: (1 if (a in s) == (b in s) else -1) / (half / 2) for s in subsets}
            add("interaction", policy, f"{a} × {b}", mean(policy, weight), "", "factorial")
        for t in tricks:
            add("shapley", policy, t, _shapley(tops, policy, t, tricks), "", "factorial")
        whole = name_of(list(tricks), len(tricks))
        add("combined", policy, whole, full - base)
        add("synergy", policy, whole, full - base - np.sum([one[policy, t] for t in tricks], axis=0))
        if policy != policies[0]:
            add("policy", policy, "", base - tops[policies[0], none], policies[0])
            for t in tricks:
                add("interaction", policy, t, one[policy, t] - one[policies[0], t], policies[0], "one_in")
    return rows


def _shapley(
    tops: dict[tuple[str, frozenset[str]], np.ndarray], policy: str, trick: str, tricks: Sequence[str]
) -> np.ndarray:
    """Brute force: the mean marginal contribution, each size of coalition weighing alike."""
    others = [t for t in tricks if t != trick]
    by_size = [
        np.mean(
            [tops[policy, frozenset(s) | {trick}] - tops[policy, frozenset(s)] for s in combinations(others, k)], axis=0
        )
        for k in range(len(others) + 1)
    ]
    return np.asarray(np.mean(by_size, axis=0))


def _effect(row: dict[str, Any], primary: Sequence[str]) -> dict[str, Any]:
    differences = row.pop("differences")
    kept = differences[~np.isnan(differences)]
    found = paired_t(kept) if len(kept) else None
    nan = float("nan")
    effect = {
        **{name: row[name] for name in ("kind", "policy", "trick", "against", "scenario", "design")},
        "metric": "test_top1",
        "n": len(kept),
        "estimate": found.estimate if found else nan,
        "low": found.low if found else nan,
        "high": found.high if found else nan,
        "level": 0.95,
        "interval": "95 % paired t over seeds" if found else "none: no pair finished",
        "claim": "",
        "role": "exploratory",
        "bound": float("nan"),
        "simultaneous_low": nan,
        "simultaneous_high": nan,
        "diverged": 1 - len(kept) / len(differences),
        "order_se": nan,
    }
    if row["kind"] == "one_in" and row["policy"] in primary and found:
        margin = 1.5 * (found.high - found.estimate)
        low, high = found.estimate - margin, found.estimate + margin
        claim = "helps" if low > 0 else "hurts" if high < 0 else "no evidence"
        claim = "makes no difference" if max(-low, high) < 0.01 and claim == "no evidence" else claim
        effect |= {"role": "primary", "claim": claim, "simultaneous_low": low, "simultaneous_high": high}
    return effect


def large() -> tuple[pd.DataFrame, pd.DataFrame]:
    """12 policies × 8 tricks."""
    tricks = (*TRICKS, "random_erasing", "trivial_augment", "no_bias_decay")
    policies = ("full", "full_bn_frozen", "head", "head_bn", "last_stage", "last_2_stages", "last_3_stages")
    return study((*policies, "lp_ft", "gradual", "bn_only", "surgical_first", "head_then_last_2"), tricks)


def in_scenarios() -> tuple[pd.DataFrame, pd.DataFrame]:
    """2 policies × 5 tricks × 3 sizes of the data."""
    return study(scenarios=("100", "1000", "all"))


def with_losses() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Everything with mixup alone diverged under `full`, and the whole of the head's tricks."""
    return study(lost=[("full", frozenset({"mixup"})), ("head", frozenset(TRICKS))])
