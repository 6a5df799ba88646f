"""How long a model takes."""

import time

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.ports import Runtime


def timed(runtime: Runtime, tensor: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """``runtime.run(tensor)``, and the milliseconds it took in the runtime alone.

    Where the runtime has a process of its own, the wait until a busy machine lets that process run is not the model's fault.
    What the process says is believed within what passed here: one that was taken over can call itself fast, as it can answer
    anything, but it cannot hang.
    """
    started = time.perf_counter()
    logits = runtime.run(tensor)
    passed_ms = (time.perf_counter() - started) * 1e3
    inner_ms = runtime.inner_ms
    return logits, passed_ms if inner_ms is None else min(inner_ms, passed_ms)
