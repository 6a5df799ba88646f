"""Hostile, broken and absent things against a running system: it goes on, says why, and loses nothing."""

import contextlib
import os
import signal
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloud_hub.core.model import ROLLOUT_ENDED, ModelVersion, RolloutState
from cloud_hub.core.ports import TlsFiles
from protos.contract import codec, topics
from protos.contract.ids import DeviceId, TenantId
from protos.contract.manifest import Format
from protos.contract.telemetry import Lane, Mark
from protos.contract.update import UpdateState
from tests.agent import models
from tests.agent.models import SIDE
from tests.conformance.agent import Agent
from tests.conformance.test_updates import blind_to_white
from tests.e2e.system import ADMIN, System, film, program, tls_of, wait_for
from tests.hub.mqtt_parts import MqttClient, batch

CAM = "cam-a"  # runs through everything
WALKER = "cam-walker"
HOSTILE = DeviceId("cam-hostile")
TENANT = TenantId("default")
FRAMES = 240


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("system"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def camera(system: System) -> Agent:
    """Its model came from the hub."""
    agent = system.agent(CAM)
    agent.configure(update={"probation_s": 1.0})
    agent.start()
    rollout = system.roll_out(system.publish(lambda version: models.files(version=version)), CAM)
    wait_for(lambda: system.rollout(rollout).state is RolloutState.SUCCEEDED, "version 1 on the camera")
    system.goes_on(CAM)
    return agent


@pytest.fixture(scope="module")
def walker(system: System) -> Agent:
    """Sees each frame once, so that they can be counted; started by each test anew."""
    agent = system.agent(WALKER)
    agent.equip()
    return agent


def alive(agent: Agent) -> bool:
    return agent.process is not None and agent.process.poll() is None


# -- models ---------------------------------------------------------------------------------------------------------------


def corrupt_in_the_store(system: System) -> ModelVersion:
    version = system.publish(lambda number: models.files(version=number, seed=10))
    path = system.blob_path(version.variants[0].artifact_digest)
    path.write_bytes(bytes(path.stat().st_size))
    return version


def truncated_in_the_store(system: System) -> ModelVersion:
    version = system.publish(lambda number: models.files(version=number, seed=11))
    os.truncate(system.blob_path(version.variants[0].artifact_digest), 100)
    return version


def golden_of_other_weights(system: System) -> ModelVersion:
    return system.publish(lambda number: models.files(version=number, model=models.onnx_model(seed=99)))


def manifest_of_another_format(system: System) -> ModelVersion:
    return system.publish(lambda number: models.files(Format.TFLITE, version=number, model=models.onnx_model()))


def nan_always(system: System) -> ModelVersion:
    return system.publish(lambda number: models.files(version=number, model=models.onnx_model(poison=True)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (corrupt_in_the_store, "damaged 3 times"),
        (truncated_in_the_store, "damaged 3 times"),
        (golden_of_other_weights, "golden outputs are off"),
        (manifest_of_another_format, "refuses the model"),
        (nan_always, "NaN"),
    ],
)
def test_a_model_that_is_no_good_never_runs_and_fails_its_rollout_with_the_reason(
    system: System, camera: Agent, make: Callable[[System], ModelVersion], words: str
) -> None:
    rollout = _ended(system, system.roll_out(make(system), CAM))
    assert rollout.state is RolloutState.FAILED
    assert words in rollout.reason and CAM in rollout.reason
    assert [(one.device, one.state) for one in rollout.devices] == [(CAM, UpdateState.FAILED)]
    _settles_on(system, 1)
    assert alive(camera)


def test_a_model_that_gives_nan_in_the_field_is_rolled_back_within_30_seconds(system: System, camera: Agent) -> None:
    camera.show(np.full((8, SIDE, SIDE, 3), 255, np.uint8))
    started = time.monotonic()
    rollout = _ended(system, system.roll_out(system.publish(blind_to_white), CAM))
    took_s = time.monotonic() - started
    camera.show(np.random.default_rng(3).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8))
    assert rollout.state is RolloutState.FAILED
    assert "NaN" in rollout.reason
    assert rollout.devices[0].state is UpdateState.ROLLED_BACK
    assert took_s < 30
    _settles_on(system, 1)
    ended = [line for line in camera.logged("update ended") if line["state"] == "ROLLED_BACK"]
    assert len(ended) == 1 and "NaN" in ended[0]["detail"]


