"""What this machine has for training jobs."""

import os
from pathlib import Path

from cloud_hub.core.job_queue import Resources

_GPUS = Path("/proc/driver/nvidia/gpus")  # one folder each; reading it needs neither a driver library nor torch
_DEVICES = Path("/dev")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def resources() -> Resources:
    return Resources(cpus=len(os.sched_getaffinity(0)), memory_mb=_memory_mb(), gpus=len(gpus()))


def gpus() -> list[str]:
    """Their numbers, as CUDA_VISIBLE_DEVICES takes them; what that variable of ours leaves out is not ours."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each.strip() for each in visible.split(",") if each.strip() and each.strip() != "-1"]
    there = sorted(each.name.removeprefix("nvidia") for each in _DEVICES.glob("nvidia[0-9]*"))
    if there:
        return there
    return [str(i) for i, _ in enumerate(_GPUS.iterdir())] if _GPUS.is_dir() else []


def _memory_mb() -> int:
    """Of the machine, or of the control group that we are kept in."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _CGROUP.read_text().strip()
    except OSError:
        limit = "max"
    most = min(pages, int(limit)) if limit.isdigit() else pages
    return most >> 20
