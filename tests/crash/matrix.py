"""The kill matrix: the real engine ended at every named point, one life after another, and what came of it.

    python -m tests.crash.matrix --signals 20 --rounds 50 --seed 1 [--term]

A chain of trials shares one exchange, one database and one journal: the start after a death is the recovery from
it, and is itself ended where the next trial says. At the end of a chain everything settles and the oracles look.
"""

import argparse
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from tests.crash.trials import Trial, two_chains
from tests.support.crash_engine import Died, DyingEngine
from tests.support.crash_oracles import Truth, dead_letters, findings
from tests.support.crash_world import World, touch
from tests.support.servers import TestServers

DIES_WITHIN_S = 30.0
STOPS_WITHIN_S = 15.0


@dataclass
class Chain:
    """Runs trials on a world and keeps count."""

    world: World
    signals: int = 10
    term: bool = False
    hit: set[str] = field(default_factory=set)
    trials: int = 0
    problems: list[str] = field(default_factory=list)
    stop_s: list[float] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    blocked: bool | None = False

    def run(self, trials: list[Trial]) -> "Chain":
        """Run *trials* one after another, then settle and ask the oracles."""
        world = self.world
        fresh = [trial for trial in trials if trial.by == "fresh"]
        for trial in fresh:
            self._end_at(trial)
        world.start()
        world.set_up()
        self._stop()
        for trial in trials:
            if trial not in fresh:
                self._one(trial)
        world.start()
        self._lift_block()
        world.settle()
        self.problems += findings(world)
        self.ends = {
            f"{row['status']} {row['why']}".strip(): row["n"]
            for row in world.rows(
                "SELECT i.status, split_part(coalesce(o.status_message, i.reason, ''), ':', 1) AS why, count(*) AS n"
                " FROM trade_intents i LEFT JOIN orders o ON o.intent_id = i.id GROUP BY 1, 2 ORDER BY 3 DESC"
            )
        }
        self.ends["DEAD LETTER"] = len(dead_letters(world))
        self._stop()
        return self

    def _one(self, trial: Trial) -> None:
        try:
            match trial.by:
                case "start":
                    self._end_at(trial)
                case "maybe":
                    self._end_at_or_soon(trial)
                case "backlog":
                    self._leave_backlog(end_transactions=True)
                    self._end_at(trial)
                case "zombie":
                    self._leave_backlog(end_transactions=False)
                    self._end_at(trial)
                case _:
                    self._live(trial)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{trial}: {error}") from error

    # the ways to an end

    def _end_at(self, trial: Trial) -> None:
        """Start an engine that ends while it starts."""
        plan, _, marker = self.world.plan(trial.point, trial.hit, at_once=True, term=self.term)
        engine = self.world.start(plan, wait=False)
        self._died(trial, engine, marker)

    def _end_at_or_soon(self, trial: Trial) -> None:
        """Start an engine that ends while it starts, or a moment after: not every start has something to do there."""
        plan, _, _ = self.world.plan(trial.point, trial.hit, at_once=True)
        engine = self.world.start(plan, wait=False)
        try:
            self.world.is_ready()
            engine.wait_died(self.world.rng.uniform(0, 0.5))
        except Died:
            assert engine.code == -9, engine.output()[-2000:]
        except TimeoutError:
            engine.kill()
        self.trials += 1

    def _live(self, trial: Trial) -> None:
        """Start an engine, give it work, and have it end in the middle of that."""
        world = self.world
        plan, arm, marker = world.plan(trial.point, trial.hit, term=self.term)
        engine = world.start(plan)
        self._lift_block()
        world.send_all(until=engine.has_died)
        if trial.by == "cancel":
            self._cancel_something(arm)
        elif trial.by == "release":
            world.make_signals(self.signals)
            world.send_all(until=engine.has_died)
            self._block()
            touch(arm)
            self._release(dying=True)
        else:
            touch(arm)
            sending = threading.Thread(
                target=self._send_until_dead, args=(engine,), kwargs={"quiet": trial.by == "quiet"}, daemon=True
            )
            sending.start()
            if trial.by == "kill":
                self.blocked = None
                self._block(dying=True)
            elif trial.by == "stop":
                engine.term()
            try:
                self._died(trial, engine, marker)
            finally:
                if not engine.has_died():
                    engine.kill()
                sending.join(40)
            return
        self._died(trial, engine, marker)

    def _send_until_dead(self, engine: DyingEngine, *, quiet: bool) -> None:
        """Send the trial's signals, and more of them while the point is not reached: batches may be large."""
        deadline = time.monotonic() + DIES_WITHIN_S
        while not engine.has_died() and time.monotonic() < deadline:
            if quiet:
                self.world.make_refused(self.signals)
                self.world.pause_journal(0.08)
            else:
                self.world.make_signals(self.signals, resting=1)
            self.world.send_all(until=engine.has_died)
            for _ in range(20):
                time.sleep(0.1)
                if engine.has_died():
                    return

    def _died(self, trial: Trial, engine: DyingEngine, marker: Path) -> None:
        if self.term:
            # to come to the point may take as long as for a kill; it is the stop from there on that is promised
            deadline = time.monotonic() + DIES_WITHIN_S
            while not marker.exists() and not engine.has_died() and time.monotonic() < deadline:
                time.sleep(0.02)
        began = time.monotonic()
        try:
            code = engine.wait_died(STOPS_WITHIN_S if self.term else DIES_WITHIN_S)
        except TimeoutError:
            engine.kill()
            raise AssertionError(
                f"{'it goes on after SIGTERM' if marker.exists() else 'the point was not reached'}:\n"
                + engine.output()[-2000:]
            ) from None
        self.stop_s.append(time.monotonic() - began)
        assert marker.exists(), f"exit code {code}, not at the point:\n{engine.output()[-2000:]}"
        assert code == (0 if self.term else -9), f"exit code {code}:\n{engine.output()[-2000:]}"
        self.hit.add(trial.point)
        self.trials += 1
        if trial.blocked_after is not None and not self.term:
            self.blocked = trial.blocked_after

    def _stop(self) -> bool:
        engine = self.world.engine
        assert engine is not None
        code = engine.stop()
        assert code == 0, f"a clean stop gave exit code {code}:\n{engine.output()[-2000:]}"
        return True

    # the work

    def _call(self, method: str, path: str, body: object = None, *, dying: bool = False) -> bool:
        """Call the engine and return whether it answered with success; a dying one may not answer."""
        try:
            status, answer = self.world.api.call(method, path, body)
        except (OSError, HTTPException, ValueError):
            if not dying:
                raise
            return False
        assert status == 200 or (dying and status == 503), answer
        return status == 200

    def _block(self, *, dying: bool = False) -> None:
        body = {"scope": "global", "reason": "a trial", "squareOff": False}
        if self._call("POST", "/risk/killswitch/enable", body, dying=dying):
            self.blocked = True

    def _release(self, *, dying: bool = False) -> None:
        body = {"scope": "global", "reason": "a trial", "force": True}
        # until it is answered either may be true
        self.blocked = None
        if self._call("POST", "/risk/killswitch/disable", body, dying=dying):
            self.blocked = False

    def _lift_block(self) -> None:
        """Release the global kill switch if it is on, which it must be if it was answered or put on file."""
        world, expected = self.world, self.blocked
        ready = time.time()
        scopes = world.api.data("GET", "/risk/killswitch/status")["scopes"]
        is_on = any(scope["scope"] == "global" and scope["enabled"] for scope in scopes)
        if expected is not None and is_on != expected:
            self.problems.append(f"O6 the kill switch is {'on' if is_on else 'off'} after the restart")
        if is_on:
            world.blocked.append((ready, time.time()))
            self._release()

    def _cancel_something(self, arm: Path) -> None:
        world = self.world
        world.make_signals(self.signals, resting=3)
        world.send_all()
        touch(arm)
        deadline = time.monotonic() + DIES_WITHIN_S
        # an account whose books are being read says to come again, and an order can end before it is asked for
        while world.engine is not None and not world.engine.has_died():
            assert time.monotonic() < deadline, "nothing rests that can be cancelled"
            for row in world.rows(
                "SELECT id FROM orders WHERE status = 'OPEN' AND broker_order_id IS NOT NULL"
                " ORDER BY created_at DESC LIMIT 1"
            ):
                try:
                    status, answer = world.api.call("POST", f"/executions/orders/{row['id']}/cancel")
                except (OSError, HTTPException, ValueError):
                    return  # it died under the request, as it should
                if status == 200:
                    return
                assert status in (409, 503), answer
            time.sleep(0.05)

    def _leave_backlog(self, *, end_transactions: bool) -> None:
        """Have signals acknowledged that only the journal holds, then SIGKILL.

        Without *end_transactions* the dead engine's transaction is still open when the next one starts.
        """
        world = self.world
        engine = world.start()
        self._lift_block()
        # an order that went out says that the account is ready: later ones go as soon as they are written ahead
        (first,) = world.make_signals(1, symbols=1)
        world.send_all()
        deadline = time.monotonic() + DIES_WITHIN_S
        while not world.rows(f"SELECT 1 FROM orders WHERE quantity = {first.number} AND broker_order_id IS NOT NULL"):
            assert time.monotonic() < deadline, "no order goes out"
            time.sleep(0.02)
        with world.holding("LOCK TABLE trade_intents IN EXCLUSIVE MODE"):
            made = world.make_signals(self.signals)
            world.send_all()
            assert all(signal.intent_id for signal in made), "the journal alone did not acknowledge"
            engine.kill()
            if end_transactions:
                world.rows(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name LIKE 'trading-engine%'"
                )


