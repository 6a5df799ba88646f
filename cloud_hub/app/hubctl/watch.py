"""Streams that outlast a hub's restart and the hub's limit on one call."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import grpc

T = TypeVar("T")

PATIENCE_S = 60.0  # how long a hub that was there may be away
_WAIT_S = 1.0  # between tries
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def watch(call: Callable[[], Iterable[T]]) -> Iterator[T]:
    """Replies of ``call``, which is called again when it breaks off; each call tells the present state first.

    Raises:
        grpc.RpcError: nothing ever came, the hub has been away for PATIENCE_S, or it is no matter of reaching it.
    """
    heard = False
    away_since: float | None = None
    while True:
        try:
            for reply in call():
                heard, away_since = True, None
                yield reply
            return
        except grpc.RpcError as error:
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if error.code() not in _AGAIN or not heard or now - away_since > PATIENCE_S:
                raise
        time.sleep(_WAIT_S)
