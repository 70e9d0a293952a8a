"""What waiting costs: 10,000 runs of ten waits each, so 100,000 timers; memory while all wait, lateness of those due.

One wait of each run ends within two minutes of the measurement, the others in an hour. Prints `name value unit`. Starts
LinkFlow in a folder of its own and removes it. `--runs N` for fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = Path(tempfile.mkdtemp(prefix="linkflow-timers-"))
SCRATCH.chmod(0o711)  # else a server started by root is kept below /var/lib
os.environ.setdefault("BENCH_HOME", str(SCRATCH))
sys.path.insert(0, str(ROOT))

from subgraphs.engine.run import Event, StepSucceeded, StepWaiting, decode
from tests.benchmarks import figures
from tests.benchmarks import peer as product

WAITS, CALLERS, SPREAD = 10, 16, 120.0


def waiting() -> product.Json:
    """A webhook, and ten waits side by side: the first as long as the call says, the others an hour."""
    waits = [product.node("soon", "wait", {"duration": "{{ item.body.seconds }}"})]
    waits += [product.node(f"late{n}", "wait", {"duration": "PT1H"}) for n in range(1, WAITS)]
    connections = [{"from": "hook", "to": each["id"]} for each in waits]
    return {"format": "linkflow/1", "nodes": [product.hook("now"), *waits], "connections": connections}


def start(url: str, runs: int, until: float) -> None:
    """Starts the runs by their webhook; the short waits end spread over SPREAD seconds from `until` on."""
    chance, left = random.Random(7), list(range(runs))

    def call() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", product.PORT)
        while left:
            try:
                left.pop()
            except IndexError:
                break
            seconds = round(max(until - time.time(), 1.0) + chance.random() * SPREAD, 3)
            body = json.dumps({"seconds": seconds})
            connection.request("POST", url, body, {"content-type": "application/json"})
            answered = connection.getresponse()
            if answered.status != 200:
                raise RuntimeError(f"{answered.status} {answered.read()!r}")
            answered.read()

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def memory(peer: product.Peer) -> float:
    """MB (PSS) of the subgraphs' process, where the engine is."""
    family = figures.family(peer.procs[0].pid)
    return sum(figures.proportional(pid) for pid, part in family.items() if part == "subgraphs")


async def lateness(home: str, workflow: str) -> list[float]:
    """Seconds by which the short waits ended after their time, from the journal."""
    import asyncpg

    from subgraphs.platform.settings import Settings

    connection = await asyncpg.connect(Settings.load({"LINKFLOW_HOME": home}).dsn("lf_admin"))
    try:
        rows = await connection.fetch(
            "select j.run, j.data from execution.journal j join execution.run r on r.tenant = j.tenant and "
            "r.id = j.run where r.workflow = $1::uuid order by j.run, j.version",
            workflow,
        )
    finally:
        await connection.close()
    due: dict[Any, int] = {}
    late: list[float] = []
    for row in rows:
        for event in decode(bytes(row["data"])):
            found = _late(due, row["run"], event)
            late += [] if found is None else [found]
    return sorted(late)


def _late(due: dict[Any, int], run: Any, event: Event) -> float | None:
    if isinstance(event, StepWaiting) and event.node == "soon" and event.until is not None:
        due[run] = event.until
    elif isinstance(event, StepSucceeded) and event.node == "soon" and run in due:
        return (event.at - due.pop(run)) / 1e6
    return None


def measure(peer: product.Peer, runs: int) -> None:
    peer.start()
    peer.install()
    peer.wait_served()
    time.sleep(5)
    idle = memory(peer)
    until = time.time() + runs / 150 + 20
    began = time.time()
    start(peer.url("timers"), runs, until)
    figures.say("runs started", runs / (time.time() - began), "runs/s")
    time.sleep(max(0.0, until - time.time() - 5))
    figures.say("timers waiting", float(peer.sql("select count(*) from execution.timer")[0][0]), "")
    figures.say("memory over idle while all wait", memory(peer) - idle, "MB PSS")
    time.sleep(max(0.0, until + SPREAD + 5 - time.time()))
    late = asyncio.run(lateness(str(peer.dir / "home"), peer.ids["timers"]))
    figures.say("timers fired", float(len(late)), f"of {runs}")
    for share in (50, 95, 99, 100):
        figures.say(f"lateness p{share}", late[min(len(late) - 1, len(late) * share // 100)] * 1000, "ms")
    figures.say("early", float(sum(each < 0 for each in late)), "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    runs = parser.parse_args().runs
    product.CASES["timers"] = waiting()
    peer = product.Peer()
    try:
        peer.fresh()
        measure(peer, runs)
    finally:
        peer.stop()
        for folder in (SCRATCH, figures.SCRATCH):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
