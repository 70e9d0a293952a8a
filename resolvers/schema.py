"""`federated(...)`: a subgraph's schema with everything the toolkit promises already in it."""

from collections.abc import Iterable
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.federation.schema import FederationAny
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.types import ExecutionContext
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from resolvers.execution import PlainFieldExecutor
from resolvers.extensions import Faulty, Preparing
from resolvers.limits import Limits
from resolvers.scalars import SCALARS

KEPT_DOCUMENTS = 512


class Graph(strawberry.federation.Schema):
    """A federation 2.9 schema whose documents are measured, priced, validated and kept by `Preparing`."""

    preparing: Preparing

    @property
    def limits(self) -> Limits:
        return self.preparing.limits

    def _prepared(self, running: ExecutionContext) -> PreExecutionError | None:
        try:
            prepared = self.preparing.read(
                self._schema, running.query or "", running._provided_operation_name, running.variables or {}
            )
            name, kind = prepared.operation(running._provided_operation_name)
        except Faulty as faulty:
            return PreExecutionError(data=None, errors=faulty.faults)
        except GraphQLError as error:
            return PreExecutionError(data=None, errors=[error])
        if OperationType(kind.value) not in running.allowed_operations:
            raise InvalidOperationTypeError(OperationType(kind.value))
        running.graphql_document = prepared.document
        running._provided_operation_name = name
        return None

    async def _prepare_operation_async(
        self, context: ExecutionContext, extensions_runner: Any
    ) -> PreExecutionError | None:
        return self._prepared(context)

    def _prepare_operation_sync(self, context: ExecutionContext, extensions_runner: Any) -> PreExecutionError | None:
        return self._prepared(context)

    def _get_middleware_manager(self, extensions: list[Any]) -> Any:
        return super()._get_middleware_manager(extensions) if extensions else None

    def entities_resolver(self, info: strawberry.Info, representations: list[FederationAny]) -> list[FederationAny]:
        """As the parent, for references that name an entity of this graph and its id; it trips over any other."""
        entities = {member.name for member in self._schema.type_map["_Entity"].types}  # type: ignore[attr-defined]
        for reference in representations:
            said = reference if isinstance(reference, dict) else {}
            name, id = said.get("__typename"), said.get("id")
            if not isinstance(name, str) or name not in entities or not isinstance(id, str):
                raise GraphQLError(
                    "A reference is the name of an entity and its id.", extensions={"code": "REFERENCE_MALFORMED"}
                )
        return super().entities_resolver(info, representations)

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Errors are logged where they are masked, once (`resolvers.extensions.shown`)."""


def federated(
    *,
    query: type,
    mutation: type | None = None,
    subscription: type | None = None,
    types: Iterable[type] = (),
    limits: Limits | None = None,
    kept_documents: int = KEPT_DOCUMENTS,
) -> Graph:
    """The schema of a subgraph: federation 2.9, shared scalars, limits, kept documents, plain-field executor.

    `types` names what no field reaches (members of interfaces). Entities need `resolve_reference` taking `**rest`.
    """
    graph = Graph(
        query=query,
        mutation=mutation,
        subscription=subscription,
        types=types,
        config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
        execution_context_class=PlainFieldExecutor,
        federation_version="2.9",
    )
    graph.preparing = Preparing(limits or Limits(), kept_documents)
    return graph
