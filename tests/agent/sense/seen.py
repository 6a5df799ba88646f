"""What sources gave, as what it is."""

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.model import Observation


def pixels(seen: Observation) -> NDArray[np.uint8]:
    assert isinstance(seen.content, np.ndarray)
    return seen.content
