"""The embedded database starts, survives what a killed run leaves behind, and says what it cannot do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from subgraphs.platform.postgres import AlreadyRunning, Place, Postgres, binaries, service_user
from subgraphs.platform.processes import identity

ROOT = Path(__file__).resolve().parents[3]
KEEPER = """
import sys, time
from pathlib import Path
from subgraphs.platform.postgres import Postgres
server = Postgres(Path(sys.argv[1]), durable=False)
server.start()
print(server.process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lf-pg ", dir="/tmp", ignore_cleanup_errors=True) as made:
        yield Path(made) / "postgres"


@pytest.fixture
def server(folder: Path) -> Iterator[Postgres]:
    made = Postgres(folder, durable=False)
    yield made
    made.stop()


async def remember(server: Postgres, word: str) -> None:
    connection = await asyncpg.connect(server.dsn("postgres"))
    await connection.execute("create table if not exists words (word text)")
    await connection.execute("insert into words values ($1)", word)
    await connection.close()


async def remembered(server: Postgres) -> list[str]:
    connection = await asyncpg.connect(server.dsn("postgres"))
    found = [row["word"] for row in await connection.fetch("select word from words")]
    await connection.close()
    return found


def gone(pid: int) -> None:
    """Wait until a process is no more (or only a zombie)."""
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return


async def test_data_is_there_after_a_stop_and_a_start(server: Postgres) -> None:
    server.start()
    await remember(server, "first")
    server.stop()
    server.start()
    assert await remembered(server) == ["first"]
    assert server.healed == []


async def test_it_heals_after_the_server_was_killed(server: Postgres) -> None:
    server.start()
    await remember(server, "kept")
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    assert (server.place.data / "postmaster.pid").exists()
    server.stop()
    server.start()
    assert await remembered(server) == ["kept"]
    assert server.healed == ["removed the pid file of a database server that was killed"]


async def test_the_server_stops_when_its_keeper_is_killed(folder: Path, server: Postgres) -> None:
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    pid = int(keeper.stdout.readline())
    with pytest.raises(AlreadyRunning):
        Postgres(folder, durable=False).start()
    keeper.kill()
    keeper.wait()
    keeper.stdout.close()
    gone(pid)
    server.start()
    await remember(server, "after")
    assert await remembered(server) == ["after"]


async def test_a_server_that_outlived_its_keeper_is_ended(folder: Path, server: Postgres) -> None:
    server.start()
    await remember(server, "kept")
    server.stop()
    words = [str(program()), "-D", str(server.place.data), "-h", "", "-k", str(server.place.socket)]
    stray = subprocess.Popen(
        words, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True, **identity(server.place.user)
    )
    while not (server.place.socket / ".s.PGSQL.5432").exists():
        assert stray.poll() is None
    server.start()
    assert stray.wait() == 0
    assert server.healed == [f"stopped the database server {stray.pid} of a run that was killed"]
    assert await remembered(server) == ["kept"]


def program() -> Path:
    return binaries(service_user() if os.geteuid() == 0 else None) / "postgres"


async def test_a_pid_file_of_somebody_elses_process_is_removed(server: Postgres) -> None:
    server.start()
    server.stop()
    other = subprocess.Popen(["sleep", "600"])
    (server.place.data / "postmaster.pid").write_text(f"{other.pid}\n{server.place.data}\n")
    server.start()
    assert other.poll() is None, "a process that is not ours was touched"
    other.kill()
    other.wait()
    await remember(server, "on")


async def test_a_stale_socket_is_removed(server: Postgres) -> None:
    server.start()
    server.stop()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(server.place.socket / ".s.PGSQL.5432"))
    (server.place.socket / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    server.start()
    await remember(server, "on")


async def test_a_half_made_cluster_is_made_again(server: Postgres) -> None:
    server.place.base.mkdir(parents=True)
    (server.place.base / "data.new").mkdir()
    (server.place.base / "data.new" / "PG_VERSION").write_text("18\n")
    server.start()
    await remember(server, "on")


async def test_it_listens_on_its_socket_alone_in_a_closed_folder(server: Postgres) -> None:
    server.start()
    assert server.place.socket.stat().st_mode & 0o777 == 0o700
    assert server.place.data.stat().st_mode & 0o777 == 0o700
    connection = await asyncpg.connect(server.dsn("postgres"))
    assert await connection.fetchval("show listen_addresses") == ""
    assert await connection.fetchval("show fsync") == "off"  # a throw-away cluster; `durable` is the default
    await connection.close()


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60) / "postgres"
    place = Place.of(deep)
    assert len(os.fsencode(place.socket)) < 80
    assert place.socket == Place.of(deep).socket
    assert place.socket != Place.of(tmp_path / "other" / ("z" * 80) / "postgres").socket


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must change who it is")
async def test_root_where_no_other_user_may_pass(tmp_path: Path) -> None:
    """A checkout below /root: data and programs are kept where the service user reaches them."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = Postgres(closed / "home" / "postgres", durable=False)
    assert server.place.base.is_relative_to("/var/lib/linkflow")
    server.start()
    try:
        assert server.process is not None
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == service_user().pw_uid
        await remember(server, "on")
    finally:
        server.stop()
        subprocess.run(["rm", "-r", str(server.place.base)], check=True)


def test_signals_reach_the_server_before_anything_is_killed(server: Postgres) -> None:
    server.start()
    process = server.process
    assert process is not None
    server.stop()
    assert process.returncode == 0
    assert process.returncode != -signal.SIGKILL
