"""What a model takes: how a sample becomes the one float32 tensor it is run on."""

from dataclasses import dataclass
from enum import IntEnum

from protos.contract.errors import InvalidValue

MAX_SIDE = 4096
MAX_STEPS = 65_536
MAX_CHANNELS = 4096
MAX_COLUMNS = 4096
MAX_CATEGORIES = 65_536
MAX_FEATURES = 1 << 20
MAX_GRAM = 8
CLIP = 8.0  # standard deviations: what is further out is a broken sensor or a typing error, and must not drown the rest


class Layout(IntEnum):
    NCHW = 1
    NHWC = 2


class SampleKind(IntEnum):
    """What a data set holds, and what a device looks at."""

    IMAGE = 1  # a PNG, JPEG, PPM or BMP file; on the device a frame
    WINDOW = 2  # a ``samples.Window``
    ROW = 3  # a ``samples.Row``
    TEXT = 4  # UTF-8


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """Frame -> tensor: convert to ``channels``, resize bilinear, scale to 0..1, subtract ``mean``, divide by ``std``."""

    width: int
    height: int
    channels: int  # 1 grey, 3 RGB
    layout: Layout
    mean: tuple[float, ...]  # per channel, 0..1 units
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise InvalidValue(f"model input must be 1..{MAX_SIDE} pixels a side, got {self.width} x {self.height}")
        if self.channels not in (1, 3):
            raise InvalidValue(f"channels must be 1 or 3, got {self.channels}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise InvalidValue(f"mean and std need one value for each of {self.channels} channels")
        _check_scale(self.mean, self.std, most=1e3)

    @property
    def kind(self) -> SampleKind:
        return SampleKind.IMAGE

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the tensor, batch 1."""
        if self.layout is Layout.NCHW:
            return (1, self.channels, self.height, self.width)
        return (1, self.height, self.width, self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowInput:
    """Window -> tensor: the named channels in this order, the newest ``steps``; a missing value takes the one before it, or the
    mean; then subtract ``mean``, divide by ``std``, clip to ``CLIP``."""

    channels: tuple[str, ...]
    steps: int
    mean: tuple[float, ...]  # per channel, the sensor's own units
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_names("channels", self.channels, MAX_CHANNELS)
        if not 1 <= self.steps <= MAX_STEPS:
            raise InvalidValue(f"a window must have 1..{MAX_STEPS} steps, got {self.steps}")
        if len(self.mean) != len(self.channels) or len(self.std) != len(self.channels):
            raise InvalidValue(f"mean and std need one value for each of {len(self.channels)} channels")
        if self.steps * len(self.channels) > MAX_FEATURES:
            raise InvalidValue(f"{self.steps} steps of {len(self.channels)} channels are more than {MAX_FEATURES} values")
        _check_scale(self.mean, self.std)

    @property
    def kind(self) -> SampleKind:
        return SampleKind.WINDOW

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the tensor, batch 1."""
        return (1, self.steps, len(self.channels))


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericColumn:
    """One feature: ``(value - mean) / std``, clipped to ``CLIP``; 0 where it is missing, or no number.

    With ``indicator`` a second feature after it: 1 where it is missing, else 0.
    """

    name: str
    mean: float
    std: float
    indicator: bool = False

    @property
    def features(self) -> int:
        return 1 + self.indicator


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryColumn:
    """One feature for each of ``values``: 1 for the value that is there; of a list of n values 1 / sqrt(n) for each.

    All 0 for a missing value or one that training did not know.
    """

    name: str
    values: tuple[str, ...]

    @property
    def features(self) -> int:
        return len(self.values)


Column = NumericColumn | CategoryColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class RowInput:
    """Row -> tensor: the features of each column, one after the other."""

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        _check_names("columns", tuple(column.name for column in self.columns), MAX_COLUMNS)
        for column in self.columns:
            if isinstance(column, NumericColumn):
                _check_scale((column.mean,), (column.std,))
            else:
                _check_names(f"values of {column.name!r}", column.values, MAX_CATEGORIES)
        if self.shape[1] > MAX_FEATURES:
            raise InvalidValue(f"{self.shape[1]} features, more than {MAX_FEATURES}")

    @property
    def kind(self) -> SampleKind:
        return SampleKind.ROW

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tensor, batch 1."""
        return (1, sum(column.features for column in self.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInput:
    """Text -> tensor: NFKC, cut off after ``MAX_TEXT_CHARS``, lower case; each n-gram counts in bucket ``crc32 % buckets``;
    log(1 + count), then L2 norm 1.

    n-grams are runs of 1..``words`` words, joined by a blank, and of ``chars`` (least, most) characters within each word, which
    then stands between blanks. Before hashing, a word n-gram gets the prefix "w", one of characters "c".
    """

    buckets: int
    words: int = 1  # 0: none
    chars: tuple[int, int] = (0, 0)  # (0, 0): none

    def __post_init__(self) -> None:
        if not 16 <= self.buckets <= MAX_FEATURES:
            raise InvalidValue(f"buckets must be in 16..{MAX_FEATURES}, got {self.buckets}")
        least, most = self.chars
        if not 0 <= self.words <= MAX_GRAM or not 0 <= least <= most <= MAX_GRAM or (least == 0) != (most == 0):
            raise InvalidValue(f"n-grams must have 1..{MAX_GRAM} words or characters, got {self.words} and {self.chars}")
        if self.words == 0 and most == 0:
            raise InvalidValue("n-grams need words or characters")

    @property
    def kind(self) -> SampleKind:
        return SampleKind.TEXT

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tensor, batch 1."""
        return (1, self.buckets)


Input = ImageInput | WindowInput | RowInput | TextInput


def _check_names(what: str, names: tuple[str, ...], most: int) -> None:
    if not 1 <= len(names) <= most or len(set(names)) != len(names) or not all(names):
        raise InvalidValue(f"{what} must be 1..{most} different names, got {len(names)}")


def _check_scale(mean: tuple[float, ...], std: tuple[float, ...], most: float = 1e30) -> None:
    if not all(-most < m < most for m in mean) or not all(1e-6 < s < most for s in std):
        raise InvalidValue("mean must be finite and std positive")
