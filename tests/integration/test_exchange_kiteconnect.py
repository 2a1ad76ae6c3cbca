"""The official client, unchanged, against the paper exchange."""

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio

from tests.support.exchange import RunningExchange, running_exchange

kiteconnect = pytest.importorskip("kiteconnect")
T = TypeVar("T")


async def call(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run the blocking client in a worker thread, with a deadline."""
    with trio.fail_after(20):
        return await trio.to_thread.run_sync(lambda: function(*args, **kwargs))


async def logged_in(exchange: RunningExchange) -> Any:
    kite = kiteconnect.KiteConnect(api_key=exchange.api_key, root=exchange.base_url)
    async with httpx.AsyncClient() as browser:
        redirect = await browser.get(
            f"{exchange.base_url}/connect/login", params={"v": "3", "api_key": exchange.api_key}
        )
    request_token = parse_qs(urlsplit(redirect.headers["location"]).query)["request_token"][0]
    session = await call(kite.generate_session, request_token, exchange.api_secret)
    assert session["user_id"] == exchange.user_id
    assert isinstance(session["login_time"], datetime.datetime)
    return kite


def place(kite: Any, **fields: Any) -> Callable[[], str]:
    wanted = {
        "variety": kite.VARIETY_REGULAR,
        "exchange": kite.EXCHANGE_NSE,
        "tradingsymbol": "INFY",
        "transaction_type": kite.TRANSACTION_TYPE_BUY,
        "quantity": 10,
        "product": kite.PRODUCT_MIS,
        "order_type": kite.ORDER_TYPE_LIMIT,
        **fields,
    }
    return lambda: str(kite.place_order(**wanted))


async def test_official_client_logs_in_trades_and_reads_everything(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        await exchange.set_price("NSE:INFY", "1450.00")
        filled = await call(
            place(kite, order_type=kite.ORDER_TYPE_MARKET, market_protection=kite.MARKET_PROTECTION_AUTO, tag="MKT")
        )
        resting = await call(place(kite, price=1400.0, tag="a b&c"))
        assert await call(kite.modify_order, "regular", resting, quantity=12, price=1405.0) == resting
        book = {row["order_id"]: row for row in await call(kite.orders)}
        assert (book[filled]["status"], book[filled]["tags"]) == ("COMPLETE", ["mktp", "mktp:0.50", "MKT"])
        assert (book[resting]["price"], book[resting]["quantity"], book[resting]["tag"]) == (1405.0, 12, "a b&c")
        assert isinstance(book[filled]["order_timestamp"], datetime.datetime)
        assert await call(kite.cancel_order, "regular", resting) == resting
        history = await call(kite.order_history, resting)
        assert [row["status"] for row in history][-2:] == ["CANCEL PENDING", "CANCELLED"]
        (trade,) = await call(kite.trades)
        assert (trade["order_id"], trade["average_price"]) == (filled, 1450.0)
        assert await call(kite.order_trades, filled) == [trade]
        positions = await call(kite.positions)
        assert [p["quantity"] for p in positions["net"]] == [10]
        assert await call(kite.holdings) == []
        margins = await call(kite.margins)
        assert margins["equity"]["net"] == 1_000_000 - 2900
        assert (await call(kite.margins, "equity"))["net"] == margins["equity"]["net"]
        assert (await call(kite.profile))["user_id"] == exchange.user_id


async def test_official_client_reads_instruments_and_quotes(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        everything = await call(kite.instruments)
        assert {"NSE", "BSE", "NFO", "MCX", "CDS"} <= {row["exchange"] for row in everything}
        options = [row for row in await call(kite.instruments, "NFO") if row["instrument_type"] == "CE"]
        assert isinstance(options[0]["expiry"], datetime.date)
        assert options[0]["strike"] > 0
        quote = (await call(kite.quote, "NSE:INFY", "NSE:NIFTY 50"))["NSE:INFY"]
        assert quote["instrument_token"] == 408065
        assert isinstance(quote["timestamp"], datetime.datetime)
        assert (await call(kite.ohlc, ["NSE:SBIN"]))["NSE:SBIN"]["ohlc"]["close"] == 815
        assert set(await call(kite.ltp, "NSE:M&M", "NSE:NOPE")) == {"NSE:M&M"}


async def test_official_client_raises_its_own_exceptions(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False, capital=Decimal(1000)) as exchange:
        kite = await logged_in(exchange)
        with pytest.raises(kiteconnect.exceptions.InputException, match="Market orders without market protection"):
            await call(place(kite, order_type="MARKET"))
        with pytest.raises(kiteconnect.exceptions.GeneralException, match="Insufficient funds") as funds:
            await call(place(kite, price=1450.0))
        assert funds.value.code == 400
        await call(kite.invalidate_access_token)
        with pytest.raises(kiteconnect.exceptions.TokenException) as token:
            await call(kite.orders)
        assert token.value.code == 403


async def test_official_client_slices_automatically(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False, capital=Decimal(10**8)) as exchange:
        kite = await logged_in(exchange)
        future = next(row for row in await call(kite.instruments, "NFO") if row["instrument_type"] == "FUT")
        answer = await call(
            kite.place_autoslice_order,
            variety="regular",
            exchange="NFO",
            tradingsymbol=future["tradingsymbol"],
            transaction_type="BUY",
            quantity=1755 + 65,
            product="NRML",
            order_type="LIMIT",
            price=future["last_price"],
        )
        assert len(answer["children"]) == 2
        assert [row["quantity"] for row in await call(kite.orders)] == [1755, 65]


async def test_official_client_keeps_gtts(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        await exchange.set_price("NSE:INFY", "1450.00")
        order = {"transaction_type": "SELL", "quantity": 10, "order_type": "LIMIT", "product": "MIS"}
        oco = [{**order, "price": 1400.0}, {**order, "price": 1500.0}]
        two_leg = (await call(kite.place_gtt, "two-leg", "INFY", "NSE", [1401.0, 1499.5], 1450.0, oco))["trigger_id"]
        single = (await call(kite.place_gtt, "single", "INFY", "NSE", [1300.0], 1450.0, oco[:1]))["trigger_id"]
        changed = await call(kite.modify_gtt, two_leg, "two-leg", "INFY", "NSE", [1402.0, 1499.5], 1450.0, oco)
        assert changed["trigger_id"] == two_leg
        assert (await call(kite.delete_gtt, single))["trigger_id"] == single
        assert [row["id"] for row in await call(kite.get_gtts)] == [two_leg]
        await exchange.set_price("NSE:INFY", "1499.50")
        fired = await call(kite.get_gtt, two_leg)
        assert fired["status"] == "triggered"
        assert fired["orders"][0]["result"] is None
        (placed,) = await call(kite.orders)
        assert fired["orders"][1]["result"]["order_result"]["order_id"] == placed["order_id"]
        assert (placed["price"], placed["meta"]) == (1500, {"gtt": two_leg})


async def test_official_client_calculates_converts_and_reads_holdings(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        await exchange.set_price("NSE:INFY", "1450.00")
        order = {
            "exchange": "NSE",
            "tradingsymbol": "INFY",
            "transaction_type": "BUY",
            "variety": "regular",
            "product": "MIS",
            "order_type": "MARKET",
            "quantity": 10,
        }
        (margin,) = await call(kite.order_margins, [order])
        assert (margin["total"], margin["charges"]["brokerage"]) == (2900, 4.35)
        basket = await call(kite.basket_order_margins, [order], True, "compact")
        assert basket["final"]["total"] == 2900
        (note,) = await call(kite.get_virtual_contract_note, [{**order, "order_id": "1", "average_price": 1450.0}])
        assert note["charges"]["total"] == pytest.approx(margin["charges"]["total"])
        assert (await call(kite.trigger_range, "BUY", "NSE:INFY"))["NSE:INFY"]["upper"] == 1450
        await call(place(kite, price=1450.0))
        assert await call(kite.convert_position, "NSE", "INFY", "BUY", "day", 4, "MIS", "CNC") is True
        held = {row["product"]: row["quantity"] for row in (await call(kite.positions))["net"]}
        assert held == {"MIS": 6, "CNC": 4}
        assert await call(kite.get_auction_instruments) == []


async def test_official_client_places_every_variety(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        await exchange.set_price("NSE:INFY", "1450.00")
        await call(place(kite, variety="iceberg", price=1440.0, iceberg_legs=2, iceberg_quantity=5))
        await call(place(kite, variety="amo", price=1440.0))
        entry = await call(place(kite, variety="co", price=1450.0, trigger_price=1430.0))
        book = await call(kite.orders)
        assert [(row["variety"], row["status"]) for row in book] == [
            ("iceberg", "OPEN"),
            ("amo", "AMO REQ RECEIVED"),
            ("co", "COMPLETE"),
            ("co", "TRIGGER PENDING"),
        ]
        stop = book[-1]["order_id"]
        assert await call(kite.modify_order, "co", stop, parent_order_id=entry, trigger_price=1435.0) == stop
        assert await call(kite.exit_order, "co", stop, parent_order_id=entry) == stop
        assert [row["status"] for row in await call(kite.orders)][-1] == "COMPLETE"


async def test_official_client_lives_through_every_kind_of_order(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        await exchange.set_price("NSE:INFY", "1450.00")

        async def last(order_id: str) -> dict[str, Any]:
            row: dict[str, Any] = (await call(kite.order_history, order_id))[-1]
            return row

        ioc = await call(place(kite, price=1400.0, validity=kite.VALIDITY_IOC))
        assert (await last(ioc))["status"] == kite.STATUS_CANCELLED
        ttl = await call(place(kite, price=1400.0, validity=kite.VALIDITY_TTL, validity_ttl=5, disclosed_quantity=2))
        book = {row["order_id"]: row for row in await call(kite.orders)}
        assert [book[ttl][key] for key in ("status", "validity", "validity_ttl", "disclosed_quantity")] == [
            "OPEN", "TTL", 5, 2,
        ]  # fmt: skip
        stop = await call(
            place(kite, order_type=kite.ORDER_TYPE_SL, transaction_type="SELL", price=1420.0, trigger_price=1425.0)
        )
        assert (await last(stop))["status"] == "TRIGGER PENDING"
        assert await call(kite.modify_order, "regular", stop, trigger_price=1430.0) == stop
        assert (await last(stop))["trigger_price"] == 1430
        await exchange.set_price("NSE:INFY", "1430.00")
        assert [row["status"] for row in await call(kite.order_history, stop)][-2:] == ["OPEN", kite.STATUS_COMPLETE]
        market_stop = await call(
            place(
                kite, order_type=kite.ORDER_TYPE_SLM, trigger_price=1440.0,
                market_protection=kite.MARKET_PROTECTION_AUTO, tag="SLM",
            )
        )  # fmt: skip
        await exchange.set_price("NSE:INFY", "1440.00")
        row = (await call(kite.orders))[-1]
        assert (row["order_id"], row["status"], row["order_type"]) == (market_stop, "COMPLETE", "LIMIT")
        assert row["tags"] == ["mktp", "mktp:0.50", "SLM"]
        changed = await call(place(kite, price=1400.0))
        await call(kite.modify_order, "regular", changed, order_type="MARKET", market_protection=2)
        assert [row["status"] for row in await call(kite.order_history, changed)][-4:] == [
            "MODIFY PENDING", "MODIFIED", "OPEN", "COMPLETE",
        ]  # fmt: skip
        await exchange.set_market_open(False)
        amo = await call(place(kite, variety=kite.VARIETY_AMO, price=1400.0))
        assert await call(kite.modify_order, "amo", amo, price=1410.0) == amo
        assert ((await last(amo))["status"], (await last(amo))["price"]) == ("AMO REQ RECEIVED", 1410)
        assert await call(kite.cancel_order, "amo", amo) == amo
        assert (await last(amo))["status"] == kite.STATUS_CANCELLED


async def test_official_client_meets_every_limit_with_its_own_exceptions(tmp_path: Path) -> None:
    raised = kiteconnect.exceptions
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        resting = await call(place(kite, price=1400.0))
        for number in range(25):
            await call(kite.modify_order, "regular", resting, quantity=11 + number)
        with pytest.raises(raised.NetworkException, match="Maximum allowed order modifications"):
            await call(kite.modify_order, "regular", resting, quantity=99)
        await exchange.control("static-ip", {"addresses": ["203.0.113.9"]})
        with pytest.raises(raised.PermissionException, match=r"IP \(127.0.0.1\) is not allowed") as address:
            await call(kite.cancel_order, "regular", resting)
        assert (address.value.code, (await call(kite.orders))[0]["status"]) == (403, "OPEN")
        await exchange.control("static-ip", {"addresses": []})
        await call(kite.cancel_order, "regular", resting)
        with pytest.raises(raised.InputException, match="cannot be cancelled as it is being processed"):
            await call(kite.cancel_order, "regular", resting)
        with pytest.raises(raised.GeneralException, match="Couldn't find that"):
            await call(kite.order_history, "151220000000000")
        with pytest.raises(raised.InputException, match="Tick size for this script"):
            await call(place(kite, price=1400.03))
        await exchange.control("limits", {"orders_per_second": 1, "orders_per_minute": 1})
        await call(place(kite, price=1400.0))
        with pytest.raises(raised.NetworkException) as limited:
            await call(place(kite, price=1400.0))
        assert limited.value.code == 429


async def test_official_client_reads_candles_and_every_segment(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange:
        kite = await logged_in(exchange)
        end = datetime.datetime(2026, 11, 20, 15, 30)  # noqa: DTZ001 -- the package takes naive IST
        minutes = await call(kite.historical_data, 408065, end - datetime.timedelta(hours=1), end, "minute")
        assert minutes
        assert minutes[0].keys() == {"date", "open", "high", "low", "close", "volume"}
        assert all(row["low"] <= row["open"] <= row["high"] for row in minutes)
        assert [row["date"] for row in minutes] == sorted(row["date"] for row in minutes)
        future = next(row for row in await call(kite.instruments, "NFO") if row["instrument_type"] == "FUT")
        days = await call(
            kite.historical_data, future["instrument_token"], end - datetime.timedelta(days=7), end, "day", False, True
        )
        assert "oi" in days[0]
        for name in ("NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX"):
            rows = await call(kite.instruments, name)
            assert {row["exchange"] for row in rows} == {name}
            assert all(isinstance(row["lot_size"], int) for row in rows)
        assert (await call(kite.margins, "commodity"))["enabled"] in (True, False)
        sector = await call(kite.ohlc, "NSE:NIFTY 50", "MCX:GOLDGUINEA26NOVFUT", 408065)
        assert sector["NSE:NIFTY 50"]["instrument_token"] == 256265
        assert sector["408065"]["last_price"] > 0
