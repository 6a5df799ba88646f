"""The system calls that a jailed process keeps: a classic BPF program, and its numbers per architecture.

It is an allow list, and what is not on it *fails* with EPERM: libraries take an error calmly, so a newer libc that tries
another call first still works. What only an attack would call kills the process at once.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# number on (x86_64, aarch64, 32-bit arm); -1: it has none
Numbers = dict[str, tuple[int, int, int]]

ALLOWED: Numbers = {
    # what is open already
    "read": (0, 63, 3), "write": (1, 64, 4), "readv": (19, 65, 145), "writev": (20, 66, 146), "close": (3, 57, 6),
    "lseek": (8, 62, 19), "_llseek": (-1, -1, 140), "fstat": (5, 80, 108), "fstat64": (-1, -1, 197),
    "poll": (7, -1, 168), "ppoll": (271, 73, 336), "ppoll_time64": (-1, -1, 414),
    # memory
    "munmap": (11, 215, 91), "brk": (12, 214, 45), "mremap": (25, 216, 163), "madvise": (28, 233, 220),
    "membarrier": (324, 283, 389),
    # threads of this process, and time
    "futex": (202, 98, 240), "futex_time64": (-1, -1, 422), "futex_waitv": (449, 449, 449),
    "set_robust_list": (273, 99, 338), "rseq": (334, 293, 398), "sched_yield": (24, 124, 158),
    "sched_getaffinity": (204, 123, 242), "getcpu": (309, 168, 345), "getpid": (39, 172, 20), "gettid": (186, 178, 224),
    "nanosleep": (35, 101, 162), "clock_nanosleep": (230, 115, 265), "clock_nanosleep_time64": (-1, -1, 407),
    "clock_gettime": (228, 113, 263), "clock_gettime64": (-1, -1, 403), "clock_getres": (229, 114, 264),
    "clock_getres_time64": (-1, -1, 406), "gettimeofday": (96, 169, 78), "time": (201, -1, -1),
    # signals to itself, and its end
    "rt_sigaction": (13, 134, 174), "rt_sigprocmask": (14, 135, 175), "rt_sigreturn": (15, 139, 173),
    "sigreturn": (-1, -1, 119), "sigaltstack": (131, 132, 186), "restart_syscall": (219, 128, 0),
    "exit": (60, 93, 1), "exit_group": (231, 94, 248),
    # what says nothing about anybody else
    "getrandom": (318, 278, 384), "getrusage": (98, 165, 77), "uname": (63, 160, 122), "sysinfo": (99, 179, 116),
    "ARM_cacheflush": (-1, -1, 0xF0002), "ARM_set_tls": (-1, -1, 0xF0005),
}  # fmt: skip

DEADLY: Numbers = {
    "execve": (59, 221, 11), "execveat": (322, 281, 387), "ptrace": (101, 117, 26), "process_vm_readv": (310, 270, 376),
    "process_vm_writev": (311, 271, 377), "pidfd_getfd": (438, 438, 438), "bpf": (321, 280, 386), "mount": (165, 40, 21),
    "umount2": (166, 39, 52), "pivot_root": (155, 41, 218), "chroot": (161, 51, 61), "unshare": (272, 97, 337),
    "setns": (308, 268, 375), "add_key": (248, 217, 309), "request_key": (249, 218, 310), "keyctl": (250, 219, 311),
    "userfaultfd": (323, 282, 388), "perf_event_open": (298, 241, 364), "io_uring_setup": (425, 425, 425),
    "io_uring_enter": (426, 426, 426), "io_uring_register": (427, 427, 427), "open_by_handle_at": (304, 265, 371),
    "init_module": (175, 105, 128), "finit_module": (313, 273, 379), "kexec_load": (246, 104, 347), "reboot": (169, 142, 88),
}  # fmt: skip

CONDITIONAL: Numbers = {
    "clone": (56, 220, 120), "clone3": (435, 435, 435), "mmap": (9, 222, -1), "mmap2": (-1, -1, 192),
    "mprotect": (10, 226, 125), "tgkill": (234, 131, 268), "prctl": (157, 167, 172), "prlimit64": (302, 261, 369),
}  # fmt: skip

_SECCOMP = (317, 277, 383)
_AUDIT_ARCH = (0xC000003E, 0xC00000B7, 0x40000028)
_X32 = 0x40000000  # numbers from here on are another ABI of the same x86_64 kernel

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_DENY = _ERRNO | errno.EPERM

_CLONE_THREAD = 0x10000
_NEW_NAMESPACES = 0x7E020080  # user, pid, net, ipc, uts, cgroup, mount, time
_PROT_EXEC = 4
_PR_SET_NAME, _PR_SET_VMA = 15, 0x53564D41
_SET_MODE_FILTER, _GET_ACTION_AVAIL, _FLAG_TSYNC = 1, 2, 1

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def architecture() -> int | None:
    """Column of this process in the tables; None: there is none for it."""
    if sys.byteorder != "little":
        return None
    wide = struct.calcsize("P") == 8
    match platform.machine():
        case "x86_64" if wide:
            return 0
        case "aarch64" if wide:
            return 1
        case "armv6l" | "armv7l" | "armv8l" | "aarch64":
            return 2
    return None


def unavailable() -> str:
    """Why this process cannot be filtered; empty where it can."""
    column = architecture()
    if column is None:
        return f"no table of system calls for {platform.machine()}"
    action = ctypes.c_uint32(_KILL)
    if _libc().syscall(_SECCOMP[column], _GET_ACTION_AVAIL, 0, ctypes.byref(action)) != 0:
        return f"the kernel has no seccomp filters ({os.strerror(ctypes.get_errno())})"
    return ""


def enter() -> None:
    """Filter all threads of this process, for good; needs no_new_privs. Raises OSError."""
    column = architecture()
    if column is None:
        raise OSError(errno.ENOSYS, unavailable())
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program(column, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.addressof(buffer))
    result = _libc().syscall(_SECCOMP[column], _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.byref(filter_))
    if result != 0:  # above 0: the thread that could not be filtered
        code_ = ctypes.get_errno() if result < 0 else errno.EBUSY
        raise OSError(code_, f"seccomp: {os.strerror(code_)}")


def program(column: int, pid: int) -> list[Instruction]:
    """The filter for the architecture in ``column``, for the process ``pid``."""

    def numbers(table: Numbers) -> list[int]:
        return [each[column] for each in table.values() if each[column] >= 0]

    code: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _AUDIT_ARCH[column]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    if column == 0:
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for table, verdict in ((ALLOWED, _ALLOW), (DEADLY, _KILL)):
        for number in numbers(table):
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)]
    for name, block in _blocks(pid).items():
        if (number := CONDITIONAL[name][column]) >= 0:
            code += [(_EQUAL, 0, len(block), number), *block]
    return [*code, (_RETURN, 0, 0, _DENY)]


def _blocks(pid: int) -> dict[str, list[Instruction]]:
    """For calls that are allowed with some arguments only; each block ends in a verdict."""
    allow, deny = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)
    not_executable = [(_LOAD, 0, 0, _argument(2)), (_ANY_BIT, 0, 1, _PROT_EXEC), deny, allow]
    return {
        "clone": [  # a thread, and in the namespaces of this process
            (_LOAD, 0, 0, _argument(0)), (_AND, 0, 0, _CLONE_THREAD | _NEW_NAMESPACES),
            (_EQUAL, 0, 1, _CLONE_THREAD), allow, deny,
        ],
        # Its flags are in memory, where no filter can look: without it libc takes clone.
        "clone3": [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)],
        "mmap": not_executable,
        "mmap2": not_executable,
        "mprotect": not_executable,
        "tgkill": [(_LOAD, 0, 0, _argument(0)), (_EQUAL, 0, 1, pid), allow, deny],
        "prctl": [
            (_LOAD, 0, 0, _argument(0)), (_EQUAL, 0, 1, _PR_SET_NAME), allow, (_EQUAL, 0, 1, _PR_SET_VMA), allow, deny,
        ],
        "prlimit64": [  # reading its own limits, as libc does to size stacks
            (_LOAD, 0, 0, _argument(0)), (_EQUAL, 0, 5, 0),
            (_LOAD, 0, 0, _argument(2)), (_EQUAL, 0, 3, 0),
            (_LOAD, 0, 0, _argument(2) + 4), (_EQUAL, 0, 1, 0), allow, deny,
        ],
    }  # fmt: skip


def _argument(index: int) -> int:
    """Where the low half of an argument is (little endian)."""
    return 16 + 8 * index


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
