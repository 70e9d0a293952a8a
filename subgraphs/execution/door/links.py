"""Links under which one wait of one run is answered, once: signed, so nobody makes one up, and good for a time.

A link says tenant, run, step, attempt, kind and who it is for; its signature is an HMAC-SHA256 under the installation's
key file. The same wait has the same link, so an attempt that is repeated after a crash sends what it sent before. That
it works only once is not the link's doing: the first answer of an attempt is stored, and others find it there.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import msgspec

from subgraphs.engine.run import PlanNode, Run
from subgraphs.platform.security import SecretBox

CONTEXT = "execution.resume"
KINDS: Mapping[str, str] = {"core.approval": "approval", "core.form": "form", "core.callback": "webhook"}
"""Node types whose waits are answered by a link, and the kind of wait."""

GOOD_FOR = 90 * 86_400
"""Seconds after the run's start, beside the node's own timeout. A wait that is over makes its link void at any time."""

_LONGEST = 2048


class Ticket(msgspec.Struct, array_like=True, frozen=True):
    """What a link says. `approver`: whom it was made for, empty for whoever holds it. `until`: seconds since 1970."""

    tenant: UUID
    run: UUID
    step: str
    attempt: int
    kind: str
    until: int
    approver: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """Makes links and reads them back."""

    box: SecretBox
    public_url: str

    def url(self, ticket: Ticket) -> str:
        data = msgspec.msgpack.encode(ticket)
        token = base64.urlsafe_b64encode(data + self.box.sign(data, CONTEXT)).rstrip(b"=").decode()
        return f"{self.public_url}/resume/{token}"

    def ticket(self, token: str) -> Ticket | None:
        """What the link says; None if it is not ours. Whether it is too old is for the caller to say."""
        if len(token) > _LONGEST:
            return None
        try:
            found = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            data, signature = found[:-32], found[-32:]
            if not self.box.signed(data, signature, CONTEXT):
                return None
            return msgspec.msgpack.decode(data, type=Ticket)
        except (ValueError, binascii.Error, msgspec.DecodeError):
            return None

    def of(self, run: Run, node: PlanNode) -> str:
        """The link for the first attempt at a node of a run, known before it waits, so that it can be sent."""
        began = run.started.at // 1_000_000 if run.started is not None else 0
        until = began + GOOD_FOR + int(node.wait_timeout or 0)
        return self.url(Ticket(run.tenant, run.id, node.id, 1, KINDS[node.type], until))


def expired(ticket: Ticket) -> bool:
    return ticket.until < time.time()
