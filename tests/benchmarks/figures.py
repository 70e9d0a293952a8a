"""The figures of the whole product on this machine: start, memory by part, live streams, one small query.

Run by `make bench`. Prints one line a figure: name, value, unit. Starts LinkFlow in a folder of its own and removes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = Path(tempfile.mkdtemp(prefix="linkflow-bench-"))
SCRATCH.chmod(0o711)  # else a server started by root is kept below /var/lib
os.environ.setdefault("BENCH_HOME", str(SCRATCH))
sys.path.insert(0, str(ROOT))

from tests.benchmarks import peer as product

SUBSCRIBERS, RUNS = 150, 20
WATCH = """subscription($id: ID!) { executionEvents(executionId: $id) { seq type last node status } }"""
START = """mutation($input: StartExecutionInput!) { startExecution(input: $input) {
  __typename ... on Execution { id } ... on Problem { code message } } }"""
WATCHED = product.line(
    product.node("begin", "manual"),
    product.node("pause", "wait", {"duration": "PT12S"}),
    *(product.put(f"n{i}", value=f"{{{{ {i} }}}}") for i in range(1, 11)),
)


def say(name: str, value: float | str, unit: str = "") -> None:
    shown = f"{value:.2f}" if isinstance(value, float) else value
    print(f"{name:48} {shown:>10} {unit}", flush=True)


def family(pid: int) -> dict[int, str]:
    """The process and its descendants: pid to what it is."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        each = todo.pop()
        try:
            words = (Path("/proc") / str(each) / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        found[each] = part_of(words)
        todo += parents.get(each, [])
    return found


def part_of(words: str) -> str:
    for part, mark in (
        ("database", "postgres"),
        ("gateway", "server.mjs"),
        ("edge", "caddy"),
        ("sandbox", "sandbox"),
        ("subgraphs", " serve"),
        ("launcher", " dev"),
    ):
        if mark in words:
            return part
    return "other"


def proportional(pid: int) -> float:
    """Memory in MB, shared pages divided among those who share them."""
    try:
        for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def processor(pids: dict[int, str]) -> dict[str, float]:
    """Seconds of processor time by part."""
    spent: dict[str, float] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for pid, part in pids.items():
        try:
            fields = (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        spent[part] = spent.get(part, 0) + (int(fields[11]) + int(fields[12])) / tick
    return spent


def memory(stack: product.Peer) -> None:
    parts: dict[str, float] = {}
    for pid, part in family(stack.procs[0].pid).items():
        parts[part] = parts.get(part, 0) + proportional(pid)
    for part, used in sorted(parts.items()):
        say(f"idle memory, {part}", used, "MB PSS")
    say("idle memory, all parts", sum(parts.values()), "MB PSS  (goal: 600 at most)")


def small_query(stack: product.Peer, rounds: int = 400) -> None:
    family_ = family(stack.procs[0].pid)
    for _ in range(50):
        stack.graphql("{ me { id } }")
    before, began = processor(family_), time.perf_counter()
    for _ in range(rounds):
        stack.graphql("{ me { id } }")
    took = time.perf_counter() - began
    say("{ me { id } } through the edge, 1 client", took / rounds * 1000, "ms")
    for part, spent in sorted(processor(family_).items()):
        say(f"  processor, {part}", (spent - before.get(part, 0)) / rounds * 1000, "ms a request")


async def follow(socket: Any, runs: list[str]) -> int:
    """Subscribes to every run on one socket; the number of events, all of them in order and without a gap."""
    for at, run in enumerate(runs):
        payload = {"query": WATCH, "variables": {"id": run}}
        await socket.send(json.dumps({"id": str(at), "type": "subscribe", "payload": payload}))
    next_seq = [1] * len(runs)
    last = [False] * len(runs)
    open_ = len(runs)
    while open_:
        message = json.loads(await socket.recv())
        if message["type"] == "ping":
            await socket.send('{"type":"pong"}')
        elif message["type"] == "complete":
            open_ -= 1
            if not last[int(message["id"])]:
                raise RuntimeError("a stream ended without its last event")
        elif message["type"] == "next":
            at = int(message["id"])
            event = message["payload"]["data"]["executionEvents"]
            if event["seq"] != next_seq[at]:
                raise RuntimeError(f"run {at}: event {event['seq']} came where {next_seq[at]} was due")
            next_seq[at] += 1
            last[at] = event["last"]
        else:
            raise RuntimeError(f"unexpected: {message}")
    return sum(next_seq) - len(runs)


async def streams(stack: product.Peer) -> None:
    import websockets

    made = stack.graphql(product.CREATE, {"input": {"name": "watched", "definition": WATCHED}})["createWorkflow"]
    ask = {"workflowId": made["id"], "revision": made["draft"]["number"]}
    released = stack.graphql(product.PUBLISH, {"input": ask})["publishRelease"]
    if released["__typename"] != "Release":
        raise RuntimeError(f"not published: {released}")
    sockets = []
    for _ in range(SUBSCRIBERS):
        socket = await websockets.connect(
            product.BASE.replace("http", "ws") + "/graphql",
            subprotocols=[websockets.Subprotocol("graphql-transport-ws")],
        )
        await socket.send(json.dumps({"type": "connection_init", "payload": stack.auth}))
        acknowledged = json.loads(await socket.recv())
        if acknowledged["type"] != "connection_ack":
            raise RuntimeError(f"refused: {acknowledged}")
        sockets.append(socket)
    runs = [stack.graphql(START, {"input": {"workflowId": made["id"]}})["startExecution"]["id"] for _ in range(RUNS)]
    pids = family(stack.procs[0].pid)
    before, began = processor(pids), time.perf_counter()
    counts = await asyncio.gather(*(follow(socket, runs) for socket in sockets))
    took = time.perf_counter() - began
    for socket in sockets:
        await socket.close()
    events = sum(counts)
    say(
        f"{SUBSCRIBERS} subscribers x {RUNS} runs: events delivered",
        str(events),
        "all in order, none missing or repeated",
    )
    say("  rate, the wait of 12 s included", events / took, "events/s")
    for part, spent in sorted(processor(pids).items()):
        say(f"  processor, {part}", (spent - before.get(part, 0)) / events * 1000, "ms an event")


def main() -> None:
    stack = product.Peer()
    try:
        stack.fresh()
        say("first start, empty database, to first answer", stack.start(), "s")
        stack.install()
        stack.wait_served()
        stack.stop()
        began = time.time()
        stack.start()
        stack.after_restart()
        say("start to first served webhook", time.time() - began, "s  (goal: 10 at most)")
        time.sleep(10)
        memory(stack)
        small_query(stack)
        asyncio.run(streams(stack))
    finally:
        stack.stop()
        shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    main()
