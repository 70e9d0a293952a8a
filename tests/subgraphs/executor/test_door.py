"""The door for an Execution in another process: who may come in, with what, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from subgraphs.engine.step import Item, StepRequest
from subgraphs.engine.wire import METHOD, PATH, PROBES, outcome_read, request_sent
from subgraphs.executor.door import Door, Probes
from subgraphs.executor.runner import Runner
from subgraphs.platform.hop import HEADER, IDENTITY, HopGuard

GUARD = HopGuard(b"k" * 32)
TENANT, RUN = UUID(int=1), UUID(int=2)


def request(parameters: dict[str, Any]) -> StepRequest:
    return StepRequest(
        tenant=TENANT,
        execution=RUN,
        workflow=None,
        node="n",
        type="core.set",
        version="1.0.0",
        attempt=1,
        idempotency_key="k",
        parameters=parameters,
        inputs={"main": [Item({"who": "Ada"})]},
        scope={},
        now=datetime(2026, 5, 4, tzinfo=UTC),
    )


SENT = request_sent(request({"fields": [{"name": "said", "value": "Hello {{ item.who }}"}]}))


@pytest.fixture
async def door() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Door(Runner(), GUARD))
    async with httpx.AsyncClient(transport=transport, base_url="http://executor") as client:
        yield client


def proven(body: bytes, guard: HopGuard = GUARD, method: str = METHOD, path: str = PATH) -> dict[str, str]:
    return {HEADER: guard.proof(method, path, body, "execution"), IDENTITY: "execution"}


@pytest.mark.shows("N2")
async def test_a_proven_step_runs(door: httpx.AsyncClient) -> None:
    answer = await door.post(PATH, content=SENT, headers=proven(SENT))
    assert answer.status_code == 200
    outcome = outcome_read(request({}), answer.content.strip())
    assert outcome.error is None
    assert outcome.outputs["main"][0].json == {"who": "Ada", "said": "Hello Ada"}


@pytest.mark.shows("N2")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        proven(SENT, HopGuard(b"x" * 32)),
        proven(SENT + b" "),
        proven(SENT, method="POST"),  # what the router would make
        proven(SENT, path="/executor/graphql"),
        proven(SENT) | {IDENTITY: "somebody"},
    ],
)
async def test_nobody_else_comes_in(door: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await door.post(PATH, content=SENT, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "hop_refused"


async def test_what_is_no_step_is_refused(door: httpx.AsyncClient) -> None:
    answer = await door.post(PATH, content=b"{}", headers=proven(b"{}"))
    assert (answer.status_code, answer.json()["code"]) == (400, "step_malformed")


@pytest.mark.shows("N2")
async def test_a_probe_has_a_door_of_its_own_and_the_same_proof() -> None:
    transport = httpx.ASGITransport(app=Probes(Runner(), GUARD))
    async with httpx.AsyncClient(transport=transport, base_url="http://executor") as client:
        answer = await client.post(PROBES, content=SENT, headers=proven(SENT, path=PROBES))
        assert (answer.status_code, answer.json()) == (200, None)
        refused = await client.post(PROBES, content=SENT, headers=proven(SENT))
        assert refused.status_code == 401
