"""Auth, tenant and user in a process of its own that kills itself at a named point of a sign-up.

python crashing.py POINT EMAIL ID: with a point, asks for the sign-up and dies there; with `-` instead, carries on what
is open and ends when the sign-up has. Points: `NAME:before` and `NAME:after` (a consumer's step, before its commit),
`TYPE` (an event that was just committed).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

from subgraphs.auth import commands
from subgraphs.auth.domain import Newcomer, SignUpState
from subgraphs.auth.service import build as auth
from subgraphs.platform.bus import Bus
from subgraphs.platform.database import Transaction
from subgraphs.platform.domain import Caller, Event
from subgraphs.platform.server import Incoming, ground_of, running
from subgraphs.platform.settings import Settings
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingBus:
    """The bus, but for one step or event at which the process ends."""

    def __init__(self, bus: Bus, point: str) -> None:
        self._bus, self._point = bus, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def consume(self, name: str, types: Iterable[str], handle: Any) -> None:
        async def dying(event: Event, transaction: Transaction) -> None:
            if self._point == f"{name}:before":
                die()
            await handle(event, transaction)
            if self._point == f"{name}:after":
                die()

        self._bus.consume(name, types, dying)


async def main(point: str, email: str, id: str) -> None:
    from uuid import UUID

    ground = ground_of(Settings.load(os.environ))
    bus = ground.bus
    ground.bus = DyingBus(bus, point)  # type: ignore[assignment]
    built = [build(ground) for build in (auth, tenant, user)]
    ground.bus = bus
    if point != "-" and ":" not in point:
        bus.listen({point}, die)
    means: commands.Means = built[0].context(Caller(), Incoming({}, "")).means
    async with running(ground, built):
        if point != "-":
            newcomer = Newcomer.of(email=email, name="Ada", organisation="Engines", locale=None, time_zone=None)
            hashed = await means.passwords.hash("correct horse battery staple")
            await commands.sign_up(newcomer, hashed, means, id=UUID(id))
        while True:
            found = await means.lookups.sign_up(UUID(id))
            if found is not None and found[1] is not SignUpState.REQUESTED:
                return
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
