"""Alerts as lines of the hub's own log."""

import logging
from collections.abc import Mapping

from cloud_hub.core.alert_rules import Severity
from cloud_hub.core.notices import Letter, News, Route

log = logging.getLogger(__name__)

NAME = "log"

_LEVELS: Mapping[Severity, int] = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.CRITICAL: logging.ERROR,
}


class LogSink:
    """Never down."""

    route = Route(sink=NAME)

    def send(self, letter: Letter) -> None:
        for notice in letter.notices:
            alert = notice.alert
            level = logging.INFO if notice.news in (News.RESOLVED, News.ACKNOWLEDGED) else _LEVELS[alert.severity]
            fields = {
                "event": notice.news.value,
                "alert": alert.id,
                "tenant": alert.tenant,
                "rule": alert.rule,
                "device": alert.device,
                "severity": alert.severity.name.lower(),
                "summary": alert.summary,
            }
            log.log(level, "alert", extra=fields)
