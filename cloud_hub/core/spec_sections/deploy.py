"""What happens to a published version."""

from dataclasses import dataclass, field

from cloud_hub.core import rollout_plan
from cloud_hub.core.checks import choice, require
from cloud_hub.core.gates import MAX_GATES, Gate
from cloud_hub.core.rollout_plan import MAX_DEVICES, MAX_SOAK_S, OnBreach, RolloutPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySpec:
    """The rollout a published version starts by itself."""

    auto: bool = False
    selector: dict[str, str] = field(default_factory=dict)  # labels a device must have; empty: every device
    canary: int = 1  # devices in the first wave; 0: one wave
    soak_s: int = 60  # quiet time after the last commit of a wave
    max_failures: int = 0  # devices that may fail before everyone is sent back
    gates: tuple[Gate, ...] = ()  # what the field must show of it, as in a rollout's plan; the job's gate knows no field
    on_breach: str = OnBreach.ROLLBACK_ALL.value

    def __post_init__(self) -> None:
        # as a plan's, which is made of them only once the training is over
        for name, most in (("canary", MAX_DEVICES), ("soak_s", MAX_SOAK_S), ("max_failures", MAX_DEVICES)):
            value = getattr(self, name)
            require(0 <= value <= most, f"deploy.{name}", f"must be in 0..{most}, got {value}")
        require(len(set(self.gates)) == len(self.gates) <= MAX_GATES, "deploy.gates", f"must be at most {MAX_GATES}, each once")
        choice("deploy.on_breach", self.on_breach, tuple(OnBreach))

    def plan(self, model: str, version: int) -> RolloutPlan:
        """Raises Invalid."""
        return rollout_plan.of_model(
            model,
            version,
            self.selector,
            canary=self.canary,
            soak_s=self.soak_s,
            max_failures=self.max_failures,
            gates=self.gates,
            on_breach=OnBreach(self.on_breach),
        )
