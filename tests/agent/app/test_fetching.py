from pathlib import Path
from typing import Any

import pytest

from edge_agent.app import fetching
from edge_agent.app.fetching import Fetchers
from edge_agent.core.config import UpdateConfig


class Noted:
    """In a fetcher's place: what it was made with."""

    def __init__(self, connect: object, **made_with: Any) -> None:
        self.made_with, self.owed_bytes = made_with, 0

    def room(self, folder: Path) -> int:
        return int(self.made_with["free_bytes"](folder))


def test_what_one_is_promised_is_not_promised_to_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetching, "Fetcher", Noted)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    fetchers = Fetchers(lambda: None, UpdateConfig())  # type: ignore[arg-type, return-value]
    model: Any = fetchers.new(lambda manifest: "")
    challenger: Any = fetchers.new(lambda manifest: "", kept_bytes=lambda: 100)
    assert (model.room(tmp_path), challenger.room(tmp_path)) == (1000, 900)
    model.owed_bytes, challenger.owed_bytes = 300, 40
    assert (model.room(tmp_path), challenger.room(tmp_path)) == (960, 600)
    assert model.made_with["decoding"] is challenger.made_with["decoding"]  # one delta in memory at a time
