import json
from pathlib import Path

import pytest

from edge_agent.core.errors import ConfigError
from edge_agent.sync import identity as identities
from tests.agent.sync.authority import Authority


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


def test_a_replacement_cut_short_leaves_the_old_identity(tmp_path: Path, authority: Authority) -> None:
    saved = authority.identity(tmp_path, "cam-1", port=8883)
    saved.folder.replace(tmp_path / ".identity.old")  # as after the first of the two renames
    (tmp_path / ".identity.new").mkdir()
    assert identities.exists(tmp_path)
    assert identities.load(tmp_path) == saved
    again = authority.identity(tmp_path, "cam-1", port=8884)
    assert identities.load(tmp_path) == again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity"]
