"""No way of writing an address leads to a private one: 150 URLs, canaries that nobody may dial."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from subgraphs.platform.egress import Egress, EgressFailed, EgressRefused, public
from tests.subgraphs.platform.egress.evil import naming, serving

CLOSED = [
    # loopback, this network, private, shared, link-local, metadata
    "127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254", "0.0.0.1", "0.1.2.3", "10.0.0.1",
    "0.0.0.0",  # noqa: S104
    "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "10.255.255.255",
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1",
    "192.52.193.1", "192.88.99.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    # the same in other writings
    "127.0.0.1.", "127.1", "127.0.1", "0", "0.0", "2130706433", "4294967295", "017700000001", "0177.0.0.1", "0177.1",
    "0x7f.0.0.1", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "127.0.0.0x1", "00127.0.0.1", "127.000.000.001", "2852039166",
    "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376", "010.0.0.1", "1e1.0.0.1", "127.0.0.1.1", "256.256.256.256",
    # IPv6
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b:1::1]", "[100::1]", "[2001::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[2001:db8::1]", "[2002:7f00:1::]", "[2002:a00:1::1]",
    "[2002:a9fe:a9fe::1]", "[2620:4f:8000::1]", "[3fff::1]", "[5f00::1]", "[fc00::1]", "[fd00::1]", "[fd00:ec2::254]",
    "[fe80::1]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[fe80::1%25lo]", "[fe80::1%25eth0]", "[::1%251]",
    "[fe80::1%lo]",
    "[::1", "::1", "[::1]]", "[127.0.0.1]", "[::ffff:127.1]",
    # names
    "localhost", "LOCALHOST", "localhost.", "ip6-localhost", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "ⓛocalhost",
    "127.0.0.1%00.example.org", "127.0.0.1%2f@example.org", "%31%32%37.0.0.1", "127.0.0.1%09", "exa mple.org",
    "-a.example.org", "a..b", "." , "..", "a" * 300, "xn--\u0000",
]  # fmt: skip
FORMS = [
    "http://user@{0}/", "http://user:password@{0}/", "http://example.org@{0}/", "http://example.org:80@{0}/",
    "http://{0}\\@example.org/", "http://{0}#@example.org/", "http://{0}?@example.org/", "//{0}/", "http:///{0}/",
    "http:{0}", "http://{0}:0/", "http://{0}:99999/", "http://{0}:-1/", "http://{0}:8o/", " http://{0}/",
    "http://{0}\t/",
    "http://{0}\r\nhost: a/", "ftp://{0}/", "file:///etc/passwd", "gopher://{0}/_x", "dict://{0}/x",
    "data:text/plain,x",
    "unix:///var/run/docker.sock", "http+unix://%2fvar%2frun%2fdocker.sock/", "ldap://{0}/", "jar:http://{0}!/",
    "ws://{0}/",
    "javascript:alert(1)", "HTTP+X://{0}/", "", "/", "http://", "https://", "http://:80/",
]  # fmt: skip
URLS = [f"http://{host}:PORT/" for host in CLOSED] + [form.format("127.0.0.1:PORT") for form in FORMS]


def test_the_matrix_is_large() -> None:
    assert len(URLS) >= 150


@pytest.mark.shows("S01", "S05")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nobody_dials_the_canary(method: str) -> None:
    async with serving() as four, serving(host="::1") as six:
        egress = Egress()
        for url in URLS:
            for canary in (four, six):
                with pytest.raises((EgressRefused, EgressFailed)) as caught:
                    await egress.request(method, url.replace("PORT", str(canary.port)), timeout=5)
                assert not caught.value.sent, url
        await egress.close()
    assert four.connections == six.connections == 0


@pytest.mark.shows("S01")
@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2001:4860:4860::8888", "100.63.0.1"]
)
def test_public_addresses_are_open(text: str) -> None:
    assert public(ip_address(text))


@pytest.mark.shows("S01")
async def test_an_operator_may_open_one_target() -> None:
    async with serving() as server, serving() as other:
        egress = Egress([server.host])
        assert (await egress.request("GET", server.url())).body == b"ok"
        assert (await egress.request("GET", f"http://localhost:{server.port}/")).status == 200
        with pytest.raises(EgressRefused):
            await egress.request("GET", other.url())
        await egress.close()
    assert other.connections == 0


@pytest.mark.shows("S03")
async def test_the_address_that_was_checked_is_the_one_dialled() -> None:
    async with naming() as (zone, resolve), serving() as canary:
        zone.answers = {
            "rebind.test": [["192.0.2.1"], ["127.0.0.1"]],
            "private.test": [["127.0.0.1"]],
            "mixed.test": [["10.0.0.1", "127.0.0.1", "::1", "::ffff:7f00:1"]],
            "alias.test": [["cname:alias2.test"]],
            "alias2.test": [["cname:private.test"]],
            "none.test": [[]],
            "silent.test": [["silent"]],
        }
        egress = Egress(resolve=resolve)
        for name in ("rebind", "rebind", "private", "mixed", "alias", "none", "silent"):
            with pytest.raises((EgressRefused, EgressFailed)) as caught:
                await egress.request("GET", f"http://{name}.test:{canary.port}/", timeout=4)
            assert not caught.value.sent
        assert zone.asked.count("rebind.test") == 2
        await egress.close()
    assert canary.connections == 0


@pytest.mark.shows("S03")
async def test_a_name_is_resolved_once_for_each_connection() -> None:
    async with naming() as (zone, resolve), serving() as server:
        zone.answers = {"good.test": [["127.0.0.1"], ["10.0.0.1"]]}
        egress = Egress([server.host], resolve=resolve)
        for _ in range(3):
            assert (await egress.request("GET", f"http://good.test:{server.port}/")).body == b"ok"
        await egress.close()
    assert zone.asked == ["good.test"]
    assert server.connections == 1
    assert server.seen[0].headers["host"] == f"good.test:{server.port}"


@pytest.mark.shows("S04")
async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as proxy, serving() as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        monkeypatch.delenv("no_proxy", raising=False)
        egress = Egress([server.host])
        assert (await egress.request("GET", server.url())).status == 200
        await egress.close()
    assert proxy.connections == 0


async def test_a_call_that_is_cancelled_leaves_nothing_behind() -> None:
    async with serving() as server:
        egress = Egress([server.host])
        call = asyncio.create_task(egress.request("GET", server.url("/slow/60")))
        while not server.seen:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await egress.request("GET", server.url())).status == 200
        await egress.close()
