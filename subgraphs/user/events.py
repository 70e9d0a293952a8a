"""What User tells others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from subgraphs.platform.domain import Event
from subgraphs.user.domain import Person

MEMBER_ADDED = "user.member.added.v1"
MEMBER_REFUSED = "user.member.refused.v1"
MEMBER_CHANGED = "user.member.changed.v1"
PROFILE_CHANGED = "user.profile.changed.v1"


class Events:
    """Makes User's events; the partition follows from the person."""

    def __init__(self, partition_of: Callable[[UUID], int]) -> None:
        self._partition_of = partition_of

    def member_added(self, person: Person, tenant: UUID, sign_up: str) -> Event:
        data = {
            "signUpId": sign_up,
            "organisationId": str(person.organisation.id),
            "role": person.role,
            "email": person.email,
            "name": person.name,
        }
        return self._event(MEMBER_ADDED, person.id, tenant, data)

    def member_refused(self, person: UUID, tenant: UUID, sign_up: str, reason: str) -> Event:
        return self._event(MEMBER_REFUSED, person, tenant, {"signUpId": sign_up, "reason": reason})

    def member_changed(self, person: Person, tenant: UUID) -> Event:
        return self._event(MEMBER_CHANGED, person.id, tenant, {"role": person.role})

    def profile_changed(self, person: Person, tenant: UUID) -> Event:
        return self._event(PROFILE_CHANGED, person.id, tenant, {"name": person.name})

    def _event(self, type: str, person: UUID, tenant: UUID, data: dict[str, Any]) -> Event:
        data = {**data, "userId": str(person), "tenantId": str(tenant)}
        return Event(type=type, subject=str(person), data=data, tenant=tenant, partition=self._partition_of(person))
