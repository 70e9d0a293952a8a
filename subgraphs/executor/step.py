"""One attempt at a node, as its body sees it: inputs, parameters evaluated per item, tools, and ways to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from subgraphs.engine.expression import Budget, ExpressionError, ExpressionLimit, Template
from subgraphs.engine.step import Item, Line, Reply, Source, StepError, StepRequest, Wait
from subgraphs.executor.domain import ERROR, MAIN, Items, Out, StepFailed, fail

OPERATIONS_PER_ITEM = 500
BYTES_PER_ITEM = 4_096
"""What expressions of a step may use for each item, beside the budget of one evaluation."""
LINES_LIMIT = 1_000
NOTHING = Items()


class NodeView(Mapping[str, Any]):
    """`nodes.ID` in expressions: `item` and `items`, as JSON, made when asked for."""

    __slots__ = ("_id", "_scope")

    def __init__(self, scope: Scope, id: str) -> None:
        self._scope, self._id = scope, id

    def __getitem__(self, name: str) -> Any:
        if name == "items":
            return self._scope.node_items(self._id)
        if name == "item":
            return self._scope.node_item(self._id)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("item", "items"))

    def __len__(self) -> int:
        return 2


class NodesView(Mapping[str, Any]):
    """`nodes` in expressions."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __getitem__(self, id: str) -> NodeView:
        if id not in self._scope.nodes:
            raise KeyError(id)
        return NodeView(self._scope, id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope.nodes)

    def __len__(self) -> int:
        return len(self._scope.nodes)


class Scope(dict[str, Any]):
    """The names of expressions; each is made when first read. `item` is set for each item in turn."""

    def __init__(self, request: StepRequest) -> None:
        super().__init__()
        self.request = request
        self.nodes: Mapping[str, Sequence[Item]] = request.scope.get("nodes") or {}
        self.current: Item | None = None
        self._listed: dict[str, list[Any]] = {}

    def __missing__(self, name: str) -> Any:
        request = self.request
        if name == "items":
            value: Any = [item.json for item in request.inputs.get(MAIN, ())]
        elif name == "nodes":
            value = NodesView(self)
        elif name == "now":
            value = request.now
        elif name in ("trigger", "execution", "vars") and name in request.scope:
            value = request.scope[name]
        elif name in ("vars", "trigger"):
            value = {}
        else:
            raise KeyError(name)
        self[name] = value
        return value

    def at(self, item: Item) -> Scope:
        """The same scope with `item` at hand."""
        self.current = item
        self["item"] = item.json
        return self

    def node_items(self, id: str) -> list[Any]:
        if id not in self._listed:
            self._listed[id] = [item.json for item in self.nodes[id]]
        return self._listed[id]

    def node_item(self, id: str) -> Any:
        """Of node `id`, the item that the item at hand descends from; else its first."""
        items = self.nodes[id]
        if self.current is not None:
            found = self._ancestor(id, items)
            if found is not None:
                return found.json
        if not items:
            raise KeyError(id)
        return items[0].json

    def _ancestor(self, id: str, items: Sequence[Item]) -> Item | None:
        assert self.current is not None  # noqa: S101 - the one caller asks first
        known = getattr(self.nodes, "ancestor", None)
        if known is not None:
            found: Item | None = known(self.current, id)
            return found
        for source in self.current.source:
            if source.node == id and source.index < len(items):
                return items[source.index]
        return None


