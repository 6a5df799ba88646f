"""Files and sockets of lines as sources: nothing half-written, nothing unbounded, every loss counted."""

import math
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SeriesConfig, SourceConfig
from edge_agent.core.errors import ConfigError, SourceUnavailable
from edge_agent.core.model import Observation
from edge_agent.sense import feeds
from edge_agent.sense.feeds import FileFeed
from edge_agent.sense.keys import frame_key
from edge_agent.sense.records import RecordSource
from edge_agent.sense.sources import open_source
from protos.contract.samples import Window

DEADLINE_S = 20
START = datetime(2026, 1, 1, tzinfo=UTC)


def source(path: Path | str, kind: str = "table", **settings: object) -> RecordSource:
    config = SourceConfig(kind=kind, path=str(path), **{"fps": 0.0, **settings})  # type: ignore[arg-type]
    return RecordSource(config, SystemClock())


def contents(path: Path, kind: str = "table", **settings: object) -> list[object]:
    return [seen.content for seen in source(path, kind, **settings).observations()]


def windows(path: Path, **settings: object) -> list[list[list[float]]]:
    told = contents(path, "series", **settings)
    return [window.values.tolist() for window in told if isinstance(window, Window)]


class Followed:
    """A source read by a thread of its own; ``next`` waits for what it gives."""

    def __init__(self, made: RecordSource) -> None:
        self.made = made
        self._seen: list[Observation] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for seen in self.made.observations():
            with self._more:
                self._seen.append(seen)
                self._more.notify_all()

    def wait(self, count: int) -> list[object]:
        with self._more:
            assert self._more.wait_for(lambda: len(self._seen) >= count, DEADLINE_S), self._seen
            return [seen.content for seen in self._seen]

    def close(self) -> list[object]:
        self.made.close()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return [seen.content for seen in self._seen]


@pytest.fixture
def follow() -> Iterator[list[Followed]]:
    made: list[Followed] = []
    yield made
    for each in made:
        each.close()


# -- tables -------------------------------------------------------------------------------------------------------------


def test_rows_of_a_csv_file_have_numbers_texts_and_names(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(b'\xef\xbb\xbfage, job ,code\r\n41,"clerk, senior",007\r\n\r\n,driver,1e3')
    first, second = source(path).observations()
    assert first.content == {"age": 41.0, "job": "clerk, senior", "code": "007"}
    assert second.content == {"age": None, "job": "driver", "code": 1000.0}, "the last line of a whole file needs no end"
    assert (first.name, second.name, first.source) == ("people.csv#2", "people.csv#4", "people")
    assert first.key == frame_key(first.name) and first.captured_at.tzinfo is not None


def test_rows_of_json_lines_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    bad = [b"{", b"[1]", b'{"a":NaN}', b'{"a":{}}', b"[" * 50_000, b'{"a":1' + b"0" * 400 + b"}", b"\xff\xfe"]
    path.write_bytes(b"\n".join([b'{"a":1,"b":["x"]}', *bad, b"", b'{"a":2}']))
    made = source(path)
    assert [seen.content for seen in made.observations()] == [{"a": 1.0, "b": ("x",)}, {"a": 2.0}]
    assert made.skipped == len(bad)


def test_a_line_that_is_no_record_is_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,2\n1\n1,2,3\n"open,2\n3,4\na,b\n')
    made = source(path)
    assert [seen.content for seen in made.observations()] == [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]
    assert made.skipped == 3, "a header that comes again is no loss"


@pytest.mark.parametrize("header", ["a,b", "a,b,"])
def test_a_logger_may_end_each_record_with_a_comma(tmp_path: Path, header: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1, 2,\n3,4\n5,6,7\n{header}\n")
    made = source(path)
    assert [seen.content for seen in made.observations()] == [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]
    assert made.skipped == 1


def test_a_row_has_the_time_and_the_name_that_its_columns_say(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "at,id,x\n2026-01-01T00:00:01,r1,1\n1767225602,2,1\n1767225603500,r3,1\n2026-01-01T01:00:04+01:00,r4,1\nno,r5,1\n,r6,1\n1767225605,,1\n-1,r8,1\n0001-01-01T00:00:00,r9,1\n"
    )
    made = source(path, time_column="at", name_column="id")
    told = list(made.observations())
    assert [(seen.captured_at - START).total_seconds() for seen in told] == [1, 2, 3.5, 4]
    assert [seen.name for seen in told] == ["r1", "2", "r3", "r4"]
    assert made.skipped == 5


@pytest.mark.parametrize("header", ["a,a", ",a", ",", "x,y"])
def test_a_header_that_cannot_be_used_makes_the_source_unavailable(tmp_path: Path, header: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1,2\n")
    with pytest.raises(SourceUnavailable):
        list(source(path, time_column="a").observations())


def test_a_loop_begins_again_and_an_empty_one_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n2\n")
    made = source(path, loop=True)
    assert [seen.name for seen in islice(made.observations(), 5)] == ["t.csv#2", "t.csv#3", "t.csv#2", "t.csv#3", "t.csv#2"]
    path.write_text("a\n")
    with pytest.raises(SourceUnavailable, match="nothing that can be used"):
        list(source(path, loop=True).observations())


@pytest.mark.parametrize("name", ["absent", "folder", "pipe"])
def test_what_is_no_file_is_unavailable(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        with pytest.raises(SourceUnavailable):
            list(source(tmp_path / name).observations())
    finally:
        os.close(reader)


# -- texts --------------------------------------------------------------------------------------------------------------


def test_every_line_is_a_text_and_odd_bytes_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes("grüße\n\n  two words \n".encode() + b"\xff\n" + b"x" * 70_000 + b"\n")
    made = source(path, "lines")
    assert [seen.content for seen in made.observations()] == ["grüße", "two words", "\ufffd"]
    assert made.skipped == 1, "a text longer than any model takes"


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"a\n" + b"x" * (5 << 20) + b"\nb\n" + b"y" * (3 << 20))
    made = source(path, "lines")
    assert [seen.content for seen in made.observations()] == ["a", "b"]
    assert made.skipped == 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"\xff", b"x" * 30]), max_size=30), size=st.integers(1, 9))
