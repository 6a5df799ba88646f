"""The thread that looks: source -> perceiver, for as long as the agent runs."""

import logging
import threading

from edge_agent.app.perceive import Perceiver
from edge_agent.core.backoff import Backoff
from edge_agent.core.errors import SourceUnavailable
from edge_agent.core.ports import Source

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0  # between tries to open a source


class Watcher:
    """Nothing is read from the source before there is a model to see it: a folder that is read once would be lost."""

    def __init__(self, source: Source, perceiver: Perceiver, *, max_frames: int | None) -> None:
        self._source, self._perceiver, self._max_frames = source, perceiver, max_frames
        self._seen = 0
        self._stop = threading.Event()
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self.problem = ""  # why there are no frames now

    def run(self) -> None:
        """Until ``stop``, the end of the source, or ``max_frames`` frames."""
        while not self._stop.is_set():
            if not self._perceiver.equipped.wait(0.5):
                continue
            try:
                self._look()
                return
            except SourceUnavailable as error:
                if self.problem != str(error):
                    log.warning("no frames", extra={"error": str(error)})
                self.problem = str(error)
            except (
                Exception
            ) as error:  # the edge of this thread: a device that stops looking is lost until someone drives there
                log.exception("perception failed")
                self.problem = f"internal error: {error}"
            self._stop.wait(self._backoff.next())

    def stop(self) -> None:
        """End ``run``; safe from any thread."""
        self._stop.set()
        self._source.close()

    def _look(self) -> None:
        for frame in self._source.observations():
            self.problem = ""
            self._backoff.reset()
            self._perceiver.see(frame)
            self._seen += 1
            if self._stop.is_set():
                return
            if self._max_frames is not None and self._seen >= self._max_frames:
                log.info("enough frames", extra={"frames": self._seen})
                return
        if not self._stop.is_set():
            self.problem = "the source has ended"
            log.info("the source has ended", extra={"frames": self._seen})
