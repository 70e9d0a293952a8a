"""How an outgoing call fails."""

from __future__ import annotations


class EgressError(Exception):
    """`code` for programs, `message` for people. `sent`: the other side may have got the request."""

    def __init__(self, code: str, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.sent = sent


class EgressRefused(EgressError):
    """We do not make this call: `egress.url`, `.scheme`, `.host`, `.address`, `.method`, `.header`, `.redirects`."""


class EgressFailed(EgressError):
    """The call was made or tried and came to nothing: `egress.dns`, `.connect`, `.tls`, `.timeout`, `.protocol`,
    `.disconnected`, `.too_large`, `.encoding`."""