def test_lines_are_those_of_the_file_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: list[bytes], size: int
) -> None:
    monkeypatch.setattr(feeds, "_CHUNK_BYTES", size)
    path = tmp_path / "f"
    path.write_bytes(b"".join(data))
    told = list(FileFeed(path, threading.Event(), lambda number, why: None).lines())
    whole = b"".join(data).decode("utf-8", "replace").split("\n")
    wanted = [line.removesuffix("\r") for line in (whole if whole[-1] else whole[:-1])]
    assert [line.text for line in told] == wanted
    assert [line.number for line in told] == list(range(1, len(wanted) + 1))


# -- following ----------------------------------------------------------------------------------------------------------


def test_a_growing_file_is_followed_and_no_line_is_read_half(tmp_path: Path, follow: list[Followed]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,1\n2,")
    follow.append(Followed(source(path, follow=True)))
    assert follow[0].wait(1) == [{"a": 1.0, "b": 1.0}]
    with path.open("a") as file:
        file.write("2\n3,")
        file.flush()
        assert follow[0].wait(2)[1] == {"a": 2.0, "b": 2.0}
        file.write("3\n")
    assert follow[0].wait(3)[2] == {"a": 3.0, "b": 3.0}
    assert follow[0].made.skipped == 0


@pytest.mark.parametrize("how", ["renamed", "cut"])
def test_the_file_that_takes_its_place_is_read_from_its_beginning(tmp_path: Path, follow: list[Followed], how: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,1\n2,2\ntorn")
    follow.append(Followed(source(path, follow=True)))
    follow[0].wait(2)
    if how == "renamed":
        path.rename(tmp_path / "t.csv.1")
        other = tmp_path / "new"
        other.write_text("b,a\n7,8\n")
        other.rename(path)
    else:
        path.write_text("b,a\n7,8\n")
    assert follow[0].wait(3)[2] == {"b": 7.0, "a": 8.0}
    assert follow[0].made.skipped == 1, "the line that was never finished"


def test_fresh_takes_what_is_written_from_now_on_under_the_header_that_is_there(tmp_path: Path, follow: list[Followed]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,1\n2,")
    follow.append(Followed(source(path, follow=True, fresh=True)))
    seen = 0
    while not follow[0]._seen:  # the thread opens the file at some time; from then on lines count
        seen += 1
        with path.open("a") as file:
            file.write(f"9\n{seen},0\n5,")
        follow[0].made._closed.wait(0.02)
        assert seen < 1000
    told = follow[0].close()
    assert {"a": 1.0, "b": 1.0} not in told
    assert all(isinstance(row, dict) and row["b"] in (0.0, 9.0) for row in told)


# -- windows ------------------------------------------------------------------------------------------------------------


def series(**settings: object) -> SeriesConfig:
    return SeriesConfig(**{"channels": ("x",), "steps": 3, **settings})  # type: ignore[arg-type]


def write(path: Path, readings: list[tuple[float, str]]) -> Path:
    rows = [f"{(START + timedelta(seconds=at)).isoformat()},{x}" for at, x in readings]
    path.write_text("\n".join(["t,x", *rows]) + "\n")
    return path


def test_a_window_comes_after_every_stride(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,x\n" + "\n".join(f"0,{i}" for i in range(8)))
    assert windows(path, series=series()) == [[[0], [1], [2]], [[3], [4], [5]]]
    assert windows(path, series=series(stride=2)) == [[[0], [1], [2]], [[2], [3], [4]], [[4], [5], [6]]]
    assert windows(path, series=series(stride=4)) == [[[1], [2], [3]], [[5], [6], [7]]]
    both = contents(path, "series", series=series(channels=(), steps=4))
    assert [window.channels for window in both if isinstance(window, Window)] == [("a", "x")] * 2


def test_a_window_has_the_time_and_the_name_of_its_last_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [(i, str(i)) for i in range(3)])
    (seen,) = source(path, "series", time_column="t", series=series(step_s=1.0)).observations()
    assert (seen.captured_at, seen.name) == (START + timedelta(seconds=2), "t.csv#4")


def test_short_gaps_are_bridged_with_nan_and_longer_ones_begin_anew(tmp_path: Path) -> None:
    readings = [(0, "0"), (1.1, "1"), (3.0, "3"), (4, "4"), (7, "7"), (8, "8"), (9, "9")]
    path = write(tmp_path / "t.csv", readings)
    told = windows(path, time_column="t", series=series(step_s=1.0, max_gap=1, stride=1))
    np.testing.assert_equal(told, [[[1], [math.nan], [3]], [[math.nan], [3], [4]], [[7], [8], [9]]])
    assert windows(path, time_column="t", series=series(step_s=1.0)) == [[[7], [8], [9]]]
    assert len(windows(path, time_column="t", series=series())) == 2, "without step_s each reading is the next step"


def test_readings_out_of_order_are_skipped_until_the_clock_was_put_back(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv", [(100, "0"), (101, "1"), (101.2, "no"), (100, "no"), (102, "2"), (5, "5"), (6, "6"), (7, "7")]
    )
    made = source(path, "series", time_column="t", series=series(step_s=1.0))
    told = [seen.content for seen in made.observations()]
    assert [window.values[:, 0].tolist() for window in told if isinstance(window, Window)] == [[0, 1, 2], [5, 6, 7]]
    assert made.skipped == 2


def test_what_is_no_number_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [(0, ""), (1, "broken"), (2, "9e29"), (3, "1e39"), (4, "NaN"), (5, "5")])
    first, second = windows(path, time_column="t", series=series())
    np.testing.assert_equal(first, [[math.nan], [math.nan], [float(np.float32(9e29))]])
    np.testing.assert_equal(second, [[math.nan], [math.nan], [5]])


def test_a_channel_that_no_column_has_makes_the_source_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    with pytest.raises(SourceUnavailable, match="no column 'x'"):
        contents(path, "series", series=series())
    path.write_text(",".join(f"c{i}" for i in range(4096)) + "\n" + ",".join("1" * 4096) + "\n")
    with pytest.raises(SourceUnavailable, match="holds more than"):
        contents(path, "series", series=SeriesConfig(steps=300))


# -- sockets ------------------------------------------------------------------------------------------------------------


def test_a_socket_gives_rows_until_it_is_closed_and_then_can_be_had_again(tmp_path: Path) -> None:
    address = tmp_path / "s"
    made = source(f"unix:{address}", name="obd")
    with pytest.raises(SourceUnavailable):
        list(made.observations())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        for _ in range(2):
            told = made.observations()

            def serve() -> None:
                connection, _ = listener.accept()
                connection.sendall(b'{"rpm":900}\n{"rp')
                connection.sendall(b'm":901}\nno\n{"torn"')
                connection.close()

            server = threading.Thread(target=serve)
            server.start()
            assert [seen.content for seen in islice(told, 2)] == [{"rpm": 900.0}, {"rpm": 901.0}]
            with pytest.raises(SourceUnavailable, match="closed the connection"):
                next(told)
            server.join(DEADLINE_S)
    assert made.skipped == 4


def test_a_silent_socket_can_be_closed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        made = Followed(source(f"unix:{tmp_path / 's'}"))
        connection, _ = listener.accept()
        assert made.close() == []
        connection.close()


# -- settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SourceConfig(kind="table"), "must name a file of lines"),
        (SourceConfig(kind="lines", path="x", loop=True, follow=True), "exclude each other"),
        (SourceConfig(kind="table", path="unix:x", follow=True), "a socket is followed as it is"),
        (SourceConfig(kind="table", path="x", fresh=True), "needs source.follow"),
        (SourceConfig(kind="table", path="x", format="xml"), "'csv' or 'jsonl', got 'xml'"),
        (SourceConfig(kind="lines", path="x", time_column="t"), "are for tables and series"),
        (SourceConfig(kind="series", path="x"), "must say how many readings"),
        (SourceConfig(kind="series", path="x", series=SeriesConfig(steps=3, step_s=1.0)), "needs source.time_column"),
    ],
)
def test_a_configuration_that_makes_no_sense_says_why(config: SourceConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(config, SystemClock())


@pytest.mark.parametrize(
    "values",
    [{"steps": -1}, {"steps": 70_000}, {"stride": -1}, {"step_s": math.nan}, {"step_s": 1e-300}, {"max_gap": -1},
     {"channels": ("a", "a")}, {"channels": tuple(map(str, range(100))), "steps": 60_000}],
)  # fmt: skip
def test_a_window_nobody_could_hold_is_no_configuration(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SeriesConfig(**values)  # type: ignore[arg-type]
