"""mosquitto as a supervised child process with a generated configuration."""

import contextlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloud_hub.broker.identity import BrokerIdentity, check_free, reachable
from cloud_hub.broker.takeover import take_over
from cloud_hub.core.config import BrokerConfig
from cloud_hub.core.errors import NotReady
from cloud_hub.core.ports import BrokerAddress, Refusals, TlsFiles
from cloud_hub.trust.authority import MAX_INGEST, Authority, ingest_name
from edge_agent.core.clock import SystemClock
from edge_agent.core.files import write_atomic
from edge_agent.core.seldom import Seldom
from protos.contract import topics

log = logging.getLogger(__name__)

MAX_PACKET_BYTES = 2 << 20
PROTOCOL = 5
_CONFIG_FILE = "mosquitto.conf"

_START_S = 10.0
_STOP_S = 5.0
_BACKOFF_MIN_S = 0.2
_BACKOFF_MAX_S = 5.0
_COMPLAINTS_EVERY_S = 1.0
_FIRST_LIST = timedelta(days=1)  # mosquitto does not start without a list: this one stands until the first real one

# %u is the certificate's common name. A device writes below its own name and reads what is meant for it; nothing else is
# delivered, whatever SUBACK or PUBACK say. The tenant segment is free here: ingest compares it with the device's row.
ACL = """\
user tl:hub
topic readwrite tl/v1/#
{ingest}
pattern write tl/v1/+/%u/up/#
pattern read tl/v1/+/%u/down/#
""".format(
    ingest="".join(
        f"""
user {ingest_name(number)}
topic read {topics.ROOT}/+/+/{topics.TELEMETRY}/#
topic write {topics.ROOT}/+/+/{topics.WATERMARK}
"""
        for number in range(1, MAX_INGEST + 1)
    )
)

