"""Loopback ports: which are free, and who holds one that is not."""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path

from subgraphs.platform.domain import Conflict

SEARCHED = 50


class PortTaken(Conflict):
    """A port that was asked for by name is held by somebody else, or not for this user."""


def free(port: int, host: str = "127.0.0.1") -> bool:
    return _refusal(port, host) is None


def _refusal(port: int, host: str = "127.0.0.1") -> OSError | None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            return error
    return None


def choose(name: str, port: int, *, fixed: bool, taken: Collection[int] = ()) -> int:
    """`port`, or the next free one unless it was fixed; raises PortTaken and says by whom."""
    if port not in taken and free(port):
        return port
    if fixed and isinstance(_refusal(port), PermissionError):
        raise PortTaken(
            f"Port {port} ({name}) is not for ordinary users.",
            code="port_forbidden",
            field=name,
            next_step=f"Set {name} to 1024 or more, or allow it: sysctl net.ipv4.ip_unprivileged_port_start={port}",
        )
    if fixed:
        holder = who_holds(port)
        raise PortTaken(
            f"Port {port} ({name}) is taken{f' by {holder}' if holder else ''}.",
            code="port_taken",
            field=name,
            next_step=f"Stop it, or set {name} to a free port, or unset {name}: then the next free one is used.",
        )
    for other in range(port + 1, port + SEARCHED):
        if other not in taken and free(other):
            return other
    raise PortTaken(
        f"No port from {port} to {port + SEARCHED - 1} is free.", field=name, next_step=f"Set {name} to a free port."
    )


def who_holds(port: int) -> str | None:
    """The process that listens on a port, as `pid 123 (name)`, where Linux lets us see it."""
    inode = _listening_inode(port)
    if inode is None:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(link.readlink().name == f"socket:[{inode}]" for link in (process / "fd").iterdir()):
                return f"pid {process.name} ({_named(process)})"
        except OSError:
            continue  # another user's, or gone
    return None


def _named(process: Path) -> str:
    """The program it was started as; its threads may call themselves anything (Node.js: MainThread)."""
    started = (process / "cmdline").read_text().split("\0")[0]
    return Path(started).name or (process / "comm").read_text().strip()


def _listening_inode(port: int) -> str | None:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in (line.split() for line in lines):
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                return words[9]
    return None
