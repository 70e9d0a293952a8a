"""Settings: typed, refused when unknown or malformed, the same in every process."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import asyncpg
import pytest

from subgraphs.platform.domain import Invalid
from subgraphs.platform.settings import BadSetting, Settings, key_file


@pytest.mark.shows("DP-13")
def test_an_unknown_setting_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(BadSetting) as refused:
        Settings.load({"LINKFLOW_DATABSE_URL": "postgresql://x"})
    assert refused.value.code == "setting_unknown"
    assert refused.value.field == "LINKFLOW_DATABSE_URL"
    assert refused.value.next_step == "Did you mean LINKFLOW_DATABASE_URL?"


@pytest.mark.shows("DP-13")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LINKFLOW_PORT", "eighty"),
        ("LINKFLOW_PORT", "70000"),
        ("LINKFLOW_LOG_LEVEL", "loud"),
        ("LINKFLOW_DATABASE_URL", "mysql://x"),
        ("LINKFLOW_PUBLIC_URL", "example"),
        ("LINKFLOW_EGRESS_ALLOW", "127.0.0.1"),
        ("LINKFLOW_ACCESS_TOKEN_MINUTES", "61"),
        ("LINKFLOW_MAX_GRAPHQL_BYTES", "-1"),
        ("LINKFLOW_TENANT_FILTER", "perhaps"),
    ],
)
def test_a_malformed_value_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(BadSetting) as refused:
        Settings.load({name: text})
    assert refused.value.field == name


def test_a_home_that_cannot_be_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"
    with pytest.raises(Invalid) as refused:
        Settings.load({"LINKFLOW_HOME": str(home)}).prepare()
    assert refused.value.code == "home_unusable"
    assert str(home) in refused.value.message
    assert "LINKFLOW_HOME" in (refused.value.next_step or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a moment")
def test_a_home_of_somebody_else_is_refused(scratch: Path) -> None:
    home = scratch / "theirs"
    Settings.load({"LINKFLOW_HOME": str(home)}).prepare()
    (home / "objects").chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(Invalid) as refused:
            Settings.load({"LINKFLOW_HOME": str(home)}).prepare()
    finally:
        os.seteuid(0)
    assert refused.value.code == "home_unusable"


def test_values_are_typed() -> None:
    made = Settings.load(
        {
            "PATH": "ignored",
            "LINKFLOW_PORT": "9000",
            "LINKFLOW_EGRESS_ALLOW": "localhost:1, 10.0.0.1:2",
            "LINKFLOW_MAX_WEBHOOK_BYTES": "2MiB",
            "LINKFLOW_NODE": "",
        }
    )
    assert made.port == 9000
    assert made.public_url == "http://127.0.0.1:9000"
    assert made.egress_allow == ("localhost:1", "10.0.0.1:2")
    assert made.max_webhook_bytes == 2_097_152
    assert made.node is None


def test_a_child_loads_the_same_settings(settings: Settings) -> None:
    child = Settings.load(settings.environment())
    for name in ("gateway_secret_file", "secret_key_file", "role_key_file", "sandbox_socket"):
        assert getattr(child, name) == getattr(settings, name)
    spelled_out = {"gateway_secret", "secret_key", "role_key", "sandbox"}
    for item in dataclasses.fields(Settings):
        if item.name not in spelled_out:
            assert getattr(child, item.name) == getattr(settings, item.name), item.name


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "some.key"
    first = key_file(path)
    assert len(first) == 32
    assert key_file(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["some.key"]


def test_a_deep_home_still_has_a_socket_short_enough(tmp_path: Path) -> None:
    deep = Settings.load({"LINKFLOW_HOME": str(tmp_path / ("x" * 90))})
    assert len(os.fsencode(deep.sandbox_socket)) < 100


async def test_a_configured_database_gets_derived_passwords(settings: Settings) -> None:
    remote = dataclasses.replace(
        settings, database_url="postgresql://boss:secret@db.example:5433/flows?sslmode=require"
    )
    assert remote.dsn("lf_admin") == remote.database_url
    assert remote.dsn("lf_api") == (
        f"postgresql://lf_api:{remote.password('lf_api')}@db.example:5433/flows?sslmode=require"
    )
    assert remote.password("lf_api") != remote.password("lf_engine")


async def test_every_role_can_connect(settings: Settings) -> None:
    for role in ("lf_api", "lf_engine", "lf_ingress", "lf_migrate"):
        connection = await asyncpg.connect(settings.dsn(role))
        assert await connection.fetchval("select current_user") == role
        await connection.close()
