"""The director: what one device is to run, signed when it asks. Its nonce is what timestamp and snapshot are elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from cloud_hub.core.errors import Invalid
from cloud_hub.core.targets import Target
from cloud_hub.trust.tuf.image import target_file
from cloud_hub.trust.tuf.signing import sealed
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import to_ms

NONCE_BYTES = range(16, 33)
FIELD = "tideline"  # of what is signed; TUF's own clients pass over it

_LIFE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    device: DeviceId
    tenant: TenantId
    board: str
    generation: int  # of the desired twin
    nonce: bytes
    targets: Sequence[Target]

    def __post_init__(self) -> None:
        if len(self.nonce) not in NONCE_BYTES:
            raise Invalid(f"a nonce must have 16 to 32 bytes, got {len(self.nonce)}")


def signed(order: Order, signer: CryptoSigner, now: datetime) -> bytes:
    """TUF targets metadata."""
    about = {
        "device": order.device,
        "tenant": order.tenant,
        "board": order.board,
        "generation": order.generation,
        "nonce": order.nonce.hex(),
        "now_ms": to_ms(now),
    }
    files = {target.path: target_file(target) for target in order.targets}
    metadata = Targets(
        version=max(1, order.generation),
        expires=now.replace(microsecond=0) + _LIFE,
        targets=files,
        unrecognized_fields={FIELD: about},
    )
    return sealed(metadata, [signer])
