"""What the guarded client sends, follows, and refuses to swallow; against a real server that misbehaves."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from subgraphs.platform.egress import Egress, EgressFailed, EgressRefused
from tests.subgraphs.platform.egress.evil import Seen, Server, response, serving


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


@pytest.fixture
async def egress(server: Server) -> AsyncIterator[Egress]:
    client = Egress([server.host])
    yield client
    await client.close()


def redirecting(target: str, status: str = "302 Found") -> object:
    def answer(seen: Seen) -> bytes | None:
        return response(status, b"", f"location: {target}") if "/go" in seen.line else None

    return answer


async def test_a_plain_call(server: Server, egress: Egress) -> None:
    answer = await egress.request(
        "POST", server.url("/a b".replace(" ", "%20") + "?q=ü"), headers={"X-Mine": "é"}, body=b"hi"
    )
    assert (answer.status, answer.body) == (200, b"hi")
    assert [value for name, value in answer.headers if name == "x-two"] == ["a", "b"]
    assert server.seen[0].line == "POST /a%20b?q=%C3%BC HTTP/1.1"
    assert server.seen[0].headers["content-length"] == "2"


@pytest.mark.shows("S02")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{0}/", "http://localhost:{0}/", "http://0x7f.1:{0}/", "http://[::ffff:127.0.0.1]:{0}/",
     "http://2130706433:{0}/", "http://169.254.169.254/latest", "file:///etc/passwd", "gopher://127.0.0.1:{0}/x",
     "//127.0.0.1:{0}/", "http://user@127.0.0.1:{0}/"],
)  # fmt: skip
async def test_redirects_pass_the_guard(server: Server, egress: Egress, status: str, target: str) -> None:
    async with serving() as canary:
        server.answer = redirecting(target.format(canary.port), status)  # type: ignore[assignment]
        with pytest.raises(EgressRefused):
            await egress.request("GET", server.url("/go"))
    assert canary.connections == 0


@pytest.mark.shows("S02")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_credentials_stay_with_their_host(server: Server, status: str) -> None:
    async with serving() as second:
        egress = Egress([server.host, second.host])
        server.answer = redirecting(second.url("/b"), status)  # type: ignore[assignment]
        secrets = {"Authorization": "Bearer s3cret", "Cookie": "a=s3cret", "X-Api-Key": "s3cret", "Accept": "text/x"}
        answer = await egress.request("GET", server.url("/go"), headers=secrets)
        await egress.close()
    assert answer.url == second.url("/b")
    assert "s3cret" not in str(second.seen)
    assert second.seen[0].headers["accept"] == "text/x"
    assert server.seen[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.shows("S02")
async def test_credentials_follow_on_the_same_host(server: Server, egress: Egress) -> None:
    server.answer = redirecting("/there?x=1")  # type: ignore[assignment]
    await egress.request("GET", server.url("/go"), headers={"Authorization": "mine"})
    assert server.seen[1].headers["authorization"] == "mine"
    assert server.seen[1].line.startswith("GET /there?x=1 ")


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [
        ("301 M", "GET", b""),
        ("302 F", "GET", b""),
        ("303 S", "GET", b""),
        ("307 T", "POST", b"data"),
        ("308 P", "POST", b"data"),
    ],
)
async def test_a_redirected_post(server: Server, egress: Egress, status: str, method: str, body: bytes) -> None:
    server.answer = redirecting("/there", status)  # type: ignore[assignment]
    await egress.request("POST", server.url("/go"), body=b"data")
    assert server.seen[1].line.split(" ")[0] == method
    assert server.seen[1].body == body


@pytest.mark.shows("S06")
async def test_redirects_end(server: Server, egress: Egress) -> None:
    server.answer = redirecting("/go")  # type: ignore[assignment]
    with pytest.raises(EgressRefused, match="More than 3"):
        await egress.request("GET", server.url("/go"))
    assert len(server.seen) == 4
    assert (await egress.request("GET", server.url("/go"), redirects=0)).status == 302


@pytest.mark.shows("S02")
async def test_a_refresh_header_is_not_followed(server: Server, egress: Egress) -> None:
    server.answer = lambda seen: response("200 OK", b"x", "refresh: 0; url=http://169.254.169.254/")
    assert (await egress.request("GET", server.url("/"))).body == b"x"


@pytest.mark.shows("S06")
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/endless", "egress.too_large"),
        ("/gzip-bomb", "egress.too_large"),
        ("/broken-gzip", "egress.encoding"),
        ("/brotli", "egress.encoding"),
        ("/huge-header", "egress.disconnected"),
        ("/nonsense", "egress.disconnected"),
        ("/hang-up", "egress.disconnected"),
    ],
)
async def test_answers_that_hurt(server: Server, egress: Egress, path: str, code: str) -> None:
    with pytest.raises(EgressFailed) as caught:
        await egress.request("GET", server.url(path), max_bytes=100_000, timeout=20)
    assert caught.value.code == code
    assert caught.value.sent


@pytest.mark.shows("S06")
async def test_a_declared_size_over_the_limit_is_not_read(server: Server, egress: Egress) -> None:
    server.answer = lambda seen: b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"
    with pytest.raises(EgressFailed, match="more than 10 bytes"):
        await egress.request("GET", server.url("/"), max_bytes=10, timeout=20)


@pytest.mark.shows("S06")
async def test_what_is_endless_stops_flowing(server: Server, egress: Egress) -> None:
    with pytest.raises(EgressFailed):
        await egress.request("GET", server.url("/endless"), max_bytes=1_000_000)
    assert server.sent < 20_000_000


@pytest.mark.shows("S06")
async def test_time_is_limited(server: Server, egress: Egress) -> None:
    with pytest.raises(EgressFailed) as caught:
        await egress.request("POST", server.url("/slow/60"), timeout=0.2)
    assert (caught.value.code, caught.value.sent) == ("egress.timeout", True)


async def test_nobody_listens(egress: Egress) -> None:
    async with serving() as gone:
        pass
    client = Egress([gone.host])
    with pytest.raises(EgressFailed) as caught:
        await client.request("POST", gone.url())
    assert (caught.value.code, caught.value.sent) == ("egress.connect", False)
    await client.close()


@pytest.mark.shows("S06")
@pytest.mark.parametrize(
    ("name", "value"),
    [("x-a", "1\r\nx-b: 2"), ("x-a", "1\n2"), ("x-a", "1\0"), ("x a", "1"), ("x:a", "1"), ("", "1"), ("x\r\ny", "1"),
     ("host", "evil"), ("Content-Length", "0"), ("Transfer-Encoding", "chunked"), ("Connection", "x"), ("Upgrade", "x"),
     ("Proxy-Authorization", "x"), ("x-a", "a" * 20_000), ("é", "1")],
)  # fmt: skip
async def test_headers_cannot_break_out(server: Server, egress: Egress, name: str, value: str) -> None:
    with pytest.raises(EgressRefused):
        await egress.request("GET", server.url(), headers={name: value})
    assert server.connections == 0


@pytest.mark.shows("S06")
@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "get", "G T", "GET / HTTP/1.1\r\n", ""])
async def test_methods_are_a_list(server: Server, egress: Egress, method: str) -> None:
    with pytest.raises(EgressRefused):
        await egress.request(method, server.url())
    assert server.connections == 0


async def test_connections_are_kept(server: Server, egress: Egress) -> None:
    for _ in range(5):
        await egress.request("POST", server.url(), body=b"x")
    assert server.connections == 1


async def test_calls_run_side_by_side(server: Server, egress: Egress) -> None:
    started = time.perf_counter()
    answers = await asyncio.gather(*(egress.request("GET", server.url("/slow/0.2")) for _ in range(40)))
    assert len(answers) == 40
    assert time.perf_counter() - started < 6, "one after the other takes eight seconds"


async def test_a_kept_connection_that_was_closed_is_replaced(server: Server, egress: Egress) -> None:
    server.answer = lambda seen: response("200 OK", b"x")
    await egress.request("GET", server.url())
    server.answer = lambda seen: None
    with pytest.raises(EgressFailed):
        await egress.request("POST", server.url("/hang-up"))
    assert (await egress.request("GET", server.url())).status == 200


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.2"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    return folder / "cert.pem", folder / "key.pem"


async def test_tls_is_verified_against_the_name(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    async with serving(theirs) as server:
        trusting = Egress([server.host], trust=ssl.create_default_context(cafile=str(certificate)))
        assert (await trusting.request("GET", f"https://localhost:{server.port}/")).body == b"ok"
        with pytest.raises(EgressFailed) as caught:
            await trusting.request("GET", f"https://127.0.0.1:{server.port}/")
        assert caught.value.code == "egress.tls"
        strict = Egress([server.host])
        with pytest.raises(EgressFailed, match="certificate"):
            await strict.request("GET", f"https://localhost:{server.port}/")
        await trusting.close()
        await strict.close()
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end", 200, b"to the end"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-t: 1\r\n\r\n",
            200,
            b"abcde",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", 200, b"a"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
    ],
)
async def test_framings(server: Server, egress: Egress, raw: bytes, status: int, body: bytes) -> None:
    """RFC 9112, 6.3; twice each, so that what is left of one answer never begins the next."""
    server.answer = lambda seen: raw
    for _ in range(2):
        answer = await egress.request("GET", server.url())
        assert (answer.status, answer.body) == (status, body)


async def test_a_head_has_no_body(server: Server, egress: Egress) -> None:
    server.answer = lambda seen: b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
    assert (await egress.request("HEAD", server.url())).body == b""
    assert (await egress.request("HEAD", server.url())).status == 200
    assert server.connections == 1


async def test_more_than_one_answer_is_not_believed(server: Server, egress: Egress) -> None:
    server.answer = lambda seen: response("200 OK", b"a") + response("200 OK", b"forged")
    for _ in range(3):
        answer = await egress.request("GET", server.url())
        assert (answer.body, len(answer.headers)) == (b"a", 1)
    assert server.connections == 3
