"""An archive belongs to one database: what the database does not list is removed, so it must be the right database."""

import json
import secrets

from cloud_hub.archive.files import Files
from cloud_hub.core.errors import NotFound, NotReady
from cloud_hub.store import archive as store
from cloud_hub.store.database import Database

MARK = "archive.json"
_VERSION = 1  # of how the archive is laid out


def claim(db: Database, files: Files) -> None:
    """Raises NotReady where the archive is another database's, or has lost what this one put there."""
    with db.write() as tx:
        id = store.owner(tx)
        if id is None:
            id = secrets.token_hex(16)
            store.own(tx, id)
        must, may = store.paths(tx)
    found = _mark(files)
    if found is None and not must:
        files.put(MARK, json.dumps({"id": id, "version": _VERSION}).encode())
        return
    if found is None:
        raise NotReady(
            f"the archive at {files.root} is empty, but the database lists {len(must) + len(may)} files in it: "
            "restore the archive, or set telemetry.archive_url to where it is"
        )
    if found != {"id": id, "version": _VERSION}:
        raise NotReady(
            f"the archive at {files.root} belongs to another database: set telemetry.archive_url to a place of its own"
        )


def _mark(files: Files) -> object:
    try:
        return json.loads(files.get(MARK))
    except NotFound:
        return None
    except ValueError as error:
        raise NotReady(f"{MARK} in the archive at {files.root} is damaged: restore it from a backup") from error
