"""Nothing of a hub or an agent talks to anybody but its own: the kernel says whom each process turns to."""

import os
import sys
from pathlib import Path

import pytest

from edge_agent.core import phone_home
from tests.conftest import REPOSITORY
from tests.e2e import watched
from tests.e2e.watched import CannotWatch, Outcome

_ORT = "import onnxruntime as o, numpy, time; o.get_available_providers()"
_EVENTS = ".onnxruntime"  # where onnxruntime keeps what it will report, in a folder below HOME


def run(folder: Path, *words: str, timeout_s: float) -> Outcome:
    """As on a machine of a user: nothing tells libraries to be silent, as ``CI`` does. Skips where the kernel cannot watch."""
    silencing = {*phone_home.OFF, "CI", "GITHUB_ACTIONS", "TF_BUILD", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID"}
    env = {name: value for name, value in os.environ.items() if name not in silencing}
    try:
        return watched.run(words, env | {"HOME": str(folder)}, timeout_s=timeout_s, cwd=REPOSITORY)
    except CannotWatch as error:
        pytest.skip(f"connections cannot be watched here: {error}")


def test_a_contact_is_seen_from_whatever_process_it_comes(tmp_path: Path) -> None:
    """What is below proves something only if this does."""
    connect = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.7', 53))"
    send = "s.sendto(b'', ('127.0.0.1', 9)); s.connect(('127.0.0.1', 9))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {connect!r}]); {connect}; {send}"
    seen = run(tmp_path, sys.executable, "-c", child, timeout_s=30)
    assert [contact.address for contact in seen.contacts].count("192.0.2.7") == 2, seen
    assert {(contact.address, contact.port) for contact in seen.contacts if not contact.outside} == {("127.0.0.1", 9)}


def test_onnxruntime_prepares_to_report_unless_it_is_told_not_to(tmp_path: Path) -> None:
    run(tmp_path, sys.executable, "-c", _ORT, timeout_s=60)
    assert list(tmp_path.rglob(_EVENTS)), "it does not any more: the search for what it writes proves nothing then"
    told = tmp_path / "told"
    told.mkdir()
    run(told, sys.executable, "-c", f"from edge_agent.core import phone_home; phone_home.forbid(); {_ORT}", timeout_s=60)
    assert not list(told.rglob(_EVENTS))


def test_a_hub_and_an_agent_talk_to_nobody_else(tmp_path: Path) -> None:
    seen = run(tmp_path, sys.executable, "-m", "tests.e2e.whole", str(tmp_path / "system"), timeout_s=170)
    assert seen.status == 0 and seen.output.rstrip().endswith("whole"), seen.output[-3000:]
    assert {contact for contact in seen.contacts if contact.outside} == set()
    programs = {contact.program for contact in seen.contacts}
    assert any("cloud-hub" in program for program in programs), "the hub was not watched"
    assert any("edge_agent" in program for program in programs), "the agent was not watched"
    assert not list(tmp_path.rglob(_EVENTS))
