"""Every source keeps the promises of ``ports.Source``."""

import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import ConfigError
from edge_agent.core.ports import Source
from edge_agent.sense.arrays import ArraySource
from edge_agent.sense.camera import CameraSource
from edge_agent.sense.folder import FolderSource
from edge_agent.sense.sources import NoSource, open_source
from tests.agent.fakes import FakeSource
from tests.agent.sense.seen import pixels
from tests.agent.sense.videos import write_video

COUNT = 5
Maker = Callable[[Path, bool], Source]


def _folder(path: Path, loop: bool) -> Source:
    for i in range(COUNT):
        Image.new("RGB", (16, 12), (i * 20, 0, 0)).save(path / f"{i}.png")
    return FolderSource(SourceConfig(path=str(path), fps=0, loop=loop), SystemClock())


def _video(path: Path, loop: bool) -> Source:
    video = write_video(path / "video.avi", COUNT)
    return CameraSource(SourceConfig(kind="camera", path=str(video), fps=0, loop=loop), SystemClock())


def _array(path: Path, loop: bool) -> Source:
    return ArraySource(np.zeros((COUNT, 12, 16, 3), np.uint8), loop=loop)


def _fake(path: Path, loop: bool) -> Source:
    return FakeSource([np.zeros((12, 16, 3), np.uint8)] * (COUNT * (3 if loop else 1)))


@pytest.fixture(params=[_folder, _video, _array, _fake], ids=lambda maker: maker.__name__)
def make(request: pytest.FixtureRequest) -> Maker:
    return request.param  # type: ignore[no-any-return]


def test_frames_are_contiguous_rgb_bytes_with_a_time_and_a_source(make: Maker, tmp_path: Path) -> None:
    frames = list(make(tmp_path, False).observations())
    assert len(frames) == COUNT
    for frame in frames:
        assert pixels(frame).ndim == 3
        assert pixels(frame).shape[2] == 3
        assert pixels(frame).dtype == np.uint8
        assert pixels(frame).flags.c_contiguous
        assert frame.captured_at.tzinfo is not None
        assert frame.source
    times = [frame.captured_at for frame in frames]
    assert times == sorted(times)


def test_a_loop_goes_on_beyond_the_end(make: Maker, tmp_path: Path) -> None:
    source = make(tmp_path, True)
    assert len(list(islice(source.observations(), COUNT * 2 + 1))) == COUNT * 2 + 1
    source.close()


def test_closing_ends_the_frames(make: Maker, tmp_path: Path) -> None:
    source = make(tmp_path, True)
    frames = source.observations()
    next(frames)
    source.close()
    source.close()
    assert len(list(frames)) <= 1
    assert list(source.observations()) == []


def test_a_source_of_nothing_waits_until_it_is_closed() -> None:
    source = NoSource()
    reader = Thread(target=lambda: list(source.observations()), daemon=True)
    reader.start()
    assert reader.is_alive()
    source.close()
    reader.join(10)
    assert not reader.is_alive()


@pytest.mark.parametrize(("kind", "expected"), [("folder", FolderSource), ("camera", CameraSource), ("none", NoSource)])
def test_the_configured_kind_is_opened(kind: str, expected: type) -> None:
    assert isinstance(open_source(SourceConfig(kind=kind, path="somewhere"), SystemClock()), expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SourceConfig(kind="camra", path="x"), "'lines', 'series' and 'none', got 'camra'"),
        (SourceConfig(kind="folder"), "source.path must name a folder"),
        (SourceConfig(kind="camera"), "source.path must name a camera"),
        (SourceConfig(path="x", loop=True, follow=True), "exclude each other"),
        (SourceConfig(path="x", fps=-1), "source.fps"),
    ],
)
def test_a_configuration_that_makes_no_sense_says_why(config: SourceConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(config, SystemClock())


def test_opencv_is_imported_only_for_a_camera(tmp_path: Path) -> None:
    code = (
        "import sys; from edge_agent.sense.sources import open_source; from edge_agent.core.config import SourceConfig;"
        "from edge_agent.core.clock import SystemClock; open_source(SourceConfig(path='x'), SystemClock());"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"cv2", "onnxruntime", "ai_edge_litert", "grpc"}.isdisjoint(out.stdout.split())
