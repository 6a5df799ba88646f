"""What is counted of calls."""

import grpc
import pytest

from protos.v1 import fleet_pb2, fleet_pb2_grpc
from tests.e2e.system import wait_for
from tests.hub.rpc.running import RunningHub
from tests.hub.rpc.test_server import DEADLINE_S

GET = "tideline.v1.Fleet/GetDevice"
WATCH = "grpc.health.v1.Health/Watch"


def counted(hub: RunningHub, method: str, code: str) -> float:
    return hub.metrics.registry.get_sample_value("tideline_hub_grpc_calls_total", {"method": method, "code": code}) or 0


def open_calls(hub: RunningHub) -> float | None:
    return hub.metrics.registry.get_sample_value("tideline_hub_grpc_calls_open")


def test_a_call_is_counted_by_method_and_code_and_timed(hub: RunningHub) -> None:
    before = {code: counted(hub, GET, code) for code in ("OK", "NOT_FOUND", "INVALID_ARGUMENT", "UNAUTHENTICATED")}
    hub.device("cam-counted")
    with hub.channel(hub.user) as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        stub.GetDevice(fleet_pb2.GetDeviceRequest(id="cam-counted"), timeout=DEADLINE_S)
        for id in ("nobody", "NO ID"):
            with pytest.raises(grpc.RpcError):
                stub.GetDevice(fleet_pb2.GetDeviceRequest(id=id), timeout=DEADLINE_S)
    expected = {"OK": 1, "NOT_FOUND": 1, "INVALID_ARGUMENT": 1, "UNAUTHENTICATED": 0}
    wait_for(lambda: {code: counted(hub, GET, code) - before[code] for code in before} == expected, "the counts")
    seconds = hub.metrics.registry.get_sample_value("tideline_hub_grpc_call_seconds_count", {"method": GET})
    assert seconds is not None and seconds >= 3


def test_a_caller_that_hangs_up_is_counted_as_cancelled_and_leaves_no_call_open(hub: RunningHub) -> None:
    before, held = counted(hub, WATCH, "CANCELLED"), open_calls(hub) or 0
    with hub.channel(hub.user) as channel:
        watch = channel.unary_stream(f"/{WATCH}")(b"")
        next(watch)
        assert open_calls(hub) == held + 1
        watch.cancel()
        wait_for(lambda: counted(hub, WATCH, "CANCELLED") == before + 1, "the end of the call")
    assert open_calls(hub) == held
