"""``scripts/tuf_client``, as a public conformance suite calls it: a program, a folder and a repository over HTTP."""

import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tuf.api.metadata import TargetFile

from tests.conformance.repository import Images, forged, key, utc_now
from tests.conftest import REPOSITORY

CONTENT = b"a target"
PATH = "folder/a file.txt"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


class Client:
    """What the suite sees of it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self._url = folder, url
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()

    def run(self, *arguments: str) -> int:
        common = ["--metadata-dir", str(self.metadata), "--metadata-url", f"{self._url}/metadata"]
        done = subprocess.run([REPOSITORY / "scripts" / "tuf_client", *common, *arguments], capture_output=True, text=True)
        self.said = done.stderr
        return done.returncode

    def download(self) -> int:
        where = ("--target-base-url", f"{self._url}/targets", "--target-dir", str(self.targets))
        return self.run("--target-name", PATH, *where, "download")


@pytest.fixture
def images() -> Images:
    made = Images(utc_now)
    made.add([TargetFile.from_data(PATH, CONTENT, ["sha256"])])
    return made


@pytest.fixture
def client(tmp_path: Path, images: Images) -> Iterator[Client]:
    """Initialised with the first root."""
    (tmp_path / "served" / "targets" / "folder").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served")))
    Thread(target=server.serve_forever, daemon=True).start()
    publish(tmp_path, images)
    target = TargetFile.from_data(PATH, CONTENT, ["sha256"])
    (tmp_path / "served" / "targets" / target.get_prefixed_paths()[0]).write_bytes(CONTENT)
    made = Client(tmp_path / "client", f"http://127.0.0.1:{server.server_address[1]}")
    assert made.run("init", str(tmp_path / "served" / "metadata" / "1.root.json")) == 0
    yield made
    server.shutdown()
    server.server_close()


def publish(folder: Path, images: Images) -> None:
    metadata = folder / "served" / "metadata"
    metadata.mkdir(exist_ok=True)
    for name, data in images.files.items():
        (metadata / name).write_bytes(data)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()


def test_metadata_is_refreshed_into_files_without_versions_in_their_names(client: Client) -> None:
    assert client.run("refresh") == 0
    assert {"root.json", "timestamp.json", "snapshot.json", "targets.json"} <= {path.name for path in client.metadata.iterdir()}


def test_a_target_is_downloaded_once(client: Client, tmp_path: Path) -> None:
    assert client.download() == 0
    (file,) = client.targets.iterdir()
    assert file.read_bytes() == CONTENT
    for path in (tmp_path / "served" / "targets").rglob("*.txt"):
        path.unlink()
    assert client.download() == 0


def test_a_target_of_other_bytes_is_refused(client: Client, tmp_path: Path) -> None:
    for path in (tmp_path / "served" / "targets").rglob("*.txt"):
        path.write_bytes(b"b target")
    assert client.download() == 1
    assert "AlteredTarget" in client.said
    assert list(client.targets.iterdir()) == []


def test_what_has_expired_by_then_is_refused(client: Client) -> None:
    assert client.run("--days-in-future", "2", "refresh") == 1
    assert "Frozen" in client.said


def test_a_stranger_is_refused(client: Client, images: Images, tmp_path: Path) -> None:
    images.files["timestamp.json"] = forged(images.files["timestamp.json"], key())
    publish(tmp_path, images)
    assert client.run("refresh") == 1
    assert "BadSignature" in client.said


def test_what_was_seen_is_remembered_without_the_cache(client: Client, images: Images, tmp_path: Path) -> None:
    before = images.files["timestamp.json"]
    images.publish()
    publish(tmp_path, images)
    assert client.run("refresh") == 0
    for path in client.metadata.glob("*.json"):
        path.unlink()
    images.files["timestamp.json"] = before
    publish(tmp_path, images)
    assert client.run("refresh") == 1
    assert "RollbackRefused" in client.said
