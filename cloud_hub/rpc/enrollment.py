"""Enrollment: a token, or an older certificate, and a CSR for a certificate."""

from cloud_hub.rpc.addresses import Addresses
from cloud_hub.rpc.guard import Call
from cloud_hub.rpc.threads import Threads
from cloud_hub.services.enrollment import Enrolled, EnrollmentService
from protos.v1 import enrollment_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Enrollment"]


class EnrollmentServicer:
    def __init__(self, enrollment: EnrollmentService, addresses: Addresses, threads: Threads) -> None:
        self._enrollment = enrollment
        self._addresses = addresses
        self._threads = threads

    async def Enroll(self, request: pb.EnrollRequest, call: Call) -> pb.EnrollReply:
        enrolled = await self._threads.call(self._enrollment.enroll, request.token, request.csr_pem, request.board)
        return reply_to_pb(enrolled, self._addresses)

    async def Renew(self, request: pb.RenewRequest, call: Call) -> pb.RenewReply:
        args = (request.certificate_pem, request.csr_pem, request.signature)
        renewed = await self._threads.call(self._enrollment.renew, *args)
        return pb.RenewReply(certificate_pem=renewed.certificate_pem, ca_pem=renewed.ca_pem)


def reply_to_pb(enrolled: Enrolled, addresses: Addresses) -> pb.EnrollReply:
    broker = addresses.broker
    return pb.EnrollReply(
        device_id=enrolled.device_id,
        tenant=enrolled.tenant,
        certificate_pem=enrolled.certificate_pem,
        ca_pem=enrolled.ca_pem,
        hub_address=addresses.hub,
        broker=pb.Broker(host=broker.host, port=broker.port, protocol=broker.protocol),
        enroll_address=addresses.enroll,
    )
