"""``scripts/tuf_client``: the agent's updater over HTTP, for a public conformance suite. Exit status 0 done, 1 refused."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError

from edge_agent.core.clock import SystemClock
from edge_agent.core.errors import AgentError, AlteredTarget, UnknownTarget
from edge_agent.core.files import write_atomic
from edge_agent.update.journal import Journal
from edge_agent.update.updater import TrustedUpdater
from scripts.tuf.http import get

_STATE = ".state"  # beside the metadata: the first root, and the floors
_REPOSITORY = "image"


def main() -> int:
    asked = _parser().parse_args()
    try:
        asked.command(asked)
    except (AgentError, OSError) as error:
        print(f"tuf_client: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def init(asked: argparse.Namespace) -> None:
    state = asked.metadata_dir / _STATE
    state.mkdir(parents=True, exist_ok=True)
    for path in (state / "root.json", asked.metadata_dir / "root.json"):
        shutil.copyfile(asked.trusted_root, path)


def refresh(asked: argparse.Namespace) -> None:
    with _updater(asked) as updater:
        updater.refresh()


def download(asked: argparse.Namespace) -> None:
    with _updater(asked) as updater:
        target = updater.get_targetinfo(asked.target_name)
    if target is None:
        raise UnknownTarget(f"the repository has no {asked.target_name}")
    path = asked.target_dir / quote(target.path, safe="")
    if updater.find_cached_target(target, str(path)):
        return
    remote = target.get_prefixed_paths()[0] if updater.root.consistent_snapshot else target.path
    data = get(f"{asked.target_base_url.rstrip('/')}/{quote(remote)}", target.length)
    try:
        target.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise AlteredTarget(f"{target.path}: {error}") from error
    write_atomic(path, data)


@contextmanager
def _updater(asked: argparse.Namespace) -> Iterator[TrustedUpdater]:
    """What was seen is kept, however it ends."""
    folder: Path = asked.metadata_dir
    state = folder / _STATE
    journal = Journal(state / "updates.sqlite", (), SystemClock())
    try:
        updater = TrustedUpdater(
            folder,
            lambda name, max_bytes: get(f"{asked.metadata_url.rstrip('/')}/{quote(name, safe='')}", max_bytes),
            root=(state / "root.json").read_bytes(),
            floors=journal.floors.versions(_REPOSITORY),
            time=datetime.now(UTC) + timedelta(days=asked.days_in_future),
        )
        try:
            yield updater
        finally:
            journal.floors.keep({_REPOSITORY: updater.seen})
    finally:
        journal.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tuf_client", description="the agent's TUF client, over HTTP")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name")
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--days-in-future", type=int, default=0)
    commands = parser.add_subparsers(required=True)
    beginning = commands.add_parser("init")
    beginning.add_argument("trusted_root", type=Path)
    beginning.set_defaults(command=init)
    commands.add_parser("refresh").set_defaults(command=refresh)
    commands.add_parser("download").set_defaults(command=download)
    return parser


if __name__ == "__main__":
    sys.exit(main())
