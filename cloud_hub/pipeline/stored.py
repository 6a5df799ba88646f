"""Samples that are listed first and read when their turn comes: who chooses among them holds no contents."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from cloud_hub.pipeline.clean import RawSample


class Stored:
    """Iterated it reads each sample, and holds none.

    Args:
        listed: what is known of each, in order; without their contents.
        read: gives one's content; empty where it cannot be read.
    """

    def __init__(self, listed: Sequence[RawSample], read: Callable[[RawSample], bytes]) -> None:
        self.listed = listed
        self._read = read

    def __iter__(self) -> Iterator[RawSample]:
        for sample in self.listed:
            yield replace(sample, content=self._read(sample))

    def only(self, listed: Sequence[RawSample]) -> "Stored":
        """Of these of its samples."""
        return Stored(listed, self._read)


def stored(samples: Iterable[RawSample]) -> Stored:
    """The same; those that are in memory already stay there."""
    return samples if isinstance(samples, Stored) else Stored(tuple(samples), lambda sample: sample.content)
