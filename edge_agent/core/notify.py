"""Word to the service manager: sd_notify(3) in its few lines, so that nobody needs a library for it."""

import contextlib
import os
import socket
from collections.abc import Callable, MutableMapping

Notify = Callable[[str], None]


def service_manager(environment: MutableMapping[str, str] = os.environ) -> Notify:
    """What sends ``READY=1``, ``WATCHDOG=1`` or ``STOPPING=1``; it does nothing where no service manager listens.

    The address leaves the environment: a child would otherwise speak for its parent, as mosquitto does.
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]

    def notify(state: str) -> None:
        if not address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address)

    return notify
