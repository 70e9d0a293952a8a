"""Letters in a run's inbox, as commands. Only a run's owner reads them, in the order they were written; the commit that
heeds a letter deletes it, so it has its effect once.

| kind | asks for |
|---|---|
| `cancel`, `kill` | stop now, with or without cleaning up |
| `pause`, `resume` | hold the run, let it go on |
| `signal` | hear a signal; kept if nothing waits for it yet |
| `answer` | end a wait; kept until the step waits, if it has not begun to |
| `settle` | an ambiguous attempt happened, or did not |
| `child` | a run that this one waits for has ended |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import Answer, Cancel, ChildEnded, Command, Pause, Resume, Run, Settle, Signal
from subgraphs.engine.run.keys import node_of
from subgraphs.engine.step import StepError
from subgraphs.execution.limits.letters import fault
from subgraphs.execution.runner.store import Row
from subgraphs.execution.storage import whole
from subgraphs.platform.objects import Objects

if TYPE_CHECKING:
    from subgraphs.execution.runner.live import Live

Read = Callable[[UUID, Mapping[str, Any], int], Command]


class Unknown(ValueError):
    """A letter of a kind this code does not know: a newer process wrote it, and one like that shall read it."""


async def command(objects: Objects, row: Row, at: int) -> Command:
    """What the letter asks for; raises Unknown."""
    read = KINDS.get(row["kind"])
    if read is None:
        raise Unknown(row["kind"])
    data = msgspec.json.decode(row["data"])
    if row["kind"] == "child":
        data["items"] = await whole(objects, row["tenant"], data["items"])
    return read(row["id"], data, at)


def _who(data: Mapping[str, Any]) -> UUID | None:
    return UUID(data["by"]) if data.get("by") else None


def _stop(kill: bool) -> Read:
    def read(_id: UUID, data: Mapping[str, Any], at: int) -> Command:
        return Cancel(at=at, reason=data.get("reason") or "", by=_who(data), kill=kill, error=fault(data))

    return read


def _signal(id: UUID, data: Mapping[str, Any], at: int) -> Command:
    return Signal(at=at, id=str(id), name=data["name"], data=data.get("data"), by=_who(data))


def _answer(_id: UUID, data: Mapping[str, Any], at: int) -> Command:
    told = data.get("data")
    return Answer(at=at, node=data["node"], attempt=data["attempt"], port=data["port"], data=told, by=_who(data))


def _pause(_id: UUID, data: Mapping[str, Any], at: int) -> Command:
    return Pause(at=at, by=_who(data), reason=data.get("reason") or "")


def _resume(_id: UUID, data: Mapping[str, Any], at: int) -> Command:
    return Resume(at=at, by=_who(data))


def _settle(_id: UUID, data: Mapping[str, Any], at: int) -> Command:
    return Settle(
        at=at,
        node=data["node"],
        attempt=data["attempt"],
        happened=data["happened"],
        outputs=data.get("outputs") or {},
        by=_who(data),
    )


def _child(_id: UUID, data: Mapping[str, Any], at: int) -> Command:
    error = msgspec.convert(data["error"], StepError) if data.get("error") else None
    return ChildEnded(
        at=at,
        node=data["node"],
        attempt=data["attempt"],
        status=data["status"],
        items=data["items"] or (),
        error=error,
        run=UUID(data["run"]),
    )


KINDS: Mapping[str, Read] = {
    "cancel": _stop(kill=False),
    "kill": _stop(kill=True),
    "signal": _signal,
    "answer": _answer,
    "pause": _pause,
    "resume": _resume,
    "settle": _settle,
    "child": _child,
}


BEFORE = frozenset({"pending", "ready", "running", "retrying", "ambiguous"})


def early(run: Run, asked: Command) -> bool:
    """Whether it answers a wait that has not begun: a callback may be faster than the step that waits for it."""
    if not isinstance(asked, Answer) or run.final or node_of(asked.node) not in run.plan.nodes:
        return False
    step = run.steps.get(asked.node)
    return step is None or (step.status in BEFORE and step.attempt <= asked.attempt)


def heed(live: Live, letter: UUID, asked: Command) -> bool:
    """Applies what the letter asks, so that the next commit deletes it; False if it came too early and is kept."""
    if early(live.run, asked):
        live.early[letter] = asked
        return False
    if isinstance(asked, Cancel) and asked.kill:
        live.killed = True
    if isinstance(asked, ChildEnded):
        live.returned.add(asked.node)
    live.apply(asked)
    live.mail.append(letter)
    return True


def heed_again(live: Live, at: int) -> bool:
    """Letters that came too early, as far as they are in time now; whether any was."""
    ripe = [letter for letter, asked in live.early.items() if not early(live.run, asked)]
    for letter in ripe:
        heed(live, letter, msgspec.structs.replace(live.early.pop(letter), at=at))
    return bool(ripe)
