"""Many sources in one pass give what each gives by itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.streams.spec import Kind
from edge_agent.streams.windows import Windows, add_all
from tests.agent.streams.examples import as_rows, row_sets, specs
from tests.agent.streams.reference import Row

DEVICES = ("a", "b", "c")


@pytest.mark.parametrize("kind", Kind)
@settings(max_examples=100, deadline=None)
@given(st.data(), row_sets(DEVICES))
def test_folding_many_devices_at_once_is_folding_each(kind: Kind, data: st.DataObject, rows: list[Row]) -> None:
    """Whatever the order, late rows and repeats included."""
    spec = data.draw(specs(kind))
    arrival = data.draw(st.permutations([*rows, *rows[:5]]))
    alone, joint = ({device: Windows(spec) for device in DEVICES} for _ in range(2))
    while arrival:
        page, arrival = arrival[:8], arrival[8:]
        parts = {device: as_rows(device, [row for row in page if row.origin == device]) for device in DEVICES}
        expected = [alone[device].add(part) for device, part in parts.items()]
        assert add_all([(joint[device], part) for device, part in parts.items()]) == expected
    for device in DEVICES:
        assert joint[device].state() == alone[device].state()
        assert joint[device].finish() == alone[device].finish()
