"""What every operator of a model gives on its way, in the network itself and in each kind of file."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tap:
    """One value, in the order in which they are computed."""

    operator: str  # as the one who computes it calls it: "conv2d", "Conv", "CONV_2D"
    name: str  # of the module in a network; of the node or its output in a file
    weighted: bool  # a convolution or a matrix: what both sides have alike, whatever is fused around it
    values: NDArray[np.float32]  # (N, ...): real numbers, whatever they are stored in
    sources: frozenset[int] = frozenset()  # of files: positions of the values this one is computed from
