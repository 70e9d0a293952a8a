"""Asking the other side whether a call happened of which nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from subgraphs.engine.expression import Budget, ExpressionError
from subgraphs.engine.expression.program import program
from subgraphs.engine.step import StepError
from subgraphs.executor.headers import request_headers
from subgraphs.executor.step import Step, text_of
from subgraphs.platform.egress import Answer, Egress, EgressFailed, EgressRefused

UNKNOWN = "http.outcome_unknown"
NAMES = ("status", "headers", "body")
UNSAFE_METHODS = {"method": ["POST", "PATCH"]}
ABSENT = frozenset({404, 410})
BUSY = frozenset({408, 425, 429})
PATIENCE = 10.0
LARGEST = 1_048_576
OF_BODIES = frozenset({"content-type", "content-encoding", "content-language"})

PROPERTIES: dict[str, Any] = {
    "probeUrl": {
        "type": "string",
        "minLength": 1,
        "title": "Probe URL",
        "description": "A GET of it, with the same headers and Idempotency-Key, tells whether a call whose outcome is "
        "unknown was carried out. 2xx and 3xx: it was; 404 and 410: it was not; anything else: still unknown.",
        "x-show": UNSAFE_METHODS,
        "x-editor": "expression",
    },
    "probeHappened": {
        "type": "string",
        "maxLength": 1000,
        "title": "Happened if",
        "description": "CEL over status, headers and body of the probe's answer that gives true or false, instead of "
        "the status alone: size(body.payments) > 0.",
        "x-show": UNSAFE_METHODS,
        "x-raw": True,
        "x-cel": list(NAMES),
        "x-editor": "expression",
    },
}


async def happened(egress: Egress, step: Step, key: str, values: Mapping[str, Any]) -> bool | None:
    """Whether the call that these parameters describe was carried out; None: nobody can say, or nobody is to be asked.
    Raises StepFailed when the parameters make no sense."""
    if values.get("probeUrl") is None:
        return None
    kept = {name: value for name, value in request_headers(values["headers"]).items() if name not in OF_BODIES}
    kept.setdefault("idempotency-key", key)
    url = text_of(values["probeUrl"], "probeUrl").strip()
    try:
        answer = await egress.request(
            "GET", url, headers=kept, timeout=min(PATIENCE, step.request.timeout), max_bytes=LARGEST, redirects=3
        )
    except (EgressRefused, EgressFailed) as failed:
        step.print(f"The probe came to nothing: {failed.message}", level="warn")
        return None
    return _verdict(step, answer)


def settled(lost: StepError, happened: bool | None) -> StepError:
    """What a probe makes of an unknown outcome: what was not carried out may be tried again."""
    if happened is None:
        return lost
    if happened:
        message = "The request was carried out; its answer was lost."
        return StepError(code=UNKNOWN, message=message, kind="user", detail={**lost.detail, "happened": True})
    code = str(lost.detail["cause"])
    return StepError(code=code, message="The request was not carried out.", kind="infrastructure", retryable=True)


def _verdict(step: Step, answer: Answer) -> bool | None:
    if answer.status >= 500 or answer.status in BUSY:
        return None
    source = step.request.parameters.get("probeHappened")
    if not source:
        return True if answer.status < 400 else False if answer.status in ABSENT else None
    scope = {"status": answer.status, "headers": dict(answer.headers), "body": _body(answer)}
    try:
        found = program(text_of(source, "probeHappened"), frozenset(NAMES)).evaluate(scope, Budget())
    except ExpressionError as error:
        step.print(f"The probe's answer does not fit its expression: {error.message}", level="warn")
        return None
    return found if isinstance(found, bool) else None


def _body(answer: Answer) -> Any:
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.body.decode("utf-8", errors="replace")
