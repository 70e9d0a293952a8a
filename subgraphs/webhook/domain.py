"""Endpoints: what a trigger node declares, what its owner configures, and which calls may come in."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from subgraphs.platform.domain import Event, Invalid

TRIGGER = "core.webhook"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
TOKEN_BYTES = 24
"""192 bits from the system's generator; 128 is the least that cannot be guessed."""
SECRET_BYTES = (8, 1024)
LONGEST_PATIENCE = 300.0
LONGEST_WINDOW = 30 * 86_400.0
GITHUB_SIGNATURE = "X-Hub-Signature-256"
GITHUB_DELIVERY = "X-GitHub-Delivery"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # a field name as RFC 9110 §5.1 has it
_DURATION = re.compile(r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,8}(?:\.\d{1,3})?)S)?)?")


class Auth(Enum):
    """How a caller proves that they may call."""

    NONE = "none"
    HEADER = "header"
    HMAC = "hmac"


class Preset(Enum):
    """A provider whose way of signing is known."""

    GITHUB = "github"


class Respond(Enum):
    """When the caller gets an answer: at once, with the run's result, or from a respond node."""

    NOW = "now"
    DONE = "done"
    NODE = "node"


class Dedupe(Enum):
    """What makes two calls the same: an id the caller sends, or the body; AUTO lets the way of signing decide."""

    AUTO = "auto"
    ID = "id"
    BODY = "body"
    NONE = "none"


class State(Enum):
    ACTIVE = "active"
    NEEDS_SECRET = "needs_secret"  # noqa: S105 - a state
    RETIRED = "retired"


HEADERS = {Auth.NONE: "X-Webhook-Secret", Auth.HEADER: "X-Webhook-Secret", Auth.HMAC: "X-Signature-256"}


