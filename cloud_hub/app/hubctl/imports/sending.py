"""Samples on their way to the hub."""

from collections.abc import Iterator

from cloud_hub.app.hubctl.failure import ExitCode, Failure
from cloud_hub.app.hubctl.imports.piece import MAX_SAMPLE_BYTES, Piece, Source
from cloud_hub.app.hubctl.output import Bar
from protos.v1 import datasets_pb2 as pb


class Requests:
    """What gRPC's own thread reads; an error there would be lost, so it ends the stream and is kept."""

    def __init__(self, dataset: str, source: Source, bar: Bar) -> None:
        self.error: Failure | None = None
        self._dataset = dataset
        self._source = source
        self._bar = bar

    def __iter__(self) -> Iterator[pb.ImportSample]:
        try:
            for done, piece in enumerate(self._source, start=1):
                if len(piece.data) > MAX_SAMPLE_BYTES:
                    self._source.refusals.add(piece.name, f"{len(piece.data)} bytes, more than {MAX_SAMPLE_BYTES}")
                    continue
                try:
                    request = self._request(piece)
                except ValueError:  # names of files need not be Unicode, and JSON may hold lone surrogates
                    name = piece.name.encode("utf-8", "replace").decode()
                    self._source.refusals.add(name, "its name, source or label is not Unicode")
                    continue
                yield request
                self._bar.at(done)
        except Failure as failure:
            self.error = failure
        except OSError as error:
            self.error = Failure(f"{error.filename or 'sample'}: {error.strerror or error}", ExitCode.REFUSED)

    def _request(self, piece: Piece) -> pb.ImportSample:
        """Raises ValueError where a text has no UTF-8."""
        return pb.ImportSample(
            dataset=self._dataset,
            content=piece.data,
            label=piece.label,
            source=piece.source,
            split=piece.split,
            name=piece.name,
            captured_at_ms=piece.at_ms,
        )
