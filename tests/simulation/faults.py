"""What goes wrong in a world, when, and how it ends."""

import msgspec
import trio

from engine.errors import EngineError
from engine.journal import keys as journal_keys
from engine.journal.entry import encode
from tests.simulation import scheduling
from tests.simulation.plan import Fault, Kind, name_id
from tests.simulation.senders import delivery_of
from tests.simulation.world import Kill, World


async def happen(world: World, fault: Fault) -> None:
    """Let a fault happen when it is due; what lasts is over when its time is, or the plan's."""
    await trio.sleep(fault.at)
    if world.healed.is_set():
        return
    world.note("fault", kind=fault.kind.value, lasts=fault.lasts, number=fault.number, text=fault.text)
    world.exits.storms += 1
    await _happen(world, fault)
    world.exits.storms -= 1
    world.exits.noted("over")


async def _happen(world: World, fault: Fault) -> None:
    match fault.kind:
        case Kind.KILL:
            _kill_someone(world)
        case Kind.KILL_AT:
            world.triggers.append({"kind": Kind.KILL_AT, "point": fault.text, "count": fault.number})
        case Kind.KILL_TWICE:
            _kill_someone(world)
            for _ in range(3):
                await trio.sleep(world.restart_s + world.dice.uniform(0.0005, 0.02))
                if world.healed.is_set():
                    return
                _kill_someone(world)
        case Kind.FREEZE if fault.text:
            trigger = {"kind": Kind.FREEZE, "point": fault.text, "count": 1, "lasts": fault.lasts}
            world.triggers.append(trigger)
        case Kind.FREEZE:
            life = world.leader()
            if life is not None:
                scheduling.stop(life)
                await world.thaw(life, fault.lasts)
        case Kind.TERM:
            life = world.leader()
            if life is not None:
                life.told_to_stop.set()
        case Kind.KILLSWITCH:
            await _killswitch(world, fault)
        case Kind.VALKEY_WIPE:
            _wipe(world)
        case Kind.VALKEY_FORGED:
            _forge(world)
        case Kind.DB_LOSES:
            world.db.lose += fault.number
        case Kind.VALKEY_LOSES:
            world.valkey.lose += fault.number
        case Kind.POSTS:
            world.weather.posts += [fault.text] * fault.number
        case Kind.HAND:
            book = list(world.books.values())[fault.number % len(world.books)]
            book.by_hand(fault.text, "BUY" if fault.number % 2 else "SELL", 1 + fault.number)
        case _:
            await _weather(world, fault)


