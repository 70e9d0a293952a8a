"""Which addresses may be called.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), RFC 6052 (NAT64), RFC 3056 (6to4),
RFC 4380 (Teredo), RFC 6598 (100.64/10). For IPv6 only global unicast (2000::/3) is open, so mapped, compatible,
translated, unique local, link-local and multicast addresses need no entry of their own.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol, TypeAlias

import idna

from subgraphs.platform.egress.faults import EgressFailed, EgressRefused

Address: TypeAlias = IPv4Address | IPv6Address

DNS_SECONDS = 3.0
CLOSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",
    )
)  # fmt: skip
"""The last is the metadata service of one cloud on a public address."""
OPEN_V6 = IPv6Network("2000::/3")
CLOSED_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)\Z")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")


def public(address: Address) -> bool:
    """Whether the address belongs to somebody on the internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in CLOSED_V4)
    return address.scope_id is None and address in OPEN_V6 and not any(address in network for network in CLOSED_V6)


def canonical(host: str) -> str:
    """The host as it is compared and dialled: lower case, IDNA, addresses in their one form, without final dot.

    Raises EgressRefused for what resolvers read in surprising ways: short, octal, decimal and hexadecimal addresses,
    zone ids, percent signs and anything that is no host name.
    """
    if host.startswith("["):
        if not host.endswith("]"):
            raise _bad(host)
        try:
            return IPv6Address(host[1:-1]).compressed if "%" not in host else _refuse(host)
        except ValueError:
            raise _bad(host) from None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True, transitional=False).decode()
        except idna.IDNAError:
            raise _bad(host) from None
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.match(labels[-1]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise _bad(host) from None
    if not name or len(name) > 253 or not all(map(_LABEL.match, labels)):
        raise _bad(host)
    return name


def _bad(host: str) -> EgressRefused:
    return EgressRefused("egress.host", f"{host[:100]!r} is no host name or address.")


def _refuse(host: str) -> str:
    raise _bad(host)


class Resolver(Protocol):
    """Finds the addresses of a name; raises OSError."""

    async def __call__(self, name: str) -> Sequence[str]: ...


async def system_resolver(name: str) -> Sequence[str]:
    """The operating system's resolver: hosts file, then DNS."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Guard:
    """Says which addresses a target may be dialled at."""

    def __init__(self, allow: Iterable[str] = (), resolve: Resolver = system_resolver) -> None:
        self._allowed = frozenset(map(_target, allow))
        self._resolve = resolve

    async def addresses(self, host: str, port: int) -> list[str]:
        """The permitted addresses of a canonical host, in the resolver's order; raises EgressRefused if there is none,
        EgressFailed if the name is unknown."""
        found = _literal(host)
        names = [host] if found is not None else await self._names(host)
        allowed = (host, port) in self._allowed
        open_ = [name for name in names if allowed or self._permits(name, port)]
        if not open_:
            message = f"{host} has no address that workflows may call."
            raise EgressRefused("egress.address", message)
        return open_

    def _permits(self, text: str, port: int) -> bool:
        address = _literal(text)
        return address is not None and (public(address) or (address.compressed, port) in self._allowed)

    async def _names(self, host: str) -> Sequence[str]:
        try:
            async with asyncio.timeout(DNS_SECONDS):
                return await self._resolve(host)
        except TimeoutError:
            raise EgressFailed("egress.dns", f"The name {host} was not resolved in {DNS_SECONDS:g} s.") from None
        except (OSError, UnicodeError):
            raise EgressFailed("egress.dns", f"The name {host} has no address.") from None


def _literal(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _target(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return canonical(f"[{host}]" if ":" in host and not host.startswith("[") else host), int(port)
