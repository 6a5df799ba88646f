"""What can be replaced here besides models: the agent, where a launcher started it, and the image, where RAUC is."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.app.perceive import Perceiver
from edge_agent.core import launch
from edge_agent.core.clock import Clock
from edge_agent.core.config import AgentConfig
from edge_agent.update import overlay as overlays
from edge_agent.update.components.absent import AbsentInstaller
from edge_agent.update.components.bundle import BundleInstaller, Checked
from edge_agent.update.components.firmware import FirmwareInstaller
from edge_agent.update.components.rauc_cli import Rauc
from edge_agent.update.components.trial import Trial
from edge_agent.update.fetch import Fetcher
from edge_agent.update.installer import Installer
from edge_agent.update.record import Component, Effect
from edge_agent.update.shelf import Shelf
from protos.contract.twin import PackageKind

_STILL_S = 30.0  # without an inference: nothing is seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the composition root gives."""

    config: AgentConfig
    config_path: Path | None  # agent.yaml
    clock: Clock
    perceiver: Perceiver
    connected: Callable[[], bool]  # the broker is reached now
    again: Callable[[Effect], None]
    fetcher: Callable[[], Fetcher]  # one for each component: each is cut by itself
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)


def trial(means: Means) -> Trial:
    """Of whatever comes with a new start."""
    began = means.clock.monotonic()
    return Trial(
        idle=lambda: _idle(means.perceiver, means.clock),
        connected=means.connected,
        config=means.config.update,
        note=means.config.data_dir / "trial-before",
        known=lambda: means.clock.monotonic() - began > _STILL_S,
    )


def installers(means: Means) -> list[Installer]:
    return [_agent(means, trial(means)), _firmware(means, trial(means))]


def _agent(means: Means, trial: Trial) -> Installer:
    started = launch.started(means.env)
    if started is None:
        return AbsentInstaller(Component.AGENT, "the agent was not started by edge-agent-launcher: no other can take its place")
    checked = Checked(arguments=lambda: _configuration(means))
    return BundleInstaller(Path(means.env[launch.ENV_APP]), means.fetcher(), trial, checked, started=started)


def _configuration(means: Means) -> list[str]:
    """Of this device, and what the hub has laid over it, for ``edge_agent.app.check``."""
    words = ["--config", str(means.config_path.absolute())] if means.config_path is not None else []
    overlay = Shelf(means.config.data_dir / overlays.FOLDER, PackageKind.CONFIG).current()
    return [*words, "--overlay", str(overlay.file)] if overlay is not None else words


def _firmware(means: Means, trial: Trial) -> Installer:
    update = means.config.update
    if update.rauc is None:
        return AbsentInstaller(Component.FIRMWARE, "this board has no RAUC ('update.rauc'): its image cannot be replaced")
    return FirmwareInstaller(
        means.config.data_dir / "firmware",
        means.fetcher(),
        trial,
        Rauc(update.rauc),
        settle_s=update.settle_s,
        monotonic=means.clock.monotonic,
        again=means.again,
    )


def _idle(perceiver: Perceiver, clock: Clock) -> str:
    """What this device does not do; empty: it infers."""
    if not perceiver.equipped.is_set():
        return "no model runs"
    return "nothing is inferred" if clock.monotonic() - perceiver.inferred_at > _STILL_S else ""
