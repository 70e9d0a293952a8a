"""What runs hear of others: the ends of runs they started, the end of the run that started them, events they wait for.

Each is a letter to the run, written in the transaction that marks the event as heard, so it is written once.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import RowMapping, select

from subgraphs.engine.expression import Budget, ExpressionError
from subgraphs.engine.expression.program import program
from subgraphs.execution import events, storage
from subgraphs.execution.desk import answer_letter, put
from subgraphs.execution.domain import CODES, Answer
from subgraphs.execution.storage import run, wait
from subgraphs.execution.waits import OpenWait
from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import read

log = logging.getLogger("linkflow.execution")

AWAITED = (events.SENT, events.RELEASED)
"""Types of events a step may wait for: those people send, under the names they chose, and these of LinkFlow's own."""

NAMES = frozenset({"event", "values"})


class NotBegun(LookupError):
    """A run that was asked for and has not begun; the event is tried again."""


def register(bus: Bus) -> None:
    bus.consume("execution.children", [events.RETURNED, events.STOPPING], _child)
    bus.consume("execution.events", AWAITED, _event)


async def _child(event: Event, transaction: Transaction) -> None:
    if event.type == events.RETURNED:
        await _returned(event, transaction)
    else:
        await _stopping(event, transaction)


async def _returned(event: Event, transaction: Transaction) -> None:
    asked = read(event, events.Returned)
    found = await _head(transaction, asked.parent)
    if found is None or found["status"] >= CODES["succeeded"]:
        return
    letter = {
        "node": asked.node,
        "attempt": asked.attempt,
        "status": asked.status,
        "items": asked.items,
        "error": asked.error,
        "run": str(asked.execution_id),
    }
    await put(transaction, asked.parent, found["part"], "child", letter, event.id)


async def _stopping(event: Event, transaction: Transaction) -> None:
    asked = read(event, events.Stopping)
    found = await _head(transaction, asked.execution_id)
    if found is None:
        raise NotBegun(f"run {asked.execution_id}")
    if found["status"] < CODES["succeeded"]:
        reason = {"reason": "The run that started it has ended.", "by": None}
        kind = "kill" if asked.kill else "cancel"
        await put(transaction, asked.execution_id, found["part"], kind, reason, event.id)


async def _head(transaction: Transaction, id: UUID) -> RowMapping | None:
    mine = transaction.tenant_filter(run.c.tenant)
    return await transaction.row(select(run.c.part, run.c.status).where(mine, run.c.id == id))


async def _event(event: Event, transaction: Transaction) -> None:
    """A letter to every run of the tenant that waits for an event of this type and whose condition this one meets."""
    if event.tenant is None:
        return
    told = event.data
    name, data = (told["type"], told["data"]) if event.type == events.SENT else (event.type, told)
    mine = transaction.tenant_filter(wait.c.tenant)
    waiting = await transaction.rows(
        select(wait, run.c.part)
        .join(run, (run.c.tenant == wait.c.tenant) & (run.c.id == wait.c.run))
        .where(mine, wait.c.kind == "event", wait.c.name == name)
    )
    for row in waiting:
        found = storage.opened(row)
        if matches(found, data):
            given = Answer("main", {"type": name, "data": data, "id": str(event.id)})
            letter = uuid5(event.id, f"{found.run}:{found.step}:{found.attempt}")
            answer = answer_letter(found.step, found.attempt, given)
            await put(transaction, found.run, row["part"], "answer", answer, letter)


def matches(waiting: OpenWait, data: Any) -> bool:
    """Whether the event's data meets the wait's condition. One that cannot be evaluated is not met."""
    condition = waiting.detail.get("match") or ""
    if not condition:
        return True
    try:
        scope = {"event": data, "values": waiting.detail.get("values") or {}}
        return program(condition, NAMES).evaluate(scope, Budget()) is True
    except ExpressionError as fault:
        words = {"execution": str(waiting.run), "step": waiting.step, "error": str(fault)}
        log.info("execution.event_unmatched", extra=words)
        return False
