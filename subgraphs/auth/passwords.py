"""Passwords: what is acceptable, how they are hashed, and how hashes of other systems are understood.

Argon2id (RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes). The parameters stand in each hash, so that
raising them needs no migration: a login re-hashes. At most HASHES run at once in a process, each holding 64 MiB.
Rules follow NIST SP 800-63B: length, a list of common passwords, words of the person's own; no composition rules.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import argon2
import bcrypt

from subgraphs.platform.domain import Invalid, Limited

SHORTEST, LONGEST = 8, 1_000
MEMORY_KIB, PASSES, LANES = 65_536, 3, 4
HASHES = 2
WAITING = 200
"""Hashes that may wait in a process; beyond that callers are told to come back."""

_Found = TypeVar("_Found")
_WIDTH = 6  # bytes kept of each SHA-256 in the list
_LIST = Path(__file__).with_name("common_passwords.bin")


def check(password: str, own_words: Iterable[str]) -> None:
    """Raises Invalid, naming the field, for a password that is too short, too long, common, or made of `own_words`."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(
            f"A password has {SHORTEST} to {LONGEST} characters.",
            code="password_length",
            field="password",
            next_step="Use a few words in a row, or let a password manager make one.",
        )
    plain = password.casefold()
    words = {word.casefold() for text in own_words for word in (text, *re.split(r"[\W_]+", text)) if len(word) >= 4}
    if (
        any(word in plain and len(plain) - len(word) < SHORTEST for word in words)
        or len(set(plain)) < 4
        or common(plain)
    ):
        raise Invalid(
            "This password is easy to guess.",
            code="password_common",
            field="password",
            next_step="Choose one that is on no list of leaked passwords and holds no name of yours.",
        )


def common(password: str) -> bool:
    """Whether it is among the 11,611 most used passwords of at least eight characters."""
    return hashlib.sha256(password.encode()).digest()[:_WIDTH] in _common()


@cache
def _common() -> frozenset[bytes]:
    found = _LIST.read_bytes()
    return frozenset(found[at : at + _WIDTH] for at in range(0, len(found), _WIDTH))


class Argon2Passwords:
    """Hashes and compares in threads of its own, so that neither the loop nor the memory suffers."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES, lanes: int = LANES) -> None:
        self._hasher = argon2.PasswordHasher(
            time_cost=passes, memory_cost=memory_kib, parallelism=lanes, hash_len=32, salt_len=16, type=argon2.Type.ID
        )
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._nobody = ""

    async def open(self) -> None:
        self._threads = ThreadPoolExecutor(HASHES, thread_name_prefix="password")
        self._nobody = await self.hash("nobody has this password")

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        return await self._apart(lambda: self._hasher.hash(password.encode()))

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Compares; without a hash it compares with nobody's, and says no."""
        if len(password) > LONGEST:
            password, hashed = "", None
        same = await self._apart(lambda: self._same(password.encode(), hashed or self._nobody))
        return same and hashed is not None

    def outdated(self, hashed: str) -> bool:
        """Whether the hash is another system's, or made with other parameters than today's."""
        return not hashed.startswith("$argon2id$") or self._hasher.check_needs_rehash(hashed)

    async def _apart(self, work: Callable[[], _Found]) -> _Found:
        if self._threads is None:
            raise RuntimeError("passwords are not open")
        if self._waiting >= WAITING:
            raise Limited("Many people log in at the moment.", code="busy", retry_after=2.0, next_step="Try again.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _same(self, password: bytes, hashed: str) -> bool:
        if hashed.startswith("$argon2"):
            try:
                return self._hasher.verify(hashed, password)
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return False
        return foreign(password, hashed)


def known(hashed: str) -> bool:
    """Whether hashes of this form can be compared, ours or another system's."""
    return hashed.startswith(
        ("$argon2id$", "$argon2i$", "$2a$", "$2b$", "$2y$", "pbkdf2_sha256$", "$pbkdf2-sha", "$scrypt$")
    )


def foreign(password: bytes, hashed: str) -> bool:
    """Compares with another system's hash: bcrypt, PBKDF2 (Django's form and PHC's), scrypt (PHC)."""
    try:
        if hashed.startswith("$2"):
            return bcrypt.checkpw(password[:72].split(b"\0")[0], hashed.encode())  # as bcrypt itself truncates
        if hashed.startswith("pbkdf2_sha256$"):
            _, rounds, salt, wanted = hashed.split("$")
            found = hashlib.pbkdf2_hmac("sha256", password, salt.encode(), min(int(rounds), 10_000_000))
            return hmac.compare_digest(found, base64.b64decode(wanted))
        _, name, settings, salt, wanted = hashed.split("$")
        words = dict(word.split("=") for word in settings.split(",")) if "=" in settings else {"i": settings}
        return hmac.compare_digest(
            _derived(name, words, password, _unpadded(salt), len(_unpadded(wanted))), _unpadded(wanted)
        )
    except (ValueError, KeyError, binascii.Error):
        return False


def _derived(name: str, words: dict[str, str], password: bytes, salt: bytes, length: int) -> bytes:
    if name == "scrypt":
        cost, block, lanes = 1 << min(int(words["ln"]), 20), int(words["r"]), int(words["p"])
        return hashlib.scrypt(password, salt=salt, n=cost, r=block, p=lanes, maxmem=256 << 20, dklen=length)
    return hashlib.pbkdf2_hmac(name.removeprefix("pbkdf2-"), password, salt, min(int(words["i"]), 10_000_000), length)


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))
