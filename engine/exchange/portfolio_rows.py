"""Positions, holdings and funds as Kite's JSON (kite.md 9)."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.domain.instruments import Instrument
from engine.exchange.instruments import Master
from engine.exchange.margin import Funds, MarginParts
from engine.exchange.market import Market
from engine.exchange.orders import average
from engine.exchange.portfolio import Holding, Portfolio, PositionKey, PositionTotals
from engine.exchange.riskchecks import auction_number
from engine.exchange.rows import number, stamp


def positions(
    held: Mapping[PositionKey, PositionTotals], master: Master, market: Market, now: datetime
) -> dict[str, Any]:
    """Return the answer of ``GET /portfolio/positions``."""
    net, day = [], []
    for key, totals in held.items():
        instrument = master.by_key.get(key.instrument)
        if instrument is None:
            continue
        last = market.last_price(instrument, now)
        net.append(position_row(key, totals, last, instrument.last_price))
        if totals.day_buy_quantity or totals.day_sell_quantity:
            day.append(position_row(key, totals.day_only(), last, instrument.last_price))
    return {"net": net, "day": day}


def position_row(key: PositionKey, totals: PositionTotals, last_price: Decimal, close: Decimal) -> dict[str, Any]:
    """Return a position by the formulas of kite.md 9.1; ``close_price`` is 0 without an overnight part."""
    multiplier, quantity, overnight = totals.multiplier, totals.quantity, totals.overnight_quantity
    close_price = close if overnight else Decimal(0)
    worth = quantity * last_price * multiplier
    buy_price = average(totals.buy_value / multiplier, totals.buy_quantity)
    sell_price = average(totals.sell_value / multiplier, totals.sell_quantity)
    buy_m2m = max(overnight, 0) * close_price * multiplier + totals.day_buy_value
    sell_m2m = max(-overnight, 0) * close_price * multiplier + totals.day_sell_value
    value = totals.sell_value - totals.buy_value
    pnl = number(value + worth)
    return {
        "tradingsymbol": key.tradingsymbol,
        "exchange": key.exchange,
        "instrument_token": totals.instrument_token,
        "product": key.product,
        "quantity": quantity,
        "overnight_quantity": overnight,
        "multiplier": number(multiplier),
        "average_price": number(buy_price if quantity > 0 else sell_price) if quantity else 0,
        "close_price": number(close_price),
        "last_price": number(last_price),
        "value": number(value),
        "pnl": pnl,
        "m2m": number(sell_m2m - buy_m2m + worth),
        "unrealised": pnl,
        "realised": 0,
        "buy_quantity": totals.buy_quantity,
        "buy_price": number(buy_price),
        "buy_value": number(totals.buy_value),
        "buy_m2m": number(buy_m2m),
        "sell_quantity": totals.sell_quantity,
        "sell_price": number(sell_price),
        "sell_value": number(totals.sell_value),
        "sell_m2m": number(sell_m2m),
        "day_buy_quantity": totals.day_buy_quantity,
        "day_buy_price": number(average(totals.day_buy_value / multiplier, totals.day_buy_quantity)),
        "day_buy_value": number(totals.day_buy_value),
        "day_sell_quantity": totals.day_sell_quantity,
        "day_sell_price": number(average(totals.day_sell_value / multiplier, totals.day_sell_quantity)),
        "day_sell_value": number(totals.day_sell_value),
    }


def holdings(portfolio: Portfolio, master: Master, market: Market, now: datetime) -> list[dict[str, Any]]:
    """Return the answer of ``GET /portfolio/holdings``."""
    return [
        _holding_row(name, holding, instrument, portfolio, market.last_price(instrument, now), now)
        for name, holding in portfolio.holdings.items()
        if (instrument := master.by_key.get(name)) is not None
    ]


def compact_holdings(portfolio: Portfolio) -> list[dict[str, Any]]:
    """Return the answer of ``GET /portfolio/holdings/compact``."""
    return [
        {
            "exchange": name.partition(":")[0],
            "tradingsymbol": name.partition(":")[2],
            "instrument_token": holding.instrument_token,
            "t1_quantity": holding.t1_quantity,
            "quantity": holding.quantity,
        }
        for name, holding in portfolio.holdings.items()
    ]


def holdings_summary(portfolio: Portfolio, master: Master, market: Market, now: datetime) -> dict[str, Any]:
    """Return the answer of ``GET /portfolio/holdings/summary``."""
    invested = current = yesterday = Decimal(0)
    for name, holding in portfolio.holdings.items():
        instrument = master.by_key.get(name)
        if instrument is not None:
            invested += holding.value
            current += market.last_price(instrument, now) * holding.total
            yesterday += instrument.last_price * holding.total
    return {
        "total_pnl": number(current - invested),
        "total_pnl_percent": _percent(current - invested, invested),
        "today_pnl": number(current - yesterday),
        "today_pnl_percent": _percent(current - yesterday, yesterday),
        "invested_amount": number(invested),
        "current_value": number(current),
    }


def auctions(portfolio: Portfolio, master: Master, market: Market, now: datetime) -> list[dict[str, Any]]:
    """Return the answer of ``GET /portfolio/holdings/auctions``: an auction is held for every share held."""
    return [
        {
            **_holding_row(name, holding, instrument, portfolio, market.last_price(instrument, now), now),
            "auction_number": auction_number(instrument),
        }
        for name, holding in portfolio.holdings.items()
        if (instrument := master.by_key.get(name)) is not None
    ]


def isin_of(instrument: Instrument) -> str:
    """Return the made-up ISIN of a share."""
    return f"INE{instrument.token // 256:06d}010"[:12]


def _holding_row(
    name: str, holding: Holding, instrument: Instrument, portfolio: Portfolio, last: Decimal, now: datetime
) -> dict[str, Any]:
    close, cost = instrument.last_price, average(holding.value, holding.total)
    return {
        "tradingsymbol": instrument.symbol,
        "exchange": instrument.exchange,
        "instrument_token": instrument.token,
        "isin": isin_of(instrument),
        "product": "CNC",
        "price": 0,
        "quantity": holding.quantity,
        "used_quantity": portfolio.sold_from_holdings(name),
        "t1_quantity": holding.t1_quantity,
        "realised_quantity": holding.quantity,
        "authorised_quantity": portfolio.authorised.get(name, 0),
        "authorised_date": (stamp(now) or "")[:10] + " 00:00:00",
        "authorisation": {},
        "opening_quantity": holding.total,
        "short_quantity": 0,
        "collateral_quantity": 0,
        "collateral_type": "",
        "discrepancy": False,
        "average_price": number(cost),
        "last_price": number(last),
        "close_price": number(close),
        "pnl": number((last - cost) * holding.total),
        "day_change": number(last - close),
        "day_change_percentage": number((last - close) * 100 / close),
        "mtf": {"quantity": 0, "used_quantity": 0, "average_price": 0, "value": 0, "initial_margin": 0},
    }


def _percent(part: Decimal, whole: Decimal) -> Decimal | int:
    return number(part * 100 / whole) if whole else 0


def margin_row(funds: Funds) -> dict[str, Any]:
    """Return a segment of ``GET /user/margins``; ``debits`` is the sum of what is utilised."""
    cash, net = _rupees(funds.cash), _rupees(funds.net)
    return {
        "enabled": True,
        "net": net,
        "available": {
            "adhoc_margin": 0,
            "cash": cash,
            "opening_balance": cash,
            "live_balance": net,
            "collateral": 0,
            "intraday_payin": 0,
        },
        "utilised": {
            "debits": _rupees(funds.used),
            # working orders block under one name, whatever they become
            "exposure": _rupees(funds.positions.exposure + funds.positions.var + funds.orders),
            "m2m_realised": _rupees(-funds.realised),
            "m2m_unrealised": _rupees(-funds.unrealised),
            "option_premium": _rupees(funds.positions.option_premium),
            "payout": 0,
            "span": _rupees(funds.positions.span),
            "holding_sales": 0,
            "turnover": 0,
            "liquid_collateral": 0,
            "stock_collateral": 0,
            "delivery": _rupees(funds.delivery),
        },
    }


def empty_margin_row() -> dict[str, Any]:
    """Return the commodity segment: one pool of money, shown under equity, serves all segments."""
    zero = Decimal(0)
    return margin_row(
        Funds(cash=zero, delivery=zero, positions=MarginParts(), orders=zero, realised=zero, unrealised=zero)
    )


def _rupees(value: Decimal) -> Decimal | int:
    return number(round(value, 2))
