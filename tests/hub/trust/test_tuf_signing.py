"""What is signed, as bytes: it is what TUF's own library reads and signs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import CanonicalJSONSerializer

from cloud_hub.core.errors import Invalid, NotReady
from cloud_hub.core.targets import BIN_PREFIX, IMAGE, Target, TargetKind, bin_of
from cloud_hub.trust.tuf import director, image
from cloud_hub.trust.tuf.image import BIN_ROLES, Signers, Work
from cloud_hub.trust.tuf.keys import OnlineKeys
from cloud_hub.trust.tuf.signing import LIFE, File, canonical
from protos.contract.ids import DeviceId, TenantId
from tests.hub.trust_parts import root_key

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
SIGNERS = Signers(timestamp=root_key(), snapshot=root_key(), targets=root_key(), bins=root_key())
NONCE = bytes(range(16))


def target(number: int, **fields: object) -> Target:
    values = {
        "path": f"models/default/m{number}/1/onnx-int8/model.onnx",
        "tenant": TenantId("default"),
        "kind": TargetKind.MODEL,
        "name": f"m{number}",
        "version": "1",
        "variant": "onnx-int8",
        "length": number,
        "sha256": f"{number:064x}",
        "boards": ("camera-x86",),
        "release": 1,
    }
    return Target(**{**values, **fields})  # type: ignore[arg-type]


def first_files() -> dict[str, File]:
    work = Work(bins={role: () for role in BIN_ROLES}, targets=True, snapshot=True)
    return {file.role: file for file in image.renewed({}, work, b"", SIGNERS, NOW)}


@pytest.mark.parametrize("path", ["a", "models/default/signs/1/onnx-int8/manifest.pb", "firmware/t/b/n/1.0", "é"])
def test_bins_are_those_of_tufs_own_library(path: str) -> None:
    assert bin_of(path) == SuccinctRoles([], 1, 8, BIN_PREFIX).get_role_for_target(path)
    assert set(BIN_ROLES) == set(SuccinctRoles([], 1, 8, BIN_PREFIX).get_roles())


@pytest.mark.parametrize("path", ["plain", 'quo"te', "back\\slash", "line\nbreak", "é ü 漢", "\x7f", "\u2028", "tab\t"])
def test_the_fast_canonical_form_is_the_canonical_form(path: str) -> None:
    signed = Targets(1, None, NOW, {path: TargetFile(1, {"sha256": "0"}, path, {"custom": {"z": [], "a": path}})})
    assert canonical(signed) == CanonicalJSONSerializer().serialize(signed)


def test_every_file_is_signed_by_its_role_and_says_when_it_ends() -> None:
    files = first_files()
    assert set(files) == {"timestamp", "snapshot", "targets", *BIN_ROLES}
    for role, file in files.items():
        kind = "bins" if role in BIN_ROLES else role
        metadata: Metadata[Targets] = Metadata.from_bytes(file.data)
        getattr(SIGNERS, kind).public_key.verify_signature(next(iter(metadata.signatures.values())), metadata.signed_bytes)
        assert (metadata.signed.version, metadata.signed.expires) == (1, file.expires_at)
        assert file.expires_at == NOW.replace(microsecond=0) + LIFE[kind]
        assert NOW + 0.37 * LIFE[kind] < file.resign_at < NOW + 0.63 * LIFE[kind], "at half of its life, more or less"


def test_bins_of_one_age_are_not_all_due_at_once() -> None:
    due: dict[datetime, int] = {}
    for file in first_files().values():
        if file.role in BIN_ROLES:
            due[file.resign_at] = due.get(file.resign_at, 0) + 1
    assert len(due) == 32 and max(due.values()) == 8


def test_one_more_target_rewrites_its_bin_the_snapshot_and_the_timestamp() -> None:
    versions = {role: 1 for role in first_files()}
    one = target(7)
    files = image.renewed(versions, Work(bins={one.bin: [one]}), b"", SIGNERS, NOW)
    assert [(file.role, file.version) for file in files] == [(one.bin, 2), ("snapshot", 2), ("timestamp", 2)]
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(files[1].data)
    assert {name: meta.version for name, meta in snapshot.signed.meta.items()} == {
        **{f"{role}.json": 1 for role in ("targets", *BIN_ROLES)},
        f"{one.bin}.json": 2,
    }
    timestamp: Metadata[Timestamp] = Metadata.from_bytes(files[2].data)
    timestamp.signed.snapshot_meta.verify_length_and_hashes(files[1].data)
    assert timestamp.signed.snapshot_meta.version == 2


def test_a_timestamp_alone_names_the_snapshot_there_is() -> None:
    files = first_files()
    (again,) = image.renewed({role: 1 for role in files}, Work(bins={}), files["snapshot"].data, SIGNERS, NOW)
    timestamp: Metadata[Timestamp] = Metadata.from_bytes(again.data)
    assert (again.version, timestamp.signed.snapshot_meta.version) == (2, 1)
    timestamp.signed.snapshot_meta.verify_length_and_hashes(files["snapshot"].data)


def test_a_target_is_named_with_what_a_device_has_to_compare() -> None:
    one = target(7)
    files = image.renewed({}, Work(bins={one.bin: [one]}), b"", SIGNERS, NOW)
    signed: Metadata[Targets] = Metadata.from_bytes(files[0].data)
    named = signed.signed.targets[one.path]
    assert (named.length, named.hashes) == (7, {"sha256": one.sha256})
    assert named.custom == {"kind": "model", "boards": ["camera-x86"], "release": 1}


# -- the director -------------------------------------------------------------------------------------------------------


def order(**fields: object) -> director.Order:
    values = {
        "device": DeviceId("cam-1"),
        "tenant": TenantId("default"),
        "board": "camera-x86",
        "generation": 4,
        "nonce": NONCE,
        "targets": [target(7)],
    }
    return director.Order(**{**values, **fields})  # type: ignore[arg-type]


def test_the_director_signs_for_one_device_one_generation_and_one_nonce() -> None:
    key = root_key()
    metadata: Metadata[Targets] = Metadata.from_bytes(director.signed(order(), key, NOW))
    key.public_key.verify_signature(metadata.signatures[key.public_key.keyid], metadata.signed_bytes)
    assert metadata.signed.unrecognized_fields[director.FIELD] == {
        "device": "cam-1",
        "tenant": "default",
        "board": "camera-x86",
        "generation": 4,
        "nonce": NONCE.hex(),
        "now_ms": 1_772_366_400_250,
    }
    assert (metadata.signed.version, metadata.signed.expires) == (4, NOW.replace(microsecond=0) + timedelta(days=1))
    assert [named.custom["release"] for named in metadata.signed.targets.values()] == [1]


def test_a_device_that_was_never_asked_for_anything_gets_version_one() -> None:
    data = director.signed(order(generation=0, targets=[]), root_key(), NOW)
    assert json.loads(data)["signed"]["version"] == 1


@pytest.mark.parametrize("length", [0, 15, 33, 4096])
def test_a_nonce_has_a_length(length: int) -> None:
    with pytest.raises(Invalid, match="16 to 32"):
        order(nonce=b"x" * length)


# -- online keys --------------------------------------------------------------------------------------------------------


def test_keys_come_back_after_a_restart_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "trust" / "keys"
    made = OnlineKeys(folder).make(IMAGE, "timestamp")
    again = OnlineKeys(folder).get(made.id, "timestamp")
    assert (again.repository, again.role, again.number, again.public) == (IMAGE, "timestamp", 1, made.public)
    path = folder / f"{made.id}.pem"
    assert path.stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(made) and made.signer.private_bytes.decode() not in repr(made)


def test_the_newest_key_of_a_role_is_the_one_made_last(tmp_path: Path) -> None:
    keys = OnlineKeys(tmp_path)
    first, second, other = keys.make(IMAGE, "bins"), keys.make(IMAGE, "bins"), keys.make(IMAGE, "targets")
    assert OnlineKeys(tmp_path).newest(IMAGE, "bins") == second
    assert keys.drop_older(second) == [first.id]
    assert [key.id for key in OnlineKeys(tmp_path).all()] == [second.id, other.id]
    assert keys.find(first.id) is None


@pytest.mark.parametrize("id", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64])
def test_a_key_that_is_not_held_is_not_found_whatever_its_id(tmp_path: Path, id: str) -> None:
    keys = OnlineKeys(tmp_path)
    assert keys.find(id) is None
    with pytest.raises(NotReady, match="rotate --online"):
        keys.get(id, "the director")


@pytest.mark.parametrize("content", [b"", b"garbage", b"repository: image\nrole: bins\nnumber: x\n", b"\xff\xfe"])
def test_a_damaged_key_file_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    key = OnlineKeys(tmp_path).make(IMAGE, "bins")
    (tmp_path / f"{key.id}.pem").write_bytes(content)
    with pytest.raises(NotReady, match=key.id):
        OnlineKeys(tmp_path).find(key.id)


def test_a_key_under_another_keys_name_is_refused(tmp_path: Path) -> None:
    keys = OnlineKeys(tmp_path)
    one, two = keys.make(IMAGE, "bins"), keys.make(IMAGE, "targets")
    (tmp_path / f"{one.id}.pem").write_bytes((tmp_path / f"{two.id}.pem").read_bytes())
    with pytest.raises(NotReady, match="another key"):
        OnlineKeys(tmp_path).find(one.id)
