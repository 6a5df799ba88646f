"""Plain values from files and the environment, laid over each other, into a configuration's dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from edge_agent.core import documents
from edge_agent.core.errors import ConfigError
from edge_agent.core.nearest import did_you_mean

T = TypeVar("T")


class Layer(NamedTuple):
    name: str  # for people: a file, or a variable of the environment
    values: Mapping[str, Any]


def found(path: Path | None, env: Mapping[str, str], *, prefix: str, overlay: Layer | None = None) -> list[Layer]:
    """A file, the ``conf.d`` beside it, ``overlay`` and the environment, in the order in which they go over each other.

    Raises ConfigError naming the file or the variable that is no YAML or cannot be read.
    """
    files = [path, *sorted(path.parent.joinpath("conf.d").glob("*.yaml"))] if path is not None else []
    layers = [Layer(str(file), read(file)) for file in files]
    if overlay is not None:
        layers.append(overlay)
    return layers + [_variable(key, text, prefix) for key, text in env.items() if key.startswith(prefix)]


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for layer in layers:
        _merge(values, layer.values)
    return values


def configured(cls: type[T], layers: Sequence[Layer]) -> T:
    """Raises ConfigError naming the key, and the layer where it is one's own mistake."""
    try:
        return build(cls, merged(layers))
    except ConfigError as error:
        for layer in layers:
            if _mistake(cls, layer) == str(error):
                raise ConfigError(f"{layer.name}: {error}") from error
        raise


def _mistake(cls: type[T], layer: Layer) -> str:
    try:
        build(cls, layer.values)
    except ConfigError as error:
        return str(error)
    return ""


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A configuration dataclass from plain values; an unknown key or a wrong type is a ConfigError that names it."""
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # cls is a dataclass by contract
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise ConfigError(f"unknown key '{path}'{did_you_mean(str(key), known)}")
        arguments[str(key)] = _convert(hints[key], value, path)
    return cls(**arguments)


def _convert(kind: Any, value: Any, path: str) -> Any:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        return _convert(next(k for k in get_args(kind) if k is not type(None)), value, path)
    if is_dataclass(kind):
        if value is None:  # a section whose keys are all commented out
            value = {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"'{path}' must be a mapping, got {type(value).__name__}")
        return build(kind, value, path)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(k): _convert(get_args(kind)[1], v, f"{path}.{k}") for k, v in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"'{path}' must be {getattr(kind, '__name__', kind)}, got {value!r}")


def read(path: Path, *, aliases: bool = True) -> dict[str, Any]:
    """Raises ConfigError naming the file."""
    try:
        values = documents.load(path.read_text(), aliases=aliases)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping, got {type(values).__name__}")
    return values


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value)
        elif value is not None or not isinstance(into.get(key), dict):
            into[key] = value


def _variable(key: str, text: str, prefix: str) -> Layer:
    try:
        value = documents.load(text, aliases=True)
    except yaml.YAMLError as error:
        raise ConfigError(f"environment variable {key} is not YAML: {text[:80]!r}") from error
    for name in reversed(key.removeprefix(prefix).lower().split("__")):
        value = {name: value}
    return Layer(f"environment variable {key}", value)
