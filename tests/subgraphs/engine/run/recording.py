"""Records runs as the replay gate reads them: `python -m tests.subgraphs.engine.run.recording FOLDER`.

A file holds one or more runs, a JSON value a line: first what the run was started with, then its journal chunks, then
how it ended. Files that stand are never written again: they are what earlier builds wrote, and must stay readable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.engine.run import (
    Cancel,
    Complete,
    Event,
    Fire,
    Plan,
    Recover,
    Respond,
    Run,
    Start,
    decide,
    encode,
    evolve,
)
from subgraphs.engine.run.commands import Fail
from subgraphs.engine.step import Item, Line, Reply, Source, StepError, StepOutcome, Wait

T0 = 1_700_000_000_000_000
SECOND = 1_000_000
TYPES: dict[str, dict[str, Any]] = {
    "t@1": {"effect": "pure", "trigger": True},
    "p@1": {"effect": "pure"},
    "x@1": {"effect": "unsafe"},
}


class Recorded:
    """A run under way and its chunks so far. `hold()` gathers what several commands bring into one chunk."""

    def __init__(self, nodes: str, edges: str, settings: dict[str, Any] | None = None, **own: dict[str, Any]) -> None:
        connections = []
        for edge in edges.split():
            source, target = edge.split(">")
            name, _, port = source.partition(".")
            target, _, entry = target.partition(".")
            connections.append({"from": name, "output": port or "main", "to": target, "input": entry or "main"})
        made = []
        for text in nodes.split():
            name, _, kind = text.partition(":")
            made.append({"id": name, "type": kind or "p", "version": "1", "settings": own.get(name, {})})
        self.definition = {"nodes": made, "connections": connections, "settings": settings or {}}
        self.now = T0
        self.chunks: list[list[Event]] = []
        self.run = Run.blank(UUID(int=1), UUID(int=2), Plan.of(self.definition, TYPES))

    def do(self, command: Any, *, joined: bool = False) -> list[Event]:
        events = decide(self.run, command)
        for event in events:
            evolve(self.run, event)
        if joined and self.chunks:
            self.chunks[-1] += events
        elif events:
            self.chunks.append(list(events))
        return events

    def start(self, *items: dict[str, Any], **more: Any) -> Recorded:
        self.do(Start(at=self.now, seed=9, trigger="a", items=list(items), **more))
        return self

    def inputs(self, node: str) -> list[Item]:
        return [item for port in self.run.inputs(node).values() for item in port]

    def end(self, node: str, *, joined: bool = False, took: float = 1.5, **outcome: Any) -> Recorded:
        self.now += 1000
        attempt = self.run.running.get(node) or self.run.steps[node].attempt + 1
        self.do(Complete(self.now, node, attempt, StepOutcome(**outcome), took), joined=joined)
        return self

    def ok(self, *nodes: str, **more: Any) -> Recorded:
        for node in nodes:
            self.end(node, outputs={"main": [Item({"from": node})]}, **more)
        return self

    def passing(self, *nodes: str, **more: Any) -> Recorded:
        for node in nodes:
            self.end(node, outputs={"main": self.inputs(node)}, **more)
        return self

    def fail(self, node: str, code: str = "net.down", kind: str = "infrastructure", **more: Any) -> Recorded:
        return self.end(node, error=StepError(code, "No.", kind, **more))

    def fire(self, timer: str) -> Recorded:
        self.now = max(self.now, self.run.timers[timer])
        self.do(Fire(self.now, timer))
        return self

    def wait(self, node: str, seconds: float) -> Recorded:
        return self.end(node, wait=Wait(datetime.fromtimestamp(self.now / 1e6 + seconds, UTC)))

    def recover(self) -> Recorded:
        self.do(Recover(at=self.now))
        return self

    def cancel(self) -> Recorded:
        self.do(Cancel(self.now, "enough", UUID(int=3)))
        return self

    def broken(self) -> Recorded:
        self.do(Fail(self.now, StepError("execution.unstorable", "No.", "infrastructure")))
        return self

    def lines(self, name: str) -> Iterator[bytes]:
        """What the file holds of this run."""
        yield msgspec.json.encode({"name": name, "definition": self.definition, "types": TYPES})
        yield from (encode(chunk) for chunk in self.chunks)
        yield msgspec.json.encode({"end": told(self.run)})


def told(run: Run) -> dict[str, Any]:
    """Where a run stands, in words that do not depend on how the code keeps it."""
    return {
        "status": run.status,
        "version": run.version,
        "error": run.error,
        "reply": run.reply,
        "timers": dict(sorted(run.timers.items())),
        "running": dict(sorted(run.running.items())),
        "ready": sorted(run.ready),
        "steps": {
            node: {
                "status": step.status,
                "attempt": step.attempt,
                "outputs": {
                    port: [[item.json, item.files, item.source] for item in items]
                    for port, items in step.outputs.items()
                },
            }
            for node, step in sorted(run.steps.items())
        },
    }


RETRY = {"retry": {"attempts": 3, "delay": "PT1S"}}
Scenario = Callable[[], Recorded]


def _chain(**own: Any) -> Recorded:
    return Recorded("a:t b c:x d", "a>b b>c c>d", **own)


SCENARIOS: dict[str, Scenario] = {
    "alone": lambda: Recorded("a:t", "").start({"n": 1}),
    "nothing-given": lambda: _chain().start(),
    "chain": lambda: _chain().start({"n": 1}).ok("b", "c", "d"),
    "chain-one-chunk": lambda: _chain().start({"n": 1}).ok("b", "c", "d", joined=True),
    "chain-open": lambda: _chain().start({"n": 1}).ok("b"),
    "passing": lambda: _chain().start({"n": 1}, {"n": 2}).passing("b", "c", "d"),
    "branches": lambda: Recorded("a:t b c:x d", "a>b a>c b>d c>d").start({"n": 1}).ok("b", "c", "d"),
    "branches-other-order": lambda: Recorded("a:t b c:x d", "a>b a>c b>d c>d").start({"n": 1}).ok("c", "b", "d"),
    "gate": lambda: (
        Recorded("a:t b c d", "a>b b>c b.alt>d")
        .start({"n": 1})
        .end("b", outputs={"main": [], "alt": [Item({"x": 1})]})
        .ok("d")
    ),
    "gate-joined-again": lambda: (
        Recorded("a:t b c d e", "a>b b>c b.alt>d c>e d>e")
        .start({"n": 1})
        .end("b", outputs={"alt": [Item({"x": 1})]})
        .ok("d", "e")
    ),
    "nothing-leaves": lambda: _chain().start({"n": 1}).end("b", outputs={}),
    "two-ports": lambda: (
        Recorded("a:t b c:x m", "a>b a>c b>m.left c>m.right")
        .start({"n": 1})
        .ok("b", "c")
        .end("m", outputs={"main": [Item({"m": 1}, source=(Source("", "right", 0), Source("", "left", 0)))]})
    ),
    "collected": lambda: _chain().start({"n": 1}, {"n": 2}, {"n": 3}).passing("b").ok("c", "d"),
    "doubled": lambda: _chain().start({"n": 1}).end("b", outputs={"main": [Item({"n": 1}), Item({"n": 2})]}).ok("c"),
    "dropped-and-kept": lambda: (lambda told: told.end("b", outputs={"main": told.inputs("b")[1:]}))(
        _chain().start({"n": 1}, {"n": 2})
    ).passing("c", "d"),
    "files": lambda: _chain().start({"n": 1}).end("b", outputs={"main": [Item({}, {"f": {"size": 3}})]}).passing("c"),
    "console": lambda: (
        _chain()
        .start({"n": 1})
        .end("b", outputs={"main": [Item({})]}, lines=[Line("info", "hello", 0.5)], lines_dropped=2)
    ),
    "other-triggers": lambda: Recorded("a:t z:t b c:x", "a>b z>c z>b").start({"n": 1}).ok("b"),
    "retry-then-well": lambda: _chain(c=RETRY).start({"n": 1}).ok("b").fail("c").fire("retry:c").ok("c", "d"),
    "retry-spent": lambda: (
        _chain(c=RETRY).start({"n": 1}).ok("b").fail("c").fire("retry:c").fail("c").fire("retry:c").fail("c")
    ),
    "retry-after": lambda: _chain(c=RETRY).start({"n": 1}).ok("b").fail("c", retry_after=30.0),
    "retry-pure": lambda: _chain(b=RETRY).start({"n": 1}).fail("b").fire("retry:b").ok("b", "c", "d"),
    "retry-fixed": lambda: (
        _chain(c={"retry": {"attempts": 9, "backoff": "fixed", "delay": "PT4S", "jitter": False}})
        .start({"n": 1})
        .ok("b")
        .fail("c")
        .fire("retry:c")
        .fail("c")
    ),
    "stop": lambda: _chain(c=RETRY).start({"n": 1}).ok("b").fail("c", "code.thrown", "user", field="parameters.url"),
    "stop-with-others-running": lambda: Recorded("a:t b:x c:x d:x", "a>b a>c b>d").start({"n": 1}).fail("b"),
    "continue": lambda: (
        _chain(c={"onError": "continue"})
        .start({"n": 1}, {"n": 2})
        .passing("b")
        .fail("c", "code.thrown", "user", detail={"line": 3})
        .passing("d")
    ),
    "error-output": lambda: (
        Recorded("a:t b:x c d", "a>b b>c b.error>d", b={"onError": "output"}).start({"n": 1}).fail("b").passing("d")
    ),
    "wait": lambda: _chain().start({"n": 1}).wait("b", 3600).fire("wait:b").ok("c", "d"),
    "wait-open": lambda: _chain().start({"n": 1}).wait("b", 3600),
    "wait-past": lambda: _chain().start({"n": 1}).wait("b", -5).fire("wait:b"),
    "wait-outside": lambda: _chain().start({"n": 1}, {"n": 2}).passing("b").wait("c", 60).fire("wait:c").passing("d"),
    "wait-too-long": lambda: _chain(b={"timeout": "PT10S"}).start({"n": 1}).wait("b", 3600).fire("wait:b"),
    "wait-too-long-routed": lambda: (
        Recorded("a:t b c", "a>b b.error>c", b={"timeout": "PT10S", "onError": "output"})
        .start({"n": 1})
        .wait("b", 3600)
        .fire("wait:b")
        .ok("c")
    ),
    "wait-too-long-retried": lambda: (
        _chain(b={"timeout": "PT10S", **RETRY}).start({"n": 1}).wait("b", 3600).fire("wait:b").fire("retry:b")
    ),
    "total-running": lambda: _chain(c={"totalTimeout": "PT10S"}).start({"n": 1}).ok("b").fire("node:c"),
    "total-retrying": lambda: (
        Recorded("a:t b:x c", "a>b b.error>c", b={"totalTimeout": "PT10S", "onError": "output", **RETRY})
        .start({"n": 1})
        .fail("b")
        .fire("node:b")
        .ok("c")
    ),
    "total-waiting": lambda: _chain(b={"totalTimeout": "PT10S"}).start({"n": 1}).wait("b", 3600).fire("node:b"),
    "total-in-time": lambda: _chain(c={"totalTimeout": "PT10S"}).start({"n": 1}).ok("b", "c", "d"),
    "run-times-out": lambda: Recorded("a:t b:x", "a>b", {"timeout": "PT1M"}).start({"n": 1}).fire("run"),
    "run-in-time": lambda: Recorded("a:t b:x", "a>b", {"timeout": "PT1M"}).start({"n": 1}).ok("b"),
    "cancel": lambda: _chain().start({"n": 1}).ok("b").cancel(),
    "cancel-waiting": lambda: _chain().start({"n": 1}).wait("b", 60).cancel(),
    "cancel-caller": lambda: _chain().start({"n": 1}, respond=Respond("done", "me")).cancel(),
    "failed-outside": lambda: _chain().start({"n": 1}).broken(),
    "refused": lambda: _chain().start({"n": 1}, fault=StepError("execution.unrunnable", "No.")),
    "recovered": lambda: _chain().start({"n": 1}).ok("b").recover().ok("c", "d"),
    "recovered-two": lambda: (
        Recorded("a:t b:x c:x d", "a>b a>c b>d c>d").start({"n": 1}).recover().recover().ok("b", "c", "d")
    ),
    "reply-done": lambda: _chain().start({"n": 1}, respond=Respond("done", "me")).ok("b", "c", "d"),
    "reply-several": lambda: _chain().start({"n": 1}, {"n": 2}, respond=Respond("done", "me")).passing("b", "c", "d"),
    "reply-node": lambda: (
        _chain()
        .start({"n": 1}, respond=Respond("node", "me"))
        .end("b", outputs={"main": [Item({})]}, reply=Reply(201, {"x-a": "b"}, {"ok": True}))
        .ok("c", "d")
    ),
    "reply-node-unheard": lambda: _chain().start({"n": 1}, respond=Respond("node", "me")).ok("b", "c", "d"),
    "reply-failing": lambda: _chain().start({"n": 1}, respond=Respond("done", "me")).ok("b").fail("c", "x", "user"),
    "reply-and-fail": lambda: (
        _chain(b={"onError": "continue"})
        .start({"n": 1}, respond=Respond("node", "me"))
        .end("b", error=StepError("x", "No."), reply=Reply(202))
        .ok("c", "d")
    ),
    "reply-and-wait": lambda: (
        lambda told: told.end("b", reply=Reply(202), wait=Wait(datetime.fromtimestamp(told.now / 1e6 + 60, UTC))).fire(
            "wait:b"
        )
    )(_chain().start({"n": 1}, respond=Respond("node", "me"))),
    "draft": lambda: (
        lambda told: told.start(
            {"n": 1}, mode="draft", revision=4, definition=told.definition, types=TYPES, workflow=UUID(int=8), name="W"
        ).ok("b", "c", "d")
    )(_chain()),
    "rerun": lambda: _chain().start(
        {"n": 1}, mode="webhook", release=3, workflow=UUID(int=8), rerun_of=UUID(int=6), started_by=UUID(int=5)
    ),
    "stored": lambda: _chain().start({"n": 1}, stored={"$ref": "sha256:00", "size": 9}).ok("b"),
}


def random_run(seed: int) -> Recorded:
    """A graph and a course drawn from `seed`."""
    draw = Random(seed)
    count = draw.randint(2, 7)
    names = "abcdefgh"
    nodes = " ".join(f"{names[n]}:{'t' if n == 0 else draw.choice('px')}" for n in range(count))
    edges = [
        f"{names[source]}{draw.choice(['', '', '.alt', '.error']) if source else ''}>{names[target]}"
        for target in range(1, count)
        for source in range(target)
        if draw.random() < 0.5
    ]
    draw.shuffle(edges)
    own = {
        names[n]: {
            "onError": draw.choice(["stop", "continue", "output"]),
            "retry": {"attempts": draw.randint(1, 3), "delay": "PT1S"},
            **({"totalTimeout": "P9D"} if draw.random() < 0.3 else {}),
        }
        for n in range(1, count)
    }
    told = Recorded(nodes, " ".join(edges), {"timeout": "P30D"} if draw.random() < 0.3 else None, **own)
    respond = draw.choice([None, None, Respond("done", "me"), Respond("node", "me")])
    told.start(*({"n": n} for n in range(draw.randint(1, 3))), respond=respond)
    for _ in range(60):
        if told.run.final or not _moved(told, draw):
            break
    return told


def _moved(told: Recorded, draw: Random) -> bool:
    timers = [name for name in told.run.timers if name[:4] in ("wait", "retr")]
    able = [*told.run.ready, *told.run.running, *timers]
    if not able:
        return False
    chosen, luck = draw.choice(able), draw.random()
    if ":" in chosen:
        told.fire(chosen)
    elif luck < 0.04 and told.run.running:
        told.recover()
    elif luck < 0.06:
        told.cancel()
    elif luck < 0.2:
        told.fail(chosen, draw.choice(["net.down", "code.thrown"]), draw.choice(["infrastructure", "user"]))
    elif luck < 0.3:
        told.wait(chosen, draw.randint(1, 100))
    else:
        items = told.inputs(chosen)
        new = [Item({"by": chosen, "k": k}) for k in range(draw.randint(0, 2))]
        port = draw.choice(["main", "main", "alt"])
        told.end(chosen, outputs={port: draw.choice([items, new, items + new, items[::2]])}, joined=luck > 0.6)
    return True


def write(folder: Path) -> None:
    """Every scenario that has no file yet."""
    for name, scenario in SCENARIOS.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():
            path.write_bytes(b"\n".join(scenario().lines(name)) + b"\n")
    many = folder / "random.jsonl"
    if not many.exists():
        lines = [line for seed in range(150) for line in random_run(seed).lines(f"random-{seed}")]
        many.write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
