"""The way to the sandbox process: an asyncio client over its unix socket, many jobs in flight on one connection.

Wire (described by sandbox/protocol/): two lengths (unsigned 32-bit, big endian), a JSON head, a JSON body. What comes
back is a guest's word: it is parsed here as untrusted input and nothing of it is believed but its shape.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from subgraphs.engine.step import Line, StepError

LENGTHS: Final = struct.Struct(">II")
FRAME_BYTES: Final = 8 * 1024 * 1024
GRACE: Final = 45.0
"""Seconds past its own deadline that a job may wait for a free worker and its answer."""
KINDS: Final = frozenset({"user", "limit", "timeout", "infrastructure"})
log = logging.getLogger(__name__)
LEVELS: Final = frozenset({"debug", "info", "warn", "error"})


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of JavaScript over all items of a step. `scope`: trigger, execution, vars (plain JSON) and nodes as
    {id: {"items": [json], "match": [index of the node's item per input item]}}. `wall`: seconds until it is killed."""

    code: str
    mode: str
    items: Sequence[Mapping[str, Any]]
    scope: Mapping[str, Any]
    now: datetime
    seed: int
    wall: float


@dataclass(frozen=True, slots=True)
class Made:
    """One item the code returned; `origin` is the position of the input item it came from, where that is known."""

    json: dict[str, Any]
    origin: int | None = None


@dataclass(slots=True)
class Answer:
    """What became of a job: items or an error, and what it printed."""

    items: list[Made] = field(default_factory=list)
    error: StepError | None = None
    lines: list[Line] = field(default_factory=list)
    dropped: int = 0


def failed(kind: str, code: str, message: str, **detail: Any) -> Answer:
    return Answer(
        error=StepError(code=code, message=message, kind=kind, retryable=kind == "infrastructure", detail=detail)
    )


class Sandbox:
    """Connects at the first job and again after a loss; jobs in flight at the loss end as infrastructure errors."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False

    async def run(self, job: Job) -> Answer:
        """Never raises for what the code does. Cancelling the caller's task kills the guest."""
        try:
            body = _packed(job)
        except (TypeError, ValueError) as fault:
            return failed("user", "code.input", f"The input has no JSON form: {fault}")
        head = {"op": "run", "limits": {"wall": job.wall}}
        try:
            async with asyncio.timeout(job.wall + GRACE):
                answer, result = await self._exchange(head, body)
        except TimeoutError:
            return failed("infrastructure", "sandbox.silent", "The sandbox did not answer in time.")
        except OSError as fault:
            log.warning("sandbox unreachable", extra={"socket": str(self._socket), "reason": str(fault)})
            message = "The sandbox that runs code does not answer; `linkflow doctor` tells an operator what is missing."
            return failed("infrastructure", "sandbox.unreachable", message)
        return _understood(answer, result, len(job.items))

    async def state(self) -> dict[str, int]:
        """The pool as the sandbox sees it: workers, idle, waiting, served, killed. Raises OSError when it is away."""
        answer, _ = await self._exchange({"op": "state"}, b"")
        return {name: value for name, value in answer.get("state", {}).items() if isinstance(value, int)}

    async def close(self) -> None:
        """Jobs still in flight are killed and end as infrastructure errors."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    async def _exchange(self, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Asks again, once, where the connection breaks: code touches nothing outside, so running it twice is safe."""
        connection = await self._connected()
        try:
            return await connection.exchange(head, body)
        except OSError:
            connection = await self._connected()
            return await connection.exchange(head, body)

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._closed:
                raise ConnectionError("this client was closed")
            if self._connection is None or self._connection.lost:
                reader, writer = await asyncio.open_unix_connection(self._socket)
                self._connection = _Connection(reader, writer)
            return self._connection


class _Connection:
    """One connection and what is in flight on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = False
        self._writer = writer
        self._waiting: dict[str, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._count = 0
        self._reading = asyncio.create_task(self._read(reader))

    async def exchange(self, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """One request and its answer. Raises OSError when the connection is lost; cancelling cancels the request."""
        self._count += 1
        name = str(self._count)
        answer: asyncio.Future[tuple[dict[str, Any], bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[name] = answer
        try:
            self._writer.write(_frame(head | {"id": name}, body))
            await self._writer.drain()
            return await answer
        except OSError:
            self.lost = True
            raise
        except asyncio.CancelledError:
            if not self.lost:
                self._writer.write(_frame({"op": "cancel", "id": name}, b""))
            raise
        finally:
            self._waiting.pop(name, None)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hands answers to whoever waits. A connection that ends or talks nonsense fails everything in flight."""
        reason = "it was closed"
        try:
            while True:
                head, body = await _read_frame(reader)
                waiting = self._waiting.pop(str(head.get("id")), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result((head, body))
        except (OSError, EOFError, orjson.JSONDecodeError, AttributeError) as fault:
            reason = str(fault)
        finally:
            self.lost = True
            self._writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError(f"the connection was lost: {reason}"))


async def _read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    head_size, body_size = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    if head_size + body_size > FRAME_BYTES:
        raise ConnectionError(f"a frame of {head_size + body_size} bytes")
    return orjson.loads(await reader.readexactly(head_size)), await reader.readexactly(body_size)


def _frame(head: Mapping[str, Any], body: bytes) -> bytes:
    packed = orjson.dumps(head)
    return LENGTHS.pack(len(packed), len(body)) + packed + body


def _packed(job: Job) -> bytes:
    words = {
        "code": job.code,
        "mode": job.mode,
        "items": [{"json": item} for item in job.items],
        "scope": job.scope,
        "now": job.now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "seed": job.seed,
    }
    return orjson.dumps(words, default=_plain)


def _plain(value: Any) -> Any:
    """Views of a run's data as the containers they stand for."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _understood(head: Mapping[str, Any], body: bytes, inputs: int) -> Answer:
    answer = Answer(lines=[_line(said) for said in head.get("lines", [])], dropped=int(head.get("dropped", 0)))
    if not head.get("ok"):
        answer.error = _error(head.get("error") or {})
        return answer
    try:
        made = orjson.loads(body)
        if not isinstance(made, list):
            raise TypeError("a result is a list")
        answer.items = [_made(one, inputs) for one in made]
    except (ValueError, TypeError, KeyError, AttributeError):
        message = "The code's result is not a list of JSON objects."
        answer.error = StepError(code="code.result", message=message)
    return answer


def _made(said: Mapping[str, Any], inputs: int) -> Made:
    json, origin = said["json"], said.get("from")
    if not isinstance(json, dict):
        raise TypeError("an item is an object")
    known = type(origin) is int and 0 <= origin < inputs
    return Made(json, origin if known else None)


def _line(said: Mapping[str, Any]) -> Line:
    level = said.get("level")
    return Line(level=level if level in LEVELS else "info", text=str(said.get("text", "")), at=float(said.get("at", 0)))


def _error(said: Mapping[str, Any]) -> StepError:
    kind = said.get("kind")
    kind = kind if kind in KINDS else "infrastructure"
    detail = {name: said[name] for name in ("name", "line", "column", "stack") if name in said}
    return StepError(
        code=str(said.get("code", "sandbox.unknown")),
        message=str(said.get("message", "The sandbox gave no reason.")),
        kind=kind,
        retryable=kind == "infrastructure",
        detail=detail,
    )
