"""The running agent, as an update needs it: ``update.surroundings.Runner`` over infer, decide and the perceiver."""

from random import Random

from edge_agent.app.meter import Meter
from edge_agent.app.perceive import Active, Perceiver
from edge_agent.core.budget import Budget
from edge_agent.core.config import AgentConfig
from edge_agent.core.errors import BadModel
from edge_agent.decide.policy import Policy
from edge_agent.infer import canary, runtimes
from edge_agent.infer.classifier import Classifier
from edge_agent.update.probation import Vitals
from edge_agent.update.slots import Slot
from protos.contract import codec
from protos.contract.errors import ContractError
from protos.contract.ids import digest_of
from protos.contract.manifest import Format, Manifest

_RUN_BY = {Format.ONNX: {"onnx"}, Format.TFLITE: {"tflite", "tflite-legacy"}}


class ModelRunner:
    def __init__(self, perceiver: Perceiver, config: AgentConfig, budget: Budget) -> None:
        self._perceiver, self._config, self._budget = perceiver, config, budget

    def unrunnable(self, manifest: Manifest) -> str:
        here = runtimes.available()
        if _RUN_BY[manifest.format] & set(here):
            return ""
        return f"it is {manifest.format.name}, and the runtimes installed are: {', '.join(here) or 'none'}"

    def verify(self, slot: Slot) -> float:
        result = canary.try_model(
            slot.manifest, slot.model, slot.golden, self._config.infer.golden_timeout_s, threads=self._config.infer.threads
        )
        return result.latency_p95_ms

    def activate(self, slot: Slot | None) -> None:
        self._perceiver.swap(self._load(slot) if slot is not None else None)

    def vitals(self) -> Vitals:
        active = self._perceiver.active
        return active.meter.vitals(busy_s=self._perceiver.busy_s()) if active is not None else Vitals()

    def _load(self, slot: Slot) -> Active:
        try:
            data = slot.manifest.read_bytes()
            manifest = codec.decode_manifest(data)
        except (OSError, ContractError) as error:
            raise BadModel(f"slot {slot.name}: {error}") from error
        digest = digest_of(data)
        runtime = runtimes.load_verified(manifest, slot.model, self._config.infer.threads)
        policy = Policy(manifest.classification, self._config.capture, Random(), self._budget, model=digest)
        return Active(digest=digest, classifier=Classifier(manifest, runtime), policy=policy, meter=Meter())
