"""Use cases about users and what they prove themselves with. An admin's word ends where the tenant does."""

import builtins
import logging
import unicodedata
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509

from cloud_hub.core import pages, roles
from cloud_hub.core.errors import Conflict, Denied, Exhausted, Invalid, NotFound, NotReady
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.pages import FIRST, Page
from cloud_hub.services.access import AccessService, new_secret
from cloud_hub.store import certificates, tokens
from cloud_hub.store import users as store
from cloud_hub.store.certificates import Certificate
from cloud_hub.store.database import Database, Tx
from cloud_hub.store.tokens import Token
from cloud_hub.store.users import User
from cloud_hub.trust.authority import Authority
from cloud_hub.trust.csr import fingerprint
from edge_agent.core.clock import Clock
from protos.contract.ids import TenantId

log = logging.getLogger(__name__)

MAX_NAME = 59  # characters; it is in a certificate's common name, behind a prefix
MAX_USERS = 10_000  # of a tenant
MAX_TOKENS = 100  # of a user, that work
MAX_NOTE = 200  # characters
CERTIFICATE_DAYS, MAX_CERTIFICATE_DAYS = 90, 366
TOKEN_TTL_S, MIN_TOKEN_TTL_S, MAX_TOKEN_TTL_S = 30 * 86_400, 60, 366 * 86_400
_KEEP = timedelta(days=30)  # tokens that expired are shown so long


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCertificate:
    certificate_pem: str  # the user's own, then the issuing authority's
    ca_pem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    token: Token
    secret: str = field(repr=False)


