"""How a file is made of eight bits: what can be chosen beyond the plain way."""

from dataclasses import dataclass


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
