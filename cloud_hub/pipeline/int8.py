"""How a file is made of eight bits: what can be chosen beyond the plain way, and the samples that fix its ranges."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_hub.pipeline.data import Splits
from edge_agent.infer.inputs import tensors_of
from protos.contract.inputs import CLIP, Layout, SampleKind

# How much wider than in training values may become before a file cuts them off: traffic grows, summers get hotter. Pictures end
# at white and texts have length 1; of rows most features are 0 or 1, and numbers are cut at ``CLIP`` where training reaches it.
MARGINS = {SampleKind.WINDOW: 1.25}


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """The defaults are the plain way, which suits most networks on x86."""

    signed: bool = False  # activations in ONNX: int8, which some Arm kernels want; uint8 is 1.7 times as fast as fp32 on x86
    per_channel: bool = True  # one scale of the weights for each output channel, not one for all
    calibration: str = "minmax"  # how ranges of activations are taken from samples; TFLite: only this one
    float_first: bool = False  # the first layer with weights stays float32: it sees the raw input
    float_last: bool = False  # the last one: its error is the output's

    def __str__(self) -> str:
        parts = [self.calibration]
        if self.signed:
            parts.append("signed activations")
        if not self.per_channel:
            parts.append("per tensor")
        ends = [name for name, float_ in (("first", self.float_first), ("last", self.float_last)) if float_]
        if ends:
            parts.append(f"{' and '.join(ends)} layer in float")
        return ", ".join(parts)


PLAIN = Int8()


def calibration(splits: Splits, layout: Layout) -> NDArray[np.float32]:
    """``(N, ...)``: tensors that the ranges of every value are taken from; with a margin also such as are further out.

    So what is computed from them gets the room that it needs, whatever the network does with them.
    """
    input = splits.input_for(layout)
    usual = tensors_of(splits.train.take(splits.calibration).contents, input)
    margin = MARGINS.get(input.kind, 1.0)
    return usual if margin == 1 else np.concatenate([usual, np.clip(usual * np.float32(margin), -CLIP, CLIP)])
