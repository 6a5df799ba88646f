"""What the documentation says is there is there: commands, options, links, files, and keys of specifications."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from cloud_hub.app import cli
from cloud_hub.app.hubctl import cli as hubctl
from cloud_hub.core import rollout_spec, spec
from tests.conftest import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
GUIDES = [page for page in PAGES if page.parent.name != "adr" and page.name != "CHANGELOG.md"]  # of what holds today
PROGRAMS: dict[str, Any] = {"cloud-hub": get_command(cli.app), "hubctl": get_command(hubctl.app)}
SHELL = ("|", ">", ">>", "<", "&&", ";", "&")
FILE = re.compile(r"(?<![\w/.])((?:tests|scripts|cloud_hub|edge_agent|deploy|docs)/[\w/.-]*\w)")


def blocks(page: Path, *kinds: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    return [text for kind, text in found if kind in kinds]


def commands(page: Path) -> Iterator[list[str]]:
    """Words of each line of a shell, and of each command in running text that is not a choice of several."""
    lines = [line for block in blocks(page, "sh", "bash", "") for line in block.replace("\\\n", " ").splitlines()]
    said = re.findall(r"`((?:hubctl|cloud-hub) [^`|]+)`", page.read_text(encoding="utf-8").replace("\n", " "))
    for line in (*lines, *said):
        if re.match(r"\s*(hubctl|cloud-hub) [a-z]", line):
            words = shlex.split(line, comments=True)
            yield words[: next((i for i, word in enumerate(words) if word in SHELL), len(words))]


def understood(program: str, words: list[str]) -> None:
    """Raises what the program's own parser does: there is no such command, or no such option."""
    command = PROGRAMS[program]
    context = typer.Context(command, info_name=program)
    while hasattr(command, "commands") and words:
        name, *words = words
        assert set(name.split("|")) <= set(command.commands), f"{program} has no command {name}"
        if "|" in name:
            return
        command = command.commands[name]
        context = typer.Context(command, parent=context, info_name=name)
    command.make_parser(context).parse_args([*words, "the value of an option that a sentence only names"])


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page: Path) -> None:
    for program, *words in commands(page):
        understood(program, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith(("http", "mailto"))]
    assert [link for link in links if not (page.parent / link).exists()] == []
    if page in GUIDES:
        assert [name for name in FILE.findall(text) if not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize("name", ["train", "jobs", "compress", "evaluate"])
def test_specifications_that_are_shown_can_be_used(name: str) -> None:
    shown = blocks(REPOSITORY / "docs" / f"{name}.md", "yaml")
    assert shown
    for text in shown:
        spec.parse(yaml.safe_dump({"name": "shown", "data": {"dataset": "shown"}, **yaml.safe_load(text)}))


def test_rollouts_that_are_shown_can_be_used() -> None:
    shown = [yaml.safe_load(text) for text in blocks(REPOSITORY / "docs" / "rollouts.md", "yaml")]
    assert shown
    for plan in shown:
        rollout_spec.of_values({"model": "shown", "version": 1, **plan})
