"""``python -m tests.deployment.proxy``: the nginx example in front of a real engine, on loopback.

Needs nginx. Only names, ports and paths of the example are changed. Prints a line for each thing looked at.
"""

import contextlib
import http.client
import json
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx

from tests.support.certificates import self_signed
from tests.support.engine import PASSWORD, EngineProcess, market_order, signed
from tests.support.ports import free_port

NAME = "engine.example.com"


def example(folder: Path, engine_port: int, plain: int, tls: int, certificate: Path, key: Path) -> Path:
    """Write the example with its names, ports and paths put to this machine's."""
    text = resources.files("engine.ops").joinpath("deploy/nginx.conf").read_text(encoding="utf-8")
    for old, new in (
        ("127.0.0.1:8080", f"127.0.0.1:{engine_port}"),
        ("listen [::]:80;\n", "\n"),
        ("listen [::]:443 ssl http2;\n", "\n"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{tls} ssl"),
        (f"/etc/letsencrypt/live/{NAME}/fullchain.pem", str(certificate)),
        (f"/etc/letsencrypt/live/{NAME}/privkey.pem", str(key)),
        ("/var/log/nginx/engine.log", str(folder / "access.log")),
    ):
        assert old in text, old
        text = text.replace(old, new)
    outer = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\nhttp {{\n{text}\n}}\n"
    path = folder / "nginx.conf"
    path.write_text(outer)
    return path


@contextlib.contextmanager
def nginx(config: Path) -> Iterator[None]:
    """Run nginx with *config* meanwhile."""
    checked = subprocess.run(["nginx", "-t", "-q", "-c", str(config)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(["nginx", "-c", str(config)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def look(engine: EngineProcess, folder: Path, plain: int, tls: int, trust: ssl.SSLContext) -> Iterator[str]:
    """Yield what was found good."""
    base = f"https://127.0.0.1:{tls}"
    extensions = {"sni_hostname": NAME}
    client = httpx.Client(verify=trust, headers={"Host": NAME}, timeout=15)

    def call(method: str, path: str, **options: object) -> httpx.Response:
        return client.request(method, base + path, extensions=extensions, **options)  # type: ignore[arg-type]

    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(httpx.TransportError):
            if call("GET", "/api/v1/system/health").status_code == 200:
                break
        assert time.monotonic() < deadline, "nginx does not answer"
        time.sleep(0.1)
    yield "HTTPS answers"

    moved = httpx.get(f"http://127.0.0.1:{plain}/docs?a=b", headers={"Host": NAME}, timeout=5)
    assert (moved.status_code, moved.headers["location"]) == (301, f"https://{NAME}/docs?a=b")
    yield "HTTP is sent to HTTPS"

    login = call("POST", "/api/v1/auth/login", json={"email": "admin@localhost", "password": PASSWORD})
    assert login.status_code == 200, login.text
    bearer = {"Authorization": f"Bearer {login.json()['data']['accessToken']}"}
    sessions = call("GET", "/api/v1/auth/sessions", headers=bearer | {"X-Forwarded-For": "6.6.6.6"}).json()["data"]
    assert "127.0.0.1" in json.dumps(sessions)
    assert "6.6.6.6" not in json.dumps(sessions)
    yield "the client's address is nginx's word, not the client's"

    body = json.dumps(market_order("INFY", 3)).encode()
    sent = call(
        "POST", "/api/v1/signals/sheets/webhook?secret=hush", content=body, headers=signed(body, *engine.source)
    )
    assert sent.status_code == 202, sent.text
    yield "a signed webhook is taken, its body unchanged"

    stream = http.client.HTTPSConnection("127.0.0.1", tls, context=trust, timeout=10)
    stream.request("GET", "/api/v1/stream?types=killswitch", headers=bearer | {"Host": NAME})
    events = stream.getresponse()
    assert events.status == 200, events.read(500)
    turned = call(
        "POST", "/api/v1/risk/killswitch/enable", headers=bearer, json={"scope": "global", "reason": "seen at once"}
    )
    assert turned.status_code in (200, 202), turned.text
    began, seen = time.monotonic(), b""
    while b"seen at once" not in seen:
        seen += events.readline()
        assert time.monotonic() - began < 8, seen
    stream.close()
    yield "an event passes at once, unbuffered"

    large = call("POST", "/api/v1/signals/sheets/webhook", content=b"x" * 70_000)
    assert large.status_code == 413
    yield "a body over 64 KiB is refused at the door"

    assert call("GET", "/metrics").status_code in (200, 401, 403, 404)
    logged = (folder / "access.log").read_text()
    assert "/api/v1/signals/sheets/webhook" in logged
    assert "hush" not in logged
    yield "queries are not logged"


def main() -> None:
    """Start both, look."""
    if shutil.which("nginx") is None:
        raise SystemExit("nginx is not on this machine: apt-get install nginx-light")
    with tempfile.TemporaryDirectory(prefix="engine-proxy-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        pem = self_signed(folder, NAME)
        trust = ssl.create_default_context(cafile=str(pem))
        trust.check_hostname = False  # it is called by address; that it is this very certificate is checked
        given = {"ENGINE__SERVER__PUBLIC_URL": f"https://{NAME}", "ENGINE__SERVER__TRUSTED_PROXIES": "127.0.0.1"}
        with EngineProcess(folder / "engine", **given) as engine:
            plain, tls = free_port(), free_port()
            engine_port = int(engine.base_url.rpartition(":")[2])
            config = example(folder, engine_port, plain, tls, pem, pem)
            with nginx(config):
                for found in look(engine, folder, plain, tls, trust):
                    print(f"ok  {found}", flush=True)
            assert engine.stop() == 0
    print("proxy: PASS")


if __name__ == "__main__":
    main()
