"""Hardware descriptions (``boards/<name>.toml``) that devices and export targets name."""

import tomllib
from importlib.resources import files

from protos.contract.boards import Board
from protos.contract.errors import InvalidValue


def board(name: str) -> Board:
    """Raises InvalidValue naming the boards there are."""
    known = boards()
    if name not in known:
        raise InvalidValue(f"unknown board {name[:64]!r}; known boards: {', '.join(sorted(known))}")
    return known[name]


def boards() -> dict[str, Board]:
    """Every described board by name."""
    folder = files("firmware_images").joinpath("boards")
    read = [tomllib.loads(file.read_text()) for file in folder.iterdir() if file.name.endswith(".toml")]
    return {values["name"]: Board(**{**values, "runtimes": tuple(values["runtimes"])}) for values in read}
