"""A real mosquitto with mutual TLS on a free port, and an observer who sees all of it."""

import getpass
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.agent.sync.authority import Authority

DEADLINE_S = 20.0


class Mosquitto:
    """Restartable on the same port; it keeps nothing across a kill."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        folder.mkdir()
        key, certificate = authority.issue("localhost")
        for name, content in (("key.pem", key), ("cert.pem", certificate), ("ca.pem", authority.pem)):
            (folder / name).write_bytes(content)
        self._authority, self._crl = authority, folder / "crl.pem"
        self._crl.write_bytes(authority.crl(()))
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"cafile {folder}/ca.pem\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n"
            f"crlfile {self._crl}\n"
            "require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
            f"user {getpass.getuser()}\n"  # started by root it would give root up, and could not read the keys
            "persistence false\nmax_inflight_messages 500\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE_S
        while not _accepts(self.port):
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def revoke(self, serials: Iterable[str]) -> None:
        """From now on these, and only these, are refused; every connection is cut, as a take-over would."""
        self._crl.write_bytes(self._authority.crl(serials))
        self.kill()
        self.start()

    def pause(self) -> None:
        """Connections stay, and nothing is taken from them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


class Observer:
    """A subscriber to everything that can also publish anything."""

    def __init__(self, folder: Path, authority: Authority, port: int) -> None:
        folder.mkdir()
        key, certificate = authority.issue("observer")
        (folder / "key.pem").write_bytes(key)
        (folder / "cert.pem").write_bytes(certificate)
        (folder / "ca.pem").write_bytes(authority.pem)
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._arrived: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self._subscribed: queue.Queue[None] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="observer", clean_session=True)
        self._client.tls_set_context(context)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("tl/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.put(None)
        self._client.on_message = lambda _c, _u, m: self._arrived.put((m.topic, bytes(m.payload), m.retain))
        self._client.connect("localhost", port)
        self._client.loop_start()
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        self._subscribed.get(timeout=DEADLINE_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE_S)

    def expect(self, wanted: Callable[[str, bytes, bool], bool]) -> bytes:
        """Payload of the next message that is wanted; what comes before it is dropped."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            topic, payload, retained = self._arrived.get(timeout=max(0.01, deadline - time.monotonic()))
            if wanted(topic, payload, retained):
                return payload

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def installed() -> bool:
    return shutil.which("mosquitto") is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.01)  # between looks at a condition that has no event


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        time.sleep(0.02)  # between looks: a process that starts has no event
        return False
    return True
