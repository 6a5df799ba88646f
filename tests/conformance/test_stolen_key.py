"""A thief with the director's key, from the hub's own folder, and in its place on the network: a real agent sees through it."""

import json
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from cloud_hub.app import setup
from cloud_hub.core.errors import NotFound
from cloud_hub.core.model import Principal, Role
from cloud_hub.core.targets import DIRECTOR, IMAGE
from cloud_hub.trust.tuf.keys import OnlineKeys
from protos.contract import ids
from protos.contract.update import FINAL, UpdateState
from protos.v1 import artifacts_pb2, artifacts_pb2_grpc, trust_pb2, trust_pb2_grpc
from tests.agent import models
from tests.conformance.agent import Agent
from tests.conformance.repository import Ask, forged
from tests.conformance.trust import TrustService
from tests.e2e.system import BOARD, System, wait_for

CAM = "cam-a"
TENANT = ids.tenant_id("default")
UPDATE = {"fetch_timeout_s": 1.0, "probation_s": 0.1, "probation_inferences": 3, "max_latency_ratio": 1e6}
Named = dict[str, TargetFile]


class Thief(artifacts_pb2_grpc.ArtifactsServicer):
    """Passes on what the hub says, except the word of the director, which it signs itself."""

    def __init__(self, system: System) -> None:
        self._system, self._trust = system, system.services.trust
        stolen = OnlineKeys(system.hub.data_dir / "trust" / "keys").newest(DIRECTOR, "targets")
        assert stolen is not None
        self._key: CryptoSigner = stolen.signer
        self.change: Callable[[Named], Named] = lambda named: named
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        trust_pb2_grpc.add_TrustServicer_to_server(TrustService(lambda _: self, tenant=TENANT, board=BOARD), self._server)
        artifacts_pb2_grpc.add_ArtifactsServicer_to_server(self, self._server)
        authority = setup.open_authority(system.hub.config)
        mine = authority.issue_server(["localhost"])  # as if the thief had that too
        pair = (mine.key_pem.encode(), mine.certificate_pem.encode())
        credentials = grpc.ssl_server_credentials([pair], authority.ca_pem.encode(), require_client_auth=True)
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait(10)

    def honest(self, nonce: bytes = bytes(32)) -> bytes:
        return self._trust.director(Principal(role=Role.DEVICE, name=CAM, tenant=TENANT), nonce)

    def director(self, ask: Ask) -> bytes:
        def change(signed: Targets) -> None:
            signed.targets = self.change(signed.targets)

        return forged(self.honest(ask.nonce), self._key, change=change)

    def metadata(self, repository: int, name: str) -> bytes | None:
        try:
            return self._trust.metadata(DIRECTOR if repository == trust_pb2.REPOSITORY_DIRECTOR else IMAGE, name)
        except NotFound:
            return None

    def Download(self, request: artifacts_pb2.DownloadRequest, context: grpc.ServicerContext) -> Iterator[artifacts_pb2.Chunk]:
        data = self._system.blob_path(request.digest).read_bytes()
        yield artifacts_pb2.Chunk(data=data[request.offset :], total_bytes=len(data))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("system"))
    yield made
    made.close()


def robbed(system: System, thief: Thief) -> Agent:
    """Its way to the hub ends at the thief."""
    agent = system.agent(CAM)
    names = agent.data_dir / "identity" / "hub.json"
    names.write_text(json.dumps(json.loads(names.read_text()) | {"hub_address": f"localhost:{thief.port}"}))
    agent.configure(update=UPDATE)
    agent.start()
    return agent


def test_a_stolen_director_key_gives_a_device_nothing_but_what_was_released_for_it(system: System) -> None:
    thief = Thief(system)
    try:
        agent = robbed(system, thief)
        first = system.publish(lambda number: models.files(seed=number, version=number))
        system.roll_out(first, CAM)
        wait_for(lambda: system.runs(CAM) == first.version, "the first version: the stolen key is good")
        old: Named = Metadata[Targets].from_bytes(thief.honest()).signed.targets
        thefts: dict[str, Callable[[Named], Named]] = {
            "AlteredTarget": lambda named: _with_bytes_of(old, named),
            "UnknownTarget": lambda named: {_unknown(path): _moved(target) for path, target in named.items()},
            "UnknownTarget: the director names 0 files": lambda named: old,
        }
        for said, theft in thefts.items():
            thief.change = theft
            version = system.publish(lambda number: models.files(seed=number, version=number))
            system.roll_out(version, CAM)
            wait_for(lambda: _refused(system, version.version, said), f"{said} for version {version.version}")  # noqa: B023
            assert system.runs(CAM) == first.version
            system.goes_on(CAM)
        assert agent.process is not None and agent.process.poll() is None
    finally:
        thief.close()


def _refused(system: System, version: int, said: str) -> bool:
    update = system.reported(CAM).update
    if update is None or update.model is None or update.model.version != version or update.state not in FINAL:
        return False
    assert (update.state, update.reason[: len(said)]) == (UpdateState.FAILED, said), update.reason
    return True


def _with_bytes_of(old: Named, named: Named) -> Named:
    kinds = {target.custom["kind"]: target for target in old.values() if target.custom}
    made = {}
    for path, target in named.items():
        assert target.custom is not None
        other = kinds[target.custom["kind"]]
        made[path] = TargetFile(other.length, other.hashes, path, target.unrecognized_fields)
    return made


def _unknown(path: str) -> str:
    return str(Path(path).with_stem("evil"))


def _moved(target: TargetFile) -> TargetFile:
    return TargetFile(target.length, target.hashes, _unknown(target.path), target.unrecognized_fields)
