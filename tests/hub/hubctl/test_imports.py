"""Files in the formats that people have -> samples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_hub.app.hubctl.failure import Failure
from cloud_hub.app.hubctl.imports.opening import Format, Options, Target, open_source
from cloud_hub.app.hubctl.imports.piece import Piece, Source
from cloud_hub.app.hubctl.imports.sending import Requests
from cloud_hub.app.hubctl.imports.table import Table
from cloud_hub.app.hubctl.output import Bar
from protos.contract.samples import decode_row, decode_text, decode_window
from tests.hub.hubctl.test_sources import png


def opened(path: Path, kind: str, format: Format = Format.AUTO, annotation: str = "class", **options: Any) -> Source:
    target = Target(name="things", kind=kind, annotation=annotation, labels=("cat", "dog"))
    return open_source(path, format, target, Options(**options))


def read(source: Source) -> list[Piece]:
    return list(source)


def written(tmp_path: Path, text: str, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_column_holds_numbers_or_categories_throughout(tmp_path: Path) -> None:
    text = "﻿id;age;code;city;who;y\n1;20;1;Ulm;a;cat\n2;;x;NA;b;dog\n3;21,5;2;;b;\n"
    columns = {"label_columns": ("y",), "source_columns": ("who",), "name_column": "id"}
    pieces = read(opened(written(tmp_path, text), "row", **columns))
    assert [(p.name, p.label, p.source) for p in pieces] == [("1", "cat", "a"), ("2", "dog", "b"), ("3", "", "b")]
    assert [decode_row(p.data) for p in pieces] == [
        {"age": 20.0, "code": "1", "city": "Ulm"},
        {"code": "x"},
        {"age": 21.5, "code": "2"},
    ]


def test_a_few_typing_errors_do_not_make_a_column_one_of_categories(tmp_path: Path) -> None:
    text = "age,y\n" + "".join(f"{n},cat\n" for n in range(200)) + "2o,dog\n"
    source = opened(written(tmp_path, text), "row", label_columns=("y",), drop=())
    *_, last = read(source)
    assert source.refusals.notes == ["column age: 1 cells are no numbers and are taken as missing"]
    assert source.refusals.count == 1  # of the row nothing is left
    assert decode_row(last.data) == {"age": 199.0}


def test_rows_that_do_not_fit_are_told_by_their_line(tmp_path: Path) -> None:
    text = "a,b,y\n1,2,cat,\n1,2\n1,2,3,cat\n3,4,dog\n"
    source = opened(written(tmp_path, text), "row", label_columns=("y",))
    assert [p.label for p in read(source)] == ["cat", "dog"]  # one more cell may be there, as long as it is empty
    assert source.refusals.told == [
        ("table.csv:3", "2 cells, the table has 3 columns"),
        ("table.csv:4", "4 cells, the table has 3 columns"),
    ]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("a,a\n1,2\n", {}),
        ("a,,b\n1,2,3\n", {}),
        ("a,b\n1,2\n", {"label_columns": ("z",)}),
        ("y\ncat\n", {}),
        ("a,y\n1,cat\n", {"separator": "ab"}),
    ],
)
def test_a_table_that_cannot_be_read_at_all_is_refused(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    with pytest.raises(Failure):
        read(opened(written(tmp_path, text), "row", **{"label_columns": ("y",), **options}))
    (tmp_path / "latin.csv").write_bytes("a,y\nJérôme,cat\n".encode("latin-1"))
    with pytest.raises(Failure, match="UTF-8"):
        read(opened(tmp_path / "latin.csv", "row", label_columns=("y",)))


def test_lines_of_json_are_rows_texts_or_windows(tmp_path: Path) -> None:
    lines = [
        {"text": "hallo", "label": "cat"},
        {"row": {"a": 1}, "label": "dog", "source": "s", "split": "test"},
        {"a": 2, "at": "2024-05-01T00:00:00Z"},
        {"channels": ["x"], "values": [[1], [None]]},
        {"row": {}, "name": "empty"},
        {"text": "x", "split": "dev"},
        [1],
    ]
    path = written(tmp_path, "\n".join(map(json.dumps, lines)) + "\n{broken\n", "lines.jsonl")
    source = opened(path, "row")
    pieces = read(source)
    assert [p.label for p in pieces] == ["cat", "dog", "", ""] and source.refusals.count == 4
    assert decode_text(pieces[0].data) == "hallo" and (pieces[1].source, pieces[1].split) == ("s", "test")
    assert decode_row(pieces[2].data) == {"a": 2.0} and pieces[2].at_ms == 1_714_521_600_000
    assert np.isnan(decode_window(pieces[3].data).values[1, 0])


def test_texts_stand_behind_their_label(tmp_path: Path) -> None:
    source = opened(written(tmp_path, 'ham\t"quoted\tthing\nspam\twin\n\nno tab\n', "sms.txt"), "text", labels={"ham": "cat"})
    assert [(p.label, decode_text(p.data)) for p in read(source)] == [("cat", '"quoted\tthing'), ("spam", "win")]
    assert source.refusals.told == [("sms.txt:4", "not LABEL, a tab and a text")]


def series(tmp_path: Path, steps: int = 100) -> Path:
    rows = "".join(f"{n * 0.5},{n},{n % 7},{'b' if n >= 50 else 'a'}\n" for n in range(steps))
    return written(tmp_path, "t,x,y,state\n" + rows, "drive.csv")


def test_windows_of_one_block_share_a_source_and_none_crosses_into_the_next(tmp_path: Path) -> None:
    source = opened(series(tmp_path), "window", time_column="t", label_columns=("state",), steps=10, stride=5, block=30)
    pieces = read(source)
    assert [p.source for p in pieces] == ["drive 0"] * 5 + ["drive 1"] * 5 + ["drive 2"] * 5 + ["drive 3"]
    seen: dict[float, str] = {}
    for piece in pieces:
        window = decode_window(piece.data)
        assert window.channels == ("x", "y") and window.values.shape == (10, 2)
        for reading in window.values[:, 0]:
            assert seen.setdefault(float(reading), piece.source) == piece.source
    assert [p.label for p in pieces][:9] == ["a"] * 8 + ["a"] and pieces[-1].label == "b"


def test_events_label_the_windows_they_fill(tmp_path: Path) -> None:
    events = written(tmp_path, "event, start, end\nbrake,10,14.5\nturn,30,31\n", "events.csv")
    options = {"time_column": "t", "channels": ("x",), "steps": 10, "events": events}
    source = opened(series(tmp_path), "window", background="calm", **options)
    assert [p.label for p in read(source)] == ["calm", "calm", "brake", "calm", "calm", "calm", "turn", "calm", "calm", "calm"]
    source = opened(series(tmp_path), "window", events_from_start=True, **options)
    assert [p.label for p in read(source)] == ["brake", "turn"]
    assert "8 windows without an event are left out" in source.refusals.notes[0]


def test_readings_are_averaged_over_equal_steps_and_gaps_are_missing(tmp_path: Path) -> None:
    path = written(tmp_path, "t,x\n0,1\n0.4,3\n1.1,5\n3.9,7\n", "gaps.csv")
    [piece] = read(opened(path, "window", annotation="none", time_column="t", steps=4, every_s=1.0))
    values = decode_window(piece.data).values[:, 0]
    assert values[[0, 1, 3]].tolist() == [2.0, 5.0, 7.0] and np.isnan(values[2])


def test_labels_of_a_series_may_be_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "x,life\n1,9\n2,8\n3,7\n4,6\n", "engine.csv")
    pieces = read(opened(path, "window", annotation="values", label_columns=("life",), steps=2))
    assert [p.label for p in pieces] == ["8.0", "6.0"]


def test_boxes_of_coco_and_yolo_become_shares_of_the_picture(tmp_path: Path) -> None:
    for name in ("images/train/a.png", "images/train/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(len(name)))  # 8 x 8
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "labels/train/b.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    source = opened(tmp_path, "image", annotation="boxes")
    [piece] = read(source)
    assert json.loads(piece.label) == [{"label": "dog", "box": [0.25, 0.25, 0.75, 0.75]}] and piece.split == "train"
    assert "class 7 is outside" in source.refusals.told[0][1]
    coco = {
        "images": [
            {"id": 1, "file_name": "train/a.png"},
            {"id": 2, "file_name": "train/b.png"},
            {"id": 3, "file_name": "../x"},
        ],
        "categories": [{"id": 5, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 5, "bbox": [2, 2, 4, 20]},
            {"image_id": 1, "category_id": 5, "bbox": [0, 0, 8, 8], "iscrowd": 1},
        ],
    }
    path = written(tmp_path, json.dumps(coco), "coco.json")
    source = opened(path, "image", annotation="boxes", dir=tmp_path / "images")
    assert [json.loads(p.label) for p in read(source)] == [[{"label": "cat", "box": [0.25, 0.25, 0.75, 1.0]}], []]
    assert source.refusals.told == [("../x", "a path must stay inside the folder")]
    assert source.refusals.notes == ["1 boxes around crowds are left out"]


def test_files_that_mean_harm_are_refused_and_not_failed_on(tmp_path: Path) -> None:
    for coco in ('{"images": [], "categories": [], "annotations": [[1]]}', '{"images": ' + "[" * 200_000):
        with pytest.raises(Failure, match="is no COCO file"):
            opened(written(tmp_path, coco, "coco.json"), "image", annotation="boxes")
    path = written(tmp_path, '{"images": [{"id": 1, "file_name": "a\\u0000"}], "categories": []}', "coco.json")
    source = opened(path, "image", annotation="boxes")
    assert read(source) == [] and source.refusals.count == 1
    huge = json.dumps({"channels": ["x"], "values": [[10**400]]})
    source = opened(written(tmp_path, huge + "\n", "t.jsonl"), "window")
    assert read(source) == [] and source.refusals.count == 1
    source = opened(written(tmp_path, "t,x\nnan,1\ninf,1\n0,1\n1,2\n"), "window", time_column="t", steps=1, every_s=1.0)
    assert len(read(source)) == 2 and source.refusals.count == 2
    far = opened(written(tmp_path, "t,x\n0,1\n1e300,2\n"), "window", time_column="t", steps=1, every_s=1.0)
    with pytest.raises(Failure, match="makes more than"):
        read(far)


def test_a_name_without_utf8_is_one_sample_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "one", "name": "\ud800"}), json.dumps({"text": "two"})]
    source = opened(written(tmp_path, "\n".join(lines), "t.jsonl"), "text")
    requests = Requests("mail", source, Bar("mail", 2))
    assert [request.content for request in requests] == [b"two"] and requests.error is None
    assert source.refusals.told == [("?", "its name, source or label is not Unicode")]


def test_a_format_that_does_not_fit_the_data_set_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a,y\n1,cat\n")
    for kind, format in (("image", Format.CSV), ("window", Format.TEXTS), ("image", Format.AUTO), ("window", Format.SERIES)):
        with pytest.raises(Failure):
            opened(path, kind, format)


@pytest.mark.data
def test_real_files_are_read_whole(shared_data: Path) -> None:
    sms = opened(shared_data / "text_sms_spam/SMSSpamCollection", "text")
    assert len(read(sms)) == 5574 and not sms.refusals.count
    columns = {"header": False, "label_columns": ("c21",), "labels": {"1": "good", "2": "bad"}}
    credit = read(opened(shared_data / "credit_german/german.data", "row", Format.CSV, **columns))
    assert [p.label for p in credit].count("bad") == 300 and len(decode_row(credit[0].data)) == 20
    for name in ("idle1", "live5", "live1"):  # some end their rows with a comma, which their header does not
        path = shared_data / f"carobd/{name}.csv"
        if path.exists():
            table = Table(path)
            speed = table.columns.index("VEHICLE_SPEED ()")
            speeds = [float(line.cells[speed]) for line in table.rows()]
            assert (max(speeds) == 0) == (name == "idle1") and len(table.columns) == 27
    trip = shared_data / "driver_events/trip17"
    source = opened(
        trip / "acelerometro_terra.csv",
        "window",
        steps=50,
        stride=25,
        every_s=0.04,
        time_column="uptimeNanos",
        time_unit="ns",
        channels=("x", "y", "z"),
        join=(trip / "giroscopio_terra.csv",),
        events=trip / "groundTruth.csv",
        event_columns=("evento", "inicio", "fim"),
        events_from_start=True,
        background="normal",
    )
    labels = [piece.label for piece in read(source)]
    assert len(labels) > 300 and 10 <= labels.count("freada_agressiva") <= 20 and source.refusals.notes == []


@pytest.mark.parametrize("kind", ["image", "row", "text", "window"])
def test_a_path_that_is_not_there_is_said_before_anything_is_guessed_of_it(tmp_path: Path, kind: str) -> None:
    with pytest.raises(Failure, match="absent: no such file or folder"):
        opened(tmp_path / "absent", kind)
