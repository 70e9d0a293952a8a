"""What expressions, pure nodes and outgoing calls cost: one line per figure, `name value unit`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from subgraphs.engine.expression import ExpressionError, compiled, survey
from subgraphs.executor.runner import Runner
from subgraphs.platform.egress import Egress
from tests.subgraphs.engine.expression.test_bombs import LIMITS, SCOPE
from tests.subgraphs.executor.steps import request
from tests.subgraphs.platform.egress.evil import serving


def cpu(work: Callable[[], Any], times: int = 1) -> float:
    """Milliseconds of CPU for one round, the best of five."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - started) / times)
    return best * 1000


def bomb(source: str) -> float:
    template = compiled("{{ " + source + " }}")
    started = time.process_time()
    try:
        template.evaluate(SCOPE)
    except ExpressionError:
        return (time.process_time() - started) * 1000
    raise AssertionError(f"the budget let this pass: {source}")


async def parallel(width: int, times: int) -> tuple[float, float]:
    """(wall of `width` calls of 50 ms side by side, CPU of one call, the server's half included), in ms."""
    async with serving() as server:
        egress = Egress([server.host])
        best = float("inf")
        for _ in range(times):
            started = time.perf_counter()
            await asyncio.gather(*(egress.request("GET", server.url("/slow/0.05")) for _ in range(width)))
            best = min(best, time.perf_counter() - started)
        began = time.process_time()
        for _ in range(500):
            await egress.request("POST", server.url(), body=b"{}")
        one = (time.process_time() - began) / 500
        await egress.close()
    return best * 1000, one * 1000


def main() -> None:
    item = {"item": {"a": {"b": {"c": 5}}, "n": 2}, "items": [{"x": n} for n in range(1000)]}
    field = compiled({"name": "{{ item.a.b.c }}"})
    print(f"expression_field_1000_items {cpu(lambda: [field.evaluate(item) for _ in range(1000)]):.2f} ms-cpu")
    mapped = compiled("{{ items.map(i, i.x) }}")
    print(f"expression_map_over_1000 {cpu(lambda: mapped.evaluate(item), 20):.3f} ms-cpu")
    sources = iter(range(10**9))
    print(f"expression_check_one {cpu(lambda: survey(f'{{{{ item.a{next(sources)}.b > 1 }}}}'), 200):.3f} ms-cpu")
    print(f"expression_worst_bomb {max(map(bomb, LIMITS)):.1f} ms-cpu")
    runner = Runner()
    parameters = {"fields": [{"name": "total", "value": "{{ item.n * 2 + 1 }}"}]}
    one = request("core.set", parameters, {"n": 1})
    print(f"pure_node_one_expression {cpu(lambda: runner.run_pure(one), 1000):.4f} ms-cpu")
    many = request("core.set", parameters, *({"n": n} for n in range(1000)))
    print(f"pure_node_1000_items {cpu(lambda: runner.run_pure(many)):.2f} ms-cpu")
    wall, call = asyncio.run(parallel(20, 5))
    print(f"http_20_parallel_of_50ms {wall:.1f} ms")
    print(f"http_call_with_server {call:.3f} ms-cpu")


if __name__ == "__main__":
    main()
