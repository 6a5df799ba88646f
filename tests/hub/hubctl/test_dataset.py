"""Data sets, imports, labels."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.hub.hubctl.conftest import Run

Ask = Callable[..., Any]


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of(tmp_path: Path, count: int) -> Path:
    for number in range(count):
        path = tmp_path / "images" / ("cat", "dog")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return tmp_path / "images"


def test_a_folder_is_imported_once_however_often(run: Run, ask: Ask, tmp_path: Path) -> None:
    ask("dataset", "create", "folder", "--labels", "cat, dog")
    images = folder_of(tmp_path, 150)  # more than one group
    first = run("dataset", "import", "folder", "--dir", str(images))
    assert first.stdout == "folder: 150 added, 0 there already, 0 refused\n"
    assert first.stderr.splitlines()[-1] == "importing into folder: 100 %"
    assert ask("dataset", "import", "folder", "--dir", str(images)) == {
        "added": 0,
        "duplicates": 150,
        "refused_count": 0,
        "refused": [],
        "notes": [],
    }
    (dataset,) = [d for d in ask("dataset", "list") if d["name"] == "folder"]
    assert (dataset["samples"], dataset["labelled"], dataset["labels"]) == (150, 150, ["cat", "dog"])
    assert len(ask("sample", "list", "folder", "--limit", "0")) == 150
    assert len(ask("sample", "list", "folder", "--limit", "7")) == 7
    assert "nowhere" in run("dataset", "import", "nowhere", "--dir", str(images), code=3).stderr


def test_one_bad_image_does_not_hold_the_others_up(run: Run, tmp_path: Path) -> None:
    run("dataset", "create", "mixed", "--labels", "cat,dog")
    images = folder_of(tmp_path, 4)
    (images / "cat" / "broken.png").write_bytes(b"\x89PNG no")
    (images / "cat" / "huge.png").write_bytes(b"x" * (5 << 20))
    result = run("dataset", "import", "mixed", "--dir", str(images), code=4)
    assert "4 added" in result.stdout and "2 refused" in result.stdout
    assert "refused cat/broken.png" in result.stderr and "refused cat/huge.png" in result.stderr


def test_arrays_are_imported_with_the_labels_of_the_data_set(run: Run, ask: Ask, tmp_path: Path) -> None:
    run("dataset", "create", "arrays", "--labels", "cat,dog")
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 1, 0, 1, 1]))
    assert ask("dataset", "import", "arrays", "--npz", str(tmp_path / "a.npz"))["added"] == 6
    assert [s["label"] for s in ask("sample", "list", "arrays")].count("dog") == 4
    run("dataset", "import", "not-there", "--npz", str(tmp_path / "a.npz"), code=3)


def test_an_import_that_breaks_off_says_so_and_keeps_what_came(run: Run, ask: Ask, tmp_path: Path) -> None:
    run("dataset", "create", "broken-off", "--labels", "cat,dog")
    images = folder_of(tmp_path, 2)
    index = tmp_path / "index.csv"
    index.write_text("path,label\ncat/000.png,cat\ncat/missing.png,cat\n")
    result = run("dataset", "import", "broken-off", "--index", str(index), "--dir", str(images), code=4)
    assert "1 added" in result.stdout and "missing.png" in result.stderr
    assert len(ask("sample", "list", "broken-off")) == 1


@pytest.mark.data
def test_traffic_signs_are_imported_from_their_archives(run: Run, ask: Ask, shared_data: Path) -> None:
    folder = shared_data / "gtsrb32"
    with (folder / "index.csv").open(newline="") as file:
        labels = sorted({row["class_name"] for row in csv.DictReader(file) if row["split"] == "val_day"})
    run("dataset", "create", "signs", "--labels", ",".join(labels))
    words = ("--index", str(folder / "index.csv"), "--dir", str(folder), "--format", "gtsrb", "--only-split", "val_day=val")
    assert ask("dataset", "import", "signs", *words)["added"] == 705
    assert {sample["split"] for sample in ask("sample", "list", "signs")} == {"val"}


def test_samples_are_shown_saved_and_labelled_all_or_none(run: Run, ask: Ask, tmp_path: Path) -> None:
    run("dataset", "create", "label-me", "--labels", "cat,dog")
    index = tmp_path / "index.csv"
    index.write_text("path,label\n1.png,\n2.png,\n")
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(picture(100 + number))
    run("dataset", "import", "label-me", "--index", str(index), "--dir", str(tmp_path))
    first, second = (sample["id"] for sample in ask("sample", "list", "label-me", "--labelled", "no"))

    ask("sample", "show", first, "--save", str(tmp_path / "saved.png"))
    assert (tmp_path / "saved.png").read_bytes() == picture(101)
    assert "cat, dog" in run("sample", "label", first, "cow", code=4).stderr
    run("sample", "label", first, "cat")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"sample_id,label\n{first},dog\nno-such-sample,dog\n")
    run("sample", "label", "--csv", str(labels), code=3)
    assert ask("sample", "show", first)["label"] == "cat"
    labels.write_text(f"sample_id,label\n{first},dog\n{second},dog\n")
    assert ask("sample", "label", "--csv", str(labels)) == {"labelled": 2}
    assert ask("sample", "list", "label-me", "--labelled", "no") == []
    labels.write_text("id,label\nx,dog\n")
    assert "sample_id" in run("sample", "label", "--csv", str(labels), code=4).stderr


def test_rows_are_imported_labelled_frozen_compared_and_reported(run: Run, ask: Ask, tmp_path: Path) -> None:
    ask("dataset", "create", "loans", "--kind", "row", "--labels", "good,bad")
    table = tmp_path / "loans.csv"
    lines = [f"{20 + n},{'abc'[n % 3]},{n % 2 + 1},p{n}" for n in range(40)]
    table.write_text("age,purpose,risk,who\n" + "\n".join([*lines, "1,2", "9,a,3,x"]) + "\n")
    words = ("--label-column", "risk", "--label-map", "1=good,2=bad", "--name-column", "who", "--source-column", "who")
    done = ask("dataset", "import", "loans", str(table), *words, code=4)
    assert (done["added"], done["refused_count"]) == (40, 2)
    assert {each["name"] for each in done["refused"]} == {"loans.csv:42", "x"}
    assert ask("dataset", "snapshot", "loans", "--reason", "first")["number"] == 1
    labels = tmp_path / "labels.csv"
    labels.write_text("name,label\np0,bad\nnobody,good\n")
    assert "no match for nobody" in run("label", "import", "loans", "--csv", str(labels), code=4).stderr
    [truth] = ask("sample", "list", "loans", "--origin", "truth")
    shown = ask("sample", "show", truth["id"])
    assert shown["content"] == {"age": 20.0, "purpose": "a"}
    assert [(event["label"], event["origin"]) for event in shown["history"]] == [("good", "import"), ("bad", "truth")]
    assert ask("dataset", "diff", "loans", "1")["relabelled"] == 1
    assert ask("dataset", "snapshot", "loans")["relabelled"] == 1
    assert [version["number"] for version in ask("dataset", "versions", "loans")] == [2, 1]
    assert len(ask("sample", "list", "--kind", "row")) == 40
    for name in ("sheet.html", "sheet.json"):
        run("dataset", "report", "loans", "--version", "1", "-o", str(tmp_path / name))
    assert json.loads((tmp_path / "sheet.json").read_text())["columns"]["age"]["type"] == "number"
    assert "<svg" in (tmp_path / "sheet.html").read_text()
    assert "has no version 9" in run("dataset", "report", "loans", "--version", "9", "-o", str(tmp_path / "x"), code=3).stderr


def test_windows_and_texts_are_imported_and_shown(ask: Ask, tmp_path: Path) -> None:
    ask("dataset", "create", "drives", "--kind", "window", "--annotation", "none")
    (tmp_path / "drive.csv").write_text("x,y\n" + "".join(f"{n},{n * n}\n" for n in range(60)))
    assert ask("dataset", "import", "drives", str(tmp_path / "drive.csv"), "--steps", "10")["added"] == 6
    first = ask("sample", "list", "drives")[0]
    assert ask("sample", "show", first["id"])["content"] == {"steps": 10, "x": "▁▂▃▃▄▅▆▆▇█ 0..9", "y": "▁▁▁▂▂▃▄▅▇█ 0..81"}
    ask("dataset", "create", "mails", "--kind", "text", "--labels", "ham,spam")
    (tmp_path / "mails.tsv").write_text("ham\thello\nspam\tbuy\n")
    assert ask("dataset", "import", "mails", str(tmp_path / "mails.tsv"))["added"] == 2
    assert {ask("sample", "show", each["id"])["content"] for each in ask("sample", "list", "mails")} == {"hello", "buy"}


def test_every_line_of_a_file_of_labels_is_told(run: Run, ask: Ask, tmp_path: Path) -> None:
    ask("dataset", "create", "told", "--labels", "cat,dog")
    run("dataset", "import", "told", "--dir", str(folder_of(tmp_path, 2)))
    labels = tmp_path / "labels.csv"
    labels.write_text("name,label\ncat/000.png,dog\ncat/000.png\nnobody,dog\ndog/001.png,cow\n")
    result = run("--output", "json", "label", "import", "told", "--csv", str(labels), code=4)
    assert json.loads(result.stdout) == {"labelled": 1, "unchanged": 0, "unmatched": 3}
    for words in ("labels.csv:3: 1 cells, the table has 2 columns", "nobody: no sample of this name", "unknown label 'cow'"):
        assert words in result.stderr
    assert result.stderr.endswith("error: 3 of the labels were not given\n")
    run("label", "import", "told", "--csv", str(labels), "--tolerance", "1e300", code=2)
    assert "'cat' twice" in run("dataset", "create", "twice", "--labels", "cat,dog,cat", code=4).stderr


def test_a_datasheet_that_cannot_be_written_is_not_made(run: Run, tmp_path: Path) -> None:
    run("dataset", "create", "unwritten", "--labels", "cat,dog")
    stderr = run("dataset", "report", "unwritten", "-o", str(tmp_path), code=4).stderr
    assert stderr == f"error: cannot write {tmp_path}: it is a folder\n"


def test_a_file_that_is_not_there_ends_every_command_alike(run: Run, tmp_path: Path) -> None:
    run("dataset", "create", "fileless", "--labels", "cat,dog")
    gone = str(tmp_path / "gone.csv")
    for words in (
        ("dataset", "import", "fileless", gone, "--format", "npz"),
        ("dataset", "import", "fileless", "--index", gone, "--dir", str(tmp_path)),
        ("label", "import", "fileless", "--csv", gone),
        ("sample", "label", "--csv", gone),
        ("spec", "put", "-f", gone),
        ("job", "validate", "-f", gone),
    ):
        assert run(*words, code=4).stderr.startswith(f"error: {gone}: "), words
