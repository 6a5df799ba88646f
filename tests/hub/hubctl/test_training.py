"""Specifications, jobs and models on the command line."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_hub.core.model import JobState, TrainingStep
from cloud_hub.store import training as store
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import ADMIN, RunningHub

Ask = Callable[..., Any]


def spec_for(run: Run, folder: Path, model: str) -> Path:
    run("dataset", "create", f"{model}-data", "--labels", "cat,dog")
    path = folder / "spec.yaml"
    path.write_text(f"# how {model} is trained\nname: {model}\ndata: {{dataset: {model}-data}}\n")
    run("spec", "put", "-f", str(path))
    return path


def test_a_specification_comes_back_as_it_was_written(run: Run, ask: Ask, tmp_path: Path) -> None:
    path = spec_for(run, tmp_path, "signs")
    assert run("spec", "get", "signs").stdout == path.read_text()
    assert ask("spec", "get", "signs")["yaml"] == path.read_text()
    run("spec", "put", "-f", "-", stdin=path.read_text().replace("data:", "dta:"), code=4)
    run("spec", "get", "nothing", code=3)


def test_a_job_is_queued_listed_and_cancelled(run: Run, ask: Ask, tmp_path: Path) -> None:
    spec_for(run, tmp_path, "queued")
    job = ask("job", "run", "queued")
    assert (job["state"], job["trigger"], job["trigger_detail"]) == ("queued", "manual", "by ada")
    assert [j["id"] for j in ask("job", "list", "--model", "queued")] == [job["id"]]
    assert job["id"] in run("job", "list").stdout
    assert ask("job", "cancel", job["id"])["state"] == "cancelled"
    run("job", "cancel", job["id"], code=4)
    assert ask("job", "get", job["id"])["ended_at"] is not None
    run("job", "run", "no-spec", code=3)
    assert "executor is local" in run("job", "run", "queued", "--workers", "4", code=4).stderr
    job = ask("job", "run", "queued", "--workers", "4", "--executor", "ray")
    ask("job", "cancel", job["id"])


@pytest.mark.parametrize(("state", "code"), [(JobState.PUBLISHED, 0), (JobState.REJECTED, 1), (JobState.FAILED, 1)])
def test_following_a_job_ends_as_the_job_does(hub: RunningHub, run: Run, tmp_path: Path, state: JobState, code: int) -> None:
    model = f"follow-{state.name.lower()}"
    spec_for(run, tmp_path, model)
    training = hub.services.training

    def work() -> None:
        claimed = None
        while claimed is None or claimed.model != model:
            claimed = training.claim()
        for number in range(3):
            training.progress(claimed.id, "train", number / 3, f"epoch {number}")
        training.finish(claimed.id, state, reason="the gate said so", version=7 if state is JobState.PUBLISHED else 0)

    job_id = json.loads(run("--output", "json", "job", "run", model).stdout)["id"]
    worker = threading.Thread(target=work)
    worker.start()
    result = run("job", "logs", job_id, "--follow", code=code)
    worker.join()
    assert [line.split(" ", 1)[1] for line in result.stdout.splitlines()] == ["epoch 0", "epoch 1", "epoch 2"]
    assert ("version 7" if code == 0 else "the gate said so") in result.stderr.splitlines()[-1]
    assert run("job", "logs", job_id).stdout == result.stdout  # and without following, what there is
    lines = run("--output", "json", "job", "logs", job_id, "--follow", code=code).stdout.splitlines()
    assert json.loads(lines[-1])["job"]["state"] == state.name.lower()


def test_a_specification_is_looked_at_as_a_whole_and_not_stored(run: Run, ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: checked\ndata: {dataset: nowhere, val_share: 2}\ntrain: {lr: -1, ecpohs: 3}\n")
    said = run("job", "validate", "-f", str(path), code=4)
    for words in ("data.val_share", "train.lr", "unknown key 'train.ecpohs'"):
        assert words in said.stdout
    assert "3 problems" in said.stderr
    path.write_text("name: checked\ndata: {dataset: nowhere}\n")
    assert "can be used" in run("job", "validate", "-f", str(path)).stdout
    path.write_text("name: checked\ndata: {dataset: nowhere}\ncompress: {prune: [0.5]}\n")
    assert "'compress.prune' makes no difference" in run("job", "validate", "-f", str(path)).stdout
    path.write_text(path.read_text().replace("checked", "noted"))
    stored = run("spec", "put", "-f", str(path))
    assert "'compress.prune' makes no difference" in stored.stderr
    assert stored.stdout == "stored the specification of noted\n"
    assert "'nowhere' does not exist" in run("job", "validate", "-f", str(path), "--dataset-check", code=4).stdout
    assert "batch_size: 64" in ask("job", "validate", "-f", str(path))["yaml"]
    run("spec", "get", "checked", code=3)


def test_an_ended_job_is_run_again_on_the_specification_it_had(hub: RunningHub, run: Run, ask: Ask, tmp_path: Path) -> None:
    path = spec_for(run, tmp_path, "again")
    first = ask("job", "run", "again")
    run("job", "retry", first["id"], code=4)  # it has not ended
    ask("job", "cancel", first["id"])
    path.write_text(path.read_text() + "train: {seed: 9}\n")
    run("spec", "put", "-f", str(path))
    second = ask("job", "retry", first["id"])
    assert (second["state"], second["trigger_detail"]) == ("queued", f"by ada, as job {first['id']} again")
    assert "seed" not in hub.services.training.job(second["id"]).spec_yaml
    ask("job", "cancel", second["id"])
    run("job", "retry", "nothing", code=3)


def test_the_tasks_that_can_be_trained_are_listed_with_their_own_sections(run: Run, ask: Ask) -> None:
    (images,) = [task for task in ask("spec", "tasks") if task["name"] == "image-classification"]
    assert (images["kind"], images["annotation"], images["metric"]) == ("image", "class", "accuracy")
    assert "accuracy >= 0.8" in run("spec", "tasks").stdout
    assert yaml.safe_load(run("spec", "task", "image-classification").stdout)["preprocess"]["width"] == 32
    run("spec", "task", "mind-reading", code=3)


def test_a_follower_is_told_of_every_epoch_and_step(hub: RunningHub, run: Run, tmp_path: Path) -> None:
    spec_for(run, tmp_path, "stepping")
    job_id = json.loads(run("--output", "json", "job", "run", "stepping").stdout)["id"]
    claimed = hub.services.training.claim()
    assert claimed is not None and claimed.id == job_id
    step = TrainingStep(epoch=2, epochs=10, step=5, steps=20, loss=0.75, eta_s=33.0)
    hub.services.training.progress(job_id, "teacher", 0.2, "", step)
    hub.services.training.progress(job_id, "teacher", 0.2, "a line")  # of the same stage: the step stands
    (told,) = [json.loads(line) for line in run("--output", "json", "job", "logs", job_id).stdout.splitlines()]
    assert [told[key] for key in ("epoch", "epochs", "step", "steps", "loss", "eta_s")] == [2, 10, 5, 20, 0.75, 33.0]
    hub.services.training.progress(job_id, "verify", 0.9)
    assert hub.services.training.job(job_id).step is None
    hub.services.training.cancel(ADMIN, job_id)


def test_the_log_of_a_running_job_is_printed_without_waiting_for_its_end(hub: RunningHub, run: Run, tmp_path: Path) -> None:
    spec_for(run, tmp_path, "going")
    job_id = json.loads(run("--output", "json", "job", "run", "going").stdout)["id"]
    claimed = hub.services.training.claim()
    assert claimed is not None and claimed.id == job_id
    with hub.db.write() as tx:
        for number in range(1500):  # more than the hub reads at once
            store.add_line(tx, job_id, f"line {number}", datetime.now(UTC), 10_000)
    lines = run("job", "logs", job_id).stdout.splitlines()
    assert len(lines) == 1500 and lines[-1].endswith("line 1499")
    hub.services.training.cancel(ADMIN, job_id)


def test_models_are_listed_shown_and_promoted(hub: RunningHub, run: Run, ask: Ask) -> None:
    hub.publish("shown")
    hub.publish("shown")
    (model,) = [m for m in ask("model", "list") if m["name"] == "shown"]
    assert (model["latest_version"], model["aliases"]) == (2, {"challenger": 2})
    assert [v["version"] for v in ask("model", "versions", "shown")] == [2, 1]
    assert "onnx-int8 accuracy 0.97" in run("model", "versions", "shown").stdout
    run("model", "get", "shown", code=3)  # no champion yet
    assert run("model", "promote", "shown", "1").stdout == "champion of shown is version 1\n"
    champion = ask("model", "get", "shown")
    assert champion["version"] == 1 and champion["report"] == {"accuracy": 0.97}
    assert ask("model", "get", "shown", "--alias", "challenger")["version"] == 2
    assert "onnx-int8" in run("model", "get", "shown", "--version", "2").stdout
    run("model", "promote", "shown", "9", code=3)
    assert run("model", "get", "nowhere", code=3).stderr == "error: no model nowhere\n"


def test_the_report_of_a_job_is_written_whole_or_not_at_all(hub: RunningHub, run: Run, ask: Ask, tmp_path: Path) -> None:
    spec_for(run, tmp_path, "reported")
    job_id = ask("job", "run", "reported")["id"]
    page, figures = tmp_path / "report.html", tmp_path / "report.json"
    assert "has no report" in run("job", "report", job_id, "-o", str(page), code=3).stderr
    hub.services.reports.put(job_id, b"<html>good</html>", b'{"accuracy": 0.9}')
    assert ask("job", "report", job_id, "-o", str(page)) == {"path": str(page), "bytes": 17}
    assert run("job", "report", job_id, "-o", str(figures)).stdout == f"{figures}: 17 bytes\n"
    assert run("job", "report", job_id, "-o", "-").stdout == "<html>good</html>"
    assert ask("job", "report", job_id, "-o", "-") == {"accuracy": 0.9}
    assert page.read_bytes() == b"<html>good</html>" and json.loads(figures.read_text()) == {"accuracy": 0.9}

    run("job", "report", "no-such-job", "-o", str(page), code=3)
    assert page.read_bytes() == b"<html>good</html>", "what was there stays"
    for out, why in ((tmp_path, "it is a folder"), (tmp_path / "no" / "r.html", f"there is no folder {tmp_path / 'no'}")):
        assert run("job", "report", job_id, "-o", str(out), code=4).stderr == f"error: cannot write {out}: {why}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "spec.yaml"]
    ask("job", "cancel", job_id)


def test_the_report_of_a_version_is_that_of_its_job(hub: RunningHub, run: Run, ask: Ask, tmp_path: Path) -> None:
    spec_for(run, tmp_path, "judged")
    job_id = ask("job", "run", "judged")["id"]
    hub.publish("judged", job_id=job_id)
    hub.publish("judged")
    hub.services.reports.put(job_id, b"<html>first</html>", b'{"accuracy": 0.9}')
    out = str(tmp_path / "report.html")
    assert "no alias 'champion'" in run("model", "report", "judged", "-o", out, code=3).stderr
    run("model", "promote", "judged", "1")
    assert ask("model", "report", "judged", "-o", out)["bytes"] == 18
    assert ask("model", "report", "judged", "--version", "1", "-o", out)["bytes"] == 18
    assert Path(out).read_bytes() == b"<html>first</html>"
    for version, why in (("2", "version 2 of model judged has no report"), ("9", "no version 9 of model judged")):
        assert why in run("model", "report", "judged", "--version", version, "-o", out, code=3).stderr
    assert run("model", "report", "nowhere", "-o", out, code=3).stderr == "error: no model nowhere\n"
    ask("job", "cancel", job_id)


def test_each_problem_of_a_specification_is_one_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [\n")
    said = run("job", "validate", "-f", str(path), code=4)
    assert len(said.stdout.splitlines()) == 1 and "is not YAML" in said.stdout
    assert said.stderr == f"error: {path} cannot be used: 1 problem\n"


def test_a_follower_that_is_interrupted_ends_quietly_and_the_job_goes_on(
    hub: RunningHub, run: Run, config: Path, tmp_path: Path
) -> None:
    spec_for(run, tmp_path, "left")
    job_id = json.loads(run("--output", "json", "job", "run", "left").stdout)["id"]
    claimed = hub.services.training.claim()
    assert claimed is not None and claimed.id == job_id
    hub.services.training.progress(job_id, "train", 0.1, "the first line")
    command = [Path(sys.executable).parent / "hubctl", "--config", config, "job", "logs", job_id, "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and "the first line" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert hub.services.training.job(job_id).state is JobState.RUNNING
    hub.services.training.cancel(ADMIN, job_id)
