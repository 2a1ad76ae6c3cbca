"""The edge of the HTTP server: TLS, names, proxies, crowds, bounds (SEC-054 to 060, 062, 093 to 096, 106)."""

import os
import re
import signal
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from engine.config import Config, ServerConfig
from engine.doctor import edges
from engine.domain.enums import Role
from engine.errors import RateLimitError, StartupError
from engine.http import strangers
from engine.http.app import create_app
from engine.http.client_ip import parse_networks
from engine.http.endpoint import ApiRequest, Raw, Registry, endpoint
from engine.http.exposure import secured
from engine.http.hosts import Names
from engine.http.limits import ServerLimits
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass, RateLimits
from engine.http.server import HttpServer
from engine.http.tls import TlsFiles
from tests.support.api import ApiServices, RunningApi, read_all, running_api
from tests.support.certificates import self_signed

QUICK = ServerLimits(handshake_s=0.5, head_s=0.5, body_silence_s=0.5, keep_alive_s=0.5, write_s=0.5, drain_s=0.5)


@endpoint("GET", "/who", permission=Permission.PUBLIC, summary="Who", root=True)
async def who(request: ApiRequest) -> str:
    return request.client_ip


@endpoint("POST", "/write", permission=Permission.WEBHOOK, summary="Write", raw_body=True, root=True)
async def write(request: ApiRequest) -> int:
    return len(request.raw)


@endpoint("GET", "/large", permission=Permission.PUBLIC, summary="Large", root=True)
async def large(request: ApiRequest) -> Raw:
    return Raw(b"x" * 8_000_000, "text/plain")


@endpoint("GET", "/mine", permission=Permission.READ, summary="Mine", root=True)
async def mine(request: ApiRequest) -> str:
    return "mine"


REGISTRY = Registry([who, write, large, mine])


def services(**server: Any) -> ApiServices:
    return ApiServices(config=Config(server=ServerConfig(**server)))


def ask(path: str, *headers: str, method: str = "GET", host: str = "127.0.0.1", body: str = "") -> bytes:
    length = [f"Content-Length: {len(body)}"] if method == "POST" else []
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, *length, "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def status(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1]) if raw else 0


