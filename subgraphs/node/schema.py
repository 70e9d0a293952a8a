"""The node subgraph, as its clients see it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

import strawberry

from resolvers.connections import Connection, Page, Unpageable, connection, sized
from resolvers.scalars import JSON
from resolvers.schema import federated
from subgraphs.node import domain, queries
from subgraphs.platform.database import Reading
from subgraphs.platform.domain import Caller


@dataclass(frozen=True)
class Context:
    """What a resolver here may lean on, for the length of one request."""

    caller: Caller
    reading: Callable[[], AbstractAsyncContextManager[Reading]]


Info = strawberry.Info[Context, None]


@strawberry.enum(description="What a node type is for.")
class NodeCategory(Enum):
    TRIGGER = strawberry.enum_value("trigger", description="Starts executions.")
    FLOW = strawberry.enum_value("flow", description="Decides where items go, and when.")
    DATA = strawberry.enum_value("data", description="Shapes items.")
    HTTP = strawberry.enum_value("http", description="Talks to other systems over HTTP.")
    CODE = strawberry.enum_value("code", description="Runs code of your own.")


@strawberry.enum(description="What running a node does to the world, and so whether it may be run again.")
class NodeEffect(Enum):
    PURE = strawberry.enum_value("pure", description="Nothing; the same input gives the same output.")
    READ = strawberry.enum_value("read", description="It only reads.")
    REPEATABLE = strawberry.enum_value("repeatable", description="It writes, and writing twice is writing once.")
    KEYED = strawberry.enum_value("keyed", description="It writes once per idempotency key.")
    UNSAFE = strawberry.enum_value("unsafe", description="Each run writes again.")


@strawberry.type(description="Where items enter or leave a node.")
class NodePort:
    name: str = strawberry.field(description="What connections call it.")
    title: str | None = strawberry.field(description="For people.")


@strawberry.type(description="Output ports that the parameters of a node name.")
class DynamicOutputs:
    parameter: str = strawberry.field(description="The parameter that is a list of rules.")
    field: str = strawberry.field(description="The field of each rule that names its output port.")


@strawberry.type(description="When a parameter counts.")
class NodeCondition:
    parameter: str = strawberry.field(description="The parameter beside it that decides.")
    values: list[JSON] = sized(description="It counts while that one has one of these values.", at_most=10)


@strawberry.type(description="A parameter whose value a query takes.")
class NodeVariable:
    name: str = strawberry.field(description="The variable of the query.")
    parameter: str = strawberry.field(description="The parameter beside it whose value it takes.")


@strawberry.type(description="Where a form finds the values that it offers for a parameter: a query of this graph.")
class NodeChoices:
    query: str = strawberry.field(description="A GraphQL document to send.")
    items: str = strawberry.field(description="Path of fields to the things offered, as `workflows.edges.node`.")
    value: str = strawberry.field(description="The field of each that becomes the parameter's value.")
    label: str = strawberry.field(description="The field of each that people read.")
    variables: list[NodeVariable] = sized(description="Variables that parameters beside it give.", at_most=3)
    search: str | None = strawberry.field(description="The variable that takes what a person types, if there is one.")

    @classmethod
    def of(cls, choices: domain.Choices) -> Self:
        return cls(
            query=choices.query,
            items=choices.items,
            value=choices.value,
            label=choices.label,
            variables=[NodeVariable(name=name, parameter=each) for name, each in choices.variables.items()],
            search=choices.search,
        )


@strawberry.type(description="One parameter, as a form shows it. The JSON Schema has the rest.")
class NodeParameter:
    name: str = strawberry.field(description="Its key in the node's parameters.")
    title: str = strawberry.field(description="Its label.")
    description: str | None = strawberry.field(description="What it does.")
    kind: str = strawberry.field(description="Its JSON type; `any` when it may have several.")
    required: bool = strawberry.field(description="Whether it must be set while it is shown.")
    default: JSON | None = strawberry.field(description="What it is when it is left out.")
    choices: list[JSON] | None = sized(description="The values it can have, if they are few.", at_most=20)
    secret: bool = strawberry.field(description="Whether only an expression may stand here, never a literal.")
    editor: str | None = strawberry.field(description="How it is best edited: expression, code or json.")
    shown_when: list[NodeCondition] = sized(
        description="It counts while all of these hold; always, when there are none.", at_most=3
    )

    choices_from: NodeChoices | None = strawberry.field(description="Where a form finds values to offer, if they vary.")
    names: list[str] | None = sized(
        description="For CEL without braces, evaluated later than the step: the names it may use.", at_most=5
    )

    @classmethod
    def of(cls, parameter: domain.Parameter) -> Self:
        return cls(
            name=parameter.name,
            title=parameter.title,
            description=parameter.description,
            kind=parameter.kind,
            required=parameter.required,
            default=None if parameter.default is None else JSON(parameter.default),
            choices=None if parameter.choices is None else [JSON(each) for each in parameter.choices],
            secret=parameter.secret,
            editor=parameter.editor,
            shown_when=[
                NodeCondition(parameter=each.parameter, values=[JSON(value) for value in each.values])
                for each in parameter.shown_when
            ],
            choices_from=NodeChoices.of(parameter.choices_from) if parameter.choices_from else None,
            names=list(parameter.names) if parameter.names is not None else None,
        )


@strawberry.type(description="A node at work: tests of the node type run these.")
class NodeExample:
    title: str = strawberry.field(description="What it shows.")
    parameters: JSON = strawberry.field(description="The node's parameters.")
    input: JSON = strawberry.field(description="The items that enter by `main`.")
    inputs: JSON = strawberry.field(description="The items that enter by other ports, by port.")
    output: JSON = strawberry.field(description="The items that leave, by port.")
    error: str | None = strawberry.field(description="The code of the error it ends in, if it shows one.")


@strawberry.type(description="A way in which nodes of a type can fail.")
class NodeError:
    code: str = strawberry.field(description="What retries and error outputs see.")
    meaning: str = strawberry.field(description="When it happens.")


@strawberry.type(description="A rule by which parameters decide the effect of a node.")
class NodeEffectRule:
    when: list[NodeCondition] = sized(
        description="It counts while all of these hold; a value null stands for a parameter that is left out.",
        at_most=3,
    )
    effect: NodeEffect = strawberry.field(description="The effect then.")

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> Self:
        """Null among the values, a parameter that is left out, is its default in other words."""
        conditions = [
            NodeCondition(parameter=name, values=[JSON(value) for value in values if value is not None])
            for name, values in rule["when"].items()
        ]
        return cls(when=conditions, effect=NodeEffect(rule["effect"]))


@strawberry.type(description="A kind of node, in one version.")
class NodeType:
    manifest: strawberry.Private[domain.NodeType]
    type: str = strawberry.field(description="Its name, as `core.http`.")
    version: str = strawberry.field(description="Semantic version; workflows pin it exactly.")
    versions: list[str] = sized(description="All versions there are, the newest first.", at_most=10)
    title: str = strawberry.field(description="For people.")
    summary: str = strawberry.field(description="What it does, in a sentence.")
    category: NodeCategory = strawberry.field(description="What it is for.")
    effect: NodeEffect = strawberry.field(description="What running it does to the world.")
    effects: list[NodeEffectRule] = sized(
        description="Rules by which parameters decide the effect; the first that holds counts, else `effect`.",
        at_most=10,
    )
    probes: bool = strawberry.field(
        description="Whether it can find out if a step happened whose outcome nobody knows."
    )
    trigger: bool = strawberry.field(description="Whether executions start at it.")
    timeout: str | None = strawberry.field(description="ISO 8601: how long an attempt may take unless a node says.")
    parameters: JSON = strawberry.field(
        description="JSON Schema (2020-12) of its parameters. `x-show`: values of siblings with which it counts; "
        "`x-secret`: no literal may stand there; `x-editor`: how it is best edited; `x-raw`: braces are plain text; "
        "`x-cel`: CEL without braces over these names; `x-choices`: where a form finds values to offer."
    )
    output_schema: JSON | None = strawberry.field(description="JSON Schema of the items that leave it, if it is known.")
    inputs: list[NodePort] = sized(description="Where items enter; none for triggers.", at_most=3)
    outputs: list[NodePort] = sized(description="Where items leave, besides those the parameters name.", at_most=5)
    dynamic_outputs: DynamicOutputs | None = strawberry.field(description="Where the parameters name more outputs.")
    credentials: list[str] = sized(description="Kinds of credentials it can use.", at_most=5)

    @strawberry.field(description="The parameters a new node starts with.")
    def defaults(self) -> JSON:
        return JSON(self.manifest.defaults)

    @sized(description="The parameters one by one, for forms.", at_most=20)
    def form(self) -> list[NodeParameter]:
        return [NodeParameter.of(parameter) for parameter in self.manifest.form()]

    @sized(description="How its nodes can fail, besides what any node can.", at_most=10)
    def errors(self) -> list[NodeError]:
        told = self.manifest.manifest.get("errors", {})
        return [NodeError(code=code, meaning=meaning) for code, meaning in told.items()]

    @sized(description="The node type at work.", at_most=5)
    def examples(self) -> list[NodeExample]:
        return [
            NodeExample(
                title=each["title"],
                parameters=JSON(each.get("parameters", {})),
                input=JSON(each.get("input", [])),
                inputs=JSON(each.get("inputs", {})),
                output=JSON(each.get("output", {})),
                error=each.get("error"),
            )
            for each in self.manifest.manifest.get("examples", ())
        ]

    @classmethod
    def of(cls, found: domain.NodeType) -> Self:
        manifest = found.manifest
        dynamic = manifest.get("dynamicOutputs")
        schema = manifest.get("outputSchema")
        return cls(
            manifest=found,
            type=found.type,
            version=found.version,
            versions=list(found.versions),
            title=manifest.get("title", found.type),
            summary=manifest.get("summary", ""),
            category=NodeCategory(manifest["category"]),
            effect=NodeEffect(manifest["effect"]),
            effects=[NodeEffectRule.of(rule) for rule in manifest.get("effects", ())],
            probes=bool(manifest.get("probes")),
            trigger=bool(manifest.get("trigger")),
            timeout=manifest.get("timeout"),
            parameters=JSON(manifest["parameters"]),
            output_schema=None if schema is None else JSON(schema),
            inputs=[NodePort(name=port["name"], title=port.get("title")) for port in manifest.get("inputs", ())],
            outputs=[NodePort(name=port["name"], title=port.get("title")) for port in manifest.get("outputs", ())],
            dynamic_outputs=DynamicOutputs(parameter=dynamic["parameter"], field=dynamic["field"]) if dynamic else None,
            credentials=list(manifest.get("credentials", ())),
        )


@strawberry.type(description="How many node types a category has.")
class NodeFacet:
    category: NodeCategory = strawberry.field(description="The category.")
    count: int = strawberry.field(description="Types in it that the search finds.")


@strawberry.type
class Query:
    @connection(description="The node types there are, each in its newest version, by name.")
    async def node_types(
        self,
        info: Info,
        first: int = 20,
        after: str | None = None,
        search: str | None = None,
        category: NodeCategory | None = None,
    ) -> Connection[NodeType] | None:
        info.context.caller.must("node:read")
        page = Page.of(first, after)
        async with info.context.reading() as reading:
            rows = await queries.node_types(
                reading,
                limit=page.limit,
                after=_last(page),
                search=search,
                category=str(category.value) if category else None,
            )
        return Connection.of(page, rows, node=NodeType.of, key=lambda row: [row.type])

    @sized(description="How many node types a search finds in each category.", at_most=5)
    async def node_categories(self, info: Info, search: str | None = None) -> list[NodeFacet] | None:
        info.context.caller.must("node:read")
        async with info.context.reading() as reading:
            found = await queries.categories(reading, search=search)
        return [NodeFacet(category=NodeCategory(category), count=count) for category, count in found]

    @strawberry.field(description="One node type, in its newest version unless one is named; nothing if there is none.")
    async def node_type(self, info: Info, type: str, version: str | None = None) -> NodeType | None:
        info.context.caller.must("node:read")
        async with info.context.reading() as reading:
            found = await queries.node_type(reading, type, version)
        return NodeType.of(found) if found else None


def _last(page: Page) -> str | None:
    match page.after:
        case None:
            return None
        case [str(type)]:
            return type.replace("\0", "")
    raise Unpageable(
        "This is not a cursor of this list.",
        code="cursor_malformed",
        field="after",
        next_step="Send endCursor of the page before, or leave it out to start at the beginning.",
    )


schema = federated(query=Query)
