import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from engine.runtime.supervisor import (
    Backoff,
    ChildSpec,
    EventKind,
    Restart,
    ShutdownOverrun,
    Status,
    Strategy,
    Supervisor,
    SupervisorNotRunning,
)

STEADY = Backoff(initial=1.0, jitter=0.0)


def idle(name, log=None, **settings):
    async def run(*, task_status):
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            if log is not None:
                log.append(name)

    return ChildSpec(name=name, start=run, **settings)


def stubborn(name, holds_s, **settings):
    async def run(*, task_status):
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(holds_s)

    return ChildSpec(name=name, start=run, **settings)


def states(tree):
    return {child.name: child.state for child in tree.snapshot().children}


@pytest.mark.parametrize("strategy", Strategy)
async def test_child_added_and_removed_at_run_time(nursery, strategy):
    stopped = []
    tree = Supervisor("accounts", strategy, [idle("first", stopped)])
    await nursery.start(tree.run)
    await tree.add_child(idle("late", stopped))
    assert "late" in tree
    assert states(tree) == {"first": Status.RUNNING, "late": Status.RUNNING}
    await tree.remove_child("late")
    assert stopped == ["late"]
    assert "late" not in tree
    await tree.add_child(idle("late", stopped))
    assert len(tree) == 2
    nursery.cancel_scope.cancel()


async def test_added_child_that_cannot_start_is_not_registered(nursery):
    async def run(*, task_status):
        raise ConnectionError("login required")

    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE)
    await nursery.start(tree.run)
    with pytest.raises(ConnectionError, match="login required"):
        await tree.add_child(ChildSpec(name="a", start=run))
    assert "a" not in tree
    nursery.cancel_scope.cancel()


async def test_adding_a_taken_name_is_refused_and_the_first_goes_on(nursery):
    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE, [idle("a")])
    await nursery.start(tree.run)
    with pytest.raises(ValueError, match="named a already"):
        await tree.add_child(idle("a"))
    assert states(tree) == {"a": Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_cancelled_add_takes_the_child_away_again(nursery, autojump_clock):
    ended = []

    async def run(*, task_status):
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE)
    await nursery.start(tree.run)
    with trio.move_on_after(1):
        await tree.add_child(ChildSpec(name="a", start=run))
    assert ended == [True]
    assert len(tree) == 0
    nursery.cancel_scope.cancel()


async def test_add_waiting_while_the_supervisor_stops_is_refused(autojump_clock):
    async def hang(*, task_status):
        await trio.sleep_forever()

    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE)
    async with trio.open_nursery() as outer:
        scope = trio.CancelScope()

        async def run(task_status):
            with scope:
                await tree.run(task_status=task_status)

        async def add():
            with pytest.raises(SupervisorNotRunning):
                await tree.add_child(ChildSpec(name="a", start=hang))

        await outer.start(run)
        outer.start_soon(add)
        await wait_all_tasks_blocked()
        scope.cancel()
    assert len(tree) == 0


async def test_removing_an_unknown_child_raises(nursery):
    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE)
    await nursery.start(tree.run)
    with pytest.raises(KeyError):
        await tree.remove_child("nobody")
    nursery.cancel_scope.cancel()


async def test_child_removed_during_backoff_does_not_come_back(nursery, autojump_clock):
    starts = []

    async def run(*, task_status):
        starts.append(1)
        task_status.started()
        raise ValueError("bug")

    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE, [ChildSpec(name="a", start=run)], backoff=STEADY)
    await nursery.start(tree.run)
    await wait_all_tasks_blocked()
    assert states(tree) == {"a": Status.BACKOFF}
    await tree.remove_child("a")
    await trio.sleep(100)
    assert len(starts) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
async def test_group_goes_on_when_the_crashed_child_is_removed_during_backoff(nursery, autojump_clock, strategy):
    async def run(*, task_status):
        task_status.started()
        raise ValueError("bug")

    tree = Supervisor("group", strategy, [idle("a"), ChildSpec(name="b", start=run), idle("c")], backoff=STEADY)
    await nursery.start(tree.run)
    await wait_all_tasks_blocked()
    await tree.remove_child("b")
    await trio.sleep(10)
    assert states(tree) == {"a": Status.RUNNING, "c": Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_removing_a_child_that_overruns_its_deadline_raises_and_keeps_its_name(nursery, autojump_clock):
    events = []
    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE, on_event=events.append)
    await nursery.start(tree.run)
    await tree.add_child(stubborn("a", 30, shutdown_s=2))
    began = trio.current_time()
    with pytest.raises(ShutdownOverrun, match="within 2 s"):
        await tree.remove_child("a")
    assert trio.current_time() - began == 2
    assert [event.kind for event in events][-1] is EventKind.OVERRAN
    with pytest.raises(ValueError, match="named a already"):
        await tree.add_child(idle("a"))
    await trio.sleep(40)
    await tree.remove_child("a")
    nursery.cancel_scope.cancel()


