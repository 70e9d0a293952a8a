"""`linkflow bus`: dead letters, redelivery, replay and the counts of the log of published events."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from subgraphs.platform.domain import Invalid
from subgraphs.platform.settings import Settings
from subgraphs.platform.telling import guarded

bus = typer.Typer(name="bus", help="The log of published events: dead letters, redelivery, replay, counts.")
Json = Annotated[bool, typer.Option("--json", help="One JSON value a line instead of text.")]
Work = Callable[[Any], Coroutine[Any, Any, None]]


def _guarded(work: Work, as_json: bool) -> None:
    async def run() -> None:
        import asyncpg

        connection = await asyncpg.connect(Settings.load(os.environ).dsn("lf_engine"), timeout=10)
        try:
            await work(connection)
        finally:
            await connection.close()

    guarded(lambda: asyncio.run(run()), as_json)


def _say(as_json: bool, row: dict[str, Any], text: str) -> None:
    typer.echo(json.dumps(row, default=str) if as_json else text)


@bus.command()
def dead(
    consumer: Annotated[str | None, typer.Option(help="Only this consumer's.")] = None, as_json: Json = False
) -> None:
    """List dead letters: events that a consumer could not handle, and why."""
    from dataclasses import asdict

    from subgraphs.platform import redelivery

    async def work(connection: Any) -> None:
        for letter in await redelivery.dead(connection, consumer):
            text = f"{letter.consumer}  {letter.id}  {letter.type}  {letter.attempts} attempts  {letter.error}"
            _say(as_json, asdict(letter), text)

    _guarded(work, as_json)


@bus.command()
def redrive(
    consumer: Annotated[str, typer.Argument(help="Whose dead letters.")],
    ids: Annotated[list[UUID] | None, typer.Argument(help="Events; all its dead letters when none is named.")] = None,
    as_json: Json = False,
) -> None:
    """Have dead letters tried again."""
    from subgraphs.platform import redelivery

    async def work(connection: Any) -> None:
        async for done, left in redelivery.redrive(connection, consumer, ids or None):
            _say(as_json, {"redriven": done, "left": left}, f"{done} are tried again, {left} left")

    _guarded(work, as_json)


@bus.command()
def replay(
    consumer: Annotated[str, typer.Argument(help="Who is to read again.")],
    since: Annotated[str | None, typer.Option(help="A time: 2026-11-24T08:00:00Z.")] = None,
    offset: Annotated[int | None, typer.Option(help="A transaction id of the log.")] = None,
    as_json: Json = False,
) -> None:
    """Have one consumer act again on what was published since a time or an offset."""
    from subgraphs.platform import redelivery

    async def work(connection: Any) -> None:
        many = await redelivery.replay(connection, consumer, since=_time(since), offset=offset)
        _say(as_json, {"consumer": consumer, "events": many}, f"{consumer} reads {many} events again")

    _guarded(work, as_json)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text} is no time.", field="since", next_step="Write 2026-11-24T08:00:00Z.") from None
    return found if found.tzinfo else found.astimezone()


@bus.command()
def counts(as_json: Json = False) -> None:
    """Count every consumer against the log; exit code 1 when something is missing or doubled."""
    from subgraphs.platform import redelivery

    wrong = False

    async def work(connection: Any) -> None:
        nonlocal wrong
        for count in await redelivery.counts(connection):
            wrong = wrong or bool(count.missing or count.doubled)
            text = (
                f"{count.consumer}: {count.logged} logged, {count.acted} acted on, {count.held} waiting, "
                f"{count.dead} dead, {count.missing} missing, {count.doubled} doubled"
            )
            _say(as_json, count.row(), text)
        if double := await redelivery.twice(connection):
            wrong = True
            _say(as_json, {"twice": double}, f"twice in the log: {', '.join(map(str, double))}")

    _guarded(work, as_json)
    if wrong:
        raise typer.Exit(1)
