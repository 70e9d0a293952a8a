"""`python -m sandbox --socket PATH`: compiles the guest where that has not been done, then serves."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

from sandbox.pool import Pool
from sandbox.process import StartFailed
from sandbox.server import Server, SocketTaken

COMPILE_SECONDS = 120


def main() -> int:
    asked = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    if sys.platform != "linux":
        logging.getLogger("sandbox").error("The sandbox holds its workers in with Linux's seccomp; this is no Linux.")
        return 1
    cache = asked.cache.resolve()
    if asked.compile:
        return _compile(cache)
    try:
        asyncio.run(_serve(asked.socket.absolute(), _compiled(cache), asked.workers))
    except (SocketTaken, StartFailed, subprocess.SubprocessError, OSError) as fault:
        logging.getLogger("sandbox").error("%s", fault)
        return 1
    return 0


async def _serve(path: Path, built: Path, workers: int) -> None:
    await Server(path, Pool(built, workers)).serve()


def _compiled(cache: Path) -> Path:
    """The folder of the compiled guest, compiled first where that has not been done."""
    command = [sys.executable, "-m", "sandbox", "--compile", "--cache", str(cache)]
    root = Path(__file__).resolve().parent.parent
    said = subprocess.run(command, check=True, timeout=COMPILE_SECONDS, cwd=root, stdout=subprocess.PIPE, text=True)
    return Path(said.stdout.strip())


def _compile(cache: Path) -> int:
    """In a process of its own, so that neither the compiler nor what only it imports stays in the server's memory."""
    from sandbox import artifact

    if not artifact.folder(cache).is_dir():
        from sandbox.worker import compile_guest

        asyncio.run(compile_guest(cache))
    sys.stdout.write(f"{artifact.folder(cache)}\n")
    sys.stdout.flush()
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Runs untrusted code for one local client.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--socket", type=Path, help="path of the unix socket to serve at (mode 0600)")
    what.add_argument("--compile", action="store_true", help="only compile the guest into the cache")
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "linkflow-sandbox"
    parser.add_argument("--cache", type=Path, default=default, help="folder of the compiled guest")
    parser.add_argument("--workers", type=int, default=2, choices=range(1, 65), metavar="N", help="jobs at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
