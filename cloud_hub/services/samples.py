"""What a sample must be to be taken. What comes from outside is hostile until it has been decoded once."""

import io
import threading

from PIL import Image, UnidentifiedImageError

from cloud_hub.core.errors import Invalid
from edge_agent.infer.inputs import decode_content, encode_content
from protos.contract.errors import InvalidMessage, InvalidValue
from protos.contract.inputs import SampleKind
from protos.contract.samples import MAX_SAMPLE_BYTES, Window

MAX_IMAGE_BYTES = MAX_SAMPLE_BYTES
MAX_PIXELS = 25_000_000  # 100 MB decoded, and as much again while it is converted
FORMATS = ("PNG", "JPEG", "PPM", "BMP")
SPLITS = ("", "train", "val", "test")
MAX_SCANS = 100  # of a JPEG; each goes over all pixels, and one in use has about ten
MAX_TEXT = 255  # of a label, a source or a file name

_DECODERS = threading.BoundedSemaphore(2)  # at once: a few bytes may unfold to the largest picture, in every thread there is


def checked_content(content: bytes, kind: SampleKind) -> tuple[bytes, tuple[str, ...]]:
    """The content as a data set keeps it, the same bytes for the same values, and the channels or columns it has.

    Raises Invalid saying what is wrong; the caller adds the sample's name.
    """
    if kind is SampleKind.IMAGE:
        check_image(content)
        return content, ()
    if not content:
        raise Invalid(f"an empty {kind.name.lower()}")
    try:
        value = decode_content(content, kind)
        names = value.channels if isinstance(value, Window) else tuple(value) if isinstance(value, dict) else ()
        for name in names:
            check_text("a channel or column", name, least=1)
        if isinstance(value, str) and not value.strip():
            raise Invalid("an empty text")
        return encode_content(value), names
    except (InvalidMessage, InvalidValue) as error:
        raise Invalid(str(error)[:300]) from error


def check_image(image: bytes, formats: tuple[str, ...] = FORMATS) -> None:
    """Decode all of it. Raises Invalid saying what is wrong; the caller adds the file's name."""
    if not image:
        raise Invalid("empty file")
    if len(image) > MAX_IMAGE_BYTES:
        raise Invalid(f"{len(image)} bytes, more than the {MAX_IMAGE_BYTES} an image may have")
    try:
        with _DECODERS, Image.open(io.BytesIO(image), formats=formats) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise Invalid(f"{width} x {height} pixels, more than {MAX_PIXELS}")
            _check_work(image, opened)
            opened.load()
            opened.convert("RGB")
    except Invalid:
        raise
    except Image.DecompressionBombError as error:
        raise Invalid(f"more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise Invalid(f"not a readable {', '.join(formats)} image") from error
    except Exception as error:  # the border to a decoder: for hostile bytes it raises almost anything
        raise Invalid(f"damaged image: {type(error).__name__}: {error}"[:300]) from error


def _check_work(image: bytes, opened: Image.Image) -> None:
    """Refuse what takes seconds to decode for each kilobyte. Raises Invalid."""
    if opened.format == "JPEG" and image.count(b"\xff\xda") > MAX_SCANS:
        raise Invalid(f"a JPEG of more than {MAX_SCANS} scans")
    if opened.format == "BMP" and any(tile[0] == "bmp_rle" for tile in getattr(opened, "tile", ())):
        raise Invalid("a compressed BMP: save it without compression, or as PNG")


def check_text(what: str, text: str, *, least: int = 0) -> None:
    """Raises Invalid."""
    if not least <= len(text) <= MAX_TEXT or not text.isprintable():
        raise Invalid(f"{what} must be {least}..{MAX_TEXT} printable characters, got {text[:64]!r}")


def check_split(split: str) -> None:
    """Raises Invalid."""
    if split not in SPLITS:
        raise Invalid(f"split must be one of {', '.join(repr(known) for known in SPLITS)}, got {split[:32]!r}")
