"""A folder of images is read as a camera is."""

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import BadFrame, SourceUnavailable
from edge_agent.core.model import Observation
from edge_agent.sense import decode as decoding
from edge_agent.sense.decode import decode
from edge_agent.sense.folder import FolderSource
from edge_agent.sense.keys import frame_key
from tests.agent.sense.seen import pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
DEADLINE_S = 20


def source(path: Path, **settings: object) -> FolderSource:
    return FolderSource(SourceConfig(path=str(path), **{"fps": 0.0, **settings}), SystemClock())  # type: ignore[arg-type]


def put(path: Path, pixels: NDArray[np.uint8] = PIXELS) -> Path:
    """As a writer should: under a hidden name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    Image.fromarray(pixels).save(hidden)
    return hidden.rename(path)


def names(frames: list[Observation]) -> list[str]:
    return [frame.name for frame in frames]


def test_images_come_in_the_order_of_their_paths_with_source_and_key(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.png", "a/y.bmp", "c/d/e.ppm", "A.PNG"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    frames = list(source(tmp_path, name="gate").observations())
    assert names(frames) == ["A.PNG", "a/y.bmp", "a/z.png", "b.png", "c/d/e.ppm"]
    assert [frame.source for frame in frames] == ["gate", "a", "a", "gate", "c"]
    assert [frame.key for frame in frames] == [frame_key(frame.name) for frame in frames]
    assert all(np.array_equal(pixels(frame), PIXELS) for frame in frames)


def test_the_folders_own_name_is_the_source_where_none_is_configured(tmp_path: Path) -> None:
    put(tmp_path / "yard" / "a.png")
    (frame,) = source(tmp_path / "yard").observations()
    assert frame.source == "yard"


def test_keys_are_stable_64_bit_numbers_and_never_zero() -> None:
    assert frame_key("cam-1/0001.png") == 1736855517647355400
    assert len({frame_key(f"{i}.png") for i in range(2000)}) == 2000
    assert all(0 < frame_key(f"{i}.png") < 2**64 for i in range(2000))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [(".bmp", mode) for mode in ("1", "L", "P", "RGB", "RGBA")]
    + [(".ppm", mode) for mode in ("1", "L", "RGB", "I;16", "I")]
    + [(".jpg", mode) for mode in ("L", "RGB", "CMYK")],
)
def test_any_mode_becomes_rgb_bytes(suffix: str, mode: str, tmp_path: Path) -> None:
    grey = np.full((9, 7), 128, np.uint8)
    if mode.startswith("I"):
        image = Image.fromarray(grey.astype(np.uint16) << 8 if mode == "I;16" else grey.astype(np.int32) << 8)
    else:
        image = Image.fromarray(grey).convert(mode)
    image.save(tmp_path / f"a{suffix}")
    found = decode(tmp_path / f"a{suffix}")
    assert found.shape == (9, 7, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    if mode != "1":
        assert np.all(np.abs(found.astype(int) - 128) <= 2)


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    deep = (np.arange(63, dtype=np.uint16).reshape(9, 7) * 1040).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png")[:, :, 1], (deep >> 8).astype(np.uint8))


def test_transparency_does_not_change_the_colours(tmp_path: Path) -> None:
    rgba = np.dstack((PIXELS, np.full((9, 7), 40, np.uint8)))
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), PIXELS)


def test_corrupt_files_are_skipped_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "a.png")
    whole = put(tmp_path / "e.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jpg").write_bytes(b"no image at all")
    (tmp_path / "d.bmp").write_bytes(b"")
    os.mkfifo(tmp_path / "f.png")  # opening it would wait for ever
    (tmp_path / "g.png").symlink_to("nowhere")
    looped = source(tmp_path, loop=True)
    frames = looped.observations()
    with caplog.at_level(logging.WARNING, "edge_agent.sense.folder"):
        assert names([next(frames) for _ in range(6)]) == ["a.png", "e.png"] * 3
    looped.close()
    assert looped.skipped == 5
    assert len(caplog.records) == 5
    assert caplog.records[0].message == "image skipped"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_mutated_images_never_raise(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in (".png", ".bmp", ".ppm", ".jpg"):
        whole = put(tmp_path / f"whole{suffix}").read_bytes()
        for i in range(40):
            mutant = np.frombuffer(whole, np.uint8).copy()
            mutant[rng.integers(0, len(mutant), 4)] = rng.integers(0, 256, 4)
            (tmp_path / f"m{i}{suffix}").write_bytes(mutant.tobytes())
    read = source(tmp_path)
    frames = list(read.observations())
    assert len(frames) + read.skipped == 164
    assert all(pixels(frame).shape[2] == 3 for frame in frames)


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 62)
    with pytest.raises(BadFrame, match="7 x 9 is more than 62 pixels"):
        decode(put(tmp_path / "a.png"))


def test_hidden_files_and_folders_are_not_seen(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / ".a.png")
    put(tmp_path / ".cache" / "b.png")
    assert list(source(tmp_path).observations()) == []


def test_following_gives_each_new_file_once(tmp_path: Path) -> None:
    put(tmp_path / "b.png")
    following = source(tmp_path, follow=True)
    frames = following.observations()
    with ThreadPoolExecutor(1) as reader:
        assert reader.submit(next, frames).result(DEADLINE_S).name == "b.png"
        for name in ("a.png", "c/d.png", "b2.png"):
            waiting = reader.submit(next, frames)
            put(tmp_path / name)
            assert waiting.result(DEADLINE_S).name == name
        ended = reader.submit(list, frames)
        following.close()
        assert ended.result(DEADLINE_S) == []


def test_following_reads_a_name_again_that_went_and_came_back(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    following = source(tmp_path, follow=True)
    frames = following.observations()
    with ThreadPoolExecutor(1) as reader:
        assert reader.submit(next, frames).result(DEADLINE_S).name == "a.png"
        waiting = reader.submit(next, frames)
        (tmp_path / "a.png").unlink()
        put(tmp_path / "b.png")
        assert waiting.result(DEADLINE_S).name == "b.png"  # by then the folder was listed without a.png
        waiting = reader.submit(next, frames)
        put(tmp_path / "a.png")
        assert waiting.result(DEADLINE_S).name == "a.png"
        following.close()


def test_a_missing_folder_is_unavailable_and_may_come_back(tmp_path: Path) -> None:
    waiting = source(tmp_path / "mount")
    with pytest.raises(SourceUnavailable, match="cannot list .*mount: No such file"):
        list(waiting.observations())
    put(tmp_path / "mount" / "a.png")
    assert names(list(waiting.observations())) == ["a.png"]


@pytest.mark.parametrize("content", ["nothing", "only corrupt files"])
def test_a_loop_over_nothing_readable_is_unavailable_and_does_not_spin(content: str, tmp_path: Path) -> None:
    if content != "nothing":
        (tmp_path / "a.png").write_bytes(b"corrupt")
    with pytest.raises(SourceUnavailable, match="holds no readable image"):
        list(source(tmp_path, loop=True).observations())


def test_frames_are_paced_and_a_pause_is_not_caught_up(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path / f"{i}.png")
    frames = source(tmp_path, fps=20.0).observations()
    started = time.monotonic()
    assert len(list(frames)) == 4
    assert time.monotonic() - started >= 3 / 20


def test_close_wakes_a_source_that_waits_for_its_next_frame(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "b.png")
    slow = source(tmp_path, fps=0.001)
    frames = slow.observations()
    next(frames)
    with ThreadPoolExecutor(1) as reader:
        ended = reader.submit(list, frames)
        slow.close()
        assert ended.result(DEADLINE_S) == []
