"""A value for every argument of every operation, so that each is called as somebody would call it.

Ids, enums, numbers of pages, booleans and times need nothing here. A text, a number or JSON of a new name does: the
error that `variables_for` raises says what to add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from secrets import token_hex
from typing import Any

from tests.security.surface import Operation, Place, enum_values, operations, placed


class Unknown(AssertionError):
    """An argument nobody gave a value to."""

    def __init__(self, operation: Operation, place: Place) -> None:
        super().__init__(
            f"{operation} takes {place.coordinate} ({place.type}), and tests/security/values.py has no value for it. "
            f"Add one to WORDS under {place.name!r} (or {place.coordinate!r} if the name means something else there) "
            "that a person could send, so that these tests can try the operation with the ids of other tenants. "
            "If it identifies a thing, declare it as ID in the schema instead: then nothing is needed here."
        )


def definition() -> dict[str, Any]:
    """A manual trigger and a webhook, each followed by a step of its own."""
    nodes = [
        {"id": "begin", "type": "core.manual", "version": "1.0.0", "name": "Begin"},
        {"id": "hook", "type": "core.webhook", "version": "1.0.0", "name": "Hook"},
        {
            "id": "greet",
            "type": "core.set",
            "version": "1.0.0",
            "name": "Greet",
            "parameters": {"fields": [{"name": "greeting", "value": "{{ 'hello' }}"}]},
        },
    ]
    connections = [{"from": source, "output": "main", "to": "greet", "input": "main"} for source in ("begin", "hook")]
    return {"format": "linkflow/1", "nodes": nodes, "connections": connections}


WORDS: Mapping[str, Callable[[], Any]] = {
    "after": lambda: None,
    "afterSeq": lambda: 0,
    "atLeast": lambda: None,
    "avatarUrl": lambda: "https://example.com/a.png",
    "baseRevision": lambda: 1,
    "canary": lambda: 10,
    "context": lambda: None,
    "attempt": lambda: None,
    "comment": lambda: "as agreed",
    "data": lambda: {"n": 1},
    "node": lambda: "greet",
    "outputs": lambda: {"main": [{}]},
    "Query.executionWaits.name": lambda: None,
    "SignalExecutionInput.id": lambda: token_hex(8),
    "definition": definition,
    "errorCode": lambda: None,
    "errorText": lambda: None,
    "email": lambda: f"{token_hex(8)}@example.com",
    "event": lambda: 1,
    "first": lambda: 5,
    "given": lambda: None,
    "headerName": lambda: None,
    "idempotencyKey": lambda: token_hex(8),
    "input": dict,
    "inputs": lambda: None,
    "items": lambda: [{}],
    "locale": lambda: "en",
    "message": lambda: "changed",
    "name": lambda: "A name",
    "only": lambda: None,
    "organisation": lambda: "Difference Engines",
    "parameters": lambda: {"fields": [{"name": "a", "value": 1}]},
    "password": lambda: "correct horse battery staple",
    "reason": lambda: "because",
    "refreshToken": lambda: token_hex(32),
    "release": lambda: 1,
    "revision": lambda: 1,
    "search": lambda: "",
    "secret": lambda: token_hex(16),
    "tag": lambda: None,
    "timeZone": lambda: "UTC",
    "tolerated": lambda: 0.1,
    "trigger": lambda: None,
    "type": lambda: "core.set",
    "until": lambda: None,
    "version": lambda: None,
    "BusinessKeyFilter.name": lambda: None,
    "BusinessKeyFilter.value": lambda: None,
    "ExecutionFilter.release": lambda: None,
    "ExecutionFilter.startedBefore": lambda: "2100-01-01T00:00:00Z",
    "ForkEditInput.items": lambda: None,
    "ForkEditInput.key": lambda: None,
    "ForkEditInput.port": lambda: None,
    "ForkExecutionInput.release": lambda: None,
    "SetRetentionInput.keepDays": lambda: None,
    "SetRetentionInput.payloadDays": lambda: 30,
    "Query.workflows.archived": lambda: None,
}


def word(operation: Operation, place: Place) -> Any:
    """The value of one argument that is not an id."""
    for key in (place.coordinate, place.name):
        if key in WORDS:
            return WORDS[key]()
    if place.type == "Boolean":
        return True
    if place.type == "DateTime" and not place.required:
        return None
    if place.type not in {"String", "Int", "Float", "JSON", "ID", "DateTime"}:
        return enum_values(place.type)[0] if place.required else None
    raise Unknown(operation, place)


def variables_for(operation: Operation, id_for: Callable[[Place], Any]) -> dict[str, Any]:
    """Values for all arguments; ids by `id_for` (nothing: the place stays empty)."""
    made: dict[str, Any] = {}
    for place in operation.places:
        if place.type == "ID":
            if (value := id_for(place)) is not None:
                made = placed(made, place, value)
        elif (value := word(operation, place)) is not None or place.required:
            made = placed(made, place, value)
    return made


def unknown() -> list[str]:
    """What each argument without a value has to say."""
    told = []
    for operation in operations():
        for place in operation.places:
            if place.type != "ID":
                try:
                    word(operation, place)
                except Unknown as why:
                    told.append(str(why))
    return told
