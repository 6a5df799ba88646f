"""What the jail refuses, asked from inside, on this kernel."""

import os
import platform
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.infer import jail, seccomp
from edge_agent.infer.jail import Part

MEMORY = 512 << 20
PROBE = """
import ctypes, mmap, os, resource, signal, socket, sys, threading
from edge_agent.infer import jail, seccomp
libc = ctypes.CDLL(None, use_errno=True)
parent, folder, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
opened = os.open(folder + "/there", os.O_RDWR)
directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
stream, datagram = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
abstract, named = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
BEFORE
jail.enter(memory_bytes=MEMORY)
column = seccomp.architecture() or 0
def call(name, *arguments):
    number = name if isinstance(name, int) else (seccomp.DEADLY | seccomp.CONDITIONAL)[name][column]
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
try:
    PROBED
except (OSError, MemoryError, RuntimeError, ValueError) as error:
    os.write(1, f"refused: {type(error).__name__} {getattr(error, 'errno', None)}".encode())
else:
    os.write(1, b"done")
os._exit(0)
"""
SYSCALLS = "system-calls"
# What is tried, and which parts of the jail each refuse it by themselves.
FORBIDDEN = {
    "read a file": ("os.open(folder + '/there', os.O_RDONLY)", {"files", SYSCALLS}),
    "read a file below an open folder": ("os.open('there', os.O_RDONLY, dir_fd=directory)", {"files", SYSCALLS}),
    "write a file": ("os.open(folder + '/there', os.O_WRONLY)", {"files", SYSCALLS}),
    "create a file": ("os.open(folder + '/new', os.O_WRONLY | os.O_CREAT)", {"files", SYSCALLS}),
    "make a folder": ("os.mkdir(folder + '/new')", {"files", SYSCALLS}),
    "list a folder": ("os.listdir(folder)", {"files", SYSCALLS}),
    "list an open folder": ("call((217, 61, 217)[column], directory, ctypes.create_string_buffer(512), 512)", {SYSCALLS}),
    "remove a file": ("os.unlink(folder + '/there')", {"files", SYSCALLS}),
    "rename a file": ("os.rename(folder + '/there', folder + '/elsewhere')", {"files", SYSCALLS}),
    "see whether a file is there": ("os.stat(folder + '/there')", {SYSCALLS}),
    "truncate a file": ("os.truncate(folder + '/there', 0)", {"files", SYSCALLS}),
    "write on in an open file": ("os.write(opened, b'more')", {"limits"}),
    "change the mode of an open file": ("os.fchmod(opened, 0o777)", {SYSCALLS}),
    "read the agent's memory": ("os.open(f'/proc/{parent}/mem', os.O_RDONLY)", {"files", SYSCALLS}),
    "read the agent's environment": ("os.open(f'/proc/{parent}/environ', os.O_RDONLY)", {"files", SYSCALLS}),
    "connect over TCP": ("stream.connect(('127.0.0.1', port))", {"network", SYSCALLS}),
    "listen over TCP": ("stream.bind(('127.0.0.1', 0))", {"network", SYSCALLS}),
    "send over UDP": ("datagram.sendto(b'x', ('127.0.0.1', port))", {SYSCALLS}),
    "connect to an abstract socket": ("abstract.connect('\\0tideline-' + str(port))", {"signals", SYSCALLS}),
    "connect to a named socket": ("named.connect(folder + '/socket')", {SYSCALLS}),
    "make a socket": ("socket.socket()", {"limits", SYSCALLS}),
    "make a pair of sockets": ("socket.socketpair()", {"limits", SYSCALLS}),
    "duplicate a descriptor": ("os.dup(1)", {"limits", SYSCALLS}),
    "fork": ("os.fork() or os._exit(0)", {SYSCALLS}),
    "clone itself as a process": ("call('clone', 17, 0, 0, 0, 0) or os._exit(0)", {SYSCALLS}),
    "clone itself by the newer call": ("call('clone3', 0, 0)", {SYSCALLS}),
    "execute a program": ("os.execv('/bin/true', ['true'])", {"files", SYSCALLS}),
    "kill the agent": ("os.kill(parent, signal.SIGKILL)", {"signals", SYSCALLS}),
    "signal the agent's threads": ("call('tgkill', parent, parent, 9)", {"signals", SYSCALLS}),
    "take the agent's priority": ("os.setpriority(os.PRIO_PROCESS, parent, 19)", {SYSCALLS}),
    "pin the agent to a processor": ("os.sched_setaffinity(parent, {0})", {SYSCALLS}),
    "trace the agent": ("call('ptrace', 16, parent, 0, 0)", {SYSCALLS}),
    "use keys of the kernel": ("call('keyctl', 0, -3, 0)", {SYSCALLS}),
    "load a BPF program": ("call('bpf', 0, 0, 0)", {SYSCALLS}),
    "set io_uring up": ("call('io_uring_setup', 1, 0)", {SYSCALLS}),
    "handle page faults": ("call('userfaultfd', 1)", {SYSCALLS}),
    "count events": ("call('perf_event_open', 0, 0, -1, -1, 0)", {SYSCALLS}),
    "leave its namespaces": ("call('unshare', 0x10000000)", {SYSCALLS}),
    "mount": ("call('mount', b'x', b'/', b'tmpfs', 0, 0)", {SYSCALLS}),
    "have memory that is code": ("mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)", {SYSCALLS}),
    "raise its limits": ("resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))", {"limits", SYSCALLS}),
    "be told of its descriptors by signals": ("__import__('fcntl').fcntl(1, 8, parent)", {SYSCALLS}),
    "take more memory than allowed": ("bytearray(1 << 30)", {"limits"}),
    "map more memory than allowed": ("mmap.mmap(-1, 1 << 34)", {"limits"}),
    "load a library": ("ctypes.CDLL('libcrypt.so.1')", {"files", SYSCALLS}),
}  # fmt: skip
ALLOWED = {
    "compute": "sum(range(1000))",
    "take memory within bounds": "bytearray(64 << 20)",
    "run threads": "t = threading.Thread(target=sum, args=([1, 2],)); t.start(); t.join()",
    "wait": "__import__('time').sleep(0.01)",
    "read what is open": "os.read(opened, 3)",
    "write where it was told to": "os.write(1, b'')",
    "set a signal handler": "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "signal itself": "signal.pthread_kill(threading.get_ident(), 0)",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "there").write_text("content")
    return tmp_path


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    """Where the forbidden would succeed: over TCP, UDP, a named and an abstract socket."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        number = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", number))
        with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
            named.bind(str(folder / "socket"))
            abstract.bind(f"\0tideline-{number}")
            named.listen()
            abstract.listen()
            yield number


def probe(what: str, folder: Path, port: int, *, before: str = "") -> tuple[int, str]:
    """(exit status, what it said)."""
    code = PROBE.replace("PROBED", what).replace("BEFORE", before).replace("MEMORY", str(MEMORY))
    command = [sys.executable, "-c", code, str(os.getpid()), str(folder), str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout or done.stderr


def only(*kept: str) -> str:
    """Code that leaves a jail with no other parts than these; limits are always there."""
    return (
        "from dataclasses import replace; parts = jail.standing(); jail.standing = lambda: tuple("
        f"part if part.name in {kept!r} else replace(part, missing='for the test') for part in parts)"
    )


def holding() -> set[str]:
    return {part.name for part in jail.standing() if part.holds}


def refused(status: int, said: str) -> bool:
    return status == -signal.SIGSYS or (status == 0 and said.startswith("refused"))


@pytest.mark.parametrize("name", FORBIDDEN)
def test_from_inside_it_is_refused_to(name: str, folder: Path, port: int) -> None:
    what, parts = FORBIDDEN[name]
    if not parts & holding():
        pytest.skip(f"this kernel lacks all of {sorted(parts)}: {jail.summary()}")
    status, said = probe(what, folder, port)
    assert refused(status, said), (status, said)
    assert (folder / "there").read_text() == "content"


@pytest.mark.parametrize("name", [name for name, (_, parts) in FORBIDDEN.items() if len(parts) > 1])
def test_each_of_the_overlapping_parts_refuses_by_itself_to(name: str, folder: Path, port: int) -> None:
    what, parts = FORBIDDEN[name]
    for part in sorted(parts & holding() - {"limits"}):
        kept = {"files", "network", "signals"} if part != SYSCALLS else {SYSCALLS}
        status, said = probe(what, folder, port, before=only(*kept))
        assert refused(status, said), (part, status, said)


@pytest.mark.parametrize("name", ALLOWED)
def test_from_inside_it_still_may(name: str, folder: Path, port: int) -> None:
    assert probe(ALLOWED[name], folder, port) == (0, "done")


@pytest.mark.parametrize("name", ["connect over TCP", "read a file", "fork", "kill the agent", "set io_uring up"])
def test_without_the_jail_it_would_have_been_done(name: str, folder: Path, port: int) -> None:
    """A probe that fails anyway proves nothing."""
    what = (
        FORBIDDEN[name][0]
        .replace("signal.SIGKILL", "0")
        .replace("call('io_uring_setup', 1, 0)", "call('io_uring_setup', 1, bytes(120))")
    )
    status, said = probe(what, folder, port, before="jail.enter = lambda **_: None")
    assert (status, said) in {(0, "done"), (0, "donedone"), (0, "")}, (status, said)


@pytest.mark.skipif(SYSCALLS not in holding(), reason=f"no filter of system calls: {jail.summary()}")
@pytest.mark.parametrize("name", ["execute a program", "trace the agent", "load a BPF program", "mount", "set io_uring up"])
def test_what_only_an_attack_does_ends_it(name: str, folder: Path, port: int) -> None:
    assert probe(FORBIDDEN[name][0], folder, port)[0] == -signal.SIGSYS


def test_threads_that_were_there_before_are_in_it_too(folder: Path, port: int) -> None:
    if SYSCALLS not in holding():
        pytest.skip(jail.summary())
    before = """
go, said = threading.Event(), []
def wait_and_open():
    go.wait()
    try: os.open(folder + '/there', os.O_RDONLY)
    except OSError: said.append('refused')
thread = threading.Thread(target=wait_and_open); thread.start()
"""
    status, said = probe("go.set(); thread.join(); os.write(1, said[0].encode()); os._exit(0)", folder, port, before=before)
    assert (status, said) == (0, "refused")


def test_a_root_without_capabilities_cannot_do_what_root_can(folder: Path, port: int) -> None:
    if os.getuid() != 0:
        pytest.skip("this is not root")
    status, said = probe(
        "os.write(1, open(status).read().encode() if 0 else state().encode()); os._exit(0)",
        folder,
        port,
        before="f = open('/proc/self/status')\ndef state():\n    f.seek(0)\n    return f.read()",
    )
    assert status == 0
    assert re.search(r"CapEff:\s+0{16}", said) and re.search(r"CapPrm:\s+0{16}", said) and "NoNewPrivs:\t1" in said


NOBODY = 65534
NO_CAPSET = """
real = jail._call
def refuse_capset(result, what):
    if what == "capset":
        raise SystemExit("it asked for capset")
    real(result, what)
jail._call = refuse_capset
"""


def test_a_user_without_capabilities_asks_for_none_as_the_service_manager_would_refuse(folder: Path, port: int) -> None:
    if os.getuid() != 0:
        pytest.skip("this is not root")
    user = f"os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})"
    status, said = probe("os.open('/proc/self/status', os.O_RDONLY)", folder, port, before=f"{user}\n{NO_CAPSET}")
    assert refused(status, said), said
    assert "it asked for capset" in probe("pass", folder, port, before=NO_CAPSET)[1], "root does"


def test_a_part_that_was_promised_and_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Never less of a jail than was said."""
    status, said = probe(
        "pass", folder, 0, before="jail._enter_landlock = lambda abi: jail._call(-1, 'landlock_restrict_self')"
    )
    assert status != 0 and "landlock_restrict_self" in said


def test_what_a_kernel_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    jail.standing.cache_clear()
    monkeypatch.setattr(jail, "_landlock_abi", lambda: 3)
    monkeypatch.setattr(seccomp, "architecture", lambda: None)
    try:
        assert {part.name: part.holds for part in jail.standing()} == {
            "limits": True, "files": True, "network": False, "signals": False, SYSCALLS: False,
        }  # fmt: skip
        assert "NO network: Landlock ABI 3 is too old, 4 has it" in jail.summary()
        assert f"no table of system calls for {platform.machine()}" in jail.summary()
        jail.standing.cache_clear()
        monkeypatch.setattr(jail, "_landlock_abi", lambda: 0)
        assert Part(name="files", missing="the kernel has no Landlock") in jail.standing()
    finally:
        jail.standing.cache_clear()


# -- the tables ---------------------------------------------------------------------------------------------------------


HEADERS = {
    0: (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")),
    1: (Path("/usr/include/asm-generic/unistd.h"),),
}


@pytest.mark.parametrize("column", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(column: int) -> None:
    header = next((path for path in HEADERS[column] if path.exists()), None)
    if header is None:
        pytest.skip(f"none of {HEADERS[column]} is here")
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())}
    for table in (seccomp.ALLOWED, seccomp.DEADLY, seccomp.CONDITIONAL):
        for name, each in table.items():
            if each[column] >= 0:
                assert numbers[name] == each[column], name


def run(column: int, pid: int, *, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """The filter's verdict, by a machine of our own: other architectures' programs are proven here too."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *(0,) * (6 - len(arguments)))
    code, at, value = seccomp.program(column, pid), 0, 0
    while True:
        operation, yes, no, constant = code[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                value &= constant
            case 0x06:
                return constant
            case 0x15 | 0x35 | 0x45:
                jump = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[operation]
                at += yes if jump else no
            case _:
                raise AssertionError(f"no such instruction: {operation:#x}")


ARCHES = (0xC000003E, 0xC00000B7, 0x40000028)
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


@pytest.mark.parametrize("column", range(3))
def test_the_filter_of_every_architecture_allows_denies_and_kills_what_it_says(column: int) -> None:
    def verdict(number: int, *arguments: int) -> int:
        return run(column, 77, arch=ARCHES[column], number=number, arguments=arguments)

    def number(name: str) -> int:
        return seccomp.CONDITIONAL[name][column]

    assert all(verdict(each[column]) == ALLOW for each in seccomp.ALLOWED.values() if each[column] >= 0)
    assert all(verdict(each[column]) == KILL for each in seccomp.DEADLY.values() if each[column] >= 0)
    known = {each[column] for table in (seccomp.ALLOWED, seccomp.DEADLY, seccomp.CONDITIONAL) for each in table.values()}
    assert all(verdict(other) == EPERM for other in range(460) if other not in known)
    assert all(run(column, 77, arch=other, number=0) == KILL for other in ARCHES if other != ARCHES[column])
    thread = 0x3D0F00
    assert (verdict(number("clone"), thread), verdict(number("clone"), 17)) == (ALLOW, EPERM)
    assert verdict(number("clone"), thread | 0x10000000) == EPERM
    assert verdict(number("clone3")) == ENOSYS
    mapping = number("mmap2" if column == 2 else "mmap")
    assert (verdict(mapping, 0, 4096, 3), verdict(mapping, 0, 4096, 7)) == (ALLOW, EPERM)
    assert (verdict(number("mprotect"), 0, 4096, 1), verdict(number("mprotect"), 0, 4096, 5)) == (ALLOW, EPERM)
    assert (verdict(number("tgkill"), 77, 77, 6), verdict(number("tgkill"), 78, 78, 6)) == (ALLOW, EPERM)
    assert (verdict(number("prctl"), 15), verdict(number("prctl"), 1)) == (ALLOW, EPERM)
    assert (verdict(number("prlimit64"), 0, 3, 0), verdict(number("prlimit64"), 5, 3, 0)) == (ALLOW, EPERM)
    assert verdict(number("prlimit64"), 0, 3, 1 << 40) == EPERM
    if column == 0:
        assert verdict(0x40000000) == KILL  # x32
