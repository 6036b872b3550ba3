import pytest

from harness import specfile
from harness.errors import HarnessError
from harness.freezing.policy import Codes, Phase, Policy


@pytest.fixture
def written(write_spec):
    """A function that reads a policy as a spec has it."""

    def read(text: str) -> Policy:
        path = write_spec(("policies: [full, head]", f"policies: {{mine: {text}}}"))
        return specfile.read(path).spec.policy("mine")

    return read


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("{from: layer3}", ("from layer3",)),
        ("[{from: layer3}]", ("from layer3",)),
        ("[from layer3]", ("from layer3",)),
        ("[bn, {from: layer3.0.conv2}, not head]", ("bn", "from layer3.0.conv2", "not head")),
        ("[last 2, last 3 layers]", ("last 2", "last 3 layers")),
    ],
)
def test_ways_to_write_a_selection(written, text, selection):
    assert written(f"{{phases: [{{trainable: {text}, bn_stats: {text}}}]}}") == Policy((Phase(selection, selection),))


@pytest.mark.parametrize(
    ("text", "value"),
    [("{form: stage3}", "{'form': 'stage3'}"), ("[all, {from: 3}]", "{'from': 3}"), ("[{}]", "{}")],
)
@pytest.mark.parametrize("field", ["trainable", "bn_stats"])
def test_another_mapping_is_refused_at_its_place(written, field, text, value):
    phase = f"{field}: {text}" if field == "trainable" else f"trainable: [all], {field}: {text}"
    with pytest.raises(HarnessError) as caught:
        written(f"{{phases: [{{{phase}}}]}}")
    place, _, message = str(caught.value).partition(f"9: policies.mine.phases.0.{field}: ")
    assert place.endswith("tiny.yaml:")
    assert message == f"{value} selects nothing; a mapping in a selection is {{from: NAME}}"


def test_every_field_can_be_written(written):
    text = "{phases: [{trainable: [all]}], init: random, head: appended, layer_decay: 0.5, about: x, source: y}"
    assert written(text) == Policy((Phase(("all",)),), "random", "appended", 0.5, None, "x", "y")
    codes = "{codes: {solver: svm, stage: stage2, rectified: false, cs: [0.1, 1]}}"
    assert written(codes) == Policy(codes=Codes("svm", "stage2", False, (0.1, 1.0)))
    assert written("{codes: {solver: softmax}}") == Policy(codes=Codes("softmax", "last", True))


@pytest.mark.parametrize(
    ("text", "place", "parts"),
    [
        ("{}", "", ["either `phases` or `codes`"]),
        ("{phases: [{trainable: [all]}], codes: {solver: svm}}", "", ["either `phases` or `codes`"]),
        ("{codes: {solver: svm}, layer_decay: 0.5}", "", ["`layer_decay` mean nothing"]),
        ("{codes: {solver: svm}, head: appended}", "", ["`head` and `layer_decay` mean nothing"]),
        ("{phases: [{trainable: [all]}], layer_decay: 0}", ".layer_decay", ["0", "greater than 0"]),
        ("{phases: [{trainable: [all]}], layer_decay: 1.1}", ".layer_decay", ["1.1", "less than or equal to 1"]),
        ("{phases: [{trainable: [all]}], head: new}", ".head", ['"new"', "'replaced' or 'appended'"]),
        ("{codes: {solver: tree}}", ".codes.solver", ['"tree"', "'svm' or 'softmax'"]),
        ("{codes: {solver: svm, c: 1}}", ".codes.c", ["'c'", "legal: solver, stage, rectified, cs"]),
        ("{codes: {solver: svm, cs: []}}", ".codes.cs", ["at least 1"]),
        ("{codes: {solver: svm, cs: [0, 1]}}", ".codes.cs.0", ["0", "greater than 0"]),
        ("{codes: {solver: svm, cs: [.inf]}}", ".codes.cs.0", ["finite"]),
        ("{codes: {solver: svm, cs: [1, 0.1]}}", ".codes", ["must rise", "[1.0, 0.1]"]),
        ("{codes: {solver: svm, cs: [1, 1]}}", ".codes", ["must rise", "[1.0, 1.0]"]),
        ("{codes: {stage: last}}", ".codes", ["key 'solver' is missing"]),
    ],
)
def test_what_a_policy_cannot_be_is_refused_at_its_place(written, text, place, parts):
    with pytest.raises(HarnessError) as caught:
        written(text)
    before, _, message = str(caught.value).partition(f":9: policies.mine{place}: ")
    assert before.endswith("tiny.yaml")
    assert "\n" not in message
    assert all(part in message for part in parts), message
