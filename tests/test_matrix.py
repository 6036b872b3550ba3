from pathlib import Path

import pytest

from harness import specfile
from harness.errors import HarnessError
from harness.matrix import matrix
from harness.planning import make_plan
from harness.summary import summarise
from harness.workspace import Workspace

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "results" / "freeze_x_tricks" / "matrix.md"


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The plan of every policy with every trick, as JSON."""
    study = specfile.read(ROOT / "experiments" / "freeze_x_tricks.yaml")
    return summarise(make_plan(study, Workspace(tmp_path_factory.mktemp("workspace"))))


def verdicts(plan, **of):
    """The verdicts on tricks alone, of one `policy` or one `trick`."""
    alone = [{**j, "trick": j["tricks"][0]} for j in plan["judgements"] if len(j["tricks"]) == 1]
    return [j["verdict"] for j in alone if all(j[key] == value for key, value in of.items())]


def test_the_committed_matrix_is_that_of_the_code(plan):
    assert COMMITTED.read_text() == matrix(plan)


def test_the_readme_shows_it():
    _, _, rest = (ROOT / "README.md").read_text().partition("<!-- matrix -->\n")
    assert rest.partition("<!-- /matrix -->")[0] == COMMITTED.read_text()


def test_every_policy_and_every_trick_is_in_it(plan):
    from harness.freezing.policies import POLICIES
    from harness.tricks import TRICKS

    assert set(plan["policies"]) == set(POLICIES)
    assert {given["trick"] for given in plan["tricks"].values()} == set(TRICKS)


def test_every_trick_is_valid_under_three_policies_or_the_matrix_says_why(plan):
    few = {trick for trick in plan["tricks"] if verdicts(plan, trick=trick).count("valid") < 3}
    # Over pretrained weights zero γ is destructive; made to the source network it is another trick, and valid.
    assert few == {"zero_gamma"}
    assert set(verdicts(plan, trick="zero_gamma")) == {"valid", "destructive", "invalid"}


def test_every_policy_has_five_valid_tricks_or_the_matrix_says_why(plan):
    few = {policy for policy in plan["policies"] if verdicts(plan, policy=policy).count("valid") < 5}
    assert few == {"last_3_fc", "svm_codes", "softmax_codes"}
    assert all(j["reason"] for j in plan["judgements"] if j["verdict"] != "valid")


def test_a_mark_stands_for_each_verdict_with_its_reason():
    def judged(policy, tricks, verdict, reason=""):
        return {"policy": policy, "tricks": tricks, "verdict": verdict, "reason": reason}

    text = matrix(
        {
            "policies": {"full": "", "none": "", "twin": ""},
            "tricks": {"a": {}, "b": {}, "c": {}},
            "judgements": [
                judged("full", [], "valid"),
                judged("full", ["a"], "noop", "the same training as 'full | baseline', whose runs it shares"),
                judged("full", ["b"], "destructive", "it hurts"),
                judged("full", ["c"], "valid"),
                judged("none", [], "invalid", "no such layer"),
                judged("twin", [], "noop", "the same training as 'full | baseline', whose runs it shares"),
                judged("twin", ["a"], "noop", "the same training as 'full | baseline', whose runs it shares"),
                judged("twin", ["b"], "invalid", "no room"),
                judged("twin", ["c"], "noop", "the same training as 'full | c', whose runs it shares"),
            ],
        }
    )
    assert "| `full` | = | ✗ 1 | ✓ |" in text
    assert "| `none` | – 2 | – 2 | – 2 |" in text
    assert "1. it hurts\n2. no such layer\n3. no room\n" in text
    # Under a policy that means the same as another here, a trick that acts is no noop.
    assert "| ✓ |\n\n1." in text


def test_axes_are_refused(plan):
    with pytest.raises(HarnessError, match="axes"):
        matrix({**plan, "axes": {"lr": ["0.1", "0.2"]}})
