"""What runs wait for, as far as others must find it: approvals, forms, signals, events, calls, children.

A row of `execution.wait` stands as long as the wait does: it is written and deleted by the run's own commits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from subgraphs.platform.domain import Caller

KINDS = ("signal", "event", "approval", "form", "webhook", "child")
"""Waits with a row; a wait for a moment is a timer and nothing else."""

APPROVED, REJECTED = "approved", "rejected"


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A step that waits for an answer. `until`: its deadline, if it has one."""

    tenant: UUID
    run: UUID
    step: str
    attempt: int
    kind: str
    name: str
    detail: Mapping[str, Any]
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Delegation:
    """One approver let another decide as well."""

    run: UUID
    step: str
    attempt: int
    by: UUID
    approver: str
    at: datetime


def port_of(approved: bool) -> str:
    return APPROVED if approved else REJECTED


def approvers(wait: OpenWait, delegated: Collection[str], at: datetime) -> frozenset[str]:
    """Who may decide now, by user id or mail address: those named, those delegated to, those it escalated to."""
    named = {str(each) for each in wait.detail.get("approvers") or ()} | set(delegated)
    escalation = wait.detail.get("escalation") or {}
    if escalation and at >= wait.since + timedelta(seconds=float(escalation.get("after") or 0)):
        named |= {str(each) for each in escalation.get("to") or ()}
    return frozenset(named)


def entitled(caller: Caller, wait: OpenWait, delegated: Collection[str], at: datetime) -> bool:
    """Whether the caller may decide: a named approver, or an administrator. An approval that names nobody is for
    everybody who may control runs."""
    if "tenant:write" in caller.scopes:
        return True
    named = approvers(wait, delegated, at)
    if not named:
        return "execution:control" in caller.scopes
    return str(caller.subject) in named


def self_refused(caller: Caller, wait: OpenWait, started_by: UUID | None) -> bool:
    """Whether the caller started the run and the approval is not for who did."""
    return wait.detail.get("allowSelf") is False and caller.subject == started_by
