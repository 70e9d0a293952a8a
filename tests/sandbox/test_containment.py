"""The layers one by one: the locked process alone, the engine alone, the module rewrite, the compiled artifact."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import artifact, module
from sandbox.frames import depth
from tests.sandbox.conftest import ROOT, Canary, Running, start

HERE = Path(__file__).parent


def child(script: str, *words: str) -> dict[str, object]:
    environment = {"PYTHONPATH": str(ROOT), "LINKFLOW_CANARY": "canary-5d1f0c7e-never-inside"}
    command = [sys.executable, str(HERE / script), *words]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_locked_worker_is_refused_every_way_out(server: Running, guest_cache: Path, canary: Canary) -> None:
    told = child("locked.py", str(artifact.folder(guest_cache)), str(canary.file), str(canary.port))
    results = told["results"]
    assert isinstance(results, dict)
    assert results.pop("rlimit_data") == "MemoryError None"
    assert {name: result for name, result in results.items() if not result.endswith(" 1")} == {}
    assert len(results) >= 30
    assert told["serves"] is True
    assert canary.visits == []
    assert not Path("/tmp/lf-escaped").exists()


def test_the_engine_alone_shows_nothing_of_the_host(scratch: Path, canary: Canary) -> None:
    told = child("bare.py", str(scratch / "bare"), str(canary.file), str(canary.port))
    text = json.dumps(told)
    assert canary.secret not in text
    assert "root:x" not in text
    assert canary.visits == []
    for name, result in told.items():
        if name.startswith(("load ", "open ", "fd ")):
            assert result == "nothing", (name, result)
    assert told["environ"] == "{}"
    assert told["getenv"] == "nothing"
    for name in ("exec", "popen", "kill", "fork", "socket", "urlGet", "worker", "dup", "symlink", "realpath"):
        assert str(told[name]).startswith("threw TypeError"), (name, told[name])
    assert told["dir /tmp"] == ".,.."


def test_workers_hold_nothing_and_cannot_hurt(server: Running) -> None:
    """No environment of ours, no descriptors but its own, own session, no new privileges, a filter on."""
    for pid in server.workers():
        environment = Path(f"/proc/{pid}/environ").read_bytes() if os.geteuid() == 0 else b""
        assert b"LINKFLOW" not in environment
        assert b"PATH=" not in environment
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert os.getsid(pid) == pid
        limits = Path(f"/proc/{pid}/limits").read_text()
        for name in ("Max file size", "Max core file size"):
            (line,) = [line for line in limits.splitlines() if line.startswith(name)]
            assert line.split()[-3:-1] == ["0", "0"], line


def leb_section(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + module.uleb(len(data)) + data


def rewritten(**sections: bytes | None) -> bytes:
    """The real guest with some sections replaced (None: removed)."""
    known = {"import": module.IMPORT, "memory": module.MEMORY, "export": module.EXPORT, "start": module.START}
    parts = {part.id: part.data for part in module.sections(artifact.guest_wasm()) if part.id != module.CUSTOM}
    for name, data in sections.items():
        kind = known[name.rstrip("_")]
        if data is None:
            parts.pop(kind)
        else:
            parts[kind] = data
    return module.MAGIC + b"".join(leb_section(kind, data) for kind, data in parts.items())


def imports(name: str, host: str = "wasi_snapshot_preview1", kind: int = 0) -> bytes:
    return b"\x01" + module.uleb(len(host)) + host.encode() + module.uleb(len(name)) + name.encode() + bytes([kind, 0])


@pytest.mark.parametrize(
    ("wasm", "reason"),
    [
        (b"", "core module"),
        (b"\x00asm\x0d\x00\x01\x00", "core module"),
        (module.MAGIC + b"\x01\x7f", "ends in the middle"),
        (module.MAGIC + b"\x01" + b"\xff" * 6, "longer than 32 bits"),
        (rewritten(start=b"\x00"), "start section"),
        (rewritten(import_=imports("sock_open")), "sock_open"),
        (rewritten(import_=imports("fd_read", "wasix_32v1")), "wasix_32v1.fd_read"),
        (rewritten(import_=imports("memory", "env", 2)), "env.memory"),
        (rewritten(memory=b"\x01\x03\x01\x02"), "plain 32-bit memory"),
        (rewritten(memory=b"\x01\x04\x01"), "plain 32-bit memory"),
        (rewritten(memory=b"\x01\x00" + module.uleb(65536)), "the ceiling is"),
        (rewritten(export=b"\x00"), "not the QuickJS reactor"),
    ],
)
def test_a_module_that_asks_for_more_is_refused(wasm: bytes, reason: str) -> None:
    with pytest.raises(module.ModuleError, match=reason):
        module.as_command(wasm, ["qjs"], memory=2**27)


def test_the_rewritten_module_exports_only_what_is_needed() -> None:
    wasm = module.as_command(artifact.guest_wasm(), artifact.ARGV, memory=2**27)
    parts = {part.id: part.data for part in module.sections(wasm)}
    assert set(module.exported(parts[module.EXPORT])) == {b"memory", b"_start"}
    assert parts[module.MEMORY] == b"\x01\x01" + module.uleb(34) + module.uleb(2048)


@pytest.mark.parametrize("harm", ["flip", "cut", "add", "remove"])
def test_a_compiled_guest_that_was_touched_is_not_loaded(
    server: Running, guest_cache: Path, scratch: Path, harm: str
) -> None:
    copy = scratch / f"touched-{harm}"
    shutil.copytree(artifact.folder(guest_cache), copy)
    (compiled,) = list(copy.rglob("*.bin"))
    compiled.chmod(0o600)
    data = bytearray(compiled.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        compiled.write_bytes(data)
    elif harm == "cut":
        compiled.write_bytes(data[:-1])
    elif harm == "add":
        (copy / "compiled" / "more.bin").write_bytes(b"x")
    else:
        compiled.unlink()
    assert artifact.load(artifact.folder(guest_cache)).wasm
    with pytest.raises(artifact.ArtifactError, match="delete the folder"):
        artifact.load(copy)


def test_a_server_whose_guest_was_touched_says_so_and_does_not_serve(
    server: Running, guest_cache: Path, scratch: Path
) -> None:
    cache = scratch / "poisoned"
    shutil.copytree(guest_cache, cache)
    harness = artifact.folder(cache) / "harness.js"
    harness.chmod(0o600)
    harness.write_bytes(harness.read_bytes().replace(b"os.remove", b"os.remov_"))
    with pytest.raises(AssertionError, match=r"(?s)ended with 1.*is not what was built"):
        start(scratch / "poisoned.sock", cache)
    assert not (scratch / "poisoned.sock").exists()


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("[" * 300 + "]" * 300, 300),
        ('{"a":' * 250 + "1" + "}" * 250, 250),
        ("[" + ",".join(["[]"] * 1000) + "]", 2),
        ('["' + "[" * 1000 + '"]', 1),
        ('["\\"' + "[" * 1000 + '\\\\"]', 1),
        ('["a\\n' + "{" * 1000 + '", "\\\\", [[]]]', 3),
    ],
)
async def test_depth_is_counted_outside_strings(text: str, levels: int) -> None:
    json.loads(text)
    assert await depth(text.encode(), 10**6 if levels > 10 else 200) >= levels
    assert min(await depth(text.encode(), 200), 201) == min(levels, 201) or await depth(text.encode(), 200) == levels
