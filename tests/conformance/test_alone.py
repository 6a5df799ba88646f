"""The agent without a hub."""

import signal
import time
from datetime import datetime

import pytest

from tests.conformance.agent import Agent, command


def test_it_infers_and_spools_without_network_and_identity_and_stops_cleanly(agent: Agent) -> None:
    agent.equip()
    started = time.time()
    agent.start()
    agent.wait(lambda: agent.logged("first inference"), "an inference")
    first = datetime.fromisoformat(agent.logged("first inference")[0]["at"]).timestamp()
    assert first - started < 5, "far above the goal of a second, so that a busy machine passes"
    agent.wait(lambda: agent.logged("no link to a hub"), "word that it runs alone")
    assert agent.stop() == 0
    status = agent.status()
    assert status["state"] == "stopped"
    assert status["health"]["inferences"] == status["health"]["spool_records"] > 0
    assert "edge-agent enroll" in status["note"]
    table = command("status", "--data-dir", str(agent.data_dir))
    assert table.returncode == 0 and "street:1" in table.stdout


def test_without_a_model_it_waits_for_one(agent: Agent) -> None:
    agent.start()
    agent.wait(lambda: "no model yet" in agent.status().get("note", ""), "its status")
    assert agent.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_agent_takes_up_where_it_was(agent: Agent, number: signal.Signals) -> None:
    agent.equip()
    records = 0
    for _ in range(2):
        agent.start()
        agent.wait(lambda: agent.logged("first inference"), "an inference")
        assert agent.process is not None
        agent.process.send_signal(number)
        assert agent.process.wait(20) == 0
        (agent.folder / "log").write_text("")
        assert agent.status()["health"]["spool_records"] > records
        records = agent.status()["health"]["spool_records"]


def test_it_ends_after_as_many_frames_as_were_asked_for(agent: Agent) -> None:
    agent.equip()
    agent.start("--max-frames", "3")
    assert agent.process is not None and agent.process.wait(20) == 0
    assert agent.status()["health"]["inferences"] == 3


def test_a_second_agent_on_the_same_data_is_refused(agent: Agent) -> None:
    agent.start()
    agent.wait(agent.status, "its status")
    second = command("run", "--config", str(agent.folder / "agent.yaml"))
    assert second.returncode == 1
    assert "another agent runs with" in second.stderr


def test_an_unknown_key_ends_it_with_status_2(agent: Agent) -> None:
    (agent.folder / "agent.yaml").write_text("spool: {max_byte: 3}")
    done = command("run", "--config", str(agent.folder / "agent.yaml"))
    assert done.returncode == 2
    assert "spool.max_byte" in done.stderr and "max_bytes" in done.stderr and "Traceback" not in done.stderr
