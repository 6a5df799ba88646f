"""All that is wrong with a specification at once: ``spec.parse`` stops at the first problem."""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import yaml

from cloud_hub.core import cron
from cloud_hub.core import spec as specs
from cloud_hub.core.errors import Invalid
from cloud_hub.core.labels import checked_selector
from cloud_hub.core.spec import TrainingSpec

_MOST = 50  # problems told: a reader mends a few and asks again
_KEY = re.compile(r"'([A-Za-z_][\w.]*)")  # every message names its key first, in quotes
_STANDS_IN: Mapping[str, Any] = {"name": "unnamed", "data.dataset": "unnamed", "task": specs.DEFAULT_TASK}


def find(text: str) -> tuple[TrainingSpec | None, list[str]]:
    """The specification where it can be used, and what is wrong with it.

    A key that is refused is taken away, or replaced where it is required, and the rest is looked at again.
    """
    problems: list[str] = []
    spec = _parsed(text, problems)
    if spec is not None:
        return (None if _of_whole(spec, problems) else spec), problems
    try:
        values = specs.read(text)
    except Invalid:
        return None, problems
    while len(problems) < _MOST and _mended(values, problems[-1]):
        spec = _parsed(yaml.safe_dump(values), problems)
        if spec is not None:
            _of_whole(spec, problems)
            break
    return None, list(dict.fromkeys(problems))


def _parsed(text: str, problems: list[str]) -> TrainingSpec | None:
    try:
        return specs.parse(text)
    except Invalid as error:
        problems.append(str(error).removeprefix("training spec: "))
        return None


def _of_whole(spec: TrainingSpec, problems: list[str]) -> bool:
    """What is looked at only when the specification is stored. True: something is wrong."""
    before = len(problems)
    try:
        if spec.triggers.cron:
            cron.check(spec.triggers.cron)
    except Invalid as error:
        problems.append(str(error))
    try:
        checked_selector(spec.deploy.selector)
    except Invalid as error:
        problems.append(str(error))
    return len(problems) > before


def _mended(values: dict[str, Any], problem: str) -> bool:
    """Take away the key that the problem is about. False: it is not there to be taken."""
    found = _KEY.search(problem)
    if found is None:
        return False
    path = found.group(1)
    before = deepcopy(values)
    *parents, key = path.split(".")
    section: Any = values
    for depth, parent in enumerate(parents):
        if not isinstance(section.get(parent), dict):
            if ".".join(parents[: depth + 1]) + "." + key not in _STANDS_IN and parent not in section:
                return False
            section[parent] = {}
        section = section[parent]
    section.pop(key, None)
    if path in _STANDS_IN:
        section[key] = _STANDS_IN[path]
    return values != before
