"""Use cases about challengers: a version that looks at a share of the frames on chosen devices, and decides nothing."""

import builtins
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cloud_hub.core import pages
from cloud_hub.core.errors import Invalid, NotFound, NotReady
from cloud_hub.core.labels import checked_selector
from cloud_hub.core.model import Device, ModelVersion, Principal, ShadowDevice, ShadowTotals, Variant
from cloud_hub.core.pages import Page
from cloud_hub.core.variants import choose, refusal
from cloud_hub.services.fleet import FleetService, board_named
from cloud_hub.services.registry import RegistryService, find_version
from cloud_hub.store import fleet as fleet_store
from cloud_hub.store import shadows as store
from cloud_hub.store.database import Database, Tx
from edge_agent.core.clock import Clock
from protos.contract.errors import InvalidValue
from protos.contract.ids import DeviceId, ModelName
from protos.contract.twin import Challenger, ModelAssignment

log = logging.getLogger(__name__)

MOST_DEVICES = 5000  # of one start: more tell nothing that these do not
_BATCH = 200  # devices in one transaction: ingest waits for the same database
_TOLD = 100  # devices named that were passed over


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What is to be started, and how much of each device it may use."""

    model: ModelName
    version: int
    target: str = ""  # one variant of it; empty: the one that the device would run
    share: float = 0.1  # of the frames
    max_share_of_time: float = 0.25  # of the device's inference time


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    devices: int
    passed_over: tuple[tuple[DeviceId, str], ...]  # with why, the first of them


class ShadowService:
    """Membership is what matches at the start: a device that comes to match later is asked by another start."""

    def __init__(self, db: Database, registry: RegistryService, fleet: FleetService, clock: Clock) -> None:
        self._db, self._registry, self._fleet, self._clock = db, registry, fleet, clock

    def start(self, who: Principal, match: Match, selector: Mapping[str, str], limit: int = 0) -> Started:
        """Give every matching device, or the first ``limit`` by id, this challenger in place of the one it has.

        A device that has it already, with the same shares, goes on with what it counted. Safe to repeat.

        Raises:
            NotFound: no such version, or no device matches.
            Invalid: a share, the selector, a target that the version does not have, or more than MOST_DEVICES.
        """
        selector = checked_selector(selector)
        with self._db.write() as tx:
            version = find_version(tx, who.tenant, match.model, match.version)
            if match.target and match.target not in {variant.target for variant in version.variants}:
                raise Invalid(f"{version.name}:{version.version} has no variant {match.target[:40]!r}")
            _challenger(match, version.variants[0], version)  # refuses shares that are none
            ids = fleet_store.matching_ids(tx, who.tenant, selector)
            if not ids:
                raise NotFound("no device matches the selector")
            if limit:
                ids = ids[:limit]
            if len(ids) > MOST_DEVICES:
                raise Invalid(f"{len(ids)} devices match, at most {MOST_DEVICES} are taken: give a limit, or another selector")
            self._registry.offer(tx, who.tenant, match.model, match.version)
        asked, passed_over = 0, list[tuple[DeviceId, str]]()
        for begin in range(0, len(ids), _BATCH):
            with self._db.write() as tx:
                found = fleet_store.find_many(tx, ids[begin : begin + _BATCH]).values()
                for device in (one for one in found if one.tenant == who.tenant):  # an id may have changed hands since
                    reason = self._ask(tx, who, match, version, device)
                    asked += not reason
                    passed_over += [(device.id, reason)] if reason else []
        log.info("challenger started", extra={"model": match.model, "version": match.version, "devices": asked, "by": who.name})
        return Started(devices=asked, passed_over=tuple(passed_over[:_TOLD]))

    def stop(self, who: Principal, model: ModelName, version: int | None, selector: Mapping[str, str]) -> int:
        """Take it off every matching device that has it; how many. What it did stays to be read. Raises Invalid."""
        selector, after, stopped = checked_selector(selector), "", 0
        while True:
            with self._db.write() as tx:
                having = store.active(tx, who.tenant, model, version, after=after, limit=_BATCH)
                if not having:
                    break
                after = having[-1]
                mine = fleet_store.matching_among(tx, who.tenant, selector, having)
                devices = [device for id, device in fleet_store.find_many(tx, having).items() if id in mine]
                self._put(tx, [(device, None) for device in devices])
                store.stop(tx, who.tenant, [device.id for device in devices], self._clock.now())
                stopped += len(devices)
        log.info("challenger stopped", extra={"model": model, "version": version or 0, "devices": stopped, "by": who.name})
        return stopped

    def list(self, who: Principal) -> builtins.list[ShadowTotals]:
        """Every version that was a challenger, newest first."""
        with self._db.read() as tx:
            return store.totals(tx, who.tenant)

    def get(
        self, who: Principal, model: ModelName, version: int, page: Page
    ) -> tuple[ShadowTotals, builtins.list[ShadowDevice], str]:
        """Totals, devices by id, and the token of the next page. Raises NotFound: it was never started."""
        pages.checked(page)
        with self._db.read() as tx:
            totals = store.totals(tx, who.tenant, model, version)
            if not totals:
                raise NotFound(f"{model}:{version} was never started as a challenger")
            rows = store.devices(tx, who.tenant, model, version, after=page.token, limit=page.size + 1)
        return totals[0], rows[: page.size], rows[page.size - 1].device if len(rows) > page.size else ""

    def _ask(self, tx: Tx, who: Principal, match: Match, version: ModelVersion, device: Device) -> str:
        """Why the device is passed over; empty: it was asked, or has it already."""
        try:
            variant = _variant(match, version, device)
        except (NotReady, InvalidValue) as error:
            return str(error)
        challenger = _challenger(match, variant, version)
        running = device.desired.model or (device.reported.model if device.reported is not None else None)
        if running == challenger.model:
            return "it runs this very file"
        if device.desired.challenger == challenger:
            return ""
        self._put(tx, [(device, challenger)])
        begun = ShadowDevice(
            device=device.id,
            target=variant.target,
            share=match.share,
            max_share_of_time=match.max_share_of_time,
            started_by=who.name,
            started_at=self._clock.now(),
        )
        store.start(tx, who.tenant, challenger.model, begun)
        return ""

    def _put(self, tx: Tx, wanted: Sequence[tuple[Device, Challenger | None]]) -> None:
        """As a new generation; the rest of what each device was asked for stays."""
        self._fleet.ask_many(
            tx,
            [
                (device.id, replace(device.desired, generation=device.desired.generation + 1, challenger=challenger))
                for device, challenger in wanted
            ],
        )


def _variant(match: Match, version: ModelVersion, device: Device) -> Variant:
    """Raises NotReady, InvalidValue."""
    board = board_named(device.board)
    if not match.target:
        return choose(version, board, device.reported.runtimes if device.reported is not None else ())
    variant = next(one for one in version.variants if one.target == match.target)
    if reason := refusal(variant, board):
        raise NotReady(f"{match.target} cannot run on board {board.name}: {reason}")
    return variant


def _challenger(match: Match, variant: Variant, version: ModelVersion) -> Challenger:
    """Raises Invalid."""
    model = ModelAssignment(
        name=version.name,
        version=version.version,
        manifest_digest=variant.manifest_digest,
        manifest_size_bytes=variant.manifest_size_bytes,
    )
    try:
        return Challenger(model=model, share=match.share, max_share_of_time=match.max_share_of_time)
    except InvalidValue as error:
        raise Invalid(str(error)) from error
