"""JSON lines -> samples of any kind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloud_hub.app.hubctl.failure import refused
from cloud_hub.app.hubctl.imports.piece import SPLITS, Piece, Refusals
from cloud_hub.app.hubctl.imports.times import Clock, to_ms
from protos.contract.errors import InvalidValue
from protos.contract.samples import MAX_SAMPLE_BYTES, encode_row, encode_text

_FIELDS = ("label", "source", "split", "name", "at", "text", "row", "channels", "values")


class LineSource:
    """One object a line: ``text``, or ``row`` (an object), or ``channels`` and ``values`` (a list a step); beside it ``label``,
    ``source``, ``split``, ``name`` and ``at``. Of rows, ``row`` may be left out: then every other field is a column."""

    def __init__(self, path: Path, *, annotated: str, clock: Clock | None = None) -> None:
        self.refusals = Refusals()
        self._path = path
        self._annotated = annotated  # "class", "values", "boxes" or "none"
        self._clock = clock or Clock()
        with path.open("rb") as file:
            self._count = sum(1 for _ in file)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Piece]:
        try:
            with self._path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield from self._piece(f"{self._path.name}:{number}", line)
        except UnicodeDecodeError as error:
            raise refused(f"{self._path} is not UTF-8: {error}") from error

    def _piece(self, name: str, line: str) -> Iterator[Piece]:
        try:
            if len(line) > 4 * MAX_SAMPLE_BYTES:
                raise ValueError(f"a line of {len(line)} characters")
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("a line must be an object")
            name = str(value.get("name") or name)
            split = str(value.get("split") or "")
            if split not in ("", *SPLITS):
                raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
            at = value.get("at")
            piece = Piece(
                name=name,
                data=_content(value),
                label=self._label(value.get("label")),
                source=str(value.get("source") or name),
                split=split,
                at_ms=to_ms(self._clock.seconds(str(at))) if at is not None else 0,
            )
        except (ValueError, TypeError, OverflowError, RecursionError, InvalidValue) as error:
            self.refusals.add(name, f"not a sample: {error}"[:300])
        else:
            yield piece

    def _label(self, label: Any) -> str:
        if label is None:
            return ""
        if self._annotated == "class":
            return label if isinstance(label, str) else json.dumps(label)
        return label if isinstance(label, str) else json.dumps(label, allow_nan=False)


def _content(value: dict[str, Any]) -> bytes:
    """Raises ValueError, TypeError, InvalidValue."""
    if "text" in value:
        return encode_text(str(value["text"]))
    if "values" in value and "channels" in value:
        return _window(value["channels"], value["values"])
    row = value["row"] if "row" in value else {name: cell for name, cell in value.items() if name not in _FIELDS}
    if not isinstance(row, dict):
        raise ValueError("'row' must be an object")
    return encode_row(row)


def _window(channels: Any, values: Any) -> bytes:
    """Raises ValueError, TypeError, InvalidValue."""
    import numpy as np

    from protos.contract.samples import Window, encode_window

    readings = np.array([[float("nan") if cell is None else cell for cell in step] for step in values], np.float32)
    return encode_window(Window(channels=tuple(str(name) for name in channels), values=readings))
