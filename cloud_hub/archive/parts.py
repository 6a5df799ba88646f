"""A table on its way into the archive: cut by day, written, and described for ``archive_files``."""

from collections.abc import Iterator

import pyarrow as pa

from cloud_hub.archive import parquet
from cloud_hub.archive.files import Files, new_name
from cloud_hub.store.archive import Kind, NewFile
from protos.contract.ids import TenantId


def put_by_day(
    files: Files, tenant: TenantId, kind: Kind, table: pa.Table, *, begun_ms: int, came_ms: int
) -> Iterator[NewFile]:
    """Each file is durable when it is told; nothing refers to it yet."""
    for day, part in parquet.by_day(kind, parquet.ordered(kind, table)):
        yield put(files, tenant, kind, day, part, begun_ms=begun_ms, came_ms=came_ms)


def put(files: Files, tenant: TenantId, kind: Kind, day: str, table: pa.Table, *, begun_ms: int, came_ms: int) -> NewFile:
    """``table`` is in order and not empty."""
    path = f"{kind}/tenant={tenant}/day={day}/{new_name(begun_ms)}"
    data = parquet.write(kind, table)
    files.put(path, data)
    first_ms, last_ms = parquet.span_ms(kind, table)
    return NewFile(
        tenant=tenant,
        kind=kind,
        day=day,
        path=path,
        rows=len(table),
        bytes=len(data),
        first_ms=first_ms,
        last_ms=last_ms,
        came_ms=came_ms,
    )
