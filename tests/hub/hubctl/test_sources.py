"""Where imported images come from."""

import contextlib
import io
import re
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_hub.app.hubctl.failure import Failure
from cloud_hub.app.hubctl.imports.arrays import ArraySource
from cloud_hub.app.hubctl.sources import GTSRB, Columns, FolderSource, IndexSource


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder: Path, *names: str) -> None:
    for shade, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(shade))


def archive(path: Path, *names: str) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(png())
            tar.addfile(info, io.BytesIO(png()))


def index(folder: Path, *lines: str) -> Path:
    path = folder / "index.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_folder_names_the_label_and_maybe_the_split(tmp_path: Path) -> None:
    put(tmp_path / "plain", "cat/1.png", "dog/2.jpg", "dog/notes.txt")
    put(tmp_path / "split", "train/cat/1.png", "val/dog/2.png", "test/dog/deep/3.png")
    assert [(p.label, p.split, p.source) for p in FolderSource(tmp_path / "plain")] == [
        ("cat", "", "cat/1.png"),
        ("dog", "", "dog/2.jpg"),
    ]
    assert {(p.label, p.split) for p in FolderSource(tmp_path / "split")} == {("cat", "train"), ("dog", "val"), ("dog", "test")}


def test_a_pattern_takes_the_source_out_of_the_name(tmp_path: Path) -> None:
    put(tmp_path, "cat/track7_1.png", "cat/track7_2.png", "cat/track8_1.png")
    pictures = list(FolderSource(tmp_path, re.compile(r"/(track\d+)_")))
    assert [p.source for p in pictures] == ["track7", "track7", "track8"]
    with pytest.raises(Failure, match="does not match"):
        list(FolderSource(tmp_path, re.compile("nothing")))


def test_a_folder_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="found no image"):
        FolderSource(tmp_path)
    put(tmp_path, "loose.png", "cat/1.png")
    with pytest.raises(Failure, match=r"found loose\.png"):
        FolderSource(tmp_path)


