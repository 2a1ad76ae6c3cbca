"""The paper exchange runs on its user's machine, where pages of strangers run too, in the browser (SEC-056, 060)."""

from pathlib import Path

import httpx
import pytest

from engine.exchange.events import OrderRequested
from engine.exchange.record import read_record
from tests.support.exchange import running_exchange

FORM = {"exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": "1", "order_type": "MARKET"}


def requests_in(record: Path) -> int:
    return sum(isinstance(event, OrderRequested) for event in read_record(record))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8080"])
async def test_page_in_a_browser_cannot_fill_the_record(tmp_path: Path, origin: str) -> None:
    # a form is posted across sites without asking anybody; what nobody signed is refused, but is on record
    async with running_exchange(tmp_path) as exchange, httpx.AsyncClient(base_url=exchange.base_url) as page:
        for _ in range(5):
            answer = await page.post("/orders/regular", data={**FORM, "tag": "x" * 10_000}, headers={"Origin": origin})
            assert (answer.status_code, answer.json()["error_type"]) == (403, "TokenException")
            assert "access-control-allow-origin" not in answer.headers
        assert requests_in(exchange.record_path) == 0
        answer = await page.post("/orders/regular", data=FORM)
        assert answer.status_code == 403
        assert requests_in(exchange.record_path) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/session/token"),
        ("PUT", "/orders/regular/1"),
        ("DELETE", "/orders/regular/1"),
        ("POST", "/gtt/triggers"),
        ("POST", "/_control/market"),
        ("OPTIONS", "/orders/regular"),
    ],
)
async def test_write_out_of_a_page_is_refused_even_with_a_session(tmp_path: Path, method: str, path: str) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        answer = await client.request(method, path, headers={"Origin": "http://evil.example"})
        assert answer.status_code in (403, 405)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert requests_in(exchange.record_path) == 0


async def test_page_whose_name_points_here_is_shown_no_book(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        for path in ("/", "/book", "/_control/stats", "/_control/faults"):
            for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", ""):
                assert (await client.get(path, headers={"Host": host})).status_code in (400, 404), (path, host)
        assert (await client.get("/book")).status_code == 200
