"""Who a certificate or a token makes its holder, now: from the database, remembered for half a second at most."""

import hashlib
import hmac
import logging
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from cloud_hub.core import roles
from cloud_hub.core.errors import Unauthenticated
from cloud_hub.core.model import Principal, Role
from cloud_hub.store import access as store
from cloud_hub.store import certificates, tokens
from cloud_hub.store.access import Holding
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock

_log = logging.getLogger(__name__)

FRESH_S = 0.5  # how long an answer is remembered
_REMEMBERED = 4096
_TOKEN = re.compile(r"tl_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NO_TOKEN = "the token is not one of this hub, or no longer: make a new one with `hubctl token create`"  # no secret


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """A certificate whose key TLS has seen used. The names in it are not looked at: the hub's own rows have them."""

    serial: str  # hexadecimal, lower case
    key_digest: str  # of its public key: another one under the same serial is forged


@dataclass(frozen=True, slots=True)
class TokenProof:
    id: str
    digest: str = field(repr=False)  # sha256 of the secret


Proof = CertificateProof | TokenProof


@dataclass(frozen=True, slots=True)
class Standing:
    who: Principal
    expires_at: datetime


class Unwelcome(Unauthenticated):
    """Refused; ``whose`` is who showed it, where the hub knows."""

    def __init__(self, message: str, whose: Principal | None = None) -> None:
        super().__init__(message)
        self.whose = whose


Answer = Standing | Unwelcome


def new_secret() -> tuple[str, TokenProof]:
    """A token's text, 256 random bits behind its public id, and what is kept of it."""
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return f"tl_{id}_{secret}", TokenProof(id, _digest(secret))


def token_proof(text: str) -> TokenProof:
    """Raises Unwelcome for what cannot be a token."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise Unwelcome(_NO_TOKEN)
    return TokenProof(found[1], _digest(found[2]))


class AccessService:
    """Thread-safe. ``known`` never waits; the others read the database and raise Unavailable where it cannot be read."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[Proof, tuple[float, Standing]] = OrderedDict()  # by when they are too old
        self._changes = 0
        self._listeners: list[Callable[[], None]] = []
        self._used: dict[str, datetime] = {}  # tokens whose use is not written yet
        self._shown: set[str] = set()  # devices' certificates whose first use is not

    def known(self, proof: Proof) -> Standing | None:
        """From memory; None: ask ``admit``."""
        found = self._answers.get(proof)
        return found[1] if found is not None and found[0] > self._clock.monotonic() else None

    def admit(self, proof: Proof) -> Standing:
        """Raises Unwelcome."""
        if (known := self.known(proof)) is not None:
            return known
        answer = self.review([proof])[proof]
        if isinstance(answer, Unwelcome):
            raise answer
        return answer

    def review(self, proofs: Collection[Proof]) -> dict[Proof, Answer]:
        """What the database says now of each."""
        changes, asked = self._changes, self._clock.monotonic()
        with self._db.read() as tx:
            answers = self._answered(tx, proofs)
        with self._lock:
            if changes == self._changes:  # otherwise what was read may be older than the change
                for proof, answer in answers.items():
                    self._remember(proof, answer, asked)
        return answers

    def changed(self) -> None:
        """Forget every answer: call it after each commit that changes who may do what. Other processes' changes are seen when
        the answers are too old."""
        with self._lock:
            self._changes += 1
            self._answers.clear()
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """``listener`` is called after each change, on the thread that made it; what is returned ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def write_uses(self) -> None:
        """Note when tokens were used last, to the minute, and which certificates devices showed first, which ends those before
        them; far from any call, so that none waits for a write."""
        with self._lock:
            used, self._used = self._used, {}
            shown, self._shown = self._shown, set()
        superseded = 0
        if used or shown:
            with self._db.write() as tx:
                for id, at in used.items():
                    tokens.used(tx, id, at)
                superseded = certificates.shown(tx, shown, self._clock.now())
        if superseded:
            _log.info("certificates superseded", extra={"certificates": superseded})
            self.changed()

    def _answered(self, tx: Tx, proofs: Collection[Proof]) -> dict[Proof, Answer]:
        certified = store.certificates_of(tx, {proof.serial for proof in proofs if isinstance(proof, CertificateProof)})
        held = store.tokens_of(tx, {proof.id for proof in proofs if isinstance(proof, TokenProof)})
        now = self._clock.now()
        return {
            proof: self._of_certificate(proof, certified.get(proof.serial), now)
            if isinstance(proof, CertificateProof)
            else self._of_token(proof, held.get(proof.id), now)
            for proof in proofs
        }

    def _of_certificate(self, proof: CertificateProof, held: Holding | None, now: datetime) -> Answer:
        answer = _of_certificate(proof, held, now)
        if held is not None and held.role is Role.DEVICE and held.used_at is None and isinstance(answer, Standing):
            with self._lock:
                self._shown.add(proof.serial)
        return answer

    def _of_token(self, proof: TokenProof, held: Holding | None, now: datetime) -> Answer:
        # a token that is not there costs the same comparison, and is refused in the same words as a wrong secret
        right = hmac.compare_digest(proof.digest, held.digest if held else "0" * 64)
        if held is None or held.scope is None or not right:
            return Unwelcome(_NO_TOKEN)
        answer = _holder(held, "token", now)
        minute = now.replace(second=0, microsecond=0)
        if isinstance(answer, Standing) and (held.used_at is None or held.used_at < minute):
            with self._lock:
                self._used[proof.id] = minute
        return answer

    def _remember(self, proof: Proof, answer: Answer, asked: float) -> None:
        if isinstance(answer, Unwelcome):
            self._answers.pop(proof, None)
            return
        self._answers[proof] = (asked + FRESH_S, answer)
        self._answers.move_to_end(proof)
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)


def _of_certificate(proof: CertificateProof, held: Holding | None, now: datetime) -> Answer:
    if held is None or held.digest != proof.key_digest:
        if held is not None:
            _log.error("a certificate carries a serial of ours and another key: the issuing key may be stolen")
        return Unwelcome("the certificate is not one that this hub issued: enrol again, or ask an admin for a new one")
    return _holder(held, "certificate", now)


def _holder(held: Holding, what: str, now: datetime) -> Answer:
    role = held.role or Role.ANONYMOUS
    if held.scope is not None and held.role is not None:
        role = roles.shared(held.scope, held.role)
    until = held.expires_at if held.scope is not None else None
    who = Principal(role=role, name=held.name, tenant=held.tenant, token_until=until)
    if held.revoked_at is not None:
        return Unwelcome(f"the {what} was revoked at {held.revoked_at:%Y-%m-%d %H:%M:%S} UTC: ask an admin for a new one", who)
    if held.expires_at <= now:
        return Unwelcome(f"the {what} expired at {held.expires_at:%Y-%m-%d %H:%M:%S} UTC: renew it", who)
    if held.role is None:
        return Unwelcome(f"{held.name} is not known to this hub any more: ask an admin", who)
    if held.disabled:
        return Unwelcome(f"user {held.name} is disabled: ask an admin", who)
    return Standing(who, held.expires_at)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
