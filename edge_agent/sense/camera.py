"""Cameras and video files through OpenCV, which is imported when the first one is opened."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.clock import Clock
from edge_agent.core.config import SourceConfig
from edge_agent.core.errors import ConfigError, SourceUnavailable
from edge_agent.core.model import Observation
from edge_agent.sense.pace import Pace

_log = logging.getLogger(__name__)

_BACKOFF_MIN_S = 0.5
_BACKOFF_MAX_S = 30.0
_OPEN_TIMEOUT_MS = 10_000
_READ_TIMEOUT_S = 10.0  # a live camera that is silent for so long is taken for lost


class CameraSource:
    """A V4L2 device (``/dev/videoN`` or ``N``), a stream (``rtsp://``, ``http://``) or a video file.

    A live camera is read all the time and only its newest frame is kept, so that a slow model sees the present. A file is read
    frame by frame. After a failure the next call of ``frames`` first waits out a back-off that doubles up to 30 s.
    """

    def __init__(self, config: SourceConfig, clock: Clock) -> None:
        if not config.path:
            raise ConfigError("source.path must name a camera: /dev/videoN, rtsp://..., or a video file")
        self._config = config
        self._clock = clock
        self._closed = Event()
        self._failures = 0
        self._retry_at = 0.0
        self._target = _target(config.path)
        self._live = isinstance(self._target, int) or "://" in config.path or config.path.startswith("/dev/")
        self._shown = _without_credentials(config.path)
        self._source = config.name or _name(config.path)
        self._cv2 = _import_cv2()

    def observations(self) -> Iterator[Observation]:
        self._wait_out_backoff()
        pace = Pace(self._config.fps, self._clock, self._closed)
        try:
            for pixels in self._live_pixels(pace) if self._live else self._file_pixels(pace):
                self._failures = 0
                yield Observation(content=pixels, captured_at=self._clock.now(), source=self._source)
        except SourceUnavailable as error:
            self._back_off(error)
            raise

    def close(self) -> None:
        self._closed.set()

    def _live_pixels(self, pace: Pace) -> Iterator[NDArray[np.uint8]]:
        if self._closed.is_set():
            return
        newest = _Newest(self._open(), self._closed, self._shown)
        try:
            while pace.wait():
                picture = newest.take()
                if picture is None:
                    return
                yield self._rgb(picture)
        finally:
            newest.stop()

    def _file_pixels(self, pace: Pace) -> Iterator[NDArray[np.uint8]]:
        while not self._closed.is_set():
            capture = self._open()
            good = 0
            try:
                while pace.wait():
                    read, picture = capture.read()
                    if not read:
                        break
                    good += 1
                    yield self._rgb(picture)
            finally:
                capture.release()
            if good == 0 and not self._closed.is_set():
                raise SourceUnavailable(f"{self._shown} holds no frame")
            if not self._config.loop:
                return

    def _open(self) -> Any:
        """An open VideoCapture; opening one that does not answer takes at most _OPEN_TIMEOUT_MS."""
        cv2 = self._cv2
        if isinstance(self._target, int):
            capture = cv2.VideoCapture(self._target, cv2.CAP_V4L2)
        else:
            timeouts = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                _OPEN_TIMEOUT_MS,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(_READ_TIMEOUT_S * 1e3),
            ]
            capture = cv2.VideoCapture(self._target, cv2.CAP_FFMPEG, timeouts)
        if not capture.isOpened():
            capture.release()
            raise SourceUnavailable(f"cannot open {self._shown}: is it connected, and may this user read it?")
        return capture

    def _rgb(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """OpenCV gives (H, W, 3) BGR."""
        return self._cv2.cvtColor(picture, self._cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]

    def _wait_out_backoff(self) -> None:
        remaining_s = self._retry_at - self._clock.monotonic()
        if self._failures and remaining_s > 0:
            self._closed.wait(remaining_s)

    def _back_off(self, error: SourceUnavailable) -> None:
        delay_s = min(_BACKOFF_MAX_S, _BACKOFF_MIN_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = self._clock.monotonic() + delay_s
        _log.warning("camera lost", extra={"source": self._source, "reason": str(error), "retry_in_s": delay_s})


class _Newest:
    """Reads a capture in a thread of its own and keeps only the last picture."""

    def __init__(self, capture: Any, closed: Event, shown: str) -> None:
        self._capture = capture
        self._closed = closed
        self._shown = shown
        self._changed = Condition()
        self._picture: NDArray[np.uint8] | None = None
        self._stopped = False
        self._ended = False
        Thread(target=self._read, name="camera", daemon=True).start()

    def take(self) -> NDArray[np.uint8] | None:
        """A picture not taken before; None once closed. Raises SourceUnavailable when none comes any more."""
        with self._changed:
            waited_s = 0.0
            while self._picture is None:
                if self._closed.is_set():
                    return None
                if self._ended or waited_s >= _READ_TIMEOUT_S:
                    raise SourceUnavailable(f"{self._shown} gives no more frames")
                self._changed.wait(0.1)  # the caller's close is an event, not this condition
                waited_s += 0.1
            picture, self._picture = self._picture, None
            return picture

    def stop(self) -> None:
        """The thread releases the capture after the read it is in."""
        self._stopped = True

    def _read(self) -> None:
        try:
            while not (self._stopped or self._closed.is_set()):
                read, picture = self._capture.read()
                if not read:
                    return
                with self._changed:
                    self._picture = picture
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._capture.release()


def _import_cv2() -> Any:
    # Read by OpenCV's FFmpeg back-end at open: lost UDP packets smear the picture, which a model cannot tell from a new scene.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        import cv2
    except ImportError as error:
        raise ConfigError("source.kind 'camera' needs OpenCV: pip install 'tideline[camera]'") from error
    cv2.setNumThreads(1)
    return cv2


def _target(path: str) -> int | str:
    number = path.removeprefix("/dev/video")
    return int(number) if number.isascii() and number.isdigit() else path


def _name(path: str) -> str:
    if "://" in path:
        return urlsplit(_without_credentials(path)).hostname or "camera"
    return f"video{path}" if path.isdigit() else Path(path).stem


def _without_credentials(path: str) -> str:
    """Fit for logs and messages: rtsp URLs carry passwords."""
    if "://" not in path:
        return path
    scheme, _, rest = path.partition("://")
    before, _, behind = rest.rpartition("@")
    if "?" in before:  # a password with "?", or a query with "@": which one, only the camera knows
        return f"{scheme}://..."
    return f"{scheme}://{behind.partition('?')[0]}"
