"""The power cut loses what was not synced, and nothing else: otherwise what passes it has proved nothing."""

import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.power import Power, build, compiler

DICE = random.Random(5)
SHARES = (0.0, 0.5, 1.0)
Cut = Callable[..., Path]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("no C compiler on PATH: power cuts need one")
    return build(tmp_path_factory.mktemp("power"))


@pytest.fixture
def cut(library: Path, tmp_path: Path) -> Cut:
    """Runs Python code in a folder, to the power cut, and gives the folder as it is afterwards."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "old").write_text("old")
    power = Power(library, tree, tmp_path / "shadow")
    power.settle()

    def run(code: str, *, reached: float = 0.0, **environment: object) -> Path:
        power_environment = power.environment(**environment)  # type: ignore[arg-type]
        done = subprocess.run([sys.executable, "-c", PREAMBLE + code], cwd=tree, env=dict(power_environment), check=False)
        assert done.returncode in (0, -9)
        power.cut(DICE, reached=reached)
        return tree

    return run


PREAMBLE = f"""
import os, sys
sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from edge_agent.core.files import sync_folder, write_atomic
here = Path.cwd()
def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
"""


def names(tree: Path) -> list[str]:
    return sorted(path.name for path in tree.iterdir())


def test_what_was_never_synced_is_lost_and_what_was_there_before_is_not(cut: Cut) -> None:
    tree = cut("Path('new').write_text('new'); Path('old').write_text('other')")
    assert names(tree) == ["old"] and (tree / "old").read_text() == "old"


def test_a_synced_file_without_a_synced_folder_has_no_name(cut: Cut) -> None:
    assert names(cut("Path('new').write_text('new'); sync('new')")) == ["old"]


def test_a_synced_folder_with_an_unsynced_file_holds_an_empty_one(cut: Cut) -> None:
    tree = cut("Path('new').write_text('new'); sync_folder(here)")
    assert (tree / "new").read_bytes() == b""


def test_a_rename_counts_when_the_folder_is_synced(cut: Cut) -> None:
    code = "Path('new').write_text('new'); sync('new'); sync_folder(here); os.replace('new', 'old')"
    assert (cut(code) / "old").read_text() == "old"
    tree = cut("sync_folder(here)\n" + code + "; sync_folder(here)")
    assert names(tree) == ["old"] and (tree / "old").read_text() == "new"


def test_a_file_in_a_folder_whose_name_was_not_synced_is_lost(cut: Cut) -> None:
    code = "Path('sub').mkdir(); write_atomic(Path('sub/file'), b'x')"
    assert names(cut(code)) == ["old"]
    assert (cut(code + "; sync_folder(here)") / "sub" / "file").read_bytes() == b"x"


def test_a_link_is_a_name_like_others(cut: Cut) -> None:
    turn = "os.symlink('new', 'other'); os.replace('other', 'link')"
    assert (cut(f"os.symlink('old', 'link'); sync_folder(here); {turn}") / "link").readlink() == Path("old")
    assert (cut(f"{turn}; sync_folder(here)") / "link").readlink() == Path("new")


def test_a_file_that_takes_the_number_of_a_lost_one_is_not_taken_for_it(cut: Cut) -> None:
    code = "Path('new').write_text('new'); sync('new'); sync_folder(here); os.unlink('new'); Path('next').write_text('next')"
    tree = cut(code)
    assert names(tree) == ["new", "old"] and (tree / "new").read_text() == "new"


@pytest.mark.parametrize("reached", SHARES)
def test_what_is_written_atomically_is_whole_whatever_else_reached_the_disk(cut: Cut, reached: float) -> None:
    code = "write_atomic(here / 'old', b'1' * 20_000)\nwrite_atomic(here / 'old', b'2' * 30_000, mode=0o644)"
    old = cut(code, reached=reached) / "old"
    assert old.read_bytes() == b"2" * 30_000 and old.stat().st_mode & 0o777 == 0o644


def test_pages_that_did_not_reach_the_disk_are_zeros_or_old(cut: Cut) -> None:
    code = "Path('old').write_bytes(b'0' * 4096 * 400); sync('old'); Path('old').write_bytes(b'1' * 4096 * 400)"
    found = (cut(code, reached=0.5) / "old").read_bytes()
    pages = [found[start : start + 4096] for start in range(0, len(found), 4096)]
    assert {bytes(set(page)) for page in pages} == {b"0", b"1"} and len(pages) == 400


def test_a_disk_that_lies_keeps_nothing(cut: Cut) -> None:
    assert (cut("write_atomic(here / 'old', b'new')", lies=True) / "old").read_text() == "old"


@pytest.mark.parametrize(("at", "content"), [(1, "old"), (2, "old"), (3, "new")])
def test_death_comes_before_the_step_that_was_asked_for(cut: Cut, at: int, content: str) -> None:
    """Steps on this file: its temporary is synced, and renamed; there is no third."""
    code = "write_atomic(here / 'other', b''); write_atomic(here / 'old', b'new')"
    assert (cut(code, at=at, only=(".old.", "tree/old")) / "old").read_text() == content


ROWS_MADE = 200
ROWS = """
import sqlite3
db = sqlite3.connect('rows.sqlite', isolation_level=None)
db.execute('PRAGMA journal_mode = WAL')
db.execute('PRAGMA synchronous = {mode}')
db.execute('CREATE TABLE rows (n INTEGER)')
for n in range(200):
    db.execute('INSERT INTO rows VALUES (?)', (n,))
    n == 100 and db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
os._exit(0)
"""


def rows(tree: Path) -> int:
    with sqlite3.connect(tree / "rows.sqlite") as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        return int(db.execute("SELECT count(*) FROM rows").fetchone()[0])


@pytest.mark.parametrize("reached", SHARES)
def test_sqlite_keeps_every_row_that_it_has_committed_in_full_mode(cut: Cut, reached: float) -> None:
    assert rows(cut(ROWS.format(mode="FULL"), reached=reached)) == ROWS_MADE


def test_sqlite_loses_committed_rows_in_normal_mode(cut: Cut) -> None:
    assert rows(cut(ROWS.format(mode="NORMAL"))) < ROWS_MADE
