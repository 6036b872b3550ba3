"""What the UI's pages show of a grid: views that are saved, the report among its artifacts, its description."""

import logging
import re
from pathlib import Path

import mlflow
import pytest

from harness import cli, track, views
from harness.track import GridLog, Store, pages, save_views, show_report
from harness.workspace import Workspace
from tests.grids import plan_of

PLAN = plan_of(["one_in"], policies=("full", "head"))
REPORT = "# tiny\n\nAbout.\n\n## Findings\n\n- One.\n- Two.\n\n12 replicates planned.\n\n## Effects\n\n![x](x.png)\n"


@pytest.fixture
def log(stored: Workspace) -> GridLog:
    return GridLog(Store(stored), "tiny", "grid", {})


@pytest.fixture
def store(stored: Workspace) -> Store:
    return Store(stored)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made" / "figures").mkdir(parents=True)
    for name in ("report.md", "report.html", "figures/a.png", "figures/b.png", "notes.txt"):
        (tmp_path / "made" / name).write_text(REPORT if name == "report.md" else name)
    return tmp_path / "made"


def saved(store: Store, log: GridLog) -> dict[str, str]:
    return dict(store.client.get_experiment(log.experiment_id).tags)


def note(store: Store, log: GridLog) -> str:
    return str(store.client.get_run(log.run_id).data.tags["mlflow.note.content"])


def artifacts(stored: Workspace) -> set[str]:
    found = next(stored.artifacts.rglob("report"))
    return {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}


