"""Steps as Executor is asked for them, and how their ends come back."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from zlib import crc32

import structlog

from subgraphs.engine.run import PlanNode, Run, Step, ancestor
from subgraphs.engine.run.keys import node_of
from subgraphs.engine.step import Executor, Item, StepError, StepOutcome, StepRequest
from subgraphs.execution.domain import moment
from subgraphs.execution.storage import key as idempotency_key

log = structlog.get_logger("linkflow.execution")


LINKED = frozenset({"core.approval", "core.form", "core.callback"})
"""Node types whose waits are answered by a link."""

Span = Callable[..., AbstractContextManager[None]]
"""Opens a span around a block: (name, headers of a trace to join or None, attributes)."""


DONE = frozenset({"succeeded", "failed"})


class Nodes(Mapping[str, Sequence[Item]]):
    """What settled nodes put out, by node id, as one step sees it; looked up when an expression asks. Inside a loop a
    node's step is that of the same round."""

    def __init__(self, run: Run, node: str) -> None:
        self._run, self._node = run, node
        self._origins: dict[int, str] | None = None

    def __getitem__(self, id: str) -> Sequence[Item]:
        found = self._run.seen(self._node, id)
        if found is None or (isinstance(found, Step) and found.status not in DONE):
            raise KeyError(id)
        ports = list(found.outputs.values())
        return ports[0] if len(ports) == 1 else [item for items in ports for item in items]

    def __iter__(self) -> Iterator[str]:
        for id in self._run.plan.nodes:
            found = self._run.seen(self._node, id)
            if found is not None and (not isinstance(found, Step) or found.status in DONE):
                yield id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True  # a run has its trigger; counting the nodes to know would cost each step as much as itself

    def ancestor(self, item: Item, id: str) -> Item | None:
        """The item of node `id` that `item`, an input item of the step, is or descends from."""
        if self._origins is None:
            arriving = self._run.arriving(self._node)
            self._origins = {builtins.id(each): source for source, _, _, items in arriving for each in items}
        if node_of(self._origins.get(builtins.id(item), "")) == id:
            return item
        return ancestor(self._run, item, id)


Urls = Callable[[Run, PlanNode], str]
"""The link that answers what a node of a run is going to wait for."""


def names(run: Run, url: Urls | None = None) -> dict[str, Any]:
    """The names every expression of the run may use, beside nodes and items."""
    started = run.started
    assert started is not None  # noqa: S101 - the first event of every run
    return {
        "trigger": started.items[0].json if started.items else {},
        "execution": {
            "id": str(run.id),
            "workflowId": str(started.workflow) if started.workflow else None,
            "mode": started.mode,
            "startedAt": moment(started.at),
            "links": {node.id: url(run, node) for node in run.plan.nodes.values() if node.type in LINKED}
            if url
            else {},
        },
        "vars": {},
    }


def links(run: Run, url: Urls) -> dict[str, str]:
    """The links of the nodes that are answered by one, by node id."""
    return {node.id: url(run, node) for node in run.plan.nodes.values() if node.type in LINKED}


def request(run: Run, key: str, attempt: int, at: int, shared: Mapping[str, Any]) -> StepRequest:
    """One attempt at the step of this key. `now` and `seed` are the same for every attempt of the step."""
    started, step, node = run.started, run.steps[key], run.node(key)
    assert started is not None  # noqa: S101 - the first event of every run
    return StepRequest(
        tenant=run.tenant,
        execution=run.id,
        workflow=started.workflow,
        node=key,
        type=node.type,
        version=node.version,
        attempt=attempt,
        idempotency_key=idempotency_key(run.id, key),
        parameters=node.parameters,
        inputs=run.inputs(key),
        scope={"nodes": Nodes(run, key), **shared},
        now=moment(step.since or at),
        seed=started.seed ^ crc32(key.encode()),
        timeout=node.timeout,
        on_error=node.on_error,
    )


def _spanned(span: Span | None, asked: StepRequest) -> AbstractContextManager[None]:
    if span is None:
        return nullcontext()
    words = {"execution": str(asked.execution), "node": asked.node, "type": asked.type, "attempt": asked.attempt}
    return span("step", None, **{f"linkflow.{name}": value for name, value in words.items()})


def pure(executor: Executor, asked: StepRequest, span: Span | None = None) -> StepOutcome:
    """Runs a body that only computes."""
    try:
        with _spanned(span, asked):
            return executor.run_pure(asked)
    except Exception:  # the boundary to node code: the run fails typed, the process lives
        log.exception("body_raised", execution=str(asked.execution), node=asked.node)
        return _broken()


async def outside(
    executor: Executor, asked: StepRequest, ticks: Callable[[], float], span: Span | None = None
) -> tuple[StepOutcome, float]:
    """Runs any body: (outcome, milliseconds). The executor keeps the timeout, counted from when it begins the body."""
    began = ticks()
    try:
        with _spanned(span, asked):
            outcome = await executor.run(asked)
    except Exception:  # the boundary to node code: the run fails typed, the process lives
        log.exception("body_raised", execution=str(asked.execution), node=asked.node)
        outcome = _broken()
    return outcome, (ticks() - began) * 1000


async def probe(executor: Executor, asked: StepRequest) -> bool | None:
    """Whether the effect of an interrupted step happened, as its node finds out; None if it cannot be known."""
    try:
        return await executor.probe(asked)
    except Exception:  # the boundary to node code: nothing is known then
        log.exception("probe_raised", execution=str(asked.execution), node=asked.node)
        return None


def _broken() -> StepOutcome:
    error = StepError("step.internal", "The step could not be run; the server's log says why.", "infrastructure")
    return StepOutcome(error=error)
