"""Ends a client's session at a broker that has no command for it: by connecting under the same name."""

import os
import ssl
import threading
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cloud_hub.core.ports import BrokerAddress
from cloud_hub.trust.authority import Issued

_TIMEOUT_S = 5.0


def take_over(address: BrokerAddress, ca: Path, name: str, issued: Issued) -> None:
    """On return whoever was connected as ``name`` is not, and what the broker kept for that session is gone.

    Raises OSError where the broker cannot be reached or does not answer.
    """
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=True, protocol=MQTTProtocolVersion.MQTTv311)
    client.tls_set_context(_context(ca, issued))
    answered: list[bool] = []
    heard = threading.Event()

    def connected(_client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        answered.append(not reason.is_failure)
        heard.set()

    client.on_connect = connected
    client.connect(address.host, address.port)
    client.loop_start()
    try:
        if not heard.wait(_TIMEOUT_S):
            raise TimeoutError(f"the broker did not answer within {_TIMEOUT_S:.0f} s")
        if not answered[0]:
            raise ConnectionRefusedError(f"the broker does not let the hub in as {name}")
    finally:
        client.disconnect()
        client.loop_stop()


def _context(ca: Path, issued: Issued) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    # the ssl module reads keys from files only: this one has no name and no place on any disk
    with os.fdopen(os.memfd_create("takeover", os.MFD_CLOEXEC), "wb") as pair:
        pair.write((issued.key_pem + issued.certificate_pem).encode())
        pair.flush()
        context.load_cert_chain(f"/proc/self/fd/{pair.fileno()}")
    return context
