from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.agent.sync.broker import installed
from tests.conformance.agent import Agent
from tests.conformance.hub import Hub


@dataclass
class Results:
    """What the attacks came to, as lines of a table."""

    lines: list[str] = field(default_factory=list)

    def add(self, attack: str, how: str, said: str, inferences: int | None) -> None:
        """``inferences``: made meanwhile; None where only the component that decides was run."""
        went_on = "(component)" if inferences is None else f"yes, {inferences}"
        self.lines.append(f"| {attack} | {how} | {said.replace('|', '/')[:160]} | {went_on} | yes |")


TABLE = pytest.StashKey[Results]()
HEAD = (
    "| attack | how it was made | what the agent said | inference went on | honest release afterwards |\n|---|---|---|---|---|"
)


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Results:
    return pytestconfig.stash.setdefault(TABLE, Results())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    made = terminalreporter.config.stash.get(TABLE, None)
    if made is not None and terminalreporter.hasopt("P"):  # -rA, -rP
        terminalreporter.section("attacks")
        terminalreporter.write_line("\n".join((HEAD, *made.lines)))


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for all tests: each has a device of its own."""
    if not installed():
        pytest.skip("no mosquitto binary on PATH")
    made = Hub(tmp_path_factory.mktemp("hub"))
    yield made
    made.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Not started, not enrolled, without a model."""
    made = Agent(tmp_path / "agent")
    yield made
    made.close()
