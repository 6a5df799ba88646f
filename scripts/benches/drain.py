"""A day offline: seconds until 86,400 readings of one device are in the hub's database and gone from the spool.

The agent's own spool, uplink and link send to a real mosquitto and a real ingest on SQLite. The references, in the same run to
the same hub, publish the same batches with paho at QoS 1 and wait until the hub has stored them: one batch at a time, each
acknowledged before the next, which is what a careful client does; and all at once, which is the least there is and keeps
nothing safe. What the database holds is checked: every sequence once.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from sqlalchemy import select

from cloud_hub.store.landing import landing
from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SpoolConfig, SyncConfig
from edge_agent.spool.sqlite import SqliteSpool
from edge_agent.sync.identity import Identity
from edge_agent.sync.mqtt import MqttLink
from edge_agent.sync.uplink import Uplink
from protos.contract import topics
from protos.contract.telemetry import Lane, Mark
from scripts.benches._figures import figure
from scripts.benches._hub import SmallHub, wait
from scripts.benches._readings import outcomes

DAY = 86_400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    rounds = 1 if parser.parse_args().quick else 5
    turns = []
    with tempfile.TemporaryDirectory(prefix="bench-drain-") as folder, SmallHub(Path(folder)) as hub:
        for i in range(rounds):
            turns.append(_turn(hub, Path(folder) / f"spool-{i}.sqlite", i))
    ours, careful, careless = (statistics.median(turn[i] for turn in turns) for i in range(3))
    name = f"{DAY} readings, committed and forgotten; each exactly once in the database"
    figure("drain", name, ours, "s", reference=careful, aim="against paho, one batch at a time")
    figure("drain", name, ours, "s", reference=careless, aim="against paho, all at once")
    figure("drain", "readings", DAY / ours, "readings/s")


def _turn(hub: SmallHub, path: Path, number: int) -> tuple[float, float, float]:
    spool = SqliteSpool(path, SpoolConfig(linger_s=0.1), SystemClock())
    for i, item in enumerate(outcomes(DAY, every_s=1.0, seed=number)):
        spool.append(item)
        if i % 100 == 99:
            spool.flush()
    payloads = _all(spool)
    identities = [hub.device(f"{kind}-{number}") for kind in ("careful", "careless", "ours")]
    careful = _paho(hub, identities[0], payloads, at_once=False)
    careless = _paho(hub, identities[1], payloads, at_once=True)
    return _ours(hub, identities[2], spool), careful, careless


def _ours(hub: SmallHub, identity: Identity, spool: SqliteSpool) -> float:
    link = MqttLink(identity, SyncConfig(), SystemClock(), "bench", "0")
    uplink = Uplink(spool, link, SyncConfig(), SystemClock())
    started = time.perf_counter()
    uplink.start()
    link.start()
    wait(lambda: spool.held()[Lane.NORMAL - 1].oldest == DAY, "an empty spool")
    seconds = time.perf_counter() - started
    assert spool.stats().records == 0
    assert _sequences(hub, identity) == list(range(DAY)), "every reading is in the database, once"
    uplink.stop()
    link.close()
    spool.close()
    return seconds


def _paho(hub: SmallHub, identity: Identity, payloads: list[bytes], *, at_once: bool) -> float:
    connected = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, client_id=identity.device_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(identity.tls())
    client.on_connect = lambda *_: connected.set()
    started = time.perf_counter()
    client.connect(identity.broker.host, identity.broker.port)
    client.loop_start()
    assert connected.wait(20)
    topic = topics.telemetry(identity.tenant, identity.device_id, Lane.NORMAL)
    for payload in payloads:
        sent = client.publish(topic, payload, qos=1)
        if not at_once:
            sent.wait_for_publish(20)
    wait(lambda: _batches(hub, identity) == len(payloads), "the database")
    seconds = time.perf_counter() - started
    client.disconnect()
    client.loop_stop()
    return seconds


def _all(spool: SqliteSpool) -> list[bytes]:
    found: list[bytes] = []
    mark: Mark | None = None
    while page := spool.batches(after=mark, lane=Lane.NORMAL, limit=100):
        found += [payload for _, payload in page]
        mark = Mark(epoch=spool.epoch, lane=Lane.NORMAL, committed_through=page[-1][0].last_sequence)
    return found


def _batches(hub: SmallHub, identity: Identity) -> int:
    with hub.db.read() as tx:
        return len(tx.execute(select(landing.c.id).where(landing.c.device == identity.device_id)).all())


def _sequences(hub: SmallHub, identity: Identity) -> list[int]:
    columns = select(landing.c.first_sequence, landing.c.last_sequence, landing.c.records)
    with hub.db.read() as tx:
        rows = tx.execute(columns.where(landing.c.device == identity.device_id).order_by(landing.c.first_sequence)).all()
    assert all(records == last - first + 1 for first, last, records in rows)
    return [n for first, last, _ in rows for n in range(first, last + 1)]


if __name__ == "__main__":
    main()
