"""The archive on a folder and on an object store: a real server that speaks the S3 protocol, in this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_hub.archive.files import Files, LocalFiles, ObjectFiles
from cloud_hub.store.database import Database
from tests.hub.archive.parts import Store

BUCKET = "telemetry"


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    """Of a bucket for this test process."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed: pip install 'tideline[dev]'")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'tideline[s3]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret"}
    s3fs.S3FileSystem(**options).mkdir(BUCKET)
    yield options
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return LocalFiles(tmp_path / "archive")
    options = request.getfixturevalue("s3_options")
    return ObjectFiles(f"s3://{BUCKET}/{tmp_path.name}", options)


@pytest.fixture
def local_files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "archive")


@pytest.fixture
def store(db: Database, files: Files, tmp_path: Path) -> Store:
    """On both databases and both kinds of files."""
    return Store(db=db, files=files, folder=tmp_path)


@pytest.fixture
def local(db: Database, local_files: LocalFiles, tmp_path: Path) -> Store:
    """On both databases, in a folder."""
    return Store(db=db, files=local_files, folder=tmp_path)
