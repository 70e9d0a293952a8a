"""The data of published events: how a domain declares what it tells, and reads what others tell.

A domain's `events.PUBLISHED` names a `Told` for each type it publishes. `linkflow schema` writes them as JSON Schema to
`supergraph/events/NAME.json`, and a test holds every event of a whole journey to it. A consumer reads with a `Read` of
its own that has only the fields it uses; `events.READ` names it for each type, and a test checks that the publisher
tells these fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from subgraphs.platform.domain import Event

SCHEMA = "https://json-schema.org/draft/2020-12/schema"


class Told(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """All there is in the data of an event."""


class Read(msgspec.Struct, rename="camel"):
    """Only the fields that are used; others may come and go."""


Kind = TypeVar("Kind", bound=msgspec.Struct)


def read(event: Event, kind: type[Kind]) -> Kind:
    """The event's data as `kind`; raises msgspec.ValidationError if a field that is needed is missing."""
    return msgspec.convert(event.data, kind, strict=False)


def contract(published: Mapping[str, type[Told]]) -> str:
    """The JSON Schema document of a domain's events: `events` refers each type to its entry in `$defs`."""
    kinds = [published[type] for type in sorted(published)]
    references, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    document = {
        "$schema": SCHEMA,
        "events": dict(zip(sorted(published), references, strict=True)),
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }
    return json.dumps(document, indent=2) + "\n"