@asynccontextmanager
async def tls_server(files: TlsFiles, limits: ServerLimits = QUICK) -> AsyncIterator[HttpServer]:
    app = create_app(ApiServices(), REGISTRY)
    server = HttpServer(app, port=0, tls=files, limits=limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        server.drain()


def files_in(folder: Path, host: str = "localhost") -> tuple[Path, TlsFiles]:
    pem = self_signed(folder, host)
    pem.chmod(0o600)
    return pem, TlsFiles(pem, pem)


async def over_tls(server: HttpServer, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    port = int(server.base_url.rsplit(":", 1)[1])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def believing(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pem))
    context.check_hostname = False
    return context


# TLS and h2


async def test_sec_059_https_answers_with_hsts_and_a_large_answer_arrives_whole(tmp_path: Path) -> None:
    pem, files = files_in(tmp_path)
    async with tls_server(files) as server:
        assert server.base_url.startswith("https://127.0.0.1:")
        context = believing(pem)
        async with httpx.AsyncClient(verify=context, timeout=20) as client:
            answer = await client.get(f"{server.base_url}/large")
            assert len(answer.content) == 8_000_000
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
        # the parser's own refusal, and a body that was not read before the answer
        for raw in (b"GARBAGE\r\n\r\n", ask("/nothing", method="POST", body="x" * 100_000)):
            async with await over_tls(server, context) as stream:
                await stream.send_all(raw)
                received = await stream.receive_some(65536)
                assert b"strict-transport-security: max-age=31536000" in bytes(received).lower()


@pytest.mark.parametrize(
    ("newest", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES256-SHA:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "NULL:@SECLEVEL=0"),
    ],
)
async def test_sec_059_old_versions_and_weak_ciphers_get_no_connection(
    tmp_path: Path, newest: ssl.TLSVersion, ciphers: str
) -> None:
    _, files = files_in(tmp_path)
    async with tls_server(files) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers(ciphers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is what is tried
            context.minimum_version = min(newest, ssl.TLSVersion.TLSv1_1)
            context.maximum_version = newest
        with pytest.raises(trio.BrokenResourceError):
            await over_tls(server, context)


async def test_sec_058_h2_is_not_offered_and_not_taken_over_tls(tmp_path: Path) -> None:
    pem, files = files_in(tmp_path)
    async with tls_server(files) as server:
        context = believing(pem)
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with await over_tls(server, context) as stream:
            assert stream.selected_alpn_protocol() == "http/1.1"
        context.set_alpn_protocols(["h2"])
        async with await over_tls(server, context) as stream:
            assert stream.selected_alpn_protocol() is None
            await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            assert status(bytes(await stream.receive_some(65536))) == 505


@pytest.mark.parametrize(
    "octets",
    [
        ask("/who", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        ask("/who", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_sec_058_upgrade_and_prior_knowledge_are_not_taken(octets: bytes) -> None:
    async with running_api(ApiServices(), REGISTRY) as api:
        answer = await api.exchange(octets)
        assert status(answer) in (200, 505)
        assert b" 101 " not in answer


async def test_sec_059_renewed_certificate_is_taken_up_and_connections_stay(tmp_path: Path) -> None:
    pem, files = files_in(tmp_path)
    old = believing(pem)
    async with tls_server(files, ServerLimits(drain_s=0.5)) as server:
        first = await certificate(server)
        kept = await over_tls(server, old)
        pem.write_bytes(b"half a file")
        assert not files.reload()
        await (await over_tls(server, old)).aclose()  # what cannot be used is not taken up
        pem.write_bytes(self_signed(tmp_path, "renewed").read_bytes())
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(5):
            while await certificate(server) == first:
                await trio.sleep(0.02)
        await kept.send_all(ask("/who"))
        assert status(bytes(await kept.receive_some(65536))) == 200
        await kept.aclose()


async def certificate(server: HttpServer) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = await over_tls(server, context)
    found = stream.getpeercert(binary_form=True)
    await stream.aclose()
    return bytes(found)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660])
def test_sec_059_key_that_others_can_read_refuses_to_start(tmp_path: Path, mode: int) -> None:
    pem = self_signed(tmp_path, "localhost")
    pem.chmod(mode)
    with pytest.raises(StartupError, match="chmod 600"):
        secured(ServerConfig(tls_cert=str(pem), tls_key=str(pem)))


def test_sec_059_files_that_do_not_belong_together_are_refused_by_name(tmp_path: Path) -> None:
    one, other = self_signed(tmp_path, "one"), self_signed(tmp_path, "other")
    for path in (one, other):
        path.chmod(0o600)
    with pytest.raises(StartupError, match=r"\[server\] tls_cert"):
        TlsFiles(one, _key_of(other))
    (tmp_path / "empty").touch(mode=0o600)
    for cert, key in ((one, tmp_path / "none"), (tmp_path / "none", one), (tmp_path / "empty", one)):
        with pytest.raises(StartupError, match=r"\[server\] tls_"):
            TlsFiles(cert, key)


def _key_of(pem: Path) -> Path:
    path = pem.with_suffix(".key")
    path.write_bytes(pem.read_bytes().partition(b"-----BEGIN CERT")[0])
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "engine.example.com"])  # noqa: S104 -- refused
def test_sec_059_plain_http_for_other_machines_is_refused_with_its_mend(host: str) -> None:
    with pytest.raises(StartupError, match="tls_cert and tls_key, or trusted_proxies"):
        secured(ServerConfig(host=host))
    assert secured(ServerConfig(host=host, trusted_proxies=("10.0.0.1",))) is None
    assert secured(ServerConfig(host=host, allow_plain_http=True)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_sec_059_plain_http_on_this_machine_is_served(host: str) -> None:
    assert secured(ServerConfig(host=host)) is None


# names


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "a@b", "a b", "[::1", "::1"]
)
async def test_sec_056_name_that_is_led_here_from_a_browser_on_this_machine_is_refused(host: str) -> None:
    async with running_api(ApiServices(), REGISTRY) as api:
        answer = await api.exchange(ask("/who", host=host))
        assert status(answer) in (400, 421)
        assert b'"success":false' in answer


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:80", "localhost:8080", "[::1]:80", "x", "engine", "a.localhost"]
)
async def test_sec_056_names_of_this_machine_are_served(host: str) -> None:
    async with running_api(ApiServices(), REGISTRY) as api:
        assert status(await api.exchange(ask("/who", host=host))) == 200


async def test_sec_056_listed_names_and_that_of_the_public_address_alone_are_served() -> None:
    listed = services(allowed_hosts=("a.example.com",), public_url="https://b.example.com")
    async with running_api(listed, REGISTRY) as api:
        served = {"a.example.com": 200, "B.example.com:443": 200, "127.0.0.1": 200, "evil.example": 421, "x": 421}
        for host, expected in served.items():
            assert status(await api.exchange(ask("/who", host=host))) == expected, host


def test_sec_056_proxy_answers_for_the_names_that_it_passes_on() -> None:
    names = Names((), "", parse_networks(["10.0.0.1", "127.0.0.1"]))
    for peer, refused in (("127.0.0.1", False), ("10.0.0.1", False), ("192.0.2.1", False)):
        assert (names.fault("GET", [(b"host", b"any.example")], peer, "http") is not None) is refused
    listed = Names(("any.example",), "", parse_networks(["10.0.0.1"]))
    assert listed.fault("GET", [(b"host", b"other.example")], "192.0.2.1", "http") is not None


