"""Quality gates of rollouts, as rollouts see them: begin to watch, ask for the verdict, go on in spite of it."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from cloud_hub.core import gates as rules
from cloud_hub.core.gates import NO_GATES, Gate, GateReading, GateVerdict, Outcome, Reading
from cloud_hub.core.model import Rollout
from cloud_hub.core.rollout_plan import Component
from cloud_hub.core.tallies import slot_ms
from cloud_hub.store import gates as store
from cloud_hub.store.database import Tx
from cloud_hub.store.gates import Gated
from protos.contract.ids import TenantId

LEAST_BACK_S = 600  # what devices did before is looked at for as long as a wave soaks, and at least so long
MOST_BACK_S = 7 * 86_400


class GateKeeper:
    """Judging is ``services.gate_judge``'s, every few seconds; this says what came of it, cheaply enough for every report."""

    def watch(self, tx: Tx, tenant: TenantId, rollout: Rollout, now: datetime) -> None:
        """From now on what its devices do is counted; nothing where its plan has no gates."""
        plan = rollout.plan
        if not plan.gates:
            return
        soak_s = max([plan.soak_s, *(wave.soak_s or 0 for wave in plan.waves)])
        store.add(
            tx,
            Gated(
                rollout=rollout.id,
                tenant=tenant,
                model=(rollout.model, rollout.version) if plan.component is Component.MODEL else None,
                gates=rules.plain(plan.gates),
                back_s=min(MOST_BACK_S, max(LEAST_BACK_S, soak_s)),
                slot_ms=slot_ms(soak_s),
                began_at=now,
            ),
        )

    def look(self, tx: Tx, rollout: str, now: datetime) -> GateVerdict:
        """What was judged last; WAIT where it was judged without a device that has committed since."""
        judged = store.verdict(tx, rollout)
        if judged is None or judged.waived:
            return NO_GATES
        gates = rules.parse(judged.gates)
        if judged.outcome is None:
            return rules.waiting(gates, "nothing has been judged yet")
        readings = tuple(_read(gate, told) for gate, told in zip(gates, judged.readings, strict=True))
        verdict = GateVerdict(outcome=Outcome(judged.outcome), readings=readings)
        if verdict.outcome is Outcome.PASS and store.committed(tx, rollout) != judged.committed:
            late = "devices that have committed since are not judged yet"
            readings = tuple(replace(one, outcome=Outcome.WAIT, reason=f"{one.gate}: {late}") for one in readings)
            return GateVerdict(outcome=Outcome.WAIT, readings=readings)
        return verdict

    def waive(self, tx: Tx, rollout: str) -> None:
        """A person has seen a breach and goes on: the gates say nothing any more."""
        store.waive(tx, rollout)


def told(verdict: GateVerdict) -> list[dict[str, Any]]:
    """Readings to be stored; gates stand beside them."""
    return [
        {
            "outcome": one.outcome.value,
            "reason": one.reason,
            "treated": asdict(one.treated) if one.treated else None,
            "compared": asdict(one.compared) if one.compared else None,
        }
        for one in verdict.readings
    ]


def _read(gate: Gate, told: Mapping[str, Any]) -> GateReading:
    return GateReading(
        gate=gate,
        outcome=Outcome(told["outcome"]),
        reason=told["reason"],
        treated=Reading(**told["treated"]) if told["treated"] else None,
        compared=Reading(**told["compared"]) if told["compared"] else None,
    )
