"""Which cluster is connected to, without one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def test_a_cluster_of_our_own_is_no_other_and_leaves_its_logs_where_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from cloud_hub.pipeline.cluster import session

    asked: list[dict[str, Any]] = []
    logs = tmp_path / "session"

    def init(**how: Any) -> SimpleNamespace:
        logs.mkdir(exist_ok=True)
        asked.append(how)
        return SimpleNamespace(address_info={"session_dir": str(logs)})

    monkeypatch.setattr(session, "_QUIET", {})
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    for address, kept in (("", False), ("10.0.0.1:6379", True)):
        with session.cluster(address, 3):
            pass
        assert logs.exists() is kept
    assert [how["address"] for how in asked] == ["local", "10.0.0.1:6379"], "not one that somebody else has begun here"
    with pytest.raises(ValueError, match="no luck"), session.cluster("", 3):
        raise ValueError("no luck")
    assert logs.exists()