class Step:
    """What a body gets. It yields `(port, item)`; beside that it may `print`, set `reply`, `keys` (business keys of the
    run) or a wait."""

    def __init__(
        self,
        request: StepRequest,
        template: Template,
        tools: Any = None,
        choices: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """`choices`: the values of parameters that an expression decides among a fixed few."""
        self.request = request
        self.tools = tools
        self.reply: Reply | None = None
        self.wait: Wait | None = None
        self.keys: dict[str, str] | None = None
        self.lines: list[Line] = []
        self.lines_dropped = 0
        self.scope = Scope(request)
        self.budget = Budget()
        self._template = template
        self._choices = choices or {}
        self._constant: dict[str, Any] | None = template.evaluate(self.scope) if template.constant else None
        count = sum(len(items) for items in request.inputs.values())
        self.budget.operations += count * OPERATIONS_PER_ITEM
        self.budget.bytes += count * BYTES_PER_ITEM

    @property
    def main(self) -> Items:
        """The items of the input port `main`."""
        return self.input(MAIN)

    def input(self, port: str) -> Items:
        items = self.request.inputs.get(port)
        return Items(items) if items else NOTHING

    def parameters(self, item: Item | None = None) -> dict[str, Any]:
        """The parameters with every expression evaluated: for `item`, or for the first item of `main`, if any.

        Raises StepFailed with the pointer of the parameter at fault."""
        if self._constant is None:
            if item is None and len(self.main):
                item = self.main.at(0)
            try:
                scope = self.scope.at(item) if item else self.scope
                value: dict[str, Any] = self._template.evaluate(scope, self.budget)
            except ExpressionError as error:
                raise StepFailed(expression_failed(error)) from None
        else:
            value = self._constant
        for name, allowed in self._choices.items():
            if value[name] not in allowed:
                raise fail("parameter.invalid", f"{name} must be one of {', '.join(map(str, allowed))}.", field=name)
        return value

    def each(self, work: Callable[[int, Item, dict[str, Any]], Iterable[Out]]) -> Iterator[Out]:
        """What `work(position, item, its parameters)` gives for each item of `main`. An item that fails is rescued."""
        for index, item in enumerate(self.main):
            try:
                yield from work(index, item, self.parameters(item))
            except StepFailed as failed:
                yield self.rescue(index, failed.error)

    def made(self, json: dict[str, Any], *of: int, files: dict[str, Any] | None = None, port: str = MAIN) -> Item:
        """A new item that descends from the input items at these positions of `port`."""
        return Item(json, files or {}, tuple(Source("", port, index) for index in of))

    def rescue(self, index: int, error: StepError) -> Out:
        """What becomes of an item that failed: it leaves with its error, or the step fails, as the node is set."""
        if self.request.on_error == "stop":
            raise StepFailed(error)
        item = self.main.at(index)
        port = ERROR if self.request.on_error == "output" else MAIN
        return port, self.made({**item.json, "error": error_json(error)}, index, files=item.files)

    def print(self, text: str, *, level: str = "info", at: float = 0.0) -> None:
        """A line of the step's console."""
        if len(self.lines) < LINES_LIMIT:
            self.lines.append(Line(level, text, at))
        else:
            self.lines_dropped += 1

    def hold(self, until: datetime) -> None:
        """All items wait until then and leave by `main`; nothing that is yielded counts."""
        self.wait = Wait(until)

    def await_answer(self, kind: str, name: str = "", **detail: Any) -> None:
        """All items wait for an answer of that kind, and leave with it; nothing that is yielded counts."""
        self.wait = Wait(None, kind, name, detail)


def expression_failed(error: ExpressionError) -> StepError:
    """An expression's error as a step's."""
    kind = "limit" if isinstance(error, ExpressionLimit) else "user"
    detail = {"pointer": error.pointer, "position": error.position}
    field = error.pointer.lstrip("/").replace("/", ".") or None
    return StepError(code=error.code, message=error.message, kind=kind, field=field, detail=detail)


def error_json(error: StepError) -> dict[str, Any]:
    """An error as it stands on an item."""
    told: dict[str, Any] = {"code": error.code, "message": error.message, "kind": error.kind}
    if error.field is not None:
        told["field"] = error.field
    if error.detail:
        told["detail"] = error.detail
    return told


def text_of(value: Any, field: str) -> str:
    """A text parameter, after evaluation."""
    if not isinstance(value, str):
        raise fail("parameter.invalid", f"{field} must be text, not {type_name(value)}.", field=field)
    return value


def type_name(value: Any) -> str:
    """The JSON name of the value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "an object"
    return "a list"
