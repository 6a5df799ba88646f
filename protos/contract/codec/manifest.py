"""Manifests and golden sets."""

from protos.contract import ids
from protos.contract.codec.ends import input_of, output_of, put_input, put_output
from protos.contract.codec.message import bounded, decoder, enum, parse
from protos.contract.errors import ContractError, InvalidMessage, InvalidValue
from protos.contract.manifest import (
    MAX_GOLDEN_BYTES,
    SCHEMA,
    Blob,
    Chunks,
    Format,
    GoldenRef,
    GoldenSet,
    Manifest,
    Precision,
)
from protos.contract.twin import MAX_MANIFEST_BYTES
from protos.v1 import manifest_pb2


def encode_manifest(manifest: Manifest) -> bytes:
    """Raises InvalidValue for more labels than a manifest has room for, or what its 32-bit floats cannot tell apart."""
    message = manifest_pb2.ModelManifest(
        schema=SCHEMA,
        name=manifest.name,
        version=manifest.version,
        task=manifest.task,
        artifact=_blob_to_pb(manifest.artifact),
        format=enum(manifest.format),
        precision=enum(manifest.precision),
        golden=manifest_pb2.Golden(blob=_blob_to_pb(manifest.golden.blob), tolerance=manifest.golden.tolerance),
        boards=manifest.boards,
        chunk_bytes=manifest.chunks.size_bytes if manifest.chunks else 0,
        chunk_digests=b"".join(manifest.chunks.digests) if manifest.chunks else b"",
    )
    put_input(message, manifest.input)
    put_output(message, manifest.output)
    data = message.SerializeToString(deterministic=True)
    if len(data) > MAX_MANIFEST_BYTES:
        raise InvalidValue(f"manifest of {len(data)} bytes, more than {MAX_MANIFEST_BYTES}: use fewer or shorter labels")
    try:
        decode_manifest(data)
    except ContractError as error:
        raise InvalidValue(f"no device could read the manifest: {error}") from error
    return data


@decoder
def decode_manifest(data: bytes) -> Manifest:
    """Floats come back rounded to 32 bits."""
    message = parse(manifest_pb2.ModelManifest(), bounded(data, MAX_MANIFEST_BYTES))
    if message.schema != SCHEMA:
        raise InvalidMessage(f"manifest schema {message.schema} is not {SCHEMA}: update the agent")
    return Manifest(
        name=ids.model_name(message.name),
        version=message.version,
        task=message.task,
        artifact=_blob_from_pb(message.artifact),
        format=Format(message.format),
        precision=Precision(message.precision),
        input=input_of(message),
        output=output_of(message),
        golden=GoldenRef(blob=_blob_from_pb(message.golden.blob), tolerance=message.golden.tolerance),
        boards=tuple(message.boards),
        chunks=_chunks_from_pb(message) if message.chunk_bytes else None,
    )


def _chunks_from_pb(message: manifest_pb2.ModelManifest) -> Chunks:
    digests = message.chunk_digests  # a rest that is no digest is refused by its length
    return Chunks(
        size_bytes=message.chunk_bytes, digests=tuple(digests[start : start + 32] for start in range(0, len(digests), 32))
    )


def encode_golden(golden: GoldenSet) -> bytes:
    return manifest_pb2.GoldenSet(
        count=golden.count,
        height=golden.height,
        width=golden.width,
        size=golden.size,
        frames=golden.frames,
        outputs=golden.outputs,
        samples=golden.samples,
    ).SerializeToString(deterministic=True)


@decoder
def decode_golden(data: bytes) -> GoldenSet:
    message = parse(manifest_pb2.GoldenSet(), bounded(data, MAX_GOLDEN_BYTES))
    return GoldenSet(
        count=message.count,
        height=message.height,
        width=message.width,
        size=message.size,
        frames=message.frames,
        outputs=message.outputs,
        samples=tuple(message.samples),
    )


def _blob_to_pb(blob: Blob) -> manifest_pb2.Blob:
    return manifest_pb2.Blob(digest=blob.digest, size_bytes=blob.size_bytes)


def _blob_from_pb(message: manifest_pb2.Blob) -> Blob:
    return Blob(digest=ids.digest(message.digest), size_bytes=message.size_bytes)
