"""Many small files of one day become few: files of about one size are merged into one of the next."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence

from cloud_hub.archive import parquet
from cloud_hub.archive.files import Files
from cloud_hub.archive.parquet import DAY_MS
from cloud_hub.archive.parts import put
from cloud_hub.core.errors import NotFound
from cloud_hub.store import archive as store
from cloud_hub.store.archive import ArchiveFile
from cloud_hub.store.database import Database

log = logging.getLogger(__name__)

FAN_IN = 8  # a row is written once more for each power of it: eight files of one size make one of the next
_MERGED_BYTES = 256 << 20  # of the files merged at once: windows and gaps hold texts


def merge(db: Database, files: Files, max_rows: int, now_ms: int) -> int:
    """Files that were replaced. Raises NotFound, after all others are merged, where one of them is missing."""
    with db.read() as tx:
        partitions = store.live_partitions(tx)
    replaced, missing = 0, None
    for partition in partitions:
        with db.read() as tx:
            found = store.live_of(tx, *partition)
        for group in _groups(found, max_rows):
            try:
                _merge(db, files, group, now_ms)
                replaced += len(group)
            except NotFound as error:
                missing = error
    if missing is not None:
        raise missing
    return replaced


def _groups(found: Sequence[ArchiveFile], max_rows: int) -> Iterator[list[ArchiveFile]]:
    """Of one partition, each to become one file."""
    levels: dict[tuple[int, int], list[ArchiveFile]] = defaultdict(list)
    for file in found:
        if file.rows <= max_rows // 2:
            levels[_level(file), file.came_ms // DAY_MS].append(file)  # what ends on one day goes together
    for level in levels.values():
        group: list[ArchiveFile] = []
        for file in level:
            if sum(one.rows for one in group) + file.rows > max_rows or sum(one.bytes for one in group) > _MERGED_BYTES:
                break
            group.append(file)
        if len(group) >= FAN_IN or (len(group) >= 2 and len(group) < len(level)):
            yield group


def _level(file: ArchiveFile) -> int:
    return (file.rows.bit_length() - 1) // (FAN_IN.bit_length() - 1)


def _merge(db: Database, files: Files, group: Sequence[ArchiveFile], now_ms: int) -> None:
    first = group[0]
    table = parquet.joined(first.kind, [parquet.read(files.get(file.path)) for file in group])
    came_ms = max(file.came_ms for file in group)
    made = put(files, first.tenant, first.kind, first.day, table, begun_ms=now_ms, came_ms=came_ms)
    with db.write() as tx:
        store.replaced(tx, group, [made], now_ms)
    fields = {"kind": first.kind.value, "day": first.day, "files": len(group), "rows": made.rows}
    log.info("archive files merged", extra=fields)
