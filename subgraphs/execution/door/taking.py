"""What became of the wait a link belongs to, and taking its one answer."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid5

from sqlalchemy import select

from subgraphs.engine.run import Run
from subgraphs.execution.desk import answer_letter, claimed, put
from subgraphs.execution.domain import CODES, Answer
from subgraphs.execution.door.links import Ticket
from subgraphs.execution.storage import answered, opened, run, wait
from subgraphs.execution.waits import OpenWait
from subgraphs.platform.database import Database, Reading


class State(enum.Enum):
    """Where the wait of a link stands."""

    OPEN = "open"
    EARLY = "early"
    ANSWERED = "answered"
    OVER = "over"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Taking:
    """Looks and takes, as the tenant that the link's signature vouches for."""

    def __init__(self, database: Database, folded: Callable[[UUID, UUID], Awaitable[Run | None]]) -> None:
        self._database, self._folded = database, folded

    async def look(self, ticket: Ticket) -> tuple[State, OpenWait | None]:
        """The state, and the wait itself if it is open."""
        async with self._database.read(ticket.tenant) as reading:
            state, found, _ = await self._found(reading, ticket)
        if state is State.EARLY and await self._passed(ticket):
            return State.OVER, None
        return state, found

    async def take(self, ticket: Ticket, given: Answer, *, early: bool) -> State:
        """Stores the answer and the letter that brings it to the run, in one commit; OPEN if it was taken. With
        `early` it is taken before the step waits, too, and kept for it."""
        state, _ = await self.look(ticket)
        if state is not State.OPEN and not (early and state is State.EARLY):
            return state
        async with self._database.write(ticket.tenant) as transaction:
            state, _, part = await self._found(transaction, ticket)
            if part is None or state not in {State.OPEN, State.EARLY}:
                return state
            if not await claimed(transaction, ticket.run, ticket.step, ticket.attempt, given):
                return State.ANSWERED
            letter = uuid5(ticket.run, f"answer:{ticket.step}:{ticket.attempt}")
            data = answer_letter(ticket.step, ticket.attempt, given)
            await put(transaction, ticket.run, part, "answer", data, letter)
        return State.OPEN

    async def _found(self, reading: Reading, ticket: Ticket) -> tuple[State, OpenWait | None, int | None]:
        mine = reading.tenant_filter(run.c.tenant)
        head = await reading.row(select(run.c.part, run.c.status).where(mine, run.c.id == ticket.run))
        if head is None:
            return State.UNKNOWN, None, None
        at = (answered.c.run == ticket.run, answered.c.step == ticket.step, answered.c.attempt == ticket.attempt)
        if await reading.row(select(answered.c.port).where(reading.tenant_filter(answered.c.tenant), *at)) is not None:
            return State.ANSWERED, None, head["part"]
        if head["status"] >= CODES["succeeded"]:
            return State.ENDED, None, head["part"]
        mine = reading.tenant_filter(wait.c.tenant)
        row = await reading.row(select(wait).where(mine, wait.c.run == ticket.run, wait.c.step == ticket.step))
        if row is None or row["attempt"] < ticket.attempt:
            return State.EARLY, None, head["part"]
        if row["attempt"] > ticket.attempt:
            return State.OVER, None, head["part"]
        return State.OPEN, opened(row), head["part"]

    async def _passed(self, ticket: Ticket) -> bool:
        """Whether the step has been through its wait: nobody waits, and it is not still to come."""
        found = await self._folded(ticket.tenant, ticket.run)
        step = found.steps.get(ticket.step) if found is not None else None
        return step is not None and (step.status in {"succeeded", "failed", "skipped"} or step.attempt > ticket.attempt)
