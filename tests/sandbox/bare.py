# ruff: noqa: E501 - a payload is easier to judge on one line
"""Runs as a child process: the guest with its own file and process library at hand and the engine as the only wall.

One layer of the real thing, alone: no renamed library, no harness that hides, no seccomp, no resource limits.
Prints the guest's own report as JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from sandbox import artifact, limits, module
from sandbox.engine import WasmerEngine

ATTEMPTS = r"""
import * as std from "qjs:std";
import * as os from "qjs:os";
const report = {};
const tried = (name, attempt) => {
  try { const got = attempt(); report[name] = got === null || got === undefined ? "nothing" : String(got).slice(0, 200); }
  catch (fault) { report[name] = "threw " + fault; }
};
for (const path of ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/cmdline", "/proc/self/mem", "/dev/mem", "FILE",
                    "../../../../../../..FILE", "/app/../../../..FILE", "/workspace/../../../etc/passwd", "/dev/../etc/passwd",
                    "/proc/self/root/etc/passwd", "/sys/kernel/version", "//etc/passwd", "/etc/passwd/"]) {
  tried("load " + path, () => std.loadFile(path));
  tried("open " + path, () => { const fd = os.open(path, os.O_RDONLY); return fd < 0 ? null : "fd " + fd; });
}
for (const path of ["/", "/etc", "/root", "/home", "/proc", "/tmp", "/usr"]) tried("dir " + path, () => os.readdir(path)[0].join());
tried("environ", () => JSON.stringify(std.getenviron()));
tried("getenv", () => std.getenv("LINKFLOW_CANARY") ?? std.getenv("PATH"));
tried("exec", () => os.exec(["/bin/true"]));
tried("popen", () => std.popen("id", "r"));
tried("kill", () => os.kill(1, 9));
tried("fork", () => os.fork());
tried("socket", () => os.socket(2, 1));
tried("urlGet", () => std.urlGet("http://127.0.0.1:PORT/"));
tried("worker", () => new os.Worker("/workspace/harness.js"));
tried("dup", () => os.dup(1));
tried("symlink", () => os.symlink("FILE", "/tmp/link"));
tried("realpath", () => os.realpath("/proc/self/exe"));
tried("cwd", () => os.getcwd()[0]);
for (let fd = 3; fd < 40; fd++) tried("fd " + fd, () => { const b = new ArrayBuffer(64); const n = os.read(fd, b, 0, 64); return n > 0 ? "read " + n : null; });
std.out.puts(JSON.stringify(report)); std.out.flush();
"""


async def main() -> bytes:
    harness = ATTEMPTS.replace("FILE", sys.argv[2]).replace("PORT", sys.argv[3]).encode()
    engine = WasmerEngine(Path(sys.argv[1]))
    wasm = module.as_command(artifact.guest_wasm(), artifact.ARGV, memory=limits.LINEAR_MEMORY)
    await engine.prepare(wasm, {"/workspace/harness.js": harness})
    instance = await engine.warm()
    await instance.feed(b"")
    return b"".join([chunk async for chunk in instance.output()])


if __name__ == "__main__":
    os.write(1, asyncio.run(main()))
    os._exit(0)