def test_views_are_saved_again_only_where_they_differ(
    log: GridLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.client.set_experiment_tag(log.experiment_id, views.TAG + "mine", "of the user")
    save_views(store, log.run_id, PLAN)
    first = saved(store, log)
    assert len(first) == 1 + 2 + 2 + 3
    written: list[str] = []
    put = store.client.set_experiment_tag

    def write(at: str, key: str, value: str) -> None:
        written.append(key)
        put(at, key, value)

    monkeypatch.setattr(store.client, "set_experiment_tag", write)
    save_views(store, log.run_id, PLAN)
    assert not written
    changed = next(key for key in first if "charts" in key)
    put(log.experiment_id, changed, "what somebody put over it")
    save_views(store, log.run_id, PLAN)
    assert written == [changed]
    assert saved(store, log) == first


def test_views_of_another_grid_stay_and_what_a_grid_has_no_more_goes(store: Store) -> None:
    one, two = (GridLog(store, "tiny", grid, {}) for grid in ("one", "two"))
    save_views(store, one.run_id, PLAN)
    first = saved(store, one)
    save_views(store, two.run_id, plan_of(["one_in"], policies=("full", "head", "bn_only")))
    assert first.items() <= saved(store, one).items()
    assert len(saved(store, one)) == 7 + 8
    save_views(store, two.run_id, plan_of(["one_in"], policies=("full",)))  # fewer, as a later version may have it
    assert first.items() <= saved(store, one).items()
    assert len(saved(store, one)) == 7 + 5


def test_views_of_an_unknown_version_are_left_out_with_a_warning(
    log: GridLog, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow, "__version__", "3.99.1")
    save_views(store, log.run_id, PLAN)
    assert not saved(store, log)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert re.search(r"left out: they are known of MLflow 3\.15 to 3\.\d+, not of 3\.99\.1", caplog.text)


def test_a_store_that_refuses_a_view_is_a_warning(
    log: GridLog, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise mlflow.exceptions.MlflowException("no room\nfor it")

    monkeypatch.setattr(store.client, "set_experiment_tag", refuse)
    save_views(store, log.run_id, PLAN)
    assert [record.getMessage() for record in caplog.records] == [
        "the prepared views of the MLflow UI are left out: no room"
    ]


def test_the_installed_version_is_known() -> None:
    """Fails with a new MLflow: look at its views, and at what the browser test says, before KNOWN is raised."""
    assert views.known(mlflow.__version__)


def test_a_report_takes_the_place_of_the_one_before(
    log: GridLog, store: Store, stored: Workspace, folder: Path
) -> None:
    log.artifacts(log.run_id, {"plan.json": b"{}"})
    show_report(store, log.run_id, folder, ["report.md", "report.html", "figures/a.png", "figures/b.png"])
    assert artifacts(stored) == {"report.md", "report.html", "figures/a.png", "figures/b.png"}
    (folder / "report.html").write_text("anew")
    show_report(store, log.run_id, folder, ["report.md", "report.html", "figures/a.png"])
    assert artifacts(stored) == {"report.md", "report.html", "figures/a.png"}
    assert store.read_artifact(log.parent, "report/report.html") == b"anew"
    assert store.read_artifact(log.parent, "plan.json") == b"{}"


def test_the_description_is_what_was_found_and_where_to_look(log: GridLog, store: Store, folder: Path) -> None:
    save_views(store, log.run_id, PLAN)
    show_report(store, log.run_id, folder, ["report.md", "report.html"])
    findings, links, counts = note(store, log).split("\n\n")
    assert findings == "- One.\n- Two."
    assert counts == "12 replicates planned."
    found = dict(re.findall(r"\[([^\]]+)\]\(([^)]+)\)", links))
    at = f"#/experiments/{log.experiment_id}/runs/{log.run_id}/artifacts/report"
    assert found["Report"] == f"{at}/report.html?workflowType=machine_learning"
    assert list(found) == ["Report", "Figures", "Leaderboard", "Parallel coordinates", "Charts by cell"]


def test_a_long_description_keeps_whole_findings_and_the_links(log: GridLog, store: Store, folder: Path) -> None:
    findings = "\n".join(f"- Finding {number}: {'x' * 90}." for number in range(200))
    (folder / "report.md").write_text(REPORT.replace("- One.\n- Two.", findings))
    show_report(store, log.run_id, folder, ["report.html"])
    text = note(store, log)
    assert 7800 < len(text) <= 8000
    kept = text.split("\n\n")[0]
    assert findings.startswith(kept + "\n")
    assert "[Report](" in text
    assert text.endswith("12 replicates planned.")


def test_a_folder_of_artifacts_that_cannot_be_written_is_a_warning(
    log: GridLog, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(store.client, "log_artifact", refuse)
    show_report(store, log.run_id, folder, ["report.html"])
    assert "the report is not among the grid's artifacts in MLflow: read-only" in caplog.text
    assert note(store, log).startswith("- One.")
    assert "[Report]" not in note(store, log)


def test_a_warning_shows_no_password(
    log: GridLog, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: str) -> None:
        raise OSError("cannot reach postgresql://me:hunter2@db")

    monkeypatch.setattr(store, "uri", "postgresql://me:hunter2@db")
    monkeypatch.setattr(store.client, "get_run", refuse)
    save_views(store, log.run_id, PLAN)
    assert "cannot reach postgresql://db" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_server_tells_its_own_version(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer:
        text = "3.16.1"

    asked: list[tuple[str, str]] = []

    def answer(credentials: object, path: str, *_: object, **__: object) -> Answer:
        asked.append((str(credentials.host), path))  # type: ignore[attr-defined]
        return Answer()

    monkeypatch.setattr(pages, "http_request", answer)
    monkeypatch.setattr(store, "remote", True)
    monkeypatch.setattr(store, "uri", "http://host:5000")
    assert pages._version(store) == "3.16.1"
    assert asked == [("http://host:5000", "/version")]


def test_report_writes_the_pages_too_and_its_tables_stay_the_same(
    stored: Workspace, write_spec: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_spec()  # type: ignore[operator]
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    results = stored.results / "tiny"
    first = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    kept = next(stored.artifacts.rglob("report"))
    for path, content in first.items():
        assert (kept / path.relative_to(results)).read_bytes() == content
    (kept / "report.html").write_text("of an earlier version")
    assert cli.main(["report", str(spec)]) == cli.DONE
    assert (kept / "report.html").read_bytes() == first[results / "report.html"]
    # And where the store takes nothing, the report is the same.
    monkeypatch.setattr(track.Store, "put", lambda *_: 1 / 0)
    assert cli.main(["report", str(spec)]) == cli.DONE
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == first
