"""Hostile bytes by the thousand against a running hub: it crashes nowhere, counts each, and good traffic flows at once after.

The seed is logged; ``FUZZ_SEED`` repeats a run, ``FUZZ_DATABASE_URL`` has the hub use that (empty) database.
``scripts/test --full`` sends 10,000 of each kind.
"""

import logging
import os
import random
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from prometheus_client.parser import text_string_to_metric_families

import cloud_hub.rpc.server  # noqa: F401  # registers every service
from cloud_hub.rpc.policy import POLICY
from protos.contract import codec, topics
from protos.contract.ids import DeviceId, TenantId
from protos.contract.telemetry import Lane
from tests.e2e import fuzz
from tests.e2e.system import System, tls_of, wait_for
from tests.hub.mqtt_parts import EPOCH, MqttClient, batch

say = logging.getLogger(__name__).warning  # shown by -o log_cli=true, and wherever a test fails

TENANT = TenantId("default")
GOOD, HOSTILE = DeviceId("cam-good"), DeviceId("cam-hostile")
SOON_S = 5.0  # a busy machine may take so long; what it took is printed, and should be below 1
WAVE_S = 120.0
HUB_GROWTH_BYTES, BROKER_GROWTH_BYTES = 192 << 20, 128 << 20
QUARANTINE_ROWS = 10_000
ROWS = 10

FEW = 2_000
MANY = pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.fixture(scope="module")
def seed() -> int:
    number = int(os.environ.get("FUZZ_SEED", random.randrange(2**32)))
    say(f"FUZZ_SEED={number}")
    return number


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    # what one device may send is a promise of its own: here it may send all
    database = {"database_url": url} if (url := os.environ.get("FUZZ_DATABASE_URL")) else {}
    made = System(
        tmp_path_factory.mktemp("fuzz"), ingest={"device_bytes_per_s": 1 << 40, "device_burst_bytes": 1 << 40}, **database
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def hostile(system: System) -> Iterator[MqttClient]:
    """A device with a certificate of this hub."""
    client = MqttClient(system.broker(), tls_of(system.agent(HOSTILE)), HOSTILE)
    yield client.ready()
    client.close()


@dataclass
class Good:
    """A device among the hostile ones."""

    client: MqttClient
    sent: int = 0

    def marked_s(self) -> float:
        """Seconds from the publish of one more batch until the hub says that it is stored."""
        first, self.sent = self.sent, self.sent + ROWS
        self.client.publish(topics.telemetry(TENANT, GOOD, Lane.NORMAL), codec.encode_batch(batch(first, ROWS)), wait=False)
        return wait_for(
            lambda: self.client.marks().get((EPOCH, Lane.NORMAL), -1) == self.sent - 1, "the mark of a good batch", WAVE_S
        )


@pytest.fixture(scope="module")
def good(system: System) -> Iterator[Good]:
    watermarks = topics.of(TENANT, GOOD, topics.WATERMARK)
    client = MqttClient(system.broker(), tls_of(system.agent(GOOD)), GOOD, watermarks).ready()
    made = Good(client)
    made.marked_s()
    yield made
    client.close()


@dataclass(frozen=True)
class Before:
    """What must be the same, or nearly so, afterwards."""

    pids: tuple[int, int]
    rss: tuple[int, int]  # bytes
    log_bytes: int
    counts: dict[str, float]


@pytest.fixture
def unharmed(system: System, good: Good) -> Iterator[Before]:
    before = Before(_pids(system), _rss(system), len(system.hub.log), ingested(system))
    yield before
    assert system.hub.process is not None and system.hub.process.poll() is None
    assert _pids(system) == before.pids, "the hub or its broker was started again"
    new = system.hub.log[before.log_bytes :]
    for word in ("incident", '"exception"', "Traceback", "report this bug", "group failed"):
        assert word not in new, _line_with(word, new)
    hub, broker = (now - then for now, then in zip(_rss(system), before.rss, strict=True))
    say(f"grown by: hub {hub >> 20} MiB, broker {broker >> 20} MiB")
    assert hub < HUB_GROWTH_BYTES and broker < BROKER_GROWTH_BYTES
    readiness = urllib.request.urlopen(f"http://127.0.0.1:{system.hub.config.metrics.port}/readyz", timeout=10)
    assert readiness.status == 200


def _pids(system: System) -> tuple[int, int]:
    return system.hub.pid, system.hub.broker_pid


def _rss(system: System) -> tuple[int, int]:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _pids(system)]
    return pages[0] * os.sysconf("SC_PAGE_SIZE"), pages[1] * os.sysconf("SC_PAGE_SIZE")


def _line_with(word: str, log: str) -> str:
    return next(line for line in log.splitlines() if word in line)[:3000]


