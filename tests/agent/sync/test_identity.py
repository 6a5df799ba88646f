import errno
import json
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.core.errors import ConfigError
from edge_agent.sync import identity as identities
from edge_agent.sync.identity import Identity, Receipt
from tests.agent.sync.authority import Authority

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_what_was_saved_is_loaded_with_private_files(tmp_path: Path, authority: Authority) -> None:
    saved = authority.identity(tmp_path, "cam-1", port=8883)
    assert identities.load(tmp_path) == saved
    assert saved.key_path.stat().st_mode & 0o777 == 0o600
    assert saved.folder.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(saved)


def test_a_device_without_identity_is_told_how_to_enrol(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edge-agent enroll"):
        identities.load(tmp_path)
    assert not identities.exists(tmp_path)


@pytest.mark.parametrize("name", ["key.pem", "cert.pem", "ca.pem", "hub.json"])
def test_a_missing_file_is_named(tmp_path: Path, authority: Authority, name: str) -> None:
    (authority.identity(tmp_path, "cam-1", port=8883).folder / name).unlink()
    with pytest.raises(ConfigError, match="enroll"):
        identities.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device_id", "CAM 1"), ("tenant", "#"), ("broker", {"host": "h", "port": 0}), ("broker", {"host": "h"}),
        ("broker", {"host": "h", "port": 1, "protocol": 3}), ("broker", None), ("device_id", 7),
    ],
)  # fmt: skip
def test_nonsense_in_hub_json_is_a_config_error(tmp_path: Path, authority: Authority, key: str, value: object) -> None:
    path = authority.identity(tmp_path, "cam-1", port=8883).folder / "hub.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ConfigError, match=r"hub\.json"):
        identities.load(tmp_path)


def test_no_json_is_a_config_error(tmp_path: Path, authority: Authority) -> None:
    path = authority.identity(tmp_path, "cam-1", port=8883).folder / "hub.json"
    for content in (b"{", b"[]", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"hub\.json"):
            identities.load(tmp_path)


def test_a_folder_that_is_no_link_is_said_so_and_can_be_enrolled_over(tmp_path: Path, authority: Authority) -> None:
    saved = authority.identity(tmp_path, "cam-1", port=8883)
    copy = tmp_path / "copy"
    shutil.copytree(saved.folder, copy)  # follows the link
    saved.folder.unlink()
    copy.replace(saved.folder)
    with pytest.raises(ConfigError, match="must be a link"):
        identities.load(tmp_path)
    again = authority.identity(tmp_path, "cam-1", port=8884)
    assert identities.load(tmp_path) == again


def test_what_was_replaced_is_kept_if_asked_for_and_all_else_is_removed(tmp_path: Path, authority: Authority) -> None:
    saved = authority.identity(tmp_path, "cam-1", port=8883)
    first = saved.credential()
    before = saved.version()
    replace_identity(saved, authority, Receipt(before=before, at=NOW, answers=NOW))
    assert saved.previous() == first and saved.credential() != first
    assert saved.receipt() == Receipt(before=before, at=NOW, answers=NOW)
    assert saved.tls() and saved.tls(previous=True)
    replace_identity(saved, authority, Receipt())
    assert saved.previous() is None
    assert len(list((tmp_path / "identities").iterdir())) == 1
    assert saved.tls(previous=True), "there is none: the newest does"


def test_a_full_disk_leaves_what_was_there_and_gets_no_fuller_by_trying(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = authority.identity(tmp_path, "cam-1", port=8883)
    before = saved.credential()
    write = identities.write_atomic

    def full(path: Path, data: bytes, *, mode: int) -> None:
        if path.name == "ca.pem":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, mode=mode)

    monkeypatch.setattr(identities, "write_atomic", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            replace_identity(saved, authority, Receipt())
    assert saved.credential() == before
    assert [folder.name for folder in (tmp_path / "identities").iterdir()] == [saved.version()]


def test_what_is_read_while_it_is_replaced_belongs_together(tmp_path: Path, authority: Authority) -> None:
    saved = authority.identity(tmp_path, "cam-1", port=8883)
    done = threading.Event()

    def replace_often() -> None:
        for _ in range(60):
            replace_identity(saved, authority, Receipt(before=saved.version()))
        done.set()

    thread = threading.Thread(target=replace_often)
    thread.start()
    try:
        while not done.is_set():
            saved.tls()  # raises where key and certificate are of two versions
    finally:
        thread.join()


def test_a_damaged_receipt_is_as_good_as_none(tmp_path: Path, authority: Authority) -> None:
    saved = authority.identity(tmp_path, "cam-1", port=8883)
    for content in (
        b"{",
        b"[]",
        b'{"at_ms": "x", "answers_ms": 0, "before": ""}',
        b'{"at_ms": -5, "answers_ms": 0, "before": ""}',
    ):
        (saved.folder / "receipt.json").write_bytes(content)
        assert saved.receipt() == Receipt()


def replace_identity(identity: Identity, authority: Authority, receipt: Receipt) -> None:
    key, certificate = authority.issue(identity.device_id)
    identities.save(identity, key_pem=key, certificate_pem=certificate, ca_pem=authority.pem, receipt=receipt)
