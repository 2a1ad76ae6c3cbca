"""The official package inside the engine: it gives constants and nothing else, and leaves the process alone."""

import inspect
import json
import subprocess
import sys
import warnings
from typing import Any

import pytest

from engine.broker.base import BrokerAuthError, BrokerNotPermitted, BrokerUnavailable, RefusalCode, Refused, Unknown
from engine.broker.kite import routes
from engine.broker.kite.errors import classify
from engine.broker.kite.forms import AUTO_PROTECTION
from engine.broker.kite.reads import checked
from engine.broker.kite.session import checksum, login_url
from engine.broker.kite.ticker_frames import Mode
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from tests.support.kite_book import error_body

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kiteconnect import KiteConnect, KiteTicker, exceptions

IMPORTER = """
import json, signal, sys, threading, warnings
warnings.simplefilter("ignore")
import trio
numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
before = {number: signal.getsignal(number) for number in numbers}
threads, hook = threading.active_count(), sys.excepthook
from engine.broker.kite import routes
from twisted.internet import reactor
found = {
    "handlers": all(signal.getsignal(number) == before[number] for number in numbers),
    "wakeup": signal.set_wakeup_fd(-1) == -1,
    "threads": threading.active_count() == threads,
    "hook": sys.excepthook is hook,
    "idle": not reactor.running and not reactor._started and reactor.threadpool is None,
}
async def work():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, lambda stream: stream.send_all(b"hello"), listeners)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        found["sockets"] = await stream.receive_some() == b"hello"
        found["worker"] = await trio.to_thread.run_sync(lambda: 5) == 5
        with trio.open_signal_receiver(signal.SIGTERM) as arrived:
            signal.raise_signal(signal.SIGTERM)
            async for number in arrived:
                found["signal"] = number == signal.SIGTERM
                break
        # a process of trio's is reaped: nobody has taken SIGCHLD away
        found["child"] = (await trio.run_process([sys.executable, "-c", "raise SystemExit(0)"])).returncode == 0
        await stream.aclose()
        nursery.cancel_scope.cancel()
trio.run(work)
found["idle afterwards"] = not reactor.running and reactor.threadpool is None
print(json.dumps(found))
"""
ROUTES = {
    "TOKEN": "/session/token",
    "PROFILE": "/user/profile",
    "MARGINS": "/user/margins",
    "ORDERS": "/orders",
    "TRADES": "/trades",
    "ORDER_INFO": "/orders/{order_id}",
    "ORDER_PLACE": "/orders/{variety}",
    "ORDER_MODIFY": "/orders/{variety}/{order_id}",
    "ORDER_CANCEL": "/orders/{variety}/{order_id}",
    "ORDER_TRADES": "/orders/{order_id}/trades",
    "POSITIONS": "/portfolio/positions",
    "HOLDINGS": "/portfolio/holdings",
    "INSTRUMENTS": "/instruments",
    "INSTRUMENTS_OF": "/instruments/{exchange}",
    "LAST_PRICES": "/quote/ltp",
    "QUOTES": "/quote",
}


