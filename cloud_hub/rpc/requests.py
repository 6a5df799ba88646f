"""What many requests have in common; an empty id stands for none."""

from cloud_hub.core.pages import Page
from protos.contract import ids
from protos.contract.ids import DeviceId, ModelName

DEFAULT_ROWS, MAX_ROWS = 100, 1000  # of a listing without pages
DEFAULT_PAGE, MAX_PAGE = 100, 500


def device_from_pb(device_id: str) -> DeviceId | None:
    return ids.device_id(device_id) if device_id else None


def model_from_pb(model: str) -> ModelName | None:
    return ids.model_name(model) if model else None


def page_from_pb(size: int, token: str) -> Page:
    return Page(size=min(size or DEFAULT_PAGE, MAX_PAGE), token=token)


def rows_from_pb(limit: int) -> int:
    return min(limit or DEFAULT_ROWS, MAX_ROWS)