class UserService:
    """Another tenant's users and tokens are NotFound. Every change is told to ``access`` once it is committed."""

    def __init__(self, db: Database, authority: Authority, access: AccessService, clock: Clock) -> None:
        self._db = db
        self._authority = authority
        self._access = access
        self._clock = clock

    def whoami(self, who: Principal) -> User:
        """The caller with the role that the call was admitted with, which a token may have narrowed. Raises NotFound."""
        with self._db.read() as tx:
            user = _owned(tx, who.tenant, who.name)
        return User(tenant=user.tenant, name=user.name, role=who.role, disabled=user.disabled, created_at=user.created_at)

    def create(self, who: Principal, name: str, role: Role) -> User:
        """Raises Invalid, Conflict where the name is taken, Exhausted."""
        name, role, now = checked_name(name), _checked_role(role), self._clock.now()
        with self._db.write() as tx:
            if store.count(tx, who.tenant) >= MAX_USERS:
                raise Exhausted(f"a tenant has at most {MAX_USERS} users")
            if not store.add(tx, who.tenant, name, role, now):
                raise Conflict(f"there is a user {name} already: choose another name")
        log.info("user created", extra={"user": name, "role": role.value, "tenant": who.tenant, "by": who.name})
        return User(tenant=who.tenant, name=name, role=role, disabled=False, created_at=now)

    def get(self, who: Principal, name: str) -> User:
        """Raises NotFound."""
        with self._db.read() as tx:
            return _owned(tx, who.tenant, name)

    def list(self, who: Principal, page: Page = FIRST) -> tuple[builtins.list[User], str]:
        """In the order of their names, and the token of the next page: empty at the end. Raises Invalid."""
        pages.checked(page)
        with self._db.read() as tx:
            found = store.page(tx, who.tenant, after=page.token, limit=page.size + 1)
        more = len(found) > page.size
        return found[: page.size], found[page.size - 1].name if more else ""

    def update(self, who: Principal, name: str, *, role: Role | None = None, disabled: bool | None = None) -> User:
        """None leaves a value as it is. While a user is disabled, certificates and tokens work no more; they do afterwards.

        Raises:
            NotFound, Invalid.
            NotReady: it is the tenant's last admin who can sign in.
        """
        with self._db.write() as tx:
            user = _owned(tx, who.tenant, name)
            role = user.role if role is None else _checked_role(role)
            disabled = user.disabled if disabled is None else disabled
            if (disabled or role is not Role.ADMIN) and store.active_admins(tx, who.tenant) == [name]:
                raise NotReady(f"{name} is the only admin of tenant {who.tenant}: make another one first")
            store.put(tx, who.tenant, name, role=role, disabled=disabled)
        self._access.changed()
        fields = {"user": name, "role": role.value, "disabled": disabled, "tenant": who.tenant, "by": who.name}
        log.info("user changed", extra=fields)
        return User(tenant=user.tenant, name=name, role=role, disabled=disabled, created_at=user.created_at)

    # -- certificates -----------------------------------------------------------------------------------------------------

    def issue_certificate(self, who: Principal, name: str, csr_pem: str, days: int = 0) -> UserCertificate:
        """For the key that signed the CSR; ``days`` 0: the default. Raises NotFound, Invalid, NotReady."""
        days = days or CERTIFICATE_DAYS
        if not 1 <= days <= MAX_CERTIFICATE_DAYS:
            raise Invalid(f"a user's certificate lasts 1..{MAX_CERTIFICATE_DAYS} days, got {days}")
        with self._db.write() as tx:
            user = _enabled(tx, who.tenant, name)
            pem = self._authority.sign_user_csr(csr_pem, name, tenant=who.tenant, role=user.role, days=days)
            certificates.add(tx, recorded(pem, who.tenant, name))
        log.info("user certificate issued", extra={"user": name, "days": days, "tenant": who.tenant, "by": who.name})
        return UserCertificate(certificate_pem=pem, ca_pem=self._authority.ca_pem)

    def revoke_certificates(self, who: Principal, name: str, reason: str) -> int:
        """All there are; how many were good. Tokens are revoked one by one. Raises NotFound."""
        now = self._clock.now()
        with self._db.write() as tx:
            _owned(tx, who.tenant, name)
            count = certificates.revoke(tx, certificates.USER, name, now, reason[:MAX_NOTE], tenant=who.tenant)
        self._access.changed()
        log.info("user certificates revoked", extra={"user": name, "count": count, "tenant": who.tenant, "by": who.name})
        return count

    # -- tokens -----------------------------------------------------------------------------------------------------------

    def create_token(
        self, who: Principal, *, user: str = "", scope: Role | None = None, ttl_s: int = 0, note: str = ""
    ) -> NewToken:
        """For oneself, or by an admin for another user; ``scope`` None: all that it may be. The secret is never shown again.

        A caller with a token makes none for more than that one is for, and for the same user none that lives longer: whoever
        steals one must not have it for ever.

        Raises:
            Denied: for another user, by one who is no admin.
            NotFound, Invalid, NotReady, Exhausted.
        """
        name, ttl_s, now = user or who.name, ttl_s or TOKEN_TTL_S, self._clock.now()
        if name != who.name and who.role is not Role.ADMIN:
            raise Denied("only an admin makes tokens for others")
        if not MIN_TOKEN_TTL_S <= ttl_s <= MAX_TOKEN_TTL_S:
            raise Invalid(f"a token must live {MIN_TOKEN_TTL_S}..{MAX_TOKEN_TTL_S} seconds, got {ttl_s}")
        if len(note) > MAX_NOTE:
            raise Invalid(f"a note has at most {MAX_NOTE} characters")
        secret, proof = new_secret()
        expires_at = now + timedelta(seconds=ttl_s)
        if who.token_until is not None and name == who.name:
            expires_at = min(expires_at, who.token_until)
        with self._db.write() as tx:
            holder = _enabled(tx, who.tenant, name)
            highest = roles.shared(holder.role, who.role)
            scope = highest if scope is None else _checked_role(scope)
            if not roles.within(scope, highest):
                raise Invalid(f"a token of {name} can be for {highest.value} or what is within it, not for {scope.value}")
            if tokens.good(tx, who.tenant, name, now) >= MAX_TOKENS:
                raise Exhausted(f"{name} has {MAX_TOKENS} tokens that work: revoke one first")
            tokens.forget(tx, now - _KEEP)
            token = Token(
                id=proof.id,
                tenant=who.tenant,
                user=name,
                scope=scope,
                digest=proof.digest,
                created_at=now,
                expires_at=expires_at,
                note=note,
            )
            tokens.add(tx, token)
        log.info("token created", extra={"token": token.id, "user": name, "scope": scope.value, "by": who.name})
        return NewToken(token=token, secret=secret)

    def list_tokens(self, who: Principal, user: str = "") -> builtins.list[Token]:
        """Newest first: one's own, and for admins everyone's or those of ``user``. Raises Denied, NotFound."""
        if who.role is not Role.ADMIN:
            if user not in ("", who.name):
                raise Denied("only an admin sees the tokens of others")
            user = who.name
        with self._db.read() as tx:
            if user:
                _owned(tx, who.tenant, user)
            return tokens.of_user(tx, who.tenant, user or None)

    def revoke_token(self, who: Principal, id: str) -> Token:
        """One's own, and for admins anyone's. A second time changes nothing. Raises NotFound."""
        with self._db.write() as tx:
            token = tokens.find(tx, who.tenant, id)
            if token is None or (token.user != who.name and who.role is not Role.ADMIN):
                raise NotFound(f"no token {id[:32]}")
            tokens.revoke(tx, who.tenant, id, self._clock.now())
            token = tokens.find(tx, who.tenant, id) or token
        self._access.changed()
        log.info("token revoked", extra={"token": id, "user": token.user, "tenant": who.tenant, "by": who.name})
        return token


def checked_name(name: str) -> str:
    """Raises Invalid for what does not print, or looks like another name."""
    plain = unicodedata.normalize("NFKC", name)
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != plain or name != " ".join(name.split()):
        raise Invalid(f"a user name is 1..{MAX_NAME} printable characters without spaces around it, got {name[:80]!r}")
    return name


def recorded(certificate_pem: str, tenant: TenantId, name: str) -> Certificate:
    """What is kept of a user's certificate that was just issued."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return Certificate(
        serial=f"{certificate.serial_number:x}",
        tenant=tenant,
        role=certificates.USER,
        subject=name,
        key_digest=fingerprint(certificate.public_key()),  # type: ignore[arg-type]  # the authority signs no other kind
        issued_at=certificate.not_valid_before_utc,
        expires_at=certificate.not_valid_after_utc,
    )


def _checked_role(role: Role) -> Role:
    if role not in roles.USERS:
        raise Invalid(f"a user's role is one of {', '.join(sorted(roles.USERS))}, got {role.value}")
    return role


def _owned(tx: Tx, tenant: TenantId, name: str) -> User:
    user = store.find(tx, tenant, name)
    if user is None:
        raise NotFound(f"no user {name[:MAX_NAME]}")
    return user


def _enabled(tx: Tx, tenant: TenantId, name: str) -> User:
    user = _owned(tx, tenant, name)
    if user.disabled:
        raise NotReady(f"user {name} is disabled: enable it first")
    return user
