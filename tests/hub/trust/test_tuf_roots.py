"""Roots: what the holders of the root keys make and sign, and what the hub takes."""

import json
import os
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Role, Root, Timestamp

from cloud_hub.core.errors import Conflict, Invalid, NotFound
from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.trust.tuf import ceremony, roots
from cloud_hub.trust.tuf.ceremony import Draft
from cloud_hub.trust.tuf.keys import ONLINE_ROLES, OnlineKeys
from tests.hub.trust_parts import root_key

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Ceremony:
    """Three holders, and the online keys of one hub."""

    def __init__(self, folder: Path) -> None:
        self.keys = OnlineKeys(folder)
        for repository, role in ONLINE_ROLES:
            self.keys.make(repository, role)
        self.signers = [root_key() for _ in range(3)]

    def online(self, repository: str) -> dict[str, SSlibKey]:
        return {key.role: key.public for key in self.keys.all() if key.repository == repository}

    def first(self, repository: str = IMAGE, signatures: int = 3) -> Draft:
        holders = [signer.public_key for signer in self.signers]
        draft = ceremony.first_root(repository, holders, self.online(repository), NOW)
        draft.sign(self.signers[:signatures])
        return draft

    def check(self, root: Metadata[Root], previous: Metadata[Root] | None = None, repository: str = IMAGE) -> None:
        previous = previous and roots.parsed(previous.to_bytes(), repository)
        roots.check_next(repository, previous, roots.parsed(root.to_bytes(), repository), self.keys, NOW)

    def resigned(self, root: Root) -> Metadata[Root]:
        """By every holder, whatever it says."""
        metadata = Metadata(root)
        for signer in self.signers:
            metadata.sign(signer, append=True)
        return metadata


@pytest.fixture
def three(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path / "keys")


@pytest.mark.parametrize("repository", [IMAGE, DIRECTOR])
def test_the_first_root_is_taken_with_two_signatures_of_three(three: Ceremony, repository: str) -> None:
    draft = three.first(repository, signatures=2)
    assert draft.missing == 0
    three.check(draft.root, repository=repository)
    assert draft.root.signed.expires == NOW + timedelta(days=365)


def test_one_signature_is_not_enough(three: Ceremony) -> None:
    draft = three.first(signatures=1)
    assert draft.missing == 1
    with pytest.raises(Invalid, match="1 of 2 root keys"):
        three.check(draft.root)


def test_a_next_root_needs_the_threshold_of_the_last_one_and_of_its_own(three: Ceremony) -> None:
    first, (one, two, three_) = three.first(), three.signers
    new = root_key()
    draft = ceremony.next_root(IMAGE, first.root.to_bytes(), NOW, replaced={three_.public_key.keyid: new.public_key})
    draft.sign([new])
    assert draft.missing == 2
    draft.sign([one])
    assert draft.missing == 1, "the new key and one of the old ones: that is enough for itself, not for the last root"
    with pytest.raises(Invalid, match="1 of 2 root keys of the current root"):
        three.check(draft.root, first.root)
    draft.sign([two])
    assert draft.missing == 0
    three.check(draft.root, first.root)


def test_thieves_of_one_key_cannot_take_the_root_over(three: Ceremony) -> None:
    first, stolen, mine = three.first(), three.signers[0], [root_key() for _ in range(3)]
    forged = ceremony.first_root(IMAGE, [key.public_key for key in mine], three.online(IMAGE), NOW).root
    forged.signed.version = 2
    for signer in (*mine, stolen):
        forged.sign(signer, append=True)
    with pytest.raises(Invalid, match="1 of 2 root keys of the current root"):
        three.check(forged, first.root)


def test_a_signature_of_something_else_does_not_count(three: Ceremony) -> None:
    first = three.first()
    following = ceremony.next_root(IMAGE, first.root.to_bytes(), NOW).root
    following.signatures = dict(first.root.signatures)
    with pytest.raises(Invalid, match="0 of 2"):
        three.check(following, first.root)


@pytest.mark.parametrize("version", [1, 3, 4_000_000_000])
def test_only_the_next_version_is_taken(three: Ceremony, version: int) -> None:
    first = three.first()
    root = deepcopy(first.root.signed)
    root.version = version
    with pytest.raises(Conflict, match="next one is 2"):
        three.check(three.resigned(root), first.root)


