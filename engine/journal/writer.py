"""The journal's writer: durable appends to a Valkey stream with natural group commit.

Owns one connection. While one pipeline is in flight the next batch gathers; no timers. An append is
a server-side script, so that the check for a repeat and the append are one step. A batch that is not
answered within its deadline fails every append in it: the ledger is then what makes them durable.
The script also looks at the journal's name: a server that was wiped takes no entry until it bears the
name again, and one that bears another's takes none at all. Idle, the name is read every second.
After a wipe its user is told, who has what only the journal held and appends it again, in its old order.
Mailbox: bounded by ingest, which takes in no more deliveries than its own bound. Restart: permanent.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns
from typing import Any

import hiredis
import structlog
import trio

from engine.errors import JournalUnavailable
from engine.journal import keys
from engine.journal.address import Address, connect
from engine.observability.measures import JOURNAL_APPEND, JOURNAL_BATCH
from engine.runtime.beat import next_beat
from engine.runtime.crashpoint import crashpoint

_log = structlog.get_logger(__name__)

_BATCH = 64
_BATCH_BYTES = 256 * 1024
_TIMEOUT_S = 0.15
_CONNECT_TIMEOUT_S = 2.0
_RETRY_S = 0.2
_LOOK_S = 1.0

_APPEND = b"""
if redis.call('GET', KEYS[3]) ~= ARGV[3] then return redis.error_reply('WIPED the journal lost its name') end
local id = redis.call('GET', KEYS[1])
if id then return {id, 1} end
id = redis.call('XADD', KEYS[2], '*', 'e', ARGV[2])
redis.call('SET', KEYS[1], id, 'EX', ARGV[1])
return {id, 0}
"""

# an empty stream whose positions go on from where they were, whatever the server's clock says now
_GO_ON = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('XADD', KEYS[1], ARGV[1], 'e', '')
return redis.call('XDEL', KEYS[1], ARGV[1])
"""

Done = Callable[[str | None], None]


class Pending:
    """One append: ``done`` is called with the entry's id, or None when it is not durable."""

    __slots__ = ("dedupe", "done", "entry")

    def __init__(self, dedupe: bytes, entry: bytes, done: Done) -> None:
        self.dedupe = dedupe
        self.entry = entry
        self.done = done


def _tell(pending: Pending, entry_id: str | None) -> None:
    try:
        pending.done(entry_id)
    except Exception:  # a fault of one waiter must not keep the others of the batch waiting
        _log.exception("journal.callback_failed")


