"""MovieLens 100k (GroupLens; research use, not to be passed on): what users liked, in the order they said so.

Not part of the shared data sets: put ``u.data`` of ml-100k, or the table of it that other packages bring, into the folder
``movielens_100k`` beside them. Without it this example is not listed.
"""

from collections.abc import Iterator
from pathlib import Path

from cloud_hub.pipeline.clean import RawSample
from protos.contract.samples import encode_row
from scripts.datasets import Example, folder, raw

_FOLDER = "movielens_100k"
_LIKED = 4  # stars and more
_BEFORE, _EACH, _SEEN = (
    5,
    30,
    50,
)  # choices before the first one that is asked for; newest ones of each user; of those before it


def labels(data: Path) -> tuple[str, ...]:
    return tuple(sorted({item for _, items in _liked(data) for item, _ in items}))


def samples(data: Path) -> Iterator[RawSample]:
    for user, items in _liked(data):
        for i in range(max(_BEFORE, len(items) - _EACH), len(items)):
            item, at_s = items[i]
            before = [name for name, _ in items[max(0, i - _SEEN) : i]]
            row = {"seen": before, "lately": before[-3:], "liked": float(i)}
            yield raw(encode_row(row), item, name=f"{user}-{i}", source=user, at_ms=at_s * 1000)


def _liked(data: Path) -> list[tuple[str, list[tuple[str, int]]]]:
    """(user, [(film, seconds)]), oldest first."""
    liked: dict[str, list[tuple[str, int]]] = {}
    for line in _file(data).read_text(encoding="ascii").splitlines():
        cells = line.split("\t")
        if len(cells) == 4 and cells[0].isdigit() and int(cells[2]) >= _LIKED:  # other tables have a head
            liked.setdefault(f"user-{cells[0]}", []).append((f"film-{cells[1]}", int(cells[3])))
    return [(user, sorted(items, key=lambda each: (each[1], each[0]))) for user, items in sorted(liked.items())]


def _file(data: Path) -> Path:
    found = [path for name in ("u.data", "movielens100k.tab") if (path := data / _FOLDER / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{data / _FOLDER} has no u.data of MovieLens 100k")
    return found[0]


def _there() -> bool:
    return (folder() / _FOLDER).is_dir()


EXAMPLES = (
    (
        Example(
            name="films",
            data="MovieLens 100k: what users liked, held out by user, the newest choice of each",
            samples=samples,
            labels=labels(folder()),
            reference="the most popular not seen yet: popular_hit_rate_10",
            figures=("popular_hit_rate_10", "ndcg_10", "popular_ndcg_10", "coverage"),
            quick={"teacher": {"epochs": 1}, "student": {"epochs": 1}},
        ),
    )
    if _there()
    else ()
)
