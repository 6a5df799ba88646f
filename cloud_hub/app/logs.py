"""What the hub's processes log, and what the packages they use are told to keep to themselves."""

import logging

from edge_agent.core import logs

_CHATTY = ("apscheduler", "alembic", "amqtt", "transitions", "matplotlib", "PIL", "botocore", "s3fs")


def configure(level: str) -> None:
    """Raises ValueError for a level that is none."""
    logs.configure(level, quiet=_CHATTY)
    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a call that takes long is warned of at every turn it misses
