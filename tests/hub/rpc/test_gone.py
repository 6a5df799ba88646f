"""A caller that hangs up before the hub knows who it is costs the hub nothing."""

import grpc

from protos.v1 import fleet_pb2, fleet_pb2_grpc
from tests.hub.rpc.running import RunningHub


def test_callers_that_leave_while_they_are_looked_up_do_not_end_the_hub(hub: RunningHub) -> None:
    """gRPC frees a call that has ended; whoever asks it for the caller's address then ends the process."""
    for number in range(30):
        user = hub.add_user(f"gone-{number}")  # nobody the hub remembers: each is looked up in the database
        with hub.channel(user) as channel:
            grpc.channel_ready_future(channel).result(10)
            call = fleet_pb2_grpc.FleetStub(channel).ListDevices.future(fleet_pb2.ListDevicesRequest())
            call.cancel()
    with hub.channel(hub.user) as channel:
        assert fleet_pb2_grpc.FleetStub(channel).ListDevices(fleet_pb2.ListDevicesRequest(), timeout=10) is not None
