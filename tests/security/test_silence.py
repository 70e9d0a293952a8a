"""What breaks inside stays inside: with every schema of the database gone, no answer tells what was there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from subgraphs.platform.cli import subgraph_names
from tests.security.surface import entities, operations
from tests.security.tenants import house_of_two
from tests.security.values import variables_for

LEAKS = (
    "select ", "insert ", "update ", "relation \\\"", "schema \\\"", "does not exist", "asyncpg", "sqlalchemy",
    "postgres", "traceback", "subgraphs/", "resolvers/", "site-packages", ".py", "exception", "lf_api", "lf_engine",
    "127.0.0.1", "/tmp/",
)  # fmt: skip
"""What a driver's message, a stack or an address would bring along."""


@pytest.mark.shows("G11")
async def test_no_failure_says_more_than_its_number(fresh_settings: Callable[..., Any]) -> None:
    async with house_of_two(await fresh_settings()) as stage:
        for who in (stage.stranger, stage.victim.owner):
            await stage.say(who, operations()[0], {"id": "x"})  # identities are known before the database is broken
        await renamed(stage.watching, "gone_")
        told: list[tuple[object, str]] = []
        try:
            for operation in operations():
                if operation.kind != "subscription":
                    variables = variables_for(operation, lambda at: stage.own.get(at.name) if at.required else None)
                    told.append((operation, (await stage.say(stage.stranger, operation, variables)).text))
            for entity in entities():
                reference = {"__typename": entity.type, entity.key: stage.own["workflowId"]}
                told.append((entity, (await stage.say(stage.stranger, entity, {"r": [reference]})).text))
        finally:
            await renamed(stage.watching, "")
        masked = 0
        for what, text in told:
            found = [leak for leak in LEAKS if leak in text.lower()]
            assert not found, (what, found, text)
            for error in json.loads(text).get("errors") or ():
                extensions = error["extensions"]
                assert extensions["correlationId"], (what, error)
                if extensions["code"] == "INTERNAL_SERVER_ERROR":
                    assert error["message"] == "Something went wrong on our side."
                    assert set(extensions) == {"code", "correlationId"}
                    masked += 1
        print(f"\n{len(told)} answers, {masked} masked failures")
        assert masked >= 20


async def renamed(admin: asyncpg.Connection, prefix: str) -> None:
    """Moves the schemas of all subgraphs out of sight, or back."""
    for name in subgraph_names():
        old, new = (name, prefix + name) if prefix else (f"gone_{name}", name)
        if await admin.fetchval("select true from pg_namespace where nspname = $1", old):
            await admin.execute(f'alter schema "{old}" rename to "{new}"')
