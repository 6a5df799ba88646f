"""Hardware a model can be built for, as ``firmware_images/boards/<name>.toml`` describes it."""

from dataclasses import dataclass

from protos.contract.errors import InvalidValue

RUNTIMES = ("onnx", "tflite", "tflite-legacy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    name: str
    description: str
    architecture: str  # "x86_64", "aarch64", "armv7l"
    kind: str  # "camera" or "vehicle"
    runtimes: tuple[str, ...]  # best first
    memory_mb: int
    storage_mb: int
    max_model_bytes: int

    def __post_init__(self) -> None:
        unknown = set(self.runtimes) - set(RUNTIMES)
        if unknown or not self.runtimes:
            raise InvalidValue(f"board {self.name}: runtimes must be some of {', '.join(RUNTIMES)}, got {sorted(unknown)}")
        if self.kind not in ("camera", "vehicle"):
            raise InvalidValue(f"board {self.name}: kind must be 'camera' or 'vehicle', got {self.kind!r}")
