"""Specifications, jobs and models on the command line."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.core.model import JobState
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


def test_the_log_of_a_running_job_is_printed_without_waiting_for_its_end(hub: RunningHub, run: Run, tmp_path: Path) -> None:
    spec_for(run, tmp_path, "going")
    job_id = json.loads(run("--output", "json", "job", "run", "going").stdout)["id"]
    claimed = hub.services.training.claim()
    assert claimed is not None and claimed.id == job_id
    for number in range(1500):  # more than the hub reads at once
        hub.services.training.progress(job_id, "train", 0.1, f"line {number}")
    lines = run("job", "logs", job_id).stdout.splitlines()
    assert len(lines) == 1500 and lines[-1].endswith("line 1499")
    hub.services.training.cancel(ADMIN, job_id)


def test_models_are_listed_shown_and_promoted(hub: RunningHub, run: Run, ask: Ask) -> None:
    hub.publish("shown")
    hub.publish("shown")
    (model,) = [m for m in ask("model", "list") if m["name"] == "shown"]
    assert (model["latest_version"], model["aliases"]) == (2, {"challenger": 2})
    assert [v["version"] for v in ask("model", "versions", "shown")] == [2, 1]
    assert "onnx-int8 97.0%" in run("model", "versions", "shown").stdout
    run("model", "get", "shown", code=3)  # no champion yet
    assert run("model", "promote", "shown", "1").stdout == "champion of shown is version 1\n"
    champion = ask("model", "get", "shown")
    assert champion["version"] == 1 and champion["report"] == {"accuracy": 0.97}
    assert ask("model", "get", "shown", "--alias", "challenger")["version"] == 2
    assert "onnx-int8" in run("model", "get", "shown", "--version", "2").stdout
    run("model", "promote", "shown", "9", code=3)
