"""What Tenant tells others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from subgraphs.platform.domain import Event
from subgraphs.tenant.domain import Tenant

PROVISIONED = "tenant.tenant.provisioned.v1"
REFUSED = "tenant.tenant.refused.v1"
RENAMED = "tenant.tenant.renamed.v1"
WITHDRAWN = "tenant.tenant.withdrawn.v1"


class Events:
    """Makes Tenant's events; the partition follows from the tenant."""

    def __init__(self, partition_of: Callable[[UUID], int]) -> None:
        self._partition_of = partition_of

    def provisioned(self, tenant: Tenant, request: Mapping[str, Any]) -> Event:
        """Carries on what the sign-up asked for: User needs it for its step."""
        return self._event(PROVISIONED, tenant.id, {**request, "tenantName": tenant.name, "slug": tenant.slug})

    def refused(self, tenant: UUID, sign_up: str, reason: str) -> Event:
        return self._event(REFUSED, tenant, {"signUpId": sign_up, "reason": reason})

    def renamed(self, tenant: Tenant) -> Event:
        return self._event(RENAMED, tenant.id, {"name": tenant.name})

    def withdrawn(self, tenant: UUID, sign_up: str) -> Event:
        return self._event(WITHDRAWN, tenant, {"signUpId": sign_up})

    def _event(self, type: str, tenant: UUID, data: dict[str, Any]) -> Event:
        data = {**data, "tenantId": str(tenant)}
        return Event(type=type, subject=str(tenant), data=data, tenant=tenant, partition=self._partition_of(tenant))
