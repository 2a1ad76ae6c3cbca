"""One drill from beginning to end: start, open orders and positions, misfortunes, trip under load, follow, judge."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import trio

from engine.clock import Clock
from engine.domain.drill import (
    DrillReport,
    DrillVerdict,
    FaultHit,
    Observed,
    after_block,
    over_flattens,
    problems_of,
)
from engine.drill.child import running
from engine.drill.desk import EngineSide, ExchangeSide, until
from engine.drill.folder import drill_folder
from engine.drill.load import LOAD_PER_SECOND, Load, far_order, market_order, spread
from engine.drill.no_limits import NO_LIMITS
from engine.drill.plan import LOAD_SYMBOLS, POSITION_SYMBOLS, DrillPlan, written
from engine.drill.truth import cancels_of, filled_of, hits_of, placed_of
from engine.exchange.record import read_record

_CAPITAL = 1_000_000_000
_EXCHANGE_READY_S = 30.0
_ENGINE_READY_S = 60.0
_INSTRUMENTS_S = 30.0
_OPENED_S = 60.0
_LOADED_S = 20.0
_FLAT_S = 60.0
_LOAD_BEFORE_S = 1.0
_WIRE_S = 0.4
_MOST_UNITS = 20
_TIMEOUT_S = 1.5

# A kite engine with the broker's own budgets and without limits, which the signals of a drill would only run into.
_CONFIG = """
[server]
host = "127.0.0.1"
port = 0
[broker]
mode = "kite"
[broker.kite]
root_url = "{http}"
ws_url = "{ws}"
timeout_s = {timeout_s}
[telegram]
mode = "off"
{no_limits}
[market]
enforce_hours = false
auto_square_off = false
[logging]
dir = "{logs}"
"""


class Stage:
    """What one drill works with."""

    def __init__(
        self, engine: EngineSide, exchange: ExchangeSide, record: Path, clock: Clock, prices: dict[str, Decimal]
    ) -> None:
        self.engine = engine
        self.exchange = exchange
        self.record = record
        self.clock = clock
        self.prices = prices


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """When the trip was asked for and answered (UTC), and what there was to flatten then."""

    asked_at: datetime
    answered_at: datetime
    resting: int
    held: int


async def rehearse(plan: DrillPlan, *, parent: Path | None, clock: Clock, tell: Callable[[str], None]) -> DrillReport:
    """Run the drill and return its report; *tell* hears how far it is.

    Everything that was started has ended when this returns or raises, and its folder is gone. Raises DrillError when
    it could not be run to its end, StartupError when a process cannot be made.
    """
    began = clock.now()
    with drill_folder(parent) as folder:
        async with _stage(plan, folder, clock, tell) as stage:
            tell(f"opening {plan.positions} positions and {plan.orders} orders")
            await _open(stage, plan)
            load = Load(
                stage.engine,
                {symbol: stage.prices[symbol] for symbol in LOAD_SYMBOLS},
                per_second=LOAD_PER_SECOND,
                clock=clock,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                trip = await _trip(stage, plan, tell)
                scope = await _follow(stage)
                tell(f"the kill switch is {scope['state']}")
                nursery.cancel_scope.cancel()
            return await _report(stage, plan, load, trip, scope, began)


@asynccontextmanager
async def _stage(plan: DrillPlan, folder: Path, clock: Clock, tell: Callable[[str], None]) -> AsyncIterator[Stage]:
    record = folder / "record.jsonl"
    tell("starting a paper exchange and an engine of the drill's own")
    arguments = ["exchange", "--control-port", "0", "--record", str(record), "--capital", str(_CAPITAL)]
    async with running("exchange", [*arguments, "--seed", str(plan.seed)], folder) as child:
        ready = await child.said(r"exchange ready (\S+)", within_s=_EXCHANGE_READY_S)
        control, key, secret = [
            (await child.said(rf"{name} (\S+)", within_s=_EXCHANGE_READY_S))[1]
            for name in ("control ready", "api_key", "api_secret")
        ]
        exchange = ExchangeSide(ready[1], control, key, secret)
        try:
            await exchange.log_in()
            keys = [f"NSE:{symbol}" for symbol in (*POSITION_SYMBOLS, *LOAD_SYMBOLS)]
            prices = await exchange.last_prices(keys)
            for name, price in prices.items():
                # prices that stand: what is measured is the sequence, not the market
                await exchange.control("price", {"key": name, "price": str(price)})
            settings = _CONFIG.format(
                http=exchange.base_url,
                ws=exchange.base_url.replace("http", "ws", 1),
                logs=folder / "logs",
                no_limits=NO_LIMITS,
                timeout_s=_TIMEOUT_S,
            )
            config = folder / "engine.toml"
            config.write_text(settings)
            arguments = ["run", "--config", str(config), "--data-dir", str(folder / "data"), "--port", "0"]
            async with running("engine", arguments, folder) as engine:
                url = (await engine.said(r"engine ready (\S+)", within_s=_ENGINE_READY_S))[1]
                who = await engine.said(r"first administrator: (\S+)  password: (\S+)", within_s=_ENGINE_READY_S)
                side = EngineSide(url)
                try:
                    await side.sign_in(who[1], who[2])
                    bare = {name.partition(":")[2]: price for name, price in prices.items()}
                    yield Stage(side, exchange, record, clock, bare)
                finally:
                    await _close(side)
        finally:
            await _close(exchange)


async def _close(side: EngineSide | ExchangeSide) -> None:
    with trio.move_on_after(1.0, shield=True):
        await side.aclose()


async def _open(stage: Stage, plan: DrillPlan) -> None:
    exchange, engine = stage.exchange, stage.engine
    await engine.open_desk(
        api_key=exchange.api_key,
        api_secret=exchange.api_secret,
        access_token=exchange.access_token,
        capital=_CAPITAL,
    )

    async def has_instruments() -> Any:
        return (await engine.call("GET", "/system/metrics"))["instruments"]["count"]

    await until("the drill's list of instruments", has_instruments, within_s=_INSTRUMENTS_S)
    dice = Random(plan.seed)  # noqa: S311 -- sides and quantities of a drill
    signals = [
        market_order(symbol, buy=dice.random() < 0.5, quantity=dice.randint(1, _MOST_UNITS)) for symbol in plan.symbols
    ]
    signals += [
        far_order(symbol, stage.prices[symbol], buy=dice.random() < 0.5, quantity=dice.randint(1, _MOST_UNITS))
        for symbol in spread(plan.symbols or POSITION_SYMBOLS, plan.orders)
    ]
    for number, body in enumerate(signals):
        await engine.send(body, f"open-{number}", stage.clock)

    async def is_open() -> bool:
        held = [row for row in await engine.rows("/executions/positions") if row["quantity"]]
        resting = await engine.rows("/executions/orders", status="OPEN")
        return len(held) >= plan.positions and len(resting) >= plan.orders

    await until("what the drill opens", is_open, within_s=_OPENED_S)


async def _trip(stage: Stage, plan: DrillPlan, tell: Callable[[str], None]) -> Trip:
    engine, exchange = stage.engine, stage.exchange
    await trio.sleep(_LOAD_BEFORE_S)
    held, resting = len(await exchange.held()), await exchange.open_orders()
    if plan.faults:
        rules = [msgspec.to_builtins(rule) for rule in plan.faults]
        await exchange.control("faults", {"rules": rules})
        # so that requests which will get no answer are on the wire
        await trio.sleep(_WIRE_S)
    tell(f"tripping the kill switch: {held} positions, {resting} open orders, {LOAD_PER_SECOND} signals a second")
    asked_at = stage.clock.now()
    body = {"scope": "global", "reason": "a drill", "mode": "SQUARE_OFF"}
    await engine.call("POST", "/risk/killswitch/enable", body)
    return Trip(asked_at=asked_at, answered_at=stage.clock.now(), resting=resting, held=held)


async def _follow(stage: Stage) -> dict[str, Any]:
    """Return how the scope stands once all is flat, or when the time for that is over."""
    scope: dict[str, Any] = {"state": "unknown", "certificate": None}
    with trio.move_on_after(_FLAT_S):
        while scope["state"] != "FLAT_VERIFIED" or scope["certificate"] is None:
            status = await stage.engine.call("GET", "/risk/killswitch/status")
            scope = next(row for row in status["scopes"] if row["scope"] == "global")
            await trio.sleep(0.1)
    return scope


async def _report(
    stage: Stage, plan: DrillPlan, load: Load, trip: Trip, scope: dict[str, Any], began: datetime
) -> DrillReport:
    engine, exchange = stage.engine, stage.exchange
    held, open_orders = await exchange.held(), await exchange.open_orders()
    rows = await engine.rows("/executions/orders")
    exit_tags = frozenset(row["tag"] for row in rows if row["origin"] == "SQUARE_OFF")
    hits = hits_of(await exchange.hits())
    events = await trio.to_thread.run_sync(read_record, stage.record)
    placed, filled = placed_of(events, hits, exit_tags), filled_of(events, exit_tags)
    certificates = await engine.rows("/risk/killswitch/certificates", scope="global")
    proof = next((row for row in certificates if row["outcome"] == "FLAT_VERIFIED"), None)
    content = {} if proof is None else msgspec.json.decode(proof["content"])
    signals = load.told(trip.answered_at)
    problems = problems_of(
        Observed(
            blocked_at=trip.answered_at,
            state=scope["state"],
            resting=trip.resting,
            held=trip.held,
            placed=placed,
            filled=filled,
            left=sorted(f"{place} {units}" for place, units in held.items()),
            open_orders=open_orders,
            signals=signals,
            certificate_flat=is_proof(content),
            certificate_verified=proof is not None and proof["valid"],
        ),
        orders=plan.orders,
        positions=plan.positions,
    )
    exits = [each for each in placed if each.exit]
    chased = {each.order_id for each in exits}
    cancels = [event for event in cancels_of(events, trip.asked_at) if event.order_id not in chased]
    last_cancel = max((event.at for event in cancels if event.accepted), default=trip.answered_at)
    entries = [each for each in placed if not each.exit]
    return DrillReport(
        verdict=DrillVerdict.FAIL if problems else DrillVerdict.PASS,
        problems=problems,
        started_at=began,
        took_s=round((stage.clock.now() - began).total_seconds(), 3),
        seed=plan.seed,
        orders=trip.resting,
        positions=trip.held,
        faults=tuple(
            FaultHit(rule=written(rule), hits=sum(hit.rule == number for hit in hits))
            for number, rule in enumerate(plan.faults)
        ),
        time_to_block_s=content.get("timeToBlockS"),
        time_to_answer_s=_apart(trip.asked_at, trip.answered_at),
        time_to_cancelled_s=_apart(trip.asked_at, last_cancel) if not open_orders else None,
        time_to_flat_s=content.get("timeToFlatS"),
        orders_sent=len(entries),
        orders_refused=sum(not each.accepted for each in entries),
        exits_sent=len(exits),
        exits_refused=sum(not each.accepted for each in exits),
        cancels_sent=len(cancels),
        orders_after_block=len(after_block(placed, trip.answered_at)),
        over_flattens=len(over_flattens(filled)),
        positions_left=tuple(sorted(held)),
        open_orders_left=open_orders,
        signals=signals,
        certificate_id=None if proof is None else proof["id"],
        certificate_verified=proof is not None and proof["valid"],
    )


def is_proof(content: dict[str, Any]) -> bool:
    """Whether what a certificate signs shows every account flat by two looks without an open order or a position."""
    accounts = content.get("accounts", [])
    return bool(accounts) and all(
        account["flat"]
        and len(account["proofs"]) == 2
        and not any(
            look["openOrders"] or any(row["quantity"] for row in look["positions"]) for look in account["proofs"]
        )
        for account in accounts
    )


def _apart(begin: datetime, end: datetime) -> float:
    return round((end - begin).total_seconds(), 3)
