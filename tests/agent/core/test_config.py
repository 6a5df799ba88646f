"""Configuration is read once, and a mistake in it is named."""

from pathlib import Path

import pytest

from edge_agent.core import config
from edge_agent.core.errors import ConfigError


def test_a_budget_that_reports_alone_would_use_up_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("sync: {metered: true, bytes_per_hour: 4096}")
    with pytest.raises(ConfigError, match=r"sync\.bytes_per_hour' is 4096.*report less often"):
        config.load(path, {})
    path.write_text("sync: {metered: true, bytes_per_hour: 4096, report_s: 86400}")
    assert config.load(path, {}).sync.bytes_per_hour == 4096
    path.write_text("metrics: {port: 70000}")
    with pytest.raises(ConfigError, match=r"metrics\.port"):
        config.load(path, {})


def test_later_layers_override_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("source: {kind: folder, path: /a, fps: 5}\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-site.yaml").write_text("source: {path: /b}\n")
    loaded = config.load(tmp_path / "agent.yaml", {"EDGE_AGENT__SOURCE__FPS": "7.5", "OTHER": "1"})
    assert (loaded.source.kind, loaded.source.path, loaded.source.fps) == ("folder", "/b", 7.5)


def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("spool: {max_byte: 5}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'spool.max_byte'; did you mean 'max_bytes'"):
        config.load(tmp_path / "agent.yaml", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spool: 5", "'spool' must be a mapping, got int"),
        ("source: {fps: fast}", "'source.fps' must be float, got 'fast'"),
        ("source: {loop: 1}", "'source.loop' must be bool"),
        ("sync: {in_flight: true}", "'sync.in_flight' must be int"),
        ("- a", "must hold a mapping, got list"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "agent.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "agent.yaml", {})
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent.yaml"):
        config.load(tmp_path / "absent.yaml", {})


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("")
    assert config.load(tmp_path / "agent.yaml", {}) == config.AgentConfig()


def test_an_empty_section_means_its_defaults_and_takes_nothing_back(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("source: {fps: 5}\nspool:\nsync:\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-site.yaml").write_text("source:\n")
    loaded = config.load(tmp_path / "agent.yaml", {"EDGE_AGENT__SYNC__IN_FLIGHT": "3"})
    assert (loaded.spool, loaded.source.fps, loaded.sync.in_flight) == (config.SpoolConfig(), 5.0, 3)


def test_a_variable_that_is_no_yaml_is_named() -> None:
    with pytest.raises(ConfigError, match="EDGE_AGENT__SOURCE__PATH"):
        config.load(None, {"EDGE_AGENT__SOURCE__PATH": "[oops"})


@pytest.mark.parametrize("kind", ["table", "lines", "series"])
@pytest.mark.parametrize("sent", ["{path: /etc/shadow}", "{kind: KIND}"])
def test_the_hub_cannot_say_which_file_of_lines_is_read(tmp_path: Path, kind: str, sent: str) -> None:
    """Lines that are kept are uploaded: whoever signs settings could read any file."""
    own, overlay = tmp_path / "agent.yaml", tmp_path / "overlay.yaml"
    own.write_text(f"source: {{kind: {kind}, path: /var/log/own.txt}}")
    overlay.write_text(f"source: {sent.replace('KIND', kind)}")
    with pytest.raises(ConfigError, match="cannot be set by a configuration from the hub for a source of kind"):
        config.load(own, {}, overlay=overlay)
    own.write_text("source: {kind: folder, path: /a}")
    overlay.write_text(f"source: {{kind: {kind}, path: /etc/shadow}}")
    with pytest.raises(ConfigError, match=r"'source\.kind' cannot be set"):
        config.load(own, {}, overlay=overlay)


def test_the_hub_may_set_what_is_done_with_the_lines(tmp_path: Path) -> None:
    own, overlay = tmp_path / "agent.yaml", tmp_path / "overlay.yaml"
    own.write_text("source: {kind: series, path: /a, time_column: t, series: {steps: 5}}")
    overlay.write_text("source: {fps: 3, series: {steps: 7, step_s: 1.0}}")
    loaded = config.load(own, {}, overlay=overlay).source
    assert (loaded.fps, loaded.series.steps, loaded.series.step_s, loaded.path) == (3.0, 7, 1.0, "/a")


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("agent.yaml", "spol: {}"),
        ("conf.d/10-site.yaml", "spool: {max_bytes: many}"),
        ("EDGE_AGENT__SYNC__IN_FLIGHTS", "3"),
        ("EDGE_AGENT__SYNC", "{in_flight: yes}"),
        (config.FROM_HUB, "metrics: {port: 70000}"),
    ],
)
def test_a_mistake_is_told_with_the_place_where_it_stands(tmp_path: Path, where: str, text: str) -> None:
    (tmp_path / "conf.d").mkdir()
    for name in ("agent.yaml", "conf.d/10-site.yaml", "sent.yaml"):
        (tmp_path / name).write_text("source: {fps: 5}")
    env = {"EDGE_AGENT__LOG_LEVEL": "INFO"}
    if where.startswith("EDGE"):
        env[where] = text
    else:
        (tmp_path / ("sent.yaml" if where == config.FROM_HUB else where)).write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "agent.yaml", env, overlay=tmp_path / "sent.yaml")
    assert str(caught.value).partition(": ")[0].endswith(where)


def test_a_mistake_of_two_places_together_names_neither(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("sync: {metered: true}")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "agent.yaml", {"EDGE_AGENT__SYNC__BYTES_PER_HOUR": "5000"})
    assert str(caught.value).startswith("'sync.bytes_per_hour' is 5000")
