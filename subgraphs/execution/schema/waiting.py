"""Why a run does not go on, as the graph shows it."""

import enum
import time
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import strawberry

from resolvers.connections import sized
from resolvers.scalars import DateTime
from subgraphs.execution.domain import moment
from subgraphs.execution.limits import why
from subgraphs.execution.schema.statuses import kind

Info = strawberry.Info[Any, None]

if TYPE_CHECKING:
    _Execution = Any
    _User = Any
else:
    _Execution = Annotated["Execution", strawberry.lazy("subgraphs.execution.schema.executions")]  # noqa: F821 - named late
    _User = Annotated["User", strawberry.lazy("subgraphs.execution.schema.executions")]  # noqa: F821 - named late


@strawberry.enum(description="What a step waits for.")
class StepNeed(enum.Enum):
    RUNNING = strawberry.enum_value("RUNNING", description="Its body is under way.")
    RETRY = strawberry.enum_value("RETRY", description="An attempt failed; the next is due at `until`.")
    TIME = strawberry.enum_value("TIME", description="A moment: `until`.")
    SIGNAL = strawberry.enum_value("SIGNAL", description="A signal named `about`.")
    EVENT = strawberry.enum_value("EVENT", description="An event of the type `about`.")
    APPROVAL = strawberry.enum_value("APPROVAL", description="A decision by one of `who`.")
    FORM = strawberry.enum_value("FORM", description="Somebody who fills in the form `about`.")
    CALLBACK = strawberry.enum_value("CALLBACK", description="A call to the step's own URL.")
    CHILD = strawberry.enum_value("CHILD", description="The end of the run `child`, which it called.")
    SETTLEMENT = strawberry.enum_value(
        "SETTLEMENT", description="Somebody who knows whether it happened: it was cut off and must not be repeated."
    )


@strawberry.interface(description="Why a run does not go on.")
class Waiting:
    summary: str = strawberry.field(description="In a sentence.")
    next_step: str | None = strawberry.field(description="What would let it go on, if somebody can do something.")


@strawberry.type(description="It is queued at a limit of its workflow.")
class WaitingAtLimit(Waiting):
    limit: str = strawberry.field(description="The limit as the workflow's settings call it.")
    key: str = strawberry.field(description="The value of the limit's key for this run; empty without a key.")
    allowed: int = strawberry.field(description="How many the limit allows, at once or in a period.")
    place: int = strawberry.field(description="Its place in the queue: 1 is next.")
    waiting: int = strawberry.field(description="How many wait there, this one included.")
    since: DateTime = strawberry.field(description="Since when it waits.")
    begins_at: DateTime | None = strawberry.field(
        description="When it will probably go on, by how long others took lately; nothing if that is not known."
    )
    held: int = strawberry.field(description="How many runs hold a place.")
    holder_ids: strawberry.Private[list[UUID]]

    @sized(at_most=10, weight=2, description="The first ten runs that hold a place; none where limits only pace.")
    async def holders(self, info: Info) -> list[_Execution] | None:
        found = await info.context.heads.load_many(self.holder_ids)
        execution = kind(info, "Execution")
        return [execution.of(head) for head in found if head is not None]

    @classmethod
    def at(cls, standing: why.Standing, now: int) -> Self:
        due = standing.due(now)
        about = f" for {standing.key}" if standing.key else ""
        told = f"{standing.limit}{about}: {_allowed(standing)}; place {standing.place} of {standing.waiting}."
        return cls(
            summary=told,
            next_step=_next(standing),
            limit=standing.limit,
            key=standing.key,
            allowed=standing.terms.limit,
            place=standing.place,
            waiting=standing.waiting,
            since=moment(standing.at),
            begins_at=moment(due) if due is not None else None,
            held=standing.held,
            holder_ids=list(standing.holders),
        )


def _allowed(standing: why.Standing) -> str:
    terms = standing.terms
    if terms.kind == "concurrency":
        return f"{standing.held} of {terms.limit} places are taken"
    if terms.kind == "batch":
        return f"{standing.waiting} of {terms.limit} have come"
    if terms.kind == "debounce":
        return f"nobody else may come for {terms.period / 1e6:g} s"
    return f"{len(standing.starts)} of {terms.limit} have begun in {terms.period / 1e6:g} s"


