"""A fetch beside the engine's thread: however long it takes, everything else goes on."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.core.config import UpdateConfig
from edge_agent.update.floors import Release
from edge_agent.update.installer import Installer, Permit
from edge_agent.update.record import Update
from edge_agent.update.surroundings import Surroundings


@dataclass(slots=True, kw_only=True)
class _Run:
    update: Update
    release: Release | None = None
    error: BaseException | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    there_bytes: int = -1  # when whoever oversees it last saw another number
    since: float = 0.0  # monotonic: that is what has been there since
    cut_at: float | None = None  # monotonic: it was cut, because no more came


class Download:
    """Of one component, one at a time. ``begin`` and ``collect`` are the engine's, in turns; ``hung`` and ``wait`` anyone's."""

    def __init__(self, installer: Installer, config: UpdateConfig, around: Surroundings, ended: Callable[[], None]) -> None:
        """``ended``: there is something to collect; called from the download's thread."""
        self._installer, self._around, self._ended = installer, around, ended
        # a hub that sends too slowly is to be given up for that, and by its name
        self._still_s = max(config.fetch_timeout_s, 2 * config.rate_window_s)
        self._run: _Run | None = None

    @property
    def begun(self) -> bool:
        """What comes of it has not been collected yet."""
        return self._run is not None

    @property
    def over(self) -> bool:
        """It is to be collected."""
        return self._run is not None and self._run.ended.is_set()

    def begin(self, update: Update, permit: Permit, called_off: Callable[[], bool]) -> None:
        self._run = run = _Run(update=update)

        def fetch() -> None:
            try:
                run.release = self._installer.fetch(update, permit, called_off)
            except BaseException as error:  # noqa: BLE001  # raised again where it is collected
                run.error = error
            finally:
                run.ended.set()
                self._ended()

        try:
            self._around.apart(fetch)
        except BaseException:  # no thread to be had
            self._run = None
            raise

    def collect(self) -> Release:
        """What came of it, once it is over. Raises what ``Installer.fetch`` has raised."""
        run, self._run = self._run, None
        assert run is not None
        if run.error is not None:
            raise run.error
        assert run.release is not None
        return run.release

    def wait(self, timeout_s: float) -> None:
        """For its end, where one is under way."""
        if (run := self._run) is not None:
            run.ended.wait(timeout_s)

    def hung(self) -> str:
        """To be called every few seconds: cuts one that gives nothing; says so where that did not end it."""
        run, now = self._run, self._around.clock.monotonic()
        if run is None or run.ended.is_set():
            return ""
        if (there := self._installer.progress(run.update)) != run.there_bytes:
            run.there_bytes, run.since, run.cut_at = there, now, None
        if (still_s := now - run.since) <= self._still_s:
            return ""
        if run.cut_at is None:
            run.cut_at = now
            self._installer.cut()
        elif now - run.cut_at > self._still_s:
            return f"{run.update.named} has hung in {run.update.state.name} for {still_s:.0f} s"
        return ""