# The queue on disk is a comfort, not a promise: nothing leaves a spool before the watermark, and desired twins are published
# again on every reconnect. So the database is saved on a timer and not per message, and queues are bounded by bytes.
_CONFIG = """\
per_listener_settings false
# or every CONNACK after a TLS 1.3 handshake waits 40 ms for an ACK
set_tcp_nodelay true
allow_anonymous false
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_interval 10
max_inflight_messages 20000
max_queued_messages 100000
max_queued_bytes 268435456
max_packet_size {max_packet_bytes}
max_keepalive 3600
persistent_client_expiration 30d
log_dest stdout
log_type error
log_type warning
log_type notice
connection_messages false
user {user}

listener {port} {host}
cafile {tls.ca}
certfile {tls.certificate}
keyfile {tls.key}
crlfile {crl}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""


class MosquittoBroker:
    """Restarts a mosquitto that died, after a growing pause.

    mosquitto asks for certificates and the revocation list when a connection is made, and never again. So a session that is
    open when its certificate is revoked is taken over by the hub, with a certificate of the same name.
    """

    def __init__(
        self, config: BrokerConfig, folder: Path, identity: BrokerIdentity, authority: Authority, *, port: int, name: str
    ) -> None:
        self._config = config
        self._authority = authority
        self._folder = folder.absolute()
        self._identity = identity
        self._address = BrokerAddress(host=name, port=port, protocol=PROTOCOL)
        self._local = BrokerAddress(host=identity.local_host, port=port, protocol=PROTOCOL)
        self._process: subprocess.Popen[str] | None = None
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._last_lines: deque[str] = deque(maxlen=20)

    @property
    def address(self) -> BrokerAddress:
        return self._address

    @property
    def local(self) -> BrokerAddress:
        return self._local

    @property
    def hub_tls(self) -> TlsFiles:
        return self._identity.hub

    @property
    def ingest_tls(self) -> TlsFiles | None:
        return self._identity.ingest

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        self._write_files()
        end_orphans(self._folder)
        check_free(self._config.host, self._local.port)
        self._stopping.clear()
        self._launch()
        self._await_listener()
        self._supervisor = threading.Thread(target=self._supervise, name="broker-supervisor", daemon=True)
        self._supervisor.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._process is not None:
            _end(self._process)
        if self._supervisor is not None:
            self._supervisor.join(_STOP_S)
        self._pid_file.unlink(missing_ok=True)

    def alive(self) -> bool:
        return self.pid is not None and reachable(self._local, self._identity.hub)

    def refuse(self, refusals: Refusals) -> None:
        write_atomic(self._crl_file, refusals.crl_pem.encode(), mode=0o644)
        self._reload()
        if self.pid is None:
            return  # whoever comes next is looked up in the list
        for tenant, device in refusals.newly:
            take_over(self._local, self._identity.hub.ca, device, self._authority.takeover(device, tenant))
            log.info("session ended", extra={"device": device, "tenant": tenant})

    def renew(self) -> None:
        self._identity.renew()
        self._reload()

    def _reload(self) -> None:
        """The list and its own certificate are read again; nobody is disconnected."""
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGHUP)

    @property
    def _crl_file(self) -> Path:
        return self._folder / "crl.pem"

    @property
    def _config_file(self) -> Path:
        return self._folder / _CONFIG_FILE

    @property
    def _pid_file(self) -> Path:
        return self._folder / "mosquitto.pid"

    def _write_files(self) -> None:
        text = _CONFIG.format(
            folder=self._folder,
            host=self._config.host,
            port=self._local.port,
            tls=self._identity.server,
            crl=self._crl_file,
            max_packet_bytes=MAX_PACKET_BYTES,
            user=pwd.getpwuid(os.geteuid()).pw_name,  # as root it would become 'mosquitto', who cannot read our keys
        )
        if not self._crl_file.exists():
            nobody = self._authority.crl((), number=0, now=datetime.now(UTC), valid_for=_FIRST_LIST)
            write_atomic(self._crl_file, nobody.encode(), mode=0o644)
        write_atomic(self._folder / "acl", ACL.encode())
        write_atomic(self._config_file, text.encode())

    def _launch(self) -> None:
        binary = shutil.which(self._config.binary)
        if binary is None:
            raise NotReady(f"no '{self._config.binary}' on the PATH: install mosquitto, or set broker.kind to 'embedded'")
        self._process = subprocess.Popen(
            [binary, "-c", str(self._config_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C at the terminal ends the hub first, and the hub ends it
        )
        threading.Thread(target=self._copy_log, args=(self._process,), name="broker-log", daemon=True).start()
        try:
            write_atomic(self._pid_file, str(self._process.pid).encode())
        except OSError as error:  # a full disk: the file is for people
            log.warning("number of the broker's process not written", extra={"pid": self._process.pid, "error": str(error)})

    def _await_listener(self) -> None:
        deadline = time.monotonic() + _START_S
        process = self._process
        while not self._stopping.is_set() and process is not None:
            if process.poll() is not None:
                raise NotReady(f"mosquitto ended at once with status {process.returncode}: {' | '.join(self._last_lines)}")
            if reachable(self._local, self._identity.hub):
                return
            if time.monotonic() > deadline:
                _end(process)
                raise NotReady(f"mosquitto did not listen on port {self._local.port} within {_START_S:.0f} s")
            time.sleep(0.02)

    def _supervise(self) -> None:
        pause_s = _BACKOFF_MIN_S
        while self._process is not None:
            started = time.monotonic()
            status = self._process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > 10 * _BACKOFF_MAX_S:
                pause_s = _BACKOFF_MIN_S
            log.error("broker died", extra={"status": status, "restart_in_s": pause_s})
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _BACKOFF_MAX_S)
            try:
                self._launch()
            except (OSError, NotReady) as error:
                log.error("broker cannot be started", extra={"reason": str(error)})
            if self._stopping.is_set():  # stop() came while it was being launched
                _end(self._process)

    def _copy_log(self, process: "subprocess.Popen[str]") -> None:
        """Strangers can make it complain as often as they connect: of that, only so much is kept."""
        complaints = Seldom(_COMPLAINTS_EVERY_S, SystemClock())
        for line in process.stdout or ():
            self._last_lines.append(line.rstrip())
            if "OpenSSL Error" not in line:
                log.info("mosquitto", extra={"line": line.rstrip()})
            elif (before := complaints.turn()) is not None:
                log.info("mosquitto", extra={"line": line.rstrip(), "not_logged": before})


def end_orphans(folder: Path) -> None:
    """End every mosquitto that runs the configuration in ``folder``: a hub that was killed left it.

    Looked for among all processes: the hub may have been killed, or its disk full, before it could note the number.
    """
    config = str(folder.absolute() / _CONFIG_FILE).encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[1:3] == [b"-c", config]:
            _end_orphan(int(process.name))


def _end_orphan(pid: int) -> None:
    log.warning("ending an orphaned broker", extra={"pid": pid})
    deadline = time.monotonic() + _STOP_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
