"""A sign-up whose process is killed at each step, or that is given up, leaves one tenant or none, and no orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from subgraphs.auth import commands, events
from subgraphs.auth.domain import Newcomer
from subgraphs.auth.schema import Context
from subgraphs.auth.service import build as auth
from subgraphs.platform.domain import Caller, uuid7
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.platform.settings import CHECKOUT, Settings
from subgraphs.platform.waiting import Waiting
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import SIGN_UP, Client, served

CRASHING = Path(__file__).with_name("crashing.py")

POINTS = [
    "auth.signup.requested.v1",
    "tenant.signup:before",
    "tenant.signup:after",
    "tenant.tenant.provisioned.v1",
    "user.provisioned:before",
    "user.provisioned:after",
    "user.member.added.v1",
    "auth.complete:before",
    "auth.complete:after",
    "auth.signup.completed.v1",
]

COUNTS = """
select (select count(*) from auth.account where email = $1 and active),
       (select count(*) from auth.account where email = $1),
       (select count(*) from "user".person where email = $1),
       (select count(*) from "user".organisation o where exists
          (select from "user".person p where p.tenant = o.tenant and p.email = $1)),
       (select count(*) from "user".member m join "user".person p on p.tenant = m.tenant and p.id = m.person
          where p.email = $1 and m.role = 'owner'),
       (select count(*) from tenant.tenant t join auth.account a on a.tenant = t.tenant where a.email = $1)
"""

ORPHANS = """
select (select count(*) from tenant.tenant t where not exists (select from auth.account a where a.tenant = t.tenant)),
       (select count(*) from "user".person p where not exists (select from tenant.tenant t where t.tenant = p.tenant)),
       (select count(*) from "user".organisation o where not exists
          (select from tenant.tenant t where t.tenant = o.tenant)),
       (select count(*) from auth.account a where not exists (select from tenant.tenant t where t.tenant = a.tenant))
"""


ABANDONED = 'select (select count(*) from "user".abandoned), (select count(*) from tenant.abandoned)'


async def counted(settings: Settings, sql: str, *words: Any) -> list[int]:
    connection = await asyncpg.connect(settings.dsn("lf_admin"))
    try:
        row = await connection.fetchrow(sql, *words)
        assert row is not None
        return [int(number) for number in row]
    finally:
        await connection.close()


async def run(settings: Settings, point: str, email: str, id: UUID) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LINKFLOW_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CRASHING),
        point,
        email,
        str(id),
        env={**kept, **settings.environment(), "PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT,
    )
    return await asyncio.wait_for(process.wait(), 60)


@pytest.mark.shows("TE-02")
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_any_step_and_started_again_there_is_one_of_each(settings: Settings, point: str) -> None:
    email, id = f"{uuid4().hex}@example.com", uuid7()
    assert await run(settings, point, email, id) == -signal.SIGKILL
    assert await run(settings, "-", email, id) == 0
    assert await counted(settings, COUNTS, email) == [1, 1, 1, 1, 1, 1]
    assert await counted(settings, ORPHANS) == [0, 0, 0, 0]


MEANS: dict[str, commands.Means] = {}
WAITING: dict[str, Waiting] = {}


def auth_and_its_means(ground: Ground) -> Subgraph:
    made = auth(ground)
    context: Context = made.context(Caller(), Incoming({}, ""))
    MEANS["auth"] = context.means
    WAITING["abandoned"] = Waiting(
        ground.bus, {"tenant.tenant.withdrawn.v1", events.SIGN_UP_ABANDONED}, key=lambda event: event.type
    )
    return made


@pytest.fixture
async def client(fresh_settings: Any) -> AsyncIterator[Client]:
    async with served(await fresh_settings(), auth_and_its_means, tenant, user) as made:
        yield made


async def settled(settings: Settings, sql: str, expected: list[int], *words: Any) -> None:
    """Waits until the counts are as expected; the test's timeout is the limit."""
    while await counted(settings, sql, *words) != expected:
        await asyncio.sleep(0.05)


async def state(client: Client, id: UUID) -> str:
    found: str = (await client.ask("auth", f'{{ signUp(id: "{id}") {{ state }} }}'))["signUp"]["state"]
    return found


@pytest.mark.shows("TE-02")
async def test_a_step_that_refuses_takes_everything_back_and_frees_the_address(client: Client) -> None:
    settings, email, id = client.ground.settings, f"{uuid4().hex}@example.com", uuid7()
    newcomer = Newcomer(email=email, name="Ada", organisation="Engines", locale="en", time_zone="Mars/Olympus")
    hashed = await MEANS["auth"].passwords.hash("correct horse battery staple")
    with WAITING["abandoned"].expect("tenant.tenant.withdrawn.v1") as withdrawn:
        await commands.sign_up(newcomer, hashed, MEANS["auth"], id=id)
        assert await withdrawn(30) is not None
    assert await state(client, id) == "FAILED"
    assert await counted(settings, COUNTS, email) == [0, 0, 0, 0, 0, 0]
    await settled(settings, ORPHANS, [0, 0, 0, 0])
    assert (await client.sign_up(email=email)).token


@pytest.mark.shows("TE-02")
async def test_a_sign_up_that_takes_too_long_is_given_up_and_late_steps_make_nothing(fresh_settings: Any) -> None:
    settings, email = await fresh_settings(), f"{uuid4().hex}@example.com"
    given = {"email": email, "password": "correct horse battery staple", "name": "Ada", "organisation": "Engines"}
    async with served(settings, auth_and_its_means) as alone:  # nobody answers: tenant and user are down
        pending = (await alone.ask("auth", SIGN_UP, {"input": given}))["signUp"]
        assert pending["__typename"] == "SignUpPending"
        id = UUID(pending["id"])
        words = f'email: "{email}", password: "{given["password"]}"'
        log_in = f"mutation {{ logIn(input: {{{words}}}) {{ ... on Problem {{ code }} }} }}"
        assert (await alone.ask("auth", log_in)) == {"logIn": {"code": "sign_up_pending"}}
        later = MEANS["auth"].now() + timedelta(seconds=1)
        assert await commands.abandon_overdue(later, MEANS["auth"]) == 1
        assert await commands.abandon_overdue(later, MEANS["auth"]) == 0
        assert await state(alone, id) == "FAILED"
    async with served(settings, auth_and_its_means, tenant, user) as everybody:
        assert (await everybody.sign_up(email=email)).token
        await settled(settings, ABANDONED, [1, 1])
        assert await counted(settings, COUNTS, email) == [1, 1, 1, 1, 1, 1]
        assert await counted(settings, ORPHANS) == [0, 0, 0, 0]
