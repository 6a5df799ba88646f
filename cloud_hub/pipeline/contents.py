"""Stored samples that are no pictures -> what devices see."""

import hashlib
from collections.abc import Callable

from cloud_hub.pipeline.clean import CleaningReport, Decode, RawSample
from edge_agent.infer.inputs import Content, decode_content
from protos.contract.errors import InvalidMessage
from protos.contract.inputs import SampleKind


def decoder(kind: SampleKind, same: Callable[[Content], bytes] | None = None) -> Decode:
    """Windows, rows or texts; two are the same where ``same`` gives the same, by default where their bytes are."""

    def decode(sample: RawSample, report: CleaningReport) -> tuple[bytes, Content] | None:
        try:
            content = decode_content(sample.content, kind)
        except InvalidMessage:
            report.drop(f"not a readable {kind.name.lower()}", sample.name or sample.id)
            return None
        return hashlib.sha256(sample.content).digest() if same is None else same(content), content

    return decode