@pytest.mark.parametrize(
    "headers",
    [
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site", "Origin: http://127.0.0.1"),
        ("Origin: https://evil.example",),
        ("Origin: null",),
        ("Origin: http://127.0.0.1.evil.example", "Cookie: a=b"),
        ("Origin: http://127.0.0.1:1", "Cookie: a=b"),
        ("Origin: http://127.0.0.1", "Origin: https://evil.example"),
        ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
    ],
)
async def test_sec_029_page_of_another_origin_can_write_nothing(headers: tuple[str, ...]) -> None:
    async with running_api(ApiServices(), REGISTRY) as api:
        answer = await api.exchange(ask("/write", *headers, method="POST", body="x"))
        assert status(answer) == 403
        assert b"access-control-" not in answer.lower()
        assert status(await api.exchange(ask("/who", *headers))) == 200  # what it reads, its browser does not show it


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Sec-Fetch-Site: same-origin", "Origin: http://rewritten"),
        ("Sec-Fetch-Site: none",),
        ("Origin: http://127.0.0.1",),
        ("Origin: https://engine.example.com",),
    ],
)
async def test_sec_029_own_pages_and_programs_write(headers: tuple[str, ...]) -> None:
    async with running_api(services(public_url="https://engine.example.com"), REGISTRY) as api:
        assert status(await api.exchange(ask("/write", *headers, method="POST", body="x"))) == 200


# proxies


async def test_sec_054_direct_client_cannot_say_who_it_is_and_a_proxy_can() -> None:
    claim = ("X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9")
    async with running_api(ApiServices(), REGISTRY) as api:
        for headers in (claim, claim[:1], claim[1:]):
            assert b'"127.0.0.1"' in await api.exchange(ask("/who", *headers))
    async with running_api(services(trusted_proxies=("127.0.0.1",)), REGISTRY) as api:
        for headers in (claim, claim[:1], claim[1:]):
            assert b'"203.0.113.9"' in await api.exchange(ask("/who", *headers))
        torn = await api.exchange(ask("/who", claim[0], "Forwarded: for=198.51.100.1"))
        assert status(torn) == 400
        assert b"FORWARDED_AMBIGUOUS" in torn


# deadlines and crowds


@pytest.mark.parametrize("part", ["nothing", "half a hello"])
async def test_sec_093_handshake_that_does_not_come_is_cut(tmp_path: Path, part: str) -> None:
    _, files = files_in(tmp_path)
    async with tls_server(files) as server:
        port = int(server.base_url.rsplit(":", 1)[1])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            if part == "half a hello":
                await stream.send_all(b"\x16\x03\x01\x02\x00\x01")
            assert await read_all(stream) == b""


@pytest.mark.parametrize("step", [b"X-A: b\r\n", b" "])
async def test_sec_093_head_that_dribbles_is_cut(step: bytes) -> None:
    async with running_api(ApiServices(), REGISTRY, limits=QUICK) as api, await api.connect() as stream:
        await stream.send_all(b"GET /who HTTP/1.1\r\nHost: x\r\nX-B: ")
        with trio.fail_after(8):
            while await takes(stream, step):
                await trio.sleep(0.05)


async def takes(stream: trio.SocketStream, octets: bytes) -> bool:
    try:
        await stream.send_all(octets)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return False
    return True


async def test_sec_093_one_address_has_its_share_and_keeps_nobody_else_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = ServerLimits(connections=20, connections_per_address=3, drain_s=0.5)
    async with running_api(ApiServices(), REGISTRY, limits=limits) as api:
        crowd = api.server._crowd
        # the peers of a test are all this machine: take the port's parity for an address
        monkeypatch.setattr(crowd, "peer_of", lambda address: "198.51.100.1" if address[0] == "127.0.0.2" else "")
        theirs = [await _from("127.0.0.2", api) for _ in range(12)]
        ours = [await api.connect() for _ in range(10)]
        assert status(await api.exchange(ask("/who"))) == 200
        assert len(crowd) <= 3 + 10 + 1
        for stream in (*theirs, *ours):
            await stream.aclose()


async def _from(local: str, api: RunningApi) -> trio.SocketStream:
    sock = trio.socket.socket()
    await sock.bind((local, 0))
    await sock.connect(("127.0.0.1", api.port))
    return trio.SocketStream(sock)


