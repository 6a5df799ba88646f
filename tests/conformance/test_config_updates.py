"""The hub changes a device's configuration: real processes, started again by whoever starts them, against a real hub."""

from collections.abc import Callable, Iterator

import pytest
import yaml

from protos.contract.twin import PackageKind, PackageStatus
from protos.contract.update import UpdateState
from tests.conformance.agent import Agent
from tests.conformance.hub import Hub
from tests.conformance.test_packages import LONG_S, Service, desire_package, services, status, twin

BRICKS = {"spool": {"max_bytes": 10**30}}  # its check finds nothing wrong, and the agent ends over it at every start


@pytest.fixture
def service(agent: Agent, hub: Hub) -> Iterator[Callable[[str], Service]]:
    with services(agent, hub) as start:
        yield start


def desire(hub: Hub, name: str, settings: object, version: str, release: int) -> int:
    """Ask a device for a configuration, and for nothing else."""
    data = settings.encode() if isinstance(settings, str) else yaml.safe_dump(settings).encode()
    return desire_package(hub, name, PackageKind.CONFIG, "site", data, version, release)


def ended(hub: Hub, name: str, generation: int) -> PackageStatus:
    it = twin(hub, name, lambda it: status(it, generation), f"the end of generation {generation}")
    found = status(it, generation)
    assert found is not None
    return found


def test_a_configuration_from_the_hub_is_tried_by_a_new_start_and_kept(
    hub: Hub, agent: Agent, service: Callable[[str], Service]
) -> None:
    running = service("config-1")
    generation = desire(hub, "config-1", {"metrics": {"port": 0}}, "1", 1)
    assert ended(hub, "config-1", generation).state is UpdateState.COMMITTED
    assert running.ended == [75], "one new start, with the status that asks for it"
    assert agent.logged("metrics are served"), "and it holds what was sent"
    agent.process.kill()  # type: ignore[union-attr]
    hub.wait(lambda: len(running.ended) == 2, "the agent to be gone", LONG_S)
    boots = {each.boot_id for each in hub.devices["config-1"].reported}
    again = twin(hub, "config-1", lambda it: it.boot_id not in boots and it.health.inferences > 0, "it to come back")
    assert [(each.kind, each.version) for each in again.packages] == [(PackageKind.CONFIG, "1")]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"update": {"probation_seconds": 3}}, "unknown key 'update.probation_seconds'"),
        ({"data_dir": "/tmp/elsewhere"}, "'data_dir' cannot be set"),
        ({"update": {"reboot_command": ["/bin/sh"]}}, "'update.reboot_command' cannot be set"),
        ({"update": {"rauc": "/tmp/rauc"}}, "'update.rauc' cannot be set"),
        ({"source": {"kind": "telepathy"}}, "source.kind must be"),
        ({"update": {"windows": ["sometimes"]}}, "is no window"),
        ("a: &a [1]\nb: *a\n", "aliases are not allowed"),
        ("- not\n- a mapping\n", "must hold a mapping"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_without_a_new_start(
    hub: Hub, agent: Agent, service: Callable[[str], Service], settings: object, words: str
) -> None:
    running = service("config-2")
    found = ended(hub, "config-2", desire(hub, "config-2", settings, "2", 2))
    assert found.state is UpdateState.FAILED and words in found.reason
    assert running.ended == []


def test_a_configuration_with_which_the_agent_cannot_start_is_taken_back_by_itself(
    hub: Hub, agent: Agent, service: Callable[[str], Service]
) -> None:
    running = service("config-3")
    generation = desire(hub, "config-3", BRICKS, "3", 3)
    found = ended(hub, "config-3", generation)
    assert found.state is UpdateState.ROLLED_BACK
    assert "did not survive" in found.reason
    assert running.ended == [75, 1, 1, 1], "three starts with it, and none more"
    twin(hub, "config-3", lambda it: it.packages == () and it.health.inferences > 0, "an inference afterwards")


def test_a_configuration_with_which_nothing_is_seen_is_taken_back(
    hub: Hub, agent: Agent, service: Callable[[str], Service]
) -> None:
    service("config-4")
    generation = desire(hub, "config-4", {"source": {"kind": "none"}}, "4", 4)
    found = ended(hub, "config-4", generation)
    assert found.state is UpdateState.ROLLED_BACK and "nothing is inferred" in found.reason
    twin(hub, "config-4", lambda it: it.packages == () and it.health.inferences > 0, "an inference afterwards")
