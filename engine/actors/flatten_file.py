"""``state/flatten.wal``: exits written ahead where the ledger cannot take them: JSON lines with check sums, fsynced.

An order that is in it may be at the broker. At the next start whatever of it the ledger does not have yet is put
there before any account is opened, so that it is looked for like every other order of unknown outcome. A command
that flattens without an engine writes it too. All calls block; use a thread.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from engine.domain.order import Order
from engine.runtime.durable import checked_body, checked_line, sync_folder

_log = structlog.get_logger(__name__)


class FlattenFile:
    """Append and read the orders of one data directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, order: Order) -> None:
        """Write one order ahead and return when it is on disk. Raises OSError; nothing may be sent then."""
        line = checked_line(msgspec.json.encode(order))
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # what a crash cut short was never sent; this line must not run into it
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise OSError("the file took only a part of an order: is the disk full?")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self._path.parent)

    def read(self) -> Sequence[Order]:
        """Return the orders in it, as they were written ahead; what is damaged is left out. Raises OSError."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        orders: dict[object, Order] = {}
        for number, line in enumerate(content.split(b"\n"), 1):
            body = checked_body(line)
            try:
                if body is None:
                    raise msgspec.DecodeError("the check sum does not fit")
                order = msgspec.json.decode(body, type=Order)
            except msgspec.MsgspecError as error:
                if line:
                    _log.error("flatten_file.damaged", line=number, error=str(error))
                continue
            orders[order.id] = order
        return tuple(orders.values())

    def clear(self) -> None:
        """Forget them: the ledger has them all. Raises OSError."""
        if self._path.exists():
            self._path.unlink()
            sync_folder(self._path.parent)
