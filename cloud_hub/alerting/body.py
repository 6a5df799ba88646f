"""A letter as JSON, as webhooks and MQTT subscribers get it: docs/alerts.md."""

import json
from datetime import datetime
from typing import Any

from cloud_hub.core.notices import Letter, Notice

VERSION = 1


def letter_json(letter: Letter) -> bytes:
    values = {
        "version": VERSION,
        "id": letter.id,
        "tenant": letter.tenant,
        "sent_at": _iso(letter.at),
        "alerts": [_plain(notice) for notice in letter.notices],
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()


def notice_json(notice: Notice) -> bytes:
    values = {"version": VERSION, "tenant": notice.alert.tenant, **_plain(notice)}
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()


def _plain(notice: Notice) -> dict[str, Any]:
    alert = notice.alert
    return {
        "notice": notice.id,
        "event": notice.news.value,
        "id": alert.id,
        "rule": alert.rule,
        "source": alert.source,
        "severity": alert.severity.name.lower(),
        "state": alert.state.name.lower(),
        "device": alert.device,
        "key": alert.key,
        "labels": dict(alert.labels),
        "summary": alert.summary,
        "value": alert.value,
        "threshold": alert.threshold,
        "repeats": alert.repeats,
        "fired_at": _iso(alert.fired_at),
        "acknowledged_at": _iso(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "comment": alert.comment,
        "resolved_at": _iso(alert.resolved_at),
        "resolution": alert.resolution,
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
