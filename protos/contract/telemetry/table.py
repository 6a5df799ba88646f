"""Many inferences as columns."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protos.contract.errors import InvalidValue
from protos.contract.ids import Digest
from protos.contract.telemetry.bounds import MAX_LATENCY_MS, MAX_ROWS, MAX_TIME_MS, from_ms, to_ms
from protos.contract.telemetry.records import Inference

FLAG_CAPTURED = 1
FLAG_UNCERTAIN = 2

_NO_VALUES = np.empty(0, dtype="<f4")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferenceTable:
    """Many inferences as columns, each ``(rows,)``; checked as a whole because an object per row costs more than the wire.

    Raises InvalidValue unless sequences ascend and every value is within the bounds of ``Inference``.
    """

    sequence: NDArray[np.uint64]
    captured_at_ms: NDArray[np.int64]
    label: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    latency_ms: NDArray[np.float32]
    flags: NDArray[np.uint8]  # FLAG_CAPTURED | FLAG_UNCERTAIN
    frame_key: NDArray[np.uint64]
    model: NDArray[np.uint8]  # index into models
    models: tuple[Digest, ...]
    value: NDArray[np.float32] = field(default_factory=lambda: _NO_VALUES)  # NaN: none; empty: none in any row

    def __post_init__(self) -> None:
        rows = len(self.sequence)
        if len(self.value) == 0:
            object.__setattr__(self, "value", np.full(rows, np.nan, dtype="<f4"))
        if any(len(column) != rows for column in self._columns()):
            raise InvalidValue("inference columns have different lengths")
        if rows > MAX_ROWS:
            raise InvalidValue(f"batch holds {rows} inferences, more than {MAX_ROWS}")
        if rows == 0:
            return
        if not bool(np.all(self.sequence[1:] > self.sequence[:-1])):
            raise InvalidValue("inference sequences do not ascend")
        if not bool(np.all((self.confidence >= 0) & (self.confidence <= 1))):
            raise InvalidValue("confidence must be in 0..1")
        if not bool(np.all((self.latency_ms >= 0) & (self.latency_ms <= MAX_LATENCY_MS))):
            raise InvalidValue(f"latency must be in 0..{MAX_LATENCY_MS:g}")
        if int(self.captured_at_ms.min()) < 0 or int(self.captured_at_ms.max()) >= MAX_TIME_MS:
            raise InvalidValue("captured_at must be within 1970..9999")
        if int(self.flags.max()) > FLAG_CAPTURED | FLAG_UNCERTAIN:
            raise InvalidValue(f"unknown flag bits in {int(self.flags.max()):#x}")
        if int(self.model.max()) >= len(self.models):
            raise InvalidValue(f"model index {int(self.model.max())} of only {len(self.models)} models")
        if bool(np.isinf(self.value).any()):
            raise InvalidValue("a value is infinite")

    def __len__(self) -> int:
        return len(self.sequence)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InferenceTable):
            return NotImplemented
        alike = np.array_equal(self.value, other.value, equal_nan=True)
        return alike and self.models == other.models and all(map(np.array_equal, self._columns()[:-1], other._columns()[:-1]))

    __hash__ = None  # type: ignore[assignment]  # arrays are mutable

    @classmethod
    def of(cls, rows: Sequence[Inference]) -> "InferenceTable":
        models = tuple(dict.fromkeys(row.model for row in rows))
        if len(models) > 256:
            raise InvalidValue(f"batch names {len(models)} models, more than 256")
        index = {model: i for i, model in enumerate(models)}
        return cls(
            sequence=np.array([row.sequence for row in rows], dtype="<u8"),
            captured_at_ms=np.array([to_ms(row.captured_at) for row in rows], dtype="<i8"),
            label=np.array([row.label for row in rows], dtype="<u2"),
            confidence=np.array([row.confidence for row in rows], dtype="<f4"),
            latency_ms=np.array([row.latency_ms for row in rows], dtype="<f4"),
            flags=np.array([FLAG_CAPTURED * row.captured | FLAG_UNCERTAIN * row.uncertain for row in rows], dtype="u1"),
            frame_key=np.array([row.frame_key for row in rows], dtype="<u8"),
            model=np.array([index[row.model] for row in rows], dtype="u1"),
            models=models,
            value=np.array([math.nan if row.value is None else row.value for row in rows], dtype="<f4"),
        )

    @property
    def has_values(self) -> bool:
        return not bool(np.isnan(self.value).all())

    def rows(self) -> Iterator[Inference]:
        for i in range(len(self)):
            flags, value = int(self.flags[i]), float(self.value[i])
            yield Inference(
                sequence=int(self.sequence[i]),
                captured_at=from_ms(int(self.captured_at_ms[i])),
                model=self.models[int(self.model[i])],
                label=int(self.label[i]),
                confidence=float(self.confidence[i]),
                latency_ms=float(self.latency_ms[i]),
                captured=bool(flags & FLAG_CAPTURED),
                uncertain=bool(flags & FLAG_UNCERTAIN),
                frame_key=int(self.frame_key[i]),
                value=None if math.isnan(value) else value,
            )

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return (
            self.sequence, self.captured_at_ms, self.label, self.confidence,
            self.latency_ms, self.flags, self.frame_key, self.model, self.value,
        )  # fmt: skip


NO_INFERENCES = InferenceTable.of(())
