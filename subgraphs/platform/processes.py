"""Child processes that cannot outlive us: started in a group of their own, told by the kernel when we die."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1


def spawn(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: IO[bytes] | int,
    user: pwd.struct_passwd | None = None,
    on_parent_death: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a program: own process group, no input, both outputs to `output`, `on_parent_death` when we die.

    The signal is tied to the thread that starts the child, so call this from one that lives as long as the process.
    """
    return subprocess.Popen(
        list(words),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=_follow(on_parent_death),  # noqa: PLW1509 - two system calls, made after the change of user
        **identity(user),
    )


def identity(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """The arguments of Popen that make a child run as `user`."""
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _follow(sign: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def follow() -> None:
        prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it died in between

    return follow


def stop(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> int:
    """Signal a child and wait, harder at each step (signal, seconds); at last SIGKILL its whole group."""
    for sign, patience in steps:
        if process.poll() is not None:
            break
        process.send_signal(sign)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # also what it left behind in its group
    return process.wait()