def ingested(system: System) -> dict[str, float]:
    """What ingest has counted since its start, by the last word of each metric's name."""
    port = system.hub.config.metrics.port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    prefix = "tideline_hub_ingest_"
    return {
        one.name.removeprefix(prefix): one.samples[0].value
        for one in families
        if one.name.startswith(prefix) and one.type == "counter"
    } | {"kept": next(one.samples[0].value for one in families if one.name == "tideline_hub_quarantine_messages")}


# -- over MQTT --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [FEW, MANY])
def test_mutated_messages_are_each_accounted_for_and_good_ones_flow_at_once(
    system: System, hostile: MqttClient, good: Good, unharmed: Before, seed: int, count: int
) -> None:
    wave = list(fuzz.mutated(random.Random(seed), TENANT, HOSTILE, count))
    counts = _sent(system, hostile, wave, unharmed, good, "mutated")
    assert counts["quarantined"] >= 0.5 * count  # the rest is still a batch, or became one


@pytest.mark.parametrize("count", [FEW, MANY])
def test_random_payloads_are_quarantined_and_good_ones_flow_at_once(
    system: System, hostile: MqttClient, good: Good, unharmed: Before, seed: int, count: int
) -> None:
    wave = list(fuzz.noise(random.Random(seed + 1), TENANT, HOSTILE, count))
    counts = _sent(system, hostile, wave, unharmed, good, "random")
    assert counts["quarantined"] >= 0.99 * count  # two random bytes may be a status


def _sent(
    system: System, hostile: MqttClient, wave: list[tuple[str, bytes]], before: Before, good: Good, name: str
) -> Counter[str]:
    """What became of a wave. Its last message is followed at once by a good one of another device."""
    started = time.monotonic()
    infos = [hostile.client.publish(topic, payload, qos=1) for topic, payload in wave]
    for info in infos:
        info.wait_for_publish(WAVE_S)
        assert info.is_published(), "the broker does not take the wave"
    sent_s = time.monotonic() - started
    marked_s = good.marked_s()
    expected = sum(_is_for_the_hub(topic) for topic, _ in wave)
    since = Counter[str]()

    def all_in() -> bool:
        since.update({name: int(value - before.counts[name]) - since[name] for name, value in ingested(system).items()})
        return since["messages"] >= expected + 1

    wait_for(all_in, f"{expected} messages", WAVE_S)
    again_s = good.marked_s()
    say(f"{name}: {len(wave)} sent in {sent_s:.1f} s, all in after {time.monotonic() - started:.1f} s, "
          f"good batch marked {marked_s:.2f} s after the last, then {again_s:.2f} s; {dict(since)}")  # fmt: skip
    assert max(marked_s, again_s) < SOON_S
    outcomes = ("batches", "duplicates", "twins", "quarantined")
    assert since["messages"] == sum(since[name] for name in outcomes), since
    assert since["messages"] <= len(wave) + 1
    wait_for(lambda: ingested(system)["kept"] > 0, "a new look at the quarantine")
    assert ingested(system)["kept"] <= QUARANTINE_ROWS
    return since


def _is_for_the_hub(topic: str) -> bool:
    """Whether it subscribes to that; the broker drops the rest."""
    kind = topic.split("/", 4)[4]
    return kind in (topics.STATUS, topics.REPORTED) or (kind.startswith(f"{topics.TELEMETRY}/") and kind.count("/") == 2)


def test_a_packet_the_broker_does_not_carry_costs_only_its_sender(system: System, good: Good, unharmed: Before) -> None:
    tls = tls_of(system.agents[0])
    for size in (fuzz.LARGEST + 4096, 16 << 20):
        client = MqttClient(system.broker(), tls, HOSTILE).ready()
        client.publish(topics.telemetry(TENANT, HOSTILE, Lane.BULK), bytes(size), wait=False)
        assert client.ended.wait(20)
        client.close()
    assert good.marked_s() < SOON_S


# -- over gRPC --------------------------------------------------------------------------------------------------------------

CALL_S = 5.0
WATCH_S = 0.3  # what a stream of news is given to end by itself
NO_FAULT_OF_OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS}


