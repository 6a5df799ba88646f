"""Values that a database cannot hold, in requests."""

import pytest
from google.protobuf.message import Message

from cloud_hub.core.errors import Invalid
from cloud_hub.rpc import values
from protos.v1 import fleet_pb2, telemetry_pb2, telemetry_service_pb2


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (fleet_pb2.GetDeviceRequest(id="cam\0a"), "id"),
        (fleet_pb2.CreateDeviceRequest(id="cam", labels={"site": "no\0rth"}), "labels"),
        (fleet_pb2.CreateDeviceRequest(id="cam", labels={"si\0te": "north"}), "labels"),
        (telemetry_service_pb2.GetQuarantinedRequest(id=2**63), "id"),
        (telemetry_pb2.TelemetryBatch(gaps=[telemetry_pb2.Gap(reason="\0")]), "reason"),
    ],
)
def test_what_no_database_holds_is_refused_by_the_name_of_its_field(request_: Message, field: str) -> None:
    with pytest.raises(Invalid, match=f"'{field}'"):
        values.check(request_)


def test_everything_else_is_let_through() -> None:
    values.check(telemetry_service_pb2.GetQuarantinedRequest(id=2**63 - 1))
    values.check(fleet_pb2.CreateDeviceRequest(id="cam", labels={"site": "\u202e"}))
    values.check(telemetry_pb2.TelemetryBatch(first_sequence=7, inferences=telemetry_pb2.InferenceColumns(label=b"\0" * 9)))
