"""What is told about alerts, and the port it is told through."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.alerts import Alert
from protos.contract.ids import TenantId


class News(StrEnum):
    FIRED = "fired"
    REPEATED = "repeated"  # it still fires and nobody has acknowledged it
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell about one alert, as the alert was then."""

    id: str  # the same however often it is sent
    news: News
    alert: Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Notices of one tenant that go out together, in the order in which they came about."""

    id: str  # of its first notice
    tenant: TenantId
    notices: tuple[Notice, ...]
    at: datetime


class SinkDown(Exception):
    """It could not be told now: try again, after ``retry_after_s`` where the sink says so."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SinkRefused(Exception):
    """This letter will never be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What goes to a sink."""

    sink: str
    min_severity: Severity = Severity.INFO
    tenants: frozenset[str] = frozenset()  # empty: all

    def takes(self, alert: Alert) -> bool:
        return alert.severity >= self.min_severity and self.serves(alert.tenant)

    def serves(self, tenant: TenantId) -> bool:
        return not self.tenants or tenant in self.tenants


class Sink(Protocol):
    """A place where letters go. A letter may come twice: its notices keep their ids. For any thread."""

    @property
    def route(self) -> Route: ...

    def send(self, letter: Letter) -> None:
        """On return the other side has it. Takes seconds at most, whatever the other side does.

        Raises:
            SinkDown: not now.
            SinkRefused: never.
        """
