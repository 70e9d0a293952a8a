"""The wire: a frame is two lengths (unsigned 32-bit, big endian), a JSON object (the head) and opaque bytes (the body).

The body of a job or a result is JSON too, but the server passes it on unread: it only measures it, so that megabytes of
a guest's output never hold up the loop that serves everybody else.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import struct
from typing import Any, Final

LENGTHS: Final = struct.Struct(">II")
HEAD_BYTES: Final = 256 * 1024
_NO_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STRINGS: Final = re.compile(rb'"[^"]*"')
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SLICE: Final = 32 * 1024


class WireError(ValueError):
    """The other side does not speak this protocol."""


def frame(head: dict[str, Any], body: bytes = b"") -> bytes:
    packed = json.dumps(head, separators=(",", ":")).encode()
    return LENGTHS.pack(len(packed), len(body)) + packed + body


async def read_frame(reader: asyncio.StreamReader, maximum: int) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, None at a clean end. Raises WireError for what is too large or no JSON object."""
    try:
        lengths = await reader.readexactly(LENGTHS.size)
        head_size, body_size = LENGTHS.unpack(lengths)
        if head_size > HEAD_BYTES or body_size > maximum:
            raise WireError(f"A frame of {head_size} + {body_size} bytes is over the limit.")
        packed = await reader.readexactly(head_size)
        body = await reader.readexactly(body_size) if body_size else b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        head = json.loads(packed)
    except (ValueError, RecursionError) as fault:
        raise WireError("The head of a frame is not JSON.") from fault
    if not isinstance(head, dict):
        raise WireError("The head of a frame is not a JSON object.")
    return head, body


async def depth(data: bytes, maximum: int) -> int:
    """How deeply the JSON in `data` nests; may stop counting past `maximum`. Yields to the loop while it counts."""
    opening = data.count(b"[") + data.count(b"{")
    if opening <= maximum:
        return opening
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    await asyncio.sleep(0)
    marks = unescaped.translate(None, _NO_STRUCTURE)
    await asyncio.sleep(0)
    marks = _STRINGS.sub(b"", marks)
    level = deepest = 0
    for start in range(0, len(marks), _SLICE):
        steps = map(_STEP.get, marks[start : start + _SLICE], itertools.repeat(0))
        levels = list(itertools.accumulate(steps, initial=level))
        level, deepest = levels[-1], max(deepest, *levels)
        if deepest > maximum:
            return deepest
        await asyncio.sleep(0)
    return deepest
