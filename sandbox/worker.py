"""The untrusted side: one process that holds the engine and runs one job at a time, each in a fresh instance.

It talks frames over the socket it inherits and relays what the guest says unread: the server
trusts no word from here. Started with an empty environment in its own session; once warm it takes its own rights away.
"""

from __future__ import annotations

import asyncio
import ctypes
import encodings.idna  # noqa: F401  all imports happen before the lock
import os
import resource
import shutil
import socket
import sys
import time
import traceback
from pathlib import Path

from sandbox import artifact, limits, seccomp
from sandbox.engine import Engine, Instance, WasmerEngine
from sandbox.frames import frame, read_frame


def main(built: str, parent: str, channel: str) -> None:
    """Runs until the server closes the channel; always leaves by os._exit, for the engine's threads may not."""
    code = 0
    try:
        seccomp.die_with_parent(int(parent))
        asyncio.run(_serve(Path(built), socket.socket(fileno=int(channel))))
    except BaseException:  # noqa: BLE001  the boundary of the process: say why, then leave without unwinding threads
        traceback.print_exc(file=sys.stderr)
        code = 1
    finally:
        os._exit(code)


async def _serve(folder: Path, channel: socket.socket) -> None:
    built = artifact.load(folder)
    engine = WasmerEngine(built.compiled)
    await engine.prepare(built.wasm, {"/workspace/harness.js": built.harness})
    await _rehearse(engine)
    reader, writer = await asyncio.open_connection(sock=channel)
    instance = await engine.warm()
    del built
    lock_down()
    writer.write(frame({"op": "ready"}))
    await writer.drain()
    while (job := await read_frame(reader, limits.FRAME_BYTES)) is not None:
        head, body = job
        await _run(instance, head, body, writer)
        instance = await engine.warm()
        writer.write(frame({"op": "ready"}))
    os._exit(0)


async def compile_guest(cache: Path) -> None:
    """Builds the guest and runs it once, which is when the engine compiles and stores; then seals the result."""
    building = artifact.building_folder(cache)
    try:
        built = artifact.write_sources(building)
        engine = WasmerEngine(built.compiled)
        await engine.prepare(built.wasm, {"/workspace/harness.js": built.harness})
        await _rehearse(engine)
        artifact.seal(building, artifact.folder(cache))
    except BaseException:
        shutil.rmtree(building)
        raise


async def _rehearse(engine: Engine) -> None:
    """One whole run before the rights go: every lazy import, thread and mapping that a run needs exists afterwards."""
    instance = await engine.warm()
    grant = b'{"nonce":"","logBytes":100,"logLines":10}\n'
    job = b'{"code":"return items","mode":"all","items":[],"now":"2000-01-01T00:00:00Z","seed":1}\n'
    await instance.feed(grant + job)
    said = b"".join([chunk async for chunk in instance.output()])
    if said != b"R[]\n" or await instance.ended() != "exit":
        raise RuntimeError(f"The guest did not answer the rehearsal: {said[:200]!r}")
    await instance.close()


async def _run(instance: Instance, head: dict[str, object], body: bytes, writer: asyncio.StreamWriter) -> None:
    """Feeds one job and relays what the guest writes, to its end. RLIMIT_CPU stands behind the server's kill."""
    cpu = time.process_time() + float(str(head["cpu"])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    feeding = asyncio.create_task(instance.feed(body))
    async for chunk in instance.output():
        writer.write(frame({"op": "out"}, chunk))
        await writer.drain()
    ending = await instance.ended()
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    await instance.close()
    writer.write(frame({"op": "end", "ending": ending}))


def lock_down() -> None:
    """Resource limits, then the system call filter. Nothing the process needs later may be missing by now.

    From here on standard error is /dev/null: the engine prints whole back traces of traps, and where that print fails
    it loses the trap itself.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    ctypes.CDLL(None).malloc_trim(0)
    data = _data_bytes() + limits.LINEAR_MEMORY + limits.PROCESS_SLACK
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.OPEN_FILES, limits.OPEN_FILES))
    seccomp.lock()


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("The kernel does not say how much data this process holds.")
