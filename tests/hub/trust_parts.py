"""Ceremonies for tests: root keys in memory, roots through the real service, and a stock TUF client that reads from it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from cloud_hub.core.errors import NotFound
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.services.trust import TrustService
from cloud_hub.services.trust_status import TrustStatus
from cloud_hub.trust.tuf import ceremony
from cloud_hub.trust.tuf.ceremony import Draft

KEEPER = Principal(role=Role.ADMIN, name="keeper")


def root_key() -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.generate())


@dataclass
class Holders:
    """Who holds the root keys, and what they do with the hub's service."""

    trust: TrustService
    signers: list[CryptoSigner] = field(default_factory=lambda: [root_key() for _ in range(3)])

    def init(self, now: datetime) -> TrustStatus:
        online = self._online()
        public = [signer.public_key for signer in self.signers]
        drafts = [ceremony.first_root(name, public, online[name], now) for name in (IMAGE, DIRECTOR)]
        for draft in drafts:
            draft.sign(self.signers[:2])
        return self.trust.put_root(KEEPER, *(draft.root.to_bytes() for draft in drafts))

    def drafts(self, now: datetime, *roles: tuple[str, str], replace: Sequence[int] = ()) -> list[Draft]:
        """The next roots, unsigned, with new keys for these roles and in these holders' places."""
        online: Mapping[str, Mapping[str, SSlibKey]] = self._online(*roles) if roles else {}
        replaced = {}
        for index in replace:
            old, self.signers[index] = self.signers[index], root_key()
            self.signers.append(old)
            replaced[old.public_key.keyid] = self.signers[index].public_key
        current = self.trust.roots()
        assert current is not None
        return [
            ceremony.next_root(name, data, now, online.get(name), replaced)
            for name, data in zip((IMAGE, DIRECTOR), current, strict=True)
        ]

    def rotate(self, now: datetime, *roles: tuple[str, str], replace: Sequence[int] = ()) -> TrustStatus:
        drafts = self.drafts(now, *roles, replace=replace)
        for draft in drafts:
            draft.sign(self.signers)
        return self.trust.put_root(KEEPER, *(draft.root.to_bytes() for draft in drafts))

    def _online(self, *roles: tuple[str, str]) -> dict[str, dict[str, SSlibKey]]:
        keys: dict[str, dict[str, SSlibKey]] = {IMAGE: {}, DIRECTOR: {}}
        for key in self.trust.prepare_keys(KEEPER, roles):
            keys[key.repository][key.role] = key.public
        return keys


class Fetcher(FetcherInterface):
    """Straight from the service, as a device gets it over gRPC."""

    def __init__(self, trust: TrustService) -> None:
        self._trust = trust
        self.asked: list[tuple[str, int]] = []  # name, bytes

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix("hub://")
        try:
            data = self._trust.metadata(IMAGE, name)
        except NotFound as error:
            raise DownloadHTTPError(str(error), 404) from error
        self.asked.append((name, len(data)))
        yield data


@dataclass
class Client:
    """python-tuf's own client, unchanged, with a cache that stays."""

    trust: TrustService
    folder: Path
    bootstrap: bytes

    def refreshed(self, now: datetime) -> Updater:
        """Raises what the updater raises."""
        self.folder.mkdir(exist_ok=True)
        self.fetcher = Fetcher(self.trust)
        with _time(now):
            updater = Updater(
                str(self.folder), "hub://", fetcher=self.fetcher, config=UpdaterConfig(), bootstrap=self.bootstrap
            )
            updater.refresh()
        return updater

    def release(self, path: str, now: datetime) -> int | None:
        """The release number of a target; None where there is no such target."""
        updater = self.refreshed(now)
        with _time(now):
            info = updater.get_targetinfo(path)
        return None if info is None else int(info.custom["release"])


@contextmanager
def _time(now: datetime) -> Iterator[None]:
    """The client has no port for a clock."""
    with patch("tuf.ngclient._internal.trusted_metadata_set.datetime") as clock:
        clock.datetime.now.return_value = now
        yield
