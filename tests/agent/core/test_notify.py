"""The service manager hears from its service, and from nobody else."""

import socket
from pathlib import Path

import pytest

from edge_agent.core.notify import service_manager


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + path if abstract else path)
        listener.settimeout(10)
        notify = service_manager({"NOTIFY_SOCKET": "@" + path if abstract else path})
        for state in ("READY=1", "WATCHDOG=1"):
            notify(state)
            assert listener.recv(100) == state.encode()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_where_nobody_listens_nothing_happens(environment: dict[str, str]) -> None:
    service_manager(environment)("READY=1")


def test_children_are_not_told_where_the_service_manager_listens() -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "PATH": "/bin"}
    service_manager(environment)
    assert environment == {"PATH": "/bin"}
