"""Settings: declared once here, read from `LINKFLOW_*` in the environment, everything unknown refused."""

from __future__ import annotations

import difflib
import hashlib
import hmac
import os
import secrets
import shlex
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID

from subgraphs.platform.domain import Invalid
from subgraphs.platform.postgres import PORT, Place, short_folder

PREFIX = "LINKFLOW_"
ROLES = ("lf_api", "lf_engine", "lf_ingress", "lf_migrate", "lf_admin")
CHECKOUT = Path(__file__).resolve().parents[2]
MIB = 1_048_576
SOCKET_LIMIT = 100  # a unix socket's path has 107 bytes on Linux, 103 on macOS


class BadSetting(Invalid):
    """A `LINKFLOW_*` variable is unknown or does not parse; `field` names it."""


def _boolean(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("true or false")
    return words[text.lower()]


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError("a port is between 1 and 65535")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be at least 1")
    return number


def _bytes(text: str) -> int:
    units = {"kib": 1024, "mib": MIB, "gib": 1024 * MIB, "kb": 1000, "mb": 1_000_000}
    lower = text.strip().lower()
    for unit, factor in units.items():
        if lower.endswith(unit):
            return _positive(lower.removesuffix(unit).strip()) * factor
    return _positive(lower)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _target(text: str) -> str:
    host, _, port = text.strip().rpartition(":")
    if not host:
        raise ValueError(f"{text!r} is not host:port")
    return f"{host}:{_port(port)}"


def _targets(text: str) -> tuple[str, ...]:
    return tuple(_target(part) for part in _list(text))


def _weights(text: str) -> tuple[str, ...]:
    for part in _list(text):
        name, _, weight = part.partition("=")
        if not 0.01 <= float(weight) <= 1000:
            raise ValueError("a weight is between 0.01 and 1000")
        UUID(name)
    return _list(text)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("an http:// or https:// address")
    return text.rstrip("/")


def _database(text: str) -> str:
    if urlsplit(text).scheme not in {"postgres", "postgresql"}:
        raise ValueError("postgresql://user:password@host:port/database")
    return text.replace("postgres://", "postgresql://", 1)


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return parse


def _setting(default: Any, parse: Callable[[str], Any], says: str) -> Any:
    return field(default=default, metadata={"parse": parse, "says": says})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that can be set. `Settings.load(os.environ)` reads it; `described()` documents it."""

    home: Path = _setting(CHECKOUT / ".linkflow", _path, "Folder of data, keys, logs and sockets (mode 0700)")
    host: str = _setting("127.0.0.1", str, "Address the serve process and the gateway bind to")
    port: int = _setting(8080, _port, "Port of the edge, the one public origin")
    gateway_port: int = _setting(4000, _port, "Loopback port of the gateway")
    serve_port: int = _setting(8001, _port, "Loopback port of the subgraphs")
    public_url: str = _setting("", _url, "Address users reach the edge at; default http://127.0.0.1:PORT")
    database_url: str | None = _setting(None, _database, "PostgreSQL to use instead of the embedded one")
    database_pool: int = _setting(10, _positive, "Connections of the request pool of one process")
    egress_allow: tuple[str, ...] = _setting((), _targets, "Private targets workflows may call: host:port,host:port")
    query_pool: str = _setting("", _target, "Apollo Router for queries, host:port; unset: the gateway does all")
    introspection: bool = _setting(True, _boolean, "Whether the gateway answers questions about the schema")
    cors_origins: tuple[str, ...] = _setting((), _list, "Origins whose pages may call the API: https://a,https://b")
    node: Path | None = _setting(None, _path, "Node.js 22.15 or later to use instead of the bundled one")
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "Least severe line that is logged")
    log_format: str = _setting("auto", _one_of("auto", "json", "console"), "auto: console on a terminal, else json")
    otel_endpoint: str | None = _setting(None, _url, "OTLP/HTTP collector for spans; unset: no spans are made")
    executor_url: str = _setting("http://127.0.0.1:8007", _url, "Where Execution finds an Executor served elsewhere")
    executor_workers: int = _setting(256, _positive, "Steps an Executor runs at the same time")
    worker_bodies: int = _setting(256, _positive, "Steps of one worker at the same time, shared by its tenants")
    replay_gate: str = _setting(
        "refuse", _one_of("refuse", "warn"), "What a start does about open runs this version cannot read"
    )
    tenant_weights: tuple[str, ...] = _setting((), _weights, "Tenants' shares of a worker, 1 if not named: ID=3,ID=0.5")
    sandbox_workers: int = _setting(2, _positive, "Worker processes for code nodes")
    access_token_minutes: int = _setting(15, _positive, "Life of an access token, at most 60")
    refresh_token_days: int = _setting(30, _positive, "Life of a session that is not used")
    jwks_url: str = _setting("", _url, "Where subgraphs fetch Auth's keys; default on the serve port")
    gateway_secret: Path | None = _setting(None, _path, "Proves the gateway; default HOME/keys/gateway.key")
    secret_key: Path | None = _setting(None, _path, "Key file that seals secrets; default HOME/keys/secrets.key")
    role_key: Path | None = _setting(None, _path, "Key file of database passwords; default HOME/keys/roles.key")
    sandbox: Path | None = _setting(None, _path, "Socket of the sandbox; default HOME/run/sandbox.sock")
    partitions: int = _setting(16, _positive, "Partitions of runs; fixed once a database holds some")
    lease_seconds: int = _setting(3, _positive, "Life of a partition's lease: when a silent process is replaced")
    max_graphql_bytes: int = _setting(8 * MIB, _bytes, "Largest GraphQL request: 8388608, 8MiB")
    max_webhook_bytes: int = _setting(8 * MIB, _bytes, "Largest webhook call")
    claim_check_bytes: int = _setting(MIB, _bytes, "Payloads over this go to the object store")
    max_output_bytes: int = _setting(
        64 * MIB, _bytes, "Most that one step of a run may put out; over it the step fails"
    )
    near_cache_bytes: int = _setting(32 * MIB, _bytes, "Stored payloads a process keeps at hand once they were read")
    tenant_filter: bool = _setting(True, _boolean, "Off only in the test of row-level security")
    faults: bool = _setting(False, _boolean, "Whether this process may be told to fail; for tests only")
    crash_at: str = _setting("", str, "Where to die, in tests (subgraphs/platform/crash.py); needs LINKFLOW_FAULTS")

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> Settings:
        """Settings from `LINKFLOW_*` variables; raises BadSetting with a hint for unknown or malformed ones."""
        declared = {f"{PREFIX}{item.name.upper()}": item for item in fields(cls)}
        values: dict[str, Any] = {}
        for name in sorted(environment):
            if name.startswith(PREFIX) and environment[name]:
                item = declared.get(name)
                if item is None:
                    raise _unknown(name, declared)
                values[item.name] = _parsed(name, environment[name], item)
        return cls(**values)._completed()

    def _completed(self) -> Settings:
        if self.access_token_minutes > 60:
            raise BadSetting(f"{PREFIX}ACCESS_TOKEN_MINUTES is at most 60.", field=f"{PREFIX}ACCESS_TOKEN_MINUTES")
        if self.crash_at and not self.faults:
            raise BadSetting(
                f"{PREFIX}CRASH_AT would kill this process.",
                code="faults_forbidden",
                field=f"{PREFIX}CRASH_AT",
                next_step=f"Unset it; only tests that mean it set {PREFIX}FAULTS=true beside it.",
            )
        if not self.public_url:
            object.__setattr__(self, "public_url", f"http://127.0.0.1:{self.port}")
        if not self.jwks_url:
            object.__setattr__(self, "jwks_url", f"http://127.0.0.1:{self.serve_port}/auth/jwks")
        return self

    @classmethod
    def described(cls) -> list[tuple[str, Any, str]]:
        """(variable, default, meaning) of every setting, for `linkflow doctor` and the README."""
        return [(f"{PREFIX}{item.name.upper()}", item.default, item.metadata["says"]) for item in fields(cls)]

    def environment(self) -> dict[str, str]:
        """All settings as `LINKFLOW_*` variables, places spelled out: what a child process loads the same from."""
        places = {
            "gateway_secret": self.gateway_secret_file,
            "secret_key": self.secret_key_file,
            "role_key": self.role_key_file,
            "sandbox": self.sandbox_socket,
        }
        found: dict[str, str] = {}
        for item in fields(self):
            value = places.get(item.name, getattr(self, item.name))
            text = ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
            if text:
                found[f"{PREFIX}{item.name.upper()}"] = text
        return found

    # -- places

    @property
    def gateway_secret_file(self) -> Path:
        return self.gateway_secret or self.home / "keys" / "gateway.key"

    @property
    def secret_key_file(self) -> Path:
        return self.secret_key or self.home / "keys" / "secrets.key"

    @property
    def role_key_file(self) -> Path:
        return self.role_key or self.home / "keys" / "roles.key"

    @property
    def sandbox_socket(self) -> Path:
        if self.sandbox:
            return self.sandbox
        socket = self.home / "run" / "sandbox.sock"
        return socket if len(os.fsencode(socket)) <= SOCKET_LIMIT else short_folder(self.home) / socket.name

    @property
    def postgres_place(self) -> Place:
        return Place.of(self.home / "postgres")

    def prepare(self) -> None:
        """Make the folders of home. Root's lets others pass through it, or its database server is locked out.

        Raises a Problem where home, or a folder in it, is not ours to write.
        """
        folders = [self.home, *(self.home / name for name in ("keys", "objects", "run", "logs", "cache"))]
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in folders[1:]:
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(self.home, str(error.strerror).lower()) from None
        if foreign := next((folder for folder in folders if not os.access(folder, os.R_OK | os.W_OK | os.X_OK)), None):
            raise _unusable(foreign, f"it belongs to user id {foreign.stat().st_uid}, this is {os.geteuid()}")
        if self.sandbox_socket.parent != self.home / "run":
            self.sandbox_socket.parent.mkdir(mode=0o700, exist_ok=True)

    # -- database

    def dsn(self, role: str) -> str:
        """`postgresql://…` for one of ROLES. The embedded server knows us by our user id, without password."""
        if role not in ROLES:
            raise ValueError(f"{role!r} is none of {', '.join(ROLES)}")
        if self.database_url is None:
            folder = quote(str(self.postgres_place.socket), safe="/")
            return f"postgresql://{role}@/linkflow?host={folder}&port={PORT}"
        if role == "lf_admin":
            return self.database_url
        parts = urlsplit(self.database_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{role}:{self.password(role)}@{host}"))

    def password(self, role: str) -> str:
        """The password of a role on a configured database: derived from the key file, so that it is stored nowhere."""
        return hmac.new(key_file(self.role_key_file), f"database:{role}".encode(), hashlib.sha256).hexdigest()


def key_file(path: Path) -> bytes:
    """The 32 random bytes in `path` (mode 0600), made at first use; safe when two processes start together."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_bytes(secrets.token_bytes(32))
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another process was first; its key counts
    finally:
        fresh.unlink()
    return path.read_bytes()


def _unknown(name: str, declared: Mapping[str, object]) -> BadSetting:
    near = difflib.get_close_matches(name, declared, n=1)
    hint = f"Did you mean {near[0]}?" if near else "`linkflow doctor --settings` lists what can be set."
    return BadSetting(f"{name} is not a setting of LinkFlow.", code="setting_unknown", field=name, next_step=hint)


def _parsed(name: str, text: str, item: Field[Any]) -> Any:
    try:
        return item.metadata["parse"](text)
    except ValueError as error:
        raise BadSetting(
            f"{name}={text!r} does not fit: {error}.",
            code="setting_malformed",
            field=name,
            next_step=f"{item.metadata['says']}.",
        ) from error


def _unusable(folder: Path, why: str) -> Invalid:
    return Invalid(
        f"LinkFlow cannot keep its data in {folder}: {why}.",
        code="home_unusable",
        next_step=f"Give it to this user (chown -R {os.geteuid()} {shlex.quote(str(folder))}), or set LINKFLOW_HOME to "
        "a folder of your own.",
    )
