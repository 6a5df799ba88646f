"""What a process may still do once it is about to touch a model file: compute, and answer over what is open already.

Built from what the kernel has: limits, dropped capabilities, Landlock (files, TCP, signals) and seccomp (system calls). The
parts overlap on purpose: an old kernel lacks some, and ``standing`` says which.
"""

import ctypes
import errno
import os
import re
import resource
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edge_agent.infer import seccomp

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # on every architecture
_RULESET_VERSION = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
_RESERVED_BYTES = 1 << 30  # address space that runtimes map and never touch
_TASKS = 4096  # of the whole user, the agent's own among them: a bound on thread bombs, far above what any runtime takes
# Rights over files by the Landlock ABI that brought them: 13 at first, then refer, truncate, ioctl_dev.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_NETWORK_ABI, _SCOPE_ABI = 4, 6
_BIND_AND_CONNECT_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One wall of the jail."""

    name: str
    missing: str = ""  # why this kernel does not give it; empty: it holds

    @property
    def holds(self) -> bool:
        return not self.missing


@cache
def standing() -> tuple[Part, ...]:
    """Which parts a jail has on this machine. ``enter`` applies each that holds, or fails."""
    abi = _landlock_abi()
    none = "" if abi > 0 else "the kernel has no Landlock" if abi == 0 else f"Landlock is refused ({os.strerror(-abi)})"
    older = f"Landlock ABI {abi} is too old, "
    return (
        Part(name="limits"),
        Part(name="files", missing=none),
        Part(name="network", missing=none or ("" if abi >= _NETWORK_ABI else f"{older}{_NETWORK_ABI} has it")),
        Part(name="signals", missing=none or ("" if abi >= _SCOPE_ABI else f"{older}{_SCOPE_ABI} has it")),
        Part(name="system-calls", missing=seccomp.unavailable()),
    )


def summary() -> str:
    """For people: what holds, and what does not and why."""
    parts = [part.name if part.holds else f"NO {part.name}: {part.missing}" for part in standing()]
    return ", ".join(parts)


def enter(*, memory_bytes: int, cpu_s: int = 0) -> None:
    """Jail this process for good. Call it while there is one thread, with everything imported and open that will be needed.

    Args:
        memory_bytes: of data it may hold from now on.
        cpu_s: processor time in all; 0: no limit.
    Raises:
        OSError: a part that ``standing`` promises could not be had.
    """
    parts = {part.name: part.holds for part in standing()}
    _call(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _drop_capabilities()
    if parts["files"]:
        _enter_landlock(_landlock_abi())
    _limit(memory_bytes, cpu_s)
    if parts["system-calls"]:
        seccomp.enter()


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Truncated files make tflite-runtime allocate without end: it must be stopped before the device runs out of memory."""
    _lower(resource.RLIMIT_DATA, memory_bytes)
    _lower(resource.RLIMIT_AS, memory_bytes + _RESERVED_BYTES)
    if cpu_s:
        _lower(resource.RLIMIT_CPU, cpu_s)
    _lower(resource.RLIMIT_NPROC, _TASKS)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK):
        _lower(kind, 0)  # what is open stays so


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _drop_capabilities() -> None:
    """An agent that runs as root has some; elsewhere a service manager's filter may forbid to ask for none."""
    status = Path("/proc/self/status").read_text()
    if not any(int(value, 16) for value in re.findall(r"^Cap(?:Prm|Eff|Inh|Amb):\s*(\w+)$", status, re.MULTILINE)):
        return
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    _call(_libc().capset(ctypes.byref(header), ctypes.byref(sets)), "capset")


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def _landlock_abi() -> int:
    """0: the kernel has none; below 0: the error it gave."""
    abi = int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _RULESET_VERSION))
    if abi > 0:
        return abi
    code = ctypes.get_errno()
    return 0 if code == errno.ENOSYS else -code


def _enter_landlock(abi: int) -> None:
    """Rules that allow nothing, over every right this kernel knows."""
    ruleset = _Ruleset(
        files=sum(rights for since, rights in _FILE_RIGHTS.items() if since <= abi),
        network=_BIND_AND_CONNECT_TCP if abi >= _NETWORK_ABI else 0,
        scoped=_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= _SCOPE_ABI else 0,
    )
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _NETWORK_ABI else 8
    descriptor = _libc().syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    _call(descriptor, "landlock_create_ruleset")
    try:
        _call(_libc().syscall(_RESTRICT_SELF, descriptor, 0), "landlock_restrict_self")
    finally:
        os.close(descriptor)


def _call(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
