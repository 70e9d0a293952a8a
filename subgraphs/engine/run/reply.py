"""The answer the engine gives at the end of a run to a caller who still waits."""

from __future__ import annotations

from typing import Any

from subgraphs.engine.run.events import Made, Outputs, Respond, Started, StepFailed, StepSucceeded
from subgraphs.engine.run.state import Run
from subgraphs.engine.step import Reply, StepError


def closing(
    run: Run,
    respond: Respond,
    status: str,
    cause: Started | StepSucceeded | StepFailed | None,
    error: StepError | None,
) -> Reply:
    """When done: the last step's items (one alone, several as a list). In node mode no node answered, so only the
    run's id and status are told. Failures say which error, never its inner detail."""
    if status != "succeeded":
        code = {"timed_out": 504, "cancelled": 503}.get(status, 500)
        told = {"code": error.code, "message": error.message} if error is not None else None
        return Reply(status=code, body={"executionId": str(run.id), "status": status, "error": told})
    if respond.mode != "done":
        return Reply(body={"executionId": str(run.id), "status": status})
    bodies = _last(run, cause)
    return Reply(body=bodies[0] if len(bodies) == 1 else bodies)


def _last(run: Run, cause: Started | StepSucceeded | StepFailed | None) -> list[dict[str, Any]]:
    if isinstance(cause, Started):
        return [made.json for made in cause.items]
    if cause is None or cause.outputs is None:
        return []
    outputs: Outputs = cause.outputs
    entries = outputs.get("main") or next((items for items in outputs.values() if items), [])
    arrived = [item.json for _, _, _, items in run.arriving(cause.node) for item in items]
    return [entry.json if isinstance(entry, Made) else arrived[entry] for entry in entries]