def _ended(system: System, id: str) -> Any:
    wait_for(lambda: system.rollout(id).state in ROLLOUT_ENDED, "the end of the rollout")
    return system.rollout(id)


def _settles_on(system: System, version: int) -> None:
    """The device has done what the hub asked last, says that it runs ``version``, and what it infers comes from that."""
    wait_for(lambda: system.settled(CAM), "the device's word on its last desired twin")
    assert system.runs(CAM) == version
    system.goes_on(CAM)
    expected = system.reported(CAM).model
    assert expected is not None and system.readings(CAM)[-1].model == expected.manifest_digest


# -- messages -------------------------------------------------------------------------------------------------------------

GOOD = batch(0)
PAYLOADS = {
    "nothing": b"",
    "text": b"hello",
    "json": b'{"sequence": 1, "label": "\\ud800"}',
    "zeros": bytes(200),
    "ones": b"\xff" * 200,
    "truncated": codec.encode_batch(GOOD)[:-7],
    "large": bytes(range(256)) * 4096,  # 1 MiB
}
UP = [topics.STATUS, topics.REPORTED, *(f"{topics.TELEMETRY}/{lane.name.lower()}" for lane in Lane)]


@pytest.fixture(scope="module")
def hostile(system: System) -> Iterator[MqttClient]:
    """A device with a certificate of this hub that speaks nonsense."""
    agent = system.agent(HOSTILE)
    client = MqttClient(system.broker(), tls_of(agent), HOSTILE).ready()
    yield client
    client.close()


def test_nonsense_from_a_device_is_quarantined_and_costs_nobody_anything(
    system: System, camera: Agent, hostile: MqttClient
) -> None:
    def quarantined() -> int:
        return system.services.telemetry.stats(ADMIN).quarantined

    sent = [(topics.of(TENANT, HOSTILE, kind), payload) for kind in UP for payload in PAYLOADS.values()]
    sent += [
        (topics.of(TENANT, HOSTILE, kind), b"x")
        for kind in ("up/command", "up/telemetry", "up/telemetry/BULK", "up/telemetry/a/b")
    ]
    sent += [(topics.telemetry(TENANT, HOSTILE, Lane.BULK), codec.encode_batch(GOOD))]  # of another lane
    before, started = quarantined(), time.monotonic()
    hostile.publish(topics.of(TENANT, HOSTILE, "up/a/b/c"), b"x", wait=False)  # to which nobody subscribes
    for topic, payload in sent:
        hostile.publish(topic, payload, wait=False)
    hostile.publish(topics.telemetry(TENANT, HOSTILE, Lane.NORMAL), codec.encode_batch(GOOD))
    wait_for(lambda: system.stored(HOSTILE) == GOOD.records, "the good batch behind all that")
    assert time.monotonic() - started < 30
    assert system.goes_on(CAM) < 30
    assert quarantined() == before + len(sent)
    shown = system.hubctl("telemetry", "quarantine", "list", "--limit", 1000)
    assert {topic for topic, _ in sent} <= {row["topic"] for row in shown}
    assert all(row["reason"] for row in shown)
    assert alive(camera)


def test_a_packet_beyond_the_limit_costs_only_its_sender(system: System, camera: Agent) -> None:
    agent = system.agent("cam-huge")
    client = MqttClient(system.broker(), tls_of(agent), "cam-huge").ready()
    client.publish(topics.telemetry(TENANT, DeviceId("cam-huge"), Lane.NORMAL), bytes(3 << 20), wait=False)
    assert client.ended.wait(20)
    client.close()
    assert system.goes_on(CAM) < 30
    assert alive(camera)