@pytest.mark.parametrize("rounds", [10, pytest.param(160, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_calls_with_hostile_requests_are_refused_for_what_they_are(
    system: System, hostile: MqttClient, good: Good, unharmed: Before, seed: int, rounds: int
) -> None:
    rng, codes = random.Random(seed + 2), Counter[str]()
    started = time.monotonic()
    with _channel(system, "admin") as admin, _channel(system, "device") as device, _channel(system, "stranger") as stranger:
        methods = [_method(path) for path in POLICY if not path.endswith("/Watch")]
        for _ in range(rounds):
            for method in methods:
                roles = {role.value for role in POLICY[_path(method)].roles}
                channel = admin if "admin" in roles else device if "device" in roles else stranger
                code = _call(channel, method, [fuzz.request(rng, method.input_type) for _ in range(rng.randint(1, 3))])
                codes[code.name] += 1
                assert code not in NO_FAULT_OF_OURS, (seed, _path(method), code)
    say(f"calls: {codes.total()} in {time.monotonic() - started:.1f} s: {dict(codes)}")
    assert codes["INVALID_ARGUMENT"] > codes.total() / 10
    assert _health_s(system) < SOON_S
    assert good.marked_s() < SOON_S


def test_calls_that_are_too_large_or_to_nobody_are_refused(system: System, good: Good, unharmed: Before, seed: int) -> None:
    rng = random.Random(seed + 3)
    with _channel(system, "admin") as admin:
        method = _method("/tideline.v1.Fleet/GetDevice")
        assert _call(admin, method, [bytes(9 << 20)]) is grpc.StatusCode.RESOURCE_EXHAUSTED
        for path in ("/tideline.v1.Fleet/Nothing", "/x/y", "/", "//", "/tideline.v1.Fleet/" + "x" * 5000):
            assert _raw(admin, path, b"") in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        for metadata in (
            [("x-large", "y" * 20_000)],
            [(f"x-{number}", "y" * 100) for number in range(300)],
            [("x-bin", rng.randbytes(500))],
            [("authorization", "Bearer nobody")],
            [("grpc-timeout", "99999999H")],
        ):
            code = _raw(admin, _path(method), b"", metadata)
            assert code not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}, (metadata[0][0], code)
    assert _health_s(system) < SOON_S


def test_bytes_that_are_no_tls_and_no_http_cost_nobody_anything(
    system: System, good: Good, unharmed: Before, seed: int
) -> None:
    rng, config = random.Random(seed + 4), system.hub.config
    openings = (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x40\x00",
        b"\x10\x0c\0\4MQTT",
    )
    held = []
    for number in range(200):
        port = (config.grpc.port, config.grpc.enroll_port, config.broker.port, config.metrics.port)[number % 4]
        connection = socket.create_connection(("127.0.0.1", port), 10)
        held.append(connection)
        try:
            connection.sendall(rng.choice(openings) + rng.randbytes(rng.choice((0, 10, 2000))))
        except OSError:
            continue  # hung up already
    assert good.marked_s() < SOON_S
    assert _health_s(system) < SOON_S
    for connection in held:
        connection.close()


def _method(path: str) -> MethodDescriptor:
    service, name = path.strip("/").split("/")
    return Default().FindServiceByName(service).methods_by_name[name]


def _watches(method: MethodDescriptor) -> bool:
    return method.name.startswith(("Watch", "Tail"))


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _channel(system: System, role: str) -> grpc.Channel:
    ca = (system.hub.data_dir / "ca" / "root.pem").read_bytes()
    config, options = system.hub.config, [("grpc.max_send_message_length", -1)]
    if role == "stranger":
        credentials = grpc.ssl_channel_credentials(ca)
        return grpc.secure_channel(f"localhost:{config.grpc.enroll_port}", credentials, options)
    if role == "admin":
        folder = system.hub.data_dir / "admin"
        pair = (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()
    else:
        tls = tls_of(next(agent for agent in system.agents if agent.folder.name == HOSTILE))
        pair = tls.key.read_bytes(), tls.certificate.read_bytes()
    return grpc.secure_channel(f"localhost:{config.grpc.port}", grpc.ssl_channel_credentials(ca, *pair), options)


def _call(channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes]) -> grpc.StatusCode:
    try:
        if method.client_streaming:
            channel.stream_unary(_path(method))(iter(requests), timeout=CALL_S)
        elif method.server_streaming:
            for _ in channel.unary_stream(_path(method))(requests[0], timeout=WATCH_S if _watches(method) else CALL_S):
                pass
        else:
            channel.unary_unary(_path(method))(requests[0], timeout=CALL_S)
    except grpc.RpcError as error:
        return error.code()  # type: ignore[attr-defined,no-any-return]
    return grpc.StatusCode.OK


def _raw(
    channel: grpc.Channel, path: str, request: bytes, metadata: list[tuple[str, str | bytes]] | None = None
) -> grpc.StatusCode:
    try:
        channel.unary_unary(path)(request, timeout=CALL_S, metadata=metadata)
    except grpc.RpcError as error:
        return error.code()  # type: ignore[attr-defined,no-any-return]
    return grpc.StatusCode.OK


def _health_s(system: System) -> float:
    """Seconds a good call takes."""
    started = time.monotonic()
    with _channel(system, "admin") as channel:
        assert _raw(channel, "/tideline.v1.Fleet/ListDevices", b"") is grpc.StatusCode.OK
    return time.monotonic() - started
