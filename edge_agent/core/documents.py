"""YAML that somebody else wrote."""

from typing import Any

import yaml
from yaml.events import AliasEvent

MAX_DEPTH = 50  # the scanner's work grows with the square of the depth: a hundred kilobytes of "[" would take hours
MAX_NUMBER = 100  # characters; so does that of a number in base 60


def load(text: str, *, aliases: bool = False) -> Any:
    """Plain values; ``aliases``: let one part of the text stand in several places, as its owner's own files may.

    PyYAML raises anything over a date that does not exist or a tag that does not fit; here all of it is a YAMLError.

    Raises:
        yaml.YAMLError: it is not YAML, nests deeper than MAX_DEPTH, or has aliases, a few lines of which unfold to gigabytes.
    """
    loader = _Bounded(text, aliases=aliases)
    try:
        return loader.get_single_data()
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error
    finally:
        loader.dispose()


class _Bounded(yaml.SafeLoader):
    def __init__(self, text: str, *, aliases: bool) -> None:
        super().__init__(text)
        self._aliases = aliases
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if not self._aliases and self.check_event(AliasEvent):
            raise yaml.YAMLError("YAML aliases are not allowed: a few lines of them unfold to gigabytes")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"YAML that nests deeper than {MAX_DEPTH} levels is not allowed")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_NUMBER and node.tag.endswith((":int", ":float")):
            raise yaml.YAMLError(f"a number of more than {MAX_NUMBER} characters is not allowed")
        return node
