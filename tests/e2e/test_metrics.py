"""What Prometheus, Grafana and a probe get from a running hub and a running agent."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.core.http import MAX_CONNECTIONS
from tests.conformance.agent import Agent
from tests.conftest import REPOSITORY
from tests.e2e.system import System, free_port, wait_for

CAM = "cam-a"
DEPLOY = REPOSITORY / "deploy"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count"), "gauge": ("",)}
FROM_PROMETHEUS = {"up"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("system"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def camera(system: System) -> Agent:
    agent = system.agent(CAM)
    agent.equip()
    watched(agent, free_port())
    agent.start()
    system.goes_on(CAM)
    wait_for(lambda: agent.logged("metrics are served"), "its metrics")
    return agent


def watched(agent: Agent, port: int) -> None:
    (agent.folder / "conf.d").mkdir()
    (agent.folder / "conf.d" / "metrics.yaml").write_text(f"metrics: {{port: {port}}}")


def hub_port(system: System) -> int:
    return system.hub.config.metrics.port


def agent_port(agent: Agent) -> int:
    port: int = agent.logged("metrics are served")[-1]["port"]
    return port


def ask(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def families(port: int) -> list[Metric]:
    status, kind, body = ask(port, "/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    return list(text_string_to_metric_families(body))


def values(port: int) -> dict[str, float]:
    """Of series without labels."""
    return {one.name: one.value for family in families(port) for one in family.samples if not one.labels}


def probe(port: int, path: str) -> tuple[int, dict[str, str]]:
    status, kind, body = ask(port, path)
    assert kind == "application/json"
    return status, json.loads(body)["problems"]


# -- the exposition ---------------------------------------------------------------------------------------------------------


def test_a_hub_counts_what_has_happened(system: System, camera: Agent) -> None:
    before = values(hub_port(system))
    system.goes_on(CAM, records=40)
    system.hubctl("device", "list")
    now = values(hub_port(system))
    assert now["tideline_hub_ingest_records_total"] >= before["tideline_hub_ingest_records_total"] + 40
    assert now["tideline_hub_ingest_commit_seconds_count"] > 0
    assert now["tideline_hub_broker_up"] == now["tideline_hub_ingest_connected"] == 1
    assert now["tideline_hub_collect_errors_total"] == 0
    assert now["process_resident_memory_bytes"] > 1 << 20
    labelled = {
        (one.name, frozenset(one.labels.values())): one.value for family in families(hub_port(system)) for one in family.samples
    }
    assert labelled["tideline_hub_devices", frozenset({"online"})] == 1
    assert labelled["tideline_hub_grpc_calls_total", frozenset({"tideline.v1.Fleet/ListDevices", "OK"})] >= 1
    assert labelled["tideline_hub_ready", frozenset({"database"})] == 1
    assert labelled["tideline_hub_certificate_expiry_seconds", frozenset({"broker"})] > 86400
    assert labelled["tideline_hub_tick_seconds_count", frozenset({"drift"})] > 0


def test_an_agent_counts_what_has_happened(system: System, camera: Agent) -> None:
    before = values(agent_port(camera))
    system.goes_on(CAM, records=40)
    now = values(agent_port(camera))
    assert now["tideline_agent_inferences_total"] >= before["tideline_agent_inferences_total"] + 20
    assert now["tideline_agent_inference_seconds_count"] >= now["tideline_agent_inferences_total"] > 0
    assert now["tideline_agent_spool_commit_seconds_count"] > 0
    assert now["tideline_agent_broker_connected"] == now["tideline_agent_equipped"] == now["tideline_agent_enrolled"] == 1


def test_every_name_is_of_its_program_and_no_series_is_of_one_device(system: System, camera: Agent) -> None:
    for port, namespace in ((hub_port(system), "tideline_hub_"), (agent_port(camera), "tideline_agent_")):
        for family in families(port):
            assert family.name.startswith((namespace, "process_", "python_")), family.name
            assert family.documentation, family.name
            assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)(_|$)", family.name), family.name
            for one in family.samples:
                assert not {"device", "tenant"} & set(one.labels), one


def test_open_metrics_is_spoken_to_those_who_ask_for_it(system: System, camera: Agent) -> None:
    for port in (hub_port(system), agent_port(camera)):
        status, kind, body = ask(port, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
        assert len(list(open_metrics(body))) > 20


# -- what is built on it ----------------------------------------------------------------------------------------------------


def exposed(*ports: int) -> set[str]:
    """Names of series; of a family that has none yet, those it will have."""
    return {
        name + suffix
        for port in ports
        for family in families(port)
        for name, suffix in ((family.name, suffix) for suffix in SUFFIXES.get(family.type, ("",)))
    }


def named(expression: str) -> set[str]:
    """Metrics of a PromQL expression: identifiers that are no function, label, keyword or duration."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]|\$\w+', "", expression)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare)
    return {word for word in words if word not in ("and", "or", "unless", "bool")}


