"""A failed attempt: tried again, carried on with, or the end of what it is a part of."""

from __future__ import annotations

from subgraphs.engine.run import lineage
from subgraphs.engine.run.ahead import Ahead
from subgraphs.engine.run.commands import Complete
from subgraphs.engine.run.events import Outputs, StepFailed
from subgraphs.engine.run.parts import PlanNode
from subgraphs.engine.run.retry import delay
from subgraphs.engine.run.state import Run, Step
from subgraphs.engine.step import StepError


def fail(ahead: Ahead, step: Step, command: Complete, error: StepError, *, again: bool = True) -> None:
    """An attempt failed: it is tried again, or the step carries on with the error, or ends what it is a part of."""
    run, key, outcome = ahead.run, command.node, command.outcome
    node = run.node(key)
    seed = f"{run.started.seed if run.started else 0}:{key}"
    wait = delay(node.retry, step.failures + 1, error, seed) if again else None
    failed = StepFailed(
        at=command.at,
        node=key,
        attempt=command.attempt,
        error=error,
        took=command.took,
        retry_at=command.at + int(wait * 1e6) if wait is not None else None,
        outputs=_carried(run, key, node, error) if wait is None else None,
        lines=outcome.lines,
        lines_dropped=outcome.lines_dropped,
    )
    if wait is not None:
        ahead.events.append(failed)
    else:
        ahead.failed(failed, node)


def _carried(run: Run, key: str, node: PlanNode, error: StepError) -> Outputs | None:
    if node.on_error not in ("continue", "output"):
        return None
    return {"main" if node.on_error == "continue" else "error": lineage.with_error(run, key, error)}
