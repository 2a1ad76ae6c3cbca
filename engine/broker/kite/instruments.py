"""The instrument master: Kite's CSV dump, with exact decimals.

Columns: https://kite.trade/docs/connect/v3/market-quotes/ (instruments). Freeze quantities are
not in the dump, nor are multipliers: these come from a table. The dump is made once a day, its last price is stale.
"""

import csv
from datetime import date
from decimal import Decimal, InvalidOperation
from io import StringIO

from engine.broker.kite.multipliers import multiplier_of
from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument
from engine.errors import BrokerUnavailable

COLUMNS = (
    "instrument_token",
    "exchange_token",
    "tradingsymbol",
    "name",
    "last_price",
    "expiry",
    "strike",
    "tick_size",
    "lot_size",
    "instrument_type",
    "segment",
    "exchange",
)
_NEEDED = frozenset(COLUMNS) - {"exchange_token", "name"}
_EXCHANGES = {member.value: member for member in Exchange}


def parse_instruments(body: bytes) -> list[Instrument]:
    """Return the instruments of a dump, indices (segment INDICES, tick and lot 0) included.

    Left out are rows of exchanges that the engine does not trade. Raises BrokerUnavailable naming line
    and column for anything else that cannot be read. The whole dump has about 100,000 rows: run it in a
    worker thread.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise BrokerUnavailable("instruments: the dump is not UTF-8") from exc
    reader = csv.reader(StringIO(text, newline=""))
    try:
        header = next(reader, [])
        missing = _NEEDED.difference(header)
        if missing:
            raise BrokerUnavailable(f"instruments: column {min(missing)} is missing")
        at = {name: header.index(name) for name in COLUMNS if name in header}
        return [found for row in reader if row and (found := _instrument(row, at, reader.line_num)) is not None]
    except csv.Error as exc:
        raise BrokerUnavailable(f"instruments: line {reader.line_num}: {exc}") from exc


def _instrument(row: list[str], at: dict[str, int], line: int) -> Instrument | None:
    column = "exchange"
    try:
        exchange = _EXCHANGES.get(row[at[column]])
        if exchange is None:
            return None
        is_index = row[at["segment"]] == "INDICES"
        column = "instrument_token"
        token = int(row[at[column]])
        column = "tick_size"
        tick_size = _decimal(row[at[column]])
        column = "lot_size"
        lot_size = int(row[at[column]])
        if not is_index and (tick_size <= 0 or lot_size <= 0):
            return None
        column = "last_price"
        last_price = _decimal(row[at[column]] or "0")
        column = "expiry"
        expiry = date.fromisoformat(row[at[column]]) if row[at[column]] else None
        column = "strike"
        strike = _decimal(row[at[column]] or "0")
        column = "tradingsymbol"
        name = row[at["name"]] if "name" in at else ""
        return Instrument(
            exchange=exchange,
            symbol=row[at["tradingsymbol"]],
            token=token,
            tick_size=tick_size,
            lot_size=lot_size,
            name=name,
            instrument_type=row[at["instrument_type"]],
            segment=row[at["segment"]],
            expiry=expiry,
            strike=strike if strike > 0 else None,
            last_price=last_price,
            multiplier=multiplier_of(exchange, name),
        )
    except (ValueError, InvalidOperation, IndexError) as exc:
        raise BrokerUnavailable(f"instruments: line {line}: {column} cannot be read") from exc


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite() or value.adjusted() > 15:
        raise ValueError("out of range")
    return value
