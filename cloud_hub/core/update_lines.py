"""Lines of updates: what a desired and a reported twin say about one component, and how it is asked for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from cloud_hub.core.rollout_plan import Component
from protos.contract.twin import (
    DesiredTwin,
    MaintenanceWindow,
    ModelAssignment,
    PackageAssignment,
    PackageKind,
    ReportedTwin,
)
from protos.contract.update import FINAL, UpdateState

Assignment = ModelAssignment | PackageAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """When what a device is asked for may become active."""

    windows: tuple[MaintenanceWindow, ...] = ()
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """How the newest update of a line goes."""

    generation: int
    state: UpdateState
    what: Assignment
    reason: str


class Line(Protocol):
    """One component of a device, on the wire."""

    def wanted(self, desired: DesiredTwin) -> Assignment | None:
        """None: to keep what it has."""

    def follows(self, desired: DesiredTwin) -> str:
        """The rollout it was asked by; empty: none."""

    def has(self, reported: ReportedTwin) -> Assignment | None:
        """What it runs; None: nothing, or it does not say."""

    def news(self, reported: ReportedTwin) -> News | None: ...

    def asking(self, desired: DesiredTwin, what: Assignment | None, rollout: str) -> DesiredTwin:
        """The same twin with this component asked for, and nothing else changed: not its generation either."""


@dataclass(frozen=True, slots=True)
class ModelLine:
    def wanted(self, desired: DesiredTwin) -> Assignment | None:
        return desired.model

    def follows(self, desired: DesiredTwin) -> str:
        return desired.rollout_id

    def has(self, reported: ReportedTwin) -> Assignment | None:
        return reported.model

    def news(self, reported: ReportedTwin) -> News | None:
        update = reported.update
        if update is None:
            return None
        return News(generation=update.generation, state=update.state, what=update.model, reason=update.reason)

    def asking(self, desired: DesiredTwin, what: Assignment | None, rollout: str) -> DesiredTwin:
        assert not isinstance(what, PackageAssignment)
        return replace(desired, model=what, rollout_id=rollout)


@dataclass(frozen=True, slots=True)
class PackageLine:
    kind: PackageKind

    def wanted(self, desired: DesiredTwin) -> Assignment | None:
        return _of_kind(desired.packages, self.kind)

    def follows(self, desired: DesiredTwin) -> str:
        package = _of_kind(desired.packages, self.kind)
        return package.rollout_id if package is not None else ""

    def has(self, reported: ReportedTwin) -> Assignment | None:
        return _of_kind(reported.packages, self.kind)

    def news(self, reported: ReportedTwin) -> News | None:
        update = next((one for one in reported.package_updates if one.package.kind is self.kind), None)
        if update is None:
            return None
        return News(generation=update.generation, state=update.state, what=update.package, reason=update.reason)

    def asking(self, desired: DesiredTwin, what: Assignment | None, rollout: str) -> DesiredTwin:
        assert not isinstance(what, ModelAssignment)
        others = [one for one in desired.packages if one.kind is not self.kind]
        own = [replace(what, rollout_id=rollout)] if what is not None else []
        return replace(desired, packages=tuple(sorted([*others, *own], key=lambda one: one.kind)))


_MODEL = ModelLine()
_PACKAGES = {kind: PackageLine(kind) for kind in PackageKind}


def line_of(component: Component) -> Line:
    return _MODEL if component is Component.MODEL else _PACKAGES[component.kind]


def progress(line: Line, asked: DesiredTwin, since: int, reported: ReportedTwin) -> tuple[UpdateState | None, str]:
    """What a report says about what a device was asked for in generation ``since``; None: nothing.

    A device is asked for other components meanwhile: generations grow, and an update keeps its number until the device has seen
    the newest. So an update counts by what it is for, and that it is not older than ``since``.
    """
    wanted, has, news = line.wanted(asked), line.has(reported), line.news(reported)
    if wanted is None:
        return None, ""
    runs_it = has is not None and same(has, wanted)
    if news is not None and news.generation >= since and same(news.what, wanted):
        if news.state is UpdateState.COMMITTED and not runs_it:
            return None, ""  # the two parts of a report contradict each other: wait for one that does not
        return news.state, news.reason
    if reported.generation >= since and runs_it:
        return UpdateState.COMMITTED, ""  # it ran it already and had nothing to update
    return None, ""


def may_follow(state: UpdateState | None, following: UpdateState) -> bool:
    if state in FINAL:  # a report that came late; but what was committed may still be taken back
        return state is UpdateState.COMMITTED and following is UpdateState.ROLLED_BACK
    return True


def settled(line: Line, reported: ReportedTwin | None) -> Assignment | None:
    """What a device has, unless that is on trial itself."""
    has = line.has(reported) if reported is not None else None
    if reported is None or has is None:
        return None
    news = line.news(reported)
    on_trial = news is not None and news.state is UpdateState.TRIAL and same(news.what, has)
    return None if on_trial else has


def same(one: Assignment, other: Assignment) -> bool:
    """The same version of the same thing, whichever file of it."""
    return (type(one), one.name, one.version) == (type(other), other.name, other.version)


def timed(twin: DesiredTwin, when: When, *, others_wait: bool) -> DesiredTwin:
    """A device has one set of windows for all that it is asked for: those of whoever asked last. Who has none takes none away
    while something else is on the way under them.
    """
    if others_wait and not when.windows and when.not_before is None:
        return twin
    return replace(twin, windows=when.windows, not_before=when.not_before)


def _of_kind(packages: Sequence[PackageAssignment], kind: PackageKind) -> PackageAssignment | None:
    return next((one for one in packages if one.kind is kind), None)
