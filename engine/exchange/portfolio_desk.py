"""What an account may do with what it holds: convert positions, allow the depository to deliver."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time

import msgspec

from engine.clock import IST, trading_day
from engine.domain.instruments import Instrument
from engine.exchange import errors
from engine.exchange.events import HoldingsAuthorised, PositionConverted
from engine.exchange.forms import EQUITY_EXCHANGES, PRODUCTS, find_tradable
from engine.exchange.instruments import Master
from engine.exchange.margin import unit_margin
from engine.exchange.portfolio import Portfolio, PositionKey
from engine.exchange.portfolio_rows import isin_of
from engine.exchange.riskchecks import RiskChecks
from engine.exchange.state import Account, State

_FIELDS = (
    "exchange", "tradingsymbol", "transaction_type", "position_type", "quantity", "old_product", "new_product"
)  # fmt: skip
# the depository takes no authorisation after this hour (kite.md 9.2)
_AUTHORISE_UNTIL = time(17, 30)


class _Asked(msgspec.Struct, frozen=True):
    user_id: str
    quantities: dict[str, int]
    at: datetime


class PortfolioDesk:
    """Conversions and authorisations. Requests for an authorisation do not outlive a restart."""

    def __init__(self, state: State, checks: RiskChecks, token: Callable[[], str] | None = None) -> None:
        self._state = state
        self._checks = checks
        self._token = token or (lambda: secrets.token_hex(16))
        self._asked: dict[str, _Asked] = {}

    def convert(self, account: Account, form: Mapping[str, str], master: Master, now: datetime) -> bool:
        """Take a part of a position into another product; returns Kite's answer. Raises KiteRefusal."""
        for field in _FIELDS:
            if not form.get(field):
                raise errors.missing(field)
        for field, allowed in (("transaction_type", ("BUY", "SELL")), ("position_type", ("day", "overnight"))):
            if form[field] not in allowed:
                raise errors.invalid(field)
        exchange, symbol, side = form["exchange"], form["tradingsymbol"], form["transaction_type"]
        old, new = form["old_product"], form["new_product"]
        for field in ("old_product", "new_product"):
            if form[field] not in PRODUCTS or not _fits(form[field], exchange):
                raise errors.invalid(field)
        if old == new:
            raise errors.invalid("new_product")
        instrument = find_tradable(master.by_key.get(f"{exchange}:{symbol}"))
        text = form["quantity"]
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
            raise errors.invalid("quantity")
        quantity = int(text)
        if quantity % instrument.lot_size:
            raise errors.off_lot(instrument.lot_size)
        key = PositionKey(exchange, symbol, old)
        portfolio = self._state.portfolios[account.user_id]
        is_overnight = form["position_type"] == "overnight"
        there = portfolio.convertible(key, side, is_overnight=is_overnight)
        if quantity > there:
            raise errors.bad_input(f"Quantity to convert is higher than the {there} of the position.")
        self._check_cover(account, key, new, side, quantity, portfolio, instrument, master, now)
        self._state.record(
            PositionConverted(
                at=now,
                user_id=account.user_id,
                exchange=exchange,
                tradingsymbol=symbol,
                transaction_type=side,
                quantity=quantity,
                old_product=old,
                new_product=new,
                is_overnight=is_overnight,
            )
        )
        return True

    def request_authorisation(
        self, account: Account, asked: Sequence[tuple[str, str]], master: Master, now: datetime
    ) -> dict[str, str]:
        """Note which holdings are to be authorised, all of them when none is named; returns Kite's answer.

        *asked* are pairs of ISIN and quantity as they came. Raises KiteRefusal.
        """
        portfolio = self._state.portfolios[account.user_id]
        held = {
            isin_of(instrument): (name, holding.total)
            for name, holding in portfolio.holdings.items()
            if (instrument := master.by_key.get(name)) is not None
        }
        quantities = dict(held.values()) if not asked else {}
        for isin, text in asked:
            if isin not in held:
                raise errors.invalid("isin")
            name, total = held[isin]
            if not (text.isascii() and text.isdigit() and len(text) <= 9 and 0 < int(text) <= total):
                raise errors.invalid("quantity")
            quantities[name] = int(text)
        request_id = self._token()
        self._asked[request_id] = _Asked(account.user_id, quantities, now)
        return {"request_id": request_id}

    def authorise(self, api_key: str, request_id: str, now: datetime) -> None:
        """Authorise what was asked for, as the account's owner does in the browser. Raises KiteRefusal."""
        account, asked = self._state.apps.get(api_key), self._asked.get(request_id)
        is_current = asked is not None and trading_day(asked.at) == trading_day(now)
        if account is None or asked is None or asked.user_id != account.user_id or not is_current:
            raise errors.invalid("request_id")
        if now.astimezone(IST).time() >= _AUTHORISE_UNTIL:
            raise errors.bad_input("Holdings can be authorised until 17:30.")
        del self._asked[request_id]
        self._state.record(HoldingsAuthorised(at=now, user_id=account.user_id, quantities=asked.quantities))

    def _check_cover(
        self,
        account: Account,
        key: PositionKey,
        new: str,
        side: str,
        quantity: int,
        portfolio: Portfolio,
        instrument: Instrument,
        master: Master,
        now: datetime,
    ) -> None:
        sign = 1 if side == "BUY" else -1
        if new == "CNC" and sign < 0:
            if quantity > portfolio.sellable(key.instrument):
                raise errors.short_of_holdings(account.user_id)
            return
        totals = portfolio.positions[key]
        price = totals.open_value / abs(totals.quantity) / totals.multiplier
        before, after = (unit_margin(product, sign, price, instrument) for product in (key.product, new))
        required = (after - before) * quantity
        available = self._checks.money(account, self._state.books[account.user_id].lanes, master, now).net
        if required > 0 and required > available:
            raise errors.short_of_funds(required, available, account.user_id)


def _fits(product: str, exchange: str) -> bool:
    if exchange in EQUITY_EXCHANGES:
        return product != "NRML"
    return product not in ("CNC", "MTF")
