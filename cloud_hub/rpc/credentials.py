"""The server's own certificate, renewed while the server runs."""

import threading
from collections.abc import Sequence
from datetime import timedelta

import grpc

from cloud_hub.trust.authority import Authority
from edge_agent.core.clock import Clock

_DAYS = 90
_RENEW_AFTER = timedelta(days=60)


class ServerCertificate:
    """One certificate for both ports. A handshake after RENEW_AFTER gets a new one; open connections keep theirs."""

    def __init__(self, authority: Authority, names: Sequence[str], clock: Clock) -> None:
        self._authority = authority
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()
        self._issued_at = clock.now()
        self._current = self._issue()

    def credentials(self, *, client_certificates: bool) -> grpc.ServerCredentials:
        """``client_certificates``: refuse a peer that shows none from our authority, in the handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._current, self._newest, require_client_authentication=client_certificates
        )

    def _newest(self) -> grpc.ServerCertificateConfiguration:
        with self._lock:  # handshakes come from several threads
            now = self._clock.now()
            if now - self._issued_at > _RENEW_AFTER:
                self._issued_at, self._current = now, self._issue()
            return self._current

    def _issue(self) -> grpc.ServerCertificateConfiguration:
        issued = self._authority.issue_server(self._names, days=_DAYS)
        pair = (issued.key_pem.encode(), issued.certificate_pem.encode())
        return grpc.ssl_server_certificate_configuration([pair], self._authority.ca_pem.encode())
