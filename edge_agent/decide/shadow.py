"""What a challenger's answers come to beside the champion's, and how much of the device's time it may take for them."""

from dataclasses import dataclass, replace

from protos.contract.twin import ShadowReport

DISAGREEMENT = "disagreement"  # why a frame is kept for the hub
_HOARD_MS = 1000.0  # credit that is not used grows no further: a challenger must not take its time all at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counted since a challenger began on this device, restarts of the agent included."""

    frames: int = 0  # both models saw
    agreed: int = 0  # of them
    skipped: int = 0  # sampled, but there was no time for them
    errors: int = 0
    captured: int = 0  # disagreements that were kept for the hub
    champion_confidence: float = 0.0  # sums over these frames
    challenger_confidence: float = 0.0

    def compared(self, *, agree: bool, champion: float, challenger: float) -> "Tally":
        """One frame more that both saw, with the confidence of each, 0..1."""
        return replace(
            self,
            frames=self.frames + 1,
            agreed=self.agreed + agree,
            champion_confidence=self.champion_confidence + champion,
            challenger_confidence=self.challenger_confidence + challenger,
        )

    def counted(self, **more: int) -> "Tally":
        """With ``skipped``, ``errors`` or ``captured`` so many higher."""
        return replace(self, **{name: getattr(self, name) + count for name, count in more.items()})

    def means(self) -> tuple[float, float]:
        """Confidence of champion and challenger over the frames that both saw; zeros before the first."""
        if not self.frames:
            return 0.0, 0.0
        return self.champion_confidence / self.frames, self.challenger_confidence / self.frames

    def told(self, report: ShadowReport) -> ShadowReport:
        """The same report with these figures."""
        champion, challenger = self.means()
        return replace(
            report,
            frames=self.frames,
            agreed=self.agreed,
            skipped=self.skipped,
            errors=self.errors,
            captured=self.captured,
            champion_confidence=champion,
            challenger_confidence=challenger,
        )

    @classmethod
    def of(cls, report: ShadowReport) -> "Tally":
        """To count on from what was told."""
        return cls(
            frames=report.frames,
            agreed=report.agreed,
            skipped=report.skipped,
            errors=report.errors,
            captured=report.captured,
            champion_confidence=report.champion_confidence * report.frames,
            challenger_confidence=report.challenger_confidence * report.frames,
        )


class TimeShare:
    """A challenger takes at most a share of all inference time: the champion's inferences earn what its own spend.

    For one thread that earns and one that spends; a float is written whole.
    """

    def __init__(self, share: float) -> None:
        """``share``: 0 < share <= 1 of the time of both together; 1: no bound."""
        self._rate = share / (1.0 - share) if share < 1.0 else float("inf")
        self._earned_ms = 0.0  # each is written by one thread alone
        self._spent_ms = 0.0
        self._expected_ms = 0.0

    def earn(self, champion_ms: float) -> None:
        """The champion has taken this long for a frame."""
        if self._rate == float("inf"):
            return
        most = self._spent_ms + max(_HOARD_MS, 2 * self._expected_ms)  # what is slower than the hoard can be saved up for
        self._earned_ms = min(self._earned_ms + champion_ms * self._rate, most)

    def affords(self) -> bool:
        """Whether there is time for one inference more, by what the last ones took. The first one is owed."""
        return self._rate == float("inf") or self._earned_ms - self._spent_ms >= self._expected_ms

    def spend(self, challenger_ms: float) -> None:
        """The challenger has taken this long, whatever came of it."""
        self._spent_ms += challenger_ms
        expected = self._expected_ms
        self._expected_ms = challenger_ms if not expected else 0.8 * expected + 0.2 * challenger_ms
