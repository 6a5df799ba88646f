"""What workers are handed, without a cluster: calls that go nowhere."""

import importlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
files: Any = importlib.import_module("cloud_hub.pipeline.cluster.files")


class Here:
    """An actor that is called in place."""

    def __init__(self, actor: object) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., object] = getattr(self._actor, name)
        return SimpleNamespace(remote=method)


def test_a_worker_does_not_wait_for_files_that_the_job_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ray", SimpleNamespace(get=lambda value: value, put=lambda value: value))
    (tmp_path / "there").write_bytes(b"something")
    pieces = Here(files.Pieces())
    pieces.want.remote()
    files._serve(pieces, {"there": tmp_path / "there", "gone": tmp_path / "gone"}, threading.Event())
    offer = files.Offer(folder="/nowhere", mark="", names=("there", "gone"), pieces=pieces)
    with pytest.raises(OSError, match="cannot hand over its files.*gone"):
        offer.take(tmp_path / "far")
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["there"]


def test_what_a_killed_worker_has_left_goes_with_the_next_and_what_others_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, fresh = tmp_path / "tideline-worker-left", tmp_path / "tideline-worker-fresh"
    with files.room() as used:
        for folder in (left, fresh):
            folder.mkdir()
            (folder / "train-inputs.npy").write_bytes(b"x")
        for folder in (left, used):
            os.utime(folder, (0, 0))
        with files.room() as mine:
            assert set(tmp_path.iterdir()) == {used, fresh, mine}
    assert set(tmp_path.iterdir()) == {fresh}
