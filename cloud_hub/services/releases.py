"""Releases: which version of a model or a package is the newest that devices may trust.

It needs no key: processes that hold none queue here what the hub's own tick signs.
"""

import logging
from datetime import datetime

from cloud_hub.core import targets as values
from cloud_hub.core.errors import NotReady
from cloud_hub.core.model import ModelVersion
from cloud_hub.core.targets import IMAGE, Subject
from cloud_hub.store import targets, trust
from cloud_hub.store.artifacts import ArtifactStore
from cloud_hub.store.database import Tx
from protos.contract.ids import TenantId

log = logging.getLogger(__name__)


def check_ready(tx: Tx) -> None:
    """Raises NotReady where nothing can be signed: there is no root."""
    if not trust.root_version(tx, IMAGE):
        raise NotReady("devices could not verify what they are to run: run 'hubctl trust init' first")


def queue(tx: Tx, tenant: TenantId, version: ModelVersion, artifacts: ArtifactStore, at: datetime) -> None:
    """The files of a new version wait to be signed, as the newest release of its model.

    Raises:
        NotFound: a golden set is not in the artifact store.
        Invalid: a variant is for no format that has a file name.
    """
    sizes = {variant.golden_digest: artifacts.size(variant.golden_digest) for variant in version.variants}
    release = targets.next_release(tx, tenant, Subject.MODEL, version.name)
    targets.add(tx, values.of_version(tenant, version, sizes, release), at)


def promote(tx: Tx, tenant: TenantId, name: str, version: int | str, at: datetime, *, subject: Subject = Subject.MODEL) -> bool:
    """Make it the newest release of its name: a device takes a version back only under a number that it has not passed.

    False where it has no targets: it was published before there were any.
    """
    there = targets.of_version(tx, tenant, subject, name, str(version))
    if not there:
        return False
    if any(target.release < targets.last_release(tx, tenant, subject, name) for target, _ in there):
        release = targets.next_release(tx, tenant, subject, name)
        targets.release(tx, tenant, subject, name, str(version), release, at)
        log.info("version released again", extra={subject.value: name, "version": version, "release": release})
    return True


def released(tx: Tx, tenant: TenantId, name: str, version: int | str, *, subject: Subject = Subject.MODEL) -> bool:
    """Whether the newest metadata names every file of it under its newest release number."""
    there = targets.of_version(tx, tenant, subject, name, str(version))
    return bool(there) and all(signed for _, signed in there)
