"""Packages as a releaser publishes and sees them."""

import json
from pathlib import Path

import pytest

from cloud_hub.app.hubctl.failure import ExitCode
from tests.hub.hubctl.test_trust import Run, bare, hubctl  # noqa: F401  # fixtures
from tests.hub.rpc.running import RunningHub


def test_a_package_is_published_and_listed(hubctl: Run, bare: RunningHub, tmp_path: Path) -> None:  # noqa: F811
    hubctl("trust", "init", "--keys", "safe")
    (tmp_path / "image.bin").write_bytes(b"firmware" * 300_000)
    words = ("firmware", "image.bin", "--board", "camera-x86", "--name", "base", "--version", "1.0")
    assert "release 1" in hubctl("package", "publish", *words).stdout
    bare.services.trust.tick(bare.clock.now())
    (found,) = json.loads(hubctl("--output", "json", "package", "list").stdout)
    assert (found["kind"], found["name"], found["version"], found["board"]) == ("firmware", "base", "1.0", "camera-x86")
    assert (found["size_bytes"], found["signed"]) == (2_400_000, True)
    (tmp_path / "image.bin").write_bytes(b"another")
    assert "another version" in hubctl("package", "publish", *words, code=ExitCode.REFUSED).stderr


def test_settings_are_for_every_board_unless_one_is_named(hubctl: Run, bare: RunningHub, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "agent.yaml").write_text("log_level: DEBUG\n")
    words = ("config", "agent.yaml", "--name", "loud", "--version", "1")
    assert "for all boards" in hubctl("package", "publish", *words).stdout
    (found,) = json.loads(hubctl("--output", "json", "package", "list", "config").stdout)
    assert (found["name"], found["board"]) == ("loud", "")
    assert json.loads(hubctl("--output", "json", "package", "list", "agent").stdout) == []


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("config", b"\x89PNG\r\n\x1a\n\xff", "is not a text file"),
        ("config", b"sync: {", "is not YAML"),
        ("config", b"- a\n", "holds no settings"),
        ("agent", b"sync: {report_s: 7}\n", "is no agent bundle: make one with scripts/build_bundle"),
    ],
)
def test_the_wrong_file_is_refused_before_it_takes_a_version_for_ever(
    hubctl: Run,  # noqa: F811
    tmp_path: Path,
    kind: str,
    content: bytes,
    said: str,
) -> None:
    (tmp_path / "wrong").write_bytes(content)
    words = ("package", "publish", kind, "wrong", "--name", "wrong", "--version", "1")
    assert said in hubctl(*words, code=ExitCode.REFUSED).stderr
    assert json.loads(hubctl("--output", "json", "package", "list", kind).stdout) == []
