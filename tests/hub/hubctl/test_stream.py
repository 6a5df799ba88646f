"""Streams on the command line."""

import csv
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud_hub.app.hubctl import stream as module
from tests.hub.hubctl.conftest import Run
from tests.hub.rpc.running import RunningHub
from tests.hub.rpc.test_streams import SPEC, close

Ask = Callable[..., Any]


def test_streams_are_put_from_a_file_or_standard_input_listed_printed_and_deleted(run: Run, ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(SPEC.format(name="filed"))
    assert run("stream", "put", "-f", str(file)).stdout == "stored filed\n"
    assert run("stream", "put", "-f", "-", stdin=SPEC.format(name="piped")).stdout == "stored piped\n"
    assert [one["name"] for one in ask("stream", "list")] == ["filed", "piped"]
    printed = run("stream", "get", "filed").stdout
    assert run("stream", "put", "-f", "-", stdin=printed).stdout == "stored filed\n"
    assert ask("stream", "get", "filed")["across_fleet"] is False
    assert run("stream", "delete", "piped").stdout == "deleted piped\n"
    assert "piped" not in run("stream", "list").stdout
    run("stream", "get", "piped", code=3)


def test_a_mistake_in_the_file_is_named(run: Run, tmp_path: Path) -> None:
    bad = SPEC.format(name="bad").replace("mean < 0.6", "mena < 0.6")
    assert "did you mean 'mean'" in run("stream", "put", "-f", "-", stdin=bad, code=4).stderr
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in run("stream", "put", "-f", str(binary), code=4).stderr


def test_windows_are_listed_as_a_table_as_json_and_as_csv(hub: RunningHub, run: Run, ask: Ask) -> None:
    for number in range(4):
        close(hub, "listed", number)
    table = run("stream", "windows", "--stream", "listed").stdout.splitlines()
    assert len(table) == 5 and "mean=0.5" in table[1] and "holds" in table[1]
    newest = ask("stream", "windows", "--stream", "listed", "--limit", "1")
    assert [(row["readings"], row["values"], row["histograms"]) for row in newest] == [
        (3, {"mean": 0.5}, [{"name": "bins", "counts": [0, 3]}])
    ]
    lines = run("stream", "windows", "--stream", "listed", "--output", "json").stdout.splitlines()
    assert [json.loads(line)["readings"] for line in lines] == [3, 2, 1, 0]
    ranged = ("--since", "2026-01-01T00:00:10Z", "--until", "2026-01-01T00:00:30Z", "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(run("stream", "windows", "--stream", "listed", *ranged).stdout)))
    assert [(row["readings"], row["mean"], row["start"]) for row in rows] == [
        ("2", "0.5", "2026-01-01T00:00:20.000Z"),
        ("1", "0.5", "2026-01-01T00:00:10.000Z"),
    ]
    assert run("stream", "windows", "--stream", "nothing").stderr == "no windows\n"


def test_windows_are_printed_as_they_close_until_interrupted(hub: RunningHub, run: Run, monkeypatch: Any) -> None:
    sentence = module._sentence

    def and_stop(row: dict[str, Any]) -> str:
        if row["readings"] == 2:
            raise KeyboardInterrupt
        return sentence(row)

    watched = module.watched

    def and_close(call: Any) -> Any:
        for number, reply in enumerate(watched(call)):
            if number == 0:  # the watch has begun
                threading.Thread(target=lambda: [close(hub, "closing", reading) for reading in (1, 2)]).start()
            yield reply

    monkeypatch.setattr(module, "_sentence", and_stop)
    monkeypatch.setattr(module, "watched", and_close)
    printed = run("stream", "watch", "--stream", "closing", code=130).stdout
    assert printed == "2026-01-01T00:00:20.000Z closing cam-1 label=1 n=1 mean=0.5 holds\n"
