"""What happens to a published version."""

from dataclasses import dataclass, field

from cloud_hub.core.checks import require


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySpec:
    """The rollout a published version starts by itself."""

    auto: bool = False
    selector: dict[str, str] = field(default_factory=dict)  # labels a device must have; empty: every device
    canary: int = 1  # devices in the first wave; 0: one wave
    soak_s: int = 60  # quiet time after the last commit of a wave
    max_failures: int = 0  # devices that may fail before everyone is sent back

    def __post_init__(self) -> None:
        for name in ("canary", "soak_s", "max_failures"):
            require(getattr(self, name) >= 0, f"deploy.{name}", f"must not be negative, got {getattr(self, name)}")
