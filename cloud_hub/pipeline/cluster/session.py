"""One connection to a Ray cluster."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_hub.core.errors import Unavailable
from edge_agent.core import phone_home

log = logging.getLogger(__name__)

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


@contextmanager
def cluster(address: str, cpus: int) -> Iterator[None]:
    """Connected to the cluster at ``address``, or to one of our own on this machine with so many workers where it is empty.

    One that was there already, of this process, is used as it is. Raises Unavailable naming the address.
    """
    phone_home.forbid()
    os.environ.update(_QUIET)
    import ray  # noqa: PLC0415  # late: seconds, and the extra may not be installed

    if ray.is_initialized():
        yield
        return
    # Our own cluster inherits the environment. The processes of another are told: who knows what its nodes were started with.
    quiet = {"env_vars": {**phone_home.OFF, **_QUIET}}
    # "local": without it Ray takes one that RAY_ADDRESS or somebody's `ray start` on this machine names.
    own = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    where = {"address": address, "runtime_env": quiet} if address else own
    try:
        begun = ray.init(**where, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise Unavailable(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    failed = False
    try:
        yield
    except Exception:
        failed = True
        raise
    finally:
        ray.shutdown()
        if not address and not failed:  # Ray keeps the logs of every cluster there ever was
            shutil.rmtree(begun.address_info["session_dir"], ignore_errors=True)
