"""What becomes of an enrolment token that a stranger shows."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloud_hub.core.errors import Denied, NotReady
from cloud_hub.services.issuance import Issuer
from cloud_hub.store import certificates, fleet
from cloud_hub.store import enrollment as store
from cloud_hub.store.certificates import DEVICE, REPLACED
from cloud_hub.store.database import Tx
from cloud_hub.store.enrollment import Token
from protos.contract.ids import Digest

log = logging.getLogger(__name__)

APPROVAL_WAIT = timedelta(days=7)  # a key that came in time waits so long for an admin
_REFUSED = (
    "the enrolment token is not valid for this device ({board}): check the agent's board, or ask your admin for a new one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    chain: str | None  # None: the key waits for approval
    replaced: int = 0  # certificates that are void now


def presented(tx: Tx, digest: Digest, board: str, now: datetime) -> Token:
    """Raises Denied, in the same words whatever is wrong."""
    token = store.find(tx, digest, now)
    if token is None:
        raise _denied(board, "it is unknown or expired")
    if board != token.board:
        raise _denied(board, f"it is for a {token.board}")
    return token


def check_key(token: Token, key: Digest) -> None:
    """A token that a key came with is no other key's. Raises Denied, in the same words too."""
    if token.key_digest != key and (token.key_digest is not None or token.used_at is not None):
        raise _denied(token.board, "another key came with it before")


def trade(tx: Tx, issuer: Issuer, digest: Digest, board: str, csr_pem: str, key: Digest, now: datetime) -> Trade:
    """In a transaction that no other one runs beside, so that a token gives one certificate. Raises Denied, Invalid."""
    token = presented(tx, digest, board, now)
    check_key(token, key)
    device = token.device
    if token.used_at is not None:
        answered = certificates.unclaimed(tx, device, key, now)
        if answered is None:
            raise _denied(board, "the device has shown its certificate already, or it was revoked")
        return Trade(chain=answered[1])
    if certificates.banned(tx, device, key):
        raise _denied(board, "the key was revoked")
    if token.waits:
        store.wait(tx, token.digest, key, now + APPROVAL_WAIT)
        return Trade(chain=None)
    replaced = certificates.revoke(tx, DEVICE, device, now, REPLACED)
    chain = issuer.issue(tx, token.tenant, device, csr_pem, key, now)
    store.use(tx, token.digest, key, now)
    fleet.enrolled(tx, device, now)
    return Trade(chain=chain, replaced=replaced)


def unapproved(key: Digest) -> NotReady:
    return NotReady(f"an admin must approve this device's key first: {key}")


def _denied(board: str, why: str) -> Denied:
    """``why`` is for the log only."""
    log.warning("enrolment refused", extra={"reason": why})
    return Denied(_REFUSED.format(board=repr(board[:64])))
