"""Fleet: devices and their twins."""

from collections.abc import Callable
from functools import partial

from cloud_hub.core.model import Credential, Device
from cloud_hub.rpc.addresses import Addresses
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.requests import page_from_pb
from cloud_hub.rpc.threads import Threads
from cloud_hub.rpc.times import opt_to_ms
from cloud_hub.services.enrollment import EnrollmentService
from cloud_hub.services.fleet import FleetService
from protos.contract import codec, ids
from protos.contract.telemetry import to_ms
from protos.v1 import fleet_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Fleet"]


Roots = Callable[
    [], tuple[bytes, bytes] | None
]  # TUF root metadata of the image repository and of the director; None: none yet


class FleetServicer:
    def __init__(
        self,
        fleet: FleetService,
        enrollment: EnrollmentService,
        addresses: Addresses,
        threads: Threads,
        roots: Roots,
    ) -> None:
        self._fleet = fleet
        self._enrollment = enrollment
        self._addresses = addresses
        self._threads = threads
        self._roots = roots

    async def CreateDevice(self, request: pb.CreateDeviceRequest, call: Call) -> pb.CreateDeviceReply:
        args = (ids.device_id(request.id), request.board, dict(request.labels), request.token_ttl_s or None)
        create = partial(self._enrollment.create_device, needs_approval=request.needs_approval)
        return await self._ticket(*await self._threads.call(create, call.who, *args))

    async def EnrollDevice(self, request: pb.EnrollDeviceRequest, call: Call) -> pb.CreateDeviceReply:
        enroll = partial(self._enrollment.enroll_device, needs_approval=request.needs_approval)
        args = (ids.device_id(request.id), request.token_ttl_s or None)
        return await self._ticket(*await self._threads.call(enroll, call.who, *args))

    async def ApproveDevice(self, request: pb.ApproveDeviceRequest, call: Call) -> pb.Device:
        args = (ids.device_id(request.id), request.fingerprint)
        return device_to_pb(await self._threads.call(self._enrollment.approve, call.who, *args))

    async def RevokeDevice(self, request: pb.RevokeDeviceRequest, call: Call) -> pb.Device:
        args = (ids.device_id(request.id), request.reason)
        return device_to_pb(await self._threads.call(self._enrollment.revoke, call.who, *args))

    async def RotateDevice(self, request: pb.RotateDeviceRequest, call: Call) -> pb.Device:
        return device_to_pb(await self._threads.call(self._enrollment.rotate, call.who, ids.device_id(request.id)))

    async def GetDevice(self, request: pb.GetDeviceRequest, call: Call) -> pb.Device:
        return device_to_pb(await self._threads.call(self._fleet.get, call.who, ids.device_id(request.id)))

    async def ListDevices(self, request: pb.ListDevicesRequest, call: Call) -> pb.ListDevicesReply:
        page = page_from_pb(request.page_size, request.page_token)
        devices, following = await self._threads.call(self._fleet.list, call.who, dict(request.selector.match), page)
        return pb.ListDevicesReply(devices=map(device_to_pb, devices), next_page_token=following)

    async def UpdateDevice(self, request: pb.UpdateDeviceRequest, call: Call) -> pb.Device:
        device = ids.device_id(request.id)
        return device_to_pb(await self._threads.call(self._fleet.set_labels, call.who, device, dict(request.labels)))

    async def DeleteDevice(self, request: pb.DeleteDeviceRequest, call: Call) -> pb.DeleteDeviceReply:
        await self._threads.call(self._fleet.delete, call.who, ids.device_id(request.id))
        return pb.DeleteDeviceReply()

    async def _ticket(self, device: Device, token: str) -> pb.CreateDeviceReply:
        roots = await self._threads.call(self._roots)
        image, director = roots or (b"", b"")
        return pb.CreateDeviceReply(
            device=device_to_pb(device),
            token=token,
            ca_pem=self._enrollment.ca_pem,
            enroll_address=self._addresses.enroll,
            image_root=image,
            director_root=director,
        )


def device_to_pb(device: Device) -> pb.Device:
    return pb.Device(
        id=device.id,
        tenant=device.tenant,
        board=device.board,
        labels=dict(device.labels),
        enrolled=device.enrolled,
        presence=device.presence or 0,  # type: ignore[arg-type]  # numbers are the wire's
        last_seen_ms=opt_to_ms(device.last_seen),
        desired=codec.desired_to_pb(device.desired),
        reported=codec.reported_to_pb(device.reported) if device.reported else None,
        created_at_ms=to_ms(device.created_at),
        credential=_credential_to_pb(device.credential) if device.credential else None,
        pending_fingerprint=device.pending_fingerprint,
    )


def _credential_to_pb(credential: Credential) -> pb.Credential:
    return pb.Credential(
        serial=credential.serial,
        issued_at_ms=to_ms(credential.issued_at),
        expires_at_ms=to_ms(credential.expires_at),
        revoked_at_ms=opt_to_ms(credential.revoked_at),
        reason=credential.reason,
    )
