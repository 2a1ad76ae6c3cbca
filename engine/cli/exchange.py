"""``engine exchange``: the Kite-compatible paper exchange alone."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import trio
import typer

from engine.cli.run import announce
from engine.exchange.config import Behaviour, ExchangeConfig, Limits, read_behaviour
from engine.exchange.faults import read_rule
from engine.exchange.standalone import serve_standalone


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
    behaviour: Annotated[
        str | None,
        typer.Option("--behaviour", metavar="JSON", help="Which of Kite's several ways to take, see below."),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", metavar="RULE", help="A way to misbehave, see below; repeatable.")
    ] = None,
) -> None:
    """Run the exchange until Ctrl-C or SIGTERM; prints its API key and secret, then its address.

    A fault RULE is name=value,name=value with: on (any, write, place, modify, cancel, read, orders,
    trades, positions, quotes, other_read); takes (now, never, late) and late_s, whether and when the request has its
    effect; answer (own, none, drop, reset, cut, logout, timed_out, bad_input, no_funds, no_holdings,
    order_error, unauthorised_holdings, token, permission, ip, rate, cap, server_error, oms_down,
    api_down, bad_gateway_page, gateway_timeout, truncated, wrong_type, no_order_id, not_json; of reads
    also empty, partial, stale) and delay_s; after_bytes (of "cut"); probability, count, skip, seed; symbol, tag.

    One in ten orders is taken but its answer lost: --fault takes=now,answer=drop,probability=0.1

    Taken 8 s after a 400 "timed out": --fault takes=late,late_s=8,answer=timed_out

    Order book away: --fault on=orders,answer=server_error

    A behaviour is a JSON object: latency (received_s, validation_s, exchange_s: how long interim states last);
    rejections (by tick, freeze, hours, circuit, lpp, far_limit, funds, holdings: sync or async); order_rejects and
    modify_rejects (by EXCHANGE:SYMBOL or *: the text of an asynchronous refusal); cancelled_pending (kept, zero),
    cancelled_quantity (counted, zero); finished_cancel (busy, does_not_exist); shuffle_orders; positions_lag_s;
    autoslice_answer (v2, v1); needs_authorisation; far_limit_percent.

    Half a second at the exchange, positions late: --behaviour '{"latency": {"exchange_s": 0.5}, "positions_lag_s": 5}'
    """
    rules = [read_rule(text) for text in fault or ()]
    behaves = Behaviour() if behaviour is None else read_behaviour(behaviour)

    async def work() -> None:
        await serve_standalone(
            host=host,
            port=port,
            record_path=record,
            seed=seed,
            capital=Decimal(capital),
            announce=announce,
            config=ExchangeConfig(control_routes=control, limits=Limits(enabled=limits), behaviour=behaves),
            faults=rules,
        )

    trio.run(work)
