"""``engine exchange``: the Kite-compatible paper exchange alone."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import trio
import typer

from engine.cli.run import announce
from engine.clock import IST
from engine.exchange.config import DEFAULT_REDIRECT, Behaviour, ExchangeConfig, ExchangeError, Limits
from engine.exchange.faults import read_rule
from engine.exchange.push_faults import read_push_rule
from engine.exchange.standalone import read_redirect, read_user, serve_standalone
from engine.exchange.written import mended


class Reject(StrEnum):
    """How refusals by risk checks come."""

    SYNC = "sync"
    ASYNC = "async"


class OrderIds(StrEnum):
    """The form of order ids."""

    SNOWFLAKE = "snowflake"
    DATED = "dated"


def exchange(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 picks a free one.")] = 0,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    record: Annotated[
        Path | None, typer.Option("--record", help="File that every order and trade is written to.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the price process.")] = 1,
    capital: Annotated[int, typer.Option("--capital", min=1, help="Rupees of the account.")] = 1_000_000,
    limits: Annotated[bool, typer.Option(help="Kite's request limits: 10 orders/s, 400/min, 5,000/day.")] = True,
    control: Annotated[
        bool, typer.Option("--control", help="Add /_control/ for callers on this machine: prices, faults, limits.")
    ] = False,
    control_port: Annotated[
        int | None,
        typer.Option(
            "--control-port", min=0, max=65535, help="/_control/ on a loopback port of its own; 0: a free one."
        ),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", metavar="ID[:CAPITAL]", help="A further account, with keys of its own; repeatable."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Prices from a CSV: time,instrument,price[,volume]."),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.01, max=100_000, help="Exchange time passes N times as fast.")
    ] = 1.0,
    start_at: Annotated[
        str | None,
        typer.Option("--start-at", metavar="TIME", help='Exchange time to start at, IST: "2026-11-23 09:15:00".'),
    ] = None,
    hours: Annotated[
        bool,
        typer.Option("--hours", help="Trade on weekdays in each exchange's hours only; else the market never closes."),
    ] = False,
    partial_fills: Annotated[bool, typer.Option("--partial-fills", help="Fill orders in several trades.")] = False,
    reject: Annotated[
        Reject, typer.Option("--reject", help="How refusals by risk checks come: HTTP 400, or as REJECTED orders.")
    ] = Reject.SYNC,
    order_ids: Annotated[
        OrderIds,
        typer.Option("--order-ids", help="19-digit order ids, or the older 15 digits that begin with the date."),
    ] = OrderIds.SNOWFLAKE,
    behaviour: Annotated[
        str,
        typer.Option("--behaviour", metavar="JSON", help="Latencies, odd rows and lags, see below."),
    ] = "{}",
    static_ip: Annotated[
        list[str] | None,
        typer.Option("--static-ip", metavar="ADDR", help="Take order writes from this address only; repeatable."),
    ] = None,
    redirect_url: Annotated[
        str,
        typer.Option(
            "--redirect-url", metavar="URL", help="Where /connect/login sends the browser: the engine's callback."
        ),
    ] = DEFAULT_REDIRECT,
    postback_url: Annotated[
        str | None,
        typer.Option("--postback-url", metavar="URL", help="POST each order update there; this machine only."),
    ] = None,
    ws_fault: Annotated[
        list[str] | None,
        typer.Option("--ws-fault", metavar="RULE", help="A way for the ticker to misbehave, see below; repeatable."),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", metavar="RULE", help="A way to misbehave, see below; repeatable.")
    ] = None,
) -> None:
    """Run the exchange until Ctrl-C or SIGTERM; prints its API key and secret, then its address.

    Keys come in pairs: those of PAPER1 first, then those of each --user. A browser on this machine sees accounts,
    orders and trades at /book. A second start with the same --record goes on with the same keys and orders.

    A fault RULE is name=value,name=value with: on (any, write, place, modify, cancel, read, orders,
    trades, positions, quotes, other_read); takes (now, never, late) and late_s, whether and when the request has its
    effect; answer (own, none, drop, reset, cut, logout, timed_out, bad_input, no_funds, no_holdings,
    order_error, unauthorised_holdings, token, permission, ip, rate, cap, server_error, oms_down,
    api_down, bad_gateway_page, gateway_timeout, truncated, wrong_type, no_order_id, not_json; of reads
    also empty, partial, stale) and delay_s; after_bytes (of "cut"); probability, count, skip, seed; symbol, tag.

    One in ten orders is taken but its answer lost: --fault takes=now,answer=drop,probability=0.1

    Taken 8 s after a 400 "timed out": --fault takes=late,late_s=8,answer=timed_out

    Order book away: --fault on=orders,answer=server_error

    A ticker RULE is fault=NAME,name=value with: fault (of order updates: duplicate, missing, reorder; of
    connections: silent, no_heartbeat, logout, drop; of handshakes: refuse_403, refuse_429); after_s, since when or for
    how long; probability, count, skip, seed.

    One in three updates missing: --ws-fault fault=missing,probability=0.33

    Dead without a word after 30 s: --ws-fault fault=silent,after_s=30,count=1

    The JSON of --behaviour is what POST /_control/behaviour takes: latency (received_s, validation_s, exchange_s),
    rejections, order_rejects, modify_rejects, cancelled_pending, cancelled_quantity, finished_cancel, shuffle_orders,
    positions_lag_s, autoslice_answer, needs_authorisation, far_limit_percent.

    Positions two seconds behind trades: --behaviour '{"positions_lag_s": 2}'

    A replayed file has a header; time is ISO 8601 (IST unless it has an offset), instrument EXCHANGE:SYMBOL, price
    rupees, volume the day's so far. Instruments that it does not name follow the seed. The exchange starts at its
    first row unless --start-at says otherwise.
    """
    rules = [read_rule(text) for text in fault or ()]
    push_rules = [read_push_rule(text) for text in ws_fault or ()]
    users = {name: money or Decimal(capital) for name, money in map(read_user, user or ())}
    scenario = _behaviour(behaviour)
    redirect = read_redirect(redirect_url)
    begin = _instant(start_at) if start_at is not None else None

    async def work() -> None:
        await serve_standalone(
            host=host,
            port=port,
            record_path=record,
            seed=seed,
            capital=Decimal(capital),
            announce=announce,
            config=ExchangeConfig(
                control_routes=control,
                limits=Limits(enabled=limits),
                control_port=control_port,
                static_ips=tuple(static_ip or ()),
                postback_url=postback_url,
                enforce_hours=hours,
                partial_fills=partial_fills,
                rejection=reject.value,
                order_ids=order_ids.value,
                behaviour=scenario,
            ),
            faults=rules,
            push_faults=push_rules,
            users=users,
            redirect_url=redirect,
            replay_path=replay,
            speed=speed,
            start_at=begin,
        )

    trio.run(work)


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ExchangeError(f"--start-at {text!r}: {exc}; write 2026-11-23 09:15:00") from exc
    return at if at.tzinfo is not None else at.replace(tzinfo=IST)


def _behaviour(text: str) -> Behaviour:
    try:
        return msgspec.json.decode(text, type=Behaviour)
    except msgspec.ValidationError as exc:
        raise ExchangeError(f"--behaviour {text!r}: {mended(exc, Behaviour)}") from exc
    except msgspec.DecodeError as exc:
        raise ExchangeError(f'--behaviour {text!r}: {exc}; write for example {{"positions_lag_s": 2}}') from exc