async def test_sec_093_900_idle_connections_are_held_off_while_requests_are_answered() -> None:
    async with running_api(ApiServices(), REGISTRY, limits=ServerLimits(connections=64, drain_s=0.5)) as api:
        streams = [await api.connect() for _ in range(900)]
        for _ in range(5):
            assert status(await api.exchange(ask("/who"))) == 200
        assert api.server.connections <= 64
        for stream in streams:
            await stream.aclose()


async def test_sec_093_connection_is_closed_after_its_number_of_requests() -> None:
    limits = ServerLimits(keep_alive_requests=5, drain_s=0.5)
    async with running_api(ApiServices(), REGISTRY, limits=limits) as api, await api.connect() as stream:
        for _ in range(20):
            await takes(stream, b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 5 <= (await read_all(stream)).count(b"HTTP/1.1 200") <= 6


async def test_sec_094_reader_that_stalls_over_tls_is_cut_and_holds_up_no_end(tmp_path: Path) -> None:
    pem, files = files_in(tmp_path)
    with trio.fail_after(10):
        async with tls_server(files, ServerLimits(drain_s=1.0, write_s=30.0)) as server:
            stream = await over_tls(server, believing(pem))
            await stream.send_all(ask("/large"))
            await stream.receive_some(1)
        await trio.aclose_forcefully(stream)


# rates


def test_sec_096_cancels_and_the_kill_switch_have_buckets_of_their_own() -> None:
    limits = RateLimits(login_per_minute=1, webhook_per_minute=1, api_per_minute=1, time=lambda: 0.0)
    for rate in (RateClass.API, RateClass.KILL_SWITCH):
        assert any(is_over(limits, rate) for _ in range(1_000))
        limits.charge(RateClass.CANCEL, "u")


def is_over(limits: RateLimits, rate: RateClass) -> bool:
    try:
        limits.charge(rate, "u")
    except RateLimitError:
        return True
    return False


async def test_sec_096_flood_of_refused_requests_is_429_and_whoever_is_known_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "_REFUSED_BURST": 20,
        "_REFUSED_PER_SECOND": 0.1,
        "_LATE_S": (0.0, 0.0),
        "_TRICKLE_PER_SECOND": 1,
        "_ENTER_BURST": 500,
    }.items():
        monkeypatch.setattr(strangers, name, value)
    known = ApiServices()
    headers = known.bearer(known.add_user(Role.VIEWER))
    async with running_api(known, REGISTRY) as api:
        refused = [(await api.client.get("/mine")).status_code for _ in range(40)]
        assert refused[:20] == [401] * 20
        assert refused[-1] == 429
        late = await api.client.get("/mine", headers={"Authorization": "Bearer made.up.token"})
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) > 0
        assert (await api.client.get("/mine", headers=headers)).status_code == 200
        health = await api.client.get("/api/v1/system/health")
        assert health.status_code == 404  # not refused unseen: this registry has none


def test_sec_096_turns_are_apart_bounded_and_forgotten() -> None:
    now = [0.0]
    turns = strangers.Turns(10, 2, time=lambda: now[0], max_keys=3)
    assert [turns.take("a", longest_s=0.25) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.1, 0.2, None])
    assert turns.take("b", longest_s=1) == 0.0
    now[0] = 10.0
    assert turns.take("a", longest_s=1) == 0.0
    for number in range(100):
        turns.take(str(number), longest_s=1)
    assert len(turns._due) == 3


# headers


async def test_sec_062_every_answer_of_the_edge_says_the_least_and_forbids_the_most() -> None:
    async with running_api(ApiServices(), REGISTRY) as api:
        for raw in (
            ask("/who"),
            ask("/who", method="TRACE"),
            ask("/who", host="evil.example"),
            ask("/write", "Origin: null", method="POST"),
            b"GARBAGE\r\n\r\n",
            ask("/nothing"),
        ):
            head = (await api.exchange(raw)).partition(b"\r\n\r\n")[0].decode().lower()
            assert "\r\ncache-control: no-store" in head
            assert "\r\nx-content-type-options: nosniff" in head
            assert re.search(r"\r\ncontent-security-policy: [^\r]*default-src 'none'", head)
            assert "\r\nserver:" not in head
            assert "strict-transport-security" not in head  # a promise that plain HTTP cannot make
        assert status(await api.exchange(ask("/who", method="TRACE"))) == 405


# who runs it


@pytest.mark.parametrize(
    ("uid", "writes", "told"),
    [
        (0, True, "root: let it run as a user of its own"),
        (998, True, "may change the engine's own code"),
        (998, False, "may not"),
    ],
)
def test_sec_106_doctor_tells_who_could_change_the_code(
    monkeypatch: pytest.MonkeyPatch, uid: int, writes: bool, told: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "access", lambda *_: writes)
    assert told in edges.running_user()