async def test_overrunning_sibling_does_not_hold_up_the_stop_of_the_others(autojump_clock):
    stopped_at = {}

    def child(name):
        async def run(*, task_status):
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                stopped_at[name] = trio.current_time()

        return ChildSpec(name=name, start=run)

    tree = Supervisor("tree", Strategy.ONE_FOR_ONE, [child("a"), stubborn("b", 60, shutdown_s=3), child("c")])
    with trio.move_on_after(1):
        await tree.run()
    assert stopped_at == {"c": 1, "a": 4}
    assert trio.current_time() == 60


async def test_group_escalates_rather_than_run_two_instances(autojump_clock):
    crash = trio.Event()

    async def run(*, task_status):
        task_status.started()
        await crash.wait()
        raise ValueError("bug")

    specs = [ChildSpec(name="a", start=run), stubborn("b", 60, shutdown_s=3)]
    tree = Supervisor("tree", Strategy.ONE_FOR_ALL, specs, backoff=STEADY)
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="b could not be stopped for a restart")):
        async with trio.open_nursery() as nursery:
            await nursery.start(tree.run)
            crash.set()


@pytest.mark.parametrize("request_fails", [False, True])
async def test_polite_stop_is_tried_before_the_cancel(nursery, autojump_clock, request_fails):
    drain, ended = trio.Event(), []

    async def run(*, task_status):
        task_status.started()
        try:
            await drain.wait()
            await trio.sleep(1)
            ended.append("drained")
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    def stop():
        if request_fails:
            raise RuntimeError("bug")
        drain.set()

    tree = Supervisor("edge", Strategy.ONE_FOR_ONE)
    await nursery.start(tree.run)
    await tree.add_child(ChildSpec(name="api", start=run, stop=stop, shutdown_s=5))
    await tree.remove_child("api")
    assert ended == ["cancelled" if request_fails else "drained"]
    nursery.cancel_scope.cancel()


async def test_polite_stop_that_is_ignored_ends_in_a_cancel(nursery, autojump_clock):
    tree = Supervisor("edge", Strategy.ONE_FOR_ONE)
    await nursery.start(tree.run)
    await tree.add_child(idle("api", stop=lambda: None, shutdown_s=5))
    await tree.remove_child("api")
    assert trio.current_time() == 5
    nursery.cancel_scope.cancel()


async def test_concurrent_restarts_of_one_child_never_run_it_twice(nursery, autojump_clock):
    running, most = 0, 0

    async def run(*, task_status):
        nonlocal running, most
        running += 1
        most = max(most, running)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            running -= 1

    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE, [ChildSpec(name="a", start=run)])
    await nursery.start(tree.run)
    refused = []

    async def restart():
        try:
            await tree.restart_child("a")
        except SupervisorNotRunning:
            refused.append(True)

    async with trio.open_nursery() as restarts:
        for _ in range(4):
            restarts.start_soon(restart)
    assert (running, most) == (1, 1)
    assert states(tree) == {"a": Status.RUNNING}
    nursery.cancel_scope.cancel()


async def test_dynamic_children_come_back_with_a_restarted_supervisor(nursery, autojump_clock):
    crash = trio.Event()

    async def run(*, task_status):
        task_status.started()
        await crash.wait()
        raise ValueError("bug")

    inner = Supervisor("accounts", Strategy.ONE_FOR_ONE, intensity=(0, 60))
    root = Supervisor("root", Strategy.ONE_FOR_ONE, [inner.child_spec(restart=Restart.PERMANENT)], backoff=STEADY)
    await nursery.start(root.run)
    await inner.add_child(idle("a"))
    await inner.add_child(ChildSpec(name="b", start=run))
    crash.set()
    await wait_all_tasks_blocked()
    crash = trio.Event()
    await trio.sleep(5)
    assert states(inner) == {"a": Status.RUNNING, "b": Status.RUNNING}
    assert root.snapshot().children[0].restarts == 1
    nursery.cancel_scope.cancel()


async def test_dynamic_children_stop_together_within_one_deadline(autojump_clock):
    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE)
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        for number in range(50):
            await tree.add_child(stubborn(f"a{number}", 4, shutdown_s=5))
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 4


async def test_child_does_not_inherit_the_log_context_of_who_added_it(nursery):
    seen = []

    async def run(*, task_status):
        seen.append(structlog.contextvars.get_contextvars())
        task_status.started()
        await trio.sleep_forever()

    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE)
    await nursery.start(tree.run)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        await tree.add_child(ChildSpec(name="a", start=run))
    assert seen == [{}]
    nursery.cancel_scope.cancel()


async def test_ten_thousand_idle_children_run_and_stop(autojump_clock):
    stopped = []
    tree = Supervisor("accounts", Strategy.ONE_FOR_ONE)
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        for number in range(10_000):
            await tree.add_child(idle(f"account-{number}", stopped))
        assert {child.state for child in tree.snapshot().children} == {Status.RUNNING}
        await tree.remove_child("account-5000")
        assert len(tree) == 9_999
        nursery.cancel_scope.cancel()
    assert len(stopped) == 10_000
