"""Ceilings of one job and of one worker process, in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MIB: Final = 1024 * 1024
WALL_DEFAULT: Final = 10.0
WALL_MAXIMUM: Final = 60.0
HEAP: Final = 64 * MIB
"""QuickJS's own allocator refuses beyond this, so that a guest usually hears a catchable error."""
LINEAR_MEMORY: Final = 128 * MIB
"""Maximum written into the module: the engine refuses beyond this."""
STACK_KIB: Final = 256
"""About 780 JavaScript frames; past it a RangeError that code can catch. Native recursion (a parser, JSON) may hit the
engine's own stack first: then the instance is stopped and its worker replaced."""
PROCESS_SLACK: Final = 192 * MIB
"""Data a worker may grow by beyond what it holds once warm and one full guest memory (RLIMIT_DATA)."""
JOB_BYTES: Final = 5 * MIB
RESULT_BYTES: Final = 5 * MIB
DEPTH: Final = 200
LOG_BYTES: Final = 64 * 1024
LOG_LINES: Final = 1000
ERROR_BYTES: Final = 64 * 1024
OUTPUT_BYTES: Final = RESULT_BYTES + 256 * 1024
"""All a guest may write to its standard output: result, lines, framing."""
JOBS_PER_WORKER: Final = 64
"""Jobs after which a worker is replaced as soon as it has been idle for a moment: the engine keeps a thread per job."""
JOBS_PER_WORKER_BUSY: Final = 256
"""Jobs after which it is replaced even under load; replacing every 64 then costs half the throughput."""
OPEN_FILES: Final = 64
QUEUE_WAIT: Final = 30.0
FRAME_BYTES: Final = JOB_BYTES + 256 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job is granted: `wall` seconds until SIGKILL, `result` bytes of JSON."""

    wall: float = WALL_DEFAULT
    result: int = RESULT_BYTES

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Limits:
        """The asked-for limits, each held between a floor and our maximum; what is no number is ignored."""
        wall, result = asked.get("wall", WALL_DEFAULT), asked.get("result", RESULT_BYTES)
        return cls(
            wall=min(max(float(wall), 0.01), WALL_MAXIMUM) if _number(wall) else WALL_DEFAULT,
            result=min(max(int(result), 2), RESULT_BYTES) if _number(result) else RESULT_BYTES,
        )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
