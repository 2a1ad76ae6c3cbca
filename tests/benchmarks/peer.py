"""The Node peer under the same load, the same broker and stores that sync as this engine's do."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio

from engine.bench.figures import Sent, match
from engine.bench.load import Load
from engine.bench.rows import CONNECTIONS, Tell, of_latency, of_throughput
from engine.bench.signals import signer
from engine.bench.stand import BrokerSide
from tests.benchmarks.contenders import PEER_KEY, PEER_SECRET, Node, stores
from tests.benchmarks.report import open_folder
from tests.benchmarks.sizes import Sizes

# a runtime that compiles as it goes is slow at first
_WARM_UP = 2000

Runs = dict[str, list[dict[str, float]]]


def why_not(source: Path | None) -> str | None:
    """Return why the peer is not compared, None when it can be."""
    if source is None:
        return "no --peer DIR"
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    return f"{' and '.join(missing)} is not installed" if missing else None


async def measured(source: Path, broker: BrokerSide, sizes: Sizes, names: set[str], tell: Tell) -> Runs:
    """Return the runs of the rows *names* that are compared: ``latency``, ``throughput``."""
    found: Runs = {}
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder("bench-peer-"))
        # they start a loop of their own, so in a thread
        where: Any = await trio.to_thread.run_sync(stack.enter_context, stores(folder))
        node: Any = Node(folder, where, broker)  # type: ignore[arg-type]  # of a broker it wants the address alone
        node.source = source
        tell("starting the peer")
        await trio.to_thread.run_sync(node.prepare)
        await trio.to_thread.run_sync(node.start)
        stack.callback(node.kill)
        make = signer(node.url, PEER_KEY, PEER_SECRET, signs_time=False)
        number = 0

        async def run(what: str, connections: int, drive: Callable[[Load], Callable[[], list[Sent]]]) -> Any:
            nonlocal number
            tell(what)
            await broker.reset()
            load = Load(node.url, make, connections=connections, first=number)
            try:
                sent = await trio.to_thread.run_sync(drive(load), abandon_on_cancel=True)
            finally:
                load.stop()
            number += len(sent)
            await broker.settled(sum(each.accepted for each in sent))
            received = await broker.received()
            accounts = sorted({order.account for order in received})[:1] or ["none"]
            return match(sent, received, lambda _number: accounts)

        await run("warming the peer up", 16, lambda load: partial(load.burst, _WARM_UP))
        for run_number in range(sizes.runs):
            said = f"peer, run {run_number + 1} of {sizes.runs}"
            if "latency" in names:
                done = await run(said, 64, lambda load: partial(load.open_loop, sizes.rate, sizes.seconds))
                found.setdefault("latency", []).append(of_latency(done))
            if "throughput" in names:
                done = await run(said, CONNECTIONS, lambda load: partial(load.closed_loop, sizes.seconds))
                found.setdefault("throughput", []).append(of_throughput(done))
    return found
