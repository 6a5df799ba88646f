"""The server's own certificate, renewed while the server runs."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import grpc

from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import Clock

_DAYS = 90
_RENEW_AFTER = timedelta(days=60)


class ServerCertificate:
    """One certificate for all ports. A handshake after RENEW_AFTER, under a new issuing authority, or with a clock that went
    back gets a new one; open connections keep theirs."""

    def __init__(self, authority: Authority, names: Sequence[str], clock: Clock) -> None:
        self._authority = authority
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()
        self._issued_at, self._chain = clock.now(), authority.chain
        self._current = self._issue()

    def credentials(self, *, client_certificates: bool) -> grpc.ServerCredentials:
        """For one port. ``client_certificates``: refuse a peer that shows none from our authority, in the handshake."""
        first = self._newest()
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._changes(first),  # type: ignore[arg-type]  # None is fine: unchanged
            require_client_authentication=client_certificates,
        )

    def _changes(self, told: grpc.ServerCertificateConfiguration) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """What one port asks at every handshake: None as long as it has the newest. Told the same again, gRPC makes everything
        anew, and two handshakes at once, which then free it twice, end the process."""
        asked = threading.Lock()  # handshakes come from several threads

        def change() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            with asked:
                newest = self._newest()
                if newest is told:
                    return None
                told = newest
                return newest

        return change

    def _newest(self) -> grpc.ServerCertificateConfiguration:
        with self._lock:  # handshakes come from several threads
            now = self._clock.now()
            # a clock that went back makes it old too: it is not good yet
            if not timedelta(0) <= now - self._issued_at <= _RENEW_AFTER or self._chain != self._authority.chain:
                self._issued_at, self._chain, self._current = now, self._authority.chain, self._issue()
            return self._current

    def _issue(self) -> grpc.ServerCertificateConfiguration:
        issued = self._authority.issue_server(self._names, days=_DAYS)
        pair = (issued.key_pem.encode(), issued.certificate_pem.encode())
        return grpc.ssl_server_certificate_configuration([pair], self._authority.ca_pem.encode())
