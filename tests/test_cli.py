"""The commands as people use them: real command line, real worker processes, real SQLite store."""

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean

import pandas as pd
import pytest
import torch
from PIL import Image

from harness import cli
from harness.errors import HarnessError
from harness.models.build import build_model
from harness.spec import Model
from harness.specfile import read
from harness.track import Store
from harness.train import course
from harness.tricks import TRICKS
from harness.wording import count
from harness.workspace import Workspace
from tests.samples import runs_table

WriteSpec = Callable[..., Path]
HOT = ("policies: [full, head]", "policies: {head: , hot: {phases: [{trainable: [all], lr_factor: 1.0e+30}]}}")
"""A policy whose loss cannot stay finite, beside one that is well."""


def files_of(workspace: Workspace) -> list[Path]:
    """Return what a workspace holds, but for what may be deleted at any time."""
    return sorted(path for path in workspace.root.rglob("*") if not path.is_relative_to(workspace.cache))


def harness(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def runs_of(workspace: Workspace, study: str = "tiny") -> list:
    store = Store(workspace)
    experiment = store.experiment(study)
    return list(store.search([experiment], "")) if experiment else []


def by_kind(runs: Sequence, kind: str) -> list:
    return [run for run in runs if run.data.tags.get("harness.kind") == kind]


def table(workspace: Workspace, name: str, study: str = "tiny") -> pd.DataFrame:
    return pd.read_csv(workspace.results / study / f"{name}.csv")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_rerun_report_cycle(workspace: Workspace, write_spec: WriteSpec) -> None:
    spec = write_spec()
    first = harness("run", spec, "--jobs", 2, cwd=workspace.root)
    assert first.returncode == 0, first.stderr
    assert "12 trained." in first.stdout
    assert "report.html" in first.stdout
    assert "training 12/12" in first.stderr, "plain progress lines where output is no terminal"
    files = contents(workspace.results / "tiny")
    assert set(files) >= {
        "runs.csv",
        "cells.csv",
        "effects.csv",
        "report.md",
        "report.html",
        "figures/heatmap.png",
        "figures/heatmap.svg",
    }

    # From another folder, so that nothing may depend on the working directory.
    again = harness("run", spec, cwd=workspace.root / "experiments")
    assert again.returncode == 0, again.stderr
    assert "Nothing to train: all 12 replicates are settled" in again.stdout

    shutil.rmtree(workspace.results)
    report = harness("report", spec, cwd=Path("/"))
    assert report.returncode == 0, report.stderr
    assert contents(workspace.results / "tiny") == files

    runs = runs_of(workspace)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [len(by_kind(runs, kind)) for kind in ("grid", "prerequisite", "replicate")] == [1, 1, 12]
    _check_child(workspace, by_kind(runs, "replicate"), by_kind(runs, "grid")[0])


def _check_child(workspace: Workspace, children: Sequence, parent) -> None:
    child = next(
        run for run in children if run.data.params["cell"] == "full | warmup" and run.data.params["seed"] == "1"
    )
    params, metrics, tags = child.data.params, child.data.metrics, child.data.tags
    assert (params["policy"], params["warmup"], params["mixup"]) == ("full", "True", "False")
    assert {"model", "data", "epochs", "batch_size", "lr"} <= set(params)
    finals = {"test_top1", "images_per_s", "train_s", "peak_memory_bytes", "trainable_params", "frozen_unchanged"}
    assert finals <= set(metrics)
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    versions = {"harness.digest", "harness.torch", "harness.torchvision", "harness.python", "harness.device"}
    assert versions <= set(tags)
    client = Store(workspace).client
    for key in ("train_loss", "val_top1"):
        assert [point.step for point in client.get_metric_history(child.info.run_id, key)] == [1, 2]
    assert {f.path for f in client.list_artifacts(child.info.run_id)} == {
        "changed.txt",
        "curves.csv",
        "test_predictions.npz",
    }
    assert child.inputs.dataset_inputs[0].dataset.name.startswith("digits")
    assert client.get_run(parent.info.run_id).data.tags["mlflow.note.content"].startswith("- Without tricks, ")


OTHERS = "policy,mixup,fold,acc\nfull,0,a,50\nfull,1,a,60\nfull,0,b,52\nfull,1,b,64\nhead,0,a,40\nhead,0,b,41\n"
"""Somebody else's runs, in per cent."""
MAPPED = "--policy-column policy --metric acc --percent --trick-columns mixup --pair-by fold --out out"


def test_report_on_somebody_elses_table(tmp_path: Path) -> None:
    (tmp_path / "others.csv").write_text(OTHERS)
    done = harness("report", "--csv", "others.csv", *MAPPED.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "acc, %" in done.stdout
    assert "report.html" in done.stdout
    assert "MLflow" not in done.stdout
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    assert effects[["kind", "policy", "trick", "estimate"]].to_numpy().tolist() == [
        ["one_in", "full", "mixup", pytest.approx(0.11)],
        ["policy", "head", pytest.approx(math.nan, nan_ok=True), pytest.approx(-0.105)],
    ]
    command = "harness report --csv others.csv --policy-column policy --metric acc --percent --trick-columns mixup"
    assert f"{command} --pair-by fold --out out" in (tmp_path / "out" / "report.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["others.csv", "out"], "no store is made"


def test_report_on_any_experiment(stored: Workspace) -> None:
    client = Store(stored).client
    experiment = client.create_experiment("theirs", artifact_location="file:///nowhere")
    for optimizer, top in (("sgd", 0.5), ("adam", 0.75)):
        run = client.create_run(experiment)
        client.log_param(run.info.run_id, "optimizer", optimizer)
        client.log_metric(run.info.run_id, "acc", top)
        client.set_terminated(run.info.run_id, "FINISHED")
    arguments = "--experiment theirs --policy-column params.optimizer --metric metrics.acc --baseline adam --out out"
    done = harness("report", *arguments.split(), cwd=stored.root)
    assert done.returncode == 0, done.stderr
    (effect,) = pd.read_csv(stored.root / "out" / "effects.csv").to_dict("records")
    assert (effect["policy"], effect["against"], effect["metric"], effect["estimate"]) == ("sgd", "adam", "acc", -0.25)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("report", ["SPEC", "--csv", "--experiment"]),
        ("report --csv others.csv", ["--policy-column", "--metric", "--out"]),
        ("report spec.yaml --pair-by fold", ["--pair-by", "not for a SPEC"]),
        ("report spec.yaml --csv others.csv --policy-column policy --metric acc --out out", ["one of SPEC"]),
        ("report --csv others.csv --policy-column policy --metric acc --out out", ["line 2", "50", "--percent"]),
        ("report --csv others.csv --policy-column policy --metric fold --out out", ["line 2", "'a'", "no number"]),
        ("report --csv gone.csv --policy-column policy --metric acc --out out", ["cannot read gone.csv"]),
        ("report --experiment gone --policy-column policy --metric acc --out out", ["nothing was run"]),
        ("report --csv others.csv --experiment x", ["not allowed with"]),
        ("compare others.csv others.csv", ["others.csv is no runs.csv", "seed"]),
        ("compare gone.yaml others.csv", ["cannot read", "gone.yaml"]),
    ],
)
def test_sources_that_cannot_be_used_are_one_message(tmp_path: Path, arguments: str, words: list[str]) -> None:
    (tmp_path / "others.csv").write_text(OTHERS)
    done = harness(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == []
    assert not (tmp_path / "out").exists()


def test_compare_prints_and_writes(tmp_path: Path) -> None:
    for name, gain in (("one", 0.0), ("two", 0.25)):
        (tmp_path / name).mkdir()
        table = runs_table({"full | baseline": [0.5, 0.25 + gain], "full | mixup": [0.5 + gain, 0.5]})
        table.to_csv(tmp_path / name / "runs.csv", index=False)
    done = harness("compare", "one", "two/runs.csv", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "full | mixup" in done.stdout
    assert "+12.5" in done.stdout
    differences = pd.read_csv(tmp_path / "out" / "compare.csv")
    top = differences[differences["metric"] == "test_top1"]
    assert top["cell"].tolist() == ["all 2 in common", "full | baseline", "full | mixup"]
    assert top["estimate"].tolist() == [0.125, 0.125, 0.125]
    assert (tmp_path / "out" / "compare.md").exists()


@pytest.mark.parametrize(
    ("replacement", "arguments", "words"),
    [
        (("epochs: 2,", "epoch: 2,"), [], ["tiny.yaml:8", "'epoch'", "epochs"]),
        (("mixup: ", "mixpu: "), [], ["tiny.yaml:10", "'mixpu'", "mixup"]),
        (("[full, head]", "[full, haed]"), [], ["tiny.yaml:9", "'haed'", "head_bn"]),
        (("seeds: 2", "seeds: two"), [], ["tiny.yaml:12", "two"]),
        (("[full, head]", "[]"), [], ["tiny.yaml:9", "policies"]),
        (
            ("[full, head]", "{mine: {phases: [{trainable: [layer9.*]}]}}"),
            [],
            ["tiny.yaml:9: policies.mine", "layer9.*", "stage1"],
        ),
        (("batch_size: 8, lr: 0.05, augment", "batch_size: 999, lr: 0.05, augment"), [], ["batch_size", "999", "24"]),
        (("name: tiny", "name: ../tiny"), [], ["tiny.yaml:1", "../tiny"]),
        (("seeds: 2", "seeds: 2"), ["--devices", "tpu"], ["tpu", "cuda"]),
        (
            ("lr: 0.05, augment", "lr: 0.05, fused: true, optimizer: NAdam, augment"),
            [],
            ["tiny.yaml:8: train.optimizer", "NAdam has no fused step", "AdamW, SGD have one"],
        ),
        (
            ("train: {epochs: 1,", "train: {epochs: 1, fused: true, optimizer: NAdam,"),
            [],
            ["tiny.yaml:6: weights.pretrain.train.optimizer", "NAdam has no fused step"],
        ),
        (
            ("lr: 0.05, augment", "lr: 0.05, compile: reduce-overhead, augment"),
            ["--devices", "cpu"],
            ["train.compile: reduce-overhead", "CUDA graphs", "none on cpu"],
        ),
        (
            ("lr: 0.05, augment", "lr: 0.05, compile: all, augment"),
            [],
            ["tiny.yaml:8: train.compile", '"all"', "reduce-overhead"],
        ),
        (("seeds: 2", "seeds: 2"), ["--set", "train.lr=fast"], ["--set train.lr=fast", "number"]),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(
    workspace: Workspace,
    write_spec: WriteSpec,
    capsys: pytest.CaptureFixture[str],
    replacement: tuple[str, str],
    arguments: list[str],
    words: list[str],
) -> None:
    spec = write_spec(replacement)
    before = files_of(workspace)
    assert cli.main(["run", str(spec), *arguments]) == cli.BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert "\nharness: " in said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err
    assert files_of(workspace) == before


def test_unreadable_spec(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(workspace.root / "nothing.yaml")]) == cli.BAD_INPUT
    assert "nothing.yaml" in capsys.readouterr().err


def test_results_that_cannot_be_written_stop_the_run_before_it_starts(
    workspace: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.results.write_text("a file stands where the folder should be")
    assert cli.main(["run", str(write_spec())]) == cli.BAD_INPUT
    assert str(workspace.results) in capsys.readouterr().err
    assert not workspace.database.exists()


def test_tracking_server_that_does_not_answer(
    workspace: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    assert cli.main(["run", str(write_spec()), "--inline"]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9" in said
    assert "secret" not in said
    assert not workspace.results.exists()


def test_report_of_a_study_that_never_ran_names_the_command(
    stored: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(write_spec())]) == cli.BAD_INPUT
    assert "harness run" in capsys.readouterr().err
    assert not stored.results.exists()


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run", "x.yaml", "--jobs", "0"])
    assert "whole number" in capsys.readouterr().err


def test_diverged_cells_fail_and_the_grid_goes_on(
    stored: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(HOT)
    assert cli.main(["run", str(spec), "--jobs", "2"]) == cli.SOME_FAILED
    out = capsys.readouterr().out
    assert "6 trained, 6 failed." in out
    assert "hot | baseline" in out
    runs = table(stored, "runs")
    assert set(runs.loc[runs["policy"] == "hot", "status"]) == {"diverged"}
    assert runs.loc[runs["policy"] == "hot", "reason"].str.contains("training loss is nan|inf").all()
    assert set(runs.loc[runs["policy"] == "head", "status"]) == {"finished"}
    cells = table(stored, "cells").set_index("cell")
    assert [cells["n"]["hot | baseline"], cells["diverged"]["hot | baseline"]] == [0, 2]
    assert "diverged" in (stored.results / "tiny" / "report.md").read_text()

    failed = [run for run in runs_of(stored) if run.info.status == "FAILED" and run.data.params]
    assert len(failed) == 6
    text = Store(stored).read_artifact(failed[0], "traceback.txt")
    assert text is not None
    assert b"Diverged" in text

    assert cli.main(["run", str(spec)]) == cli.SOME_FAILED
    assert "Nothing to train" in capsys.readouterr().out
    assert cli.main(["rerun", "--failed", str(spec), "--inline"]) == cli.SOME_FAILED
    assert "6 failed, 6 already done." in capsys.readouterr().out


def test_same_program_is_trained_once_and_shared(stored: Workspace, write_spec: WriteSpec) -> None:
    # Without weight decay there is none to take off the biases.
    spec = write_spec(
        ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: [no_bias_decay]"),
        ("lr: 0.05, augment", "weight_decay: 0, lr: 0.05, augment"),
    )
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    runs = runs_of(stored)
    trained, shared = by_kind(runs, "replicate"), by_kind(runs, "shared")
    assert (len(trained), len(shared)) == (4, 4)
    originals = {run.info.run_id: run for run in trained}
    for run in shared:
        original = originals[run.data.tags["trained_by"]]
        assert run.data.params["no_bias_decay"] == "True"
        assert original.data.params["no_bias_decay"] == "False"
        assert run.data.metrics == original.data.metrics
    effects = table(stored, "effects").query("metric == 'test_top1' and kind == 'one_in'")
    assert effects["estimate"].tolist() == [0, 0]


def test_another_study_reuses_what_was_trained(
    stored: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", str(write_spec()), "--inline"]) == cli.DONE
    other = write_spec(("name: tiny", "name: other"), ("mixup: }", "mixup: , cosine: }"), name="other")
    assert cli.main(["run", str(other), "--inline"]) == cli.DONE
    assert "4 trained, 12 shared." in capsys.readouterr().out
    assert (table(stored, "runs", "other")["status"] == "finished").all()


def test_run_left_by_a_dead_process_is_settled_and_done_again(stored: Workspace, write_spec: WriteSpec) -> None:
    spec = write_spec()
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    store = Store(stored)
    victim = by_kind(runs_of(stored), "replicate")[0]
    store.client.update_run(victim.info.run_id, status="RUNNING")
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    runs = runs_of(stored)
    assert [run.info.status for run in runs if run.info.run_id == victim.info.run_id] == ["KILLED"]
    assert not [run for run in runs if run.info.status == "RUNNING"]
    again = table(stored, "runs")
    assert (again["status"] == "finished").all()
    assert len(again) == 12


def test_same_bits_whatever_the_number_of_jobs(tmp_path: Path, empty_store: Path, study) -> None:
    found = []
    for name, arguments in {"one": ["--jobs", "1"], "two": ["--jobs", "2"], "inline": ["--inline"]}.items():
        place = Workspace(tmp_path / name)
        (place.root / "experiments").mkdir(parents=True)
        shutil.copy(empty_store, place.database)
        spec = shutil.copy(study.path, place.root / "experiments" / "tiny.yaml")
        assert cli.main(["run", str(spec), *arguments]) == cli.DONE
        runs = by_kind(runs_of(place), "replicate")
        found.append({run.data.tags["harness.digest"]: run.data.tags["harness.weights_sha256"] for run in runs})
    assert len(found[0]) == 12
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("stored")
def test_second_run_in_one_workspace_is_refused(write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.means import Means
    from harness.session import Session

    spec = write_spec()
    with Session.open(read(spec), Means(jobs=1, inline=True)):
        assert cli.main(["run", str(spec)]) == cli.BAD_INPUT
    assert str(os.getpid()) in capsys.readouterr().err
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE, "the lock is free again"


def test_kill_9_loses_nothing_and_leaves_no_orphan(stored: Workspace, write_spec: WriteSpec) -> None:
    spec = write_spec(("epochs: 2,", "epochs: 30,"))
    command = [sys.executable, "-m", "harness", "run", str(spec), "--jobs", "2"]
    # Whoever runs the tests in the background of a shell may have Ctrl-C ignored, and children inherit that.
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("training") and not line.startswith("training 0/"):
                break
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _processes_of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _processes_of_session(process.pid), "a worker outlived the process it worked for"

    done = len([run for run in by_kind(runs_of(stored), "replicate") if run.info.status == "FINISHED"])
    assert 1 <= done < 12
    assert cli.main(["run", str(spec), "--jobs", "2"]) == cli.DONE
    finished = [run for run in by_kind(runs_of(stored), "replicate") if run.info.status == "FINISHED"]
    keys = {(run.data.params["cell"], run.data.params["seed"]) for run in finished}
    assert len(finished) == len(keys) == 12, "each replicate is counted once"
    assert not [run for run in runs_of(stored) if run.info.status == "RUNNING"]


def _processes_of_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(owner) == session and state != "Z":
                found.append(int(entry.name))
    return found


def test_plan_explains_itself_and_writes_nothing_but_a_cache(
    workspace: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    # One trick too long for this training, and two policies that are one program on a network without a phase between.
    spec = write_spec(("warmup: {epochs: 1}", "warmup: {epochs: 9}"))
    before = files_of(workspace)
    assert cli.main(["plan", str(spec)]) == cli.DONE
    out = capsys.readouterr().out
    assert "4 cells × 2 seeds (0, 1) = 8 replicates" in out
    assert "invalid: a warmup of 27 steps leaves nothing of a schedule of 6\n    full | warmup · head | warmup" in out
    assert "pretraining: cifar_resnet8" in out
    assert files_of(workspace) == before


def test_plan_as_json(write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_spec()
    assert cli.main(["plan", str(spec), "--json"]) == cli.DONE
    plan = json.loads(capsys.readouterr().out)
    assert plan["replicates"] == 12
    assert plan["grid"] == read(spec).grid
    assert plan["estimate"]["total_s"] > 0


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("tricks", ["warmup", "cosine", "label_smoothing", "no_bias_decay", "mixup"]),
        ("policies", ["full", "head", "head_bn", "full_bn_frozen"]),
    ],
)
def test_lists_say_one_line_each(command: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= set(names)
    assert command == "policies" or all(line.endswith(TRICKS[line.split()[0]].source) for line in lines)


def test_help_and_lists_do_not_wait_for_torch() -> None:
    code = "import sys; from harness.cli import main; main(['tricks']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "mlflow", "pandas"} & set(done.stderr.split())


def test_a_pretraining_that_diverges_fails_what_needs_it_and_says_why(
    stored: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(("batch_size: 8, lr: 0.05}", "batch_size: 8, lr: 1.0e+30}"))
    assert cli.main(["run", str(spec), "--inline"]) == cli.SOME_FAILED
    assert "its pretraining failed: training loss is" in capsys.readouterr().out
    runs = table(stored, "runs")
    assert set(runs["status"]) == {"diverged"}
    assert not [run for run in runs_of(stored) if run.info.status == "RUNNING"]


def test_an_image_that_cannot_be_read_stops_the_run_before_it_starts(
    workspace: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ants", "bees"):
        (workspace.root / "images" / name).mkdir(parents=True)
        for number in range(20):
            path = workspace.root / "images" / name / f"{number}.png"
            Image.effect_noise((8, 8), number + 1).save(path)
    path.write_bytes(b"no image")
    spec = write_spec(
        (
            'data: {name: digits, classes: ["5", "6", "7"], image_size: 8,',
            "data: {name: image_folder, root: ../images, image_size: 8,",
        )
    )
    assert cli.main(["run", str(spec), "--inline"]) == cli.BAD_INPUT
    assert str(path) in capsys.readouterr().err.replace("experiments/../", "")
    assert not workspace.database.exists()
    assert not workspace.results.exists()


def test_a_checkpoint_of_another_network_stops_the_run_before_it_starts(
    workspace: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(build_model(Model(name="cifar_resnet20"), 10, seed=0).state_dict(), workspace.root / "other.pt")
    spec = write_spec()
    override = ["--set", "weights={checkpoint: ../other.pt}"]
    assert cli.main(["run", str(spec), "--inline", *override]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "other.pt" in said
    assert "unexpected: layer1.1" in said
    assert not workspace.database.exists()


def test_a_checkpoint_trains_like_the_pretraining_it_came_from(stored: Workspace, write_spec: WriteSpec) -> None:
    spec = write_spec()
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    (made,) = stored.checkpoints.glob("*.pt")
    override = ["--set", f"weights={{checkpoint: {made}}}", "--set", "name=again"]
    assert cli.main(["run", str(spec), "--inline", *override]) == cli.DONE
    first, second = table(stored, "runs"), table(stored, "runs", "again")
    assert first["test_top1"].tolist() == second["test_top1"].tolist()


def test_an_interrupt_that_could_not_be_noted_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        try:
            try:
                raise KeyboardInterrupt
            finally:
                raise ValueError("in its wake")
        except ValueError as error:
            raise HarnessError("the store is away") from error

    monkeypatch.setattr("harness.session.compare", interrupted)
    assert cli.main(["compare", "a", "b"]) == cli.INTERRUPTED
    said = capsys.readouterr().err
    assert said.startswith("harness: the store is away\n")
    assert "goes on where it was left" in said


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_once_finishes_what_runs_and_twice_stops_now(
    stored: Workspace, write_spec: WriteSpec, number: signal.Signals, twice: bool
) -> None:
    spec = write_spec(("epochs: 2,", "epochs: 30,"))
    command = [sys.executable, "-m", "harness", "run", str(spec), "--jobs", "2"]
    # Whoever runs the tests in the background of a shell may have Ctrl-C ignored, and children inherit that.
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("training"):
                break
        # Not by the lines: they come every 5 s at most, and a fast machine is done by then.
        while not any(run.info.status == "FINISHED" for run in by_kind(runs_of(stored), "replicate")):
            assert process.poll() is None
            time.sleep(0.05)
        # A terminal sends Ctrl-C to all processes of its group, and kill to one.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        said = ""
        for line in process.stderr:
            said += line
            if "finishing what runs" in line:
                break
        assert re.search(r"\([12]\); Ctrl-C again stops now", said)
        if twice:
            process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == cli.INTERRUPTED, rest
    assert "goes on where it was left" in rest
    assert "Traceback" not in rest
    runs = by_kind(runs_of(stored), "replicate")
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert 0 < len(finished) < 12
    # The second may come between the end of a run in the store and its count.
    assert twice or f"{count(12 - len(finished), 'replicate')} left" in rest
    # What ran may have ended by itself just before the second.
    assert {run.info.status for run in runs} <= ({"FINISHED", "KILLED"} if twice else {"FINISHED"})
    (parent,) = by_kind(runs_of(stored), "grid")
    assert parent.info.status == "KILLED"
    assert parent.data.tags["harness.running"] == "0"
    assert twice or parent.data.tags["harness.done"] == str(len(finished))


def test_diagnosed_batch_norm_is_kept_with_each_run_and_reported(stored: Workspace, write_spec: WriteSpec) -> None:
    spec = write_spec(
        ("[full, head]", "[head]"),
        ("tricks: {warmup: {epochs: 1}, mixup: }\n", "diagnostics: {batch_norm: true}\n"),
        ("seeds: 2", "seeds: 1"),
    )
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    (run,) = by_kind(runs_of(stored), "replicate")
    asked = {name for name in run.data.metrics if name.startswith("test_top1_")}
    assert asked == {f"test_top1_{name}" for name in ("batch_1", "batch_8", "batch_64", "source_backbone")}
    assert run.data.metrics["test_top1_source_backbone"] == run.data.metrics["test_top1"], "the head alone learned"
    kept = table(stored, "batch_norm")
    for name in asked:
        assert kept.set_index("figure")["value"][name] == run.data.metrics[name]
    assert (kept["figure"] == "shift_end").sum() == 9
    (pretraining,) = by_kind(runs_of(stored), "prerequisite")
    assert not any(name.startswith("test_top1_") for name in pretraining.data.metrics)


def test_speed_need_not_be_measured(
    stored: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(*ONE, ("throughput: {rounds: 2, steps: 1}", "throughput: null"))
    assert read(spec).grid == read(spec, ["throughput={rounds: 2, steps: 1}"]).grid, "the same question"
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    assert "probing" not in capsys.readouterr().err
    assert table(stored, "cells")["images_per_s"].isna().all()
    figures = {path.stem for path in (stored.results / "tiny" / "figures").iterdir()}
    assert "heatmap" in figures
    assert not figures & {"pareto", "memory", "budget"}
    assert "probe" not in (stored.results / "tiny" / "report.md").read_text()


ONE = (("policies: [full, head]", "policies: [full]"), ("seeds: 2", "seeds: 1"))
"""One policy at one seed."""


def test_rates_are_chosen_once_on_validation_and_on_seeds_of_their_own(
    stored: Workspace, write_spec: WriteSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(
        *ONE,
        ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: [mixup]"),
        ("rounds: 2, steps: 1}", "rounds: 2, steps: 1}\ntune: {lr: [0.01, 0.1, 1.0e+30], seeds: 1}"),
    )
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    runs = runs_of(stored)
    tried, (parent,) = by_kind(runs, "tuning"), by_kind(runs, "grid")
    assert len(tried) == 2 * 3 * 1, "cells × rates × seeds"
    assert parent.info.status == "FINISHED"
    top1: dict[tuple[str, str], list[float]] = {}
    for run in tried:
        assert not any(name.startswith("test") for name in run.data.metrics)
        assert run.data.params["seed"] == "1000000"
        assert (run.info.status == "FAILED") is (run.data.params["lr"] == "1e+30")
        key = (run.data.params["cell"].removeprefix("tuning | "), run.data.params["lr"])
        top1.setdefault(key, []).append(run.data.metrics.get("val_top1", -1.0))
    cells = ("full | baseline", "full | mixup")
    best = {cell: max(("0.01", "0.1"), key=lambda lr: (sum(top1[cell, lr]), -float(lr))) for cell in cells}
    trained = by_kind(runs, "replicate")
    assert {run.data.params["cell"]: run.data.params["lr"] for run in trained} == best
    assert set(table(stored, "runs")["cell"]) == set(table(stored, "cells")["cell"]) == set(cells)
    assert set(table(stored, "runs")["seed"]) == {0}

    capsys.readouterr()
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    said = capsys.readouterr()
    assert "Nothing to train" in said.out
    assert "tuning" not in said.err
    assert len(runs_of(stored)) == len(runs)

    # A process that died while it tuned: what it had not ended is tried again, and nothing else.
    store = Store(stored)
    victim = next(run for run in tried if run.info.status == "FINISHED")
    store.client.update_run(victim.info.run_id, status="RUNNING")
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    after = runs_of(stored)
    assert len(after) == len(runs) + 1
    assert store.client.get_run(parent.info.run_id).info.status == "FINISHED"
    assert {run.info.status for run in after} == {"FINISHED", "FAILED", "KILLED"}

    # Without tuning it is another grid, at the rate of the spec.
    assert cli.main(["run", str(spec), "--inline", "--set", "tune=null"]) == cli.DONE
    assert len(by_kind(runs_of(stored), "grid")) == 2
    rates = {run.data.params["lr"] for run in by_kind(runs_of(stored), "replicate")[:2]}
    assert rates == {"0.05"}


def test_a_teacher_is_trained_once_first_and_its_time_is_charged(stored: Workspace, write_spec: WriteSpec) -> None:
    spec = write_spec(*ONE, ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: [distillation]"))
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    runs = runs_of(stored)
    prerequisites = {run.info.run_name: run for run in by_kind(runs, "prerequisite")}
    assert set(prerequisites) == {"pretraining", "teacher"}
    teacher = prerequisites["teacher"]
    assert 0 <= teacher.data.metrics["test_top1"] <= 1
    assert prerequisites["pretraining"].info.end_time <= teacher.info.start_time

    # The teacher is the very training of the baseline, which has its own curves all the same.
    cells = {run.data.params["cell"]: run for run in by_kind(runs, "replicate")}
    base, taught = cells["full | baseline"], cells["full | distillation"]
    assert teacher.data.tags["harness.digest"] == base.data.tags["harness.digest"]
    assert teacher.data.tags["harness.weights_sha256"] == base.data.tags["harness.weights_sha256"]
    assert teacher.info.end_time <= taught.info.start_time
    curves = pd.read_csv(io.BytesIO(Store(stored).read_artifact(base, "curves.csv") or b""))
    assert curves["epoch"].tolist() == [1, 2]

    speed = pd.read_csv(io.BytesIO(Store(stored).read_artifact(by_kind(runs, "grid")[0], "throughput.csv") or b""))
    rates = speed.groupby("cell")["images_per_s"].agg(geometric_mean)
    assert set(rates.index) == {*cells, "teacher cifar_resnet8"}
    images = 2 * 3 * 8  # epochs × steps × batch, of the student as of the teacher
    expected = images / rates["full | distillation"] + images / rates["teacher cifar_resnet8"]
    assert taught.data.metrics["train_s"] == pytest.approx(expected)
    assert base.data.metrics["train_s"] == pytest.approx(images / rates["full | baseline"])


def test_a_pretraining_that_diverges_fails_its_own_scenario_alone(stored: Workspace, write_spec: WriteSpec) -> None:
    rates = "{well: {weights.pretrain.train.lr: 0.05}, hot: {weights.pretrain.train.lr: 1.0e+30}}"
    spec = write_spec(*ONE, ("tricks: {warmup: {epochs: 1}, mixup: }", f"axes: {{source: {rates}}}"))
    assert cli.main(["run", str(spec), "--inline"]) == cli.SOME_FAILED
    runs = table(stored, "runs").set_index("source")
    assert runs["status"].to_dict() == {"well": "finished", "hot": "diverged"}
    assert runs["reason"]["hot"].startswith("its pretraining failed: training loss is")
    assert runs["images_per_s"]["well"] > 0
    (parent,) = by_kind(runs_of(stored), "grid")
    probed = pd.read_csv(io.BytesIO(Store(stored).read_artifact(parent, "throughput.csv") or b""))
    assert set(probed["cell"]) == {"full | baseline | source well"}, "one that is lost is probed when it is tried again"
    assert not [run for run in runs_of(stored) if run.info.status == "RUNNING"]


def test_a_rate_that_could_not_be_tried_fails_its_cell_until_it_can(
    stored: Workspace, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That memory ran out says nothing about a rate: it is no divergence, and no rate is chosen without it."""
    spec = write_spec(
        *ONE,
        ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: [mixup]"),
        ("rounds: 2, steps: 1}", "rounds: 2, steps: 1}\ntune: {lr: [0.01, 0.1], seeds: 1}"),
    )

    def breaks(training, *rest):
        if training.recipe.mixes and training.train.lr == 0.1:
            raise MemoryError("no room")
        yield from course(training, *rest)

    monkeypatch.setattr("harness.execute.worker.course", breaks)
    assert cli.main(["run", str(spec), "--inline"]) == cli.SOME_FAILED
    runs = table(stored, "runs").set_index("cell")
    assert runs["status"].to_dict() == {"full | baseline": "finished", "full | mixup": "failed"}
    assert runs["reason"]["full | mixup"] == "its learning rate could not be chosen: MemoryError: no room"
    baseline = by_kind(runs_of(stored), "replicate")

    monkeypatch.undo()
    tried = len(by_kind(runs_of(stored), "tuning"))
    assert cli.main(["rerun", "--failed", str(spec), "--inline"]) == cli.DONE
    assert set(table(stored, "runs")["status"]) == {"finished"}
    assert len(by_kind(runs_of(stored), "tuning")) == tried + 1
    assert {run.info.run_id for run in baseline} <= {run.info.run_id for run in by_kind(runs_of(stored), "replicate")}
