"""What is known of workflows and their releases: who calls whom, with which inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, Integer, Select, Uuid, and_, any_, func, literal, select, tuple_

from subgraphs.engine.definition import Input
from subgraphs.platform.database import Reading
from subgraphs.workflow.domain import Call, Head, Place
from subgraphs.workflow.storage.tables import call, definition, release, workflow


class _Declared(msgspec.Struct):
    """Of a stored document, its inputs alone."""

    inputs: tuple[Input, ...] = ()


class KnownWorkflows:
    """`domain.Known` as of one reading. Deleted and foreign workflows do not exist."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def heads(self, workflows: Collection[UUID]) -> Mapping[UUID, Head]:
        columns = (workflow.c.id, workflow.c.name, workflow.c.release, workflow.c.archived_at)
        mine = self._reading.tenant_filter(workflow.c.tenant)
        rows = await self._reading.rows(select(*columns).where(mine, workflow.c.id == any_(_ids(workflows))))
        return {row["id"]: Head(row["name"], row["release"], row["archived_at"] is not None) for row in rows}

    async def calls(self, releases: Collection[Place]) -> Mapping[Place, Sequence[Call]]:
        mine = self._reading.tenant_filter(call.c.tenant)
        where = tuple_(call.c.workflow, call.c.release).in_(_places(releases))
        found: dict[Place, list[Call]] = {}
        for row in await self._reading.rows(select(call).where(mine, where).order_by(call.c.node)):
            made = Call(row["node"], row["callee"], row["pinned"])
            found.setdefault((row["workflow"], row["release"]), []).append(made)
        return found

    async def inputs(self, releases: Collection[Place]) -> Mapping[Place, Sequence[Input]]:
        if not releases:
            return {}
        mine = self._reading.tenant_filter(release.c.tenant)
        same = and_(definition.c.tenant == release.c.tenant, definition.c.digest == release.c.digest)
        rows = await self._reading.rows(
            select(release.c.workflow, release.c.number, definition.c.body)
            .select_from(release.join(definition, same))
            .where(mine, tuple_(release.c.workflow, release.c.number).in_(_places(releases)))
        )
        decode = msgspec.json.Decoder(_Declared).decode
        return {(row["workflow"], row["number"]): decode(row["body"]).inputs for row in rows}


def _ids(workflows: Collection[UUID]) -> Any:
    return literal(list(workflows), ARRAY(Uuid))


def _places(releases: Collection[Place]) -> Select[Any]:
    """Rows of workflow and number: two parameters, however many they are."""
    numbers = literal([number for _, number in releases], ARRAY(Integer))
    return select(func.unnest(_ids([workflow for workflow, _ in releases])), func.unnest(numbers))