def _set(**fields: Any) -> Callable[[Root, Ceremony], None]:
    return lambda root, three: [setattr(root, name, value) for name, value in fields.items()] and None


def _role(name: str, **fields: Any) -> Callable[[Root, Ceremony], None]:
    return lambda root, three: [setattr(root.roles[name], key, value) for key, value in fields.items()] and None


def _strangers_key(root: Root, three: Ceremony) -> None:
    key = root_key().public_key
    root.keys[key.keyid] = key
    root.roles["timestamp"].keyids = [key.keyid]


def _role_mixed_up(root: Root, three: Ceremony) -> None:
    root.roles["timestamp"].keyids = root.roles["targets"].keyids


def _second_key(root: Root, three: Ceremony) -> None:
    key = root_key().public_key
    root.keys[key.keyid] = key
    root.roles["snapshot"].keyids.append(key.keyid)


def _same_key_twice(root: Root, three: Ceremony) -> None:
    """One holder's key under a second id, so that it could sign for two."""
    key = deepcopy(three.signers[0].public_key)
    key.keyid = "f" * 64
    root.keys[key.keyid] = key
    root.roles["root"].keyids = [three.signers[0].public_key.keyid, key.keyid]


def _hubs_key_as_root_key(root: Root, three: Ceremony) -> None:
    root.roles["root"].keyids.append(root.roles["timestamp"].keyids[0])


def _other_scheme(root: Root, three: Ceremony) -> None:
    key = CryptoSigner.generate_ecdsa().public_key
    root.keys[key.keyid] = key
    root.roles["root"].keyids.append(key.keyid)


def _odd_key(root: Root, three: Ceremony) -> None:
    next(iter(root.keys.values())).unrecognized_fields["x"] = "y"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set(consistent_snapshot=False), "consistent"),
        (_set(_expires=NOW), "expired"),
        (_role("root", threshold=1), "threshold"),
        (_role("root", threshold=4), "threshold"),
        (_role("root", keyids=[]), "threshold"),
        (_role("timestamp", keyids=[]), "exactly one key"),
        (_role("timestamp", threshold=2), "exactly one key"),
        (_role("targets", keyids=["../../hub"]), "exactly one key"),
        (_strangers_key, "exactly one key"),
        (_role_mixed_up, "exactly one key"),
        (_second_key, "exactly one key"),
        (_same_key_twice, "under its own id"),
        (_hubs_key_as_root_key, "hub's own key"),
        (_other_scheme, "plain Ed25519"),
        (_odd_key, "plain Ed25519"),
    ],
)
def test_a_root_that_is_not_for_this_hub_is_refused_however_well_it_is_signed(
    three: Ceremony, change: Callable[[Root, Ceremony], None], reason: str
) -> None:
    first = three.first()
    root = ceremony.next_root(IMAGE, first.root.to_bytes(), NOW).root.signed
    change(root, three)
    with pytest.raises(Invalid, match=reason):
        three.check(three.resigned(root), first.root)


def test_a_root_of_the_other_repository_is_refused(three: Ceremony) -> None:
    with pytest.raises(Invalid, match="exactly one key"):
        three.check(three.first(DIRECTOR).root, repository=IMAGE)