def test_import_starts_no_reactor_and_leaves_signals_threads_and_trio_alone():
    done = subprocess.run([sys.executable, "-c", IMPORTER], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(found.values()), found
    assert done.stderr == ""


@pytest.mark.parametrize("name", ROUTES)
def test_route_is_in_the_package_and_is_the_documented_one(name: str):
    assert getattr(routes, name) == ROUTES[name]
    assert ROUTES[name] in KiteConnect._routes.values()


def test_every_route_of_the_module_is_one_that_is_checked():
    paths = {name for name, value in vars(routes).items() if name.isupper() and str(value).startswith("/")}
    gtt = {name for name in paths if "GTT" in name}
    assert paths - gtt == {*ROUTES, "LOGIN_PATH"}
    assert all(getattr(routes, name).startswith("/gtt/triggers") for name in gtt)


def test_constants_are_the_packages():
    assert (routes.API_VERSION, routes.DEFAULT_ROOT) == ("3", "https://api.kite.trade")
    assert routes.DEFAULT_LOGIN == "https://kite.zerodha.com/connect/login"
    assert login_url("key") == KiteConnect(api_key="key").login_url().replace("api_key=key&v=3", "v=3&api_key=key")
    assert KiteConnect.MARKET_PROTECTION_AUTO == AUTO_PROTECTION


@pytest.mark.parametrize(
    ("prefix", "words", "beyond"),
    [
        ("VARIETY_", Variety, set()),
        ("ORDER_TYPE_", OrderType, set()),
        ("VALIDITY_", Validity, set()),
        ("TRANSACTION_TYPE_", TransactionType, set()),
        ("EXCHANGE_", Exchange, {"BCD"}),
        # the package has no word for margin trading (kite.md 5.2)
        ("PRODUCT_", ProductType, {"MTF", "BO"}),
    ],
)
def test_words_of_orders_are_the_packages(prefix, words, beyond):
    theirs = {value for name, value in vars(KiteConnect).items() if name.startswith(prefix)}
    assert {str(word) for word in words} - theirs <= beyond
    assert theirs <= {str(word) for word in words}


def test_modes_of_the_ticker_are_the_packages():
    assert {str(mode) for mode in Mode} == {KiteTicker.MODE_LTP, KiteTicker.MODE_QUOTE, KiteTicker.MODE_FULL}


def test_checksum_is_the_packages(monkeypatch):
    sent: dict[str, Any] = {}
    kite = KiteConnect(api_key="the key")
    monkeypatch.setattr(kite, "_post", lambda _route, params: sent.update(params) or {"login_time": ""})
    kite.generate_session("request token", api_secret="the secret")
    assert sent["checksum"] == checksum("the key", "request token", "the secret")


ERROR_TYPES: dict[str, tuple[int, RefusalCode | None, type[BrokerUnavailable]]] = {
    # usual status (kite.md 3.1), the cause as a refusal of a placement (None: proves nothing), the error of a read
    "TokenException": (403, RefusalCode.TOKEN_DEAD, BrokerAuthError),
    "PermissionException": (403, RefusalCode.PERMISSION, BrokerNotPermitted),
    "UserException": (403, RefusalCode.USER, BrokerAuthError),
    "TwoFAException": (403, RefusalCode.TWO_FA, BrokerAuthError),
    "InputException": (400, RefusalCode.OTHER, BrokerUnavailable),
    "MarginException": (400, RefusalCode.FUNDS, BrokerUnavailable),
    "HoldingException": (400, RefusalCode.HOLDINGS, BrokerUnavailable),
    "OrderException": (400, None, BrokerUnavailable),
    "NetworkException": (503, None, BrokerUnavailable),
    "DataException": (502, None, BrokerUnavailable),
    "GeneralException": (500, None, BrokerUnavailable),
}


def test_every_exception_of_the_package_and_the_four_that_it_lacks_are_known():
    theirs = {name for name, found in vars(exceptions).items() if inspect.isclass(found)} - {"KiteException"}
    assert theirs <= ERROR_TYPES.keys()
    assert ERROR_TYPES.keys() - theirs == {"MarginException", "HoldingException", "UserException", "TwoFAException"}


@pytest.mark.parametrize("error_type", ERROR_TYPES)
def test_error_type_at_its_usual_status_is_told_apart(error_type: str):
    status, code, error = ERROR_TYPES[error_type]
    body = error_body("No.", error_type)
    outcome = classify(status=status, content_type="application/json", body=body, bytes_written=300)
    if code is None:
        assert isinstance(outcome, Unknown)
    else:
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.error_type) == (code, error_type)
    with pytest.raises(BrokerUnavailable) as caught:
        checked("/orders", status, body)
    assert type(caught.value) is error
