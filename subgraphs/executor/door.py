"""The doors for Execution in another process: POST `/executor/steps`, one step a request, and `/executor/probes`.

The request is proven by the key that router and subgraphs share (`platform/hop.py`), with the method STEP in its proof:
Execution alone makes such proofs. The answer begins at once and ends with the outcome; until then a newline every BEAT
seconds says that the body runs. A caller who closes the connection has cancelled the step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from subgraphs.engine.step import StepError, StepOutcome, StepRequest
from subgraphs.engine.wire import LARGEST, METHOD, PATH, PROBES, outcome_sent, request_read
from subgraphs.executor.runner import Runner
from subgraphs.platform.hop import HopGuard, HopRefused

BEAT: Final = 5.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gone(Exception):
    """The caller went away."""


class TooLarge(Exception):
    """More bytes than one request may have."""


class Door:
    """The ASGI application of the route that runs steps."""

    path = PATH

    def __init__(self, runner: Runner, guard: HopGuard) -> None:
        self._runner = runner
        self._guard = guard

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            body = await _body(receive)
            self._guard.check(headers, body, method=METHOD, path=self.path)
            asked = request_read(body)
        except Gone:
            return
        except TooLarge:
            await _refuse(send, 413, "too_large", f"A step has at most {LARGEST} bytes.")
        except HopRefused as refused:
            await _refuse(send, 401, refused.code, refused.message)
        except msgspec.DecodeError as error:
            await _refuse(send, 400, "step_malformed", str(error))
        else:
            await self._answer(asked, receive, send)

    async def _work(self, asked: StepRequest) -> bytes:
        return _told(asked, await self._runner.run(asked))

    async def _answer(self, asked: StepRequest, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        work = asyncio.create_task(self._work(asked), name=f"step {asked.execution} {asked.node}")
        gone = asyncio.create_task(_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while not work.done():
                await asyncio.wait({work, gone}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
                if gone.done() and not work.done():
                    return
                if not work.done():
                    await send({"type": "http.response.body", "body": b"\n", "more_body": True})
            await send({"type": "http.response.body", "body": work.result()})
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


class Probes(Door):
    """The ASGI application of the route that asks whether a step has happened."""

    path = PROBES

    async def _work(self, asked: StepRequest) -> bytes:
        return msgspec.json.encode(await self._runner.probe(asked))


def _told(asked: StepRequest, outcome: StepOutcome) -> bytes:
    try:
        return outcome_sent(asked, outcome)
    except (TypeError, ValueError, OverflowError, RecursionError) as fault:
        told = f"What the step put out is not JSON: {type(fault).__name__}."
        return outcome_sent(asked, StepOutcome(error=StepError("step.output_invalid", told)))


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    read, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunks.append(message.get("body", b""))
        read, more = read + len(chunks[-1]), message.get("more_body", False)
        if read > LARGEST:
            raise TooLarge
    return b"".join(chunks)


async def _left(receive: Receive) -> None:
    """Returns when the caller has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode({"code": code, "message": message})})
