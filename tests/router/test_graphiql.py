"""GraphiQL at /graphiql: whole without the internet, and able to query and to watch. Chromium looks at it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from subgraphs.platform.processes import spawn, stop
from tests.router.clients import PATIENCE
from tests.router.conftest import Rig, token

SUBSCRIPTION = "subscription { ticks(count: 3) { seq caller owner { name } } }"


class Page:
    """A page in Chromium, through its DevTools protocol."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.calls = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        self.calls += 1
        await self.connection.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        async with asyncio.timeout(PATIENCE):
            while True:
                message = json.loads(await self.connection.recv())
                if message.get("id") == self.calls:
                    return message.get("result")
                self.events.append(message)

    async def run(self, script: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not (value := await self.run(script)):
                await asyncio.sleep(0.05)
        return value

    def faults(self) -> list[Any]:
        """Errors of the console and of the network, exceptions, and what the content policy refused."""
        return [
            event
            for event in self.events
            if event["method"] in {"Runtime.exceptionThrown", "Network.loadingFailed"}
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
        ]

    def asked(self) -> set[str]:
        """Every address the page loaded something from."""
        urls = (e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent")
        return {url for url in urls if not url.startswith(("data:", "blob:"))}


@pytest.fixture
def chromium(tmp_path: Path) -> Any:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--remote-debugging-port=0", f"--user-data-dir={tmp_path}", "--window-size=1400,850", "about:blank"]
    with (tmp_path / "chromium.log").open("wb") as log:
        process = spawn([program, *flags], env=dict(os.environ), cwd=tmp_path, output=log)
    yield process, tmp_path / "chromium.log"
    stop(process, (signal.SIGTERM, 3.0))


@pytest.fixture
async def page(chromium: tuple[subprocess.Popen[bytes], Path], client: httpx.AsyncClient) -> AsyncIterator[Page]:
    process, log = chromium
    async with asyncio.timeout(PATIENCE):
        while not (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", log.read_text(errors="replace"))):
            assert process.poll() is None, log.read_text(errors="replace")
            await asyncio.sleep(0.05)
    tabs = (await client.get(f"http://127.0.0.1:{found[1]}/json/list")).json()
    address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    async with websockets.connect(address, max_size=None, ping_interval=None, proxy=None) as connection:
        page = Page(connection)
        for domain in ("Page", "Runtime", "Network", "Log"):
            await page.call(f"{domain}.enable")
        yield page


async def answered(page: Page, query: str, pattern: str) -> str:
    """Put `query` into the editor, press the button, wait until the answer shows `pattern`."""
    editor = "document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror"
    await page.run(f"{editor}.setValue({json.dumps(query)})")
    kind = "subscription" if query.startswith("subscription") else "query"
    await page.until(f"{editor}.operations?.[0]?.operation === '{kind}'")  # it reads along a little later
    await page.run("document.querySelector('.graphiql-execute-button').click()")
    shown = "document.querySelector('.result-window .CodeMirror').CodeMirror.getValue()"
    try:
        found: str = await page.until(f"(/{pattern}/.test({shown})) && {shown}")
    except TimeoutError:
        raise AssertionError(f"the answer shows {await page.run(shown)}; the page says {page.faults()}") from None
    return found


async def test_it_is_whole_without_the_internet_and_works(rig: Rig, page: Page, tmp_path: Path) -> None:
    await page.call("Page.navigate", url=rig.url("edge", "/graphiql"))
    await page.until("document.querySelector('.graphiql-execute-button') !== null")
    await answered(page, "{ caller }", "anonymous")
    await page.run(
        f"""(() => {{ const field = document.getElementById('token'); field.value = {json.dumps(token("ann"))};
        field.dispatchEvent(new Event('input')); }})()"""
    )
    assert '"ann"' in await answered(page, "{ caller me { name } }", "name of ann")
    await answered(page, SUBSCRIPTION, r'"seq": 3[\s\S]*"name": "name of u3"')
    picture = base64.b64decode((await page.call("Page.captureScreenshot"))["data"])
    (Path(os.environ.get("GRAPHIQL_PICTURE") or tmp_path / "graphiql.png")).write_bytes(picture)
    await answered(page, "{ session: me { accessToken: name } }", "name of ann")
    await page.until("document.getElementById('token').value === 'name of ann'")  # a session's token is taken over
    assert page.faults() == []
    assert {httpx.URL(url).host for url in page.asked()} == {"127.0.0.1"}
    assert {httpx.URL(url).port for url in page.asked()} == {rig.ports["edge"]}


async def test_its_libraries_are_a_closed_list(rig: Rig, client: httpx.AsyncClient) -> None:
    page = (await client.get(rig.url("edge", "/graphiql"))).text
    for path in re.findall(r'(?:src|href)="(/graphiql/[^"]+)"', page):
        answer = await client.get(rig.url("edge", path))
        assert answer.status_code == 200, path
        assert len(answer.content) > 100
    assert re.findall(r'(?:src|href)="(?!/graphiql/)', page) == []
    policy = (await client.get(rig.url("edge", "/graphiql"))).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
