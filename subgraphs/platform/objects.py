"""Large payloads by claim check: the bytes go to the object store, a reference travels.

Objects are named by their content (tenant, SHA-256), so storing one twice is storing it once, and a reference proves
what it points at. An object is on disk before the reference to it can be committed. Who commits a reference commits a
row of `bus.blob` with it (`hold`); what nobody holds after an hour is an orphan of a crash and is swept aside, and a
week later for good.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from subgraphs.platform.database import Database

if TYPE_CHECKING:
    from subgraphs.platform.settings import Settings

log = logging.getLogger("linkflow.objects")

GRACE = timedelta(hours=1)
KEPT = timedelta(days=7)
SWEEP_SECONDS = 600.0
ASIDE = "aside"


class Damaged(Exception):
    """A stored object is not what its name says, or is gone: `reference` names it."""

    def __init__(self, reference: Ref, reason: str) -> None:
        super().__init__(f"object {reference.sha256} {reason}")
        self.reference = reference


@dataclass(frozen=True, slots=True)
class Ref:
    """A payload in the object store: SHA-256 of its bytes (hex) and their number."""

    sha256: str
    size: int

    def json(self) -> dict[str, Any]:
        return {"$ref": self.sha256, "size": self.size}

    @classmethod
    def of(cls, value: Any) -> Ref | None:
        """The reference a JSON value is, or None when it is an ordinary value."""
        if not isinstance(value, Mapping) or value.keys() != {"$ref", "size"}:
            return None
        sha256, size = value["$ref"], value["size"]
        if not isinstance(sha256, str) or not isinstance(size, int) or len(sha256) != 64:
            return None
        return cls(sha256, size) if all(digit in "0123456789abcdef" for digit in sha256) else None


class Objects:
    """The object store of an installation, on local disk under `home/objects`."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.folder = settings.home / "objects"
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store = LocalStore(prefix=self.folder, mkdir=True)
        self._task = asyncio.create_task(self._sweeping(), name="objects")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def check_in(self, tenant: UUID, data: bytes) -> bytes | Ref:
        """The bytes themselves up to `claim_check_bytes`, a reference to them above."""
        return data if len(data) <= self.settings.claim_check_bytes else await self.put(tenant, data)

    async def put(self, tenant: UUID, data: bytes) -> Ref:
        """Stores the bytes; when it returns they survive a power cut."""
        reference = Ref(await asyncio.to_thread(_digest, data), len(data))
        name = _name(tenant, reference.sha256)
        for attempt in ("create", "overwrite"):
            try:
                await self.store.put_async(name, data, mode="create" if attempt == "create" else "overwrite")
            except AlreadyExistsError:
                if (await self.store.head_async(name))["size"] != len(data):
                    continue  # what a power cut left of a former attempt
            break
        await asyncio.to_thread(self._make_durable, name)
        return reference

    async def get(self, tenant: UUID, ref: Ref) -> bytes:
        """The bytes; raises Damaged when they are gone or not what the reference says."""
        name = _name(tenant, ref.sha256)
        try:
            data = bytes(await (await self.store.get_async(name)).bytes_async())
        except FileNotFoundError:
            data = await self._bring_back(name, ref)
        if await asyncio.to_thread(_digest, data) != ref.sha256:
            raise Damaged(ref, "is damaged")
        return data

    def hold(self, tenant: UUID, ref: Ref, holder: UUID) -> tuple[str, tuple[Any, ...]]:
        """The row that keeps an object, for the commit that stores the reference to it (Ingress.rows, Unit.rows)."""
        return "bus.blob", (tenant, ref.sha256, holder)

    async def sweep(self, grace: timedelta = GRACE, kept: timedelta = KEPT) -> int:
        """Puts aside objects that nobody holds and that are older than `grace`; deletes those aside since `kept`."""
        now = datetime.now(UTC)
        swept = 0
        async for found in self.store.list():
            for entry in found:
                name, age = entry["path"], now - entry["last_modified"]
                if name.startswith(f"{ASIDE}/"):
                    if age > kept:
                        await self.store.delete_async(name)
                elif age > grace and not await self._held(name):
                    await asyncio.to_thread(self._put_aside, name)
                    swept += 1
        return swept

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                if swept := await self.sweep():
                    log.info("objects.swept", extra={"objects": swept})
            except Exception:
                log.exception("objects.sweep_failed")

    async def _held(self, name: str) -> bool:
        tenant, _, sha256 = name.split("/")
        query = "select 1 from bus.blob where tenant = $1 and sha256 = $2 limit 1"
        return await self.database.engine.fetchval(query, UUID(tenant), sha256) is not None

    def _put_aside(self, name: str) -> None:
        source, target = self.folder / name, self.folder / ASIDE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        os.utime(target)

    async def _bring_back(self, name: str, ref: Ref) -> bytes:
        """An object swept aside whose reference turned up after all."""
        aside = self.folder / ASIDE / name
        if not await asyncio.to_thread(aside.exists):
            raise Damaged(ref, "is gone")
        log.error("objects.orphan_was_needed", extra={"object": name})
        target = self.folder / name
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(aside.rename, target)
        return await asyncio.to_thread(target.read_bytes)

    def _make_durable(self, name: str) -> None:
        """The store does not fsync: neither the file nor the folders that lead to it."""
        path = self.folder / name
        os.utime(path)  # an old orphan that is wanted again is young again to the sweep
        _fsync(path)
        for folder in path.parents:
            _fsync(folder)
            if folder == self.folder:
                break


def _name(tenant: UUID, sha256: str) -> str:
    return f"{tenant}/{sha256[:2]}/{sha256}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
