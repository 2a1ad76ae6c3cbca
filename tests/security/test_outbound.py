"""Where the engine connects to, and where nobody can make it connect to (SEC-060)."""

import ast
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

import engine
from engine import egress
from engine.actors.telegram_replies import TelegramReplies
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads
from engine.config import BrokerConfig, Config, KiteConfig, TelegramConfig
from engine.errors import BrokerUnavailable, ValidationError
from engine.secret import Secret
from tests.support.certificates import self_signed

CODE = Path(engine.__file__).parent


def calls_of(*names: str) -> list[tuple[str, ast.Call]]:
    texts = {
        path: text for path in CODE.rglob("*.py") if "httpx" in (text := path.read_text()) or "urllib.request" in text
    }
    return [
        (f"{path.relative_to(CODE)}:{item.lineno}", item)
        for path, text in texts.items()
        for item in ast.walk(ast.parse(text))
        if isinstance(item, ast.Call) and ast.unparse(item.func) in names
    ]


def test_sec_060_no_client_takes_a_proxy_of_the_environment_follows_or_skips_certificates() -> None:
    clients = calls_of("httpx.AsyncClient", "httpx.Client", "httpx.AsyncHTTPTransport", "httpx.HTTPTransport")
    assert len(clients) > 5
    for where, call in clients:
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert options.get("trust_env") == "False", where
        assert options.get("follow_redirects", "False") == "False", where
        assert options.get("verify") != "False", where
    for where, _ in calls_of("httpx.get", "httpx.post", "httpx.request", "urllib.request.urlopen", "requests.get"):
        raise AssertionError(f"{where}: a call with the library's own defaults")
    text = "".join(path.read_text() for path in CODE.rglob("*.py"))
    assert "CERT_NONE" not in text
    assert "_create_unverified" not in text


def test_sec_060_targets_are_those_of_the_configuration() -> None:
    shown = {f"{target.host}:{target.port}" for target in egress.allowed_targets(Config())}
    assert shown == {"api.kite.trade:443", "ws.kite.trade:443", "api.telegram.org:443"}
    config = Config(
        broker=BrokerConfig(kite=KiteConfig(root_url="http://127.0.0.1:7000", ws_url="ws://127.0.0.1:7001")),
        telegram=TelegramConfig(api_url="https://Telegram.internal:8443"),
    )
    shown = {f"{target.host}:{target.port}" for target in egress.allowed_targets(config)}
    assert shown == {"127.0.0.1:7000", "127.0.0.1:7001", "telegram.internal:8443"}


async def test_sec_060_client_of_a_host_reaches_no_other_and_follows_no_redirect() -> None:
    reached = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            reached.append(bytes(await stream.receive_some(4096)))
            await stream.send_all(
                b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"
            )

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        base = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        async with egress.client(base, timeout_s=5) as client:
            assert (await client.get(f"{base}/x")).status_code == 302
            for url in ("http://169.254.169.254/latest", "http://127.0.0.1:1/", "https://evil.example/"):
                with pytest.raises((httpx.UnsupportedProtocol, httpx.InvalidURL)):
                    await client.get(url, follow_redirects=True)
            with pytest.raises(httpx.UnsupportedProtocol):
                await client.get(f"{base}/x", follow_redirects=True)
        reads = KiteReads(Origin.parse(base))
        with pytest.raises(BrokerUnavailable):
            await reads.get("/user/profile", headers={})
        with pytest.raises(BrokerUnavailable):
            await reads.get("http://169.254.169.254/latest", headers={})
        await reads.aclose()
        nursery.cancel_scope.cancel()
    assert len(reached) == 3


async def test_sec_060_proxy_of_the_environment_hears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    async def listen(stream: trio.SocketStream) -> None:
        async with stream:
            heard.append(await stream.receive_some(4096))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, listen, 0)
        trap = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, trap)
        replies = TelegramReplies("http://127.0.0.1:1", Secret("1:token"))
        replies.tell(1, "hello")
        await nursery.start(replies.run)
        reads = KiteReads(Origin.parse("http://127.0.0.1:1"), timeout_s=1)
        with pytest.raises(BrokerUnavailable):
            await reads.get("/user/profile", headers={})
        await reads.aclose()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert heard == []


async def test_sec_060_broker_with_a_certificate_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    heard = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path, "localhost"))

    async def serve(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True)
        try:
            heard.append(bytes(await secure.receive_some(4096)))
        except trio.BrokenResourceError:
            pass  # refused by the client, as it should be
        await trio.aclose_forcefully(secure)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        base = f"https://localhost:{listeners[0].socket.getsockname()[1]}"
        reads = KiteReads(Origin.parse(base), timeout_s=3)
        with pytest.raises(BrokerUnavailable):
            await reads.get("/user/profile", headers={"Authorization": "token key:secret"})
        await reads.aclose()
        async with egress.client(base, timeout_s=3) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(base)
        nursery.cancel_scope.cancel()
    assert heard == []


PRIVATE = [
    "127.0.0.1", "198.18.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "ff02::1", "192.0.0.192",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
async def test_sec_060_name_that_leads_inside_is_refused_by_its_address(address: str) -> None:
    assert not egress.is_public(ip_address(address))

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14", address]

    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(ValidationError):
        await egress.pin(f"https://{shown}/hook")
    with pytest.raises(ValidationError, match="not on the internet"):
        await egress.pin("https://hooks.example.com/x", resolve=resolve)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://x/", "http://hooks.example.com/", "ftp://hooks.example.com/", "//x/y",
        "https://user:password@hooks.example.com/", "https://hooks.example.com@127.0.0.1/", "https://127.1/",
        "https://0x7f.1/", "https://2130706433/", "https://0177.0.0.1/", "https://hooks.example.com:99999/",
        "https://hooks.example.com\\@127.0.0.1/", "https://hooks.example.com/\r\nX: y", "https://ⓛocalhost/",
        "https://[::1%25lo]/", "https://hooks.example.com%2f@x/", "javascript:alert(1)", "",
    ],
)  # fmt: skip
async def test_sec_060_address_of_another_form_is_refused(url: str) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14"]

    with pytest.raises(ValidationError):
        await egress.pin(url, resolve=resolve)


async def test_sec_060_name_that_changes_its_mind_is_reached_where_it_was_judged(tmp_path: Path) -> None:
    """DNS rebinding: the second answer is never asked for; the certificate is still the name's."""
    asked: list[Any] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["93.184.215.14"] if len(asked) == 1 else ["127.0.0.1"]

    pinned = await egress.pin("https://hooks.example.com:8443/x", resolve=resolve)
    assert (pinned.address, pinned.host, pinned.port) == ("93.184.215.14", "hooks.example.com", 8443)
    sent = {}

    async def serve(stream: trio.SocketStream) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(tmp_path, "hooks.example.com"))
        context.sni_callback = lambda _, name, __: sent.update(sni=name)
        secure = trio.SSLStream(stream, context, server_side=True)
        try:
            await secure.do_handshake()
        except trio.BrokenResourceError:
            pass  # the client does not believe a certificate of our own making
        await trio.aclose_forcefully(secure)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        here = egress.Pinned(
            url=f"https://hooks.example.com:{port}/x", host="hooks.example.com", port=port, address="127.0.0.1"
        )
        with pytest.raises(httpx.ConnectError):
            await egress.post(here, b"{}", media_type="application/json")
        nursery.cancel_scope.cancel()
    assert sent == {"sni": "hooks.example.com"}
    assert asked == ["hooks.example.com"]
