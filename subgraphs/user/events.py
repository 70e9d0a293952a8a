"""What User tells others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told
from subgraphs.user.domain import Person

MEMBER_ADDED = "user.member.added.v1"
MEMBER_REFUSED = "user.member.refused.v1"
MEMBER_CHANGED = "user.member.changed.v1"
PROFILE_CHANGED = "user.profile.changed.v1"


class MemberAdded(Told):
    """A person belongs to the organisation, and the sign-up has all it needs."""

    sign_up_id: UUID
    user_id: UUID
    tenant_id: UUID
    organisation_id: UUID
    role: str
    email: str
    name: str


class MemberRefused(Told):
    """The person cannot be made as the sign-up asks."""

    sign_up_id: UUID
    user_id: UUID
    tenant_id: UUID
    reason: str


class MemberChanged(Told):
    """A person has another role."""

    user_id: UUID
    tenant_id: UUID
    role: str


class ProfileChanged(Told):
    """A person goes by another name."""

    user_id: UUID
    tenant_id: UUID
    name: str


PUBLISHED: dict[str, type[Told]] = {
    MEMBER_ADDED: MemberAdded,
    MEMBER_REFUSED: MemberRefused,
    MEMBER_CHANGED: MemberChanged,
    PROFILE_CHANGED: ProfileChanged,
}


class Provisioned(Read):
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


class AccountChanged(Read):
    user_id: UUID


PROVISIONED = "tenant.tenant.provisioned.v1"
SIGN_UP_ABANDONED = "auth.signup.abandoned.v1"
ACCOUNT_CHANGED = "auth.account.changed.v1"
READ: dict[str, type[Read]] = {
    PROVISIONED: Provisioned,
    SIGN_UP_ABANDONED: SignUpAbandoned,
    ACCOUNT_CHANGED: AccountChanged,
}


class Events:
    """Makes User's events; the partition follows from the person."""

    def __init__(self, partition_of: Callable[[UUID], int]) -> None:
        self._partition_of = partition_of

    def member_added(self, person: Person, tenant: UUID, sign_up: UUID) -> Event:
        data = {
            "signUpId": str(sign_up),
            "organisationId": str(person.organisation.id),
            "role": person.role,
            "email": person.email,
            "name": person.name,
        }
        return self._event(MEMBER_ADDED, person.id, tenant, data)

    def member_refused(self, person: UUID, tenant: UUID, sign_up: UUID, reason: str) -> Event:
        return self._event(MEMBER_REFUSED, person, tenant, {"signUpId": str(sign_up), "reason": reason})

    def member_changed(self, person: Person, tenant: UUID) -> Event:
        return self._event(MEMBER_CHANGED, person.id, tenant, {"role": person.role})

    def profile_changed(self, person: Person, tenant: UUID) -> Event:
        return self._event(PROFILE_CHANGED, person.id, tenant, {"name": person.name})

    def _event(self, type: str, person: UUID, tenant: UUID, data: dict[str, Any]) -> Event:
        data = {**data, "userId": str(person), "tenantId": str(tenant)}
        return Event(type=type, subject=str(person), data=data, tenant=tenant, partition=self._partition_of(person))
