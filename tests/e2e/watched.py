"""Runs a program and sees every address that it or anything it starts talks to: the kernel asks here before each connection.

A watch inside Python would miss what libraries in C++ do, and those are the ones that report home. See seccomp_unotify(2).
"""

import ctypes
import fcntl
import ipaddress
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_X86 = platform.machine() == "x86_64"
_CONNECT, _SENDTO, _SECCOMP = (42, 44, 317) if _X86 else (203, 206, 277)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_RECV, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

# seccomp(2) wants the filter in the process itself: this runs there, then becomes the program.
_LAUNCHER = f"""
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
program = b"".join([
    op(0x20, 0, 0, 0),              # the call's number
    op(0x15, 3, 0, {_CONNECT}),     # connect: ask
    op(0x15, 0, 3, {_SENDTO}),      # not sendto: allow
    op(0x20, 0, 0, 16 + 4 * 8),     # its address, lower half
    op(0x15, 1, 0, 0),              # none: allow
    op(0x06, 0, 0, 0x7FC00000),     # ask whoever listens
    op(0x06, 0, 0, 0x7FFF0000),     # allow
])
code = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
libc.prctl(38, 1, 0, 0, 0)
listener = libc.syscall({_SECCOMP}, 1, 8, filter)
told, go = int(sys.argv[1]), int(sys.argv[2])
os.write(told, struct.pack("i", listener if listener >= 0 else -ctypes.get_errno()))
os.read(go, 1)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class CannotWatch(Exception):
    """The kernel does not let us."""


@dataclass(frozen=True, slots=True)
class Contact:
    program: str
    address: str
    port: int

    @property
    def outside(self) -> bool:
        ip = ipaddress.ip_address(self.address)
        return not (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


@dataclass(slots=True)
class Outcome:
    status: int
    output: str
    contacts: list[Contact] = field(default_factory=list)


def run(words: Sequence[str | Path], env: Mapping[str, str], *, timeout_s: float, cwd: Path | None = None) -> Outcome:
    """To the end of the program. Raises CannotWatch, TimeoutExpired."""
    told_read, told = os.pipe()
    go, go_write = os.pipe()
    command = [sys.executable, "-c", _LAUNCHER, str(told), str(go), *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(told, go), env=dict(env), cwd=cwd, text=True, errors="replace", **pipes)  # type: ignore[call-overload]
    outcome = Outcome(status=-1, output="")
    try:
        os.close(told)
        os.close(go)
        listener = _listener(process.pid, os.read(told_read, 4))
        watcher = threading.Thread(target=_watch, args=(listener, outcome.contacts), daemon=True)
        watcher.start()
        os.write(go_write, b".")
        outcome.output, _ = process.communicate(timeout=timeout_s)
    finally:
        os.close(told_read)
        os.close(go_write)
        if process.poll() is None:
            process.kill()
            process.communicate()
    watcher.join(timeout_s)
    outcome.status = process.returncode
    return outcome


def _listener(pid: int, told: bytes) -> int:
    number = struct.unpack("i", told)[0] if len(told) == 4 else -1
    if number < 0:
        raise CannotWatch(f"seccomp gives no listener: {os.strerror(-number)}")
    theirs = _LIBC.syscall(_PIDFD_OPEN, pid, 0)
    ours = int(_LIBC.syscall(_PIDFD_GETFD, theirs, number, 0))
    problem = os.strerror(ctypes.get_errno())
    os.close(theirs)
    if ours < 0:
        raise CannotWatch(f"the listener cannot be taken over: {problem}")
    return ours


def _watch(listener: int, contacts: list[Contact]) -> None:
    """Until nothing that was started runs any more."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    try:
        while True:
            ((_, events),) = poll.poll()
            if not events & select.POLLIN:
                return
            asked = bytearray(80)
            try:
                fcntl.ioctl(listener, _RECV, asked)
                id, pid, _, number, _, _, *arguments = struct.unpack("QIIiIQ6Q", asked)
                where, size = (arguments[1], arguments[2]) if number == _CONNECT else (arguments[4], arguments[5])
                _note(contacts, pid, where, size)
                fcntl.ioctl(listener, _SEND, bytearray(struct.pack("QqiI", id, 0, 0, _CONTINUE)))
            except OSError:  # it was killed meanwhile
                continue
    finally:
        os.close(listener)


def _note(contacts: list[Contact], pid: int, where: int, size: int) -> None:
    process = Path(f"/proc/{pid}")
    with (process / "mem").open("rb", buffering=0) as memory:
        memory.seek(where)
        raw = memory.read(min(size, 28))
    family = struct.unpack_from("H", raw)[0] if len(raw) >= 2 else 0
    if family == socket.AF_INET and len(raw) >= 8:
        address = socket.inet_ntop(family, raw[4:8])
    elif family == socket.AF_INET6 and len(raw) >= 24:
        address = socket.inet_ntop(family, raw[8:24])
    else:
        return  # a Unix socket, say
    name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    contacts.append(Contact(program=name, address=address, port=struct.unpack_from(">H", raw, 2)[0]))
