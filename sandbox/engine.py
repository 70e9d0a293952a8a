"""The engine interface and its Wasmer implementation; the only file that speaks to wasmer_sdk.

The engine isolates memory, files, environment and network. It has no deadline that ends a computing guest and no
memory ceiling of its own: those are the worker process's and the server's (see worker.py, pool.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Protocol

import wasmer_sdk

from sandbox.limits import OUTPUT_BYTES

ENDINGS: Final = {0: "exit", 1: "reject"}


class Instance(Protocol):
    """One isolated guest, used for one job: fed once, read to its end, closed."""

    async def feed(self, data: bytes) -> None:
        """Writes all of its standard input and ends it."""

    def output(self) -> AsyncIterator[bytes]:
        """Its standard output as it comes."""

    async def ended(self) -> str:
        """How it ended: `exit` by itself, `reject` when QuickJS stopped over an unhandled rejection, else `trap`."""

    async def close(self) -> None:
        """Gives its memory and file system back."""


class Engine(Protocol):
    async def prepare(self, wasm: bytes, files: dict[str, bytes]) -> None:
        """Loads the guest module; compiles it where no compiled form is cached. Each instance gets its own `files`."""

    async def warm(self) -> Instance:
        """A fresh instance, started and waiting for its input."""


class WasmerInstance:
    def __init__(self, sandbox: wasmer_sdk.Sandbox, process: wasmer_sdk.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("The engine started a guest without pipes.")
        self._sandbox, self._process = sandbox, process
        self._stdin, self._stdout = process.stdin, process.stdout

    async def feed(self, data: bytes) -> None:
        await self._stdin.write(data)
        await self._stdin.close()

    async def output(self) -> AsyncIterator[bytes]:
        async for chunk in self._stdout:
            yield chunk

    async def ended(self) -> str:
        try:
            output = await self._process.wait()
        except wasmer_sdk.WasmerError:  # the engine's word for a trap: stack exhausted, unreachable, out of bounds
            return "trap"
        return ENDINGS.get(output.exit_code, "trap")

    async def close(self) -> None:
        await self._sandbox.close()


class WasmerEngine:
    """wasmer-sdk 0.5: one client, a private in-memory file system per instance, network disabled, empty environment."""

    def __init__(self, cache: Path) -> None:
        self._client = wasmer_sdk.Wasmer(cache_root=cache, output_bytes=OUTPUT_BYTES)
        self._package: wasmer_sdk.Package | None = None
        self._files: dict[str, bytes] = {}

    async def prepare(self, wasm: bytes, files: dict[str, bytes]) -> None:
        command = wasmer_sdk.PackageCommandDefinition(module="guest")
        definition = wasmer_sdk.PackageDefinition(modules={"guest": wasm}, commands={"guest": command})
        self._package = await self._client.packages.create(definition)
        self._files = files  # not into the package: what lies there cannot be removed by the guest

    async def warm(self) -> Instance:
        if self._package is None:
            raise RuntimeError("The engine is asked for an instance before it has a guest.")
        sandbox = await self._client.sandboxes.create(
            packages=[self._package], files=self._files, network="disabled", env={}
        )
        command = sandbox.command(self._package)
        process = await command.spawn(stdin="pipe", stdout="pipe", stderr="discard")
        return WasmerInstance(sandbox, process)
