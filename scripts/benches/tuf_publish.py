"""One more target in an image repository that has 10,000: milliseconds and bytes that are signed and stored anew.

Through the hub's own service on SQLite, every commit on the disk. The reference is the same repository with one flat targets
role, signed and stored by the same functions in the same run, in turn with it; it keeps its role in memory, which is more than
fair. Then what devices ask for: director metadata signed on demand, by the function alone and with its database.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Snapshot, Targets, Timestamp

from cloud_hub.core.model import DEFAULT_TENANT, Principal, Role
from cloud_hub.core.targets import DIRECTOR, IMAGE, Target, TargetKind
from cloud_hub.services.trust import TrustService
from cloud_hub.store import fleet, targets, trust
from cloud_hub.store.database import Database
from cloud_hub.store.trust import Stored
from cloud_hub.trust.tuf import ceremony, director
from cloud_hub.trust.tuf.director import Order
from cloud_hub.trust.tuf.image import target_file
from cloud_hub.trust.tuf.signing import expiry, sealed
from edge_agent.core.clock import SystemClock
from protos.contract import ids
from protos.contract.twin import DesiredTwin, ModelAssignment
from scripts.benches._figures import figure

CLOCK = SystemClock()
KEEPER = Principal(role=Role.ADMIN, name="bench")
DEVICE = Principal(role=Role.DEVICE, name="cam-1")
FLAT = "flat"  # the repository of the reference
FILES = (TargetKind.MANIFEST, TargetKind.MODEL, TargetKind.GOLDEN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 targets and fewer rounds: rougher figures")
    quick = parser.parse_args().quick
    count, rounds, orders = (1_000, 20, 300) if quick else (10_000, 100, 3_000)
    with tempfile.TemporaryDirectory(prefix="bench-tuf-") as folder:
        db = Database(f"sqlite:///{Path(folder) / 'hub.db'}")
        db.migrate()
        service = TrustService(db, Path(folder) / "trust" / "keys", CLOCK)
        init(service)
        publishing(db, service, count, rounds)
        directing(db, service, orders)
        db.close()


def publishing(db: Database, service: TrustService, count: int, rounds: int) -> None:
    add(db, [target(number) for number in range(count)])
    started = time.perf_counter()
    service.tick(CLOCK.now())
    figure("tuf-publish", f"{count} targets at once", time.perf_counter() - started, "s")
    flat = Flat(db, [target(number) for number in range(count)])
    ours, theirs = [], []
    for number in range(count, count + rounds):
        one = target(number)
        add(db, [one])
        ours.append(timed(lambda: service.tick(CLOCK.now())))
        theirs.append(timed(lambda one=one: flat.publish(one)))  # type: ignore[misc]
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    name = f"one more beside {count}"
    value, reference = statistics.median(ours) * 1000, statistics.median(theirs) * 1000
    figure("tuf-publish", name, value, "ms", reference=reference, ratio=ratio, aim="10 ms at 10,000")
    size, whole = written(db, IMAGE), written(db, FLAT)
    figure("tuf-publish", f"{name}: written", size, "bytes", reference=whole)


def directing(db: Database, service: TrustService, count: int) -> None:
    files = [target(0, kind) for kind in FILES]
    key, nonce = CryptoSigner(Ed25519PrivateKey.generate()), os.urandom(32)
    order = Order(
        device=ids.device_id(DEVICE.name), tenant=DEFAULT_TENANT, board="camera-x86", generation=1, nonce=nonce, targets=files
    )
    alone = timed(lambda: [director.signed(order, key, CLOCK.now()) for _ in range(count)])
    assign(db, service)
    whole = timed(lambda: [service.director(DEVICE, nonce) for _ in range(count)])
    bare = timed(lambda: [key.sign(b"x" * 1400) for _ in range(count)])  # what the signature itself costs
    figure("tuf-publish", "director metadata", count / alone, "signatures/s", reference=count / bare, aim="0.2 ms: 5000/s")
    figure("tuf-publish", "director metadata, with its database", count / whole, "signatures/s", reference=count / bare)
    figure("tuf-publish", "director metadata: size", len(service.director(DEVICE, nonce)), "bytes", aim="1.4 kB")


class Flat:
    """The same with every target in one role: what changes is signed and stored whole."""

    def __init__(self, db: Database, first: Sequence[Target]) -> None:
        self._db, self._version = db, 0
        self._key = CryptoSigner(Ed25519PrivateKey.generate())
        self._targets = Targets(1, None, expiry("targets", CLOCK.now()), {one.path: target_file(one) for one in first})

    def publish(self, one: Target) -> None:
        now, self._version = CLOCK.now(), self._version + 1
        self._targets.targets[one.path] = target_file(one)
        self._targets.version = self._version
        data = sealed(self._targets, [self._key])
        meta = {"targets.json": MetaFile(self._version)}
        snapshot = sealed(Snapshot(self._version, None, expiry("snapshot", now), meta), [self._key])
        named = MetaFile.from_data(self._version, snapshot, ["sha256"])
        timestamp = sealed(Timestamp(self._version, None, expiry("timestamp", now), named), [self._key])
        with self._db.write() as tx:
            trust.put(
                tx,
                FLAT,
                [
                    Stored(role=role, version=self._version, signed_at=now, expires_at=now, resign_at=None, data=file)
                    for role, file in (("targets", data), ("snapshot", snapshot), ("timestamp", timestamp))
                ],
            )


def init(service: TrustService) -> None:
    """Root keys are thrown away: nothing is rotated here."""
    online = service.prepare_keys(KEEPER)
    signers = [CryptoSigner(Ed25519PrivateKey.generate()) for _ in range(ceremony.ROOT_KEYS)]
    made = []
    for name in (IMAGE, DIRECTOR):
        own = {key.role: key.public for key in online if key.repository == name}
        draft = ceremony.first_root(name, [signer.public_key for signer in signers], own, CLOCK.now())
        draft.sign(signers)
        made.append(draft.root.to_bytes())
    service.put_root(KEEPER, *made)


def assign(db: Database, service: TrustService) -> None:
    """A device that is to run a model of three files."""
    files = [target(0, kind) for kind in FILES]
    with db.write() as tx:
        fleet.add(tx, ids.device_id(DEVICE.name), DEFAULT_TENANT, "camera-x86", {}, CLOCK.now())
        targets.add(tx, files[:1] + files[2:], CLOCK.now())
        manifest = files[0]
        model = ModelAssignment(
            name=ids.model_name(manifest.name), version=1, manifest_digest=manifest.digest, manifest_size_bytes=manifest.length
        )
        fleet.put_desired(tx, ids.device_id(DEVICE.name), DesiredTwin(generation=1, model=model))
    service.tick(CLOCK.now())


def target(number: int, kind: TargetKind = TargetKind.MODEL) -> Target:
    file = {TargetKind.MANIFEST: "manifest.pb", TargetKind.MODEL: "model.onnx", TargetKind.GOLDEN: "golden.pb"}[kind]
    return Target(
        path=f"models/default/model-{number}/1/onnx-int8/{file}",
        tenant=DEFAULT_TENANT,
        kind=kind,
        name=f"model-{number}",
        version="1",
        variant="onnx-int8",
        length=1000 + number,
        sha256=f"{number:056x}{len(file):08x}",
        boards=(),
        release=1,
    )


def add(db: Database, new: Sequence[Target]) -> None:
    with db.write() as tx:
        targets.add(tx, new, CLOCK.now())


def written(db: Database, repository: str) -> int:
    """Bytes of metadata in the newest round: every role whose newest version came with the newest timestamp."""
    with db.read() as tx:
        m, h = trust.tuf_metadata.c, trust.tuf_heads.c
        newest = m.repository == h.repository, m.role == h.role, m.version == h.version, m.repository == repository
        query = trust.tuf_metadata.join(trust.tuf_heads, newest[0] & newest[1] & newest[2]).select().where(newest[3])
        rows = list(tx.execute(query))
    last = max(row.signed_at for row in rows if row.role == "timestamp")
    return sum(len(row.data) for row in rows if row.signed_at == last)


def timed(act: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
