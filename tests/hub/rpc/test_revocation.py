"""Whoever is no longer welcome is gone soon, from calls that say nothing as well."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import update

from cloud_hub.core.model import DEFAULT_TENANT, Principal, Role
from cloud_hub.rpc import admission
from cloud_hub.store import certificates, fleet, tokens, users
from cloud_hub.store.database import Database
from cloud_hub.trust.authority import Issued
from edge_agent.core.clock import SystemClock
from protos.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    alerts_pb2,
    alerts_pb2_grpc,
    artifacts_pb2,
    artifacts_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
)
from tests.e2e.system import wait_for
from tests.hub.rpc.running import ADMIN, RunningHub
from tests.hub.rpc.test_server import DEADLINE_S

WITHIN_S = 5.0  # a fraction of a second on a quiet machine
GONE = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


@dataclass
class Watch:
    """An idle stream, and when and how it ended."""

    channel: grpc.Channel

    def __post_init__(self) -> None:
        self._call = health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest())
        next(self._call)
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        try:
            for _ in self._call:
                pass
        except grpc.RpcError as error:
            self.ended_at, self.error = time.monotonic(), error

    def ends_after(self, change: Callable[[], object]) -> tuple[float, grpc.StatusCode, str]:
        assert self._thread.is_alive(), "it ended before anything changed"
        changed = time.monotonic()
        change()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "nothing ended it"
        return self.ended_at - changed, self.error.code(), self.error.details()


@pytest.fixture
def elsewhere(hub: RunningHub) -> Iterator[Database]:
    """The hub's database as another process has it."""
    db = Database(str(hub.db._backend.engine.url))
    yield db
    db.close()


def user(hub: RunningHub, name: str, role: Role = Role.VIEWER) -> Issued:
    return hub.add_user(name, role)


