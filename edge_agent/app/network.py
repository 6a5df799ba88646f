"""Everything that needs the hub. gRPC, MQTT and TLS are imported here and late: the first inference does not wait for them."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_agent.app.report import Membership, Reporter, Self
from edge_agent.app.uploads import Uploader
from edge_agent.core.backoff import Backoff
from edge_agent.core.budget import Budget
from edge_agent.core.clock import Clock
from edge_agent.core.config import AgentConfig
from edge_agent.core.errors import ConfigError, LinkDown
from edge_agent.core.model import Happening
from edge_agent.core.ports import Captures, CertificateStats, Hub, Spool, UplinkStats
from protos.contract.telemetry import Lane
from protos.contract.twin import DesiredTwin

if TYPE_CHECKING:
    from edge_agent.sync.identity import Identity
    from edge_agent.sync.mqtt import MqttLink
    from edge_agent.sync.renewer import Renewer
    from edge_agent.sync.uplink import Uplink

log = logging.getLogger(__name__)

FIRST_INFERENCE_S = 3.0  # the network waits so long for it at most
IDENTITY_S = 2.0  # between looks for an identity while there is none
REPORT_GAP_S = 0.2  # changes that come thicker than this are told together


class HubNetwork:
    """See ``agent.Network``. It waits for an identity as long as there is none, so a device may be enrolled while it runs."""

    def __init__(
        self,
        config: AgentConfig,
        me: Self,
        *,
        spool: Spool,
        captures: Captures,
        reporter: Reporter,
        offer: Callable[[DesiredTwin], None],
        starting: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._config, self._me, self._clock = config, me, clock
        self._spool, self._captures, self._reporter = spool, captures, reporter
        self._offer, self._starting = offer, starting
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._identity: Identity | None = None
        self._link: MqttLink | None = None
        self._uplink: Uplink | None = None
        self._renewer: Renewer | None = None
        self._problem = ""

    @property
    def membership(self) -> Membership:
        identity, link, renewer = self._identity, self._link, self._renewer
        if identity is None:
            return Membership()
        return Membership(
            device_id=identity.device_id,
            tenant=identity.tenant,
            board=identity.board,
            broker_connected=link is not None and link.connected,
            certificate=renewer.stats() if renewer is not None else CertificateStats(),
        )

    @property
    def uplink(self) -> UplinkStats:
        """All 0 while the device is not enrolled."""
        return UplinkStats() if self._uplink is None else self._uplink.stats()

    def connect(self) -> Hub:
        """A new connection to the hub over gRPC. Raises LinkDown while the device is not enrolled."""
        identity = self._identity
        if identity is None:
            raise LinkDown("the device is not enrolled")
        from edge_agent.sync.hub import GrpcHub
        from edge_agent.sync.pace import Pace

        update = self._config.update
        pace = Pace(min_bytes_per_s=update.min_bytes_per_s, window_s=update.rate_window_s)
        try:
            return GrpcHub(identity, pace=pace, plain_http=update.plain_http, unwelcome=self._unwelcome)
        except ConfigError as error:  # enrolling again while we run mends it
            raise LinkDown(str(error)) from error

    def changed(self) -> None:
        self._news.set()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()

    def run(self) -> None:
        deadline = self._clock.monotonic() + FIRST_INFERENCE_S
        while self._starting() and self._clock.monotonic() < deadline and not self._stopping.wait(0.02):
            pass
        while not self._stopping.is_set():
            identity = self._identity = self._find_identity()
            if identity is None:
                self._stopping.wait(IDENTITY_S)
            else:
                self._sync(identity)

    def _find_identity(self) -> "Identity | None":
        from edge_agent.sync import identity

        if not identity.exists(self._config.data_dir):
            self._complain(f"not enrolled, running alone: 'edge-agent enroll --ticket FILE --data-dir {self._config.data_dir}'")
            return None
        try:
            return identity.load(self._config.data_dir)
        except ConfigError as error:
            self._complain(str(error))
            return None

    def _sync(self, identity: "Identity") -> None:
        """Hold the link, the uplink, the uploads and the renewal until ``stop``, or until the device is enrolled as another
        one or elsewhere; report what changes."""
        from edge_agent.sync.keys import FileKeys
        from edge_agent.sync.mqtt import MqttLink
        from edge_agent.sync.renewer import Renewer
        from edge_agent.sync.uplink import Uplink

        sync = self._config.sync
        moved = threading.Event()
        link = self._link = MqttLink(identity, sync, self._clock, self._me.boot_id, self._me.agent_version)
        path = self._config.data_dir / "uplink-budget"
        budget = Budget(sync.bytes_per_hour, self._clock, path) if sync.metered else None
        uplink = self._uplink = Uplink(self._spool, link, sync, self._clock, budget)
        uploader = Uploader(self._captures, self.connect, Backoff(sync.backoff_min_s, sync.backoff_max_s), budget)

        def replaced() -> None:
            if self._find_identity() != identity:
                moved.set()  # the connection that is open says goodbye under the old name
            else:
                link.renewed()
                uploader.redial()
            self.changed()

        def connected() -> None:
            if not link.with_previous:
                renewer.trusted()
            self.changed()

        def desired(twin: DesiredTwin) -> None:
            renewer.ask(twin.renew_before)
            self._offer(twin)

        renewer = self._renewer = Renewer(
            identity, FileKeys(self._config.data_dir), sync, self._clock, replaced=replaced, tell=self._tell
        )
        link.on_desired(desired)
        link.on_connected(connected)
        link.on_refused(renewer.doubt)
        threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((uploader.run, "uploads"), (renewer.run, "renewal"))
        ]
        uplink.start()
        link.start()
        for thread in threads:
            thread.start()
        try:
            while not self._stopping.is_set() and not moved.is_set():
                self._report(link)
                self._news.wait(sync.report_s)
                self._stopping.wait(REPORT_GAP_S)
        finally:
            renewer.stop()
            uploader.stop()
            uplink.stop()
            try:
                self._report(link)
            finally:  # a line that is left open would fight with the next one for the device's name
                link.close()

    def _unwelcome(self, reason: str) -> None:
        """The hub does not know whom our certificate names, or no more."""
        if self._renewer is not None:
            self._renewer.doubt(reason)

    def _tell(self, happening: Happening) -> None:
        self._spool.append(happening, Lane.CRITICAL)

    def _report(self, link: "MqttLink") -> None:
        self._news.clear()
        if not link.connected:
            return
        try:
            link.publish_reported(self._reporter.twin(self.membership.board))
        except (LinkDown, OSError) as error:
            log.info("not reported", extra={"error": str(error)})

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("no link to a hub", extra={"reason": problem})
        self._problem = problem
