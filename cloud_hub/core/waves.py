"""Which devices go in which wave, and when a rollout goes on, ends or stops: rules only, no clock and no store of their own."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from cloud_hub.core.rollout_plan import RolloutPlan, Success
from protos.contract.ids import DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveStanding:
    """How one wave stands, in devices."""

    waiting: int = 0  # not asked yet
    pending: int = 0  # asked, and on the way
    committed: int = 0
    failed: int = 0  # refused it, or went back
    superseded: int = 0  # another rollout took them over: they are nobody's concern here
    started_at: datetime | None = None
    asked_at: datetime | None = None  # when the last of its devices had been asked
    soaking_since: datetime | None = None  # when it was through, and its soak time began
    approved_by: str = ""

    @property
    def devices(self) -> int:
        return self.waiting + self.pending + self.committed + self.failed


class Step(Enum):
    WAIT = auto()
    SOAK = auto()  # the wave is through, and must stay healthy for a while
    NEXT = auto()  # the wave passed
    SUCCEED = auto()  # the last wave passed
    BREACH = auto()
    EMPTY = auto()  # no device is left to take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    step: Step
    reason: str = ""


_WAIT = Verdict(step=Step.WAIT)
_NOISE = 1e-9  # of a share times a number of devices: 0.29 * 100 is 28.999999999999996


def judge(plan: RolloutPlan, waves: Sequence[WaveStanding], wave: int, now: datetime, *, forgiven: int = 0) -> Verdict:
    """Failures count over all waves, less those that a person forgave; a wave is through as ``plan.success`` says, and passes
    when it has soaked. However many failures are tolerated, a version that nobody took goes nowhere.
    """
    current = waves[wave]
    failed, committed = sum(one.failed for one in waves), sum(one.committed for one in waves)
    if reason := too_many(plan, waves, forgiven=forgiven):
        return Verdict(step=Step.BREACH, reason=reason)
    if current.waiting:
        return _WAIT
    if not current.pending and failed > forgiven and not committed:
        return Verdict(step=Step.BREACH, reason=f"none of the {failed} devices tried took it")
    if reason := _out_of_reach(plan.success, current, forgiven) or _too_late(plan.success, current, now, forgiven):
        return Verdict(step=Step.BREACH, reason=reason)
    if not _through(plan.success, current, forgiven):
        return _WAIT
    soak = timedelta(seconds=plan.soak_of(wave))
    if current.committed and (current.soaking_since is None or now < current.soaking_since + soak) and soak:
        return Verdict(step=Step.SOAK)
    if wave + 1 < len(waves):
        return Verdict(step=Step.NEXT)
    return Verdict(step=Step.SUCCEED) if committed else Verdict(step=Step.EMPTY, reason="no device is left to take it")


def too_many(plan: RolloutPlan, waves: Sequence[WaveStanding], *, forgiven: int = 0) -> str:
    """Why the failures of all waves are more than the plan tolerates; empty: they are not."""
    failure, failed = plan.failure, sum(one.failed for one in waves)
    fresh, executed = failed - forgiven, failed + sum(one.committed for one in waves)
    if failure.most is not None and fresh > failure.most:
        return f"{fresh} device{'s' if fresh > 1 else ''} failed, more than {failure.most}"
    if failure.share is not None and executed >= failure.min_executed and fresh > failure.share * executed + _NOISE:
        return f"{fresh} of {executed} devices failed, more than {100 * failure.share:g} %"
    return ""


def share_out(plan: RolloutPlan, devices: Sequence[DeviceId], chosen: Sequence[Collection[DeviceId]]) -> list[list[DeviceId]]:
    """The devices of each wave, each in the first that takes it, those in front of ``devices`` first.

    ``chosen``: by wave, which of ``devices`` match its selector; empty where it has none.
    """
    left = dict.fromkeys(devices)
    shares = []
    for wave, matching in zip(plan.waves, chosen, strict=True):
        if wave.selector is not None:
            share = [device for device in left if device in matching]
        elif wave.rest:
            share = list(left)
        else:
            size = wave.count if wave.count is not None else _up((wave.percent or 0) * len(devices) / 100)
            share = list(left)[:size]
        for device in share:
            del left[device]
        shares.append(share)
    return shares


def _up(devices: float) -> int:
    """To whole ones."""
    return math.ceil(devices - _NOISE)


def _needed(success: Success, wave: WaveStanding, forgiven: int) -> int:
    """Devices that must commit where a share is asked for."""
    counted = wave.devices - min(forgiven, wave.failed)
    return _up((success.share or 0) * counted)


def _through(success: Success, wave: WaveStanding, forgiven: int) -> bool:
    """Nobody is waiting to be asked."""
    if success.share is None:
        return not wave.pending
    return wave.committed >= _needed(success, wave, forgiven)


def _out_of_reach(success: Success, wave: WaveStanding, forgiven: int) -> str:
    if success.share is None or wave.committed + wave.pending >= _needed(success, wave, forgiven):
        return ""
    return f"{wave.failed} of {wave.devices} devices of the wave failed: {100 * success.share:g} % can no longer take it"


def _too_late(success: Success, wave: WaveStanding, now: datetime, forgiven: int) -> str:
    """Whoever is still on the way when the deadline is over, unless enough have taken it."""
    if not success.deadline_s or not wave.pending or wave.asked_at is None:
        return ""
    if now < wave.asked_at + timedelta(seconds=success.deadline_s) or _through(success, wave, forgiven):
        return ""
    return f"{wave.pending} of {wave.devices} devices of the wave have not answered within {success.deadline_s} s"
