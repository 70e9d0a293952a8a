"""What stands around every operation: prepared documents, limits, masked errors.

Preparing (read, measure, price, validate) happens once per document text and schema; the result is kept, so that a
document seen before costs a dictionary lookup. Rules are built once, at import.
"""

import logging
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationType,
    get_operation_ast,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from resolvers import limits as measures
from resolvers.cost import Price, price
from resolvers.limits import Limits, Refused
from resolvers.problems import Described

RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)

CORRELATION: ContextVar[str | None] = ContextVar("correlation", default=None)
"""Names the request in logs and in errors; the server sets it, and it is made up where nobody did."""

MASKED = "Something went wrong on our side."

_LONGEST_KEPT = 16_384
"""Documents longer than this are prepared anew each time, so that the kept ones stay small."""

log = logging.getLogger("linkflow.graph")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that may run, and the price of each of its operations."""

    document: DocumentNode
    prices: Mapping[str | None, Price]

    def operation(self, name: str | None) -> tuple[str | None, OperationType]:
        """Name and type of the operation meant; raises GraphQLError if that is not clear."""
        found = get_operation_ast(self.document, name)
        if found is None:
            wrong = "no operation of that name" if name else "several operations: say which in operationName"
            raise GraphQLError(f"The document has {wrong}.", extensions={"code": "OPERATION_RESOLUTION_FAILURE"})
        return (found.name.value if found.name else None), found.operation


class Preparing:
    """Turns document texts into prepared documents for one schema, and keeps the `maxsize` last used."""

    def __init__(self, limits: Limits, maxsize: int) -> None:
        self.limits = limits
        self.maxsize = maxsize
        self.hits = self.misses = 0
        self._kept: OrderedDict[str, Prepared] = OrderedDict()

    def read(self, schema: GraphQLSchema, text: str, operation: str | None, variables: Mapping[str, Any]) -> Prepared:
        """The prepared document; raises GraphQLError, or several of them as `Faulty`, if the operation may not run."""
        if kept := self._kept.get(text):
            self.hits += 1
            self._kept.move_to_end(text)
            self._afford(kept, operation, variables)
            return kept
        self.misses += 1
        document = measures.read(text, self.limits)
        measures.check(document, self.limits)
        prepared = Prepared(document, price(schema, document))
        self._afford(prepared, operation, variables)
        if faults := validate(schema, document, RULES, max_errors=self.limits.errors - 1, hide_suggestions=True):
            raise Faulty(faults)
        if len(text) <= _LONGEST_KEPT:
            self._kept[text] = prepared
            if len(self._kept) > self.maxsize:
                self._kept.popitem(last=False)
        return prepared

    def label(self, text: str, operation: str | None) -> tuple[str, str, str | None]:
        """Kind, first root field and name of a kept operation; `("refused", "", None)` for what never ran."""
        kept = self._kept.get(text)
        found = get_operation_ast(kept.document, operation) if kept else None
        if found is None:
            return "refused" if kept is None else "unknown", "", None
        first = found.selection_set.selections[0]
        root = first.name.value if isinstance(first, FieldNode) else ""
        return found.operation.value, root, found.name.value if found.name else None

    def _afford(self, prepared: Prepared, operation: str | None, variables: Mapping[str, Any]) -> None:
        name, _ = prepared.operation(operation)
        if (cost := prepared.prices[name].under(variables)) > self.limits.cost:
            raise Refused(
                f"This may touch {cost:.0f} objects, more than {self.limits.cost:.0f}. Ask for smaller pages.",
                "OPERATION_TOO_EXPENSIVE",
            )


class Faulty(Exception):
    """The document is not valid against the schema."""

    def __init__(self, faults: list[GraphQLError]) -> None:
        super().__init__(faults[0].message)
        self.faults = faults


def shown(error: GraphQLError) -> dict[str, Any]:
    """The error as a client may see it: our own words for problems, GraphQL's for the document, a mask for the rest."""
    correlation = CORRELATION.get() or str(uuid.uuid4())
    raised = error.original_error
    while isinstance(raised, GraphQLError) and raised.original_error:
        raised = raised.original_error
    message, extensions = error.message, {"code": _code(error), **(error.extensions or {})}
    if isinstance(raised, Described):
        message = raised.message
        extensions |= {"code": raised.code, "field": raised.field, "nextStep": raised.next_step}
    elif raised is not None and not isinstance(raised, GraphQLError):
        log.error("resolver failed", exc_info=raised, extra={"path": error.path, "correlation_id": correlation})
        message, extensions = MASKED, {"code": "INTERNAL_SERVER_ERROR"}
    formatted: dict[str, Any] = {"message": message}
    if error.locations:
        formatted["locations"] = [found.formatted for found in error.locations]
    if error.path is not None:
        formatted["path"] = error.path
    return formatted | {"extensions": extensions | {"correlationId": correlation}}


def answer(result: Any, *, at_most: int) -> dict[str, Any]:
    """The response map of a result: data, and at most so many errors."""
    found: dict[str, Any] = {"data": result.data}
    if result.errors:
        found["errors"] = [shown(error) for error in result.errors[:at_most]]
    return found


def _code(error: GraphQLError) -> str:
    if isinstance(error, GraphQLSyntaxError):
        return "GRAPHQL_PARSE_FAILED"
    if error.path is not None:
        return "GRAPHQL_FAILED"
    return "BAD_USER_INPUT" if error.message.startswith("Variable '$") else "GRAPHQL_VALIDATION_FAILED"
