"""Turns the QuickJS reactor module into a command module with our argv, our memory ceiling and nothing else exported.

The published guest is a WASI reactor: a host must call `_initialize`, `malloc` and `qjs_init_argv` itself, which the
engine cannot do. The rewrite appends one function that builds argv in guest memory and calls them, exports it as
`_start`, and drops every other export. Binary layout: WebAssembly Core Specification 1.0, chapter 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAGIC = b"\x00asm\x01\x00\x00\x00"
PAGE = 65536
CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, EXPORT, START, CODE = 0, 1, 2, 3, 4, 5, 7, 8, 10
ALLOWED_IMPORTS = frozenset(
    [
        "environ_get", "environ_sizes_get", "clock_time_get", "fd_close", "fd_fdstat_get", "fd_fdstat_set_flags",
        "fd_prestat_get", "fd_prestat_dir_name", "fd_read", "fd_readdir", "fd_seek", "fd_write",
        "path_create_directory", "path_filestat_get", "path_filestat_set_times", "path_open", "path_remove_directory",
        "path_rename", "path_unlink_file", "poll_oneoff", "proc_exit",
    ]
)  # fmt: skip


class ModuleError(ValueError):
    """The module is not one we know how to run: broken, or asking for more than the allow-list grants."""


@dataclass(frozen=True, slots=True)
class Section:
    id: int
    data: bytes


def uleb(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def sleb(value: int) -> bytes:
    """Signed LEB128, for i32.const."""
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        done = (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40)
        out.append(byte if done else byte | 0x80)
        if done:
            return bytes(out)


class Reader:
    """A cursor over bytes; reading past the end is a ModuleError."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ModuleError("The module ends in the middle of a section.")
        self.at += size
        return self.data[self.at - size : self.at]

    def uleb(self) -> int:
        value = shift = 0
        while shift < 35:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise ModuleError("A number in the module is longer than 32 bits.")

    def name(self) -> bytes:
        return self.take(self.uleb())

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)


def sections(module: bytes) -> Iterator[Section]:
    if module[:8] != MAGIC:
        raise ModuleError("This is not a WebAssembly core module of version 1.")
    reader = Reader(module[8:])
    while reader.at < len(reader.data):
        kind = reader.byte()
        yield Section(kind, reader.take(reader.uleb()))


def imported_functions(section: bytes) -> list[bytes]:
    """Names of the imported functions; anything outside the allow-list is refused."""
    reader, names = Reader(section), []
    for _ in range(reader.uleb()):
        module, name, kind = reader.name(), reader.name(), reader.byte()
        if module != b"wasi_snapshot_preview1" or name.decode() not in ALLOWED_IMPORTS or kind != 0:
            raise ModuleError(f"The module imports {module.decode()}.{name.decode()}, which is not granted.")
        reader.uleb()
        names.append(name)
    return names


def exported(section: bytes) -> dict[bytes, tuple[int, int]]:
    reader = Reader(section)
    return {reader.name(): (reader.byte(), reader.uleb()) for _ in range(reader.uleb())}


def with_memory_ceiling(section: bytes, pages: int) -> bytes:
    """The memory section with `pages` as its maximum; shared and 64-bit memories are refused."""
    reader = Reader(section)
    count, flags, minimum = reader.uleb(), reader.byte(), reader.uleb()
    if count != 1 or flags > 1:
        raise ModuleError("The module must have exactly one plain 32-bit memory.")
    if minimum > pages:
        raise ModuleError(f"The module starts with {minimum} pages of memory, the ceiling is {pages}.")
    return b"\x01\x01" + uleb(minimum) + uleb(pages)


def appended(section: bytes, entry: bytes) -> bytes:
    """A vector section with one more entry."""
    reader = Reader(section)
    return uleb(reader.uleb() + 1) + reader.rest() + entry


def _call(function: int) -> bytes:
    return b"\x10" + uleb(function)


def _const(value: int) -> bytes:
    return b"\x41" + sleb(value)


def _store(offset: int, value: bytes) -> bytes:
    """i32.store of `value` at local 0 plus `offset`."""
    return b"\x20\x00" + value + b"\x36\x02" + uleb(offset)


def start_code(argv: Sequence[bytes], *, initialize: int, malloc: int, run: int, leave: int) -> bytes:
    """Body of `_start`: initialise, lay argv out in allocated memory, run, leave with the exit code."""
    strings = b"".join(part + b"\0" for part in argv)
    strings += b"\0" * (-len(strings) % 4)
    pointers = 4 * (len(argv) + 1)
    body = _call(initialize) + _const(pointers + len(strings)) + _call(malloc) + b"\x21\x00"
    offset = pointers
    for position, part in enumerate(argv):
        body += _store(4 * position, b"\x20\x00" + _const(offset) + b"\x6a")
        offset += len(part) + 1
    body += _store(4 * len(argv), _const(0))
    for position in range(0, len(strings), 4):
        word = int.from_bytes(strings[position : position + 4], "little", signed=True)
        body += _store(pointers + position, _const(word))
    body += _const(len(argv)) + b"\x20\x00" + _call(run) + _call(leave)
    code = b"\x01\x01\x7f" + body + b"\x0b"
    return uleb(len(code)) + code


def as_command(module: bytes, argv: Sequence[str], *, memory: int, renamed: dict[bytes, bytes] | None = None) -> bytes:
    """The reactor `module` as a command that runs `argv` with at most `memory` bytes of linear memory.

    `renamed` replaces NUL-terminated names in the data section by others of the same length: the harness learns the
    new names, user code does not, so the guest's own file and process library cannot be imported by its usual name.
    """
    parts = {part.id: part.data for part in sections(module) if part.id != CUSTOM}
    if START in parts:
        raise ModuleError("A start section would run before any deadline is set.")
    imports, exports = imported_functions(parts[IMPORT]), exported(parts[EXPORT])
    try:
        initialize, malloc, run = (exports[name][1] for name in (b"_initialize", b"malloc", b"qjs_init_argv"))
        memory_index = exports[b"memory"][1]
        leave = imports.index(b"proc_exit")
    except (KeyError, ValueError) as missing:
        raise ModuleError(f"The module has no {missing}; it is not the QuickJS reactor.") from None
    types, functions = Reader(parts[TYPE]).uleb(), Reader(parts[FUNCTION]).uleb()
    code = start_code([a.encode() for a in argv], initialize=initialize, malloc=malloc, run=run, leave=leave)
    parts[TYPE] = appended(parts[TYPE], b"\x60\x00\x00")
    parts[FUNCTION] = appended(parts[FUNCTION], uleb(types))
    parts[CODE] = appended(parts[CODE], code)
    parts[MEMORY] = with_memory_ceiling(parts[MEMORY], memory // PAGE)
    start = len(imports) + functions
    parts[EXPORT] = b"\x02\x06memory\x02" + uleb(memory_index) + b"\x06_start\x00" + uleb(start)
    for old, new in (renamed or {}).items():
        parts[11] = _renamed(parts[11], old, new)
    return MAGIC + b"".join(bytes([kind]) + uleb(len(data)) + data for kind, data in parts.items())


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    found = data.count(b"\0" + old + b"\0")
    if len(old) != len(new) or found != 1:
        raise ModuleError(f"The name {old.decode()} stands {found} times in the module, once was expected.")
    return data.replace(b"\0" + old + b"\0", b"\0" + new + b"\0")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
