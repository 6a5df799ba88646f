"""How a rollout goes about it, as values. As YAML that a user writes: ``rollout_spec``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cloud_hub.core.errors import Invalid
from cloud_hub.core.gates import Gate
from cloud_hub.core.labels import checked_selector
from protos.contract import ids
from protos.contract.errors import ContractError
from protos.contract.manifest import MAX_VERSION
from protos.contract.twin import MAX_WINDOWS, MaintenanceWindow, PackageKind

MAX_WAVES = 64
MAX_SOAK_S = 30 * 24 * 3600
MAX_DEADLINE_S = 90 * 24 * 3600
MAX_DEVICES = 1_000_000
MAX_RATE = 100_000  # devices per minute: more than one hub dispatches


class Component(StrEnum):
    """What of a device can be replaced, each on its own."""

    MODEL = "model"
    CONFIG = "config"
    AGENT = "agent"
    FIRMWARE = "firmware"

    @property
    def kind(self) -> PackageKind:
        """Of its packages. Raises KeyError for MODEL, which has none."""
        return PackageKind[self.name]


class OnBreach(StrEnum):
    """What a rollout does by itself when it goes wrong."""

    PAUSE = "pause"  # ask nobody else until a person resumes it
    ABORT = "abort"  # end; devices keep what they run, updates on the way are called off
    ROLLBACK_WAVE = "rollback_wave"  # end; the devices of the wave that went wrong go back
    ROLLBACK_ALL = "rollback_all"  # end; every device it touched goes back


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Which devices go together: one of ``count``, ``percent`` and ``selector``, or what is left."""

    count: int | None = None
    percent: float | None = None  # of the devices that matched when the rollout started, rounded up
    selector: dict[str, str] | None = None  # besides the rollout's own
    approval: bool = False  # a person lets it begin
    soak_s: int | None = None  # None: as the plan says

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.count, self.percent, self.selector)) > 1:
            raise Invalid("a wave is given by count, percent or selector: only one of them")
        if self.count is not None:
            _within("waves: count", self.count, 1, MAX_DEVICES)
        if self.percent is not None:
            _within("waves: percent", self.percent, 0.001, 100)
        if self.selector is not None:
            checked_selector(self.selector)
        if self.soak_s is not None:
            _within("waves: soak_s", self.soak_s, 0, MAX_SOAK_S)

    @property
    def rest(self) -> bool:
        return self.count is None and self.percent is None and self.selector is None

    @property
    def title(self) -> str:
        if self.count is not None:
            return f"{self.count} device{'s' if self.count > 1 else ''}"
        if self.percent is not None:
            return f"{self.percent:g} %"
        return " ".join(f"{key}={value}" for key, value in self.selector.items()) if self.selector else "the rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """When a wave is through."""

    share: float | None = None  # 0..1 of its devices that must commit; None: each must have ended, one way or another
    deadline_s: int = 0  # after the last device was asked, whoever has not answered is no longer waited for; 0: never

    def __post_init__(self) -> None:
        if self.share is not None:
            _within("success.share", self.share, 0.01, 1)
        _within("success.deadline_s", self.deadline_s, 0, MAX_DEADLINE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """When too many have refused it or gone back, over all waves."""

    count: int | None = None  # more than so many; None: 0, or no limit where ``share`` is given
    share: float | None = None  # 0..1; more than this share of those that have ended
    min_executed: int = 1  # before so many have ended, a share says nothing

    def __post_init__(self) -> None:
        if self.count is not None:
            _within("failure.count", self.count, 0, MAX_DEVICES)
        if self.share is not None:
            _within("failure.share", self.share, 0, 1)
        _within("failure.min_executed", self.min_executed, 1, MAX_DEVICES)

    @property
    def most(self) -> int | None:
        """Failures that are tolerated; None: any number."""
        return 0 if self.count is None and self.share is None else self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """Valid by construction: raises Invalid naming the key."""

    component: Component
    name: str  # of the model or the package
    version: str  # digits, or an alias, of a model
    selector: dict[str, str] = field(default_factory=dict)  # empty: every device
    waves: tuple[Wave, ...] = field(default_factory=lambda: (Wave(),))  # whom they leave out follows in one more wave
    rate_per_minute: int = 0  # devices asked in any minute; 0: as fast as it goes
    start: datetime | None = None  # None: at once, unless ``manual``
    manual: bool = False  # a person starts it
    not_before: datetime | None = None  # devices download before this, and install after it
    windows: tuple[MaintenanceWindow, ...] = ()  # in which devices install; none: at any time
    soak_s: int = 60  # how long a wave must stay healthy before the next
    success: Success = field(default_factory=Success)
    failure: Failure = field(default_factory=Failure)
    gates: tuple[Gate, ...] = ()
    on_breach: OnBreach = OnBreach.ROLLBACK_ALL
    keep_open: bool = False  # once it has succeeded, whoever comes to match is asked too, until a newer rollout names it

    def __post_init__(self) -> None:
        _check_what(self.component, self.name, self.version)
        checked_selector(self.selector)
        if not 1 <= len(self.waves) <= MAX_WAVES:
            raise Invalid(f"rollout plan: 'waves' must be 1..{MAX_WAVES}, got {len(self.waves)}")
        if any(wave.rest for wave in self.waves[:-1]):
            raise Invalid("rollout plan: 'waves': only the last wave can take what is left")
        _within("rate_per_minute", self.rate_per_minute, 0, MAX_RATE)
        _within("soak_s", self.soak_s, 0, MAX_SOAK_S)
        if self.manual and self.start is not None:
            raise Invalid("rollout plan: 'start' is a time or 'manual', not both")
        if len(self.windows) > MAX_WINDOWS:
            raise Invalid(f"rollout plan: 'windows' are {len(self.windows)}, more than {MAX_WINDOWS}")

    @property
    def what(self) -> str:
        """As people write it: ``signs:7``, ``config lobby 1.2``."""
        return (
            f"{self.name}:{self.version}"
            if self.component is Component.MODEL
            else f"{self.component} {self.name} {self.version}"
        )

    def soak_of(self, wave: int) -> int:
        """Seconds."""
        own = self.waves[wave].soak_s
        return self.soak_s if own is None else own


def of_model(
    name: str,
    version: int,
    selector: Mapping[str, str],
    *,
    canary: int = 0,
    soak_s: int = 0,
    max_failures: int = 0,
    gates: tuple[Gate, ...] = (),
    on_breach: OnBreach = OnBreach.ROLLBACK_ALL,
) -> RolloutPlan:
    """The short form: ``canary`` devices, then the rest (0: all at once). Raises Invalid."""
    _within("canary", canary, 0, MAX_DEVICES)
    _within("max_failures", max_failures, 0, MAX_DEVICES)
    return RolloutPlan(
        component=Component.MODEL,
        name=name,
        version=str(version),
        selector=dict(selector),
        waves=(Wave(count=canary), Wave()) if canary else (Wave(),),
        soak_s=soak_s,
        failure=Failure(count=max_failures),
        gates=gates,
        on_breach=on_breach,
    )


def _check_what(component: Component, name: str, version: str) -> None:
    try:
        ids.model_name(name)
        if component is not Component.MODEL:
            ids.package_version(version)
    except ContractError as error:
        raise Invalid(f"rollout plan: {error}") from error
    if not version:
        raise Invalid("rollout plan: 'version' is missing")
    if component is Component.MODEL and version.isascii() and version.isdigit() and not 1 <= int(version[:11]) <= MAX_VERSION:
        raise Invalid(f"rollout plan: 'version' must be in 1..{MAX_VERSION}, got {version[:64]}")


def _within(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # NaN neither
        raise Invalid(f"rollout plan: '{key}' must be in {least:g}..{most:g}, got {value:g}")
