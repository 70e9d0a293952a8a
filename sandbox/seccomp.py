"""Seccomp by plain ctypes: an allow-list of system calls for every thread of this process, set once it is warm.

What is not listed answers EPERM. `clone` may only make threads; `clone3` answers ENOSYS so that glibc falls back to
`clone`, whose flags a filter can read. Sources: seccomp(2), linux/filter.h, linux/seccomp.h, linux/audit.h;
numbers from asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
RET_KILL_PROCESS, RET_ERRNO, RET_ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
CLONE_THREAD: Final = 0x0001_0000
PROT_EXEC: Final = 4
NUMBER, ARCH, ARGUMENT_0, ARGUMENT_2 = 0, 4, 16, 32

X86_64: Final = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
    "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "readv": 19, "writev": 20,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "sendto": 44, "recvfrom": 45,
    "sendmsg": 46, "recvmsg": 47, "clone": 56, "exit": 60, "fcntl": 72, "getrusage": 98, "sigaltstack": 131,
    "gettid": 186, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228,
    "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233, "tgkill": 234, "ppoll": 271,
    "set_robust_list": 273, "epoll_pwait": 281, "eventfd2": 290, "prlimit64": 302, "getrandom": 318,
    "membarrier": 324, "rseq": 334, "clone3": 435,
}  # fmt: skip
AARCH64: Final = {
    "eventfd2": 19, "epoll_ctl": 21, "epoll_pwait": 22, "fcntl": 25, "close": 57, "lseek": 62, "read": 63, "write": 64,
    "readv": 65, "writev": 66, "ppoll": 73, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
    "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113, "clock_nanosleep": 115, "sched_getaffinity": 123,
    "sched_yield": 124, "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "getrusage": 165, "getpid": 172, "gettid": 178, "sendto": 206,
    "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216, "clone": 220,
    "mmap": 222, "mprotect": 226, "madvise": 233, "prlimit64": 261, "getrandom": 278, "membarrier": 283, "rseq": 293,
    "clone3": 435,
}  # fmt: skip
MACHINES: Final = {"x86_64": (0xC000_003E, 277 + 40, X86_64), "aarch64": (0xC000_00B7, 277, AARCH64)}
X32_BIT: Final = 0x4000_0000


class Unsupported(OSError):
    """This machine or kernel cannot hold a worker in: the sandbox refuses to run there."""


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def program(machine: str) -> bytes:
    """The filter as classic BPF. Foreign architectures are killed, x32 calls and everything unlisted refused."""
    arch, _, calls = MACHINES[machine]
    refuse, absent, allow = RET_ERRNO | errno.EPERM, RET_ERRNO | errno.ENOSYS, RET_ALLOW
    code = [
        _instruction(LOAD, ARCH),
        _instruction(JUMP_EQUAL, arch, 1, 0),
        _instruction(RETURN, RET_KILL_PROCESS),
        _instruction(LOAD, NUMBER),
        _instruction(JUMP_AT_LEAST, X32_BIT, 0, 1),
        _instruction(RETURN, refuse),
        _instruction(JUMP_EQUAL, calls["clone3"], 0, 1),
        _instruction(RETURN, absent),
    ]
    code += _when(calls["clone"], ARGUMENT_0, CLONE_THREAD, has=allow, lacks=refuse)
    code += _when(calls["mmap"], ARGUMENT_2, PROT_EXEC, has=refuse, lacks=allow)
    code += _when(calls["mprotect"], ARGUMENT_2, PROT_EXEC, has=refuse, lacks=allow)
    plain = sorted(number for name, number in calls.items() if name not in {"clone", "clone3", "mmap", "mprotect"})
    for number in plain:
        code += [_instruction(JUMP_EQUAL, number, 0, 1), _instruction(RETURN, allow)]
    code.append(_instruction(RETURN, refuse))
    return b"".join(code)


def _when(number: int, argument: int, bit: int, *, has: int, lacks: int) -> list[bytes]:
    """For one call: one answer if `bit` is set in its argument, another if not."""
    return [
        _instruction(JUMP_EQUAL, number, 0, 4),
        _instruction(LOAD, argument),
        _instruction(JUMP_ANY_BIT, bit, 0, 1),
        _instruction(RETURN, has),
        _instruction(RETURN, lacks),
    ]


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the parent's thread ends; leaves at once if it already has."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def lock() -> None:
    """Holds all threads of this process to the allow-list, for ever. Raises Unsupported where that is not possible."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise Unsupported(errno.ENOSYS, f"No system call table for {machine}.")
    filter_ = program(machine)
    buffer = ctypes.create_string_buffer(filter_, len(filter_))
    header = struct.pack("HxxxxxxP", len(filter_) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise Unsupported(ctypes.get_errno(), "The kernel refused no_new_privs.")
    call = MACHINES[machine][1]
    result = libc.syscall(call, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, header)
    if result != 0:
        raise Unsupported(ctypes.get_errno(), f"The kernel refused the seccomp filter (answer {result}).")