def test_arrays_become_images_with_names_for_their_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([1, 0, 1]), split=np.array(["train", "val", ""]))
    pictures = list(ArraySource(tmp_path / "a.npz", ["cat", "dog"]))
    assert [(p.label, p.split) for p in pictures] == [("dog", "train"), ("cat", "val"), ("dog", "")]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures[1].data))), images[1])

    np.savez(tmp_path / "grey.npz", images=images[..., 0], labels=np.array(["dog", "cat", "dog"]))
    assert [p.label for p in ArraySource(tmp_path / "grey.npz", [])] == ["dog", "cat", "dog"]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"labels": np.zeros(2)}, "no array 'images'"),
        ({"images": np.zeros((2, 4, 4))}, "must be uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, "'labels' must have shape"),
        ({"images": np.zeros((1, 4, 4), np.uint8), "labels": np.array([7])}, "label index 7"),
        ({"images": np.array([object()])}, "not an .npz of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], told: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(Failure, match=told):
        list(ArraySource(tmp_path / "a.npz", ["cat"]))


@pytest.mark.parametrize(
    ("name", "shape", "descr", "told"),
    [
        ("images", (1 << 33, 64, 64, 3), "|u1", "'images' would take .* bytes, more than"),
        ("images", (1 << 27, 1, 1), "|u1", "134217728 'images' are more than"),
        ("images", (-2, -4, 4), "|u1", "'images' must be"),
        ("images", (1, 1 << 20, 1 << 20), "|u1", "one of 'images' would take"),
        ("labels", (2,), f"<U{1 << 28}", "'labels' would take"),
        ("labels", (1 << 40,), "<i8", "'labels' must have shape"),
        ("images", (1 << 20, 64, 64), "|u1", "ends after 1 of"),
    ],
)
def test_arrays_that_claim_to_hold_more_than_there_is_room_for_take_none(
    tmp_path: Path, name: str, shape: tuple[int, ...], descr: str, told: str
) -> None:
    """A zip bomb: some bytes that say they are many."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": shape, "fortran_order": False, "descr": descr})  # type: ignore[no-untyped-call]
    images = io.BytesIO()
    np.save(images, np.zeros((2, 4, 4), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        held = {"images": images.getvalue(), name: header.getvalue() + bytes(6000)}
        for each, data in held.items():
            packed.writestr(f"{each}.npy", data)
    with pytest.raises(Failure, match=told), _at_most(1 << 20):
        list(ArraySource(tmp_path / "a.npz", ["cat"]))


def test_of_arrays_one_picture_is_in_memory_at_a_time(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((64, 512, 512), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 1 << 20
    with _at_most(4 << 20):
        assert sum(1 for _ in ArraySource(tmp_path / "a.npz", [])) == 64


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_an_array_file_that_is_damaged_is_told_by_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 256, (9, 32, 32), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data if damage == "flipped" else data[: len(data) // 2]))
    with pytest.raises(Failure, match=r"a\.npz"):
        list(ArraySource(path, []))


def test_a_packing_that_cannot_be_unpacked_in_pieces_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 5000, 5000), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("images.npy", buffer.getvalue())
    with pytest.raises(Failure, match="numpy's own"), _at_most(1 << 20):
        ArraySource(tmp_path / "a.npz", [])


@contextlib.contextmanager
def _at_most(size: int) -> Iterator[None]:
    """Bytes of memory at once."""
    png()  # Pillow loads its plugins when it first writes
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < size


def test_arrays_in_columns_first_order_are_refused_with_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(np.zeros((2, 4, 5), np.uint8)))
    with pytest.raises(Failure, match="ascontiguousarray"):
        ArraySource(tmp_path / "a.npz", [])


def test_an_index_finds_its_images_as_files_and_in_archives(tmp_path: Path) -> None:
    put(tmp_path, "loose/1.png")
    archive(tmp_path / "a.tar.gz", "./a/1.png", "a/not-wanted.png", "a/2.png")
    path = index(tmp_path, "path,label,source", "loose/1.png,cat,s1", "a/1.png,dog,s2", "a/2.png,,")
    pictures = {p.name: p for p in IndexSource(path, tmp_path, Columns(), {})}
    assert {(p.name, p.label, p.source) for p in pictures.values()} == {
        ("loose/1.png", "cat", "s1"),
        ("a/1.png", "dog", "s2"),
        ("a/2.png", "", "a/2.png"),
    }
    assert not (tmp_path / "a").exists()  # nothing was unpacked


def test_an_index_may_be_cut_to_some_splits_under_new_names(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png", "3.png")
    path = index(tmp_path, "path,label,split", "1.png,cat,day", "2.png,cat,dusk", "3.png,cat,night")
    pictures = list(IndexSource(path, tmp_path, Columns(), {"day": "train", "night": ""}))
    assert [(p.name, p.split) for p in pictures] == [("1.png", "train"), ("3.png", "")]
    with pytest.raises(Failure, match="map it with --only-split"):
        IndexSource(path, tmp_path, Columns(), {})


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", ""])
def test_an_index_cannot_name_what_is_outside_its_folder(tmp_path: Path, name: str) -> None:
    path = index(tmp_path, "path,label", f"{name},cat")
    with pytest.raises(Failure, match="line 2: a path must stay inside"):
        IndexSource(path, tmp_path, Columns(), {})


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("a/1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    path = index(tmp_path, "path,label", "a/1.png,cat")
    with pytest.raises(Failure, match=r"1 images of the index are not in .* a/1\.png"):
        list(IndexSource(path, tmp_path, Columns(), {}))


def test_an_index_without_its_columns_is_told_which_there_are(tmp_path: Path) -> None:
    path = index(tmp_path, "file,class", "1.png,cat")
    with pytest.raises(Failure, match="no column path, label; its columns: file, class"):
        IndexSource(path, tmp_path, Columns(), {})


def test_a_broken_archive_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"not a tar")
    path = index(tmp_path, "path,label", "a/1.png,cat")
    with pytest.raises(Failure, match=r"cannot read .*a\.tar\.gz"):
        list(IndexSource(path, tmp_path, Columns(), {}))


@pytest.mark.data
def test_the_traffic_signs_are_read_from_their_archives(shared_data: Path) -> None:
    folder = shared_data / "gtsrb32"
    source = IndexSource(folder / "index.csv", folder, GTSRB, {"val_day": "val"})
    pictures = list(source)
    assert len(pictures) == len(source) == 705
    assert {p.split for p in pictures} == {"val"} and len({p.label for p in pictures}) == 12
    assert all(p.data.startswith(b"P6") for p in pictures)
    assert len({p.source for p in pictures}) < 100  # tracks, not frames