def test_a_user_whose_certificates_are_revoked_is_cut_off(hub: RunningHub) -> None:
    with hub.channel(user(hub, "revoked")) as channel:
        seconds, code, details = Watch(channel).ends_after(
            lambda: hub.services.users.revoke_certificates(ADMIN, "revoked", "stolen")
        )
        assert (code, seconds <= WITHIN_S) == (grpc.StatusCode.UNAUTHENTICATED, True), f"{seconds:.3f} s, {code}"
        assert "revoked" in details
        with pytest.raises(grpc.RpcError) as again:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        assert again.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_who_revokes_itself_is_told_that_it_did(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    revoke = hub.services.users.revoke_certificates

    def until_others_are_cut_off(*given: Any) -> int:
        revoked = revoke(*given)
        time.sleep(2 * admission.SWEEP_S)
        return revoked

    monkeypatch.setattr(hub.services.users, "revoke_certificates", until_others_are_cut_off)
    with hub.channel(user(hub, "itself", Role.ADMIN)) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        request = admin_pb2.RevokeCertificatesRequest(name="itself", reason="lost")
        assert stub.RevokeCertificates(request, timeout=DEADLINE_S).revoked == 1
        with pytest.raises(grpc.RpcError) as again:
            stub.RevokeCertificates(request, timeout=DEADLINE_S)
        assert again.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_revocation_that_another_process_writes_is_seen(hub: RunningHub, elsewhere: Database) -> None:
    with hub.channel(user(hub, "far")) as channel:
        watch = Watch(channel)

        def revoke() -> None:
            with elsewhere.write() as tx:
                certificates.revoke(tx, certificates.USER, "far", SystemClock().now(), "stolen", tenant=DEFAULT_TENANT)

        seconds, code, _ = watch.ends_after(revoke)
    assert (code, seconds <= WITHIN_S) == (grpc.StatusCode.UNAUTHENTICATED, True), f"{seconds:.3f} s, {code}"


@pytest.mark.parametrize("change", ["disabled", "gone"])
def test_a_user_that_another_process_takes_away_is_cut_off(hub: RunningHub, elsewhere: Database, change: str) -> None:
    name = f"user {change}"
    with hub.channel(user(hub, name)) as channel:
        watch = Watch(channel)

        def take_away() -> None:
            with elsewhere.write() as tx:
                if change == "disabled":
                    users.put(tx, DEFAULT_TENANT, name, role=Role.VIEWER, disabled=True)
                else:
                    tx.execute(users.users.delete().where(users.users.c.name == name))

        seconds, code, _ = watch.ends_after(take_away)
    assert (code, seconds <= WITHIN_S) == (grpc.StatusCode.UNAUTHENTICATED, True), f"{seconds:.3f} s, {code}"


@pytest.mark.parametrize("way", ["here", "elsewhere", "expired"])
def test_a_token_that_ends_takes_its_calls_with_it(hub: RunningHub, elsewhere: Database, way: str) -> None:
    made = hub.services.users.create_token(ADMIN, scope=Role.VIEWER)
    with hub.token_channel(made.secret) as channel:
        watch = Watch(channel)

        def end() -> None:
            if way == "here":
                hub.services.users.revoke_token(ADMIN, made.token.id)
                return
            with elsewhere.write() as tx:
                now = SystemClock().now()
                if way == "elsewhere":
                    tokens.revoke(tx, DEFAULT_TENANT, made.token.id, now)
                else:
                    past = now - timedelta(milliseconds=1)
                    tx.execute(update(tokens.tokens).where(tokens.tokens.c.id == made.token.id).values(expires_at=past))

        seconds, code, _ = watch.ends_after(end)
    assert (code, seconds <= WITHIN_S) == (grpc.StatusCode.UNAUTHENTICATED, True), f"{seconds:.3f} s, {code}"


@pytest.mark.parametrize("way", ["revoked", "deleted", "deleted elsewhere"])
def test_a_device_is_cut_off(hub: RunningHub, elsewhere: Database, way: str) -> None:
    name = f"cam-{way.replace(' ', '-')}"
    with hub.channel(hub.device(name)) as channel:
        watch = Watch(channel)

        def end() -> None:
            if way == "revoked":
                hub.services.enrollment.revoke(ADMIN, fleet.DeviceId(name), "stolen")
            elif way == "deleted":
                hub.services.fleet.delete(ADMIN, fleet.DeviceId(name))
            else:
                with elsewhere.write() as tx:
                    fleet.remove(tx, fleet.DeviceId(name))

        seconds, code, _ = watch.ends_after(end)
    assert (code, seconds <= WITHIN_S) == (grpc.StatusCode.UNAUTHENTICATED, True), f"{seconds:.3f} s, {code}"


def test_a_role_that_changes_holds_on_open_connections(hub: RunningHub) -> None:
    with hub.channel(user(hub, "climber", Role.OPERATOR)) as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        hub.device("cam-climb")
        stub.UpdateDevice(fleet_pb2.UpdateDeviceRequest(id="cam-climb"), timeout=DEADLINE_S)
        hub.services.users.update(ADMIN, "climber", role=Role.VIEWER)
        with pytest.raises(grpc.RpcError) as refused:
            stub.UpdateDevice(fleet_pb2.UpdateDeviceRequest(id="cam-climb"), timeout=DEADLINE_S)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "viewer climber may not call" in refused.value.details()
        hub.services.users.update(ADMIN, "climber", role=Role.ADMIN)
        stub.UpdateDevice(fleet_pb2.UpdateDeviceRequest(id="cam-climb"), timeout=DEADLINE_S)


def test_a_role_that_no_longer_suffices_ends_an_open_stream_and_one_that_does_leaves_it(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/grpc.health.v1.Health/Watch"
    only = admission.Rule(roles=frozenset({Role.OPERATOR, Role.ADMIN}), limit_s=60)
    monkeypatch.setitem(admission.POLICY, path, only)  # type: ignore[arg-type]
    with hub.channel(user(hub, "sinking", Role.OPERATOR)) as channel:
        watch = Watch(channel)
        hub.services.users.update(ADMIN, "sinking", role=Role.ADMIN)
        seconds, code, _ = watch.ends_after(lambda: hub.services.users.update(ADMIN, "sinking", role=Role.VIEWER))
    assert (code, seconds <= WITHIN_S) == (grpc.StatusCode.PERMISSION_DENIED, True), f"{seconds:.3f} s, {code}"


@pytest.mark.parametrize("reads_on", [True, False], ids=["reads on", "never reads again"])
def test_a_stream_that_its_client_does_not_read_is_ended_too(
    hub: RunningHub, reads_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in a write, not for anything to say."""
    name = f"slow {reads_on}"
    monkeypatch.setattr(admission, "STUCK_S", 1.0)
    version = hub.publish(f"large-{reads_on}".lower(), artifact=bytes(64 << 20))
    with hub.channel(user(hub, name)) as channel:
        request = artifacts_pb2.DownloadRequest(digest=version.variants[0].artifact_digest)
        chunks = artifacts_pb2_grpc.ArtifactsStub(channel).Download(request)
        got = len(next(chunks).data)
        wait_for(lambda: any(call.writing for call in hub.server._admission._open), "a write that waits")
        hub.services.users.revoke_certificates(ADMIN, name, "stolen")
        if not reads_on:  # gRPC can send no status behind a write that waits, so the call is dropped
            wait_for(lambda: not hub.server._admission._open, "the end of the call", 4 * admission.STUCK_S)
            chunks.cancel()
            return
        with pytest.raises(grpc.RpcError) as refused:
            for chunk in chunks:
                got += len(chunk.data)
    assert got < 64 << 20
    assert refused.value.code() in GONE


def test_the_others_go_on(hub: RunningHub) -> None:
    with hub.channel(user(hub, "stays")) as channel, hub.channel(user(hub, "goes")) as other:
        stays, goes = alerts_pb2_grpc.AlertsStub(channel).WatchAlerts(alerts_pb2.WatchAlertsRequest()), Watch(other)
        goes.ends_after(lambda: hub.services.users.revoke_certificates(ADMIN, "goes", ""))
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        assert stays.is_active()
        stays.cancel()


def test_users_of_the_same_name_in_two_tenants_are_two(hub: RunningHub) -> None:
    acme = Principal(role=Role.ADMIN, name="boss", tenant=fleet.TenantId("acme"))
    theirs = hub.add_user("twin", Role.VIEWER, acme.tenant)
    ours = user(hub, "twin")
    hub.services.users.revoke_certificates(acme, "twin", "stolen")
    with hub.channel(ours) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    with hub.channel(theirs) as channel, pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
