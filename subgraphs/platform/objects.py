"""Large payloads by claim check: the bytes go to the object store, a reference travels.

Objects are named by their content (tenant, SHA-256), so storing one twice is storing it once, and a reference proves
what it points at. A reference that travels carries a seal over tenant, hash and size: one that somebody made up, or
took from another tenant, is refused wherever it is read. An object is on disk before the reference to it can be
committed. Who commits a reference commits a row of `bus.blob` with it (`hold`), and `release` ends that; what nobody
holds after an hour is garbage or the orphan of a crash and is swept aside, and a week later for good. A sweep cannot
take what somebody is about to refer to: storing it again makes it young, and the sweep looks again after its move.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from subgraphs.platform.database import Database
from subgraphs.platform.security import SecretBox

if TYPE_CHECKING:
    from subgraphs.platform.settings import Settings

log = logging.getLogger("linkflow.objects")

GRACE = timedelta(hours=1)
KEPT = timedelta(days=7)
SWEEP_SECONDS = 600.0
ASIDE = "aside"
SEALED = "objects.reference"
SEAL_BYTES = 18
HELD = """
select b.tenant, b.sha256 from unnest($1::uuid[], $2::text[]) q(tenant, sha256)
join bus.blob b on b.tenant = q.tenant and b.sha256 = q.sha256 group by 1, 2
"""
RELEASE = "delete from bus.blob where tenant = $1 and holder = any($2::uuid[])"


class Damaged(Exception):
    """A stored object is not what its name says, or is gone: `reference` names it."""

    def __init__(self, reference: Ref, reason: str) -> None:
        super().__init__(f"object {reference.sha256} {reason}")
        self.reference = reference


class Forged(Damaged):
    """A reference whose seal is not ours for this tenant: made up, changed, or another tenant's."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A payload in the object store: SHA-256 of its bytes (hex) and their number.

    `seal` proves that we gave the reference to this tenant. A reference that came as JSON is read only with it; None
    stands for one that our own code made from a row that only we write.
    """

    sha256: str
    size: int
    seal: str | None = field(default=None, compare=False)

    def json(self) -> dict[str, Any]:
        return {"$ref": self.sha256, "size": self.size, **({"seal": self.seal} if self.seal is not None else {})}

    @classmethod
    def of(cls, value: Any) -> Ref | None:
        """The reference a JSON value is, or None when it is an ordinary value."""
        if not isinstance(value, Mapping) or value.keys() - {"seal"} != {"$ref", "size"}:
            return None
        sha256, size, seal = value["$ref"], value["size"], value.get("seal", "")
        if not isinstance(sha256, str) or not isinstance(size, int) or len(sha256) != 64 or not isinstance(seal, str):
            return None
        return cls(sha256, size, seal) if all(digit in "0123456789abcdef" for digit in sha256) else None


class Near:
    """The last payloads read, by tenant and hash, up to so many bytes: ten nodes read one from the store once."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0
        self.hits = self.misses = 0
        self._kept: OrderedDict[tuple[UUID, str], bytes] = OrderedDict()

    def get(self, key: tuple[UUID, str]) -> bytes | None:
        found = self._kept.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return found

    def keep(self, key: tuple[UUID, str], data: bytes) -> None:
        """What is larger than half of all the room is not kept: it would cost everything else its place."""
        if key in self._kept or len(data) > self.most // 2:
            return
        self._kept[key] = data
        self.bytes += len(data)
        while self.bytes > self.most:
            self.bytes -= len(self._kept.popitem(last=False)[1])