def _next(standing: why.Standing) -> str:
    if standing.terms.kind == "concurrency":
        return "Wait for one of the holders to end, cancel one, or publish a release with a higher limit."
    return "Wait until beginsAt, or publish a release with other limits."


@strawberry.type(description="It, its workflow or its tenant is paused.")
class WaitingForResume(Waiting):
    scope: str = strawberry.field(description="EXECUTION, or WORKFLOW if its workflow or tenant is paused.")
    since: DateTime = strawberry.field(description="When it was paused.")
    reason: str = strawberry.field(description="Why, in the words of who paused it; may be empty.")
    by: _User | None = strawberry.field(description="Who paused it.")

    @classmethod
    def of(cls, info: Info, held: why.Held, scope: str) -> Self:
        what = "The run" if scope == "EXECUTION" else "Its workflow or tenant"
        user = kind(info, "User")
        return cls(
            summary=f"{what} is paused{f': {held.reason}' if held.reason else '.'}",
            next_step="Somebody who may resumes it.",
            scope=scope,
            since=moment(held.at),
            reason=held.reason,
            by=user(id=strawberry.ID(str(held.by))) if held.by is not None else None,
        )


@strawberry.type(description="What one step waits for.")
class PendingStep:
    key: str = strawberry.field(description="The step: its node's id, inside a loop with its rounds.")
    name: str = strawberry.field(description="The node's name.")
    needs: StepNeed = strawberry.field(description="What for.")
    attempt: int = strawberry.field(description="Which attempt.")
    since: DateTime | None = strawberry.field(description="Since when.")
    until: DateTime | None = strawberry.field(description="When the wait ends by itself.")
    deadline: DateTime | None = strawberry.field(description="When the step gives up.")
    about: str = strawberry.field(description="The signal's name, the event's type, the title of approval or form.")
    who: list[str] = sized(at_most=10, description="Who may decide; empty if anybody of the tenant may.")
    child_id: strawberry.Private[UUID | None]

    @strawberry.field(description="The run it called.")
    async def child(self, info: Info) -> _Execution | None:
        head = await info.context.heads.load(self.child_id) if self.child_id is not None else None
        return kind(info, "Execution").of(head) if head is not None else None

    @classmethod
    def of(cls, step: why.Pending) -> Self:
        return cls(
            key=step.key,
            name=step.name,
            needs=StepNeed(step.kind),
            attempt=step.attempt,
            since=_moment(step.since),
            until=_moment(step.until),
            deadline=_moment(step.deadline),
            about=step.about,
            who=list(step.who),
            child_id=step.child,
        )


@strawberry.type(description="It is under way, and waits for its steps.")
class WaitingForSteps(Waiting):
    steps: list[PendingStep] = sized(at_most=20, description="Those that are under way or wait.")

    @classmethod
    def of(cls, pending: list[why.Pending]) -> Self:
        names = ", ".join(f"{step.name} ({step.kind.lower()})" for step in pending[:5])
        more = f" and {len(pending) - 5} more" if len(pending) > 5 else ""
        needed = {step.kind for step in pending} - {"RUNNING", "RETRY", "TIME", "CHILD"}
        return cls(
            summary=f"It waits for {names}{more}.",
            next_step="Bring about what the steps wait for." if needed else None,
            steps=[PendingStep.of(step) for step in pending],
        )


def _moment(at: int | None) -> DateTime | None:
    return moment(at) if at else None


@strawberry.type
class Waits:
    """What a run tells of why it does not go on; a part of `Execution`."""

    key: strawberry.Private[UUID]

    @strawberry.field(
        description="Why it does not go on: the limit it is queued at with its holders, the place in the queue and an "
        "estimate; who paused it; or what each of its steps waits for. Nothing for a run that has ended or is about to "
        "go on."
    )
    async def why_waiting(self, info: Info) -> Waiting | None:
        found: why.Why | None = await info.context.whys.load(self.key)
        if found is None:
            return None
        if found.held is not None:
            return WaitingForResume.of(info, found.held, "WORKFLOW" if found.standing is not None else "EXECUTION")
        if found.standing is not None and found.standing.terms.kind != "pause":
            return WaitingAtLimit.at(found.standing, time.time_ns() // 1000)
        return WaitingForSteps.of(list(found.steps)) if found.steps else None


WAITINGS: list[type] = [WaitingAtLimit, WaitingForResume, WaitingForSteps]
"""The kinds of `Waiting`: only the interface leads to them."""
