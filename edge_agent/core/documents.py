"""YAML that somebody else wrote."""

from typing import Any

import yaml


def load(text: str, *, aliases: bool = False) -> Any:
    """Plain values; ``aliases``: let one part of the text stand in several places, as its owner's own files may.

    PyYAML raises anything over a date that does not exist or a tag that does not fit; here all of it is a YAMLError.

    Raises:
        yaml.YAMLError: it is not YAML, nests without end, or has aliases, a few lines of which unfold to gigabytes.
    """
    try:
        if not aliases and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise yaml.YAMLError("YAML aliases are not allowed: a few lines of them unfold to gigabytes")
        return yaml.safe_load(text)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error