class Objects:
    """The object store of an installation, on local disk under `home/objects`."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.folder = settings.home / "objects"
        self.near = Near(settings.near_cache_bytes)
        self._box: SecretBox | None = None
        self._reading: dict[tuple[UUID, str], asyncio.Future[bytes]] = {}
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
        sha256 = await asyncio.to_thread(_digest, data)
        name = _name(tenant, sha256)
        while True:
            await self._write(name, data)
            try:
                await asyncio.to_thread(self._make_durable, name)
            except FileNotFoundError:
                continue  # the sweep moved an old one away between the two
            return Ref(sha256, len(data), self._seal(tenant, sha256, len(data)))

    async def _write(self, name: str, data: bytes) -> None:
        try:
            await self.store.put_async(name, data, mode="create")
        except AlreadyExistsError:
            try:
                if (await self.store.head_async(name))["size"] == len(data):
                    return
            except FileNotFoundError:
                pass
            await self.store.put_async(name, data, mode="overwrite")  # of what a power cut left of a former attempt

    async def get(self, tenant: UUID, ref: Ref) -> bytes:
        """The bytes; raises Damaged when they are gone or not what the reference says, Forged when it is not ours."""
        if ref.seal is not None and not hmac.compare_digest(ref.seal, self._seal(tenant, ref.sha256, ref.size)):
            log.error("objects.forged", extra={"tenant": str(tenant), "object": ref.sha256})
            raise Forged(ref, "is not this tenant's to name")
        key = (tenant, ref.sha256)
        if (kept := self.near.get(key)) is not None:
            return kept
        if (under_way := self._reading.get(key)) is not None:
            return await asyncio.shield(under_way)
        reading = self._reading[key] = asyncio.ensure_future(self._read(tenant, ref))
        reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    async def _read(self, tenant: UUID, ref: Ref) -> bytes:
        name = _name(tenant, ref.sha256)
        try:
            data = bytes(await (await self.store.get_async(name)).bytes_async())
        except FileNotFoundError:
            data = await self._bring_back(name, ref)
        if await asyncio.to_thread(_digest, data) != ref.sha256:
            raise Damaged(ref, "is damaged")
        self.near.keep((tenant, ref.sha256), data)
        return data

    def _seal(self, tenant: UUID, sha256: str, size: int) -> str:
        if self._box is None:
            self._box = SecretBox.from_settings(self.settings)
        signature = self._box.sign(f"{tenant}/{sha256}/{size}".encode(), SEALED)
        return base64.urlsafe_b64encode(signature[:SEAL_BYTES]).decode()

    def hold(self, tenant: UUID, ref: Ref, holder: UUID) -> tuple[str, tuple[Any, ...]]:
        """The row that keeps an object, for the commit that stores the reference to it (Ingress.rows, Unit.rows)."""
        return "bus.blob", (tenant, ref.sha256, holder)

    async def release(self, tenant: UUID, holders: Sequence[UUID]) -> None:
        """These hold nothing any more: they were deleted. Objects that nobody else holds are the next sweeps'."""
        await self.database.engine.execute(RELEASE, tenant, list(holders))

    async def sweep(self, grace: timedelta = GRACE, kept: timedelta = KEPT) -> int:
        """Puts aside objects that nobody holds and that are older than `grace`; deletes those aside since `kept`."""
        now, swept = datetime.now(UTC), 0
        async for found in self.store.list():
            ages = {entry["path"]: now - entry["last_modified"] for entry in found}
            aside = [name for name, age in ages.items() if name.startswith(f"{ASIDE}/") and age > kept]
            old = [name for name, age in ages.items() if not name.startswith(f"{ASIDE}/") and age > grace]
            held = await self._held([*old, *(name.removeprefix(f"{ASIDE}/") for name in aside)])
            for name in aside:
                if name.removeprefix(f"{ASIDE}/") in held:
                    await asyncio.to_thread(self._restore, name.removeprefix(f"{ASIDE}/"))
                else:
                    await self.store.delete_async(name)
            for name in old:
                if name not in held:
                    swept += await asyncio.to_thread(self._put_aside, name, now - grace)
        return swept

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                if swept := await self.sweep():
                    log.info("objects.swept", extra={"objects": swept})
            except Exception:
                log.exception("objects.sweep_failed")

    async def _held(self, names: Sequence[str]) -> set[str]:
        """Those of the objects that somebody holds."""
        if not names:
            return set()
        parts = [name.split("/") for name in names]
        tenants, hashes = [UUID(part[0]) for part in parts], [part[2] for part in parts]
        rows = await self.database.engine.fetch(HELD, tenants, hashes)
        return {_name(row["tenant"], row["sha256"]) for row in rows}

    def _put_aside(self, name: str, before: datetime) -> bool:
        """Moves an object out of the way, unless somebody stored it again since it was looked at: then it is young, and
        the reference to it about to be committed. Looked at after the move, so that no such store can slip between."""
        source, target = self.folder / name, self.folder / ASIDE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        if datetime.fromtimestamp(target.stat().st_mtime, UTC) >= before:
            self._restore(name)
            return False
        os.utime(target)
        return True

    def _restore(self, name: str) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / ASIDE / name).rename(target)

    async def _bring_back(self, name: str, ref: Ref) -> bytes:
        """An object swept aside whose reference turned up after all."""
        aside = self.folder / ASIDE / name
        if not await asyncio.to_thread(aside.exists):
            raise Damaged(ref, "is gone")
        log.error("objects.orphan_was_needed", extra={"object": name})
        await asyncio.to_thread(self._restore, name)
        return await asyncio.to_thread((self.folder / name).read_bytes)

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
