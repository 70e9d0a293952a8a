"""The replay gate at the start of a process: open runs that this build cannot take on are found now, not in the night.

Before a process claims a partition it folds the newest open runs as a new owner would, as many as two seconds allow,
and compiles the last releases of the newest workflows. What fails because the code no longer knows the words of a
journal or a definition keeps the process from starting; what is damaged (a payload that is gone) is no fault of this
build and is left to its owner.
How a build is held to recorded histories before it is released: `subgraphs.engine.run.gate`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from subgraphs.engine.run import Unrunnable
from subgraphs.execution import storage
from subgraphs.execution.runner.loading import Loading, NotHeld
from subgraphs.platform.domain import Problem
from subgraphs.platform.objects import Damaged

log = structlog.get_logger("linkflow.execution")

RUNS = 500
RELEASES = 200
AT_ONCE = 50
SECONDS = 2.0
"""Of folding: runs may be large, and a start shall not take minutes for what is only looked at."""
TOLD = 10
NOT_OURS = (NotHeld, Damaged, RecursionError)
"""Faults of the data, which another build would meet as well."""


class Unreplayable(Problem):
    """Runs or releases of this database cannot be taken on by this version."""

    kind = "Conflict"
    default_code = "replay_refused"


async def admit(loading: Loading, *, refuse: bool) -> None:
    """Raises Unreplayable, naming the first run or release this build cannot read; only logs it without `refuse`."""
    found = [*await _runs(loading), *await _releases(loading)]
    for what, fault in found[:TOLD]:
        log.error("replay_gate", what=what, fault=repr(fault)[:500])
    if found and refuse:
        what, fault = found[0]
        raise Unreplayable(
            f"{len(found)} of the newest runs and releases cannot be taken on by this version, first {what}: {fault!r}",
            next_step="Start the version that ran before and let these runs end, or cancel them; or set "
            "LINKFLOW_REPLAY_GATE=warn: then such runs rest until a version comes that reads them.",
        )


async def _runs(loading: Loading) -> list[tuple[str, Exception]]:
    keys = await loading.store.unfinished(RUNS)
    found: list[tuple[str, Exception]] = []
    clock = asyncio.get_running_loop().time
    until = clock() + SECONDS
    for start in range(0, len(keys), AT_ONCE):
        if clock() > until:
            break
        found += [
            (f"run {stored.head['id']}", stored.fault)
            for stored in await loading.runs(keys[start : start + AT_ONCE])
            if stored.fault is not None and not isinstance(stored.fault, NOT_OURS)
        ]
    return found


async def _releases(loading: Loading) -> list[tuple[str, Exception]]:
    found: list[tuple[str, Exception]] = []
    for row in await loading.store.newest_releases(RELEASES):
        fault = _compiled(row)
        if fault is not None:
            found.append((f"release {row['release']} of workflow {row['workflow']}", fault))
    return found


def _compiled(row: Any) -> Exception | None:
    try:
        storage.held(row).plan()
    except (Unrunnable, LookupError, TypeError, ValueError, AttributeError) as fault:
        return fault
    return None
