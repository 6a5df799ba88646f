"""Listings that the hub gives in pages."""

from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any

import typer

from cloud_hub.app.hubctl.hub import TIMEOUT_S
from cloud_hub.app.hubctl.plain import plain

Limit = Annotated[int, typer.Option(min=0, help="Rows at most; 0: all.")]


def listed(method: Callable[..., Any], request: Any, field: str, limit: int = 0) -> list[dict[str, Any]]:
    """Up to ``limit`` (0: all) of what the replies hold in ``field``, page after page; the request is used up."""
    request.page_size = limit
    return [plain(item) for item in islice(_items(method, request, field), limit or None)]


def _items(method: Callable[..., Any], request: Any, field: str) -> Any:
    while True:
        reply = method(request, timeout=TIMEOUT_S)
        yield from getattr(reply, field)
        if not reply.next_page_token:
            return
        request.page_token = reply.next_page_token
