"""The fields of readings that users' streams can speak of, made when one of them asks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_hub.core.streams import FIELDS
from cloud_hub.services.unfolding import Page, Stretch
from edge_agent.streams.rows import Column
from protos.contract.telemetry import FLAG_CAPTURED, FLAG_UNCERTAIN


class StreamFields:
    """Of a whole page."""

    def __init__(self, page: Page) -> None:
        readings = page.readings
        self._page = page
        self._made: dict[str, Column] = {}
        self._make: Mapping[str, Callable[[], Column]] = {
            "label": lambda: readings.label,
            "label_name": self._label_names,
            "confidence": lambda: readings.confidence,
            "latency_ms": lambda: readings.latency_ms,
            "value": lambda: readings.value,
            "uncertain": lambda: (readings.flags & FLAG_UNCERTAIN) != 0,
            "captured": lambda: (readings.flags & FLAG_CAPTURED) != 0,
            "model": lambda: _spread([str(manifest) for _, manifest in readings.models], readings.model),
            "model_name": lambda: _spread([str(v.name) if v else "" for v in page.versions], page.version),
            "version": lambda: np.array([v.version if v else 0 for v in page.versions], dtype=np.int64)[page.version],
        }

    def of(self, stretch: Stretch) -> Mapping[str, Column]:
        return _Own(self, {"lane": stretch.lane, "device": str(stretch.device)})

    def get(self, name: str) -> Column:
        if name not in self._made:
            self._made[name] = self._make[name]()
        return self._made[name]

    def _label_names(self) -> NDArray[Any]:
        """Empty where the model or the class is not known here."""
        names = np.full(len(self._page.version), "", dtype=object)
        for number, version in enumerate(self._page.versions):
            if version is not None:
                own = np.array([*version.baseline.labels, ""], dtype=object)
                rows = self._page.version == number
                names[rows] = own[np.minimum(self._page.readings.label[rows], len(own) - 1)]
        return names


class _Own(Mapping[str, Column]):
    """Columns of the page, but what is the same in a whole stretch."""

    def __init__(self, page: StreamFields, same: Mapping[str, str]) -> None:
        self._page, self._same = page, same

    def __getitem__(self, name: str) -> Column:
        if name in self._same:
            return self._same[name]
        if name not in FIELDS:
            raise KeyError(name)
        return self._page.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(FIELDS)

    def __len__(self) -> int:
        return len(FIELDS)


def _spread(values: list[str], index: NDArray[np.int64]) -> Column:
    """A plain value where there is only one."""
    different = set(values)
    if len(different) == 1:
        return different.pop()
    return np.array(values, dtype=object)[index]