def expressions() -> dict[str, str]:
    board: dict[str, Any] = json.loads((DEPLOY / "grafana" / "tideline.json").read_text())
    found = {
        f"panel {panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }
    found |= {
        f"variable {one['name']}": re.sub(r"label_values\((.*), \w+\)", r"\1", one["query"]["query"])
        for one in board["templating"]["list"]
        if one["type"] == "query"
    }
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    found |= {f"rule {rule['alert']}": rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    return found


def test_what_dashboard_and_rules_speak_of_is_exposed(system: System, camera: Agent) -> None:
    known = exposed(hub_port(system), agent_port(camera)) | FROM_PROMETHEUS
    spoken = {where: named(expression) for where, expression in expressions().items()}
    assert len(spoken) > 60 and all(spoken.values())
    assert {where: names - known for where, names in spoken.items() if names - known} == {}


def test_the_names_of_an_expression_are_found() -> None:
    text = (
        'topk(10, histogram_quantile(0.95, sum by (le, method) (rate(a_bucket{job=~"$x",b="c"}[$__rate_interval])))) > 0.2 * d'
    )
    assert named(text) == {"a_bucket", "d"}
    assert named('up{job="x"} == 0 and on (job) rate(e_total[5m]) == 0') == {"up", "e_total"}


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    board = json.loads((DEPLOY / "grafana" / "tideline.json").read_text())
    assert board["schemaVersion"] >= 36 and board["id"] is None and board["uid"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == [
        "Fleet", "Ingest and archive", "Spool and uplink, of devices that are scraped", "Drift and alerts", "gRPC",
        "Training, rollouts and the hub itself",
    ]  # fmt: skip
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    assert board["templating"]["list"][0]["type"] == "datasource"


def test_the_scrape_configuration_names_the_jobs_of_the_rules_and_the_default_port() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "tideline.yml").read_text())
    jobs = {job["job_name"] for job in scrape["scrape_configs"]}
    assert jobs == set(re.findall(r'job="([^"]+)"', " ".join(expressions().values())))
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"] == ["127.0.0.1:9464"]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"]


# -- probes -----------------------------------------------------------------------------------------------------------------


def test_a_hub_and_an_agent_at_work_are_alive_and_ready(system: System, camera: Agent) -> None:
    for port in (hub_port(system), agent_port(camera)):
        assert probe(port, "/livez") == probe(port, "/readyz") == (200, {})


def test_a_broker_that_hangs_makes_the_hub_unready_and_not_dead(system: System, camera: Agent) -> None:
    port, broker = hub_port(system), system.hub.broker_pid
    os.kill(broker, signal.SIGSTOP)
    try:
        wait_for(lambda: probe(port, "/readyz") == (503, {"broker": "cannot be reached"}), "a hub that is not ready")
        assert probe(port, "/livez") == (200, {})
        assert values(port)["tideline_hub_broker_up"] == 0
    finally:
        os.kill(broker, signal.SIGCONT)
    wait_for(lambda: probe(port, "/readyz") == (200, {}), "a hub that is ready again")
    system.goes_on(CAM)


def test_clients_that_say_nothing_disturb_nobody(system: System, camera: Agent) -> None:
    with contextlib.ExitStack() as held:
        for port in (hub_port(system), agent_port(camera)):
            for _ in range(3 * MAX_CONNECTIONS):
                held.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        assert system.goes_on(CAM) < 30
        wait_for(lambda: _answers(hub_port(system)), "an answer, once their time is over")


def _answers(port: int) -> bool:
    try:
        return ask(port, "/livez")[0] == 200
    except OSError:
        return False


def test_an_agent_without_a_model_is_alive_and_not_ready(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "bare")
    watched(agent, 0)
    agent.start()
    try:
        agent.wait(lambda: agent.logged("metrics are served"), "its metrics")
        assert probe(agent_port(agent), "/readyz") == (503, {"model": "none yet"})
        assert probe(agent_port(agent), "/livez") == (200, {})
        assert agent.stop() == 0
    finally:
        agent.close()


def test_an_agent_whose_port_is_taken_says_so_and_goes_on(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "taken")
    agent.equip()
    with socket.create_server(("127.0.0.1", 0)) as other:
        watched(agent, other.getsockname()[1])
        agent.start()
        try:
            agent.wait(lambda: agent.logged("no metrics"), "a warning")
            agent.wait(lambda: agent.logged("first inference"), "inference")
            assert agent.logged("no metrics")[0]["error"].startswith("Address already in use")
            assert agent.stop() == 0
        finally:
            agent.close()


def test_an_agent_that_is_not_asked_to_does_not_load_the_client_library() -> None:
    code = "import sys, edge_agent.app.bootstrap; print(*{name.partition('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "prometheus_client" not in out.stdout.split()


def test_what_was_collected_has_a_time(system: System) -> None:
    assert values(hub_port(system))["tideline_hub_collect_age_seconds"] < 30
    assert datetime.now(UTC).timestamp() - values(hub_port(system))["process_start_time_seconds"] < 3600
