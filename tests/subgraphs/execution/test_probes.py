"""Asking an Executor in another process whether a step happened: over real HTTP, with the proof it demands."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from subgraphs.engine.step import StepRequest
from subgraphs.engine.wire import PROBES
from subgraphs.execution.remote import RemoteExecutor
from subgraphs.executor.domain import Manifest, NodeType
from subgraphs.executor.door import Probes
from subgraphs.executor.runner import Runner
from subgraphs.platform.hop import HopGuard

KEY = b"k" * 32


async def probe(step: Any) -> bool | None:
    """What the parameters say."""
    found: bool | None = step.request.parameters["happened"]
    return found


ASKED = NodeType(
    Manifest(type="test.asked", title="Asked", summary="Can be asked.", category="http", effect="unsafe", probes=True),
    lambda step: None,
    probe,
)


def request(happened: bool | None, type: str = "test.asked") -> StepRequest:
    return StepRequest(
        tenant=UUID(int=1),
        execution=UUID(int=2),
        workflow=None,
        node="n@3",
        type=type,
        version="1.0.0",
        attempt=1,
        idempotency_key="k",
        parameters={"happened": happened},
        inputs={},
        scope={},
        now=datetime(2026, 5, 4, tzinfo=UTC),
    )


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The doors of an Executor at a free port of this machine; its URL."""
    door = Probes(Runner(types={ASKED.key: ASKED}), HopGuard(KEY))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        app = Starlette(routes=[Route(PROBES, door, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


async def asked(url: str, *requests: StepRequest, key: bytes = KEY) -> list[bool | None]:
    remote = RemoteExecutor(url, HopGuard(key))
    await remote.open()
    try:
        return [await remote.probe(each) for each in requests]
    finally:
        await remote.close()


@pytest.mark.shows("EX-23", "N2")
async def test_a_probe_is_answered_from_another_process_and_without_an_answer_nobody_knows() -> None:
    steps = [request(True), request(False), request(None), request(True, "core.unknown")]
    async with serving() as url:
        assert await asked(url, *steps) == [True, False, None, None]
        assert await asked(url, request(True), key=b"x" * 32) == [None], "a proof that is not ours"
    assert await asked(url, request(True)) == [None], "nobody is there any more"
