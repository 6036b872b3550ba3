import hashlib
import pickle
from dataclasses import dataclass, field, make_dataclass, replace

import numpy as np
import pytest
import torch

from harness.digest import digest, digest_by, plain
from harness.spec import StepDecay
from harness.training import Origin
from harness.tricks.label_smoothing import Smoothing
from tests.watching import two_steps


@dataclass(frozen=True)
class Point:
    x: float
    at: str = field(default="", metadata={"identity": False})


@dataclass(frozen=True)
class Spot:
    x: float


def test_digest_is_sha256_of_canonical_json():
    text = '{"a":[1,2.5,null,true],"b":"γ"}'.replace("γ", "\\u03b3")
    assert digest({"b": "γ", "a": (1, 2.5, None, True)}) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_digest_never_changes():
    """Identities in a store outlive the process that made them."""
    assert digest({"policy": "head", "seeds": [0, 1]}) == "0536e8bc7587ef47"


def test_order_of_keys_means_nothing_and_order_of_items_does():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, "1"), (True, 1), (None, "null"), ({}, []), (0.1, 0.2)])
def test_values_of_different_kinds_differ(one, other):
    assert digest(one) != digest(other)


def test_a_dataclass_carries_its_type_and_leaves_out_where_things_lie():
    assert plain(Point(1.0, "/here")) == {"type": "Point", "x": 1.0}
    assert digest(Point(1.0, "/here")) == digest(Point(1.0, "/there"))
    assert digest(Point(1.0)) != digest(Spot(1.0))


def test_a_spec_section_leaves_out_what_changes_no_number():
    fields = plain(TRAINING.data)
    assert {"name", "root", "classes", "image_size"} <= set(fields)
    assert not {"stream", "workers", "download"} & set(fields)


def test_a_spec_section_carries_its_type_and_its_defaults():
    assert plain(StepDecay()) == {"type": "StepDecay", "milestones": [0.25, 0.5, 0.75], "factor": 0.1}
    assert digest(StepDecay()) == digest(StepDecay(factor=0.1))


@pytest.mark.parametrize("value", [object(), {1, 2}, np.float64(1).astype(np.float32), torch.zeros(1), Point, len])
def test_what_has_no_plain_form_is_refused(value):
    with pytest.raises(TypeError, match="has no plain form"):
        digest({"deep": [value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(value)


TRAINING = two_steps()


@pytest.mark.parametrize(
    "other",
    [
        replace(TRAINING, data_root="/elsewhere"),
        replace(TRAINING, save_to="/elsewhere/weights.pt"),
        replace(TRAINING, data=TRAINING.data.model_copy(update={"stream": True, "workers": 0, "download": True})),
        two_steps(),
    ],
)
def test_where_files_lie_is_no_part_of_a_training(other):
    assert other.digest == TRAINING.digest


@pytest.mark.parametrize(
    "other",
    [
        replace(TRAINING, seed=1),
        replace(TRAINING, classes=3),
        replace(TRAINING, origin=Origin("abc", "/weights.pt")),
        replace(TRAINING, data_content="other files"),
        replace(TRAINING, data=TRAINING.data.model_copy(update={"shift": ("invert",)})),
        replace(TRAINING, train=TRAINING.train.model_copy(update={"threads": 2})),
        replace(TRAINING, recipe=replace(TRAINING.recipe, target_maps=(Smoothing(0.1),))),
        replace(TRAINING, phases=(replace(TRAINING.phases[0], bn_stats=()),)),
    ],
)
def test_whatever_decides_the_numbers_is_part_of_a_training(other):
    assert other.digest != TRAINING.digest


def test_weights_count_by_content():
    one, same, other = (
        replace(TRAINING, origin=Origin(*origin)) for origin in [("abc", "/a.pt"), ("abc", "/b.pt"), ("abd", "/a.pt")]
    )
    assert one.digest == same.digest != other.digest


def test_a_setting_that_is_newer_than_the_store_counts_once_it_is_used():
    whole, split = two_steps(), two_steps(accumulate=2)
    assert "accumulate" not in plain(whole)["train"]
    assert plain(split)["train"] == {**plain(whole)["train"], "accumulate": 2}
    assert whole.digest != split.digest


@pytest.mark.parametrize("name", ["classes", "seed", "type", "a"])
def test_digests_by_a_field_are_those_of_the_whole(name):
    """Wherever the field stands among the others, first and last too."""
    values = [0, 7, "x", None, (1.0, "é")]
    kind = make_dataclass("Kind", [(n, object) for n in ("a", "classes", "seed", "zeta", "é")], frozen=True)
    whole = kind(1, "b", 2.5, None, ("d",))
    if name == "type":
        kind, whole = Single, Single(3)
        name = "x"
    digest_at = digest_by(whole, name)
    assert [digest_at(value) for value in values] == [digest(replace(whole, **{name: value})) for value in values]


@dataclass(frozen=True)
class Single:
    x: object


def test_trainings_at_other_seeds_and_places_have_the_digest_of_their_content(tmp_path):
    for made in [*TRAINING.at([0, 5, 10**6]), TRAINING.saved_to(tmp_path)]:
        assert made.digest == digest(made)
        assert pickle.loads(pickle.dumps(made)) == made
    assert [made.seed for made in TRAINING.at([3, 4])] == [3, 4]
    assert TRAINING.saved_to(tmp_path).save_to == str(tmp_path)
