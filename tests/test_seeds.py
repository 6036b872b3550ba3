import hashlib

import numpy as np
import pytest

from harness.seeds import derive, stream


def test_derived_seed_never_changes():
    """A constant from another run: a seed that depended on the process or the machine would differ."""
    assert derive(7, "mix") == 4653619413263723812


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize("name", ["init", "order", "γ"])
def test_derived_seed_is_the_first_63_bits_of_sha256(seed, name):
    bits = int(hashlib.sha256(f"{seed}/{name}".encode()).hexdigest(), 16) >> (256 - 63)
    assert derive(seed, name) == bits


def test_derived_seed_fits_a_signed_64_bit_integer():
    assert all(0 <= derive(seed, "order") < 2**63 for seed in range(1000))


def test_a_stream_begins_anew_each_time_it_is_asked_for():
    first, second = stream(3, "order"), stream(3, "order")
    assert first.random(5).tolist() == second.random(5).tolist()


def test_streams_differ_by_seed_and_by_name():
    draws = {tuple(stream(seed, name).random(4)) for seed in range(20) for name in ("order", "crop", "flip", "mix")}
    assert len(draws) == 80


def test_streams_of_neighbouring_seeds_are_uncorrelated():
    left, right = (stream(seed, "order").standard_normal(20_000) for seed in (0, 1))
    # Five standard errors of a correlation of nothing.
    assert abs(np.corrcoef(left, right)[0, 1]) < 5 / np.sqrt(20_000)


def test_streams_do_not_touch_the_global_generator():
    state = np.random.get_state()[1].tolist()  # type: ignore[index]
    stream(0, "order").random(3)
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]
