"""Execution opened once a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from subgraphs.platform.settings import Settings
from tests.subgraphs.execution.world import World, opened


@pytest.fixture(scope="module")
async def world(settings: Settings) -> AsyncIterator[World]:
    async with opened(settings) as found:
        yield found
