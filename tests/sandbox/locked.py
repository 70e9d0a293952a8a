"""Runs as a child process: becomes a worker up to its lock, then tries what a broken-out guest would try.

Prints one JSON object: what each attempt got, and whether a job still runs afterwards.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox import artifact, worker
from sandbox.engine import WasmerEngine

FILE, PORT, PARENT = sys.argv[2], int(sys.argv[3]), os.getppid()
libc = ctypes.CDLL(None, use_errno=True)


def raw(name: str, *words: Any) -> Callable[[], Any]:
    def call() -> Any:
        result = getattr(libc, name)(*words)
        if result == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    return call


def connect_over(kept: socket.socket) -> None:
    kept.connect(("127.0.0.1", PORT))


def attempts(kept: socket.socket) -> dict[str, Callable[[], Any]]:
    """Each would do real harm where it succeeds; `kept` is a socket made before the lock."""
    return {
        "open": lambda: os.open(FILE, os.O_RDONLY),
        "open_proc": lambda: os.open("/proc/self/environ", os.O_RDONLY),
        "creat": lambda: os.open("/tmp/lf-escaped", os.O_CREAT | os.O_WRONLY, 0o600),
        "stat": lambda: os.stat(FILE),
        "listdir": lambda: os.listdir("/"),
        "unlink": lambda: os.unlink(FILE),
        "mkdir": lambda: os.mkdir("/tmp/lf-escaped-folder"),
        "chmod": lambda: os.chmod(FILE, 0o600),
        "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "socket_unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "connect": lambda: connect_over(kept),
        "bind": lambda: kept.bind(("127.0.0.1", 0)),
        "execve": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
        "fork": raw("fork"),
        "vfork": raw("syscall", 58 if os.uname().machine == "x86_64" else 220, 0, 0, 0, 0, 0),
        "kill": lambda: os.kill(PARENT, 0),
        "ptrace": raw("ptrace", 16, PARENT, 0, 0),
        "process_vm_readv": raw("process_vm_readv", PARENT, 0, 0, 0, 0, 0),
        "memfd": lambda: os.memfd_create("x"),
        "pipe": os.pipe,
        "mount": raw("mount", b"none", b"/nowhere-lf", b"tmpfs", 0, None),
        "unshare": raw("unshare", 0x10000000),
        "setuid": lambda: os.setuid(0),
        "chroot": lambda: os.chroot("/tmp"),
        "bpf": raw("syscall", 321 if os.uname().machine == "x86_64" else 280, 0, 0, 0),
        "io_uring": raw("syscall", 425, 1, 0),
        "keyctl": raw("syscall", 250 if os.uname().machine == "x86_64" else 219, 0, 0, 0),
        "mmap_exec": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
        "x32": raw("syscall", 0x40000000 + 39),
        "prctl": raw("prctl", 4, 1, 0, 0, 0),
        "rlimit_data": lambda: bytearray(2**30),
    }


async def main() -> dict[str, Any]:
    built = artifact.load(Path(sys.argv[1]))
    engine = WasmerEngine(built.compiled)
    await engine.prepare(built.wasm, {"/workspace/harness.js": built.harness})
    await worker._rehearse(engine)
    kept = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tries = attempts(kept)
    worker.lock_down()
    told: dict[str, Any] = {"results": {}}
    for name, attempt in tries.items():
        try:
            told["results"][name] = f"succeeded: {attempt()!r}"[:100]
        except (OSError, MemoryError) as refused:
            told["results"][name] = f"{type(refused).__name__} {getattr(refused, 'errno', None)}"
    await worker._rehearse(engine)
    told["serves"] = True
    return told


if __name__ == "__main__":
    os.write(1, json.dumps(asyncio.run(main())).encode())
    os._exit(0)
