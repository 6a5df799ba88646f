"""A line of the log is one JSON object."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.core import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger as it was, afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_a_log_line_is_json_with_its_fields() -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "seen %d", "args": (3,), "path": Path("/a")})
    values = json.loads(logs.JsonFormatter().format(record))
    assert (values["message"], values["path"], values["level"], values["logger"]) == ("seen 3", "/a", "info", "x")
    assert "T" in values["at"]


def test_an_exception_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure("info")
    try:
        raise ValueError("no\nluck")
    except ValueError:
        logging.getLogger("here").exception("it failed")
    [line] = out.getvalue().splitlines()
    assert "ValueError" in json.loads(line)["exception"]


def test_a_quiet_logger_is_heard_only_when_it_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    logs.configure("info", quiet=("chatty.one",))
    logging.getLogger("chatty.one").info("talk")
    logging.getLogger("chatty.one").warning("trouble")
    logging.getLogger("other").debug("detail")
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["trouble"]


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        logs.configure("loud")
