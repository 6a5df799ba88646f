"""Fleet: devices and their twins."""

from cloud_hub.core.model import Device
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


class FleetServicer:
    def __init__(self, fleet: FleetService, enrollment: EnrollmentService, addresses: Addresses, threads: Threads) -> None:
        self._fleet = fleet
        self._enrollment = enrollment
        self._addresses = addresses
        self._threads = threads

    async def CreateDevice(self, request: pb.CreateDeviceRequest, call: Call) -> pb.CreateDeviceReply:
        args = (ids.device_id(request.id), request.board, dict(request.labels), request.token_ttl_s or None)
        device, token = await self._threads.call(self._enrollment.create_device, call.who, *args)
        address, ca_pem = self._addresses.enroll, self._enrollment.ca_pem
        return pb.CreateDeviceReply(device=device_to_pb(device), token=token, ca_pem=ca_pem, enroll_address=address)

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
    )
