"""Logging in, refreshing, logging out; and what happens to whoever tries too often."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import argon2
import asyncpg
import bcrypt
import pytest

from subgraphs.auth import commands, events
from subgraphs.auth.domain import AttemptKeys, Attempts, Newcomer
from subgraphs.auth.passwords import Argon2Passwords, common
from subgraphs.auth.schema import Context
from subgraphs.auth.service import build as auth
from subgraphs.platform.domain import Caller, Event, uuid7
from subgraphs.platform.server import Ground, Incoming, Subgraph
from subgraphs.platform.settings import Settings
from subgraphs.tenant.service import build as tenant
from subgraphs.user.service import build as user
from tests.subgraphs.graph_client import PASSWORD, SIGN_UP, Client, served

HEARD: list[Event] = []
MEANS: dict[str, commands.Means] = {}

LOG_IN = """mutation($email: String!, $password: String!) { logIn(input: {email: $email, password: $password}) {
  __typename ... on Session { accessToken refreshToken user { id } tenant { id } }
  ... on Problem { code message } ... on Limited { retryAfter } } }"""
REFRESH = """mutation($token: String!) { refreshSession(input: {refreshToken: $token}) {
  __typename ... on Session { accessToken refreshToken user { id } } ... on Problem { code } } }"""
LOG_OUT = "mutation($token: String!) { logOut(input: {refreshToken: $token}) { ended } }"


def auth_and_its_means(ground: Ground) -> Subgraph:
    made = auth(ground)
    context: Context = made.context(Caller(), Incoming({}, ""))
    MEANS["auth"] = context.means
    ground.bus.listen({events.REFRESH_REUSED, events.SESSION_REVOKED, events.SESSION_STARTED}, HEARD.append)
    return made


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with served(settings, auth_and_its_means, tenant, user) as made:
        yield made


async def log_in(client: Client, email: str, password: str = PASSWORD) -> dict[str, Any]:
    """Logs in from an address of its own, unless the client says where it is."""
    client = client if client.forwarded else Client(client.ground, client.http, forwarded=f"198.51.100.{uuid4()}"[:40])
    found: dict[str, Any] = (await client.ask("auth", LOG_IN, {"email": email, "password": password}))["logIn"]
    return found


async def refresh(client: Client, token: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.ask("auth", REFRESH, {"token": token}))["refreshSession"]
    return found


async def stored(settings: Settings, sql: str, *words: Any) -> Any:
    connection = await asyncpg.connect(settings.dsn("lf_admin"))
    try:
        return await connection.fetchval(sql, *words)
    finally:
        await connection.close()


async def test_who_signed_up_logs_in_whatever_the_case_of_the_address(client: Client) -> None:
    ada = await client.sign_up()
    found = await log_in(client, f" {ada.session['email'].upper()} ")
    assert found["__typename"] == "Session"
    assert found["user"] == ada.session["user"]
    me = await client.as_(found).ask("user", "{ me { email } }")
    assert me == {"me": {"email": ada.session["email"]}}


@pytest.mark.shows("AU-03")
async def test_every_refresh_changes_the_token_and_an_old_one_ends_the_session(client: Client) -> None:
    ada = await client.sign_up()
    first = ada.session["refreshToken"]
    second = await refresh(client, first)
    third = await refresh(client, second["refreshToken"])
    assert len({first, second["refreshToken"], third["refreshToken"]}) == 3
    assert (await client.as_(third).identity()).status_code == 200
    HEARD.clear()
    assert await refresh(client, first) == {"__typename": "Unauthenticated", "code": "session_over"}
    assert await refresh(client, third["refreshToken"]) == {"__typename": "Unauthenticated", "code": "session_over"}
    for session in (ada.session, second, third):  # the access tokens of the session too, from the next request on
        assert (await client.as_(session).identity()).json()["code"] == "session_over"
    assert [event.type for event in HEARD] == [events.REFRESH_REUSED, events.SESSION_REVOKED]
    assert HEARD[0].data["userId"] == ada.session["user"]["id"]


@pytest.mark.shows("AU-03")
async def test_of_many_refreshes_with_one_token_at_most_one_succeeds(client: Client) -> None:
    ada = await client.sign_up()
    found = await asyncio.gather(*(refresh(client, ada.session["refreshToken"]) for _ in range(20)))
    winners = [each for each in found if each["__typename"] == "Session"]
    assert len(winners) <= 1
    for winner in winners:
        assert (await refresh(client, winner["refreshToken"]))["__typename"] == "Unauthenticated"
    assert (await ada.identity()).status_code == 401


async def test_a_session_does_not_end_another(client: Client) -> None:
    ada = await client.sign_up()
    other = client.as_(await log_in(client, ada.session["email"]))
    await refresh(client, ada.session["refreshToken"])
    await refresh(client, ada.session["refreshToken"])
    assert (await ada.identity()).status_code == 401
    assert (await other.identity()).status_code == 200


async def test_logging_out_holds_from_the_next_request(client: Client) -> None:
    ada = await client.sign_up()
    assert (await ada.identity()).status_code == 200
    assert await client.ask("auth", LOG_OUT, {"token": ada.session["refreshToken"]}) == {"logOut": {"ended": True}}
    assert (await ada.identity()).json()["code"] == "session_over"
    assert (await refresh(client, ada.session["refreshToken"]))["__typename"] == "Unauthenticated"
    assert await client.ask("auth", LOG_OUT, {"token": ada.session["refreshToken"]}) == {"logOut": {"ended": False}}


async def test_a_session_ends_when_it_is_idle_and_however_it_is_used(client: Client, settings: Settings) -> None:
    for change in ("expires = now() - interval '1 second'", "at = now() - interval '91 days'"):
        ada = await client.sign_up()
        await stored(
            settings, f"update auth.session set {change} where account = $1::text::uuid", ada.session["user"]["id"]
        )
        assert (await refresh(client, ada.session["refreshToken"]))["__typename"] == "Unauthenticated"


@pytest.mark.parametrize("token", ["", "x", "lfr_" + "A" * 43, "é", "A" * 5_000, "\u0000"])
async def test_made_up_refresh_tokens_do_nothing(client: Client, token: str) -> None:
    assert (await refresh(client, token))["code"] == "session_over"
    assert await client.ask("auth", LOG_OUT, {"token": token}) == {"logOut": {"ended": False}}


async def test_tokens_are_stored_as_hashes_only(client: Client, settings: Settings) -> None:
    ada = await client.sign_up()
    held = await stored(settings, "select array_agg(hash) from auth.refresh_token")
    assert hashlib.sha256(ada.session["refreshToken"].encode()).digest() in held
    key = await stored(settings, "select sealed from auth.signing_key")
    assert b"PRIVATE" not in key
    assert b"\x30\x82" not in key[:20]


async def test_unknown_address_and_wrong_password_get_the_same_answer(client: Client) -> None:
    ada = await client.sign_up()
    wrong = await log_in(client, ada.session["email"], "not the password")
    unknown = await log_in(client, f"{uuid4().hex}@example.com", "not the password")
    assert (
        wrong == unknown == {"__typename": "Unauthenticated", "code": "credentials_wrong", "message": wrong["message"]}
    )


@pytest.mark.parametrize("known", [True, False])
async def test_wrong_passwords_are_slowed_down_alike_for_known_and_unknown(client: Client, known: bool) -> None:
    email = (await client.sign_up()).session["email"] if known else f"{uuid4().hex}@example.com"
    tries = [await log_in(client, email, f"wrong {number}") for number in range(5)]
    assert [found["__typename"] for found in tries] == ["Unauthenticated"] * 4 + ["Limited"]
    assert 0 < tries[-1]["retryAfter"] <= 1
    right = await log_in(client, email)
    assert right["code"] == "attempts_limited"


async def test_many_guesses_at_once_count_like_one_after_the_other(client: Client) -> None:
    email = (await client.sign_up()).session["email"]
    found = await asyncio.gather(*(log_in(client, email, f"wrong {number}") for number in range(12)))
    assert sum(each["__typename"] == "Unauthenticated" for each in found) == 4


async def test_one_address_that_tries_many_accounts_is_slowed_down(client: Client) -> None:
    client = Client(client.ground, client.http, forwarded="203.0.113.77")
    kinds = [(await log_in(client, f"{uuid4().hex}@example.com", "spray"))["__typename"] for _ in range(23)]
    assert kinds[:21] == ["Unauthenticated"] * 21
    assert "Limited" in kinds[21:]
    other = Client(client.ground, client.http, forwarded="203.0.113.78")
    assert (await log_in(other, f"{uuid4().hex}@example.com", "spray"))["__typename"] == "Unauthenticated"


def test_waits_grow_and_are_forgotten() -> None:
    keys = AttemptKeys.of("a@example.com", "203.0.113.1")
    now = datetime.now(UTC)
    waits = [keys.wait({keys.account: Attempts(n, now)}, now).total_seconds() for n in range(3, 13)]
    assert waits == [0, 1, 4, 16, 64, 256, 900, 900, 900, 900]
    assert keys.wait({keys.account: Attempts(50, now - timedelta(minutes=16))}, now) <= timedelta()


@pytest.mark.shows("AU-15")
async def test_passwords_are_argon2id_with_their_parameters(client: Client, settings: Settings) -> None:
    ada = await client.sign_up()
    held = await stored(
        settings, "select password from auth.account where id = $1::text::uuid", ada.session["user"]["id"]
    )
    found = argon2.extract_parameters(held)
    assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (argon2.Type.ID, 65_536, 3, 4)
    assert (found.salt_len, found.hash_len) == (16, 32)


def unpadded(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def foreign_hashes(password: str) -> dict[str, str]:
    plain, salt = password.encode(), b"0123456789abcdef"
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1)
    django = base64.b64encode(hashlib.pbkdf2_hmac("sha256", plain, b"salt", 1_000)).decode()
    sha512 = unpadded(hashlib.pbkdf2_hmac("sha512", plain, salt, 1_000))
    sha256 = unpadded(hashlib.pbkdf2_hmac("sha256", plain, salt, 1_000))
    scrypt = unpadded(hashlib.scrypt(plain, salt=salt, n=1_024, r=8, p=1, dklen=32))
    return {
        "argon2id, weaker": weak.hash(plain),
        "bcrypt": bcrypt.hashpw(plain, bcrypt.gensalt(4)).decode(),
        "PBKDF2 as Django writes it": f"pbkdf2_sha256$1000$salt${django}",
        "PBKDF2, PHC": f"$pbkdf2-sha512$i=1000${unpadded(salt)}${sha512}",
        "PBKDF2, passlib": f"$pbkdf2-sha256$1000${unpadded(salt)}${sha256}",
        "scrypt": f"$scrypt$ln=10,r=8,p=1${unpadded(salt)}${scrypt}",
    }


@pytest.mark.shows("AU-15")
@pytest.mark.parametrize("form", foreign_hashes("x"))
async def test_hashes_of_other_systems_log_in_once_and_become_ours(
    client: Client, settings: Settings, form: str
) -> None:
    email, password = f"{uuid4().hex}@example.com", "imported passphrase"
    newcomer = Newcomer.of(email=email, name="Bo", organisation="Bo", locale=None, time_zone=None)
    imported = await commands.sign_up(newcomer, foreign_hashes(password)[form], MEANS["auth"], id=uuid7())
    while (await client.ask("auth", f'{{ signUp(id: "{imported.id}") {{ state }} }}'))["signUp"][
        "state"
    ] != "COMPLETED":
        await asyncio.sleep(0)
    assert (await log_in(client, email, "another"))["code"] == "credentials_wrong"
    assert (await log_in(client, email, password))["__typename"] == "Session"
    held = await stored(settings, "select password from auth.account where id = $1", imported.account)
    assert held.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert (await log_in(client, email, password))["__typename"] == "Session"


async def test_at_most_two_hashes_run_at_once() -> None:
    passwords = Argon2Passwords(memory_kib=8_192, passes=1, lanes=1)
    await passwords.open()
    running, most = 0, 0
    original = passwords._same

    def counted(password: bytes, hashed: str) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return original(password, hashed)
        finally:
            running -= 1

    passwords._same = counted  # type: ignore[method-assign]
    hashed = await passwords.hash("a")
    found = await asyncio.gather(*(passwords.matches("a", hashed) for _ in range(40)))
    await passwords.close()
    assert all(found)
    assert most <= 2


REFUSED: list[tuple[dict[str, str], str, str]] = [
    ({"password": "short"}, "password", "password_length"),
    ({"password": "x" * 1_001}, "password", "password_length"),
    ({"password": "password1"}, "password", "password_common"),
    ({"password": "PASSWORD1"}, "password", "password_common"),
    ({"password": "aaaaaaaaaaaa"}, "password", "password_common"),
    ({"password": "linkflow123"}, "password", "password_common"),
    ({"password": "lovelace!!", "name": "Ada Lovelace"}, "password", "password_common"),
    ({"password": "engines99", "organisation": "Engines"}, "password", "password_common"),
    ({"password": "verylongname1", "email": "verylongname@example.com"}, "password", "password_common"),
    ({"email": ""}, "email", "email_malformed"),
    ({"email": "nobody"}, "email", "email_malformed"),
    ({"email": "a@b@c"}, "email", "email_malformed"),
    ({"email": "a b@example.com"}, "email", "email_malformed"),
    ({"email": "a@" + "b" * 300}, "email", "email_malformed"),
    ({"name": "   "}, "name", "name_length"),
    ({"name": "x" * 101}, "name", "name_length"),
    ({"name": "a\u0000b"}, "name", "name_length"),
    ({"organisation": "\u202e" * 3}, "organisation", "name_length"),
    ({"locale": "../../etc"}, "locale", "locale_malformed"),
    ({"timeZone": "Mars/Olympus"}, "timeZone", "timezone_unknown"),
    ({"timeZone": "../../etc/passwd"}, "timeZone", "timezone_unknown"),
]


@pytest.mark.parametrize(("changes", "field", "code"), REFUSED)
async def test_a_sign_up_that_cannot_be_names_the_field(
    client: Client, changes: dict[str, str], field: str, code: str
) -> None:
    given = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "name": "Ada", "organisation": "Engines"}
    found = (await client.ask("auth", SIGN_UP, {"input": given | changes}))["signUp"]
    assert (found["__typename"], found["field"], found["code"]) == ("Invalid", field, code)


@pytest.mark.parametrize(
    "password", ["8 chars!", "ünïcödé wörds", "nul \u0000 inside it", "x1y2z3 " * 100, "汉字密码安全八字"]
)
async def test_passwords_of_any_characters_are_kept_whole(client: Client, password: str) -> None:
    ada = await client.sign_up(password=password)
    assert (await log_in(client, ada.session["email"], password[:-1]))["code"] == "credentials_wrong"
    assert (await log_in(client, ada.session["email"], password))["__typename"] == "Session"


def test_the_list_of_common_passwords_is_there() -> None:
    assert all(common(word) for word in ("password", "12345678", "qwertyuiop", "iloveyou", "trustno1"))
    assert not common(PASSWORD)


async def test_an_address_is_taken_once(client: Client) -> None:
    ada = await client.sign_up()
    given = {"email": ada.session["email"].upper(), "password": PASSWORD, "name": "Eve", "organisation": "Evil"}
    found = (await client.ask("auth", SIGN_UP, {"input": given}))["signUp"]
    assert (found["__typename"], found["code"], found["field"]) == ("Conflict", "email_taken", "email")