def test_nonsense_from_the_hub_costs_the_agent_nothing_but_its_epoch(system: System, camera: Agent) -> None:
    hub, id = system.hub, DeviceId(CAM)
    refused = len(camera.logged("message from the hub is malformed, ignored"))
    forged = tuple(Mark(epoch=epoch, lane=Lane.NORMAL, committed_through=10**12) for epoch in (_epoch(system), "other"))
    tls = hub.data_dir / "broker" / "tls"
    files = TlsFiles(ca=tls / "ca.pem", certificate=tls / "hub.pem", key=tls / "hub.key")
    # what is larger than the agent takes stays with the broker: four of the five arrive
    with hub.frozen():  # or it takes its session back at once
        client = MqttClient(system.broker(), files, "tl:hub").ready()
        for kind in (topics.DESIRED, topics.WATERMARK):
            for name in ("text", "json", "zeros", "ones", "large"):
                client.publish(topics.of(TENANT, id, kind), PAYLOADS[name], retain=kind == topics.DESIRED)
        client.publish(topics.of(TENANT, id, topics.WATERMARK), codec.encode_watermark(forged))
        client.publish(topics.of(TENANT, id, "down/command/1"), b"{}")
        client.close()
        wait_for(lambda: len(camera.logged("message from the hub is malformed, ignored")) >= refused + 8, "eight refusals")
    system.goes_on(CAM)
    wait_for(lambda: _epoch(system) != forged[0].epoch, "it leaves the epoch of a mark that it never earned to whoever did")

    def foreign_marks() -> int:
        return [event.kind for event in system.services.telemetry.events(ADMIN, id)].count("spool.foreign_mark")

    wait_for(foreign_marks, "the event of it")
    assert foreign_marks() == 1
    assert system.runs(CAM) == 1
    assert alive(camera)


def _epoch(system: System) -> str:
    return system.readings(CAM)[-1].epoch