class JournalWriter:
    """Appends entries to the stream of one journal epoch."""

    def __init__(self, address: Address, *, epoch: str, ttl_s: int, fence: int = 0) -> None:
        """Write to the stream of *epoch* for as long as no engine with a later lease than *fence* claims it."""
        self._address = address
        self._epoch = (keys.name(epoch, fence) if fence else epoch).encode()
        self._stream_key = keys.stream(epoch).encode()
        self._dedupe_prefix = keys.seen(epoch).encode()
        self._ttl = str(ttl_s).encode()
        self._queue: deque[Pending] = deque()
        self._wake = trio.Event()
        self._connection: trio.abc.Stream | None = None
        self._reader: Any = None
        self._script = b""
        self._newest = b""
        self.on_wiped: Callable[[], object] = lambda: None
        self.available = False
        self.appended = 0
        self.failed = 0
        self.wiped = 0

    @property
    def depth(self) -> int:
        """Appends that wait."""
        return len(self._queue)

    def append(self, dedupe_key: str, entry: bytes, done: Done) -> None:
        """Queue one entry; *done* is called without waiting, at once when the journal is down."""
        if not self.available:
            self.failed += 1
            done(None)
            return
        self._queue.append(Pending(self._dedupe_prefix + dedupe_key.encode(), entry, done))
        self._wake.set()

    def append_first(self, entries: Sequence[tuple[str, bytes, Done]]) -> None:
        """Queue *entries*, each (dedupe key, entry, done), before everything that waits."""
        if not self.available:
            for _, _, done in entries:
                self.failed += 1
                done(None)
            return
        self._queue.extendleft(
            Pending(self._dedupe_prefix + key.encode(), entry, done) for key, entry, done in reversed(entries)
        )
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; while the server is away, try it again every 200 ms."""
        task_status.started()
        try:
            while True:
                try:
                    await self._connect()
                    await self._write_batches()
                except JournalUnavailable as error:
                    if self.available:
                        _log.warning("journal.unavailable", error=str(error))
                    self._fail_all()
                    await self._close()
                    await trio.sleep(_RETRY_S)
        finally:
            self._fail_all()
            with trio.move_on_after(1, shield=True):
                await self._close()

    def _fail_all(self) -> None:
        self.available = False
        waiting, self._queue = self._queue, deque()
        self._fail(waiting)

    def _fail(self, batch: Iterable[Pending]) -> None:
        for pending in batch:
            self.failed += 1
            _tell(pending, None)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await trio.aclose_forcefully(connection)

    async def _connect(self) -> None:
        address = self._address
        try:
            with trio.fail_after(_CONNECT_TIMEOUT_S):
                self._connection = await connect(address)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
            raise JournalUnavailable(f"cannot connect: {exc or type(exc).__name__}") from exc
        self._reader = hiredis.Reader()
        hello: list[tuple[Any, ...]] = []
        if address.password is not None:
            user = (address.username,) if address.username else ()
            hello.append(("AUTH", *user, address.password))
        if address.database:
            hello.append(("SELECT", str(address.database)))
        hello.append(("SET", keys.PROBE, "1", "EX", "60"))
        hello.append(("SCRIPT", "LOAD", _APPEND))
        replies = await self._ask(hello, timeout_s=_CONNECT_TIMEOUT_S)
        self._script = replies[-1]
        was_wiped = await self._name(timeout_s=_CONNECT_TIMEOUT_S)
        self.available = True
        if was_wiped:
            self._tell_wiped()

    def _tell_wiped(self) -> None:
        try:
            self.on_wiped()
        except Exception:  # a fault of its user must not keep the journal down
            _log.exception("journal.callback_failed")

    async def _name(self, *, timeout_s: float) -> bool:
        """Make sure that the server bears this journal's name; return whether it had to be given anew.

        One without a name was wiped under a living engine: what it held and the ledger does not yet is
        still in this process, so the journal goes on, empty. Raises JournalUnavailable for another's name.
        """
        (name,) = await self._ask([("GET", keys.EPOCH)], timeout_s=timeout_s)
        was_wiped = name is None
        if was_wiped:
            self.wiped += 1
            _log.error("journal.wiped", epoch=self._epoch.decode())
            (_, name) = await self._ask(
                [("SET", keys.EPOCH, self._epoch, "NX"), ("GET", keys.EPOCH)], timeout_s=timeout_s
            )
        if name is not None and keys.is_superseded(name.decode(), by=self._epoch.decode()):
            # it was wiped, and an engine that leads no more was the first to name it
            await self._ask([("SET", keys.EPOCH, self._epoch)], timeout_s=timeout_s)
            name = self._epoch
        if name != self._epoch:
            raise JournalUnavailable("the server holds the journal of another engine")
        if was_wiped and self._newest:
            await self._ask([("EVAL", _GO_ON, "1", self._stream_key, self._newest)], timeout_s=timeout_s)
        return was_wiped

    async def _ask(self, commands: Sequence[tuple[Any, ...]], *, timeout_s: float) -> list[Any]:
        replies = await self._call(commands, timeout_s=timeout_s)
        for reply in replies:
            if isinstance(reply, Exception):
                raise JournalUnavailable(str(reply))
        return replies

    async def _wait_for_work(self) -> None:
        while not self._queue:
            self._wake = trio.Event()
            with trio.move_on_at(next_beat(_LOOK_S)) as scope:
                await self._wake.wait()
            # a server that died or hangs is noticed without anybody having to lose an append to it
            if scope.cancelled_caught and await self._name(timeout_s=_TIMEOUT_S):
                self._tell_wiped()

    async def _write_batches(self) -> None:
        while True:
            await self._wait_for_work()
            batch: list[Pending] = []
            size = 0
            while self._queue and len(batch) < _BATCH and size < _BATCH_BYTES:
                pending = self._queue.popleft()
                size += len(pending.entry)
                batch.append(pending)
            crashpoint("S2.before_append")
            began_ns = perf_counter_ns()
            try:
                replies = await self._call(
                    [
                        (
                            *("EVALSHA", self._script, "3", p.dedupe, self._stream_key, keys.EPOCH),
                            *(self._ttl, p.entry, self._epoch),
                        )
                        for p in batch
                    ],
                    timeout_s=_TIMEOUT_S,
                )
            except BaseException:
                # also on cancellation: whoever waits must not wait for an answer that will not come
                self.available = False
                self._fail(batch)
                raise
            JOURNAL_APPEND.observe_ns(perf_counter_ns() - began_ns)
            JOURNAL_BATCH.observe_ns(len(batch))
            crashpoint("S2.after_append")
            for pending, reply in zip(batch, replies, strict=True):
                if isinstance(reply, list) and len(reply) == 2:
                    self.appended += 1
                    if not reply[1]:
                        self._newest = reply[0]
                    _tell(pending, reply[0].decode())
                else:
                    self._fail([pending])
            for reply in replies:
                if isinstance(reply, Exception):
                    raise JournalUnavailable(str(reply))

    async def _call(self, commands: Sequence[tuple[Any, ...]], *, timeout_s: float) -> list[Any]:
        connection = self._connection
        assert connection is not None  # noqa: S101 -- narrows the type
        replies: list[Any] = []
        try:
            with trio.fail_after(timeout_s):
                await connection.send_all(b"".join([hiredis.pack_command(command) for command in commands]))
                crashpoint("S2.append_written")
                while len(replies) < len(commands):
                    received = await connection.receive_some(65536)
                    if not received:
                        raise JournalUnavailable("the server closed the connection")
                    self._reader.feed(received)
                    while (reply := self._reader.gets()) is not False:
                        replies.append(reply)
        except trio.TooSlowError as exc:
            raise JournalUnavailable(f"no answer within {timeout_s} s") from exc
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, hiredis.HiredisError) as exc:
            raise JournalUnavailable(f"the connection broke: {exc or type(exc).__name__}") from exc
        return replies
