"""Limits as a definition's settings state them, and the gates a run of it has to pass. Pure.

The order of the gates is fixed: a trigger that comes too often is dropped before it is gathered with others, gathered
before it is paced, paced before it takes a place. A run stands at one gate at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

import msgspec

from subgraphs.engine.definition import seconds
from subgraphs.engine.expression import ExpressionError, Template, compiled
from subgraphs.engine.run import Gate
from subgraphs.engine.step import StepError
from subgraphs.execution.limits.gate import Mode, Terms

ORDER = ("rateLimit", "debounce", "batch", "throttle", "singleton", "concurrency")
NAMES = frozenset(ORDER)
SPACE = UUID("7f1c2b0e-6a55-4f0e-9d0e-1f0f6f3b9a55")
"""The name space of gate ids: for ever the same, or a place taken before would not count after."""
KEY = 200
"""Characters of a key's value that are shown; all of them count."""
NOBODY = UUID(int=0)


class Unkeyed(ValueError):
    """An expression of a limit has no value for this trigger."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(why)
        message = f"settings.{place} has no value for this trigger: {why}"
        self.error = StepError("limit.key", message, "user", field=f"settings.{place}")


def limited(document: Mapping[str, Any]) -> bool:
    """Whether runs of this definition pass gates."""
    settings = document.get("settings")
    return settings is not None and not NAMES.isdisjoint(settings)


def gates(
    tenant: UUID,
    workflow: UUID,
    document: Mapping[str, Any],
    release: int,
    trigger: Mapping[str, Any],
    partitions: int,
) -> tuple[Gate, ...]:
    """The gates of a run that this trigger begins, in order. Raises Unkeyed."""
    settings = document.get("settings") or {}
    scope = {"trigger": trigger}
    found = []
    for name in ORDER:
        stated = settings.get(name)
        if stated is None:
            continue
        terms = _terms(name, stated, release)
        key = _text(f"{name}.key", stated.get("key"), scope)
        group = _text(f"{name}.group", stated.get("group"), scope)
        id = uuid5(SPACE, "\0".join((str(tenant), str(workflow), name, stated.get("key") or "", key)))
        found.append(_gate(id, name, terms, partitions, key, group))
    return tuple(found)


def priority(document: Mapping[str, Any], trigger: Mapping[str, Any]) -> int:
    """From -100 to 100, the more the sooner. Raises Unkeyed."""
    stated = (document.get("settings") or {}).get("priority") or 0
    if isinstance(stated, str):
        value = _value("priority", stated, {"trigger": trigger})
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Unkeyed("priority", "it is not a number.")
        stated = value
    return max(-100, min(100, int(stated)))


def paused(tenant: UUID, workflow: UUID | None, partitions: int) -> Gate:
    """The gate at which runs stand while their workflow or tenant is paused."""
    id = uuid5(SPACE, "\0".join((str(tenant), str(workflow or NOBODY), "pause")))
    return _gate(id, "pause", Terms("pause"), partitions)


def _gate(id: UUID, name: str, terms: Terms, partitions: int, key: str = "", group: str = "") -> Gate:
    """Its keeper is the owner of the partition its id falls into."""
    told = {**msgspec.to_builtins(terms), "part": id.int % partitions}
    return Gate(id=id, limit=name, key=key[:KEY], group=group[:KEY], holds=terms.holds, terms=told)


@lru_cache(maxsize=4096)
def terms_of(encoded: bytes) -> Terms:
    """The terms a ticket carries."""
    return msgspec.json.decode(encoded, type=Terms)


def _terms(name: str, stated: Mapping[str, Any], release: int) -> Terms:
    if name == "concurrency":
        return Terms("concurrency", stated["limit"], stated.get("onLimit") or "queue", release=release)
    if name == "singleton":
        mode: Mode = "cancelOldest" if stated.get("onLimit") == "cancelOldest" else "dropNewest"
        return Terms("concurrency", 1, mode, release=release)
    if name == "batch":
        return Terms("batch", stated["size"], timeout=_micro(stated.get("timeout")), release=release)
    if name == "debounce":
        wait = _micro(stated.get("maxWait"))
        return Terms("debounce", period=_micro(stated["period"]), timeout=wait, release=release)
    kind = "throttle" if name == "throttle" else "rate"
    return Terms(kind, stated["limit"], period=_micro(stated["period"]), release=release)


def _micro(duration: str | None) -> int:
    return int(seconds(duration) * 1e6) if duration else 0


def _text(place: str, template: str | None, scope: Mapping[str, Any]) -> str:
    if not template:
        return ""
    value = _value(place, template, scope)
    return value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()


def _value(place: str, template: str, scope: Mapping[str, Any]) -> Any:
    try:
        return compiled_text(template).evaluate(scope)
    except ExpressionError as error:
        raise Unkeyed(place, str(error)) from None


@lru_cache(maxsize=1024)
def compiled_text(template: str) -> Template:
    return compiled(template)
