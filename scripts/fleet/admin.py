"""What a person does with ``hubctl``, for many devices at once."""

from collections.abc import Mapping
from pathlib import Path

from cloud_hub.app.hubctl import settings
from cloud_hub.app.hubctl.hub import TIMEOUT_S, Hub
from edge_agent.sync.enroll import Ticket
from protos.contract import ids
from protos.v1 import fleet_pb2, rollouts_pb2


class Admin:
    """Calls as the user of a ``hubctl.yaml``. Thread-safe."""

    def __init__(self, config: Path, *, address: str = "") -> None:
        """``address``: of the hub, where it is not what the file says. Raises ``Failure`` for a file that cannot be used."""
        chosen = settings.load(config)
        self.hub = Hub(address or chosen.hub, settings.credentials(chosen))

    def roll_out(self, model: str, version: int, selector: Mapping[str, str], *, canary: int = 0, soak_s: int = 0) -> str:
        """In two waves where there is a canary; its id. Raises grpc.RpcError."""
        request = rollouts_pb2.CreateRolloutRequest(
            model=model, version=version, selector=fleet_pb2.Selector(match=selector), canary=canary, soak_s=soak_s
        )
        return str(self.hub.rollouts.CreateRollout(request, timeout=TIMEOUT_S).id)

    def create(self, id: str, board: str, labels: Mapping[str, str]) -> Ticket:
        """Register a device. Raises grpc.RpcError."""
        request = fleet_pb2.CreateDeviceRequest(id=id, board=board, labels=labels)
        reply = self.hub.fleet.CreateDevice(request, timeout=TIMEOUT_S)
        return Ticket(
            device_id=ids.device_id(reply.device.id),
            board=reply.device.board,
            token=reply.token,
            ca_pem=reply.ca_pem,
            enroll_address=reply.enroll_address,
            image_root=bytes(reply.image_root),
            director_root=bytes(reply.director_root),
        )
