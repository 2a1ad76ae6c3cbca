import random
from collections import Counter

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from engine.errors import ConfigError
from engine.runtime.mailbox import Mailbox, Overflow
from engine.runtime.supervisor import (
    Backoff,
    ChildSpec,
    Escalation,
    EventKind,
    OnEscalate,
    Restart,
    Status,
    Strategy,
    Supervisor,
    SupervisorNotRunning,
)

STEADY = Backoff(initial=1.0, factor=2.0, max=30.0, jitter=0.0)


class Stage:
    """Makes children, and remembers what they did."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.crash: dict[str, trio.Event] = {}
        self.starts: Counter[str] = Counter()
        self.events = []

    def spec(self, name, *, slow_stop_s=0.0, fail_starts=(), **settings):
        async def run(*, task_status):
            self.starts[name] += 1
            if self.starts[name] in fail_starts:
                raise ConnectionError(f"start {self.starts[name]} of {name}")
            self.happened.append(f"+{name}")
            crash = self.crash[name] = trio.Event()
            task_status.started()
            try:
                await crash.wait()
                raise ValueError(f"bug in {name}")
            finally:
                if slow_stop_s:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(slow_stop_s)
                self.happened.append(f"-{name}")

        return ChildSpec(name=name, start=run, **settings)

    def tree(self, strategy, *specs, **settings):
        return Supervisor("tree", strategy, specs, on_event=self.events.append, **({"backoff": STEADY} | settings))

    def told(self, kind):
        return [event.child for event in self.events if event.kind is kind]

    def take(self):
        happened, self.happened = self.happened, []
        return happened


@pytest.fixture
def stage():
    return Stage()


def states(supervisor):
    return {child.name: child.state for child in supervisor.snapshot().children}


async def test_children_start_in_order_each_after_the_one_before(nursery, autojump_clock):
    order = []

    def child(name, takes_s):
        async def run(*, task_status):
            await trio.sleep(takes_s)
            order.append(name)
            task_status.started()
            await trio.sleep_forever()

        return ChildSpec(name=name, start=run)

    tree = Supervisor("tree", Strategy.ONE_FOR_ONE, [child("a", 3), child("b", 1), child("c", 0)])
    await nursery.start(tree.run)
    assert order == ["a", "b", "c"]
    assert trio.current_time() == 4
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("strategy", Strategy)
async def test_cancel_stops_children_in_reverse_order(stage, nursery, autojump_clock, strategy):
    tree = stage.tree(strategy, *(stage.spec(name, slow_stop_s=1) for name in "abc"))
    await nursery.start(tree.run)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await trio.sleep(10)
    assert stage.take() == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert set(states(tree).values()) == {Status.STOPPED}


async def test_crashed_child_is_restarted_after_growing_backoff(stage, nursery, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), stage.spec("b"))
    await nursery.start(tree.run)
    for expected_s in (1, 2, 4):
        stage.crash["a"].set()
        await trio.sleep(expected_s - 0.25)
        assert states(tree)["a"] is Status.BACKOFF
        await trio.sleep(0.5)
        assert states(tree)["a"] is Status.RUNNING
    assert stage.starts == {"a": 4, "b": 1}
    child = tree.snapshot().children[0]
    assert (child.restarts, child.last_error) == (3, "ValueError: bug in a")
    assert stage.told(EventKind.STARTED) == ["a", "b", "a", "a", "a"]
    assert [event.delay_s for event in stage.events if event.kind is EventKind.CRASHED] == [1, 2, 4]
    nursery.cancel_scope.cancel()


async def test_one_crash_too_many_escalates_with_child_and_cause(stage, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), stage.spec("b"), intensity=(2, 60))
    with pytest.RaisesGroup(pytest.RaisesExc(Escalation, match="tree/a keeps failing")) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(tree.run)
            for _ in range(3):
                stage.crash["a"].set()
                await trio.sleep(5)
    escalation = caught.value.exceptions[0]
    assert escalation.child == "a"
    assert isinstance(escalation.__cause__, ValueError)
    assert stage.starts["a"] == 3
    assert stage.take()[-1] == "-b"
    assert stage.told(EventKind.ESCALATED) == ["a"]


async def test_crashes_outside_the_window_do_not_escalate(stage, nursery, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), intensity=(1, 60))
    await nursery.start(tree.run)
    for _ in range(5):
        stage.crash["a"].set()
        await trio.sleep(61)
    assert stage.starts["a"] == 6
    # A long healthy run also resets the backoff.
    assert {event.delay_s for event in stage.events if event.kind is EventKind.CRASHED} == {1}
    nursery.cancel_scope.cancel()


async def test_intensity_is_counted_per_child_under_one_for_one(stage, nursery, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), stage.spec("b"), intensity=(2, 60))
    await nursery.start(tree.run)
    for name in "abab":
        stage.crash[name].set()
        await trio.sleep(5)
    assert set(states(tree).values()) == {Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_child_intensity_overrides_the_supervisors(stage, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a", max_restarts=0, window_s=5), intensity=(9, 60))
    with pytest.RaisesGroup(Escalation):
        async with trio.open_nursery() as nursery:
            await nursery.start(tree.run)
            stage.crash["a"].set()


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["-b", "+b"]),
        (Strategy.REST_FOR_ONE, ["-b", "-d", "-c", "+b", "+c", "+d"]),
        (Strategy.ONE_FOR_ALL, ["-b", "-d", "-c", "-a", "+a", "+b", "+c", "+d"]),
    ],
)
async def test_crash_restarts_whom_the_strategy_says(stage, nursery, autojump_clock, strategy, expected):
    tree = stage.tree(strategy, *(stage.spec(name) for name in "abcd"))
    await nursery.start(tree.run)
    stage.take()
    stage.crash["b"].set()
    await trio.sleep(5)
    assert stage.take() == expected
    assert set(states(tree).values()) == {Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_two_crashes_in_one_step_restart_the_group_once_each(stage, nursery, autojump_clock):
    tree = stage.tree(Strategy.REST_FOR_ONE, *(stage.spec(name) for name in "abc"))
    await nursery.start(tree.run)
    stage.crash["a"].set()
    stage.crash["c"].set()
    await trio.sleep(20)
    assert set(states(tree).values()) == {Status.RUNNING}
    # Trio runs the two in either order: c fallen after a comes back with a's restart, and only with it.
    assert stage.starts == {"a": 2, "b": 2, "c": 2 if stage.told(EventKind.CRASHED) == ["a", "c"] else 3}
    nursery.cancel_scope.cancel()


async def test_group_member_failing_its_restart_is_tried_again(stage, nursery, autojump_clock):
    tree = stage.tree(Strategy.REST_FOR_ONE, stage.spec("a"), stage.spec("b", fail_starts={2, 3}), stage.spec("c"))
    await nursery.start(tree.run)
    stage.take()
    stage.crash["a"].set()
    await trio.sleep(30)
    assert stage.take() == ["-a", "-c", "-b", "+a", "+b", "+c"]
    assert set(states(tree).values()) == {Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_group_crashes_are_counted_together(stage, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ALL, stage.spec("a"), stage.spec("b"), intensity=(2, 60))
    with pytest.RaisesGroup(Escalation):
        async with trio.open_nursery() as nursery:
            await nursery.start(tree.run)
            for name in "aba":
                stage.crash[name].set()
                await trio.sleep(10)


async def test_escalation_cuts_a_group_restart_short(stage, autojump_clock):
    tree = stage.tree(
        Strategy.REST_FOR_ONE, stage.spec("a", max_restarts=0), stage.spec("b"), backoff=Backoff(initial=30, jitter=0)
    )
    with pytest.RaisesGroup(pytest.RaisesExc(Escalation, match="tree/a")):
        async with trio.open_nursery() as nursery:
            await nursery.start(tree.run)
            stage.crash["b"].set()
            await wait_all_tasks_blocked()
            stage.crash["a"].set()
    assert trio.current_time() < 30


async def test_permanent_child_that_returns_is_a_crash(nursery, autojump_clock):
    runs = []

    async def run(*, task_status):
        runs.append(trio.current_time())
        task_status.started()

    tree = Supervisor("tree", Strategy.ONE_FOR_ONE, [ChildSpec(name="api", start=run)], backoff=STEADY)
    await nursery.start(tree.run)
    await trio.sleep(0.5)
    assert "returned, but is permanent" in tree.snapshot().children[0].last_error
    await trio.sleep(1)
    assert runs == [0, 1]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("calls_started", [True, False])
async def test_transient_child_that_returns_stays_stopped(nursery, autojump_clock, calls_started):
    async def run(*, task_status):
        if calls_started:
            task_status.started()

    spec = ChildSpec(name="migrate", start=run, restart=Restart.TRANSIENT)
    tree = Supervisor("tree", Strategy.ONE_FOR_ONE, [spec])
    await nursery.start(tree.run)
    await trio.sleep(100)
    assert states(tree) == {"migrate": Status.STOPPED}
    assert tree.snapshot().restarts == 0
    nursery.cancel_scope.cancel()


async def test_transient_child_that_fails_is_restarted(stage, nursery, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a", restart=Restart.TRANSIENT))
    await nursery.start(tree.run)
    stage.crash["a"].set()
    await trio.sleep(5)
    assert stage.starts["a"] == 2
    nursery.cancel_scope.cancel()


async def test_temporary_child_is_forgotten_after_a_crash(stage, nursery, autojump_clock):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a", restart=Restart.TEMPORARY), stage.spec("b"))
    await nursery.start(tree.run)
    stage.crash["a"].set()
    await trio.sleep(100)
    assert states(tree) == {"b": Status.RUNNING}
    assert stage.told(EventKind.CRASHED) == ["a"]
    nursery.cancel_scope.cancel()


async def test_first_start_failure_propagates_as_it_is_and_stops_the_others(stage, autojump_clock):
    async def run(*, task_status):
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep, 1)
            raise ConfigError("no master key")

    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), ChildSpec(name="b", start=run), stage.spec("c"))
    with pytest.raises(ConfigError, match="no master key") as caught:
        await tree.run()
    assert stage.take() == ["+a", "-a"]
    assert "while starting b of supervisor tree" in caught.value.__notes__


async def test_child_that_never_gets_ready_fails_the_start(autojump_clock):
    async def run(*, task_status):
        await trio.sleep_forever()

    tree = Supervisor("tree", Strategy.ONE_FOR_ONE, [ChildSpec(name="slow", start=run, start_s=7)])
    with pytest.raises(Exception, match="slow was not ready within 7 s"):
        await tree.run()
    assert trio.current_time() == 7


async def test_cancel_during_start_stops_what_runs_and_what_starts(stage, autojump_clock):
    async def hang(*, task_status):
        await trio.sleep_forever()

    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), ChildSpec(name="b", start=hang))
    with trio.move_on_after(3) as scope:
        await tree.run()
    assert scope.cancelled_caught
    assert trio.current_time() == 3
    assert stage.take() == ["+a", "-a"]


async def test_tripped_child_blocks_its_scope_and_siblings_go_on(stage, nursery, autojump_clock):
    blocked = []
    spec = stage.spec("a", max_restarts=2, on_escalate=OnEscalate.TRIP, on_trip=blocked.append)
    tree = stage.tree(Strategy.ONE_FOR_ONE, spec, stage.spec("b"))
    await nursery.start(tree.run)
    for _ in range(3):
        stage.crash["a"].set()
        await trio.sleep(5)
    await trio.sleep(1000)
    assert states(tree) == {"a": Status.TRIPPED, "b": Status.RUNNING}
    assert [escalation.child for escalation in blocked] == ["a"]
    assert stage.starts == {"a": 3, "b": 1}
    await tree.restart_child("a")
    assert states(tree)["a"] is Status.RUNNING
    nursery.cancel_scope.cancel()


async def test_tripped_member_does_not_hold_up_its_group(stage, nursery, autojump_clock):
    spec = stage.spec("b", fail_starts={2}, max_restarts=0, on_escalate=OnEscalate.TRIP, on_trip=lambda _: None)
    tree = stage.tree(Strategy.REST_FOR_ONE, stage.spec("a"), spec, stage.spec("c"))
    await nursery.start(tree.run)
    stage.crash["a"].set()
    await trio.sleep(20)
    assert states(tree) == {"a": Status.RUNNING, "b": Status.TRIPPED, "c": Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_trip_whose_callback_fails_escalates(stage, autojump_clock):
    def fail(_):
        raise ConnectionError("guardian unreachable")

    spec = stage.spec("a", max_restarts=0, on_escalate=OnEscalate.TRIP, on_trip=fail)
    with pytest.RaisesGroup(Escalation) as caught:
        async with trio.open_nursery() as nursery:
            tree = stage.tree(Strategy.ONE_FOR_ONE, spec)
            await nursery.start(tree.run)
            stage.crash["a"].set()
    assert "guardian unreachable" in caught.value.exceptions[0].__notes__[0]


async def test_failed_restart_of_a_tripped_child_keeps_it_tripped(stage, nursery, autojump_clock):
    spec = stage.spec("a", max_restarts=0, fail_starts={2}, on_escalate=OnEscalate.TRIP, on_trip=lambda _: None)
    tree = stage.tree(Strategy.ONE_FOR_ONE, spec)
    await nursery.start(tree.run)
    stage.crash["a"].set()
    await wait_all_tasks_blocked()
    with pytest.raises(ConnectionError):
        await tree.restart_child("a")
    assert states(tree) == {"a": Status.TRIPPED}
    nursery.cancel_scope.cancel()


def test_trip_without_callback_is_refused(stage):
    with pytest.raises(ValueError, match="on_trip"):
        stage.spec("a", on_escalate=OnEscalate.TRIP)


def test_two_children_of_one_name_are_refused(stage):
    with pytest.raises(ValueError, match="named a already"):
        stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), stage.spec("a"))


async def test_nested_supervisor_escalates_to_the_one_above(stage, nursery, autojump_clock):
    inner = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("x"), intensity=(1, 60))
    tree = Supervisor(
        "root",
        Strategy.ONE_FOR_ONE,
        [inner.child_spec(), stage.spec("y")],
        backoff=STEADY,
        on_event=stage.events.append,
    )
    await nursery.start(tree.run)
    for _ in range(2):
        stage.crash["x"].set()
        await trio.sleep(5)
    assert stage.starts == {"x": 3, "y": 1}
    top = tree.snapshot()
    assert [(child.name, child.restarts) for child in top.children] == [("tree", 1), ("y", 0)]
    assert top.children[0].last_error == "Escalation: tree/x keeps failing, last with ValueError: bug in x"
    assert [child.state for child in top.children[0].children] == [Status.RUNNING]
    nursery.cancel_scope.cancel()


async def test_nested_tree_stops_in_reverse_order(stage, nursery, autojump_clock):
    inner = stage.tree(Strategy.REST_FOR_ONE, stage.spec("x", slow_stop_s=1), stage.spec("y", slow_stop_s=1))
    tree = Supervisor("root", Strategy.ONE_FOR_ONE, [stage.spec("a"), inner.child_spec(), stage.spec("z")])
    scope = trio.CancelScope()

    async def run(task_status):
        with scope:
            await tree.run(task_status=task_status)
        stage.happened.append("done")

    await nursery.start(run)
    stage.take()
    scope.cancel()
    await trio.sleep(5)
    assert stage.take() == ["-z", "-y", "-x", "-a", "done"]


async def test_tripped_child_stays_tripped_when_its_supervisor_restarts(stage, nursery, autojump_clock):
    spec = stage.spec("x", max_restarts=0, on_escalate=OnEscalate.TRIP, on_trip=lambda _: None)
    inner = stage.tree(Strategy.ONE_FOR_ONE, spec, stage.spec("y"), intensity=(0, 60))
    tree = Supervisor("root", Strategy.ONE_FOR_ONE, [inner.child_spec()], backoff=STEADY)
    await nursery.start(tree.run)
    stage.crash["x"].set()
    await wait_all_tasks_blocked()
    stage.crash["y"].set()
    await trio.sleep(5)
    assert states(inner) == {"x": Status.TRIPPED, "y": Status.RUNNING}
    assert stage.starts == {"x": 1, "y": 2}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("wrapped", [True, False])
async def test_interrupt_in_a_child_passes_and_children_are_stopped(stage, autojump_clock, interrupt, wrapped):
    async def run(*, task_status):
        task_status.started()
        await trio.sleep(1)
        if wrapped:
            raise BaseExceptionGroup("", [interrupt(), ValueError("too")])
        raise interrupt

    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"), ChildSpec(name="b", start=run))
    with pytest.raises(BaseExceptionGroup) as caught:
        await tree.run()
    assert caught.value.subgroup(interrupt) is not None
    assert stage.take() == ["+a", "-a"]


async def test_error_grouped_with_a_cancel_is_a_crash(nursery, autojump_clock):
    runs = []

    async def run(*, task_status):
        runs.append(1)
        task_status.started()
        async with trio.open_nursery() as inner:

            async def fail_when_cancelled():
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("in clean-up")

            inner.start_soon(trio.sleep_forever)
            inner.start_soon(fail_when_cancelled)
            await trio.sleep(1)
            raise ConnectionError("gone")

    tree = Supervisor("tree", Strategy.ONE_FOR_ONE, [ChildSpec(name="a", start=run)], backoff=STEADY)
    await nursery.start(tree.run)
    await trio.sleep(2.5)
    assert len(runs) == 2
    assert tree.snapshot().children[0].last_error.startswith("ExceptionGroup")
    nursery.cancel_scope.cancel()


async def test_failing_event_listener_harms_nobody(stage, nursery, autojump_clock):
    def fail(_):
        raise RuntimeError("listener")

    tree = Supervisor("tree", Strategy.ONE_FOR_ONE, [stage.spec("a")], on_event=fail, backoff=STEADY)
    await nursery.start(tree.run)
    stage.crash["a"].set()
    await trio.sleep(5)
    assert states(tree) == {"a": Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_snapshot_shows_mailbox_and_start_time(stage, nursery, autojump_clock):
    mailbox: Mailbox[int] = Mailbox("a", 8, Overflow.BLOCK)
    mailbox.tell_nowait(1)
    await trio.sleep(4)
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a", mailbox=mailbox))
    await nursery.start(tree.run)
    child = tree.snapshot().children[0]
    assert (child.mailbox.depth, child.started_at) == (1, 4)
    nursery.cancel_scope.cancel()


async def test_supervisor_runs_only_once_at_a_time(stage, nursery):
    tree = stage.tree(Strategy.ONE_FOR_ONE, stage.spec("a"))
    await nursery.start(tree.run)
    with pytest.raises(Exception, match="runs already"):
        await tree.run()
    assert states(tree) == {"a": Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_children_cannot_be_added_to_a_stopped_supervisor(stage):
    with pytest.raises(SupervisorNotRunning):
        await stage.tree(Strategy.ONE_FOR_ONE).add_child(stage.spec("a"))


def test_backoff_grows_to_its_maximum_and_jitter_is_seeded():
    steady = Backoff(initial=0.5, factor=2, max=3, jitter=0)
    assert [steady.delay_s(count, random.Random(1)) for count in (1, 2, 3, 4, 10_000)] == [0.5, 1, 2, 3, 3]
    loose = Backoff(initial=1, factor=2, max=100, jitter=0.25)
    delays = [loose.delay_s(1, random.Random(seed)) for seed in range(50)]
    assert all(0.75 <= delay <= 1.25 for delay in delays)
    assert len(set(delays)) == 50
    assert delays[7] == loose.delay_s(1, random.Random(7))
