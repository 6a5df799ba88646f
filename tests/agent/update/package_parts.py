"""What installers of packages are given in tests."""

from pathlib import Path
from typing import Any, cast

from edge_agent.core.ports import Hub
from edge_agent.update.fetch import Fetcher
from edge_agent.update.floors import Release
from edge_agent.update.surroundings import Approved, ApprovedPackage
from protos.contract.manifest import Blob
from protos.contract.twin import ModelAssignment, PackageAssignment


class Permits:
    """Everything is approved."""

    def package(self, hub: Hub, package: PackageAssignment) -> ApprovedPackage:
        blob = Blob(digest=package.digest, size_bytes=package.size_bytes)
        return ApprovedPackage(blob=blob, release=Release(series="agent/default/agent", number=1))

    def model(self, hub: Hub, model: ModelAssignment) -> Approved:
        raise AssertionError("no model is fetched here")


class Fetches:
    """In place of ``fetch.Fetcher``: what it brings is in ``files``."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def fetch(self, path: Path, package: PackageAssignment, **given: object) -> ApprovedPackage:
        path.write_bytes(self.files[package.digest])
        approve = given["approve"]
        assert callable(approve)
        approved = approve(None)
        assert isinstance(approved, ApprovedPackage)
        return approved

    def cut(self) -> None: ...

    def as_fetcher(self) -> Fetcher:
        return cast(Any, self)  # type: ignore[no-any-return]
