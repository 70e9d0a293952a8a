"""The command `linkflow`. Subgraphs are found by name at run time; each command imports only what it needs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from subgraphs.platform.cli_bus import bus
from subgraphs.platform.domain import Invalid
from subgraphs.platform.settings import CHECKOUT, Settings
from subgraphs.platform.telling import guarded

Found = TypeVar("Found")
WORKING = ("execution", "executor")
SUPERGRAPH = CHECKOUT / "supergraph"
SEED_PORTS = {
    "auth": 8001,
    "user": 8002,
    "execution": 8003,
    "workflow": 8004,
    "node": 8005,
    "tenant": 8006,
    "executor": 8007,
    "webhook": 8008,
}
"""Where a subgraph that is served alone listens, unless told otherwise."""

main = typer.Typer(
    name="linkflow",
    help="LinkFlow: workflows, made and run through one GraphQL supergraph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
main.add_typer(bus)
Json = Annotated[bool, typer.Option("--json", help="One JSON value a line instead of text.")]
Names = Annotated[list[str] | None, typer.Argument(help="Subgraphs; all when none is named.")]


def subgraph_names() -> list[str]:
    """The subgraphs there are: folders with a service."""
    return sorted(path.parent.name for path in (CHECKOUT / "subgraphs").glob("*/service.py"))


def _chosen(names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    for name in names or ():
        if name not in known:
            raise Invalid(f"There is no subgraph {name}.", field=name, next_step=f"One of: {', '.join(known)}.")
    return list(names or known)


def _settings() -> Settings:
    return Settings.load(os.environ)


def _run(task: Coroutine[Any, Any, Found]) -> Found:
    return asyncio.run(task)


@main.command()
def dev(
    as_json: Json = False,
    demo: Annotated[bool, typer.Option(help="Run the example once everything is up.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong, and when everything is up.")] = False,
) -> None:
    """Start everything on this machine, run the example, stay up until Ctrl-C."""
    from subgraphs.platform.launcher import Launcher
    from subgraphs.platform.telling import teller

    def words(settings: Settings) -> list[str] | None:
        if not demo:
            return None
        return [sys.executable, "-m", "subgraphs.platform.cli", "seed", *(["--json"] if as_json else [])]

    async def up() -> None:
        fixed = frozenset(name for name in os.environ if name.startswith("LINKFLOW_") and os.environ[name])
        await Launcher(_settings(), fixed=fixed, say=teller(as_json, quiet=quiet)).run(words)

    guarded(lambda: _run(up()), as_json)


@main.command()
def serve(
    names: Names = None, port: Annotated[int | None, typer.Option(help="Instead of the setting.")] = None
) -> None:
    """Serve subgraphs, all or those named, in one process. One alone listens on its own port (8001 to 8018)."""

    def run() -> None:
        chosen = _chosen(names, subgraph_names())
        _serve(chosen, port or own_port(chosen, os.environ))

    guarded(run)


def own_port(names: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """Where a subgraph that is served alone listens; None when the setting decides."""
    return SEED_PORTS.get(names[0]) if len(names) == 1 and not environment.get("LINKFLOW_SERVE_PORT") else None


@main.command()
def work(port: Annotated[int, typer.Option(help="Port of health and metrics; any that is free, if 0.")] = 0) -> None:
    """Run executions only: a worker beside processes that serve, with its share of the partitions and no graph."""
    guarded(lambda: _serve([name for name in WORKING if name in subgraph_names()], port, doors=False))


def _serve(names: Sequence[str], port: int | None, *, doors: bool = True) -> None:
    from subgraphs.platform.server import application, ground_of
    from subgraphs.platform.serving import serve as run

    settings = _settings()
    settings.prepare()
    if settings.crash_at:
        _arm(settings.crash_at)
    ground = ground_of(settings)
    subgraphs = [import_module(f"subgraphs.{name}.service").build(ground) for name in names]
    run(ground, application(ground, subgraphs, doors=doors), settings, settings.serve_port if port is None else port)


def _arm(crash_at: str) -> None:
    from subgraphs.platform import crash

    try:
        crash.arm(crash_at)
    except ValueError as error:
        raise Invalid(f"LINKFLOW_CRASH_AT={crash_at!r} does not fit: {error}.", field="LINKFLOW_CRASH_AT") from error


@main.command()
def migrate(names: Names = None, as_json: Json = False) -> None:
    """Bring the database up to date: roles, schemas, then each history."""

    def run() -> None:
        from subgraphs.platform.migrate import migrate as bring_up

        settings = _settings()
        settings.prepare()
        for done in _run(bring_up(settings, names or ())):
            if as_json:
                print(json.dumps({"schema": done.schema, "before": done.before, "after": done.after}))
            else:
                same = done.before == done.after
                print(f"{done.schema}: {done.after}" + ("" if same else f" (was {done.before or 'empty'})"))

    guarded(run, as_json)


@main.command()
def schema(
    names: Names = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file is stale.")] = False,
    as_json: Json = False,
) -> None:
    """Write the SDL of each subgraph to supergraph/subgraphs/, the schemas of its events to supergraph/events/."""

    def run() -> None:
        stale = []
        for name in _chosen(names, subgraph_names()):
            files = {f"subgraphs/{name}.graphql": sdl(name), f"events/{name}.json": event_schemas(name)}
            changed = [path for path, text in files.items() if text and not _has(SUPERGRAPH / path, text)]
            if changed:
                stale.append(name)
            for path in changed if not check else ():
                (SUPERGRAPH / path).parent.mkdir(parents=True, exist_ok=True)
                (SUPERGRAPH / path).write_text(files[path])
            state = "same" if not changed else "stale" if check else "written"
            print(json.dumps({"subgraph": name, "state": state}) if as_json else f"{name}: {state}")
        if check and stale:
            raise Invalid(f"Stale: {', '.join(stale)}.", next_step="Run `make generate` and commit what it writes.")

    guarded(run, as_json)


def sdl(name: str) -> str:
    """The SDL a subgraph publishes, ending in one newline."""
    return str(import_module(f"subgraphs.{name}.schema").schema.as_str()).strip() + "\n"


def event_schemas(name: str) -> str:
    """The JSON Schemas of the events a subgraph publishes; nothing if it publishes none."""
    from subgraphs.platform.facts import contract

    published = import_module(f"subgraphs.{name}.events").PUBLISHED
    return contract(published) if published else ""


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


@main.command()
def compose() -> None:
    """Compose supergraph/supergraph.graphql from the subgraphs' SDL."""

    def run() -> None:
        import subprocess

        from subgraphs.platform import programs

        settings = _settings()
        settings.prepare()
        programs.install_gateway_packages(settings, settings.home / "logs" / "npm.log")
        words = [str(programs.node(settings)), "compose.mjs", "../rover.yaml", "../supergraph/supergraph.graphql"]
        done = subprocess.run(words, cwd=programs.ROUTER, env=programs.node_environment(settings), check=False)
        if done.returncode:
            raise Invalid("Composition failed.", next_step="Mend the schemas named above; then `make generate`.")

    guarded(run)


