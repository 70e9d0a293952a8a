"""What one run does, case by case: retries, errors, waits, timeouts, replies, lineage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from subgraphs.engine.run import (
    Cancel,
    Complete,
    Event,
    Finished,
    Fire,
    Plan,
    Replied,
    Respond,
    Run,
    Start,
    StepFailed,
    StepStarted,
    StepSucceeded,
    StepWaiting,
    Unrunnable,
    ancestor,
    decide,
    decode,
    encode,
    evolve,
)
from subgraphs.engine.step import Item, Reply, Source, StepError, StepOutcome, Wait

T0 = 1_700_000_000_000_000
SECOND = 1_000_000
TYPES: dict[str, dict[str, Any]] = {
    "t@1": {"effect": "pure", "trigger": True},
    "p@1": {"effect": "pure"},
    "x@1": {"effect": "unsafe"},
}


def graph(*nodes: tuple[str, str, dict[str, Any]], edges: str, **settings: Any) -> dict[str, Any]:
    """`edges` as in "a>b b.alt>c"."""
    connections = []
    for edge in edges.split():
        source, target = edge.split(">")
        name, _, port = source.partition(".")
        connections.append({"from": name, "output": port or "main", "to": target, "input": "main"})
    return {
        "nodes": [{"id": name, "type": kind, "version": "1", "settings": own} for name, kind, own in nodes],
        "connections": connections,
        "settings": settings,
    }


class Told:
    """A run and everything that happened in it."""

    def __init__(self, definition: dict[str, Any], respond: Respond | None = None, *items: dict[str, Any]) -> None:
        self.run = Run.blank(UUID(int=1), UUID(int=2), Plan.of(definition, TYPES))
        self.events: list[Event] = []
        self.do(Start(at=T0, seed=9, trigger="a", items=items or ({"n": 1},), respond=respond))

    def do(self, command: Any) -> list[Event]:
        events = decode(encode(decide(self.run, command)))
        for event in events:
            evolve(self.run, event)
        self.events += events
        return events

    def end(self, node: str, at: int = T0, **outcome: Any) -> list[Event]:
        attempt = self.run.running.get(node) or self.run.steps[node].attempt + 1
        return self.do(Complete(at, node, attempt, StepOutcome(**outcome)))

    def fail(self, node: str, code: str = "net.down", kind: str = "infrastructure", at: int = T0, **more: Any) -> Any:
        events = self.end(node, at, error=StepError(code, "No.", kind, **more))
        return next(event for event in events if isinstance(event, StepFailed))


def retrying(**retry: Any) -> Told:
    return Told(graph(("a", "t", {}), ("b", "x", {"retry": retry}), edges="a>b"))


@pytest.mark.shows("EX-04")
def test_exponential_backoff_doubles_up_to_its_cap_and_every_attempt_is_kept() -> None:
    told = retrying(attempts=5, backoff="exponential", delay="PT1S", maxDelay="PT3S", jitter=False)
    now, waits = T0, []
    for attempt in range(1, 5):
        failed = told.fail("b", at=now)
        waits.append((failed.retry_at - now) / SECOND)
        now = failed.retry_at
        assert told.run.status == "waiting"
        assert told.do(Fire(now - 1, "retry:b")) == []
        (started,) = told.do(Fire(now, "retry:b"))
        assert isinstance(started, StepStarted)
        assert started.attempt == attempt + 1
    assert waits == [1, 2, 3, 3]
    assert told.fail("b", at=now).retry_at is None
    assert told.run.status == "failed"
    assert [event.attempt for event in told.events if isinstance(event, StepFailed)] == [1, 2, 3, 4, 5]


@pytest.mark.shows("EX-04")
def test_fixed_backoff_stays_and_jitter_takes_up_to_half_the_same_for_the_same_seed() -> None:
    plain = retrying(attempts=3, backoff="fixed", delay="PT4S", jitter=False)
    assert [plain.fail("b").retry_at - T0, plain.do(Fire(T0 + 4 * SECOND, "retry:b")) and 0] == [4 * SECOND, 0]
    first, second = (retrying(attempts=3, backoff="fixed", delay="PT4S").fail("b").retry_at - T0 for _ in range(2))
    assert first == second
    assert 2 * SECOND <= first <= 4 * SECOND


@pytest.mark.shows("EX-04")
@pytest.mark.parametrize(
    ("code", "kind", "never", "again"),
    [
        ("http.status.404", "infrastructure", ["http.status.4xx"], False),
        ("http.status.503", "infrastructure", ["http.status.4xx"], True),
        ("http.status.503", "infrastructure", ["http.*"], False),
        ("code.thrown", "user", [], False),
        ("step.timeout", "timeout", [], True),
        ("sandbox.memory", "limit", [], False),
    ],
)
def test_error_classes_that_are_not_retried(code: str, kind: str, never: list[str], again: bool) -> None:
    assert (retrying(attempts=2, never=never).fail("b", code, kind).retry_at is not None) == again


@pytest.mark.shows("EX-04")
def test_retry_after_is_honoured_beyond_cap_and_jitter() -> None:
    failed = retrying(attempts=2, delay="PT1S", maxDelay="PT2S").fail("b", retry_after=30.0)
    assert failed.retry_at == T0 + 30 * SECOND


@pytest.mark.shows("EX-05")
def test_stop_ends_the_run_with_the_typed_error_and_nothing_else_starts() -> None:
    told = Told(graph(("a", "t", {}), ("b", "x", {}), ("c", "x", {}), ("d", "x", {}), edges="a>b a>c b>d"))
    told.fail("b", "code.thrown", "user", field="parameters.url")
    assert told.run.status == "failed"
    assert told.events[-1] == Finished(
        at=T0, status="failed", node="b", error=StepError("code.thrown", "No.", "user", field="parameters.url")
    )
    assert told.end("c", outputs={"main": [Item({})]}) == []


@pytest.mark.shows("EX-05")
def test_continue_hands_on_each_item_with_its_error() -> None:
    told = Told(graph(("a", "t", {}), ("b", "x", {"onError": "continue"}), ("c", "x", {}), edges="a>b b>c"))
    told.fail("b", "code.thrown", "user")
    (item,) = told.run.inputs("c")["main"]
    assert item.json == {"n": 1, "error": {"code": "code.thrown", "message": "No.", "kind": "user"}}
    assert told.run.status == "running"


@pytest.mark.shows("EX-05")
def test_output_routes_failed_items_to_the_error_port_and_skips_the_other() -> None:
    definition = graph(
        ("a", "t", {}), ("b", "x", {"onError": "output"}), ("c", "x", {}), ("d", "x", {}), edges="a>b b>c b.error>d"
    )
    told = Told(definition)
    told.fail("b", "code.thrown", "user")
    assert told.run.steps["c"].status == "skipped"
    assert told.run.inputs("d")["main"][0].json["error"]["code"] == "code.thrown"


@pytest.mark.shows("EX-21")
def test_a_wait_holds_the_items_and_hands_them_on_when_due() -> None:
    told = Told(graph(("a", "t", {}), ("b", "p", {}), edges="a>b"))
    until = datetime.fromtimestamp(T0 / 1e6 + 3600, UTC)
    (waiting,) = told.end("b", wait=Wait(until))
    assert isinstance(waiting, StepWaiting)
    assert (told.run.status, told.run.timers) == ("waiting", {"wait:b": T0 + 3600 * SECOND})
    assert told.do(Fire(T0 + 3599 * SECOND, "wait:b")) == []
    done, finished = told.do(Fire(T0 + 3600 * SECOND, "wait:b"))
    assert isinstance(done, StepSucceeded)
    assert done.outputs == {"main": [0]}
    assert isinstance(finished, Finished)
    assert finished.status == "succeeded"


@pytest.mark.shows("EX-10")
def test_a_wait_longer_than_the_nodes_timeout_fails_and_a_run_that_takes_too_long_times_out() -> None:
    told = Told(graph(("a", "t", {}), ("b", "p", {"timeout": "PT10S"}), edges="a>b", timeout="PT1M"))
    told.end("b", wait=Wait(datetime.fromtimestamp(T0 / 1e6 + 3600, UTC)))
    assert told.run.timers == {"run": T0 + 60 * SECOND, "wait:b": T0 + 10 * SECOND}
    told.do(Fire(T0 + 10 * SECOND, "wait:b"))
    assert told.run.error == StepError("step.wait_timeout", "The wait outlasted the node's timeout.", "timeout")

    late = Told(graph(("a", "t", {}), ("b", "x", {}), edges="a>b", timeout="PT1M"))
    late.do(Fire(T0 + 60 * SECOND, "run"))
    assert late.run.status == "timed_out"
    assert late.run.error is not None
    assert late.run.error.code == "execution.timeout"


@pytest.mark.shows("EX-10")
@pytest.mark.parametrize("doing", ["running", "retrying", "waiting"])
def test_a_node_that_takes_too_long_in_all_fails_whatever_it_is_doing(doing: str) -> None:
    settings = {"totalTimeout": "PT10S", "retry": {"attempts": 9, "delay": "PT1H"}, "onError": "output"}
    told = Told(graph(("a", "t", {}), ("b", "x", settings), ("c", "p", {}), edges="a>b b.error>c"))
    if doing == "retrying":
        told.end("b", error=StepError("net", "", "infrastructure"))
    if doing == "waiting":
        told.end("b", wait=Wait(datetime.fromtimestamp(T0 / 1e6 + 3600, UTC)))
    assert told.run.timers["node:b"] == T0 + 10 * SECOND
    assert told.do(Fire(T0 + 9 * SECOND, "node:b")) == []
    failed = told.do(Fire(T0 + 10 * SECOND, "node:b"))[0]
    assert isinstance(failed, StepFailed)
    assert (failed.error.code, failed.error.kind, failed.retry_at) == ("step.total_timeout", "timeout", None)
    assert (told.run.timers, told.run.running, list(told.run.ready)) == ({}, {}, ["c"])
    told.end("c", outputs={"main": [Item({})]})
    assert told.run.status == "succeeded"


@pytest.mark.shows("EX-10")
def test_a_node_that_ends_in_time_leaves_no_timer() -> None:
    told = Told(graph(("a", "t", {}), ("b", "x", {"totalTimeout": "PT10S"}), ("c", "x", {}), edges="a>b b>c"))
    told.end("b", outputs={"main": [Item({})]})
    assert told.run.timers == {}


@pytest.mark.shows("EX-08")
def test_cancel_is_final_and_names_who_and_why() -> None:
    told = Told(graph(("a", "t", {}), ("b", "x", {}), edges="a>b"))
    (finished,) = told.do(Cancel(T0, "enough", UUID(int=3)))
    assert isinstance(finished, Finished)
    assert finished.by == UUID(int=3)
    assert finished.error == StepError("execution.cancelled", "enough")
    assert told.do(Cancel(T0, "again")) == []


@pytest.mark.shows("WH-19")
def test_the_first_reply_wins_and_is_kept_once() -> None:
    told = Told(graph(("a", "t", {}), ("b", "p", {}), ("c", "p", {}), edges="a>b a>c"), Respond("node", "me"))
    told.end("b", outputs={"main": [Item({})]}, reply=Reply(201))
    told.end("c", outputs={"main": [Item({})]}, reply=Reply(202))
    assert [event.reply.status for event in told.events if isinstance(event, Replied)] == [201]


@pytest.mark.shows("WH-19")
def test_a_caller_who_waits_is_answered_at_the_end_whatever_happens() -> None:
    definition = graph(("a", "t", {}), ("b", "x", {}), edges="a>b")
    done = Told(definition, Respond("done", "me"))
    done.end("b", outputs={"main": [Item({"sum": 3})]})
    assert done.run.reply == Reply(body={"sum": 3})
    several = Told(definition, Respond("done", "me"))
    several.end("b", outputs={"main": [Item({"n": 1}), Item({"n": 2})]})
    assert several.run.reply == Reply(body=[{"n": 1}, {"n": 2}])
    node = Told(definition, Respond("node", "me"))
    node.end("b", outputs={})
    assert node.run.reply == Reply(body={"executionId": str(node.run.id), "status": "succeeded"})
    failed = Told(definition, Respond("done", "me"))
    failed.fail("b", "code.thrown", "user")
    assert failed.run.reply is not None
    assert failed.run.reply.status == 500
    assert failed.run.reply.body["error"] == {"code": "code.thrown", "message": "No."}
    alone = Told(graph(("a", "t", {}), edges=""), Respond("done", "me"))
    assert (alone.run.status, alone.run.reply) == ("succeeded", Reply(body={"n": 1}))


@pytest.mark.shows("EX-01")
def test_an_unchanged_item_is_kept_as_a_position_and_its_payload_is_stored_once() -> None:
    told = Told(graph(("a", "t", {}), ("b", "p", {}), ("c", "p", {}), edges="a>b b>c"), None, {"big": "x" * 1000})
    told.end("b", outputs={"main": told.run.inputs("b")["main"]})
    told.end("c", outputs={"main": told.run.inputs("c")["main"]})
    assert encode(told.events).count(b"x" * 1000) == 1
    assert told.run.steps["c"].outputs["main"][0].json is told.run.steps["a"].outputs["main"][0].json


def test_lineage_is_filled_by_position_by_name_and_through_joins() -> None:
    told = Told(graph(("a", "t", {}), ("b", "p", {}), ("c", "p", {}), edges="a>b a>c b>c"), None, {"n": 1}, {"n": 2})
    told.end("b", outputs={"main": [Item({"b": 1}), Item({"b": 2})]})
    assert [item.source for item in told.run.steps["b"].outputs["main"]] == [
        (Source("a", "main", 0),),
        (Source("a", "main", 1),),
    ]
    mixed = Item({"c": 1}, source=(Source("", "main", 3), Source("", "main", 0)))
    arriving = told.run.inputs("c")["main"]
    assert ancestor(told.run, arriving[3], "a") is told.run.steps["a"].outputs["main"][1]
    assert ancestor(told.run, arriving[0], "b") is None
    told.end("c", outputs={"main": [mixed], "alt": [arriving[2]]})
    outputs = told.run.steps["c"].outputs
    assert outputs["main"][0].source == (Source("b", "main", 1), Source("a", "main", 0))
    assert outputs["alt"][0].source == (Source("b", "main", 0),)


def test_other_triggers_and_what_only_they_feed_are_skipped() -> None:
    told = Told(graph(("a", "t", {}), ("z", "t", {}), ("b", "p", {}), ("c", "p", {}), edges="a>b z>c z>b"))
    assert [name for name, step in told.run.steps.items() if step.status == "skipped"] == ["z", "c"]
    assert list(told.run.ready) == ["b"]


def test_a_plan_refuses_what_cannot_run() -> None:
    with pytest.raises(Unrunnable, match="is no node"):
        Plan.of(graph(("a", "t", {}), edges="a>gone"), TYPES)
    with pytest.raises(Unrunnable, match="PT30S"):
        Plan.of(graph(("a", "t", {"timeout": "soon"}), edges=""), TYPES)
    plan = Plan.of(graph(("a", "t", {}), ("b", "x", {}), edges="a>b"), TYPES)
    assert plan.trigger(None) == "a"
    with pytest.raises(Unrunnable, match="not a trigger"):
        plan.trigger("b")
