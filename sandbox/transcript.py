"""What a guest said during one job, read with distrust: only framed lines count, all sizes are ours, kinds are held to
those a guest may claim. A guest that forges a line only ever speaks for its own job."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox import limits
from sandbox.limits import Limits

NOTE_BYTES: Final = 512 * 1024
LEVELS: Final = frozenset({"debug", "info", "warn", "error"})
CLAIMABLE: Final = frozenset({"user", "limit"})


def error(kind: str, code: str, message: str, **more: Any) -> dict[str, Any]:
    """A typed error as it goes over the wire. `kind`: user, limit, timeout or infrastructure."""
    return {"kind": kind, "code": code, "message": message} | more


@dataclass(slots=True)
class Outcome:
    """How a job ended: `result` (JSON bytes, unread) or `error`; console `lines` and how many were dropped."""

    result: bytes = b""
    error: dict[str, Any] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0


class Transcript:
    """Collects a guest's output until its last word; `finished` says that it came."""

    def __init__(self, mark: bytes, granted: Limits) -> None:
        self.outcome = Outcome()
        self.finished = False
        self._mark, self._granted = mark, granted
        self._pending = bytearray()
        self._scanned = self._total = self._log_bytes = 0

    def hear(self, chunk: bytes) -> None:
        """Takes more output. Past the output ceiling the job has failed and the guest need not be heard further."""
        if self.finished:
            return
        self._total += len(chunk)
        self._pending += chunk
        while not self.finished and (end := self._pending.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._pending[:end])
            del self._pending[: end + 1]
            self._scanned = 0
            if line.startswith(self._mark):
                self._note(line[len(self._mark) : len(self._mark) + 1], line[len(self._mark) + 1 :])
        self._scanned = len(self._pending)
        if not self.finished and self._total > limits.OUTPUT_BYTES:
            message = f"The code wrote more than {limits.OUTPUT_BYTES} bytes of output."
            self.fail(error("limit", "limit.output", message))

    def fail(self, fault: dict[str, Any]) -> None:
        self.outcome.error, self.outcome.result, self.finished = fault, b"", True

    def _note(self, kind: bytes, text: bytes) -> None:
        if kind == b"R":
            self._result(text)
        elif kind == b"L":
            self._line(text)
        elif kind == b"E":
            self.fail(_claimed(text))
        elif kind == b"D" and text.isdigit() and len(text) < 12:
            self.outcome.dropped += int(text)

    def _result(self, text: bytes) -> None:
        if len(text) > self._granted.result:
            message = f"The result is {len(text)} bytes of JSON; {self._granted.result} are allowed."
            self.fail(error("limit", "limit.result", message))
        else:
            self.outcome.result, self.finished = text, True

    def _line(self, text: bytes) -> None:
        said = _object(text)
        words, level, at = said.get("text"), said.get("level"), said.get("at")
        room = limits.LOG_BYTES - self._log_bytes
        if not isinstance(words, str) or len(self.outcome.lines) >= limits.LOG_LINES or room <= 0:
            self.outcome.dropped += 1
            return
        words = words.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
        self._log_bytes += len(words.encode())
        when = at if isinstance(at, int) and not isinstance(at, bool) and 0 <= at < 10**9 else 0
        self.outcome.lines.append({"level": level if level in LEVELS else "info", "text": words, "at": when})


def _object(text: bytes) -> dict[str, Any]:
    if len(text) > NOTE_BYTES:
        return {}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _claimed(text: bytes) -> dict[str, Any]:
    """An error in the guest's own words, cut to size; it may not claim to be our fault or a timeout."""
    said = _object(text)
    kind = said.get("kind") if said.get("kind") in CLAIMABLE else "user"
    code = said.get("code")
    if not (isinstance(code, str) and code.startswith(("code.", "limit.")) and len(code) <= 64):
        code = "code.error"
    fault = error(str(kind), code, _words(said.get("message"), 4096) or "The code failed.")
    for name in ("line", "column"):
        if isinstance(said.get(name), int) and 0 < said[name] < 10**7:
            fault[name] = int(said[name])
    for name, size in (("name", 200), ("stack", 8192)):
        if words := _words(said.get(name), size):
            fault[name] = words
    return fault


def _words(value: Any, size: int) -> str:
    return value[:size].encode("utf-8", "replace").decode() if isinstance(value, str) else ""
