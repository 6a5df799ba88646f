"""Use cases about trust: roots, online keys, the metadata that devices verify, and what a device is to run, signed for it."""

import logging
import re
import threading
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cloud_hub.core.errors import Invalid, NotFound, NotReady, Unavailable
from cloud_hub.core.model import Device, Principal
from cloud_hub.core.targets import DIRECTOR, IMAGE, Subject, Target, subject_of
from cloud_hub.services import trust_status
from cloud_hub.services.signing import ImageSigning
from cloud_hub.services.trust_status import RoleStatus, TrustStatus
from cloud_hub.store import fleet, targets, trust
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.trust import ROOT, Stored
from cloud_hub.trust.tuf import director, image, roots
from cloud_hub.trust.tuf.director import Order
from cloud_hub.trust.tuf.image import TARGETS
from cloud_hub.trust.tuf.keys import ONLINE_ROLES, OnlineKey, OnlineKeys
from edge_agent.core.clock import Clock
from protos.contract.ids import DeviceId

log = logging.getLogger(__name__)

KEEP = timedelta(hours=1)  # superseded metadata: for a device in the middle of a refresh
_FORGET_EVERY_S = 600.0
_NAME = re.compile(r"(?:([1-9][0-9]{0,17})\.)?([a-z]+(?:-[0-9a-f]{2})?)\.json")

Role = tuple[str, str]  # repository, role


