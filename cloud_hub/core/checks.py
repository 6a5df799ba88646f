"""How a specification says what is wrong with it."""

from cloud_hub.core.errors import Invalid


def require(holds: bool, key: str, problem: str) -> None:
    """Raises Invalid naming the key unless it ``holds``."""
    if not holds:
        raise Invalid(f"training spec: '{key}' {problem}")


def choice(key: str, value: str, known: tuple[str, ...]) -> None:
    """Raises Invalid naming what is known."""
    require(value in known, key, f"must be one of {', '.join(known)}, got {value!r}")
