"""What callers can make the hub hold, unfold, look up and write down."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloud_hub.core.audit import AuditFilter
from cloud_hub.core.errors import Exhausted, NotReady
from cloud_hub.core.model import Role
from cloud_hub.core.pages import Page
from cloud_hub.rpc.refusals import Guesses
from cloud_hub.rpc.server import build_server
from cloud_hub.services.access import new_secret
from edge_agent.core.clock import SystemClock
from protos.v1 import admin_pb2, admin_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc, fleet_pb2, fleet_pb2_grpc
from tests.hub.device_keys import DeviceKey
from tests.hub.hubctl.conftest import write_config
from tests.hub.mqtt_parts import wait_for
from tests.hub.rpc.running import ADMIN, BROKER, RunningHub
from tests.hub.rpc.test_server import DEADLINE_S

GET, ENROLL = "/tideline.v1.Fleet/GetDevice", "/tideline.v1.Enrollment/Enroll"
RENEW = "/tideline.v1.Enrollment/Renew"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub for one test, which may spoil its address' good name."""
    running = RunningHub(tmp_path)
    yield running
    running.close()


def refusal(call: Any, *args: Any, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        call(*args, timeout=DEADLINE_S, **options)
    return refused.value


SEND_BOMBS = """
import pathlib, sys, grpc
folder, *ports = sys.argv[1:]
ca, key, cert = ((pathlib.Path(folder) / name).read_bytes() for name in ("ca.pem", "user.key", "user.pem"))
for address, path, identity in zip(ports[::2], ports[1::2], ((key, cert), (), ())):
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, *identity)) as channel:
        for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            try:
                channel.unary_unary(path)(bytes(400 << 20), compression=algorithm, timeout=60)
                print("OK")
            except grpc.RpcError as error:
                print(error.code().name)
"""


def test_a_small_message_that_unfolds_into_a_large_one_is_refused_and_takes_no_memory(hub: RunningHub, tmp_path: Path) -> None:
    """400 MB of zeros are less than half a megabyte on the wire. Another process sends them, so that this one's memory is the
    hub's."""
    write_config(tmp_path, hub, hub.user)
    told = hub.server.addresses
    words = [told.hub, GET, told.enroll, ENROLL, told.tokens, GET]
    Path("/proc/self/clear_refs").write_text("5")  # from here on the high-water mark is of this test
    before = memory_mb("VmHWM")
    client = [sys.executable, "-c", SEND_BOMBS, str(tmp_path), *words]
    codes = subprocess.run(client, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    assert codes[:4] == ["RESOURCE_EXHAUSTED"] * 4, codes
    assert set(codes[4:]) <= {"RESOURCE_EXHAUSTED", "UNAUTHENTICATED"}, codes  # a stranger's request may not be read at all
    grown = memory_mb("VmHWM") - before
    assert grown < 100, f"it unfolded: the hub grew by {grown:.0f} MB"


def memory_mb(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def test_a_compressed_message_within_the_limit_is_taken(hub: RunningHub) -> None:
    with hub.channel(hub.user) as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        stub.ListDevices(fleet_pb2.ListDevicesRequest(), compression=grpc.Compression.Gzip, timeout=DEADLINE_S)


@pytest.mark.parametrize("metadata", [[("x-large", "y" * 64_000)], [(f"x-{n}", "y" * 40) for n in range(1000)]])
@pytest.mark.parametrize("port", ["hub", "tokens", "enroll"])
def test_a_flood_of_headers_is_refused_and_the_connection_lives_on(
    hub: RunningHub, port: str, metadata: list[tuple[str, str]]
) -> None:
    channel = {"hub": lambda: hub.channel(hub.user), "tokens": hub.token_channel, "enroll": hub.enroll_channel}[port]()
    with channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert refusal(check, health_pb2.HealthCheckRequest(), metadata=metadata).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)


def test_a_strangers_request_is_not_read(hub: RunningHub) -> None:
    """Its answer comes while the request is still being sent: nothing of it has to be kept."""
    ended = threading.Event()

    def endless() -> Iterator[bytes]:
        yield bytes(1 << 20)
        ended.wait(DEADLINE_S)  # the rest never comes

    with hub.token_channel() as channel:
        call = channel.stream_unary("/tideline.v1.Datasets/ImportSamples")
        error = refusal(call, endless())
    ended.set()
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


def test_whoever_guesses_tokens_is_slowed_and_a_good_token_is_not(own: RunningHub) -> None:
    good = own.services.users.create_token(ADMIN).secret
    request = admin_pb2.WhoAmIRequest()
    with own.token_channel(good) as channel:
        admin_pb2_grpc.AdminStub(channel).WhoAmI(request, timeout=DEADLINE_S)  # it has been seen to be good
        codes = []
        for _ in range(15):
            with own.token_channel(new_secret()[0]) as guess:
                codes.append(refusal(admin_pb2_grpc.AdminStub(guess).WhoAmI, request).code())
        assert codes[:10] == [grpc.StatusCode.UNAUTHENTICATED] * 10
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) >= 3
        own.services.access.changed()  # so that it has to be looked up again
        admin_pb2_grpc.AdminStub(channel).WhoAmI(request, timeout=DEADLINE_S)


def test_strangers_do_not_fill_the_audit_log_and_what_is_left_out_is_counted(own: RunningHub) -> None:
    with own.token_channel() as channel:
        for _ in range(200):
            refusal(channel.unary_unary(GET), b"")
    entries, _ = own.services.audit.list(ADMIN, AuditFilter(action=GET), Page(size=500))
    assert 1 <= len(entries) < 100
    assert {(entry.who, entry.role, entry.result) for entry in entries} == {("", "anonymous", "UNAUTHENTICATED")}
    assert len(entries) == 1 or "more before this one" in entries[0].detail


def test_one_address_cannot_take_every_place_for_enrolment(own: RunningHub) -> None:
    given_up = threading.Event()

    def silent() -> Iterator[bytes]:
        given_up.wait(DEADLINE_S)
        yield from ()

    with own.enroll_channel() as channel:
        calls = [channel.stream_unary(ENROLL).future(silent(), timeout=DEADLINE_S) for _ in range(30)]
        wait_for(lambda: sum(call.done() for call in calls) == 14, "all but sixteen are refused")
        told = {call.exception().details() for call in calls if call.done()}
        given_up.set()
        for call in calls:
            call.cancel()
        wait_for(lambda: _healthy(channel), "the places are free again")
    assert told == {"127.0.0.1 has 16 calls open: end one first"}


def _healthy(channel: grpc.Channel) -> bool:
    try:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return False
    return True


def test_a_device_that_renews_without_end_does_not_fill_the_audit_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_hub.rpc.record._STRANGER_CALLS", 20)
    running = RunningHub(tmp_path)
    _, token = running.services.enrollment.create_device(ADMIN, "cam-again", "camera-x86", {})
    key, following = DeviceKey(), DeviceKey()
    pem = running.services.enrollment.enroll(token, key.csr, "camera-x86").certificate_pem
    request = enrollment_pb2.RenewRequest(certificate_pem=pem, csr_pem=following.csr, signature=key.vouch(following))
    codes = []
    with running.enroll_channel() as channel:
        for _ in range(60):
            try:
                enrollment_pb2_grpc.EnrollmentStub(channel).Renew(request, timeout=DEADLINE_S)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
    entries, _ = running.services.audit.list(ADMIN, AuditFilter(action=RENEW), Page(size=500))
    running.close()
    assert codes[:20] == [grpc.StatusCode.OK] * 20
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) >= 20
    assert len(entries) == 2 * codes.count(grpc.StatusCode.OK), "what is refused so leaves nothing"


