"""What a connection costs on a link that is paid for by the byte."""

import contextlib
import socket
import struct
import threading

HEADER_BYTES = 52  # IPv4 and TCP with timestamps, of every segment
_RECEIVED_AT, _SEGMENTS_AT, _SENT_AT = 128, 136, 200  # in struct tcp_info of linux/tcp.h
_INFO_BYTES = 208  # through tcpi_bytes_sent, Linux 4.19


def stream_bytes(connection: socket.socket) -> int | None:
    """Both ways so far, within TCP: repeats too. None where the system does not say."""
    info = _tcp_info(connection)
    return None if info is None else _counted(info)


def connection_bytes(connection: socket.socket) -> int | None:
    """Both ways so far with the headers of TCP and IP, as a carrier counts. None where the system does not say."""
    info = _tcp_info(connection)
    return None if info is None else _counted(info) + HEADER_BYTES * sum(struct.unpack_from("=II", info, _SEGMENTS_AT))


def _counted(info: bytes) -> int:
    (received,), (sent,) = struct.unpack_from("=Q", info, _RECEIVED_AT), struct.unpack_from("=Q", info, _SENT_AT)
    return int(received + sent)


def _tcp_info(connection: socket.socket) -> bytes | None:
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except (OSError, AttributeError):
        return None
    return info if len(info) == _INFO_BYTES else None


class Traffic:
    """Adds up one connection after the other. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._past = 0  # connections that ended
        self._connection: socket.socket | None = None
        self._told = 0  # by the present one, last time
        self._estimated = 0  # of it, where the system does not tell

    def begin(self, connection: socket.socket) -> None:
        """A new connection took the place of the one before."""
        with self._lock:
            self._past += max(self._told, self._estimated)
            self._connection, self._told, self._estimated = connection, 0, 0

    def packet(self, size: int) -> None:
        """A packet of MQTT went out or came in."""
        with self._lock:
            self._estimated += size

    def total(self) -> int:
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(ValueError):  # closed meanwhile: the last word stands
                    self._told = connection_bytes(self._connection) or self._told
            return self._past + (self._told or self._estimated)
