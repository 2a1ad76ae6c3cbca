"""Run one seed: patch the ports in, let the scenario happen, ask the oracles."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import structlog
import trio

import engine.assembly
import engine.journal.writer
import engine.runtime.supervisor
from engine import boot
from engine.actors import exit_keeper, feeds, modifying, session_keeper
from engine.domain import attached
from engine.runtime import crashpoint as crashpoints
from engine.runtime import holder
from tests.simulation import database_units, faults, oracles, persons, scheduling, valkey
from tests.simulation.extras import with_extras
from tests.simulation.life import Life, SimSessions
from tests.simulation.market import CAP
from tests.simulation.plan import Fault, Plan, draw
from tests.simulation.senders import send
from tests.simulation.world import Killed, World, leaves

_QUIET_S = 800.0  # an order can come into the book ten minutes late


class Result(msgspec.Struct, kw_only=True):
    """What became of one seed."""

    seed: int
    violations: list[str]
    digest: str
    trace: list[str]
    counts: dict[str, int]
    cpu_s: float
    virtual_s: float


def _owner() -> Life:
    life = scheduling.OWNER.get()
    assert isinstance(life, Life)
    return life


def _patches(world: World) -> list[tuple[Any, str, Any]]:
    dice = scheduling.stream(world.plan.seed, "ids")

    def new_id() -> UUID:
        return UUID(int=dice.getrandbits(128), version=4)

    def name() -> str:
        life = _owner()
        return f"host{life.host}|boot|ns|{life.number}|1"

    def is_dead(held_by: str) -> bool:
        number = int(held_by.split("|")[3])
        life = world.lives[number - 1]
        return life.host == _owner().host and life.ended.is_set()

    def sessions(*, directory: Any, **_rest: Any) -> SimSessions:
        return SimSessions(directory=directory, life=_owner())

    async def connect(_address: Any) -> Any:
        return await valkey.connect(_owner(), world.valkey)

    def passed(point: str) -> None:
        life = scheduling.OWNER.get()
        if isinstance(life, Life):
            life.point(point)

    patches: list[tuple[Any, str, Any]] = [
        *database_units.PATCHES,
        (engine.assembly, "Sessions", sessions),
        (engine.journal.writer, "connect", connect),
        (engine.runtime.supervisor, "random", SimpleNamespace(Random=lambda: random.Random(world.plan.seed))),
        # nobody has a ticker here, and no round over the accounts is due: their looks would only cost
        (feeds, "_LOOK_S", 3600.0),
        (session_keeper, "_TICK_S", 3600.0),
        (attached, "MAX_MODIFICATIONS", CAP),
        (modifying, "MAX_MODIFICATIONS", CAP),
        *((module, "RENEWED", CAP + 1) for module in (attached, modifying, exit_keeper)),
        (boot, "uuid4", new_id),
        (crashpoints, "_hook", passed),
        (holder, "own_name", name),
        (holder, "is_dead", is_dead),
    ]
    return patches


@contextlib.contextmanager
def patched(patches: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Put things in place of others for a while."""
    # a name that is gone is a fault of the simulation, not something to put in place
    before = [(owner, name, owner.__dict__[name]) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


@contextlib.contextmanager
def _logs(world: World) -> Iterator[None]:
    def keep(_logger: Any, level: str, event: dict[str, Any]) -> Any:
        # what is kept is what would be written; making text of it is the same work a thousand times
        world.logs.append((level, event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


async def _scenario(world: World) -> None:
    async with trio.open_nursery() as nursery:
        world.nursery = nursery
        await _play(world)
        left = await oracles.settle(world, within_s=_QUIET_S)
        if left is None and not world.enough.is_set() and world.plan.extras is not None:
            await persons.cancel_everything(world)
            left = await oracles.settle(world, within_s=_QUIET_S)
        if world.enough.is_set():
            pass
        elif left is not None:
            world.broken("O1", f"{_QUIET_S:.0f} s after everything was mended: {left}")
        else:
            oracles.final(world)
            await _end_cleanly(world)
        _end(world)
    world.virtual_s = trio.current_time()


async def _play(world: World) -> None:
    """Let the plan happen, then mend what does not mend itself."""
    for host in range(2 if world.plan.standby else 1):
        scheduling.start_as(None, world.nursery, world.host, host)
    for wish in world.plan.wishes:
        world.nursery.start_soon(send, world, wish)
    for fault in world.plan.faults:
        world.nursery.start_soon(_counted, world, fault)
    if world.plan.extras is not None:
        world.nursery.start_soon(world.market.run)
        for deed in world.plan.extras.deeds:
            world.nursery.start_soon(persons.act, world, deed)
    with trio.move_on_after(world.plan.ends_at):
        await world.enough.wait()
    world.note("heal")
    world.healed.set()
    world.triggers.clear()
    world.db.lose = world.valkey.lose = 0
    world.weather.posts.clear()


async def _counted(world: World, fault: Fault) -> None:
    world.faults_open += 1
    await faults.happen(world, fault)
    world.faults_open -= 1


async def _end_cleanly(world: World) -> None:
    """The last leader is asked to stop, as an operator would."""
    life = world.leader()
    if life is None:
        return
    world.over = True
    life.told_to_stop.set()
    with trio.move_on_after(30):
        await life.ended.wait()
    if life.drained is None or not life.drained.is_clean:
        steps = [] if life.drained is None else [s for s in life.drained.steps if s.outcome.value != "done"]
        world.broken("O10", f"{life.name} did not stop cleanly: {steps}")
    await trio.testing.wait_all_tasks_blocked()
    late = [t for t in _tasks() if t.context.get(scheduling.OWNER) is life]
    if late:
        world.broken("O10", f"{life.name} left tasks behind: {[t.name for t in late]}")


def _tasks() -> list[Any]:
    found: list[Any] = []
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            found.append(task)
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def _end(world: World) -> None:
    """Every task that is left ends now, with all its ports dead."""
    world.over = True
    for life in world.lives:
        life.is_dead = True
        life.ended.set()
        scheduling.resume(life)
    world.nursery.cancel_scope.cancel()


def run_seed(
    seed: int, *, trace: bool = False, bug: Callable[[World], AbstractContextManager[Any]] | None = None,
    plan: Plan | None = None, to_first: bool = False,
) -> Result:  # fmt: skip
    """Run the scenario of *seed* and return what the oracles say; *bug* takes a safety line away meanwhile.

    With *to_first* the run ends at the first violation.
    """
    world: World | None = None
    began = time.process_time()

    async def main() -> None:
        nonlocal world
        world = World(plan or with_extras(draw(seed)), trace=trace, to_first=to_first)
        world.virtual_s = 0.0
        with patched(_patches(world)), _logs(world), bug(world) if bug else contextlib.nullcontext():
            try:
                await _scenario(world)
            except* Killed:
                pass
            except* Exception as group:
                world.broken("HARNESS", "; ".join(repr(e) for e in leaves(group)))
                world.raised = group

    scheduling.run(seed, main)
    assert world is not None
    world_: Any = world
    if trace and getattr(world_, "raised", None) is not None:
        import traceback

        traceback.print_exception(world_.raised)
    return Result(
        seed=seed,
        violations=world_.violations,
        digest=world_.digest.hexdigest(),
        trace=world_.trace,
        counts=dict(world_.counts),
        cpu_s=time.process_time() - began,
        virtual_s=world_.virtual_s,
    )