def test_whoever_has_one_address_of_ipv6_has_the_others_beside_it() -> None:
    guesses = Guesses(2, 0.0, SystemClock())
    for last in (1, 2):
        guesses.wrong(f"2001:db8::{last}")
    with pytest.raises(Exhausted):
        guesses.check("2001:db8::3")
    guesses.check("2001:db8:0:1::3")


def test_a_token_and_a_certificate_do_not_mix(hub: RunningHub) -> None:
    """A token on the certificates' port is nothing: whoever has both is whom the certificate says."""
    viewer, secret = hub.add_user("only looks", Role.VIEWER), hub.services.users.create_token(ADMIN).secret
    with hub.channel(viewer) as channel:
        metadata = [("authorization", f"Bearer {secret}")]
        found = admin_pb2_grpc.AdminStub(channel).WhoAmI(admin_pb2.WhoAmIRequest(), metadata=metadata, timeout=DEADLINE_S)
    assert (found.name, found.role) == ("only looks", "viewer")


def test_for_development_tokens_travel_in_plain_text_on_one_machine(tmp_path: Path) -> None:
    running = RunningHub(tmp_path / "loopback", insecure_dev=True)
    secret = running.services.users.create_token(ADMIN).secret
    with grpc.insecure_channel(running.server.addresses.tokens) as channel:
        metadata = [("authorization", f"Bearer {secret}")]
        found = admin_pb2_grpc.AdminStub(channel).WhoAmI(admin_pb2.WhoAmIRequest(), metadata=metadata, timeout=DEADLINE_S)
    running.close()
    assert found.name == "ada"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "hub.example.org"])
def test_where_others_can_listen_nothing_speaks_plain_text(hub: RunningHub, host: str) -> None:
    config = replace(hub.config.grpc, host=host)

    async def build() -> None:
        build_server(
            hub.services, authority=hub.authority, broker=BROKER, config=config, clock=SystemClock(), insecure_dev=True
        )

    with pytest.raises(NotReady, match="plain text"):
        asyncio.run(build())
