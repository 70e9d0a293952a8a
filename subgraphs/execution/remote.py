"""Executor in another process: steps over internal HTTP, as `subgraphs.engine.step.Executor`.

One step is one POST to `/executor/steps` (`subgraphs.engine.wire`), proven by the key that router and subgraphs share.
Closing the connection stops the body; that is what cancelling the task does. While a body runs the other side sends
a newline now and then, so that silence means it is gone.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import httpx
import msgspec
import structlog

from subgraphs.engine.step import StepError, StepOutcome, StepRequest
from subgraphs.engine.wire import LARGEST, METHOD, PATH, PROBES, outcome_read, request_sent
from subgraphs.platform.hop import HEADER, IDENTITY, HopGuard

US: Final = "execution"
PATIENCE: Final = 20.0
"""Seconds a step waits for an Executor to take it; nothing has begun as long as nobody does."""
SILENCE: Final = 15.0
KEEP: Final = 2.0
"""Seconds an idle connection is kept: less than the server keeps it, so that it does not close under a request."""

log = structlog.get_logger("linkflow.execution")


class RemoteExecutor:
    """Runs node bodies in the Executor at `url`. Open it before the first step."""

    remote = True

    def __init__(self, url: str, guard: HopGuard) -> None:
        self.url = url
        self._guard = guard
        self._http: httpx.AsyncClient | None = None

    async def open(self) -> None:
        self._http = httpx.AsyncClient(
            base_url=self.url,
            trust_env=False,
            timeout=httpx.Timeout(SILENCE, connect=2.0, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEP),
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    def run_pure(self, request: StepRequest) -> StepOutcome:
        """Refused: what is far away cannot be done without waiting."""
        return _failed("executor.remote", f"{request.type} runs in another process.")

    async def run(self, request: StepRequest) -> StepOutcome:
        """Runs any body. Nobody to take it within PATIENCE: `executor.unreachable`. A connection lost on the way:
        `executor.lost`, and whether the body has run is unknown; the next attempt carries the same key."""
        data = request_sent(request)
        if len(data) > LARGEST:
            return _failed("executor.too_large", f"The step's input has {len(data)} bytes, over {LARGEST}.", "limit")
        deadline, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                return await self._asked(request, data)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if time.monotonic() + pause > deadline:
                    log.warning("executor_unreachable", url=self.url, error=repr(error))
                    return _failed("executor.unreachable", "No Executor takes the step at the moment.")
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            except httpx.TransportError as error:
                log.warning("executor_lost", url=self.url, execution=str(request.execution), error=repr(error))
                return _failed("executor.lost", "The connection to the Executor was lost while the step ran.")

    async def probe(self, request: StepRequest) -> bool | None:
        """Whether the step has happened; None when nobody can say, or nobody answers."""
        try:
            status, told = await self._sent(PROBES, request_sent(request))
            return msgspec.json.decode(told, type=bool | None) if status == 200 else None
        except (httpx.TransportError, msgspec.DecodeError) as error:
            log.warning("probe_lost", url=self.url, execution=str(request.execution), error=repr(error))
            return None

    async def _sent(self, path: str, data: bytes) -> tuple[int, bytes]:
        assert self._http is not None  # noqa: S101 - opened before the bus brings work
        headers = {
            IDENTITY: US,
            HEADER: self._guard.proof(METHOD, path, data, US),
            "content-type": "application/json",
        }
        async with self._http.stream("POST", path, content=data, headers=headers) as answer:
            return answer.status_code, (await answer.aread()).strip()

    async def _asked(self, request: StepRequest, data: bytes) -> StepOutcome:
        status, told = await self._sent(PATH, data)
        if status != 200:
            log.error("executor_refused", url=self.url, status=status, told=told[:500].decode("utf-8", "replace"))
            return _failed("executor.refused", f"The Executor refused the step with the status {status}.")
        try:
            return outcome_read(request, told)
        except (msgspec.DecodeError, LookupError) as error:
            log.exception("executor_garbled", url=self.url, error=repr(error))
            return _failed("executor.garbled", "The Executor's answer could not be read.")


def _failed(code: str, message: str, kind: str = "infrastructure") -> StepOutcome:
    return StepOutcome(error=StepError(code, message, kind, retryable=kind == "infrastructure"))
