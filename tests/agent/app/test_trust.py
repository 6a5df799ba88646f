"""What the agent knows of itself when it is to judge a release."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.app import trust
from edge_agent.core.errors import LinkDown, NoTrust
from edge_agent.sync import identity as identities
from tests.agent.sync.authority import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def enrol(data_dir: Path, authority: Authority, *, image: bytes = b"", director: bytes = b"") -> None:
    before = authority.identity(data_dir, "cam-1", port=1)
    key, certificate = authority.issue("cam-1")
    identities.save(
        replace(before, board="vehicle-arm"),
        key_pem=key, certificate_pem=certificate, ca_pem=authority.pem, image_root=image, director_root=director,
    )  # fmt: skip


def test_a_device_that_is_not_enrolled_waits(tmp_path: Path) -> None:
    with pytest.raises(LinkDown, match="edge-agent enroll"):
        trust.anchor(tmp_path)


@pytest.mark.parametrize("roots", [{}, {"image": b"{}"}, {"director": b"{}"}], ids=str)
def test_a_device_without_both_roots_is_told_how_to_get_them(
    tmp_path: Path, authority: Authority, roots: dict[str, bytes]
) -> None:
    enrol(tmp_path, authority, **roots)
    with pytest.raises(NoTrust, match="ticket made after `hubctl trust init`"):
        trust.anchor(tmp_path)


def test_roots_are_found_as_soon_as_the_device_has_them(tmp_path: Path, authority: Authority) -> None:
    enrol(tmp_path, authority)
    enrol(tmp_path, authority, image=b"image root", director=b"director root")
    anchor = trust.anchor(tmp_path)
    assert (anchor.device_id, anchor.tenant, anchor.board) == ("cam-1", "default", "vehicle-arm")
    assert (anchor.image_root, anchor.director_root) == (b"image root", b"director root")
