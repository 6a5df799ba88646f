"""Whatever stands on the command line or in a file: one line on stderr, an exit code, and no stack trace."""

import random
import string
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_hub.app.hubctl.cli import app
from tests.hub.hubctl.conftest import Run

_WORDS = (
    "", "-", "--", "-1", "0", "999999999999999999999999", "1e400", "nan", "\0", "\n", "\x1b[2J", "\u202e", "\ud800", "é" * 300,
    "a" * 70_000, "../../etc/passwd", "/dev/null", "{}", "[" * 3000, "%s%n", "'; DROP TABLE audit; --", "=", "a=", "=b",
    "--output", "json", "--limit", "--since", "--out", "--anchor", "1:", f"1:{'0' * 64}", "--help", "NaN:NaN", "💥", "k=\x00",
)  # fmt: skip
_COMMANDS = (
    "device list", "device get", "device create", "device delete", "audit list", "audit verify", "sample list", "model list",
    "rollout create", "rollout get", "alert list", "alert rule put", "stream put", "stream get", "spec put", "spec get",
    "telemetry query", "telemetry events", "drift list", "dataset create", "dataset import", "job get", "user create",
    "user list", "audit export --out", "spec put -f", "device create cam --board", "dataset import d --images",
    "token create", "token revoke", "trust status", "sample label", "alert silence create",
)  # fmt: skip
_EXITS = range(0, 7)


@pytest.mark.parametrize("seed", range(6))
def test_hostile_arguments_end_in_a_line_and_a_code(
    config: Path, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of files to write land here
    rng = random.Random(seed)
    for _ in range(40):
        words = [*rng.choice(_COMMANDS).split(), *(_word(rng) for _ in range(rng.randrange(4)))]
        result = CliRunner().invoke(app, ["--config", str(config), *words], input="")
        assert isinstance(result.exception, SystemExit | None), (words, result.exception)
        assert result.exit_code in _EXITS, words
        assert "Traceback" not in result.output
        if result.exit_code != 2:  # usage is told by a box of its own
            assert all(line.replace("\t", " ").isprintable() for line in result.stderr.splitlines()), (words, result.stderr)


def _word(rng: random.Random) -> str:
    if rng.random() < 0.8:
        return rng.choice(_WORDS)
    return "".join(rng.choices(string.printable, k=rng.randrange(1, 30)))


BAD_FILES = {
    "an endless one": "/dev/zero",
    "laughs": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "deep": "[" * 60_000,
    "long": "name: " + "x" * 2_000_000,
    "not text": "\udcff\udcfe",
    "tags": "!!python/object/apply:os.system ['true']",
    "an int without end": "name: 1" + ":1" * 30_000,
    "a document of nothing": "",
    "many documents": "---\na: 1\n---\nb: 2\n",
}


@pytest.mark.parametrize("what", BAD_FILES)
@pytest.mark.parametrize("command", ["spec put", "stream put", "alert rule put"])
def test_a_hostile_file_is_refused(run: Run, tmp_path: Path, command: str, what: str) -> None:
    file = Path(BAD_FILES[what])
    if what != "an endless one":
        file = tmp_path / "file.yaml"
        file.write_bytes(BAD_FILES[what].encode(errors="surrogateescape"))
    stderr = run(*command.split(), "-f", str(file), code=4).stderr
    (line,) = stderr.splitlines()
    assert line.startswith("error: ") and line.isprintable() and len(line) < 2000


def test_a_key_that_others_can_read_is_refused(config: Path, tmp_path: Path) -> None:
    for name in ("ca.pem", "user.pem", "user.key", "hubctl.yaml"):
        (tmp_path / name).write_bytes((config.parent / name).read_bytes())
    for mode, code in ((0o600, 0), (0o644, 2), (0o640, 2), (0o606, 2)):
        (tmp_path / "user.key").chmod(mode)
        result = CliRunner().invoke(app, ["--config", str(tmp_path / "hubctl.yaml"), "device", "list"])
        assert result.exit_code == code, (oct(mode), result.output)
        assert not code or "user.key" in result.stderr