@main.command()
def seed(as_json: Json = False) -> None:
    """Through the public API: demo tenant, example workflow, a real GitHub push, its run live."""

    def run() -> None:
        from subgraphs.platform.demo import Demo
        from subgraphs.platform.telling import teller

        _run(Demo(_settings(), teller(as_json)).run())

    guarded(run, as_json)


@main.command()
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Install what can be installed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="With --repair: say only what is wrong.")] = False,
    settings: Annotated[bool, typer.Option("--settings", help="List what can be set.")] = False,
    as_json: Json = False,
) -> None:
    """Tell what is there, what is missing and how to get it."""

    def run() -> None:
        from subgraphs.platform import doctor as examination

        if settings:
            print(_settings_table(as_json))
            return
        loaded = _settings()
        if repair:
            examination.repair(loaded)
            if quiet:
                return
        findings = _run(examination.examine(loaded))
        for finding in findings:
            print(json.dumps(finding.row()) if as_json else finding.line())
        if not repair and any(finding.state == "missing" for finding in findings):
            raise typer.Exit(1)

    guarded(run, as_json)


@main.command()
def rebuild(
    name: Annotated[str, typer.Argument(help="The subgraph whose lists are made anew.")] = "execution",
    switch: Annotated[bool, typer.Option("--switch", help="Put right what differs; else only tell.")] = False,
    as_json: Json = False,
) -> None:
    """Make a list anew from what happened, beside the one in use, and compare. Exit code 1 if they differ."""

    def run() -> None:
        from subgraphs.platform.server import ground_opened

        made = _chosen([name], [each for each in subgraph_names() if _rebuilds(each)])[0]
        told = import_module(f"subgraphs.{made}.rebuild")

        def tell(state: Any) -> None:
            print(json.dumps(state.row()) if as_json else state.line(), flush=True)

        async def work() -> Any:
            async with ground_opened(_settings()) as ground:
                return await told.rebuild(ground, tell, switch=switch)

        if (done := _run(work())).differing > done.put_right:
            raise typer.Exit(1)

    guarded(run, as_json)


def _rebuilds(name: str) -> bool:
    return (CHECKOUT / "subgraphs" / name / "rebuild.py").exists()


def _settings_table(as_json: bool) -> str:
    rows: list[Mapping[str, Any]] = [
        {"name": name, "default": _plain(default), "says": says} for name, default, says in Settings.described()
    ]
    if as_json:
        return "\n".join(json.dumps(row) for row in rows)
    return "\n".join(f"{row['name']:<34} {row['default'] or '-'!s:<14} {row['says']}" for row in rows)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    main(prog_name="linkflow")
