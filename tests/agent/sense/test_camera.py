"""Cameras come and go; what they give is RGB and of now."""

import logging
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np
import pytest

from edge_agent.core.clock import SystemClock
from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import ConfigError, SourceUnavailable
from edge_agent.core.model import Observation
from edge_agent.sense.camera import CameraSource
from tests.agent.clocks import ManualClock
from tests.agent.sense.seen import pixels
from tests.agent.sense.videos import picture, write_video

DEADLINE_S = 60


def camera(path: str, **settings: object) -> CameraSource:
    return CameraSource(SourceConfig(kind="camera", path=path, **{"fps": 0.0, **settings}), SystemClock())  # type: ignore[arg-type]


def red(frame: Observation) -> int:
    return round(float(pixels(frame)[:, :, 0].mean()))


class Stream:
    """A camera that serves motion JPEG over HTTP and can be unplugged."""

    def __init__(self) -> None:
        self.level = 0  # of red, in steps of 40
        self.sent = 0
        self.unplugged = Event()
        stream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                while not stream.unplugged.wait(0.005):
                    jpeg = cv2.imencode(".jpg", picture(stream.level))[1].tobytes()
                    try:
                        self.wfile.write(
                            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"
                        )
                    except OSError:
                        return
                    stream.sent += 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/stream.mjpg"

    def wait_for_more(self, pictures: int) -> None:
        wanted, deadline = self.sent + pictures, time.monotonic() + DEADLINE_S
        while self.sent < wanted:
            assert time.monotonic() < deadline
            self.unplugged.wait(0.01)


@contextmanager
def streaming() -> Iterator[Stream]:
    stream = Stream()
    thread = Thread(target=stream.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stream
    finally:
        stream.unplugged.set()
        stream.server.shutdown()
        stream.server.server_close()


def test_a_video_file_gives_its_frames_in_order_as_rgb(tmp_path: Path) -> None:
    frames = list(camera(str(write_video(tmp_path / "lane.avi", 5))).observations())
    assert [pixels(frame).shape for frame in frames] == [(48, 64, 3)] * 5
    for i, frame in enumerate(frames):
        assert abs(red(frame) - 40 * i) < 12
        assert pixels(frame)[:, :, 2].mean() < 20
        assert frame.source == "lane"


def test_a_live_stream_gives_its_newest_picture_and_drops_the_rest() -> None:
    with streaming() as stream:
        source = camera(stream.url, name="gate")
        frames = source.observations()
        assert red(next(frames)) < 12
        stream.wait_for_more(100)  # dark ones, which nobody takes
        stream.level = 5
        stream.wait_for_more(50)
        assert any(red(frame) > 180 and frame.source == "gate" for frame in islice(frames, 5))
        source.close()
        assert list(frames) == []


def test_an_unplugged_camera_is_unavailable_and_comes_back() -> None:
    with streaming() as stream:
        source = camera(stream.url)
        frames = source.observations()
        next(frames)
        stream.unplugged.set()
        with pytest.raises(SourceUnavailable, match="gives no more frames"):
            list(frames)
        stream.unplugged.clear()
        assert pixels(next(source.observations())).shape == (48, 64, 3)
        source.close()


@pytest.mark.parametrize("path", ["/dev/video97", "97", "/nowhere/video.mp4"])
def test_a_missing_camera_is_unavailable(path: str) -> None:
    with pytest.raises(SourceUnavailable, match=f"cannot open {path}"):
        next(camera(path).observations())


def test_a_file_that_is_no_video_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(SourceUnavailable, match="a.mp4"):
        next(camera(str(tmp_path / "a.mp4"), loop=True).observations())


def test_each_failure_doubles_the_wait_before_the_next_try_and_a_close_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    source = CameraSource(SourceConfig(kind="camera", path="/nowhere.mp4"), clock)
    with caplog.at_level(logging.WARNING, "edge_agent.sense.camera"):
        for _ in range(9):
            with pytest.raises(SourceUnavailable):
                next(source.observations())
            clock.advance(1000)
    assert [record.__dict__["retry_in_s"] for record in caplog.records] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    with pytest.raises(SourceUnavailable):
        next(source.observations())
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(list, source.observations())  # the clock stands still: it would wait 30 s
        source.close()
        assert waiting.result(DEADLINE_S) == []


def test_a_password_in_the_address_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    source = camera("rtsp://admin:s3cret/x@127.0.0.1:1/stream?token=t0p")
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceUnavailable) as refused:
        next(source.observations())
    shown = str(refused.value) + "".join(str(record.__dict__) for record in caplog.records)
    assert "rtsp://127.0.0.1:1/stream" in shown
    assert "s3cret" not in shown
    assert "t0p" not in shown


def test_a_password_with_a_question_mark_is_not_shown_either() -> None:
    with pytest.raises(SourceUnavailable) as refused:
        next(camera("rtsp://admin:s3c?ret@127.0.0.1:1/stream").observations())
    assert not any(word in str(refused.value) for word in ("admin", "s3c", "ret@"))


def test_without_opencv_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'tideline\[camera\]'"):
        camera("/dev/video0")


def test_opencv_keeps_to_one_thread() -> None:
    camera("/dev/video0")
    assert cv2.getNumThreads() == 1


def test_pixels_are_the_callers_own(tmp_path: Path) -> None:
    frames = camera(str(write_video(tmp_path / "a.avi", 3))).observations()
    first = next(frames)
    kept = pixels(first).copy()
    next(frames)
    assert np.array_equal(pixels(first), kept)
