"""The journal's writer against real Valkeys: group commit, dedupe, and every way a server can be away."""

import itertools
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import trio
import trio.testing

from engine.journal import keys
from engine.journal.address import parse
from engine.journal.writer import JournalWriter
from tests.support.cut_proxy import cut_proxy
from tests.support.valkey import OwnValkey

_numbers = itertools.count()


@asynccontextmanager
async def writing(url, epoch=None, *, wait=True):
    writer = JournalWriter(parse(url), epoch=epoch or str(uuid4()), ttl_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        if wait:
            await available(writer)
        yield writer
        nursery.cancel_scope.cancel()


async def available(writer, wanted=True):
    with trio.fail_after(10):
        while writer.available is not wanted:
            await trio.sleep(0.005)


class Append:
    """One append and its answer."""

    def __init__(self, writer, key=None, entry=b"entry"):
        self.answers = []
        self.ended = trio.Event()
        writer.append(key or f"key-{next(_numbers)}", entry, self._done)

    def _done(self, entry_id):
        self.answers.append(entry_id)
        self.ended.set()

    async def answer(self, within_s=10.0):
        with trio.fail_after(within_s):
            await self.ended.wait()
        assert len(self.answers) == 1
        return self.answers[0]


@pytest.fixture
def own(tmp_path):
    with OwnValkey(tmp_path) as server:
        yield server


def entries(server, writer_epoch):
    with server.client() as client:
        return client.xrange(keys.stream(writer_epoch))


async def test_appends_are_answered_with_rising_ids_and_stand_in_the_stream(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as writer:
        appends = [Append(writer, entry=b"%d" % n) for n in range(200)]
        ids = [await append.answer() for append in appends]
    assert [(row_id.decode(), fields[b"e"]) for row_id, fields in entries(own, epoch)] == [
        (entry_id, b"%d" % n) for n, entry_id in enumerate(ids)
    ]
    assert [keys.order_of(i) for i in ids] == sorted({keys.order_of(i) for i in ids})
    assert (writer.appended, writer.failed) == (200, 0)


async def test_what_waits_goes_in_few_pipelines(own):
    async with writing(own.url) as writer:
        calls, real = [], writer._call

        async def counted(commands, **options):
            calls.append(len(commands))
            return await real(commands, **options)

        writer._call = counted
        for append in [Append(writer) for _ in range(192)]:
            assert await append.answer() is not None
    assert calls == [64] * 3


async def test_repeated_key_is_answered_with_the_first_entry(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as writer:
        same = [Append(writer, "same") for _ in range(50)]
        ids = {await append.answer() for append in same}
        later = await Append(writer, "same", b"other").answer()
    assert ids == {later}
    assert len(entries(own, epoch)) == 1
    with own.client() as client:
        assert 0 < client.ttl(keys.seen(epoch) + "same") <= 60


async def test_two_writers_of_one_key_make_one_entry(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as one, writing(own.url, epoch) as other:
        appends = [Append(writer, f"k{n}") for n in range(100) for writer in (one, other)]
        for append in appends:
            assert await append.answer() is not None
    assert len(entries(own, epoch)) == 100


async def test_frozen_server_fails_appends_at_once_and_is_used_again(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as writer:
        await Append(writer).answer()
        own.freeze()
        try:
            frozen = [Append(writer, f"frozen-{n}") for n in range(100)]
            # 150 ms for the batch in flight; what waits behind it fails with it
            assert {await append.answer(within_s=5) for append in frozen} == {None}
            assert await Append(writer).answer(0.1) is None
        finally:
            own.thaw()
        await available(writer)
        again = [await Append(writer, f"frozen-{n}").answer() for n in range(100)]
    assert len(set(again)) == 100
    # what the server took without its answer being heard is the same entry at the second try
    assert len(entries(own, epoch)) == 101


async def test_frozen_idle_server_is_noticed_without_an_append(own):
    async with writing(own.url) as writer:
        own.freeze()
        try:
            await available(writer, False)
        finally:
            own.thaw()
        await available(writer)
    assert (writer.appended, writer.failed) == (0, 0)


async def test_killed_server_keeps_what_was_answered(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as writer:
        kept = [await Append(writer, f"k{n}").answer() for n in range(20)]
        under_way = [Append(writer, f"u{n}") for n in range(64)]
        own.kill()
        answers = [await append.answer() for append in under_way]
        await available(writer, False)
        own.start()
        await available(writer)
        found = {row_id.decode() for row_id, _ in entries(own, epoch)}
        assert set(kept) | {answer for answer in answers if answer} <= found
        assert await Append(writer, "k3").answer() == kept[3]


async def test_server_that_starts_late_is_found(tmp_path):
    server = OwnValkey(tmp_path)
    async with writing(server.url, wait=False) as writer:
        assert await Append(writer).answer() is None
        with server:
            await available(writer)
            assert await Append(writer).answer() is not None


@pytest.mark.parametrize(
    "fault",
    [
        ("CONFIG", "SET", "maxmemory", "1"),  # OOM
        ("REPLICAOF", "127.0.0.1", "1"),  # READONLY
        ("CONFIG", "SET", "min-replicas-to-write", "3"),  # NOREPLICAS
        ("CONFIG", "SET", "requirepass", "secret"),  # NOAUTH
    ],
)
async def test_server_that_answers_errors_counts_as_down_until_it_writes_again(own, fault):
    mend = {"maxmemory": "0", "min-replicas-to-write": "0", "requirepass": ""}
    async with writing(own.url) as writer:
        with own.client() as client:
            client.ping()
            client.execute_command(*fault)
            if "requirepass" in fault:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert await Append(writer).answer() is None
            await available(writer, False)
            # not used again before it can be written to
            await trio.sleep(0.5)
            assert not writer.available
            if fault[0] == "CONFIG":
                client.execute_command("CONFIG", "SET", fault[2], mend[fault[2]])
            else:
                client.execute_command("REPLICAOF", "NO", "ONE")
        await available(writer)
        assert await Append(writer).answer() is not None


@pytest.mark.parametrize("error", ["LOADING server is loading", "MISCONF errors writing to the AOF", "BUSY a script"])
async def test_server_that_is_not_ready_counts_as_down(own, tmp_path, error):
    sick = True

    async def answer(stream):
        """Answer every command with the error, then (once well) be the real server."""
        async with stream, await trio.open_unix_socket(str(own.socket)) as server:
            async for data in stream:
                if sick:
                    await stream.send_all(b"-%s\r\n" % error.encode() * (1 + data.count(b"\r\n*")))
                else:
                    await server.send_all(data)
                    await stream.send_all(await server.receive_some(65536))

    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "sick.sock"))
    listener.listen(8)
    async with trio.open_nursery() as nursery:
        serving = trio.SocketListener(listener)
        nursery.start_soon(trio.serve_listeners, answer, [serving])
        async with writing(f"unix://{tmp_path}/sick.sock", wait=False) as writer:
            await trio.sleep(0.3)
            assert not writer.available
            assert await Append(writer).answer() is None
            sick = False
            await available(writer)
            assert await Append(writer).answer() is not None
        nursery.cancel_scope.cancel()


async def test_wrong_password_is_down_and_the_right_one_works(tmp_path):
    with OwnValkey(tmp_path, requirepass="right") as server:
        async with writing(f"unix://:wrong@{server.socket}", wait=False) as writer:
            await trio.sleep(0.1)
            assert not writer.available
        async with writing(f"unix://:right@{server.socket}") as writer:
            assert await Append(writer).answer() is not None


async def test_flushed_script_cache_is_mended(own):
    async with writing(own.url) as writer:
        with own.client() as client:
            client.script_flush()
        await Append(writer).answer()
        await available(writer)
        assert await Append(writer).answer() is not None


@asynccontextmanager
async def through_proxy(server, folder, epoch):
    path = folder / "p.sock"
    async with cut_proxy(path, str(server.socket)) as proxy, writing(f"unix://{path}", epoch) as writer:
        yield writer, proxy


async def test_answer_after_the_timeout_is_never_taken_for_another(own, tmp_path):
    epoch = str(uuid4())
    async with through_proxy(own, tmp_path, epoch) as (writer, proxy):
        for round_number in range(3):
            proxy.stall()
            late = [Append(writer, f"late-{round_number}-{n}") for n in range(10)]
            assert {await append.answer() for append in late} == {None}
            proxy.flow()
            await available(writer)
            ids = {f"n-{round_number}-{n}": Append(writer, f"n-{round_number}-{n}") for n in range(10)}
            with own.client() as client:
                for key, append in ids.items():
                    found = await append.answer()
                    assert client.get(keys.seen(epoch) + key) == found.encode()


async def test_reply_that_is_lost_fails_the_append_and_the_repeat_finds_its_entry(own, tmp_path):
    epoch = str(uuid4())
    async with through_proxy(own, tmp_path, epoch) as (writer, proxy):
        proxy.lose_reply_to = b"precious"
        assert await Append(writer, "precious").answer() is None
        await available(writer)
        assert await Append(writer, "precious").answer() is not None
    assert len(entries(own, epoch)) == 1


async def test_wiped_server_takes_no_entry_before_it_bears_the_name_again(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as writer:
        await Append(writer).answer()
        assert writer.wiped == 1  # this test named it nowhere
        with own.client() as client:
            client.flushall()
        assert await Append(writer, "after").answer() is None
        await available(writer)
        assert writer.wiped == 2
        assert await Append(writer, "after").answer() is not None
        with own.client() as client:
            assert client.get(keys.EPOCH) == epoch.encode()


async def test_wipe_is_told_when_the_server_can_be_written_to_and_positions_go_on(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as writer:
        before = await Append(writer).answer()
        ahead = f"{keys.order_of(before)[0] + 3_600_000}-0"
        with own.client() as client:
            # a server whose clock was an hour ahead when it gave out its last position
            client.xadd(keys.stream(epoch), {"e": "x"}, id=ahead)
            newest = await Append(writer).answer()
            again = []
            told = []

            def on_wiped():
                told.append(writer.available)
                entries = [(f"lost-{n}", b"lost-%d" % n, again.append) for n in range(3)]
                writer.append_first(entries)

            writer.on_wiped = on_wiped
            client.flushall()
            waiting = Append(writer, entry=b"later")
            await waiting.ended.wait()
            with trio.fail_after(5):
                while len(again) < 3:
                    await trio.sleep(0.005)
            last = await Append(writer, entry=b"last").answer()
    assert told == [True]
    positions = [keys.order_of(position) for position in (newest, *again, last)]
    assert positions == sorted(set(positions))
    kept = [fields[b"e"] for _, fields in entries(own, epoch)]
    assert [e for e in kept if e.startswith(b"lost")] == [b"lost-0", b"lost-1", b"lost-2"]
    assert kept[-1] == b"last"


async def test_lost_name_over_a_stream_that_is_still_there_loses_no_entry(own):
    epoch = str(uuid4())
    async with writing(own.url, epoch) as writer:
        ids = [await Append(writer).answer() for _ in range(3)]
        with own.client() as client:
            client.delete(keys.EPOCH)
        with trio.fail_after(5):
            while writer.wiped < 2:
                await trio.sleep(0.01)
        await available(writer)
        await Append(writer).answer()
    assert [row_id.decode() for row_id, _ in entries(own, epoch)][:3] == ids


async def test_entries_put_first_while_the_server_is_away_are_answered_at_once(tmp_path):
    async with writing(OwnValkey(tmp_path).url, wait=False) as writer:
        answers = []
        writer.append_first([("k", b"e", answers.append)])
        assert (answers, writer.failed) == ([None], 1)


async def test_half_open_connection_fails_appends_within_the_deadline(own, tmp_path):
    async with through_proxy(own, tmp_path, str(uuid4())) as (writer, proxy):
        proxy.stall()
        assert await Append(writer).answer(within_s=5) is None
        assert not writer.available
        # nothing waits for the server after that
        assert Append(writer).answers == [None]
        proxy.flow()
        await available(writer)


async def test_wiped_idle_server_is_noticed(own):
    async with writing(own.url) as writer:
        with own.client() as client:
            client.flushall()
        with trio.fail_after(5):
            while writer.wiped < 2:
                await trio.sleep(0.01)


async def test_journal_of_another_engine_takes_nothing(own):
    async with writing(own.url) as writer:
        with own.client() as client:
            client.set(keys.EPOCH, "another")
        assert await Append(writer).answer() is None
        await available(writer, False)
        await trio.sleep(0.5)
        assert not writer.available
        with own.client() as client:
            assert client.get(keys.EPOCH) == b"another"


async def test_stopping_fails_what_waits(own):
    async with writing(own.url) as writer:
        own.freeze()
        appends = [Append(writer) for _ in range(200)]
        await trio.testing.wait_all_tasks_blocked()
    own.thaw()
    assert [append.answers for append in appends] == [[None]] * 200


async def test_waiter_that_raises_keeps_no_other_waiting(own):
    async with writing(own.url) as writer:

        def broken(_entry_id):
            raise RuntimeError("bug in a callback")

        writer.append("broken", b"e", broken)
        assert await Append(writer).answer() is not None
        assert writer.available


async def test_tcp_server_is_written_to(tmp_path, own):
    with own.client() as client:
        client.execute_command("CONFIG", "SET", "port", "0")
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(4)
    port = listener.getsockname()[1]

    async def pump(source, target):
        async for data in source:
            await target.send_all(data)

    async def serve():
        client, _ = await listener.accept()
        server = await trio.open_unix_socket(str(own.socket))
        async with server, trio.SocketStream(client) as stream, trio.open_nursery() as pumps:
            pumps.start_soon(pump, stream, server)
            pumps.start_soon(pump, server, stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with writing(f"redis://127.0.0.1:{port}/2") as writer:
            assert await Append(writer).answer() is not None
        nursery.cancel_scope.cancel()
    listener.close()
    with own.client(db=2) as client:
        assert client.exists(keys.EPOCH)
