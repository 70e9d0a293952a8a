"""Headers that workflows may set, on requests and on answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from subgraphs.executor.domain import fail
from subgraphs.executor.step import type_name

NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}\Z")
"""A token (RFC 9110, 5.6.2)."""
VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]{0,8192}\Z")
HEADERS_LIMIT = 100
HOP = frozenset(
    ("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
) | {f"proxy-{name}" for name in ("authenticate", "authorization", "connection")}
OURS = frozenset({"set-cookie", "date", "server", "content-type"})


def response_headers(headers: Any) -> dict[str, str]:
    """Headers of a reply, lower case; raises StepFailed `respond.header`."""
    return _checked(headers, HOP | OURS, "respond.header")


def request_headers(headers: Any) -> dict[str, str]:
    """Headers of a request, lower case; raises StepFailed `http.header`."""
    return _checked(headers, HOP, "http.header")


def _checked(headers: Any, refused: frozenset[str], code: str) -> dict[str, str]:
    if not isinstance(headers, Mapping) or len(headers) > HEADERS_LIMIT:
        raise fail(code, f"Headers are an object of at most {HEADERS_LIMIT} entries.", field="headers")
    found: dict[str, str] = {}
    for name, given in headers.items():
        lower, field = name.lower(), f"headers.{name[:64]}"
        if not NAME.match(name) or lower in refused or lower.startswith("x-linkflow-"):
            raise fail(code, f"The header {name[:64]!r} cannot be set.", field=field)
        value = str(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else given
        if not isinstance(value, str):
            raise fail(code, f"The header {name} must be text, not {type_name(value)}.", field=field)
        if not VALUE.match(value):
            raise fail(code, f"The header {name} holds a control character or is too long.", field=field)
        found[lower] = value.strip(" \t")
    return found
