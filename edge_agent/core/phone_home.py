"""Libraries that report what they are used for to whoever made them, unless they are told not to before they are imported."""

import os
from collections.abc import Mapping, MutableMapping

OFF: Mapping[str, str] = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime, from 1.29 on: a database of events in ~/.cache, sent over HTTPS
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub and transformers, which litert-torch imports
    "HF_HUB_OFFLINE": "1",  # nothing here is fetched from there
    "DO_NOT_TRACK": "1",  # whatever else asks
}


def forbid(environment: MutableMapping[str, str] = os.environ) -> None:
    """For this process and those it starts, whatever the environment said before."""
    environment.update(OFF)
