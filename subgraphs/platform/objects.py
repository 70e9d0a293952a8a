"""Large payloads by claim check. (Interface.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Ref:
    """A payload in the object store: SHA-256 of its bytes (hex) and their number."""

    sha256: str
    size: int

    def json(self) -> dict[str, Any]:
        return {"$ref": self.sha256, "size": self.size}


class Objects:
    async def put(self, tenant: UUID, data: bytes) -> Ref:
        raise NotImplementedError

    async def get(self, tenant: UUID, ref: Ref) -> bytes:
        raise NotImplementedError

    async def check_in(self, tenant: UUID, data: bytes) -> bytes | Ref:
        raise NotImplementedError

    def hold(self, tenant: UUID, ref: Ref, holder: UUID) -> tuple[str, tuple[Any, ...]]:
        raise NotImplementedError
