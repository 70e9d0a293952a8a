"""The answer the engine gives at the end of a run to a caller who still waits."""

from __future__ import annotations

from typing import Any

from subgraphs.engine.run.events import Respond
from subgraphs.engine.run.state import Run
from subgraphs.engine.step import Reply, StepError

CODES = {"timed_out": 504, "cancelled": 503}


def closing(run: Run, respond: Respond, status: str, bodies: list[dict[str, Any]], error: StepError | None) -> Reply:
    """When done: the last step's items (one alone, several as a list). In node mode no node answered, so only the
    run's id and status are told. Failures say which error, never its inner detail; a run that a limit turned away is
    answered as such (429)."""
    if status != "succeeded":
        refused = status == "cancelled" and error is not None and error.kind == "limit"
        code = 429 if refused else CODES.get(status, 500)
        told = {"code": error.code, "message": error.message} if error is not None else None
        return Reply(status=code, body={"executionId": str(run.id), "status": status, "error": told})
    if respond.mode != "done":
        return Reply(body={"executionId": str(run.id), "status": status})
    return Reply(body=bodies[0] if len(bodies) == 1 else bodies)
