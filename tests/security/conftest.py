"""LinkFlow as strangers meet it: started whole, as it would be on the internet, with the schema kept to itself."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from subgraphs.platform.processes import stop
from tests.conftest import free_port
from tests.journeys.conftest import House
from tests.journeys.person import Person


class ClosedHouse(House):
    """With introspection off, as the documentation tells operators of a public installation."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"LINKFLOW_INTROSPECTION": "false"}


@pytest.fixture(scope="package")
def house(scratch: Path) -> Iterator[House]:
    home = scratch / "closed-house"
    home.mkdir()
    found = ClosedHouse(home, {name: free_port() for name in ("port", "gateway_port", "serve_port", "target")})
    try:
        found.start_linkflow()
        yield found
    finally:
        for process in reversed(found.children.values()):
            stop(process, (signal.SIGTERM, 30.0))


@pytest.fixture(scope="package")
async def ada(house: House) -> AsyncIterator[Person]:
    """Somebody who has signed up at the public address."""
    async with Person.at(house.origin("hive")) as found:
        await found.sign_up()
        yield found
