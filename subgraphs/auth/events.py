"""What Auth tells others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from subgraphs.auth.domain import Newcomer
from subgraphs.platform.domain import Event
from subgraphs.platform.facts import Read, Told

SIGN_UP_REQUESTED = "auth.signup.requested.v1"
SIGN_UP_COMPLETED = "auth.signup.completed.v1"
SIGN_UP_ABANDONED = "auth.signup.abandoned.v1"
SESSION_STARTED = "auth.session.started.v1"
SESSION_REVOKED = "auth.session.revoked.v1"
REFRESH_REUSED = "auth.refresh.reused.v1"
ACCOUNT_CHANGED = "auth.account.changed.v1"


class SignUpRequested(Told):
    """Somebody wants to join, with an organisation of their own; the ids are those everybody is to use."""

    sign_up_id: UUID
    user_id: UUID
    tenant_id: UUID
    organisation_id: UUID
    email: str
    name: str
    organisation: str
    locale: str
    time_zone: str


class SignUpCompleted(Told):
    """The account may be used."""

    sign_up_id: UUID
    user_id: UUID


class SignUpAbandoned(Told):
    """The sign-up will not complete; what was made for it is taken back."""

    sign_up_id: UUID
    reason: str


class SessionStarted(Told):
    """Somebody logged in."""

    session_id: UUID
    user_id: UUID


class SessionRevoked(Told):
    """A session ended before its time; its tokens count no longer."""

    session_id: UUID
    user_id: UUID
    reason: str


class RefreshReused(Told):
    """A refresh token was used twice: one of the two who have it should not."""

    session_id: UUID
    user_id: UUID | None


class AccountChanged(Told):
    """Identities made from now on say what the event `causeId` of User said."""

    user_id: UUID
    cause_id: UUID


PUBLISHED: dict[str, type[Told]] = {
    SIGN_UP_REQUESTED: SignUpRequested,
    SIGN_UP_COMPLETED: SignUpCompleted,
    SIGN_UP_ABANDONED: SignUpAbandoned,
    SESSION_STARTED: SessionStarted,
    SESSION_REVOKED: SessionRevoked,
    REFRESH_REUSED: RefreshReused,
    ACCOUNT_CHANGED: AccountChanged,
}


class MemberAdded(Read):
    sign_up_id: UUID
    role: str


class StepRefused(Read):
    sign_up_id: UUID
    reason: str


class MemberChanged(Read):
    user_id: UUID
    role: str


class ProfileChanged(Read):
    user_id: UUID
    name: str


MEMBER_ADDED = "user.member.added.v1"
MEMBER_CHANGED = "user.member.changed.v1"
PROFILE_CHANGED = "user.profile.changed.v1"
REFUSALS = ("tenant.tenant.refused.v1", "user.member.refused.v1")
READ: dict[str, type[Read]] = {
    MEMBER_ADDED: MemberAdded,
    MEMBER_CHANGED: MemberChanged,
    PROFILE_CHANGED: ProfileChanged,
    **dict.fromkeys(REFUSALS, StepRefused),
}


class Events:
    """Makes Auth's events; the partition follows from the subject."""

    def __init__(self, partition_of: Callable[[UUID], int]) -> None:
        self._partition_of = partition_of

    def sign_up_requested(self, id: UUID, tenant: UUID, account: UUID, organisation: UUID, newcomer: Newcomer) -> Event:
        data = {
            "signUpId": str(id),
            "userId": str(account),
            "tenantId": str(tenant),
            "organisationId": str(organisation),
            "email": newcomer.email,
            "name": newcomer.name,
            "organisation": newcomer.organisation,
            "locale": newcomer.locale,
            "timeZone": newcomer.time_zone,
        }
        return self._event(SIGN_UP_REQUESTED, id, tenant, data)

    def sign_up_completed(self, id: UUID, tenant: UUID, account: UUID) -> Event:
        return self._event(SIGN_UP_COMPLETED, id, tenant, {"signUpId": str(id), "userId": str(account)})

    def sign_up_abandoned(self, id: UUID, tenant: UUID, reason: str) -> Event:
        return self._event(SIGN_UP_ABANDONED, id, tenant, {"signUpId": str(id), "reason": reason})

    def session_started(self, session: UUID, tenant: UUID, account: UUID) -> Event:
        return self._event(SESSION_STARTED, session, tenant, {"sessionId": str(session), "userId": str(account)})

    def session_revoked(self, session: UUID, tenant: UUID, account: UUID, reason: str) -> Event:
        data = {"sessionId": str(session), "userId": str(account), "reason": reason}
        return self._event(SESSION_REVOKED, session, tenant, data)

    def refresh_reused(self, session: UUID, tenant: UUID, account: UUID | None) -> Event:
        data = {"sessionId": str(session), "userId": str(account) if account else None}
        return self._event(REFRESH_REUSED, session, tenant, data)

    def account_changed(self, account: UUID, tenant: UUID, cause: Event) -> Event:
        """`cause` is the event of User that Auth has taken over; whoever published it may be waiting for this."""
        data = {"userId": str(account), "causeId": str(cause.id)}
        return self._event(ACCOUNT_CHANGED, account, tenant, data)

    def _event(self, type: str, subject: UUID, tenant: UUID, data: dict[str, Any]) -> Event:
        return Event(type=type, subject=str(subject), data=data, tenant=tenant, partition=self._partition_of(subject))
