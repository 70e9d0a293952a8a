"""Talking to a run: signals, answers to what it waits for, approvals, the word on an effect nobody saw the end of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec

from subgraphs.execution import events
from subgraphs.execution.commands.stopping import PATIENCE, found, over
from subgraphs.execution.domain import Answer, Claim, Desk, Head, checked_key, checked_name, fingerprint
from subgraphs.execution.waits import OpenWait, entitled, port_of, self_refused
from subgraphs.platform.domain import Caller, Conflict, Forbidden, Invalid, Missing, uuid7

MAX_DATA = 256 * 1024
MAX_ID = 255


async def signal(caller: Caller, desk: Desk, *, run: UUID, name: str, data: Any, id: str | None) -> Head:
    """Sends a run a signal of a name, whether it waits for it already or will later. The same `id` twice is once."""
    caller.must("execution:control")
    checked_name(name, "name")
    checked_data(data, "data")
    if id is not None and not 1 <= len(id) <= MAX_ID:
        raise Invalid(
            f"A message id has 1 to {MAX_ID} characters.",
            code="id_malformed",
            field="id",
            next_step="Use a random UUID for each signal you mean.",
        )
    head = await found(desk, run)
    if head.final:
        raise over(head)
    told = {"name": name, "data": data, "by": str(caller.subject)}
    await desk.post(head, "signal", told, id=uuid5(run, f"signal:{id}") if id else uuid7(), patience=PATIENCE)
    return await desk.head(run) or head


async def send(caller: Caller, desk: Desk, *, type: str, data: Any, key: str | None) -> UUID:
    """Publishes an event of the tenant's own for those of its runs that wait for it; the event's id.

    With a key, the same event again is the first one; other content under it is a Conflict."""
    tenant = caller.must("execution:control")
    checked_name(type, "type")
    checked_data(data, "data")
    known = checked_key(key)
    id = uuid7()
    claim = Claim(tenant, f"event:{known}", id, fingerprint("event", type, data)) if known is not None else None
    if await desk.publish(events.sent(id, tenant, desk.partition(id), type, data), claim) or claim is None:
        return id
    first = await desk.claimed(claim.key)
    if first is None or first.hash != claim.hash:
        raise Conflict(
            "This idempotency key was used for another event.",
            code="key_reused",
            field="idempotencyKey",
            next_step="Use a new key, or send the same event.",
        )
    return first.run


async def answer(caller: Caller, desk: Desk, *, run: UUID, node: str, data: Any) -> Head:
    """Ends an open wait with data, as an operator may; approvals have approvers, see `approve`."""
    caller.must("execution:control")
    checked_data(data, "data")
    head, wait = await _open(desk, run, node)
    if wait.kind in {"approval", "child"}:
        raise Conflict(
            f"The step waits for {'an approval' if wait.kind == 'approval' else 'another run'}.",
            code="wait_kind",
            field="node",
            next_step="answerApproval answers approvals; another run ends by itself, or by cancelExecution.",
        )
    return await _answered(desk, head, wait, Answer("main", data, caller.subject))


async def approve(caller: Caller, desk: Desk, *, run: UUID, node: str, approved: bool, comment: str | None) -> Head:
    """Decides an approval. Only named approvers, those it was delegated or escalated to, and administrators may."""
    caller.must("execution:approve")
    if comment is not None and len(comment) > 2000:
        raise Invalid(
            "A comment has at most 2000 characters.",
            code="comment_long",
            field="comment",
            next_step="Shorten the comment.",
        )
    head, wait = await _open(desk, run, node)
    await _may_decide(caller, desk, head, wait)
    told = {"approved": approved, "comment": comment or "", "by": str(caller.subject), "at": _now()}
    return await _answered(desk, head, wait, Answer(port_of(approved), told, caller.subject))


async def delegate(caller: Caller, desk: Desk, *, run: UUID, node: str, approver: UUID) -> Head:
    """Lets somebody else decide an approval as well; who delegates may still decide."""
    caller.must("execution:approve")
    head, wait = await _open(desk, run, node)
    await _may_decide(caller, desk, head, wait)
    assert caller.subject is not None  # noqa: S101 - who may decide is somebody
    await desk.delegate(wait, caller.subject, str(approver))
    return head


async def settle(
    caller: Caller, desk: Desk, *, run: UUID, node: str, happened: bool, outputs: Any, attempt: int | None
) -> Head:
    """Says of an ambiguous step whether its effect happened: then it has succeeded with these outputs; if not, it
    begins again."""
    caller.must("execution:control")
    given = _outputs(outputs) if happened else {}
    head = await found(desk, run)
    if head.final:
        raise over(head)
    current = await desk.ambiguous(head, node)
    if current is None or (attempt is not None and attempt != current):
        raise Conflict(
            "No attempt of this step is ambiguous.",
            code="step_not_ambiguous",
            field="node",
            next_step="Look at the run's steps: only those with the status AMBIGUOUS are settled.",
        )
    told = {"node": node, "attempt": current, "happened": happened, "outputs": given, "by": str(caller.subject)}
    await desk.post(head, "settle", told, id=uuid5(run, f"settle:{node}:{current}"), patience=PATIENCE)
    return await desk.head(run) or head


async def _open(desk: Desk, run: UUID, node: str) -> tuple[Head, OpenWait]:
    head = await found(desk, run)
    if head.final:
        raise over(head)
    wait = await desk.wait(run, node)
    if wait is None:
        raise Missing(
            "This step waits for nobody's answer.",
            code="wait_missing",
            field="node",
            next_step="`waits` of the run lists what it waits for.",
        )
    return head, wait


async def _may_decide(caller: Caller, desk: Desk, head: Head, wait: OpenWait) -> None:
    if wait.kind != "approval":
        raise Conflict(
            "The step does not wait for an approval.",
            code="wait_kind",
            field="node",
            next_step="answerWait answers it.",
        )
    delegated: Sequence[str] = await desk.delegates(wait)
    if not entitled(caller, wait, delegated, datetime.now(UTC)):
        raise Forbidden(
            "The approval is for others.",
            code="approver_other",
            field="node",
            next_step="Ask one of its approvers to decide, or to delegate it to you.",
        )
    if self_refused(caller, wait, head.started_by):
        raise Forbidden(
            "Who started a run does not approve it.",
            code="approver_self",
            field="node",
            next_step="Ask another approver; the node's allowSelf permits it.",
        )


async def _answered(desk: Desk, head: Head, wait: OpenWait, given: Answer) -> Head:
    if not await desk.answer(head, wait, given, patience=PATIENCE):
        raise Conflict(
            "The step was answered already.",
            code="wait_answered",
            field="node",
            next_step="Open the execution to see what was answered.",
        )
    return await desk.head(head.id) or head


def checked_data(data: Any, field: str) -> None:
    """Raises Invalid for what is no JSON, or too large for a letter."""
    size = len(msgspec.json.encode(data))
    if size > MAX_DATA:
        raise Invalid(
            f"This has {size} bytes; at most {MAX_DATA} are taken.",
            code="data_large",
            field=field,
            next_step="Send a link to the data instead.",
        )


def _outputs(given: Any) -> Mapping[str, list[dict[str, Any]]]:
    """Items by port; a plain list is what leaves by `main`."""
    ports = {"main": given} if isinstance(given, list) else given if given is not None else {"main": [{}]}
    if not isinstance(ports, dict) or not all(
        isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in ports.values()
    ):
        raise Invalid(
            "Outputs are lists of objects by port.",
            code="outputs_malformed",
            field="outputs",
            next_step='Send {"main": [{...}]}, or just the list.',
        )
    checked_data(ports, "outputs")
    return ports


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
