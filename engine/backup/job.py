"""A backup as a child of the engine: low priority, a deadline, bounded output, and an end with the engine's.

What the child needs of the engine, its keys among it, goes through a pipe: never through its arguments or environment.
"""

import os
import signal
from pathlib import Path

import msgspec
import trio

from engine.backup.checking import check
from engine.backup.making import Source, make_backup
from engine.clock import Clock
from engine.embedded.process import spawn
from engine.errors import EngineError, StartupError
from engine.runtime.asyncio_bridge import open_aio
from engine.runtime.own_program import engine_command
from engine.security.sealed_file import FileKey

COMMAND = "backup-job"
DEADLINE_S = 3600.0
_NICENESS = 10
_MOST_BYTES = 65_536
_STOP = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked to do."""

    target: str
    source: Source

    def __repr__(self) -> str:
        return f"Order({self.target}, ***)"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a backup: ``why`` is empty when it is whole and was read back; ``size`` is bytes of the file."""

    why: str = ""
    size: int = 0
    rows: int = 0
    audit_records: int = 0


async def run_backup(target: Path, source: Source) -> Done:
    """Make a backup at *target* in a child and return what came of it; never raises for one that failed."""
    order = _encode(Order(target=str(target), source=source))
    reading, writing = os.pipe2(os.O_CLOEXEC)
    asked, asking = os.pipe2(os.O_CLOEXEC)
    stream, questions = trio.lowlevel.FdStream(reading), trio.lowlevel.FdStream(asking)
    try:
        with os.fdopen(writing, "wb", buffering=0) as log, os.fdopen(asked, "rb", buffering=0) as stdin:
            process = spawn(
                engine_command((COMMAND,), niceness=_NICENESS),
                user=None,
                reads=(),
                death_signal=signal.SIGTERM,
                log=log,
                stdin=stdin,
            )
    except StartupError as error:
        await stream.aclose()
        await questions.aclose()
        return Done(why=str(error))
    try:
        with trio.move_on_after(DEADLINE_S):
            try:
                async with questions:
                    await questions.send_all(order)
            except trio.BrokenResourceError:
                pass  # it ended before it had read: its last words say why
            said = await _read(stream)
            await process.wait()
            return _end(said)
        return Done(why=f"it took longer than {DEADLINE_S / 60:.0f} minutes")
    finally:
        # bounded by its steps
        with trio.CancelScope(shield=True):
            if process.exit_code() is None:
                await process.stop(_STOP)
            await stream.aclose()
            await questions.aclose()
        process.close()


async def _read(stream: trio.lowlevel.FdStream) -> bytes:
    said = bytearray()
    while octets := await stream.receive_some(16_384):
        said += octets
        del said[:-_MOST_BYTES]
    return bytes(said)


def _end(said: bytes) -> Done:
    last = said.strip().rpartition(b"\n")[2]
    try:
        return msgspec.json.decode(last, type=Done)
    except msgspec.MsgspecError:
        return Done(why=last.decode("utf-8", "replace")[:500] or "it ended without a word")


def serve(asked: bytes, clock: Clock) -> bytes:
    """Do what the engine asks for with *asked*, in the child; return the one line that it prints."""
    order = msgspec.json.decode(asked, type=Order, dec_hook=_path)
    target = Path(order.target)
    key = FileKey(masters=(order.source.master,), root_sealed=order.source.root_sealed)

    async def work() -> None:
        async with open_aio(lambda _report: None):
            await make_backup(
                target, order.source, key, with_keys=False, clock=clock, progress=lambda _what, _done, _of: None
            )

    try:
        trio.run(work)
        checked = check(target, key)
    except (EngineError, OSError) as error:
        return _encode(Done(why=" ".join(str(error).split())))
    manifest = checked.manifest
    return _encode(Done(size=target.stat().st_size, rows=manifest.rows, audit_records=manifest.audit_records))


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value, enc_hook=str)


def _path(type_: type, value: object) -> object:
    if type_ is Path:
        return Path(str(value))
    raise NotImplementedError
