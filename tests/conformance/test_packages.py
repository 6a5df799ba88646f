"""The agent replaces itself: real processes, started again and again by the launcher, against a real broker and a real hub."""

import contextlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile

from protos.contract import codec, topics
from protos.contract.ids import digest_of
from protos.contract.twin import DesiredTwin, PackageAssignment, PackageKind, PackageStatus, ReportedTwin
from protos.contract.update import FINAL, UpdateState
from tests.conformance.agent import Agent
from tests.conformance.hub import TENANT, Hub
from tests.conformance.repository import customised
from tests.conftest import REPOSITORY

LONG_S = 120.0  # an agent starts three times, on a machine that is shared
DIES = "import os\nif __name__ == '__main__':\n    os._exit(3)\n"  # its check imports it, and finds nothing wrong


class Service:
    """Starts the launcher again whenever the agent ends, as systemd does."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.ended = agent, []  # type: tuple[Agent, list[int]]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def command(self) -> list[str]:
        """What is started next."""
        app, config = self.agent.data_dir / "app", self.agent.folder / "agent.yaml"
        return [sys.executable, "-m", "edge_agent.app.launcher", "--app", str(app), "run", "--config", str(config)]

    def _run(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_AGENT__")}
        while not self._stopping.is_set():
            with (self.agent.folder / "log").open("ab") as log:
                self.agent.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=env)
            self.ended.append(self.agent.process.wait())
            self._stopping.wait(0.2)

    def close(self) -> None:
        self._stopping.set()
        if self.agent.process is not None:
            self.agent.process.kill()
        self._thread.join(10)


@contextlib.contextmanager
def services(agent: Agent, hub: Hub) -> Iterator[Callable[[str], Service]]:
    """Starts the agent, as a service manager would, under the name it is given."""
    started = []

    def start(name: str) -> Service:
        agent.configure(update={"settle_s": 2.0, "reach_timeout_s": 60.0})
        hub.identity(name, agent.data_dir)
        agent.equip()
        hub.skip(name)
        started.append(Service(agent))
        twin(hub, name, lambda it: it.model is not None and it.health.inferences > 0, "its first inference")
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            each.close()


@pytest.fixture
def service(agent: Agent, hub: Hub) -> Iterator[Callable[[str], Service]]:
    with services(agent, hub) as start:
        yield start


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree as a bundle that says it is version 9.9.9."""
    made = tmp_path_factory.mktemp("bundle") / "agent.zip"
    subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "build_bundle"), "--version", "9.9.9", str(made)], check=True, timeout=60
    )
    return made


def replaced(bundle: Path, name: str, text: str, out: Path) -> bytes:
    """The same with another file in it."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(out, "w") as new:
        for each in old.namelist():
            new.writestr(each, text if each == name else old.read(each))
    return out.read_bytes()


def desire(hub: Hub, name: str, data: bytes, version: str, release: int) -> int:
    """Ask a device for an agent, and for nothing else."""
    return desire_package(hub, name, PackageKind.AGENT, "edge", data, version, release)


def desire_package(hub: Hub, name: str, kind: PackageKind, package: str, data: bytes, version: str, release: int) -> int:
    """Ask a device for one package, and for nothing else."""
    it = PackageAssignment(kind=kind, name=package, version=version, digest=digest_of(data), size_bytes=len(data))
    word = kind.name.lower()
    path = f"{word}/{TENANT}/{package}/{version}/any"
    target = customised(TargetFile.from_data(path, data, ["sha256"]), kind=word, boards=[], release=release)
    hub.blobs[it.digest] = data
    hub.repository.images.add([target])
    hub.skip(name)
    answers = hub.answers(name)
    answers.generation, answers.release, answers.beside = hub._generation[name], None, (target,)
    twin = DesiredTwin(generation=answers.generation, packages=(it,))
    hub.send(name, topics.DESIRED, codec.encode_desired(twin), retain=True)
    return twin.generation


def twin(hub: Hub, name: str, condition: Callable[[ReportedTwin], object], what: str) -> ReportedTwin:
    hub.wait(lambda: any(condition(it) for it in hub.devices[name].reported[-5:]), what, LONG_S)
    return next(it for it in reversed(hub.devices[name].reported) if condition(it))


def status(it: ReportedTwin, generation: int) -> PackageStatus | None:
    return next((each for each in it.package_updates if each.generation == generation and each.state in FINAL), None)


def test_an_agent_updates_itself_and_goes_on_inferring(
    hub: Hub, agent: Agent, service: Callable[[str], Service], tree: Path
) -> None:
    running = service("self-1")
    generation = desire(hub, "self-1", tree.read_bytes(), "9.9.9", 1)
    it = twin(hub, "self-1", lambda it: status(it, generation), "the end of the update")
    ended = status(it, generation)
    assert ended is not None and ended.state is UpdateState.COMMITTED, ended
    after = twin(
        hub, "self-1", lambda it: it.agent_version == "9.9.9" and it.health.inferences > 0, "an inference of the new agent"
    )
    assert [(each.kind, each.version) for each in after.packages] == [(PackageKind.AGENT, "9.9.9")]
    assert after.model is not None and len(running.ended) == 1, "one new start"
    boots = {each.boot_id for each in hub.devices["self-1"].reported}
    agent.process.kill()  # type: ignore[union-attr]
    again = twin(hub, "self-1", lambda it: it.boot_id not in boots and it.health.inferences > 0, "it to come back")
    assert again.agent_version == "9.9.9", "and it is what is started from now on"


def test_an_agent_that_does_not_start_is_taken_back_by_itself(
    hub: Hub, agent: Agent, service: Callable[[str], Service], tree: Path, tmp_path: Path
) -> None:
    running = service("self-2")
    dead = replaced(tree, "edge_agent/app/cli.py", DIES, tmp_path / "dead.zip")
    generation = desire(hub, "self-2", dead, "6.6.6", 1)
    it = twin(hub, "self-2", lambda it: status(it, generation), "the end of the update")
    ended = status(it, generation)
    assert ended is not None and ended.state is UpdateState.ROLLED_BACK and "in 3 starts" in ended.reason
    assert running.ended[1:] == [3, 3, 3], "three starts of it, and none more"
    back = twin(hub, "self-2", lambda it: status(it, generation) and it.health.inferences > 0, "an inference afterwards")
    assert back.agent_version == version("tideline") and back.packages == ()


def test_an_agent_that_cannot_import_is_refused_without_a_new_start(
    hub: Hub, agent: Agent, service: Callable[[str], Service], tree: Path, tmp_path: Path
) -> None:
    running = service("self-3")
    broken = replaced(tree, "edge_agent/spool/plan.py", "import a_module_that_no_board_has\n", tmp_path / "broken.zip")
    generation = desire(hub, "self-3", broken, "7.7.7", 1)
    it = twin(hub, "self-3", lambda it: status(it, generation), "the end of the update")
    ended = status(it, generation)
    assert ended is not None and ended.state is UpdateState.FAILED and "a_module_that_no_board_has" in ended.reason
    assert running.ended == []
