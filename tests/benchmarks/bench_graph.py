"""What an operation costs at a subgraph: CPU time of the serving process per request, uvicorn and all checks included.

Run: `python tests/benchmarks/bench_graph.py`. Prints `name value unit`, one a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

REQUESTS = 3_000
CONNECTIONS = 8

QUERIES = (
    ("me_id", "{ me { id } }"),
    ("me_profile", "{ me { id name email role organisation { id name } } }"),
)


def main() -> None:
    """Serves auth, tenant and user in a child process; loads it from this one, over sockets."""
    from subgraphs.platform.postgres import Postgres

    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as folder:
        os.chmod(folder, 0o711)  # noqa: S103 - the database's user passes through when we are root
        server = Postgres(Path(folder) / "postgres", durable=False)
        with (Path(folder) / "postgres.log").open("ab") as log:
            server.start(log)
            try:
                with _serving(Path(folder), server.dsn("postgres")) as (settings, child):
                    asyncio.run(_measure(settings, child))
            finally:
                server.stop()
    refusals()


def refusals() -> None:
    """The dearest refusal of the corpus of bombs: CPU time of one document that is new to the schema."""
    from tests.resolvers.library import Shelf, graph
    from tests.resolvers.test_limits import BOMBS

    async def dearest() -> tuple[float, str]:
        library, found = graph(), []
        for name, (query, _) in BOMBS.items():
            tries = []
            for _ in range(3):
                before = time.process_time()
                await library.execute(query, {}, context_value=Shelf())
                tries.append(time.process_time() - before)
            found.append((min(tries) * 1000, name))
        return max(found)

    milliseconds, name = asyncio.run(dearest())
    print(f"graph_dearest_refusal_cpu {milliseconds:.1f} ms ({name})")


@contextlib.contextmanager
def _serving(folder: Path, address: str) -> Iterator[tuple[object, int]]:
    from subgraphs.platform.migrate import migrate
    from tests.conftest import make_settings

    settings = make_settings(folder / "home", address)
    asyncio.run(migrate(settings))
    child = os.fork()
    if child == 0:
        _serve(settings)
        os._exit(0)
    try:
        _wait(settings.serve_port)
        yield settings, child
    finally:
        os.kill(child, 15)
        os.waitpid(child, 0)


def _serve(settings: object) -> None:
    from importlib import import_module

    import uvicorn

    from subgraphs.platform.server import application, ground_of

    ground = ground_of(settings)  # type: ignore[arg-type]
    built = [import_module(f"subgraphs.{name}.service").build(ground) for name in ("auth", "tenant", "user")]
    uvicorn.run(
        application(ground, built),
        port=settings.serve_port,  # type: ignore[attr-defined]
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        lifespan="on",
    )


def _wait(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit("the subgraphs did not start")


def _cpu(process: int) -> float:
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def _measure(settings: object, child: int) -> None:
    import httpx

    from subgraphs.platform.hop import HopGuard
    from tests.subgraphs.graph_client import PASSWORD, SIGN_UP

    guard = HopGuard.from_settings(settings)  # type: ignore[arg-type]
    base = f"http://127.0.0.1:{settings.serve_port}"  # type: ignore[attr-defined]
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:

        async def identity(token: str | None) -> str:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return (await http.get("/auth/identity", headers=headers)).headers["x-linkflow-identity"]

        def signed(path: str, query: str, who: str, variables: object = None) -> tuple[bytes, dict[str, str]]:
            body = orjson.dumps({"query": query, "variables": variables})
            proof = guard.proof("POST", path, body, who)
            return body, {"content-type": "application/json", "x-linkflow-identity": who, "x-linkflow-hop": proof}

        given = {"email": "a@example.com", "password": PASSWORD, "name": "Ada", "organisation": "Engines"}
        body, headers = signed("/auth/graphql", SIGN_UP, await identity(None), {"input": given})
        answer = (await http.post("/auth/graphql", content=body, headers=headers)).json()
        token = answer["data"]["signUp"]["accessToken"]
        who = await identity(token)
        loads = [(name, "POST /user/graphql", *signed("/user/graphql", query, who)) for name, query in QUERIES]
        loads.append(("identity", "GET /auth/identity", b"", {"authorization": f"Bearer {token}"}))
        for name, line, body, headers in loads:
            milliseconds, rate = await _load(settings.serve_port, line, body, headers, child)  # type: ignore[attr-defined]
            print(f"graph_{name}_cpu {milliseconds:.3f} ms")
            print(f"graph_{name}_rate {rate:.0f} requests/s")


async def _load(port: int, line: str, body: bytes, headers: dict[str, str], child: int) -> tuple[float, float]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{line} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body

    async def connection(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            found = await reader.readexactly(length)
            if b'"errors"' in found or not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(found.decode())
        writer.close()

    async def all_of(count: int) -> None:
        await asyncio.gather(*(connection(count // CONNECTIONS) for _ in range(CONNECTIONS)))

    await all_of(400)
    before, started = _cpu(child), time.perf_counter()
    await all_of(REQUESTS)
    seconds = time.perf_counter() - started
    return (_cpu(child) - before) / REQUESTS * 1000, REQUESTS / seconds


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