# -- configuration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "key", "near"), [(("cloud-hub", "serve"), "broker.prot", "port"), (("edge-agent", "run"), "source.fsp", "fps")]
)
def test_a_misspelt_key_is_named_with_the_one_that_was_meant(
    tmp_path: Path, command: tuple[str, str], key: str, near: str
) -> None:
    section, name = key.split(".")
    (tmp_path / "config.yaml").write_text(f"{section}: {{{name}: 1}}\n")
    done = program(*command, "--config", tmp_path / "config.yaml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and f"'{key}'" in done.stderr and f"'{near}'" in done.stderr


# -- what the camera sees -------------------------------------------------------------------------------------------------


def test_frames_of_any_kind_are_seen_and_files_that_are_none_are_skipped(system: System, walker: Agent) -> None:
    names = film(walker, "zoo", 20)
    good, bad = _zoo(walker.images)
    with _running(walker):
        expected = Counter(names + good)
        wait_for(lambda: system.seen(WALKER, names + good) == expected, "every frame that is one")
        skipped = {line["file"] for line in walker.logged("image skipped")}
        assert skipped == set(bad)
        assert not walker.logged("part failed") and not walker.logged("perception failed")


def _zoo(folder: Path) -> tuple[list[str], list[str]]:
    """Names of images of every shape and depth, and of files that are no images whatever they are called."""
    rng = np.random.default_rng(7)
    rgb = Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8))
    kept = {
        "1bit.png": rgb.convert("1"), "grey.png": rgb.convert("L"), "palette.png": rgb.convert("P"),
        "alpha.png": rgb.convert("RGBA"), "cmyk.jpg": rgb.convert("CMYK"), "rgb.jpg": rgb,
        "deep.png": Image.fromarray(rng.integers(0, 65536, (20, 20), np.uint16)),
        "dot.png": rgb.resize((1, 1)), "strip.png": rgb.resize((3000, 2)),
    }  # fmt: skip
    for name, image in kept.items():
        image.save(folder / name)
    whole = (folder / "rgb.jpg").read_bytes()
    png = (folder / "alpha.png").read_bytes()
    broken = {
        "empty.png": b"", "text.jpg": b"not an image", "half.png": png[: len(png) // 2], "header.jpg": whole[:20],
        "noise.png": rng.bytes(500), "bomb.png": _claiming_size(png, 60_000),
    }  # fmt: skip
    for name, data in broken.items():
        (folder / name).write_bytes(data)
    return list(kept), list(broken)


def _claiming_size(png: bytes, side: int) -> bytes:
    """The same PNG with a header that says it is ``side`` pixels square."""
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


# -- what is away or dies -------------------------------------------------------------------------------------------------


def test_what_is_seen_while_the_hub_is_away_is_stored_once_it_is_back(system: System, walker: Agent, camera: Agent) -> None:
    assert system.hub.stop() == 0
    names = film(walker, "away", FRAMES, fps=120)
    with _running(walker):
        walker.wait(lambda: walker.logged("the source has ended"), "the last frame")
        assert not system.seen(WALKER, names)
        system.hub.start()
        wait_for(lambda: len(system.seen(WALKER, names)) == FRAMES, "every frame")
        assert system.seen(WALKER, names) == Counter(names)
        wait_for(lambda: system.reported(WALKER).health.spool_records == 0, "an empty spool: confirmed, and so forgotten")
    assert alive(camera)


@pytest.mark.parametrize("victim", ["hub", "broker"])
def test_a_killed_hub_or_broker_loses_and_doubles_nothing(system: System, walker: Agent, camera: Agent, victim: str) -> None:
    names = film(walker, f"killed-{victim}", FRAMES)
    with _running(walker):
        wait_for(lambda: len(system.seen(WALKER, names)) > FRAMES // 4, "the middle of the stream")
        broker = system.hub.broker_pid
        if victim == "hub":
            system.hub.kill()
            assert not walker.logged("the source has ended")
            system.hub.start()
        else:
            os.kill(broker, signal.SIGKILL)
        wait_for(lambda: len(system.seen(WALKER, names)) == FRAMES, "every frame")
        assert system.seen(WALKER, names) == Counter(names)
        assert system.hub.broker_pid != broker
    system.goes_on(CAM)
    assert alive(camera)


def test_on_a_full_disk_it_infers_on_and_accounts_for_every_frame(system: System, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "cam-full")
    system.agents.append(agent)
    with _small_disk(agent.data_dir):
        system.enroll("cam-full", agent)
        agent.equip()
        names = film(agent, "full", FRAMES, fps=80)
        agent.start()
        wait_for(lambda: len(system.seen("cam-full", names)) > 10, "telemetry while there is room")
        ballast = agent.data_dir / "ballast"
        _fill(ballast)
        agent.wait(lambda: agent.logged("the source has ended"), "the last frame, seen on a full disk")
        ballast.unlink()
        wait_for(lambda: len(system.seen("cam-full", names)) + system.lost("cam-full") >= FRAMES, "an account of every frame")
        seen = system.seen("cam-full", names)
        assert max(seen.values()) == 1
        assert len(seen) + system.lost("cam-full") == FRAMES
        assert agent.stop() == 0


def test_nothing_of_all_this_cost_the_camera_a_record(system: System, camera: Agent) -> None:
    """Last: from its first frame on, through every kill, each sequence number of each epoch is stored exactly once."""
    system.goes_on(CAM)
    assert camera.stop() == 0
    readings = [reading for reading in system.readings(CAM) if reading.lane == "normal"]
    epochs = {reading.epoch for reading in readings}
    assert len(epochs) == 2, "the hub's nonsense made it begin another one"
    for epoch in epochs:
        numbers = sorted(reading.sequence for reading in readings if reading.epoch == epoch)
        assert numbers == list(range(len(numbers)))
    assert system.lost(CAM) == 0
    for log in (system.hub.log, (camera.folder / "log").read_text()):
        assert "Traceback" not in log, "nothing of all this was a surprise"


@contextlib.contextmanager
def _running(agent: Agent) -> Iterator[None]:
    """A log of its own, and a stop that says goodbye."""
    (agent.folder / "log").write_text("")
    agent.start()
    try:
        yield
        assert alive(agent)
        assert agent.stop() == 0
    finally:
        agent.close()


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs a small file system of its own: {mounted.stderr.strip() or 'mount failed'}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
