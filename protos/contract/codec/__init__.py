"""Values <-> protobuf bytes, two adjacent functions per type.

Every ``decode_*`` raises InvalidMessage, and nothing else, for bytes that are not the message; sizes are bounded before
anything is unpacked.
"""

from protos.contract.codec.manifest import decode_golden, decode_manifest, encode_golden, encode_manifest
from protos.contract.codec.message import MAX_TWIN_BYTES
from protos.contract.codec.telemetry import decode_batch, decode_heads, decode_watermark, encode_batch, encode_watermark
from protos.contract.codec.twin import (
    assignment_from_pb,
    assignment_to_pb,
    decode_desired,
    decode_reported,
    decode_status,
    desired_from_pb,
    desired_to_pb,
    encode_desired,
    encode_reported,
    encode_status,
    reported_from_pb,
    reported_to_pb,
)
from protos.contract.codec.unpack import Unpacked, unpack_batches

__all__ = [
    "MAX_TWIN_BYTES",
    "Unpacked",
    "assignment_from_pb",
    "assignment_to_pb",
    "decode_batch",
    "decode_desired",
    "decode_golden",
    "decode_heads",
    "decode_manifest",
    "decode_reported",
    "decode_status",
    "decode_watermark",
    "desired_from_pb",
    "desired_to_pb",
    "encode_batch",
    "encode_desired",
    "encode_golden",
    "encode_manifest",
    "encode_reported",
    "encode_status",
    "encode_watermark",
    "reported_from_pb",
    "reported_to_pb",
    "unpack_batches",
]