def _edited(root: Metadata[Root], edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(root.to_bytes())
    edit(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["signed"].update(version="2"),
        lambda d: d["signed"].update(version=-1),
        lambda d: d["signed"].update(version=2.5),
        lambda d: d["signed"].update(spec_version="9.9"),
        lambda d: d["signed"].update(expires="tomorrow"),
        lambda d: d["signed"].update(_type="targets"),
        lambda d: d["signed"]["roles"].pop("timestamp"),
        lambda d: d["signed"]["roles"].update(extra={"keyids": [], "threshold": 1}),
        lambda d: d["signed"]["roles"]["timestamp"].update(keyids={"a": 1}),
        lambda d: d["signed"]["roles"]["timestamp"].update(keyids="a"),
        lambda d: d["signed"]["roles"]["timestamp"].update(keyids=[["a"]]),
        lambda d: d["signed"]["roles"]["timestamp"].update(keyids=[7]),
        lambda d: d["signed"]["roles"]["root"].update(threshold="2"),
        lambda d: d["signed"].update(keys=[]),
        lambda d: d["signed"]["keys"].update(x={}),
        lambda d: d["signed"]["keys"].update(x={"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": 7}}),
        lambda d: d["signed"]["keys"].update(x={"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "zz"}}),
        lambda d: d["signed"]["keys"].update(x={"keytype": "ed25519", "scheme": "ed25519", "keyval": {}}),
        lambda d: d["signed"].update(odd=1.5),
        lambda d: d.update(signatures="x"),
        lambda d: d.update(signatures=[{"keyid": "a", "sig": "zz"}] * 2),
        lambda d: d.pop("signed"),
    ],
)
def test_whatever_else_comes_is_refused_as_invalid(three: Ceremony, edit: Callable[[dict[str, Any]], object]) -> None:
    data = _edited(three.first().root, edit)
    with pytest.raises((Invalid, Conflict)):
        roots.check_next(IMAGE, None, roots.parsed(data, IMAGE), three.keys, NOW)


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"[" * 60_000, b"\xff" * 10, b" " * 70_000, os.urandom(1000)])
def test_bytes_that_are_no_root_are_refused_as_invalid(data: bytes) -> None:
    with pytest.raises(Invalid):
        roots.parsed(data, IMAGE)


def test_other_metadata_is_no_root() -> None:
    with pytest.raises(Invalid, match="timestamp"):
        roots.parsed(Metadata(Timestamp(expires=NOW)).to_bytes(), IMAGE)


# -- files --------------------------------------------------------------------------------------------------------------


def test_root_keys_are_files_that_only_their_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "root-keys"
    made = [ceremony.make_root_key(folder) for _ in range(3)]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    loaded = ceremony.load_root_keys(folder)
    assert {key.public_key.keyid for key in loaded} == {key.public_key.keyid for key in made}


def test_a_passphrase_locks_a_root_key(tmp_path: Path) -> None:
    made = ceremony.make_root_key(tmp_path, "right horse")
    assert b"ENCRYPTED" in next(tmp_path.iterdir()).read_bytes()
    assert ceremony.load_root_keys(tmp_path, "right horse")[0].public_key == made.public_key
    for wrong, reason in (("", "give its passphrase"), ("wrong", "another one")):
        with pytest.raises(Invalid, match=reason):
            ceremony.load_root_keys(tmp_path, wrong)


def test_a_folder_without_keys_or_with_other_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        ceremony.load_root_keys(tmp_path)
    (tmp_path / "root-x.pem").write_text("nonsense")
    with pytest.raises(Invalid, match="not a private key"):
        ceremony.load_root_keys(tmp_path)


def test_a_partly_signed_root_travels_as_a_file_and_is_completed_elsewhere(three: Ceremony) -> None:
    first = {name: three.first(name) for name in (IMAGE, DIRECTOR)}
    drafts = {name: ceremony.next_root(name, draft.root.to_bytes(), NOW) for name, draft in first.items()}
    for draft in drafts.values():
        assert draft.sign(three.signers[:1]) == 1
    elsewhere = ceremony.loaded(ceremony.dumped(drafts))
    assert [draft.missing for draft in elsewhere.values()] == [1, 1]
    for draft in elsewhere.values():
        assert draft.sign([three.signers[0]]) == 0, "it has signed"
        assert draft.sign([root_key()]) == 0, "a stranger's signature counts for nothing"
        assert draft.sign([three.signers[2]]) == 1
    for name, draft in ceremony.loaded(ceremony.dumped(elsewhere)).items():
        three.check(draft.root, first[name].root, name)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"format": "tideline-roots-1"}', b'{"format": "tideline-roots-1", "image": 7}', b"[" * 60_000]
)
def test_a_file_that_is_none_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        ceremony.loaded(data)


def test_a_root_key_that_is_not_there_cannot_be_replaced(three: Ceremony) -> None:
    stranger: CryptoSigner = root_key()
    with pytest.raises(NotFound):
        ceremony.next_root(IMAGE, three.first().root.to_bytes(), NOW, replaced={stranger.public_key.keyid: stranger.public_key})


def test_what_a_ceremony_makes_names_nothing_more_than_it_must(three: Ceremony) -> None:
    root = three.first().root.signed
    assert set(root.keys) == {id for role in root.roles.values() for id in role.keyids}
    assert root.roles["root"] == Role([signer.public_key.keyid for signer in three.signers], 2)
