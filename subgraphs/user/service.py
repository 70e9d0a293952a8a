"""User's process."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from resolvers.entities import loader
from subgraphs.platform.domain import Caller
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.platform.waiting import Waiting
from subgraphs.user import commands, events, queries
from subgraphs.user.consumers import Consumers
from subgraphs.user.domain import Person, Profile
from subgraphs.user.events import Events
from subgraphs.user.schema import Context, schema
from subgraphs.user.storage import TenantStore, stores

ANSWER_SECONDS = 2.0
"""How long a change of role waits until the identities Auth makes say the same."""


class Users:
    """The parts of User, wired."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.events = Events(ground.leases.partition_of)
        self.stores = stores(ground.database)
        self.taken_over = Waiting(ground.bus, {events.ACCOUNT_CHANGED}, key=lambda event: event.data["userId"])
        Consumers(TenantStore, self.events, lambda: datetime.now(UTC)).register(ground.bus)

    async def update_profile(self, profile: Profile, caller: Caller) -> Person:
        with self.taken_over.expect(str(caller.subject)) as answer:
            person, told = await commands.update_profile(profile, caller=caller, stores=self.stores, events=self.events)
            if told:
                await answer(ANSWER_SECONDS)
        return person

    async def change_role(self, id: UUID, role: str, caller: Caller) -> Person:
        """Changes a role, and answers when it holds for the member's next request (or after ANSWER_SECONDS)."""
        with self.taken_over.expect(str(id)) as answer:
            person, told = await commands.change_member_role(
                id, role, caller=caller, stores=self.stores, events=self.events
            )
            if told:
                await answer(ANSWER_SECONDS)
        return person

    def context(self, caller: Caller, incoming: Incoming) -> Context:
        database = self.ground.database
        people = loader(partial(queries.by_ids, tenant=caller.tenant, database=database))
        return Context(caller, people, database, self.update_profile, self.change_role)


def build(ground: Ground) -> Subgraph:
    """User on this ground."""
    users = Users(ground)
    return Subgraph(name="user", schema=schema, context=users.context)