def run_chains(
    folder: Path, servers: TestServers, chains: list[list[Trial]], *, name: str, seed: int, signals: int, term: bool
) -> list[Chain]:
    """Run *chains* side by side, each on a world of its own."""

    def one(number: int) -> Chain:
        world = World(
            folder / f"{name}{number}",
            servers,
            name=f"{name}_{seed}_{number}",
            redis_db=1 + number,
            seed=seed * 10 + number,
        )
        try:
            return Chain(world, signals=signals, term=term).run(chains[number])
        finally:
            world.close()

    with ThreadPoolExecutor(len(chains)) as side_by_side:
        return list(side_by_side.map(one, range(len(chains))))


def told(chains: list[Chain]) -> str:
    """Return the count in one line."""
    trials = sum(chain.trials for chain in chains)
    signals = sum(len(chain.world.signals) for chain in chains)
    points = len(set().union(*(chain.hit for chain in chains)))
    ready = sorted(second for chain in chains for second in chain.world.ready_s)
    placed = sum(len(Truth(chain.world).accepted) for chain in chains)
    return (
        f"{trials} deaths at {points} points, {signals} signals, {placed} orders at the exchange; ready after "
        f"{ready[len(ready) // 2]:.2f} s (median), {ready[-1]:.2f} s (most); "
        f"{sum(len(chain.problems) for chain in chains)} findings"
    )


def main() -> int:
    """Run the long version."""
    parser = argparse.ArgumentParser(description="kill the real engine at every named point")
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--term", action="store_true", help="SIGTERM instead of SIGKILL")
    given = parser.parse_args()
    bad = 0
    with TestServers(durable=True) as servers, tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        for seed in range(given.seed, given.seed + given.rounds):
            began = time.monotonic()
            chains = run_chains(
                Path(folder) / str(seed),
                servers,
                list(two_chains(seed, term=given.term)),
                name="matrix",
                seed=seed,
                signals=given.signals,
                term=given.term,
            )
            print(f"seed {seed}: {told(chains)}; {time.monotonic() - began:.0f} s", flush=True)
            for chain in chains:
                print(f"  {chain.ends}", flush=True)
                bad += len(chain.problems)
                print("\n".join(chain.problems), end="\n" if chain.problems else "", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
