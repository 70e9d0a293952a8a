"""What Tenant tells others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told
from subgraphs.tenant.domain import Tenant

PROVISIONED = "tenant.tenant.provisioned.v1"
REFUSED = "tenant.tenant.refused.v1"
RENAMED = "tenant.tenant.renamed.v1"
WITHDRAWN = "tenant.tenant.withdrawn.v1"


class Provisioned(Told):
    """The tenant is there. What the sign-up asked for is carried on: User needs it for its step."""

    sign_up_id: UUID
    user_id: UUID
    tenant_id: UUID
    organisation_id: UUID
    email: str
    name: str
    organisation: str
    locale: str
    time_zone: str
    tenant_name: str
    slug: str


class Refused(Told):
    """The tenant cannot be made as it was asked for."""

    sign_up_id: UUID
    tenant_id: UUID
    reason: str


class Renamed(Told):
    """The tenant has another name."""

    tenant_id: UUID
    name: str


class Withdrawn(Told):
    """The tenant of an abandoned sign-up is gone."""

    sign_up_id: UUID
    tenant_id: UUID


PUBLISHED: dict[str, type[Told]] = {
    PROVISIONED: Provisioned,
    REFUSED: Refused,
    RENAMED: Renamed,
    WITHDRAWN: Withdrawn,
}


class SignUpRequested(Read):
    sign_up_id: UUID
    user_id: UUID
    organisation_id: UUID
    email: str
    name: str
    organisation: str
    locale: str
    time_zone: str


class SignUpAbandoned(Read):
    sign_up_id: UUID


SIGN_UP_REQUESTED = "auth.signup.requested.v1"
SIGN_UP_ABANDONED = "auth.signup.abandoned.v1"
READ: dict[str, type[Read]] = {SIGN_UP_REQUESTED: SignUpRequested, SIGN_UP_ABANDONED: SignUpAbandoned}


class Events:
    """Makes Tenant's events; the partition follows from the tenant."""

    def __init__(self, partition_of: Callable[[UUID], int]) -> None:
        self._partition_of = partition_of

    def provisioned(self, tenant: Tenant, request: SignUpRequested) -> Event:
        """Carries on what the sign-up asked for: User needs it for its step."""
        asked: dict[str, Any] = msgspec.to_builtins(request)
        return self._event(PROVISIONED, tenant.id, {**asked, "tenantName": tenant.name, "slug": tenant.slug})

    def refused(self, tenant: UUID, sign_up: UUID, reason: str) -> Event:
        return self._event(REFUSED, tenant, {"signUpId": str(sign_up), "reason": reason})

    def renamed(self, tenant: Tenant) -> Event:
        return self._event(RENAMED, tenant.id, {"name": tenant.name})

    def withdrawn(self, tenant: UUID, sign_up: UUID) -> Event:
        return self._event(WITHDRAWN, tenant, {"signUpId": str(sign_up)})

    def _event(self, type: str, tenant: UUID, data: dict[str, Any]) -> Event:
        data = {**data, "tenantId": str(tenant)}
        return Event(type=type, subject=str(tenant), data=data, tenant=tenant, partition=self._partition_of(tenant))