@dataclass(frozen=True, slots=True)
class Terms:
    """What the trigger node of a release declares. `patience` and `window` are seconds."""

    methods: tuple[str, ...] = ("POST",)
    respond: Respond = Respond.NOW
    patience: float = 30.0
    dedupe: Dedupe = Dedupe.AUTO
    dedupe_header: str | None = None
    window: float = 86_400.0
    declared: str = "none"
    header: str | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Terms:
        """Reads a node's parameters; raises Invalid for values the node type's schema should not have let through."""
        try:
            methods = tuple(dict.fromkeys(str(method).upper() for method in parameters.get("methods") or ["POST"]))
            declared = str(parameters.get("auth", "none"))
            if not set(methods) <= set(METHODS) or declared not in {"none", "header", "hmac", "github"}:
                raise ValueError(f"methods {methods}, auth {declared}")
            return cls(
                methods=methods,
                respond=Respond(parameters.get("respond", "now")),
                patience=min(LONGEST_PATIENCE, seconds(parameters.get("timeout", "PT30S"))),
                dedupe=Dedupe(parameters.get("dedupe", "auto")),
                dedupe_header=_header_name(parameters.get("dedupeHeader")),
                window=min(LONGEST_WINDOW, seconds(parameters.get("dedupeWindow", "P1D"))),
                declared=declared,
                header=_header_name(parameters.get("headerName")),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise Invalid(f"The webhook's parameters cannot be used: {error}.", field="parameters") from None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One URL: a trigger node of a workflow's current release. Secret and token are open here and sealed at rest."""

    tenant: UUID
    id: UUID
    workflow: UUID
    node: str
    release: int
    terms: Terms
    auth: Auth
    preset: Preset | None
    header: str
    secret: bytes | None
    token: str
    present: bool
    at: datetime
    changed: datetime

    @property
    def state(self) -> State:
        if not self.present:
            return State.RETIRED
        return State.NEEDS_SECRET if self.auth is not Auth.NONE and not self.secret else State.ACTIVE

    @classmethod
    def declared(
        cls, tenant: UUID, id: UUID, workflow: UUID, node: str, release: int, terms: Terms, now: datetime
    ) -> Endpoint:
        """The endpoint of a node that has none yet."""
        auth, preset = _of_declared(terms.declared)
        header = _header(auth, preset, terms.header)
        return cls(tenant, id, workflow, node, release, terms, auth, preset, header, None, new_token(), True, now, now)

    def redeclared(self, release: int, terms: Terms, now: datetime) -> Endpoint:
        """The same URL under a new release. How callers prove themselves stays as it was configured, unless the release
        itself declares something else than the one before."""
        moved = replace(self, release=release, terms=terms, present=True, changed=now)
        if terms.declared == self.terms.declared and terms.header == self.terms.header:
            return moved
        auth, preset = _of_declared(terms.declared)
        kept = self.secret if auth is self.auth else None
        return replace(moved, auth=auth, preset=preset, header=_header(auth, preset, terms.header), secret=kept)

    def retired(self, now: datetime) -> Endpoint:
        return replace(self, present=False, changed=now)

    def rotated(self, now: datetime) -> Endpoint:
        return replace(self, token=new_token(), changed=now)

    def configured(self, wish: Wish, now: datetime) -> Endpoint:
        """With another way for callers to prove themselves. A secret serves one way only: changing the way without a
        new secret leaves the endpoint closed until it has one."""
        preset = wish.preset if wish.preset_given else self.preset
        auth = wish.auth or (Auth.HMAC if wish.preset_given and wish.preset else self.auth)
        if auth is not Auth.HMAC:
            if wish.preset_given and wish.preset:
                raise Invalid(
                    "A provider's preset goes with auth HMAC.", field="input.preset", code="preset_without_hmac"
                )
            preset = None
        secret = _secret(wish.secret) if wish.secret is not None else (self.secret if auth is self.auth else None)
        if auth is Auth.NONE and wish.secret is not None:
            raise Invalid(
                "An endpoint without authentication has no secret.",
                field="input.secret",
                code="secret_without_auth",
                next_step="Send auth HEADER or HMAC with it.",
            )
        changed = auth is not self.auth or preset is not self.preset
        name = wish.header or (None if changed else self.header)
        header = _header(auth, preset, _header_name(name, "input.headerName"))
        return replace(
            self, auth=auth, preset=preset, header=header, secret=None if auth is Auth.NONE else secret, changed=now
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What an owner wants changed; None leaves it. `preset_given` tells a preset of None from none asked for."""

    auth: Auth | None = None
    header: str | None = None
    secret: str | None = None
    preset: Preset | None = None
    preset_given: bool = False


class Endpoints(Protocol):
    """The endpoints of one tenant, in one transaction."""

    async def by_id(self, id: UUID) -> Endpoint:
        """Locked against other changes; raises Missing."""

    async def of_workflow(self, workflow: UUID) -> Sequence[Endpoint]: ...

    async def advance(self, workflow: UUID, release: int) -> bool:
        """Notes the workflow's newest release; False if a newer one was noted already."""

    async def open(self, workflow: UUID, opened: bool) -> None:
        """Opens or closes all URLs of a workflow."""

    async def save(self, endpoint: Endpoint) -> None: ...

    def publish(self, *events: Event) -> None: ...


Stores = AbstractAsyncContextManager[Endpoints]


def new_token() -> str:
    """The secret part of a URL."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """What a URL is looked up by: whoever reads the table learns no URL."""
    return hashlib.sha256(token.encode()).digest()


def seconds(text: Any) -> float:
    """An ISO 8601 duration of days to seconds; raises ValueError."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no duration such as PT30S")
    days, hours, minutes, rest = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _of_declared(declared: str) -> tuple[Auth, Preset | None]:
    return (Auth.HMAC, Preset.GITHUB) if declared == "github" else (Auth(declared), None)


def _header(auth: Auth, preset: Preset | None, name: str | None) -> str:
    return GITHUB_SIGNATURE if preset is Preset.GITHUB else name or HEADERS[auth]


def _header_name(name: Any, field: str = "parameters.headerName") -> str | None:
    if name is None or name == "":
        return None
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise Invalid(
            "This cannot be the name of a header.", field=field, next_step="Use letters, digits and dashes, up to 100."
        )
    return name


def _secret(text: str) -> bytes:
    secret = text.encode()
    least, most = SECRET_BYTES
    if not least <= len(secret) <= most:
        raise Invalid(
            f"A secret has {least} to {most} bytes.",
            code="secret_length",
            field="input.secret",
            next_step="Take a random one of 32 characters or more.",
        )
    return secret
