"""Names that travel in topics, certificates and file paths, so they are narrow by construction."""

import hashlib
import re
from typing import NewType

from protos.contract.errors import InvalidId

DeviceId = NewType("DeviceId", str)
TenantId = NewType("TenantId", str)
ModelName = NewType("ModelName", str)
Digest = NewType("Digest", str)  # "sha256:" and 64 lower-case hex digits

_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # a DNS label: safe as a topic segment, a common name and a file name
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def device_id(text: str) -> DeviceId:
    """Raises InvalidId."""
    return DeviceId(_checked("device id", text))


def tenant_id(text: str) -> TenantId:
    """Raises InvalidId."""
    return TenantId(_checked("tenant", text))


def model_name(text: str) -> ModelName:
    """Raises InvalidId."""
    return ModelName(_checked("model name", text))


def package_version(text: str) -> str:
    """Raises InvalidId."""
    if not _VERSION.fullmatch(text):
        raise InvalidId(f"version must be 1 to 63 of A-Z, a-z, 0-9, '.', '_', '-' and '+', and begin plain, got {text[:80]!r}")
    return text


def digest(text: str) -> Digest:
    """Raises InvalidId."""
    if not _DIGEST.fullmatch(text):
        raise InvalidId(f"digest must be 'sha256:' and 64 hex digits, got {text[:80]!r}")
    return Digest(text)


def digest_of(data: bytes) -> Digest:
    """The content address of ``data``."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def _checked(what: str, text: str) -> str:
    if not _ID.fullmatch(text):
        raise InvalidId(f"{what} must be 1 to 63 of a-z, 0-9 and inner '-', got {text[:80]!r}")
    return text
