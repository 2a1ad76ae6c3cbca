"""What systemd is told, and when its watchdog is left without a ping."""

import os

import pytest
import trio

from engine.runtime.service_manager import ServiceManager
from tests.support.service_manager import Manager


@pytest.fixture
def manager(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def environment(manager, **more):
    return {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "4000000"} | more


def test_ready_and_stopping_are_told_with_a_word_of_status(manager):
    service = ServiceManager(environment(manager))
    service.ready("leads, epoch 3")
    service.stopping()
    assert manager.heard() == ["READY=1", "STATUS=leads, epoch 3", "STOPPING=1", "STATUS=stopping"]


async def test_pings_come_while_all_is_well_and_cease_while_something_is_wedged(manager, autojump_clock):
    wedged: list[str] = []
    service = ServiceManager(environment(manager), fault=lambda: wedged[0] if wedged else None)
    assert service.watchdog_s == 4.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        await trio.sleep(3.5)
        assert manager.heard() == ["WATCHDOG=1"] * 4
        wedged.append("the guardian is restarting")
        await trio.sleep(3)
        assert manager.heard()[4:] == ["STATUS=wedged: the guardian is restarting"]
        wedged.clear()
        await trio.sleep(1)
        assert manager.heard()[5:] == ["STATUS=well again", "WATCHDOG=1"]
        nursery.cancel_scope.cancel()


def test_what_ends_in_a_drain_is_not_called_wedged(manager):
    service = ServiceManager(environment(manager), fault=lambda: "killswitch-guardian is stopped")
    service.stopping()
    service.beat()
    assert manager.heard()[2:] == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"WATCHDOG_PID": str(os.getpid())}, 4.0),
        ({"WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_watchdog_is_served_only_when_it_is_this_process_that_is_watched(manager, more, wanted):
    assert ServiceManager(environment(manager, **more)).watchdog_s == wanted


def test_manager_that_is_away_or_absent_stops_nothing(manager):
    ServiceManager({}).ready("works")
    away = manager.path.with_name("away")
    manager.path.rename(away)
    service = ServiceManager(environment(manager))
    service.ready("works")
    service.beat()
    away.rename(manager.path)
    # what it is has to be known, late rather than never; pings of before are nobody's concern
    service.beat()
    assert manager.heard() == ["READY=1", "STATUS=works", "WATCHDOG=1"]
