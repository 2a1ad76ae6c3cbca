"""The journal's settings, replay and trimming on real Valkeys."""

from datetime import UTC, datetime

import pytest
import trio

from engine.domain.enums import KillState
from engine.domain.killswitch import KillRecord
from engine.errors import JournalUnavailable
from engine.journal import keys
from engine.journal.address import parse
from engine.journal.store import JournalSettings, JournalStore
from engine.journal.writer import JournalWriter
from tests.support.cut_proxy import cut_proxy
from tests.support.valkey import OwnValkey

GOOD = {
    "version": "7.0.15",
    "server": "redis",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory_policy": "noeviction",
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"appendonly": "no"}, "CONFIG SET appendonly yes"),
        ({"appendfsync": "everysec"}, "appendfsync is everysec"),
        ({"maxmemory_policy": "allkeys-lru"}, "CONFIG SET maxmemory-policy noeviction"),
        ({"no_appendfsync_on_rewrite": "yes"}, "CONFIG SET no-appendfsync-on-rewrite no"),
        ({"aof_load_truncated": "no"}, "CONFIG SET aof-load-truncated yes"),
        ({"version": "5.0.3"}, "use Redis 6 or newer"),
        ({"role": "slave"}, "name its primary"),
        ({"appendonly": "", "appendfsync": "", "maxmemory_policy": ""}, "allow the user CONFIG GET"),
    ],
)
def test_setting_that_can_lose_entries_is_a_problem(change, says):
    assert JournalSettings(**GOOD).problems() == []
    (problem,) = JournalSettings(**(GOOD | change)).problems()
    assert says in problem


@pytest.fixture
def own(tmp_path):
    with OwnValkey(tmp_path) as server:
        yield server


async def test_settings_of_a_durable_server_have_no_problems(aio, own):
    found = await JournalStore(own.url).settings()
    assert found.problems() == []
    assert (found.server, found.role, found.version.split(".")[0]) == ("valkey", "master", "9")


async def test_settings_are_read_anew(aio, own):
    with own.client() as client:
        client.config_set("appendfsync", "everysec")
        client.config_set("no-appendfsync-on-rewrite", "yes")
    assert len((await JournalStore(own.url).settings()).problems()) == 2


async def test_user_that_may_not_read_settings_is_told_so(aio, own):
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-config", "-info")
    (problem,) = (await JournalStore(f"unix://u:p@{own.socket}").settings()).problems()
    assert "CONFIG GET" in problem


async def test_server_that_is_away_or_refuses_is_unavailable(aio, tmp_path):
    store = JournalStore(f"unix://{tmp_path}/none.sock")
    for call in (store.settings, store.epoch, lambda: store.read_after("e", "0-0"), lambda: store.trim("e", "1-0")):
        with pytest.raises(JournalUnavailable):
            await call()
    with OwnValkey(tmp_path, requirepass="right") as server, pytest.raises(JournalUnavailable):
        await JournalStore(f"unix://:wrong@{server.socket}").epoch()


async def test_epoch_is_none_until_it_is_set(aio, own):
    store = JournalStore(own.url)
    assert await store.epoch() is None
    await store.set_epoch("e1")
    assert await store.epoch() == "e1"


async def test_reading_in_pages_gives_every_entry_once_and_in_order(aio, own):
    ids = []
    with own.client() as client:
        for n in range(23):
            # several in one millisecond, and the largest sequence number there is
            row = client.xadd(keys.stream("e"), {"e": b"\xff%d" % n}, id=f"{n // 4 + 1}-{n % 4}")
            ids.append(row.decode())
        ids.append(client.xadd(keys.stream("e"), {"e": b"x"}, id=f"9-{2**64 - 1}").decode())
        ids.append(client.xadd(keys.stream("e"), {"e": b"y"}, id="10-0").decode())
    store, found, position = JournalStore(own.url), [], "0-0"
    while page := await store.read_after("e", position, limit=5):
        assert len(page) <= 5
        found += page
        position = page[-1][0]
    assert [row_id for row_id, _ in found] == ids
    assert found[7][1] == b"\xff7"


async def test_reading_of_nothing_and_of_forged_fields(aio, own):
    store = JournalStore(own.url)
    assert await store.read_after("e", "0-0") == []
    with own.client() as client:
        client.xadd(keys.stream("e"), {"other": "x"}, id="1-1")
    assert await store.read_after("e", "0-0") == [("1-1", b"")]


async def test_last_position_outlives_trimming(aio, own):
    store = JournalStore(own.url)
    assert await store.last_position("e") is None
    with own.client() as client:
        for n in range(1, 4):
            client.xadd(keys.stream("e"), {"e": "x"}, id=f"{n}-0")
        client.xtrim(keys.stream("e"), maxlen=0, approximate=False)
    assert await store.last_position("e") == "3-0"
    assert await store.length("e") == 0


def fill(server, count):
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for n in range(1, count + 1):
            pipe.xadd(keys.stream("e"), {"e": "x"}, id=f"{n}-0")
        pipe.execute()


async def test_trimming_keeps_everything_from_the_position_on(aio, own):
    fill(own, 1000)
    store = JournalStore(own.url)
    await store.trim("e", "900-0")
    left = await store.read_after("e", "899-99", limit=500)
    assert [row_id for row_id, _ in left] == [f"{n}-0" for n in range(900, 1001)]
    # whole nodes go at once, so a part of the older ones may still be there
    assert await store.length("e") < 400


async def test_trimming_works_on_a_server_that_does_not_know_minid(aio, own, tmp_path):
    fill(own, 1200)
    async with cut_proxy(tmp_path / "p.sock", str(own.socket)) as proxy:
        proxy.rewrite = (b"MINID", b"MINIX")  # Redis 6.0 answers a syntax error, as to this
        store = JournalStore(f"unix://{tmp_path}/p.sock")
        await store.trim("e", "1100-0")
        assert await store.length("e") == 101
        await store.trim("e", "0-0")
        assert await store.length("e") == 101
        assert await store.last_position("e") == "1200-0"


async def test_url_means_one_database_to_reader_and_writer(aio, own):
    url = f"unix://{own.socket}?db=3"
    writer, done = JournalWriter(parse(url), epoch="e", ttl_s=60), trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        with trio.fail_after(10):
            while not writer.available:
                await trio.sleep(0.005)
            writer.append("k", b"entry", lambda _entry_id: done.set())
            await done.wait()
        nursery.cancel_scope.cancel()
    store = JournalStore(url)
    assert [entry for _, entry in await store.read_after("e", "0-0")] == [b"entry"]
    assert await store.epoch() == "e"


async def test_kill_records_keep_the_newest_and_of_two_equals_the_one_that_blocks(aio, own):
    store = JournalStore(own.url)

    def record(version, state, scope="global"):
        at = datetime(2026, 11, 23, tzinfo=UTC)
        return KillRecord(scope=scope, version=version, state=state, reason='}" é', actor="a", at=at)

    assert await store.kill_records() == []
    blocked, armed = KillState.BLOCKED, KillState.ARMED
    for version, state in ((5, armed), (5, blocked), (5, armed), (4, armed)):
        await store.put_kill(record(version, state))
    await store.put_kill(record(1, armed, scope="user:1"))
    held = {kept.scope: kept for kept in await store.kill_records()}
    assert held == {"global": record(5, blocked), "user:1": record(1, armed, scope="user:1")}
    await store.put_kill(record(6, armed))
    assert record(6, armed) in await store.kill_records()
    assert await JournalStore(own.url, deployment="other").kill_records() == []