class TrustService:
    """Thread-safe; several processes may share database and keys."""

    def __init__(self, db: Database, keys: Path, clock: Clock) -> None:
        """``keys``: the folder of the online keys."""
        self._db = db
        self._clock = clock
        self._keys = OnlineKeys(keys)
        self._signing = ImageSigning(self._keys)
        self._director: tuple[int, OnlineKey] | None = None  # by the version of the root
        self._failed = ""  # why the last round of signing failed
        self._forgot_at = -_FORGET_EVERY_S
        self._tidied = False
        self._turn = threading.Lock()

    # -- for devices ----------------------------------------------------------------------------------------------------

    def metadata(self, repository: str, name: str) -> bytes:
        """One file as it was signed: "timestamp.json", or a version of a role: "7.snapshot.json". Raises NotFound."""
        match = _NAME.fullmatch(name)
        version, role = (match[1], match[2]) if match else (None, "")
        data = None
        if role and (version is not None) == (role != image.TIMESTAMP):
            with self._db.read() as tx:
                data = trust.find(tx, repository, role, int(version) if version else None)
        if data is None:
            raise NotFound(f"no metadata {name[:64]!r} in the {repository} repository")
        return data

    def director(self, who: Principal, nonce: bytes) -> bytes:
        """What the calling device is to run, signed for this call; a file that waits to be signed is signed first.

        Raises:
            Invalid: the nonce has not 16 to 32 bytes.
            NotFound: no such device.
            NotReady: there is no root, or no key, or the desired version has no targets.
            Unavailable: what it is to run could not be signed yet.
        """
        order, key, waits = self._order(who, nonce)
        if waits:
            self._sign()
            order, key, waits = self._order(who, nonce)
        if waits:
            raise Unavailable(f"what device {who.name} is to run is not signed yet; {self._failed or 'try again'}")
        return director.signed(order, key.signer, self._clock.now())

    def _order(self, who: Principal, nonce: bytes) -> tuple[Order, OnlineKey, bool]:
        with self._db.read() as tx:
            device = fleet.find(tx, DeviceId(who.name))
            if device is None or device.tenant != who.tenant:
                raise NotFound(f"no device {who.name}")
            key, files = self._director_key(tx), _files(tx, device)
        order = Order(
            device=device.id,
            tenant=device.tenant,
            board=device.board,
            generation=device.desired.generation,
            nonce=nonce,
            targets=[target for target, _ in files],
        )
        return order, key, not all(signed for _, signed in files)

    def _director_key(self, tx: Tx) -> OnlineKey:
        version = trust.root_version(tx, DIRECTOR)
        known = self._director
        if known is None or known[0] != version:
            data = trust.find(tx, DIRECTOR, ROOT)
            if data is None:
                raise NotReady("there is no root yet: run 'hubctl trust init'")
            root = roots.parsed(data, DIRECTOR).signed
            known = self._director = version, self._keys.get(roots.key_of(root, TARGETS), "the director")
        return known[1]

    # -- roots and keys -------------------------------------------------------------------------------------------------

    def roots(self) -> tuple[bytes, bytes] | None:
        """The current ones, image and director: what a new device begins with. None: there are none yet."""
        with self._db.read() as tx:
            there = [trust.find(tx, repository, ROOT) for repository in (IMAGE, DIRECTOR)]
        return None if there[0] is None or there[1] is None else (there[0], there[1])

    def prepare_keys(self, who: Principal, wanted: Collection[Role] = ()) -> list[OnlineKey]:
        """New keys for ``wanted`` (empty: all), to be used from the next root on; one that waits for it already is kept.

        Every online role with the key that the next root should name. Raises Invalid for what is no online role.
        """
        if unknown := set(wanted) - set(ONLINE_ROLES):
            raise Invalid(f"{' '.join(min(unknown))!r} is no online role: one of {_names(ONLINE_ROLES)}")
        with self._db.write() as tx:  # one at a time, in all processes
            used = self._used(tx)
            keys = []
            for repository, role in ONLINE_ROLES:
                key = self._keys.newest(repository, role)
                if key is None or ((not wanted or (repository, role) in wanted) and key.id == used.get((repository, role))):
                    key = self._keys.make(repository, role)
                    log.info("signing key made", extra={"repository": repository, "role": role, "key": key.id, "by": who.name})
                keys.append(key)
        return keys

    def put_root(self, who: Principal, image_root: bytes, director_root: bytes) -> TrustStatus:
        """Take the next root of a repository (empty: unchanged), or the first of both, and sign everything with its keys.

        Raises:
            Invalid: it is not signed as it must be, or not for this hub.
            Conflict: it is not the next version.
            NotReady: the first roots come together; or a key is missing.
        """
        given = {IMAGE: image_root, DIRECTOR: director_root}
        now = self._clock.now()
        with self._turn, self._db.write() as tx:
            current = {repository: trust.find(tx, repository, ROOT) for repository in given}
            if not any(given.values()):
                raise Invalid("no root was given")
            if missing := [name for name in given if not given[name] and current[name] is None]:
                raise NotReady(f"the first roots come together: the {missing[0]} root is missing")
            for repository, data in given.items():
                if data:
                    self._put(tx, repository, current[repository], data, now)
        self._failed = ""
        self._tidy()
        log.info("root put", extra={"repositories": [name for name in given if given[name]], "by": who.name})
        return self.status()

    def _put(self, tx: Tx, repository: str, current: bytes | None, data: bytes, now: datetime) -> None:
        previous = None if current is None else roots.parsed(current, repository)
        following = roots.parsed(data, repository)
        roots.check_next(repository, previous, following, self._keys, now)
        root = following.signed
        trust.put(
            tx,
            repository,
            [
                Stored(
                    role=ROOT,
                    version=root.version,
                    signed_at=now,
                    expires_at=root.expires,
                    resign_at=None,
                    data=following.to_bytes(),  # as we understood it, whatever else the bytes said
                )
            ],
        )
        if repository == IMAGE:
            self._signing.all_again(tx, root, now)
            if previous is not None:
                # Devices keep release numbers for ever. A database that was put back to an older state counts again what it had
                # given out; new roots are the way out of that for metadata, and so they are for releases.
                targets.lift_releases(tx, int(now.timestamp()))

    def _used(self, tx: Tx) -> dict[Role, str]:
        """The key in use of every online role."""
        used: dict[Role, str] = {}
        for repository, named in roots.ONLINE.items():
            data = trust.find(tx, repository, ROOT)
            if data is not None:
                root = roots.parsed(data, repository).signed
                used |= {(repository, kind): roots.key_of(root, role) for role, kind in named.items()}
        delegation = trust.find(tx, IMAGE, TARGETS)
        if delegation is not None:
            used[IMAGE, "bins"] = image.bins_key_of(delegation)
        return used

    def _tidy(self) -> None:
        """Retired keys go, also those of a root that was put just before a power cut."""
        with self._db.read() as tx:
            used = self._used(tx)
        for id in used.values():
            key = self._keys.find(id)
            for old in self._keys.drop_older(key) if key is not None else ():
                log.info("signing key dropped", extra={"key": old})
        self._tidied = True

    # -- upkeep ---------------------------------------------------------------------------------------------------------

    def tick(self, now: datetime) -> None:
        """Sign what waits, sign again what is half through its life, forget what nobody asks for any more."""
        if not self._tidied:
            self._tidy()
        self._sign()
        if self._clock.monotonic() - self._forgot_at >= _FORGET_EVERY_S:
            self._forgot_at = self._clock.monotonic()
            with self._db.write() as tx:
                trust.forget(tx, now - KEEP)

    def _sign(self) -> None:
        """As much as there is; one thread at a time, as the others would only wait for the database."""
        with self._turn:
            try:
                with self._db.read() as tx:
                    more = self._signing.wanted(tx, self._clock.now())
                while more:
                    with self._db.write() as tx:
                        more = self._signing.round(tx, self._clock.now())
            except NotReady as error:
                if self._failed != str(error):
                    log.error("cannot sign", extra={"reason": str(error)})
                self._failed = str(error)
            else:
                self._failed = ""

    # -- for people -----------------------------------------------------------------------------------------------------

    def status(self) -> TrustStatus:
        with self._db.read() as tx:
            named, waiting = targets.counts(tx)
            roles = (*trust_status.of_roots(tx), *trust_status.of_online(tx, self._used(tx)))
        return TrustStatus(roles=roles, targets=named, waiting=waiting, problem=self._problem(roles))

    def expiries(self) -> dict[str, datetime]:
        """When each role's metadata ends, by "repository role"; of the bins the first. Empty before the first root."""
        with self._db.read() as tx:
            return trust_status.expiries(tx)

    def figures(self) -> dict[str, float]:
        """By the source of alert rules; empty before the first root."""
        return trust_status.figures(self.expiries(), self._clock.now())

    def _problem(self, roles: Iterable[RoleStatus]) -> str:
        now, online = self._clock.now(), [one for one in roles if one.role != ROOT]
        if not online:
            return "there is no root yet: run 'hubctl trust init'"
        for one in roles:
            if one.role == ROOT and one.expires_at is not None and one.expires_at <= now:
                return f"the {one.repository} root expired at {one.expires_at:%Y-%m-%d}: run 'hubctl trust rotate'"
        for one in online:
            try:
                self._keys.get(one.key_ids[0], f"the {one.repository} repository's {one.role}")
            except NotReady as error:
                return str(error)
        return self._failed


