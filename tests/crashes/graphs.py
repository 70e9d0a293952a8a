"""Workflows that crash tests run, one for each kind of node, and what a run of each must come to: the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from subgraphs.executor.nodes import catalogue

Url = Callable[[str, str], str]
Definition = dict[str, Any]
KEPT = ("effect", "effects", "trigger", "timeout", "inputs", "outputs")


def types() -> dict[str, dict[str, Any]]:
    """What a published release says of its node types."""
    manifests = {f"{name}@{version}": node.manifest.json() for (name, version), node in catalogue().items()}
    return {key: {name: manifest[name] for name in KEPT if name in manifest} for key, manifest in manifests.items()}


def graph(nodes: Mapping[str, Any], edges: str) -> Definition:
    """Nodes as {id: (type, parameters, settings?)}; edges as in "a>b b.true>c" (`core.` and version are added)."""
    made = [
        {
            "id": name,
            "type": f"core.{kind.partition('@')[0]}",
            "version": kind.partition("@")[2] or "1.0.0",
            "parameters": parameters,
            "settings": dict(*more),
        }
        for name, (kind, parameters, *more) in nodes.items()
    ]
    connections = []
    for edge in edges.split():
        source, target = edge.split(">")
        (name, _, port), (to, _, input) = source.partition("."), target.partition(".")
        connections.append({"from": name, "output": port or "main", "to": to, "input": input or "main"})
    return {"format": "linkflow/1", "nodes": made, "connections": connections}


def fields(**values: Any) -> dict[str, Any]:
    return {"fields": [{"name": name, "value": value} for name, value in values.items()], "others": "drop"}


def call(url: str, effect: str = "keyed") -> dict[str, Any]:
    return {"method": "POST", "url": url, "response": "text", "effect": effect}


MARK = ("set", fields(key="{{ trigger.body.key }}"))
END = ("set", fields(key="{{ trigger.body.key }}"))


@dataclass(frozen=True)
class Kind:
    """A workflow around one kind of node. `nodes(url)` and `edges` make it; a run whose call brought `key` puts out
    `end(key)` at its node `end`, does at (door, node) exactly `effects`, and answers its caller with `reply`."""

    nodes: Callable[[Url], Mapping[str, Any]]
    edges: str
    effects: Mapping[str, str] = field(default_factory=dict)
    end: Callable[[str], list[Any]] = lambda key: [{"key": key}]
    settled: frozenset[str] | None = None
    reply: bool = False
    ambiguous: frozenset[str] = frozenset()
    """Nodes that a crash may leave ambiguous, to be settled by somebody."""
    letter: str = ""
    data: str = "{}"
    """What is written to a run of this kind once it waits."""
    status: str = "succeeded"
    pad: int = 0
    """Bytes the call brings beside its key."""

    def definition(self, url: Url) -> Definition:
        hook = ("webhook", {"respond": "node", "timeout": "PT20S"} if self.reply else {})
        return graph({"hook": hook, "mark": MARK, **self.nodes(url), "end": END}, f"hook>mark {self.edges}")


RETRY = {"retry": {"attempts": 20, "delay": "PT0.05S", "maxDelay": "PT0.05S"}}
KINDS: dict[str, Kind] = {
    "keyed": Kind(lambda url: {"act": ("http", call(url("idem", "act")))}, "mark>act act>end", {"act": "idem"}),
    "unsafe": Kind(
        lambda url: {"act": ("http", call(url("plain", "act"), "unsafe"))},
        "mark>act act>end",
        {"act": "plain"},
        ambiguous=frozenset({"act"}),
    ),
    "code": Kind(
        lambda url: {"act": ("code", {"code": "return items.map(item => ({twice: item.key + item.key}))"})},
        "mark>act act>end",
    ),
    "wait": Kind(lambda url: {"act": ("wait", {"duration": "PT0.3S"})}, "mark>act act>end"),
    "branch": Kind(
        lambda url: {
            "act": ("if", {"expression": "{{ item.key != '' }}"}),
            "yes": ("http", call(url("idem", "yes"))),
            "no": ("http", call(url("idem", "no"))),
        },
        "mark>act act.true>yes act.false>no yes>end no>end",
        {"yes": "idem"},
    ),
    "merge": Kind(
        lambda url: {
            "left": ("http", call(url("idem", "left"))),
            "right": ("wait", {"duration": "PT0.2S"}),
            "act": ("merge", {}),
        },
        "mark>left mark>right left>act right>act act>end",
        {"left": "idem"},
        end=lambda key: [{"key": key}] * 2,
    ),
    "retry": Kind(
        lambda url: {"act": ("http", call(url("flaky", "act")), RETRY)}, "mark>act act>end", {"act": "flaky"}
    ),
    "error": Kind(
        lambda url: {"act": ("http", call(url("broken", "act")), {"onError": "output"})}, "mark>act act.error>end"
    ),
    "loop": Kind(
        lambda url: {"act": ("loop", {}), "body": ("http", call(url("idem", "body")))},
        "mark>act act.each>body body>act.next act.done>end",
        {"body@0": "idem"},
    ),
    "signal": Kind(
        lambda url: {"act": ("signal", {"name": "go"})}, "mark>act act>end", letter="signal", data='{"name": "go"}'
    ),
    "cancel": Kind(
        lambda url: {"act": ("wait", {"duration": "PT1H"})}, "mark>act act>end", letter="cancel", status="cancelled"
    ),
    "large": Kind(
        lambda url: {"act": ("http", call(url("idem", "act")))}, "mark>act act>end", {"act": "idem"}, pad=1_200_000
    ),
    "reply": Kind(
        lambda url: {
            "do": ("http", call(url("idem", "do"))),
            "act": ("respond", {"status": 201, "body": "json", "json": {"key": "{{ nodes.mark.item.key }}"}}),
        },
        "mark>do do>act act>end",
        {"do": "idem"},
        reply=True,
    ),
}


def whole(url: Url) -> Definition:
    """The workflow of the load tests: three branches (a call, a call that fails at first, a wait), a join, a call for
    each of three items, an end."""
    retry = {"retry": {"attempts": 100, "delay": "PT0.1S", "maxDelay": "PT0.1S"}}
    nodes = {
        "hook": ("webhook", {}),
        "mark": ("set", fields(marked="{{ item.body.key }}")),
        "first": ("http", call(url("idem", "first"))),
        "flaky": ("http", call(url("flaky", "flaky")), retry),
        "pause": ("wait", {"duration": "PT0.4S"}),
        "join": ("merge", {}),
        "last": ("http", call(url("plain", "last"))),
        "end": ("set", {"fields": [{"name": "key", "value": "{{ nodes.mark.item.marked }}"}]}),
    }
    return graph(
        nodes, "hook>mark mark>first mark>flaky mark>pause first>join flaky>join pause>join join>last last>end"
    )


WHOLE_EFFECTS = {("idem", "first"), ("flaky", "flaky"), ("plain", "last-0"), ("plain", "last-1"), ("plain", "last-2")}
