"""Admin: users, certificates and tokens; the audit log is ``rpc.audit``'s."""

from collections.abc import AsyncGenerator

from cloud_hub.core import roles
from cloud_hub.core.errors import Invalid
from cloud_hub.core.model import Role
from cloud_hub.rpc.addresses import Addresses
from cloud_hub.rpc.audit import AuditServicer
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.users import UserService
from cloud_hub.store.tokens import Token
from cloud_hub.store.users import User
from protos.contract.telemetry import to_ms
from protos.v1 import admin_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Admin"]
_ROLES = {role.value: role for role in roles.USERS}


class AdminServicer:
    def __init__(self, users: UserService, audit: AuditServicer, addresses: Addresses, threads: Threads) -> None:
        self._users = users
        self._audit = audit
        self._addresses = addresses
        self._threads = threads

    async def WhoAmI(self, request: pb.WhoAmIRequest, call: Call) -> pb.User:
        return user_to_pb(await self._threads.call(self._users.whoami, call.who))

    async def CreateUser(self, request: pb.CreateUserRequest, call: Call) -> pb.User:
        role = role_from_pb(request.role)
        if role is None:
            raise Invalid("a new user needs a role")
        return user_to_pb(await self._threads.call(self._users.create, call.who, request.name, role))

    async def GetUser(self, request: pb.GetUserRequest, call: Call) -> pb.User:
        return user_to_pb(await self._threads.call(self._users.get, call.who, request.name))

    async def ListUsers(self, request: pb.ListUsersRequest, call: Call) -> pb.ListUsersReply:
        page = page_from_pb(request.page_size, request.page_token)
        users, following = await self._threads.call(self._users.list, call.who, page)
        return pb.ListUsersReply(users=map(user_to_pb, users), next_page_token=following)

    async def UpdateUser(self, request: pb.UpdateUserRequest, call: Call) -> pb.User:
        role, disabled = role_from_pb(request.role), request.disabled if request.HasField("disabled") else None
        update = self._users.update
        return user_to_pb(await self._threads.call(update, call.who, request.name, role=role, disabled=disabled))

    async def IssueCertificate(self, request: pb.IssueCertificateRequest, call: Call) -> pb.IssueCertificateReply:
        args = (call.who, request.name, request.csr_pem, request.days)
        issued = await self._threads.call(self._users.issue_certificate, *args)
        return pb.IssueCertificateReply(
            certificate_pem=issued.certificate_pem, ca_pem=issued.ca_pem, address=self._addresses.hub
        )

    async def RevokeCertificates(self, request: pb.RevokeCertificatesRequest, call: Call) -> pb.RevokeCertificatesReply:
        revoke = self._users.revoke_certificates
        return pb.RevokeCertificatesReply(revoked=await self._threads.call(revoke, call.who, request.name, request.reason))

    async def CreateToken(self, request: pb.CreateTokenRequest, call: Call) -> pb.CreateTokenReply:
        made = await self._threads.call(
            self._users.create_token,
            call.who,
            user=request.user,
            scope=role_from_pb(request.scope),
            ttl_s=request.ttl_s,
            note=request.note,
        )
        return pb.CreateTokenReply(token=token_to_pb(made.token), secret=made.secret, address=self._addresses.tokens)

    async def ListTokens(self, request: pb.ListTokensRequest, call: Call) -> pb.ListTokensReply:
        found = await self._threads.call(self._users.list_tokens, call.who, request.user)
        return pb.ListTokensReply(tokens=map(token_to_pb, found))

    async def RevokeToken(self, request: pb.RevokeTokenRequest, call: Call) -> pb.Token:
        return token_to_pb(await self._threads.call(self._users.revoke_token, call.who, request.id))

    async def ListAudit(self, request: pb.ListAuditRequest, call: Call) -> pb.ListAuditReply:
        return await self._audit.ListAudit(request, call)

    def ExportAudit(self, request: pb.ExportAuditRequest, call: Call) -> AsyncGenerator[pb.AuditEntry, None]:
        return self._audit.ExportAudit(request, call)

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, call: Call) -> pb.VerifyAuditReply:
        return await self._audit.VerifyAudit(request, call)


def role_from_pb(text: str) -> Role | None:
    """None for none. Raises Invalid."""
    if not text:
        return None
    if text not in _ROLES:
        raise Invalid(f"a user's role is one of {', '.join(sorted(_ROLES))}, got {text[:32]!r}")
    return _ROLES[text]


def user_to_pb(user: User) -> pb.User:
    return pb.User(
        name=user.name,
        tenant=user.tenant,
        role=user.role.value,
        disabled=user.disabled,
        created_at_ms=to_ms(user.created_at),
    )


def token_to_pb(token: Token) -> pb.Token:
    return pb.Token(
        id=token.id,
        user=token.user,
        scope=token.scope.value,
        created_at_ms=to_ms(token.created_at),
        expires_at_ms=to_ms(token.expires_at),
        revoked_at_ms=opt_to_ms(token.revoked_at),
        used_at_ms=opt_to_ms(token.used_at),
        note=token.note,
    )