async def _weather(world: World, fault: Fault) -> None:
    """A fault that lasts; everything heals when the plan ends."""
    weather, db, server = world.weather, world.db, world.valkey
    match fault.kind:
        case Kind.DB_DOWN:
            db.crash()
        case Kind.DB_SLOW:
            db.slow_s += fault.number / 10
            # as slow as that, it does not answer at all now and then
            db.lose += fault.number >= 70
        case Kind.DB_RENEW:
            db.renew_hangs += 1
        case Kind.VALKEY_DOWN:
            server.crash()
        case Kind.VALKEY_HANG:
            server.hangs += 1
        case Kind.BOOK_DOWN:
            weather.book_down += 1
        case Kind.BOOK_STALE:
            weather.stale_s.append(float(fault.number))
        case Kind.BOOK_PARTIAL:
            weather.drop.append(fault.number)
        case Kind.BOOK_SLOW:
            weather.slow_s.append(float(fault.number))
        case Kind.TROUBLE:
            weather.trouble += 1
            weather.book_down += 1
        case Kind.CONNECT:
            weather.refuses += 1
        case Kind.TOKEN:
            for book in world.books.values():
                book.token += 1
            weather.no_login += 1
        case Kind.CLOCK:
            world.wall_offset[0] += fault.number
    began = trio.current_time()
    with trio.move_on_after(fault.lasts):
        # what a broker does for minutes it does whether the plan's own time is over or not
        if fault.lasts > 100:
            await trio.sleep_forever()
        await world.healed.wait()
    match fault.kind:
        case Kind.DB_DOWN:
            db.down -= 1
        case Kind.DB_SLOW:
            db.slow_s = max(0.0, db.slow_s - fault.number / 10)
            if db.slow_s < 0.01:
                db.slow_s = 0.0
        case Kind.DB_RENEW:
            db.renew_hangs -= 1
        case Kind.VALKEY_DOWN:
            server.down -= 1
        case Kind.VALKEY_HANG:
            server.hangs -= 1
            if not server.hangs:
                server.go_on()
        case Kind.BOOK_DOWN:
            weather.book_down -= 1
        case Kind.BOOK_STALE:
            weather.stale_s.remove(float(fault.number))
        case Kind.BOOK_PARTIAL:
            weather.drop.remove(fault.number)
        case Kind.BOOK_SLOW:
            weather.slow_s.remove(float(fault.number))
        case Kind.TROUBLE:
            weather.trouble -= 1
            weather.book_down -= 1
            weather.frozen_reads = [began] * fault.number
        case Kind.CONNECT:
            weather.refuses -= 1
        case Kind.TOKEN:
            weather.no_login -= 1
        case Kind.CLOCK if fault.lasts:
            world.wall_offset[0] -= fault.number
    world.note("over", kind=fault.kind.value)


def _wipe(world: World) -> None:
    """FLUSHALL: what only the journal held is lost with it, unless whoever accepted it lives and holds it."""
    life = world.leader()
    for intent_id in world.acked:
        if intent_id not in world.db.intents:
            world.wiped.append((intent_id, life))
    world.valkey.wipe()


def _kill_someone(world: World) -> None:
    life = world.someone()
    if life is not None:
        world.kill(life)


async def _killswitch(world: World, fault: Fault) -> None:
    user = world.dice.randrange(world.plan.users)
    scope = {
        "global": "global",
        "user": f"user:{name_id('user', user)}",
        "account": f"account:{name_id(f'account{user}-', 0)}",
        "strategy": f"strategy:{name_id('strategy', user)}",
    }[fault.text]
    life = world.leader()
    if life is None or life.trading is None or life.is_stopped:
        return
    guardian = life.trading.guardian

    async def block() -> None:
        world.kills.append(Kill(scope=scope, life=life, at=trio.current_time(), filed={}))
        await guardian.block(scope, reason="simulated", actor="test")

    await world.in_life(life, block, timeout_s=8.0)
    with trio.move_on_after(fault.lasts):
        await world.healed.wait()
    await _release(world, scope)


async def _release(world: World, scope: str) -> None:
    while True:
        life = world.leader()
        if life is not None and life.trading is not None:
            guardian = life.trading.guardian
            for kill in world.kills:
                kill.over = kill.over or kill.scope == scope
            done = await world.in_life(
                life,
                lambda g=guardian: g.release(scope, reason="over", actor="test"),
                timeout_s=8.0,  # type: ignore[misc]
            )
            if done is not None and done[1] is None:
                return
            if done is not None and not isinstance(done[1], EngineError):
                world.broken("O6", f"releasing {scope} failed: {done[1]!r}")
                return
        await trio.sleep(1.0)


def _forge(world: World) -> None:
    """Somebody who can write to the journal's server, and has no key, wants to trade."""
    name = world.valkey.values.get(journal_keys.EPOCH.encode())
    if name is None:
        return
    epoch, _ = journal_keys.read_name(name.decode())
    wish = world.plan.wishes[0]
    life = world.lives[-1]
    forged = msgspec.structs.replace(delivery_of(wish, life), idempotency_key=f"forged{len(world.forged)}")
    world.forged.add(forged.idempotency_key)
    world.valkey.append(journal_keys.stream(epoch), encode(forged, b"not the key".ljust(32)))