def _files(tx: Tx, device: Device) -> list[tuple[Target, bool]]:
    """Every file that its desired twin asks for, each with whether the newest metadata names it.

    What has no targets is left out, and refused by the device, so that one thing cannot hold up another. Raises NotReady
    where nothing is left.
    """
    desired = device.desired
    asked = [] if desired.model is None else [desired.model]
    if desired.challenger is not None:
        asked.append(desired.challenger.model)
    files, missing = [], []
    for model in asked:
        there = targets.of_version(tx, device.tenant, Subject.MODEL, model.name, str(model.version))
        variant = next((one.variant for one, _ in there if one.digest == model.manifest_digest), None)
        found = [(one, signed) for one, signed in there if one.variant == variant]
        files += [one for one in found if one not in files]
        if not found:
            missing.append(f"model {model.name}:{model.version}")
    for package in desired.packages:
        subject = subject_of(package.kind)
        there = targets.of_version(tx, device.tenant, subject, package.name, package.version)
        usable = [(one, signed) for one, signed in there if not one.boards or device.board in one.boards]
        found = [(one, signed) for one, signed in usable if (one.digest, one.length) == (package.digest, package.size_bytes)]
        files += found[:1]
        if not found:
            missing.append(f"{subject} {package.name} {package.version}")
    if missing and not files:
        raise NotReady(f"{', '.join(missing)} has no targets: start a rollout of it")
    return files


def _names(pairs: Iterable[Role]) -> str:
    return ", ".join(f"{repository} {role}" for repository, role in pairs)
