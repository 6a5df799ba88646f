"""Ports, limits, certificates, health."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloud_hub.core.config import GrpcConfig
from cloud_hub.core.model import Role
from cloud_hub.rpc.credentials import ServerCertificate
from cloud_hub.rpc.server import build_server
from edge_agent.core.errors import ConfigError
from protos.v1 import fleet_pb2, fleet_pb2_grpc, rollouts_pb2, rollouts_pb2_grpc
from tests.hub.rpc.running import BROKER, RunningHub

DEADLINE_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.time = self._start = datetime.now(UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return (self.time - self._start).total_seconds()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub with little room, for one test."""
    running = RunningHub(tmp_path, max_concurrent=4)
    yield running
    running.close()


def test_a_second_hub_on_the_same_port_is_an_error(hub: RunningHub) -> None:
    taken = replace(hub.config.grpc, port=int(hub.address.rpartition(":")[2]))

    async def build() -> None:
        build_server(hub.services, authority=hub.authority, broker=BROKER, config=taken, clock=Clock())

    with pytest.raises(RuntimeError):
        asyncio.run(build())


def test_calls_above_the_limit_are_refused_and_not_queued(own: RunningHub) -> None:
    with own.channel(own.user) as one, own.channel(own.add_user("bea", Role.VIEWER)) as other:
        stubs = [health_pb2_grpc.HealthStub(channel) for channel in (one, other)]
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for stub in stubs for _ in range(2)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as refused:
            stubs[0].Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_user_does_not_take_every_place(own: RunningHub) -> None:
    with own.channel(own.user) as greedy, own.channel(own.add_user("bea", Role.VIEWER)) as modest:
        stub = health_pb2_grpc.HealthStub(greedy)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        health_pb2_grpc.HealthStub(modest).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "user ada has 2 calls open" in refused.value.details()


def test_large_metadata_is_refused(hub: RunningHub) -> None:
    with hub.channel(hub.user) as channel, pytest.raises(grpc.RpcError) as refused:
        fleet_pb2_grpc.FleetStub(channel).ListDevices(
            fleet_pb2.ListDevicesRequest(), metadata=[("x-large", "y" * 64_000)], timeout=DEADLINE_S
        )
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_hub_that_stops_says_so_to_those_who_watch_its_health(tmp_path: Path) -> None:
    running = RunningHub(tmp_path)
    with running.channel(running.user) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stopping = threading.Thread(target=running.close)
        stopping.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        stopping.join(DEADLINE_S)
    assert not stopping.is_alive()


@pytest.mark.parametrize("port", ["hub", "enroll"])
def test_health_is_for_everyone_who_gets_through(hub: RunningHub, port: str) -> None:
    channel = hub.channel(hub.user) if port == "hub" else hub.enroll_channel()
    with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_certificate_that_expires_on_an_open_connection_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    running = RunningHub(tmp_path, clock=clock)
    with running.channel(running.user) as channel:
        fleet = fleet_pb2_grpc.FleetStub(channel)
        fleet.ListDevices(fleet_pb2.ListDevicesRequest())
        clock.time += timedelta(days=400)
        with pytest.raises(grpc.RpcError) as refused:
            fleet.ListDevices(fleet_pb2.ListDevicesRequest())
    running.close()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "expired at" in refused.value.details()


def test_a_new_connection_gets_a_new_server_certificate_in_time(hub: RunningHub) -> None:
    clock = Clock()
    certificate = ServerCertificate(hub.authority, ("localhost",), clock)
    first: Any = certificate._newest()
    clock.time += timedelta(days=59)
    assert certificate._newest() is first
    clock.time += timedelta(days=2)
    assert certificate._newest() is not first


def test_a_device_has_a_bounded_number_of_calls_and_the_others_go_on(hub: RunningHub) -> None:
    with hub.channel(hub.device("cam-greedy")) as greedy, hub.channel(hub.device("cam-modest")) as modest:
        stub = health_pb2_grpc.HealthStub(greedy)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(16)]
        for watch in watches:
            next(watch)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        health_pb2_grpc.HealthStub(modest).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_stranger_cannot_hold_places_of_the_enrolment_port(hub: RunningHub) -> None:
    with hub.enroll_channel() as channel, pytest.raises(grpc.RpcError) as refused:
        next(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_watchers_leave_threads_for_the_others(tmp_path: Path) -> None:
    running = RunningHub(tmp_path, threads=2)
    running.device("cam-a")
    running.publish("watched")
    with running.channel(running.user) as channel:
        stub = rollouts_pb2_grpc.RolloutsStub(channel)
        id = stub.CreateRollout(rollouts_pb2.CreateRolloutRequest(model="watched", version=1)).id
        watches = [stub.WatchRollout(rollouts_pb2.GetRolloutRequest(id=id)) for _ in range(64)]
        for watch in watches:
            next(watch)
        for _ in range(20):
            fleet_pb2_grpc.FleetStub(channel).ListDevices(fleet_pb2.ListDevicesRequest(), timeout=5)
    running.close()


def test_two_ports_that_are_the_same_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"grpc\.enroll_port"):
        GrpcConfig(port=7443, enroll_port=7443)
    GrpcConfig(port=0, enroll_port=0, token_port=0)  # each takes a free one
