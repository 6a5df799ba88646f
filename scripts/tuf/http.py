"""Files over HTTP, bounded in bytes and time."""

import time
import urllib.error
import urllib.request

from edge_agent.core.errors import Absent, Endless, LinkDown, TooSlow

_PIECE = 64 << 10
_SILENCE_S, _TOTAL_S = 10.0, 60.0


def get(url: str, max_bytes: int) -> bytes:
    """Raises as ``ports.Hub.metadata``."""
    ends, data = time.monotonic() + _TOTAL_S, bytearray()
    try:
        with urllib.request.urlopen(url, timeout=_SILENCE_S) as answer:
            while piece := answer.read1(min(_PIECE, max_bytes + 1 - len(data))):
                data += piece
                if len(data) > max_bytes:
                    raise Endless(f"{url} has more than {max_bytes} bytes")
                if time.monotonic() > ends:
                    raise TooSlow(f"{url} did not come within {_TOTAL_S:.0f} s")
    except urllib.error.HTTPError as error:
        if error.code in (403, 404):
            raise Absent(f"{url}: {error}") from error
        raise LinkDown(f"{url}: {error}") from error
    except OSError as error:
        raise LinkDown(f"{url}: {error}") from error
    return bytes(data)
